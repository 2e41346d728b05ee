//! `pawgate demo`: the sample pictures through the classifier, and what the door would do.

use std::io::Write;

use super::{Exit, Failure, ModelArgs};
use crate::model::{Classifier, Reading, Verdict};
use crate::policy::{Decision, Evidence, Reason, demo_rule};
use crate::samples::SAMPLES;
use crate::vision;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let classifier = args.model.load()?;
    writeln!(out, "The door's rule: cats may pass.\n")?;
    for sample in SAMPLES {
        let (seen, evidence) = match look(&classifier, sample.jpeg) {
            Ok(reading) => (describe(&reading), Evidence::from(&reading)),
            Err(fault) => (format!("error: {fault}"), Evidence::Unknown(Reason::Fault(fault))),
        };
        let (door, because) = match demo_rule(&evidence) {
            Decision::Open { because } => ("OPENS", because),
            Decision::StayShut { because } => ("stays shut", because),
        };
        writeln!(out, "{:<12}  {seen:<44}  door {door:<10}  ({because})", sample.name)?;
    }
    Ok(Exit::Ok)
}

fn look(classifier: &Classifier, jpeg: &[u8]) -> Result<Reading, String> {
    let picture = vision::decode(jpeg).map_err(|e| e.to_string())?;
    let scores = classifier.infer(&picture).map_err(|e| e.to_string())?;
    Ok(classifier.read(&scores, 1))
}

/// One line for people: what is there and how sure pawgate is.
fn describe(reading: &Reading) -> String {
    let pet = super::classify::percent(reading.pet);
    let best = reading.best();
    match reading.verdict {
        Verdict::Animal => {
            let breed = super::classify::readable(&best.breed);
            format!("{}, {breed} {} (pet {pet})", reading.species, super::classify::percent(best.p))
        }
        verdict => match reading.doubt {
            Some(doubt) => format!("{verdict}: {doubt} (pet {pet})"),
            None => format!("{verdict} (pet {pet})"),
        },
    }
}
