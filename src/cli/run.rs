//! `pawgate run`: the service.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::setup::{self, SourceArgs};
use super::{Exit, Failure, ModelArgs};
use crate::config::{self, Config, Current};
use crate::hw::actuator::guard::{Guarded, Heartbeat, Limits, Trip};
use crate::hw::actuator::settings::{Drive, LatchSettings};
use crate::hw::actuator::{self, Dispenser, Latch, SimulatedDispenser, SimulatedLatch};
use crate::hw::clock::{Clock, System};
use crate::hw::display::{panel::Panel, sim};
use crate::hw::fault::{Injector, Plan};
use crate::individuals::Individuals;
use crate::journal::ledger::Ledger;
use crate::journal::{Journal, Kind, Record};
use crate::policy::rules::{ClockWatch, Usage};
use crate::service::chain::{Chain, Parts};
use crate::service::face::{Face, View};
use crate::service::inputs::Inputs;
use crate::service::live::{self, End, Signals, World};
use crate::service::oversight::{self, Beat, Oversight, Shown};
use crate::service::units::{Door, Feeder};
use crate::service::{Journaled, Sink, explain};

/// How long the journal may take to write what is left.
const CLOSING: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Drive a simulated door or feeder in place of the configured one.
    #[arg(long)]
    simulate: bool,
    /// The configuration. Without it /etc/pawgate/config.toml, or with --simulate a built-in one that lets cats pass.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
    /// End after this time, such as "20s" or "5m".
    #[arg(long = "for", value_name = "DURATION", value_parser = setup::duration)]
    time: Option<Duration>,
    /// Print one event a line as JSON.
    #[arg(long)]
    json: bool,
    /// Keep the journal in this folder. Without it the journal of the configuration is used, and none with --simulate.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Write `pawgate status`'s file into this folder. systemd names it; without it and outside systemd, none is written.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// Write what the display shows to this PNG file. Without it the configured display is used, and none with --simulate.
    #[arg(long, value_name = "FILE")]
    screen: Option<PathBuf>,
    #[command(flatten)]
    pin: PinArgs,
    /// Let something fail, such as `camera-hang@2s+3s` (for tests).
    #[arg(long, value_name = "PLAN", hide = true, requires = "simulate")]
    inject: Option<Plan>,
    #[command(flatten)]
    model: ModelArgs,
}

impl Args {
    /// Whether nothing may stay: what a simulated door opens for or a simulated feeder gives is no event of the real one, and must not
    /// count for its limits.
    fn is_trial(&self) -> bool {
        self.simulate && self.pin.is_real() && self.journal.is_none()
    }
}

/// A file in place of the latch's pin.
#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    /// Let this file be the latch: it holds its level when its process is gone, as a pin does (for tests).
    #[arg(long, value_name = "FILE", hide = true)]
    pin: Option<PathBuf>,
}

impl PinArgs {
    /// Whether the devices of the configuration are meant, and no file in place of one.
    pub(super) fn is_real(&self) -> bool {
        self.pin.is_none()
    }

    /// How the door's latch is connected, if it is.
    pub(super) fn latch(&self, config: &Config) -> Option<LatchSettings> {
        let interval = config.door().map(|door| door.min_interval).unwrap_or_default();
        match &self.pin {
            Some(path) => Some(LatchSettings { drive: Drive::PinFile { path: path.clone(), interval }, sensor: None }),
            None => config.devices().latch.clone(),
        }
    }
}

/// The actuators and inputs, open, and the guard's ends.
struct Hardware {
    latch: Option<Box<dyn Latch>>,
    heartbeat: Option<Heartbeat>,
    trips: Option<Receiver<Trip>>,
    dispenser: Option<Box<dyn Dispenser>>,
    inputs: Inputs,
}

/// How long the deciding loop may take for a turn before the latch's guard thinks that it hangs: several inferences of a slow board.
const BEAT: Duration = Duration::from_secs(3);

impl Hardware {
    fn open(args: &Args, config: &Config, clock: &Arc<dyn Clock>, faults: &Injector) -> Result<Self, Failure> {
        let failed = |error: actuator::Error| Failure::new(Exit::Device, error);
        let mut hardware = Self { latch: None, heartbeat: None, trips: None, dispenser: None, inputs: Inputs::default() };
        if let Some(door) = config.door() {
            let latch: Box<dyn Latch> = match args.pin.latch(config) {
                Some(settings) if args.pin.pin.is_some() || !args.simulate => {
                    settings.open(door.safe_state.position()).map_err(failed)?
                }
                _ if args.simulate => Box::new(SimulatedLatch::new(Arc::clone(clock), door.min_interval)),
                _ => return Err(missing("[door] has no [door.latch]")),
            };
            let limits = Limits {
                safe: door.safe_state.position(),
                longest_unlocked: door.max_open.max(door.max_override) + Duration::from_secs(5),
                beat: BEAT + config.devices().motor.as_ref().map_or(Duration::ZERO, |motor| motor.turn),
                answer: Duration::from_millis(500),
            };
            let (guarded, heartbeat, trips) = Guarded::new(faults.latch(latch), limits).map_err(failed)?;
            hardware.latch = Some(Box::new(guarded));
            (hardware.heartbeat, hardware.trips) = (Some(heartbeat), Some(trips));
        }
        if let Some(feeder) = config.feeder() {
            hardware.dispenser = Some(match &config.devices().motor {
                _ if args.simulate => Box::new(SimulatedDispenser::new(Arc::clone(clock), feeder.min_interval)),
                Some(motor) => motor.open().map_err(failed)?,
                None => return Err(missing("[feeder] has no [feeder.motor]")),
            });
        }
        if !args.simulate {
            hardware.inputs = Inputs::open(&config.devices().inputs).map_err(|e| Failure::new(Exit::Device, e))?;
        }
        Ok(hardware)
    }
}

fn missing(what: &str) -> Failure {
    Failure::new(Exit::Config, anyhow::anyhow!("{what}: add it (docs/configuration.md), or try things out with --simulate"))
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let path = args.config.clone().or_else(|| (!args.simulate).then(|| config::DEFAULT_PATH.into()));
    let ready = setup::load(path.as_deref(), Some(&args.source), &args.model)?;
    let faults = Injector::new(args.inject.clone().unwrap_or_default());
    let clock: Arc<dyn Clock> = faults.clock(Arc::new(System::start()));
    let signals = Signals::install().map_err(|e| Failure::new(Exit::Io, e))?;
    let mut hardware = Hardware::open(args, &ready.config, &clock, &faults)?;
    let opened = args.source.open(&ready.config, Arc::clone(&clock), &faults);
    let mut camera = opened.map_err(|e| Failure::new(Exit::Camera, e))?;
    let mut settings = ready.config.journal().clone();
    let scratch = args.is_trial().then(tempfile::tempdir).transpose().map_err(|e| Failure::new(Exit::Io, e))?;
    if let Some(folder) = args.journal.as_deref().or(scratch.as_ref().map(|folder| folder.path())) {
        settings.folder = folder.to_path_buf();
    }
    let keeps = args.journal.is_some() || (path.is_some() && scratch.is_none());
    let journal = keeps.then(|| Journal::open(settings.clone(), faults.journal_clock(Arc::clone(&clock))));
    let ledger = ready.config.feeder().and_then(|_| open_ledger(&settings.folder, &*clock));
    let usage = journal.as_ref().map_or_else(Usage::default, |journal| restore(journal, &ready.config, &*clock));
    let until = args.time.map(|time| clock.now().mono + time);
    let zone = ready.config.device().time_zone().clone();
    let parts = Parts {
        door: ready.config.door().zip(hardware.latch.take()).map(|(settings, latch)| Door::new(settings, latch)),
        feeder: (ready.config.feeder().zip(hardware.dispenser.take()))
            .map(|(settings, dispenser)| Feeder::new(settings, dispenser, ledger, zone)),
        config: Arc::clone(&ready.config),
        classifier: ready.classifier.clone(),
        individuals: ready.individuals.clone(),
        usage,
        clocks: if args.simulate || is_synchronised() { ClockWatch::synchronised() } else { ClockWatch::new() },
        faults: faults.clone(),
    };
    let mut chain = Chain::new(parts).map_err(|e| Failure::new(Exit::Config, e))?;
    let face = Rc::new(RefCell::new(Face::new(&ready.config)));
    let mut failed = None;
    // Nobody to tell is a reason to end: the latch goes to its safe state.
    let listener = |record: &Record| {
        face.borrow_mut().record(record, clock.now().mono);
        if let Err(error) = setup::print(out, record, args.json) {
            signals.stop.store(true, Ordering::Relaxed);
            failed.get_or_insert(error);
        }
    };
    let mut sink = Journaled::new(journal, listener);
    let beat = hardware.heartbeat.take().map(|heartbeat| Box::new(move || heartbeat.beat()) as Beat);
    let mut oversight = Oversight::new(status_folder(args), beat, display(args, &ready.config, &face));
    oversight.leave(&ready.config);
    let mut current = ready.current;
    let mut world = World {
        camera: &mut camera,
        clock: &*clock,
        inputs: &mut hardware.inputs,
        signals: &signals,
        trips: hardware.trips.as_ref(),
        until,
        faults: &faults,
        overseer: &mut oversight,
    };
    let end = live::run(&mut chain, &mut world, &mut sink, |chain, sink| {
        reload(chain, &mut current, path.as_deref(), &ready.classifier.metadata().labels, &ready.individuals, &*clock, sink);
    });
    let bolt = View::of(&chain, None).bolt();
    // The latch's guard sees it to its safe position before anything else is waited for.
    drop(chain);
    oversight.darken(bolt);
    let journal = sink.into_journal();
    if journal.is_some_and(|journal| !journal.close(CLOSING)) {
        log::error!("not all events could be written to the journal");
    }
    match failed {
        Some(error) => Err(Failure::new(Exit::Io, error)),
        None if end == End::Camera => Ok(Exit::Camera),
        None => Ok(Exit::Ok),
    }
}

/// The display, or the file in its place. One that cannot be had is no reason to stay away from the door.
fn display(args: &Args, config: &Config, face: &Rc<RefCell<Face>>) -> Option<Shown> {
    let configured = config.devices().display.clone();
    let settings = match &args.screen {
        Some(_) => configured.unwrap_or_default(),
        None => configured.filter(|_| !args.simulate)?,
    };
    let off_after = settings.off_after;
    let panel = match &args.screen {
        Some(path) => Panel::start(sim::PictureFile { settings, path: path.clone() }, off_after),
        None => Panel::start(settings, off_after),
    };
    match panel {
        Ok(panel) => Some(Shown::new(Rc::clone(face), panel)),
        Err(error) => {
            log::warn!("the display stays dark: {error}");
            None
        }
    }
}

/// Whether the wall clock was set by somebody who knows: systemd-timesyncd and chrony (through systemd's `time-sync`) leave this.
fn is_synchronised() -> bool {
    Path::new("/run/systemd/timesync/synchronized").exists()
}

fn status_folder(args: &Args) -> Option<PathBuf> {
    args.runtime.clone().or_else(|| std::env::var_os("RUNTIME_DIRECTORY").map(|_| oversight::runtime_folder()))
}

fn open_ledger(folder: &std::path::Path, clock: &dyn Clock) -> Option<Ledger> {
    match Ledger::open(folder, clock.now().wall) {
        Ok(ledger) => {
            if let Some(trouble) = ledger.trouble() {
                log::error!("the feeder's ledger: {trouble}");
            }
            Some(ledger)
        }
        Err(error) => {
            log::error!("nothing will be given: {error}");
            None
        }
    }
}

/// What the rules did before. Where the journal does not know, every rule with a limit counts as having acted just now.
fn restore(journal: &Journal, config: &Config, clock: &dyn Clock) -> Usage {
    let now = clock.now();
    let mut usage = Usage::default();
    let longest = crate::policy::rules::MAX_PERIOD;
    let since = now.wall.checked_sub(jiff::SignedDuration::try_from(longest).unwrap_or(jiff::SignedDuration::ZERO));
    let history = journal.usage_since(since.unwrap_or(now.wall));
    for used in &history.uses {
        usage.restore(&used.rule, used.time, used.count, now);
    }
    if let Some(until) = history.incomplete_before {
        for rule in config.rules().iter().filter(|rule| rule.cooldown.is_some() || rule.quota.is_some()) {
            log::warn!("what rule {:?} did before {until} is unknown: its limits count as used up", rule.name);
            usage.restore(&rule.name, until.min(now.wall), rule.quota.map_or(1, |quota| quota.count), now);
        }
    }
    usage
}

fn reload(
    chain: &mut Chain,
    current: &mut Current,
    path: Option<&Path>,
    labels: &[crate::model::Label],
    individuals: &Individuals,
    clock: &dyn Clock,
    sink: &mut dyn Sink,
) {
    let mut say = |text: String| {
        sink.record(explain::plain(Kind::Config, clock.now().wall, text), None);
    };
    let Some(path) = path else {
        return say("the built-in configuration cannot change".into());
    };
    let loaded = crate::config::read_bytes(path).and_then(|bytes| current.reload(&bytes, labels, individuals));
    match loaded {
        Ok(reloaded) => {
            let rest = match reloaded.restart.is_empty() {
                true => String::new(),
                false => format!("; only a restart changes {}", reloaded.restart.join(", ")),
            };
            let text = match chain.configure(reloaded.config, clock, sink) {
                Ok(()) => format!("{} is in force{rest}", path.display()),
                Err(error) => format!("the last good configuration stays in force: {error}"),
            };
            sink.record(explain::plain(Kind::Config, clock.now().wall, text), None);
        }
        Err(error) => {
            log::error!("{error}");
            say(format!("the last good configuration stays in force: {error}"));
        }
    }
}
