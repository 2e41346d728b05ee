//! Fully connected layer with 8-bit weights, one scale an output, on floats `[1, inputs]`.
//!
//! tract would fold such weights into floats and pack those again: eight times the memory.

use super::*;
use crate::nn::kernels::linear;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear(Shared<Layer>);

#[derive(Debug, PartialEq)]
struct Layer {
    /// `[outputs][inputs]`.
    weights: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Linear {
    /// From `weights`, `[outputs][inputs]`, and a scale and a bias for each output.
    ///
    /// # Errors
    /// When the lengths do not fit together.
    pub fn new(weights: Vec<i8>, scales: Vec<f32>, bias: Vec<f32>) -> TractResult<Self> {
        let outputs = scales.len();
        ensure!(outputs > 0 && bias.len() == outputs, "{outputs} scales and {} biases", bias.len());
        let inputs = weights.len() / outputs;
        ensure!(inputs > 0 && weights.len() == inputs * outputs, "{} weights for {outputs} outputs", weights.len());
        Ok(Self(Shared(Arc::new(Layer { weights, scales, bias, inputs }))))
    }

    /// How many values it makes.
    pub fn outputs(&self) -> usize {
        self.0.scales.len()
    }
}

// No NaN among its floats: lowering checks scales.
impl Eq for Linear {}

impl Op for Linear {
    fn name(&self) -> StaticName {
        "PawgateLinear".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Linear {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let layer = &*self.0;
        let input = inputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        ensure!(input.len() == layer.inputs, "{} values instead of {}", input.len(), layer.inputs);
        let rows = layer.weights.chunks_exact(layer.inputs).zip(layer.scales.iter().zip(&layer.bias));
        let outputs: Vec<f32> = rows.map(|(row, (&scale, &bias))| linear::row(row, scale, bias, input)).collect();
        Ok(tvec![Tensor::from_shape(&[1, outputs.len()], &outputs)?.into_tvalue()])
    }
}

impl TypedOp for Linear {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs", inputs.len());
        let expected = f32::datum_type().fact([1, self.0.inputs]);
        let same = inputs[0].datum_type == expected.datum_type && inputs[0].shape == expected.shape;
        ensure!(same, "the input is {:?} instead of {expected:?}", inputs[0]);
        Ok(tvec![f32::datum_type().fact([1, self.0.scales.len()])])
    }

    fn cost(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![(Cost::FMA(f32::datum_type()), self.0.weights.len().into())])
    }
}
