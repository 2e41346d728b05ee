//! Concat of tensors that share a scale → one copy. Constants among the inputs (a border) become constants of the graph.

use super::message::int;
use std::borrow::Cow;

use super::*;
use crate::nn::ops::concat::{Axis, Concat};
use crate::nn::runtime::LINE;
use tract_onnx::pb::tensor_proto::DataType;

pub(super) fn lower(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, target: Target) -> Outcome<()> {
    target.require_no_activation(node)?;
    let axis = match int(node, "axis", 1) {
        1 | -3 => Axis::Channels,
        2 | -2 => Axis::Height,
        3 | -1 => Axis::Width,
        axis => return fail(node, format!("joins along axis {axis}")),
    };
    let inputs = (0..node.input.len()).map(|i| input(lowering, node, i)).collect::<Outcome<Vec<_>>>()?;
    if let Some(other) = inputs.iter().find(|input| input.affine != target.affine) {
        return fail(node, format!("joins tensors of different scales: {:?} and {:?}", other.affine, target.affine));
    }
    let pictures = inputs.iter().map(|i| i.picture).collect();
    let outlets: Vec<OutletId> = inputs.iter().map(|i| i.outlet).collect();
    let (picture, outlet) = lowering.wire(node, |l| {
        let op = Concat::new(l.runtime, pictures, axis)?;
        Ok((op.output(), l.model.wire_node(&node.name, op, &outlets)?[0]))
    })?;
    lowering.values.insert(target.name, Value { outlet, picture, affine: target.affine });
    Ok(())
}

/// A lowered tensor, or a quantised constant.
fn input(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, index: usize) -> Outcome<Value> {
    let name = lowering.quantised_name(node, index)?;
    if lowering.message.constant(&name).is_none() {
        return lowering.read(node, index);
    }
    let dequantize = lowering.message.maker(&node.input[index]).expect("quantised_name found it");
    let affine = lowering.message.affine(&dequantize)?;
    let values = lowering.message.bytes(&name, DataType::Uint8).map(Cow::into_owned);
    let values = values.or_else(|reason| fail(&dequantize, reason))?;
    let dims = lowering.message.dims(&name);
    let [1, channels, height, width] = dims[..] else { return fail(node, format!("`{name}` is no picture")) };
    if dims.contains(&0) {
        return fail(node, format!("`{name}` is empty"));
    }
    let picture = Picture { channels, size: [height, width] };
    let outlet = lowering.wire(node, |l| l.model.add_const(&name, planes(l.runtime, picture, affine, &values)?))?;
    Ok(Value { outlet, picture, affine })
}

/// u8 `[channels][height][width]` as a tensor of planes.
fn planes(runtime: &Runtime, picture: Picture, affine: Affine, values: &[u8]) -> TractResult<Tensor> {
    let storage = runtime.storage();
    let mut tensor = Tensor::zero_aligned_dt(runtime.datum_type(), &picture.shape(runtime), LINE)?;
    let bytes = tensor.as_bytes_mut();
    bytes.fill(storage.byte(affine.zero_point));
    let plane = runtime.kernels().plane(picture.pixels());
    for (channel, values) in values.chunks_exact(picture.pixels()).enumerate() {
        let target = bytes[channel / 4 * plane * 4..].iter_mut().skip(channel % 4).step_by(4);
        target.zip(values).for_each(|(out, &value)| *out = storage.byte(value));
    }
    Ok(tensor)
}
