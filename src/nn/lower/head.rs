//! What comes after the last quantised pictures: a small ONNX graph of its own, imported by tract and put behind ours. Only its fully
//! connected layers with 8-bit weights are operators of ours.

use std::collections::HashSet;

use super::message::int;
use super::*;
use crate::nn::ops::linear::Linear;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::InferenceModelExt;

/// Imports the head and makes its outputs the graph's.
pub(super) fn import(lowering: &mut Lowering<'_>) -> Result<(), LowerError> {
    let Head { nodes, features, linears } = collect(lowering)?;
    let mut head = lowering.message.rest();
    let graph = head.graph.get_or_insert_default();
    graph.value_info.clear();
    graph.node = nodes.iter().map(|node| NodeProto::clone(node)).collect();
    let read: HashSet<&String> = nodes.iter().flat_map(|node| &node.input).collect();
    graph.initializer = read.iter().filter_map(|name| lowering.message.whole_constant(name)).collect();
    graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
    // tract sees the integer layers from outside: what they read leaves its graph, what they make enters it.
    graph.input = features.iter().map(|(name, mean)| port(name, &[1, mean.channels, 1, 1])).collect();
    graph.input.extend(linears.iter().map(|linear| port(&linear.node.output[0], &[1, linear.op.outputs()])));
    let outputs = graph.output.len();
    let inputs = linears.iter().map(|linear| ValueInfoProto { name: linear.node.input[0].clone(), ..Default::default() });
    graph.output.extend(inputs);
    let fails = |e: TractError| LowerError { node: "head".into(), op: "float operators".into(), reason: format!("{e:#}") };
    let model = tract_onnx::onnx().model_for_proto_model(&head).and_then(|model| model.into_typed()).map_err(fails)?;
    splice(&mut lowering.model, &model, &features, linears, outputs).map_err(fails)
}

/// What comes after the last quantised pictures.
struct Head {
    /// For tract, in their order.
    nodes: Vec<Arc<NodeProto>>,
    /// Pooled features, by name.
    features: Vec<(String, pool::Mean)>,
    /// Fully connected layers with 8-bit weights.
    linears: Vec<IntegerLinear>,
}

struct IntegerLinear {
    node: Arc<NodeProto>,
    op: Linear,
}

fn collect(lowering: &mut Lowering<'_>) -> Result<Head, LowerError> {
    // Tensors and who reads them; nobody reads the graph's outputs.
    let mut wanted: Vec<(String, Option<Arc<NodeProto>>)> =
        lowering.message.outputs().iter().map(|o| (o.name.clone(), None)).collect();
    let mut seen = HashSet::new();
    let mut positions = vec![];
    let mut head = Head { nodes: vec![], features: vec![], linears: vec![] };
    while let Some((tensor, reader)) = wanted.pop() {
        let Some(position) = lowering.message.position(&tensor) else { continue };
        let node = lowering.message.node(position);
        if !seen.insert(position) {
            continue;
        }
        let of_constant = |lowering: &Lowering<'_>| lowering.message.constant(&node.input[0]).is_some();
        match node.op_type.as_str() {
            "GlobalAveragePool" => head.features.push((node.output[0].clone(), pool::average(lowering, &node)?)),
            "DequantizeLinear" if !of_constant(lowering) => {
                let reader = reader.as_ref().unwrap_or(&node);
                fail(reader, format!("reads the picture `{}` as floats; only a GlobalAveragePool may", node.input[0]))?;
            }
            "Gemm" if has_integer_weights(lowering, &node) => {
                wanted.push((node.input[0].clone(), Some(Arc::clone(&node))));
                head.linears.push(IntegerLinear { op: linear(lowering, &node)?, node });
            }
            _ => {
                positions.push(position);
                wanted.extend(node.input.iter().map(|input| (input.clone(), Some(Arc::clone(&node)))));
            }
        }
    }
    if lowering.input.is_none() {
        return Err(LowerError { node: "input".into(), op: "graph".into(), reason: "is read as floats, not quantised".into() });
    }
    positions.sort_unstable();
    head.nodes = positions.into_iter().map(|p| lowering.message.node(p)).collect();
    Ok(head)
}

fn has_integer_weights(lowering: &Lowering<'_>, node: &Arc<NodeProto>) -> bool {
    let dequantize = node.input.get(1).and_then(|weight| lowering.message.maker(weight));
    let weight = dequantize.as_ref().filter(|node| node.op_type == "DequantizeLinear").map(|node| &node.input[0]);
    weight.and_then(|weight| lowering.message.constant(weight)).is_some_and(|tensor| tensor.data_type == DataType::Int8 as i32)
}

/// `x · Wᵀ + b` with `W` in 8 bits.
fn linear(lowering: &Lowering<'_>, node: &Arc<NodeProto>) -> Outcome<Linear> {
    let factors = node.attribute.iter().filter(|a| a.name == "alpha" || a.name == "beta");
    if int(node, "transA", 0) != 0 || int(node, "transB", 0) != 1 || factors.map(|a| a.f).any(|factor| factor != 1.0) {
        return fail(node, "8-bit weights have the shape [outputs, inputs] (transB = 1), and there are no factors");
    }
    let (weight, scales) = conv::constant(lowering, node, 1, DataType::Int8)?;
    let [outputs, _] = lowering.message.dims(&weight)[..] else {
        return fail(node, format!("its weight has the shape {:?}; expected two dimensions", lowering.message.dims(&weight)));
    };
    let scales = if scales.len() == 1 { vec![scales[0]; outputs] } else { scales };
    let bias = node.input.get(2).map_or(Err("has no bias".into()), |bias| lowering.message.floats(bias));
    let parts = bias.and_then(|bias| Ok((bias, lowering.message.bytes(&weight, DataType::Int8)?)));
    let (bias, weights) = parts.or_else(|reason| fail(node, reason))?;
    let weights = weights.iter().map(|&b| b as i8).collect();
    Linear::new(weights, scales, bias).or_else(|e| fail(node, e.to_string()))
}

/// An f32 input.
fn port(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dimension = |&size: &usize| Dimension { value: Some(dimension::Value::DimValue(size as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

/// Copies the nodes of `head` behind the tensors it reads, with the integer layers between; the first `outputs` of its outputs become the
/// graph's, the others are what the integer layers read.
fn splice(
    model: &mut TypedModel,
    head: &TypedModel,
    features: &[(String, pool::Mean)],
    linears: Vec<IntegerLinear>,
    outputs: usize,
) -> TractResult<()> {
    let (features_in, made_outside) = head.input_outlets()?.split_at(features.len());
    let (wanted, read_outside) = head.output_outlets()?.split_at(outputs);
    let mut mapping: HashMap<OutletId, OutletId> =
        features_in.iter().zip(features).map(|(outlet, (_, mean))| (*outlet, mean.outlet)).collect();
    let mut outside: HashMap<OutletId, (OutletId, IntegerLinear)> =
        made_outside.iter().zip(read_outside.iter().copied().zip(linears)).map(|(made, read)| (*made, read)).collect();
    let mut pending = head.eval_order()?;
    // A pass wires what it can; after each, an integer layer or more have been wired that others waited for.
    while !pending.is_empty() {
        let mut waiting = vec![];
        for &id in &pending {
            let made = OutletId::new(id, 0);
            if mapping.contains_key(&made) {
                continue;
            }
            let node = head.node(id);
            let reads = outside.get(&made).map_or_else(|| node.inputs.clone(), |(read, _)| vec![*read]);
            let inputs: Option<TVec<OutletId>> = reads.iter().map(|read| mapping.get(read).copied()).collect();
            let Some(inputs) = inputs else {
                waiting.push(id);
                continue;
            };
            let outlets = match outside.remove(&made) {
                Some((_, linear)) => model.wire_node(linear_name(&linear.node), linear.op, &inputs)?,
                None => model.wire_node(format!("head/{}", node.name), node.op.clone(), &inputs)?,
            };
            mapping.extend(outlets.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)));
        }
        ensure!(waiting.len() < pending.len(), "layers wait for each other");
        pending = waiting;
    }
    model.select_output_outlets(&wanted.iter().map(|outlet| mapping[outlet]).collect::<Vec<_>>())
}

fn linear_name(node: &NodeProto) -> String {
    format!("head/{}", node.output[0])
}
