//! Statistics of repeated figures and of counts: spread, intervals of a share, the paired test, calibration, the gate's curve.
//!
//! Shares and probabilities lie in 0 to 1. Nothing here knows networks, pictures or reports. No function returns NaN or an
//! infinity for finite arguments.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the normal distribution: two-sided intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// Mean and standard deviation of a figure over repetitions, in the figure's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (divisor `n - 1`); 0 for a single value.
    pub sd: f64,
}

impl Spread {
    /// Of all finite `values`; `None` when there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        (!values.is_empty()).then(|| Self { mean, sd: (squares / (count - 1.0).max(1.0)).sqrt() })
    }
}

/// An interval of shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower bound, 0 to 1.
    pub low: f64,
    /// Upper bound, 0 to 1.
    pub high: f64,
}

/// Wilson's score interval at 95 % for `hits` of `of`; 0 to 1 when `of` is 0.
///
/// `hits` need not be whole: a mean over seeds is treated as what one seed gives, never as more pictures.
/// Source: Wilson 1927; method 3 of Newcombe, Statistics in Medicine 17 (1998), 857.
pub fn wilson(hits: f64, of: f64) -> Interval {
    if !(of > 0.0 && hits.is_finite()) {
        return Interval { low: 0.0, high: 1.0 };
    }
    let share = (hits / of).clamp(0.0, 1.0);
    let denominator = 1.0 + Z * Z / of;
    let centre = share + Z * Z / (2.0 * of);
    let half = Z * (share * (1.0 - share) / of + Z * Z / (4.0 * of * of)).sqrt();
    // At 0 and 1 the bound is the share itself, but for rounding.
    let low = if share == 0.0 { 0.0 } else { ((centre - half) / denominator).clamp(0.0, 1.0) };
    let high = if share == 1.0 { 1.0 } else { ((centre + half) / denominator).clamp(0.0, 1.0) };
    Interval { low, high }
}

/// The exact interval of Clopper and Pearson at 95 % for `hits` of `of`; 0 to 1 when `of` is 0. `hits` above `of` count as `of`.
///
/// Source: method 5 of Newcombe 1998. Takes time in proportion to `hits`.
pub fn clopper_pearson(hits: u64, of: u64) -> Interval {
    let hits = hits.min(of);
    if of == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    // The probability of at most `k` falls as `p` grows, so the bound is where it crosses `level`.
    let crossing = |k: u64, level: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if at_most(k, of, middle) > level { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    };
    let low = if hits == 0 { 0.0 } else { crossing(hits - 1, 0.975) };
    let high = if hits == of { 1.0 } else { crossing(hits, 0.025) };
    Interval { low, high }
}

/// Probability of at most `hits` hits in `of` trials of probability `p`.
fn at_most(hits: u64, of: u64, p: f64) -> f64 {
    if hits >= of || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = (p / (1.0 - p)).ln();
    let mut term = of as f64 * (-p).ln_1p();
    let mut sum = term.exp();
    for k in 0..hits {
        term += ((of - k) as f64 / (k + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

/// The exact test of McNemar, two-sided: the probability of a split at least as uneven as `only_a` against `only_b` if both
/// networks were equally good. Pictures on which both are right or both wrong do not enter. 1 when there is no difference.
///
/// Source: the conditional binomial test, as in R's `exact2x2::mcnemar.exact`.
pub fn mcnemar(only_a: u64, only_b: u64) -> f64 {
    (2.0 * at_most(only_a.min(only_b), only_a + only_b, 0.5)).min(1.0)
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// How many answers fell into it.
    pub count: u64,
    /// Their mean probability, 0 to 1; 0 in an empty bin.
    pub confidence: f64,
    /// The share of them that was right, 0 to 1; 0 in an empty bin.
    pub accuracy: f64,
}

/// Sorts answers (probability of the first class, whether it was right) into `bins` of equal width, the upper edge included.
/// Answers without a finite probability are left out.
///
/// Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 2 and 3.
pub fn calibration_bins(answers: impl IntoIterator<Item = (f64, bool)>, bins: usize) -> Vec<Bin> {
    let mut result = vec![Bin::default(); bins];
    for (probability, right) in answers.into_iter().filter(|(p, _)| p.is_finite()) {
        let index = ((probability * bins as f64).ceil() as usize).clamp(1, bins.max(1)) - 1;
        if let Some(bin) = result.get_mut(index) {
            bin.count += 1;
            bin.confidence += probability;
            bin.accuracy += f64::from(u8::from(right));
        }
    }
    for bin in result.iter_mut().filter(|b| b.count > 0) {
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    result
}

/// Expected calibration error, 0 to 1: the distance of accuracy from confidence, each bin weighed by its answers; `None` when
/// there are no answers. Source: Guo et al. 2017, equation 5.
pub fn expected_calibration_error(bins: &[Bin]) -> Option<f64> {
    let all: u64 = bins.iter().map(|b| b.count).sum();
    let distance: f64 = bins.iter().map(|b| b.count as f64 * (b.accuracy - b.confidence).abs()).sum();
    (all > 0).then(|| distance / all as f64)
}

/// What the gate does at one threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RocPoint {
    /// Scores at or above it are accepted.
    pub threshold: f64,
    /// Share of the pets accepted, 0 to 1.
    pub pets: f64,
    /// Share of the negatives accepted, 0 to 1.
    pub negatives: f64,
}

/// The receiver operating characteristic: a point for each distinct score, by falling threshold, the last at (1, 1). Empty
/// when there are no pets or no negatives. Scores that are not finite are left out.
///
/// Source: Fawcett, Pattern Recognition Letters 27 (2006), algorithm 1; equal scores are one point.
pub fn roc(pets: &[f64], negatives: &[f64]) -> Vec<RocPoint> {
    let scores = |all: &[f64], pet: bool| all.iter().filter(|s| s.is_finite()).map(|&s| (s, pet)).collect::<Vec<_>>();
    let (mut all, others) = (scores(pets, true), scores(negatives, false));
    let (pet_count, negative_count) = (all.len() as f64, others.len() as f64);
    if all.is_empty() || others.is_empty() {
        return vec![];
    }
    all.extend(others);
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut accepted_pets, mut accepted_negatives) = (0.0, 0.0);
    let mut points = Vec::new();
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let pets = equal.iter().filter(|(_, pet)| *pet).count() as f64;
        accepted_pets += pets;
        accepted_negatives += equal.len() as f64 - pets;
        let (pets, negatives) = (accepted_pets / pet_count, accepted_negatives / negative_count);
        points.push(RocPoint { threshold: equal[0].0, pets, negatives });
    }
    points
}

/// The largest share of pets that is accepted while at most the share `negatives` of the negatives is; 0 when every point
/// accepts more of them.
pub fn pets_at(points: &[RocPoint], negatives: f64) -> f64 {
    points.iter().filter(|p| p.negatives <= negatives).map(|p| p.pets).fold(0.0, f64::max)
}

/// Keeps the points of a curve that a plot can show: the best in each of `steps` steps of the logarithmic axis from `floor` to
/// 1, the best below it, and the point of `threshold`. With `floor` 0.001 and a multiple of 3 steps, [`pets_at`] 0.01 and 0.1
/// stay what they are.
pub fn thin(points: &[RocPoint], floor: f64, steps: usize, threshold: f64) -> Vec<RocPoint> {
    let step = |p: &RocPoint| match p.negatives {
        n if n <= floor => 0,
        n => 1 + ((n / floor).ln() / (1.0 / floor).ln() * steps as f64 - 1e-9) as usize,
    };
    let kept = points.iter().rposition(|p| p.threshold >= threshold);
    let last = |i: usize| points.get(i + 1).is_none_or(|next| step(next) != step(&points[i]));
    (0..points.len()).filter(|&i| last(i) || kept == Some(i)).map(|i| points[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} is not {expected} ± {tolerance}");
    }

    #[test]
    fn spread_is_mean_and_sample_deviation() {
        // NIST Statistical Reference Datasets, NumAcc1: mean 10000002, sample deviation 1.
        let certified = Spread::of([10_000_001.0, 10_000_003.0, 10_000_002.0]).unwrap();
        assert_eq!((certified.mean, certified.sd), (10_000_002.0, 1.0));
        assert_eq!(Spread::of([0.5]), Some(Spread { mean: 0.5, sd: 0.0 }));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, 2.0]), Some(Spread { mean: 2.0, sd: 0.0 }));
    }

    #[test]
    fn intervals_are_those_of_newcombe() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, methods 3 (Wilson) and 5 (Clopper-Pearson).
        let table = [
            (81u32, 263u32, (0.2553, 0.3662), (0.2527, 0.3676)),
            (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
            (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
            (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
        ];
        for (hits, of, score, exact) in table {
            let found = wilson(f64::from(hits), f64::from(of));
            near(found.low, score.0, 5.01e-5);
            near(found.high, score.1, 5.01e-5);
            let found = clopper_pearson(hits.into(), of.into());
            near(found.low, exact.0, 5.01e-5);
            near(found.high, exact.1, 5.01e-5);
        }
    }

    #[test]
    fn intervals_at_the_ends_are_closed() {
        for interval in [wilson, |h, o| clopper_pearson(h as u64, o as u64)] {
            assert_eq!(interval(0.0, 0.0), Interval { low: 0.0, high: 1.0 });
            assert_eq!(interval(0.0, 50.0).low, 0.0);
            assert_eq!(interval(50.0, 50.0).high, 1.0);
            near(interval(50.0, 50.0).low, 1.0 - interval(0.0, 50.0).high, 1e-12);
        }
        // Nothing in n: the bound solves (1 - p)^n = 0.025.
        near(clopper_pearson(0, 100_000).high, 1.0 - 0.025f64.powf(1e-5), 1e-12);
        let many = clopper_pearson(30_000, 100_000);
        near(many.low, 0.297_160, 5e-6);
        near(many.high, 0.302_850, 5e-6);
        assert_eq!(wilson(f64::NAN, 3.0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn the_paired_test_is_the_exact_one() {
        // Vignette of R's exact2x2 (Fay 2010), table (21, 9, 2, 12): p = 0.06543; the binomial sum is 134/2048.
        near(mcnemar(9, 2), 134.0 / 2048.0, 1e-15);
        near(mcnemar(2, 9), 134.0 / 2048.0, 1e-15);
        // Agresti, Categorical Data Analysis, approval of the prime minister: 150 against 86 (sum of whole binomials).
        near(mcnemar(150, 86) / MCNEMAR_150_86, 1.0, 1e-9);
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(5, 5), 1.0);
        near(mcnemar(10, 0), 2.0 / 1024.0, 1e-15);
    }

    /// Sum of whole binomial coefficients in Python's integers, divided once.
    const MCNEMAR_150_86: f64 = 3.715_936_139_571_442e-5;

    #[test]
    fn calibration_error_is_the_published_example() {
        // Pavlovic, Expected Calibration Error: A Step-by-Step Visual Explanation (Towards Data Science 2023): nine answers, five bins, 0.10444.
        let right = [(0.78, true), (0.64, true), (0.58, true), (0.85, true), (0.70, true), (0.83, true)];
        let wrong = [(0.92, false), (0.51, false), (0.63, false)];
        let bins = calibration_bins(right.into_iter().chain(wrong), 5);
        assert_eq!(bins.iter().map(|b| b.count).collect::<Vec<_>>(), [0, 0, 2, 4, 3]);
        near(expected_calibration_error(&bins).unwrap(), 0.104_44, 5e-6);
    }

    #[test]
    fn bins_include_their_upper_edge_and_nothing_is_lost() {
        let bins = calibration_bins([(0.0, false), (0.5, true), (0.500_1, true), (1.0, true), (f64::NAN, true)], 2);
        assert_eq!(bins.iter().map(|b| b.count).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(expected_calibration_error(&calibration_bins([], 15)), None);
        assert!(calibration_bins([(0.5, true)], 0).is_empty());
    }

    #[test]
    fn the_curve_is_that_of_fawcett() {
        // Fawcett 2006, figure 3: twenty instances, p and n by falling score.
        let pets = [0.9, 0.8, 0.6, 0.55, 0.54, 0.51, 0.4, 0.38, 0.34, 0.30];
        let negatives = [0.7, 0.53, 0.52, 0.505, 0.39, 0.37, 0.36, 0.35, 0.33, 0.1];
        let points = roc(&pets, &negatives);
        assert_eq!(points.len(), 20);
        let at = |threshold: f64| points.iter().find(|p| p.threshold == threshold).map(|p| (p.negatives, p.pets)).unwrap();
        assert_eq!((at(0.9), at(0.54), at(0.1)), ((0.0, 0.1), (0.1, 0.5), (1.0, 1.0)));
        assert_eq!((pets_at(&points, 0.0), pets_at(&points, 0.1)), (0.2, 0.5));
    }

    #[test]
    fn equal_scores_are_one_point_and_nothing_is_no_curve() {
        // Fawcett 2006, section 5.1: equal scores are taken together, whatever their order.
        assert_eq!(roc(&[0.5, 0.5], &[0.5]), [RocPoint { threshold: 0.5, pets: 1.0, negatives: 1.0 }]);
        assert!(roc(&[], &[1.0]).is_empty() && roc(&[1.0], &[f64::NAN]).is_empty());
        assert_eq!(pets_at(&[], 0.1), 0.0);
    }

    #[test]
    fn thinning_keeps_the_ends_and_the_best_of_each_step() {
        let points: Vec<_> = (1..=5000).map(|i| f64::from(i) / 5000.0).collect();
        let points = roc(&points, &points);
        let thinned = thin(&points, 0.001, 120, 0.4321);
        assert!(thinned.len() <= 123, "{}", thinned.len());
        assert_eq!(thinned.last(), points.last());
        assert_eq!(thinned[0].negatives, 0.001);
        assert!(thinned.iter().any(|p| p.threshold == 0.4322));
        for negatives in [0.001, 0.01, 0.1, 1.0] {
            assert_eq!(pets_at(&thinned, negatives), pets_at(&points, negatives));
        }
        assert_eq!(thin(&points, 0.001, 120, 2.0).len() + 1, thinned.len());
        assert!(thin(&[], 0.001, 120, 0.0).is_empty());
    }
}
