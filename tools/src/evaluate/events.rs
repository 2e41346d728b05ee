//! Does the door open? Every picture is played as a visit through the whole chain that ships (motion, quality, classifier, vote, rules),
//! before a door that any cat and any dog may pass.
//!
//! No picture is played before a head that knows it. The gate that judges a stranger has seen no picture of its category, which is what
//! to expect of strangers that nobody thought of; the head that judges a pet was found in the other folds. The quantised backbones are
//! those of the model: only heads are exchanged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use pawgate::config::Config;
use pawgate::hw::camera::pictures::{Pictures, Play};
use pawgate::hw::camera::{Camera, Timing};
use pawgate::individuals::Individuals;
use pawgate::model::Classifier;
use pawgate::nn::Options;
use pawgate::service::rehearsal::{Rehearsal, Visit};
use rayon::prelude::*;
use serde::Serialize;
use tract_onnx::pb::ModelProto;

use super::{SEEDS, table};
use crate::conditions::Condition;
use crate::files::sha256;
use crate::graph;
use crate::material::{DataArgs, Material};
use crate::progress;
use crate::quantize;
use crate::stats::clopper_pearson;
use crate::train::best::{Bench, Fitted};
use crate::train::knowledge::Knowledge;
use crate::train::{FOLDS, Layers, Method, Recipe, TrainedHead, calibrate};

/// How long each picture stands before the door.
const HOLD: Duration = Duration::from_secs(3);
/// Whoever is a cat or a dog may enter: the least that rules can ask.
const RULES: &str = include_str!("events.toml");

/// `--events`.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct EventArgs {
    /// Also play each picture as an event of three seconds before a simulated door that cats and dogs may pass, and count openings:
    /// pictures without a pet before gates trained without their category, pets before heads of the other folds. Needs `--recipe best`
    /// and `--model`; a third of a second of one core a picture.
    #[arg(long, requires = "model")]
    pub events: bool,
}

/// What the door did.
#[derive(Debug, Clone, Serialize)]
pub struct Events {
    /// How long each picture was shown.
    pub seconds: f64,
    /// Frames a second.
    pub fps: u32,
    /// Categories of negatives, each before a gate that was trained without it.
    pub left_out: Vec<Openings>,
    /// All of them together.
    pub strangers: Openings,
    /// Pets, each before a head of the folds that it is not in.
    pub pets: Openings,
}

/// How often the door opened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Openings {
    /// For whom.
    pub name: String,
    /// Visits.
    pub events: u64,
    /// Visits with an opening.
    pub openings: u64,
    /// Openings in 1,000 visits.
    pub per_thousand: f64,
    /// Ends of the exact interval of `per_thousand` at 95 % (Clopper and Pearson).
    pub interval: [f64; 2],
    /// Strangers who opened it, and what they were taken for. Pets are not named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<String>,
}

impl Openings {
    fn new(name: &str, events: u64, openings: u64) -> Self {
        let interval = clopper_pearson(openings, events);
        Self {
            name: name.into(),
            events,
            openings,
            per_thousand: 1e3 * openings as f64 / events.max(1) as f64,
            interval: [interval.low, interval.high].map(|share| 1e3 * share),
            opened_by: vec![],
        }
    }

    fn of(name: &str, visits: &[Visit]) -> Self {
        Self::new(name, visits.len() as u64, visits.iter().filter(|visit| visit.opened).count() as u64)
    }
}

/// What everything is played with.
struct Stage<'a> {
    material: &'a Material,
    bench: &'a Bench<'a>,
    knowledge: &'a Knowledge,
    data: &'a DataArgs,
    network: ModelProto,
    network_sha256: String,
    body: ModelProto,
    config: Arc<Config>,
    bar: ProgressBar,
}

/// Plays everything, with the backbones of `model`.
///
/// # Errors
/// When a file cannot be read, a head cannot be found or put on the backbones, or a picture cannot be read any more.
pub fn play(
    network: &Path,
    model: &Path,
    data: &DataArgs,
    material: &Material,
    bench: &Bench<'_>,
    knowledge: &Knowledge,
) -> anyhow::Result<Events> {
    let (network, bytes) = quantize::read_network(network)?;
    let config = Config::parse(RULES.as_bytes(), Path::new("events.toml")).context("the rules of the evaluation")?;
    let stage = Stage {
        material,
        bench,
        knowledge,
        data,
        network,
        network_sha256: sha256(&bytes),
        body: quantize::read_network(model)?.0,
        config: Arc::new(config),
        bar: progress::bar("events before the door", material.examples.len()),
    };
    let events = stage.all().with_context(|| format!("events with the backbones of {}", model.display()));
    stage.bar.finish_and_clear();
    events
}

impl Stage<'_> {
    fn all(&self) -> anyhow::Result<Events> {
        let examples = &self.material.examples;
        let folds = examples.folds(SEEDS[0]);
        let everything: Vec<usize> = (0..examples.len()).collect();
        let fitted = self.fit(&everything, &folds)?;
        let mut left_out = vec![];
        for (category, name) in self.material.categories.iter().enumerate() {
            let classifier = self.classifier(&fitted, Some(category)).with_context(|| format!("without {name}"))?;
            let pictures: Vec<usize> = everything.iter().copied().filter(|&i| examples.category(i) == Some(category)).collect();
            let visits = self.visits(&classifier, &pictures)?;
            let who = pictures.iter().zip(&visits).filter(|(_, visit)| visit.opened).map(|(&i, visit)| self.named(i, visit));
            left_out.push(Openings { opened_by: who.collect(), ..Openings::of(name, &visits) });
        }
        let mut visits = vec![];
        for fold in 0..FOLDS {
            let (held, training): (Vec<usize>, Vec<usize>) = everything.iter().partition(|&&i| folds[i] == fold);
            let classifier =
                self.classifier(&self.fit(&training, &folds)?, None).with_context(|| format!("without fold {fold}"))?;
            let pets: Vec<usize> = held.into_iter().filter(|&i| examples.is_pet(i)).collect();
            visits.extend(self.visits(&classifier, &pets)?);
        }
        let (events, openings) = left_out.iter().fold((0, 0), |sum, of| (sum.0 + of.events, sum.1 + of.openings));
        Ok(Events {
            seconds: HOLD.as_secs_f64(),
            fps: self.config.camera().fps,
            left_out,
            strangers: Openings::new("all", events, openings),
            pets: Openings::of("pets", &visits),
        })
    }

    fn fit(&self, training: &[usize], folds: &[usize]) -> anyhow::Result<Fitted> {
        self.bench.fit(training, folds).context("a class has too few pictures that do not show nearly the same")
    }

    /// The model with the head that was fitted, its gate without one category of negatives if so wanted.
    fn classifier(&self, fitted: &Fitted, without: Option<usize>) -> anyhow::Result<Classifier> {
        let (head, classes, unseen) = self.bench.head_of(self.knowledge.clone(), fitted, without);
        let calibration = calibrate::calibrate(Recipe::Best, &classes, &unseen)?;
        let method = Method::Best {
            seed: SEEDS[0],
            shrinkage: fitted.shrinkage,
            conditions: Condition::TRAINED.to_vec(),
            odds: head.odds,
        };
        let record = self.material.record(self.data.preprocess(), self.network_sha256.clone(), method, calibration, &unseen);
        let head = TrainedHead { layers: Layers::Best(Box::new(head)), record };
        let model = quantize::with_head(&self.body, &self.network, &head)?;
        // One thread each: the cores are busy with other visits.
        Ok(Classifier::from_bytes(&graph::encode(&model), Options::SINGLE_THREADED)?)
    }

    fn visits(&self, classifier: &Classifier, pictures: &[usize]) -> anyhow::Result<Vec<Visit>> {
        let visit = |&picture: &usize| {
            let visit = visit(&self.config, classifier, &self.material.paths[picture]);
            self.bar.inc(1);
            visit
        };
        pictures.par_iter().map(visit).collect()
    }

    /// A stranger that opened the door: category, file and what was said of it.
    fn named(&self, picture: usize, visit: &Visit) -> String {
        let category = self.material.examples.category(picture).map_or("", |category| &self.material.categories[category]);
        let file = self.material.paths[picture].file_name().unwrap_or_default().to_string_lossy();
        let reason = visit.decision.as_ref().and_then(|decision| decision.reason.as_deref()).unwrap_or_default();
        format!("{category}/{file}: {reason}")
    }
}

/// One picture as a visit.
fn visit(config: &Arc<Config>, classifier: &Classifier, picture: &Path) -> anyhow::Result<Visit> {
    let play = Play { hold: HOLD, fps: config.camera().fps, ..Play::default() };
    let camera = |start| {
        let camera = Pictures::open(&[picture.to_owned()], play, Timing::Recorded(start))?;
        Ok(Box::new(camera) as Box<dyn Camera>)
    };
    let rehearsal = Rehearsal::new(config, classifier, &Individuals::nobody())?;
    rehearsal.visit(camera).with_context(|| format!("{} as an event", picture.display()))
}

impl Events {
    /// The tables for people.
    pub fn text(&self) -> String {
        let row = |of: &Openings| {
            let [low, high] = of.interval.map(|end| format!("{end:.1}"));
            let counts = [of.events, of.openings].map(|count| count.to_string());
            [vec![of.name.clone()], counts.to_vec(), vec![format!("{:.1}", of.per_thousand), format!("{low} to {high}")]]
                .concat()
        };
        let header = |first| [first, "events", "opened", "per 1,000", "interval at 95 %"];
        let strangers = self.left_out.iter().chain([&self.strangers]).map(row);
        let mut text = table(&header("the door, before strangers no gate has seen"), strangers);
        text += &table(&header("the door, before pets no head has seen"), std::iter::once(row(&self.pets)));
        for who in self.left_out.iter().flat_map(|of| &of.opened_by) {
            text += &format!("opened for {who}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_counted_with_their_interval() {
        let of = |openings, events| Openings::new("x", events, openings);
        let one = of(1, 100);
        assert_eq!((one.events, one.openings, one.per_thousand), (100, 1, 10.0));
        // Clopper and Pearson for 1 of 100: 0.0253 to 5.446 %.
        assert!((one.interval[0] - 0.253).abs() < 1e-3 && (one.interval[1] - 54.46).abs() < 1e-2, "{one:?}");
        assert_eq!((of(0, 0).per_thousand, of(0, 0).interval), (0.0, [0.0, 1000.0]), "nothing says nothing");
        let visit = |opened| Visit { opened, decision: None, seconds: None };
        assert_eq!(Openings::of("x", &[visit(true), visit(false), visit(true), visit(false)]), of(2, 4));
    }

    #[test]
    fn the_rules_let_cats_and_dogs_in_and_a_picture_is_one_visit() {
        let config = Arc::new(Config::parse(RULES.as_bytes(), Path::new("events.toml")).unwrap());
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/pawgate-pets37-int8.onnx");
        let classifier = Classifier::from_bytes(&std::fs::read(model).unwrap(), Options::SINGLE_THREADED).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let played = |name: &str| {
            let sample = pawgate::samples::SAMPLES.iter().find(|sample| sample.name.contains(name)).unwrap();
            let file = folder.path().join(format!("{name}.jpg"));
            std::fs::write(&file, sample.jpeg).unwrap();
            visit(&config, &classifier, &file).unwrap()
        };
        let (cat, raccoon) = (played("cat"), played("raccoon"));
        assert!(cat.opened && cat.seconds.is_some_and(|seconds| seconds < 1.0), "{cat:?}");
        assert!(!raccoon.opened && raccoon.decision.is_some(), "{raccoon:?}");
        let broken = folder.path().join("broken.jpg");
        std::fs::write(&broken, "no picture").unwrap();
        let error = format!("{:#}", visit(&config, &classifier, &broken).unwrap_err());
        assert!(error.contains("broken.jpg"), "{error}");
    }
}
