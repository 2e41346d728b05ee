//! Convolution with bias, activation, requantisation and, where the graph has one, the addition that follows.

use super::*;
use crate::nn::kernels::Kernels;
use crate::nn::kernels::conv::{Form, Packed, Run, Shape, TAIL_GROUPS, TAIL_PIXELS, Tail};
use crate::nn::kernels::requant::Requant;
use crate::nn::kernels::stage::{Staging, Window};
use crate::nn::runtime::{LINE, Scratch};

/// A block of pixels should find its input in the first-level cache: 32 KiB on a Cortex-A72, 64 on an A76, 48 on current x86.
const FIRST_LEVEL_CACHE: usize = 32 << 10;

/// See the module. The second input, if the requantisation has a residual, is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    layer: Shared<Layer>,
    runtime: Shared<Runtime>,
}

#[derive(Debug)]
struct Layer {
    input: Picture,
    output: Picture,
    /// None when the input can be read as it is.
    staging: Option<Staging>,
    /// Stored value that means zero, in all four bytes.
    padding: Pixel,
    weights: Packed,
    requant: Requant,
    macs: u64,
    /// Pixels computed in vectors, and those that follow ([`Kernels::tail`]).
    whole: usize,
    tail: usize,
    /// The vectors are computed in so many blocks of so many pixels, all groups of channels block by block…
    blocks: usize,
    block: usize,
    /// …of which the last has so many: what is left over too.
    last: usize,
}

impl Conv {
    /// Packs `weights`, `[outputs][inputs][kernel]`. `zero_point` is the stored value that means zero in the input.
    ///
    /// # Errors
    /// When the window does not fit into the input.
    pub fn new(
        runtime: &Arc<Runtime>,
        input: Picture,
        outputs: usize,
        window: Window,
        zero_point: i32,
        weights: &[i8],
        requant: Requant,
    ) -> TractResult<Self> {
        let size = window.output(input.size).with_context(|| format!("{window:?} does not fit into {:?}", input.size))?;
        let output = Picture { channels: outputs, size };
        let staging = (!window.is_pointwise()).then(|| Staging::new(window, input.size));
        let kernels = runtime.kernels();
        let (taps, plane) = match &staging {
            Some(staging) => (staging.taps(), staging.stride()),
            None => (&[0][..], kernels.plane(input.pixels())),
        };
        let shape = Shape { outputs, inputs: input.channels, taps, plane };
        let packed = Packed::new(weights, shape, *kernels.packing());
        let macs = (weights.len() * output.pixels()) as u64;
        let run = staging.as_ref().map_or(output.pixels(), Staging::run);
        let tail = kernels.tail(&packed, run);
        let whole = (run - tail).next_multiple_of(kernels.lanes());
        // All of a small input stays in the cache, and so do the weights of a group; of a large one, a block at a time.
        let fits = input.planes() * plane * 4 <= FIRST_LEVEL_CACHE;
        let fitting = (FIRST_LEVEL_CACHE / (input.planes() * 4)).max(64) / kernels.lanes() * kernels.lanes();
        let blocks = if fits { 1 } else { whole.div_ceil(fitting).max(1) };
        // Whole tiles, so that only the last block has a smaller one.
        let block = if blocks == 1 { whole } else { (whole / blocks / kernels.tile() * kernels.tile()).max(kernels.tile()) };
        let last = whole - (blocks - 1) * block;
        let padding = [zero_point as u8; 4];
        let layer = Layer { input, output, staging, padding, weights: packed, requant, macs, whole, tail, blocks, block, last };
        Ok(Self { layer: Shared(Arc::new(layer)), runtime: Shared(Arc::clone(runtime)) })
    }

    /// Shape of the output.
    pub fn output(&self) -> Picture {
        self.layer.output
    }

    /// Multiplications of one evaluation, those with zero included.
    pub fn macs(&self) -> u64 {
        self.layer.macs
    }

    /// Pixels of working memory: for the staged input, and for runs.
    fn scratch(&self) -> (usize, usize) {
        let lanes = self.runtime.kernels().lanes();
        match &self.layer.staging {
            Some(staging) => (
                staging.scratch(self.layer.input.planes(), lanes),
                2 * self.layer.block.max(self.layer.last).next_multiple_of(LINE / 4),
            ),
            None => (0, 0),
        }
    }
}

impl Layer {
    /// Groups from `first` on, as many as `planes` holds.
    fn groups(
        &self,
        kernels: &Kernels,
        first: usize,
        input: &[Pixel],
        residual: Option<&[Pixel]>,
        out: (&mut [Pixel], &mut [Pixel]),
    ) {
        let (planes, runs) = out;
        let plane = kernels.plane(self.output.pixels());
        for block in 0..self.blocks {
            // Tails follow the vectors of their groups, whose weights are near then.
            for (i, out) in planes.chunks_mut(TAIL_GROUPS * plane).enumerate() {
                let group = first + i * TAIL_GROUPS;
                self.vectors(kernels, (group, block), input, residual, (&mut *out, &mut *runs));
                if block + 1 == self.blocks && self.tail > 0 {
                    self.tail(kernels, group, input, residual, out);
                }
            }
        }
    }

    /// Block `at.1` of groups from `at.0` on, as many as `planes` holds.
    fn vectors(
        &self,
        kernels: &Kernels,
        at: (usize, usize),
        input: &[Pixel],
        residual: Option<&[Pixel]>,
        out: (&mut [Pixel], &mut [Pixel]),
    ) {
        let ((first, block), (planes, runs)) = (at, out);
        let plane = kernels.plane(self.output.pixels());
        let (from, length) = (block * self.block, if block + 1 == self.blocks { self.last } else { self.block });
        let (run_memory, residual_memory) = runs.split_at_mut(runs.len() / 2);
        for (i, out) in planes.chunks_exact_mut(plane).enumerate() {
            let group = first + i;
            let other = residual.map(|r| &r[group * plane..][..plane]);
            let run = Run { input, first: from, weights: &self.weights, group, requant: &self.requant, residual: None };
            let Some(staging) = &self.staging else {
                let residual = other.map(|plane| &plane[from..][..length]);
                kernels.conv(&Run { residual, ..run }, &mut out[from..][..length]);
                continue;
            };
            if let Some(other) = other {
                staging.gather(from, other, &mut residual_memory[..length]);
            }
            let residual = other.map(|_| &residual_memory[..length]);
            kernels.conv(&Run { residual, ..run }, &mut run_memory[..length]);
            staging.scatter(from, &run_memory[..length], out);
        }
    }

    /// The last pixels of groups from `group` on, as many as `planes` holds: at most [`TAIL_GROUPS`].
    fn tail(&self, kernels: &Kernels, group: usize, input: &[Pixel], residual: Option<&[Pixel]>, planes: &mut [Pixel]) {
        let plane = kernels.plane(self.output.pixels());
        let mut run = [[0; 4]; TAIL_PIXELS];
        let run = &mut run[..self.tail];
        let mut others = [[[0; 4]; TAIL_GROUPS]; TAIL_PIXELS];
        if let Some(residual) = residual {
            for (g, other) in residual[group * plane..].chunks_exact(plane).take(TAIL_GROUPS).enumerate() {
                self.gather(other, run);
                run.iter().zip(&mut others).for_each(|(pixel, other)| other[g] = *pixel);
            }
        }
        let residual = residual.map(|_| &others[..self.tail]);
        let mut outputs = [[[0; 4]; TAIL_GROUPS]; TAIL_PIXELS];
        let call = Tail { input, first: self.whole, weights: &self.weights, group, requant: &self.requant, residual };
        kernels.conv_tail(&call, &mut outputs[..self.tail]);
        for (g, plane) in planes.chunks_exact_mut(plane).enumerate() {
            run.iter_mut().zip(&outputs).for_each(|(pixel, output)| *pixel = output[g]);
            match &self.staging {
                Some(staging) => staging.scatter(self.whole, run, plane),
                None => plane[self.whole..][..self.tail].copy_from_slice(run),
            }
        }
    }

    /// Brings the last pixels of a plane without gaps under a run's.
    fn gather(&self, plane: &[Pixel], run: &mut [Pixel]) {
        match &self.staging {
            Some(staging) => staging.gather(self.whole, plane, run),
            None => run.copy_from_slice(&plane[self.whole..][..self.tail]),
        }
    }

    fn eval(
        &self,
        runtime: &Runtime,
        input: &[Pixel],
        residual: Option<&[Pixel]>,
        runs: usize,
        scratch: &mut Scratch,
        out: &mut [Pixel],
    ) {
        let plane = runtime.kernels().plane(self.output.pixels());
        let input = match &self.staging {
            None => input,
            Some(staging) => {
                let source = runtime.kernels().plane(self.input.pixels());
                let size = staging.stride();
                let staged = &mut *scratch.staged;
                runtime.split(&mut staged[..self.input.planes() * size], size, (&mut [], 0), |first, planes, _| {
                    for (i, staged) in planes.chunks_exact_mut(size).enumerate() {
                        staging.fill(&input[(first + i) * source..][..source], self.padding, staged);
                    }
                });
                &*staged
            }
        };
        runtime.split(out, plane, (&mut scratch.runs, runs), |first, planes, runs| {
            self.groups(runtime.kernels(), first, input, residual, (planes, runs));
        });
    }
}

impl Op for Conv {
    fn name(&self) -> StaticName {
        "PawgateConv".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let form = match self.layer.weights.form() {
            Form::Dense { .. } => "dense",
            Form::Stream(_) => "sparse",
        };
        Ok(vec![format!("{form}, {} bytes of weights, {}", self.layer.weights.bytes(), self.runtime.kernels().isa())])
    }

    op_as_typed_op!();
}

impl EvalOp for Conv {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let layer = &*self.layer;
        let pictures = [layer.input, layer.output];
        check_inputs(&inputs, &self.runtime, &pictures[..1 + usize::from(layer.requant.residual.is_some())])?;
        let (staged, runs) = self.scratch();
        let mut scratch = self.runtime.take_scratch(staged, runs * self.runtime.threads())?;
        let outputs = output(&self.runtime, &layer.output, |out| {
            layer.eval(&self.runtime, pixels(&inputs[0]), inputs.get(1).map(|t| pixels(t)), runs, &mut scratch, out);
        });
        self.runtime.put_scratch(scratch);
        outputs
    }
}

impl TypedOp for Conv {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let layer = &*self.layer;
        ensure!(inputs.len() == 1 + usize::from(layer.requant.residual.is_some()), "{} inputs", inputs.len());
        layer.input.check(&self.runtime, inputs[0], "the input")?;
        if let Some(other) = inputs.get(1) {
            layer.output.check(&self.runtime, other, "the added tensor")?;
        }
        Ok(tvec![layer.output.fact(&self.runtime)])
    }

    fn cost(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![(Cost::FMA(i8::datum_type()), self.layer.macs.into())])
    }
}
