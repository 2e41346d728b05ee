//! The fused fp32 graph on burn's tensors, a batch of pictures at a time: how a GPU computes features.
//!
//! Knows the operators that [`super::fused`] writes and no other; on the CPU, tract is the faster one and knows all. A graph is checked
//! whole, shapes included, when it is loaded: what [`Interpreter::run`] can still meet is a device that fails.
//!
//! Convolutions are products of matrices: burn's own kernel for them, where it may not choose by trying, computed 85 pictures a second
//! on an H200. Tensor cores multiply f32 with eleven bits of each factor (TF32) and cut off what a sum has too many; where a device is seen
//! to do that, every factor is given to it in two parts of eleven bits, and long sums are added up from short ones (Ootomo and Yokota
//! 2022, *Recovering single precision accuracy from Tensor Cores*). Depthwise convolutions, which have hardly anything to multiply, stay
//! with burn's kernel.

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use burn::tensor::backend::Backend;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{Slice, Tensor, TensorData, module};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

use crate::weights::layout::Pads;

/// Longest side of a tensor, kernel, stride or padding that is believed.
const LARGEST: i64 = 1 << 20;

/// Computes the output of a graph with one input, for several pictures at once.
pub trait Batches: Send + Sync + std::fmt::Debug {
    /// One vector for each picture \[channels, height, width\].
    ///
    /// # Errors
    /// When a picture has another size than the graph's input, or the device fails.
    fn run(&self, pictures: &[Vec<f32>]) -> anyhow::Result<Vec<Vec<f32>>>;
}

/// A graph whose weights lie on a device.
#[derive(Debug)]
pub struct Interpreter<B: Backend> {
    device: B::Device,
    /// Of the input, without the batch.
    input: Shape,
    /// In the order of the graph; step `i` makes value `i + 1`, and value 0 is the input.
    steps: Vec<Step<B>>,
    /// Which value is the output.
    output: usize,
}

/// Channels, height, width; a flattened tensor has height and width 1.
type Shape = [usize; 3];

#[derive(Debug)]
struct Step<B: Backend> {
    operation: Operation<B>,
    inputs: Vec<Input>,
}

/// A value that a step reads.
#[derive(Debug)]
struct Input {
    value: usize,
    /// No later step reads it, so its memory can be used again.
    last: bool,
}

#[derive(Debug)]
enum Operation<B: Backend> {
    /// In groups.
    Conv {
        weight: Tensor<B, 4>,
        bias: Option<Tensor<B, 1>>,
        options: PaddedConvOptions<2>,
    },
    /// In one group.
    Product {
        terms: Vec<Term<B>>,
        bias: Option<Tensor<B, 3>>,
        window: Window,
    },
    Relu,
    Clip(f32, f32),
    MaxPool {
        kernel: [usize; 2],
        stride: [usize; 2],
        pads: Pads,
    },
    Add,
    GlobalAveragePool,
    Flatten,
    Concat {
        dimension: usize,
        parts: Vec<Part<B>>,
    },
}

/// A part of a product of matrices; all are added up.
#[derive(Debug)]
struct Term<B: Backend> {
    /// \[1, outputs, rows\].
    weight: Tensor<B, 3>,
    bits: Bits,
    /// The first row of the pixels that it takes.
    start: usize,
}

/// What of the pixels is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bits {
    All,
    /// The upper eleven.
    Upper,
    /// What is below them.
    Lower,
}

/// What a Concat joins.
#[derive(Debug)]
enum Part<B: Backend> {
    /// The next of the step's inputs.
    Input,
    /// \[1, channels, height, width\], the same for all pictures.
    Constant(Tensor<B, 4>),
}

impl<B: Backend> Interpreter<B> {
    /// Checks the part of the graph that `output` needs and copies its weights to the device.
    ///
    /// # Errors
    /// Names the node or tensor that is unknown, damaged, or does not fit the others.
    pub fn load(model: &ModelProto, output: &str, device: &B::Device) -> anyhow::Result<Self> {
        let graph = model.graph.as_ref().context("the message holds no graph")?;
        let mut loader = Loader::<B>::new(graph, device)?;
        for node in needed(graph, output) {
            loader.node(node).with_context(|| format!("node `{}` ({})", node.name, node.op_type))?;
        }
        let output = *loader.values.get(output).with_context(|| format!("no node makes `{output}`"))?;
        let (mut steps, input) = (loader.steps, loader.shapes[0]);
        let mut read = vec![false; steps.len() + 1];
        read[output] = true;
        for input in steps.iter_mut().rev().flat_map(|step| step.inputs.iter_mut().rev()) {
            input.last = !std::mem::replace(&mut read[input.value], true);
        }
        Ok(Self { device: device.clone(), input, steps, output })
    }
}

impl<B: Backend> Batches for Interpreter<B> {
    fn run(&self, pictures: &[Vec<f32>]) -> anyhow::Result<Vec<Vec<f32>>> {
        let [channels, height, width] = self.input;
        let length = channels * height * width;
        if let Some(other) = pictures.iter().find(|picture| picture.len() != length) {
            bail!("a picture has {} values, the network takes {:?}", other.len(), self.input);
        }
        if pictures.is_empty() {
            return Ok(vec![]);
        }
        let shape = [pictures.len(), channels, height, width];
        let mut values: Vec<Option<Tensor<B, 4>>> = vec![None; self.steps.len() + 1];
        values[0] = Some(Tensor::from_data(TensorData::new(pictures.concat(), shape), &self.device));
        for (at, step) in self.steps.iter().enumerate() {
            let mut inputs = step.inputs.iter().map(|input| {
                let value = &mut values[input.value];
                if input.last { value.take() } else { value.clone() }.expect("made before and kept until it is read last")
            });
            let result = step.operation.apply(&mut inputs);
            values[at + 1] = Some(result);
        }
        let result = values[self.output].take().expect("the last step that is needed");
        let data = result.try_into_data().context("the device failed")?;
        let numbers: Vec<f32> = data.iter::<f32>().collect();
        Ok(numbers.chunks(numbers.len() / pictures.len()).map(<[f32]>::to_vec).collect())
    }
}

impl<B: Backend> Operation<B> {
    /// Takes as many inputs as it has.
    fn apply(&self, inputs: &mut dyn Iterator<Item = Tensor<B, 4>>) -> Tensor<B, 4> {
        let mut next = || inputs.next().expect("counted while loading");
        match self {
            Self::Conv { weight, bias, options } => module::conv2d(next(), weight.clone(), bias.clone(), options.clone()),
            Self::Product { terms, bias, window } => {
                let pixels = window.columns(next());
                let [pictures, _, height, width] = pixels.dims();
                let all: Tensor<B, 3> = pixels.flatten(2, 3);
                let whole = terms.iter().all(|term| term.bits == Bits::All);
                let upper = if whole { all.clone() } else { upper_bits(all.clone()) };
                let lower = (!whole).then(|| all.clone() - upper.clone());
                let products = terms.iter().map(|term| {
                    let factor = match (term.bits, &lower) {
                        (Bits::Lower, Some(lower)) => lower.clone(),
                        (Bits::Upper, _) => upper.clone(),
                        _ => all.clone(),
                    };
                    term.weight.clone().matmul(factor.narrow(1, term.start, term.weight.dims()[2]))
                });
                let sum = products.reduce(|sum, product| sum + product).expect("a term at least");
                let sum = match bias {
                    Some(bias) => sum + bias.clone(),
                    None => sum,
                };
                let outputs = sum.dims()[1];
                sum.reshape([pictures, outputs, height, width])
            }
            Self::Relu => next().clamp_min(0.0),
            &Self::Clip(low, high) => next().clamp(low, high),
            &Self::MaxPool { kernel, stride, pads: [top, left, bottom, right] } => {
                if top == bottom && left == right {
                    return module::max_pool2d(next(), kernel, stride, [top, left], [1, 1], false);
                }
                // Every window has a pixel of the picture, so the lowest finite number stands for the −∞ that WGSL cannot write.
                let padded = next().pad((left, right, top, bottom), f32::MIN);
                module::max_pool2d(padded, kernel, stride, [0, 0], [1, 1], false)
            }
            Self::Add => next() + next(),
            Self::GlobalAveragePool => next().mean_dim(2).mean_dim(3),
            Self::Flatten => {
                let tensor = next();
                let [pictures, channels, height, width] = tensor.dims();
                tensor.reshape([pictures, channels * height * width, 1, 1])
            }
            Self::Concat { dimension, parts } => {
                let inputs: Vec<_> = parts.iter().map(|part| matches!(part, Part::Input).then(&mut next)).collect();
                let pictures = inputs.iter().flatten().next().map_or(1, |tensor| tensor.dims()[0]);
                let joined = parts.iter().zip(inputs).map(|(part, input)| match (part, input) {
                    (Part::Constant(tensor), _) => {
                        let [_, channels, height, width] = tensor.dims();
                        tensor.clone().expand([pictures, channels, height, width])
                    }
                    (Part::Input, input) => input.expect("taken above"),
                });
                Tensor::cat(joined.collect(), *dimension)
            }
        }
    }
}

/// What a number is multiplied by to take it apart (Dekker 1971): the upper part then has 24 − 13 bits.
const SPLITTER: f32 = (1 << 13) as f32 + 1.0;

/// The upper eleven bits of each number, rounded; the rest is what is missing from it, exactly.
fn upper_bits<B: Backend>(numbers: Tensor<B, 3>) -> Tensor<B, 3> {
    let large = numbers.clone().mul_scalar(SPLITTER);
    large.clone() - (large - numbers)
}

/// [`upper_bits`] of one number.
fn upper_bits_of(number: f32) -> f32 {
    let large = number * SPLITTER;
    large - (large - number)
}

/// Rows that are summed up at once where bits are dropped: with 4,608, features were 5e-4 off.
const ROWS: usize = 256;

/// Whether a device drops bits of what it multiplies.
fn drops_bits<B: Backend>(device: &B::Device) -> bool {
    const SIDE: usize = 64;
    // The last bit of eleven is 2⁻¹⁰.
    let fine = 1.0 + 2.0_f32.powi(-13);
    let square = |value: f32| Tensor::<B, 3>::full([1, SIDE, SIDE], value, device);
    let sums = square(fine).matmul(square(1.0)).into_data();
    sums.iter::<f32>().any(|sum| sum != fine * SIDE as f32)
}

/// The nodes that `output` depends on, in the graph's order.
fn needed<'a>(graph: &'a GraphProto, output: &'a str) -> Vec<&'a NodeProto> {
    let mut wanted = vec![output];
    let mut nodes: Vec<&NodeProto> = Vec::new();
    for node in graph.node.iter().rev().filter(|node| !node.output.is_empty()) {
        if wanted.contains(&node.output[0].as_str()) {
            wanted.extend(node.input.iter().map(String::as_str));
            nodes.push(node);
        }
    }
    nodes.reverse();
    nodes
}

/// What is known while a graph is read.
struct Loader<'a, B: Backend> {
    device: &'a B::Device,
    /// Where a device [drops bits](drops_bits): factors are split, and so many rows are summed up at once.
    split: Option<usize>,
    constants: HashMap<&'a str, &'a TensorProto>,
    /// Number of each value by its name.
    values: HashMap<&'a str, usize>,
    /// Of each value.
    shapes: Vec<Shape>,
    steps: Vec<Step<B>>,
}

impl<'a, B: Backend> Loader<'a, B> {
    fn new(graph: &'a GraphProto, device: &'a B::Device) -> anyhow::Result<Self> {
        let constants: HashMap<_, _> = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut inputs = graph.input.iter().filter(|input| !constants.contains_key(input.name.as_str()));
        let (Some(input), None) = (inputs.next(), inputs.next()) else { bail!("the graph has not just one input") };
        let shape = pictures_shape(input).with_context(|| format!("the input `{}` is no picture", input.name))?;
        let values = HashMap::from([(input.name.as_str(), 0)]);
        let split = drops_bits::<B>(device).then_some(ROWS);
        Ok(Self { device, split, constants, values, shapes: vec![shape], steps: vec![] })
    }

    /// Adds a node as the next step.
    fn node(&mut self, node: &'a NodeProto) -> anyhow::Result<()> {
        let [output] = &node.output[..] else { bail!("{} outputs instead of one", node.output.len()) };
        let (operation, inputs, shape) = match node.op_type.as_str() {
            "Conv" => self.conv(node)?,
            "MaxPool" => self.max_pool(node)?,
            "Relu" => self.alike(node, Operation::Relu)?,
            "Clip" => {
                let [low, high] = [1, 2].map(|at| self.scalar(node, at));
                let (low, high) = (low?, high?);
                ensure!(low <= high, "clips to {low}…{high}");
                self.alike(node, Operation::Clip(low, high))?
            }
            "Add" => self.add(node)?,
            "GlobalAveragePool" => {
                let (value, [channels, ..]) = self.only_value(node)?;
                (Operation::GlobalAveragePool, vec![value], [channels, 1, 1])
            }
            "Flatten" => {
                Attributes::of(node, &["axis"])?.only("axis", 1)?;
                let (value, shape) = self.only_value(node)?;
                (Operation::Flatten, vec![value], [shape.iter().product(), 1, 1])
            }
            "Concat" => self.concat(node)?,
            _ => bail!("is an operator that the GPU back ends do not know; use `--backend cpu`"),
        };
        ensure!(shape.iter().all(|&size| size <= LARGEST as usize), "makes {shape:?}");
        ensure!(self.values.insert(output, self.steps.len() + 1).is_none(), "`{output}` stands twice");
        self.shapes.push(shape);
        let inputs = inputs.into_iter().map(|value| Input { value, last: false }).collect();
        self.steps.push(Step { operation, inputs });
        Ok(())
    }

    fn conv(&self, node: &NodeProto) -> anyhow::Result<Made<B>> {
        let attributes = Attributes::of(node, &["kernel_shape", "strides", "pads", "group", "dilations"])?;
        let (value, input) = self.value(node, 0)?;
        let weights = self.constant(node, 1)?;
        let &[outputs, per_group, ref kernel @ ..] = &weights.shape[..] else { bail!("weights {:?}", weights.shape) };
        let kernel: [usize; 2] = kernel.try_into().with_context(|| format!("weights {:?}", weights.shape))?;
        ensure!(attributes.sizes("kernel_shape", kernel)? == kernel, "kernel_shape is not that of the weights");
        attributes.only("dilations", 1)?;
        let [groups] = attributes.sizes("group", [1])?;
        let fits = groups > 0 && input[0] == per_group * groups && outputs > 0 && outputs % groups == 0;
        ensure!(fits, "weights {:?} in {groups} groups for {} channels", weights.shape, input[0]);
        let window = Window::of(&attributes, kernel)?;
        let [height, width] = window.output(input)?;
        let bias = (node.input.len() > 2).then(|| self.constant(node, 2)).transpose()?;
        let bias = bias.map(|bias| {
            ensure!(bias.shape == [outputs], "a bias {:?} for {outputs} channels", bias.shape);
            Ok(Tensor::from_data(TensorData::new(bias.data, [outputs]), self.device))
        });
        let bias = bias.transpose()?;
        let operation = if groups == 1 {
            self.product(&weights.data, outputs, bias, window)
        } else {
            let [top, left, bottom, right] = window.pads;
            let weight = Tensor::from_data(TensorData::new(weights.data, weights.shape), self.device);
            let options = PaddedConvOptions::asymmetric(window.stride, [top, left], [bottom, right], [1, 1], groups);
            Operation::Conv { weight, bias, options }
        };
        Ok((operation, vec![value], [outputs, height, width]))
    }

    /// A convolution in one group; `weights` are \[outputs, channels, height, width\] of the window.
    fn product(&self, weights: &[f32], outputs: usize, bias: Option<Tensor<B, 1>>, window: Window) -> Operation<B> {
        let area: usize = window.kernel.iter().product();
        let length = weights.len() / outputs;
        // The rows of the pixels stand window by window, the channels side by side.
        let ordered =
            |row: &[f32]| (0..length).map(|at| row[at % (length / area) * area + at / (length / area)]).collect::<Vec<f32>>();
        let rows: Vec<Vec<f32>> = weights.chunks_exact(length).map(ordered).collect();
        let lower_bits_of = |weight: f32| weight - upper_bits_of(weight);
        let mut terms = vec![];
        let mut add = |of: &dyn Fn(f32) -> f32, bits: Bits, most: usize| {
            for start in (0..length).step_by(most) {
                let count = most.min(length - start);
                let data: Vec<f32> =
                    rows.iter().flat_map(|row| row[start..][..count].iter().map(|&weight| of(weight))).collect();
                let weight = Tensor::from_data(TensorData::new(data, [1, outputs, count]), self.device);
                terms.push(Term { weight, bits, start });
            }
        };
        if let Some(most) = self.split {
            // The small ones first.
            if rows.iter().flatten().any(|&weight| lower_bits_of(weight) != 0.0) {
                add(&lower_bits_of, Bits::Upper, most);
            }
            add(&upper_bits_of, Bits::Lower, most);
            add(&upper_bits_of, Bits::Upper, most);
        } else {
            add(&|weight| weight, Bits::All, length);
        }
        Operation::Product { terms, bias: bias.map(|bias| bias.reshape([1, outputs, 1])), window }
    }

    fn max_pool(&self, node: &NodeProto) -> anyhow::Result<Made<B>> {
        let attributes = Attributes::of(node, &["kernel_shape", "strides", "pads", "dilations", "ceil_mode"])?;
        attributes.only("dilations", 1)?;
        attributes.only("ceil_mode", 0)?;
        let (value, input) = self.only_value(node)?;
        let kernel = attributes.sizes("kernel_shape", [0, 0])?;
        let window = Window::of(&attributes, kernel)?;
        let [top, left, bottom, right] = window.pads;
        ensure!(top.max(bottom) < kernel[0] && left.max(right) < kernel[1], "pads {:?} around {kernel:?}", window.pads);
        let [height, width] = window.output(input)?;
        let operation = Operation::MaxPool { kernel, stride: window.stride, pads: window.pads };
        Ok((operation, vec![value], [input[0], height, width]))
    }

    fn add(&self, node: &NodeProto) -> anyhow::Result<Made<B>> {
        ensure!(node.input.len() == 2, "{} inputs instead of two", node.input.len());
        let ((first, shape), (second, other)) = (self.value(node, 0)?, self.value(node, 1)?);
        ensure!(shape == other, "adds {shape:?} and {other:?}");
        Ok((Operation::Add, vec![first, second], shape))
    }

    fn concat(&self, node: &NodeProto) -> anyhow::Result<Made<B>> {
        let [dimension] = Attributes::of(node, &["axis"])?.sizes("axis", [0])?;
        ensure!((1..=3).contains(&dimension), "joins along axis {dimension}");
        let (mut parts, mut inputs, mut shapes) = (vec![], vec![], vec![]);
        for (at, name) in node.input.iter().enumerate() {
            if self.constants.contains_key(name.as_str()) {
                let constant = self.constant(node, at)?;
                let &[1, channels, height, width] = &constant.shape[..] else { bail!("joins {:?}", constant.shape) };
                shapes.push([channels, height, width]);
                let data = TensorData::new(constant.data, constant.shape);
                parts.push(Part::Constant(Tensor::from_data(data, self.device)));
            } else {
                let (value, shape) = self.value(node, at)?;
                shapes.push(shape);
                inputs.push(value);
                parts.push(Part::Input);
            }
        }
        ensure!(!inputs.is_empty(), "joins nothing that depends on the picture");
        let mut joined = shapes[0];
        joined[dimension - 1] = shapes.iter().map(|shape| shape[dimension - 1]).sum();
        let fit = |shape: &Shape| (0..3).all(|d| d == dimension - 1 || shape[d] == joined[d]);
        ensure!(shapes.iter().all(fit), "joins {shapes:?} along axis {dimension}");
        Ok((Operation::Concat { dimension, parts }, inputs, joined))
    }

    /// An operation whose output has the shape of its first input.
    fn alike(&self, node: &NodeProto, operation: Operation<B>) -> anyhow::Result<Made<B>> {
        Attributes::of(node, &[])?;
        let (value, shape) = self.value(node, 0)?;
        Ok((operation, vec![value], shape))
    }

    fn only_value(&self, node: &NodeProto) -> anyhow::Result<(usize, Shape)> {
        ensure!(node.input.len() == 1, "{} inputs instead of one", node.input.len());
        self.value(node, 0)
    }

    fn value(&self, node: &NodeProto, at: usize) -> anyhow::Result<(usize, Shape)> {
        let name = node.input.get(at).with_context(|| format!("has no input {at}"))?;
        let value =
            *self.values.get(name.as_str()).with_context(|| format!("reads `{name}`, which nothing before it makes"))?;
        Ok((value, self.shapes[value]))
    }

    fn constant(&self, node: &NodeProto, at: usize) -> anyhow::Result<Constant> {
        let name = node.input.get(at).with_context(|| format!("has no input {at}"))?;
        let tensor = self.constants.get(name.as_str()).with_context(|| format!("`{name}` is no constant"))?;
        Constant::read(tensor).with_context(|| format!("constant `{name}`"))
    }

    fn scalar(&self, node: &NodeProto, at: usize) -> anyhow::Result<f32> {
        let constant = self.constant(node, at)?;
        let &[value] = &constant.data[..] else { bail!("`{}` is not one number", node.input[at]) };
        Ok(value)
    }
}

/// A step's operation, the values that it reads, and the shape of what it makes.
type Made<B> = (Operation<B>, Vec<usize>, Shape);

/// Shape of an input \[1, channels, height, width\].
fn pictures_shape(input: &tract_onnx::pb::ValueInfoProto) -> Option<Shape> {
    use tract_onnx::pb::{tensor_shape_proto::dimension::Value::DimValue, type_proto::Value::TensorType};
    let TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    let size = |dimension: &tract_onnx::pb::tensor_shape_proto::Dimension| match dimension.value {
        Some(DimValue(size @ 1..=LARGEST)) => Some(size as usize),
        _ => None,
    };
    let sizes = tensor.shape.as_ref()?.dim.iter().map(size).collect::<Option<Vec<usize>>>()?;
    let [1, shape @ ..] = &sizes[..] else { return None };
    shape.try_into().ok()
}

/// f32 values of an initializer.
struct Constant {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Constant {
    fn read(tensor: &TensorProto) -> anyhow::Result<Self> {
        ensure!(tensor.data_type == DataType::Float as i32, "is not f32");
        let sizes = tensor.dims.iter().map(|&size| (1..=LARGEST).contains(&size).then_some(size as usize));
        let shape = sizes.collect::<Option<Vec<usize>>>().with_context(|| format!("has the shape {:?}", tensor.dims))?;
        let (values, rest) = tensor.raw_data.as_chunks::<4>();
        let count = shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(size));
        ensure!(rest.is_empty() && count == Some(values.len()), "has {} bytes for {shape:?}", tensor.raw_data.len());
        Ok(Self { shape, data: values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect() })
    }
}

/// How a kernel goes over a picture.
#[derive(Debug, Clone, Copy)]
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: Pads,
}

impl Window {
    fn of(attributes: &Attributes<'_>, kernel: [usize; 2]) -> anyhow::Result<Self> {
        let window = Self { kernel, stride: attributes.sizes("strides", [1, 1])?, pads: attributes.sizes("pads", [0; 4])? };
        ensure!(window.stride.iter().chain(&kernel).all(|&size| size > 0), "kernel {kernel:?}, strides {:?}", window.stride);
        Ok(window)
    }

    /// Height and width of what it makes.
    fn output(&self, [_, height, width]: Shape) -> anyhow::Result<[usize; 2]> {
        let [top, left, bottom, right] = self.pads;
        let side = |at: usize, size: usize| size.checked_sub(self.kernel[at]).map(|rest| rest / self.stride[at] + 1);
        let sides = side(0, height + top + bottom).zip(side(1, width + left + right));
        let (height, width) = sides.with_context(|| format!("kernel {:?} over {height}×{width}", self.kernel))?;
        Ok([height, width])
    }

    /// What the kernel sees at each place: \[pictures, kernel's rows · its columns · channels, height, width\].
    fn columns<B: Backend>(&self, pixels: Tensor<B, 4>) -> Tensor<B, 4> {
        let Self { kernel, stride, pads: [top, left, bottom, right] } = *self;
        let pixels = if self.pads == [0; 4] { pixels } else { pixels.pad((left, right, top, bottom), 0.0) };
        let [pictures, channels, height, width] = pixels.dims();
        if (kernel, stride) == ([1, 1], [1, 1]) {
            return pixels;
        }
        let along = |at: usize, size: usize, start: usize| {
            let last = start + (size - kernel[at]) / stride[at] * stride[at];
            Slice::new(start as isize, Some(last as isize + 1), stride[at] as isize)
        };
        let all = |size: usize| Slice::new(0, Some(size as isize), 1);
        let places = (0..kernel[0]).flat_map(|row| (0..kernel[1]).map(move |column| (row, column)));
        let seen = places.map(|(row, column)| {
            pixels.clone().slice([all(pictures), all(channels), along(0, height, row), along(1, width, column)])
        });
        Tensor::cat(seen.collect(), 1)
    }
}

/// Attributes of a node.
struct Attributes<'a>(&'a NodeProto);

impl<'a> Attributes<'a> {
    /// Fails when there are others than `known`: they would mean something.
    fn of(node: &'a NodeProto, known: &[&str]) -> anyhow::Result<Self> {
        match node.attribute.iter().find(|attribute| !known.contains(&attribute.name.as_str())) {
            Some(unknown) => bail!("has the attribute `{}`, which is not known", unknown.name),
            None => Ok(Self(node)),
        }
    }

    /// Integers of an attribute, a single one included.
    fn integers(&self, name: &str) -> Option<Vec<i64>> {
        use tract_onnx::pb::attribute_proto::AttributeType;
        let attribute = self.0.attribute.iter().find(|attribute| attribute.name == name)?;
        Some(if attribute.r#type == AttributeType::Int as i32 { vec![attribute.i] } else { attribute.ints.clone() })
    }

    fn sizes<const N: usize>(&self, name: &str, default: [usize; N]) -> anyhow::Result<[usize; N]> {
        let Some(integers) = self.integers(name) else { return Ok(default) };
        let size = |&i: &i64| (0..=LARGEST).contains(&i).then_some(i as usize);
        let sizes: Option<Vec<usize>> = integers.iter().map(size).collect();
        sizes.and_then(|sizes| sizes.try_into().ok()).with_context(|| format!("has the {name} {integers:?}"))
    }

    /// Fails unless an attribute has its default `value`.
    fn only(&self, name: &str, value: i64) -> anyhow::Result<()> {
        let integers = self.integers(name).unwrap_or_default();
        ensure!(integers.iter().all(|&i| i == value), "has the {name} {integers:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Attr, ConvGeometry, GraphBuilder};
    use crate::weights;
    use burn::backend::NdArray;
    use pawgate::nn::{Network, Options};

    const SIZE: usize = 31;

    /// Pseudo-random values in −1…1 (a linear congruential generator; only the spread matters).
    fn noise(count: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn conv(shape: [usize; 4], seed: u32) -> weights::Conv {
        let data = noise(shape.iter().product(), seed);
        weights::Conv { weight: weights::Tensor { shape: shape.to_vec(), data }, bias: noise(shape[0], seed + 1) }
    }

    /// Every operator, with uneven padding, groups, strides, a kernel that is no square, constants on both sides of a Concat, a value
    /// that is read three times, and an operator that is not known but not needed either.
    fn every_operator() -> ModelProto {
        let mut graph = GraphBuilder::new("every");
        let image = graph.input("image", &[1, 3, SIZE, SIZE]);
        let left = graph.constant_f32("left", &[1, 3, SIZE, 1], &noise(3 * SIZE, 1));
        let right = graph.constant_f32("right", &[1, 3, SIZE, 2], &noise(6 * SIZE, 2));
        let framed = graph.node("Concat", "framed", &[&left, &image, &right], &[("axis", Attr::Int(3))]);
        let uneven = ConvGeometry { stride: 2, pads: [0, 1, 2, 1], groups: 1 };
        let stem = graph.conv("stem", &framed, &conv([8, 3, 3, 5], 3), uneven, Activation::Linear);
        // Negative values at the border tell padding with −∞ from padding with zeros.
        let pool = [("kernel_shape", Attr::Ints(&[3, 3])), ("strides", Attr::Ints(&[2, 2]))];
        let pooled = graph.node("MaxPool", "pool", &[&stem], &[&pool[..], &[("pads", Attr::Ints(&[0, 0, 1, 1]))]].concat());
        let even = graph.node("MaxPool", "even", &[&stem], &[&pool[..], &[("pads", Attr::Ints(&[1; 4]))]].concat());
        let grouped = ConvGeometry { stride: 1, pads: [1; 4], groups: 4 };
        let grouped = graph.conv("grouped", &pooled, &conv([12, 2, 3, 3], 5), grouped, Activation::Relu6);
        let depthwise = ConvGeometry { stride: 1, pads: [0, 0, 2, 2], groups: 8 };
        let depthwise = graph.conv("depthwise", &pooled, &conv([8, 1, 3, 3], 7), depthwise, Activation::Relu);
        let sum = graph.node("Add", "sum", &[&depthwise, &pooled], &[]);
        graph.linear("unneeded", "pool", &weights::Linear { weight: conv([8, 8, 1, 1], 9).weight, bias: vec![0.0; 8] });
        let features = [grouped, sum, even].map(|tensor| {
            let mean = graph.node("GlobalAveragePool", &format!("{tensor}/mean"), &[&tensor], &[]);
            graph.node("Flatten", &format!("{tensor}/flat"), &[&mean], &[("axis", Attr::Int(1))])
        });
        let features = features.each_ref().map(String::as_str);
        graph.node("Concat", "embedding", &features, &[("axis", Attr::Int(1))]);
        graph.output("embedding", &[1, 28]);
        graph.finish(vec![])
    }

    /// Largest difference of the interpreter from tract, over pictures that are different, one at a time and all at once.
    fn difference<B: Backend>(model: &ModelProto) -> f32 {
        let pictures: Vec<Vec<f32>> = (0..3).map(|i| noise(3 * SIZE * SIZE, 100 + i)).collect();
        let mut model = model.clone();
        let interpreter = Interpreter::<B>::load(&model, "embedding", &Default::default()).unwrap();
        model.graph.as_mut().unwrap().node.retain(|node| node.name != "unneeded");
        let network = Network::load(model, Options::SINGLE_THREADED).unwrap();
        let expected: Vec<Vec<f32>> = pictures.iter().map(|picture| network.run(picture).unwrap().remove(0)).collect();
        let single = pictures.iter().map(|picture| interpreter.run(std::slice::from_ref(picture)).unwrap().remove(0));
        let found: Vec<Vec<f32>> = interpreter.run(&pictures).unwrap().into_iter().chain(single).collect();
        let pairs = expected.iter().cycle().zip(&found).flat_map(|(a, b)| {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).map(|(a, b)| (a - b).abs())
        });
        pairs.max_by(f32::total_cmp).unwrap()
    }

    #[test]
    fn every_operator_gives_what_tract_gives() {
        let worst = difference::<NdArray>(&every_operator());
        assert!(worst < 1e-5, "differs by {worst}");
    }

    #[test]
    fn numbers_are_taken_apart_without_loss() {
        for number in noise(1000, 7).into_iter().chain([0.0, 1.0, -3.5e-5, 1.7e4]) {
            let upper = upper_bits_of(number);
            let lower = number - upper;
            assert_eq!(upper.to_bits() & 0x1fff, 0, "{number}: {upper} has more than eleven bits");
            assert!(upper + lower == number && lower.abs() <= number.abs() / 2048.0, "{number}: {upper} and {lower}");
        }
        let numbers = noise(60, 8);
        let tensor = Tensor::<NdArray, 3>::from_data(TensorData::new(numbers.clone(), [3, 4, 5]), &Default::default());
        let found: Vec<f32> = upper_bits(tensor).into_data().iter().collect();
        assert_eq!(found, numbers.into_iter().map(upper_bits_of).collect::<Vec<f32>>());
    }

    /// As on tensor cores, but in full precision: parts must stand where the other factor has theirs.
    #[test]
    fn products_of_parts_are_products() {
        let device = Default::default();
        let mut model = every_operator();
        let difference = |model: &ModelProto, expected: usize| {
            let graph = model.graph.as_ref().unwrap();
            let stem = graph.node.iter().find(|node| node.name == "stem").unwrap();
            let [whole, split] = [None, Some(16)].map(|split| {
                let mut loader = Loader { split, ..Loader::<NdArray>::new(graph, &device).unwrap() };
                loader.node(graph.node.iter().find(|node| node.name == "framed").unwrap()).unwrap();
                let (operation, ..) = loader.conv(stem).unwrap();
                let Operation::Product { terms, .. } = &operation else { panic!("the stem has one group") };
                assert_eq!(terms.len(), split.map_or(1, |_| expected));
                assert!(terms.iter().all(|term| (term.bits != Bits::All) == split.is_some()));
                let shape = [2, 3, SIZE, SIZE + 3];
                let pixels = TensorData::new(noise(shape.iter().product(), 11), shape);
                let result = operation.apply(&mut std::iter::once(Tensor::from_data(pixels, &device)));
                result.into_data().iter::<f32>().collect::<Vec<f32>>()
            });
            whole.iter().zip(&split).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
        };
        assert!(!drops_bits::<NdArray>(&device));
        // Of 3 channels and 3 x 5 pixels, 16 at once.
        let worst = difference(&model, 3 * 3);
        assert!(worst < 1e-5, "differs by {worst}");
        // Weights that are short already.
        let weight = constant(model.graph.as_mut().unwrap(), "stem/weight");
        let short =
            weight.raw_data.as_chunks::<4>().0.iter().flat_map(|bytes| upper_bits_of(f32::from_le_bytes(*bytes)).to_le_bytes());
        weight.raw_data = short.collect();
        let worst = difference(&model, 2 * 3);
        assert!(worst < 1e-5, "differs by {worst}");
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn every_operator_gives_what_tract_gives_on_wgpu() {
        if let Err(error) = crate::backend::Backend::Wgpu.open() {
            use std::io::Write;
            // Written directly: the test harness swallows what `eprintln!` says in a test that passes.
            writeln!(std::io::stderr(), "SKIPPED every_operator_gives_what_tract_gives_on_wgpu: {error:#}").unwrap();
            return;
        }
        let worst = difference::<burn::backend::Wgpu>(&every_operator());
        assert!(worst < 1e-4, "differs by {worst}");
    }

    /// Changes the graph, and says why it is refused.
    fn refused(change: impl Fn(&mut GraphProto)) -> String {
        let mut model = every_operator();
        change(model.graph.as_mut().unwrap());
        format!("{:#}", Interpreter::<NdArray>::load(&model, "embedding", &Default::default()).unwrap_err())
    }

    fn node<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut NodeProto {
        graph.node.iter_mut().find(|node| node.name == name).unwrap()
    }

    fn constant<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
        graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    fn ints<'a>(graph: &'a mut GraphProto, name: &str, attribute: &str) -> &'a mut Vec<i64> {
        &mut node(graph, name).attribute.iter_mut().find(|a| a.name == attribute).unwrap().ints
    }

    type Change = fn(&mut GraphProto);

    #[test]
    fn what_is_unknown_or_damaged_is_named() {
        let cases: [(Change, &[&str]); 24] = [
            (|g| node(g, "sum").op_type = "Mul".into(), &["`sum` (Mul)", "--backend cpu"]),
            (|g| node(g, "sum").input.truncate(1), &["`sum`", "1 inputs"]),
            (|g| node(g, "sum").input[1] = "stem".into(), &["`sum`", "adds"]),
            (|g| node(g, "sum").input[1] = "nobody".into(), &["`sum`", "`nobody`"]),
            (|g| node(g, "sum").input[1] = "embedding".into(), &["`sum`", "`embedding`"]),
            (|g| node(g, "pool").attribute[0].name = "auto_pad".into(), &["`pool`", "auto_pad"]),
            (|g| *ints(g, "pool", "kernel_shape") = vec![0, 3], &["`pool`", "kernel"]),
            (|g| *ints(g, "pool", "strides") = vec![0, 2], &["`pool`", "strides"]),
            (|g| *ints(g, "pool", "strides") = vec![2], &["`pool`", "strides"]),
            (|g| *ints(g, "pool", "pads") = vec![0, 0, 3, 0], &["`pool`", "pads"]),
            (|g| *ints(g, "pool", "pads") = vec![0, 0, -1, 0], &["`pool`", "pads"]),
            (|g| *ints(g, "stem", "kernel_shape") = vec![3, 3], &["`stem`", "kernel_shape"]),
            (|g| *ints(g, "grouped", "pads") = vec![i64::MAX; 4], &["`grouped`", "pads"]),
            (|g| node(g, "grouped").attribute.retain(|a| a.name != "group"), &["`grouped`", "1 groups"]),
            (|g| constant(g, "stem/weight").raw_data.truncate(99), &["`stem`", "`stem/weight`", "99 bytes"]),
            (|g| constant(g, "stem/weight").dims = vec![8, 45], &["`stem`", "[8, 45]"]),
            (|g| constant(g, "stem/weight").dims[2] = -3, &["`stem/weight`", "-3"]),
            (|g| constant(g, "stem/weight").data_type = DataType::Int8 as i32, &["`stem/weight`", "f32"]),
            (|g| constant(g, "stem/bias").dims = vec![2, 4], &["`stem`", "bias [2, 4]"]),
            (|g| constant(g, "relu6/low").raw_data = f32::NAN.to_le_bytes().to_vec(), &["Clip", "NaN"]),
            (|g| constant(g, "left").dims = vec![3, 1, SIZE as i64, 1], &["`framed`", "[3, 1, 31, 1]"]),
            (|g| constant(g, "left").dims = vec![1, 1, SIZE as i64, 3], &["`framed`", "joins", "[1, 31, 3]"]),
            (|g| node(g, "framed").attribute[0].i = 0, &["`framed`", "axis 0"]),
            (|g| g.input.clear(), &["one input"]),
        ];
        for (change, parts) in cases {
            let error = refused(change);
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} is missing in: {error}");
        }
        let model = every_operator();
        let error = Interpreter::<NdArray>::load(&model, "logits", &Default::default()).unwrap_err().to_string();
        assert!(error.contains("`logits`"), "{error}");
    }

    #[test]
    fn a_picture_of_another_size_is_refused() {
        let interpreter = Interpreter::<NdArray>::load(&every_operator(), "embedding", &Default::default()).unwrap();
        assert!(interpreter.run(&[vec![0.0; 7]]).unwrap_err().to_string().contains("7 values"));
        assert!(interpreter.run(&[]).unwrap().is_empty());
    }
}
