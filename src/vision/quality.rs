//! Whether a picture shows enough to be judged. Pure arithmetic on the pixels that the network would see.
//!
//! A network answers whatever it is given: a nearly black picture of a raccoon is a black cat to it. Such pictures are
//! *unknown*, whatever the scores say. So are blurred ones, and frames that are too old to say who stands there now.

use std::time::Duration;

use serde::Serialize;

use crate::hw::clock::Monotonic;

/// Mean brightness below which a picture is too dark, 0…255. Of the 739 pets that the shipped model was trained on, three lie
/// below.
pub const MIN_BRIGHTNESS: f32 = 40.0;
/// Standard deviation of the brightness below which a picture shows nothing, 0…255. A wall has less; the
/// flattest of those pets has 22, the flattest of the 747 pictures without a pet 18.
pub const MIN_CONTRAST: f32 = 12.0;

/// [`sharpness`] below which a picture is too blurred: what is blurred more is taken for a pet more often, if it is a raccoon.
///
/// Of every third of the 739 pets and of all 747 negatives, blurred in linear light at a short side of 256 pixels, this share of the pets
/// and so many of the negatives are refused, and accepted by the shipped model's kind of gate (in brackets: accepted without this
/// limit). Heads have not seen the picture's fold, gates not the negative's category; pictures are sharpened as they are for the model.
///
/// | | refused: pets | negatives | accepted: pets | negatives |
/// |---|---|---|---|---|
/// | as they are | 1 % | 0 % | 96 (96) % | 2 (2) of 747 |
/// | Gaussian, deviation 1 | 3 % | 2 % | 89 (91) % | 2 (2) |
/// | Gaussian, deviation 1.5 | 33 % | 13 % | 60 (89) % | 4 (5) |
/// | Gaussian, deviation 2 | 89 % | 62 % | 9 (89) % | 0 (2) |
/// | Gaussian, deviation 2.5 | 99 % | 96 % | 0 (85) % | 0 (5) |
/// | Gaussian, deviation 3 | 100 % | 100 % | 0 (78) % | 0 (3) |
/// | the same with noise of 3 levels | 100 % | 98 % | 0 (41) % | 0 (1) |
/// | moved by 9 pixels | 94 % | 70 % | 2 (63) % | 0 (0) |
///
/// A lower limit asks less of a lens and lets raccoons in: 0.09 accepts 85 and 44 % of the pets at deviations 1.5 and 2, and five and
/// one of the negatives; 0.08 accepts 86 % at deviation 2, two negatives there and three at 2.5. A higher one, 0.12, refuses 35 % of the
/// pets at deviation 1 and keeps out neither of the two that pass as they are.
pub const MIN_SHARPNESS: f32 = 0.1;

/// What keeps a picture from being judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Flaw {
    /// Mean brightness below [`MIN_BRIGHTNESS`].
    #[serde(rename = "too dark")]
    TooDark,
    /// Contrast below [`MIN_CONTRAST`].
    #[serde(rename = "no contrast")]
    NoContrast,
    /// Sharpness below [`MIN_SHARPNESS`].
    #[serde(rename = "too blurred")]
    TooBlurred,
    /// Captured longer ago than allowed.
    #[serde(rename = "too old")]
    TooOld,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::TooDark => "too dark",
            Self::NoContrast => "no contrast",
            Self::TooBlurred => "too blurred",
            Self::TooOld => "too old",
        })
    }
}

/// Brightness of each pixel of channels-last RGB: luma of ITU-R BT.601, in 256ths, rounded. Bytes, so that what follows runs in
/// vectors on every board.
pub(super) fn luma(pixels: &[u8]) -> Vec<u8> {
    let luma = |&[r, g, b]: &[u8; 3]| ((77 * u16::from(r) + 150 * u16::from(g) + 29 * u16::from(b) + 128) >> 8) as u8;
    pixels.as_chunks::<3>().0.iter().map(luma).collect()
}

/// Mean and standard deviation of the brightness of channels-last RGB, both 0…255.
pub fn brightness(pixels: &[u8]) -> (f32, f32) {
    mean_and_deviation(&luma(pixels))
}

fn mean_and_deviation(luma: &[u8]) -> (f32, f32) {
    let (mut sum, mut squares) = (0, 0);
    // So few that their squares fit in 32 bits.
    for part in luma.chunks(4096) {
        sum += u64::from(part.iter().map(|&value| u32::from(value)).sum::<u32>());
        squares += u64::from(part.iter().map(|&value| u32::from(value) * u32::from(value)).sum::<u32>());
    }
    let count = luma.len().max(1) as f64;
    let mean = sum as f64 / count;
    let variance = (squares as f64 / count - mean * mean).max(0.0);
    (mean as f32, variance.sqrt() as f32)
}

/// The flaw of a picture, if it has one.
pub fn flaw(pixels: &[u8]) -> Option<Flaw> {
    flaw_of_luma(&luma(pixels))
}

fn flaw_of_luma(luma: &[u8]) -> Option<Flaw> {
    let (mean, deviation) = mean_and_deviation(luma);
    if mean < MIN_BRIGHTNESS {
        Some(Flaw::TooDark)
    } else if deviation < MIN_CONTRAST {
        Some(Flaw::NoContrast)
    } else {
        None
    }
}

/// The flaw of the square of `side`×`side` pixels that the network would see, if it has one: [`flaw`], then blur.
pub fn flaw_of_square(pixels: &[u8], side: usize) -> Option<Flaw> {
    let luma = luma(pixels);
    flaw_of_luma(&luma).or_else(|| (sharpness_of_luma(&luma, side) < MIN_SHARPNESS).then_some(Flaw::TooBlurred))
}

/// How much of a picture's detail is fine detail: in the direction that has least, the mean square of the differences over two
/// pixels divided by that over eight. Random noise has 1, an edge that is spread over many pixels 1/16.
///
/// The ratio does not depend on brightness or contrast. It is taken at half the size, so that the noise of a sensor does not
/// pass for detail, and in four directions, so that the blur of a movement is found. `pixels` is channels-last RGB, `width`
/// pixels a row; a picture too small to compare has 0.
pub fn sharpness(pixels: &[u8], width: usize) -> f32 {
    sharpness_of_luma(&luma(pixels), width)
}

fn sharpness_of_luma(luma: &[u8], width: usize) -> f32 {
    let half = halved(luma, width);
    let columns = width / 2;
    let rows = half.len().checked_div(columns).unwrap_or(0);
    if columns <= FAR || rows <= FAR {
        return 0.0;
    }
    let ratio = |(down, right): (usize, isize)| {
        let mean = |step: usize| mean_square_difference(&half, columns, down * step, right * step as isize);
        // Below one grey level there is nothing to compare.
        (mean(1) / mean(FAR).max(16.0)) as f32
    };
    [(0, 1), (1, 0), (1, 1), (1, -1)].into_iter().map(ratio).fold(f32::INFINITY, f32::min)
}

/// The larger distance, in pixels of the halved picture.
const FAR: usize = 4;

/// Brightness at half the size: four times the mean of 2×2 pixels. An odd row or column at the end is left out.
fn halved(luma: &[u8], width: usize) -> Vec<i16> {
    let mut half = Vec::with_capacity(luma.len() / 4);
    for rows in luma.chunks_exact((width * 2).max(2)) {
        let (upper, lower) = rows.split_at(width);
        let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
        half.extend(pairs.map(|(&[a, b], &[c, d])| i16::from(a) + i16::from(b) + i16::from(c) + i16::from(d)));
    }
    half
}

/// Mean of the squared differences between each value and the one `down` rows below and `right` columns beside it.
fn mean_square_difference(values: &[i16], columns: usize, down: usize, right: isize) -> f64 {
    let shift = right.unsigned_abs();
    let (first, second) = if right < 0 { (shift, 0) } else { (0, shift) };
    let square = |(&a, &b): (&i16, &i16)| i32::from(a - b) * i32::from(a - b);
    let (mut sum, mut count) = (0, 0);
    for (upper, lower) in values.chunks_exact(columns).zip(values.chunks_exact(columns).skip(down)) {
        let (upper, lower) = (&upper[first..columns - second], &lower[second..columns - first]);
        // At most 2^20 each: a thousand fit in 32 bits.
        let parts = upper.chunks(1024).zip(lower.chunks(1024));
        sum += parts.map(|(upper, lower)| i64::from(upper.iter().zip(lower).map(square).sum::<i32>())).sum::<i64>();
        count += upper.len();
    }
    sum as f64 / count.max(1) as f64
}

/// Whether a frame that was captured at `captured` says nothing about `now` any more. A capture that is still to come is a
/// clock that cannot be trusted.
pub fn age(captured: Monotonic, now: Monotonic, max_age: Duration) -> Option<Flaw> {
    (captured > now || now.since(captured) > max_age).then_some(Flaw::TooOld)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_is_luma() {
        let (mean, deviation) = brightness(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]);
        // 76.245, 149.685, 29.07 and 255, each rounded to a byte.
        assert!((mean - 127.5).abs() < 0.5 && (deviation - 85.24).abs() < 0.5, "{mean} {deviation}");
        let (mean, deviation) = brightness(&[[255; 3], [0; 3]].concat().repeat(50_000));
        assert!((mean - 127.5).abs() < 0.01 && (deviation - 127.5).abs() < 0.01, "{mean} {deviation}");
    }

    /// Random blocks of four pixels with one pixel of detail, and Gaussian-like noise.
    fn texture(noise: f32) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(3);
        let blocks: Vec<f32> = (0..56 * 56).map(|_| rng.f32() * 150.0 + 50.0).collect();
        let level = |index: usize| blocks[index / 224 / 4 * 56 + index % 224 / 4];
        (0..224 * 224).map(|i| (level(i) + noise * (rng.f32() - 0.5)) as u8).collect()
    }

    fn rgb(grey: &[u8]) -> Vec<u8> {
        grey.iter().flat_map(|&v| [v; 3]).collect()
    }

    /// The mean over `run` pixels in a row, `step` apart.
    fn smeared(grey: &[u8], run: usize, step: usize) -> Vec<u8> {
        let mean = |i: usize| (0..run).map(|k| u32::from(grey[(i + k * step) % grey.len()])).sum::<u32>() / run as u32;
        (0..grey.len()).map(|i| mean(i) as u8).collect()
    }

    #[test]
    fn blur_in_any_direction_is_found_through_noise() {
        let sharp = texture(0.0);
        assert_eq!(flaw_of_square(&rgb(&sharp), 224), None);
        let defocused = smeared(&smeared(&smeared(&smeared(&sharp, 13, 1), 13, 224), 13, 1), 13, 224);
        for (what, step) in [("across", 1), ("down", 224), ("diagonal", 225), ("other diagonal", 223)] {
            let blurred = smeared(&smeared(&smeared(&sharp, 25, step), 13, step), 13, step);
            assert_eq!(
                flaw_of_square(&rgb(&blurred), 224),
                Some(Flaw::TooBlurred),
                "{what}: {}",
                sharpness(&rgb(&blurred), 224)
            );
        }
        let mut rng = fastrand::Rng::with_seed(1);
        let noisy: Vec<u8> = defocused.iter().map(|&v| v.saturating_add(rng.u8(..8))).collect();
        assert!(sharpness(&rgb(&noisy), 224) < 0.6 * sharpness(&rgb(&sharp), 224));
    }

    #[test]
    fn sharpness_is_that_of_the_known_patterns() {
        // A ramp: differences of twice and eight times the slope.
        let ramp: Vec<u8> = (0..64 * 64).map(|i| (i % 64 * 3) as u8).collect();
        let expected = 1.0 / 16.0;
        // The direction down the ramp has nothing at all to compare.
        assert_eq!(sharpness(&rgb(&ramp), 64), 0.0);
        let slope: Vec<u8> = (0..64 * 64).map(|i| (i % 64 + i / 64 * 2) as u8).collect();
        assert!((sharpness(&rgb(&slope), 64) - expected).abs() < 0.01, "{}", sharpness(&rgb(&slope), 64));
        for (pixels, width) in [(vec![], 0), (vec![], 224), (vec![7; 30], 10), (vec![7; 300], 10), (vec![9; 3 * 11 * 40], 11)] {
            assert_eq!(sharpness(&pixels, width), 0.0, "{} bytes of width {width}", pixels.len());
        }
    }

    #[test]
    fn age_has_a_limit_and_the_future_is_no_time_to_capture() {
        let at = |ms| Monotonic::new(Duration::from_millis(ms));
        let limit = Duration::from_millis(500);
        assert_eq!(age(at(1000), at(1000), limit), None);
        assert_eq!(age(at(1000), at(1500), limit), None);
        assert_eq!(age(at(1000), at(1501), limit), Some(Flaw::TooOld));
        assert_eq!(age(at(1001), at(1000), limit), Some(Flaw::TooOld));
    }

    #[test]
    fn dark_and_flat_pictures_are_flawed() {
        let stripes = |low: u8, high: u8| [[low; 3], [high; 3]].concat().repeat(100);
        assert_eq!(flaw(&stripes(0, 60)), Some(Flaw::TooDark));
        assert_eq!(flaw(&stripes(120, 136)), Some(Flaw::NoContrast));
        assert_eq!(flaw(&stripes(30, 200)), None);
        assert_eq!(flaw(&[]), Some(Flaw::TooDark), "nothing is no picture");
    }
}
