//! The command line: one file a subcommand, and what they share.
//!
//! Each subcommand writes its result to standard output, everything else to standard error, and returns an [`Exit`].

mod bench;
mod camera_feed;
mod check;
mod classify;
mod completions;
mod demo;
mod display;
mod doctor;
mod enroll;
mod events;
mod files;
mod forget;
mod individuals;
mod man;
mod replay;
mod run;
mod safe_state;
mod setup;
mod status;
mod why;

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::individuals::ModelIdentity;
use crate::model::Classifier;
use crate::nn::Options;

/// Which animal stands at the door, and may it pass?
#[derive(Debug, Parser)]
#[command(name = "pawgate", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show on four sample pictures what pawgate sees and what the door does.
    Demo(demo::Args),
    /// Watch a camera and decide, until a signal.
    Run(run::Args),
    /// Play recorded pictures through the whole chain, as fast as it goes.
    Replay(replay::Args),
    /// Say which animal is on pictures.
    Classify(classify::Args),
    /// Measure how fast the model runs on this machine, and where the time goes.
    Bench(bench::Args),
    /// Say how a running pawgate is.
    Status(status::Args),
    /// Send the latch to its safe state, for after the service's end.
    SafeState(safe_state::Args),
    /// Write a V4L2 camera's frames to standard output.
    #[command(hide = true)]
    CameraFeed(camera_feed::Args),
    /// Show what happened: motion, decisions, doors, faults.
    Events(events::Args),
    /// Explain a decision: what was seen, which rule decided, what the door did.
    Why(why::Args),
    /// Learn from pictures to recognise one animal, and measure how well that works.
    Enroll(enroll::Args),
    /// Forget an enrolled animal and its pictures.
    Forget(forget::Args),
    /// Show who is enrolled, and what a rule may rely on.
    Individuals(individuals::Args),
    /// Check a configuration, and whether model and rules fit together.
    Check(check::Args),
    /// Say what is wrong with this machine, and how to mend it.
    Doctor(doctor::Args),
    /// Show every screen on the display, or as pictures.
    Display(display::Args),
    /// Write the completions of a shell to standard output.
    Completions(completions::Args),
    /// Write the manual page to standard output, or all of them into a folder.
    #[command(hide = true)]
    Man(man::Args),
}

/// Exit codes of every subcommand. Whoever waits for a program (a script, systemd) relies on them: a number keeps its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// Some of it was not done, or not found; standard output or error says which part.
    Partly = 1,
    /// The command line is wrong: clap's own code, and that of a value which only the subcommand can judge.
    Usage = 2,
    /// The model could not be loaded or run.
    Model = 3,
    /// The output could not be written.
    Io = 4,
    /// The configuration could not be read, or something in it is wrong, or it does not fit the model or the enrolled animals.
    Config = 5,
    /// The journal could not be read.
    Journal = 6,
    /// There is no camera, or it was lost and cannot be opened again.
    Camera = 7,
    /// The file of enrolled animals could not be read or written.
    Individuals = 8,
    /// A latch, feeder or input could not be opened or moved.
    Device = 9,
    /// No pawgate runs that could be asked.
    NotRunning = 10,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with the exit code it ends the program with.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Io, error)
    }
}

impl Cli {
    /// Runs the subcommand; errors are printed here.
    pub fn run(self) -> Exit {
        let mut out = std::io::stdout().lock();
        let result = match self.command {
            Command::Demo(args) => demo::run(&args, &mut out),
            Command::Run(args) => run::run(&args, &mut out),
            Command::Replay(args) => replay::run(&args, &mut out),
            Command::Classify(args) => classify::run(&args, &mut out),
            Command::Bench(args) => bench::run(&args, &mut out),
            Command::Events(args) => events::run(&args, &mut out),
            Command::Status(args) => status::run(&args, &mut out),
            Command::SafeState(args) => safe_state::run(&args, &mut out),
            Command::CameraFeed(args) => camera_feed::run(&args),
            Command::Why(args) => why::run(&args, &mut out),
            Command::Enroll(args) => enroll::run(&args, &mut out),
            Command::Forget(args) => forget::run(&args, &mut out),
            Command::Individuals(args) => individuals::run(&args, &mut out),
            Command::Check(args) => check::run(&args, &mut out),
            Command::Doctor(args) => doctor::run(&args, &mut out),
            Command::Display(args) => display::run(&args, &mut out),
            Command::Completions(args) => completions::run(&args, &mut out),
            Command::Man(args) => man::run(&args, &mut out),
        };
        let result = result.and_then(|exit| {
            out.flush()?;
            Ok(exit)
        });
        match result {
            Ok(exit) => exit,
            // The reader (`head`, a closed pager) has seen enough.
            Err(Failure { error, .. }) if is_broken_pipe(&error) => Exit::Ok,
            Err(Failure { exit, error }) => {
                eprintln!("pawgate: {error:#}");
                exit
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The model to run: a file, or the one that was compiled in.
#[derive(Debug, clap::Args)]
struct ModelArgs {
    /// Run this model file instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

impl ModelArgs {
    fn load(&self) -> Result<Classifier, Failure> {
        self.load_with(Options::from_env().map_err(|e| Failure { exit: Exit::Model, error: anyhow::anyhow!(e) })?)
    }

    fn load_with(&self, options: Options) -> Result<Classifier, Failure> {
        let loaded = match &self.model {
            Some(path) => load_file(path, options),
            None => load_embedded(options),
        };
        loaded.map_err(|error| Failure { exit: Exit::Model, error })
    }

    /// This model, or else the configured one.
    fn or(&self, configured: Option<&Path>) -> Self {
        Self { model: self.model.clone().or_else(|| configured.map(Path::to_path_buf)) }
    }

    /// The model's name for people.
    fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| "the built-in one".to_owned(), |file| file.display().to_string())
    }

    /// The model, and which one it is.
    fn load_identified(&self) -> Result<(Classifier, ModelIdentity), Failure> {
        let options = Options::from_env().map_err(|e| Failure { exit: Exit::Model, error: anyhow::anyhow!(e) })?;
        // Read once: a file that is replaced in between would be taken for another.
        let bytes = self.bytes()?;
        let classifier = Classifier::from_bytes(&bytes, options).with_context(|| match &self.model {
            Some(path) => unusable(path),
            None => UNUSABLE_BUILT_IN.into(),
        });
        let classifier = classifier.map_err(|error| Failure { exit: Exit::Model, error })?;
        let identity = ModelIdentity::new(&bytes, classifier.embedding_len());
        Ok((classifier, identity))
    }

    /// The model file's bytes.
    fn bytes(&self) -> Result<Cow<'static, [u8]>, Failure> {
        match &self.model {
            Some(path) => read_file(path).map(Cow::Owned),
            None => embedded_bytes().map(Cow::Borrowed),
        }
        .map_err(|error| Failure { exit: Exit::Model, error })
    }
}

fn load_file(path: &Path, options: Options) -> anyhow::Result<Classifier> {
    Classifier::from_bytes(&read_file(path)?, options).with_context(|| unusable(path))
}

fn unusable(path: &Path) -> String {
    format!("cannot use {} as a model; expected an ONNX file written by `pawgate-tools quantize`", path.display())
}

const UNUSABLE_BUILT_IN: &str = "the built-in model is unusable, which is a fault of this build";

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    // Read, not memory-mapped: a mapped file that is replaced on disk kills the process.
    std::fs::read(path).with_context(|| format!("cannot read the model {}", path.display()))
}

fn embedded_bytes() -> anyhow::Result<&'static [u8]> {
    #[cfg(feature = "embedded-model")]
    return Ok(crate::model::EMBEDDED);
    #[cfg(not(feature = "embedded-model"))]
    anyhow::bail!("this pawgate was built without a model: give one with --model FILE")
}

fn load_embedded(options: Options) -> anyhow::Result<Classifier> {
    Classifier::from_bytes(embedded_bytes()?, options).context(UNUSABLE_BUILT_IN)
}
