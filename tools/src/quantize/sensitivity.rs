//! What each layer's rounding costs by itself: one layer at a time in 8 bits, everything else in floats.

use anyhow::Context;
use pawgate::nn::{Network, Options};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::qdq::{self, Calibration, IntegerConv, Source};
use super::ranges::Affine;
use super::{Pictures, relative_error, with_outputs};
use crate::graph::{GraphBuilder, Name};
use crate::progress;

/// One layer and what its rounding costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The tensor that it makes.
    pub name: String,
    /// Operator that makes it, before its activation.
    pub operator: String,
    /// Root of the summed squared difference of the fused features, over that of the fp32 features.
    pub feature_error: f64,
}

/// Measures every quantised tensor of `network` with what makes it, the costliest first.
///
/// `expected` are the fp32 features of `pictures`.
///
/// # Errors
/// What rewriting or running reports.
pub fn measure(
    network: &ModelProto,
    calibration: &Calibration,
    pictures: &Pictures,
    expected: &[Vec<f32>],
) -> anyhow::Result<Vec<Layer>> {
    let graph = network.graph.as_ref().context("the model has no graph")?;
    let tensors: Vec<Name> = qdq::points(graph)?.into_iter().filter(|p| p.1 == Source::Calibrated).map(|p| p.0).collect();
    let bar = progress::bar("rounding one layer at a time", tensors.len());
    let layer = |tensor: &Name| {
        let (rounded, operator) = round_one(network, tensor, calibration).with_context(|| format!("tensor `{tensor}`"))?;
        let network = Network::load(with_outputs(&rounded, &["embedding".into()]), Options::SINGLE_THREADED)?;
        let found = pictures.tensors.iter().map(|picture| Ok(network.run(picture)?.remove(0)));
        let found = found.collect::<anyhow::Result<Vec<_>>>()?;
        bar.inc(1);
        Ok(Layer { name: tensor.clone(), operator, feature_error: relative_error(expected, &found) })
    };
    let mut layers: Vec<Layer> = tensors.par_iter().map(layer).collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    layers.sort_by(|a, b| b.feature_error.total_cmp(&a.feature_error));
    Ok(layers)
}

/// The network with the tensor, and the convolutions that make it, rounded to what 8 bits hold; and the operator's name.
fn round_one(network: &ModelProto, tensor: &str, calibration: &Calibration) -> anyhow::Result<(ModelProto, String)> {
    let mut network = network.clone();
    let graph = network.graph.as_mut().context("the model has no graph")?;
    let maker = maker(graph, tensor)?.clone();
    // A convolution that is only rounded as a part of a sum counts with that.
    let parts = maker.input.iter().filter(|input| maker.op_type == "Add" && !calibration.ranges.contains_key(*input));
    let parts = parts.map(|part| Ok(self::maker(graph, part)?.clone())).collect::<anyhow::Result<Vec<_>>>()?;
    for conv in parts.iter().chain([&maker]).filter(|node| node.op_type == "Conv") {
        let integers = IntegerConv::of(conv, graph, calibration)?;
        set(graph, &conv.input[1], &integers.rounded_weight())?;
        set(graph, &conv.input[2], &integers.rounded_bias())?;
    }
    round_tensor(graph, tensor, *calibration.ranges.get(tensor).context("it has no range")?)?;
    Ok((network, maker.op_type))
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
        let layers = measure(&network, &calibration, &pictures, &expected).unwrap();
        let made = |name: &str| layers.iter().find(|layer| layer.name == name).unwrap();
        assert_eq!((made("stem/relu").operator.as_str(), made("sum/relu").operator.as_str()), ("Conv", "Add"));
        assert!(layers.iter().all(|layer| layer.feature_error > 0.0 && layer.feature_error < 0.02), "{layers:?}");
        // The branch's weights are rounded where its sum is.
        let (rounded, _) = round_one(&network, "sum/relu", &calibration).unwrap();
        let weights = |model: &ModelProto| {
            let constants = &model.graph.as_ref().unwrap().initializer;
            constants.iter().find(|constant| constant.name == "branch/weight").unwrap().raw_data.clone()
        };
        assert_ne!(weights(&rounded), weights(&network));
        calibration.ranges.get_mut("sum/relu").unwrap().scale *= 30.0;
        let coarser = measure(&network, &calibration, &pictures, &expected).unwrap();
        assert!(
            coarser[0].name == "sum/relu" && coarser[0].feature_error > 3.0 * made("sum/relu").feature_error,
            "{coarser:?}"
        );
        // All but the one that reads it, whose bias is in steps of it.
        let mut others = coarser[1..].iter().filter(|layer| layer.name != "depthwise/relu6");
        assert!(others.all(|layer| *layer == *made(&layer.name)), "the other layers are rounded as before: {coarser:?}");
    }
}
