//! The rounding rule for 8 sums at once.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Range, Requant};
use crate::nn::kernels::{Pixel, Storage};

/// Range in registers.
#[derive(Clone, Copy)]
struct Limits {
    min: __m256,
    max: __m256,
    zero_point: __m256i,
}

impl Limits {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(range: &Range) -> Self {
        Self { min: _mm256_set1_ps(range.min), max: _mm256_set1_ps(range.max), zero_point: _mm256_set1_epi32(range.zero_point) }
    }

    /// Steps from the zero point as floats: integers.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn steps(self, value: __m256) -> __m256 {
        let clamped = _mm256_min_ps(_mm256_max_ps(value, self.min), self.max);
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(clamped)
    }

    /// The stored value, 0…255.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn store(self, value: __m256) -> __m256i {
        _mm256_add_epi32(_mm256_cvtps_epi32(self.steps(value)), self.zero_point)
    }
}

/// A layer's requantisation in registers: for sums of one channel a register.
#[derive(Clone, Copy)]
pub(in crate::nn::kernels) struct Finish {
    limits: Limits,
    residual: Residual,
}

/// A [`super::Residual`] in registers. Stored values are those of the file here: u8.
#[derive(Clone, Copy)]
struct Residual {
    own: __m256,
    other: __m256,
    fixed: __m256,
    own_zero_point: __m256,
    least: __m256,
    greatest: __m256,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(in crate::nn::kernels) fn new(requant: &Requant) -> Self {
        let none = super::Residual::new((0.0, 0), (0.0, 0), 0, [0, 0], Storage::U8);
        let residual = match &requant.residual {
            Some(residual) => residual,
            None => &none,
        };
        let residual = Residual {
            own: _mm256_set1_ps(residual.own),
            other: _mm256_set1_ps(residual.other),
            fixed: _mm256_set1_ps(residual.fixed),
            own_zero_point: _mm256_set1_ps(residual.own_zero_point),
            least: _mm256_set1_ps(residual.least),
            greatest: _mm256_set1_ps(residual.greatest),
        };
        Self { limits: Limits::new(&requant.range), residual }
    }

    /// The stored bytes of `channel` for 8 pixels, each at its place within a [`Pixel`], other bytes zero.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(in crate::nn::kernels) fn channel(
        self,
        channel: usize,
        sums: __m256i,
        multiplier: f32,
        other: Option<__m256i>,
    ) -> __m256i {
        let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(multiplier));
        let shift = _mm256_set1_epi32(8 * channel as i32);
        let stored = match other {
            None => self.limits.store(value),
            Some(pixels) => {
                let sum = self.residual;
                let byte = _mm256_and_si256(_mm256_srlv_epi32(pixels, shift), _mm256_set1_epi32(0xFF));
                let own = _mm256_add_ps(self.limits.steps(value), sum.own_zero_point);
                let other = _mm256_fmadd_ps(_mm256_cvtepi32_ps(byte), sum.other, sum.fixed);
                let value = _mm256_fmadd_ps(own, sum.own, other);
                let clamped = _mm256_min_ps(_mm256_max_ps(value, sum.least), sum.greatest);
                _mm256_cvtps_epi32(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(clamped))
            }
        };
        _mm256_sllv_epi32(stored, shift)
    }

    /// The stored values of sums that hold four channels of two pixels.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(in crate::nn::kernels) fn mixed(self, sums: __m256i, multipliers: __m256) -> __m256i {
        self.limits.store(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), multipliers))
    }
}

/// 8 pixels from `pixels[at..]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in crate::nn::kernels) fn load(pixels: &[Pixel], at: usize) -> __m256i {
    let pixels = &pixels[at..][..8];
    // SAFETY: the slice above holds 8 pixels, 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(pixels.as_ptr().cast()) }
}

/// Stores 8 pixels to `pixels[at..]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in crate::nn::kernels) fn store(pixels: &mut [Pixel], at: usize, value: __m256i) {
    let pixels = &mut pixels[at..][..8];
    // SAFETY: the slice above holds 8 pixels, 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(pixels.as_mut_ptr().cast(), value) }
}
