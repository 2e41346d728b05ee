//! Disk, user, supply and clock of the machine.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Finding, Patient};
use crate::config::{Config, show_size};
use crate::hw::actuator::settings::Drive;
use crate::hw::camera::Source;
use crate::hw::display;
use crate::journal::{self, FileError, Reader};

/// Hotter than this, boards begin to slow down.
const HOT: f64 = 80.0;
/// The user that the unit and the package name.
const USER: &str = "pawgate";
/// pawgate is younger than this: a clock that says otherwise was never set.
const EARLIEST: &str = "2026-01-01T00:00:00Z";

/// The journal, and the disk below it.
pub(super) fn journal(patient: &Patient<'_>) -> Finding {
    let folder =
        patient.config.map_or_else(|| PathBuf::from(journal::DEFAULT_FOLDER), |config| config.journal().folder.clone());
    let keep_free = patient.config.map_or(0, |config| config.journal().reserve_bytes);
    let Some(there) = folder.ancestors().find(|folder| folder.exists()) else {
        return Finding::note("journal", format!("there is no {} yet", folder.display()));
    };
    let free = match rustix::fs::statvfs(there) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            return Finding::wrong("journal", format!("{}: {error}", there.display()), "name another folder as journal.folder");
        }
    };
    let room = format!("{:.1} GB free", free as f64 / 1e9);
    if free < keep_free {
        let text = format!("{room} at {}, less than journal.keep_free ({})", there.display(), show_size(keep_free));
        return Finding::wrong(
            "journal",
            text,
            "delete something: pictures and old events are given up, and new events stay in memory",
        );
    }
    let show = folder.display();
    let checked = Reader::open(&folder).and_then(|reader| reader.verify().and_then(|()| reader.range()));
    match checked {
        Ok(Some((_, _, count))) => Finding::fine("journal", format!("{show}, {count} events, {room}")),
        Ok(None) => Finding::fine("journal", format!("{show}, no events yet, {room}")),
        Err(FileError::Missing { .. }) => {
            Finding::note("journal", format!("{show} has no journal yet, {room}; it begins with the first start"))
        }
        Err(error) => Finding::error("journal", &error),
    }
}

/// Whether the service's user is there and may use what is configured.
pub(super) fn user(patient: &Patient<'_>) -> Finding {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    let Some(user) = entry(&passwd, USER) else {
        let text = format!("there is no user {USER}, which the service runs as");
        return Finding::wrong("user", text, "install the package, or run `systemd-sysusers` with systemd/pawgate.sysusers");
    };
    let own: Option<u32> = user.get(3).and_then(|gid| gid.parse().ok());
    let in_group = |id: u32| {
        let named = |line: &&str| line.split(':').nth(2).and_then(|gid| gid.parse().ok()) == Some(id);
        let members = group.lines().find(named).and_then(|line| line.split(':').nth(3)).unwrap_or_default();
        own == Some(id) || members.split(',').any(|member| member == USER)
    };
    let closed: Vec<String> = devices(patient.config)
        .into_iter()
        .filter(|path| !may_use(path, &in_group))
        .map(|path| path.display().to_string())
        .collect();
    if !closed.is_empty() {
        let text = format!("the user {USER} may not use {}", closed.join(", "));
        return Finding::wrong(
            "user",
            text,
            "install systemd/70-pawgate.rules as a udev rule, then `udevadm control --reload; udevadm trigger`",
        );
    }
    let secrets = Path::new("/etc/pawgate/secrets");
    if secrets.metadata().is_ok_and(|data| data.permissions().mode() & 0o007 != 0) {
        let text = format!("everybody can read {}", secrets.display());
        return Finding::wrong("user", text, "`chmod 640 /etc/pawgate/secrets; chgrp pawgate /etc/pawgate/secrets`");
    }
    Finding::fine("user", format!("{USER} may use every device that is configured"))
}

/// Who asks: to an ordinary user, closed devices and files look like faults.
pub(super) fn asker() -> Option<Finding> {
    let id = rustix::process::geteuid();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let service = entry(&passwd, USER).and_then(|user| user.get(2)?.parse::<u32>().ok());
    (!id.is_root() && service != Some(id.as_raw())).then(|| {
        Finding::note(
            "asker",
            "what is closed to you need not be closed to the service: `sudo pawgate doctor` sees as much as that does",
        )
    })
}

/// A line of /etc/passwd or /etc/group, by its name.
fn entry<'t>(text: &'t str, name: &str) -> Option<Vec<&'t str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))
}

/// Device files that the configuration names, as far as they are there.
fn devices(config: Option<&Config>) -> Vec<PathBuf> {
    let Some(config) = config else { return vec![] };
    let mut paths = vec![];
    if let Source::Device(device) = &config.camera().source {
        paths.push(PathBuf::from(device));
    }
    let devices = config.devices();
    let has_lines = devices.motor.is_some()
        || devices.latch.as_ref().is_some_and(|latch| !matches!(latch.drive, Drive::Servo(_)))
        || devices.inputs.beam.is_some()
        || devices.inputs.button.is_some();
    if has_lines && let Ok((chips, _)) = crate::hw::actuator::gpio::chips() {
        paths.extend(chips.into_iter().map(|chip| chip.path));
    }
    match devices.display.as_ref().map(|display| &display.kind) {
        Some(display::Kind::Ssd1306 { bus, .. }) => paths.push(bus.clone()),
        Some(display::Kind::St7789(tft)) => paths.push(tft.bus.clone()),
        None => {}
    }
    paths.retain(|path| path.is_absolute() && path.exists());
    paths
}

fn may_use(path: &Path, in_group: &dyn Fn(u32) -> bool) -> bool {
    let Ok(data) = path.metadata() else { return true };
    let mode = data.permissions().mode();
    mode & 0o006 == 0o006 || mode & 0o060 == 0o060 && in_group(data.gid())
}

/// Undervoltage, throttling and heat, as far as the board tells. `root` is `/` but for tests.
pub(super) fn power(root: &Path) -> Finding {
    let mut told = vec![];
    if let Some(bits) = throttled(root) {
        // Bits of the firmware's get_throttled: now, and since the start sixteen higher.
        let names = [(0, "the voltage is too low"), (1, "the clock is capped"), (2, "it is throttled"), (3, "it is too hot")];
        let at = |shift: u32| {
            names.iter().filter(move |(bit, _)| bits >> (bit + shift) & 1 == 1).map(|(_, name)| *name).collect::<Vec<_>>()
        };
        let mend = "use the board's own supply and a short cable; a heat sink or fan where it is hot";
        if !at(0).is_empty() {
            return Finding::wrong("power", at(0).join(", "), mend);
        }
        if !at(16).is_empty() {
            return Finding::wrong("power", format!("since the start: {}", at(16).join(", ")), mend);
        }
        told.push("no undervoltage and no throttling since the start".to_owned());
    }
    if alarm(root) {
        return Finding::wrong("power", "the voltage is or was too low", "use the board's own supply and a short cable");
    }
    if let Some(celsius) = hottest(root) {
        if celsius > HOT {
            return Finding::wrong(
                "power",
                format!("{celsius:.0} °C"),
                "give it a heat sink or a fan, and keep it out of the sun",
            );
        }
        told.push(format!("{celsius:.0} °C"));
    }
    match told.is_empty() {
        true => Finding::note("power", "this machine tells nothing about its supply and temperature"),
        false => Finding::fine("power", told.join(", ")),
    }
}

/// What a Raspberry Pi's firmware says.
fn throttled(root: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(root.join("sys/devices/platform/soc/soc:firmware/get_throttled")).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// A supply's alarm, which a Raspberry Pi's kernel raises on its own.
fn alarm(root: &Path) -> bool {
    let entries = std::fs::read_dir(root.join("sys/class/hwmon")).into_iter().flatten().flatten();
    let mut alarms = entries.map(|entry| std::fs::read_to_string(entry.path().join("in0_lcrit_alarm")));
    alarms.any(|alarm| alarm.is_ok_and(|text| text.trim() == "1"))
}

/// The hottest zone, in degrees Celsius.
fn hottest(root: &Path) -> Option<f64> {
    let entries = std::fs::read_dir(root.join("sys/class/thermal")).ok()?.flatten();
    let zones = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("thermal_zone"));
    let temperatures =
        zones.filter_map(|zone| std::fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse::<f64>().ok());
    // Zones that are switched off say nonsense.
    temperatures.map(|milli| milli / 1000.0).filter(|celsius| (-40.0..150.0).contains(celsius)).max_by(f64::total_cmp)
}

/// Whether rules with times can rely on it.
pub(super) fn clock(config: Option<&Config>) -> Finding {
    let zone = config.map_or_else(TimeZone::system, |config| config.device().time_zone().clone());
    let now = Timestamp::now();
    let local = zone.to_datetime(now).strftime("%Y-%m-%d %H:%M");
    if now < EARLIEST.parse().unwrap_or(Timestamp::UNIX_EPOCH) {
        return Finding::wrong(
            "clock",
            format!("it says {local}"),
            "set it: `timedatectl set-ntp true`, or a clock with a battery",
        );
    }
    if zone.is_unknown() {
        return Finding::wrong(
            "clock",
            "the system has no time zone",
            "set device.time_zone, or `timedatectl set-timezone Europe/Berlin`",
        );
    }
    let name = zone.iana_name().unwrap_or("the system's zone").to_owned();
    match is_synchronised() {
        Some(true) => Finding::fine("clock", format!("{local} ({name}), synchronised")),
        Some(false) => Finding::wrong(
            "clock",
            format!("{local} ({name}), but nobody keeps it"),
            "`timedatectl set-ntp true` (package systemd-timesyncd); until it has run evenly for a minute, rules with times allow nothing",
        ),
        None => Finding::note("clock", format!("{local} ({name}); whether it is right, nobody tells here")),
    }
}

/// What systemd says of the kernel's clock; none where it is not there.
fn is_synchronised() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let mut command = Command::new("timedatectl");
    let asked = command.args(["show", "-p", "NTPSynchronized", "--value"]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    match asked {
        Ok(output) if output.status.success() => Some(output.stdout.trim_ascii() == b"yes"),
        Err(error) if error.kind() != ErrorKind::NotFound => None,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    /// A tree of files below a folder.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_weak_supply_is_told_now_and_later() {
        const FILE: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";
        let power = |bits: &str| power(tree(&[(FILE, bits)]).path());
        assert_eq!(power("0\n").state, State::Fine);
        let now = power("50005\n");
        assert_eq!((now.state, now.found.as_str()), (State::Wrong, "the voltage is too low, it is throttled"));
        let before = power("0x50000\n");
        assert_eq!(
            (before.state, before.found.as_str()),
            (State::Wrong, "since the start: the voltage is too low, it is throttled")
        );
        assert_eq!(power("nonsense").state, State::Note);
    }

    #[test]
    fn heat_and_alarms_are_found() {
        let power = |files: &[(&str, &str)]| power(tree(files).path());
        let zone = |n: u32| format!("sys/class/thermal/thermal_zone{n}/temp");
        let (first, second) = (zone(0), zone(1));
        assert_eq!(power(&[(&first, "48312\n"), (&second, "-274000\n")]).found, "48 °C");
        let hot = power(&[(&first, "48312\n"), (&second, "86000\n")]);
        assert_eq!((hot.state, hot.found.as_str()), (State::Wrong, "86 °C"));
        assert_eq!(power(&[("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "1\n")]).state, State::Wrong);
        assert_eq!(power(&[("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "0\n")]).state, State::Note);
        assert_eq!(power(&[]).state, State::Note);
    }

    #[test]
    fn the_groups_of_a_device_are_asked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode = |mode: u32| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let may = |member: bool| may_use(file.path(), &|_| member);
        mode(0o660);
        assert_eq!((may(true), may(false)), (true, false));
        mode(0o640);
        assert!(!may(true), "read only");
        mode(0o666);
        assert!(may(false));
    }
}
