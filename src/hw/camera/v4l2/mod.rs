//! Cameras of the kernel (V4L2): USB webcams, and everything else that has a `/dev/video`.
//!
//! | module | holds |
//! |---|---|
//! | [`find`] | number, path or name → device |
//! | [`choose`] | offers → the one that suits; a plain calculation |
//! | `device` | the device: asked, set, read (nokhwa, and `v4l` beneath it) |
//! | [`convert`] | a buffer → Y4M or JPEG |
//!
//! A device is read in a process of its own ([`feed`]), because a driver that hangs cannot be waited for with a limit: its parent
//! reads Y4M or MJPEG from it as from any other program ([`super::stream`]), ends it when nothing comes, and starts it anew. That
//! also puts an end to what nokhwa remembers of open devices, and to panics of its crates at answers they did not expect.
//!
//! One thread takes pictures off the device and puts the newest into a slot, another writes. So the kernel's queue is never left to
//! grow old, and a reader that was slow gets, after what was already on its way to it, the newest picture.

pub mod choose;
pub mod convert;
mod device;
pub mod find;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use find::{Found, NotADevice, Which, list};
use thiserror::Error;

use self::choose::Wanted;

/// The longest time without a picture. The parent has a shorter one; this one ends a feed whose parent is gone.
pub const MOST_SILENCE: Duration = Duration::from_secs(15);

/// Which camera, and how it should be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub which: Which,
    /// Pixels across, 1 or more. A camera that has not this size gives the next larger one if it can.
    pub width: u32,
    /// Pixels down, 1 or more.
    pub height: u32,
    /// Frames a second, 1 or more. A camera that is faster is thinned out.
    pub fps: u32,
}

/// The kernel's monotonic clock, by which drivers say when a picture was captured.
pub fn mark_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// Reads the camera and writes its pictures to `out`, until `out` is closed at its other end (`Ok`) or there are no more.
///
/// For a process of its own that ends soon after: the device stays open, and the thread that reads it may hang in it.
///
/// # Errors
/// See [`FeedError`].
pub fn feed(device: &Device, out: &mut dyn Write) -> Result<(), FeedError> {
    let wanted = Wanted { width: device.width, height: device.height, fps: device.fps };
    pump(device::Camera::open(&device.which, wanted)?, out, MOST_SILENCE)
}

/// Why a camera gives no more pictures.
#[derive(Debug, Error)]
pub enum FeedError {
    /// No such device.
    #[error("{which}: there is no such camera; there are: {others}; is it plugged in?")]
    NotFound {
        /// The device.
        which: Which,
        /// Those that exist.
        others: String,
    },
    /// Something else is there.
    #[error("{}: {} is no video device; name one of /dev/video… or a link to it", .path.display(), .real.display())]
    NotAVideoDevice {
        /// As it was given.
        path: PathBuf,
        /// What it leads to.
        real: PathBuf,
    },
    /// Several cards have this name.
    #[error("name:{name}: several cameras have this name: {several}; name one by its path under /dev/v4l/by-path")]
    Ambiguous {
        /// The name.
        name: String,
        /// Those that have it.
        several: String,
    },
    /// The user may not open it.
    #[error("{}: {error}; add the user that runs pawgate to the group `video`", .path.display())]
    Permission {
        /// The device.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another program uses it.
    #[error("{}: {error}: another program uses it; `fuser -v {}` tells which", .path.display(), .path.display())]
    Busy {
        /// The device.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It offers nothing that is read here.
    #[error(
        "{which}: gives none of YUYV, MJPEG, NV12 and GREY pictures, but {offers}; name another of its devices or use a command"
    )]
    NoFormat {
        /// The device.
        which: Which,
        /// What it offers.
        offers: String,
    },
    /// It cannot be set or started.
    #[error("{}: cannot {doing}: {error}; plug it in again, or ask for a smaller size", .path.display())]
    Refused {
        /// The device.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// It went away.
    #[error("{}: lost: {error}; is it still plugged in?", .path.display())]
    Lost {
        /// The device.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Several buffers in a row without a whole picture.
    #[error("{}: {count} pictures in a row are damaged; try another cable or port, or a smaller size", .path.display())]
    Damaged {
        /// The device.
        path: PathBuf,
        /// How many.
        count: u32,
    },
    /// It is open and says nothing.
    #[error("no picture for {} seconds; plug the camera in again", .0.as_secs())]
    Silent(Duration),
    /// The thread that reads the device died.
    #[error(
        "the camera's thread died; a crate that reads the camera met an answer it does not know: please report what it said"
    )]
    Died,
    /// That thread cannot be started.
    #[error("the camera's thread cannot be started: {0}; is memory or the number of processes limited?")]
    NoThread(io::Error),
    /// Pictures cannot be written, and the reader is still there.
    #[error("pictures cannot be written: {0}; where does the output go?")]
    Write(io::Error),
}

impl FeedError {
    /// What `error` of the device means, before it gave pictures.
    fn at(which: &Which, number: u32, doing: &'static str, error: io::Error) -> Self {
        use rustix::io::Errno;
        let path = PathBuf::from(format!("/dev/video{number}"));
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
                let others = list().iter().map(Found::to_string).collect::<Vec<_>>().join(", ");
                Self::NotFound { which: which.clone(), others: if others.is_empty() { "none".into() } else { others } }
            }
            Some(Errno::ACCESS | Errno::PERM) => Self::Permission { path, error },
            Some(Errno::BUSY) => Self::Busy { path, error },
            _ => Self::Refused { path, doing, error },
        }
    }
}

/// What gives pictures, ready to be written.
trait Source: Send + 'static {
    /// What stands before the first picture.
    fn header(&self) -> Vec<u8>;

    /// Waits a while for a picture and puts it into `out`, which is empty. `false` if there is none, or none that is wanted: then
    /// `out` stays empty.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, FeedError>;
}

/// What the two threads share.
#[derive(Default)]
struct Slot {
    /// The newest picture that is not being written.
    picture: Option<Vec<u8>>,
    /// Memory to be used again.
    spare: Vec<Vec<u8>>,
    end: Option<FeedError>,
    /// The reader is gone.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Shared {
    /// The slot is whole after every statement, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest picture, waiting `limit` at most. The end is told at once: what was captured before it is old by then.
    fn wait(&self, limit: Duration) -> Result<Vec<u8>, FeedError> {
        let deadline = Instant::now() + limit;
        let mut slot = self.lock();
        loop {
            if let Some(error) = slot.end.take() {
                return Err(error);
            }
            if let Some(picture) = slot.picture.take() {
                return Ok(picture);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FeedError::Silent(limit));
            }
            slot = self.changed.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Ends the feed when its thread goes without a word.
struct Reading(Arc<Shared>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.lock().end.get_or_insert(FeedError::Died);
        self.0.changed.notify_one();
    }
}

impl Reading {
    fn run(&self, mut source: impl Source) {
        let mut memory = Vec::new();
        loop {
            let next = source.next(&mut memory);
            let mut slot = self.0.lock();
            if slot.closed {
                return;
            }
            match next {
                Ok(false) => continue,
                Ok(true) => {
                    let unused = slot.picture.replace(memory);
                    memory = unused.or_else(|| slot.spare.pop()).unwrap_or_default();
                }
                Err(error) => {
                    slot.end = Some(error);
                    return;
                }
            }
            drop(slot);
            self.0.changed.notify_one();
            memory.clear();
        }
    }
}

/// Writes the newest picture of `source` again and again.
fn pump(source: impl Source, out: &mut dyn Write, most_silence: Duration) -> Result<(), FeedError> {
    let mut header = Some(source.header());
    let shared = Arc::new(Shared::default());
    let reading = Reading(Arc::clone(&shared));
    let thread = std::thread::Builder::new().name("camera-device".into());
    // Nobody waits for it: it may hang in the device.
    thread.spawn(move || reading.run(source)).map_err(FeedError::NoThread)?;
    let end = loop {
        let picture = match shared.wait(most_silence) {
            Ok(picture) => picture,
            Err(error) => break Err(error),
        };
        let written = header.take().map_or(Ok(()), |header| out.write_all(&header));
        match written.and_then(|()| out.write_all(&picture)).and_then(|()| out.flush()) {
            Ok(()) => shared.lock().spare.push(picture),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break Ok(()),
            Err(error) => break Err(FeedError::Write(error)),
        }
    };
    shared.lock().closed = true;
    end
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Long enough for any thread to be scheduled.
    const EVENTUALLY: Duration = Duration::from_secs(20);

    type Turn = Result<Vec<u8>, FeedError>;

    /// Gives what the test sends; without more it hangs, as a device may.
    struct Script {
        turns: Receiver<Turn>,
        asked: Sender<()>,
    }

    impl Source for Script {
        fn header(&self) -> Vec<u8> {
            b"H".to_vec()
        }

        fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, FeedError> {
            assert!(out.is_empty());
            self.asked.send(()).ok();
            let Ok(turn) = self.turns.recv() else {
                loop {
                    std::thread::park();
                }
            };
            out.extend(turn?);
            assert!(out != b"panic");
            Ok(!out.is_empty())
        }
    }

    /// A reader that takes what is written when the test says so.
    struct Reader {
        writes: Sender<Vec<u8>>,
        go: Receiver<io::Result<()>>,
        pending: Vec<u8>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.pending.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.writes.send(std::mem::take(&mut self.pending)).map_err(io::Error::other)?;
            self.go.recv().map_err(io::Error::other)?
        }
    }

    /// A feed on its own thread, and all its strings.
    struct Feed {
        turn: Sender<Turn>,
        asked: Receiver<()>,
        writes: Receiver<Vec<u8>>,
        go: Sender<io::Result<()>>,
        end: Receiver<Result<(), FeedError>>,
    }

    fn start(most_silence: Duration) -> Feed {
        let (turn, turns) = mpsc::channel();
        let (ask, asked) = mpsc::channel();
        let (write, writes) = mpsc::channel();
        let (go, may_go) = mpsc::channel();
        let (ends, end) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = Reader { writes: write, go: may_go, pending: vec![] };
            ends.send(pump(Script { turns, asked: ask }, &mut reader, most_silence)).ok();
        });
        asked.recv_timeout(EVENTUALLY).unwrap();
        Feed { turn, asked, writes, go, end }
    }

    impl Feed {
        /// The device gives this, and it has reached the slot when this returns.
        fn gives(&self, turn: impl Into<Vec<u8>>) {
            self.turn.send(Ok(turn.into())).unwrap();
            self.asked.recv_timeout(EVENTUALLY).unwrap();
        }

        fn written(&self) -> Vec<u8> {
            self.writes.recv_timeout(EVENTUALLY).unwrap()
        }

        fn end(&self) -> Result<(), FeedError> {
            self.end.recv_timeout(EVENTUALLY).unwrap()
        }
    }

    #[test]
    fn a_slow_reader_gets_the_newest_picture_next() {
        let feed = start(EVENTUALLY);
        feed.gives("1");
        assert_eq!(feed.written(), b"H1");
        for picture in ["2", "", "3", "4", ""] {
            feed.gives(picture);
        }
        feed.go.send(Ok(())).unwrap();
        assert_eq!(feed.written(), b"4");
        feed.go.send(Ok(())).unwrap();
        feed.gives("5");
        assert_eq!(feed.written(), b"5", "nothing older is left");
    }

    #[test]
    fn a_reader_that_goes_is_no_error() {
        let feed = start(EVENTUALLY);
        feed.gives("1");
        feed.go.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        assert!(feed.end().is_ok());
    }

    #[test]
    fn output_that_fails_is_an_error() {
        let feed = start(EVENTUALLY);
        feed.gives("1");
        feed.go.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert!(matches!(feed.end(), Err(FeedError::Write(_))));
    }

    #[test]
    fn a_lost_camera_ends_the_feed_before_an_old_picture_goes_out() {
        let feed = start(EVENTUALLY);
        feed.gives("1");
        assert_eq!(feed.written(), b"H1");
        feed.gives("2");
        let error = io::Error::from_raw_os_error(rustix::io::Errno::NODEV.raw_os_error());
        feed.turn.send(Err(FeedError::Lost { path: "/dev/video0".into(), error })).unwrap();
        // The thread drops its end of the channel when it is through.
        assert!(feed.asked.recv_timeout(EVENTUALLY).is_err());
        feed.go.send(Ok(())).unwrap();
        let error = feed.end().unwrap_err().to_string();
        assert!(error.contains("/dev/video0") && error.contains("No such device"), "{error}");
        assert!(feed.writes.try_recv().is_err());
    }

    #[test]
    fn a_device_that_hangs_is_noticed() {
        let feed = start(Duration::from_millis(50));
        assert!(matches!(feed.end(), Err(FeedError::Silent(_))));
    }

    #[test]
    fn a_panic_ends_the_feed() {
        let feed = start(EVENTUALLY);
        feed.turn.send(Ok(b"panic".to_vec())).unwrap();
        assert!(matches!(feed.end(), Err(FeedError::Died)));
    }

    #[test]
    fn what_the_system_says_is_told_apart() {
        use rustix::io::Errno;
        let error = |errno: Errno| FeedError::at(&Which::Number(7), 7, "open it", errno.into());
        assert!(matches!(error(Errno::NODEV), FeedError::NotFound { .. }));
        assert!(error(Errno::ACCESS).to_string().contains("group `video`"));
        assert!(error(Errno::BUSY).to_string().contains("fuser -v /dev/video7"));
        assert!(error(Errno::NOSPC).to_string().contains("cannot open it"));
    }

    #[test]
    fn a_camera_that_is_not_there_is_an_error() {
        let device = Device { which: Which::Number(4_000_000), width: 640, height: 480, fps: 10 };
        let error = feed(&device, &mut io::sink()).unwrap_err().to_string();
        assert!(error.contains("/dev/video4000000"), "{error}");
    }
}
