//! Fonts by size, and by what a text is written in: an animal's name may be Latin, Central European, Cyrillic, Greek or Turkish.

use embedded_graphics::geometry::Size;
use embedded_graphics::mono_font::{MonoFont, iso_8859_1, iso_8859_2, iso_8859_5, iso_8859_7, iso_8859_9};

/// A size, in any of the character sets, shown so many times as large.
#[derive(Clone, Copy)]
pub(super) struct Face {
    /// One font for each character set, the first being the usual one.
    fonts: [&'static MonoFont<'static>; 5],
    /// Side of a font's pixel on the display.
    pub(super) factor: u32,
}

macro_rules! face {
    ($font:ident, $factor:literal) => {
        Face {
            fonts: [&iso_8859_1::$font, &iso_8859_2::$font, &iso_8859_5::$font, &iso_8859_7::$font, &iso_8859_9::$font],
            factor: $factor,
        }
    };
}

/// For whole sentences on a small display.
pub(super) const TINY: Face = face!(FONT_5X8, 1);
/// For sentences.
pub(super) const SMALL: Face = face!(FONT_6X10, 1);
/// For sentences on a large display.
pub(super) const LARGE: Face = face!(FONT_10X20, 1);
/// For headlines, the largest first.
pub(super) const HEADLINES: [Face; 6] = [
    face!(FONT_10X20, 2),
    face!(FONT_9X15_BOLD, 2),
    face!(FONT_10X20, 1),
    face!(FONT_9X15_BOLD, 1),
    face!(FONT_7X13_BOLD, 1),
    face!(FONT_6X10, 1),
];

impl Face {
    /// The font whose character set holds the most of `text`; what it lacks is shown as a question mark.
    pub(super) fn font(&self, text: &str) -> &'static MonoFont<'static> {
        let missing = |font: &MonoFont<'_>| {
            let unknown = font.glyph_mapping.index('\u{fffd}');
            text.chars().filter(|&c| c != '?' && font.glyph_mapping.index(c) == unknown).count()
        };
        self.fonts.into_iter().min_by_key(|font| missing(font)).unwrap_or(self.fonts[0])
    }

    /// Width and height of one character on the display.
    pub(super) fn cell(&self) -> Size {
        self.fonts[0].character_size * self.factor
    }

    /// Width of a line on the display.
    pub(super) fn width(&self, text: &str) -> u32 {
        u32::try_from(text.chars().count()).unwrap_or(u32::MAX).saturating_mul(self.cell().width)
    }
}

/// The largest headline that fits on one line of `width` and leaves room for the rest, as `leaves_room` says; the smallest where none does.
pub(super) fn headline(text: &str, width: u32, leaves_room: impl Fn(Face) -> bool) -> Face {
    let fits = |face: &&Face| face.width(text) <= width && leaves_room(**face);
    *HEADLINES.iter().find(fits).unwrap_or(&HEADLINES[HEADLINES.len() - 1])
}

/// As much of `text` as fits on one line of `width`, with two dots where some is left out.
pub(super) fn shortened(text: &str, face: Face, width: u32) -> String {
    let room = (width / face.cell().width) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(2)).collect();
    format!("{}..", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_in_its_own_letters() {
        let holds = |text: &str| {
            let font = SMALL.font(text);
            let unknown = font.glyph_mapping.index('\u{fffd}');
            text.chars().all(|c| font.glyph_mapping.index(c) != unknown)
        };
        for name in ["Milo", "Müller", "Žofka", "Мурка", "Γάτα", "Şükran"] {
            assert!(holds(name), "{name}");
        }
        assert!(!holds("猫"));
    }

    #[test]
    fn a_headline_is_as_large_as_fits() {
        let low = |height: u32| move |face: Face| face.cell().height <= height;
        assert_eq!(headline("opens", 240, low(80)).factor, 2);
        assert_eq!(headline("stays shut", 102, low(20)).cell(), Size::new(10, 20));
        assert_eq!(headline("stays shut", 102, low(15)).cell(), Size::new(9, 15));
        assert_eq!(headline("Staffordshire Bull Terrier", 102, low(20)).cell(), Size::new(6, 10));
    }

    #[test]
    fn what_does_not_fit_is_marked() {
        assert_eq!(shortened("back door", SMALL, 60), "back door");
        assert_eq!(shortened("the back door", SMALL, 60), "the back..");
        assert_eq!(shortened("äöüäöü", SMALL, 24), "äö..");
    }
}
