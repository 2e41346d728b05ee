//! Addition of two tensors, where it could not be made part of a convolution.

use super::*;
use crate::nn::kernels::requant::Residual;

/// `first` rounded to the sum's scale plus `second`: the arithmetic of a convolution's residual, on stored values.
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    picture: Picture,
    zero_point: i32,
    sum: Residual,
    runtime: Shared<Runtime>,
}

impl Add {
    /// Both inputs and the output are `picture`s; `zero_point` is the stored value that means zero in the first input, `sum` has
    /// the scales (`own` for the first input) and the second input's zero point.
    pub fn new(runtime: &Arc<Runtime>, picture: Picture, zero_point: i32, sum: Residual) -> Self {
        Self { picture, zero_point, sum, runtime: Shared(Arc::clone(runtime)) }
    }
}

// No NaN among its floats: lowering checks scales.
impl Eq for Add {}

impl Op for Add {
    fn name(&self) -> StaticName {
        "PawgateAdd".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Add {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        check_inputs(&inputs, &self.runtime, &[self.picture; 2])?;
        let storage = self.runtime.storage();
        output(&self.runtime, &self.picture, |out| {
            let inputs = pixels(&inputs[0]).as_flattened().iter().zip(pixels(&inputs[1]).as_flattened());
            for (out, (&a, &b)) in out.as_flattened_mut().iter_mut().zip(inputs) {
                *out = self.sum.add((storage.number(a) - self.zero_point) as f32, storage.number(b)) as u8;
            }
        })
    }
}

impl TypedOp for Add {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "{} inputs", inputs.len());
        inputs.iter().try_for_each(|input| self.picture.check(&self.runtime, input, "an input"))?;
        Ok(tvec![self.picture.fact(&self.runtime)])
    }
}
