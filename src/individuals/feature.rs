//! From an embedding to a direction that can be compared: square root, then each backbone's part to the same length.
//!
//! The square root of non-negative features turns the cosine into the Bhattacharyya coefficient ("Hellinger kernel";
//! Arandjelović and Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012): a few strong
//! channels no longer decide alone. The two backbones have scales of their own, so each part counts half. Pure arithmetic; who
//! is close enough is not decided here.

use super::error::FeatureError;

/// Length of the parts of the fused embedding: ResNet50, then MobileNetV2. An embedding of another length is one part.
const PARTS: [usize; 2] = [2048, 1280];
/// Partial sums of [`similarity`], so that the compiler can keep them in vector registers.
const LANES: usize = 16;

/// Writes the direction of `embedding` to `target` (cleared first): as long, Euclidean length 1.
///
/// # Errors
/// [`FeatureError`] when it has none.
pub fn feature(embedding: &[f32], expected: usize, target: &mut Vec<f32>) -> Result<(), FeatureError> {
    target.clear();
    if embedding.len() != expected || expected == 0 {
        return Err(FeatureError::Length { found: embedding.len(), expected });
    }
    let whole = [embedding.len()];
    let parts: &[usize] = if embedding.len() == PARTS.iter().sum::<usize>() { &PARTS } else { &whole };
    let mut rest = embedding;
    for &length in parts {
        let (part, after) = rest.split_at(length);
        rest = after;
        // The sum of magnitudes is the square of the roots' length.
        let sum: f64 = part.iter().map(|v| f64::from(v.abs())).sum();
        if !sum.is_finite() {
            return Err(FeatureError::NotFinite);
        }
        if sum < f64::from(f32::MIN_POSITIVE) {
            return Err(FeatureError::Zero);
        }
        let scale = (1.0 / (sum * parts.len() as f64)).sqrt() as f32;
        target.extend(part.iter().map(|v| (v.abs().sqrt() * scale).copysign(*v)));
    }
    Ok(())
}

/// Cosine similarity of two directions, −1…1.
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    (sums.iter().sum::<f32>() + rest).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(embedding: &[f32]) -> Result<Vec<f32>, FeatureError> {
        let mut target = vec![9.0];
        feature(embedding, embedding.len(), &mut target).map(|()| target)
    }

    #[test]
    fn a_direction_has_length_one_whatever_the_scale() {
        let small: Vec<f32> = (0..37).map(|i| i as f32 * 0.01).collect();
        let large: Vec<f32> = small.iter().map(|v| v * 300.0).collect();
        let (a, b) = (made(&small).unwrap(), made(&large).unwrap());
        assert!((similarity(&a, &a) - 1.0).abs() < 1e-5 && (similarity(&a, &b) - 1.0).abs() < 1e-5);
        assert!((made(&[4.0, -9.0]).unwrap()[1] + (9.0_f32 / 13.0).sqrt()).abs() < 1e-6, "signs are kept");
    }

    #[test]
    fn each_backbone_counts_half() {
        let mut a = vec![0.0; 3328];
        let mut b = vec![0.0; 3328];
        (a[0], a[2048]) = (1.0, 500.0);
        (b[1], b[2048]) = (700.0, 2.0);
        let likeness = similarity(&made(&a).unwrap(), &made(&b).unwrap());
        assert!((likeness - 0.5).abs() < 1e-6, "{likeness}");
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        assert_eq!(made(&[0.0; 8]), Err(FeatureError::Zero));
        assert_eq!(made(&[1.0, f32::NAN]), Err(FeatureError::NotFinite));
        assert_eq!(made(&[1.0, f32::INFINITY]), Err(FeatureError::NotFinite));
        assert_eq!(made(&[]), Err(FeatureError::Length { found: 0, expected: 0 }));
        let mut one_dead_backbone = vec![1.0; 3328];
        one_dead_backbone[2048..].fill(0.0);
        assert_eq!(made(&one_dead_backbone), Err(FeatureError::Zero));
        assert_eq!(feature(&[1.0], 2, &mut vec![]), Err(FeatureError::Length { found: 1, expected: 2 }));
    }
}
