//! Principal components against scikit-learn's.

use taal_metrics::pca;

use crate::{golden, numbers};

#[test]
fn points_and_shares_are_scikit_learns() {
    for case in golden()["pca"].as_array().unwrap() {
        let rows = case["vectors"].as_array().unwrap();
        let vectors: Vec<Vec<f32>> = rows
            .iter()
            .map(|row| numbers(row).into_iter().map(|value| value as f32).collect())
            .collect();
        let found = pca(&vectors);
        for (share, wanted) in found.shares.iter().zip(numbers(&case["shares"])) {
            assert!((share - wanted).abs() < 1e-6, "{share} {wanted}");
        }
        for (point, wanted) in found.points.iter().zip(case["points"].as_array().unwrap()) {
            for (value, wanted) in point.iter().zip(numbers(wanted)) {
                assert!((value - wanted).abs() < 1e-5, "{value} {wanted}");
            }
        }
    }
}

#[test]
fn a_plane_is_found_whole_and_distances_in_it_are_kept() {
    // Points of a plane within five dimensions, one axis of it twice as long.
    let plane: Vec<[f64; 2]> = (0..12_i32)
        .map(|at| [f64::from(at * at % 13) * 2.0, f64::from(at * 5 % 7)])
        .collect();
    let vectors: Vec<Vec<f32>> = plane
        .iter()
        .map(|[x, y]| [3.0, x * 0.6, *y, x * 0.8, -1.0].map(|value| value as f32).to_vec())
        .collect();
    let found = pca(&vectors);
    assert!((found.shares[0] + found.shares[1] - 1.0).abs() < 1e-9 && found.shares[0] > found.shares[1]);
    let distance =
        |points: &[[f64; 2]], a: usize, b: usize| (points[a][0] - points[b][0]).hypot(points[a][1] - points[b][1]);
    for (a, b) in [(0, 1), (2, 9), (5, 11)] {
        assert!((distance(&plane, a, b) - distance(&found.points, a, b)).abs() < 1e-4);
    }
}

#[test]
fn vectors_without_difference_are_one_point() {
    for vectors in [vec![], vec![vec![1.0, 2.0]], vec![vec![1.0, 2.0]; 5], vec![vec![]; 3]] {
        let found = pca(&vectors);
        assert_eq!(found.points, vec![[0.0; 2]; vectors.len()]);
        assert_eq!(found.shares, [0.0; 2]);
    }
    let line = pca(&[vec![0.0], vec![2.0]]);
    assert!(
        (line.points[1][0] - 1.0).abs() < 1e-12 && line.points[1][1] == 0.0,
        "{line:?}"
    );
}
