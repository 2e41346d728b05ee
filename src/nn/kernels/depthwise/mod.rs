//! Depthwise convolution: every channel with its own kernel, four channels of a run of pixels from one staged plane.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512vnni;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod scalar;

use super::Pixel;
use super::requant::Requant;

/// The kernels of a depthwise layer: for each group of four channels and each tap four weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// `[groups][taps]`; the taps are filled up with zeros to a multiple of four.
    weights: Vec<[i8; 4]>,
    /// Offset of each tap in the staged plane; filled up by repeating the first.
    taps: Vec<usize>,
}

impl Weights {
    /// Packs `weights`, `[channels][taps]`; `taps` are the offsets in the staged plane.
    ///
    /// # Panics
    /// When `weights` does not have the shape, or holds −128.
    pub fn new(weights: &[i8], channels: usize, taps: &[usize]) -> Self {
        assert_eq!(weights.len(), channels * taps.len(), "weights of {channels} channels");
        assert!(!weights.contains(&i8::MIN), "weights are in -127..=127");
        let padded = taps.len().next_multiple_of(4);
        let weight = |channel: usize, tap: usize| {
            if channel < channels && tap < taps.len() { weights[channel * taps.len() + tap] } else { 0 }
        };
        let groups = 0..channels.div_ceil(4);
        let packed = groups.flat_map(|g| (0..padded).map(move |t| std::array::from_fn(|c| weight(g * 4 + c, t)))).collect();
        let taps = (0..padded).map(|t| taps.get(t).copied().unwrap_or(taps[0])).collect();
        Self { weights: packed, taps }
    }

    /// Groups of four channels.
    pub fn groups(&self) -> usize {
        self.weights.len() / self.taps.len()
    }

    /// Offsets of the taps; a multiple of four.
    pub fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// Weights of a group, one entry a tap.
    pub fn group(&self, group: usize) -> &[[i8; 4]] {
        &self.weights[group * self.taps.len()..][..self.taps.len()]
    }
}

/// One call of a depthwise kernel.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The group's staged plane.
    pub input: &'a [Pixel],
    /// The layer's weights.
    pub weights: &'a Weights,
    /// Which four channels.
    pub group: usize,
    /// How sums become outputs.
    pub requant: &'a Requant,
}

/// Computes `output.len()` pixels, from the plane's first on.
pub(super) type DepthwiseFn = fn(&Run<'_>, &mut [Pixel]);

impl Run<'_> {
    /// What every kernel relies on; `pixels` is the length of the run.
    pub(super) fn check(&self, pixels: usize) {
        assert!(self.group < self.weights.groups(), "group {} of {}", self.group, self.weights.groups());
        assert_eq!(self.requant.bias.len(), self.weights.groups(), "a bias for each group");
        assert_eq!(self.requant.multiplier.len(), self.weights.groups(), "a multiplier for each group");
        assert!(self.requant.residual.is_none(), "depthwise layers add nothing");
        let reach = self.weights.taps.iter().max().expect("a kernel has a tap");
        assert!(pixels + reach <= self.input.len(), "the run reads beyond its input");
    }
}
