//! From an error to a sentence, a hint and an exit code.

use std::process::ExitCode;

use taal_store::ErrorKind;

use crate::{hints, terminal};

/// A wrong argument, recipe or path.
const USAGE: u8 = 2;
/// Input that is damaged or not what it claims to be.
const CORRUPT_INPUT: u8 = 65;
/// No more memory.
pub const OUT_OF_MEMORY: u8 = 71;
/// The disk is full, unreadable or unwritable.
const DISK: u8 = 74;
/// Stopped on request; `taal train --resume` continues.
pub const STOPPED: u8 = 75;
/// Another process holds the run directory.
const IN_USE: u8 = 77;
/// The loss became infinite or not a number.
const DIVERGED: u8 = 86;
/// Stopped at once, as a shell reports a program that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

/// No message of Taal is longer.
const MAX_SENTENCE_CHARACTERS: usize = 4000;

/// An error on its way out, with the advice that only the command line can give.
///
/// It does not implement `std::error::Error`, so that `?` turns every error into one.
pub struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            hint: None,
        }
    }
}

impl Failure {
    /// Adds a way out that the error's own sentence lacks.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind of failure it is; none if no library said so.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.error.chain().find_map(kind_of)
    }

    /// Says the error on standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if self.is_broken_pipe() {
            // The reader has seen enough, as with `taal recipes | head -1`.
            return ExitCode::SUCCESS;
        }
        let sentence = self.sentence();
        // Only if another library repeats a long input.
        let sentence = match sentence.chars().count() > MAX_SENTENCE_CHARACTERS {
            true => taal_store::shorten(&sentence),
            false => sentence,
        };
        terminal::error("error", &sentence);
        if let Some(hint) = self.hint.clone().or_else(|| hints::of_error(&self.error)) {
            terminal::error("hint", &hint);
        }
        ExitCode::from(match self.kind() {
            None | Some(ErrorKind::Usage) => USAGE,
            Some(ErrorKind::Corrupt) => CORRUPT_INPUT,
            Some(ErrorKind::Memory) => OUT_OF_MEMORY,
            Some(ErrorKind::Disk) => DISK,
            Some(ErrorKind::InUse) => IN_USE,
            Some(ErrorKind::Diverged) => DIVERGED,
        })
    }

    /// The error in words, for a note about something that can be left out.
    pub fn words(&self) -> String {
        self.sentence()
    }

    /// The error and its causes, each said once: most errors repeat their cause already.
    fn sentence(&self) -> String {
        let mut sentence = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if sentence.is_empty() {
                sentence = cause;
            } else if !sentence.contains(&cause) {
                sentence = format!("{sentence}: {cause}");
            }
        }
        sentence
    }

    /// Whether the reader of the output has left.
    pub fn is_broken_pipe(&self) -> bool {
        let error = self.error.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

fn kind_of(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let found = error.downcast_ref().map(taal_trainer::TrainError::kind);
    let found = found.or_else(|| error.downcast_ref().map(taal_insight::InsightError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_evaluation::EvaluationError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_exchange::ExchangeError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_server::ServerError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_inference::InferenceError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_data::DataError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_tokenizer::Error::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_model::ModelError::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_metrics::Error::kind));
    let found = found.or_else(|| error.downcast_ref().map(taal_store::Error::kind));
    let found = found.or_else(|| {
        error
            .downcast_ref::<taal_kernels::KernelError>()
            .map(|_| ErrorKind::Usage)
    });
    // The only files that are not the libraries' are standard input and output.
    found.or_else(|| error.downcast_ref::<std::io::Error>().map(taal_store::kind_of_io))
}
