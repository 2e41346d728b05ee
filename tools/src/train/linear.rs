//! Training of one linear layer on features, with burn: the paper's protocol and nothing else.
//!
//! The back-end is a type parameter. Everything random (initial weights, order, dropout) is drawn here from one seeded
//! generator and not from the back-end's, so that the result depends on the seed alone, also when several heads are trained
//! at once.

use std::sync::LazyLock;

use burn::module::{Module, Param};
use burn::nn::loss::{BinaryCrossEntropyLossConfig, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, GradientsParams, Optimizer};
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor, TensorData};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::resume::{Slot, State};

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
    /// Early stopping: a fifth of the pictures is held out and not trained on; when its loss has not fallen for so many epochs, the training
    /// ends with the layer that did best on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Decides initial weights, order and dropout, and what is held out.
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
            patience: None,
            seed: 1,
        }
    }
}

/// How layers and optimisers are kept: in full, each value under its name.
static RECORDER: LazyLock<NamedMpkBytesRecorder<FullPrecisionSettings>> = LazyLock::new(NamedMpkBytesRecorder::default);

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
    /// Mean loss after the epoch, without dropout, on what is held out for early stopping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_loss: Option<f64>,
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

/// Feature vectors with what each should give.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// All of one length.
    pub features: &'a [&'a [f32]],
    /// One a vector.
    pub targets: Targets<'a>,
}

impl Lesson<'_> {
    /// Mean cross-entropy in nats.
    fn loss(self, layer: &Layer) -> f64 {
        let wanted = self.targets.gather(&(0..self.features.len()).collect::<Vec<_>>());
        let losses = self.features.iter().zip(wanted).map(|(features, wanted)| {
            let logits = layer.logits(features);
            match self.targets {
                Targets::Classes(..) => {
                    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let powers: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
                    powers.ln() - f64::from(logits[wanted as usize] - largest)
                }
                Targets::Binary(_) => {
                    let margin = f64::from(logits[0]) * if wanted == 1 { 1.0 } else { -1.0 };
                    // ln(1 + e^−m) without overflow on either side.
                    (-margin).max(0.0) + (-margin.abs()).exp().ln_1p()
                }
            }
        });
        losses.sum::<f64>() / self.features.len() as f64
    }

    /// Fingerprint of everything that decides a training.
    fn fingerprint(self, held_out: Option<Lesson<'_>>, protocol: &Protocol, backend: &str) -> String {
        let mut digest = Sha256::new();
        for lesson in [Some(self), held_out].into_iter().flatten() {
            for features in lesson.features {
                digest.update((features.len() as u64).to_le_bytes());
                features.iter().for_each(|value| digest.update(value.to_le_bytes()));
            }
            lesson
                .targets
                .gather(&(0..lesson.features.len()).collect::<Vec<_>>())
                .iter()
                .for_each(|t| digest.update(t.to_le_bytes()));
            digest.update((lesson.targets.outputs() as u64).to_le_bytes());
        }
        digest.update(format!("{protocol:?} {backend} {}", env!("CARGO_PKG_VERSION")));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Trains a layer; returns it with one [`Epoch`] a pass. Without `held_out` all passes are made. After each, everything is kept in `slot`,
/// and what is kept there is gone on with.
///
/// # Errors
/// When what is kept does not belong to this training, or cannot be read or written.
///
/// # Panics
/// When there are no features, or their number or lengths differ.
pub fn fit_kept<B: AutodiffBackend>(
    device: &B::Device,
    lesson: Lesson<'_>,
    held_out: Option<Lesson<'_>>,
    protocol: &Protocol,
    slot: &Slot,
) -> anyhow::Result<(Layer, Vec<Epoch>)> {
    let mut training = Training::<B>::start(device, lesson, held_out, protocol, slot)?;
    while training.is_wanted() {
        training.epoch()?;
    }
    Ok(training.finish())
}

/// A training between two epochs.
struct Training<'a, B: AutodiffBackend> {
    device: &'a B::Device,
    lesson: Lesson<'a>,
    held_out: Option<Lesson<'a>>,
    protocol: &'a Protocol,
    slot: &'a Slot,
    trained_on: String,
    linear: Linear<B>,
    adam: OptimizerAdaptor<AdamW, Linear<B>, B>,
    rng: ChaCha8Rng,
    order: Vec<usize>,
    history: Vec<Epoch>,
    /// The layer that did best on what is held out, and after how many epochs.
    best: Option<(Layer, usize)>,
}

impl<'a, B: AutodiffBackend> Training<'a, B> {
    /// At the beginning, or where `slot` is.
    fn start(
        device: &'a B::Device,
        lesson: Lesson<'a>,
        held_out: Option<Lesson<'a>>,
        protocol: &'a Protocol,
        slot: &'a Slot,
    ) -> anyhow::Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(protocol.seed);
        let trained_on = if slot.is_kept() { lesson.fingerprint(held_out, protocol, &B::name(device)) } else { String::new() };
        let mut training = Self {
            device,
            lesson,
            held_out,
            protocol,
            slot,
            linear: initial::<B>(device, lesson.features[0].len(), lesson.targets.outputs(), &mut rng),
            adam: AdamWConfig::new().with_weight_decay(protocol.weight_decay).init::<B, Linear<B>>(),
            rng,
            order: (0..lesson.features.len()).collect(),
            history: Vec::with_capacity(protocol.epochs),
            best: None,
            trained_on,
        };
        if let Some(kept) = slot.load(&training.trained_on)? {
            training.linear = training.linear.load_record(Recorder::<B>::load(&*RECORDER, kept.layer, device)?);
            training.adam = training.adam.load_record(Recorder::<B>::load(&*RECORDER, kept.optimizer, device)?);
            training.rng.set_word_pos(kept.drawn);
            (training.order, training.history, training.best) = (kept.order, kept.history, kept.best);
        }
        Ok(training)
    }

    /// Whether another epoch is to be made.
    fn is_wanted(&self) -> bool {
        let epoch = self.history.len();
        let hopes = |patience: usize| self.best.as_ref().is_none_or(|(_, after)| epoch < after + patience);
        epoch < self.protocol.epochs && self.protocol.patience.is_none_or(hopes)
    }

    /// Makes one, and keeps what it led to.
    fn epoch(&mut self) -> anyhow::Result<()> {
        let (Lesson { features, targets }, protocol, epoch) = (self.lesson, self.protocol, self.history.len());
        let batches = features.len().div_ceil(protocol.batch);
        self.order.shuffle(&mut self.rng);
        // What was said stays on the device until the end of the epoch, so that a GPU need not wait for the CPU in each step.
        let (mut losses, mut answers) = (Vec::with_capacity(batches), Vec::with_capacity(batches));
        for (batch, indices) in self.order.chunks(protocol.batch).enumerate() {
            let share = protocol.schedule.share(epoch * batches + batch, protocol.epochs * batches);
            let batch = dropped_out(features, indices, protocol.dropout, &mut self.rng);
            let batch = Tensor::<B, 2>::from_data(TensorData::new(batch, [indices.len(), features[0].len()]), self.device);
            let logits = self.linear.forward(batch);
            let loss = loss(logits.clone(), targets, indices, protocol.label_smoothing, self.device);
            losses.push(loss.clone().inner());
            answers.push(logits.inner());
            let gradients = GradientsParams::from_grads(loss.backward(), &self.linear);
            self.linear = self.adam.step(protocol.learning_rate * share, self.linear.clone(), gradients);
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().iter::<f32>().collect();
        let answers: Vec<f32> = Tensor::cat(answers, 0).into_data().iter::<f32>().collect();
        let sizes = self.order.chunks(protocol.batch).map(|indices| indices.len() as f64);
        let loss = losses.iter().zip(sizes).map(|(&loss, size)| f64::from(loss) * size).sum::<f64>();
        let count = features.len() as f64;
        let held_out_loss = self.held_out.map(|held_out| self.compare(held_out));
        let accuracy = targets.right(&self.order, &answers) as f64 / count;
        self.history.push(Epoch { loss: loss / count, accuracy, held_out_loss });
        self.keep()
    }

    /// Loss on what is held out; the layer is remembered if that is the least so far.
    fn compare(&mut self, held_out: Lesson<'_>) -> f64 {
        let layer = to_layer(&self.linear);
        let loss = held_out.loss(&layer);
        let least = self.best.as_ref().and_then(|(_, after)| self.history[after - 1].held_out_loss);
        if least.is_none_or(|least| loss < least) {
            self.best = Some((layer, self.history.len() + 1));
        }
        loss
    }

    fn keep(&self) -> anyhow::Result<()> {
        if !self.slot.is_kept() {
            return Ok(());
        }
        let state = State {
            layer: Recorder::<B>::record(&*RECORDER, self.linear.clone().into_record(), ())?,
            optimizer: Recorder::<B>::record(&*RECORDER, self.adam.to_record(), ())?,
            order: self.order.clone(),
            drawn: self.rng.get_word_pos(),
            history: self.history.clone(),
            best: self.best.clone(),
        };
        self.slot.save(&state, &self.trained_on)
    }

    fn finish(self) -> (Layer, Vec<Epoch>) {
        let layer = self.best.map_or_else(|| to_layer(&self.linear), |(layer, _)| layer);
        (layer, self.history)
    }
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
    let mut values = Vec::with_capacity(indices.len() * features[0].len());
    for &i in indices {
        // Without a branch: which way it goes cannot be foreseen.
        values.extend(features[i].iter().map(|&x| f32::from(u8::from(rng.random::<f32>() >= dropout)) * (x * keep)));
    }
    values
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

fn to_layer<B: AutodiffBackend>(linear: &Linear<B>) -> Layer {
    let [inputs, outputs] = linear.weight.dims();
    let values: Vec<f32> = linear.weight.val().into_data().iter::<f32>().collect();
    let weight = (0..outputs).flat_map(|o| (0..inputs).map(move |i| i * outputs + o)).map(|at| values[at]).collect();
    let bias = linear.bias.as_ref().expect("set in `initial`").val().into_data().iter::<f32>().collect();
    Layer { weight, bias }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Cpu = burn::backend::Autodiff<burn::backend::NdArray>;

    fn fit<B: AutodiffBackend>(
        device: &B::Device,
        lesson: Lesson<'_>,
        held_out: Option<Lesson<'_>>,
        protocol: &Protocol,
    ) -> (Layer, Vec<Epoch>) {
        fit_kept::<B>(device, lesson, held_out, protocol, &Slot::NONE).unwrap()
    }

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
            let lesson = Lesson { features: &features, targets: Targets::Classes(&classes, 3) };
            fit::<Cpu>(&Default::default(), lesson, None, &Protocol { seed, ..protocol.clone() })
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
        let lesson = Lesson { features: &features, targets: Targets::Binary(&wanted) };
        let (layer, _) = fit::<Cpu>(&Default::default(), lesson, None, &protocol);
        let right = features.iter().zip(&wanted).filter(|(x, w)| (layer.logits(x)[0] > 0.0) == **w).count();
        assert!(right > 230, "{right} of 240");
    }

    #[test]
    fn decay_and_smoothing_keep_weights_small_and_the_step_size_falls() {
        let (points, classes) = clouds();
        let features: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        let plain = Protocol { epochs: 40, learning_rate: 1e-2, dropout: 0.0, ..Protocol::default() };
        let lesson = Lesson { features: &features, targets: Targets::Classes(&classes, 3) };
        let train = |protocol: &Protocol| fit::<Cpu>(&Default::default(), lesson, None, protocol).0;
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
    fn a_training_that_was_interrupted_ends_like_one_that_was_not() {
        use crate::train::resume::Checkpoints;
        let (points, classes) = clouds();
        let features: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        let (first, held) = features.split_at(180);
        let lesson = Lesson { features: first, targets: Targets::Classes(&classes[..180], 3) };
        let held = Lesson { features: held, targets: Targets::Classes(&classes[180..], 3) };
        let protocol =
            Protocol { epochs: 6, patience: Some(3), weight_decay: 0.1, schedule: Schedule::Cosine, ..Protocol::default() };
        let whole = fit::<Cpu>(&Default::default(), lesson, Some(held), &protocol);
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::beside(&folder.path().join("head"), true).unwrap();
        let slot = checkpoints.slot("breed");
        let device = Default::default();
        let train = || fit_kept::<Cpu>(&device, lesson, Some(held), &protocol, &slot);
        let path = folder.path().join("head.progress/breed.safetensors");
        for epochs in 1..6 {
            let mut training = Training::<Cpu>::start(&device, lesson, Some(held), &protocol, &slot).unwrap();
            (0..epochs).for_each(|_| training.epoch().unwrap());
            drop(training);
            let mut training = Training::<Cpu>::start(&device, lesson, Some(held), &protocol, &slot).unwrap();
            assert_eq!(training.history, whole.1[..epochs], "an epoch was lost");
            training.epoch().unwrap();
            assert_eq!(train().unwrap(), whole, "interrupted after {epochs}");
            std::fs::remove_file(&path).unwrap();
        }
        train().unwrap();
        // What is complete is not trained again.
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(train().unwrap(), whole);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
        let other = Protocol { seed: 2, ..protocol.clone() };
        let error = fit_kept::<Cpu>(&Default::default(), lesson, Some(held), &other, &slot).unwrap_err();
        assert!(format!("{error:#}").contains("in another way"), "{error:#}");
    }

    #[test]
    fn a_training_stops_when_what_is_held_out_gets_no_better() {
        let (points, classes) = clouds();
        let features: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        // The held-out half is labelled at random: learning helps it at most by chance.
        let wrong: Vec<usize> = classes.iter().map(|class| (class + 1) % 3).collect();
        let lesson = Lesson { features: &features[..120], targets: Targets::Classes(&classes[..120], 3) };
        let protocol = Protocol { epochs: 40, learning_rate: 1e-2, dropout: 0.0, patience: Some(2), ..Protocol::default() };
        let train = |held: Lesson<'_>| fit::<Cpu>(&Default::default(), lesson, Some(held), &protocol);
        let (layer, history) = train(Lesson { features: &features[120..], targets: Targets::Classes(&wrong[120..], 3) });
        let losses: Vec<f64> = history.iter().map(|epoch| epoch.held_out_loss.unwrap()).collect();
        let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
        assert!(history.len() < 40 && best + 3 == losses.len(), "{losses:?}");
        let held = Lesson { features: &features[120..], targets: Targets::Classes(&wrong[120..], 3) };
        assert!((held.loss(&layer) - losses[best]).abs() < 1e-9, "not the best of {losses:?}");
        // What generalises is trained on to the end, and the loss is that of burn.
        let (layer, history) = train(Lesson { features: &features[120..], targets: Targets::Classes(&classes[120..], 3) });
        assert_eq!(history.len(), 40);
        assert!(lesson.loss(&layer) < history[39].loss && lesson.loss(&layer) > 0.5 * history[39].loss);
    }

    #[test]
    fn losses_are_cross_entropies() {
        let layer = Layer { weight: vec![1.0, 0.0, -1.0], bias: vec![0.0, 0.5, 0.0] };
        let features: [&[f32]; 2] = [&[2.0], &[-1.0]];
        let of = |logits: [f64; 3], class: usize| logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[class];
        let expected = (of([2.0, 0.5, -2.0], 0) + of([-1.0, 0.5, 1.0], 1)) / 2.0;
        let lesson = Lesson { features: &features, targets: Targets::Classes(&[0, 1], 3) };
        assert!((lesson.loss(&layer) - expected).abs() < 1e-6);
        let yes_or_no = Layer { weight: vec![1.0], bias: vec![0.0] };
        let lesson = Lesson { features: &features, targets: Targets::Binary(&[true, true]) };
        let expected = ((1.0 + (-2.0_f64).exp()).ln() + (1.0 + 1.0_f64.exp()).ln()) / 2.0;
        assert!((lesson.loss(&yes_or_no) - expected).abs() < 1e-6);
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
