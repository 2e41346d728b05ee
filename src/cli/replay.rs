//! `pawgate replay`: recorded pictures through the whole chain, on a clock that the pictures set.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::setup::{self, Ready};
use super::{Exit, Failure, ModelArgs};
use crate::hw::camera::pictures::{Pictures, Play};
use crate::hw::camera::stream::Stream;
use crate::hw::camera::{Camera, CameraError, Timing};
use crate::hw::clock::{Clock, Monotonic};
use crate::journal::{Answer, Record};
use crate::service::rehearsal::Rehearsal;
use crate::vision;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Recorded frames: pictures, folders of them in the order of their names, or one Y4M or MJPEG file.
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// The configuration; without one, the built-in one lets cats pass.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Frames a second of the recording; those of the configuration by default.
    #[arg(long, value_name = "N", value_parser = setup::fps)]
    fps: Option<u32>,
    /// Show each picture for so long, with noise and small movements, as `run` does; without it each is one frame.
    #[arg(long, value_name = "DURATION", value_parser = setup::duration)]
    hold: Option<Duration>,
    /// Each picture is an event of its own, shown for --hold (3 s): the door is locked and nobody there before the next one. Prints
    /// how many events opened the door, folder by folder.
    #[arg(long)]
    each: bool,
    /// Print one event a line as JSON; with --each one picture a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let ready = setup::load(args.config.as_deref(), None, &args.model)?;
    if args.each { each(args, &ready, out) } else { whole(args, &ready, out) }
}

/// A chain that has seen nothing yet.
pub(super) fn rehearse(ready: &Ready) -> Result<Rehearsal, Failure> {
    Rehearsal::new(&ready.config, &ready.classifier, &ready.individuals).map_err(|e| Failure::new(Exit::Config, e))
}

fn open(args: &Args, ready: &Ready, paths: &[PathBuf], start: Monotonic) -> Result<Box<dyn Camera>, CameraError> {
    let fps = args.fps.unwrap_or(ready.config.camera().fps);
    if let [path] = paths
        && path.is_file()
        && !vision::collect::is_picture_name(path)
        && let Ok(file) = std::fs::File::open(path)
    {
        let reader = std::io::BufReader::new(file);
        return Ok(Box::new(Stream::new(path.display().to_string(), reader, fps, Timing::Recorded(start))));
    }
    let hold = args.hold.or(args.each.then_some(Duration::from_secs(3)));
    let play = hold.map_or_else(|| Play::recorded(fps), |hold| Play { hold, fps, ..Play::default() });
    Ok(Box::new(Pictures::open(paths, play, Timing::Recorded(start))?))
}

/// The recording as one stream of frames.
fn whole(args: &Args, ready: &Ready, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut rehearsal = rehearse(ready)?;
    rehearsal.start();
    let start = rehearsal.clock.now();
    let mut camera = open(args, ready, &args.paths, start.mono).map_err(|e| Failure::new(Exit::Camera, e))?;
    let began = Instant::now();
    let (mut frames, mut printed, mut exit) = (0u64, 0, Exit::Ok);
    let mut flush = |rehearsal: &Rehearsal, out: &mut dyn Write| -> std::io::Result<()> {
        for record in &rehearsal.sink.records[printed..] {
            show(args, record, start.wall, out)?;
        }
        printed = rehearsal.sink.records.len();
        Ok(())
    };
    loop {
        match camera.next() {
            Ok(Some(frame)) => {
                frames += 1;
                rehearsal.frame(&frame);
            }
            Ok(None) => break,
            Err(error) => {
                exit = Exit::Partly;
                rehearsal.chain.camera_error(&error, &rehearsal.clock, &mut rehearsal.sink);
            }
        }
        flush(&rehearsal, out)?;
    }
    rehearsal.rest();
    rehearsal.chain.stop("the recording is over", &rehearsal.clock, &mut rehearsal.sink);
    flush(&rehearsal, out)?;
    if !args.json {
        let seconds = began.elapsed().as_secs_f64();
        let looked = rehearsal.chain.classified();
        writeln!(
            out,
            "\n{frames} frames in {seconds:.1} s ({:.1} a second), {looked} of them classified",
            frames as f64 / seconds
        )?;
    }
    Ok(exit)
}

fn show(args: &Args, record: &Record, start: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    if args.json {
        return setup::print(out, record, true);
    }
    let at = record.time.duration_since(start).as_secs_f64();
    writeln!(out, "{at:>8.1} s  {}", setup::line(record))
}

/// What became of one picture.
#[derive(Debug, Serialize)]
struct Event {
    file: String,
    /// Whether the door was unlocked.
    opened: bool,
    decision: Option<Answer>,
    rule: Option<String>,
    reason: Option<String>,
    /// From the first frame to the decision.
    seconds: Option<f64>,
}

/// Each picture as an event of its own.
fn each(args: &Args, ready: &Ready, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut folders: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut times = vec![];
    let mut exit = Exit::Ok;
    for input in vision::collect::collect(&args.paths) {
        let event = match input.problem {
            None => one(args, ready, &input.path)?,
            Some(problem) => Err(problem),
        };
        let event = match event {
            Ok(event) => event,
            Err(problem) => {
                eprintln!("pawgate: {}: {problem}", input.path.display());
                exit = Exit::Partly;
                continue;
            }
        };
        let folder = input.path.parent().unwrap_or(Path::new("")).display().to_string();
        let (events, opened) = folders.entry(folder).or_default();
        *events += 1;
        *opened += u64::from(event.opened);
        times.extend(event.seconds.filter(|_| event.opened));
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&event).map_err(|e| Failure::new(Exit::Io, e))?)?;
        } else if event.opened {
            writeln!(out, "opened for {}: {}", event.file, event.reason.as_deref().unwrap_or_default())?;
        }
    }
    if !args.json {
        summarise(&folders, times, out)?;
    }
    Ok(exit)
}

/// One picture through a chain of its own; what was learnt about the scene before it does not count.
fn one(args: &Args, ready: &Ready, path: &Path) -> Result<Result<Event, String>, Failure> {
    let rehearsal = rehearse(ready)?;
    let visit = match rehearsal.visit(|start| open(args, ready, &[path.to_path_buf()], start)) {
        Ok(visit) => visit,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let decision = visit.decision.as_ref();
    Ok(Ok(Event {
        file: path.display().to_string(),
        opened: visit.opened,
        decision: decision.and_then(|record| record.decision),
        rule: decision.and_then(|record| record.rule.clone()),
        reason: decision.and_then(|record| record.reason.clone()),
        seconds: visit.seconds,
    }))
}

fn summarise(folders: &BTreeMap<String, (u64, u64)>, mut times: Vec<f64>, out: &mut dyn Write) -> std::io::Result<()> {
    let width = folders.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
    writeln!(out, "{:<width$}  {:>6}  {:>6}  {:>9}", "folder", "events", "opened", "per 1,000")?;
    let mut row = |name: &str, (events, opened): (u64, u64)| {
        let share = opened as f64 * 1e3 / events.max(1) as f64;
        writeln!(out, "{name:<width$}  {events:>6}  {opened:>6}  {share:>9.1}")
    };
    for (folder, counts) in folders {
        row(folder, *counts)?;
    }
    let all = folders.values().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    row("all", all)?;
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times[((times.len() as f64 * q).ceil() as usize).clamp(1, times.len()) - 1];
    if !times.is_empty() {
        writeln!(
            out,
            "from the first frame to the decision: median {:.2} s, 95 % within {:.2} s",
            quantile(0.5),
            quantile(0.95)
        )?;
    }
    Ok(())
}
