//! Mean over the whole picture, requantised. Leaves the planes: the output is u8 `[1, channels, 1, 1]`, as in the ONNX file,
//! for the float operators that come after.

use super::*;
use crate::nn::kernels::pool;
use crate::nn::kernels::requant::Range;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalAveragePool {
    input: Picture,
    zero_point: i32,
    multiplier: f32,
    range: Range,
    runtime: Shared<Runtime>,
}

impl GlobalAveragePool {
    /// `zero_point` is the stored value that means zero in the input, `multiplier` is `s_x / (s_y · pixels)`, and `range` that of
    /// the output, whose zero point is the file's (u8).
    pub fn new(runtime: &Arc<Runtime>, input: Picture, zero_point: i32, multiplier: f32, range: Range) -> Self {
        Self { input, zero_point, multiplier, range, runtime: Shared(Arc::clone(runtime)) }
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
        let mut tensor = self.runtime.tensor(u8::datum_type(), &[1, self.input.channels, 1, 1])?;
        let own = Arc::get_mut(&mut tensor).context("the tensor was free")?.as_bytes_mut();
        for (out, plane) in own.chunks_mut(4).zip(pixels(&inputs[0]).chunks_exact(plane)) {
            let plane = &plane[..self.input.pixels()];
            let means = pool::mean(kernels.storage(), self.zero_point, plane, self.multiplier, &self.range);
            out.iter_mut().zip(means).for_each(|(out, mean)| *out = mean as u8);
        }
        self.runtime.recycle(&tensor);
        Ok(tvec![tensor.into_tvalue()])
    }
}

impl TypedOp for GlobalAveragePool {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs", inputs.len());
        self.input.check(&self.runtime, inputs[0], "the input")?;
        Ok(tvec![u8::datum_type().fact([1, self.input.channels, 1, 1])])
    }
}
