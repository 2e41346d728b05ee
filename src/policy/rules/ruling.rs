//! What the rules said, with everything that `pawgate why` needs to explain it.

use std::fmt;
use std::time::Duration;

use super::{Action, Rule};
use crate::model::Species;
use crate::policy::vote::{Tally, Undecided};
use crate::policy::{Reason, Sighting};

/// What the rules say to the frames of the window.
///
/// It holds for these frames only. Ask again with every frame: a denial can become an allowance when the animal turns to the
/// camera, and the other way round when a stranger follows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    /// A rule matched, or none does although the frames agree on an animal.
    Decided(Decided),
    /// Frames to come may change the answer. Until then, and when the visit ends so, it means deny.
    Undecided(Waiting),
}

impl Ruling {
    /// What may be done and by which rule; none unless a rule allows or dispenses.
    pub fn granted(&self) -> Option<(&str, Action)> {
        match self {
            Self::Decided(Decided { action: action @ (Action::Allow | Action::Dispense(_)), rule: Some(rule), .. }) => {
                Some((rule, *action))
            }
            Self::Decided(_) | Self::Undecided(_) => None,
        }
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// What to do.
    pub action: Action,
    /// The rule that decided; none when nothing matched, which denies.
    pub rule: Option<String>,
    /// Why.
    pub grounds: Grounds,
    /// Numbers of the frames that speak for it, oldest first.
    pub agreeing: Vec<u64>,
    /// The rules before it, in order, each with why it did not match.
    pub passed_over: Vec<(String, Miss)>,
}

/// Who was seen, as far as it mattered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Species, each once.
    pub species: Vec<Species>,
    /// Breeds, each once; none where the rule names no breed.
    pub breeds: Vec<String>,
    /// Individuals, each once; none where the rule names none.
    pub individuals: Vec<String>,
}

impl Subject {
    pub(super) fn of<'a>(sightings: impl Iterator<Item = &'a Sighting>, rule: &Rule) -> Self {
        let mut subject = Self { species: vec![], breeds: vec![], individuals: vec![] };
        for sighting in sightings {
            add(&mut subject.species, &sighting.species);
            if !rule.breeds.is_empty() {
                add(&mut subject.breeds, &sighting.breed);
            }
            if let (false, Some(individual)) = (rule.individuals.is_empty(), &sighting.individual) {
                add(&mut subject.individuals, &individual.name);
            }
        }
        subject
    }

    pub(super) fn agreed(tally: &Tally) -> Self {
        Self {
            species: tally.species.iter().map(|a| a.what).collect(),
            breeds: tally.breed.iter().map(|a| a.what.clone()).collect(),
            individuals: tally.individual.iter().map(|a| a.what.clone()).collect(),
        }
    }
}

fn add<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) {
    if !list.contains(item) {
        list.push(item.clone());
    }
}

/// Why it was decided so.
#[derive(Debug, Clone, PartialEq)]
pub enum Grounds {
    /// The rule matched.
    Matched {
        /// Whom it matched.
        subject: Subject,
        /// Frames that speak for it.
        frames: usize,
        /// Frames in the window.
        of: usize,
        /// Mean probability of these frames, 0…1: of the breed if the rule names one, of the species otherwise.
        probability: f32,
    },
    /// The frames agree on an animal, and no rule matches.
    NothingMatched {
        /// On what they agree.
        subject: Subject,
        /// Frames that agree on the species.
        frames: usize,
        /// Frames in the window.
        of: usize,
    },
}

/// Why a rule did not match.
#[derive(Debug, Clone, PartialEq)]
pub enum Miss {
    /// No frame shows an animal that it is about.
    NotSeen,
    /// Too few frames for a rule that denies.
    TooRare {
        /// Frames that show one.
        have: usize,
        /// Frames that must.
        need: usize,
    },
    /// Too many frames show another animal than the one that the rule is about.
    Contradicted {
        /// Frames that do.
        others: usize,
        /// So many may.
        most: usize,
    },
    /// The mean probability is too low.
    Unlikely {
        /// The mean, 0…1.
        mean: f32,
        /// The rule's least probability, 0…1.
        least: f32,
    },
    /// It is none of its times.
    OutsideTimes,
    /// It depends on the time of day or on the calendar day, and the clock cannot be believed.
    ClockUntrusted,
    /// Its cooldown runs.
    Cooling {
        /// What is left of it.
        left: Duration,
    },
    /// What is left of its quota does not suffice.
    QuotaSpent {
        /// Used in the period.
        used: u32,
        /// The quota.
        count: u32,
    },
}

/// For what a decision waits.
#[derive(Debug, Clone, PartialEq)]
pub enum Waiting {
    /// The frames do not agree on an animal.
    Vote(Undecided),
    /// A rule may match yet, and no rule after it acts before that is known.
    Rule {
        /// Its name.
        rule: String,
        /// Frames that speak for it.
        have: usize,
        /// Frames that must.
        need: usize,
        /// Frames that would speak for it, but also speak for an earlier rule that denies, and do not count.
        withheld: usize,
        /// The most frequent reason of unknown frames.
        mostly: Option<Reason>,
    },
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(decided) => decided.grounds.fmt(f),
            Self::Undecided(waiting) => waiting.fmt(f),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.individuals.is_empty() {
            write!(f, "{}, ", self.individuals.join(" or "))?;
        }
        let species: Vec<String> = self.species.iter().map(Species::to_string).collect();
        write!(f, "a {}", species.join(" or "))?;
        if !self.breeds.is_empty() {
            write!(f, " ({})", self.breeds.join(" or ").replace('_', " "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched { subject, frames, of, probability } => {
                write!(f, "{frames} of {of} frames show {subject}, probability {probability:.3}")
            }
            Self::NothingMatched { subject, frames, of } => {
                write!(f, "no rule matches: {frames} of {of} frames show {subject}")
            }
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSeen => write!(f, "no frame shows an animal that it is about"),
            Self::TooRare { have, need } => write!(f, "only {have} of the {need} frames it needs"),
            Self::Contradicted { others, most } => {
                write!(f, "frames that show another animal than it is about: {others}, at most {most} may")
            }
            Self::Unlikely { mean, least } => write!(f, "probability {mean:.3} is below {least:.3}"),
            Self::OutsideTimes => write!(f, "outside its times"),
            Self::ClockUntrusted => write!(f, "it depends on the clock, which was not set or has jumped"),
            Self::Cooling { left } => write!(f, "its cooldown runs for another {}", plain(*left)),
            Self::QuotaSpent { used, count } => write!(f, "its quota is used up: {used} of {count}"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vote(undecided) => undecided.fmt(f),
            Self::Rule { rule, have, need, withheld, mostly } => {
                write!(f, "{have} of the {need} frames that rule {rule} needs")?;
                if *withheld > 0 {
                    write!(f, "; {withheld} more would speak for it, but also for an earlier rule that denies")?;
                }
                if let Some(reason) = mostly {
                    write!(f, " (others: {reason})")?;
                }
                Ok(())
            }
        }
    }
}

/// A duration as people say it, rounded up.
fn plain(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let minutes = seconds.div_ceil(60);
    match (seconds, minutes) {
        (..120, _) => format!("{seconds} s"),
        (_, ..120) => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}
