//! Lines of the GPIO character device, and the latches that hang on them.
//!
//! A line is requested active-high whatever its wiring is, and [`Active`] is dealt with here: the kernel's own flag for active-low
//! is turned round a second time by linux-embedded-hal's `CdevPin`. An output is requested as one, with its first level; `CdevPin`
//! can turn an input into an output, but forgets the level where the line is an output already, and a latch would twitch.
//!
//! What a level means for an animal is not known here; inputs that are polled are [`crate::hw::inputs`]' matter.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use embedded_hal::digital::{InputPin, OutputPin};
use linux_embedded_hal::gpio_cdev::{self, Chip, LineRequestFlags};
use linux_embedded_hal::{CdevPin, CdevPinError};

use super::timed::{Ends, Timed};
use super::{Error, Latch, Position};

/// What the kernel shows as the holder of a line (`gpioinfo`).
pub const CONSUMER: &str = "pawgate";
/// The longest text the kernel keeps for a chip's label or a line's name, in bytes.
const LONGEST_NAME: usize = 31;
/// More names than this make a message unreadable.
const LISTED: usize = 64;
/// How long a level may take to be seen on the line after it was set (an edge slowed down by a filter).
const SETTLE: Duration = Duration::from_millis(1);
/// Rest between the pulses of two directions, so that a bridge never has both its sides on.
const GAP: Duration = Duration::from_millis(5);
/// How long a pulse may be: shorter moves nothing, longer burns a coil.
pub const PULSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(5);

/// A text that names no chip, line or level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {hint}")]
pub struct BadName {
    text: String,
    what: &'static str,
    hint: &'static str,
}

fn checked<'a>(text: &'a str, what: &'static str, hint: &'static str) -> Result<&'a str, BadName> {
    let bad = text.is_empty() || text != text.trim() || text.chars().any(char::is_control);
    if bad { Err(BadName { text: text.into(), what, hint }) } else { Ok(text) }
}

/// Which GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChipName {
    /// Its device file. Its number may change with the kernel.
    Path(PathBuf),
    /// What its driver calls it (`pinctrl-rp1`, `tegra234-gpio`), which stays.
    Label(String),
}

impl FromStr for ChipName {
    type Err = BadName;

    /// A path (`/dev/gpiochip0`), the same without `/dev/`, or a label.
    fn from_str(text: &str) -> Result<Self, BadName> {
        const WHAT: &str = "GPIO chip";
        const HINT: &str =
            "write its label (such as \"pinctrl-rp1\", see `gpiodetect`) or its path (such as \"/dev/gpiochip0\")";
        let text = checked(text, WHAT, HINT)?;
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        let number = text.strip_prefix("gpiochip").unwrap_or(text);
        match (number.bytes().all(|byte| byte.is_ascii_digit()), number.len() < text.len()) {
            (true, true) if !number.is_empty() => Ok(Self::Path(format!("/dev/{text}").into())),
            (false, _) if text.len() <= LONGEST_NAME => Ok(Self::Label(text.into())),
            _ => Err(BadName { text: text.into(), what: WHAT, hint: HINT }),
        }
    }
}

impl fmt::Display for ChipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Label(label) => f.write_str(label),
        }
    }
}

/// Which line of a chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineName {
    /// Its number on the chip, from 0. On a Raspberry Pi this is the BCM number, not the header's pin.
    Offset(u32),
    /// Its name in the device tree (`GPIO17`, `PH.00`).
    Name(String),
}

impl FromStr for LineName {
    type Err = BadName;

    /// A number, or a name; a text of digits is a number.
    fn from_str(text: &str) -> Result<Self, BadName> {
        const WHAT: &str = "GPIO line";
        const HINT: &str = "write its number on the chip (such as 17) or its name (such as \"GPIO17\", see `gpioinfo`)";
        let text = checked(text, WHAT, HINT)?;
        let bad = BadName { text: text.into(), what: WHAT, hint: HINT };
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Offset).map_err(|_| bad);
        }
        if text.len() <= LONGEST_NAME { Ok(Self::Name(text.into())) } else { Err(bad) }
    }
}

impl fmt::Display for LineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => offset.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Which level of a line is its active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Active {
    /// The supply's voltage.
    #[default]
    High,
    /// Ground, as with most relay boards and with buttons to ground.
    Low,
}

impl Active {
    /// Whether the line is high while it is `active`.
    const fn level(self, active: bool) -> bool {
        matches!(self, Self::High) == active
    }
}

impl FromStr for Active {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text {
            "high" => Ok(Self::High),
            "low" => Ok(Self::Low),
            _ => Err(BadName { text: text.into(), what: "active level", hint: "write \"high\" or \"low\"" }),
        }
    }
}

/// What pulls at an input that nothing drives. A chip that has no such resistors ignores this without a word; Linux before 5.5
/// refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Bias {
    /// As firmware and device tree have set it.
    #[default]
    AsIs,
    /// Nothing.
    Off,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
}

impl Bias {
    fn flags(self) -> LineRequestFlags {
        // From the kernel's uapi/linux/gpio.h (GPIOHANDLE_REQUEST_BIAS_…); gpio-cdev has no names for them.
        LineRequestFlags::from_bits_retain(match self {
            Self::AsIs => 0,
            Self::PullUp => 1 << 5,
            Self::PullDown => 1 << 6,
            Self::Off => 1 << 7,
        })
    }
}

impl FromStr for Bias {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text {
            "as-is" => Ok(Self::AsIs),
            "off" => Ok(Self::Off),
            "pull-up" => Ok(Self::PullUp),
            "pull-down" => Ok(Self::PullDown),
            _ => {
                let hint = "write \"pull-up\", \"pull-down\", \"off\" or \"as-is\"";
                Err(BadName { text: text.into(), what: "bias", hint })
            }
        }
    }
}

/// A line, and how it is wired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSettings {
    /// The chip.
    pub chip: ChipName,
    /// The line.
    pub line: LineName,
    /// Its active level.
    pub active: Active,
}

impl fmt::Display for LineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPIO line {} of {}", self.line, self.chip)
    }
}

/// A chip of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipInfo {
    /// Its device file.
    pub path: PathBuf,
    /// The kernel's name (`gpiochip0`).
    pub name: String,
    /// The driver's name.
    pub label: String,
}

/// The chips of this machine, and in words those that cannot be opened.
///
/// A chip that has several device files is listed once: a Raspberry Pi 5 has `gpiochip4` for programs that expect it there.
///
/// # Errors
///
/// `/dev` cannot be read.
pub fn chips() -> Result<(Vec<ChipInfo>, Vec<String>), Error> {
    let entries = std::fs::read_dir("/dev").map_err(|cause| device("/dev".into(), cause))?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gpiochip")))
        .collect();
    paths.sort();
    let (mut found, mut closed) = (BTreeMap::new(), vec![]);
    for path in paths {
        match Chip::new(&path) {
            Ok(chip) => {
                let info = ChipInfo { path, name: chip.name().into(), label: chip.label().into() };
                found.entry(info.name.clone()).or_insert(info);
            }
            Err(error) => closed.push(format!("{} ({error})", path.display())),
        }
    }
    Ok((found.into_values().collect(), closed))
}

fn device(device: String, cause: io::Error) -> Error {
    Error::Device { device, cause }
}

fn list(names: impl IntoIterator<Item = String>) -> String {
    let mut names: Vec<_> = names.into_iter().collect();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    match (names.is_empty(), more) {
        (true, _) => "none".into(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Finds the one chip with that label among `found`; `closed` are chips about which nothing is known.
fn choose_chip(label: &str, found: &[ChipInfo], closed: &[String]) -> io::Result<PathBuf> {
    let describe = |chip: &ChipInfo| format!("{} ({})", chip.path.display(), chip.label);
    let mut fitting = found.iter().filter(|chip| chip.label == label);
    match (fitting.next(), fitting.next()) {
        (Some(chip), None) => Ok(chip.path.clone()),
        (None, _) => {
            let there = list(found.iter().map(describe));
            let mut text = format!("no GPIO chip has this label, `gpiodetect` shows them; there are: {there}");
            if !closed.is_empty() {
                text += &format!("; these cannot be opened, is the user in the group gpio?: {}", list(closed.iter().cloned()));
            }
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
        (Some(_), Some(_)) => {
            let same = list(found.iter().filter(|chip| chip.label == label).map(describe));
            Err(io::Error::other(format!("several GPIO chips have this label, name one by its path: {same}")))
        }
    }
}

/// Finds the one line with that name; `names` are all lines' names, by number.
fn choose_line(wanted: &LineName, names: &[Option<String>]) -> io::Result<u32> {
    let numbered = || (0u32..).zip(names);
    let not_found = |text| io::Error::new(io::ErrorKind::NotFound, text);
    let name = match wanted {
        LineName::Offset(offset) if (*offset as usize) < names.len() => return Ok(*offset),
        LineName::Offset(_) => return Err(not_found(format!("the chip has {} lines, counted from 0", names.len()))),
        LineName::Name(name) => name,
    };
    let fitting: Vec<u32> = numbered().filter(|(_, line)| line.as_ref() == Some(name)).map(|(offset, _)| offset).collect();
    match fitting[..] {
        [offset] => Ok(offset),
        [] => {
            let named = numbered().filter_map(|(offset, line)| Some(format!("{} ({offset})", line.as_deref()?)));
            Err(not_found(format!("the chip has no line of this name, there are: {}", list(named))))
        }
        _ => {
            let same = list(fitting.iter().map(u32::to_string));
            Err(io::Error::other(format!("several lines have this name, use one of their numbers: {same}")))
        }
    }
}

/// Keeps the kind of an error of the system, for hints; the crate hides the number of an ioctl's.
fn cause(error: gpio_cdev::Error) -> io::Error {
    let kind = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            let text = format!("{error}; add the user that pawgate runs as to the group gpio");
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        Some(kind) => io::Error::new(kind, error),
        None => io::Error::other(error),
    }
}

fn open_chip(name: &ChipName) -> Result<Chip, Error> {
    let path = match name {
        ChipName::Path(path) => path.clone(),
        ChipName::Label(label) => {
            let (found, closed) = chips()?;
            choose_chip(label, &found, &closed).map_err(|cause| device(format!("the GPIO chip {label:?}"), cause))?
        }
    };
    Chip::new(&path).map_err(|error| {
        let cause = cause(error);
        let there = chips().map_or_else(|_| "unknown".into(), |(found, _)| list(found.iter().map(|chip| chip.label.clone())));
        let text = format!("{cause}; chips that can be opened: {there}");
        device(format!("the GPIO chip {}", path.display()), io::Error::new(cause.kind(), text))
    })
}

/// Requests a line; `default` is an output's first level.
fn request(settings: &LineSettings, flags: LineRequestFlags, default: u8) -> Result<CdevPin, Error> {
    let fail = |cause| device(format!("the {settings}"), cause);
    let line = find(settings)?;
    let biased = flags.bits() >> 5 != 0;
    let handle = line.request(flags, default, CONSUMER).map_err(|error| fail(refusal(&line, error, biased)))?;
    CdevPin::new(handle).map_err(|error| fail(cause(error)))
}

/// Who holds a line, if anybody does: a look that takes nothing.
///
/// # Errors
///
/// No chip or line has that name or several have, or it cannot be asked.
pub fn holder(settings: &LineSettings) -> Result<Option<String>, Error> {
    let info = find(settings)?.info().map_err(|error| device(format!("the {settings}"), cause(error)))?;
    let name = || info.consumer().unwrap_or("a driver of the kernel").to_owned();
    Ok(info.is_kernel().then(name))
}

/// The line of that name, on its chip.
fn find(settings: &LineSettings) -> Result<gpio_cdev::Line, Error> {
    let fail = |cause| device(format!("the {settings}"), cause);
    let mut chip = open_chip(&settings.chip)?;
    let names: Vec<_> = match settings.line {
        // A name costs one call for each line of the chip; a number costs none.
        LineName::Offset(_) => vec![None; chip.num_lines() as usize],
        LineName::Name(_) => chip.lines().map(|line| Some(line.info().ok()?.name()?.to_owned())).collect(),
    };
    let offset = choose_line(&settings.line, &names).map_err(fail)?;
    chip.get_line(offset).map_err(|error| fail(cause(error)))
}

/// A line as an output for a driver that wants the pin itself; `high` is its first level.
///
/// # Errors
///
/// As [`Line::output`], but that nobody looks whether the wire follows.
pub(in crate::hw) fn pin(settings: &LineSettings, high: bool) -> Result<CdevPin, Error> {
    request(settings, LineRequestFlags::OUTPUT, high.into())
}

/// Why the kernel did not hand a line out.
fn refusal(line: &gpio_cdev::Line, error: gpio_cdev::Error, biased: bool) -> io::Error {
    match line.info() {
        // The kernel sets this flag for lines that programs hold too.
        Ok(info) if info.is_kernel() => {
            let holder = info.consumer().unwrap_or("a driver of the kernel");
            let text = format!("it is held by {holder:?}; end that, or take another line");
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        }
        _ if biased => io::Error::other(format!("{error}; a bias needs Linux 5.5: without it, use a resistor and \"as-is\"")),
        _ => cause(error),
    }
}

/// What [`Line`] needs of a pin: levels as they are on the wire.
pub trait Pin: Send + 'static {
    /// Drives it.
    ///
    /// # Errors
    ///
    /// The system's.
    fn set_level(&mut self, high: bool) -> io::Result<()>;

    /// What is on the wire.
    ///
    /// # Errors
    ///
    /// The system's.
    fn is_level_high(&mut self) -> io::Result<bool>;
}

impl Pin for CdevPin {
    fn set_level(&mut self, high: bool) -> io::Result<()> {
        self.set_state(high.into()).map_err(io_error)
    }

    fn is_level_high(&mut self) -> io::Result<bool> {
        self.is_high().map_err(io_error)
    }
}

fn io_error(error: CdevPinError) -> io::Error {
    io::Error::other(error.inner().to_string())
}

/// A line that pawgate holds. The kernel takes it back when this goes; whether its level stays then depends on the chip (a Raspberry
/// Pi keeps driving it, unless `dtparam=strict_gpiod` is set).
pub struct Line<P = CdevPin> {
    pin: P,
    active: Active,
    name: String,
}

impl Line {
    /// Takes a line as output, which is active or not from its first moment on.
    ///
    /// # Errors
    ///
    /// No chip or line has that name or several have, somebody holds it, or it does not take the level.
    pub fn output(settings: &LineSettings, active: bool) -> Result<Self, Error> {
        let pin = request(settings, LineRequestFlags::OUTPUT, settings.active.level(active).into())?;
        let mut line = Self::over(pin, settings);
        line.verify(active)?;
        Ok(line)
    }

    /// Takes a line as input.
    ///
    /// # Errors
    ///
    /// No chip or line has that name or several have, somebody holds it, or the kernel knows no bias.
    pub fn input(settings: &LineSettings, bias: Bias) -> Result<Self, Error> {
        Ok(Self::over(request(settings, LineRequestFlags::INPUT | bias.flags(), 0)?, settings))
    }
}

impl<P: Pin> Line<P> {
    /// A line over a pin that is requested already.
    pub fn over(pin: P, settings: &LineSettings) -> Self {
        Self { pin, active: settings.active, name: settings.to_string() }
    }

    /// Its chip and number or name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drives an output, and looks whether the wire follows.
    ///
    /// # Errors
    ///
    /// The kernel's, or the wire has another level.
    pub fn set(&mut self, active: bool) -> Result<(), Error> {
        let level = self.active.level(active);
        self.pin.set_level(level).map_err(|cause| self.failed(cause))?;
        self.verify(active)
    }

    /// Whether the wire has the active level.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn is_active(&mut self) -> Result<bool, Error> {
        let high = self.pin.is_level_high().map_err(|cause| self.failed(cause))?;
        Ok(high == self.active.level(true))
    }

    fn verify(&mut self, active: bool) -> Result<(), Error> {
        if self.is_active()? == active {
            return Ok(());
        }
        sleep(SETTLE);
        if self.is_active()? == active {
            return Ok(());
        }
        let level = if self.active.level(active) { "high" } else { "low" };
        Err(Error::Blocked { device: format!("the {}", self.name), what: format!("get {level}, the wire stays as it was") })
    }

    fn failed(&self, cause: io::Error) -> Error {
        device(format!("the {}", self.name), cause)
    }
}

/// A latch that one line holds: it moves when the line becomes active, and back when it does not.
pub struct GpioHold<P = CdevPin> {
    line: Line<P>,
    energised: Position,
    sent: Position,
}

impl GpioHold {
    /// A latch that is `energised` while its line is active; it is sent to `safe` by the request itself, so that it never twitches.
    ///
    /// # Errors
    ///
    /// As [`Line::output`].
    pub fn open(line: &LineSettings, energised: Position, safe: Position) -> Result<Self, Error> {
        Ok(Self::over(Line::output(line, energised == safe)?, energised, safe))
    }
}

impl<P: Pin> GpioHold<P> {
    /// A latch over a line whose level means `now`.
    pub fn over(line: Line<P>, energised: Position, now: Position) -> Self {
        Self { line, energised, sent: now }
    }

    fn send(&mut self, to: Position) -> Result<(), Error> {
        self.sent = to;
        self.line.set(self.energised == to)
    }
}

impl<P: Pin> Latch for GpioHold<P> {
    fn unlock(&mut self) -> Result<(), Error> {
        self.send(Position::Unlocked)
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.send(Position::Locked)
    }

    /// Knows nothing of the bolt, but finds a wire that does not keep its level.
    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.line.verify(self.energised == self.sent)?;
        Ok(None)
    }
}

/// A latch that stays where it is without current, with a line for each direction. A command gives one pulse, which ends by itself;
/// a pulse that is under way is cut by the next command. The two lines are never active together.
pub struct GpioPulse<P: Pin = CdevPin> {
    lines: Timed<Pair<P>>,
    width: Duration,
}

struct Pair<P> {
    unlock: Line<P>,
    lock: Line<P>,
}

impl GpioPulse {
    /// A latch that has moved nowhere yet: both lines are requested inactive. `width` lies in [`PULSE`].
    ///
    /// # Errors
    ///
    /// As [`Line::output`]; the width is out of range; the system gives no thread.
    pub fn open(unlock: &LineSettings, lock: &LineSettings, width: Duration) -> Result<Self, Error> {
        Self::over(Line::output(unlock, false)?, Line::output(lock, false)?, width)
    }
}

impl<P: Pin> GpioPulse<P> {
    /// A latch over two lines that are inactive.
    ///
    /// # Errors
    ///
    /// The width is out of range; the system gives no thread.
    pub fn over(unlock: Line<P>, lock: Line<P>, width: Duration) -> Result<Self, Error> {
        let name = format!("the latch on {} and {}", unlock.name, lock.name);
        if !PULSE.contains(&width) {
            let text = format!("a pulse of {width:?}; it must last {:?} to {:?}", PULSE.start(), PULSE.end());
            return Err(device(name, io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        let lines = Timed::start(Pair { unlock, lock }).map_err(|cause| device(name, cause))?;
        Ok(Self { lines, width })
    }

    fn pulse(&self, to: Position) -> Result<(), Error> {
        self.lines.command(|pair, due| {
            let (on, off) = match to {
                Position::Unlocked => (&mut pair.unlock, &mut pair.lock),
                Position::Locked => (&mut pair.lock, &mut pair.unlock),
            };
            let cut = due.is_some();
            // Whatever fails from here on, the timer takes both lines back.
            *due = Some(Instant::now());
            off.set(false)?;
            if cut {
                sleep(GAP);
            }
            let result = on.set(true);
            *due = Some(Instant::now() + self.width);
            result
        })
    }
}

impl<P: Pin> Ends for Pair<P> {
    fn end(&mut self) -> Result<(), Error> {
        let first = self.unlock.set(false);
        self.lock.set(false)?;
        first
    }
}

impl<P: Pin> Latch for GpioPulse<P> {
    fn unlock(&mut self) -> Result<(), Error> {
        self.pulse(Position::Unlocked)
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.pulse(Position::Locked)
    }

    /// Knows nothing of the bolt, but tells of a pulse that could not be ended.
    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.lines.trouble().map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn info(path: &str, label: &str) -> ChipInfo {
        ChipInfo { path: path.into(), name: path.trim_start_matches("/dev/").into(), label: label.into() }
    }

    #[test]
    fn chips_are_named_by_path_or_label() {
        let path = |text: &str| Ok(ChipName::Path(text.into()));
        assert_eq!("/dev/gpiochip0".parse(), path("/dev/gpiochip0"));
        assert_eq!("gpiochip4".parse(), path("/dev/gpiochip4"));
        assert_eq!("pinctrl-rp1".parse(), Ok(ChipName::Label("pinctrl-rp1".into())));
        assert_eq!("9030000.pl061".parse(), Ok(ChipName::Label("9030000.pl061".into())));
        for bad in ["", "0", " pinctrl-rp1", "a\nb", "gpiochip", "a-label-that-is-longer-than-any-kernel-keeps"] {
            let error = bad.parse::<ChipName>().unwrap_err().to_string();
            assert!(error.contains("gpiodetect"), "{error}");
        }
    }

    #[test]
    fn lines_are_named_by_number_or_name() {
        assert_eq!("17".parse(), Ok(LineName::Offset(17)));
        assert_eq!("GPIO17".parse(), Ok(LineName::Name("GPIO17".into())));
        for bad in ["", "99999999999", "GPIO17 "] {
            assert!(bad.parse::<LineName>().unwrap_err().to_string().contains("gpioinfo"), "{bad:?}");
        }
        assert_eq!(("high".parse(), "low".parse()), (Ok(Active::High), Ok(Active::Low)));
        assert!("High".parse::<Active>().is_err());
        assert_eq!("pull-up".parse(), Ok(Bias::PullUp));
        assert!("up".parse::<Bias>().is_err());
    }

    #[test]
    fn one_chip_has_the_label() {
        let found =
            [info("/dev/gpiochip0", "pinctrl-rp1"), info("/dev/gpiochip10", "brcmstb"), info("/dev/gpiochip11", "brcmstb")];
        assert_eq!(choose_chip("pinctrl-rp1", &found, &[]).unwrap(), PathBuf::from("/dev/gpiochip0"));
        let missing = choose_chip("pinctrl-bcm2711", &found, &["/dev/gpiochip2 (EACCES)".into()]).unwrap_err().to_string();
        assert!(missing.contains("/dev/gpiochip0 (pinctrl-rp1)") && missing.contains("gpiochip2 (EACCES)"), "{missing}");
        let several = choose_chip("brcmstb", &found, &[]).unwrap_err().to_string();
        assert!(several.contains("gpiochip10") && several.contains("gpiochip11") && !several.contains("rp1"), "{several}");
        assert!(choose_chip("x", &[], &[]).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn one_line_has_the_name() {
        let names: Vec<_> =
            [Some("ID_SDA"), None, Some("GPIO2"), Some("NC"), Some("NC")].map(|name| name.map(String::from)).into();
        let choose = |text: &str| choose_line(&text.parse().unwrap(), &names);
        assert_eq!((choose("GPIO2").unwrap(), choose("4").unwrap()), (2, 4));
        assert!(choose("5").unwrap_err().to_string().contains("5 lines"));
        let missing = choose("GPIO3").unwrap_err().to_string();
        assert!(missing.contains("ID_SDA (0), GPIO2 (2)"), "{missing}");
        assert!(choose("NC").unwrap_err().to_string().contains("3, 4"));
    }

    #[test]
    fn a_chip_that_is_not_there_is_named() {
        let settings =
            LineSettings { chip: "/dev/gpiochip99".parse().unwrap(), line: LineName::Offset(1), active: Active::High };
        let error = Line::output(&settings, false).map(drop).unwrap_err().to_string();
        assert!(error.contains("/dev/gpiochip99"), "{error}");
        let settings = LineSettings { chip: "no-such-chip".parse().unwrap(), ..settings };
        let error = Line::input(&settings, Bias::PullUp).map(drop).unwrap_err().to_string();
        assert!(error.contains("no-such-chip") && error.contains("there are"), "{error}");
    }

    #[test]
    fn long_lists_are_cut() {
        assert!(list((0..100).map(|n| n.to_string())).ends_with("63 and 36 more"));
    }

    /// What happened to all pins, in order: pin, level, when.
    type Wires = Arc<Mutex<Vec<(usize, bool, Instant)>>>;

    struct FakePin {
        number: usize,
        level: bool,
        /// The wire stays at this level.
        short: Option<bool>,
        /// So many calls to set it fail.
        fails: usize,
        wires: Wires,
    }

    impl Pin for FakePin {
        fn set_level(&mut self, high: bool) -> io::Result<()> {
            if self.fails > 0 {
                self.fails -= 1;
                return Err(io::Error::other("unplugged"));
            }
            self.level = high;
            self.wires.lock().unwrap().push((self.number, high, Instant::now()));
            Ok(())
        }

        fn is_level_high(&mut self) -> io::Result<bool> {
            Ok(self.short.unwrap_or(self.level))
        }
    }

    fn line(number: usize, active: Active, wires: &Wires) -> Line<FakePin> {
        let settings = LineSettings { chip: ChipName::Label("fake".into()), line: LineName::Offset(number as u32), active };
        let level = active.level(false);
        Line::over(FakePin { number, level, short: None, fails: 0, wires: Arc::clone(wires) }, &settings)
    }

    fn levels(wires: &Wires) -> Vec<(usize, bool)> {
        wires.lock().unwrap().iter().map(|&(number, level, _)| (number, level)).collect()
    }

    #[test]
    fn hold_knows_its_polarity() {
        for (active, energised, locked) in [
            (Active::High, Position::Unlocked, false),
            (Active::Low, Position::Unlocked, true),
            (Active::High, Position::Locked, true),
            (Active::Low, Position::Locked, false),
        ] {
            let wires = Wires::default();
            let mut latch = GpioHold::over(line(0, active, &wires), energised, Position::Locked);
            latch.unlock().unwrap();
            latch.lock().unwrap();
            assert_eq!(latch.position().unwrap(), None);
            assert_eq!(levels(&wires), [(0, !locked), (0, locked)], "{active:?} {energised}");
        }
    }

    #[test]
    fn a_wire_that_does_not_follow_is_an_error() {
        let wires = Wires::default();
        let mut shorted = line(3, Active::High, &wires);
        shorted.pin.short = Some(false);
        let mut latch = GpioHold::over(shorted, Position::Unlocked, Position::Locked);
        let error = latch.unlock().unwrap_err().to_string();
        assert!(error.contains("line 3 of fake") && error.contains("high"), "{error}");
        latch.lock().unwrap();
        latch.line.pin.short = Some(true);
        assert!(latch.position().is_err());
    }

    const WIDTH: Duration = Duration::from_millis(150);

    #[test]
    fn pulses_end_and_never_overlap() {
        let wires = Wires::default();
        let mut latch = GpioPulse::over(line(0, Active::High, &wires), line(1, Active::High, &wires), WIDTH).unwrap();
        latch.unlock().unwrap();
        sleep(WIDTH / 6);
        latch.lock().unwrap();
        drop(latch);
        let wires = wires.lock().unwrap();
        let mut on = [None, None];
        for &(number, level, at) in wires.iter() {
            on[number] = level.then_some(at).or(on[number].filter(|_| level));
            assert!(!(on[0].is_some() && on[1].is_some()), "{wires:?}");
        }
        let at = |number, level| wires.iter().filter(|wire| wire.0 == number && wire.1 == level).map(|wire| wire.2).next_back();
        let rise = at(1, true).unwrap();
        let fall = at(1, false).unwrap();
        assert!(fall - rise >= WIDTH, "the pulse that locks is whole: {:?}", fall - rise);
        let cut = wires.iter().find(|wire| wire.0 == 0 && !wire.1 && wire.2 > at(0, true).unwrap()).unwrap().2;
        assert!(rise - cut >= GAP, "{:?}", rise - cut);
    }

    #[test]
    fn a_pulse_ends_without_anybody_asking() {
        let wires = Wires::default();
        let mut latch = GpioPulse::over(line(0, Active::Low, &wires), line(1, Active::Low, &wires), WIDTH).unwrap();
        latch.unlock().unwrap();
        sleep(WIDTH * 5);
        assert_eq!(levels(&wires), [(1, true), (0, false), (0, true), (1, true)]);
        assert_eq!(latch.position().unwrap(), None);
    }

    #[test]
    fn an_end_that_fails_is_told_and_tried_again() {
        let wires = Wires::default();
        let latch = GpioPulse::over(line(0, Active::High, &wires), line(1, Active::High, &wires), WIDTH).unwrap();
        latch.pulse(Position::Unlocked).unwrap();
        latch.lines.command(|pair, _| pair.unlock.pin.fails = 2);
        sleep(WIDTH + Duration::from_millis(400));
        let mut latch = latch;
        let error = latch.position().unwrap_err().to_string();
        assert!(error.contains("unplugged"), "{error}");
        assert_eq!(latch.position().unwrap(), None);
        assert!(levels(&wires).ends_with(&[(0, false), (1, false)]));
    }

    #[test]
    fn nothing_is_unlocked_while_the_other_line_sticks() {
        let wires = Wires::default();
        let mut stuck = line(1, Active::High, &wires);
        stuck.pin.fails = 1;
        let mut latch = GpioPulse::over(line(0, Active::High, &wires), stuck, WIDTH).unwrap();
        assert!(latch.unlock().is_err());
        drop(latch);
        assert!(levels(&wires).iter().all(|&(_, level)| !level), "{:?}", levels(&wires));
    }

    #[test]
    fn a_pulse_has_limits() {
        let wires = Wires::default();
        for width in [Duration::ZERO, Duration::from_secs(6)] {
            let latch = GpioPulse::over(line(0, Active::High, &wires), line(1, Active::High, &wires), width);
            assert!(latch.map(drop).unwrap_err().to_string().contains("pulse"));
        }
    }
}
