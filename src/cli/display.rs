//! `pawgate display`: every screen on the display, to see whether it is connected well; or as pictures.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Exit, Failure, setup};
use crate::config::{self, Config};
use crate::hw::display::panel::Opener;
use crate::hw::display::{Kind, Settings, screen, sim, st7789};
use crate::service::oversight;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration that says which display there is.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// How long each screen is shown.
    #[arg(long, value_name = "DURATION", value_parser = setup::duration, default_value = "2s")]
    hold: Duration,
    /// Write the screens as PNG files into this folder, as an SSD1306 and an ST7789 show them; no display and no configuration is needed.
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.png {
        Some(folder) => pictures(folder, out),
        None => show(args, out),
    }
}

fn show(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = Config::read(&args.config).map_err(setup::refuse)?;
    let Some(settings) = &config.devices().display else {
        let what =
            format!("{} has no [display]: add one (docs/display.md), or see the screens with --png DIR", args.config.display());
        return Err(Failure::new(Exit::Config, anyhow::anyhow!(what)));
    };
    if oversight::runtime_folder().join(oversight::STATUS_FILE).exists() {
        writeln!(out, "pawgate runs and uses the display too: stop it first (systemctl stop pawgate)")?;
        return Ok(Exit::Partly);
    }
    let failed = |error| Failure::new(Exit::Device, error);
    let mut buffer = vec![0; 4096];
    let mut display = settings.open(&mut buffer).map_err(failed)?;
    writeln!(out, "{}", settings.name())?;
    for (name, screen) in screen::examples() {
        writeln!(out, "{name}")?;
        out.flush()?;
        display.show(&screen).map_err(failed)?;
        std::thread::sleep(args.hold);
    }
    display.switch(false).map_err(failed)?;
    Ok(Exit::Ok)
}

/// One of each kind, as docs/display shows them.
fn kinds() -> [(&'static str, Settings); 3] {
    let line = |line| crate::hw::actuator::gpio::LineSettings {
        chip: crate::hw::actuator::gpio::ChipName::Label(String::new()),
        line: crate::hw::actuator::gpio::LineName::Offset(line),
        active: crate::hw::actuator::gpio::Active::High,
    };
    let tft = |panel, quarters| {
        let bus = PathBuf::new();
        let kind = st7789::St7789 { bus, mode3: false, panel, inverted: true, data: line(0), reset: None, light: None };
        Settings { kind: Kind::St7789(Box::new(kind)), quarters, ..Settings::default() }
    };
    [
        ("ssd1306", Settings::default()),
        ("st7789", tft(st7789::Panel::SQUARE, 0)),
        ("st7789-wide", tft(st7789::Panel::of([170, 320]).unwrap_or(st7789::Panel::SQUARE), 1)),
    ]
}

fn pictures(folder: &Path, out: &mut dyn Write) -> Result<Exit, Failure> {
    std::fs::create_dir_all(folder)?;
    for (kind, settings) in kinds() {
        for (name, screen) in screen::examples() {
            let path = folder.join(format!("{kind}-{name}.png"));
            let written = sim::picture(&settings, &screen).save_png(&path);
            written.map_err(|error| Failure::new(Exit::Io, sim::unwritable(&path, &error)))?;
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(Exit::Ok)
}
