//! `report.html`: rewritten while a run trains, and a last time when it ends.

use std::time::{Duration, Instant, SystemTime};

use taal_draw::{Language, RunPage, RunState};
use taal_metrics::{Report, StepRecord};
use taal_store::layout::REPORT_FILE;

use super::compute::Compute;
use super::record::Record;
use crate::TrainError;

/// The page is at most about this old, unless an evaluation or slow writing delays it.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writing pages takes at most one part in this many of the run time.
const MIN_WORK_PER_PAGE: u32 = 100;

/// After an evaluation a page is written if the log grew by one part in this many since the last page.
const PARTS: u64 = 100;

/// When the page of a run was last written.
#[derive(Debug)]
pub(super) struct Page {
    language: Language,
    written: Instant,
    /// How long writing it took.
    cost: Duration,
    /// The step that it showed.
    step: u64,
    /// Whether a failure was reported; one message is enough.
    has_failed: bool,
}

impl Page {
    pub(super) fn new(language: Language) -> Self {
        Self {
            language,
            written: Instant::now(),
            cost: Duration::ZERO,
            step: 0,
            has_failed: false,
        }
    }

    pub(super) fn language(&self) -> Language {
        self.language
    }

    /// Writing a page takes longer as the log grows, so the number of pages must not grow with the log. Only the
    /// interval depends on the clock: a short run always writes the same files.
    fn is_due(&self, step: u64, is_evaluated: bool) -> bool {
        let has_grown = step >= self.step + self.step / PARTS;
        let interval = INTERVAL.max(self.cost * MIN_WORK_PER_PAGE);
        (is_evaluated && has_grown) || self.written.elapsed() >= interval
    }
}

impl Record<'_> {
    /// Writes the page of the run in progress after an evaluation, and at least about every ten seconds.
    pub(super) fn page_if_due(&mut self, compute: &Compute<'_>, is_evaluated: bool) {
        if self.page.is_due(compute.state.step, is_evaluated) {
            self.live_page(compute);
        }
    }

    /// Writes the page of the run in progress. A failure is reported once and has no other effect.
    pub(super) fn live_page(&mut self, compute: &Compute<'_>) {
        let began = Instant::now();
        let state = RunState::Live {
            written: SystemTime::now(),
        };
        let written = self.page_of(compute, state);
        self.page.written = Instant::now();
        self.page.cost = began.elapsed();
        self.page.step = compute.state.step;
        if let Err(error) = written
            && !std::mem::replace(&mut self.page.has_failed, true)
        {
            self.note(&format!(
                "{error}; training continues, and {REPORT_FILE} is written later"
            ));
        }
    }

    /// Writes to the page that an error ended the run. The caller reports that error, so a failure to write the page is
    /// ignored.
    pub(super) fn failure_page(&mut self, compute: &Compute<'_>, error: &TrainError) {
        let error = error.to_string();
        let _ = self.page_of(compute, RunState::Failed { error: &error });
    }

    fn page_of(&mut self, compute: &Compute<'_>, state: RunState<'_>) -> Result<(), TrainError> {
        let records = taal_metrics::read_log(&self.path(taal_metrics::LOG_NAME))?;
        let report = self.figures(compute, &records);
        self.write_page(&report, &records, state)
    }

    pub(super) fn write_page(
        &self,
        report: &Report,
        records: &[StepRecord],
        state: RunState<'_>,
    ) -> Result<(), TrainError> {
        let page = RunPage {
            report,
            records,
            recipe_toml: self.recipe_text,
            state,
            language: self.page.language,
        };
        Ok(taal_store::write_atomic(
            &self.path(REPORT_FILE),
            page.to_html().as_bytes(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that showed `step` and was written `seconds` ago.
    fn page(step: u64, seconds: u64) -> Page {
        let mut page = Page::new(Language::English);
        page.step = step;
        page.written = Instant::now() - Duration::from_secs(seconds);
        page
    }

    #[test]
    fn a_page_is_due_after_ten_seconds_and_after_an_evaluation_of_a_log_that_grew() {
        assert!(!page(100, 5).is_due(101, false));
        assert!(page(100, 11).is_due(101, false));
        assert!(page(100, 0).is_due(101, true));
        assert!(
            !page(100_000, 0).is_due(100_500, true),
            "the log grew by half a percent"
        );
        assert!(page(100_000, 0).is_due(101_000, true));
    }

    #[test]
    fn pages_that_are_slow_to_write_are_written_less_often() {
        let mut slow = page(100, 30);
        slow.cost = Duration::from_millis(500);
        assert!(!slow.is_due(101, false));
        slow.written = Instant::now() - Duration::from_secs(51);
        assert!(slow.is_due(101, false));
    }
}
