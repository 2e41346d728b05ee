//! Pins and servos: from the raw shape to what opens them.

use std::path::PathBuf;

use super::Devices;
use super::check::{DAY, Section, millis, seconds, table};
use super::raw::{self, Raw};
use super::value::{BiasName, DriveKind, Given, LevelName, LineName, Table, Text};
use crate::hw::actuator::Position;
use crate::hw::actuator::gpio::{Active, Bias, ChipName, LineSettings, PULSE};
use crate::hw::actuator::motor::{self, MotorSettings};
use crate::hw::actuator::servo::{PulseWidth, SYSFS, ServoSettings, TRAVEL};
use crate::hw::actuator::settings::{Drive, LatchSettings, SensorSettings};
use crate::hw::inputs::InputSettings;
use crate::service::inputs::{self, ButtonSettings, Press};

/// The chip of lines that name none.
const CHIP: &str = "gpiochip0";

pub(super) fn check(root: &mut Section<'_>, raw: &Raw) -> Devices {
    let pins = Pins { chip: check_chip(&mut root.inner("gpio", raw.gpio.span()), table(&raw.gpio, &Default::default())) };
    let (door, feeder) = (raw.door.get(), raw.feeder.get());
    let mut devices = Devices::default();
    if let Some(Table(door)) = door {
        let section = &mut root.inner("door", raw.door.span());
        let sensor = with(section, "sensor", &door.sensor, |section, raw| pins.sensor(section, raw));
        let drive = with(section, "latch", &door.latch, |section, raw| pins.drive(section, raw));
        if drive.is_none() && sensor.is_some() {
            section.conflict("sensor", door.sensor.span(), "there is a sensor, but no [door.latch]", "add [door.latch]");
        }
        devices.latch = drive.map(|drive| LatchSettings { drive, sensor });
        devices.inputs = inputs::Settings {
            beam: with(section, "beam", &door.beam, |section, raw| pins.input(section, &raw.line, &raw.active, &raw.bias)),
            exit: with(section, "exit_sensor", &door.exit_sensor, |section, raw| {
                pins.input(section, &raw.line, &raw.active, &raw.bias)
            }),
            button: with(section, "button", &door.button, |section, raw| pins.button(section, raw)),
        };
    }
    if let Some(Table(feeder)) = feeder {
        let section = &mut root.inner("feeder", raw.feeder.span());
        devices.motor = with(section, "motor", &feeder.motor, |section, raw| pins.motor(section, raw));
    }
    no_line_twice(root, raw, &devices);
    devices
}

/// What `make` makes of a table, where it is there.
fn with<T, U>(
    parent: &mut Section<'_>,
    key: &str,
    given: &Given<Table<T>>,
    make: impl FnOnce(&mut Section<'_>, &T) -> Option<U>,
) -> Option<U> {
    let Table(raw) = given.get()?;
    make(&mut parent.inner(key, given.span()), raw)
}

fn check_chip(section: &mut Section<'_>, raw: &raw::Gpio) -> ChipName {
    let chip = raw.chip.get().map_or(CHIP, |Text(chip)| chip);
    match chip.parse() {
        Ok(chip) => chip,
        Err(error) => {
            section.wrong("chip", raw.chip.span(), error.to_string(), "");
            ChipName::Path(PathBuf::new())
        }
    }
}

/// Makes lines of their names.
struct Pins {
    chip: ChipName,
}

impl Pins {
    fn line(&self, section: &mut Section<'_>, key: &str, given: &Given<LineName>, active: Active) -> Option<LineSettings> {
        let Some(LineName { chip, line }) = given.get() else {
            section.conflict(key, None, "the key is missing", "name a line: its number or name, see `gpioinfo`");
            return None;
        };
        Some(LineSettings { chip: chip.as_ref().unwrap_or(&self.chip).clone(), line: line.clone(), active })
    }

    fn input(
        &self,
        section: &mut Section<'_>,
        line: &Given<LineName>,
        active: &Given<LevelName>,
        bias: &Given<BiasName>,
    ) -> Option<InputSettings> {
        let active = active.get().map_or(Active::Low, |active| active.0);
        let bias = bias.get().map_or(Bias::PullUp, |bias| bias.0);
        Some(InputSettings::Gpio { line: self.line(section, "line", line, active)?, bias })
    }

    fn sensor(&self, section: &mut Section<'_>, raw: &raw::Sensor) -> Option<SensorSettings> {
        let input = self.input(section, &raw.line, &raw.active, &raw.bias)?;
        Some(SensorSettings { input, active: raw.position.get().map_or(Position::Locked, |position| position.0) })
    }

    fn button(&self, section: &mut Section<'_>, raw: &raw::Button) -> Option<ButtonSettings> {
        let lasting = section.within("lasting", &raw.lasting, seconds(60), seconds(1)..=seconds(DAY));
        let input = self.input(section, &raw.line, &raw.active, &raw.bias)?;
        Some(ButtonSettings { input, press: raw.action.get().map_or(Press::Unlock, |action| action.0), lasting })
    }

    fn motor(&self, section: &mut Section<'_>, raw: &raw::Motor) -> Option<MotorSettings> {
        let turn = section.within("turn", &raw.turn, seconds(1), motor::TURN);
        let active = raw.active.get().map_or(Active::High, |active| active.0);
        Some(MotorSettings { line: self.line(section, "line", &raw.line, active)?, turn })
    }

    fn drive(&self, section: &mut Section<'_>, raw: &raw::Latch) -> Option<Drive> {
        let Some(kind) = raw.drive.get().map(|name| name.0) else {
            section.conflict("drive", None, "the key is missing", "add drive = \"hold\", \"pulse\" or \"servo\"");
            return None;
        };
        only_for(section, raw, kind);
        let active = raw.active.get().map_or(Active::High, |active| active.0);
        match kind {
            DriveKind::Hold => {
                let energised = raw.energised.get().map_or(Position::Unlocked, |position| position.0);
                Some(Drive::GpioHold { line: self.line(section, "line", &raw.line, active)?, energised })
            }
            DriveKind::Pulse => {
                let width = section.within("pulse", &raw.pulse, millis(300), PULSE);
                let unlock = self.line(section, "unlock_line", &raw.unlock_line, active);
                let lock = self.line(section, "lock_line", &raw.lock_line, active);
                Some(Drive::GpioPulse { unlock: unlock?, lock: lock?, width })
            }
            DriveKind::Servo => Some(Drive::Servo(servo(section, raw)?)),
        }
    }
}

fn servo(section: &mut Section<'_>, raw: &raw::Latch) -> Option<ServoSettings> {
    let [least, most] = [PulseWidth::RANGE.start(), PulseWidth::RANGE.end()].map(|&micros| u32::from(micros));
    let locked = section.within("locked_us", &raw.locked_us, 1000, least..=most);
    let unlocked = section.within("unlocked_us", &raw.unlocked_us, 2000, least..=most);
    if locked == unlocked {
        let what = "the servo would not move: locked_us and unlocked_us are the same";
        section.conflict("unlocked_us", raw.unlocked_us.span(), what, "give each its own width");
    }
    let width = |micros: u32| u16::try_from(micros).ok().and_then(PulseWidth::micros);
    Some(ServoSettings {
        root: SYSFS.into(),
        chip: section.within("pwm_chip", &raw.pwm_chip, 0, 0..=255),
        channel: section.within("pwm_channel", &raw.pwm_channel, 0, 0..=255),
        locked: width(locked)?,
        unlocked: width(unlocked)?,
        off_after: raw.off_after.get().map(|_| section.within("off_after", &raw.off_after, seconds(1), TRAVEL)),
    })
}

/// A key of another kind of drive is a misunderstanding.
fn only_for(section: &mut Section<'_>, raw: &raw::Latch, kind: DriveKind) {
    use DriveKind::{Hold, Pulse, Servo};
    let keys = [
        ("line", raw.line.span(), &[Hold][..]),
        ("energised", raw.energised.span(), &[Hold]),
        ("unlock_line", raw.unlock_line.span(), &[Pulse]),
        ("lock_line", raw.lock_line.span(), &[Pulse]),
        ("pulse", raw.pulse.span(), &[Pulse]),
        ("active", raw.active.span(), &[Hold, Pulse]),
        ("pwm_chip", raw.pwm_chip.span(), &[Servo]),
        ("pwm_channel", raw.pwm_channel.span(), &[Servo]),
        ("locked_us", raw.locked_us.span(), &[Servo]),
        ("unlocked_us", raw.unlocked_us.span(), &[Servo]),
        ("off_after", raw.off_after.span(), &[Servo]),
    ];
    for (key, span, kinds) in keys {
        if span.is_some() && !kinds.contains(&kind) {
            let what = format!("{key} means nothing for this drive");
            section.wrong(key, span, what, "delete it, or choose another drive");
        }
    }
}

/// A line has one purpose.
fn no_line_twice(root: &mut Section<'_>, raw: &Raw, devices: &Devices) {
    let input = |input: &Option<InputSettings>| match input {
        Some(InputSettings::Gpio { line, .. }) => Some(line.clone()),
        _ => None,
    };
    let mut lines: Vec<(&str, LineSettings)> = vec![];
    if let Some(latch) = &devices.latch {
        match &latch.drive {
            Drive::GpioHold { line, .. } => lines.push(("door.latch", line.clone())),
            Drive::GpioPulse { unlock, lock, .. } => {
                lines.extend([("door.latch", unlock.clone()), ("door.latch", lock.clone())]);
            }
            Drive::Servo(_) | Drive::PinFile { .. } => {}
        }
        let sensor = latch.sensor.as_ref().map(|sensor| sensor.input.clone());
        lines.extend(input(&sensor).map(|line| ("door.sensor", line)));
    }
    let Devices { inputs, motor, .. } = devices;
    let button = inputs.button.as_ref().map(|button| button.input.clone());
    let others = [("door.beam", &inputs.beam), ("door.exit_sensor", &inputs.exit), ("door.button", &button)];
    lines.extend(others.into_iter().filter_map(|(name, given)| Some((name, input(given)?))));
    lines.extend(motor.as_ref().map(|motor| ("feeder.motor", motor.line.clone())));
    for (at, (name, line)) in lines.iter().enumerate() {
        let same = |other: &LineSettings| (&other.chip, &other.line) == (&line.chip, &line.line);
        if let Some((first, _)) = lines[..at].iter().find(|(_, other)| same(other)) {
            let what = format!("{name} and {first} have the same line: {line}");
            root.conflict(name, span_of(raw, name), what, "give each its own line");
        }
    }
}

/// Where a table of pins stands.
fn span_of(raw: &Raw, name: &str) -> Option<std::ops::Range<usize>> {
    let (door, feeder) = (raw.door.get().map(|Table(door)| door), raw.feeder.get().map(|Table(feeder)| feeder));
    match name {
        "door.latch" => door?.latch.span(),
        "door.sensor" => door?.sensor.span(),
        "door.beam" => door?.beam.span(),
        "door.exit_sensor" => door?.exit_sensor.span(),
        "door.button" => door?.button.span(),
        _ => feeder?.motor.span(),
    }
}
