//! Telling single animals apart: prototypes of enrolled animals in the network's feature space, each with a radius beyond which an
//! animal is a stranger.

use std::path::PathBuf;

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
