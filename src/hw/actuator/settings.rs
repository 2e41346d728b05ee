//! How a latch is connected, and how it is opened: by the service, and by `pawgate safe-state` after the service's death.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::gpio::{GpioHold, GpioPulse, LineSettings};
use super::pin::PinLatch;
use super::servo::{ServoLatch, ServoSettings};
use super::{Error, Latch, Position};
use crate::hw::clock::Monotonic;
use crate::hw::inputs::{self, Debounce, Input, InputSettings};

/// How often and how long apart [`drive_safe`] tries: a line may be held for a moment longer by the process that has just died.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// How long a position sensor's contact may bounce.
const BOUNCE: Duration = Duration::from_millis(20);

/// What moves the bolt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drive {
    /// A line that holds it.
    GpioHold {
        /// The line.
        line: LineSettings,
        /// Where the bolt is while the line is active. Where it goes without power follows from that, and should be the safe position.
        energised: Position,
    },
    /// Two lines that give pulses.
    GpioPulse {
        /// The line that unlocks.
        unlock: LineSettings,
        /// The line that locks.
        lock: LineSettings,
        /// How long a pulse is, within [`super::gpio::PULSE`].
        width: Duration,
    },
    /// A servo.
    Servo(ServoSettings),
    /// Nothing: a file holds the level, for simulations.
    PinFile {
        /// The file.
        path: PathBuf,
        /// Least time between two commands.
        interval: Duration,
    },
}

/// What tells where the bolt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorSettings {
    /// The input.
    pub input: InputSettings,
    /// Where the bolt is while the input is active; else it is in the other place.
    pub active: Position,
}

/// A latch, and how it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatchSettings {
    /// What moves it.
    pub drive: Drive,
    /// What tells where it is, if anything does.
    pub sensor: Option<SensorSettings>,
}

impl LatchSettings {
    /// Takes the devices and sends the latch to `safe`. (A [`Drive::GpioPulse`] gets a pulse; the others get the level or the width at
    /// which they stay.) A latch that goes keeps its level: [`super::guard::Guarded`] sees to the end.
    ///
    /// # Errors
    ///
    /// A device is not there, held by somebody, or does not take the command.
    pub fn open(&self, safe: Position) -> Result<Box<dyn Latch>, Error> {
        let latch = self.drive.open(safe)?;
        let Some(sensor) = &self.sensor else { return Ok(latch) };
        let input = sensor.input.open("position sensor").map_err(sensor_failed)?;
        Ok(Box::new(Sensed { latch, input, active: sensor.active, debounce: Debounce::new(BOUNCE), start: Instant::now() }))
    }
}

impl Drive {
    fn open(&self, safe: Position) -> Result<Box<dyn Latch>, Error> {
        Ok(match self {
            Self::GpioHold { line, energised } => Box::new(GpioHold::open(line, *energised, safe)?),
            Self::GpioPulse { unlock, lock, width } => {
                let mut latch = GpioPulse::open(unlock, lock, *width)?;
                latch.go(safe)?;
                Box::new(latch)
            }
            Self::Servo(settings) => Box::new(ServoLatch::open(settings, safe)?),
            Self::PinFile { path, interval } => Box::new(PinLatch::open(path, safe, *interval)?),
        })
    }
}

/// Opens the latch afresh, sends it to `safe`, and lets go of it: a pulse is waited for, and so is a servo's travel. The sensor is not
/// asked, so that one that is broken is in nobody's way. Tries for a second.
///
/// # Errors
///
/// As [`LatchSettings::open`], from the last attempt.
pub fn drive_safe(settings: &LatchSettings, safe: Position) -> Result<(), Error> {
    let mut result = settings.drive.open(safe).map(drop);
    for _ in 1..TRIES {
        if result.is_ok() {
            break;
        }
        sleep(PAUSE);
        result = settings.drive.open(safe).map(drop);
    }
    result
}

fn sensor_failed(error: inputs::Error) -> Error {
    Error::Device { device: format!("the {}", error.input), cause: error.cause }
}

/// A latch with a sensor beside it.
struct Sensed {
    latch: Box<dyn Latch>,
    input: Box<dyn Input>,
    active: Position,
    debounce: Debounce,
    start: Instant,
}

impl Latch for Sensed {
    fn unlock(&mut self) -> Result<(), Error> {
        self.latch.unlock()
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.latch.lock()
    }

    /// None while the contact bounces.
    fn position(&mut self) -> Result<Option<Position>, Error> {
        // What the drive has to tell is an error, if anything.
        self.latch.position()?;
        let active = self.input.active().map_err(|error| {
            self.debounce.reset();
            sensor_failed(error)
        })?;
        self.debounce.step(active, Monotonic::new(self.start.elapsed()));
        let other = match self.active {
            Position::Locked => Position::Unlocked,
            Position::Unlocked => Position::Locked,
        };
        let settled = self.debounce.level().filter(|_| self.debounce.is_settled());
        Ok(settled.map(|active| if active { self.active } else { other }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::actuator::pin::{PinFile, history};
    use std::fs;

    fn settings(folder: &tempfile::TempDir) -> LatchSettings {
        let path = folder.path().join("latch");
        let sensor = SensorSettings { input: InputSettings::File(folder.path().join("bolt")), active: Position::Locked };
        LatchSettings { drive: Drive::PinFile { path, interval: Duration::ZERO }, sensor: Some(sensor) }
    }

    #[test]
    fn a_dead_service_leaves_a_level_and_safe_state_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let pin = PinFile::open(&folder.path().join("latch")).unwrap();
        let mut latch = settings.open(Position::Locked).unwrap();
        latch.unlock().unwrap();
        drop(latch);
        assert!(pin.get().unwrap(), "a pin outlives who set it");
        let broken = SensorSettings { input: InputSettings::File(folder.path().join("gone/bolt")), active: Position::Locked };
        let settings = LatchSettings { sensor: Some(broken), ..settings };
        assert!(settings.open(Position::Locked).is_err());
        PinFile::open(&folder.path().join("latch")).unwrap().set(true).unwrap();
        drive_safe(&settings, Position::Locked).unwrap();
        assert!(!pin.get().unwrap());
        let levels: Vec<_> = history(&folder.path().join("latch")).unwrap().iter().map(|change| change.high).collect();
        assert_eq!(levels, [false, true, false, true, false]);
        drive_safe(&settings, Position::Unlocked).unwrap();
        assert!(pin.get().unwrap());
    }

    #[test]
    fn safe_state_waits_for_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("later");
        let settings = LatchSettings { drive: Drive::PinFile { path: place.join("latch"), interval: PAUSE }, sensor: None };
        let error = drive_safe(&settings, Position::Locked).unwrap_err().to_string();
        assert!(error.contains("later"), "{error}");
        let made = place.clone();
        let maker = std::thread::spawn(move || {
            sleep(PAUSE);
            fs::create_dir(made).unwrap();
        });
        drive_safe(&settings, Position::Locked).unwrap();
        maker.join().unwrap();
    }

    #[test]
    fn a_sensor_tells_the_position_once_it_is_still() {
        let folder = tempfile::tempdir().unwrap();
        let bolt = folder.path().join("bolt");
        fs::write(&bolt, "1").unwrap();
        let mut latch = settings(&folder).open(Position::Locked).unwrap();
        assert_eq!(latch.position().unwrap(), None);
        sleep(BOUNCE * 2);
        assert_eq!(latch.position().unwrap(), Some(Position::Locked));
        fs::write(&bolt, "0").unwrap();
        assert_eq!(latch.position().unwrap(), None);
        sleep(BOUNCE * 2);
        assert_eq!(latch.position().unwrap(), Some(Position::Unlocked));
        fs::remove_file(&bolt).unwrap();
        assert!(latch.position().unwrap_err().to_string().contains("position sensor"));
        fs::write(&bolt, "0").unwrap();
        assert_eq!(latch.position().unwrap(), None, "nobody knows what it did meanwhile");
    }
}
