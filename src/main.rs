//! The `pawgate` binary: parse, run, report.
#![deny(unsafe_code)]

use std::io::Write;

use clap::Parser;
use env_logger::{Builder, Env};
use log::Level;

fn main() -> std::process::ExitCode {
    // Under systemd, the journal takes a level from the beginning of each line (sd-daemon(3)), and time is its own matter.
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let filter = if to_journal { "info,tract=error" } else { "warn,tract=error" };
    let mut logger = Builder::from_env(Env::default().default_filter_or(filter));
    logger.format_target(false);
    if to_journal {
        logger.format(|out, record| {
            let level = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            writeln!(out, "<{level}>{}", record.args().to_string().replace('\n', " "))
        });
    }
    logger.init();
    pawgate::cli::Cli::parse().run().into()
}
