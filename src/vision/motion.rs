//! Whether something moves: a cheap difference on a small grey picture. It decides whether to spend a classification; it never
//! opens anything.

use std::time::Duration;

/// When something counts as moving.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Change of a small picture's brightness that counts, 1…255.
    pub threshold: u8,
    /// Least share of the region that has to change, 0…1.
    pub min_area: f32,
    /// How long nothing must move before the picture is at rest.
    pub still_after: Duration,
    /// Margin around the moving part, as a share of its size.
    pub margin: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { threshold: 12, min_area: 0.01, still_after: Duration::from_secs(2), margin: 0.25 }
    }
}
