//! Invented figures for tests and for looking at the page. No number here was measured.

use super::*;
use crate::stats::{Spread, calibration_bins, roc, thin};

/// The classes of the Oxford-IIIT Pet data set; cats first here.
const CATS: [&str; 12] = [
    "Abyssinian",
    "Bengal",
    "Birman",
    "Bombay",
    "British_Shorthair",
    "Egyptian_Mau",
    "Maine_Coon",
    "Persian",
    "Ragdoll",
    "Russian_Blue",
    "Siamese",
    "Sphynx",
];
const DOGS: [&str; 25] = [
    "american_bulldog",
    "american_pit_bull_terrier",
    "basset_hound",
    "beagle",
    "boxer",
    "chihuahua",
    "english_cocker_spaniel",
    "english_setter",
    "german_shorthaired",
    "great_pyrenees",
    "havanese",
    "japanese_chin",
    "keeshond",
    "leonberger",
    "miniature_pinscher",
    "newfoundland",
    "pomeranian",
    "pug",
    "saint_bernard",
    "samoyed",
    "scottish_terrier",
    "shiba_inu",
    "staffordshire_bull_terrier",
    "wheaten_terrier",
    "yorkshire_terrier",
];

/// Numbers from 0 to 1 that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    /// About normal, mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }

    fn below(&mut self, count: usize) -> usize {
        (self.share() * count as f64) as usize % count.max(1)
    }
}

fn spread(mean: f64, sd: f64) -> Option<Spread> {
    Some(Spread { mean, sd })
}

/// Figures as `evaluate` might write them, for `classes` classes.
pub fn data(classes: usize) -> Data {
    let mut dice = Dice::new(classes as u64);
    let names = names(classes);
    let counts = counts(&names, &mut dice);
    Data {
        title: "Oxford pets: ResNet50 and MobileNetV2 fused".into(),
        summary: summary(),
        accuracy: Some(accuracy()),
        training: training(),
        classes: class_rows(&names, &counts),
        examples: (0..12).map(|i| example(&names, i, &mut dice)).collect(),
        confusion: Some(confusion(&names, counts, &mut dice)),
        gate: Some(gate(&mut dice)),
        calibration: Some(calibration(&mut dice)),
        int8: Some(int8(&mut dice)),
        conditions: conditions(),
        doors: doors(),
        left_out: doors().into_iter().map(|door| Door { openings: 3 * door.openings, ..door }).collect(),
        let_in: Some(Door { name: "pets".into(), events: 739, openings: 713 }),
        backends: backends(),
        reproduction: Some(reproduction()),
    }
}

fn names(classes: usize) -> Vec<String> {
    let known = CATS.iter().chain(&DOGS).map(|n| (*n).to_owned());
    known.chain((1..).map(|i| format!("breed_{i}"))).take(classes).collect()
}

fn species(name: &str) -> Option<Species> {
    match name {
        name if CATS.contains(&name) => Some(Species::Cat),
        name if DOGS.contains(&name) => Some(Species::Dog),
        _ => None,
    }
}

fn counts(names: &[String], dice: &mut Dice) -> Vec<Vec<u64>> {
    let classes = names.len();
    let mut counts = vec![vec![0; classes]; classes];
    for (truth, row) in counts.iter_mut().enumerate() {
        let skill = 0.80 + 0.19 * dice.share();
        let rival = (truth + 1 + dice.below(3)) % classes;
        for _ in 0..(88 + dice.below(13)) {
            let said = match dice.share() {
                s if s < skill => truth,
                s if s < skill + (1.0 - skill) * 0.7 => rival,
                _ => dice.below(classes),
            };
            row[said] += 1;
        }
    }
    counts
}

fn class_rows(names: &[String], counts: &[Vec<u64>]) -> Vec<Class> {
    let row = |(i, name): (usize, &String)| Class {
        name: name.clone(),
        species: species(name),
        pictures: counts[i].iter().sum(),
        right: counts[i][i] as f64,
    };
    names.iter().enumerate().map(row).collect()
}

fn confusion(names: &[String], counts: Vec<Vec<u64>>, dice: &mut Dice) -> Confusion {
    let mut confusion = Confusion { names: names.into(), counts, basis: "seed 1, out of fold".into(), pairs: vec![] };
    if names.len() > 30 {
        for (truth, predicted) in [(25, 34), (8, 2), (13, 12)] {
            let mut wrong = |i: usize| Example {
                truth: Some(names[truth].clone()),
                predicted: names[predicted].clone(),
                probability: Some(0.4 + 0.5 * dice.share()),
                ..example(names, i, &mut Dice::new(i as u64 + 99))
            };
            let examples = (0..3).map(|i| wrong(truth * 3 + i)).collect();
            let of = confusion.counts[truth].iter().sum();
            confusion.pairs.push(Pair {
                truth: names[truth].clone(),
                predicted: names[predicted].clone(),
                pictures: 12.4,
                of,
                examples,
            });
        }
    }
    confusion
}

/// A picture with something round on a coloured ground.
fn thumbnail(seed: u64) -> Thumbnail {
    let mut dice = Dice::new(seed + 7);
    let mut shade = || [0; 3].map(|_| 60.0 + 150.0 * dice.share());
    let (ground, coat) = (shade(), shade());
    let (width, height) = if seed.is_multiple_of(3) { (64, 48) } else { (48, 64) };
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) / f64::from(width) - 0.5, f64::from(y) / f64::from(height) - 0.55);
        let inside = dx * dx + dy * dy < 0.09;
        let light = 1.0 - 0.5 * f64::from(y) / f64::from(height);
        image::Rgb(if inside { coat } else { ground }.map(|c| (c * light) as u8))
    });
    Thumbnail::of(&picture).expect("has pixels")
}

fn example(names: &[String], i: usize, dice: &mut Dice) -> Example {
    let truth = (i * 5 + 3) % names.len();
    let right = !i.is_multiple_of(4);
    Example {
        file: format!("{}_{}.jpg", names[truth], 10 + i),
        thumbnail: Some(thumbnail(i as u64)),
        truth: Some(names[truth].clone()),
        predicted: names[if right { truth } else { (truth + 1) % names.len() }].clone(),
        probability: Some(if right { 0.7 + 0.3 * dice.share() } else { 0.3 + 0.4 * dice.share() }),
    }
}

fn summary() -> Summary {
    let origin =
        |what: &str, source: &str, licence: &str| Origin { what: what.into(), source: source.into(), licence: licence.into() };
    Summary {
        model: Some(File {
            name: "pawgate-int8.onnx".into(),
            sha256: "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069".into(),
            bytes: Some(29_412_352),
        }),
        tool: "pawgate-tools 0.1.0".into(),
        date: "2026-11-24".into(),
        pets: Some(3669),
        negatives: Some(5120),
        missing: Some(11),
        broken: Some(3),
        near_duplicates: Some(46),
        folds: Some(5),
        seeds: vec![1, 2, 3, 4, 5],
        origins: vec![
            origin("ResNet50 weights", "https://example.org/resnet50", "Apache-2.0"),
            origin("MobileNetV2 weights", "https://example.org/mobilenetv2", "BSD-3-Clause"),
            origin("Pictures of pets", "Oxford-IIIT Pet, Parkhi et al. 2012", "CC BY-SA 4.0"),
        ],
        notes: vec![
            "These figures are invented: they show what the page looks like.".into(),
            "Both backbones were trained on ImageNet, which has many of these breeds; other breeds will do worse.".into(),
        ],
    }
}

fn accuracy() -> Accuracy {
    let row = |name: &str, top1: f64| Network {
        name: name.into(),
        ships: name == "fused, int8",
        top1_micro: spread(top1, 0.0022),
        top1_macro: spread(top1 - 0.0013, 0.0024),
        top5: spread(0.9 + top1 / 10.0 + 0.004, 0.0007),
    };
    let paired = |a: &str, b: &str, only_a, only_b| Paired {
        a: a.into(),
        b: b.into(),
        only_a,
        only_b,
        pictures: 3669,
        basis: "seed 1, out of fold".into(),
    };
    Accuracy {
        rows: vec![
            row("ResNet50 alone, fp32", 0.9141),
            row("MobileNetV2 alone, fp32", 0.8902),
            row("fused, fp32", 0.9274),
            row("ResNet50 alone, int8", 0.9128),
            row("MobileNetV2 alone, int8", 0.8857),
            row("fused, int8", 0.9262),
        ],
        claim: Some(Claim { low: 0.85, high: 0.90, source: "the paper".into() }),
        paired: vec![paired("fused, fp32", "ResNet50 alone, fp32", 118, 69), paired("fused, int8", "fused, fp32", 17, 21)],
    }
}

fn training() -> Vec<Epoch> {
    let epoch = |epoch: u32| {
        let left = (-0.9 * f64::from(epoch)).exp();
        Epoch {
            epoch,
            train_loss: Some(0.21 + 2.6 * left),
            held_out_loss: Some(0.27 + 1.7 * left),
            train_accuracy: Some(0.948 - 0.5 * left),
            held_out_accuracy: Some(0.929 - 0.25 * left),
        }
    };
    (1..=5).map(epoch).collect()
}

fn gate(dice: &mut Dice) -> Gate {
    let pets: Vec<f64> = (0..3600).map(|_| 5.0 + 1.8 * dice.normal()).collect();
    let kinds = [
        ("cars", -5.5, 900),
        ("foxes", -0.6, 300),
        ("people", -4.2, 1400),
        ("raccoons", -0.1, 220),
        ("toys", -1.6, 500),
        ("yards", -5.0, 1800),
    ];
    let scores: Vec<(&str, Vec<f64>)> =
        kinds.iter().map(|&(name, mean, n)| (name, (0..n).map(|_| mean + 1.5 * dice.normal()).collect())).collect();
    let all: Vec<f64> = scores.iter().flat_map(|(_, s)| s.clone()).collect();
    let curve = |name: &str, negatives: &[f64]| Curve {
        name: name.into(),
        negatives: negatives.len() as u64,
        points: thin(&roc(&pets, negatives), 0.001, 120, 2.1),
    };
    let accepted = |scores: &[f64]| scores.iter().filter(|s| **s >= 2.1).count() as f64 / scores.len() as f64;
    let histogram = |scores: &[f64]| {
        let mut bins = vec![0; 40];
        scores.iter().for_each(|s| bins[((s + 12.0) / 24.0 * 40.0).clamp(0.0, 39.0) as usize] += 1);
        bins
    };
    let category = |(name, scores): &(&str, Vec<f64>)| Category {
        name: (*name).into(),
        pictures: scores.len() as u64,
        plain: spread(accepted(scores), 0.0011),
        left_out: spread(accepted(scores) * 2.3 + 0.002, 0.004),
    };
    Gate {
        threshold: Some(2.1),
        reject_below: Some(-0.4),
        pets: spread(accepted(&pets), 0.0016),
        negatives: spread(accepted(&all), 0.0007),
        curves: std::iter::once(curve("all", &all)).chain(scores.iter().map(|(n, s)| curve(n, s))).collect(),
        categories: scores.iter().map(category).collect(),
        scores: Some(Histogram { low: -12.0, high: 12.0, pets: histogram(&pets), negatives: histogram(&all) }),
    }
}

fn calibration(dice: &mut Dice) -> Calibration {
    let mut answers = |bias: f64| {
        let mut answer = || {
            let p = 1.0 - 0.95 * dice.share().powi(5);
            (p, dice.share() < p - bias * 4.0 * p * (1.0 - p))
        };
        calibration_bins((0..3669).map(|_| answer()).collect::<Vec<_>>(), 15)
    };
    Calibration { temperature: Some(1.31), before: answers(0.16), after: answers(0.01) }
}

fn int8(dice: &mut Dice) -> Int8 {
    let estimator = |name: &str, agreement, top1, chosen| Estimator {
        name: name.into(),
        score_error: Some(0.02),
        agreement: Some(agreement),
        top1: Some(top1),
        chosen,
    };
    let error = |name: String, backbone: &str, error: f64| Layer {
        name,
        backbone: backbone.into(),
        error,
        weights: Some(0.3 * error),
        activations: Some(0.9 * error),
    };
    let layer = |i: usize| {
        let backbone = if i < 53 { "resnet50" } else { "mobilenetv2" };
        error(format!("{backbone}/block{}/conv{}", i / 3, i % 3), backbone, 0.004 + 0.06 * dice.share().powi(4))
    };
    let speed = |machine: &str, fp32, int8| Speed { machine: machine.into(), fp32_ms: Some(fp32), int8_ms: Some(int8) };
    Int8 {
        agreement: spread(0.9912, 0.0009),
        top1_lost: spread(0.0012, 0.0006),
        estimators: vec![
            estimator("minimum and maximum", 0.9731, 0.9188, false),
            estimator("percentile 99.99", 0.9884, 0.9251, false),
            estimator("least squared error", 0.9912, 0.9262, true),
            estimator("relative entropy", 0.9867, 0.9240, false),
        ],
        error_of: "relative error of the layer's output".into(),
        layers: (0..106).map(layer).collect(),
        backbones: vec![error("resnet50".into(), "resnet50", 0.031), error("mobilenetv2".into(), "mobilenetv2", 0.117)],
        speed: vec![
            speed("Raspberry Pi 4 (NEON)", 1240.0, 371.0),
            speed("Raspberry Pi 5 (dotprod)", 486.0, 92.4),
            speed("x86-64 (VNNI)", 61.0, 14.8),
        ],
    }
}

fn conditions() -> Vec<Condition> {
    let rows = [
        ("plain", 0.926, 0.981, 0.0061),
        ("grey", 0.871, 0.962, 0.0066),
        ("dim, quarter of the light", 0.893, 0.967, 0.0049),
        ("infrared look", 0.842, 0.941, 0.0071),
        ("blurred, sigma 2", 0.767, 0.905, 0.0132),
        ("rain", 0.889, 0.958, 0.0058),
    ];
    let row = |(name, top1, pets, negatives): (&str, f64, f64, f64)| Condition {
        name: name.into(),
        pictures: 3669,
        top1: Some(top1),
        pets_accepted: Some(pets),
        negatives_accepted: Some(negatives),
    };
    rows.map(row).into()
}

fn doors() -> Vec<Door> {
    [("cars", 900, 0), ("foxes", 300, 2), ("people", 1400, 0), ("raccoons", 220, 4), ("toys", 500, 1), ("yards", 1800, 0)]
        .map(|(name, events, openings)| Door { name: name.into(), events, openings })
        .into()
}

fn backends() -> Vec<Backend> {
    [
        ("tract, 2 cores", 11.4, 4.1),
        ("burn ndarray, 2 cores", 6.8, 4.1),
        ("burn wgpu, integrated", 41.0, 0.9),
        ("burn CUDA, H100", 2380.0, 0.08),
    ]
    .map(|(name, pictures, seconds)| Backend {
        name: name.into(),
        pictures_per_second: Some(pictures),
        seconds_per_epoch: Some(seconds),
    })
    .into()
}

fn reproduction() -> Reproduction {
    let fact = |name: &str, value: &str| Fact { name: name.into(), value: value.into() };
    Reproduction {
        command: "pawgate-tools evaluate --network fused.onnx --model pawgate-int8.onnx --pets oxford-iiit-pet --negatives negatives --json evaluation.json".into(),
        facts: vec![
            fact("pawgate-tools", "0.1.0"),
            fact("rustc", "1.95.0"),
            fact("seeds", "1, 2, 3, 4, 5"),
            fact("protocol", "frozen features, dropout 0.3, 5 epochs, batch 32, Adam 0.001"),
            fact("fused.onnx", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        ],
        configuration: "[protocol]\nepochs = 5\ndropout = 0.3\nbatch = 32\n\n[preprocess]\nresize = 256\ncrop = 224\n".into(),
    }
}
