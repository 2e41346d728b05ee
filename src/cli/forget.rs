//! `pawgate forget`: an enrolled animal, or all strangers, out of the file of enrolled animals.

use std::io::Write;
use std::path::PathBuf;

use super::{Exit, Failure};
use crate::individuals::{DEFAULT_FILE, Roster, file};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of the animals.
    #[arg(value_name = "NAME", required_unless_present = "strangers")]
    names: Vec<String>,
    /// Forget the strangers' pictures too.
    #[arg(long)]
    strangers: bool,
    /// The file of enrolled animals.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    file: PathBuf,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let failed = |e| Failure::new(Exit::Io, e);
    // Before the lock, which would make the folder of a name that was mistyped.
    Roster::load_any(&args.file).map_err(failed)?;
    let _lock = file::lock(&args.file).map_err(failed)?;
    let mut roster = Roster::load_any(&args.file).map_err(failed)?;
    let mut told = Vec::new();
    for name in &args.names {
        let animal = roster.forget(name).map_err(|e| Failure::new(Exit::Partly, e))?;
        told.push(format!("{name} and {} pictures are forgotten", animal.pictures.len()));
    }
    if args.strangers {
        told.push(format!("{} pictures of strangers are forgotten", roster.forget_strangers()));
    }
    roster.save(&args.file).map_err(failed)?;
    for line in told {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Ok)
}
