//! What a list of rules must keep to, before it decides anything.

use std::time::Duration;

use super::{Action, MAX_COUNT, MAX_PERIOD, Period, Rule};

/// A rule that cannot be meant as it is written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rule {number} (`{name}`): {field}: {problem}", number = .index + 1)]
pub struct RuleError {
    /// Place in the list, from 0.
    pub index: usize,
    /// Name of the rule, possibly empty.
    pub name: String,
    /// Name of the field of [`Rule`].
    pub field: &'static str,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a field of a rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// An empty name.
    #[error("a name is empty: give one")]
    Empty,
    /// A name that an earlier rule has.
    #[error("rule {} has the same name, which would mix up their quotas: give another", .0 + 1)]
    Taken(usize),
    /// Something that stands in a list twice.
    #[error("`{0}` is listed twice: remove one")]
    Repeated(String),
    /// A probability that is none.
    #[error("{0} is no probability: give 0 to 1")]
    Probability(f32),
    /// A number out of its range.
    #[error("{0} is out of range: give 1 to {MAX_COUNT}")]
    Count(u32),
    /// A duration out of its range.
    #[error("{0:?} is out of range: give more than 0 and at most {MAX_PERIOD:?}")]
    Period(Duration),
    /// A quota that not even one action fits into.
    #[error("the quota of {count} is less than the {portions} portions of one action: the rule could never act")]
    Unreachable {
        /// The quota.
        count: u32,
        /// Portions of one action.
        portions: u32,
    },
    /// A limit to a rule that denies: once used up, it would no longer deny.
    #[error("a rule that denies has no limit, or it would stop denying: remove it")]
    LimitedDeny,
}

/// # Errors
/// The first rule that is wrong, with the first of its fields that is.
pub(super) fn check(rules: &[Rule]) -> Result<(), RuleError> {
    for (index, rule) in rules.iter().enumerate() {
        let problem = name(rules, index).and_then(|()| conditions(rule)).and_then(|()| limits(rule));
        problem.map_err(|(field, problem)| RuleError { index, name: rule.name.clone(), field, problem })?;
    }
    Ok(())
}

type Checked = Result<(), (&'static str, Problem)>;

fn name(rules: &[Rule], index: usize) -> Checked {
    let name = &rules[index].name;
    if name.trim().is_empty() {
        return Err(("name", Problem::Empty));
    }
    match rules[..index].iter().position(|earlier| earlier.name == *name) {
        Some(earlier) => Err(("name", Problem::Taken(earlier))),
        None => Ok(()),
    }
}

fn conditions(rule: &Rule) -> Checked {
    for (field, names) in [("individuals", &rule.individuals), ("breeds", &rule.breeds)] {
        for (index, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return Err((field, Problem::Empty));
            }
            if names[..index].contains(name) {
                return Err((field, Problem::Repeated(name.clone())));
            }
        }
    }
    if (0.0..=1.0).contains(&rule.min_probability) {
        Ok(())
    } else {
        Err(("min_probability", Problem::Probability(rule.min_probability)))
    }
}

fn limits(rule: &Rule) -> Checked {
    if let Action::Dispense(portions) = rule.action {
        count("action", portions)?;
    }
    let denies = rule.action == Action::Deny;
    if let Some(cooldown) = rule.cooldown {
        if denies {
            return Err(("cooldown", Problem::LimitedDeny));
        }
        period("cooldown", cooldown)?;
    }
    let Some(quota) = rule.quota else { return Ok(()) };
    if denies {
        return Err(("quota", Problem::LimitedDeny));
    }
    count("quota", quota.count)?;
    if let Period::Last(last) = quota.per {
        period("quota", last)?;
    }
    let portions = rule.action.units();
    if portions > quota.count {
        return Err(("quota", Problem::Unreachable { count: quota.count, portions }));
    }
    Ok(())
}

fn count(field: &'static str, given: u32) -> Checked {
    if (1..=MAX_COUNT).contains(&given) { Ok(()) } else { Err((field, Problem::Count(given))) }
}

fn period(field: &'static str, given: Duration) -> Checked {
    if given.is_zero() || given > MAX_PERIOD { Err((field, Problem::Period(given))) } else { Ok(()) }
}
