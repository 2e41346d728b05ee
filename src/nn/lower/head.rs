//! What comes after the last quantised tensors: a small ONNX graph of its own, imported by tract and put behind ours.

use std::collections::HashSet;

use super::*;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::InferenceModelExt;

/// Imports the head and makes its outputs the graph's.
pub(super) fn import(lowering: &mut Lowering<'_>) -> Result<(), LowerError> {
    let (nodes, features) = collect(lowering)?;
    let mut head = lowering.message.rest();
    let graph = head.graph.get_or_insert_default();
    graph.value_info.clear();
    graph.node = nodes.iter().map(|node| NodeProto::clone(node)).collect();
    let read: HashSet<&String> = nodes.iter().flat_map(|node| &node.input).collect();
    graph.initializer = read.iter().filter_map(|name| lowering.message.constant(name).cloned()).collect();
    graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
    graph.input = features.iter().map(|(name, value)| port(name, value.picture.channels)).collect();
    let fails = |e: TractError| LowerError { node: "head".into(), op: "float operators".into(), reason: format!("{e:#}") };
    let model = tract_onnx::onnx().model_for_proto_model(&head).and_then(|model| model.into_typed()).map_err(fails)?;
    splice(&mut lowering.model, &model, &features).map_err(fails)
}

/// Quantised tensors that the head reads, by name.
type Features = Vec<(String, Value)>;

/// The nodes of the head in their order, and the quantised tensors that they read.
fn collect(lowering: &mut Lowering<'_>) -> Result<(Vec<Arc<NodeProto>>, Features), LowerError> {
    // Tensors and who reads them; nobody reads the graph's outputs.
    let mut wanted: Vec<(String, Option<Arc<NodeProto>>)> =
        lowering.message.outputs().iter().map(|o| (o.name.clone(), None)).collect();
    let (mut positions, mut features) = (HashSet::new(), Features::new());
    while let Some((tensor, reader)) = wanted.pop() {
        let Some(position) = lowering.message.position(&tensor) else { continue };
        let node = lowering.message.node(position);
        if !positions.insert(position) {
            continue;
        }
        if node.op_type != "DequantizeLinear" || lowering.message.constant(&node.input[0]).is_some() {
            wanted.extend(node.input.iter().map(|input| (input.clone(), Some(Arc::clone(&node)))));
            continue;
        }
        let value = lowering.value(&node, &node.input[0])?;
        if !value.flat {
            let reader = reader.as_ref().unwrap_or(&node);
            fail(reader, format!("reads the picture `{}` as floats; only pooled features may be", node.input[0]))?;
        }
        if !features.iter().any(|(name, _)| *name == node.input[0]) {
            features.push((node.input[0].clone(), value));
        }
    }
    if lowering.input.is_none() {
        return Err(LowerError { node: "input".into(), op: "graph".into(), reason: "is read as floats, not quantised".into() });
    }
    let mut positions: Vec<usize> = positions.into_iter().collect();
    positions.sort_unstable();
    Ok((positions.into_iter().map(|p| lowering.message.node(p)).collect(), features))
}

/// A u8 input `[1, channels, 1, 1]`.
fn port(name: &str, channels: usize) -> ValueInfoProto {
    let dimension = |size: usize| Dimension { value: Some(dimension::Value::DimValue(size as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: [1, channels, 1, 1].map(dimension).to_vec() };
    let tensor = type_proto::Tensor { elem_type: DataType::Uint8 as i32, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

/// Copies the nodes of `head` behind the tensors it reads.
fn splice(model: &mut TypedModel, head: &TypedModel, features: &[(String, Value)]) -> TractResult<()> {
    let mut mapping: HashMap<OutletId, OutletId> =
        head.input_outlets()?.iter().zip(features).map(|(outlet, (_, value))| (*outlet, value.outlet)).collect();
    for id in head.eval_order()? {
        let node = head.node(id);
        if head.input_outlets()?.iter().any(|input| input.node == id) {
            continue;
        }
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        let outlets = model.wire_node(format!("head/{}", node.name), node.op.clone(), &inputs)?;
        mapping.extend(outlets.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)));
    }
    let outputs: Vec<OutletId> = head.output_outlets()?.iter().map(|outlet| mapping[outlet]).collect();
    model.select_output_outlets(&outputs)
}
