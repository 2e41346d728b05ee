//! The head: breed and pet gate over frozen features; trained on everything, calibrated and gated out of fold.
//!
//! Two recipes: the paper's trains two linear layers step by step ([`linear`]); the best finds a discriminant and a gate of three
//! numbers in closed form ([`best`]). Temperatures and thresholds come from pictures that the head had not seen; the head that ships
//! is fitted to all. [`mod@file`] keeps it.

pub mod best;
pub mod calibrate;
pub mod discriminant;
pub mod file;
pub mod knowledge;
pub mod linear;
pub mod odds;
pub mod resume;

use std::ops::Range;
use std::time::{Duration, Instant};

use burn::tensor::backend::AutodiffBackend;
use pawgate::model::{Gate, Label};
use pawgate::vision::Preprocess;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::folds;
use crate::progress;
use best::BestHead;
use linear::{Epoch, Layer, Lesson, Protocol, Targets, fit_kept};
use odds::Odds;
use resume::{Checkpoints, Slot};

/// Number of folds of every cross-validation.
pub const FOLDS: usize = 5;

/// How a head is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The paper's: a linear layer for breeds and one for the gate, trained for a few epochs with dropout.
    Paper,
    /// What measures best: a shrunk discriminant and a gate over ImageNet's odds. Needs checkpoints with their classifiers.
    Best,
}

/// Pictures with their features, ready to train on: pets first, negatives after them.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Features of the plain and of the mirrored view.
    pub views: Vec<Vec<Vec<f32>>>,
    /// Features of each pet as a camera at a door would see it, one vector a condition; empty where that is not trained on.
    pub door: Vec<Vec<Vec<f32>>>,
    /// Class of each pet; as many as there are pets.
    pub classes: Vec<usize>,
    /// Stratum of each picture: its class, or for a negative the number of classes plus its category.
    pub strata: Vec<usize>,
    /// Near duplicates have the same number.
    pub groups: Vec<usize>,
    /// Number of classes.
    pub class_count: usize,
}

impl Examples {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether picture `i` shows a pet.
    pub fn is_pet(&self, i: usize) -> bool {
        i < self.classes.len()
    }

    /// Category of a negative, counted from 0; `None` for a pet.
    pub fn category(&self, i: usize) -> Option<usize> {
        self.strata[i].checked_sub(self.class_count)
    }

    /// Number of categories of negatives.
    pub fn categories(&self) -> usize {
        self.strata.iter().max().map_or(0, |&last| (last + 1).saturating_sub(self.class_count))
    }

    /// Folds of all pictures for a seed.
    pub fn folds(&self, seed: u64) -> Vec<usize> {
        folds::assign(&self.strata, &self.groups, FOLDS, seed)
    }

    /// Trains the breed layer on the pets among `chosen`, on the features in `range`.
    pub fn fit_breed<B: AutodiffBackend>(
        &self,
        chosen: &[usize],
        range: Range<usize>,
        protocol: &Protocol,
    ) -> (Layer, Vec<Epoch>) {
        self.fit_breed_kept::<B>(chosen, range, protocol, &Slot::NONE).expect("nothing is read or written")
    }

    /// As [`Self::fit_breed`], keeping what was done in `slot`.
    ///
    /// # Errors
    /// See [`fit_kept`].
    pub fn fit_breed_kept<B: AutodiffBackend>(
        &self,
        chosen: &[usize],
        range: Range<usize>,
        protocol: &Protocol,
        slot: &Slot,
    ) -> anyhow::Result<(Layer, Vec<Epoch>)> {
        let pets: Vec<usize> = chosen.iter().copied().filter(|&i| self.is_pet(i)).collect();
        let [training, held_out] = self.split(&pets, protocol);
        let classes = |chosen: &[usize]| -> Vec<usize> { self.repeat(chosen, |i| self.classes[i]) };
        let (features, held_features) = (self.all_views(&training, range.clone()), self.all_views(&held_out, range));
        let (classes, held_classes) = (classes(&training), classes(&held_out));
        let lesson = Lesson { features: &features, targets: Targets::Classes(&classes, self.class_count) };
        let held = Lesson { features: &held_features, targets: Targets::Classes(&held_classes, self.class_count) };
        fit_kept::<B>(&B::Device::default(), lesson, (!held_out.is_empty()).then_some(held), protocol, slot)
    }

    /// Trains the gate on all of `chosen`.
    pub fn fit_gate<B: AutodiffBackend>(&self, chosen: &[usize], protocol: &Protocol) -> (Layer, Vec<Epoch>) {
        self.fit_gate_kept::<B>(chosen, protocol, &Slot::NONE).expect("nothing is read or written")
    }

    /// As [`Self::fit_gate`], keeping what was done in `slot`.
    ///
    /// # Errors
    /// See [`fit_kept`].
    pub fn fit_gate_kept<B: AutodiffBackend>(
        &self,
        chosen: &[usize],
        protocol: &Protocol,
        slot: &Slot,
    ) -> anyhow::Result<(Layer, Vec<Epoch>)> {
        let protocol = Protocol { epochs: protocol.gate_epochs, ..protocol.clone() };
        let [training, held_out] = self.split(chosen, &protocol);
        let width = self.views[0][0].len();
        let pets = |chosen: &[usize]| -> Vec<bool> { self.repeat(chosen, |i| self.is_pet(i)) };
        let (features, held_features) = (self.all_views(&training, 0..width), self.all_views(&held_out, 0..width));
        let (pets, held_pets) = (pets(&training), pets(&held_out));
        let lesson = Lesson { features: &features, targets: Targets::Binary(&pets) };
        let held = Lesson { features: &held_features, targets: Targets::Binary(&held_pets) };
        fit_kept::<B>(&B::Device::default(), lesson, (!held_out.is_empty()).then_some(held), &protocol, slot)
    }

    /// What is trained on of `chosen`, and what is held out for early stopping: one fold, if that is asked for. Near duplicates stay
    /// together, and a class is never held out whole.
    fn split(&self, chosen: &[usize], protocol: &Protocol) -> [Vec<usize>; 2] {
        if protocol.patience.is_none() {
            return [chosen.to_vec(), vec![]];
        }
        let of = |numbers: &[usize]| -> Vec<usize> { chosen.iter().map(|&i| numbers[i]).collect() };
        let strata = of(&self.strata);
        let folds = folds::assign(&strata, &of(&self.groups), FOLDS, protocol.seed);
        let trained: std::collections::HashSet<usize> =
            strata.iter().zip(&folds).filter(|(_, fold)| **fold != 0).map(|(stratum, _)| *stratum).collect();
        let held = |at: usize| folds[at] == 0 && trained.contains(&strata[at]);
        let part = |wanted: bool| (0..chosen.len()).filter(|&at| held(at) == wanted).map(|at| chosen[at]).collect();
        [part(false), part(true)]
    }

    /// All views of `chosen`, of each the features in `range`.
    fn all_views<'a>(&'a self, chosen: &[usize], range: Range<usize>) -> Vec<&'a [f32]> {
        chosen.iter().flat_map(|&i| self.views[i].iter().map(|view| &view[range.clone()]).collect::<Vec<_>>()).collect()
    }

    fn repeat<T: Clone>(&self, chosen: &[usize], value: impl Fn(usize) -> T) -> Vec<T> {
        chosen.iter().flat_map(|&i| std::iter::repeat_n(value(i), self.views[i].len())).collect()
    }
}

/// What stands beside the trained layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadRecord {
    /// Classes in the order of the breed logits.
    pub labels: Vec<Label>,
    /// The pre-processing of the features.
    pub preprocess: Preprocess,
    /// Divides the breed logits.
    pub breed_temperature: f32,
    /// Divides the pet logit.
    pub pet_temperature: f32,
    /// Thresholds on the calibrated gate probability.
    pub gate: Gate,
    /// SHA-256 of the network whose features were trained on.
    pub network_sha256: String,
    /// How the head was found.
    pub method: Method,
    /// What it was trained on and what cross-validation gave.
    pub training: TrainingRecord,
}

/// How a head was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "recipe", rename_all = "snake_case")]
pub enum Method {
    /// [`Recipe::Paper`].
    Paper {
        /// How the layers were trained.
        protocol: Protocol,
        /// Loss and accuracy of the breed layer while training, one an epoch.
        breed_epochs: Vec<Epoch>,
        /// The same for the gate.
        gate_epochs: Vec<Epoch>,
    },
    /// [`Recipe::Best`].
    Best {
        /// Of the folds.
        seed: u64,
        /// Of the discriminant's covariance, 0…1.
        shrinkage: f64,
        /// Under which conditions the pets were trained on, beside as they are.
        conditions: Vec<Condition>,
        /// The gate's curve.
        odds: Odds,
    },
}

/// Data and figures of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Pictures of pets that were used.
    pub pets: usize,
    /// Pictures that the list names and the folder lacks.
    pub pets_missing: usize,
    /// Pictures without a pet that were used.
    pub negatives: usize,
    /// Pictures that could not be decoded.
    pub broken: usize,
    /// Pictures that are near duplicates of another.
    pub near_duplicates: usize,
    /// Share of pets whose breed was right, out of fold.
    pub cross_validated_top1: f64,
}

/// A trained head with its record.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedHead {
    /// What it computes.
    pub layers: Layers,
    /// Everything else.
    pub record: HeadRecord,
}

/// What a head computes from the fused features.
#[derive(Debug, Clone, PartialEq)]
pub enum Layers {
    /// [`Recipe::Paper`].
    Linear {
        /// Breed logits.
        breed: Layer,
        /// Pet logit.
        pet: Layer,
    },
    /// [`Recipe::Best`].
    Best(Box<BestHead>),
}

impl Layers {
    /// Breed scores and the gate's, not calibrated, of one picture.
    pub fn scores(&self, features: &[f32]) -> (Vec<f32>, f32) {
        match self {
            Self::Linear { breed, pet } => (breed.logits(features), pet.logits(features)[0]),
            Self::Best(best) => best.scores(features),
        }
    }

    /// Whether every weight is a number.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Linear { breed, pet } => breed.is_finite() && pet.is_finite(),
            Self::Best(best) => {
                let BestHead { breed, fit, odds, .. } = &**best;
                breed.is_finite() && fit.is_finite() && [odds.a, odds.b, odds.c].iter().all(|value| value.is_finite())
            }
        }
    }
}

/// Logits of pictures from layers that were not trained on them.
#[derive(Debug, Clone)]
pub struct OutOfFold {
    /// Breed logits; empty for negatives.
    pub breed: Vec<Vec<f32>>,
    /// Pet logit.
    pub pet: Vec<f32>,
}

/// Trains both layers on everything: the layers that ship.
///
/// # Errors
/// See [`fit_kept`].
pub fn fit_all<B: AutodiffBackend>(
    examples: &Examples,
    protocol: &Protocol,
    checkpoints: &Checkpoints,
) -> anyhow::Result<[(Layer, Vec<Epoch>); 2]> {
    let everything: Vec<usize> = (0..examples.len()).collect();
    let bar = progress::bar("training the head", 2);
    let start = Instant::now();
    let width = examples.views[0][0].len();
    let breed = examples.fit_breed_kept::<B>(&everything, 0..width, protocol, &checkpoints.slot("breed"))?;
    bar.inc(1);
    let breed_time = start.elapsed();
    let gate = examples.fit_gate_kept::<B>(&everything, protocol, &checkpoints.slot("gate"))?;
    bar.finish_and_clear();
    let seconds = |time: Duration, epochs: usize| time.as_secs_f64() / epochs as f64;
    log::info!(
        "an epoch took {:.2} s for the breeds, {:.2} s for the gate",
        seconds(breed_time, breed.1.len()),
        seconds(start.elapsed() - breed_time, gate.1.len())
    );
    Ok([breed, gate])
}

/// Cross-validates both layers over [`FOLDS`] folds; every picture's logits come from the plain view.
///
/// # Errors
/// See [`fit_kept`].
pub fn cross_validate<B: AutodiffBackend>(
    examples: &Examples,
    protocol: &Protocol,
    checkpoints: &Checkpoints,
) -> anyhow::Result<OutOfFold> {
    let folds = examples.folds(protocol.seed);
    let width = examples.views[0][0].len();
    let bar = progress::bar("cross-validating the head", FOLDS);
    let of_fold = |fold: usize| {
        let chosen: Vec<usize> = (0..examples.len()).filter(|&i| folds[i] != fold).collect();
        let [breed, gate] = ["breed", "gate"].map(|layer| checkpoints.slot(&format!("{layer}-without-{fold}")));
        let breed = examples.fit_breed_kept::<B>(&chosen, 0..width, protocol, &breed)?.0;
        let gate = examples.fit_gate_kept::<B>(&chosen, protocol, &gate)?.0;
        bar.inc(1);
        Ok((breed, gate))
    };
    let layers = (0..FOLDS).into_par_iter().map(of_fold).collect::<anyhow::Result<Vec<(Layer, Layer)>>>()?;
    bar.finish_and_clear();
    let plain = |i: usize| examples.views[i][0].as_slice();
    let breed = |i: usize| if examples.is_pet(i) { layers[folds[i]].0.logits(plain(i)) } else { vec![] };
    Ok(OutOfFold {
        breed: (0..examples.len()).map(breed).collect(),
        pet: (0..examples.len()).map(|i| layers[folds[i]].1.logits(plain(i))[0]).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_fifth_is_held_out_for_early_stopping_and_twins_stay_together() {
        // Two classes of 20, one of 1; pictures 3 and 4 of each are twins.
        let classes: Vec<usize> = [vec![0; 20], vec![1; 20], vec![2]].concat();
        let groups: Vec<usize> = (0..41).map(|i| if i % 20 == 4 { i - 1 } else { i }).collect();
        let examples = Examples {
            views: vec![vec![vec![0.0]]; 41],
            door: vec![],

            strata: classes.clone(),
            classes,
            groups,
            class_count: 3,
        };
        let chosen: Vec<usize> = (1..41).collect();
        let split = |patience, seed| examples.split(&chosen, &Protocol { patience, seed, ..Protocol::default() });
        assert_eq!(split(None, 1), [chosen.clone(), vec![]]);
        for seed in 1..20 {
            let [training, held_out] = split(Some(3), seed);
            let both: HashSet<usize> = training.iter().chain(&held_out).copied().collect();
            assert_eq!((both.len(), training.len() + held_out.len()), (40, 40));
            assert!((6..=11).contains(&held_out.len()), "{held_out:?}");
            assert!(training.contains(&40), "the only picture of its class is held out");
            for twins in [3, 23] {
                assert_eq!(held_out.contains(&twins), held_out.contains(&(twins + 1)), "{held_out:?}");
            }
        }
        assert_ne!(split(Some(3), 1), split(Some(3), 2));
    }
}
