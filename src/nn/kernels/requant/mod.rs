//! The one rounding rule: from a 32-bit sum to a quantised activation.
//!
//! `y = round_half_even(clamp(acc as f32 · m)) + z_y`, with `m = (s_x · s_w) / s_y` in f32. Clamping comes before the conversion,
//! so nothing overflows. Where an addition follows ([`Residual`]), multiplications and additions are fused, on every
//! instruction set alike, so all get the same bits. Source: docs/int8-contract.md.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;

use super::Storage;

/// Where the rounded value may lie, and what zero is stored as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Least value, in steps from the zero point; an integer in −255…0, or more after an activation.
    pub min: f32,
    /// Greatest value, in steps from the zero point; an integer, at most 255.
    pub max: f32,
    /// The stored value that means zero.
    pub zero_point: i32,
}

impl Range {
    /// Steps from the zero point: an integer, still as f32.
    pub fn steps(&self, value: f32) -> f32 {
        value.max(self.min).min(self.max).round_ties_even()
    }

    /// The stored value.
    pub fn store(&self, value: f32) -> i32 {
        self.steps(value) as i32 + self.zero_point
    }
}

/// A second tensor that is added to a convolution's rounded output, and rounded again:
/// `y = round_half_even(clamp(fma(a, s_a / s_y, fma(b, s_b / s_y, fixed))))` with
/// `fixed = z_y − ((s_a / s_y) · z_a + (s_b / s_y) · z_b)`, a and b as the file stores them (u8), each `fma` rounded once. That is what
/// ONNX Runtime computes where the CPU has FMA, so on the same file the two agree to the last bit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    own: f32,
    other: f32,
    fixed: f32,
    own_zero_point: f32,
    /// Least and greatest value of the sum, as the file stores them.
    least: f32,
    greatest: f32,
    storage: Storage,
}

impl Residual {
    /// `own` and `other` are the scales of the convolution's output and of the added tensor over that of the sum, with the zero
    /// points that the file has; `least` and `greatest` limit the sum, whose zero point is `zero_point`, as the file stores it.
    pub fn new(own: (f32, u8), other: (f32, u8), zero_point: u8, [least, greatest]: [u8; 2], storage: Storage) -> Self {
        let fixed = f32::from(zero_point) - (own.0 * f32::from(own.1) + other.0 * f32::from(other.1));
        Self {
            own: own.0,
            other: other.0,
            fixed,
            own_zero_point: f32::from(own.1),
            least: f32::from(least),
            greatest: f32::from(greatest),
            storage,
        }
    }

    /// Adds `steps` of the convolution's output, counted from its zero point, and a stored value of the `other` tensor.
    pub fn add(&self, steps: f32, other: i32) -> i32 {
        let (own, other) = (steps + self.own_zero_point, (other - self.storage.of(0)) as f32);
        let value = own.mul_add(self.own, other.mul_add(self.other, self.fixed));
        value.max(self.least).min(self.greatest).round_ties_even() as i32 + self.storage.of(0)
    }
}

/// How the sums of a layer become its output; four channels a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Requant {
    /// What a sum starts from: the layer's bias less the zero point's share, `b − z_x · Σ w`.
    pub bias: Vec<[i32; 4]>,
    /// `(s_x · s_w) / s_y` of each channel.
    pub multiplier: Vec<[f32; 4]>,
    /// Range of the layer's output.
    pub range: Range,
    /// The tensor added afterwards, where there is one.
    pub residual: Option<Residual>,
}

impl Requant {
    /// The stored output of a finished sum; `other` is the stored value of the added tensor, if the layer adds one.
    pub fn finish(&self, group: usize, channel: usize, sum: i32, other: Option<i32>) -> i32 {
        let value = sum as f32 * self.multiplier[group][channel];
        match (&self.residual, other) {
            (Some(residual), Some(other)) => residual.add(self.range.steps(value), other),
            _ => self.range.store(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U8: Range = Range { min: 0.0, max: 255.0, zero_point: 0 };

    #[test]
    fn ties_go_to_even_and_ends_saturate() {
        for (value, expected) in [(0.5, 0), (1.5, 2), (2.5, 2), (254.5, 254), (255.5, 255), (-0.5, 0), (1e30, 255), (-1e30, 0)]
        {
            assert_eq!(U8.store(value), expected, "{value}");
        }
        let signed = Range { min: -114.0, max: 141.0, zero_point: -14 };
        assert_eq!([-1e9, -113.5, -0.5, 0.5, 1.5, 1e9].map(|v| signed.store(v)), [-128, -128, -14, -14, -12, 127]);
    }

    #[test]
    fn sums_beyond_f32_are_rounded_to_even_first() {
        // 2^24 + 1 is no f32: it becomes 2^24.
        let requant = Requant { bias: vec![], multiplier: vec![[1.0 / 65_536.0; 4]], range: U8, residual: None };
        assert_eq!(requant.finish(0, 0, (1 << 24) + 1, None), 255);
        assert_eq!(((1 << 24) + 1) as f32, 16_777_216.0);
    }

    #[test]
    fn a_residual_is_rounded_twice() {
        for storage in [Storage::U8, Storage::I8] {
            let range = Range { zero_point: storage.of(0), ..U8 };
            let residual = Residual::new((0.5, 0), (1.0, 3), 0, [0, 255], storage);
            let requant = Requant { bias: vec![], multiplier: vec![[1.0; 4]], range, residual: Some(residual) };
            // 2.6 becomes 3; half of it is 1.5; the other adds 7 − 3: 5.5 becomes 6.
            let multiplied = Requant { multiplier: vec![[1.3; 4]], ..requant.clone() };
            assert_eq!(multiplied.finish(0, 2, 2, Some(storage.of(7))), storage.of(6));
            assert_eq!(requant.finish(0, 2, -50, Some(storage.of(0))), storage.of(0), "saturates before and after the sum");
            assert_eq!(requant.finish(0, 2, 999, Some(storage.of(255))), storage.of(255));
        }
    }
}
