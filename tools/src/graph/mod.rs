//! ONNX graphs: a small builder over tract's protobuf types, the two backbones, their fusion and the head; [`interpret`] computes
//! the fused one on a GPU.
//!
//! A node's name is the name of its single output. Weights are stored as raw little-endian data.

pub mod fused;
pub mod head;
pub mod interpret;
mod mobilenet_v2;
mod resnet50;

use std::collections::HashSet;

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

use crate::train::knowledge::Rows;
use crate::weights::{Conv, Linear, layout::Pads};

/// Operator set of every file the tools write.
pub const OPSET: i64 = 17;
/// IR version that belongs to opset 17.
const IR_VERSION: i64 = 8;

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub enum Attr<'a> {
    /// A single integer.
    Int(i64),
    /// A list of integers.
    Ints(&'a [i64]),
}

/// Names of an activation's graph input.
pub type Name = String;

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// Stride, padding and groups of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct ConvGeometry {
    /// In both directions.
    pub stride: i64,
    /// Zero padding.
    pub pads: Pads,
    /// 1, or the number of channels (depthwise).
    pub groups: i64,
}

impl ConvGeometry {
    /// Dense, stride 1, no padding: what a 1×1 convolution needs.
    pub const POINTWISE: Self = Self { stride: 1, pads: [0; 4], groups: 1 };
}

/// Collects nodes and constants.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// An empty graph of this name.
    pub fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.into(), ..Default::default() } }
    }

    /// The part of `graph` that makes `tensor`, to be continued; it has no outputs yet. `None` when nothing makes it.
    pub fn up_to(graph: &GraphProto, tensor: &str) -> Option<Self> {
        let mut wanted = HashSet::from([tensor]);
        let mut nodes: Vec<&NodeProto> = vec![];
        // Nodes stand in the order in which they can be computed.
        for node in graph.node.iter().rev() {
            if node.output.iter().any(|output| wanted.contains(output.as_str())) {
                wanted.extend(node.input.iter().map(String::as_str));
                nodes.push(node);
            }
        }
        if nodes.is_empty() {
            return None;
        }
        let part = GraphProto {
            name: graph.name.clone(),
            input: graph.input.clone(),
            node: nodes.into_iter().rev().cloned().collect(),
            initializer: graph.initializer.iter().filter(|t| wanted.contains(t.name.as_str())).cloned().collect(),
            ..Default::default()
        };
        Some(Self { graph: part })
    }

    /// Declares an f32 input.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Name {
        self.graph.input.push(value_info(name, shape));
        name.into()
    }

    /// Declares an f32 output.
    pub fn output(&mut self, name: &str, shape: &[usize]) {
        self.graph.output.push(value_info(name, shape));
    }

    /// Adds a constant from its raw little-endian bytes.
    pub fn constant(&mut self, name: &str, data_type: DataType, shape: &[usize], raw_data: Vec<u8>) -> Name {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: data_type as i32,
            raw_data,
            ..Default::default()
        });
        name.into()
    }

    /// Adds an f32 constant.
    pub fn constant_f32(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Name {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "constant {name}");
        self.constant(name, DataType::Float, shape, data.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Adds a node that makes one tensor of its own name.
    pub fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: &[(&str, Attr<'_>)]) -> Name {
        self.graph.node.push(NodeProto {
            op_type: op.into(),
            name: name.into(),
            input: inputs.iter().map(|&i| i.into()).collect(),
            output: vec![name.into()],
            attribute: attributes.iter().map(|(name, value)| attribute(name, *value)).collect(),
            ..Default::default()
        });
        name.into()
    }

    /// Adds a ready-made node.
    pub fn push(&mut self, node: NodeProto) {
        self.graph.node.push(node);
    }

    /// Adds a convolution and its activation; returns the last of the two.
    pub fn conv(&mut self, name: &str, input: &str, conv: &Conv, geometry: ConvGeometry, activation: Activation) -> Name {
        let weight = self.constant_f32(&format!("{name}/weight"), &conv.weight.shape, &conv.weight.data);
        let bias = self.constant_f32(&format!("{name}/bias"), &[conv.bias.len()], &conv.bias);
        let kernel = [conv.weight.shape[2] as i64, conv.weight.shape[3] as i64];
        let output = self.node(
            "Conv",
            name,
            &[input, &weight, &bias],
            &[
                ("kernel_shape", Attr::Ints(&kernel)),
                ("strides", Attr::Ints(&[geometry.stride; 2])),
                ("pads", Attr::Ints(&geometry.pads.map(|p| p as i64))),
                ("group", Attr::Int(geometry.groups)),
            ],
        );
        match activation {
            Activation::Linear => output,
            Activation::Relu => self.node("Relu", &format!("{name}/relu"), &[&output], &[]),
            Activation::Relu6 => {
                let low = self.shared_scalar("relu6/low", 0.0);
                let high = self.shared_scalar("relu6/high", 6.0);
                self.node("Clip", &format!("{name}/relu6"), &[&output, &low, &high], &[])
            }
        }
    }

    /// Adds a fully connected layer.
    pub fn linear(&mut self, name: &str, input: &str, linear: &Linear) -> Name {
        let weight = self.constant_f32(&format!("{name}/weight"), &linear.weight.shape, &linear.weight.data);
        let bias = self.constant_f32(&format!("{name}/bias"), &[linear.bias.len()], &linear.bias);
        self.node("Gemm", name, &[input, &weight, &bias], &[("transB", Attr::Int(1))])
    }

    /// Adds a fully connected layer whose weights are 8-bit; activations are floats.
    pub fn linear_int8(&mut self, name: &str, input: &str, rows: &Rows) -> Name {
        let shape = [rows.scales.len(), rows.layer.inputs()];
        let weights = rows.weights.iter().map(|&w| w as u8).collect();
        let weight = self.constant(&format!("{name}/weight"), DataType::Int8, &shape, weights);
        let weight = self.dequantise_rows(&weight, &rows.scales, DataType::Int8, vec![0; rows.scales.len()]);
        let bias = self.constant_f32(&format!("{name}/bias"), &[shape[0]], &rows.layer.bias);
        self.node("Gemm", name, &[input, &weight, &bias], &[("transB", Attr::Int(1))])
    }

    /// Dequantises a constant whose outermost dimension has a scale each; the bytes of the zero points are zeros.
    pub fn dequantise_rows(&mut self, data: &str, scales: &[f32], data_type: DataType, zero_bytes: Vec<u8>) -> Name {
        let scale = self.constant_f32(&format!("{data}/scale"), &[scales.len()], scales);
        let zero_point = self.constant(&format!("{data}/zero_point"), data_type, &[scales.len()], zero_bytes);
        let axis = [("axis", Attr::Int(0))];
        self.node("DequantizeLinear", &format!("{data}/dequantised"), &[data, &scale, &zero_point], &axis)
    }

    fn shared_scalar(&mut self, name: &str, value: f32) -> Name {
        if self.graph.initializer.iter().any(|t| t.name == name) { name.into() } else { self.constant_f32(name, &[], &[value]) }
    }

    /// The finished model with its properties.
    pub fn finish(self, props: Vec<(String, String)>) -> ModelProto {
        ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "pawgate-tools".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            metadata_props: props.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect(),
            ..Default::default()
        }
    }
}

/// The bytes of an ONNX file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// A property of a model file.
pub fn property<'a>(model: &'a ModelProto, key: &str) -> Option<&'a str> {
    model.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.as_str())
}

fn attribute(name: &str, value: Attr<'_>) -> AttributeProto {
    let mut proto = AttributeProto { name: name.into(), ..Default::default() };
    match value {
        Attr::Int(i) => (proto.r#type, proto.i) = (AttributeType::Int as i32, i),
        Attr::Ints(ints) => (proto.r#type, proto.ints) = (AttributeType::Ints as i32, ints.to_vec()),
    }
    proto
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dimension = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
