//! `pawgate-tools`: builds, trains, quantises and measures the model that `pawgate` runs.
//!
//! | command | reads | writes |
//! |---|---|---|
//! | `fetch` | the network, or a folder | official checkpoints and pictures |
//! | `build` | two backbone checkpoints | the fused fp32 network |
//! | `train` | the network, labelled pictures, negatives | the head |
//! | `quantize` | the network, the head, pictures | the int8 model |
//! | `evaluate` | the network, the model, pictures | tables, JSON, a report |
//! | `report` | the figures of an evaluation | the report |
//! | `recipe` | checkpoints and pictures | all of it, in this order |
#![deny(unsafe_code)]

mod backend;
mod commands;
mod conditions;
mod data;
mod evaluate;
mod features;
mod fetch;
mod files;
mod folds;
mod graph;
mod material;
mod progress;
mod quantize;
mod report;
mod stats;
mod train;
mod weights;

use clap::Parser;

fn main() -> std::process::ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("info,tract=error,cubecl=warn,naga=warn,wgpu=warn"),
    )
    .format_timestamp(None)
    .format_target(false)
    .init();
    match commands::Cli::parse().run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pawgate-tools: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
