//! `pawgate demo`: the sample pictures as a camera, through the whole chain, to a simulated door.

use std::io::Write;
use std::time::Duration;

use super::replay::rehearse;
use super::setup;
use super::{Exit, Failure, ModelArgs};
use crate::hw::camera::pictures::{Pictures, Play};
use crate::hw::camera::{Camera, Timing};
use crate::hw::clock::Clock;
use crate::journal::{Kind, Record};
use crate::samples::SAMPLES;

/// Long enough for a vote, and for the least time between two movements of the latch.
const MOMENT: Duration = Duration::from_millis(1600);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let ready = setup::load(None, None, &args.model)?;
    writeln!(out, "The door's rule: cats may pass. Each picture stands before the camera for a moment.\n")?;
    for sample in &SAMPLES {
        let mut rehearsal = rehearse(&ready)?;
        rehearsal.start();
        let play = Play { hold: MOMENT, fps: ready.config.camera().fps, ..Play::default() };
        let mut camera = Pictures::of_samples(std::slice::from_ref(sample), play, Timing::Recorded(rehearsal.clock.now().mono));
        while let Some(frame) = camera.next().map_err(|e| Failure::new(Exit::Camera, e))? {
            rehearsal.frame(&frame);
        }
        rehearsal.rest();
        let decision = rehearsal.sink.records.iter().find(|record| record.event == Kind::Decision);
        let door = if rehearsal.opened() { "OPENS" } else { "stays shut" };
        let seen = decision.map_or_else(String::new, seen);
        let why = decision.map_or_else(String::new, |record| {
            let rule = record.rule.as_ref().map(|rule| format!("{rule}: ")).unwrap_or_default();
            format!("({rule}{})", record.reason.as_deref().unwrap_or_default())
        });
        writeln!(out, "{:<12}  {seen:<24}  door {door:<10}  {why}", sample.name)?;
    }
    Ok(Exit::Ok)
}

/// Who stood there, or what the last frame was taken for.
fn seen(record: &Record) -> String {
    match (&record.animal, record.frames.last()) {
        (Some(animal), _) => format!("{}, {}", animal.species, super::events::animal(animal)),
        (None, Some(frame)) => frame.verdict.clone(),
        (None, None) => String::new(),
    }
}
