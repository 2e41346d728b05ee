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
    /// What is added to rounded values before they are limited to `lowest` and `highest`, the ends of the range as stored.
    wide_offset: int16x8_t,
    lowest: int8x16_t,
    highest: int8x16_t,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn new(requant: &Requant) -> Self {
        let none = super::Residual::new((0.0, 0), (0.0, 0), 0, [0, 0], Storage::I8);
        let residual = requant.residual.as_ref().unwrap_or(&none);
        let Range { min, max, zero_point } = requant.range;
        let (offset, ends) = match &requant.residual {
            None => (zero_point, [min, max]),
            Some(residual) => (Storage::I8.of(0), [residual.least, residual.greatest]),
        };
        let [lowest, highest] = ends.map(|end| vdupq_n_s8((end as i32 + offset) as i8));
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
            wide_offset: vdupq_n_s16(offset as i16),
            lowest,
            highest,
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

    /// Four channels of four pixels, a channel a register, as stored.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn pixels(self, sums: [int32x4_t; 4], multipliers: float32x4_t) -> int8x16_t {
        let steps = scaled(sums, multipliers).map(|value| vcvtnq_s32_f32(value));
        interleaved(self.narrowed([steps[0], steps[2], steps[1], steps[3]]))
    }

    /// As [`Self::pixels`], with the added tensor's pixels.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn added(self, sums: [int32x4_t; 4], multipliers: float32x4_t, other: int8x16_t) -> int8x16_t {
        let [a, b, c, d] = channels(other);
        let [e, f, g, h] = scaled(sums, multipliers);
        interleaved(self.narrowed([self.sum(e, a), self.sum(g, c), self.sum(f, b), self.sum(h, d)]))
    }

    /// The rounded sum of a convolution's output and the added tensor's, as the file has it, but not yet limited.
    #[inline]
    #[target_feature(enable = "neon")]
    fn sum(self, value: float32x4_t, other: uint32x4_t) -> int32x4_t {
        let clamped = vminq_f32(vmaxq_f32(value, self.min), self.max);
        let own = vaddq_f32(vrndnq_f32(clamped), self.own_zero_point);
        vcvtnq_s32_f32(vfmaq_f32(vfmaq_f32(self.fixed, vcvtq_f32_u32(other), self.other), own, self.own))
    }

    /// Four channels of four pixels, a pixel a register, as stored.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(in crate::nn::kernels) fn mixed(self, sums: [int32x4_t; 4], multipliers: float32x4_t) -> int8x16_t {
        self.narrowed(sums.map(|sum| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), multipliers))))
    }

    /// Rounded values as stored, in their order. Every step saturates and the ends of the range are integers, so limiting the
    /// bytes is the same as limiting the values before they were rounded.
    #[inline]
    #[target_feature(enable = "neon")]
    fn narrowed(self, [a, b, c, d]: [int32x4_t; 4]) -> int8x16_t {
        let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), self.wide_offset);
        let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), self.wide_offset);
        vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), self.lowest), self.highest)
    }
}

/// Sums of four channels times their multipliers.
#[inline]
#[target_feature(enable = "neon")]
fn scaled(sums: [int32x4_t; 4], multipliers: float32x4_t) -> [float32x4_t; 4] {
    let [a, b, c, d] = sums.map(|sum| vcvtq_f32_s32(sum));
    [
        vmulq_laneq_f32::<0>(a, multipliers),
        vmulq_laneq_f32::<1>(b, multipliers),
        vmulq_laneq_f32::<2>(c, multipliers),
        vmulq_laneq_f32::<3>(d, multipliers),
    ]
}

/// Four bytes each of channels 0, 2, 1 and 3 as four pixels.
#[inline]
#[target_feature(enable = "neon")]
fn interleaved(channels: int8x16_t) -> int8x16_t {
    const ORDER: [u8; 16] = [0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15];
    // SAFETY: 16 bytes.
    vqtbl1q_s8(channels, unsafe { vld1q_u8(ORDER.as_ptr()) })
}

/// A byte of each pixel for each channel, and three beyond the table's end, which are looked up as zero.
const CHANNELS: [[[u8; 4]; 4]; 4] = {
    const NONE: u8 = 0xFF;
    let mut bytes = [[[NONE; 4]; 4]; 4];
    let mut i = 0;
    while i < 16 {
        bytes[i % 4][i / 4][0] = i as u8;
        i += 1;
    }
    bytes
};

/// Four stored pixels as the file's u8, a channel a register.
#[inline]
#[target_feature(enable = "neon")]
fn channels(pixels: int8x16_t) -> [uint32x4_t; 4] {
    let file = veorq_u8(vreinterpretq_u8_s8(pixels), vdupq_n_u8(0x80));
    CHANNELS.map(|bytes| {
        // SAFETY: 16 bytes.
        vreinterpretq_u32_u8(vqtbl1q_u8(file, unsafe { vld1q_u8(bytes.as_ptr().cast()) }))
    })
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
