//! A latch and a dispenser that do not exist. They are stricter than real ones: what a real one would swallow is an error here, and
//! is kept. Clones are the same device, so that a test looks at the one it handed over.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Dispenser, Error, Latch, Position};
use crate::hw::clock::{Clock, Monotonic};

/// A rule of the simulators that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Two movements or portions are closer than the least interval.
    TooSoon {
        /// Time since the one before.
        after: Duration,
    },
    /// It was to move away from its safe position after the end.
    AfterStop,
    /// The number was used for another portion before.
    SameId(u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSoon { after } => write!(f, "only {after:?} after the time before"),
            Self::AfterStop => f.write_str("moved after the end"),
            Self::SameId(id) => write!(f, "reservation {id} was dispensed before"),
        }
    }
}

/// A movement that the simulated latch carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// When.
    pub at: Monotonic,
    /// Where to.
    pub to: Position,
}

/// A portion that the simulated dispenser gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// When.
    pub at: Monotonic,
    /// Its reservation.
    pub id: u64,
}

/// A latch that keeps a record of its movements.
#[derive(Clone)]
pub struct SimulatedLatch {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Bolt>>,
}

struct Bolt {
    interval: Duration,
    travel: Option<Duration>,
    position: Position,
    moved: Option<Monotonic>,
    stuck: bool,
    broken: bool,
    stopped: Option<Position>,
    movements: Vec<Movement>,
    violations: Vec<Violation>,
}

fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimulatedLatch {
    /// A locked latch without a sensor. Commands closer than `interval` are violations.
    pub fn new(clock: Arc<dyn Clock>, interval: Duration) -> Self {
        let bolt = Bolt {
            interval,
            travel: None,
            position: Position::Locked,
            moved: None,
            stuck: false,
            broken: false,
            stopped: None,
            movements: vec![],
            violations: vec![],
        };
        Self { clock, inner: Arc::new(Mutex::new(bolt)) }
    }

    /// With a sensor, which tells the position again `travel` after a movement.
    pub fn with_sensor(self, travel: Duration) -> Self {
        lock(&self.inner).travel = Some(travel);
        self
    }

    /// From now on the bolt stays where it is, whatever it is told, until `stuck` is false.
    pub fn jam(&self, stuck: bool) {
        lock(&self.inner).stuck = stuck;
    }

    /// From now on the driver takes no command, until `broken` is false.
    pub fn fail(&self, broken: bool) {
        lock(&self.inner).broken = broken;
    }

    /// Somebody moves the bolt by hand.
    pub fn force(&self, position: Position) {
        lock(&self.inner).position = position;
    }

    /// From now on any movement away from `safe` is a violation.
    pub fn stop(&self, safe: Position) {
        lock(&self.inner).stopped = Some(safe);
    }

    /// Where the bolt really is (without a sensor too).
    pub fn bolt(&self) -> Position {
        lock(&self.inner).position
    }

    /// Commands that were carried out, oldest first.
    pub fn movements(&self) -> Vec<Movement> {
        lock(&self.inner).movements.clone()
    }

    /// Rules that were broken, oldest first.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.inner).violations.clone()
    }

    fn command(&self, to: Position) -> Result<(), Error> {
        let at = self.clock.now().mono;
        lock(&self.inner).command(to, at)
    }
}

impl Bolt {
    fn command(&mut self, to: Position, at: Monotonic) -> Result<(), Error> {
        let violation = if self.stopped.is_some_and(|safe| to != safe) {
            Some(Violation::AfterStop)
        } else {
            let after = self.moved.map(|moved| at.since(moved));
            after.filter(|&after| after < self.interval).map(|after| Violation::TooSoon { after })
        };
        if let Some(violation) = violation {
            self.violations.push(violation);
            return Err(Error::Refused { device: "latch".into(), violation });
        }
        self.moved = Some(at);
        if self.broken {
            let cause = std::io::Error::other("it was told to fail");
            return Err(Error::Device { device: "the simulated latch".into(), cause });
        }
        self.movements.push(Movement { at, to });
        if !self.stuck {
            self.position = to;
        }
        Ok(())
    }
}

impl Latch for SimulatedLatch {
    fn unlock(&mut self) -> Result<(), Error> {
        self.command(Position::Unlocked)
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.command(Position::Locked)
    }

    fn position(&mut self) -> Result<Option<Position>, Error> {
        let now = self.clock.now().mono;
        let bolt = lock(&self.inner);
        let arrived = |travel| bolt.moved.is_none_or(|moved| now.since(moved) >= travel);
        Ok(bolt.travel.filter(|&travel| arrived(travel)).map(|_| bolt.position))
    }
}

/// A dispenser that keeps a record of its portions.
#[derive(Clone)]
pub struct SimulatedDispenser {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Screw>>,
}

struct Screw {
    interval: Duration,
    stuck: bool,
    stopped: bool,
    asked: Vec<Portion>,
    portions: Vec<Portion>,
    violations: Vec<Violation>,
}

impl SimulatedDispenser {
    /// A full dispenser. Portions closer than `interval` are violations.
    pub fn new(clock: Arc<dyn Clock>, interval: Duration) -> Self {
        let screw = Screw { interval, stuck: false, stopped: false, asked: vec![], portions: vec![], violations: vec![] };
        Self { clock, inner: Arc::new(Mutex::new(screw)) }
    }

    /// From now on no portion comes out, until `stuck` is false.
    pub fn jam(&self, stuck: bool) {
        lock(&self.inner).stuck = stuck;
    }

    /// From now on any portion is a violation.
    pub fn stop(&self) {
        lock(&self.inner).stopped = true;
    }

    /// Portions that were given, oldest first.
    pub fn portions(&self) -> Vec<Portion> {
        lock(&self.inner).portions.clone()
    }

    /// Rules that were broken, oldest first.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.inner).violations.clone()
    }
}

impl Dispenser for SimulatedDispenser {
    fn dispense(&mut self, id: u64) -> Result<(), Error> {
        let at = self.clock.now().mono;
        let mut screw = lock(&self.inner);
        let violation = if screw.stopped {
            Some(Violation::AfterStop)
        } else if screw.asked.iter().any(|portion| portion.id == id) {
            Some(Violation::SameId(id))
        } else {
            let after = screw.asked.last().map(|portion| at.since(portion.at));
            after.filter(|&after| after < screw.interval).map(|after| Violation::TooSoon { after })
        };
        if let Some(violation) = violation {
            screw.violations.push(violation);
            return Err(Error::Refused { device: "dispenser".into(), violation });
        }
        let portion = Portion { at, id };
        screw.asked.push(portion);
        if screw.stuck {
            return Err(Error::Blocked { device: "the simulated dispenser".into(), what: "turn".into() });
        }
        screw.portions.push(portion);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::clock::Simulated;
    use jiff::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    fn latch() -> (Simulated, SimulatedLatch) {
        let clock = Simulated::at(Timestamp::UNIX_EPOCH);
        let latch = SimulatedLatch::new(Arc::new(clock.clone()), SECOND);
        (clock, latch)
    }

    #[test]
    fn a_latch_keeps_its_movements() {
        let (clock, mut latch) = latch();
        latch.unlock().unwrap();
        clock.advance(SECOND);
        latch.lock().unwrap();
        let at = Monotonic::new;
        let expected =
            [Movement { at: at(Duration::ZERO), to: Position::Unlocked }, Movement { at: at(SECOND), to: Position::Locked }];
        assert_eq!(latch.movements(), expected);
        assert_eq!((latch.violations(), latch.position().unwrap()), (vec![], None));
    }

    #[test]
    fn a_latch_refuses_haste_and_life_after_the_end() {
        let (clock, mut latch) = latch();
        latch.unlock().unwrap();
        clock.advance(SECOND / 2);
        assert!(latch.lock().is_err());
        assert_eq!(latch.bolt(), Position::Unlocked);
        clock.advance(SECOND);
        latch.stop(Position::Locked);
        latch.lock().unwrap();
        clock.advance(SECOND);
        assert!(latch.unlock().unwrap_err().to_string().contains("after the end"));
        assert_eq!(latch.bolt(), Position::Locked);
        assert_eq!(latch.violations(), [Violation::TooSoon { after: SECOND / 2 }, Violation::AfterStop]);
    }

    #[test]
    fn a_sensor_tells_jams_and_force() {
        let (clock, latch) = latch();
        let mut latch = latch.with_sensor(SECOND);
        assert_eq!(latch.position().unwrap(), Some(Position::Locked));
        latch.unlock().unwrap();
        assert_eq!(latch.position().unwrap(), None);
        clock.advance(SECOND);
        assert_eq!(latch.position().unwrap(), Some(Position::Unlocked));
        latch.jam(true);
        latch.lock().unwrap();
        clock.advance(SECOND);
        assert_eq!(latch.position().unwrap(), Some(Position::Unlocked));
        latch.force(Position::Locked);
        assert_eq!(latch.position().unwrap(), Some(Position::Locked));
    }

    #[test]
    fn a_broken_driver_moves_nothing() {
        let (clock, mut latch) = latch();
        latch.fail(true);
        assert!(latch.unlock().unwrap_err().to_string().contains("wiring"));
        assert_eq!((latch.bolt(), latch.movements()), (Position::Locked, vec![]));
        clock.advance(SECOND);
        latch.fail(false);
        latch.unlock().unwrap();
    }

    #[test]
    fn a_dispenser_gives_once_an_id() {
        let clock = Simulated::at(Timestamp::UNIX_EPOCH);
        let mut dispenser = SimulatedDispenser::new(Arc::new(clock.clone()), SECOND);
        dispenser.dispense(1).unwrap();
        assert!(dispenser.dispense(2).is_err());
        clock.advance(SECOND);
        assert!(dispenser.dispense(1).is_err());
        dispenser.jam(true);
        assert!(dispenser.dispense(3).unwrap_err().to_string().contains("blocks"));
        clock.advance(SECOND);
        dispenser.jam(false);
        assert!(dispenser.dispense(3).is_err());
        dispenser.dispense(4).unwrap();
        dispenser.stop();
        clock.advance(SECOND);
        assert!(dispenser.dispense(5).is_err());
        assert_eq!(dispenser.portions().iter().map(|portion| portion.id).collect::<Vec<_>>(), [1, 4]);
        let expected =
            [Violation::TooSoon { after: Duration::ZERO }, Violation::SameId(1), Violation::SameId(3), Violation::AfterStop];
        assert_eq!(dispenser.violations(), expected);
    }
}
