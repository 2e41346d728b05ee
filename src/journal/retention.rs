//! What the journal may keep: by age, by bytes, and by what must stay free on the file system.
//!
//! [`plan`] decides and is pure; [`run`] looks, deletes and looks again. Only files that the journal named itself are deleted, only
//! in its own folder: first copies of damaged journals, then snapshots, then events, each oldest first.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::snapshots::{self, Snapshot};
use super::sqlite::{self, FileError, KEEP_ASIDE, SetAside};
use super::store::{FILE_NAME, Store};
use crate::hw::clock::{Monotonic, Now};

/// Rounds of deleting and looking again; each deletes more than enough by its own reckoning.
const ROUNDS: u32 = 4;
/// How long the wall clock must have gone steadily before what it calls old is deleted.
const STEADY: Duration = Duration::from_secs(3600);
/// Differences between the clocks that are not a jump: drift, and the gentle corrections of NTP.
const JUMP: SignedDuration = SignedDuration::from_secs(600);

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// What happened before goes; none while the wall clock is not to be trusted.
    pub cutoff: Option<Timestamp>,
    /// Bytes of everything together.
    pub max_bytes: u64,
    /// Bytes that stay free.
    pub reserve_bytes: u64,
    /// Newest events that only age deletes.
    pub keep_events: u64,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Inventory {
    /// Oldest first.
    aside: Vec<SetAside>,
    /// Oldest first.
    snapshots: Vec<Snapshot>,
    events: u64,
    /// Of the database and its log.
    database_bytes: u64,
    /// On the file system; none where it cannot be told.
    free: Option<u64>,
}

/// What to delete: so many of each, from the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Plan {
    aside: usize,
    snapshots: usize,
    events: u64,
}

/// What [`run`] found in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    /// Snapshots that were deleted.
    pub snapshots: u64,
    /// Events that were deleted.
    pub events: u64,
    /// Free bytes, where they are still fewer than the reserve.
    pub short: Option<u64>,
}

impl Inventory {
    fn look(folder: &Path, store: &Store, free: Option<u64>) -> Result<Self, FileError> {
        Ok(Self {
            aside: sqlite::list_aside(&folder.join(FILE_NAME)),
            snapshots: snapshots::list(folder),
            events: store.count()?,
            database_bytes: store.bytes(),
            free,
        })
    }

    fn bytes(&self) -> u64 {
        let aside: u64 = self.aside.iter().map(|a| a.bytes).sum();
        let snapshots: u64 = self.snapshots.iter().map(|s| s.bytes).sum();
        aside + snapshots + self.database_bytes
    }

    /// Bytes to give back. Somewhat more than needed, so that the next event does not begin all over.
    fn excess(&self, limits: &Limits) -> u64 {
        let (bytes, slack) = (self.bytes(), limits.max_bytes / 20);
        let over = if bytes > limits.max_bytes { bytes - (limits.max_bytes - slack) } else { 0 };
        let short = match self.free {
            Some(free) if free < limits.reserve_bytes => limits.reserve_bytes - free + limits.reserve_bytes / 20,
            _ => 0,
        };
        over.max(short)
    }
}

fn plan(inventory: &Inventory, limits: &Limits) -> Plan {
    let mut excess = inventory.excess(limits);
    let mut take = |bytes: u64| {
        let needed = excess > 0;
        excess = excess.saturating_sub(bytes);
        needed
    };
    let superfluous = inventory.aside.len().saturating_sub(KEEP_ASIDE);
    let mut plan = Plan::default();
    for (i, aside) in inventory.aside.iter().enumerate() {
        if take(aside.bytes) || i < superfluous {
            plan.aside = i + 1;
        }
    }
    for (i, snapshot) in inventory.snapshots.iter().enumerate() {
        if !take(snapshot.bytes) {
            break;
        }
        plan.snapshots = i + 1;
    }
    let each = (inventory.database_bytes / inventory.events.max(1)).max(1);
    plan.events = (excess.div_ceil(each)).min(inventory.events.saturating_sub(limits.keep_events));
    plan
}

/// Deletes what must not be kept. `free` tells the bytes that are free on a folder's file system.
pub(super) fn run(
    folder: &Path,
    store: &mut Store,
    limits: &Limits,
    free: &mut dyn FnMut(&Path) -> std::io::Result<u64>,
) -> Result<Outcome, FileError> {
    let mut outcome = Outcome::default();
    if let Some(cutoff) = limits.cutoff {
        by_age(folder, store, cutoff, &mut outcome)?;
    }
    for round in 0..ROUNDS {
        let mut inventory = Inventory::look(folder, store, ask(folder, free))?;
        if round == 0 && inventory.excess(limits) > 0 {
            // The log alone may be what is too much, and emptying it costs nobody an event.
            store.shrink()?;
            inventory = Inventory::look(folder, store, ask(folder, free))?;
        }
        let plan = plan(&inventory, limits);
        if plan == Plan::default() {
            break;
        }
        carry_out(&plan, &inventory, store, &mut outcome)?;
    }
    outcome.short = ask(folder, free).filter(|free| *free < limits.reserve_bytes);
    Ok(outcome)
}

fn by_age(folder: &Path, store: &mut Store, cutoff: Timestamp, outcome: &mut Outcome) -> Result<(), FileError> {
    for snapshot in snapshots::list(folder).iter().filter(|s| s.time < cutoff) {
        snapshots::delete(snapshot)?;
        outcome.snapshots += 1;
    }
    let events = store.delete_before(cutoff)?;
    if events > 0 {
        store.shrink()?;
    }
    outcome.events += events;
    Ok(())
}

fn carry_out(plan: &Plan, inventory: &Inventory, store: &mut Store, outcome: &mut Outcome) -> Result<(), FileError> {
    for path in inventory.aside.iter().take(plan.aside).flat_map(|aside| &aside.files) {
        std::fs::remove_file(path).map_err(|e| FileError::from_io(path, &e))?;
    }
    for snapshot in inventory.snapshots.iter().take(plan.snapshots) {
        snapshots::delete(snapshot)?;
        outcome.snapshots += 1;
    }
    if plan.events > 0 {
        outcome.events += store.delete_oldest(plan.events)?;
        store.shrink()?;
    }
    Ok(())
}

fn ask(folder: &Path, free: &mut dyn FnMut(&Path) -> std::io::Result<u64>) -> Option<u64> {
    free(folder).inspect_err(|error| log::warn!("{}: cannot tell how much is free: {error}", folder.display())).ok()
}

/// Bytes that a process without privileges may still write to the file system of `folder`.
pub(super) fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Decides when the wall clock may say what is old: a clock that has just jumped forward would have everything deleted.
#[derive(Debug, Default)]
pub(super) struct Steadiness {
    last: Option<Now>,
    /// Since when the clock is watched after a jump.
    doubted_since: Option<Monotonic>,
}

impl Steadiness {
    /// Before which events are too old; none while the clock has not gone steadily for an hour. `newest` is when the last event
    /// before the start happened: a clock that has gone on plausibly from there needs no waiting.
    pub fn cutoff(&mut self, now: Now, newest: Option<Timestamp>, keep_for: Duration) -> Option<Timestamp> {
        let keep_for = SignedDuration::try_from(keep_for).unwrap_or(SignedDuration::MAX);
        match self.last.replace(now) {
            None => {
                let plausible = newest.is_none_or(|n| (SignedDuration::ZERO..keep_for).contains(&now.wall.duration_since(n)));
                self.doubted_since = (!plausible).then_some(now.mono);
            }
            Some(last) => {
                let passed = SignedDuration::try_from(now.mono.since(last.mono)).unwrap_or(SignedDuration::MAX);
                let difference = now.wall.duration_since(last.wall).saturating_sub(passed);
                if difference.abs() > JUMP {
                    self.doubted_since = Some(now.mono);
                }
            }
        }
        let trusted = self.doubted_since.is_none_or(|since| now.mono.since(since) >= STEADY);
        trusted.then(|| now.wall.saturating_sub(keep_for).unwrap_or(Timestamp::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Kind, Record};

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 0).unwrap()
    }

    fn snapshot(id: u64, bytes: u64) -> Snapshot {
        Snapshot { id, time: at(0), path: format!("{id}").into(), bytes }
    }

    fn aside(bytes: u64) -> SetAside {
        SetAside { files: vec![], bytes }
    }

    const GENEROUS: Limits = Limits { cutoff: None, max_bytes: u64::MAX, reserve_bytes: 0, keep_events: 10 };

    fn inventory() -> Inventory {
        let snapshots = (1..=10).map(|id| snapshot(id, 100)).collect();
        Inventory { aside: vec![aside(50)], snapshots, events: 100, database_bytes: 1000, free: Some(500) }
    }

    #[test]
    fn plans_delete_the_oldest_and_no_more_than_needed() {
        let limits = |max_bytes, reserve_bytes| Limits { max_bytes, reserve_bytes, ..GENEROUS };
        let planned = |aside, snapshots, events| Plan { aside, snapshots, events };
        for (name, limits, expected) in [
            ("within all limits", limits(2050, 500), planned(0, 0, 0)),
            ("one byte over: 5 % and it go", limits(2049, 500), planned(1, 1, 0)),
            ("half", limits(1000, 500), planned(1, 10, 5)),
            ("short of free space", limits(10_000, 700), planned(1, 2, 0)),
            ("no event of the newest goes", limits(0, 0), planned(1, 10, 90)),
            ("nor when there is nothing free", limits(10_000, 1_000_000), planned(1, 10, 90)),
        ] {
            assert_eq!(plan(&inventory(), &limits), expected, "{name}");
        }
        let unknown = Inventory { free: None, ..inventory() };
        assert_eq!(plan(&unknown, &limits(10_000, 1_000_000)), Plan::default(), "what cannot be told deletes nothing");
        let many = Inventory { aside: vec![aside(1), aside(2), aside(3), aside(4)], ..inventory() };
        assert_eq!(plan(&many, &GENEROUS), planned(2, 0, 0), "two copies are enough");
    }

    fn filled(folder: &Path) -> Store {
        let mut store = Store::open(folder, at(0)).unwrap().store;
        let reason = Some("x".repeat(3000));
        let records: Vec<_> =
            (1..=200).map(|id| Record { id, reason: reason.clone(), ..Record::new(Kind::Fault, at(id as i64)) }).collect();
        store.append(records.iter(), false).unwrap();
        store.shrink().unwrap();
        let picture = image::RgbImage::from_fn(200, 200, |x, y| image::Rgb([(x * y) as u8, x as u8, y as u8]));
        for id in 1..=20 {
            snapshots::write(folder, id, at(id as i64), &picture).unwrap();
        }
        store
    }

    fn ids(folder: &Path) -> Vec<u64> {
        snapshots::list(folder).iter().map(|s| s.id).collect()
    }

    #[test]
    fn age_deletes_what_is_older_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        std::fs::write(folder.path().join("snapshots/mine.jpg"), "x").unwrap();
        let limits = Limits { cutoff: Some(at(11)), ..GENEROUS };
        let outcome = run(folder.path(), &mut store, &limits, &mut |_| Ok(u64::MAX)).unwrap();
        assert_eq!(outcome, Outcome { snapshots: 10, events: 10, short: None });
        assert_eq!(ids(folder.path()), (11..=20).collect::<Vec<_>>());
        assert_eq!(store.count().unwrap(), 190);
        assert!(folder.path().join("snapshots/mine.jpg").exists());
    }

    #[test]
    fn bytes_delete_snapshots_before_events() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        let everything = |store: &Store| store.bytes() + snapshots::list(folder.path()).iter().map(|s| s.bytes).sum::<u64>();
        let before = everything(&store);
        let max_bytes = before - 30_000;
        run(folder.path(), &mut store, &Limits { max_bytes, ..GENEROUS }, &mut |_| Ok(u64::MAX)).unwrap();
        assert!(everything(&store) <= max_bytes);
        let left = ids(folder.path());
        assert!(!left.is_empty() && left.len() < 20 && *left.last().unwrap() == 20, "{left:?}");
        assert_eq!(store.count().unwrap(), 200);
        let max_bytes = 300_000;
        run(folder.path(), &mut store, &Limits { max_bytes, ..GENEROUS }, &mut |_| Ok(u64::MAX)).unwrap();
        assert!(everything(&store) <= max_bytes, "{}", everything(&store));
        assert!(ids(folder.path()).is_empty() && (10..200).contains(&store.count().unwrap()));
    }

    #[test]
    fn the_reserve_is_kept_or_its_lack_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        let size = |folder: &Path| {
            let bytes: u64 =
                walkdir::WalkDir::new(folder).into_iter().flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
            bytes
        };
        let total = size(folder.path()) + 100_000;
        let mut free = |folder: &Path| Ok(total - size(folder));
        let limits = Limits { reserve_bytes: 200_000, ..GENEROUS };
        let outcome = run(folder.path(), &mut store, &limits, &mut free).unwrap();
        assert_eq!(outcome.short, None);
        assert!(outcome.snapshots > 0 && free(folder.path()).unwrap() >= 200_000, "{outcome:?}");
        let limits = Limits { reserve_bytes: 100_000_000, ..GENEROUS };
        let outcome = run(folder.path(), &mut store, &limits, &mut |_| Ok(5)).unwrap();
        assert_eq!(outcome.short, Some(5));
        assert_eq!((ids(folder.path()).len(), store.count().unwrap()), (0, 10));
    }

    #[test]
    fn a_clock_that_jumped_deletes_nothing_for_an_hour() {
        let day = Duration::from_secs(86_400);
        let keep = 30 * day;
        let now = |mono: u64, wall: i64| Now { mono: Monotonic::new(Duration::from_secs(mono)), wall: at(wall) };
        let month = 40 * 86_400;
        let mut clock = Steadiness::default();
        assert_eq!(clock.cutoff(now(0, 0), Some(at(-60)), keep), Some(at(-30 * 86_400)));
        assert!(clock.cutoff(now(3600, 3605), None, keep).is_some(), "drift is no jump");
        assert_eq!(clock.cutoff(now(3700, month), None, keep), None);
        assert_eq!(clock.cutoff(now(5000, month + 1300), None, keep), None);
        assert_eq!(clock.cutoff(now(5100, 5000), None, keep), None, "back again");
        assert!(clock.cutoff(now(8700, 8600), None, keep).is_some());
        let mut clock = Steadiness::default();
        assert_eq!(clock.cutoff(now(5, month), Some(at(0)), keep), None, "everything would be old at the start");
        assert!(clock.cutoff(now(3605, month + 3600), Some(at(0)), keep).is_some());
        let mut clock = Steadiness::default();
        assert_eq!(clock.cutoff(now(0, -10), Some(at(0)), keep), None, "events from the future");
    }
}
