//! Large numbers for people.

/// A number with three digits and a unit: k, M, G or T.
///
/// ```
/// assert_eq!(taal_metrics::short(1_234_567.0), "1.23 M");
/// assert_eq!(taal_metrics::short(999.0), "999");
/// ```
pub fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e12 => (n / 1e12, " T"),
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let decimals = match value {
        _ if unit.is_empty() => 0,
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 999.0, 1_000.0, 65_536.0, 1_066_112.0, 124_439_808.0, 2e13].map(short);
        assert_eq!(found, ["0", "999", "1.00 k", "65.5 k", "1.07 M", "124 M", "20.0 T"]);
    }
}
