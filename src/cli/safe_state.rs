//! `pawgate safe-state`: sends latch and motor to their safe state, and says so on the display, when the service is gone, however it went. systemd runs it after
//! every end (`ExecStopPost=`): boards such as the Raspberry Pi keep a pin driven whose process has died.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::run::PinArgs;
use super::{Exit, Failure};
use crate::config::{self, Config};
use crate::hw::actuator::settings::drive_safe;
use crate::hw::display::{self, panel::Panel, screen::Bolt};
use crate::service::{face, oversight};

/// How long a display may take: a bus that hangs must not keep systemd from starting pawgate again.
const SHOWING: Duration = Duration::from_secs(1);
/// Never, in the time that this takes.
const DARK_AFTER: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration; the one that the service ran with comes first, where it left it.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Folder where the service left its configuration; systemd names it.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    #[command(flatten)]
    pin: PinArgs,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let folder = args.runtime.clone().unwrap_or_else(oversight::runtime_folder);
    let config = ran_with(&folder).map_or_else(|| Config::read(&args.config).map_err(super::setup::refuse), Ok)?;
    let mut failed = None;
    if let Some(door) = config.door()
        && let Some(latch) = args.pin.latch(&config)
    {
        let safe = door.safe_state.position();
        match drive_safe(&latch, safe) {
            Ok(()) => writeln!(out, "the latch is {safe}")?,
            Err(error) => failed = Some(error),
        }
    }
    if let Some(motor) = &config.devices().motor {
        match motor.open() {
            Ok(_) => writeln!(out, "the feeder's motor stands still")?,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    // Last, and whatever becomes of it: a display that went on showing the last visit would be a lie.
    if let Some(display) = &config.devices().display
        && args.pin.is_real()
    {
        tell(display, &config);
    }
    match failed {
        Some(error) => Err(Failure::new(Exit::Device, error)),
        None => Ok(Exit::Ok),
    }
}

/// Shows that pawgate does not run. A display that cannot do that says so in the log.
fn tell(display: &display::Settings, config: &Config) {
    let bolt = config.door().map(|door| Bolt::from(door.safe_state.position()));
    let shown =
        Panel::start(display.clone(), DARK_AFTER).map(|panel| panel.close(&face::ended(config.device().name(), bolt), SHOWING));
    if !matches!(shown, Ok(true)) {
        log::warn!("the display may go on showing what was");
    }
}

/// The configuration that the service left: the file may have been broken since.
fn ran_with(folder: &Path) -> Option<Config> {
    let path = folder.join(oversight::CONFIG_FILE);
    let config = Config::read(&path).inspect_err(|error| log::debug!("{error}"));
    config.ok()
}
