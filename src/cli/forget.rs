//! `pawgate forget`: an enrolled animal, or all strangers, out of the file of enrolled animals.

use std::io::Write;

use super::files::IndividualsArgs;
use super::{Exit, Failure};
use crate::individuals::{Roster, file};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of the animals.
    #[arg(value_name = "NAME", required_unless_present = "strangers")]
    names: Vec<String>,
    /// Forget the strangers' pictures too.
    #[arg(long)]
    strangers: bool,
    #[command(flatten)]
    individuals: IndividualsArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let failed = |e| Failure::new(Exit::Individuals, e);
    let path = args.individuals.file()?;
    // Before the lock, which would make the folder of a name that was mistyped.
    Roster::load_any(&path).map_err(failed)?;
    let _lock = file::lock(&path).map_err(failed)?;
    let mut roster = Roster::load_any(&path).map_err(failed)?;
    let mut told = Vec::new();
    for name in &args.names {
        let animal = roster.forget(name).map_err(|e| Failure::new(Exit::Partly, e))?;
        told.push(format!("{name} and {} pictures are forgotten", animal.pictures.len()));
    }
    if args.strangers {
        told.push(format!("{} pictures of strangers are forgotten", roster.forget_strangers()));
    }
    roster.save(&path).map_err(failed)?;
    for line in told {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Ok)
}
