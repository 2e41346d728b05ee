//! The classifier: one self-describing ONNX file in, what it says about a picture out.
//!
//! [`metadata`] is the file's description of itself, [`Classifier`] loads and runs it, [`Scores`] are the raw outputs and
//! [`Reading`] what they mean at the model's own thresholds. Nothing here knows how many classes there are, and nothing here
//! decides about a door ([`crate::policy`] does).

pub mod metadata;
mod reading;

use image::RgbImage;
use thiserror::Error;

use crate::nn::{File, Network, NetworkError, Options, Port};
use crate::vision::Preprocess;
use crate::vision::preprocess::Table;
use crate::vision::quality::{self, Flaw};
use crate::vision::region::PixelBox;
pub use metadata::{Gate, Label, Metadata, MetadataError, Provenance, Species, WeightsOrigin};
pub use reading::{Candidate, Doubt, MIN_SPECIES_PROBABILITY, Reading, Verdict};

/// Names of the model file's outputs, in the order in which the tools write them.
pub const OUTPUTS: [&str; 3] = ["breed", "pet", "embedding"];
/// Name of the model file's input.
pub const INPUT: &str = "image";

/// Why a model file is refused, or why it gives no answer.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file is no usable ONNX network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The description is missing, newer than this program, or damaged.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The description and the tensors disagree.
    #[error("the model contradicts its description: {0}")]
    Contradiction(String),
    /// The picture could not be scaled.
    #[error("scaling the picture failed: {0}")]
    Resize(#[from] fast_image_resize::ResizeError),
    /// An output is NaN or infinite: the file is damaged, or the arithmetic is.
    #[error("output `{0}` is not a finite number; the model file may be damaged, `pawgate` gives no answer from it")]
    NotFinite(&'static str),
}

/// The outputs of one inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Temperature-calibrated logits, one a label, in the order of the model's labels.
    pub breed: Vec<f32>,
    /// Logit of "a cat or a dog is in the picture".
    pub pet: f32,
    /// Fused features, for telling individuals apart.
    pub embedding: Vec<f32>,
    /// What keeps the picture from being judged, whatever the scores.
    pub flaw: Option<Flaw>,
}

/// A loaded model. Cheap to clone; clones share the weights and may be used on different threads.
#[derive(Debug, Clone)]
pub struct Classifier {
    network: Network,
    metadata: Metadata,
    /// Positions of [`OUTPUTS`] among the network's outputs.
    order: [usize; 3],
    /// For the model's own normalisation ([`table`]).
    table: Option<Table>,
}

/// What normalisation and quantisation make of samples, where the network's input is quantised.
fn table(network: &Network, preprocess: &Preprocess) -> Option<Table> {
    let input = network.quantised_input()?;
    Some(preprocess.table(|value| input.storage.byte(input.affine.quantise(value))))
}

impl Classifier {
    /// The model that was compiled in.
    #[cfg(feature = "embedded-model")]
    pub fn embedded(options: Options) -> Result<Self, ModelError> {
        Self::from_bytes(EMBEDDED, options)
    }

    /// Loads a model file.
    ///
    /// # Errors
    /// [`ModelError`] says what was expected and what was found; nothing is loaded half.
    pub fn from_bytes(bytes: &[u8], options: Options) -> Result<Self, ModelError> {
        Self::from_file(File::decode(bytes)?, options)
    }

    /// As [`Self::from_bytes`], for a decoded file or message.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    pub fn from_file<'a>(file: impl Into<File<'a>>, options: Options) -> Result<Self, ModelError> {
        let file = file.into();
        let metadata = Metadata::from_props(file.properties())?;
        let network = Network::load(file, options)?;
        let order = check_ports(&network, &metadata)?;
        log::info!(
            "model of pawgate-tools {}: {} labels, gate accepts from {}",
            metadata.provenance.tool_version,
            metadata.labels.len(),
            metadata.gate.accept
        );
        let table = table(&network, &metadata.preprocess);
        Ok(Self { network, metadata, order, table })
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The network inside.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Length of [`Scores::embedding`].
    pub fn embedding_len(&self) -> usize {
        self.network.outputs()[self.order[2]].shape[1]
    }

    /// Runs the network on an upright picture, with the model's own cut and normalisation.
    ///
    /// # Errors
    /// [`ModelError::NotFinite`], or what scaling and inference report.
    pub fn infer(&self, picture: &RgbImage) -> Result<Scores, ModelError> {
        self.infer_with(&self.metadata.preprocess, picture)
    }

    /// As [`Self::infer`], for a part of the picture: the model's own cut is applied to the part. Nothing is copied.
    ///
    /// # Errors
    /// As [`Self::infer`]; [`ModelError::Resize`] also when `part` is empty or leaves the picture.
    pub fn infer_region(&self, picture: &RgbImage, part: PixelBox) -> Result<Scores, ModelError> {
        let preprocess = &self.metadata.preprocess;
        self.infer_pixels(preprocess, &preprocess.pixels_of(picture, part)?)
    }

    /// As [`Self::infer`], with another cut: for comparing resize rules. Thresholds were chosen for the model's own.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub fn infer_with(&self, preprocess: &Preprocess, picture: &RgbImage) -> Result<Scores, ModelError> {
        self.infer_pixels(preprocess, &preprocess.pixels(picture)?)
    }

    /// As [`Self::infer_with`], for the square that `preprocess` has cut: RGB, channels last.
    ///
    /// # Errors
    /// As [`Self::infer`].
    ///
    /// # Panics
    /// When `pixels` is not of the network's input size.
    pub fn infer_pixels(&self, preprocess: &Preprocess, pixels: &[u8]) -> Result<Scores, ModelError> {
        let same = preprocess.normalises_like(&self.metadata.preprocess);
        let other = if same { None } else { table(&self.network, preprocess) };
        let adjusted = preprocess.adjusted(pixels);
        let mut outputs = match other.as_ref().or(self.table.as_ref()) {
            Some(table) => self.network.run_pixels(|target| table.fill(&adjusted, target))?,
            None => self.network.run(&preprocess.normalise(&adjusted))?,
        };
        let [breed, pet, embedding] = self.order.map(|index| std::mem::take(&mut outputs[index]));
        for (name, values) in OUTPUTS.into_iter().zip([&breed, &pet, &embedding]) {
            if !values.iter().all(|v| v.is_finite()) {
                return Err(ModelError::NotFinite(name));
            }
        }
        Ok(Scores { breed, pet: pet[0], embedding, flaw: quality::flaw_of_square(pixels, preprocess.size as usize) })
    }

    /// What `scores` mean at the model's thresholds, with the `top` most probable labels.
    pub fn read(&self, scores: &Scores, top: usize) -> Reading {
        Reading::new(scores, &self.metadata, top)
    }
}

/// The model file that was compiled in. No constant: its bytes would be copied to wherever it is used, and five times into the crate's metadata.
#[cfg(feature = "embedded-model")]
pub static EMBEDDED: &[u8] = include_bytes!("../../models/pawgate-pets37-int8.onnx");

/// Checks inputs and outputs against the description; returns where each of [`OUTPUTS`] is.
fn check_ports(network: &Network, metadata: &Metadata) -> Result<[usize; 3], ModelError> {
    let size = metadata.preprocess.size as usize;
    let input = network.input();
    if input.name != INPUT || input.shape != [1, 3, size, size] {
        return Err(ModelError::Contradiction(format!(
            "expected the input `{INPUT}` [1, 3, {size}, {size}], found `{}` {:?}",
            input.name, input.shape
        )));
    }
    let find = |name: &str, width: Option<usize>| {
        let fits = |port: &Port| {
            port.name == name && port.shape.len() == 2 && port.shape[0] == 1 && width.is_none_or(|w| port.shape[1] == w)
        };
        network.outputs().iter().position(fits).ok_or_else(|| {
            let width = width.map_or("N".to_owned(), |w| w.to_string());
            let found: Vec<_> = network.outputs().iter().map(|p| format!("`{}` {:?}", p.name, p.shape)).collect();
            ModelError::Contradiction(format!("expected the output `{name}` [1, {width}], found {}", found.join(", ")))
        })
    };
    Ok([find(OUTPUTS[0], Some(metadata.labels.len()))?, find(OUTPUTS[1], Some(1))?, find(OUTPUTS[2], None)?])
}
