//! Convolution: four output channels of a run of pixels from planes of four input channels.
//!
//! A layer is a set of 1×4 *blocks*: four weights of one output channel for the four input channels of one plane under one tap.
//! Weights are packed once ([`Packed`]): *dense*, all blocks of four output channels interleaved, or as a *stream* of the blocks
//! that are not zero, each with the distance to the next, one output channel after the other. Which of the two is faster depends
//! on the share of zeros and the instruction set; [`Packing::sparse_below`] is where they meet.

/// Calls `tile::<V>` for the number of vectors at hand.
macro_rules! by_vectors {
    ($count:expr, $tile:ident $arguments:tt, $($vectors:literal)*) => {
        match $count { $($vectors => $tile::<$vectors> $arguments,)* more => unreachable!("a tile of {more} vectors") }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512vnni;
#[cfg(target_arch = "x86_64")]
pub(super) mod avxvnni;
#[cfg(target_arch = "aarch64")]
pub(super) mod dotprod;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
mod pack;
pub(super) mod scalar;

use super::Pixel;
use super::requant::Requant;
pub use pack::{Form, Packed, Quad, Runs, Shape, Stream};

/// What weights must look like for a set of kernels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packing {
    /// How dense weights are arranged; without, everything is a stream.
    pub dense: Option<DenseOrder>,
    /// Sums that products pass through in 16 bits.
    pub pairs: Pairs,
    /// A layer is streamed when its stream holds less than this share of all blocks: for 1×1 kernels, and for larger ones
    /// (whose taps read unaligned). Measured with `cargo bench --bench kernels`.
    pub sparse_below: [f32; 2],
}

/// Arrangement of dense weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseOrder {
    /// `[groups][taps][planes][4 output channels][4 input channels]`.
    Groups,
    /// `[channels][taps][planes][4 input channels]`, and which four planes have products of one lane that add up in 16 bits.
    Channels,
}

/// How products are added before they are widened to 32 bits. Inputs are u8 or i8, so the bounds are 255 and 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// They are not: any weights will do.
    Wide,
    /// Two neighbouring products of u8 · s8 (`vpmaddubsw`): blocks in which a pair may exceed 16 bits are split into two.
    Neighbours,
    /// Two products of i8 · i8 of consecutive blocks (`smull`, `smlal`), which always fit; four of them where the weights are
    /// small enough.
    Consecutive,
}

/// One call of a convolution kernel.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The planes, staged ([`super::stage`]) unless the layer is 1×1 without stride.
    pub input: &'a [Pixel],
    /// Index of the first pixel to compute, counted as in the staged planes.
    pub first: usize,
    /// The layer's weights.
    pub weights: &'a Packed,
    /// Which four output channels.
    pub group: usize,
    /// How sums become outputs.
    pub requant: &'a Requant,
    /// The four channels of the added tensor for this run, if the layer adds one.
    pub residual: Option<&'a [Pixel]>,
}

/// Computes `output.len()` pixels.
pub(super) type ConvFn = fn(&Run<'_>, &mut [Pixel]);

impl Run<'_> {
    /// What every kernel relies on; `pixels` is the length of the run.
    pub(super) fn check(&self, pixels: usize) {
        check(self.input, self.first, self.weights, self.group, self.requant, pixels);
        assert_eq!(self.requant.residual.is_some(), self.residual.is_some(), "a residual, or none");
        assert!(self.residual.is_none_or(|r| r.len() == pixels), "the residual is as long as the run");
    }
}

/// What runs and tails have in common.
fn check(input: &[Pixel], first: usize, weights: &Packed, group: usize, requant: &Requant, pixels: usize) {
    assert!(group < weights.groups(), "group {group} of {}", weights.groups());
    assert_eq!(requant.bias.len(), weights.groups(), "a bias for each group");
    assert_eq!(requant.multiplier.len(), weights.groups(), "a multiplier for each group");
    let end = first.checked_add(pixels).and_then(|end| end.checked_add(weights.reach()));
    assert!(end.is_some_and(|end| end <= input.len()), "the run reads beyond its input");
}

/// Pixels that a call of a tail kernel computes at most.
pub const TAIL_PIXELS: usize = 8;
/// Groups of four output channels that a call of a tail kernel computes.
pub const TAIL_GROUPS: usize = 4;
/// The outputs of [`TAIL_GROUPS`] groups for one pixel.
pub type TailPixel = [Pixel; TAIL_GROUPS];

/// One call of a tail kernel: the last pixels of a run, where they leave most of a vector empty. Output channels lie side by
/// side in a register instead of pixels.
#[derive(Debug, Clone, Copy)]
pub struct Tail<'a> {
    /// As in [`Run`].
    pub input: &'a [Pixel],
    /// As in [`Run`].
    pub first: usize,
    /// The layer's weights, dense.
    pub weights: &'a Packed,
    /// The first of [`TAIL_GROUPS`] groups; where the layer ends before the last of them, what is computed for the missing ones
    /// means nothing.
    pub group: usize,
    /// As in [`Run`].
    pub requant: &'a Requant,
    /// The added tensor for these pixels and groups, if the layer adds one.
    pub residual: Option<&'a [TailPixel]>,
}

/// Computes `output.len()` pixels.
pub(super) type TailFn = fn(&Tail<'_>, &mut [TailPixel]);

impl Tail<'_> {
    /// What every kernel relies on.
    pub(super) fn check(&self, pixels: usize) {
        assert!((1..=TAIL_PIXELS).contains(&pixels), "a tail of {pixels} pixels");
        assert!(matches!(self.weights.form(), Form::Dense { .. }), "tails need dense weights");
        check(self.input, self.first, self.weights, self.group, self.requant, pixels);
        assert_eq!(self.requant.residual.is_some(), self.residual.is_some(), "a residual, or none");
        assert!(self.residual.is_none_or(|r| r.len() == pixels), "the residual is as long as the tail");
    }
}

/// Splits `vectors` into tiles of at most `most`, as equal as possible: (first vector, number of vectors).
pub(super) fn tiles(vectors: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = vectors.div_ceil(most);
    (0..count).map(move |i| {
        let (start, end) = (i * vectors / count, (i + 1) * vectors / count);
        (start, end - start)
    })
}

/// As [`tiles`], but of exactly `full` vectors, except for what is left: at most `most` in the last tile, or the last two equal.
#[cfg(any(target_arch = "aarch64", test))]
fn full_tiles(vectors: usize, full: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let rest = vectors % full;
    // Less than half a tile is better joined to the one before.
    let rest = if rest != 0 && rest * 2 < full && vectors > full { full + rest } else { rest };
    let whole = (vectors - rest) / full;
    let last = tiles(rest, most).map(move |(start, count)| (whole * full + start, count));
    (0..whole).map(move |i| (i * full, full)).chain(last)
}

/// How many tiles of four and then of five vectors, for which there are loops by hand, and how many vectors are left: none, except
/// where fours and fives do not add up to `vectors`.
#[cfg(any(target_arch = "aarch64", test))]
fn fours_and_fives(vectors: usize) -> (usize, usize, usize) {
    let fives = vectors % 4;
    match vectors.checked_sub(fives * 5) {
        Some(rest) => (rest / 4, fives, 0),
        // 1, 2, 3, 6, 7 and 11.
        None => (vectors / 4, 0, vectors % 4),
    }
}

/// Weights are asked for so many bytes before their turn (x86-64). Each inference reads all of them once, from the last-level cache or
/// further; processors that fetch ahead by themselves stop at every page. Layers with few pixels and many weights take 0.6 of the time.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8 << 10;

/// Four weights as one 32-bit operand.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline]
pub(super) fn word(block: [i8; 4]) -> i32 {
    i32::from_ne_bytes(block.map(|weight| weight as u8))
}

#[cfg(test)]
mod tests {
    #[test]
    fn full_tiles_cover_everything() {
        for (vectors, full, most) in (0..60).flat_map(|v| [(v, 4, 5), (v, 8, 8), (v, 4, 4)]) {
            let tiles: Vec<_> = super::full_tiles(vectors, full, most).collect();
            let mut next = 0;
            for &(start, count) in &tiles {
                assert_eq!(start, next);
                assert!((1..=most).contains(&count));
                next += count;
            }
            assert_eq!(next, vectors);
            assert!(tiles.len() <= vectors.div_ceil(full));
        }
    }

    #[test]
    fn fours_and_fives_cover_everything() {
        for vectors in 0..60 {
            let (fours, fives, last) = super::fours_and_fives(vectors);
            assert_eq!(fours * 4 + fives * 5 + last, vectors);
            assert!(last == 0 || [1, 2, 3, 6, 7, 11].contains(&vectors) && last < 4);
        }
    }

    #[test]
    fn tiles_cover_everything_evenly() {
        for vectors in 0..60 {
            let tiles: Vec<_> = super::tiles(vectors, 6).collect();
            let ends: usize = tiles.iter().map(|t| t.1).sum();
            assert_eq!(ends, vectors);
            assert!(tiles.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0));
            assert!(tiles.iter().all(|t| t.1 <= 6 && t.1 + 1 >= vectors.div_ceil(vectors.div_ceil(6))));
        }
    }
}
