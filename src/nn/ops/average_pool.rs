//! Mean over the whole picture. Leaves the planes and the integers: the output is f32 `[1, channels, 1, 1]`, for the float operators
//! that come after.

use super::*;
use crate::nn::kernels::pool;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalAveragePool {
    input: Picture,
    zero_point: i32,
    scale: f32,
    runtime: Shared<Runtime>,
}

impl GlobalAveragePool {
    /// `zero_point` is the stored value that means zero in the input, `scale` what a step of it is worth.
    pub fn new(runtime: &Arc<Runtime>, input: Picture, zero_point: i32, scale: f32) -> Self {
        Self { input, zero_point, scale, runtime: Shared(Arc::clone(runtime)) }
    }
}

// No NaN among its floats: lowering checks scales.
impl Eq for GlobalAveragePool {}

impl Op for GlobalAveragePool {
    fn name(&self) -> StaticName {
        "PawgateGlobalAveragePool".into()
    }

    op_as_typed_op!();
}

impl EvalOp for GlobalAveragePool {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        check_inputs(&inputs, &self.runtime, &[self.input])?;
        let kernels = self.runtime.kernels();
        let plane = kernels.plane(self.input.pixels());
        let mut means = Vec::with_capacity(self.input.planes() * 4);
        for plane in pixels(&inputs[0]).chunks_exact(plane).take(self.input.planes()) {
            let plane = &plane[..self.input.pixels()];
            means.extend(pool::mean(kernels.storage(), self.zero_point, plane, self.scale));
        }
        means.truncate(self.input.channels);
        Ok(tvec![Tensor::from_shape(&[1, self.input.channels, 1, 1], &means)?.into_tvalue()])
    }
}

impl TypedOp for GlobalAveragePool {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs", inputs.len());
        self.input.check(&self.runtime, inputs[0], "the input")?;
        Ok(tvec![f32::datum_type().fact([1, self.input.channels, 1, 1])])
    }
}
