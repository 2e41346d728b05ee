//! The cut and the normalisation, on pictures whose right answer is known.

use image::{Rgb, RgbImage};
use pawgate::vision::region::PixelBox;
use pawgate::vision::{Exposure, Preprocess, ResizeRule, Sharpening};

const CROP: Preprocess = Preprocess::imagenet(ResizeRule::ShortSideCrop { short_side: 256 });
const PLAIN: Preprocess = Preprocess::imagenet(ResizeRule::Plain);

#[test]
fn the_crop_is_central_and_keeps_the_aspect() {
    // Columns carry their position: 0…255 over 1024 columns.
    let picture = RgbImage::from_fn(1024, 512, |x, y| Rgb([(x / 4) as u8, (y / 2) as u8, 7]));
    let pixels = CROP.pixels(&picture).unwrap();
    let at = |x: usize, y: usize| &pixels[(y * 224 + x) * 3..][..3];
    // The square of 448 source pixels around the centre (512, 256): columns 288…735, rows 32…479.
    for (x, y, expected) in [(0, 0, [288 / 4, 32 / 2, 7]), (223, 223, [735 / 4, 479 / 2, 7]), (112, 112, [128, 128, 7])] {
        let found = at(x, y);
        let worst = found.iter().zip(expected).map(|(a, b)| i32::from(*a).abs_diff(b)).max().unwrap();
        assert!(worst <= 1, "({x}, {y}): {found:?} instead of {expected:?}");
    }
}

#[test]
fn plain_sees_the_whole_picture() {
    let picture = RgbImage::from_fn(448, 896, |x, _| if x < 224 { Rgb([10, 20, 30]) } else { Rgb([200, 210, 220]) });
    let pixels = PLAIN.pixels(&picture).unwrap();
    assert_eq!(pixels.len(), 224 * 224 * 3);
    assert_eq!((&pixels[..3], &pixels[223 * 3..][..3]), (&[10, 20, 30][..], &[200, 210, 220][..]));
}

#[test]
fn a_picture_of_the_input_size_is_untouched_by_plain() {
    let picture = RgbImage::from_fn(224, 224, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    assert_eq!(PLAIN.pixels(&picture).unwrap(), picture.into_raw());
}

#[test]
fn one_pixel_and_extreme_shapes_are_scaled() {
    for (width, height) in [(1, 1), (1, 4000), (4000, 1), (3, 2)] {
        let picture = RgbImage::from_pixel(width, height, Rgb([9, 99, 199]));
        for rule in [CROP, PLAIN] {
            let pixels = rule.pixels(&picture).unwrap();
            assert!(pixels.chunks(3).all(|p| p == [9, 99, 199]), "{width}x{height} {:?}", rule.resize);
        }
    }
}

#[test]
fn dark_pictures_are_brightened_and_others_left_alone() {
    let rule = Preprocess { exposure: Some(Exposure { target: 90.0, most: 3.0 }), ..PLAIN };
    let grey = |value: u8| vec![value; 224 * 224 * 3];
    for (value, expected) in [(200, 200), (90, 90), (60, 90), (30, 90), (20, 60), (0, 0)] {
        assert_eq!(rule.adjusted(&grey(value))[..], grey(expected), "{value}");
        assert_eq!(PLAIN.adjusted(&grey(value))[..], grey(value), "{value}, without the rule");
    }
    // One factor for all samples, so colours keep their proportions; what becomes too bright is clipped.
    let mut half = [[20, 40, 60]; 224 * 224];
    half[..1000].fill([200, 100, 50]);
    let half = half.as_flattened();
    let seen = rule.adjusted(half);
    let gain = f64::from(seen[3 * 5000 + 2]) / 60.0;
    assert!((2.0..2.6).contains(&gain), "{gain}");
    assert_eq!((seen[0], seen[3 * 5000]), (255, (20.0 * gain).round() as u8));
    let tensor = rule.tensor(&RgbImage::from_raw(224, 224, half.to_vec()).unwrap()).unwrap();
    assert_eq!(tensor, rule.normalise(&seen));
}

#[test]
fn exposures_that_make_no_sense_are_refused() {
    for (target, most) in [(0.0, 3.0), (256.0, 3.0), (f32::NAN, 3.0), (90.0, 0.5), (90.0, 17.0), (90.0, f32::NAN)] {
        let rule = Preprocess { exposure: Some(Exposure { target, most }), ..PLAIN };
        assert!(rule.check().is_err_and(|reason| reason.contains("target")), "{target} {most}");
    }
    assert!(Preprocess { exposure: Some(Exposure::DUSK), ..PLAIN }.check().is_ok());
    // Files from before the rule have none.
    let before = serde_json::to_string(&PLAIN).unwrap();
    assert!(!before.contains("exposure") && serde_json::from_str::<Preprocess>(&before).unwrap() == PLAIN);
}

#[test]
fn channels_come_first_and_are_normalised() {
    let picture = RgbImage::from_pixel(10, 10, Rgb([255, 0, 128]));
    let tensor = PLAIN.tensor(&picture).unwrap();
    let area = 224 * 224;
    let expected = [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (128.0 / 255.0 - 0.406) / 0.225];
    for (channel, expected) in expected.into_iter().enumerate() {
        assert!(tensor[channel * area..][..area].iter().all(|v| (v - expected).abs() < 1e-5), "channel {channel}");
    }
}

#[test]
fn rules_out_of_range_are_refused() {
    let wrong = |change: fn(&mut Preprocess)| {
        let mut rule = CROP;
        change(&mut rule);
        rule.check().unwrap_err()
    };
    assert!(wrong(|r| r.size = 0).contains("input size 0"));
    assert!(wrong(|r| r.resize = ResizeRule::ShortSideCrop { short_side: 100 }).contains("short side 100"));
    assert!(wrong(|r| r.std[1] = 0.0).contains("standard deviation"));
    assert!(wrong(|r| r.mean[2] = f32::NAN).contains("mean"));
    CROP.check().unwrap();
}

#[test]
fn a_part_is_scaled_as_if_it_were_the_whole_picture() {
    let picture = RgbImage::from_fn(97, 71, |x, y| Rgb([(x * 5 % 251) as u8, (y * 7 % 241) as u8, (x * y % 239) as u8]));
    let part = PixelBox { left: 13, top: 9, width: 50, height: 41 };
    let copy = image::imageops::crop_imm(&picture, part.left, part.top, part.width, part.height).to_image();
    for rule in [CROP, PLAIN] {
        assert_eq!(rule.pixels_of(&picture, part).unwrap(), rule.pixels(&copy).unwrap(), "{:?}", rule.resize);
        assert_eq!(rule.pixels_of(&picture, PixelBox::whole(97, 71)).unwrap(), rule.pixels(&picture).unwrap());
    }
}

#[test]
fn a_part_that_is_not_in_the_picture_is_an_error() {
    let picture = RgbImage::new(20, 10);
    for (left, top, width, height) in [(0, 0, 21, 10), (1, 0, 20, 10), (0, 10, 1, 1), (u32::MAX, 0, 2, 2), (3, 3, 0, 2)] {
        assert!(PLAIN.pixels_of(&picture, PixelBox { left, top, width, height }).is_err(), "{left} {top} {width} {height}");
    }
}

#[test]
fn soft_pictures_are_sharpened_before_they_are_brightened() {
    let sharpening = Some(Sharpening::DEFOCUS);
    let rule = Preprocess { sharpening, ..PLAIN };
    // A soft edge in the dark.
    let level = |x: usize| 20.0 + 20.0 / (1.0 + (-(x as f32 - 112.0) / 6.0).exp());
    let pixels: Vec<u8> = (0..224 * 224).flat_map(|at| [level((at % 224) ^ (at / 224 / 8 % 2)) as u8; 3]).collect();
    let seen = rule.adjusted(&pixels).into_owned();
    assert!(seen != pixels && PLAIN.adjusted(&pixels)[..] == pixels);
    let both = Preprocess { exposure: Some(Exposure::DUSK), ..rule };
    let gain = Preprocess { exposure: both.exposure, ..PLAIN };
    // The factor is that of the picture as it came.
    let factor = (90.0 / pawgate::vision::quality::brightness(&pixels).0).min(3.0);
    let expected: Vec<u8> = seen.iter().map(|&value| (f32::from(value) * factor).round() as u8).collect();
    assert_eq!(both.adjusted(&pixels)[..], expected);
    assert_ne!(gain.adjusted(&pixels)[..], expected);
}

#[test]
fn sharpenings_that_make_no_sense_are_refused() {
    for (full, none) in [(-0.1, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.5), (f32::NAN, 0.1), (0.1, f32::NAN)] {
        let rule = Preprocess { sharpening: Some(Sharpening { full, none }), ..PLAIN };
        assert!(rule.check().is_err_and(|reason| reason.contains("sharpening")), "{full} {none}");
    }
    assert!(Preprocess { sharpening: Some(Sharpening::DEFOCUS), ..PLAIN }.check().is_ok());
    assert!(!serde_json::to_string(&PLAIN).unwrap().contains("sharpening"));
}
