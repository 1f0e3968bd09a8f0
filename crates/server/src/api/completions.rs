//! `/v1/completions`: prompts continued.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use taal_inference::{Event, LanguageModel, Prompt, TokenScore};

use super::Texts;
use crate::answering::{
    Answers, Gone, MAX_ALTERNATIVES, Scores, Settings, finish_reason, logarithm, scored, token_text,
};
use crate::app::{App, seconds_now};
use crate::failure::Refusal;
use crate::http::Reply;
use crate::router::Exchange;
use crate::{parse, sse};

/// OpenAI's default.
const MAX_TOKENS: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Own {
    prompt: Option<Texts>,
    echo: Option<bool>,
    logprobs: Option<usize>,
    best_of: Option<usize>,
    suffix: Option<String>,
}

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

pub(crate) fn completions(exchange: &mut Exchange<'_>, body: &[u8]) -> Result<Option<Reply>, Gone> {
    let app = exchange.app;
    let (settings, own): (Settings, Own) = (parse::part(body)?, parse::part(body)?);
    let model = app.model(settings.model.as_deref())?;
    let options = settings.options(app, MAX_TOKENS)?;
    own.check(options.len())?;
    let echo = own.echo.unwrap_or(false);
    let scores = Scores {
        new: own.logprobs,
        prompt: own.logprobs.filter(|_| echo),
    };
    let prompts = own.prompt.map_or_else(|| vec![Prompt::from("")], |texts| texts.all);
    let answers = Answers::begin(app, model, prompts, &options, scores, &|| exchange.is_left())?;
    let frame = Frame {
        id: format!("cmpl-{:016x}", app.request_number()),
        created: seconds_now(),
        model: model.name.clone(),
        lm: model.lm.clone(),
        echo,
        logprobs: own.logprobs,
    };
    match settings.is_stream() {
        true => exchange.stream(|app, events| stream(app, answers, &frame, settings.has_usage(), events)),
        false => whole(app, answers, &frame, &|| exchange.is_left()).map(Some),
    }
}

/// What all parts of an answer repeat.
struct Frame {
    id: String,
    created: u64,
    model: String,
    lm: Arc<LanguageModel>,
    echo: bool,
    logprobs: Option<usize>,
}

impl Frame {
    fn object(&self, choices: Vec<Value>) -> Map<String, Value> {
        let object = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": super::FINGERPRINT,
        });
        match object {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }
}

/// The parts of one answer as they come.
struct Part<'a> {
    frame: &'a Frame,
    /// Characters so far, prompt included.
    characters: usize,
    logprobs: Logprobs,
}

impl<'a> Part<'a> {
    fn new(frame: &'a Frame, prompt: &[u32]) -> Self {
        let text = text_of(&frame.lm, prompt);
        Self {
            frame,
            characters: if frame.echo { 0 } else { text.chars().count() },
            logprobs: Logprobs::default(),
        }
    }

    /// The prompt, where it is part of the answer.
    fn prompt(&mut self, ids: &[u32], scores: &[TokenScore]) -> String {
        if self.frame.logprobs.is_some() {
            let scores = std::iter::once(None).chain(scores.iter().map(Some));
            for (&id, score) in ids.iter().zip(scores) {
                self.score(id, score);
            }
        }
        text_of(&self.frame.lm, ids)
    }

    fn score(&mut self, id: u32, score: Option<&TokenScore>) {
        let text = token_text(&self.frame.lm, id);
        let length = text.chars().count();
        self.logprobs.add(&self.frame.lm, text, score, self.characters);
        self.characters += length;
    }

    /// The log-probabilities since the last call.
    fn taken(&mut self) -> Value {
        match self.frame.logprobs {
            Some(_) => std::mem::take(&mut self.logprobs).json(),
            None => Value::Null,
        }
    }
}

fn text_of(lm: &LanguageModel, ids: &[u32]) -> String {
    let text = lm.tokenizer.as_ref().map(|tokenizer| tokenizer.decode(ids));
    text.and_then(Result::ok).unwrap_or_default()
}

/// OpenAI's older shape of log-probabilities.
#[derive(Debug, Default)]
struct Logprobs {
    tokens: Vec<String>,
    of_tokens: Vec<Option<f64>>,
    top: Vec<Option<Map<String, Value>>>,
    offsets: Vec<usize>,
    /// The newer shape of the same; `null` for the first token of a prompt.
    content: Vec<Value>,
}

impl Logprobs {
    fn add(&mut self, lm: &LanguageModel, text: String, score: Option<&TokenScore>, offset: usize) {
        let top = score.map(|score| {
            let chosen = (score.id, score.logprob);
            let mut top = Map::new();
            // Two tokens can have the same text; the more probable one comes first.
            for (id, logprob) in score.alternatives.iter().copied().chain([chosen]) {
                let text = token_text(lm, id);
                top.entry(text).or_insert_with(|| json!(logarithm(logprob)));
            }
            top
        });
        let content = score.and_then(|score| scored(lm, std::slice::from_ref(score)).pop());
        self.content.push(content.unwrap_or(Value::Null));
        self.tokens.push(text);
        self.of_tokens.push(score.map(|score| logarithm(score.logprob)));
        self.top.push(top);
        self.offsets.push(offset);
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.of_tokens,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
            "content": self.content,
        })
    }
}

fn whole(app: &App, mut answers: Answers, frame: &Frame, is_left: &dyn Fn() -> bool) -> Result<Reply, Gone> {
    let prompts = answers.prompts.clone();
    let n = answers.n;
    let prompt = |index: usize| -> &[u32] { &prompts[index / n] };
    let mut parts: Vec<Part<'_>> = (0..answers.count())
        .map(|index| Part::new(frame, prompt(index)))
        .collect();
    let mut texts = vec![String::new(); parts.len()];
    let mut choices = vec![Value::Null; parts.len()];
    while let Some((index, event)) = answers.next(app, is_left)? {
        let part = &mut parts[index];
        match event {
            Event::Started { .. } if frame.echo && frame.logprobs.is_none() => {
                texts[index] = part.prompt(prompt(index), &[]);
            }
            Event::Prompt(scores) => texts[index] = part.prompt(prompt(index), &scores),
            Event::Token { id, text, score } => {
                texts[index].push_str(&text);
                if score.is_some() {
                    part.score(id, score.as_ref());
                }
            }
            Event::Finished { text, generation } => {
                texts[index].push_str(&text);
                choices[index] = json!({
                    "index": index,
                    "text": texts[index],
                    "logprobs": part.taken(),
                    "finish_reason": finish_reason(generation.finish_reason),
                });
                if frame.lm.tokenizer.is_none() {
                    choices[index]["token_ids"] = json!(generation.token_ids);
                }
            }
            Event::Failed(error) => return Err(error.into()),
            Event::Started { .. } => (),
        }
    }
    let mut object = frame.object(choices);
    object.insert("usage".to_owned(), answers.usage.json());
    Ok(super::json(&Value::Object(object)))
}

fn stream(
    app: &App,
    mut answers: Answers,
    frame: &Frame,
    has_usage: bool,
    events: &mut sse::Events<'_>,
) -> Result<(), Gone> {
    let prompts = answers.prompts.clone();
    let n = answers.n;
    let prompt = |index: usize| -> &[u32] { &prompts[index / n] };
    let mut parts: Vec<Part<'_>> = (0..answers.count())
        .map(|index| Part::new(frame, prompt(index)))
        .collect();
    while let Some((index, event)) = answers.next(app, &|| events.is_left())? {
        let part = &mut parts[index];
        let (text, reason) = match event {
            Event::Started { .. } if frame.echo && frame.logprobs.is_none() => (part.prompt(prompt(index), &[]), None),
            Event::Started { .. } => continue,
            Event::Prompt(scores) => (part.prompt(prompt(index), &scores), None),
            Event::Token { id, text, score } => {
                if score.is_some() {
                    part.score(id, score.as_ref());
                }
                (text, None)
            }
            Event::Finished { text, generation } => (text, Some(finish_reason(generation.finish_reason))),
            Event::Failed(error) => {
                return Ok(events.send(&Refusal::from(error).json())?);
            }
        };
        let logprobs = part.taken();
        let has_scores = logprobs["tokens"].as_array().is_some_and(|tokens| !tokens.is_empty());
        if text.is_empty() && reason.is_none() && !has_scores {
            continue;
        }
        let choice = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason});
        let mut object = frame.object(vec![choice]);
        if has_usage {
            object.insert("usage".to_owned(), Value::Null);
        }
        events.send(&Value::Object(object))?;
    }
    if has_usage {
        let mut object = frame.object(Vec::new());
        object.insert("usage".to_owned(), answers.usage.json());
        events.send(&Value::Object(object))?;
    }
    Ok(events.done()?)
}
