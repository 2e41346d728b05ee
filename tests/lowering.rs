//! From QDQ graphs to integers: every pattern against tract's float execution of the same file, the shipped network on every
//! instruction set and number of threads, and what is said of graphs that cannot be lowered.

mod common;

use common::{Graph, Noise};
use pawgate::nn::kernels::Kernels;
use pawgate::nn::{Network, NetworkError, Options};
use tract_onnx::pb::ModelProto;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::*;

const SIZE: [usize; 2] = [21, 18];

/// A convolution with quantised weights; returns its float output.
fn conv(
    graph: &mut Graph,
    noise: &mut Noise,
    name: &str,
    input: (&str, f32),
    shape: [usize; 4],
    geometry: (i64, [i64; 4], i64),
) -> String {
    let [outputs, inputs, kh, kw] = shape;
    let (stride, pads, group) = geometry;
    let scales: Vec<f32> = (0..outputs).map(|c| 0.004 + 0.0005 * (c % 5) as f32).collect();
    let weights = noise.weights(outputs * inputs * kh * kw).into_iter().map(|w| if w % 3 == 0 { w as u8 } else { 0 }).collect();
    let w = graph.dequantised(&format!("{name}/weight"), DataType::Int8, &shape, weights, &scales);
    let bias: Vec<u8> = (0..outputs).flat_map(|c| (c as i32 * 61 - 150).to_le_bytes()).collect();
    let bias_scales: Vec<f32> = scales.iter().map(|s| input.1 * s).collect();
    let b = graph.dequantised(&format!("{name}/bias"), DataType::Int32, &[outputs], bias, &bias_scales);
    let attributes: [(&str, &[i64]); 3] = [("strides", &[stride, stride]), ("pads", &pads), ("group", &[group])];
    graph.node("Conv", name, &[input.0, &w, &b], &attributes)
}

/// Every pattern once: a stem on a framed picture, max pool, a strided convolution, additions of both kinds (fused with and
/// without activation, and one of two tensors that are used elsewhere too), depthwise, joined channels, pooled features, a float head.
fn all_patterns() -> Graph {
    let noise = &mut Noise::new(11);
    let mut g = Graph::default();
    let image = g.input("image", &[1, 3, SIZE[0], SIZE[1]]);
    let image = g.quantised(&image, 0.02, 114);
    let column =
        g.constant("column", DataType::Uint8, &[1, 3, SIZE[0], 1], (0..3 * SIZE[0]).map(|i| (i / SIZE[0] * 9) as u8).collect());
    let (s, z) = ("image/scale", "image/zero_point");
    let column = g.node("DequantizeLinear", "column/dequantised", &[&column, s, z], &[]);
    let framed = g.node("Concat", "framed", &[&image, &column], &[("axis", &[3])]);
    let framed = g.quantised(&framed, 0.02, 114);
    let stem = conv(&mut g, noise, "stem", (&framed, 0.02), [8, 3, 3, 3], (2, [0, 0, 1, 0], 1));
    let stem = g.node("Relu", "stem/relu", &[&stem], &[]);
    let stem = g.quantised(&stem, 0.03, 0);
    let pool = g.node("MaxPool", "pool", &[&stem], &[("kernel_shape", &[3, 3]), ("strides", &[1, 1]), ("pads", &[1, 1, 1, 1])]);
    let pool = g.quantised(&pool, 0.03, 0);
    // A block with a shortcut that is a convolution too.
    let branch = conv(&mut g, noise, "branch", (&pool, 0.03), [12, 8, 1, 1], (2, [0; 4], 1));
    let branch = g.quantised(&branch, 0.04, 120);
    let shortcut = conv(&mut g, noise, "shortcut", (&pool, 0.03), [12, 8, 3, 3], (2, [1, 1, 0, 1], 1));
    let shortcut = g.quantised(&shortcut, 0.05, 99);
    let sum = g.node("Add", "sum", &[&branch, &shortcut], &[]);
    let sum = g.node("Relu", "sum/relu", &[&sum], &[]);
    let sum = g.quantised(&sum, 0.045, 0);
    let depthwise = conv(&mut g, noise, "depthwise", (&sum, 0.045), [12, 1, 3, 3], (1, [1; 4], 12));
    let (low, high) = (g.floats("low", &[], &[0.0]), g.floats("high", &[], &[6.0]));
    let depthwise = g.node("Clip", "depthwise/relu6", &[&depthwise, &low, &high], &[]);
    let depthwise = g.quantised(&depthwise, 6.0 / 255.0, 0);
    // An addition without activation, to a convolution that is not rounded before; its other side is read once more below.
    let linear = conv(&mut g, noise, "linear", (&depthwise, 6.0 / 255.0), [12, 12, 1, 1], (1, [0; 4], 1));
    let second = g.node("Add", "second", &[&linear, &sum], &[]);
    let second = g.quantised(&second, 0.05, 90);
    // Neither side is a convolution that only this reads.
    let third = g.node("Add", "third", &[&second, &sum], &[]);
    let third = g.quantised(&third, 0.06, 80);
    let joined = conv(&mut g, noise, "joined/a", (&third, 0.06), [4, 12, 1, 1], (1, [0; 4], 1));
    let joined = g.quantised(&joined, 0.05, 128);
    let other = conv(&mut g, noise, "joined/b", (&second, 0.05), [6, 12, 1, 1], (1, [0; 4], 1));
    let other = g.quantised(&other, 0.05, 128);
    let both = g.node("Concat", "joined", &[&joined, &other], &[("axis", &[1])]);
    let both = g.quantised(&both, 0.05, 128);
    let mut flat = vec![];
    for tensor in [&both, &third] {
        let mean = g.node("GlobalAveragePool", &format!("{tensor}/mean"), &[tensor], &[]);
        flat.push(g.node("Flatten", &format!("{tensor}/flat"), &[&mean], &[("axis", &[1])]));
    }
    let features = g.node("Concat", "features", &[&flat[0], &flat[1]], &[("axis", &[1])]);
    let head = g.floats("head/weight", &[2, 22], &(0..44).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>());
    let bias = g.floats("head/bias", &[2], &[0.5, -0.5]);
    g.node("Gemm", "logits", &[&features, &head, &bias], &[("transB", &[1])]);
    // Fully connected in 8 bits, one behind the other.
    let mut known = features.clone();
    for (name, [outputs, inputs]) in KNOWN {
        let weights = (0..outputs * inputs).map(|at| known_weight(at) as u8).collect();
        let scales: Vec<f32> = (0..outputs).map(known_scale).collect();
        let weight = g.dequantised(&format!("{name}/weight"), DataType::Int8, &[outputs, inputs], weights, &scales);
        let bias = g.floats(&format!("{name}/bias"), &[outputs], &vec![0.25; outputs]);
        known = g.node("Gemm", name, &[&known, &weight, &bias], &[("transB", &[1])]);
        known = g.node("Relu", &format!("{name}/relu"), &[&known], &[]);
    }
    g.output("features", &[1, 22]);
    g.output("logits", &[1, 2]);
    g.output(&known, &[1, 3]);
    g
}

/// Outputs and inputs of the layers in 8 bits.
const KNOWN: [(&str, [usize; 2]); 2] = [("known", [37, 22]), ("known/more", [3, 37])];

fn known_weight(at: usize) -> i8 {
    (at * 29 % 255) as u8 as i8 / 2
}

fn known_scale(output: usize) -> f32 {
    0.002 * (output + 1) as f32
}

/// The last output, from the features.
fn known(features: &[f32]) -> Vec<f64> {
    let mut values: Vec<f64> = features.iter().map(|&v| f64::from(v)).collect();
    for (_, [outputs, inputs]) in KNOWN {
        let row = |o: usize| (0..inputs).map(|i| f64::from(known_weight(o * inputs + i)) * values[i]).sum::<f64>();
        values = (0..outputs).map(|o| (row(o) * f64::from(known_scale(o)) + 0.25).max(0.0)).collect();
    }
    values
}

fn image() -> Vec<f32> {
    let mut noise = Noise::new(12);
    (0..3 * SIZE[0] * SIZE[1]).map(|_| (noise.next() % 256) as f32 * 0.02 - 2.28).collect()
}

/// tract's own execution, in floats.
fn tract_floats(model: &ModelProto, [height, width]: [usize; 2], image: &[f32]) -> Vec<f32> {
    let plan = tract_onnx::onnx().model_for_proto_model(model).unwrap().into_optimized().unwrap().into_runnable().unwrap();
    let image = Tensor::from_shape(&[1, 3, height, width], image).unwrap();
    let results = plan.run(tvec![image.into()]).unwrap();
    results[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn every_pattern_computes_what_the_file_says() {
    let model = all_patterns().model();
    let expected = tract_floats(&model, SIZE, &image());
    let mut first: Option<Vec<Vec<f32>>> = None;
    for kernels in Kernels::available() {
        for threads in [1, 2, 5] {
            let network = Network::load(
                model.clone(),
                Options { isa: Some(kernels.isa()), threads: Some(threads), ..Options::default() },
            )
            .unwrap();
            let outputs: Vec<&str> = network.outputs().iter().map(|o| o.name.as_str()).collect();
            assert_eq!(outputs, ["features", "logits", "known/more/relu"]);
            let found = network.run(&image()).unwrap();
            // Floats round ties another way now and then: a step of the pooled pictures' scale.
            for (i, (found, expected)) in found[0].iter().zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() <= 2.0 * 0.03 + 1e-4,
                    "feature {i}: {found} instead of {expected} ({})",
                    kernels.isa()
                );
            }
            let exact = known(&found[0]);
            assert!(exact.iter().any(|v| *v > 0.5), "{exact:?}");
            for (found, exact) in found[2].iter().zip(exact) {
                assert!((f64::from(*found) - exact).abs() < 1e-4 * exact.max(1.0), "{found} instead of {exact}");
            }
            let same = first.get_or_insert_with(|| found.clone());
            assert_eq!(*same, found, "{} with {threads} threads", kernels.isa());
        }
    }
    assert!(expected.iter().any(|v| v.abs() > 0.2), "the features say something: {expected:?}");
}

/// One pixel, so that each feature is one rounded sum: rounded twice, one in ten would be a step off.
#[test]
fn a_sum_is_rounded_once() {
    let noise = &mut Noise::new(21);
    let mut g = Graph::default();
    let image = g.input("image", &[1, 3, 1, 1]);
    let image = g.quantised(&image, 0.02, 114);
    let own = conv(&mut g, noise, "own", (&image, 0.02), [32, 3, 1, 1], (1, [0; 4], 1));
    let other = conv(&mut g, noise, "other", (&image, 0.02), [32, 3, 1, 1], (1, [0; 4], 1));
    let other = g.quantised(&other, 0.021, 120);
    let sum = g.node("Add", "sum", &[&own, &other], &[]);
    let sum = g.quantised(&sum, 0.023, 128);
    let mean = g.node("GlobalAveragePool", "mean", &[&sum], &[]);
    g.node("Flatten", "features", &[&mean], &[("axis", &[1])]);
    g.output("features", &[1, 32]);
    let model = g.model();
    let mut values = Noise::new(22);
    let pictures: Vec<Vec<f32>> =
        (0..40).map(|_| (0..3).map(|_| (values.next() % 256) as f32 * 0.02 - 2.28).collect()).collect();
    for kernels in Kernels::available() {
        let network = Network::load(model.clone(), Options { isa: Some(kernels.isa()), ..Options::SINGLE_THREADED }).unwrap();
        let mut apart = 0;
        for picture in &pictures {
            let (found, expected) = (network.run(picture).unwrap().remove(0), tract_floats(&model, [1, 1], picture));
            assert!(expected.iter().any(|value| value.abs() > 0.1), "{expected:?}");
            apart += found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > 0.01).count();
        }
        // Floats may round a tie the other way.
        assert!(apart <= 2, "{apart} of {} sums differ on {}", 32 * pictures.len(), kernels.isa());
    }
}

#[test]
fn additions_become_part_of_convolutions() {
    let network = Network::load(all_patterns().model(), Options::SINGLE_THREADED).unwrap();
    let operators = network.profile(|pixels| pixels.fill([0; 4])).unwrap();
    let count = |op: &str| operators.iter().filter(|o| o.op == op).count();
    // `sum` and `second` are fused, `third` is not.
    let counts = ["Conv", "Depthwise", "Add", "MaxPool", "Concat", "GlobalAveragePool", "Linear"]
        .map(|op| count(&format!("Pawgate{op}")));
    assert_eq!(counts, [6, 1, 1, 1, 2, 2, 2]);
    assert!(
        !operators.iter().any(|o| o.op.starts_with("Conv") || o.op.contains("EinSum") && o.macs > 1000),
        "nothing large in floats"
    );
    assert!(operators.iter().find(|o| o.name == "stem").unwrap().macs == 8 * 27 * 10 * 9);
}

#[test]
fn what_cannot_be_lowered_is_named() {
    let refused = |change: fn(&mut Graph)| {
        let mut graph = all_patterns();
        change(&mut graph);
        match Network::load(graph.model(), Options::SINGLE_THREADED).unwrap_err() {
            NetworkError::Lower(error) => error.to_string(),
            other => panic!("{other}"),
        }
    };
    fn node<'a>(graph: &'a mut Graph, name: &str) -> &'a mut tract_onnx::pb::NodeProto {
        graph.0.node.iter_mut().find(|n| n.name == name).unwrap()
    }
    fn tensor<'a>(graph: &'a mut Graph, name: &str) -> &'a mut tract_onnx::pb::TensorProto {
        graph.0.initializer.iter_mut().find(|n| n.name == name).unwrap()
    }
    fn set(graph: &mut Graph, name: &str, key: &str, values: &[i64]) {
        let attribute =
            tract_onnx::pb::AttributeProto { name: key.into(), ints: values.to_vec(), i: values[0], ..Default::default() };
        node(graph, name).attribute.retain(|a| a.name != key);
        node(graph, name).attribute.push(attribute);
    }
    type Case = (fn(&mut Graph), &'static str);
    let cases: [Case; 19] = [
        (|g| node(g, "stem/relu").op_type = "Sigmoid".into(), "node `stem/relu` (Sigmoid): has no integer form"),
        (|g| set(g, "branch", "dilations", &[2, 2]), "node `branch` (Conv): is dilated"),
        (|g| set(g, "shortcut", "group", &[2]), "node `shortcut` (Conv): 2 groups of 8 channels"),
        (|g| set(g, "pool", "ceil_mode", &[1]), "node `pool` (MaxPool): ceil_mode"),
        (|g| set(g, "stem", "pads", &[0, 0, 3, 0]), "node `stem` (Conv): Window"),
        (|g| set(g, "joined", "axis", &[0]), "node `joined` (Concat): joins along axis 0"),
        (|g| tensor(g, "joined/scale").raw_data[2] ^= 1, "node `joined` (Concat): joins tensors of different scales"),
        (|g| tensor(g, "branch/weight").raw_data[5] = 0x80, "node `branch` (Conv): has a weight of -128"),
        (|g| tensor(g, "stem/bias/scale").raw_data[1] ^= 1, "node `stem` (Conv): its bias is not in steps"),
        (
            |g| tensor(g, "linear/weight/zero_point").raw_data[0] = 1,
            "node `linear/weight/dequantised` (DequantizeLinear): weights",
        ),
        (|g| tensor(g, "sum/relu/scale").raw_data.fill(0), "node `sum/relu/quantised` (QuantizeLinear): the scale 0"),
        (|g| tensor(g, "linear/weight").dims[1] = 11, "node `linear` (Conv)"),
        (|g| node(g, "features").input[0] = "sum/relu/dequantised".into(), "node `features` (Concat): reads the picture"),
        (|g| set(g, "known", "transB", &[0]), "node `known` (Gemm): 8-bit weights"),
        (|g| tensor(g, "known/bias").raw_data.truncate(144), "node `known` (Gemm): `known/bias` has the shape"),
        (|g| node(g, "second").input[1] = "linear".into(), "node `second` (Add): adds two convolutions"),
        (|g| node(g, "third").input[1] = "linear".into(), "node `linear` (Conv): is read as floats"),
        (|g| node(g, "second").input[0] = "depthwise".into(), "node `depthwise` (Conv): is read as floats"),
        (|g| node(g, "stem").input[0] = "image".into(), "node `stem` (Conv): its input `image` is not quantised"),
    ];
    for (change, complaint) in cases {
        let found = refused(change);
        assert!(found.contains(complaint), "expected `{complaint}`, found `{found}`");
    }
}

#[test]
fn nodes_without_inputs_or_outputs_are_refused() {
    for (name, input) in [("stem/relu", true), ("pool/dequantised", true), ("sum", true), ("branch", false)] {
        let mut graph = all_patterns();
        let node = graph.0.node.iter_mut().find(|n| n.name == name).unwrap();
        if input {
            node.input.clear()
        } else {
            node.output.clear()
        }
        let error = Network::load(graph.model(), Options::SINGLE_THREADED).unwrap_err();
        assert!(matches!(&error, NetworkError::Graph(text) if text.contains(name)), "{error}");
    }
}

#[test]
fn kernels_that_this_cpu_lacks_are_refused() {
    use pawgate::nn::kernels::{Isa, IsaError};
    let missing = Isa::ALL.into_iter().find(|&isa| Kernels::of(isa).is_err()).expect("no CPU has all of them");
    let error = Network::load(all_patterns().model(), Options { isa: Some(missing), ..Options::default() }).unwrap_err();
    assert!(
        matches!(&error, NetworkError::Runtime(text) if text.contains(missing.name()) && text.contains("scalar")),
        "{error}"
    );
    assert!(matches!("mmx".parse::<Isa>(), Err(IsaError::Unknown(name)) if name == "mmx"));
}

#[cfg(feature = "embedded-model")]
mod shipped {
    use super::*;
    use pawgate::model::Classifier;
    use pawgate::samples::SAMPLES;
    use pawgate::vision;

    #[test]
    fn all_instruction_sets_and_thread_counts_give_the_same_bits() {
        let picture = vision::decode(SAMPLES[1].jpeg).unwrap();
        let scores = |isa, threads| {
            let classifier =
                Classifier::embedded(Options { isa: Some(isa), threads: Some(threads), ..Options::default() }).unwrap();
            classifier.infer(&picture).unwrap()
        };
        let expected = scores(Kernels::detect().isa(), 1);
        for threads in [2, 3, 4, 8] {
            assert_eq!(scores(Kernels::detect().isa(), threads), expected, "{threads} threads");
        }
        for kernels in Kernels::available() {
            assert_eq!(scores(kernels.isa(), 2), expected, "{}", kernels.isa());
        }
    }

    #[test]
    fn floats_and_pixels_are_the_same_input() {
        let classifier = Classifier::embedded(Options::default()).unwrap();
        let picture = vision::decode(SAMPLES[0].jpeg).unwrap();
        let preprocess = &classifier.metadata().preprocess;
        let scores = classifier.infer(&picture).unwrap();
        let outputs = classifier.network().run(&preprocess.tensor(&picture).unwrap()).unwrap();
        assert!(outputs.contains(&scores.breed) && outputs.contains(&scores.embedding));
    }

    #[test]
    fn clones_run_side_by_side() {
        let classifier = Classifier::embedded(Options { threads: Some(2), ..Options::default() }).unwrap();
        let expected: Vec<_> = SAMPLES.iter().map(|s| classifier.infer(&vision::decode(s.jpeg).unwrap()).unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for (sample, expected) in SAMPLES.iter().zip(&expected) {
                        assert_eq!(classifier.clone().infer(&vision::decode(sample.jpeg).unwrap()).unwrap(), *expected);
                    }
                });
            }
        });
    }
}
