//! The rounding rule for 16 sums at once.
#![allow(unsafe_code)]
#![allow(clippy::manual_map, reason = "closures would lose the target features")]

use std::arch::x86_64::*;

use super::{Range, Requant};
use crate::nn::kernels::{Pixel, Storage};

/// Range in registers.
#[derive(Clone, Copy)]
struct Limits {
    min: __m512,
    max: __m512,
    zero_point: __m512i,
}

impl Limits {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(range: &Range) -> Self {
        Self { min: _mm512_set1_ps(range.min), max: _mm512_set1_ps(range.max), zero_point: _mm512_set1_epi32(range.zero_point) }
    }

    /// Steps from the zero point as integers.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn steps(self, value: __m512) -> __m512i {
        let clamped = _mm512_min_ps(_mm512_max_ps(value, self.min), self.max);
        _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(clamped)
    }

    /// The stored value, 0…255.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(self, value: __m512) -> __m512i {
        _mm512_add_epi32(self.steps(value), self.zero_point)
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
    own: __m512,
    other: __m512,
    fixed: __m512,
    own_zero_point: __m512,
    least: __m512,
    greatest: __m512,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::nn::kernels) fn new(requant: &Requant) -> Self {
        let none = super::Residual::new((0.0, 0), (0.0, 0), 0, [0, 0], Storage::U8);
        let residual = match &requant.residual {
            Some(residual) => residual,
            None => &none,
        };
        let residual = Residual {
            own: _mm512_set1_ps(residual.own),
            other: _mm512_set1_ps(residual.other),
            fixed: _mm512_set1_ps(residual.fixed),
            own_zero_point: _mm512_set1_ps(residual.own_zero_point),
            least: _mm512_set1_ps(residual.least),
            greatest: _mm512_set1_ps(residual.greatest),
        };
        Self { limits: Limits::new(&requant.range), residual }
    }

    /// The stored bytes of `channel` for 16 pixels, each at its place within a [`Pixel`], other bytes zero.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::nn::kernels) fn channel(
        self,
        channel: usize,
        sums: __m512i,
        multiplier: f32,
        other: Option<__m512i>,
    ) -> __m512i {
        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(multiplier));
        let shift = _mm512_set1_epi32(8 * channel as i32);
        let other = match other {
            None => None,
            Some(pixels) => Some(_mm512_and_si512(_mm512_srlv_epi32(pixels, shift), _mm512_set1_epi32(0xFF))),
        };
        _mm512_sllv_epi32(self.stored(value, other), shift)
    }

    /// The stored values of sums that each have a multiplier of their own; `other` has a stored value for each.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::nn::kernels) fn mixed(self, sums: __m512i, multipliers: __m512, other: Option<__m512i>) -> __m512i {
        self.stored(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), multipliers), other)
    }

    /// The stored values of multiplied sums.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn stored(self, value: __m512, other: Option<__m512i>) -> __m512i {
        let Some(other) = other else { return self.limits.store(value) };
        let sum = self.residual;
        let own = _mm512_add_ps(_mm512_cvtepi32_ps(self.limits.steps(value)), sum.own_zero_point);
        let other = _mm512_fmadd_ps(_mm512_cvtepi32_ps(other), sum.other, sum.fixed);
        let value = _mm512_fmadd_ps(own, sum.own, other);
        let clamped = _mm512_min_ps(_mm512_max_ps(value, sum.least), sum.greatest);
        _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(clamped)
    }
}

/// 16 pixels from `pixels[at..]`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::nn::kernels) fn load(pixels: &[Pixel], at: usize) -> __m512i {
    let pixels = &pixels[at..][..16];
    // SAFETY: the slice above holds 16 pixels, 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(pixels.as_ptr().cast()) }
}

/// Stores 16 pixels to `pixels[at..]`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::nn::kernels) fn store(pixels: &mut [Pixel], at: usize, value: __m512i) {
    let pixels = &mut pixels[at..][..16];
    // SAFETY: the slice above holds 16 pixels, 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(pixels.as_mut_ptr().cast(), value) }
}
