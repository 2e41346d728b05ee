//! Conv [+ Relu | Clip] → one integer convolution, depthwise or full; with the addition that follows where only that reads it.

use super::message::{int, sizes, text};
use super::*;
use crate::nn::kernels::requant::Requant;
use crate::nn::kernels::stage::Window;
use crate::nn::ops::conv::Conv;
use crate::nn::ops::depthwise::Depthwise;
use tract_onnx::pb::tensor_proto::DataType;

/// Kernel, stride and padding of a Conv or a MaxPool.
pub(super) fn window(node: &Arc<NodeProto>, kernel: [usize; 2]) -> Outcome<Window> {
    if let Some(rule) = text(node, "auto_pad").filter(|rule| rule != "NOTSET" && !rule.is_empty()) {
        return fail(node, format!("auto_pad {rule}; expected explicit pads"));
    }
    if sizes(node, "dilations", [1; 2])? != [1; 2] {
        return fail(node, "is dilated");
    }
    let window = Window { kernel, stride: sizes(node, "strides", [1; 2])?, pads: sizes(node, "pads", [0; 4])? };
    let pads_within = (0..2).all(|i| window.pads[i] < kernel[i] && window.pads[i + 2] < kernel[i]);
    if kernel.contains(&0) || window.stride.contains(&0) || !pads_within {
        return fail(node, format!("{window:?}: sizes must be positive, and padding less than the kernel"));
    }
    Ok(window)
}

/// A convolution that is described but not yet in the graph.
pub(super) struct Layer {
    node: Arc<NodeProto>,
    /// None where only the sum with another tensor is rounded.
    target: Option<Target>,
    input: Value,
    /// Name of the weights' constant.
    weight: String,
    outputs: usize,
    depthwise: bool,
    window: Window,
    /// In steps of s_x · s_w, one for each output channel.
    bias: Vec<i32>,
    /// s_w.
    scales: Vec<f32>,
}

/// The tensor to add, and how.
pub(super) struct Addition {
    pub(super) other: Value,
    /// The sum.
    pub(super) target: Target,
}

/// Puts the convolution into the graph, or lets it wait for an addition.
pub(super) fn lower(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, target: Target) -> Outcome<()> {
    let name = target.name.clone();
    let layer = describe(lowering, node, Some(target))?;
    let reader = lowering.message.only_reader(&name).and_then(|dq| lowering.message.only_reader(&dq.output[0]));
    if !layer.depthwise && reader.is_some_and(|reader| reader.op_type == "Add") {
        lowering.pending.insert(name, layer);
        return Ok(());
    }
    layer.wire(lowering, None)
}

/// A convolution whose output becomes part of a sum as it is.
pub(super) fn exact(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>) -> Outcome<Layer> {
    let layer = describe(lowering, node, None)?;
    if layer.depthwise { fail(node, "has an output that is not quantised") } else { Ok(layer) }
}

/// A constant behind a DequantizeLinear: its name, its scales, one a channel of axis 0. Symmetric.
pub(super) fn constant(
    lowering: &Lowering<'_>,
    node: &Arc<NodeProto>,
    index: usize,
    data_type: DataType,
) -> Outcome<(String, Vec<f32>)> {
    let name = lowering.quantised_name(node, index)?;
    let dequantize = lowering.message.maker(&node.input[index]).expect("quantised_name found it");
    let scales = dequantize.input.get(1).map_or(Err("has no scale".into()), |scale| lowering.message.floats(scale));
    let scales = scales.or_else(|reason| fail(&dequantize, reason))?;
    let symmetric = dequantize.input.get(2).is_none_or(|zero_point| match data_type {
        DataType::Int8 => lowering.message.bytes(zero_point, data_type).is_ok_and(|z| z.iter().all(|&z| z == 0)),
        _ => lowering.message.integers(zero_point).is_ok_and(|z| z.iter().all(|&z| z == 0)),
    });
    if !symmetric || int(&dequantize, "axis", 1) != 0 && scales.len() != 1 {
        return fail(&dequantize, "weights and biases are symmetric and have their scales along axis 0");
    }
    if let Some(scale) = scales.iter().find(|s| !(s.is_normal() && **s > 0.0)) {
        return fail(&dequantize, format!("the scale {scale} is not a positive number"));
    }
    Ok((name, scales))
}

fn describe(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, target: Option<Target>) -> Outcome<Layer> {
    let input = lowering.read(node, 0)?;
    let (weight, scales) = constant(lowering, node, 1, DataType::Int8)?;
    let [outputs, per_group, height, width] = lowering.message.dims(&weight)[..] else {
        return fail(node, format!("its weight has the shape {:?}; expected four dimensions", lowering.message.dims(&weight)));
    };
    let channels = input.picture.channels;
    let groups = int(node, "group", 1);
    let depthwise = groups as usize == channels && per_group == 1 && outputs == channels && channels > 1;
    if !depthwise && (groups != 1 || per_group != channels) {
        return fail(
            node,
            format!("{groups} groups of {per_group} channels; expected one, or one for each of {channels} channels"),
        );
    }
    if outputs == 0 || sizes(node, "kernel_shape", [height, width])? != [height, width] {
        return fail(node, "its kernel_shape contradicts its weight");
    }
    let window = window(node, [height, width])?;
    let scales = if scales.len() == 1 { vec![scales[0]; outputs] } else { scales };
    if scales.len() != outputs {
        return fail(node, format!("{} weight scales for {outputs} channels", scales.len()));
    }
    let bias = bias(lowering, node, &scales, input.affine.scale)?;
    Ok(Layer { node: Arc::clone(node), target, input, weight, outputs, depthwise, window, bias, scales })
}

fn bias(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, scales: &[f32], input_scale: f32) -> Outcome<Vec<i32>> {
    if node.input.get(2).is_none_or(String::is_empty) {
        return Ok(vec![0; scales.len()]);
    }
    let (name, found) = constant(lowering, node, 2, DataType::Int32)?;
    let expected: Vec<f32> = scales.iter().map(|scale| input_scale * scale).collect();
    if found != expected {
        return fail(node, "its bias is not in steps of input scale times weight scale");
    }
    let bias = lowering.message.integers(&name).or_else(|reason| fail(node, reason))?;
    // Together with 2^14 taps of 255 · 127 the sum stays within i32.
    if bias.len() != scales.len() || bias.iter().any(|b| b.unsigned_abs() > 1 << 29) {
        return fail(node, "its bias has another length, or steps beyond 2^29");
    }
    Ok(bias)
}

impl Layer {
    /// Position of the Conv in the file.
    pub(super) fn position(&self, lowering: &Lowering<'_>) -> usize {
        lowering.message.position(&self.node.output[0]).unwrap_or(0)
    }

    /// Packs the weights and adds the operator.
    pub(super) fn wire(self, lowering: &mut Lowering<'_>, addition: Option<Addition>) -> Outcome<()> {
        let node = Arc::clone(&self.node);
        let bytes = lowering.message.bytes(&self.weight, DataType::Int8).or_else(|reason| fail(&node, reason))?;
        let weights: Vec<i8> = bytes.iter().map(|&b| b as i8).collect();
        lowering.message.drop_constant(&self.weight);
        let kernel = weights.len() / self.outputs;
        if weights.contains(&i8::MIN) || kernel > 1 << 15 {
            return fail(&node, "has a weight of -128 (int8 contract: -127 to 127), or more than 32,768 weights a channel");
        }
        let storage = lowering.runtime.storage();
        let zero_point = storage.of(self.input.affine.zero_point);
        let requant = self.requant(&weights, zero_point, storage, addition.as_ref());
        let (output, outlet) = lowering.wire(&node, |lowering| {
            let (runtime, picture) = (lowering.runtime, self.input.picture);
            let mut inputs = tvec![self.input.outlet];
            inputs.extend(addition.as_ref().map(|a| a.other.outlet));
            Ok(if self.depthwise {
                let op = Depthwise::new(runtime, picture, self.window, zero_point, &weights, requant)?;
                (op.output(), lowering.model.wire_node(&node.name, op, &inputs)?)
            } else {
                let op = Conv::new(runtime, picture, self.outputs, self.window, zero_point, &weights, requant)?;
                (op.output(), lowering.model.wire_node(&node.name, op, &inputs)?)
            })
        })?;
        let target = addition.map(|a| a.target).or(self.target).expect("a target, or that of an addition");
        let value = Value { outlet: outlet[0], picture: output, affine: target.affine };
        lowering.values.insert(target.name, value);
        Ok(())
    }

    fn requant(&self, weights: &[i8], zero_point: i32, storage: Storage, addition: Option<&Addition>) -> Requant {
        let kernel = weights.len() / self.outputs;
        let bias = |channel: usize| {
            let sum: i32 = weights[channel * kernel..][..kernel].iter().map(|&w| i32::from(w)).sum();
            self.bias[channel] - zero_point * sum
        };
        let (range, step, residual) = match (&self.target, addition) {
            (Some(own), addition) => {
                let residual = addition.map(|a| a.target.sum(own.affine, a.other.affine, storage));
                (own.affine.range(own.activation, storage), own.affine.scale, residual)
            }
            (None, Some(Addition { other, target })) => {
                // Parts of the sum's step are integers that f32 holds exactly, so whatever rounds them changes nothing.
                let exact = Affine { scale: target.affine.scale / EXACT_PARTS, zero_point: 0 };
                let range = Range { min: -EXACT_LIMIT, max: EXACT_LIMIT, zero_point: 0 };
                (range, exact.scale, Some(target.sum(exact, other.affine, storage)))
            }
            (None, None) => unreachable!("a convolution is rounded, or part of a sum"),
        };
        let multiplier = |channel: usize| (self.input.affine.scale * self.scales[channel]) / step;
        Requant { bias: in_fours(self.outputs, bias), multiplier: in_fours(self.outputs, multiplier), range, residual }
    }
}

/// Parts of the sum's step in which an output that is not rounded is counted before it is added: two more bits would be lost in f32
/// beside a sum of 255 steps.
const EXACT_PARTS: f32 = 256.0;
/// The most of them: far beyond what 8 bits of the sum can show.
const EXACT_LIMIT: f32 = (1 << 22) as f32;

/// Values of channels in groups of four, zeros beyond the last.
fn in_fours<T: Default>(channels: usize, value: impl Fn(usize) -> T) -> Vec<[T; 4]> {
    let of = |channel: usize| if channel < channels { value(channel) } else { T::default() };
    (0..channels.div_ceil(4)).map(|group| std::array::from_fn(|c| of(group * 4 + c))).collect()
}
