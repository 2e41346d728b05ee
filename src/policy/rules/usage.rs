//! When and how often each rule acted, for cooldowns and quotas.
//!
//! What happened in this process is timed by the monotonic clock; what was restored after a restart only has a wall time. Where
//! the two clocks leave a choice, the one that grants less is taken.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::{MAX_COUNT, MAX_PERIOD, Moment, Period};
use crate::hw::clock::{Monotonic, Now};

/// How long an entry is kept: the longest period that a rule may have, and a day for calendar days.
const KEEP: Duration = MAX_PERIOD.saturating_add(Duration::from_secs(86_400));

/// When and how often each rule acted. Memory is bounded: entries in number by the largest quota and in time by the longest
/// period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(BTreeMap<String, VecDeque<Entry>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    wall: Timestamp,
    /// When this process learnt of it: that it happened, or that it had happened before.
    known: Monotonic,
    restored: bool,
    count: u32,
}

impl Usage {
    /// The rule acts at `now`: the door opens once, or the feeder gives `count` portions. Call it before the action, so that a
    /// failure cannot repeat it.
    pub fn used(&mut self, rule: &str, now: Now, count: u32) {
        self.add(rule, Entry { wall: now.wall, known: now.mono, restored: false, count });
    }

    /// The rule acted at `wall`, before this process started. Restore oldest first, before the first decision; `now` is the
    /// present.
    pub fn restore(&mut self, rule: &str, wall: Timestamp, count: u32, now: Now) {
        self.add(rule, Entry { wall, known: now.mono, restored: true, count });
    }

    /// Drops what no rule can count any more. The wall clock plays no part: set wrongly, it would empty a used quota.
    pub fn prune(&mut self, now: Monotonic) {
        for entries in self.0.values_mut() {
            entries.retain(|entry| now.since(entry.known) <= KEEP);
        }
        self.0.retain(|_, entries| !entries.is_empty());
    }

    /// Rest of the rule's cooldown; none when it is over.
    pub(super) fn cooling(&self, rule: &str, cooldown: Duration, at: &Moment) -> Option<Duration> {
        let age = self.of(rule).map(|entry| entry.age(at)).min()?;
        cooldown.checked_sub(age).filter(|rest| !rest.is_zero())
    }

    /// How often the rule acted in the period that ends at the moment. A calendar day counts everything of today *or later*, so
    /// that a clock that is set back does not fill the quota again.
    pub(super) fn spent(&self, rule: &str, period: Period, at: &Moment) -> u32 {
        let date = |wall| at.zone.to_datetime(wall).date();
        let counts = |entry: &&Entry| match period {
            Period::Day => date(entry.wall) >= date(at.now.wall),
            Period::Last(period) => entry.age(at) < period,
        };
        self.of(rule).filter(counts).fold(0, |sum, entry| sum.saturating_add(entry.count))
    }

    fn of(&self, rule: &str) -> impl Iterator<Item = &Entry> {
        self.0.get(rule).into_iter().flatten()
    }

    fn add(&mut self, rule: &str, entry: Entry) {
        if entry.count == 0 {
            return;
        }
        let entries = self.0.entry(rule.to_owned()).or_default();
        // Each entry counts at least once, so that the last MAX_COUNT of them exhaust any quota.
        if entries.len() >= MAX_COUNT as usize {
            entries.pop_front();
        }
        entries.push_back(entry);
    }
}

impl Entry {
    /// Time since then, at least. What was restored is at least as old as this process knows of it, and as old as the wall clock
    /// says if that can be believed.
    fn age(&self, at: &Moment) -> Duration {
        let known = at.now.mono.since(self.known);
        if !self.restored || !at.trusted {
            return known;
        }
        let by_wall = Duration::try_from(at.now.wall.duration_since(self.wall)).unwrap_or(Duration::ZERO);
        known.max(by_wall)
    }
}
