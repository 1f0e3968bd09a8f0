//! Continuations one after another: only what is new is computed, and the tokens are those of separate continuations.

use std::ops::ControlFlow;

use serde_json::json;
use taal_inference::{Decoder, GenerateOptions, Generation, LanguageModel, Prompt, Sampling, Session, generate};
use taal_tokenizer::chat::{ChatInput, Message};

use crate::scripted;
use crate::scripted::{QWEN_SCRIPT, chain, qwen, qwen_directory};
use crate::tiny::{CONTEXT, configs, model, recurrent_model};

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    }
}

fn alone(lm: &LanguageModel, prompt: &Prompt, max_tokens: usize) -> Generation {
    generate(lm, prompt, &greedy(max_tokens), &mut |_| ControlFlow::Continue(())).expect("a generation")
}

#[test]
fn a_session_gives_the_tokens_of_separate_continuations_and_computes_only_what_is_new() {
    for (name, config) in configs() {
        let lm = LanguageModel::new(model(&config, 3), None);
        let mut session = Session::new(&lm).expect("a session");
        let mut answer = |prompt: &[u32], tokens| {
            let prompt = Prompt::Ids(prompt.to_vec());
            let found = session
                .generate(&prompt, &greedy(tokens), &mut |_| ControlFlow::Continue(()))
                .expect("a generation");
            assert_eq!(found, alone(&lm, &prompt, tokens), "{name}");
            (found.token_ids, session.reused_tokens())
        };
        let (first, reused) = answer(&[4, 9, 1], 3);
        assert_eq!(reused, 0, "{name}");
        // The last answer's last token was drawn and never read.
        let second = [&[4, 9, 1], first.as_slice(), &[7]].concat();
        assert_eq!(answer(&second, 2).1, 5, "{name}");
        // Another answer to the same question.
        assert_eq!(
            answer(&second, 3).1,
            6,
            "{name}: all but the token whose logits are asked for"
        );
        assert_eq!(answer(&[4, 9, 2, 3], 2).1, 2, "{name}: what both begin with");
        assert_eq!(answer(&[5], 1).1, 0, "{name}");
        // Beyond the context the beginning is dropped, so nothing is where it was.
        let long: Vec<u32> = (0..CONTEXT as u32).collect();
        answer(&long, 9);
        answer(&long, 2);
    }
}

#[test]
fn a_recurrent_network_goes_on_and_cannot_go_back() {
    let lm = recurrent_model();
    let mut session = Session::new(&lm).expect("a session");
    let mut reused = |prompt: &[u32]| {
        let prompt = Prompt::Ids(prompt.to_vec());
        let found = session.generate(&prompt, &greedy(1), &mut |_| ControlFlow::Continue(()));
        assert_eq!(found.expect("a generation"), alone(&lm, &prompt, 1));
        session.reused_tokens()
    };
    assert_eq!(reused(&[1, 2, 3]), 0);
    assert_eq!(reused(&[1, 2, 3, 4, 5]), 3);
    assert_eq!(reused(&[1, 2, 3]), 0);
}

#[test]
fn a_cache_that_grows_keeps_what_it_holds() {
    let lm = LanguageModel::new(model(&configs()[7].1, 3), None);
    let mut small = Decoder::new(&lm.model, true).expect("a decoder").with_expected_len(2);
    let mut large = Decoder::new(&lm.model, true)
        .expect("a decoder")
        .with_expected_len(CONTEXT);
    for decoder in [&mut small, &mut large] {
        decoder.prefill(&[1, 2]).expect("logits");
    }
    for id in 3..9 {
        let [small, large] = [&mut small, &mut large].map(|decoder| decoder.decode(id).expect("logits"));
        assert_eq!(small, large);
    }
}

#[test]
fn chats_end_at_the_token_that_the_template_writes_after_an_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant?{% endif %}";
    let files = [(
        "tokenizer_config.json",
        json!({ "chat_template": template, "eos_token": "<|endoftext|>" }),
    )];
    let lm = qwen_directory(&folder.path().join("qwen"), json!({}), &files, Some(&qwen()));
    let template = lm.chat_template().expect("a template");
    assert_eq!(lm.end_of_turn(&template).as_deref(), Some("<|im_end|>"));
    let input = ChatInput {
        messages: vec![Message::new("user", "x")],
        ..ChatInput::default()
    };
    let text = template.render(&input).expect("a text").text;
    let ids = lm.chat_ids(&text).expect("ids");
    assert_eq!(
        (ids[0], ids.len()),
        (257, text.len() - "<|im_start|><|im_end|><|im_start|>".len() + 3)
    );
    let options = GenerateOptions {
        stop: lm.end_of_turn(&template).into_iter().collect(),
        ..greedy(9)
    };
    let mut session = Session::new(&lm).expect("a session");
    let found = session.generate(&Prompt::Ids(ids), &options, &mut |_| ControlFlow::Continue(()));
    let found = found.expect("a generation");
    assert_eq!(found.text.as_deref(), Some("ab"));
    assert_eq!(found.token_ids, QWEN_SCRIPT[1..4]);

    // Where the files name that token as an end, or the template writes none, there is nothing to add.
    let config = json!({ "eos_token_id": [256, 258] });
    let known = qwen_directory(&folder.path().join("known"), config, &files, Some(&qwen()));
    assert_eq!(known.end_of_turn(&known.chat_template().expect("a template")), None);
    let plain = [(
        "tokenizer_config.json",
        json!({ "chat_template": "{{ messages[-1].content }}\n" }),
    )];
    let plain = qwen_directory(&folder.path().join("plain"), json!({}), &plain, Some(&qwen()));
    assert_eq!(plain.end_of_turn(&plain.chat_template().expect("a template")), None);
}

#[test]
fn without_a_tokenizer_config_a_template_gets_the_tokens_that_begin_and_end_texts() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("model");
    let model = scripted::model(259, 64, &chain(&QWEN_SCRIPT));
    scripted::save(
        &model,
        Some(&qwen()),
        &dir,
        json!({ "bos_token_id": 257, "eos_token_id": 258 }),
        &[],
    );
    std::fs::write(
        dir.join("chat_template.jinja"),
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
    )
    .expect("written");
    let lm = LanguageModel::open(&dir, &burn::tensor::Device::flex()).expect("a model");
    let input = ChatInput {
        messages: vec![Message::new("user", "x")],
        ..ChatInput::default()
    };
    let text = lm
        .chat_template()
        .expect("a template")
        .render(&input)
        .expect("a text")
        .text;
    assert_eq!(text, "<|im_start|>x<|im_end|>");
}
