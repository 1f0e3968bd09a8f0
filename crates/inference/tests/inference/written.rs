//! Sources that are not written as sentences: a translator reads them as sentences and writes as they were.

use taal_inference::{LanguageModel, TranslateOptions, Translation, Translator};
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, TrainerConfig};

use crate::size;
use crate::translating::{facts, options, writing};

/// A model that writes a name whatever it reads.
fn writer() -> LanguageModel {
    let text = "Tom\nWhere is it\nThe dog\nStop it now\n".repeat(20);
    let tokenizer = TrainerConfig::new(Kind::Bpe, 320).train([text]).expect("merges");
    let config = TransformerConfig {
        decoder_start: tokenizer.eos_id(),
        ..TransformerConfig::marian(size(tokenizer.vocab_size(), 40, 1, 2, 16))
    };
    let id = tokenizer.token_to_id("Tom").expect("one token");
    LanguageModel::new(writing(&config, id), Some(tokenizer))
}

fn translated(lm: &LanguageModel, source: &str) -> Translation {
    let one_token: TranslateOptions = options(1, 1);
    let translator = Translator::new(lm, one_token).expect("a translator");
    translator.translate(&[source]).expect("a translation").remove(0)
}

#[test]
fn a_translation_is_written_as_its_source() {
    let lm = writer().with_translation(facts());
    for (source, read, written) in [
        ("Where is it", "Where is it", "Tom"),
        ("where is  it", "Where is it", "tom"),
        ("where is Tom", "Where is Tom", "Tom"),
        ("WHERE IS IT", "Where is it", "TOM"),
        ("- where is it", "Where is it", "- tom"),
        ("\u{2022}  Where is it", "Where is it", "\u{2022}  Tom"),
        ("-where", "-where", "Tom"),
    ] {
        let found = translated(&lm, source);
        assert_eq!(found.source, source);
        assert_eq!(
            (found.read.as_deref(), found.translation.as_str()),
            (Some(read), written),
            "{source}"
        );
    }
    // A model of which the languages are not known reads what it is given.
    let found = translated(&writer(), "where is  it");
    assert_eq!(
        (found.read.as_deref(), found.translation.as_str()),
        (Some("where is  it"), "Tom")
    );
}

#[test]
fn addresses_and_long_numbers_stay_as_they_are() {
    let lm = writer().with_translation(facts());
    for (source, read, written) in [
        ("The dog of jan@taal.nl.", "The dog of Tom.", "jan@taal.nl"),
        ("See https://taal.nl/?a=B, now", "See Tom, now", "https://taal.nl/?a=B"),
        ("call 06-12345678!", "Call Tom!", "06-12345678"),
    ] {
        let found = translated(&lm, source);
        assert_eq!(
            (found.read.as_deref(), found.translation.as_str()),
            (Some(read), written),
            "{source}"
        );
        assert_eq!(found.unknown, 0, "an address is of no language");
    }
    let long = format!("See www.taal.nl/{} now", "a".repeat(60));
    let found = translated(&lm, &long);
    assert_eq!(
        (found.read.as_deref(), found.parts),
        (Some("See Tom now"), 1),
        "it fits with a name"
    );
    let alone = translated(&lm, "www.taal.nl");
    assert_eq!(
        (alone.translation.as_str(), alone.parts, alone.unknown),
        ("www.taal.nl", 0, 0)
    );
    let known = translated(&writer(), "The dog of jan@taal.nl.");
    assert_eq!(known.translation, "Tom");
}

#[test]
fn words_of_the_translation_have_its_case_where_their_attention_is_shown() {
    let lm = writer().with_translation(facts());
    let asked = TranslateOptions {
        with_attention: true,
        ..options(1, 1)
    };
    for (source, word) in [("where is it", "tom"), ("WHERE IS IT", "TOM")] {
        let translator = Translator::new(&lm, asked).expect("a translator");
        let found = translator.translate(&[source]).expect("a translation").remove(0);
        let attention = found.attention.expect("attention");
        assert_eq!(attention.translation, [word]);
        assert_eq!(attention.source, ["Where", "is", "it"], "as the model reads them");
    }
}
