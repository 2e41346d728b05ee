//! Every kind of picture that `decode` promises to take or to refuse by name.

use std::io::Cursor;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba};
use jpeg_encoder::{ColorType, Encoder};
use pawgate::samples::SAMPLES;
use pawgate::vision::{DecodeError, decode};

/// 40×24, left half red, right half blue.
fn red_blue() -> RgbImage {
    RgbImage::from_fn(40, 24, |x, _| if x < 20 { Rgb([230, 20, 20]) } else { Rgb([20, 20, 230]) })
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn assert_near(found: Rgb<u8>, expected: [u8; 3], what: &str) {
    let worst = found.0.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().unwrap();
    assert!(worst <= 6, "{what}: {found:?} instead of {expected:?}");
}

fn jpeg(data: &[u8], width: u16, height: u16, colours: ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, 95).encode(data, width, height, colours).unwrap();
    bytes
}

#[test]
fn all_formats_give_the_same_picture() {
    let picture = DynamicImage::from(red_blue());
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        assert_eq!(decode(&encoded(&picture, format)).unwrap(), red_blue(), "{format:?}");
    }
    let from_jpeg = decode(&jpeg(picture.as_bytes(), 40, 24, ColorType::Rgb)).unwrap();
    assert_near(*from_jpeg.get_pixel(5, 12), [230, 20, 20], "JPEG");
    assert_near(*from_jpeg.get_pixel(35, 12), [20, 20, 230], "JPEG");
}

#[test]
fn the_name_and_declared_type_do_not_matter_but_other_formats_are_refused() {
    for junk in [&b"GIF89a\x01\x00\x01\x00"[..], b"%PDF-1.7 and so on", b"hello", &[0xFF; 64]] {
        assert!(matches!(decode(junk), Err(DecodeError::UnknownFormat | DecodeError::Damaged(_))), "{junk:?}");
    }
    assert!(matches!(decode(b""), Err(DecodeError::Empty)));
}

#[test]
fn grey_sixteen_bit_and_palette_become_rgb() {
    let grey = ImageBuffer::from_pixel(4, 4, Luma([77u8]));
    assert_eq!(decode(&encoded(&grey.into(), ImageFormat::Png)).unwrap().get_pixel(1, 1).0, [77; 3]);
    let deep = ImageBuffer::from_pixel(4, 4, Rgb([0xFFFFu16, 0x8080, 0]));
    assert_eq!(decode(&encoded(&deep.into(), ImageFormat::Png)).unwrap().get_pixel(1, 1).0, [255, 128, 0]);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![10, 20, 30, 200, 100, 50]);
    encoder.write_header().unwrap().write_image_data(&[1, 0]).unwrap();
    let palette = decode(&bytes).unwrap();
    assert_eq!([palette.get_pixel(0, 0).0, palette.get_pixel(1, 0).0], [[200, 100, 50], [10, 20, 30]]);
}

#[test]
fn transparent_parts_are_mid_grey_whatever_colour_hides_below() {
    let picture = ImageBuffer::from_fn(3, 1, |x, _| Rgba([255u8, 0, 0, [0, 255, 51][x as usize]]));
    let rgb = decode(&encoded(&picture.into(), ImageFormat::Png)).unwrap();
    assert_eq!(rgb.get_pixel(0, 0).0, [128; 3]);
    assert_eq!(rgb.get_pixel(1, 0).0, [255, 0, 0]);
    assert_eq!(rgb.get_pixel(2, 0).0, [153, 102, 102], "a fifth of red over grey");
}

#[test]
fn cmyk_jpegs_have_their_colours() {
    // Full magenta and yellow: red.
    let red = jpeg(&[0, 255, 255, 0].repeat(64), 8, 8, ColorType::Cmyk);
    assert_near(*decode(&red).unwrap().get_pixel(4, 4), [255, 0, 0], "CMYK");
    let dark = jpeg(&[0, 0, 0, 204].repeat(64), 8, 8, ColorType::CmykAsYcck);
    assert_near(*decode(&dark).unwrap().get_pixel(4, 4), [51, 51, 51], "YCCK");
}

#[test]
fn exif_orientation_is_applied() {
    let picture = red_blue();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    // TIFF, little-endian, one entry: tag 0x0112 (orientation), SHORT, 1 value, 6 (the top is on the right).
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    encoder.add_app_segment(1, exif.to_vec()).unwrap();
    encoder.encode(picture.as_raw(), 40, 24, ColorType::Rgb).unwrap();
    let upright = decode(&bytes).unwrap();
    assert_eq!(upright.dimensions(), (24, 40));
    assert_near(*upright.get_pixel(12, 4), [230, 20, 20], "what was left is now at the top");
    assert_near(*upright.get_pixel(12, 36), [20, 20, 230], "what was right is now at the bottom");
}

#[test]
fn cut_pictures_are_refused() {
    let picture = DynamicImage::from(image::RgbImage::from_fn(64, 64, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519);
        Rgb([noise as u8, (noise >> 8) as u8, (noise >> 16) as u8])
    }));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let whole = encoded(&picture, format);
        for part in [whole.len() / 10, whole.len() / 2, whole.len() * 9 / 10] {
            let error = decode(&whole[..part]).expect_err("half a picture is no picture");
            assert!(matches!(error, DecodeError::Truncated | DecodeError::Damaged(_)), "{format:?} {part}: {error}");
        }
    }
    for sample in SAMPLES {
        for part in [sample.jpeg.len() / 10, sample.jpeg.len() / 2, sample.jpeg.len() - 2] {
            let error = decode(&sample.jpeg[..part]).expect_err("half a picture is no picture");
            assert!(matches!(error, DecodeError::Truncated), "{} {part}: {error}", sample.name);
        }
        let half = &sample.jpeg[..sample.jpeg.len() / 2];
        let error = decode(&[half, sample.jpeg].concat()).expect_err("half a picture before a whole one");
        assert!(matches!(error, DecodeError::Truncated), "{}: {error}", sample.name);
        decode(sample.jpeg).unwrap();
        decode(&[sample.jpeg, b"appended by a camera"].concat()).unwrap();
    }
}

#[test]
fn a_thumbnails_end_is_not_the_pictures_end() {
    // The EXIF block holds a complete little JPEG; the picture itself is cut.
    let thumbnail = jpeg(&[128; 8 * 8 * 3], 8, 8, ColorType::Rgb);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    encoder.add_app_segment(1, [&b"Exif\0\0"[..], &thumbnail].concat()).unwrap();
    encoder.encode(red_blue().as_raw(), 40, 24, ColorType::Rgb).unwrap();
    decode(&bytes).unwrap();
    assert!(matches!(decode(&bytes[..bytes.len() - 2]), Err(DecodeError::Truncated)));
}

#[test]
fn a_huge_picture_is_refused_by_its_header() {
    // A valid PNG header that announces 60000×60000 grey pixels, and hardly any data.
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0x78, 0x9c, 0x03, 0x00]).unwrap();
    let error = decode(&bytes).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { width: 60_000, height: 60_000, .. }), "{error}");
}
