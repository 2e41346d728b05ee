//! ST7789: a colour TFT at SPI (Sitronix, ST7789V), through the `mipidsi` crate.

use std::path::{Path, PathBuf};

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::Dimensions;
use embedded_graphics::pixelcolor::{Rgb565, RgbColor};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{Delay, SpidevDevice};
use mipidsi::interface::{Interface, SpiInterface};
use mipidsi::models::ST7789;
use mipidsi::options::{ColorInversion, Orientation, Rotation};
use mipidsi::{Builder, NoResetPin};

use super::draw::COLOUR;
use super::screen::Screen;
use super::sim::Canvas;
use super::{Display, Error};
use crate::hw::actuator;
use crate::hw::actuator::gpio::{self, Line, LineSettings};

/// How it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct St7789 {
    /// The bus and its chip select (`/dev/spidev0.0`).
    pub bus: PathBuf,
    /// SPI mode 3 in place of 0, as panels without a chip select want it.
    pub mode3: bool,
    /// Its size and where its pixels lie in the controller's memory.
    pub panel: Panel,
    /// Whether the panel shows colours inverted unless it is told otherwise, as IPS panels do.
    pub inverted: bool,
    /// The line that tells data from commands.
    pub data: LineSettings,
    /// The line that resets it, where it is connected.
    pub reset: Option<LineSettings>,
    /// The line of its light, where it is connected.
    pub light: Option<LineSettings>,
}

/// What to do where there is no bus, and where it may not be used.
const MENDS: [&str; 2] = [
    "switch SPI on (Raspberry Pi: `dtparam=spi=on` in config.txt; Jetson: jetson-io.py) or name another bus as display.bus; \
     `ls /dev/spidev*` shows them",
    "add the user that pawgate runs as to the group spi",
];
/// What a panel takes and long wires allow, in hertz. The controller is specified for 15 MHz and runs at four times that.
const CLOCK: u32 = 32_000_000;

/// A panel's size, and where its pixels lie in the controller's memory of 240×320.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Panel {
    size: [u16; 2],
    offset: [u16; 2],
}

/// The panels that are sold with this controller.
const PANELS: [Panel; 5] = [
    Panel { size: [240, 240], offset: [0, 0] },
    Panel { size: [240, 320], offset: [0, 0] },
    Panel { size: [240, 280], offset: [0, 20] },
    Panel { size: [170, 320], offset: [35, 0] },
    Panel { size: [135, 240], offset: [52, 40] },
];

impl Panel {
    /// The one that most have, 240×240.
    pub const SQUARE: Self = PANELS[0];

    /// Width and height in pixels, before it is turned.
    pub fn size(self) -> [u32; 2] {
        self.size.map(u32::from)
    }

    /// The panel of a size.
    pub fn of(size: [u32; 2]) -> Option<Self> {
        PANELS.into_iter().find(|panel| panel.size() == size)
    }
}

/// Opens it and clears it. `buffer` gathers pixels on their way; spidev takes 4096 bytes at once unless it is told otherwise.
///
/// # Errors
/// The bus or a line cannot be had. Whether a panel is there, SPI does not tell.
pub(super) fn open<'b>(settings: &St7789, quarters: u8, buffer: &'b mut [u8]) -> Result<Box<dyn Display + 'b>, Error> {
    let name = settings.bus.display().to_string();
    let spi = open_bus(&settings.bus, settings.mode3)?;
    let wired = |error: actuator::Error| Error {
        device: name.clone(),
        cause: error.to_string(),
        mend: "name the lines that its data/command input, reset and light are connected to",
    };
    let data = gpio::pin(&settings.data, false).map_err(wired)?;
    let reset = settings.reset.as_ref().map(|line| gpio::pin(line, true)).transpose().map_err(wired)?;
    let light = settings.light.as_ref().map(|line| Line::output(line, true)).transpose().map_err(wired)?;
    let builder = builder(SpiInterface::new(spi, data, buffer), settings, quarters);
    Ok(match reset {
        Some(pin) => Box::new(Tft::init(builder.reset_pin(pin), light, name, &mut Delay)?),
        None => Box::new(Tft::init(builder, light, name, &mut Delay)?),
    })
}

fn open_bus(bus: &Path, mode3: bool) -> Result<SpidevDevice, Error> {
    // The crate's errors hide what the system said.
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(bus);
    opened.map_err(|error| Error::bus(bus, &error, error.kind(), MENDS))?;
    let no_bus = |error: &dyn std::fmt::Display| Error {
        device: bus.display().to_string(),
        cause: format!("it is no SPI bus, or refuses its settings: {error}"),
        mend: MENDS[0],
    };
    let mut spi = SpidevDevice::open(bus).map_err(|error| no_bus(&error))?;
    let mode = if mode3 { SpiModeFlags::SPI_MODE_3 } else { SpiModeFlags::SPI_MODE_0 };
    let options = SpidevOptions::new().bits_per_word(8).max_speed_hz(CLOCK).mode(mode).build();
    spi.configure(&options).map_err(|error| no_bus(&error))?;
    Ok(spi)
}

fn builder<I: Interface>(interface: I, settings: &St7789, quarters: u8) -> Builder<I, ST7789, NoResetPin>
where
    Rgb565: mipidsi::interface::InterfacePixelFormat<I::Word>,
{
    let rotation = match quarters % 4 {
        0 => Rotation::Deg0,
        1 => Rotation::Deg90,
        2 => Rotation::Deg180,
        _ => Rotation::Deg270,
    };
    let Panel { size: [width, height], offset: [x, y] } = settings.panel;
    Builder::new(ST7789, interface)
        .display_size(width, height)
        .display_offset(x, y)
        .orientation(Orientation::new().rotate(rotation))
        .invert_colors(if settings.inverted { ColorInversion::Inverted } else { ColorInversion::Normal })
}

/// One at any bus.
struct Tft<I, R>
where
    I: Interface,
    R: OutputPin,
    Rgb565: mipidsi::interface::InterfacePixelFormat<I::Word>,
{
    device: mipidsi::Display<I, ST7789, R>,
    canvas: Canvas<Rgb565>,
    light: Option<Line>,
    name: String,
}

impl<I: Interface, R: OutputPin> Tft<I, R>
where
    Rgb565: mipidsi::interface::InterfacePixelFormat<I::Word>,
{
    fn init(
        builder: Builder<I, ST7789, R>,
        light: Option<Line>,
        name: String,
        delay: &mut impl DelayNs,
    ) -> Result<Self, Error> {
        let mut device = builder.init(delay).map_err(|error| broken(&name, &error))?;
        device.clear(COLOUR.back).map_err(|error| broken(&name, &error))?;
        let size = device.bounding_box().size;
        Ok(Self { device, canvas: Canvas::new([size.width, size.height], COLOUR), light, name })
    }
}

fn broken(name: &str, error: &dyn std::fmt::Debug) -> Error {
    Error { device: name.into(), cause: format!("{error:?}"), mend: "look at its wiring and power" }
}

impl<I: Interface, R: OutputPin> Display for Tft<I, R>
where
    Rgb565: mipidsi::interface::InterfacePixelFormat<I::Word>,
{
    fn show(&mut self, screen: &Screen) -> Result<(), Error> {
        if !self.canvas.draw(screen) {
            return Ok(());
        }
        self.canvas.copy_to(&mut self.device).map_err(|error| {
            self.canvas.forget();
            broken(&self.name, &error)
        })
    }

    /// Its light; a panel whose light is always on is filled with black.
    fn switch(&mut self, on: bool) -> Result<(), Error> {
        if let Some(light) = &mut self.light {
            return light.set(on).map_err(|error| broken(&self.name, &error.to_string()));
        }
        let sent = if on { self.canvas.copy_to(&mut self.device) } else { self.device.clear(Rgb565::BLACK) };
        sent.map_err(|error| broken(&self.name, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::path::PathBuf;
    use std::rc::Rc;

    use embedded_graphics::pixelcolor::raw::RawU16;
    use embedded_hal::digital;
    use embedded_hal::spi::{self, Operation, SpiDevice};

    use super::super::screen::examples;
    use super::super::sim::assert_same;
    use super::*;

    /// The controller's memory as its data sheet describes it, and what its panel shows of that.
    struct Chip {
        memory: Vec<u16>,
        data: bool,
        command: u8,
        arguments: Vec<u8>,
        columns: [u16; 2],
        rows: [u16; 2],
        at: usize,
        /// The memory's own direction of columns and rows, and whether they are exchanged (MADCTL, 36h).
        access: u8,
        inverted: bool,
        on: bool,
        largest: usize,
    }

    impl Chip {
        fn new() -> Rc<RefCell<Self>> {
            Rc::new(RefCell::new(Self {
                memory: vec![0x1234; 240 * 320],
                data: false,
                command: 0,
                arguments: vec![],
                columns: [0, 239],
                rows: [0, 319],
                at: 0,
                access: 0,
                inverted: false,
                on: false,
                largest: 0,
            }))
        }

        fn command(&mut self, command: u8) {
            (self.command, self.at) = (command, 0);
            self.arguments.clear();
            match command {
                0x20 | 0x21 => self.inverted = command == 0x21,
                0x29 => self.on = true,
                _ => {}
            }
        }

        fn argument(&mut self, byte: u8) {
            self.arguments.push(byte);
            let two = |bytes: &[u8]| [u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]])];
            match (self.command, self.arguments.len()) {
                (0x2A, 4) => self.columns = two(&self.arguments),
                (0x2B, 4) => self.rows = two(&self.arguments),
                (0x36, 1) => self.access = byte,
                (0x2C, 2) => {
                    let colour = u16::from_be_bytes([self.arguments[0], self.arguments[1]]);
                    self.arguments.clear();
                    let width = usize::from(self.columns[1] - self.columns[0] + 1);
                    let column = usize::from(self.columns[0]) + self.at % width;
                    let row = usize::from(self.rows[0]) + self.at / width;
                    self.at += 1;
                    let place = self.place(column, row);
                    self.memory[place] = colour;
                }
                _ => {}
            }
        }

        /// Where a pixel lands, by the exchange (bit 5) and directions (bits 6 and 7) of the data sheet's section 9.1.28.
        fn place(&self, column: usize, row: usize) -> usize {
            let (mut x, mut y) = if self.access & 0x20 == 0 { (column, row) } else { (row, column) };
            if self.access & 0x40 != 0 {
                x = 239 - x;
            }
            if self.access & 0x80 != 0 {
                y = 319 - y;
            }
            x + 240 * y
        }
    }

    struct Bus(Rc<RefCell<Chip>>);

    impl spi::ErrorType for Bus {
        type Error = spi::ErrorKind;
    }

    impl SpiDevice for Bus {
        fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), spi::ErrorKind> {
            let mut chip = self.0.borrow_mut();
            for operation in operations {
                let Operation::Write(bytes) = operation else { panic!("nothing is read") };
                chip.largest = chip.largest.max(bytes.len());
                for &byte in *bytes {
                    if chip.data { chip.argument(byte) } else { chip.command(byte) }
                }
            }
            Ok(())
        }
    }

    struct DataLine(Rc<RefCell<Chip>>);

    impl digital::ErrorType for DataLine {
        type Error = Infallible;
    }

    impl OutputPin for DataLine {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().data = false;
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().data = true;
            Ok(())
        }
    }

    struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    fn settings(size: [u32; 2]) -> St7789 {
        let line =
            || LineSettings { chip: "gpiochip0".parse().unwrap(), line: "25".parse().unwrap(), active: gpio::Active::High };
        St7789 {
            bus: PathBuf::from("/dev/spidev0.0"),
            mode3: false,
            panel: Panel::of(size).unwrap(),
            inverted: true,
            data: line(),
            reset: None,
            light: None,
        }
    }

    /// The panel's own pixel, upright as it hangs, after the memory was filled.
    fn seen(chip: &Chip, panel: Panel, quarters: u8, [x, y]: [u32; 2]) -> Rgb565 {
        let [width, height] = panel.size();
        let [px, py] = match quarters {
            0 => [x, y],
            1 => [width - 1 - y, x],
            2 => [width - 1 - x, height - 1 - y],
            _ => [y, height - 1 - x],
        };
        let [left, top] = panel.offset.map(u32::from);
        RawU16::new(chip.memory[(left + px + 240 * (top + py)) as usize]).into()
    }

    #[test]
    fn what_is_drawn_arrives_on_every_panel_however_it_is_turned() {
        for panel in PANELS {
            for quarters in [0, 1, 2, 3] {
                let chip = Chip::new();
                let mut buffer = [0; 512];
                let interface = SpiInterface::new(Bus(Rc::clone(&chip)), DataLine(Rc::clone(&chip)), &mut buffer);
                let builder = builder(interface, &settings(panel.size()), quarters);
                let mut tft = Tft::init(builder, None, String::new(), &mut NoDelay).unwrap();
                assert!(chip.borrow().on && chip.borrow().inverted);
                for (_, screen) in examples().into_iter().take(2) {
                    tft.show(&screen).unwrap();
                    // A quarter turn to the right: the upper left corner of the picture is the panel's upper right one.
                    assert_same(&tft.canvas, |x, y| seen(&chip.borrow(), panel, quarters, [x, y]));
                }
                assert!(chip.borrow().largest <= 512, "no transfer is larger than the buffer");
            }
        }
    }

    #[test]
    fn one_without_a_light_of_its_own_goes_black_and_comes_back() {
        let chip = Chip::new();
        let mut buffer = [0; 512];
        let interface = SpiInterface::new(Bus(Rc::clone(&chip)), DataLine(Rc::clone(&chip)), &mut buffer);
        let panel = settings([240, 240]);
        let mut tft = Tft::init(builder(interface, &panel, 0), None, String::new(), &mut NoDelay).unwrap();
        let (_, screen) = examples().remove(1);
        tft.show(&screen).unwrap();
        tft.switch(false).unwrap();
        assert_eq!(seen(&chip.borrow(), panel.panel, 0, [120, 120]), Rgb565::BLACK);
        tft.switch(true).unwrap();
        assert_same(&tft.canvas, |x, y| seen(&chip.borrow(), panel.panel, 0, [x, y]));
    }

    #[test]
    fn a_bus_that_is_not_there_is_named() {
        let bus = |path: &str| St7789 { bus: path.into(), ..settings([240, 240]) };
        let error = open(&bus("/nonexistent/spidev9.9"), 0, &mut [0; 64]).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/spidev9.9") && error.mend.contains("dtparam=spi=on"), "{error}");
        let error = open(&bus("/dev/null"), 0, &mut [0; 64]).err().unwrap();
        assert!(error.to_string().contains("no SPI bus"), "{error}");
    }
}
