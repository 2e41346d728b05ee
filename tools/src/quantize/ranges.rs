//! From what an activation was seen to be, to the range that 256 steps are spent on.

use serde::{Deserialize, Serialize};

/// Resolution of the histograms. The finest percentile asked for is 1e-5; its bin must be far below one of 255 steps.
const BINS: usize = 4096;

/// How the range of an activation is chosen (Nagel et al. 2021, arXiv:2106.08295, section 3.1.1 compares them).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Everything that was seen.
    #[default]
    MinMax,
    /// Cut off the largest values, such that this share of all values remains (and the smallest likewise).
    Percentile(f64),
    /// The cut that minimises the expected squared error of rounding and clipping.
    Mse,
    /// The cut whose 256 steps lose the least information about the distribution: the smallest Kullback-Leibler divergence
    /// (Migacz 2017, *8-bit inference with TensorRT*, GTC).
    Entropy,
}

impl Estimator {
    /// Those that `quantize` compares.
    pub const CANDIDATES: [Self; 6] =
        [Self::MinMax, Self::Percentile(0.99999), Self::Percentile(0.9999), Self::Percentile(0.999), Self::Mse, Self::Entropy];
}

impl std::fmt::Display for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.pad("min-max"),
            Self::Percentile(p) => f.pad(&format!("percentile {:.5}", p * 100.0)),
            Self::Mse => f.pad("mse"),
            Self::Entropy => f.pad("entropy"),
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

    /// The value that 8 bits hold in its place.
    pub fn round(self, value: f32) -> f32 {
        (f32::from(self.quantise(value)) - f32::from(self.zero_point)) * self.scale
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
            Estimator::Mse => self.best_cut(1, |affine| self.squared_error(affine)),
            // Below 6 % of the range a step is finer than a bin, and nothing could be told.
            Estimator::Entropy => {
                let smooth = self.without_zeros();
                self.best_cut(7, |affine| smooth.divergence(affine))
            }
        }
    }

    /// The same with as many zeros as there are values beside them. Behind a ReLU half of the values are zero; that spike would decide
    /// alone, for the finest steps, although zero is exact whatever the steps are.
    fn without_zeros(&self) -> Self {
        let mut smooth = self.clone();
        let zero = (-f64::from(self.extremes.low) / self.bin_width()).floor();
        if (0.0..BINS as f64).contains(&zero) {
            let at = zero as usize;
            let beside = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|bin| self.counts.get(bin));
            smooth.counts[at] = beside.copied().max().unwrap_or_default().min(self.counts[at]);
        }
        smooth
    }

    /// The cut with the smallest loss among hundredths of the whole range, from `first` on.
    fn best_cut(&self, first: u8, loss: impl Fn(Affine) -> f64) -> Affine {
        let Extremes { low, high } = self.extremes;
        let parts = (first..=100).map(|step| f32::from(step) / 100.0);
        let cuts = parts.map(|part| Affine::over(low.min(0.0) * part, high.max(0.0) * part));
        let judged = cuts.map(|cut| (cut, loss(cut)));
        judged.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are candidates").0
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

    /// Kullback-Leibler divergence, in nats, from the distribution with everything outside moved to the nearest end, to the one
    /// that knows only how many values fall into each of the 256 steps.
    fn divergence(&self, affine: Affine) -> f64 {
        let scale = f64::from(affine.scale);
        let low = -f64::from(affine.zero_point) * scale;
        let high = low + 255.0 * scale;
        let inside = |bin: &usize| (low - scale / 2.0..=high + scale / 2.0).contains(&self.centre(*bin));
        let Some((first, last)) = (0..BINS).find(inside).zip((0..BINS).rev().find(inside)) else { return f64::INFINITY };
        let mut steps = [(0_u64, 0_u64); 256];
        let step_of = |bin: usize| usize::from(affine.quantise(self.centre(bin) as f32));
        for bin in (first..=last).filter(|&bin| self.counts[bin] > 0) {
            let (count, bins) = &mut steps[step_of(bin)];
            (*count, *bins) = (*count + self.counts[bin], *bins + 1);
        }
        let total: u64 = self.counts.iter().sum();
        let known: u64 = self.counts[first..=last].iter().sum();
        let outside = [self.counts[..first].iter().sum::<u64>(), self.counts[last + 1..].iter().sum()];
        (first..=last)
            .map(|bin| {
                let moved = if bin == first { outside[0] } else { 0 } + if bin == last { outside[1] } else { 0 };
                let count = self.counts[bin] + moved;
                if count == 0 {
                    return 0.0;
                }
                let p = count as f64 / total as f64;
                let (in_step, bins) = steps[step_of(bin)];
                // An end that only holds what was moved there is known to hold nothing: as unlikely as one value.
                let q = if self.counts[bin] == 0 { 0.0 } else { in_step as f64 / bins as f64 / known as f64 };
                p * (p / q.max(1.0 / total as f64)).ln()
            })
            .sum()
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
        assert!(high(Estimator::Entropy) < 50.0, "one value in 10⁵ tells little: {}", high(Estimator::Entropy));
        // 10⁵ (c / 255)² / 12 for rounding and (100 − c)² for clipping are least together at c = 88.6.
        assert!((high(Estimator::Mse) - 88.6).abs() < 1.0, "{}", high(Estimator::Mse));
    }

    #[test]
    fn entropy_keeps_what_is_spread_evenly_and_cuts_a_thin_tail() {
        let even: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        assert_eq!(histogram(&even).range(Estimator::Entropy), histogram(&even).range(Estimator::MinMax));
        // Exponential with mean 1, by its quantiles: the largest is ln 10⁵ = 11.5; a thousandth lies beyond 6.9.
        let tail: Vec<f32> = (1..=100_000).map(|i| -((f64::from(i) - 0.5) / 1e5).ln() as f32).collect();
        let high = histogram(&tail).range(Estimator::Entropy).scale * 255.0;
        assert!((4.0..11.0).contains(&high), "{high}");
        // Ten times as many zeros as anything else, as behind a ReLU, change nothing.
        let spiked: Vec<f32> = tail.iter().copied().chain(std::iter::repeat_n(0.0, 1_000_000)).collect();
        let with_zeros = histogram(&spiked).range(Estimator::Entropy).scale * 255.0;
        assert!((with_zeros - high).abs() < 0.3, "{with_zeros} {high}");
        // A step that holds 3 and 1 values is taken for one that holds 2 and 2: 3/4 ln(3/2) + 1/4 ln(1/2).
        let mut coarse = Histogram::new(Extremes { low: 0.0, high: 255.0 });
        let step = (0..BINS).filter(|&bin| (99.5..100.5).contains(&coarse.centre(bin))).collect::<Vec<_>>();
        (coarse.counts[step[2]], coarse.counts[step[5]]) = (3, 1);
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((coarse.divergence(Affine::over(0.0, 255.0)) - expected).abs() < 1e-12);
    }

    #[test]
    fn a_constant_activation_has_a_usable_range() {
        let affine = histogram(&[0.0; 10]).range(Estimator::Mse);
        assert!(affine.scale > 0.0 && affine.quantise(0.0) == affine.zero_point);
    }
}
