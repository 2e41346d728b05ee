//! `pawgate run`: the service. Today with simulated devices only.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::setup::{self, SourceArgs};
use super::{Exit, Failure, ModelArgs};
use crate::config::{Config, Current};
use crate::hw::actuator::{SimulatedDispenser, SimulatedLatch};
use crate::hw::clock::{Clock, System};
use crate::hw::fault::{Injector, Plan};
use crate::individuals::Individuals;
use crate::journal::ledger::Ledger;
use crate::journal::{Journal, Kind, Record};
use crate::policy::rules::{ClockWatch, Usage};
use crate::service::chain::{Chain, Parts};
use crate::service::inputs::Inputs;
use crate::service::live::{self, End, Signals, World};
use crate::service::oversight::{self, Oversight};
use crate::service::units::{Door, Feeder};
use crate::service::{Journaled, Sink, explain};

/// How long the journal may take to write what is left.
const CLOSING: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Drive a simulated door or feeder. (Real latches come with the next version.)
    #[arg(long, required = true)]
    simulate: bool,
    /// The configuration; without one, the built-in one lets cats pass.
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
    /// Keep the journal in this folder. Without it the journal of the configuration is used, and none with the built-in one.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Write `pawgate status`'s file into this folder. systemd names it; without it and outside systemd, none is written.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// Let something fail, such as `camera-hang@2s+3s` (for tests).
    #[arg(long, value_name = "PLAN", hide = true, requires = "simulate")]
    inject: Option<Plan>,
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let ready = setup::load(args.config.as_deref(), Some(&args.source), &args.model)?;
    let clock: Arc<dyn Clock> = Arc::new(System::start());
    let faults = Injector::new(args.inject.clone().unwrap_or_default());
    let signals = Signals::install().map_err(|e| Failure::new(Exit::Io, e))?;
    let opened = args.source.open(&ready.config, Arc::clone(&clock), &faults);
    let mut camera = opened.map_err(|e| Failure::new(Exit::Camera, e))?;
    let mut settings = ready.config.journal().clone();
    if let Some(folder) = &args.journal {
        settings.folder.clone_from(folder);
    }
    let keeps = args.journal.is_some() || args.config.is_some();
    let journal = keeps.then(|| Journal::open(settings.clone(), faults.journal_clock(Arc::clone(&clock))));
    let ledger = ready.config.feeder().and_then(|_| open_ledger(&settings.folder, &*clock));
    let usage = journal.as_ref().map_or_else(Usage::default, |journal| restore(journal, &ready.config, &*clock));
    let now = clock.now().mono;
    let parts = Parts {
        door: ready.config.door().map(|s| Door::new(s, Box::new(SimulatedLatch::new(Arc::clone(&clock), s.min_interval)))),
        feeder: ready.config.feeder().map(|s| {
            let dispenser = Box::new(SimulatedDispenser::new(Arc::clone(&clock), s.min_interval));
            Feeder::new(s, dispenser, ledger, ready.config.device().time_zone().clone())
        }),
        config: Arc::clone(&ready.config),
        classifier: ready.classifier.clone(),
        individuals: ready.individuals.clone(),
        usage,
        // The simulator runs where the clock is right from the start.
        clocks: ClockWatch::synchronised(),
        faults: faults.clone(),
    };
    let mut chain = Chain::new(parts).map_err(|e| Failure::new(Exit::Config, e))?;
    let mut failed = None;
    // Nobody to tell is a reason to end: the latch goes to its safe state.
    let listener = |record: &Record| {
        if let Err(error) = setup::print(out, record, args.json) {
            signals.stop.store(true, Ordering::Relaxed);
            failed.get_or_insert(error);
        }
    };
    let mut sink = Journaled::new(journal, listener);
    let mut current = ready.current;
    let until = args.time.map(|time| now + time);
    let mut oversight = Oversight::new(status_folder(args), None);
    let mut world = World {
        camera: &mut camera,
        clock: &*clock,
        inputs: &mut Inputs,
        signals: &signals,
        until,
        faults: &faults,
        overseer: &mut oversight,
    };
    let end = live::run(&mut chain, &mut world, &mut sink, |chain, sink| {
        reload(chain, &mut current, args, &ready.classifier.metadata().labels, &ready.individuals, &*clock, sink);
    });
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
    args: &Args,
    labels: &[crate::model::Label],
    individuals: &Individuals,
    clock: &dyn Clock,
    sink: &mut dyn Sink,
) {
    let mut say = |text: String| {
        sink.record(explain::plain(Kind::Config, clock.now().wall, text), None);
    };
    let Some(path) = &args.config else {
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
