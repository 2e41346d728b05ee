//! Static int8 quantisation: ranges from training pictures, the estimator chosen by measuring, one self-describing file out.

pub mod equalise;
pub mod qdq;
pub mod ranges;
pub mod reconstruct;
pub mod sensitivity;
pub mod weights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pawgate::model::{Metadata, Provenance};
use pawgate::nn::{Network, Options};
use pawgate::vision::{self, Preprocess};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;
use tract_onnx::pb::ModelProto;

use crate::graph::{self, Name, fused, head};
use crate::progress;
use crate::train::TrainedHead;
use crate::train::linear::argmax;
use qdq::Source;
use ranges::{Affine, Estimator, Extremes, Histogram};
use sensitivity::Sensitivity;

/// Errors of so much of the least are taken for as good, where one more step may change the order.
const NEARLY: f64 = 1.05;

/// What is measured of one estimator on pictures that were not calibrated on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quality {
    /// The estimator.
    pub estimator: Estimator,
    /// Whether channels before depthwise convolutions were equalised ([`equalise`]).
    pub equalised: bool,
    /// Whether weights were rounded for the sake of the layers' outputs ([`reconstruct`]).
    pub reconstructed: bool,
    /// Root of the summed squared difference of int8 and fp32 features, over that of the fp32 features.
    pub feature_error: f64,
    /// The same of the breed scores, each picture's mean taken off: what the estimator is chosen by, since the head does not weigh all
    /// features alike. The share of pictures with another breed says too little, which are few.
    pub score_error: f64,
    /// Share of pictures with the same likeliest breed.
    pub agreement: f64,
}

/// Pictures for calibration and for measuring, in the form the network takes.
#[derive(Debug)]
pub struct Pictures {
    tensors: Vec<Vec<f32>>,
}

impl Pictures {
    /// Decodes and normalises; broken pictures are named in the log and left out.
    ///
    /// # Errors
    /// When not one can be read.
    pub fn load(paths: &[PathBuf], preprocess: &Preprocess) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| -> anyhow::Result<Vec<f32>> { Ok(preprocess.tensor(&vision::decode::read(path)?)?) };
        let tensors: Vec<_> =
            paths.par_iter().filter_map(|path| read(path).map_err(|e| log::warn!("{}: {e:#}", path.display())).ok()).collect();
        ensure!(!tensors.is_empty(), "not one of {} calibration pictures can be read", paths.len());
        Ok(Self { tensors })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }
}

/// What is tried and measured.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// Ways to find ranges.
    pub estimators: Vec<Estimator>,
    /// Try each with equalised channels too ([`equalise`]), which takes twice the time.
    pub equalise: bool,
    /// Try with the best of them, and those nearly as good, whether rounding weights for the sake of the layers' outputs is better ([`reconstruct`]).
    pub reconstruct: bool,
    /// Pictures to measure on what each layer costs by itself.
    pub sensitivity: usize,
}

/// What was seen of every tensor that needs a range.
#[derive(Debug)]
pub struct Observations {
    points: Vec<(Name, Source)>,
    histograms: HashMap<Name, Histogram>,
    /// Mean of each channel over all calibration pictures and positions.
    channel_means: HashMap<Name, Vec<f32>>,
    /// The largest value of each channel.
    channel_maxima: HashMap<Name, Vec<f32>>,
}

/// Runs the fp32 network over `pictures` twice: for the extremes, then for histograms between them.
///
/// # Errors
/// When the graph holds something that cannot be quantised, or the network fails.
pub fn observe(model: &ModelProto, pictures: &Pictures) -> anyhow::Result<Observations> {
    let points = qdq::points(model.graph.as_ref().context("the model has no graph")?)?;
    let names: Vec<Name> = points.iter().filter(|p| p.1 != Source::Image).map(|p| p.0.clone()).collect();
    let network = Network::load(with_outputs(model, &names), Options::SINGLE_THREADED)?;
    let bar = progress::bar("observing activations", 2 * pictures.len());
    let run = |tensor: &Vec<f32>| {
        let outputs = network.run(tensor)?;
        bar.inc(1);
        anyhow::Ok(outputs)
    };
    let channels: Vec<usize> = network.outputs().iter().map(|port| port.shape[1]).collect();
    let first_pass = |tensor: &Vec<f32>| {
        let outputs = run(tensor)?;
        let extremes: Vec<Extremes> = outputs.iter().map(|v| Extremes::of(v)).collect();
        let means = outputs.iter().zip(&channels).map(|(v, &count)| channel_means(v, count)).collect();
        let maxima = outputs.iter().zip(&channels).map(|(v, &count)| channel_maxima(v, count)).collect();
        anyhow::Ok(Seen { extremes, means, maxima })
    };
    let seen: Vec<Seen> = pictures.tensors.par_iter().map(first_pass).collect::<Result<_, _>>()?;
    let extremes = seen
        .iter()
        .map(|seen| seen.extremes.clone())
        .reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a.join(b)).collect())
        .context("no calibration pictures")?;
    let empty = || extremes.iter().map(|&e| Histogram::new(e)).collect::<Vec<_>>();
    let histograms = pictures
        .tensors
        .par_iter()
        .try_fold(empty, |mut sums, tensor| {
            sums.iter_mut().zip(run(tensor)?).for_each(|(sum, values)| sum.add(&values));
            anyhow::Ok(sums)
        })
        .try_reduce(empty, |a, b| Ok(a.into_iter().zip(&b).map(|(a, b)| a.join(b)).collect()))?;
    bar.finish_and_clear();
    let means = (0..names.len()).map(|at| mean_of(seen.iter().map(|seen| &seen.means[at])));
    let channel_means = names.iter().cloned().zip(means).collect();
    let maxima = |at: usize| {
        let pictures = seen.iter().map(|seen| seen.maxima[at].clone());
        pictures.reduce(|a, b| a.iter().zip(b).map(|(a, b)| a.max(b)).collect()).unwrap_or_default()
    };
    let channel_maxima = (0..names.len()).map(|at| (names[at].clone(), maxima(at))).collect();
    Ok(Observations { points, histograms: names.into_iter().zip(histograms).collect(), channel_means, channel_maxima })
}

/// What one picture shows of every tensor.
struct Seen {
    extremes: Vec<Extremes>,
    means: Vec<Vec<f64>>,
    maxima: Vec<Vec<f32>>,
}

/// The largest value of each of `count` channels of a channels-first tensor.
fn channel_maxima(values: &[f32], count: usize) -> Vec<f32> {
    values.chunks_exact(values.len() / count).map(|plane| plane.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect()
}

/// Mean of each of `count` channels of a channels-first tensor.
fn channel_means(values: &[f32], count: usize) -> Vec<f64> {
    let mean = |plane: &[f32]| plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64;
    values.chunks_exact(values.len() / count).map(mean).collect()
}

/// Mean over pictures, summed in their order so that the result does not depend on which thread was first.
fn mean_of<'a>(pictures: impl ExactSizeIterator<Item = &'a Vec<f64>>) -> Vec<f32> {
    let count = pictures.len() as f64;
    let sums = pictures.fold(Vec::new(), |mut sums: Vec<f64>, means| {
        sums.resize(means.len(), 0.0);
        sums.iter_mut().zip(means).for_each(|(s, m)| *s += m);
        sums
    });
    sums.into_iter().map(|s| (s / count) as f32).collect()
}

/// The same network with other outputs; shapes are left to the runtime.
fn with_outputs(model: &ModelProto, names: &[Name]) -> ModelProto {
    let mut model = model.clone();
    let output = |name: &Name| tract_onnx::pb::ValueInfoProto { name: name.clone(), ..Default::default() };
    if let Some(graph) = &mut model.graph {
        graph.output = names.iter().map(output).collect();
    }
    model
}

/// The range of every quantised tensor under an estimator.
fn choose_ranges(seen: &Observations, estimator: Estimator, preprocess: &Preprocess) -> HashMap<Name, Affine> {
    let mut ranges = HashMap::new();
    for (name, source) in &seen.points {
        let affine = match source {
            Source::Image => image_range(preprocess),
            Source::Calibrated => seen.histograms[name].range(estimator),
            Source::SameAs(other) => ranges[other],
        };
        ranges.insert(name.clone(), affine);
    }
    ranges
}

/// Pixels lie in 0…255, so the range of the normalised input is known exactly.
fn image_range(preprocess: &Preprocess) -> Affine {
    let bounds = |value: f32| [0, 1, 2].map(|c| (value - preprocess.mean[c]) / preprocess.std[c]);
    let low = bounds(0.0).into_iter().fold(f32::INFINITY, f32::min);
    let high = bounds(1.0).into_iter().fold(f32::NEG_INFINITY, f32::max);
    Affine::over(low, high)
}

/// A finished int8 model with the figures that chose its estimator.
#[derive(Debug)]
pub struct Outcome {
    /// The ONNX message.
    pub model: ModelProto,
    /// Every estimator that was tried.
    pub tried: Vec<Quality>,
    /// The one that was taken.
    pub chosen: Quality,
    /// How the weights fared.
    pub weights: qdq::WeightSummary,
    /// What each layer costs by itself, where that was asked for.
    pub sensitivity: Option<Sensitivity>,
}

/// Quantises the fused network, adds the head, and describes the result.
///
/// Each estimator is measured on `held_out`; the smallest score error is taken. The first `options.sensitivity` pictures of `held_out` are
/// used to measure what each layer costs by itself, which takes three times as many runs as there are layers.
///
/// # Errors
/// What observing, rewriting or running reports.
pub fn quantise(
    network: &ModelProto,
    head: &TrainedHead,
    calibration: &Pictures,
    held_out: &Pictures,
    options: &QuantizeOptions,
) -> anyhow::Result<Outcome> {
    let expected = embeddings(network, held_out, "fp32 features of held-out pictures")?;
    let mut variants = vec![(network.clone(), observe(network, calibration)?)];
    if options.equalise {
        let (equalised, stretched) = equalise::equalise(network, &variants[0].1.channel_maxima)?;
        log::info!("{stretched} channels before depthwise convolutions were stretched");
        let seen = observe(&equalised, calibration)?;
        variants.push((equalised, seen));
    }
    let mut candidates: Vec<(Quality, usize, qdq::Calibration)> = Vec::new();
    let measure = |what: Quality, network: &ModelProto, found: &qdq::Calibration| {
        let (model, _) = with_head_of(network, found, head)?;
        let features = embeddings(&model, held_out, "int8 features of held-out pictures")?;
        let quality = compare(what, head, &expected, &features);
        let weights = if quality.reconstructed { ", weights reconstructed" } else { "" };
        let (features, scores) = (quality.feature_error, quality.score_error);
        log::info!("{}{weights}: feature error {features:.4}, score error {scores:.4}", quality.estimator);
        anyhow::Ok(quality)
    };
    for (variant, (network, seen)) in variants.iter().enumerate() {
        for &estimator in &options.estimators {
            let found = qdq::Calibration {
                ranges: choose_ranges(seen, estimator, &head.record.preprocess),
                channel_means: seen.channel_means.clone(),
                ..Default::default()
            };
            let what = Quality { estimator, equalised: variant > 0, ..Quality::default() };
            candidates.push((measure(what, network, &found)?, variant, found));
        }
    }
    if options.reconstruct {
        for (quality, variant, mut found) in nearly_best(&candidates, |candidate| candidate.0.score_error) {
            let network = &variants[variant].0;
            reconstruct::reconstruct(network, &mut found, calibration)?;
            candidates.push((measure(Quality { reconstructed: true, ..quality }, network, &found)?, variant, found));
        }
    }
    let tried: Vec<Quality> = candidates.iter().map(|candidate| candidate.0).collect();
    let best = candidates.into_iter().min_by(|a, b| a.0.score_error.total_cmp(&b.0.score_error));
    let (chosen, variant, found) = best.context("no estimator to try")?;
    let (network, _) = variants.swap_remove(variant);
    let (mut model, weights) = with_head_of(&network, &found, head)?;
    let quantisation = json!({
        "scheme": "QDQ, u8 activations per tensor, s8 weights per channel, biases corrected",
        "estimator": chosen.estimator,
        "equalised": chosen.equalised,
        "reconstructed": chosen.reconstructed,
        "calibration_pictures": calibration.len(),
        "held_out_pictures": held_out.len(),
        "feature_error": chosen.feature_error,
        "score_error": chosen.score_error,
        "agreement": chosen.agreement,
        "tried": tried.iter().map(|quality| json!({
            "estimator": quality.estimator.to_string(),
            "equalised": quality.equalised,
            "reconstructed": quality.reconstructed,
            "feature_error": quality.feature_error,
            "score_error": quality.score_error,
            "agreement": quality.agreement,
            "chosen": *quality == chosen,
        })).collect::<Vec<_>>(),
        "weight_channels": weights.channels,
        "exact_weight_channels": weights.exact_channels,
    });
    let props = describe(&network, head, quantisation)?.to_props();
    model.metadata_props = graph::GraphBuilder::default().finish(props).metadata_props;
    let sensitivity = match options.sensitivity.min(held_out.len()) {
        0 => None,
        count => {
            let pictures = Pictures { tensors: held_out.tensors[..count].to_vec() };
            let expected = &expected[..count];
            let (backbones, layers) = sensitivity::measure(&network, &found, &pictures, expected, &sensitivity::BACKBONES)?;
            Some(Sensitivity {
                network_sha256: head.record.network_sha256.clone(),
                estimator: chosen.estimator.to_string(),
                equalised: chosen.equalised,
                pictures: count,
                backbones,
                layers,
            })
        }
    };
    Ok(Outcome { model, tried, chosen, weights, sensitivity })
}

/// The network in 8 bits, with a head.
fn with_head_of(
    network: &ModelProto,
    calibration: &qdq::Calibration,
    head: &TrainedHead,
) -> anyhow::Result<(ModelProto, qdq::WeightSummary)> {
    let (mut graph, weights) = qdq::rewrite(network, calibration)?;
    head::add(&mut graph, head);
    Ok((graph.finish(vec![]), weights))
}

/// The quantised model `body` with another head.
///
/// # Errors
/// When `body` is no finished model, or was made from another network or for other pre-processing than the head was trained on.
pub fn with_head(body: &ModelProto, network: &ModelProto, head: &TrainedHead) -> anyhow::Result<ModelProto> {
    let own = Metadata::from_props(body.metadata_props.iter().map(|prop| (prop.key.as_str(), prop.value.as_str())))?;
    ensure!(own.provenance.weights == fused::origins(network)?, "the model was made from other weights than the network");
    ensure!(own.preprocess == head.record.preprocess, "the model and the head were made for different pre-processing");
    let graph = body.graph.as_ref().and_then(|graph| graph::GraphBuilder::up_to(graph, "embedding"));
    let mut graph = graph.context("the model has no tensor `embedding`")?;
    head::add(&mut graph, head);
    Ok(graph.finish(describe(network, head, own.provenance.quantisation)?.to_props()))
}

/// The description of a finished model.
///
/// # Errors
/// When the network does not say where its weights came from.
pub fn describe(network: &ModelProto, head: &TrainedHead, quantisation: serde_json::Value) -> anyhow::Result<Metadata> {
    let record = &head.record;
    Ok(Metadata {
        labels: record.labels.clone(),
        preprocess: record.preprocess.clone(),
        gate: record.gate.clone(),
        provenance: Provenance {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            weights: fused::origins(network)?,
            training: json!({
                "method": record.method,
                "data": record.training,
                "breed_temperature": record.breed_temperature,
                "pet_temperature": record.pet_temperature,
            }),
            quantisation,
        },
    })
}

fn embeddings(model: &ModelProto, pictures: &Pictures, what: &'static str) -> anyhow::Result<Vec<Vec<f32>>> {
    let network = Network::load(with_outputs(model, &["embedding".into()]), Options::SINGLE_THREADED)?;
    let bar = progress::bar(what, pictures.len());
    let run = |tensor: &Vec<f32>| {
        let features = network.run(tensor)?.remove(0);
        bar.inc(1);
        Ok(features)
    };
    let features = pictures.tensors.par_iter().map(run).collect();
    bar.finish_and_clear();
    features
}

/// Root of the summed squared difference, over that of what is expected.
fn relative_error(expected: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let pairs = expected.iter().zip(found);
    let difference: f64 = pairs.map(|(e, f)| e.iter().zip(f).map(|(a, b)| square(a - b)).sum::<f64>()).sum();
    let norm: f64 = expected.iter().flatten().map(|&a| square(a)).sum();
    (difference / norm).sqrt()
}

/// Those whose error is at most [`NEARLY`] of the least: which of them does best after another step is open.
fn nearly_best<T: Clone>(all: &[T], error: impl Fn(&T) -> f64) -> Vec<T> {
    let least = all.iter().map(&error).fold(f64::INFINITY, f64::min);
    all.iter().filter(|one| error(one) <= NEARLY * least).cloned().collect()
}

/// Without what is common to all classes, which decides nothing.
fn centred(scores: &[f32]) -> Vec<f32> {
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    scores.iter().map(|score| score - mean).collect()
}

/// `what` was tried, with its figures.
fn compare(what: Quality, head: &TrainedHead, expected: &[Vec<f32>], found: &[Vec<f32>]) -> Quality {
    let scores = |features: &[Vec<f32>]| features.iter().map(|f| centred(&head.layers.scores(f).0)).collect::<Vec<_>>();
    let (expected_scores, found_scores) = (scores(expected), scores(found));
    let same = expected_scores.iter().zip(&found_scores).filter(|(e, f)| argmax(e) == argmax(f)).count();
    Quality {
        feature_error: relative_error(expected, found),
        score_error: relative_error(&expected_scores, &found_scores),
        agreement: same as f64 / expected.len() as f64,
        ..what
    }
}

/// Chooses pictures for calibrating and for measuring: evenly spread over the list, none in both.
pub fn split_pictures(paths: &[PathBuf], calibration: usize, held_out: usize) -> [Vec<PathBuf>; 2] {
    let wanted = (calibration + held_out).min(paths.len());
    let spread: Vec<&PathBuf> = (0..wanted).map(|i| &paths[i * paths.len() / wanted]).collect();
    let mut parts = [Vec::new(), Vec::new()];
    for (i, path) in spread.into_iter().enumerate() {
        // Deals the held-out share evenly between the others.
        let held = (i + 1) * held_out / (calibration + held_out) > i * held_out / (calibration + held_out);
        parts[usize::from(held)].push(path.clone());
    }
    parts
}

/// Reads a network that `pawgate-tools build` wrote.
///
/// # Errors
/// When the file cannot be read or is no ONNX file.
pub fn read_network(path: &Path) -> anyhow::Result<(ModelProto, Vec<u8>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the network {}", path.display()))?;
    let model = pawgate::nn::decode(&bytes).with_context(|| format!("cannot use {}", path.display()))?;
    Ok((model, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_best_is_kept_in_order() {
        assert_eq!(nearly_best(&[2.04, 1.98, 2.1, 5.0, 1.98], |&error| error), [2.04, 1.98, 1.98]);
        assert_eq!(nearly_best(&[f64::NAN, 3.0], |&error| error), [3.0]);
        assert!(nearly_best::<f64>(&[], |&error| error).is_empty());
    }

    #[test]
    fn calibration_and_held_out_pictures_are_disjoint() {
        let paths: Vec<PathBuf> = (0..100).map(|i| i.to_string().into()).collect();
        let [calibration, held_out] = split_pictures(&paths, 30, 10);
        assert_eq!((calibration.len(), held_out.len()), (30, 10));
        assert!(calibration.iter().all(|p| !held_out.contains(p)));
        let [calibration, held_out] = split_pictures(&paths[..4], 30, 10);
        assert_eq!((calibration.len(), held_out.len()), (3, 1), "fewer pictures than asked for");
    }
}
