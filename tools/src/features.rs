//! Fused features of pictures, computed by the library's own code, or by a GPU in batches, and kept on disk.
//!
//! A cache entry is named by the content of the model, the pre-processing, the back end and the content of the picture, so that nothing
//! stale can be read; entries are written whole. One file holds one view as little-endian f32.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, ensure};
use burn::tensor::backend::AutodiffBackend;
use image::RgbImage;
use indicatif::ProgressBar;
use pawgate::nn::{self, Network, Options};
use pawgate::vision::{self, Preprocess};
use rayon::prelude::*;
use tract_onnx::pb::ModelProto;

use crate::backend::{Device, on_device};
use crate::conditions::Condition;
use crate::files::{sha256, write_whole};
use crate::graph::interpret::{Batches, Interpreter};
use crate::progress;

/// Raised when the same model and picture would give other features because this code changed.
const CACHE_VERSION: u32 = 1;
/// Name of the output that holds the features.
const OUTPUT: &str = "embedding";
/// So far a GPU's feature may be from the CPU's.
const TOLERANCE: f32 = 1e-3;

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
    /// Views that were not in the cache.
    pub computed: usize,
}

/// A network with the output `embedding` and the cache of what it gave.
#[derive(Debug)]
pub struct Extractor {
    network: Network,
    embedding: usize,
    /// What computes instead of the network.
    gpu: Option<Gpu>,
    preprocess: Preprocess,
    folder: PathBuf,
}

/// A network on a GPU.
#[derive(Debug)]
struct Gpu {
    /// Of the back end.
    name: &'static str,
    /// Views that it computes at once.
    batch: usize,
    network: Box<dyn Batches>,
}

impl Extractor {
    /// Loads the ONNX file `model` onto `device` and opens its part of `cache`.
    ///
    /// # Errors
    /// When the file cannot be read or has no output `embedding`; on a GPU also when it has an operator that is not known there, or
    /// when the features of a sample are not the CPU's.
    pub fn open(model: &Path, preprocess: &Preprocess, cache: &Path, device: Device) -> anyhow::Result<Self> {
        let bytes = std::fs::read(model).with_context(|| format!("cannot read the model {}", model.display()))?;
        let open = || {
            let message = nn::decode(&bytes)?;
            let on_device = || {
                let network = on_device!(device, B => batches::<B>(&message))?;
                anyhow::Ok(Gpu { name: device.name(), batch: device.batch(), network })
            };
            let gpu = (device != Device::Cpu).then(on_device).transpose()?;
            Self::new(message, &sha256(&bytes), preprocess, cache, gpu)
        };
        open().with_context(|| format!("cannot use the model {}", model.display()))
    }

    fn new(message: ModelProto, hash: &str, preprocess: &Preprocess, cache: &Path, gpu: Option<Gpu>) -> anyhow::Result<Self> {
        let network = Network::load(message, Options::SINGLE_THREADED)?;
        let embedding = network.outputs().iter().position(|port| port.name == OUTPUT).context("no output `embedding`")?;
        let settings = format!("{CACHE_VERSION} {} {}", env!("CARGO_PKG_VERSION"), serde_json::to_string(preprocess)?);
        let device = gpu.as_ref().map_or_else(String::new, |gpu| format!(" {}", gpu.name));
        let folder = cache.join(&sha256(format!("{hash} {settings}{device}").as_bytes())[..24]);
        let extractor = Self { network, embedding, gpu, preprocess: preprocess.clone(), folder };
        extractor.check_agreement()?;
        Ok(extractor)
    }

    /// Compares the GPU's features of a sample with the CPU's.
    fn check_agreement(&self) -> anyhow::Result<()> {
        let Some(Gpu { name, network, .. }) = &self.gpu else { return Ok(()) };
        let sample = self.preprocess.tensor(&vision::decode(pawgate::samples::SAMPLES[0].jpeg)?)?;
        let expected = self.network.run(&sample)?.swap_remove(self.embedding);
        let found = network.run(&[sample])?.swap_remove(0);
        ensure!(found.len() == expected.len(), "{name} gives {} features, the CPU {}", found.len(), expected.len());
        let differences = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
        // A difference that is no number is the largest of all.
        let worst = differences.max_by(f32::total_cmp).unwrap_or(0.0);
        ensure!(worst <= TOLERANCE, "features on {name} differ from the CPU's by {worst}, which is more than {TOLERANCE}");
        log::info!("features of a sample on {name} differ from the CPU's by {worst:.1e} at most");
        Ok(())
    }

    /// Length of a feature vector.
    pub fn len(&self) -> usize {
        self.network.outputs()[self.embedding].shape.iter().product()
    }

    /// Computes (or reads back) the features of `pictures`. A broken picture is named in the log and left out.
    ///
    /// Pictures are decoded and prepared on all cores; the network runs there too, or on the GPU in the meantime.
    ///
    /// # Errors
    /// When the network fails or the cache cannot be written; never because of a picture.
    pub fn extract(&self, what: &'static str, pictures: &[&Path], views: &[View]) -> anyhow::Result<Extracted> {
        let start = Instant::now();
        let bar = progress::bar(what, pictures.len());
        let extraction = Extraction { extractor: self, views, bar, computed: AtomicUsize::new(0) };
        let views = match &self.gpu {
            None => pictures.par_iter().map(|path| extraction.on_cpu(path)).collect::<anyhow::Result<Vec<_>>>()?,
            Some(gpu) => extraction.on_gpu(gpu, pictures)?,
        };
        extraction.bar.finish_and_clear();
        let (computed, time) = (extraction.computed.into_inner(), start.elapsed());
        if computed > 0 {
            let device = self.gpu.as_ref().map_or(Device::Cpu.name(), |gpu| gpu.name);
            log::info!("{what}: {computed} views on {device}, {:.1} a second", computed as f64 / time.as_secs_f64());
        }
        let broken = views.iter().filter(|v| v.is_none()).count();
        if broken > 0 {
            log::warn!("{broken} of {} pictures are broken and were left out", pictures.len());
        }
        ensure!(broken < pictures.len() || pictures.is_empty(), "not one of {} pictures can be read", pictures.len());
        Ok(Extracted { views, broken, computed })
    }

    /// Computes the plain view of some `pictures` without the cache; how many a second, decoding included. Broken ones do not count.
    ///
    /// # Errors
    /// When the network fails, or not one picture can be read.
    pub fn throughput(&self, pictures: &[&Path]) -> anyhow::Result<f64> {
        let start = Instant::now();
        let tensor = |path: &&Path| {
            let picture = vision::decode::read(path).ok()?;
            Some(self.tensor(&picture, View::Plain))
        };
        let done = match &self.gpu {
            None => {
                let run = |tensor: anyhow::Result<Vec<f32>>| anyhow::Ok(self.network.run(&tensor?)?);
                pictures.par_iter().filter_map(tensor).map(run).collect::<anyhow::Result<Vec<_>>>()?.len()
            }
            Some(gpu) => {
                let tensors = pictures.par_iter().filter_map(tensor).collect::<anyhow::Result<Vec<_>>>()?;
                for batch in tensors.chunks(gpu.batch) {
                    gpu.network.run(batch)?;
                }
                tensors.len()
            }
        };
        ensure!(done > 0, "not one of {} pictures can be read", pictures.len());
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }

    fn tensor(&self, picture: &RgbImage, view: View) -> anyhow::Result<Vec<f32>> {
        let pixels = match view {
            View::Plain => self.preprocess.pixels(picture)?,
            View::Mirrored => mirror(&self.preprocess.pixels(picture)?, self.preprocess.size as usize),
            View::Under(condition) => self.preprocess.pixels(&condition.apply(picture))?,
        };
        Ok(self.preprocess.normalise(&self.preprocess.adjusted(&pixels)))
    }

    fn read_entry(&self, entry: &Path) -> Option<Vec<f32>> {
        let raw = std::fs::read(entry).ok()?;
        let (values, rest) = raw.as_chunks::<4>();
        (rest.is_empty() && values.len() == self.len()).then(|| values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

fn batches<B: AutodiffBackend>(message: &ModelProto) -> anyhow::Result<Box<dyn Batches>> {
    Ok(Box::new(Interpreter::<B::InnerBackend>::load(message, OUTPUT, &Default::default())?))
}

/// A view of a picture.
enum Prepared {
    /// Its features were in the cache.
    Known(Vec<f32>),
    /// The network's input, and the entry that its features will be kept in.
    Tensor(Vec<f32>, PathBuf),
}

/// One call of [`Extractor::extract`].
struct Extraction<'a> {
    extractor: &'a Extractor,
    views: &'a [View],
    bar: ProgressBar,
    computed: AtomicUsize,
}

impl Extraction<'_> {
    fn on_cpu(&self, path: &Path) -> anyhow::Result<Option<Views>> {
        let Extractor { network, embedding, .. } = self.extractor;
        let compute = |view| match view {
            Prepared::Known(features) => Ok(features),
            Prepared::Tensor(tensor, entry) => self.keep(&entry, network.run(&tensor)?.swap_remove(*embedding)),
        };
        let views = self.prepare(path)?.map(|views| views.into_iter().map(compute).collect()).transpose();
        self.bar.inc(1);
        views
    }

    /// Pictures are prepared by one thread, with the help of all cores, while this one waits for the GPU.
    fn on_gpu(&self, gpu: &Gpu, pictures: &[&Path]) -> anyhow::Result<Vec<Option<Views>>> {
        let prepare = |chunk: &[&Path]| chunk.par_iter().map(|path| self.prepare(path)).collect::<anyhow::Result<Vec<_>>>();
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(1);
            scope.spawn(move || {
                // Nobody receives any more when the GPU has failed.
                pictures.chunks(gpu.batch).map(prepare).try_for_each(|chunk| sender.send(chunk)).ok();
            });
            let mut all = Vec::with_capacity(pictures.len());
            for chunk in receiver {
                let chunk = chunk?;
                self.bar.inc(chunk.len() as u64);
                all.extend(self.compute(gpu, chunk)?);
            }
            Ok(all)
        })
    }

    /// Completes the views of some pictures.
    fn compute(&self, gpu: &Gpu, mut chunk: Vec<Option<Vec<Prepared>>>) -> anyhow::Result<Vec<Option<Views>>> {
        let tensors = chunk.iter_mut().flatten().flatten().filter_map(|view| match view {
            Prepared::Tensor(tensor, _) => Some(std::mem::take(tensor)),
            Prepared::Known(_) => None,
        });
        let tensors: Vec<Vec<f32>> = tensors.collect();
        let mut found = Vec::with_capacity(tensors.len());
        for batch in tensors.chunks(gpu.batch) {
            found.extend(gpu.network.run(batch)?);
        }
        let mut found = found.into_iter();
        for view in chunk.iter_mut().flatten().flatten() {
            if let Prepared::Tensor(tensor, _) = view {
                *tensor = found.next().context("the GPU gave too few features")?;
            }
        }
        let keep = |view| match view {
            Prepared::Known(features) => Ok(features),
            Prepared::Tensor(features, entry) => self.keep(&entry, features),
        };
        let complete = |views: Vec<Prepared>| views.into_iter().map(keep).collect::<anyhow::Result<Views>>();
        chunk.into_par_iter().map(|views| views.map(complete).transpose()).collect()
    }

    /// Reads a picture's views back, or decodes and prepares it; `None` where it is broken.
    fn prepare(&self, path: &Path) -> anyhow::Result<Option<Vec<Prepared>>> {
        let bytes = match vision::decode::read_bytes(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                log::warn!("{}: {error}", path.display());
                return Ok(None);
            }
        };
        let name = sha256(&bytes);
        let mut decoded = None;
        let mut prepared = Vec::with_capacity(self.views.len());
        for &view in self.views {
            let entry = self.extractor.folder.join(format!("{name}-{}.f32", view.name()));
            if let Some(cached) = self.extractor.read_entry(&entry) {
                prepared.push(Prepared::Known(cached));
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
            let picture = decoded.as_ref().expect("decoded above");
            prepared.push(Prepared::Tensor(self.extractor.tensor(picture, view)?, entry));
        }
        Ok(Some(prepared))
    }

    /// Writes what was computed into the cache.
    fn keep(&self, entry: &Path, features: Vec<f32>) -> anyhow::Result<Vec<f32>> {
        ensure!(features.iter().all(|v| v.is_finite()), "the network gives features that are not finite");
        let raw: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        write_whole(entry, &raw)?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        Ok(features)
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

    /// Views that are computed at once.
    const BATCH: usize = 16;

    /// On the CPU, or as on a GPU by the interpreter on burn's CPU back end.
    fn extractor(model: &[u8], preprocess: &Preprocess, cache: &Path, interpreted: bool) -> Extractor {
        let message = nn::decode(model).unwrap();
        let network = batches::<burn::backend::Autodiff<burn::backend::NdArray>>(&message).unwrap();
        let gpu = interpreted.then_some(Gpu { name: "burn", batch: BATCH, network });
        Extractor::new(message, &sha256(model), preprocess, cache, gpu).unwrap()
    }

    #[test]
    fn features_come_back_from_the_cache_and_broken_pictures_are_left_out() {
        for interpreted in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let sample = folder.path().join("cat.jpg");
            std::fs::write(&sample, pawgate::samples::SAMPLES[0].jpeg).unwrap();
            let broken = folder.path().join("broken.jpg");
            std::fs::write(&broken, "no picture").unwrap();
            let cache = folder.path().join("cache");
            let rule = Preprocess::imagenet(ResizeRule::Plain);
            let open = |rule: &Preprocess| extractor(&mean_network(), rule, &cache, interpreted);
            let extractor = open(&rule);
            let pictures: [&Path; 2] = [&sample, &broken];
            let first = extractor.extract("test", &pictures, &View::BOTH).unwrap();
            assert_eq!((first.broken, first.computed, first.views[1].is_none()), (1, 2, true));
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
            assert_ne!(open(&other).folder, extractor.folder);
        }
    }

    #[test]
    fn batches_give_each_picture_its_own_features_and_another_part_of_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        // More than one batch, all different, one of them broken and some known already.
        let paths: Vec<PathBuf> = (0..BATCH + 8)
            .map(|i| {
                let path = folder.path().join(format!("{i}.png"));
                let colour = |x: u32, y: u32| image::Rgb([(6 * i) as u8, (x * y) as u8, (x + 3 * i as u32) as u8]);
                RgbImage::from_fn(40, 30, colour).save(&path).unwrap();
                path
            })
            .collect();
        std::fs::write(&paths[3], "no picture").unwrap();
        let pictures: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let views = [View::Plain, View::Under(Condition::Dim)];
        let rule = Preprocess::imagenet(ResizeRule::Plain);
        let open = |interpreted| extractor(&mean_network(), &rule, &folder.path().join("cache"), interpreted);
        let (cpu, gpu) = (open(false), open(true));
        assert_ne!(cpu.folder, gpu.folder);
        let expected = cpu.extract("test", &pictures, &views).unwrap();
        assert_eq!(gpu.extract("test", &pictures[5..9], &views[1..]).unwrap().computed, 4);
        let found = gpu.extract("test", &pictures, &views).unwrap();
        assert_eq!((found.broken, found.computed), (1, 2 * (pictures.len() - 1) - 4));
        for (i, (expected, found)) in expected.views.iter().zip(&found.views).enumerate() {
            assert_eq!(expected.is_none(), found.is_none(), "picture {i}");
            let mut pairs = expected.iter().flatten().flatten().zip(found.iter().flatten().flatten());
            // Sums of so many pixels in f32; pictures differ by a hundred times more.
            assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-3), "picture {i}: {expected:?} {found:?}");
        }
    }

    /// Features that a faulty driver could have computed.
    #[derive(Debug)]
    struct Wrong(Vec<f32>);

    impl Batches for Wrong {
        fn run(&self, pictures: &[Vec<f32>]) -> anyhow::Result<Vec<Vec<f32>>> {
            Ok(vec![self.0.clone(); pictures.len()])
        }
    }

    #[test]
    fn a_gpu_that_computes_something_else_is_refused() {
        let (folder, model) = (tempfile::tempdir().unwrap(), mean_network());
        let rule = Preprocess::imagenet(ResizeRule::Plain);
        let right = extractor(&model, &rule, folder.path(), true);
        let sample = rule.tensor(&vision::decode(pawgate::samples::SAMPLES[0].jpeg).unwrap()).unwrap();
        let right = right.gpu.unwrap().network.run(&[sample]).unwrap().remove(0);
        let open = |features: &[f32]| {
            let gpu = Gpu { name: "wrong", batch: BATCH, network: Box::new(Wrong(features.to_vec())) };
            Extractor::new(nn::decode(&model).unwrap(), &sha256(&model), &rule, folder.path(), Some(gpu))
        };
        open(&right).unwrap();
        for wrong in [vec![right[0], right[1] + 0.002, right[2]], vec![f32::NAN; 3], right[..2].to_vec()] {
            assert!(open(&wrong).unwrap_err().to_string().contains("wrong"), "{wrong:?}");
        }
    }
}
