//! Time: a monotonic clock for durations and deadlines, a wall clock for people and for time windows.
//!
//! Deadlines only ever come from [`Monotonic`]: the wall clock jumps (no battery on a Raspberry Pi, NTP at boot). [`Simulated`] is
//! the one fake clock of all tests, of `replay` and of `demo`.

mod sim;

use std::ops::Add;
use std::time::{Duration, Instant};

use jiff::Timestamp;
pub use sim::Simulated;

/// Time since an arbitrary start; never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The moment `since_start` after the clock's start.
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time since the clock's start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    /// Saturates: a deadline that far away never comes.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For durations and deadlines.
    pub mono: Monotonic,
    /// For people, and for rules with times of day.
    pub wall: Timestamp,
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Both clocks, read together.
    fn now(&self) -> Now;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct System {
    start: Instant,
}

impl System {
    /// Starts the monotonic clock at zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for System {
    fn now(&self) -> Now {
        Now { mono: Monotonic(self.start.elapsed()), wall: Timestamp::now() }
    }
}
