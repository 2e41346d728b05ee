//! A trained head as one safetensors file: the tensors of its layers, and its record as JSON in the header.

use std::path::Path;

use anyhow::{Context, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::best::BestHead;
use super::discriminant::transform;
use super::knowledge::{Knowledge, Rows};
use super::linear::Layer;
use super::{HeadRecord, Layers, Method, TrainedHead};
use crate::files::write_whole;
use crate::graph::fused::{FEATURES, RESNET_FEATURES};

/// Key of the record.
const RECORD_KEY: &str = "pawgate.head";
/// Names of the layers over each backbone's features.
pub const KNOWLEDGE: [&str; 2] = ["resnet50/mammals", "mobilenet_v2/mammals"];

impl TrainedHead {
    /// Writes layers and record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let floats = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let layer = |name: &str, layer: &Layer| {
            let outputs = layer.bias.len();
            vec![
                (format!("{name}.weight"), Dtype::F32, vec![outputs, layer.inputs()], floats(&layer.weight)),
                (format!("{name}.bias"), Dtype::F32, vec![outputs], floats(&layer.bias)),
            ]
        };
        let rows = |name: &str, rows: &Rows| {
            let count = rows.scales.len();
            let weights = rows.weights.iter().map(|&w| w as u8).collect();
            vec![
                (format!("{name}.weight"), Dtype::I8, vec![count, rows.layer.inputs()], weights),
                (format!("{name}.scale"), Dtype::F32, vec![count], floats(&rows.scales)),
                (format!("{name}.bias"), Dtype::F32, vec![count], floats(&rows.layer.bias)),
            ]
        };
        let tensors = match &self.layers {
            Layers::Linear { breed, pet } => [layer("breed", breed), layer("pet", pet)].concat(),
            Layers::Best(best) => {
                let [resnet, mobilenet] = best.knowledge.rows();
                [
                    layer("breed", &best.breed),
                    layer("fit", &best.fit),
                    rows(KNOWLEDGE[0], resnet),
                    rows(KNOWLEDGE[1], mobilenet),
                ]
                .concat()
            }
        };
        let views = tensors
            .iter()
            .map(|(name, data_type, shape, raw)| Ok((name.as_str(), TensorView::new(*data_type, shape.clone(), raw)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let record = [(RECORD_KEY.to_owned(), serde_json::to_string(&self.record)?)].into();
        write_whole(path, &safetensors::serialize(views, Some(record))?)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When the file is no trained head or its shapes contradict its record.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the head {}", path.display()))?;
        Self::from_bytes(&bytes).with_context(|| {
            format!("{} is no head that this version's `pawgate-tools train` wrote: train it again", path.display())
        })
    }

    fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let record = header.metadata().as_ref().and_then(|m| m.get(RECORD_KEY)).context("there is no record")?;
        let record: HeadRecord = serde_json::from_str(record)?;
        let file = SafeTensors::deserialize(bytes)?;
        let data = |name: String, data_type: Dtype| -> anyhow::Result<Vec<u8>> {
            let view = file.tensor(&name)?;
            ensure!(view.dtype() == data_type, "`{name}` is not {data_type:?}");
            Ok(view.data().to_vec())
        };
        let values = |name: String| -> anyhow::Result<Vec<f32>> {
            Ok(data(name, Dtype::F32)?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let rows = |name: &str| -> anyhow::Result<Rows> {
            let weights = data(format!("{name}.weight"), Dtype::I8)?.into_iter().map(|b| b as i8).collect();
            let rows = Rows::new(weights, values(format!("{name}.scale"))?, values(format!("{name}.bias"))?);
            rows.with_context(|| format!("`{name}` has the wrong shape"))
        };
        let layer = |name: &str, outputs: usize, inputs: usize| -> anyhow::Result<Layer> {
            let layer = Layer { weight: values(format!("{name}.weight"))?, bias: values(format!("{name}.bias"))? };
            let fits = layer.weight.len() == outputs * inputs && layer.bias.len() == outputs;
            ensure!(fits, "`{name}` has the wrong shape");
            Ok(layer)
        };
        let classes = record.labels.len();
        let layers = match record.method {
            Method::Paper { .. } => {
                Layers::Linear { breed: layer("breed", classes, FEATURES)?, pet: layer("pet", 1, FEATURES)? }
            }
            Method::Best { odds, ref conditions, .. } => {
                let knowledge =
                    Knowledge::from_rows([rows(KNOWLEDGE[0])?, rows(KNOWLEDGE[1])?]).context("other classes of ImageNet")?;
                let inputs = transform(&[0.0; FEATURES], RESNET_FEATURES, Some(&knowledge)).len();
                let parts = classes * (1 + conditions.len());
                let [breed, fit] = [("breed", parts), ("fit", classes)].map(|(name, outputs)| layer(name, outputs, inputs));
                Layers::Best(Box::new(BestHead { breed: breed?, fit: fit?, knowledge, odds }))
            }
        };
        Ok(Self { layers, record })
    }
}

#[cfg(test)]
mod tests {
    use pawgate::model::{Gate, Label, Species};
    use pawgate::vision::{Preprocess, ResizeRule};

    use super::*;
    use crate::conditions::Condition;
    use crate::train::TrainingRecord;
    use crate::train::odds::Odds;

    fn head() -> TrainedHead {
        let layer = |outputs: usize, inputs: usize| Layer {
            weight: (0..outputs * inputs).map(|i| (i % 97) as f32 / 31.0).collect(),
            bias: (0..outputs).map(|i| i as f32 - 1.5).collect(),
        };
        let rows = |inputs: usize| {
            let weights = (0..237 * inputs).map(|i| (i % 255) as u8 as i8).map(|w| w.max(-127)).collect();
            Rows::new(weights, (1..=237).map(|i| 1.0 / i as f32).collect(), vec![0.5; 237])
        };
        let knowledge = Knowledge::from_rows([rows(2048).unwrap(), rows(1280).unwrap()]).unwrap();
        let odds = Odds { a: 0.1 + 0.2, b: -1.0 / 3.0, c: 1e-9 };
        let label = |name: &str| Label { name: name.into(), species: Species::Cat };
        let record = HeadRecord {
            labels: vec![label("Minka"), label("Mohrle")],
            preprocess: Preprocess::imagenet(ResizeRule::Plain),
            breed_temperature: 57.3,
            pet_temperature: 0.9,
            gate: Gate { accept: 0.5, reject: 0.1, pets_accepted: 0.98, negatives_accepted: 0.01, chosen_by: "test".into() },
            network_sha256: "00".into(),
            method: Method::Best { seed: 1, shrinkage: 0.9, conditions: vec![Condition::Dim], odds },
            training: TrainingRecord {
                pets: 40,
                pets_missing: 0,
                negatives: 9,
                broken: 0,
                near_duplicates: 0,
                cross_validated_top1: 0.97,
            },
        };
        TrainedHead {
            layers: Layers::Best(Box::new(BestHead {
                knowledge,
                breed: layer(4, FEATURES + 246),
                fit: layer(2, FEATURES + 246),
                odds,
            })),
            record,
        }
    }

    #[test]
    fn a_head_comes_back_bit_for_bit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let head = head();
        head.save(file.path()).unwrap();
        assert_eq!(TrainedHead::load(file.path()).unwrap(), head);
    }

    #[test]
    fn what_contradicts_its_record_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut head = head();
        head.record.labels.pop();
        head.save(file.path()).unwrap();
        let error = format!("{:#}", TrainedHead::load(file.path()).unwrap_err());
        assert!(error.contains("train it again") && error.contains("`breed` has the wrong shape"), "{error}");
    }
}
