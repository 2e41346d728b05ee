//! Pins, servos and displays: from the raw shape to what opens them.

use std::path::PathBuf;

use super::Devices;
use super::check::{DAY, Section, millis, seconds, table};
use super::raw::{self, Raw};
use super::value::{BiasName, Controller, DriveKind, Flag, Given, LevelName, LineName, Pixels, Table, Text};
use crate::hw::actuator::Position;
use crate::hw::actuator::gpio::{Active, Bias, ChipName, LineSettings, PULSE};
use crate::hw::actuator::motor::{self, MotorSettings};
use crate::hw::actuator::servo::{PulseWidth, SYSFS, ServoSettings, TRAVEL};
use crate::hw::actuator::settings::{Drive, LatchSettings, SensorSettings};
use crate::hw::display::{self, ssd1306, st7789};
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
    devices.display = with(root, "display", &raw.display, |section, raw| pins.display(section, raw));
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

    fn display(&self, section: &mut Section<'_>, raw: &raw::Display) -> Option<display::Settings> {
        let Some(controller) = raw.kind.get().map(|name| name.0) else {
            section.conflict("kind", None, "the key is missing", "add kind = \"ssd1306\" or \"st7789\"");
            return None;
        };
        display_keys(section, raw, controller);
        let bus = |default: &str| PathBuf::from(raw.bus.get().map_or(default, |Text(bus)| bus));
        let kind = match controller {
            Controller::Ssd1306 => display::Kind::Ssd1306 {
                bus: bus("/dev/i2c-1"),
                address: section.within("address", &raw.address, 0x3C, 0x3C..=0x3D) as u8,
                size: panel(section, raw, [128, 64], ssd1306::Panel::of, "\"128x64\" and \"128x32\"")?,
            },
            Controller::St7789 => {
                let mode = section.within("spi_mode", &raw.spi_mode, 0, 0..=3);
                if !matches!(mode, 0 | 3) {
                    section.wrong("spi_mode", raw.spi_mode.span(), format!("it has no mode {mode}"), "write 0 or 3");
                }
                let mut line =
                    |key, given: &Given<LineName>| given.get().and_then(|_| self.line(section, key, given, Active::High));
                let (reset, light) = (line("reset_line", &raw.reset_line), line("light_line", &raw.light_line));
                let sizes = "\"240x240\", \"240x320\", \"240x280\", \"170x320\" and \"135x240\"";
                let panel = panel(section, raw, [240, 240], st7789::Panel::of, sizes);
                display::Kind::St7789(Box::new(st7789::St7789 {
                    bus: bus("/dev/spidev0.0"),
                    mode3: mode == 3,
                    inverted: raw.inverted.get().is_none_or(|&Flag(inverted)| inverted),
                    data: self.line(section, "data_line", &raw.data_line, Active::High)?,
                    reset,
                    light,
                    panel: panel?,
                }))
            }
        };
        let off_after = section.within("off_after", &raw.off_after, seconds(300), seconds(5)..=seconds(30 * DAY));
        Some(display::Settings { kind, quarters: quarters(section, raw, controller), off_after })
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

/// The panel of the configured size.
fn panel<T>(
    section: &mut Section<'_>,
    raw: &raw::Display,
    default: [u32; 2],
    of: impl Fn([u32; 2]) -> Option<T>,
    sizes: &str,
) -> Option<T> {
    let size @ [width, height] = raw.size.get().map_or(default, |&Pixels(size)| size);
    let panel = of(size);
    if panel.is_none() {
        let what = format!("there is no such display of {width}x{height}");
        section.wrong("size", raw.size.span(), what, &format!("its sizes are {sizes}, before it is turned"));
    }
    panel
}

fn quarters(section: &mut Section<'_>, raw: &raw::Display, controller: Controller) -> u8 {
    let degrees = section.within("rotation", &raw.rotation, 0, 0..=270);
    let step = if controller == Controller::Ssd1306 { 180 } else { 90 };
    if !degrees.is_multiple_of(step) {
        let what = format!("this display cannot be turned by {degrees} degrees");
        let hint = if step == 180 { "write 0 or 180" } else { "write 0, 90, 180 or 270" };
        section.wrong("rotation", raw.rotation.span(), what, hint);
    }
    (degrees / 90) as u8
}

/// A key of another kind of display is a misunderstanding.
fn display_keys(section: &mut Section<'_>, raw: &raw::Display, controller: Controller) {
    let keys = [
        ("address", raw.address.span(), Controller::Ssd1306),
        ("data_line", raw.data_line.span(), Controller::St7789),
        ("reset_line", raw.reset_line.span(), Controller::St7789),
        ("light_line", raw.light_line.span(), Controller::St7789),
        ("spi_mode", raw.spi_mode.span(), Controller::St7789),
        ("inverted", raw.inverted.span(), Controller::St7789),
    ];
    for (key, span, needs) in keys {
        if span.is_some() && needs != controller {
            section.wrong(key, span, format!("{key} means nothing for this display"), "delete it, or choose another kind");
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
    if let Some(display::Settings { kind: display::Kind::St7789(tft), .. }) = &devices.display {
        let given = [Some(&tft.data), tft.reset.as_ref(), tft.light.as_ref()];
        lines.extend(given.into_iter().flatten().map(|line| ("display", line.clone())));
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
        "display" => raw.display.span(),
        "door.latch" => door?.latch.span(),
        "door.sensor" => door?.sensor.span(),
        "door.beam" => door?.beam.span(),
        "door.exit_sensor" => door?.exit_sensor.span(),
        "door.button" => door?.button.span(),
        _ => feeder?.motor.span(),
    }
}
