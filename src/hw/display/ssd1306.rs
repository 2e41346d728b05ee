//! SSD1306: a monochrome OLED at I²C (Solomon Systech, SSD1306 rev 1.1), through the `ssd1306` crate.

use std::path::Path;

use embedded_graphics::pixelcolor::BinaryColor;
use embedded_hal::i2c::I2c;
use linux_embedded_hal::I2cdev;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{DisplayRotation, DisplaySize, DisplaySize128x32, DisplaySize128x64, I2CInterface};
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::draw::MONO;
use super::screen::Screen;
use super::sim::Canvas;
use super::{Display, Error};

/// The addresses that its wiring can choose.
pub const ADDRESSES: [u8; 2] = [0x3C, 0x3D];
/// What to do where there is no bus, and where it may not be used.
const MENDS: [&str; 2] = [
    "switch I2C on (Raspberry Pi: `dtparam=i2c_arm=on` in config.txt, or raspi-config) or name another bus as display.bus; \
     `ls /dev/i2c-*` shows them",
    "add the user that pawgate runs as to the group i2c",
];
const SILENT: &str = "look at its wiring and power, and whether display.address is right: `i2cdetect -y BUS` shows it";

/// Sizes of panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Panel {
    /// 0.96 inch.
    W128H64,
    /// 0.91 inch.
    W128H32,
}

impl Panel {
    /// Width and height in pixels.
    pub const fn size(self) -> [u32; 2] {
        match self {
            Self::W128H64 => [128, 64],
            Self::W128H32 => [128, 32],
        }
    }

    /// The panel of a size.
    pub fn of([width, height]: [u32; 2]) -> Option<Self> {
        [Self::W128H64, Self::W128H32].into_iter().find(|panel| panel.size() == [width, height])
    }
}

/// Opens it and clears it.
///
/// # Errors
/// The bus cannot be opened, or nothing answers at the address.
pub(super) fn open(bus: &Path, address: u8, panel: Panel, turned: bool) -> Result<Box<dyn Display>, Error> {
    let device = format!("{}, address 0x{address:02X}", bus.display());
    // The crate's errors hide what the system said.
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(bus);
    opened.map_err(|error| Error::bus(bus, &error, error.kind(), MENDS))?;
    let i2c = I2cdev::new(bus).map_err(|error| Error {
        device: device.clone(),
        cause: format!("it is no I2C bus: {error}"),
        mend: MENDS[0],
    })?;
    Ok(match panel {
        Panel::W128H64 => Box::new(Oled::init(i2c, address, DisplaySize128x64, turned, device)?),
        Panel::W128H32 => Box::new(Oled::init(i2c, address, DisplaySize128x32, turned, device)?),
    })
}

/// One at any I²C bus.
struct Oled<I, S: DisplaySize> {
    device: Ssd1306<I2CInterface<I>, S, BufferedGraphicsMode<S>>,
    canvas: Canvas<BinaryColor>,
    name: String,
}

impl<I: I2c, S: DisplaySize> Oled<I, S> {
    fn init(i2c: I, address: u8, size: S, turned: bool, name: String) -> Result<Self, Error> {
        let rotation = if turned { DisplayRotation::Rotate180 } else { DisplayRotation::Rotate0 };
        let interface = I2CDisplayInterface::new_custom_address(i2c, address);
        let mut device = Ssd1306::new(interface, size, rotation).into_buffered_graphics_mode();
        let (width, height) = device.dimensions();
        let answers = device.init().and_then(|()| device.flush());
        answers.map_err(|_| silent(&name))?;
        Ok(Self { device, canvas: Canvas::new([width.into(), height.into()], MONO), name })
    }
}

fn silent(name: &str) -> Error {
    Error { device: name.into(), cause: "nothing acknowledges".into(), mend: SILENT }
}

impl<I: I2c, S: DisplaySize> Display for Oled<I, S> {
    fn show(&mut self, screen: &Screen) -> Result<(), Error> {
        if !self.canvas.draw(screen) {
            return Ok(());
        }
        let sent = self.canvas.copy_to(&mut self.device).and_then(|()| self.device.flush());
        sent.map_err(|_| {
            self.canvas.forget();
            silent(&self.name)
        })
    }

    fn switch(&mut self, on: bool) -> Result<(), Error> {
        self.device.set_display_on(on).map_err(|_| silent(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

    use super::super::screen::examples;
    use super::super::sim::assert_same;
    use super::*;

    /// The controller's memory as its data sheet describes it: pages of eight rows, filled in horizontal addressing mode.
    #[derive(Debug)]
    struct Chip {
        memory: [[u8; 128]; 8],
        columns: [usize; 2],
        pages: [usize; 2],
        at: [usize; 2],
        on: bool,
        /// Commands that mirror the picture, as they came last: segments, rows.
        mirrored: [bool; 2],
        pending: Vec<u8>,
        acknowledges: bool,
        bytes: usize,
    }

    impl Chip {
        fn new() -> Rc<RefCell<Self>> {
            Rc::new(RefCell::new(Self {
                memory: [[0xAA; 128]; 8],
                columns: [0, 127],
                pages: [0, 7],
                at: [0, 0],
                on: false,
                mirrored: [false; 2],
                pending: vec![],
                acknowledges: true,
                bytes: 0,
            }))
        }

        /// Bytes that follow a command.
        fn arguments(command: u8) -> usize {
            match command {
                0x20 | 0x81 | 0x8D | 0xA8 | 0xD3 | 0xD5 | 0xD9 | 0xDA | 0xDB => 1,
                0x21 | 0x22 | 0xA3 => 2,
                _ => 0,
            }
        }

        fn command(&mut self, byte: u8) {
            self.pending.push(byte);
            let [command, arguments @ ..] = self.pending.as_slice() else { return };
            if arguments.len() < Self::arguments(*command) {
                return;
            }
            match (*command, arguments) {
                (0x21, [from, to]) => {
                    self.columns = [usize::from(*from), usize::from(*to)];
                    self.at[0] = self.columns[0];
                }
                (0x22, [from, to]) => {
                    self.pages = [usize::from(*from), usize::from(*to)];
                    self.at[1] = self.pages[0];
                }
                (0x20, [mode]) => assert_eq!(*mode, 0, "horizontal addressing"),
                (0xAE | 0xAF, _) => self.on = *command == 0xAF,
                (0xA0 | 0xA1, _) => self.mirrored[0] = *command == 0xA1,
                (0xC0 | 0xC8, _) => self.mirrored[1] = *command == 0xC8,
                _ => {}
            }
            self.pending.clear();
        }

        fn data(&mut self, byte: u8) {
            let [x, page] = self.at;
            self.memory[page][x] = byte;
            self.bytes += 1;
            self.at[0] += 1;
            if self.at[0] > self.columns[1] {
                self.at = [self.columns[0], if page == self.pages[1] { self.pages[0] } else { page + 1 }];
            }
        }

        fn pixel(&self, x: u32, y: u32) -> BinaryColor {
            (self.memory[y as usize / 8][x as usize] >> (y % 8) & 1 == 1).into()
        }
    }

    struct Bus(Rc<RefCell<Chip>>);

    impl ErrorType for Bus {
        type Error = ErrorKind;
    }

    impl I2c for Bus {
        fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            let mut chip = self.0.borrow_mut();
            if address != 0x3C || !chip.acknowledges {
                return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
            }
            for operation in operations {
                let Operation::Write([control, bytes @ ..]) = operation else { panic!("nothing is read") };
                match control {
                    0x00 => bytes.iter().for_each(|&byte| chip.command(byte)),
                    0x40 => bytes.iter().for_each(|&byte| chip.data(byte)),
                    other => panic!("control byte {other:#x}"),
                }
            }
            Ok(())
        }
    }

    fn oled(chip: &Rc<RefCell<Chip>>, address: u8) -> Result<Oled<Bus, DisplaySize128x64>, Error> {
        Oled::init(Bus(Rc::clone(chip)), address, DisplaySize128x64, false, "/dev/i2c-1".into())
    }

    #[test]
    fn what_is_drawn_arrives_in_the_controllers_memory() {
        let chip = Chip::new();
        let mut oled = oled(&chip, 0x3C).unwrap();
        assert!(chip.borrow().memory.iter().flatten().all(|&byte| byte == 0), "cleared at the start");
        assert!(chip.borrow().on);
        for (_, screen) in examples() {
            oled.show(&screen).unwrap();
            assert_same(&oled.canvas, |x, y| chip.borrow().pixel(x, y));
        }
    }

    #[test]
    fn the_small_panel_too() {
        let chip = Chip::new();
        let mut oled = Oled::init(Bus(Rc::clone(&chip)), 0x3C, DisplaySize128x32, false, String::new()).unwrap();
        for (_, screen) in examples() {
            oled.show(&screen).unwrap();
            assert_same(&oled.canvas, |x, y| chip.borrow().pixel(x, y));
        }
    }

    #[test]
    fn turned_round_it_mirrors_both_ways() {
        let mirrored = |turned| {
            let chip = Chip::new();
            Oled::init(Bus(Rc::clone(&chip)), 0x3C, DisplaySize128x64, turned, String::new()).unwrap();
            chip.borrow().mirrored
        };
        let [usual, turned] = [mirrored(false), mirrored(true)];
        assert_eq!(turned, usual.map(|mirrored| !mirrored));
    }

    #[test]
    fn a_screen_that_is_shown_already_costs_nothing() {
        let chip = Chip::new();
        let mut oled = oled(&chip, 0x3C).unwrap();
        let (_, screen) = examples().remove(0);
        oled.show(&screen).unwrap();
        let bytes = chip.borrow().bytes;
        oled.show(&screen).unwrap();
        assert_eq!(chip.borrow().bytes, bytes);
    }

    #[test]
    fn one_that_is_silent_says_what_to_look_at_and_is_drawn_again_later() {
        let chip = Chip::new();
        let text = oled(&chip, 0x3D).err().unwrap().to_string();
        assert!(text.contains("i2cdetect") && text.contains("/dev/i2c-1"), "{text}");
        let mut oled = oled(&chip, 0x3C).unwrap();
        let (_, screen) = examples().remove(1);
        chip.borrow_mut().acknowledges = false;
        oled.show(&screen).unwrap_err();
        chip.borrow_mut().acknowledges = true;
        oled.show(&screen).unwrap();
        assert_same(&oled.canvas, |x, y| chip.borrow().pixel(x, y));
    }

    #[test]
    fn switching_it_off_keeps_the_picture() {
        let chip = Chip::new();
        let mut oled = oled(&chip, 0x3C).unwrap();
        let (_, screen) = examples().remove(1);
        oled.show(&screen).unwrap();
        oled.switch(false).unwrap();
        assert!(!chip.borrow().on);
        oled.switch(true).unwrap();
        assert!(chip.borrow().on);
        assert_same(&oled.canvas, |x, y| chip.borrow().pixel(x, y));
    }

    #[test]
    fn a_bus_that_is_not_there_is_named() {
        let error = open(Path::new("/nonexistent/i2c-9"), 0x3C, Panel::W128H64, false).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/i2c-9") && error.mend.contains("i2c_arm=on"), "{error}");
        let error = open(Path::new("/dev/null"), 0x3C, Panel::W128H64, false).err().unwrap();
        assert!(error.to_string().contains("no I2C bus"), "{error}");
    }
}
