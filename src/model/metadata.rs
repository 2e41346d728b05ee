//! What a model file says about itself, kept in the ONNX `metadata_props`.
//!
//! One property a subject, each a JSON value, so that any ONNX viewer shows them:
//!
//! | key | holds |
//! |---|---|
//! | `pawgate.format_version` | [`FORMAT_VERSION`]; a newer one is refused |
//! | `pawgate.labels` | [`Label`]s in the order of the output `breed` |
//! | `pawgate.preprocess` | [`Preprocess`] |
//! | `pawgate.gate` | [`Gate`] |
//! | `pawgate.provenance` | [`Provenance`]: tool version, training, quantisation, origin of the weights |

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::vision::Preprocess;

/// Version of this description. A change that an older program would misread raises it.
pub const FORMAT_VERSION: u32 = 1;

/// The lowest threshold from which a pet may be taken as present. Probabilities are calibrated; a gate that has to go lower to
/// let its pets pass has not learnt anything.
pub const MIN_ACCEPT: f32 = 0.1;
/// The largest share of pictures without a pet that a gate may let pass.
pub const MAX_NEGATIVES_ACCEPTED: f32 = 0.1;

const VERSION_KEY: &str = "pawgate.format_version";
const LABELS_KEY: &str = "pawgate.labels";
const PREPROCESS_KEY: &str = "pawgate.preprocess";
const GATE_KEY: &str = "pawgate.gate";
const PROVENANCE_KEY: &str = "pawgate.provenance";

/// Why a description is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MetadataError {
    /// An ONNX file that was not made for pawgate, or lost its properties.
    #[error("the file has no property `{0}`: it is not a pawgate model (make one with `pawgate-tools quantize`)")]
    Missing(&'static str),
    /// Made by a newer tool.
    #[error("the model has format version {found}, this program reads up to {FORMAT_VERSION}: update pawgate")]
    Newer {
        /// Version in the file.
        found: u32,
    },
    /// A property that does not parse or holds values out of range.
    #[error("property `{key}` of the model: {why}")]
    Invalid {
        /// Name of the property.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// The kinds of animals a label can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Species {
    /// Felis catus.
    Cat,
    /// Canis familiaris.
    Dog,
}

impl Species {
    /// All species, in declaration order.
    pub const ALL: [Self; 2] = [Self::Cat, Self::Dog];
}

impl std::fmt::Display for Species {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Cat => "cat",
            Self::Dog => "dog",
        })
    }
}

/// One class of the output `breed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Name of the breed (or of the own animal).
    pub name: String,
    /// What kind of animal it is.
    pub species: Species,
}

/// Thresholds on the probability that a pet is in the picture, and the rates they were chosen for.
///
/// At `accept` and above the picture shows a pet, below `reject` none; between them the answer is unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Probability from which a pet is taken as present.
    pub accept: f32,
    /// Probability below which no pet is taken as present; at most `accept`.
    pub reject: f32,
    /// Share of pets at or above `accept`, out of fold, 0…1.
    pub pets_accepted: f32,
    /// Share of pictures without a pet at or above `accept`, out of fold, 0…1.
    pub negatives_accepted: f32,
    /// How the thresholds were chosen.
    pub chosen_by: String,
}

/// Where one backbone's weights came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsOrigin {
    /// Architecture and variant.
    pub architecture: String,
    /// Where the file was published.
    pub source: String,
    /// SPDX name of the licence, as the file states it.
    pub licence: String,
    /// SHA-256 of the weights file, hexadecimal.
    pub sha256: String,
}

/// How the model was made. The edge shows it and does not act on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of `pawgate-tools` that wrote the file.
    pub tool_version: String,
    /// Origin of the backbones' weights.
    pub weights: Vec<WeightsOrigin>,
    /// Recipe, data and figures of the head's training; `null` for a network without a trained head.
    pub training: serde_json::Value,
    /// Range estimator and calibration set; `null` for an fp32 model.
    pub quantisation: serde_json::Value,
}

/// The whole description.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Classes in the order of the output `breed`.
    pub labels: Vec<Label>,
    /// Input size, cut, normalisation.
    pub preprocess: Preprocess,
    /// Thresholds of the output `pet`.
    pub gate: Gate,
    /// How the model was made.
    pub provenance: Provenance,
}

impl Metadata {
    /// Reads the description from key-value pairs; other keys are ignored.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub fn from_props<'a>(props: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, MetadataError> {
        let props: std::collections::HashMap<_, _> = props.collect();
        let version: u32 = parse(&props, VERSION_KEY)?;
        if version > FORMAT_VERSION {
            return Err(MetadataError::Newer { found: version });
        }
        let metadata = Self {
            labels: parse(&props, LABELS_KEY)?,
            preprocess: parse(&props, PREPROCESS_KEY)?,
            gate: parse(&props, GATE_KEY)?,
            provenance: parse(&props, PROVENANCE_KEY)?,
        };
        metadata.check(version)?;
        Ok(metadata)
    }

    /// Writes the description as key-value pairs, in a fixed order.
    pub fn to_props(&self) -> Vec<(String, String)> {
        vec![
            (VERSION_KEY.into(), FORMAT_VERSION.to_string()),
            (LABELS_KEY.into(), json(&self.labels)),
            (PREPROCESS_KEY.into(), json(&self.preprocess)),
            (GATE_KEY.into(), json(&self.gate)),
            (PROVENANCE_KEY.into(), json(&self.provenance)),
        ]
    }

    fn check(&self, version: u32) -> Result<(), MetadataError> {
        let invalid = |key, why: String| Err(MetadataError::Invalid { key, why });
        if version == 0 {
            return invalid(VERSION_KEY, "versions start at 1".into());
        }
        if self.labels.is_empty() {
            return invalid(LABELS_KEY, "there are no labels".into());
        }
        let mut names: Vec<_> = self.labels.iter().map(|l| l.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return invalid(LABELS_KEY, format!("`{}` stands there twice", pair[0]));
        }
        if let Err(why) = self.preprocess.check() {
            return invalid(PREPROCESS_KEY, why);
        }
        let Gate { accept, reject, pets_accepted, negatives_accepted, .. } = self.gate;
        // A threshold near 0 would accept every picture; NaN fails every comparison and so ends here too.
        if !((MIN_ACCEPT..=1.0).contains(&accept) && (0.0..=accept).contains(&reject)) {
            return invalid(
                GATE_KEY,
                format!("thresholds accept {accept}, reject {reject} are not 0 ≤ reject ≤ accept, {MIN_ACCEPT} ≤ accept ≤ 1"),
            );
        }
        if negatives_accepted > MAX_NEGATIVES_ACCEPTED {
            return invalid(
                GATE_KEY,
                format!("a gate that lets {negatives_accepted} of the pictures without a pet pass guards nothing"),
            );
        }
        if ![pets_accepted, negatives_accepted].iter().all(|rate| (0.0..=1.0).contains(rate)) {
            return invalid(GATE_KEY, format!("rates {pets_accepted}, {negatives_accepted} are not in 0…1"));
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(props: &std::collections::HashMap<&str, &str>, key: &'static str) -> Result<T, MetadataError> {
    let text = props.get(key).ok_or(MetadataError::Missing(key))?;
    serde_json::from_str(text).map_err(|e| MetadataError::Invalid { key, why: e.to_string() })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("these types have string keys only and always serialise")
}
