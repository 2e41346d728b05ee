//! Telling single animals apart: prototypes of enrolled animals in the network's feature space, each with a radius beyond which
//! an animal is a stranger.
//!
//! | module | does |
//! |---|---|
//! | [`feature`] | embedding → direction that can be compared |
//! | [`learn`] | pictures → prototypes, rivals, radius; and what they are worth on pictures left out |
//! | [`interval`] | how far a counted share can be trusted |
//! | [`Roster`] | all pictures of a file: what `enroll` and `forget` change |
//! | [`file`](mod@file) | the file on disk |
//!
//! [`Individuals`] is what a running door needs: it recognises, and it says ([`Individuals::evidence`]) whether a rule may
//! *allow* by a name. The figures behind that come from the enrolled pictures, so they are worth what those are worth: pictures
//! taken by the door's own camera on several days tell about the door, an album does not. Pictures of one stranger are not
//! independent of each other, and the interval takes them for independent. What a rule does with a name does not belong here.

mod error;
pub mod feature;
pub mod file;
pub mod interval;
pub mod learn;
mod roster;

use std::path::{Path, PathBuf};

pub use error::{FeatureError, IndividualsError};
pub use roster::{Animal, ModelIdentity, Owner, Picture, Roster};

use crate::model::Species;
use crate::policy::Individual;
use feature::similarity;
use learn::{Figures, MARGIN};

/// Where enrolled animals are kept unless something else is said.
pub const DEFAULT_FILE: &str = "/var/lib/pawgate/individuals.safetensors";

/// What enrolled animals must have shown before a rule may allow by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// File that holds them.
    pub file: PathBuf,
    /// Least number of pictures.
    pub min_pictures: usize,
    /// Least share of an animal's own pictures that are recognised when left out, 0…1.
    pub min_accepted: f32,
    /// Upper end of the 95 % interval of the share of strangers that may be taken for the animal, 0…1.
    pub max_strangers: f32,
}

impl Default for Settings {
    /// Ten pictures, 60 % of them recognised, at most 10 % of the strangers: 36 pictures of strangers, none taken for the
    /// animal.
    fn default() -> Self {
        Self { file: DEFAULT_FILE.into(), min_pictures: 10, min_accepted: 0.6, max_strangers: 0.1 }
    }
}

/// Enrolled animals, ready to be recognised. Immutable; share it between threads.
#[derive(Debug, Clone, Default)]
pub struct Individuals {
    embedding_len: usize,
    animals: Vec<Known>,
    /// Directions of strangers, one after the other.
    strangers: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Known {
    name: String,
    species: Species,
    /// Directions of its prototypes, one after the other.
    prototypes: Vec<f32>,
    /// Its rivals among the strangers.
    rivals: Vec<usize>,
    radius: f32,
    figures: Figures,
}

impl Individuals {
    /// Nobody is enrolled, nobody is recognised.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Reads the enrolled animals for a model.
    ///
    /// # Errors
    /// [`IndividualsError`]; nothing is loaded half, and animals that were enrolled with another model are not loaded.
    pub fn load(path: &Path, model: &ModelIdentity) -> Result<Self, IndividualsError> {
        Ok(Self::from_roster(&Roster::load(path, model)?))
    }

    /// The animals of a roster, as they were learnt last.
    pub fn from_roster(roster: &Roster) -> Self {
        let animals = roster.animals().iter().map(|animal| Known {
            name: animal.name.clone(),
            species: animal.species,
            prototypes: animal.pictures.iter().flat_map(|picture| picture.feature.iter().copied()).collect(),
            rivals: animal.rivals.clone(),
            radius: animal.radius,
            figures: animal.figures,
        });
        Self {
            embedding_len: roster.model().embedding_len,
            animals: animals.collect(),
            strangers: roster.strangers().iter().flat_map(|picture| picture.feature.iter().copied()).collect(),
        }
    }

    /// Names of the enrolled animals, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.animals.iter().map(|animal| animal.name.as_str())
    }

    /// Whom an embedding ([`crate::model::Scores::embedding`]) shows: the animal whose nearest prototype lies within its radius
    /// and is nearer by [`MARGIN`] than everybody else's and than every rival. None is a stranger, and so is whatever is not
    /// finite, zero or of another length.
    ///
    /// The caller has seen that the picture shows an animal at all.
    pub fn recognise(&self, embedding: &[f32]) -> Option<Individual> {
        if self.animals.is_empty() {
            return None;
        }
        let mut query = Vec::with_capacity(self.embedding_len);
        feature::feature(embedding, self.embedding_len, &mut query).ok()?;
        let nearest = |rows: &[f32]| {
            rows.chunks_exact(self.embedding_len).map(|row| similarity(&query, row)).fold(f32::NEG_INFINITY, f32::max)
        };
        let (mut best, mut second) = (None, f32::NEG_INFINITY);
        for animal in &self.animals {
            let likeness = nearest(&animal.prototypes);
            match best {
                Some((_, first)) if likeness <= first => second = second.max(likeness),
                _ => second = best.replace((animal, likeness)).map_or(second, |(_, first)| first.max(second)),
            }
        }
        let (animal, likeness) = best?;
        let row = |&rival: &usize| self.strangers.get(rival * self.embedding_len..(rival + 1) * self.embedding_len);
        let rival = animal.rivals.iter().filter_map(row).map(nearest).fold(second, f32::max);
        (likeness >= animal.radius && likeness - rival >= MARGIN)
            .then(|| Individual { name: animal.name.clone(), similarity: likeness })
    }

    /// What has been shown about each animal, and what is missing before a rule may allow by its name; in alphabetical order.
    pub fn evidence(&self, settings: &Settings) -> Vec<Enrolled> {
        self.animals.iter().map(|animal| Enrolled::new(animal, settings)).collect()
    }
}

/// What has been shown about one animal.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolled {
    /// Its name.
    pub name: String,
    /// Its species.
    pub species: Species,
    /// Its pictures; near duplicates count once.
    pub pictures: usize,
    /// Share of them that are recognised when they are left out, 0…1.
    pub accepted: f32,
    /// Pictures of other animals of its species.
    pub strangers: usize,
    /// Those of them that are taken for it when they are left out.
    pub taken: usize,
    /// Upper end of the 95 % interval of the share of strangers taken for it, 0…1.
    pub strangers_upper: f32,
    /// Least number of further pictures before a rule may allow by the name, its own and strangers' together; `None` when
    /// nothing is missing.
    pub needs_more: Option<usize>,
    /// Own pictures among them, if all of these are recognised.
    pub needs_own: usize,
    /// Strangers' pictures among them, if none of these is taken for it; `None` when no number would do.
    pub needs_strangers: Option<usize>,
    why: Option<String>,
}

impl Enrolled {
    fn new(animal: &Known, settings: &Settings) -> Self {
        let Figures { pictures, recognised, strangers, taken } = animal.figures;
        let accepted = recognised as f32 / pictures.max(1) as f32;
        let upper = interval::interval(taken, strangers).1 as f32;
        let few = pictures < settings.min_pictures;
        // Written so that a limit that is no number is never met.
        let unlike = !matches!(accepted.partial_cmp(&settings.min_accepted), Some(o) if o.is_ge());
        let confused = !matches!(upper.partial_cmp(&settings.max_strangers), Some(o) if o.is_le());
        let needs_own = own_needed(animal.figures, settings);
        let least = interval::least_total(taken, f64::from(settings.max_strangers));
        let needs_strangers = if confused { least.map(|total| total.saturating_sub(strangers).max(1)) } else { Some(0) };
        let mut enrolled = Self {
            name: animal.name.clone(),
            species: animal.species,
            pictures,
            accepted,
            strangers,
            taken,
            strangers_upper: upper,
            needs_more: (few || unlike || confused).then(|| (needs_own + needs_strangers.unwrap_or(0)).max(1)),
            needs_own,
            needs_strangers,
            why: None,
        };
        enrolled.why = enrolled.needs_more.is_some().then(|| enrolled.explain(unlike, settings));
        enrolled
    }

    /// Why a rule may not allow by this name, and how many pictures are missing; `None` when it may.
    pub fn refusal(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn explain(&self, unlike: bool, settings: &Settings) -> String {
        let Self { name, species, pictures, accepted, strangers, taken, strangers_upper, needs_own, .. } = self;
        let mut parts = Vec::new();
        if *needs_own > 0 {
            let reason = if unlike && *pictures > 0 {
                format!(
                    "{} % of {pictures} recognised when left out, {} % are required",
                    whole(*accepted),
                    whole(settings.min_accepted)
                )
            } else {
                format!("there are {pictures} of at least {}", settings.min_pictures)
            };
            parts.push(format!("{needs_own} more {} of {name} ({reason})", plural(*needs_own)));
        }
        let seen = format!(
            "{taken} of {strangers} taken for {name}, so up to {:.1} % may be; {:.1} % are allowed",
            strangers_upper * 100.0,
            settings.max_strangers * 100.0
        );
        match self.needs_strangers {
            Some(0) => {}
            Some(more) => parts.push(format!("{more} more {} of other {species}s ({seen})", plural(more))),
            None => parts.push(format!("a larger share of strangers allowed, no number of pictures shows so little ({seen})")),
        }
        format!("a rule cannot allow by the name `{name}` yet; it needs {}", parts.join(", and "))
    }
}

/// Pictures of its own that an animal still needs, if all of them are recognised.
fn own_needed(figures: Figures, settings: &Settings) -> usize {
    let share = f64::from(settings.min_accepted);
    let short = share * figures.pictures as f64 - figures.recognised as f64;
    // (recognised + n) / (pictures + n) ≥ share; at a share of 1 no number of further pictures mends one that failed.
    let for_share = if short <= 1e-6 { 0 } else { (short / (1.0 - share).max(1e-3)).ceil() as usize };
    for_share.max(settings.min_pictures.saturating_sub(figures.pictures))
}

fn whole(share: f32) -> u32 {
    (share * 100.0).floor() as u32
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "picture" } else { "pictures" }
}

#[cfg(test)]
mod tests;
