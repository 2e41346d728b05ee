//! ONNX messages for tests, node by node.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, type_proto,
};

/// A graph under construction.
#[derive(Debug, Default, Clone)]
pub struct Graph(pub GraphProto);

#[allow(dead_code, reason = "each test binary uses its part")]
impl Graph {
    pub fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.0.input.push(port(name, shape));
        name.into()
    }

    pub fn output(&mut self, name: &str, shape: &[usize]) {
        self.0.output.push(port(name, shape));
    }

    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.constant(name, DataType::Float, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn constant(&mut self, name: &str, data_type: DataType, dims: &[usize], raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.0.initializer.push(TensorProto {
            name: name.into(),
            data_type: data_type as i32,
            dims,
            raw_data,
            ..Default::default()
        });
        name.into()
    }

    /// A node named like its output.
    pub fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: &[(&str, &[i64])]) -> String {
        let attribute = attributes.iter().map(|(key, values)| {
            let mut attribute = AttributeProto { name: (*key).into(), ..Default::default() };
            if matches!(*key, "axis" | "group" | "transB" | "ceil_mode") {
                (attribute.r#type, attribute.i) = (AttributeType::Int as i32, values[0]);
            } else {
                (attribute.r#type, attribute.ints) = (AttributeType::Ints as i32, values.to_vec());
            }
            attribute
        });
        self.0.node.push(NodeProto {
            op_type: op.into(),
            name: name.into(),
            input: inputs.iter().map(|i| (*i).into()).collect(),
            output: vec![name.into()],
            attribute: attribute.collect(),
            ..Default::default()
        });
        name.into()
    }

    /// QuantizeLinear and DequantizeLinear; returns the dequantised tensor.
    pub fn quantised(&mut self, tensor: &str, scale: f32, zero_point: u8) -> String {
        let s = self.floats(&format!("{tensor}/scale"), &[], &[scale]);
        let z = self.constant(&format!("{tensor}/zero_point"), DataType::Uint8, &[], vec![zero_point]);
        let q = self.node("QuantizeLinear", &format!("{tensor}/quantised"), &[tensor, &s, &z], &[]);
        self.node("DequantizeLinear", &format!("{tensor}/dequantised"), &[&q, &s, &z], &[])
    }

    /// An int8 weight or i32 bias behind a DequantizeLinear with a scale a channel.
    pub fn dequantised(
        &mut self,
        name: &str,
        data_type: DataType,
        dims: &[usize],
        raw_data: Vec<u8>,
        scales: &[f32],
    ) -> String {
        let width = if data_type == DataType::Int32 { 4 } else { 1 };
        let data = self.constant(name, data_type, dims, raw_data);
        let s = self.floats(&format!("{name}/scale"), &[scales.len()], scales);
        let z = self.constant(&format!("{name}/zero_point"), data_type, &[scales.len()], vec![0; scales.len() * width]);
        self.node("DequantizeLinear", &format!("{name}/dequantised"), &[&data, &s, &z], &[("axis", &[0])])
    }

    pub fn model(self) -> ModelProto {
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(self.0),
            ..Default::default()
        }
    }
}

fn port(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dimension = |&size: &usize| Dimension { value: Some(dimension::Value::DimValue(size as i64)), ..Default::default() };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(dimension).collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: DataType::Float as i32, shape }));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

/// Numbers that look random and are always the same.
pub struct Noise(u32);

#[allow(dead_code, reason = "each test binary uses its part")]
impl Noise {
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// −127…127.
    pub fn weights(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| (self.next() % 255) as i32 - 127).map(|w| w as i8).collect()
    }
}
