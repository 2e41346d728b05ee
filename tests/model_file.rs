//! What the loader says to model files that are cut, foreign, newer, or at odds with themselves.
#![cfg(feature = "embedded-model")]

use std::path::Path;
use std::sync::LazyLock;

use pawgate::model::{Classifier, MetadataError, ModelError};
use pawgate::nn::{NetworkError, Options};
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

static SHIPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pawgate-pets37-int8.onnx")).expect("the shipped model")
});

/// The shipped model without its graph's weight: the description is judged before the graph.
fn described(change: impl FnOnce(&mut ModelProto)) -> ModelError {
    let mut model = ModelProto::decode(SHIPPED.as_slice()).unwrap();
    model.graph.as_mut().unwrap().initializer.clear();
    change(&mut model);
    Classifier::from_bytes(&model.encode_to_vec(), Options::default()).unwrap_err()
}

fn set(model: &mut ModelProto, key: &str, value: &str) {
    model.metadata_props.iter_mut().find(|p| p.key == key).unwrap().value = value.into();
}

#[test]
fn the_shipped_model_describes_itself() {
    let classifier = Classifier::embedded(Options::default()).unwrap();
    let metadata = classifier.metadata();
    assert_eq!(metadata.labels.len(), 37);
    assert_eq!(metadata.labels.iter().filter(|l| l.species == pawgate::model::Species::Cat).count(), 12);
    assert_eq!(classifier.embedding_len(), 3328);
    // What `calibrate::choose_gate` in the tools promises, out of fold.
    assert!(metadata.gate.pets_accepted >= 0.95 && metadata.gate.negatives_accepted <= 0.002, "{:?}", metadata.gate);
    assert!(metadata.provenance.weights.iter().all(|w| w.sha256.len() == 64));
}

#[test]
fn junk_and_cut_files_are_no_onnx() {
    assert!(matches!(Classifier::from_bytes(b"hello", Options::default()), Err(ModelError::Network(NetworkError::NotOnnx(_)))));
    assert!(matches!(Classifier::from_bytes(b"", Options::default()), Err(ModelError::Network(NetworkError::NotOnnx(_)))));
    for part in [10, SHIPPED.len() / 2, SHIPPED.len() - 1] {
        let error = Classifier::from_bytes(&SHIPPED[..part], Options::default()).unwrap_err();
        let refused = matches!(error, ModelError::Network(NetworkError::NotOnnx(_)) | ModelError::Metadata(_));
        assert!(refused, "{part} bytes: {error}");
    }
}

#[test]
fn a_foreign_model_lacks_the_description() {
    let error = described(|model| model.metadata_props.clear());
    assert!(matches!(error, ModelError::Metadata(MetadataError::Missing("pawgate.format_version"))), "{error}");
    assert!(error.to_string().contains("pawgate-tools quantize"), "{error}");
}

#[test]
fn a_newer_or_damaged_description_is_refused() {
    let error = described(|model| set(model, "pawgate.format_version", "2"));
    assert!(matches!(error, ModelError::Metadata(MetadataError::Newer { found: 2 })), "{error}");
    for (key, value, complaint) in [
        ("pawgate.labels", "[]", "there are no labels"),
        ("pawgate.labels", r#"[{"name":"pug","species":"dragon"}]"#, "unknown variant `dragon`"),
        ("pawgate.labels", r#"[{"name":"pug","species":"dog"},{"name":"pug","species":"dog"}]"#, "stands there twice"),
        ("pawgate.gate", r#"{"accept":0.0,"reject":0.0,"pets_accepted":1,"negatives_accepted":0,"chosen_by":""}"#, "accept 0"),
        (
            "pawgate.gate",
            r#"{"accept":0.3,"reject":0.6,"pets_accepted":1,"negatives_accepted":0,"chosen_by":""}"#,
            "reject 0.6",
        ),
        (
            "pawgate.gate",
            r#"{"accept":0.3,"reject":0.1,"pets_accepted":1,"negatives_accepted":0.5,"chosen_by":""}"#,
            "guards nothing",
        ),
        ("pawgate.preprocess", "{}", "missing field"),
        ("pawgate.preprocess", r#"{"size":224,"resize":{"rule":"plain"},"mean":[0,0,0],"std":[0,1,1]}"#, "standard deviation"),
    ] {
        let error = described(|model| set(model, key, value)).to_string();
        assert!(error.contains(key) && error.contains(complaint), "{key}: {error}");
    }
}

/// A model of the shipped description over a graph of the test's own.
fn with_graph(graph: GraphProto) -> ModelError {
    described(|model| model.graph = Some(graph))
}

fn tensor(name: &str, dims: &[i64]) -> ValueInfoProto {
    use tract_onnx::pb::{
        TensorShapeProto, TypeProto, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
    };
    let dimension = |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Default::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let value = type_proto::Value::TensorType(type_proto::Tensor { elem_type: 1, shape: Some(shape) });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(value), ..Default::default() }),
        ..Default::default()
    }
}

fn node(op_type: &str, input: &str, output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: output.into(),
        input: vec![input.into()],
        output: vec![output.into()],
        ..Default::default()
    }
}

#[test]
fn tensors_that_contradict_the_description_are_refused() {
    let pooled = |outputs: &[&str]| GraphProto {
        input: vec![tensor("image", &[1, 3, 224, 224])],
        output: outputs.iter().map(|name| tensor(name, &[1, 3])).collect(),
        node: [node("GlobalAveragePool", "image", "pool")]
            .into_iter()
            .chain(outputs.iter().map(|name| node("Flatten", "pool", name)))
            .collect(),
        ..Default::default()
    };
    let error = with_graph(pooled(&["breed", "pet", "embedding"])).to_string();
    assert!(error.contains("expected the output `breed` [1, 37]") && error.contains("`breed` [1, 3]"), "{error}");

    let mut small = pooled(&["breed"]);
    small.input = vec![tensor("image", &[1, 3, 32, 32])];
    let error = with_graph(small).to_string();
    assert!(error.contains("expected the input `image` [1, 3, 224, 224], found `image` [1, 3, 32, 32]"), "{error}");
}

#[test]
fn graphs_that_would_trip_the_importer_are_errors_and_not_panics() {
    let image = || vec![tensor("image", &[1, 3, 224, 224])];
    let unmade = GraphProto { input: image(), output: vec![tensor("breed", &[1, 37])], ..Default::default() };
    assert!(with_graph(unmade).to_string().contains("output `breed` is made by no node"));
    let dangling = GraphProto {
        input: image(),
        output: vec![tensor("breed", &[1, 37])],
        node: vec![node("Relu", "nowhere", "breed")],
        ..Default::default()
    };
    assert!(with_graph(dangling).to_string().contains("reads `nowhere`"));
    let unknown = GraphProto {
        input: image(),
        output: vec![tensor("breed", &[1, 3, 224, 224])],
        node: vec![node("Summon", "image", "breed")],
        ..Default::default()
    };
    assert!(with_graph(unknown).to_string().contains("Summon"));
    let mut elsewhere = GraphProto { input: image(), output: vec![tensor("image", &[1, 3, 224, 224])], ..Default::default() };
    elsewhere.initializer.push(tract_onnx::pb::TensorProto {
        name: "w".into(),
        data_location: Some(tract_onnx::pb::tensor_proto::DataLocation::External as i32),
        ..Default::default()
    });
    assert!(with_graph(elsewhere).to_string().contains("another file"));
}
