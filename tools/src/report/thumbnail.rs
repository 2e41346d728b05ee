//! Pictures small enough to live inside the page.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use serde::{Deserialize, Serialize};

/// Longest side in pixels.
pub const SIDE: u32 = 160;

/// How a JPEG begins.
const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];

/// A JPEG of at most [`SIDE`] pixels a side, held as base64, so that JSON and page carry it whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbnail(String);

impl Thumbnail {
    /// Shrinks a picture, its shape kept; a smaller one is not enlarged.
    ///
    /// # Errors
    /// When the picture is empty.
    pub fn of(picture: &RgbImage) -> anyhow::Result<Self> {
        anyhow::ensure!(picture.width() > 0 && picture.height() > 0, "the picture has no pixels");
        let (width, height) = fitting(picture.width(), picture.height());
        let small = image::imageops::resize(picture, width, height, FilterType::CatmullRom);
        let mut jpeg = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut jpeg, 80);
        DynamicImage::from(small).write_with_encoder(encoder).context("cannot write a thumbnail as JPEG")?;
        Ok(Self(STANDARD.encode(jpeg)))
    }

    /// The address that an `img` element takes.
    pub fn data_url(&self) -> String {
        format!("data:image/jpeg;base64,{}", self.0)
    }
}

/// Width and height within [`SIDE`], in the same proportion, each at least 1.
fn fitting(width: u32, height: u32) -> (u32, u32) {
    let scale = (f64::from(SIDE) / f64::from(width.max(height))).min(1.0);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    (side(width), side(height))
}

impl TryFrom<String> for Thumbnail {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        let bytes = STANDARD.decode(&text).context("a thumbnail is not base64")?;
        anyhow::ensure!(bytes.starts_with(&JPEG), "a thumbnail is not a JPEG");
        Ok(Self(text))
    }
}

impl From<Thumbnail> for String {
    fn from(thumbnail: Thumbnail) -> Self {
        thumbnail.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_keep_their_proportion() {
        assert_eq!(fitting(640, 480), (160, 120));
        assert_eq!(fitting(100, 50), (100, 50));
        assert_eq!(fitting(1, 10_000), (1, 160));
    }

    #[test]
    fn a_thumbnail_is_a_small_jpeg() {
        let thumbnail = Thumbnail::of(&RgbImage::from_pixel(320, 200, image::Rgb([200, 30, 30]))).unwrap();
        let jpeg = STANDARD.decode(&thumbnail.0).unwrap();
        let back = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), (160, 100));
        assert!(back.get_pixel(80, 50).0.iter().zip([200u8, 30, 30]).all(|(a, b)| a.abs_diff(b) < 12));
        assert!(Thumbnail::of(&RgbImage::new(0, 5)).is_err());
    }

    #[test]
    fn text_that_is_no_jpeg_is_refused() {
        for text in ["\"><script>", "aGVsbG8=", ""] {
            assert!(Thumbnail::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
