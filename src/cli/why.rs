//! `pawgate why ID`: a decision explained from what the journal keeps of it.

use std::io::Write;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::classify::{percent, readable};
use super::events::{animal, local, printable, unreadable};
use super::files::JournalArgs;
use super::{Exit, Failure};
use crate::journal::record::Frame;
use crate::journal::{Answer, Entry, Filter, Kind, Reader, Record};

/// Events that may belong to what followed.
const FOLLOWING: u32 = 20;
/// What happens later is not taken for a consequence.
const CONSEQUENCE: SignedDuration = SignedDuration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the event, as `pawgate events` shows it.
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    journal: JournalArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let folder = args.journal.folder()?;
    let reader = Reader::open(&folder).map_err(unreadable)?;
    let record = match reader.get(args.id).map_err(unreadable)? {
        Entry::Event(record) => *record,
        Entry::Damaged => {
            let folder = folder.display();
            let error = anyhow::anyhow!("event {} in {folder} is damaged and cannot be explained; check the storage", args.id);
            return Err(Failure { exit: Exit::Journal, error });
        }
        Entry::Missing => return Err(Failure { exit: Exit::Partly, error: unknown(args.id, &folder, &reader)? }),
    };
    let zone = TimeZone::system();
    heading(&record, &zone, out)?;
    let rest =
        if record.event == Kind::Decision { decision(&folder, &reader, &record, out) } else { context(&reader, &record, out) };
    rest.map(|()| Exit::Ok)
}

fn unknown(id: u64, folder: &Path, reader: &Reader) -> Result<anyhow::Error, Failure> {
    let folder = folder.display();
    Ok(match reader.range().map_err(unreadable)? {
        Some((first, last, _)) => {
            anyhow::anyhow!("there is no event {id} in {folder}, which has {first} to {last}; `pawgate events` lists them")
        }
        None => anyhow::anyhow!("there is no event {id} in {folder}, which is empty: nothing has happened yet"),
    })
}

fn heading(record: &Record, zone: &TimeZone, out: &mut dyn Write) -> Result<(), Failure> {
    let subject = match (record.event, record.decision) {
        (Kind::Decision, Some(Answer::Allow)) => "allowed".to_owned(),
        (Kind::Decision, Some(Answer::Deny)) => "denied".to_owned(),
        (kind, _) => kind.to_string(),
    };
    writeln!(out, "Event {}, {}: {subject}", record.id, local(record.time, zone))?;
    let mut line = |name: &str, text: Option<String>| match text {
        Some(text) => writeln!(out, "  {name:<9} {}", printable(&text)),
        None => Ok(()),
    };
    line("who", record.animal.as_ref().map(animal))?;
    line("rule", record.rule.clone())?;
    line("reason", record.reason.clone())?;
    line("portions", record.portions.map(|p| p.to_string()))?;
    line("state", record.state.clone())?;
    Ok(())
}

fn decision(folder: &Path, reader: &Reader, record: &Record, out: &mut dyn Write) -> Result<(), Failure> {
    if record.decision == Some(Answer::Deny) && record.rule.is_none() {
        writeln!(out, "  No rule allowed it, and what no rule allows is denied.")?;
    }
    frames(record, out)?;
    if !record.thresholds.is_empty() {
        let list: Vec<_> = record.thresholds.iter().map(|(name, value)| format!("{} {value}", printable(name))).collect();
        writeln!(out, "\nThresholds: {}", list.join(", "))?;
    }
    if !record.passed_over.is_empty() {
        writeln!(out, "\nRules before it that did not match:")?;
        for (rule, why) in &record.passed_over {
            writeln!(out, "  {}: {}", printable(rule), printable(why))?;
        }
    }
    consequences(reader, record, out)?;
    if let Some(latency) = record.latency_ms {
        writeln!(out, "\nDecided {latency:.0} ms after the frame that completed the vote.")?;
    }
    if let Some(snapshot) = &record.snapshot {
        let path = folder.join(snapshot);
        let note = if path.exists() { "" } else { " (deleted since, to keep within the journal's limits)" };
        writeln!(out, "Picture: {}{note}", printable(&path.display().to_string()))?;
    }
    Ok(())
}

fn frames(record: &Record, out: &mut dyn Write) -> Result<(), Failure> {
    if record.frames.is_empty() {
        writeln!(out, "\nNo frames were weighed.")?;
        return Ok(());
    }
    let agreeing = record.frames.iter().filter(|f| f.agrees).count();
    writeln!(out, "\nSeen on {} frames, of which {agreeing} agree:", record.frames.len())?;
    let head = ("frame", "before", "agrees", "verdict", "pet");
    let (a, b, c, d, e) = head;
    writeln!(out, "  {a:>7}  {b:>8}  {c:<6}  {d:<9}  {e:>4}  what")?;
    for frame in &record.frames {
        let (before, agrees) = (format!("{:.0} ms", frame.before_ms), if frame.agrees { "yes" } else { "no" });
        let pet = frame.pet.map(percent).unwrap_or_default();
        let (verdict, what) = (printable(&frame.verdict), printable(&seen(frame)));
        let line = format!("  {:>7}  {before:>8}  {agrees:<6}  {verdict:<9}  {pet:>4}  {what}", frame.frame);
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn seen(frame: &Frame) -> String {
    let scored = |pair: &Option<(String, f32)>| pair.as_ref().map(|(name, p)| format!("{} {}", readable(name), percent(*p)));
    let individual = frame.individual.as_ref().map(|(name, similarity)| format!("{name} (similarity {similarity:.2})"));
    let parts = [frame.reason.clone(), scored(&frame.species), scored(&frame.breed), individual];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What door and feeder did until the next decision.
fn consequences(reader: &Reader, record: &Record, out: &mut dyn Write) -> Result<(), Failure> {
    let kinds = vec![Kind::Door, Kind::Feeder, Kind::Fault, Kind::Decision];
    let filter = Filter { after: Some(record.id), kinds, limit: Some(FOLLOWING), ..Filter::default() };
    let events = reader.events(&filter).map_err(unreadable)?.records;
    let soon = |r: &&Record| r.event != Kind::Decision && is_soon(record.time, r.time);
    let followed: Vec<_> = events.iter().take_while(soon).collect();
    if followed.is_empty() {
        writeln!(out, "\nNeither door nor feeder did anything after it.")?;
        return Ok(());
    }
    writeln!(out, "\nAfter it:")?;
    for event in followed {
        let after = event.time.duration_since(record.time).as_secs_f64();
        let what: Vec<_> = [&event.state, &event.reason].into_iter().flatten().map(|t| printable(t)).collect();
        let line = format!("  {after:>+6.1} s  {}  {}", event.event, what.join(": "));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn is_soon(decided: Timestamp, then: Timestamp) -> bool {
    // Both ways: the wall clock may have been set in between.
    then.duration_since(decided).abs() <= CONSEQUENCE
}

/// For what is no decision: the decision before it.
fn context(reader: &Reader, record: &Record, out: &mut dyn Write) -> Result<(), Failure> {
    if !matches!(record.event, Kind::Door | Kind::Feeder) {
        return Ok(());
    }
    let filter = Filter { before: Some(record.id), kinds: vec![Kind::Decision], limit: Some(1), ..Filter::default() };
    let events = reader.events(&filter).map_err(unreadable)?.records;
    if let Some(before) = events.first().filter(|d| is_soon(d.time, record.time)) {
        writeln!(out, "\nThe decision before it is event {0}: `pawgate why {0}` explains it.", before.id)?;
    }
    Ok(())
}
