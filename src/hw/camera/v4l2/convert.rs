//! From a camera's buffer to the bytes that go out: Y4M for raw pictures, plain JPEGs for MJPEG.
//!
//! A picture carries the moment at which it was captured, in microseconds of the kernel's monotonic clock, where the driver tells:
//! `FRAME Xcaptured=…` in Y4M, a comment `captured=…` behind the start of a JPEG. Readers that do not know it skip it.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use super::choose::{Choice, Pixels, Rate};
use crate::vision::decode::{JpegEnd, JpegWalk};

/// How the pictures of a stream lie in their buffers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// The format.
    pub pixels: Pixels,
    /// Pixels across, 1…65535.
    pub width: u32,
    /// Pixels down, 1…65535.
    pub height: u32,
    /// Bytes from line to line; 0 where lines follow each other without padding. Nothing to JPEGs.
    pub stride: u32,
    /// Whether brightness goes from 0 to 255 in place of 16 to 235.
    pub full_range: bool,
    /// Pictures that go out, in a time. Only told, not kept.
    pub rate: Option<Rate>,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pixels, width, height, rate, .. } = *self;
        Choice { pixels, width, height, rate }.fmt(f)
    }
}

impl Layout {
    /// What stands before the first picture.
    pub fn header(&self) -> Vec<u8> {
        let chroma = match self.pixels {
            Pixels::Mjpeg => return vec![],
            Pixels::Yuyv => "422",
            Pixels::Nv12 => "420jpeg",
            Pixels::Grey => "mono",
        };
        let rate = self.rate.map_or(String::new(), |rate| format!(" F{}:{}", rate.frames, rate.seconds));
        let range = if self.full_range { " XCOLORRANGE=FULL" } else { "" };
        format!("YUV4MPEG2 W{} H{}{rate} Ip C{chroma}{range}\n", self.width, self.height).into_bytes()
    }

    /// Puts the picture in `buffer` at the end of `out`. `false`, and `out` as it was, if it is not whole.
    pub fn put(&self, buffer: &[u8], captured: Option<Duration>, out: &mut Vec<u8>) -> bool {
        if self.pixels == Pixels::Mjpeg {
            return put_jpeg(buffer, captured, out);
        }
        let before = out.len();
        let mark = captured.map_or(String::new(), |moment| format!(" X{}", mark(moment)));
        // Writing to memory does not fail.
        let _ = writeln!(out, "FRAME{mark}");
        let whole = self.put_planes(buffer, out).is_some();
        if !whole {
            out.truncate(before);
        }
        whole
    }

    fn put_planes(&self, buffer: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let [width, height, stride] = [self.width, self.height, self.stride].map(|n| n as usize);
        let pairs = width.div_ceil(2);
        match self.pixels {
            Pixels::Mjpeg => return None,
            Pixels::Grey => lines(buffer, width, height, stride)?.for_each(|line| out.extend_from_slice(line)),
            Pixels::Yuyv => {
                let start = out.len();
                let lines = lines(buffer, pairs * 4, height, stride)?;
                out.resize(start + width * height + 2 * pairs * height, 0);
                let (y, colours) = out[start..].split_at_mut(width * height);
                let (u, v) = colours.split_at_mut(pairs * height);
                let planes = y.chunks_exact_mut(width).zip(u.chunks_exact_mut(pairs)).zip(v.chunks_exact_mut(pairs));
                lines.zip(planes).for_each(|(line, ((y, u), v))| split_yuyv(line, y, u, v));
            }
            Pixels::Nv12 => {
                let stride = if stride == 0 { width } else { stride };
                let colours = lines(buffer.get(stride.checked_mul(height)?..)?, pairs * 2, height.div_ceil(2), stride)?;
                lines(buffer, width, height, stride)?.for_each(|line| out.extend_from_slice(line));
                let [u, v] = [0, 1].map(|which| colours.clone().flat_map(move |line| line.iter().skip(which).step_by(2)));
                out.extend(u);
                out.extend(v);
            }
        }
        Some(())
    }
}

/// `count` lines of `length` bytes, `stride` bytes from start to start; `None` if they are not all there. The padding of the last
/// line may be missing.
fn lines(buffer: &[u8], length: usize, count: usize, stride: usize) -> Option<impl Iterator<Item = &[u8]> + Clone> {
    let stride = if stride == 0 { length } else { stride };
    let needed = stride.checked_mul(count.checked_sub(1)?)?.checked_add(length)?;
    let buffer = buffer.get(..needed).filter(|_| (1..=stride).contains(&length))?;
    Some(buffer.chunks(stride).map(move |line| &line[..length]))
}

/// A line of `Y U Y V`, each colour for two pixels.
fn split_yuyv(line: &[u8], y: &mut [u8], u: &mut [u8], v: &mut [u8]) {
    for ((pixels, y), (u, v)) in line.chunks_exact(4).zip(y.chunks_mut(2)).zip(u.iter_mut().zip(v)) {
        y[0] = pixels[0];
        // An odd width ends with half a pair.
        if let Some(second) = y.get_mut(1) {
            *second = pixels[2];
        }
        (*u, *v) = (pixels[1], pixels[3]);
    }
}

/// The JPEG at the start of `buffer`, without what a camera leaves behind it.
fn put_jpeg(buffer: &[u8], captured: Option<Duration>, out: &mut Vec<u8>) -> bool {
    if !buffer.starts_with(&[0xFF, 0xD8, 0xFF]) {
        return false;
    }
    let JpegEnd::At { len, scanned: true } = JpegWalk::new().follow(buffer) else { return false };
    out.extend_from_slice(&buffer[..2]);
    if !has_huffman_tables(&buffer[2..len]) {
        // Cameras leave out the tables that all of them share, and not all say so. This segment does, to decoders of MJPEG.
        out.extend_from_slice(b"\xFF\xE0\x00\x08AVI1\0\0");
    }
    if let Some(moment) = captured {
        let mark = mark(moment);
        out.extend_from_slice(&[0xFF, 0xFE]);
        out.extend_from_slice(&(mark.len() as u16 + 2).to_be_bytes());
        out.extend_from_slice(mark.as_bytes());
    }
    out.extend_from_slice(&buffer[2..len]);
    true
}

/// Whether a Huffman table is defined before the first scan.
fn has_huffman_tables(mut segments: &[u8]) -> bool {
    while let [0xFF, code, rest @ ..] = segments {
        match (code, rest) {
            (0xC4, _) => return true,
            (0xDA, _) => return false,
            // A fill byte: the next one may be the code.
            (0xFF, _) => segments = &segments[1..],
            (_, &[high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                segments = rest.get(length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

/// 30 bytes at most.
fn mark(captured: Duration) -> String {
    format!("captured={}", u64::try_from(captured.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::RgbImage;

    use super::*;
    use crate::hw::camera::stream::Stream;
    use crate::hw::camera::{Camera, Timing};
    use crate::hw::clock::Monotonic;

    fn layout(pixels: Pixels, width: u32, height: u32, stride: u32) -> Layout {
        Layout { pixels, width, height, stride, full_range: true, rate: Rate::new(10, 1) }
    }

    /// Pictures as the parent reads them.
    fn read_back(bytes: Vec<u8>) -> Vec<RgbImage> {
        let mut stream = Stream::new("a feed", Cursor::new(bytes), 10, Timing::Recorded(Monotonic::default()));
        let frames = std::iter::from_fn(|| stream.next().transpose());
        frames.map(|frame| (*frame.unwrap().picture).clone()).collect()
    }

    fn sent(layout: &Layout, buffers: &[&[u8]]) -> Vec<u8> {
        let mut out = layout.header();
        for (number, buffer) in buffers.iter().enumerate() {
            let captured = (number > 0).then(|| Duration::from_micros(1_234_567));
            assert!(layout.put(buffer, captured, &mut out), "{layout:?}");
        }
        out
    }

    /// A buffer of lines of `length` bytes of which each has padding, filled by row and column.
    fn padded(length: usize, count: usize, stride: usize, byte: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        let mut bytes = vec![0xEE; stride * count];
        for (row, line) in bytes.chunks_exact_mut(stride).enumerate() {
            line[..length].iter_mut().enumerate().for_each(|(column, value)| *value = byte(row, column));
        }
        bytes
    }

    #[test]
    fn packed_pictures_become_planes() {
        let layout = layout(Pixels::Yuyv, 4, 2, 0);
        let buffer = [1, 101, 2, 201, 3, 102, 4, 202, 5, 103, 6, 203, 7, 104, 8, 204];
        let expected = b"YUV4MPEG2 W4 H2 F10:1 Ip C422 XCOLORRANGE=FULL\nFRAME\n\
            \x01\x02\x03\x04\x05\x06\x07\x08\x65\x66\x67\x68\xC9\xCA\xCB\xCC";
        assert_eq!(sent(&layout, &[&buffer]), expected);
        let limited = Layout { full_range: false, rate: None, ..layout };
        assert_eq!(limited.header(), b"YUV4MPEG2 W4 H2 Ip C422\n");
        let film = Layout { rate: Rate::new(30000, 1001), ..layout };
        assert!(film.header().starts_with(b"YUV4MPEG2 W4 H2 F30000:1001 "));
    }

    #[test]
    fn the_parent_reads_what_is_sent() {
        // Grey of rising brightness, whatever the format: colours stand at 128.
        let grey = |row: usize, column: usize| (row * 40 + column * 10) as u8;
        for (width, height, padding) in [(6_usize, 4_usize, 0_usize), (6, 4, 10), (5, 3, 3), (1, 1, 0), (2, 5, 6)] {
            let pairs = width.div_ceil(2);
            let yuyv = |row, column: usize| if column.is_multiple_of(2) { grey(row, column / 2) } else { 128 };
            let buffers = [
                (Pixels::Yuyv, pairs * 4, padded(pairs * 4, height, pairs * 4 + padding, yuyv)),
                (Pixels::Grey, width, padded(width, height, width + padding, grey)),
                (Pixels::Nv12, pairs * 2, {
                    let stride = pairs * 2 + padding;
                    let colours = padded(pairs * 2, height.div_ceil(2), stride, |_, _| 128);
                    [padded(width, height, stride, grey), colours].concat()
                }),
            ];
            for (pixels, length, buffer) in buffers {
                let layout = layout(pixels, width as u32, height as u32, (length + padding) as u32);
                let frames = read_back(sent(&layout, &[&buffer, &buffer]));
                assert_eq!(frames.len(), 2, "{layout:?}");
                for (x, y, found) in frames[1].enumerate_pixels() {
                    let expected = grey(y as usize, x as usize);
                    assert!(found.0.iter().all(|&c| c.abs_diff(expected) <= 1), "{layout:?} ({x}, {y}): {found:?} {expected}");
                }
                assert_eq!(frames[0].dimensions(), (layout.width, layout.height));
            }
        }
    }

    #[test]
    fn colours_come_out_as_colours() {
        // Full-range BT.601: red is (76, 85, 255), blue (29, 255, 107).
        let red_and_blue = [[76, 85, 76, 255], [29, 255, 29, 107]].concat();
        let yuyv = read_back(sent(&layout(Pixels::Yuyv, 4, 1, 0), &[&red_and_blue]));
        let nv12 = [&[76, 76, 29, 29, 76, 76, 29, 29][..], &[85, 255, 255, 107]].concat();
        let nv12 = read_back(sent(&layout(Pixels::Nv12, 4, 2, 0), &[&nv12]));
        for picture in [&yuyv[0], &nv12[0]] {
            let [red, blue] = [picture.get_pixel(0, 0).0, picture.get_pixel(3, 0).0];
            assert!(red[0] > 240 && red[1] < 15 && red[2] < 15 && blue[2] > 240 && blue[0] < 15, "{red:?} {blue:?}");
        }
    }

    #[test]
    fn a_buffer_that_is_too_short_is_no_picture() {
        for (layout, needed) in [
            (layout(Pixels::Yuyv, 4, 3, 16), 40),
            (layout(Pixels::Yuyv, 4, 3, 0), 24),
            (layout(Pixels::Nv12, 4, 4, 8), 32 + 8 + 4),
            (layout(Pixels::Nv12, 3, 3, 0), 9 + 3 + 4),
            (layout(Pixels::Grey, 5, 2, 5), 10),
        ] {
            // NV12 of an odd width needs a stride that holds the last pair of colours.
            let layout = if layout.width == 3 { Layout { stride: 4, ..layout } } else { layout };
            let needed = if layout.width == 3 { 12 + 4 + 4 } else { needed };
            let mut out = b"before".to_vec();
            assert!(!layout.put(&vec![9; needed - 1], None, &mut out) && out == b"before", "{layout:?}");
            assert!(!layout.put(&[], None, &mut out) && out == b"before", "{layout:?}");
            assert!(layout.put(&vec![9; needed], None, &mut out), "{layout:?}");
        }
        // Sizes and strides that cannot be.
        for odd in [layout(Pixels::Yuyv, 4, 2, 7), layout(Pixels::Grey, 4, 0, 4), layout(Pixels::Nv12, 4, u32::MAX, u32::MAX)] {
            assert!(!odd.put(&[0; 100], None, &mut vec![]), "{odd:?}");
        }
    }

    fn jpeg(level: u8) -> Vec<u8> {
        let mut bytes = vec![];
        let pixels: Vec<u8> = (0..32 * 16).flat_map(|n| [level, level.wrapping_add((n % 32) as u8 * 3), level / 2]).collect();
        jpeg_encoder::Encoder::new(&mut bytes, 90).encode(&pixels, 32, 16, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    #[test]
    fn jpegs_lose_what_lies_behind_them() {
        let layout = layout(Pixels::Mjpeg, 32, 16, 0);
        assert!(layout.header().is_empty());
        let [first, second] = [jpeg(60), jpeg(120)];
        let behind = [&first[..], &[0; 700], b"\xFF\xD8rest of an older picture"].concat();
        assert_eq!(sent(&layout, &[&behind]), first, "nothing but the picture");
        let frames = read_back(sent(&layout, &[&behind, &second, &behind]));
        let expected = [&first, &second, &first].map(|bytes| image::load_from_memory(bytes).unwrap().into_rgb8());
        assert_eq!(frames, expected);
    }

    #[test]
    fn what_is_no_whole_jpeg_is_left_out() {
        let whole = jpeg(60);
        let twice = [&whole[..whole.len() - 9], &whole].concat();
        for broken in [&whole[..whole.len() - 2], &whole[1..], b"\xFF\xD8\xFF\xD9", b"", &[0; 4000], &twice] {
            let mut out = vec![];
            assert!(!put_jpeg(broken, Some(Duration::ZERO), &mut out) && out.is_empty(), "{} bytes", broken.len());
        }
    }

    #[test]
    fn missing_huffman_tables_are_announced() {
        // As a camera sends it: the encoder's tables are the usual ones, so a decoder can do without.
        let whole = jpeg(60);
        let mut bare = whole[..2].to_vec();
        let mut rest = &whole[2..];
        while rest[1] != 0xDA {
            let (segment, after) = rest.split_at(2 + usize::from(u16::from_be_bytes([rest[2], rest[3]])));
            if segment[1] != 0xC4 {
                bare.extend_from_slice(segment);
            }
            rest = after;
        }
        bare.extend_from_slice(rest);
        assert!(bare.len() + 400 < whole.len());
        let frames = read_back(sent(&layout(Pixels::Mjpeg, 32, 16, 0), &[&bare, &bare]));
        let expected = image::load_from_memory(&whole).unwrap().into_rgb8();
        assert_eq!(frames, [expected.clone(), expected]);
    }

    #[test]
    fn the_moment_of_capture_goes_along() {
        let moment = Some(Duration::new(7, 5_000));
        let mut out = vec![];
        assert!(layout(Pixels::Grey, 1, 1, 0).put(&[50], moment, &mut out));
        assert_eq!(out, b"FRAME Xcaptured=7000005\n2");
        out.clear();
        assert!(put_jpeg(&jpeg(60), moment, &mut out));
        assert_eq!(&out[..22], b"\xFF\xD8\xFF\xFE\x00\x12captured=7000005");
    }
}
