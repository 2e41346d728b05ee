//! The integer operators, as ordinary operators of tract: facts, working memory, choice of variant; the arithmetic is in
//! [`super::kernels`].
//!
//! Tensors between them are `[planes, pixels, 4]`, u8 or i8 as the kernels store them ([`super::kernels`] explains the layout);
//! only [`average_pool`] leaves it, for the floats of the head ([`linear`]). An operator does not know names or scales of an ONNX file ([`super::lower`] does).

pub mod add;
pub mod average_pool;
pub mod concat;
pub mod conv;
pub mod depthwise;
pub mod linear;
pub mod max_pool;

use std::sync::Arc;

use tract_core::internal::*;

use super::kernels::Pixel;
use super::runtime::Runtime;

/// Height, width and channels of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Picture {
    /// Channels; a multiple of four is what is stored.
    pub channels: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
}

impl Picture {
    /// Planes of four channels.
    pub fn planes(&self) -> usize {
        self.channels.div_ceil(4)
    }

    /// Pixels of one plane that mean something.
    pub fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Shape of the tensor for the kernels of `runtime`.
    pub(super) fn shape(&self, runtime: &Runtime) -> [usize; 3] {
        [self.planes(), runtime.kernels().plane(self.pixels()), 4]
    }

    /// The tensor's fact.
    pub(super) fn fact(&self, runtime: &Runtime) -> TypedFact {
        runtime.datum_type().fact(self.shape(runtime))
    }

    /// Checks that `fact` is such a tensor.
    fn check(&self, runtime: &Runtime, fact: &TypedFact, what: &str) -> TractResult<()> {
        let expected = self.fact(runtime);
        ensure!(
            fact.datum_type == expected.datum_type && fact.shape == expected.shape,
            "{what} is {fact:?} instead of {expected:?} ({self:?})"
        );
        Ok(())
    }
}

/// A tensor's pixels.
fn pixels(tensor: &Tensor) -> &[Pixel] {
    tensor.as_bytes().as_chunks::<4>().0
}

/// Gives `write` the pixels of an output tensor.
pub(super) fn output(runtime: &Runtime, picture: &Picture, write: impl FnOnce(&mut [Pixel])) -> TractResult<TVec<TValue>> {
    let mut tensor = runtime.tensor(runtime.datum_type(), &picture.shape(runtime))?;
    let own = Arc::get_mut(&mut tensor).context("the tensor was free")?;
    write(own.as_bytes_mut().as_chunks_mut::<4>().0);
    runtime.recycle(&tensor);
    Ok(tvec![tensor.into_tvalue()])
}

/// Checks the tensors that an evaluation gets: the kernels count on their sizes.
fn check_inputs(inputs: &[TValue], runtime: &Runtime, pictures: &[Picture]) -> TractResult<()> {
    ensure!(inputs.len() == pictures.len(), "{} inputs instead of {}", inputs.len(), pictures.len());
    for (input, picture) in inputs.iter().zip(pictures) {
        ensure!(
            input.datum_type() == runtime.datum_type() && input.shape() == picture.shape(runtime),
            "the input is {:?} {:?}, not {picture:?}",
            input.datum_type(),
            input.shape()
        );
    }
    Ok(())
}

/// Equality by identity, for parts of operators that are made once and shared.
#[derive(Debug)]
pub(super) struct Shared<T>(pub(super) Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Shared<T> {}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
