//! A display that does not exist: what it would show becomes a PNG file. The canvas is also what the real displays are drawn on, so that
//! they show the same pixels, and only when something has changed.

use std::path::{Path, PathBuf};

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{Dimensions, OriginDimensions, Size};
use embedded_graphics::pixelcolor::{BinaryColor, Rgb565, Rgb888};
use embedded_graphics::prelude::{PixelColor, Point};
use embedded_graphics::primitives::PointsIter;

use embedded_graphics_simulator::{BinaryColorTheme, OutputImage, OutputSettings, OutputSettingsBuilder, SimulatorDisplay};

use super::draw::{self, Palette};
use super::panel::Opener;
use super::screen::Screen;
use super::{Display, Error, Kind, Settings};

/// Pixels in memory.
pub struct Canvas<C: PixelColor> {
    pixels: SimulatorDisplay<C>,
    palette: Palette<C>,
    shown: Option<Screen>,
}

impl<C: PixelColor + From<BinaryColor>> Canvas<C> {
    /// An empty one.
    pub fn new([width, height]: [u32; 2], palette: Palette<C>) -> Self {
        Self { pixels: SimulatorDisplay::new(Size::new(width, height)), palette, shown: None }
    }

    /// Draws `screen`; whether any pixel is another now.
    pub fn draw(&mut self, screen: &Screen) -> bool {
        if self.shown.as_ref() == Some(screen) {
            return false;
        }
        let first = self.shown.is_none();
        let before = self.pixels.clone();
        let Ok(()) = draw::draw(screen, &mut self.pixels, &self.palette);
        self.shown = Some(screen.clone());
        first || self.pixels.diff(&before).is_some()
    }

    /// Forgets what is shown: the next drawing counts as a change.
    pub fn forget(&mut self) {
        self.shown = None;
    }

    /// Its colours, row by row.
    pub fn colours(&self) -> impl Iterator<Item = C> + '_ {
        self.pixels.bounding_box().points().map(|point| self.pixels.get_pixel(point))
    }

    /// The colour at a place on it.
    pub fn colour(&self, x: u32, y: u32) -> C {
        self.pixels.get_pixel(Point::zero() + Size::new(x, y))
    }

    /// Copies it to `target`.
    pub(super) fn copy_to<D: DrawTarget<Color = C>>(&self, target: &mut D) -> Result<(), D::Error> {
        target.fill_contiguous(&self.pixels.bounding_box(), self.colours())
    }

    /// Width and height.
    pub fn size(&self) -> [u32; 2] {
        let Size { width, height } = self.pixels.size();
        [width, height]
    }
}

/// What the display of these settings would show, as a picture: an OLED's pixels enlarged, so that they can be told apart.
pub fn picture(settings: &Settings, screen: &Screen) -> OutputImage<Rgb888> {
    match settings.kind {
        Kind::Ssd1306 { .. } => {
            let mut canvas = Canvas::new(settings.size(), draw::MONO);
            canvas.draw(screen);
            let look = OutputSettingsBuilder::new().theme(BinaryColorTheme::OledWhite).scale(3).pixel_spacing(1).build();
            canvas.pixels.to_rgb_output_image(&look)
        }
        Kind::St7789(_) => {
            let mut canvas: Canvas<Rgb565> = Canvas::new(settings.size(), draw::COLOUR);
            canvas.draw(screen);
            canvas.pixels.to_rgb_output_image(&OutputSettings::default())
        }
    }
}

/// A file in place of a display.
#[derive(Debug, Clone)]
pub struct PictureFile {
    /// The display whose pictures it shows.
    pub settings: Settings,
    /// A PNG file, always the same one.
    pub path: PathBuf,
}

impl Opener for PictureFile {
    fn open<'b>(&self, _buffer: &'b mut [u8]) -> Result<Box<dyn Display + 'b>, Error> {
        Ok(Box::new(Picture { file: self.clone(), shown: None }))
    }
}

/// One that is open.
struct Picture {
    file: PictureFile,
    shown: Option<Screen>,
}

impl Picture {
    fn write(&self, screen: &Screen) -> image::ImageResult<()> {
        // Whoever looks sees the old picture or the new one, never a part.
        let PictureFile { settings, path } = &self.file;
        let temporary = path.with_extension("part.png");
        picture(settings, screen).save_png(&temporary)?;
        Ok(std::fs::rename(&temporary, path)?)
    }
}

impl Display for Picture {
    fn show(&mut self, screen: &Screen) -> Result<(), Error> {
        if self.shown.as_ref() != Some(screen) {
            self.write(screen).map_err(|error| unwritable(&self.file.path, &error))?;
            self.shown = Some(screen.clone());
        }
        Ok(())
    }

    /// The last picture stays, for whoever wants to look at it.
    fn switch(&mut self, _on: bool) -> Result<(), Error> {
        Ok(())
    }
}

/// A picture file cannot be written.
pub fn unwritable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error { device: path.display().to_string(), cause: error.to_string(), mend: "name a file in a folder that can be written" }
}

/// For tests of drivers: a canvas that was filled with what arrived.
#[cfg(test)]
pub(super) fn assert_same<C: PixelColor + From<BinaryColor> + std::fmt::Debug>(
    canvas: &Canvas<C>,
    arrived: impl Fn(u32, u32) -> C,
) {
    let [width, height] = canvas.size();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        assert_eq!(arrived(x, y), canvas.colour(x, y), "at {x}, {y}");
    }
}
