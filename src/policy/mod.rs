//! From evidence to a decision. Pure: no I/O, no clock, no log.
//!
//! What stands here answers for one picture, as `pawgate demo` shows it. The vote over frames, the owner's ordered rules and
//! the door's and feeder's state machines take its place between evidence and pin; one frame alone never moves a real latch.

pub mod door;
pub mod fault;
pub mod feeder;
pub mod rules;
pub mod vote;

use crate::model::{Doubt, Reading, Species, Verdict};

/// A pet on one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Its species.
    pub species: Species,
    /// Probability of the species given a pet, 0…1.
    pub species_p: f32,
    /// The likeliest label.
    pub breed: String,
    /// Probability of that label given a pet, 0…1.
    pub breed_p: f32,
    /// Probability that there is a pet at all, 0…1.
    pub pet: f32,
    /// The enrolled individual that it is taken for; none is a stranger.
    pub individual: Option<Individual>,
}

/// An enrolled individual that was recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Individual {
    /// Its name.
    pub name: String,
    /// Cosine similarity to its nearest prototype, −1…1.
    pub similarity: f32,
}

/// What one frame says about who stands there.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// A pet.
    Animal(Sighting),
    /// Nobody, or nobody who is a pet.
    NoAnimal,
    /// No conclusion.
    Unknown(Reason),
}

/// Why a frame allows no conclusion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The picture shows too little, or lies between thresholds.
    Unclear(Doubt),
    /// The picture could not be read or classified.
    Fault(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unclear(doubt) => doubt.fmt(f),
            Self::Fault(what) => f.pad(what),
        }
    }
}

impl From<&Reading> for Evidence {
    fn from(reading: &Reading) -> Self {
        match reading.verdict {
            Verdict::Animal => {
                let best = reading.best();
                Self::Animal(Sighting {
                    species: reading.species,
                    species_p: reading.species_p,
                    breed: best.breed.clone(),
                    breed_p: best.p,
                    pet: reading.pet,
                    individual: None,
                })
            }
            Verdict::NoAnimal => Self::NoAnimal,
            Verdict::Unknown => Self::Unknown(Reason::Unclear(reading.doubt.unwrap_or(Doubt::Gate))),
        }
    }
}

/// What the door would do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Unlock.
    Open {
        /// The rule that allowed it, in words.
        because: String,
    },
    /// Stay locked.
    StayShut {
        /// What was missing, in words.
        because: String,
    },
}

/// The demo's only rule: cats may pass. Everything else, and everything unclear, finds the door shut.
pub fn demo_rule(evidence: &Evidence) -> Decision {
    match evidence {
        Evidence::Animal(Sighting { species: Species::Cat, .. }) => Decision::Open { because: "cats may pass".into() },
        Evidence::Animal(Sighting { species, .. }) => Decision::StayShut { because: format!("no rule lets a {species} pass") },
        Evidence::NoAnimal => Decision::StayShut { because: "no pet in the picture".into() },
        Evidence::Unknown(Reason::Unclear(doubt)) => Decision::StayShut { because: format!("not sure: {doubt}") },
        Evidence::Unknown(Reason::Fault(what)) => Decision::StayShut { because: what.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cat_opens() {
        let animal = |species| {
            let breed = "any".into();
            Evidence::Animal(Sighting { species, species_p: 1.0, breed, breed_p: 1.0, pet: 1.0, individual: None })
        };
        assert!(matches!(demo_rule(&animal(Species::Cat)), Decision::Open { .. }));
        for evidence in [
            animal(Species::Dog),
            Evidence::NoAnimal,
            Evidence::Unknown(Reason::Unclear(Doubt::Species)),
            Evidence::Unknown(Reason::Fault("the camera is gone".into())),
        ] {
            assert!(matches!(demo_rule(&evidence), Decision::StayShut { .. }), "{evidence:?}");
        }
    }
}
