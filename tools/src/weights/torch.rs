//! torchvision's official checkpoints: the pickled state dicts (`.pth`) of ResNet-50 and MobileNetV2, in the ZIP format of
//! PyTorch 1.6 and later and in the stream format before it.
//!
//! A pickle states no properties. What the graph needs to know follows from what the file is: a pickled state dict with
//! torchvision's names and its batch normalisation not yet folded is torchvision's network, and torchvision has one variant of
//! each. A pickle that is anything else is refused, so nothing is assumed about it.
//!
//! Reading a pickle never runs anything: `pytorch-reader` knows the handful of calls that make a tensor and keeps any other as
//! a name, which is refused here.

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use pytorch_reader::{DType, PickleValue, PytorchReader};

use super::{Tensor, check_finite, is_counter};

/// Bytes of all tensors together; ResNet-50 has 98 MiB. A tensor can be declared larger than the file (stride 0).
const MAX_TENSOR_BYTES: usize = 512 << 20;
/// Bytes of the pickle in a ZIP; ResNet-50 has 43 KiB.
const MAX_PICKLE_BYTES: u64 = 4 << 20;
/// Where `torch.save` of a training run keeps the state dict.
const NESTED: &str = "state_dict.";
/// Added to every name by `DataParallel`.
const PARALLEL: &str = "module.";

/// What a pickle gives: f32 tensors by torchvision names, and the properties that follow from what it is.
#[derive(Debug)]
pub(super) struct StateDict {
    pub tensors: BTreeMap<String, Tensor>,
    pub properties: HashMap<String, String>,
}

/// A network of torchvision.
struct Architecture {
    title: &'static str,
    /// A tensor that no other network of torchvision has.
    marker: &'static str,
    /// What is known of the network, in the words of [`super::layout`].
    properties: [(&'static str, &'static str); 3],
    /// Published files: the first digits of the SHA-256, and the name of the weights.
    published: [(&'static str, &'static str); 2],
}

const ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        title: "ResNet-50",
        marker: "layer1.0.conv3.weight",
        properties: [
            ("architecture", "resnet50_v1.5 (torchvision)"),
            ("maxpool_pads", "1,1,1,1"),
            ("input", "RGB/255, ImageNet mean/std"),
        ],
        published: [
            ("0676ba61", "torchvision ResNet50_Weights.IMAGENET1K_V1 (resnet50-0676ba61.pth)"),
            ("11ad3fa6", "torchvision ResNet50_Weights.IMAGENET1K_V2 (resnet50-11ad3fa6.pth)"),
        ],
    },
    Architecture {
        title: "MobileNetV2",
        marker: "features.1.conv.0.0.weight",
        properties: [
            ("architecture", "mobilenet_v2 1.0 224 (torchvision)"),
            ("stride2_pads", "1,1,1,1"),
            ("input", "RGB/255, ImageNet mean/std"),
        ],
        published: [
            ("b0353104", "torchvision MobileNet_V2_Weights.IMAGENET1K_V1 (mobilenet_v2-b0353104.pth)"),
            ("7ebf99e0", "torchvision MobileNet_V2_Weights.IMAGENET1K_V2 (mobilenet_v2-7ebf99e0.pth)"),
        ],
    },
];

/// Whether a file that begins with `bytes` is to be read here: a ZIP, a pickle or a TAR.
pub(super) fn begins(bytes: &[u8]) -> bool {
    is_zip(bytes) || bytes.first() == Some(&0x80) || is_tar(bytes)
}

fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// Reads the state dict at `path`, a file that begins with `bytes` and has this hash.
///
/// # Errors
/// When the file is damaged, holds objects other than tensors, numbers and text, or is not a state dict of torchvision.
pub(super) fn read(path: &Path, bytes: &[u8], sha256: &str) -> anyhow::Result<StateDict> {
    if is_zip(bytes) {
        check_zip(path).context("not a whole PyTorch file")?;
    } else {
        ensure!(!is_tar(bytes), "this TAR was saved by PyTorch before 0.1.10; load it with a later one and save it again");
    }
    let content = PytorchReader::read_pickle_data(path, None).context("not a whole PyTorch file")?;
    refuse_objects("", &content)?;
    let file = PytorchReader::new(path).context("not a whole PyTorch file")?;
    let tensors = f32_tensors(plain_names(file.into_tensors()))?;
    let properties = properties(&tensors, sha256)?;
    Ok(StateDict { tensors, properties })
}

/// `torch.save` compresses nothing; what is compressed could grow without limit.
fn check_zip(path: &Path) -> anyhow::Result<()> {
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(File::open(path)?))?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let name = entry.name()?;
        ensure!(entry.compression() == zip::CompressionMethod::Stored, "`{name}` is compressed, which torch.save never does");
        let pickle = name == "data.pkl" || name.ends_with("/data.pkl");
        ensure!(!pickle || entry.size() <= MAX_PICKLE_BYTES, "`{name}` has {} bytes, too many for a state dict", entry.size());
    }
    Ok(())
}

/// A state dict is made of tensors, numbers and text; anything else is a call or a class that only Python can make.
fn refuse_objects(place: &str, value: &PickleValue) -> anyhow::Result<()> {
    let inside = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match value {
        PickleValue::Unsupported(kind) if kind != "torch.Tensor" => {
            let place = if place.is_empty() { "the file" } else { place };
            bail!(
                "{place} is a Python object (`{kind}`), which is never made here; save the state dict alone, with \
                 torch.save(model.state_dict(), path)"
            )
        }
        PickleValue::List(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| refuse_objects(&inside(&index.to_string()), item))
        }
        PickleValue::Dict(entries) => entries.iter().try_for_each(|(name, item)| refuse_objects(&inside(name), item)),
        _ => Ok(()),
    }
}

type Lazy = pytorch_reader::Tensor;

/// Takes the state dict out of a training checkpoint, and the names out of `DataParallel`.
fn plain_names(all: HashMap<String, Lazy>) -> BTreeMap<String, Lazy> {
    let nested = all.keys().any(|name| name.starts_with(NESTED));
    let mut tensors: BTreeMap<String, Lazy> = if nested {
        all.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(NESTED)?.to_owned(), tensor))).collect()
    } else {
        all.into_iter().collect()
    };
    if tensors.keys().all(|name| name.starts_with(PARALLEL)) {
        tensors = tensors.into_iter().map(|(name, tensor)| (name[PARALLEL.len()..].to_owned(), tensor)).collect();
    }
    tensors
}

fn f32_tensors(lazy: BTreeMap<String, Lazy>) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let bytes = lazy.values().fold(0_usize, |sum, tensor| sum.saturating_add(tensor.byte_len()));
    ensure!(bytes <= MAX_TENSOR_BYTES, "its tensors have {bytes} bytes, too many for ResNet-50 or MobileNetV2");
    let mut tensors = BTreeMap::new();
    for (name, tensor) in lazy {
        if is_counter(&name) {
            continue;
        }
        let data = f32_values(&tensor).with_context(|| format!("tensor `{name}`"))?;
        check_finite(&name, &data)?;
        tensors.insert(name, Tensor { shape: tensor.shape().to_vec(), data });
    }
    Ok(tensors)
}

/// The values row by row, whatever the strides in the file.
fn f32_values(tensor: &Lazy) -> anyhow::Result<Vec<f32>> {
    let half = |convert: fn([u8; 2]) -> f32| -> anyhow::Result<Vec<f32>> {
        Ok(tensor.read()?.as_chunks::<2>().0.iter().map(|b| convert(*b)).collect())
    };
    match tensor.dtype() {
        DType::F32 => Ok(tensor.read()?.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()),
        DType::F16 => half(|b| half::f16::from_ne_bytes(b).to_f32()),
        DType::BF16 => half(|b| half::bf16::from_ne_bytes(b).to_f32()),
        other => bail!("is {other:?}; f32, f16 or bf16 is expected"),
    }
}

fn properties(tensors: &BTreeMap<String, Tensor>, sha256: &str) -> anyhow::Result<HashMap<String, String>> {
    let Some(known) = ARCHITECTURES.iter().find(|a| tensors.contains_key(a.marker)) else {
        let names: Vec<&str> = tensors.keys().take(3).map(String::as_str).collect();
        bail!(
            "neither torchvision's ResNet-50 nor its MobileNetV2: {} tensors, the first are {names:?}; expected `{}` or `{}`",
            tensors.len(),
            ARCHITECTURES[0].marker,
            ARCHITECTURES[1].marker,
        );
    };
    ensure!(
        tensors.keys().any(|name| name.ends_with(".running_var")),
        "a {} without batch normalisation is not torchvision's, and a pickle cannot say which variant it is; save it as \
         safetensors with the properties `architecture`, `input` and the paddings",
        known.title
    );
    let published = known.published.iter().find(|(digits, _)| sha256.starts_with(digits));
    let (source, licence) = match published {
        Some((_, source)) => (*source, "BSD-3-Clause"),
        None => {
            log::warn!(
                "none of the files that torchvision published (SHA-256 {sha256}); read as its {}, {}",
                known.title,
                known.properties[0].1
            );
            ("torchvision state dict", "not stated")
        }
    };
    let stated = known.properties.into_iter().chain([("source", source), ("license", licence)]);
    Ok(stated.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}
