//! How training looks while it runs: a bar on a terminal, plain lines everywhere else, both on standard error.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use taal_metrics::energy::Joule;
use taal_metrics::{STEP_FIGURES, StepRecord};
use taal_trainer::{Progress, RunInfo, StepInfo};

use crate::{signals, terminal};

/// Weight of a new step in the smoothed speed: about the last twenty steps count.
const SMOOTHING: f64 = 0.1;

/// A plain line at least each of so many parts of the run.
const PARTS: u64 = 20;

/// The bar or the lines.
pub struct Screen {
    /// The page that the run rewrites, to say where it is.
    pub page: Option<PathBuf>,
    bar: ProgressBar,
    is_watched: bool,
    steps: u64,
    first_step: u64,
    began: Instant,
    has_peak: bool,
    speed: Option<Speed>,
}

/// Smoothed figures of the last steps.
#[derive(Clone, Copy)]
struct Speed {
    tokens_per_s: f64,
    mfu: f64,
}

impl Screen {
    /// Waiting for a run to begin.
    pub fn new() -> Self {
        let is_watched = terminal::is_watched();
        let bar = spinner(is_watched, "preparing data and model");
        Self {
            page: None,
            bar,
            is_watched,
            steps: 0,
            first_step: 0,
            began: Instant::now(),
            has_peak: false,
            speed: None,
        }
    }

    /// The bar, for another thread.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes a line without tearing the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| terminal::message(text));
    }

    fn smooth(&mut self, tokens_per_s: f64, mfu: f64) -> Speed {
        let blend = |old: f64, new: f64| old + SMOOTHING * (new - old);
        let speed = match self.speed {
            None => Speed { tokens_per_s, mfu },
            Some(old) => Speed {
                tokens_per_s: blend(old.tokens_per_s, tokens_per_s),
                mfu: blend(old.mfu, mfu),
            },
        };
        self.speed = Some(speed);
        speed
    }

    /// Speed as `41.2 k tok/s  MFU 38 %`.
    fn speed_words(&self, speed: Speed) -> String {
        let tokens = format!("{} tok/s", terminal::short(speed.tokens_per_s));
        match self.has_peak {
            true => format!("{tokens}  MFU {:.0} %", 100.0 * speed.mfu),
            false => tokens,
        }
    }

    /// The time left at the pace so far, evaluations and checkpoints included.
    fn left(&self, step: u64) -> Duration {
        let done = step.saturating_sub(self.first_step).max(1);
        let left = self.steps.saturating_sub(step);
        self.began.elapsed().mul_f64(left as f64 / done as f64)
    }

    fn is_line_due(&self, record: &StepRecord, info: &StepInfo) -> bool {
        let part = |step: u64| step.saturating_mul(PARTS) / self.steps.max(1);
        record.val_loss.is_some() || info.is_saved || part(record.step) > part(record.step.saturating_sub(1))
    }

    fn plain_line(&self, record: &StepRecord, info: &StepInfo, speed: Speed) -> String {
        let mut words = vec![
            format!("step {}/{}", record.step, self.steps),
            format!("loss {:.4}", record.loss),
        ];
        words.extend(
            record
                .val_loss
                .map(|loss| format!("val {loss:.4}{}", if info.is_best { " (best)" } else { "" })),
        );
        words.extend(evaluated_words(record));
        words.push(self.speed_words(speed));
        words.extend(energy_words(info));
        words.extend(figure_words(record));
        if record.step < self.steps {
            words.push(format!("{} left", terminal::duration(self.left(record.step))));
        }
        words.extend(info.is_saved.then(|| "checkpoint".to_string()));
        words.join("  ")
    }
}

impl Progress for Screen {
    fn note(&mut self, message: &str) {
        self.line(&format!("note: {message}"));
    }

    fn begin(&mut self, run: &RunInfo) {
        signals::stepping();
        self.steps = run.steps;
        self.first_step = run.first_step;
        self.has_peak = run.peak_flops_per_s > 0.0;
        self.began = Instant::now();
        let held_back = match run.val_tokens {
            0 => "none held back".to_string(),
            tokens => format!("{} held back", terminal::short(tokens as f64)),
        };
        self.line(&format!(
            "{} parameters, vocabulary of {}; {} training tokens, {held_back}",
            terminal::short(run.params as f64),
            terminal::grouped(run.vocab_size as u64),
            terminal::short(run.train_tokens as f64),
        ));
        self.line(&format!(
            "{} steps, {} over the training text",
            terminal::grouped(run.steps),
            terminal::times(run.epochs),
        ));
        if let Some(page) = &self.page {
            self.line(&format!("live page for the browser: {}", page.display()));
        }
        if self.is_watched {
            self.bar.disable_steady_tick();
            self.bar.set_style(style("{wide_bar} {pos}/{len}  {msg}"));
            self.bar.set_message("");
            self.bar.set_length(run.steps);
            self.bar.set_position(run.first_step);
        }
    }

    fn step(&mut self, record: &StepRecord, info: &StepInfo) {
        let speed = self.smooth(record.tokens_per_s, info.mfu);
        if !self.is_watched {
            if self.is_line_due(record, info) {
                terminal::message(&self.plain_line(record, info, speed));
            }
            return;
        }
        if let Some(loss) = record.val_loss {
            let best = if info.is_best { "  best so far" } else { "" };
            let bits = record
                .val_bits_per_byte
                .map_or(String::new(), |bits| format!("  {bits:.3} bits/byte"));
            let more: String = evaluated_words(record).map(|words| format!("  {words}")).collect();
            self.line(&format!(
                "step {}  train {:.4}  val {loss:.4}{bits}{more}{best}",
                record.step, record.loss
            ));
        }
        let message = match record.step < self.steps {
            true => {
                let mut words = vec![format!("loss {:.3}", record.loss), self.speed_words(speed)];
                words.extend(energy_words(info));
                words.extend(figure_words(record));
                words.push(format!("{} left", terminal::duration(self.left(record.step))));
                words.join("  ")
            }
            false => "writing samples and report".to_string(),
        };
        self.bar.set_position(record.step);
        self.bar.set_message(message);
    }

    fn should_stop(&mut self) -> bool {
        signals::is_asked_to_stop()
    }
}

/// The energy of the run so far, as `0.53 Wh`.
fn energy_words(info: &StepInfo) -> Option<String> {
    let joules = info.energy.joules;
    (joules > Joule::ZERO).then(|| joules.watt_hours().to_string())
}

/// What an evaluation found besides the loss: how good answers are, by which the best checkpoint goes, and the loss on old data.
fn evaluated_words(record: &StepRecord) -> impl Iterator<Item = String> {
    let answers = record.val_answers.map(|value| format!("answers {value:.4}"));
    let old = record.old_loss.map(|loss| format!("old data {loss:.4}"));
    answers.into_iter().chain(old)
}

/// The words of the figures that have no place of their own in a line.
fn figure_words(record: &StepRecord) -> impl Iterator<Item = String> + '_ {
    STEP_FIGURES.iter().filter_map(|figure| figure.words(record))
}

/// Something turns while there is nothing to count.
fn spinner(is_watched: bool, message: &'static str) -> ProgressBar {
    if !is_watched {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner()
        .with_style(style("{spinner} {msg}"))
        .with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar over bytes of text, hidden without a terminal.
pub fn byte_bar() -> ProgressBar {
    if !terminal::is_watched() {
        return ProgressBar::hidden();
    }
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style(
        "{wide_bar} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}",
    ))
}

/// A bar over things that are counted, hidden without a terminal.
pub fn count_bar(total: u64) -> ProgressBar {
    if !terminal::is_watched() {
        return ProgressBar::hidden();
    }
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
        .with_style(style("{wide_bar} {pos}/{len}  {eta} left"))
}

/// A style; a bar without colors is readable on every background.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━ ")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}
