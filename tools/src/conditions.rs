//! What a camera at a door makes of a picture: without colour, in infrared, in little light, out of focus, in motion, from afar, cut off.
//!
//! Each condition changes the decoded picture, before the pre-processing. All but [`Condition::Grey`] and [`Condition::Partial`] first
//! scale it to a short side of [`SHORT_SIDE`] pixels, and their lengths and noises are in those pixels: so a condition is as strong for a
//! small picture as for a large one, and noise has one grain. Light is added up, lowered and counted in linear light, as a sensor does.
//!
//! Which pictures are changed, and what is measured on them, does not belong here.

use std::sync::LazyLock;

use image::imageops::{self, FilterType};
use image::{Rgb, Rgb32FImage, RgbImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Length in pixels to which a picture's short side is scaled: that of the pre-processing, so that it does not scale again.
pub const SHORT_SIDE: u32 = 256;
/// A picture longer than this many short sides is scaled by its long side instead, so that no strip becomes huge.
const LONGEST: u32 = 8;

/// Shares of red, green and blue light in what an infrared picture shows. Fur, skin and leaves reflect near infrared more like red than
/// like any other light.
const INFRARED_SHARES: [f32; 3] = [0.7, 0.25, 0.05];
/// Exponent of an infrared picture's encoded values: fur and leaves look pale.
const INFRARED_GAMMA: f32 = 0.8;
/// Share of the illuminator's light that reaches the picture's corners.
const INFRARED_CORNER: f32 = 0.3;
/// Standard deviation of an infrared picture's noise, in encoded values of 0…255.
const INFRARED_NOISE: f32 = 6.0;

/// Share of the light that is left in a dim picture: three stops.
const DIM_EXPOSURE: f32 = 1.0 / 8.0;
/// Electrons that white light frees in one pixel and channel at full exposure.
const DIM_ELECTRONS: f32 = 1000.0;
/// Standard deviation in electrons of what reading a pixel adds.
const DIM_READING: f32 = 2.0;

/// Standard deviation of the blur in pixels.
const BLUR: f32 = 2.0;
/// Way of a smeared picture's points during the exposure, in pixels.
const SMEAR: u32 = 9;

/// Size of a far picture, as a share of the near one.
const FAR_SCALE: f64 = 0.4;
/// Standard deviation in pixels of the blur over a far picture's surroundings.
const FAR_SURROUNDINGS: f32 = 16.0;

/// A way in which a picture at the door is worse than one of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Without colour: the luma (Rec. 709) in all three channels. The size stays, and nothing else changes.
    Grey,
    /// As from a night camera: 0.7 red + 0.25 green + 0.05 blue of the linear light, lit from the middle (with a Gaussian fall to 30 % of
    /// the light at the corners), encoded, raised to the power 0.8, with Gaussian noise of 6/255.
    Infrared,
    /// An eighth of the light (three stops), not brightened again; noise of photons (1000 electrons a channel for white light at full
    /// exposure) and of reading (2 electrons).
    Dim,
    /// Out of focus: Gaussian blur of 2 pixels' standard deviation.
    Blurred,
    /// Moved while it was taken: the mean over 9 pixels in a row. What would come from outside is the outermost column.
    Smeared,
    /// The whole picture at 0.4 of its size in the middle of a frame of the same shape. Around it go on, blurred by 16 pixels' standard
    /// deviation, the picture's outermost pixels.
    Far,
    /// The left half alone: an animal that is still on its way into the frame. The pre-processing enlarges it to full size.
    Partial,
}

impl Condition {
    /// All conditions, in declaration order.
    pub const ALL: [Self; 7] = [Self::Grey, Self::Infrared, Self::Dim, Self::Blurred, Self::Smeared, Self::Far, Self::Partial];

    /// Those that a head is trained under. With all but the half pictures, pets as they are would be told apart less well (top-1 91.8 %
    /// instead of 92.3 % in fp32, in a prototype).
    pub const TRAINED: [Self; 3] = [Self::Grey, Self::Dim, Self::Blurred];

    /// As in files and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Infrared => "infrared",
            Self::Dim => "dim",
            Self::Blurred => "blurred",
            Self::Smeared => "smeared",
            Self::Far => "far",
            Self::Partial => "partial",
        }
    }

    /// The picture under this condition. The same picture gives the same bytes: noise depends on its content alone, and two pictures
    /// have no noise in common that could be learnt.
    ///
    /// # Panics
    /// When the picture has no pixel.
    pub fn apply(self, picture: &RgbImage) -> RgbImage {
        assert!(picture.width() > 0 && picture.height() > 0, "a picture has pixels");
        match self {
            Self::Grey => grey(picture),
            Self::Infrared => infrared(&scaled(picture)),
            Self::Dim => dim(&scaled(picture)),
            Self::Blurred => encoded(&imageops::blur(&linear(&scaled(picture)), BLUR)),
            Self::Smeared => encoded(&smeared(&linear(&scaled(picture)))),
            Self::Far => far(picture),
            Self::Partial => imageops::crop_imm(picture, 0, 0, picture.width().div_ceil(2), picture.height()).to_image(),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Size at which conditions are applied. Its sides are even: so half of it is whole, and the pre-processing's central square does not
/// lie between pixels.
fn frame_size(picture: &RgbImage) -> (u32, u32) {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let unit = width.min(height).max(width.max(height) / f64::from(LONGEST)) / f64::from(SHORT_SIDE);
    let side = |length: f64| ((length / unit / 2.0).round() as u32 * 2).max(2);
    (side(width), side(height))
}

fn scaled(picture: &RgbImage) -> RgbImage {
    let (width, height) = frame_size(picture);
    imageops::resize(picture, width, height, FilterType::Triangle)
}

/// Linear light in 0…1 of every encoded value (IEC 61966-2-1).
static LIGHT: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|value| match value as f32 / 255.0 {
        v if v <= 0.04045 => v / 12.92,
        v => ((v + 0.055) / 1.055).powf(2.4),
    })
});

/// Encoded value in 0…1 of linear light; what is out of range is clipped.
fn encode(light: f32) -> f32 {
    match light.clamp(0.0, 1.0) {
        l if l <= 0.003_130_8 => l * 12.92,
        l => 1.055 * l.powf(1.0 / 2.4) - 0.055,
    }
}

/// Nearest byte to an encoded value in 0…1.
fn byte(value: f32) -> u8 {
    (value * 255.0).round() as u8
}

fn linear(picture: &RgbImage) -> Rgb32FImage {
    let light = |value: &u8| LIGHT[usize::from(*value)];
    let samples = picture.as_raw().iter().map(light).collect();
    Rgb32FImage::from_raw(picture.width(), picture.height(), samples).expect("as many samples as before")
}

fn encoded(light: &Rgb32FImage) -> RgbImage {
    let samples = light.as_raw().iter().map(|&l| byte(encode(l))).collect();
    RgbImage::from_raw(light.width(), light.height(), samples).expect("as many samples as before")
}

fn noise_source(picture: &RgbImage) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::digest(picture.as_raw()).into())
}

fn grey(picture: &RgbImage) -> RgbImage {
    let luma = imageops::grayscale(picture);
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| Rgb([luma.get_pixel(x, y).0[0]; 3]))
}

fn infrared(frame: &RgbImage) -> RgbImage {
    let mut rng = noise_source(frame);
    let noise = Normal::new(0.0, INFRARED_NOISE / 255.0).expect("a standard deviation");
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    RgbImage::from_fn(frame.width(), frame.height(), |x, y| {
        // From the middle, 1 in the corners.
        let across = |at: u32, length: f32| (2.0 * at as f32 + 1.0) / length - 1.0;
        let distance = (across(x, width).powi(2) + across(y, height).powi(2)) / 2.0;
        let shares = frame.get_pixel(x, y).0.iter().zip(INFRARED_SHARES);
        let light: f32 = shares.map(|(&value, share)| share * LIGHT[usize::from(value)]).sum();
        let seen = encode(light * INFRARED_CORNER.powf(distance)).powf(INFRARED_GAMMA);
        Rgb([byte(seen + noise.sample(&mut rng)); 3])
    })
}

fn dim(frame: &RgbImage) -> RgbImage {
    let mut rng = noise_source(frame);
    let reading = Normal::new(0.0, DIM_READING).expect("a standard deviation");
    // Without light there is no photon to count.
    let photons: Vec<Option<Poisson<f32>>> =
        LIGHT.iter().map(|light| Poisson::new(light * DIM_EXPOSURE * DIM_ELECTRONS).ok()).collect();
    let samples = frame.as_raw().iter().map(|&value| {
        let counted = photons[usize::from(value)].map_or(0.0, |photons| photons.sample(&mut rng));
        byte(encode((counted + reading.sample(&mut rng)) / DIM_ELECTRONS))
    });
    RgbImage::from_raw(frame.width(), frame.height(), samples.collect()).expect("as many samples as before")
}

fn smeared(light: &Rgb32FImage) -> Rgb32FImage {
    let last = light.width() - 1;
    Rgb32FImage::from_fn(light.width(), light.height(), |x, y| {
        let mut sum = [0.0; 3];
        for step in 0..SMEAR {
            let from = (x + step).saturating_sub(SMEAR / 2).min(last);
            sum.iter_mut().zip(light.get_pixel(from, y).0).for_each(|(sum, value)| *sum += value);
        }
        Rgb(sum.map(|sum| sum / SMEAR as f32))
    })
}

fn far(picture: &RgbImage) -> RgbImage {
    let (width, height) = frame_size(picture);
    let side = |length: u32| ((f64::from(length) * FAR_SCALE / 2.0).round() as u32 * 2).max(2);
    let small = imageops::resize(picture, side(width), side(height), FilterType::Triangle);
    let (left, top) = ((width - small.width()) / 2, (height - small.height()) / 2);
    let nearest = |at: u32, start: u32, length: u32| at.saturating_sub(start).min(length - 1);
    let continued = RgbImage::from_fn(width, height, |x, y| {
        *small.get_pixel(nearest(x, left, small.width()), nearest(y, top, small.height()))
    });
    let mut frame = imageops::blur(&continued, FAR_SURROUNDINGS);
    imageops::replace(&mut frame, &small, i64::from(left), i64::from(top));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vertical stripes of the wave length `period` around the light `mean`, `amplitude` high, in linear light.
    fn waves(side: (u32, u32), period: f32, mean: f32, amplitude: f32, horizontal: bool) -> RgbImage {
        encoded(&Rgb32FImage::from_fn(side.0, side.1, |x, y| {
            let at = if horizontal { y } else { x } as f32;
            Rgb([mean + amplitude * (std::f32::consts::TAU * at / period).sin(); 3])
        }))
    }

    /// Standard deviation of the light in the middle of a picture.
    fn contrast(picture: &RgbImage) -> f32 {
        let part = imageops::crop_imm(picture, 64, 64, picture.width() - 128, picture.height() - 128).to_image();
        spread(&linear(&part).into_raw()).1
    }

    /// Mean and standard deviation.
    fn spread(values: &[f32]) -> (f32, f32) {
        let mean = |of: &dyn Fn(f32) -> f32| values.iter().map(|&v| f64::from(of(v))).sum::<f64>() / values.len() as f64;
        let centre = mean(&|v| v) as f32;
        (centre, mean(&|v| (v - centre).powi(2)).sqrt() as f32)
    }

    fn flat(width: u32, height: u32, colour: [u8; 3]) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb(colour))
    }

    /// Something with colours, edges and gradients.
    fn scene(width: u32, height: u32) -> RgbImage {
        let part = |at: u32, length: u32| at as f32 / length as f32;
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (part(x, width), part(y, height));
            let inside = (x - 0.5).hypot(y - 0.5) < 0.3;
            Rgb([byte(x), if inside { 220 } else { 40 }, byte(0.5 + 0.4 * (20.0 * y).sin())])
        })
    }

    #[test]
    fn every_size_is_taken_and_the_same_picture_gives_the_same_bytes() {
        for (width, height) in [(1, 1), (2, 1), (1, 2), (1, 3000), (3000, 2), (3, 3), (200, 301), (257, 256)] {
            for condition in Condition::ALL {
                let picture = scene(width, height);
                let changed = condition.apply(&picture);
                let (longest, area) = (changed.width().max(changed.height()), changed.width() * changed.height());
                assert!(longest <= width.max(height).max(LONGEST * SHORT_SIDE) && area > 0, "{condition} {width}x{height}");
                assert!(changed == condition.apply(&picture), "{condition} {width}x{height}");
            }
        }
    }

    #[test]
    fn frames_are_256_high_or_wide_and_even() {
        let size = |width, height| frame_size(&RgbImage::new(width, height));
        assert_eq!(size(500, 375), (342, 256));
        assert_eq!(size(375, 500), (256, 342));
        assert_eq!(size(5, 5), (256, 256));
        assert_eq!(size(8000, 10), (2048, 2), "a strip");
    }

    #[test]
    fn grey_has_equal_channels_and_the_luma() {
        let grey = Condition::Grey.apply(&scene(20, 30));
        assert_eq!(grey.dimensions(), (20, 30));
        assert!(grey.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
        let of = |colour| Condition::Grey.apply(&flat(1, 1, colour)).get_pixel(0, 0).0[0];
        assert_eq!((of([255, 0, 0]), of([0, 255, 0]), of([0, 0, 255])), (54, 182, 18));
        assert_eq!(of([77, 77, 77]), 77);
    }

    #[test]
    fn infrared_is_colourless_sees_red_best_and_is_lit_from_the_middle() {
        let of = |colour| Condition::Infrared.apply(&flat(256, 256, colour));
        let grey = of([190, 120, 60]);
        assert!(grey.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
        let light = |picture: &RgbImage, left: u32, top: u32| {
            let part = imageops::crop_imm(picture, left, top, 16, 16).to_image();
            // Undone: noise by the mean, then the power.
            let (mean, _) = spread(&part.as_raw().iter().map(|&v| f32::from(v) / 255.0).collect::<Vec<_>>());
            LIGHT[usize::from(byte(mean.powf(1.0 / INFRARED_GAMMA)))]
        };
        let middle = |colour| light(&of(colour), 120, 120);
        for (colour, share) in [([255, 0, 0], 0.7), ([0, 255, 0], 0.25), ([0, 0, 255], 0.05)] {
            let found = middle(colour);
            assert!((found - share).abs() < 0.02, "{colour:?} {found}");
        }
        let corner = light(&of([180, 180, 180]), 0, 0) / middle([180, 180, 180]);
        assert!((corner - 0.35).abs() < 0.03, "the mean of the outermost sixteenth: {corner}");
    }

    #[test]
    fn infrared_noise_has_the_stated_size() {
        let noisy = Condition::Infrared.apply(&flat(256, 256, [150, 150, 150]));
        let rows = noisy.as_raw().chunks(256 * 3).flat_map(|row| row.windows(4)).step_by(3);
        let steps: Vec<f32> = rows.map(|pair| f32::from(pair[3]) - f32::from(pair[0])).collect();
        // Neighbours differ by two noises.
        let noise = spread(&steps).1 / 2f32.sqrt();
        assert!((noise - 6.0).abs() < 0.15, "{noise}");
    }

    #[test]
    fn dim_leaves_an_eighth_of_the_light_with_the_noise_of_counting() {
        for value in [255, 200, 128] {
            let lit = LIGHT[usize::from(value)];
            let (mean, deviation) = spread(&linear(&Condition::Dim.apply(&flat(300, 300, [value; 3]))).into_raw());
            assert!((mean / lit - 1.0 / 8.0).abs() < 0.002, "{value}: {mean} of {lit}");
            let expected = (lit / 8.0 * 1000.0 + 4.0).sqrt() / 1000.0;
            assert!((deviation / expected - 1.0).abs() < 0.03, "{value}: {deviation} {expected}");
        }
        // Reading noise below nothing is cut off.
        let black = Condition::Dim.apply(&flat(300, 300, [0; 3]));
        let none = black.as_raw().iter().filter(|&&v| v == 0).count() as f32 / black.as_raw().len() as f32;
        assert!((0.5..0.6).contains(&none), "{none}");
    }

    #[test]
    fn noise_is_another_for_another_picture() {
        for condition in [Condition::Infrared, Condition::Dim] {
            let noise = |value: u8| {
                let values = condition.apply(&flat(256, 256, [value; 3]));
                let values: Vec<f32> = values.pixels().map(|p| f32::from(p.0[0])).collect();
                let steps: Vec<f32> = values.windows(2).map(|pair| pair[0] - pair[1]).collect();
                steps
            };
            let (a, b) = (noise(150), noise(151));
            let common: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>() / a.len() as f32;
            let correlation = common / (spread(&a).1 * spread(&b).1);
            assert!(correlation.abs() < 0.03, "{condition}: {correlation}");
        }
    }

    #[test]
    fn blur_takes_from_waves_what_its_deviation_says() {
        for horizontal in [false, true] {
            for period in [32.0, 16.0, 12.0] {
                let sharp = waves((384, 256), period, 0.5, 0.4, horizontal);
                let left = contrast(&Condition::Blurred.apply(&sharp)) / contrast(&sharp);
                let expected = (-2.0 * (std::f32::consts::PI * 2.0 / period).powi(2)).exp();
                assert!((left / expected - 1.0).abs() < 0.03, "period {period}: {left} {expected}");
            }
        }
    }

    #[test]
    fn smear_goes_along_the_rows_only() {
        let over_rows = waves((384, 256), 16.0, 0.5, 0.4, true);
        assert!(Condition::Smeared.apply(&over_rows) == over_rows);
        for period in [32.0, 18.0, 12.0] {
            let sharp = waves((384, 256), period, 0.5, 0.4, false);
            let left = contrast(&Condition::Smeared.apply(&sharp)) / contrast(&sharp);
            // Of a mean over nine pixels (Dirichlet's kernel).
            let half = std::f32::consts::PI / period;
            let expected = ((9.0 * half).sin() / (9.0 * half.sin())).abs();
            assert!((left - expected).abs() < 0.01, "period {period}: {left} {expected}");
        }
        // And moves nothing: a line stays in the middle of its trace.
        let line = RgbImage::from_fn(256, 256, |x, _| Rgb([if x == 100 { 255 } else { 0 }; 3]));
        let trace = Condition::Smeared.apply(&line);
        let lit: Vec<u32> = (0..256).filter(|&x| trace.get_pixel(x, 7).0[0] > 0).collect();
        assert_eq!(lit, (96..=104).collect::<Vec<u32>>());
    }

    #[test]
    fn strength_does_not_depend_on_the_pictures_size() {
        for condition in [Condition::Infrared, Condition::Dim, Condition::Blurred, Condition::Smeared, Condition::Far] {
            let [small, large] = [(300, 200), (2400, 1600)].map(|(width, height)| condition.apply(&scene(width, height)));
            assert_eq!(small.dimensions(), large.dimensions());
            let [(_, small_contrast), (_, large_contrast)] =
                [&small, &large].map(|p| spread(&p.as_raw().iter().map(|&v| f32::from(v)).collect::<Vec<_>>()));
            assert!((small_contrast / large_contrast - 1.0).abs() < 0.02, "{condition} {small_contrast} {large_contrast}");
            let differences = small.as_raw().iter().zip(large.as_raw()).map(|(&a, &b)| f32::from(a.abs_diff(b)));
            let mean = differences.sum::<f32>() / small.as_raw().len() as f32;
            // Noise differs, by 1.13 standard deviations in the mean.
            let noise = if matches!(condition, Condition::Infrared | Condition::Dim) { 7.5 } else { 2.0 };
            assert!(mean < noise, "{condition}: {mean}");
        }
    }

    #[test]
    fn far_is_smaller_and_its_surroundings_go_on_smoothly() {
        // White in the middle of the upper red and the lower blue half.
        let near = RgbImage::from_fn(512, 512, |x, y| {
            let inside = x.abs_diff(256).max(y.abs_diff(256)) < 100;
            Rgb(if inside {
                [255; 3]
            } else if y < 256 {
                [200, 20, 20]
            } else {
                [20, 20, 200]
            })
        });
        let far = Condition::Far.apply(&near);
        assert_eq!(far.dimensions(), (256, 256));
        let white = far.pixels().filter(|p| p.0[1] > 128).count() as f32;
        assert!((white / (100.0_f32 * 0.4).powi(2) - 1.0).abs() < 0.1, "{white}: 200 of 512 are 40 of 256 at 0.4");
        assert!(far.get_pixel(128, 128).0[1] > 250);
        let (above, below) = (far.get_pixel(128, 5).0, far.get_pixel(128, 250).0);
        assert!(above.iter().zip([200, 20, 20]).all(|(&a, b)| a.abs_diff(b) < 10), "{above:?}");
        assert!(below.iter().zip([20, 20, 200]).all(|(&a, b)| a.abs_diff(b) < 10), "{below:?}");
        // Beside the small picture, the change from red to blue takes longer than inside it.
        let steepest = |x: u32| (1..256).map(|y| far.get_pixel(x, y).0[0].abs_diff(far.get_pixel(x, y - 1).0[0])).max();
        assert!(steepest(20) < Some(12) && steepest(85) > Some(50), "{:?} {:?}", steepest(20), steepest(85));
    }

    #[test]
    fn partial_is_the_left_half() {
        let whole = scene(61, 40);
        let part = Condition::Partial.apply(&whole);
        assert_eq!(part.dimensions(), (31, 40));
        assert!(part.enumerate_pixels().all(|(x, y, p)| p == whole.get_pixel(x, y)));
    }

    #[test]
    fn names_are_the_same_everywhere() {
        for condition in Condition::ALL {
            assert_eq!(serde_json::to_string(&condition).unwrap(), format!("\"{condition}\""));
        }
    }
}
