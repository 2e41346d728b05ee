//! Pictures, or folders of them, played as a camera: for trying rules without a camera, for `demo` and for `replay`.
//!
//! Each picture is held for a while, and its frames differ as a camera's do: sensor noise, and a small shift that wanders. Both
//! come from one seed. Pictures follow each other without a pause, which is the hardest case for a door: another animal stands
//! there while it may still be open. [`Play::gap`] puts an empty scene after each instead, so that each is a visit of its own.
//!
//! The last picture is followed by the end of the camera. Large pictures are scaled down to [`MAX_AREA`] first, with their
//! aspect, so frames have as many sizes as the pictures.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use fastrand::Rng;
use image::RgbImage;

use super::{Camera, CameraError, Frame, Timing};
use crate::hw::clock::Monotonic;
use crate::samples::Sample;
use crate::vision::collect::collect;
use crate::vision::decode;

/// The most pixels of a frame: what a door's camera has.
pub const MAX_AREA: u32 = 1280 * 720;
/// Brightness of the empty scene after a picture.
const EMPTY: u8 = 128;
/// Noise values to choose from; and how many of them are added in a row before another place is chosen.
const NOISE: usize = 1 << 16;
const NOISE_RUN: usize = 4096;

/// How pictures are played.
#[derive(Debug, Clone, PartialEq)]
pub struct Play {
    /// How long each picture is shown; at least one frame.
    pub hold: Duration,
    /// Frames a second, 1…60.
    pub fps: u32,
    /// How long an empty scene is shown after each picture; zero for none.
    pub gap: Duration,
    /// Whether to begin again after the last picture.
    pub repeat: bool,
    /// Standard deviation of the sensor noise in grey levels, 0…30.
    pub noise: f32,
    /// How far a picture wanders from its middle, in pixels of the frame; that much is cut from each edge, and at most a
    /// sixteenth of the picture.
    pub shift: u32,
    /// What noise and shift come from.
    pub seed: u64,
}

impl Default for Play {
    fn default() -> Self {
        Self { hold: Duration::from_secs(3), fps: 10, gap: Duration::ZERO, repeat: false, noise: 3.0, shift: 4, seed: 0 }
    }
}

impl Play {
    /// Each picture as one frame, as it is: for frames that a camera recorded.
    pub fn recorded(fps: u32) -> Self {
        Self { hold: Duration::ZERO, fps, noise: 0.0, shift: 0, ..Self::default() }
    }

    /// Whole frames in `time`.
    fn frames(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * f64::from(self.fps.max(1))).round() as u64
    }
}

/// The camera that plays pictures.
#[derive(Debug)]
pub struct Pictures {
    list: Vec<Origin>,
    play: Play,
    timing: Timing,
    /// Place in the list of the next picture.
    next: usize,
    /// Whether a picture of this pass could be read.
    readable: bool,
    over: bool,
    scene: Option<Scene>,
    number: u64,
    /// When the next frame is due; known from the first call on.
    due: Option<Monotonic>,
    noise: Noise,
}

/// Where a picture comes from.
#[derive(Debug)]
enum Origin {
    File(PathBuf),
    Problem(PathBuf, String),
    Memory(Sample),
}

/// What is shown at the moment.
#[derive(Debug)]
struct Scene {
    picture: RgbImage,
    name: Option<Arc<str>>,
    /// Frames that are still to be shown, at least one.
    left: u64,
    /// Frames of the empty scene that follows.
    gap: u64,
    /// Furthest shift, and the present one.
    reach: i32,
    shift: [i32; 2],
}

impl Pictures {
    /// Plays files as they are named, and the pictures of folders in the order of their names. A file that cannot be read later
    /// on is an error that passes.
    ///
    /// # Errors
    /// [`CameraError::NoPictures`] when a path does not exist or nothing was found at all.
    pub fn open(paths: &[PathBuf], play: Play, timing: Timing) -> Result<Self, CameraError> {
        for path in paths {
            std::fs::metadata(path).map_err(|error| CameraError::NoPictures(format!("{}: {error}", path.display())))?;
        }
        let inputs = collect(paths);
        let problems: Vec<_> = inputs.iter().filter_map(|input| Some((input.name(), input.problem.as_ref()?))).collect();
        if problems.len() == inputs.len() {
            let what = problems.first().map_or("no path was given".into(), |(name, problem)| format!("{name}: {problem}"));
            return Err(CameraError::NoPictures(what));
        }
        let origin = |problem, path| match problem {
            Some(problem) => Origin::Problem(path, problem),
            None => Origin::File(path),
        };
        Ok(Self::new(inputs.into_iter().map(|input| origin(input.problem, input.path)).collect(), play, timing))
    }

    /// Plays pictures that were compiled in.
    pub fn of_samples(samples: &[Sample], play: Play, timing: Timing) -> Self {
        Self::new(samples.iter().copied().map(Origin::Memory).collect(), play, timing)
    }

    fn new(list: Vec<Origin>, play: Play, timing: Timing) -> Self {
        let noise = Noise::new(play.noise, play.seed);
        Self { list, play, timing, next: 0, readable: false, over: false, scene: None, number: 0, due: None, noise }
    }

    /// The next scene; `None` after the last.
    fn turn(&mut self) -> Result<Option<Scene>, CameraError> {
        if self.next == self.list.len() {
            let readable = std::mem::take(&mut self.readable);
            self.next = 0;
            self.over = !self.play.repeat || !readable;
            if !readable {
                return Err(CameraError::NoneReadable(self.list.len()));
            }
            if self.over {
                return Ok(None);
            }
        }
        let origin = &self.list[self.next];
        self.next += 1;
        let (picture, name) = origin.read()?;
        self.readable = true;
        let picture = scaled_down(picture);
        let reach = self.play.shift.min(picture.width().min(picture.height()) / 16) as i32;
        let (left, gap) = (self.play.frames(self.play.hold).max(1), self.play.frames(self.play.gap));
        Ok(Some(Scene { picture, name: Some(name.into()), left, gap, reach, shift: [0; 2] }))
    }

    /// Waits where frames are live; leaves out the ones that are late. Returns the capture time.
    fn wait(&mut self, scene: &mut Scene) -> Monotonic {
        let interval = Duration::from_secs(1) / self.play.fps.max(1);
        let captured = match &self.timing {
            Timing::Recorded(start) => self.due.unwrap_or(*start),
            Timing::Live(clock) => {
                let mut now = clock.now().mono;
                let due = self.due.unwrap_or(now);
                // A picture's last frame is never left out.
                let late = (now.since(due).as_nanos() / interval.as_nanos()).min(u128::from(scene.left) - 1) as u64;
                scene.left -= late;
                self.number += late;
                let due = due + interval.saturating_mul(late.try_into().unwrap_or(u32::MAX));
                while now < due {
                    std::thread::sleep(due.since(now));
                    now = clock.now().mono;
                }
                self.due = Some(due);
                now
            }
        };
        // Lateness is not caught up with.
        let due = self.due.unwrap_or(captured) + interval;
        self.due = Some(if captured.since(due) > interval { captured } else { due });
        captured
    }
}

impl Camera for Pictures {
    fn next(&mut self) -> Result<Option<Frame>, CameraError> {
        if self.over {
            return Ok(None);
        }
        let mut scene = match self.scene.take() {
            Some(scene) => scene,
            None => match self.turn()? {
                Some(scene) => scene,
                None => return Ok(None),
            },
        };
        let captured = self.wait(&mut scene);
        self.number += 1;
        scene.wander(&mut self.noise.rng);
        let frame =
            Frame { number: self.number, captured, picture: Arc::new(scene.render(&mut self.noise)), name: scene.name.clone() };
        self.scene = scene.shown();
        Ok(Some(frame))
    }
}

impl Origin {
    fn read(&self) -> Result<(RgbImage, String), CameraError> {
        let (path, picture) = match self {
            Self::Problem(path, problem) => {
                return Err(CameraError::Folder { path: path.clone(), problem: problem.clone() });
            }
            Self::File(path) => (path.clone(), decode::read(path)),
            Self::Memory(sample) => (PathBuf::from(sample.name), decode::decode(sample.jpeg)),
        };
        match picture {
            Ok(picture) => Ok((picture, path.display().to_string())),
            Err(error) => Err(CameraError::Picture { path, error }),
        }
    }
}

impl Scene {
    /// One step of at most a pixel in each direction.
    fn wander(&mut self, rng: &mut Rng) {
        for shift in &mut self.shift {
            *shift = (*shift + rng.i32(-1..=1)).clamp(-self.reach, self.reach);
        }
    }

    /// The picture with its shift and fresh noise.
    fn render(&self, noise: &mut Noise) -> RgbImage {
        let cut = 2 * self.reach as u32;
        let (width, height) = (self.picture.width() - cut, self.picture.height() - cut);
        let [left, top] = self.shift.map(|shift| (self.reach + shift) as usize);
        let (from, to) = (self.picture.width() as usize * 3, width as usize * 3);
        let mut frame = RgbImage::new(width, height);
        let rows = self.picture.as_raw().chunks_exact(from).skip(top);
        for (target, source) in frame.chunks_exact_mut(to).zip(rows) {
            noise.add(&source[left * 3..][..to], target);
        }
        frame
    }

    /// What comes after one frame of this: more of it, the empty scene, or nothing.
    fn shown(mut self) -> Option<Self> {
        self.left -= 1;
        if self.left > 0 {
            return Some(self);
        }
        let empty = |pixels: RgbImage| RgbImage::from_pixel(pixels.width(), pixels.height(), image::Rgb([EMPTY; 3]));
        (self.gap > 0).then(|| Self { picture: empty(self.picture), name: None, left: self.gap, gap: 0, ..self })
    }
}

/// Seeded noise, drawn beforehand: what is added to a byte and what is taken from it, one of the two always zero.
#[derive(Debug)]
struct Noise {
    up: Vec<u8>,
    down: Vec<u8>,
    rng: Rng,
}

impl Noise {
    fn new(deviation: f32, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let deviation = if deviation.is_finite() { deviation.clamp(0.0, 30.0) } else { 0.0 };
        // The sum of twelve uniform values less six is close to a Gaussian of deviation 1.
        let mut draw = || (deviation * ((0..12).map(|_| rng.f32()).sum::<f32>() - 6.0)).round() as i16;
        let values: Vec<i16> = (0..NOISE + NOISE_RUN).map(|_| draw()).collect();
        let part = |sign: i16| values.iter().map(|&v| (v * sign).clamp(0, 255) as u8).collect();
        Self { up: part(1), down: part(-1), rng }
    }

    fn add(&mut self, source: &[u8], target: &mut [u8]) {
        for (target, source) in target.chunks_mut(NOISE_RUN).zip(source.chunks(NOISE_RUN)) {
            let place = self.rng.usize(..NOISE);
            let (up, down) = (&self.up[place..], &self.down[place..]);
            for (((target, &source), &up), &down) in target.iter_mut().zip(source).zip(up).zip(down) {
                *target = source.saturating_add(up).saturating_sub(down);
            }
        }
    }
}

/// A picture of at most [`MAX_AREA`] pixels.
fn scaled_down(picture: RgbImage) -> RgbImage {
    let area = f64::from(picture.width()) * f64::from(picture.height());
    let scale = (f64::from(MAX_AREA) / area).sqrt();
    if scale >= 1.0 {
        return picture;
    }
    let [width, height] = [picture.width(), picture.height()].map(|side| ((f64::from(side) * scale) as u32).max(1));
    let mut target = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let source = ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3);
    let scaled = source.ok().and_then(|source| Resizer::new().resize(&source, &mut target, &options).ok());
    // What cannot be scaled is played as it is.
    scaled.and_then(|()| RgbImage::from_raw(width, height, target.into_vec())).unwrap_or(picture)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use image::Rgb;
    use jiff::Timestamp;

    use super::*;
    use crate::hw::clock::{Clock, Now};
    use crate::samples::SAMPLES;

    fn at(ms: u64) -> Monotonic {
        Monotonic::new(Duration::from_millis(ms))
    }

    fn save(folder: &Path, name: &str, width: u32, height: u32, level: u8) -> PathBuf {
        let path = folder.join(name);
        RgbImage::from_pixel(width, height, Rgb([level; 3])).save(&path).unwrap();
        path
    }

    /// Two frames a second, each picture for one and a half, nothing added.
    fn plain() -> Play {
        Play { hold: Duration::from_millis(1500), fps: 2, noise: 0.0, shift: 0, ..Play::default() }
    }

    fn open(paths: &[PathBuf], play: Play) -> Pictures {
        Pictures::open(paths, play, Timing::Recorded(at(100))).unwrap()
    }

    /// Number, capture time, first sample and name of every frame.
    fn all(camera: &mut Pictures) -> Vec<(u64, Monotonic, u8, Option<String>)> {
        let frames = std::iter::from_fn(|| camera.next().unwrap());
        frames.map(|f| (f.number, f.captured, f.picture.as_raw()[0], f.name.as_deref().map(str::to_owned))).collect()
    }

    #[test]
    fn pictures_are_held_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let second = save(folder.path(), "b.png", 40, 30, 200);
        let first = save(folder.path(), "a.PNG", 20, 30, 100);
        std::fs::write(folder.path().join("README.md"), "no picture").unwrap();
        let mut camera = open(&[folder.path().into()], plain());
        let frames = all(&mut camera);
        let name = |path: &PathBuf| Some(path.display().to_string());
        let expected: Vec<_> = (0..6)
            .map(|n| (n + 1, at(100 + 500 * n), if n < 3 { 100 } else { 200 }, name(if n < 3 { &first } else { &second })))
            .collect();
        assert_eq!(frames, expected);
        assert!(camera.next().unwrap().is_none(), "the end stays the end");
    }

    #[test]
    fn an_empty_scene_follows_each_picture_where_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [save(folder.path(), "a.png", 20, 30, 10), save(folder.path(), "b.png", 40, 30, 20)];
        let play = Play { gap: Duration::from_secs(1), ..plain() };
        let frames = all(&mut open(&paths, play));
        assert_eq!(frames.iter().map(|f| f.2).collect::<Vec<_>>(), [10, 10, 10, 128, 128, 20, 20, 20, 128, 128]);
        assert_eq!((&frames[3].3, frames[9].1), (&None, at(100 + 4500)));
    }

    #[test]
    fn repeating_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [save(folder.path(), "a.png", 20, 30, 10), save(folder.path(), "b.png", 40, 30, 20)];
        let mut camera = open(&paths, Play { repeat: true, ..Play::recorded(10) });
        let levels: Vec<_> = (0..7).map(|_| camera.next().unwrap().unwrap().picture.as_raw()[0]).collect();
        assert_eq!(levels, [10, 20, 10, 20, 10, 20, 10]);
    }

    #[test]
    fn noise_and_shift_come_from_the_seed_and_no_two_frames_are_alike() {
        let folder = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_fn(200, 160, |x, y| Rgb([(x * 7 % 200) as u8, (y * 5 % 250) as u8, 77]));
        let path = folder.path().join("a.png");
        picture.save(&path).unwrap();
        let play = |seed| {
            let mut camera = open(std::slice::from_ref(&path), Play { seed, ..Play::default() });
            std::iter::from_fn(move || camera.next().unwrap()).map(|f| f.picture).collect::<Vec<_>>()
        };
        let frames = play(1);
        assert_eq!(frames.len(), 30);
        assert_eq!(frames, play(1));
        assert_ne!(frames, play(2));
        assert!(frames.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(frames.iter().all(|f| f.dimensions() == (192, 152)), "four pixels less on each side");
    }

    #[test]
    fn noise_has_the_deviation_asked_for_and_no_bias() {
        let mut noise = Noise::new(3.0, 5);
        let (source, mut target) = (vec![120u8; 300_000], vec![0u8; 300_000]);
        noise.add(&source, &mut target);
        let differences = || target.iter().map(|&v| f64::from(v) - 120.0);
        let mean = differences().sum::<f64>() / 3e5;
        let deviation = (differences().map(|d| d * d).sum::<f64>() / 3e5).sqrt();
        assert!(mean.abs() < 0.05 && (deviation - 3.0).abs() < 0.1, "{mean} {deviation}");
        let mut ends = [0u8; 2000];
        noise.add(&[0, 255].repeat(1000), &mut ends);
        assert!(ends.chunks(2).all(|pair| pair[0] < 30 && pair[1] > 225), "nothing wraps around");
    }

    #[test]
    fn the_shift_stays_within_its_reach() {
        let mut rng = Rng::with_seed(2);
        let picture = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, 0]));
        let mut scene = Scene { picture, name: None, left: 1, gap: 0, reach: 3, shift: [0; 2] };
        let mut noise = Noise::new(0.0, 0);
        let mut corners = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            scene.wander(&mut rng);
            let frame = scene.render(&mut noise);
            assert_eq!(frame.dimensions(), (58, 58));
            let [left, top, _] = frame.get_pixel(0, 0).0;
            assert_eq!(frame.get_pixel(57, 57).0, [left + 57, top + 57, 0], "one piece of the picture");
            corners.insert((left, top));
        }
        assert_eq!(corners.len(), 49, "all shifts from -3 to 3 in both directions: {corners:?}");
    }

    #[test]
    fn what_cannot_be_read_is_reported_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "a.png", 20, 30, 10);
        let broken = folder.path().join("b.jpg");
        std::fs::write(&broken, &SAMPLES[0].jpeg[..9000]).unwrap();
        save(folder.path(), "c.png", 20, 30, 20);
        let mut camera = open(&[folder.path().into()], Play::recorded(10));
        assert_eq!(camera.next().unwrap().unwrap().number, 1);
        let error = camera.next().unwrap_err();
        assert!(error.is_passing() && error.to_string().starts_with(&broken.display().to_string()), "{error}");
        let frame = camera.next().unwrap().unwrap();
        assert_eq!((frame.number, frame.captured, frame.picture.as_raw()[0]), (2, at(200), 20));
        assert!(camera.next().unwrap().is_none());
    }

    #[test]
    fn without_one_readable_picture_the_camera_ends() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.jpg"] {
            std::fs::write(folder.path().join(name), "no picture").unwrap();
        }
        let mut camera = open(&[folder.path().into()], Play { repeat: true, ..Play::default() });
        assert!(camera.next().unwrap_err().is_passing() && camera.next().unwrap_err().is_passing());
        assert!(matches!(camera.next(), Err(CameraError::NoneReadable(2))));
        assert!(camera.next().unwrap().is_none());
    }

    #[test]
    fn what_is_not_there_is_no_camera() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("porch");
        for (paths, named) in [(vec![missing.clone()], &missing), (vec![folder.path().into()], &folder.path().to_path_buf())] {
            let error = Pictures::open(&paths, plain(), Timing::Recorded(at(0))).unwrap_err();
            assert!(!error.is_passing() && error.to_string().contains(&named.display().to_string()), "{error}");
        }
        assert!(Pictures::open(&[], plain(), Timing::Recorded(at(0))).is_err());
    }

    #[test]
    fn large_pictures_are_scaled_down_with_their_aspect() {
        let large = RgbImage::from_pixel(4000, 3000, Rgb([9, 99, 199]));
        let scaled = scaled_down(large);
        assert_eq!((scaled.dimensions(), scaled.get_pixel(500, 400).0), ((1108, 831), [9, 99, 199]));
        assert_eq!(scaled_down(RgbImage::new(1280, 720)).dimensions(), (1280, 720));
        assert_eq!(scaled_down(RgbImage::new(2_000_000, 1)).height(), 1);
    }

    #[test]
    fn the_samples_play_without_files() {
        let mut camera = Pictures::of_samples(&SAMPLES, Play::recorded(10), Timing::Recorded(at(0)));
        let names: Vec<_> = all(&mut camera).into_iter().map(|f| f.3.unwrap()).collect();
        assert_eq!(names, SAMPLES.map(|sample| sample.name));
    }

    /// A clock that goes on by a script: one value a reading, then by a millisecond each.
    struct Scripted(Mutex<Vec<u64>>);

    impl Clock for Scripted {
        fn now(&self) -> Now {
            let mut times = self.0.lock().unwrap();
            let now = times.remove(0);
            if times.is_empty() {
                times.push(now + 1);
            }
            Now { mono: at(now), wall: Timestamp::UNIX_EPOCH }
        }
    }

    #[test]
    fn live_frames_that_are_late_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [save(folder.path(), "a.png", 20, 30, 10), save(folder.path(), "b.png", 40, 30, 20)];
        let play = Play { hold: Duration::from_millis(50), fps: 100, ..plain() };
        // Due at 100, 110, 120, …: on time, then 25 ms late, then so late that the whole picture has gone by.
        let clock = Arc::new(Scripted(Mutex::new(vec![100, 135, 1000, 1001])));
        let mut camera = Pictures::open(&paths, play, Timing::Live(clock)).unwrap();
        let frames: Vec<_> = (0..4).map(|_| camera.next().unwrap().unwrap()).collect();
        let found: Vec<_> = frames.iter().map(|f| (f.number, f.picture.as_raw()[0])).collect();
        assert_eq!(found, [(1, 10), (4, 10), (5, 10), (6, 20)]);
        assert_eq!((frames[1].captured, frames[2].captured), (at(135), at(1000)));
        assert!(frames[3].captured >= at(1000));
    }

    #[test]
    fn live_frames_keep_their_pace() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [save(folder.path(), "a.png", 20, 30, 10)];
        let play = Play { hold: Duration::from_millis(100), fps: 50, ..plain() };
        let start = std::time::Instant::now();
        let clock = Arc::new(crate::hw::clock::System::start());
        let mut camera = Pictures::open(&paths, play, Timing::Live(clock)).unwrap();
        let frames = all(&mut camera);
        assert!(start.elapsed() >= Duration::from_millis(80), "five frames, four intervals");
        assert!(frames.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{frames:?}");
    }
}
