//! Answers of a given form: whatever the model would like to say, the text has it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Value, json};
use taal_inference::{
    BeamOptions, Constraint, Engine, EngineOptions, FinishReason, GenerateOptions, Generation, Generator,
    InferenceError, LanguageModel, Prompt, Request, Result, Sampling, beam_search, generate,
};
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

use crate::schemas::{self, Random};
use crate::{scripted, size, tiny};

/// Bytes and pieces of JSON.
fn json_tokenizer() -> Tokenizer {
    let text = "{\"naam\": [1, 2, \"a\"], \"value\": {\"x\": null, \"y\": true}, \"next\": [false, -1.5]}";
    TrainerConfig::new(Kind::Bpe, 300)
        .train([text, text])
        .expect("a tokenizer")
}

fn random_model(tokenizer: Tokenizer, context: usize) -> Arc<LanguageModel> {
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), context, 1, 2, 16));
    Arc::new(LanguageModel::new(tiny::model(&config, 5), Some(tokenizer)))
}

/// Settings that a random model ends texts with: quotes and closing brackets are likely where they are allowed.
fn options(lm: &LanguageModel, constraint: Constraint, seed: u64) -> GenerateOptions {
    let tokenizer = lm.tokenizer.as_ref().expect("a tokenizer");
    let favored = ["\"", "}", "]", ","].map(|text| (tokenizer.token_to_id(text).expect("a byte"), 5.0));
    GenerateOptions {
        max_tokens: 1000,
        sampling: Sampling {
            seed,
            logit_bias: BTreeMap::from(favored),
            ..Sampling::default()
        },
        constraint: Some(constraint),
        ..GenerateOptions::default()
    }
}

fn constrained(lm: &LanguageModel, prompt: &Prompt, constraint: Constraint) -> Result<Generation> {
    let options = GenerateOptions {
        max_tokens: 60,
        constraint: Some(constraint),
        ..GenerateOptions::default()
    };
    generate(lm, prompt, &options, &mut |_| ControlFlow::Continue(()))
}

fn text(generation: &Generation) -> &str {
    generation.text.as_deref().expect("text")
}

/// Answers of random schemas, many at once.
fn check_schemas(count: usize, seed: u64) {
    let lm = random_model(json_tokenizer(), 1024);
    let options_of_engine = EngineOptions {
        queue: count,
        ..EngineOptions::default()
    };
    let engine = Engine::start(lm.clone(), options_of_engine).expect("an engine");
    let mut random = Random(seed);
    let ask = |index: usize| {
        let schema = schemas::schema(&mut random);
        let options = options(&lm, Constraint::JsonSchema(schema.clone()), index as u64);
        let answer = engine.ask(Request::new(Prompt::from("{"), options));
        (
            answer.unwrap_or_else(|error| panic!("schema {index}: {error}: {schema}")),
            schema,
        )
    };
    let asked: Vec<_> = (0..count).map(ask).collect();
    for (index, (answer, schema)) in asked.into_iter().enumerate() {
        let generation = answer.wait().expect("an answer").generation;
        let text = text(&generation);
        let reason = generation.finish_reason;
        assert_ne!(reason, FinishReason::Length, "schema {index}: {schema}: {text}");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{index}: {error}: {text}"));
        assert!(
            schemas::is_valid(&schema, &schema, &value),
            "schema {index}: {schema}: {text}"
        );
    }
}

#[test]
fn answers_of_a_thousand_random_schemas_are_valid() {
    check_schemas(1000, 19);
}

#[test]
fn the_check_of_values_sees_what_is_wrong() {
    let schema = json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
        "a": {"type": "integer", "minimum": 3, "maximum": 5},
        "b": {"anyOf": [{"type": "string", "maxLength": 1}, {"$ref": "#/$defs/leaf"}]},
    }, "$defs": {"leaf": {"const": [1]}}});
    let is_valid = |value: Value| schemas::is_valid(&schema, &schema, &value);
    for value in [json!({"a": 3}), json!({"a": 5, "b": "é"}), json!({"a": 4, "b": [1]})] {
        assert!(is_valid(value.clone()), "{value}");
    }
    let wrong = [
        json!({}),
        json!({"a": 2}),
        json!({"a": 6}),
        json!({"a": 3.5}),
        json!({"a": "4"}),
    ];
    let more = [
        json!({"a": 3, "b": "ab"}),
        json!({"a": 3, "b": [2]}),
        json!({"a": 3, "c": 1}),
        json!([]),
    ];
    for value in wrong.into_iter().chain(more) {
        assert!(!is_valid(value.clone()), "{value}");
    }
}

#[test]
fn constrained_answers_are_the_same_alone_together_and_in_the_engine() {
    let lm = random_model(json_tokenizer(), 1024);
    let schema = json!({"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 4});
    let constraints = [
        Constraint::JsonSchema(schema),
        Constraint::JsonObject,
        Constraint::Regex("(ja|nee)( [0-9]+){3,5}!".to_owned()),
        Constraint::Lark("start: \"(\" start \")\" | /[xyz]{1,9}/".to_owned()),
    ];
    let settings = |index: usize| GenerateOptions {
        max_tokens: 40,
        ..options(&lm, constraints[index % 4].clone(), index as u64)
    };
    let prompt = Prompt::from("[");
    let all = &mut |_: &str| ControlFlow::Continue(());
    let alone: Vec<Generation> = (0..12)
        .map(|index| generate(&lm, &prompt, &settings(index), all).expect("an answer"))
        .collect();

    let engine = Engine::start(lm.clone(), EngineOptions::default()).expect("an engine");
    let ask = |index| {
        engine
            .ask(Request::new(prompt.clone(), settings(index)))
            .expect("a request")
    };
    let asked: Vec<_> = (0..12).map(ask).collect();
    for (answer, alone) in asked.into_iter().zip(&alone) {
        assert_eq!(&answer.wait().expect("an answer").generation, alone);
    }

    let mut generator = Generator::new(lm.clone(), 12).expect("a generator");
    let ids: Vec<_> = (0..12)
        .map(|index| generator.add(&prompt, settings(index)).expect("room"))
        .collect();
    while generator.is_running() {
        for progress in generator.step().expect("a step") {
            if let Some(finished) = progress.finished {
                let index = ids.iter().position(|id| *id == progress.id).expect("a sequence");
                assert_eq!(finished, alone[index], "{index}");
            }
        }
    }
    assert!(
        alone
            .iter()
            .any(|answer| answer.finish_reason == FinishReason::Complete)
    );
}

/// After every digit the model wants the end of the text, which is forbidden until there are two.
#[test]
fn a_text_ends_only_where_the_form_is_complete() {
    let script = [(u32::from(b'?'), 256), (u32::from(b'0'), 256)];
    let tokenizer = scripted::qwen();
    let lm = LanguageModel::new(scripted::model(259, 64, &script), Some(tokenizer));
    let greedy = |constraint: &str, stop_at_eos| {
        let options = GenerateOptions {
            max_tokens: 8,
            sampling: Sampling::greedy(),
            constraint: Some(Constraint::Regex(constraint.to_owned())),
            stop_at_eos,
            ..GenerateOptions::default()
        };
        let generation = generate(&lm, &Prompt::from("?"), &options, &mut |_| ControlFlow::Continue(()));
        let generation = generation.expect("an answer");
        (generation.token_ids, generation.finish_reason)
    };
    assert_eq!(greedy("[0-9]{2,}", true), (vec![48, 48, 256], FinishReason::Eos));
    assert_eq!(greedy("[0-9]{3}", true), (vec![48; 3], FinishReason::Complete));
    assert_eq!(greedy("[0-9]{2,}", false), (vec![48; 8], FinishReason::Length));
    assert_eq!(greedy("", true), (vec![], FinishReason::Complete));
}

#[test]
fn a_grammar_can_name_special_tokens() {
    let lm = LanguageModel::new(scripted::model(259, 64, &[]), Some(scripted::qwen()));
    let constraint = Constraint::Lark("start: \"x\" <|im_start|> /y+/ <|im_end|>".to_owned());
    let options = GenerateOptions {
        sampling: Sampling::greedy(),
        stop_at_eos: false,
        constraint: Some(constraint),
        max_tokens: 5,
        ..GenerateOptions::default()
    };
    let generation = generate(&lm, &Prompt::from("?"), &options, &mut |_| ControlFlow::Continue(()));
    let generation = generation.expect("an answer");
    assert_eq!(generation.token_ids[..3], [u32::from(b'x'), 257, u32::from(b'y')]);
    assert!(text(&generation).starts_with("xy"), "{generation:?}");
}

/// With the token that ends texts, too: in the middle of a form it is a part of it, at its end it completes it.
#[test]
fn a_grammar_can_name_a_token_that_ends_texts() {
    let lm = LanguageModel::new(scripted::model(259, 64, &[]), Some(scripted::qwen()));
    assert!(lm.end_ids.contains(&256));
    for (grammar, ids) in [
        ("start: <|endoftext|>", vec![256]),
        ("start: \"x\" <|endoftext|>", vec![u32::from(b'x'), 256]),
        (
            "start: \"x\" <|endoftext|> \"y\"",
            vec![u32::from(b'x'), 256, u32::from(b'y')],
        ),
    ] {
        for stop_at_eos in [true, false] {
            let options = GenerateOptions {
                sampling: Sampling::greedy(),
                stop_at_eos,
                constraint: Some(Constraint::Lark(grammar.to_owned())),
                max_tokens: 9,
                ..GenerateOptions::default()
            };
            let prompt = Prompt::from("?");
            let generation = generate(&lm, &prompt, &options, &mut |_| ControlFlow::Continue(()));
            let generation = generation.unwrap_or_else(|error| panic!("{grammar}: {error}"));
            assert_eq!(
                (&generation.token_ids, generation.finish_reason),
                (&ids, FinishReason::Complete),
                "{grammar}, {stop_at_eos}"
            );
            let beams = beam_search(&lm, &prompt, &options, &BeamOptions::default()).expect("texts");
            assert_eq!(beams[0].generation.token_ids, ids, "{grammar}, {stop_at_eos}");
        }
    }
}

/// A token's text at the beginning and after other text differs, and the form counts what the text shows.
#[test]
fn the_text_has_the_form_with_every_kind_of_tokenizer() {
    let letters: Vec<String> = ('a'..='z').map(|letter| letter.to_string()).collect();
    let words = [
        "\u{2581}",
        "\u{2581}kat",
        "kat",
        "\u{2581}hond",
        "hond",
        "\u{2581}ka",
        "t",
    ];
    let pieces: Vec<&str> = words.into_iter().chain(letters.iter().map(String::as_str)).collect();
    let mut unique: Vec<&str> = Vec::new();
    for piece in pieces {
        if !unique.contains(&piece) {
            unique.push(piece);
        }
    }
    let sentence_piece = scripted::sentence_piece_tokenizer(&unique);
    let corpus = "kat hond kat hond kat\nhond";
    let train = |kind, size| {
        let trained = TrainerConfig::new(kind, size).train([corpus]);
        trained.expect("a tokenizer")
    };
    let word_piece = train(Kind::WordPiece, 60);
    let tokenizers = [
        ("bytes", train(Kind::Bpe, 270)),
        ("characters", train(Kind::Char, 50)),
        ("unigram", train(Kind::Unigram, 290)),
        ("SentencePiece", sentence_piece),
        ("WordPiece", word_piece),
    ];
    for (name, tokenizer) in tokenizers {
        let prompts = [Prompt::from("kat"), Prompt::from("hond kat")];
        let begin = tokenizer.bos_id().map(|id| Prompt::Ids(vec![id]));
        let lm = random_model(tokenizer, 64);
        for prompt in prompts.into_iter().chain(begin) {
            // WordPiece puts a space before a word that follows another.
            let constraint = Constraint::Regex(" ?(kat|hond)( (kat|hond)){2}".to_owned());
            let generation = constrained(&lm, &prompt, constraint);
            let generation = generation.unwrap_or_else(|error| panic!("{name}, {prompt:?}: {error}"));
            let text = text(&generation);
            let words: Vec<&str> = text.strip_prefix(' ').unwrap_or(text).split(' ').collect();
            assert_eq!(words.len(), 3, "{name}, {prompt:?}: {text:?}");
            assert!(
                words.iter().all(|word| ["kat", "hond"].contains(word)),
                "{name}, {prompt:?}: {text:?}"
            );
            assert_ne!(
                generation.finish_reason,
                FinishReason::Length,
                "{name}, {prompt:?}: {text:?}"
            );
        }
    }
}

#[test]
fn a_form_that_no_text_has_is_refused_before_the_first_token() {
    let lm = random_model(json_tokenizer(), 64);
    let engine = Engine::start(lm.clone(), EngineOptions::default()).expect("an engine");
    let itself = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    let nobody = json!({"type": "object", "properties": {"a": false}, "required": ["a"]});
    let schemas = [
        json!(false),
        json!(3),
        json!({"type": "whatever"}),
        json!({"type": "integer", "minimum": 5, "maximum": 3}),
        json!({"type": "string", "minLength": 5, "maxLength": 3}),
        json!({"not": {"type": "string"}, "type": "object"}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"$ref": "https://example.com/schema.json"}),
        nobody,
        itself,
    ];
    let others = [
        Constraint::Regex("[a".to_owned()),
        Constraint::Regex("(?=a)b".to_owned()),
        Constraint::Regex("[a&&b]".to_owned()),
        Constraint::Lark("start: missing".to_owned()),
        Constraint::Lark("start: \"a\" start".to_owned()),
        Constraint::Lark("start: <|missing|>".to_owned()),
        Constraint::Lark(String::new()),
    ];
    for constraint in schemas.into_iter().map(Constraint::JsonSchema).chain(others) {
        let request = Request::new(Prompt::from("{"), options(&lm, constraint.clone(), 0));
        let Err(error) = engine.ask(request) else {
            panic!("{constraint:?} was accepted");
        };
        let is_meant = matches!(
            error,
            InferenceError::Constraint { .. } | InferenceError::NoTokenFits { .. }
        );
        let message = error.to_string();
        assert!(
            is_meant && !message.contains('\n') && message.len() < 500,
            "{constraint:?}: {message}"
        );
        println!("{message}");
    }
    assert_eq!(engine.stats().accepted, 0);
}

#[test]
fn what_a_schema_says_and_cannot_be_kept_is_refused_with_its_place() {
    let lm = random_model(json_tokenizer(), 64);
    let exact = 1_u64 << 53;
    let two = json!({"type": "object", "minProperties": 2});
    let pattern = json!({"type": "object", "minProperties": 2, "patternProperties": {"^a$": {"const": 1}}, "additionalProperties": false});
    let long: Value = serde_json::from_str("{\"const\": 12345678901234567890123}").expect("JSON");
    let many: serde_json::Map<String, Value> = (0..2001).map(|index| (index.to_string(), json!(true))).collect();
    let patterns = (0..65).map(|index| (format!("^{index}$"), json!(true)));
    let patterns: serde_json::Map<String, Value> = patterns.collect();
    for (schema, place) in [
        (
            json!({"enum": ["a", exact + 1]}),
            "#/enum/1: the number 9007199254740993 ",
        ),
        (
            json!({"properties": {"a": {"const": {"b": exact + 1}}}}),
            "#/properties/a/const/b: ",
        ),
        (long, "#/const: "),
        (
            json!({"anyOf": [{"type": "integer", "minimum": 1_u64 << 63}]}),
            "#/anyOf/0/minimum: ",
        ),
        (
            json!({"type": "number", "exclusiveMaximum": -1e18}),
            "#/exclusiveMaximum: ",
        ),
        (two.clone(), "#/minProperties: 2 "),
        (pattern, "#/minProperties: 2 "),
        (
            json!({"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": two}}),
            "#/$defs/a/minProperties: ",
        ),
        (
            json!({"type": "object", "properties": many}),
            "2001 properties, and at most 2000",
        ),
        (
            json!({"type": "object", "patternProperties": patterns}),
            "65 patterns of properties, and at most 64",
        ),
    ] {
        match constrained(&lm, &Prompt::from("{"), Constraint::JsonSchema(schema.clone())) {
            Err(InferenceError::Constraint { detail, .. }) => assert!(detail.contains(place), "{detail}"),
            other => panic!("{schema}: {other:?}"),
        }
    }
    // What can be kept is kept, and limits that allow more than 2^53 allow as much.
    for (schema, said) in [
        (json!({"enum": [exact]}), exact.to_string()),
        (json!({"const": 1_u64 << 60}), (1_u64 << 60).to_string()),
        (json!({"const": i64::MIN / 2}), (i64::MIN / 2).to_string()),
        (json!({"const": 0.1}), "0.1".to_owned()),
    ] {
        let answer = constrained(&lm, &Prompt::from("{"), Constraint::JsonSchema(schema.clone()));
        let answer = answer.unwrap_or_else(|error| panic!("{schema}: {error}"));
        assert_eq!(text(&answer), said, "{schema}");
    }
    let range = json!({"type": "integer", "minimum": exact - 1, "maximum": u64::MAX});
    let answer = constrained(&lm, &Prompt::from("{"), Constraint::JsonSchema(range)).expect("a number");
    let number: u64 = text(&answer).parse().expect("a number");
    assert!((exact - 1..=exact).contains(&number), "{number}");
    let closed = json!({"type": "object", "minProperties": 3, "required": ["a", "b"], "properties": {
        "a": {"const": 1}, "b": {"const": 2}}, "additionalProperties": {"const": 3}});
    assert!(constrained(&lm, &Prompt::from("{"), Constraint::JsonSchema(closed)).is_ok());
}

/// The library's own limit is reached with 500 of them.
#[test]
fn two_thousand_properties_may_be_optional() {
    let lm = random_model(json_tokenizer(), 256);
    let names: serde_json::Map<String, Value> = (0..2000)
        .map(|index| (index.to_string(), json!({"type": "boolean"})))
        .collect();
    let schema = json!({"type": "object", "properties": names, "additionalProperties": false});
    for seed in 0..2 {
        let options = GenerateOptions {
            max_tokens: 30,
            ..options(&lm, Constraint::JsonSchema(schema.clone()), seed)
        };
        let answer = generate(&lm, &Prompt::from("{"), &options, &mut |_| ControlFlow::Continue(()));
        let answer = answer.expect("an answer");
        assert!(text(&answer).starts_with('{'), "{answer:?}");
        if answer.finish_reason != FinishReason::Length {
            let value: Value = serde_json::from_str(text(&answer)).expect("JSON");
            assert!(schemas::is_valid(&schema, &schema, &value), "{value}");
        }
    }
}

#[test]
fn a_form_beyond_a_limit_of_the_library_is_refused_in_words_of_the_client() {
    let lm = random_model(json_tokenizer(), 64);
    let lists: Vec<Value> = (0..3000)
        .map(|index| json!({"type": "array", "items": {"const": index}, "minItems": 1}))
        .collect();
    let found = constrained(&lm, &Prompt::from("["), Constraint::JsonSchema(json!({"anyOf": lists})));
    match found {
        Err(InferenceError::Constraint { detail, .. }) => {
            assert!(detail.contains("too many things at one place"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vocabulary_that_cannot_write_the_form_is_an_error() {
    let lm = tiny::char_model();
    let prompt = Prompt::from("a");
    let cannot = |constraint| match constrained(&lm, &prompt, constraint) {
        Err(InferenceError::NoTokenFits { kind }) => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(cannot(Constraint::JsonObject), "JSON object");
    assert_eq!(cannot(Constraint::Regex("ab?X".to_owned())), "regular expression");
    let can = constrained(&lm, &prompt, Constraint::Regex("(ab|cd)é?".to_owned())).expect("a text");
    assert!(["ab", "cd"].contains(&text(&can)), "{can:?}");
    assert_eq!(can.finish_reason, FinishReason::Complete);
}

#[test]
fn a_form_needs_a_tokenizer() {
    let config = TransformerConfig::llama(size(20, 16, 1, 2, 16));
    let lm = LanguageModel::new(tiny::model(&config, 1), None);
    let error = constrained(&lm, &Prompt::Ids(vec![1]), Constraint::JsonObject).expect_err("no tokenizer");
    assert!(matches!(error, InferenceError::NoTokenizer { .. }), "{error}");
}
