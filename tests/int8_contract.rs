//! The shipped model against docs/int8-contract.md: what kernels may rely on.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};

struct File {
    model: ModelProto,
}

impl File {
    fn shipped() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pawgate-pets37-int8.onnx");
        Self { model: ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap() }
    }

    fn nodes(&self) -> &[NodeProto] {
        &self.model.graph.as_ref().unwrap().node
    }

    fn constants(&self) -> HashMap<&str, &TensorProto> {
        self.model.graph.as_ref().unwrap().initializer.iter().map(|t| (t.name.as_str(), t)).collect()
    }
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn convolutions_keep_the_contract() {
    let file = File::shipped();
    let constants = file.constants();
    let makers: HashMap<&str, &NodeProto> = file.nodes().iter().map(|n| (n.output[0].as_str(), n)).collect();
    assert_eq!(file.model.opset_import[0].version, 17);
    let (mut convolutions, mut exact_powers) = (0, 0);
    for node in file.nodes().iter().filter(|n| n.op_type == "Conv") {
        let sources: Vec<&NodeProto> = node.input.iter().map(|i| makers[i.as_str()]).collect();
        assert!(sources.iter().all(|n| n.op_type == "DequantizeLinear"), "{} reads floats", node.name);
        let of = |input: usize, part: usize| constants[sources[input].input[part].as_str()];
        let input_scale = floats(of(0, 1))[0];
        let (weight, weight_scales) = (of(1, 0), floats(of(1, 1)));
        assert!(weight.raw_data.iter().all(|&b| b as i8 != i8::MIN), "{} has a weight of -128", node.name);
        assert!(of(1, 2).raw_data.iter().all(|&b| b == 0), "{}: weights are symmetric", node.name);
        assert_eq!(weight_scales.len() as i64, weight.dims[0], "{}: one scale a channel", node.name);
        let products: Vec<f32> = weight_scales.iter().map(|s| input_scale * s).collect();
        assert_eq!(floats(of(2, 1)), products, "{}: bias scales", node.name);
        let steps = of(2, 0).raw_data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b));
        assert!(steps.map(i32::unsigned_abs).max().unwrap() <= 1 << 24, "{}: bias steps", node.name);
        convolutions += 1;
        exact_powers += weight_scales.iter().filter(|s| s.log2().fract() == 0.0).count();
    }
    assert_eq!(convolutions, 53 + 52, "ResNet50 and MobileNetV2");
    assert!(exact_powers > 25_000, "{exact_powers} channels have power-of-two scales; ResNet50 alone has 26,560");
}

#[test]
fn activations_after_relu_start_at_zero_and_pools_keep_their_scale() {
    let file = File::shipped();
    let constants = file.constants();
    let quantised: HashMap<&str, (f32, u8)> = file
        .nodes()
        .iter()
        .filter(|n| n.op_type == "QuantizeLinear")
        .map(|n| {
            let [scale, zero] = [&n.input[1], &n.input[2]].map(|i| constants[i.as_str()]);
            (n.input[0].as_str(), (floats(scale)[0], zero.raw_data[0]))
        })
        .collect();
    let (scale, zero_point) = quantised["image"];
    assert!((scale - 4.758 / 255.0).abs() < 1e-5 && (113..=114).contains(&zero_point), "{scale} {zero_point}");
    // What follows the features is the head's, in floats.
    for node in file.nodes().iter().take_while(|node| node.name != "embedding") {
        let output = node.output[0].as_str();
        match node.op_type.as_str() {
            "Relu" | "Clip" => assert_eq!(quantised[output].1, 0, "{output}"),
            "Add" if !quantised.contains_key(output) => {
                assert!(file.nodes().iter().any(|n| n.op_type == "Relu" && n.input[0] == output), "{output} stays in floats");
            }
            "MaxPool" => assert_eq!(quantised[output], quantised["resnet50/conv1/relu"]),
            "GlobalAveragePool" => assert!(!quantised.contains_key(output), "{output} is rounded to 8 bits"),
            _ => {}
        }
    }
}
