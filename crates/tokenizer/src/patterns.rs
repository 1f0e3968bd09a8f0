//! The regular expressions that split text into words, written so that Oniguruma (Python) and Rust's engine agree on them.
//!
//! They use no `\w`, which the two engines define differently (joiners, Roman numerals), and no look-around except GPT-2's.

/// GPT-2's pattern, as in the library's `ByteLevel` pre-tokenizer; source: `encoder.py` of GPT-2.
pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Every character alone, including line ends; `.` would need a flag whose letter differs between the engines.
pub(crate) const CHARACTERS: &str = r"[\s\S]";

/// Runs of letters, marks, numbers and underscores; runs of whitespace; every other character alone.
pub(crate) const WORDS: &str = r"[\p{L}\p{M}\p{N}_]+|\s+|[^\p{L}\p{M}\p{N}_\s]";

/// Runs of non-whitespace with one leading space, as in SentencePiece's pieces; line ends alone; other whitespace in runs.
pub(crate) const SPACED: &str = r" ?\S+|\n|[^\S\n]+";
