//! A clock that stands still until it is told otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Clock, Monotonic, Now};

/// Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Simulated(Arc<Mutex<Now>>);

impl Simulated {
    /// The monotonic clock at zero, the wall clock at `wall`.
    pub fn at(wall: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Now { mono: Monotonic::default(), wall })))
    }

    /// Lets `duration` pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.mono = now.mono + duration;
        now.wall = now
            .wall
            .saturating_add(SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX);
    }

    /// Sets the wall clock, as an administrator or NTP does; the monotonic clock goes on.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wall = wall;
    }
}

impl Clock for Simulated {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
