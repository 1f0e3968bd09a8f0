//! Units with types: joule, watt, watt-hour and gram of CO2 equivalent, so that no sum mixes two of them.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Joules in a watt-hour.
const JOULES_PER_WATT_HOUR: f64 = 3600.0;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0.0);

            /// The larger of two amounts.
            pub fn max(self, other: Self) -> Self {
                Self(self.0.max(other.0))
            }

            /// The smaller of two amounts.
            pub fn min(self, other: Self) -> Self {
                Self(self.0.min(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;

            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;

            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }

        impl Div<f64> for $name {
            type Output = Self;

            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, Add::add)
            }
        }
    };
}

unit! {
    /// Energy in joules.
    Joule
}
unit! {
    /// Power in watts.
    Watt
}
unit! {
    /// Energy in watt-hours.
    WattHour
}
unit! {
    /// A mass of greenhouse gases in grams of CO2 equivalent.
    GramCo2e
}

impl Watt {
    /// The energy of this power over a time in seconds.
    pub fn over(self, seconds: f64) -> Joule {
        Joule(self.0 * seconds)
    }
}

impl Joule {
    /// The same energy in watt-hours.
    pub fn watt_hours(self) -> WattHour {
        WattHour(self.0 / JOULES_PER_WATT_HOUR)
    }

    /// The mean power over a time in seconds.
    pub fn mean_power(self, seconds: f64) -> Watt {
        Watt(self.0 / seconds)
    }

    /// An amount of energy with its unit, such as `0.05kWh`; the unit is required, because a bare number is read differently by different
    /// people.
    ///
    /// ```
    /// use taal_metrics::energy::Joule;
    /// assert_eq!(Joule::parse("0.05kWh")?, Joule(180_000.0));
    /// assert!(Joule::parse("0.05").is_err());
    /// # Ok::<(), taal_metrics::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadQuantity`] without a unit, with an unknown one, or for a number that is not above 0.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |detail: &str| Error::BadQuantity {
            text: text.to_owned(),
            detail: detail.to_owned(),
        };
        let (number, unit) = split_unit(text);
        let joules_per_unit = match unit {
            "J" => 1.0,
            "kJ" => 1e3,
            "MJ" => 1e6,
            "mWh" => JOULES_PER_WATT_HOUR / 1e3,
            "Wh" => JOULES_PER_WATT_HOUR,
            "kWh" => JOULES_PER_WATT_HOUR * 1e3,
            "MWh" => JOULES_PER_WATT_HOUR * 1e6,
            "" => return Err(bad("the unit is missing; write it after the number, as in 0.05kWh")),
            _ => return Err(bad("unknown unit; expected J, kJ, MJ, mWh, Wh, kWh or MWh")),
        };
        let number: f64 = number
            .parse()
            .map_err(|_| bad("expected a number and a unit, as in 0.05kWh"))?;
        match number.is_finite() && number > 0.0 {
            true => Ok(Self(number * joules_per_unit)),
            false => Err(bad("expected an amount above 0")),
        }
    }
}

impl WattHour {
    /// The same energy in joules.
    pub fn joules(self) -> Joule {
        Joule(self.0 * JOULES_PER_WATT_HOUR)
    }

    /// The number of kilowatt-hours.
    pub fn kwh(self) -> f64 {
        self.0 / 1e3
    }
}

/// Where the unit begins: after the last digit or point, so that the `e` of `1e3` stays with the number.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.rfind(|character: char| character.is_ascii_digit() || character == '.');
    let (number, unit) = text.split_at(end.map_or(0, |at| at + 1));
    (number.trim(), unit.trim())
}

impl fmt::Display for Joule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[
                (1e9, "GJ"),
                (1e6, "MJ"),
                (1e3, "kJ"),
                (1.0, "J"),
                (1e-3, "mJ"),
                (1e-6, "µJ"),
            ],
        )
    }
}

impl fmt::Display for Watt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &[(1e6, "MW"), (1e3, "kW"), (1.0, "W"), (1e-3, "mW")])
    }
}

impl fmt::Display for WattHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[
                (1e6, "MWh"),
                (1e3, "kWh"),
                (1.0, "Wh"),
                (1e-3, "mWh"),
                (1e-6, "µWh"),
                (1e-9, "nWh"),
            ],
        )
    }
}

impl fmt::Display for GramCo2e {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[
                (1e6, "t"),
                (1e3, "kg"),
                (1.0, "g"),
                (1e-3, "mg"),
                (1e-6, "µg"),
                (1e-9, "ng"),
            ],
        )
    }
}

/// The number in the largest unit in which it is at least 1, with two decimals; zero is a plain 0 in the base unit.
fn scaled(f: &mut fmt::Formatter<'_>, number: f64, units: &[(f64, &str)]) -> fmt::Result {
    let base = units.iter().find(|(factor, _)| *factor == 1.0).or(units.last());
    // What rounds up to the next unit's 1.00 is written in that unit.
    let fits = |factor: f64| (number.abs() / factor * 100.0).round() >= 100.0;
    let found = units.iter().find(|(factor, _)| fits(*factor));
    match (number == 0.0, found.or(units.last()), base) {
        (true, _, Some((_, name))) => write!(f, "0 {name}"),
        (false, Some((factor, name)), _) => write!(f, "{} {name}", grouped(number / factor)),
        _ => write!(f, "{number}"),
    }
}

/// Two decimals, thousands separated by commas.
fn grouped(number: f64) -> String {
    let text = format!("{:.2}", number.abs());
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, "00"));
    let mut groups = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            groups.push(',');
        }
        groups.push(digit);
    }
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{groups}.{decimals}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_unit_that_fits_them() {
        assert_eq!(WattHour(1_287_060_000.0).to_string(), "1,287.06 MWh");
        assert_eq!(GramCo2e(552_148_740.0).to_string(), "552.15 t");
        assert_eq!(GramCo2e(1.0705).to_string(), "1.07 g");
        assert_eq!(WattHour(0.004).to_string(), "4.00 mWh");
        assert_eq!(Joule(999.999).to_string(), "1.00 kJ");
        // The lower bound of a program that runs for less than a tick is not 0.
        assert_eq!(WattHour(1.5e-9).to_string(), "1.50 nWh");
        assert_eq!(Joule(5.4e-6).to_string(), "5.40 µJ");
        assert_eq!(GramCo2e(7.1e-10).to_string(), "0.71 ng");
        assert_eq!(Joule(0.0).to_string(), "0 J");
        assert_eq!(Watt(12.345).to_string(), "12.35 W");
    }

    #[test]
    fn an_amount_of_energy_needs_its_unit() {
        assert_eq!(Joule::parse("1e3J").unwrap(), Joule(1000.0));
        assert_eq!(Joule::parse(" 2 Wh ").unwrap(), Joule(7200.0));
        for (text, reason) in [
            ("0.05", "unit is missing"),
            ("5 hours", "unknown unit"),
            ("kWh", "expected a number and a unit"),
            ("-1kWh", "above 0"),
            ("0kWh", "above 0"),
            ("1e999kWh", "above 0"),
            ("", "unit is missing"),
        ] {
            let message = Joule::parse(text).unwrap_err().to_string();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
