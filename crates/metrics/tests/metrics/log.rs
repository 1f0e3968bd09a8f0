use taal_metrics::{Error, LOG_NAME, RunLog, StepRecord, best_validation, csv, read_log, write_csv};
use taal_store::ErrorKind;

use crate::{record, scratch};

#[test]
fn records_read_back_bit_for_bit() {
    let dir = scratch();
    let written: Vec<StepRecord> = [0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE / 8.0, f64::MAX, -0.0, 1e23]
        .into_iter()
        .zip(1..)
        .map(|(number, step)| StepRecord {
            step,
            loss: number,
            lr: number,
            grad_norm: number,
            tokens_per_s: number,
            val_loss: Some(number),
            val_bits_per_byte: None,
            wall_s: Some(number),
            energy_j: Some(number),
            energy_low_j: Some(number),
            energy_high_j: Some(number),
            is_skipped: false,
            val_accuracy: None,
            val_answers: None,
            old_loss: None,
            val_by_source: [("wiki".to_owned(), number)].into_iter().collect(),
        })
        .collect();
    let mut log = RunLog::open(dir.path()).expect("a log");
    for record in &written {
        log.append(record).expect("a record");
    }
    log.sync().expect("a sync");
    let read = read_log(&dir.path().join(LOG_NAME)).expect("records");
    let bits = |records: &[StepRecord]| -> Vec<u64> {
        let loss_bits = records.iter().map(|record| record.loss.to_bits());
        let val_bits = records.iter().filter_map(|record| Some(record.val_loss?.to_bits()));
        loss_bits.chain(val_bits).collect()
    };
    assert_eq!(bits(&read), bits(&written));
    assert_eq!(read, written);
}

#[test]
fn a_line_holds_the_agreed_keys_and_absent_values_are_left_out() {
    let dir = scratch();
    let mut log = RunLog::open(dir.path()).expect("a log");
    log.append(&record(1)).expect("a record");
    log.append(&record(2)).expect("a record");
    let text = std::fs::read_to_string(log.path()).expect("the log");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let keys =
        |line: &serde_json::Value| -> Vec<String> { line.as_object().expect("an object").keys().cloned().collect() };
    let mut sorted = keys(&lines[0]);
    sorted.sort_unstable();
    assert_eq!(sorted, ["grad_norm", "loss", "lr", "step", "tokens_per_s"]);
    assert!(keys(&lines[1]).contains(&"val_loss".to_owned()));
}

#[test]
fn numbers_that_are_not_finite_are_null_and_come_back_as_nan() {
    let dir = scratch();
    let mut log = RunLog::open(dir.path()).expect("a log");
    log.append(&StepRecord {
        loss: f64::NAN,
        grad_norm: f64::INFINITY,
        val_loss: Some(f64::NEG_INFINITY),
        ..record(1)
    })
    .expect("a record");
    let text = std::fs::read_to_string(log.path()).expect("the log");
    let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(line["loss"].is_null() && line["grad_norm"].is_null() && line["val_loss"].is_null());
    let read = read_log(log.path()).expect("records");
    assert!(read[0].loss.is_nan() && read[0].grad_norm.is_nan());
    assert!(read[0].val_loss.is_some_and(f64::is_nan));
}

#[test]
fn truncating_drops_later_steps_and_appending_goes_on() {
    let dir = scratch();
    let mut log = RunLog::open(dir.path()).expect("a log");
    for step in 1..=5 {
        log.append(&record(step)).expect("a record");
    }
    log.truncate_to(3).expect("a shorter log");
    log.append(&StepRecord { loss: 9.0, ..record(4) }).expect("a record");
    let read = read_log(log.path()).expect("records");
    assert_eq!(read[..3], [record(1), record(2), record(3)]);
    assert_eq!((read.len(), read[3].loss), (4, 9.0));
    log.truncate_to(0).expect("an empty log");
    assert!(read_log(log.path()).expect("records").is_empty());
}

#[test]
fn truncating_keeps_the_bytes_of_what_it_keeps() {
    let dir = scratch();
    let path = dir.path().join(LOG_NAME);
    // A field of a later version, and a spelling that this version would not choose.
    let first = r#"{"step": 1, "loss": 4.50, "lr": 1e-3, "grad_norm": 1, "tokens_per_s": 10, "later_j": 3.5}"#;
    std::fs::write(
        &path,
        format!("{first}\n{}\n", first.replace("\"step\": 1", "\"step\": 2")),
    )
    .expect("a log");
    RunLog::open(dir.path())
        .expect("a log")
        .truncate_to(1)
        .expect("a shorter log");
    assert_eq!(std::fs::read_to_string(&path).expect("the log"), format!("{first}\n"));
}

#[test]
fn a_torn_last_line_is_dropped_and_damage_before_it_is_located() {
    let dir = scratch();
    let path = dir.path().join(LOG_NAME);
    let mut log = RunLog::open(dir.path()).expect("a log");
    for step in 1..=3 {
        log.append(&record(step)).expect("a record");
    }
    let whole = std::fs::read(&path).expect("the log");
    let third_line = whole.len() - whole.rsplit(|byte| *byte == b'\n').nth(1).expect("a line").len() - 1;
    for length in third_line..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("a torn log");
        assert_eq!(read_log(&path).expect("records"), [record(1), record(2)]);
    }
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] = 0xff;
    std::fs::write(&path, &damaged).expect("a damaged log");
    for error in [
        read_log(&path).map(drop).expect_err("damage"),
        RunLog::open(dir.path())
            .expect("a log")
            .truncate_to(3)
            .expect_err("damage"),
    ] {
        assert!(
            matches!(&error, Error::BadRecord { path: named, line: 2, .. } if *named == path),
            "{error}"
        );
        assert!(error.to_string().contains("line 2"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert_eq!(
        std::fs::read(&path).expect("the log"),
        damaged,
        "a refused log is unchanged"
    );
}

#[test]
fn damage_after_the_step_that_is_kept_goes_with_the_rest() {
    let dir = scratch();
    let path = dir.path().join(LOG_NAME);
    let mut log = RunLog::open(dir.path()).expect("a log");
    log.append(&record(1)).expect("a record");
    let kept = std::fs::read_to_string(&path).expect("the log");
    std::fs::write(&path, format!("{kept}\0\0\0\n{{}}\n")).expect("a damaged log");
    RunLog::open(dir.path())
        .expect("a log")
        .truncate_to(1)
        .expect("a shorter log");
    assert_eq!(std::fs::read_to_string(&path).expect("the log"), kept);
}

#[test]
fn a_line_without_end_is_refused_instead_of_filling_memory() {
    let dir = scratch();
    let path = dir.path().join(LOG_NAME);
    std::fs::write(&path, "x".repeat(100_000)).expect("a file");
    let error = read_log(&path).expect_err("no record is that long");
    assert!(matches!(error, Error::BadRecord { line: 1, .. }), "{error}");
}

#[test]
fn the_best_validation_loss_is_the_earliest_lowest_finite_one() {
    let at = |step, val_loss| StepRecord {
        val_loss,
        ..record(step)
    };
    let records = [
        at(1, Some(f64::NAN)),
        at(2, Some(3.0)),
        at(3, Some(2.0)),
        at(4, None),
        at(5, Some(2.0)),
        at(6, Some(f64::NEG_INFINITY)),
    ];
    assert_eq!(best_validation(&records), Some((3, 2.0)));
    assert_eq!(best_validation(&records[..1]), None);
}

#[test]
fn csv_has_a_header_and_empty_fields_for_absent_values() {
    let records = [
        record(1),
        StepRecord {
            loss: f64::NAN,
            ..record(2)
        },
    ];
    let expected = "step,loss,lr,grad_norm,tokens_per_s,val_loss,val_bits_per_byte,wall_s,energy_j\n\
                    1,4,0.001,1.1,333.3333333333333,,,,\n\
                    2,NaN,0.002,2.1,333.3333333333333,1.4142135623730951,,,\n";
    assert_eq!(csv(&records), expected);
    let dir = scratch();
    let path = dir.path().join("log.csv");
    write_csv(&records, &path).expect("a file");
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), expected);
}

#[test]
fn a_missing_log_is_named() {
    let dir = scratch();
    let error = read_log(&dir.path().join(LOG_NAME)).expect_err("no log");
    assert!(error.to_string().contains(LOG_NAME), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);
}
