//! Weights rounded such that a layer's output stays what it was in floats, in place of each to its nearest step.
//!
//! What rounding does to an output is a sum over all inputs of a kernel, and inputs go together: an error in one weight can be made good
//! in another. Layer after layer, in the order of the graph, integer weights are sought that minimise the squared difference of the
//! layer's outputs from those of the fp32 network, over pictures; what the layer reads is what the layers before it make in 8 bits, so
//! it makes good what it can of their errors too. (The objective of Nagel et al. 2020, arXiv:2004.10568, without its relaxation; second-order
//! information as in Frantar et al. 2022, arXiv:2210.17323; coordinate descent as in Nair and Suggala 2024, arXiv:2406.17542.)
//!
//! The optimum of so few pictures is not that of others: steps away from the fp32 weights cost [`RIDGE`].

use anyhow::{Context, ensure};
use nalgebra::{DMatrix, DMatrixView};
use pawgate::nn::{Network, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::qdq::{self, Calibration, IntegerConv, Reconstructed, Source};
use super::sensitivity::{self, What};
use super::{Pictures, with_outputs};
use crate::graph::Name;
use crate::progress;

/// Positions of a tensor that are looked at, of each picture.
const POSITIONS: usize = 144;
/// Weight of the squared distance from the fp32 weights, as a share of the mean variance of what a kernel reads.
const RIDGE: f32 = 0.5;
/// Rounds through all weights of a kernel; most kernels stay as they are after fewer.
const SWEEPS: usize = 12;
/// Columns of a matrix of products that are computed at a time.
const BLOCK: usize = 64;

/// Seeks better integers for every convolution of `network` of which 8 bits do not hold most channels exactly; `calibration` gets them.
///
/// # Errors
/// What rewriting or running reports.
pub fn reconstruct(network: &ModelProto, calibration: &mut Calibration, pictures: &Pictures) -> anyhow::Result<()> {
    let graph = network.graph.as_ref().context("the model has no graph")?;
    let tensors: Vec<Name> = qdq::points(graph)?.into_iter().filter(|p| p.1 == Source::Calibrated).map(|p| p.0).collect();
    // In floats, since an integer network shows nothing of what it makes on the way.
    let mut rounded = sensitivity::round(network, &tensors.iter().collect::<Vec<_>>(), What::Both, calibration)?;
    let convs = graph.node.iter().filter(|node| node.op_type == "Conv");
    let convs: Vec<_> =
        convs.map(|conv| Ok((conv, IntegerConv::of(conv, graph, calibration)?))).collect::<anyhow::Result<_>>()?;
    let is_rounded = |start: &IntegerConv| start.weight.exact_channels * 2 < start.weight.scales.len();
    let convs: Vec<_> = convs.into_iter().filter(|(_, start)| is_rounded(start)).collect();
    let bar = progress::bar("reconstructing layers", convs.len());
    for (conv, start) in convs {
        let layer = Layer { network, rounded: &rounded, graph, conv };
        let found = layer.reconstruct(&start, calibration, pictures).with_context(|| format!("node `{}`", conv.name))?;
        calibration.reconstructed.insert(conv.output[0].clone(), found);
        let integers = IntegerConv::of(conv, graph, calibration)?;
        let graph = rounded.graph.as_mut().context("the model has no graph")?;
        sensitivity::set(graph, &conv.input[1], &integers.rounded_weight())?;
        sensitivity::set(graph, &conv.input[2], &integers.rounded_bias())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// A convolution in the fp32 network, and in that in which everything is rounded.
struct Layer<'a> {
    network: &'a ModelProto,
    rounded: &'a ModelProto,
    graph: &'a GraphProto,
    conv: &'a NodeProto,
}

impl Layer<'_> {
    fn reconstruct(
        &self,
        start: &IntegerConv,
        calibration: &Calibration,
        pictures: &Pictures,
    ) -> anyhow::Result<Reconstructed> {
        let geometry = Geometry::of(self.conv, &start.shape)?;
        let samples = self.samples(&geometry, calibration, pictures)?;
        let weight = qdq::floats(qdq::constant(self.graph, &self.conv.input[1]).context("its weight is not constant")?)?;
        let width = weight.len() / start.shape[0];
        let per_group = start.shape[0] / geometry.groups;
        let group = |group: usize| {
            let outputs = group * per_group..(group + 1) * per_group;
            let moments = Moments::of(&samples, group, width, outputs.clone());
            let solve = |output: usize| {
                let range = output * width..(output + 1) * width;
                let steps = &start.weight.values[range.clone()];
                moments.solve(output - outputs.start, &weight[range], steps, start.weight.scales[output])
            };
            outputs.clone().into_par_iter().map(solve).collect::<Vec<_>>()
        };
        let kernels: Vec<(Vec<i8>, f32)> = (0..geometry.groups).into_par_iter().flat_map_iter(group).collect();
        let (values, bias): (Vec<_>, Vec<_>) = kernels.into_iter().unzip();
        Ok(Reconstructed { values: values.concat(), bias })
    }

    /// What the convolution reads where everything is rounded, and what it should make of it.
    fn samples(&self, geometry: &Geometry, calibration: &Calibration, pictures: &Pictures) -> anyhow::Result<Vec<Sample>> {
        let [input, made] = [&self.conv.input[0], &self.conv.output[0]];
        // Where the output is only rounded as a part of a sum, the sum is what counts: the other part's error is made good as well.
        let sum = self.graph.node.iter().find(|node| node.op_type == "Add" && node.input.contains(made));
        let sum = sum.filter(|_| !calibration.ranges.contains_key(made));
        let target = sum.map_or(made, |sum| &sum.output[0]).clone();
        let other = sum.and_then(|sum| sum.input.iter().find(|part| *part != made));
        let is_image = input == pawgate::model::INPUT;
        let apart = other.filter(|other| *other != input);
        let wanted: Vec<Name> = apart.into_iter().chain(Some(input).filter(|_| !is_image)).cloned().collect();
        let exact = Network::load(with_outputs(self.network, &[target]), Options::SINGLE_THREADED)?;
        let rounded = match wanted.is_empty() {
            true => None,
            false => Some(Network::load(with_outputs(self.rounded, &wanted), Options::SINGLE_THREADED)?),
        };
        let image = calibration.ranges[pawgate::model::INPUT];
        let size = crate::graph::fused::SIZE;
        let last_shape = rounded.as_ref().and_then(|network| network.outputs().last().map(|port| port.shape.to_vec()));
        let input_shape = last_shape.filter(|_| !is_image).unwrap_or_else(|| vec![1, 3, size, size]);
        let output_shape = exact.outputs()[0].shape.to_vec();
        let plane = output_shape[2] * output_shape[3];
        let sample = |(index, picture): (usize, &Vec<f32>)| {
            let picture_as_read: Vec<f32> = picture.iter().map(|&value| image.round(value)).collect();
            let mut read = match &rounded {
                None => vec![],
                Some(network) => network.run(&picture_as_read)?,
            };
            let values = if is_image { picture_as_read } else { read.pop().context("no input")? };
            let mut target = exact.run(picture)?.remove(0);
            let part = if apart.is_some() { read.first() } else { other.map(|_| &values) };
            target.iter_mut().zip(part.into_iter().flatten()).for_each(|(sum, part)| *sum -= part);
            let places = places(plane, index);
            let patches = geometry.patches(&values, &input_shape, output_shape[3], &places);
            let targets = target.chunks_exact(plane).map(|channel| places.iter().map(|&at| channel[at]).collect());
            anyhow::Ok(Sample { patches, targets: targets.collect() })
        };
        pictures.tensors.par_iter().enumerate().map(sample).collect()
    }
}

/// Positions to look at, spread evenly, others in each picture.
fn places(count: usize, picture: usize) -> Vec<usize> {
    if count <= POSITIONS {
        return (0..count).collect();
    }
    let mut random = ChaCha8Rng::seed_from_u64(picture as u64);
    let strata = (0..POSITIONS).map(|i| (i * count / POSITIONS, (i + 1) * count / POSITIONS));
    strata.map(|(from, to)| random.random_range(from..to)).collect()
}

/// What a convolution reads where.
struct Geometry {
    kernel: [usize; 2],
    strides: [usize; 2],
    /// Above and to the left.
    pads: [usize; 2],
    groups: usize,
    inputs_per_group: usize,
}

impl Geometry {
    fn of(conv: &NodeProto, shape: &[usize]) -> anyhow::Result<Self> {
        let ints = |name: &str| conv.attribute.iter().find(|a| a.name == name).map(|a| a.ints.as_slice()).unwrap_or_default();
        let pair = |values: &[i64], default: usize| {
            let at = |i: usize| values.get(i).map_or(default, |&v| v as usize);
            [at(0), at(1)]
        };
        ensure!(ints("dilations").iter().all(|&d| d == 1), "it is dilated");
        Ok(Self {
            kernel: [shape[2], shape[3]],
            strides: pair(ints("strides"), 1),
            pads: pair(ints("pads"), 0),
            groups: conv.attribute.iter().find(|a| a.name == "group").map_or(1, |a| a.i as usize),
            inputs_per_group: shape[1],
        })
    }

    /// For each group \[place, what the kernel reads there\], row by row; zeros outside of the picture.
    fn patches(&self, values: &[f32], shape: &[usize], output_width: usize, places: &[usize]) -> Vec<Vec<f32>> {
        let [height, width] = [shape[2], shape[3]];
        let at = |channel: usize, y: usize, x: usize| match (y.checked_sub(self.pads[0]), x.checked_sub(self.pads[1])) {
            (Some(y), Some(x)) if y < height && x < width => values[(channel * height + y) * width + x],
            _ => 0.0,
        };
        let mut groups = Vec::with_capacity(self.groups);
        for group in 0..self.groups {
            let mut patches = Vec::with_capacity(places.len() * self.inputs_per_group * self.kernel[0] * self.kernel[1]);
            for place in places {
                let [y, x] = [place / output_width * self.strides[0], place % output_width * self.strides[1]];
                for channel in group * self.inputs_per_group..(group + 1) * self.inputs_per_group {
                    for dy in 0..self.kernel[0] {
                        patches.extend((0..self.kernel[1]).map(|dx| at(channel, y + dy, x + dx)));
                    }
                }
            }
            groups.push(patches);
        }
        groups
    }
}

/// Of one picture.
struct Sample {
    /// For each group \[place, input\].
    patches: Vec<Vec<f32>>,
    /// For each output channel, at each place.
    targets: Vec<Vec<f32>>,
}

/// Means and products, about the means, of what the kernels of a group read and should make.
struct Moments {
    input_mean: Vec<f32>,
    output_mean: Vec<f32>,
    /// Covariance of the inputs.
    inputs: DMatrix<f32>,
    /// \[inputs, outputs\].
    both: DMatrix<f32>,
    ridge: f32,
}

impl Moments {
    fn of(samples: &[Sample], group: usize, width: usize, outputs: std::ops::Range<usize>) -> Self {
        let count: usize = samples.iter().map(|s| s.patches[group].len() / width).sum();
        let mut x = DMatrix::<f32>::zeros(count, width);
        let mut y = DMatrix::<f32>::zeros(count, outputs.len());
        let mut row = 0;
        for sample in samples {
            for (at, patch) in sample.patches[group].chunks_exact(width).enumerate() {
                patch.iter().enumerate().for_each(|(i, &v)| x[(row + at, i)] = v);
            }
            for (column, output) in outputs.clone().enumerate() {
                sample.targets[output].iter().enumerate().for_each(|(at, &v)| y[(row + at, column)] = v);
            }
            row += sample.patches[group].len() / width;
        }
        let centre = |m: &mut DMatrix<f32>| -> Vec<f32> {
            let centre = |mut column: nalgebra::DVectorViewMut<'_, f32>| {
                let mean = (column.iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64) as f32;
                column.iter_mut().for_each(|v| *v -= mean);
                mean
            };
            m.column_iter_mut().map(centre).collect()
        };
        let (input_mean, output_mean) = (centre(&mut x), centre(&mut y));
        let inputs = products(&x, &x) / count as f32;
        let both = products(&x, &y) / count as f32;
        let ridge = RIDGE * inputs.diagonal().mean();
        Self { input_mean, output_mean, inputs, both, ridge }
    }

    /// Integers of one kernel, by coordinate descent from `start`, and the bias that leaves no error on the mean.
    fn solve(&self, output: usize, weight: &[f32], start: &[i8], scale: f32) -> (Vec<i8>, f32) {
        let width = weight.len();
        let mut steps: Vec<f32> = start.iter().map(|&q| f32::from(q)).collect();
        // Half the gradient by each weight: products with what is lacking.
        let now = nalgebra::DVector::from_iterator(width, steps.iter().map(|q| q * scale));
        let mut gradient = &self.inputs * &now - self.both.column(output);
        (0..width).for_each(|i| gradient[i] += self.ridge * (now[i] - weight[i]));
        for _ in 0..SWEEPS {
            let mut moved = false;
            for i in 0..width {
                let curvature = self.inputs[(i, i)] + self.ridge;
                if curvature <= 0.0 {
                    continue;
                }
                let best = (steps[i] - gradient[i] / (curvature * scale)).round_ties_even().clamp(-127.0, 127.0);
                let change = best - steps[i];
                // Hardly more than half a step gains nothing that arithmetic in floats could tell.
                if change != 0.0 && (gradient[i] / (curvature * scale)).abs() > 0.501 {
                    steps[i] = best;
                    moved = true;
                    gradient.axpy(change * scale, &self.inputs.column(i), 1.0);
                    gradient[i] += self.ridge * change * scale;
                }
            }
            if !moved {
                break;
            }
        }
        let made: f32 = steps.iter().zip(&self.input_mean).map(|(q, mean)| q * scale * mean).sum();
        (steps.into_iter().map(|q| q as i8).collect(), self.output_mean[output] - made)
    }
}

/// Products of all columns with all columns, a block at a time on every thread.
fn products(x: &DMatrix<f32>, y: &DMatrix<f32>) -> DMatrix<f32> {
    let starts: Vec<usize> = (0..y.ncols()).step_by(BLOCK).collect();
    // nalgebra's `tr_mul` takes each number for itself; its product of two matrices uses vectors.
    let rows = x.transpose();
    let blocks = starts.par_iter().map(|&start| {
        let columns: DMatrixView<'_, f32> = y.columns(start, BLOCK.min(y.ncols() - start));
        &rows * columns
    });
    let blocks: Vec<DMatrix<f32>> = blocks.collect();
    let mut all = DMatrix::zeros(x.ncols(), y.ncols());
    for (&start, block) in starts.iter().zip(&blocks) {
        all.columns_mut(start, block.ncols()).copy_from(block);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::qdq::tests::{calibrated, image, small_network};
    use crate::quantize::relative_error;

    fn run(model: &ModelProto, tensors: &[&str], image: &[f32]) -> Vec<Vec<f32>> {
        let names: Vec<Name> = tensors.iter().map(|&name| name.into()).collect();
        Network::load(with_outputs(model, &names), Options::SINGLE_THREADED).unwrap().run(image).unwrap()
    }

    #[test]
    fn patches_times_weights_are_what_the_network_makes() {
        let (network, image) = (small_network(), image());
        let graph = network.graph.as_ref().unwrap();
        let side = crate::graph::fused::SIZE;
        // Strided with padding at the bottom and the right only, and one channel at a time with padding all around.
        for (name, input, shape) in
            [("stem", "framed", [1, 3, side, side + 1]), ("depthwise", "sum/relu", [1, 8, side / 4, side / 4])]
        {
            let made = run(&network, &[name], &image).remove(0);
            let read = run(&network, &[input], &image).remove(0);
            let conv = graph.node.iter().find(|node| node.name == name).unwrap();
            let [weight, bias] = [1, 2].map(|at| qdq::floats(qdq::constant(graph, &conv.input[at]).unwrap()).unwrap());
            let width = weight.len() / bias.len();
            let dims: Vec<usize> = qdq::constant(graph, &conv.input[1]).unwrap().dims.iter().map(|&d| d as usize).collect();
            let geometry = Geometry::of(conv, &dims).unwrap();
            let plane = made.len() / bias.len();
            let output_width = (plane as f64).sqrt() as usize;
            let places = places(plane, 3);
            assert_eq!(places.len(), POSITIONS);
            let patches = geometry.patches(&read, &shape, output_width, &[places, vec![0, plane - 1]].concat());
            let places = [super::places(plane, 3), vec![0, plane - 1]].concat();
            for (output, kernel) in weight.chunks_exact(width).enumerate() {
                let group = output * geometry.groups / bias.len();
                for (at, patch) in places.iter().zip(patches[group].chunks_exact(width)) {
                    let sum: f32 = patch.iter().zip(kernel).map(|(x, w)| x * w).sum();
                    let expected = made[output * plane + at];
                    assert!((sum + bias[output] - expected).abs() < 1e-3, "{name} {output} at {at}: {sum} {expected}");
                }
            }
        }
    }

    #[test]
    fn errors_of_inputs_that_go_together_cancel() {
        // Two inputs that are always equal: 0.4 and 0.4 steps are 1 and 0, not 0 and 0; a third that goes its own way stays.
        let rows: Vec<[f32; 3]> = (0..64).map(|i| [(i % 8) as f32, (i % 8) as f32, (i / 8) as f32]).collect();
        let target = rows.iter().map(|r| 0.4 * r[0] + 0.4 * r[1] + 2.2 * r[2] + 5.0).collect();
        let sample = Sample { patches: vec![rows.concat()], targets: vec![target] };
        let (steps, bias) = Moments::of(&[sample], 0, 3, 0..1).solve(0, &[0.4, 0.4, 2.2], &[0, 0, 2], 1.0);
        assert_eq!((steps[0] + steps[1], steps[2]), (1, 2), "{steps:?}");
        // What is left on the mean (3.5 each): 0.8 steps wanted and 1 made, 2.2 wanted and 2 made.
        assert!((bias - (5.0 - 0.2 * 3.5 + 0.2 * 3.5)).abs() < 1e-4, "{bias}");
    }

    #[test]
    fn the_network_comes_nearer_to_its_floats() {
        let (network, image) = (small_network(), image());
        let mut calibration = calibrated(&network, &image);
        let features = |calibration: &Calibration| {
            let rewritten = qdq::rewrite(&network, calibration).unwrap().0.finish(vec![]);
            run(&rewritten, &["embedding"], &image)
        };
        let expected = run(&network, &["embedding"], &image);
        let nearest = relative_error(&expected, &features(&calibration));
        reconstruct(&network, &mut calibration, &Pictures { tensors: vec![image.clone()] }).unwrap();
        assert_eq!(calibration.reconstructed.len(), 3);
        let found = relative_error(&expected, &features(&calibration));
        assert!(found < 0.8 * nearest, "{found} in place of {nearest}");
    }
}
