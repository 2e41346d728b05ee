//! The owner's ordered rules: the first that matches decides, and nothing matching means deny.
//!
//! A rule is weighed on its own conditions, frame by frame ([`Rules::decide`] says how):
//!
//! - One that **allows or dispenses** needs N frames (`agree`) that show one species, and one individual where it names some, and
//!   that fulfil all its conditions. At most `contradicting` frames may show any other animal.
//! - One that **denies** needs only `deny_agree` frames that fulfil its conditions, whatever the others show. Below that it still
//!   holds back: a frame that speaks for it does not count for a rule after it.
//! - No rule acts before all rules above it are known not to match. One that allows may match yet as long as a frame speaks for
//!   it and not too many speak against it; this is settled once N + `contradicting` frames show an animal.
//!
//! What the frames show stands in [`super::vote`]; what opens or gives in [`super::door`] and [`super::feeder`].

mod check;
mod moment;
mod ruling;
mod usage;

use std::time::Duration;

use jiff::civil::{Time, Weekday};

pub use check::{Problem, RuleError};
pub use moment::{ClockWatch, EARLIEST, JUMP, Moment, SETTLE};
pub use ruling::{Decided, Grounds, Miss, Ruling, Subject, Waiting};
pub use usage::Usage;

use super::Sighting;
use super::vote::{Tally, Undecided, mean};
use crate::model::Species;

/// Longest cooldown and longest period of a quota: 31 days.
pub const MAX_PERIOD: Duration = Duration::from_secs(31 * 86_400);
/// Largest quota, and most portions of one action.
pub const MAX_COUNT: u32 = 1000;

/// One rule. Conditions that are empty do not restrict.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique name, recorded with every decision.
    pub name: String,
    /// What happens when it matches.
    pub action: Action,
    /// Names of enrolled individuals.
    pub individuals: Vec<String>,
    /// Labels of the model.
    pub breeds: Vec<String>,
    /// Species.
    pub species: Vec<Species>,
    /// Least probability of the breed, or of the species where the rule names no breed, 0…1. The mean of the frames that speak for
    /// the rule; for one that denies, of the `deny_agree` likeliest of them.
    pub min_probability: f32,
    /// Times of day, in the configured zone.
    pub times: Vec<TimeWindow>,
    /// Least time since the rule last acted, up to [`MAX_PERIOD`]. None for a rule that denies.
    pub cooldown: Option<Duration>,
    /// How often the rule may act. None for a rule that denies.
    pub quota: Option<Quota>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The door may open.
    Allow,
    /// The door stays shut, the feeder gives nothing.
    Deny,
    /// The feeder gives so many portions (1 to [`MAX_COUNT`]).
    Dispense(u32),
}

impl Action {
    /// What it takes from a quota.
    pub fn units(self) -> u32 {
        match self {
            Self::Allow => 1,
            Self::Deny => 0,
            Self::Dispense(portions) => portions,
        }
    }
}

/// A time of day on some days. `from` is inside, `to` is not; when `to` is not later than `from`, it ends on the next day, and
/// `days` names the day on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeWindow {
    /// Days on which it begins; empty means every day.
    pub days: Vec<Weekday>,
    /// First moment.
    pub from: Time,
    /// First moment after it.
    pub to: Time,
}

/// A limit to how often a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Times (portions, for a feeder) in one period, 1 to [`MAX_COUNT`]. A rule with less left than one action takes does not match.
    pub count: u32,
    /// The period.
    pub per: Period,
}

/// A quota's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The calendar day in the configured zone.
    Day,
    /// The last so much time, up to [`MAX_PERIOD`].
    Last(Duration),
}

/// Checked rules, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Without any rule everything is denied.
    ///
    /// # Errors
    /// The first rule that cannot be meant as it is written.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        check::check(&rules)?;
        Ok(Self(rules))
    }

    /// The rules, in their order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.0
    }

    /// What the rules say to the frames of the window, at the moment.
    ///
    /// Record what is granted with [`Usage::used`] before acting on it.
    pub fn decide(&self, tally: &Tally, usage: &Usage, at: &Moment) -> Ruling {
        self.walk(tally, at, |rule| limit(rule, usage, at))
    }

    /// As [`Rules::decide`], while what `acting` has granted still stands: that its own cooldown runs and its quota is used does
    /// not count against it. For a door that looks again while it is open; anything but a grant means that it must close.
    pub fn recheck(&self, acting: &str, tally: &Tally, usage: &Usage, at: &Moment) -> Ruling {
        self.walk(tally, at, |rule| if rule.name == acting { None } else { limit(rule, usage, at) })
    }

    fn walk(&self, tally: &Tally, at: &Moment, limit: impl Fn(&Rule) -> Option<Miss>) -> Ruling {
        // The frames that speak for a rule that denies, and do not count for a rule after it.
        let mut withheld = vec![false; tally.ballots.len()];
        let mut passed_over = vec![];
        for rule in &self.0 {
            let standing = match rule.action {
                Action::Deny => denial(rule, tally, at, &mut withheld),
                Action::Allow | Action::Dispense(_) => {
                    match (grant(rule, tally, &withheld), untimely(rule, at).or_else(|| limit(rule))) {
                        (Standing::Matches(_) | Standing::MayYet { .. }, Some(miss)) => Standing::Misses(miss),
                        (standing, _) => standing,
                    }
                }
            };
            match standing {
                Standing::Matches(frames) => return Ruling::Decided(matched(rule, tally, &frames, passed_over)),
                Standing::MayYet { have, withheld } => {
                    let (rule, need, mostly) =
                        (rule.name.clone(), tally.settings().agree, tally.most_frequent_reason().cloned());
                    return Ruling::Undecided(Waiting::Rule { rule, have, need, withheld, mostly });
                }
                Standing::Misses(miss) => passed_over.push((rule.name.clone(), miss)),
            }
        }
        nothing_matched(tally, passed_over)
    }
}

/// How a rule stands to the frames of the window.
enum Standing {
    /// It matches, for the frames at these places.
    Matches(Vec<usize>),
    /// More frames may make it match.
    MayYet { have: usize, withheld: usize },
    /// It does not match.
    Misses(Miss),
}

impl Rule {
    /// Whether a frame that shows this speaks for the rule.
    fn is_about(&self, sighting: &Sighting) -> bool {
        let individual = sighting.individual.as_ref();
        (self.species.is_empty() || self.species.contains(&sighting.species))
            && (self.breeds.is_empty() || self.breeds.contains(&sighting.breed))
            && (self.individuals.is_empty() || individual.is_some_and(|i| self.individuals.contains(&i.name)))
    }

    /// The probability that the rule goes by.
    fn probability(&self, sighting: &Sighting) -> f32 {
        if self.breeds.is_empty() { sighting.species_p } else { sighting.breed_p }
    }
}

fn grant(rule: &Rule, tally: &Tally, withheld: &[bool]) -> Standing {
    let settings = tally.settings();
    let frames = largest_group(rule, tally);
    if frames.is_empty() {
        return Standing::Misses(Miss::NotSeen);
    }
    let others = tally.sightings().count() - frames.len();
    if others > settings.contradicting {
        return Standing::Misses(Miss::Contradicted { others, most: settings.contradicting });
    }
    let mean = mean(&frames.iter().map(|(_, s)| rule.probability(s)).collect::<Vec<_>>());
    if frames.len() >= settings.agree && mean < rule.min_probability {
        return Standing::Misses(Miss::Unlikely { mean, least: rule.min_probability });
    }
    let counted: Vec<usize> = frames.iter().map(|(place, _)| *place).filter(|place| !withheld[*place]).collect();
    if counted.len() >= settings.agree {
        Standing::Matches(counted)
    } else {
        Standing::MayYet { have: counted.len(), withheld: frames.len() - counted.len() }
    }
}

/// Of the frames that the rule is about, most of those that show one species and, where it names individuals, one individual.
fn largest_group<'a>(rule: &Rule, tally: &'a Tally) -> Vec<(usize, &'a Sighting)> {
    let name = |s: &'a Sighting| s.individual.as_ref().filter(|_| !rule.individuals.is_empty()).map(|i| i.name.as_str());
    let about = || tally.sightings().filter(|(_, s)| rule.is_about(s));
    let group =
        |of: &'a Sighting| about().filter(move |(_, s)| s.species == of.species && name(s) == name(of)).collect::<Vec<_>>();
    about().map(|(_, s)| group(s)).max_by_key(Vec::len).unwrap_or_default()
}

fn denial(rule: &Rule, tally: &Tally, at: &Moment, withheld: &mut [bool]) -> Standing {
    if let Some(miss) = untimely(rule, at) {
        return Standing::Misses(miss);
    }
    let need = tally.settings().deny_agree;
    let mut frames: Vec<(usize, f32)> =
        tally.sightings().filter(|(_, s)| rule.is_about(s)).map(|(place, s)| (place, rule.probability(s))).collect();
    frames.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let likeliest: Vec<f32> = frames.iter().take(need).map(|(_, p)| *p).collect();
    let unlikely = |p: f32| p < rule.min_probability;
    if frames.len() >= need && !unlikely(mean(&likeliest)) {
        let mut places: Vec<usize> = frames.iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        return Standing::Matches(places);
    }
    for (place, _) in frames.iter().filter(|(_, p)| !unlikely(*p)) {
        withheld[*place] = true;
    }
    Standing::Misses(match frames.len() {
        0 => Miss::NotSeen,
        have if have < need => Miss::TooRare { have, need },
        _ => Miss::Unlikely { mean: mean(&likeliest), least: rule.min_probability },
    })
}

/// Whether the rule is outside its times. While the wall clock cannot be believed, a rule that grants is, and one that denies is
/// not.
fn untimely(rule: &Rule, at: &Moment) -> Option<Miss> {
    if rule.times.is_empty() {
        return None;
    }
    match (at.trusted, rule.action) {
        (false, Action::Deny) => None,
        (false, Action::Allow | Action::Dispense(_)) => Some(Miss::ClockUntrusted),
        (true, _) if rule.times.iter().any(|window| window.contains(at.now.wall, &at.zone)) => None,
        (true, _) => Some(Miss::OutsideTimes),
    }
}

/// Whether the rule's cooldown or quota keeps it from acting.
fn limit(rule: &Rule, usage: &Usage, at: &Moment) -> Option<Miss> {
    if let Some(left) = rule.cooldown.and_then(|cooldown| usage.cooling(&rule.name, cooldown, at)) {
        return Some(Miss::Cooling { left });
    }
    let Quota { count, per } = rule.quota?;
    if per == Period::Day && !at.trusted {
        return Some(Miss::ClockUntrusted);
    }
    let used = usage.spent(&rule.name, per, at);
    (used.saturating_add(rule.action.units()) > count).then_some(Miss::QuotaSpent { used, count })
}

fn matched(rule: &Rule, tally: &Tally, places: &[usize], passed_over: Vec<(String, Miss)>) -> Decided {
    let sightings = || tally.sightings().filter(|(place, _)| places.contains(place)).map(|(_, s)| s);
    Decided {
        action: rule.action,
        rule: Some(rule.name.clone()),
        grounds: Grounds::Matched {
            subject: Subject::of(sightings(), rule),
            frames: places.len(),
            of: tally.ballots.len(),
            probability: mean(&sightings().map(|s| rule.probability(s)).collect::<Vec<_>>()),
        },
        agreeing: places.iter().map(|place| tally.ballots[*place].frame).collect(),
        passed_over,
    }
}

fn nothing_matched(tally: &Tally, passed_over: Vec<(String, Miss)>) -> Ruling {
    let Some(species) = tally.species.as_ref() else {
        return Ruling::Undecided(Waiting::Vote(tally.undecided().unwrap_or(Undecided::Nobody)));
    };
    let agreeing = tally.sightings().filter(|(_, s)| s.species == species.what).map(|(place, _)| tally.ballots[place].frame);
    Ruling::Decided(Decided {
        action: Action::Deny,
        rule: None,
        grounds: Grounds::NothingMatched { subject: Subject::agreed(tally), frames: species.frames, of: tally.ballots.len() },
        agreeing: agreeing.collect(),
        passed_over,
    })
}

#[cfg(test)]
mod tests;
