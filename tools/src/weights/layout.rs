//! What distinguishes the published variants of one architecture, and cannot be seen in tensor shapes: where a stride sits,
//! how a border is padded, which input the network was trained on. Read from the checkpoint's own statement, never assumed: a
//! safetensors file states properties, and a pickled state dict of torchvision states them by being one ([`super::torch`]).

use anyhow::{Context, bail};

use super::Checkpoint;

/// Padding in the order of ONNX: top, left, bottom, right.
pub type Pads = [usize; 4];

/// Which convolution of a bottleneck block carries the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BottleneckStride {
    /// The first 1×1 (He et al. 2015; "v1").
    First1x1,
    /// The 3×3 (torchvision; "v1.5").
    Middle3x3,
}

/// The value range that a backbone was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputRange {
    /// RGB / 255, minus the ImageNet mean, divided by the ImageNet standard deviation.
    ImageNet,
    /// RGB / 127.5 − 1 (TensorFlow).
    MinusOneToOne,
}

/// Variant of a ResNet-50 checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNet50Layout {
    /// Where the stride of layers 2 to 4 sits.
    pub stride: BottleneckStride,
    /// Padding of the max pool.
    pub maxpool_pads: Pads,
    /// Expected input.
    pub input: InputRange,
}

/// Variant of a MobileNetV2 checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MobileNetV2Layout {
    /// Padding of every 3×3 convolution of stride 2.
    pub stride2_pads: Pads,
    /// Expected input.
    pub input: InputRange,
}

impl ResNet50Layout {
    /// Reads the properties `architecture`, `maxpool_pads` and `input`.
    ///
    /// # Errors
    /// When one is not stated or not known.
    pub fn of(checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        let architecture = checkpoint.property("architecture")?;
        let stride = match architecture.split_whitespace().next() {
            Some("resnet50_v1") => BottleneckStride::First1x1,
            Some("resnet50_v1.5") => BottleneckStride::Middle3x3,
            _ => bail!("architecture `{architecture}` is neither `resnet50_v1` nor `resnet50_v1.5`"),
        };
        Ok(Self { stride, maxpool_pads: pads(checkpoint, "maxpool_pads")?, input: input(checkpoint)? })
    }
}

impl MobileNetV2Layout {
    /// Reads the properties `architecture`, `stride2_pads` and `input`.
    ///
    /// # Errors
    /// When one is not stated or not known.
    pub fn of(checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        let architecture = checkpoint.property("architecture")?;
        if !architecture.starts_with("mobilenet_v2 1.0 224") {
            bail!("architecture `{architecture}` is not `mobilenet_v2 1.0 224`");
        }
        Ok(Self { stride2_pads: pads(checkpoint, "stride2_pads")?, input: input(checkpoint)? })
    }
}

fn pads(checkpoint: &Checkpoint, key: &str) -> anyhow::Result<Pads> {
    let text = checkpoint.property(key)?;
    let values: Option<Vec<usize>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
    values
        .and_then(|v| Pads::try_from(v).ok())
        .with_context(|| format!("property `{key}` is `{text}`, expected top,left,bottom,right such as 0,0,1,1"))
}

fn input(checkpoint: &Checkpoint) -> anyhow::Result<InputRange> {
    match checkpoint.property("input")? {
        "RGB/255, ImageNet mean/std" => Ok(InputRange::ImageNet),
        "RGB/127.5-1" => Ok(InputRange::MinusOneToOne),
        other => bail!("input `{other}` is neither `RGB/255, ImageNet mean/std` nor `RGB/127.5-1`"),
    }
}
