//! The owner's ordered rules: the first that matches decides, and nothing matching means deny.

use std::time::Duration;

use jiff::civil::{Time, Weekday};

use crate::model::Species;

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
    /// Least probability of the species (where the rule names no breed) or of the breed, 0…1; mean of the agreeing frames.
    pub min_probability: f32,
    /// Times of day, in the configured zone.
    pub times: Vec<TimeWindow>,
    /// Least time since the rule last acted.
    pub cooldown: Option<Duration>,
    /// How often the rule may act.
    pub quota: Option<Quota>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The door may open.
    Allow,
    /// The door stays shut, the feeder gives nothing.
    Deny,
    /// The feeder gives so many portions (at least 1).
    Dispense(u32),
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
    /// Times (portions, for a feeder) in one period.
    pub count: u32,
    /// The period.
    pub per: Period,
}

/// A quota's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// The calendar day in the configured zone.
    Day,
    /// The last so much time.
    Last(Duration),
}
