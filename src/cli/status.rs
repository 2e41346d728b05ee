//! `pawgate status`: how a running pawgate is.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use super::{Exit, Failure};
use crate::service::oversight::{self, STALE, STATUS_FILE, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the running pawgate's status file.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// Print it as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let path = args.runtime.clone().unwrap_or_else(oversight::runtime_folder).join(STATUS_FILE);
    let status = match std::fs::read(&path) {
        Ok(bytes) => parse(&bytes).map_err(|e| Failure::new(Exit::NotRunning, anyhow::anyhow!("{}: {e}", path.display())))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return nobody(args, out),
        // It may well run.
        Err(error) => {
            return Err(Failure::new(
                Exit::Partly,
                anyhow::anyhow!("cannot read {} ({error}): ask with `sudo`", path.display()),
            ));
        }
    };
    // A process that was killed leaves its file behind.
    if !std::path::Path::new("/proc").join(status.pid.to_string()).exists() {
        return nobody(args, out);
    }
    let hangs = status.age() > STALE.as_secs_f64();
    if args.json {
        let mut value = serde_json::to_value(&status).map_err(|e| Failure::new(Exit::Io, e))?;
        value["running"] = true.into();
        value["hangs"] = hangs.into();
        writeln!(out, "{value}")?;
    } else {
        writeln!(out, "{}", status.line())?;
        writeln!(out, "pawgate {} runs since {} (process {})", status.version, local(&status), status.pid)?;
        writeln!(
            out,
            "{} frames classified; the camera's last sign is {:.1} s old",
            status.classified,
            status.camera_age + status.age()
        )?;
        if hangs {
            writeln!(out, "it has said nothing for {:.0} s: it hangs, or the machine slept", status.age())?;
        }
    }
    let devices = status.journal_fault.is_some() || status.display_fault.is_some();
    let faults = !status.door_faults.is_empty() || !status.feeder_faults.is_empty() || devices;
    let faulty = hangs || faults;
    Ok(if faulty { Exit::Partly } else { Exit::Ok })
}

fn parse(bytes: &[u8]) -> Result<Status, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn local(status: &Status) -> String {
    super::events::local(status.started, &jiff::tz::TimeZone::system()).to_string()
}

fn nobody(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    if args.json {
        writeln!(out, "{}", serde_json::json!({ "running": false }))?;
    } else {
        writeln!(out, "pawgate does not run; `systemctl status pawgate` may say why")?;
    }
    Ok(Exit::NotRunning)
}
