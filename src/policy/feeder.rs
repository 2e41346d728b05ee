//! The feeder as a pure function: `step(state, event, now) → (state, actions, deadline)`. A portion is written to the ledger before
//! it is given, so that it is never given twice.

use std::time::Duration;

/// How the feeder behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most portions a calendar day, all pets together.
    pub max_per_day: u32,
    /// Least time between two portions.
    pub min_interval: Duration,
    /// How long a portion may take, from the request to the dispenser's answer; longer is a jam.
    pub portion_time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_per_day: 12, min_interval: Duration::from_secs(5), portion_time: Duration::from_secs(10) }
    }
}
