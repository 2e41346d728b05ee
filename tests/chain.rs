//! The whole chain on the sample pictures, with a simulated clock and latch: what opens, what does not, and what is recorded.
#![cfg(feature = "embedded-model")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pawgate::config::Config;
use pawgate::hw::actuator::{Position, SimulatedLatch};
use pawgate::hw::camera::pictures::{Pictures, Play};
use pawgate::hw::camera::{Camera, Frame, Timing};
use pawgate::hw::clock::{Clock, Simulated};
use pawgate::hw::fault::Injector;
use pawgate::individuals::Individuals;
use pawgate::journal::{Answer, Kind, Record};
use pawgate::model::Classifier;
use pawgate::nn::Options;
use pawgate::policy::fault::Fault;
use pawgate::policy::rules::{ClockWatch, Usage};
use pawgate::samples::{SAMPLES, Sample};
use pawgate::service::Memory;
use pawgate::service::chain::{Chain, Parts};
use pawgate::service::units::Door;

static CLASSIFIER: LazyLock<Classifier> = LazyLock::new(|| Classifier::embedded(Options::default()).unwrap());

const START: &str = "2026-06-01T12:00:00Z";

struct House {
    chain: Chain,
    clock: Simulated,
    latch: SimulatedLatch,
    sink: Memory,
}

fn config(rules: &str) -> Config {
    let text = format!("[camera]\nsource = \"x\"\nfps = 5\n[device]\ntime_zone = \"UTC\"\n[door]\n{rules}");
    Config::parse(text.as_bytes(), "test.toml".as_ref()).unwrap()
}

const CATS: &str = "[[rule]]\nname = \"cats\"\naction = \"allow\"\nspecies = \"cat\"\n";

impl House {
    fn new(rules: &str) -> Self {
        let config = Arc::new(config(rules));
        let clock = Simulated::at(START.parse().unwrap());
        let door = config.door().unwrap();
        let latch = SimulatedLatch::new(Arc::new(clock.clone()), door.min_interval);
        let parts = Parts {
            door: Some(Door::new(door, Box::new(latch.clone()))),
            feeder: None,
            classifier: CLASSIFIER.clone(),
            individuals: Individuals::nobody(),
            usage: Usage::default(),
            clocks: ClockWatch::synchronised(),
            faults: Injector::none(),
            config,
        };
        let mut house = Self { chain: Chain::new(parts).unwrap(), clock, latch, sink: Memory::default() };
        house.chain.start(&house.clock, &mut house.sink);
        house
    }

    /// Plays samples for three seconds each, handing each frame to `each` first.
    fn play(&mut self, names: &[&str], mut each: impl FnMut(&mut Self, &mut Frame)) {
        let samples: Vec<Sample> = names.iter().map(|name| *SAMPLES.iter().find(|s| s.name == *name).unwrap()).collect();
        let start = self.clock.now().mono + Duration::from_millis(200);
        let mut camera = Pictures::of_samples(&samples, Play { fps: 5, ..Play::default() }, Timing::Recorded(start));
        while let Some(mut frame) = camera.next().unwrap() {
            let wait = frame.captured.since(self.clock.now().mono);
            self.clock.advance(wait);
            each(self, &mut frame);
            self.chain.frame(&frame, &self.clock, &mut self.sink);
        }
    }

    /// Nothing but time.
    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 100 {
            self.clock.advance(Duration::from_millis(100));
            self.chain.tick(&self.clock, &mut self.sink);
        }
    }

    fn unlocked(&self) -> usize {
        self.latch.movements().iter().filter(|movement| movement.to == Position::Unlocked).count()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.sink.records.iter().filter(move |record| record.event == kind)
    }

    fn reasons(&self) -> String {
        self.sink.records.iter().map(|r| format!("{} {:?} {:?}\n", r.event, r.state, r.reason)).collect()
    }
}

#[test]
fn a_cat_opens_once_and_what_comes_behind_it_finds_the_door_locked() {
    let mut house = House::new(CATS);
    let mut locked_after = None;
    house.play(&["cat.jpg", "raccoon.jpg", "person.jpg"], |house, frame| {
        if locked_after.is_none() && house.unlocked() == 1 && house.latch.bolt() == Position::Locked {
            locked_after = Some((frame.name.clone(), frame.number));
        }
    });
    // Not when its time is over, but as soon as three frames show that it is no longer the cat who stands there.
    let (name, number) = locked_after.expect("it was locked again");
    assert_eq!((name.as_deref(), number), (Some("raccoon.jpg"), 15 + 4), "{}", house.reasons());
    house.chain.rest(&house.clock, &mut house.sink);
    house.pass(Duration::from_secs(10));
    assert_eq!(house.unlocked(), 1, "{}", house.reasons());
    assert_eq!(house.latch.bolt(), Position::Locked);
    assert!(house.latch.violations().is_empty(), "{:?}", house.latch.violations());
    let decisions: Vec<_> = house.of(Kind::Decision).collect();
    let allowed: Vec<_> = decisions.iter().filter(|r| r.decision == Some(Answer::Allow)).collect();
    let [allowed] = allowed[..] else { panic!("{}", house.reasons()) };
    // The record explains itself: frames with scores, thresholds, rule, time.
    assert_eq!(allowed.rule.as_deref(), Some("cats"));
    assert_eq!(allowed.frames.iter().filter(|frame| frame.agrees).count(), 3);
    assert!(
        allowed.frames.iter().all(|f| f.pet.is_some_and(|p| p > 0.5) && f.species.is_some()) && !allowed.thresholds.is_empty()
    );
    assert!(allowed.latency_ms.is_some());
    assert!(decisions.iter().all(|r| r.reason.as_ref().is_some_and(|reason| !reason.is_empty())));
    assert!(house.of(Kind::Door).any(|r| r.state.as_deref() == Some("open") && r.rule.as_deref() == Some("cats")));
}

#[test]
fn strangers_get_a_denial_each_and_no_movement() {
    let mut house = House::new(CATS);
    for name in ["raccoon.jpg", "coffee.jpg", "person.jpg"] {
        house.play(&[name], |_, _| {});
        house.chain.rest(&house.clock, &mut house.sink);
    }
    assert_eq!(house.unlocked(), 0, "{}", house.reasons());
    assert!(house.of(Kind::Decision).all(|r| r.decision == Some(Answer::Deny)));
    assert!(house.of(Kind::Decision).next().is_some());
}

#[test]
fn old_frames_open_nothing() {
    let mut house = House::new(CATS);
    // Each frame arrives a second and a half after it was captured; half a second less would do.
    house.play(&["cat.jpg"], |house, frame| {
        let age = house.clock.now().mono.since(frame.captured);
        house.clock.advance(Duration::from_millis(1500).saturating_sub(age));
    });
    house.chain.rest(&house.clock, &mut house.sink);
    assert_eq!(house.unlocked(), 0, "{}", house.reasons());
    assert!(house.reasons().contains("too old"), "{}", house.reasons());
    assert_eq!(house.chain.classified(), 0, "what cannot count is not computed");
}

#[test]
fn darkness_is_unknown_and_costs_no_inference() {
    let mut house = House::new(CATS);
    house.play(&["cat.jpg"], |_, frame| {
        let mut dark = (*frame.picture).clone();
        dark.iter_mut().for_each(|value| *value /= 8);
        frame.picture = Arc::new(dark);
    });
    house.chain.rest(&house.clock, &mut house.sink);
    assert_eq!((house.unlocked(), house.chain.classified()), (0, 0), "{}", house.reasons());
    assert!(house.reasons().contains("too dark"), "{}", house.reasons());
}

#[test]
fn a_lost_camera_locks_an_open_door_and_only_new_frames_open_it_again() {
    let mut house = House::new(CATS);
    let mut lost = false;
    house.play(&["cat.jpg"], |house, _| {
        if house.latch.bolt() == Position::Unlocked && !lost {
            lost = true;
            house.chain.fault(Fault::Camera, "the camera is lost", &house.clock, &mut house.sink);
        }
    });
    assert!(lost, "{}", house.reasons());
    house.pass(Duration::from_secs(3));
    assert_eq!((house.unlocked(), house.latch.bolt()), (1, Position::Locked), "{}", house.reasons());
    // Frames go on coming, but the fault stands.
    house.play(&["cat.jpg"], |_, _| {});
    assert_eq!(house.unlocked(), 1, "{}", house.reasons());
    house.chain.rest(&house.clock, &mut house.sink);
    house.chain.recovered(Fault::Camera, "it is back", &house.clock, &mut house.sink);
    house.pass(Duration::from_secs(3));
    assert_eq!(house.unlocked(), 1, "recovering opens nothing: {}", house.reasons());
    house.play(&["coffee.jpg", "cat.jpg"], |_, _| {});
    assert_eq!(house.unlocked(), 2, "{}", house.reasons());
}

#[test]
fn a_rule_that_denies_wins_and_says_so() {
    let dog = "[[rule]]\nname = \"no cats\"\naction = \"deny\"\nspecies = \"cat\"\n";
    let mut house = House::new(&format!("{dog}{CATS}"));
    house.play(&["cat.jpg"], |_, _| {});
    house.chain.rest(&house.clock, &mut house.sink);
    assert_eq!(house.unlocked(), 0);
    let decision = house.of(Kind::Decision).next().unwrap();
    assert_eq!((decision.decision, decision.rule.as_deref()), (Some(Answer::Deny), Some("no cats")));
}

#[test]
fn times_of_day_do_not_allow_after_the_clock_has_jumped() {
    let noon = "times = [{ from = \"11:00\", to = \"13:00\" }]\n";
    let mut house = House::new(&format!("{CATS}{noon}"));
    house.play(&["cat.jpg"], |_, _| {});
    assert_eq!(house.unlocked(), 1, "within its times: {}", house.reasons());
    house.chain.rest(&house.clock, &mut house.sink);
    house.pass(Duration::from_secs(20));
    // Forward by a minute, still within the times: nobody knows whether that is right.
    house.clock.set_wall("2026-06-01T12:05:00Z".parse().unwrap());
    house.play(&["coffee.jpg", "cat.jpg"], |_, _| {});
    assert_eq!(house.unlocked(), 1, "{}", house.reasons());
    let decision = house.of(Kind::Decision).last().unwrap();
    assert!(decision.passed_over.iter().any(|(_, why)| why.contains("clock")), "{decision:?}");
}

#[test]
fn one_frame_never_opens() {
    let mut house = House::new(CATS);
    let mut frames = 0;
    house.play(&["cat.jpg"], |house, _| {
        frames += 1;
        assert!(frames > 3 || house.unlocked() == 0, "opened after {frames} frames");
    });
    assert_eq!(house.unlocked(), 1);
}

#[test]
fn a_refused_opening_costs_no_cooldown() {
    let mut house = House::new(&format!("{CATS}cooldown = \"1h\"\n"));
    house.chain.fault(Fault::Camera, "the camera is lost", &house.clock, &mut house.sink);
    house.play(&["cat.jpg"], |_, _| {});
    house.chain.rest(&house.clock, &mut house.sink);
    assert_eq!(house.unlocked(), 0);
    let refused = house.of(Kind::Door).filter(|r| r.reason.as_ref().is_some_and(|why| why.starts_with("not now"))).count();
    assert_eq!(refused, 1, "said once: {}", house.reasons());
    house.chain.recovered(Fault::Camera, "it is back", &house.clock, &mut house.sink);
    house.pass(Duration::from_secs(3));
    house.play(&["coffee.jpg", "cat.jpg"], |_, _| {});
    assert_eq!(house.unlocked(), 1, "{}", house.reasons());
    house.chain.rest(&house.clock, &mut house.sink);
    house.pass(Duration::from_secs(30));
    house.play(&["coffee.jpg", "cat.jpg"], |_, _| {});
    assert_eq!(house.unlocked(), 1, "now it runs: {}", house.reasons());
}
