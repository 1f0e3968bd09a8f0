//! Vectors of many numbers as points of a plane: principal components.

use crate::bootstrap::splitmix;

/// Directions that are followed at once; the more, the faster the first two settle.
const DIRECTIONS: usize = 8;

/// Rounds after which the directions are taken as they are. Where the first is twice as strong as the ninth, 30 are enough.
const MAX_ROUNDS: usize = 1000;

/// How far a direction may be from its image, in parts of the strongest one's strength.
const TOLERANCE: f64 = 1e-10;

/// Points of a plane, and how much of their differences it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// One point a vector.
    pub points: Vec<[f64; 2]>,
    /// The shares of the variance that the two axes explain, each in 0..=1.
    pub shares: [f64; 2],
}

/// Projects vectors on the two directions in which they differ most (principal components, Hotelling 1933).
///
/// The directions come from subspace iteration with a Rayleigh-Ritz step (Stewart 1976), from a fixed start, so equal vectors give equal
/// bits. The sign of an axis is free; it is chosen so that the largest number of its direction is positive. Vectors without difference
/// all lie at the origin and explain nothing.
///
/// # Shapes
///
/// - `vectors`: any number, all of one length (numbers beyond the shortest one's length do not count), finite.
pub fn pca(vectors: &[Vec<f32>]) -> Projection {
    let n = vectors.len();
    let width = vectors.iter().map(Vec::len).min().unwrap_or(0);
    let rows = centred(vectors, width);
    let total: f64 = rows.iter().flatten().map(|value| value * value).sum();
    let mut projection = Projection {
        points: vec![[0.0; 2]; n],
        shares: [0.0; 2],
    };
    if total <= 0.0 {
        return projection;
    }
    let directions = strongest_directions(&rows, width, DIRECTIONS.min(n).min(width));
    for (axis, direction) in directions.iter().take(2).enumerate() {
        let largest = direction
            .iter()
            .copied()
            .fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        let mut strength = 0.0;
        for (point, row) in projection.points.iter_mut().zip(&rows) {
            point[axis] = sign * dot(row, direction);
            strength += point[axis] * point[axis];
        }
        projection.shares[axis] = strength / total;
    }
    projection
}

/// The vectors without their mean.
fn centred(vectors: &[Vec<f32>], width: usize) -> Vec<Vec<f64>> {
    let mut mean = vec![0.0; width];
    for vector in vectors {
        add(
            &mut mean,
            1.0 / vectors.len() as f64,
            vector.iter().map(|value| f64::from(*value)),
        );
    }
    let centre = |vector: &Vec<f32>| {
        vector
            .iter()
            .zip(&mean)
            .map(|(value, mean)| f64::from(*value) - mean)
            .collect()
    };
    vectors.iter().map(centre).collect()
}

/// The strongest `k` directions of `rows`, orthonormal, the strongest first.
fn strongest_directions(rows: &[Vec<f64>], width: usize, k: usize) -> Vec<Vec<f64>> {
    let mut state = 0;
    let mut draw = || (splitmix(&mut state) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
    let mut directions: Vec<Vec<f64>> = (0..k).map(|_| (0..width).map(|_| draw()).collect()).collect();
    orthonormalize(&mut directions);
    for _ in 0..MAX_ROUNDS {
        // Within their span, the directions themselves: those of the small matrix.
        let images: Vec<Vec<f64>> = directions
            .iter()
            .map(|direction| rows.iter().map(|row| dot(row, direction)).collect())
            .collect();
        let small: Vec<Vec<f64>> = images
            .iter()
            .map(|a| images.iter().map(|b| dot(a, b)).collect())
            .collect();
        let (strengths, rotation) = symmetric_eigen(small);
        directions = combine(&rotation, &directions);
        let images = combine(&rotation, &images);
        let mut next = vec![vec![0.0; width]; k];
        for (next, image) in next.iter_mut().zip(&images) {
            for (row, weight) in rows.iter().zip(image) {
                add(next, *weight, row.iter().copied());
            }
        }
        let is_settled = next
            .iter()
            .zip(&directions)
            .zip(&strengths)
            .take(2)
            .all(|((next, direction), strength)| {
                let error: f64 = next
                    .iter()
                    .zip(direction)
                    .map(|(a, b)| (a - strength * b).powi(2))
                    .sum();
                error.sqrt() <= TOLERANCE * strengths[0]
            });
        if is_settled {
            break;
        }
        directions = next;
        orthonormalize(&mut directions);
    }
    directions
}

/// Gram-Schmidt, twice over each for the sake of rounding. What depends on the ones before it becomes zero.
fn orthonormalize(vectors: &mut [Vec<f64>]) {
    for index in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(index);
        let vector = &mut rest[0];
        let size = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(vector, other);
                add(vector, -along, other.iter().copied());
            }
        }
        let left = dot(vector, vector).sqrt();
        let scale = if left > 1e-14 * size { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Eigenvalues, the largest first, and eigenvectors as rows, of a small symmetric matrix (Jacobi 1846).
fn symmetric_eigen(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = matrix.len();
    let mut vectors: Vec<Vec<f64>> = (0..n)
        .map(|row| (0..n).map(|column| f64::from(row == column)).collect())
        .collect();
    for _ in 0..64 {
        for p in 0..n {
            for q in p + 1..n {
                let apart = matrix[p][q];
                if apart == 0.0 {
                    continue;
                }
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * apart);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                let turn = |a: &mut f64, b: &mut f64| (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                for row in &mut matrix {
                    let (left, right) = row.split_at_mut(q);
                    turn(&mut left[p], &mut right[0]);
                }
                for rows in [&mut matrix, &mut vectors] {
                    let (upper, lower) = rows.split_at_mut(q);
                    for (a, b) in upper[p].iter_mut().zip(&mut lower[0]) {
                        turn(a, b);
                    }
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| matrix[*b][*b].total_cmp(&matrix[*a][*a]));
    let values = order.iter().map(|index| matrix[*index][*index]).collect();
    (
        values,
        order
            .into_iter()
            .map(|index| std::mem::take(&mut vectors[index]))
            .collect(),
    )
}

/// The sums of vectors that the rows of `weights` say.
fn combine(weights: &[Vec<f64>], vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let len = vectors.first().map_or(0, Vec::len);
    let sum = |weights: &Vec<f64>| {
        let mut sum = vec![0.0; len];
        for (weight, vector) in weights.iter().zip(vectors) {
            add(&mut sum, *weight, vector.iter().copied());
        }
        sum
    };
    weights.iter().map(sum).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], weight: f64, vector: impl Iterator<Item = f64>) {
    for (sum, value) in sum.iter_mut().zip(vector) {
        *sum += weight * value;
    }
}
