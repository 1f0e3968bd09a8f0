//! Resolves what fine-tuning adds to a recipe: rows of examples, the metric of answers, old data.

use super::resolve::Resolver;
use super::{DataRecipe, DataSource, ReplayRecipe};
use crate::TrainError;

impl Resolver<'_> {
    /// Refuses keys about rows where there are none.
    pub(super) fn check_rows(&self, source: &DataSource) -> Result<(), TrainError> {
        let raw = &self.raw.data;
        let of_files = [
            ("layout", raw.layout.is_some()),
            ("prompt_column", raw.prompt_column.is_some()),
            ("completion_column", raw.completion_column.is_some()),
            ("messages_column", raw.messages_column.is_some()),
        ];
        let of_rows = [("chat_template", raw.chat_template.is_some())];
        let strays = match source {
            DataSource::Conversations(_) => return Ok(()),
            DataSource::Examples(_) => of_files.to_vec(),
            _ => [&of_files[..], &of_rows].concat(),
        };
        match strays.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => {
                let detail = "is about rows of data.conversations, which this recipe does not have; leave it out";
                Err(self.error(&format!("data.{key}"), detail))
            }
            None => Ok(()),
        }
    }

    /// The same data, if the metric of `[eval]` has answers to compare with in them.
    pub(super) fn measured(&self, data: DataRecipe) -> Result<DataRecipe, TrainError> {
        let Some(metric) = self.raw.eval.metric else {
            return Ok(data);
        };
        if !matches!(data.source, DataSource::Conversations(_) | DataSource::Examples(_)) {
            let detail = format!("{metric} compares answers, and only data.conversations has them; leave it out");
            return Err(self.error("eval.metric", detail));
        }
        if data.validation_fraction == 0.0 && matches!(data.source, DataSource::Conversations(_)) {
            let detail = "there is nothing to answer: data.validation_fraction is 0";
            return Err(self.error("eval.metric", detail));
        }
        Ok(data)
    }

    /// Old data, which only a model that was trained before has.
    pub(super) fn replay(&self) -> Result<ReplayRecipe, TrainError> {
        let raw = &self.raw.replay;
        let mut sources = Vec::new();
        sources.extend(raw.corpus.clone().map(DataSource::Corpus));
        sources.extend(raw.files.clone().map(DataSource::Files));
        sources.extend(raw.shards.clone().map(DataSource::Shards));
        if sources.len() > 1 {
            let detail = "expected at most one of replay.corpus, replay.files and replay.shards";
            return Err(self.error("replay", format!("{detail}, got {}", sources.len())));
        }
        if let Some(name) = raw.corpus.as_deref().filter(|name| taal_data::corpus(name).is_none()) {
            let known: Vec<_> = taal_data::corpora().iter().map(|corpus| corpus.name).collect();
            let detail = format!("expected one of {}, got \"{name}\"", known.join(", "));
            return Err(self.error("replay.corpus", detail));
        }
        if raw.files.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.error("replay.files", "expected at least one file or folder, got none"));
        }
        let replay = ReplayRecipe {
            source: sources.pop(),
            share: raw.share(),
            budget: raw.budget,
            max_tokens: raw.max_tokens(),
        };
        let is_new = self.raw.train.init_from.is_none() && self.brought.model.is_none();
        if is_new && (replay.is_used() || replay.source.is_some()) {
            let detail =
                "a new model has nothing to forget; name the model to start from in train.init_from, or leave it out";
            return Err(self.error("replay", detail));
        }
        Ok(replay)
    }
}
