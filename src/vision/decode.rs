//! Decoding of still pictures: JPEG, PNG, WebP and BMP, told by their content and never by their name.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use thiserror::Error;

/// The most pixels a picture may have. A camera for a pet door has 2 to 12 million; the limit bounds what a crafted
/// header can ask for (16-bit samples with transparency take 8 bytes a pixel while they are decoded).
pub const MAX_PIXELS: u64 = 100_000_000;

/// The most bytes a picture file may have: more than any camera's JPEG, and than 100 megapixels of most other pictures need.
pub const MAX_BYTES: u64 = 256 << 20;

/// Transparent parts are laid over this grey value: mid-grey adds the least contrast that is not in the picture.
const BACKDROP: u16 = 128;

/// Why a file is not a picture that can be classified.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A device, a pipe or a folder.
    #[error("not a regular file")]
    NotAFile,
    /// More than [`MAX_BYTES`].
    #[error("the file is larger than the limit of {} MiB", MAX_BYTES >> 20)]
    TooManyBytes,
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The content is none of the known formats.
    #[error("not a JPEG, PNG, WebP or BMP picture")]
    UnknownFormat,
    /// More pixels than allowed.
    #[error("{width}x{height} is more than the limit of {} megapixels: scale the picture down", .limit / 1_000_000)]
    TooLarge {
        /// Width that the header announces, in pixels.
        width: u32,
        /// Height that the header announces, in pixels.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },
    /// The data end before the picture does.
    #[error("the picture is cut off: its data end too early")]
    Truncated,
    /// A valid picture in a variant that no decoder here reads.
    #[error("unsupported picture variant: {0}")]
    Unsupported(String),
    /// Anything else that the decoder reports.
    #[error("damaged picture: {0}")]
    Damaged(String),
}

/// Reads a picture file: [`read_bytes`], then [`decode`].
///
/// # Errors
/// See [`DecodeError`].
pub fn read(path: &Path) -> Result<RgbImage, DecodeError> {
    decode(&read_bytes(path)?)
}

/// Reads a regular file of at most [`MAX_BYTES`]; never waits for a pipe and never reads a device without end.
///
/// # Errors
/// See [`DecodeError`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, DecodeError> {
    // Asked before opening: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(DecodeError::NotAFile);
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that grew or lies about its length.
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DecodeError::TooManyBytes);
    }
    Ok(bytes)
}

/// Decodes `bytes` to upright RGB, 8 bits a channel, row-major.
///
/// The EXIF orientation is applied; grey is spread over the three channels, 16-bit samples are scaled to 8, palettes are
/// looked up, CMYK is converted, and transparent parts are laid over mid-grey.
///
/// # Errors
/// See [`DecodeError`]. A picture whose data end early is refused even where a decoder would fill the rest with grey: half
/// a picture is no evidence. (A JPEG that lost data in its middle and kept its end cannot be told from a whole one.)
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    decode_within(bytes, MAX_PIXELS)
}

/// As [`decode`], for pictures of at most `limit` pixels.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_within(bytes: &[u8], limit: u64) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| DecodeError::Damaged(e.to_string()))?;
    let format = reader.format().ok_or(DecodeError::UnknownFormat)?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Bmp) {
        return Err(DecodeError::UnknownFormat);
    }
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(DecodeError::Truncated);
    }
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooLarge { width, height, limit });
    }
    let mut limits = Limits::default();
    // 16-bit RGBA at the pixel limit; the decoder's own tables fit beside it.
    limits.max_alloc = Some(limit * 8 + (64 << 20));
    decoder.set_limits(limits).map_err(explain)?;
    // A damaged EXIF block says nothing about the pixels: read the picture as it lies.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(explain)?;
    picture.apply_orientation(orientation);
    Ok(to_rgb(picture))
}

fn to_rgb(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        image::Rgb([r, g, b].map(|c| over_backdrop(c, a)))
    })
}

fn over_backdrop(colour: u8, alpha: u8) -> u8 {
    let alpha = u16::from(alpha);
    // At most 255 · 255, so the sum fits 16 bits and the quotient 8.
    ((u16::from(colour) * alpha + BACKDROP * (255 - alpha) + 127) / 255) as u8
}

fn explain(error: ImageError) -> DecodeError {
    match error {
        ImageError::Unsupported(e) => DecodeError::Unsupported(e.to_string()),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        ImageError::Limits(e) => DecodeError::Unsupported(e.to_string()),
        e => DecodeError::Damaged(e.to_string()),
    }
}

/// Whether the end-of-image marker follows the scans of a JPEG.
///
/// The decoder fills missing rows with grey and reports success, so the check is made here. A second start of image before the
/// end is a picture that was cut and followed by another one. Data that are missing in the middle of a scan cannot be seen from
/// the markers.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    matches!(JpegWalk::new().follow(bytes), JpegEnd::At { scanned: true, .. })
}

/// Follows a JPEG marker by marker (ITU-T T.81, B.1.1), as its bytes arrive: segments are skipped by their length, so a
/// thumbnail's end inside an EXIF block does not count; inside entropy-coded data 0xFF is followed by 0x00 or a restart marker.
#[derive(Debug)]
pub(crate) struct JpegWalk {
    at: usize,
    scanned: bool,
}

/// Where a JPEG ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JpegEnd {
    /// Not in these bytes.
    NotYet,
    /// Before byte `len`; without a scan there is no picture in it.
    At { len: usize, scanned: bool },
    /// Nowhere: another picture starts at byte `start`.
    Cut { start: usize },
}

impl JpegWalk {
    /// Begins after the start-of-image marker.
    pub(crate) fn new() -> Self {
        Self { at: 2, scanned: false }
    }

    /// Goes on in `bytes`, which begin with the start of the picture and are those of the last call and more.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> JpegEnd {
        const START_OF_IMAGE: u8 = 0xD8;
        const END_OF_IMAGE: u8 = 0xD9;
        const START_OF_SCAN: u8 = 0xDA;
        while let Some(&[first, code]) = bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            match (first, code) {
                (0xFF, END_OF_IMAGE) => return JpegEnd::At { len: self.at + 2, scanned: self.scanned },
                (0xFF, START_OF_IMAGE) => return JpegEnd::Cut { start: self.at },
                // Stuffed zero, restart markers, TEM, fill bytes: no segment follows.
                (0xFF, 0x00 | 0x01 | 0xD0..=0xD7) => self.at += 2,
                (0xFF, 0xFF) => self.at += 1,
                (0xFF, _) => {
                    let Some(&[high, low]) = bytes.get(self.at + 2..).and_then(|rest| rest.first_chunk()) else { break };
                    self.scanned |= code == START_OF_SCAN;
                    self.at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                }
                // Entropy-coded data, or stray bytes that the decoder may judge.
                _ => self.at += 1,
            }
        }
        JpegEnd::NotYet
    }
}
