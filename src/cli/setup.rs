//! What `run`, `replay` and `demo` begin with: configuration, model, enrolled animals, camera; and how events look on a terminal.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::{Exit, Failure, ModelArgs};
use crate::config::{Config, ConfigError, Current};
use crate::hw::camera::keeper::Keeper;
use crate::hw::camera::pictures::{Pictures, Play};
use crate::hw::camera::program::Stop;
use crate::hw::camera::{self, CameraError, Live, Open, Source, Timing};
use crate::hw::clock::Clock;
use crate::hw::fault::Injector;
use crate::individuals::{Individuals, IndividualsError, ModelIdentity};
use crate::journal::Record;
use crate::model::Classifier;

/// Frames a second, 1 to 60.
pub(super) fn fps(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|fps| (1..=60).contains(fps)).ok_or_else(|| format!("`{text}` is not a number from 1 to 60"))
}

/// A duration as people write it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    parsed
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| format!("`{text}` is no duration; write \"20s\" or \"1h 30m\""))
}

/// Where frames come from, in place of the configuration's camera.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SourceArgs {
    /// Frames from here, as `camera.source` of the configuration names them: a device (`/dev/video0`, `name:USB Camera`), `rpicam`,
    /// `rtsp://…`; pictures or folders of them, played as a camera; `-` for Y4M or MJPEG on standard input.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    camera: Vec<PathBuf>,
    /// How long each picture is shown.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3s")]
    hold: Duration,
    /// Frames a second; those of the configuration by default.
    #[arg(long, value_name = "N", value_parser = fps)]
    fps: Option<u32>,
    /// Begin again after the last picture.
    #[arg(long = "loop")]
    repeat: bool,
}

impl SourceArgs {
    fn settings(&self, own: &camera::Settings) -> Result<camera::Settings, Failure> {
        let fps = self.fps.unwrap_or(own.fps);
        let source = match self.camera.as_slice() {
            [] => own.source.clone(),
            [path] if path.as_os_str() == "-" => Source::Stdin,
            [path] => match path.to_str().and_then(Live::of) {
                Some(live) => {
                    live.source(own.size, fps).map_err(|e| Failure::new(Exit::Usage, anyhow::anyhow!("--camera: {e}")))?
                }
                None => Source::Pictures(vec![path.clone()]),
            },
            paths => Source::Pictures(paths.to_vec()),
        };
        Ok(camera::Settings { source, fps, ..own.clone() })
    }

    /// Opens the camera of `config`, on which [`load`] has put these arguments; devices and programs on the keeper's own thread, so
    /// that one that is not there is opened when it comes.
    pub(super) fn open(&self, config: &Config, clock: Arc<dyn Clock>, faults: &Injector) -> Result<Keeper, CameraError> {
        let settings = config.camera();
        let open: Arc<Open> = match &settings.source {
            Source::Pictures(paths) => {
                let play = Play { hold: self.hold, fps: settings.fps, repeat: self.repeat, ..Play::default() };
                let (paths, time) = (paths.clone(), Timing::Live(Arc::clone(&clock)));
                Arc::new(move |_: &Stop| Ok(Box::new(Pictures::open(&paths, play.clone(), time.clone())?)))
            }
            Source::Stdin => {
                let settings = settings.clone();
                let time = Timing::Live(Arc::clone(&clock));
                Arc::new(move |_: &Stop| camera::open(&settings, time.clone()))
            }
            Source::Device(_) | Source::Program(_) => camera::opener(settings, Arc::clone(&clock)),
        };
        let open = faults.camera(open);
        match &settings.source {
            // A recording has an end.
            Source::Stdin => Keeper::recording(open(&Stop::default())?, settings.limits, clock),
            Source::Pictures(_) if !self.repeat => Keeper::recording(open(&Stop::default())?, settings.limits, clock),
            _ => Ok(Keeper::new(open, settings.limits, clock)),
        }
    }
}

/// Everything that was loaded and held against each other.
pub(super) struct Ready {
    pub(super) config: Arc<Config>,
    pub(super) current: Current,
    pub(super) classifier: Classifier,
    pub(super) individuals: Individuals,
}

/// Loads the configuration (the built-in one without a path), its model and its animals. What is wrong in the configuration is
/// printed here, with its lines. A model on the command line comes before the configuration's.
pub(super) fn load(path: Option<&Path>, source: Option<&SourceArgs>, model: &ModelArgs) -> Result<Ready, Failure> {
    let config = match path {
        Some(path) => Config::read(path),
        None => Config::builtin(),
    }
    .map_err(refuse)?;
    let config = match source {
        Some(source) => {
            let camera = source.settings(config.camera())?;
            config.with_camera(camera)
        }
        None => config,
    };
    let (classifier, identity) = model.or(config.model()).load_identified()?;
    let individuals = animals(&config, &identity)?;
    let current = Current::start(config, &classifier.metadata().labels, &individuals).map_err(refuse)?;
    Ok(Ready { config: current.config(), current, classifier, individuals })
}

/// The enrolled animals; nobody, where there is no file. One that cannot be used is a failure where a rule relies on it.
fn animals(config: &Config, identity: &ModelIdentity) -> Result<Individuals, Failure> {
    match Individuals::load(&config.individuals().file, identity) {
        Ok(individuals) => Ok(individuals),
        Err(IndividualsError::Missing(_)) => Ok(Individuals::nobody()),
        Err(error) if config.rules().iter().any(|rule| !rule.individuals.is_empty()) => {
            Err(Failure::new(Exit::Individuals, error))
        }
        Err(error) => {
            log::warn!("no animal is recognised by name: {error}");
            Ok(Individuals::nobody())
        }
    }
}

/// Prints what is wrong in a configuration; the failure says how much it is.
pub(super) fn refuse(error: ConfigError) -> Failure {
    let refused = match error.problems().len() {
        0 => return Failure::new(Exit::Config, error),
        1 => anyhow::anyhow!("the configuration is refused"),
        count => anyhow::anyhow!("the configuration is refused, {count} problems"),
    };
    eprintln!("{error}\n");
    Failure { exit: Exit::Config, error: refused }
}

/// One event on one line.
pub(super) fn print(out: &mut dyn Write, record: &Record, json: bool) -> std::io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, record)?;
        writeln!(out)?;
    } else {
        let time = super::events::local(record.time, &jiff::tz::TimeZone::system());
        writeln!(out, "{time}  {}", line(record))?;
    }
    out.flush()
}

/// What an event says to people: the kind, who, what follows, why.
pub(super) fn line(record: &Record) -> String {
    let who = record.animal.as_ref().map(super::events::animal).unwrap_or_default();
    let what = record.decision.map(|d| d.to_string()).or_else(|| record.state.clone()).unwrap_or_default();
    let rule = record.rule.as_ref().map(|rule| format!("[{rule}] ")).unwrap_or_default();
    let reason = record.reason.as_deref().unwrap_or_default();
    super::events::printable(&format!("{:<9}  {what:<10}  {who:<22}  {rule}{reason}", record.event.name()))
        .trim_end()
        .to_owned()
}
