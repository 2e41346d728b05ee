//! What must hold for any order of events: random sequences at random times, judged by what went in and what came out alone.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// An event before the times of the run are known.
#[derive(Debug, Clone)]
enum Seed {
    /// An allow whose frames reach so far back.
    Allow(Duration),
    /// An allow whose frames begin as early as they may.
    FreshAllow,
    Plain(Event),
}

/// One step that was taken.
#[derive(Debug)]
struct Taken {
    now: Monotonic,
    event: Event,
    before: State,
    step: Step,
}

impl Taken {
    fn moves(&self) -> impl Iterator<Item = Position> {
        self.step.actions.iter().filter_map(|action| match action {
            Action::Lock => Some(Position::Locked),
            Action::Unlock => Some(Position::Unlocked),
            _ => None,
        })
    }

    fn unlocks(&self) -> bool {
        self.moves().any(|position| position == Position::Unlocked)
    }

    fn locks(&self) -> bool {
        self.moves().any(|position| position == Position::Locked)
    }
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn fault() -> impl Strategy<Value = Fault> {
    prop::sample::select(Fault::ALL.to_vec())
}

fn sensor() -> impl Strategy<Value = Sensor> {
    prop_oneof![Just(Sensor::Beam), Just(Sensor::Camera)]
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![Just(Position::Locked), Just(Position::Unlocked)]
}

fn seed(sensed: bool) -> impl Strategy<Value = Seed> {
    let plain = prop_oneof![
        6 => Just(Event::Tick),
        4 => prop::option::of(Just("raccoons".to_string())).prop_map(|rule| Event::Deny { decision: 2, rule }),
        8 => Just(Event::Nobody),
        2 => Just(Event::Passed),
        6 => sensor().prop_map(Event::Obstructed),
        8 => sensor().prop_map(Event::Free),
        6 => Just(Event::ExitRequest),
        2 => millis(0..30_000).prop_map(Event::OverrideUnlock),
        1 => millis(0..30_000).prop_map(Event::OverrideLock),
        3 => Just(Event::OverrideEnd),
        1 => fault().prop_map(Event::Fault),
        8 => fault().prop_map(Event::Cleared),
        3 => position().prop_map(Event::Position),
        1 => Just(Event::CommandFailed),
    ];
    let plain = plain.prop_map(move |event| match event {
        Event::Position(_) | Event::CommandFailed if !sensed => Event::Tick,
        event => event,
    });
    prop_oneof![
        4 => millis(0..5_000).prop_map(Seed::Allow),
        6 => Just(Seed::FreshAllow),
        30 => plain.prop_map(Seed::Plain),
    ]
}

/// Gaps and events. Half of the runs see neither a position sensor nor a failing driver.
fn events() -> impl Strategy<Value = Vec<(Duration, Seed)>> {
    let gap = || prop_oneof![3 => millis(0..300), 3 => millis(0..3_000), 1 => millis(0..40_000)];
    let run = move |sensed| vec((gap(), seed(sensed)), 1..120);
    prop_oneof![run(false), run(true)]
}

fn settings(safe_state: SafeState) -> impl Strategy<Value = Settings> {
    let exit = prop_oneof![Just(Exit::Never), Just(Exit::Always)];
    let times = (millis(0..10_000), millis(0..6_000), millis(0..20_000), millis(0..4_000), millis(0..3_000), millis(0..40_000));
    (times, exit).prop_map(move |((open_for, exit_open_for, max_open, min_interval, travel, max_override), exit)| Settings {
        open_for,
        exit_open_for,
        max_open,
        min_interval,
        travel,
        safe_state,
        exit,
        max_override,
    })
}

/// Plays the events to a door that has started, with ticks at its deadlines, and on until nothing is due for a while.
fn play(settings: &Settings, events: &[(Duration, Seed)]) -> Vec<Taken> {
    let mut taken: Vec<Taken> = vec![];
    let mut take = |event: Event, now| {
        let before = taken.last().map_or_else(State::new, |last| last.step.state.clone());
        let step = step(settings, &before, &event, now);
        let deadline = step.deadline;
        taken.push(Taken { now, event, before, step });
        (deadline, taken[taken.len() - 1].step.state.not_before())
    };
    let mut now = Monotonic::new(Duration::from_secs(1));
    let (mut deadline, mut fresh) = take(Event::Cleared(Fault::Starting), now);
    let end = [(Duration::from_secs(120), Seed::Plain(Event::Tick))];
    for (gap, seed) in events.iter().chain(&end) {
        let next = now + *gap;
        while let Some(due) = deadline.filter(|&due| due <= next) {
            (deadline, fresh) = take(Event::Tick, due);
            assert!(deadline.is_none_or(|deadline| deadline > due), "it would spin at {due:?}");
        }
        now = next;
        let grant = |since| Event::Allow(Grant { decision: 1, rule: "cats".into(), since });
        let event = match seed {
            Seed::Allow(back) => grant(Monotonic::new(now.since_start().saturating_sub(*back))),
            Seed::FreshAllow => grant(fresh),
            Seed::Plain(event) => event.clone(),
        };
        (deadline, fresh) = take(event, now);
    }
    taken
}

fn interval(settings: &Settings) -> Duration {
    settings.min_interval.min(settings.max_open)
}

/// What the outside knows, gathered from events and actions alone.
#[derive(Default)]
struct Outside {
    unlocked: Option<Monotonic>,
    moved: Option<Monotonic>,
    obstructed: [bool; 2],
    /// When it should begin to close, and when it must be locked.
    soft: Monotonic,
    hard: Monotonic,
    by_hand: bool,
    held: Option<Monotonic>,
    denied: bool,
    /// Somebody was seen, or let in, since the last `Nobody` while the door was not locked.
    served: bool,
    faults: Vec<Fault>,
    cleared: Monotonic,
    locked: Monotonic,
    stopped: bool,
}

impl Outside {
    fn obstructed(&self) -> bool {
        self.obstructed.contains(&true)
    }

    /// Before the step's actions: what its event alone changes.
    fn hear(&mut self, settings: &Settings, taken: &Taken) {
        let now = taken.now;
        if self.held.is_some_and(|until| now >= until) {
            self.held = None;
        }
        match &taken.event {
            Event::Deny { .. } => {
                self.denied = true;
                self.served |= self.unlocked.is_some();
                self.close(now, settings, false);
            }
            Event::Allow(_) => {
                self.denied = false;
                self.served |= self.unlocked.is_some();
            }
            Event::Nobody => (self.denied, self.served) = (false, false),
            Event::Passed => self.close(now, settings, false),
            Event::Obstructed(sensor) => self.obstructed[*sensor as usize] = true,
            Event::Free(sensor) => {
                let was = self.obstructed();
                self.obstructed[*sensor as usize] = false;
                if was && !self.obstructed() {
                    self.close(now, settings, false);
                }
            }
            Event::OverrideLock(duration) => {
                self.held = Some(now + (*duration).min(settings.max_override));
                self.close(now, settings, true);
            }
            Event::OverrideEnd => {
                self.held = None;
                if self.by_hand {
                    self.close(now, settings, true);
                }
            }
            Event::Fault(_) | Event::CommandFailed => self.close(now, settings, true),
            Event::Stop => {
                self.stopped = true;
                (self.soft, self.hard) = (now, now);
            }
            _ => {}
        }
    }

    fn close(&mut self, now: Monotonic, settings: &Settings, by_hand_too: bool) {
        if now < self.soft && (by_hand_too || !self.by_hand) {
            self.soft = now;
            self.hard = self.hard.min(now + settings.max_open);
        }
    }

    /// After the step: its actions.
    fn see(&mut self, settings: &Settings, taken: &Taken) {
        let now = taken.now;
        for action in &taken.step.actions {
            match action {
                Action::Unlock => {
                    (self.unlocked, self.moved) = (Some(now), Some(now));
                    self.by_hand = matches!(taken.event, Event::OverrideUnlock(_));
                    self.served |= matches!(taken.event, Event::Allow(_));
                    let (soft, hard) = match taken.event {
                        Event::OverrideUnlock(duration) => (duration, settings.max_override),
                        Event::ExitRequest => (settings.exit_open_for, settings.max_open),
                        _ => (settings.open_for, settings.max_open),
                    };
                    (self.soft, self.hard) = (now + soft.min(hard), now + hard);
                }
                Action::Lock => {
                    (self.unlocked, self.moved, self.locked) = (None, Some(now), now);
                    self.by_hand = false;
                }
                Action::Raised(fault) => {
                    self.faults.push(*fault);
                    self.close(now, settings, true);
                }
                Action::Cleared(fault) => {
                    self.faults.retain(|other| other != fault);
                    self.cleared = now;
                }
                Action::Changed { .. } => {}
            }
        }
        let taken_over = !taken.unlocks() && taken.step.refused.is_none();
        if let (Event::OverrideUnlock(duration), true, Some(_)) = (&taken.event, taken_over, self.unlocked) {
            if !self.by_hand {
                self.hard = now + settings.max_override;
            }
            self.by_hand = true;
            self.soft = (now + (*duration).min(settings.max_override)).min(self.hard);
        }
    }
}

/// Every unlock has its reason, and no reason against it.
fn unlocks_with_reason(settings: &Settings, all: &[Taken]) -> Result<(), TestCaseError> {
    let mut outside = Outside { faults: vec![Fault::Starting], ..Outside::default() };
    for taken in all {
        let (served, locked) = (outside.served, outside.unlocked.is_none());
        outside.hear(settings, taken);
        if taken.unlocks() {
            prop_assert!(outside.faults.is_empty() && !outside.stopped, "unlocked in a fault or after the end");
            prop_assert!(locked, "unlocked twice");
            match &taken.event {
                Event::Allow(grant) => {
                    prop_assert!(!served, "opened twice for a visit");
                    prop_assert!(grant.since >= outside.locked, "old frames: the door was locked later");
                    prop_assert!(grant.since >= outside.cleared, "old frames: a fault ended later");
                    prop_assert!(grant.since <= taken.now, "frames from the future");
                    prop_assert!(outside.held.is_none(), "against a person who locked");
                }
                Event::ExitRequest => {
                    prop_assert_eq!(settings.exit, Exit::Always);
                    prop_assert!(!outside.denied, "exit with a denied animal outside");
                    prop_assert!(outside.held.is_none(), "against a person who locked");
                }
                Event::OverrideUnlock(_) => outside.held = None,
                other => prop_assert!(false, "unlocked by {:?}", other),
            }
        }
        outside.see(settings, taken);
    }
    Ok(())
}

/// An unlocked door has a reason to be: its time is not over, something is in the opening, or the latch has just moved.
fn locks_in_time(settings: &Settings, all: &[Taken]) -> Result<(), TestCaseError> {
    let mut outside = Outside::default();
    let mut free_since_due = false;
    for taken in all {
        outside.hear(settings, taken);
        outside.see(settings, taken);
        let (Some(since), Some(moved)) = (outside.unlocked, outside.moved) else {
            free_since_due = false;
            continue;
        };
        let due = taken.now >= outside.soft;
        free_since_due = due && (free_since_due || !outside.obstructed());
        let waits = outside.obstructed() && !free_since_due && taken.now < outside.hard;
        let rests = taken.now < moved + interval(settings);
        prop_assert!(!due || waits || rests, "open since {:?}, should have closed at {:?}", since, outside.soft);
        prop_assert!(taken.now < outside.hard || rests, "open since {:?}, beyond the limit {:?}", since, outside.hard);
    }
    prop_assert!(outside.unlocked.is_none(), "open at the end");
    Ok(())
}

/// From the unlocking to the lock, measured on the clock alone.
fn never_open_too_long(settings: &Settings, all: &[Taken]) -> Result<(), TestCaseError> {
    let mut until = None;
    for taken in all {
        if taken.locks() {
            prop_assert!(until.is_none_or(|until| taken.now <= until), "locked at {:?}, not by {:?}", taken.now, until);
            until = None;
        }
        let by_hand = matches!(taken.event, Event::OverrideUnlock(_));
        if taken.unlocks() {
            // One that opens for no time at all does both in a step, in the order of its actions.
            let limit = if by_hand { settings.max_override.max(interval(settings)) } else { settings.max_open };
            until = (taken.moves().last() == Some(Position::Unlocked)).then(|| taken.now + limit);
        } else if by_hand && taken.step.refused.is_none() && !matches!(taken.before.shown, Phase::OverrideUnlocked) {
            until = until.map(|until| until.max(taken.now + settings.max_override));
        }
        prop_assert!(until.is_none_or(|until| taken.now <= until), "still open at {:?}", taken.now);
    }
    Ok(())
}

fn movements_apart(settings: &Settings, all: &[Taken]) -> Result<(), TestCaseError> {
    let moves: Vec<_> = all.iter().flat_map(|taken| taken.moves().map(|_| taken.now)).collect();
    for pair in moves.windows(2) {
        prop_assert!(pair[1].since(pair[0]) >= interval(settings), "moved at {:?} and {:?}", pair[0], pair[1]);
    }
    Ok(())
}

/// While a fault stands, the latch is sent to the safe state, and nowhere else.
fn faults_end_safe(settings: &Settings, all: &[Taken]) -> Result<(), TestCaseError> {
    let mut outside = Outside { faults: vec![Fault::Starting], ..Outside::default() };
    let safe = settings.safe_state.position();
    let mut reading = None;
    for taken in all {
        outside.hear(settings, taken);
        outside.see(settings, taken);
        if let Event::Position(position) = taken.event {
            reading = Some(position);
        }
        if let Event::Fault(fault) = taken.event {
            let gone = fault == Fault::Obstructed && !outside.obstructed();
            // A latch that is sent to locked in this very step, and found there, is not stuck.
            let found = reading == Some(Position::Locked) && taken.step.state.latch() == Some(Position::Locked);
            let refuted = matches!(fault, Fault::Jam | Fault::Forced) && found;
            prop_assert!(outside.faults.contains(&fault) || gone || refuted, "{:?} does not stand", fault);
        }
        prop_assert_eq!(outside.faults.is_empty(), taken.step.state.faults().is_empty());
        if outside.faults.is_empty() || outside.faults == [Fault::Obstructed] {
            continue;
        }
        prop_assert!(matches!(taken.step.state.phase(), Phase::Fault | Phase::Starting), "{:?}", taken.step.state.phase());
        let rests = outside.moved.is_some_and(|moved| taken.now < moved + interval(settings));
        let waits = outside.obstructed() && safe == Position::Locked;
        let unknown = taken.step.state.latch().is_none();
        let there = taken.step.state.latch() == Some(safe);
        prop_assert!(there || rests || waits || unknown, "a fault, and the latch is not sent to safety");
    }
    Ok(())
}

/// A latch that is not where it was sent is found out.
fn jams_are_found(settings: &Settings, all: &[Taken]) -> Result<(), TestCaseError> {
    let mut reading = None;
    let mut moved: Option<(Monotonic, Position)> = None;
    for taken in all {
        if let Event::Position(position) = taken.event {
            reading = Some(position);
        }
        if matches!(taken.event, Event::CommandFailed) {
            moved = None;
        }
        for position in taken.moves() {
            moved = Some((taken.now, position));
        }
        if let (Some(reading), Some((at, sent))) = (reading, moved)
            && reading != sent
            && taken.now >= at + settings.travel.max(Duration::from_millis(1))
        {
            let faults = taken.step.state.faults();
            prop_assert!(faults.contains(Fault::Jam) || faults.contains(Fault::Forced), "sent {:?}, found {:?}", sent, reading);
        }
    }
    Ok(())
}

/// The caller is told when to come back, and never to spin.
fn deadlines_ahead(all: &[Taken]) -> Result<(), TestCaseError> {
    for taken in all {
        let deadline = taken.step.deadline;
        prop_assert!(deadline.is_none_or(|deadline| deadline > taken.now), "{:?} at {:?}", deadline, taken.now);
    }
    Ok(())
}

/// Failures are printed whole; no file of them is kept. `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(500), max_shrink_iters: 20_000, failure_persistence: None, ..default }
}

/// What a random run found once in some thousands.
#[test]
fn a_jam_is_over_where_the_sensor_finds_the_latch_locked_and_asks_for_a_new_decision() {
    let at = Duration::from_millis(860);
    let settings = Settings { open_for: at, max_open: at, min_interval: Duration::ZERO, travel: at, ..Settings::default() };
    let told = [Seed::Plain(Event::Position(Position::Locked)), Seed::FreshAllow, Seed::Plain(Event::Fault(Fault::Jam))];
    let all = play(&settings, &told.map(|seed| (Duration::ZERO, seed)));
    faults_end_safe(&settings, &all).unwrap();
    let jam = all.iter().find(|taken| taken.event == Event::Fault(Fault::Jam)).unwrap();
    assert!(jam.step.actions.contains(&Action::Raised(Fault::Jam)) && jam.step.actions.contains(&Action::Cleared(Fault::Jam)));
    assert_eq!((jam.step.state.latch(), jam.step.state.not_before()), (Some(Position::Locked), jam.now));
}

/// Another: the lock waits for the least interval when a fault comes and goes, and then for the opening to be free.
#[test]
fn a_fault_that_is_over_gives_an_open_door_no_more_time() {
    let settings = Settings {
        open_for: Duration::from_secs(1),
        max_open: Duration::from_secs(4),
        min_interval: Duration::from_secs(3),
        ..Settings::default()
    };
    let plain = |millis, event| (Duration::from_millis(millis), Seed::Plain(event));
    let told = [
        (Duration::from_secs(3), Seed::FreshAllow),
        plain(500, Event::Fault(Fault::Camera)),
        plain(0, Event::Obstructed(Sensor::Beam)),
        plain(1000, Event::Cleared(Fault::Camera)),
    ];
    let all = play(&settings, &told);
    assert!(all.iter().any(Taken::unlocks));
    never_open_too_long(&settings, &all).unwrap();
}

/// And one of a door that is open for no time at all: it was locked all the same, and older frames are void.
#[test]
fn frames_from_before_a_lock_are_void_even_if_it_came_in_the_step_of_the_opening() {
    let none = Duration::ZERO;
    let settings = Settings { open_for: none, max_open: none, min_interval: none, ..Settings::default() };
    let told = [(1, Seed::FreshAllow), (0, Seed::Plain(Event::Nobody)), (0, Seed::Allow(Duration::from_millis(1)))];
    let all = play(&settings, &told.map(|(millis, seed)| (Duration::from_millis(millis), seed)));
    assert_eq!(all.iter().filter(|taken| taken.unlocks()).count(), 1);
    unlocks_with_reason(&settings, &all).unwrap();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_door_that_is_safe_when_locked(settings in settings(SafeState::Locked), events in events()) {
        let all = play(&settings, &events);
        unlocks_with_reason(&settings, &all)?;
        movements_apart(&settings, &all)?;
        locks_in_time(&settings, &all)?;
        never_open_too_long(&settings, &all)?;
        faults_end_safe(&settings, &all)?;
        jams_are_found(&settings, &all)?;
        deadlines_ahead(&all)?;
    }

    #[test]
    fn a_door_that_is_safe_when_unlocked(settings in settings(SafeState::Unlocked), events in events()) {
        let all = play(&settings, &events);
        movements_apart(&settings, &all)?;
        faults_end_safe(&settings, &all)?;
        jams_are_found(&settings, &all)?;
        deadlines_ahead(&all)?;
    }

    #[test]
    fn the_end_is_safe_and_final(
        unlocked in any::<bool>(),
        (settings, events, after) in (settings(SafeState::Locked), events(), events()),
    ) {
        let safe_state = if unlocked { SafeState::Unlocked } else { SafeState::Locked };
        let settings = Settings { safe_state, ..settings };
        let stop = (Duration::ZERO, Seed::Plain(Event::Stop));
        let known = |(gap, seed): &(Duration, Seed)| match seed {
            Seed::Plain(Event::CommandFailed | Event::Position(_)) => (*gap, Seed::FreshAllow),
            _ => (*gap, seed.clone()),
        };
        let events: Vec<_> = events.iter().chain([&stop]).chain(&after).map(known).collect();
        let all = play(&settings, &events);
        movements_apart(&settings, &all)?;
        let at = all.iter().position(|taken| taken.event == Event::Stop).unwrap_or(0);
        for taken in &all[at..] {
            let rests = taken.now.since(all[at].now) < interval(&settings);
            prop_assert!(rests || taken.step.state.latch() == Some(safe_state.position()), "not safe at {:?}", taken.now);
            prop_assert!(taken.moves().all(|position| position == safe_state.position()));
        }
        prop_assert_eq!(all[all.len() - 1].step.deadline, None);
    }

    /// Times in any order, ticks never or at any time, settings of any size.
    #[test]
    fn it_takes_anything(
        times in vec(prop_oneof![millis(0..60_000), any::<u64>().prop_map(Duration::from_secs)], 60),
        events in vec(seed(true), 60),
        settings in settings(SafeState::Locked),
        (huge, unlocked, stop) in (any::<u8>(), any::<bool>(), 0_usize..120),
    ) {
        let safe_state = if unlocked { SafeState::Unlocked } else { SafeState::Locked };
        let mut settings = Settings { safe_state, ..settings };
        let times_of = [&mut settings.open_for, &mut settings.max_open, &mut settings.min_interval, &mut settings.travel];
        for (n, time) in times_of.into_iter().enumerate().filter(|(n, _)| huge & 1 << n != 0) {
            *time = Duration::MAX.saturating_sub(Duration::from_secs(n as u64));
        }
        let mut state = State::new();
        for (n, (now, seed)) in times.into_iter().zip(events).enumerate() {
            let now = Monotonic::new(now);
            let event = match seed {
                _ if n == stop => Event::Stop,
                Seed::Allow(since) => Event::Allow(Grant { decision: 1, rule: String::new(), since: Monotonic::new(since) }),
                Seed::FreshAllow => Event::Allow(Grant { decision: 1, rule: String::new(), since: state.not_before() }),
                Seed::Plain(event) => event,
            };
            let next = step(&settings, &state, &event, now);
            if !unlocked && next.actions.contains(&Action::Unlock) {
                prop_assert!(matches!(event, Event::Allow(_) | Event::ExitRequest | Event::OverrideUnlock(_)));
                prop_assert!(state.faults().is_empty());
            }
            state = next.state;
        }
    }
}
