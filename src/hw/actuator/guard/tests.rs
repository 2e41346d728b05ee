use std::sync::Condvar;
use std::thread::{sleep, spawn};

use super::*;

const MS: Duration = Duration::from_millis(1);
/// Longer than anything here takes on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);

/// A latch whose calls hang, fail or panic as it is told. Clones are the same.
#[derive(Clone, Default)]
struct Fake(Arc<(Mutex<Behaviour>, Condvar)>);

#[derive(Default)]
struct Behaviour {
    hang: bool,
    fail: bool,
    panic: bool,
    inside: bool,
    gone: bool,
    done: Vec<(Position, Instant)>,
}

impl Fake {
    fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn get<R>(&self, read: impl FnOnce(&Behaviour) -> R) -> R {
        read(&self.0.0.lock().unwrap())
    }

    fn done(&self) -> Vec<Position> {
        self.get(|behaviour| behaviour.done.iter().map(|done| done.0).collect())
    }

    fn wait(&self, until: impl Fn(&Behaviour) -> bool) {
        let start = Instant::now();
        while !self.get(&until) {
            assert!(start.elapsed() < LONG, "it never happens: {:?}", self.done());
            sleep(MS);
        }
    }

    fn call(&self) -> Result<(), Error> {
        let mut behaviour = self.0.0.lock().unwrap();
        behaviour.inside = true;
        while behaviour.hang {
            behaviour = self.0.1.wait(behaviour).unwrap();
        }
        behaviour.inside = false;
        let (fail, panic) = (behaviour.fail, behaviour.panic);
        drop(behaviour);
        assert!(!panic, "it was told to panic");
        if fail { Err(failed(io::Error::other("told to fail"))) } else { Ok(()) }
    }

    fn go(&self, to: Position) -> Result<(), Error> {
        self.call()?;
        self.set(|behaviour| behaviour.done.push((to, Instant::now())));
        Ok(())
    }
}

/// What is handed over; the test keeps the clone.
struct Handed(Fake);

impl Latch for Handed {
    fn unlock(&mut self) -> Result<(), Error> {
        self.0.go(Position::Unlocked)
    }

    fn lock(&mut self) -> Result<(), Error> {
        self.0.go(Position::Locked)
    }

    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.0.call().map(|()| self.0.done().last().copied())
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.0.set(|behaviour| behaviour.gone = true);
    }
}

use Position::{Locked, Unlocked};

/// Limits that never act.
const LIMITS: Limits = Limits { safe: Locked, longest_unlocked: LONG, beat: LONG, answer: LONG };

fn guarded(limits: Limits) -> (Fake, Guarded, Heartbeat, Receiver<Trip>) {
    let fake = Fake::default();
    let (guarded, heart, trips) = Guarded::new(Box::new(Handed(fake.clone())), limits).unwrap();
    (fake, guarded, heart, trips)
}

fn trip(why: Why) -> Trip {
    Trip { why, to: Locked, failed: None }
}

fn next(trips: &Receiver<Trip>) -> Trip {
    trips.recv_timeout(LONG).unwrap()
}

#[test]
fn commands_are_carried_out_and_answered() {
    let (fake, mut guarded, _, trips) = guarded(LIMITS);
    guarded.unlock().unwrap();
    assert_eq!(guarded.position().unwrap(), Some(Unlocked));
    guarded.lock().unwrap();
    fake.set(|behaviour| behaviour.fail = true);
    assert!(guarded.unlock().unwrap_err().to_string().contains("told to fail"));
    assert!(guarded.position().is_err());
    fake.set(|behaviour| behaviour.fail = false);
    guarded.lock().unwrap();
    drop(guarded);
    assert_eq!(fake.done(), [Unlocked, Locked, Locked]);
    assert!(trips.iter().next().is_none());
}

#[test]
fn it_is_never_unlocked_for_too_long() {
    let (fake, mut guarded, heart, trips) = guarded(Limits { longest_unlocked: MS * 500, ..LIMITS });
    guarded.unlock().unwrap();
    // Neither beats nor questions put it off; another command to unlock does.
    for _ in 0..10 {
        sleep(MS * 5);
        heart.beat();
        guarded.position().unwrap();
    }
    guarded.unlock().unwrap();
    fake.wait(|behaviour| {
        heart.beat();
        behaviour.done.len() == 3
    });
    let times = fake.get(|behaviour| behaviour.done.clone());
    assert_eq!(fake.done(), [Unlocked, Unlocked, Locked]);
    assert!(times[2].1 - times[1].1 >= MS * 490, "{:?}", times[2].1 - times[1].1);
    assert_eq!(next(&trips), trip(Why::TooLong));
    // It is over, and asked for afresh it opens.
    guarded.unlock().unwrap();
    guarded.lock().unwrap();
    sleep(MS * 700);
    assert!(trips.try_recv().is_err(), "locked in time");
}

#[test]
fn questions_in_quick_succession_do_not_put_the_limit_off() {
    let (fake, mut guarded, _, trips) = guarded(Limits { longest_unlocked: MS * 50, ..LIMITS });
    guarded.unlock().unwrap();
    let start = Instant::now();
    while fake.done().len() < 2 && start.elapsed() < MS * 5000 {
        guarded.position().unwrap();
    }
    assert_eq!((fake.done(), next(&trips)), (vec![Unlocked, Locked], trip(Why::TooLong)));
}

#[test]
fn without_beats_it_locks_and_stays_so() {
    let (fake, mut guarded, heart, trips) = guarded(Limits { beat: MS * 500, ..LIMITS });
    heart.beat();
    guarded.unlock().unwrap();
    for _ in 0..150 {
        sleep(MS * 5);
        heart.beat();
    }
    assert_eq!(fake.done(), [Unlocked], "beats keep it");
    assert_eq!(next(&trips), trip(Why::NoBeat));
    assert_eq!(fake.done(), [Unlocked, Locked]);
    let error = guarded.unlock().unwrap_err().to_string();
    assert!(error.contains("turned over"), "{error}");
    guarded.lock().unwrap();
    heart.beat();
    guarded.unlock().unwrap();
    assert_eq!(fake.done(), [Unlocked, Locked, Locked, Unlocked]);
}

#[test]
fn beats_are_not_asked_for_while_it_is_safe() {
    let (fake, mut guarded, heart, trips) = guarded(Limits { beat: MS * 300, ..LIMITS });
    sleep(MS * 500);
    heart.beat();
    guarded.unlock().unwrap();
    guarded.lock().unwrap();
    sleep(MS * 500);
    assert_eq!(fake.done(), [Unlocked, Locked]);
    drop(guarded);
    assert!(trips.iter().next().is_none());
}

#[test]
fn an_owner_that_panics_leaves_it_locked() {
    let (fake, mut guarded, _, trips) = guarded(LIMITS);
    let owner = spawn(move || {
        guarded.unlock().unwrap();
        panic!("the service falls over");
    });
    assert!(owner.join().is_err());
    // No waiting: the end of the owner has waited.
    assert_eq!(fake.done(), [Unlocked, Locked]);
    assert!(fake.get(|behaviour| behaviour.gone));
    assert_eq!(trips.iter().collect::<Vec<_>>(), [trip(Why::Gone)]);
}

#[test]
fn an_end_in_the_safe_position_moves_nothing() {
    let (fake, mut guarded, _, trips) = guarded(LIMITS);
    guarded.unlock().unwrap();
    guarded.lock().unwrap();
    drop(guarded);
    assert_eq!(fake.done(), [Unlocked, Locked]);
    assert!(fake.get(|behaviour| behaviour.gone));
    assert!(trips.iter().next().is_none());
}

#[test]
fn an_end_does_not_wait_for_ever() {
    let (fake, mut guarded, _, trips) = guarded(LIMITS);
    guarded.unlock().unwrap();
    fake.set(|behaviour| behaviour.hang = true);
    let start = Instant::now();
    drop(guarded);
    assert!((END..END * 4).contains(&start.elapsed()));
    fake.set(|behaviour| behaviour.hang = false);
    assert_eq!((next(&trips), fake.done()), (trip(Why::Gone), vec![Unlocked, Locked]));
}

#[test]
fn an_end_tries_until_the_latch_obeys() {
    let (fake, mut guarded, _, trips) = guarded(LIMITS);
    guarded.unlock().unwrap();
    fake.set(|behaviour| behaviour.fail = true);
    let later = fake.clone();
    let repair = spawn(move || {
        sleep(RETRY * 3);
        later.set(|behaviour| behaviour.fail = false);
    });
    drop(guarded);
    repair.join().unwrap();
    fake.wait(|behaviour| behaviour.gone);
    assert_eq!(fake.done(), [Unlocked, Locked]);
    let told: Vec<_> = trips.iter().map(|trip| (trip.why, trip.failed.is_some())).collect();
    assert_eq!(told, [(Why::Gone, true), (Why::Gone, false)]);
}

#[test]
fn an_unlock_that_comes_late_is_undone() {
    let (fake, mut guarded, _, trips) = guarded(Limits { answer: MS * 50, ..LIMITS });
    fake.set(|behaviour| behaviour.hang = true);
    let error = guarded.unlock().unwrap_err().to_string();
    assert!(error.contains("no answer within 50ms"), "{error}");
    // Whoever asks meanwhile does not wait.
    let start = Instant::now();
    for _ in 0..100 {
        assert!(guarded.position().unwrap_err().to_string().contains("still busy"));
    }
    assert!(start.elapsed() < MS * 1000);
    fake.set(|behaviour| behaviour.hang = false);
    assert_eq!(next(&trips), trip(Why::GivenUp));
    assert_eq!(fake.done(), [Unlocked, Locked]);
}

#[test]
fn an_unlock_that_has_not_begun_is_dropped() {
    let (fake, mut guarded, heart, trips) = guarded(Limits { longest_unlocked: MS * 50, answer: MS * 500, ..LIMITS });
    guarded.unlock().unwrap();
    fake.set(|behaviour| behaviour.hang = true);
    // The guard itself hangs in its own attempt to lock.
    fake.wait(|behaviour| behaviour.inside);
    heart.beat();
    assert!(guarded.unlock().is_err());
    fake.set(|behaviour| behaviour.hang = false);
    assert_eq!(next(&trips), trip(Why::TooLong));
    sleep(MS * 200);
    assert_eq!(fake.done(), [Unlocked, Locked]);
    guarded.unlock().unwrap();
    assert_eq!(fake.done(), [Unlocked, Locked, Unlocked], "once it answers again, it obeys again");
}

#[test]
fn a_question_that_hangs_locks_as_well() {
    let (fake, mut guarded, _, trips) = guarded(Limits { answer: MS * 50, ..LIMITS });
    guarded.unlock().unwrap();
    fake.set(|behaviour| behaviour.hang = true);
    assert!(guarded.position().is_err());
    fake.set(|behaviour| behaviour.hang = false);
    assert_eq!((next(&trips), fake.done()), (trip(Why::GivenUp), vec![Unlocked, Locked]));
}

#[test]
fn a_latch_that_fails_is_tried_again_and_nothing_unlocks_meanwhile() {
    let (fake, mut guarded, heart, trips) = guarded(Limits { beat: MS * 300, ..LIMITS });
    heart.beat();
    guarded.unlock().unwrap();
    fake.set(|behaviour| behaviour.fail = true);
    let first = next(&trips);
    assert!(first.why == Why::NoBeat && first.failed.as_ref().is_some_and(|text| text.contains("told to fail")), "{first}");
    sleep(RETRY * 3);
    assert!(trips.try_recv().is_err(), "one report for many attempts");
    heart.beat();
    let error = guarded.unlock().unwrap_err().to_string();
    assert!(error.contains("on its way to locked"), "{error}");
    fake.set(|behaviour| behaviour.fail = false);
    assert_eq!((next(&trips), fake.done()), (trip(Why::NoBeat), vec![Unlocked, Locked]));
}

#[test]
fn a_panic_of_the_driver_is_an_error_and_the_guard_lives_on() {
    let (fake, mut guarded, _, trips) = guarded(Limits { longest_unlocked: MS * 100, ..LIMITS });
    guarded.unlock().unwrap();
    fake.set(|behaviour| behaviour.panic = true);
    assert!(guarded.lock().unwrap_err().to_string().contains("panicked"));
    assert!(next(&trips).failed.is_some());
    fake.set(|behaviour| behaviour.panic = false);
    assert_eq!((next(&trips), fake.done()), (trip(Why::TooLong), vec![Unlocked, Locked]));
}

#[test]
fn unlocked_may_be_the_safe_position() {
    let limits = Limits { safe: Unlocked, longest_unlocked: MS * 20, beat: MS * 400, answer: LONG };
    let (fake, mut guarded, heart, trips) = guarded(limits);
    heart.beat();
    guarded.unlock().unwrap();
    sleep(MS * 800);
    assert_eq!(fake.done(), [Unlocked], "no limit, no beats");
    assert!(guarded.lock().is_err(), "nobody turns over");
    heart.beat();
    guarded.lock().unwrap();
    assert_eq!(next(&trips), Trip { why: Why::NoBeat, to: Unlocked, failed: None });
    heart.beat();
    guarded.lock().unwrap();
    drop(guarded);
    assert_eq!(fake.done(), [Unlocked, Locked, Unlocked, Locked, Unlocked]);
}
