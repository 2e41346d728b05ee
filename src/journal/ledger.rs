//! The feeder's ledger: a portion is on the disk before it may be given, so that none is given twice.
//!
//! Whoever gives portions calls [`Ledger::reserve`] and gives nothing without its answer, then [`Ledger::settle`]. A reservation
//! that was never settled (a crash, a power cut) counts as given. Each call waits for the disk. Quotas are the rules' business;
//! the ledger says what was given.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::sqlite::{self, Aside, FileError, Format, Found, Identity, KEEP_ASIDE, Lock, Seal};

/// Name of the database in the journal's folder.
pub const FILE_NAME: &str = "ledger.db";

const LOCK_NAME: &str = "ledger.lock";

/// Entries that are kept: more than ten years of twelve a day.
const KEEP: i64 = 50_000;

const FORMAT: Format = Format {
    what: "ledger",
    application_id: 0x5041_574c,
    version: 1,
    schema: &[
        "CREATE TABLE portion(id INTEGER PRIMARY KEY AUTOINCREMENT, decision INTEGER NOT NULL, time INTEGER NOT NULL, \
         rule TEXT NOT NULL, animal TEXT, portions INTEGER NOT NULL, outcome TEXT, given INTEGER, seal INTEGER NOT NULL) STRICT",
        "CREATE INDEX portion_time ON portion(time)",
        sqlite::FACTS,
    ],
};

/// Why there is no portion.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be used.
    #[error("no portion is given without a ledger: {0}")]
    File(#[from] FileError),
    /// The decision has its portion.
    #[error("decision {decision} has its portion already (entry {entry}); a new one needs a new decision")]
    Repeated {
        /// Number of the decision's event.
        decision: u64,
        /// Entry of its portion.
        entry: u64,
    },
    /// Nothing, or more than can be meant, is asked for.
    #[error("{portions} portions at once make no sense; ask for 1 to {MAX_PORTIONS}")]
    Portions {
        /// What was asked for.
        portions: u32,
    },
    /// There is no such reservation, or it is settled.
    #[error("entry {entry} of the ledger is not open: {cause}; it stays as it is")]
    NotOpen {
        /// The entry.
        entry: u64,
        /// Why.
        cause: &'static str,
    },
    /// The day cannot be told.
    #[error("cannot tell when the day of {now} began: {cause}; set the clock and the time zone")]
    Day {
        /// The time in question.
        now: Timestamp,
        /// What is wrong.
        cause: String,
    },
}

/// Most portions of one reservation.
pub const MAX_PORTIONS: u32 = 100;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Number of the decision's event.
    pub decision: u64,
    /// The rule that gives it.
    pub rule: String,
    /// Who gets it, where that is known.
    pub animal: Option<String>,
    /// At least 1, at most [`MAX_PORTIONS`].
    pub portions: u32,
}

/// The right to give portions once; durable.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is reserved counts as given until it is settled"]
pub struct Reservation {
    /// Number of the entry, for [`Ledger::settle`].
    pub entry: u64,
    /// Portions that may be given.
    pub portions: u32,
}

/// How giving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// So many portions were given for certain, no more than were reserved; 0 gives the quota back.
    Given(u32),
    /// Nobody knows (jam, no answer, crash): counts as given.
    Unclear,
}

/// One reservation, as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// Number of the entry.
    pub entry: u64,
    /// When it was reserved.
    pub time: Timestamp,
    /// What was asked for.
    pub request: Request,
    /// How it ended; none while it is open.
    pub outcome: Option<Outcome>,
}

impl Portion {
    /// Portions that count against quotas.
    pub fn counted(&self) -> u32 {
        match self.outcome {
            Some(Outcome::Given(given)) => given,
            Some(Outcome::Unclear) | None => self.request.portions,
        }
    }
}

/// What was given, as far as the ledger knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portions {
    /// In the order of their entries.
    pub portions: Vec<Portion>,
    /// Before this, portions may be missing because the ledger was damaged: whoever counts must take every quota of that time for
    /// used up. None: all are there.
    pub incomplete_before: Option<Timestamp>,
}

impl Portions {
    /// Portions that count; none where some may be missing.
    pub fn total(&self) -> Option<u32> {
        let sum = || self.portions.iter().fold(0, |sum: u32, p| sum.saturating_add(p.counted()));
        self.incomplete_before.is_none().then(sum)
    }
}

/// The only writer of a ledger.
pub struct Ledger {
    db: Connection,
    path: PathBuf,
    identity: Identity,
    /// Held as long as the database is open.
    _lock: Lock,
    /// Last entry of earlier runs.
    earlier: i64,
    trouble: Option<String>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger in `folder`, or begins one. What an earlier run left open counts as given. A damaged file is moved aside; the
    /// new one knows that something is missing.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written, is in use, is another program's or a newer one's. Then there is no portion.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, LedgerError> {
        sqlite::make_folder(folder)?;
        let mut lock = Lock::take(folder.join(LOCK_NAME))?;
        let path = folder.join(FILE_NAME);
        let missing = sqlite::missing_before(&path, &lock, now);
        let (db, found, mut trouble) = match open_checked(&path, missing) {
            Ok((db, found)) => (db, found, None),
            Err(error @ FileError::Damaged { .. }) => {
                let moved = sqlite::move_aside(&path, Aside::Corrupt, now)?;
                let (db, found) = open_checked(&path, missing)?;
                sqlite::prune_aside(&path, KEEP_ASIDE);
                (db, found, Some(format!("{error}. Moved to {}; a new ledger begins", moved.display())))
            }
            Err(error) => return Err(error.into()),
        };
        if found == Found::Fresh && missing.is_some() && trouble.is_none() {
            trouble = Some(format!("{} was empty or gone; a new ledger begins. Look for who deleted it", path.display()));
        }
        let earlier = prepare(&db, &path)?;
        // The file's entry in its folder must be as durable as what stands in it.
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| FileError::from_io(folder, &e))?;
        lock.mark()?;
        let identity = Identity::of(&path)?;
        Ok(Self { db, path, identity, _lock: lock, earlier, trouble })
    }

    /// What was wrong with the file that [`Self::open`] found; a fault to show, not a reason to stop.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Writes down that portions will be given; on the disk when this returns.
    ///
    /// # Errors
    ///
    /// Where it could not be made durable, or the decision has its portion already. Then nothing may be given.
    pub fn reserve(&mut self, request: &Request, now: Timestamp) -> Result<Reservation, LedgerError> {
        if !(1..=MAX_PORTIONS).contains(&request.portions) {
            return Err(LedgerError::Portions { portions: request.portions });
        }
        self.identity.verify()?;
        let decision = i64::try_from(request.decision).unwrap_or(i64::MAX);
        let earlier = self.earlier;
        let write = |db: &mut Connection| -> rusqlite::Result<Result<i64, i64>> {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let sql = "SELECT id FROM portion WHERE decision = ?1 AND id > ?2";
            if let Some(entry) = transaction.query_row(sql, params![decision, earlier], |row| row.get(0)).optional()? {
                return Ok(Err(entry));
            }
            let entry = insert(&transaction, request, decision, now)?;
            transaction.execute("DELETE FROM portion WHERE id <= ?1", [entry - KEEP])?;
            transaction.commit()?;
            Ok(Ok(entry))
        };
        match write(&mut self.db).map_err(|e| FileError::from_sqlite(&self.path, &e))? {
            Ok(entry) => Ok(Reservation { entry: entry.unsigned_abs(), portions: request.portions }),
            Err(entry) => Err(LedgerError::Repeated { decision: request.decision, entry: entry.unsigned_abs() }),
        }
    }

    /// Writes down how giving ended; once. Until then, and where this fails, the reservation counts as given.
    ///
    /// # Errors
    ///
    /// Where the entry is unknown or settled, more is said to be given than was reserved, or the disk fails.
    pub fn settle(&mut self, entry: u64, outcome: Outcome) -> Result<(), LedgerError> {
        self.identity.verify()?;
        let not_open = |cause| LedgerError::NotOpen { entry, cause };
        let found = read_all(&self.db, "WHERE id = ?1", &[i64::try_from(entry).unwrap_or(i64::MAX)], &self.path)?;
        let Some(portion) = found.first() else { return Err(not_open("there is none")) };
        if portion.outcome.is_some() {
            return Err(not_open("it is settled"));
        }
        if matches!(outcome, Outcome::Given(given) if given > portion.request.portions) {
            return Err(not_open("more is said to be given than was reserved"));
        }
        write_outcome(&self.db, portion, outcome).map_err(|e| FileError::from_sqlite(&self.path, &e))?;
        Ok(())
    }

    /// What was reserved at `from` or later, also what bears a time that has not come yet: after the clock went back, that counts.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is damaged; then nothing is known, and nothing may be given.
    pub fn since(&self, from: Timestamp) -> Result<Portions, LedgerError> {
        self.identity.verify()?;
        let portions = read_all(&self.db, "WHERE time >= ?1", &[from.as_millisecond()], &self.path)?;
        let incomplete_before =
            sqlite::incomplete_before(&self.db, from).map_err(|e| FileError::from_sqlite(&self.path, &e))?;
        Ok(Portions { portions, incomplete_before })
    }

    /// What was reserved on the calendar day of `now` in `zone`.
    ///
    /// # Errors
    ///
    /// As [`Self::since`].
    pub fn today(&self, now: Timestamp, zone: &TimeZone) -> Result<Portions, LedgerError> {
        let start = now.to_zoned_datetime(zone.clone()).start_of_day();
        let start = start.map_err(|e| LedgerError::Day { now, cause: e.to_string() })?;
        self.since(start.timestamp())
    }
}

fn open_checked(path: &Path, missing_before: Option<Timestamp>) -> Result<(Connection, Found), FileError> {
    let (db, found) = sqlite::open(path, &FORMAT, missing_before)?;
    db.execute_batch("PRAGMA synchronous = FULL").map_err(|e| FileError::from_sqlite(path, &e))?;
    read_all(&db, "", &[], path)?;
    Ok((db, found))
}

/// Counts as given what is open; the last entry.
fn prepare(db: &Connection, path: &Path) -> Result<i64, FileError> {
    let open = read_all(db, "WHERE outcome IS NULL", &[], path)?;
    let run = || {
        let transaction = db.unchecked_transaction()?;
        for portion in &open {
            write_outcome(&transaction, portion, Outcome::Unclear)?;
        }
        transaction.commit()?;
        db.query_row("SELECT coalesce(max(id), 0) FROM portion", [], |row| row.get(0))
    };
    run().map_err(|e| FileError::from_sqlite(path, &e))
}

fn insert(db: &Connection, request: &Request, decision: i64, now: Timestamp) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO portion(decision, time, rule, animal, portions, seal) VALUES (?1, ?2, ?3, ?4, ?5, 0)";
    db.execute(sql, params![decision, now.as_millisecond(), request.rule, request.animal, request.portions])?;
    let entry = db.last_insert_rowid();
    let time = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let portion = Portion { entry: entry.unsigned_abs(), time, request: request.clone(), outcome: None };
    db.execute("UPDATE portion SET seal = ?2 WHERE id = ?1", params![entry, seal(&portion)])?;
    Ok(entry)
}

fn write_outcome(db: &Connection, portion: &Portion, outcome: Outcome) -> rusqlite::Result<()> {
    let sealed = Portion { outcome: Some(outcome), ..portion.clone() };
    let (word, given) = match outcome {
        Outcome::Given(given) => ("given", Some(given)),
        Outcome::Unclear => ("unclear", None),
    };
    let sql = "UPDATE portion SET outcome = ?2, given = ?3, seal = ?4 WHERE id = ?1 AND outcome IS NULL";
    let changed = db.execute(sql, params![portion.entry.cast_signed(), word, given, seal(&sealed)])?;
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}

fn read_all(db: &Connection, condition: &str, values: &[i64], path: &Path) -> Result<Vec<Portion>, FileError> {
    let sql =
        format!("SELECT id, decision, time, rule, animal, portions, outcome, given, seal FROM portion {condition} ORDER BY id");
    let run = || -> rusqlite::Result<Vec<Option<Portion>>> {
        let mut query = db.prepare(&sql)?;
        query.query_map(rusqlite::params_from_iter(values), read)?.collect()
    };
    let found = run().map_err(|e| FileError::from_sqlite(path, &e))?;
    let whole: Option<Vec<Portion>> = found.into_iter().collect();
    let damaged = || FileError::Damaged { path: path.to_path_buf(), cause: "an entry is not what was written".into() };
    whole.ok_or_else(damaged)
}

/// None where the row is not what was written.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Portion>> {
    let outcome = match (row.get::<_, Option<String>>(6)?.as_deref(), row.get::<_, Option<u32>>(7)?) {
        (None, None) => None,
        (Some("given"), Some(given)) => Some(Outcome::Given(given)),
        (Some("unclear"), None) => Some(Outcome::Unclear),
        _ => return Ok(None),
    };
    let request = Request {
        decision: row.get::<_, i64>(1)?.unsigned_abs(),
        rule: row.get(3)?,
        animal: row.get(4)?,
        portions: row.get(5)?,
    };
    let Ok(time) = Timestamp::from_millisecond(row.get(2)?) else { return Ok(None) };
    let portion = Portion { entry: row.get::<_, i64>(0)?.unsigned_abs(), time, request, outcome };
    Ok((row.get::<_, i64>(8)? == seal(&portion)).then_some(portion))
}

fn seal(portion: &Portion) -> i64 {
    let Portion { entry, time, request, outcome } = portion;
    let outcome = match outcome {
        None => -2,
        Some(Outcome::Unclear) => -1,
        Some(Outcome::Given(given)) => i64::from(*given),
    };
    let seal = Seal::new().number(entry.cast_signed()).number(request.decision.cast_signed()).number(time.as_millisecond());
    seal.text(Some(&request.rule)).text(request.animal.as_deref()).number(request.portions.into()).number(outcome).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn request(decision: u64, portions: u32) -> Request {
        Request { decision, rule: "breakfast".into(), animal: Some("milo".into()), portions }
    }

    const NOON: &str = "2036-03-01T12:00:00Z";

    #[test]
    fn what_is_not_settled_counts_as_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let entries: Vec<u64> = (1..=4).map(|d| ledger.reserve(&request(d, 2), at(NOON)).unwrap().entry).collect();
        ledger.settle(entries[0], Outcome::Given(2)).unwrap();
        ledger.settle(entries[1], Outcome::Given(0)).unwrap();
        ledger.settle(entries[2], Outcome::Unclear).unwrap();
        let today = ledger.today(at(NOON), &TimeZone::UTC).unwrap();
        assert_eq!(today.total(), Some(6));
        assert_eq!(today.portions[3].outcome, None);
        drop(ledger);
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let today = ledger.today(at(NOON), &TimeZone::UTC).unwrap();
        assert_eq!((today.total(), ledger.trouble()), (Some(6), None));
        assert_eq!(today.portions[3].outcome, Some(Outcome::Unclear));
        let late = ledger.settle(entries[3], Outcome::Given(0)).unwrap_err().to_string();
        assert!(late.contains("it is settled"), "{late}");
        assert_eq!(ledger.today(at(NOON), &TimeZone::UTC).unwrap().total(), Some(6));
    }

    #[test]
    fn a_decision_gets_one_portion() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let first = ledger.reserve(&request(7, 1), at(NOON)).unwrap();
        let again = ledger.reserve(&request(7, 1), at(NOON));
        assert!(matches!(again, Err(LedgerError::Repeated { decision: 7, entry }) if entry == first.entry));
        for portions in [0, MAX_PORTIONS + 1] {
            assert!(matches!(ledger.reserve(&request(8, portions), at(NOON)), Err(LedgerError::Portions { .. })));
        }
        assert!(matches!(ledger.settle(99, Outcome::Unclear), Err(LedgerError::NotOpen { entry: 99, .. })));
        assert!(matches!(ledger.settle(first.entry, Outcome::Given(2)), Err(LedgerError::NotOpen { .. })));
        assert_eq!(ledger.since(at(NOON)).unwrap().total(), Some(1));
        // After a restart, numbers of decisions may come again where the journal was lost.
        drop(ledger);
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let _ = ledger.reserve(&request(7, 1), at(NOON)).unwrap();
    }

    #[test]
    fn days_begin_where_the_owner_lives_and_the_future_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        // Clocks there went from 02:00 to 03:00 on 2026-03-08.
        for (decision, time) in
            (1..).zip(["2026-03-08T04:59:59Z", "2026-03-08T05:00:00Z", "2026-03-09T03:59:59Z", "2026-03-09T04:00:00Z"])
        {
            let _ = ledger.reserve(&request(decision, 1), at(time)).unwrap();
        }
        let total = |now| ledger.today(at(now), &zone).unwrap().total();
        assert_eq!(total("2026-03-09T12:00:00Z"), Some(1));
        assert_eq!(total("2026-03-08T12:00:00Z"), Some(3), "after the clock went back, tomorrow's portion counts");
    }

    #[test]
    fn a_damaged_ledger_knows_that_it_knows_nothing() {
        for cut in [0_usize, 1, 100, 4096, 5000, 8192] {
            let folder = tempfile::tempdir().unwrap();
            let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
            let _ = ledger.reserve(&request(1, 1), at(NOON)).unwrap();
            drop(ledger);
            let path = folder.path().join(FILE_NAME);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let later = at("2036-03-01T13:00:00Z");
            let mut ledger = Ledger::open(folder.path(), later).unwrap();
            assert!(ledger.trouble().is_some(), "cut at {cut}");
            let today = ledger.today(later, &TimeZone::UTC).unwrap();
            assert_eq!((today.total(), today.incomplete_before), (None, Some(later)), "cut at {cut}");
            let tomorrow = at("2036-03-02T08:00:00Z");
            let _ = ledger.reserve(&request(2, 1), tomorrow).unwrap();
            assert_eq!(ledger.today(tomorrow, &TimeZone::UTC).unwrap().total(), Some(1), "the next day begins anew");
        }
    }

    #[test]
    fn a_clock_that_went_back_makes_no_lost_day_complete() {
        let folder = tempfile::tempdir().unwrap();
        drop(Ledger::open(folder.path(), at(NOON)).unwrap());
        std::fs::write(folder.path().join(FILE_NAME), "garbage").unwrap();
        let ledger = Ledger::open(folder.path(), Timestamp::UNIX_EPOCH).unwrap();
        let today = ledger.since(Timestamp::now() - std::time::Duration::from_secs(3600)).unwrap();
        assert_eq!(today.total(), None, "the garbage was written within the hour, whatever the clock says");
    }

    #[test]
    fn two_damaged_ledgers_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        for _ in 0..4 {
            std::fs::write(&path, "garbage").unwrap();
            drop(Ledger::open(folder.path(), at(NOON)).unwrap());
        }
        assert_eq!(sqlite::list_aside(&path).len(), 2);
    }

    #[test]
    fn a_ledger_that_vanished_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        std::fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
        assert!(matches!(ledger.reserve(&request(1, 1), at(NOON)), Err(LedgerError::File(_))), "nobody would find the entry");
        drop(ledger);
        let ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        assert_eq!(ledger.today(at(NOON), &TimeZone::UTC).unwrap().total(), None);
    }

    #[test]
    fn a_changed_entry_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let entry = ledger.reserve(&request(1, 3), at(NOON)).unwrap().entry;
        let db = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        for change in
            ["portions = 1", "time = 0", "animal = NULL", "outcome = 'given', given = 0", "outcome = 'eaten'", "rule = 'x'"]
        {
            db.execute_batch(&format!("SAVEPOINT s; UPDATE portion SET {change}")).unwrap();
            db.execute_batch("RELEASE s").unwrap();
            assert!(
                matches!(ledger.since(Timestamp::UNIX_EPOCH), Err(LedgerError::File(FileError::Damaged { .. }))),
                "{change}"
            );
            let restore =
                "UPDATE portion SET portions = 3, time = ?1, animal = 'milo', outcome = NULL, given = NULL, rule = 'breakfast'";
            db.execute(restore, [at(NOON).as_millisecond()]).unwrap();
        }
        ledger.settle(entry, Outcome::Given(3)).unwrap();
    }

    #[test]
    fn one_process_one_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ledger::open(folder.path(), at(NOON)).unwrap();
        assert!(matches!(Ledger::open(folder.path(), at(NOON)), Err(LedgerError::File(FileError::InUse { .. }))));
        drop(first);
        Ledger::open(folder.path(), at(NOON)).unwrap();
    }

    #[test]
    fn another_programs_or_a_newer_ledger_is_left_alone() {
        for (pragma, value) in [("application_id", 1), ("user_version", 2)] {
            let folder = tempfile::tempdir().unwrap();
            drop(Ledger::open(folder.path(), at(NOON)).unwrap());
            let path = folder.path().join(FILE_NAME);
            Connection::open(&path).unwrap().pragma_update(None, pragma, value).unwrap();
            let error = Ledger::open(folder.path(), at(NOON)).unwrap_err();
            assert!(matches!(&error, LedgerError::File(FileError::Foreign { .. } | FileError::Newer { .. })), "{error}");
            assert!(path.exists());
        }
    }

    #[test]
    fn commits_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), at(NOON)).unwrap();
        let pragma =
            |name: &str| ledger.db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0));
        assert_eq!(pragma("synchronous").unwrap(), 2.into());
        assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
    }
}
