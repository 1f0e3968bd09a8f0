//! Decoding ids one by one: the concatenated parts equal decoding all ids at once.

use crate::steps::{PendingBytes, Steps};
use crate::tokenizer::guarded;
use crate::{Error, Result, Tokenizer};

/// Decodes ids one by one, as a model generates them.
///
/// A part of the text is returned as soon as no later id can change it: a character whose bytes are spread over several tokens
/// with the last of them, a run of byte tokens such as `<0xE2>` with the token after it, since one invalid byte turns all of them
/// into replacement characters. The concatenated parts equal [`Tokenizer::decode`] of all ids, including replacement characters.
///
/// # Example
///
/// ```
/// use taal_tokenizer::{Kind, TrainerConfig};
///
/// let tokenizer = TrainerConfig::new(Kind::Bpe, 257).train(["geen merges"])?;
/// let ids = tokenizer.encode("é!")?; // two bytes and one
/// let mut stream = tokenizer.decode_stream();
/// assert_eq!(stream.push(ids[0])?, None);
/// assert_eq!(stream.push(ids[1])?.as_deref(), Some("é"));
/// assert_eq!(stream.push(ids[2])?.as_deref(), Some("!"));
/// assert_eq!(stream.finish()?, "");
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    shows_special: bool,
    is_prompt: bool,
    state: State<'a>,
}

#[derive(Debug)]
enum State<'a> {
    /// For tokenizers that concatenate bytes.
    Bytes(PendingBytes),
    /// For all others.
    Steps(Steps<'a>),
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            shows_special: false,
            is_prompt: false,
            state: match tokenizer.bytes {
                Some(_) => State::Bytes(PendingBytes::default()),
                None => State::Steps(Steps::new(tokenizer.inner.get_decoder())),
            },
        }
    }

    /// The same with special tokens in the text, as in [`Tokenizer::decode_with_special`].
    #[must_use]
    pub fn with_special(mut self) -> Self {
        self.shows_special = true;
        self
    }

    /// Reads a prompt without output: the following parts are the difference between decoding prompt and new ids together and decoding
    /// the prompt. So a continuation keeps the space before its first word, which many tokenizers drop at the beginning of a text.
    ///
    /// Where the prompt ends in the middle of a character or of a run of byte tokens, new ids can change the end of the prompt.
    /// Then a character with a byte of a new token is part of the continuation, but a replacement character for bytes that begin
    /// in the prompt is not, since decoding the prompt has already shown one. Ids outside the vocabulary are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] when an imported decoder fails.
    pub fn after(mut self, prompt_ids: &[u32]) -> Result<Self> {
        self.is_prompt = true;
        for &id in prompt_ids
            .iter()
            .filter(|id| (**id as usize) < self.tokenizer.vocab_size())
        {
            self.push(id)?;
        }
        self.is_prompt = false;
        Ok(self)
    }

    /// Adds an id and returns the text that is now certain, if any.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchToken`] for an id outside the vocabulary; the stream is then unchanged. [`Error::Library`] when an imported
    /// decoder fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>> {
        self.tokenizer.check_id(id)?;
        if !self.shows_special && self.tokenizer.is_left_out(id) {
            return Ok(None);
        }
        let text = match (&mut self.state, &self.tokenizer.bytes) {
            (State::Bytes(pending), Some(all)) => {
                pending.extend(all.of(id), self.is_prompt);
                pending.taken(false)
            }
            (State::Bytes(_), None) => String::new(),
            (State::Steps(steps), _) => {
                let token = self.tokenizer.token_in_library(id);
                let is_prompt = self.is_prompt;
                guarded(|| steps.push(&token, is_prompt))
                    .and_then(|text| text)
                    .map_err(|detail| failed(self.tokenizer, detail))?
            }
        };
        Ok((!text.is_empty()).then_some(text))
    }

    /// Ends the stream and returns the rest; bytes of an incomplete character become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] when an imported decoder fails.
    pub fn finish(self) -> Result<String> {
        match self.state {
            State::Bytes(mut pending) => Ok(pending.taken(true)),
            State::Steps(steps) => guarded(|| steps.finish())
                .and_then(|text| text)
                .map_err(|detail| failed(self.tokenizer, detail)),
        }
    }
}

fn failed(tokenizer: &Tokenizer, detail: String) -> Error {
    tokenizer.failure_in_library("decode these ids", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Sequences of each kind of decoder.
    const SEQUENCES: usize = 10_000;

    /// Tokens that one decoder or another treats specially, and their neighbors.
    const TOKENS: &[&str] = &[
        "x",
        "a",
        "b",
        "ab",
        " ",
        "  ",
        " a ",
        "\u{2581}",
        "\u{2581}a",
        "a\u{2581}",
        "é",
        "섬",
        "\u{fffd}",
        "🦜",
        "##a",
        "##",
        "##.",
        ".",
        "a</w>",
        "</w>",
        "a</w>b",
        "<pad>",
        "|",
        "a|b",
        "<unk>",
        " n't",
        "'",
        "<0x41>",
        "<0x20>",
        "<0x0A>",
        "<0xC3>",
        "<0xA9>",
        "<0xE2>",
        "<0x82>",
        "<0xAC>",
        "<0xF0>",
        "<0x9F>",
        "<0xFF>",
        "<0x+A>",
        "<0xé>",
        "Ã",
        "©",
        "Ġ",
        "Ġa",
        "âĤ",
        "¬",
        "ðŁ",
        "ÿ",
        "Ċ",
        "<s>",
        "</s>",
    ];

    const SPECIAL: [&str; 3] = ["<s>", "</s>", "<unk>"];

    fn tokenizer(decoder: &Value) -> Tokenizer {
        let vocab: serde_json::Map<String, Value> = TOKENS
            .iter()
            .zip(0..)
            .map(|(token, id): (_, u32)| ((*token).to_owned(), id.into()))
            .collect();
        let special = |name: &&str| {
            json!({"id": vocab[*name], "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        };
        let added: Vec<Value> = SPECIAL.iter().map(special).collect();
        let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}});
        Tokenizer::from_json(file.to_string().as_bytes()).unwrap()
    }

    /// Every decoder of the library, and sequences of them in published and in other orders.
    fn decoders() -> Vec<Value> {
        let replace = json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "});
        let pattern = json!({"type": "Replace", "pattern": {"Regex": "a +b?"}, "content": "B"});
        let fallback = json!({"type": "ByteFallback"});
        let fuse = json!({"type": "Fuse"});
        let strip = |start: usize, stop: usize| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true});
        let wordpiece = |cleanup: bool| json!({"type": "WordPiece", "prefix": "##", "cleanup": cleanup});
        let bpe = json!({"type": "BPEDecoder", "suffix": "</w>"});
        let ctc = |cleanup: bool| json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": cleanup});
        let sequence = |decoders: &[&Value]| json!({"type": "Sequence", "decoders": decoders});
        vec![
            Value::Null,
            replace.clone(),
            pattern.clone(),
            fallback.clone(),
            fuse.clone(),
            strip(1, 0),
            bytes.clone(),
            metaspace("always"),
            metaspace("never"),
            wordpiece(true),
            wordpiece(false),
            bpe.clone(),
            ctc(true),
            ctc(false),
            sequence(&[&replace, &fallback, &fuse, &strip(1, 0)]),
            sequence(&[&replace, &fallback, &fuse, &strip(2, 2)]),
            sequence(&[&replace, &fallback, &fuse]),
            sequence(&[&fallback, &metaspace("first")]),
            sequence(&[&fuse, &pattern]),
            sequence(&[&wordpiece(true), &fuse, &strip(0, 1)]),
            sequence(&[&bytes, &strip(1, 1)]),
            sequence(&[&ctc(true), &bpe, &pattern]),
        ]
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit
        }

        /// Ids that begin with a letter, since the library cannot strip both ends of a text of only spaces.
        fn ids(&mut self) -> Vec<u32> {
            let more = self.below(9);
            let ids = (0..more).map(|_| self.below(TOKENS.len()) as u32);
            [0].into_iter().chain(ids).collect()
        }
    }

    fn streamed(mut stream: DecodeStream<'_>, ids: &[u32]) -> String {
        let mut text = String::new();
        for &id in ids {
            text.extend(stream.push(id).unwrap());
        }
        text + &stream.finish().unwrap()
    }

    #[test]
    fn report_3_streamed_parts_equal_the_library_for_every_decoder() {
        for decoder in decoders() {
            let tokenizer = tokenizer(&decoder);
            let mut random = Random(3);
            for _ in 0..SEQUENCES {
                let ids = random.ids();
                let whole = tokenizer.inner.decode(&ids, false).unwrap();
                assert_eq!(
                    streamed(tokenizer.decode_stream().with_special(), &ids),
                    whole,
                    "{decoder} {:?}",
                    tokenizer.tokens(&ids)
                );
                let kept: Vec<u32> = ids.into_iter().filter(|&id| !tokenizer.is_left_out(id)).collect();
                let whole = tokenizer.inner.decode(&kept, false).unwrap();
                assert_eq!(
                    streamed(tokenizer.decode_stream(), &kept),
                    whole,
                    "{decoder} {:?}",
                    tokenizer.tokens(&kept)
                );
            }
        }
    }

    #[test]
    fn report_4_a_continuation_is_the_difference_between_all_ids_and_the_prompt() {
        for decoder in decoders() {
            let tokenizer = tokenizer(&decoder);
            let mut random = Random(4);
            let mut plain = 0;
            for _ in 0..SEQUENCES {
                let ids = random.ids();
                let (prompt, new) = ids.split_at(1 + random.below(ids.len()));
                let (before, whole) = (tokenizer.decode(prompt).unwrap(), tokenizer.decode(&ids).unwrap());
                let text = streamed(tokenizer.decode_stream().after(prompt).unwrap(), new);
                let tokens = (tokenizer.tokens(prompt), tokenizer.tokens(new));
                let mut kept = prompt.iter().rev().filter(|&&id| !tokenizer.is_left_out(id));
                // A space stripped from the prompt's end can become a replacement character, which still belongs to the prompt.
                let ends_in_space = kept.next().is_some_and(|&id| TOKENS[id as usize] == "<0x20>");
                if let Some(rest) = whole.strip_prefix(&before).filter(|_| !ends_in_space) {
                    assert_eq!(text, rest, "{decoder} {tokens:?}");
                    plain += 1;
                }
                assert!(whole.ends_with(&text), "{decoder} {tokens:?}: {text:?} of {whole:?}");
            }
            assert!(plain > SEQUENCES / 2, "{decoder}: {plain}");
        }
    }

    #[test]
    fn the_texts_of_tokens_concatenate_to_the_text() {
        let mut with_texts = 0;
        for decoder in decoders() {
            let tokenizer = tokenizer(&decoder);
            let Some(texts) = tokenizer.token_texts().unwrap() else {
                continue;
            };
            with_texts += 1;
            let (mut random, mut plain) = (Random(5), 0);
            for _ in 0..SEQUENCES {
                let ids = random.ids();
                let (prompt, new) = ids.split_at(random.below(ids.len()));
                let is_left_out = |id: &u32| tokenizer.is_left_out(*id) || tokenizer.unk_id() == Some(*id);
                if new.iter().any(is_left_out) {
                    continue;
                }
                let mut bytes = Vec::new();
                let mut is_first = prompt.iter().all(|&id| tokenizer.is_left_out(id));
                for &id in new {
                    bytes.extend_from_slice(if is_first { texts.first(id) } else { texts.later(id) });
                    is_first = false;
                }
                // Half characters of the prompt are another matter.
                let is_whole = prompt.iter().all(|&id| std::str::from_utf8(texts.later(id)).is_ok());
                if let Some(text) = String::from_utf8(bytes).ok().filter(|_| is_whole) {
                    let streamed = streamed(tokenizer.decode_stream().after(prompt).unwrap(), new);
                    assert_eq!(
                        streamed,
                        text,
                        "{decoder} {:?} {:?}",
                        tokenizer.tokens(prompt),
                        tokenizer.tokens(new)
                    );
                    plain += 1;
                }
            }
            assert!(plain > SEQUENCES / 10, "{decoder}: {plain}");
        }
        assert_eq!(with_texts, 13, "decoders with texts of single tokens");
    }

    #[test]
    fn report_4_a_prompts_half_character_is_not_repeated() {
        let published = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let cases: [(&Value, &[&str], &[&str], &str); 9] = [
            (&published, &["x", "<0xE2>"], &["a"], "a"),
            (&published, &["x", "<0xE2>", "<0x82>"], &["<0xAC>", "a"], "€a"),
            (&published, &["x", "<0x41>", "<0xE2>"], &["<0x82>", "<0xAC>"], "€"),
            (&published, &["x", "<0x41>"], &["<0xFF>", "a"], "\u{fffd}a"),
            (&published, &["x", "\u{fffd}"], &["a"], "a"),
            (&published, &["x", "\u{fffd}"], &["\u{fffd}"], "\u{fffd}"),
            (&level, &["x", "âĤ"], &["a"], "a"),
            (&level, &["x", "âĤ"], &["¬", "a"], "€a"),
            (&level, &["x"], &["ðŁ"], "\u{fffd}"),
        ];
        for (decoder, prompt, new, expected) in cases {
            let tokenizer = tokenizer(decoder);
            let ids = |tokens: &[&str]| -> Vec<u32> {
                tokens
                    .iter()
                    .map(|token| tokenizer.token_to_id(token).unwrap())
                    .collect()
            };
            let text = streamed(tokenizer.decode_stream().after(&ids(prompt)).unwrap(), &ids(new));
            assert_eq!(text, expected, "{prompt:?} {new:?}");
        }
    }

    #[test]
    fn certain_text_is_not_delayed() {
        for decoder in &decoders()[14..17] {
            let tokenizer = tokenizer(decoder);
            let mut stream = tokenizer.decode_stream();
            let ids = ["a", "\u{2581}a", "<0x41>", "b", "é"].map(|token| tokenizer.token_to_id(token).unwrap());
            let parts: Vec<String> = ids
                .iter()
                .map(|&id| stream.push(id).unwrap().unwrap_or_default())
                .collect();
            assert_eq!(parts, ["a", " a", "", "Ab", "é"]);
        }
    }
}
