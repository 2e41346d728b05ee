//! The command line of `pawgate-tools`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use pawgate::model::{Classifier, WeightsOrigin};
use pawgate::nn::Options;
use tract_onnx::pb::ModelProto;

use crate::backend::{BackendArgs, on_device};
use crate::conditions::Condition;
use crate::data::load_negatives;
use crate::evaluate;
use crate::fetch;
use crate::files::{sha256, write_whole};
use crate::graph::{self, fused};
use crate::material::{DataArgs, Material};
use crate::quantize::{self, Pictures, QuantizeOptions, ranges::Estimator};
use crate::report::{self, Data};
use crate::train::best::Bench;
use crate::train::linear::{Protocol, Schedule};
use crate::train::resume::Checkpoints;
use crate::train::{self, Layers, Method, Recipe, TrainedHead, calibrate};

/// Builds, trains, quantises and measures the model that pawgate runs.
#[derive(Debug, Parser)]
#[command(name = "pawgate-tools", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch the official checkpoints and the Oxford-IIIT Pet pictures.
    Fetch(fetch::Args),
    /// Fuse the two backbones to one fp32 ONNX network.
    Build(BuildArgs),
    /// Train the breed head and the pet gate on frozen features.
    Train(TrainArgs),
    /// Quantise the network to int8 and join it with the head: the model file that pawgate runs.
    Quantize(QuantizeArgs),
    /// Measure accuracy and gate by cross-validation, fp32 and int8 side by side.
    Evaluate(evaluate::Args),
    /// Make the report again from what `evaluate --figures` wrote.
    Report(ReportArgs),
    /// Build, train, quantise and evaluate in one go.
    Recipe(RecipeArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct WeightsArgs {
    /// ResNet-50 checkpoint: torchvision's `.pth`, or safetensors with torchvision names.
    #[arg(long, value_name = "FILE")]
    resnet: PathBuf,
    /// MobileNetV2 checkpoint: torchvision's `.pth`, or safetensors with torchvision names.
    #[arg(long, value_name = "FILE")]
    mobilenet: PathBuf,
}

#[derive(Debug, clap::Args)]
struct BuildArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Put the checkpoints' own ImageNet classifiers back as additional outputs.
    #[arg(long)]
    imagenet: bool,
    /// The network to write.
    #[arg(long, value_name = "FILE", default_value = "work/fused.onnx")]
    out: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
struct ProtocolArgs {
    /// Passes over the training features.
    #[arg(long, default_value_t = Protocol::default().epochs)]
    epochs: usize,
    /// Passes over the training features for the pet gate.
    #[arg(long, default_value_t = Protocol::default().gate_epochs)]
    gate_epochs: usize,
    /// Feature vectors a step.
    #[arg(long, default_value_t = Protocol::default().batch)]
    batch: usize,
    /// Adam's step size.
    #[arg(long, default_value_t = Protocol::default().learning_rate)]
    learning_rate: f64,
    /// How the step size goes on.
    #[arg(long, value_enum, default_value_t = Protocol::default().schedule)]
    schedule: Schedule,
    /// AdamW's weight decay.
    #[arg(long, default_value_t = Protocol::default().weight_decay)]
    weight_decay: f32,
    /// Share of the wanted probability that all classes get alike.
    #[arg(long, default_value_t = Protocol::default().label_smoothing)]
    label_smoothing: f32,
    /// Share of features zeroed while training.
    #[arg(long, default_value_t = Protocol::default().dropout)]
    dropout: f32,
    /// Hold out a fifth of the pictures, and stop when it has not got better for so many epochs.
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Decides initial weights, order, dropout and the folds that thresholds are chosen on.
    #[arg(long, default_value_t = Protocol::default().seed)]
    seed: u64,
}

impl ProtocolArgs {
    fn protocol(&self) -> anyhow::Result<Protocol> {
        let &Self {
            epochs,
            gate_epochs,
            batch,
            learning_rate,
            schedule,
            weight_decay,
            label_smoothing,
            dropout,
            patience,
            seed,
        } = self;
        ensure!(epochs > 0 && gate_epochs > 0 && batch > 0, "--epochs, --gate-epochs and --batch start at 1");
        ensure!(patience != Some(0), "--patience starts at 1");
        ensure!(learning_rate > 0.0 && learning_rate.is_finite(), "--learning-rate must be positive");
        ensure!((0.0..1.0).contains(&dropout), "--dropout must be at least 0 and below 1");
        ensure!(weight_decay >= 0.0 && weight_decay.is_finite(), "--weight-decay must not be negative");
        ensure!((0.0..1.0).contains(&label_smoothing), "--label-smoothing must be at least 0 and below 1");
        Ok(Protocol {
            epochs,
            gate_epochs,
            batch,
            learning_rate,
            schedule,
            weight_decay,
            label_smoothing,
            dropout,
            patience,
            seed,
        })
    }
}

#[derive(Debug, clap::Args)]
struct TrainArgs {
    /// The fused network from `build`.
    #[arg(long, value_name = "FILE", default_value = "work/fused.onnx")]
    network: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    recipe: evaluate::RecipeArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Go on with a training of the same head that was interrupted: at most one epoch is lost. Features are kept in the cache anyway.
    #[arg(long)]
    resume: bool,
    /// The head to write.
    #[arg(long, value_name = "FILE", default_value = "work/head.safetensors")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct QuantizeArgs {
    /// The fused network from `build`.
    #[arg(long, value_name = "FILE", default_value = "work/fused.onnx")]
    network: PathBuf,
    /// The head from `train`.
    #[arg(long, value_name = "FILE", default_value = "work/head.safetensors")]
    head: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// Keep the quantised backbones of this model, made from the same network, and only give it the head.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["estimator", "equalise", "no_reconstruct", "sensitivity"])]
    body: Option<PathBuf>,
    /// Write what `--sensitivity` finds as JSON, for `evaluate --sensitivity` and `report --sensitivity`.
    #[arg(long, value_name = "FILE", requires = "sensitivity")]
    layers: Option<PathBuf>,
    /// The model to write.
    #[arg(long, value_name = "FILE", default_value = "work/model-int8.onnx")]
    out: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
struct CalibrationArgs {
    /// Pictures that ranges are estimated on and weights are rounded for, three quarters of them pets.
    #[arg(long, default_value_t = 512, value_name = "N")]
    calibration: usize,
    /// Other pictures that the range estimators are compared on.
    #[arg(long, default_value_t = 96, value_name = "N")]
    held_out: usize,
    /// Measure on so many of the others what each layer's rounding costs by itself (0: do not), with weights and activations apart; a
    /// minute of one core a picture.
    #[arg(long, default_value_t = 0, value_name = "N")]
    sensitivity: usize,
    /// Try also with the channels before depthwise convolutions stretched to their tensor's range.
    #[arg(long)]
    equalise: bool,
    /// Round each weight to the nearest, and do not try to round them for the sake of what layers make: saves minutes.
    #[arg(long)]
    no_reconstruct: bool,
    /// Use this range estimator instead of comparing all.
    #[arg(long, value_parser = parse_estimator, value_name = "minmax|percentile:P|mse|entropy")]
    estimator: Option<Estimator>,
}

#[derive(Debug, clap::Args)]
struct ReportArgs {
    /// Figures that `evaluate --figures` wrote.
    #[arg(long, value_name = "FILE", default_value = "work/figures.json")]
    from: PathBuf,
    #[command(flatten)]
    doors: evaluate::DoorArgs,
    #[command(flatten)]
    sensitivity: evaluate::SensitivityArgs,
    /// Show the back ends of this one too: figures of another machine.
    #[arg(long, value_name = "FILE")]
    backends: Option<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "work/report.html")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct RecipeArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// How the head is found.
    #[arg(long, value_enum, default_value_t = Recipe::Paper)]
    recipe: Recipe,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    conditions: evaluate::ConditionArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Where intermediate files and the evaluation are written.
    #[arg(long, value_name = "DIR", default_value = "work")]
    work: PathBuf,
    /// The model to write.
    #[arg(long, value_name = "FILE", default_value = "work/model-int8.onnx")]
    out: PathBuf,
}

fn parse_estimator(text: &str) -> Result<Estimator, String> {
    match text.split_once(':') {
        None if text == "minmax" => Ok(Estimator::MinMax),
        None if text == "mse" => Ok(Estimator::Mse),
        None if text == "entropy" => Ok(Estimator::Entropy),
        Some(("percentile", p)) => match p.parse::<f64>() {
            Ok(p) if p > 50.0 && p <= 100.0 => Ok(Estimator::Percentile(p / 100.0)),
            _ => Err(format!("`{p}` is not a percentage above 50")),
        },
        _ => Err("expected `minmax`, `mse`, `entropy` or `percentile:99.99`".into()),
    }
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// Whatever went wrong, with what it was about.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Fetch(args) => fetch::run(&args),
            Command::Build(args) => build(&args.weights, args.imagenet, &args.out),
            Command::Train(args) => train(&args),
            Command::Quantize(args) => match &args.body {
                Some(body) => exchange_head(&args.network, &args.head, body, &args.out),
                None => {
                    let QuantizeArgs { network, head, data, calibration, layers, out, .. } = &args;
                    quantize(network, head, data, calibration, layers.as_deref(), out)
                }
            },
            Command::Evaluate(args) => evaluate(&args, &Protocol::default()),
            Command::Report(args) => make_report(&args),
            Command::Recipe(args) => recipe(&args),
        }
    }
}

fn recipe(args: &RecipeArgs) -> anyhow::Result<()> {
    let network = args.work.join("fused.onnx");
    let head = args.work.join("head.safetensors");
    let protocol = args.protocol.protocol()?;
    args.backend.open()?;
    build(&args.weights, false, &network)?;
    let [resnet, mobilenet] = [&args.weights.resnet, &args.weights.mobilenet].map(|path| Some(path.clone()));
    let recipe = evaluate::RecipeArgs { recipe: args.recipe, resnet, mobilenet };
    train(&TrainArgs {
        network: network.clone(),
        data: args.data.clone(),
        recipe: recipe.clone(),
        protocol: args.protocol.clone(),
        backend: args.backend,
        resume: false,
        out: head.clone(),
    })?;
    quantize(&network, &head, &args.data, &args.calibration, None, &args.out)?;
    let beside = |name: &str| Some(args.work.join(name));
    let [json, report, figures] = ["evaluation.json", "report.html", "figures.json"].map(beside);
    let model = Some(args.out.clone());
    let data = args.data.clone();
    evaluate(
        &evaluate::Args {
            network,
            model,
            recipe,
            data,
            conditions: args.conditions.clone(),
            backend: args.backend,
            doors: evaluate::DoorArgs::default(),
            sensitivity: evaluate::SensitivityArgs::default(),
            events: evaluate::EventArgs::default(),
            json,
            report,
            figures,
        },
        &protocol,
    )
}

fn make_report(args: &ReportArgs) -> anyhow::Result<()> {
    let read = |path: &Path| {
        let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Data::from_json(&json).with_context(|| format!("cannot use {}", path.display()))
    };
    let mut data = read(&args.from)?;
    if let Some(doors) = args.doors.read()? {
        data.doors = doors;
    }
    if let Some(sensitivity) = args.sensitivity.read()? {
        evaluate::show_layers(&mut data, &sensitivity);
    }
    if let Some(other) = &args.backends {
        data.backends.extend(read(other)?.backends);
    }
    write_whole(&args.out, report::render(&data).as_bytes())?;
    log::info!("wrote {}", args.out.display());
    Ok(())
}

fn build(weights: &WeightsArgs, imagenet: bool, out: &Path) -> anyhow::Result<()> {
    let model = fused::build(&weights.resnet, &weights.mobilenet, imagenet)?;
    let bytes = graph::encode(&model);
    pawgate::nn::Network::load(model.clone(), Options::SINGLE_THREADED).context("the fused network does not load")?;
    write_whole(out, &bytes)?;
    for WeightsOrigin { architecture, source, licence, .. } in fused::origins(&model)? {
        log::info!("{architecture}, from {source}, {licence}");
    }
    log::info!("wrote {} ({:.1} MB)", out.display(), bytes.len() as f64 / 1e6);
    Ok(())
}

fn train(args: &TrainArgs) -> anyhow::Result<()> {
    let TrainArgs { network, data, recipe, out, .. } = args;
    let protocol = &args.protocol.protocol()?;
    let device = args.backend.open()?;
    let knowledge = recipe.knowledge(network)?;
    let conditions = if recipe.recipe == Recipe::Best { &Condition::TRAINED[..] } else { &[] };
    let material = Material::load(data, network, conditions, device)?;
    let examples = &material.examples;
    let checkpoints = Checkpoints::beside(out, args.resume)?;
    let (layers, method, unseen) = match (recipe.recipe, knowledge) {
        (Recipe::Best, Some(knowledge)) => {
            let folds = examples.folds(protocol.seed);
            let (head, shrinkage, unseen) = Bench::new(examples, &knowledge, &[]).head(knowledge.clone(), &folds)?;
            let method = Method::Best { seed: protocol.seed, shrinkage, conditions: conditions.to_vec(), odds: head.odds };
            log::info!("shrinkage {shrinkage}, gate {:?}", head.odds);
            (Layers::Best(Box::new(head)), method, unseen)
        }
        _ => {
            let (unseen, [(breed, breed_epochs), (pet, gate_epochs)]) = on_device!(device, B => {
                let unseen = train::cross_validate::<B>(examples, protocol, &checkpoints)?;
                (unseen, train::fit_all::<B>(examples, protocol, &checkpoints)?)
            });
            for (epoch, figures) in (1..).zip(&breed_epochs) {
                log::info!("epoch {epoch}: loss {:.3}, accuracy {:.1} %", figures.loss, figures.accuracy * 100.0);
            }
            let method = Method::Paper { protocol: protocol.clone(), breed_epochs, gate_epochs };
            (Layers::Linear { breed, pet }, method, unseen)
        }
    };
    let calibration = calibrate::calibrate(recipe.recipe, &examples.classes, &unseen)?;
    ensure!(layers.is_finite(), "training diverged (a weight is not finite): lower --learning-rate");
    let gate = &calibration.gate;
    log::info!(
        "out of fold: top-1 {:.2} %; gate at {:.4} accepts {:.2} % of the pets and {:.2} % of the negatives",
        calibration.top1 * 100.0,
        gate.accept,
        gate.pets_accepted * 100.0,
        gate.negatives_accepted * 100.0
    );
    let record = material.record(data.preprocess(), sha256(&std::fs::read(network)?), method, calibration, &unseen);
    TrainedHead { layers, record }.save(out)?;
    checkpoints.finish();
    log::info!("wrote {}", out.display());
    Ok(())
}

fn quantize(
    network: &Path,
    head: &Path,
    data: &DataArgs,
    args: &CalibrationArgs,
    layers: Option<&Path>,
    out: &Path,
) -> anyhow::Result<()> {
    ensure!(layers.is_none() || args.sensitivity > 0, "--layers needs --sensitivity with one picture at least");
    ensure!(args.calibration >= 8 && args.held_out >= 8, "--calibration and --held-out need at least 8 pictures each");
    let (model, head) = network_and_head(network, head)?;
    ensure!(head.record.preprocess == data.preprocess(), "the head was trained with another --resize");
    let [calibration, held_out] = calibration_pictures(data, args)?;
    let options = QuantizeOptions {
        estimators: args.estimator.map_or(Estimator::CANDIDATES.to_vec(), |e| vec![e]),
        equalise: args.equalise,
        reconstruct: !args.no_reconstruct,
        sensitivity: args.sensitivity,
    };
    let outcome = quantize::quantise(&model, &head, &calibration, &held_out, &options)?;
    println!(
        "range estimator      channels  weights         feature error  score error  same breed   ({} held-out pictures)",
        held_out.len()
    );
    for quality in &outcome.tried {
        let mark = if *quality == outcome.chosen { "  <- taken" } else { "" };
        let [error, scores, same] = [quality.feature_error, quality.score_error, quality.agreement].map(|share| share * 100.0);
        let channels = if quality.equalised { "equalised" } else { "as is" };
        let weights = if quality.reconstructed { "reconstructed" } else { "nearest" };
        println!("{:<20} {channels:<9} {weights:<13} {error:>12.3} % {scores:>10.3} % {same:>9.1} %{mark}", quality.estimator);
    }
    if let Some(sensitivity) = &outcome.sensitivity {
        print!("{}", evaluate::sensitivity_text(sensitivity));
        if let Some(path) = layers {
            write_whole(path, &serde_json::to_vec_pretty(sensitivity)?)?;
            log::info!("wrote {}", path.display());
        }
    }
    let summary = outcome.weights;
    log::info!("{} of {} weight channels are exact in int8", summary.exact_channels, summary.channels);
    write_model(&outcome.model, out)
}

/// A network, and a head that was trained on it.
fn network_and_head(network: &Path, head: &Path) -> anyhow::Result<(ModelProto, TrainedHead)> {
    let (model, bytes) = quantize::read_network(network)?;
    let head = TrainedHead::load(head)?;
    ensure!(
        head.record.network_sha256 == sha256(&bytes),
        "the head was trained on another network than {}: train it again",
        network.display()
    );
    Ok((model, head))
}

fn exchange_head(network: &Path, head: &Path, body: &Path, out: &Path) -> anyhow::Result<()> {
    let (network, head) = network_and_head(network, head)?;
    let (model, _) = quantize::read_network(body)?;
    let model = quantize::with_head(&model, &network, &head).with_context(|| format!("cannot use {}", body.display()))?;
    write_model(&model, out)
}

fn write_model(model: &ModelProto, out: &Path) -> anyhow::Result<()> {
    let bytes = graph::encode(model);
    Classifier::from_bytes(&bytes, Options::SINGLE_THREADED).context("the finished model does not load")?;
    write_whole(out, &bytes)?;
    log::info!("wrote {} ({:.1} MB), SHA-256 {}", out.display(), bytes.len() as f64 / 1e6, sha256(&bytes));
    Ok(())
}

/// Pictures for calibrating and for measuring, three quarters of them pets.
fn calibration_pictures(data: &DataArgs, args: &CalibrationArgs) -> anyhow::Result<[Pictures; 2]> {
    let pets: Vec<PathBuf> = data.set()?.trainval.pictures.into_iter().map(|p| p.path).collect();
    let negatives: Vec<PathBuf> = load_negatives(&data.negatives)?.into_iter().map(|n| n.path).collect();
    let [calibration_negatives, held_out_negatives] = [args.calibration / 4, args.held_out / 4];
    let [calibration, held_out] =
        quantize::split_pictures(&pets, args.calibration - calibration_negatives, args.held_out - held_out_negatives);
    let others = quantize::split_pictures(&negatives, calibration_negatives, held_out_negatives);
    let preprocess = data.preprocess();
    Ok([
        Pictures::load(&[calibration, others[0].clone()].concat(), &preprocess)?,
        Pictures::load(&[held_out, others[1].clone()].concat(), &preprocess)?,
    ])
}

fn evaluate(args: &evaluate::Args, protocol: &Protocol) -> anyhow::Result<()> {
    let device = args.backend.open()?;
    let report = on_device!(device, B => evaluate::evaluate::<B>(args, protocol, device))?;
    print!("{}", report.text());
    if let Some(path) = &args.json {
        report.save(path)?;
    }
    Ok(())
}
