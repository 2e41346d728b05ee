//! A configuration held against the model and the enrolled animals: names that nobody knows, rules that can never match, and rules
//! that would open or feed by the name of an animal that has not shown enough. What an animal has to show, and what it lacks, is
//! decided in [`crate::individuals`].

use std::ops::Range;

use super::error::{Problems, Report, nearest};
use super::{Config, Marks};
use crate::individuals::{Enrolled, Individuals};
use crate::model::Label;
use crate::policy::rules::{Action, Rule};

impl Config {
    /// Holds the rules against the labels of the model and the enrolled animals, by the minimum that `[individuals]` sets.
    ///
    /// # Errors
    /// A [`Report`] with every breed and animal that is not known, every rule that names only breeds of other species than it names,
    /// and every rule that allows or dispenses by the name of an animal whose evidence is below `[individuals]`, saying how many
    /// more pictures it needs.
    pub fn check_against(&self, labels: &[Label], individuals: &Individuals) -> Result<(), Report> {
        let mut problems = self.problems();
        let enrolled = individuals.evidence(self.individuals());
        for (rule, marks) in self.rules().iter().zip(&self.marks) {
            check_breeds(rule, marks, labels, &mut problems);
            check_individuals(rule, marks, &enrolled, &mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.report()) }
    }
}

fn check_breeds(rule: &Rule, marks: &Marks, labels: &[Label], problems: &mut Problems) {
    let mut known = vec![];
    for (breed, span) in rule.breeds.iter().zip(&marks.breeds) {
        match labels.iter().find(|label| label.name == *breed) {
            Some(label) => known.push(label),
            None => {
                let hint = match nearest(breed, labels.iter().map(|label| label.name.as_str())) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("the model knows {}", names(labels)),
                };
                problems.push("rule.breed", Some(span.clone()), format!("the model knows no breed {breed:?}"), Some(hint));
            }
        }
    }
    let fits = |label: &&Label| rule.species.is_empty() || rule.species.contains(&label.species);
    if known.len() == rule.breeds.len() && !known.is_empty() && !known.iter().any(fits) {
        let what = format!("the rule {:?} can never match: none of its breeds belongs to its species", rule.name);
        problems.push("rule", Some(marks.rule.clone()), what, Some("delete species, or name other breeds".into()));
    }
}

/// The breeds of a model, for a hint; the beginning of a long list.
fn names(labels: &[Label]) -> String {
    let names: Vec<_> = labels.iter().map(|label| label.name.as_str()).take(40).collect();
    format!("{}{}", names.join(", "), if labels.len() > names.len() { ", …" } else { "" })
}

fn check_individuals(rule: &Rule, marks: &Marks, enrolled: &[Enrolled], problems: &mut Problems) {
    for (name, span) in rule.individuals.iter().zip(&marks.individuals) {
        match enrolled.iter().find(|animal| animal.name == *name) {
            None => unknown(name, span, enrolled, problems),
            Some(_) if rule.action == Action::Deny => {}
            Some(animal) => {
                if let Some(refusal) = animal.refusal() {
                    problems.push("rule.individual", Some(span.clone()), refusal, Some(remedy(animal)));
                }
            }
        }
    }
}

fn unknown(name: &str, span: &Range<usize>, enrolled: &[Enrolled], problems: &mut Problems) {
    let hint = match nearest(name, enrolled.iter().map(|animal| animal.name.as_str())) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "enrol it with `pawgate enroll NAME PICTURES…`".to_owned(),
    };
    problems.push("rule.individual", Some(span.clone()), format!("no animal {name:?} is enrolled"), Some(hint));
}

/// How an animal comes to what it lacks.
fn remedy(animal: &Enrolled) -> String {
    let Some(strangers) = animal.needs_strangers else {
        return "raise individuals.max_strangers, or let no rule act by this name".to_owned();
    };
    let own = if animal.needs_own > 0 { " PICTURES…" } else { "" };
    let strangers = if strangers > 0 { " --strangers PICTURES…" } else { "" };
    format!("enrol them with `pawgate enroll {:?}{own}{strangers}`", animal.name)
}
