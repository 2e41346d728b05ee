//! The shipped model's outputs on the sample pictures, against the file that was written when the model was made.
//!
//! Write it anew (only with a new model): `cargo run --release -- classify --json --logits tests/golden/samples.safetensors
//! samples/cat.jpg samples/raccoon.jpg samples/coffee.jpg samples/person.jpg`
#![cfg(feature = "embedded-model")]

use pawgate::model::Classifier;
use pawgate::nn::Options;
use pawgate::samples::SAMPLES;
use pawgate::vision;

/// The features are integers times a scale, the same on every CPU. The head is float: its sums differ in their last bits.
const TOLERANCE: f32 = 1e-3;

#[test]
fn logits_are_those_of_the_day_the_model_was_made() {
    let golden = include_bytes!("golden/samples.safetensors");
    let golden = safetensors::SafeTensors::deserialize(golden).unwrap();
    let rows = |name: &str| -> Vec<f32> {
        golden.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let (breed, pet, embedding) = (rows("breed"), rows("pet"), rows("embedding"));
    let classifier = Classifier::embedded(Options::default()).unwrap();
    let classes = classifier.metadata().labels.len();
    for (i, sample) in SAMPLES.iter().enumerate() {
        let scores = classifier.infer(&vision::decode(sample.jpeg).unwrap()).unwrap();
        let difference = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let worst = difference(&scores.breed, &breed[i * classes..][..classes]).max(difference(&[scores.pet], &pet[i..=i]));
        assert!(worst < TOLERANCE, "{}: differs by {worst}", sample.name);
        let width = scores.embedding.len();
        assert!(scores.embedding == embedding[i * width..][..width], "{}: other features", sample.name);
    }
}
