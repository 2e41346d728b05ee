//! The chain on a real clock: frames as a camera's thread delivers them, deadlines, inputs, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::Sink;
use super::chain::Chain;
use super::inputs::Inputs;
use crate::hw::actuator::guard::Trip;
use crate::hw::camera::keeper::{Keeper, News};
use crate::hw::clock::{Clock, Monotonic};
use crate::hw::fault::{Injector, What};
use crate::policy::door::Phase;
use crate::policy::fault::Fault;

/// Longest wait: inputs and signals are looked at after it.
const PATIENCE: Duration = Duration::from_millis(25);
/// How long the latch may take to be allowed to move to its safe state at the end.
const PARTING: Duration = Duration::from_millis(1500);

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

/// Who watches the loop from outside.
pub trait Overseer {
    /// The loop has turned over at `now`. `progress` is when the camera last achieved something ([`Keeper::progress`]).
    /// `trouble` is why events do not reach the disk.
    fn turned(&mut self, now: Monotonic, progress: Monotonic, chain: &Chain, trouble: Option<String>);

    /// The configuration is being read again; the next turn ends that.
    fn reloading(&mut self);

    /// The end has begun.
    fn stopping(&mut self, why: &str);
}

/// What the chain lives with.
pub struct World<'a> {
    /// Its camera.
    pub camera: &'a mut Keeper,
    /// Its time.
    pub clock: &'a dyn Clock,
    /// Buttons and beams.
    pub inputs: &'a mut Inputs,
    /// What the outside asks for.
    pub signals: &'a Signals,
    /// What the latch's guard did by itself.
    pub trips: Option<&'a Receiver<Trip>>,
    /// When to end at the latest.
    pub until: Option<Monotonic>,
    /// Lets this loop fail on purpose.
    pub faults: &'a Injector,
    /// Who is told of each turn.
    pub overseer: &'a mut dyn Overseer,
}

/// The state of the camera, as the loop knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Frames come, or the first has not come yet.
    Frames,
    /// It is in trouble.
    Trouble,
    /// No more frames, at the end of a recording or after a loss.
    Over(End),
}

/// Runs until something ends it. `reload` is called when a signal asks for it.
pub fn run(
    chain: &mut Chain,
    world: &mut World<'_>,
    sink: &mut dyn Sink,
    mut reload: impl FnMut(&mut Chain, &mut dyn Sink),
) -> End {
    let clock = world.clock;
    chain.start(clock, sink);
    let mut view = View::Frames;
    let end = loop {
        world.faults.hang(What::DeciderHang);
        world.faults.panic(What::DeciderPanic);
        let now = clock.now().mono;
        if world.signals.stop.load(Ordering::Relaxed) {
            break End::Signal;
        }
        if world.until.is_some_and(|until| now >= until) {
            break End::Time;
        }
        if let View::Over(end) = view
            && chain.door().is_none_or(|door| matches!(door.state().phase(), Phase::Locked | Phase::Fault))
        {
            break end;
        }
        if world.signals.reload.swap(false, Ordering::Relaxed) {
            world.overseer.reloading();
            reload(chain, sink);
        }
        world.inputs.poll(chain, clock, sink);
        tell_trips(world.trips, chain, clock, sink);
        let due = [chain.deadline(), world.until].into_iter().flatten().map(|due| due.since(now)).min();
        view = listen(chain, world.camera, clock, sink, view, due.map_or(PATIENCE, |due| due.min(PATIENCE)));
        sink.notices();
        world.overseer.turned(clock.now().mono, world.camera.progress(), chain, sink.trouble());
    };
    world.overseer.stopping(end.reason());
    part(chain, end, clock, sink);
    end
}

/// The guard has moved the latch by itself: what the door believes is wrong, and the next opening needs a decision of its own.
fn tell_trips(trips: Option<&Receiver<Trip>>, chain: &mut Chain, clock: &dyn Clock, sink: &mut dyn Sink) {
    for trip in trips.into_iter().flat_map(Receiver::try_iter) {
        chain.fault(Fault::Service, &trip.to_string(), clock, sink);
        chain.recovered(Fault::Service, "the service decides again", clock, sink);
    }
}

/// Sends the latch to its safe state, which it may have to wait for.
fn part(chain: &mut Chain, end: End, clock: &dyn Clock, sink: &mut dyn Sink) {
    chain.stop(end.reason(), clock, sink);
    let last = clock.now().mono + PARTING;
    while let (Some(due), now) = (chain.deadline(), clock.now().mono)
        && now < last
    {
        std::thread::sleep(due.min(last).since(now));
        chain.tick(clock, sink);
    }
    sink.notices();
}

fn listen(chain: &mut Chain, camera: &mut Keeper, clock: &dyn Clock, sink: &mut dyn Sink, view: View, limit: Duration) -> View {
    match camera.wait(limit) {
        News::Frame(frame) => {
            if view == View::Trouble {
                chain.recovered(Fault::Camera, "the camera delivers frames again", clock, sink);
            }
            chain.frame(&frame, clock, sink);
            View::Frames
        }
        News::Passing(error) => {
            chain.camera_error(&error, clock, sink);
            view
        }
        News::End => {
            chain.rest(clock, sink);
            View::Over(End::Recording)
        }
        News::Gone(error) => {
            chain.fault(Fault::Camera, &format!("the camera is lost: {error}"), clock, sink);
            View::Over(End::Camera)
        }
        // One event a trouble, however often the camera is tried again.
        News::Trouble(trouble) if view == View::Trouble => {
            log::debug!("{trouble}");
            chain.tick(clock, sink);
            view
        }
        News::Trouble(trouble) => {
            chain.fault(Fault::Camera, &trouble.to_string(), clock, sink);
            View::Trouble
        }
        News::Nothing => {
            chain.tick(clock, sink);
            view
        }
    }
}
