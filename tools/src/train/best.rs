//! `--recipe best`: breeds by a shrunk discriminant on the features' roots and ImageNet's breed probabilities ([`super::discriminant`]),
//! the gate by three numbers ([`super::odds`]). In closed form: nothing is drawn by lot but the folds.
//!
//! A pet is trained on as it is (the mean of both views) and as a camera at a door would see it; the gate on pictures as they are.
//!
//! The gate is fitted to what discriminants say of pictures that they have not seen: a pet is judged by the one that its own fold was
//! left out of. No discriminant has seen a negative; a negative is judged by the one of its fold, so that both kinds get scores of
//! the same make.

use anyhow::Context;

use super::discriminant::{Discriminant, Table, transform};
use super::knowledge::Knowledge;
use super::linear::Layer;
use super::odds::{Odds, Pair};
use super::{Examples, FOLDS, OutOfFold, calibrate};
use crate::graph::fused::RESNET_FEATURES;

/// A fitted head.
#[derive(Debug, Clone, PartialEq)]
pub struct BestHead {
    /// The rows of ImageNet's classifiers.
    pub knowledge: Knowledge,
    /// Breed scores over [`transform`]ed features.
    pub breed: Layer,
    /// The gate, over ImageNet's log odds and the likeliest breed's score.
    pub odds: Odds,
}

impl BestHead {
    /// Breed scores and the gate's, not calibrated, from fused features.
    pub fn scores(&self, features: &[f32]) -> (Vec<f32>, f32) {
        let breed = self.breed.logits(&transform(features, RESNET_FEATURES, Some(&self.knowledge)));
        let pet = self.odds.score([f64::from(self.knowledge.of(features).log_odds), largest(&breed)]);
        (breed, pet)
    }
}

/// Pictures as this recipe sees them, ready to be fitted to and judged in any fold.
#[derive(Debug)]
pub struct Bench<'a> {
    examples: &'a Examples,
    table: Table,
    /// ImageNet's log odds of the plain view of each picture; then those of each set.
    log_odds: Vec<Vec<f64>>,
}

/// What was fitted to a choice of pictures.
#[derive(Debug)]
pub struct Fitted {
    /// Fitted to all of them.
    pub discriminant: Discriminant,
    /// Its shrinkage: the one that does best when folds among the pictures are left out.
    pub shrinkage: f64,
    /// For each of the pictures: breed scores and the gate's two numbers, from discriminants that have not seen it.
    unseen: Vec<(usize, Vec<f32>, Pair)>,
}

/// A fitted gate with its thresholds.
#[derive(Debug, Clone, Copy)]
pub struct FittedGate {
    /// Its curve.
    pub odds: Odds,
    /// A pet from here on.
    pub accept: f32,
    /// No pet below.
    pub reject: f32,
}

impl<'a> Bench<'a> {
    /// Of `examples`, and of what else of them is judged: in each of `sets` one feature vector a picture.
    pub fn new(examples: &'a Examples, knowledge: &Knowledge, sets: &[Vec<Vec<f32>>]) -> Self {
        let odds = |features: &Vec<f32>| f64::from(knowledge.of(features).log_odds);
        let mut log_odds = vec![examples.views.iter().map(|views| odds(&views[0])).collect()];
        log_odds.extend(sets.iter().map(|set| set.iter().map(odds).collect()));
        Self { examples, table: Table::new(examples, sets, RESNET_FEATURES, Some(knowledge)), log_odds }
    }

    /// Fits to the pictures `training`. `None` when a class has no picture among them, or all of each class are the same.
    pub fn fit(&self, training: &[usize], folds: &[usize]) -> Option<Fitted> {
        let shrinkage = self.table.shrinkage(self.examples, training, folds);
        let discriminant = self.table.fit(self.examples, training, shrinkage)?;
        let mut unseen = vec![];
        for fold in 0..FOLDS {
            let (held, rest): (Vec<usize>, Vec<usize>) = training.iter().partition(|&&i| folds[i] == fold);
            let Some(inner) = self.table.fit(self.examples, &rest, shrinkage).filter(|_| !held.is_empty()) else { continue };
            unseen.extend(self.judge(&inner, &held, 0));
        }
        let is_pet = |(picture, ..): &(usize, Vec<f32>, Pair)| self.examples.is_pet(*picture);
        let both = unseen.iter().any(is_pet) && !unseen.iter().all(is_pet);
        both.then_some(Fitted { discriminant, shrinkage, unseen })
    }

    /// Breed scores and the gate's two numbers of pictures, from their plain view (`set` 0) or their features in the sets, counted from 1.
    pub fn judge(&self, discriminant: &Discriminant, pictures: &[usize], set: usize) -> Vec<(usize, Vec<f32>, Pair)> {
        let scores = self.table.scores(discriminant, pictures, set);
        let odds = &self.log_odds[set];
        pictures.iter().zip(scores).map(|(&i, row)| (i, row.clone(), [odds[i], largest(&row)])).collect()
    }

    /// The gate over what was found, fitted without one category of negatives if so wanted (see [`Examples::category`]).
    ///
    /// A category weighs as the root of its size, so that the large ones do not decide alone.
    pub fn gate(&self, fitted: &Fitted, without: Option<usize>) -> FittedGate {
        let of = |wanted: Option<usize>| {
            let chosen = fitted.unseen.iter().filter(move |(picture, ..)| self.examples.category(*picture) == wanted);
            chosen.map(|(_, _, pair)| *pair).collect::<Vec<Pair>>()
        };
        let pets = of(None);
        let categories = (0..self.examples.categories()).filter(|category| Some(*category) != without);
        let others: Vec<(Pair, f64)> = categories
            .flat_map(|category| {
                let negatives = of(Some(category));
                let weight = 1.0 / (negatives.len() as f64).sqrt();
                negatives.into_iter().map(move |pair| (pair, weight))
            })
            .collect();
        let odds = Odds::fit(&pets, &others);
        let scores: Vec<f32> = pets.iter().map(|&pair| odds.score(pair)).collect();
        let accept = calibrate::threshold_reached_by(&scores, calibrate::ACCEPT_TARGET);
        let reject = calibrate::threshold_reached_by(&scores, calibrate::NOT_REJECTED_TARGET).min(accept);
        FittedGate { odds, accept, reject }
    }

    /// Fits to everything: the head that ships, its shrinkage, and what heads without the picture's fold say of each picture.
    ///
    /// # Errors
    /// When a class is too small: it must have pictures in two folds that are no near duplicates of each other.
    pub fn head(&self, knowledge: Knowledge, folds: &[usize]) -> anyhow::Result<(BestHead, f64, OutOfFold)> {
        let everything: Vec<usize> = (0..self.examples.len()).collect();
        let fitted = self.fit(&everything, folds);
        let fitted = fitted.filter(|fitted| fitted.unseen.len() == everything.len()).context(
            "a class is too small for cross-validation: each needs two pictures at least that do not show nearly the same",
        )?;
        let odds = self.gate(&fitted, None).odds;
        let mut unseen = OutOfFold { breed: vec![vec![]; everything.len()], pet: vec![0.0; everything.len()] };
        for (picture, breed, pair) in &fitted.unseen {
            unseen.pet[*picture] = odds.score(*pair);
            if self.examples.is_pet(*picture) {
                unseen.breed[*picture].clone_from(breed);
            }
        }
        let breed = self.table.layer(&fitted.discriminant);
        Ok((BestHead { knowledge, breed, odds }, fitted.shrinkage, unseen))
    }
}

fn largest(scores: &[f32]) -> f64 {
    f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}
