//! Several texts, weighted.

use std::collections::HashMap;

use taal_data::{BatchPlan, BatchSource, Dataset, Mixture, Order, TokenSource, TokenizeOptions};

use super::characters;

const BLOCK: usize = 10;

/// Three sources whose ids say which one they are of: 0.., 1000.., 2000...
fn sources() -> [TokenSource; 3] {
    [(0, 400), (1000, 100), (2000, 300)].map(|(first, len)| {
        TokenSource::from_ids(&format!("from {first}"), (first..first + len).collect(), u64::from(len))
    })
}

fn mixture(weights: [f64; 3]) -> Mixture {
    Mixture::new(sources().into_iter().zip(weights).collect()).unwrap()
}

/// Rows of `steps` steps by the source of their first token; each row is checked to be of one source, in order.
fn rows_by_source(mixture: &Mixture, plan: &BatchPlan, steps: u64) -> HashMap<i32, Vec<i32>> {
    let mut rows: HashMap<i32, Vec<i32>> = HashMap::new();
    for step in 0..steps {
        let batch = plan.batch(mixture, step).unwrap();
        for (inputs, targets) in batch.inputs.chunks(BLOCK).zip(batch.targets.chunks(BLOCK)) {
            assert!(inputs.iter().zip(targets).all(|(input, target)| target - input == 1));
            assert!(inputs.windows(2).all(|pair| pair[1] - pair[0] == 1));
            rows.entry(inputs[0] / 1000).or_default().push(inputs[0]);
        }
    }
    rows
}

#[test]
fn of_every_1024_rows_each_source_has_the_share_of_its_weight() {
    for order in [Order::Random, Order::Shuffled] {
        let plan = BatchPlan::new(7, 32, BLOCK).with_order(order);
        let rows = rows_by_source(&mixture([2.0, 1.0, 1.0]), &plan, 64);
        assert_eq!([0, 1, 2].map(|source| rows[&source].len()), [1024, 512, 512]);
        // A source with the weight 0 is not drawn from.
        let rows = rows_by_source(&mixture([0.0, 1.0, 0.0]), &plan, 4);
        assert_eq!(rows.keys().collect::<Vec<_>>(), [&1]);
    }
}

#[test]
fn a_shuffled_mixture_visits_every_window_of_a_source_once_per_epoch() {
    let plan = BatchPlan::new(3, 32, BLOCK).with_order(Order::Shuffled);
    let rows = rows_by_source(&mixture([1.0, 1.0, 2.0]), &plan, 128);
    for (source, len) in [(0, 400), (1, 100), (2, 300)] {
        let windows = (len - BLOCK) / BLOCK;
        let mut seen: HashMap<i32, usize> = HashMap::new();
        rows[&source]
            .iter()
            .for_each(|start| *seen.entry(start / BLOCK as i32).or_default() += 1);
        let epochs = rows[&source].len() / windows;
        assert_eq!(seen.len(), windows);
        assert!(
            seen.values().all(|count| (epochs..=epochs + 1).contains(count)),
            "source {source}: {epochs} epochs, {seen:?}"
        );
    }
}

#[test]
fn a_batch_of_a_mixture_depends_on_seed_and_step_only() {
    let plan = BatchPlan::new(5, 8, BLOCK).with_order(Order::Shuffled);
    let once = mixture([1.0, 1.0, 1.0]);
    let again = mixture([3.0, 3.0, 3.0]);
    for step in [0, 1, 40, 100_000] {
        assert_eq!(plan.batch(&once, step).unwrap(), plan.batch(&again, step).unwrap());
    }
    let other = BatchPlan { seed: 6, ..plan };
    assert_ne!(plan.batch(&once, 0).unwrap(), other.batch(&once, 0).unwrap());
    assert_eq!(once.batches_per_epoch(&plan).unwrap(), (39 + 9 + 29_u64).div_ceil(8));
}

#[test]
fn the_order_of_a_single_source_is_not_changed_by_a_mixture_of_one() {
    let [source, ..] = sources();
    let one = Mixture::new(vec![(source.clone(), 1.0)]).unwrap();
    let plan = BatchPlan::new(5, 1024, BLOCK).with_order(Order::Shuffled);
    let sorted = |source: &dyn BatchSource| {
        let mut inputs: Vec<_> = plan
            .batch(source, 2)
            .unwrap()
            .inputs
            .chunks(BLOCK)
            .map(<[i32]>::to_vec)
            .collect();
        inputs.sort();
        inputs
    };
    // The rows of a round are the same ones, in another order.
    assert_eq!(sorted(&source), sorted(&one));
}

#[test]
fn weights_are_one_per_text_and_refused_otherwise() {
    let texts = [
        ("first", "een twee drie vier ".repeat(20)),
        ("second", "vijf zes zeven acht ".repeat(20)),
    ];
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let all: String = texts.iter().map(|(_, text)| *text).collect();
    let tokenizer = characters(&all);
    let dataset = Dataset::from_texts(&tokenizer, &texts, &TokenizeOptions::default()).unwrap();
    let refused = |weights: &[f64]| dataset.clone().with_weights(weights).unwrap_err().to_string();
    assert!(refused(&[1.0]).contains("data.weights: expected one weight for each of 2 inputs (first, second), got 1"));
    assert!(refused(&[1.0, -1.0]).contains("got -1 for second"));
    assert!(refused(&[0.0, 0.0]).contains("at least one weight above 0"));
    let second = dataset.with_weights(&[0.0, 2.0]).unwrap();
    let batch = BatchPlan::new(1, 4, 16).batch(second.training(), 0).unwrap();
    let ids: Vec<u32> = batch.inputs.iter().map(|id| *id as u32).collect();
    let drawn = tokenizer.decode(&ids).unwrap();
    assert!(!drawn.contains("een") && !drawn.contains("drie"), "{drawn}");
}
