//! Convolution with 256-bit `vpdpbusd` (VEX): 8 pixels a register, four products of u8 · s8 added to each 32-bit sum, exact.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled; closures would lose the target features")]

use std::arch::x86_64::*;

use super::avx2::residual;
use super::{AHEAD, DenseOrder, Form, Packing, Pairs, Quad, Run, tiles, word};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::avx2::{Finish, store};

pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Groups), pairs: Pairs::Wide, sparse_below: [1.0, 1.0] };

const LANES: usize = 8;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding AVX2, FMA and AVX-VNNI (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    let vectors = output.len() / LANES;
    match run.weights.form() {
        Form::Dense { weights, taps, planes, plane, .. } => {
            let size = taps.len() * planes * 4;
            let dense = Dense { weights: &weights[run.group * size..][..size], taps, planes: *planes, plane: *plane };
            for (start, count) in tiles(vectors, 3) {
                by_vectors!(count, dense_tile(run, dense, start * LANES, output), 1 2 3);
            }
        }
        Form::Stream(stream) => {
            let lists = std::array::from_fn(|channel| stream.lists(run.group * 4 + channel)[1]);
            for (start, count) in tiles(vectors, 6) {
                by_vectors!(count, stream_tile(run, lists, start * LANES, output), 1 2 3 4 5 6);
            }
        }
    }
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

/// Four channels of `V` vectors: 4 · V sums, each input vector loaded once for four channels.
#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn dense_tile<const V: usize>(run: &Run<'_>, dense: Dense<'_>, at: usize, output: &mut [Pixel]) {
    let bias = &run.requant.bias[run.group];
    let mut sums = [[_mm256_setzero_si256(); V]; 4];
    for c in 0..4 {
        sums[c] = [_mm256_set1_epi32(bias[c]); V];
    }
    let mut blocks = dense.weights.as_chunks::<4>().0.iter();
    for tap in dense.taps {
        for plane in 0..dense.planes {
            let Some(block) = blocks.next() else { unreachable!("as many blocks as taps and planes") };
            // SAFETY: `Run::check`: first + run + reach is within the input, reach being the largest tap + plane offset.
            let from = unsafe { run.input.as_ptr().add(run.first + at + tap + plane * dense.plane) };
            _mm_prefetch::<_MM_HINT_T1>(block.as_ptr().wrapping_byte_add(AHEAD).cast());
            let mut pixels = [_mm256_setzero_si256(); V];
            for v in 0..V {
                // SAFETY: the tile's last vector ends within the run; see above.
                pixels[v] = unsafe { _mm256_loadu_si256(from.add(v * LANES).cast()) };
            }
            for c in 0..4 {
                let weights = _mm256_set1_epi32(word(block[c]));
                for v in 0..V {
                    sums[c][v] = _mm256_dpbusd_avx_epi32(sums[c][v], pixels[v], weights);
                }
            }
        }
    }
    // A copy: what a loop too large to unroll indexes lives in memory all along.
    let mut finished = [[_mm256_setzero_si256(); V]; 4];
    for c in 0..4 {
        for v in 0..V {
            finished[c][v] = sums[c][v];
        }
    }
    finish_dense(run, at, &finished, output);
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn finish_dense<const V: usize>(run: &Run<'_>, at: usize, sums: &[[__m256i; V]; 4], output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let multiplier = &run.requant.multiplier[run.group];
    for v in 0..V {
        let other = residual(run, at + v * LANES);
        let mut bytes = _mm256_setzero_si256();
        for c in 0..4 {
            bytes = _mm256_or_si256(bytes, finish.channel(c, sums[c][v], multiplier[c], other));
        }
        store(output, at + v * LANES, bytes);
    }
}

/// Four channels of `V` vectors, one channel after the other, blocks of zeros left out.
#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn stream_tile<const V: usize>(run: &Run<'_>, lists: [&[Quad]; 4], at: usize, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let mut bytes = [_mm256_setzero_si256(); V];
    for c in 0..4 {
        let mut sums = [_mm256_set1_epi32(run.requant.bias[run.group][c]); V];
        // SAFETY: `Run::check`: first + run lies within the input.
        let mut from = unsafe { run.input.as_ptr().add(run.first + at) };
        for quad in lists[c] {
            _mm_prefetch::<_MM_HINT_T1>((&raw const *quad).wrapping_byte_add(AHEAD).cast());
            for j in 0..4 {
                // SAFETY: the distances of a list add up to at most the weights' reach (`pack`), which `Run::check` allows for.
                from = unsafe { from.add(usize::from(quad.deltas[j])) };
                let weights = _mm256_set1_epi32(word(quad.weights[j]));
                for v in 0..V {
                    // SAFETY: the tile's last vector ends within the run; see above.
                    let pixels = unsafe { _mm256_loadu_si256(from.add(v * LANES).cast()) };
                    sums[v] = _mm256_dpbusd_avx_epi32(sums[v], pixels, weights);
                }
            }
        }
        for v in 0..V {
            let other = residual(run, at + v * LANES);
            let channel = finish.channel(c, sums[v], run.requant.multiplier[run.group][c], other);
            bytes[v] = _mm256_or_si256(bytes[v], channel);
        }
    }
    for v in 0..V {
        store(output, at + v * LANES, bytes[v]);
    }
}
