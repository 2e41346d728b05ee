//! From a [`Screen`] to pixels, for any size from 128×32 and any colours.
//!
//! A line above says whose device it is and what time, a line below where the bolt is; between them stand a sign, a headline and a
//! sentence: beside each other where the display is wide, below each other where it is tall. A display of less than 48 pixels of height
//! has no room for the two lines.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Arc, Circle, Ellipse, Line, PrimitiveStyle, Rectangle, RoundedRectangle, Triangle};
use embedded_graphics::text::{Baseline, Text};
use embedded_text::TextBox;
use embedded_text::alignment::{HorizontalAlignment, VerticalAlignment};
use embedded_text::style::{HeightMode, TextBoxStyleBuilder, VerticalOverdraw};

use super::font::{self, Face};
use super::screen::{Bolt, Scene, Screen, Who};

/// The colours of a display.
#[derive(Debug, Clone, Copy)]
pub struct Palette<C> {
    /// Behind everything.
    pub back: C,
    /// Text and signs.
    pub text: C,
    /// What matters less.
    pub faint: C,
    /// Somebody may pass.
    pub good: Accent<C>,
    /// Nobody may, or something is wrong.
    pub bad: Accent<C>,
    /// Something happens.
    pub attention: Accent<C>,
}

/// A colour, and that of text on it.
#[derive(Debug, Clone, Copy)]
pub struct Accent<C> {
    /// The colour.
    pub fill: C,
    /// Text on it.
    pub text: C,
}

/// One bit a pixel.
pub const MONO: Palette<embedded_graphics::pixelcolor::BinaryColor> = {
    use embedded_graphics::pixelcolor::BinaryColor::{Off, On};
    let accent = Accent { fill: On, text: Off };
    Palette { back: Off, text: On, faint: On, good: accent, bad: accent, attention: accent }
};

/// 16 bits a pixel. Green and red differ in brightness as well, for those who do not see them apart.
pub const COLOUR: Palette<embedded_graphics::pixelcolor::Rgb565> = {
    use embedded_graphics::pixelcolor::Rgb565 as C;
    Palette {
        back: C::new(1, 3, 2),
        text: C::WHITE,
        faint: C::new(17, 35, 18),
        good: Accent { fill: C::new(13, 52, 11), text: C::BLACK },
        bad: Accent { fill: C::new(24, 8, 5), text: C::WHITE },
        attention: Accent { fill: C::new(31, 44, 6), text: C::BLACK },
    }
};

/// The least height that has room for the lines above and below.
const ROOM_FOR_LINES: u32 = 48;
/// From this width on, sentences are larger.
const LARGE_WIDTH: u32 = 200;

/// Draws all of it, over whatever is there.
///
/// # Errors
/// The target's.
pub fn draw<D: DrawTarget>(screen: &Screen, target: &mut D, palette: &Palette<D::Color>) -> Result<(), D::Error> {
    target.clear(palette.back)?;
    let area = target.bounding_box();
    let small = if area.size.width >= LARGE_WIDTH { font::LARGE } else { font::SMALL };
    let mut page = Page { target, palette, small };
    if area.size.height < ROOM_FOR_LINES {
        return page.scene(&screen.scene, area);
    }
    let line = small.cell().height + 2;
    page.header(screen, band(area, 0, line))?;
    let foot = line + 1;
    page.footer(screen, band(area, area.size.height - foot, foot))?;
    page.scene(&screen.scene, band(area, line + 2, area.size.height - line - foot - 4))
}

/// A part of `area` over its whole width.
fn band(area: Rectangle, top: u32, height: u32) -> Rectangle {
    Rectangle::new(area.top_left + Size::new(0, top), Size::new(area.size.width, height))
}

/// `area` without a margin.
fn inside(area: Rectangle, x: u32, y: u32) -> Rectangle {
    Rectangle::new(area.top_left + Size::new(x, y), area.size.saturating_sub(Size::new(2 * x, 2 * y)))
}

/// The largest square in the middle of `area`.
fn square(area: Rectangle) -> Rectangle {
    let side = area.size.width.min(area.size.height);
    Rectangle::with_center(area.center(), Size::new_equal(side))
}

/// Whether all of `text` has room in `area`, when lines break at words.
fn fits(text: &str, area: Rectangle, face: Face) -> bool {
    let letters = MonoTextStyle::new(face.font(text), embedded_graphics::pixelcolor::BinaryColor::On);
    let height = TextBoxStyleBuilder::new().build().measure_text_height(&letters, text, area.size.width);
    height <= area.size.height
}

/// As much of `text` as has room in `area`, with two dots where some is left out.
fn cut(text: &str, area: Rectangle, face: Face) -> String {
    let letters: Vec<char> = text.chars().take(500).collect();
    if letters.len() == text.chars().count() && fits(text, area, face) {
        return text.to_owned();
    }
    let first = |count: usize| letters[..count].iter().collect::<String>().trim_end().to_owned() + "..";
    let most = (0..=letters.len()).collect::<Vec<_>>().partition_point(|&count| fits(&first(count), area, face));
    if most == 0 { String::new() } else { first(most - 1) }
}

/// What the sign shows.
#[derive(Clone, Copy)]
enum Sign {
    Paw,
    Eye,
    Padlock(Bolt),
    Warning,
    Hourglass,
    Off,
}

/// What a scene says: a sign, a headline, a sentence, and how certain it is.
struct Words<C> {
    sign: Sign,
    headline: String,
    /// A colour behind the headline.
    accent: Option<Accent<C>>,
    sentence: String,
    probability: Option<f32>,
}

/// A display while it is drawn.
struct Page<'a, D: DrawTarget> {
    target: &'a mut D,
    palette: &'a Palette<D::Color>,
    small: Face,
}

impl<D: DrawTarget> Page<'_, D> {
    fn header(&mut self, screen: &Screen, area: Rectangle) -> Result<(), D::Error> {
        let clock = screen.clock.as_deref().unwrap_or("--:--");
        let width = self.small.width(clock);
        let name = font::shortened(&screen.name, self.small, area.size.width.saturating_sub(width + self.small.cell().width));
        self.line(&name, area.top_left + Point::new(1, 1), self.small, self.palette.faint)?;
        let at = area.top_left + Size::new(area.size.width.saturating_sub(width + 1), 1);
        self.line(clock, at, self.small, self.palette.text)?;
        self.rule(area.top_left + Size::new(0, area.size.height), area.size.width)
    }

    fn footer(&mut self, screen: &Screen, area: Rectangle) -> Result<(), D::Error> {
        self.rule(area.top_left, area.size.width)?;
        let row = Rectangle::new(area.top_left + Size::new(0, 2), area.size.saturating_sub(Size::new(0, 2)));
        let Some(bolt) = screen.door else { return Ok(()) };
        let side = row.size.height;
        let colour = match bolt {
            Bolt::Locked => self.palette.text,
            Bolt::Unlocked => self.palette.good.fill,
            Bolt::Unknown => self.palette.faint,
        };
        padlock(self.target, Rectangle::new(row.top_left + Point::new(1, 0), Size::new_equal(side)), bolt, colour)?;
        let text = format!("door {}", bolt.name());
        let at = row.top_left + Size::new(side + 4, (side.saturating_sub(self.small.cell().height)) / 2);
        self.line(&text, at, self.small, colour)
    }

    fn rule(&mut self, from: Point, width: u32) -> Result<(), D::Error> {
        let style = PrimitiveStyle::with_stroke(self.palette.faint, 1);
        Line::new(from, from + Size::new(width.saturating_sub(1), 0)).into_styled(style).draw(self.target)
    }

    /// One line of text with its upper left corner at `at`.
    fn line(&mut self, text: &str, at: Point, face: Face, colour: D::Color) -> Result<(), D::Error> {
        let style = MonoTextStyle::new(face.font(text), colour);
        if face.factor == 1 {
            return Text::with_baseline(text, at, style, Baseline::Top).draw(self.target).map(drop);
        }
        let mut larger = Larger { target: self.target, at, factor: face.factor };
        Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut larger).map(drop)
    }

    fn scene(&mut self, scene: &Scene, area: Rectangle) -> Result<(), D::Error> {
        let words = self.words(scene);
        let tall = area.size.height * 3 > area.size.width * 2;
        let (sign, text) = if tall {
            let height = area.size.height * 2 / 5;
            (band(area, 0, height), inside(band(area, height, area.size.height - height), 4, 0))
        } else {
            let side = area.size.height.min(area.size.width / 4);
            let rest = area.size.width - side - 4;
            let at = area.top_left + Size::new(side + 4, 0);
            (
                Rectangle::new(area.top_left, Size::new(side, area.size.height)),
                Rectangle::new(at, Size::new(rest, area.size.height)),
            )
        };
        let colour = words.accent.map_or(self.palette.text, |accent| accent.fill);
        let margin = 2 + area.size.width / 100;
        sign_of(self.target, words.sign, inside(square(sign), margin, margin), colour, self.palette.back)?;
        self.text(&words, text, tall)
    }

    /// Headline, bar and sentence from above.
    fn text(&mut self, words: &Words<D::Color>, area: Rectangle, centred: bool) -> Result<(), D::Error> {
        // A headline takes half of the height, or less where the sentence needs that.
        let edge = if words.accent.is_some() { 2 } else { 1 };
        let room = |face: Face| {
            let height = face.cell().height;
            let below = band(area, 0, area.size.height.saturating_sub(height + edge + 2));
            height <= area.size.height / 2 && (words.probability.is_some() || fits(&words.sentence, below, font::TINY))
        };
        let face = font::headline(&words.headline, area.size.width.saturating_sub(4), room);
        let headline = font::shortened(&words.headline, face, area.size.width.saturating_sub(2));
        // The smallest headline may still be a name that is too long for one line: then it is written as a sentence.
        let wraps = headline != words.headline;
        let rows = if wraps { 2 } else { 1 };
        let height = face.cell().height * rows + edge;
        let top = band(area, 0, height);
        let colour = match words.accent {
            Some(accent) => {
                RoundedRectangle::with_equal_corners(top, Size::new_equal(3))
                    .into_styled(PrimitiveStyle::with_fill(accent.fill))
                    .draw(self.target)?;
                accent.text
            }
            None => self.palette.text,
        };
        if wraps {
            self.sentence(&words.headline, inside(top, 1, 0), face, colour, centred)?;
        } else {
            let width = face.width(&headline);
            let spare = area.size.width.saturating_sub(width);
            let left = if centred { spare / 2 } else { spare.min(2) };
            self.line(&headline, top.top_left + Size::new(left, 1), face, colour)?;
        }
        let mut below = height + 2;
        if let Some(p) = words.probability {
            let thick = (self.small.cell().height / 2).max(4);
            self.bar(Rectangle::new(area.top_left + Size::new(0, below), Size::new(area.size.width, thick)), p)?;
            below += thick + 3;
        }
        let rest = band(area, below, area.size.height.saturating_sub(below));
        let face = self.sentence_face(&words.sentence, rest);
        self.sentence(&words.sentence, rest, face, self.palette.text, centred)
    }

    /// The usual size, or a smaller one where a sentence needs more room than that leaves.
    fn sentence_face(&self, text: &str, area: Rectangle) -> Face {
        [self.small, font::SMALL].into_iter().find(|&face| fits(text, area, face)).unwrap_or(font::TINY)
    }

    fn sentence(&mut self, text: &str, area: Rectangle, face: Face, colour: D::Color, centred: bool) -> Result<(), D::Error> {
        let alignment = if centred { HorizontalAlignment::Center } else { HorizontalAlignment::Left };
        let style = TextBoxStyleBuilder::new()
            .alignment(alignment)
            .vertical_alignment(VerticalAlignment::Top)
            .height_mode(HeightMode::Exact(VerticalOverdraw::FullRowsOnly))
            .build();
        let text = &cut(text, area, face);
        let letters = MonoTextStyle::new(face.font(text), colour);
        TextBox::with_textbox_style(text, area, letters, style).draw(self.target).map(drop)
    }

    /// How likely something is.
    fn bar(&mut self, area: Rectangle, share: f32) -> Result<(), D::Error> {
        area.into_styled(PrimitiveStyle::with_stroke(self.palette.faint, 1)).draw(self.target)?;
        let full = inside(area, 2, 2);
        let width = (full.size.width as f32 * share.clamp(0.0, 1.0)).round() as u32;
        Rectangle::new(full.top_left, Size::new(width, full.size.height))
            .into_styled(PrimitiveStyle::with_fill(self.palette.attention.fill))
            .draw(self.target)
    }

    fn words(&self, scene: &Scene) -> Words<D::Color> {
        let plain = |sign, headline: &str, sentence: String| Words {
            sign,
            headline: headline.into(),
            accent: None,
            sentence,
            probability: None,
        };
        match scene {
            Scene::Starting => plain(Sign::Hourglass, "starting", "loading the model, opening the camera".into()),
            Scene::Idle { last } => plain(Sign::Paw, "watching", last.clone().unwrap_or_else(|| "nobody was here yet".into())),
            Scene::Motion { what } => {
                Words { accent: Some(self.palette.attention), ..plain(Sign::Eye, "who is it?", what.clone()) }
            }
            Scene::Animal(who) => Words { probability: Some(who.probability), ..plain(Sign::Paw, &who.name, who.detail()) },
            Scene::Decision { allowed, what, who, why } => {
                let accent = if *allowed { self.palette.good } else { self.palette.bad };
                let bolt = if *allowed { Bolt::Unlocked } else { Bolt::Locked };
                let sentence = match who {
                    Some(Who { name, .. }) => format!("{name}: {why}"),
                    None => why.clone(),
                };
                Words { accent: Some(accent), ..plain(Sign::Padlock(bolt), what, sentence) }
            }
            Scene::Fault { what } => Words { accent: Some(self.palette.bad), ..plain(Sign::Warning, "fault", what.clone()) },
            Scene::Ended { why } => plain(Sign::Off, "stopped", why.clone()),
        }
    }
}

/// Draws each pixel as a square: letters for a large display.
struct Larger<'a, D> {
    target: &'a mut D,
    at: Point,
    factor: u32,
}

impl<D: DrawTarget> Dimensions for Larger<'_, D> {
    fn bounding_box(&self) -> Rectangle {
        self.target.bounding_box()
    }
}

impl<D: DrawTarget> DrawTarget for Larger<'_, D> {
    type Color = D::Color;
    type Error = D::Error;

    fn draw_iter<I: IntoIterator<Item = Pixel<D::Color>>>(&mut self, pixels: I) -> Result<(), D::Error> {
        for Pixel(point, colour) in pixels {
            let corner = self.at + point * self.factor.cast_signed();
            self.target.fill_solid(&Rectangle::new(corner, Size::new_equal(self.factor)), colour)?;
        }
        Ok(())
    }
}

fn sign_of<D: DrawTarget>(
    target: &mut D,
    sign: Sign,
    area: Rectangle,
    colour: D::Color,
    back: D::Color,
) -> Result<(), D::Error> {
    match sign {
        Sign::Paw => paw(target, area, colour),
        Sign::Eye => eye(target, area, colour, back),
        Sign::Padlock(bolt) => padlock(target, area, bolt, colour),
        Sign::Warning => warning(target, area, colour, back),
        Sign::Hourglass => hourglass(target, area, colour),
        Sign::Off => off(target, area, colour),
    }
}

/// A point of `area`, in hundredths of its sides.
fn at(area: Rectangle, x: u32, y: u32) -> Point {
    area.top_left + Size::new(area.size.width * x / 100, area.size.height * y / 100)
}

/// A part of `area`, in hundredths of its sides.
fn part(area: Rectangle, [x, y, width, height]: [u32; 4]) -> Rectangle {
    Rectangle::new(at(area, x, y), Size::new(area.size.width * width / 100, area.size.height * height / 100))
}

fn stroke(area: Rectangle) -> u32 {
    (area.size.width / 9).max(1)
}

fn paw<D: DrawTarget>(target: &mut D, area: Rectangle, colour: D::Color) -> Result<(), D::Error> {
    let fill = PrimitiveStyle::with_fill(colour);
    let toes = [[4, 34, 20, 26], [26, 8, 21, 30], [54, 8, 21, 30], [76, 34, 20, 26]];
    for shape in toes.into_iter().chain([[24, 44, 52, 46]]) {
        let Rectangle { top_left, size } = part(area, shape);
        Ellipse::new(top_left, size).into_styled(fill).draw(target)?;
    }
    Ok(())
}

fn eye<D: DrawTarget>(target: &mut D, area: Rectangle, colour: D::Color, back: D::Color) -> Result<(), D::Error> {
    let white = part(area, [0, 22, 100, 56]);
    Ellipse::new(white.top_left, white.size).into_styled(PrimitiveStyle::with_fill(colour)).draw(target)?;
    let side = area.size.width * 40 / 100;
    Circle::with_center(white.center(), side).into_styled(PrimitiveStyle::with_fill(back)).draw(target)?;
    Circle::with_center(white.center(), side / 3).into_styled(PrimitiveStyle::with_fill(colour)).draw(target)
}

fn padlock<D: DrawTarget>(target: &mut D, area: Rectangle, bolt: Bolt, colour: D::Color) -> Result<(), D::Error> {
    let line = PrimitiveStyle::with_stroke(colour, stroke(area));
    let body = part(area, [14, 46, 72, 50]);
    match bolt {
        Bolt::Unknown => body.into_styled(PrimitiveStyle::with_stroke(colour, 1)).draw(target)?,
        Bolt::Locked | Bolt::Unlocked => body.into_styled(PrimitiveStyle::with_fill(colour)).draw(target)?,
    }
    let side = area.size.width * 48 / 100;
    let left = if bolt == Bolt::Unlocked { 52 } else { 26 };
    let arc = at(area, left, 6);
    Arc::new(arc, side, 180.0.deg(), 180.0.deg()).into_styled(line).draw(target)?;
    // The shackle's legs; an open one's right leg hangs free.
    let (x0, x1) = (arc.x, arc.x + side.cast_signed() - 1);
    let (y0, y1) = (arc.y + side.cast_signed() / 2, body.top_left.y);
    Line::new(Point::new(x0, y0), Point::new(x0, y1)).into_styled(line).draw(target)?;
    let end = if bolt == Bolt::Unlocked { (y0 + y1) / 2 } else { y1 };
    Line::new(Point::new(x1, y0), Point::new(x1, end)).into_styled(line).draw(target)
}

fn warning<D: DrawTarget>(target: &mut D, area: Rectangle, colour: D::Color, back: D::Color) -> Result<(), D::Error> {
    Triangle::new(at(area, 50, 4), at(area, 0, 94), at(area, 99, 94))
        .into_styled(PrimitiveStyle::with_fill(colour))
        .draw(target)?;
    let ink = PrimitiveStyle::with_fill(back);
    part(area, [45, 36, 11, 30]).into_styled(ink).draw(target)?;
    part(area, [45, 74, 11, 11]).into_styled(ink).draw(target)
}

fn hourglass<D: DrawTarget>(target: &mut D, area: Rectangle, colour: D::Color) -> Result<(), D::Error> {
    let fill = PrimitiveStyle::with_fill(colour);
    Triangle::new(at(area, 20, 12), at(area, 80, 12), at(area, 50, 52)).into_styled(fill).draw(target)?;
    Triangle::new(at(area, 20, 90), at(area, 80, 90), at(area, 50, 50)).into_styled(fill).draw(target)?;
    for y in [4, 92] {
        part(area, [14, y, 72, 8]).into_styled(fill).draw(target)?;
    }
    Ok(())
}

fn off<D: DrawTarget>(target: &mut D, area: Rectangle, colour: D::Color) -> Result<(), D::Error> {
    let line = PrimitiveStyle::with_stroke(colour, stroke(area));
    let ring = part(area, [12, 14, 76, 76]);
    Arc::new(ring.top_left, ring.size.width, (-55.0).deg(), 290.0.deg()).into_styled(line).draw(target)?;
    Line::new(at(area, 50, 4), at(area, 50, 48)).into_styled(line).draw(target)
}

#[cfg(test)]
mod tests {
    use embedded_graphics::pixelcolor::{BinaryColor, Rgb565};
    use embedded_graphics_simulator::SimulatorDisplay;

    use super::super::screen::examples;
    use super::*;

    /// Pixels of text or sign, and those that fell outside the display.
    struct Watched<C> {
        inner: SimulatorDisplay<C>,
        outside: usize,
    }

    impl<C: PixelColor> Dimensions for Watched<C> {
        fn bounding_box(&self) -> Rectangle {
            self.inner.bounding_box()
        }
    }

    impl<C: PixelColor> DrawTarget for Watched<C> {
        type Color = C;
        type Error = std::convert::Infallible;

        fn draw_iter<I: IntoIterator<Item = Pixel<C>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
            for Pixel(point, colour) in pixels {
                self.outside += usize::from(!self.inner.bounding_box().contains(point));
                self.inner.draw_iter([Pixel(point, colour)])?;
            }
            Ok(())
        }
    }

    fn drawn<C: PixelColor + From<BinaryColor>>(screen: &Screen, size: [u32; 2], palette: &Palette<C>) -> Watched<C> {
        let mut target = Watched { inner: SimulatorDisplay::new(Size::new(size[0], size[1])), outside: 0 };
        let Ok(()) = draw(screen, &mut target, palette);
        target
    }

    #[test]
    fn every_screen_fits_on_every_display() {
        for (name, screen) in examples() {
            for size in [[128, 32], [128, 64]] {
                let mono = drawn(&screen, size, &MONO);
                let lit = mono.bounding_box().points().filter(|&p| mono.inner.get_pixel(p) == BinaryColor::On).count();
                assert_eq!(mono.outside, 0, "{name} on {size:?}");
                assert!((50..size[0] as usize * size[1] as usize / 2).contains(&lit), "{name} on {size:?}: {lit} lit");
            }
            for size in [[240, 240], [240, 320], [320, 240], [170, 320], [320, 170], [135, 240], [240, 135], [240, 280]] {
                assert_eq!(drawn(&screen, size, &COLOUR).outside, 0, "{name} on {size:?}");
            }
        }
    }

    #[test]
    fn no_two_screens_look_alike() {
        let screens = examples();
        for size in [[128, 32], [128, 64]] {
            let all: Vec<_> = screens.iter().map(|(_, screen)| drawn(screen, size, &MONO).inner).collect();
            for a in 0..all.len() {
                for b in 0..a {
                    assert!(all[a].diff(&all[b]).is_some(), "{} and {} on {size:?}", screens[a].0, screens[b].0);
                }
            }
        }
    }

    #[test]
    fn hostile_texts_are_drawn_without_a_panic() {
        let long = "Weißwurstäquator 猫".repeat(40);
        let who = || Who { name: long.clone(), species: long.clone(), probability: f32::NAN };
        let scenes = [
            Scene::Idle { last: Some(long.clone()) },
            Scene::Motion { what: String::new() },
            Scene::Animal(who()),
            Scene::Decision { allowed: true, what: long.clone(), who: Some(who()), why: "\n\t\0".into() },
            Scene::Fault { what: "x".repeat(500) },
        ];
        for scene in scenes {
            let screen = Screen { name: long.clone(), clock: Some(long.clone()), door: None, scene };
            for size in [[128, 32], [128, 64], [64, 48]] {
                drawn(&screen, size, &MONO);
            }
            drawn::<Rgb565>(&screen, [240, 240], &COLOUR);
        }
    }
}
