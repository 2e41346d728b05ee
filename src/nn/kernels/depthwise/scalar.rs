//! Depthwise convolution in portable Rust: the specification.

use super::Run;
use crate::nn::kernels::{Pixel, Storage};

/// See [`super::DepthwiseFn`].
pub(in crate::nn::kernels) fn depthwise<const SIGNED: bool>(run: &Run<'_>, output: &mut [Pixel]) {
    let storage = if SIGNED { Storage::I8 } else { Storage::U8 };
    for (i, pixel) in output.iter_mut().enumerate() {
        for channel in 0..4 {
            let mut sum = run.requant.bias[run.group][channel];
            for (tap, weights) in run.weights.taps().iter().zip(run.weights.group(run.group)) {
                sum += i32::from(weights[channel]) * storage.number(run.input[i + tap][channel]);
            }
            pixel[channel] = run.requant.finish(run.group, channel, sum, None) as u8;
        }
    }
}
