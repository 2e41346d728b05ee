//! Backbone checkpoints: tensors by torchvision names, and the properties of a checkpoint that its tensors do not show.
//!
//! [`Checkpoint`] hands out weights and keeps account: what is missing, what has another shape, what nobody asked for. All
//! of it is reported at once by [`Checkpoint::finish`]. Batch normalisation may be folded already or is folded here.

pub mod layout;
pub(crate) mod torch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use pawgate::model::WeightsOrigin;
use safetensors::{Dtype, SafeTensors};

use crate::files::sha256;

/// Added to the variance when batch normalisation is folded; torchvision's value for both backbones.
const BATCH_NORM_EPSILON: f32 = 1e-5;

/// Tensors of a batch normalisation: scale, shift, mean, variance.
const NORM_FIELDS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// A dense f32 tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// `shape` product values.
    pub data: Vec<f32>,
}

/// A convolution with its bias; batch normalisation is in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// \[out, in / groups, height, width\].
    pub weight: Tensor,
    /// \[out\].
    pub bias: Vec<f32>,
}

/// A fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// \[out, in\].
    pub weight: Tensor,
    /// \[out\].
    pub bias: Vec<f32>,
}

/// A checkpoint file that is being read.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    sha256: String,
    tensors: BTreeMap<String, Tensor>,
    properties: HashMap<String, String>,
    taken: BTreeSet<String>,
    problems: Vec<String>,
}

impl Checkpoint {
    /// Reads a safetensors file of f32 tensors, or a state dict of torchvision (`.pth`, see [`torch`]). The first bytes tell
    /// which it is.
    ///
    /// # Errors
    /// When the file cannot be read, is neither of the two, or holds other types than f32 (and counters; in a `.pth`, half
    /// precision too).
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the weights {}", path.display()))?;
        let read = if is_safetensors(&bytes) || !torch::begins(&bytes) {
            Self::from_bytes(path, &bytes)
        } else {
            Self::from_torch(path, &bytes)
        };
        read.with_context(|| format!("cannot use the weights {}", path.display()))
    }

    fn from_torch(path: &Path, bytes: &[u8]) -> anyhow::Result<Self> {
        let sha256 = sha256(bytes);
        let torch::StateDict { tensors, properties } = torch::read(path, bytes, &sha256)?;
        Ok(Self::new(path, sha256, tensors, properties))
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> anyhow::Result<Self> {
        ensure!(is_safetensors(bytes), "neither a safetensors file nor a PyTorch checkpoint (.pth)");
        let (_, header) = SafeTensors::read_metadata(bytes).context("not a safetensors file")?;
        let file = SafeTensors::deserialize(bytes)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if is_counter(&name) {
                continue;
            }
            ensure!(view.dtype() == Dtype::F32, "tensor `{name}` is {:?}; f32 is expected", view.dtype());
            let data: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            check_finite(&name, &data)?;
            tensors.insert(name, Tensor { shape: view.shape().to_vec(), data });
        }
        Ok(Self::new(path, sha256(bytes), tensors, header.metadata().clone().unwrap_or_default()))
    }

    fn new(path: &Path, sha256: String, tensors: BTreeMap<String, Tensor>, properties: HashMap<String, String>) -> Self {
        Self { path: path.to_owned(), sha256, tensors, properties, taken: BTreeSet::new(), problems: Vec::new() }
    }

    /// A property that the file states about itself.
    ///
    /// # Errors
    /// When the file does not state it.
    pub fn property(&self, key: &str) -> anyhow::Result<&str> {
        self.properties.get(key).map(String::as_str).with_context(|| {
            format!("{} does not state the property `{key}` (safetensors `__metadata__`)", self.path.display())
        })
    }

    /// Who published the file under which licence.
    pub fn origin(&self) -> WeightsOrigin {
        let stated = |key| self.property(key).unwrap_or("not stated").to_owned();
        WeightsOrigin {
            architecture: stated("architecture"),
            source: stated("source"),
            licence: stated("license"),
            sha256: self.sha256.clone(),
        }
    }

    /// Takes the convolution `conv` with the output, input (per group) and kernel sizes of `shape`, and folds the batch
    /// normalisation `norm` into it where the file has one.
    pub fn conv(&mut self, conv: &str, norm: &str, shape: [usize; 4]) -> Conv {
        let out = shape[0];
        let mut weight = self.take(&format!("{conv}.weight"), &shape);
        if !NORM_FIELDS.iter().any(|field| self.tensors.contains_key(&format!("{norm}.{field}"))) {
            let bias = self.take(&format!("{conv}.bias"), &[out]).data;
            return Conv { weight, bias };
        }
        let [gamma, beta, mean, var] = NORM_FIELDS.map(|field| self.take(&format!("{norm}.{field}"), &[out]).data);
        if var.iter().any(|&v| v < 0.0) {
            self.problems.push(format!("negative:  {norm}.running_var has variances below 0"));
        }
        let bias_name = format!("{conv}.bias");
        let before = if self.tensors.contains_key(&bias_name) { self.take(&bias_name, &[out]).data } else { vec![0.0; out] };
        let mut bias = Vec::with_capacity(out);
        let per_output = weight.data.len() / out;
        for (o, kernel) in weight.data.chunks_mut(per_output).enumerate() {
            let factor = gamma[o] / (var[o] + BATCH_NORM_EPSILON).sqrt();
            kernel.iter_mut().for_each(|w| *w *= factor);
            bias.push((before[o] - mean[o]) * factor + beta[o]);
        }
        Conv { weight, bias }
    }

    /// Takes a fully connected layer with `inputs` inputs and as many outputs as the file has; `None` when it has none.
    pub fn classifier(&mut self, name: &str, inputs: usize) -> Option<Linear> {
        let out = self.tensors.get(&format!("{name}.weight"))?.shape.first().copied()?;
        let weight = self.take(&format!("{name}.weight"), &[out, inputs]);
        let bias = self.take(&format!("{name}.bias"), &[out]).data;
        Some(Linear { weight, bias })
    }

    /// Marks a tensor as used; notes a problem (and hands out zeros) when it is not as expected.
    fn take(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.taken.insert(name.to_owned());
        match self.tensors.get(name) {
            Some(tensor) if tensor.shape == shape => return tensor.clone(),
            Some(tensor) => self.problems.push(format!("misshapen: {name} is {:?}, expected {shape:?}", tensor.shape)),
            None => self.problems.push(format!("missing:   {name} {shape:?}")),
        }
        Tensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Lists every tensor that was missing, misshapen, or that nobody took.
    pub fn finish(mut self) -> anyhow::Result<()> {
        for (name, tensor) in &self.tensors {
            if !self.taken.contains(name) {
                self.problems.push(format!("unknown:   {name} {:?}", tensor.shape));
            }
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        let count = self.problems.len();
        bail!("{}: {count} tensors are not as expected\n  {}", self.path.display(), self.problems.join("\n  "))
    }
}

/// A safetensors file begins with the length of its JSON header, eight bytes, and the header.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

fn check_finite(name: &str, data: &[f32]) -> anyhow::Result<()> {
    ensure!(data.iter().all(|v| v.is_finite()), "tensor `{name}` holds values that are not finite");
    Ok(())
}

/// `num_batches_tracked` counts training steps and has no part in inference.
fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A safetensors file in memory.
    pub(crate) fn safetensors(tensors: &[(&str, &[usize], &[f32])], properties: &[(&str, &str)]) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, data)| data.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), data)| {
            (*name, safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap())
        });
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        safetensors::serialize(views, Some(properties)).unwrap()
    }

    fn checkpoint(tensors: &[(&str, &[usize], &[f32])]) -> Checkpoint {
        Checkpoint::from_bytes(Path::new("test.safetensors"), &safetensors(tensors, &[])).unwrap()
    }

    #[test]
    fn batch_norm_is_folded() {
        let mut file = checkpoint(&[
            ("c.weight", &[1, 2, 1, 1], &[3.0, -1.0]),
            ("n.weight", &[1], &[2.0]),
            ("n.bias", &[1], &[0.5]),
            ("n.running_mean", &[1], &[4.0]),
            ("n.running_var", &[1], &[0.25 - 1e-5]),
            ("n.num_batches_tracked", &[1], &[7.0]),
        ]);
        let conv = file.conv("c", "n", [1, 2, 1, 1]);
        file.finish().unwrap();
        // For the input (1, 2): the convolution gives 1, normalised (1 − 4) / 0.5 · 2 + 0.5 = −11.5.
        let output = conv.weight.data[0] + 2.0 * conv.weight.data[1] + conv.bias[0];
        assert!((output + 11.5).abs() < 1e-4, "{output}");
    }

    #[test]
    fn every_problem_is_listed_with_its_shape() {
        let mut file = checkpoint(&[("a.weight", &[1, 2, 1, 1], &[1.0, 2.0]), ("stray", &[1], &[0.0])]);
        file.conv("a", "n", [2, 2, 1, 1]);
        let error = file.finish().unwrap_err().to_string();
        for part in
            ["misshapen: a.weight is [1, 2, 1, 1], expected [2, 2, 1, 1]", "missing:   a.bias [2]", "unknown:   stray [1]"]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_batch_norm_that_lacks_a_part_is_not_taken_for_folded() {
        let mut file = checkpoint(&[
            ("c.weight", &[1, 1, 1, 1], &[3.0]),
            ("n.weight", &[1], &[2.0]),
            ("n.bias", &[1], &[0.5]),
            ("n.running_mean", &[1], &[4.0]),
        ]);
        file.conv("c", "n", [1, 1, 1, 1]);
        let error = file.finish().unwrap_err().to_string();
        assert!(error.contains("1 tensors are not as expected\n  missing:   n.running_var [1]"), "{error}");
    }

    #[test]
    fn negative_variances_are_a_problem() {
        let mut file = checkpoint(&[
            ("c.weight", &[1, 1, 1, 1], &[3.0]),
            ("n.weight", &[1], &[2.0]),
            ("n.bias", &[1], &[0.5]),
            ("n.running_mean", &[1], &[4.0]),
            ("n.running_var", &[1], &[-0.1]),
        ]);
        file.conv("c", "n", [1, 1, 1, 1]);
        let error = file.finish().unwrap_err().to_string();
        assert!(error.contains("negative:  n.running_var"), "{error}");
    }

    #[test]
    fn junk_is_refused() {
        let error = Checkpoint::from_bytes(Path::new("x"), b"not a checkpoint").unwrap_err().to_string();
        assert!(error.contains("neither a safetensors file nor a PyTorch checkpoint"), "{error}");
        let nan = safetensors(&[("a", &[1], &[f32::NAN])], &[]);
        assert!(Checkpoint::from_bytes(Path::new("x"), &nan).unwrap_err().to_string().contains("not finite"));
    }
}
