//! The `pawgate` binary: parse, run, report.
#![deny(unsafe_code)]

use clap::Parser;

fn main() -> std::process::ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,tract=error")).format_target(false).init();
    pawgate::cli::Cli::parse().run().into()
}
