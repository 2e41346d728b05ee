//! What the display shows when: from the chain's state and its events to a [`Screen`]. Pure, but for the wall clock that it is given.
//!
//! A fault comes before everything, then a decision for as long as it is news (a few seconds, or while the door is open), then who is
//! there, and at rest the last decision.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::chain::{Chain, Presence};
use crate::config::Config;
use crate::hw::actuator::Position;
use crate::hw::clock::Monotonic;
use crate::hw::display::screen::{Bolt, Scene, Screen, Who};
use crate::journal::record::Animal;
use crate::journal::{Answer, Kind, Record};
use crate::policy::door::Phase;
use crate::policy::{Evidence, Sighting};

/// How long a decision is news.
const NEWS: Duration = Duration::from_secs(4);

/// Keeps what the display has to remember.
#[derive(Debug)]
pub struct Face {
    name: String,
    zone: TimeZone,
    has_door: bool,
    decided: Option<Decided>,
    /// What was decided last, for the screen at rest.
    last: Option<String>,
    /// The last fault in its own words, which say more than its kind.
    fault: Option<String>,
}

/// A decision, and when it was new.
#[derive(Debug)]
struct Decided {
    at: Monotonic,
    allowed: bool,
    feeds: bool,
    who: Option<Who>,
    why: String,
}

/// What the chain is like at one moment.
#[derive(Debug)]
pub struct View<'a> {
    /// The door's state and where its bolt was sent, where there is a door.
    pub door: Option<(Phase, Option<Position>)>,
    /// What is wrong, in words.
    pub faults: Vec<String>,
    /// Who is there.
    pub presence: Presence<'a>,
    /// Why events do not reach the disk.
    pub trouble: Option<&'a str>,
    /// Whether the wall clock can be believed.
    pub clock_is_good: bool,
}

impl<'a> View<'a> {
    /// Of a chain.
    pub fn of(chain: &'a Chain, trouble: Option<&'a str>) -> Self {
        let door = chain.door().map(|door| door.state());
        let faults = door.map(|state| state.faults()).into_iter().chain(chain.feeder().map(|feeder| feeder.state().faults()));
        let mut faults: Vec<_> = faults.flat_map(|faults| faults.iter().collect::<Vec<_>>()).collect();
        faults.dedup();
        Self {
            door: door.map(|state| (state.phase(), state.latch())),
            faults: faults.into_iter().map(|fault| fault.to_string()).collect(),
            presence: chain.presence(),
            trouble,
            clock_is_good: chain.clock_is_good(),
        }
    }

    fn is_open(&self) -> bool {
        self.door.is_some_and(|(phase, _)| matches!(phase, Phase::Unlocking | Phase::Open))
    }

    /// Where the bolt is, as far as anybody knows.
    pub fn bolt(&self) -> Option<Bolt> {
        let (_, latch) = self.door?;
        Some(latch.map_or(Bolt::Unknown, Bolt::from))
    }
}

impl Face {
    /// Of a configuration's device.
    pub fn new(config: &Config) -> Self {
        let device = config.device();
        Self::of(device.name(), device.time_zone().clone(), config.door().is_some())
    }

    fn of(name: &str, zone: TimeZone, has_door: bool) -> Self {
        Self { name: name.into(), zone, has_door, decided: None, last: None, fault: None }
    }

    /// Something happened at `now`.
    pub fn record(&mut self, record: &Record, now: Monotonic) {
        match record.event {
            Kind::Fault => self.fault.clone_from(&record.reason),
            Kind::Recovered => self.fault = None,
            Kind::Decision => {
                let decided = Decided {
                    at: now,
                    allowed: record.decision == Some(Answer::Allow),
                    feeds: record.portions.is_some(),
                    who: record.animal.as_ref().map(|animal| who(animal, record)),
                    why: record.rule.clone().or_else(|| record.reason.clone()).unwrap_or_default(),
                };
                let who = decided.who.as_ref().map_or("somebody", |who| &who.name);
                let answer = match (decided.allowed, decided.feeds || !self.has_door) {
                    (true, true) => "fed",
                    (true, false) => "let in",
                    (false, true) => "no food",
                    (false, false) => "kept out",
                };
                self.last = Some(format!("{} {who}: {answer}", self.time(record.time)));
                self.decided = Some(decided);
            }
            _ => {}
        }
    }

    /// What is to be shown at `now`, when the wall clock says `wall`.
    pub fn screen(&self, view: &View<'_>, now: Monotonic, wall: Timestamp) -> Screen {
        let clock = view.clock_is_good.then(|| self.time(wall));
        Screen { name: self.name.clone(), clock, door: view.bolt(), scene: self.scene(view, now) }
    }

    /// The last one of all.
    pub fn ended(&self, door: Option<Bolt>) -> Screen {
        ended(&self.name, door)
    }

    fn time(&self, time: Timestamp) -> String {
        let time = self.zone.to_datetime(time);
        format!("{:02}:{:02}", time.hour(), time.minute())
    }

    fn scene(&self, view: &View<'_>, now: Monotonic) -> Scene {
        if view.door.is_some_and(|(phase, _)| phase == Phase::Starting) {
            return Scene::Starting;
        }
        if !view.faults.is_empty() {
            let what = self.fault.clone().unwrap_or_else(|| view.faults.join("; "));
            return Scene::Fault { what };
        }
        let news = self.decided.as_ref().filter(|decided| now.since(decided.at) < NEWS || decided.allowed && view.is_open());
        if let Some(decided) = news {
            return decision(decided, view);
        }
        match view.presence {
            Presence::Nobody => Scene::Idle { last: view.trouble.map(str::to_owned).or_else(|| self.last.clone()) },
            Presence::Somebody(Some(Evidence::Animal(sighting))) => Scene::Animal(seen(sighting)),
            Presence::Somebody(Some(Evidence::NoAnimal)) => Scene::Motion { what: "no pet in the picture".into() },
            Presence::Somebody(Some(Evidence::Unknown(reason))) => Scene::Motion { what: reason.to_string() },
            Presence::Somebody(None) => Scene::Motion { what: "something moves".into() },
        }
    }
}

/// What a display shows of a pawgate that does not run.
pub fn ended(name: &str, door: Option<Bolt>) -> Screen {
    Screen { name: name.into(), clock: None, door, scene: Scene::Ended { why: "pawgate does not run".into() } }
}

fn decision(decided: &Decided, view: &View<'_>) -> Scene {
    let what = match (decided.allowed, decided.feeds) {
        (true, true) => "gives food",
        // The latch may refuse: nothing is shown as open that is not.
        (true, false) if view.is_open() => "opens",
        (true, false) => "may pass",
        (false, _) if view.door.is_none() => "no food",
        (false, _) => "stays shut",
    };
    Scene::Decision { allowed: decided.allowed, what: what.into(), who: decided.who.clone(), why: decided.why.clone() }
}

/// Who a frame shows.
fn seen(sighting: &Sighting) -> Who {
    let name = sighting.individual.as_ref().map_or_else(|| readable(&sighting.breed), |individual| individual.name.clone());
    Who { name, species: sighting.species.to_string(), probability: sighting.breed_p }
}

/// Who a decision is about, with the probability of the newest frame that shows it.
fn who(animal: &Animal, record: &Record) -> Who {
    let named = animal.individual.as_ref().or(animal.breed.as_ref());
    let frame = record.frames.iter().rev().find(|frame| frame.verdict == "animal");
    let p = frame.and_then(|frame| if animal.breed.is_some() { frame.breed.as_ref() } else { frame.species.as_ref() });
    Who {
        name: readable(named.unwrap_or(&animal.species)),
        species: animal.species.clone(),
        probability: p.map_or(f32::NAN, |(_, p)| *p),
    }
}

fn readable(label: &str) -> String {
    label.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Species;
    use crate::policy::fault::Fault;

    fn face() -> Face {
        Face::of("back door", TimeZone::UTC, true)
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(seconds))
    }

    fn view(phase: Phase, presence: Presence<'_>) -> View<'_> {
        let latch = if phase == Phase::Open { Position::Unlocked } else { Position::Locked };
        View { door: Some((phase, Some(latch))), faults: vec![], presence, trouble: None, clock_is_good: true }
    }

    fn locked() -> View<'static> {
        view(Phase::Locked, Presence::Nobody)
    }

    fn decided(answer: Answer, animal: Option<&str>) -> Record {
        let animal = animal.map(|breed| Animal { species: "cat".into(), breed: Some(breed.into()), individual: None });
        let time = "2026-06-10T21:47:10Z".parse().unwrap();
        Record { decision: Some(answer), animal, reason: Some("because".into()), ..Record::new(Kind::Decision, time) }
    }

    fn sighting() -> Evidence {
        let breed = "Maine_Coon".to_owned();
        Evidence::Animal(Sighting { species: Species::Cat, species_p: 0.99, breed, breed_p: 0.9, pet: 1.0, individual: None })
    }

    /// Headline-like summary of a scene.
    fn says(face: &Face, view: &View<'_>, now: u64) -> String {
        match face.screen(view, at(now), "2026-06-10T21:50:00Z".parse().unwrap()).scene {
            Scene::Starting => "starting".into(),
            Scene::Idle { last } => format!("idle {}", last.unwrap_or_default()),
            Scene::Motion { what } => format!("motion {what}"),
            Scene::Animal(who) => format!("animal {} {}", who.name, who.detail()),
            Scene::Decision { allowed, what, who, why } => {
                format!("{allowed} {what} {} {why}", who.map(|who| who.name).unwrap_or_default())
            }
            Scene::Fault { what } => format!("fault {what}"),
            Scene::Ended { why } => format!("ended {why}"),
        }
    }

    #[test]
    fn a_visit_from_motion_to_rest() {
        let mut face = face();
        assert_eq!(says(&face, &view(Phase::Starting, Presence::Nobody), 0), "starting");
        assert_eq!(says(&face, &locked(), 1), "idle ");
        assert_eq!(says(&face, &view(Phase::Locked, Presence::Somebody(None)), 2), "motion something moves");
        let cat = sighting();
        let there = || Presence::Somebody(Some(&cat));
        assert_eq!(says(&face, &view(Phase::Locked, there()), 3), "animal Maine Coon cat 90 %");
        face.record(&decided(Answer::Allow, Some("Maine_Coon")), at(4));
        assert_eq!(says(&face, &view(Phase::Open, there()), 5), "true opens Maine Coon because");
        assert_eq!(says(&face, &view(Phase::Open, there()), 20), "true opens Maine Coon because", "as long as it is open");
        assert_eq!(says(&face, &view(Phase::Locked, there()), 21), "animal Maine Coon cat 90 %");
        assert_eq!(says(&face, &locked(), 22), "idle 21:47 Maine Coon: let in");
    }

    #[test]
    fn nothing_is_shown_as_open_that_is_not() {
        let mut face = face();
        face.record(&decided(Answer::Allow, Some("Maine_Coon")), at(4));
        assert_eq!(says(&face, &locked(), 5), "true may pass Maine Coon because");
        let screen = face.screen(&locked(), at(5), Timestamp::UNIX_EPOCH);
        assert_eq!(screen.door, Some(Bolt::Locked));
        let lost = View { door: Some((Phase::Locked, None)), ..locked() };
        assert_eq!(face.screen(&lost, at(5), Timestamp::UNIX_EPOCH).door, Some(Bolt::Unknown));
    }

    #[test]
    fn the_rule_is_named_that_decided() {
        let mut face = face();
        face.record(&Record { rule: Some("no dogs".into()), ..decided(Answer::Deny, Some("Pug")) }, at(1));
        assert_eq!(says(&face, &locked(), 2), "false stays shut Pug no dogs");
    }

    #[test]
    fn a_denial_is_news_for_a_while() {
        let mut face = face();
        face.record(&decided(Answer::Deny, None), at(10));
        assert_eq!(says(&face, &locked(), 13), "false stays shut  because");
        assert_eq!(says(&face, &locked(), 14), "idle 21:47 somebody: kept out");
    }

    #[test]
    fn a_feeder_speaks_of_food() {
        let mut face = Face::of("bowl", TimeZone::UTC, false);
        let feeder = || View { door: None, ..locked() };
        face.record(&Record { portions: Some(1), ..decided(Answer::Allow, Some("Bengal")) }, at(1));
        assert_eq!(says(&face, &feeder(), 2), "true gives food Bengal because");
        face.record(&decided(Answer::Deny, Some("Bengal")), at(3));
        assert_eq!(says(&face, &feeder(), 4), "false no food Bengal because");
    }

    #[test]
    fn a_fault_comes_before_everything_and_goes_when_it_is_over() {
        let mut face = face();
        face.record(&decided(Answer::Allow, Some("Bengal")), at(1));
        let faulty = View { faults: vec![Fault::Camera.to_string()], ..view(Phase::Fault, Presence::Somebody(None)) };
        assert_eq!(says(&face, &faulty, 2), format!("fault {}", Fault::Camera));
        let lost = Record { reason: Some("the camera is lost".into()), ..Record::new(Kind::Fault, Timestamp::UNIX_EPOCH) };
        face.record(&lost, at(2));
        assert_eq!(says(&face, &faulty, 2), "fault the camera is lost");
        face.record(&Record::new(Kind::Recovered, Timestamp::UNIX_EPOCH), at(3));
        assert_eq!(says(&face, &locked(), 9), "idle 21:47 Bengal: let in");
    }

    #[test]
    fn what_is_seen_and_not_known_is_said() {
        let unclear = Evidence::Unknown(crate::policy::Reason::Fault("too dark".into()));
        let face = face();
        assert_eq!(says(&face, &view(Phase::Locked, Presence::Somebody(Some(&unclear))), 1), "motion too dark");
        let nobody = Evidence::NoAnimal;
        assert_eq!(says(&face, &view(Phase::Locked, Presence::Somebody(Some(&nobody))), 1), "motion no pet in the picture");
        let full = View { trouble: Some("the disk is full"), ..locked() };
        assert_eq!(says(&face, &full, 1), "idle the disk is full");
    }

    #[test]
    fn a_clock_that_is_not_believed_shows_no_time() {
        let wall = "2026-06-10T21:50:00Z".parse().unwrap();
        assert_eq!(face().screen(&locked(), at(1), wall).clock.as_deref(), Some("21:50"));
        let doubtful = View { clock_is_good: false, ..locked() };
        assert_eq!(face().screen(&doubtful, at(1), wall).clock, None);
    }
}
