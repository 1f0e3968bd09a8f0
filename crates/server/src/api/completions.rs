//! `/v1/completions`: prompts continued.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use taal_inference::{Event, LanguageModel, Prompt, TokenScore};
use utoipa::ToSchema;

use super::Texts;
use super::foreign::{self, Address};
use super::openapi::merge;
use crate::answering::{
    Answers, Extras, MAX_ALTERNATIVES, Settings, finish_reason, logarithm, scored, token_bytes, token_text,
};
use crate::app::App;
use crate::body::Object;
use crate::failure::Refusal;
use crate::form::{self, Form};
use crate::shapes::{CompletionChoice, CompletionLogprobs, Frame};
use crate::sse::Events;
use crate::{parse, sse};

/// What OpenAI calls the answer.
const OBJECT: &str = "text_completion";

/// OpenAI's default.
const MAX_TOKENS: usize = 16;

#[derive(Debug, Default, Deserialize, ToSchema)]
struct Own {
    /// What to continue: a text, token ids, or a list of either, at most 64; the token that begins texts without it.
    #[schema(schema_with = super::optional_texts_schema)]
    prompt: Option<Texts>,
    /// Whether the answer begins with the prompt.
    echo: Option<bool>,
    /// Log-probabilities (natural logarithms) of tokens, with this many alternatives; with echo those of the prompt too.
    #[schema(maximum = 20)]
    logprobs: Option<usize>,
    /// Must equal n.
    #[schema(minimum = 1, maximum = 16)]
    best_of: Option<usize>,
    /// Not supported: must be empty.
    #[schema(max_length = 0)]
    suffix: Option<String>,
}

merge!(CompletionRequest: Settings, Own, Form);

impl Own {
    fn check(&self, n: usize) -> Result<(), Refusal> {
        if let Some(count) = self.logprobs.filter(|count| *count > MAX_ALTERNATIVES) {
            let message = format!("expected a whole number from 0 to {MAX_ALTERNATIVES}, got {count}");
            return Err(Refusal::field("logprobs", message));
        }
        if let Some(count) = self.best_of.filter(|count| *count != n) {
            let message = format!("only answers that are returned are computed: expected {n} (n), got {count}");
            return Err(Refusal::field("best_of", message));
        }
        match self.suffix.as_deref().is_some_and(|suffix| !suffix.is_empty()) {
            true => Err(Refusal::field(
                "suffix",
                "text before a given end cannot be generated; leave it out",
            )),
            false => Ok(()),
        }
    }
}

/// A request that was handed to the engine.
struct Asked {
    answers: Answers,
    frame: Frame,
    echo: bool,
    logprobs: Option<usize>,
    is_stream: bool,
    has_usage: bool,
}

impl Asked {
    fn new(app: &Arc<App>, body: &[u8]) -> Result<Self, Refusal> {
        foreign::check(body, Address::Completions)?;
        let (settings, own): (Settings, Own) = (parse::part(body)?, parse::part(body)?);
        let served = app.model(settings.model.as_deref())?;
        let model = served.newest();
        let mut options = settings.options(app, MAX_TOKENS)?;
        let form: Form = parse::part(body)?;
        let field = form::apply(form.wanted()?, &mut options);
        own.check(options.len())?;
        let echo = own.echo.unwrap_or(false);
        let extras = Extras {
            scores: own.logprobs,
            prompt_scores: own.logprobs.filter(|_| echo),
            receipt: settings.has_receipt(),
        };
        let prompts = own.prompt.map_or_else(|| vec![Prompt::from("")], |texts| texts.all);
        Ok(Self {
            answers: Answers::ask(app, &model, prompts, &options, extras)
                .map_err(|refusal| form::refused(refusal, field))?,
            frame: Frame::new(app, "cmpl", &served.name, &model),
            echo,
            logprobs: own.logprobs,
            is_stream: settings.is_stream(),
            has_usage: settings.has_usage(),
        })
    }

    /// A [`Part`] for each answer.
    fn parts(&self) -> Vec<Part> {
        let part = |index: usize| Part::new(self, self.answers.prompts[index / self.answers.n].clone());
        (0..self.answers.count()).map(part).collect()
    }

    async fn whole(mut self) -> Result<Response, Refusal> {
        let mut parts = self.parts();
        let mut texts = vec![String::new(); parts.len()];
        let mut choices = Vec::new();
        while let Some((index, event)) = self.answers.next().await? {
            let token_ids = match &event {
                Event::Finished { generation, .. } if self.frame.lm.tokenizer.is_none() => {
                    Some(generation.token_ids.clone())
                }
                _ => None,
            };
            let receipt = self.answers.receipt(index, &event).await?;
            let part = &mut parts[index];
            let (text, finish_reason) = part.text(event)?;
            texts[index].push_str(&text);
            if finish_reason.is_some() {
                choices.push(CompletionChoice {
                    index,
                    text: std::mem::take(&mut texts[index]),
                    logprobs: part.taken(),
                    finish_reason,
                    token_ids,
                    receipt,
                });
            }
        }
        choices.sort_by_key(|choice| choice.index);
        let usage = Some(Some(self.answers.usage.clone()));
        Ok(Json(self.frame.answer(OBJECT, choices, usage)).into_response())
    }

    async fn stream(mut self, events: Events) -> Result<(), Refusal> {
        let mut parts = self.parts();
        while let Some((index, event)) = self.answers.next().await? {
            let receipt = self.answers.receipt(index, &event).await?;
            let part = &mut parts[index];
            let (text, finish_reason) = match part.text(event) {
                Ok(found) => found,
                Err(refusal) => return events.send(&refusal.json()).await,
            };
            if text.is_empty() && finish_reason.is_none() && !part.has_scores() {
                continue;
            }
            let choice = CompletionChoice {
                index,
                text,
                logprobs: part.taken(),
                finish_reason,
                token_ids: None,
                receipt,
            };
            let usage = self.has_usage.then_some(None);
            events.send(&self.frame.answer(OBJECT, vec![choice], usage)).await?;
        }
        if self.has_usage {
            let usage = Some(Some(self.answers.usage.clone()));
            let last = self.frame.answer::<CompletionChoice>(OBJECT, Vec::new(), usage);
            events.send(&last).await?;
        }
        events.done().await
    }
}

pub(crate) async fn completions(State(app): State<Arc<App>>, Object(body): Object) -> Result<Response, Refusal> {
    let mut asked = super::computed(move || Asked::new(&app, &body)).await?;
    asked.answers = asked.answers.begun().await?;
    match asked.is_stream {
        true => Ok(sse::respond(|events| asked.stream(events))),
        false => asked.whole().await,
    }
}

/// The parts of one answer as they come.
struct Part {
    lm: Arc<LanguageModel>,
    prompt: Vec<u32>,
    echo: bool,
    has_logprobs: bool,
    /// Whole characters so far, prompt included.
    characters: usize,
    /// The bytes of the next character so far.
    begun: Vec<u8>,
    logprobs: CompletionLogprobs,
}

impl Part {
    fn new(asked: &Asked, prompt: Vec<u32>) -> Self {
        let lm = asked.frame.lm.clone();
        let characters = match asked.echo {
            true => 0,
            false => text_of(&lm, &prompt).chars().count(),
        };
        Self {
            lm,
            prompt,
            echo: asked.echo,
            has_logprobs: asked.logprobs.is_some(),
            characters,
            begun: Vec::new(),
            logprobs: CompletionLogprobs::default(),
        }
    }

    /// The text that an event adds, and why the answer ends, if it does.
    fn text(&mut self, event: Event) -> Result<(String, Option<&'static str>), Refusal> {
        Ok(match event {
            Event::Started { .. } if self.echo && !self.has_logprobs => (text_of(&self.lm, &self.prompt), None),
            Event::Started { .. } => (String::new(), None),
            Event::Prompt(scores) => {
                self.score_prompt(&scores);
                (text_of(&self.lm, &self.prompt), None)
            }
            Event::Token { id, text, score } => {
                if score.is_some() {
                    self.score(id, score.as_ref());
                }
                (text, None)
            }
            Event::Finished { text, generation, .. } => (text, Some(finish_reason(generation.finish_reason))),
            Event::Failed(error) => return Err(error.into()),
        })
    }

    fn score_prompt(&mut self, scores: &[TokenScore]) {
        let ids = std::mem::take(&mut self.prompt);
        let scores = std::iter::once(None).chain(scores.iter().map(Some));
        for (&id, score) in ids.iter().zip(scores) {
            self.score(id, score);
        }
        self.prompt = ids;
    }

    fn score(&mut self, id: u32, score: Option<&TokenScore>) {
        let text = token_text(&self.lm, id);
        add(&mut self.logprobs, &self.lm, text, score, self.characters);
        let tokenizer = self.lm.tokenizer.as_ref();
        // The text of the answer is without special tokens.
        if tokenizer.is_none_or(|tokenizer| !tokenizer.is_left_out(id)) {
            self.begun.extend(token_bytes(&self.lm, id));
            self.characters += taken_characters(&mut self.begun);
        }
    }

    fn has_scores(&self) -> bool {
        !self.logprobs.tokens.is_empty()
    }

    /// The log-probabilities since the last call.
    fn taken(&mut self) -> Option<CompletionLogprobs> {
        self.has_logprobs.then(|| std::mem::take(&mut self.logprobs))
    }
}

/// Takes whole characters from the beginning of bytes, and counts them; bytes that are no character count as one.
fn taken_characters(bytes: &mut Vec<u8>) -> usize {
    let mut count = 0;
    loop {
        let (whole, wrong) = match std::str::from_utf8(bytes) {
            Ok(_) => (bytes.len(), None),
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        // Each character has one byte that does not continue another one.
        count += bytes[..whole].iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        bytes.drain(..whole + wrong.unwrap_or(0));
        match wrong {
            Some(_) => count += 1,
            None => return count,
        }
    }
}

fn text_of(lm: &LanguageModel, ids: &[u32]) -> String {
    let text = lm.tokenizer.as_ref().map(|tokenizer| tokenizer.decode(ids));
    text.and_then(Result::ok).unwrap_or_default()
}

/// Adds a token that begins at the character `offset`.
fn add(all: &mut CompletionLogprobs, lm: &LanguageModel, text: String, score: Option<&TokenScore>, offset: usize) {
    let top = score.map(|score| {
        let chosen = (score.id, score.logprob);
        let mut top = BTreeMap::new();
        // Two tokens can have the same text; the more probable one comes first.
        for (id, logprob) in score.alternatives.iter().copied().chain([chosen]) {
            top.entry(token_text(lm, id)).or_insert(logarithm(logprob));
        }
        top
    });
    let content = score.and_then(|score| scored(lm, std::slice::from_ref(score)).pop());
    all.content.push(content);
    all.tokens.push(text);
    all.token_logprobs.push(score.map(|score| logarithm(score.logprob)));
    all.top_logprobs.push(top);
    all.text_offset.push(offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_count_once_they_are_whole() {
        let mut begun = Vec::new();
        let counts = [&b"a"[..], b"\xf0", b"\x9f\x98", b"\x80b", b"\xff\xc3", b"x", b""].map(|bytes| {
            begun.extend(bytes);
            taken_characters(&mut begun)
        });
        assert_eq!(counts, [1, 0, 0, 2, 1, 2, 0]);
    }
}
