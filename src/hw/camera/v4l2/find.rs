//! Which device a setting means: a number, a path or a card's name.
//!
//! Numbers change with the order in which cameras are plugged in; the links under `/dev/v4l/by-id` and the names do not.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;
use v4l::capability::Flags;

use super::FeedError;

/// Which device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// `/dev/video` and this number.
    Number(u32),
    /// A device, or a link to one.
    Path(PathBuf),
    /// The card's name, as its driver gives it.
    Name(String),
}

/// A text that names no device.
#[derive(Debug, Error)]
#[error(
    "`{0}` names no camera: give its path (/dev/v4l/by-id/…, /dev/video0), its number (0), or `name:` and the name of the card \
     (name:USB Camera)"
)]
pub struct NotADevice(String);

impl FromStr for Which {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let no_device = || NotADevice(text.into());
        if let Some(name) = text.strip_prefix("name:") {
            let name = name.trim();
            return if name.is_empty() { Err(no_device()) } else { Ok(Self::Name(name.into())) };
        }
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        // `parse` alone would take `+1`.
        digits(text).map(Self::Number).ok_or_else(no_device)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "/dev/video{number}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Name(name) => write!(f, "name:{name}"),
        }
    }
}

/// A video device of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its node, such as `/dev/video0`.
    pub path: PathBuf,
    /// The card's name as the driver gives it, or the node's where the driver may not be asked; empty if neither is known.
    pub name: String,
    /// Whether pictures come out of it (a webcam's second node, and codecs, give none); `None` if it may not be asked.
    pub captures: Option<bool>,
    /// The node's name in the system. Often the card's, and it can be read without opening the device.
    node_name: String,
    /// The number of its node.
    pub(super) number: u32,
    /// Its place among the nodes of one card, from 0.
    place: u32,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "no name" } else { &self.name };
        write!(f, "{} ({name})", self.path.display())
    }
}

/// What a device says of itself.
struct Answer {
    card: String,
    captures: bool,
}

/// The video devices of this machine, by their number. Each is opened for a moment.
pub fn list() -> Vec<Found> {
    Places::default().list(ask)
}

/// The number of the device that `which` means.
///
/// # Errors
/// [`FeedError::NotFound`], [`FeedError::NotAVideoDevice`], [`FeedError::Ambiguous`].
pub(super) fn number(which: &Which) -> Result<u32, FeedError> {
    Places::default().number(which, ask)
}

/// Where the system shows its devices.
struct Places {
    /// `/dev`.
    nodes: PathBuf,
    /// `/sys/class/video4linux`.
    class: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { nodes: "/dev".into(), class: "/sys/class/video4linux".into() }
    }
}

impl Places {
    fn list(&self, ask: impl Fn(u32) -> Option<Answer>) -> Vec<Found> {
        let Ok(entries) = std::fs::read_dir(&self.nodes) else { return vec![] };
        let numbers = entries.filter_map(|entry| node_number(entry.ok()?.file_name()));
        let mut found: Vec<Found> = numbers.map(|number| self.describe(number, &ask)).collect();
        found.sort_by_key(|found| found.number);
        found
    }

    fn describe(&self, number: u32, ask: impl Fn(u32) -> Option<Answer>) -> Found {
        let node = format!("video{number}");
        let attribute = |name: &str| std::fs::read(self.class.join(&node).join(name));
        let name = attribute("name").map(String::from_utf8);
        // `v4l` panics when a card's name is no UTF-8. A long name is cut at 31 bytes, within a character if it must.
        let askable = matches!(name, Ok(Ok(_)));
        let node_name = name.ok().and_then(Result::ok).map(|name| name.trim().to_owned()).unwrap_or_default();
        let place = attribute("index").ok().and_then(|text| digits(std::str::from_utf8(&text).ok()?.trim())).unwrap_or(0);
        let answer = if askable { ask(number) } else { None };
        let captures = answer.as_ref().map(|answer| answer.captures);
        let name = answer.map_or_else(|| node_name.clone(), |answer| answer.card);
        Found { path: self.nodes.join(node), name, captures, node_name, number, place }
    }

    fn number(&self, which: &Which, ask: impl Fn(u32) -> Option<Answer>) -> Result<u32, FeedError> {
        let not_found = || FeedError::NotFound { which: which.clone(), others: sentence(&self.list(&ask)) };
        match which {
            Which::Number(number) => {
                let there = self.nodes.join(format!("video{number}")).exists();
                there.then_some(*number).ok_or_else(not_found)
            }
            Which::Path(path) => {
                let real = path.canonicalize().map_err(|_| not_found())?;
                // A file of this name elsewhere is not the device of this number.
                let nodes = self.nodes.canonicalize().map_err(|_| not_found())?;
                let number = real.file_name().filter(|_| real.parent() == Some(&nodes)).and_then(node_number);
                number.ok_or_else(|| FeedError::NotAVideoDevice { path: path.clone(), real })
            }
            Which::Name(name) => {
                let mut named = self.list(&ask);
                named.retain(|found| [&found.name, &found.node_name].contains(&name) && found.captures != Some(false));
                let first = named.iter().map(|found| found.place).min();
                named.retain(|found| Some(found.place) == first);
                match &named[..] {
                    [] => Err(not_found()),
                    [one] => Ok(one.number),
                    several => Err(FeedError::Ambiguous { name: name.clone(), several: sentence(several) }),
                }
            }
        }
    }
}

fn ask(number: u32) -> Option<Answer> {
    let known = v4l::Device::new(usize::try_from(number).ok()?).ok()?.query_caps().ok()?;
    let captures = known.capabilities.contains(Flags::VIDEO_CAPTURE | Flags::STREAMING);
    Some(Answer { card: known.card.trim().to_owned(), captures })
}

/// Whether the name of a card can be told to `v4l` and nokhwa, which panic when it is no UTF-8.
pub(super) fn name_is_text(number: u32) -> bool {
    let path = Path::new("/sys/class/video4linux").join(format!("video{number}")).join("name");
    std::fs::read(path).is_ok_and(|name| std::str::from_utf8(&name).is_ok())
}

fn node_number(name: impl AsRef<std::ffi::OsStr>) -> Option<u32> {
    digits(name.as_ref().to_str()?.strip_prefix("video")?)
}

fn digits(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The devices that give pictures, or may, as a list for people.
fn sentence(found: &[Found]) -> String {
    let names: Vec<String> = found.iter().filter(|f| f.captures != Some(false)).map(Found::to_string).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine with two webcams of two nodes each, a codec, and things that only look like cameras.
    fn machine(second_name: &str) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let places = Places { nodes: root.path().join("dev"), class: root.path().join("class") };
        fs::create_dir_all(places.nodes.join("v4l/by-id")).unwrap();
        for (number, name, place) in
            [(0, "USB Camera", 0), (1, "USB Camera", 1), (2, second_name, 0), (3, second_name, 1), (10, "codec", 0)]
        {
            let node = format!("video{number}");
            fs::write(places.nodes.join(&node), "").unwrap();
            fs::create_dir_all(places.class.join(&node)).unwrap();
            fs::write(places.class.join(&node).join("name"), format!("{name}\n")).unwrap();
            fs::write(places.class.join(&node).join("index"), format!("{place}\n")).unwrap();
        }
        for other in ["video", "video-front", "videox", "vbi0"] {
            fs::write(places.nodes.join(other), "").unwrap();
        }
        symlink("../../video2", places.nodes.join("v4l/by-id/usb-Second-video-index0")).unwrap();
        symlink("../../video9", places.nodes.join("v4l/by-id/usb-Gone-video-index0")).unwrap();
        fs::write(root.path().join("video0"), "").unwrap();
        (root, places)
    }

    /// The cards' own names: the second one's differs from that of its nodes.
    fn even(number: u32) -> Option<Answer> {
        let card = if number == 10 { "codec" } else { ["USB Camera", "Card 2"][number as usize / 2] };
        Some(Answer { card: card.into(), captures: number.is_multiple_of(2) && number < 10 })
    }

    fn which(text: &str) -> Which {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        assert_eq!(which("0"), Which::Number(0));
        assert_eq!(which("/dev/v4l/by-id/usb"), Which::Path("/dev/v4l/by-id/usb".into()));
        assert_eq!(which("name: USB Camera "), Which::Name("USB Camera".into()));
        for text in ["", "video0", "-1", "+1", "99999999999", "name:", "name: ", "USB Camera", "0x1"] {
            let error = text.parse::<Which>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert_eq!(
            [which("3").to_string(), which("/a b").to_string(), which("name:x").to_string()],
            ["/dev/video3", "/a b", "name:x"]
        );
    }

    #[test]
    fn every_node_is_listed_with_its_name() {
        let (_root, places) = machine("Second");
        let found = places.list(even);
        let seen: Vec<_> = found.iter().map(|f| (f.number, f.name.as_str(), f.captures == Some(true))).collect();
        assert_eq!(
            seen,
            [
                (0, "USB Camera", true),
                (1, "USB Camera", false),
                (2, "Card 2", true),
                (3, "Card 2", false),
                (10, "codec", false)
            ]
        );
        assert_eq!(found[2].path, places.nodes.join("video2"));
        let nowhere = Places { nodes: "/nonexistent".into(), class: "/nonexistent".into() };
        assert!(nowhere.list(even).is_empty());
    }

    #[test]
    fn numbers_paths_links_and_names_are_found() {
        let (root, places) = machine("Second");
        let path = |path: &str| Which::Path(places.nodes.join(path));
        let number = |which: &Which| places.number(which, even);
        assert_eq!(number(&which("2")).unwrap(), 2);
        assert_eq!(number(&path("video10")).unwrap(), 10);
        assert_eq!(number(&path("v4l/by-id/usb-Second-video-index0")).unwrap(), 2);
        assert_eq!(number(&which("name:Second")).unwrap(), 2, "the node's name");
        assert_eq!(number(&which("name:Card 2")).unwrap(), 2, "the card's");
        // Nobody may be asked: the first node of the card it is.
        assert_eq!(places.number(&which("name:USB Camera"), |_| None).unwrap(), 0);
        for missing in [which("9"), path("v4l/by-id/usb-Gone-video-index0"), path("video9"), which("name:Third")] {
            let error = number(&missing).unwrap_err().to_string();
            assert!(error.contains("USB Camera") && error.contains(&missing.to_string()), "{error}");
        }
        for odd in [path("video-front"), path("vbi0"), path(""), Which::Path(root.path().join("video0"))] {
            assert!(matches!(number(&odd), Err(FeedError::NotAVideoDevice { .. })), "{odd}");
        }
    }

    #[test]
    fn a_name_that_two_cards_have_is_not_guessed() {
        let (_root, places) = machine("USB Camera");
        let error = places.number(&which("name:USB Camera"), even).unwrap_err().to_string();
        assert!(error.contains("video0") && error.contains("video2") && !error.contains("video1"), "{error}");
    }

    #[test]
    fn a_name_that_is_no_text_is_not_asked_about() {
        let (_root, places) = machine("Second");
        fs::write(places.class.join("video2/name"), b"Cam\xC3\n").unwrap();
        let found = places.list(|number| if number == 2 { panic!("v4l would") } else { even(number) });
        assert_eq!((found[2].name.as_str(), found[2].captures), ("", None));
    }
}
