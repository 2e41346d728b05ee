//! Sharpening of soft pictures. A lens that is a little out of focus gives such pictures, a data set hardly any.
//!
//! How soft a picture is, [`quality::sharpness`] says. The blur is taken for two means over 5×5 pixels, one after the other (together
//! nearly a Gaussian of two pixels' standard deviation), and undone by the first steps of van Cittert's iteration (1931): what the blur
//! took away is added, and what it took away of that, and so on. All in integers, so that every board sees the same pixels.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::quality;

/// Pixels over which one mean is taken, on each axis.
const BOX: usize = 5;
/// How often what was taken away is added. Each step brings out finer detail, and more noise.
const STEPS: usize = 4;
/// Parts of a grey level that are counted. So few that sums over [`BOX`]² of what [`STEPS`] can grow to fit in 32 bits.
const FRACTION: i32 = 8;

/// From which [`quality::sharpness`] on pictures are sharpened, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharpening {
    /// Sharpness up to which the whole blur is undone.
    pub full: f32,
    /// Sharpness from which on nothing is changed; between the two, a share in proportion.
    pub none: f32,
}

impl Sharpening {
    /// What the tools train with. Of the 739 shared pictures of pets one in ten lies below `none`, and nearly all do that are blurred by
    /// two pixels.
    pub const DEFOCUS: Self = Self { full: 0.10, none: 0.14 };

    /// Share of the blur that is undone in a picture of this sharpness, 0…1.
    fn share(self, sharpness: f32) -> f32 {
        ((self.none - sharpness) / (self.none - self.full)).clamp(0.0, 1.0)
    }

    /// The square of `side`×`side` pixels, RGB, channels last, sharpened if it is soft.
    ///
    /// # Panics
    /// When `pixels` does not hold `side · side · 3` bytes.
    pub fn apply(self, pixels: &[u8], side: usize) -> Cow<'_, [u8]> {
        let share = self.share(quality::sharpness(pixels, side));
        if share <= 0.0 { pixels.into() } else { sharpened(pixels, side, share).into() }
    }
}

/// Undoes a share of the blur. The colours of a pixel all change by the same, so that none gets a fringe.
fn sharpened(pixels: &[u8], side: usize, share: f32) -> Vec<u8> {
    assert_eq!(pixels.len(), side * side * 3, "pixels of a {side}×{side} RGB square");
    let mut lost: Vec<i32> = quality::luma(pixels).into_iter().map(|value| i32::from(value) * FRACTION).collect();
    let (mut blurred, mut scratch) = (vec![0; lost.len()], vec![0; lost.len()]);
    let mut detail = vec![0; lost.len()];
    for _ in 0..STEPS {
        blurred.copy_from_slice(&lost);
        mean(&mut blurred, &mut scratch, side);
        mean(&mut blurred, &mut scratch, side);
        for ((lost, blurred), detail) in lost.iter_mut().zip(&blurred).zip(&mut detail) {
            *lost -= blurred;
            *detail += *lost;
        }
    }
    let weight = (share * 256.0).round() as i32;
    let mut result = Vec::with_capacity(pixels.len());
    for (pixel, detail) in pixels.as_chunks::<3>().0.iter().zip(detail) {
        let change = (weight * detail + 128 * FRACTION).div_euclid(256 * FRACTION);
        result.extend(pixel.map(|value| (i32::from(value) + change).clamp(0, 255) as u8));
    }
    result
}

/// Replaces each value by the mean over [`BOX`]×[`BOX`] around it, rounded. Beyond the border lies what is on it.
fn mean(values: &mut [i32], scratch: &mut [i32], side: usize) {
    const REACH: usize = BOX / 2;
    let mut padded = vec![0; side + 2 * REACH];
    for (row, sums) in values.chunks_exact(side).zip(scratch.chunks_exact_mut(side)) {
        padded[..REACH].fill(row[0]);
        padded[REACH..][..side].copy_from_slice(row);
        padded[REACH + side..].fill(row[side - 1]);
        for (sum, window) in sums.iter_mut().zip(padded.windows(BOX)) {
            *sum = window.iter().sum();
        }
    }
    // Times 2^17/25, rounded to the nearest integer.
    const FACTOR: i32 = (1 << 17) / (BOX * BOX) as i32 + 1;
    for (at, target) in values.chunks_exact_mut(side).enumerate() {
        let row = |down: usize| &scratch[(at + down).saturating_sub(REACH).min(side - 1) * side..][..side];
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(row);
        for (at, target) in target.iter_mut().enumerate() {
            *target = ((a[at] + b[at] + c[at] + d[at] + e[at]) * FACTOR + (1 << 16)) >> 17;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 64;

    /// Grey pixels of a function of column and row.
    fn grey(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..SIDE * SIDE).flat_map(|at| [value(at % SIDE, at / SIDE); 3]).collect()
    }

    /// Random blocks of 4×4 pixels.
    fn texture() -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(3);
        let blocks: Vec<u8> = (0..SIDE * SIDE / 16).map(|_| rng.u8(60..180)).collect();
        grey(|x, y| blocks[y / 4 * (SIDE / 4) + x / 4])
    }

    /// Blurred by the very blur that is undone.
    fn blurred(pixels: &[u8]) -> Vec<u8> {
        let mut values: Vec<i32> = pixels.iter().step_by(3).map(|&value| i32::from(value) * FRACTION).collect();
        let mut scratch = vec![0; values.len()];
        mean(&mut values, &mut scratch, SIDE);
        mean(&mut values, &mut scratch, SIDE);
        values.into_iter().flat_map(|value| [((value + FRACTION / 2) / FRACTION) as u8; 3]).collect()
    }

    fn distance(a: &[u8], b: &[u8]) -> f64 {
        let squares = a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
        (squares.sum::<f64>() / a.len() as f64).sqrt()
    }

    #[test]
    fn a_mean_is_the_mean_of_twenty_five() {
        let mut rng = fastrand::Rng::with_seed(5);
        let values: Vec<i32> = (0..SIDE * SIDE).map(|_| rng.i32(-16_320..=16_320)).collect();
        let mut found = values.clone();
        mean(&mut found, &mut vec![0; values.len()], SIDE);
        let clamped = |at: usize, shift: usize| (at + shift).saturating_sub(2).min(SIDE - 1);
        for (x, y) in [(0, 0), (1, 30), (31, 31), (63, 62), (63, 63)] {
            let sum: i32 = (0..25).map(|i| values[clamped(y, i / 5) * SIDE + clamped(x, i % 5)]).sum();
            let expected = f64::from(sum) / 25.0;
            assert!((f64::from(found[y * SIDE + x]) - expected).abs() <= 0.6, "{x}, {y}: {} {expected}", found[y * SIDE + x]);
        }
        // The largest that the iteration can reach.
        let most = (i32::from(u8::MAX) * FRACTION) << (STEPS - 1);
        for extreme in [most, -most] {
            let mut values = vec![extreme; SIDE * SIDE];
            mean(&mut values, &mut vec![0; SIDE * SIDE], SIDE);
            assert!(values.iter().all(|&value| (value - extreme).abs() <= 1), "{extreme} {}", values[0]);
        }
    }

    #[test]
    fn what_was_blurred_comes_back_and_what_is_sharp_stays() {
        let sharp = texture();
        let soft = blurred(&sharp);
        let [before, after] = [&sharp, &soft].map(|pixels| quality::sharpness(pixels, SIDE));
        assert!(after < 0.5 * before, "{before} {after}");
        let rule = Sharpening { full: after, none: 2.0 * after };
        assert_eq!(rule.apply(&sharp, SIDE)[..], sharp, "sharpness {before}");
        let restored = rule.apply(&soft, SIDE);
        let (before, after) = (distance(&soft, &sharp), distance(&restored, &sharp));
        assert!(after < 0.8 * before, "{before} {after}");
        assert!(quality::sharpness(&restored, SIDE) > 1.4 * quality::sharpness(&soft, SIDE));
        // Half way, half as much.
        let half = Sharpening { full: 0.0, none: rule.none }.apply(&soft, SIDE).into_owned();
        let middle = soft.iter().zip(&restored[..]).map(|(&a, &b)| ((f64::from(a) + f64::from(b)) / 2.0) as u8);
        assert!(distance(&half, &middle.collect::<Vec<u8>>()) < 1.5);
    }

    #[test]
    fn colours_keep_their_distance_and_even_squares_stay() {
        let tinted: Vec<u8> = blurred(&texture()).as_chunks::<3>().0.iter().flat_map(|&[v, ..]| [v, v - 30, v + 20]).collect();
        let restored = sharpened(&tinted, SIDE, 1.0);
        assert_ne!(restored, tinted);
        for &[red, green, blue] in restored.as_chunks::<3>().0 {
            let clipped = green == 0 || blue == 255;
            assert!(clipped || (red - green, blue - red) == (30, 20), "{red} {green} {blue}");
        }
        let even = grey(|_, _| 77);
        assert_eq!(sharpened(&even, SIDE, 1.0), even);
    }
}
