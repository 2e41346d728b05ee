//! A camera on its own thread, and the one frame that waits for its reader. A newer frame takes the place of one that was not
//! fetched: nothing stale is ever queued.
//!
//! The thread cannot be stopped while it waits for its camera. It ends with the first frame after the [`Receiver`] was dropped,
//! and nobody waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::program::Stop;
use super::{Camera, CameraError, Frame, Open};

/// What [`Receiver::wait`] learnt.
#[derive(Debug)]
pub enum News {
    /// The newest frame.
    Frame(Frame),
    /// Something went wrong, and the camera goes on.
    Fault(CameraError),
    /// There are no more frames.
    End,
    /// The camera is gone, and has to be opened again.
    Lost(CameraError),
    /// Nothing came in the time given. A camera that says nothing for long hangs: how long is for the caller to say.
    Nothing,
}

/// The camera's side.
#[derive(Debug)]
pub struct Sender(Arc<Shared>);

/// The reader's side.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    frame: Option<Frame>,
    /// The last fault that was not fetched. A storm of faults is as little queued as frames are.
    fault: Option<CameraError>,
    end: Option<Result<(), CameraError>>,
    /// Nobody reads any more.
    closed: bool,
}

/// An empty slot.
pub fn slot() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Gives `camera` a thread named `name` that puts its frames into a slot.
///
/// # Errors
/// [`CameraError::NoThread`].
pub fn spawn(name: &str, camera: Box<dyn Camera>) -> Result<Receiver, CameraError> {
    let (sender, receiver) = slot();
    std::thread::Builder::new().name(name.into()).spawn(move || pump(camera, sender)).map_err(CameraError::NoThread)?;
    Ok(receiver)
}

/// As [`spawn`], for a camera that the thread opens first: opening may hang as reading does.
///
/// # Errors
/// [`CameraError::NoThread`].
pub fn spawn_opening(name: &str, open: Arc<Open>, stop: Stop) -> Result<Receiver, CameraError> {
    let (sender, receiver) = slot();
    let work = move || match open(&stop) {
        Ok(camera) => pump(camera, sender),
        Err(error) => sender.end(Err(error)),
    };
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(CameraError::NoThread)?;
    Ok(receiver)
}

fn pump(mut camera: Box<dyn Camera>, sender: Sender) {
    loop {
        let goes_on = match camera.next() {
            Ok(Some(frame)) => sender.frame(frame),
            Err(error) if error.is_passing() => sender.fault(error),
            Ok(None) => return sender.end(Ok(())),
            Err(error) => return sender.end(Err(error)),
        };
        if !goes_on {
            return;
        }
    }
}

impl Shared {
    /// The slot is whole after every statement, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the slot and wakes the reader; says whether somebody still reads.
    fn change(&self, change: impl FnOnce(&mut Slot)) -> bool {
        let mut slot = self.lock();
        change(&mut slot);
        let open = !slot.closed;
        drop(slot);
        self.changed.notify_one();
        open
    }
}

impl Sender {
    /// Puts a frame in the place of the one before. Says whether somebody still reads.
    pub fn frame(&self, frame: Frame) -> bool {
        self.0.change(|slot| slot.frame = Some(frame))
    }

    /// Reports a fault that passes. Says whether somebody still reads.
    pub fn fault(&self, error: CameraError) -> bool {
        self.0.change(|slot| slot.fault = Some(error))
    }

    /// Says that there will be no more frames, and why.
    pub fn end(self, end: Result<(), CameraError>) {
        self.0.change(|slot| slot.end = Some(end));
    }
}

impl Drop for Sender {
    /// A camera that goes without a word is lost, not at its end.
    fn drop(&mut self) {
        self.0.change(|slot| {
            slot.end.get_or_insert(Err(CameraError::Died));
        });
    }
}

/// Tells whether a camera's thread still runs.
#[derive(Debug)]
pub struct Probe(Weak<Shared>);

impl Probe {
    /// Whether it does: a thread that hangs holds its side of the slot.
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Receiver {
    /// Lets go of the camera and tells whether its thread does so too.
    pub fn probe(self) -> Probe {
        Probe(Arc::downgrade(&self.0))
    }

    /// Waits for news, `limit` at most: a fault first, then the newest frame, then the end or why the camera was lost. What was
    /// told is told once; after it every call says [`News::End`].
    pub fn wait(&self, limit: Duration) -> News {
        // A limit beyond what the clock can hold is none.
        let deadline = Instant::now().checked_add(limit);
        let mut slot = self.0.lock();
        loop {
            if let Some(news) = slot.take() {
                return news;
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return News::Nothing;
            }
            slot = self.0.changed.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.closed = true;
        slot.frame = None;
    }
}

impl Slot {
    fn take(&mut self) -> Option<News> {
        if let Some(error) = self.fault.take() {
            return Some(News::Fault(error));
        }
        if let Some(frame) = self.frame.take() {
            return Some(News::Frame(frame));
        }
        match std::mem::replace(self.end.as_mut()?, Ok(())) {
            Ok(()) => Some(News::End),
            Err(error) => Some(News::Lost(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use image::RgbImage;

    use super::*;
    use crate::hw::clock::Monotonic;

    const SOON: Duration = Duration::from_millis(20);
    /// Long enough for any thread to be scheduled.
    const EVENTUALLY: Duration = Duration::from_secs(20);

    fn frame(number: u64) -> Frame {
        let captured = Monotonic::new(Duration::from_millis(number));
        Frame { number, captured, picture: Arc::new(RgbImage::new(1, 1)), name: None }
    }

    fn passing(what: &str) -> CameraError {
        CameraError::Folder { path: what.into(), problem: "gone".into() }
    }

    /// Plays a script, step by step when told.
    struct Script {
        steps: Vec<Result<Option<Frame>, CameraError>>,
        turns: mpsc::Receiver<()>,
        done: mpsc::Sender<()>,
    }

    impl Camera for Script {
        fn next(&mut self) -> Result<Option<Frame>, CameraError> {
            // What was returned last has reached the slot by now.
            self.done.send(()).ok();
            self.turns.recv().ok();
            self.steps.remove(0)
        }
    }

    fn scripted(steps: Vec<Result<Option<Frame>, CameraError>>) -> (Receiver, impl Fn()) {
        let (turn, turns) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let receiver = spawn("script", Box::new(Script { steps, turns, done })).unwrap();
        finished.recv_timeout(EVENTUALLY).unwrap();
        let step = move || {
            turn.send(()).unwrap();
            // The last step ends the thread, and no further word comes.
            finished.recv_timeout(EVENTUALLY).ok();
        };
        (receiver, step)
    }

    #[test]
    fn a_slow_reader_gets_the_newest_frame_only() {
        let (receiver, step) = scripted((1..=5).map(|n| Ok(Some(frame(n)))).collect());
        (0..4).for_each(|_| step());
        assert!(matches!(receiver.wait(EVENTUALLY), News::Frame(Frame { number: 4, .. })));
        assert!(matches!(receiver.wait(SOON), News::Nothing), "nothing older is left");
        step();
        assert!(matches!(receiver.wait(EVENTUALLY), News::Frame(Frame { number: 5, .. })));
    }

    #[test]
    fn a_fault_is_told_before_the_frame_and_the_end_after_it() {
        let (receiver, step) = scripted(vec![Err(passing("a")), Err(passing("b")), Ok(Some(frame(3))), Ok(None)]);
        (0..4).for_each(|_| step());
        assert!(matches!(receiver.wait(EVENTUALLY), News::Fault(CameraError::Folder { path, .. }) if path.as_os_str() == "b"));
        assert!(matches!(receiver.wait(EVENTUALLY), News::Frame(Frame { number: 3, .. })));
        assert!(matches!(receiver.wait(EVENTUALLY), News::End));
        assert!(matches!(receiver.wait(SOON), News::End));
    }

    #[test]
    fn a_lost_camera_says_why() {
        let (receiver, step) = scripted(vec![Err(CameraError::NoneReadable(3))]);
        assert!(matches!(receiver.wait(SOON), News::Nothing), "it hangs");
        step();
        assert!(matches!(receiver.wait(EVENTUALLY), News::Lost(CameraError::NoneReadable(3))));
        assert!(matches!(receiver.wait(SOON), News::End));
    }

    #[test]
    fn a_camera_that_panics_is_lost() {
        // The script runs out, and `remove` panics.
        let (receiver, step) = scripted(vec![]);
        step();
        assert!(matches!(receiver.wait(EVENTUALLY), News::Lost(CameraError::Died)));
    }

    #[test]
    fn nobody_reading_ends_the_camera() {
        let (sender, receiver) = slot();
        assert!(sender.frame(frame(1)) && sender.fault(passing("a")));
        drop(receiver);
        assert!(!sender.frame(frame(2)) && !sender.fault(passing("b")));
    }

    #[test]
    fn a_waiting_reader_wakes_at_once() {
        let (sender, receiver) = slot();
        let reader = std::thread::spawn(move || receiver.wait(Duration::MAX));
        std::thread::sleep(SOON);
        sender.frame(frame(1));
        assert!(matches!(reader.join().unwrap(), News::Frame(Frame { number: 1, .. })));
    }
}
