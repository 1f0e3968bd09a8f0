//! Receipts: what an answer depends on, so that anyone with the model can compute its bytes again.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use taal_model::parameters::{self, Held};
use taal_store::{blake3_hex, blake3_hex_of};

use crate::engine::{Engine, EngineOptions, Request};
use crate::generate::{FinishReason, GenerateOptions, Generation, Prompt, generate};
use crate::{LanguageModel, Result};

/// The parts of a model that an answer depends on, as BLAKE3 hashes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Architecture, names, shapes and values of all parameters as they are in memory, and the type of the cache.
    pub weights: String,
    /// `tokenizer.json`.
    pub tokenizer: Option<String>,
    /// The chat templates. Prompts in receipts are ids, so that an answer is the same with another template.
    pub template: Option<String>,
}

/// What an answer depends on, and the answer. Whoever has the model can compute it again with [`replay`]: an answer depends on nothing
/// else, neither on other requests nor on the number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The version of Taal.
    pub taal: String,
    /// The kernels that computed: [`taal_kernels::kernel_set`].
    pub kernels: String,
    /// The model.
    pub model: Fingerprint,
    /// Tokens that prompt and answer may have together; none for a text whose context slides, as that of [`generate`](crate::generate()),
    /// and for a model without a limit.
    pub context: Option<usize>,
    /// How the answer was chosen.
    pub options: GenerateOptions,
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// The answer's tokens.
    pub token_ids: Vec<u32>,
    /// The BLAKE3 hash of the answer's text.
    pub text: Option<String>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Something that is not as a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub what: &'static str,
    /// In the receipt.
    pub then: String,
    /// Here.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} in the receipt, {} here", self.what, self.then, self.now)
    }
}

/// A receipt's answer, computed again.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// What was computed; none where the model is another one.
    pub generation: Option<Generation>,
    /// Differences of model, version and kernels, any of which can change an answer.
    pub surroundings: Vec<Difference>,
    /// Differences of the answer.
    pub answer: Vec<Difference>,
}

impl Receipt {
    /// The receipt of an answer to `generation.prompt` by these options. `context` is that of the engine ([`Engine::context`]), or none
    /// for [`generate`](crate::generate()).
    ///
    /// # Errors
    ///
    /// Those of [`LanguageModel::prompt_ids`].
    pub fn new(
        lm: &LanguageModel,
        context: Option<usize>,
        options: &GenerateOptions,
        generation: &Generation,
    ) -> Result<Self> {
        Ok(Self {
            taal: env!("CARGO_PKG_VERSION").to_owned(),
            kernels: taal_kernels::kernel_set(&lm.model.device()),
            model: (*lm.fingerprint()).clone(),
            context,
            options: options.clone(),
            prompt_ids: lm.prompt_ids(&generation.prompt)?,
            token_ids: generation.token_ids.clone(),
            text: generation.text.as_ref().map(|text| blake3_hex(text.as_bytes())),
            finish_reason: generation.finish_reason,
        })
    }

    /// What is not as it was when the answer was given: model, version, kernels.
    pub fn surroundings(&self, lm: &LanguageModel) -> Vec<Difference> {
        let model = lm.fingerprint();
        let hash = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "none".to_owned());
        let all = [
            ("weights", self.model.weights.clone(), model.weights.clone()),
            ("tokenizer", hash(&self.model.tokenizer), hash(&model.tokenizer)),
            ("chat template", hash(&self.model.template), hash(&model.template)),
            (
                "version of Taal",
                self.taal.clone(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            (
                "kernels",
                self.kernels.clone(),
                taal_kernels::kernel_set(&lm.model.device()),
            ),
        ];
        let differing = all.into_iter().filter(|(_, then, now)| then != now);
        differing
            .map(|(what, then, now)| Difference { what, then, now })
            .collect()
    }

    fn compare(&self, generation: &Generation) -> Vec<Difference> {
        let mut differences = Vec::new();
        let (then, now) = (&self.token_ids, &generation.token_ids);
        if then != now {
            let place = then.iter().zip(now).take_while(|(then, now)| then == now).count();
            let token = |ids: &[u32]| match ids.get(place) {
                Some(id) => format!("token {} is {id}", place + 1),
                None => format!("the answer ends after {place} tokens"),
            };
            differences.push(Difference {
                what: "answer",
                then: token(then),
                now: token(now),
            });
            return differences;
        }
        let text = generation.text.as_ref().map(|text| blake3_hex(text.as_bytes()));
        if self.text != text {
            let hash = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "none".to_owned());
            differences.push(Difference {
                what: "text",
                then: hash(&self.text),
                now: hash(&text),
            });
        }
        // What a caller ended after some token is computed again up to it.
        let ended = match (self.finish_reason, generation.finish_reason) {
            (FinishReason::Cancelled, FinishReason::Length) => FinishReason::Cancelled,
            (_, ended) => ended,
        };
        if self.finish_reason != ended {
            let word = |reason: FinishReason| format!("{reason:?}").to_lowercase();
            differences.push(Difference {
                what: "end of the answer",
                then: word(self.finish_reason),
                now: word(ended),
            });
        }
        differences
    }
}

/// Computes a receipt's answer again. With another model or tokenizer nothing is computed; with another version or other kernels the
/// answer may still be the same.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
/// use burn::tensor::Device;
/// use taal_inference::{GenerateOptions, LanguageModel, Prompt, Receipt, generate, replay};
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let size = ModelSize { vocab_size: 50, max_seq_len: 16, n_layers: 2, n_heads: 4, d_model: 32 };
/// let lm = Arc::new(LanguageModel::new(TransformerConfig::llama(size).init(42, &Device::flex())?, None));
/// let options = GenerateOptions { max_tokens: 5, ..GenerateOptions::default() };
/// let answer = generate(&lm, &Prompt::Ids(vec![1, 2]), &options, &mut |_| ControlFlow::Continue(()))?;
/// let receipt = Receipt::new(&lm, None, &options, &answer)?;
/// let again = replay(&lm, &receipt)?;
/// assert_eq!(again.generation.map(|generation| generation.token_ids), Some(answer.token_ids));
/// assert!(again.answer.is_empty() && again.surroundings.is_empty());
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
///
/// # Errors
///
/// As [`generate`](crate::generate()).
pub fn replay(lm: &Arc<LanguageModel>, receipt: &Receipt) -> Result<Replay> {
    let surroundings = receipt.surroundings(lm);
    if surroundings
        .iter()
        .any(|found| ["weights", "tokenizer"].contains(&found.what))
    {
        return Ok(Replay {
            generation: None,
            surroundings,
            answer: Vec::new(),
        });
    }
    let prompt = Prompt::Ids(receipt.prompt_ids.clone());
    let mut options = receipt.options.clone();
    if receipt.finish_reason == FinishReason::Cancelled {
        options.max_tokens = receipt.token_ids.len();
    }
    let generation = match receipt.context {
        None => generate(lm, &prompt, &options, &mut |_| ControlFlow::Continue(()))?,
        Some(context) => {
            let alone = EngineOptions {
                slots: 1,
                context: Some(context),
                ..EngineOptions::default()
            };
            let engine = Engine::start(lm.clone(), alone)?;
            engine.ask(Request::new(prompt, options))?.wait()?.generation
        }
    };
    Ok(Replay {
        answer: receipt.compare(&generation),
        generation: Some(generation),
        surroundings,
    })
}

impl Engine {
    /// The receipt of an answer that this engine gave to a request with this adapter and these options. That of an adapter is one of the
    /// model that [`with_adapter`](LanguageModel::with_adapter) opens.
    ///
    /// # Errors
    ///
    /// As [`Receipt::new`] and [`language_model_of`](Self::language_model_of).
    pub fn receipt(
        &self,
        adapter: Option<usize>,
        options: &GenerateOptions,
        generation: &Generation,
    ) -> Result<Receipt> {
        let options = GenerateOptions {
            // No answer is longer, and numbers of this size survive programs whose numbers are floating point.
            max_tokens: options.max_tokens.min(self.context().unwrap_or(usize::MAX)),
            truncate: false,
            use_cache: true,
            ..options.clone()
        };
        Receipt::new(self.language_model_of(adapter)?, self.context(), &options, generation)
    }
}

/// A model's [`Fingerprint`], computed when the first receipt needs it.
#[derive(Debug, Default)]
pub(crate) struct FingerprintCell(OnceLock<Fingerprint>);

impl LanguageModel {
    /// The hashes of the model's parts. The first call reads all weights, about a second per gigabyte.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.0.get_or_init(|| {
            let templates = self.chat.templates();
            let named = templates
                .iter()
                .flat_map(|(name, text)| [name, "\0", text.as_str(), "\0"]);
            Fingerprint {
                weights: weights(self),
                tokenizer: self.tokenizer.as_ref().map(|tokenizer| tokenizer.hash().to_owned()),
                template: (!templates.is_empty()).then(|| blake3_hex_of(named)),
            }
        })
    }
}

/// The hash of the hashes of all parameters, in the model's order.
fn weights(lm: &LanguageModel) -> String {
    let mut parts = vec![
        serde_json::to_string(lm.model.config()).unwrap_or_default(),
        format!("{:?}", lm.model.cache_type()),
    ];
    parameters::read_held(&lm.model, |name, shape, held| {
        parts.push(format!("{name} {shape:?}"));
        match held {
            Held::Floats(values) => parts.push(blake3_hex_of(values.chunks(1024).map(bytes))),
            Held::Quantized(matrices) => {
                for matrix in matrices {
                    parts.push(format!("{:?} {:?}", matrix.kind(), matrix.shape()));
                    parts.push(blake3_hex(matrix.bytes()));
                }
            }
        }
    });
    blake3_hex(parts.join("\n").as_bytes())
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
