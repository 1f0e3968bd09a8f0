//! Rank correlation against scipy's.

use taal_metrics::{spearman, spearman_interval};

use crate::{golden, numbers};

#[test]
fn the_correlation_of_ranks_with_ties_is_scipys() {
    let golden = &golden()["rank"];
    let (a, b) = (numbers(&golden["a"]), numbers(&golden["b"]));
    let wanted = golden["spearman"].as_f64().unwrap();
    assert!((spearman(&a, &b).unwrap() - wanted).abs() < 1e-12);
}

#[test]
fn the_interval_of_the_bootstrap_is_scipys_but_for_chance() {
    let golden = &golden()["rank"];
    let (a, b) = (numbers(&golden["a"]), numbers(&golden["b"]));
    let wanted = numbers(&golden["interval"]);
    let found = spearman_interval(&a, &b, 20_000, 1).unwrap();
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() < 0.015, "{found} {wanted}");
    }
    assert_eq!(
        found,
        spearman_interval(&a, &b, 20_000, 1).unwrap(),
        "a function of the seed"
    );
    assert_ne!(found, spearman_interval(&a, &b, 20_000, 2).unwrap());
}

#[test]
fn there_is_no_correlation_without_difference() {
    for (a, b) in [
        (vec![], vec![]),
        (vec![1.0], vec![2.0]),
        (vec![1.0, 1.0, 1.0], vec![1.0, 2.0, 3.0]),
        (vec![0.0, -0.0], vec![1.0, 2.0]),
        (vec![1.0, f64::NAN], vec![1.0, 2.0]),
    ] {
        assert_eq!(spearman(&a, &b), None, "{a:?} {b:?}");
        assert_eq!(spearman_interval(&a, &b, 10, 0), None);
    }
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[-1.0, -2.0, -9.0]), Some(-1.0));
    assert_eq!(
        spearman_interval(&[1.0, 2.0], &[1.0, 2.0], 0, 0),
        None,
        "no sample, no interval"
    );
}
