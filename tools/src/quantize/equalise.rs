//! Channels before a depthwise convolution stretched to the whole range of their tensor (cross-layer equalisation, Nagel et al. 2019,
//! arXiv:1906.04721, section 4.1), where that loses nothing.
//!
//! All channels of a tensor share one scale in 8 bits, so a channel that stays small has few steps. It is multiplied by what its
//! largest value lacks to the end of its activation, in the convolution that makes it, and divided again in the depthwise
//! convolution that reads it. Both have a weight scale for each of the channels, so their integers stay the same. The paper replaces
//! ReLU6, which does not commute with factors; here nothing is stretched beyond its end, so it stays.

use std::collections::HashMap;

use anyhow::Context;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::qdq::{constant, floats};
use super::sensitivity::set;
use crate::graph::Name;

/// No channel is stretched more: it has hardly been seen.
const MOST: f32 = 64.0;

/// Equalises every convolution, Clip, depthwise convolution of the network that are read by nothing else; returns it with the number of
/// channels that were stretched. `maxima` are the largest values of each channel of tensors, over all calibration pictures.
///
/// # Errors
/// When a weight of such a chain is no f32 constant.
pub fn equalise(model: &ModelProto, maxima: &HashMap<Name, Vec<f32>>) -> anyhow::Result<(ModelProto, usize)> {
    let mut equalised = model.clone();
    let source = model.graph.as_ref().context("the model has no graph")?;
    let graph = equalised.graph.as_mut().context("the model has no graph")?;
    let mut stretched = 0;
    for depthwise in source.node.iter().filter(|node| is_depthwise(source, node)) {
        let Some((conv, end)) = chain(source, &depthwise.input[0]) else { continue };
        let Some(maxima) = maxima.get(&depthwise.input[0]) else { continue };
        let factors: Vec<f32> = maxima.iter().map(|&max| if max > 0.0 { (end / max).clamp(1.0, MOST) } else { 1.0 }).collect();
        stretched += factors.iter().filter(|&&factor| factor > 1.0).count();
        let inverse: Vec<f32> = factors.iter().map(|factor| 1.0 / factor).collect();
        for (name, factors) in [(&conv.input[1], &factors), (&conv.input[2], &factors), (&depthwise.input[1], &inverse)] {
            let mut values = floats(constant(source, name).with_context(|| format!("`{name}` is not constant"))?)?;
            let per_channel = values.len() / factors.len();
            for (channel, factor) in values.chunks_exact_mut(per_channel).zip(factors) {
                channel.iter_mut().for_each(|value| *value *= factor);
            }
            set(graph, name, &values)?;
        }
    }
    Ok((equalised, stretched))
}

fn is_depthwise(graph: &GraphProto, node: &NodeProto) -> bool {
    let groups = node.attribute.iter().find(|attribute| attribute.name == "group").map_or(1, |attribute| attribute.i);
    let weight = node.input.get(1).and_then(|name| constant(graph, name));
    node.op_type == "Conv" && groups > 1 && weight.is_some_and(|weight| weight.dims[..2] == [groups, 1])
}

/// The convolution that makes `tensor` through a Clip, and the Clip's end; `None` where it is made otherwise, or something else reads
/// on the way.
fn chain<'a>(graph: &'a GraphProto, tensor: &str) -> Option<(&'a NodeProto, f32)> {
    let maker = |tensor: &str| graph.node.iter().find(|node| node.output.iter().any(|output| output == tensor));
    let is_private = |tensor: &str| {
        let readers = graph.node.iter().flat_map(|node| &node.input).filter(|input| *input == tensor).count();
        readers == 1 && graph.output.iter().all(|output| output.name != tensor)
    };
    let clip = maker(tensor).filter(|node| node.op_type == "Clip" && is_private(tensor))?;
    let conv = maker(&clip.input[0]).filter(|node| node.op_type == "Conv" && node.input.len() == 3)?;
    let limit = |index: usize| floats(constant(graph, clip.input.get(index)?)?).ok()?.first().copied();
    // A factor keeps 0 and nothing else, so the lower end must be 0.
    let end = limit(2).filter(|&end| end > 0.0 && limit(1) == Some(0.0))?;
    is_private(&clip.input[0]).then_some((conv, end))
}

#[cfg(test)]
mod tests {
    use pawgate::nn::{Network, Options};

    use super::*;
    use crate::graph::{Activation, Attr, ConvGeometry, GraphBuilder};
    use crate::weights::{Conv, Tensor};

    /// 1×1 convolution with ReLU6, depthwise 3×3, mean; `twice` reads the tensor between them once more.
    fn network(twice: bool) -> ModelProto {
        let conv = |shape: [usize; 4], factor: f32| Conv {
            weight: Tensor {
                shape: shape.to_vec(),
                data: (0..shape.iter().product()).map(|i| factor * (i as f32 * 0.7).sin()).collect(),
            },
            bias: vec![0.1, -0.02, 0.3, 0.05],
        };
        let mut graph = GraphBuilder::new("small");
        let image = graph.input("image", &[1, 3, 8, 8]);
        let mut first = conv([4, 3, 1, 1], 1.0);
        // The last channel can never be above zero.
        first.weight.data[9..].fill(0.0);
        first.bias[3] = -1.0;
        let expanded = graph.conv("expand", &image, &first, ConvGeometry::POINTWISE, Activation::Relu6);
        let geometry = ConvGeometry { stride: 1, pads: [1; 4], groups: 4 };
        let made = graph.conv("depthwise", &expanded, &conv([4, 1, 3, 3], 0.5), geometry, Activation::Relu6);
        let parts = if twice { vec![made, expanded] } else { vec![made] };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let all = graph.node("Concat", "all", &parts, &[("axis", Attr::Int(1))]);
        graph.node("GlobalAveragePool", "mean", &[&all], &[]);
        graph.output("mean", &[1, 4 * parts.len(), 1, 1]);
        graph.finish(vec![])
    }

    #[test]
    fn the_network_stays_the_same_and_its_channels_fill_their_range() {
        let network = network(false);
        let image: Vec<f32> = (0..192).map(|i| ((i * 37 % 51) as f32 - 25.0) / 10.0).collect();
        let run = |model: &ModelProto, tensor: &str| {
            Network::load(super::super::with_outputs(model, &[tensor.into()]), Options::SINGLE_THREADED)
                .unwrap()
                .run(&image)
                .unwrap()
                .remove(0)
        };
        let tensor = "expand/relu6";
        let maxima = |model: &ModelProto| -> Vec<f32> {
            run(model, tensor).chunks(64).map(|c| c.iter().copied().fold(0.0, f32::max)).collect()
        };
        let before = maxima(&network);
        assert!(before[..3].iter().all(|&max| max > 0.1 && max < 5.9) && before[3] == 0.0, "{before:?}");
        let (equalised, stretched) = equalise(&network, &[(tensor.to_owned(), before)].into()).unwrap();
        assert_eq!(stretched, 3);
        assert!(maxima(&equalised)[..3].iter().all(|&max| (max - 6.0).abs() < 1e-4), "{:?}", maxima(&equalised));
        for (a, b) in run(&network, "mean").iter().zip(run(&equalised, "mean")) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn what_something_else_reads_is_left_alone() {
        let network = network(true);
        let (equalised, stretched) = equalise(&network, &[("expand/relu6".to_owned(), vec![1.0; 4])].into()).unwrap();
        assert_eq!((equalised, stretched), (network, 0));
    }
}
