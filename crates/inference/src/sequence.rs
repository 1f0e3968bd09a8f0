//! A continuation that owns what its stream of text borrows.

use std::sync::Arc;

use self_cell::self_cell;

use crate::generate::{Course, GenerateOptions, Generation, Prompt};
use crate::speculative::Guessing;
use crate::text_stream::TextStream;
use crate::{InferenceError, LanguageModel, Result};

/// The data that a text stream borrows.
pub(crate) struct Source {
    lm: Arc<LanguageModel>,
    options: GenerateOptions,
}

self_cell!(
    /// A stream of text with its tokenizer and options.
    pub(crate) struct OwnedStream {
        owner: Source,
        #[not_covariant]
        dependent: TextStream,
    }
);

impl OwnedStream {
    /// [`Course::new`] with a stream that owns its data.
    pub(crate) fn begun(lm: Arc<LanguageModel>, prompt: &Prompt, options: GenerateOptions) -> Result<(Course, Self)> {
        let mut course = None;
        let text = Self::try_new(Source { lm, options }, |source| {
            let (begun, text) = Course::new(&source.lm, prompt, &source.options)?;
            course = Some(begun);
            Ok::<_, InferenceError>(text)
        })?;
        match course {
            Some(course) => Ok((course, text)),
            None => unreachable!("the closure sets it wherever it does not fail"),
        }
    }

    pub(crate) fn options(&self) -> &GenerateOptions {
        &self.borrow_owner().options
    }

    /// [`Course::guessing`].
    pub(crate) fn guessing<'a>(&'a self, course: &'a Course, row: usize, most: usize) -> Guessing<'a> {
        let Source { lm, options } = self.borrow_owner();
        course.guessing(lm, options, row, most)
    }

    /// [`Course::take`].
    pub(crate) fn take(&mut self, course: &mut Course, logits: &[f32]) -> Result<String> {
        self.with_dependent_mut(|source, text| course.take(&source.lm, &source.options, text, logits))
    }

    /// [`Course::end`].
    pub(crate) fn end(
        &mut self,
        course: Course,
        is_cancelled: bool,
        slid_tokens: usize,
    ) -> Result<(String, Generation)> {
        self.with_dependent_mut(|_, text| course.end(text, is_cancelled, slid_tokens))
    }
}
