use taal_metrics::{Error, Report, RunNote, Sample, SourceFigures, WordRank};

use crate::scratch;

fn report() -> Report {
    Report {
        objective: "next_token".to_string(),
        val_bytes: Some(1),
        recipe: "shakespeare-char".to_owned(),
        device: "flex".to_owned(),
        params: 803_968,
        steps: 2000,
        planned_steps: 2000,
        tokens: 1_536_000,
        wall_s: 202.4,
        train_loss: 1.71,
        val_loss: Some(1.8857),
        best_val_loss: Some(1.8801),
        best_step: Some(1750),
        val_bits_per_byte: Some(2.7205),
        val_tokens: Some(111_539),
        tokens_per_s: 51_540.2,
        epochs: 1.53,
        mfu: 0.3714,
        peak_flops_per_s: 3.36e11,
        peak_rss_bytes: 512 << 20,
        energy: Some(taal_metrics::energy::EnergyFigures {
            joules: 19_332.5,
            low: 1e4,
            high: 3.6e4,
            source: "rapl+dram".to_owned(),
            ..Default::default()
        }),
        resumed_from: Some(1000),
        sources: vec![SourceFigures {
            name: "wiki".to_owned(),
            tokens: 5000,
            loss: 1.0 / 3.0,
            bits_per_byte: Some(0.1 + 0.2),
            accuracy: None,
        }],
        tokenizer: "char".to_owned(),
        vocab_size: 65,
        samples: vec![Sample {
            prompt: "ROMEO:".to_owned(),
            text: "\nAy me!".to_owned(),
            error: None,
            ranks: vec![WordRank {
                word: "mat".to_owned(),
                rank: Some(521),
                probability: Some(0.0002),
            }],
        }],
        notes: vec![RunNote::LittleText {
            train_tokens: 17_600,
            params: 1_070_000,
        }],
        ..Report::default()
    }
}

#[test]
fn a_report_reads_back_equal() {
    let dir = scratch();
    let path = dir.path().join("report.json");
    report().write_json(&path).expect("a report");
    assert_eq!(Report::read_json(&path).expect("a report"), report());
}

#[test]
fn the_json_has_the_keys_that_scripts_rely_on() {
    let dir = scratch();
    let path = dir.path().join("report.json");
    Report::default().write_json(&path).expect("a report");
    let text = std::fs::read_to_string(&path).expect("the file");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let keys = [
        "recipe",
        "device",
        "params",
        "steps",
        "tokens",
        "wall_s",
        "train_loss",
        "val_loss",
        "best_val_loss",
        "val_bits_per_byte",
        "tokens_per_s",
        "mfu",
        "peak_rss_bytes",
        "energy",
        "resumed_from",
        "samples",
    ];
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing");
    }
    assert!(value["resumed_from"].is_null());
}

#[test]
fn figures_that_are_not_finite_do_not_break_the_json() {
    let dir = scratch();
    let path = dir.path().join("report.json");
    let diverged = Report {
        train_loss: f64::NAN,
        val_loss: Some(f64::INFINITY),
        mfu: f64::NEG_INFINITY,
        ..report()
    };
    diverged.write_json(&path).expect("a report");
    let read = Report::read_json(&path).expect("a report");
    assert!(read.train_loss.is_nan() && read.mfu.is_nan());
    assert_eq!(read.val_loss, None);
}

#[test]
fn a_file_that_is_not_a_report_is_named() {
    let dir = scratch();
    let path = dir.path().join("report.json");
    std::fs::write(&path, "{\"steps\": \"many\"}").expect("a file");
    let error = Report::read_json(&path).expect_err("no report");
    assert!(
        matches!(&error, Error::BadReport { path: named, .. } if *named == path),
        "{error}"
    );
}
