//! Moments as Python's `strftime` writes them, in UTC and English.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment in UTC.
struct Moment {
    /// Since 1970.
    seconds: u64,
    microseconds: u32,
    year: u64,
    /// From 1, as the day.
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    /// From 0, which is Sunday.
    weekday: u64,
    /// From 0.
    day_of_year: u64,
}

impl Moment {
    /// The moment; 1970 for earlier ones.
    fn new(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date_of(days);
        Self {
            seconds,
            microseconds: since.subsec_micros(),
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4) % 7,
            day_of_year: days - days_before(year),
        }
    }

    /// The hour of a clock with twelve.
    fn hour12(&self) -> u64 {
        (self.hour + 11) % 12 + 1
    }

    /// The week of the year, of weeks that begin on this weekday; 0 before the first such day.
    fn week(&self, first_weekday: u64) -> u64 {
        (self.day_of_year + 7 - (self.weekday + 7 - first_weekday) % 7) / 7
    }

    /// The year and the week of ISO 8601, whose first week has the year's first Thursday.
    fn iso_week(&self) -> (u64, u64) {
        let weeks_of = |year: u64| {
            // The weekday of the year's last day.
            let last = |year: u64| (year + year / 4 - year / 100 + year / 400) % 7;
            if last(year) == 4 || last(year - 1) == 3 { 53 } else { 52 }
        };
        let from_monday = (self.weekday + 6) % 7 + 1;
        match (self.day_of_year + 11 - from_monday) / 7 {
            0 => (self.year - 1, weeks_of(self.year - 1)),
            week if week > weeks_of(self.year) => (self.year + 1, 1),
            week => (self.year, week),
        }
    }

    /// The number of a directive, and how it is filled to its width; none where it is no number.
    fn number(&self, directive: char) -> Option<(u64, char, usize)> {
        Some(match directive {
            'C' => (self.year / 100, '0', 2),
            'd' => (self.day, '0', 2),
            'e' => (self.day, ' ', 2),
            'f' => (u64::from(self.microseconds), '0', 6),
            'G' => (self.iso_week().0, '0', 4),
            'g' => (self.iso_week().0 % 100, '0', 2),
            'H' => (self.hour, '0', 2),
            'I' => (self.hour12(), '0', 2),
            'j' => (self.day_of_year + 1, '0', 3),
            'k' => (self.hour, ' ', 2),
            'l' => (self.hour12(), ' ', 2),
            'M' => (self.minute, '0', 2),
            'm' => (self.month, '0', 2),
            'S' => (self.second, '0', 2),
            's' => (self.seconds, '0', 1),
            'U' => (self.week(0), '0', 2),
            'u' => ((self.weekday + 6) % 7 + 1, '0', 1),
            'V' => (self.iso_week().1, '0', 2),
            'W' => (self.week(1), '0', 2),
            'w' => (self.weekday, '0', 1),
            'Y' => (self.year, '0', 4),
            'y' => (self.year % 100, '0', 2),
            _ => return None,
        })
    }

    /// The text of a directive; none where it is not known.
    fn text(&self, directive: char) -> Option<&'static str> {
        let (weekday, month) = (DAYS[self.weekday as usize], MONTHS[self.month as usize - 1]);
        Some(match directive {
            'A' => weekday,
            'a' => &weekday[..3],
            'B' => month,
            'b' | 'h' => &month[..3],
            'P' if self.hour < 12 => "am",
            'P' => "pm",
            'p' if self.hour < 12 => "AM",
            'p' => "PM",
            'n' => "\n",
            't' => "\t",
            'Z' => "UTC",
            'z' => "+0000",
            '%' => "%",
            _ => return None,
        })
    }

    fn write(&self, out: &mut String, format: &str) {
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let Some(mut directive) = characters.next() else {
                out.push('%');
                break;
            };
            // `%-d` is `%d` without what fills it.
            let is_bare = directive == '-';
            if is_bare {
                directive = characters.next().unwrap_or('-');
            }
            if let Some((number, fill, width)) = self.number(directive) {
                let digits = number.to_string();
                if !is_bare {
                    out.extend(std::iter::repeat_n(fill, width.saturating_sub(digits.len())));
                }
                out.push_str(&digits);
            } else if let Some(text) = self.text(directive) {
                out.push_str(text);
            } else if let Some(format) = whole(directive) {
                self.write(out, format);
            } else if directive == ':' && characters.as_str().starts_with('z') {
                characters.next();
                out.push_str("+00:00");
            } else {
                out.extend(['%', directive]);
            }
        }
    }
}

/// The directives that one stands for, in the locale C.
fn whole(directive: char) -> Option<&'static str> {
    Some(match directive {
        'c' => "%a %b %e %H:%M:%S %Y",
        'D' | 'x' => "%m/%d/%y",
        'F' => "%Y-%m-%d",
        'R' => "%H:%M",
        'r' => "%I:%M:%S %p",
        'T' | 'X' => "%H:%M:%S",
        _ => return None,
    })
}

/// A moment by Python's `strftime` with glibc in the locale C, in UTC; a directive that is not known stays as it is.
pub(super) fn strftime(now: SystemTime, format: &str) -> String {
    let mut text = String::with_capacity(format.len());
    Moment::new(now).write(&mut text, format);
    text
}

/// Year, month and day of a day counted from 1970.
fn date_of(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
    }
    (year, 12, 31)
}

fn days_of(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

fn days_before(year: u64) -> u64 {
    (1970..year).map(days_of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// All directives that Python documents, and those that glibc has besides.
    const ALL: &str = "%a|%A|%b|%B|%c|%d|%H|%I|%j|%m|%M|%p|%S|%U|%w|%W|%x|%X|%y|%Y|%Z|%%|%G|%u|%V|%f|%z|%D|%e|%F|%R|%T|%r|%C|%g|%h|\
                       %n|%t|%k|%l|%P|%s";

    fn at(seconds: u64, microseconds: u64, format: &str) -> String {
        let since = Duration::from_secs(seconds) + Duration::from_micros(microseconds);
        strftime(UNIX_EPOCH + since, format)
    }

    /// datetime.fromtimestamp(..., timezone.utc).strftime(...)
    #[test]
    fn dates_are_those_of_python() {
        for (seconds, microseconds, expected) in [
            (
                0,
                0,
                "Thu|Thursday|Jan|January|Thu Jan  1 00:00:00 1970|01|00|12|001|01|00|AM|00|00|4|00|01/01/70|00:00:00|70|1970|UTC|%|\
                 1970|4|01|000000|+0000|01/01/70| 1|1970-01-01|00:00|00:00:00|12:00:00 AM|19|70|Jan|\n|\t| 0|12|am|0",
            ),
            (
                1_709_210_096,
                5,
                "Thu|Thursday|Feb|February|Thu Feb 29 12:34:56 2024|29|12|12|060|02|34|PM|56|08|4|09|02/29/24|12:34:56|24|2024|UTC|%|\
                 2024|4|09|000005|+0000|02/29/24|29|2024-02-29|12:34|12:34:56|12:34:56 PM|20|24|Feb|\n|\t|12|12|pm|1709210096",
            ),
            (
                1_798_675_199,
                0,
                "Wed|Wednesday|Dec|December|Wed Dec 30 23:59:59 2026|30|23|11|364|12|59|PM|59|52|3|52|12/30/26|23:59:59|26|2026|UTC|%|\
                 2026|3|53|000000|+0000|12/30/26|30|2026-12-30|23:59|23:59:59|11:59:59 PM|20|26|Dec|\n|\t|23|11|pm|1798675199",
            ),
            (
                1_735_603_200,
                123_456,
                "Tue|Tuesday|Dec|December|Tue Dec 31 00:00:00 2024|31|00|12|366|12|00|AM|00|52|2|53|12/31/24|00:00:00|24|2024|UTC|%|\
                 2025|2|01|123456|+0000|12/31/24|31|2024-12-31|00:00|00:00:00|12:00:00 AM|20|25|Dec|\n|\t| 0|12|am|1735603200",
            ),
            (
                1_640_995_200,
                0,
                "Sat|Saturday|Jan|January|Sat Jan  1 00:00:00 2022|01|00|12|001|01|00|AM|00|00|6|00|01/01/22|00:00:00|22|2022|UTC|%|\
                 2021|6|52|000000|+0000|01/01/22| 1|2022-01-01|00:00|00:00:00|12:00:00 AM|20|21|Jan|\n|\t| 0|12|am|1640995200",
            ),
            (
                4_102_444_800,
                0,
                "Fri|Friday|Jan|January|Fri Jan  1 00:00:00 2100|01|00|12|001|01|00|AM|00|00|5|00|01/01/00|00:00:00|00|2100|UTC|%|\
                 2099|5|53|000000|+0000|01/01/00| 1|2100-01-01|00:00|00:00:00|12:00:00 AM|21|99|Jan|\n|\t| 0|12|am|4102444800",
            ),
        ] {
            assert_eq!(at(seconds, microseconds, ALL), expected);
        }
        assert_eq!(
            at(1_798_675_199, 0, "%-d %B %y %T %-j %:z %% %Q%"),
            "30 December 26 23:59:59 364 +00:00 % %Q%"
        );
        assert_eq!(at(0, 0, "%-d/%-m %-I %-e"), "1/1 12 1");
    }
}
