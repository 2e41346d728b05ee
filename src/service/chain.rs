//! From one frame to the next: motion → region → quality → classifier → evidence → vote → rules → door and feeder.
//!
//! A *visit* begins with motion and ends when the picture is at rest, or when all frames of the vote's window show nobody although
//! somebody was seen before. Each visit gets a decision of its own, and says why; frames of two visits are never weighed together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use image::RgbImage;

use super::units::{Door, Feeder};
use super::{Sink, explain};
use crate::config::Config;
use crate::hw::camera::{CameraError, Frame};
use crate::hw::clock::{Clock, Monotonic, Now};
use crate::hw::fault::{Injector, What};
use crate::individuals::Individuals;
use crate::journal::{Kind, Record};
use crate::model::{Classifier, Doubt};
use crate::policy::door::{self, Event as DoorEvent, Grant};
use crate::policy::fault::Fault;
use crate::policy::feeder::{self, Event as FeederEvent, Request};
use crate::policy::rules::{Action, ClockWatch, Decided, Moment, RuleError, Rules, Ruling, Usage};
use crate::policy::vote::{SettingsError, Tally, Vote};
use crate::policy::{Evidence, Reason};
use crate::vision::motion::{Motion, Movement};
use crate::vision::quality;
use crate::vision::region::{self, PixelBox};

/// Whether the newest frames, as many as must agree, all show nobody.
fn nobody_lately(tally: &Tally) -> bool {
    let agree = tally.settings().agree;
    let newest = || tally.ballots.iter().rev().take(agree);
    newest().count() == agree && newest().all(|ballot| ballot.evidence == Evidence::NoAnimal)
}

/// Why a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The vote would be worthless.
    #[error(transparent)]
    Vote(#[from] SettingsError),
    /// A rule cannot be meant as it is written.
    #[error(transparent)]
    Rules(#[from] RuleError),
}

/// What a chain is made of.
pub struct Parts {
    /// How everything behaves.
    pub config: Arc<Config>,
    /// Says what is on a frame.
    pub classifier: Classifier,
    /// Says which animal it is.
    pub individuals: Individuals,
    /// The door, if there is one.
    pub door: Option<Door>,
    /// The feeder, if there is one.
    pub feeder: Option<Feeder>,
    /// What the rules did before.
    pub usage: Usage,
    /// Tells whether the wall clock can be believed.
    pub clocks: ClockWatch,
    /// Lets inference fail on purpose.
    pub faults: Injector,
}

/// Decides, frame by frame.
pub struct Chain {
    parts: Parts,
    rules: Rules,
    motion: Motion,
    vote: Vote,
    visit: Option<Visit>,
    /// The classifier's last error, so that it is reported once.
    failing: Option<String>,
    classified: u64,
}

/// Who is in front of the camera.
#[derive(Debug, Clone, Copy)]
pub enum Presence<'a> {
    /// Nobody.
    Nobody,
    /// Something moves; what the last frame says of it, where it was looked at.
    Somebody(Option<&'a Evidence>),
}

/// Somebody is there, or something moves.
#[derive(Debug, Default)]
struct Visit {
    /// What the last frame says.
    latest: Option<Evidence>,
    /// What was decided last, and its number.
    said: Option<(Said, u64)>,
    /// The rule that opened or fed in this visit: its own cooldown does not count against it.
    granted: Option<String>,
    /// Why nothing came of the last decision, as recorded.
    refused: Option<String>,
    /// Whether it was no longer seen while the door was open.
    withdrawn: bool,
    /// Whether any frame showed a pet.
    seen: bool,
    /// The last answer that was none, preferably one that saw a pet.
    waiting: Option<(String, Tally)>,
}

/// A decision, as far as repeating it would say nothing new.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    action: Action,
    rule: Option<String>,
}

impl Chain {
    /// Checks what the configuration says about vote and rules.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn new(parts: Parts) -> Result<Self, ChainError> {
        let rules = Rules::new(parts.config.rules().to_vec())?;
        let vote = Vote::new(parts.config.vote())?;
        let motion = Motion::new(parts.config.motion());
        Ok(Self { parts, rules, motion, vote, visit: None, failing: None, classified: 0 })
    }

    /// Sends the latch to its safe state, reads the ledger, and is ready.
    pub fn start(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) {
        let now = clock.now();
        self.parts.clocks.look(now);
        sink.record(explain::plain(Kind::Start, now.wall, format!("pawgate {} runs", env!("CARGO_PKG_VERSION"))), None);
        if let Some(door) = &mut self.parts.door {
            door.event(DoorEvent::Tick, clock, sink);
            door.event(DoorEvent::Cleared(Fault::Starting), clock, sink);
        }
        if let Some(feeder) = &mut self.parts.feeder {
            feeder.start(clock, sink);
            feeder.event(FeederEvent::Cleared(Fault::Starting), clock, sink);
        }
    }

    /// Ends the visit and sends the latch to its safe state. Where the latch moved a moment ago, that is due at [`Self::deadline`]:
    /// go on calling [`Self::tick`] until there is none.
    pub fn stop(&mut self, why: &str, clock: &dyn Clock, sink: &mut dyn Sink) {
        self.rest(clock, sink);
        if let Some(door) = &mut self.parts.door {
            door.event(DoorEvent::Stop, clock, sink);
        }
        if let Some(feeder) = &mut self.parts.feeder {
            feeder.event(FeederEvent::Stop, clock, sink);
        }
        sink.record(explain::plain(Kind::Stop, clock.now().wall, why), None);
    }

    /// The door, if there is one.
    pub fn door(&self) -> Option<&Door> {
        self.parts.door.as_ref()
    }

    /// The feeder, if there is one.
    pub fn feeder(&self) -> Option<&Feeder> {
        self.parts.feeder.as_ref()
    }

    /// Frames that were classified so far.
    pub fn classified(&self) -> u64 {
        self.classified
    }

    /// Who is in front of the camera.
    pub fn presence(&self) -> Presence<'_> {
        self.visit.as_ref().map_or(Presence::Nobody, |visit| Presence::Somebody(visit.latest.as_ref()))
    }

    /// Whether the wall clock could be believed when it was looked at last.
    pub fn clock_is_good(&self) -> bool {
        self.parts.clocks.is_good()
    }

    /// When [`Self::tick`] is due, unless a frame comes earlier.
    pub fn deadline(&self) -> Option<Monotonic> {
        let door = self.parts.door.as_ref().and_then(Door::deadline);
        let feeder = self.parts.feeder.as_ref().and_then(Feeder::deadline);
        door.into_iter().chain(feeder).min()
    }

    /// Goes on with another configuration of rules, vote, motion, door and feeder.
    ///
    /// # Errors
    /// [`ChainError`]; then nothing has changed.
    pub fn configure(&mut self, config: Arc<Config>, clock: &dyn Clock, sink: &mut dyn Sink) -> Result<(), ChainError> {
        let rules = Rules::new(config.rules().to_vec())?;
        let vote = Vote::new(config.vote())?;
        self.rest(clock, sink);
        (self.rules, self.vote, self.motion) = (rules, vote, Motion::new(config.motion()));
        if let (Some(door), Some(settings)) = (&mut self.parts.door, config.door()) {
            door.configure(settings);
        }
        if let (Some(feeder), Some(settings)) = (&mut self.parts.feeder, config.feeder()) {
            feeder.configure(settings);
        }
        self.parts.config = config;
        Ok(())
    }

    /// Something is wrong with everything that decides: nothing opens until it is over.
    pub fn fault(&mut self, fault: Fault, why: &str, clock: &dyn Clock, sink: &mut dyn Sink) {
        sink.record(explain::plain(Kind::Fault, clock.now().wall, why), None);
        self.vote.clear();
        self.each_unit(clock, sink, DoorEvent::Fault(fault), FeederEvent::Fault(fault));
    }

    /// It is over.
    pub fn recovered(&mut self, fault: Fault, why: &str, clock: &dyn Clock, sink: &mut dyn Sink) {
        sink.record(explain::plain(Kind::Recovered, clock.now().wall, why), None);
        self.each_unit(clock, sink, DoorEvent::Cleared(fault), FeederEvent::Cleared(fault));
    }

    /// A button or a sensor tells the door something.
    pub fn door_event(&mut self, event: DoorEvent, clock: &dyn Clock, sink: &mut dyn Sink) {
        if let Some(door) = &mut self.parts.door {
            door.event(event, clock, sink);
        }
    }

    /// The camera reports an error and goes on.
    pub fn camera_error(&mut self, error: &CameraError, clock: &dyn Clock, sink: &mut dyn Sink) {
        sink.record(explain::plain(Kind::Fault, clock.now().wall, format!("camera: {error}")), None);
    }

    /// Lets time pass.
    pub fn tick(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) {
        let now = clock.now();
        self.parts.clocks.look(now);
        self.parts.usage.prune(now.mono);
        if let Some(door) = &mut self.parts.door {
            door.tick(clock, sink);
        }
        if let Some(feeder) = &mut self.parts.feeder {
            feeder.tick(clock, sink);
        }
    }

    /// Takes the next frame.
    pub fn frame(&mut self, frame: &Frame, clock: &dyn Clock, sink: &mut dyn Sink) {
        // What is due before the frame comes before it.
        self.tick(clock, sink);
        let region = self.parts.config.region();
        let movement = self.motion.update(&frame.picture, region, frame.captured);
        // Movement that was there before the visit ended (a reload, a fault) begins the next one.
        if movement.started || movement.moving && self.visit.is_none() {
            let reason = format!("{:.0} % of the region changed", movement.area * 100.0);
            sink.record(explain::plain(Kind::Motion, clock.now().wall, reason), None);
            self.visit = Some(Visit::default());
        }
        if self.visit.is_some() {
            let evidence = self.look(frame, &movement, clock, sink);
            self.weigh(frame, evidence, clock, sink);
        }
        if movement.ended {
            self.rest(clock, sink);
            sink.record(Record::new(Kind::Still, clock.now().wall), None);
        }
        self.tick(clock, sink);
    }

    /// What one frame says.
    fn look(&mut self, frame: &Frame, movement: &Movement, clock: &dyn Clock, sink: &mut dyn Sink) -> Evidence {
        let config = &self.parts.config;
        let unclear = |flaw| Evidence::Unknown(Reason::Unclear(Doubt::Flaw(flaw)));
        if let Some(flaw) = quality::age(frame.captured, clock.now().mono, config.camera().max_age) {
            return unclear(flaw);
        }
        let (width, height) = frame.picture.dimensions();
        let part = region::crop(config.region().pixels(width, height), movement.part, config.motion().margin);
        match self.classify(&frame.picture, part) {
            Ok(evidence) => {
                if self.failing.take().is_some() {
                    self.recovered(Fault::Classifier, "pictures are classified again", clock, sink);
                }
                evidence
            }
            Err(error) => {
                if self.failing.as_ref() != Some(&error) {
                    self.fault(Fault::Classifier, &format!("a picture cannot be classified: {error}"), clock, sink);
                }
                self.failing = Some(error.clone());
                Evidence::Unknown(Reason::Fault(error))
            }
        }
    }

    fn classify(&mut self, picture: &RgbImage, part: PixelBox) -> Result<Evidence, String> {
        let preprocess = &self.parts.classifier.metadata().preprocess;
        let square = preprocess.pixels_of(picture, part).map_err(|e| e.to_string())?;
        // Whatever the network would answer, such a picture is unknown: its time is saved.
        if let Some(flaw) = quality::flaw_of_square(&square, preprocess.size as usize) {
            return Ok(Evidence::Unknown(Reason::Unclear(Doubt::Flaw(flaw))));
        }
        self.classified += 1;
        let faults = &self.parts.faults;
        faults.hang(What::ClassifierHang);
        if faults.strikes(What::ClassifierError) {
            return Err("it fails, as planned".into());
        }
        // A panic in a kernel is a fault like any other: the door goes to its safe state and says why.
        let infer = || {
            faults.panic(What::ClassifierPanic);
            self.parts.classifier.infer_pixels(preprocess, &square)
        };
        let scores =
            catch_unwind(AssertUnwindSafe(infer)).map_err(|_| "inference panicked; please report the log".to_owned())?;
        let scores = scores.map_err(|e| e.to_string())?;
        let mut evidence = Evidence::from(&self.parts.classifier.read(&scores, 1));
        if let Evidence::Animal(sighting) = &mut evidence {
            sighting.individual = self.parts.individuals.recognise(&scores.embedding);
        }
        Ok(evidence)
    }

    /// Adds a frame's evidence to the vote, and asks the rules.
    fn weigh(&mut self, frame: &Frame, evidence: Evidence, clock: &dyn Clock, sink: &mut dyn Sink) {
        let Some(visit) = &mut self.visit else { return };
        visit.seen |= matches!(evidence, Evidence::Animal(_));
        visit.latest = Some(evidence.clone());
        self.vote.add(frame.captured, frame.number, evidence);
        let now = clock.now();
        let tally = self.vote.tally(now.mono);
        let at = Moment { now, zone: self.parts.config.device().time_zone().clone(), trusted: self.parts.clocks.look(now) };
        let ruling = match &visit.granted {
            Some(rule) => self.rules.recheck(rule, &tally, &self.parts.usage, &at),
            None => self.rules.decide(&tally, &self.parts.usage, &at),
        };
        let gone = tally.ballots.len() >= tally.settings().of && tally.ballots.iter().all(|b| b.evidence == Evidence::NoAnimal);
        let open = visit.granted.is_some() && !visit.withdrawn && self.parts.door.as_ref().is_some_and(Door::is_open);
        match &ruling {
            _ if open && nobody_lately(&tally) => self.withdraw(&tally, &frame.picture, clock, sink),
            _ if gone && visit.seen => {
                self.rest(clock, sink);
                self.visit = Some(Visit::default());
            }
            Ruling::Decided(decided) => self.decided(decided, &ruling, &tally, &frame.picture, clock, sink),
            Ruling::Undecided(_) => {
                if tally.sightings().next().is_some()
                    || visit.waiting.as_ref().is_none_or(|(_, t)| t.sightings().next().is_none())
                {
                    visit.waiting = Some((explain::reason(&ruling), tally));
                }
            }
        }
    }

    /// Whom the rules let in is no longer seen: through the door or away, and what comes next needs a decision of its own.
    fn withdraw(&mut self, tally: &Tally, picture: &RgbImage, clock: &dyn Clock, sink: &mut dyn Sink) {
        let gate = &self.parts.classifier.metadata().gate;
        let reason = "whom the rules let in is no longer seen".to_owned();
        let decision = sink.record(explain::undecided(reason, tally, gate, clock.now()), Some(picture));
        if let Some(visit) = &mut self.visit {
            visit.withdrawn = true;
        }
        self.each_unit(clock, sink, DoorEvent::Deny { decision, rule: None }, FeederEvent::Deny);
    }

    fn decided(
        &mut self,
        decided: &Decided,
        ruling: &Ruling,
        tally: &Tally,
        picture: &RgbImage,
        clock: &dyn Clock,
        sink: &mut dyn Sink,
    ) {
        let now = clock.now();
        let Some(visit) = &mut self.visit else { return };
        let said = Said { action: decided.action, rule: decided.rule.clone() };
        let id = match &visit.said {
            Some((last, id)) if *last == said => *id,
            _ => {
                let gate = &self.parts.classifier.metadata().gate;
                let record = explain::decided(decided, explain::reason(ruling), tally, gate, now);
                let id = sink.record(record, Some(picture));
                visit.refused = None;
                visit.said = Some((said, id));
                id
            }
        };
        self.act(decided, id, tally, now, clock, sink);
    }

    /// Tells the door and the feeder.
    fn act(&mut self, decided: &Decided, id: u64, tally: &Tally, now: Now, clock: &dyn Clock, sink: &mut dyn Sink) {
        match (decided.action, &decided.rule) {
            (Action::Allow, Some(rule)) => {
                let agreeing = tally.ballots.iter().filter(|ballot| decided.agreeing.contains(&ballot.frame));
                let Some(since) = agreeing.map(|ballot| ballot.at).min() else { return };
                let Some(door) = &mut self.parts.door else { return };
                let before = door.state().not_before();
                let effect = door.event(DoorEvent::Allow(Grant { decision: id, rule: rule.clone(), since }), clock, sink);
                if door.state().not_before() != before {
                    self.vote.clear();
                }
                let state = door.state().name();
                let usual = matches!(effect.refused, Some(door::Refused::AlreadyOpen | door::Refused::Served));
                let refused = effect.refused.filter(|_| !usual).map(|refused| refused.to_string());
                self.granted((rule, 1), effect.acted, (Kind::Door, state, refused), now, sink);
            }
            (Action::Dispense(portions), Some(rule)) => {
                let day = self.parts.config.device().time_zone().to_datetime(now.wall).date();
                let pet = tally.individual.as_ref().map(|individual| individual.what.clone());
                let request = Request { decision: id, rule: rule.clone(), pet, portions, day };
                let Some(feeder) = &mut self.parts.feeder else { return };
                let effect = feeder.event(FeederEvent::Request(request), clock, sink);
                let state = feeder.state().name();
                let usual = [feeder::Refused::Busy, feeder::Refused::Served, feeder::Refused::Repeated];
                let refused = effect.refused.filter(|refused| !usual.contains(refused)).map(|refused| refused.to_string());
                self.granted((rule, portions), effect.acted, (Kind::Feeder, state, refused), now, sink);
            }
            _ => {
                let deny = DoorEvent::Deny { decision: id, rule: decided.rule.clone() };
                self.each_unit(clock, sink, deny, FeederEvent::Deny);
            }
        }
    }

    /// Books what a rule did, once a visit; or records, once, why nothing came of it.
    fn granted(
        &mut self,
        (rule, units): (&str, u32),
        acted: bool,
        (kind, state, refused): (Kind, &str, Option<String>),
        now: Now,
        sink: &mut dyn Sink,
    ) {
        let Some(visit) = &mut self.visit else { return };
        if acted && visit.granted.as_deref() != Some(rule) {
            self.parts.usage.used(rule, now, units);
            visit.granted = Some(rule.to_owned());
        }
        if refused.is_some() && visit.refused != refused {
            let reason = refused.iter().map(|why| format!("not now: {why}")).collect::<String>();
            let record =
                Record { state: Some(state.to_owned()), rule: Some(rule.to_owned()), ..explain::plain(kind, now.wall, reason) };
            sink.record(record, None);
            visit.refused = refused;
        }
    }

    /// Ends the visit: one that never got a decision gets its denial now.
    pub fn rest(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) {
        let Some(visit) = self.visit.take() else { return };
        let now = clock.now();
        self.vote.clear();
        if visit.said.is_none() {
            let gate = &self.parts.classifier.metadata().gate;
            let (reason, tally) = match visit.waiting {
                Some(waiting) => waiting,
                None => ("no frame could be looked at".into(), self.vote.tally(now.mono)),
            };
            sink.record(explain::undecided(reason, &tally, gate, now), None);
        }
        self.each_unit(clock, sink, DoorEvent::Nobody, FeederEvent::Nobody);
    }

    fn each_unit(&mut self, clock: &dyn Clock, sink: &mut dyn Sink, door: DoorEvent, feeder: FeederEvent) {
        if let Some(unit) = &mut self.parts.door {
            unit.event(door, clock, sink);
        }
        if let Some(unit) = &mut self.parts.feeder {
            unit.event(feeder, clock, sink);
        }
    }
}
