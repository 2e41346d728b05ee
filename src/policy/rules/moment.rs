//! The moment of a decision: both clocks, the zone, and whether the wall clock can be believed.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::TimeWindow;
use crate::hw::clock::{Monotonic, Now};

/// When a decision is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// Both clocks.
    pub now: Now,
    /// The zone in which times of day and calendar days are meant.
    pub zone: TimeZone,
    /// Whether the wall clock can be believed; see [`ClockWatch`].
    pub trusted: bool,
}

impl TimeWindow {
    /// Whether the clock on the wall shows a time in the window, at `wall` in `zone`.
    ///
    /// What the clock shows decides: an hour that it skips in spring is in no window, and of an hour that it repeats in autumn
    /// both passes are.
    pub fn contains(&self, wall: Timestamp, zone: &TimeZone) -> bool {
        let local = zone.to_datetime(wall);
        let begins = |day| self.days.is_empty() || self.days.contains(&day);
        let (day, time) = (local.weekday(), local.time());
        if self.from < self.to {
            begins(day) && self.from <= time && time < self.to
        } else {
            (begins(day) && self.from <= time) || (begins(day.previous()) && time < self.to)
        }
    }
}

/// Before this the wall clock was never set: pawgate is younger. 2026-01-01T00:00:00Z.
pub const EARLIEST: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// How long the wall clock must run evenly, after the start and after a jump, before it is believed.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Difference between the advances of the two clocks from one look to the next that is a jump, when the looks follow each other
/// closely…
pub const JUMP: Duration = Duration::from_secs(5);
/// …and how much of the time between the looks is added to it, so that a clock that NTP slews does not count: 1/10, because chrony
/// slews by up to 8.3 %.
const SLEW: u32 = 10;

/// Compares the two clocks from look to look, and tells whether the wall clock can be believed.
///
/// A Raspberry Pi has no battery: it starts at some earlier time, and NTP sets it forward seconds or minutes later. So the wall
/// clock has to run evenly for [`SETTLE`] first. A machine that was suspended looks the same as a clock that was set forward.
#[derive(Debug, Clone, Default)]
pub struct ClockWatch {
    last: Option<Now>,
    settled_at: Option<Monotonic>,
}

impl ClockWatch {
    /// Has not looked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a wall clock that is known to be right at the start, because the kernel says that it is synchronised or because it is
    /// simulated: it is believed from the first look until its first jump.
    pub fn synchronised() -> Self {
        Self { last: None, settled_at: Some(Monotonic::default()) }
    }

    /// Looks at the clocks: whether the wall clock can be believed now. Look at least once a minute; the more rarely, the larger
    /// the jumps that go unnoticed.
    pub fn look(&mut self, now: Now) -> bool {
        let jumped = self.last.is_some_and(|last| jumped(last, now));
        self.last = Some(now);
        if jumped || now.wall < EARLIEST {
            self.settled_at = Some(now.mono + SETTLE);
        }
        let settled_at = *self.settled_at.get_or_insert(now.mono + SETTLE);
        now.mono >= settled_at
    }

    /// What the last look said.
    pub fn is_good(&self) -> bool {
        self.last.zip(self.settled_at).is_some_and(|(last, settled_at)| last.mono >= settled_at)
    }
}

fn jumped(last: Now, now: Now) -> bool {
    let elapsed = now.mono.since(last.mono);
    let advance = now.wall.duration_since(last.wall);
    let apart = advance.saturating_sub(SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX)).unsigned_abs();
    now.mono < last.mono || apart > JUMP.saturating_add(elapsed / SLEW)
}
