//! The feeder as a pure function: `step(settings, state, event, now) → (state, actions, deadline)`. A portion is written to the
//! ledger before it is given, so that it is never given twice.
//!
//! It counts portions, not meals of a pet: quotas of one pet are rules ([`super::rules`]), the ledger is the journal's.
//!
//! One portion goes this way: [`Action::Reserve`] → the ledger writes it durably → [`Event::Reserved`] → [`Action::Dispense`] →
//! [`Event::Dispensed`] → [`Action::Settle`]. What holds for any order of events and times, crashes between any two included:
//!
//! - No portion without a durable reservation, and no more than one for each: the numbers are never used again, and an answer counts
//!   only while it is waited for. Late, repeated and foreign answers change nothing.
//! - A reservation whose end nobody knows (crash, jam, no answer) counts as given.
//! - Never more than [`Settings::max_per_day`] on one date, never two portions closer than [`Settings::min_interval`].
//! - Without a ledger that was read and can be written, and during any fault, nothing is given. What is left of a request then is
//!   dropped, and so it is when another animal comes ([`Event::Deny`]).
//! - One visit, one request.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::civil::Date;

use crate::hw::clock::Monotonic;
use crate::policy::fault::{Fault, Faults};

/// How the feeder behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most portions a calendar day, all pets together.
    pub max_per_day: u32,
    /// Least time between two portions.
    pub min_interval: Duration,
    /// How long the ledger may take to write a reservation, and then the dispenser to answer; longer is a fault. Counts as
    /// 1 ms at least.
    pub portion_time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_per_day: 12, min_interval: Duration::from_secs(5), portion_time: Duration::from_secs(10) }
    }
}

/// A decision of the rules to feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number in the journal; ascending.
    pub decision: u64,
    /// The rule that made it.
    pub rule: String,
    /// Who is fed, where the rule knows.
    pub pet: Option<String>,
    /// How many portions.
    pub portions: u32,
    /// The date in the configured zone.
    pub day: Date,
}

/// One portion, to be written to the ledger before it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Unique for ever.
    pub id: u64,
    /// The decision that it belongs to.
    pub decision: u64,
    /// The rule that made it.
    pub rule: String,
    /// Who is fed, where the rule knows.
    pub pet: Option<String>,
    /// The date on which it counts.
    pub day: Date,
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The portion is out.
    Given,
    /// The dispenser was not told to give it. Counts for no quota.
    NotGiven,
    /// Nobody knows. Counts as given.
    Unknown,
}

impl Outcome {
    /// A word for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::NotGiven => "not given",
            Self::Unknown => "unknown",
        }
    }
}

/// What the ledger holds when it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Larger than the number of any reservation that was ever written.
    pub next_id: u64,
    /// Reservations a date, all but those that were not given. Today and the days around it suffice.
    pub counts: Vec<(Date, u32)>,
    /// Reservations that were never settled.
    pub unsettled: Vec<u64>,
}

/// What happens to a feeder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Only time has passed: the deadline is reached.
    Tick,
    /// The rules feed who stands there. It may come with every frame for which that holds; one that is refused is not kept.
    Request(Request),
    /// The rules do not feed who stands there.
    Deny,
    /// The visit has ended: nobody is there any more. Must come once after each visit at least.
    Nobody,
    /// The ledger has been opened and read, and can be written. Ends [`Fault::Ledger`].
    Restored(Ledger),
    /// This reservation is durable.
    Reserved(u64),
    /// The ledger could not be read or written.
    LedgerFailed,
    /// The dispenser has given this reservation's portion.
    Dispensed(u64),
    /// The dispenser failed at it.
    Failed(u64),
    /// Something is wrong.
    Fault(Fault),
    /// It is right again. Not for [`Fault::Ledger`], which ends with [`Event::Restored`] only.
    Cleared(Fault),
    /// The service ends. There is no deadline any more once nothing is waited for. Nothing leads out of it.
    Stop,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this to the ledger and make sure that it stays (`fsync`), then answer [`Event::Reserved`] or [`Event::LedgerFailed`].
    Reserve(Reservation),
    /// Give one portion, then answer [`Event::Dispensed`] or [`Event::Failed`].
    Dispense {
        /// Its reservation.
        id: u64,
    },
    /// Write to the ledger what became of a reservation; answer [`Event::LedgerFailed`] if that fails.
    Settle {
        /// The reservation.
        id: u64,
        /// What became of it.
        outcome: Outcome,
    },
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
    /// Waits for a request.
    Ready,
    /// Waits for the ledger.
    Reserving,
    /// Waits for the dispenser.
    Dispensing,
    /// Waits for the least interval before the next portion of the same request.
    Pausing,
    /// A fault stands.
    Fault,
    /// The service has ended.
    Stopped,
}

impl Phase {
    /// A word for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Reserving => "reserving",
            Self::Dispensing => "dispensing",
            Self::Pausing => "pausing",
            Self::Fault => "fault",
            Self::Stopped => "stopped",
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
    /// The rules feed somebody.
    Requested {
        /// Number of the decision in the journal.
        decision: u64,
        /// The rule.
        rule: String,
    },
    /// A portion is out.
    Given,
    /// The portions of the day are given.
    DayFull,
    /// The rules do not feed who stands there.
    Denied,
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
            Self::Requested { decision, rule } => write!(f, "rule {rule:?} feeds (decision {decision})"),
            Self::Given => f.write_str("a portion is out"),
            Self::DayFull => f.write_str("the day's portions are given"),
            Self::Denied => f.write_str("the rules do not feed who stands there"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Cleared(Fault::Starting) => f.write_str("pawgate is ready"),
            Self::Cleared(fault) => write!(f, "over: {fault}"),
            Self::Stop => f.write_str("pawgate ends"),
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The service ends.
    Stopped,
    /// A fault stands.
    Fault(Fault),
    /// A portion is on its way.
    Busy,
    /// The decision, or a later one, was carried out before.
    Repeated,
    /// The visit had its portions.
    Served,
    /// The last portion was a moment ago.
    TooSoon,
    /// The day's portions are given.
    DayFull,
    /// No portions were asked for.
    Nothing,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("pawgate ends"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Busy => f.write_str("a portion is on its way"),
            Self::Repeated => f.write_str("this decision was carried out before"),
            Self::Served => f.write_str("this visit had its portions"),
            Self::TooSoon => f.write_str("the last portion was a moment ago"),
            Self::DayFull => f.write_str("the day's portions are given"),
            Self::Nothing => f.write_str("no portions were asked for"),
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
    /// Why a request is not carried out.
    pub refused: Option<Refused>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// A request.
    Nothing,
    /// The ledger, for this reservation, so long.
    Ledger(u64, Monotonic),
    /// The dispenser, for this reservation, so long.
    Dispenser(u64, Monotonic),
    /// The least interval.
    Interval(Monotonic),
}

/// All that a feeder remembers while it runs. What must outlive a crash is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The latest time that was seen.
    seen: Monotonic,
    next_id: u64,
    /// Reservations a date.
    counts: BTreeMap<Date, u32>,
    /// When the dispenser was last told to give, or may have been.
    last: Option<Monotonic>,
    /// The latest decision that was carried out.
    decision: Option<u64>,
    /// The request that is carried out; portions left to reserve.
    request: Option<Request>,
    wait: Wait,
    /// A reservation that is no longer waited for, and the date it counts on: when it turns out durable after all, it was not given.
    abandoned: Option<(u64, Date)>,
    /// The visit had its portions.
    served: bool,
    stopped: bool,
    faults: Faults,
    shown: Phase,
    because: Because,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// A feeder about which nothing is known. It gives nothing before [`Event::Restored`] has come and [`Fault::Starting`] is cleared.
    pub fn new() -> Self {
        let mut faults = Faults::NONE;
        faults.insert(Fault::Starting);
        faults.insert(Fault::Ledger);
        Self {
            seen: Monotonic::default(),
            next_id: 0,
            counts: BTreeMap::new(),
            last: None,
            decision: None,
            request: None,
            wait: Wait::Nothing,
            abandoned: None,
            served: false,
            stopped: false,
            faults,
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

    /// What is wrong.
    pub const fn faults(&self) -> Faults {
        self.faults
    }

    /// Portions that count on this date.
    pub fn count(&self, day: Date) -> u32 {
        self.counts.get(&day).copied().unwrap_or(0)
    }
}

/// What `event` at the time `now` does to a feeder in `state`. Never panics, and takes any event in any state.
pub fn step(settings: &Settings, state: &State, event: &Event, now: Monotonic) -> Step {
    turn::Turn::new(settings, state, now).take(event)
}
