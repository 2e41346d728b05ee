//! What must hold for any order of events, with crashes: random sequences against a ledger and a dispenser that outlive the feeder.

use std::collections::BTreeSet;

use jiff::civil::date;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What the outside does next.
#[derive(Debug, Clone)]
enum Seed {
    /// A request on one of three days.
    Request {
        portions: u32,
        day: i8,
        again: bool,
    },
    /// The ledger carries out what it was told, or fails at it.
    Ledger {
        works: bool,
    },
    /// The ledger's answer comes, again if it has come.
    LedgerAnswer,
    /// The dispenser carries out what it was told, and may keep quiet about it.
    Dispenser {
        gives: bool,
        answers: bool,
    },
    /// An answer that nobody waits for.
    Stray {
        id: u64,
        dispensed: bool,
    },
    /// All that is not in the ledger is lost.
    Crash,
    /// The ledger is opened and read.
    Restore,
    Plain(Event),
}

fn seed() -> impl Strategy<Value = Seed> {
    let plain = prop_oneof![
        4 => Just(Event::Tick),
        1 => Just(Event::Deny),
        6 => Just(Event::Nobody),
        1 => Just(Event::LedgerFailed),
        1 => prop::sample::select(Fault::ALL.to_vec()).prop_map(Event::Fault),
        8 => prop::sample::select(Fault::ALL.to_vec()).prop_map(Event::Cleared),
    ];
    prop_oneof![
        8 => (0_u32..5, 0_i8..3, any::<bool>()).prop_map(|(portions, day, again)| Seed::Request { portions, day, again }),
        12 => prop::bool::weighted(0.9).prop_map(|works| Seed::Ledger { works }),
        12 => Just(Seed::LedgerAnswer),
        12 => (prop::bool::weighted(0.9), prop::bool::weighted(0.9)).prop_map(|(gives, answers)| Seed::Dispenser { gives, answers }),
        2 => (0_u64..40, any::<bool>()).prop_map(|(id, dispensed)| Seed::Stray { id, dispensed }),
        1 => Just(Seed::Crash),
        4 => Just(Seed::Restore),
        12 => plain.prop_map(Seed::Plain),
    ]
}

/// A row of the ledger.
#[derive(Debug, Clone)]
struct Row {
    day: Date,
    outcome: Option<Outcome>,
}

/// The feeder and everything around it.
struct World {
    settings: Settings,
    now: Monotonic,
    state: State,
    deadline: Option<Monotonic>,
    decision: u64,
    /// Durable.
    rows: BTreeMap<u64, Row>,
    /// Told, and not yet done.
    to_reserve: Vec<Reservation>,
    reserved: Vec<u64>,
    to_dispense: Vec<u64>,
    /// What the dispenser gave, with its time.
    given: Vec<(u64, Monotonic)>,
    told: BTreeSet<u64>,
    faults: Vec<Fault>,
}

fn day(n: i8) -> Date {
    date(2026, 10, 24 + n)
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Monotonic::new(Duration::from_secs(1));
        Self {
            settings,
            now,
            state: State::new(),
            deadline: None,
            decision: 0,
            rows: BTreeMap::new(),
            to_reserve: vec![],
            reserved: vec![],
            to_dispense: vec![],
            given: vec![],
            told: BTreeSet::new(),
            faults: vec![Fault::Starting, Fault::Ledger],
        }
    }

    fn feed(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let next = step(&self.settings, &self.state, event, self.now);
        prop_assert!(next.deadline.is_none_or(|deadline| deadline > self.now), "{:?} at {:?}", next.deadline, self.now);
        (self.state, self.deadline) = (next.state, next.deadline);
        for action in next.actions {
            match action {
                Action::Reserve(reservation) => {
                    prop_assert!(self.faults.is_empty(), "reserved in a fault");
                    prop_assert!(!self.rows.contains_key(&reservation.id), "{} is used again", reservation.id);
                    self.to_reserve.push(reservation);
                }
                Action::Dispense { id } => {
                    prop_assert!(self.told.insert(id), "{} is dispensed twice", id);
                    let row = self.rows.get(&id);
                    prop_assert!(row.is_some_and(|row| row.outcome.is_none()), "{} has no open reservation", id);
                    prop_assert!(self.faults.is_empty(), "dispensed in a fault");
                    self.to_dispense.push(id);
                    self.check_interval(id)?;
                }
                Action::Settle { id, outcome } => {
                    let row = self.rows.get_mut(&id);
                    prop_assert!(row.is_some(), "{} was never reserved", id);
                    prop_assert!(outcome != Outcome::NotGiven || !self.told.contains(&id), "{} was given", id);
                    if let Some(row) = row {
                        row.outcome = Some(outcome);
                    }
                }
                Action::Raised(fault) => self.faults.push(fault),
                Action::Cleared(fault) => self.faults.retain(|other| *other != fault),
                Action::Changed { .. } => {}
            }
        }
        Ok(())
    }

    /// The dispenser may give at once.
    fn check_interval(&mut self, id: u64) -> Result<(), TestCaseError> {
        if let Some((last, at)) = self.given.last() {
            let gap = self.now.since(*at);
            prop_assert!(gap >= self.settings.min_interval, "{} comes {:?} after {}", id, gap, last);
        }
        self.given.push((id, self.now));
        Ok(())
    }

    fn restore(&mut self) -> Result<(), TestCaseError> {
        let mut counts: BTreeMap<Date, u32> = BTreeMap::new();
        for row in self.rows.values().filter(|row| row.outcome != Some(Outcome::NotGiven)) {
            *counts.entry(row.day).or_default() += 1;
        }
        let unsettled = self.rows.iter().filter(|(_, row)| row.outcome.is_none()).map(|(id, _)| *id).collect();
        let next_id = self.rows.keys().last().map_or(0, |id| id + 1);
        self.feed(&Event::Restored(Ledger { next_id, counts: counts.into_iter().collect(), unsettled }))
    }

    fn take(&mut self, seed: &Seed) -> Result<(), TestCaseError> {
        match seed {
            Seed::Request { portions, day: n, again } => {
                self.decision += u64::from(!again);
                let (decision, rule, portions, day) = (self.decision, String::new(), *portions, day(*n));
                self.feed(&Event::Request(Request { decision, rule, pet: None, portions, day }))
            }
            Seed::Ledger { works } => {
                let Some(reservation) = self.to_reserve.pop() else { return Ok(()) };
                if !works {
                    return self.feed(&Event::LedgerFailed);
                }
                self.rows.insert(reservation.id, Row { day: reservation.day, outcome: None });
                self.reserved.push(reservation.id);
                Ok(())
            }
            Seed::LedgerAnswer => match self.reserved.last() {
                Some(&id) => self.feed(&Event::Reserved(id)),
                None => Ok(()),
            },
            Seed::Dispenser { gives, answers } => match self.to_dispense.pop() {
                Some(id) if *answers && *gives => self.feed(&Event::Dispensed(id)),
                Some(id) if *answers => self.feed(&Event::Failed(id)),
                _ => Ok(()),
            },
            Seed::Stray { id, dispensed: true } => self.feed(&Event::Dispensed(*id)),
            Seed::Stray { id, dispensed: false } if self.rows.contains_key(id) => self.feed(&Event::Reserved(*id)),
            Seed::Stray { .. } => Ok(()),
            Seed::Crash => {
                self.state = State::new();
                self.faults = vec![Fault::Starting, Fault::Ledger];
                self.to_reserve.clear();
                self.to_dispense.clear();
                self.feed(&Event::Cleared(Fault::Starting))
            }
            Seed::Restore => self.restore(),
            Seed::Plain(event) => self.feed(event),
        }
    }

    fn let_pass(&mut self, gap: Duration) -> Result<(), TestCaseError> {
        let next = self.now + gap;
        while let Some(due) = self.deadline.filter(|&due| due <= next) {
            self.now = due;
            self.feed(&Event::Tick)?;
        }
        self.now = next;
        Ok(())
    }

    fn check_days(&self) -> Result<(), TestCaseError> {
        for n in 0..3 {
            let given = self.given.iter().filter(|(id, _)| self.rows.get(id).is_some_and(|row| row.day == day(n))).count();
            prop_assert!(given <= self.settings.max_per_day as usize, "{} portions on {}", given, day(n));
        }
        Ok(())
    }
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn settings() -> impl Strategy<Value = Settings> {
    let times = (0_u32..8, millis(0..4_000), millis(0..5_000));
    times.prop_map(|(max_per_day, min_interval, portion_time)| Settings { max_per_day, min_interval, portion_time })
}

/// Failures are printed whole; no file of them is kept. `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(500), max_shrink_iters: 20_000, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_portion_twice(settings in settings(), seeds in vec((prop_oneof![4 => millis(0..400), 1 => millis(0..9_000)], seed()), 1..200)) {
        let mut world = World::new(settings);
        world.feed(&Event::Cleared(Fault::Starting))?;
        world.restore()?;
        for (gap, seed) in &seeds {
            world.let_pass(*gap)?;
            world.take(seed)?;
        }
        world.check_days()?;
    }

    /// Times and answers in any order.
    #[test]
    fn it_takes_anything(settings in settings(), seeds in vec((any::<u64>(), seed()), 1..100), huge in any::<bool>()) {
        let settings = if huge { Settings { portion_time: Duration::MAX, min_interval: Duration::MAX, ..settings } } else { settings };
        let mut state = State::new();
        let mut told = BTreeSet::new();
        for (n, (now, seed)) in seeds.into_iter().enumerate() {
            let id = now % 8;
            let event = match seed {
                Seed::Request { portions, day: n, .. } => {
                    Event::Request(Request { decision: now, rule: String::new(), pet: None, portions, day: day(n) })
                }
                Seed::Ledger { .. } | Seed::LedgerAnswer => Event::Reserved(id),
                Seed::Dispenser { gives: true, .. } | Seed::Stray { .. } => Event::Dispensed(id),
                Seed::Dispenser { gives: false, .. } => Event::Failed(id),
                Seed::Crash if n % 4 == 0 => Event::Stop,
                Seed::Crash | Seed::Restore => {
                    Event::Restored(Ledger { next_id: id, counts: vec![(day(0), u32::MAX)], unsettled: vec![id, u64::MAX] })
                }
                Seed::Plain(event) => event,
            };
            let next = step(&settings, &state, &event, Monotonic::new(Duration::from_secs(now)));
            for action in next.actions {
                if let Action::Dispense { id } = action {
                    prop_assert!(told.insert(id));
                    prop_assert!(matches!(event, Event::Reserved(reserved) if reserved == id));
                }
            }
            state = next.state;
        }
    }
}
