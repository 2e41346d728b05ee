//! The whole chain on a simulated clock, with simulated devices: `replay`, `demo` and the tools see what the door would have done.
//!
//! Nothing here moves a real pin or waits for real time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Memory;
use super::chain::{Chain, ChainError, Parts};
use super::units::{Door, Feeder};
use crate::config::Config;
use crate::hw::actuator::{Position, SimulatedDispenser, SimulatedLatch};
use crate::hw::camera::{Camera, CameraError, Frame};
use crate::hw::clock::{Clock, Monotonic, Simulated};
use crate::hw::fault::Injector;
use crate::individuals::Individuals;
use crate::journal::{Kind, Record};
use crate::model::Classifier;
use crate::policy::door::Phase;
use crate::policy::rules::{ClockWatch, Usage};

/// A chain and what it acts on.
pub struct Rehearsal {
    /// What decides.
    pub chain: Chain,
    /// Begins at the present, so that times of day mean something.
    pub clock: Simulated,
    /// What happened.
    pub sink: Memory,
    latch: Option<SimulatedLatch>,
}

/// What became of a visit.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Whether the door was unlocked.
    pub opened: bool,
    /// The first decision; none where nothing moved.
    pub decision: Option<Record>,
    /// From the first frame to the decision.
    pub seconds: Option<f64>,
}

impl Rehearsal {
    /// A chain that has seen nothing yet, not started.
    ///
    /// # Errors
    /// See [`Chain::new`].
    pub fn new(config: &Arc<Config>, classifier: &Classifier, individuals: &Individuals) -> Result<Self, ChainError> {
        let clock = Simulated::at(Timestamp::now());
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let door = config.door().map(|s| (s, SimulatedLatch::new(Arc::clone(&shared), s.min_interval)));
        let parts = Parts {
            config: Arc::clone(config),
            classifier: classifier.clone(),
            individuals: individuals.clone(),
            door: door.as_ref().map(|(s, latch)| Door::new(*s, Box::new(latch.clone()))),
            // A recording feeds nobody: without a ledger nothing is given.
            feeder: config.feeder().map(|s| {
                let dispenser = Box::new(SimulatedDispenser::new(Arc::clone(&shared), s.min_interval));
                Feeder::new(s, dispenser, None, config.device().time_zone().clone())
            }),
            usage: Usage::default(),
            clocks: ClockWatch::synchronised(),
            faults: Injector::none(),
        };
        Ok(Self { chain: Chain::new(parts)?, clock, latch: door.map(|(_, latch)| latch), sink: Memory::default() })
    }

    /// As [`Chain::start`].
    pub fn start(&mut self) {
        self.chain.start(&self.clock, &mut self.sink);
    }

    /// Whether the door was unlocked.
    pub fn opened(&self) -> bool {
        let unlocked = |latch: &SimulatedLatch| latch.movements().iter().any(|movement| movement.to == Position::Unlocked);
        self.latch.as_ref().is_some_and(unlocked)
    }

    /// Lets time pass until `at`, with everything that is due on the way.
    fn advance(&mut self, at: Monotonic) {
        loop {
            let now = self.clock.now().mono;
            let due = self.chain.deadline().map_or(at, |due| due.min(at));
            // A deadline that stays due would stop the clock: time goes on by a millisecond at least.
            let next = due.max((now + Duration::from_millis(1)).min(at));
            self.clock.advance(next.since(now));
            self.chain.tick(&self.clock, &mut self.sink);
            if next >= at {
                return;
            }
        }
    }

    /// Takes a frame when its time has come.
    pub fn frame(&mut self, frame: &Frame) {
        self.advance(frame.captured);
        self.chain.frame(frame, &self.clock, &mut self.sink);
    }

    /// Nobody is there any more, until the door is locked.
    pub fn rest(&mut self) {
        self.chain.rest(&self.clock, &mut self.sink);
        for _ in 0..1000 {
            if self.chain.door().is_none_or(|door| matches!(door.state().phase(), Phase::Locked | Phase::Fault)) {
                return;
            }
            let later = self.clock.now().mono + Duration::from_millis(100);
            self.advance(later);
        }
    }

    /// All that a camera shows as one visit, from the start to the locked door. `camera` opens it at the time that it is given.
    ///
    /// # Errors
    /// The camera's first error: a visit of which frames are missing says nothing.
    pub fn visit(
        mut self,
        camera: impl FnOnce(Monotonic) -> Result<Box<dyn Camera>, CameraError>,
    ) -> Result<Visit, CameraError> {
        self.start();
        let start = self.clock.now();
        let mut camera = camera(start.mono)?;
        while let Some(frame) = camera.next()? {
            self.frame(&frame);
        }
        self.rest();
        let opened = self.opened();
        let decision = self.sink.records.into_iter().find(|record| record.event == Kind::Decision);
        let seconds = decision.as_ref().map(|record| record.time.duration_since(start.wall).as_secs_f64());
        Ok(Visit { opened, decision, seconds })
    }
}
