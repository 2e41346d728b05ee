//! Depthwise convolution with ARMv8.0 Advanced SIMD: products of two taps are added in 16 bits, pairs of them in 32.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::Run;
use crate::nn::kernels::Pixel;
use crate::nn::kernels::conv::neon::{smlal2, smull2};
use crate::nn::kernels::requant::neon::{Finish, store};

const LANES: usize = 4;

/// See [`super::DepthwiseFn`].
pub(in crate::nn::kernels) fn depthwise(run: &Run<'_>, output: &mut [Pixel]) {
    // SAFETY: the table hands this function out only after finding neon (`kernels::has`).
    unsafe { pixels(run, output) }
}

#[target_feature(enable = "neon")]
fn pixels(run: &Run<'_>, output: &mut [Pixel]) {
    let vectors = output.len() / LANES;
    let whole = vectors / 4 * 4;
    let finish = &Finish::new(run.requant);
    for at in (0..whole).step_by(4) {
        tile::<4>(run, finish, at * LANES, output);
    }
    for at in whole..vectors {
        tile::<1>(run, finish, at * LANES, output);
    }
}

/// `V` vectors of four pixels.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const V: usize>(run: &Run<'_>, finish: &Finish, at: usize, output: &mut [Pixel]) {
    // SAFETY: arrays of four 32-bit values.
    let (bias, multipliers) =
        unsafe { (vld1q_s32(run.requant.bias[run.group].as_ptr()), vld1q_f32(run.requant.multiplier[run.group].as_ptr())) };
    // Register j holds four channels of pixel j.
    let mut sums = [[bias; 4]; V];
    let (taps, kernels) = (run.weights.taps().as_chunks::<2>().0, run.weights.group(run.group).as_chunks::<2>().0);
    for (taps, kernel) in taps.iter().zip(kernels) {
        let [wa, wb] = kernel.map(|w| vreinterpretq_s8_s32(vdupq_n_s32(i32::from_ne_bytes(w.map(|b| b as u8)))));
        for (v, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `Run::check`: the run's last pixel and the largest tap lie within the input.
            let [a, b] = taps.map(|tap| unsafe { vld1q_s8(run.input.as_ptr().add(at + v * LANES + tap).cast()) });
            let low = vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(wa)), vget_low_s8(b), vget_low_s8(wb));
            let high = smlal2(smull2(a, wa), b, wb);
            sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
            sums[1] = vaddw_high_s16(sums[1], low);
            sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
            sums[3] = vaddw_high_s16(sums[3], high);
        }
    }
    for (v, sums) in sums.into_iter().enumerate() {
        store(output, at + v * LANES, finish.mixed(sums, multipliers));
    }
}
