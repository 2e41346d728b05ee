//! A small display that shows what pawgate sees and does. It decides nothing, and nothing waits for it: a display that is broken, slow or
//! not there costs a line in the log and nothing else.
//!
//! | module | holds |
//! |---|---|
//! | [`screen`] | what can be shown, as values |
//! | [`draw`] | one drawing code for every size and colour depth (embedded-graphics) |
//! | [`ssd1306`] | an SSD1306 OLED at I²C |
//! | [`st7789`] | an ST7789 TFT at SPI |
//! | [`sim`] | the same pictures as PNG files |
//! | [`panel`] | the thread that owns a display, opens it again when it fails, and switches it off when nothing happens |
//!
//! What is shown when is [`crate::service::face`]'s matter.

pub mod draw;
mod font;
pub mod panel;
pub mod screen;
pub mod sim;
pub mod ssd1306;
pub mod st7789;

use std::path::PathBuf;
use std::time::Duration;

/// Which display, and how it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The display's controller and its connections.
    pub kind: Kind,
    /// A quarter turn clockwise, so many times: 0 to 3, and 0 or 2 for an OLED.
    pub quarters: u8,
    /// The display is dark when nothing has happened for so long: OLEDs burn in.
    pub off_after: Duration,
}

/// A display's controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One bit a pixel, at I²C.
    Ssd1306 {
        /// The bus (`/dev/i2c-1`).
        bus: PathBuf,
        /// Its address, 0x3C or 0x3D.
        address: u8,
        /// Its size.
        size: ssd1306::Panel,
    },
    /// 16 bits a pixel, at SPI.
    St7789(Box<st7789::St7789>),
}

impl Default for Settings {
    /// The display that most have: an SSD1306 of 128×64.
    fn default() -> Self {
        let kind = Kind::Ssd1306 { bus: "/dev/i2c-1".into(), address: 0x3C, size: ssd1306::Panel::W128H64 };
        Self { kind, quarters: 0, off_after: Duration::from_secs(300) }
    }
}

impl Settings {
    /// Width and height in pixels, as it hangs.
    pub fn size(&self) -> [u32; 2] {
        let [width, height] = match &self.kind {
            Kind::Ssd1306 { size, .. } => size.size(),
            Kind::St7789(tft) => tft.panel.size(),
        };
        if self.quarters % 2 == 1 { [height, width] } else { [width, height] }
    }

    /// For people.
    pub fn name(&self) -> String {
        let [width, height] = self.size();
        match &self.kind {
            Kind::Ssd1306 { bus, address, .. } => {
                format!("SSD1306, {width}x{height}, at {}, address 0x{address:02X}", bus.display())
            }
            Kind::St7789(tft) => format!("ST7789, {width}x{height}, at {}", tft.bus.display()),
        }
    }
}

impl panel::Opener for Settings {
    fn open<'b>(&self, buffer: &'b mut [u8]) -> Result<Box<dyn Display + 'b>, Error> {
        match &self.kind {
            Kind::Ssd1306 { bus, address, size } => ssd1306::open(bus, *address, *size, self.quarters == 2),
            Kind::St7789(tft) => st7789::open(tft, self.quarters, buffer),
        }
    }
}

/// Why a display shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the display at {device} shows nothing ({cause}): {mend}")]
pub struct Error {
    /// Which device.
    pub device: String,
    /// What the system or the bus said.
    pub cause: String,
    /// What to do.
    pub mend: &'static str,
}

impl Error {
    /// An error of the system while a bus is opened; `off` is what to do when there is no such bus, `group` when it may not be used.
    fn bus(
        device: &std::path::Path,
        error: &dyn std::error::Error,
        kind: std::io::ErrorKind,
        [off, group]: [&'static str; 2],
    ) -> Self {
        let mend = match kind {
            std::io::ErrorKind::NotFound => off,
            std::io::ErrorKind::PermissionDenied => group,
            _ => "look at its wiring and power",
        };
        Self { device: device.display().to_string(), cause: error.to_string(), mend }
    }
}

/// A display.
pub trait Display {
    /// Shows a screen, unless it shows that already.
    ///
    /// # Errors
    /// The bus or the display does not answer. It may be tried again, best after it was opened again.
    fn show(&mut self, screen: &screen::Screen) -> Result<(), Error>;

    /// Switches it dark, or on again with what it showed.
    ///
    /// # Errors
    /// As [`Self::show`].
    fn switch(&mut self, on: bool) -> Result<(), Error>;
}
