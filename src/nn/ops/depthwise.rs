//! Depthwise convolution with bias, activation and requantisation.

use super::*;
use crate::nn::kernels::depthwise::{Run, Weights};
use crate::nn::kernels::requant::Requant;
use crate::nn::kernels::stage::{Staging, Window};
use crate::nn::runtime::LINE;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depthwise {
    layer: Shared<Layer>,
    runtime: Shared<Runtime>,
}

#[derive(Debug)]
struct Layer {
    input: Picture,
    output: Picture,
    staging: Staging,
    padding: Pixel,
    weights: Weights,
    requant: Requant,
    macs: u64,
}

impl Depthwise {
    /// Packs `weights`, `[channels][kernel]`. `zero_point` is the stored value that means zero in the input.
    ///
    /// # Errors
    /// When the window does not fit into the input.
    pub fn new(
        runtime: &Arc<Runtime>,
        input: Picture,
        window: Window,
        zero_point: i32,
        weights: &[i8],
        requant: Requant,
    ) -> TractResult<Self> {
        let size = window.output(input.size).with_context(|| format!("{window:?} does not fit into {:?}", input.size))?;
        let output = Picture { channels: input.channels, size };
        let staging = Staging::new(window, input.size);
        let macs = (weights.len() * output.pixels()) as u64;
        let weights = Weights::new(weights, input.channels, staging.taps());
        let layer = Layer { input, output, staging, padding: [zero_point as u8; 4], weights, requant, macs };
        Ok(Self { layer: Shared(Arc::new(layer)), runtime: Shared(Arc::clone(runtime)) })
    }

    /// Shape of the output.
    pub fn output(&self) -> Picture {
        self.layer.output
    }

    /// Multiplications of one evaluation.
    pub fn macs(&self) -> u64 {
        self.layer.macs
    }

    /// Pixels of working memory of a thread: a staged plane and a run.
    fn scratch(&self) -> (usize, usize) {
        // The widest register's worth of pixels is a cache line.
        (
            self.layer.staging.scratch(1, LINE / 4).next_multiple_of(LINE / 4),
            self.layer.staging.run().next_multiple_of(LINE / 4),
        )
    }
}

impl Op for Depthwise {
    fn name(&self) -> StaticName {
        "PawgateDepthwise".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Depthwise {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (layer, runtime) = (&*self.layer, &*self.runtime);
        check_inputs(&inputs, runtime, &[layer.input])?;
        let kernels = runtime.kernels();
        let input = pixels(&inputs[0]);
        let (source, plane) = (kernels.plane(layer.input.pixels()), kernels.plane(layer.output.pixels()));
        let (staged, run) = self.scratch();
        let mut scratch = runtime.take_scratch(0, (staged + run) * runtime.threads())?;
        let outputs = output(runtime, &layer.output, |out| {
            runtime.split(out, plane, (&mut scratch.runs, staged + run), |first, planes, memory| {
                let (staged, run) = memory.split_at_mut(staged);
                for (i, out) in planes.chunks_exact_mut(plane).enumerate() {
                    let group = first + i;
                    let filled = &mut staged[..layer.staging.stride()];
                    layer.staging.fill(&input[group * source..][..source], layer.padding, filled);
                    kernels.depthwise(&Run { input: staged, weights: &layer.weights, group, requant: &layer.requant }, run);
                    layer.staging.scatter(0, run, out);
                }
            });
        });
        runtime.put_scratch(scratch);
        outputs
    }
}

impl TypedOp for Depthwise {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs", inputs.len());
        self.layer.input.check(&self.runtime, inputs[0], "the input")?;
        Ok(tvec![self.layer.output.fact(&self.runtime)])
    }

    fn cost(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![(Cost::FMA(i8::datum_type()), self.layer.macs.into())])
    }
}
