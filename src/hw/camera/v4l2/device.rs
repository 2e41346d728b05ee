//! The device itself: asked what it offers, set, and read.
//!
//! nokhwa sets cameras that list their sizes and whole frame rates, which is what webcams do. Three things it cannot are done with
//! `v4l`, the crate beneath it:
//!
//! - offers in ranges, rates such as 30000/1001, and a camera that another program left in a format or at a rate that nokhwa does
//!   not know (it refuses the device before it sets it);
//! - a picture's length, flags and line length: nokhwa hands out the whole buffer, in which a short picture ends with an older one;
//! - a limit to waiting.

use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nokhwa::Camera as Nokhwa;
use nokhwa::utils::{ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution};
use v4l::buffer::{Flags, Metadata, Type};
use v4l::format::{Colorspace, Quantization};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Format, FourCC, Fraction};

use super::choose::{self, Choice, Offer, Pixels, Rate, Rates, Wanted};
use super::convert::Layout;
use super::{FeedError, Source, find};

/// Buffers that the kernel fills in turn.
const BUFFERS: u32 = 4;
/// How long one wait takes, at most. A picture that comes after it is used up unseen, so it is longer than any usual interval.
const WAIT: Duration = Duration::from_secs(2);
/// Buffers in a row that hold no whole picture before the camera is given up. Webcams begin with a few.
const MOST_BAD: u32 = 20;
/// Choices that are tried before the camera is given up.
const MOST_TRIES: usize = 8;
/// Pictures passed over in one go because newer ones wait.
const MOST_PASSED: u32 = 32;
/// `POLLIN` of the kernel's `poll.h`.
const READABLE: i16 = 1;

/// A camera that has begun.
pub(super) struct Camera {
    path: PathBuf,
    /// Never dropped: `v4l` panics when a device that is going away answers anything but ENODEV, and the process ends soon.
    stream: ManuallyDrop<Stream<'static>>,
    handle: Arc<v4l::device::Handle>,
    layout: Layout,
    pace: Pace,
    /// Whether a wait ended without a picture, so that the next one has to be fetched without a look at it: `v4l` would give the
    /// kernel a buffer that the kernel still has.
    overdue: bool,
    begun: bool,
    bad: u32,
}

impl Camera {
    /// Opens and sets the device.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub(super) fn open(which: &find::Which, wanted: Wanted) -> Result<Self, FeedError> {
        let number = find::number(which)?;
        // Closed before the device is set: a USB camera obeys the first program that does, until it closes.
        let device = open(number).map_err(|error| FeedError::at(which, number, "open it", error))?;
        let catalogue = Catalogue::of(&device, wanted);
        drop(device);
        let through_nokhwa = catalogue.is_plain && find::name_is_text(number);
        let mut refused = None;
        for choice in choose::ranked(&catalogue.offers, wanted).into_iter().take(MOST_TRIES) {
            if through_nokhwa {
                set_through_nokhwa(number, &choice);
            }
            match Self::begin(number, &choice, wanted.fps) {
                Ok(camera) => {
                    log::info!("{which} is {}: {}", camera.path.display(), camera.layout);
                    return Ok(camera);
                }
                Err((doing, error)) => {
                    log::debug!("/dev/video{number} as {choice}: cannot {doing}: {error}");
                    match FeedError::at(which, number, doing, error) {
                        // Another choice may do.
                        error @ FeedError::Refused { .. } => drop(refused.get_or_insert(error)),
                        error => return Err(error),
                    }
                }
            }
        }
        Err(refused.unwrap_or_else(|| FeedError::NoFormat { which: which.clone(), offers: catalogue.names() }))
    }

    /// Sets the device and gets its buffers. An error comes with what was being done.
    fn begin(number: u32, choice: &Choice, fps: u32) -> Result<Self, (&'static str, io::Error)> {
        let device = open(number).map_err(|error| ("open it", error))?;
        let (format, rate) = set(&device, choice).map_err(|error| ("set its format", error))?;
        let layout = layout(&format, rate, fps, choice.pixels).ok_or_else(|| {
            let became = format!("it took {} {}x{} in place of {choice}", format.fourcc, format.width, format.height);
            ("set its format", io::Error::other(became))
        })?;
        let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(|e| ("get buffers from it", e))?;
        stream.set_timeout(WAIT);
        let path = PathBuf::from(format!("/dev/video{number}"));
        let (stream, handle, pace) = (ManuallyDrop::new(stream), device.handle(), Pace::new(rate, fps));
        Ok(Self { path, stream, handle, layout, pace, overdue: false, begun: false, bad: 0 })
    }

    fn failed(&self, error: io::Error) -> FeedError {
        if self.begun {
            FeedError::Lost { path: self.path.clone(), error }
        } else {
            FeedError::Refused { path: self.path.clone(), doing: "start it", error }
        }
    }

    fn bad(&mut self) -> Result<bool, FeedError> {
        self.bad += 1;
        if self.bad < MOST_BAD { Ok(false) } else { Err(FeedError::Damaged { path: self.path.clone(), count: self.bad }) }
    }
}

impl Source for Camera {
    fn header(&self) -> Vec<u8> {
        self.layout.header()
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, FeedError> {
        if self.overdue {
            return match self.stream.dequeue() {
                Ok(_) => {
                    self.overdue = false;
                    Ok(false)
                }
                Err(error) if passes(&error) => Ok(false),
                Err(error) => Err(self.failed(error)),
            };
        }
        for _ in 0..MOST_PASSED {
            let (buffer, about) = match CaptureStream::next(&mut *self.stream) {
                Ok(picture) => picture,
                Err(error) if passes(&error) => {
                    (self.overdue, self.begun) = (true, true);
                    return Ok(false);
                }
                Err(error) => return Err(self.failed(error)),
            };
            self.begun = true;
            // After a time without the processor several pictures wait, and this is the oldest.
            if self.handle.poll(READABLE, 0).is_ok_and(|ready| ready > 0) {
                continue;
            }
            if !self.pace.takes() {
                return Ok(false);
            }
            let whole = payload(buffer, about).is_some_and(|bytes| self.layout.put(bytes, captured(about), out));
            if !whole {
                return self.bad();
            }
            self.bad = 0;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Errors after which the picture is still to come.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// The bytes of a buffer that hold a picture, if the driver vouches for them.
fn payload<'a>(buffer: &'a [u8], about: &Metadata) -> Option<&'a [u8]> {
    buffer.get(..about.bytesused as usize).filter(|_| !about.flags.contains(Flags::ERROR))
}

/// When the picture was captured, if the driver says so by the monotonic clock.
fn captured(about: &Metadata) -> Option<Duration> {
    let moment = Duration::from(about.timestamp);
    (about.flags & Flags::TIMESTAMP_MASK == Flags::TIMESTAMP_MONOTONIC && !moment.is_zero()).then_some(moment)
}

/// Leaves out what a camera gives beyond the wanted rate: each picture costs its reader a decoding.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// How much too early a picture may be: half the camera's own interval, so that a late one does not cost the next.
    early: Duration,
    due: Instant,
}

impl Pace {
    fn new(camera: Option<Rate>, fps: u32) -> Self {
        let interval = Duration::from_secs(1) / fps.max(1);
        let own = camera.map_or(interval, |rate| Duration::from_secs_f64((1.0 / rate.fps()).clamp(1e-3, 100.0)));
        Self { interval, early: own.min(interval) / 2, due: Instant::now() }
    }

    fn takes(&mut self) -> bool {
        self.takes_at(Instant::now())
    }

    fn takes_at(&mut self, now: Instant) -> bool {
        if now + self.early < self.due {
            return false;
        }
        // What was missed is not made up for.
        let earliest = now.checked_sub(self.early).unwrap_or(now);
        self.due = self.due.max(earliest) + self.interval;
        true
    }
}

fn open(number: u32) -> io::Result<v4l::Device> {
    v4l::Device::new(usize::try_from(number).map_err(io::Error::other)?)
}

/// What a device offers.
struct Catalogue {
    /// What can be read here.
    offers: Vec<Offer>,
    /// Whether nokhwa understands all of it. It counts ranges through one by one, and panics at a step of 0.
    is_plain: bool,
    /// The other formats.
    others: Vec<String>,
}

impl Catalogue {
    fn of(device: &v4l::Device, wanted: Wanted) -> Self {
        let mut catalogue = Self { offers: vec![], is_plain: true, others: vec![] };
        // Without formats the list is empty, and so it is for a device that captures nothing.
        for format in device.enum_formats().unwrap_or_default() {
            match Pixels::from_fourcc(format.fourcc.repr) {
                Some(pixels) => catalogue.add(device, pixels, wanted),
                None => catalogue.others.push(format.fourcc.repr.escape_ascii().to_string()),
            }
        }
        catalogue
    }

    fn add(&mut self, device: &v4l::Device, pixels: Pixels, wanted: Wanted) {
        let code = FourCC::new(&pixels.fourcc());
        let mut sizes = vec![];
        for size in device.enum_framesizes(code).unwrap_or_default() {
            match size.size {
                FrameSizeEnum::Discrete(size) => sizes.push((size.width, size.height)),
                FrameSizeEnum::Stepwise(range) => {
                    self.is_plain = false;
                    let width = choose::on_grid(wanted.width, range.min_width, range.max_width, range.step_width);
                    let height = choose::on_grid(wanted.height, range.min_height, range.max_height, range.step_height);
                    sizes.push((width, height));
                }
            }
        }
        if sizes.is_empty() {
            // The driver does not list them. It takes what is asked for, or the nearest that it has.
            self.is_plain = false;
            sizes.push((wanted.width, wanted.height));
        }
        for (width, height) in sizes {
            let rates = self.rates(device, code, width, height);
            self.offers.push(Offer { pixels, width, height, rates });
        }
    }

    fn rates(&mut self, device: &v4l::Device, code: FourCC, width: u32, height: u32) -> Rates {
        // An interval is the inverse of a rate.
        let rate = |interval: Fraction| Rate::new(interval.denominator, interval.numerator);
        let mut listed = vec![];
        for interval in device.enum_frameintervals(code, width, height).unwrap_or_default() {
            match interval.interval {
                FrameIntervalEnum::Discrete(interval) => listed.extend(rate(interval)),
                FrameIntervalEnum::Stepwise(range) => {
                    self.is_plain = false;
                    if let (Some(fastest), Some(slowest)) = (rate(range.min), rate(range.max)) {
                        return Rates::Between { slowest, fastest };
                    }
                }
            }
        }
        if listed.is_empty() { Rates::Unknown } else { Rates::Listed(listed) }
    }

    /// What is offered, for people.
    fn names(&self) -> String {
        let known = self.offers.iter().map(|o| format!("{} {}x{}", o.pixels.fourcc().escape_ascii(), o.width, o.height));
        let all: Vec<String> = known.chain(self.others.iter().cloned()).collect();
        if all.is_empty() { "no format at all".into() } else { all.join(", ") }
    }
}

/// Has nokhwa set what it understands. Where it refuses, [`set`] finds what is left to do.
fn set_through_nokhwa(number: u32, choice: &Choice) {
    let format = match choice.pixels {
        Pixels::Yuyv => FrameFormat::YUYV,
        Pixels::Mjpeg => FrameFormat::MJPEG,
        Pixels::Nv12 => FrameFormat::NV12,
        // nokhwa's code for grey is none of the kernel's.
        Pixels::Grey => return,
    };
    let Some(Rate { frames, seconds: 1 }) = choice.rate else { return };
    let exact = CameraFormat::new(Resolution::new(choice.width, choice.height), format, frames);
    let formats = [format];
    let request = RequestedFormat::with_formats(RequestedFormatType::Exact(exact), &formats);
    // Dropped at once, which closes the device and empties nokhwa's list of open ones.
    if let Err(error) = Nokhwa::with_backend(CameraIndex::Index(number), request, ApiBackend::Video4Linux) {
        log::debug!("/dev/video{number}: nokhwa does not set {choice}: {error}");
    }
}

/// Sets what is not set yet. Drivers take the nearest that they have, so what it became is returned.
fn set(device: &v4l::Device, choice: &Choice) -> io::Result<(Format, Option<Rate>)> {
    let code = FourCC::new(&choice.pixels.fourcc());
    let mut format = device.format()?;
    if (format.fourcc, format.width, format.height) != (code, choice.width, choice.height) {
        format = device.set_format(&Format::new(choice.width, choice.height, code))?;
    }
    // A driver without rates refuses both, and gives pictures all the same.
    let in_use = |parameters: Parameters| Rate::new(parameters.interval.denominator, parameters.interval.numerator);
    let mut rate = device.params().ok().and_then(in_use);
    if let Some(asked) = choice.rate.filter(|&asked| rate != Some(asked)) {
        match device.set_params(&Parameters::new(Fraction::new(asked.seconds, asked.frames))) {
            Ok(parameters) => rate = in_use(parameters),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => return Err(error),
            Err(error) => log::debug!("{choice}: the rate stays as it is: {error}"),
        }
    }
    Ok((format, rate))
}

/// How pictures lie, if the device is set to `pixels` and a size that is read here.
fn layout(format: &Format, rate: Option<Rate>, fps: u32, pixels: Pixels) -> Option<Layout> {
    if Pixels::from_fourcc(format.fourcc.repr) != Some(pixels) {
        return None;
    }
    let full_range = match (format.quantization, format.colorspace) {
        (Quantization::FullRange, _) | (Quantization::Default, Colorspace::JPEG) => true,
        // Sensors for grey use all 256 values, and their drivers seldom say so.
        (Quantization::Default, _) => pixels == Pixels::Grey,
        (Quantization::LimitedRange, _) => false,
    };
    // What goes out is what comes in, or what is wanted if that is less.
    let rate = rate.filter(|rate| rate.fps() < f64::from(fps)).or(Rate::new(fps, 1));
    let Format { width, height, stride, .. } = *format;
    let layout = Layout { pixels, width, height, stride, full_range, rate };
    choose::is_readable(width, height).then_some(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(camera: (u32, u32), fps: u32, arrivals: impl Iterator<Item = u64>) -> usize {
        let mut pace = Pace::new(Rate::new(camera.0, camera.1), fps);
        let start = pace.due;
        arrivals.filter(|&ms| pace.takes_at(start + Duration::from_millis(ms))).count()
    }

    #[test]
    fn a_fast_camera_is_thinned_out_and_a_slow_one_is_not() {
        for (camera, fps, expected) in [
            ((30, 1), 10, 100),
            ((30, 1), 30, 300),
            ((15, 1), 10, 100),
            ((12, 1), 10, 100),
            ((10, 1), 10, 100),
            ((5, 1), 10, 50),
            ((1, 1), 10, 10),
            ((60, 1), 1, 10),
        ] {
            let count = u64::from(10 * camera.0 / camera.1);
            let kept = kept(camera, fps, (0..count).map(|n| n * 10_000 / count));
            assert!(kept.abs_diff(expected) <= 1, "{camera:?} for {fps}: {kept} of {count}, expected {expected}");
        }
    }

    #[test]
    fn an_uneven_camera_loses_no_picture() {
        let mut rng = fastrand::Rng::with_seed(5);
        let kept = kept((10, 1), 10, (0..200).map(|n| n * 100 + rng.u64(0..40)));
        assert_eq!(kept, 200);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let kept = kept((30, 1), 10, (0..10).map(|n| n * 33).chain((0..30).map(|n| 60_000 + n * 33)));
        assert!((13..=15).contains(&kept), "{kept}");
    }

    fn about(bytesused: u32, flags: Flags, sec: i64) -> Metadata {
        let timestamp = v4l::Timestamp::new(sec as _, 5);
        Metadata { bytesused, flags, field: 0, timestamp, sequence: 0 }
    }

    #[test]
    fn only_what_the_driver_vouches_for_is_a_picture() {
        let buffer = [7; 10];
        assert_eq!(payload(&buffer, &about(6, Flags::DONE, 0)), Some(&buffer[..6]));
        assert_eq!(payload(&buffer, &about(6, Flags::DONE | Flags::ERROR, 0)), None);
        assert_eq!(payload(&buffer, &about(11, Flags::DONE, 0)), None);
    }

    #[test]
    fn the_moment_of_capture_counts_by_one_clock_only() {
        let moment = Duration::new(3, 5_000);
        assert_eq!(captured(&about(0, Flags::TIMESTAMP_MONOTONIC | Flags::TSTAMP_SRC_SOE, 3)), Some(moment));
        assert_eq!(captured(&about(0, Flags::TIMESTAMP_COPY, 3)), None);
        assert_eq!(captured(&about(0, Flags::empty(), 3)), None);
    }

    #[test]
    fn request_numbers_of_v4l_are_the_kernels() {
        use v4l::v4l2::vidioc::*;
        // From gcc and linux/videodev2.h. `v4l` computes them from the sizes of `crates/v4l2-sys`.
        #[cfg(target_pointer_width = "64")]
        assert_eq!(
            [VIDIOC_QUERYCAP, VIDIOC_G_FMT, VIDIOC_S_FMT, VIDIOC_REQBUFS, VIDIOC_QBUF, VIDIOC_DQBUF, VIDIOC_S_PARM],
            [0x8068_5600, 0xC0D0_5604, 0xC0D0_5605, 0xC014_5608, 0xC058_560F, 0xC058_5611, 0xC0CC_5616]
        );
    }

    #[test]
    fn layouts() {
        let yuyv = Format { stride: 1312, ..Format::new(640, 480, FourCC::new(b"YUYV")) };
        let found = layout(&yuyv, Rate::new(30, 1), 10, Pixels::Yuyv).unwrap();
        assert_eq!((found.stride, found.full_range, found.rate), (1312, false, Rate::new(10, 1)));
        let slow = layout(&yuyv, Rate::new(5, 2), 10, Pixels::Yuyv).unwrap();
        assert_eq!(slow.rate, Rate::new(5, 2));
        assert!(layout(&yuyv, None, 10, Pixels::Mjpeg).is_none(), "the driver chose another format");
        assert!(layout(&Format { height: 0, ..yuyv }, None, 10, Pixels::Yuyv).is_none());
        let jpeg_colours = Format { colorspace: Colorspace::JPEG, ..yuyv };
        assert!(layout(&jpeg_colours, None, 10, Pixels::Yuyv).unwrap().full_range);
        let grey = Format::new(640, 480, FourCC::new(b"GREY"));
        assert!(layout(&grey, None, 10, Pixels::Grey).unwrap().full_range);
    }
}
