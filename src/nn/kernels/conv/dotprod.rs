//! Convolution with `sdot` (ARMv8.2): 4 pixels a register, four products of i8 · i8 added to each 32-bit sum, exact.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{DenseOrder, Form, Packing, Pairs, Quad, Run, tiles};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::neon::{Finish, load, store};

pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Groups), pairs: Pairs::Wide, sparse_below: [0.65, 0.65] };

const LANES: usize = 4;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding dotprod (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "neon,dotprod")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    let vectors = output.len() / LANES;
    match run.weights.form() {
        Form::Dense { weights, taps, planes, plane, .. } => {
            let size = taps.len() * planes * 4;
            let dense = Dense { weights: &weights[run.group * size..][..size], taps, planes: *planes, plane: *plane };
            for (start, count) in tiles(vectors, 4) {
                by_vectors!(count, dense_tile(run, dense, start * LANES, output), 1 2 3 4);
            }
        }
        Form::Stream(stream) => {
            let lists = std::array::from_fn(|channel| stream.lists(run.group * 4 + channel)[1]);
            for (start, count) in tiles(vectors, 8) {
                by_vectors!(count, stream_tile(run, lists, start * LANES, output), 1 2 3 4 5 6 7 8);
            }
        }
    }
}

/// `sums` + the products of four bytes a lane of `pixels` with the four bytes `LANE` of `weights`. The intrinsic is unstable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: u32>(mut sums: int32x4_t, pixels: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: registers in, a register out; dotprod is enabled for this function.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {pixels:v}.16b, {weights:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            pixels = in(vreg) pixels,
            weights = in(vreg) weights,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// `V` registers of pixels, as few instructions as there are.
///
/// # Safety
/// `from` points to `V` · 4 readable pixels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn pixels<const V: usize>(from: *const Pixel) -> [int8x16_t; V] {
    let mut pixels = [vdupq_n_s8(0); V];
    for (i, four) in pixels.chunks_mut(4).enumerate() {
        // SAFETY: the caller's promise; `four` is no longer than what is left of V.
        unsafe {
            let from: *const i8 = from.add(i * 4 * LANES).cast();
            match four {
                [a, b, c, d] => int8x16x4_t(*a, *b, *c, *d) = vld1q_s8_x4(from),
                [a, b, c] => int8x16x3_t(*a, *b, *c) = vld1q_s8_x3(from),
                [a, b] => int8x16x2_t(*a, *b) = vld1q_s8_x2(from),
                [a] => *a = vld1q_s8(from),
                _ => {}
            }
        }
    }
    pixels
}

/// A group's dense weights.
#[derive(Clone, Copy)]
struct Dense<'a> {
    /// `[taps][planes][4]`.
    weights: &'a [[i8; 4]],
    taps: &'a [usize],
    planes: usize,
    plane: usize,
}

/// Four channels of `V` vectors: 4 · V sums; a register of weights serves four channels.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dense_tile<const V: usize>(run: &Run<'_>, dense: Dense<'_>, at: usize, output: &mut [Pixel]) {
    let bias = &run.requant.bias[run.group];
    let mut sums: [[int32x4_t; V]; 4] = std::array::from_fn(|c| [vdupq_n_s32(bias[c]); V]);
    let mut step = |from: *const Pixel, weights: int8x16_t| {
        // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
        let pixels = unsafe { pixels::<V>(from) };
        for v in 0..V {
            sums[0][v] = sdot::<0>(sums[0][v], pixels[v], weights);
            sums[1][v] = sdot::<1>(sums[1][v], pixels[v], weights);
            sums[2][v] = sdot::<2>(sums[2][v], pixels[v], weights);
            sums[3][v] = sdot::<3>(sums[3][v], pixels[v], weights);
        }
    };
    for (tap, blocks) in dense.taps.iter().zip(dense.weights.chunks_exact(dense.planes * 4)) {
        // SAFETY: see `step`.
        let mut from = unsafe { run.input.as_ptr().add(run.first + at + tap) };
        let (fours, rest) = blocks.as_chunks::<16>();
        for four in fours {
            // SAFETY: 16 blocks are 64 bytes.
            let int8x16x4_t(w0, w1, w2, w3) = unsafe { vld1q_s8_x4(four.as_ptr().cast()) };
            for weights in [w0, w1, w2, w3] {
                step(from, weights);
                from = from.wrapping_add(dense.plane);
            }
        }
        for block in rest.as_chunks::<4>().0 {
            // SAFETY: four blocks are 16 bytes.
            step(from, unsafe { vld1q_s8(block.as_ptr().cast()) });
            from = from.wrapping_add(dense.plane);
        }
    }
    let finish = Finish::new(run.requant);
    let multiplier = &run.requant.multiplier[run.group];
    for v in 0..V {
        let other = run.residual.map(|r| vreinterpretq_s32_s8(load(r, at + v * LANES)));
        let mut bytes = vdupq_n_s32(0);
        for c in 0..4 {
            bytes = finish.channel(c, bytes, sums[c][v], multiplier[c], other);
        }
        store(output, at + v * LANES, finish.stored(bytes));
    }
}

/// Four channels of `V` vectors, one channel after the other, blocks of zeros left out.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn stream_tile<const V: usize>(run: &Run<'_>, lists: [&[Quad]; 4], at: usize, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let mut bytes = [vdupq_n_s32(0); V];
    for c in 0..4 {
        let mut sums = [vdupq_n_s32(run.requant.bias[run.group][c]); V];
        // SAFETY: `Run::check`: first + run lies within the input.
        let mut from = unsafe { run.input.as_ptr().add(run.first + at) };
        for quad in lists[c] {
            // SAFETY: four blocks are 16 bytes.
            let weights = unsafe { vld1q_s8(quad.weights.as_ptr().cast()) };
            let mut deltas = u64::from_le_bytes(std::array::from_fn(|i| quad.deltas[i / 2].to_le_bytes()[i % 2]));
            for j in 0..4 {
                // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for,
                // so `V` vectors from here lie within the input.
                let pixels = unsafe {
                    from = from.add(usize::from(deltas as u16));
                    pixels::<V>(from)
                };
                deltas >>= 16;
                for v in 0..V {
                    sums[v] = match j {
                        0 => sdot::<0>(sums[v], pixels[v], weights),
                        1 => sdot::<1>(sums[v], pixels[v], weights),
                        2 => sdot::<2>(sums[v], pixels[v], weights),
                        _ => sdot::<3>(sums[v], pixels[v], weights),
                    };
                }
            }
        }
        for v in 0..V {
            let other = run.residual.map(|r| vreinterpretq_s32_s8(load(r, at + v * LANES)));
            bytes[v] = finish.channel(c, bytes[v], sums[v], run.requant.multiplier[run.group][c], other);
        }
    }
    for v in 0..V {
        store(output, at + v * LANES, finish.stored(bytes[v]));
    }
}
