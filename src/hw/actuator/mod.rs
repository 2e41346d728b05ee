//! Actuators: what moves the door's latch and the feeder's screw. They do as they are told; when, decides [`crate::policy`].
//!
//! | module | holds |
//! |---|---|
//! | [`gpio`] | lines of the GPIO character device: latches that a line holds, or that pulses move |
//! | [`servo`] | a servo on a hardware PWM |
//! | [`motor`] | a feeder's motor on a line |
//! | [`pin`] | a file that holds its level when its process is gone, as a pin does: for tests of that |
//! | [`settings`] | how a latch is connected; opening it, and sending it to safety after the service's death |
//! | [`guard`] | a thread of its own that locks whatever becomes of who decides |
//! | `sim` | a latch and a dispenser that do not exist, and are stricter than real ones |

pub mod gpio;
pub mod guard;
pub mod motor;
pub mod pin;
pub mod servo;
pub mod settings;
mod sim;
mod timed;

use std::fmt;

pub use sim::{Movement, Portion, SimulatedDispenser, SimulatedLatch, Violation};

/// Where a latch is, or is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// Nobody passes.
    Locked,
    /// Whoever pushes passes.
    Unlocked,
}

impl Position {
    /// A word for records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an actuator did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The line, pin or bus did not take the command.
    #[error("{device} {}", trouble(cause))]
    Device {
        /// Which device.
        device: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The device took the command and reports that it could not carry it out.
    #[error("{device} could not {what}: look whether something blocks it")]
    Blocked {
        /// Which device.
        device: String,
        /// What it was to do.
        what: String,
    },
    /// The command breaks a rule that the simulator keeps; only a mistake in pawgate leads here.
    #[error("the simulated {device} was used wrongly ({violation}): please report this")]
    Refused {
        /// Which device.
        device: String,
        /// The rule.
        violation: Violation,
    },
}

/// What the system's answer means, and what to do.
fn trouble(cause: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match cause.kind() {
        // The cause says what to do.
        ErrorKind::NotFound => format!("is not there ({cause})"),
        ErrorKind::PermissionDenied | ErrorKind::ResourceBusy => format!("cannot be used ({cause})"),
        _ => format!(
            "does not take commands ({cause}): look at its wiring and power, and whether the user may use it (groups gpio, video)"
        ),
    }
}

/// The door's latch.
///
/// A command returns when the line is set, before the bolt has moved. An error leaves the position unknown.
pub trait Latch: Send {
    /// Lets whoever pushes pass.
    fn unlock(&mut self) -> Result<(), Error>;

    /// Lets nobody pass. Must work at any time, also after an error.
    fn lock(&mut self) -> Result<(), Error>;

    /// Where the bolt is, as its sensor tells; `None` without a sensor, or while the bolt is on its way.
    fn position(&mut self) -> Result<Option<Position>, Error>;

    /// Moves it to `position`.
    fn go(&mut self, position: Position) -> Result<(), Error> {
        match position {
            Position::Locked => self.lock(),
            Position::Unlocked => self.unlock(),
        }
    }
}

/// The feeder's screw, flap or drum.
pub trait Dispenser: Send {
    /// Gives one portion and returns when it is out, which may take seconds. `id` is the reservation that it belongs to, unique for
    /// ever. After an error, nobody knows whether it was given.
    fn dispense(&mut self, id: u64) -> Result<(), Error>;
}
