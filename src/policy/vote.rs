//! Weighing evidence over several frames: one frame never opens, and too few frames are unknown.

use std::time::Duration;

/// How many frames must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Frames that must agree (N), at least 2.
    pub agree: usize,
    /// Of the last so many (M), at least N.
    pub of: usize,
    /// None of them older than this (T).
    pub within: Duration,
    /// Frames among them that may show another animal.
    pub contradicting: usize,
    /// Frames that must show an animal for a rule that denies it, 2 to N: such a rule matches more easily than one that allows.
    pub deny_agree: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { agree: 3, of: 5, within: Duration::from_millis(2500), contradicting: 1, deny_agree: 2 }
    }
}
