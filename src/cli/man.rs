//! `pawgate man`: the manual pages, from the same definition that parses the command line.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write a page for pawgate and one for each subcommand into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    // A page about `help` would help nobody.
    let command = Cli::command().disable_help_subcommand(true);
    let Some(folder) = &args.out else {
        Man::new(command).render(out)?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write manual pages into {}; name a folder that may be written", folder.display()))
        .map_err(|error| Failure { exit: Exit::Io, error })?;
    Ok(Exit::Ok)
}
