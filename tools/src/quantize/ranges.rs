//! From what an activation was seen to be, to the range that 256 steps are spent on.

use serde::{Deserialize, Serialize};

/// Resolution of the histograms. The finest percentile asked for is 1e-5; its bin must be far below one of 255 steps.
const BINS: usize = 4096;

/// How the range of an activation is chosen (Nagel et al. 2021, arXiv:2106.08295, section 3.1.1 compares them).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Everything that was seen.
    MinMax,
    /// Cut off the largest values, such that this share of all values remains (and the smallest likewise).
    Percentile(f64),
    /// The cut that minimises the expected squared error of rounding and clipping.
    Mse,
}

impl Estimator {
    /// Those that `quantize` compares.
    pub const CANDIDATES: [Self; 5] =
        [Self::MinMax, Self::Percentile(0.99999), Self::Percentile(0.9999), Self::Percentile(0.999), Self::Mse];
}

impl std::fmt::Display for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.pad("min-max"),
            Self::Percentile(p) => f.pad(&format!("percentile {:.5}", p * 100.0)),
            Self::Mse => f.pad("mse"),
        }
    }
}

/// Scale and zero point of an 8-bit activation: value = scale · (q − zero_point).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Positive.
    pub scale: f32,
    /// The q that means zero.
    pub zero_point: u8,
}

impl Affine {
    /// Spends the 256 values of a u8 on `low`…`high`, widened to hold zero exactly.
    pub fn over(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        // An activation that is always zero still needs a scale.
        let scale = ((high - low) / 255.0).max(1e-12);
        Self { scale, zero_point: (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8 }
    }

    /// Rounds half to even and saturates, as ONNX QuantizeLinear does.
    pub fn quantise(self, value: f32) -> u8 {
        ((value / self.scale).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }
}

/// Smallest and largest value seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    low: f32,
    high: f32,
}

impl Extremes {
    /// Of some values.
    pub fn of(values: &[f32]) -> Self {
        let start = Self { low: f32::INFINITY, high: f32::NEG_INFINITY };
        values.iter().fold(start, |e, &v| Self { low: e.low.min(v), high: e.high.max(v) })
    }

    /// Of both.
    pub fn join(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// How often which value was seen, between the extremes.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    extremes: Extremes,
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty one over values that `extremes` bound.
    pub fn new(extremes: Extremes) -> Self {
        Self { extremes, counts: vec![0; BINS] }
    }

    fn bin_width(&self) -> f64 {
        (f64::from(self.extremes.high) - f64::from(self.extremes.low)) / BINS as f64
    }

    fn centre(&self, bin: usize) -> f64 {
        f64::from(self.extremes.low) + (bin as f64 + 0.5) * self.bin_width()
    }

    /// Counts values; those outside the extremes go into the outermost bins.
    pub fn add(&mut self, values: &[f32]) {
        let low = self.extremes.low;
        let per_bin = (1.0 / self.bin_width()).min(1e30) as f32;
        for &v in values {
            // `as` saturates, so neither infinity nor a value outside can leave the table.
            self.counts[(((v - low) * per_bin) as usize).min(BINS - 1)] += 1;
        }
    }

    /// Adds the counts of a histogram over the same extremes.
    pub fn join(mut self, other: &Self) -> Self {
        assert_eq!(self.extremes, other.extremes);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self
    }

    /// The range to quantise.
    pub fn range(&self, estimator: Estimator) -> Affine {
        let Extremes { low, high } = self.extremes;
        match estimator {
            Estimator::MinMax => Affine::over(low, high),
            Estimator::Percentile(share) => {
                let (low, high) = self.percentile(share);
                Affine::over(low, high)
            }
            Estimator::Mse => {
                let steps = (1..=100).map(|step| step as f32 / 100.0);
                let candidates = steps.map(|part| Affine::over(low.min(0.0) * part, high.max(0.0) * part));
                candidates
                    .min_by(|a, b| self.squared_error(*a).total_cmp(&self.squared_error(*b)))
                    .expect("there are candidates")
            }
        }
    }

    fn percentile(&self, share: f64) -> (f32, f32) {
        let total: u64 = self.counts.iter().sum();
        let spare = ((1.0 - share) * total as f64) as u64;
        let mut passed = [0, 0];
        let mut is_past = |side: usize, bin: usize| {
            passed[side] += self.counts[bin];
            passed[side] > spare
        };
        let first = (0..BINS).find(|&bin| is_past(0, bin));
        let last = (0..BINS).rev().find(|&bin| is_past(1, bin));
        let edge = |bin: usize, side: f64| (f64::from(self.extremes.low) + (bin as f64 + side) * self.bin_width()) as f32;
        let low = first.map_or(self.extremes.low, |bin| edge(bin, 0.0));
        let high = last.map_or(self.extremes.high, |bin| edge(bin, 1.0));
        (low, high)
    }

    /// Expected squared error over everything counted: a uniform rounding error inside, the distance outside.
    fn squared_error(&self, affine: Affine) -> f64 {
        let scale = f64::from(affine.scale);
        let low = -f64::from(affine.zero_point) * scale;
        let high = low + 255.0 * scale;
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted
            .map(|(bin, &count)| {
                let value = self.centre(bin);
                let clipped = (value - value.clamp(low, high)).powi(2);
                count as f64 * (clipped + scale * scale / 12.0)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new(Extremes::of(values));
        histogram.add(values);
        histogram
    }

    #[test]
    fn zero_is_exact_and_the_ends_are_reached() {
        let affine = Affine::over(-1.0, 3.0);
        assert_eq!(affine.quantise(0.0), affine.zero_point);
        assert_eq!((affine.quantise(-9.0), affine.quantise(9.0)), (0, 255));
        assert!((affine.scale - 4.0 / 255.0).abs() < 1e-7);
        assert_eq!(Affine::over(0.5, 2.0), Affine { scale: 2.0 / 255.0, zero_point: 0 });
        assert_eq!(Affine { scale: 1.0, zero_point: 0 }.quantise(2.5), 2, "half to even");
    }

    #[test]
    fn estimators_treat_an_outlier_differently() {
        let mut values: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        values.push(100.0);
        let histogram = histogram(&values);
        let high = |estimator| histogram.range(estimator).scale * 255.0;
        assert!((high(Estimator::MinMax) - 100.0).abs() < 0.1);
        assert!(high(Estimator::Percentile(0.9999)) < 1.1);
        // 10⁵ (c / 255)² / 12 for rounding and (100 − c)² for clipping are least together at c = 88.6.
        assert!((high(Estimator::Mse) - 88.6).abs() < 1.0, "{}", high(Estimator::Mse));
    }

    #[test]
    fn a_constant_activation_has_a_usable_range() {
        let affine = histogram(&[0.0; 10]).range(Estimator::Mse);
        assert!(affine.scale > 0.0 && affine.quantise(0.0) == affine.zero_point);
    }
}
