//! Whether a picture shows enough to be judged. Pure arithmetic on the pixels that the network would see.
//!
//! A network answers whatever it is given: a nearly black picture of a raccoon is a black cat to it. Such pictures are
//! *unknown*, whatever the scores say. Blur and age of a frame belong here too, once there are frames.

use serde::Serialize;

/// Mean brightness below which a picture is too dark, 0…255. Of the 739 pets that the shipped model was trained on, three lie
/// below.
pub const MIN_BRIGHTNESS: f32 = 40.0;
/// Standard deviation of the brightness below which a picture shows nothing, 0…255. A wall has less; the
/// flattest of those pets has 22, the flattest of the 747 pictures without a pet 18.
pub const MIN_CONTRAST: f32 = 12.0;

/// What keeps a picture from being judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Flaw {
    /// Mean brightness below [`MIN_BRIGHTNESS`].
    #[serde(rename = "too dark")]
    TooDark,
    /// Contrast below [`MIN_CONTRAST`].
    #[serde(rename = "no contrast")]
    NoContrast,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::TooDark => "too dark",
            Self::NoContrast => "no contrast",
        })
    }
}

/// Mean and standard deviation of the brightness (luma of ITU-R BT.601) of channels-last RGB, both 0…255.
///
/// Sums are integers, in thousandths: exact, in any order, and of up to 2^28 pixels they fit.
pub fn brightness(pixels: &[u8]) -> (f32, f32) {
    let pixels = pixels.as_chunks::<3>().0;
    let (mut sum, mut squares) = (0, 0);
    for [red, green, blue] in pixels.iter().map(|pixel| pixel.map(u64::from)) {
        let luma = 299 * red + 587 * green + 114 * blue;
        sum += luma;
        squares += luma * luma;
    }
    let count = pixels.len().max(1) as f64;
    let mean = sum as f64 / count;
    let variance = (squares as f64 / count - mean * mean).max(0.0);
    ((mean / 1000.0) as f32, (variance.sqrt() / 1000.0) as f32)
}

/// The flaw of a picture, if it has one.
pub fn flaw(pixels: &[u8]) -> Option<Flaw> {
    let (mean, deviation) = brightness(pixels);
    if mean < MIN_BRIGHTNESS {
        Some(Flaw::TooDark)
    } else if deviation < MIN_CONTRAST {
        Some(Flaw::NoContrast)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_is_luma() {
        let (mean, deviation) = brightness(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]);
        // 76.245, 149.685, 29.07 and 255.
        assert!((mean - 127.5).abs() < 0.01 && (deviation - 85.24).abs() < 0.01, "{mean} {deviation}");
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
