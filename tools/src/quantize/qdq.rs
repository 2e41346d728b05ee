//! The fp32 graph rewritten with QuantizeLinear / DequantizeLinear pairs, as `docs/int8-contract.md` says.
//!
//! Every tensor between `image` and the last pictures, of which the features are means, is quantised once, where it is made (after its
//! activation), and dequantised for whoever reads it; but not the output of a convolution that is only added to another tensor: the sum
//! alone is rounded (which takes a sixth off the error of ResNet50's features). A runtime that knows the pattern fuses it into integer operators; any other computes
//! the same in floats.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, bail, ensure};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::ranges::Affine;
use super::weights;
use crate::graph::{GraphBuilder, Name};

/// Where a tensor's scale and zero point come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The network's input: its range is known.
    Image,
    /// Seen during calibration.
    Calibrated,
    /// Those of another tensor, because the operator only moves or compares values.
    SameAs(Name),
}

/// The tensors to quantise, in the order of the graph.
///
/// # Errors
/// Names an operator that has no place in the integer part.
pub fn points(graph: &GraphProto) -> anyhow::Result<Vec<(Name, Source)>> {
    let mut consumers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    graph.node.iter().for_each(|n| n.input.iter().for_each(|i| consumers.entry(i).or_default().push(n)));
    let mut points = vec![(pawgate::model::INPUT.to_owned(), Source::Image)];
    for node in &graph.node {
        let output = node.output[0].clone();
        match node.op_type.as_str() {
            "Conv" | "Add" => {
                let reader = consumers.get(output.as_str()).filter(|c| c.len() == 1).map(|c| c[0]);
                let activated = reader.is_some_and(is_activation);
                let added = node.op_type == "Conv" && reader.is_some_and(|sum| is_added_exactly(&output, sum, graph));
                if !activated && !added {
                    points.push((output, Source::Calibrated));
                }
            }
            "Relu" | "Clip" => points.push((output, Source::Calibrated)),
            "MaxPool" => points.push((output, Source::SameAs(node.input[0].clone()))),
            "Concat" if is_border(node, graph) => {
                let moved = node.input.iter().find(|i| constant(graph, i).is_none()).context("a border without a picture")?;
                points.push((output, Source::SameAs(moved.clone())));
            }
            "GlobalAveragePool" | "Flatten" | "Concat" => {}
            other => bail!("node `{}`: {other} has no int8 form here", node.name),
        }
    }
    Ok(points)
}

fn is_activation(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Relu" | "Clip")
}

/// Whether `output` of a convolution goes into the sum `reader` as it is: of two convolutions, the later one.
fn is_added_exactly(output: &str, reader: &NodeProto, graph: &GraphProto) -> bool {
    let position = |tensor: &String| graph.node.iter().position(|node| node.op_type == "Conv" && node.output.contains(tensor));
    let last = reader.input.iter().max_by_key(|tensor| position(tensor));
    reader.op_type == "Add"
        && reader.input.len() == 2
        && reader.input[0] != reader.input[1]
        && last.is_some_and(|last| last == output)
}

/// A concatenation with a constant frames a picture; one without joins features.
fn is_border(node: &NodeProto, graph: &GraphProto) -> bool {
    node.input.iter().any(|input| constant(graph, input).is_some())
}

/// An initializer by name.
pub(super) fn constant<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a TensorProto> {
    graph.initializer.iter().find(|t| t.name == name)
}

/// The values of an f32 initializer.
///
/// # Errors
/// When it holds another type.
pub(super) fn floats(tensor: &TensorProto) -> anyhow::Result<Vec<f32>> {
    ensure!(tensor.data_type == DataType::Float as i32, "`{}` is not f32", tensor.name);
    Ok(tensor.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn dims(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&d| d as usize).collect()
}

/// What calibration found out about the tensors of a network.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    /// Range of every quantised tensor.
    pub ranges: HashMap<Name, Affine>,
    /// Mean of each channel of the tensors that convolutions read; without an entry, biases are not corrected.
    pub channel_means: HashMap<Name, Vec<f32>>,
    /// Convolutions, by what they make, for which better integers than the nearest were found ([`super::reconstruct`]).
    pub reconstructed: HashMap<Name, Reconstructed>,
}

/// A convolution's weights in the steps that rounding to the nearest would take, and its biases.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstructed {
    /// −127…127.
    pub values: Vec<i8>,
    /// One an output channel.
    pub bias: Vec<f32>,
}

/// How the weights fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightSummary {
    /// Output channels of all convolutions.
    pub channels: usize,
    /// Those that int8 reproduces exactly.
    pub exact_channels: usize,
}

/// Writes the integer part of the network into a new graph; its last tensor is `embedding`.
///
/// # Errors
/// Names the tensor without a range or the node that cannot be written.
pub fn rewrite(model: &ModelProto, calibration: &Calibration) -> anyhow::Result<(GraphBuilder, WeightSummary)> {
    let source = model.graph.as_ref().context("the model has no graph")?;
    let mut writer = Writer {
        source,
        ranges: &calibration.ranges,
        calibration,
        graph: GraphBuilder::new("pawgate-int8"),
        written: HashSet::new(),
        summary: WeightSummary::default(),
    };
    let shape = [1, 3, crate::graph::fused::SIZE, crate::graph::fused::SIZE];
    writer.graph.input(pawgate::model::INPUT, &shape);
    writer.quantise(pawgate::model::INPUT);
    for node in &source.node {
        writer.node(node).with_context(|| format!("node `{}` ({})", node.name, node.op_type))?;
    }
    Ok((writer.graph, writer.summary))
}

struct Writer<'a> {
    source: &'a GraphProto,
    ranges: &'a HashMap<Name, Affine>,
    calibration: &'a Calibration,
    graph: GraphBuilder,
    /// Constants that stand in the new graph already.
    written: HashSet<Name>,
    summary: WeightSummary,
}

impl Writer<'_> {
    fn node(&mut self, node: &NodeProto) -> anyhow::Result<()> {
        let mut copy = node.clone();
        if node.op_type == "Conv" {
            copy.input = self.conv_inputs(node)?;
        } else {
            let range = self.ranges.get(&node.output[0]).copied();
            for input in &mut copy.input {
                *input = match constant(self.source, input) {
                    None => self.read(input),
                    Some(tensor) if node.op_type == "Concat" => {
                        self.border(tensor, range.context("a border without a range")?)?
                    }
                    Some(tensor) => self.copy_constant(tensor)?,
                };
            }
        }
        let output = node.output[0].clone();
        self.graph.push(copy);
        if self.ranges.contains_key(&output) {
            self.quantise(&output);
        }
        Ok(())
    }

    /// The name under which a tensor is read: dequantised where it is quantised.
    fn read(&self, tensor: &str) -> Name {
        if self.ranges.contains_key(tensor) { format!("{tensor}/dequantised") } else { tensor.to_owned() }
    }

    fn quantise(&mut self, tensor: &str) {
        let (scale, zero_point) = self.affine(tensor, self.ranges[tensor]);
        let quantised = self.graph.node("QuantizeLinear", &format!("{tensor}/quantised"), &[tensor, &scale, &zero_point], &[]);
        self.graph.node("DequantizeLinear", &format!("{tensor}/dequantised"), &[&quantised, &scale, &zero_point], &[]);
    }

    fn affine(&mut self, tensor: &str, affine: Affine) -> (Name, Name) {
        let scale = self.graph.constant_f32(&format!("{tensor}/scale"), &[], &[affine.scale]);
        let name = format!("{tensor}/zero_point");
        (scale, self.graph.constant(&name, DataType::Uint8, &[], vec![affine.zero_point]))
    }

    fn border(&mut self, tensor: &TensorProto, affine: Affine) -> anyhow::Result<Name> {
        let values = floats(tensor)?.into_iter().map(|v| affine.quantise(v)).collect();
        let data = self.graph.constant(&tensor.name, DataType::Uint8, &dims(tensor), values);
        let (scale, zero_point) = self.affine(&tensor.name, affine);
        Ok(self.graph.node("DequantizeLinear", &format!("{data}/dequantised"), &[&data, &scale, &zero_point], &[]))
    }

    fn copy_constant(&mut self, tensor: &TensorProto) -> anyhow::Result<Name> {
        if self.written.insert(tensor.name.clone()) {
            self.graph.constant_f32(&tensor.name, &dims(tensor), &floats(tensor)?);
        }
        Ok(tensor.name.clone())
    }

    fn conv_inputs(&mut self, node: &NodeProto) -> anyhow::Result<Vec<Name>> {
        let conv = IntegerConv::of(node, self.source, self.calibration)?;
        self.summary.channels += conv.weight.scales.len();
        self.summary.exact_channels += conv.weight.exact_channels;
        let [input, weight, bias] = &node.input[..] else { bail!("a convolution needs a weight and a bias") };
        let bytes = conv.weight.values.iter().map(|&v| v as u8).collect();
        let weight_data = self.graph.constant(weight, DataType::Int8, &conv.shape, bytes);
        let zeros = vec![0; conv.weight.scales.len()];
        let weight_dq = self.graph.dequantise_rows(&weight_data, &conv.weight.scales, DataType::Int8, zeros);
        let bytes = conv.bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bias_data = self.graph.constant(bias, DataType::Int32, &[conv.bias.len()], bytes);
        let zeros = vec![0; conv.bias.len() * 4];
        let bias_dq = self.graph.dequantise_rows(&bias_data, &conv.bias_scales, DataType::Int32, zeros);
        Ok(vec![self.read(input), weight_dq, bias_dq])
    }
}

/// A convolution's constants in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerConv {
    /// \[out, in / groups, height, width\].
    pub shape: Vec<usize>,
    /// In 8 bits.
    pub weight: weights::Quantised,
    /// In 32 bits, corrected; as many as output channels.
    pub bias: Vec<i32>,
    /// What a step of each bias is worth: the input's scale times the weight's.
    pub bias_scales: Vec<f32>,
}

impl IntegerConv {
    /// Quantises what `node`, a convolution of `source`, reads.
    ///
    /// # Errors
    /// When its input has no range, its constants are none, or a bias does not fit.
    pub fn of(node: &NodeProto, source: &GraphProto, calibration: &Calibration) -> anyhow::Result<Self> {
        let [input, weight, bias] = &node.input[..] else { bail!("a convolution needs a weight and a bias") };
        let affine = *calibration.ranges.get(input).with_context(|| format!("its input `{input}` is not quantised"))?;
        let tensor = constant(source, weight).context("its weight is not constant")?;
        let mut biases = floats(constant(source, bias).context("its bias is not constant")?)?;
        let shape = dims(tensor);
        let plane = shape[2] * shape[3];
        let values = floats(tensor)?;
        let least_scales: Vec<f32> = biases.iter().map(|b| b.abs() / (affine.scale * MAX_BIAS_STEPS)).collect();
        let mut weight = weights::quantise(&values, &least_scales, plane);
        if let Some(found) = calibration.reconstructed.get(&node.output[0]) {
            biases.clone_from(&found.bias);
            weight.take(&found.values, &values);
        } else if let Some(means) = calibration.channel_means.get(input) {
            correct_biases(&mut biases, &values, &weight, plane, means);
        }
        let bias_scales: Vec<f32> = weight.scales.iter().map(|s| affine.scale * s).collect();
        let bias = biases.iter().zip(&bias_scales).map(|(&b, &s)| bias_steps(b, s)).collect::<Result<_, _>>()?;
        Ok(Self { shape, weight, bias, bias_scales })
    }

    /// The weights that the integers stand for.
    pub fn rounded_weight(&self) -> Vec<f32> {
        let per_channel = self.weight.values.len() / self.weight.scales.len();
        let channels = self.weight.values.chunks_exact(per_channel).zip(&self.weight.scales);
        channels.flat_map(|(values, scale)| values.iter().map(move |&v| f32::from(v) * scale)).collect()
    }

    /// The biases that the integers stand for.
    pub fn rounded_bias(&self) -> Vec<f32> {
        self.bias.iter().zip(&self.bias_scales).map(|(&steps, scale)| steps as f32 * scale).collect()
    }
}

/// Takes out of each bias what rounding the weights adds on average (Nagel et al. 2019, arXiv:1906.04721, section 4.2): the
/// sum of the weight errors over a kernel, times the mean of the channel it reads.
fn correct_biases(biases: &mut [f32], weight: &[f32], quantised: &weights::Quantised, plane: usize, means: &[f32]) {
    let outputs = biases.len();
    let inputs_per_group = weight.len() / (outputs * plane);
    let groups = means.len() / inputs_per_group;
    let kernels = weight.chunks_exact(plane).zip(quantised.values.chunks_exact(plane));
    for (index, (floats, steps)) in kernels.enumerate() {
        let (output, within) = (index / inputs_per_group, index % inputs_per_group);
        let channel = output * groups / outputs * inputs_per_group + within;
        let scale = quantised.scales[output];
        let error: f32 = floats.iter().zip(steps).map(|(w, &q)| f32::from(q) * scale - w).sum();
        biases[output] -= error * means[channel];
    }
}

/// Weight scales are chosen such that a bias spends at most this many steps before it is corrected: far from the ends of the
/// 32-bit accumulator, and exact as f32.
const MAX_BIAS_STEPS: f32 = (1 << 23) as f32;

/// round(bias / scale) as i32.
fn bias_steps(bias: f32, scale: f32) -> anyhow::Result<i32> {
    let steps = (f64::from(bias) / f64::from(scale)).round_ties_even();
    ensure!(steps.abs() <= 2.0 * f64::from(MAX_BIAS_STEPS), "bias {bias} is too large for its scale {scale}");
    Ok(steps as i32)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::graph::{Activation, Attr, ConvGeometry};
    use crate::weights::{Conv, Tensor};
    use pawgate::nn::{Network, Options};

    /// Every pattern of the real network once: a stem with a framed border, a max pool, a residual block with a linear branch,
    /// a depthwise convolution with ReLU6, pooling, joined features.
    pub(in crate::quantize) fn small_network() -> ModelProto {
        let size = crate::graph::fused::SIZE;
        let mut state = 7u32;
        let mut noise = |count: usize, spread: f32| -> Vec<f32> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * spread
            };
            (0..count).map(|_| next()).collect()
        };
        let mut conv = |shape: [usize; 4]| Conv {
            weight: Tensor { shape: shape.to_vec(), data: noise(shape.iter().product(), 0.4) },
            bias: noise(shape[0], 0.3),
        };
        let (stem, branch, depthwise) = (conv([8, 3, 3, 3]), conv([8, 8, 1, 1]), conv([8, 1, 3, 3]));
        let mut graph = GraphBuilder::new("small");
        let image = graph.input(pawgate::model::INPUT, &[1, 3, size, size]);
        let strip = graph.constant_f32("strip", &[1, 3, size, 1], &vec![0.25; 3 * size]);
        let framed = graph.node("Concat", "framed", &[&image, &strip], &[("axis", Attr::Int(3))]);
        let strided = |pads| ConvGeometry { stride: 2, pads, groups: 1 };
        let stem = graph.conv("stem", &framed, &stem, strided([0, 0, 1, 0]), Activation::Relu);
        let pool = [("kernel_shape", Attr::Ints(&[2, 2])), ("strides", Attr::Ints(&[2, 2]))];
        let pooled = graph.node("MaxPool", "pool", &[&stem], &pool);
        let branch = graph.conv("branch", &pooled, &branch, ConvGeometry::POINTWISE, Activation::Linear);
        let sum = graph.node("Add", "sum", &[&branch, &pooled], &[]);
        let sum = graph.node("Relu", "sum/relu", &[&sum], &[]);
        let by_channel = ConvGeometry { stride: 1, pads: [1; 4], groups: 8 };
        let last = graph.conv("depthwise", &sum, &depthwise, by_channel, Activation::Relu6);
        let features = [sum, last].map(|tensor| {
            let mean = graph.node("GlobalAveragePool", &format!("{tensor}/mean"), &[&tensor], &[]);
            graph.node("Flatten", &format!("{tensor}/flat"), &[&mean], &[("axis", Attr::Int(1))])
        });
        graph.node("Concat", "embedding", &[&features[0], &features[1]], &[("axis", Attr::Int(1))]);
        graph.output("embedding", &[1, 16]);
        graph.finish(vec![])
    }

    pub(in crate::quantize) fn image() -> Vec<f32> {
        let size = crate::graph::fused::SIZE;
        (0..3 * size * size).map(|i| ((i * 37 % 511) as f32 - 255.0) / 128.0).collect()
    }

    /// Ranges from the very values that the tensors have.
    pub(in crate::quantize) fn calibrated(network: &ModelProto, image: &[f32]) -> Calibration {
        let names: Vec<_> = points(network.graph.as_ref().unwrap()).unwrap();
        let mut observed = network.clone();
        let outputs = names[1..].iter().map(|(n, _)| tract_onnx::pb::ValueInfoProto { name: n.clone(), ..Default::default() });
        observed.graph.as_mut().unwrap().output = outputs.collect();
        let seen = Network::load(observed, Options::SINGLE_THREADED).unwrap().run(image).unwrap();
        let range = |values: &[f32]| {
            let ends = values.iter().fold((0.0f32, 0.0f32), |(low, high), &v| (low.min(v), high.max(v)));
            Affine::over(ends.0, ends.1)
        };
        let mut calibration = Calibration::default();
        calibration.ranges.insert("image".into(), range(image));
        for ((name, source), values) in names[1..].iter().zip(&seen) {
            let affine = if let Source::SameAs(other) = source { calibration.ranges[other] } else { range(values) };
            calibration.ranges.insert(name.clone(), affine);
        }
        calibration
    }

    #[test]
    fn the_rewritten_graph_computes_nearly_the_same() {
        let (network, image) = (small_network(), image());
        let names: Vec<_> = points(network.graph.as_ref().unwrap()).unwrap();
        // The branch is not: only its sum with the pool is rounded.
        let expected = ["image", "framed", "stem/relu", "pool", "sum/relu", "depthwise/relu6"];
        assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
        let calibration = calibrated(&network, &image);
        let (mut rewritten, summary) = rewrite(&network, &calibration).unwrap();
        assert_eq!(summary.channels, 24);
        rewritten.output("embedding", &[1, 16]);
        let written = rewritten.finish(vec![]);
        let constants = &written.graph.as_ref().unwrap().initializer;
        let of = |name: &str| floats(constants.iter().find(|t| t.name == name).unwrap()).unwrap();
        for (conv, input) in [("stem", "framed"), ("branch", "pool"), ("depthwise", "sum/relu")] {
            let products: Vec<f32> =
                of(&format!("{conv}/weight/scale")).iter().map(|s| calibration.ranges[input].scale * s).collect();
            assert_eq!(of(&format!("{conv}/bias/scale")), products, "{conv}: the bias is in steps of the accumulator");
        }
        let found = Network::load(written, Options::SINGLE_THREADED).unwrap().run(&image).unwrap().remove(0);
        let exact = Network::load(network, Options::SINGLE_THREADED).unwrap().run(&image).unwrap().remove(0);
        let scale = exact.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in exact.iter().zip(&found).enumerate() {
            assert!((a - b).abs() < 0.03 * scale, "feature {i}: {a} in floats, {b} in int8 (largest {scale})");
        }
    }

    #[test]
    fn an_operator_without_an_integer_form_is_named() {
        let mut network = small_network();
        network.graph.as_mut().unwrap().node[0].op_type = "Softmax".into();
        assert!(points(network.graph.as_ref().unwrap()).unwrap_err().to_string().contains("node `framed`: Softmax"));
    }

    #[test]
    fn bias_correction_reads_the_right_channels() {
        // Two groups of two inputs and one output each; 1×1 kernels; the scale is 1, so errors are q − w.
        let quantised = weights::Quantised { values: vec![1, 2, 3, 4], scales: vec![1.0, 1.0], exact_channels: 0 };
        let mut biases = [10.0, 20.0];
        correct_biases(&mut biases, &[0.5, 2.0, 3.0, 4.25], &quantised, 1, &[2.0, 100.0, 1000.0, 4.0]);
        assert_eq!(biases, [10.0 - 0.5 * 2.0, 20.0 + 0.25 * 4.0]);
        // Depthwise 2-tap kernels: the errors of a kernel are summed.
        let mut biases = [0.0, 0.0];
        correct_biases(&mut biases, &[0.5, 2.5, 3.0, 3.0], &quantised, 2, &[10.0, 7.0]);
        assert_eq!(biases, [0.0, -7.0]);
    }
}
