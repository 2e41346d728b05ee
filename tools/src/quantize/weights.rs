//! Weights to signed 8-bit, symmetric, one scale an output channel.

/// Largest magnitude. −128 is left out: two products of −128 · −128 overflow a 16-bit pair sum on some instruction sets.
const LIMIT: f32 = 127.0;
/// Exponents tried when looking for a power-of-two scale.
const EXPONENTS: std::ops::RangeInclusive<i32> = -4..=24;

/// A convolution's weights in 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    /// In the layout of the floats; −127…127.
    pub values: Vec<i8>,
    /// One an output channel; positive.
    pub scales: Vec<f32>,
    /// Channels that are reproduced exactly.
    pub exact_channels: usize,
}

/// Quantises `weight`; its outermost dimension is the output channels, one a value of `least_scales`.
///
/// A channel's scale is never below its least scale: the bias is stored in steps of it, and a channel that training left
/// with weights of 1e-20 would make those steps too small for 32 bits. Its weights then become zero, which they are.
///
/// `plane` values in a row belong to one spatial kernel (1 for 1×1). Neighbouring pixels are nearly equal, so what matters of
/// a kernel's rounding errors is their sum: it is kept below one step by rounding single values the other way. On the
/// depthwise layers of MobileNetV2 that removes a third of the error that is left after bias correction.
///
/// A channel whose values are all multiples of a power of two within the limit gets that power as its scale and loses
/// nothing. Any other channel gets the better of largest value / 127 and, where its values are such multiples but reach −128,
/// the power of two with that value clamped.
pub fn quantise(weight: &[f32], least_scales: &[f32], plane: usize) -> Quantised {
    let per_channel = weight.len() / least_scales.len();
    let mut out = Quantised { values: Vec::with_capacity(weight.len()), scales: Vec::new(), exact_channels: 0 };
    for (channel, &least) in weight.chunks_exact(per_channel).zip(least_scales) {
        let scale = scale_of(channel).max(least);
        out.exact_channels += usize::from(squared_error(channel, scale) == 0.0);
        out.values.extend(channel.chunks_exact(plane).flat_map(|kernel| round_keeping_the_sum(kernel, scale)));
        out.scales.push(scale);
    }
    replace_scales_of_empty_channels(&mut out, weight, per_channel);
    out
}

impl Quantised {
    /// Other integers in the same steps, for the floats `weight`.
    pub fn take(&mut self, values: &[i8], weight: &[f32]) {
        let per_channel = weight.len() / self.scales.len();
        self.values.copy_from_slice(values);
        let channels = values.chunks_exact(per_channel).zip(weight.chunks_exact(per_channel)).zip(&self.scales);
        let is_exact = |((values, floats), scale): &((&[i8], &[f32]), &f32)| {
            values.iter().zip(*floats).all(|(&v, &w)| f32::from(v) * **scale == w)
        };
        self.exact_channels = channels.filter(is_exact).count();
    }
}

fn step(weight: f32, scale: f32) -> f32 {
    (weight / scale).round_ties_even().clamp(-LIMIT, LIMIT)
}

fn round_keeping_the_sum(kernel: &[f32], scale: f32) -> Vec<i8> {
    let mut steps: Vec<f32> = kernel.iter().map(|&w| step(w, scale)).collect();
    for _ in 0..kernel.len() {
        let errors: Vec<f32> = steps.iter().zip(kernel).map(|(q, w)| q - w / scale).collect();
        let sum: f32 = errors.iter().sum();
        if sum.abs() <= 0.5 {
            break;
        }
        // The value whose rounding went furthest in the direction of the sum is the cheapest to round the other way.
        let furthest = (0..errors.len()).max_by(|&a, &b| (errors[a] * sum).total_cmp(&(errors[b] * sum)));
        let Some(at) = furthest.filter(|&at| (steps[at] - sum.signum()).abs() <= LIMIT) else { break };
        steps[at] -= sum.signum();
    }
    steps.into_iter().map(|q| q as i8).collect()
}

fn squared_error(channel: &[f32], scale: f32) -> f64 {
    channel.iter().map(|&w| f64::from(w - step(w, scale) * scale).powi(2)).sum()
}

fn scale_of(channel: &[f32]) -> f32 {
    let largest = channel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let plain = largest / LIMIT;
    // The coarsest grid that holds every value; one step beyond the limit (−128) is let in and judged by its error.
    let is_on = |scale: f32| channel.iter().all(|&w| (w / scale).fract() == 0.0) && largest / scale <= LIMIT + 1.0;
    match EXPONENTS.map(|p| (-p as f32).exp2()).find(|&scale| is_on(scale)) {
        Some(grid) if squared_error(channel, grid) <= squared_error(channel, plain) => grid,
        _ => plain,
    }
}

/// A channel of zeros has no scale of its own, but its bias is stored in steps of it: give it the tensor's largest.
fn replace_scales_of_empty_channels(out: &mut Quantised, weight: &[f32], per_channel: usize) {
    let largest = out.scales.iter().copied().fold(0.0f32, f32::max);
    let substitute = if largest > 0.0 { largest } else { 1.0 };
    for (scale, channel) in out.scales.iter_mut().zip(weight.chunks_exact(per_channel)) {
        if *scale == 0.0 {
            *scale = substitute;
            out.exact_channels += usize::from(channel.iter().all(|w| *w == 0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_of_a_power_of_two_are_exact() {
        let quantised = quantise(&[3.0 / 64.0, -127.0 / 64.0, 0.0, 0.5, 0.25, -1.0], &[0.0; 2], 1);
        assert_eq!(quantised.scales, [1.0 / 64.0, 0.25]);
        assert_eq!(quantised.values, [3, -127, 0, 2, 1, -4]);
        assert_eq!(quantised.exact_channels, 2);
    }

    #[test]
    fn minus_128_is_never_written() {
        // Clamping the one −128 costs less than moving every other value off its grid.
        let mut channel = vec![-128.0 / 256.0];
        channel.extend((1..100).map(|i| i as f32 / 256.0));
        let quantised = quantise(&channel, &[0.0], 1);
        assert_eq!((quantised.scales[0], quantised.values[0], quantised.values[50]), (1.0 / 256.0, -127, 50));
        assert_eq!(quantised.exact_channels, 0);
    }

    #[test]
    fn other_weights_use_the_whole_range() {
        let quantised = quantise(&[0.1, -0.3, 0.299, 0.0, 0.0, 0.0], &[0.0; 2], 1);
        assert_eq!(quantised.values, [42, -127, 127, 0, 0, 0]);
        assert_eq!(quantised.scales[1], quantised.scales[0], "an empty channel borrows a scale");
    }

    #[test]
    fn a_kernels_rounding_errors_cancel() {
        // Steps of 0.01: every small value would be rounded down by 0.4 of a step.
        let kernel = [1.27, 0.014, 0.014, 0.014, 0.014];
        let by_plane = quantise(&kernel, &[0.0], 5);
        assert_eq!(by_plane.values.iter().map(|&v| i32::from(v)).sum::<i32>(), 127 + 6, "{by_plane:?}");
        assert_eq!(quantise(&kernel, &[0.0], 1).values, [127, 1, 1, 1, 1]);
    }

    #[test]
    fn a_dead_channel_does_not_shrink_the_steps_of_its_bias() {
        let quantised = quantise(&[1e-20, -3e-20, 0.5, 0.25], &[1e-6, 1e-6], 1);
        assert_eq!((quantised.scales[0], &quantised.values[..2]), (1e-6, &[0, 0][..]));
        assert_eq!(quantised.scales[1], 0.25, "other channels are not affected");
    }
}
