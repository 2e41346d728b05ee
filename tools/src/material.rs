//! Data set, negatives and their features, brought together for training and evaluation.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use pawgate::vision::{Exposure, Preprocess, ResizeRule, Sharpening};

use crate::backend::Device;
use crate::conditions::Condition;
use crate::data::{Negative, PetSet, load_negatives};
use crate::features::{Extractor, View};
use crate::folds;
use crate::train::calibrate::Calibration;
use crate::train::{Examples, FOLDS, HeadRecord, Method, OutOfFold, TrainingRecord};

/// Where the pictures are and how they are looked at.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// Oxford-IIIT Pet layout: `images/` and `annotations/trainval.txt`, `annotations/test.txt`.
    #[arg(long, value_name = "DIR", required_unless_present = "classes")]
    pub data: Option<PathBuf>,
    /// Your own animals instead: a folder of pictures for each, `cat/NAME/` and `dog/NAME/`.
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub classes: Option<PathBuf>,
    /// Pictures without a pet; each folder below is a category.
    #[arg(long, value_name = "DIR")]
    pub negatives: PathBuf,
    /// Where features are kept between runs.
    #[arg(long, value_name = "DIR", default_value = "work/cache")]
    pub cache: PathBuf,
    /// How a picture becomes a square.
    #[arg(long, value_enum, default_value_t = Resize::Crop)]
    pub resize: Resize,
}

/// Names of the resize rules on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Resize {
    /// Short side to 256 pixels, central 224×224.
    Crop,
    /// The whole picture squeezed to 224×224, as in the paper.
    Plain,
}

impl DataArgs {
    /// The labelled pictures that were asked for.
    ///
    /// # Errors
    /// See [`PetSet::load`] and [`PetSet::of_folders`].
    pub fn set(&self) -> anyhow::Result<PetSet> {
        match (&self.data, &self.classes) {
            (Some(data), _) => PetSet::load(data),
            (None, Some(classes)) => PetSet::of_folders(classes),
            (None, None) => bail!("there is neither --data nor --classes"),
        }
    }

    /// The pre-processing that was asked for.
    pub fn preprocess(&self) -> Preprocess {
        let preprocess = Preprocess::imagenet(match self.resize {
            Resize::Crop => ResizeRule::ShortSideCrop { short_side: 256 },
            Resize::Plain => ResizeRule::Plain,
        });
        Preprocess { exposure: Some(Exposure::DUSK), sharpening: Some(Sharpening::DEFOCUS), ..preprocess }
    }
}

/// The pictures that could be read, with their features.
#[derive(Debug)]
pub struct Material {
    /// The data set as it was found.
    pub set: PetSet,
    /// Features, classes, strata, groups.
    pub examples: Examples,
    /// Files in the order of `examples`.
    pub paths: Vec<PathBuf>,
    /// Names of the folders of negatives.
    pub categories: Vec<String>,
    /// Category of each negative, an index into `categories`.
    pub negative_categories: Vec<usize>,
    /// Pictures that could not be decoded.
    pub broken: usize,
}

impl Material {
    /// Loads lists and folders and extracts the features of both views, and of the pets under each of `conditions`, on `device`.
    ///
    /// # Errors
    /// See [`DataArgs::set`], [`load_negatives`], [`Extractor::extract`]; also when a class or the negatives consist of
    /// broken pictures only.
    pub fn load(args: &DataArgs, network: &Path, conditions: &[Condition], device: Device) -> anyhow::Result<Self> {
        let set = args.set()?;
        let negatives = load_negatives(&args.negatives)?;
        log::info!(
            "{} of {} listed trainval pictures are present ({} are not); {} negatives; {} of {} test pictures",
            set.trainval.pictures.len(),
            set.trainval.listed,
            set.trainval.missing(),
            negatives.len(),
            set.test.pictures.len(),
            set.test.listed
        );
        let extractor = Extractor::open(network, &args.preprocess(), &args.cache, device)?;
        let pets: Vec<&Path> = set.trainval.pictures.iter().map(|p| p.path.as_path()).collect();
        let others: Vec<&Path> = negatives.iter().map(|n| n.path.as_path()).collect();
        let mut views = View::BOTH.to_vec();
        views.extend(conditions.iter().map(|&condition| View::Under(condition)));
        let pet_features = extractor.extract("features of pets", &pets, &views)?;
        let negative_features = extractor.extract("features of negatives", &others, &View::BOTH)?;
        let broken = pet_features.broken + negative_features.broken;
        log::debug!("{} views were not in the cache", pet_features.computed + negative_features.computed);
        Self::join(set, &negatives, pet_features.views, negative_features.views, broken)
    }

    fn join(
        set: PetSet,
        negatives: &[Negative],
        pets: Vec<Option<Vec<Vec<f32>>>>,
        others: Vec<Option<Vec<Vec<f32>>>>,
        broken: usize,
    ) -> anyhow::Result<Self> {
        let class_count = set.labels.len();
        let readable = negatives.iter().zip(&others).filter(|(_, views)| views.is_some());
        let mut categories: Vec<String> = readable.map(|(n, _)| n.category.clone()).collect();
        categories.sort();
        categories.dedup();
        let mut material = Self {
            examples: Examples { views: vec![], door: vec![], classes: vec![], strata: vec![], groups: vec![], class_count },
            paths: vec![],
            categories,
            negative_categories: vec![],
            broken,
            set,
        };
        let examples = &mut material.examples;
        for (picture, views) in material.set.trainval.pictures.iter().zip(pets) {
            if let Some(mut views) = views {
                examples.door.push(views.split_off(View::BOTH.len()));
                examples.views.push(views);
                examples.classes.push(picture.class);
                examples.strata.push(picture.class);
                material.paths.push(picture.path.clone());
            }
        }
        for (negative, views) in negatives.iter().zip(others) {
            if let Some(views) = views {
                let category = material.categories.binary_search(&negative.category).expect("collected above");
                examples.views.push(views);
                examples.strata.push(class_count + category);
                material.negative_categories.push(category);
                material.paths.push(negative.path.clone());
            }
        }
        for (class, label) in material.set.labels.iter().enumerate() {
            let readable = examples.classes.contains(&class);
            readable.then_some(()).with_context(|| format!("not one picture of {} can be read", label.name))?;
        }
        let views: Vec<&[Vec<f32>]> = examples.views.iter().map(Vec::as_slice).collect();
        examples.groups = folds::duplicate_groups(&views);
        let (pets, others) = (examples.classes.len(), material.negative_categories.len());
        ensure!(class_count >= 2, "there is one class only; a breed needs another to be told from");
        ensure!(
            pets >= 2 * FOLDS && others >= FOLDS,
            "{pets} readable pets and {others} negatives are too few for {FOLDS} folds: at least {} and {FOLDS} are needed",
            2 * FOLDS
        );
        let groups = |range: std::ops::Range<usize>| examples.groups[range].iter().collect::<HashSet<_>>().len();
        let distinct = groups(0..pets).min(groups(pets..pets + others));
        ensure!(
            distinct >= FOLDS,
            "all but {distinct} of the pictures are near duplicates; {FOLDS} folds need {FOLDS} different ones"
        );
        Ok(material)
    }

    /// The record of a head that was found with these pictures: with those of which `unseen` says something, of which `calibration`
    /// came.
    pub fn record(
        &self,
        preprocess: Preprocess,
        network_sha256: String,
        method: Method,
        calibration: Calibration,
        unseen: &OutOfFold,
    ) -> HeadRecord {
        let pets = unseen.breed.iter().filter(|logits| !logits.is_empty()).count();
        HeadRecord {
            labels: self.set.labels.clone(),
            preprocess,
            breed_temperature: calibration.breed_temperature,
            pet_temperature: calibration.pet_temperature,
            gate: calibration.gate,
            network_sha256,
            method,
            training: TrainingRecord {
                pets,
                pets_missing: self.set.trainval.missing(),
                negatives: unseen.pet.len() - pets,
                broken: self.broken,
                near_duplicates: self.near_duplicates(),
                cross_validated_top1: calibration.top1,
            },
        }
    }

    /// Number of pictures that are near duplicates of an earlier one.
    pub fn near_duplicates(&self) -> usize {
        self.examples.groups.iter().enumerate().filter(|(i, g)| i != *g).count()
    }
}
