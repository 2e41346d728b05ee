//! Which of the formats, sizes and rates that a camera offers suits best: a plain calculation.

use std::cmp::Ordering;
use std::fmt;

use super::super::stream::MAX_PIXELS;

/// How a picture lies in a buffer. Nothing else is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pixels {
    /// Packed 4:2:2.
    Yuyv,
    /// A plane of brightness, then one of both colours, 4:2:0.
    Nv12,
    /// A JPEG.
    Mjpeg,
    /// A plane of brightness.
    Grey,
}

impl Pixels {
    /// The kernel's four-character code.
    pub const fn fourcc(self) -> [u8; 4] {
        match self {
            Self::Yuyv => *b"YUYV",
            Self::Nv12 => *b"NV12",
            Self::Mjpeg => *b"MJPG",
            Self::Grey => *b"GREY",
        }
    }

    /// The format with this code.
    pub fn from_fourcc(code: [u8; 4]) -> Option<Self> {
        [Self::Yuyv, Self::Nv12, Self::Mjpeg, Self::Grey].into_iter().find(|pixels| pixels.fourcc() == code)
    }
}

/// A frame rate: `frames` in `seconds`, neither of them 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Frames…
    pub frames: u32,
    /// …in this many seconds.
    pub seconds: u32,
}

impl Rate {
    /// `None` if one of the two is 0, which some drivers say where they do not know.
    pub fn new(frames: u32, seconds: u32) -> Option<Self> {
        (frames > 0 && seconds > 0).then_some(Self { frames, seconds })
    }

    /// Frames a second.
    pub fn fps(self) -> f64 {
        f64::from(self.frames) / f64::from(self.seconds)
    }

    fn cmp(self, other: Self) -> Ordering {
        let crossed = |a: Self, b: Self| u64::from(a.frames) * u64::from(b.seconds);
        crossed(self, other).cmp(&crossed(other, self))
    }
}

/// The rates that one size comes with.
#[derive(Debug, Clone, PartialEq)]
pub enum Rates {
    /// The driver does not say.
    Unknown,
    /// These.
    Listed(Vec<Rate>),
    /// Any from `slowest` to `fastest`.
    Between {
        /// The fewest frames a second.
        slowest: Rate,
        /// The most frames a second.
        fastest: Rate,
    },
}

/// A format in one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The format.
    pub pixels: Pixels,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// What it comes with.
    pub rates: Rates,
}

/// What the settings ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Pixels across, 1 or more.
    pub width: u32,
    /// Pixels down, 1 or more.
    pub height: u32,
    /// Frames a second, 1 or more.
    pub fps: u32,
}

/// What the camera is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The format.
    pub pixels: Pixels,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `None` leaves the driver its own.
    pub rate: Option<Rate>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.pixels.fourcc();
        write!(f, "{} {}x{}", code.escape_ascii(), self.width, self.height)?;
        match self.rate {
            Some(rate) => write!(f, " at {} frames/s", (rate.fps() * 100.0).round() / 100.0),
            None => write!(f, " at the camera's own rate"),
        }
    }
}

/// Every choice that the offers allow, the best first. Equally good ones stay in the camera's order.
///
/// Frames that nobody reads ([`is_readable`]) are left out.
pub fn ranked(offers: &[Offer], wanted: Wanted) -> Vec<Choice> {
    let mut choices: Vec<Choice> = {
        let readable = offers.iter().filter(|offer| is_readable(offer.width, offer.height));
        readable.flat_map(|offer| choices(offer, wanted)).collect()
    };
    choices.sort_by(|a, b| cost(a, wanted).total_cmp(&cost(b, wanted)));
    choices
}

/// Whether the parent reads frames of this size: no side is 0, neither is beyond 65535, and [`MAX_PIXELS`] is kept.
pub fn is_readable(width: u32, height: u32) -> bool {
    let side = 1..=u32::from(u16::MAX);
    side.contains(&width) && side.contains(&height) && u64::from(width) * u64::from(height) <= MAX_PIXELS
}

/// The value of a range `min..=max` in steps of `step` that suits `wanted`: the next one up, or the last.
pub fn on_grid(wanted: u32, min: u32, max: u32, step: u32) -> u32 {
    if wanted <= min || max <= min {
        return min;
    }
    // A step of 0 is a driver's way of saying that there is none.
    let step = step.max(1);
    let last = min + (max - min) / step * step;
    let steps = (wanted - min).div_ceil(step);
    steps.checked_mul(step).and_then(|above| above.checked_add(min)).map_or(last, |value| value.min(last))
}

fn choices(offer: &Offer, wanted: Wanted) -> Vec<Choice> {
    let choice = |rate| Choice { pixels: offer.pixels, width: offer.width, height: offer.height, rate };
    match &offer.rates {
        Rates::Listed(rates) => rates.iter().map(|&rate| choice(Some(rate))).collect(),
        Rates::Unknown => vec![choice(None)],
        &Rates::Between { slowest, fastest } => {
            let asked = Rate { frames: wanted.fps.max(1), seconds: 1 };
            let within = match (asked.cmp(slowest), asked.cmp(fastest)) {
                (Ordering::Less, _) => slowest,
                (_, Ordering::Greater) => fastest,
                _ => asked,
            };
            vec![choice(Some(within))]
        }
    }
}

/// How far a choice is from what is wanted, in powers of two: 1 stands for twice the pixels.
fn cost(choice: &Choice, wanted: Wanted) -> f64 {
    size_cost(choice, wanted) + rate_cost(choice, wanted) + pixels_cost(choice)
}

/// Each doubling of the area costs 1, another shape as much. What is smaller lacks detail that nothing brings back: it costs 2
/// from the start and 4 for each halving of its sides, so that 4K is taken before a quarter of the wanted width and after
/// three quarters of it.
fn size_cost(choice: &Choice, wanted: Wanted) -> f64 {
    let [width, height, wide, high] = [choice.width, choice.height, wanted.width, wanted.height].map(|n| f64::from(n.max(1)));
    let area = (width * height / (wide * high)).log2().abs();
    let shape = f64::from((width * high / (wide * height)).log2().abs() > 0.02);
    let share = (width / wide).min(height / high);
    let lack = if share < 1.0 { 2.0 - 4.0 * share.log2() } else { 0.0 };
    area + shape + lack
}

/// A camera that is faster costs the bus and nothing else (what is too much is left out); one that is slower costs a second of
/// evidence.
fn rate_cost(choice: &Choice, wanted: Wanted) -> f64 {
    let Some(rate) = choice.rate else { return 0.2 };
    let share = (rate.fps() / f64::from(wanted.fps.max(1))).log2();
    // 30000/1001 is 30 to people.
    if share > -0.01 { 0.05 * share.abs() } else { -3.0 * share }
}

/// Up to a bit more than 640×480 raw pictures cost less than decoding JPEGs; above it the bus is the narrow place, and many
/// cameras offer raw pictures at a few frames a second only. Grey pictures lack what tells many animals apart.
fn pixels_cost(choice: &Choice) -> f64 {
    let small = u64::from(choice.width) * u64::from(choice.height) <= 400_000;
    match (choice.pixels, small) {
        (Pixels::Yuyv, true) | (Pixels::Mjpeg, false) => 0.0,
        (Pixels::Nv12, true) => 0.1,
        (Pixels::Nv12, false) => 0.3,
        (Pixels::Yuyv, false) | (Pixels::Mjpeg, true) => 0.4,
        (Pixels::Grey, _) => 3.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { width: 640, height: 480, fps: 10 };

    fn listed(pixels: Pixels, width: u32, height: u32, rates: &[(u32, u32)]) -> Offer {
        let rates = rates.iter().filter_map(|&(frames, seconds)| Rate::new(frames, seconds)).collect();
        Offer { pixels, width, height, rates: Rates::Listed(rates) }
    }

    fn best(offers: &[Offer], wanted: Wanted) -> String {
        ranked(offers, wanted).first().map_or_else(|| "none".into(), ToString::to_string)
    }

    /// A common webcam: raw pictures get slow as they grow.
    fn webcam() -> Vec<Offer> {
        let fast = [(30, 1), (25, 1), (20, 1), (15, 1), (10, 1), (5, 1)];
        let mut offers = vec![];
        for (width, height) in [(640, 480), (160, 120), (320, 240), (800, 600), (1280, 720), (1920, 1080)] {
            offers.push(listed(Pixels::Mjpeg, width, height, &fast));
        }
        offers.push(listed(Pixels::Yuyv, 640, 480, &fast));
        offers.push(listed(Pixels::Yuyv, 320, 240, &fast));
        offers.push(listed(Pixels::Yuyv, 800, 600, &[(15, 1), (5, 1)]));
        offers.push(listed(Pixels::Yuyv, 1280, 720, &[(10, 1), (5, 1)]));
        offers.push(listed(Pixels::Yuyv, 1920, 1080, &[(5, 1)]));
        offers
    }

    #[test]
    fn what_is_wanted_is_chosen_where_it_exists() {
        for (wanted, chosen) in [
            ((640, 480, 10), "YUYV 640x480 at 10 frames/s"),
            ((640, 480, 12), "YUYV 640x480 at 15 frames/s"),
            ((640, 480, 60), "YUYV 640x480 at 30 frames/s"),
            ((640, 480, 1), "YUYV 640x480 at 5 frames/s"),
            ((320, 240, 30), "YUYV 320x240 at 30 frames/s"),
            ((800, 600, 10), "MJPG 800x600 at 10 frames/s"),
            ((1280, 720, 10), "MJPG 1280x720 at 10 frames/s"),
            ((1920, 1080, 30), "MJPG 1920x1080 at 30 frames/s"),
            ((700, 500, 10), "MJPG 800x600 at 10 frames/s"),
            ((160, 120, 10), "MJPG 160x120 at 10 frames/s"),
            ((8000, 6000, 10), "MJPG 1920x1080 at 10 frames/s"),
        ] {
            let (width, height, fps) = wanted;
            assert_eq!(best(&webcam(), Wanted { width, height, fps }), chosen, "{wanted:?}");
        }
    }

    #[test]
    fn slow_raw_pictures_give_way_to_jpeg() {
        let offers = [listed(Pixels::Yuyv, 640, 480, &[(5, 1)]), listed(Pixels::Mjpeg, 640, 480, &[(30, 1)])];
        assert_eq!(best(&offers, WANTED), "MJPG 640x480 at 30 frames/s");
        let offers = [listed(Pixels::Yuyv, 640, 480, &[(30, 1)]), listed(Pixels::Mjpeg, 640, 480, &[(10, 1)])];
        assert_eq!(best(&offers, WANTED), "YUYV 640x480 at 30 frames/s", "too fast is no loss");
    }

    #[test]
    fn a_larger_size_comes_before_a_smaller_one_and_the_same_shape_before_another() {
        let sizes = |sizes: &[(u32, u32)]| -> Vec<Offer> {
            sizes.iter().map(|&(width, height)| listed(Pixels::Mjpeg, width, height, &[(30, 1)])).collect()
        };
        for (offered, chosen) in [
            (&[(320, 240), (1280, 960)][..], "1280x960"),
            (&[(1280, 720), (1280, 960)], "1280x960"),
            (&[(640, 360), (1280, 720)], "1280x720"),
            (&[(320, 240), (1920, 1080)], "1920x1080"),
            (&[(640, 360), (3840, 2160)], "640x360"),
            (&[(160, 120), (3840, 2160)], "3840x2160"),
            (&[(160, 120), (320, 180)], "320x180"),
            (&[(160, 120), (320, 240)], "320x240"),
        ] {
            let found = best(&sizes(offered), WANTED);
            assert!(found.contains(chosen), "{offered:?}: {found}");
        }
    }

    #[test]
    fn odd_rates_and_unknown_ones() {
        let ntsc = [listed(Pixels::Yuyv, 640, 480, &[(25, 2), (30000, 1001), (2, 1), (50, 1)])];
        assert_eq!(best(&ntsc, Wanted { fps: 30, ..WANTED }), "YUYV 640x480 at 29.97 frames/s");
        assert_eq!(best(&ntsc, WANTED), "YUYV 640x480 at 12.5 frames/s");
        let unknown = [Offer { pixels: Pixels::Yuyv, width: 640, height: 480, rates: Rates::Unknown }];
        assert_eq!(best(&unknown, WANTED), "YUYV 640x480 at the camera's own rate");
        let [slowest, fastest] = [(1, 10), (90, 1)].map(|(frames, seconds)| Rate { frames, seconds });
        let range = [Offer { pixels: Pixels::Yuyv, width: 640, height: 480, rates: Rates::Between { slowest, fastest } }];
        assert_eq!(best(&range, WANTED), "YUYV 640x480 at 10 frames/s");
        assert_eq!(best(&range, Wanted { fps: 200, ..WANTED }), "YUYV 640x480 at 90 frames/s");
        assert_eq!(Rate::new(0, 1), None);
    }

    #[test]
    fn colour_comes_before_grey_and_what_nobody_reads_is_left_out() {
        let offers = [listed(Pixels::Grey, 640, 480, &[(10, 1)]), listed(Pixels::Nv12, 800, 600, &[(10, 1)])];
        assert_eq!(best(&offers, WANTED), "NV12 800x600 at 10 frames/s");
        assert_eq!(best(&offers[..1], WANTED), "GREY 640x480 at 10 frames/s");
        assert_eq!(best(&[listed(Pixels::Mjpeg, 9000, 7000, &[(10, 1)])], WANTED), "none");
        assert_eq!(best(&[listed(Pixels::Mjpeg, 0, 480, &[(10, 1)])], WANTED), "none");
        assert_eq!(best(&[], WANTED), "none");
    }

    #[test]
    fn the_others_follow_in_order() {
        let all = ranked(&webcam(), WANTED);
        assert_eq!(all.len(), 6 * 6 + 6 * 2 + 2 + 2 + 1);
        assert_eq!((all[0].pixels, all[6].pixels), (Pixels::Yuyv, Pixels::Mjpeg), "first every way to the best size");
        assert!(all.windows(2).all(|pair| cost(&pair[0], WANTED) <= cost(&pair[1], WANTED)));
    }

    #[test]
    fn steps() {
        for (wanted, min, max, step, found) in [
            (640, 2, 4096, 2, 640),
            (641, 2, 4096, 2, 642),
            (1, 16, 4096, 16, 16),
            (9000, 16, 4090, 16, 4080),
            (640, 48, 1920, 100, 648),
            (640, 16, 1024, 0, 640),
            (640, 100, 50, 1, 100),
            (u32::MAX, 1, u32::MAX, 7, u32::MAX - (u32::MAX - 1) % 7),
        ] {
            assert_eq!(on_grid(wanted, min, max, step), found, "{wanted} in {min}..={max} by {step}");
        }
    }

    #[test]
    fn codes() {
        for pixels in [Pixels::Yuyv, Pixels::Nv12, Pixels::Mjpeg, Pixels::Grey] {
            assert_eq!(Pixels::from_fourcc(pixels.fourcc()), Some(pixels));
        }
        assert_eq!(Pixels::from_fourcc(*b"H264"), None);
    }
}
