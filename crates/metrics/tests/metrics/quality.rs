use std::f64::consts::LN_2;

use taal_metrics::{Accuracy, MeanLoss, bits_per_byte, peak_rss_bytes, perplexity};

#[test]
fn a_fair_choice_between_65_characters_has_perplexity_65() {
    assert!((perplexity(65_f64.ln()) - 65.0).abs() < 1e-12);
    assert_eq!(perplexity(0.0), 1.0);
}

#[test]
fn bits_per_byte_counts_bytes_not_tokens() {
    // 3 tokens of 2 bits each, over 4 bytes.
    assert!((bits_per_byte(3.0 * 2.0 * LN_2, 4) - 1.5).abs() < 1e-15);
    assert!(bits_per_byte(1.0, 0).is_nan());
}

#[test]
fn a_mean_over_batches_weighs_tokens_not_batches() {
    let mut loss = MeanLoss::default();
    assert_eq!(loss.mean(), None);
    loss.add(1.0, 30);
    loss.add(4.0, 10);
    loss.add(f64::NAN, 0);
    assert_eq!(loss.mean(), Some(1.75));
    assert_eq!((loss.total_nats(), loss.tokens()), (70.0, 40));
    loss.add(f64::NAN, 1);
    assert!(
        loss.mean().is_some_and(f64::is_nan),
        "a loss that is not a number must show"
    );
}

#[test]
fn accuracy_ignores_targets_without_loss() {
    let mut accuracy = Accuracy::default();
    assert_eq!(accuracy.value(), None);
    accuracy.add(&[1, 2, 3, -100], &[1, 9, -100, -100]);
    accuracy.add(&[5, 5], &[5, 5]);
    assert_eq!((accuracy.correct(), accuracy.total()), (3, 4));
    assert_eq!(accuracy.value(), Some(0.75));
}

#[cfg(target_os = "linux")]
#[test]
fn peak_memory_rises_with_what_is_touched() {
    let touched = vec![1_u8; 64 << 20];
    let peak = peak_rss_bytes().expect("Linux tells");
    assert!(peak >= touched.len() as u64, "{peak}");
    assert!(peak < 1 << 40, "{peak} is no number of bytes");
}
