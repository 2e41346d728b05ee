//! What rounding costs, layer by layer, as `quantize --layers` wrote it: a table, and its part of the report.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::table;
use crate::files::sha256;
use crate::quantize::sensitivity::{Errors, Layer, Sensitivity};
use crate::report::{self, Data};

/// So many layers of a backbone stand in the table.
const SHOWN: usize = 8;

/// What `quantize` measured.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SensitivityArgs {
    /// Show what eight bits cost, layer by layer: what `quantize --sensitivity N --layers FILE` wrote.
    #[arg(long, value_name = "FILE")]
    pub sensitivity: Option<PathBuf>,
}

impl SensitivityArgs {
    /// What the file says, if there is one.
    ///
    /// # Errors
    /// See [`Sensitivity::read`].
    pub fn read(&self) -> anyhow::Result<Option<Sensitivity>> {
        self.sensitivity.as_deref().map(Sensitivity::read).transpose()
    }

    /// The same, where it is about `network`.
    ///
    /// # Errors
    /// As [`Self::read`], and when it was measured on another network.
    pub fn of_network(&self, network: &Path) -> anyhow::Result<Option<Sensitivity>> {
        let read = self.read()?;
        if let (Some(sensitivity), Some(file)) = (&read, &self.sensitivity) {
            ensure!(
                std::fs::read(network).is_ok_and(|bytes| sha256(&bytes) == sensitivity.network_sha256),
                "{} was measured on another network than {}: make it again with `quantize --layers`",
                file.display(),
                network.display()
            );
        }
        Ok(read)
    }
}

/// The table for people: of each backbone the layers that cost it most.
pub fn sensitivity_text(sensitivity: &Sensitivity) -> String {
    let figures = |errors: Errors| {
        [errors.both, errors.weights, errors.activations].map(|error| format!("{:.2}", 100.0 * error)).to_vec()
    };
    let row = |layer: &&Layer| {
        let all = format!("{:.2}", 100.0 * layer.feature_error);
        [vec![format!("  {} ({})", layer.name, layer.operator)], figures(layer.own), vec![all]].concat()
    };
    let rows = sensitivity.backbones.iter().flat_map(|backbone| {
        let whole = [vec![format!("{}, all layers", backbone.name)], figures(backbone.errors), vec!["-".into()]].concat();
        let layers = sensitivity.layers_of(&backbone.name);
        std::iter::once(whole).chain(layers.iter().take(SHOWN).map(row).collect::<Vec<_>>())
    });
    let first = format!("rounded by itself, error in % ({} pictures)", sensitivity.pictures);
    table(&[&first, "of its backbone's features", "weights alone", "activations alone", "of all features"], rows)
}

/// Puts it into a report.
pub fn show_layers(data: &mut Data, sensitivity: &Sensitivity) {
    let layer = |name: &str, backbone: &str, errors: Errors| report::Layer {
        name: name.into(),
        backbone: backbone.into(),
        error: errors.both,
        weights: Some(errors.weights),
        activations: Some(errors.activations),
    };
    let int8 = data.int8.get_or_insert_default();
    int8.error_of = format!(
        "root mean square error of its backbone's features over their root mean square, on {} pictures that were not calibrated on",
        sensitivity.pictures
    );
    int8.backbones = sensitivity.backbones.iter().map(|it| layer(&it.name, &it.name, it.errors)).collect();
    let layers = sensitivity.backbones.iter().flat_map(|backbone| {
        let layers = sensitivity.layers_of(&backbone.name).into_iter();
        layers.map(|it| layer(&it.name, &backbone.name, it.own)).collect::<Vec<_>>()
    });
    int8.layers = layers.collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::sensitivity::Backbone;

    fn sensitivity() -> Sensitivity {
        let errors = |both| Errors { both, weights: both / 4.0, activations: both / 2.0 };
        let layer =
            |name: &str, own| Layer { name: name.into(), operator: "Conv".into(), feature_error: own / 10.0, own: errors(own) };
        Sensitivity {
            network_sha256: sha256(b"network"),
            estimator: "mse".into(),
            equalised: false,
            pictures: 4,
            backbones: vec![
                Backbone { name: "a".into(), errors: errors(0.5) },
                Backbone { name: "b".into(), errors: errors(0.3) },
            ],
            layers: vec![layer("a/1", 0.1), layer("b/1", 0.04), layer("a/2", 0.2)],
        }
    }

    #[test]
    fn the_table_and_the_report_have_each_backbone_with_its_costliest_layers_first() {
        let text = sensitivity_text(&sensitivity());
        let firsts: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(firsts, ["a,", "a/2", "a/1", "b,", "b/1"], "{text}");
        assert!(
            text.lines().any(|line| line.split_whitespace().eq(["a/2", "(Conv)", "20.00", "5.00", "10.00", "2.00"])),
            "{text}"
        );
        let mut data = Data::default();
        show_layers(&mut data, &sensitivity());
        let int8 = data.int8.unwrap();
        let shown: Vec<_> = int8.layers.iter().map(|l| (l.name.as_str(), l.backbone.as_str(), l.error)).collect();
        assert_eq!(shown, [("a/2", "a", 0.2), ("a/1", "a", 0.1), ("b/1", "b", 0.04)]);
        assert_eq!((int8.backbones[1].name.as_str(), int8.backbones[1].weights), ("b", Some(0.075)));
    }

    #[test]
    fn what_was_measured_on_another_network_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("network"), "network").unwrap();
        std::fs::write(path("other"), "other").unwrap();
        std::fs::write(path("layers.json"), serde_json::to_vec(&sensitivity()).unwrap()).unwrap();
        let args = SensitivityArgs { sensitivity: Some(path("layers.json")) };
        assert_eq!(args.of_network(&path("network")).unwrap(), Some(sensitivity()));
        let error = args.of_network(&path("other")).unwrap_err().to_string();
        assert!(error.contains("layers.json") && error.contains("other") && error.contains("--layers"), "{error}");
        assert_eq!(SensitivityArgs::default().of_network(&path("other")).unwrap(), None);
    }
}
