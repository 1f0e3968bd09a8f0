//! Resolves what fine-tuning adds to a recipe: rows of examples, the metric of answers, old data, adapters, frozen
//! parts, preferences.

use taal_data::{Direction, Layout};
use taal_model::hugging_face::Lora;

use super::keys::{ObjectiveKind, RawLora};
use super::resolve::Resolver;
use super::{DataRecipe, DataSource, ReplayRecipe};
use crate::TrainError;
use crate::objective::Dpo;
use crate::optimizer::OptimizerKind;

impl Resolver<'_> {
    /// Refuses keys about rows where there are none.
    pub(super) fn check_rows(&self, source: &DataSource) -> Result<(), TrainError> {
        let raw = &self.raw.data;
        let of_files = [
            ("layout", raw.layout.is_some()),
            ("prompt_column", raw.prompt_column.is_some()),
            ("completion_column", raw.completion_column.is_some()),
            ("rejected_column", raw.rejected_column.is_some()),
            ("input_column", raw.input_column.is_some()),
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

    /// The languages of pairs, of which an embedded set needs at most one.
    pub(super) fn direction(&self, source: &DataSource) -> Result<Option<Direction>, TrainError> {
        let raw = &self.raw.data;
        let key = if raw.from.is_some() { "data.from" } else { "data.to" };
        let is_named = raw.from.is_some() || raw.to.is_some();
        let direction = match source {
            DataSource::Conversations(_) => match (&raw.from, &raw.to) {
                (None, None) => return Ok(None),
                (Some(from), Some(to)) => [from.clone(), to.clone()],
                _ => {
                    let detail = "set both data.from and data.to, such as \"en\" and \"nl\": they are the columns of the file, unless \
                                  data.prompt_column and data.completion_column name others";
                    return Err(self.error(key, detail));
                }
            },
            DataSource::Examples(name) => match taal_data::example_set(name).map(|set| set.languages) {
                Some([first, second]) => self.of_languages([first, second])?,
                _ if !is_named => return Ok(None),
                _ => {
                    return Err(self.error(
                        key,
                        format!("the examples of {name} are not pairs in two languages; leave it out"),
                    ));
                }
            },
            _ if !is_named => return Ok(None),
            _ => {
                let detail = "is about pairs in two languages, which are rows of data.conversations or data.examples; leave it out";
                return Err(self.error(key, detail));
            }
        };
        let [from, to] = direction;
        if from == to || from.trim().is_empty() || to.trim().is_empty() {
            return Err(self.error(
                key,
                format!("expected two different languages, got \"{from}\" and \"{to}\""),
            ));
        }
        let others = [&raw.messages_column, &raw.rejected_column, &raw.input_column];
        let is_other = raw.layout.is_some_and(|layout| layout != Layout::Completion);
        if is_other || others.into_iter().any(Option::is_some) {
            let detail = "pairs are two texts per row, not messages; leave data.layout, data.messages_column, data.rejected_column and \
                          data.input_column out";
            return Err(self.error(key, detail));
        }
        if self.raw.train.objective() != ObjectiveKind::NextToken {
            return Err(self.error(
                key,
                "translating is learned with train.objective = \"next_token\"; set it or leave this out",
            ));
        }
        Ok(Some(Direction { from, to }))
    }

    /// The direction of a set of pairs in these languages: the first of them is read, unless the recipe says otherwise.
    fn of_languages(&self, known: [&str; 2]) -> Result<[String; 2], TrainError> {
        let raw = &self.raw.data;
        for (key, language) in [("data.from", &raw.from), ("data.to", &raw.to)] {
            if let Some(language) = language.as_ref().filter(|language| !known.contains(&language.as_str())) {
                return Err(self.error(
                    key,
                    format!("expected {} or {}, got \"{language}\"", known[0], known[1]),
                ));
            }
        }
        let other = |language: &str| known[usize::from(language == known[0])].to_owned();
        let from = raw.from.clone().or_else(|| raw.to.as_deref().map(other));
        let from = from.unwrap_or_else(|| known[0].to_owned());
        let to = raw.to.clone().unwrap_or_else(|| other(&from));
        Ok([from, to])
    }

    /// The share of a target's probability that is spread over the vocabulary.
    pub(super) fn label_smoothing(&self) -> Result<f64, TrainError> {
        let share = self.raw.train.label_smoothing();
        let is_preference = self.raw.train.objective() == ObjectiveKind::Preference;
        match share > 0.0 && is_preference {
            true => Err(self.error(
                "train.label_smoothing",
                "it has no effect on preferences; set preference.label_smoothing or leave it out",
            )),
            false => Ok(share),
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

    /// The special tokens that the tokenizer of the model to start from gets.
    pub(super) fn added_tokens(&self, giver: &str) -> Result<Option<Vec<String>>, TrainError> {
        let Some(tokens) = self.raw.tokenizer.added_tokens.clone() else {
            return Ok(None);
        };
        let refuse = |detail: &str| Err(self.error("tokenizer.added_tokens", detail));
        if giver != "train.init_from" {
            return refuse("adds to the tokenizer of train.init_from; a new one has tokenizer.special_tokens");
        }
        if self.raw.train.objective() == ObjectiveKind::Masked {
            return refuse("is for models that continue texts, and train.objective is \"masked\"; leave it out");
        }
        if tokens.is_empty() || tokens.iter().any(String::is_empty) {
            return refuse("expected tokens such as \"<|im_end|>\", got an empty one or none");
        }
        if let Some((_, twice)) = tokens
            .iter()
            .enumerate()
            .find(|(index, token)| tokens[..*index].contains(token))
        {
            return refuse(&format!("has {} twice; leave one out", taal_store::excerpt(twice)));
        }
        Ok(Some(tokens))
    }

    /// The parts whose weights stay as they are.
    pub(super) fn freeze(&self) -> Result<Vec<String>, TrainError> {
        let frozen = self.raw.train.freeze.clone();
        if frozen.is_some() && self.raw.lora.rank.is_some() {
            let detail = "with lora.rank, all weights of the model are frozen; leave it out";
            return Err(self.error("train.freeze", detail));
        }
        if frozen.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.error(
                "train.freeze",
                "expected the name of a parameter or of a part, got none",
            ));
        }
        Ok(frozen.unwrap_or_default())
    }

    /// The adapter that is trained in the place of the weights.
    pub(super) fn lora(&self) -> Result<Option<Lora>, TrainError> {
        let raw = &self.raw.lora;
        let Some(rank) = raw.rank else {
            return match *raw == RawLora::default() {
                true => Ok(None),
                false => Err(self.error(
                    "lora",
                    "it has no effect without lora.rank; set it or leave this section out",
                )),
            };
        };
        if self.raw.train.init_from.is_none() {
            let detail = "an adapter is for a trained model; set train.init_from to its directory";
            return Err(self.error("lora.rank", detail));
        }
        if self.raw.train.optimizer() == OptimizerKind::Muon {
            let detail = "Muon trains the matrices of the blocks, which are frozen with lora.rank; use \"adamw\"";
            return Err(self.error("train.optimizer", detail));
        }
        let targets = raw.targets.clone();
        if targets
            .as_ref()
            .is_some_and(|targets| targets.iter().any(String::is_empty) || targets.is_empty())
        {
            return Err(self.error(
                "lora.targets",
                "expected names of linear layers, got an empty one or none",
            ));
        }
        Ok(Some(Lora {
            rank,
            alpha: raw.alpha.unwrap_or(2.0 * rank as f64),
            is_rslora: raw.rslora(),
            dropout: raw.dropout(),
            targets: targets.unwrap_or_default(),
            modules_to_save: Vec::new(),
        }))
    }

    /// How preferences are learned, by a model that answers already.
    pub(super) fn preference(&self) -> Result<Dpo, TrainError> {
        if self.raw.train.init_from.is_none() {
            let detail =
                "preferences are learned by a model that answers already; set train.init_from to its directory";
            return Err(self.error("train.objective", detail));
        }
        if self.raw.data.conversations.is_none() {
            let detail =
                "preferences are rows of prompt, chosen and rejected; set data.conversations to a file of them";
            return Err(self.error("train.objective", detail));
        }
        Ok(Dpo {
            beta: self.raw.preference.beta(),
            label_smoothing: self.raw.preference.label_smoothing(),
        })
    }
}
