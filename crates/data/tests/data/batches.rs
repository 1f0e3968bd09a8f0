use std::collections::{BTreeMap, BTreeSet};

use taal_data::{Batch, BatchPlan, BatchSource, IGNORE_INDEX, Order, TokenSource};
use taal_store::ErrorKind;

use super::assert_says;

/// A source whose ids are their own positions.
fn counting(len: u32) -> TokenSource {
    TokenSource::from_ids("counting.txt", (0..len).collect(), u64::from(len))
}

fn starts(batch: &Batch) -> Vec<i32> {
    batch.inputs.chunks(batch.seq_len).map(|row| row[0]).collect()
}

fn shuffled(seed: u64, batch_size: usize, block_size: usize) -> BatchPlan {
    BatchPlan::new(seed, batch_size, block_size).with_order(Order::Shuffled)
}

#[test]
fn a_target_is_the_id_after_its_input() {
    let source = counting(500);
    for plan in [BatchPlan::new(3, 5, 17), shuffled(3, 5, 17)] {
        for step in 0..20 {
            let batch = plan.batch(&source, step).unwrap();
            assert_eq!(
                (batch.batch_size, batch.seq_len, batch.inputs.len(), batch.targets.len()),
                (5, 17, 85, 85)
            );
            for row in batch.inputs.chunks(17) {
                assert!(
                    row.windows(2).all(|pair| pair[1] == pair[0] + 1),
                    "a row is a run of the text"
                );
            }
            assert!(
                batch
                    .inputs
                    .iter()
                    .zip(&batch.targets)
                    .all(|(input, target)| *target == input + 1)
            );
            assert!(!batch.targets.contains(&IGNORE_INDEX));
        }
    }
}

/// Computed outside this crate, with the same published functions: SplitMix64 and the network described in the code.
/// Resumed runs are correct only if these never change.
#[test]
fn the_order_of_windows_is_frozen() {
    let source = counting(1_003_854);
    let plan = BatchPlan::new(1337, 4, 64);
    assert_eq!(starts(&plan.batch(&source, 0).unwrap()), RANDOM_STEP_0);
    assert_eq!(starts(&plan.batch(&source, 1).unwrap())[..2], RANDOM_STEP_1);
    let plan = shuffled(1337, 3, 8);
    let order: Vec<_> = (0..5)
        .flat_map(|step| starts(&plan.batch(&counting(100), step).unwrap()))
        .collect();
    assert_eq!(order, SHUFFLED);
}

#[test]
fn a_batch_depends_on_seed_and_step_only() {
    let source = counting(1_000);
    for order in [Order::Random, Order::Shuffled] {
        let plan = BatchPlan::new(1, 4, 10).with_order(order);
        let forwards: Vec<_> = (0..50).map(|step| plan.batch(&source, step).unwrap()).collect();
        let backwards: Vec<_> = (0..50).rev().map(|step| plan.batch(&source, step).unwrap()).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
        let other = BatchPlan { seed: 2, ..plan };
        assert_ne!(forwards[0], other.batch(&source, 0).unwrap());
        assert_ne!(forwards[0], forwards[1]);
        plan.batch(&source, u64::MAX).unwrap();
    }
}

#[test]
fn random_windows_start_at_every_position_about_equally_often() {
    let source = counting(20);
    let plan = BatchPlan::new(9, 1_000, 10);
    let mut counts = BTreeMap::new();
    for step in 0..10 {
        for start in starts(&plan.batch(&source, step).unwrap()) {
            *counts.entry(start).or_insert(0) += 1;
        }
    }
    // nanoGPT draws from 0..len - block_size: ten starts, mean 1000, standard deviation 30.
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert!(counts.values().all(|count| (870..1130).contains(count)), "{counts:?}");
}

#[test]
fn a_shuffled_epoch_visits_every_window_once_on_a_shifted_grid() {
    let (source, block_size) = (counting(1_005), 10);
    let plan = shuffled(5, 1, block_size);
    let windows = plan_windows(&source, &plan);
    assert_eq!(windows, 99);
    let mut offsets = BTreeSet::new();
    let mut orders = BTreeSet::new();
    for epoch in 0..30 {
        let order: Vec<_> = (0..windows)
            .map(|i| starts(&plan.batch(&source, epoch * windows + i).unwrap())[0])
            .collect();
        let visited: BTreeSet<_> = order.iter().map(|start| start / 10).collect();
        let offset = order[0] % 10;
        assert!(order.iter().all(|start| start % 10 == offset), "one grid per epoch");
        assert_eq!(visited.len(), windows as usize, "every window once");
        offsets.insert(offset);
        orders.insert(order.iter().map(|start| start / 10).collect::<Vec<_>>());
    }
    assert!(offsets.len() > 7 && orders.len() == 30, "{offsets:?}");
}

fn plan_windows(source: &TokenSource, plan: &BatchPlan) -> u64 {
    source.batches_per_epoch(plan).unwrap()
}

#[test]
fn batches_that_cross_an_epoch_repeat_no_window_within_it() {
    let source = counting(100);
    let (one, seven) = (shuffled(5, 1, 9), shuffled(5, 7, 9));
    let rows: Vec<_> = (0..70)
        .map(|step| starts(&one.batch(&source, step).unwrap())[0])
        .collect();
    let batched: Vec<_> = (0..10)
        .flat_map(|step| starts(&seven.batch(&source, step).unwrap()))
        .collect();
    assert_eq!(rows, batched);
}

#[test]
fn the_shortest_possible_source_has_one_window() {
    for order in [Order::Random, Order::Shuffled] {
        let plan = BatchPlan::new(5, 3, 8).with_order(order);
        assert_eq!(starts(&plan.batch(&counting(9), 4).unwrap()), [0, 0, 0]);
        let error = plan.batch(&counting(8), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_says(
            plan.check(&counting(8)),
            &["counting.txt has 8 token(s)", "block of 8", "at least 9", "block_size"],
        );
    }
}

#[test]
fn impossible_sizes_are_named() {
    assert_says(
        BatchPlan::new(0, 0, 8).check(&counting(100)),
        &["train.batch_size", "got 0"],
    );
    assert_says(
        BatchPlan::new(0, 1, 0).check(&counting(100)),
        &["train.block_size", "got 0"],
    );
    assert_says("sorted".parse::<Order>(), &["data.order", "sorted"]);
    assert_eq!("shuffled".parse::<Order>().unwrap().to_string(), "shuffled");
}

#[test]
fn reading_past_the_end_gives_fewer_tokens() {
    let source = counting(10);
    assert_eq!(source.read(8, 5), [8, 9]);
    assert!(source.read(12, 5).is_empty());
}

const RANDOM_STEP_0: [i32; 4] = [757_185, 754_001, 578_686, 256_246];
const RANDOM_STEP_1: [i32; 2] = [73_781, 277_435];
/// An epoch of eleven windows at offset 0, then the beginning of one at offset 2.
const SHUFFLED: [i32; 15] = [16, 24, 80, 8, 72, 64, 56, 0, 32, 40, 48, 10, 82, 42, 34];
