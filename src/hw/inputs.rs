//! Inputs that are polled: beam, manual button, exit request, passage. A level becomes an edge through [`Debounce`]; what an edge
//! means is the service's matter.
//!
//! Whoever decides polls them, every 50 ms or more often: a poll is one call to the kernel.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::actuator;
use super::actuator::gpio::{Bias, Line, LineSettings};
use super::clock::Monotonic;

/// An input that cannot be read, which tells nothing about its level.
#[derive(Debug, thiserror::Error)]
#[error(
    "the input {input} cannot be read ({cause}): look at its wiring and power, and whether the user may use it (groups gpio, video)"
)]
pub struct Error {
    /// What it is for, and where it is.
    pub input: String,
    /// What the system said.
    pub cause: io::Error,
}

/// Something that is active or not.
pub trait Input: Send {
    /// Whether it is active now.
    ///
    /// # Errors
    ///
    /// The system's.
    fn active(&mut self) -> Result<bool, Error>;
}

/// Where an input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSettings {
    /// A line of a GPIO chip.
    Gpio {
        /// The line.
        line: LineSettings,
        /// What pulls at it while nothing drives it.
        bias: Bias,
    },
    /// A file whose first byte is `0` or `1` (active), for simulations. One that is not there is made, inactive; one that goes away
    /// later is an input that fails.
    File(PathBuf),
}

impl InputSettings {
    /// Opens it. `purpose` is its name in messages, such as `beam`.
    ///
    /// # Errors
    ///
    /// The line is not there or held by somebody; the file cannot be made.
    pub fn open(&self, purpose: &str) -> Result<Box<dyn Input>, Error> {
        match self {
            Self::Gpio { line, bias } => {
                let name = format!("{purpose} ({line})");
                let line = Line::input(line, *bias).map_err(|error| Error { input: name.clone(), cause: plain(error) })?;
                Ok(Box::new(GpioInput { line, name }))
            }
            Self::File(path) => Ok(Box::new(FileInput::open(path, purpose)?)),
        }
    }
}

/// What the system said, without the device, which the input's own error names.
fn plain(error: actuator::Error) -> io::Error {
    match error {
        actuator::Error::Device { cause, .. } => cause,
        other => io::Error::other(other.to_string()),
    }
}

struct GpioInput {
    line: Line,
    name: String,
}

impl Input for GpioInput {
    fn active(&mut self) -> Result<bool, Error> {
        self.line.is_active().map_err(|error| Error { input: self.name.clone(), cause: plain(error) })
    }
}

struct FileInput {
    path: PathBuf,
    name: String,
    last: bool,
}

impl FileInput {
    fn open(path: &Path, purpose: &str) -> Result<Self, Error> {
        let name = format!("{purpose} ({})", path.display());
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, b"0\n"))
        {
            Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(Error { input: name, cause }),
            _ => Ok(Self { path: path.into(), name, last: false }),
        }
    }
}

impl Input for FileInput {
    /// Opens the file each time, so that one that was put in its place counts.
    fn active(&mut self) -> Result<bool, Error> {
        let text = fs::read(&self.path).map_err(|cause| Error { input: self.name.clone(), cause })?;
        match text.first() {
            Some(b'0') => self.last = false,
            Some(b'1') => self.last = true,
            // A shell's `echo 1 >file` empties it first.
            None => {}
            Some(_) => {
                let cause = io::Error::new(ErrorKind::InvalidData, "the file begins with neither 0 nor 1");
                return Err(Error { input: self.name.clone(), cause });
            }
        }
        Ok(self.last)
    }
}

/// A level that has changed and stayed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The new level.
    pub active: bool,
    /// It is the first level after the start or a failure, about which nobody knows when it began: a beam that is interrupted then
    /// counts, a button that is held down then is stuck, and nobody's wish.
    pub first: bool,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.active { "active" } else { "inactive" })
    }
}

/// Makes edges out of levels. A level counts once it was the same at every poll for a while; the polls are the caller's, so an edge
/// takes one poll more than that at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debounce {
    settle: Duration,
    level: Option<bool>,
    /// The level that may be the next one, and since when.
    coming: Option<(bool, Monotonic)>,
}

impl Debounce {
    /// Levels count after `settle`; mechanical contacts need 30 ms.
    pub const fn new(settle: Duration) -> Self {
        Self { settle, level: None, coming: None }
    }

    /// Takes the level at `now`.
    pub fn step(&mut self, active: bool, now: Monotonic) -> Option<Edge> {
        if self.level == Some(active) {
            self.coming = None;
            return None;
        }
        let since = match self.coming {
            Some((coming, since)) if coming == active => since,
            _ => now,
        };
        if now.since(since) < self.settle {
            self.coming = Some((active, since));
            return None;
        }
        self.coming = None;
        let first = self.level.replace(active).is_none();
        Some(Edge { active, first })
    }

    /// The level that counts; `None` before there is one.
    pub const fn level(&self) -> Option<bool> {
        self.level
    }

    /// Whether the last level taken is the one that counts.
    pub const fn is_settled(&self) -> bool {
        self.level.is_some() && self.coming.is_none()
    }

    /// Forgets the level, because the input failed: nobody knows what it did meanwhile.
    pub const fn reset(&mut self) {
        self.level = None;
        self.coming = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::actuator::gpio::{Active, ChipName, LineName};

    const SETTLE: Duration = Duration::from_millis(30);

    /// Polls at (ms, level); the edges that come of them, as (ms, level, first).
    fn edges(debounce: &mut Debounce, polls: &[(u64, bool)]) -> Vec<(u64, bool, bool)> {
        let at = |ms| Monotonic::new(Duration::from_millis(ms));
        polls.iter().filter_map(|&(ms, level)| debounce.step(level, at(ms)).map(|edge| (ms, edge.active, edge.first))).collect()
    }

    #[test]
    fn bounces_are_no_edges() {
        let mut debounce = Debounce::new(SETTLE);
        assert_eq!(edges(&mut debounce, &[(0, false), (50, false)]), [(50, false, true)]);
        let bounces =
            [(60, true), (70, false), (80, true), (85, true), (90, false), (95, true), (124, true), (125, true), (130, true)];
        assert_eq!(edges(&mut debounce, &bounces), [(125, true, false)]);
        assert_eq!(edges(&mut debounce, &[(150, false), (160, true), (500, true)]), [], "a short gap");
        assert_eq!(edges(&mut debounce, &[(550, false), (600, false), (650, false)]), [(600, false, false)]);
    }

    #[test]
    fn the_first_level_is_marked() {
        let mut debounce = Debounce::new(SETTLE);
        assert_eq!((debounce.level(), debounce.is_settled()), (None, false));
        assert_eq!(edges(&mut debounce, &[(0, true), (29, true), (30, true)]), [(30, true, true)]);
        debounce.reset();
        assert_eq!(edges(&mut debounce, &[(40, true), (80, true)]), [(80, true, true)]);
        assert_eq!((debounce.level(), debounce.is_settled()), (Some(true), true));
        assert_eq!(edges(&mut debounce, &[(90, false)]), []);
        assert!(!debounce.is_settled());
        let mut unsure = Debounce::new(SETTLE);
        assert_eq!(edges(&mut unsure, &[(0, true), (20, false), (45, false), (50, false)]), [(50, false, true)]);
    }

    #[test]
    fn time_that_goes_back_makes_no_edge() {
        let mut debounce = Debounce::new(SETTLE);
        assert_eq!(edges(&mut debounce, &[(100, true), (0, true), (120, true)]), []);
        assert_eq!(edges(&mut Debounce::new(Duration::ZERO), &[(0, true)]), [(0, true, true)]);
    }

    #[test]
    fn a_file_is_an_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beam");
        let mut input = InputSettings::File(path.clone()).open("beam").unwrap();
        assert!(!input.active().unwrap());
        fs::write(&path, "1\n").unwrap();
        assert!(input.active().unwrap());
        fs::write(&path, "").unwrap();
        assert!(input.active().unwrap(), "somebody is writing it");
        fs::write(&path, "yes").unwrap();
        assert!(input.active().unwrap_err().to_string().contains("beam"));
        fs::remove_file(&path).unwrap();
        let error = input.active().unwrap_err().to_string();
        assert!(error.contains("the input beam (") && error.contains("wiring"), "{error}");
        fs::write(&path, "1").unwrap();
        assert!(InputSettings::File(path).open("beam").unwrap().active().unwrap(), "opening leaves its level");
    }

    #[test]
    fn a_line_that_is_not_there_is_named() {
        let line = LineSettings { chip: ChipName::Label("no-such".into()), line: LineName::Offset(5), active: Active::Low };
        let error = InputSettings::Gpio { line, bias: Bias::PullUp }.open("exit button").map(drop).unwrap_err().to_string();
        assert!(error.contains("exit button (GPIO line 5 of no-such)"), "{error}");
    }
}
