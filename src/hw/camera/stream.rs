//! Frames from anything that can be read: standard input, or the output of a program such as `ffmpeg` or `rpicam-vid`.
//!
//! Two formats, told apart by their first bytes: Y4M (YUV4MPEG2; 4:2:0, 4:2:2, 4:4:4 and grey of 8 bits) and MJPEG (one JPEG
//! after the other). Nothing is kept but the frame that is being read, and no memory is taken for bytes that have not come.
//!
//! A damaged JPEG is reported and left out, and so is what lies between two. In Y4M there is nothing to find the next frame by,
//! so damage ends the stream. What is cut off is an error, never half a picture.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use thiserror::Error;
use yuv::{YuvError, YuvGrayImage, YuvPlanarImage, YuvRange, YuvStandardMatrix};

use super::{Camera, CameraError, Frame, Timing};
use crate::hw::clock::Monotonic;
use crate::vision::DecodeError;
use crate::vision::decode::{JpegEnd, JpegWalk, decode_within};

/// The most pixels of a frame; 4K has 8 million.
pub const MAX_PIXELS: u64 = 16_000_000;
/// The most bytes of one JPEG.
pub const MAX_JPEG: usize = 32 << 20;
/// The most bytes between two JPEGs.
pub const MAX_STRAY: usize = 1 << 20;
/// The longest line of Y4M, in bytes.
const MAX_LINE: usize = 1024;
/// The most bytes asked for at a time.
const CHUNK: usize = 64 << 10;

const Y4M_START: &[u8] = b"YUV4MPEG2 ";
const JPEG_START: &[u8] = &[0xFF, 0xD8, 0xFF];

/// What is wrong with a stream.
#[derive(Debug, Error)]
pub enum StreamError {
    /// Reading failed.
    #[error("cannot be read: {0}; is the program that writes it still running?")]
    Io(#[from] std::io::Error),
    /// It ended before it began.
    #[error("not one byte came; did the program that writes it start?")]
    Empty,
    /// It is neither of the two formats.
    #[error("neither Y4M nor MJPEG: it begins with {0}; `ffmpeg -i CAMERA -f yuv4mpegpipe -` writes Y4M")]
    Unknown(String),
    /// The first line of a Y4M stream cannot be used.
    #[error("the Y4M header {0}; `ffmpeg … -pix_fmt yuv420p -f yuv4mpegpipe -` writes one that fits")]
    Header(String),
    /// More than [`MAX_PIXELS`].
    #[error("frames of {width}x{height} are more than the limit of {} megapixels: scale them down", MAX_PIXELS / 1_000_000)]
    TooLarge {
        /// Width that the header announces, in pixels.
        width: u32,
        /// Height that the header announces, in pixels.
        height: u32,
    },
    /// Another frame should begin here.
    #[error("damaged: frame {number} begins with {found} in place of `FRAME`; start the stream again")]
    OutOfStep {
        /// Number of the frame.
        number: u64,
        /// The bytes there.
        found: String,
    },
    /// It ended inside a frame.
    #[error("cut off inside frame {0}: its last bytes are missing; start the stream again")]
    Truncated(u64),
    /// More than [`MAX_JPEG`] bytes without an end.
    #[error("picture {0} has no end within {limit} MiB; is the stream MJPEG?", limit = MAX_JPEG >> 20)]
    Endless(u64),
    /// More than [`MAX_STRAY`] bytes without a picture.
    #[error("no JPEG within {limit} KiB after picture {0}; is the stream MJPEG?", limit = MAX_STRAY >> 10)]
    NoPicture(u64),
    /// Bytes between pictures. The stream goes on.
    #[error("{count} bytes before picture {number} are no JPEG and were left out; does the program write plain MJPEG?")]
    Stray {
        /// How many.
        count: usize,
        /// The picture that follows.
        number: u64,
    },
    /// A picture that cannot be decoded. The stream goes on.
    #[error("picture {number} was left out: {error}; are bytes lost on the way?")]
    Picture {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The planes of a frame could not be converted.
    #[error("frame {number} cannot be converted to RGB: {error}; this is a defect of pawgate, please report it")]
    Convert {
        /// Number of the frame.
        number: u64,
        /// What the converter says.
        error: YuvError,
    },
}

impl StreamError {
    /// Whether the stream goes on after it.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Stray { .. } | Self::Picture { .. })
    }
}

/// A stream played as a camera.
pub struct Stream<R> {
    name: String,
    feed: Feed<R>,
    format: Option<Format>,
    timing: Timing,
    /// Time from frame to frame of a recorded stream.
    interval: Duration,
    /// Frames so far, readable or not.
    number: u64,
    /// What the frame's own mark says, as [`Self::marked`] describes.
    mark: Option<Duration>,
    /// Capture time of the last frame; the next is not earlier.
    last: Monotonic,
    over: bool,
}

/// Reads the clock that marks are made by: the kernel's monotonic one, as time since its start.
pub type MarkClock = fn() -> Duration;

/// What was found in the first bytes.
#[derive(Debug, Clone, Copy)]
enum Format {
    Y4m(Header),
    Mjpeg,
}

impl<R: Read + Send> Stream<R> {
    /// Reads from `reader`, which errors call `name`. Nothing is read yet. A recorded stream that does not say how many frames
    /// it has a second has `fps`.
    pub fn new(name: impl Into<String>, reader: R, fps: u32, timing: Timing) -> Self {
        let feed =
            Feed { reader, data: Vec::new(), arrived: Monotonic::default(), marks: None, arrived_by_mark: Duration::ZERO };
        let interval = Duration::from_secs(1) / fps.max(1);
        let (number, mark, last, over) = (0, None, Monotonic::default(), false);
        Self { name: name.into(), feed, format: None, timing, interval, number, mark, last, over }
    }

    /// Believes the capture times that [`super::v4l2`]'s reader writes into a live stream, in microseconds by `clock`: a frame
    /// that waited in the driver or in the pipe is as old as it is, not as young as its last byte. A mark that lies in the future,
    /// or before the frame in front, does not count.
    #[must_use]
    pub fn marked(mut self, clock: MarkClock) -> Self {
        self.feed.marks = Some(clock);
        self
    }

    fn step(&mut self) -> Result<Option<RgbImage>, StreamError> {
        let format = match self.format {
            Some(format) => format,
            None => *self.format.insert(self.feed.format(&self.timing)?),
        };
        match format {
            Format::Y4m(header) => {
                if let Some(interval) = header.interval {
                    self.interval = interval;
                }
                self.y4m(&header)
            }
            Format::Mjpeg => self.mjpeg(),
        }
    }

    fn y4m(&mut self, header: &Header) -> Result<Option<RgbImage>, StreamError> {
        let number = self.number + 1;
        let Some(line) = self.feed.line(&self.timing)? else {
            return if self.feed.data.is_empty() { Ok(None) } else { Err(self.feed.no_line(number)) };
        };
        let found = &self.feed.data[..line];
        if found != b"FRAME" && !found.starts_with(b"FRAME ") {
            return Err(StreamError::OutOfStep { number, found: readable(found) });
        }
        let mark = found.split(|&byte| byte == b' ').find_map(|field| mark(field.strip_prefix(b"X")?));
        let (start, end) = (line + 1, line + 1 + header.frame_bytes());
        while self.feed.data.len() < end {
            if !self.feed.fill(&self.timing)? {
                return Err(StreamError::Truncated(number));
            }
        }
        (self.number, self.mark) = (number, mark);
        let picture = header.picture(&self.feed.data[start..end]).map_err(|error| StreamError::Convert { number, error })?;
        self.feed.data.drain(..end);
        Ok(Some(picture))
    }

    fn mjpeg(&mut self) -> Result<Option<RgbImage>, StreamError> {
        let number = self.number + 1;
        if !self.feed.seek_jpeg(number, &self.timing)? {
            return Ok(None);
        }
        let mut walk = JpegWalk::new();
        let (len, picture) = loop {
            match walk.follow(&self.feed.data) {
                JpegEnd::At { len, .. } => break (len, decode_within(&self.feed.data[..len], MAX_PIXELS)),
                JpegEnd::Cut { start } => break (start, Err(DecodeError::Truncated)),
                JpegEnd::NotYet if self.feed.data.len() > MAX_JPEG => return Err(StreamError::Endless(number)),
                JpegEnd::NotYet if self.feed.fill(&self.timing)? => {}
                JpegEnd::NotYet => return Err(StreamError::Truncated(number)),
            }
        };
        (self.number, self.mark) = (number, jpeg_mark(&self.feed.data[..len]));
        self.feed.data.drain(..len);
        picture.map(Some).map_err(|error| StreamError::Picture { number, error })
    }

    fn captured(&mut self) -> Monotonic {
        match &self.timing {
            Timing::Live(_) => {
                let arrived = self.feed.arrived;
                let waited = match (self.feed.marks, self.mark) {
                    (Some(_), Some(mark)) => self.feed.arrived_by_mark.saturating_sub(mark),
                    _ => Duration::ZERO,
                };
                self.last = self.last.max(Monotonic::new(arrived.since_start().saturating_sub(waited)));
                self.last
            }
            Timing::Recorded(start) => {
                let nanos = self.interval.as_nanos().saturating_mul(u128::from(self.number - 1));
                *start + Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
            }
        }
    }
}

impl<R: Read + Send> Camera for Stream<R> {
    fn next(&mut self) -> Result<Option<Frame>, CameraError> {
        if self.over {
            return Ok(None);
        }
        let step = self.step();
        self.over = match &step {
            Ok(picture) => picture.is_none(),
            Err(error) => !error.is_passing(),
        };
        match step {
            Ok(None) => Ok(None),
            Ok(Some(picture)) => {
                Ok(Some(Frame { number: self.number, captured: self.captured(), picture: Arc::new(picture), name: None }))
            }
            Err(error) => Err(CameraError::Stream { name: self.name.clone(), error }),
        }
    }
}

/// What was read and not yet used.
struct Feed<R> {
    reader: R,
    data: Vec<u8>,
    /// When the last bytes came.
    arrived: Monotonic,
    marks: Option<MarkClock>,
    /// The same moment by the clock of the marks.
    arrived_by_mark: Duration,
}

impl<R: Read> Feed<R> {
    /// Waits for more bytes; `false` at the end.
    fn fill(&mut self, timing: &Timing) -> Result<bool, StreamError> {
        let before = self.data.len();
        self.data.resize(before + CHUNK, 0);
        let read = loop {
            match self.reader.read(&mut self.data[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.data.truncate(before + read.as_ref().map_or(0, |&count| count.min(CHUNK)));
        if let Timing::Live(clock) = timing {
            self.arrived = clock.now().mono;
            self.arrived_by_mark = self.marks.map_or(Duration::ZERO, |now| now());
        }
        Ok(read? > 0)
    }

    /// Tells the formats apart; the header of Y4M is used up.
    fn format(&mut self, timing: &Timing) -> Result<Format, StreamError> {
        while self.data.len() < Y4M_START.len() && self.fill(timing)? {}
        if self.data.is_empty() {
            return Err(StreamError::Empty);
        }
        if self.data.starts_with(JPEG_START) {
            return Ok(Format::Mjpeg);
        }
        if !self.data.starts_with(Y4M_START) {
            return Err(StreamError::Unknown(readable(&self.data)));
        }
        let Some(line) = self.line(timing)? else { return Err(self.no_line(1)) };
        let header = Header::parse(&self.data[Y4M_START.len()..line])?;
        self.data.drain(..=line);
        Ok(Format::Y4m(header))
    }

    /// Length of the line that the data begin with, without its end; `None` when the stream ends before it or it is too long.
    fn line(&mut self, timing: &Timing) -> Result<Option<usize>, StreamError> {
        loop {
            let seen = &self.data[..self.data.len().min(MAX_LINE)];
            if let Some(length) = seen.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(length));
            }
            if seen.len() == MAX_LINE || !self.fill(timing)? {
                return Ok(None);
            }
        }
    }

    /// Why there is no line for frame `number`.
    fn no_line(&self, number: u64) -> StreamError {
        if self.data.len() < MAX_LINE {
            StreamError::Truncated(number)
        } else {
            StreamError::OutOfStep { number, found: readable(&self.data) }
        }
    }

    /// Drops what lies before the next JPEG, and reports it unless it is padding; `false` at the end of the stream.
    fn seek_jpeg(&mut self, number: u64, timing: &Timing) -> Result<bool, StreamError> {
        let (mut count, mut stray) = (0, false);
        loop {
            let start = self.data.windows(JPEG_START.len()).position(|bytes| bytes == JPEG_START);
            // What could be the beginning of a start stays.
            let dropped = start.unwrap_or(self.data.len().saturating_sub(JPEG_START.len() - 1));
            stray |= self.data.drain(..dropped).any(|byte| !matches!(byte, 0 | b'\r' | b'\n'));
            count += dropped;
            if count > MAX_STRAY {
                return Err(StreamError::NoPicture(number - 1));
            }
            if start.is_none() && self.fill(timing)? {
                continue;
            }
            if start.is_none() {
                let rest = std::mem::take(&mut self.data);
                if JPEG_START.starts_with(&rest) && !rest.is_empty() {
                    return Err(StreamError::Truncated(number));
                }
                stray |= rest.iter().any(|byte| !matches!(byte, 0 | b'\r' | b'\n'));
                count += rest.len();
            }
            return if stray { Err(StreamError::Stray { count, number }) } else { Ok(start.is_some()) };
        }
    }
}

/// The moment in `captured=MICROSECONDS`.
fn mark(text: &[u8]) -> Option<Duration> {
    let number = std::str::from_utf8(text.strip_prefix(b"captured=")?).ok()?;
    number.parse().ok().map(Duration::from_micros)
}

/// The moment in a comment in front of a JPEG's own segments; the reader may have put an APP0 before it.
fn jpeg_mark(jpeg: &[u8]) -> Option<Duration> {
    let mut rest = jpeg.get(2..)?;
    for _ in 0..2 {
        let [0xFF, code, high, low, ..] = *rest else { return None };
        let end = 2 + usize::from(u16::from_be_bytes([high, low]));
        match code {
            0xFE => return mark(rest.get(4..end)?),
            0xE0 => rest = rest.get(end..)?,
            _ => return None,
        }
    }
    None
}

/// The first bytes, for a person.
fn readable(bytes: &[u8]) -> String {
    format!("`{}`", bytes[..bytes.len().min(16)].escape_ascii())
}

/// What a Y4M header says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    width: u32,
    height: u32,
    chroma: Chroma,
    range: YuvRange,
    /// Time from frame to frame.
    interval: Option<Duration>,
}

/// How the colour planes are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chroma {
    Grey,
    Yuv420,
    Yuv422,
    Yuv444,
}

impl Header {
    /// Reads the fields after the format's name.
    fn parse(line: &[u8]) -> Result<Self, StreamError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (mut width, mut height) = (None, None);
        let mut header = Self { width: 0, height: 0, chroma: Chroma::Yuv420, range: YuvRange::Limited, interval: None };
        for field in line.split(|&byte| byte == b' ').filter(|field| !field.is_empty()) {
            match field {
                [b'W', value @ ..] => width = number(value),
                [b'H', value @ ..] => height = number(value),
                [b'C', value @ ..] => header.chroma = Chroma::parse(value)?,
                [b'F', value @ ..] => header.interval = interval(value),
                b"XCOLORRANGE=FULL" => header.range = YuvRange::Full,
                // Interlacing, pixel aspect, comments.
                _ => {}
            }
        }
        let missing = |what: &str| StreamError::Header(format!("has no {what} between 1 and 65535"));
        header.width = width.ok_or_else(|| missing("width (W)"))?;
        header.height = height.ok_or_else(|| missing("height (H)"))?;
        if u64::from(header.width) * u64::from(header.height) > MAX_PIXELS {
            return Err(StreamError::TooLarge { width: header.width, height: header.height });
        }
        Ok(header)
    }

    /// Width and height of a colour plane.
    fn colour(&self) -> (u32, u32) {
        match self.chroma {
            Chroma::Grey => (0, 0),
            Chroma::Yuv420 => (self.width.div_ceil(2), self.height.div_ceil(2)),
            Chroma::Yuv422 => (self.width.div_ceil(2), self.height),
            Chroma::Yuv444 => (self.width, self.height),
        }
    }

    fn frame_bytes(&self) -> usize {
        let (width, height) = self.colour();
        self.width as usize * self.height as usize + 2 * width as usize * height as usize
    }

    /// The frame's planes as RGB: ITU-R BT.601.
    fn picture(&self, planes: &[u8]) -> Result<RgbImage, YuvError> {
        let mut picture = RgbImage::new(self.width, self.height);
        let (colour_width, colour_height) = self.colour();
        let (y_plane, colours) = planes.split_at(self.width as usize * self.height as usize);
        let (u_plane, v_plane) = colours.split_at(colour_width as usize * colour_height as usize);
        let (width, height, stride) = (self.width, self.height, self.width * 3);
        let planar = YuvPlanarImage {
            y_plane,
            y_stride: width,
            u_plane,
            u_stride: colour_width,
            v_plane,
            v_stride: colour_width,
            width,
            height,
        };
        let (range, matrix) = (self.range, YuvStandardMatrix::Bt601);
        match self.chroma {
            Chroma::Grey => {
                let grey = YuvGrayImage { y_plane, y_stride: width, width, height };
                yuv::yuv400_to_rgb(&grey, &mut picture, stride, range, matrix)?;
            }
            Chroma::Yuv420 => yuv::yuv420_to_rgb(&planar, &mut picture, stride, range, matrix)?,
            Chroma::Yuv422 => yuv::yuv422_to_rgb(&planar, &mut picture, stride, range, matrix)?,
            Chroma::Yuv444 => yuv::yuv444_to_rgb(&planar, &mut picture, stride, range, matrix)?,
        }
        Ok(picture)
    }
}

impl Chroma {
    fn parse(value: &[u8]) -> Result<Self, StreamError> {
        match value {
            b"mono" => Ok(Self::Grey),
            b"420" | b"420jpeg" | b"420mpeg2" | b"420paldv" => Ok(Self::Yuv420),
            b"422" => Ok(Self::Yuv422),
            b"444" => Ok(Self::Yuv444),
            _ => Err(StreamError::Header(format!("names the colour space {}, which is not read", readable(value)))),
        }
    }
}

/// A whole number from 1 to 65535.
fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse::<u16>().ok().filter(|&value| value > 0).map(u32::from)
}

/// The interval of a frame rate `frames:seconds`, where it is between a thousand frames a second and one in 100 seconds.
fn interval(value: &[u8]) -> Option<Duration> {
    let (frames, seconds) = std::str::from_utf8(value).ok()?.split_once(':')?;
    let [frames, seconds] = [frames, seconds].map(|part| part.parse::<u32>().ok());
    let interval = f64::from(seconds?) / f64::from(frames?);
    (1e-3..=100.0).contains(&interval).then(|| Duration::from_secs_f64(interval))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::hw::clock::{Clock, Simulated};

    /// Hands out a few bytes at a time, as a pipe may.
    struct Trickle(Cursor<Vec<u8>>, usize);

    impl Read for Trickle {
        fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
            let most = target.len().min(self.1);
            self.0.read(&mut target[..most])
        }
    }

    fn recorded() -> Timing {
        Timing::Recorded(Monotonic::default())
    }

    fn stream(bytes: impl Into<Vec<u8>>) -> Stream<Trickle> {
        Stream::new("a test", Trickle(Cursor::new(bytes.into()), 1000), 10, recorded())
    }

    /// Frames, errors that passed, and how it ended.
    type Outcome = (Vec<Frame>, Vec<StreamError>, Option<StreamError>);

    fn drain(mut stream: Stream<impl Read + Send>) -> Outcome {
        let (mut frames, mut passed) = (vec![], vec![]);
        loop {
            match stream.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, passed, None),
                Err(CameraError::Stream { error, .. }) if error.is_passing() => passed.push(error),
                Err(CameraError::Stream { error, .. }) => {
                    assert!(matches!(stream.next(), Ok(None)), "over after {error}");
                    return (frames, passed, Some(error));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// Three planes of one frame, in the order and sizes of the format.
    fn planes(width: usize, height: usize, colour: [usize; 2], seed: u64) -> [Vec<u8>; 3] {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut plane = |size: usize| (0..size).map(|_| rng.u8(16..=235)).collect();
        [plane(width * height), plane(colour[0] * colour[1]), plane(colour[0] * colour[1])]
    }

    /// A file as another program writes it.
    fn y4m_file(width: usize, height: usize, space: y4m::Colorspace, full: bool, frames: &[[Vec<u8>; 3]]) -> Vec<u8> {
        let mut bytes = vec![];
        let mut builder = y4m::encode(width, height, y4m::Ratio::new(5, 2)).with_colorspace(space);
        if full {
            builder = builder.append_vendor_extension(y4m::VendorExtensionString::new(b"COLORRANGE=FULL".to_vec()).unwrap());
        }
        let mut encoder = builder.write_header(&mut bytes).unwrap();
        for [y, u, v] in frames {
            encoder.write_frame(&y4m::Frame::new([y, u, v], Some(b"Xnote".to_vec()))).unwrap();
        }
        bytes
    }

    fn small_y4m() -> Vec<u8> {
        y4m_file(4, 2, y4m::Colorspace::C420jpeg, false, &[planes(4, 2, [2, 1], 1), planes(4, 2, [2, 1], 2)])
    }

    fn jpeg(level: u8) -> Vec<u8> {
        let mut bytes = vec![];
        let pixels = [level; 24 * 16 * 3];
        jpeg_encoder::Encoder::new(&mut bytes, 90).encode(&pixels, 24, 16, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    /// ITU-R BT.601, written out.
    fn rgb(y: u8, u: u8, v: u8, full: bool) -> [f64; 3] {
        let [y, u, v] = [y, u, v].map(f64::from);
        let (y, u, v) = match full {
            true => (y, u - 128.0, v - 128.0),
            false => ((y - 16.0) * 255.0 / 219.0, (u - 128.0) * 255.0 / 224.0, (v - 128.0) * 255.0 / 224.0),
        };
        [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u].map(|c| c.clamp(0.0, 255.0))
    }

    /// A frame of random planes comes out as the formula says. A colour sample covers `across`×`down` pixels; 0 is grey.
    fn check_colours(space: y4m::Colorspace, [across, down]: [usize; 2], [width, height]: [usize; 2], full: bool) {
        let colour = if across == 0 { [0, 0] } else { [width.div_ceil(across), height.div_ceil(down)] };
        let frame = planes(width, height, colour, 3);
        let (frames, passed, end) = drain(stream(y4m_file(width, height, space, full, std::slice::from_ref(&frame))));
        assert!(passed.is_empty() && end.is_none() && frames.len() == 1, "{space:?} {width}x{height}: {end:?}");
        let picture = &frames[0].picture;
        assert_eq!(picture.dimensions(), (width as u32, height as u32));
        let [luma, u, v] = &frame;
        for (x, y, found) in picture.enumerate_pixels() {
            let (x, y) = (x as usize, y as usize);
            let sample = |plane: &[u8]| x.checked_div(across).map_or(128, |column| plane[y / down * colour[0] + column]);
            let expected = rgb(luma[y * width + x], sample(u), sample(v), full);
            let worst = found.0.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
            assert!(worst <= 3.0, "{space:?} {width}x{height} full {full} ({x}, {y}): {found:?} for {expected:?}");
        }
    }

    #[test]
    fn planes_become_rgb_in_every_colour_space() {
        use y4m::Colorspace::*;
        let spaces = [
            (Cmono, [0, 0]),
            (C420, [2, 2]),
            (C420jpeg, [2, 2]),
            (C420mpeg2, [2, 2]),
            (C420paldv, [2, 2]),
            (C422, [2, 1]),
            (C444, [1, 1]),
        ];
        for (space, covers) in spaces {
            for size in [[8, 6], [7, 5], [1, 1], [65, 3]] {
                for full in [false, true] {
                    check_colours(space, covers, size, full);
                }
            }
        }
    }

    #[test]
    fn recorded_frames_have_the_times_of_their_rate() {
        let (frames, ..) = drain(stream(small_y4m()));
        let times: Vec<_> = frames.iter().map(|f| (f.number, f.captured.since_start().as_millis())).collect();
        assert_eq!(times, [(1, 0), (2, 400)], "5:2 frames a second, from the header");
        let (frames, ..) = drain(stream([jpeg(50), jpeg(90), jpeg(130)].concat()));
        let times: Vec<_> = frames.iter().map(|f| (f.number, f.captured.since_start().as_millis())).collect();
        assert_eq!(times, [(1, 0), (2, 100), (3, 200)], "ten frames a second, from the settings");
    }

    /// Lets a second pass before each read.
    struct Slow(Cursor<Vec<u8>>, Simulated);

    impl Read for Slow {
        fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
            self.1.advance(Duration::from_secs(1));
            let most = target.len().min(40);
            self.0.read(&mut target[..most])
        }
    }

    #[test]
    fn a_live_frame_is_captured_when_its_last_byte_arrives() {
        let clock = Simulated::at(jiff::Timestamp::UNIX_EPOCH);
        let bytes = small_y4m();
        let lengths = [bytes.len() - 24, bytes.len()];
        let slow = Slow(Cursor::new(bytes), clock.clone());
        let (frames, _, end) = drain(Stream::new("slow", slow, 10, Timing::Live(Arc::new(clock.clone()))));
        assert!(end.is_none());
        let seconds: Vec<_> = frames.iter().map(|f| f.captured.since_start().as_secs() as usize).collect();
        assert_eq!(seconds, lengths.map(|length| length.div_ceil(40)));
        assert!(clock.now().mono.since_start().as_secs() as usize > seconds[1]);
    }

    #[test]
    fn every_cut_of_y4m_is_an_error_and_never_half_a_frame() {
        let bytes = small_y4m();
        let header = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
        let frame = (bytes.len() - header) / 2;
        for cut in 0..bytes.len() {
            let (frames, passed, end) = drain(stream(&bytes[..cut]));
            assert!(passed.is_empty());
            assert_eq!(frames.len(), cut.saturating_sub(header) / frame, "cut at {cut}");
            match cut {
                0 => assert!(matches!(end, Some(StreamError::Empty))),
                _ if cut < Y4M_START.len() => assert!(matches!(end, Some(StreamError::Unknown(_))), "cut at {cut}: {end:?}"),
                _ if cut >= header && (cut - header) % frame == 0 => assert!(end.is_none(), "a whole frame at {cut}: {end:?}"),
                _ => assert!(matches!(end, Some(StreamError::Truncated(_))), "cut at {cut}: {end:?}"),
            }
        }
    }

    #[test]
    fn every_cut_of_mjpeg_is_an_error_and_never_half_a_picture() {
        let bytes = [jpeg(60), jpeg(200)].concat();
        let first = jpeg(60).len();
        for cut in 1..bytes.len() {
            let (frames, passed, end) = drain(stream(&bytes[..cut]));
            assert!(passed.is_empty());
            assert_eq!(frames.len(), usize::from(cut >= first), "cut at {cut}");
            assert!(frames.iter().all(|f| f.picture.pixels().all(|p| p.0[0].abs_diff(60) < 4)));
            match cut {
                _ if cut < JPEG_START.len() => assert!(matches!(end, Some(StreamError::Unknown(_))), "cut at {cut}: {end:?}"),
                _ if cut == first => assert!(end.is_none()),
                _ => assert!(matches!(end, Some(StreamError::Truncated(_))), "cut at {cut}: {end:?}"),
            }
        }
    }

    #[test]
    fn a_damaged_jpeg_is_reported_and_left_out() {
        let mut damaged = jpeg(100);
        // The tables of the frame header.
        let frame = damaged.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        damaged[frame + 4..frame + 9].fill(0);
        let cut = jpeg(100);
        let cut = &cut[..cut.len() - 5];
        for (broken, what) in [(&damaged[..], "damaged"), (cut, "cut")] {
            let (frames, passed, end) = drain(stream([&jpeg(60), broken, &jpeg(200)].concat()));
            assert_eq!(frames.iter().map(|f| f.number).collect::<Vec<_>>(), [1, 3], "{what}");
            assert!(matches!(passed[..], [StreamError::Picture { number: 2, .. }]), "{what}: {passed:?}");
            assert!(end.is_none());
        }
    }

    #[test]
    fn what_lies_between_jpegs_is_skipped() {
        let between = |bytes: &[u8]| drain(stream([&jpeg(60)[..], bytes, &jpeg(200)].concat()));
        let (frames, passed, end) = between(b"\r\n--boundary\r\n\xFF");
        assert!(frames.len() == 2 && matches!(passed[..], [StreamError::Stray { count: 15, number: 2 }]) && end.is_none());
        let (frames, passed, end) = between(&[0; 700]);
        assert!(frames.len() == 2 && passed.is_empty() && end.is_none(), "padding is no fault");
        let (frames, _, end) = between(&vec![7; MAX_STRAY + 1]);
        assert!(frames.len() == 1 && matches!(end, Some(StreamError::NoPicture(1))));
        let (frames, passed, end) = drain(stream([&jpeg(60)[..], b"rest"].concat()));
        assert!(frames.len() == 1 && matches!(passed[..], [StreamError::Stray { count: 4, .. }]) && end.is_none());
    }

    #[test]
    fn a_picture_without_end_is_given_up() {
        /// A start, then zeros for ever.
        struct Endless(bool);
        impl Read for Endless {
            fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
                target.fill(0);
                if !std::mem::replace(&mut self.0, true) {
                    target[..3].copy_from_slice(JPEG_START);
                    target[3..6].copy_from_slice(&[0xDA, 0, 2]);
                }
                Ok(target.len())
            }
        }
        let (frames, _, end) = drain(Stream::new("endless", Endless(false), 10, recorded()));
        assert!(frames.is_empty() && matches!(end, Some(StreamError::Endless(1))), "{end:?}");
    }

    #[test]
    fn headers_that_cannot_be_are_named() {
        for (header, named) in [
            ("", "no width"),
            ("W640", "no height"),
            ("W0 H480", "no width"),
            ("W640 H-4", "no height"),
            ("W99999999999999999999 H1", "no width"),
            ("W65535 H65535", "65535x65535"),
            ("W640 H480 C420p10", "420p10"),
            ("W640 H480 C444alpha", "444alpha"),
        ] {
            let (frames, _, end) = drain(stream(format!("YUV4MPEG2 {header}\nFRAME\n")));
            let error = end.unwrap().to_string();
            assert!(frames.is_empty() && error.contains(named), "{header}: {error}");
        }
        let (_, _, end) = drain(stream(format!("YUV4MPEG2 W4 H2 X{}\n", "a".repeat(2000))));
        assert!(matches!(end, Some(StreamError::OutOfStep { .. })), "{end:?}");
    }

    #[test]
    fn y4m_out_of_step_ends() {
        let mut bytes = small_y4m();
        let second = bytes.len() - 24;
        bytes[second..second + 5].copy_from_slice(b"fRAME");
        let (frames, _, end) = drain(stream(bytes));
        assert!(
            frames.len() == 1 && matches!(&end, Some(StreamError::OutOfStep { number: 2, found }) if found.contains("fRAME"))
        );
    }

    #[test]
    fn neither_format_is_named_by_its_first_bytes() {
        let (_, _, end) = drain(stream("\x1aE\u{7f}matroska".as_bytes()));
        assert!(end.unwrap().to_string().contains(r"`\x1aE\x7fmatroska`"));
    }

    #[test]
    fn a_reader_that_fails_is_an_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("unplugged"))
            }
        }
        let (_, _, end) = drain(Stream::new("broken", Broken, 10, recorded()));
        assert!(matches!(end, Some(StreamError::Io(error)) if error.to_string() == "unplugged"));
    }

    /// Marks are by a clock that is at 100 s, whatever the other says.
    fn mark_clock() -> Duration {
        Duration::from_secs(100)
    }

    fn captured(bytes: Vec<u8>, marked: bool) -> Vec<Duration> {
        let clock = Simulated::at(jiff::Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(7));
        let stream = Stream::new("a test", Cursor::new(bytes), 10, Timing::Live(Arc::new(clock)));
        let (frames, passed, error) = drain(if marked { stream.marked(mark_clock) } else { stream });
        assert!(passed.is_empty() && error.is_none());
        frames.iter().map(|frame| frame.captured.since_start()).collect()
    }

    #[test]
    fn a_frame_is_as_old_as_its_mark_says() {
        let y4m = |marks: [&str; 4]| {
            let frames = marks.map(|mark| format!("FRAME{mark}\nx"));
            format!("YUV4MPEG2 W1 H1 Cmono\n{}", frames.concat()).into_bytes()
        };
        let seconds = Duration::from_secs_f64;
        // A second ago; in the future; earlier than the frame in front; older than the clock.
        let bytes = y4m([" Xcaptured=99000000", " Ip Xcaptured=100500000", " Xcaptured=98000000", " Xcaptured=1"]);
        assert_eq!(captured(bytes.clone(), true), [6.0, 7.0, 7.0, 7.0].map(seconds));
        assert_eq!(captured(bytes, false), [7.0; 4].map(seconds), "from others a mark is a comment");
        let bytes = y4m([" Xcaptured=1", "", " Xcaptured=", " Xcaptured=-3"]);
        assert_eq!(captured(bytes, true), [0.0, 7.0, 7.0, 7.0].map(seconds));
    }

    #[test]
    fn a_jpeg_is_as_old_as_its_comment_says() {
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([90; 3]));
        let mut jpeg = vec![];
        picture.write_to(&mut Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
        let with = |segments: &[u8]| [&jpeg[..2], segments, &jpeg[2..]].concat();
        let comment = b"\xFF\xFE\0\x13captured=98500000";
        let tables = b"\xFF\xE0\0\x08AVI1\0\0";
        let bytes = [with(comment), with(&[&tables[..], comment].concat()), with(b"")].concat();
        assert_eq!(captured(bytes, true), [5.5, 5.5, 7.0].map(Duration::from_secs_f64));
        for short in [&jpeg[..2], b"\xFF\xD8\xFF\xFE\0\x13cap", b"\xFF\xD8\xFF\xFE\0\0captured=1"] {
            assert_eq!(jpeg_mark(short), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn garbage_never_panics(start in 0usize..4, garbage in prop::collection::vec(any::<u8>(), 0..3000), trickle in 1usize..500) {
            let start = [&b""[..], Y4M_START, b"YUV4MPEG2 W4 H2\nFRAME\n", JPEG_START][start];
            drain(Stream::new("garbage", Trickle(Cursor::new([start, &garbage].concat()), trickle), 10, recorded()));
        }

        #[test]
        fn flipped_bytes_never_panic_and_frames_stay_in_order(
            mjpeg: bool,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            trickle in 1usize..300,
        ) {
            let mut bytes = if mjpeg { [jpeg(60), jpeg(120), jpeg(200)].concat() } else { small_y4m() };
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let (frames, ..) = drain(Stream::new("flipped", Trickle(Cursor::new(bytes), trickle), 10, recorded()));
            prop_assert!(frames.windows(2).all(|pair| pair[0].number < pair[1].number && pair[0].captured <= pair[1].captured));
        }
    }
}
