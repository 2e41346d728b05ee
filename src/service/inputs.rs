//! Buttons and beams as events of the door.

use super::Sink;
use super::chain::Chain;
use crate::hw::clock::Clock;

/// The inputs of a door.
#[derive(Default)]
pub struct Inputs;

impl Inputs {
    /// Looks at all of them.
    pub fn poll(&mut self, _chain: &mut Chain, _clock: &dyn Clock, _sink: &mut dyn Sink) {}
}
