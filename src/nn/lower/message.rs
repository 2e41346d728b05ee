//! The ONNX message as lowering looks at it: who makes a tensor, who reads it, constants by name, attributes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::{Affine, Outcome, fail};
use crate::nn::file::{File, Weights};

pub(super) struct Message<'a> {
    /// Everything that is left of the message: no nodes, no tensors.
    rest: ModelProto,
    nodes: Vec<Arc<NodeProto>>,
    constants: HashMap<String, TensorProto>,
    /// Raw data of those constants that have none of their own.
    weights: Weights<'a>,
    /// Index of the node that makes a tensor.
    makers: HashMap<String, usize>,
    readers: HashMap<String, usize>,
}

impl<'a> Message<'a> {
    /// Takes the file apart.
    pub(super) fn new(file: File<'a>) -> Self {
        let File { message: mut proto, weights } = file;
        let graph = proto.graph.get_or_insert_default();
        let nodes: Vec<_> = std::mem::take(&mut graph.node).into_iter().map(Arc::new).collect();
        let constants = std::mem::take(&mut graph.initializer).into_iter().map(|t| (t.name.clone(), t)).collect();
        let mut makers = HashMap::new();
        let mut readers: HashMap<String, usize> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            makers.extend(node.output.iter().map(|name| (name.clone(), index)));
            node.input.iter().for_each(|name| *readers.entry(name.clone()).or_default() += 1);
        }
        graph.output.iter().for_each(|output| *readers.entry(output.name.clone()).or_default() += 1);
        Self { rest: proto, nodes, constants, weights, makers, readers }
    }

    pub(super) fn nodes(&self) -> &[Arc<NodeProto>] {
        &self.nodes
    }

    pub(super) fn node(&self, index: usize) -> Arc<NodeProto> {
        Arc::clone(&self.nodes[index])
    }

    pub(super) fn outputs(&self) -> &[ValueInfoProto] {
        self.rest.graph.as_ref().map_or(&[], |graph| &graph.output)
    }

    /// The message without nodes, tensors and inputs.
    pub(super) fn rest(&self) -> ModelProto {
        let mut rest = self.rest.clone();
        rest.metadata_props.clear();
        rest.graph.get_or_insert_default().input.clear();
        rest
    }

    /// The node that makes a tensor; none for the graph's input and for constants.
    pub(super) fn maker(&self, tensor: &str) -> Option<Arc<NodeProto>> {
        self.makers.get(tensor).map(|&index| self.node(index))
    }

    /// Position of the node that makes a tensor.
    pub(super) fn position(&self, tensor: &str) -> Option<usize> {
        self.makers.get(tensor).copied()
    }

    /// How many nodes and outputs read a tensor.
    pub(super) fn reader_count(&self, tensor: &str) -> usize {
        self.readers.get(tensor).copied().unwrap_or(0)
    }

    /// The only node that reads a tensor.
    pub(super) fn only_reader(&self, tensor: &str) -> Option<&Arc<NodeProto>> {
        if self.reader_count(tensor) != 1 {
            return None;
        }
        self.nodes.iter().find(|node| node.input.iter().any(|input| input == tensor))
    }

    /// Name and shape of the graph's input.
    pub(super) fn input_shape(&self) -> Result<(String, Vec<usize>), String> {
        use tract_onnx::pb::tensor_shape_proto::dimension::Value;
        use tract_onnx::pb::type_proto;
        let graph = self.rest.graph.as_ref().ok_or("the message holds no graph")?;
        let input = graph.input.iter().find(|i| !self.constants.contains_key(&i.name)).ok_or("the graph has no input")?;
        let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Err(format!("the input `{}` is no tensor", input.name));
        };
        if tensor.elem_type != DataType::Float as i32 {
            return Err(format!("the input `{}` is not f32", input.name));
        }
        let dimensions = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| match dim.value {
            Some(Value::DimValue(size)) => usize::try_from(size).ok().filter(|size| (1..=1 << 14).contains(size)),
            _ => None,
        });
        let shape =
            dimensions.collect::<Option<Vec<_>>>().ok_or_else(|| format!("the input `{}` has no fixed shape", input.name))?;
        Ok((input.name.clone(), shape))
    }

    pub(super) fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.constants.get(name)
    }

    /// Frees a constant that has been packed.
    pub(super) fn drop_constant(&mut self, name: &str) {
        if self.reader_count(name) == 1 {
            self.constants.remove(name);
        }
    }

    /// A constant with its raw data, for tract.
    pub(super) fn whole_constant(&self, name: &str) -> Option<TensorProto> {
        let mut tensor = self.constant(name)?.clone();
        tensor.raw_data = self.raw(&tensor).to_vec();
        Some(tensor)
    }

    fn raw<'t>(&'t self, tensor: &'t TensorProto) -> &'t [u8] {
        if tensor.raw_data.is_empty() { self.weights.get(&tensor.name).copied().unwrap_or_default() } else { &tensor.raw_data }
    }

    /// Values of a constant f32 tensor.
    pub(super) fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.typed(name, DataType::Float)?;
        let raw = self.raw(tensor);
        let chunks = || raw.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let values: Vec<f32> = if raw.is_empty() { tensor.float_data.clone() } else { chunks() };
        check_length(tensor, values.len() * 4, values)
    }

    /// Values of a constant i32 tensor.
    pub(super) fn integers(&self, name: &str) -> Result<Vec<i32>, String> {
        let tensor = self.typed(name, DataType::Int32)?;
        let raw = self.raw(tensor);
        let chunks = || raw.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
        let values: Vec<i32> = if raw.is_empty() { tensor.int32_data.clone() } else { chunks() };
        check_length(tensor, values.len() * 4, values)
    }

    /// Bytes of a constant u8 or i8 tensor.
    pub(super) fn bytes(&self, name: &str, data_type: DataType) -> Result<Cow<'_, [u8]>, String> {
        let tensor = self.typed(name, data_type)?;
        let raw = self.raw(tensor);
        let typed = || tensor.int32_data.iter().map(|&v| v as u8).collect();
        let values: Cow<'_, [u8]> = if raw.is_empty() { typed() } else { raw.into() };
        check_length(tensor, values.len(), values)
    }

    fn typed(&self, name: &str, data_type: DataType) -> Result<&TensorProto, String> {
        let tensor = self.constant(name).ok_or_else(|| format!("`{name}` is no constant"))?;
        if tensor.data_type == data_type as i32 { Ok(tensor) } else { Err(format!("`{name}` is not {data_type:?}")) }
    }

    /// Dimensions of a constant.
    pub(super) fn dims(&self, name: &str) -> Vec<usize> {
        self.constant(name).map_or(vec![], |t| t.dims.iter().map(|&d| d as usize).collect())
    }

    /// One scale and one u8 zero point: those of a QuantizeLinear or DequantizeLinear of an activation.
    pub(super) fn affine(&self, node: &Arc<NodeProto>) -> Outcome<Affine> {
        let affine = || {
            let [_, scale, zero_point] = &node.input[..] else { return Err("needs a scale and a zero point".into()) };
            match (&self.floats(scale)?[..], &*self.bytes(zero_point, DataType::Uint8)?) {
                (&[scale], &[zero_point]) if scale.is_normal() && scale > 0.0 => Ok(Affine { scale, zero_point }),
                (&[scale], [_]) => Err(format!("the scale {scale} is not a positive number")),
                _ => Err("activations have one scale and one zero point".to_owned()),
            }
        };
        affine().or_else(|reason| fail(node, reason))
    }
}

/// `values` when `bytes` is what the tensor's shape needs.
fn check_length<T>(tensor: &TensorProto, bytes: usize, values: T) -> Result<T, String> {
    let width = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32) => 4,
        _ => 1,
    };
    let expected = tensor.dims.iter().try_fold(width, |product: usize, &d| product.checked_mul(usize::try_from(d).ok()?));
    if expected == Some(bytes) {
        Ok(values)
    } else {
        Err(format!("`{}` has the shape {:?}, but {bytes} bytes", tensor.name, tensor.dims))
    }
}

/// An integer attribute, or its default.
pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i)
}

/// A list of integers, or its default; as sizes.
pub(super) fn sizes<const N: usize>(node: &Arc<NodeProto>, name: &str, default: [usize; N]) -> Outcome<[usize; N]> {
    let Some(attribute) = node.attribute.iter().find(|a| a.name == name) else { return Ok(default) };
    let sizes: Option<Vec<usize>> = attribute.ints.iter().map(|&i| usize::try_from(i).ok().filter(|&i| i <= 1 << 14)).collect();
    match sizes.and_then(|sizes| sizes.try_into().ok()) {
        Some(sizes) => Ok(sizes),
        None => fail(node, format!("its attribute `{name}` is {:?}; expected {N} sizes", attribute.ints)),
    }
}

/// A text attribute.
pub(super) fn text<'a>(node: &'a NodeProto, name: &str) -> Option<Cow<'a, str>> {
    node.attribute.iter().find(|a| a.name == name).map(|a| String::from_utf8_lossy(&a.s))
}
