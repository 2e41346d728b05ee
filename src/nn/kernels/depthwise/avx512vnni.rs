//! Depthwise convolution with 512-bit `vpdpbusd`: four taps of a channel are brought together by byte shuffles.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Run;
use crate::nn::kernels::Pixel;
use crate::nn::kernels::conv::word;
use crate::nn::kernels::requant::avx512::{Finish, load, store};

const LANES: usize = 16;

/// See [`super::DepthwiseFn`].
pub(in crate::nn::kernels) fn depthwise(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding AVX-512 F, BW and VNNI (`kernels::has`).
    unsafe { pixels(run, output) }
}

/// Four taps' weights, channel by channel, in every 128-bit lane; stored they are tap by tap.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn weights(taps: &[[i8; 4]; 4]) -> __m512i {
    let [a, b, c, d] = taps.map(word);
    let transposed = _mm_setr_epi32(0x0C_08_04_00, 0x0D_09_05_01, 0x0E_0A_06_02, 0x0F_0B_07_03);
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_setr_epi32(a, b, c, d)), _mm512_broadcast_i32x4(transposed))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn pixels(run: &Run<'_>, output: &mut [Pixel]) {
    let finish = Finish::new(run.requant);
    let bias = run.requant.bias[run.group];
    let bias = _mm512_broadcast_i32x4(_mm_setr_epi32(bias[0], bias[1], bias[2], bias[3]));
    let multiplier = run.requant.multiplier[run.group];
    let multipliers = _mm512_broadcast_f32x4(_mm_setr_ps(multiplier[0], multiplier[1], multiplier[2], multiplier[3]));
    let (taps, kernels) = (run.weights.taps().as_chunks::<4>().0, run.weights.group(run.group).as_chunks::<4>().0);
    for at in (0..output.len()).step_by(LANES) {
        // Register j holds pixel j of each 128-bit lane, four channels of 32 bits.
        let mut sums = [bias; 4];
        for (taps, kernel) in taps.iter().zip(kernels) {
            let weights = weights(kernel);
            let (a, b) = (load(run.input, at + taps[0]), load(run.input, at + taps[1]));
            let (c, d) = (load(run.input, at + taps[2]), load(run.input, at + taps[3]));
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_unpacklo_epi16(ab, cd), weights);
            sums[1] = _mm512_dpbusd_epi32(sums[1], _mm512_unpackhi_epi16(ab, cd), weights);
            let (ab, cd) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
            sums[2] = _mm512_dpbusd_epi32(sums[2], _mm512_unpacklo_epi16(ab, cd), weights);
            sums[3] = _mm512_dpbusd_epi32(sums[3], _mm512_unpackhi_epi16(ab, cd), weights);
        }
        for sum in &mut sums {
            *sum = finish.mixed(*sum, multipliers, None);
        }
        // Stored values are 0…255, so neither narrowing saturates; both work within 128-bit lanes, as the unpacking did.
        store(output, at, _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]), _mm512_packs_epi32(sums[2], sums[3])));
    }
}
