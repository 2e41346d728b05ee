//! The record of what happened and why: events, snapshots, the feeder's ledger, retention.
//!
//! [`Journal`] takes events without waiting for the disk and keeps them in SQLite on a thread of its own; what fails there is
//! visible in [`Journal::health`] and as an event, and never reaches whoever decides. [`ledger::Ledger`] is the exception: a
//! portion is on the disk before it may be given. [`Reader`] reads beside a running pawgate.
//!
//! | module | does |
//! |---|---|
//! | [`record`] | an event, as it is kept and printed |
//! | [`ledger`] | portions, durable before they are given |
//! | `writer` | the thread: batches, faults, going on in memory, trying again |
//! | `buffer` | bounded rows of events that lose the least important first |
//! | `store` | events in their database; readers |
//! | `sqlite` | what the databases share: locks, checks, moving aside |
//! | `snapshots` | pictures of decisions |
//! | `retention` | what must go |
//!
//! Nothing here decides or formats for people; that is `cli`'s.

mod buffer;
pub mod ledger;
pub mod record;
mod retention;
mod snapshots;
mod sqlite;
mod store;
mod writer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image::RgbImage;
use jiff::Timestamp;
pub use record::{Answer, Kind, Record};
pub use sqlite::FileError;
pub use store::{Entry, Events, FILE_NAME, Filter, History, Reader, Use};

use self::buffer::{Buffer, HasKind};
use crate::hw::clock::Clock;

/// Where the journal lies where nothing else is configured.
pub const DEFAULT_FOLDER: &str = "/var/lib/pawgate/journal";

/// Events that wait for the journal's thread.
const QUEUE: usize = 1000;
/// Pictures among them; each is as large as the camera's frame.
const QUEUED_PICTURES: usize = 4;
/// The latest events, kept in memory for [`Journal::recent`].
const RECENT: usize = 256;
/// Events of the journal itself that wait for [`Journal::take_notices`].
const NOTICES: usize = 64;
/// How long [`Journal::open`] waits for the database.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// How long dropping a journal waits for the disk.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// Where the journal lies and how much it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its folder.
    pub folder: PathBuf,
    /// Events and snapshots older than this are deleted.
    pub keep_for: Duration,
    /// Bytes of events and snapshots together; the oldest snapshots go first. The newest 1,000 events (about 3 MB) stay.
    pub max_bytes: u64,
    /// Bytes of the file system that stay free, whatever else is configured.
    pub reserve_bytes: u64,
    /// Whether decisions keep a picture.
    pub snapshots: bool,
}

/// Tells how many bytes are free on the file system of a folder.
pub type FreeSpace = Box<dyn FnMut(&Path) -> std::io::Result<u64> + Send>;

/// Where events go at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// The database is being opened and checked; events wait in memory.
    Opening,
    /// To the database.
    Disk,
    /// To memory only, and the oldest are lost when there are too many: a fault.
    Memory {
        /// What failed, and what to do.
        cause: String,
        /// Since when.
        since: Timestamp,
    },
}

/// How the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where events go.
    pub storage: Storage,
    /// Events that are lost since the start.
    pub lost: u64,
    /// Pictures that were not kept since the start, because of a fault or because too many came at once.
    pub lost_pictures: u64,
    /// Events that wait in memory.
    pub unsaved: usize,
}

/// Takes events, from any thread, without ever waiting for the disk.
///
/// Dropping it waits up to 5 seconds for what is still to be written; [`Self::close`] lets the caller choose.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    settings: Settings,
}

/// What the journal's thread and its callers share. Nobody holds the lock while waiting for anything.
struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes those who wait for the thread.
    done: Condvar,
}

struct State {
    queue: Buffer<Item>,
    recent: VecDeque<Arc<Record>>,
    notices: VecDeque<Record>,
    next_id: u64,
    health: Health,
    /// The thread has everything that was queued, and is done with it.
    idle: bool,
    /// Someone wants a turn of the thread although nothing is queued.
    poked: bool,
    closing: bool,
    ended: bool,
}

/// An event on its way to the thread.
struct Item {
    record: Arc<Record>,
    picture: Option<RgbImage>,
}

impl HasKind for Item {
    fn kind(&self) -> Kind {
        self.record.event
    }
}

impl HasKind for Arc<Record> {
    fn kind(&self) -> Kind {
        self.event
    }
}

impl Journal {
    /// Opens the journal, or begins one, and waits up to 10 seconds until that is done. Never fails: what does not work is in
    /// [`Self::health`], and is tried again.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self::open_with(settings, clock, Box::new(retention::free_bytes))
    }

    /// As [`Self::open`], with another way to tell how much of the file system is free.
    pub fn open_with(settings: Settings, clock: Arc<dyn Clock>, free: FreeSpace) -> Self {
        let shared = Arc::new(Shared::new(clock));
        let writer = writer::Writer::new(Arc::clone(&shared), settings.clone(), free);
        let thread = match std::thread::Builder::new().name("journal".into()).spawn(move || writer.run()) {
            Ok(thread) => Some(thread),
            Err(error) => {
                shared.end(&format!("its thread cannot be started ({error}): free memory, then restart pawgate"));
                None
            }
        };
        shared.wait(OPEN_WAIT, |state| state.ended || state.health.storage != Storage::Opening);
        Self { shared, thread, settings }
    }

    /// Takes an event, and its picture where there is one, and gives it the number that it returns. `id` and `snapshot` of what is
    /// passed do not count. Never waits: where the thread cannot keep up, motion is lost first, and what was lost becomes an event.
    pub fn write(&self, mut record: Record, picture: Option<RgbImage>) -> u64 {
        record.snapshot = None;
        let mut state = self.shared.lock();
        let record = state.number(record);
        let id = record.id;
        let room = || state.queue.iter().filter(|item| item.picture.is_some()).count() < QUEUED_PICTURES;
        let picture = picture.filter(|_| self.settings.snapshots);
        let (picture, refused) = if picture.is_none() || room() { (picture, 0) } else { (None, 1) };
        state.health.lost_pictures += refused;
        state.queue.push(Item { record, picture });
        drop(state);
        self.shared.work.notify_one();
        id
    }

    /// How the journal is.
    pub fn health(&self) -> Health {
        let state = self.shared.lock();
        let mut health = state.health.clone();
        health.lost += state.queue.lost().total();
        health.unsaved += state.queue.len();
        health
    }

    /// The latest events, oldest first, at most `count` and at most 256; without waiting for the disk.
    pub fn recent(&self, count: usize) -> Vec<Record> {
        let state = self.shared.lock();
        state.recent.iter().skip(state.recent.len().saturating_sub(count)).map(|r| (**r).clone()).collect()
    }

    /// Events about the journal itself (faults, recoveries, losses) since the last call, for whoever shows events as they happen.
    pub fn take_notices(&self) -> Vec<Record> {
        self.shared.lock().notices.drain(..).collect()
    }

    /// What rules allowed since `since`, from the database: for a start, before anything is decided. Whatever fails comes back as
    /// "nothing is known before now".
    pub fn usage_since(&self, since: Timestamp) -> History {
        let now = self.shared.clock.now().wall;
        let read = || Reader::open(&self.settings.folder)?.history(since, now);
        match self.health().storage {
            Storage::Disk => read().unwrap_or_else(|error| {
                log::error!("what the rules did before is unknown, so what they may do counts as used up: {error}");
                History { uses: vec![], incomplete_before: Some(now) }
            }),
            Storage::Opening | Storage::Memory { .. } => History { uses: vec![], incomplete_before: Some(now) },
        }
    }

    /// Waits until the thread has handled everything that was written before; whether all of it is in the database.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.lock().poked = true;
        self.shared.work.notify_one();
        let handled = self.shared.wait(timeout, |state| state.ended || (state.idle && !state.poked && state.queue.is_empty()));
        let health = self.health();
        handled && health.storage == Storage::Disk && health.unsaved == 0
    }

    /// Why events stay in memory, where they do.
    pub fn trouble(&self) -> Option<String> {
        match &self.shared.lock().health.storage {
            Storage::Memory { cause, .. } => Some(cause.clone()),
            Storage::Opening | Storage::Disk => None,
        }
    }

    /// Writes what is left and ends the thread; whether that was done, and in time. Where the disk does not answer, the thread is left
    /// to itself.
    pub fn close(mut self, timeout: Duration) -> bool {
        self.end(timeout)
    }

    fn end(&mut self, timeout: Duration) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let ended = self.shared.wait(timeout, |state| state.ended);
        if !ended {
            log::error!("the journal in {} does not end: its disk does not answer", self.settings.folder.display());
            return false;
        }
        let joined = thread.join().is_ok();
        let lost = self.health().unsaved;
        if lost > 0 {
            log::error!("{lost} events are lost: the journal in {} could not take them", self.settings.folder.display());
        }
        joined && lost == 0
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end(DROP_WAIT);
    }
}

impl Shared {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State {
            queue: Buffer::new(QUEUE),
            recent: VecDeque::new(),
            notices: VecDeque::new(),
            next_id: id_of(clock.now().wall),
            health: Health { storage: Storage::Opening, lost: 0, lost_pictures: 0, unsaved: 0 },
            idle: false,
            poked: false,
            closing: false,
            ended: false,
        };
        Self { state: Mutex::new(state), clock, work: Condvar::new(), done: Condvar::new() }
    }

    /// A panic elsewhere leaves nothing half done behind this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is true; whether it is.
    fn wait(&self, timeout: Duration, is_true: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while !is_true(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The thread is no more.
    fn end(&self, cause: &str) {
        let mut state = self.lock();
        state.ended = true;
        if !state.closing {
            let since = self.clock.now().wall;
            let cause = format!("the journal keeps the last {QUEUE} events in memory only: {cause}");
            log::error!("{cause}");
            state.health.storage = Storage::Memory { cause: cause.clone(), since };
            state.notice(Record { reason: Some(cause), ..Record::new(Kind::Fault, since) });
        }
        drop(state);
        self.done.notify_all();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl State {
    /// Gives an event its number.
    fn number(&mut self, mut record: Record) -> Arc<Record> {
        record.id = self.next_id;
        self.next_id += 1;
        let record = Arc::new(record);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&record));
        record
    }

    /// Makes an event of the journal itself.
    fn notice(&mut self, record: Record) -> Arc<Record> {
        let record = self.number(record);
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back((*record).clone());
        record
    }
}

/// A first number where the last one is unknown: seconds since 2020. Higher than the numbers of any journal with less than one
/// event a second, and people can still read it.
fn id_of(wall: Timestamp) -> u64 {
    const YEAR_2020: i64 = 1_577_836_800;
    u64::try_from(wall.as_second() - YEAR_2020).unwrap_or(0).max(1)
}
