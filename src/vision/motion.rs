//! Whether something moves: a cheap difference on a small grey picture. It decides whether to spend a classification; it never
//! opens anything.
//!
//! The region is averaged to cells, [`LONG_SIDE`] along its long side, and compared with a background that follows slowly. A cell
//! has changed when two comparisons agree:
//!
//! * its brightness differs from the background's, after one factor for the whole picture (the median) is taken out: exposure
//!   steps and clouds are no motion;
//! * its contrast with the cells around it differs: light that comes from one side, a lamp's cone or a soft shadow leaves the
//!   edges where they are.
//!
//! Both are measured as if the surroundings had mid-grey brightness, so that a threshold means the same by day and by night. A
//! changed cell counts where its neighbours changed too, which a faulty pixel and noise do not achieve.
//!
//! What moves is not told here: a branch moves, and so does a shadow with sharp edges. The classifier then says no.

use std::time::Duration;

use image::RgbImage;

use super::region::{PixelBox, Region};
use crate::hw::clock::Monotonic;

/// Cells along the long side of the region.
pub const LONG_SIDE: u32 = 80;
/// Rows of a cell that are read at most; noise is averaged out by its columns.
const ROWS_READ: u32 = 4;
/// Cells on each side of a cell that are its surroundings.
const SURROUNDINGS: usize = 4;
/// The brightness that surroundings are scaled to.
const MID_GREY: f32 = 128.0;
/// Added to every brightness before dividing by it: what a dark picture holds is mostly noise.
const DARK: f32 = 16.0;
/// Neighbours, of eight, that must have changed with a cell.
const COMPANY: usize = 2;
/// In this time the background comes closer to an unchanged cell by 63 %. Shorter than the light's way over the day, longer than
/// an animal's over a cell.
const FOLLOW: Duration = Duration::from_secs(5);
/// The same for a changed cell: who sits still for half a minute is still seen, and a parked bicycle is forgotten in a minute.
const ABSORB: Duration = Duration::from_secs(30);

/// When something counts as moving.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Change of a cell's brightness that counts, 1…255, as if its surroundings were mid-grey.
    pub threshold: u8,
    /// Least share of the region that has to change, 0…1.
    pub min_area: f32,
    /// How long nothing must move before the picture is at rest.
    pub still_after: Duration,
    /// Margin around the moving part, as a share of its size.
    pub margin: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { threshold: 12, min_area: 0.01, still_after: Duration::from_secs(2), margin: 0.25 }
    }
}

/// What one frame says about movement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Movement {
    /// Whether something moves, or did within [`Settings::still_after`].
    pub moving: bool,
    /// Whether it began with this frame.
    pub started: bool,
    /// Whether it ended with this frame.
    pub ended: bool,
    /// Share of the region that has changed, 0…1.
    pub area: f32,
    /// The part of the picture that everything moving lies in; while it pauses, where it moved last. `None` at rest.
    pub part: Option<PixelBox>,
}

/// Watches one camera's frames.
#[derive(Debug, Clone)]
pub struct Motion {
    settings: Settings,
    scene: Option<Scene>,
    /// When something moved last, and where; `None` at rest.
    last: Option<(Monotonic, PixelBox)>,
}

/// The background of a region, and when it was last brought up to date.
#[derive(Debug, Clone)]
struct Scene {
    grid: Grid,
    cells: Vec<f32>,
    at: Monotonic,
}

impl Motion {
    /// Has seen nothing yet.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, scene: None, last: None }
    }

    /// Takes the next frame, captured `at`.
    ///
    /// The first frame counts as movement in the whole region, and so does the first of another size or region: nothing is
    /// known about who stands there already.
    pub fn update(&mut self, picture: &RgbImage, region: Region, at: Monotonic) -> Movement {
        let grid = Grid::new(picture, region);
        let was_moving = self.last.is_some();
        let now = grid.shrink(picture);
        let (area, part) = match self.scene.as_mut().filter(|scene| scene.grid == grid) {
            Some(scene) => scene.compare(now, at, self.settings.threshold),
            None => {
                self.scene = Some(Scene { grid, cells: now, at });
                (1.0, Some(grid.part))
            }
        };
        if let Some(part) = part.filter(|_| area >= self.settings.min_area) {
            self.last = Some((at, part));
        }
        self.last = self.last.filter(|&(moved, _)| at.since(moved) < self.settings.still_after || moved == at);
        let moving = self.last.is_some();
        Movement {
            moving,
            started: moving && !was_moving,
            ended: was_moving && !moving,
            area,
            part: self.last.map(|(_, part)| part),
        }
    }

    /// Forgets the scene, as after a camera was opened again.
    pub fn reset(&mut self) {
        self.scene = None;
    }
}

impl Scene {
    /// Share of changed cells and the part they lie in; the background follows.
    fn compare(&mut self, now: Vec<f32>, at: Monotonic, threshold: u8) -> (f32, Option<PixelBox>) {
        let gain = median_ratio(&now, &self.cells);
        for cell in &mut self.cells {
            *cell = gain * (*cell + 1.0) - 1.0;
        }
        let changed = self.grid.in_company(&self.grid.changed(&now, &self.cells, f32::from(threshold)));
        let passed = at.since(self.at);
        let [follow, absorb] = [FOLLOW, ABSORB].map(|time| 1.0 - (-passed.as_secs_f32() / time.as_secs_f32()).exp());
        for ((cell, &now), &changed) in self.cells.iter_mut().zip(&now).zip(&changed) {
            *cell += (now - *cell) * if changed { absorb } else { follow };
        }
        self.at = self.at.max(at);
        let count = changed.iter().filter(|&&c| c).count();
        (count as f32 / changed.len() as f32, self.grid.bounds(&changed))
    }
}

/// The cells of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    picture: (u32, u32),
    part: PixelBox,
    columns: usize,
    rows: usize,
}

impl Grid {
    fn new(picture: &RgbImage, region: Region) -> Self {
        let part = region.pixels(picture.width(), picture.height());
        let long = part.width.max(part.height);
        let cells = |length: u32| (u64::from(length) * u64::from(LONG_SIDE.min(long))).div_ceil(u64::from(long)) as usize;
        Self { picture: picture.dimensions(), part, columns: cells(part.width), rows: cells(part.height) }
    }

    /// First column of pixels of a column of cells, in the picture.
    fn left(&self, column: usize) -> u32 {
        self.part.left + (u64::from(self.part.width) * column as u64 / self.columns as u64) as u32
    }

    /// First row of pixels of a row of cells, in the picture.
    fn top(&self, row: usize) -> u32 {
        self.part.top + (u64::from(self.part.height) * row as u64 / self.rows as u64) as u32
    }

    /// Mean of all three channels over each cell, 0…255, row by row.
    fn shrink(&self, picture: &RgbImage) -> Vec<f32> {
        let edges: Vec<usize> = (0..=self.columns).map(|column| self.left(column) as usize * 3).collect();
        let stride = picture.width() as usize * 3;
        let mut cells = Vec::with_capacity(self.columns * self.rows);
        for row in 0..self.rows {
            let (top, bottom) = (self.top(row), self.top(row + 1));
            let step = ((bottom - top) / ROWS_READ).max(1);
            let lines = (top..bottom).step_by(step as usize).map(|y| &picture.as_raw()[y as usize * stride..][..stride]);
            let mut sums = vec![0u32; self.columns];
            let mut count = 0;
            for line in lines {
                count += 1;
                for (sum, edge) in sums.iter_mut().zip(edges.array_windows()) {
                    let &[left, right] = edge;
                    *sum += line[left..right].iter().map(|&v| u32::from(v)).sum::<u32>();
                }
            }
            let means = sums.iter().zip(edges.array_windows()).map(|(&sum, &[l, r])| sum as f32 / (count * (r - l)) as f32);
            cells.extend(means);
        }
        cells
    }

    /// Which cells differ from the background in both ways.
    fn changed(&self, now: &[f32], background: &[f32], threshold: f32) -> Vec<bool> {
        let (around_now, around_then) = (self.surroundings(now), self.surroundings(background));
        let differs = |index: usize| {
            let (bright_now, bright_then) = (around_now[index] + DARK, around_then[index] + DARK);
            let contrast_now = (now[index] - around_now[index]) / bright_now;
            let contrast_then = (background[index] - around_then[index]) / bright_then;
            let brightness = (now[index] - background[index]) * 2.0 / (bright_now + bright_then);
            brightness.abs() * MID_GREY > threshold && (contrast_now - contrast_then).abs() * MID_GREY > threshold
        };
        (0..now.len()).map(differs).collect()
    }

    /// Mean over the square of cells around each cell, cut at the region's edge.
    fn surroundings(&self, cells: &[f32]) -> Vec<f32> {
        let width = self.columns + 1;
        // Sums over everything above and to the left.
        let mut sums = vec![0f64; width * (self.rows + 1)];
        for (row, line) in cells.chunks_exact(self.columns).enumerate() {
            let mut sum = 0.0;
            for (column, &cell) in line.iter().enumerate() {
                sum += f64::from(cell);
                sums[(row + 1) * width + column + 1] = sums[row * width + column + 1] + sum;
            }
        }
        let mut means = Vec::with_capacity(cells.len());
        for row in 0..self.rows {
            let (top, bottom) = (row.saturating_sub(SURROUNDINGS), (row + SURROUNDINGS + 1).min(self.rows));
            for column in 0..self.columns {
                let (left, right) = (column.saturating_sub(SURROUNDINGS), (column + SURROUNDINGS + 1).min(self.columns));
                let at = |row: usize, column: usize| sums[row * width + column];
                let sum = at(bottom, right) - at(bottom, left) - at(top, right) + at(top, left);
                means.push((sum / ((bottom - top) * (right - left)) as f64) as f32);
            }
        }
        means
    }

    /// The cells of which at least [`COMPANY`] neighbours are set too.
    fn in_company(&self, cells: &[bool]) -> Vec<bool> {
        let set = |index: usize| {
            let (row, column) = (index / self.columns, index % self.columns);
            let rows = row.saturating_sub(1)..=(row + 1).min(self.rows - 1);
            let around =
                |row: usize| &cells[row * self.columns..][column.saturating_sub(1)..=(column + 1).min(self.columns - 1)];
            // The cell itself is among those counted.
            cells[index] && rows.flat_map(around).filter(|&&c| c).count() > COMPANY
        };
        (0..cells.len()).map(set).collect()
    }

    /// The pixels that the set cells cover.
    fn bounds(&self, cells: &[bool]) -> Option<PixelBox> {
        let set = || (0..cells.len()).filter(|&index| cells[index]);
        let (first, last) = (set().next()? / self.columns, set().next_back()? / self.columns);
        let column = |index: usize| index % self.columns;
        let (leftmost, rightmost) = (set().map(column).min()?, set().map(column).max()?);
        let (left, top) = (self.left(leftmost), self.top(first));
        Some(PixelBox { left, top, width: self.left(rightmost + 1) - left, height: self.top(last + 1) - top })
    }
}

/// By what factor the picture as a whole has become brighter: the median over the cells, which an animal in less than half of
/// the region does not move. One level more keeps black cells out of the division by nothing.
fn median_ratio(now: &[f32], then: &[f32]) -> f32 {
    let mut ratios: Vec<f32> = now.iter().zip(then).map(|(now, then)| (now + 1.0) / (then + 1.0)).collect();
    let middle = ratios.len() / 2;
    *ratios.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use image::Rgb;

    use super::*;

    const WIDTH: u32 = 320;
    const HEIGHT: u32 = 240;
    const FRAME: Duration = Duration::from_millis(100);

    /// A porch with edges and shades, 30…200.
    fn porch(x: u32, y: u32) -> f32 {
        let (across, down) = (x as f32, y as f32);
        let tiles = if (x / 37 + y / 23).is_multiple_of(2) { 25.0 } else { -25.0 };
        115.0 + 35.0 * (across / 41.0).sin() + 25.0 * (down / 29.0 + across / 90.0).cos() + tiles
    }

    /// A camera over a porch: what is drawn, seen with noise.
    struct Watch {
        motion: Motion,
        rng: Rng,
        frames: u32,
    }

    impl Watch {
        fn new() -> Self {
            Self { motion: Motion::new(Settings::default()), rng: Rng::with_seed(7), frames: 0 }
        }

        /// The next frame, a tenth of a second after the last; brightness by pixel.
        fn see(&mut self, draw: impl Fn(u32, u32) -> f32) -> Movement {
            self.see_in(Region::WHOLE, draw)
        }

        fn see_in(&mut self, region: Region, draw: impl Fn(u32, u32) -> f32) -> Movement {
            let rng = &mut self.rng;
            let mut level = |v: f32| (v + (rng.f32() + rng.f32() + rng.f32() - 1.5) * 10.0).round() as u8;
            let picture = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
                let v = draw(x, y);
                Rgb([level(v), level(v * 0.9), level(v * 0.8)])
            });
            let at = Monotonic::new(FRAME * self.frames);
            self.frames += 1;
            self.motion.update(&picture, region, at)
        }

        /// Watches the empty porch until it is at rest.
        fn settled() -> Self {
            let mut watch = Self::new();
            for _ in 0..25 {
                watch.see(porch);
            }
            assert!(watch.motion.last.is_none(), "an empty porch is at rest");
            watch
        }
    }

    /// A striped animal of 60×80 pixels over the porch.
    fn animal(left: u32, top: u32) -> impl Fn(u32, u32) -> f32 {
        move |x, y| {
            let inside = (left..left + 60).contains(&x) && (top..top + 80).contains(&y);
            if inside { if (x + y) / 9 % 2 == 0 { 40.0 } else { 75.0 } } else { porch(x, y) }
        }
    }

    #[test]
    fn the_first_frame_counts_until_nothing_moved_for_a_while() {
        let mut watch = Watch::new();
        let first = watch.see(porch);
        let whole = Some(PixelBox::whole(WIDTH, HEIGHT));
        assert_eq!((first.moving, first.started, first.ended, first.part), (true, true, false, whole));
        let later: Vec<_> = (0..100).map(|_| watch.see(porch)).collect();
        assert!(later[..19].iter().all(|m| m.moving && !m.started) && later[18].part == whole);
        assert_eq!((later[19].ended, later[19].part), (true, None), "two seconds after the first frame");
        assert!(later[20..].iter().all(|m| !m.moving && !m.started && !m.ended && m.area < 0.001), "noise moves nothing");
    }

    #[test]
    fn an_animal_moves_and_the_part_is_where_it_is() {
        let mut watch = Watch::settled();
        for step in 0..8 {
            let (left, top) = (40 + step * 12, 90 + step * 3);
            let seen = watch.see(animal(left, top));
            assert_eq!((seen.moving, seen.started), (true, step == 0));
            let part = seen.part.unwrap();
            // Cells are four pixels wide; what it uncovered a moment ago still differs a little.
            assert!(part.left <= left + 8 && part.left + 60 >= left, "{part:?} for {left}");
            let (right, bottom) = (part.left + part.width, part.top + part.height);
            assert!((left + 52..left + 72).contains(&right), "{part:?} for {left}");
            assert!(part.top <= top + 8 && (top + 72..top + 92).contains(&bottom), "{part:?} for {top}");
        }
    }

    #[test]
    fn light_is_no_movement() {
        type Light = fn(u32, u32) -> f32;
        let lights: [(&str, Light); 6] = [
            ("exposure up", |_, _| 1.25),
            ("exposure down", |_, _| 0.5),
            ("sun from the left", |x, _| 1.3 - x as f32 / 640.0),
            ("dusk", |_, _| 0.25),
            ("a lamp's cone", |x, y| {
                let (dx, dy) = (x as f32 - 150.0, y as f32 - 130.0);
                0.5 + 0.7 * (-(dx * dx + dy * dy) / 20_000.0).exp()
            }),
            ("a soft shadow", |x, y| 1.0 - 0.4 / (1.0 + ((x as f32 + y as f32 - 250.0) / 25.0).exp())),
        ];
        for (name, light) in lights {
            let mut watch = Watch::settled();
            for frame in 0..5 {
                let seen = watch.see(|x, y| porch(x, y) * light(x, y));
                assert!(!seen.moving, "{name}, frame {frame}: {seen:?}");
            }
        }
    }

    #[test]
    fn an_offset_of_the_whole_picture_is_no_movement() {
        let mut watch = Watch::settled();
        assert!(!watch.see(|x, y| porch(x, y) + 25.0).moving);
    }

    #[test]
    fn slow_light_is_no_movement() {
        let mut watch = Watch::settled();
        for frame in 0..300 {
            let gain = 1.0 - 0.85 * frame as f32 / 300.0;
            assert!(!watch.see(|x, y| porch(x, y) * gain).moving, "frame {frame}");
        }
    }

    #[test]
    fn an_animal_is_seen_while_the_light_changes() {
        let mut watch = Watch::settled();
        let seen = watch.see(|x, y| animal(100, 100)(x, y) * 0.6);
        assert!(seen.started, "{seen:?}");
        let mut watch = Watch::settled();
        assert!(watch.see(|x, y| animal(100, 100)(x, y) * (1.3 - x as f32 / 640.0)).started);
    }

    #[test]
    fn a_faulty_pixel_is_no_movement_and_does_not_widen_the_part() {
        let mut watch = Watch::settled();
        let spot = |x: u32, y: u32| (300..304).contains(&x) && (8..12).contains(&y);
        for frame in 0..10 {
            let seen = watch.see(|x, y| if spot(x, y) && frame % 2 == 0 { 250.0 } else { porch(x, y) });
            assert!(!seen.moving && seen.area == 0.0, "{seen:?}");
        }
        let seen = watch.see(|x, y| if spot(x, y) { 250.0 } else { animal(60, 120)(x, y) });
        let part = seen.part.unwrap();
        assert!(part.left + part.width < 160 && part.top > 100, "{part:?}");
    }

    #[test]
    fn a_cell_needs_company_of_two() {
        let grid = Grid::new(&RgbImage::new(WIDTH, HEIGHT), Region::WHOLE);
        let set = |cells: &[(usize, usize)]| {
            let mut all = vec![false; grid.columns * grid.rows];
            cells.iter().for_each(|&(row, column)| all[row * grid.columns + column] = true);
            grid.in_company(&all).into_iter().filter(|&cell| cell).count()
        };
        assert_eq!(set(&[(3, 3)]), 0);
        assert_eq!(set(&[(3, 3), (3, 4)]), 0, "a pair, as a faulty pixel on the edge of two cells makes");
        assert_eq!(set(&[(3, 3), (3, 4), (4, 4)]), 3);
        assert_eq!(set(&[(3, 3), (3, 4), (3, 5)]), 1, "the ends of a line have one neighbour");
        assert_eq!(set(&[(0, 0), (0, 1), (1, 0)]), 3, "in the corner too");
        assert_eq!(set(&[(3, grid.columns - 1), (4, 0), (4, grid.columns - 1)]), 0, "rows do not meet at the edges");
    }

    #[test]
    fn a_pet_that_sits_still_stays_and_is_forgotten_at_last() {
        let mut watch = Watch::settled();
        let mut visit: Vec<_> = (0..150).map(|_| watch.see(animal(100, 100))).collect();
        assert!(visit[..150].iter().all(|m| m.moving), "fifteen seconds without moving");
        let part = visit[149].part.unwrap();
        assert!(part.width >= 50 && part.height >= 70, "all of it, not only what moved: {part:?}");
        for _ in 0..105 {
            // One frame a second from here on.
            watch.frames += 9;
            visit.push(watch.see(animal(100, 100)));
        }
        assert_eq!(visit.iter().filter(|m| m.ended).count(), 1);
        assert!(!visit[254].moving, "two minutes are enough for a parked bicycle");
        assert!(watch.see(porch).started, "it leaves");
    }

    #[test]
    fn a_visit_that_pauses_is_one_visit() {
        let mut watch = Watch::settled();
        let mut starts = 0;
        let mut last = None;
        for frame in 0..60 {
            let there = frame % 20 < 5;
            let seen = watch.see(|x, y| if there { animal(100, 100)(x, y) } else { porch(x, y) });
            starts += u32::from(seen.started);
            assert!(seen.moving, "frame {frame}");
            last = Some(seen);
        }
        assert_eq!(starts, 1);
        assert!(last.unwrap().part.unwrap().width < 100, "where it moved last");
    }

    #[test]
    fn what_moves_outside_the_region_is_not_seen() {
        let region = Region { left: 0.5, top: 0.0, width: 0.5, height: 1.0 };
        let mut watch = Watch::new();
        for _ in 0..25 {
            watch.see_in(region, porch);
        }
        let outside = watch.see_in(region, animal(60, 100));
        assert!(!outside.moving && outside.area == 0.0, "{outside:?}");
        let part = watch.see_in(region, animal(200, 100)).part.unwrap();
        assert!(part.left >= 192 && part.left + part.width <= 268, "pixels of the whole picture: {part:?}");
    }

    #[test]
    fn another_size_is_another_scene() {
        let mut watch = Watch::settled();
        let at = |seconds| Monotonic::new(Duration::from_secs(seconds));
        let seen = watch.motion.update(&RgbImage::new(64, 48), Region::WHOLE, at(10));
        assert!(seen.started && seen.part == Some(PixelBox::whole(64, 48)));
        assert!(watch.motion.update(&RgbImage::new(64, 48), Region::WHOLE, at(20)).ended);
        watch.motion.reset();
        assert!(watch.motion.update(&RgbImage::new(64, 48), Region::WHOLE, at(21)).started);
    }

    #[test]
    fn extreme_pictures_and_times_do_not_panic() {
        let mut motion = Motion::new(Settings { still_after: Duration::ZERO, ..Settings::default() });
        for (width, height) in [(1, 1), (1, 5000), (5000, 1), (79, 81), (80, 80), (3, 3)] {
            for (seconds, level) in [(9, 0), (2, 255), (u64::MAX, 3)] {
                let picture = RgbImage::from_pixel(width, height, Rgb([level; 3]));
                let seen = motion.update(&picture, Region::WHOLE, Monotonic::new(Duration::from_secs(seconds)));
                assert!(seen.area.is_finite() && seen.part.is_none_or(|part| part.fits(width, height)), "{seen:?}");
            }
        }
    }
}
