//! Which part of a frame is looked at: the configured region of interest, and inside it the moving part with a margin.
//!
//! Arithmetic on boxes only. What moves is found in [`super::motion`]; cutting and scaling is [`super::preprocess`]'s.

/// Least width and height of a [`crop`], as a share of the region's: a quarter of its area. A moving tail says where the animal
/// is, not how large it is.
pub const MIN_SIDE: f32 = 0.5;

/// A part of the picture, in shares of its width and height, 0…1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left edge.
    pub left: f32,
    /// Top edge.
    pub top: f32,
    /// Width; positive, and not beyond the right edge.
    pub width: f32,
    /// Height; positive, and not beyond the bottom edge.
    pub height: f32,
}

impl Region {
    /// The whole picture.
    pub const WHOLE: Self = Self { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// The region's pixels in a picture of `width`×`height`, both at least 1: edges rounded to whole pixels, at least one pixel.
    ///
    /// Values out of range are taken for the nearest in range, so the box never leaves the picture.
    pub fn pixels(self, width: u32, height: u32) -> PixelBox {
        let (left, across) = span(self.left, self.width, width);
        let (top, down) = span(self.top, self.height, height);
        PixelBox { left, top, width: across, height: down }
    }
}

/// Start and length, in pixels, of a share of `total`.
fn span(start: f32, length: f32, total: u32) -> (u32, u32) {
    let total = total.max(1);
    // The cast takes what is not a number for 0.
    let edge = |share: f64| (share * f64::from(total)).round().clamp(0.0, f64::from(total)) as u32;
    let from = edge(f64::from(start)).min(total - 1);
    let to = edge(f64::from(start) + f64::from(length)).max(from + 1);
    (from, to - from)
}

/// A part of a picture in whole pixels. Never empty where this module makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelBox {
    /// Column of the left edge.
    pub left: u32,
    /// Row of the top edge.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl PixelBox {
    /// A whole picture of `width`×`height`.
    pub const fn whole(width: u32, height: u32) -> Self {
        Self { left: 0, top: 0, width, height }
    }

    /// Whether all of it lies in a picture of `width`×`height` and it has at least one pixel.
    pub fn fits(self, width: u32, height: u32) -> bool {
        let within =
            |start: u32, length: u32, total: u32| length > 0 && start.checked_add(length).is_some_and(|end| end <= total);
        within(self.left, self.width, width) && within(self.top, self.height, height)
    }
}

/// The part of `region` to classify: the `moving` part grown by `margin` (a share of its size) on every side, made as square as
/// the region allows and at least [`MIN_SIDE`] of the region in both directions. Without a moving part, all of the region.
///
/// Everything that moves lies in the one crop: what comes behind a pet is judged together with it.
pub fn crop(region: PixelBox, moving: Option<PixelBox>, margin: f32) -> PixelBox {
    let Some(moving) = moving else { return region };
    let grown = |length: u32| f64::from(length) * (1.0 + 2.0 * f64::from(margin.max(0.0)));
    let least = |length: u32| f64::from(length) * f64::from(MIN_SIDE);
    let side = grown(moving.width).max(grown(moving.height)).max(least(region.width)).max(least(region.height));
    let (left, width) = place(region.left, region.width, moving.left, moving.width, side);
    let (top, height) = place(region.top, region.height, moving.top, moving.height, side);
    PixelBox { left, top, width, height }
}

/// Start and length of a run of `side` pixels around the middle of the part, moved and cut so that it stays inside the whole.
fn place(start: u32, length: u32, part_start: u32, part_length: u32, side: f64) -> (u32, u32) {
    let taken = (side.ceil().min(f64::from(length)) as u32).max(1).min(length);
    let middle = f64::from(part_start) + f64::from(part_length) / 2.0 - f64::from(start);
    let offset = (middle - f64::from(taken) / 2.0).round().clamp(0.0, f64::from(length - taken));
    (start + offset as u32, taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pixels(left: u32, top: u32, width: u32, height: u32) -> PixelBox {
        PixelBox { left, top, width, height }
    }

    #[test]
    fn shares_become_pixels() {
        assert_eq!(Region::WHOLE.pixels(640, 480), pixels(0, 0, 640, 480));
        let middle = Region { left: 0.25, top: 0.5, width: 0.5, height: 0.25 };
        assert_eq!(middle.pixels(640, 480), pixels(160, 240, 320, 120));
        let sliver = Region { left: 0.999, top: 0.0, width: 0.0001, height: 1.0 };
        assert_eq!(sliver.pixels(10, 10), pixels(9, 0, 1, 10), "at least one pixel, inside the picture");
    }

    #[test]
    fn the_crop_is_square_around_the_moving_part() {
        let region = pixels(0, 0, 640, 480);
        // 200x300 with a quarter on each side is 450 high.
        assert_eq!(crop(region, Some(pixels(220, 100, 200, 300)), 0.25), pixels(95, 25, 450, 450));
        assert_eq!(crop(region, Some(pixels(0, 100, 200, 300)), 0.25), pixels(0, 25, 450, 450), "moved inside");
        assert_eq!(crop(region, Some(pixels(0, 0, 640, 480)), 0.25), region, "as square as the region allows");
        assert_eq!(crop(region, None, 0.25), region);
    }

    #[test]
    fn a_tail_does_not_become_the_crop() {
        let region = pixels(100, 50, 400, 400);
        assert_eq!(crop(region, Some(pixels(490, 60, 4, 9)), 0.25), pixels(300, 50, 200, 200));
    }

    proptest! {
        #[test]
        fn a_region_never_leaves_the_picture(
            values in prop::array::uniform4(prop_oneof![-2.0f32..3.0, Just(f32::NAN), Just(f32::INFINITY), Just(-0.0)]),
            width in 1u32..5000,
            height in 1u32..5000,
        ) {
            let [left, top, across, down] = values;
            let found = Region { left, top, width: across, height: down }.pixels(width, height);
            prop_assert!(found.fits(width, height), "{found:?}");
        }

        #[test]
        fn a_crop_lies_in_its_region_and_covers_what_moves(
            region in (0u32..500, 0u32..500, 1u32..900, 1u32..900),
            part in prop::array::uniform4(0.0f32..1.0),
            margin in 0.0f32..2.0,
        ) {
            let region = pixels(region.0, region.1, region.2, region.3);
            let inner = Region { left: part[0], top: part[1], width: part[2], height: part[3] }.pixels(region.width, region.height);
            let moving = PixelBox { left: region.left + inner.left, top: region.top + inner.top, ..inner };
            let found = crop(region, Some(moving), margin);
            let ends = |b: PixelBox| [b.left, b.top, b.left + b.width, b.top + b.height];
            let [r, f, m] = [region, found, moving].map(ends);
            prop_assert!(f[0] >= r[0] && f[1] >= r[1] && f[2] <= r[2] && f[3] <= r[3], "{found:?} leaves {region:?}");
            prop_assert!(f[0] <= m[0] && f[1] <= m[1] && f[2] >= m[2] && f[3] >= m[3], "{found:?} cuts {moving:?}");
            prop_assert!(found.width * 2 >= region.width && found.height * 2 >= region.height);
        }
    }
}
