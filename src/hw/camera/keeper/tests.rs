use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use image::{Rgb, RgbImage};

use super::*;
use crate::hw::clock::System;

const MS: Duration = Duration::from_millis(1);
/// Long enough for any thread to be scheduled.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// Long for cameras that work, whatever else the machine does meanwhile.
fn limits() -> Limits {
    Limits { silence: EVENTUALLY, opening: EVENTUALLY, longest_pause: 300 * MS, ..Limits::default() }
}

fn impatient() -> Limits {
    Limits { silence: 60 * MS, opening: 60 * MS, ..limits() }
}

fn picture(value: u8) -> Arc<RgbImage> {
    Arc::new(RgbImage::from_pixel(4, 3, Rgb([value; 3])))
}

fn frame(number: u64, at: Duration, value: u8) -> Frame {
    Frame { number, captured: Monotonic::new(at), picture: picture(value), name: None }
}

/// What a camera does, one after the other.
#[derive(Clone, Copy)]
enum Act {
    Frame(u8),
    Fail,
    Hang,
    Panic,
}

struct Scripted(std::vec::IntoIter<Act>, u64);

impl Camera for Scripted {
    fn next(&mut self) -> Result<Option<Frame>, CameraError> {
        std::thread::sleep(5 * MS);
        self.1 += 1;
        match self.0.next() {
            Some(Act::Frame(value)) => Ok(Some(frame(self.1, self.1 as u32 * 5 * MS, value))),
            Some(Act::Fail) | None => Err(CameraError::NoneReadable(1)),
            Some(Act::Hang) => loop {
                std::thread::sleep(EVENTUALLY);
            },
            Some(Act::Panic) => panic!("as scripted"),
        }
    }
}

/// A keeper whose camera acts by one script after the other each time it is opened, and then by the last; and how often it was.
fn keeper(scripts: Vec<Vec<Act>>) -> (Keeper, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    let open = move |_: &Stop| {
        let nth = counter.fetch_add(1, Ordering::SeqCst).min(scripts.len() - 1);
        Ok(Box::new(Scripted(scripts[nth].clone().into_iter(), 0)) as Box<dyn Camera>)
    };
    (Keeper::new(Arc::new(open), limits(), Arc::new(System::start())), opened)
}

/// The next news that says something.
fn next(keeper: &mut Keeper) -> News {
    let end = std::time::Instant::now() + EVENTUALLY;
    while std::time::Instant::now() < end {
        match keeper.wait(20 * MS) {
            News::Nothing => {}
            news => return news,
        }
    }
    panic!("no news")
}

#[test]
fn a_lost_camera_is_opened_again_and_its_numbers_go_on() {
    let many = (1..=200).map(Act::Frame).collect();
    let (mut keeper, opened) = keeper(vec![vec![Act::Frame(1), Act::Frame(2), Act::Fail], vec![Act::Panic], many]);
    let mut last = 0;
    let mut lost = vec![];
    while lost.len() < 2 || last < 4 {
        match next(&mut keeper) {
            News::Frame(frame) => {
                assert!(frame.number > last, "{} after {last}", frame.number);
                last = frame.number;
            }
            News::Trouble(Trouble::Lost(error)) => lost.push(error.to_string()),
            other => panic!("{other:?}"),
        }
    }
    assert!(lost[0].contains("can be read") && lost[1].contains("thread died"), "{lost:?}");
    assert_eq!(opened.load(Ordering::SeqCst), 3);
}

#[test]
fn a_camera_that_hangs_is_left_behind_and_opened_again() {
    let (mut keeper, opened) = keeper(vec![vec![Act::Frame(1), Act::Hang], vec![Act::Frame(9)], vec![Act::Hang]]);
    assert!(matches!(next(&mut keeper), News::Frame(_)));
    let progress = keeper.progress();
    keeper.limits = impatient();
    match next(&mut keeper) {
        News::Trouble(Trouble::Silent(time)) => assert!(time >= impatient().silence && time < EVENTUALLY, "{time:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(keeper.progress(), progress, "a hang is no progress");
    keeper.limits = limits();
    assert!(matches!(next(&mut keeper), News::Frame(_)));
    assert!(keeper.progress() > progress);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[test]
fn too_many_threads_that_hang_are_given_up() {
    let (mut keeper, opened) = keeper(vec![vec![Act::Hang]]);
    keeper.limits = Limits { longest_pause: MS, ..impatient() };
    let progress = keeper.progress();
    for _ in 0..MOST_HANGING {
        assert!(matches!(next(&mut keeper), News::Trouble(Trouble::Silent(_))));
    }
    assert!(matches!(next(&mut keeper), News::Trouble(Trouble::GivenUp)));
    assert_eq!(opened.load(Ordering::SeqCst), MOST_HANGING);
    assert_eq!(keeper.progress(), progress);
}

#[test]
fn pauses_grow_to_their_limit_and_shrink_with_a_frame() {
    let (mut keeper, _) = keeper(vec![vec![]]);
    keeper.limits.longest_pause = 4 * FIRST_PAUSE;
    let mut pauses = vec![];
    for _ in 0..4 {
        assert!(matches!(next(&mut keeper), News::Trouble(Trouble::Lost(_))));
        let Stage::Pausing { until } = keeper.stage else { panic!("it pauses") };
        pauses.push(until.since(keeper.clock.now().mono).as_secs_f64() / FIRST_PAUSE.as_secs_f64());
        keeper.stage = Stage::Pausing { until: Monotonic::default() };
    }
    for (pause, expected) in pauses.iter().zip([1.0, 2.0, 4.0, 4.0]) {
        assert!((pause - expected).abs() < 0.5, "{pauses:?}");
    }
    keeper.stage =
        Stage::Running { receiver: latest::slot().1, stop: Stop::default(), opened: Monotonic::default(), last: None, base: 0 };
    assert!(matches!(keeper.frame(frame(1, MS, 99), Monotonic::default()), News::Frame(_)));
    assert_eq!(keeper.pause, FIRST_PAUSE);
}

#[test]
fn trouble_ends_what_the_camera_started() {
    let stops = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&stops);
    let open = move |stop: &Stop| {
        kept.lock().unwrap().push(stop.clone());
        Ok(Box::new(Scripted(vec![Act::Hang].into_iter(), 0)) as Box<dyn Camera>)
    };
    let mut keeper = Keeper::new(Arc::new(open), impatient(), Arc::new(System::start()));
    assert!(matches!(next(&mut keeper), News::Trouble(Trouble::Silent(_))));
    assert!(stops.lock().unwrap()[0].is_stopped());
}

#[test]
fn a_recording_is_neither_opened_again_nor_given_up_when_it_is_silent() {
    let (sender, frames) = mpsc::channel::<Frame>();
    struct Waiting(mpsc::Receiver<Frame>);
    impl Camera for Waiting {
        fn next(&mut self) -> Result<Option<Frame>, CameraError> {
            Ok(self.0.recv().ok())
        }
    }
    let clock = Arc::new(System::start());
    let mut keeper = Keeper::recording(Box::new(Waiting(frames)), impatient(), clock).unwrap();
    assert!(matches!(next(&mut keeper), News::Trouble(Trouble::Silent(_))));
    keeper.limits = limits();
    sender.send(frame(1, MS, 100)).unwrap();
    assert!(matches!(next(&mut keeper), News::Frame(_)));
    drop(sender);
    assert!(matches!(next(&mut keeper), News::End));
    assert!(matches!(keeper.wait(MS), News::Nothing));
}

fn verdicts(frames: impl IntoIterator<Item = Frame>) -> Vec<String> {
    let mut health = Health::new(Limits { slow: (0, EVENTUALLY), ..Limits::default() });
    let verdict = |frame: Frame| match health.look(&frame) {
        Verdict::Good => "good".to_owned(),
        Verdict::Doubtful => "doubtful".to_owned(),
        Verdict::Bad(trouble) => trouble.to_string(),
    };
    frames.into_iter().map(verdict).collect()
}

#[test]
fn a_repeated_frame_is_no_evidence_and_in_the_end_a_trouble() {
    let second = Duration::from_secs;
    let said = verdicts((0..=11).map(|n| frame(u64::from(n) + 1, n * second(1), 90)).chain([frame(13, second(12), 91)]));
    assert_eq!(said[0], "good");
    assert!(said[1..10].iter().all(|s| s == "doubtful"), "{said:?}");
    assert!(said[10].contains("repeated one frame for 10 s"), "{said:?}");
    assert_eq!(said[11..], ["doubtful", "good"]);
}

#[test]
fn black_frames_are_a_trouble_until_one_is_not() {
    // Noise, so that no two are the same.
    let dark = |n: u32| frame(u64::from(n) + 1, n * Duration::from_secs(1), (n % 2) as u8);
    let said = verdicts((0..=12).map(dark).chain([frame(20, Duration::from_secs(13), BLACK + 1)]));
    assert!(said[..10].iter().all(|s| s == "good"), "{said:?}");
    assert!(said[10].contains("black for 10 s"), "{said:?}");
    assert_eq!(said[11..], ["doubtful", "doubtful", "good"]);
}

#[test]
fn a_camera_is_slow_when_few_frames_are_captured_not_when_few_are_fetched() {
    let look = |numbers: [u64; 3]| {
        let mut health = Health::new(Limits { slow: (10, Duration::from_secs(10)), ..Limits::default() });
        let frames = numbers.into_iter().zip([0, 5, 10]).zip([50, 60, 70]);
        let verdicts = frames.map(|((number, at), value)| health.look(&frame(number, Duration::from_secs(at), value)));
        matches!(verdicts.last(), Some(Verdict::Bad(Trouble::Slow(..))))
    };
    assert!(look([1, 2, 3]) && look([1, 5, 10]));
    assert!(!look([1, 6, 11]) && !look([1, 2, 50]));
}
