//! The classes of transformers that share GPT-2's two files, and how each processes a text.
//!
//! Values are those of transformers 5: the defaults of its classes, which the files next to a vocabulary can change.

use taal_store::excerpt;

use super::sidecar::Sidecar;
use super::tiktoken;
use crate::file::{AddedToken, Normalizer, PostProcessor, PreTokenizer};
use crate::{patterns, special};

/// Names of classes of each kind, without `Fast`.
const NAMES: [(&str, Class); 9] = [
    ("GPT2Tokenizer", Class::Gpt2),
    ("CodeGenTokenizer", Class::Gpt2),
    ("GPTNeoXTokenizer", Class::GptNeoX),
    ("Qwen2Tokenizer", Class::Qwen2),
    ("RobertaTokenizer", Class::Roberta),
    ("BartTokenizer", Class::Roberta),
    ("LongformerTokenizer", Class::Roberta),
    ("LEDTokenizer", Class::Roberta),
    ("MvpTokenizer", Class::Roberta),
];

/// Generic classes.
const GENERIC: [&str; 2] = ["PreTrainedTokenizer", "TokenizersBackend"];

/// `model_type` of `config.json`, for directories without a class.
const MODELS: [(&[&str], Class); 4] = [
    (
        &[
            "gpt2",
            "gpt_neo",
            "gptj",
            "codegen",
            "opt",
            "phi",
            "starcoder2",
            "dbrx",
            "jais2",
        ],
        Class::Gpt2,
    ),
    (
        &["gpt_neox", "olmo", "olmoe", "mpt", "mamba", "mamba2", "rwkv"],
        Class::GptNeoX,
    ),
    (
        &["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"],
        Class::Qwen2,
    ),
    (
        &[
            "roberta",
            "roberta-prelayernorm",
            "bart",
            "longformer",
            "led",
            "mvp",
            "data2vec-text",
            "ibert",
        ],
        Class::Roberta,
    ),
];

/// Qwen2's pattern, from its tokenizer in transformers.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const ADVICE: &str = "save its tokenizer.json with transformers (AutoTokenizer.from_pretrained(...).save_pretrained(...)), or \
                       give the pattern that splits its words";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Gpt2,
    GptNeoX,
    Qwen2,
    Roberta,
    /// Unknown: files of GPT-2's time, or of a new model.
    Unnamed,
}

impl Class {
    /// The class from the files next to a vocabulary.
    ///
    /// # Errors
    ///
    /// A sentence that names a class or a model whose pre-tokenizer is not supported.
    pub(super) fn of(sidecar: &Sidecar) -> Result<Self, String> {
        let model = sidecar.model_type();
        let by_model = model.and_then(|model| {
            let mut kinds = MODELS.iter();
            kinds.find(|(names, _)| names.contains(&model)).map(|(_, class)| *class)
        });
        // transformers always uses Qwen2's class for its models, because the files are often wrong.
        if model == Some("qwen2") {
            return Ok(Self::Qwen2);
        }
        let named = sidecar.class();
        let class = named.map(|class| class.strip_suffix("Fast").unwrap_or(class));
        match (class, model) {
            (None, None) => Ok(Self::Unnamed),
            (Some(class), _) if !GENERIC.contains(&class) => {
                let known = NAMES.iter().find(|(name, _)| *name == class).map(|(_, class)| *class);
                known.ok_or_else(|| {
                    format!("tokenizer_config.json names {}, which splits text in a way that is not supported; {ADVICE}", clipped(class))
                })
            }
            (class, Some(model)) => by_model.ok_or_else(|| {
                let class = class.map_or("no class".to_owned(), |class| format!("{class}, which every model has"));
                format!(
                    "tokenizer_config.json names {class}, and how a model of config.json's type {} splits text is not known \
                     here; {ADVICE}",
                    excerpt(model)
                )
            }),
            (Some(_), None) => Err(format!(
                "tokenizer_config.json names {}, which does not tell how text is split, and there is no config.json that says whose \
                 tokenizer it is; copy the model's config.json next to it, {ADVICE}",
                named.unwrap_or_default()
            )),
        }
    }

    pub(super) fn normalizer(self) -> Option<Normalizer> {
        matches!(self, Self::GptNeoX | Self::Qwen2).then_some(Normalizer::Nfc)
    }

    /// The pattern that splits words.
    pub(super) fn pattern(self) -> &'static str {
        if self == Self::Qwen2 { QWEN2 } else { patterns::GPT2 }
    }

    /// The default token of a role.
    fn default_token(self, role: &str) -> Option<&'static str> {
        match (self, role) {
            (Self::Roberta, "bos_token" | "cls_token") => Some("<s>"),
            (Self::Roberta, "eos_token" | "sep_token") => Some("</s>"),
            (Self::Roberta, "unk_token") => Some("<unk>"),
            (Self::Roberta, "pad_token") => Some("<pad>"),
            (Self::Roberta, "mask_token") => Some("<mask>"),
            (Self::GptNeoX, "pad_token") => Some("<|padding|>"),
            (Self::Qwen2, "bos_token") | (Self::Roberta, _) => None,
            (Self::Qwen2, "pad_token") | (_, "bos_token" | "eos_token" | "unk_token") => Some("<|endoftext|>"),
            _ => None,
        }
    }

    /// The token of a role; a file can disable it.
    fn token(self, sidecar: &Sidecar, role: &str) -> Option<String> {
        let named = sidecar.role(role);
        named.unwrap_or_else(|| self.default_token(role).map(str::to_owned))
    }

    /// The names that are special tokens if they are in the vocabulary.
    pub(super) fn special(self, sidecar: &Sidecar) -> Vec<String> {
        if self == Self::Unnamed {
            let lists = [
                special::BEGIN,
                special::END,
                special::PADDING,
                special::UNKNOWN,
                special::MASK,
            ];
            return lists.concat().into_iter().map(str::to_owned).collect();
        }
        let roles = [
            "bos_token",
            "eos_token",
            "unk_token",
            "sep_token",
            "pad_token",
            "cls_token",
            "mask_token",
        ];
        roles.iter().filter_map(|role| self.token(sidecar, role)).collect()
    }

    /// The tokens around a text.
    ///
    /// # Errors
    ///
    /// A sentence, if one of them is not in the vocabulary.
    pub(super) fn template(self, sidecar: &Sidecar, added: &[AddedToken]) -> Result<Option<PostProcessor>, String> {
        let id_of = |name: &str| added.iter().find(|token| token.content == name).map(|token| token.id);
        let adds = |key| sidecar.switch(key);
        let switches = [adds("add_bos_token"), adds("add_eos_token")];
        // Without a class, decide by names: RoBERTa's files also come without one.
        let unnamed = || {
            id_of("<s>")
                .zip(id_of("</s>"))
                .map(|(begin, end)| (("<s>", begin), ("</s>", end)))
        };
        if self == Self::Unnamed && switches == [None, None] {
            return Ok(unnamed().map(|(begin, end)| PostProcessor::template(Some(begin), Some(end))));
        }
        let roles = match self {
            Self::Roberta => [Some("cls_token"), Some("sep_token")],
            _ => [(switches[0], "bos_token"), (switches[1], "eos_token")]
                .map(|(is_on, role)| Some(role).filter(|_| is_on == Some(true))),
        };
        let mut around = [None, None];
        for (place, role) in around.iter_mut().zip(roles) {
            let Some(name) = role.and_then(|role| self.token(sidecar, role)) else {
                continue;
            };
            let id = id_of(&name).ok_or_else(|| {
                format!("the token {}, which belongs around every text, is not in the vocabulary; add it, or name another in \
                         tokenizer_config.json", excerpt(&name))
            })?;
            *place = Some((name, id));
        }
        let [begin, end] = around
            .each_ref()
            .map(|token| token.as_ref().map(|(name, id)| (name.as_str(), *id)));
        Ok((begin.is_some() || end.is_some()).then(|| PostProcessor::template(begin, end)))
    }
}

/// The pre-tokenizer of a pattern or its name, with a space before a text if the files say so.
pub(super) fn words(pattern: &str, sidecar: &Sidecar) -> PreTokenizer {
    let mut steps = tiktoken::words_by_name(pattern);
    if sidecar.switch("add_prefix_space") == Some(true) {
        steps.prefix_with_space();
    }
    steps
}

/// The name of a class for a message, shortened if it is too long.
fn clipped(class: &str) -> String {
    match class
        .chars()
        .all(|character| character.is_alphanumeric() || character == '_')
        && class.len() <= 60
    {
        true => class.to_owned(),
        false => excerpt(class),
    }
}
