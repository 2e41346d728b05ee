//! All pictures of enrolled animals and of strangers: what `enroll` and `forget` change. What is learnt depends on the pictures
//! alone, never on the order in which they came.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::{FeatureError, IndividualsError};
use super::feature::feature;
use super::file;
use super::learn::{Figures, Item, Learner, MAX_PICTURES, MAX_STRANGERS, MIN_RADIUS};
use crate::model::Species;

/// The longest name, in characters.
const MAX_NAME: usize = 40;

/// Which model's features these are. Those of one model say nothing about those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    /// SHA-256 of the model file, hexadecimal.
    pub sha256: String,
    /// Length of its embedding.
    pub embedding_len: usize,
}

impl ModelIdentity {
    /// Of the model file's bytes, with its [`embedding_len`](crate::model::Classifier::embedding_len).
    pub fn new(model: &[u8], embedding_len: usize) -> Self {
        Self { sha256: sha256(model), embedding_len }
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One picture that is learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Its file name when it was enrolled, for people.
    pub file: String,
    /// SHA-256 of the picture file, hexadecimal: the same picture counts once.
    pub sha256: String,
    /// Species it shows.
    pub species: Species,
    /// Direction of its embedding, of length 1.
    pub(super) feature: Vec<f32>,
}

impl Picture {
    /// A picture from its file's bytes and its embedding ([`crate::model::Scores::embedding`]).
    ///
    /// # Errors
    /// [`FeatureError`] when the embedding says nothing.
    pub fn new(file: &str, bytes: &[u8], species: Species, embedding: &[f32]) -> Result<Self, FeatureError> {
        let mut direction = Vec::with_capacity(embedding.len());
        feature(embedding, embedding.len(), &mut direction)?;
        Ok(Self { file: file.into(), sha256: sha256(bytes), species, feature: direction })
    }
}

/// One enrolled animal.
#[derive(Debug, Clone, PartialEq)]
pub struct Animal {
    /// Its unique name.
    pub name: String,
    /// Its species.
    pub species: Species,
    /// Its pictures, in the order of their SHA-256; each is a prototype.
    pub pictures: Vec<Picture>,
    /// Numbers of the strangers that look most like it.
    pub rivals: Vec<usize>,
    /// Least similarity to the nearest prototype.
    pub radius: f32,
    /// What it showed on left-out pictures.
    pub figures: Figures,
}

/// Whose a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// An enrolled animal's.
    Animal(&'a str),
    /// A stranger's.
    Stranger,
}

/// Enrolled animals and strangers, with all their pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Roster {
    pub(super) model: ModelIdentity,
    pub(super) animals: Vec<Animal>,
    pub(super) strangers: Vec<Picture>,
}

impl Roster {
    /// Nobody, for pictures that this model looks at.
    pub fn new(model: ModelIdentity) -> Self {
        Self { model, animals: vec![], strangers: vec![] }
    }

    /// Reads a file for a model.
    ///
    /// # Errors
    /// [`IndividualsError`], among them that there is no file and that it belongs to another model.
    pub fn load(path: &Path, model: &ModelIdentity) -> Result<Self, IndividualsError> {
        let roster = Self::load_any(path)?;
        if roster.model != *model {
            let (enrolled, running) = (roster.model.sha256, model.sha256.clone());
            return Err(IndividualsError::OtherModel { path: path.to_path_buf(), enrolled, running });
        }
        Ok(roster)
    }

    /// Reads a file whatever its model: for showing and forgetting.
    ///
    /// # Errors
    /// [`IndividualsError`], among them that there is no file.
    pub fn load_any(path: &Path) -> Result<Self, IndividualsError> {
        file::read(path)
    }

    /// Writes the file anew, whole or not at all.
    ///
    /// # Errors
    /// [`IndividualsError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), IndividualsError> {
        file::write(path, self)
    }

    /// The model that made the features.
    pub fn model(&self) -> &ModelIdentity {
        &self.model
    }

    /// Enrolled animals, in alphabetical order.
    pub fn animals(&self) -> &[Animal] {
        &self.animals
    }

    /// Strangers' pictures, in the order of their SHA-256.
    pub fn strangers(&self) -> &[Picture] {
        &self.strangers
    }

    /// The enrolled animal of this name.
    pub fn animal(&self, name: &str) -> Option<&Animal> {
        self.animals.iter().find(|animal| animal.name == name)
    }

    /// Whose picture this is, if it is known.
    pub fn owner(&self, sha256: &str) -> Option<Owner<'_>> {
        let has = |pictures: &[Picture]| pictures.iter().any(|picture| picture.sha256 == sha256);
        let animal = self.animals.iter().find(|animal| has(&animal.pictures));
        animal.map(|animal| Owner::Animal(&animal.name)).or_else(|| has(&self.strangers).then_some(Owner::Stranger))
    }

    /// Whether an animal could have this name: the rules, the journal and tables carry it.
    ///
    /// # Errors
    /// [`IndividualsError::Name`].
    pub fn check_name(&self, name: &str) -> Result<(), IndividualsError> {
        let invalid = |why| Err(IndividualsError::Name { name: name.into(), why });
        if name.is_empty() || name.chars().count() > MAX_NAME || name.trim() != name {
            return invalid("a name has 1 to 40 characters and no space at its ends");
        }
        if !name.chars().all(|c| c.is_alphanumeric() || " -_'.".contains(c)) || name.starts_with(['-', '.']) {
            return invalid("a name has letters, digits, spaces and -_'. only, and begins with none of - and .");
        }
        let lower = name.to_lowercase();
        if self.animals.iter().any(|animal| animal.name != name && animal.name.to_lowercase() == lower) {
            return invalid("an animal is enrolled whose name differs in capitals only");
        }
        Ok(())
    }

    /// Adds pictures to an animal, which is new or known, and learns anew about everybody. Pictures that are known already are
    /// passed over; the species is the known animal's, or that of the first picture.
    ///
    /// # Errors
    /// [`IndividualsError::Name`], [`IndividualsError::TooMany`], or an embedding of another length; nothing is changed then.
    pub fn enrol(&mut self, name: &str, pictures: Vec<Picture>) -> Result<(), IndividualsError> {
        self.check_name(name)?;
        let new = self.unknown(pictures)?;
        let known = self.animals.iter().position(|animal| animal.name == name);
        too_many(new.len() + known.map_or(0, |index| self.animals[index].pictures.len()), MAX_PICTURES)?;
        let Some(first) = new.first() else { return Ok(()) };
        let index = known.unwrap_or_else(|| {
            let figures = Figures { pictures: 0, recognised: 0, strangers: 0, taken: 0 };
            let species = first.species;
            self.animals.push(Animal {
                name: name.into(),
                species,
                pictures: vec![],
                rivals: vec![],
                radius: MIN_RADIUS,
                figures,
            });
            self.animals.len() - 1
        });
        self.animals[index].pictures.extend(new);
        self.learn();
        Ok(())
    }

    /// Adds pictures of animals that are nobody's, and learns anew about everybody.
    ///
    /// # Errors
    /// As [`Self::enrol`].
    pub fn add_strangers(&mut self, pictures: Vec<Picture>) -> Result<(), IndividualsError> {
        let new = self.unknown(pictures)?;
        too_many(new.len() + self.strangers.len(), MAX_STRANGERS)?;
        self.strangers.extend(new);
        self.learn();
        Ok(())
    }

    /// Removes an animal with all its pictures, and learns anew about the others.
    ///
    /// # Errors
    /// [`IndividualsError::Unknown`].
    pub fn forget(&mut self, name: &str) -> Result<Animal, IndividualsError> {
        let Some(index) = self.animals.iter().position(|animal| animal.name == name) else {
            let known = self.animals.iter().map(|animal| animal.name.clone()).collect();
            return Err(IndividualsError::Unknown { name: name.into(), known });
        };
        let animal = self.animals.remove(index);
        self.learn();
        Ok(animal)
    }

    /// Removes all strangers' pictures, and learns anew about everybody. Returns how many there were.
    pub fn forget_strangers(&mut self) -> usize {
        let count = self.strangers.len();
        self.strangers.clear();
        self.learn();
        count
    }

    /// Those pictures that are not known yet, each once.
    fn unknown(&self, pictures: Vec<Picture>) -> Result<Vec<Picture>, IndividualsError> {
        let mut new: Vec<Picture> = Vec::with_capacity(pictures.len());
        for picture in pictures {
            if picture.feature.len() != self.model.embedding_len {
                let why = FeatureError::Length { found: picture.feature.len(), expected: self.model.embedding_len };
                return Err(IndividualsError::Embedding { what: picture.file, why });
            }
            if self.owner(&picture.sha256).is_none() && new.iter().all(|other| other.sha256 != picture.sha256) {
                new.push(picture);
            }
        }
        Ok(new)
    }

    fn learn(&mut self) {
        self.animals.sort_by(|a, b| a.name.cmp(&b.name));
        let pictures = self.animals.iter_mut().map(|animal| &mut animal.pictures).chain([&mut self.strangers]);
        pictures.for_each(|pictures| pictures.sort_by(|a, b| a.sha256.cmp(&b.sha256)));
        let own =
            self.animals.iter().enumerate().flat_map(|(number, animal)| {
                animal.pictures.iter().map(move |picture| (Some(number), animal.species, picture))
            });
        let strangers = self.strangers.iter().map(|picture| (None, picture.species, picture));
        let items: Vec<Item<'_>> =
            own.chain(strangers).map(|(owner, species, picture)| Item { owner, species, feature: &picture.feature }).collect();
        let first_stranger = items.len() - self.strangers.len();
        let learner = Learner::new(&items);
        drop(items);
        for (number, animal) in self.animals.iter_mut().enumerate() {
            let model = learner.model(number);
            animal.rivals = model.rivals.iter().map(|rival| rival - first_stranger).collect();
            animal.radius = model.radius;
            animal.figures = learner.figures(number);
        }
    }
}

fn too_many(count: usize, limit: usize) -> Result<(), IndividualsError> {
    if count > limit { Err(IndividualsError::TooMany { count, limit }) } else { Ok(()) }
}
