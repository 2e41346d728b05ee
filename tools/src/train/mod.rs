//! The head: breed and pet gate over frozen features; trained on everything, calibrated and gated out of fold.
//!
//! [`linear`] trains one layer, [`discriminant`] finds one in closed form. This module cross-validates (temperatures and thresholds come from pictures that the layer
//! had not seen), trains the final layers on all pictures, and reads and writes the result.

pub mod calibrate;
pub mod discriminant;
pub mod knowledge;
pub mod linear;
pub mod odds;

use std::path::Path;

use anyhow::{Context, ensure};
use burn::tensor::backend::AutodiffBackend;
use pawgate::model::{Gate, Label};
use pawgate::vision::Preprocess;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::files::write_whole;
use crate::folds;
use crate::progress;
use linear::{Epoch, Layer, Protocol, Targets, fit};

/// Number of folds of every cross-validation.
pub const FOLDS: usize = 5;
/// Key of the record in the head file.
const RECORD_KEY: &str = "pawgate.head";

/// Pictures with their features, ready to train on: pets first, negatives after them.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Features of the plain and of the mirrored view.
    pub views: Vec<Vec<Vec<f32>>>,
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
    /// How the layers were trained.
    pub protocol: Protocol,
    /// What they were trained on and what cross-validation gave.
    pub training: TrainingRecord,
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
    /// Loss and accuracy of the breed layer while training, one an epoch.
    pub breed_epochs: Vec<Epoch>,
    /// The same for the gate.
    pub gate_epochs: Vec<Epoch>,
    /// Share of pets whose breed was right, out of fold.
    pub cross_validated_top1: f64,
}

/// The trained layers with their record.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedHead {
    /// Breed logits over the fused features.
    pub breed: Layer,
    /// Pet logit over the fused features.
    pub pet: Layer,
    /// Everything else.
    pub record: HeadRecord,
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
    let breed = examples.fit_breed::<B>(&everything, 0..examples.views[0][0].len(), protocol);
    bar.inc(1);
    let gate = examples.fit_gate::<B>(&everything, protocol);
    bar.finish_and_clear();
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

impl TrainedHead {
    /// Writes layers and record as one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let layers = [("breed", &self.breed), ("pet", &self.pet)];
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = layers
            .iter()
            .flat_map(|(name, layer)| {
                let raw = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
                let outputs = layer.bias.len();
                [
                    (format!("{name}.weight"), vec![outputs, layer.inputs()], raw(&layer.weight)),
                    (format!("{name}.bias"), vec![outputs], raw(&layer.bias)),
                ]
            })
            .collect();
        let views = bytes
            .iter()
            .map(|(name, shape, raw)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), raw)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let record = [(RECORD_KEY.to_owned(), serde_json::to_string(&self.record)?)].into();
        write_whole(path, &safetensors::serialize(views, Some(record))?)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When the file is no trained head or its shapes contradict its record.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the head {}", path.display()))?;
        Self::from_bytes(&bytes).with_context(|| format!("{} is no head that `pawgate-tools train` wrote", path.display()))
    }

    fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let record = header.metadata().as_ref().and_then(|m| m.get(RECORD_KEY)).context("there is no record")?;
        let record: HeadRecord = serde_json::from_str(record)?;
        let file = SafeTensors::deserialize(bytes)?;
        let values = |name: &str| -> anyhow::Result<Vec<f32>> {
            let view = file.tensor(name)?;
            ensure!(view.dtype() == Dtype::F32, "`{name}` is not f32");
            Ok(view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let layer = |name: &str, outputs: usize| -> anyhow::Result<Layer> {
            let layer = Layer { weight: values(&format!("{name}.weight"))?, bias: values(&format!("{name}.bias"))? };
            ensure!(layer.bias.len() == outputs && layer.weight.len().is_multiple_of(outputs), "`{name}` has the wrong shape");
            Ok(layer)
        };
        let (breed, pet) = (layer("breed", record.labels.len())?, layer("pet", 1)?);
        ensure!(breed.inputs() == pet.inputs(), "the layers take {} and {} features", breed.inputs(), pet.inputs());
        Ok(Self { breed, pet, record })
    }
}
