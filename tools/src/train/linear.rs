//! Training of one linear layer on features, with burn: the paper's protocol and nothing else.
//!
//! The back-end is a type parameter. Everything random (initial weights, order, dropout) is drawn here from one seeded
//! generator and not from the back-end's, so that the result depends on the seed alone, also when several heads are trained
//! at once.

use burn::module::Param;
use burn::nn::loss::{BinaryCrossEntropyLossConfig, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor, TensorData};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How a head is trained. The defaults are the paper's where it states them (5 epochs, dropout 0.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Passes over the training features.
    pub epochs: usize,
    /// Passes for the pet gate, which the paper does not have: yes and no against a wide choice of negatives is learnt more
    /// slowly than breeds.
    pub gate_epochs: usize,
    /// Feature vectors a step.
    pub batch: usize,
    /// Adam's step size; at the beginning, where it falls.
    pub learning_rate: f64,
    /// How it goes on.
    pub schedule: Schedule,
    /// Share of each weight that a step of size 1 would take away, apart from the gradient (Loshchilov and Hutter 2019, AdamW).
    pub weight_decay: f32,
    /// Share of the probability that is wanted for all classes alike, 0 ≤ smoothing < 1; the gate has none.
    pub label_smoothing: f32,
    /// Share of the features that are set to zero in a step, 0 ≤ dropout < 1.
    pub dropout: f32,
    /// Decides initial weights, order and dropout.
    pub seed: u64,
}

/// How the step size changes while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls to nothing along half a cosine.
    Cosine,
}

impl Schedule {
    /// Share of the first step size that step `step` of `steps` has, counted from 0.
    fn share(self, step: usize, steps: usize) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos()),
        }
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            epochs: 5,
            gate_epochs: 10,
            batch: 32,
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            dropout: 0.3,
            seed: 1,
        }
    }
}

/// What each feature vector should give.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// One of this many classes: softmax and cross-entropy.
    Classes(&'a [usize], usize),
    /// Yes or no: one logit, binary cross-entropy.
    Binary(&'a [bool]),
}

/// A trained layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// \[outputs, inputs\], row-major.
    pub weight: Vec<f32>,
    /// \[outputs\].
    pub bias: Vec<f32>,
}

/// Mean loss and accuracy on the training features of one epoch, with dropout, as they were while training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of right answers, 0…1.
    pub accuracy: f64,
}

impl Layer {
    /// Length of a feature vector.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// Whether every weight is a number.
    pub fn is_finite(&self) -> bool {
        self.weight.iter().chain(&self.bias).all(|w| w.is_finite())
    }

    /// The layer's outputs for one feature vector.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(self.inputs()).zip(&self.bias);
        rows.map(|(row, bias)| row.iter().zip(features).map(|(w, x)| w * x).sum::<f32>() + bias).collect()
    }
}

impl Targets<'_> {
    fn outputs(self) -> usize {
        match self {
            Self::Classes(_, count) => count,
            Self::Binary(_) => 1,
        }
    }

    fn gather(self, indices: &[usize]) -> Vec<i64> {
        match self {
            Self::Classes(all, _) => indices.iter().map(|&i| all[i] as i64).collect(),
            Self::Binary(all) => indices.iter().map(|&i| i64::from(all[i])).collect(),
        }
    }

    /// How many of the logits, one row an index, say what is wanted.
    fn right(self, indices: &[usize], logits: &[f32]) -> usize {
        let rows = logits.chunks(self.outputs()).zip(self.gather(indices));
        rows.filter(|(row, wanted)| match self {
            Self::Classes(..) => argmax(row) as i64 == *wanted,
            Self::Binary(_) => i64::from(row[0] > 0.0) == *wanted,
        })
        .count()
    }
}

/// Trains a layer on `features`; returns it with one [`Epoch`] a pass.
///
/// # Panics
/// When there are no features, or their number or lengths differ.
pub fn fit<B: AutodiffBackend>(
    device: &B::Device,
    features: &[&[f32]],
    targets: Targets<'_>,
    protocol: &Protocol,
) -> (Layer, Vec<Epoch>) {
    let inputs = features[0].len();
    let outputs = targets.outputs();
    let mut rng = ChaCha8Rng::seed_from_u64(protocol.seed);
    let mut linear = initial::<B>(device, inputs, outputs, &mut rng);
    let mut adam = AdamWConfig::new().with_weight_decay(protocol.weight_decay).init::<B, Linear<B>>();
    let mut order: Vec<usize> = (0..features.len()).collect();
    let mut history = Vec::with_capacity(protocol.epochs);
    let batches = features.len().div_ceil(protocol.batch);
    for epoch in 0..protocol.epochs {
        order.shuffle(&mut rng);
        // What was said stays on the device until the end of the epoch, so that a GPU need not wait for the CPU in each step.
        let (mut losses, mut answers) = (Vec::with_capacity(batches), Vec::with_capacity(batches));
        for (batch, indices) in order.chunks(protocol.batch).enumerate() {
            let share = protocol.schedule.share(epoch * batches + batch, protocol.epochs * batches);
            let batch = dropped_out(features, indices, protocol.dropout, &mut rng);
            let batch = Tensor::<B, 2>::from_data(TensorData::new(batch, [indices.len(), inputs]), device);
            let logits = linear.forward(batch);
            let loss = loss(logits.clone(), targets, indices, protocol.label_smoothing, device);
            losses.push(loss.clone().inner());
            answers.push(logits.inner());
            let gradients = GradientsParams::from_grads(loss.backward(), &linear);
            linear = adam.step(protocol.learning_rate * share, linear, gradients);
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().iter::<f32>().collect();
        let answers: Vec<f32> = Tensor::cat(answers, 0).into_data().iter::<f32>().collect();
        let sizes = order.chunks(protocol.batch).map(|indices| indices.len() as f64);
        let loss = losses.iter().zip(sizes).map(|(&loss, size)| f64::from(loss) * size).sum::<f64>();
        let count = features.len() as f64;
        history.push(Epoch { loss: loss / count, accuracy: targets.right(&order, &answers) as f64 / count });
    }
    (to_layer(linear, inputs, outputs), history)
}

/// Uniform in ±1/√inputs, as PyTorch initialises a linear layer; the bias starts at zero.
fn initial<B: AutodiffBackend>(device: &B::Device, inputs: usize, outputs: usize, rng: &mut ChaCha8Rng) -> Linear<B> {
    let bound = 1.0 / (inputs as f32).sqrt();
    let weight: Vec<f32> = (0..inputs * outputs).map(|_| rng.random_range(-bound..bound)).collect();
    let mut linear = LinearConfig::new(inputs, outputs).init::<B>(device);
    linear.weight = Param::from_data(TensorData::new(weight, [inputs, outputs]), device);
    linear.bias = Some(Param::from_data(TensorData::new(vec![0.0f32; outputs], [outputs]), device));
    linear
}

/// Copies the chosen vectors; each value is zeroed with probability `dropout`, the others are scaled up to keep the mean.
fn dropped_out(features: &[&[f32]], indices: &[usize], dropout: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let keep = 1.0 / (1.0 - dropout);
    let values = indices.iter().flat_map(|&i| features[i].iter());
    values.map(|&x| if rng.random::<f32>() < dropout { 0.0 } else { x * keep }).collect()
}

/// Mean cross-entropy of a step.
fn loss<B: AutodiffBackend>(
    logits: Tensor<B, 2>,
    targets: Targets<'_>,
    indices: &[usize],
    smoothing: f32,
    device: &B::Device,
) -> Tensor<B, 1> {
    let count = indices.len();
    let wanted = Tensor::<B, 1, Int>::from_data(TensorData::new(targets.gather(indices), [count]), device);
    match targets {
        Targets::Classes(..) => {
            let smoothing = (smoothing > 0.0).then_some(smoothing);
            CrossEntropyLossConfig::new().with_smoothing(smoothing).init(device).forward(logits, wanted)
        }
        Targets::Binary(_) => {
            BinaryCrossEntropyLossConfig::new().with_logits(true).init(device).forward(logits, wanted.reshape([count, 1]))
        }
    }
}

/// Position of the largest value; the first of equal ones.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

fn to_layer<B: AutodiffBackend>(linear: Linear<B>, inputs: usize, outputs: usize) -> Layer {
    let values: Vec<f32> = linear.weight.val().into_data().iter::<f32>().collect();
    let weight = (0..outputs).flat_map(|o| (0..inputs).map(move |i| i * outputs + o)).map(|at| values[at]).collect();
    let bias = linear.bias.expect("set in `initial`").val().into_data().iter::<f32>().collect();
    Layer { weight, bias }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Cpu = burn::backend::Autodiff<burn::backend::NdArray>;

    /// Three clouds on the axes of an eight-dimensional space.
    fn clouds() -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let classes: Vec<usize> = (0..240).map(|i| i % 3).collect();
        let point = |&class: &usize| (0..8).map(|d| rng.random::<f32>() + if d == class { 2.0 } else { 0.0 }).collect();
        (classes.iter().map(point).collect(), classes)
    }

    #[test]
    fn classes_are_learnt_and_the_seed_decides_every_bit() {
        let (points, classes) = clouds();
        let features: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        // With eight features, dropout would hide the one that matters too often.
        let protocol = Protocol { epochs: 40, learning_rate: 1e-2, dropout: 0.0, ..Protocol::default() };
        let train = |seed| {
            fit::<Cpu>(&Default::default(), &features, Targets::Classes(&classes, 3), &Protocol { seed, ..protocol.clone() })
        };
        let (layer, history) = train(1);
        let right = features.iter().zip(&classes).filter(|(x, c)| argmax(&layer.logits(x)) == **c).count();
        assert!(right > 230, "{right} of 240");
        assert!(history[39].loss < history[0].loss / 2.0 && history[39].accuracy > 0.9, "{history:?}");
        assert_eq!(layer, train(1).0);
        assert_ne!(layer, train(2).0);
    }

    #[test]
    fn yes_and_no_are_learnt() {
        let (points, classes) = clouds();
        let features: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        let wanted: Vec<bool> = classes.iter().map(|&c| c == 1).collect();
        let protocol = Protocol { epochs: 40, learning_rate: 1e-2, ..Protocol::default() };
        let (layer, _) = fit::<Cpu>(&Default::default(), &features, Targets::Binary(&wanted), &protocol);
        let right = features.iter().zip(&wanted).filter(|(x, w)| (layer.logits(x)[0] > 0.0) == **w).count();
        assert!(right > 230, "{right} of 240");
    }

    #[test]
    fn decay_and_smoothing_keep_weights_small_and_the_step_size_falls() {
        let (points, classes) = clouds();
        let features: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        let plain = Protocol { epochs: 40, learning_rate: 1e-2, dropout: 0.0, ..Protocol::default() };
        let train = |protocol: &Protocol| fit::<Cpu>(&Default::default(), &features, Targets::Classes(&classes, 3), protocol).0;
        let size = |layer: &Layer| layer.weight.iter().map(|w| w * w).sum::<f32>();
        let usual = size(&train(&plain));
        assert!(size(&train(&Protocol { weight_decay: 1.0, ..plain.clone() })) < 0.8 * usual);
        assert!(size(&train(&Protocol { label_smoothing: 0.3, ..plain.clone() })) < 0.8 * usual);
        assert_ne!(train(&Protocol { schedule: Schedule::Cosine, ..plain.clone() }), train(&plain));
        let shares = [0, 50, 100].map(|step| Schedule::Cosine.share(step, 100));
        assert!(shares[0] == 1.0 && (shares[1] - 0.5).abs() < 1e-9 && shares[2].abs() < 1e-9, "{shares:?}");
        assert_eq!(Schedule::Constant.share(99, 100), 1.0);
    }

    #[test]
    fn dropout_zeroes_its_share_and_keeps_the_mean() {
        let ones = vec![1.0f32; 10_000];
        let dropped = dropped_out(&[&ones], &[0], 0.3, &mut ChaCha8Rng::seed_from_u64(3));
        let zeros = dropped.iter().filter(|v| **v == 0.0).count() as f32 / 1e4;
        let mean = dropped.iter().sum::<f32>() / 1e4;
        assert!((zeros - 0.3).abs() < 0.02 && (mean - 1.0).abs() < 0.03, "{zeros} {mean}");
    }
}
