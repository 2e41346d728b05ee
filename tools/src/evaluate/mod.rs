//! What the model is worth: cross-validated accuracy of single backbones and fusion, in fp32 and int8, and the gate's rates.
//!
//! Five folds, five fixed seeds, near duplicates together, one forward pass a picture. Heads are trained on fp32 features of
//! the training folds; the int8 figures come from the same heads on int8 features of the test fold. The gate's threshold is
//! chosen by an inner cross-validation within the training folds. The paper's head is always measured; beside it the best recipe's
//! ([`crate::train::best`]), where the checkpoints' classifiers are at hand.

mod events;
mod figures;
mod layers;
mod speed;

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

use crate::backend::{BackendArgs, Device};
use crate::conditions::Condition;
use crate::features::{Extractor, View};
use crate::files::{sha256, write_whole};
use crate::graph::fused::{self, FEATURES, RESNET_FEATURES};
use crate::material::{DataArgs, Material};
use crate::progress;
use crate::quantize;
use crate::quantize::sensitivity::Sensitivity;
use crate::report;
use crate::stats;
use crate::train::best::{Bench, FittedGate};
use crate::train::knowledge::Knowledge;
use crate::train::linear::{Epoch, Layer, Protocol, argmax};
use crate::train::odds::Pair;
use crate::train::{Examples, FOLDS, Recipe, calibrate};
pub use events::{EventArgs, Events};
use figures::Measured;
pub use layers::{SensitivityArgs, sensitivity_text, show_layers};
pub use speed::Speed;

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
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub conditions: ConditionArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
    #[command(flatten)]
    pub doors: DoorArgs,
    #[command(flatten)]
    pub sensitivity: SensitivityArgs,
    #[command(flatten)]
    pub events: EventArgs,
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

/// Event-level figures, which the program at the door measures itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DoorArgs {
    /// Show how often the door opened for strangers: what `pawgate replay --each --json` printed of pictures that may not enter.
    #[arg(long, value_name = "FILE")]
    pub doors: Option<PathBuf>,
}

impl DoorArgs {
    /// Events and openings by folder, if there is a file.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn read(&self) -> anyhow::Result<Option<Vec<report::Door>>> {
        let read = |path: &PathBuf| {
            let lines = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            report::doors::read(&lines).with_context(|| format!("cannot use {}", path.display()))
        };
        self.doors.as_ref().map(read).transpose()
    }
}

/// Under which conditions the pictures are judged again.
#[derive(Debug, Clone, clap::Args)]
pub struct ConditionArgs {
    /// Judge the pictures again under these conditions; the first time, each takes as long as the pictures themselves.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Condition::ALL, value_name = "CONDITION,…")]
    pub conditions: Vec<Condition>,
    /// Judge plain pictures only.
    #[arg(long, conflicts_with = "conditions")]
    pub no_conditions: bool,
}

impl ConditionArgs {
    fn chosen(&self) -> &[Condition] {
        if self.no_conditions { &[] } else { &self.conditions }
    }
}

/// Which head, and what the best one needs.
#[derive(Debug, Clone, clap::Args)]
pub struct RecipeArgs {
    /// How the head is found: `best` also needs both checkpoints.
    #[arg(long, value_enum, default_value_t = Recipe::Paper)]
    pub recipe: Recipe,
    /// The ResNet-50 checkpoint that the network was built from, for the rows of its ImageNet classifier.
    #[arg(long, value_name = "FILE", requires = "mobilenet", required_if_eq("recipe", "best"))]
    pub resnet: Option<PathBuf>,
    /// As `--resnet`, of the MobileNetV2.
    #[arg(long, value_name = "FILE", requires = "resnet", required_if_eq("recipe", "best"))]
    pub mobilenet: Option<PathBuf>,
}

impl RecipeArgs {
    /// The rows of both classifiers, where both checkpoints were named.
    ///
    /// # Errors
    /// See [`Knowledge::read`].
    pub fn knowledge(&self, network: &Path) -> anyhow::Result<Option<Knowledge>> {
        let (Some(resnet), Some(mobilenet)) = (&self.resnet, &self.mobilenet) else { return Ok(None) };
        let origins = fused::origins(&quantize::read_network(network)?.0)?;
        Knowledge::read(resnet, mobilenet, &origins).map(Some)
    }
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
    /// The same when no picture of the category was trained with; empty where that was not measured.
    pub left_out: BTreeMap<String, Spread>,
    /// Mean over categories of `left_out`.
    pub left_out_mean: Option<Spread>,
}

/// The same pictures under one condition, at the same threshold.
#[derive(Debug, Clone, Serialize)]
pub struct UnderCondition {
    /// Which network.
    pub network: &'static str,
    /// Which condition; `None` for the pictures as they are.
    pub condition: Option<Condition>,
    /// Share of pets with the right breed first.
    pub top1: Spread,
    /// Share of the pets at or above the accept threshold.
    pub pets_accepted: Spread,
    /// Share of the negatives at or above the accept threshold.
    pub negatives_accepted: Spread,
}

/// How far probabilities can be believed: expected calibration error over [`figures::BINS`] bins, in percent.
#[derive(Debug, Clone, Serialize)]
pub struct Calibrated {
    /// Which network.
    pub network: &'static str,
    /// The temperature, the mean over folds.
    pub temperature: f64,
    /// Before dividing by it.
    pub before: Spread,
    /// After.
    pub after: Spread,
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
    /// Of this machine; not a property of the model.
    pub speed: Vec<Speed>,
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
    /// Which head's single predictions are shown.
    pub recipe: Recipe,
    /// Share of pets on which int8 and fp32 name the same breed first, with the head of `recipe`.
    pub int8_agreement: Option<Spread>,
    /// The gates, in fp32 and int8.
    pub gate: Vec<GateRates>,
    /// Of the fused networks.
    pub calibration: Vec<Calibrated>,
    /// The fused networks at the door, in int8 where there is one.
    pub conditions: Vec<UnderCondition>,
    /// The most frequent confusions.
    pub confused: Vec<Confusion>,
    /// The official test pictures.
    pub official_test: OfficialTest,
    /// What rounding costs, layer by layer: as `quantize` measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// Openings of a simulated door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
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
    recipe: Recipe,
}

impl Contender {
    /// Whether it has a gate: single backbones have none.
    fn is_whole(&self) -> bool {
        self.range == (0..FEATURES)
    }
}

const RESNET: &str = "ResNet50 alone, fp32";
const MOBILENET: &str = "MobileNetV2 alone, fp32";
const FUSED: &str = "fused, fp32";
const FUSED_INT8: &str = "fused, int8";
const BEST: &str = "best recipe, fp32";
const BEST_INT8: &str = "best recipe, int8";

fn contenders(int8: bool, best: bool) -> Vec<Contender> {
    let contender = |name, range, int8| Contender { name, range, int8, recipe: Recipe::Paper };
    let (first, second) = (0..RESNET_FEATURES, RESNET_FEATURES..FEATURES);
    let mut all = vec![
        contender(RESNET, first.clone(), false),
        contender(MOBILENET, second.clone(), false),
        contender(FUSED, 0..FEATURES, false),
    ];
    if int8 {
        all.extend([
            contender("ResNet50 alone, int8", first, true),
            contender("MobileNetV2 alone, int8", second, true),
            contender(FUSED_INT8, 0..FEATURES, true),
        ]);
    }
    if best {
        let arithmetic = [(BEST, false), (BEST_INT8, true)].into_iter().take(1 + usize::from(int8));
        all.extend(arithmetic.map(|(name, int8)| Contender { recipe: Recipe::Best, ..contender(name, 0..FEATURES, int8) }));
    }
    all
}

/// What a contender says of all pictures, each time with a head that has not seen the picture's fold.
#[derive(Debug, Clone)]
struct Predictions {
    /// Breed logits of each pet.
    logits: Vec<Vec<f32>>,
    /// Breeds of each pet by falling logit, the first five.
    best: Vec<Vec<usize>>,
    /// The temperature for each pet: the one that suits the other folds.
    temperatures: Vec<f32>,
    /// What the gate says of each picture; empty without one.
    gate: Vec<GateSaid>,
    /// For each condition and picture; empty where that is not judged.
    under: Vec<Vec<Said>>,
}

/// What was said of a picture under a condition.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// Whether the right breed came first; `false` for a negative.
    right: bool,
    accepted: bool,
}

/// What a gate says of a picture.
#[derive(Debug, Clone, Copy)]
struct GateSaid {
    /// Not calibrated.
    logit: f32,
    answer: Answer,
    /// Whether a gate accepts it that was fitted without the picture's category; `None` where that was not asked.
    left_out: Option<bool>,
}

/// What the gate says: at or above the accept threshold, below the reject threshold, or between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accepted,
    Rejected,
    Unknown,
}

/// Cross-validates and measures; `B` is the back end of `device`.
///
/// # Errors
/// What loading data, networks or features reports.
pub fn evaluate<B: AutodiffBackend>(args: &Args, protocol: &Protocol, device: Device) -> anyhow::Result<Report> {
    let doors = args.doors.read()?;
    let sensitivity = args.sensitivity.of_network(&args.network)?;
    anyhow::ensure!(
        !args.events.events || args.recipe.recipe == Recipe::Best,
        "--events exchanges heads of the best recipe: add --recipe best, --resnet and --mobilenet"
    );
    let knowledge = args.recipe.knowledge(&args.network)?;
    let trained = if knowledge.is_some() { &Condition::TRAINED[..] } else { &[] };
    let material = Material::load(&args.data, &args.network, trained, device)?;
    let classifier = args.model.as_deref().map(|model| load_matching(model, &args.data, &material)).transpose()?;
    let conditions = args.conditions.chosen();
    let sets = features(args, &material, device)?;
    let int8 = args.model.is_some().then(|| sets[0].as_slice());
    let contenders = contenders(int8.is_some(), knowledge.is_some());
    let bench = knowledge.as_ref().map(|knowledge| Bench::new(&material.examples, knowledge, &sets));
    let judge = Judge {
        material: &material,
        sets: &sets,
        conditions: sets.len() - conditions.len()..sets.len(),
        bench: bench.as_ref(),
        contenders: &contenders,
        protocol,
    };
    let tasks: Vec<(u64, usize)> = SEEDS.iter().flat_map(|&seed| (0..FOLDS).map(move |fold| (seed, fold))).collect();
    let bar = progress::bar("cross-validating", tasks.len());
    let judged = tasks.par_iter().map(|&(seed, fold)| {
        let judged = judge.fold::<B>(seed, fold);
        bar.inc(1);
        judged
    });
    let judged = judged.collect::<anyhow::Result<Vec<Fold>>>()?;
    bar.finish_and_clear();
    let predictions: Vec<Vec<Predictions>> = judged.chunks(FOLDS).map(|folds| judge.merge(folds)).collect();
    let training = curve::<B>(&material.examples, protocol);
    let speed = speed::measure(&args.network, &args.data, &material, protocol, device)?;
    let events = match (&args.model, &bench, &knowledge) {
        (Some(model), Some(bench), Some(knowledge)) if args.events.events => {
            Some(events::play(&args.network, model, &args.data, &material, bench, knowledge)?)
        }
        _ => None,
    };
    let report = Report {
        speed,
        pets: material.examples.classes.len(),
        pets_missing: material.set.trainval.missing(),
        negatives: material.negative_categories.len(),
        broken: material.broken,
        near_duplicates: material.near_duplicates(),
        preprocess: args.data.preprocess(),
        protocol: protocol.clone(),
        network_sha256: sha256(&std::fs::read(&args.network)?),
        training,
        seeds: SEEDS,
        accuracy: contenders.iter().enumerate().map(|(c, it)| accuracy(it.name, c, &predictions, &material)).collect(),
        recipe: args.recipe.recipe,
        int8_agreement: agreement(args.recipe.recipe, &contenders, &predictions),
        gate: gate_rates(&contenders, &predictions, &material, &left_out::<B>(&material, int8, protocol)),
        calibration: calibration(&contenders, &predictions, &material),
        conditions: under_conditions(conditions, &contenders, &predictions, &material),
        confused: confusions(args.recipe.recipe, &contenders, &predictions, &material),
        official_test: official_test(classifier.as_ref(), &material)?,
        sensitivity,
        events,
    };
    if args.report.is_some() || args.figures.is_some() {
        let measured = Measured {
            report: &report,
            material: &material,
            contenders: &contenders,
            predictions: &predictions,
            model: args.model.as_deref().zip(classifier.as_ref()),
        };
        let data = report::Data { doors: doors.unwrap_or_default(), ..measured.data()? };
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
            CurvePoint { training: history[history.len() - 1], held_out: judged(answers) }
        };
        (1..=protocol.epochs).map(after).collect()
    };
    let all: Vec<Vec<CurvePoint>> = (0..FOLDS).into_par_iter().map(of_fold).collect();
    let mean = |epoch: usize, of: &dyn Fn(&CurvePoint) -> Epoch| {
        let sum = |figure: &dyn Fn(Epoch) -> f64| all.iter().map(|fold| figure(of(&fold[epoch]))).sum::<f64>() / FOLDS as f64;
        Epoch { loss: sum(&|e| e.loss), accuracy: sum(&|e| e.accuracy), held_out_loss: None }
    };
    (0..protocol.epochs)
        .map(|e| CurvePoint { training: mean(e, &|p| p.training), held_out: mean(e, &|p| p.held_out) })
        .collect()
}

/// Mean cross-entropy, in nats, and accuracy of logits with their right classes.
fn judged(answers: impl Iterator<Item = (Vec<f32>, usize)>) -> Epoch {
    let (mut sum, mut count) = (Epoch { loss: 0.0, accuracy: 0.0, held_out_loss: None }, 0.0);
    for (logits, class) in answers {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        sum.loss += powers.ln() - f64::from(logits[class] - largest);
        sum.accuracy += f64::from(u8::from(argmax(&logits) == class));
        count += 1.0;
    }
    Epoch { loss: sum.loss / count, accuracy: sum.accuracy / count, held_out_loss: None }
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

/// Features of all pictures beside the plain fp32 ones: of the int8 model if there is one, then under each condition, of the int8 model or
/// else of the fp32 network. The int8 model runs on the kernels that ship, whatever `device` is.
fn features(args: &Args, material: &Material, device: Device) -> anyhow::Result<Vec<Vec<Vec<f32>>>> {
    let (data, conditions) = (&args.data, args.conditions.chosen());
    let (path, device) = args.model.as_ref().map_or((&args.network, device), |model| (model, Device::Cpu));
    let extractor = Extractor::open(path, &data.preprocess(), &data.cache, device)?;
    anyhow::ensure!(extractor.len() == FEATURES, "{} gives {} features, not {FEATURES}", path.display(), extractor.len());
    let mut views: Vec<View> = args.model.iter().map(|_| View::Plain).collect();
    views.extend(conditions.iter().map(|&condition| View::Under(condition)));
    let paths: Vec<_> = material.paths.iter().map(PathBuf::as_path).collect();
    let extracted = extractor.extract("features as at the door", &paths, &views)?;
    let mut sets: Vec<Vec<Vec<f32>>> = views.iter().map(|_| vec![]).collect();
    for views in extracted.views {
        let views = views.context("a picture vanished while evaluating")?;
        sets.iter_mut().zip(views).for_each(|(set, features)| set.push(features));
    }
    Ok(sets)
}

/// The pictures of one test fold, and what each contender says of them with a head that was trained on the other folds.
struct Fold {
    pictures: Vec<usize>,
    /// Breed logits of the pets among them, by contender.
    logits: Vec<Vec<Vec<f32>>>,
    /// By contender; empty without a gate.
    gates: Vec<Vec<GateSaid>>,
    /// By contender and condition; empty where that is not judged.
    under: Vec<Vec<Vec<Said>>>,
}

/// What folds are judged with.
struct Judge<'a> {
    material: &'a Material,
    /// Features of all pictures: in int8 where there is such a network, then under each condition.
    sets: &'a [Vec<Vec<f32>>],
    /// Which of the sets are under a condition.
    conditions: Range<usize>,
    bench: Option<&'a Bench<'a>>,
    contenders: &'a [Contender],
    protocol: &'a Protocol,
}

impl Judge<'_> {
    fn fold<B: AutodiffBackend>(&self, seed: u64, fold: usize) -> anyhow::Result<Fold> {
        let examples = &self.material.examples;
        let folds = examples.folds(seed);
        let (pictures, training): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(|&i| folds[i] == fold);
        let protocol = Protocol { seed, ..self.protocol.clone() };
        let mut judged = Fold { pictures, logits: vec![], gates: vec![], under: vec![] };
        let mut layers: BTreeMap<(usize, usize), Layer> = BTreeMap::new();
        let gate = self.paper_gate::<B>(&training, &folds, &protocol);
        let best = self.bench.map(|bench| {
            let fitted = bench.fit(&training, &folds).context(
                "a class has too few pictures that do not show nearly the same: it needs some in every fold for cross-validation",
            )?;
            let gates: Vec<FittedGate> = std::iter::once(None)
                .chain((0..self.material.categories.len()).map(Some))
                .map(|without| bench.gate(&fitted, without))
                .collect();
            anyhow::Ok((bench, fitted, gates))
        });
        let best = best.transpose()?;
        for contender in self.contenders {
            let Range { start, end } = contender.range;
            let (logits, said): (Vec<Vec<f32>>, Vec<GateSaid>) = match (contender.recipe, &best) {
                (Recipe::Best, Some((bench, fitted, gates))) => {
                    let found = bench.judge(&fitted.discriminants, &judged.pictures, usize::from(contender.int8));
                    let says = |(picture, _, pair): &(usize, Vec<f32>, Pair)| {
                        let usual = says(gates[0].odds.score(*pair), gates[0].accept, gates[0].reject);
                        let other = examples.category(*picture).map(|category| gates[1 + category]);
                        GateSaid { left_out: other.map(|gate| gate.odds.score(*pair) >= gate.accept), ..usual }
                    };
                    let said = found.iter().map(says).collect();
                    let of_pets = found.into_iter().filter(|(picture, ..)| examples.is_pet(*picture));
                    (of_pets.map(|(_, row, _)| row).collect(), said)
                }
                _ => {
                    let layer = layers
                        .entry((start, end))
                        .or_insert_with(|| examples.fit_breed::<B>(&training, start..end, &protocol).0);
                    let features = |i: usize| &self.features(i, usize::from(contender.int8))[start..end];
                    let pets = judged.pictures.iter().filter(|&&i| examples.is_pet(i));
                    let logits = pets.map(|&i| layer.logits(features(i))).collect();
                    let (whole, accept, reject) = &gate;
                    let says = |&i: &usize| says(whole.logits(features(i))[0], *accept, *reject);
                    let said = if contender.is_whole() { judged.pictures.iter().map(says).collect() } else { vec![] };
                    (logits, said)
                }
            };
            judged.logits.push(logits);
            judged.gates.push(said);
            let at_the_door = contender.is_whole() && contender.int8 == (self.conditions.start == 1);
            let under = self.conditions.clone().filter(|_| at_the_door).map(|set| match (contender.recipe, &best) {
                (Recipe::Best, Some((bench, fitted, gates))) => {
                    let said = |(picture, row, pair): (usize, Vec<f32>, Pair)| {
                        self.said(picture, &row, gates[0].odds.score(pair) >= gates[0].accept)
                    };
                    bench.judge(&fitted.discriminants, &judged.pictures, set + 1).into_iter().map(said).collect()
                }
                _ => {
                    let said = |&picture: &usize| {
                        let features = self.features(picture, set + 1);
                        let row = layers[&(start, end)].logits(features);
                        self.said(picture, &row, gate.0.logits(features)[0] >= gate.1)
                    };
                    judged.pictures.iter().map(said).collect::<Vec<Said>>()
                }
            });
            judged.under.push(under.collect());
        }
        Ok(judged)
    }

    fn said(&self, picture: usize, row: &[f32], accepted: bool) -> Said {
        Said { right: self.material.examples.classes.get(picture) == Some(&argmax(row)), accepted }
    }

    /// Of the plain view (`set` 0), or in the sets, counted from 1.
    fn features(&self, picture: usize, set: usize) -> &[f32] {
        match set.checked_sub(1) {
            Some(set) => &self.sets[set][picture],
            None => &self.material.examples.views[picture][0],
        }
    }

    /// The paper's kind of gate, trained on `training`, with the thresholds that an inner cross-validation finds.
    fn paper_gate<B: AutodiffBackend>(&self, training: &[usize], folds: &[usize], protocol: &Protocol) -> (Layer, f32, f32) {
        let examples = &self.material.examples;
        let mut inner_scores = Vec::new();
        for held in 0..FOLDS {
            let (held, inner): (Vec<usize>, Vec<usize>) = training.iter().partition(|&&i| folds[i] == held);
            if held.is_empty() {
                continue;
            }
            let gate = examples.fit_gate::<B>(&inner, protocol).0;
            let pets = held.iter().filter(|&&i| examples.is_pet(i));
            inner_scores.extend(pets.map(|&i| gate.logits(self.features(i, 0))[0]));
        }
        let accept = calibrate::threshold_reached_by(&inner_scores, calibrate::ACCEPT_TARGET);
        let reject = calibrate::threshold_reached_by(&inner_scores, calibrate::NOT_REJECTED_TARGET).min(accept);
        (examples.fit_gate::<B>(training, protocol).0, accept, reject)
    }

    /// The folds of a seed put together, by contender.
    fn merge(&self, folds: &[Fold]) -> Vec<Predictions> {
        let examples = &self.material.examples;
        let classes = &examples.classes;
        let blank = GateSaid { logit: 0.0, answer: Answer::Unknown, left_out: None };
        let merge = |(index, contender): (usize, &Contender)| {
            let mut merged = Predictions {
                logits: vec![vec![]; classes.len()],
                best: vec![],
                temperatures: vec![1.0; classes.len()],
                gate: if contender.is_whole() { vec![blank; examples.len()] } else { vec![] },
                under: folds[0].under[index].iter().map(|_| vec![Said::default(); examples.len()]).collect(),
            };
            for fold in folds {
                let pets = fold.pictures.iter().filter(|&&i| examples.is_pet(i));
                pets.zip(&fold.logits[index]).for_each(|(&i, logits)| merged.logits[i].clone_from(logits));
                fold.pictures.iter().zip(&fold.gates[index]).for_each(|(&i, &said)| merged.gate[i] = said);
                for (all, part) in merged.under.iter_mut().zip(&fold.under[index]) {
                    fold.pictures.iter().zip(part).for_each(|(&i, &said)| all[i] = said);
                }
            }
            for fold in folds {
                let (own, others): (Vec<usize>, Vec<usize>) = (0..classes.len()).partition(|i| fold.pictures.contains(i));
                let rows: Vec<&[f32]> = others.iter().map(|&i| merged.logits[i].as_slice()).collect();
                let of_others: Vec<usize> = others.iter().map(|&i| classes[i]).collect();
                let temperature = calibrate::breed_temperature(contender.recipe, &rows, &of_others);
                own.into_iter().for_each(|i| merged.temperatures[i] = temperature);
            }
            merged.best = merged.logits.iter().map(|row| best_five(row)).collect();
            merged
        };
        self.contenders.iter().enumerate().map(merge).collect()
    }
}

/// A gate's answer at its thresholds.
fn says(logit: f32, accept: f32, reject: f32) -> GateSaid {
    let answer = match logit {
        logit if logit >= accept => Answer::Accepted,
        logit if logit < reject => Answer::Rejected,
        _ => Answer::Unknown,
    };
    GateSaid { logit, answer, left_out: None }
}

fn best_five(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(5);
    debug_assert_eq!(order[0], argmax(logits));
    order
}

fn accuracy(network: &'static str, contender: usize, predictions: &[Vec<Predictions>], material: &Material) -> Accuracy {
    let classes = &material.examples.classes;
    let share = |seed: &Vec<Predictions>, depth: usize| {
        let pairs = seed[contender].best.iter().zip(classes);
        pairs.filter(|(best, c)| best.iter().take(depth).any(|b| b == *c)).count() as f64 / classes.len() as f64
    };
    let by_class = |seed: &Vec<Predictions>| {
        let mut right = vec![0.0; material.examples.class_count];
        let mut all = right.clone();
        for (best, &class) in seed[contender].best.iter().zip(classes) {
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

/// Position of the whole network with a recipe's head.
fn whole(contenders: &[Contender], recipe: Recipe, int8: bool) -> Option<usize> {
    contenders.iter().position(|c| c.is_whole() && c.recipe == recipe && c.int8 == int8)
}

fn agreement(recipe: Recipe, contenders: &[Contender], predictions: &[Vec<Predictions>]) -> Option<Spread> {
    let (fp32, int8) = (whole(contenders, recipe, false)?, whole(contenders, recipe, true)?);
    let share = |p: &Vec<Predictions>| {
        let pairs = p[fp32].best.iter().zip(&p[int8].best);
        pairs.filter(|(a, b)| a[0] == b[0]).count() as f64 / p[fp32].best.len() as f64
    };
    Some(Spread::of(predictions.iter().map(share)))
}

fn gate_rates(
    contenders: &[Contender],
    predictions: &[Vec<Predictions>],
    material: &Material,
    paper_left_out: &[f64],
) -> Vec<GateRates> {
    let examples = &material.examples;
    let rates = |(index, contender): (usize, &Contender)| {
        // Over the seeds: the share of the pictures of a kind of which something holds.
        let share = |of: &dyn Fn(usize) -> bool, holds: &dyn Fn(&GateSaid) -> bool| {
            let chosen: Vec<usize> = (0..examples.len()).filter(|&i| of(i)).collect();
            let rate = |seed: &Vec<Predictions>| {
                chosen.iter().filter(|&&i| holds(&seed[index].gate[i])).count() as f64 / chosen.len() as f64
            };
            predictions.iter().map(rate).collect::<Vec<f64>>()
        };
        let spread = |pets: bool, answer: Answer| {
            Spread::of(share(&|i| examples.is_pet(i) == pets, &|said: &GateSaid| said.answer == answer))
        };
        let in_category = |category: usize| move |i: usize| examples.category(i) == Some(category);
        let accepted = |category| share(&in_category(category), &|said: &GateSaid| said.answer == Answer::Accepted);
        let left_out = |category: usize| match contender.recipe {
            Recipe::Best => share(&in_category(category), &|said: &GateSaid| said.left_out == Some(true)),
            Recipe::Paper => vec![paper_left_out[category]],
        };
        // Judged in int8 where there is int8, once: it takes a training a category.
        let measured = contender.recipe == Recipe::Best || contender.int8 == contenders.iter().any(|c| c.int8);
        let all_left_out: Vec<Vec<f64>> = (0..material.categories.len()).filter(|_| measured).map(left_out).collect();
        let mean = |seed: usize| all_left_out.iter().map(|rates| rates[seed]).sum::<f64>() / all_left_out.len() as f64;
        let named = |of: &dyn Fn(usize) -> Vec<f64>| {
            material.categories.iter().enumerate().map(|(c, name)| (name.clone(), Spread::of(of(c)))).collect()
        };
        GateRates {
            network: contender.name,
            pets_accepted: spread(true, Answer::Accepted),
            pets_rejected: spread(true, Answer::Rejected),
            negatives_rejected: spread(false, Answer::Rejected),
            negatives_accepted: spread(false, Answer::Accepted),
            by_category: named(&accepted),
            left_out_mean: all_left_out.first().map(|seeds| Spread::of((0..seeds.len()).map(mean))),
            left_out: if measured { named(&|c| all_left_out[c].clone()) } else { BTreeMap::new() },
        }
    };
    contenders.iter().enumerate().filter(|(_, contender)| contender.is_whole()).map(rates).collect()
}

fn calibration(contenders: &[Contender], predictions: &[Vec<Predictions>], material: &Material) -> Vec<Calibrated> {
    let classes = &material.examples.classes;
    let of = |(index, contender): (usize, &Contender)| {
        let error = |seed: &Vec<Predictions>, divided: bool| {
            let bins = figures::reliability(&seed[index], classes, divided);
            stats::expected_calibration_error(&bins).unwrap_or(f64::NAN)
        };
        let temperatures = predictions.iter().flat_map(|seed| &seed[index].temperatures);
        let count = (predictions.len() * classes.len()) as f64;
        Calibrated {
            network: contender.name,
            temperature: temperatures.map(|&t| f64::from(t)).sum::<f64>() / count,
            before: Spread::of(predictions.iter().map(|seed| error(seed, false))),
            after: Spread::of(predictions.iter().map(|seed| error(seed, true))),
        }
    };
    contenders.iter().enumerate().filter(|(_, contender)| contender.is_whole()).map(of).collect()
}

fn under_conditions(
    conditions: &[Condition],
    contenders: &[Contender],
    predictions: &[Vec<Predictions>],
    material: &Material,
) -> Vec<UnderCondition> {
    let classes = &material.examples.classes;
    let of = |(index, contender): (usize, &Contender)| {
        // As they are: what was measured of the plain pictures.
        let plain = |seed: &Predictions| -> Vec<Said> {
            let said = |(picture, gate): (usize, &GateSaid)| Said {
                right: classes.get(picture).is_some_and(|&class| seed.best[picture][0] == class),
                accepted: gate.answer == Answer::Accepted,
            };
            seed.gate.iter().enumerate().map(said).collect()
        };
        let rows = std::iter::once(None).chain((0..conditions.len()).map(Some));
        let row = move |at: Option<usize>| {
            let said: Vec<Vec<Said>> = predictions
                .iter()
                .map(|seed| at.map_or_else(|| plain(&seed[index]), |at| seed[index].under[at].clone()))
                .collect();
            let share = |of: &dyn Fn(&[Said]) -> Vec<bool>| {
                Spread::of(said.iter().map(|said| {
                    let held = of(said);
                    held.iter().filter(|held| **held).count() as f64 / held.len() as f64
                }))
            };
            let (pets, all) = (classes.len(), material.examples.len());
            UnderCondition {
                network: contender.name,
                condition: at.map(|at| conditions[at]),
                top1: share(&|said| said[..pets].iter().map(|said| said.right).collect()),
                pets_accepted: share(&|said| said[..pets].iter().map(|said| said.accepted).collect()),
                negatives_accepted: share(&|said| said[pets..all].iter().map(|said| said.accepted).collect()),
            }
        };
        rows.map(row).collect::<Vec<_>>()
    };
    let judged = |(index, _): &(usize, &Contender)| !predictions[0][*index].under.is_empty();
    contenders.iter().enumerate().filter(judged).flat_map(of).collect()
}

fn confusions(
    recipe: Recipe,
    contenders: &[Contender],
    predictions: &[Vec<Predictions>],
    material: &Material,
) -> Vec<Confusion> {
    let fused = whole(contenders, recipe, false).expect("always evaluated");
    let mut counts = BTreeMap::<(usize, usize), usize>::new();
    for (best, &class) in predictions.iter().flat_map(|p| p[fused].best.iter().zip(&material.examples.classes)) {
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
        let row = |what: &str, spread: &dyn Fn(&GateRates) -> Option<Spread>| {
            let cell = |gate| spread(gate).map_or_else(|| "-".to_owned(), |spread| spread.to_string());
            std::iter::once(what.to_owned()).chain(self.gate.iter().map(cell)).collect()
        };
        rows.push(row("pets accepted", &|g| Some(g.pets_accepted)));
        rows.push(row("pets called no animal", &|g| Some(g.pets_rejected)));
        rows.push(row("negatives called no animal", &|g| Some(g.negatives_rejected)));
        rows.push(row("negatives accepted", &|g| Some(g.negatives_accepted)));
        for category in self.gate[0].by_category.keys() {
            rows.push(row(&format!("  {category}"), &|g| g.by_category.get(category).copied()));
        }
        rows.push(row("accepted untrained, mean", &|g| g.left_out_mean));
        for category in self.gate[0].by_category.keys() {
            rows.push(row(&format!("  {category}"), &|g| g.left_out.get(category).copied()));
        }
        let header: Vec<&str> = std::iter::once("gate").chain(self.gate.iter().map(|g| g.network)).collect();
        text += &table(&header, rows.into_iter());
        let rows = self
            .calibration
            .iter()
            .map(|c| vec![c.network.into(), format!("{:.2}", c.temperature), c.before.to_string(), c.after.to_string()]);
        text += &table(&["expected calibration error", "temperature", "before", "after"], rows);
        let rows = self.conditions.iter().map(|row| {
            let condition = row.condition.map_or("as they are", Condition::name);
            let shares = [row.top1, row.pets_accepted, row.negatives_accepted].map(|share| share.to_string());
            [vec![format!("{condition} ({})", row.network)], shares.to_vec()].concat()
        });
        text += &table(&["pictures at the door", "top-1", "pets accepted", "negatives accepted"], rows);
        let rows = self.confused.iter().map(|c| vec![c.truth.clone(), c.predicted.clone(), format!("{:.1}", c.pictures)]);
        text += &table(&["most confused: truth", "taken for", "pictures"], rows);
        text += &match self.official_test {
            OfficialTest { top1_micro: Some(top1), used, listed, broken } => {
                format!("official test pictures: {used} of {listed} used ({broken} broken), the model's top-1 {top1:.2}\n")
            }
            OfficialTest { listed, .. } => format!("official test pictures: none of {listed} evaluated\n"),
        };
        if let Some(sensitivity) = &self.sensitivity {
            text += &format!("\n{}", sensitivity_text(sensitivity));
        }
        if let Some(events) = &self.events {
            text += &format!("\n{}", events.text());
        }
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
