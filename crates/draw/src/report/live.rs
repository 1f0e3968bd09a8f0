//! What the page of a run under way has more: when it was written, and the script that reloads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::RunPage;
use crate::page::marked;
use crate::texts::fill;
use crate::{Script, escape};

/// Seconds after which the reader's browser loads the page again.
const RELOAD_S: u64 = 5;

/// Seconds without a new page after which the page says so.
const STALE_S: u64 = 90;

/// The parts of a live page.
pub(super) struct Live<'a> {
    page: &'a RunPage<'a>,
    /// When the page was written, for people and for programs.
    time: String,
    iso: String,
    data: Value,
}

impl<'a> Live<'a> {
    pub(super) fn new(page: &'a RunPage<'a>, written: SystemTime) -> Self {
        let texts = &page.language.texts().live;
        let written = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        let [date, time] = utc(written);
        let iso = format!("{date}T{time}Z");
        Self {
            page,
            time: format!("{date} {time} UTC"),
            data: json!({
                "written": iso,
                "reload_s": RELOAD_S,
                "stale_s": STALE_S,
                "stale": marked(texts.stale),
            }),
            iso,
        }
    }

    /// The title, which a browser shows on the page's tab.
    pub(super) fn title(&self) -> String {
        let report = self.page.report;
        fill(
            self.page.language.texts().live.title,
            &[
                ("recipe", self.page.recipe_name()),
                ("step", &self.page.grouped(report.steps)),
                ("steps", &self.page.grouped(report.planned_steps)),
            ],
        )
    }

    /// How far the run was when the page was written, and the switch for reloading.
    pub(super) fn notice(&self) -> String {
        let RunPage { report, language, .. } = self.page;
        let (texts, numbers) = (&language.texts().live, language.numbers());
        let percent = 100 * report.steps / report.planned_steps.max(1);
        let time = format!("<time id=\"written\" datetime=\"{}\">{}</time>", self.iso, self.time);
        let at_step = fill(
            texts.at_step,
            &[
                ("step", &self.page.grouped(report.steps)),
                ("steps", &self.page.grouped(report.planned_steps)),
                ("percent", &format!("{percent} %")),
                ("time", &time),
            ],
        );
        let left = self.seconds_left().map_or_else(String::new, |seconds| {
            " ".to_owned() + &fill(texts.left, &[("time", &numbers.duration(seconds.round().max(10.0)))])
        });
        let no_script = escape(&fill(texts.no_script, &[("seconds", &(2 * RELOAD_S).to_string())]));
        format!(
            "<p class=\"notice\" id=\"state\">{at_step}<span id=\"left\">{left}</span></p>\n\
             <p hidden id=\"switch\"><label><input type=\"checkbox\" id=\"reload\" checked> {}</label></p>\n\
             <noscript><meta http-equiv=\"refresh\" content=\"{}\"><p class=\"quiet\">{no_script}</p></noscript>\n",
            texts.reload,
            2 * RELOAD_S
        )
    }

    /// At the run's pace so far.
    fn seconds_left(&self) -> Option<f64> {
        let report = self.page.report;
        let is_under_way = report.steps > 0 && report.tokens > 0 && report.tokens_per_s > 0.0;
        let per_step = report.tokens as f64 / report.steps as f64 / report.tokens_per_s;
        let left = report.planned_steps.saturating_sub(report.steps);
        (is_under_way && left > 0).then_some(per_step * left as f64)
    }

    pub(super) fn script(&self) -> Script<'_> {
        Script {
            code: include_str!("live.js"),
            data: &self.data,
        }
    }
}

/// The date and the time of day in UTC, such as `2026-02-28` and `23:59:59`.
fn utc(since_epoch: Duration) -> [String; 2] {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from 0000-03-01, so that the day of a leap year is the last one; an era has 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    [
        format!("{:04}-{month:02}-{day:02}", 400 * era + year + next_year),
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_since_1970_are_a_date_and_a_time() {
        for (seconds, date, time) in [
            (0, "1970-01-01", "00:00:00"),
            (951_782_399, "2000-02-28", "23:59:59"),
            (951_782_400, "2000-02-29", "00:00:00"),
            (951_868_800, "2000-03-01", "00:00:00"),
            (1_767_225_599, "2025-12-31", "23:59:59"),
            (1_795_935_075, "2026-11-29", "06:51:15"),
            (4_107_542_400, "2100-03-01", "00:00:00"),
        ] {
            assert_eq!(utc(Duration::from_secs(seconds)), [date, time]);
        }
    }
}
