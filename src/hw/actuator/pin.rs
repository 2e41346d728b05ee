//! A pin that does not exist and outlives the process: a file that holds its level as a Raspberry Pi's kernel does, whatever happens
//! to whoever set it. Beside it grows a log, so that a test can tell how long it was high, and who made it so.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use super::{Error, Latch, Position, Violation};

/// A pin's level in a file: its first byte is `0` or `1`. Its log lies beside it, with `.log` added to the name.
pub struct PinFile {
    path: PathBuf,
    level: File,
    log: File,
}

/// A line of a pin's log. Every command is one, those that change nothing included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Time since the machine was started: the same clock in all processes.
    pub mono: Duration,
    /// For people.
    pub wall: Timestamp,
    /// Number of the process.
    pub pid: u32,
    /// High.
    pub high: bool,
    /// It went to the safe position sooner after the command before than its latch allows.
    pub hasty: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.mono.as_nanos();
        write!(f, "{nanos} {} {} {}", self.wall, self.pid, u8::from(self.high))?;
        if self.hasty { f.write_str(" hasty") } else { Ok(()) }
    }
}

impl FromStr for Change {
    type Err = io::Error;

    fn from_str(line: &str) -> io::Result<Self> {
        let parse = || {
            let mut words = line.split(' ');
            let mono = Duration::from_nanos(words.next()?.parse().ok()?);
            let (wall, pid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let high = level(*words.next()?.as_bytes().first()?)?;
            let hasty = match words.next() {
                None => false,
                Some("hasty") => true,
                Some(_) => return None,
            };
            Some(Self { mono, wall, pid, high, hasty })
        };
        parse().ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{line:?} is no line of a pin's log")))
    }
}

fn level(byte: u8) -> Option<bool> {
    match byte {
        b'0' => Some(false),
        b'1' => Some(true),
        _ => None,
    }
}

impl PinFile {
    /// Opens a pin and leaves its level as it is. One that is not there, or has no level yet, is low, as after power-on.
    ///
    /// # Errors
    ///
    /// The file or its log cannot be opened or made, or holds no level.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = || {
            let level = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            if level.metadata()?.len() == 0 {
                level.write_all_at(b"0\n", 0)?;
            }
            let log = OpenOptions::new().append(true).create(true).open(log_path(path))?;
            let pin = Self { path: path.into(), level, log };
            pin.read()?;
            Ok(pin)
        };
        open().map_err(|cause| Error::Device { device: name(path), cause })
    }

    /// Its level: whether it is high.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds something else.
    pub fn get(&self) -> Result<bool, Error> {
        self.read().map_err(|cause| self.failed(cause))
    }

    /// Sets its level.
    ///
    /// # Errors
    ///
    /// The file or its log cannot be written.
    pub fn set(&self, high: bool) -> Result<(), Error> {
        self.note(high, false).map_err(|cause| self.failed(cause))
    }

    fn read(&self) -> io::Result<bool> {
        let mut byte = [0];
        self.level.read_exact_at(&mut byte, 0)?;
        let wrong = || io::Error::new(ErrorKind::InvalidData, format!("it begins with {:?}, not 0 or 1", char::from(byte[0])));
        level(byte[0]).ok_or_else(wrong)
    }

    /// A process may die between the two writes. The log is written on the side that makes the time that the pin was high look longer.
    fn note(&self, high: bool, hasty: bool) -> io::Result<()> {
        if high {
            self.log(high, hasty)?;
        }
        // One byte is there or it is not.
        self.level.write_all_at(if high { b"1" } else { b"0" }, 0)?;
        if high { Ok(()) } else { self.log(high, hasty) }
    }

    fn log(&self, high: bool, hasty: bool) -> io::Result<()> {
        let time = clock_gettime(ClockId::Monotonic);
        // Since the start of the machine, hence never below zero.
        let mono = Duration::try_from(time).unwrap_or_default();
        let change = Change { mono, wall: Timestamp::now(), pid: std::process::id(), high, hasty };
        // One call, so that the lines of two processes do not mix.
        (&self.log).write_all(format!("{change}\n").as_bytes())
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::Device { device: name(&self.path), cause }
    }
}

fn log_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".log");
    name.into()
}

fn name(path: &Path) -> String {
    format!("the simulated pin {}", path.display())
}

/// The log of the pin at `path`, oldest first. A last line that somebody has not finished is left out.
///
/// # Errors
///
/// It cannot be read, or a line of it is something else.
pub fn history(path: &Path) -> Result<Vec<Change>, Error> {
    let log = log_path(path);
    let read = || -> io::Result<Vec<Change>> {
        let text = fs::read_to_string(&log)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::parse).collect()
    };
    read().map_err(|cause| Error::Device { device: name(&log), cause })
}

/// A latch on a simulated pin: high is unlocked. It has no sensor, and stays as it is when it goes.
///
/// It is stricter than a real one: a command away from the safe position that comes too soon after the command before is refused.
/// One towards it is carried out, since locking late to please a simulator would be absurd, and marked as hasty in the log.
pub struct PinLatch {
    pin: PinFile,
    safe: Position,
    interval: Duration,
    /// Of this process: who comes after a death may not wait for a time it knows nothing of.
    moved: Option<Instant>,
}

impl PinLatch {
    /// Opens the pin and sends it to `safe`, which is no command: one may follow at once.
    ///
    /// # Errors
    ///
    /// As [`PinFile::open`] and [`PinFile::set`].
    pub fn open(path: &Path, safe: Position, interval: Duration) -> Result<Self, Error> {
        let pin = PinFile::open(path)?;
        pin.set(safe == Position::Unlocked)?;
        Ok(Self { pin, safe, interval, moved: None })
    }

    fn send(&mut self, to: Position) -> Result<(), Error> {
        let high = to == Position::Unlocked;
        let moves = self.pin.get()? != high;
        let soon = self.moved.map(|moved| moved.elapsed()).filter(|&after| moves && after < self.interval);
        if let Some(after) = soon
            && to != self.safe
        {
            return Err(Error::Refused { device: "pin".into(), violation: Violation::TooSoon { after } });
        }
        self.moved = Some(Instant::now());
        self.pin.note(high, soon.is_some()).map_err(|cause| self.pin.failed(cause))
    }
}

impl Latch for PinLatch {
    fn unlock(&mut self) -> Result<(), Error> {
        self.send(Position::Unlocked)
    }

    fn lock(&mut self) -> Result<(), Error> {
        // A file that somebody has damaged must not keep it from locking.
        match self.send(Position::Locked) {
            Err(Error::Device { .. }) => self.pin.set(false),
            result => result,
        }
    }

    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.pin.get().map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latch");
        (folder, path)
    }

    #[test]
    fn a_pin_keeps_its_level() {
        let (_folder, path) = place();
        let pin = PinFile::open(&path).unwrap();
        assert!(!pin.get().unwrap());
        pin.set(true).unwrap();
        drop(pin);
        assert_eq!(fs::read(&path).unwrap(), b"1\n");
        assert!(PinFile::open(&path).unwrap().get().unwrap());
    }

    #[test]
    fn the_log_tells_all_commands() {
        let (_folder, path) = place();
        let pin = PinFile::open(&path).unwrap();
        for high in [true, true, false] {
            pin.set(high).unwrap();
        }
        let log = history(&path).unwrap();
        assert_eq!(log.iter().map(|change| change.high).collect::<Vec<_>>(), [true, true, false]);
        assert!(log.is_sorted_by_key(|change| change.mono) && log[0].mono > Duration::ZERO);
        assert!(log.iter().all(|change| change.pid == std::process::id() && !change.hasty));
        let mut file = OpenOptions::new().append(true).open(log_path(&path)).unwrap();
        file.write_all(b"123 2026-01-").unwrap();
        assert_eq!(history(&path).unwrap(), log, "an unfinished line");
        file.write_all(b"\n").unwrap();
        assert!(history(&path).unwrap_err().to_string().contains("123 2026-01-"));
    }

    #[test]
    fn a_damaged_pin_is_an_error_and_can_be_locked() {
        let (_folder, path) = place();
        let mut latch = PinLatch::open(&path, Position::Locked, Duration::ZERO).unwrap();
        fs::write(&path, "x").unwrap();
        assert!(PinFile::open(&path).map(drop).unwrap_err().to_string().contains("'x'"));
        assert!(latch.unlock().is_err() && latch.position().is_err());
        latch.lock().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"0");
    }

    #[test]
    fn opening_a_latch_sends_it_to_the_safe_position() {
        let (_folder, path) = place();
        for (safe, high) in [(Position::Unlocked, true), (Position::Locked, false)] {
            fs::write(&path, if high { "0\n" } else { "1\n" }).unwrap();
            let mut latch = PinLatch::open(&path, safe, Duration::from_secs(60)).unwrap();
            assert_eq!(PinFile::open(&path).unwrap().get().unwrap(), high);
            latch.go(if high { Position::Locked } else { Position::Unlocked }).unwrap();
        }
    }

    #[test]
    fn haste_is_refused_but_not_towards_safety() {
        let (_folder, path) = place();
        let interval = Duration::from_millis(500);
        let mut latch = PinLatch::open(&path, Position::Locked, interval).unwrap();
        latch.unlock().unwrap();
        latch.lock().unwrap();
        assert!(history(&path).unwrap().last().unwrap().hasty);
        assert!(latch.unlock().unwrap_err().to_string().contains("used wrongly"));
        assert!(!PinFile::open(&path).unwrap().get().unwrap());
        std::thread::sleep(interval);
        latch.unlock().unwrap();
        std::thread::sleep(interval);
        latch.lock().unwrap();
        assert!(!history(&path).unwrap().last().unwrap().hasty);
        assert_eq!(latch.position().unwrap(), None);
    }

    #[test]
    fn a_place_that_is_not_there_is_named() {
        let error = PinFile::open(Path::new("/nowhere/latch")).map(drop).unwrap_err().to_string();
        assert!(error.contains("/nowhere/latch"), "{error}");
    }
}
