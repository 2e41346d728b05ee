//! The rounding rule for 4 sums at once.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::{Range, Requant};
use crate::nn::kernels::{Pixel, Storage};

/// A layer's requantisation in registers.
#[derive(Clone, Copy)]
pub(in crate::nn::kernels) struct Finish {
    min: float32x4_t,
    max: float32x4_t,
    own: float32x4_t,
    other: float32x4_t,
    fixed: float32x4_t,
    own_zero_point: float32x4_t,
    least: float32x4_t,
    greatest: float32x4_t,
    /// What is added to every byte in the end: the zero point; after an addition, what makes the file's u8 a stored i8.
    offset: int8x16_t,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn new(requant: &Requant) -> Self {
        let none = super::Residual::new((0.0, 0), (0.0, 0), 0, [0, 0], Storage::I8);
        let residual = requant.residual.as_ref().unwrap_or(&none);
        let Range { min, max, zero_point } = requant.range;
        let offset = if requant.residual.is_some() { Storage::I8.of(0) } else { zero_point };
        Self {
            min: vdupq_n_f32(min),
            max: vdupq_n_f32(max),
            own: vdupq_n_f32(residual.own),
            other: vdupq_n_f32(residual.other),
            fixed: vdupq_n_f32(residual.fixed),
            own_zero_point: vdupq_n_f32(residual.own_zero_point),
            least: vdupq_n_f32(residual.least),
            greatest: vdupq_n_f32(residual.greatest),
            offset: vdupq_n_s8(offset as i8),
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
                // Stored i8 → the file's u8, and this channel's byte of it.
                let file = veorq_u32(vreinterpretq_u32_s32(pixels), vdupq_n_u32(0x8080_8080));
                let byte = match channel {
                    0 => vandq_u32(file, vdupq_n_u32(0xFF)),
                    1 => vandq_u32(vshrq_n_u32::<8>(file), vdupq_n_u32(0xFF)),
                    2 => vandq_u32(vshrq_n_u32::<16>(file), vdupq_n_u32(0xFF)),
                    _ => vshrq_n_u32::<24>(file),
                };
                let own = vaddq_f32(vrndnq_f32(clamped), self.own_zero_point);
                let sum = vfmaq_f32(vfmaq_f32(self.fixed, vcvtq_f32_u32(byte), self.other), own, self.own);
                vcvtnq_s32_f32(vminq_f32(vmaxq_f32(sum, self.least), self.greatest))
            }
        };
        match channel {
            0 => steps,
            1 => vsliq_n_s32::<8>(bytes, steps),
            2 => vsliq_n_s32::<16>(bytes, steps),
            _ => vsliq_n_s32::<24>(bytes, steps),
        }
    }

    /// The stored bytes of what [`Self::channel`] put together: the offset is added modulo 256, which is exact because the
    /// sum is in −128…127.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn stored(self, bytes: int32x4_t) -> int8x16_t {
        vaddq_s8(vreinterpretq_s8_s32(bytes), self.offset)
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
        vaddq_s8(vuzp1q_s8(low, high), self.offset)
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
