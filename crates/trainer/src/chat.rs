//! How the model of a run is talked to: its chat template, and the ids at both ends of a text.

use std::sync::Arc;

use taal_data::{ChatFormat, Direction, Message};
use taal_inference::Ends;
use taal_model::hugging_face::{OwnLoss, SpecialIds, TranslationFacts};
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::{ChatFiles, Json};

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::prepare::Corpus;
use crate::recipe::{ModelRecipe, Recipe};

/// What a checkpoint's model directory says about conversations, so that programs that open it write prompts as the rows were
/// trained, and stop where the answers ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chat {
    /// Empty for a model that only continues texts.
    files: ChatFiles,
    /// Those of the model that the run starts from, and the one that ends an answer; `None` where the tokenizer's names say it all.
    special_ids: Option<SpecialIds>,
    /// The languages of the pairs that are trained on.
    direction: Option<Direction>,
}

impl Chat {
    /// The template that the recipe names, or else that of the model which the run starts from. A resumed run has its checkpoint's.
    ///
    /// # Errors
    ///
    /// Those of the files; [`TrainError::Recipe`] for a template that does not compile.
    pub(crate) fn of(
        recipe: &Recipe,
        tokenizer: &Tokenizer,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        if recipe.train.objective.masking().is_some() {
            return Ok(Self::default());
        }
        let saved = checkpoint.map(Checkpoint::model_dir);
        let base = match (&recipe.model, &saved) {
            (ModelRecipe::InitFrom { .. }, Some(saved)) => Some(saved.clone()),
            (ModelRecipe::InitFrom { dir, .. }, None) => Some(taal_inference::model_dir(dir)?),
            (ModelRecipe::New { .. } | ModelRecipe::Own { .. }, _) => None,
        };
        let special_ids = base.as_deref().map(SpecialIds::open).transpose()?;
        let files = saved.as_ref().or(base.as_ref()).map(|dir| ChatFiles::open(dir));
        let mut files = files.unwrap_or_default();
        if let (Some(path), None) = (&recipe.data.chat_template, checkpoint) {
            files = files.with_templates_of(&ChatFiles::read_template(path)?);
            files.template().map_err(|error| {
                let detail = format!("{}: {error}", path.display());
                TrainError::recipe(&recipe.name, "data.chat_template", detail)
            })?;
        }
        let chat = Self {
            files,
            special_ids,
            direction: recipe.data.direction.clone(),
        };
        Ok(chat.completed(tokenizer))
    }

    /// How messages become text; `None` where there is no template.
    pub(crate) fn format(&self) -> Option<Arc<dyn ChatFormat>> {
        match self.files.template() {
            _ if self.files.is_empty() => None,
            Ok(template) => Some(Arc::new(template)),
            Err(error) => Some(Arc::new(Faulty(error.to_string()))),
        }
    }

    /// The same for a model that was trained on these rows: where they are messages and there was no template, they were written by
    /// the plain one.
    pub(crate) fn learned_from(self, corpus: &Corpus, tokenizer: &Tokenizer) -> Self {
        let has_answers =
            matches!(corpus, Corpus::Conversations(found) if found.counts.roles.contains_key("assistant"));
        match self.files.is_empty() && has_answers {
            true => Self {
                files: taal_data::plain_chat(tokenizer),
                ..self
            }
            .completed(tokenizer),
            false => self,
        }
    }

    /// Which languages a model with or without an encoder translates, if it is trained on pairs of two.
    pub(crate) fn translation(&self, has_encoder: bool, own_loss: Option<OwnLoss>) -> Option<TranslationFacts> {
        let direction = self.direction.as_ref()?;
        Some(TranslationFacts {
            from: direction.from.clone(),
            to: direction.to.clone(),
            // As the rows were encoded.
            prompt: (!has_encoder).then(|| "{source}\n".to_string()),
            own_loss,
        })
    }

    /// The files of the directory of a model with this tokenizer, with or without an encoder.
    pub(crate) fn files(
        &self,
        tokenizer: &Tokenizer,
        has_encoder: bool,
        own_loss: Option<OwnLoss>,
    ) -> Vec<(String, Vec<u8>)> {
        let translation = self.translation(has_encoder, own_loss).map(|facts| {
            let (name, bytes) = facts.file();
            (name.to_string(), bytes)
        });
        self.files.files(tokenizer).into_iter().chain(translation).collect()
    }

    /// The ids that the model's files name.
    pub(crate) fn special_ids(&self) -> Option<&SpecialIds> {
        self.special_ids.as_ref()
    }

    /// Names the special tokens that the template may use, and adds the one that it writes after an answer to those that end a text.
    fn completed(self, tokenizer: &Tokenizer) -> Self {
        if self.files.is_empty() {
            return self;
        }
        let mut special_ids = self.special_ids.clone().unwrap_or_default();
        let ends = Ends::of(&special_ids, Some(tokenizer), tokenizer.vocab_size());
        let name = |id: Option<u32>| tokenizer.id_to_token(id?);
        let files = self.files.or_token("bos_token", name(ends.begin_id));
        let files = files.or_token("eos_token", name(ends.end_ids.first().copied()));
        let template = files.template().ok();
        let end_of_turn = template.and_then(|template| taal_inference::end_of_turn(&template, tokenizer));
        let Some(end_of_turn) = end_of_turn.filter(|id| !ends.end_ids.contains(id)) else {
            return Self { files, ..self };
        };
        special_ids.complete(ends.begin_id, &ends.end_ids, tokenizer.pad_id());
        special_ids.set_end(&[ends.end_ids, vec![end_of_turn]].concat());
        Self {
            files,
            special_ids: Some(special_ids),
            ..self
        }
    }
}

/// The template of a model whose files cannot be used, which matters only where rows are messages.
#[derive(Debug)]
struct Faulty(String);

impl ChatFormat for Faulty {
    fn render(&self, _messages: &[Message], _tools: &[Json], _with_answer_start: bool) -> Result<String, String> {
        Err(self.0.clone())
    }
}
