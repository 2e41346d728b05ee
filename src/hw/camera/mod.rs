//! Cameras: where frames come from. The newest frame wins, and each carries the time at which it was captured.

use std::path::PathBuf;
use std::time::Duration;

/// Which camera, and how it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where frames come from.
    pub source: Source,
    /// Frames a second, 1…60.
    pub fps: u32,
    /// A frame older than this is *unknown*.
    pub max_age: Duration,
}

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Pictures, or folders of them, played as a camera.
    Pictures(Vec<PathBuf>),
    /// Y4M or MJPEG on standard input (told apart by their first bytes).
    Stdin,
}
