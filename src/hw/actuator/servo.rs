//! A latch that a servo moves, on a PWM of the kernel's sysfs (`/sys/class/pwm`): a pulse every 20 ms, whose width is the place.
//!
//! The channel belongs to no process: pulses go on after pawgate has died, and a channel is found as the one before has left it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::timed::{Ends, Timed};
use super::{Error, Latch, Position};

/// Where the kernel shows its PWMs.
pub const SYSFS: &str = "/sys/class/pwm";
/// What servos expect, in nanoseconds.
const PERIOD: u64 = 20_000_000;
/// How long udev may take to hand a new channel to its group.
const UDEV: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// Drivers round pulses to their own clock's ticks; more than this many nanoseconds is another place.
const ROUNDING: u64 = 10_000;
/// The longest a servo may take from one end to the other.
pub const TRAVEL: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// The width of a servo's pulses: 500 to 2500 µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PulseWidth(u16);

impl PulseWidth {
    /// What servos take, in µs.
    pub const RANGE: std::ops::RangeInclusive<u16> = 500..=2500;

    /// So many µs; `None` outside [`Self::RANGE`].
    pub fn micros(micros: u16) -> Option<Self> {
        Self::RANGE.contains(&micros).then_some(Self(micros))
    }

    const fn nanos(self) -> u64 {
        self.0 as u64 * 1000
    }
}

/// A servo, and where it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServoSettings {
    /// [`SYSFS`], but for tests.
    pub root: PathBuf,
    /// N of `pwmchipN`.
    pub chip: u32,
    /// The chip's channel, from 0.
    pub channel: u32,
    /// Pulses that lock.
    pub locked: PulseWidth,
    /// Pulses that unlock.
    pub unlocked: PulseWidth,
    /// Pulses end so long after a command, within [`TRAVEL`], so that the servo neither hums nor gets hot; the mechanics then have to
    /// hold by themselves. `None`: they never end.
    pub off_after: Option<Duration>,
}

/// A latch on a servo. Nothing tells whether the servo follows.
pub struct ServoLatch {
    channel: Timed<Channel>,
    settings: ServoSettings,
}

impl ServoLatch {
    /// Takes the channel and sends the servo to `safe`.
    ///
    /// # Errors
    ///
    /// The settings contradict themselves; the chip or channel is not there, may not be written, or does not take the pulses; the
    /// system gives no thread.
    pub fn open(settings: &ServoSettings, safe: Position) -> Result<Self, Error> {
        let channel = Channel { folder: settings.chip_folder().join(format!("pwm{}", settings.channel)) };
        let fail = |cause| Error::Device { device: channel.name(), cause };
        settings.check().map_err(fail)?;
        settings.export(&channel.folder).map_err(fail)?;
        channel.prepare(settings.width(safe)).map_err(fail)?;
        let name = channel.name();
        let channel = Timed::start(channel).map_err(|cause| Error::Device { device: name, cause })?;
        let latch = Self { channel, settings: settings.clone() };
        latch.send(safe)?;
        Ok(latch)
    }

    fn send(&self, to: Position) -> Result<(), Error> {
        self.channel.command(|channel, due| {
            channel.send(self.settings.width(to))?;
            *due = self.settings.off_after.map(|after| Instant::now() + after);
            Ok(())
        })
    }
}

impl ServoSettings {
    fn chip_folder(&self) -> PathBuf {
        self.root.join(format!("pwmchip{}", self.chip))
    }

    fn width(&self, position: Position) -> PulseWidth {
        match position {
            Position::Locked => self.locked,
            Position::Unlocked => self.unlocked,
        }
    }

    fn check(&self) -> io::Result<()> {
        let wrong = |text: String| Err(io::Error::new(ErrorKind::InvalidInput, text));
        if self.locked == self.unlocked {
            return wrong("locked and unlocked have the same pulses; measure both ends with the servo in place".into());
        }
        match self.off_after {
            Some(after) if !TRAVEL.contains(&after) => {
                wrong(format!("pulses that end after {after:?}; it must be {:?} to {:?}", TRAVEL.start(), TRAVEL.end()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the chip has the channel; moves nothing.
    ///
    /// # Errors
    ///
    /// No such chip or channel, or the settings cannot be meant.
    pub fn look(&self) -> Result<(), Error> {
        let found = self.check().and_then(|()| {
            let channels = read_number(&self.chip_folder().join("npwm")).map_err(|error| self.no_chip(error))?;
            self.has(channels)
        });
        found.map_err(|cause| Error::Device { device: format!("the servo on {}", self.chip_folder().display()), cause })
    }

    fn has(&self, channels: u64) -> io::Result<()> {
        if u64::from(self.channel) < channels {
            return Ok(());
        }
        let text = format!("the chip has {channels} channels, counted from 0");
        Err(io::Error::new(ErrorKind::NotFound, text))
    }

    /// Makes the channel appear, and waits until it may be written.
    fn export(&self, folder: &Path) -> io::Result<()> {
        let chip = self.chip_folder();
        if !folder.exists() {
            let channels = read_number(&chip.join("npwm")).map_err(|error| self.no_chip(error))?;
            self.has(channels)?;
            write(&chip.join("export"), self.channel.into()).map_err(|error| match error.kind() {
                ErrorKind::ResourceBusy => io::Error::new(error.kind(), format!("{error}; a driver (a fan, sound) has it")),
                _ => error,
            })?;
        }
        let start = Instant::now();
        loop {
            match OpenOptions::new().write(true).open(folder.join("duty_cycle")) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() >= UDEV => return Err(with_hint(error)),
                Err(_) => sleep(POLL),
            }
        }
    }

    fn no_chip(&self, error: io::Error) -> io::Error {
        if error.kind() != ErrorKind::NotFound {
            return with_hint(error);
        }
        let mut there: Vec<_> = fs::read_dir(&self.root)
            .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        there.sort();
        let there = if there.is_empty() { "none".into() } else { there.join(", ") };
        let hint = "on a Raspberry Pi, put `dtoverlay=pwm` into /boot/firmware/config.txt and start it again";
        io::Error::new(ErrorKind::NotFound, format!("no pwmchip{}, there are: {there}; {hint}", self.chip))
    }
}

fn with_hint(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let text =
                format!("{error}; pawgate's user needs to write it: a udev rule that gives pwm to the group gpio does that");
            io::Error::new(ErrorKind::PermissionDenied, text)
        }
        kind => io::Error::new(kind, error.to_string()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| at(path, &error))
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = read(path)?;
    text.parse().map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("{} holds {text:?}, no number", path.display())))
}

/// Never creates a file: sysfs has those it has.
fn write_text(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(|error| at(path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| at(path, &error))
}

fn write(path: &Path, number: u64) -> io::Result<()> {
    write_text(path, &number.to_string())
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    with_hint(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

struct Channel {
    folder: PathBuf,
}

impl Channel {
    fn name(&self) -> String {
        format!("the servo on {}", self.folder.display())
    }

    /// Period and polarity. A channel that pulses as it should goes on doing so: switching it off would make the servo twitch.
    fn prepare(&self, safe: PulseWidth) -> io::Result<()> {
        let file = |name: &str| self.folder.join(name);
        let polarity = file("polarity");
        let upright = !polarity.exists() || read(&polarity)? != "inversed";
        if upright && read_number(&file("period"))? == PERIOD {
            return Ok(());
        }
        // The kernel refuses a polarity while pulses go out, and a period shorter than the pulse.
        if read_number(&file("enable"))? != 0 {
            write(&file("enable"), 0)?;
        }
        if read_number(&file("duty_cycle"))? != 0 {
            write(&file("duty_cycle"), 0)?;
        }
        write(&file("period"), PERIOD)?;
        if !upright {
            write_text(&polarity, "normal")?;
        }
        write(&file("duty_cycle"), safe.nanos())
    }

    /// Sends pulses of this width, and looks whether the driver does so.
    fn send(&self, width: PulseWidth) -> Result<(), Error> {
        let (duty, enable) = (self.folder.join("duty_cycle"), self.folder.join("enable"));
        let sent = write(&duty, width.nanos()).and_then(|()| write(&enable, 1));
        let found = sent.and_then(|()| Ok((read_number(&duty)?, read_number(&enable)?)));
        match found {
            Ok((nanos, 1)) if nanos.abs_diff(width.nanos()) <= ROUNDING => Ok(()),
            Ok((nanos, on)) => {
                let what = format!("send pulses of {} ns (it has {nanos} ns, enable {on})", width.nanos());
                Err(Error::Blocked { device: self.name(), what })
            }
            Err(cause) => Err(Error::Device { device: self.name(), cause }),
        }
    }
}

impl Ends for Channel {
    fn end(&mut self) -> Result<(), Error> {
        write(&self.folder.join("enable"), 0).map_err(|cause| Error::Device { device: self.name(), cause })
    }
}

impl Latch for ServoLatch {
    fn unlock(&mut self) -> Result<(), Error> {
        self.send(Position::Unlocked)
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.send(Position::Locked)
    }

    /// Knows nothing of the bolt, but tells of pulses that could not be ended.
    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.channel.trouble().map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(channel: bool) -> (tempfile::TempDir, ServoSettings) {
        let root = tempfile::tempdir().unwrap();
        let chip = root.path().join("pwmchip2");
        fs::create_dir(&chip).unwrap();
        fs::write(chip.join("npwm"), "2\n").unwrap();
        fs::write(chip.join("export"), "").unwrap();
        if channel {
            appear(&chip.join("pwm1"));
        }
        let width = |micros| PulseWidth::micros(micros).unwrap();
        let (locked, unlocked, off_after) = (width(1000), width(2000), None);
        let settings = ServoSettings { root: root.path().into(), chip: 2, channel: 1, locked, unlocked, off_after };
        (root, settings)
    }

    fn appear(folder: &Path) {
        fs::create_dir(folder).unwrap();
        for (file, text) in [("period", "0\n"), ("enable", "0\n"), ("polarity", "normal\n"), ("duty_cycle", "0\n")] {
            fs::write(folder.join(file), text).unwrap();
        }
    }

    fn state(settings: &ServoSettings) -> [String; 4] {
        let folder = settings.chip_folder().join("pwm1");
        ["period", "duty_cycle", "enable", "polarity"].map(|file| read(&folder.join(file)).unwrap())
    }

    #[test]
    fn opening_exports_and_goes_to_the_safe_position() {
        let (root, settings) = sysfs(false);
        let chip = root.path().join("pwmchip2");
        let kernel = std::thread::spawn(move || {
            while fs::read_to_string(chip.join("export")).unwrap() != "1" {
                sleep(Duration::from_millis(1));
            }
            sleep(Duration::from_millis(50));
            appear(&chip.join("pwm1"));
        });
        let mut latch = ServoLatch::open(&settings, Position::Locked).unwrap();
        kernel.join().unwrap();
        assert_eq!(state(&settings), ["20000000", "1000000", "1", "normal"]);
        latch.unlock().unwrap();
        assert_eq!(state(&settings), ["20000000", "2000000", "1", "normal"]);
        latch.lock().unwrap();
        assert_eq!((state(&settings)[1].as_str(), latch.position().unwrap()), ("1000000", None));
    }

    #[test]
    fn what_the_one_before_has_left_is_put_right() {
        let (_root, settings) = sysfs(true);
        let folder = settings.chip_folder().join("pwm1");
        for (file, text) in [("period", "5000000"), ("enable", "1"), ("polarity", "inversed"), ("duty_cycle", "4000000")] {
            fs::write(folder.join(file), text).unwrap();
        }
        ServoLatch::open(&settings, Position::Unlocked).unwrap();
        assert_eq!(state(&settings), ["20000000", "2000000", "1", "normal"]);
    }

    #[test]
    fn pulses_end_after_the_travel() {
        let (_root, mut settings) = sysfs(true);
        settings.off_after = Some(Duration::from_millis(400));
        let mut latch = ServoLatch::open(&settings, Position::Locked).unwrap();
        latch.unlock().unwrap();
        assert_eq!(state(&settings)[2], "1");
        sleep(Duration::from_millis(900));
        assert_eq!(state(&settings)[1..3], ["2000000", "0"]);
        latch.lock().unwrap();
        drop(latch);
        assert_eq!(state(&settings)[1..3], ["1000000", "0"], "going away waits for the end");
    }

    #[test]
    fn errors_say_what_to_do() {
        let (_root, settings) = sysfs(true);
        let error = |settings: &ServoSettings| ServoLatch::open(settings, Position::Locked).map(drop).unwrap_err().to_string();
        let text = error(&ServoSettings { chip: 0, ..settings.clone() });
        assert!(text.contains("pwmchip2") && text.contains("dtoverlay=pwm"), "{text}");
        let text = error(&ServoSettings { channel: 2, ..settings.clone() });
        assert!(text.contains("2 channels"), "{text}");
        let text = error(&ServoSettings { unlocked: settings.locked, ..settings.clone() });
        assert!(text.contains("same pulses"), "{text}");
        let text = error(&ServoSettings { off_after: Some(Duration::from_secs(60)), ..settings.clone() });
        assert!(text.contains("60s"), "{text}");
        assert_eq!((PulseWidth::micros(499), PulseWidth::micros(2501)), (None, None));
        assert!(with_hint(ErrorKind::PermissionDenied.into()).to_string().contains("udev"));
    }

    #[test]
    fn a_channel_that_vanishes_is_an_error() {
        let (_root, settings) = sysfs(true);
        let mut latch = ServoLatch::open(&settings, Position::Locked).unwrap();
        fs::remove_file(settings.chip_folder().join("pwm1/enable")).unwrap();
        assert!(latch.unlock().unwrap_err().to_string().contains("pwm1/enable"));
    }
}
