//! Convolution in portable Rust: the specification.

use super::{DenseOrder, Form, Packing, Pairs, Run};
use crate::nn::kernels::{Pixel, Storage};

/// Streams whatever has zeros, so that both forms are specified.
pub(in crate::nn::kernels) const PACKING: Packing =
    Packing { dense: Some(DenseOrder::Groups), pairs: Pairs::Wide, sparse_below: [0.75, 0.75] };

/// The product sum of four weights and four channels of a pixel.
fn dot<const SIGNED: bool>(weights: [i8; 4], pixel: Pixel) -> i32 {
    let storage = if SIGNED { Storage::I8 } else { Storage::U8 };
    (0..4).map(|k| i32::from(weights[k]) * storage.number(pixel[k])).sum()
}

fn sum<const SIGNED: bool>(run: &Run<'_>, channel: usize, at: usize) -> i32 {
    let mut sum = run.requant.bias[run.group][channel];
    match run.weights.form() {
        Form::Dense { weights, taps, planes, plane, .. } => {
            for (t, tap) in taps.iter().enumerate() {
                for p in 0..*planes {
                    let block = weights[((run.group * taps.len() + t) * planes + p) * 4 + channel];
                    sum += dot::<SIGNED>(block, run.input[at + p * plane + tap]);
                }
            }
        }
        Form::Stream(stream) => {
            for list in stream.lists(run.group * 4 + channel) {
                let mut position = at;
                for (delta, block) in list.iter().flat_map(|quad| quad.deltas.into_iter().zip(quad.weights)) {
                    position += usize::from(delta);
                    sum += dot::<SIGNED>(block, run.input[position]);
                }
            }
        }
    }
    sum
}

/// See [`super::ConvFn`].
pub(in crate::nn::kernels) fn conv<const SIGNED: bool>(run: &Run<'_>, output: &mut [Pixel]) {
    let storage = if SIGNED { Storage::I8 } else { Storage::U8 };
    for (i, pixel) in output.iter_mut().enumerate() {
        for channel in 0..4 {
            let sum = sum::<SIGNED>(run, channel, run.first + i);
            let other = run.residual.map(|r| storage.number(r[i][channel]));
            pixel[channel] = run.requant.finish(run.group, channel, sum, other) as u8;
        }
    }
}
