//! Scenarios as tables: what happens, and the timeline that follows.

use super::*;

const CAT: &str = "cats";

fn at(seconds: f64) -> Monotonic {
    Monotonic::new(Duration::from_secs_f64(seconds))
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// An allow that rests on frames since `since`.
fn allow(since: f64) -> Event {
    Event::Allow(Grant { decision: 7, rule: CAT.into(), since: at(since) })
}

fn deny() -> Event {
    Event::Deny { decision: 8, rule: None }
}

const BEAM: Event = Event::Obstructed(Sensor::Beam);
const FREE: Event = Event::Free(Sensor::Beam);
const READY: Event = Event::Cleared(Fault::Starting);
const IS_LOCKED: Event = Event::Position(Position::Locked);
const IS_UNLOCKED: Event = Event::Position(Position::Unlocked);

fn with_exit() -> Settings {
    Settings { exit: Exit::Always, ..Settings::default() }
}

/// One line of a timeline, `12.5 open`.
fn lines(step: &Step, now: Monotonic) -> Vec<String> {
    let line = |what: String| format!("{} {what}", now.since_start().as_secs_f64());
    let actions = step.actions.iter().map(|action| match action {
        Action::Unlock => "UNLOCK".into(),
        Action::Lock => "LOCK".into(),
        Action::Raised(fault) => format!("fault {}", fault.name()),
        Action::Cleared(fault) => format!("over {}", fault.name()),
        Action::Changed { to, .. } => to.name().into(),
    });
    let refused = step.refused.map(|refused| format!("refused: {refused}"));
    actions.chain(refused).map(line).collect()
}

/// Plays `events` to a new door, with a tick at each deadline until `end`, and returns the timeline after the start and the state.
fn play(settings: &Settings, events: &[(f64, Event)], end: f64) -> (Vec<String>, State) {
    let first = step(settings, &State::new(), &READY, at(0.0));
    let (mut state, mut deadline, mut log) = (first.state, first.deadline, vec![]);
    let last = [(end, Event::Tick)];
    for (time, event) in events.iter().chain(&last) {
        while let Some(due) = deadline.filter(|&due| due < at(*time)) {
            let next = step(settings, &state, &Event::Tick, due);
            log.extend(lines(&next, due));
            assert!(next.deadline.is_none_or(|next| next > due), "it would spin at {due:?}");
            (state, deadline) = (next.state, next.deadline);
        }
        let next = step(settings, &state, event, at(*time));
        log.extend(lines(&next, at(*time)));
        (state, deadline) = (next.state, next.deadline);
    }
    (log, state)
}

#[track_caller]
fn scenario(settings: &Settings, events: &[(f64, Event)], end: f64, expected: &[&str]) {
    let (log, _) = play(settings, events, end);
    assert_eq!(log, expected, "events: {events:#?}");
}

#[test]
fn it_starts_locked_and_deaf() {
    let settings = Settings::default();
    let first = step(&settings, &State::new(), &allow(0.0), at(0.0));
    assert_eq!(lines(&first, at(0.0)), ["0 LOCK", "0 refused: not everything runs yet"]);
    assert_eq!((first.state.name(), first.deadline), ("starting", None));
    let ready = step(&settings, &first.state, &READY, at(3.0));
    assert_eq!(lines(&ready, at(3.0)), ["3 over starting", "3 locked"]);
    assert_eq!(ready.state.not_before(), at(3.0));
}

#[test]
fn one_cat_passes() {
    let events = [(2.0, allow(1.0)), (4.0, BEAM), (5.0, FREE), (6.0, Event::Nobody)];
    scenario(&Settings::default(), &events, 60.0, &["2 UNLOCK", "2 open", "5 LOCK", "5 locked"]);
}

#[test]
fn one_cat_changes_its_mind() {
    let events = [(2.0, allow(1.0)), (4.0, Event::Nobody)];
    scenario(&Settings::default(), &events, 60.0, &["2 UNLOCK", "2 open", "10 LOCK", "10 locked"]);
}

/// The config asks for a second at least; the state machine does not rely on that.
#[test]
fn open_for_no_time_it_locks_in_the_same_step() {
    let settings = Settings { open_for: Duration::ZERO, min_interval: Duration::ZERO, ..Settings::default() };
    let expected = ["2 UNLOCK", "2 LOCK"];
    scenario(&settings, &[(2.0, allow(1.0)), (3.0, Event::Nobody)], 60.0, &expected);
}

#[test]
fn the_record_names_decision_and_rule() {
    let (_, open) = play(&Settings::default(), &[(2.0, allow(1.0))], 3.0);
    let Action::Changed { because, .. } = &step(&Settings::default(), &open, &deny(), at(4.0)).actions[1] else { panic!() };
    assert_eq!(because.to_string(), "no rule allows it (decision 8)");
    assert_eq!(open.because.to_string(), "rule \"cats\" allows it (decision 7)");
}

#[test]
fn tailgating() {
    let events = [
        (2.0, allow(1.0)),
        (3.0, BEAM),
        (4.0, FREE),
        (4.1, BEAM),
        (4.2, allow(3.5)),
        (5.5, allow(4.0)),
        (7.0, allow(6.0)),
        (8.0, Event::Nobody),
        (9.0, allow(3.9)),
        (9.1, allow(8.5)),
    ];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "4 LOCK",
        "4 locked",
        "4.2 refused: the door has opened once for this visit",
        "5.5 refused: the door has opened once for this visit",
        "7 refused: the door has opened once for this visit",
        "9 refused: it rests on frames from before the door was locked",
        "9.1 UNLOCK",
        "9.1 open",
    ];
    scenario(&Settings::default(), &events, 9.2, &expected);
}

#[test]
fn a_raccoon_behind_the_cat() {
    let events = [(2.0, allow(1.0)), (3.0, BEAM), (3.5, deny()), (4.5, FREE), (4.6, BEAM), (4.7, allow(4.6))];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "3.5 relocking",
        "4.5 LOCK",
        "4.5 locked",
        "4.7 refused: the door has opened once for this visit",
    ];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn one_who_is_seen_while_it_is_open_does_not_open_it_again() {
    let after_nobody = [(2.0, allow(1.0)), (3.0, Event::Nobody), (4.0, allow(3.5)), (11.0, allow(10.5))];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "4 refused: the door is open already",
        "10 LOCK",
        "10 locked",
        "11 refused: the door has opened once for this visit",
    ];
    scenario(&Settings::default(), &after_nobody, 60.0, &expected);
    let left = [(2.0, Event::ExitRequest), (3.0, allow(2.5)), (8.0, allow(7.5)), (9.0, Event::Nobody), (10.0, allow(9.5))];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "3 refused: the door is open already",
        "7 LOCK",
        "7 locked",
        "8 refused: the door has opened once for this visit",
        "10 UNLOCK",
        "10 open",
    ];
    scenario(&with_exit(), &left, 10.1, &expected);
    let denied = [(2.0, Event::ExitRequest), (3.0, deny()), (5.0, allow(4.0))];
    let expected = ["2 UNLOCK", "2 open", "3 LOCK", "3 locked", "5 refused: the door has opened once for this visit"];
    scenario(&with_exit(), &denied, 60.0, &expected);
}

#[test]
fn a_pet_that_stays_in_the_opening() {
    let events =
        [(2.0, allow(1.0)), (3.0, BEAM), (12.0, allow(11.0)), (40.0, FREE), (41.0, Event::Nobody), (42.0, allow(41.0))];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "10 relocking",
        "12 refused: the door is about to lock",
        "32 fault obstructed",
        "32 LOCK",
        "32 fault",
        "40 over obstructed",
        "40 locked",
        "42 UNLOCK",
        "42 open",
    ];
    scenario(&Settings::default(), &events, 42.5, &expected);
}

#[test]
fn it_locks_the_first_moment_the_opening_is_free() {
    let both = Event::Obstructed(Sensor::Camera);
    let free = Event::Free(Sensor::Camera);
    let events =
        [(2.0, allow(1.0)), (9.0, BEAM), (9.5, both), (11.0, FREE), (12.0, free), (12.001, BEAM), (12.002, allow(12.0))];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "10 relocking",
        "12 LOCK",
        "12 locked",
        "12.002 refused: the door has opened once for this visit",
    ];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn once_due_the_lock_waits_for_the_interval_only() {
    let settings = Settings { min_interval: secs(3.0), ..Settings::default() };
    let events = [(4.0, allow(1.0)), (5.0, Event::Passed), (5.1, BEAM), (5.2, allow(5.0))];
    let expected = ["4 UNLOCK", "4 open", "5 relocking", "5.2 refused: the door is about to lock", "7 LOCK", "7 locked"];
    scenario(&settings, &events, 60.0, &expected);
}

#[test]
fn the_interval_gives_way_to_the_limit() {
    let settings = Settings { min_interval: secs(100.0), ..Settings::default() };
    let events = [(40.0, allow(1.0)), (41.0, Event::Passed)];
    scenario(&settings, &events, 200.0, &["40 UNLOCK", "40 open", "41 relocking", "70 LOCK", "70 locked"]);
}

#[test]
fn wind_opens_the_flap() {
    let gusts = [(1.0, BEAM), (1.1, FREE), (1.2, Event::Passed), (1.3, BEAM), (1.4, FREE)];
    scenario(&with_exit(), &gusts, 60.0, &[]);
    let events = [(2.0, allow(1.0)), (3.5, BEAM), (3.6, FREE), (5.0, BEAM), (5.1, FREE), (6.0, allow(5.0))];
    let expected = ["2 UNLOCK", "2 open", "3.6 LOCK", "3.6 locked", "6 refused: the door has opened once for this visit"];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn button_hammering() {
    let events: Vec<_> = (0..100).map(|n| (2.0 + f64::from(n) * 0.125, Event::ExitRequest)).collect();
    let (log, _) = play(&with_exit(), &events, 60.0);
    let moves: Vec<_> = log.iter().filter(|line| line.contains("LOCK")).collect();
    assert_eq!(moves, ["2 UNLOCK", "7 LOCK", "8 UNLOCK", "13 LOCK", "14 UNLOCK", "19 LOCK"]);
    assert!(log.iter().any(|line| line.ends_with("refused: the latch moved a moment ago")));
}

#[test]
fn exit_has_a_policy_of_its_own() {
    scenario(&Settings::default(), &[(2.0, Event::ExitRequest)], 60.0, &["2 refused: nobody may leave"]);
    let fault = [(2.0, Event::Fault(Fault::Camera)), (3.0, Event::ExitRequest)];
    let expected = ["2 fault camera", "2 fault", "3 refused: no usable pictures from the camera"];
    scenario(&with_exit(), &fault, 60.0, &expected);
    let denied = [(2.0, deny()), (3.0, Event::ExitRequest), (4.0, Event::Nobody), (5.0, Event::ExitRequest)];
    let expected = ["3 refused: somebody stands outside whom the rules deny", "5 UNLOCK", "5 open", "10 LOCK", "10 locked"];
    scenario(&with_exit(), &denied, 60.0, &expected);
    let extends = [(2.0, allow(1.0)), (9.0, Event::ExitRequest)];
    let expected = ["2 UNLOCK", "2 open", "9 refused: the door is open already", "10 LOCK", "10 locked"];
    scenario(&with_exit(), &extends, 60.0, &expected);
    let denied_while_open = [(2.0, Event::ExitRequest), (4.0, deny())];
    scenario(&with_exit(), &denied_while_open, 60.0, &["2 UNLOCK", "2 open", "4 LOCK", "4 locked"]);
}

#[test]
fn allow_flood() {
    let events: Vec<_> = (0..2000).map(|n| (2.0 + f64::from(n) * 0.025, allow(1.9 + f64::from(n) * 0.025))).collect();
    let (log, _) = play(&Settings::default(), &events, 100.0);
    let moves: Vec<_> = log.iter().filter(|line| !line.contains("refused")).collect();
    assert_eq!(moves, ["2 UNLOCK", "2 open", "10 LOCK", "10 locked"]);
}

#[test]
fn fault_while_open() {
    let events = [
        (2.0, allow(1.0)),
        (2.5, Event::Fault(Fault::Camera)),
        (5.0, allow(4.0)),
        (6.0, Event::Cleared(Fault::Camera)),
        (7.0, Event::Nobody),
        (8.0, allow(5.5)),
        (9.0, allow(6.0)),
    ];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "2.5 fault camera",
        "2.5 fault",
        "3 LOCK",
        "5 refused: no usable pictures from the camera",
        "6 over camera",
        "6 locked",
        "8 refused: it rests on frames from before the door was locked",
        "9 UNLOCK",
        "9 open",
    ];
    scenario(&Settings::default(), &events, 9.5, &expected);
}

#[test]
fn a_fault_waits_for_the_opening_but_not_for_ever() {
    let events = [(2.0, allow(1.0)), (3.0, BEAM), (4.0, Event::Fault(Fault::Service))];
    let free = [&events[..], &[(6.0, FREE)]].concat();
    let expected = ["2 UNLOCK", "2 open", "4 fault service", "4 fault", "6 LOCK"];
    scenario(&Settings::default(), &free, 60.0, &expected);
    let expected = ["2 UNLOCK", "2 open", "4 fault service", "4 fault", "32 fault obstructed", "32 LOCK"];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn all_faults_must_be_over() {
    let events = [
        (2.0, Event::Fault(Fault::Camera)),
        (3.0, Event::Fault(Fault::Clock)),
        (4.0, Event::Cleared(Fault::Camera)),
        (5.0, allow(4.5)),
        (6.0, Event::Cleared(Fault::Clock)),
        (7.0, allow(6.5)),
    ];
    let expected = [
        "2 fault camera",
        "2 fault",
        "3 fault clock",
        "4 over camera",
        "5 refused: the clock jumped or stands still",
        "6 over clock",
        "6 locked",
        "7 UNLOCK",
        "7 open",
    ];
    scenario(&Settings::default(), &events, 7.5, &expected);
}

#[test]
fn stop_while_open() {
    let events =
        [(2.0, allow(1.0)), (2.25, BEAM), (2.5, Event::Stop), (4.0, allow(3.5)), (5.0, Event::OverrideUnlock(secs(9.0)))];
    let expected =
        ["2 UNLOCK", "2 open", "2.5 relocking", "3 LOCK", "3 locked", "4 refused: pawgate ends", "5 refused: pawgate ends"];
    let (log, state) = play(&Settings::default(), &events, 60.0);
    assert_eq!(log, expected);
    assert_eq!(step(&Settings::default(), &state, &Event::Tick, at(61.0)).deadline, None);
}

#[test]
fn the_clock_stands_still_or_goes_back() {
    let settings = Settings::default();
    let (_, mut state) = play(&settings, &[(2.0, allow(1.0))], 3.0);
    for event in [Event::Tick, BEAM, allow(3.0), FREE, Event::Nobody, allow(3.0), deny(), Event::Tick] {
        let next = step(&settings, &state, &event, at(3.0));
        assert!(!next.actions.contains(&Action::Unlock), "{event:?}");
        state = next.state;
    }
    assert_eq!(state.name(), "locked");
    let back = step(&settings, &state, &allow(0.5), at(1.0));
    assert_eq!((back.refused, back.state.seen), (Some(Refused::OldFrames), at(3.0)));
    let open = play(&settings, &[(2.0, allow(1.0))], 3.0).1;
    let back = step(&settings, &open, &Event::Tick, at(0.0));
    assert_eq!(back.deadline, Some(at(10.0)));
}

#[test]
fn frames_from_the_future_do_not_open() {
    let expected = ["2 refused: it rests on frames from before the door was locked"];
    scenario(&Settings::default(), &[(2.0, allow(2.5))], 60.0, &expected);
}

#[test]
fn an_override_unlocks_and_ends() {
    let events = [
        (2.0, Event::OverrideUnlock(secs(60.0))),
        (3.0, deny()),
        (4.0, BEAM),
        (5.0, FREE),
        (6.0, allow(5.5)),
        (30.0, Event::OverrideEnd),
        (31.0, Event::Nobody),
        (32.0, allow(31.5)),
    ];
    let expected = [
        "2 UNLOCK",
        "2 override unlocked",
        "6 refused: a person's command holds",
        "30 LOCK",
        "30 locked",
        "32 UNLOCK",
        "32 open",
    ];
    scenario(&Settings::default(), &events, 33.0, &expected);
}

#[test]
fn an_override_keeps_the_interval() {
    let events = [(2.0, allow(1.0)), (4.0, Event::Passed), (4.5, Event::OverrideUnlock(secs(9.0)))];
    let expected = ["2 UNLOCK", "2 open", "4 LOCK", "4 locked", "4.5 refused: the latch moved a moment ago"];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn an_override_has_a_limit() {
    let events: Vec<_> = (0..60).map(|n| (2.0 + f64::from(n) * 10.0, Event::OverrideUnlock(secs(1e6)))).collect();
    let (log, _) = play(&Settings::default(), &events, 605.0);
    assert_eq!(log, ["2 UNLOCK", "2 override unlocked", "602 LOCK", "602 locked"]);
    let stays = [(2.0, Event::OverrideUnlock(secs(1e6))), (600.0, BEAM)];
    let expected = ["2 UNLOCK", "2 override unlocked", "602 fault obstructed", "602 LOCK", "602 fault"];
    scenario(&Settings::default(), &stays, 700.0, &expected);
    let short = [(2.0, Event::OverrideUnlock(secs(5.0))), (6.0, BEAM)];
    let expected = ["2 UNLOCK", "2 override unlocked", "7 relocking", "37 fault obstructed", "37 LOCK", "37 fault"];
    scenario(&Settings::default(), &short, 700.0, &expected);
}

#[test]
fn an_override_takes_over_an_open_door() {
    let events = [(2.0, allow(1.0)), (3.0, Event::OverrideUnlock(secs(20.0))), (4.0, Event::Passed)];
    scenario(&Settings::default(), &events, 60.0, &["2 UNLOCK", "2 open", "3 override unlocked", "23 LOCK", "23 locked"]);
}

#[test]
fn taking_over_has_the_same_limit_and_stops_no_closing() {
    let endless = [(2.0, allow(1.0)), (3.0, Event::OverrideUnlock(secs(1e6)))];
    let expected = ["2 UNLOCK", "2 open", "3 override unlocked", "603 LOCK", "603 locked"];
    scenario(&Settings::default(), &endless, 700.0, &expected);
    let closing = [(2.0, allow(1.0)), (3.0, BEAM), (4.0, deny()), (5.0, Event::OverrideUnlock(secs(60.0))), (6.0, FREE)];
    let expected = ["2 UNLOCK", "2 open", "4 relocking", "5 refused: the door is about to lock", "6 LOCK", "6 locked"];
    scenario(&Settings::default(), &closing, 700.0, &expected);
}

#[test]
fn a_person_who_locks_beats_everybody() {
    let events = [
        (2.0, allow(1.0)),
        (4.0, Event::OverrideLock(secs(20.0))),
        (5.0, Event::Nobody),
        (6.0, allow(5.5)),
        (7.0, Event::ExitRequest),
        (8.0, Event::Fault(Fault::Camera)),
        (9.0, Event::OverrideUnlock(secs(9.0))),
        (10.0, Event::Cleared(Fault::Camera)),
        (11.0, allow(10.5)),
        (25.0, allow(23.0)),
        (26.0, allow(25.0)),
    ];
    let expected = [
        "2 UNLOCK",
        "2 open",
        "4 LOCK",
        "4 override locked",
        "6 refused: a person's command holds",
        "7 refused: a person's command holds",
        "8 fault camera",
        "8 fault",
        "9 refused: no usable pictures from the camera",
        "10 over camera",
        "10 override locked",
        "11 refused: a person's command holds",
        "24 locked",
        "25 refused: it rests on frames from before the door was locked",
        "26 UNLOCK",
        "26 open",
    ];
    scenario(&with_exit(), &events, 27.0, &expected);
    let ends = [(2.0, Event::OverrideLock(secs(1e9))), (3.0, Event::OverrideEnd), (4.0, Event::OverrideLock(secs(1e9)))];
    let expected = ["2 override locked", "3 locked", "4 override locked", "604 locked"];
    scenario(&Settings::default(), &ends, 700.0, &expected);
}

#[test]
fn a_fault_ends_an_unlock_by_hand() {
    let events = [
        (2.0, Event::OverrideUnlock(secs(300.0))),
        (10.0, Event::Fault(Fault::Classifier)),
        (11.0, Event::Cleared(Fault::Classifier)),
    ];
    let expected =
        ["2 UNLOCK", "2 override unlocked", "10 fault classifier", "10 LOCK", "10 fault", "11 over classifier", "11 locked"];
    scenario(&Settings::default(), &events, 700.0, &expected);
}

#[test]
fn a_latch_that_does_not_unlock() {
    let events = [(1.0, IS_LOCKED), (2.0, allow(1.0)), (5.0, IS_LOCKED)];
    let expected = ["2 UNLOCK", "2 unlocking", "4 fault jam", "4 LOCK", "4 over jam", "4 locked"];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn a_latch_that_does_not_lock() {
    let events = [(1.0, IS_LOCKED), (2.0, allow(1.0)), (3.0, IS_UNLOCKED), (4.0, Event::Passed), (30.0, IS_LOCKED)];
    let expected = [
        "2 UNLOCK",
        "2 unlocking",
        "3 open",
        "4 LOCK",
        "4 relocking",
        "6 fault jam",
        "6 LOCK",
        "6 fault",
        "10 LOCK",
        "18 LOCK",
        "30 over jam",
        "30 locked",
    ];
    scenario(&Settings::default(), &events, 60.0, &expected);
    let (log, _) = play(&Settings::default(), &events[..4], 600.0);
    assert_eq!(log[9..12], ["18 LOCK", "34 LOCK", "66 LOCK"]);
    assert_eq!(log[12], "126 LOCK", "never more than a minute apart");
}

#[test]
fn a_late_reading_is_not_a_late_latch() {
    let events = [(1.0, IS_LOCKED), (2.0, allow(1.0)), (4.0, IS_UNLOCKED)];
    scenario(&Settings::default(), &events, 4.5, &["2 UNLOCK", "2 unlocking", "4 open"]);
}

#[test]
fn a_latch_that_is_forced() {
    let events = [(1.0, IS_LOCKED), (10.0, IS_UNLOCKED), (11.0, allow(10.5)), (12.0, IS_LOCKED), (13.0, allow(11.0))];
    let expected = [
        "10 fault forced",
        "10 LOCK",
        "10 fault",
        "11 refused: the latch is unlocked although it was locked",
        "12 over forced",
        "12 locked",
        "13 refused: it rests on frames from before the door was locked",
    ];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn frames_count_from_the_arrival_of_the_bolt() {
    let events = [
        (1.0, IS_LOCKED),
        (2.0, allow(1.0)),
        (3.0, IS_UNLOCKED),
        (4.0, Event::Passed),
        (4.5, Event::Nobody),
        (5.5, IS_LOCKED),
        (6.0, allow(5.0)),
        (7.0, allow(5.5)),
    ];
    let expected = [
        "2 UNLOCK",
        "2 unlocking",
        "3 open",
        "4 LOCK",
        "4 relocking",
        "5.5 locked",
        "6 refused: it rests on frames from before the door was locked",
        "7 UNLOCK",
        "7 unlocking",
    ];
    scenario(&Settings::default(), &events, 8.0, &expected);
}

#[test]
fn a_driver_that_fails() {
    let events =
        [(2.0, allow(1.0)), (2.0, Event::CommandFailed), (3.0, Event::CommandFailed), (11.0, Event::Cleared(Fault::Latch))];
    let expected = ["2 UNLOCK", "2 open", "2 fault latch", "2 fault", "3 LOCK", "11 LOCK", "11 over latch", "11 locked"];
    scenario(&Settings::default(), &events, 60.0, &expected);
}

#[test]
fn a_failing_driver_is_not_hammered() {
    let settings = Settings { min_interval: Duration::ZERO, ..Settings::default() };
    for sensor in [None, Some(IS_LOCKED)] {
        let mut state = step(&settings, &State::new(), &READY, at(0.0)).state;
        if let Some(reading) = sensor {
            state = step(&settings, &state, &reading, at(0.5)).state;
        }
        let mut commands = 0;
        for _ in 0..100 {
            let next = step(&settings, &state, &Event::CommandFailed, at(1.0));
            commands += next.actions.iter().filter(|action| matches!(action, Action::Lock)).count();
            state = next.state;
        }
        assert!(commands <= 2, "{commands} commands at one moment");
    }
}

#[test]
fn a_safe_state_that_is_unlocked() {
    let settings = Settings { safe_state: SafeState::Unlocked, ..Settings::default() };
    let first = step(&settings, &State::new(), &Event::Tick, at(0.0));
    assert_eq!(lines(&first, at(0.0)), ["0 UNLOCK"]);
    let events = [
        (2.0, Event::Fault(Fault::Camera)),
        (50.0, BEAM),
        (51.0, Event::Cleared(Fault::Camera)),
        (53.0, FREE),
        (60.0, allow(59.0)),
        (61.0, BEAM),
        (100.0, FREE),
        (110.0, Event::Stop),
    ];
    let expected = [
        "1 LOCK",
        "1 locked",
        "2 fault camera",
        "2 UNLOCK",
        "2 fault",
        "51 over camera",
        "51 relocking",
        "53 LOCK",
        "53 locked",
        "60 UNLOCK",
        "60 open",
        "68 relocking",
        "90 fault obstructed",
        "90 LOCK",
        "90 fault",
        "100 over obstructed",
        "100 locked",
        "110 UNLOCK",
        "110 open",
    ];
    scenario(&settings, &events, 200.0, &expected);
}

#[test]
fn where_safe_is_unlocked_a_fault_ends_the_opening_too() {
    let settings = Settings { safe_state: SafeState::Unlocked, ..Settings::default() };
    let events = [(3.0, allow(2.0)), (4.0, Event::Fault(Fault::Camera)), (5.0, Event::Cleared(Fault::Camera))];
    let expected =
        ["1 LOCK", "1 locked", "3 UNLOCK", "3 open", "4 fault camera", "4 fault", "5 over camera", "5 LOCK", "5 locked"];
    scenario(&settings, &events, 60.0, &expected);
}

#[test]
fn a_jam_does_not_swing_between_two_positions() {
    let settings = Settings { safe_state: SafeState::Unlocked, ..Settings::default() };
    let events = [(0.5, IS_UNLOCKED), (10.0, IS_UNLOCKED), (20.0, IS_UNLOCKED), (30.0, Event::Cleared(Fault::Jam))];
    let expected = [
        "1 LOCK",
        "3 fault jam",
        "3 UNLOCK",
        "3 fault",
        "30 over jam",
        "30 LOCK",
        "30 relocking",
        "32 fault jam",
        "32 UNLOCK",
        "32 fault",
    ];
    scenario(&settings, &events, 200.0, &expected);
}
