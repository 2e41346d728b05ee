//! What can be wrong with a door or a feeder. A fault never widens access: while one stands, nothing opens and nothing is given.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Not everything that a decision needs runs yet. Doors and feeders begin with it; the caller clears it.
    Starting,
    /// No usable frames.
    Camera,
    /// Frames cannot be classified.
    Classifier,
    /// A clock jumped or stands still.
    Clock,
    /// No valid configuration.
    Config,
    /// A part of the service ended or hangs.
    Service,
    /// The latch's driver refused a command. Whoever drives it clears this after a command that succeeded.
    Latch,
    /// The latch did not reach its position, or left it towards locked.
    Jam,
    /// The latch is unlocked although it was locked.
    Forced,
    /// The opening was not free when the door had been open for the longest time allowed.
    Obstructed,
    /// The dispenser failed or did not answer.
    Dispenser,
    /// The ledger cannot be written durably.
    Ledger,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Starting,
        Self::Camera,
        Self::Classifier,
        Self::Clock,
        Self::Config,
        Self::Service,
        Self::Latch,
        Self::Jam,
        Self::Forced,
        Self::Obstructed,
        Self::Dispenser,
        Self::Ledger,
    ];

    /// A word for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Camera => "camera",
            Self::Classifier => "classifier",
            Self::Clock => "clock",
            Self::Config => "config",
            Self::Service => "service",
            Self::Latch => "latch",
            Self::Jam => "jam",
            Self::Forced => "forced",
            Self::Obstructed => "obstructed",
            Self::Dispenser => "dispenser",
            Self::Ledger => "ledger",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "not everything runs yet",
            Self::Camera => "no usable pictures from the camera",
            Self::Classifier => "pictures cannot be classified",
            Self::Clock => "the clock jumped or stands still",
            Self::Config => "no valid configuration",
            Self::Service => "a part of the service ended or hangs",
            Self::Latch => "the latch's driver refused a command",
            Self::Jam => "the latch did not reach its position",
            Self::Forced => "the latch is unlocked although it was locked",
            Self::Obstructed => "the opening was not free at the longest time it may be open",
            Self::Dispenser => "the dispenser failed or did not answer",
            Self::Ledger => "the ledger cannot be written",
        })
    }
}

/// A set of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u16);

impl Faults {
    /// None.
    pub const NONE: Self = Self(0);

    /// Adds one; whether it was not there before.
    pub fn insert(&mut self, fault: Fault) -> bool {
        let before = *self;
        self.0 |= 1 << fault as u16;
        *self != before
    }

    /// Takes one out; whether it was there.
    pub fn remove(&mut self, fault: Fault) -> bool {
        let before = *self;
        self.0 &= !(1 << fault as u16);
        *self != before
    }

    /// Whether it is among them.
    pub const fn contains(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u16) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of [`Fault::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |&fault| self.contains(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = Faults::NONE;
        for (n, fault) in Fault::ALL.into_iter().enumerate() {
            assert!(!set.contains(fault));
            assert!(set.insert(fault) && !set.insert(fault));
            assert_eq!(set.iter().count(), n + 1);
        }
        for fault in Fault::ALL {
            assert!(set.remove(fault) && !set.remove(fault));
        }
        assert!(set.is_empty());
    }
}
