//! The rounding rule for 4 sums at once.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::{Range, Requant};
use crate::nn::kernels::Pixel;

/// A layer's requantisation in registers.
#[derive(Clone, Copy)]
pub(in crate::nn::kernels) struct Finish {
    min: float32x4_t,
    max: float32x4_t,
    sum_min: float32x4_t,
    sum_max: float32x4_t,
    own: float32x4_t,
    other: float32x4_t,
    other_zero_point: int32x4_t,
    /// Zero point of what is stored, in every byte.
    zero_point: int8x16_t,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn new(requant: &Requant) -> Self {
        let none = super::Residual { own: 0.0, other: 0.0, other_zero_point: 0, range: requant.range };
        let residual = requant.residual.unwrap_or(none);
        let Range { min, max, .. } = requant.range;
        Self {
            min: vdupq_n_f32(min),
            max: vdupq_n_f32(max),
            sum_min: vdupq_n_f32(residual.range.min),
            sum_max: vdupq_n_f32(residual.range.max),
            own: vdupq_n_f32(residual.own),
            other: vdupq_n_f32(residual.other),
            other_zero_point: vdupq_n_s32(residual.other_zero_point),
            zero_point: vdupq_n_s8(residual.range.zero_point as i8),
        }
    }

    /// Steps of channel `C` for 4 pixels, put into its byte of each pixel. Channels come in their order: each overwrites the
    /// bytes above its own. [`Self::stored`] finishes.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn channel(
        self,
        channel: usize,
        bytes: int32x4_t,
        sums: int32x4_t,
        multiplier: f32,
        other: Option<int32x4_t>,
    ) -> int32x4_t {
        let value = vmulq_f32(vcvtq_f32_s32(sums), vdupq_n_f32(multiplier));
        let clamped = vminq_f32(vmaxq_f32(value, self.min), self.max);
        let steps = match other {
            None => vcvtnq_s32_f32(clamped),
            Some(pixels) => {
                let byte = match channel {
                    0 => vshlq_n_s32::<24>(pixels),
                    1 => vshlq_n_s32::<16>(pixels),
                    2 => vshlq_n_s32::<8>(pixels),
                    _ => pixels,
                };
                let other = vcvtq_f32_s32(vsubq_s32(vshrq_n_s32::<24>(byte), self.other_zero_point));
                let sum = vaddq_f32(vmulq_f32(vrndnq_f32(clamped), self.own), vmulq_f32(other, self.other));
                vcvtnq_s32_f32(vminq_f32(vmaxq_f32(sum, self.sum_min), self.sum_max))
            }
        };
        match channel {
            0 => steps,
            1 => vsliq_n_s32::<8>(bytes, steps),
            2 => vsliq_n_s32::<16>(bytes, steps),
            _ => vsliq_n_s32::<24>(bytes, steps),
        }
    }

    /// The stored bytes of what [`Self::channel`] put together: the zero point is added modulo 256, which is exact because the
    /// sum is in −128…127.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn stored(self, bytes: int32x4_t) -> int8x16_t {
        vaddq_s8(vreinterpretq_s8_s32(bytes), self.zero_point)
    }

    /// Four channels of four pixels, a pixel a register, as stored.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn mixed(self, sums: [int32x4_t; 4], multipliers: float32x4_t) -> int8x16_t {
        let steps = |sum| {
            let value = vmulq_f32(vcvtq_f32_s32(sum), multipliers);
            vreinterpretq_s16_s32(vcvtnq_s32_f32(vminq_f32(vmaxq_f32(value, self.min), self.max)))
        };
        // Even 16-bit parts, then even bytes: the low byte of each value, in order.
        let [low, high] = [0, 2].map(|i| vreinterpretq_s8_s16(vuzp1q_s16(steps(sums[i]), steps(sums[i + 1]))));
        vaddq_s8(vuzp1q_s8(low, high), self.zero_point)
    }
}

/// 4 pixels from `pixels[at..]`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::nn::kernels) fn load(pixels: &[Pixel], at: usize) -> int8x16_t {
    let pixels = &pixels[at..][..4];
    // SAFETY: the slice above holds 4 pixels, 16 bytes; the load needs no alignment.
    unsafe { vld1q_s8(pixels.as_ptr().cast()) }
}

/// Stores 4 pixels to `pixels[at..]`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::nn::kernels) fn store(pixels: &mut [Pixel], at: usize, value: int8x16_t) {
    let pixels = &mut pixels[at..][..4];
    // SAFETY: the slice above holds 4 pixels, 16 bytes; the store needs no alignment.
    unsafe { vst1q_s8(pixels.as_mut_ptr().cast(), value) }
}
