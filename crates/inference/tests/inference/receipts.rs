//! A receipt is enough to compute an answer again, and says what is not as it was.

use std::ops::ControlFlow;
use std::sync::Arc;

use taal_inference::{
    Constraint, Engine, EngineOptions, Event, FinishReason, GenerateOptions, LanguageModel, Prompt, Receipt, Request,
    Sampling, generate, replay,
};
use taal_model::{TransformerConfig, WeightFormat};

use crate::{size, tiny};

fn model(seed: u64) -> Arc<LanguageModel> {
    let config = TransformerConfig {
        tie_embeddings: false,
        ..TransformerConfig::llama(size(tiny::VOCAB_SIZE, 40, 2, 4, 32))
    };
    Arc::new(LanguageModel::new(
        tiny::model(&config, seed),
        Some(tiny::char_tokenizer()),
    ))
}

fn options(index: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens: 50,
        sampling: Sampling {
            seed: u64::MAX - index as u64,
            temperature: [0.0, 1.0 / 3.0, 1.1][index % 3],
            top_p: Some(0.1 + 0.2 * 4.0),
            repetition_penalty: 1.1,
            ..Sampling::default()
        },
        stop: vec!["ab".to_owned()],
        constraint: (index % 4 == 3).then(|| Constraint::Regex("[a-f ]{3,20}".to_owned())),
        ..GenerateOptions::default()
    }
}

fn read_again(receipt: &Receipt) -> Receipt {
    serde_json::from_str(&serde_json::to_string(receipt).expect("JSON")).expect("a receipt")
}

#[test]
fn an_answer_given_among_others_is_computed_again_from_its_receipt() {
    for lm in [model(1), Arc::new(tiny::recurrent_model())] {
        let engine = Engine::start(lm.clone(), EngineOptions::default()).expect("an engine");
        let ask = |index: usize| {
            let request = Request::new(Prompt::from(["a", "de b", "cab"][index % 3]), options(index));
            engine.ask(request).expect("a request")
        };
        let asked: Vec<_> = (0..12).map(ask).collect();
        for (index, answer) in asked.into_iter().enumerate() {
            let generation = answer.wait().expect("an answer").generation;
            let receipt = engine.receipt(None, &options(index), &generation).expect("a receipt");
            let receipt = read_again(&receipt);
            let again = replay(&lm, &receipt).expect("an answer");
            assert_eq!((again.answer, again.surroundings), (vec![], vec![]), "{index}");
            let again = again.generation.expect("an answer");
            assert_eq!(again.text, generation.text, "{index}");
            assert_eq!(again.token_ids, generation.token_ids, "{index}");
            assert_eq!(again.finish_reason, generation.finish_reason, "{index}");
        }
    }
}

#[test]
fn a_text_whose_context_slides_and_a_cancelled_answer_are_computed_again() {
    let lm = Arc::new(tiny::char_model());
    let settings = GenerateOptions {
        stop: Vec::new(),
        ..options(2)
    };
    let all = &mut |_: &str| ControlFlow::Continue(());
    let generation = generate(&lm, &Prompt::from("abcdefgh"), &settings, all).expect("a text");
    assert!(generation.slid_tokens > 0);
    let receipt = Receipt::new(&lm, None, &settings, &generation).expect("a receipt");
    assert_eq!(
        replay(&lm, &receipt).expect("a text").generation.expect("a text").text,
        generation.text
    );

    let lm = model(1);
    let engine = Engine::start(lm.clone(), EngineOptions::default()).expect("an engine");
    let (send, events) = std::sync::mpsc::channel();
    let mut ticket = None;
    ticket.replace(
        engine
            .submit(Request::new(Prompt::from("a"), settings.clone()), move |event| {
                let _ = send.send(event);
            })
            .expect("a request"),
    );
    let mut generation = None;
    while let Ok(event) = events.recv() {
        match event {
            Event::Token { .. } => drop(ticket.take()),
            Event::Finished { generation: found, .. } => generation = Some(*found),
            _ => {}
        }
    }
    let generation = generation.expect("an answer");
    let receipt = engine.receipt(None, &settings, &generation).expect("a receipt");
    let again = replay(&lm, &receipt).expect("an answer");
    assert_eq!(again.answer, []);
    assert_eq!(again.generation.expect("an answer").token_ids, generation.token_ids);
}

#[test]
fn what_differs_is_named() {
    let lm = model(1);
    let settings = options(2);
    let all = &mut |_: &str| ControlFlow::Continue(());
    let generation = generate(&lm, &Prompt::from("de b"), &settings, all).expect("a text");
    let receipt = Receipt::new(&lm, None, &settings, &generation).expect("a receipt");
    assert!(receipt.token_ids.len() > 2 && receipt.finish_reason != FinishReason::Cancelled);
    let differences = |lm: &Arc<LanguageModel>, receipt: &Receipt| {
        let again = replay(lm, receipt).expect("a replay");
        let named: Vec<&str> = again
            .surroundings
            .iter()
            .chain(&again.answer)
            .map(|found| found.what)
            .collect();
        (again.generation.is_some(), named)
    };
    assert_eq!(differences(&model(2), &receipt), (false, vec!["weights"]));
    let rounded = LanguageModel::new(lm.model.clone(), Some(tiny::char_tokenizer()));
    let rounded = Arc::new(rounded.with_weights(WeightFormat::F16).expect("a model"));
    assert_eq!(differences(&rounded, &receipt), (false, vec!["weights"]));
    let bare = Arc::new(LanguageModel::new(lm.model.clone(), None));
    assert_eq!(differences(&bare, &receipt), (false, vec!["tokenizer"]));

    let elsewhere = Receipt {
        kernels: "riscv64".to_owned(),
        taal: "0.0.1".to_owned(),
        ..receipt.clone()
    };
    assert_eq!(differences(&lm, &elsewhere), (true, vec!["version of Taal", "kernels"]));
    let mut other_token = receipt.clone();
    other_token.token_ids[1] ^= 1;
    assert_eq!(differences(&lm, &other_token), (true, vec!["answer"]));
    let again = replay(&lm, &other_token).expect("a replay");
    assert!(
        again.answer[0].to_string().contains("token 2 is"),
        "{}",
        again.answer[0]
    );
    let mut shorter = receipt.clone();
    shorter.token_ids.pop();
    assert_eq!(differences(&lm, &shorter), (true, vec!["answer"]));
    let other_text = Receipt {
        text: Some("00".to_owned()),
        ..receipt.clone()
    };
    assert_eq!(differences(&lm, &other_text), (true, vec!["text"]));
    let all = [
        (FinishReason::Length, "length"),
        (FinishReason::Stop, "stop"),
        (FinishReason::Eos, "eos"),
        (FinishReason::Complete, "complete"),
    ];
    for (reason, word) in all.into_iter().filter(|(reason, _)| *reason != receipt.finish_reason) {
        let other_end = Receipt {
            finish_reason: reason,
            ..receipt.clone()
        };
        assert_eq!(differences(&lm, &other_end), (true, vec!["end of the answer"]));
        let again = replay(&lm, &other_end).expect("a replay");
        assert!(again.answer[0].to_string().contains(word), "{}", again.answer[0]);
    }
    // An answer that was cancelled before its first token has the text of no token.
    let cancelled = Receipt {
        token_ids: Vec::new(),
        finish_reason: FinishReason::Cancelled,
        text: Some("00".to_owned()),
        ..receipt
    };
    assert_eq!(differences(&lm, &cancelled), (true, vec!["text"]));
}
