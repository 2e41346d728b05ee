//! `pawgate doctor`: everything that the door depends on, one line each: fine, or what is wrong and how to mend it.
//!
//! It looks and takes nothing away: lines are not requested, and a camera or display that a running pawgate uses is left to it.

mod devices;
mod machine;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::{Exit, Failure, ModelArgs};
use crate::config::{self, Config};
use crate::individuals::{Individuals, IndividualsError, ModelIdentity};
use crate::model::{Classifier, Species, Verdict};
use crate::samples::SAMPLES;
use crate::service::oversight::{self, STALE, STATUS_FILE, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Folder where a running pawgate says how it is; systemd names it.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Fine,
    /// Something has to be done.
    Wrong,
    /// Neither: it cannot be told here, or there is nothing to tell.
    Note,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "fine",
            Self::Wrong => "WRONG",
            Self::Note => "note",
        })
    }
}

/// What was found about a part.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Finding {
    part: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn fine(part: &'static str, found: impl Into<String>) -> Self {
        Self { part, state: State::Fine, found: found.into(), mend: None }
    }

    fn note(part: &'static str, found: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::fine(part, found) }
    }

    fn wrong(part: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { part, state: State::Wrong, found: found.into(), mend: Some(mend.into()) }
    }

    /// An error of this program, which says itself what to do.
    fn error(part: &'static str, error: &dyn fmt::Display) -> Self {
        Self { state: State::Wrong, ..Self::fine(part, error.to_string()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |text: &str| super::events::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        write!(f, "{:<5}  {:<8}  {}", self.state, self.part, one_line(&self.found))?;
        match &self.mend {
            Some(mend) => write!(f, ": {}", one_line(mend)),
            None => Ok(()),
        }
    }
}

/// What the single checks need to know.
struct Patient<'a> {
    config: Option<&'a Config>,
    /// A pawgate that runs.
    running: Option<Status>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut worst = false;
    let mut tell = |finding: Finding| -> Result<(), Failure> {
        worst |= finding.state == State::Wrong;
        if args.json {
            serde_json::to_writer(&mut *out, &finding).map_err(|e| Failure::new(Exit::Io, std::io::Error::from(e)))?;
            writeln!(out)?;
        } else {
            writeln!(out, "{finding}")?;
        }
        Ok(out.flush()?)
    };
    let folder = args.runtime.clone().unwrap_or_else(oversight::runtime_folder);
    let read = Config::read(&args.config);
    let config = read.as_ref().ok();
    let patient = Patient { config, running: running(&folder) };
    machine::asker().map(&mut tell).transpose()?;
    let (model, classifier) = model(&args.model.or(config.and_then(Config::model)));
    tell(match &read {
        Ok(config) => configuration(config, classifier.as_ref()),
        Err(error) => refused(&args.config, error),
    })?;
    tell(model)?;
    tell(service(patient.running.as_ref()))?;
    tell(devices::camera(&patient))?;
    devices::pins(&patient).into_iter().try_for_each(&mut tell)?;
    tell(devices::display(&patient))?;
    tell(machine::journal(&patient))?;
    tell(machine::user(&patient))?;
    tell(machine::power(Path::new("/")))?;
    tell(machine::clock(config))?;
    Ok(if worst { Exit::Partly } else { Exit::Ok })
}

/// The pawgate that runs, as it says itself.
fn running(folder: &Path) -> Option<Status> {
    let status: Status = serde_json::from_slice(&std::fs::read(folder.join(STATUS_FILE)).ok()?).ok()?;
    Path::new("/proc").join(status.pid.to_string()).exists().then_some(status)
}

fn refused(path: &Path, error: &config::ConfigError) -> Finding {
    let show = path.display();
    match error.problems() {
        [] if !path.exists() => Finding::wrong(
            "config",
            format!("there is no {show}"),
            format!(
                "copy an example there (/usr/share/doc/pawgate/examples/door.toml), adapt it, then `pawgate check --config {show}`"
            ),
        ),
        [] => Finding::error("config", error),
        problems => Finding::wrong(
            "config",
            format!("{show} is refused, {} {}", problems.len(), if problems.len() == 1 { "problem" } else { "problems" }),
            format!("`pawgate check --config {show}` says where and why"),
        ),
    }
}

fn configuration(config: &Config, classifier: Option<&(Classifier, ModelIdentity)>) -> Finding {
    let show = config.path().display();
    let rules = format!("{} {}", config.rules().len(), if config.rules().len() == 1 { "rule" } else { "rules" });
    let Some((classifier, identity)) = classifier else {
        return Finding::note(
            "config",
            format!("{show} can be read, {rules}; without a model nobody knows whether these fit it"),
        );
    };
    let animals = match Individuals::load(&config.individuals().file, identity) {
        Ok(animals) => animals,
        Err(IndividualsError::Missing(_)) => Individuals::nobody(),
        Err(error) => return Finding::error("config", &error),
    };
    match config.check_against(&classifier.metadata().labels, &animals) {
        Err(error) => refused(config.path(), &error.into()),
        Ok(()) if config.rules().is_empty() => {
            Finding::wrong("config", format!("{show} has no rule"), "everybody is denied: add one")
        }
        Ok(()) => Finding::fine("config", format!("{show}, {rules}")),
    }
}

/// Loads it and lets it look at a picture.
fn model(model: &ModelArgs) -> (Finding, Option<(Classifier, ModelIdentity)>) {
    let loaded = match model.load_identified() {
        Ok(loaded) => loaded,
        Err(failure) => return (Finding::error("model", &format!("{:#}", failure.error)), None),
    };
    let looked = look(&loaded.0, model.model.is_none());
    let finding = match looked {
        Ok(found) => Finding::fine("model", format!("{}, {found}", model.name())),
        Err(what) => {
            Finding::wrong("model", what, "this build or this processor computes wrongly: please report it, and do not use it")
        }
    };
    (finding, Some(loaded))
}

/// Time of an inference on a sample. Ours knows the cat on it; another model may not know cats.
fn look(classifier: &Classifier, ours: bool) -> Result<String, String> {
    let sample = SAMPLES[0];
    let picture = crate::vision::decode(sample.jpeg).map_err(|error| format!("{}: {error}", sample.name))?;
    classifier.infer(&picture).map_err(|error| error.to_string())?;
    let start = Instant::now();
    let scores = classifier.infer(&picture).map_err(|error| error.to_string())?;
    let took = start.elapsed();
    let reading = classifier.read(&scores, 1);
    if ours && (reading.verdict, reading.species) != (Verdict::Animal, Species::Cat) {
        return Err(format!("the built-in model takes the cat of the demo for: {}, {}", reading.verdict, reading.species));
    }
    let breeds = classifier.metadata().labels.len();
    Ok(format!("{breeds} breeds, a picture takes {:.0} ms", took.as_secs_f64() * 1e3))
}

fn service(running: Option<&Status>) -> Finding {
    let Some(status) = running else {
        return Finding::note(
            "service",
            "pawgate does not run; `systemctl enable --now pawgate` starts it, `systemctl status pawgate` says why not",
        );
    };
    let age = status.age();
    if age > STALE.as_secs_f64() {
        let text = format!("process {} has said nothing for {age:.0} s", status.pid);
        return Finding::wrong(
            "service",
            text,
            "the watchdog should restart it: `journalctl -u pawgate`; by hand, `systemctl restart pawgate`",
        );
    }
    let faults = !status.door_faults.is_empty() || !status.feeder_faults.is_empty() || status.journal_fault.is_some();
    match faults {
        true => Finding::wrong("service", status.line(), "the lines below may say why, and `pawgate events --event fault`"),
        false => Finding::fine("service", status.line()),
    }
}
