//! What a training has done so far, kept after each epoch, so that an interrupted one loses no more.
//!
//! A folder beside the head that is trained holds one safetensors file for each layer that is fitted; it goes when the head is written.
//! A file says what it was trained on, and is not taken for another training's.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::linear::{Epoch, Layer};
use crate::files::write_whole;

/// Key of the [`Header`].
const HEADER_KEY: &str = "pawgate.progress";

/// Where a training keeps what it has done.
#[derive(Debug)]
pub struct Checkpoints(PathBuf);

/// Where one layer's state is kept; nowhere, if that is not wanted.
#[derive(Debug)]
pub struct Slot(Option<PathBuf>);

/// Everything that the next epoch depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The layer, as burn records it.
    pub layer: Vec<u8>,
    /// The optimiser, likewise.
    pub optimizer: Vec<u8>,
    /// Order of the features in the last epoch.
    pub order: Vec<usize>,
    /// How many words the generator has drawn.
    pub drawn: u128,
    /// All epochs so far.
    pub history: Vec<Epoch>,
    /// The layer that did best on what is held out, and after how many epochs.
    pub best: Option<(Layer, usize)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    trained_on: String,
    /// JSON has no 128 bits.
    drawn: String,
    best_after: Option<usize>,
}

impl Checkpoints {
    /// Beside the file `out`. What an earlier training left there is gone on with, if `resume`, and removed otherwise.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn beside(out: &Path, resume: bool) -> anyhow::Result<Self> {
        let mut name = out.as_os_str().to_owned();
        name.push(".progress");
        let folder = PathBuf::from(name);
        match (folder.exists(), resume) {
            (true, true) => log::info!("going on with {}", folder.display()),
            (false, true) => log::info!("there is nothing to go on with: training from the beginning"),
            (true, false) => {
                log::info!("removing {}, which a training left that did not end (--resume goes on with it)", folder.display());
                std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            (false, false) => {}
        }
        Ok(Self(folder))
    }

    /// The place for a layer of this name.
    pub fn slot(&self, name: &str) -> Slot {
        Slot(Some(self.0.join(format!("{name}.safetensors"))))
    }

    /// The head is written: removes what was kept.
    pub fn finish(self) {
        if self.0.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            log::warn!("cannot remove {}, which is of no more use: {error}", self.0.display());
        }
    }
}

impl Slot {
    /// Nothing is kept.
    pub const NONE: Self = Self(None);

    /// Whether something is.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// What was kept of a training on `trained_on`.
    ///
    /// # Errors
    /// When there is a file, but it is damaged or belongs to another training.
    pub fn load(&self, trained_on: &str) -> anyhow::Result<Option<State>> {
        let Some(path) = self.0.as_ref().filter(|path| path.exists()) else { return Ok(None) };
        let read = || State::from_bytes(&std::fs::read(path)?, trained_on);
        read()
            .map(Some)
            .with_context(|| format!("cannot go on with {}; without --resume the training begins anew", path.display()))
    }

    /// Keeps `state` in place of what was kept before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, state: &State, trained_on: &str) -> anyhow::Result<()> {
        self.0.as_ref().map_or(Ok(()), |path| write_whole(path, &state.to_bytes(trained_on)?))
    }
}

impl State {
    fn to_bytes(&self, trained_on: &str) -> anyhow::Result<Vec<u8>> {
        let floats = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let order: Vec<u8> = self.order.iter().flat_map(|&at| (at as u64).to_le_bytes()).collect();
        // As bits: JSON would round them.
        let epochs = self.history.iter().flat_map(|e| [e.loss, e.accuracy, e.held_out_loss.unwrap_or(f64::NAN)]);
        let history: Vec<u8> = epochs.flat_map(f64::to_le_bytes).collect();
        let mut tensors = vec![
            ("history", Dtype::F64, vec![self.history.len(), 3], history),
            ("layer", Dtype::U8, vec![self.layer.len()], self.layer.clone()),
            ("optimizer", Dtype::U8, vec![self.optimizer.len()], self.optimizer.clone()),
            ("order", Dtype::U64, vec![self.order.len()], order),
        ];
        if let Some((best, _)) = &self.best {
            let outputs = best.bias.len();
            tensors.push(("best.weight", Dtype::F32, vec![outputs, best.inputs()], floats(&best.weight)));
            tensors.push(("best.bias", Dtype::F32, vec![outputs], floats(&best.bias)));
        }
        let views = tensors
            .iter()
            .map(|(name, data_type, shape, raw)| Ok((*name, TensorView::new(*data_type, shape.clone(), raw)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let header = Header {
            trained_on: trained_on.into(),
            drawn: self.drawn.to_string(),
            best_after: self.best.as_ref().map(|(_, epochs)| *epochs),
        };
        Ok(safetensors::serialize(views, Some([(HEADER_KEY.to_owned(), serde_json::to_string(&header)?)].into()))?)
    }

    fn from_bytes(bytes: &[u8], trained_on: &str) -> anyhow::Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER_KEY)).context("it says nothing of a training")?;
        let header: Header = serde_json::from_str(header)?;
        ensure!(header.trained_on == trained_on, "it was trained on other pictures, or in another way");
        let file = SafeTensors::deserialize(bytes)?;
        let bytes = |name: &str| Ok::<_, anyhow::Error>(file.tensor(name)?.data().to_vec());
        let floats = |name: &str| {
            let bytes = bytes(name)?;
            Ok::<_, anyhow::Error>(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<f32>>())
        };
        let history = bytes("history")?;
        let epoch = |row: &[[u8; 8]; 3]| {
            let [loss, accuracy, held_out] = row.map(f64::from_le_bytes);
            Epoch { loss, accuracy, held_out_loss: (!held_out.is_nan()).then_some(held_out) }
        };
        let best =
            |epochs| Ok::<_, anyhow::Error>((Layer { weight: floats("best.weight")?, bias: floats("best.bias")? }, epochs));
        Ok(Self {
            layer: bytes("layer")?,
            optimizer: bytes("optimizer")?,
            order: bytes("order")?.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b) as usize).collect(),
            drawn: header.drawn.parse()?,
            history: history.as_chunks::<8>().0.as_chunks::<3>().0.iter().map(epoch).collect(),
            best: header.best_after.map(best).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            layer: vec![1, 2, 3],
            optimizer: vec![],
            order: vec![2, 0, 1],
            drawn: u128::from(u64::MAX) + 7,
            history: vec![Epoch { loss: 0.1 + 0.2, accuracy: 0.75, held_out_loss: Some(1.5) }],
            best: Some((Layer { weight: vec![1.5, -2.0], bias: vec![0.25] }, 1)),
        }
    }

    #[test]
    fn what_was_kept_comes_back_to_its_own_training_only() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::beside(&folder.path().join("head"), true).unwrap();
        let slot = checkpoints.slot("breed");
        assert_eq!(slot.load("these").unwrap(), None);
        for state in [state(), State { best: None, ..state() }] {
            slot.save(&state, "these").unwrap();
            assert_eq!(slot.load("these").unwrap(), Some(state));
        }
        assert_eq!(checkpoints.slot("gate").load("these").unwrap(), None);
        let error = format!("{:#}", slot.load("those").unwrap_err());
        assert!(error.contains("other pictures") && error.contains("--resume"), "{error}");
        let path = folder.path().join("head.progress/breed.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(format!("{:#}", slot.load("these").unwrap_err()).contains("breed.safetensors"), "{length} bytes");
        }
        checkpoints.finish();
        assert!(!folder.path().join("head.progress").exists());
    }

    #[test]
    fn without_resume_nothing_of_an_earlier_training_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("head");
        Checkpoints::beside(&out, false).unwrap().slot("breed").save(&state(), "these").unwrap();
        assert!(Checkpoints::beside(&out, true).unwrap().slot("breed").load("these").unwrap().is_some());
        assert_eq!(Checkpoints::beside(&out, false).unwrap().slot("breed").load("these").unwrap(), None);
        Slot::NONE.save(&state(), "these").unwrap();
        assert_eq!(Slot::NONE.load("these").unwrap(), None);
    }
}
