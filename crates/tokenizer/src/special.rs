//! The names by which special tokens are recognised, most specific first.

/// Tokens that begin a text.
pub(crate) const BEGIN: &[&str] = &[
    "<s>",
    "<|bos|>",
    "<bos>",
    "[BOS]",
    "<|begin_of_text|>",
    "<|startoftext|>",
    "[CLS]",
    "<|endoftext|>",
];

/// Tokens that end a text.
pub(crate) const END: &[&str] = &[
    "</s>",
    "<|eos|>",
    "<eos>",
    "[EOS]",
    "<|end_of_text|>",
    "<|endoftext|>",
    "[SEP]",
    "<|im_end|>",
];

/// Tokens that fill up a batch.
pub(crate) const PADDING: &[&str] = &["[PAD]", "<pad>", "<|pad|>"];

/// Tokens that stand for what the vocabulary does not have.
pub(crate) const UNKNOWN: &[&str] = &["[UNK]", "<unk>", "<|unk|>"];

/// Tokens that hide what a masked model shall guess.
pub(crate) const MASK: &[&str] = &["[MASK]", "<mask>", "<|mask|>"];
