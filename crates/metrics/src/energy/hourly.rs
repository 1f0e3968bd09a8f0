//! Greenhouse gases of electricity by the hour, from a CSV file.

use std::collections::BTreeMap;
use std::path::Path;

use super::grid::MAX_G_PER_KWH;
use super::units::Joule;
use crate::{Error, Result};

/// Ten years of hours are below it.
const MAX_FILE_BYTES: u64 = 32 << 20;

const SECONDS_PER_HOUR: i64 = 3600;

/// The Line Islands are 14 hours ahead.
const MAX_OFFSET_HOURS: i64 = 14;

/// Grams of CO2 equivalent per kilowatt-hour, by hours since 1970 in UTC.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HourlyGrid {
    by_hour: BTreeMap<i64, f64>,
}

impl HourlyGrid {
    /// Reads a CSV file with a header: the first column is the time that a row begins at (`2026-11-29 14:00`, `2026-11-29T14:00:00Z`; UTC
    /// unless an offset such as `+01:00` follows), and the grams are in the first other column whose name has `carbon intensity`, `co2` or
    /// `g_per_kwh`; one of them that says `life cycle` is preferred, because the table by country is of life cycles. Exports of Electricity
    /// Maps are such files. Rows of one hour are averaged.
    ///
    /// Cells are separated by commas, or by semicolons if the header has one; decimals may then have a comma.
    ///
    /// # Errors
    ///
    /// [`Error::BadGridFile`] naming the line, or as [`taal_store::read_text`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = taal_store::read_text(path, MAX_FILE_BYTES)?;
        let bad = |line: usize, detail: String| Error::BadGridFile {
            path: path.to_path_buf(),
            line: line as u64,
            detail,
        };
        let mut rows = text.trim_start_matches('\u{feff}').lines().enumerate();
        let header = rows.next().map_or("", |(_, header)| header);
        let separator = if fields(header, ';').len() > 1 { ';' } else { ',' };
        let header = fields(header, separator);
        let Some(column) = intensity_column(&header) else {
            let detail = "expected a header with a time and a column such as g_per_kwh";
            return Err(bad(1, detail.to_owned()));
        };
        let mut sums: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
        for (index, row) in rows.filter(|(_, row)| !row.trim().is_empty()) {
            let mut cells = fields(row, separator);
            while cells.len() > header.len() && cells.last().is_some_and(|cell| cell.trim().is_empty()) {
                cells.pop();
            }
            if cells.len() > header.len() {
                let detail = format!(
                    "{} cells below a header of {}; where decimals have a comma, separate cells with semicolons",
                    cells.len(),
                    header.len()
                );
                return Err(bad(index + 1, detail));
            }
            let time = cells.first().map_or("", String::as_str);
            let Some(seconds) = unix_seconds(time) else {
                let time = taal_store::excerpt(time);
                return Err(bad(
                    index + 1,
                    format!("{time} is not a time such as 2026-11-29T14:00Z"),
                ));
            };
            let cell = cells.get(column).map_or("", String::as_str);
            let decimals = match separator {
                ';' => cell.replacen(',', ".", 1),
                _ => cell.to_owned(),
            };
            let grams = decimals
                .trim()
                .parse()
                .ok()
                .filter(|grams| (0.0..=MAX_G_PER_KWH).contains(grams));
            let Some(grams) = grams else {
                let cell = taal_store::excerpt(cell);
                let detail = format!("expected 0 to {MAX_G_PER_KWH} grams of CO2e per kWh, found {cell}");
                return Err(bad(index + 1, detail));
            };
            let (sum, count) = sums.entry(seconds.div_euclid(SECONDS_PER_HOUR)).or_default();
            *sum += grams;
            *count += 1;
        }
        if sums.is_empty() {
            return Err(bad(2, "there are no rows".to_owned()));
        }
        let mean = |(hour, (sum, count)): (i64, (f64, u32))| (hour, sum / f64::from(count));
        Ok(Self {
            by_hour: sums.into_iter().map(mean).collect(),
        })
    }

    /// The mean over all hours of the file.
    pub fn mean(&self) -> f64 {
        self.by_hour.values().sum::<f64>() / self.by_hour.len().max(1) as f64
    }

    /// The year of the last hour.
    pub(super) fn year(&self) -> Option<u16> {
        let (hour, _) = self.by_hour.last_key_value()?;
        let time = super::codecarbon::timestamp((hour * SECONDS_PER_HOUR) as f64);
        time.get(..4)?.parse().ok()
    }

    /// The mean over hours, weighted by their energy, and the share of the energy in hours that the file lacks; those count with the file's
    /// mean.
    pub(super) fn weighted(&self, joules_by_hour: &BTreeMap<i64, Joule>) -> (f64, f64) {
        let (mut all, mut missing, mut grams) = (0.0, 0.0, 0.0);
        for (hour, joules) in joules_by_hour {
            let found = self.by_hour.get(hour);
            all += joules.0;
            missing += if found.is_none() { joules.0 } else { 0.0 };
            grams += joules.0 * found.copied().unwrap_or(self.mean());
        }
        match all > 0.0 {
            true => (grams / all, missing / all),
            false => (self.mean(), 1.0),
        }
    }
}

/// The hour since 1970 in UTC of a time.
pub(super) fn hour_of(unix_s: f64) -> i64 {
    (unix_s as i64).div_euclid(SECONDS_PER_HOUR)
}

/// The column with the grams.
fn intensity_column(header: &[String]) -> Option<usize> {
    let names: Vec<String> = header.iter().map(|name| name.to_lowercase()).collect();
    let is_intensity = |index: &usize| {
        let known = ["carbon intensity", "co2", "g_per_kwh"];
        known.iter().any(|known| names[*index].contains(known))
    };
    let mut found = (1..names.len()).filter(is_intensity);
    let first = found.next()?;
    let is_of_life_cycle = |index: &usize| ["life cycle", "lifecycle"].iter().any(|it| names[*index].contains(it));
    Some(
        std::iter::once(first)
            .chain(found)
            .find(is_of_life_cycle)
            .unwrap_or(first),
    )
}

/// The cells of a row; quotes may enclose one.
fn fields(row: &str, separator: char) -> Vec<String> {
    let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in row.trim_end_matches('\r').chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            other if other == separator && !is_quoted => cells.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    cells.push(cell);
    cells
}

/// Seconds since 1970 of `YYYY-MM-DD HH:MM`, with seconds and an offset if given.
fn unix_seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || date.next().is_some() {
        return None;
    }
    let first = days_since_1970(year, month, day);
    let next_month = match month {
        12 => days_since_1970(year + 1, 1, 1),
        month => days_since_1970(year, month + 1, 1),
    };
    if day < 1 || first >= next_month {
        return None;
    }
    let (clock, offset_s) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], offset_seconds(&time[at..])?),
        None => (time, 0),
    };
    let mut clock = clock.trim().split(':');
    let (hour, minute) = (clock.next()?.parse::<i64>().ok()?, clock.next()?.parse::<i64>().ok()?);
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * SECONDS_PER_HOUR + minute * 60 - offset_s)
}

/// The seconds of `Z`, `+01:00`, `+0100` or `+01`.
fn offset_seconds(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.get(1..)?;
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "00"),
    };
    let number = |text: &str| match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<i64>().ok(),
        false => None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= MAX_OFFSET_HOURS && minutes < 60).then_some(sign * (hours * SECONDS_PER_HOUR + minutes * 60))
}

/// Howard Hinnant's `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(unix_seconds("1970-01-01 00:00"), Some(0));
        assert_eq!(unix_seconds("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(unix_seconds("2026-11-29T11:27+01:00"), Some(1_795_948_020));
        assert_eq!(unix_seconds("2026-11-29T09:57:10-00:30"), Some(1_795_948_020));
        assert_eq!(unix_seconds("2026-11-29T11:27+0100"), Some(1_795_948_020));
        assert_eq!(unix_seconds("2026-11-29 11:27 +01"), Some(1_795_948_020));
        for text in [
            "",
            "2026-11-29",
            "29-11-2026 10:00",
            "2026-13-01 00:00",
            "2026-01-01 24:00",
            "2026-02-29 00:00",
            "2026-02-31 00:00",
            "2026-04-31 00:00",
            "2026-01-01 00:00+99:99",
            "2026-01-01 00:00+-5:00",
            "2026-01-01 00:00+01:60",
            "2026-01-01 00:00+010",
            "2026-01-02-03 00:00",
            "noon",
        ] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn energy_counts_with_the_intensity_of_its_hour() {
        let grid = HourlyGrid {
            by_hour: BTreeMap::from([(10, 100.0), (11, 300.0)]),
        };
        let energy = |pairs: &[(i64, f64)]| pairs.iter().map(|(hour, joules)| (*hour, Joule(*joules))).collect();
        assert_eq!(grid.weighted(&energy(&[(10, 1.0), (11, 3.0)])), (250.0, 0.0));
        assert_eq!(grid.weighted(&energy(&[(10, 1.0), (12, 1.0)])), (150.0, 0.5));
        assert_eq!(grid.weighted(&BTreeMap::new()), (200.0, 1.0));
    }
}
