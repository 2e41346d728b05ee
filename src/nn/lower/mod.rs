//! From the QDQ graph of an ONNX message to integer operators in a tract graph.
//!
//! tract's importer folds every weight back into floats, so this works on the message. Each QuantizeLinear ends a pattern of float
//! operators that begins at DequantizeLinear nodes; the pattern becomes one integer operator ([`super::ops`]), or part of the next
//! one. What comes after the last quantised tensors, the head, is imported by tract as it is. A pattern that has no integer
//! form is an error that names its node, and so is a picture that floats read: nothing is computed slowly in silence.
//!
//! One pattern a file; no arithmetic beyond scales.

mod add;
mod concat;
mod conv;
mod head;
mod message;
mod pool;

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;
use tract_core::internal::*;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::file::File;
use super::kernels::Storage;
use super::kernels::requant::{Range, Residual};
use super::ops::Picture;
use super::runtime::Runtime;
use message::Message;

/// A node that cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("node `{node}` ({op}): {reason}")]
pub struct LowerError {
    /// Name of the node, or of its output where it has none.
    pub node: String,
    /// Its ONNX operator.
    pub op: String,
    /// What pawgate's integer operators cannot do.
    pub reason: String,
}

/// Scale and zero point of a tensor of the file, which stores u8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// What a step is worth; positive and finite.
    pub scale: f32,
    /// The step that means 0.0.
    pub zero_point: u8,
}

impl Affine {
    /// QuantizeLinear: `saturate(round_half_even(x / scale) + zero_point)`.
    pub fn quantise(self, value: f32) -> u8 {
        // NaN becomes 0, as `as` has it; the picture's values are finite.
        ((value / self.scale).round_ties_even() + f32::from(self.zero_point)) as u8
    }

    /// Least and greatest stored value after `activation`.
    fn limits(self, activation: Activation) -> [u8; 2] {
        [activation.min, activation.max].map(|value| self.quantise(value))
    }

    /// Steps from the zero point that u8 can hold, in the kernels' storage, after `activation`.
    fn range(self, activation: Activation, storage: Storage) -> Range {
        let zero = f32::from(self.zero_point);
        let steps = |value: f32| (value / self.scale).round_ties_even().clamp(-zero, 255.0 - zero);
        Range { min: steps(activation.min), max: steps(activation.max), zero_point: storage.of(self.zero_point) }
    }
}

/// Where an activation function cuts off: Relu, Clip, or neither.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Activation {
    min: f32,
    max: f32,
}

impl Activation {
    const NONE: Self = Self { min: f32::NEG_INFINITY, max: f32::INFINITY };
}

/// What the network takes: quantised pixels as the kernels store them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input {
    /// Size of the picture.
    pub picture: Picture,
    /// Its quantisation.
    pub affine: Affine,
    /// How bytes are stored.
    pub storage: Storage,
}

/// A lowered network.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) model: TypedModel,
    pub(super) input: Input,
}

/// Whether the graph is quantised at all.
pub(super) fn is_quantised(graph: &GraphProto) -> bool {
    graph.node.iter().any(|node| node.op_type == "QuantizeLinear")
}

/// Lowers a checked file (`validate`).
pub(super) fn lower<'a>(file: File<'a>, runtime: &'a Arc<Runtime>) -> Result<Lowered, LowerError> {
    let mut lowering = Lowering {
        message: Message::new(file),
        runtime,
        model: TypedModel::default(),
        values: HashMap::new(),
        pending: HashMap::new(),
        input: None,
    };
    for index in 0..lowering.message.nodes().len() {
        let node = lowering.message.node(index);
        if node.op_type == "QuantizeLinear" {
            lowering.pattern(&node)?;
        }
    }
    head::import(&mut lowering)?;
    let input = lowering.input.expect("the pattern of the graph's input was lowered, or `head` failed");
    Ok(Lowered { model: lowering.model, input })
}

/// A lowered tensor.
#[derive(Debug, Clone, Copy)]
struct Value {
    outlet: OutletId,
    picture: Picture,
    affine: Affine,
}

struct Lowering<'a> {
    message: Message<'a>,
    runtime: &'a Arc<Runtime>,
    model: TypedModel,
    /// By name of the quantised tensor.
    values: HashMap<String, Value>,
    /// Convolutions whose output only an addition reads: they wait for it.
    pending: HashMap<String, conv::Layer>,
    input: Option<Input>,
}

/// What a lowering step reports; the node is added by [`Lowering::pattern`].
type Outcome<T> = Result<T, (Arc<NodeProto>, String)>;

/// The error of `node`.
fn fail<T>(node: &Arc<NodeProto>, reason: impl Into<String>) -> Outcome<T> {
    Err((Arc::clone(node), reason.into()))
}

impl From<(Arc<NodeProto>, String)> for LowerError {
    fn from((node, reason): (Arc<NodeProto>, String)) -> Self {
        let name = if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        Self { node: name, op: node.op_type.clone(), reason }
    }
}

impl Lowering<'_> {
    /// Lowers the pattern that `quantize` ends.
    fn pattern(&mut self, quantize: &Arc<NodeProto>) -> Result<(), LowerError> {
        let affine = self.message.affine(quantize)?;
        let tensor = &quantize.input[0];
        let Some(last) = self.message.maker(tensor) else { return Ok(self.source(quantize, affine)?) };
        let (activation, node) = self.activation(&last)?;
        let target = Target { name: quantize.output[0].clone(), affine, activation };
        match node.op_type.as_str() {
            "Conv" => conv::lower(self, &node, target)?,
            "Add" => add::lower(self, &node, target)?,
            "MaxPool" => pool::max(self, &node, target)?,
            "Concat" => concat::lower(self, &node, target)?,
            _ => fail(&node, "has no integer form (it stands between DequantizeLinear and QuantizeLinear)")?,
        }
        Ok(())
    }

    /// The graph's input, quantised.
    fn source(&mut self, quantize: &Arc<NodeProto>, affine: Affine) -> Outcome<()> {
        let (name, shape) = match self.message.input_shape() {
            Ok(input) => input,
            Err(reason) => return fail(quantize, reason),
        };
        let [1, channels @ 1..=4, height, width] = shape[..] else {
            return fail(quantize, format!("the input `{name}` has the shape {shape:?}; expected [1, 1 to 4, height, width]"));
        };
        if self.input.is_some() {
            return fail(quantize, "the input is quantised twice");
        }
        let picture = Picture { channels, size: [height, width] };
        let outlet = self.wire(quantize, |lowering| lowering.model.add_source(name, picture.fact(lowering.runtime)))?;
        self.input = Some(Input { picture, affine, storage: self.runtime.storage() });
        self.values.insert(quantize.output[0].clone(), Value { outlet, picture, affine });
        Ok(())
    }

    /// The activation function that ends a pattern, and the operator before it.
    fn activation(&self, last: &Arc<NodeProto>) -> Outcome<(Activation, Arc<NodeProto>)> {
        let activation = match last.op_type.as_str() {
            "Relu" => Activation { min: 0.0, max: f32::INFINITY },
            "Clip" => {
                let limit = |index: usize, default: f32| match last.input.get(index).filter(|name| !name.is_empty()) {
                    None => Ok(default),
                    Some(name) => {
                        self.message.floats(name).ok().and_then(|v| v.first().copied()).filter(|v| !v.is_nan()).ok_or(name)
                    }
                };
                match (limit(1, f32::NEG_INFINITY), limit(2, f32::INFINITY)) {
                    (Ok(min), Ok(max)) if min <= max => Activation { min, max },
                    (Err(name), _) | (_, Err(name)) => return fail(last, format!("its limit `{name}` is no constant number")),
                    _ => return fail(last, "its limits exclude each other"),
                }
            }
            _ => return Ok((Activation::NONE, Arc::clone(last))),
        };
        match self.message.maker(&last.input[0]) {
            Some(node) => Ok((activation, node)),
            None => fail(last, "reads the input as floats"),
        }
    }

    /// The lowered tensor that `node` reads as its input `index`, through a DequantizeLinear.
    fn read(&mut self, node: &Arc<NodeProto>, index: usize) -> Outcome<Value> {
        let name = self.quantised_name(node, index)?;
        self.value(node, &name)
    }

    /// Name of the quantised tensor behind an input.
    fn quantised_name(&self, node: &Arc<NodeProto>, index: usize) -> Outcome<String> {
        let Some(input) = node.input.get(index) else { return fail(node, format!("has no input {index}")) };
        match self.message.maker(input) {
            Some(dequantize) if dequantize.op_type == "DequantizeLinear" => Ok(dequantize.input[0].clone()),
            _ => fail(node, format!("its input `{input}` is not quantised")),
        }
    }

    /// A lowered tensor by name; lowers a convolution that waited.
    fn value(&mut self, reader: &Arc<NodeProto>, name: &str) -> Outcome<Value> {
        if let Some(layer) = self.pending.remove(name) {
            layer.wire(self, None)?;
        }
        match self.values.get(name) {
            Some(value) => Ok(*value),
            None => fail(reader, format!("reads `{name}`, which is not a quantised tensor")),
        }
    }

    /// Adds to the graph; what tract or an operator's constructor refuses is `node`'s error.
    fn wire<T>(&mut self, node: &Arc<NodeProto>, add: impl FnOnce(&mut Self) -> TractResult<T>) -> Outcome<T> {
        add(self).map_err(|e| (Arc::clone(node), format!("{e:#}")))
    }
}

/// What a pattern's output is.
#[derive(Debug, Clone)]
struct Target {
    /// Name of the quantised tensor.
    name: String,
    affine: Affine,
    activation: Activation,
}

impl Target {
    /// The arithmetic of adding two tensors into this one.
    fn sum(&self, own: Affine, other: Affine, storage: Storage) -> Residual {
        let ratio = |of: Affine| (of.scale / self.affine.scale, of.zero_point);
        Residual::new(ratio(own), ratio(other), self.affine.zero_point, self.affine.limits(self.activation), storage)
    }

    fn require_no_activation(&self, node: &Arc<NodeProto>) -> Outcome<()> {
        if self.activation == Activation::NONE { Ok(()) } else { fail(node, "is followed by an activation") }
    }
}
