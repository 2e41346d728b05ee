//! Both backbones over one image: the feature extractor that is trained on, and (with the ImageNet classifiers put back) the
//! check that the backbones were read correctly.

use std::path::Path;

use anyhow::Context;
use pawgate::model::WeightsOrigin;
use tract_onnx::pb::ModelProto;

use super::{Attr, GraphBuilder, mobilenet_v2, property, resnet50};
use crate::weights::Checkpoint;
use crate::weights::layout::{InputRange, MobileNetV2Layout, ResNet50Layout};

/// Width and height of the input.
pub const SIZE: usize = 224;
/// Length of the fused features.
pub const FEATURES: usize = resnet50::FEATURES + mobilenet_v2::FEATURES;
/// The ResNet-50 part of the fused features; the MobileNetV2 part follows.
pub const RESNET_FEATURES: usize = resnet50::FEATURES;
/// Property of a fused network that holds its [`WeightsOrigin`]s.
const WEIGHTS_KEY: &str = "pawgate.weights";
/// Outputs of the ImageNet classifiers.
pub const IMAGENET_OUTPUTS: [&str; 2] = ["resnet50/imagenet", "mobilenet_v2/imagenet"];

/// Reads both checkpoints and builds the fused fp32 network: `image` \[1, 3, 224, 224\] → `embedding` \[1, 3328\].
///
/// With `classifiers`, the checkpoints' own ImageNet classifiers become the outputs [`IMAGENET_OUTPUTS`] as well.
///
/// # Errors
/// Lists missing, misshapen and unknown tensors with their shapes, and properties that are not stated.
pub fn build(resnet: &Path, mobilenet: &Path, classifiers: bool) -> anyhow::Result<ModelProto> {
    let mut resnet_file = Checkpoint::open(resnet)?;
    let mut mobilenet_file = Checkpoint::open(mobilenet)?;
    let layout = ResNet50Layout::of(&resnet_file)?;
    anyhow::ensure!(layout.input == InputRange::ImageNet, "a ResNet-50 trained on {:?} is not supported", layout.input);
    let mobilenet_layout = MobileNetV2Layout::of(&mobilenet_file)?;
    let origins = [resnet_file.origin(), mobilenet_file.origin()];

    let mut graph = GraphBuilder::new("pawgate-fused");
    let image = graph.input(pawgate::model::INPUT, &[1, 3, SIZE, SIZE]);
    let first = resnet50::add(&mut graph, "resnet50", &image, &mut resnet_file, layout);
    let second = mobilenet_v2::add(&mut graph, "mobilenet_v2", &image, &mut mobilenet_file, mobilenet_layout);
    graph.node("Concat", "embedding", &[&first, &second], &[("axis", Attr::Int(1))]);
    graph.output("embedding", &[1, FEATURES]);

    let parts = [
        (&mut resnet_file, "fc", first, resnet50::FEATURES),
        (&mut mobilenet_file, "classifier.1", second, mobilenet_v2::FEATURES),
    ];
    for ((file, layer, features, width), output) in parts.into_iter().zip(IMAGENET_OUTPUTS) {
        let linear = file.classifier(layer, width);
        if classifiers {
            let linear = linear.with_context(|| format!("the checkpoint has no ImageNet classifier `{layer}`"))?;
            graph.linear(output, &features, &linear);
            graph.output(output, &[1, linear.bias.len()]);
        }
    }
    resnet_file.finish()?;
    mobilenet_file.finish()?;
    Ok(graph.finish(vec![(WEIGHTS_KEY.into(), serde_json::to_string(&origins)?)]))
}

/// The origins that [`build`] wrote into a fused network.
///
/// # Errors
/// When the file is not one that [`build`] wrote.
pub fn origins(model: &ModelProto) -> anyhow::Result<Vec<WeightsOrigin>> {
    let text = property(model, WEIGHTS_KEY)
        .context("the network does not name the origin of its weights; make it with `pawgate-tools build`")?;
    serde_json::from_str(text).with_context(|| format!("property `{WEIGHTS_KEY}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::torch::fixture;

    /// Integers of an attribute of a node.
    fn ints<'a>(model: &'a ModelProto, node: &str, attribute: &str) -> &'a [i64] {
        let node = model.graph.as_ref().unwrap().node.iter().find(|n| n.name == node).unwrap();
        &node.attribute.iter().find(|a| a.name == attribute).unwrap().ints
    }

    #[test]
    fn torchvision_checkpoints_become_their_networks() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [("r.pth", fixture::resnet50()), ("m.pth", fixture::mobilenet_v2())].map(|(name, entries)| {
            let path = folder.path().join(name);
            std::fs::write(&path, fixture::saved(&entries)).unwrap();
            path
        });
        let model = build(&paths[0], &paths[1], true).unwrap();

        for layer in [2, 3, 4] {
            let block = format!("resnet50/layer{layer}.0");
            assert_eq!(ints(&model, &format!("{block}/conv1"), "strides"), [1, 1]);
            assert_eq!(ints(&model, &format!("{block}/conv2"), "strides"), [2, 2]);
            assert_eq!(ints(&model, &format!("{block}/downsample"), "strides"), [2, 2]);
        }
        assert_eq!(ints(&model, "resnet50/maxpool", "pads"), [1; 4]);
        let graph = model.graph.as_ref().unwrap();
        let strided: Vec<&str> = graph
            .node
            .iter()
            .filter(|n| {
                n.op_type == "Conv" && n.name.starts_with("mobilenet_v2/") && ints(&model, &n.name, "strides") == [2, 2]
            })
            .map(|n| n.name.as_str())
            .collect();
        assert_eq!(
            strided,
            ["features.0", "features.2/depthwise", "features.4/depthwise", "features.7/depthwise", "features.14/depthwise"]
                .map(|n| format!("mobilenet_v2/{n}"))
        );
        assert!(strided.iter().all(|name| ints(&model, name, "pads") == [1; 4]));
        let stem = graph.node.iter().find(|n| n.name == "mobilenet_v2/features.0").unwrap();
        assert_eq!(stem.input[0], pawgate::model::INPUT, "the input is normalised already, so nothing stands before the stem");
        for output in IMAGENET_OUTPUTS {
            assert!(graph.initializer.iter().any(|t| t.name == format!("{output}/weight") && t.dims[0] == 1000));
        }
        let architectures = origins(&model).unwrap().into_iter().map(|o| o.architecture);
        assert_eq!(architectures.collect::<Vec<_>>(), ["resnet50_v1.5 (torchvision)", "mobilenet_v2 1.0 224 (torchvision)"]);
    }
}
