//! What a report is made of: figures of an evaluation, each part optional, in a shape that survives JSON.
//!
//! Shares, probabilities and their spreads lie in 0 to 1, never in percent; intervals, p-values and calibration errors are
//! computed from counts when the report is rendered and are not stored. All numbers are finite. A part that is empty gives
//! no section. Nothing here renders, and nothing measures.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::thumbnail::Thumbnail;
use crate::stats::{Bin, RocPoint, Spread};

/// A whole report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Heading of the page, without a trailing dot; "Evaluation" when empty.
    pub title: String,
    /// What was evaluated, with which model and on which pictures.
    pub summary: Summary,
    /// Accuracy by network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// Loss and accuracy while the head was trained, in order of the epochs.
    pub training: Vec<Epoch>,
    /// One entry a class, in any order.
    pub classes: Vec<Class>,
    /// Which class was taken for which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// Test pictures with what the model said of them.
    pub examples: Vec<Example>,
    /// Whether there is a pet at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// How far probabilities are true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What eight bits cost and bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8>,
    /// The same pictures under worse conditions; the first is the one that the others are compared with.
    pub conditions: Vec<Condition>,
    /// Door openings by strangers, by category.
    pub doors: Vec<Door>,
    /// The same where the gate was trained without the category.
    pub left_out: Vec<Door>,
    /// Pets that may enter, each before a head that was trained without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub let_in: Option<Door>,
    /// How fast other back ends are.
    pub backends: Vec<Backend>,
    /// What somebody needs to repeat this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproduction: Option<Reproduction>,
}

/// What was evaluated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Summary {
    /// The model file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<File>,
    /// Name and version of the tool, as in `pawgate-tools 0.1.0`.
    pub tool: String,
    /// Day of the evaluation, as in `2026-11-24`.
    pub date: String,
    /// Pictures of pets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pets: Option<u64>,
    /// Pictures without a pet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negatives: Option<u64>,
    /// Pictures that a list names but the folder lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// Pictures that could not be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<u64>,
    /// Near duplicates, kept in the fold of their twins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicates: Option<u64>,
    /// Folds of the cross-validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<u64>,
    /// Seeds of folds and heads.
    pub seeds: Vec<u64>,
    /// Where weights and pictures come from.
    pub origins: Vec<Origin>,
    /// What a reader must know before believing the figures; a sentence each.
    pub notes: Vec<String>,
}

/// A file and its fingerprint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Its name, without folders.
    pub name: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Where weights or pictures come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// What it is, as in `ResNet50 weights`.
    pub what: String,
    /// Who made it, or its address; an `https` address becomes a link.
    pub source: String,
    /// The licence's name.
    pub licence: String,
}

/// Accuracy by network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accuracy {
    /// One row a network, single backbones before the fusion.
    pub rows: Vec<Network>,
    /// What a publication claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Networks compared picture by picture.
    pub paired: Vec<Paired>,
}

/// Accuracy of one network over the pets; spreads over seeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Which network, as in `fused, int8`.
    pub name: String,
    /// Whether it is the one that ships, which the headline speaks of.
    pub ships: bool,
    /// Share of pets with the right class first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_micro: Option<Spread>,
    /// The same, averaged over classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_macro: Option<Spread>,
    /// Share of pets with the right class among the first five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<Spread>,
}

/// A published top-1 accuracy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claim {
    /// Lower end, a share.
    pub low: f64,
    /// Upper end, a share.
    pub high: f64,
    /// Who claims it, as in `the paper`.
    pub source: String,
}

/// Two networks on the same pictures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paired {
    /// The network that should be better.
    pub a: String,
    /// The other.
    pub b: String,
    /// Pictures on which `a` is right and `b` wrong.
    pub only_a: u64,
    /// Pictures on which `b` is right and `a` wrong.
    pub only_b: u64,
    /// All pictures. Predictions of several seeds on the same pictures are not independent: give one seed's.
    pub pictures: u64,
    /// Which predictions these are, as in `seed 1, out of fold`.
    pub basis: String,
}

/// One epoch of training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Mean loss over the training pictures, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// Mean loss over the pictures held out, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
    /// Top-1 over the training pictures, a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_accuracy: Option<f64>,
    /// Top-1 over the pictures held out, a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_accuracy: Option<f64>,
}

/// Which animal a class is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Species {
    /// A cat.
    Cat,
    /// A dog.
    Dog,
    /// Any other animal.
    Other,
}

/// Accuracy of one class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Class {
    /// Its name; underscores are shown as spaces.
    pub name: String,
    /// Which animal it is, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub species: Option<Species>,
    /// Test pictures; may be 0.
    pub pictures: u64,
    /// How many of them were recognised; a mean over seeds need not be whole.
    pub right: f64,
}

/// Which class was taken for which.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Confusion {
    /// Classes in the order of the matrix.
    pub names: Vec<String>,
    /// Shape `[truth][predicted]`: pictures of a class that were taken for another. What is absent counts as 0.
    pub counts: Vec<Vec<u64>>,
    /// Which predictions these are, as in `five seeds added up`.
    pub basis: String,
    /// The most confused pairs, with pictures; found in the matrix, without pictures, when empty.
    pub pairs: Vec<Pair>,
}

/// Two classes that were confused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pair {
    /// The right class.
    pub truth: String,
    /// What was said.
    pub predicted: String,
    /// How many pictures; a mean over seeds need not be whole.
    pub pictures: f64,
    /// Of how many of the right class; 0 when unknown.
    pub of: u64,
    /// Some of these pictures.
    pub examples: Vec<Example>,
}

/// A picture and what the model said of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Example {
    /// The file's name, without folders.
    pub file: String,
    /// A small version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<Thumbnail>,
    /// The right class, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truth: Option<String>,
    /// What the model said.
    pub predicted: String,
    /// Its probability, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

/// Whether there is a pet at all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Scores at or above it are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Scores below it are called no animal; between the two lies *unknown*.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject_below: Option<f64>,
    /// Share of the pets accepted at the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pets: Option<Spread>,
    /// Share of all negatives accepted at the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negatives: Option<Spread>,
    /// Curves: all negatives first, then one a category.
    pub curves: Vec<Curve>,
    /// Rates by category of negatives.
    pub categories: Vec<Category>,
    /// How scores are distributed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<Histogram>,
}

/// A curve of the gate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Curve {
    /// Which negatives, as in `all` or `toys`.
    pub name: String,
    /// How many negatives it rests on.
    pub negatives: u64,
    /// By falling threshold; see [`crate::stats::roc`] and [`crate::stats::thin`].
    pub points: Vec<RocPoint>,
}

/// Rates of one category of negatives at the threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Category {
    /// Its name.
    pub name: String,
    /// Its pictures.
    pub pictures: u64,
    /// Share accepted, out of fold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<Spread>,
    /// Share accepted when training saw no picture of the category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<Spread>,
}

/// Scores of pets and negatives, in bins of equal width.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Histogram {
    /// Lower edge of the first bin.
    pub low: f64,
    /// Upper edge of the last bin, above `low`.
    pub high: f64,
    /// Pets in each bin.
    pub pets: Vec<u64>,
    /// Negatives in each bin, as many bins.
    pub negatives: Vec<u64>,
}

/// How far probabilities are true.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calibration {
    /// Logits are divided by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Bins of equal width over 0 to 1 before the division.
    pub before: Vec<Bin>,
    /// Bins after it.
    pub after: Vec<Bin>,
}

/// What eight bits cost and bring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Int8 {
    /// Share of pets on which int8 and fp32 name the same class first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Spread>,
    /// Top-1 of fp32 less that of int8, a share; negative when int8 is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_lost: Option<Spread>,
    /// Ways to choose ranges that were tried.
    pub estimators: Vec<Estimator>,
    /// What `error` of a layer measures, as in `relative error of the layer's output`.
    pub error_of: String,
    /// Layers, in any order.
    pub layers: Vec<Layer>,
    /// Each backbone rounded whole, by its name; what is measured is the same.
    pub backbones: Vec<Layer>,
    /// Time of an inference.
    pub speed: Vec<Speed>,
}

/// A way to choose ranges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Estimator {
    /// Its name.
    pub name: String,
    /// Whether the shipped model uses it.
    pub chosen: bool,
    /// Relative error of its class scores, a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_error: Option<f64>,
    /// Share of pictures on which its int8 and fp32 name the same class first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Top-1 of its int8 model, a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
}

/// Sensitivity of one layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layer {
    /// Its name in the graph.
    pub name: String,
    /// The backbone that it is in; empty where there is one only.
    pub backbone: String,
    /// Its error, a share that is not negative; see [`Int8::error_of`].
    pub error: f64,
    /// The same with only its weights in eight bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<f64>,
    /// The same with only what it makes in eight bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<f64>,
}

/// Time of an inference on one machine, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Speed {
    /// The machine and its instruction set.
    pub machine: String,
    /// fp32 network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp32_ms: Option<f64>,
    /// int8 model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int8_ms: Option<f64>,
}

/// The same pictures under one condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// Which, as in `plain`, `grey` or `blurred, sigma 2`.
    pub name: String,
    /// Pictures of pets.
    pub pictures: u64,
    /// Share with the right class first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// Share of the pets that the gate accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pets_accepted: Option<f64>,
    /// Share of the negatives that the gate accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negatives_accepted: Option<f64>,
}

/// Events of one category before the door.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Door {
    /// The category.
    pub name: String,
    /// Events: visits.
    pub events: u64,
    /// How many of them opened the door.
    pub openings: u64,
}

/// Speed of one back end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Its name and device.
    pub name: String,
    /// Pictures a second while features are extracted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures_per_second: Option<f64>,
    /// Seconds for one epoch of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_per_epoch: Option<f64>,
}

/// What somebody needs to repeat this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reproduction {
    /// The command that was run.
    pub command: String,
    /// Versions, hashes and settings, by name.
    pub facts: Vec<Fact>,
    /// The whole configuration as text.
    pub configuration: String,
}

/// A named value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Data {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// When it is no JSON, has a key that no report has, or a value of another type.
    pub fn from_json(json: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(json).context("not the figures of a report; write them with `evaluate --json`")
    }

    /// Writes the JSON form.
    ///
    /// # Errors
    /// Names the first number that is not finite, because JSON has no such number.
    pub fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        let value = serde_json::to_value(self)?;
        // Absent options are left out, so a null can only be a number that JSON cannot say.
        if let Some(path) = null_in(&value) {
            anyhow::bail!("the figure `{path}` is not a finite number; leave it out");
        }
        Ok(serde_json::to_vec_pretty(&value)?)
    }
}

/// Path of the first null, as in `classes.3.right`.
fn null_in(value: &Value) -> Option<String> {
    let below =
        |key: String, value: &Value| null_in(value).map(|path| if path.is_empty() { key } else { format!("{key}.{path}") });
    match value {
        Value::Null => Some(String::new()),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, v)| below(i.to_string(), v)),
        Value::Object(items) => items.iter().find_map(|(k, v)| below(k.clone(), v)),
        _ => None,
    }
}
