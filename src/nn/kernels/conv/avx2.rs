//! Convolution with AVX2: 8 pixels a register. `vpmaddubsw` adds two products of u8 · s8 in 16 bits, where blocks that might
//! exceed them were split when they were packed ([`super::Pairs::Neighbours`]), and `vpmaddwd` with ones adds the pairs in 32.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    clippy::manual_map,
    reason = "loops over registers are unrolled; closures would lose the target features"
)]

use std::arch::x86_64::*;

use super::{AHEAD, Form, Packing, Pairs, Quad, Run, tiles, word};
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::avx2::{Finish, load, store};

pub(in crate::nn::kernels) const PACKING: Packing = Packing { dense: None, pairs: Pairs::Neighbours, sparse_below: [1.0, 1.0] };

const LANES: usize = 8;

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding AVX2 and FMA (`kernels::has`).
    unsafe { dispatch(run, output) }
}

#[target_feature(enable = "avx2,fma")]
fn dispatch(run: &Run<'_>, output: &mut [Pixel]) {
    let Form::Stream(stream) = run.weights.form() else { unreachable!("this packing has no dense form") };
    let lists = std::array::from_fn(|channel| stream.lists(run.group * 4 + channel)[1]);
    for (start, count) in tiles(output.len() / LANES, 4) {
        by_vectors!(count, stream_tile(run, lists, start * LANES, output), 1 2 3 4);
    }
}

/// Four channels of `V` vectors, one channel after the other, blocks of zeros left out.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn stream_tile<const V: usize>(run: &Run<'_>, lists: [&[Quad]; 4], at: usize, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let ones = _mm256_set1_epi16(1);
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
                    let pairs = _mm256_maddubs_epi16(pixels, weights);
                    sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(pairs, ones));
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

/// 8 pixels of the added tensor, if there is one.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn residual(run: &Run<'_>, at: usize) -> Option<__m256i> {
    match run.residual {
        Some(pixels) => Some(load(pixels, at)),
        None => None,
    }
}
