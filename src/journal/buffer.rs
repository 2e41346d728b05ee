//! A bounded row of events that gives up the least important first, and counts what it gives up.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::record::Kind;

/// Events that were given up, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lost(BTreeMap<Kind, u64>);

impl Lost {
    pub fn add(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (&kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// `12 events (10 motion, 2 door)`
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let kinds: Vec<_> = self.0.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(f, "{total} event{} ({})", if total == 1 { "" } else { "s" }, kinds.join(", "))
    }
}

/// What an entry is about.
pub(super) trait HasKind {
    fn kind(&self) -> Kind;
}

/// Entries in the order in which they came.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    capacity: usize,
    entries: VecDeque<T>,
    lost: Lost,
}

impl<T: HasKind> Buffer<T> {
    /// Holds at most `capacity` entries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: VecDeque::new(), lost: Lost::default() }
    }

    /// Takes an entry in. Where there is no room, the oldest minor entry makes some; without one, a minor newcomer is given up
    /// itself, and any other takes the place of the oldest.
    pub fn push(&mut self, entry: T) {
        if self.entries.len() < self.capacity {
            self.entries.push_back(entry);
            return;
        }
        let given_up = match self.entries.iter().position(|e| e.kind().is_minor()) {
            Some(minor) => self.entries.remove(minor),
            None if entry.kind().is_minor() => return self.lost.add(entry.kind()),
            None => self.entries.pop_front(),
        };
        if let Some(given_up) = given_up {
            self.lost.add(given_up.kind());
        }
        self.entries.push_back(entry);
    }

    /// Everything, and what was lost since the last time.
    pub fn take(&mut self) -> (VecDeque<T>, Lost) {
        (std::mem::take(&mut self.entries), std::mem::take(&mut self.lost))
    }

    /// What was lost since the last time.
    pub fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    /// What was lost since it was last taken.
    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl HasKind for (u32, Kind) {
        fn kind(&self) -> Kind {
            self.1
        }
    }

    #[test]
    fn motion_goes_before_decisions() {
        let mut buffer = Buffer::new(3);
        let kinds = [Kind::Decision, Kind::Motion, Kind::Fault, Kind::Door, Kind::Motion, Kind::Decision];
        for entry in (0..).zip(kinds) {
            buffer.push(entry);
        }
        assert_eq!((buffer.len(), buffer.is_empty()), (3, false));
        let (kept, lost) = buffer.take();
        assert_eq!(kept.iter().map(|e| e.0).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(lost.to_string(), "3 events (2 motion, 1 decision)");
        assert_eq!(buffer.take_lost().total(), 0);
    }

    #[test]
    fn nothing_is_lost_while_there_is_room() {
        let mut buffer = Buffer::new(2);
        buffer.push((0, Kind::Motion));
        buffer.push((1, Kind::Still));
        assert_eq!(buffer.take().1, Lost::default());
    }
}
