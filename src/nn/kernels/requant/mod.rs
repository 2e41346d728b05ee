//! The one rounding rule: from a 32-bit sum to a quantised activation.
//!
//! `y = round_half_even(clamp(acc as f32 · m)) + z_y`, with `m = (s_x · s_w) / s_y` in f32. Clamping comes before the conversion,
//! so nothing overflows; products and sums of floats are rounded one by one (no fused multiply-add), so every instruction set
//! gets the same bits. Source: docs/int8-contract.md.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;

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

/// A second tensor that is added to a convolution's rounded output, and rounded again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// Scale of the convolution's output over the scale of the sum.
    pub own: f32,
    /// Scale of the added tensor over the scale of the sum.
    pub other: f32,
    /// Stored value that means zero in the added tensor.
    pub other_zero_point: i32,
    /// Range of the sum.
    pub range: Range,
}

impl Residual {
    /// `steps` of the convolution's output and the `other` tensor's stored value, added.
    pub fn add(&self, steps: f32, other: i32) -> i32 {
        self.range.store(steps * self.own + (other - self.other_zero_point) as f32 * self.other)
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
        let residual = Residual { own: 0.5, other: 1.0, other_zero_point: 3, range: U8 };
        let requant = Requant { bias: vec![], multiplier: vec![[1.0; 4]], range: U8, residual: Some(residual) };
        // 3 stays 3; half of it is 1.5; the other adds 7 − 3: 5.5 becomes 6.
        assert_eq!(requant.finish(0, 2, 3, Some(7)), 6);
        assert_eq!(requant.finish(0, 2, -50, Some(0)), 0, "saturates before and after the sum");
    }
}
