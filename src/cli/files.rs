//! For subcommands that need one part of the configuration, and for machines without one: which file of enrolled animals, which
//! journal. What is named on the command line comes first, then the configuration, then the built-in defaults.

use std::path::{Path, PathBuf};

use super::setup::refuse;
use super::{Failure, ModelArgs};
use crate::config::{self, Config};
use crate::individuals;
use crate::journal::DEFAULT_FOLDER;

/// Which configuration, where a subcommand can do without.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration; without it /etc/pawgate/config.toml, and where that is missing the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// None where there is no configuration. One that was named must exist, and one that is there must be right.
    pub(super) fn read(&self) -> Result<Option<Config>, Failure> {
        self.read_or(Path::new(config::DEFAULT_PATH))
    }

    fn read_or(&self, default: &Path) -> Result<Option<Config>, Failure> {
        let path = match &self.config {
            Some(path) => path,
            // What cannot be looked at is read all the same, so that the error says why.
            None if !default.try_exists().unwrap_or(true) => return Ok(None),
            None => default,
        };
        Config::read(path).map(Some).map_err(refuse)
    }
}

/// Which file of enrolled animals.
#[derive(Debug, clap::Args)]
pub(super) struct IndividualsArgs {
    /// The file of enrolled animals, instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl IndividualsArgs {
    /// The file, what animals in it must have shown, and the configured model unless the command line names one.
    pub(super) fn read(&self, model: &ModelArgs) -> Result<(individuals::Settings, ModelArgs), Failure> {
        let config = self.config.read()?;
        let mut settings = config.as_ref().map(|config| config.individuals().clone()).unwrap_or_default();
        if let Some(file) = &self.file {
            settings.file.clone_from(file);
        }
        Ok((settings, model.or(config.as_ref().and_then(Config::model))))
    }

    /// The file alone.
    pub(super) fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        Ok(self.config.read()?.map_or_else(individuals::Settings::default, |config| config.individuals().clone()).file)
    }
}

/// Which journal.
#[derive(Debug, clap::Args)]
pub(super) struct JournalArgs {
    /// The journal's folder, instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl JournalArgs {
    /// The journal's folder. A configuration is not looked at when the command line names the folder.
    pub(super) fn folder(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.journal {
            return Ok(folder.clone());
        }
        Ok(self.config.read()?.map_or_else(|| DEFAULT_FOLDER.into(), |config| config.journal().folder.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Exit;
    use super::*;

    const GOOD: &str = "[camera]\nsource = \"p\"\n[door]\n[individuals]\nfile = \"pets\"\nmin_pictures = 20\n\
                        [journal]\nfolder = \"log\"\n[model]\nfile = \"m.onnx\"\n";

    #[test]
    fn the_default_configuration_is_read_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let (default, named) = (folder.path().join("config.toml"), folder.path().join("named.toml"));
        let nothing = ConfigArgs { config: None };
        let other = ConfigArgs { config: Some(named.clone()) };
        assert_eq!(nothing.read_or(&default).unwrap(), None);
        assert_eq!(other.read_or(&default).unwrap_err().exit, Exit::Config, "a file that was named must exist");
        std::fs::write(&default, GOOD).unwrap();
        assert_eq!(nothing.read_or(&default).unwrap().unwrap().individuals().min_pictures, 20);
        std::fs::write(&named, GOOD.replace("20", "30")).unwrap();
        assert_eq!(other.read_or(&default).unwrap().unwrap().individuals().min_pictures, 30, "the named one comes first");
        std::fs::write(&default, "nonsense").unwrap();
        assert_eq!(nothing.read_or(&default).unwrap_err().exit, Exit::Config, "the defaults do not hide a broken file");
    }

    #[test]
    fn the_command_line_comes_before_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, GOOD).unwrap();
        let config = || ConfigArgs { config: Some(path.clone()) };
        let individuals = |file: Option<&str>| IndividualsArgs { file: file.map(Into::into), config: config() };
        let journal = |folder: Option<&str>| JournalArgs { journal: folder.map(Into::into), config: config() };
        let model = |model: Option<&str>| ModelArgs { model: model.map(Into::into) };

        let (settings, chosen) = individuals(None).read(&model(None)).unwrap();
        assert_eq!((settings.file, settings.min_pictures), (folder.path().join("pets"), 20));
        assert_eq!(chosen.model, Some(folder.path().join("m.onnx")));
        let (settings, chosen) = individuals(Some("mine")).read(&model(Some("n.onnx"))).unwrap();
        assert_eq!((settings.file, settings.min_pictures), ("mine".into(), 20));
        assert_eq!(chosen.model, Some("n.onnx".into()));
        assert_eq!(individuals(None).file().unwrap(), folder.path().join("pets"));
        assert_eq!(journal(None).folder().unwrap(), folder.path().join("log"));

        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(journal(Some("there")).folder().unwrap(), Path::new("there"), "a broken configuration is not in the way");
        assert_eq!(individuals(Some("mine")).file().unwrap(), Path::new("mine"));
        assert_eq!(individuals(Some("mine")).read(&model(None)).unwrap_err().exit, Exit::Config);
    }
}
