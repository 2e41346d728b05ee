//! Events in their database: the one writer of the journal's thread, and readers beside it.
//!
//! Knows nothing of threads, queues or limits; those belong to [`super::writer`] and [`super::retention`].

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::record::{Answer, Kind, Record};
use super::sqlite::{self, Aside, FileError, Format, Found, Identity, Lock, Seal};

/// Name of the database in the journal's folder.
pub const FILE_NAME: &str = "journal.db";

const LOCK_NAME: &str = "journal.lock";

const FORMAT: Format = Format {
    what: "journal",
    application_id: 0x5041_574a,
    version: 1,
    schema: &[
        "CREATE TABLE event(id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, kind TEXT NOT NULL, decision TEXT, \
         rule TEXT, body TEXT NOT NULL, seal INTEGER NOT NULL) STRICT",
        "CREATE INDEX event_time ON event(time)",
        "CREATE INDEX event_rule ON event(rule, time) WHERE rule IS NOT NULL",
        sqlite::FACTS,
    ],
};

/// What a rule did, as far as the journal knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// What rules allowed, oldest first.
    pub uses: Vec<Use>,
    /// Before this, something may be missing (damage, or deleted to make room): whoever counts uses must take what lies before it
    /// for used up. None: everything since the asked time is there.
    pub incomplete_before: Option<Timestamp>,
}

/// A decision that allowed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The rule.
    pub rule: String,
    /// When.
    pub time: Timestamp,
    /// Portions; 1 where none are counted.
    pub count: u32,
}

/// Which events to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Only these kinds; empty means all.
    pub kinds: Vec<Kind>,
    /// Only this rule's.
    pub rule: Option<String>,
    /// Only with this answer.
    pub decision: Option<Answer>,
    /// Only later numbers, and then the first of them instead of the last.
    pub after: Option<u64>,
    /// Only earlier numbers.
    pub before: Option<u64>,
    /// At most so many; none means all.
    pub limit: Option<u32>,
}

/// Events that were read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Events {
    /// By number, ascending.
    pub records: Vec<Record>,
    /// Numbers of events that are not what was written.
    pub damaged: Vec<u64>,
}

/// What can be said of one number.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// The event.
    Event(Box<Record>),
    /// It is not what was written.
    Damaged,
    /// There is none.
    Missing,
}

/// The only writer of a journal.
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
    identity: Identity,
    /// Held as long as the database is open.
    _lock: Lock,
    full_sync: bool,
}

/// A journal that was opened.
pub(super) struct Opened {
    pub store: Store,
    /// Highest number that was ever given, as far as is known.
    pub last_id: u64,
    /// What was wrong with the file that was found, and where it is now.
    pub trouble: Option<String>,
}

impl Store {
    /// Opens the journal of `folder`, or begins one. A file that cannot be used is moved aside.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Opened, FileError> {
        sqlite::make_folder(folder)?;
        let mut lock = Lock::take(folder.join(LOCK_NAME))?;
        let path = folder.join(FILE_NAME);
        let missing = sqlite::missing_before(&path, &lock, now);
        let (db, found, trouble) = match open_checked(&path, missing) {
            Ok((db, found)) => (db, found, None),
            Err(error) if error.is_the_files_fault() => {
                let aside = if matches!(error, FileError::Damaged { .. }) { Aside::Corrupt } else { Aside::Foreign };
                let moved = sqlite::move_aside(&path, aside, now)?;
                let (db, found) = open_checked(&path, missing)?;
                (db, found, Some(format!("{error}. Moved to {}; a new journal begins", moved.display())))
            }
            Err(error) => return Err(error),
        };
        let lost = found == Found::Fresh && missing.is_some();
        let trouble = trouble.or_else(|| {
            let gone = || format!("{} was empty or gone; a new journal begins. Look for who deleted it", path.display());
            lost.then(gone)
        });
        lock.mark()?;
        let identity = Identity::of(&path)?;
        let mut store = Self { db, path, identity, _lock: lock, full_sync: true };
        store.sync_fully(false)?;
        let last_id = store.last_id()?;
        Ok(Opened { store, last_id, trouble })
    }

    /// Adds events; all of them or none. What allows something is on the disk when this returns; everything else is when the
    /// operating system finds the time.
    pub fn append<'a>(&mut self, records: impl Iterator<Item = &'a Record>, durable: bool) -> Result<u64, FileError> {
        self.identity.verify()?;
        self.sync_fully(durable)?;
        let path = &self.path;
        let mut bytes = 0;
        let write = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO event(id, time, kind, decision, rule, body, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?;
                for record in records {
                    let body = serde_json::to_string(record).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
                    let id = i64::try_from(record.id).unwrap_or(i64::MAX);
                    let (time, kind) = (record.time.as_millisecond(), record.event.name());
                    let (decision, rule) = (record.decision.map(Answer::name), record.rule.as_deref());
                    let seal = seal(id, time, kind, decision, rule, &body);
                    insert.execute(params![id, time, kind, decision, rule, body, seal])?;
                    bytes += body.len() as u64;
                }
            }
            transaction.commit()
        };
        write().map_err(|e| FileError::from_sqlite(path, &e))?;
        Ok(bytes)
    }

    /// How many events there are.
    pub fn count(&self) -> Result<u64, FileError> {
        self.number("SELECT count(*) FROM event", []).map(|n| n.unwrap_or(0).unsigned_abs())
    }

    /// Bytes of the database and its log.
    pub fn bytes(&self) -> u64 {
        ["", "-wal", "-shm"].iter().filter_map(|s| sqlite::beside(&self.path, s).metadata().ok()).map(|m| m.len()).sum()
    }

    /// When the newest event happened.
    pub fn newest(&self) -> Result<Option<Timestamp>, FileError> {
        let time = self.number("SELECT time FROM event ORDER BY id DESC LIMIT 1", [])?;
        Ok(time.and_then(|t| Timestamp::from_millisecond(t).ok()))
    }

    /// Deletes what happened before `cutoff`; how many events that were.
    pub fn delete_before(&mut self, cutoff: Timestamp) -> Result<u64, FileError> {
        let cutoff = cutoff.as_millisecond();
        self.delete("SELECT id FROM event WHERE time < ?1", cutoff)
    }

    /// Deletes the `count` oldest events.
    pub fn delete_oldest(&mut self, count: u64) -> Result<u64, FileError> {
        self.delete("SELECT id FROM event ORDER BY id LIMIT ?1", i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn delete(&mut self, which: &str, parameter: i64) -> Result<u64, FileError> {
        let run = || {
            let transaction = self.db.unchecked_transaction()?;
            let newest: Option<i64> =
                transaction
                    .query_row(&format!("SELECT max(time) FROM event WHERE id IN ({which})"), [parameter], |r| r.get(0))?;
            let deleted = transaction.execute(&format!("DELETE FROM event WHERE id IN ({which})"), [parameter])?;
            if let Some(newest) = newest {
                sqlite::raise_incomplete(&transaction, newest.saturating_add(1))?;
            }
            transaction.commit()?;
            Ok(deleted as u64)
        };
        run().map_err(|e| FileError::from_sqlite(&self.path, &e))
    }

    /// Gives free pages and the log back to the file system.
    pub fn shrink(&mut self) -> Result<(), FileError> {
        let run = || {
            {
                let mut vacuum = self.db.prepare("PRAGMA incremental_vacuum")?;
                // One page a step.
                let mut pages = vacuum.query([])?;
                while pages.next()?.is_some() {}
            }
            // A reader may hold the log back; the next time will do.
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        run().map_err(|e| FileError::from_sqlite(&self.path, &e))
    }

    fn last_id(&self) -> Result<u64, FileError> {
        let sql = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0), \
                   coalesce((SELECT max(id) FROM event), 0))";
        self.number(sql, []).map(|n| n.unwrap_or(0).unsigned_abs())
    }

    fn sync_fully(&mut self, full: bool) -> Result<(), FileError> {
        if self.full_sync != full {
            let sql = if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.db.execute_batch(sql).map_err(|e| FileError::from_sqlite(&self.path, &e))?;
            self.full_sync = full;
        }
        Ok(())
    }

    fn number(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<i64>, FileError> {
        self.db.query_row(sql, params, |row| row.get(0)).optional().map_err(|e| FileError::from_sqlite(&self.path, &e))
    }
}

fn open_checked(path: &Path, missing_before: Option<Timestamp>) -> Result<(Connection, Found), FileError> {
    let (db, found) = sqlite::open(path, &FORMAT, missing_before)?;
    check_rows(&db, path)?;
    Ok((db, found))
}

/// SQLite checks its pages' structure only; this checks what the rows say.
fn check_rows(db: &Connection, path: &Path) -> Result<(), FileError> {
    let wrong = || -> rusqlite::Result<Option<i64>> {
        let mut query = db.prepare("SELECT id, time, kind, decision, rule, body, seal FROM event")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            if !is_sealed(row)? {
                return row.get(0).map(Some);
            }
        }
        Ok(None)
    };
    match wrong().map_err(|e| FileError::from_sqlite(path, &e))? {
        Some(id) => Err(FileError::Damaged { path: path.to_path_buf(), cause: format!("event {id} is not what was written") }),
        None => Ok(()),
    }
}

fn seal(id: i64, time: i64, kind: &str, decision: Option<&str>, rule: Option<&str>, body: &str) -> i64 {
    Seal::new().number(id).number(time).text(Some(kind)).text(decision).text(rule).text(Some(body)).value()
}

fn is_sealed(row: &Row<'_>) -> rusqlite::Result<bool> {
    let text = |i: usize| row.get_ref(i).and_then(|v| Ok(v.as_str_or_null()?));
    let (kind, body) = (text(2)?.unwrap_or_default(), text(5)?.unwrap_or_default());
    Ok(row.get::<_, i64>(6)? == seal(row.get(0)?, row.get(1)?, kind, text(3)?, text(4)?, body))
}

/// Reads a journal, also while another process writes it.
pub struct Reader {
    db: Connection,
    path: PathBuf,
    identity: Identity,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens the journal in `folder`.
    ///
    /// # Errors
    ///
    /// Where there is none, where it is damaged at its root, another program's or a newer one's, or where it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(FILE_NAME);
        let db = sqlite::open_read_only(&path, &FORMAT)?;
        let identity = Identity::of(&path)?;
        Ok(Self { db, path, identity })
    }

    /// Reads all of the file and looks for damage.
    ///
    /// # Errors
    ///
    /// Where it is damaged or cannot be read.
    pub fn verify(&self) -> Result<(), FileError> {
        sqlite::check(&self.db, &self.path, &FORMAT)
    }

    /// Whether the file is still the folder's journal; where not, the reader must be opened again.
    pub fn is_current(&self) -> bool {
        self.identity.verify().is_ok()
    }

    /// First and last number, and how many there are; none in an empty journal.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is damaged.
    pub fn range(&self) -> Result<Option<(u64, u64, u64)>, FileError> {
        let sql = "SELECT coalesce(min(id), 0), coalesce(max(id), 0), count(*) FROM event";
        let number = |row: &Row<'_>, i: usize| row.get::<_, i64>(i).map(i64::unsigned_abs);
        let row = self.db.query_row(sql, [], |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)));
        row.map(|range| (range.2 > 0).then_some(range)).map_err(|e| self.error(&e))
    }

    /// One event.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is damaged beyond the one event.
    pub fn get(&self, id: u64) -> Result<Entry, FileError> {
        let sql = "SELECT id, time, kind, decision, rule, body, seal FROM event WHERE id = ?1";
        let id = i64::try_from(id).unwrap_or(i64::MAX);
        let row = self.db.query_row(sql, [id], |row| Ok(read(row))).optional().map_err(|e| self.error(&e))?;
        Ok(match row {
            None => Entry::Missing,
            Some(None) => Entry::Damaged,
            Some(Some(record)) => Entry::Event(Box::new(record)),
        })
    }

    /// The events that pass a filter.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is damaged beyond single events.
    pub fn events(&self, filter: &Filter) -> Result<Events, FileError> {
        let (sql, values) = filter.sql();
        let mut found = Events::default();
        let run = || -> rusqlite::Result<()> {
            let mut query = self.db.prepare(&sql)?;
            let mut rows = query.query(rusqlite::params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                match read(row) {
                    Some(record) => found.records.push(record),
                    None => found.damaged.push(row.get::<_, i64>(0)?.unsigned_abs()),
                }
            }
            Ok(())
        };
        run().map_err(|e| self.error(&e))?;
        if filter.after.is_none() {
            found.records.reverse();
            found.damaged.reverse();
        }
        Ok(found)
    }

    /// What rules allowed since `since`. An event that is damaged makes everything before `now` uncertain.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is damaged; then nothing is known.
    pub fn history(&self, since: Timestamp, now: Timestamp) -> Result<History, FileError> {
        let filter =
            Filter { since: Some(since), decision: Some(Answer::Allow), kinds: vec![Kind::Decision], ..Filter::default() };
        let events = self.events(&filter)?;
        let deleted = sqlite::incomplete_before(&self.db, since).map_err(|e| self.error(&e))?;
        let incomplete_before = if events.damaged.is_empty() { deleted } else { Some(now) };
        let used = |record: Record| {
            let (time, count) = (record.time, record.portions.unwrap_or(1));
            record.rule.map(|rule| Use { rule, time, count })
        };
        Ok(History { uses: events.records.into_iter().filter_map(used).collect(), incomplete_before })
    }

    fn error(&self, error: &rusqlite::Error) -> FileError {
        FileError::from_sqlite(&self.path, error)
    }
}

impl Filter {
    fn sql(&self) -> (String, Vec<Value>) {
        let mut sql = "SELECT id, time, kind, decision, rule, body, seal FROM event WHERE true".to_owned();
        let mut values = vec![];
        let mut and = |condition: &str, value: Value| {
            values.push(value);
            sql.push_str(" AND ");
            sql.push_str(condition);
        };
        if let Some(since) = self.since {
            and("time >= ?", since.as_millisecond().into());
        }
        if let Some(rule) = &self.rule {
            and("rule = ?", rule.clone().into());
        }
        if let Some(decision) = self.decision {
            and("decision = ?", decision.name().to_owned().into());
        }
        if let Some(after) = self.after {
            and("id > ?", i64::try_from(after).unwrap_or(i64::MAX).into());
        }
        if let Some(before) = self.before {
            and("id < ?", i64::try_from(before).unwrap_or(i64::MAX).into());
        }
        if !self.kinds.is_empty() {
            let marks = vec!["?"; self.kinds.len()].join(", ");
            sql.push_str(&format!(" AND kind IN ({marks})"));
            values.extend(self.kinds.iter().map(|kind| Value::from(kind.name().to_owned())));
        }
        sql.push_str(if self.after.is_some() { " ORDER BY id" } else { " ORDER BY id DESC" });
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        (sql, values)
    }
}

/// None where the row is not what was written.
fn read(row: &Row<'_>) -> Option<Record> {
    if !is_sealed(row).unwrap_or(false) {
        return None;
    }
    let body = row.get_ref(5).ok()?;
    serde_json::from_str(body.as_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 0).unwrap()
    }

    fn event(id: u64, kind: Kind) -> Record {
        Record { id, ..Record::new(kind, at(id.cast_signed())) }
    }

    fn allowed(id: u64, rule: &str, portions: Option<u32>) -> Record {
        Record { decision: Some(Answer::Allow), rule: Some(rule.into()), portions, ..event(id, Kind::Decision) }
    }

    fn filled(folder: &Path) -> Store {
        let mut store = Store::open(folder, at(0)).unwrap().store;
        let denied = Record { decision: Some(Answer::Deny), rule: Some("night".into()), ..event(3, Kind::Decision) };
        let records =
            [event(1, Kind::Start), event(2, Kind::Motion), denied, allowed(4, "cats", None), allowed(5, "food", Some(2))];
        store.append(records.iter(), true).unwrap();
        store
    }

    #[test]
    fn filters_choose_and_order() {
        let folder = tempfile::tempdir().unwrap();
        let _store = filled(folder.path());
        let reader = Reader::open(folder.path()).unwrap();
        let ids = |filter: Filter| reader.events(&filter).unwrap().records.iter().map(|r| r.id).collect::<Vec<_>>();
        let all = Filter::default;
        assert_eq!(ids(all()), [1, 2, 3, 4, 5]);
        assert_eq!(ids(Filter { limit: Some(2), ..all() }), [4, 5]);
        assert_eq!(ids(Filter { after: Some(2), limit: Some(2), ..all() }), [3, 4]);
        assert_eq!(ids(Filter { before: Some(4), limit: Some(2), ..all() }), [2, 3]);
        assert_eq!(ids(Filter { since: Some(at(4)), ..all() }), [4, 5]);
        assert_eq!(ids(Filter { kinds: vec![Kind::Start, Kind::Decision], ..all() }), [1, 3, 4, 5]);
        assert_eq!(ids(Filter { rule: Some("night".into()), ..all() }), [3]);
        assert_eq!(
            ids(Filter { decision: Some(Answer::Allow), kinds: vec![Kind::Decision], since: Some(at(5)), ..all() }),
            [5]
        );
        assert_eq!(reader.range().unwrap(), Some((1, 5, 5)));
        assert_eq!(reader.get(9).unwrap(), Entry::Missing);
        assert_eq!(reader.get(5).unwrap(), Entry::Event(Box::new(allowed(5, "food", Some(2)))));
    }

    #[test]
    fn history_is_what_was_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        let reader = Reader::open(folder.path()).unwrap();
        let history = reader.history(at(0), at(9)).unwrap();
        let used = |rule: &str, second, count| Use { rule: rule.into(), time: at(second), count };
        assert_eq!(history, History { uses: vec![used("cats", 4, 1), used("food", 5, 2)], incomplete_before: None });
        assert_eq!(reader.history(at(5), at(9)).unwrap().uses, [used("food", 5, 2)]);
        store.delete_oldest(4).unwrap();
        let history = reader.history(at(0), at(9)).unwrap();
        assert_eq!(history.uses, [used("food", 5, 2)]);
        assert!(history.incomplete_before.is_some_and(|t| t > at(4) && t < at(5)), "{history:?}");
        assert_eq!(reader.history(at(5), at(9)).unwrap().incomplete_before, None);
    }

    #[test]
    fn a_changed_row_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let db = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        db.execute("UPDATE event SET body = replace(body, 'food', 'feed') WHERE id = 5", []).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.get(5).unwrap(), Entry::Damaged);
        assert_eq!(reader.events(&Filter::default()).unwrap().damaged, [5]);
        assert_eq!(reader.history(at(0), at(9)).unwrap().incomplete_before, Some(at(9)));
        drop((db, reader));
        let opened = Store::open(folder.path(), at(9)).unwrap();
        assert!(opened.trouble.unwrap().contains("event 5 is not what was written"));
        assert_eq!(opened.store.count().unwrap(), 0);
        let reader = Reader::open(folder.path()).unwrap();
        assert_eq!(reader.history(at(0), at(9)).unwrap().incomplete_before, Some(at(9)));
    }

    #[test]
    fn ids_outlive_their_events() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path());
        store.delete_oldest(5).unwrap();
        drop(store);
        let opened = Store::open(folder.path(), at(9)).unwrap();
        assert_eq!((opened.last_id, opened.trouble), (5, None));
    }

    #[test]
    fn a_journal_that_vanished_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Store::open(folder.path(), at(0)).unwrap().trouble, None);
        for emptied in [false, true] {
            let path = folder.path().join(FILE_NAME);
            if emptied { std::fs::write(&path, "") } else { std::fs::remove_file(&path) }.unwrap();
            assert!(Store::open(folder.path(), at(1)).unwrap().trouble.unwrap().contains("empty or gone"));
        }
        let history = Reader::open(folder.path()).unwrap().history(at(0), at(9)).unwrap();
        assert_eq!(history.incomplete_before, Some(at(1)));
    }

    #[test]
    fn a_newer_format_is_kept_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        Connection::open(folder.path().join(FILE_NAME)).unwrap().pragma_update(None, "user_version", 2).unwrap();
        let message = Reader::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("newer pawgate (format 2, this one knows 1)"), "{message}");
        let opened = Store::open(folder.path(), at(9)).unwrap();
        assert!(opened.trouble.unwrap().contains(".foreign-"));
        assert!(sqlite::list_aside(&folder.path().join(FILE_NAME)).is_empty(), "what is not ours is not ours to delete");
    }

    #[test]
    fn what_is_deleted_gives_its_room_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), at(0)).unwrap().store;
        let long = |id| Record { reason: Some("x".repeat(2000)), ..event(id, Kind::Fault) };
        let records: Vec<_> = (1..=500).map(long).collect();
        store.append(records.iter(), false).unwrap();
        store.shrink().unwrap();
        let before = store.bytes();
        assert_eq!(store.delete_oldest(400).unwrap(), 400);
        store.shrink().unwrap();
        assert!(store.bytes() < before / 2, "{before} → {} bytes", store.bytes());
    }
}
