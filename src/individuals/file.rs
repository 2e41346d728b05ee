//! The file of enrolled animals: safetensors with one tensor `features` \[n, E\] f32, and a description as JSON in its
//! metadata.
//!
//! | metadata | holds |
//! |---|---|
//! | `pawgate.individuals.version` | [`FORMAT_VERSION`]; raised when the file or the learning changes |
//! | `pawgate.individuals` | who is enrolled, which row is whose picture, what was learnt, for which model |
//! | `pawgate.individuals.sha256` | SHA-256 of the description and the tensor: a file that was changed is no evidence |
//!
//! A file is replaced whole: written beside, brought to the disk, renamed. Whatever does not fit is an error, and then nobody
//! is recognised.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::error::IndividualsError;
use super::learn::{Figures, MIN_RADIUS};
use super::roster::{Animal, ModelIdentity, Picture, Roster, sha256};
use crate::model::Species;

/// Version of the file, and of what is learnt and measured.
pub const FORMAT_VERSION: u64 = 1;
/// The most bytes a file may have: ten times what a full one has.
const MAX_BYTES: u64 = 256 << 20;

const VERSION_KEY: &str = "pawgate.individuals.version";
const DESCRIPTION_KEY: &str = "pawgate.individuals";
const CHECKSUM_KEY: &str = "pawgate.individuals.sha256";
const TENSOR: &str = "features";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    tool_version: String,
    model_sha256: String,
    animals: Vec<AnimalEntry>,
    strangers: Vec<PictureEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnimalEntry {
    name: String,
    species: Species,
    radius: f32,
    rivals: Vec<usize>,
    /// Pictures, recognised, strangers, taken.
    figures: [usize; 4],
    pictures: Vec<PictureEntry>,
}

/// Rows of the tensor follow the pictures in the order in which they stand here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PictureEntry {
    file: String,
    sha256: String,
    species: Species,
}

/// Keeps two processes from changing the files of a folder at once; ends when it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// Locks the folder of `path`, which is made when it does not exist.
///
/// # Errors
/// [`IndividualsError::Busy`] when another process holds the lock.
pub fn lock(path: &Path) -> Result<Lock, IndividualsError> {
    let folder = folder(path);
    std::fs::create_dir_all(&folder).map_err(|e| IndividualsError::io("make the folder", &folder, e))?;
    let handle = File::open(&folder).map_err(|e| IndividualsError::io("open the folder", &folder, e))?;
    match handle.try_lock() {
        Ok(()) => Ok(Lock(handle)),
        Err(std::fs::TryLockError::WouldBlock) => Err(IndividualsError::Busy(folder)),
        Err(std::fs::TryLockError::Error(e)) => Err(IndividualsError::io("lock the folder", &folder, e)),
    }
}

pub(super) fn read(path: &Path) -> Result<Roster, IndividualsError> {
    let bytes = read_bytes(path)?;
    let foreign = |why: String| IndividualsError::Foreign { path: path.to_path_buf(), why };
    let damaged = |why: String| IndividualsError::Damaged { path: path.to_path_buf(), why };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| foreign(format!("not a whole safetensors file: {e}")))?;
    let metadata = header.metadata().as_ref().ok_or_else(|| foreign("it has no description".into()))?;
    let property = |key: &str| metadata.get(key).ok_or_else(|| foreign(format!("it has no property `{key}`")));
    let version: u64 = property(VERSION_KEY)?.parse().map_err(|_| foreign(format!("`{VERSION_KEY}` is no number")))?;
    if version > FORMAT_VERSION {
        return Err(IndividualsError::Newer { path: path.to_path_buf(), found: version });
    }
    if version < FORMAT_VERSION {
        return Err(IndividualsError::Older { path: path.to_path_buf(), found: version });
    }
    let text = property(DESCRIPTION_KEY)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let tensor = tensors.tensor(TENSOR).map_err(|e| damaged(e.to_string()))?;
    if *property(CHECKSUM_KEY)? != checksum(text, tensor.data()) {
        return Err(damaged("its checksum is another".into()));
    }
    let description: Description = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    build(description, &tensor).map_err(damaged)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, IndividualsError> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => IndividualsError::Missing(path.to_path_buf()),
        _ => IndividualsError::io("read", path, e),
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(IndividualsError::Foreign { path: path.to_path_buf(), why: "not a regular file".into() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let why = format!("more than {} MiB", MAX_BYTES >> 20);
        return Err(IndividualsError::Foreign { path: path.to_path_buf(), why });
    }
    Ok(bytes)
}

fn build(description: Description, tensor: &TensorView<'_>) -> Result<Roster, String> {
    let &[count, width] = tensor.shape() else { return Err(format!("`{TENSOR}` has the shape {:?}", tensor.shape())) };
    let expected = description.animals.iter().map(|animal| animal.pictures.len()).sum::<usize>() + description.strangers.len();
    if tensor.dtype() != Dtype::F32 || count != expected || width == 0 {
        return Err(format!("`{TENSOR}` is {} [{count}, {width}] for {expected} pictures", tensor.dtype()));
    }
    let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let mut rows = values.chunks_exact(width);
    let mut seen = HashSet::new();
    let mut picture = |entry: PictureEntry| {
        let feature = rows.next().map(<[f32]>::to_vec).unwrap_or_default();
        let length: f32 = feature.iter().map(|v| v * v).sum();
        if length.is_nan() || (length - 1.0).abs() >= 1e-2 {
            return Err(format!("the features of {} are not of length 1", entry.file));
        }
        if !seen.insert(entry.sha256.clone()) {
            return Err(format!("{} stands there twice", entry.file));
        }
        Ok(Picture { file: entry.file, sha256: entry.sha256, species: entry.species, feature })
    };
    let mut roster = Roster::new(ModelIdentity { sha256: description.model_sha256, embedding_len: width });
    for entry in description.animals {
        let pictures = entry.pictures.into_iter().map(&mut picture).collect::<Result<Vec<_>, _>>()?;
        let [all, recognised, strangers, taken] = entry.figures;
        roster.check_name(&entry.name).map_err(|e| e.to_string())?;
        let radius_fits = (MIN_RADIUS..=2.0).contains(&entry.radius);
        let figures_fit = (1..=pictures.len()).contains(&all) && recognised <= all && taken <= strangers && strangers <= count;
        let rivals_fit = entry.rivals.iter().all(|&rival| rival < description.strangers.len());
        if !(radius_fits && figures_fit && rivals_fit) || roster.animals.last().is_some_and(|last| last.name >= entry.name) {
            return Err(format!("what it says about {} contradicts itself", entry.name));
        }
        let figures = Figures { pictures: all, recognised, strangers, taken };
        let (name, species, rivals, radius) = (entry.name, entry.species, entry.rivals, entry.radius);
        roster.animals.push(Animal { name, species, pictures, rivals, radius, figures });
    }
    roster.strangers = description.strangers.into_iter().map(&mut picture).collect::<Result<_, _>>()?;
    Ok(roster)
}

/// Writes beside the file, brings the bytes to the disk, and renames.
pub(super) fn write(path: &Path, roster: &Roster) -> Result<(), IndividualsError> {
    let bytes = serialise(roster).map_err(|why| IndividualsError::Damaged { path: path.to_path_buf(), why })?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = write_new(&beside, &bytes)
        .and_then(|()| std::fs::rename(&beside, path).map_err(|e| IndividualsError::io("replace", path, e)));
    if written.is_err() {
        // The old file is untouched; what was begun is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    let folder = folder(path);
    File::open(&folder).and_then(|handle| handle.sync_all()).map_err(|e| IndividualsError::io("bring to the disk", &folder, e))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), IndividualsError> {
    let failed = |e| IndividualsError::io("write", path, e);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn serialise(roster: &Roster) -> Result<Vec<u8>, String> {
    let entry = |picture: &Picture| PictureEntry {
        file: picture.file.clone(),
        sha256: picture.sha256.clone(),
        species: picture.species,
    };
    let animal = |animal: &Animal| {
        let Figures { pictures, recognised, strangers, taken } = animal.figures;
        AnimalEntry {
            name: animal.name.clone(),
            species: animal.species,
            radius: animal.radius,
            rivals: animal.rivals.clone(),
            figures: [pictures, recognised, strangers, taken],
            pictures: animal.pictures.iter().map(entry).collect(),
        }
    };
    let description = Description {
        tool_version: env!("CARGO_PKG_VERSION").into(),
        model_sha256: roster.model.sha256.clone(),
        animals: roster.animals.iter().map(animal).collect(),
        strangers: roster.strangers.iter().map(entry).collect(),
    };
    let text = serde_json::to_string(&description).map_err(|e| e.to_string())?;
    let pictures = roster.animals.iter().flat_map(|animal| &animal.pictures).chain(&roster.strangers);
    let rows: Vec<&[f32]> = pictures.map(|picture| picture.feature.as_slice()).collect();
    let data: Vec<u8> = rows.iter().flat_map(|row| row.iter().flat_map(|value| value.to_le_bytes())).collect();
    let metadata = HashMap::from([
        (VERSION_KEY.to_owned(), FORMAT_VERSION.to_string()),
        (CHECKSUM_KEY.to_owned(), checksum(&text, &data)),
        (DESCRIPTION_KEY.to_owned(), text),
    ]);
    let shape = vec![rows.len(), roster.model.embedding_len];
    let view = TensorView::new(Dtype::F32, shape, &data).map_err(|e| e.to_string())?;
    safetensors::serialize([(TENSOR, view)], Some(metadata)).map_err(|e| e.to_string())
}

fn checksum(description: &str, data: &[u8]) -> String {
    sha256(format!("{} {}", sha256(description.as_bytes()), sha256(data)).as_bytes())
}

/// The folder that a file lies in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
