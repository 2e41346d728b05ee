//! The configuration in force while the service runs: a new one replaces it whole, or not at all.

use std::sync::Arc;

use super::{Config, ConfigError};
use crate::individuals::Individuals;
use crate::model::Label;

/// The last good configuration.
#[derive(Debug, Clone)]
pub struct Current {
    config: Arc<Config>,
}

/// What came of reading the file again.
#[derive(Debug, Clone, PartialEq)]
pub struct Reloaded {
    /// The configuration in force from now on.
    pub config: Arc<Config>,
    /// Keys that the file changed and that keep their old values until pawgate starts again.
    pub restart: Vec<&'static str>,
}

impl Current {
    /// Begins with a configuration that has been held against the model and the enrolled animals.
    ///
    /// # Errors
    /// What [`Config::check_against`] reports: a cold start with a broken configuration is refused.
    pub fn start(config: Config, labels: &[Label], individuals: &Individuals) -> Result<Self, ConfigError> {
        config.check_against(labels, individuals)?;
        Ok(Self { config: Arc::new(config) })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.clone()
    }

    /// Takes over the contents of the file when they are good. `labels` are those of the model that runs.
    ///
    /// # Errors
    /// What [`Config::parse`] and [`Config::check_against`] report; the last good configuration stays in force.
    pub fn reload(&mut self, bytes: &[u8], labels: &[Label], individuals: &Individuals) -> Result<Reloaded, ConfigError> {
        let mut config = Config::parse(bytes, self.config.path())?;
        config.check_against(labels, individuals)?;
        let restart = config.keep_until_restart(&self.config);
        self.config = Arc::new(config);
        Ok(Reloaded { config: self.config(), restart })
    }
}

/// Keeps the running value of a setting that cannot change while pawgate runs; whether the file has another.
fn keep<T: Clone + PartialEq>(new: &mut T, running: &T) -> bool {
    let changed = *new != *running;
    if changed {
        *new = running.clone();
    }
    changed
}

impl Config {
    /// Takes from `running` what cannot change while pawgate runs; returns the keys that differ.
    fn keep_until_restart(&mut self, running: &Self) -> Vec<&'static str> {
        let (new, old) = (&mut self.values, &running.values);
        let mut changed = vec![
            ("camera.source", keep(&mut new.camera.source, &old.camera.source)),
            ("camera.size", keep(&mut new.camera.size, &old.camera.size)),
            ("camera.silence or frozen_after", keep(&mut new.camera.limits, &old.camera.limits)),
            ("latch, inputs, motor or display", keep(&mut new.devices, &old.devices)),
            ("journal.folder", keep(&mut new.journal.folder, &old.journal.folder)),
            ("individuals.file", keep(&mut new.individuals.file, &old.individuals.file)),
            ("model.file", keep(&mut new.model, &old.model)),
        ];
        // The latch's guard and `pawgate safe-state` know the one of the start: two opinions about where safe is would be none.
        if let (Some(new), Some(old)) = (&mut new.door, &old.door) {
            changed.push(("door.safe_state", keep(&mut new.safe_state, &old.safe_state)));
        }
        // A device that comes or goes has pins to claim or to release.
        if new.door.is_some() != old.door.is_some() {
            changed.push(("door", keep(&mut new.door, &old.door)));
        }
        if new.feeder.is_some() != old.feeder.is_some() {
            changed.push(("feeder", keep(&mut new.feeder, &old.feeder)));
        }
        changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
    }
}
