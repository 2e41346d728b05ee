//! Faults on purpose: at every boundary, at a set time or drawn from a seed. For tests of the running process
//! (`run --simulate --inject …`); without a plan, every call here costs a comparison.
//!
//! A plan is a list of `WHAT@FROM`, `WHAT@FROM+LASTING`, separated by commas: `camera-hang@2s+3s,journal-panic@5s`; or `seed=N`,
//! which draws three.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use image::RgbImage;
use jiff::SignedDuration;

use super::actuator::{self, Latch};
use super::camera::program::Stop;
use super::camera::{Camera, CameraError, Frame, Open};
use super::clock::{Clock, Now};

/// Where and how something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The camera's thread hangs, in opening and in reading.
    CameraHang,
    /// The camera cannot be opened, and reading fails.
    CameraLost,
    /// The camera repeats a frame.
    CameraFrozen,
    /// The camera shows black.
    CameraBlack,
    /// The camera takes a second and a half for each frame.
    CameraSlow,
    /// The camera's thread panics.
    CameraPanic,
    /// Inference hangs.
    ClassifierHang,
    /// Inference fails.
    ClassifierError,
    /// Inference panics.
    ClassifierPanic,
    /// The thread that decides hangs.
    DeciderHang,
    /// The thread that decides panics.
    DeciderPanic,
    /// The journal's thread hangs.
    JournalHang,
    /// The journal's thread panics.
    JournalPanic,
    /// The latch takes no commands.
    LatchRefuses,
    /// The latch's driver hangs.
    LatchHang,
    /// The wall clock is set back by three hours.
    ClockBack,
    /// The wall clock is set forward by a day and two hours.
    ClockForward,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::CameraHang,
        Self::CameraLost,
        Self::CameraFrozen,
        Self::CameraBlack,
        Self::CameraSlow,
        Self::CameraPanic,
        Self::ClassifierHang,
        Self::ClassifierError,
        Self::ClassifierPanic,
        Self::DeciderHang,
        Self::DeciderPanic,
        Self::JournalHang,
        Self::JournalPanic,
        Self::LatchRefuses,
        Self::LatchHang,
        Self::ClockBack,
        Self::ClockForward,
    ];

    /// Its name in a plan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CameraHang => "camera-hang",
            Self::CameraLost => "camera-lost",
            Self::CameraFrozen => "camera-frozen",
            Self::CameraBlack => "camera-black",
            Self::CameraSlow => "camera-slow",
            Self::CameraPanic => "camera-panic",
            Self::ClassifierHang => "classifier-hang",
            Self::ClassifierError => "classifier-error",
            Self::ClassifierPanic => "classifier-panic",
            Self::DeciderHang => "decider-hang",
            Self::DeciderPanic => "decider-panic",
            Self::JournalHang => "journal-hang",
            Self::JournalPanic => "journal-panic",
            Self::LatchRefuses => "latch-refuses",
            Self::LatchHang => "latch-hang",
            Self::ClockBack => "clock-back",
            Self::ClockForward => "clock-forward",
        }
    }
}

/// One fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// What fails.
    pub what: What,
    /// From when on, after the start.
    pub from: Duration,
    /// How long; for ever without.
    pub lasting: Option<Duration>,
}

/// A plan of faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(pub Vec<Planned>);

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(seed) = text.strip_prefix("seed=") {
            let seed = seed.parse().map_err(|_| format!("`{seed}` is no seed; write a whole number"))?;
            return Ok(Self::seeded(seed));
        }
        text.split(',').map(planned).collect::<Result<_, _>>().map(Self)
    }
}

impl Plan {
    /// Three faults within ten seconds, each up to three seconds long or for ever.
    pub fn seeded(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut draw = || Planned {
            what: What::ALL[rng.usize(..What::ALL.len())],
            from: Duration::from_millis(rng.u64(500..10_000)),
            lasting: rng.bool().then(|| Duration::from_millis(rng.u64(50..3000))),
        };
        Self((0..3).map(|_| draw()).collect())
    }
}

fn planned(text: &str) -> Result<Planned, String> {
    let names = || What::ALL.map(What::name).join(", ");
    let (name, time) = text.split_once('@').ok_or_else(|| format!("`{text}` is no fault; write WHAT@2s or WHAT@2s+500ms"))?;
    let what = What::ALL.into_iter().find(|what| what.name() == name);
    let what = what.ok_or_else(|| format!("`{name}` is no fault; there are {}", names()))?;
    let (from, lasting) = time.split_once('+').map_or((time, None), |(from, lasting)| (from, Some(lasting)));
    let duration = |text: &str| {
        let parsed: Option<SignedDuration> = text.parse().ok();
        parsed.and_then(|d| Duration::try_from(d).ok()).ok_or_else(|| format!("`{text}` is no duration; write \"2s\""))
    };
    Ok(Planned { what, from: duration(from)?, lasting: lasting.map(duration).transpose()? })
}

/// Lets things fail as planned. Clones are the same.
#[derive(Debug, Clone)]
pub struct Injector(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    plan: Vec<Planned>,
    start: Instant,
    /// Faults that have struck, so that each panic comes once.
    struck: Vec<AtomicBool>,
}

impl Injector {
    /// Nothing fails.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Time runs from now on.
    pub fn new(plan: Plan) -> Self {
        let struck = plan.0.iter().map(|_| AtomicBool::new(false)).collect();
        Self((!plan.0.is_empty()).then(|| Arc::new(Inner { plan: plan.0, start: Instant::now(), struck })))
    }

    /// Whether `what` fails now.
    pub fn strikes(&self, what: What) -> bool {
        self.active(what).is_some()
    }

    fn active(&self, what: What) -> Option<(&Inner, usize)> {
        let inner = self.0.as_deref()?;
        let now = inner.start.elapsed();
        let is_active = |p: &Planned| {
            p.what == what && now >= p.from && p.lasting.is_none_or(|lasting| now < p.from.saturating_add(lasting))
        };
        Some((inner, inner.plan.iter().position(is_active)?))
    }

    /// Does not return while `what`, a hang, lasts.
    pub fn hang(&self, what: What) {
        while self.strikes(what) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Panics once when `what`, a panic, is planned.
    ///
    /// # Panics
    /// As planned.
    pub fn panic(&self, what: What) {
        if let Some((inner, index)) = self.active(what)
            && !inner.struck[index].swap(true, Ordering::Relaxed)
        {
            panic!("{}, as planned", what.name());
        }
    }

    /// A camera that fails as planned.
    pub fn camera(&self, open: Arc<Open>) -> Arc<Open> {
        if self.0.is_none() {
            return open;
        }
        let faults = self.clone();
        Arc::new(move |stop: &Stop| {
            faults.hang(What::CameraHang);
            faults.lost()?;
            Ok(Box::new(Failing { camera: open(stop)?, faults: faults.clone(), last: None }))
        })
    }

    /// A latch that fails as planned.
    pub fn latch(&self, latch: Box<dyn Latch>) -> Box<dyn Latch> {
        match self.0 {
            None => latch,
            Some(_) => Box::new(FailingLatch { latch, faults: self.clone() }),
        }
    }

    /// A clock whose wall clock is set as planned; the monotonic one never is.
    pub fn clock(&self, clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
        match self.0 {
            None => clock,
            Some(_) => Arc::new(JumpingClock { clock, faults: self.clone() }),
        }
    }

    /// A clock at which the journal's thread hangs or panics as planned: it looks at every turn.
    pub fn journal_clock(&self, clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
        match self.0 {
            None => clock,
            Some(_) => Arc::new(JournalClock { clock, faults: self.clone() }),
        }
    }

    fn lost(&self) -> Result<(), CameraError> {
        match self.strikes(What::CameraLost) {
            true => Err(CameraError::NoPictures("it is lost, as planned".into())),
            false => Ok(()),
        }
    }
}

struct FailingLatch {
    latch: Box<dyn Latch>,
    faults: Injector,
}

impl FailingLatch {
    fn fail(&self) -> Result<(), actuator::Error> {
        self.faults.hang(What::LatchHang);
        match self.faults.strikes(What::LatchRefuses) {
            true => Err(actuator::Error::Device { device: "the latch".into(), cause: std::io::Error::other("as planned") }),
            false => Ok(()),
        }
    }
}

impl Latch for FailingLatch {
    fn unlock(&mut self) -> Result<(), actuator::Error> {
        self.fail()?;
        self.latch.unlock()
    }

    fn lock(&mut self) -> Result<(), actuator::Error> {
        self.fail()?;
        self.latch.lock()
    }

    fn position(&mut self) -> Result<Option<actuator::Position>, actuator::Error> {
        self.latch.position()
    }
}

struct JumpingClock {
    clock: Arc<dyn Clock>,
    faults: Injector,
}

impl Clock for JumpingClock {
    fn now(&self) -> Now {
        let Now { mono, wall } = self.clock.now();
        let hours = if self.faults.strikes(What::ClockBack) { -3 } else { 0 };
        let hours = if self.faults.strikes(What::ClockForward) { hours + 26 } else { hours };
        Now { mono, wall: wall.saturating_add(SignedDuration::from_hours(hours)).unwrap_or(wall) }
    }
}

struct JournalClock {
    clock: Arc<dyn Clock>,
    faults: Injector,
}

impl Clock for JournalClock {
    fn now(&self) -> Now {
        if std::thread::current().name() == Some("journal") {
            self.faults.hang(What::JournalHang);
            self.faults.panic(What::JournalPanic);
        }
        self.clock.now()
    }
}

struct Failing {
    camera: Box<dyn Camera>,
    faults: Injector,
    last: Option<Arc<RgbImage>>,
}

impl Camera for Failing {
    fn next(&mut self) -> Result<Option<Frame>, CameraError> {
        let faults = &self.faults;
        faults.hang(What::CameraHang);
        faults.panic(What::CameraPanic);
        faults.lost()?;
        if faults.strikes(What::CameraSlow) {
            std::thread::sleep(Duration::from_millis(1500));
        }
        let Some(mut frame) = self.camera.next()? else { return Ok(None) };
        if let Some(last) = self.last.as_ref().filter(|_| faults.strikes(What::CameraFrozen)) {
            frame.picture = Arc::clone(last);
        } else if faults.strikes(What::CameraBlack) {
            // Noise of a sensor in the dark, so that it is not frozen.
            let (width, height) = frame.picture.dimensions();
            let mut rng = fastrand::Rng::with_seed(frame.number);
            frame.picture = Arc::new(RgbImage::from_fn(width, height, |_, _| image::Rgb([rng.u8(..8); 3])));
        }
        self.last = Some(Arc::clone(&frame.picture));
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_and_mistakes_named() {
        let plan: Plan = "camera-hang@2s+3s,journal-panic@500ms".parse().unwrap();
        let expected = [
            Planned { what: What::CameraHang, from: Duration::from_secs(2), lasting: Some(Duration::from_secs(3)) },
            Planned { what: What::JournalPanic, from: Duration::from_millis(500), lasting: None },
        ];
        assert_eq!(plan.0, expected);
        for (text, what) in [
            ("", "no fault"),
            ("camera-hang", "WHAT@2s"),
            ("door-open@1s", "there are camera-hang"),
            ("camera-hang@soon", "no duration"),
            ("seed=x", "no seed"),
        ] {
            assert!(text.parse::<Plan>().unwrap_err().contains(what), "{text}");
        }
        assert_eq!("seed=7".parse::<Plan>().unwrap(), Plan::seeded(7));
        assert_ne!(Plan::seeded(7), Plan::seeded(8));
    }

    #[test]
    fn faults_come_and_go_in_their_time() {
        let lasting = Some(Duration::from_millis(50));
        let plan = Plan(vec![Planned { what: What::CameraHang, from: Duration::from_millis(20), lasting }]);
        let faults = Injector::new(plan);
        assert!(!faults.strikes(What::CameraHang) && !Injector::none().strikes(What::CameraHang));
        std::thread::sleep(Duration::from_millis(25));
        assert!(faults.strikes(What::CameraHang) && !faults.strikes(What::CameraLost));
        faults.hang(What::CameraHang);
        assert!(faults.0.as_ref().unwrap().start.elapsed() >= Duration::from_millis(70));
    }

    #[test]
    fn only_the_wall_clock_is_set() {
        let clock: Arc<dyn Clock> = Arc::new(crate::hw::clock::Simulated::at(jiff::Timestamp::UNIX_EPOCH));
        let planned = |what| Planned { what, from: Duration::ZERO, lasting: None };
        for (plan, hours) in [(vec![What::ClockBack], -3), (vec![What::ClockForward], 26), (vec![What::CameraLost], 0)] {
            let faults = Injector::new(Plan(plan.into_iter().map(planned).collect()));
            let (now, real) = (faults.clock(Arc::clone(&clock)).now(), clock.now());
            assert_eq!((now.mono, now.wall.duration_since(real.wall)), (real.mono, SignedDuration::from_hours(hours)));
        }
    }

    #[test]
    fn a_panic_comes_once() {
        let plan = Plan(vec![Planned { what: What::DeciderPanic, from: Duration::ZERO, lasting: None }]);
        let faults = Injector::new(plan);
        let panics = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults.panic(What::DeciderPanic))).is_err();
        assert!(panics() && !panics());
    }
}
