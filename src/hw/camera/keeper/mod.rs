//! A camera that is watched: one that hangs, is lost, frozen, black or slow is a trouble, and is opened again for ever.
//!
//! The camera runs on a thread of its own ([`super::latest`]). When it is in trouble, the programs that it started are killed and its
//! thread is left behind; a new one opens the camera again after a pause that doubles up to [`Limits::longest_pause`]. Where too many
//! threads hang, none is started any more: only a new process helps then, and the service's watchdog sees to that.
//!
//! What a trouble means for the door belongs to [`crate::service`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::latest::{self, Receiver};
use super::program::Stop;
use super::{Camera, CameraError, Frame, Open};
use crate::hw::clock::{Clock, Monotonic};

/// Threads that hang, at most.
const MOST_HANGING: usize = 8;
/// The pause before the first attempt to open a camera again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A frame all of whose samples are at most so bright is black: digital black and its noise. The darkest night has brighter pixels
/// unless the lens is covered or the sensor dead.
const BLACK: u8 = 24;

/// What a camera may do before it is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// No frame for so long: it hangs. Opening may take [`Self::opening`].
    pub silence: Duration,
    /// No first frame for so long after it was opened: cameras take their time to start.
    pub opening: Duration,
    /// Identical frames for so long: it is frozen. A real sensor's noise makes each frame another.
    pub frozen: Duration,
    /// Black frames for so long.
    pub black: Duration,
    /// Fewer frames than the first number in the given time: it is slow.
    pub slow: (u64, Duration),
    /// The longest pause between two attempts to open it.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            silence: seconds(2),
            opening: seconds(8),
            frozen: seconds(10),
            black: seconds(10),
            slow: (10, seconds(10)),
            longest_pause: seconds(10),
        }
    }
}

/// What is wrong with a camera.
#[derive(Debug)]
pub enum Trouble {
    /// It cannot be opened, or was lost.
    Lost(CameraError),
    /// It says nothing.
    Silent(Duration),
    /// It repeats one frame.
    Frozen(Duration),
    /// It shows nothing.
    Black(Duration),
    /// It delivers too little.
    Slow(u64, Duration),
    /// So many of its threads hang that no more are started.
    GivenUp,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "the camera is lost: {error}"),
            Self::Silent(time) => write!(f, "the camera has delivered nothing for {} s", show(*time)),
            Self::Frozen(time) => write!(f, "the camera has repeated one frame for {} s", show(*time)),
            Self::Black(time) => write!(f, "the camera has been black for {} s: is the lens covered?", show(*time)),
            Self::Slow(count, time) => write!(f, "the camera delivered {count} frames in {} s only", show(*time)),
            Self::GivenUp => f.write_str("the camera's driver hangs again and again; only a restart of pawgate helps"),
        }
    }
}

fn show(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// What [`Keeper::wait`] learnt.
#[derive(Debug)]
pub enum News {
    /// The newest frame, after a trouble too.
    Frame(Frame),
    /// Something went wrong, and the camera goes on.
    Passing(CameraError),
    /// The camera is in trouble, and is being opened again.
    Trouble(Trouble),
    /// Nothing that would have to be told.
    Nothing,
    /// The recording is over.
    End,
    /// The camera is gone and cannot be opened again.
    Gone(CameraError),
}

/// A camera and what keeps it going.
pub struct Keeper {
    open: Arc<Open>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// Whether it is opened again; a recording is not.
    reopens: bool,
    stage: Stage,
    health: Health,
    pause: Duration,
    /// The slots of threads that hang.
    hanging: Vec<latest::Probe>,
    /// When something was last achieved: a frame, or an attempt to open the camera that came to an end.
    progress: Monotonic,
    /// Frames so far; numbers go on when the camera is opened again.
    numbered: u64,
}

enum Stage {
    Running { receiver: Receiver, stop: Stop, opened: Monotonic, last: Option<Monotonic>, base: u64 },
    Pausing { until: Monotonic },
    Over,
}

impl Keeper {
    /// Opens the camera on a thread of its own, and again whenever it is in trouble.
    pub fn new(open: Arc<Open>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now().mono;
        let health = Health::new(limits);
        let stage = Stage::Pausing { until: now };
        Self {
            open,
            limits,
            clock,
            reopens: true,
            stage,
            health,
            pause: FIRST_PAUSE,
            hanging: vec![],
            progress: now,
            numbered: 0,
        }
    }

    /// Takes a recording that is open already: its end is the end.
    ///
    /// # Errors
    /// [`CameraError::NoThread`].
    pub fn recording(camera: Box<dyn Camera>, limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, CameraError> {
        let open: Arc<Open> = Arc::new(|_: &Stop| Err(CameraError::Died));
        let mut keeper = Self::new(open, limits, clock);
        let opened = keeper.clock.now().mono;
        keeper.reopens = false;
        let receiver = latest::spawn("camera", camera)?;
        keeper.stage = Stage::Running { receiver, stop: Stop::default(), opened, last: None, base: 0 };
        Ok(keeper)
    }

    /// When something was last achieved: a frame came, or an attempt to open the camera came to an end. While the camera's threads
    /// hang, this stands still.
    pub fn progress(&self) -> Monotonic {
        self.progress
    }

    /// Waits for news, `limit` at most.
    pub fn wait(&mut self, limit: Duration) -> News {
        let now = self.clock.now().mono;
        match &self.stage {
            Stage::Over => {
                std::thread::sleep(limit);
                News::Nothing
            }
            Stage::Pausing { until } if *until > now => {
                std::thread::sleep(until.since(now).min(limit));
                News::Nothing
            }
            Stage::Pausing { .. } => self.begin(now),
            Stage::Running { .. } => self.listen(limit),
        }
    }

    fn begin(&mut self, now: Monotonic) -> News {
        self.hanging.retain(latest::Probe::is_alive);
        if self.hanging.len() >= MOST_HANGING {
            self.stage = Stage::Pausing { until: now + self.limits.longest_pause };
            return News::Trouble(Trouble::GivenUp);
        }
        let stop = Stop::default();
        match latest::spawn_opening("camera", Arc::clone(&self.open), stop.clone()) {
            Ok(receiver) => {
                self.health.opened(now);
                self.stage = Stage::Running { receiver, stop, opened: now, last: None, base: self.numbered };
                News::Nothing
            }
            Err(error) => self.trouble(Trouble::Lost(error), now),
        }
    }

    fn listen(&mut self, limit: Duration) -> News {
        let Stage::Running { receiver, .. } = &self.stage else { return News::Nothing };
        let news = receiver.wait(limit);
        let now = self.clock.now().mono;
        match news {
            latest::News::Frame(frame) => self.frame(frame, now),
            latest::News::Fault(error) => News::Passing(error),
            latest::News::End if !self.reopens => {
                self.stage = Stage::Over;
                News::End
            }
            latest::News::Lost(error) if !self.reopens => {
                self.stage = Stage::Over;
                News::Gone(error)
            }
            latest::News::End => self.ended(CameraError::Died, now),
            latest::News::Lost(error) => self.ended(error, now),
            latest::News::Nothing => self.nothing(now),
        }
    }

    /// An attempt came to an end, if to a bad one.
    fn ended(&mut self, error: CameraError, now: Monotonic) -> News {
        self.progress = now;
        self.trouble(Trouble::Lost(error), now)
    }

    fn frame(&mut self, mut frame: Frame, now: Monotonic) -> News {
        let Stage::Running { last, base, .. } = &mut self.stage else { return News::Nothing };
        *last = Some(now);
        frame.number += *base;
        self.numbered = frame.number;
        self.progress = now;
        match self.health.look(&frame) {
            Verdict::Good => {
                self.pause = FIRST_PAUSE;
                News::Frame(frame)
            }
            Verdict::Doubtful => News::Nothing,
            Verdict::Bad(trouble) if self.reopens => self.trouble(trouble, now),
            Verdict::Bad(trouble) => News::Trouble(trouble),
        }
    }

    fn nothing(&mut self, now: Monotonic) -> News {
        let Stage::Running { opened, last, .. } = &mut self.stage else { return News::Nothing };
        let (since, most) = match last {
            Some(last) => (*last, self.limits.silence),
            None => (*opened, self.limits.opening),
        };
        let silent = now.since(since);
        if silent < most {
            return News::Nothing;
        }
        if self.reopens {
            return self.trouble(Trouble::Silent(silent), now);
        }
        // Said again only after another such silence: a recording is waited for.
        *last = Some(now);
        News::Trouble(Trouble::Silent(silent))
    }

    /// Lets go of the camera, and begins again after a pause.
    fn trouble(&mut self, trouble: Trouble, now: Monotonic) -> News {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Running { receiver, stop, .. } => {
                stop.stop();
                self.hanging.push(receiver.probe());
                Stage::Pausing { until: now + self.pause }
            }
            Stage::Pausing { .. } | Stage::Over => Stage::Pausing { until: now + self.pause },
        };
        self.pause = (self.pause * 2).min(self.limits.longest_pause);
        News::Trouble(trouble)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Stage::Running { stop, .. } = &self.stage {
            stop.stop();
        }
    }
}

/// Whether frames are worth looking at. Pure: it sees frames only.
#[derive(Debug)]
struct Health {
    limits: Limits,
    /// The last frame, and since when it has been the same.
    same: Option<(Frame, Monotonic)>,
    /// Since when frames have been black.
    black: Option<Monotonic>,
    /// Number and capture time from which frames are counted.
    counted: Option<(u64, Monotonic)>,
    /// It was black for too long, and no frame has shown yet that this is over.
    doubted: bool,
}

#[derive(Debug)]
enum Verdict {
    Good,
    /// Not to be used, and nothing new about the camera.
    Doubtful,
    Bad(Trouble),
}

impl Health {
    fn new(limits: Limits) -> Self {
        Self { limits, same: None, black: None, counted: None, doubted: false }
    }

    /// The camera was opened again: time starts anew; what it showed last and whether that was doubted stays known.
    fn opened(&mut self, now: Monotonic) {
        (self.black, self.counted) = (None, None);
        if let Some((_, since)) = &mut self.same {
            *since = now;
        }
    }

    fn look(&mut self, frame: &Frame) -> Verdict {
        let at = frame.captured;
        let same = self.same.as_ref().is_some_and(|(last, _)| last.picture == frame.picture);
        if !same {
            self.same = Some((frame.clone(), at));
        }
        let black = frame.picture.iter().all(|&sample| sample <= BLACK);
        self.black = if black { self.black.or(Some(at)) } else { None };
        let bad = self.frozen(same, at).or_else(|| self.dark(at)).or_else(|| self.slow(frame));
        if let Some(trouble) = bad {
            return Verdict::Bad(trouble);
        }
        // A frame that repeats another is no evidence of its own, long before the camera counts as frozen.
        if same || black && self.doubted {
            return Verdict::Doubtful;
        }
        self.doubted = false;
        Verdict::Good
    }

    fn frozen(&mut self, same: bool, at: Monotonic) -> Option<Trouble> {
        let (_, since) = self.same.as_mut().filter(|_| same)?;
        let time = at.since(*since);
        (time >= self.limits.frozen).then(|| {
            *since = at;
            Trouble::Frozen(time)
        })
    }

    fn dark(&mut self, at: Monotonic) -> Option<Trouble> {
        let time = at.since(self.black?);
        (time >= self.limits.black).then(|| {
            (self.black, self.doubted) = (Some(at), true);
            Trouble::Black(time)
        })
    }

    /// Numbers count frames that were captured, delivered or not: whoever reads slowly is not a slow camera.
    fn slow(&mut self, frame: &Frame) -> Option<Trouble> {
        let (least, period) = self.limits.slow;
        let Some((number, since)) = self.counted else {
            self.counted = Some((frame.number, frame.captured));
            return None;
        };
        let time = frame.captured.since(since);
        if time < period {
            return None;
        }
        self.counted = Some((frame.number, frame.captured));
        let count = frame.number.saturating_sub(number);
        (count < least).then_some(Trouble::Slow(count, time))
    }
}

#[cfg(test)]
mod tests;
