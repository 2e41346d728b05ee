//! Fused features of pictures, computed by the library's own code and kept on disk.
//!
//! A cache entry is named by the content of the model, the pre-processing and the content of the picture, so that nothing
//! stale can be read; entries are written whole. One file holds one view as little-endian f32.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use image::RgbImage;
use pawgate::nn::{self, Network, Options};
use pawgate::vision::{self, Preprocess};
use rayon::prelude::*;

use crate::conditions::Condition;
use crate::files::{sha256, write_whole};
use crate::progress;

/// Raised when the same model and picture would give other features because this code changed.
const CACHE_VERSION: u32 = 1;

/// Which way round a picture is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// As it is.
    Plain,
    /// Left and right exchanged.
    Mirrored,
    /// As a camera at a door would have seen it.
    Under(Condition),
}

impl View {
    /// The picture and its mirror image: what is trained on.
    pub const BOTH: [Self; 2] = [Self::Plain, Self::Mirrored];

    /// In the names of cache entries.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Mirrored => "1",
            Self::Under(condition) => condition.name(),
        }
    }
}

/// Features of one picture, one vector a view.
pub type Views = Vec<Vec<f32>>;

/// The pictures that could be read, and how many could not.
#[derive(Debug)]
pub struct Extracted {
    /// For each picture its views, or `None` where it was broken.
    pub views: Vec<Option<Views>>,
    /// Number of `None`s.
    pub broken: usize,
}

/// A network with the output `embedding` and the cache of what it gave.
#[derive(Debug)]
pub struct Extractor {
    network: Network,
    embedding: usize,
    preprocess: Preprocess,
    folder: PathBuf,
}

impl Extractor {
    /// Loads the ONNX file `model` and opens its part of `cache`.
    ///
    /// # Errors
    /// When the file cannot be read or has no output `embedding`.
    pub fn open(model: &Path, preprocess: &Preprocess, cache: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(model).with_context(|| format!("cannot read the model {}", model.display()))?;
        Self::new(&bytes, preprocess, cache).with_context(|| format!("cannot use the model {}", model.display()))
    }

    /// As [`Self::open`], from the bytes of the file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn new(model: &[u8], preprocess: &Preprocess, cache: &Path) -> anyhow::Result<Self> {
        let network = Network::load(nn::decode(model)?, Options::SINGLE_THREADED)?;
        let embedding = network.outputs().iter().position(|port| port.name == "embedding").context("no output `embedding`")?;
        let settings = format!("{CACHE_VERSION} {} {}", env!("CARGO_PKG_VERSION"), serde_json::to_string(preprocess)?);
        let folder = cache.join(&sha256(format!("{} {settings}", sha256(model)).as_bytes())[..24]);
        Ok(Self { network, embedding, preprocess: preprocess.clone(), folder })
    }

    /// Length of a feature vector.
    pub fn len(&self) -> usize {
        self.network.outputs()[self.embedding].shape.iter().product()
    }

    /// Computes (or reads back) the features of `pictures` on all cores. A broken picture is named in the log and left out.
    ///
    /// # Errors
    /// When the network fails or the cache cannot be written; never because of a picture.
    pub fn extract(&self, what: &'static str, pictures: &[&Path], views: &[View]) -> anyhow::Result<Extracted> {
        let bar = progress::bar(what, pictures.len());
        let extracted = pictures.par_iter().map(|path| {
            let result = self.picture(path, views);
            bar.inc(1);
            result
        });
        let views = extracted.collect::<anyhow::Result<Vec<_>>>()?;
        bar.finish_and_clear();
        let broken = views.iter().filter(|v| v.is_none()).count();
        if broken > 0 {
            log::warn!("{broken} of {} pictures are broken and were left out", pictures.len());
        }
        ensure!(broken < pictures.len() || pictures.is_empty(), "not one of {} pictures can be read", pictures.len());
        Ok(Extracted { views, broken })
    }

    fn picture(&self, path: &Path, views: &[View]) -> anyhow::Result<Option<Views>> {
        let bytes = match vision::decode::read_bytes(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                log::warn!("{}: {error}", path.display());
                return Ok(None);
            }
        };
        let name = sha256(&bytes);
        let mut decoded = None;
        let mut features = Vec::with_capacity(views.len());
        for &view in views {
            let entry = self.folder.join(format!("{name}-{}.f32", view.name()));
            if let Some(cached) = self.read_entry(&entry) {
                features.push(cached);
                continue;
            }
            if decoded.is_none() {
                match vision::decode(&bytes) {
                    Ok(picture) => decoded = Some(picture),
                    Err(error) => {
                        log::warn!("{}: {error}", path.display());
                        return Ok(None);
                    }
                }
            }
            let values = self.view(decoded.as_ref().expect("decoded above"), view)?;
            let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            write_whole(&entry, &raw)?;
            features.push(values);
        }
        Ok(Some(features))
    }

    fn view(&self, picture: &RgbImage, view: View) -> anyhow::Result<Vec<f32>> {
        let pixels = match view {
            View::Plain => self.preprocess.pixels(picture)?,
            View::Mirrored => mirror(&self.preprocess.pixels(picture)?, self.preprocess.size as usize),
            View::Under(condition) => self.preprocess.pixels(&condition.apply(picture))?,
        };
        let tensor = self.preprocess.normalise(&self.preprocess.exposed(&pixels));
        let values = self.network.run(&tensor)?.swap_remove(self.embedding);
        ensure!(values.iter().all(|v| v.is_finite()), "the network gives features that are not finite");
        Ok(values)
    }

    fn read_entry(&self, entry: &Path) -> Option<Vec<f32>> {
        let raw = std::fs::read(entry).ok()?;
        let (values, rest) = raw.as_chunks::<4>();
        (rest.is_empty() && values.len() == self.len()).then(|| values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

/// Exchanges left and right of a `size`-wide RGB picture, channels last.
fn mirror(pixels: &[u8], size: usize) -> Vec<u8> {
    pixels.chunks(size * 3).flat_map(|row| row.rchunks(3)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{self, Attr, GraphBuilder};
    use pawgate::vision::ResizeRule;

    #[test]
    fn mirroring_keeps_rows_and_colours() {
        let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        assert_eq!(mirror(&pixels, 2), [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
    }

    /// A network whose features are the mean of each channel.
    fn mean_network() -> Vec<u8> {
        let mut graph = GraphBuilder::new("means");
        let image = graph.input("image", &[1, 3, 224, 224]);
        let pooled = graph.node("GlobalAveragePool", "pool", &[&image], &[]);
        graph.node("Flatten", "embedding", &[&pooled], &[("axis", Attr::Int(1))]);
        graph.output("embedding", &[1, 3]);
        graph::encode(&graph.finish(vec![]))
    }

    #[test]
    fn features_come_back_from_the_cache_and_broken_pictures_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let sample = folder.path().join("cat.jpg");
        std::fs::write(&sample, pawgate::samples::SAMPLES[0].jpeg).unwrap();
        let broken = folder.path().join("broken.jpg");
        std::fs::write(&broken, "no picture").unwrap();
        let cache = folder.path().join("cache");
        let rule = Preprocess::imagenet(ResizeRule::Plain);
        let extractor = Extractor::new(&mean_network(), &rule, &cache).unwrap();
        let pictures: [&Path; 2] = [&sample, &broken];
        let first = extractor.extract("test", &pictures, &View::BOTH).unwrap();
        assert_eq!((first.broken, first.views[1].is_none()), (1, true));
        let means = first.views[0].clone().unwrap();
        assert_eq!(means[0].len(), 3);

        // A cache entry is believed (so it is read), unless it has the wrong length or belongs to another rule.
        let entry = std::fs::read_dir(&extractor.folder).unwrap().map(|e| e.unwrap().path());
        let plain = entry.into_iter().find(|p| p.to_string_lossy().ends_with("-0.f32")).unwrap();
        let marked: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(&plain, &marked).unwrap();
        let read =
            |extractor: &Extractor| extractor.extract("test", &[&sample], &[View::Plain]).unwrap().views.remove(0).unwrap();
        assert_eq!(read(&extractor), [[1.0, 2.0, 3.0]]);
        std::fs::write(&plain, &marked[..8]).unwrap();
        assert_eq!(read(&extractor), [means[0].clone()]);
        let other = Preprocess::imagenet(ResizeRule::ShortSideCrop { short_side: 256 });
        assert_ne!(Extractor::new(&mean_network(), &other, &cache).unwrap().folder, extractor.folder);
    }
}
