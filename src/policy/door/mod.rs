//! The door as a pure function: `step(settings, state, event, now) → (state, actions, deadline)`.
//!
//! It knows grants and denials, not animals; who may pass is [`super::rules`]' matter, how a latch moves [`crate::hw::actuator`]'s.
//!
//! What holds for any order of events and times:
//!
//! - The latch is unlocked only in the step of an allow, of an exit request that the policy grants, or of a manual override, and only
//!   while no fault stands. (With [`SafeState::Unlocked`], a fault and the end of the service unlock too, whatever else stands here;
//!   only [`Fault::Obstructed`] locks all the same.)
//! - One visit, one opening. A second animal, and the same one again, needs the first visit to end ([`Event::Nobody`]) and an allow
//!   that rests on frames captured after the door has locked ([`State::not_before`]) alone.
//! - It closes after [`Settings::open_for`], after a passage, or on a denial, whichever comes first. What stands in the opening
//!   delays that, to [`Settings::max_open`] after the unlocking at the latest; nothing else does. Once the opening has been free for
//!   one event, locking is due, whatever comes into the opening afterwards.
//! - Two commands to the latch are never closer than [`Settings::min_interval`], a fault and the end of the service included: a lock
//!   that comes too early waits for the first permitted moment, an unlock that comes too early is refused. The interval counts as
//!   `max_open` at most, so that waiting never keeps a door open beyond its limit.
//! - A fault ends in the safe state and in nothing else; what stands in the opening delays it as it delays any closing. When the
//!   fault is over, the door is locked and needs a new decision.
//! - A person's *lock* beats allows and exits; an *unlock* ends with a fault, and beats denials, not faults.
//! - Time that goes backwards counts as standing still. A clock that stands still cannot close the door; the service watches for that.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod turn;

use std::fmt;
use std::time::Duration;

use crate::hw::actuator::Position;
use crate::hw::clock::Monotonic;
use crate::policy::fault::{Fault, Faults};

/// How the door behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long it stays unlocked for one animal, unless that passes earlier.
    pub open_for: Duration,
    /// How long it stays unlocked for one that leaves, unless that passes earlier.
    pub exit_open_for: Duration,
    /// The longest it is ever unlocked, whatever stands in the opening. A manual override and [`SafeState::Unlocked`] have limits
    /// of their own.
    pub max_open: Duration,
    /// Least time between two commands to the latch.
    pub min_interval: Duration,
    /// How long the latch may take to reach its position, where a sensor tells; longer is a jam. Counts as 1 ms at least.
    pub travel: Duration,
    /// Where the latch goes after a fault, at the start and at the end.
    pub safe_state: SafeState,
    /// Who may leave.
    pub exit: Exit,
    /// The longest a manual override lasts.
    pub max_override: Duration,
}

/// A latch's position after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SafeState {
    /// Nobody passes.
    #[default]
    Locked,
    /// Everybody passes: for a door that must never keep a pet out (or in).
    Unlocked,
}

impl SafeState {
    /// Where the latch is then.
    pub const fn position(self) -> Position {
        match self {
            Self::Locked => Position::Locked,
            Self::Unlocked => Position::Unlocked,
        }
    }
}

/// Who may leave, when the inside sensor or button asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exit {
    /// Nobody.
    #[default]
    Never,
    /// Anybody, except during a fault, and while somebody stands outside whom the rules deny.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            open_for: Duration::from_secs(8),
            exit_open_for: Duration::from_secs(5),
            max_open: Duration::from_secs(30),
            min_interval: Duration::from_secs(1),
            travel: Duration::from_secs(2),
            safe_state: SafeState::default(),
            exit: Exit::default(),
            max_override: Duration::from_secs(600),
        }
    }
}

/// A decision of the rules that lets somebody pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its number in the journal.
    pub decision: u64,
    /// The rule that made it.
    pub rule: String,
    /// Capture time of the oldest frame that it rests on.
    pub since: Monotonic,
}

/// What tells whether the opening is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sensor {
    /// A light beam or the like in the opening.
    Beam,
    /// The camera: an animal is seen in the opening.
    Camera,
}

/// What happens to a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Only time has passed: the deadline is reached.
    Tick,
    /// The rules let who stands there pass. It may come with every frame for which that holds; an allow that is refused is not kept.
    Allow(Grant),
    /// The rules do not let who stands there pass.
    Deny {
        /// Its number in the journal.
        decision: u64,
        /// The rule that made it; none when no rule matched.
        rule: Option<String>,
    },
    /// The visit has ended: nobody is there any more. Must come once after each visit at least.
    Nobody,
    /// Somebody went through, as a sensor of its own tells.
    Passed,
    /// The opening is not free.
    Obstructed(Sensor),
    /// The opening is free, as far as this sensor knows. While the door is open, becoming free counts as a passage.
    Free(Sensor),
    /// Where the latch is, as its sensor tells. Without a sensor this never comes, and the latch is believed to obey.
    Position(Position),
    /// The driver did not take the last command: nobody knows where the latch is.
    CommandFailed,
    /// Somebody inside wants to leave.
    ExitRequest,
    /// A person unlocks it for this long, [`Settings::max_override`] at most, however often it is asked for.
    OverrideUnlock(Duration),
    /// A person locks it for this long, [`Settings::max_override`] at most. Holds over allows, exits and the end of a fault.
    OverrideLock(Duration),
    /// A person ends an override.
    OverrideEnd,
    /// Something is wrong.
    Fault(Fault),
    /// It is right again. [`Fault::Jam`] and [`Fault::Forced`] also end when the latch was sent to locked and the sensor finds it
    /// there, [`Fault::Obstructed`] when the opening is free.
    Cleared(Fault),
    /// The service ends. The latch goes to the safe state, without waiting for the opening, since nobody watches it any longer. When
    /// it is there, no deadline is left, and nothing moves it any more; a latch that fails or jams is tried again for ever.
    Stop,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Unlock the latch.
    Unlock,
    /// Lock the latch.
    Lock,
    /// Record: something is wrong.
    Raised(Fault),
    /// Record: it is right again.
    Cleared(Fault),
    /// Record: the state has changed.
    Changed {
        /// State before.
        from: Phase,
        /// State now.
        to: Phase,
        /// Why.
        because: Because,
    },
}

/// The state, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not everything runs yet.
    Starting,
    /// Locked, and ready for an allow.
    Locked,
    /// On its way to unlocked (seen with a position sensor only).
    Unlocking,
    /// Unlocked for somebody; also at the end of a service whose safe state is unlocked.
    Open,
    /// To be locked: waits for the opening to be free, for the least interval, or for the latch to arrive.
    Relocking,
    /// A fault stands.
    Fault,
    /// A person has unlocked it.
    OverrideUnlocked,
    /// A person has locked it.
    OverrideLocked,
}

impl Phase {
    /// A word for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Locked => "locked",
            Self::Unlocking => "unlocking",
            Self::Open => "open",
            Self::Relocking => "relocking",
            Self::Fault => "fault",
            Self::OverrideUnlocked => "override unlocked",
            Self::OverrideLocked => "override locked",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the state changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The rules let somebody pass.
    Allowed(Grant),
    /// The rules deny who stands there.
    Denied {
        /// Number of the decision in the journal.
        decision: u64,
        /// The rule; none when no rule matched.
        rule: Option<String>,
    },
    /// Somebody inside asked.
    Exit,
    /// Somebody went through.
    Passed,
    /// It was open as long as it should.
    Timeout,
    /// It was open as long as it may, and the opening is not free.
    Limit,
    /// A person's command.
    Override,
    /// A person's command has ended.
    OverrideOver,
    /// Something is wrong.
    Fault(Fault),
    /// It is right again.
    Cleared(Fault),
    /// The service ends.
    Stop,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(grant) => write!(f, "rule {:?} allows it (decision {})", grant.rule, grant.decision),
            Self::Denied { decision, rule: Some(rule) } => write!(f, "rule {rule:?} denies it (decision {decision})"),
            Self::Denied { decision, rule: None } => write!(f, "no rule allows it (decision {decision})"),
            Self::Exit => f.write_str("somebody inside asked to leave"),
            Self::Passed => f.write_str("somebody went through"),
            Self::Timeout => f.write_str("the time for one animal is over"),
            Self::Limit => f.write_str("the longest time open is over, with something in the opening"),
            Self::Override => f.write_str("a person's command"),
            Self::OverrideOver => f.write_str("a person's command has ended"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Cleared(Fault::Starting) => f.write_str("pawgate is ready"),
            Self::Cleared(fault) => write!(f, "over: {fault}"),
            Self::Stop => f.write_str("pawgate ends"),
        }
    }
}

/// Why an allow, an exit request or an override did not unlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The service ends.
    Stopped,
    /// A fault stands.
    Fault(Fault),
    /// A person's command holds.
    Overridden,
    /// It is open already; that does not extend it.
    AlreadyOpen,
    /// It is about to lock.
    Closing,
    /// The visit had its opening.
    Served,
    /// Frames are among the evidence that were captured before the door was last locked (or that come from the future).
    OldFrames,
    /// The latch moved a moment ago.
    TooSoon,
    /// The exit policy says no.
    NoExit,
    /// Somebody stands outside whom the rules deny.
    DeniedOutside,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("pawgate ends"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Overridden => f.write_str("a person's command holds"),
            Self::AlreadyOpen => f.write_str("the door is open already"),
            Self::Closing => f.write_str("the door is about to lock"),
            Self::Served => f.write_str("the door has opened once for this visit"),
            Self::OldFrames => f.write_str("it rests on frames from before the door was locked"),
            Self::TooSoon => f.write_str("the latch moved a moment ago"),
            Self::NoExit => f.write_str("nobody may leave"),
            Self::DeniedOutside => f.write_str("somebody stands outside whom the rules deny"),
        }
    }
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The state afterwards.
    pub state: State,
    /// What is to be done.
    pub actions: Vec<Action>,
    /// When [`Event::Tick`] is due unless something happens earlier; later than `now`.
    pub deadline: Option<Monotonic>,
    /// Why the event did not unlock, where it asked for that.
    pub refused: Option<Refused>,
}

/// Who it is open for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Rules,
    Exit,
    Override,
    /// Nobody: it is unlocked because of a fault that is over.
    Nobody,
}

/// The time from unlocking to the moment at which locking is due.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opening {
    by: By,
    /// When it begins to close.
    until: Monotonic,
    /// When it locks, whatever is in the opening.
    limit: Monotonic,
    /// It locks as soon as the opening is free.
    closing: bool,
}

/// All that a door remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The latest time that was seen.
    seen: Monotonic,
    /// Where the latch was sent last; unknown at the start and after a failed command.
    latch: Option<Position>,
    /// When it was sent there.
    moved: Option<Monotonic>,
    /// Where its sensor found it last.
    sensor: Option<Position>,
    /// It has been where it was sent.
    reached: bool,
    /// Failed attempts since the last that succeeded.
    tries: u32,
    opening: Option<Opening>,
    /// Until when a person keeps it locked.
    held: Option<Monotonic>,
    faults: Faults,
    /// Something is in the opening, as the beam and as the camera tells.
    obstructed: [bool; 2],
    /// The visit had its opening.
    served: bool,
    /// The rules deny who stands outside.
    denied: bool,
    stopped: bool,
    not_before: Monotonic,
    shown: Phase,
    because: Because,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// A door about which nothing is known. Its first step sends the latch to the safe state, and [`Fault::Starting`] stands until it
    /// is cleared.
    pub fn new() -> Self {
        let mut faults = Faults::NONE;
        faults.insert(Fault::Starting);
        Self {
            seen: Monotonic::default(),
            latch: None,
            moved: None,
            sensor: None,
            reached: false,
            tries: 0,
            opening: None,
            held: None,
            faults,
            obstructed: [false; 2],
            served: false,
            denied: false,
            stopped: false,
            not_before: Monotonic::default(),
            shown: Phase::Starting,
            because: Because::Fault(Fault::Starting),
        }
    }

    /// The state, as people see it.
    pub const fn phase(&self) -> Phase {
        self.shown
    }

    /// [`Self::phase`] in a word, for records.
    pub const fn name(&self) -> &'static str {
        self.shown.name()
    }

    /// Where the latch was sent last; unknown at the start and after a failed command.
    pub const fn latch(&self) -> Option<Position> {
        self.latch
    }

    /// What is wrong.
    pub const fn faults(&self) -> Faults {
        self.faults
    }

    /// When the door was last locked and ready. Frames captured earlier do not count for another opening: the caller drops them from
    /// the vote, and the door refuses an allow that rests on one.
    pub const fn not_before(&self) -> Monotonic {
        self.not_before
    }
}

/// What `event` at the time `now` does to a door in `state`. Never panics, and takes any event in any state.
pub fn step(settings: &Settings, state: &State, event: &Event, now: Monotonic) -> Step {
    turn::Turn::new(settings, state, now).take(event)
}
