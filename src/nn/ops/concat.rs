//! Tensors of one scale side by side: along channels (in fours), height or width.

use super::*;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concat {
    inputs: Vec<Picture>,
    output: Picture,
    axis: Axis,
    runtime: Shared<Runtime>,
}

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Channels; all inputs but the last have a multiple of four.
    Channels,
    /// Height.
    Height,
    /// Width.
    Width,
}

impl Concat {
    /// Checks that the inputs fit together.
    ///
    /// # Errors
    /// Names the input that does not fit.
    pub fn new(runtime: &Arc<Runtime>, inputs: Vec<Picture>, axis: Axis) -> TractResult<Self> {
        let mut output = *inputs.first().context("nothing to join")?;
        for (i, next) in inputs.iter().enumerate().skip(1) {
            let same = match axis {
                Axis::Channels => output.size == next.size && output.channels % 4 == 0,
                Axis::Height => output.size[1] == next.size[1] && output.channels == next.channels,
                Axis::Width => output.size[0] == next.size[0] && output.channels == next.channels,
            };
            ensure!(same, "input {i} ({next:?}) cannot be joined to {output:?} along {axis:?}");
            match axis {
                Axis::Channels => output.channels += next.channels,
                Axis::Height => output.size[0] += next.size[0],
                Axis::Width => output.size[1] += next.size[1],
            }
        }
        Ok(Self { inputs, output, axis, runtime: Shared(Arc::clone(runtime)) })
    }

    /// Shape of the output.
    pub fn output(&self) -> Picture {
        self.output
    }
}

impl Op for Concat {
    fn name(&self) -> StaticName {
        "PawgateConcat".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Concat {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        check_inputs(&inputs, &self.runtime, &self.inputs)?;
        let kernels = self.runtime.kernels();
        let plane = kernels.plane(self.output.pixels());
        let [_, width] = self.output.size;
        output(&self.runtime, &self.output, |out| {
            let (mut first_plane, mut top, mut left) = (0, 0, 0);
            for (tensor, picture) in inputs.iter().zip(&self.inputs) {
                let [height, columns] = picture.size;
                let sources = pixels(tensor).chunks_exact(kernels.plane(picture.pixels()));
                for (source, out) in sources.zip(out[first_plane * plane..].chunks_exact_mut(plane)) {
                    for (y, row) in source.chunks_exact(columns).take(height).enumerate() {
                        out[(top + y) * width + left..][..columns].copy_from_slice(row);
                    }
                }
                match self.axis {
                    Axis::Channels => first_plane += picture.planes(),
                    Axis::Height => top += height,
                    Axis::Width => left += columns,
                }
            }
        })
    }
}

impl TypedOp for Concat {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == self.inputs.len(), "{} inputs", inputs.len());
        self.inputs.iter().zip(inputs).try_for_each(|(picture, fact)| picture.check(&self.runtime, fact, "an input"))?;
        Ok(tvec![self.output.fact(&self.runtime)])
    }
}
