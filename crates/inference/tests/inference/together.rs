//! Several prompts continued together give the same texts as alone, and any of them can be stopped.

use std::ops::ControlFlow;
use std::sync::Arc;

use taal_inference::{
    FinishReason, GenerateOptions, Generation, Generator, LanguageModel, Prompt, Sampling, SequenceId, generate,
};

use crate::tiny;

fn options(max_tokens: usize, seed: u64) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling {
            temperature: 0.9,
            seed,
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    }
}

fn alone(lm: &LanguageModel, prompt: &Prompt, options: &GenerateOptions) -> Generation {
    generate(lm, prompt, options, &mut |_| ControlFlow::Continue(())).expect("a continuation")
}

/// Steps until all sequences have ended; returns each generation and its streamed text.
fn run(generator: &mut Generator) -> Vec<(SequenceId, Generation, String)> {
    let mut texts = std::collections::BTreeMap::<SequenceId, String>::new();
    let mut ended = Vec::new();
    while generator.is_running() {
        for progress in generator.step().expect("a step") {
            texts.entry(progress.id).or_default().push_str(&progress.text);
            if let Some(generation) = progress.finished {
                let text = texts.remove(&progress.id).expect("it was seen");
                ended.push((progress.id, generation, text));
            }
        }
    }
    ended.sort_by_key(|(id, ..)| *id);
    ended
}

/// Contexts fill and slide, a sequence replaces one that ended, and one is added late.
#[test]
fn prompts_of_different_lengths_give_the_same_texts_as_alone() {
    for lm in [tiny::char_model(), tiny::byte_model(), tiny::recurrent_model()] {
        let lm = Arc::new(lm);
        let prompts = ["a", "abcab cab", "cab a", "b", "abc abc abc abc abc abc abc"].map(Prompt::from);
        let wanted = |index: usize| options([9, 30, 3, 12, 60][index], 7 + index as u64);
        let mut generator = Generator::new(lm.clone(), 3).unwrap();
        for (index, prompt) in prompts.iter().enumerate().take(3) {
            generator.add(prompt, wanted(index)).unwrap();
        }
        assert!(!generator.has_room());
        let error = generator.add(&prompts[3], wanted(3)).expect_err("no room");
        assert!(error.to_string().contains("3 running sequences"), "{error}");
        let mut ended = Vec::new();
        for _ in 0..4 {
            ended.extend(
                generator
                    .step()
                    .unwrap()
                    .into_iter()
                    .filter_map(|progress| progress.finished),
            );
        }
        assert_eq!(
            ended,
            [alone(&lm, &prompts[2], &wanted(2))],
            "three tokens are the first end"
        );
        generator.add(&prompts[4], wanted(4)).unwrap();
        let found: Vec<Generation> = run(&mut generator)
            .into_iter()
            .map(|(_, generation, _)| generation)
            .collect();
        let expected = [0, 1, 4].map(|index| alone(&lm, &prompts[index], &wanted(index)));
        assert_eq!(found, expected);
        assert!(found[2].slid_tokens > 0 || lm.model.config().context_limit().is_none());
    }
}

#[test]
fn the_text_comes_in_pieces_and_stop_strings_end_one_sequence_only() {
    let lm = Arc::new(tiny::char_model());
    let (first, second) = (Prompt::from("ab"), Prompt::from("cab"));
    let whole = alone(&lm, &first, &options(30, 3)).text.expect("a text");
    let stop = whole[4..6].to_owned();
    let stopped = GenerateOptions {
        stop: vec![stop],
        ..options(30, 3)
    };
    let mut generator = Generator::new(lm.clone(), 2).unwrap();
    generator.add(&first, stopped.clone()).unwrap();
    generator.add(&second, options(20, 4)).unwrap();
    let ended = run(&mut generator);
    assert_eq!(ended[0].1.finish_reason, FinishReason::Stop);
    assert_eq!(ended[0].1, alone(&lm, &first, &stopped));
    assert_eq!(ended[1].1, alone(&lm, &second, &options(20, 4)));
    for (_, generation, text) in ended {
        assert_eq!(generation.text, Some(text));
    }
}

#[test]
fn a_sequence_can_be_stopped_between_tokens() {
    let lm = tiny::char_model();
    let prompt = Prompt::from("abc");
    let mut pieces = 0;
    let cut = generate(&lm, &prompt, &options(30, 5), &mut |_| {
        pieces += 1;
        if pieces == 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    let whole = alone(&lm, &prompt, &options(30, 5));
    assert_eq!((cut.finish_reason, cut.token_ids.len()), (FinishReason::Cancelled, 4));
    assert_eq!(cut.token_ids, whole.token_ids[..4]);

    let lm = Arc::new(lm);
    let mut generator = Generator::new(lm.clone(), 2).unwrap();
    let first = generator.add(&prompt, options(30, 5)).unwrap();
    let second = generator.add(&Prompt::from("c"), options(10, 6)).unwrap();
    for _ in 0..4 {
        generator.step().unwrap();
    }
    assert_eq!(generator.cancel(first).unwrap(), Some(cut));
    assert_eq!(generator.cancel(first).unwrap(), None);
    let rest = run(&mut generator);
    assert_eq!(rest.len(), 1);
    assert_eq!(
        (rest[0].0, &rest[0].1),
        (second, &alone(&lm, &Prompt::from("c"), &options(10, 6)))
    );
}

#[test]
fn a_prompt_without_tokens_to_make_ends_at_once_and_bad_settings_are_refused() {
    let lm = Arc::new(tiny::char_model());
    let mut generator = Generator::new(lm.clone(), 1).unwrap();
    generator.add(&Prompt::from("abc"), options(0, 1)).unwrap();
    let ended = run(&mut generator);
    assert_eq!(ended[0].1, alone(&lm, &Prompt::from("abc"), &options(0, 1)));
    let wrong = GenerateOptions {
        stop: vec![String::new()],
        ..options(3, 1)
    };
    assert!(generator.add(&Prompt::from("abc"), wrong).is_err());
    assert!(generator.has_room());
    assert!(Generator::new(lm, 0).is_err());
}
