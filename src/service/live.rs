//! The chain on a real clock: frames as a camera's thread delivers them, deadlines, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Sink;
use super::chain::Chain;
use crate::hw::camera::latest::{News, Receiver};
use crate::hw::clock::{Clock, Monotonic};
use crate::policy::door::Phase;
use crate::policy::fault::Fault;

/// Longest wait: signals are looked at after it.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the latch may take to be allowed to move to its safe state at the end.
const PARTING: Duration = Duration::from_secs(3);
/// A camera that says nothing for so long hangs.
pub const SILENCE: Duration = Duration::from_secs(5);

/// What the outside asks for.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// End.
    pub stop: Arc<AtomicBool>,
    /// Read the configuration again.
    pub reload: Arc<AtomicBool>,
}

impl Signals {
    /// Raised by SIGTERM and SIGINT, and by SIGHUP.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn install() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let signals = Self::default();
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }
}

/// Why the chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody asked for it.
    Signal,
    /// The time that was given is over.
    Time,
    /// The recording is over, and the door is locked.
    Recording,
    /// The camera is gone, and cannot be opened again.
    Camera,
}

impl End {
    /// In words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Signal => "a signal asked for it",
            Self::Time => "the time that was given is over",
            Self::Recording => "the recording is over",
            Self::Camera => "the camera is gone",
        }
    }
}

/// The state of the camera, as the loop knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Frames came until then.
    Frames(Monotonic),
    /// It says nothing.
    Silent,
    /// No more frames, at the end of a recording or after a loss.
    Over(End),
}

/// Runs until something ends it. `reload` is called when a signal asks for it.
pub fn run(
    chain: &mut Chain,
    camera: &Receiver,
    clock: &dyn Clock,
    sink: &mut dyn Sink,
    signals: &Signals,
    until: Option<Monotonic>,
    mut reload: impl FnMut(&mut Chain, &mut dyn Sink),
) -> End {
    chain.start(clock, sink);
    let mut view = View::Frames(clock.now().mono);
    let end = loop {
        let now = clock.now().mono;
        if signals.stop.load(Ordering::Relaxed) {
            break End::Signal;
        }
        if until.is_some_and(|until| now >= until) {
            break End::Time;
        }
        if let View::Over(end) = view
            && chain.door().is_none_or(|door| matches!(door.state().phase(), Phase::Locked | Phase::Fault))
        {
            break end;
        }
        if signals.reload.swap(false, Ordering::Relaxed) {
            reload(chain, sink);
        }
        let due = [chain.deadline(), until].into_iter().flatten().map(|due| due.since(now)).min();
        view = listen(chain, camera, clock, sink, view, due.map_or(PATIENCE, |due| due.min(PATIENCE)));
        sink.notices();
    };
    chain.stop(end.reason(), clock, sink);
    let last = clock.now().mono + PARTING;
    while let (Some(due), now) = (chain.deadline(), clock.now().mono)
        && now < last
    {
        std::thread::sleep(due.min(last).since(now));
        chain.tick(clock, sink);
    }
    sink.notices();
    end
}

fn listen(chain: &mut Chain, camera: &Receiver, clock: &dyn Clock, sink: &mut dyn Sink, view: View, limit: Duration) -> View {
    if let View::Over(_) = view {
        std::thread::sleep(limit);
        chain.tick(clock, sink);
        return view;
    }
    match camera.wait(limit) {
        News::Frame(frame) => {
            if view == View::Silent {
                chain.recovered(Fault::Camera, "the camera delivers frames again", clock, sink);
            }
            chain.frame(&frame, clock, sink);
            View::Frames(clock.now().mono)
        }
        News::Fault(error) => {
            chain.camera_error(&error, clock, sink);
            view
        }
        News::End => {
            chain.rest(clock, sink);
            View::Over(End::Recording)
        }
        News::Lost(error) => {
            chain.fault(Fault::Camera, &format!("the camera is lost: {error}"), clock, sink);
            View::Over(End::Camera)
        }
        News::Nothing => {
            chain.tick(clock, sink);
            match view {
                View::Frames(last) if clock.now().mono.since(last) >= SILENCE => {
                    let what = format!("the camera has delivered nothing for {} s", SILENCE.as_secs());
                    chain.fault(Fault::Camera, &what, clock, sink);
                    View::Silent
                }
                view => view,
            }
        }
    }
}
