//! From predictions to what a report shows.

use std::path::Path;

use anyhow::Context;
use pawgate::model::{Classifier, Species};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::events::Openings;
use super::layers::show_layers;
use super::{BEST, BEST_INT8, Contender, FUSED, FUSED_INT8, MOBILENET, Predictions, RESNET, Report, SEEDS, whole};
use crate::conditions::Condition;
use crate::files::sha256;
use crate::material::Material;
use crate::report::{self, Data, Thumbnail};
use crate::stats::{self, Spread};
use crate::train::calibrate;

/// Pictures in the grid.
const EXAMPLES: usize = 24;
/// Most confused pairs, and pictures of each.
const PAIRS: [usize; 2] = [8, 3];
/// Bins of the reliability diagram.
pub(super) const BINS: usize = 15;
/// Points of a curve of the gate, and where its axis begins.
const CURVE: (usize, f64) = (60, 1e-3);

/// Everything that was measured.
pub(super) struct Measured<'a> {
    pub report: &'a Report,
    pub material: &'a Material,
    pub contenders: &'a [Contender],
    /// By seed and contender.
    pub predictions: &'a [Vec<Predictions>],
    pub model: Option<(&'a Path, &'a Classifier)>,
}

/// A share's spread from one in percent.
fn share(percent: super::Spread) -> Option<Spread> {
    Some(Spread { mean: percent.mean / 100.0, sd: percent.sd / 100.0 })
}

impl Measured<'_> {
    /// The report's parts that an evaluation can fill.
    ///
    /// # Errors
    /// When a picture cannot be read any more.
    pub fn data(&self) -> anyhow::Result<Data> {
        let mut data = Data {
            title: "What the model is worth".into(),
            summary: self.summary()?,
            accuracy: Some(self.accuracy()),
            training: self.training(),
            classes: self.classes(),
            confusion: Some(self.confusion()?),
            examples: self.examples()?,
            gate: Some(self.gate()),
            calibration: Some(self.calibration()),
            int8: self.int8(),
            conditions: self.conditions(),
            backends: self.backends(),
            reproduction: Some(self.reproduction()?),
            ..Data::default()
        };
        if let Some(sensitivity) = &self.report.sensitivity {
            show_layers(&mut data, sensitivity);
        }
        if let Some(events) = &self.report.events {
            data.left_out = events.left_out.iter().map(door).collect();
            data.let_in = Some(door(&events.pets));
        }
        Ok(data)
    }

    fn pets(&self) -> usize {
        self.material.examples.classes.len()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.contenders.iter().position(|contender| contender.name == name)
    }

    /// The network whose single predictions are shown: the recipe's head, int8 where there is one.
    fn shown(&self) -> (usize, &'static str) {
        let of = |int8| whole(self.contenders, self.report.recipe, int8);
        let position = of(true).or(of(false)).unwrap_or_default();
        (position, self.contenders[position].name)
    }

    /// What that network says, for the first seed.
    fn said(&self) -> &Predictions {
        &self.predictions[0][self.shown().0]
    }

    fn class(&self, class: usize) -> String {
        self.material.set.labels[class].name.clone()
    }

    fn summary(&self) -> anyhow::Result<report::Summary> {
        let report = self.report;
        let file = |(path, _): &(&Path, &Classifier)| -> anyhow::Result<report::File> {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read the model {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(report::File { name, sha256: sha256(&bytes), bytes: Some(bytes.len() as u64) })
        };
        let origin = |weights: &pawgate::model::WeightsOrigin| report::Origin {
            what: format!("weights: {}", weights.architecture),
            source: weights.source.clone(),
            licence: weights.licence.clone(),
        };
        let origins = self.model.map(|(_, classifier)| classifier.metadata().provenance.weights.iter().map(origin).collect());
        let official = match (report.official_test.used, report.official_test.top1_micro) {
            (used, Some(top1)) => format!("{used} official test pictures: the model's top-1 is {top1:.2} %."),
            _ => "No official test picture was among the pictures.".into(),
        };
        Ok(report::Summary {
            model: self.model.as_ref().map(file).transpose()?,
            tool: concat!("pawgate-tools ", env!("CARGO_PKG_VERSION")).into(),
            date: jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now()).date().to_string(),
            pets: Some(report.pets as u64),
            negatives: Some(report.negatives as u64),
            missing: Some(report.pets_missing as u64),
            broken: Some(report.broken as u64),
            near_duplicates: Some(report.near_duplicates as u64),
            folds: Some(crate::train::FOLDS as u64),
            seeds: report.seeds.to_vec(),
            origins: origins.unwrap_or_default(),
            notes: vec!["Every figure is out of fold: the heads that were measured had not seen the picture.".into(), official],
        })
    }

    fn accuracy(&self) -> report::Accuracy {
        let (_, ships) = self.shown();
        let row = |row: &super::Accuracy| report::Network {
            name: row.network.into(),
            ships: row.network == ships,
            top1_micro: share(row.top1_micro),
            top1_macro: share(row.top1_macro),
            top5: share(row.top5),
        };
        let compare = |a: &'static str, b: &'static str| {
            let (first, second) = (self.position(a)?, self.position(b)?);
            let right = |contender: usize, pet: usize| {
                self.predictions[0][contender].best[pet][0] == self.material.examples.classes[pet]
            };
            let only = |x: usize, y: usize| (0..self.pets()).filter(|&pet| right(x, pet) && !right(y, pet)).count() as u64;
            Some(report::Paired {
                a: a.into(),
                b: b.into(),
                only_a: only(first, second),
                only_b: only(second, first),
                pictures: self.pets() as u64,
                basis: format!("seed {}, out of fold", SEEDS[0]),
            })
        };
        report::Accuracy {
            rows: self.report.accuracy.iter().map(row).collect(),
            claim: Some(report::Claim { low: 0.85, high: 0.90, source: "the paper".into() }),
            paired: [(FUSED, RESNET), (FUSED, MOBILENET), (FUSED_INT8, FUSED), (BEST, FUSED), (BEST_INT8, BEST)]
                .into_iter()
                .filter_map(|(a, b)| compare(a, b))
                .collect(),
        }
    }

    fn training(&self) -> Vec<report::Epoch> {
        let epochs = (1..).zip(&self.report.training);
        epochs
            .map(|(epoch, point)| report::Epoch {
                epoch,
                train_loss: Some(point.training.loss),
                held_out_loss: Some(point.held_out.loss),
                train_accuracy: Some(point.training.accuracy),
                held_out_accuracy: Some(point.held_out.accuracy),
            })
            .collect()
    }

    fn classes(&self) -> Vec<report::Class> {
        let (shown, _) = self.shown();
        let classes = &self.material.examples.classes;
        let of = |class: usize| {
            let pets = || (0..self.pets()).filter(move |&pet| classes[pet] == class);
            let right = self.predictions.iter().flat_map(|seed| pets().filter(|&pet| seed[shown].best[pet][0] == class));
            report::Class {
                name: self.class(class),
                species: Some(match self.material.set.labels[class].species {
                    Species::Cat => report::Species::Cat,
                    Species::Dog => report::Species::Dog,
                }),
                pictures: pets().count() as u64,
                right: right.count() as f64 / self.predictions.len() as f64,
            }
        };
        (0..self.material.examples.class_count).map(of).collect()
    }

    fn confusion(&self) -> anyhow::Result<report::Confusion> {
        let (shown, name) = self.shown();
        let classes = &self.material.examples.classes;
        let count = self.material.examples.class_count;
        let mut counts = vec![vec![0_u64; count]; count];
        for seed in self.predictions {
            classes.iter().zip(&seed[shown].best).for_each(|(&truth, best)| counts[truth][best[0]] += 1);
        }
        let mut pairs: Vec<(usize, usize)> =
            (0..count).flat_map(|t| (0..count).map(move |p| (t, p))).filter(|&(t, p)| t != p && counts[t][p] > 0).collect();
        pairs.sort_by_key(|&(t, p)| std::cmp::Reverse(counts[t][p]));
        let pair = |&(truth, predicted): &(usize, usize)| -> anyhow::Result<report::Pair> {
            let is_one = |&pet: &usize| classes[pet] == truth && self.said().best[pet][0] == predicted;
            let examples = (0..self.pets()).filter(is_one).take(PAIRS[1]).map(|pet| self.example(pet));
            Ok(report::Pair {
                truth: self.class(truth),
                predicted: self.class(predicted),
                pictures: counts[truth][predicted] as f64 / self.predictions.len() as f64,
                of: classes.iter().filter(|&&class| class == truth).count() as u64,
                examples: examples.collect::<anyhow::Result<_>>()?,
            })
        };
        Ok(report::Confusion {
            names: (0..count).map(|class| self.class(class)).collect(),
            pairs: pairs.iter().take(PAIRS[0]).map(pair).collect::<anyhow::Result<_>>()?,
            counts,
            basis: format!("{name}, {} seeds added up, out of fold", self.predictions.len()),
        })
    }

    /// Chosen by lot, so that they show what is usual.
    fn examples(&self) -> anyhow::Result<Vec<report::Example>> {
        let mut pets: Vec<usize> = (0..self.pets()).collect();
        pets.shuffle(&mut ChaCha8Rng::seed_from_u64(SEEDS[0]));
        pets.truncate(EXAMPLES);
        pets.into_iter().map(|pet| self.example(pet)).collect()
    }

    fn example(&self, pet: usize) -> anyhow::Result<report::Example> {
        let path = &self.material.paths[pet];
        let picture = pawgate::vision::decode::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let said = self.said();
        let best = said.best[pet][0];
        Ok(report::Example {
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            thumbnail: Some(Thumbnail::of(&picture)?),
            truth: Some(self.class(self.material.examples.classes[pet])),
            predicted: self.class(best),
            probability: Some(probabilities(&said.logits[pet], said.temperatures[pet])[best]),
        })
    }

    fn gate(&self) -> report::Gate {
        let pets = self.pets();
        let material = self.material;
        let logits: Vec<f32> = self.said().gate.iter().map(|said| said.logit).collect();
        let scores: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
        let accept = f64::from(calibrate::threshold_reached_by(&logits[..pets], calibrate::ACCEPT_TARGET));
        let of_category = |category: usize| -> Vec<f64> {
            let negatives = scores[pets..].iter().zip(&material.negative_categories);
            negatives.filter(|(_, c)| **c == category).map(|(score, _)| *score).collect()
        };
        let curve = |name: &str, negatives: &[f64]| report::Curve {
            name: name.into(),
            negatives: negatives.len() as u64,
            points: stats::thin(&stats::roc(&scores[..pets], negatives), CURVE.1, CURVE.0, accept),
        };
        let by_category = |(category, name): (usize, &String)| curve(name, &of_category(category));
        let curves =
            std::iter::once(curve("all", &scores[pets..])).chain(material.categories.iter().enumerate().map(by_category));
        let rates = self.report.gate.iter().find(|rates| rates.network == self.shown().1);
        let category = |(index, name): (usize, &String)| report::Category {
            name: name.clone(),
            pictures: of_category(index).len() as u64,
            plain: rates.and_then(|rates| share(*rates.by_category.get(name)?)),
            left_out: rates.and_then(|rates| share(*rates.left_out.get(name)?)),
        };
        report::Gate {
            threshold: Some(accept),
            reject_below: None,
            pets: rates.and_then(|rates| share(rates.pets_accepted)),
            negatives: rates.and_then(|rates| share(rates.negatives_accepted)),
            curves: curves.collect(),
            categories: material.categories.iter().enumerate().map(category).collect(),
            scores: None,
        }
    }

    fn calibration(&self) -> report::Calibration {
        let said = self.said();
        let mean = said.temperatures.iter().map(|&t| f64::from(t)).sum::<f64>() / said.temperatures.len() as f64;
        let bins = |divided| reliability(said, &self.material.examples.classes, divided);
        report::Calibration { temperature: Some(mean), before: bins(false), after: bins(true) }
    }

    fn conditions(&self) -> Vec<report::Condition> {
        let (_, shown) = self.shown();
        let rows = self.report.conditions.iter().filter(|row| row.network == shown);
        let row = |row: &super::UnderCondition| report::Condition {
            name: row.condition.map_or("plain", Condition::name).into(),
            pictures: self.pets() as u64,
            top1: Some(row.top1.mean / 100.0),
            pets_accepted: Some(row.pets_accepted.mean / 100.0),
            negatives_accepted: Some(row.negatives_accepted.mean / 100.0),
        };
        rows.map(row).collect()
    }

    fn backends(&self) -> Vec<report::Backend> {
        let backend = |speed: &super::Speed| report::Backend {
            name: speed.device.clone(),
            pictures_per_second: Some(speed.pictures_a_second),
            seconds_per_epoch: Some(speed.seconds_an_epoch),
        };
        self.report.speed.iter().map(backend).collect()
    }

    fn int8(&self) -> Option<report::Int8> {
        let [fp32, int8] = [false, true].map(|int8| {
            let name = self.contenders[whole(self.contenders, self.report.recipe, int8)?].name;
            self.report.accuracy.iter().find(|row| row.network == name)
        });
        let (fp32, int8) = (fp32?, int8?);
        Some(report::Int8 {
            agreement: self.report.int8_agreement.and_then(share),
            top1_lost: Spread::of([(fp32.top1_micro.mean - int8.top1_micro.mean) / 100.0]),
            estimators: self.model.map_or(vec![], |(_, classifier)| estimators(&classifier.metadata().provenance.quantisation)),
            ..report::Int8::default()
        })
    }

    fn reproduction(&self) -> anyhow::Result<report::Reproduction> {
        let fact = |name: &str, value: String| report::Fact { name: name.into(), value };
        let settings = serde_json::json!({ "preprocess": self.report.preprocess, "recipe": self.report.recipe, "protocol": self.report.protocol });
        let words: Vec<String> = std::env::args().skip(1).collect();
        Ok(report::Reproduction {
            command: format!("pawgate-tools {}", words.join(" ")),
            facts: vec![
                fact("seeds", self.report.seeds.map(|seed| seed.to_string()).join(", ")),
                fact("folds", crate::train::FOLDS.to_string()),
                fact("fp32 network, SHA-256", self.report.network_sha256.clone()),
            ],
            configuration: serde_json::to_string_pretty(&settings)?,
        })
    }
}

fn door(of: &Openings) -> report::Door {
    report::Door { name: of.name.clone(), events: of.events, openings: of.openings }
}

/// The range estimators that `quantize` has written into the model's description.
fn estimators(quantisation: &serde_json::Value) -> Vec<report::Estimator> {
    let tried = quantisation["tried"].as_array().into_iter().flatten();
    let estimator = |tried: &serde_json::Value| {
        let channels = if tried["equalised"] == true { ", channels equalised" } else { "" };
        let weights = if tried["reconstructed"] == true { ", weights reconstructed" } else { "" };
        Some(report::Estimator {
            name: format!("{}{channels}{weights}", tried["estimator"].as_str()?),
            chosen: tried["chosen"] == true,
            score_error: tried["score_error"].as_f64(),
            agreement: tried["agreement"].as_f64(),
            top1: None,
        })
    };
    tried.filter_map(estimator).collect()
}

/// A network's answers in bins of their probability, before or after dividing by the temperature.
pub(super) fn reliability(said: &Predictions, classes: &[usize], divided: bool) -> Vec<stats::Bin> {
    let answer = |(pet, &class): (usize, &usize)| {
        let best = said.best[pet][0];
        let temperature = if divided { said.temperatures[pet] } else { 1.0 };
        (probabilities(&said.logits[pet], temperature)[best], best == class)
    };
    stats::calibration_bins(classes.iter().enumerate().map(answer), BINS)
}

/// Softmax of the logits divided by a temperature.
fn probabilities(logits: &[f32], temperature: f32) -> Vec<f64> {
    let scaled = || logits.iter().map(|&logit| f64::from(logit / temperature));
    let largest = scaled().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scaled().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_flattens_probabilities() {
        let sharp = probabilities(&[2.0, 0.0], 1.0);
        assert!((sharp[0] - 1.0 / (1.0 + (-2.0f64).exp())).abs() < 1e-9);
        let flat = probabilities(&[200.0, 0.0], 100.0);
        assert!((flat[0] - sharp[0]).abs() < 1e-6);
    }
}
