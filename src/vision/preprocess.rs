//! The network's view of a picture: which part of it, at which size, normalised how.
//!
//! The rule is a property of the model (it is written into the model file), not a setting of the caller.

use std::borrow::Cow;

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{CropBoxError, FilterType, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::quality;
use super::region::PixelBox;
use super::sharpen::Sharpening;

/// How a picture of any shape becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule", deny_unknown_fields)]
pub enum ResizeRule {
    /// Scale the short side to `short_side` pixels and cut the central square: the usual ImageNet evaluation. Cut and scale
    /// are one resampling step; no pixel outside the cut is touched.
    ShortSideCrop {
        /// Length of the short side before the cut, in pixels; at least the input size.
        short_side: u32,
    },
    /// Squeeze the whole picture into the square, ignoring its aspect: what the paper does.
    Plain,
}

/// Brightening of dark pictures. A camera at dusk gives such pictures, a data set hardly any; brightened, they are noisy instead of
/// dark, which a network bears better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exposure {
    /// Mean brightness, 0…255, to which darker pictures are brought.
    pub target: f32,
    /// What a sample is multiplied by at most.
    pub most: f32,
}

impl Exposure {
    /// What the tools train with. Of the lightness of a data set's darker pictures; a picture in an eighth of the light needs
    /// about 2.5.
    pub const DUSK: Self = Self { target: 90.0, most: 3.0 };

    /// What the samples of a picture of this mean brightness are multiplied by; at least 1.
    fn gain(self, brightness: f32) -> f32 {
        // Black stays black, whatever it is multiplied by.
        (self.target / brightness.max(1.0)).clamp(1.0, self.most)
    }
}

/// Size, cut, brightening, sharpening and normalisation of the input tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Width and height of the input in pixels.
    pub size: u32,
    /// How the picture becomes a square.
    pub resize: ResizeRule,
    /// How dark pictures are brightened, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// How soft pictures are sharpened, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpening: Option<Sharpening>,
    /// Channel means in RGB order, for samples in 0…1.
    pub mean: [f32; 3],
    /// Channel standard deviations in RGB order, for samples in 0…1.
    pub std: [f32; 3],
}

impl Preprocess {
    /// 224×224, ImageNet mean and standard deviation, as both backbones' papers have it; dark pictures stay dark and soft ones soft.
    pub const fn imagenet(resize: ResizeRule) -> Self {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        Self { size: 224, resize, exposure: None, sharpening: None, mean, std }
    }

    /// Says what is wrong with values read from a file, or nothing.
    ///
    /// # Errors
    /// A sentence that names the field and the range it must lie in.
    pub fn check(&self) -> Result<(), String> {
        if !(32..=1024).contains(&self.size) {
            return Err(format!("input size {} is not in 32…1024", self.size));
        }
        if let ResizeRule::ShortSideCrop { short_side } = self.resize
            && !(self.size..=4096).contains(&short_side)
        {
            return Err(format!("short side {short_side} is not in {}…4096", self.size));
        }
        if let Some(exposure) = self.exposure
            && !((1.0..=255.0).contains(&exposure.target) && (1.0..=16.0).contains(&exposure.most))
        {
            return Err(format!("{exposure:?}: the target is in 1…255, the most in 1…16"));
        }
        if let Some(Sharpening { full, none }) = self.sharpening
            && !(0.0 <= full && full < none && none <= 1.0)
        {
            return Err(format!(
                "sharpening of sharpnesses from {full} to {none}: they lie in 0…1, the second above the first"
            ));
        }
        if !self.mean.iter().all(|m| (0.0..=1.0).contains(m)) {
            return Err(format!("mean {:?} is not in 0…1", self.mean));
        }
        if !self.std.iter().all(|s| (1e-3..=10.0).contains(s)) {
            return Err(format!("standard deviation {:?} is not in 0.001…10", self.std));
        }
        Ok(())
    }

    /// The part of a `width`×`height` picture that the network sees: left, top, width, height, in source pixels.
    fn source_box(&self, width: u32, height: u32) -> (f64, f64, f64, f64) {
        let (width, height) = (f64::from(width), f64::from(height));
        match self.resize {
            ResizeRule::Plain => (0.0, 0.0, width, height),
            ResizeRule::ShortSideCrop { short_side } => {
                let side = width.min(height) * f64::from(self.size) / f64::from(short_side);
                ((width - side) / 2.0, (height - side) / 2.0, side, side)
            }
        }
    }

    /// Cuts and scales with a bilinear filter (widened when shrinking, so that nothing aliases).
    ///
    /// Returns `size`×`size` RGB, 8 bits a channel, channels last.
    ///
    /// # Errors
    /// What the resizer reports; it accepts every picture that has at least one pixel.
    pub fn pixels(&self, picture: &RgbImage) -> Result<Vec<u8>, ResizeError> {
        self.pixels_of(picture, PixelBox::whole(picture.width(), picture.height()))
    }

    /// As [`Self::pixels`], for `part` as if it were the whole picture: no pixel outside it is touched, and none is copied.
    ///
    /// # Errors
    /// `part` is empty or leaves the picture.
    pub fn pixels_of(&self, picture: &RgbImage, part: PixelBox) -> Result<Vec<u8>, ResizeError> {
        if !part.fits(picture.width(), picture.height()) {
            return Err(CropBoxError::SizeIsOutOfImageBoundaries.into());
        }
        let (left, top, width, height) = self.source_box(part.width, part.height);
        let source = ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
            .expect("an RgbImage holds three bytes a pixel");
        let source = CroppedImage::new(&source, part.left, part.top, part.width, part.height)?;
        let mut square = Image::new(self.size, self.size, PixelType::U8x3);
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, width, height);
        Resizer::new().resize(&source, &mut square, &options)?;
        Ok(square.into_vec())
    }

    /// The square as the network is to see it: sharpened, if it is soft, and brightened, if it is dark, where the model wants that.
    ///
    /// # Panics
    /// When `pixels` does not hold `size · size · 3` bytes.
    pub fn adjusted<'a>(&self, pixels: &'a [u8]) -> Cow<'a, [u8]> {
        let gain = self.exposure.map_or(1.0, |exposure| exposure.gain(quality::brightness(pixels).0));
        let pixels = match self.sharpening {
            Some(sharpening) => sharpening.apply(pixels, self.size as usize),
            None => pixels.into(),
        };
        if gain <= 1.0 {
            return pixels;
        }
        let brightened: [u8; 256] = std::array::from_fn(|value| (value as f32 * gain).round() as u8);
        pixels.iter().map(|&value| brightened[usize::from(value)]).collect()
    }

    /// Normalises `size`×`size` channels-last RGB to `(v / 255 − mean) / std`, channels first.
    ///
    /// # Panics
    /// When `pixels` does not hold `size · size · 3` bytes.
    pub fn normalise(&self, pixels: &[u8]) -> Vec<f32> {
        let area = (self.size * self.size) as usize;
        assert_eq!(pixels.len(), area * 3, "pixels of a {0}x{0} RGB square", self.size);
        let mut tensor = Vec::with_capacity(pixels.len());
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            tensor.extend(pixels.iter().skip(channel).step_by(3).map(|&v| (f32::from(v) / 255.0 - mean) / std));
        }
        tensor
    }

    /// Whether both make the same of a sample, however they cut.
    pub fn normalises_like(&self, other: &Self) -> bool {
        self.mean == other.mean && self.std == other.std
    }

    /// Normalisation and quantisation in one: what `quantise` makes of every normalised sample value.
    pub fn table(&self, quantise: impl Fn(f32) -> u8) -> Table {
        let entry = |channel: usize, value: usize| quantise((value as f32 / 255.0 - self.mean[channel]) / self.std[channel]);
        Table(std::array::from_fn(|channel| std::array::from_fn(|value| entry(channel, value))))
    }

    /// The picture as the network takes it: f32 \[3, size, size\], RGB, sharpened and brightened where the model wants that, normalised.
    ///
    /// # Errors
    /// As [`Self::pixels`].
    pub fn tensor(&self, picture: &RgbImage) -> Result<Vec<f32>, ResizeError> {
        Ok(self.normalise(&self.adjusted(&self.pixels(picture)?)))
    }
}

/// Quantised samples by channel and value: the way from 8-bit RGB to the network's input without floats in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table([[u8; 256]; 3]);

impl Table {
    /// Writes one entry of four channels for every RGB pixel; the fourth is zero.
    ///
    /// # Panics
    /// When `pixels` does not hold three bytes for every entry of `target`.
    pub fn fill(&self, pixels: &[u8], target: &mut [[u8; 4]]) {
        assert_eq!(pixels.len(), target.len() * 3, "RGB pixels");
        let Self([red, green, blue]) = self;
        for (target, &[r, g, b]) in target.iter_mut().zip(pixels.as_chunks::<3>().0) {
            *target = [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)], 0];
        }
    }
}
