//! The door and the feeder: their state machines with the actuators that carry out what these say, and a record of every change.
//!
//! What is decided here is nothing: [`door::step`] and [`feeder::step`] decide. An actuator or a ledger that fails is an event for them.

use std::collections::{HashMap, VecDeque};

use jiff::tz::TimeZone;

use super::Sink;
use super::explain::plain;
use crate::hw::actuator::{Dispenser, Latch, Position};
use crate::hw::clock::{Clock, Monotonic, Now};
use crate::journal::ledger::{self, Ledger};
use crate::journal::{Kind, Record};
use crate::policy::door::{self, Because};
use crate::policy::fault::Fault;
use crate::policy::feeder;

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect<R> {
    /// The latch was unlocked, or a portion reserved.
    pub acted: bool,
    /// Why not, where that was asked for.
    pub refused: Option<R>,
}

/// A door and its latch.
pub struct Door {
    settings: door::Settings,
    state: door::State,
    deadline: Option<Monotonic>,
    latch: Box<dyn Latch>,
    position: Option<Position>,
}

impl Door {
    /// About whose latch nothing is known: its first event sends that to the safe state.
    pub fn new(settings: door::Settings, latch: Box<dyn Latch>) -> Self {
        Self { settings, state: door::State::new(), deadline: None, latch, position: None }
    }

    /// Its state.
    pub fn state(&self) -> &door::State {
        &self.state
    }

    /// Whether it is unlocked for somebody whom the rules let pass, or on its way there.
    pub fn is_open(&self) -> bool {
        matches!(self.state.phase(), door::Phase::Open | door::Phase::Unlocking)
    }

    /// When [`Self::tick`] is due.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.deadline
    }

    /// From now on it behaves so.
    pub fn configure(&mut self, settings: door::Settings) {
        self.settings = settings;
    }

    /// Lets time pass, and reads the position's sensor.
    pub fn tick(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) {
        match self.latch.position() {
            Ok(found) if found != self.position => {
                self.position = found;
                if let Some(found) = found {
                    self.event(door::Event::Position(found), clock, sink);
                }
            }
            Ok(_) => {}
            Err(error) => {
                log::error!("{error}");
                self.event(door::Event::Fault(Fault::Latch), clock, sink);
            }
        }
        if self.deadline.is_some_and(|deadline| deadline <= clock.now().mono) {
            self.event(door::Event::Tick, clock, sink);
        }
    }

    /// Tells the state machine, and carries out what it says.
    pub fn event(&mut self, event: door::Event, clock: &dyn Clock, sink: &mut dyn Sink) -> Effect<door::Refused> {
        let mut events = VecDeque::from([event]);
        let mut effect = Effect { acted: false, refused: None };
        // A command that fails is an event; after so many the deadline tries again.
        for _ in 0..8 {
            let Some(event) = events.pop_front() else { break };
            let now = clock.now();
            let step = door::step(&self.settings, &self.state, &event, now.mono);
            (self.state, self.deadline) = (step.state, step.deadline);
            effect.refused = effect.refused.or(step.refused);
            for action in step.actions {
                effect.acted |= action == door::Action::Unlock;
                events.extend(self.carry_out(action, now, sink));
            }
        }
        effect
    }

    fn carry_out(&mut self, action: door::Action, now: Now, sink: &mut dyn Sink) -> Option<door::Event> {
        match action {
            door::Action::Unlock => return self.command(Position::Unlocked, now, sink),
            door::Action::Lock => return self.command(Position::Locked, now, sink),
            door::Action::Raised(Fault::Starting) | door::Action::Cleared(Fault::Starting) => {}
            door::Action::Raised(fault) => drop(sink.record(fault_record(Kind::Fault, "door", fault, now), None)),
            door::Action::Cleared(fault) => drop(sink.record(fault_record(Kind::Recovered, "door", fault, now), None)),
            door::Action::Changed { to, because, .. } => {
                let rule = match &because {
                    Because::Allowed(grant) => Some(grant.rule.clone()),
                    Because::Denied { rule, .. } => rule.clone(),
                    _ => None,
                };
                let state = Some(to.name().to_owned());
                sink.record(Record { state, rule, ..plain(Kind::Door, now.wall, because.to_string()) }, None);
            }
        }
        None
    }

    fn command(&mut self, to: Position, now: Now, sink: &mut dyn Sink) -> Option<door::Event> {
        match self.latch.go(to) {
            Ok(()) if self.state.faults().contains(Fault::Latch) => Some(door::Event::Cleared(Fault::Latch)),
            Ok(()) => None,
            Err(error) => {
                sink.record(plain(Kind::Fault, now.wall, format!("latch to {to}: {error}")), None);
                Some(door::Event::CommandFailed)
            }
        }
    }
}

fn fault_record(kind: Kind, unit: &str, fault: Fault, now: Now) -> Record {
    plain(kind, now.wall, format!("{unit}: {fault}"))
}

/// A feeder, its dispenser and its ledger.
pub struct Feeder {
    settings: feeder::Settings,
    state: feeder::State,
    deadline: Option<Monotonic>,
    dispenser: Box<dyn Dispenser>,
    /// None where it cannot be opened: nothing is given then.
    ledger: Option<Ledger>,
    zone: TimeZone,
    /// Entries of the ledger by the feeder's own reservations.
    entries: HashMap<u64, u64>,
}

impl Feeder {
    /// Gives nothing before [`Self::start`].
    pub fn new(settings: feeder::Settings, dispenser: Box<dyn Dispenser>, ledger: Option<Ledger>, zone: TimeZone) -> Self {
        Self { settings, state: feeder::State::new(), deadline: None, dispenser, ledger, zone, entries: HashMap::new() }
    }

    /// Its state.
    pub fn state(&self) -> &feeder::State {
        &self.state
    }

    /// When [`Self::tick`] is due.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.deadline
    }

    /// From now on it behaves so.
    pub fn configure(&mut self, settings: feeder::Settings) {
        self.settings = settings;
    }

    /// Reads the ledger: what was given today counts.
    pub fn start(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) {
        let event = self.restored(clock.now());
        self.event(event, clock, sink);
    }

    fn restored(&self, now: Now) -> feeder::Event {
        let Some(ledger) = &self.ledger else { return feeder::Event::LedgerFailed };
        let today = match ledger.today(now.wall, &self.zone) {
            Ok(today) => today,
            Err(error) => {
                log::error!("{error}");
                return feeder::Event::LedgerFailed;
            }
        };
        let Some(total) = today.total() else { return feeder::Event::LedgerFailed };
        // Unsettled portions are counted already.
        let counts = vec![(self.zone.to_datetime(now.wall).date(), total)];
        let next_id =
            today.portions.iter().map(|portion| portion.entry + 1).max().unwrap_or(1).max(now.wall.as_second().unsigned_abs());
        feeder::Event::Restored(feeder::Ledger { next_id, counts, unsettled: vec![] })
    }

    /// Lets time pass.
    pub fn tick(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) {
        if self.deadline.is_some_and(|deadline| deadline <= clock.now().mono) {
            self.event(feeder::Event::Tick, clock, sink);
        }
    }

    /// Tells the state machine, and carries out what it says.
    pub fn event(&mut self, event: feeder::Event, clock: &dyn Clock, sink: &mut dyn Sink) -> Effect<feeder::Refused> {
        let mut events = VecDeque::from([event]);
        let mut effect = Effect { acted: false, refused: None };
        for _ in 0..16 {
            let Some(event) = events.pop_front() else { break };
            let step = feeder::step(&self.settings, &self.state, &event, clock.now().mono);
            (self.state, self.deadline) = (step.state, step.deadline);
            effect.refused = effect.refused.or(step.refused);
            for action in step.actions {
                effect.acted |= matches!(action, feeder::Action::Reserve(_));
                events.extend(self.carry_out(action, clock.now(), sink));
            }
        }
        effect
    }

    fn carry_out(&mut self, action: feeder::Action, now: Now, sink: &mut dyn Sink) -> Option<feeder::Event> {
        match action {
            feeder::Action::Reserve(reservation) => Some(self.reserve(&reservation, now, sink)),
            feeder::Action::Dispense { id } => Some(match self.dispenser.dispense(id) {
                Ok(()) => feeder::Event::Dispensed(id),
                Err(error) => {
                    sink.record(plain(Kind::Fault, now.wall, format!("dispenser: {error}")), None);
                    feeder::Event::Failed(id)
                }
            }),
            feeder::Action::Settle { id, outcome } => self.settle(id, outcome, now, sink),
            feeder::Action::Raised(Fault::Starting) | feeder::Action::Cleared(Fault::Starting) => None,
            feeder::Action::Raised(fault) => {
                sink.record(fault_record(Kind::Fault, "feeder", fault, now), None);
                None
            }
            // The ledger counts as unusable until it was read for the first time.
            feeder::Action::Cleared(_) if self.state.faults().contains(Fault::Starting) => None,
            feeder::Action::Cleared(fault) => {
                sink.record(fault_record(Kind::Recovered, "feeder", fault, now), None);
                None
            }
            feeder::Action::Changed { to, because, .. } => {
                let rule = match &because {
                    feeder::Because::Requested { rule, .. } => Some(rule.clone()),
                    _ => None,
                };
                let state = Some(to.name().to_owned());
                sink.record(Record { state, rule, ..plain(Kind::Feeder, now.wall, because.to_string()) }, None);
                None
            }
        }
    }

    fn reserve(&mut self, reservation: &feeder::Reservation, now: Now, sink: &mut dyn Sink) -> feeder::Event {
        let request = ledger::Request {
            decision: reservation.decision,
            rule: reservation.rule.clone(),
            animal: reservation.pet.clone(),
            portions: 1,
        };
        match self.ledger.as_mut().map(|ledger| ledger.reserve(&request, now.wall)) {
            Some(Ok(reserved)) => {
                self.entries.insert(reservation.id, reserved.entry);
                feeder::Event::Reserved(reservation.id)
            }
            Some(Err(error)) => {
                sink.record(plain(Kind::Fault, now.wall, format!("nothing is given: {error}")), None);
                feeder::Event::LedgerFailed
            }
            None => feeder::Event::LedgerFailed,
        }
    }

    fn settle(&mut self, id: u64, outcome: feeder::Outcome, now: Now, sink: &mut dyn Sink) -> Option<feeder::Event> {
        let outcome = match outcome {
            feeder::Outcome::Given => ledger::Outcome::Given(1),
            feeder::Outcome::NotGiven => ledger::Outcome::Given(0),
            feeder::Outcome::Unknown => ledger::Outcome::Unclear,
        };
        let entry = self.entries.remove(&id)?;
        match self.ledger.as_mut().map(|ledger| ledger.settle(entry, outcome)) {
            Some(Err(error)) => {
                sink.record(plain(Kind::Fault, now.wall, format!("the portion counts as given: {error}")), None);
                Some(feeder::Event::LedgerFailed)
            }
            Some(Ok(())) => None,
            None => Some(feeder::Event::LedgerFailed),
        }
    }
}
