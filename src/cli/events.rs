//! `pawgate events`: what happened, as a table for people or one JSON object a line; also while pawgate runs.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::classify::readable;
use super::files::JournalArgs;
use super::{Exit, Failure};
use crate::journal::record::Animal;
use crate::journal::{Answer, Events, FileError, Filter, Kind, Reader, Record};

/// How often `--follow` looks for more.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    journal: JournalArgs,
    /// Not before: a time (`2026-03-01 18:00`, local; `2026-03-01T17:00:00Z`) or how long ago (`2h`, `3 days`).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only these kinds: start, motion, still, decision, door, feeder, fault, recovered, config, stop.
    #[arg(long, value_name = "KIND", num_args = 1.., value_delimiter = ',')]
    event: Vec<Kind>,
    /// Only this rule's.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only decisions that say allow, or deny.
    #[arg(long, value_name = "allow|deny")]
    decision: Option<Answer>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on showing what happens.
    #[arg(long)]
    follow: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn unreadable(error: FileError) -> Failure {
    Failure::new(Exit::Journal, error)
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let zone = TimeZone::system();
    let since = args.since.as_deref().map(|text| parse_since(text, Timestamp::now(), &zone)).transpose();
    let filter = Filter {
        since: since.map_err(|error| Failure { exit: Exit::Usage, error })?,
        kinds: args.event.clone(),
        rule: args.rule.clone(),
        decision: args.decision,
        limit: Some(args.limit),
        ..Filter::default()
    };
    let folder = args.journal.folder()?;
    let reader = Reader::open(&folder).map_err(unreadable)?;
    // Asked for first: what comes between the two questions is shown by `--follow`.
    let last = reader.range().map_err(unreadable)?.map_or(0, |(_, last, _)| last);
    let events = reader.events(&filter).map_err(unreadable)?;
    let mut printer = Printer::new(args.json, zone, &events.records);
    let mut exit = printer.print(&events, out)?;
    if args.follow {
        let shown = events.records.last().map_or(last, |r| r.id);
        exit = Follower { folder: &folder, reader: Some(reader), filter, last: shown }.run(&mut printer, out)?;
    } else if events.records.is_empty() && !args.json {
        eprintln!("pawgate: no such event in {}", folder.display());
    }
    Ok(exit)
}

/// A time, or how long ago.
fn parse_since(text: &str, now: Timestamp, zone: &TimeZone) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return Ok(time
            .to_zoned_datetime(zone.clone())
            .with_context(|| format!("`--since {text}`: no such time here"))?
            .timestamp());
    }
    let ago =
        || text.parse::<jiff::Span>().ok().and_then(|span| now.to_zoned_datetime(zone.clone()).checked_sub(span.abs()).ok());
    ago().map(|time| time.timestamp()).with_context(|| {
        format!("`--since {text}` is no time; write `2026-03-01 18:00`, `2026-03-01T17:00:00Z`, `2h` or `3 days`")
    })
}

/// Writes events as they come.
struct Printer {
    json: bool,
    zone: TimeZone,
    /// Columns `id`, `who` and `rule`.
    widths: [usize; 3],
    header: bool,
}

impl Printer {
    fn new(json: bool, zone: TimeZone, first: &[Record]) -> Self {
        let widest = |cell: &dyn Fn(&Record) -> String, least: usize| {
            first.iter().map(|r| cell(r).chars().count()).max().unwrap_or(0).clamp(least, 28)
        };
        let widths = [widest(&|r| r.id.to_string(), 5), widest(&who, 12), widest(&rule, 8)];
        Self { json, zone, widths, header: !json }
    }

    fn print(&mut self, events: &Events, out: &mut dyn Write) -> Result<Exit, Failure> {
        let [id, who_width, rule_width] = self.widths;
        if std::mem::take(&mut self.header) && !events.records.is_empty() {
            let head = ("id", "time", "event", "who", "decision", "rule");
            let (a, b, c, d, e, f) = head;
            writeln!(out, "{a:>id$}  {b:<19}  {c:<9}  {d:<who_width$}  {e:<9}  {f:<rule_width$}  reason")?;
        }
        for record in &events.records {
            if self.json {
                writeln!(out, "{}", serde_json::to_string(record).map_err(|e| Failure::new(Exit::Io, e))?)?;
                continue;
            }
            let time = local(record.time, &self.zone);
            let answer = record.decision.map(|d| d.to_string()).or_else(|| record.state.clone()).unwrap_or_default();
            let (who, rule, answer) = (who(record), rule(record), printable(&answer));
            let reason = printable(record.reason.as_deref().unwrap_or_default());
            let line = format!(
                "{:>id$}  {time}  {:<9}  {who:<who_width$}  {answer:<9}  {rule:<rule_width$}  {reason}",
                record.id, record.event
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()?;
        for id in &events.damaged {
            eprintln!("pawgate: event {id} is damaged and left out; check the storage");
        }
        Ok(if events.damaged.is_empty() { Exit::Ok } else { Exit::Partly })
    }
}

/// Looks for later events for ever.
struct Follower<'a> {
    folder: &'a Path,
    /// None while there is no journal that can be read.
    reader: Option<Reader>,
    filter: Filter,
    /// The last number that was shown.
    last: u64,
}

impl Follower<'_> {
    fn run(mut self, printer: &mut Printer, out: &mut dyn Write) -> Result<Exit, Failure> {
        self.filter.limit = None;
        loop {
            std::thread::sleep(POLL);
            self.filter.after = Some(self.last);
            let Some(events) = self.look() else { continue };
            if let Some(last) = events.records.iter().map(|r| r.id).chain(events.damaged.iter().copied()).max() {
                self.last = last;
            }
            printer.print(&events, out)?;
        }
    }

    /// What is new. A journal that is moved aside, damaged or away has a successor, sooner or later.
    fn look(&mut self) -> Option<Events> {
        if self.reader.as_ref().is_none_or(|reader| !reader.is_current()) {
            self.reader = Some(Reader::open(self.folder).ok()?);
        }
        match self.reader.as_ref()?.events(&self.filter) {
            Ok(events) => Some(events),
            Err(error) => {
                eprintln!("pawgate: {error}; waiting for the next one");
                self.reader = None;
                None
            }
        }
    }
}

/// Date and time of day where the reader lives.
pub(super) fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn who(record: &Record) -> String {
    record.animal.as_ref().map(animal).unwrap_or_default()
}

/// `milo (Bengal)`, `Bengal`, `cat`
pub(super) fn animal(animal: &Animal) -> String {
    let kind = readable(animal.breed.as_ref().unwrap_or(&animal.species));
    printable(&match &animal.individual {
        Some(name) => format!("{name} ({kind})"),
        None => kind,
    })
}

fn rule(record: &Record) -> String {
    printable(record.rule.as_deref().unwrap_or_default())
}

/// Without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood() {
        let now: Timestamp = "2026-03-30T10:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let since = |text| parse_since(text, now, &zone).map(|t| t.to_string());
        for (text, expected) in [
            ("2026-03-01T17:00:00Z", "2026-03-01T17:00:00Z"),
            ("2026-03-01 18:00", "2026-03-01T17:00:00Z"),
            ("2026-03-30", "2026-03-29T22:00:00Z"),
            ("2h", "2026-03-30T08:00:00Z"),
            // The clocks went forward on the 29th.
            ("2 days", "2026-03-28T11:00:00Z"),
        ] {
            assert_eq!(since(text).unwrap(), expected, "{text}");
        }
        for text in ["", "yesterday", "25:00", "-", "2026-02-30"] {
            assert!(since(text).unwrap_err().to_string().contains("is no time; write"), "{text}");
        }
    }

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
