//! Pooling. A thousandth of the network's time: portable code that the compiler vectorises.

use super::{Pixel, Storage};

/// Maximum over the taps of a window: `output[i] = max(input[i + tap])`, channel by channel, on a staged plane whose padding is
/// the least stored value.
///
/// # Panics
/// When a tap reads beyond the input.
pub fn max(storage: Storage, input: &[Pixel], taps: &[usize], output: &mut [Pixel]) {
    let flip = match storage {
        Storage::U8 => 0,
        Storage::I8 => 0x80,
    };
    let output = output.as_flattened_mut();
    for (i, &tap) in taps.iter().enumerate() {
        let window = &input[tap..][..output.len() / 4];
        let pairs = output.iter_mut().zip(window.as_flattened());
        if i == 0 {
            pairs.for_each(|(out, &value)| *out = value);
        } else {
            pairs.for_each(|(out, &value)| *out = (*out ^ flip).max(value ^ flip) ^ flip);
        }
    }
}

/// Mean over a plane: `(Σ x − count · z_x) as f32 · (s_x / count)`, rounded twice. Four channels.
pub fn mean(storage: Storage, zero_point: i32, plane: &[Pixel], scale: f32) -> [f32; 4] {
    let mut sums = [0i32; 4];
    for pixel in plane {
        for (sum, &byte) in sums.iter_mut().zip(pixel) {
            *sum += storage.number(byte) - zero_point;
        }
    }
    let multiplier = scale / plane.len() as f32;
    sums.map(|sum| sum as f32 * multiplier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_stored_value_wins() {
        let plane: Vec<Pixel> = [[1, 200, 0, 128], [3, 100, 255, 127], [2, 0, 1, 0]].into();
        let mut out = [[0; 4]; 2];
        max(Storage::U8, &plane, &[0, 1], &mut out);
        assert_eq!(out, [[3, 200, 255, 128], [3, 100, 255, 127]]);
        max(Storage::I8, &plane, &[0, 1], &mut out);
        assert_eq!(out, [[3, 100, 0, 127], [3, 100, 1, 127]]);
    }

    #[test]
    fn means_do_not_depend_on_storage() {
        let plane = [[1, 2, 255, 7], [2, 3, 255, 4]];
        let expected = [-0.75, -0.25, 126.0, 1.25];
        assert_eq!(mean(Storage::U8, 3, &plane, 0.5), expected);
        let flipped = plane.map(|p| p.map(|b| b ^ 0x80));
        assert_eq!(mean(Storage::I8, 3 - 128, &flipped, 0.5), expected);
    }
}
