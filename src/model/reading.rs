//! From scores to an answer: probabilities, thresholds, verdict.

use serde::Serialize;

use super::Scores;
use super::metadata::{Metadata, Species};
use crate::vision::quality::Flaw;

/// Probability that the species of the likeliest label must have before it is named. Breeds of one species are often
/// confused with each other (which a door can live with), cat and dog hardly ever: where they are, the picture is unclear.
pub const MIN_SPECIES_PROBABILITY: f32 = 0.8;

/// What one picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// A pet, of a species that is told apart clearly.
    #[serde(rename = "animal")]
    Animal,
    /// No pet.
    #[serde(rename = "no animal")]
    NoAnimal,
    /// The gate or the species is undecided.
    #[serde(rename = "unknown")]
    Unknown,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Animal => "animal",
            Self::NoAnimal => "no animal",
            Self::Unknown => "unknown",
        })
    }
}

/// Why a picture is [`Verdict::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// There is too little to see.
    Flaw(Flaw),
    /// The gate lies between its thresholds.
    Gate,
    /// There is a pet, but cat and dog are both likely.
    Species,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flaw(flaw) => flaw.fmt(f),
            Self::Gate => f.pad("perhaps a pet"),
            Self::Species => f.pad("cat or dog"),
        }
    }
}

/// A label with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Name of the label.
    pub breed: String,
    /// Probability given that a pet is in the picture, 0…1.
    pub p: f32,
}

/// One picture's scores, read at the model's thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What the picture shows.
    pub verdict: Verdict,
    /// Why the verdict is [`Verdict::Unknown`]; `None` otherwise.
    pub doubt: Option<Doubt>,
    /// Species of the likeliest label, whatever the verdict.
    pub species: Species,
    /// Probability of that species given a pet: the sum over all its labels, 0…1.
    pub species_p: f32,
    /// Probability that a pet is in the picture, 0…1.
    pub pet: f32,
    /// The likeliest labels, likeliest first; never empty.
    pub top: Vec<Candidate>,
}

impl Reading {
    /// # Panics
    /// When `scores` holds another number of breeds than `metadata` labels; [`super::Classifier`] checks that at load.
    pub(super) fn new(scores: &Scores, metadata: &Metadata, top: usize) -> Self {
        assert_eq!(scores.breed.len(), metadata.labels.len());
        let probabilities = softmax(&scores.breed);
        let pet = sigmoid(scores.pet);
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        // Equal probabilities keep the order of the labels.
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let species = metadata.labels[order[0]].species;
        let of_species = metadata.labels.iter().zip(&probabilities).filter(|(label, _)| label.species == species);
        let species_p = of_species.map(|(_, p)| p).sum::<f32>();
        let candidate = |&index: &usize| Candidate { breed: metadata.labels[index].name.clone(), p: probabilities[index] };
        let (verdict, doubt) = if let Some(flaw) = scores.flaw {
            (Verdict::Unknown, Some(Doubt::Flaw(flaw)))
        } else if pet < metadata.gate.reject {
            (Verdict::NoAnimal, None)
        } else if pet < metadata.gate.accept {
            (Verdict::Unknown, Some(Doubt::Gate))
        } else if species_p < MIN_SPECIES_PROBABILITY {
            (Verdict::Unknown, Some(Doubt::Species))
        } else {
            (Verdict::Animal, None)
        };
        Self { verdict, doubt, species, species_p, pet, top: order.iter().take(top.max(1)).map(candidate).collect() }
    }

    /// The likeliest label.
    pub fn best(&self) -> &Candidate {
        &self.top[0]
    }
}

/// Softmax with the maximum subtracted first, so that no exponential overflows.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|l| (l - max).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Logistic function.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gate, Label, Provenance};
    use crate::vision::{Preprocess, ResizeRule};

    fn metadata() -> Metadata {
        let label = |name: &str, species| Label { name: name.into(), species };
        Metadata {
            labels: vec![label("tabby", Species::Cat), label("pug", Species::Dog), label("sphynx", Species::Cat)],
            preprocess: Preprocess::imagenet(ResizeRule::Plain),
            gate: Gate { accept: 0.9, reject: 0.5, pets_accepted: 0.98, negatives_accepted: 0.01, chosen_by: "a test".into() },
            provenance: Provenance {
                tool_version: "0".into(),
                weights: vec![],
                training: serde_json::Value::Null,
                quantisation: serde_json::Value::Null,
            },
        }
    }

    fn read(breed: [f32; 3], pet: f32) -> Reading {
        Reading::new(&Scores { breed: breed.to_vec(), pet, embedding: vec![], flaw: None }, &metadata(), 2)
    }

    #[test]
    fn the_gate_has_three_answers() {
        let clear_cat = [9.0, 0.0, 1.0];
        assert_eq!(read(clear_cat, 5.0).verdict, Verdict::Animal);
        assert_eq!(read(clear_cat, 1.0).doubt, Some(Doubt::Gate), "0.73 lies between reject and accept");
        assert_eq!(read(clear_cat, -1.0).verdict, Verdict::NoAnimal);
    }

    #[test]
    fn a_flawed_picture_is_unknown_whatever_the_scores() {
        for pet in [-9.0, 9.0] {
            let scores = Scores { breed: vec![9.0, 0.0, 1.0], pet, embedding: vec![], flaw: Some(Flaw::TooDark) };
            let reading = Reading::new(&scores, &metadata(), 1);
            assert_eq!((reading.verdict, reading.doubt), (Verdict::Unknown, Some(Doubt::Flaw(Flaw::TooDark))));
        }
    }

    #[test]
    fn two_breeds_of_a_species_share_its_probability() {
        let reading = read([4.0, 0.0, 4.0], 5.0);
        assert_eq!((reading.verdict, reading.species), (Verdict::Animal, Species::Cat));
        assert!(reading.best().p < 0.5 && reading.species_p > 0.98);
        assert_eq!(reading.top.iter().map(|c| c.breed.as_str()).collect::<Vec<_>>(), ["tabby", "sphynx"]);
    }

    #[test]
    fn cat_or_dog_is_unknown() {
        assert_eq!(read([3.0, 3.0, -9.0], 5.0).doubt, Some(Doubt::Species));
        // The likeliest label is a dog, but the two cats together are as likely.
        let split = read([2.0, 2.5, 2.0], 5.0);
        assert_eq!((split.verdict, split.species, split.best().breed.as_str()), (Verdict::Unknown, Species::Dog, "pug"));
    }

    #[test]
    fn softmax_survives_large_logits() {
        let p = softmax(&[1000.0, 999.0]);
        assert!((p[0] - 0.731_058_6).abs() < 1e-5 && (p[0] + p[1] - 1.0).abs() < 1e-6);
    }
}
