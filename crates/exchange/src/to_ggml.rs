//! A `tokenizer.json` as the tokenizer of a GGUF file. llama.cpp has a fixed set of pre-tokenizers; others are refused, since
//! they would silently give other ids.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;
use taal_inference::LanguageModel;
use taal_model::hugging_face::TOKENIZER_FILE;
use taal_tokenizer::Tokenizer;

use crate::from_ggml::SPACE;
use crate::gguf::{TokenKind, Vocabulary};
use crate::{ExchangeError, Result, words};

/// llama.cpp's default end of a text where a file names none: an ordinary token.
const DEFAULT_END: [(&str, u32); 2] = [("gpt2", 11), ("llama", 2)];

/// A note if the tokenizer has no end of text; llama.cpp would then use an ordinary token.
pub(crate) fn missing_end(v: &Vocabulary) -> Option<String> {
    if v.eos_id.is_some() {
        return None;
    }
    let (_, id) = DEFAULT_END.into_iter().find(|(model, _)| *model == v.model)?;
    let token = v.tokens.get(id as usize)?;
    Some(format!(
        "the tokenizer has no end-of-text token, and llama.cpp then ends a text at id {id} ({token:?}): run it with --ignore-eos"
    ))
}

/// A note about ids that end a text and have no key in the file.
pub(crate) fn unkept_ends(v: &Vocabulary, lm: &LanguageModel) -> Option<String> {
    let kept = v.end_ids();
    let unkept: Vec<String> = lm
        .end_ids
        .iter()
        .filter(|id| !kept.contains(id))
        .map(u32::to_string)
        .collect();
    (!unkept.is_empty()).then(|| {
        format!(
            "a GGUF file has keys for three ids that end a text, and this model has more: llama.cpp does not stop at id {}",
            unkept.join(", ")
        )
    })
}

/// A note about SentencePiece's removal of extra spaces, which llama.cpp does not do. It concerns few texts, and llama.cpp's own
/// converter ignores it silently.
pub(crate) fn kept_spaces(tokenizer: &Tokenizer) -> Option<String> {
    let file: Value = serde_json::from_slice(&tokenizer.to_json()).ok()?;
    let removes = steps(&file["normalizer"]).into_iter().any(is_removal_of_spaces);
    removes.then(|| {
        "the tokenizer removes extra spaces, and llama.cpp keeps them: texts with several in a row, or with one at an end, get other ids there"
            .to_string()
    })
}

/// The vocabulary that encodes as a tokenizer does, except for [`kept_spaces`].
///
/// # Errors
///
/// [`ExchangeError::Inexpressible`] with the part of the `tokenizer.json` that llama.cpp does not support.
pub(crate) fn vocabulary(lm: &LanguageModel, tokenizer: &Tokenizer, dir: &Path) -> Result<Vocabulary> {
    let json = tokenizer.to_json();
    let inexpressible = |detail: String| ExchangeError::Inexpressible {
        what: dir.join(TOKENIZER_FILE),
        detail,
    };
    let file: Value = serde_json::from_slice(&json).map_err(|error| inexpressible(error.to_string()))?;
    let file = File {
        file: &file,
        lm,
        tokenizer,
        added: added_kinds(&file),
    };
    file.vocabulary().map_err(inexpressible)
}

/// By id: the kind of an added token.
fn added_kinds(file: &Value) -> HashMap<usize, TokenKind> {
    let tokens = file["added_tokens"].as_array();
    let kinds = tokens.into_iter().flatten().filter_map(|token| {
        let kind = match token["special"].as_bool() {
            Some(true) => TokenKind::Control,
            _ => TokenKind::UserDefined,
        };
        Some((token["id"].as_u64()? as usize, kind))
    });
    kinds.collect()
}

type Made<T> = std::result::Result<T, String>;

struct File<'a> {
    file: &'a Value,
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    added: HashMap<usize, TokenKind>,
}

impl File<'_> {
    fn vocabulary(&self) -> Made<Vocabulary> {
        let tokens: Vec<String> = (0..self.tokenizer.vocab_size() as u32)
            .map(|id| self.tokenizer.id_to_token(id).unwrap_or_default())
            .collect();
        let kind = |id: usize| self.added.get(&id).copied().unwrap_or(TokenKind::Normal);
        let kinds: Vec<TokenKind> = (0..tokens.len()).map(kind).collect();
        let (add_bos, add_eos) = self.template()?;
        let mut ends = add_eos.into_iter().chain(self.lm.end_ids.iter().copied());
        let eos_id = ends.next();
        let mut others = ends.filter(|&id| Some(id) != eos_id);
        let base = Vocabulary {
            tokens,
            kinds: Some(kinds),
            bos_id: add_bos.or(self.lm.begin_id),
            eos_id,
            eot_id: others.next(),
            eom_id: others.next(),
            unk_id: self.tokenizer.unk_id(),
            pad_id: self.tokenizer.pad_id(),
            add_bos: Some(add_bos.is_some()),
            add_eos: Some(add_eos.is_some()),
            chat_templates: self.lm.chat.templates().to_vec(),
            ..Vocabulary::default()
        };
        match self.file["model"]["type"].as_str() {
            Some("BPE") if self.has_step("pre_tokenizer", "ByteLevel") => self.byte_level(base),
            Some("BPE") => self.sentence_piece(base),
            Some("WordLevel") => self.characters(base),
            other => Err(format!(
                "`model.type` is {}, and llama.cpp reads BPE of the models that are written here; train a tokenizer with kind = bpe",
                other.unwrap_or("missing")
            )),
        }
    }

    /// Whether a part of the file is, or contains, a step of a type.
    fn has_step(&self, part: &str, kind: &str) -> bool {
        steps(&self.file[part]).iter().any(|step| step["type"] == kind)
    }

    /// A byte-level BPE like GPT-2's.
    fn byte_level(&self, base: Vocabulary) -> Made<Vocabulary> {
        let model = &self.file["model"];
        let steps = steps(&self.file["pre_tokenizer"]);
        if steps.iter().any(|step| step["add_prefix_space"] == true) {
            return Err("`pre_tokenizer.add_prefix_space` is true, which llama.cpp does not do".to_string());
        }
        let ways = words::of_steps(&steps);
        let name = ways
            .first()
            .ok_or("`pre_tokenizer` splits words in a way that llama.cpp does not support")?
            .name();
        // llama.cpp does not normalize here; it ignores NFC for the models that have it.
        let normalizer = &self.file["normalizer"];
        let composes = normalizer["type"] == "NFC";
        if !(normalizer.is_null() || composes) || composes && !ways.iter().any(|words| words.composes) {
            return Err("`normalizer` changes texts, which llama.cpp does not do".to_string());
        }
        let ignores_merges = model["ignore_merges"] == true;
        let mut fitting = ways.iter().filter(|words| words.ignores_merges == ignores_merges);
        let exact = fitting.clone().find(|words| words.composes == composes);
        let words = exact.or_else(|| fitting.next()).ok_or_else(|| {
            format!(
                "`model.ignore_merges` is {ignores_merges}, which llama.cpp does differently for words split like {name}"
            )
        })?;
        Ok(Vocabulary {
            model: "gpt2".to_string(),
            pre: Some(words.name().to_string()),
            merges: Some(
                self.merges()
                    .map(|(first, second)| format!("{first} {second}"))
                    .collect(),
            ),
            ..base
        })
    }

    /// A SentencePiece tokenizer as a `tokenizer.json` has it: pairs instead of scores.
    fn sentence_piece(&self, base: Vocabulary) -> Made<Vocabulary> {
        let model = &self.file["model"];
        let add_space_prefix = self.space_prefix()?;
        let unknown = model["unk_token"].as_str();
        let has_bytes = model["byte_fallback"] == true;
        let kinds: Vec<TokenKind> = base
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| {
                if Some(token.as_str()) == unknown {
                    TokenKind::Unknown
                } else if has_bytes && is_byte(token) {
                    TokenKind::Byte
                } else {
                    self.added.get(&id).copied().unwrap_or(TokenKind::Normal)
                }
            })
            .collect();
        let scores = self.scores(&base.tokens, &kinds)?;
        Ok(Vocabulary {
            model: "llama".to_string(),
            pre: Some("default".to_string()),
            scores: Some(scores),
            kinds: Some(kinds),
            add_space_prefix: Some(add_space_prefix),
            ..base
        })
    }

    /// Whether the file adds a space before a text; an error where it changes texts in other ways.
    fn space_prefix(&self) -> Made<bool> {
        let is_space = |text: &Value| text == SPACE;
        let is_replace =
            |step: &Value| step["type"] == "Replace" && step["pattern"]["String"] == " " && is_space(&step["content"]);
        let is_prepend = |step: &Value| step["type"] == "Prepend" && is_space(&step["prepend"]);
        let all = steps(&self.file["normalizer"]);
        let normalizers: Vec<&Value> = all.iter().copied().filter(|step| !is_removal_of_spaces(step)).collect();
        let removes_spaces = normalizers.len() < all.len();
        let pre_tokenizers = steps(&self.file["pre_tokenizer"]);
        let metaspace = |step: &Value| {
            let is_one = step["type"] == "Metaspace" && step["split"] != true;
            is_one.then(|| (step["replacement"].clone(), step["prepend_scheme"].clone()))
        };
        let marks: Option<Vec<(Value, Value)>> = pre_tokenizers.iter().map(|step| metaspace(step)).collect();
        match (normalizers.as_slice(), marks.as_deref()) {
            ([prepend, replace], Some([])) if is_prepend(prepend) && is_replace(replace) => Ok(true),
            ([replace], Some([])) if is_replace(replace) => Ok(false),
            // As `Tokenizer::import` writes SentencePiece's files.
            (rest, Some([(blank, first), (mark, never)]))
                if blank == " " && first == "first" && is_space(mark) && never == "never" && {
                    let is_replaced = matches!(rest, [replace] if is_replace(replace));
                    is_replaced || removes_spaces && rest.is_empty()
                } =>
            {
                Ok(true)
            }
            ([], Some([(mark, scheme)])) if is_space(mark) => Ok(scheme != "never"),
            _ => Err(
                "`normalizer` and `pre_tokenizer` change and split texts in a way that llama.cpp does not support"
                    .to_string(),
            ),
        }
    }

    /// A score for each token, higher the earlier its merges come. SentencePiece merges any two adjacent tokens whose text is a
    /// token, so all such pairs must be among the merges.
    fn scores(&self, tokens: &[String], kinds: &[TokenKind]) -> Made<Vec<f32>> {
        let merges: Vec<(&str, &str)> = self.merges().collect();
        let made: Vec<String> = merges
            .iter()
            .map(|(first, second)| format!("{first}{second}"))
            .collect();
        let last: HashMap<&str, usize> = made
            .iter()
            .enumerate()
            .map(|(rank, token)| (token.as_str(), rank))
            .collect();
        // Tokens with interleaved merges had the same score when the merges were made.
        let mut ranks: HashMap<&str, usize> = HashMap::with_capacity(last.len());
        let (mut group, mut end) = (0, 0);
        for (rank, token) in made.iter().enumerate() {
            if rank > end {
                group += 1;
            }
            end = end.max(last[token.as_str()]);
            ranks.insert(token, group);
        }
        let pairs: HashSet<(&str, &str)> = merges.into_iter().collect();
        let normal: HashSet<&str> = tokens
            .iter()
            .zip(kinds)
            .filter(|(_, kind)| **kind == TokenKind::Normal)
            .map(|(token, _)| token.as_str())
            .collect();
        for token in &normal {
            let mut cuts = token.char_indices().skip(1).map(|(cut, _)| token.split_at(cut));
            let is_missing =
                |pair: &(&str, &str)| normal.contains(pair.0) && normal.contains(pair.1) && !pairs.contains(pair);
            if let Some((first, second)) = cuts.find(is_missing) {
                return Err(format!(
                    "`model.merges` lacks {first:?} with {second:?}, which llama.cpp would merge, since it has scores instead"
                ));
            }
        }
        let score = |token: &String| ranks.get(token.as_str()).map_or(0.0, |rank| -(*rank as f32) - 1.0);
        Ok(tokens.iter().map(score).collect())
    }

    /// Taal's character tokenizers: BPE without merges, of bytes if all characters are ASCII.
    fn characters(&self, base: Vocabulary) -> Made<Vocabulary> {
        let is_added = |id: usize| self.added.contains_key(&id) || Some(id as u32) == base.unk_id;
        let texts = || {
            base.tokens
                .iter()
                .enumerate()
                .filter(|(id, _)| !is_added(*id))
                .map(|(_, token)| token)
        };
        if !texts().all(|token| token.chars().count() == 1) {
            return Err(
                "`model.type` is WordLevel, and llama.cpp has no tokenizer of words; train a tokenizer with kind = bpe"
                    .to_string(),
            );
        }
        let spelled = |spell: &dyn Fn(&str) -> String| {
            let tokens = base.tokens.iter().enumerate();
            tokens
                .map(|(id, token)| if is_added(id) { token.clone() } else { spell(token) })
                .collect::<Vec<String>>()
        };
        if texts().all(|token| token.is_ascii()) {
            return Ok(Vocabulary {
                model: "gpt2".to_string(),
                pre: Some("gpt-2".to_string()),
                tokens: spelled(&|token| token.chars().map(byte_character).collect()),
                merges: Some(Vec::new()),
                ..base
            });
        }
        if texts().any(|token| token == SPACE) {
            return Err(format!(
                "`model.vocab` has {SPACE:?}, which llama.cpp takes for a space"
            ));
        }
        Ok(Vocabulary {
            model: "llama".to_string(),
            pre: Some("default".to_string()),
            scores: Some(vec![0.0; base.tokens.len()]),
            tokens: spelled(&|token| token.replace(' ', SPACE)),
            add_space_prefix: Some(false),
            ..base
        })
    }

    fn merges(&self) -> impl Iterator<Item = (&str, &str)> {
        let merges = self.file["model"]["merges"].as_array();
        merges.into_iter().flatten().filter_map(|merge| match merge {
            Value::String(line) if line.starts_with("#version") => None,
            Value::String(line) => line.split_once(' '),
            _ => merge[0].as_str().zip(merge[1].as_str()),
        })
    }

    /// The ids added before and after a text.
    fn template(&self) -> Made<(Option<u32>, Option<u32>)> {
        let processors = match self.file["post_processor"]["type"].as_str() {
            Some("Sequence") => self.file["post_processor"]["processors"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
            _ => vec![self.file["post_processor"].clone()],
        };
        let mut ends = (None, None);
        for processor in processors.iter().filter(|processor| !processor.is_null()) {
            match processor["type"].as_str() {
                Some("ByteLevel") => {}
                Some("TemplateProcessing") => ends = self.template_ends(processor)?,
                other => {
                    return Err(format!(
                        "`post_processor.type` is {}, which llama.cpp does not do",
                        other.unwrap_or("missing")
                    ));
                }
            }
        }
        Ok(ends)
    }

    fn template_ends(&self, processor: &Value) -> Made<(Option<u32>, Option<u32>)> {
        let pieces = processor["single"].as_array().cloned().unwrap_or_default();
        let id = |piece: &Value| {
            let name = piece["SpecialToken"]["id"].as_str()?;
            self.tokenizer.token_to_id(name)
        };
        let is_text = |piece: &Value| piece.get("Sequence").is_some();
        match pieces.as_slice() {
            [text] if is_text(text) => Ok((None, None)),
            [first, text] if is_text(text) => Ok((id(first), None)),
            [text, last] if is_text(text) => Ok((None, id(last))),
            [first, text, last] if is_text(text) => Ok((id(first), id(last))),
            _ => Err("`post_processor.single` puts more than one token before or after a text".to_string()),
        }
    }
}

/// One of the steps with which `Tokenizer::import` removes extra spaces, as SentencePiece does.
fn is_removal_of_spaces(step: &Value) -> bool {
    let known = [(r"[ \x{2581}]+\z", ""), (r" {2,}", " "), (r"\A +", "")];
    step["type"] == "Replace"
        && known
            .iter()
            .any(|(pattern, content)| step["pattern"]["Regex"] == *pattern && step["content"] == *content)
}

/// The steps of a part: those of a sequence, the part itself, or nothing.
fn steps(part: &Value) -> Vec<&Value> {
    for key in ["pretokenizers", "normalizers", "decoders"] {
        if let Some(steps) = part.get(key).and_then(Value::as_array) {
            return steps.iter().collect();
        }
    }
    if part.is_null() { Vec::new() } else { vec![part] }
}

/// Whether a token represents one byte, as `<0x0A>` does.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Byte-level BPE's character for an ASCII one: itself, or one from U+0100 on for invisible ones.
fn byte_character(character: char) -> char {
    match character as u32 {
        code @ 0..=0x20 => char::from_u32(0x100 + code).unwrap_or(character),
        0x7f => '\u{121}',
        _ => character,
    }
}
