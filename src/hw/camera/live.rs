//! Cameras that are named by a text: devices, the Raspberry Pi's camera, network cameras.
//!
//! The Raspberry Pi's camera modules are served by libcamera alone, whose program is `rpicam-vid` (`libcamera-vid` on systems before
//! 2024); network cameras are read by `ffmpeg`, which decodes what no small library does.

use super::Source;

/// A camera that goes on for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live<'a> {
    /// A V4L2 device.
    Device(&'a str),
    /// The Raspberry Pi's own camera.
    Rpicam,
    /// An address with its scheme.
    Address(&'a str),
}

/// Schemes that `ffmpeg` is trusted with: never `file:`, `concat:` and the like.
const SCHEMES: [&str; 4] = ["rtsp", "rtsps", "http", "https"];

impl<'a> Live<'a> {
    /// What `text` names, unless that is a file, a folder or standard input.
    pub fn of(text: &'a str) -> Option<Self> {
        let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if text == "rpicam" {
            Some(Self::Rpicam)
        } else if text.contains("://") {
            Some(Self::Address(text))
        } else if number || text.starts_with("/dev/") || text.starts_with("name:") {
            Some(Self::Device(text))
        } else {
            None
        }
    }

    /// How it is read at `size` (width and height in pixels) and `fps` frames a second.
    ///
    /// # Errors
    /// A sentence, for an address that cannot be read.
    pub fn source(self, [width, height]: [u32; 2], fps: u32) -> Result<Source, String> {
        let command = match self {
            Self::Device(device) => return Ok(Source::Device(device.to_owned())),
            Self::Rpicam => format!(
                "rpicam-vid --nopreview --timeout 0 --codec mjpeg --flush --width {width} --height {height} --framerate {fps} \
                 --output -"
            ),
            Self::Address(address) => {
                let scheme = address.split("://").next().unwrap_or_default().to_ascii_lowercase();
                if !SCHEMES.contains(&scheme.as_str()) {
                    return Err(format!("{scheme:?} is no kind of address that is read ({})", SCHEMES.join(", ")));
                }
                // TCP, because lost datagrams are torn pictures.
                let transport = if scheme.starts_with("rtsp") { " -rtsp_transport tcp" } else { "" };
                let (before, after) = (
                    format!("ffmpeg -nostdin -hide_banner -loglevel error -fflags nobuffer{transport} -i"),
                    format!("-an -vf fps={fps},scale={width}:-2 -pix_fmt yuv420p -f yuv4mpegpipe -"),
                );
                return Ok(Source::Program(words(&before).chain([address.to_owned()]).chain(words(&after)).collect()));
            }
        };
        Ok(Source::Program(words(&command).collect()))
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split_whitespace().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_devices_addresses_or_files() {
        for text in ["/dev/video0", "/dev/v4l/by-id/usb-A", "0", "12", "name:USB Camera"] {
            assert_eq!(Live::of(text), Some(Live::Device(text)));
        }
        assert_eq!(Live::of("rpicam"), Some(Live::Rpicam));
        assert_eq!(Live::of("rtsp://a/b c"), Some(Live::Address("rtsp://a/b c")));
        for text in ["", "-", "pictures", "./rpicam", "/var/dev/x", "0.jpg"] {
            assert_eq!(Live::of(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_one_argument_and_its_scheme_is_known() {
        let source = |address| Live::Address(address).source([640, 480], 5);
        let Ok(Source::Program(command)) = source("RTSP://user:{PAWGATE_CAMERA}@porch/a b") else { panic!("a program") };
        assert!(command.iter().any(|word| word == "RTSP://user:{PAWGATE_CAMERA}@porch/a b"));
        assert!(
            command.iter().any(|word| word == "fps=5,scale=640:-2") && command.iter().any(|word| word == "-rtsp_transport")
        );
        let Ok(Source::Program(command)) = source("https://porch/video") else { panic!("a program") };
        assert!(!command.iter().any(|word| word == "-rtsp_transport"));
        for bad in ["file:///etc/passwd", "concat://a", "://x"] {
            assert!(source(bad).unwrap_err().contains("no kind of address"), "{bad}");
        }
    }
}
