//! A gate of three numbers ([`crate::train::odds`]), measured beside the trained layer: at its threshold, and on categories of negatives
//! that it was fitted without.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Predictions, Spread};
use crate::material::Material;
use crate::train::discriminant::Table;
use crate::train::knowledge::Knowledge;
use crate::train::odds::{Odds, Pair};
use crate::train::{Examples, FOLDS, calibrate};

/// Shrinkage of all discriminants that tell the gate how well the likeliest breed fits: it decides the scale of their scores, so it must
/// be the same where the gate is fitted and where it judges.
const SHRINKAGE: f64 = 0.9;

/// What the second gate lets pass, in percent, over the seeds.
#[derive(Debug, Clone, Serialize)]
pub struct SecondGate {
    /// Share of the pets accepted.
    pub pets_accepted: Spread,
    /// Share of the negatives accepted.
    pub negatives_accepted: Spread,
    /// Mean over categories of the share accepted when the gate was fitted without the category.
    pub left_out_mean: Spread,
    /// For each category: share accepted, and share accepted when the gate was fitted without it.
    pub by_category: BTreeMap<String, [Spread; 2]>,
}

/// ImageNet's log odds of every picture.
pub(super) struct LogOdds {
    fp32: Vec<f64>,
    /// Those that are judged by: from int8 features, where there are some.
    judged: Vec<f64>,
    is_int8: bool,
}

impl LogOdds {
    pub fn of(examples: &Examples, int8: Option<&[Vec<f32>]>, knowledge: &Knowledge) -> Self {
        let odds = |features: &[f32]| f64::from(knowledge.of(features).log_odds);
        let fp32: Vec<f64> = examples.views.iter().map(|views| odds(&views[0])).collect();
        let judged = int8.map_or_else(|| fp32.clone(), |int8| int8.iter().map(|features| odds(features)).collect());
        Self { fp32, judged, is_int8: int8.is_some() }
    }
}

/// Fits the gate to the pictures `training` and judges the pictures `tested`. What cannot be fitted accepts nothing.
///
/// The likeliest breed's fit comes, for each pet trained on, from a discriminant that has not seen it (its own fold left out); for each
/// negative from the discriminant of its fold, since none has seen a negative.
pub(super) fn judge(
    material: &Material,
    table: &Table,
    odds: &LogOdds,
    (training, tested): (&[usize], &[usize]),
    folds: &[usize],
) -> Vec<[bool; 2]> {
    let examples = &material.examples;
    let mut pets: Vec<Pair> = vec![];
    let mut others: Vec<(Pair, usize)> = vec![];
    for fold in 0..FOLDS {
        let (held, rest): (Vec<usize>, Vec<usize>) = training.iter().partition(|&&i| folds[i] == fold);
        let Some(inner) = table.fit_with(examples, &rest, SHRINKAGE).filter(|_| !held.is_empty()) else { continue };
        for (&i, fit) in held.iter().zip(table.best(&inner, &held, false)) {
            match examples.is_pet(i) {
                true => pets.push([odds.fp32[i], fit]),
                false => others.push(([odds.fp32[i], fit], category(material, i))),
            }
        }
    }
    let Some(whole) = table.fit_with(examples, training, SHRINKAGE).filter(|_| !pets.is_empty()) else {
        return vec![[false; 2]; tested.len()];
    };
    let fits = table.best(&whole, tested, odds.is_int8);
    let pair = |at: usize| [odds.judged[tested[at]], fits[at]];
    let usual = Fitted::to(&pets, &others, None);
    let without: Vec<Fitted> = (0..material.categories.len()).map(|c| Fitted::to(&pets, &others, Some(c))).collect();
    let accepted = |at: usize| {
        let usually = usual.accepts(pair(at));
        match examples.is_pet(tested[at]) {
            true => [usually; 2],
            false => [usually, without[category(material, tested[at])].accepts(pair(at))],
        }
    };
    (0..tested.len()).map(accepted).collect()
}

fn category(material: &Material, negative: usize) -> usize {
    material.negative_categories[negative - material.examples.classes.len()]
}

struct Fitted {
    odds: Odds,
    accept: f32,
}

impl Fitted {
    /// To everything but one category. A category weighs as the root of its size, so that the large ones do not decide alone.
    fn to(pets: &[Pair], others: &[(Pair, usize)], without: Option<usize>) -> Self {
        let size = |category: usize| others.iter().filter(|(_, other)| *other == category).count() as f64;
        let used = others.iter().filter(|(_, category)| Some(*category) != without);
        let weighted: Vec<(Pair, f64)> = used.map(|&(pair, category)| (pair, 1.0 / size(category).sqrt())).collect();
        let odds = Odds::fit(pets, &weighted);
        let scores: Vec<f32> = pets.iter().map(|&pair| odds.score(pair)).collect();
        Self { odds, accept: calibrate::threshold_reached_by(&scores, calibrate::ACCEPT_TARGET) }
    }

    fn accepts(&self, pair: Pair) -> bool {
        self.odds.score(pair) >= self.accept
    }
}

/// The rates over all seeds.
pub(super) fn rates(predictions: &[Predictions], material: &Material) -> SecondGate {
    let pets = material.examples.classes.len();
    let share = |of: &dyn Fn(usize) -> bool, which: usize| {
        let chosen: Vec<usize> = (0..material.examples.len()).filter(|&i| of(i)).collect();
        let rate = |seed: &Predictions| chosen.iter().filter(|&&i| seed.second[i][which]).count() as f64 / chosen.len() as f64;
        predictions.iter().map(rate).collect::<Vec<f64>>()
    };
    let of_category = |index: usize, which: usize| share(&|i| i >= pets && category(material, i) == index, which);
    let left_out: Vec<Vec<f64>> = (0..material.categories.len()).map(|c| of_category(c, 1)).collect();
    let mean = |seed: usize| left_out.iter().map(|rates| rates[seed]).sum::<f64>() / left_out.len() as f64;
    let by_category = |(index, name): (usize, &String)| {
        (name.clone(), [Spread::of(of_category(index, 0)), Spread::of(left_out[index].iter().copied())])
    };
    SecondGate {
        pets_accepted: Spread::of(share(&|i| i < pets, 0)),
        negatives_accepted: Spread::of(share(&|i| i >= pets, 0)),
        left_out_mean: Spread::of((0..predictions.len()).map(mean)),
        by_category: material.categories.iter().enumerate().map(by_category).collect(),
    }
}
