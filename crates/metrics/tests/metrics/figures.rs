use std::path::Path;

use serde_json::Value;
use taal_metrics::{STEP_FIGURES, StepFigure, StepRecord, csv};

/// A record in which every figure has a value of its own.
fn full() -> StepRecord {
    StepRecord {
        step: 3,
        loss: 4.5,
        lr: 0.25,
        grad_norm: 1.5,
        tokens_per_s: 300.0,
        val_loss: Some(5.5),
        val_bits_per_byte: Some(2.5),
        val_accuracy: Some(0.5),
        val_answers: Some(0.75),
        old_loss: Some(3.5),
        val_by_source: Default::default(),
        wall_s: Some(7.5),
        energy_j: Some(8.5),
        energy_low_j: Some(6.5),
        energy_high_j: Some(9.5),
        is_skipped: true,
    }
}

#[test]
fn every_figure_of_the_log_has_a_row_in_its_order_and_with_its_value() {
    let text = serde_json::to_string(&full()).expect("a line");
    let places: Vec<usize> = STEP_FIGURES
        .iter()
        .map(|figure| text.find(&format!("\"{}\":", figure.name)).expect(figure.name))
        .collect();
    assert!(places.is_sorted(), "{text}");
    let line: Value = serde_json::from_str(&text).expect("an object");
    assert_eq!(line.as_object().map(serde_json::Map::len), Some(STEP_FIGURES.len()));
    for figure in STEP_FIGURES {
        let written = match &line[figure.name] {
            Value::Bool(is_so) => Some(f64::from(u8::from(*is_so))),
            number => number.as_f64(),
        };
        assert_eq!((figure.value)(&full()), written, "{}", figure.name);
    }
}

/// `UPDATE=1` writes the tables.
#[test]
fn files_md_explains_every_figure_of_a_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/files.md");
    let text = std::fs::read_to_string(&path).expect("files.md");
    let head = "| field | unit | meaning |\n|---|---|---|\n";
    let (before, rest) = text.split_once("## `log.jsonl`").expect("the section");
    let (intro, table) = rest.split_once(head).expect("the table");
    let end = table.find("\n\n").expect("the end of the table") + 1;
    let rows: String = STEP_FIGURES
        .iter()
        .map(|figure| format!("| `{}` | {} | {} |\n", figure.name, figure.unit, figure.meaning).replace("|  |", "| |"))
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        let text = format!("{before}## `log.jsonl`{intro}{head}{rows}{}", &table[end..]);
        std::fs::write(&path, text).expect("files.md");
        return;
    }
    assert_eq!(&table[..end], rows, "UPDATE=1 writes the table");
    let columns = csv(&[]);
    assert!(table.contains(&format!("`log.csv` has the columns `{}`", columns.trim_end())));
}

#[test]
fn a_row_is_all_that_words_and_the_runs_figure_need() {
    let energy = StepFigure {
        name: "joules",
        unit: "joules",
        value: |record| record.wall_s.map(|wall_s| 2.0 * wall_s),
        total: Some("Energy"),
        ..STEP_FIGURES[0]
    };
    let without = StepRecord { wall_s: None, ..full() };
    assert_eq!(energy.words(&full()).as_deref(), Some("energy 15.0 joules"));
    assert_eq!(energy.words(&without), None);
    assert_eq!(energy.of_run(&[full(), without.clone(), full()]), Some(30.0));
    assert_eq!(energy.of_run(&[without]), None);
    assert_eq!(STEP_FIGURES[1].of_run(&[full()]), None);
}
