//! Maximum over a window; the scale stays the input's.

use super::*;
use crate::nn::kernels::pool;
use crate::nn::kernels::stage::{Staging, Window};
use crate::nn::runtime::LINE;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    input: Picture,
    staging: Staging,
    runtime: Shared<Runtime>,
}

impl MaxPool {
    /// Padding never wins: it is the least stored value.
    ///
    /// # Errors
    /// When the window does not fit into the input.
    pub fn new(runtime: &Arc<Runtime>, input: Picture, window: Window) -> TractResult<Self> {
        window.output(input.size).with_context(|| format!("{window:?} does not fit into {:?}", input.size))?;
        Ok(Self { input, staging: Staging::new(window, input.size), runtime: Shared(Arc::clone(runtime)) })
    }

    /// Shape of the output.
    pub fn output(&self) -> Picture {
        Picture { channels: self.input.channels, size: self.staging.output() }
    }
}

impl Op for MaxPool {
    fn name(&self) -> StaticName {
        "PawgateMaxPool".into()
    }

    op_as_typed_op!();
}

impl EvalOp for MaxPool {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let runtime = &*self.runtime;
        check_inputs(&inputs, runtime, &[self.input])?;
        let kernels = runtime.kernels();
        let input = pixels(&inputs[0]);
        let (source, plane) = (kernels.plane(self.input.pixels()), kernels.plane(self.output().pixels()));
        let (staged, run) =
            (self.staging.scratch(1, 1).next_multiple_of(LINE / 4), self.staging.run().next_multiple_of(LINE / 4));
        let mut scratch = runtime.take_scratch(0, (staged + run) * runtime.threads())?;
        let least = [kernels.storage().byte(0); 4];
        let outputs = output(runtime, &self.output(), |out| {
            runtime.split(out, plane, (&mut scratch.runs, staged + run), |first, planes, memory| {
                let (staged, run) = memory.split_at_mut(staged);
                for (i, out) in planes.chunks_exact_mut(plane).enumerate() {
                    self.staging.fill(&input[(first + i) * source..][..source], least, &mut staged[..self.staging.stride()]);
                    let run = &mut run[..self.staging.run()];
                    pool::max(kernels.storage(), staged, self.staging.taps(), run);
                    self.staging.scatter(0, run, out);
                }
            });
        });
        runtime.put_scratch(scratch);
        outputs
    }
}

impl TypedOp for MaxPool {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs", inputs.len());
        self.input.check(&self.runtime, inputs[0], "the input")?;
        Ok(tvec![self.output().fact(&self.runtime)])
    }
}
