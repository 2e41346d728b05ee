//! Convolution with ARMv8.0 Advanced SIMD: 4 pixels a register. `smull` and `smlal` add two or four products of i8 · i8 in 16 bits,
//! as many as the weights allow ([`super::Pairs::Consecutive`]), and `sadalp` adds pairs of those in 32.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::{DenseOrder, Form, Packing, Pairs, Quad, Run, tiles, word};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::neon::{Finish, load, store};

pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Channels), pairs: Pairs::Consecutive, sparse_below: [0.85, 0.85] };

const LANES: usize = 4;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding neon (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "neon")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    for (start, count) in tiles(output.len() / LANES, 4) {
        by_vectors!(count, tile(run, start * LANES, output), 1 2 3 4);
    }
}

/// Four channels of `V` vectors, one channel after the other.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const V: usize>(run: &Run<'_>, at: usize, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let mut bytes = [vdupq_n_s32(0); V];
    for c in 0..4 {
        let mut sums = Sums::<V> { pairs: [vdupq_n_s32(0); V], more: [vdupq_n_s32(0); V] };
        // SAFETY: `Run::check`: first + run lies within the input.
        let from = unsafe { run.input.as_ptr().add(run.first + at) };
        match run.weights.form() {
            Form::Dense { weights, taps, planes, plane, wide, .. } => {
                let size = taps.len() * planes;
                let channel = run.group * 4 + c;
                let wide_size = taps.len() * (planes / 4);
                let weights = &weights[channel * size..][..size];
                let mut wide = wide[channel * wide_size..][..wide_size].iter();
                for (tap, blocks) in taps.iter().zip(weights.chunks_exact(*planes)) {
                    // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
                    unsafe { dense_tap(&mut sums, from.wrapping_add(*tap), *plane, blocks, &mut wide) };
                }
            }
            Form::Stream(stream) => {
                let [fours, twos] = stream.lists(run.group * 4 + c);
                // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for.
                unsafe {
                    stream_list::<V, false>(&mut sums, from, fours);
                    stream_list::<V, true>(&mut sums, from, twos);
                }
            }
        }
        let bias = vdupq_n_s32(run.requant.bias[run.group][c]);
        for v in 0..V {
            let other = run.residual.map(|r| vreinterpretq_s32_s8(load(r, at + v * LANES)));
            let sum = vaddq_s32(vpaddq_s32(sums.pairs[v], sums.more[v]), bias);
            bytes[v] = finish.channel(c, bytes[v], sum, run.requant.multiplier[run.group][c], other);
        }
    }
    for v in 0..V {
        store(output, at + v * LANES, finish.stored(bytes[v]));
    }
}

/// 32-bit sums of one channel; two lanes a pixel (products of the first two input channels, and of the other two).
#[derive(Clone, Copy)]
struct Sums<const V: usize> {
    /// Pixels 0 and 1 of each vector.
    pairs: [int32x4_t; V],
    /// Pixels 2 and 3.
    more: [int32x4_t; V],
}

/// 16-bit sums: products of one channel, four lanes a pixel.
#[derive(Clone, Copy)]
struct Products<const V: usize> {
    low: [int16x8_t; V],
    high: [int16x8_t; V],
}

impl<const V: usize> Products<V> {
    /// Of one block. `from` points to `V` · 4 readable pixels.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn new(from: *const Pixel, block: [i8; 4]) -> Self {
        // SAFETY: the caller's promise.
        let pixels = unsafe { pixels::<V>(from) };
        let weights = weights(block);
        Self {
            low: pixels.map(|p| vmull_s8(vget_low_s8(p), vget_low_s8(weights))),
            high: pixels.map(|p| vmull_high_s8(p, weights)),
        }
    }

    /// Adds another block's.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add(&mut self, from: *const Pixel, block: [i8; 4]) {
        // SAFETY: the caller's promise.
        let pixels = unsafe { pixels::<V>(from) };
        let weights = weights(block);
        for v in 0..V {
            self.low[v] = vmlal_s8(self.low[v], vget_low_s8(pixels[v]), vget_low_s8(weights));
            self.high[v] = vmlal_high_s8(self.high[v], pixels[v], weights);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn flush(&self, sums: &mut Sums<V>) {
        for v in 0..V {
            sums.pairs[v] = vpadalq_s16(sums.pairs[v], self.low[v]);
            sums.more[v] = vpadalq_s16(sums.more[v], self.high[v]);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn weights(block: [i8; 4]) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(word(block)))
}

/// `V` registers of pixels, as few instructions as there are. `from` points to `V` · 4 readable pixels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn pixels<const V: usize>(from: *const Pixel) -> [int8x16_t; V] {
    let mut pixels = [vdupq_n_s8(0); V];
    let from: *const i8 = from.cast();
    // SAFETY: the caller's promise.
    unsafe {
        match &mut pixels[..] {
            [a, b, c, d] => int8x16x4_t(*a, *b, *c, *d) = vld1q_s8_x4(from),
            [a, b, c] => int8x16x3_t(*a, *b, *c) = vld1q_s8_x3(from),
            [a, b] => int8x16x2_t(*a, *b) = vld1q_s8_x2(from),
            [a] => *a = vld1q_s8(from),
            _ => {}
        }
    }
    pixels
}

/// All planes under one tap. Pixels at `from` and `plane` pixels apart are readable, `V` · 4 of them each.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_tap<const V: usize>(
    sums: &mut Sums<V>,
    mut from: *const Pixel,
    plane: usize,
    blocks: &[[i8; 4]],
    wide: &mut std::slice::Iter<'_, u8>,
) {
    let (fours, rest) = blocks.as_chunks::<4>();
    for (four, wide) in fours.iter().zip(wide) {
        // SAFETY: the caller's promise; a chunk holds four planes.
        unsafe {
            let mut products = Products::<V>::new(from, four[0]);
            from = from.wrapping_add(plane);
            products.add(from, four[1]);
            from = from.wrapping_add(plane);
            if *wide == 0 {
                products.add(from, four[2]);
            } else {
                products.flush(sums);
                products = Products::new(from, four[2]);
            }
            from = from.wrapping_add(plane);
            products.add(from, four[3]);
            from = from.wrapping_add(plane);
            products.flush(sums);
        }
    }
    for block in rest {
        // SAFETY: the caller's promise.
        unsafe { Products::<V>::new(from, *block).flush(sums) };
        from = from.wrapping_add(plane);
    }
}

/// A list of blocks; `HALVES`: only two of them may be added in 16 bits. `V` · 4 pixels at every block's distance from `from`
/// are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn stream_list<const V: usize, const HALVES: bool>(sums: &mut Sums<V>, mut from: *const Pixel, list: &[Quad]) {
    for quad in list {
        let mut deltas = u64::from_le_bytes(std::array::from_fn(|i| quad.deltas[i / 2].to_le_bytes()[i % 2]));
        let mut next = || {
            from = from.wrapping_add(usize::from(deltas as u16));
            deltas >>= 16;
            from
        };
        // SAFETY: the caller's promise.
        unsafe {
            let mut products = Products::<V>::new(next(), quad.weights[0]);
            products.add(next(), quad.weights[1]);
            if HALVES {
                products.flush(sums);
                products = Products::new(next(), quad.weights[2]);
            } else {
                products.add(next(), quad.weights[2]);
            }
            products.add(next(), quad.weights[3]);
            products.flush(sums);
        }
    }
}
