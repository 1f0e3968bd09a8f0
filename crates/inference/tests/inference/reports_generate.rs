//! Reports of users of other programs about generating, by their number in the list.

use taal_inference::{GenerateOptions, Generation, LanguageModel, Prompt, Sampling, generate};

use crate::scripted::{self, byte_tokenizer, chain, sentence_piece_tokenizer};

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    }
}

/// The continuation, whose pieces must be its text.
fn heard(lm: &LanguageModel, prompt: &Prompt, options: &GenerateOptions) -> Generation {
    let mut pieces = String::new();
    let generation = generate(lm, prompt, options, &mut |piece| pieces.push_str(piece)).expect("a generation");
    assert_eq!(generation.text.as_deref().unwrap_or_default(), pieces);
    generation
}

#[test]
fn a_scripted_model_says_its_script() {
    let tokenizer = byte_tokenizer(&["\u{120}cat"], &["<s>"]);
    assert_eq!(tokenizer.token_to_id("<s>"), Some(257));
    let script = chain(&[b'a'.into(), 256, b'!'.into(), b'?'.into()]);
    let lm = LanguageModel::new(scripted::model(258, 32, &script), Some(tokenizer));
    let generation = heard(&lm, &Prompt::from("a"), &greedy(3));
    assert_eq!(generation.text.as_deref(), Some(" cat!?"));

    let tokenizer = sentence_piece_tokenizer(&["\u{2581}a", "\u{2581}sat"]);
    let lm = LanguageModel::new(scripted::model(261, 32, &chain(&[259, 260, 259])), Some(tokenizer));
    let generation = heard(&lm, &Prompt::Ids(vec![259]), &greedy(2));
    assert_eq!(generation.text.as_deref(), Some(" sat a"));
}
