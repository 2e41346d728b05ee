//! The door as a pure function: `step(state, event, now) → (state, actions, deadline)`.

use std::time::Duration;

/// How the door behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long it stays unlocked for one animal, unless that passes earlier.
    pub open_for: Duration,
    /// The longest it is ever unlocked, whatever stands in the opening.
    pub max_open: Duration,
    /// Least time between two movements of the latch.
    pub min_interval: Duration,
    /// How long the latch may take to reach its position, where a sensor tells; longer is a jam.
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

/// Who may leave, when the inside sensor or button asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exit {
    /// Nobody.
    #[default]
    Never,
    /// Anybody, except during a fault.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            open_for: Duration::from_secs(8),
            max_open: Duration::from_secs(30),
            min_interval: Duration::from_secs(1),
            travel: Duration::from_secs(2),
            safe_state: SafeState::default(),
            exit: Exit::default(),
            max_override: Duration::from_secs(600),
        }
    }
}
