//! llama.cpp's pre-tokenizers before byte-level BPE, by the names of `tokenizer.ggml.pre`.
//!
//! Each is a list of patterns. A pattern splits the pieces of the previous one into its matches and the text between them.
//! Patterns are written as in the published `tokenizer.json`; llama.cpp has rewritten some for its own engine.

use serde_json::{Value, json};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

const BLOOM: &str = " ?[^(\\s|.,!?\u{2026}\u{3002}\u{ff0c}\u{3001}\u{964}\u{6d4}\u{60c})]+";

const DIGIT: &str = r"\p{N}";

const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

const LINE_END: &str = r"[\r\n]";

/// Han from its beginning to U+9FA5, nearly all scripts from U+0800 on, and Hangul.
const DEEPSEEK_HAN: &str = "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";

const DEEPSEEK_SIGNS: &str = "\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+";

/// Letters with a case, except those of two alphabets that DeepSeek left out.
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}\
\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\
\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\
\u{1d6b}-\u{1d77}\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-\u{1f57}\
\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\
\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\
\u{2124}\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}\u{2183}\u{2184}\
\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}\u{a680}-\u{a69b}\u{a722}-\u{a76f}\
\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\
\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\
\u{1e900}-\u{1e943}]+";

/// Han to U+9FA5 and both Japanese alphabets.
const DEEPSEEK3_HAN: &str = "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";

const DEEPSEEK3_WORDS: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// One pre-tokenizer, with llama.cpp's other settings for it.
pub(crate) struct Words {
    /// llama.cpp's names, of which the first is written.
    names: &'static [&'static str],
    cuts: &'static [&'static str],
    /// Whether a word that is a token as a whole becomes that token without merges.
    pub(crate) ignores_merges: bool,
    /// Whether a text begins with a special token by default.
    pub(crate) begins: bool,
    /// Whether the published tokenizer applies NFC first, which llama.cpp leaves out.
    pub(crate) composes: bool,
}

const fn plain(names: &'static [&'static str], cuts: &'static [&'static str]) -> Words {
    Words {
        names,
        cuts,
        ignores_merges: false,
        begins: false,
        composes: false,
    }
}

const fn composed(names: &'static [&'static str], cuts: &'static [&'static str]) -> Words {
    Words {
        composes: true,
        ..plain(names, cuts)
    }
}

/// Words that are looked up before merges, and a special token before every text.
const fn whole(names: &'static [&'static str], cuts: &'static [&'static str]) -> Words {
    Words {
        ignores_merges: true,
        begins: true,
        ..plain(names, cuts)
    }
}

/// All supported ones. llama.cpp has more names, for patterns with look-around, for encoders, and for methods that no pattern
/// describes.
const PRE_TOKENIZERS: [Words; 18] = [
    plain(
        &[
            "gpt-2",
            "phi-2",
            "jais",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "trillion",
            "granite-docling",
        ],
        &[GPT2],
    ),
    composed(&["olmo", "mpt"], &[GPT2]),
    whole(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        &[LLAMA3],
    ),
    plain(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[LLAMA3]),
    composed(&["qwen2", "deepseek-r1-qwen", "kormo", "megrez"], &[QWEN2]),
    plain(&["stablelm2", "hunyuan", "grok-2"], &[QWEN2]),
    plain(
        &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"],
        &[DIGIT, GPT2],
    ),
    composed(&["command-r"], &[DIGIT, GPT2]),
    whole(&["tekken"], &[TEKKEN]),
    plain(&["gpt-4o", "llama4", "minimax-m2"], &[GPT4O]),
    plain(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE_DIGITS]),
    plain(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE_DIGITS]),
    plain(
        &["deepseek-llm"],
        &[
            LINE_END,
            DEEPSEEK_LETTERS,
            DEEPSEEK_SIGNS,
            r"\s+$",
            DEEPSEEK_HAN,
            r"\p{N}+",
        ],
    ),
    plain(
        &["deepseek-coder"],
        &[LINE_END, r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_HAN, DIGIT],
    ),
    plain(
        &["deepseek-v3", "hunyuan-dense"],
        &[r"\p{N}{1,3}", DEEPSEEK3_HAN, DEEPSEEK3_WORDS],
    ),
    plain(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    plain(&["seed-coder"], &[SEED_CODER]),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
];

/// The pre-tokenizer of a name of `tokenizer.ggml.pre`.
pub(crate) fn named(name: &str) -> Option<&'static Words> {
    PRE_TOKENIZERS.iter().find(|words| words.names.contains(&name))
}

/// All names, for a message.
pub(crate) fn names() -> String {
    let names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|words| words.names).copied().collect();
    names.join(", ")
}

/// The pre-tokenizers equivalent to the steps of a `pre_tokenizer`.
pub(crate) fn of_steps(steps: &[&Value]) -> Vec<&'static Words> {
    let Some(cuts) = cuts(steps) else {
        return Vec::new();
    };
    PRE_TOKENIZERS
        .iter()
        .filter(|words| words.cuts == cuts.as_slice())
        .collect()
}

/// The patterns of steps that end with byte-level encoding; `None` where a step does anything else.
fn cuts(steps: &[&Value]) -> Option<Vec<String>> {
    let (bytes, before) = steps.split_last().filter(|(last, _)| last["type"] == "ByteLevel")?;
    let mut cuts: Vec<String> = before.iter().map(|step| cut(step)).collect::<Option<_>>()?;
    if bytes["use_regex"] != false {
        cuts.push(GPT2.to_owned());
    }
    Some(cuts)
}

fn cut(step: &Value) -> Option<String> {
    match step["type"].as_str()? {
        "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
            let pattern = step["pattern"]["Regex"].as_str()?;
            // Some files have literal line ends where others have escapes.
            Some(pattern.replace('\r', r"\r").replace('\n', r"\n"))
        }
        "Digits" if step["individual_digits"] == true => Some(DIGIT.to_owned()),
        _ => None,
    }
}

impl Words {
    pub(crate) fn name(&self) -> &'static str {
        self.names[0]
    }

    /// The `pre_tokenizer`. GPT-2's pattern, if it comes last, is part of the byte-level step.
    pub(crate) fn pre_tokenizer(&self) -> Value {
        let (cuts, has_gpt2) = match self.cuts {
            [before @ .., last] if *last == GPT2 => (before, true),
            all => (all, false),
        };
        let bytes = byte_level(has_gpt2);
        if cuts.is_empty() {
            return bytes;
        }
        let split =
            |cut: &&str| json!({"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": false});
        let steps: Vec<Value> = cuts.iter().map(split).chain([bytes]).collect();
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

/// The byte-level step, as pre-tokenizer and as decoder.
pub(crate) fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}
