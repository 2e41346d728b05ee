//! Buttons and beams as events of the door.
//!
//! | input | event |
//! |---|---|
//! | beam | the opening is not free, or is free again |
//! | button | a person unlocks or locks the door for a while; another press ends that |
//! | exit sensor | somebody inside wants to leave |
//!
//! A beam that cannot be read counts as an opening that is free: the door then closes by its own times, and the fault is told. A button
//! that is held down at the start is stuck, and nobody's wish.

use std::time::Duration;

use super::chain::Chain;
use super::{Sink, explain};
use crate::hw::clock::{Clock, Monotonic};
use crate::hw::inputs::{Debounce, Edge, Error, Input, InputSettings};
use crate::journal::Kind;
use crate::policy::door::{Event, Sensor};

/// How long contacts bounce.
const BOUNCE: Duration = Duration::from_millis(30);
/// How often an input that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a button does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Everybody passes for a while.
    Unlock,
    /// Nobody passes for a while.
    Lock,
}

/// A button for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ButtonSettings {
    /// Where it is.
    pub input: InputSettings,
    /// What it does.
    pub press: Press,
    /// For how long; the door's longest override at most.
    pub lasting: Duration,
}

/// The inputs of a door.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Active while something stands in the opening.
    pub beam: Option<InputSettings>,
    /// A button for people.
    pub button: Option<ButtonSettings>,
    /// Active when somebody inside wants to leave.
    pub exit: Option<InputSettings>,
}

/// What an input means.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Beam,
    Button(Press, Duration),
    Exit,
}

/// The inputs of a door, open.
#[derive(Default)]
pub struct Inputs(Vec<Watched>);

struct Watched {
    input: Box<dyn Input>,
    meaning: Meaning,
    debounce: Debounce,
    /// When it may be tried again, after it failed.
    failed: Option<Monotonic>,
    /// Until when a press is in force.
    pressed: Option<Monotonic>,
}

impl Inputs {
    /// Opens them.
    ///
    /// # Errors
    /// One is not there or held by somebody.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        let mut inputs = Self::default();
        if let Some(beam) = &settings.beam {
            inputs.add(beam.open("beam")?, Meaning::Beam);
        }
        if let Some(button) = &settings.button {
            inputs.add(button.input.open("button")?, Meaning::Button(button.press, button.lasting));
        }
        if let Some(exit) = &settings.exit {
            inputs.add(exit.open("exit sensor")?, Meaning::Exit);
        }
        Ok(inputs)
    }

    fn add(&mut self, input: Box<dyn Input>, meaning: Meaning) {
        self.0.push(Watched { input, meaning, debounce: Debounce::new(BOUNCE), failed: None, pressed: None });
    }

    /// Looks at all of them, and tells the door.
    pub fn poll(&mut self, chain: &mut Chain, clock: &dyn Clock, sink: &mut dyn Sink) {
        for watched in &mut self.0 {
            if let Some(event) = watched.poll(clock, sink) {
                chain.door_event(event, clock, sink);
            }
        }
    }
}

impl Watched {
    fn poll(&mut self, clock: &dyn Clock, sink: &mut dyn Sink) -> Option<Event> {
        let now = clock.now();
        if self.failed.is_some_and(|until| now.mono < until) {
            return None;
        }
        match self.input.active() {
            Ok(active) => {
                if self.failed.take().is_some() {
                    sink.record(explain::plain(Kind::Recovered, now.wall, "an input can be read again"), None);
                }
                self.debounce.step(active, now.mono).and_then(|edge| self.meaning_of(edge, now.mono))
            }
            Err(error) => {
                let first = self.failed.replace(now.mono + RETRY).is_none();
                if first {
                    sink.record(explain::plain(Kind::Fault, now.wall, error.to_string()), None);
                }
                self.debounce.reset();
                (first && matches!(self.meaning, Meaning::Beam)).then_some(Event::Free(Sensor::Beam))
            }
        }
    }

    fn meaning_of(&mut self, edge: Edge, now: Monotonic) -> Option<Event> {
        match self.meaning {
            Meaning::Beam if edge.active => Some(Event::Obstructed(Sensor::Beam)),
            Meaning::Beam => Some(Event::Free(Sensor::Beam)),
            _ if !edge.active || edge.first => None,
            Meaning::Exit => Some(Event::ExitRequest),
            Meaning::Button(..) if self.pressed.take().is_some_and(|until| now < until) => Some(Event::OverrideEnd),
            Meaning::Button(press, lasting) => {
                self.pressed = Some(now + lasting);
                Some(match press {
                    Press::Unlock => Event::OverrideUnlock(lasting),
                    Press::Lock => Event::OverrideLock(lasting),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::clock::Simulated;
    use crate::service::Memory;
    use std::path::Path;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Bench {
        clock: Simulated,
        sink: Memory,
        watched: Watched,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new(meaning: Meaning) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let input = InputSettings::File(folder.path().join("line")).open("line").unwrap();
            let watched = Watched { input, meaning, debounce: Debounce::new(BOUNCE), failed: None, pressed: None };
            Self { clock: Simulated::at(jiff::Timestamp::UNIX_EPOCH), sink: Memory::default(), watched, folder }
        }

        fn line(&self) -> std::path::PathBuf {
            Path::new(self.folder.path()).join("line")
        }

        /// Events of ten polls in half a second at this level.
        fn hold(&mut self, level: &str) -> Vec<Event> {
            std::fs::write(self.line(), level).unwrap();
            (0..10).filter_map(|_| self.poll()).collect()
        }

        fn poll(&mut self) -> Option<Event> {
            self.clock.advance(Duration::from_millis(50));
            self.watched.poll(&self.clock, &mut self.sink)
        }
    }

    #[test]
    fn a_beam_is_free_or_not() {
        let mut bench = Bench::new(Meaning::Beam);
        assert_eq!(bench.hold("1"), [Event::Obstructed(Sensor::Beam)], "at the start too");
        assert_eq!(bench.hold("0"), [Event::Free(Sensor::Beam)]);
    }

    #[test]
    fn a_button_unlocks_for_a_while_and_ends_it_when_pressed_again() {
        let mut bench = Bench::new(Meaning::Button(Press::Unlock, MINUTE));
        assert_eq!(bench.hold("1"), [], "one that is held down at the start is stuck");
        assert_eq!(bench.hold("0"), []);
        assert_eq!(bench.hold("1"), [Event::OverrideUnlock(MINUTE)]);
        assert_eq!(bench.hold("0"), []);
        assert_eq!(bench.hold("1"), [Event::OverrideEnd]);
        assert_eq!((bench.hold("0"), bench.hold("1")), (vec![], vec![Event::OverrideUnlock(MINUTE)]));
        bench.clock.advance(MINUTE);
        assert_eq!((bench.hold("0"), bench.hold("1")), (vec![], vec![Event::OverrideUnlock(MINUTE)]), "the one before is over");
    }

    #[test]
    fn an_input_that_fails_is_told_once_and_frees_the_opening() {
        let mut bench = Bench::new(Meaning::Beam);
        bench.hold("1");
        std::fs::remove_file(bench.line()).unwrap();
        assert_eq!(bench.poll(), Some(Event::Free(Sensor::Beam)));
        for _ in 0..60 {
            bench.poll();
        }
        std::fs::write(bench.line(), "1").unwrap();
        let events: Vec<_> = (0..40).filter_map(|_| bench.poll()).collect();
        assert_eq!(events, [Event::Obstructed(Sensor::Beam)]);
        let kinds: Vec<_> = bench.sink.records.iter().map(|record| record.event).collect();
        assert_eq!(kinds, [Kind::Fault, Kind::Recovered]);
    }
}
