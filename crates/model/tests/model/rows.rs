//! Rows of different lengths in one batch compute what each computes alone.

use taal_model::{Cache, Initialization};

use super::super::*;
use crate::size;

const TOLERANCE: f32 = 1e-6;

fn ids_of(rows: &[Vec<i32>]) -> Tensor<2, Int> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::flex())
}

/// The logits of a row, computed alone and at once.
fn alone(model: &Transformer, row: &[i32]) -> Tensor<3> {
    model.forward(ids_of(&[row.to_vec()])).unwrap()
}

fn model_of(config: &TransformerConfig) -> Transformer {
    let large = Initialization {
        std: 0.2,
        ..Initialization::default()
    };
    config.init_with(7, large, &Device::flex()).unwrap()
}

fn assert_equal(name: &str, found: Tensor<3>, expected: Tensor<3>) {
    let largest: f32 = expected.clone().abs().max().into_scalar();
    let difference = largest_difference(found, expected) / largest;
    assert!(difference <= TOLERANCE, "{name}: {difference:e}");
}

#[test]
fn rows_padded_on_either_side_compute_what_each_computes_alone() {
    let rows: [&[i32]; 3] = [&[3, 1, 4, 1, 5, 9, 2], &[6, 5], &[8, 9, 7, 9]];
    let seq = 7;
    for (name, config) in many_configs() {
        let model = model_of(&config);
        for is_left in [true, false] {
            let place = |row: &[i32]| match is_left {
                true => seq - row.len()..seq,
                false => 0..row.len(),
            };
            let padded = rows.map(|row| {
                let mut padded = vec![0; seq];
                padded[place(row)].copy_from_slice(row);
                padded
            });
            let segments = Segments::of_padded(&rows.map(place), seq);
            let options = ForwardOptions {
                segments: Some(&segments),
                ..ForwardOptions::default()
            };
            let hidden = model.forward_with(ids_of(&padded), options).unwrap().hidden;
            let logits = model.logits(hidden);
            for (index, row) in rows.into_iter().enumerate() {
                let place = place(row);
                let own = logits.clone().narrow(0, index, 1).narrow(1, place.start, place.len());
                assert_equal(name, own, alone(&model, row));
            }
        }
    }
}

/// Three texts continue in one cache, in uneven steps; one pauses for a step.
#[test]
fn rows_of_a_cache_continue_from_their_own_positions() {
    let texts: [Vec<i32>; 3] = [vec![3, 1, 4, 1, 5, 9, 2, 6, 5], vec![6, 5, 3], vec![8, 9, 7, 9, 3, 2]];
    // How many tokens each row gets at each step.
    let steps = [[4, 1, 2], [1, 1, 3], [3, 0, 1], [1, 1, 0]];
    for (name, config) in many_configs().into_iter().filter(|(_, config)| config.is_causal) {
        let model = model_of(&config);
        let mut cache = model.new_cache(3, 12);
        let mut own_caches = [0, 1, 2].map(|_| model.new_cache(1, 12));
        let mut seen = [0; 3];
        for lengths in steps {
            let seq = lengths.into_iter().max().unwrap();
            let new = [0, 1, 2].map(|row| {
                let mut new = vec![0; seq];
                new[..lengths[row]].copy_from_slice(&texts[row][seen[row]..seen[row] + lengths[row]]);
                new
            });
            let options = ForwardOptions {
                cache: Some(&mut cache),
                lengths: Some(&lengths),
                ..ForwardOptions::default()
            };
            let logits = model.logits(model.forward_with(ids_of(&new), options).unwrap().hidden);
            for row in 0..3 {
                seen[row] += lengths[row];
                if lengths[row] == 0 {
                    continue;
                }
                let found = logits.clone().narrow(0, row, 1).narrow(1, lengths[row] - 1, 1);
                let options = ForwardOptions {
                    cache: Some(&mut own_caches[row]),
                    ..ForwardOptions::default()
                };
                let own = ids_of(&[texts[row][seen[row] - lengths[row]..seen[row]].to_vec()]);
                let hidden = model.forward_with(own, options).unwrap().hidden;
                let expected = model.logits(hidden).narrow(1, lengths[row] - 1, 1);
                assert_equal(name, found, expected);
            }
            assert_eq!(cache.lens(), seen);
        }
    }
}

/// The logits after new ids in some rows of a cache.
fn read_into(model: &Transformer, cache: &mut Cache, rows: std::ops::Range<usize>, new: &[Vec<i32>]) -> Tensor<3> {
    let options = ForwardOptions {
        cache: Some(cache),
        rows: Some(rows),
        ..ForwardOptions::default()
    };
    let hidden = model.forward_with(ids_of(new), options).unwrap().hidden;
    let last = new[0].len() - 1;
    model.logits(hidden.narrow(1, last, 1))
}

/// A cache serves texts that come and go: one row is read in two pieces while others continue, rows change places, the beginning of
/// one is copied to another, and a text is continued differently.
#[test]
fn rows_of_a_cache_are_read_moved_copied_and_cut_without_changing_what_follows() {
    for (name, config) in many_configs().into_iter().filter(|(_, config)| config.is_causal) {
        let model = model_of(&config);
        let mut cache = model.new_cache(4, 12);
        let last = |text: &[i32]| alone(&model, text).narrow(1, text.len() - 1, 1);
        read_into(&model, &mut cache, 1..2, &[vec![3, 1, 4]]);
        read_into(&model, &mut cache, 2..3, &[vec![8, 9, 7, 9]]);
        assert_eq!(cache.lens(), [0, 3, 4, 0]);
        let found = read_into(&model, &mut cache, 1..2, &[vec![1, 5]]);
        assert_equal(name, found, last(&[3, 1, 4, 1, 5]));
        // Row 1 to row 0, so that rows 0 and 1 continue together.
        cache.swap_rows(0, 1);
        cache.swap_rows(1, 2);
        assert_eq!(cache.lens(), [5, 4, 0, 0]);
        let found = read_into(&model, &mut cache, 0..2, &[vec![9], vec![3]]);
        assert_equal(name, found.clone().narrow(0, 0, 1), last(&[3, 1, 4, 1, 5, 9]));
        assert_equal(name, found.narrow(0, 1, 1), last(&[8, 9, 7, 9, 3]));
        // A recurrent network copies whole texts only.
        let is_recurrent = config.context_limit().is_none();
        let copied = cache.copy_within(0, 3, 4);
        assert_eq!(copied, if is_recurrent { 0 } else { 4 });
        let rest = [3, 1, 4, 1, 7, 7][copied..].to_vec();
        let found = read_into(&model, &mut cache, 3..4, &[rest]);
        assert_equal(name, found, last(&[3, 1, 4, 1, 7, 7]));
        assert_eq!(cache.copy_within(1, 2, 5), 5);
        let found = read_into(&model, &mut cache, 2..3, &[vec![2]]);
        assert_equal(name, found, last(&[8, 9, 7, 9, 3, 2]));
        let kept = cache.truncate_row(1, 2);
        assert_eq!(kept, if is_recurrent { 0 } else { 2 });
        let found = read_into(&model, &mut cache, 1..2, &[[8, 9, 5][kept..].to_vec()]);
        assert_equal(name, found, last(&[8, 9, 5]));
        let found = read_into(&model, &mut cache, 0..1, &[vec![2]]);
        assert_equal(name, found, last(&[3, 1, 4, 1, 5, 9, 2]));
    }
}

#[test]
fn rows_outside_the_cache_are_refused() {
    let model = TransformerConfig::llama(size(50, 8, 1, 2, 16))
        .init(1, &Device::flex())
        .unwrap();
    let mut cache = model.new_cache(2, 8);
    for rows in [1..3, 0..2, 2..3] {
        let options = ForwardOptions {
            cache: Some(&mut cache),
            rows: Some(rows),
            ..ForwardOptions::default()
        };
        let error = model
            .forward_with(ids_of(&[vec![1, 2]]), options)
            .expect_err("not a row of this cache");
        assert!(error.to_string().contains("expected 1 of its 2"), "{error}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let model = TransformerConfig::llama(size(50, 8, 1, 2, 16))
        .init(1, &Device::flex())
        .unwrap();
    let mut cache = model.new_cache(2, 8);
    let mut run = |lengths: &[usize], has_cache: bool| {
        let options = ForwardOptions {
            cache: has_cache.then_some(&mut cache),
            lengths: Some(lengths),
            ..ForwardOptions::default()
        };
        model
            .forward_with(ids_of(&[vec![1, 2, 3], vec![4, 5, 6]]), options)
            .map(|_| ())
    };
    for (lengths, has_cache, word) in [
        (&[3][..], true, "2 numbers"),
        (&[4, 1], true, "at most 3"),
        (&[3, 1], false, "segments"),
    ] {
        let error = run(lengths, has_cache).expect_err("not rows of this batch").to_string();
        assert!(error.contains(word), "{error}");
    }
}
