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
use linear::{Epoch, Layer, Protocol, Targets, fit};
use odds::Odds;

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
        range: std::ops::Range<usize>,
        protocol: &Protocol,
    ) -> (Layer, Vec<Epoch>) {
        let pets: Vec<usize> = chosen.iter().copied().filter(|&i| self.is_pet(i)).collect();
        let features: Vec<&[f32]> = self.all_views(&pets).map(|view| &view[range.clone()]).collect();
        let classes: Vec<usize> = self.repeat(&pets, |i| self.classes[i]);
        fit::<B>(&B::Device::default(), &features, Targets::Classes(&classes, self.class_count), protocol)
    }

    /// Trains the gate on all of `chosen`.
    pub fn fit_gate<B: AutodiffBackend>(&self, chosen: &[usize], protocol: &Protocol) -> (Layer, Vec<Epoch>) {
        let features: Vec<&[f32]> = self.all_views(chosen).collect();
        let pets: Vec<bool> = self.repeat(chosen, |i| self.is_pet(i));
        let protocol = Protocol { epochs: protocol.gate_epochs, ..protocol.clone() };
        fit::<B>(&B::Device::default(), &features, Targets::Binary(&pets), &protocol)
    }

    fn all_views<'a>(&'a self, chosen: &'a [usize]) -> impl Iterator<Item = &'a [f32]> {
        chosen.iter().flat_map(|&i| self.views[i].iter().map(Vec::as_slice))
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
    Best(BestHead),
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
            Self::Best(BestHead { breed, odds, .. }) => {
                breed.is_finite() && [odds.a, odds.b, odds.c].iter().all(|value| value.is_finite())
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
pub fn fit_all<B: AutodiffBackend>(examples: &Examples, protocol: &Protocol) -> [(Layer, Vec<Epoch>); 2] {
    let everything: Vec<usize> = (0..examples.len()).collect();
    let bar = progress::bar("training the head", 2);
    let start = Instant::now();
    let breed = examples.fit_breed::<B>(&everything, 0..examples.views[0][0].len(), protocol);
    bar.inc(1);
    let breed_time = start.elapsed();
    let gate = examples.fit_gate::<B>(&everything, protocol);
    bar.finish_and_clear();
    let seconds = |time: Duration, epochs: usize| time.as_secs_f64() / epochs as f64;
    log::info!(
        "an epoch took {:.2} s for the breeds, {:.2} s for the gate",
        seconds(breed_time, protocol.epochs),
        seconds(start.elapsed() - breed_time, protocol.gate_epochs)
    );
    [breed, gate]
}

/// Cross-validates both layers over [`FOLDS`] folds; every picture's logits come from the plain view.
pub fn cross_validate<B: AutodiffBackend>(examples: &Examples, protocol: &Protocol) -> OutOfFold {
    let folds = examples.folds(protocol.seed);
    let width = examples.views[0][0].len();
    let bar = progress::bar("cross-validating the head", FOLDS);
    let layers: Vec<(Layer, Layer)> = (0..FOLDS)
        .into_par_iter()
        .map(|fold| {
            let chosen: Vec<usize> = (0..examples.len()).filter(|&i| folds[i] != fold).collect();
            let breed = examples.fit_breed::<B>(&chosen, 0..width, protocol).0;
            let gate = examples.fit_gate::<B>(&chosen, protocol).0;
            bar.inc(1);
            (breed, gate)
        })
        .collect();
    bar.finish_and_clear();
    let plain = |i: usize| examples.views[i][0].as_slice();
    let breed = |i: usize| if examples.is_pet(i) { layers[folds[i]].0.logits(plain(i)) } else { vec![] };
    OutOfFold {
        breed: (0..examples.len()).map(breed).collect(),
        pet: (0..examples.len()).map(|i| layers[folds[i]].1.logits(plain(i))[0]).collect(),
    }
}
