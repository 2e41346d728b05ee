//! Fully connected layer with 8-bit weights on floats: what a head over pooled features needs. A hundredth of the network's time:
//! portable code that the compiler vectorises.

/// Products that are added side by side. Their sums are added in a fixed order and nothing is fused, so that every platform gets the same bits.
const LANES: usize = 16;

/// `scale · Σ weights[i] · input[i] + bias`, for one output.
///
/// # Panics
/// When weights and input are not of the same length.
pub fn row(weights: &[i8], scale: f32, bias: f32, input: &[f32]) -> f32 {
    assert_eq!(weights.len(), input.len(), "a weight for each value");
    let (weights, last_weights) = weights.as_chunks::<LANES>();
    let (input, last_input) = input.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (weights, input) in weights.iter().zip(input) {
        for lane in 0..LANES {
            sums[lane] += f32::from(weights[lane]) * input[lane];
        }
    }
    for (lane, (weight, input)) in last_weights.iter().zip(last_input).enumerate() {
        sums[lane] += f32::from(*weight) * input;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    scale * sums[0] + bias
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_counts_once() {
        for length in 0..70 {
            let weights: Vec<i8> = (0..length).map(|i| (i * 37 % 255 - 127) as i8).collect();
            let input: Vec<f32> = (0..length).map(|i| (i * 11 % 17) as f32 - 8.0).collect();
            // Small integers: exact in f32, in whatever order.
            let sum: i32 = weights.iter().zip(&input).map(|(&w, &x)| i32::from(w) * x as i32).sum();
            assert_eq!(row(&weights, 0.5, 3.0, &input), sum as f32 * 0.5 + 3.0, "{length}");
        }
    }
}
