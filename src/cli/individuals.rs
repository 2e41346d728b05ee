//! `pawgate individuals`: who is enrolled, and what a rule may rely on.

use std::io::Write;

use serde::Serialize;

use super::files::IndividualsArgs;
use super::{Exit, Failure, ModelArgs};
use crate::individuals::{Enrolled, Individuals, IndividualsError, ModelIdentity, Roster};
use crate::model::Species;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    individuals: IndividualsArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    species: Species,
    pictures: usize,
    /// Share of the own pictures that are recognised when left out.
    accepted: f32,
    strangers: usize,
    taken: usize,
    strangers_upper: f32,
    /// Whether a rule may allow by the name, at the configured minimum.
    enough: bool,
    needs_own: usize,
    needs_strangers: Option<usize>,
    /// SHA-256 of the picture files.
    picture_sha256: Vec<&'a str>,
    radius: f32,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (settings, model) = args.individuals.read(&args.model)?;
    let roster = match Roster::load_any(&settings.file) {
        Err(error @ IndividualsError::Missing(_)) => {
            eprintln!("pawgate: {error}");
            return Ok(Exit::Ok);
        }
        other => other.map_err(|e| Failure::new(Exit::Individuals, e))?,
    };
    for enrolled in Individuals::from_roster(&roster).evidence(&settings) {
        if args.json {
            let line = line(&roster, &enrolled);
            writeln!(out, "{}", serde_json::to_string(&line).map_err(|e| Failure::new(Exit::Io, e))?)?;
        } else {
            writeln!(out, "{}", describe(&enrolled))?;
            if let Some(refusal) = enrolled.refusal() {
                writeln!(out, "    {refusal}")?;
            }
        }
    }
    let running = ModelIdentity::new(&model.bytes()?, roster.model().embedding_len);
    if running != *roster.model() {
        let (enrolled, running) = (roster.model().sha256.clone(), running.sha256);
        let error = IndividualsError::OtherModel { path: settings.file, enrolled, running };
        eprintln!("pawgate: {error}");
        return Ok(Exit::Partly);
    }
    Ok(Exit::Ok)
}

fn line<'a>(roster: &'a Roster, enrolled: &'a Enrolled) -> Line<'a> {
    let animal = roster.animal(&enrolled.name);
    Line {
        name: &enrolled.name,
        species: enrolled.species,
        pictures: enrolled.pictures,
        accepted: enrolled.accepted,
        strangers: enrolled.strangers,
        taken: enrolled.taken,
        strangers_upper: enrolled.strangers_upper,
        enough: enrolled.needs_more.is_none(),
        needs_own: enrolled.needs_own,
        needs_strangers: enrolled.needs_strangers,
        picture_sha256: animal.into_iter().flat_map(|a| &a.pictures).map(|picture| picture.sha256.as_str()).collect(),
        radius: animal.map_or(f32::INFINITY, |a| a.radius),
    }
}

/// One line for people.
pub(super) fn describe(enrolled: &Enrolled) -> String {
    let Enrolled { name, species, pictures, accepted, strangers, taken, strangers_upper, .. } = enrolled;
    format!(
        "{name} ({species}): {pictures} different pictures, {:.0} % of them recognised when left out; {taken} of {strangers} \
         pictures of other {species}s taken for {name} (at most {:.1} %, 95 % confidence)",
        accepted * 100.0,
        strangers_upper * 100.0
    )
}
