//! Numbers as a reader of a page expects them.

/// How a language writes numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    /// Before the decimals.
    pub(crate) decimal: char,
    /// Between groups of three digits.
    pub(crate) thousands: char,
    /// What is shown for infinity and not-a-number.
    pub(crate) not_finite: &'static str,
    /// The sign of hours.
    pub(crate) hours: &'static str,
    /// The signs of a million and of a billion (10^9).
    pub(crate) million: &'static str,
    pub(crate) billion: &'static str,
}

impl Numbers {
    /// A number as Rust writes it, with the language's decimal sign.
    pub(crate) fn localized(&self, number: &str) -> String {
        number.replace('.', self.decimal.encode_utf8(&mut [0; 4]))
    }

    /// A number with a fixed number of decimals; words where it is not finite.
    pub(crate) fn decimals(&self, value: f64, n_decimals: usize) -> String {
        if value.is_finite() {
            self.localized(&format!("{value:.n_decimals$}"))
        } else {
            self.not_finite.to_owned()
        }
    }

    /// A share as a percentage with one decimal.
    pub(crate) fn percent(&self, share: f64) -> String {
        match share.is_finite() {
            true => format!("{} %", self.decimals(100.0 * share, 1)),
            false => self.not_finite.to_owned(),
        }
    }

    /// A number with three to four significant digits.
    pub(crate) fn significant(&self, value: f64) -> String {
        match value.abs() {
            size if !size.is_finite() => self.not_finite.to_owned(),
            size if size >= 1e15 => self.localized(&format!("{value:.2e}")),
            // Below 2^53, so the conversion is exact after rounding.
            size if size >= 1000.0 && value > 0.0 => self.grouped(value.round() as u64),
            size if size >= 100.0 => format!("{value:.0}"),
            size if size >= 10.0 => self.decimals(value, 1),
            _ => self.decimals(value, 2),
        }
    }

    /// A whole number with separated thousands.
    pub(crate) fn grouped(&self, number: u64) -> String {
        let digits = number.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(self.thousands);
            }
            text.push(digit);
        }
        text
    }

    /// A large number in thousands, millions or billions.
    pub(crate) fn counted(&self, number: u64) -> String {
        let value = number as f64;
        match number {
            0..10_000 => self.grouped(number),
            10_000..1_000_000 => format!("{:.0} K", value / 1e3),
            1_000_000..1_000_000_000 => format!("{} {}", self.decimals(value / 1e6, 2), self.million),
            _ => format!("{} {}", self.decimals(value / 1e9, 2), self.billion),
        }
    }

    pub(crate) fn bytes(&self, number: u64) -> String {
        const MEBIBYTE: f64 = 1024.0 * 1024.0;
        let mebibytes = number as f64 / MEBIBYTE;
        if mebibytes < 1024.0 {
            format!("{mebibytes:.0} MiB")
        } else {
            format!("{} GiB", self.decimals(mebibytes / 1024.0, 2))
        }
    }

    pub(crate) fn duration(&self, seconds: f64) -> String {
        // Beyond 1e9 seconds (30 years) something is wrong with the number.
        if !(0.0..1e9).contains(&seconds) {
            return self.not_finite.to_owned();
        }
        if seconds < 10.0 {
            return format!("{} s", self.decimals(seconds, 1));
        }
        let whole = seconds.round() as u64;
        match whole {
            0..60 => format!("{whole} s"),
            60..3600 => format!("{} min {} s", whole / 60, whole % 60),
            _ => format!("{} {} {} min", whole / 3600, self.hours, whole % 3600 / 60),
        }
    }

    /// The numbers of an axis, all in one notation: with an exponent where the largest is very small or large, without one otherwise.
    pub(crate) fn axis(&self, (low, high): (f64, f64)) -> AxisNumbers {
        let largest = low.abs().max(high.abs());
        // Three digits more than it takes to tell the ends apart, so that ticks between them differ.
        let span = (high - low).abs().max(1e-12);
        AxisNumbers {
            numbers: *self,
            has_exponent: !(1e-3..1e6).contains(&largest),
            n_decimals: (3.0 - span.log10().floor()).clamp(0.0, 9.0) as usize,
        }
    }
}

/// How the numbers of one axis, or of one column, are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AxisNumbers {
    numbers: Numbers,
    has_exponent: bool,
    n_decimals: usize,
}

impl AxisNumbers {
    /// A number of the axis, without zeros at its end.
    pub(crate) fn text(&self, value: f64) -> String {
        let trimmed = |digits: &str| match digits.contains('.') {
            true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => digits.to_owned(),
        };
        if value.abs() < 1e-12 {
            return "0".to_owned();
        }
        let text = match self.has_exponent {
            true => {
                let text = format!("{value:.2e}");
                match text.split_once('e') {
                    Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits)),
                    None => text,
                }
            }
            false => trimmed(&format!("{value:.*}", self.n_decimals)),
        };
        match text.as_str() {
            "-0" => "0".to_owned(),
            text => self.numbers.localized(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Language;

    fn ticks(ends: (f64, f64), values: &[f64]) -> Vec<String> {
        let axis = Language::English.numbers().axis(ends);
        values.iter().map(|value| axis.text(*value)).collect()
    }

    #[test]
    fn the_numbers_of_an_axis_have_one_notation() {
        assert_eq!(
            ticks((0.0, 0.0104), &[0.0, 0.0025, 5e-3, 0.01]),
            ["0", "0.0025", "0.005", "0.01"]
        );
        assert_eq!(ticks((0.0, 6e-4), &[0.0, 2e-4, 6e-4]), ["0", "2e-4", "6e-4"]);
        assert_eq!(ticks((0.0, 2.5), &[0.1 + 0.2, -1e-16, 2.0]), ["0.3", "0", "2"]);
        assert_eq!(ticks((0.0, 3e7), &[1e7, 3e7]), ["1e7", "3e7"]);
        assert_eq!(ticks((-1.6, 2000.0), &[-1.5, 2000.0]), ["-2", "2000"]);
        assert_eq!(ticks((1.0, 1.0 + 1e-5), &[1.000005]), ["1.000005"]);
    }

    #[test]
    fn each_language_has_its_own_signs() {
        let [english, dutch] = Language::ALL.map(Language::numbers);
        assert_eq!(
            (english.decimals(1234.5, 1), dutch.decimals(1234.5, 1)),
            ("1234.5".to_owned(), "1234,5".to_owned())
        );
        assert_eq!(
            (english.grouped(1_234_567), dutch.grouped(1_234_567)),
            ("1,234,567".to_owned(), "1.234.567".to_owned())
        );
        assert_eq!(
            (english.counted(1_070_000), dutch.counted(1_070_000)),
            ("1.07 M".to_owned(), "1,07 mln".to_owned())
        );
        assert_eq!(
            (english.duration(7300.0), dutch.duration(7300.0)),
            ("2 h 1 min".to_owned(), "2 u 1 min".to_owned())
        );
        assert_eq!(
            (english.percent(f64::NAN), dutch.percent(0.5)),
            ("not finite".to_owned(), "50,0 %".to_owned())
        );
        assert_eq!(dutch.axis((0.0, 0.5)).text(0.25), "0,25");
    }
}
