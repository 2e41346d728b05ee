//! Scenarios as tables: what happens, and the timeline that follows.

use jiff::civil::date;

use super::*;

fn at(seconds: f64) -> Monotonic {
    Monotonic::new(Duration::from_secs_f64(seconds))
}

fn today() -> Date {
    date(2026, 3, 28)
}

fn request(decision: u64, portions: u32) -> Event {
    Event::Request(Request { decision, rule: "milo eats".into(), pet: Some("milo".into()), portions, day: today() })
}

fn ledger(next_id: u64, count: u32, unsettled: &[u64]) -> Event {
    Event::Restored(Ledger { next_id, counts: vec![(today(), count)], unsettled: unsettled.to_vec() })
}

const READY: Event = Event::Cleared(Fault::Starting);

/// One line of a timeline, `12.5 ready`.
fn lines(step: &Step, now: Monotonic) -> Vec<String> {
    let line = |what: String| format!("{} {what}", now.since_start().as_secs_f64());
    let actions = step.actions.iter().map(|action| match action {
        Action::Reserve(reservation) => format!("RESERVE {}", reservation.id),
        Action::Dispense { id } => format!("DISPENSE {id}"),
        Action::Settle { id, outcome } => format!("settle {id} {}", outcome.name()),
        Action::Raised(fault) => format!("fault {}", fault.name()),
        Action::Cleared(fault) => format!("over {}", fault.name()),
        Action::Changed { to, .. } => to.name().into(),
    });
    let refused = step.refused.map(|refused| format!("refused: {refused}"));
    actions.chain(refused).map(line).collect()
}

/// Plays `events` to `state`, with a tick at each deadline until `end`, and returns the timeline and the state.
fn play_from(settings: &Settings, mut state: State, events: &[(f64, Event)], end: f64) -> (Vec<String>, State) {
    let (mut deadline, mut log) = (None, vec![]);
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

/// From a feeder that is ready, with an empty ledger.
#[track_caller]
fn scenario(events: &[(f64, Event)], end: f64, expected: &[&str]) {
    let settings = Settings::default();
    let (_, ready) = play_from(&settings, State::new(), &[(0.0, ledger(100, 0, &[])), (0.0, READY)], 0.0);
    assert_eq!(ready.name(), "ready");
    let (log, _) = play_from(&settings, ready, events, end);
    assert_eq!(log, expected, "events: {events:#?}");
}

#[test]
fn without_a_ledger_nothing_is_given() {
    let settings = Settings::default();
    let events = [
        (0.0, READY),
        (10.0, request(1, 1)),
        (11.0, Event::Cleared(Fault::Ledger)),
        (12.0, request(1, 1)),
        (13.0, ledger(7, 3, &[5, 6])),
        (14.0, request(1, 1)),
        (19.0, request(1, 1)),
    ];
    let expected = [
        "0 over starting",
        "0 fault",
        "10 refused: the ledger cannot be written",
        "12 refused: the ledger cannot be written",
        "13 settle 5 unknown",
        "13 settle 6 unknown",
        "13 over ledger",
        "13 ready",
        "14 refused: the last portion was a moment ago",
        "19 RESERVE 7",
        "19 reserving",
    ];
    let (log, state) = play_from(&settings, State::new(), &events, 20.0);
    assert_eq!(log, expected);
    assert_eq!(state.count(today()), 4);
}

#[test]
fn portions_one_by_one() {
    let events = [
        (10.0, request(1, 2)),
        (10.1, Event::Reserved(100)),
        (12.0, Event::Dispensed(100)),
        (15.2, Event::Reserved(101)),
        (16.0, Event::Dispensed(101)),
    ];
    let expected = [
        "10 RESERVE 100",
        "10 reserving",
        "10.1 DISPENSE 100",
        "10.1 dispensing",
        "12 settle 100 given",
        "12 pausing",
        "15.1 RESERVE 101",
        "15.1 reserving",
        "15.2 DISPENSE 101",
        "15.2 dispensing",
        "16 settle 101 given",
        "16 ready",
    ];
    scenario(&events, 100.0, &expected);
}

#[test]
fn late_repeated_and_foreign_answers_change_nothing() {
    let events = [
        (10.0, Event::Reserved(100)),
        (10.5, Event::Dispensed(100)),
        (11.0, request(1, 1)),
        (11.1, Event::Reserved(99)),
        (11.2, Event::Dispensed(100)),
        (11.3, Event::Reserved(100)),
        (11.4, Event::Reserved(100)),
        (11.5, Event::Dispensed(101)),
        (12.0, Event::Dispensed(100)),
        (12.1, Event::Dispensed(100)),
        (12.2, Event::Failed(100)),
        (12.3, Event::Reserved(100)),
    ];
    let expected =
        ["11 RESERVE 100", "11 reserving", "11.3 DISPENSE 100", "11.3 dispensing", "12 settle 100 given", "12 ready"];
    scenario(&events, 100.0, &expected);
}

#[test]
fn one_request_a_visit_and_a_decision() {
    let events = [
        (10.0, request(5, 1)),
        (10.1, request(6, 1)),
        (10.2, Event::Reserved(100)),
        (11.0, Event::Dispensed(100)),
        (30.0, request(6, 1)),
        (31.0, Event::Nobody),
        (32.0, request(5, 1)),
        (33.0, request(4, 1)),
        (34.0, request(7, 0)),
        (35.0, request(7, 1)),
    ];
    let expected = [
        "10 RESERVE 100",
        "10 reserving",
        "10.1 refused: a portion is on its way",
        "10.2 DISPENSE 100",
        "10.2 dispensing",
        "11 settle 100 given",
        "11 ready",
        "30 refused: this visit had its portions",
        "32 refused: this decision was carried out before",
        "33 refused: this decision was carried out before",
        "34 refused: no portions were asked for",
        "35 RESERVE 101",
        "35 reserving",
    ];
    scenario(&events, 36.0, &expected);
}

#[test]
fn the_day_is_full() {
    let settings = Settings { max_per_day: 3, ..Settings::default() };
    let events = [
        (0.0, READY),
        (0.0, ledger(100, 1, &[])),
        (10.0, request(1, 9)),
        (10.0, Event::Reserved(100)),
        (11.0, Event::Dispensed(100)),
        (15.0, Event::Reserved(101)),
        (16.0, Event::Dispensed(101)),
        (21.0, Event::Nobody),
        (40.0, request(2, 1)),
        (41.0, Event::Request(Request { decision: 3, rule: String::new(), pet: None, portions: 1, day: date(2026, 3, 29) })),
        (41.1, Event::LedgerFailed),
    ];
    let expected = [
        "10 RESERVE 100",
        "10 reserving",
        "10 DISPENSE 100",
        "10 dispensing",
        "11 settle 100 given",
        "11 pausing",
        "15 RESERVE 101",
        "15 reserving",
        "15 DISPENSE 101",
        "15 dispensing",
        "16 settle 101 given",
        "16 pausing",
        "20 ready",
        "40 refused: the day's portions are given",
        "41 RESERVE 102",
        "41 reserving",
        "41.1 fault ledger",
        "41.1 fault",
    ];
    let (log, _) = play_from(&settings, State::new(), &events, 50.0);
    assert_eq!(log[4..], expected);
}

#[test]
fn another_animal_gets_nothing() {
    let events = [
        (10.0, request(1, 3)),
        (10.1, Event::Reserved(100)),
        (10.5, Event::Deny),
        (12.0, Event::Dispensed(100)),
        (20.0, Event::Nobody),
        (21.0, request(2, 1)),
        (21.1, Event::Deny),
        (21.2, Event::Reserved(101)),
        (21.3, Event::Reserved(101)),
    ];
    let expected = [
        "10 RESERVE 100",
        "10 reserving",
        "10.1 DISPENSE 100",
        "10.1 dispensing",
        "12 settle 100 given",
        "12 ready",
        "21 RESERVE 101",
        "21 reserving",
        "21.1 ready",
        "21.2 settle 101 not given",
    ];
    scenario(&events, 100.0, &expected);
}

#[test]
fn a_reservation_that_was_not_given_counts_for_no_quota() {
    let settings = Settings::default();
    let start = [(0.0, READY), (0.0, ledger(100, 0, &[])), (10.0, request(1, 1)), (10.1, Event::Deny)];
    let (_, state) = play_from(&settings, State::new(), &start, 10.2);
    assert_eq!(state.count(today()), 1);
    let (_, state) = play_from(&settings, state, &[(10.3, Event::Reserved(100))], 10.4);
    assert_eq!(state.count(today()), 0);
}

#[test]
fn a_jam_ends_the_meal() {
    let answers = [
        (Event::Failed(100), 12.0, ["12 settle 100 unknown", "12 fault dispenser", "12 fault"]),
        (Event::Tick, 12.0, ["20.1 settle 100 unknown", "20.1 fault dispenser", "20.1 fault"]),
    ];
    for (answer, time, told) in answers {
        let events = [
            (10.0, request(1, 3)),
            (10.1, Event::Reserved(100)),
            (time, answer),
            (30.0, Event::Dispensed(100)),
            (31.0, Event::Nobody),
            (32.0, request(2, 1)),
            (40.0, Event::Cleared(Fault::Dispenser)),
            (41.0, request(2, 1)),
        ];
        let mut expected = vec!["10 RESERVE 100", "10 reserving", "10.1 DISPENSE 100", "10.1 dispensing"];
        expected.extend(told);
        expected.extend(["32 refused: the dispenser failed or did not answer", "40 over dispenser", "40 ready"]);
        expected.extend(["41 RESERVE 101", "41 reserving"]);
        scenario(&events, 42.0, &expected);
    }
}

#[test]
fn a_ledger_that_is_late_is_a_fault() {
    let events = [
        (10.0, request(1, 2)),
        (20.0, Event::Reserved(100)),
        (21.0, Event::Reserved(100)),
        (30.0, Event::Cleared(Fault::Ledger)),
        (31.0, Event::Nobody),
        (32.0, request(2, 1)),
        (33.0, ledger(90, 1, &[100])),
        (34.0, request(2, 1)),
    ];
    let expected = [
        "10 RESERVE 100",
        "10 reserving",
        "20 fault ledger",
        "20 fault",
        "20 settle 100 not given",
        "32 refused: the ledger cannot be written",
        "33 settle 100 unknown",
        "33 over ledger",
        "33 ready",
        "34 RESERVE 101",
        "34 reserving",
    ];
    scenario(&events, 35.0, &expected);
}

#[test]
fn a_fault_or_the_end_stops_the_meal_but_not_the_portion() {
    let cases = [
        (
            Event::Fault(Fault::Camera),
            vec!["12 fault camera", "13 settle 100 given", "13 fault"],
            "14 refused: no usable pictures from the camera",
        ),
        (Event::Stop, vec!["13 settle 100 given", "13 stopped"], "14 refused: pawgate ends"),
        (
            Event::LedgerFailed,
            vec!["12 fault ledger", "13 settle 100 given", "13 fault"],
            "14 refused: the ledger cannot be written",
        ),
    ];
    for (event, told, refused) in cases {
        let events = [
            (10.0, request(1, 3)),
            (10.1, Event::Reserved(100)),
            (12.0, event),
            (13.0, Event::Dispensed(100)),
            (13.5, Event::Nobody),
            (14.0, request(2, 1)),
        ];
        let mut expected = vec!["10 RESERVE 100", "10 reserving", "10.1 DISPENSE 100", "10.1 dispensing"];
        expected.extend(told);
        expected.push(refused);
        scenario(&events, 100.0, &expected);
    }
}

#[test]
fn a_ledger_that_is_read_again_takes_nothing_back() {
    let events = [
        (10.0, request(1, 1)),
        (10.1, Event::Reserved(100)),
        (11.0, ledger(0, 0, &[100])),
        (12.0, Event::Dispensed(100)),
        (20.0, Event::Nobody),
        (21.0, request(2, 1)),
        (21.1, Event::Deny),
        (21.2, Event::Reserved(7)),
        (21.3, ledger(0, 0, &[101])),
        (21.4, Event::Reserved(101)),
    ];
    let expected = [
        "10 RESERVE 100",
        "10 reserving",
        "10.1 DISPENSE 100",
        "10.1 dispensing",
        "12 settle 100 given",
        "12 ready",
        "21 RESERVE 101",
        "21 reserving",
        "21.1 ready",
        "21.3 settle 101 unknown",
    ];
    scenario(&events, 100.0, &expected);
    let settings = Settings::default();
    let (_, state) = play_from(&settings, State::new(), &[(0.0, ledger(0, 5, &[])), (1.0, ledger(0, 2, &[]))], 2.0);
    assert_eq!(state.count(today()), 5);
}

#[test]
fn numbers_that_run_out_are_a_fault() {
    let settings = Settings::default();
    let events = [(0.0, READY), (0.0, ledger(u64::MAX, 0, &[])), (10.0, request(1, 1))];
    let (log, _) = play_from(&settings, State::new(), &events, 20.0);
    assert_eq!(log[log.len() - 2..], ["10 fault ledger", "10 fault"]);
}

#[test]
fn time_that_goes_back_stands_still() {
    let settings = Settings::default();
    let start = [(0.0, READY), (0.0, ledger(100, 0, &[])), (10.0, request(1, 1))];
    let (_, state) = play_from(&settings, State::new(), &start, 10.0);
    let back = step(&settings, &state, &Event::Tick, at(1.0));
    assert_eq!((back.state.seen, back.deadline), (at(10.0), Some(at(20.0))));
}
