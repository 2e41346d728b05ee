//! Depthwise convolution with AVX2: two taps of a channel are brought together in 16 bits, where `vpmaddwd` multiplies and
//! adds them into 32.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Run;
use crate::nn::kernels::Pixel;
use crate::nn::kernels::requant::avx2::{Finish, load, store};

const LANES: usize = 8;

/// See [`super::DepthwiseFn`].
pub(in crate::nn::kernels) fn depthwise(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding AVX2 and FMA (`kernels::has`).
    unsafe { pixels(run, output) }
}

/// Two taps' weights as pairs of 16 bits, channel by channel, in both 128-bit lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn weights([a, b]: &[[i8; 4]; 2]) -> __m256i {
    let pair = |c: usize| i32::from(a[c]) & 0xFFFF | i32::from(b[c]) << 16;
    _mm256_broadcastsi128_si256(_mm_setr_epi32(pair(0), pair(1), pair(2), pair(3)))
}

#[target_feature(enable = "avx2,fma")]
fn pixels(run: &Run<'_>, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let bias = run.requant.bias[run.group];
    let bias = _mm256_broadcastsi128_si256(_mm_setr_epi32(bias[0], bias[1], bias[2], bias[3]));
    let [m0, m1, m2, m3] = run.requant.multiplier[run.group];
    let multipliers = _mm256_setr_ps(m0, m1, m2, m3, m0, m1, m2, m3);
    let (taps, kernels) = (run.weights.taps().as_chunks::<2>().0, run.weights.group(run.group).as_chunks::<2>().0);
    let zero = _mm256_setzero_si256();
    for at in (0..output.len()).step_by(LANES) {
        // Register j holds pixel j of each 128-bit lane, four channels of 32 bits.
        let mut sums = [bias; 4];
        for (taps, kernel) in taps.iter().zip(kernels) {
            let weights = weights(kernel);
            let (a, b) = (load(run.input, at + taps[0]), load(run.input, at + taps[1]));
            let halves = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
            for (half, sums) in halves.into_iter().zip(sums.as_chunks_mut::<2>().0) {
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(half, zero), weights));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(half, zero), weights));
            }
        }
        for sum in &mut sums {
            *sum = finish.mixed(*sum, multipliers);
        }
        // Stored values are 0…255, so neither narrowing saturates; both work within 128-bit lanes, as the unpacking did.
        store(output, at, _mm256_packus_epi16(_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3])));
    }
}
