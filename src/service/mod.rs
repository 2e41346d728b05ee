//! The chain from frames to actions, and what drives it.
//!
//! | module | does |
//! |---|---|
//! | [`chain`] | one frame after the other through motion, classifier, vote and rules |
//! | [`live`] | a camera's thread, inputs, signals and deadlines around it |
//! | [`inputs`] | buttons and beams as events of the door |
//! | [`oversight`] | what systemd, `pawgate status` and the latch's guard see |
//! | [`rehearsal`] | all of it on a simulated clock, before a simulated door |
//! | [`units`] | the door and the feeder with their actuators |
//! | [`face`] | what the display shows of it |
//! | [`explain`] | what was weighed, as a [`crate::journal::Record`] |
//!
//! [`chain::Chain`] is synchronous and takes the time from a [`crate::hw::clock::Clock`]: the service, `replay`, `demo` and the tools
//! drive the very same code.

pub mod chain;
pub mod explain;
pub mod face;
pub mod inputs;
pub mod live;
pub mod oversight;
pub mod rehearsal;
pub mod units;

use image::RgbImage;

use crate::journal::{Journal, Record};

/// Where events go.
pub trait Sink {
    /// Takes an event, and the picture that belongs to it; returns the event's number.
    fn record(&mut self, record: Record, picture: Option<&RgbImage>) -> u64;

    /// Passes on what the sink has to say about itself.
    fn notices(&mut self) {}

    /// Why events do not reach the disk, where they do not.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// Keeps events in memory and numbers them: for `replay`, `demo` and tests.
#[derive(Debug, Default)]
pub struct Memory {
    /// What happened, oldest first.
    pub records: Vec<Record>,
}

impl Sink for Memory {
    fn record(&mut self, mut record: Record, _picture: Option<&RgbImage>) -> u64 {
        record.id = self.records.len() as u64 + 1;
        let id = record.id;
        self.records.push(record);
        id
    }
}

/// Into the journal, where there is one, and to whoever listens.
pub struct Journaled<F> {
    journal: Option<Journal>,
    /// Events so far; their numbers where there is no journal.
    count: u64,
    listener: F,
}

impl<F: FnMut(&Record)> Journaled<F> {
    /// `listener` is told of every event, with its number.
    pub fn new(journal: Option<Journal>, listener: F) -> Self {
        Self { journal, count: 0, listener }
    }

    /// The journal, to be closed.
    pub fn into_journal(self) -> Option<Journal> {
        self.journal
    }
}

impl<F: FnMut(&Record)> Sink for Journaled<F> {
    fn record(&mut self, mut record: Record, picture: Option<&RgbImage>) -> u64 {
        self.count += 1;
        record.id = match &self.journal {
            Some(journal) => journal.write(record.clone(), picture.cloned()),
            None => self.count,
        };
        (self.listener)(&record);
        record.id
    }

    fn notices(&mut self) {
        for record in self.journal.iter().flat_map(Journal::take_notices) {
            (self.listener)(&record);
        }
    }

    fn trouble(&self) -> Option<String> {
        self.journal.as_ref().and_then(Journal::trouble)
    }
}
