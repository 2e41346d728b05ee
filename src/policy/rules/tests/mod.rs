//! Scenarios are tables of text: a rule a line (`ACTION NAME KEY=VALUE…`), and a frame a line (`MILLISECONDS SHOWS OUTCOME`).

mod limits;
mod properties;
mod scenarios;
mod times;

use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::hw::clock::{Monotonic, Now};
use crate::model::Doubt;
use crate::policy::vote::{Settings, Vote};
use crate::policy::{Evidence, Individual, Reason};
use crate::vision::quality::Flaw;

/// A rule without conditions.
fn rule(name: &str, action: Action) -> Rule {
    Rule {
        name: name.into(),
        action,
        individuals: vec![],
        breeds: vec![],
        species: vec![],
        min_probability: 0.0,
        times: vec![],
        cooldown: None,
        quota: None,
    }
}

fn rules(text: &str) -> Rules {
    Rules::new(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(parse_rule).collect()).unwrap()
}

/// `allow|deny|give:PORTIONS NAME [who=A,B] [breed=A,B] [species=A,B] [min=P] [time=HH:MM-HH:MM] [days=fri,…] [cooldown=SECONDS]
/// [quota=COUNT/day|SECONDS]`
fn parse_rule(line: &str) -> Rule {
    let mut words = line.split_whitespace();
    let action = match words.next().unwrap() {
        "allow" => Action::Allow,
        "deny" => Action::Deny,
        give => Action::Dispense(give.strip_prefix("give:").unwrap().parse().unwrap()),
    };
    let mut rule = rule(words.next().unwrap(), action);
    let list = |value: &str| value.split(',').map(str::to_owned).collect::<Vec<_>>();
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "who" => rule.individuals = list(value),
            "breed" => rule.breeds = list(value),
            "species" => rule.species = value.split(',').map(species).collect(),
            "min" => rule.min_probability = value.parse().unwrap(),
            "time" => rule.times.push(window(value)),
            "days" => rule.times.last_mut().unwrap().days = value.split(',').map(weekday).collect(),
            "cooldown" => rule.cooldown = Some(Duration::from_secs(value.parse().unwrap())),
            "quota" => rule.quota = Some(quota(value)),
            _ => panic!("{key}"),
        }
    }
    rule
}

fn species(name: &str) -> Species {
    match name {
        "cat" => Species::Cat,
        "dog" => Species::Dog,
        _ => panic!("{name}"),
    }
}

fn window(text: &str) -> TimeWindow {
    let time = |text: &str| {
        let (hour, minute) = text.split_once(':').unwrap();
        Time::new(hour.parse().unwrap(), minute.parse().unwrap(), 0, 0).unwrap()
    };
    let (from, to) = text.split_once('-').unwrap();
    TimeWindow { days: vec![], from: time(from), to: time(to) }
}

fn weekday(name: &str) -> Weekday {
    match name {
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => panic!("{name}"),
    }
}

fn quota(text: &str) -> Quota {
    let (count, per) = text.split_once('/').unwrap();
    let per = if per == "day" { Period::Day } else { Period::Last(Duration::from_secs(per.parse().unwrap())) };
    Quota { count: count.parse().unwrap(), per }
}

/// `none`, `dark`, `blurred`, or `cat|dog[:BREED][/NAME][@PROBABILITY]`.
fn evidence(text: &str) -> Evidence {
    match text {
        "none" => return Evidence::NoAnimal,
        "dark" => return Evidence::Unknown(Reason::Unclear(Doubt::Flaw(Flaw::TooDark))),
        "blurred" => return Evidence::Unknown(Reason::Unclear(Doubt::Gate)),
        _ => {}
    }
    let (text, p) = text.split_once('@').map_or((text, 0.95), |(text, p)| (text, p.parse().unwrap()));
    let (text, name) = text.split_once('/').map_or((text, None), |(text, name)| (text, Some(name)));
    let (kind, breed) = text.split_once(':').unwrap_or((text, if text == "dog" { "Pug" } else { "Bombay" }));
    let individual = name.map(|name| Individual { name: name.into(), similarity: 0.7 });
    Evidence::Animal(Sighting { species: species(kind), species_p: p, breed: breed.into(), breed_p: p, pet: 0.99, individual })
}

fn outcome(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Undecided(_) => "wait".into(),
        Ruling::Decided(Decided { action, rule, .. }) => {
            let rule = rule.as_deref().unwrap_or("-");
            match action {
                Action::Allow => format!("allow {rule}"),
                Action::Deny => format!("deny {rule}"),
                Action::Dispense(portions) => format!("give:{portions} {rule}"),
            }
        }
    }
}

fn mono(ms: u64) -> Monotonic {
    Monotonic::new(Duration::from_millis(ms))
}

/// A trusted moment in UTC, both clocks at the same distance from noon of Monday, 15 June 2026.
fn moment(ms: u64) -> Moment {
    let noon: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
    let wall = noon + SignedDuration::from_millis(ms as i64);
    Moment { now: Now { mono: mono(ms), wall }, zone: TimeZone::UTC, trusted: true }
}

/// Plays the table, compares every outcome, and hands back the last ruling.
fn play(rules_text: &str, table: &str) -> Ruling {
    play_with(Settings::default(), rules_text, table)
}

fn play_with(settings: Settings, rules_text: &str, table: &str) -> Ruling {
    let (rules, mut vote) = (rules(rules_text), Vote::new(settings).unwrap());
    let (mut expected, mut found, mut last) = (vec![], vec![], None);
    for (frame, line) in table.lines().map(str::trim).filter(|l| !l.is_empty()).enumerate() {
        let mut words = line.split_whitespace();
        let (time, shows) = (words.next().unwrap(), words.next().unwrap());
        expected.push(format!("{time:>5} {shows:<20} {}", words.collect::<Vec<_>>().join(" ")));
        let ms = time.parse().unwrap();
        vote.add(mono(ms), frame as u64, evidence(shows));
        let ruling = rules.decide(&vote.tally(mono(ms)), &Usage::default(), &moment(ms));
        found.push(format!("{time:>5} {shows:<20} {}", outcome(&ruling)));
        last = Some(ruling);
    }
    assert_eq!(found, expected, "found:\n{}", found.join("\n"));
    last.unwrap()
}

/// Frames 100 ms apart, tallied at the last.
fn tally(frames: &[&str]) -> Tally {
    let mut vote = Vote::new(Settings::default()).unwrap();
    for (frame, shows) in frames.iter().enumerate() {
        vote.add(mono(100 * frame as u64), frame as u64, evidence(shows));
    }
    vote.tally(mono(100 * frames.len() as u64))
}
