//! The sets of examples that come with the program.

use std::collections::BTreeSet;

use taal_data::{ConversationOptions, Conversations, Direction, Layout, example_set, example_sets, example_texts};

use super::characters;

#[test]
fn every_set_of_examples_has_a_source_a_license_and_rows_that_are_read() {
    for set in example_sets() {
        assert!(!set.license.is_empty() && !set.source.is_empty());
        let direction = match set.languages {
            [from, to] => Some(Direction {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
            }),
            _ => None,
        };
        let options = ConversationOptions {
            direction,
            ..ConversationOptions::default()
        };
        let texts = example_texts(set, &options).unwrap();
        assert_eq!(texts.len(), set.train_rows().lines().count());
        let tokenizer = characters(&(texts.concat() + &set.held_out_rows()));
        let found = Conversations::of_set(&tokenizer, set, 1024, &options).unwrap();
        let held_out = found.validation.expect("a held-out part");
        let lines = [set.train_rows(), set.held_out_rows()].map(|rows| rows.lines().count());
        assert_eq!([found.train.examples(), held_out.examples()], lines);
        assert_eq!((found.counts.truncated, held_out.truncated()), (0, 0));
        assert_eq!(found.counts.ended, found.counts.examples, "every answer ends");
    }
}

#[test]
fn tldr_holds_out_whole_pages_in_both_languages_and_no_task_is_in_both_parts() {
    let set = example_set("tldr").unwrap();
    let field = |rows: &str, key: &str| -> BTreeSet<String> {
        let row = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()[key]
                .as_str()
                .unwrap()
                .to_owned()
        };
        rows.lines().map(row).collect()
    };
    let (train, held_out) = (set.train_rows(), set.held_out_rows());
    for key in ["page", "instruction"] {
        let (known, new) = (field(&train, key), field(&held_out, key));
        assert!(known.is_disjoint(&new), "{key}");
        assert!(known.len() > 800 && new.len() > 80, "{key}");
    }
    for rows in [&train, &held_out] {
        assert_eq!(
            field(rows, "language"),
            BTreeSet::from(["en".to_owned(), "nl".to_owned()])
        );
        assert!(
            field(rows, "output")
                .iter()
                .all(|command| command.len() <= 120 && !command.contains("{{"))
        );
    }
    let tokenizer = characters(&(train.clone() + &held_out + "UserAssistant"));
    let found = Conversations::of_set(&tokenizer, set, 512, &ConversationOptions::default()).unwrap();
    assert!(found.counts.layouts.iter().all(|(_, layout)| *layout == Layout::Alpaca));
}
