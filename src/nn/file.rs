//! A decoded ONNX file whose weights stay where they are: in its bytes.
//!
//! Decoding copies each tensor out of the file, and tract's reader copies the file before that: of a model of 30 MB, 60 MB that a
//! board may not have. Here the message is decoded without the raw data of its large tensors, and lowering packs those straight
//! from the bytes.
//!
//! Protobuf's wire format: <https://protobuf.dev/programming-guides/encoding/>; numbers of fields: `onnx.proto3` of ONNX.

use std::collections::{HashMap, HashSet};

use prost::DecodeError;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};
use tract_onnx::pb::ModelProto;

use super::NetworkError;

/// Raw data of tensors by the tensors' names.
pub(super) type Weights<'a> = HashMap<String, &'a [u8]>;

/// Raw data stays in the file from this length on, in bytes. The many small tensors would only cost a lookup each.
const LARGE: usize = 1024;

/// `ModelProto.graph`, `GraphProto.initializer`, `TensorProto.name` and `TensorProto.raw_data`.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const NAME: u32 = 8;
const RAW_DATA: u32 = 9;

/// An ONNX message; the raw data of large tensors may lie in the bytes of the file.
#[derive(Debug)]
pub struct File<'a> {
    /// All but the weights.
    pub(super) message: ModelProto,
    /// Raw data of tensors that have none in the message.
    pub(super) weights: Weights<'a>,
}

impl From<ModelProto> for File<'_> {
    fn from(message: ModelProto) -> Self {
        Self { message, weights: HashMap::new() }
    }
}

impl<'a> File<'a> {
    /// Decodes an ONNX file.
    ///
    /// # Errors
    /// [`NetworkError::NotOnnx`] when the bytes are not an ONNX message, or a cut one.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, NetworkError> {
        let mut weights = Weights::new();
        let message = thin_model(bytes, &mut weights).and_then(|thin| ModelProto::decode(thin.as_slice()));
        let not_onnx = |e: DecodeError| NetworkError::NotOnnx(e.to_string());
        let message = message.map_err(not_onnx)?;
        let Some(graph) = &message.graph else { return Err(NetworkError::NotOnnx("the message holds no graph".into())) };
        let mut names = HashSet::new();
        if graph.initializer.iter().all(|tensor| names.insert(&tensor.name)) {
            return Ok(Self { message, weights });
        }
        // Of two tensors of one name, each could get the other's weights.
        Ok(ModelProto::decode(bytes).map_err(not_onnx)?.into())
    }

    /// Key and value of everything that the file says about itself.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.message.metadata_props.iter().map(|property| (property.key.as_str(), property.value.as_str()))
    }

    /// The message with its weights inside, which are copied.
    pub fn into_message(mut self) -> ModelProto {
        for tensor in self.message.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            if let Some(raw) = self.weights.get(&tensor.name) {
                tensor.raw_data = raw.to_vec();
            }
        }
        self.message
    }
}

/// A field as it stands in a message.
struct Field<'a> {
    number: u32,
    /// With key and length.
    whole: &'a [u8],
    /// What a length stands before; empty for numbers.
    content: &'a [u8],
}

/// Takes the first field off `rest`.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, DecodeError> {
    let start = *rest;
    let (number, wire_type) = decode_key(rest)?;
    let value = *rest;
    skip_field(wire_type, number, rest, DecodeContext::default())?;
    let whole = &start[..start.len() - rest.len()];
    let mut content = &value[..value.len() - rest.len()];
    match wire_type {
        WireType::LengthDelimited => prost::decode_length_delimiter(&mut content).map(drop)?,
        _ => content = &[],
    }
    Ok(Field { number, whole, content })
}

/// Copies a message; fields of the given number that `thin` makes smaller are replaced.
fn thin_fields<'a>(
    mut rest: &'a [u8],
    number: u32,
    mut thin: impl FnMut(&'a [u8]) -> Result<Option<Vec<u8>>, DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    let mut copy = vec![];
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        let smaller = if field.number == number { thin(field.content)? } else { None };
        match smaller {
            None => copy.extend_from_slice(field.whole),
            Some(content) => {
                encode_key(number, WireType::LengthDelimited, &mut copy);
                encode_varint(content.len() as u64, &mut copy);
                copy.extend_from_slice(&content);
            }
        }
    }
    Ok(copy)
}

fn thin_model<'a>(bytes: &'a [u8], weights: &mut Weights<'a>) -> Result<Vec<u8>, DecodeError> {
    thin_fields(bytes, GRAPH, |graph| thin_fields(graph, INITIALIZER, |tensor| thin_tensor(tensor, weights)).map(Some))
}

/// The tensor without its raw data, which is put into `weights`; none where it stays as it is: small, without a name, or with one of
/// the two twice.
fn thin_tensor<'a>(tensor: &'a [u8], weights: &mut Weights<'a>) -> Result<Option<Vec<u8>>, DecodeError> {
    let (mut names, mut data) = (vec![], vec![]);
    let mut rest = tensor;
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        match field.number {
            NAME => names.push(field.content),
            RAW_DATA => data.push(field.content),
            _ => {}
        }
    }
    let ([name], [raw]) = (&names[..], &data[..]) else { return Ok(None) };
    let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
    if raw.len() < LARGE || name.is_empty() {
        return Ok(None);
    }
    weights.insert(name.to_owned(), raw);
    thin_fields(tensor, RAW_DATA, |_| Ok(Some(vec![]))).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tract_onnx::pb::{GraphProto, NodeProto, StringStringEntryProto, TensorProto};

    use super::*;

    fn tensor(name: &str, raw_data: Vec<u8>) -> TensorProto {
        TensorProto { name: name.into(), dims: vec![raw_data.len() as i64], data_type: 3, raw_data, ..Default::default() }
    }

    fn model(initializer: Vec<TensorProto>) -> ModelProto {
        let node =
            NodeProto { op_type: "Relu".into(), input: vec!["x".into()], output: vec!["y".into()], ..Default::default() };
        let graph = GraphProto { name: "g".into(), node: vec![node], initializer, ..Default::default() };
        let property = StringStringEntryProto { key: "k".into(), value: "v".into() };
        ModelProto { ir_version: 8, graph: Some(graph), metadata_props: vec![property], ..Default::default() }
    }

    #[test]
    fn large_tensors_stay_in_the_bytes_and_nothing_is_lost() {
        let whole = model(vec![
            tensor("small", vec![1; LARGE - 1]),
            tensor("large", vec![2; LARGE]),
            tensor("larger", (0..100_000).map(|i| i as u8).collect()),
        ]);
        let bytes = whole.encode_to_vec();
        let file = File::decode(&bytes).unwrap();
        let sizes: Vec<usize> = file.message.graph.as_ref().unwrap().initializer.iter().map(|t| t.raw_data.len()).collect();
        assert_eq!(sizes, [LARGE - 1, 0, 0]);
        assert_eq!(file.properties().collect::<Vec<_>>(), [("k", "v")]);
        assert!(file.weights.values().all(|raw| bytes.as_ptr_range().contains(&raw.as_ptr())), "copied");
        assert_eq!(file.into_message(), whole);
    }

    #[test]
    fn what_is_ambiguous_stays_in_the_message() {
        let twice = model(vec![tensor("a", vec![1; LARGE]), tensor("a", vec![]), tensor("", vec![3; LARGE])]);
        let bytes = twice.encode_to_vec();
        let file = File::decode(&bytes).unwrap();
        assert!(file.weights.is_empty());
        assert_eq!(file.into_message(), twice);
        // raw_data twice: the last counts, and it is short.
        let mut fields = tensor("b", vec![1; LARGE]).encode_to_vec();
        fields.extend([(RAW_DATA << 3 | 2) as u8, 1, 7]);
        let mut weights = Weights::new();
        assert_eq!((thin_tensor(&fields, &mut weights).unwrap(), weights.len()), (None, 0));
    }

    #[test]
    fn a_file_without_a_graph_is_refused() {
        let bytes = ModelProto { ir_version: 8, ..Default::default() }.encode_to_vec();
        assert!(matches!(File::decode(&bytes), Err(NetworkError::NotOnnx(reason)) if reason.contains("no graph")));
    }

    proptest! {
        /// Cut or damaged bytes: what prost takes for a message is taken for the same one, and nothing else is taken.
        #[test]
        fn damaged_files_are_read_as_prost_reads_them(
            sizes in prop::collection::vec(0..3 * LARGE, 0..4), cut in 0.0..1.2, damage in prop::collection::vec((0.0..1.0, any::<u8>()), 0..4)
        ) {
            let tensors = sizes.iter().enumerate().map(|(i, &size)| tensor(&format!("t{i}"), vec![i as u8; size])).collect();
            let mut bytes = model(tensors).encode_to_vec();
            for (place, value) in damage {
                let at = (place * bytes.len() as f64) as usize;
                bytes[at] = value;
            }
            bytes.truncate((cut * bytes.len() as f64) as usize);
            match (File::decode(&bytes), ModelProto::decode(bytes.as_slice())) {
                (Ok(file), Ok(message)) => prop_assert_eq!(file.into_message(), message),
                (Err(_), Err(_)) => {}
                (Err(NetworkError::NotOnnx(reason)), Ok(message)) => prop_assert!(message.graph.is_none(), "{}", reason),
                (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours.is_ok(), theirs.is_ok()),
            }
        }
    }
}
