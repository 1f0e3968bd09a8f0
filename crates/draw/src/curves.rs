//! From the records of a run to the points of a chart: smoothing, thinning, and axes that one wild value cannot ruin.

/// Larger numbers are drawn like infinity: no axis can show them next to ordinary ones.
const MAX_DRAWN: f64 = 1e30;

/// A curve as runs of connected points; it is interrupted where values are not finite.
pub type Curve = Vec<Vec<(f64, f64)>>;

/// The value where it can be drawn.
pub(crate) fn drawable(value: f64) -> Option<f64> {
    (value.abs() <= MAX_DRAWN).then_some(value)
}

/// A curve of at most `max_buckets` buckets of neighboring points, each drawn by its first, lowest, highest and last value, so that
/// spikes survive. A bucket without a drawable value is a gap.
pub fn thin(points: &[(f64, f64)], max_buckets: usize) -> Curve {
    let bucket_size = points.len().div_ceil(max_buckets.max(1)).max(1);
    let mut curve = Curve::new();
    let mut run = Vec::new();
    for bucket in points.chunks(bucket_size) {
        let drawn: Vec<(f64, f64)> = bucket
            .iter()
            .filter(|point| drawable(point.1).is_some())
            .copied()
            .collect();
        if drawn.is_empty() {
            curve.extend((!run.is_empty()).then(|| std::mem::take(&mut run)));
        }
        run.extend(representatives(&drawn));
    }
    curve.extend((!run.is_empty()).then_some(run));
    curve
}

/// The first, lowest, highest and last point, in their order and each once.
fn representatives(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let by_value = |&a: &usize, &b: &usize| points[a].1.total_cmp(&points[b].1);
    let lowest = (0..points.len()).min_by(by_value);
    let highest = (0..points.len()).max_by(by_value);
    let mut kept = vec![0, points.len().saturating_sub(1)];
    kept.extend(lowest.into_iter().chain(highest));
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter()
        .filter_map(|index| points.get(index).copied())
        .collect()
}

/// The mean over about `span` neighboring points, at `max_points` places at most.
///
/// The window is centered, so the average does not lag behind a falling loss. It shrinks to the first point, where a loss is steep, but
/// keeps its earlier half at the last one, where a single step would say little. Values that are not drawable are passed over.
pub fn smooth(points: &[(f64, f64)], span: usize, max_points: usize) -> Vec<(f64, f64)> {
    let Some(last) = points.len().checked_sub(1) else {
        return Vec::new();
    };
    let stride = points.len().div_ceil(max_points.max(1));
    let places = (0..last).step_by(stride).chain([last]);
    let mean_at = |place: usize| {
        let before = (span / 2).min(place);
        let after = (span / 2).min(place).min(last - place);
        let window = &points[place - before..=place + after];
        let (mut sum, mut count) = (0.0, 0_u32);
        for value in window.iter().filter_map(|point| drawable(point.1)) {
            sum += value;
            count += 1;
        }
        (count > 0).then(|| (points[place].0, sum / f64::from(count)))
    };
    places.filter_map(mean_at).collect()
}

/// The lower and upper end of an axis over drawable values; none without a value.
///
/// The outer two per cent on each side may lie at most five times the spread of the others away: beyond that the axis ends. Fewer than
/// 20 values are all shown.
pub(crate) fn axis(values: impl Iterator<Item = f64>, includes_zero: bool) -> Option<(f64, f64)> {
    let mut sorted: Vec<f64> = values.filter_map(drawable).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (&lowest, &highest) = (sorted.first()?, sorted.last()?);
    let outer = if sorted.len() < 20 {
        0
    } else {
        sorted.len().div_ceil(50)
    };
    let (low, high) = (sorted[outer], sorted[sorted.len() - 1 - outer]);
    let reach = 5.0 * (high - low);
    let (mut lower, mut upper) = (lowest, highest);
    // Where all others are equal there is no spread to measure by.
    if reach > 0.0 {
        lower = lower.max(low - reach);
        upper = upper.min(high + reach);
    }
    if includes_zero {
        lower = lower.min(0.0);
        upper = upper.max(0.0);
    }
    // A margin keeps lines off the frame, and an axis that is tiny for its numbers cannot be divided into ticks.
    let smallest = (1e-6 * lower.abs().max(upper.abs())).max(1e-12);
    let margin = (0.04 * (upper - lower)).max(smallest);
    let is_zero_based = includes_zero && lower == 0.0;
    Some((if is_zero_based { 0.0 } else { lower - margin }, upper + margin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<(f64, f64)> {
        let steps = (1..).map(f64::from);
        steps.zip(values.iter().copied()).collect()
    }

    #[test]
    fn a_curve_with_room_for_all_points_keeps_all_of_them() {
        let all = points(&[3.0, 1.0, 2.0]);
        assert_eq!(thin(&all, 10), [all]);
    }

    #[test]
    fn a_curve_is_interrupted_where_values_are_not_finite() {
        let curve = thin(&points(&[1.0, f64::NAN, 2.0, 3.0, f64::INFINITY]), 10);
        assert_eq!(curve, [vec![(1.0, 1.0)], vec![(3.0, 2.0), (4.0, 3.0)]]);
        assert!(thin(&points(&[f64::NAN, 1e300]), 10).is_empty());
        assert!(thin(&[], 10).is_empty());
    }

    #[test]
    fn thinning_keeps_spikes_and_both_ends() {
        let mut values = vec![1.0; 100_000];
        values[777] = 9.0;
        values[55_555] = -9.0;
        let thinned: Vec<(f64, f64)> = thin(&points(&values), 100).concat();
        assert!(thinned.len() <= 400);
        for kept in [(1.0, 1.0), (778.0, 9.0), (55_556.0, -9.0), (100_000.0, 1.0)] {
            assert!(thinned.contains(&kept), "{kept:?} was lost");
        }
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn smoothing_is_the_mean_of_a_centered_window() {
        let line: Vec<f64> = (0..100).map(f64::from).collect();
        let average = smooth(&points(&line), 20, 1000);
        // The mean of a straight line around a point is that point, so nothing lags.
        assert_eq!(average[..90], points(&line)[..90]);
        // The last point and the ten before it: 89 to 99.
        assert_eq!(average[99], (100.0, 94.0));
        let step = smooth(&points(&[0.0, 0.0, f64::NAN, 3.0, 3.0]), 2, 1000);
        let expected = [(1.0, 0.0), (2.0, 0.0), (3.0, 1.5), (4.0, 3.0), (5.0, 3.0)];
        assert_eq!(step, expected);
    }

    #[test]
    fn smoothing_gives_few_places_and_both_ends() {
        let average = smooth(&points(&[1.0; 10_001]), 100, 50);
        assert!(average.len() <= 51);
        assert_eq!((average[0].0, average[average.len() - 1].0), (1.0, 10_001.0));
        assert!(smooth(&[], 10, 10).is_empty());
        assert_eq!(smooth(&points(&[2.0]), 10, 10), [(1.0, 2.0)]);
        assert!(smooth(&points(&[f64::NAN; 3]), 1, 10).is_empty());
    }

    #[test]
    fn an_axis_spans_its_values_with_a_margin() {
        let (lower, upper) = axis([1.0, 2.0, 3.0].into_iter(), false).expect("values");
        assert!((0.9..1.0).contains(&lower) && (3.0..3.1).contains(&upper));
        assert_eq!(axis([1.0].into_iter(), true).expect("a value").0, 0.0);
        assert_eq!(axis([f64::NAN].into_iter(), false), None);
    }

    #[test]
    fn one_wild_value_does_not_flatten_the_others() {
        let ordinary = (0..1000).map(|step| 1.0 + f64::from(step) / 1000.0);
        let (_, upper) = axis(ordinary.chain([1e9]), false).expect("values");
        assert!(upper < 8.0, "the axis ends at {upper}");
    }

    #[test]
    fn an_axis_of_equal_values_still_has_a_length() {
        for value in [0.0, 1.0, -5.0, 1e-300, 1e30] {
            let (lower, upper) = axis([value; 3].into_iter(), false).expect("values");
            assert!(upper - lower >= 1e-6 * value.abs() && upper > lower);
        }
    }
}
