//! A configuration held against the model and the enrolled animals: names that nobody knows, rules that can never match, and rules
//! that would open or feed by the name of an animal that has not shown enough.

use std::ops::Range;

use super::error::{Problems, Report, nearest};
use super::{Config, Marks};
use crate::individuals;
use crate::model::Label;
use crate::policy::rules::{Action, Rule};

/// What an enrolled animal has shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolled {
    /// Its name.
    pub name: String,
    /// Pictures that it was enrolled with.
    pub pictures: usize,
    /// Share of them that are recognised when left out, 0…1.
    pub accepted: f32,
    /// Upper end of the 95 % interval of the share of strangers that are taken for it, 0…1.
    pub strangers_upper: f32,
}

impl Config {
    /// Holds the rules against the labels of the model and the enrolled animals.
    ///
    /// # Errors
    /// A [`Report`] with every breed and animal that is not known, every rule that names only breeds of other species than it names,
    /// and every rule that allows or dispenses by the name of an animal whose evidence is below `[individuals]`, saying how many
    /// more pictures it needs.
    pub fn check_against(&self, labels: &[Label], enrolled: &[Enrolled]) -> Result<(), Report> {
        let mut problems = self.problems();
        for (rule, marks) in self.rules().iter().zip(&self.marks) {
            check_breeds(rule, marks, labels, &mut problems);
            check_individuals(rule, marks, enrolled, self.individuals(), &mut problems);
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

fn check_individuals(
    rule: &Rule,
    marks: &Marks,
    enrolled: &[Enrolled],
    settings: &individuals::Settings,
    problems: &mut Problems,
) {
    for (name, span) in rule.individuals.iter().zip(&marks.individuals) {
        match enrolled.iter().find(|animal| animal.name == *name) {
            None => unknown(name, span, enrolled, problems),
            Some(_) if rule.action == Action::Deny => {}
            Some(animal) => {
                if let Some((lack, hint)) = lacks(animal, settings) {
                    let what = format!("no rule may open or feed for {name:?} yet: {lack}");
                    problems.push("rule.individual", Some(span.clone()), what, Some(hint));
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

/// What an animal's evidence lacks, and what to do. A figure that is no number lacks everything.
fn lacks(animal: &Enrolled, settings: &individuals::Settings) -> Option<(String, String)> {
    let percent = |share: f32| format!("{:.1} %", share * 100.0);
    let more = |count: usize| {
        let pictures = if count == 1 { "picture" } else { "pictures" };
        format!("enrol {:?} with at least {count} more {pictures}", animal.name)
    };
    if animal.pictures < settings.min_pictures {
        let lack = format!("it was enrolled with {} pictures, {} are required", animal.pictures, settings.min_pictures);
        return Some((lack, more(settings.min_pictures - animal.pictures)));
    }
    if animal.accepted.is_nan() || animal.accepted < settings.min_accepted {
        let (found, least) = (percent(animal.accepted), percent(settings.min_accepted));
        let hint = match pictures_to_reach(animal, settings.min_accepted) {
            Some(count) => format!("{}, all of which show it clearly", more(count)),
            None => "lower individuals.min_accepted: no number of pictures reaches it".to_owned(),
        };
        return Some((format!("{found} of its own pictures are recognised when left out, {least} are required"), hint));
    }
    if animal.strangers_upper.is_nan() || animal.strangers_upper > settings.max_strangers {
        let (found, most) = (percent(animal.strangers_upper), percent(settings.max_strangers));
        let lack = format!("up to {found} of strangers may be taken for it, {most} are allowed");
        return Some((lack, format!("{} from other sides and in other light", more(settings.min_pictures.div_ceil(2)))));
    }
    None
}

/// How many more pictures, all of them recognised, raise the share to `least`.
fn pictures_to_reach(animal: &Enrolled, least: f32) -> Option<usize> {
    let (count, least) = (animal.pictures as f64, f64::from(least));
    let recognised = (count * f64::from(animal.accepted)).max(0.0).round();
    let more = ((least * count - recognised) / (1.0 - least)).ceil();
    (more.is_finite() && more <= 10_000.0).then_some((more as usize).max(1))
}
