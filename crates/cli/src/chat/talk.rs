//! The conversation: what was said, what the model is asked, and how much of its context that takes.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taal_inference::{
    FinishReason, GenerateOptions, Generation, InferenceError, LanguageModel, Prompt, Session, Speculated,
    SpeculativeOptions,
};
use taal_tokenizer::chat::{ChatInput, ChatTemplate, Message};

use super::{answering, is_stopped};
use crate::arguments::ChatArguments;
use crate::failure::Failure;
use crate::terminal::{self, grouped};

/// Width of the bar that shows how full the context is, in characters.
const BAR_CHARACTERS: usize = 10;

/// A conversation with a model.
pub struct Talk<'a> {
    lm: &'a LanguageModel,
    session: Session<'a>,
    /// Whether something guesses the next tokens.
    has_draft: bool,
    options: GenerateOptions,
    /// `None` where the model continues texts.
    template: Option<ChatTemplate>,
    system: Option<String>,
    /// What was said: the user and the model in turns.
    turns: Vec<Turn>,
    /// The tokens of the text so far, where the model continues texts.
    text_ids: Vec<u32>,
    /// The last thing that was asked, to ask it again.
    asked: Option<Prompt>,
    answers: u64,
    figures: Figures,
    /// The file of the last `/save`, which may be replaced.
    saved: Option<PathBuf>,
}

struct Turn {
    role: &'static str,
    text: String,
}

/// What the answers took.
#[derive(Default)]
struct Figures {
    new_tokens: usize,
    time: Duration,
    last: Option<Last>,
}

struct Last {
    prompt_tokens: usize,
    reused_tokens: usize,
    new_tokens: usize,
    speculated: Speculated,
    until_first: Duration,
    time: Duration,
}

impl<'a> Talk<'a> {
    pub fn new(
        lm: &'a LanguageModel,
        arguments: &ChatArguments,
        speculation: Option<SpeculativeOptions>,
    ) -> Result<Self, Failure> {
        let template = match arguments.no_template || lm.chat.is_empty() {
            true => None,
            false => Some(lm.chat_template()?),
        };
        let mut stop = arguments.stop.clone();
        stop.extend(template.as_ref().and_then(|template| lm.end_of_turn(template)));
        let has_draft = speculation.is_some();
        let session = Session::new(lm)?;
        let session = match speculation {
            Some(speculation) => session.with_speculation(speculation)?,
            None => session,
        };
        let mut talk = Self {
            lm,
            session,
            has_draft,
            options: GenerateOptions {
                max_tokens: arguments.max_tokens,
                sampling: arguments.sampling.sampling(),
                stop,
                truncate: false,
                ..GenerateOptions::default()
            },
            template,
            system: None,
            turns: Vec::new(),
            text_ids: Vec::new(),
            asked: None,
            answers: 0,
            figures: Figures::default(),
            saved: None,
        };
        talk.options.validate()?;
        if let Some(system) = &arguments.system {
            talk.system(Some(system.clone()))?;
        }
        Ok(talk)
    }

    /// Says what kind of conversation this is.
    pub fn greet(&self, name: &str, is_terminal: bool) {
        if self.template.is_none() {
            terminal::message(
                "note: without a chat template the model does not answer: it continues what you type; an empty line \
                 lets it continue its own text",
            );
        }
        if is_terminal {
            let context = match self.limit() {
                Some(limit) => format!("{} tokens of context", grouped(limit as u64)),
                None => "a context without limit".to_string(),
            };
            terminal::message(&format!("{name}: {context}; /help lists what can be typed"));
        }
    }

    fn limit(&self) -> Option<usize> {
        self.lm.model.config().context_limit()
    }

    /// Sets the instructions, or shows them.
    pub fn system(&mut self, text: Option<String>) -> Result<(), Failure> {
        let Some(template) = &self.template else {
            return Err(anyhow::anyhow!(
                "instructions need a model with a chat template, and this one continues texts"
            )
            .into());
        };
        let Some(text) = text else {
            let shown = self
                .system
                .as_deref()
                .unwrap_or("no instructions are set; /system TEXT sets them");
            return Ok(terminal::print(&format!("{shown}\n"))?);
        };
        // Some templates have no place for instructions; better to hear it now.
        template.render(&ChatInput {
            messages: vec![Message::new("system", &text), Message::new("user", "x")],
            ..ChatInput::default()
        })?;
        self.system = Some(text);
        Ok(())
    }

    /// Forgets what was said.
    pub fn begin_again(&mut self) {
        self.turns.clear();
        self.text_ids.clear();
        self.asked = None;
    }

    /// Says something to the model and prints its answer. What does not fit is not said.
    pub fn say(&mut self, text: String) -> Result<(), Failure> {
        if self.template.is_none() {
            return self.go_on(&text);
        }
        if text.trim().is_empty() {
            return Ok(());
        }
        self.turns.push(Turn { role: "user", text });
        let answered = self.ask_turns();
        if answered.is_err() {
            self.turns.pop();
        }
        answered
    }

    /// The last answer again, with other random numbers.
    pub fn regenerate(&mut self) -> Result<(), Failure> {
        if self.template.is_none() {
            let Some(prompt) = self.asked.clone() else {
                return Err(nothing_yet());
            };
            return self.continue_from(prompt);
        }
        if self.turns.is_empty() {
            return Err(nothing_yet());
        }
        let old = match self.turns.last() {
            Some(turn) if turn.role == "assistant" => self.turns.pop(),
            _ => None,
        };
        let answered = self.ask_turns();
        if answered.is_err() {
            self.turns.extend(old);
        }
        answered
    }

    fn ask_turns(&mut self) -> Result<(), Failure> {
        let Some(template) = &self.template else { return Ok(()) };
        let instructions = self.system.iter().map(|text| Message::new("system", text));
        let turns = self.turns.iter().map(|turn| Message::new(turn.role, &turn.text));
        let rendered = template.render(&ChatInput {
            messages: instructions.chain(turns).collect(),
            ..ChatInput::default()
        })?;
        let ids = self.lm.chat_ids(&rendered.text)?;
        let room = self.room_after(ids.len())?;
        let options = GenerateOptions {
            max_tokens: self.options.max_tokens.min(room),
            ..self.options.clone()
        };
        let generation = self.answer(&Prompt::Ids(ids), options)?;
        let tokens = generation.token_ids.len();
        match generation.finish_reason {
            FinishReason::Length if tokens == room => terminal::message(
                "note: the answer ends here because the context is full; /new starts a new conversation",
            ),
            FinishReason::Length => terminal::message(&format!(
                "note: the answer ends here because it has {} tokens (--max-tokens)",
                grouped(tokens as u64)
            )),
            _ => (),
        }
        self.turns.push(Turn {
            role: "assistant",
            text: generation.text.unwrap_or_default(),
        });
        Ok(())
    }

    /// How many tokens an answer may have; a prompt without room for one is refused.
    fn room_after(&self, tokens: usize) -> Result<usize, Failure> {
        match self.limit() {
            Some(context) if tokens >= context => {
                let failure = Failure::from(InferenceError::PromptTooLong { tokens, context });
                Err(failure.with_hint("/new starts a new conversation; this message was not added to the old one"))
            }
            Some(context) => Ok(context - tokens),
            None => Ok(usize::MAX),
        }
    }

    /// Continues a text, or the text so far.
    fn go_on(&mut self, text: &str) -> Result<(), Failure> {
        let prompt = match text.is_empty() && !self.text_ids.is_empty() {
            true => Prompt::Ids(self.text_ids.clone()),
            false => {
                let ids = self.lm.prompt_ids(&Prompt::Text(text.to_string()))?;
                self.room_after(ids.len())?;
                Prompt::Ids(ids)
            }
        };
        self.continue_from(prompt)
    }

    fn continue_from(&mut self, prompt: Prompt) -> Result<(), Failure> {
        let options = GenerateOptions {
            truncate: true,
            ..self.options.clone()
        };
        let generation = self.answer(&prompt, options)?;
        let left_out = generation.dropped_prompt_tokens + generation.slid_tokens;
        if left_out > 0 {
            terminal::message(&format!(
                "note: the text has {} tokens and the model's context holds {}: it no longer sees the first {}",
                grouped((generation.prompt_tokens + generation.token_ids.len()) as u64),
                grouped(self.limit().unwrap_or_default() as u64),
                grouped(left_out as u64),
            ));
        }
        if let Prompt::Ids(ids) = &prompt {
            self.text_ids = [ids.as_slice(), &generation.token_ids].concat();
        }
        self.asked = Some(prompt);
        Ok(())
    }

    /// Prints an answer as it comes.
    fn answer(&mut self, prompt: &Prompt, mut options: GenerateOptions) -> Result<Generation, Failure> {
        options.sampling.seed = options.sampling.seed.wrapping_add(self.answers);
        self.answers += 1;
        let began = Instant::now();
        let mut until_first = None;
        let mut written = Ok(());
        let session = &mut self.session;
        let generation = answering(|| {
            session.generate(prompt, &options, &mut |text| {
                until_first.get_or_insert_with(|| began.elapsed());
                written = terminal::print(text);
                match written.is_err() || is_stopped() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        })?;
        written?;
        terminal::print("\n")?;
        if generation.finish_reason == FinishReason::Cancelled {
            terminal::message("(stopped)");
        }
        let time = began.elapsed();
        self.figures.new_tokens += generation.token_ids.len();
        self.figures.time += time;
        self.figures.last = Some(Last {
            prompt_tokens: generation.prompt_tokens,
            reused_tokens: self.session.reused_tokens(),
            new_tokens: generation.token_ids.len(),
            speculated: self.session.speculated(),
            until_first: until_first.unwrap_or(time),
            time,
        });
        if terminal::is_watched() {
            terminal::message(&self.meter());
        }
        Ok(generation)
    }

    /// How full the context is.
    fn meter(&self) -> String {
        let last = self.figures.last.as_ref();
        let used = last.map_or(0, |last| last.prompt_tokens + last.new_tokens);
        let used = used.min(self.limit().unwrap_or(usize::MAX));
        match self.limit() {
            Some(limit) => format!(
                "[{}] {} of {} tokens",
                bar(used, limit),
                grouped(used as u64),
                grouped(limit as u64)
            ),
            None => format!("{} tokens", grouped(used as u64)),
        }
    }

    /// The figures of the conversation, as a table.
    pub fn stats(&self) -> String {
        let per_second = |tokens: usize, time: Duration| match time.as_secs_f64() {
            seconds if seconds > 0.0 => format!("{:.1} tokens/s", tokens as f64 / seconds),
            _ => "none yet".to_string(),
        };
        let mut rows = vec![
            ("context", self.meter()),
            ("answers", grouped(self.answers)),
            ("new tokens", grouped(self.figures.new_tokens as u64)),
            ("speed", per_second(self.figures.new_tokens, self.figures.time)),
            ("seed", self.options.sampling.seed.to_string()),
        ];
        if let Some(last) = &self.figures.last {
            rows.push((
                "last prompt",
                format!(
                    "{} tokens, of which {} were in the cache",
                    grouped(last.prompt_tokens as u64),
                    grouped(last.reused_tokens as u64)
                ),
            ));
            rows.push((
                "last answer",
                format!(
                    "{} tokens, the first after {:.2} s, {}",
                    grouped(last.new_tokens as u64),
                    last.until_first.as_secs_f64(),
                    per_second(last.new_tokens, last.time)
                ),
            ));
            if self.has_draft {
                rows.push(("draft", drafted(&last.speculated)));
            }
        }
        terminal::table(&rows)
    }

    /// Writes the conversation to a file.
    pub fn save(&mut self, path: &Path) -> Result<(), Failure> {
        if taal_store::exists(path) && self.saved.as_deref() != Some(path) {
            return Err(taal_store::Error::AlreadyExists {
                path: path.to_path_buf(),
            }
            .into());
        }
        let mut text = serde_json::to_string_pretty(&self.contents()?)?;
        text.push('\n');
        taal_store::write_atomic(path, text.as_bytes())?;
        self.saved = Some(path.to_path_buf());
        terminal::message(&format!("saved {}", path.display()));
        Ok(())
    }

    fn contents(&self) -> Result<Value, Failure> {
        if self.template.is_none() {
            let tokenizer = self.lm.tokenizer.as_ref();
            let text = tokenizer.map(|tokenizer| tokenizer.decode_with_special(&self.text_ids));
            return Ok(json!({ "text": text.transpose()? }));
        }
        let entry = |role: &str, text: &str| json!({ "role": role, "content": text });
        let instructions = self.system.iter().map(|text| entry("system", text));
        let turns = self.turns.iter().map(|turn| entry(turn.role, &turn.text));
        Ok(json!({ "messages": instructions.chain(turns).collect::<Vec<_>>() }))
    }
}

/// How the guesses of an answer went.
fn drafted(speculated: &Speculated) -> String {
    format!(
        "{} guessed tokens of the last answer were right and {} wrong, in {} passes of the model",
        grouped(speculated.accepted as u64),
        grouped(speculated.rejected() as u64),
        grouped(speculated.passes as u64)
    )
}

fn nothing_yet() -> Failure {
    anyhow::anyhow!("nothing was said yet").into()
}

/// A bar of `#`, at least one for a context that is not empty.
fn bar(used: usize, limit: usize) -> String {
    let full = (used * BAR_CHARACTERS).div_ceil(limit.max(1)).min(BAR_CHARACTERS);
    format!("{}{}", "#".repeat(full), ".".repeat(BAR_CHARACTERS - full))
}
