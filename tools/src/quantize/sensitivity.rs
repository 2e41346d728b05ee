//! What each layer's rounding costs by itself: one layer at a time in 8 bits, everything else in floats.

use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use pawgate::nn::{Network, Options};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::qdq::{self, Calibration, IntegerConv, Source};
use super::ranges::Affine;
use super::{Pictures, relative_error, with_outputs};
use crate::graph::fused::{FEATURES, RESNET_FEATURES};
use crate::graph::{GraphBuilder, Name};
use crate::progress;

/// What rounding costs, layer by layer: what `quantize --layers` writes. All errors are roots of the summed squared difference of
/// features, over that of the fp32 features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensitivity {
    /// SHA-256 of the fp32 network.
    pub network_sha256: String,
    /// How ranges were chosen, as in the model's description.
    pub estimator: String,
    /// Whether channels before depthwise convolutions were equalised.
    pub equalised: bool,
    /// Pictures that were measured on; none of them calibrated on.
    pub pictures: usize,
    /// Each backbone rounded whole.
    pub backbones: Vec<Backbone>,
    /// One layer rounded at a time, the costliest first.
    pub layers: Vec<Layer>,
}

/// A backbone of which everything is rounded but its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Its tensors' names begin so.
    pub name: String,
    /// Of its own features.
    pub errors: Errors,
}

/// One layer and what its rounding costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The tensor that it makes.
    pub name: String,
    /// Operator that makes it, before its activation.
    pub operator: String,
    /// Of the fused features.
    pub feature_error: f64,
    /// Of the features of its own backbone: one that has small features says no less with them.
    pub own: Errors,
}

/// Errors of the same features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// With all that is rounded.
    pub both: f64,
    /// With weights and biases alone.
    pub weights: f64,
    /// With what the layers make alone.
    pub activations: f64,
}

/// What is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Both,
    Weights,
    Activations,
}

/// A part of the fused features and the beginning of the names of the tensors that make it.
pub type Part = (&'static str, Range<usize>);

/// The two backbones.
pub const BACKBONES: [Part; 2] = [("resnet50", 0..RESNET_FEATURES), ("mobilenet_v2", RESNET_FEATURES..FEATURES)];

/// Measures every quantised tensor of `network` with what makes it, the costliest first; and each of `parts` whole.
///
/// `expected` are the fp32 features of `pictures`. A tensor of no part counts for all features.
///
/// # Errors
/// What rewriting or running reports.
pub fn measure(
    network: &ModelProto,
    calibration: &Calibration,
    pictures: &Pictures,
    expected: &[Vec<f32>],
    parts: &[Part],
) -> anyhow::Result<(Vec<Backbone>, Vec<Layer>)> {
    let graph = network.graph.as_ref().context("the model has no graph")?;
    let tensors: Vec<Name> = qdq::points(graph)?.into_iter().filter(|p| p.1 == Source::Calibrated).map(|p| p.0).collect();
    let bar = progress::bar("rounding one layer at a time", tensors.len() + parts.len());
    let features = |tensors: &[&Name], what: What| {
        let rounded = round(network, tensors, what, calibration)?;
        let network = Network::load(with_outputs(&rounded, &["embedding".into()]), Options::SINGLE_THREADED)?;
        let found = pictures.tensors.iter().map(|picture| Ok(network.run(picture)?.remove(0)));
        found.collect::<anyhow::Result<Vec<_>>>()
    };
    let error = |found: &[Vec<f32>], range: &Range<usize>| {
        let part = |features: &[Vec<f32>]| features.iter().map(|f| f[range.clone()].to_vec()).collect::<Vec<_>>();
        relative_error(&part(expected), &part(found))
    };
    let errors = |tensors: &[&Name], range: &Range<usize>| {
        let both = features(tensors, What::Both)?;
        let [weights, activations] = [features(tensors, What::Weights)?, features(tensors, What::Activations)?];
        let [both_error, weights, activations] = [&both, &weights, &activations].map(|found| error(found, range));
        bar.inc(1);
        anyhow::Ok((relative_error(expected, &both), Errors { both: both_error, weights, activations }))
    };
    let whole = 0..expected.first().map_or(0, Vec::len);
    let layer = |tensor: &Name| {
        let part = parts.iter().find(|(name, _)| belongs(tensor, name));
        let (feature_error, own) =
            errors(&[tensor], part.map_or(&whole, |part| &part.1)).with_context(|| format!("tensor `{tensor}`"))?;
        Ok(Layer { name: tensor.clone(), operator: maker(graph, tensor)?.op_type.clone(), feature_error, own })
    };
    let backbone = |(name, range): &Part| {
        let own: Vec<&Name> = tensors.iter().filter(|tensor| belongs(tensor, name)).collect();
        let (_, errors) = errors(&own, range).with_context(|| format!("backbone `{name}`"))?;
        Ok(Backbone { name: (*name).to_owned(), errors })
    };
    let mut layers: Vec<Layer> = tensors.par_iter().map(layer).collect::<anyhow::Result<_>>()?;
    let backbones = parts.par_iter().map(backbone).collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    layers.sort_by(|a, b| b.feature_error.total_cmp(&a.feature_error));
    Ok((backbones, layers))
}

/// Whether a tensor is one of a backbone.
fn belongs(tensor: &str, backbone: &str) -> bool {
    tensor.strip_prefix(backbone).is_some_and(|rest| rest.starts_with('/'))
}

impl Sensitivity {
    /// Reads what `quantize --layers` wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not what `quantize --layers` writes", path.display()))
    }

    /// The layers of a backbone, the costliest for it first.
    pub fn layers_of<'a>(&'a self, backbone: &str) -> Vec<&'a Layer> {
        let mut layers: Vec<&Layer> = self.layers.iter().filter(|layer| belongs(&layer.name, backbone)).collect();
        layers.sort_by(|a, b| b.own.both.total_cmp(&a.own.both));
        layers
    }
}

/// The network with tensors, and the convolutions that make them, rounded to what 8 bits hold.
pub(super) fn round(
    network: &ModelProto,
    tensors: &[&Name],
    what: What,
    calibration: &Calibration,
) -> anyhow::Result<ModelProto> {
    let mut network = network.clone();
    let graph = network.graph.as_mut().context("the model has no graph")?;
    for tensor in tensors {
        if what != What::Activations {
            round_weights(graph, tensor, calibration)?;
        }
        if what != What::Weights {
            round_tensor(graph, tensor, *calibration.ranges.get(*tensor).context("it has no range")?)?;
        }
    }
    Ok(network)
}

/// Rounds weights and biases of the convolutions that make a tensor.
fn round_weights(graph: &mut GraphProto, tensor: &str, calibration: &Calibration) -> anyhow::Result<()> {
    let maker = maker(graph, tensor)?.clone();
    // A convolution that is only rounded as a part of a sum counts with that.
    let parts = maker.input.iter().filter(|input| maker.op_type == "Add" && !calibration.ranges.contains_key(*input));
    let parts = parts.map(|part| Ok(self::maker(graph, part)?.clone())).collect::<anyhow::Result<Vec<_>>>()?;
    for conv in parts.iter().chain([&maker]).filter(|node| node.op_type == "Conv") {
        let integers = IntegerConv::of(conv, graph, calibration)?;
        set(graph, &conv.input[1], &integers.rounded_weight())?;
        set(graph, &conv.input[2], &integers.rounded_bias())?;
    }
    Ok(())
}

/// What makes a tensor, looking through its activation.
fn maker<'a>(graph: &'a GraphProto, tensor: &str) -> anyhow::Result<&'a NodeProto> {
    let node = graph.node.iter().find(|node| node.output[0] == tensor).context("no node makes it")?;
    match node.op_type.as_str() {
        "Relu" | "Clip" => maker(graph, &node.input[0]),
        _ => Ok(node),
    }
}

pub(super) fn set(graph: &mut GraphProto, name: &str, values: &[f32]) -> anyhow::Result<()> {
    let constant = graph.initializer.iter_mut().find(|t| t.name == name).context("a constant has gone")?;
    constant.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(())
}

/// Lets everybody read the tensor as 8 bits would hold it. In float operators, because quantised ones would be lowered to integers.
fn round_tensor(graph: &mut GraphProto, tensor: &str, affine: Affine) -> anyhow::Result<()> {
    let at = graph.node.iter().position(|node| node.output[0] == tensor).context("no node makes it")?;
    let [raw, rounded] = ["raw", "rounded"].map(|what| format!("{tensor}/{what}"));
    let zero = f32::from(affine.zero_point);
    let mut added = GraphBuilder::default();
    let scale = added.constant_f32(&format!("{rounded}/scale"), &[], &[affine.scale]);
    let low = added.constant_f32(&format!("{rounded}/low"), &[], &[-zero]);
    let high = added.constant_f32(&format!("{rounded}/high"), &[], &[255.0 - zero]);
    let steps = added.node("Div", &format!("{rounded}/steps"), &[&raw, &scale], &[]);
    let whole = added.node("Round", &format!("{rounded}/whole"), &[&steps], &[]);
    let held = added.node("Clip", &format!("{rounded}/held"), &[&whole, &low, &high], &[]);
    added.node("Mul", tensor, &[&held, &scale], &[]);
    let added = added.finish(vec![]).graph.unwrap_or_default();
    graph.node[at].output[0].clone_from(&raw);
    graph.node[at].name = raw;
    graph.node.splice(at + 1..at + 1, added.node);
    graph.initializer.extend(added.initializer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::qdq::tests::{calibrated, image, small_network};

    #[test]
    fn the_layer_with_the_coarsest_steps_costs_most() {
        let (network, image) = (small_network(), image());
        let mut calibration = calibrated(&network, &image);
        let expected = vec![Network::load(network.clone(), Options::SINGLE_THREADED).unwrap().run(&image).unwrap().remove(0)];
        let pictures = Pictures { tensors: vec![image] };
        let measured = |calibration: &Calibration| measure(&network, calibration, &pictures, &expected, &[]).unwrap().1;
        let layers = measured(&calibration);
        let made = |name: &str| layers.iter().find(|layer| layer.name == name).unwrap();
        assert_eq!((made("stem/relu").operator.as_str(), made("sum/relu").operator.as_str()), ("Conv", "Add"));
        assert!(layers.iter().all(|layer| layer.feature_error > 0.0 && layer.feature_error < 0.02), "{layers:?}");
        // The branch's weights are rounded where its sum is.
        let sum = "sum/relu".to_owned();
        let weights = |what: Option<What>| {
            let rounded = what.map_or_else(|| network.clone(), |what| round(&network, &[&sum], what, &calibration).unwrap());
            let constants = rounded.graph.unwrap().initializer;
            constants.into_iter().find(|constant| constant.name == "branch/weight").unwrap().raw_data
        };
        assert_ne!(weights(Some(What::Both)), weights(None));
        assert_eq!(weights(Some(What::Weights)), weights(Some(What::Both)));
        assert_eq!(weights(Some(What::Activations)), weights(None));
        calibration.ranges.get_mut("sum/relu").unwrap().scale *= 30.0;
        let coarser = measured(&calibration);
        let first = made("sum/relu");
        assert!(coarser[0].name == "sum/relu" && coarser[0].feature_error > 3.0 * first.feature_error, "{coarser:?}");
        assert!(coarser[0].own.activations > 3.0 * first.own.activations, "{coarser:?}");
        assert_eq!(coarser[0].own.weights, first.own.weights, "its weights are as fine as before");
        // All but the one that reads it, whose bias is in steps of it.
        let mut others = coarser[1..].iter().filter(|layer| layer.name != "depthwise/relu6");
        assert!(others.all(|layer| *layer == *made(&layer.name)), "the other layers are rounded as before: {coarser:?}");
    }

    #[test]
    fn a_backbone_is_rounded_whole_and_its_own_features_count() {
        let (mut network, image) = (small_network(), image());
        let calibration = calibrated(&network, &image);
        let run = |network: &ModelProto| Network::load(network.clone(), Options::SINGLE_THREADED).unwrap().run(&image).unwrap();
        let expected = vec![run(&network).remove(0)];
        // The last layer as a backbone of its own: it makes the second half of the features.
        let graph = network.graph.as_mut().unwrap();
        let renamed = |name: &mut String| {
            if name == "depthwise/relu6" {
                *name = "last/relu6".into();
            }
        };
        graph.node.iter_mut().for_each(|node| node.input.iter_mut().chain(&mut node.output).for_each(renamed));
        let mut calibration = calibration;
        let range = calibration.ranges.remove("depthwise/relu6").unwrap();
        calibration.ranges.insert("last/relu6".into(), range);
        let pictures = Pictures { tensors: vec![image.clone()] };
        let (backbones, layers) = measure(&network, &calibration, &pictures, &expected, &[("last", 8..16)]).unwrap();
        let last = layers.iter().find(|layer| layer.name == "last/relu6").unwrap();
        assert_eq!((backbones.len(), backbones[0].name.as_str()), (1, "last"));
        assert_eq!(backbones[0].errors, last.own, "it has one layer");
        assert!(last.own.both > last.feature_error, "the first half, which it does not touch, dilutes it: {last:?}");
        let sensitivity = Sensitivity {
            network_sha256: "x".into(),
            estimator: "mse".into(),
            equalised: false,
            pictures: 1,
            backbones,
            layers: layers.clone(),
        };
        assert_eq!(sensitivity.layers_of("last"), [last]);
        assert!(sensitivity.layers_of("las").is_empty(), "a name is no prefix of another");
    }
}
