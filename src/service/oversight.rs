//! What others see of a running pawgate: systemd (readiness, watchdog), `pawgate status` (a file), the display, and the
//! latch's guard.
//!
//! The watchdog is fed by real progress only: the deciding loop has turned over, *and* the camera has achieved something since the last
//! time (a frame came, or an attempt to open it came to an end). A thread that hangs is neither, whichever it is.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::face::{Face, View};
use super::live::Overseer;
use crate::config::Config;
use crate::hw::clock::Monotonic;
use crate::hw::display::panel::Panel;
use crate::hw::display::screen::Bolt;

/// How long the display may take for its last screen.
const PARTING: Duration = Duration::from_millis(500);
/// How often the status file is written when nothing changes.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// A status older than this is that of a pawgate that hangs.
pub const STALE: Duration = Duration::from_secs(15);
/// The status file's name.
pub const STATUS_FILE: &str = "status.json";
/// The configuration of the start, for `pawgate safe-state`: pins and the safe state change with a restart only.
pub const CONFIG_FILE: &str = "config.toml";
/// Where it lies unless systemd names another folder (`RuntimeDirectory=`).
pub const RUNTIME_FOLDER: &str = "/run/pawgate";

/// What a running pawgate says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started: Timestamp,
    /// When this was written.
    pub written: Timestamp,
    /// The same as seconds since the machine was started: a clock that nobody sets.
    pub written_uptime: f64,
    /// The door's state, where there is a door.
    pub door: Option<String>,
    /// What is wrong with it.
    pub door_faults: Vec<String>,
    /// What is wrong with the feeder.
    pub feeder_faults: Vec<String>,
    /// Whether a feeder is there.
    pub feeder: bool,
    /// Why events do not reach the disk; none while they do.
    #[serde(default)]
    pub journal_fault: Option<String>,
    /// Why the display shows nothing; none while it does, or where there is none.
    #[serde(default)]
    pub display_fault: Option<String>,
    /// Seconds since the camera last achieved something.
    pub camera_age: f64,
    /// Frames that were classified since the start.
    pub classified: u64,
    /// Why it is ending, if it is.
    pub stopping: Option<String>,
}

impl Status {
    /// Seconds since it was written.
    pub fn age(&self) -> f64 {
        uptime() - self.written_uptime
    }
}

/// Seconds since the machine was started.
fn uptime() -> f64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Folder of the status file: systemd's, or the usual one.
pub fn runtime_folder() -> PathBuf {
    // With several folders, systemd separates them by colons.
    let folder = std::env::var("RUNTIME_DIRECTORY").ok().and_then(|folders| folders.split(':').next().map(PathBuf::from));
    folder.filter(|folder| folder.is_absolute()).unwrap_or_else(|| RUNTIME_FOLDER.into())
}

/// Called with each turn of the loop.
pub type Beat = Box<dyn Fn()>;

/// A display, and what it shows.
pub struct Shown {
    /// Told of every event by whoever records them.
    pub face: Rc<RefCell<Face>>,
    /// The display's thread.
    pub panel: Panel,
}

impl Shown {
    /// On `panel`.
    pub fn new(face: Rc<RefCell<Face>>, panel: Panel) -> Self {
        Self { face, panel }
    }

    fn turned(&mut self, now: Monotonic, chain: &Chain, trouble: Option<&str>) {
        let screen = self.face.borrow().screen(&View::of(chain, trouble), now, Timestamp::now());
        self.panel.show(&screen);
    }
}

/// Tells others.
pub struct Oversight {
    display: Option<Shown>,
    /// None where nothing is to be written.
    folder: Option<PathBuf>,
    /// Tells the latch's guard that the loop turns over.
    beat: Option<Beat>,
    watchdog: Option<Duration>,
    fed: Option<(Monotonic, Monotonic)>,
    started: Timestamp,
    shown: Option<(Monotonic, Status)>,
    ready: bool,
    reloading: bool,
    stopping: Option<String>,
    /// Told once.
    failed: bool,
}

impl Oversight {
    /// `folder` is where the status file goes. The watchdog's time comes from systemd's environment.
    pub fn new(folder: Option<PathBuf>, beat: Option<Beat>, display: Option<Shown>) -> Self {
        Self {
            display,
            folder,
            beat,
            watchdog: sd_notify::watchdog_enabled(),
            fed: None,
            started: Timestamp::now(),
            shown: None,
            ready: false,
            reloading: false,
            stopping: None,
            failed: false,
        }
    }

    /// Whether the watchdog gets a sign of life now: four times in its period, and only for progress.
    fn feeds(&mut self, now: Monotonic, progress: Monotonic) -> bool {
        let Some(period) = self.watchdog else { return false };
        let due = self.fed.is_none_or(|(at, seen)| now.since(at) >= period / 4 && progress > seen);
        if due {
            self.fed = Some((now, progress));
        }
        due
    }

    /// Shows on the display that pawgate has ended, and lets go of it; a display that hangs is left behind.
    pub fn darken(&mut self, bolt: Option<Bolt>) {
        if let Some(Shown { face, panel }) = self.display.take() {
            let last = face.borrow().ended(bolt);
            if !panel.close(&last, PARTING) {
                log::warn!("the display does not answer: it may go on showing what was");
            }
        }
    }

    /// Leaves the configuration of the start where `pawgate safe-state` finds it.
    pub fn leave(&self, config: &Config) {
        let Some(folder) = &self.folder else { return };
        let (path, temporary) = (folder.join(CONFIG_FILE), folder.join(".config.toml.new"));
        let left = std::fs::write(&temporary, config.text()).and_then(|()| std::fs::rename(&temporary, &path));
        if let Err(error) = left {
            log::warn!("{} cannot be written ({error}): `pawgate safe-state` will use the configuration file", path.display());
        }
    }

    fn show(&mut self, now: Monotonic, progress: Monotonic, chain: &Chain, journal_fault: Option<String>) {
        let Some(folder) = self.folder.clone() else { return };
        let names = |faults: crate::policy::fault::Faults| faults.iter().map(|fault| fault.to_string()).collect::<Vec<_>>();
        let door = chain.door().map(|door| door.state());
        let feeder = chain.feeder().map(|feeder| feeder.state());
        let status = Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.started,
            written: Timestamp::now(),
            written_uptime: uptime(),
            door: door.map(|state| state.phase().name().to_owned()),
            door_faults: door.map(|state| names(state.faults())).unwrap_or_default(),
            feeder_faults: feeder.map(|state| names(state.faults())).unwrap_or_default(),
            feeder: feeder.is_some(),
            journal_fault,
            display_fault: self.display.as_ref().and_then(|display| display.panel.trouble()),
            camera_age: now.since(progress).as_secs_f64(),
            classified: chain.classified(),
            stopping: self.stopping.clone(),
        };
        let same = |(at, last): &(Monotonic, Status)| {
            now.since(*at) < STATUS_EVERY
                && (&last.door, &last.door_faults, &last.feeder_faults)
                    == (&status.door, &status.door_faults, &status.feeder_faults)
                && (&last.journal_fault, &last.display_fault, &last.stopping)
                    == (&status.journal_fault, &status.display_fault, &status.stopping)
        };
        if self.shown.as_ref().is_some_and(same) {
            return;
        }
        if let Err(error) = write(&folder, &status)
            && !std::mem::replace(&mut self.failed, true)
        {
            log::warn!("`pawgate status` will see nothing: {} cannot be written ({error})", folder.join(STATUS_FILE).display());
        }
        let line = status.line();
        if self.shown.as_ref().is_none_or(|(_, last)| last.line() != line) {
            notify(&[NotifyState::Status(&line)]);
        }
        self.shown = Some((now, status));
    }
}

impl Status {
    /// For people, on one line.
    pub fn line(&self) -> String {
        let door = self.door.as_ref().map(|state| format!("door {state}"));
        let feeder = self.feeder.then(|| "feeder ready".to_owned()).filter(|_| self.feeder_faults.is_empty());
        let faults = self.door_faults.iter().chain(&self.feeder_faults).chain(&self.journal_fault).chain(&self.display_fault);
        let mut faults: Vec<_> = faults.map(String::as_str).collect();
        faults.dedup();
        let faults = (!faults.is_empty()).then(|| format!("FAULT: {}", faults.join("; ")));
        [door, feeder, faults, self.stopping.clone()].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// In one step: whoever reads sees the old or the new, never a part.
fn write(folder: &Path, status: &Status) -> std::io::Result<()> {
    let (path, temporary) = (folder.join(STATUS_FILE), folder.join(".status.json.new"));
    let mut file = std::fs::File::create(&temporary)?;
    // Everybody may ask how it is, whatever the service's umask; the journal, with its pictures, stays closed.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    serde_json::to_writer(&mut file, status)?;
    file.write_all(b"\n")?;
    std::fs::rename(temporary, path)
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and that is no error.
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("systemd cannot be told how pawgate is: {error}");
    }
}

impl Overseer for Oversight {
    fn turned(&mut self, now: Monotonic, progress: Monotonic, chain: &Chain, trouble: Option<String>) {
        if let Some(beat) = &self.beat {
            beat();
        }
        if let Some(display) = &mut self.display {
            display.turned(now, chain, trouble.as_deref());
        }
        self.show(now, progress, chain, trouble);
        if !std::mem::replace(&mut self.ready, true) || std::mem::take(&mut self.reloading) {
            notify(&[NotifyState::Ready]);
        }
        if self.feeds(now, progress) {
            notify(&[NotifyState::Watchdog]);
        }
    }

    fn reloading(&mut self) {
        self.reloading = true;
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        notify(&states);
    }

    fn stopping(&mut self, why: &str) {
        self.stopping = Some(format!("ending: {why}"));
        notify(&[NotifyState::Stopping]);
    }
}

impl Drop for Oversight {
    fn drop(&mut self) {
        // A status that stays would say that pawgate runs. The latch is safe by now.
        if let Some(folder) = &self.folder {
            for file in [STATUS_FILE, CONFIG_FILE] {
                std::fs::remove_file(folder.join(file)).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oversight(watchdog: Option<u64>) -> Oversight {
        let mut oversight = Oversight::new(None, None, None);
        oversight.watchdog = watchdog.map(Duration::from_secs);
        oversight
    }

    #[test]
    fn the_watchdog_is_fed_by_progress_alone() {
        let at = |seconds: u64| Monotonic::new(Duration::from_secs(seconds));
        let mut oversight = oversight(Some(8));
        assert!(oversight.feeds(at(0), at(0)));
        assert!(!oversight.feeds(at(1), at(1)), "not before a quarter of its period");
        assert!(oversight.feeds(at(2), at(1)));
        // The loop turns over, but the camera hangs.
        assert!((3..60).all(|second| !oversight.feeds(at(second), at(1))));
        assert!(oversight.feeds(at(60), at(59)));
        assert!(!self::oversight(None).feeds(at(9), at(9)));
    }

    #[test]
    fn a_status_names_what_is_wrong() {
        let status = Status {
            pid: 1,
            version: "1".into(),
            started: Timestamp::UNIX_EPOCH,
            written: Timestamp::UNIX_EPOCH,
            written_uptime: uptime(),
            door: Some("locked".into()),
            door_faults: vec![],
            feeder_faults: vec![],
            feeder: true,
            journal_fault: None,
            display_fault: None,
            camera_age: 0.1,
            classified: 7,
            stopping: None,
        };
        assert_eq!(status.line(), "door locked, feeder ready");
        let faulty = Status { door_faults: vec!["a".into()], feeder_faults: vec!["a".into(), "b".into()], ..status.clone() };
        assert_eq!(faulty.line(), "door locked, FAULT: a; b");
        let forgetful = Status { journal_fault: Some("c".into()), ..status.clone() };
        assert_eq!(forgetful.line(), "door locked, feeder ready, FAULT: c");
        let blind = Status { display_fault: Some("d".into()), ..status.clone() };
        assert_eq!(blind.line(), "door locked, feeder ready, FAULT: d");
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &status).unwrap();
        let read: Status = serde_json::from_slice(&std::fs::read(folder.path().join(STATUS_FILE)).unwrap()).unwrap();
        assert_eq!(read, status);
        let mode = std::fs::metadata(folder.path().join(STATUS_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "whoever looks may ask");
        assert!(read.age() < 60.0);
    }
}
