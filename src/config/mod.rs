//! The configuration: a TOML file in, checked settings of every module out, or everything that is wrong with the file.
//!
//! `raw` is the file's shape, `value` the kinds of values, `check` turns one into the other, `error` says what is wrong and where.
//! [`Config::check_against`] holds the rules against the model and the enrolled animals, [`Current`] keeps the last good
//! configuration while the service runs. What a setting *does* stands in the module that it belongs to; docs/configuration.md is
//! for owners, docs/config.schema.json ([`schema`]) for editors.
//!
//! No key holds a secret today. One that does (a broker's password) shall take `{ file = "/run/secrets/…" }` or
//! `{ env = "NAME" }`, never the secret itself, as a value type of its own in `value` whose `Debug` shows nothing.

mod against;
mod check;
mod current;
mod error;
mod parse;
mod pins;
mod raw;
mod value;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::hw::actuator::motor::MotorSettings;
use crate::hw::actuator::settings::LatchSettings;
use crate::hw::{camera, display};
use crate::policy::rules::Rule;
use crate::policy::{door, feeder, vote};
use crate::service::inputs;
use crate::vision::{motion, region::Region};
use crate::{individuals, journal};

pub use current::{Current, Reloaded};
pub use error::{ConfigError, Place, Problem, Report};
pub(crate) use value::{show_duration, show_size};

use error::Problems;

/// Where the configuration lies, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/pawgate/config.toml";
/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A checked configuration. Two are equal when they configure the same, wherever they were read from.
#[derive(Debug, Clone)]
pub struct Config {
    values: Values,
    path: PathBuf,
    text: Arc<str>,
    /// Where the rules stand in `text`, in their order.
    marks: Vec<Marks>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Values {
    device: Device,
    camera: camera::Settings,
    region: Region,
    motion: motion::Settings,
    vote: vote::Settings,
    rules: Vec<Rule>,
    door: Option<door::Settings>,
    feeder: Option<feeder::Settings>,
    individuals: individuals::Settings,
    journal: journal::Settings,
    model: Option<PathBuf>,
    devices: Devices,
}

/// What moves, what tells and what shows something: pins, servos, displays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Devices {
    /// What moves the bolt, and what tells where it is.
    pub latch: Option<LatchSettings>,
    /// Beam, button and exit sensor.
    pub inputs: inputs::Settings,
    /// What gives a portion.
    pub motor: Option<MotorSettings>,
    /// What shows what happens.
    pub display: Option<display::Settings>,
}

/// Where a rule and its names stand in the file, in bytes.
#[derive(Debug, Clone)]
struct Marks {
    rule: Range<usize>,
    individuals: Vec<Range<usize>>,
    breeds: Vec<Range<usize>>,
}

/// The device itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    name: String,
    time_zone: TimeZone,
    zone_is_configured: bool,
}

impl Device {
    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone in which times of day and calendar days are meant: the configured one, or the system's when the file was read.
    pub fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }

    /// Whether the file names the zone.
    pub fn zone_is_configured(&self) -> bool {
        self.zone_is_configured
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], or what [`Self::parse`] reports.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_bytes(path)?, path)
    }

    /// What the simulator, `replay` and `demo` use when no file is named: a door for cats. Never for real devices.
    ///
    /// # Errors
    /// None, as a test checks; the type says so because the same parser reads it.
    pub fn builtin() -> Result<Self, ConfigError> {
        Self::parse(include_bytes!("builtin.toml"), Path::new("the built-in configuration"))
    }

    /// The same with another camera.
    pub fn with_camera(mut self, camera: camera::Settings) -> Self {
        self.values.camera = camera;
        self
    }

    /// Checks the contents of a file. `path` is named in errors, and relative paths begin at its folder.
    ///
    /// The result still has to be held against the model: [`Self::check_against`].
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with everything that is wrong. Nothing is configured by half.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let text: Arc<str> = decode(bytes, path)?.into();
        let mut problems = Problems::new(path, text.clone());
        let Some(raw) = parse::parse(&text, &mut problems) else { return Err(problems.report().into()) };
        let (values, marks) = check::check(&raw, path, &mut problems);
        if !problems.is_empty() {
            return Err(problems.report().into());
        }
        Ok(Self { values, path: path.to_owned(), text, marks })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device itself.
    pub fn device(&self) -> &Device {
        &self.values.device
    }

    /// Which camera, and how it is read.
    pub fn camera(&self) -> &camera::Settings {
        &self.values.camera
    }

    /// The part of the picture that is looked at.
    pub fn region(&self) -> Region {
        self.values.region
    }

    /// When something counts as moving.
    pub fn motion(&self) -> motion::Settings {
        self.values.motion
    }

    /// How many frames must agree.
    pub fn vote(&self) -> vote::Settings {
        self.values.vote
    }

    /// The rules in their order, with unique names.
    pub fn rules(&self) -> &[Rule] {
        &self.values.rules
    }

    /// The door, if there is one. There is a door or a feeder, or both.
    pub fn door(&self) -> Option<door::Settings> {
        self.values.door
    }

    /// The feeder, if there is one.
    pub fn feeder(&self) -> Option<feeder::Settings> {
        self.values.feeder
    }

    /// Where enrolled animals are kept, and what they must have shown.
    pub fn individuals(&self) -> &individuals::Settings {
        &self.values.individuals
    }

    /// Where the journal lies and how much it keeps.
    pub fn journal(&self) -> &journal::Settings {
        &self.values.journal
    }

    /// The model file, unless it is the one that was compiled in.
    pub fn model(&self) -> Option<&Path> {
        self.values.model.as_deref()
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What moves and what tells something.
    pub fn devices(&self) -> &Devices {
        &self.values.devices
    }

    /// A report's beginning, for problems that are found later.
    fn problems(&self) -> Problems {
        Problems::new(&self.path, self.text.clone())
    }
}

/// The JSON schema of the file, for editors, as docs/config.schema.json holds it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::Raw).to_value()
}

/// Reads a file of at most [`MAX_BYTES`].
///
/// # Errors
/// [`ConfigError::Unreadable`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let refuse = |why: io::Error, hint| ConfigError::Unreadable { path: path.to_owned(), why, hint };
    let by_kind = |why: io::Error| {
        let hint = match why.kind() {
            io::ErrorKind::NotFound => {
                "write one (/usr/share/doc/pawgate/examples or docs/examples has two) or name another with --config FILE"
            }
            io::ErrorKind::PermissionDenied => "let the user that pawgate runs as read it",
            _ => "name a readable file with --config FILE",
        };
        refuse(why, hint)
    };
    let is_file = std::fs::metadata(path).map_err(by_kind)?.is_file();
    // A pipe or a device might never end, or never begin.
    if !is_file {
        return Err(refuse(io::Error::other("it is not a regular file"), "name a file with --config FILE"));
    }
    let mut bytes = vec![];
    File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)).map_err(by_kind)?;
    Ok(bytes)
}

/// The text of a file: UTF-8, not too large.
fn decode<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, Report> {
    let refuse = |text: &str, span: Option<Range<usize>>, what: String, hint: &str| {
        let mut problems = Problems::new(path, text.into());
        problems.push("", span, what, Some(hint.to_owned()));
        problems.report()
    };
    if bytes.len() > MAX_BYTES {
        let what = format!("the file has more than {MAX_BYTES} bytes");
        return Err(refuse("", None, what, "name a configuration with --config FILE"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        refuse(&String::from_utf8_lossy(bytes), Some(at..at + 1), "this is not UTF-8 text".into(), "save the file as UTF-8")
    })
}
