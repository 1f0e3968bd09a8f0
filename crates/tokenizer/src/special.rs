//! The names by which special tokens are recognized, most specific first.

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

/// Tokens that pad a batch.
pub(crate) const PADDING: &[&str] = &["[PAD]", "<pad>", "<|pad|>"];

/// Tokens for text outside the vocabulary.
pub(crate) const UNKNOWN: &[&str] = &["[UNK]", "<unk>", "<|unk|>"];

/// Tokens that mask what a masked model predicts.
pub(crate) const MASK: &[&str] = &["[MASK]", "<mask>", "<|mask|>"];
