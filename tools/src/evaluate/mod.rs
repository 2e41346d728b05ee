//! What the model is worth: cross-validated accuracy of single backbones and fusion, in fp32 and int8, and the gate's rates.
//!
//! Five folds, five fixed seeds, near duplicates together, one forward pass a picture. Heads are trained on fp32 features of
//! the training folds; the int8 figures come from the same heads on int8 features of the test fold. The gate's threshold is
//! chosen by an inner cross-validation within the training folds. Beside the paper's head (a linear layer trained for five epochs)
//! stands a discriminant in closed form on the same features.

mod figures;
mod second_gate;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use comfy_table::{CellAlignment, Table, presets};
use pawgate::model::Classifier;
use pawgate::nn::Options;
use rayon::prelude::*;
use serde::Serialize;

use crate::features::{Extractor, View};
use crate::files::{sha256, write_whole};
use crate::graph::fused::{FEATURES, RESNET_FEATURES};
use crate::material::{DataArgs, Material};
use crate::progress;
use crate::report;
use crate::train::knowledge::Knowledge;
use crate::train::linear::{Epoch, Layer, Protocol, argmax};
use crate::train::{Examples, FOLDS, calibrate, discriminant};
use figures::Measured;
use second_gate::SecondGate;

/// Seeds of the folds and of the heads.
pub const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// Options of `evaluate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The fused fp32 network from `build`.
    #[arg(long, value_name = "FILE")]
    pub network: PathBuf,
    /// The int8 model from `quantize`, evaluated beside it.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The checkpoints that the network was built from: with both, ImageNet's knowledge takes part in the discriminant and in a second
    /// gate.
    #[arg(long, value_name = "FILE", requires = "mobilenet")]
    pub resnet: Option<PathBuf>,
    /// As `--resnet`.
    #[arg(long, value_name = "FILE", requires = "resnet")]
    pub mobilenet: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Write the figures as JSON too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report with plots and pictures: one HTML file that needs no other.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write what the report is made of as JSON, for `report --from`.
    #[arg(long, value_name = "FILE")]
    pub figures: Option<PathBuf>,
}

/// Mean and standard deviation over the seeds, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub sd: f64,
}

impl Spread {
    fn of(shares: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = shares.into_iter().map(|s| s * 100.0).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self { mean, sd: (squares / (count - 1.0).max(1.0)).sqrt() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ± {:.2}", self.mean, self.sd)
    }
}

/// Accuracy of one network over the pets.
#[derive(Debug, Clone, Serialize)]
pub struct Accuracy {
    /// Which network.
    pub network: &'static str,
    /// Share of pets with the right breed first.
    pub top1_micro: Spread,
    /// The same, averaged over breeds.
    pub top1_macro: Spread,
    /// Share of pets with the right breed among the first five.
    pub top5: Spread,
}

/// Accept rates of the gate.
#[derive(Debug, Clone, Serialize)]
pub struct GateRates {
    /// Which network.
    pub network: &'static str,
    /// Share of the pets at or above the accept threshold.
    pub pets_accepted: Spread,
    /// Share of the negatives at or above the accept threshold.
    pub negatives_accepted: Spread,
    /// Share of the pets below the reject threshold.
    pub pets_rejected: Spread,
    /// Share of the negatives below the reject threshold.
    pub negatives_rejected: Spread,
    /// Share accepted of each category of negatives.
    pub by_category: BTreeMap<String, Spread>,
}

/// Two breeds that were taken for each other.
#[derive(Debug, Clone, Serialize)]
pub struct Confusion {
    /// The right breed.
    pub truth: String,
    /// What the fused fp32 network said.
    pub predicted: String,
    /// How often, on the mean over the seeds.
    pub pictures: f64,
}

/// The official test pictures, judged by the shipped model.
#[derive(Debug, Clone, Serialize)]
pub struct OfficialTest {
    /// Listed in `test.txt`.
    pub listed: usize,
    /// Present and readable.
    pub used: usize,
    /// Present, but not to be decoded; named in the log.
    pub broken: usize,
    /// Top-1 in percent; `None` when no picture is present.
    pub top1_micro: Option<f64>,
}

/// Everything that `evaluate` found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Pictures of pets.
    pub pets: usize,
    /// Listed pictures that are not there.
    pub pets_missing: usize,
    /// Pictures without a pet.
    pub negatives: usize,
    /// Pictures that could not be decoded.
    pub broken: usize,
    /// Near duplicates, kept in the fold of their twins.
    pub near_duplicates: usize,
    /// The pre-processing.
    pub preprocess: pawgate::vision::Preprocess,
    /// How the heads were trained.
    pub protocol: Protocol,
    /// SHA-256 of the fp32 network.
    pub network_sha256: String,
    /// The fused head of the first seed, epoch by epoch, mean over the folds.
    pub training: Vec<CurvePoint>,
    /// Seeds of folds and heads.
    pub seeds: [u64; 5],
    /// One row a network.
    pub accuracy: Vec<Accuracy>,
    /// Share of pets on which int8 and fp32 name the same breed first.
    pub int8_agreement: Option<Spread>,
    /// The gate in fp32 and int8.
    pub gate: Vec<GateRates>,
    /// A gate of three numbers, where the checkpoints are at hand.
    pub second_gate: Option<SecondGate>,
    /// The most frequent confusions.
    pub confused: Vec<Confusion>,
    /// The official test pictures.
    pub official_test: OfficialTest,
}

/// The fused head after an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// On what it is trained on, while it is trained.
    pub training: Epoch,
    /// On the fold that it does not see.
    pub held_out: Epoch,
}

/// A network under test: its name, its part of the features, whether int8 features are put in, and which head it has.
struct Contender {
    name: &'static str,
    range: Range<usize>,
    int8: bool,
    head: Head,
}

/// A head over breeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// The paper's: a linear layer, trained step by step.
    Linear,
    /// Linear discriminant analysis ([`discriminant`]).
    Discriminant,
}

const RESNET: &str = "ResNet50 alone, fp32";
const MOBILENET: &str = "MobileNetV2 alone, fp32";
const FUSED: &str = "fused, fp32";
const FUSED_INT8: &str = "fused, int8";
const DISCRIMINANT: &str = "fused, fp32, discriminant";
const DISCRIMINANT_INT8: &str = "fused, int8, discriminant";

fn contenders(int8: bool) -> Vec<Contender> {
    let contender = |name, range, int8| Contender { name, range, int8, head: Head::Linear };
    let closed = |name, int8| Contender { name, range: 0..FEATURES, int8, head: Head::Discriminant };
    let (first, second) = (0..RESNET_FEATURES, RESNET_FEATURES..FEATURES);
    let mut all = vec![
        contender(RESNET, first.clone(), false),
        contender(MOBILENET, second.clone(), false),
        contender(FUSED, 0..FEATURES, false),
        closed(DISCRIMINANT, false),
    ];
    if int8 {
        all.extend([
            contender("ResNet50 alone, int8", first, true),
            contender("MobileNetV2 alone, int8", second, true),
            contender(FUSED_INT8, 0..FEATURES, true),
            closed(DISCRIMINANT_INT8, true),
        ]);
    }
    all
}

/// Predictions of one seed, all out of fold.
struct Predictions {
    /// For each contender and pet: breeds by falling logit, the first five.
    breeds: Vec<Vec<Vec<usize>>>,
    /// For fp32 and (where present) int8: what the gate said of each picture.
    gate: Vec<Vec<Answer>>,
    /// Logits of each pet from the fused network with the paper's head, int8 where that is evaluated.
    logits: Vec<Vec<f32>>,
    /// The temperature for each pet: the one that suits the other folds.
    temperatures: Vec<f32>,
    /// The gate's logit of each picture, int8 where that is evaluated.
    gate_logits: Vec<f32>,
    /// For each picture, what the second gate says of it: trained as usual, and without the picture's category.
    second: Vec<[bool; 2]>,
}

/// What the gate says: at or above the accept threshold, below the reject threshold, or between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accepted,
    Rejected,
    Unknown,
}

/// Cross-validates and measures.
///
/// # Errors
/// What loading data, networks or features reports.
pub fn evaluate<B: AutodiffBackend>(args: &Args, protocol: &Protocol) -> anyhow::Result<Report> {
    let material = Material::load(&args.data, &args.network)?;
    let classifier = args.model.as_deref().map(|model| load_matching(model, &args.data, &material)).transpose()?;
    let int8 = match &args.model {
        Some(model) => Some(int8_features(model, &args.data, &material)?),
        None => None,
    };
    let contenders = contenders(int8.is_some());
    let knowledge = args.resnet.as_deref().zip(args.mobilenet.as_deref());
    let knowledge = knowledge.map(|(resnet, mobilenet)| Knowledge::read(resnet, mobilenet)).transpose()?;
    let table = discriminant::Table::new(&material.examples, int8.as_deref(), RESNET_FEATURES, knowledge.as_ref());
    let odds = knowledge.as_ref().map(|knowledge| second_gate::LogOdds::of(&material.examples, int8.as_deref(), knowledge));
    let tasks: Vec<(u64, usize)> = SEEDS.iter().flat_map(|&seed| (0..FOLDS).map(move |fold| (seed, fold))).collect();
    let bar = progress::bar("cross-validating", tasks.len());
    let judged: Vec<Fold> = tasks
        .par_iter()
        .map(|&(seed, fold)| {
            let judged =
                judge_fold::<B>(&material, int8.as_deref(), (&table, odds.as_ref()), &contenders, protocol, seed, fold);
            bar.inc(1);
            judged
        })
        .collect();
    bar.finish_and_clear();
    let predictions: Vec<Predictions> = judged.chunks(FOLDS).map(|folds| merge(folds, &material, &contenders)).collect();
    let left_out = left_out::<B>(&material, int8.as_deref(), protocol);
    let report = Report {
        pets: material.examples.classes.len(),
        pets_missing: material.set.trainval.missing(),
        negatives: material.negative_categories.len(),
        broken: material.broken,
        near_duplicates: material.near_duplicates(),
        preprocess: args.data.preprocess(),
        protocol: protocol.clone(),
        network_sha256: sha256(&std::fs::read(&args.network)?),
        training: curve::<B>(&material.examples, protocol),
        seeds: SEEDS,
        accuracy: contenders.iter().enumerate().map(|(c, it)| accuracy(it.name, c, &predictions, &material)).collect(),
        int8_agreement: agreement(&contenders, &predictions),
        gate: gate_rates(&predictions, &material),
        second_gate: odds.is_some().then(|| second_gate::rates(&predictions, &material)),
        confused: confusions(&contenders, &predictions, &material),
        official_test: official_test(classifier.as_ref(), &material)?,
    };
    if args.report.is_some() || args.figures.is_some() {
        let measured = Measured {
            report: &report,
            material: &material,
            contenders: &contenders,
            predictions: &predictions,
            left_out: &left_out,
            model: args.model.as_deref().zip(classifier.as_ref()),
        };
        let data = measured.data()?;
        if let Some(path) = &args.figures {
            write_whole(path, &data.to_json()?)?;
        }
        if let Some(path) = &args.report {
            write_whole(path, report::render(&data).as_bytes())?;
            log::info!("wrote {}", path.display());
        }
    }
    Ok(report)
}

/// The paper's curve: after each epoch, on the pictures trained on and on those held out; first seed, mean over the folds.
fn curve<B: AutodiffBackend>(examples: &Examples, protocol: &Protocol) -> Vec<CurvePoint> {
    let protocol = Protocol { seed: SEEDS[0], ..protocol.clone() };
    let folds = examples.folds(SEEDS[0]);
    let width = examples.views[0][0].len();
    let of_fold = |fold: usize| -> Vec<CurvePoint> {
        let (held_out, training): (Vec<usize>, Vec<usize>) = (0..examples.classes.len()).partition(|&i| folds[i] == fold);
        // The same seed draws the same: a shorter training is the beginning of a longer one.
        let after = |epochs: usize| {
            let (layer, history) = examples.fit_breed::<B>(&training, 0..width, &Protocol { epochs, ..protocol.clone() });
            let answers = held_out.iter().map(|&i| (layer.logits(&examples.views[i][0]), examples.classes[i]));
            CurvePoint { training: history[epochs - 1], held_out: judged(answers) }
        };
        (1..=protocol.epochs).map(after).collect()
    };
    let all: Vec<Vec<CurvePoint>> = (0..FOLDS).into_par_iter().map(of_fold).collect();
    let mean = |epoch: usize, of: &dyn Fn(&CurvePoint) -> Epoch| {
        let sum = |figure: &dyn Fn(Epoch) -> f64| all.iter().map(|fold| figure(of(&fold[epoch]))).sum::<f64>() / FOLDS as f64;
        Epoch { loss: sum(&|e| e.loss), accuracy: sum(&|e| e.accuracy) }
    };
    (0..protocol.epochs)
        .map(|e| CurvePoint { training: mean(e, &|p| p.training), held_out: mean(e, &|p| p.held_out) })
        .collect()
}

/// Mean cross-entropy, in nats, and accuracy of logits with their right classes.
fn judged(answers: impl Iterator<Item = (Vec<f32>, usize)>) -> Epoch {
    let (mut sum, mut count) = (Epoch { loss: 0.0, accuracy: 0.0 }, 0.0);
    for (logits, class) in answers {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        sum.loss += powers.ln() - f64::from(logits[class] - largest);
        sum.accuracy += f64::from(u8::from(argmax(&logits) == class));
        count += 1.0;
    }
    Epoch { loss: sum.loss / count, accuracy: sum.accuracy / count }
}

/// For each category of negatives, the share that gates accept which have seen none of it: first seed, each picture judged by the gate
/// of its fold, at the threshold that lets the wanted share of unseen pets pass.
fn left_out<B: AutodiffBackend>(material: &Material, int8: Option<&[Vec<f32>]>, protocol: &Protocol) -> Vec<f64> {
    let examples = &material.examples;
    let protocol = Protocol { seed: SEEDS[0], ..protocol.clone() };
    let (folds, pets) = (examples.folds(SEEDS[0]), examples.classes.len());
    let is_of = |i: usize, category: usize| i >= pets && material.negative_categories[i - pets] == category;
    let features = |i: usize| int8.map_or(examples.views[i][0].as_slice(), |int8| int8[i].as_slice());
    let bar = progress::bar("leaving categories out", material.categories.len());
    let shares = (0..material.categories.len()).into_par_iter().map(|category| {
        let (mut of_pets, mut of_category) = (vec![], vec![]);
        for fold in 0..FOLDS {
            let training: Vec<usize> = (0..examples.len()).filter(|&i| folds[i] != fold && !is_of(i, category)).collect();
            let gate = examples.fit_gate::<B>(&training, &protocol).0;
            let score = |i: usize| gate.logits(features(i))[0];
            of_pets.extend((0..pets).filter(|&i| folds[i] == fold).map(score));
            of_category.extend((pets..examples.len()).filter(|&i| folds[i] == fold && is_of(i, category)).map(score));
        }
        bar.inc(1);
        let accept = calibrate::threshold_reached_by(&of_pets, calibrate::ACCEPT_TARGET);
        of_category.iter().filter(|&&score| score >= accept).count() as f64 / of_category.len() as f64
    });
    let shares = shares.collect();
    bar.finish_and_clear();
    shares
}

/// Loads the model and makes sure that it speaks of the same classes and looks at pictures the same way.
fn load_matching(model: &Path, data: &DataArgs, material: &Material) -> anyhow::Result<Classifier> {
    let bytes = std::fs::read(model).with_context(|| format!("cannot read the model {}", model.display()))?;
    let classifier =
        Classifier::from_bytes(&bytes, Options::SINGLE_THREADED).with_context(|| format!("cannot use {}", model.display()))?;
    let metadata = classifier.metadata();
    anyhow::ensure!(metadata.labels == material.set.labels, "{} has other classes than the data set", model.display());
    anyhow::ensure!(metadata.preprocess == data.preprocess(), "{} was made with another --resize", model.display());
    Ok(classifier)
}

fn int8_features(model: &Path, data: &DataArgs, material: &Material) -> anyhow::Result<Vec<Vec<f32>>> {
    let extractor = Extractor::open(model, &data.preprocess(), &data.cache)?;
    anyhow::ensure!(extractor.len() == FEATURES, "{} gives {} features, not {FEATURES}", model.display(), extractor.len());
    let paths: Vec<_> = material.paths.iter().map(PathBuf::as_path).collect();
    let extracted = extractor.extract("int8 features", &paths, &[View::Plain])?;
    extracted.views.into_iter().map(|v| Ok(v.context("a picture vanished while evaluating")?.remove(0))).collect()
}

/// The pictures of one test fold, and what heads say that were trained on the other folds.
struct Fold {
    pictures: Vec<usize>,
    /// For each contender, the layer's best five for each pet in `pictures`.
    breeds: Vec<Vec<Vec<usize>>>,
    gate: Vec<Vec<Answer>>,
    /// As [`Predictions::logits`], for the pets in `pictures`.
    logits: Vec<Vec<f32>>,
    /// As [`Predictions::gate_logits`].
    gate_logits: Vec<f32>,
    /// As [`Predictions::second`], or empty.
    second: Vec<[bool; 2]>,
}

fn judge_fold<B: AutodiffBackend>(
    material: &Material,
    int8: Option<&[Vec<f32>]>,
    (table, odds): (&discriminant::Table, Option<&second_gate::LogOdds>),
    contenders: &[Contender],
    protocol: &Protocol,
    seed: u64,
    fold: usize,
) -> Fold {
    let examples = &material.examples;
    let protocol = Protocol { seed, ..protocol.clone() };
    let folds = examples.folds(seed);
    let (pictures, training): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(|&i| folds[i] == fold);
    let features = |i: usize, quantised: bool| match int8 {
        Some(int8) if quantised => int8[i].as_slice(),
        _ => examples.views[i][0].as_slice(),
    };
    let mut layers: BTreeMap<(usize, usize), Layer> = BTreeMap::new();
    let tested: Vec<usize> = pictures.iter().copied().filter(|&i| examples.is_pet(i)).collect();
    let closed = table.fit(examples, &training, &folds);
    let mut logits = vec![];
    let breeds = contenders
        .iter()
        .map(|contender| {
            let Range { start, end } = contender.range;
            let found: Vec<Vec<f32>> = match contender.head {
                Head::Discriminant => match &closed {
                    Some(closed) => table.scores(closed, &tested, contender.int8),
                    // With a class that only this fold has nothing can be fitted: all of its answers count as wrong.
                    None => return vec![vec![usize::MAX]; tested.len()],
                },
                Head::Linear => {
                    let layer = layers
                        .entry((start, end))
                        .or_insert_with(|| examples.fit_breed::<B>(&training, start..end, &protocol).0);
                    tested.iter().map(|&i| layer.logits(&features(i, contender.int8)[start..end])).collect()
                }
            };
            let breeds = found.iter().map(|row| best_five(row)).collect();
            if [FUSED, FUSED_INT8].contains(&contender.name) {
                logits = found;
            }
            breeds
        })
        .collect();

    let mut inner_scores = Vec::new();
    for held in (0..FOLDS).filter(|&f| f != fold) {
        let inner: Vec<usize> = training.iter().copied().filter(|&i| folds[i] != held).collect();
        let gate = examples.fit_gate::<B>(&inner, &protocol).0;
        let pets = training.iter().filter(|&&i| folds[i] == held && examples.is_pet(i));
        inner_scores.extend(pets.map(|&i| gate.logits(features(i, false))[0]));
    }
    let accept = calibrate::threshold_reached_by(&inner_scores, calibrate::ACCEPT_TARGET);
    let reject = calibrate::threshold_reached_by(&inner_scores, calibrate::NOT_REJECTED_TARGET).min(accept);
    let answer = |logit: f32| match logit {
        logit if logit >= accept => Answer::Accepted,
        logit if logit < reject => Answer::Rejected,
        _ => Answer::Unknown,
    };
    let gate_layer = examples.fit_gate::<B>(&training, &protocol).0;
    let arithmetic = if int8.is_some() { vec![false, true] } else { vec![false] };
    let gate = arithmetic
        .into_iter()
        .map(|quantised| pictures.iter().map(|&i| answer(gate_layer.logits(features(i, quantised))[0])).collect())
        .collect();
    let gate_logits = pictures.iter().map(|&i| gate_layer.logits(features(i, int8.is_some()))[0]).collect();
    let judge = |odds| second_gate::judge(material, table, odds, (&training, &pictures), &folds);
    let second = odds.map(judge).unwrap_or_default();
    Fold { pictures, breeds, gate, logits, gate_logits, second }
}

fn best_five(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(5);
    debug_assert_eq!(order[0], argmax(logits));
    order
}

fn merge(folds: &[Fold], material: &Material, contenders: &[Contender]) -> Predictions {
    let mut merged = Predictions {
        breeds: vec![vec![vec![]; material.examples.classes.len()]; contenders.len()],
        gate: vec![vec![Answer::Unknown; material.examples.len()]; folds[0].gate.len()],
        logits: vec![vec![]; material.examples.classes.len()],
        temperatures: vec![1.0; material.examples.classes.len()],
        gate_logits: vec![0.0; material.examples.len()],
        second: vec![[false; 2]; material.examples.len()],
    };
    for fold in folds {
        fold.pictures.iter().zip(&fold.gate_logits).for_each(|(&i, &logit)| merged.gate_logits[i] = logit);
        fold.pictures.iter().zip(&fold.second).for_each(|(&i, &accepted)| merged.second[i] = accepted);
        for (all, part) in merged.gate.iter_mut().zip(&fold.gate) {
            fold.pictures.iter().zip(part).for_each(|(&i, &a)| all[i] = a);
        }
        let pets: Vec<usize> = fold.pictures.iter().copied().filter(|&i| material.examples.is_pet(i)).collect();
        for (all, part) in merged.breeds.iter_mut().zip(&fold.breeds) {
            pets.iter().zip(part).for_each(|(&i, best)| all[i].clone_from(best));
        }
        pets.iter().zip(&fold.logits).for_each(|(&i, logits)| merged.logits[i].clone_from(logits));
    }
    let classes = &material.examples.classes;
    for fold in folds {
        let (own, others): (Vec<usize>, Vec<usize>) = (0..classes.len()).partition(|i| fold.pictures.contains(i));
        let rows: Vec<&[f32]> = others.iter().map(|&i| merged.logits[i].as_slice()).collect();
        let temperature = calibrate::class_temperature(&rows, &others.iter().map(|&i| classes[i]).collect::<Vec<_>>());
        own.into_iter().for_each(|i| merged.temperatures[i] = temperature);
    }
    merged
}

fn accuracy(network: &'static str, contender: usize, predictions: &[Predictions], material: &Material) -> Accuracy {
    let classes = &material.examples.classes;
    let share = |seed: &Predictions, depth: usize| {
        let right = seed.breeds[contender].iter().zip(classes).filter(|(best, c)| best.iter().take(depth).any(|b| b == *c));
        right.count() as f64 / classes.len() as f64
    };
    let by_class = |seed: &Predictions| {
        let mut right = vec![0.0; material.examples.class_count];
        let mut all = right.clone();
        for (best, &class) in seed.breeds[contender].iter().zip(classes) {
            all[class] += 1.0;
            right[class] += f64::from(u8::from(best[0] == class));
        }
        right.iter().zip(&all).map(|(r, a)| r / a).sum::<f64>() / all.len() as f64
    };
    Accuracy {
        network,
        top1_micro: Spread::of(predictions.iter().map(|p| share(p, 1))),
        top1_macro: Spread::of(predictions.iter().map(by_class)),
        top5: Spread::of(predictions.iter().map(|p| share(p, 5))),
    }
}

fn agreement(contenders: &[Contender], predictions: &[Predictions]) -> Option<Spread> {
    let position = |name| contenders.iter().position(|c| c.name == name);
    let (fp32, int8) = (position(FUSED)?, position(FUSED_INT8)?);
    let share = |p: &Predictions| {
        let pairs = p.breeds[fp32].iter().zip(&p.breeds[int8]);
        pairs.filter(|(a, b)| a[0] == b[0]).count() as f64 / p.breeds[fp32].len() as f64
    };
    Some(Spread::of(predictions.iter().map(share)))
}

fn gate_rates(predictions: &[Predictions], material: &Material) -> Vec<GateRates> {
    let pets = material.examples.classes.len();
    let share_of = |answer: Answer, all: &[Answer]| all.iter().filter(|a| **a == answer).count() as f64 / all.len() as f64;
    let share = |all: &[Answer]| share_of(Answer::Accepted, all);
    let rates = |(index, network): (usize, &'static str)| {
        let of_category = |category: usize| {
            let chosen = |p: &Predictions| {
                let negatives = p.gate[index][pets..].iter().zip(&material.negative_categories);
                share(&negatives.filter(|(_, c)| **c == category).map(|(a, _)| *a).collect::<Vec<_>>())
            };
            Spread::of(predictions.iter().map(chosen))
        };
        GateRates {
            network,
            pets_accepted: Spread::of(predictions.iter().map(|p| share(&p.gate[index][..pets]))),
            pets_rejected: Spread::of(predictions.iter().map(|p| share_of(Answer::Rejected, &p.gate[index][..pets]))),
            negatives_rejected: Spread::of(predictions.iter().map(|p| share_of(Answer::Rejected, &p.gate[index][pets..]))),
            negatives_accepted: Spread::of(predictions.iter().map(|p| share(&p.gate[index][pets..]))),
            by_category: material.categories.iter().enumerate().map(|(c, name)| (name.clone(), of_category(c))).collect(),
        }
    };
    [FUSED, FUSED_INT8].into_iter().enumerate().take(predictions[0].gate.len()).map(rates).collect()
}

fn confusions(contenders: &[Contender], predictions: &[Predictions], material: &Material) -> Vec<Confusion> {
    let fused = contenders.iter().position(|c| c.name == FUSED).expect("always evaluated");
    let mut counts = BTreeMap::<(usize, usize), usize>::new();
    for (best, &class) in predictions.iter().flat_map(|p| p.breeds[fused].iter().zip(&material.examples.classes)) {
        if best[0] != class {
            *counts.entry((class, best[0])).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let name = |class: usize| material.set.labels[class].name.clone();
    let confusion = |&((truth, predicted), count): &((usize, usize), usize)| Confusion {
        truth: name(truth),
        predicted: name(predicted),
        pictures: count as f64 / SEEDS.len() as f64,
    };
    counts.iter().take(10).map(confusion).collect()
}

fn official_test(classifier: Option<&Classifier>, material: &Material) -> anyhow::Result<OfficialTest> {
    let test = &material.set.test;
    let mut result = OfficialTest { listed: test.listed, used: 0, broken: 0, top1_micro: None };
    let (Some(classifier), false) = (classifier, test.pictures.is_empty()) else { return Ok(result) };
    let bar = progress::bar("official test pictures", test.pictures.len());
    let judged = test.pictures.par_iter().filter_map(|picture| {
        bar.inc(1);
        let broken = |e| log::warn!("{}: {e}", picture.path.display());
        let decoded = pawgate::vision::decode::read(&picture.path).map_err(broken).ok()?;
        Some(classifier.infer(&decoded).map(|scores| argmax(&scores.breed) == picture.class))
    });
    let right = judged.collect::<Result<Vec<bool>, _>>()?;
    bar.finish_and_clear();
    result.used = right.len();
    result.broken = test.pictures.len() - right.len();
    if result.used > 0 {
        result.top1_micro = Some(100.0 * right.iter().filter(|r| **r).count() as f64 / result.used as f64);
    }
    Ok(result)
}

impl Report {
    /// Writes the JSON form.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        write_whole(path, &serde_json::to_vec_pretty(self)?)
    }

    /// The tables for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} pets ({} of the listed pictures are not present), {} negatives, {} broken, {} near duplicates kept together\n\
             {FOLDS} folds, seeds {:?}, percent, mean ± standard deviation over the seeds\n\n",
            self.pets, self.pets_missing, self.negatives, self.broken, self.near_duplicates, self.seeds
        );
        let rows = self
            .accuracy
            .iter()
            .map(|a| vec![a.network.into(), a.top1_micro.to_string(), a.top1_macro.to_string(), a.top5.to_string()]);
        text += &table(&["breed of pets", "top-1 micro", "top-1 macro", "top-5"], rows);
        if let Some(agreement) = self.int8_agreement {
            text += &format!("int8 and fp32 name the same breed: {agreement}\n\n");
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        let row = |what: &str, spread: &dyn Fn(&GateRates) -> Spread| {
            std::iter::once(what.to_owned()).chain(self.gate.iter().map(|g| spread(g).to_string())).collect()
        };
        rows.push(row("pets accepted", &|g| g.pets_accepted));
        rows.push(row("pets called no animal", &|g| g.pets_rejected));
        rows.push(row("negatives called no animal", &|g| g.negatives_rejected));
        rows.push(row("negatives accepted", &|g| g.negatives_accepted));
        for category in self.gate[0].by_category.keys() {
            rows.push(row(&format!("  {category}"), &|g| g.by_category[category]));
        }
        let header: Vec<&str> = std::iter::once("gate").chain(self.gate.iter().map(|g| g.network)).collect();
        text += &table(&header, rows.into_iter());
        if let Some(second) = &self.second_gate {
            let row = |name: &str, plain: Spread, left_out: Option<Spread>| {
                vec![name.to_owned(), plain.to_string(), left_out.map_or(String::new(), |s| s.to_string())]
            };
            let mut rows = vec![row("pets accepted", second.pets_accepted, None)];
            rows.push(row("negatives accepted", second.negatives_accepted, Some(second.left_out_mean)));
            rows.extend(second.by_category.iter().map(|(name, [plain, out])| row(&format!("  {name}"), *plain, Some(*out))));
            text += &table(&["second gate (odds and fit)", "accepted", "category left out"], rows.into_iter());
        }
        let rows = self.confused.iter().map(|c| vec![c.truth.clone(), c.predicted.clone(), format!("{:.1}", c.pictures)]);
        text += &table(&["most confused: truth", "taken for", "pictures"], rows);
        text += &match self.official_test {
            OfficialTest { top1_micro: Some(top1), used, listed, broken } => {
                format!("official test pictures: {used} of {listed} used ({broken} broken), the model's top-1 {top1:.2}\n")
            }
            OfficialTest { listed, .. } => format!("official test pictures: none of {listed} evaluated\n"),
        };
        text
    }
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    rows.for_each(|row| {
        table.add_row(row);
    });
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{}\n\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_mean_and_sample_deviation() {
        let spread = Spread::of([0.90, 0.92]);
        assert!((spread.mean - 91.0).abs() < 1e-9 && (spread.sd - 2f64.sqrt()).abs() < 1e-9, "{spread:?}");
        assert_eq!(Spread::of([0.5]).sd, 0.0);
    }

    #[test]
    fn the_best_five_are_sorted() {
        assert_eq!(best_five(&[0.0, 5.0, 1.0, 4.0, 2.0, 3.0]), [1, 3, 5, 4, 2]);
        assert_eq!(best_five(&[1.0, 1.0]), [0, 1]);
    }
}
