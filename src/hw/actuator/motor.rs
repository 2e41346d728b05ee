//! What gives a portion: a line that is active for a time, with a motor, a screw or a flap behind it.

use std::time::Duration;

use super::gpio::{Line, LineSettings, Pin};
use super::{Dispenser, Error};

/// How long the line may be active for one portion.
pub const TURN: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// A motor, and how it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MotorSettings {
    /// The line.
    pub line: LineSettings,
    /// How long it is active for one portion, within [`TURN`].
    pub turn: Duration,
}

impl MotorSettings {
    /// Takes the line; the motor stands still.
    ///
    /// # Errors
    /// The line is not there, or held by somebody.
    pub fn open(&self) -> Result<Box<dyn Dispenser>, Error> {
        Ok(Box::new(Motor { line: Line::output(&self.line, false)?, turn: self.turn.clamp(*TURN.start(), *TURN.end()) }))
    }
}

/// A motor on a line. [`Dispenser::dispense`] takes as long as it turns.
struct Motor<P: Pin> {
    line: Line<P>,
    turn: Duration,
}

impl<P: Pin> Dispenser for Motor<P> {
    fn dispense(&mut self, _id: u64) -> Result<(), Error> {
        let started = self.line.set(true);
        if started.is_ok() {
            std::thread::sleep(self.turn);
        }
        // Stopped whatever became of the start: a line that reports an error may be active all the same.
        self.line.set(false)?;
        started
    }
}

impl<P: Pin> Drop for Motor<P> {
    fn drop(&mut self) {
        if let Err(error) = self.line.set(false) {
            log::error!("the feeder's motor may be turning: {error}");
        }
    }
}
