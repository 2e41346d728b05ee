//! The shape of a configuration file: its tables and keys, and which kind of value each takes. Ranges, defaults and what must fit
//! together stand in [`super::check`]. Comments of fields are the descriptions in `docs/config.schema.json`, and the defaults
//! given here are for editors; tests hold both against the code and against `docs/configuration.md`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{
    ActionName, BiasName, ButtonName, Clock, Count, Day, DisplayName, DriveName, ExitName, Flag, Given, LevelName, LineName,
    Many, PeriodName, Pixels, PositionName, Real, SafeStateName, Size, Span, SpeciesName, Table, Tables, Text, Zone,
};

/// Configuration of pawgate. docs/configuration.md explains every key.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "pawgate configuration", rename = "Config")]
pub(super) struct Raw {
    /// The device itself.
    pub(super) device: Given<Table<Device>>,
    /// Where pictures come from.
    pub(super) camera: Given<Table<Camera>>,
    /// The part of the picture that shows the door or the bowl, in shares of its width and height.
    pub(super) region: Given<Table<Region>>,
    /// When something counts as moving.
    pub(super) motion: Given<Table<Motion>>,
    /// How many frames must agree before anything is decided.
    pub(super) vote: Given<Table<Vote>>,
    /// The rules in order: the first that matches decides, and nothing matching means deny.
    pub(super) rule: Given<Tables<Rule>>,
    /// The door. At least one of door and feeder must be there; the table may be empty.
    pub(super) door: Given<Table<Door>>,
    /// The feeder.
    pub(super) feeder: Given<Table<Feeder>>,
    /// The board's pins.
    pub(super) gpio: Given<Table<Gpio>>,
    /// A small display.
    pub(super) display: Given<Table<Display>>,
    /// Telling single animals apart.
    pub(super) individuals: Given<Table<Individuals>>,
    /// The record of what happened and why.
    pub(super) journal: Given<Table<Journal>>,
    /// The classifier.
    pub(super) model: Given<Table<Model>>,
}

/// The device itself.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Device {
    /// Name of this device, for people.
    #[schemars(extend("default" = "pawgate"))]
    pub(super) name: Given<Text>,
    /// IANA name of the zone in which times of day and calendar days are meant. Without it, the system's zone.
    pub(super) time_zone: Given<Zone>,
}

/// Where pictures come from.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Camera {
    /// A V4L2 camera by its path ("/dev/v4l/by-id/…", "/dev/video0"), number or name ("name:USB Camera"); "rpicam" is a Raspberry
    /// Pi camera; "rtsp://…" or "http://…" a network camera; a picture, a folder of pictures, or a list of them is played as a
    /// camera; "-" is Y4M or MJPEG on standard input. Relative paths begin at the folder of the configuration file.
    pub(super) source: Given<Many<Text>>,
    /// In place of `source`: a program with its arguments that writes Y4M or MJPEG to its standard output.
    pub(super) command: Given<Many<Text>>,
    /// Width and height that a camera is asked for, in pixels.
    #[schemars(extend("default" = "640x480"))]
    pub(super) size: Given<Pixels>,
    /// Frames a second.
    #[schemars(range(min = 1, max = 60), extend("default" = 5))]
    pub(super) fps: Given<Count>,
    /// A frame older than this is unknown and decides nothing; "50ms" to "10s".
    #[schemars(extend("default" = "1s"))]
    pub(super) max_age: Given<Span>,
    /// A camera that delivers nothing for so long is opened again, and is a fault meanwhile; "500ms" to "1m".
    #[schemars(extend("default" = "2s"))]
    pub(super) silence: Given<Span>,
    /// The same for one that repeats one frame or shows only black; "2s" to "1d".
    #[schemars(extend("default" = "10s"))]
    pub(super) frozen_after: Given<Span>,
}

/// A part of the picture.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Region {
    /// Left edge.
    #[schemars(range(min = 0.0, max = 1.0), extend("default" = 0.0))]
    pub(super) left: Given<Real>,
    /// Top edge.
    #[schemars(range(min = 0.0, max = 1.0), extend("default" = 0.0))]
    pub(super) top: Given<Real>,
    /// Width. Without it, up to the right edge.
    #[schemars(range(min = 0.05, max = 1.0))]
    pub(super) width: Given<Real>,
    /// Height. Without it, down to the bottom edge.
    #[schemars(range(min = 0.05, max = 1.0))]
    pub(super) height: Given<Real>,
}

/// When something counts as moving.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Motion {
    /// Change of brightness that counts, of 255.
    #[schemars(range(min = 1, max = 255), extend("default" = 12))]
    pub(super) threshold: Given<Count>,
    /// Least share of the region that has to change.
    #[schemars(range(min = 0.0001, max = 1.0), extend("default" = 0.01))]
    pub(super) min_area: Given<Real>,
    /// How long nothing must move before the picture is at rest; "100ms" to "1m".
    #[schemars(extend("default" = "2s"))]
    pub(super) still_after: Given<Span>,
    /// Margin around the moving part, as a share of its size.
    #[schemars(range(min = 0.0, max = 2.0), extend("default" = 0.25))]
    pub(super) margin: Given<Real>,
}

/// How many frames must agree.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Vote {
    /// Frames that must agree; one frame never opens.
    #[schemars(range(min = 2, max = 20), extend("default" = 3))]
    pub(super) agree: Given<Count>,
    /// Of the last so many; at least as many as must agree.
    #[schemars(range(min = 2, max = 20), extend("default" = 5))]
    pub(super) of: Given<Count>,
    /// None of them older than this; "200ms" to "10s".
    #[schemars(extend("default" = "2500ms"))]
    pub(super) within: Given<Span>,
    /// Frames among them that may show another animal; fewer than must agree.
    #[schemars(range(min = 0, max = 10), extend("default" = 1))]
    pub(super) contradicting: Given<Count>,
    /// Frames that must show an animal for a rule that denies it; at most as many as must agree.
    #[schemars(range(min = 2, max = 20), extend("default" = 2))]
    pub(super) deny_agree: Given<Count>,
}

/// One rule. What is left out does not restrict.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "action"]))]
pub(super) struct Rule {
    /// Unique name; it is recorded with every decision.
    pub(super) name: Given<Text>,
    /// What happens when the rule matches: the door may open, nothing opens and nothing is given, or the feeder gives.
    pub(super) action: Given<ActionName>,
    /// Portions that the feeder gives (dispense only).
    #[schemars(range(min = 1, max = 10), extend("default" = 1))]
    pub(super) portions: Given<Count>,
    /// Names of enrolled animals.
    pub(super) individual: Given<Many<Text>>,
    /// Breeds, as the model names them.
    pub(super) breed: Given<Many<Text>>,
    /// Species.
    pub(super) species: Given<Many<SpeciesName>>,
    /// Least probability of the breed, or of the species where the rule names no breed. Without it, 0.8 for allow and dispense,
    /// 0.5 for deny.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) min_probability: Given<Real>,
    /// Times at which the rule holds. Without them, always.
    pub(super) times: Given<Tables<Window>>,
    /// Least time since the rule last acted (not for deny); "1s" to "30d".
    pub(super) cooldown: Given<Span>,
    /// How often the rule may act (not for deny).
    pub(super) quota: Given<Table<Quota>>,
}

/// A time of day on some days.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Window {
    /// Days on which the window begins. Without them, every day.
    pub(super) days: Given<Many<Day>>,
    /// First moment.
    #[schemars(extend("default" = "00:00"))]
    pub(super) from: Given<Clock>,
    /// First moment after it. When it is not later than `from`, it is on the next day.
    #[schemars(extend("default" = "24:00"))]
    pub(super) to: Given<Clock>,
}

/// A limit to how often a rule acts.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["count", "per"]))]
pub(super) struct Quota {
    /// Openings, or portions, in one period.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) count: Given<Count>,
    /// The period: "day" is the calendar day, a duration ("1m" to "31d") the time just past.
    pub(super) per: Given<PeriodName>,
}

/// The door.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Door {
    /// How long it stays unlocked for one animal, unless that passes earlier; "1s" to "5m".
    #[schemars(extend("default" = "8s"))]
    pub(super) open_for: Given<Span>,
    /// The longest it is ever unlocked, whatever stands in the opening; "1s" to "10m".
    #[schemars(extend("default" = "30s"))]
    pub(super) max_open: Given<Span>,
    /// Least time between two movements of the latch; "200ms" to "1m", shorter than `open_for`.
    #[schemars(extend("default" = "1s"))]
    pub(super) min_interval: Given<Span>,
    /// How long the latch may take to reach its position, where a sensor tells; "100ms" to "30s", shorter than `open_for`.
    #[schemars(extend("default" = "2s"))]
    pub(super) travel: Given<Span>,
    /// Where the latch goes after a fault, at the start and at the end. "unlocked" lets everybody pass.
    #[schemars(extend("default" = "locked"))]
    pub(super) safe_state: Given<SafeStateName>,
    /// Who may leave when the inside sensor or button asks.
    #[schemars(extend("default" = "never"))]
    pub(super) exit: Given<ExitName>,
    /// How long it stays unlocked for one that leaves, unless that passes earlier; "1s" to "5m", at most `max_open`.
    #[schemars(extend("default" = "5s"))]
    pub(super) exit_open_for: Given<Span>,
    /// The longest a manual override lasts; "1s" to "24h".
    #[schemars(extend("default" = "10m"))]
    pub(super) max_override: Given<Span>,
    /// What moves the bolt. `pawgate run` needs it unless it simulates.
    pub(super) latch: Given<Table<Latch>>,
    /// What tells where the bolt is.
    pub(super) sensor: Given<Table<Sensor>>,
    /// A light beam in the opening: active while something stands there.
    pub(super) beam: Given<Table<Input>>,
    /// A button for people.
    pub(super) button: Given<Table<Button>>,
    /// A button or sensor inside: somebody wants to leave.
    pub(super) exit_sensor: Given<Table<Input>>,
}

/// What moves the bolt.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["drive"]))]
pub(super) struct Latch {
    /// A line that holds the bolt (relay, solenoid), two lines that give pulses (latching relay, motor lock), or a servo.
    pub(super) drive: Given<DriveName>,
    /// hold: the line.
    pub(super) line: Given<LineName>,
    /// hold: where the bolt is while the line is active.
    #[schemars(extend("default" = "unlocked"))]
    pub(super) energised: Given<PositionName>,
    /// pulse: the line that unlocks.
    pub(super) unlock_line: Given<LineName>,
    /// pulse: the line that locks.
    pub(super) lock_line: Given<LineName>,
    /// pulse: how long a pulse is; "5ms" to "5s".
    #[schemars(extend("default" = "300ms"))]
    pub(super) pulse: Given<Span>,
    /// hold, pulse: the level at which the relay or solenoid gets current.
    #[schemars(extend("default" = "high"))]
    pub(super) active: Given<LevelName>,
    /// servo: N of /sys/class/pwm/pwmchipN.
    #[schemars(range(min = 0, max = 255), extend("default" = 0))]
    pub(super) pwm_chip: Given<Count>,
    /// servo: the chip's channel.
    #[schemars(range(min = 0, max = 255), extend("default" = 0))]
    pub(super) pwm_channel: Given<Count>,
    /// servo: pulses that lock, in microseconds.
    #[schemars(range(min = 500, max = 2500), extend("default" = 1000))]
    pub(super) locked_us: Given<Count>,
    /// servo: pulses that unlock, in microseconds.
    #[schemars(range(min = 500, max = 2500), extend("default" = 2000))]
    pub(super) unlocked_us: Given<Count>,
    /// servo: switch it off so long after a movement, so that it does not hum; "50ms" to "5s". Without it, it holds.
    pub(super) off_after: Given<Span>,
}

/// An input.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["line"]))]
pub(super) struct Input {
    /// Its line.
    pub(super) line: Given<LineName>,
    /// The level that means yes.
    #[schemars(extend("default" = "low"))]
    pub(super) active: Given<LevelName>,
    /// What pulls at it while nothing drives it.
    #[schemars(extend("default" = "pull-up"))]
    pub(super) bias: Given<BiasName>,
}

/// What tells where the bolt is.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["line"]))]
pub(super) struct Sensor {
    /// Its line.
    pub(super) line: Given<LineName>,
    /// The level that means yes.
    #[schemars(extend("default" = "low"))]
    pub(super) active: Given<LevelName>,
    /// What pulls at it while nothing drives it.
    #[schemars(extend("default" = "pull-up"))]
    pub(super) bias: Given<BiasName>,
    /// Where the bolt is while the line is active.
    #[schemars(extend("default" = "locked"))]
    pub(super) position: Given<PositionName>,
}

/// A button for people.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["line"]))]
pub(super) struct Button {
    /// Its line.
    pub(super) line: Given<LineName>,
    /// The level that means yes.
    #[schemars(extend("default" = "low"))]
    pub(super) active: Given<LevelName>,
    /// What pulls at it while nothing drives it.
    #[schemars(extend("default" = "pull-up"))]
    pub(super) bias: Given<BiasName>,
    /// What a press does to the door; another press ends it.
    #[schemars(extend("default" = "unlock"))]
    pub(super) action: Given<ButtonName>,
    /// How long that lasts, the door's `max_override` at most; "1s" to "24h".
    #[schemars(extend("default" = "1m"))]
    pub(super) lasting: Given<Span>,
}

/// The board's pins.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gpio {
    /// The chip of lines that name none: its label, as `gpiodetect` shows it, or its path.
    #[schemars(extend("default" = "gpiochip0"))]
    pub(super) chip: Given<Text>,
}

/// A small display that shows what happens. The door does not depend on it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["kind"]))]
pub(super) struct Display {
    /// Its controller: an SSD1306 (monochrome OLED, at I2C) or an ST7789 (colour TFT, at SPI).
    pub(super) kind: Given<DisplayName>,
    /// Its bus. Without it, "/dev/i2c-1" for an SSD1306 and "/dev/spidev0.0" for an ST7789.
    pub(super) bus: Given<Text>,
    /// ssd1306: its address, 0x3C or 0x3D.
    #[schemars(range(min = 60, max = 61), extend("default" = 60))]
    pub(super) address: Given<Count>,
    /// Its width and height in pixels before it is turned: "128x64" or "128x32" for an SSD1306, "240x240", "240x320", "240x280", "170x320" or
    /// "135x240" for an ST7789. Without it, the first of these.
    pub(super) size: Given<Pixels>,
    /// How far it is turned clockwise, in degrees: 0, 90, 180 or 270 (an SSD1306 0 or 180).
    #[schemars(range(min = 0, max = 270), extend("default" = 0, "multipleOf" = 90))]
    pub(super) rotation: Given<Count>,
    /// st7789: the line at its data/command input (DC).
    pub(super) data_line: Given<LineName>,
    /// st7789: the line at its reset (RST, active low). Without it, it is reset by a command.
    pub(super) reset_line: Given<LineName>,
    /// st7789: the line that switches its light (BL). Without it, the display goes black in place of dark.
    pub(super) light_line: Given<LineName>,
    /// st7789: 3 for a panel without a chip select, 0 for the others.
    #[schemars(range(min = 0, max = 3), extend("default" = 0))]
    pub(super) spi_mode: Given<Count>,
    /// st7789: whether the panel inverts colours, as IPS panels do. Turn it round when black is white.
    #[schemars(extend("default" = true))]
    pub(super) inverted: Given<Flag>,
    /// It is dark when nothing has happened for so long; "5s" to "30d".
    #[schemars(extend("default" = "5m"))]
    pub(super) off_after: Given<Span>,
}

/// The feeder.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Feeder {
    /// Most portions a calendar day, all pets together.
    #[schemars(range(min = 1, max = 100), extend("default" = 12))]
    pub(super) max_per_day: Given<Count>,
    /// Least time between two portions; "1s" to "24h".
    #[schemars(extend("default" = "5s"))]
    pub(super) min_interval: Given<Span>,
    /// How long a portion may take; longer is a jam. "1s" to "5m".
    #[schemars(extend("default" = "10s"))]
    pub(super) portion_time: Given<Span>,
    /// What gives a portion. `pawgate run` needs it unless it simulates.
    pub(super) motor: Given<Table<Motor>>,
}

/// What gives a portion: a line that is active for a time.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["line"]))]
pub(super) struct Motor {
    /// Its line.
    pub(super) line: Given<LineName>,
    /// The level at which it turns.
    #[schemars(extend("default" = "high"))]
    pub(super) active: Given<LevelName>,
    /// How long it turns for one portion; "50ms" to "5s".
    #[schemars(extend("default" = "1s"))]
    pub(super) turn: Given<Span>,
}

/// Telling single animals apart, and what an animal must have shown before a rule may act by its name.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Individuals {
    /// File that holds the enrolled animals.
    #[schemars(extend("default" = "/var/lib/pawgate/individuals.safetensors"))]
    pub(super) file: Given<Text>,
    /// Least number of pictures.
    #[schemars(range(min = 2, max = 1000), extend("default" = 10))]
    pub(super) min_pictures: Given<Count>,
    /// Least share of an animal's own pictures that are recognised when left out.
    #[schemars(range(min = 0.0, max = 1.0), extend("default" = 0.6))]
    pub(super) min_accepted: Given<Real>,
    /// Upper end of the 95 % interval of the share of strangers that may be taken for the animal.
    #[schemars(range(min = 0.0, max = 0.5), extend("default" = 0.1))]
    pub(super) max_strangers: Given<Real>,
}

/// The record of what happened and why.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Journal {
    /// Its folder.
    #[schemars(extend("default" = "/var/lib/pawgate/journal"))]
    pub(super) folder: Given<Text>,
    /// Events and snapshots older than this are deleted; "1h" to "3650d".
    #[schemars(extend("default" = "30d"))]
    pub(super) keep_for: Given<Span>,
    /// Events and snapshots together take no more than this; "10MB" to "1TB".
    #[schemars(extend("default" = "1GB"))]
    pub(super) max_size: Given<Size>,
    /// So much of the file system stays free, whatever else is configured; at most "1TB".
    #[schemars(extend("default" = "500MB"))]
    pub(super) keep_free: Given<Size>,
    /// Whether decisions keep a picture.
    #[schemars(extend("default" = true))]
    pub(super) snapshots: Given<Flag>,
}

/// The classifier.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Model {
    /// A model file. Without it, the model that was compiled in.
    pub(super) file: Given<Text>,
}
