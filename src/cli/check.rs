//! `pawgate check`: the configuration and the model together, before a door depends on them.

use std::io::Write;
use std::path::PathBuf;

use jiff::civil::{Time, Weekday};

use super::setup::{self, Ready};
use super::{Exit, Failure, ModelArgs};
use crate::config::{self, Config, show_duration, show_size};
use crate::hw::actuator::settings::Drive;
use crate::hw::camera::Source;
use crate::individuals::Individuals;
use crate::model::Classifier;
use crate::policy::door;
use crate::policy::rules::{Action, Period, Rule, TimeWindow};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Print the JSON schema of the configuration and check nothing.
    #[arg(long)]
    schema: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    if args.schema {
        let schema = serde_json::to_string_pretty(&config::schema()).map_err(|e| Failure::new(Exit::Io, e))?;
        writeln!(out, "{schema}")?;
        return Ok(Exit::Ok);
    }
    let Ready { config, classifier, individuals, .. } = setup::load(Some(&args.config), None, &args.model)?;
    writeln!(out, "{}: nothing is wrong\n", args.config.display())?;
    summarise(&config, out)?;
    describe_model(&classifier, &args.model.or(config.model()).name(), out)?;
    describe_individuals(&individuals, &config, out)?;
    note(&config, out)?;
    Ok(Exit::Ok)
}

fn summarise(config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    let device = config.device();
    let zone = device.time_zone().iana_name().unwrap_or("the system's");
    let origin = if device.zone_is_configured() { "" } else { ", as the system has it" };
    writeln!(out, "device   {} (time zone {zone}{origin})", device.name())?;
    let camera = config.camera();
    let source = match &camera.source {
        Source::Pictures(paths) => paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        Source::Stdin => "standard input".to_owned(),
        Source::Device(device) => format!("{device}, {}x{} or what comes nearest", camera.size[0], camera.size[1]),
        Source::Program(command) => format!("the program {}", command.join(" ")),
    };
    writeln!(out, "camera   {source}; {} frames a second, good for {}", camera.fps, show_duration(camera.max_age))?;
    let vote = config.vote();
    let within = show_duration(vote.within);
    writeln!(out, "vote     {} of the last {} frames within {within} agree, {} to deny", vote.agree, vote.of, vote.deny_agree)?;
    if let Some(door) = config.door() {
        let state = match door.safe_state {
            door::SafeState::Locked => "locked",
            door::SafeState::Unlocked => "UNLOCKED",
        };
        let [open, most] = [door.open_for, door.max_open].map(show_duration);
        writeln!(out, "door     open for {open}, never longer than {most}; {state} after a fault")?;
    }
    if let Some(latch) = &config.devices().latch {
        let sensor = if latch.sensor.is_some() { ", with a position sensor" } else { "" };
        writeln!(out, "latch    {}{sensor}", drive(&latch.drive))?;
    }
    if let Some(feeder) = config.feeder() {
        let interval = show_duration(feeder.min_interval);
        writeln!(out, "feeder   at most {} portions a day, {interval} between two", feeder.max_per_day)?;
    }
    if let Some(display) = &config.devices().display {
        writeln!(out, "display  {}; dark after {}", display.name(), show_duration(display.off_after))?;
    }
    let journal = config.journal();
    let (keep, size) = (show_duration(journal.keep_for), show_size(journal.max_bytes));
    writeln!(out, "journal  {}; {keep}, {size}", journal.folder.display())?;
    writeln!(out, "\nrules, in this order; the first that matches decides:")?;
    let width = config.rules().iter().map(|rule| rule.name.chars().count()).max().unwrap_or(0).min(40);
    for (number, rule) in config.rules().iter().enumerate() {
        writeln!(out, "  {}  {:<width$}  {}", number + 1, rule.name, in_words(rule))?;
    }
    writeln!(out, "  otherwise the door stays shut and nothing is given\n")
}

/// How the bolt is moved, for people.
fn drive(drive: &Drive) -> String {
    match drive {
        Drive::GpioHold { line, energised } => format!("{line}, {energised} while it is active"),
        Drive::GpioPulse { unlock, lock, width } => {
            format!("pulses of {}: {unlock} unlocks, {lock} locks", show_duration(*width))
        }
        Drive::Servo(servo) => format!("a servo on pwmchip{}, channel {}", servo.chip, servo.channel),
        Drive::PinFile { path, .. } => path.display().to_string(),
    }
}

fn describe_model(classifier: &Classifier, name: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let metadata = classifier.metadata();
    let gate = &metadata.gate;
    writeln!(
        out,
        "model    {name}: {} breeds, a pet from {:.2} (below {:.2} none)",
        metadata.labels.len(),
        gate.accept,
        gate.reject
    )
}

fn describe_individuals(individuals: &Individuals, config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    let enrolled = individuals.evidence(config.individuals()).into_iter().map(|animal| match animal.refusal() {
        None => animal.name,
        Some(_) => format!("{} (not enough pictures yet)", animal.name),
    });
    let names = enrolled.collect::<Vec<_>>().join(", ");
    writeln!(out, "enrolled {}", if names.is_empty() { "nobody" } else { &names })
}

/// What is no error and still not what an owner expects.
fn note(config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    if let Source::Pictures(paths) = &config.camera().source {
        for path in paths.iter().filter(|path| !path.exists()) {
            writeln!(out, "note     camera.source: {} does not exist on this machine", path.display())?;
        }
    }
    if config.door().is_some() && config.devices().latch.is_none() {
        writeln!(out, "note     [door] has no [door.latch]: `pawgate run` needs one unless it simulates")?;
    }
    if config.feeder().is_some() && config.devices().motor.is_none() {
        writeln!(out, "note     [feeder] has no [feeder.motor]: `pawgate run` needs one unless it simulates")?;
    }
    if config.rules().is_empty() {
        writeln!(out, "note     there are no rules, so everything is denied")?;
    }
    if config.device().time_zone().is_unknown() && config.rules().iter().any(needs_zone) {
        writeln!(out, "note     the system has no time zone, so rules use UTC: set device.time_zone")?;
    }
    let catches_all = |rule: &Rule| {
        rule.individuals.is_empty()
            && rule.breeds.is_empty()
            && rule.species.is_empty()
            && !needs_zone(rule)
            && rule.quota.is_none()
            && rule.cooldown.is_none()
            && rule.min_probability <= 0.5
    };
    if let Some(at) = config.rules().iter().position(catches_all)
        && let Some(next) = config.rules().get(at + 1)
    {
        let name = &config.rules()[at].name;
        writeln!(out, "note     {name:?} matches every pet, so {:?} and what follows never decide", next.name)?;
    }
    if config.door().is_some_and(|door| door.safe_state == door::SafeState::Unlocked) {
        writeln!(out, "note     door.safe_state is \"unlocked\": after a fault every animal can pass")?;
    }
    Ok(())
}

fn needs_zone(rule: &Rule) -> bool {
    !rule.times.is_empty() || rule.quota.is_some_and(|quota| quota.per == Period::Day)
}

/// A rule as an owner would say it.
fn in_words(rule: &Rule) -> String {
    let mut words = match rule.action {
        Action::Allow => "allow ".to_owned(),
        Action::Deny => "deny ".to_owned(),
        Action::Dispense(1) => "give one portion to ".to_owned(),
        Action::Dispense(portions) => format!("give {portions} portions to "),
    };
    words += &who(rule);
    words += &format!(", at least {} sure", super::classify::percent(rule.min_probability));
    if !rule.times.is_empty() {
        words += &format!(", {}", rule.times.iter().map(window).collect::<Vec<_>>().join(" and "));
    }
    if let Some(cooldown) = rule.cooldown {
        words += &format!(", not again for {}", show_duration(cooldown));
    }
    if let Some(quota) = rule.quota {
        let per = match quota.per {
            Period::Day => "a day".to_owned(),
            Period::Last(period) => format!("in {}", show_duration(period)),
        };
        words += &format!(", at most {} {per}", quota.count);
    }
    words
}

fn who(rule: &Rule) -> String {
    let species: Vec<_> = rule.species.iter().map(|species| species.to_string()).collect();
    let breeds: Vec<_> = rule.breeds.iter().map(|breed| super::classify::readable(breed)).collect();
    let species = species.join(" or ");
    let mut who = match (rule.individuals.is_empty(), breeds.is_empty()) {
        (false, _) => rule.individuals.join(" or "),
        (true, false) => format!("every {}", breeds.join(" or ")),
        (true, true) if species.is_empty() => return "every cat or dog".to_owned(),
        (true, true) => return format!("every {species}"),
    };
    if !rule.individuals.is_empty() && !breeds.is_empty() {
        who += &format!(" if seen as {}", breeds.join(" or "));
    }
    if !species.is_empty() {
        who += &format!(" ({species})");
    }
    who
}

fn window(window: &TimeWindow) -> String {
    let day = |day: &Weekday| match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    };
    let days = window.days.iter().map(day).collect::<Vec<_>>().join(", ");
    let time = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
    let hours = match window.to {
        to if to == window.from => String::new(),
        to if to == Time::midnight() => format!("{}–24:00", time(window.from)),
        to if to < window.from => format!("{}–{} of the next day", time(window.from), time(to)),
        to => format!("{}–{}", time(window.from), time(to)),
    };
    [days, hours].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}
