//! What was weighed and why it was decided so, as a journal's record.

use jiff::Timestamp;

use crate::hw::clock::{Monotonic, Now};
use crate::journal::record::{Animal, Frame};
use crate::journal::{Answer, Kind, Record};
use crate::model::Gate;
use crate::policy::rules::{Action, Decided, Ruling};
use crate::policy::vote::{Ballot, Tally};
use crate::policy::{Evidence, Sighting};

/// A decision that the rules made.
pub fn decided(decided: &Decided, reason: String, tally: &Tally, gate: &Gate, now: Now) -> Record {
    let agrees = |frame: u64| decided.agreeing.contains(&frame);
    Record {
        decision: Some(answer(decided.action)),
        rule: decided.rule.clone(),
        portions: match decided.action {
            Action::Dispense(portions) => Some(portions),
            Action::Allow | Action::Deny => None,
        },
        passed_over: decided.passed_over.iter().map(|(rule, miss)| (rule.clone(), miss.to_string())).collect(),
        latency_ms: tally.ballots.last().map(|newest| millis(now.mono, newest.at)),
        ..weighed(reason, tally, agrees, gate, now)
    }
}

/// A visit that ended without a decision, which denies.
pub fn undecided(reason: String, tally: &Tally, gate: &Gate, now: Now) -> Record {
    Record { decision: Some(Answer::Deny), ..weighed(reason, tally, |_| false, gate, now) }
}

fn answer(action: Action) -> Answer {
    match action {
        Action::Allow | Action::Dispense(_) => Answer::Allow,
        Action::Deny => Answer::Deny,
    }
}

fn weighed(reason: String, tally: &Tally, agrees: impl Fn(u64) -> bool, gate: &Gate, now: Now) -> Record {
    let settings = tally.settings();
    Record {
        reason: Some(reason),
        animal: tally.species.as_ref().map(|species| Animal {
            species: species.what.to_string(),
            breed: tally.breed.as_ref().map(|breed| breed.what.clone()),
            individual: tally.individual.as_ref().map(|individual| individual.what.clone()),
        }),
        frames: tally.ballots.iter().map(|ballot| frame(ballot, agrees(ballot.frame), now)).collect(),
        thresholds: vec![
            ("pet accepted from".into(), gate.accept),
            ("no pet below".into(), gate.reject),
            ("species clear from".into(), crate::model::MIN_SPECIES_PROBABILITY),
            ("frames that must agree".into(), settings.agree as f32),
            ("frames that may contradict".into(), settings.contradicting as f32),
        ],
        ..Record::new(Kind::Decision, now.wall)
    }
}

fn frame(ballot: &Ballot, agrees: bool, now: Now) -> Frame {
    let (verdict, reason, sighting) = match &ballot.evidence {
        Evidence::Animal(sighting) => ("animal", None, Some(sighting)),
        Evidence::NoAnimal => ("no animal", None, None),
        Evidence::Unknown(reason) => ("unknown", Some(reason.to_string()), None),
    };
    let of = |value: &dyn Fn(&Sighting) -> (String, f32)| sighting.map(value);
    Frame {
        frame: ballot.frame,
        before_ms: millis(now.mono, ballot.at),
        verdict: verdict.into(),
        reason,
        pet: sighting.map(|s| s.pet),
        species: of(&|s| (s.species.to_string(), s.species_p)),
        breed: of(&|s| (s.breed.clone(), s.breed_p)),
        individual: sighting.and_then(|s| s.individual.as_ref()).map(|i| (i.name.clone(), i.similarity)),
        agrees,
    }
}

/// Milliseconds from `earlier` to `later`, to the tenth.
fn millis(later: Monotonic, earlier: Monotonic) -> f64 {
    (later.since(earlier).as_secs_f64() * 1e4).round() / 10.0
}

/// Why, in words.
pub fn reason(ruling: &Ruling) -> String {
    ruling.to_string()
}

/// An event with nothing but a reason.
pub fn plain(kind: Kind, time: Timestamp, reason: impl Into<String>) -> Record {
    Record { reason: Some(reason.into()), ..Record::new(kind, time) }
}
