//! The model that a verb asks: `--model DIR`, or the first word after the verb.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::{hints, terminal};

/// The model of a verb whose words are something else.
#[derive(Debug, Clone, Args)]
pub struct ModelArgument {
    /// Model directory, run directory or GGUF file
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
}

impl Deref for ModelArgument {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.model
    }
}

/// The model of a verb without other words.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct ModelPlace {
    /// Model directory, run directory or GGUF file
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The same as DIR
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
}

impl Deref for ModelPlace {
    type Target = Path;

    fn deref(&self) -> &Path {
        let dir = self.dir.as_deref().or(self.model.as_deref());
        // The group requires one of the two.
        dir.unwrap_or(Path::new("."))
    }
}

/// The model of a verb that also takes texts. Without `--model`, the first word is the model.
#[derive(Debug, Clone, Args)]
pub struct ModelAndTexts {
    /// Model directory, run directory or GGUF file [default: the first word]
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Text; - reads standard input
    #[arg(value_name = "TEXT")]
    words: Vec<String>,
}

impl ModelAndTexts {
    /// The model and the words after it.
    pub fn split(&self, verb: &str) -> Result<(&Path, &[String]), Failure> {
        match (&self.model, self.words.as_slice()) {
            (Some(model), words) => Ok((model, words)),
            (None, [dir, rest @ ..]) => Ok((Path::new(dir), rest)),
            (None, []) => Err(no_model(verb, "TEXT")),
        }
    }

    /// The model and the one text, where another option may take the place of the text.
    pub fn model_and_text(&self, verb: &str) -> Result<(&Path, Option<&str>), Failure> {
        let (model, texts) = self.split(verb)?;
        match texts {
            [] => Ok((model, None)),
            [text] => Ok((model, Some(text))),
            words => Err(many_texts(verb, model, words)),
        }
    }

    /// The model and the one text.
    pub fn model_and_one_text(&self, verb: &str) -> Result<(&Path, &str), Failure> {
        let (model, text) = self.model_and_text(verb)?;
        match text {
            Some(text) => Ok((model, text)),
            None => Err(self.no_text(verb, model)),
        }
    }

    /// A text alone, or a model alone.
    pub fn no_text(&self, verb: &str, model: &Path) -> Failure {
        let word = terminal::shell_word(&model.display().to_string());
        if self.model.is_none() && !taal_store::exists(model) {
            return no_model(verb, &word);
        }
        let failure = Failure::from(anyhow::anyhow!("no text was given"));
        failure.with_hint(format!(
            "taal {verb} {word} TEXT; with - for TEXT it is read from standard input"
        ))
    }

    /// With another directory where no model was named; then every word is text.
    pub fn or_model(mut self, dir: Option<&Path>) -> Self {
        self.model = self.model.or(dir.map(Path::to_path_buf));
        self
    }
}

/// A text where an option has given it already.
pub fn twice(text: &str, option: &str) -> Failure {
    let text = taal_store::excerpt(text);
    anyhow::anyhow!("{text} and {option} say the same thing: leave one of them out").into()
}

fn no_model(verb: &str, text: &str) -> Failure {
    let usage = format!("taal {verb} DIR {text}, or --model DIR");
    Failure::from(anyhow::anyhow!("no model was named")).with_hint(match hints::models_near(None) {
        Some(models) => format!("{usage}; {models}"),
        None => usage,
    })
}

fn many_texts(verb: &str, model: &Path, words: &[String]) -> Failure {
    let error = anyhow::anyhow!("expected one text, got {} words", words.len());
    let model = terminal::shell_word(&model.display().to_string());
    let text = terminal::shell_word(&taal_store::shorten(&words.join(" ")));
    Failure::from(error).with_hint(format!("put the text in quotes: taal {verb} {model} {text}"))
}
