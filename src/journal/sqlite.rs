//! What the journal's and the ledger's database files share: who may use a file, whether it is whole, what to do when it is not.
//!
//! Says nothing about what stands in them; [`super::store`] and [`super::ledger`] do.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use rustix::fs::FlockOperation;

/// Why a database file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("there is no {what} at {}; `pawgate run` makes it when it starts: check the folder's name", path.display())]
    Missing {
        /// `journal` or `ledger`.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error("{} is damaged ({cause}); `pawgate run` moves it aside and begins a new one; check the storage", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// Another program's file.
    #[error("{} does not belong to pawgate ({cause}): move it away, or choose another folder", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// A later version's file.
    #[error(
        "{} was written by a newer pawgate (format {found}, this one knows {known}): update pawgate, or move the file away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The latest that this version reads.
        known: i64,
    },
    /// Another process writes it.
    #[error("{} is in use by another pawgate: stop it, or choose another folder", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// No room on the file system.
    #[error("no room for {} ({cause}): free space on that file system, or keep less", path.display())]
    Full {
        /// The file or folder.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// Anything else.
    #[error("cannot use {} ({cause}): check that its folder exists and that this user may write there; the service's own wants `sudo`", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

impl FileError {
    /// Sorts an error of SQLite by what can be done about it.
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, cause) = (path.to_path_buf(), error.to_string());
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::Unknown
                | ErrorCode::TooBig,
            ) => Self::Damaged { path, cause },
            Some(ErrorCode::DiskFull) => Self::Full { path, cause },
            Some(_) => Self::Unavailable { path, cause },
            // A value of another type than the table declares, or a statement that the table no longer fits.
            None => Self::Damaged { path, cause },
        }
    }

    pub(super) fn from_io(path: &Path, error: &std::io::Error) -> Self {
        let (path, cause) = (path.to_path_buf(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full { path, cause },
            _ => Self::Unavailable { path, cause },
        }
    }

    /// Whether the file itself is at fault, so that a new one may work.
    pub(super) fn is_the_files_fault(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Foreign { .. } | Self::Newer { .. })
    }
}

/// Which database a file is.
pub(super) struct Format {
    /// `journal` or `ledger`.
    pub what: &'static str,
    /// Marks the file as ours.
    pub application_id: i64,
    /// Goes up when the tables change.
    pub version: i64,
    /// One statement for each table and index, as SQLite stores it; [`FACTS`] is the last.
    pub schema: &'static [&'static str],
}

/// The table of single values that every database has.
pub(super) const FACTS: &str = "CREATE TABLE fact(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT";

/// Milliseconds since 1970 before which something may be missing.
const INCOMPLETE_BEFORE: &str = "incomplete_before";

/// Remembers that something before `millisecond` may be missing.
pub(super) fn raise_incomplete(db: &Connection, millisecond: i64) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO fact(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value)";
    db.execute(sql, rusqlite::params![INCOMPLETE_BEFORE, millisecond]).map(|_| ())
}

/// Before which something may be missing, where that is later than `since`.
pub(super) fn incomplete_before(db: &Connection, since: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT value FROM fact WHERE name = ?1 AND value > ?2";
    let values = rusqlite::params![INCOMPLETE_BEFORE, since.as_millisecond()];
    let value = db.query_row(sql, values, |row| row.get(0)).optional()?;
    Ok(value.map(|t| Timestamp::from_millisecond(t).unwrap_or(Timestamp::MAX)))
}

/// What the checks found in a file that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet; the tables have just been made.
    Fresh,
    /// Our tables.
    Existing,
}

/// Opens a file for writing, makes the tables where there are none, and checks everything that stands in it. New tables know from
/// the first moment what is missing.
pub(super) fn open(path: &Path, format: &Format, missing_before: Option<Timestamp>) -> Result<(Connection, Found), FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let error = |e: rusqlite::Error| FileError::from_sqlite(path, &e);
    let db = Connection::open_with_flags(path, flags).map_err(error)?;
    settle(&db).map_err(error)?;
    let found = identify(&db, path, format)?;
    // Must come before the first table, and before WAL writes the first page.
    if found == Found::Fresh {
        db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(error)?;
    }
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(error)?;
    if mode != "wal" {
        log::warn!(
            "{}: this file system allows no write-ahead log (`{mode}` instead); readers may have to wait",
            path.display()
        );
    }
    db.execute_batch("PRAGMA journal_size_limit = 1048576; PRAGMA wal_autocheckpoint = 256").map_err(error)?;
    match found {
        Found::Fresh => create(&db, format, missing_before).map_err(error)?,
        Found::Existing => check(&db, path, format)?,
    }
    Ok((db, found))
}

/// Opens a file for reading, beside a process that writes it.
pub(super) fn open_read_only(path: &Path, format: &Format) -> Result<Connection, FileError> {
    if !path.try_exists().map_err(|e| FileError::from_io(path, &e))? {
        return Err(FileError::Missing { what: format.what, path: path.to_path_buf() });
    }
    let attempt = |name: PathBuf, flags: OpenFlags| {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(name, flags).map_err(|e| FileError::from_sqlite(path, &e))?;
        settle(&db).map_err(|e| FileError::from_sqlite(path, &e))?;
        let found = identify(&db, path, format)?;
        Ok((db, found))
    };
    let (db, found) = match attempt(path.to_path_buf(), OpenFlags::empty()) {
        // Without a log nobody writes; and who may not write the folder cannot make the log's index that a reader needs.
        Err(FileError::Unavailable { .. }) if !beside(path, "-wal").exists() => {
            attempt(immutable_uri(path), OpenFlags::SQLITE_OPEN_URI)?
        }
        other => other?,
    };
    match found {
        Found::Fresh => Err(FileError::Damaged { path: path.to_path_buf(), cause: "it is empty".into() }),
        Found::Existing => check_schema(&db, path, format).map(|()| db),
    }
}

fn immutable_uri(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut uri = b"file:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(byte),
            _ => uri.extend(format!("%{byte:02x}").into_bytes()),
        }
    }
    uri.extend(b"?immutable=1");
    std::ffi::OsString::from_vec(uri).into()
}

/// Settings of every connection. The schema of a damaged file must not be trusted, and no page is mapped: a read error in a mapped
/// page kills the process.
fn settle(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(2))?;
    db.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -1024",
    )
}

fn identify(db: &Connection, path: &Path, format: &Format) -> Result<Found, FileError> {
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| FileError::from_sqlite(path, &e));
    let (application_id, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let path = path.to_path_buf();
    match (application_id, version, tables) {
        (0, 0, 0) => Ok(Found::Fresh),
        (id, found, _) if id == format.application_id && found > format.version => {
            Err(FileError::Newer { path, found, known: format.version })
        }
        (id, version, _) if id == format.application_id && version == format.version => Ok(Found::Existing),
        (id, version, _) if id == format.application_id => {
            Err(FileError::Damaged { path, cause: format!("format {version} never existed") })
        }
        (id, ..) => Err(FileError::Foreign { path, cause: format!("its application id is {id:#x}") }),
    }
}

fn create(db: &Connection, format: &Format, missing_before: Option<Timestamp>) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    for statement in format.schema {
        db.execute_batch(statement)?;
    }
    if let Some(time) = missing_before {
        raise_incomplete(db, time.as_millisecond())?;
    }
    db.pragma_update(None, "application_id", format.application_id)?;
    db.pragma_update(None, "user_version", format.version)?;
    transaction.commit()
}

/// Whether a database has this format's tables, and SQLite finds no damage in it.
pub(super) fn check(db: &Connection, path: &Path, format: &Format) -> Result<(), FileError> {
    check_schema(db, path, format)?;
    let answer: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| FileError::from_sqlite(path, &e))?;
    if answer == "ok" { Ok(()) } else { Err(FileError::Damaged { path: path.to_path_buf(), cause: one_line(&answer) }) }
}

fn check_schema(db: &Connection, path: &Path, format: &Format) -> Result<(), FileError> {
    let stored = || -> rusqlite::Result<Vec<String>> {
        let mut query = db.prepare("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid")?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    let stored = stored().map_err(|e| FileError::from_sqlite(path, &e))?;
    if stored.iter().map(String::as_str).eq(format.schema.iter().copied()) {
        return Ok(());
    }
    Err(FileError::Damaged { path: path.to_path_buf(), cause: "its tables are not those of this format".into() })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Damaged databases that are kept, where there is room.
pub(super) const KEEP_ASIDE: usize = 2;

/// The file SQLite keeps beside a database: `-wal`, `-shm`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the folder, and its entry durable.
pub(super) fn make_folder(folder: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(folder).map_err(|e| FileError::from_io(folder, &e))?;
    if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        // Best effort: the parent may be one that this user cannot read.
        let _ = File::open(parent).and_then(|f| f.sync_all());
    }
    Ok(())
}

/// The right to write one database; given back when it is dropped, or when the process ends in any way.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes `path`, which it makes where there is none.
    pub fn take(path: PathBuf) -> Result<Self, FileError> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = options.map_err(|e| FileError::from_io(&path, &e))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file, path }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FileError::InUse { path }),
            Err(errno) => Err(FileError::from_io(&path, &errno.into())),
        }
    }

    /// Whether the database has once been whole: where it is gone, something was lost.
    pub fn is_marked(&self) -> bool {
        self.file.metadata().is_ok_and(|m| m.len() > 0)
    }

    /// Remembers that the database is whole.
    pub fn mark(&mut self) -> Result<(), FileError> {
        if self.is_marked() {
            return Ok(());
        }
        let write = self.file.write_all(b"the database beside this file has been in use\n").and_then(|()| self.file.sync_all());
        write.map_err(|e| FileError::from_io(&self.path, &e))
    }
}

/// Before which something is missing should the database turn out to be empty: now, or the last time anything in its folder was
/// written, where the clock has gone back since. None where there never was a database.
pub(super) fn missing_before(path: &Path, lock: &Lock, now: Timestamp) -> Option<Timestamp> {
    if !path.exists() && !lock.is_marked() {
        return None;
    }
    let traces = [path.to_path_buf(), beside(path, "-wal"), lock.path.clone(), path.parent()?.to_path_buf()];
    let written = |trace: &PathBuf| Timestamp::try_from(trace.metadata().ok()?.modified().ok()?).ok();
    traces.iter().filter_map(written).chain([now]).max()
}

/// Tells whether a name still means the file that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    path: PathBuf,
    file: (u64, u64),
}

impl Identity {
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let data = std::fs::metadata(path).map_err(|e| FileError::from_io(path, &e))?;
        Ok(Self { path: path.to_path_buf(), file: (data.dev(), data.ino()) })
    }

    /// SQLite goes on writing into a file that was deleted; nobody would find what it writes.
    pub fn verify(&self) -> Result<(), FileError> {
        if Self::of(&self.path)? == *self {
            return Ok(());
        }
        Err(FileError::Unavailable { path: self.path.clone(), cause: "another file took its place".into() })
    }
}

/// How a file that was moved aside is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// Ours and damaged; the two latest are kept.
    Corrupt,
    /// Not ours to delete: another program's, or a later version's.
    Foreign,
}

impl Aside {
    fn tag(self) -> &'static str {
        match self {
            Self::Corrupt => ".corrupt-",
            Self::Foreign => ".foreign-",
        }
    }
}

/// Renames a database and its log, so that a new one can begin under the old name. Returns the new name.
///
/// The log goes first: left behind, it would be read into the new database.
pub(super) fn move_aside(path: &Path, aside: Aside, now: Timestamp) -> Result<PathBuf, FileError> {
    let stamp = now.to_zoned_datetime(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let free = |n: &u32| {
        let name =
            beside(path, &if *n == 0 { format!("{}{stamp}", aside.tag()) } else { format!("{}{stamp}-{n}", aside.tag()) });
        (!name.exists()).then_some(name)
    };
    let Some(target) = (0..1000).find_map(|n| free(&n)) else {
        return Err(FileError::Unavailable {
            path: path.to_path_buf(),
            cause: "a thousand copies were moved aside already".into(),
        });
    };
    for suffix in ["-wal", "-shm", ""] {
        let from = beside(path, suffix);
        match std::fs::rename(&from, beside(&target, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(FileError::from_io(&from, &e)),
            _ => {}
        }
    }
    Ok(target)
}

/// A database that was moved aside, with its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetAside {
    /// All of its files.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
}

/// Damaged databases that were moved aside, oldest first.
pub(super) fn list_aside(path: &Path) -> Vec<SetAside> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return vec![] };
    let prefix = format!("{name}{}", Aside::Corrupt.tag());
    let mut found = std::collections::BTreeMap::<String, SetAside>::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(stamp) = name.strip_prefix(&prefix) else { continue };
        let stamp = stamp.strip_suffix("-wal").or_else(|| stamp.strip_suffix("-shm")).unwrap_or(stamp);
        let Ok(data) = entry.path().symlink_metadata() else { continue };
        if is_stamp(stamp) && data.is_file() {
            let set = found.entry(stamp.to_owned()).or_insert_with(|| SetAside { files: vec![], bytes: 0 });
            set.files.push(entry.path());
            set.bytes += data.len();
        }
    }
    found.into_values().collect()
}

/// Deletes the oldest damaged databases that were moved aside, except the `keep` latest.
pub(super) fn prune_aside(path: &Path, keep: usize) {
    let found = list_aside(path);
    for file in found.iter().rev().skip(keep).flat_map(|aside| &aside.files) {
        if let Err(error) = std::fs::remove_file(file) {
            log::warn!("{}: cannot be deleted: {error}", file.display());
        }
    }
}

/// `20260102T030405Z`, with `-N` where there are several in one second.
fn is_stamp(text: &str) -> bool {
    let (stamp, number) = text.split_once('-').unwrap_or((text, "0"));
    let pattern = |(i, byte): (usize, u8)| match i {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    stamp.len() == 16 && stamp.bytes().enumerate().all(pattern) && number.bytes().all(|b| b.is_ascii_digit())
}

/// 64-bit FNV-1a over the parts of a row, so that a row that is not what was written is noticed: SQLite keeps no checksums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal(u64);

impl Seal {
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a part; its length keeps neighbouring parts apart.
    pub fn part(mut self, bytes: &[u8]) -> Self {
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Adds a number.
    pub fn number(self, value: i64) -> Self {
        self.part(&value.to_le_bytes())
    }

    /// Adds a text that may be absent.
    pub fn text(self, text: Option<&str>) -> Self {
        self.number(text.is_some().into()).part(text.unwrap_or_default().as_bytes())
    }

    /// As it is stored.
    pub const fn value(self) -> i64 {
        self.0.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_stamps_are_ours() {
        for ours in ["20260102T030405Z", "20260102T030405Z-1", "20260102T030405Z-12"] {
            assert!(is_stamp(ours), "{ours}");
        }
        for other in
            ["", "20260102T030405", "2026-01-02", "20260102T030405Z-x", "20260102T030405Z.bak", "copy", "20260102x030405Z"]
        {
            assert!(!is_stamp(other), "{other}");
        }
    }

    #[test]
    fn the_log_moves_with_its_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        for name in ["journal.db", "journal.db-wal", "journal.db.corrupt-mine", "journal.db-old"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let first = move_aside(&path, Aside::Corrupt, now).unwrap();
        assert_eq!(first.file_name().unwrap(), "journal.db.corrupt-20260102T030405Z");
        assert!(!path.exists() && !beside(&path, "-wal").exists());
        std::fs::write(&path, "y").unwrap();
        let second = move_aside(&path, Aside::Corrupt, now).unwrap();
        assert_ne!(first, second);
        let listed = list_aside(&path);
        assert_eq!(listed.iter().map(|a| (a.files.len(), a.bytes)).collect::<Vec<_>>(), [(2, 2), (1, 1)]);
    }

    #[test]
    fn a_lock_holds_against_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.lock");
        let mut first = Lock::take(path.clone()).unwrap();
        assert!(matches!(Lock::take(path.clone()), Err(FileError::InUse { .. })));
        assert!(!first.is_marked());
        first.mark().unwrap();
        drop(first);
        assert!(Lock::take(path).unwrap().is_marked());
    }

    #[test]
    fn a_seal_keeps_parts_apart() {
        let seal = |a: &str, b: Option<&str>| Seal::new().text(Some(a)).text(b).value();
        assert_ne!(seal("ab", Some("c")), seal("a", Some("bc")));
        assert_ne!(seal("a", None), seal("a", Some("")));
    }
}
