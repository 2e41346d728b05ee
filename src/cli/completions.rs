//! `pawgate completions`: what a shell needs to complete pawgate's command line, from the same definition that parses it.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    // By way of memory: clap panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pawgate", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Ok)
}
