//! The journal's thread. Whatever fails here ends in memory, with a fault that is visible, and is tried again.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use image::RgbImage;
use jiff::Timestamp;

use super::buffer::{Buffer, Lost};
use super::record::{Answer, Kind, Record};
use super::retention::{self, Limits, Steadiness};
use super::sqlite::FileError;
use super::store::Store;
use super::{FreeSpace, Item, Settings, Shared, Storage, id_of, snapshots};
use crate::hw::clock::{Monotonic, Now};

/// Events that memory holds while there is no disk; at least the queue's, which all land here.
const UNSAVED: usize = 1000;
/// Newest events that only age deletes.
const KEEP_EVENTS: u64 = 1000;
/// How often the thread looks around when nothing comes.
const TURN: Duration = Duration::from_secs(1);
/// From one look at age, bytes and reserve to the next.
const RETENTION_EVERY: Duration = Duration::from_secs(3600);
/// The first wait before a failed journal is tried again; it doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

pub(super) struct Writer {
    shared: Arc<Shared>,
    settings: Settings,
    free: FreeSpace,
    store: Option<Store>,
    unsaved: Buffer<Arc<Record>>,
    /// Not yet told as an event.
    lost: Lost,
    lost_total: u64,
    fault: Option<Fault>,
    retry_at: Monotonic,
    retry_after: Duration,
    retention_at: Monotonic,
    /// Bytes since retention last looked.
    written: u64,
    steadiness: Steadiness,
    /// Pictures could not be written the last time.
    pictures_fail: bool,
}

/// Why events go to memory.
struct Fault {
    cause: String,
    since: Timestamp,
}

/// Tells whoever waits that the thread is no more, however it ended.
struct EndsWith(Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.end("its thread ended, which is a fault of pawgate: restart it, and report what the log says");
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, settings: Settings, free: FreeSpace) -> Self {
        Self {
            shared,
            settings,
            free,
            store: None,
            unsaved: Buffer::new(UNSAVED),
            lost: Lost::default(),
            lost_total: 0,
            fault: None,
            retry_at: Monotonic::default(),
            retry_after: FIRST_RETRY,
            retention_at: Monotonic::default(),
            written: 0,
            steadiness: Steadiness::default(),
            pictures_fail: false,
        }
    }

    /// Until the journal is closed.
    pub fn run(mut self) {
        let _end = EndsWith(Arc::clone(&self.shared));
        self.open(self.shared.clock.now());
        self.publish(false);
        loop {
            let (items, lost, closing) = self.next();
            let last = closing && items.is_empty();
            self.turn(items, &lost, closing);
            self.publish(true);
            if last {
                return;
            }
        }
    }

    /// What came since the last time; waits a turn for it.
    fn next(&self) -> (VecDeque<Item>, Lost, bool) {
        let mut state = self.shared.lock();
        if state.queue.is_empty() && !state.closing && !state.poked {
            state = self.shared.work.wait_timeout(state, TURN).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.idle = false;
        state.poked = false;
        let (items, lost) = state.queue.take();
        // Still counted as waiting, so that `health` never shows fewer than there are.
        state.health.unsaved += items.len();
        state.health.lost += lost.total();
        (items, lost, state.closing)
    }

    fn turn(&mut self, items: VecDeque<Item>, lost: &Lost, closing: bool) {
        let now = self.shared.clock.now();
        self.lose(lost);
        if self.store.is_none() && (closing || now.mono >= self.retry_at) {
            self.open(now);
        }
        for item in items {
            self.receive(item, now);
        }
        self.save(now);
        if self.store.is_some() && (now.mono >= self.retention_at || self.written > self.settings.max_bytes / 32) {
            self.retain(now);
            self.save(now);
        }
    }

    fn lose(&mut self, lost: &Lost) {
        self.lost_total += lost.total();
        self.lost.merge(lost);
    }

    fn receive(&mut self, item: Item, now: Now) {
        let mut record = item.record;
        if let Some(picture) = item.picture {
            let snapshot = self.keep_picture(&record, &picture, now);
            if snapshot.is_none() {
                self.shared.lock().health.lost_pictures += 1;
            }
            Arc::make_mut(&mut record).snapshot = snapshot;
        }
        self.unsaved.push(record);
        let lost = self.unsaved.take_lost();
        self.lose(&lost);
    }

    fn keep_picture(&mut self, record: &Record, picture: &RgbImage, now: Now) -> Option<String> {
        self.store.as_ref()?;
        let folder = self.settings.folder.clone();
        let mut written = snapshots::write(&folder, record.id, record.time, picture);
        if matches!(written, Err(FileError::Full { .. })) && self.retain(now) {
            written = snapshots::write(&folder, record.id, record.time, picture);
        }
        match written {
            Ok((name, bytes)) => {
                self.written += bytes;
                self.pictures_fail = false;
                Some(name)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.pictures_fail, true) {
                    self.tell(Kind::Fault, now, format!("pictures are not kept: {error}"));
                }
                None
            }
        }
    }

    fn open(&mut self, now: Now) {
        self.store = None;
        let opened = match Store::open(&self.settings.folder, now.wall) {
            Ok(opened) => opened,
            Err(error) => return self.degrade(&error, now),
        };
        self.continue_ids(opened.last_id, opened.trouble.is_some(), now);
        self.store = Some(opened.store);
        snapshots::remove_partial(&self.settings.folder);
        if let Some(trouble) = opened.trouble {
            self.tell(Kind::Fault, now, trouble);
        }
        self.retain(now);
    }

    /// Numbers go on after the database's last; after damage, after anything that may have been in it. What took a number in memory
    /// that the database has given already gets another.
    fn continue_ids(&mut self, last: u64, damaged: bool, now: Now) {
        let pictured = snapshots::list(&self.settings.folder).iter().map(|s| s.id).max().unwrap_or(0);
        let mut state = self.shared.lock();
        let known = self.fault.is_some() || !state.recent.is_empty();
        let after_damage = if damaged { id_of(now.wall) } else { 0 };
        let next = last.max(pictured).saturating_add(1).max(after_damage);
        state.next_id = if known { state.next_id.max(next) } else { next };
        for record in self.unsaved.iter_mut().filter(|r| r.id <= last) {
            Arc::make_mut(record).id = state.next_id;
            state.next_id += 1;
        }
    }

    /// Puts everything into the database. What fails is mended once: by retention where there is no room, by opening again (which
    /// checks the file) otherwise.
    fn save(&mut self, now: Now) {
        let mut mended = false;
        loop {
            match self.append() {
                Ok(false) => return,
                Ok(true) => self.after_save(now),
                Err(error) if mended => return self.degrade(&error, now),
                Err(FileError::Full { .. }) => {
                    mended = true;
                    self.retain(now);
                }
                Err(error) => {
                    mended = true;
                    self.open(now);
                    if self.store.is_some() && !error.is_the_files_fault() {
                        self.tell(Kind::Fault, now, format!("{error}. Opened again"));
                    }
                }
            }
        }
    }

    /// Whether anything was written.
    fn append(&mut self) -> Result<bool, FileError> {
        let Some(store) = &mut self.store else { return Ok(false) };
        if self.unsaved.is_empty() {
            return Ok(false);
        }
        let durable = self.unsaved.iter().any(|r| r.decision == Some(Answer::Allow));
        self.written += store.append(self.unsaved.iter().map(|r| &**r), durable)?;
        self.unsaved.clear();
        Ok(true)
    }

    /// Tells what could not be told while nothing could be written.
    fn after_save(&mut self, now: Now) {
        if let Some(fault) = self.fault.take() {
            self.retry_after = FIRST_RETRY;
            let since = fault.since;
            self.tell(Kind::Recovered, now, format!("the journal is on disk again; since {since} events were kept in memory"));
        }
        if self.lost.total() > 0 {
            let lost = std::mem::take(&mut self.lost);
            let folder = self.settings.folder.display();
            self.tell(Kind::Fault, now, format!("{lost} lost: the storage of {folder} was too slow or failed; check it"));
        }
    }

    /// Whether the journal may go on writing.
    fn retain(&mut self, now: Now) -> bool {
        let Some(store) = &mut self.store else { return false };
        let result = store.newest().and_then(|newest| {
            let limits = Limits {
                cutoff: self.steadiness.cutoff(now, newest, self.settings.keep_for),
                max_bytes: self.settings.max_bytes,
                reserve_bytes: self.settings.reserve_bytes,
                keep_events: KEEP_EVENTS,
            };
            retention::run(&self.settings.folder, store, &limits, &mut self.free)
        });
        self.retention_at = now.mono + RETENTION_EVERY;
        self.written = 0;
        let error = match result {
            Ok(outcome) => match outcome.short {
                None => return true,
                Some(free) => {
                    let cause = format!("{free} bytes are free, {} are to stay free", self.settings.reserve_bytes);
                    FileError::Full { path: self.settings.folder.clone(), cause }
                }
            },
            Err(error) => error,
        };
        self.degrade(&error, now);
        false
    }

    /// Goes on in memory.
    fn degrade(&mut self, error: &FileError, now: Now) {
        self.store = None;
        self.retry_at = now.mono + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(LONGEST_RETRY);
        let cause = format!("the journal keeps the last {UNSAVED} events in memory only: {error}");
        match &mut self.fault {
            Some(fault) => fault.cause = cause,
            None => {
                self.fault = Some(Fault { cause: cause.clone(), since: now.wall });
                self.tell(Kind::Fault, now, cause);
            }
        }
    }

    /// Makes an event of the journal itself.
    fn tell(&mut self, kind: Kind, now: Now, reason: String) {
        match kind {
            Kind::Fault => log::error!("{reason}"),
            _ => log::warn!("{reason}"),
        }
        let record = self.shared.lock().notice(Record { reason: Some(reason), ..Record::new(kind, now.wall) });
        self.unsaved.push(record);
        let lost = self.unsaved.take_lost();
        self.lose(&lost);
    }

    fn publish(&self, idle: bool) {
        let mut state = self.shared.lock();
        state.health.storage = match &self.fault {
            Some(fault) => Storage::Memory { cause: fault.cause.clone(), since: fault.since },
            None => Storage::Disk,
        };
        state.health.lost = self.lost_total;
        state.health.unsaved = self.unsaved.len();
        state.idle = idle;
        drop(state);
        self.shared.done.notify_all();
    }
}
