//! Cameras: where frames come from. The newest frame wins, and each carries the time at which it was captured.
//!
//! | module | holds |
//! |---|---|
//! | [`pictures`] | pictures and folders of them, played as a camera |
//! | [`stream`] | Y4M and MJPEG from anything that can be read |
//! | `live` | texts that name devices and network cameras |
//! | [`program`] | programs that write such streams: `rpicam-vid`, `ffmpeg`, pawgate's own reader of V4L2 devices |
//! | [`v4l2`] | the kernel's cameras, read in a process of their own |
//! | [`latest`] | a camera on its own thread, and the one frame that waits for its reader |
//! | [`keeper`] | a camera that is watched, and opened again for ever |
//!
//! A [`Camera`] is pulled: `run` gives each a thread ([`latest::spawn`]), `replay` and `demo` pull as fast as they go. What a frame
//! shows, and whether it is too old to be judged, belongs to [`crate::vision`].

pub mod keeper;
pub mod latest;
mod live;
pub mod pictures;
pub mod program;
pub mod stream;
pub mod v4l2;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use thiserror::Error;

pub use live::Live;

use super::clock::{Clock, Monotonic};
use crate::vision::DecodeError;

/// Which camera, and how it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where frames come from.
    pub source: Source,
    /// Frames a second, 1…60.
    pub fps: u32,
    /// A frame older than this is *unknown*.
    pub max_age: Duration,
    /// Width and height that a device is asked for, in pixels; it gives what comes nearest.
    pub size: [u32; 2],
    /// What it may do before it is in trouble.
    pub limits: keeper::Limits,
}

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Pictures, or folders of them, played as a camera.
    Pictures(Vec<PathBuf>),
    /// Y4M or MJPEG on standard input (told apart by their first bytes).
    Stdin,
    /// A V4L2 device: its path, number or name ([`v4l2`]).
    Device(String),
    /// A program that writes Y4M or MJPEG to its standard output.
    Program(Vec<String>),
}

/// Opens a camera; what it starts is registered with the [`program::Stop`], so that it can be ended from outside.
pub type Open = dyn Fn(&program::Stop) -> Result<Box<dyn Camera>, CameraError> + Send + Sync;

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Ascending, from 1 with the camera's first frame; what lies between two numbers was captured and not delivered.
    pub number: u64,
    /// When it was captured.
    pub captured: Monotonic,
    /// Upright RGB, 8 bits a channel. One camera's frames need not all have one size.
    pub picture: Arc<RgbImage>,
    /// The file that it shows, where the camera plays files.
    pub name: Option<Arc<str>>,
}

/// A source of frames.
pub trait Camera: Send {
    /// Waits for the next frame, without a limit; `None` when there are no more.
    ///
    /// Numbers ascend, capture times do not go back.
    ///
    /// # Errors
    /// After an error that [is passing](CameraError::is_passing) the next call goes on with the next frame. Any other ends the
    /// camera: further calls return `None`, and it has to be opened again.
    fn next(&mut self) -> Result<Option<Frame>, CameraError>;
}

/// When frames are said to be captured.
#[derive(Clone)]
pub enum Timing {
    /// By this clock. Pictures are held for their time and leave out frames that nobody was there to take; a stream's frame is
    /// captured when its last byte arrives, unless pawgate's own reader says when it was.
    Live(Arc<dyn Clock>),
    /// As recorded: the first frame at this moment and the others at their distance from it, without waiting. The caller sets
    /// its own clock by the frames.
    Recorded(Monotonic),
}

impl std::fmt::Debug for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live(clock) => write!(f, "Live({:?})", clock.now().mono),
            Self::Recorded(start) => write!(f, "Recorded({start:?})"),
        }
    }
}

/// Opens the recording that `settings` name, with the usual pace and noise of [`pictures::Play`].
///
/// # Errors
/// [`CameraError`] says what cannot be opened and why. A device or program is no recording: [`opener`] is for those.
pub fn open(settings: &Settings, timing: Timing) -> Result<Box<dyn Camera>, CameraError> {
    match &settings.source {
        Source::Pictures(paths) => {
            let play = pictures::Play { fps: settings.fps, ..pictures::Play::default() };
            Ok(Box::new(pictures::Pictures::open(paths, play, timing)?))
        }
        Source::Stdin => Ok(Box::new(stream::Stream::new("standard input", std::io::stdin(), settings.fps, timing))),
        Source::Device(_) | Source::Program(_) => program(settings).start(timing, &program::Stop::default()),
    }
}

/// What opens the device or program that `settings` name, and opens it again.
pub fn opener(settings: &Settings, clock: Arc<dyn Clock>) -> Arc<Open> {
    let program = program(settings);
    Arc::new(move |stop: &program::Stop| program.start(Timing::Live(Arc::clone(&clock)), stop))
}

/// The program that writes a source's frames: for a device pawgate itself, which may have been replaced on disk meanwhile.
fn program(settings: &Settings) -> program::Program {
    let [width, height] = settings.size;
    let command = match &settings.source {
        Source::Program(command) => command.clone(),
        Source::Device(device) => {
            let (size, fps) = (format!("{width}x{height}"), settings.fps.to_string());
            ["/proc/self/exe", "camera-feed", "--size", &size, "--fps", &fps, "--", device].map(str::to_owned).to_vec()
        }
        Source::Pictures(_) | Source::Stdin => vec![],
    };
    program::Program { command, fps: settings.fps, own: matches!(settings.source, Source::Device(_)) }
}

/// Why there is no frame.
#[derive(Debug, Error)]
pub enum CameraError {
    /// A picture of a folder or list cannot be read; the others are played.
    #[error("{}: {error}; it is left out: replace or remove the file", .path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A folder cannot be searched, or holds no pictures; the other folders are played.
    #[error("{}: {problem}; name a folder with pictures", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing at all that could be played.
    #[error("no pictures to play: {0}; name a picture (JPEG, PNG, WebP, BMP) or a folder with some")]
    NoPictures(String),
    /// A whole pass over the pictures gave not one frame.
    #[error("not one of the {0} pictures can be read: replace them")]
    NoneReadable(usize),
    /// The stream is no stream of pictures, or was damaged or cut off.
    #[error("{name}: {error}")]
    Stream {
        /// What was read.
        name: String,
        /// What is wrong with it.
        error: stream::StreamError,
    },
    /// A V4L2 device cannot be opened, or was lost: in the words of who reads it.
    #[error("{0}")]
    Device(String),
    /// A program that should write frames does not.
    #[error("{name} {error}")]
    Program {
        /// Its name.
        name: String,
        /// What became of it.
        error: program::ProgramError,
    },
    /// The camera's thread cannot be started.
    #[error("the camera's thread cannot be started: {0}; is memory or the number of processes limited?")]
    NoThread(std::io::Error),
    /// The camera's thread ended without a word.
    #[error("the camera's thread died; this is a defect of pawgate: please report it with the log")]
    Died,
}

impl CameraError {
    /// Whether the camera goes on with the next frame.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Picture { .. } | Self::Folder { .. } => true,
            Self::Stream { error, .. } => error.is_passing(),
            Self::Device(_)
            | Self::NoPictures(_)
            | Self::NoneReadable(_)
            | Self::Program { .. }
            | Self::NoThread(_)
            | Self::Died => false,
        }
    }
}
