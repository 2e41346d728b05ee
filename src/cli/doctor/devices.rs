//! Camera, pins, display.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Finding, Patient};
use crate::config::{Config, Devices};
use crate::hw::actuator::gpio::{self, LineSettings};
use crate::hw::actuator::settings::Drive;
use crate::hw::camera::keeper::{Keeper, News, Trouble};
use crate::hw::camera::{self, Frame, Settings, Source, v4l2};
use crate::hw::clock::System;
use crate::hw::display::panel::Opener;
use crate::hw::display::{self, screen::Bolt};
use crate::hw::inputs::InputSettings;
use crate::service::face;
use crate::vision::quality;

/// How long a camera may take for its first picture: network cameras and programs need some seconds.
const FIRST_PICTURE: Duration = Duration::from_secs(12);
/// A running pawgate's camera that has achieved nothing for so long is in trouble.
const LATE: f64 = 15.0;
const NO_CAMERA: &str =
    "plug one in, and look at `dmesg`; a camera module needs `rpicam` as source (Raspberry Pi) or a command (Jetson)";

pub(super) fn camera(patient: &Patient<'_>) -> Finding {
    if let Some(status) = &patient.running {
        let age = status.camera_age + status.age();
        let text = format!("pawgate uses it; its last sign is {age:.1} s old");
        return match age < LATE {
            true => Finding::fine("camera", text),
            false => Finding::wrong("camera", text, "look at its cable and `journalctl -u pawgate`"),
        };
    }
    let Some(config) = patient.config else { return any_camera() };
    let settings = config.camera();
    match &settings.source {
        Source::Device(_) | Source::Program(_) => first_picture(settings),
        Source::Stdin => Finding::note("camera", "pictures come from standard input"),
        Source::Pictures(paths) => match paths.iter().find(|path| !path.exists()) {
            Some(path) => Finding::wrong("camera", format!("there is no {}", path.display()), "name a camera as camera.source"),
            None => Finding::note("camera", "pictures are played as a camera: no door can be guarded by those"),
        },
    }
}

/// Without a configuration: whether there is any at all.
fn any_camera() -> Finding {
    let found = v4l2::list();
    let names = || found.iter().filter(|device| device.captures != Some(false)).map(ToString::to_string).collect::<Vec<_>>();
    match names().as_slice() {
        [] => Finding::wrong("camera", "there is no camera at /dev/video*", NO_CAMERA),
        names => Finding::fine("camera", format!("there: {}", names.join(", "))),
    }
}

/// Opens it and waits for a picture.
fn first_picture(settings: &Settings) -> Finding {
    let clock = Arc::new(System::start());
    let start = Instant::now();
    let mut keeper = Keeper::new(camera::opener(settings, clock.clone()), settings.limits, clock);
    let mut why = None;
    while let Some(rest) = FIRST_PICTURE.checked_sub(start.elapsed()) {
        match keeper.wait(rest.min(Duration::from_millis(200))) {
            News::Frame(frame) => return picture(&frame, start.elapsed()),
            News::Trouble(Trouble::Lost(error)) => return Finding::error("camera", &error),
            News::Trouble(trouble) => why = Some(trouble.to_string()),
            News::Gone(error) | News::Passing(error) => why = Some(error.to_string()),
            News::End => why = Some("it has ended".into()),
            News::Nothing => {}
        }
    }
    let why = why.unwrap_or_else(|| "it says nothing".into());
    Finding::wrong(
        "camera",
        format!("no picture within {} s ({why})", FIRST_PICTURE.as_secs()),
        "look at its cable, or name another",
    )
}

fn picture(frame: &Frame, took: Duration) -> Finding {
    let (width, height) = frame.picture.dimensions();
    let text = format!("a picture of {width}x{height} after {:.1} s", took.as_secs_f64());
    match quality::flaw(frame.picture.as_raw()) {
        Some(flaw) => {
            Finding::wrong("camera", format!("{text}, but {flaw}"), "look at its lens cap, its light and where it points")
        }
        None => Finding::fine("camera", text),
    }
}

/// Every line and servo that is configured.
pub(super) fn pins(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(config) = patient.config else { return vec![any_chip()] };
    let mut findings: Vec<_> =
        lines(config.devices()).iter().map(|(purpose, line)| look(purpose, line, patient.running.is_some())).collect();
    if let Some(Drive::Servo(servo)) = config.devices().latch.as_ref().map(|latch| &latch.drive) {
        findings.push(match servo.look() {
            Ok(()) => Finding::fine("pins", format!("latch: a servo on pwmchip{}, channel {}", servo.chip, servo.channel)),
            Err(error) => Finding::error("pins", &format!("latch: {error}")),
        });
    }
    findings.extend(missing(config));
    if findings.is_empty() {
        findings.push(Finding::note("pins", "none are configured"));
    }
    findings
}

/// What `pawgate run` would refuse.
fn missing(config: &Config) -> Option<Finding> {
    let devices = config.devices();
    let what = match () {
        () if config.door().is_some() && devices.latch.is_none() => "[door] has no [door.latch]",
        () if config.feeder().is_some() && devices.motor.is_none() => "[feeder] has no [feeder.motor]",
        () => return None,
    };
    Some(Finding::wrong("pins", what, "add it (docs/configuration.md): without it pawgate only runs with --simulate"))
}

fn any_chip() -> Finding {
    match gpio::chips() {
        Ok((found, _)) if !found.is_empty() => {
            let names = found.iter().map(|chip| format!("{} ({})", chip.label, chip.path.display()));
            Finding::fine("pins", format!("GPIO chips: {}", names.collect::<Vec<_>>().join(", ")))
        }
        Ok((_, closed)) if !closed.is_empty() => {
            let text = format!("no GPIO chip can be opened: {}", closed.join(", "));
            Finding::wrong("pins", text, "add the user to the group gpio, or ask as root")
        }
        Ok(_) => Finding::wrong(
            "pins",
            "there is no GPIO chip at /dev/gpiochip*",
            "this machine can only simulate a door: `pawgate run --simulate`",
        ),
        Err(error) => Finding::error("pins", &error),
    }
}

/// The configured lines, with what they are for.
fn lines(devices: &Devices) -> Vec<(&'static str, LineSettings)> {
    let mut lines = vec![];
    let input = |input: &InputSettings| match input {
        InputSettings::Gpio { line, .. } => Some(line.clone()),
        InputSettings::File(_) => None,
    };
    if let Some(latch) = &devices.latch {
        match &latch.drive {
            Drive::GpioHold { line, .. } => lines.push(("latch", line.clone())),
            Drive::GpioPulse { unlock, lock, .. } => {
                lines.extend([("latch, unlock", unlock.clone()), ("latch, lock", lock.clone())])
            }
            Drive::Servo(_) | Drive::PinFile { .. } => {}
        }
        lines.extend(latch.sensor.as_ref().and_then(|sensor| Some(("sensor", input(&sensor.input)?))));
    }
    let inputs = &devices.inputs;
    let button = inputs.button.as_ref().map(|button| &button.input);
    for (purpose, given) in [("beam", inputs.beam.as_ref()), ("button", button), ("exit sensor", inputs.exit.as_ref())] {
        lines.extend(given.and_then(|given| Some((purpose, input(given)?))));
    }
    lines.extend(devices.motor.as_ref().map(|motor| ("motor", motor.line.clone())));
    if let Some(display::Settings { kind: display::Kind::St7789(tft), .. }) = &devices.display {
        lines.push(("display, data", tft.data.clone()));
        lines.extend(tft.reset.clone().map(|line| ("display, reset", line)));
        lines.extend(tft.light.clone().map(|line| ("display, light", line)));
    }
    lines
}

/// Whether a line is there, and free or pawgate's.
fn look(purpose: &str, line: &LineSettings, running: bool) -> Finding {
    match gpio::holder(line) {
        Err(error) => Finding::error("pins", &format!("{purpose}: {error}")),
        Ok(None) if running => Finding::wrong(
            "pins",
            format!("{purpose}: pawgate runs and does not hold the {line}"),
            "restart it: the configuration has changed",
        ),
        Ok(Some(holder)) if holder != gpio::CONSUMER => {
            Finding::wrong("pins", format!("{purpose}: the {line} is held by {holder:?}"), "end that, or take another line")
        }
        Ok(Some(_)) if !running => Finding::wrong(
            "pins",
            format!("{purpose}: another pawgate holds the {line}"),
            "`pawgate status` and `ps -C pawgate` find it",
        ),
        Ok(holder) => Finding::fine(
            "pins",
            format!("{purpose}: the {line}, {}", if holder.is_some() { "held by pawgate" } else { "free" }),
        ),
    }
}

pub(super) fn display(patient: &Patient<'_>) -> Finding {
    let Some(settings) = patient.config.and_then(|config| config.devices().display.as_ref()) else {
        return Finding::note(
            "display",
            "none is configured; a [display] of 5 dollars shows what pawgate sees (docs/display.md)",
        );
    };
    if let Some(status) = &patient.running {
        return match &status.display_fault {
            Some(fault) => Finding::error("display", fault),
            None => Finding::fine("display", format!("{}: pawgate uses it", settings.name())),
        };
    }
    let bolt = patient.config.and_then(Config::door).map(|door| Bolt::from(door.safe_state.position()));
    let name = patient.config.map_or("pawgate", |config| config.device().name());
    let mut buffer = vec![0; 4096];
    let shown = settings.open(&mut buffer).and_then(|mut display| display.show(&face::ended(name, bolt)));
    match shown {
        Ok(()) => Finding::fine("display", format!("{}; `pawgate display` shows every screen", settings.name())),
        Err(error) => Finding::error("display", &error),
    }
}
