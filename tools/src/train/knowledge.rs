//! What the backbones' own ImageNet classifiers know: which breed it could be, and whether it looks more like a cat or a dog than like
//! any other mammal.
//!
//! They were trained on a million pictures, among them animals that no folder of negatives has. Only the rows of mammals from dogs
//! to primates are used: all others add nothing to the gate, and fewer are too few (measured on the shared pictures).

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use pawgate::model::WeightsOrigin;

use super::linear::Layer;
use crate::graph::fused::{FEATURES, RESNET_FEATURES};
use crate::quantize::weights::{Quantised, quantise};
use crate::weights::Checkpoint;

/// Classes of the ImageNet challenge that are used: dogs, other canids, cats, other carnivores, hoofed and other mammals, primates.
const MAMMALS: RangeInclusive<usize> = 151..=387;
/// Those of them that are domestic dogs and cats.
const PETS: [RangeInclusive<usize>; 2] = [151..=268, 281..=285];

/// Where the features of each backbone stand among the fused ones.
pub const PARTS: [Range<usize>; 2] = [0..RESNET_FEATURES, RESNET_FEATURES..FEATURES];

/// The rows of both classifiers, each over its own backbone's features, the pets first.
#[derive(Debug, Clone, PartialEq)]
pub struct Knowledge([Rows; 2]);

/// Rows of a classifier, rounded to 8 bits: they are most of the head, and a board keeps the model in memory several times while it loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// \[rows, features\], −127…127.
    pub weights: Vec<i8>,
    /// What a step of a row's weights is worth.
    pub scales: Vec<f32>,
    /// What the integers stand for. Everything is fitted to and measured with this.
    pub layer: Layer,
}

impl Rows {
    /// From what [`Self::weights`], [`Self::scales`] and the layer's bias hold; `None` when their lengths do not fit.
    pub fn new(weights: Vec<i8>, scales: Vec<f32>, bias: Vec<f32>) -> Option<Self> {
        let inputs = weights.len().checked_div(scales.len())?;
        if scales.len() != bias.len() || weights.len() != scales.len() * inputs || inputs == 0 {
            return None;
        }
        let rows = weights.chunks_exact(inputs).zip(&scales);
        let weight = rows.flat_map(|(row, scale)| row.iter().map(move |&steps| f32::from(steps) * scale)).collect();
        Some(Self { weights, scales, layer: Layer { weight, bias } })
    }

    /// Rounds a layer.
    fn rounded(layer: Layer) -> Self {
        let Quantised { values, scales, .. } = quantise(&layer.weight, &vec![0.0; layer.bias.len()], 1);
        Self::new(values, scales, layer.bias).expect("a scale a row")
    }
}

/// What is known of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Sum over both classifiers of ln p(cat or dog) − ln p(other mammal), in nats.
    pub log_odds: f32,
    /// Probability of each breed of ImageNet, given that it is one; one list a classifier, each with the sum 1.
    pub breeds: [Vec<f32>; 2],
}

fn is_pet(class: usize) -> bool {
    PETS.iter().any(|range| range.contains(&class))
}

/// How many of the rows are pets.
pub fn pet_count() -> usize {
    MAMMALS.filter(|&class| is_pet(class)).count()
}

impl Knowledge {
    /// Reads the classifiers of the checkpoints that a network was built from, whose `origins` it names.
    ///
    /// # Errors
    /// When a checkpoint cannot be read, is another than the network's, or has no classifier over 1000 classes (or 1001 with the
    /// background first).
    pub fn read(resnet: &Path, mobilenet: &Path, origins: &[WeightsOrigin]) -> anyhow::Result<Self> {
        let layer = |path: &Path, name: &str, part: usize| {
            let layer = rows(path, name, PARTS[part].len(), origins.get(part));
            layer.with_context(|| format!("the ImageNet classifier of {}", path.display()))
        };
        Ok(Self([layer(resnet, "fc", 0)?, layer(mobilenet, "classifier.1", 1)?].map(Rows::rounded)))
    }

    /// From the rows themselves; `None` when they have another shape.
    pub fn from_rows(rows: [Rows; 2]) -> Option<Self> {
        let fits = |(rows, part): (&Rows, Range<usize>)| {
            rows.scales.len() == MAMMALS.count() && rows.weights.len() == rows.scales.len() * part.len()
        };
        rows.iter().zip(PARTS).all(fits).then_some(Self(rows))
    }

    /// The rows of both classifiers.
    pub fn rows(&self) -> &[Rows; 2] {
        &self.0
    }

    /// What is known of a picture with these fused features.
    pub fn of(&self, features: &[f32]) -> Known {
        let pets = pet_count();
        let each = [0, 1].map(|part| {
            let logits = self.0[part].layer.logits(&features[PARTS[part].clone()]);
            let [all_pets, all_others] = [&logits[..pets], &logits[pets..]].map(log_sum_exp);
            (all_pets - all_others, logits[..pets].iter().map(|logit| (logit - all_pets).exp()).collect::<Vec<f32>>())
        });
        let log_odds = each.iter().map(|(odds, _)| odds).sum();
        Known { log_odds, breeds: each.map(|(_, breeds)| breeds) }
    }
}

/// The wanted rows of a checkpoint's classifier `name` over `inputs` features.
fn rows(path: &Path, name: &str, inputs: usize, origin: Option<&WeightsOrigin>) -> anyhow::Result<Layer> {
    let mut checkpoint = Checkpoint::open(path)?;
    let known = origin.is_some_and(|origin| origin.sha256 == checkpoint.origin().sha256);
    ensure!(known, "the network was built from another file: `pawgate-tools build` it from this one");
    let linear = checkpoint.classifier(name, inputs).with_context(|| format!("there is no `{name}`"))?;
    ensure!(linear.weight.shape[1..] == [inputs], "`{name}` does not take {inputs} features");
    let background = match linear.bias.len() {
        1000 => 0,
        1001 => 1,
        other => bail!("`{name}` has {other} classes instead of 1000, or 1001 with the background"),
    };
    let (pets, others): (Vec<usize>, Vec<usize>) = MAMMALS.partition(|&class| is_pet(class));
    let rows: Vec<usize> = pets.into_iter().chain(others).map(|class| class + background).collect();
    let weight = rows.iter().flat_map(|&row| linear.weight.data[row * inputs..][..inputs].iter().copied()).collect();
    Ok(Layer { weight, bias: rows.iter().map(|&row| linear.bias[row]).collect() })
}

/// ln Σ exp, without overflow.
fn log_sum_exp(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tests::safetensors;

    /// A classifier whose logit for a class is the one feature that is not zero, times 1 for pets and −1 for the others.
    fn file(name: &str, classes: usize, inputs: usize) -> tempfile::NamedTempFile {
        let background = classes - 1000;
        let mut weight = vec![0.0; classes * inputs];
        for class in 0..1000 {
            weight[(class + background) * inputs] = if is_pet(class) { 1.0 } else { -1.0 };
        }
        let mut bias = vec![0.0; classes];
        bias[281 + background] = 2.0;
        let [weight_name, bias_name] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let tensors: [(&str, &[usize], &[f32]); 2] =
            [(&weight_name, &[classes, inputs], &weight), (&bias_name, &[classes], &bias)];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), safetensors(&tensors, &[])).unwrap();
        file
    }

    fn origin(file: &tempfile::NamedTempFile) -> WeightsOrigin {
        Checkpoint::open(file.path()).unwrap().origin()
    }

    #[test]
    fn odds_and_breeds_come_from_the_right_rows() {
        let (resnet, mobilenet) = (file("fc", 1000, 2048), file("classifier.1", 1001, 1280));
        let origins = [&resnet, &mobilenet].map(origin);
        let knowledge = Knowledge::read(resnet.path(), mobilenet.path(), &origins).unwrap();
        let mut features = vec![0.0; FEATURES];
        (features[0], features[RESNET_FEATURES]) = (3.0, 0.5);
        let known = knowledge.of(&features);
        let (pets, others) = (122.0 + 2f32.exp(), 114.0);
        let expected = 2.0 * 3.0 + 2.0 * 0.5 + 2.0 * (pets / others as f32).ln();
        assert!((known.log_odds - expected).abs() < 1e-3, "{} {expected}", known.log_odds);
        for breeds in &known.breeds {
            assert!((breeds.len(), (breeds.iter().sum::<f32>() - 1.0).abs() < 1e-4) == (123, true));
            // The tabby cat stands behind the 118 dogs.
            assert!((breeds[118] - 2f32.exp() / pets).abs() < 1e-4 && (breeds[0] - 1.0 / pets).abs() < 1e-4);
        }
    }

    #[test]
    fn rows_are_rounded_to_the_nearest_step() {
        let layer = Layer { weight: vec![0.5, -1.27, 0.004, 0.0, 3e-3, -1e-3], bias: vec![1.0, 2.0] };
        let rows = Rows::rounded(layer.clone());
        assert_eq!(&rows.weights[..3], [50, -127, 0]);
        assert_eq!((rows.weights[4], &rows.layer.bias), (127, &layer.bias));
        for (at, (rounded, exact)) in rows.layer.weight.iter().zip(&layer.weight).enumerate() {
            assert!((rounded - exact).abs() <= 0.5001 * rows.scales[at / 3], "{at}: {rounded} {exact}");
        }
        assert_eq!(Rows::new(rows.weights.clone(), rows.scales.clone(), vec![1.0, 2.0]), Some(rows));
        assert_eq!(Rows::new(vec![1; 5], vec![1.0; 2], vec![0.0; 2]), None);
        assert_eq!(Rows::new(vec![], vec![], vec![]), None);
    }

    #[test]
    fn another_classifier_is_refused() {
        let (resnet, mobilenet) = (file("fc", 1000, 2048), file("fc", 1001, 2048));
        let origins = [&resnet, &mobilenet].map(origin);
        let error =
            |origins: &[WeightsOrigin]| format!("{:#}", Knowledge::read(resnet.path(), mobilenet.path(), origins).unwrap_err());
        assert!(error(&origins).contains("there is no `classifier.1`"), "{}", error(&origins));
        assert!(error(&[origins[1].clone(), origins[1].clone()]).contains("built from another file"));
    }
}
