//! A tokenizer that was trained or opened: text to ids and back.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};

use rayon::prelude::*;
use serde_json::{Value, json};
use taal_store::FileFormat;
use tokenizers::Tokenizer as Inner;
use tokenizers::utils::SysRegex;

use crate::bytes::{TokenBytes, own_token_bytes};
use crate::cut::safe_parts;
use crate::frame::{self, Frame};
use crate::marks::WordMarks;
use crate::open::{self, Facts};
use crate::{DecodeStream, Error, Result, file, patterns, special};

/// Texts longer than this are encoded in parts, which bounds the library's working memory (about 200 bytes per byte of text) and
/// uses several threads.
const PART_BYTES: usize = 64 * 1024;

/// Text to token ids and back, by a `tokenizer.json`.
///
/// It opens Hugging Face's fast tokenizers and encodes to the same ids as the Python package. Patterns that could take
/// exponential time are refused; no well-known file has one. Truncation and padding are not applied, because they would silently
/// change texts, nor is BPE dropout: encoding is a function of the text.
///
/// # Example
///
/// ```
/// use taal_tokenizer::{Kind, TrainerConfig};
///
/// let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["een kat"])?;
/// let ids = tokenizer.encode("kat")?;
/// assert_eq!(ids, [3, 1, 5]); // of " aeknt"
/// assert_eq!(tokenizer.decode(&ids)?, "kat");
/// assert!(tokenizer.encode("kap").is_err());
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    pub(crate) inner: Inner,
    /// Its file, for messages.
    pub(crate) origin: String,
    pub(crate) json: Vec<u8>,
    pub(crate) hash: String,
    pub(crate) tokens: Vec<String>,
    special: HashSet<u32>,
    unknown: Option<u32>,
    /// The tokens that the post-processor puts around a text; `None` without a post-processor.
    frame: Option<Frame>,
    /// Contents of the added tokens, which are matched before any other step.
    added: Vec<String>,
    /// Whether a text may be encoded in parts, see [`crate::cut`].
    can_cut: bool,
    /// The ids of a char tokenizer, which encodes without the library.
    characters: Option<HashMap<char, u32>>,
    /// Every token's bytes, where decoding concatenates them.
    pub(crate) bytes: Option<TokenBytes>,
    /// That of the texts that a model writes, see [`crate::target`].
    pub(crate) target: Option<Arc<Tokenizer>>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Tokenizer");
        fields
            .field("vocab_size", &self.vocab_size())
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Opens a `tokenizer.json` of at most 64 MiB, with the `target_tokenizer.json` next to a file of that name, see
    /// [`of_targets`](Self::of_targets).
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it cannot be read, and [`Error::Corrupt`], with the file's name, when it is damaged, has another
    /// format, more than a million tokens, ids with gaps, or merges of missing tokens.
    pub fn open(path: &Path) -> Result<Self> {
        let tokenizer = Self::open_alone(path)?;
        match Self::target_file(path) {
            Some(target) => tokenizer.with_target(&Self::open_alone(&target)?),
            None => Ok(tokenizer),
        }
    }

    fn open_alone(path: &Path) -> Result<Self> {
        let bytes = taal_store::read(path, open::MAX_FILE_BYTES)?;
        Self::from_bytes(bytes, &path.display().to_string())
    }

    /// Opens the bytes of a `tokenizer.json`, as [`open`](Self::open) does.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`].
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::from_bytes(json.to_vec(), "the given bytes")
    }

    pub(crate) fn from_bytes(json: Vec<u8>, origin: &str) -> Result<Self> {
        let corrupt = |detail: String| Error::Corrupt {
            origin: origin.to_owned(),
            detail,
        };
        if json.len() as u64 > open::MAX_FILE_BYTES {
            return Err(corrupt(format!(
                "{} bytes, but at most {} are accepted",
                json.len(),
                open::MAX_FILE_BYTES
            )));
        }
        let mut value: Value = serde_json::from_slice(&json).map_err(|error| {
            let format = FileFormat::of(&json).filter(|format| *format != FileFormat::Json);
            corrupt(match format {
                Some(format) => format.in_place_of("a tokenizer.json"),
                None if json.is_empty() => "the file is empty; copy it again".to_owned(),
                None => taal_store::shorten(&error.to_string()),
            })
        })?;
        let facts = open::check(&value).map_err(corrupt)?;
        let can_cut = can_cut(&value, &facts);
        let frame = frame::of_post_processor(&value);
        let characters = character_ids(&value, &facts);
        let bytes = own_token_bytes(&value, &facts.tokens);
        disable_lossy_settings(&mut value);
        let inner = load(value).map_err(corrupt)?;
        for content in &facts.added {
            let id = inner.token_to_id(content);
            if id.and_then(|id| facts.tokens.get(id as usize)) != Some(content) {
                return Err(corrupt(format!(
                    "the added token {} would get another id than the file says",
                    taal_store::excerpt(content)
                )));
            }
        }
        Ok(Self {
            inner,
            origin: origin.to_owned(),
            hash: taal_store::blake3_hex(&json),
            json,
            tokens: facts.tokens,
            special: facts.special,
            unknown: facts.unknown,
            frame,
            added: facts.added,
            can_cut,
            characters,
            bytes,
            target: None,
        })
    }

    /// The same tokenizer with more special tokens, which get the ids after its own; those that it has are special from now on, with their ids.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a token that is empty or has white space, [`Error::Corrupt`] for one that would get another id.
    ///
    /// # Example
    ///
    /// ```
    /// use taal_tokenizer::{Kind, TrainerConfig};
    ///
    /// let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["een kat"])?;
    /// let more = tokenizer.with_special_tokens(["<|im_end|>"])?;
    /// assert_eq!(more.encode("kat<|im_end|>")?, [3, 1, 5, 6]);
    /// # Ok::<(), taal_tokenizer::Error>(())
    /// ```
    pub fn with_special_tokens<'t>(&self, tokens: impl IntoIterator<Item = &'t str>) -> Result<Self> {
        let corrupt = |error: serde_json::Error| Error::Corrupt {
            origin: self.origin.clone(),
            detail: error.to_string(),
        };
        let mut file: Value = serde_json::from_slice(&self.json).map_err(corrupt)?;
        let mut added = match file["added_tokens"].take() {
            Value::Array(added) => added,
            _ => Vec::new(),
        };
        let tokens: Vec<&str> = tokens.into_iter().collect();
        let mut next = self.vocab_size();
        for &token in &tokens {
            if token.is_empty() || token.contains(char::is_whitespace) {
                return Err(Error::Setting {
                    key: "special_tokens",
                    expected: "tokens without white space".to_owned(),
                    got: taal_store::excerpt(token),
                });
            }
            let content = |entry: &Value| entry["content"].as_str() == Some(token);
            if let Some(entry) = added.iter_mut().find(|entry| content(entry)) {
                entry["special"] = true.into();
                continue;
            }
            let id = match self.token_to_id(token) {
                Some(id) => id as usize,
                None => {
                    next += 1;
                    next - 1
                }
            };
            added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": true,
            }));
        }
        added.sort_by_key(|entry| entry["id"].as_u64());
        file["added_tokens"] = Value::Array(added);
        let json = serde_json::to_vec_pretty(&file).map_err(corrupt)?;
        let more = Self::from_bytes(json, &self.origin)?;
        self.with_target_as(more, |target| target.with_special_tokens(tokens.iter().copied()))
    }

    /// The bytes of the `tokenizer.json`, as opened or as written by training. Equal training gives equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        self.json.clone()
    }

    /// Writes the `tokenizer.json`; an old file is replaced atomically. Next to a file of that name, the tokenizer of targets is written or
    /// removed, so that opening the file gives this tokenizer.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the disk is full or the path cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_target_next_to(path)?;
        Ok(taal_store::write_atomic(path, &self.json)?)
    }

    /// BLAKE3 of [`to_json`](Self::to_json) in hexadecimal, by which shards and checkpoints identify their tokenizer; with another tokenizer
    /// for targets, of both hashes.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The ids of a text, without special tokens around it.
    ///
    /// Special tokens in the text become their ids, as in Python. Long texts are encoded on all threads of the
    /// current rayon pool where that gives the same ids.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a character or word outside the vocabulary of a tokenizer without unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if let Some(characters) = &self.characters
            && !self.added.iter().any(|token| text.contains(token.as_str()))
        {
            return self.encode_characters(text, characters);
        }
        if !self.can_cut || text.len() <= PART_BYTES {
            return self
                .encode_part(text, false)
                .map_err(|detail| self.explain(text, detail));
        }
        let parts: std::result::Result<Vec<Vec<u32>>, String> = safe_parts(text, PART_BYTES)
            .par_iter()
            .map(|part| self.encode_part(part, false))
            .collect();
        Ok(parts.map_err(|detail| self.explain(text, detail))?.concat())
    }

    /// The ids of a text with the file's special tokens around it, such as `[CLS]` and `[SEP]`.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_part(text, true)
            .map_err(|detail| self.explain(text, detail))
    }

    fn encode_characters(&self, text: &str, ids: &HashMap<char, u32>) -> Result<Vec<u32>> {
        let mut encoded = Vec::with_capacity(text.len());
        for (position, character) in text.chars().enumerate() {
            let id = ids.get(&character).copied().or(self.unknown);
            encoded.push(id.ok_or_else(|| unknown_character(character, position))?);
        }
        Ok(encoded)
    }

    fn encode_part(&self, text: &str, with_special: bool) -> std::result::Result<Vec<u32>, String> {
        let encode = || {
            self.inner
                .encode_fast(text, with_special)
                .map(|encoding| encoding.get_ids().to_vec())
        };
        let ids = guarded(encode)?.map_err(|error| error.to_string())?;
        // An id without a row in the model's embedding could crash the device.
        match ids.iter().find(|&&id| id as usize >= self.tokens.len()) {
            Some(id) => Err(format!("the tokenizer library gave id {id}, which no token has")),
            None => Ok(ids),
        }
    }

    /// The ids of a text, each with its byte range.
    pub(crate) fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let encoding =
            guarded(|| self.inner.encode(text, false)).and_then(|encoding| encoding.map_err(|error| error.to_string()));
        let encoding = encoding.map_err(|detail| self.explain(text, detail))?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    /// Turns the library's error into one that names the unknown text, if that is the cause.
    fn explain(&self, text: &str, detail: String) -> Error {
        let unknown = if let Some(characters) = &self.characters {
            let mut all = text.chars().enumerate();
            all.find(|(_, character)| !characters.contains_key(character))
                .map(|(position, character)| unknown_character(character, position))
        } else {
            self.first_unknown_word(text)
        };
        let action = "encode this text";
        unknown
            .filter(|_| self.unknown.is_none())
            .unwrap_or_else(|| self.failure_in_library(action, detail))
    }

    /// An error of the library with the name of the tokenizer's file.
    pub(crate) fn failure_in_library(&self, action: &'static str, detail: String) -> Error {
        Error::Library {
            action,
            detail: format!("{}: {detail}", self.origin),
        }
    }

    /// The first word that cannot be encoded alone.
    fn first_unknown_word(&self, text: &str) -> Option<Error> {
        let words = SysRegex::new(patterns::WORDS).ok()?;
        let (start, end) = words
            .find_iter(text)
            .find(|&(start, end)| self.encode_part(&text[start..end], false).is_err())?;
        Some(Error::Unknown {
            what: format!("the word {}", taal_store::excerpt(&text[start..end])),
            position: text[..start].chars().count(),
        })
    }

    /// The tokens of ids as spelled in the vocabulary, for display; an id without a token becomes `<no token ID>`.
    pub fn tokens(&self, ids: &[u32]) -> Vec<String> {
        ids.iter()
            .map(|&id| self.id_to_token(id).unwrap_or_else(|| format!("<no token {id}>")))
            .collect()
    }

    /// The text of ids; special tokens are left out, except the unknown token.
    ///
    /// Generated ids may give bytes that are not UTF-8; these become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchToken`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        decoded(self.decode_stream(), ids)
    }

    /// The text of ids with all special tokens, as spelled in the vocabulary.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        decoded(self.decode_stream().with_special(), ids)
    }

    /// A token as passed to the library's decoders: an added one may be spelled differently in the vocabulary.
    pub(crate) fn token_in_library(&self, id: u32) -> String {
        self.inner.id_to_token(id).unwrap_or_default()
    }

    /// Decodes ids one by one as a model generates them, see [`DecodeStream`].
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    pub(crate) fn check_id(&self, id: u32) -> Result<()> {
        if (id as usize) < self.tokens.len() {
            return Ok(());
        }
        Err(Error::NoSuchToken {
            id,
            vocab_size: self.tokens.len(),
        })
    }

    /// The number of tokens, including special and other added tokens: ids are less than this.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The id of a token as spelled in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id as spelled in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).cloned()
    }

    /// The number of bytes of text of a token: 0 for a special one. If the text depends on the position, that at the beginning of
    /// a text.
    pub fn text_bytes_of(&self, id: u32) -> u64 {
        if self.is_special(id) || Some(id) == self.unknown {
            return 0;
        }
        let bytes = match &self.bytes {
            Some(bytes) => bytes.of(id).len(),
            // A single byte of a longer character, which decodes to a replacement character.
            None if self.tokens.get(id as usize).is_some_and(|token| is_byte_token(token)) => 1,
            None => self.decode(&[id]).map_or(0, |text| text.len()),
        };
        bytes as u64
    }

    /// Whether an id is that of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether a token was added to the vocabulary, so it is matched before any other step.
    pub(crate) fn is_added(&self, token: &str) -> bool {
        self.added.iter().any(|added| added == token)
    }

    /// Whether the token of an id was added after training.
    pub fn is_added_id(&self, id: u32) -> bool {
        self.tokens.get(id as usize).is_some_and(|token| self.is_added(token))
    }

    /// Whether [`decode`](Self::decode) leaves an id out: special tokens, except the unknown token.
    pub fn is_left_out(&self, id: u32) -> bool {
        self.is_special(id) && Some(id) != self.unknown
    }

    /// Where words begin and end, by the markers of the model or the pre-tokenizer: WordPiece's `##` inside a word, `</w>` at its
    /// end, a space before it as `Ġ`, `▁` or literal. With any other tokenizer every token is a word.
    pub fn word_marks(&self) -> WordMarks {
        WordMarks::new(&self.inner, &self.tokens, |id| self.is_special(id))
    }

    /// The special tokens around a text, for a model that reads whole texts: those of the file's post-processor. Without a
    /// post-processor, `[CLS]` and `[SEP]` if both are special tokens, otherwise [`bos_id`](Self::bos_id) and [`eos_id`](Self::eos_id).
    pub fn frame(&self) -> Frame {
        if let Some(frame) = &self.frame {
            return frame.clone();
        }
        let berts = ["[CLS]", "[SEP]"].map(|name| self.special_id(&[name]));
        let [before, after] = match berts {
            [Some(_), Some(_)] => berts,
            _ => [self.bos_id(), self.eos_id()],
        };
        Frame {
            before: before.into_iter().collect(),
            after: after.into_iter().collect(),
        }
    }

    /// The special tokens around a text, only from the file's post-processor: empty without one. A causal model gets those before
    /// the text at the beginning of a prompt, and a program that reads whole texts gets all of them.
    pub fn template(&self) -> Frame {
        self.frame.clone().unwrap_or_default()
    }

    /// The same tokenizer with its [`frame`](Self::frame) in the file, so that every program that opens it puts the frame around a text.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], as for opening it.
    pub fn with_frame(&self) -> Result<Self> {
        if self.frame.is_some() {
            return Ok(self.clone());
        }
        let corrupt = |error: serde_json::Error| Error::Corrupt {
            origin: self.origin.clone(),
            detail: error.to_string(),
        };
        let mut file: Value = serde_json::from_slice(&self.json).map_err(corrupt)?;
        let name = |id: &u32| self.id_to_token(*id).unwrap_or_default();
        file["post_processor"] = self.frame().post_processor(name);
        let framed = Self::from_bytes(serde_json::to_vec_pretty(&file).map_err(corrupt)?, &self.origin)?;
        self.with_target_as(framed, Self::with_frame)
    }

    /// The special tokens by the names that transformers has for what they do.
    pub(crate) fn roles(&self) -> [(&'static str, Option<u32>); 7] {
        [
            ("bos_token", self.bos_id()),
            ("eos_token", self.eos_id()),
            ("unk_token", self.unk_id()),
            ("pad_token", self.pad_id()),
            ("mask_token", self.mask_id()),
            ("cls_token", self.special_id(&["[CLS]"])),
            ("sep_token", self.special_id(&["[SEP]"])),
        ]
    }

    /// The special token that begins a text, such as `<s>`, `[CLS]` or GPT-2's `<|endoftext|>`.
    pub fn bos_id(&self) -> Option<u32> {
        self.special_id(special::BEGIN)
    }

    /// The special token that ends a text, such as `</s>`, `[SEP]` or `<|endoftext|>`.
    pub fn eos_id(&self) -> Option<u32> {
        self.special_id(special::END)
    }

    /// The special token that pads batches, such as `[PAD]`.
    pub fn pad_id(&self) -> Option<u32> {
        self.special_id(special::PADDING)
    }

    /// The token for text outside the vocabulary, such as `[UNK]`.
    pub fn unk_id(&self) -> Option<u32> {
        self.unknown.or_else(|| self.special_id(special::UNKNOWN))
    }

    /// The special token that masks what a masked model predicts, such as `[MASK]`.
    pub fn mask_id(&self) -> Option<u32> {
        self.special_id(special::MASK)
    }

    /// The first of the names that is a special token; ordinary tokens with such a name do not count.
    fn special_id(&self, names: &[&str]) -> Option<u32> {
        let ids = names.iter().filter_map(|name| self.token_to_id(name));
        ids.into_iter().find(|id| self.special.contains(id))
    }
}

fn decoded(mut stream: DecodeStream<'_>, ids: &[u32]) -> Result<String> {
    let mut text = String::new();
    for &id in ids {
        text.extend(stream.push(id)?);
    }
    text.push_str(&stream.finish()?);
    Ok(text)
}

/// Byte fallback tokens such as `<0x0A>`.
fn is_byte_token(token: &str) -> bool {
    token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
}

fn unknown_character(character: char, position: usize) -> Error {
    Error::Unknown {
        what: format!("the character {character:?} (U+{:04X})", character as u32),
        position,
    }
}

thread_local! {
    /// Whether this thread is inside [`caught`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// From now on panics that become errors are not printed, since the error reports them.
fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A panicking thread cannot change the hook, and a tokenizer may be dropped in one.
        if std::thread::panicking() {
            return;
        }
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                print(info);
            }
        }));
    });
}

/// Runs a call into a library; `None` where it panics, which is not printed.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    silence_guarded_panics();
    let was_guarded = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(was_guarded);
    result.ok()
}

/// Runs a call into the library and turns a panic into an error.
///
/// The checks of [`crate::open`] keep out the damaged files that are known to panic. Normalizers, decoders and templates of
/// imported files use unchecked arithmetic in many places, and a panic there must not end a training run.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> std::result::Result<T, String> {
    // The library's panic message does not help the user of a file.
    caught(call).ok_or_else(|| {
        "a step of the tokenizer failed inside the library, as damaged files and steps of rare kinds make it do; make the tokenizer.json \
         again, or use another"
            .to_owned()
    })
}

fn load(value: Value) -> std::result::Result<Inner, String> {
    guarded(|| serde_json::from_value::<Inner>(value))?.map_err(|error| taal_store::shorten(&error.to_string()))
}

fn disable_lossy_settings(file: &mut Value) {
    for key in ["truncation", "padding"] {
        if let Some(setting) = file.get_mut(key) {
            *setting = Value::Null;
        }
    }
    if let Some(dropout) = file.get_mut("model").and_then(|model| model.get_mut("dropout")) {
        *dropout = Value::Null;
    }
}

fn can_cut(file: &Value, facts: &Facts) -> bool {
    let has_normalizer = file.get("normalizer").is_some_and(|normalizer| !normalizer.is_null());
    !has_normalizer && !facts.has_wide_added_tokens && file.get("pre_tokenizer").is_some_and(file::is_own_pre_tokenizer)
}

/// The ids of single characters, if the file is a char tokenizer as this crate trains it.
fn character_ids(file: &Value, facts: &Facts) -> Option<HashMap<char, u32>> {
    let is_word_level = file.get("model")?.get("type")? == "WordLevel";
    let pattern = file.get("pre_tokenizer")?.get("pattern")?.get("Regex")?;
    if !is_word_level || !can_cut(file, facts) || pattern != patterns::CHARACTERS {
        return None;
    }
    let mut ids = HashMap::new();
    for (id, token) in (0..).zip(&facts.tokens) {
        let mut characters = token.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => {
                ids.insert(character, id);
            }
            // A longer token can only come from the text as an added token, or be the unknown token.
            _ if facts.special.contains(&id) || Some(id) == facts.unknown => {}
            _ => return None,
        }
    }
    Some(ids)
}
