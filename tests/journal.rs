//! The journal against what storage does to it: cuts, garbage, full and read-only file systems, crashes, and readers beside it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use image::RgbImage;
use jiff::Timestamp;
use pawgate::hw::clock::{Clock, Simulated};
use pawgate::journal::ledger::{Ledger, LedgerError, Request};
use pawgate::journal::record::{Animal, Frame};
use pawgate::journal::{Answer, Entry, Events, FILE_NAME, Filter, Journal, Kind, Reader, Record, Settings, Storage};
use proptest::prelude::*;
use tempfile::TempDir;

#[path = "common/mount.rs"]
mod mount;
use mount::Mount;

const SOON: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

fn clock() -> Simulated {
    Simulated::at("2036-05-01T12:00:00Z".parse().unwrap())
}

fn settings(folder: &Path) -> Settings {
    Settings { folder: folder.to_path_buf(), keep_for: 30 * DAY, max_bytes: 1 << 30, reserve_bytes: 0, snapshots: true }
}

fn open(folder: &Path, clock: &Simulated) -> Journal {
    Journal::open(settings(folder), Arc::new(clock.clone()))
}

fn event(kind: Kind, clock: &Simulated) -> Record {
    Record::new(kind, clock.now().wall)
}

fn decision(answer: Answer, rule: &str, clock: &Simulated) -> Record {
    let frame = |n: u64| Frame {
        frame: n,
        before_ms: 100.0 * (5 - n) as f64,
        verdict: if n == 2 { "unknown" } else { "animal" }.into(),
        reason: (n == 2).then(|| "too blurred".into()),
        pet: Some(0.97),
        species: Some(("cat".into(), 0.99)),
        breed: Some(("Maine_Coon".into(), 0.8)),
        individual: (n == 3).then(|| ("milo".into(), 0.91)),
        agrees: n != 2,
    };
    Record {
        decision: Some(answer),
        rule: Some(rule.into()),
        reason: Some("3 of 4 frames show milo".into()),
        animal: Some(Animal { species: "cat".into(), breed: Some("Maine_Coon".into()), individual: Some("milo".into()) }),
        frames: (1..=4).map(frame).collect(),
        thresholds: vec![("pet".into(), 0.83)],
        passed_over: vec![("night".into(), "not between 22:00 and 06:00".into())],
        latency_ms: Some(41.7),
        ..event(Kind::Decision, clock)
    }
}

fn all(folder: &Path) -> Events {
    Reader::open(folder).unwrap().events(&Filter::default()).unwrap()
}

fn of_kind(folder: &Path, kind: Kind) -> Vec<Record> {
    all(folder).records.into_iter().filter(|r| r.event == kind).collect()
}

fn memory_cause(journal: &Journal) -> String {
    match journal.health().storage {
        Storage::Memory { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

fn skip(test: &str, why: &str) {
    // Written directly: the test harness swallows what `eprintln!` says in a test that passes.
    std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes()).unwrap();
}

#[test]
fn numbers_go_on_after_a_restart_and_after_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut last = 0;
    for _ in 0..3 {
        let journal = open(folder.path(), &clock);
        for _ in 0..5 {
            let id = journal.write(event(Kind::Door, &clock), None);
            assert_eq!(id, last + 1);
            last = id;
        }
        assert!(journal.close(SOON));
    }
    clock.advance(60 * DAY);
    let journal = open(folder.path(), &clock);
    clock.advance(DAY);
    assert!(journal.flush(SOON));
    assert!(all(folder.path()).records.is_empty());
    drop(journal);
    assert_eq!(open(folder.path(), &clock).write(event(Kind::Door, &clock), None), last + 1);
}

#[test]
fn a_record_comes_back_as_it_was_with_its_picture() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let journal = open(folder.path(), &clock);
    let written = decision(Answer::Allow, "milo", &clock);
    let picture = RgbImage::from_fn(800, 600, |x, y| image::Rgb([x as u8, y as u8, 7]));
    let id = journal.write(written.clone(), Some(picture));
    assert!(journal.flush(SOON));
    let Entry::Event(read) = Reader::open(folder.path()).unwrap().get(id).unwrap() else { panic!() };
    let name = read.snapshot.clone().unwrap();
    assert_eq!(*read, Record { id, snapshot: Some(name.clone()), ..written });
    let picture = image::open(folder.path().join(&name)).unwrap();
    assert_eq!((picture.width(), picture.height()), (640, 480));
    assert_eq!(journal.recent(9).iter().map(|r| r.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn what_rules_did_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let journal = open(folder.path(), &clock);
    journal.write(decision(Answer::Allow, "old", &clock), None);
    clock.advance(DAY);
    let since = clock.now().wall;
    journal.write(decision(Answer::Deny, "dogs", &clock), None);
    journal.write(Record { portions: Some(2), ..decision(Answer::Allow, "food", &clock) }, None);
    drop(journal);
    let journal = open(folder.path(), &clock);
    let history = journal.usage_since(since);
    assert_eq!(history.incomplete_before, None);
    assert_eq!(history.uses.iter().map(|u| (u.rule.as_str(), u.time, u.count)).collect::<Vec<_>>(), [("food", since, 2)]);
    drop(journal);
    fs::write(folder.path().join(FILE_NAME), "gone").unwrap();
    clock.advance(Duration::from_secs(1));
    let journal = open(folder.path(), &clock);
    let history = journal.usage_since(since);
    assert_eq!((history.uses.len(), history.incomplete_before), (0, Some(clock.now().wall)), "what is lost counts as used");
}

/// A journal's files as a crash leaves them (with a log that was not read back), or as a clean end does.
struct Image {
    files: Vec<(String, Vec<u8>)>,
    records: Vec<Record>,
}

/// Rounds of two events; enough for the log to have been read back once.
const ROUNDS: usize = 80;

fn image(crashed: bool) -> &'static Image {
    static CRASHED: OnceLock<Image> = OnceLock::new();
    static CLOSED: OnceLock<Image> = OnceLock::new();
    if crashed { CRASHED.get_or_init(|| make_image(true)) } else { CLOSED.get_or_init(|| make_image(false)) }
}

fn make_image(crashed: bool) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut journal = Some(open(folder.path(), &clock));
    for _ in 0..ROUNDS {
        let journal = journal.as_ref().unwrap();
        journal.write(event(Kind::Motion, &clock), None);
        journal.write(decision(Answer::Allow, "milo", &clock), None);
        assert!(journal.flush(SOON));
        clock.advance(Duration::from_secs(5));
    }
    let records = all(folder.path()).records;
    assert_eq!(records.len(), 2 * ROUNDS);
    if !crashed {
        drop(journal.take());
    }
    let read = |e: fs::DirEntry| {
        let name = e.file_name().into_string().unwrap();
        e.file_type().unwrap().is_file().then(|| (name, fs::read(e.path()).unwrap()))
    };
    let files = fs::read_dir(folder.path()).unwrap().filter_map(|e| read(e.unwrap())).collect();
    Image { files, records }
}

impl Image {
    fn file(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|f| f.0 == name).unwrap().1
    }

    /// Lays the files down with one of them changed, and looks what becomes of it.
    fn survives(&self, name: &str, changed: &[u8]) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        for (file, bytes) in &self.files {
            fs::write(folder.path().join(file), if file == name { changed } else { bytes }).unwrap();
        }
        let clock = clock();
        clock.advance(DAY);
        let journal = open(folder.path(), &clock);
        let written = decision(Answer::Deny, "after", &clock);
        let id = journal.write(written.clone(), None);
        let saved = journal.flush(SOON);
        let told = journal.recent(100);
        drop(journal);
        if !saved {
            return Err("a new journal should have worked".into());
        }
        let events = all(folder.path());
        if !events.damaged.is_empty() {
            return Err(format!("damaged: {:?}", events.damaged));
        }
        for record in &events.records {
            let known = self.records.contains(record) || told.contains(record);
            if !known {
                return Err(format!("invented: {record:?}"));
            }
        }
        let kept = events.records.iter().filter(|r| self.records.contains(r)).count();
        let fault = events.records.iter().any(|r| r.event == Kind::Fault);
        if kept < self.records.len() && !fault && name == FILE_NAME {
            return Err(format!("{kept} of {} left, and nobody is told", self.records.len()));
        }
        match events.records.last() {
            Some(last) if *last == (Record { id, ..written }) => Ok(()),
            other => Err(format!("the new event is not the last: {other:?}")),
        }
    }
}

#[test]
fn a_journal_cut_at_any_page_is_noticed() {
    for crashed in [false, true] {
        let image = image(crashed);
        let whole = image.file(FILE_NAME);
        for cut in (0..whole.len()).step_by(4096) {
            image.survives(FILE_NAME, &whole[..cut]).unwrap_or_else(|e| panic!("cut at {cut}, crashed: {crashed}: {e}"));
        }
        image.survives(FILE_NAME, whole).unwrap();
    }
}

#[test]
fn a_log_cut_at_any_frame_keeps_a_journal_that_works() {
    let image = image(true);
    let log = image.file("journal.db-wal");
    assert!(log.len() > 4096, "the log of a crash has something in it");
    for cut in (0..log.len()).step_by(4096 + 24) {
        image.survives("journal.db-wal", &log[..cut]).unwrap_or_else(|e| panic!("log cut at {cut}: {e}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_cut_at_random_bytes_is_noticed(part in 0.0..1.0, crashed: bool) {
        let image = image(crashed);
        let whole = image.file(FILE_NAME);
        let cut = (part * whole.len() as f64) as usize;
        prop_assert_eq!(image.survives(FILE_NAME, &whole[..cut]), Ok(()));
    }

    #[test]
    fn garbage_in_a_journal_invents_nothing(
        part in 0.0..1.0, garbage in prop::collection::vec(any::<u8>(), 1..2000), crashed: bool, log: bool,
    ) {
        let image = image(crashed);
        let name = if log && crashed { "journal.db-wal" } else { FILE_NAME };
        let mut changed = image.file(name).to_vec();
        let at = (part * changed.len() as f64) as usize;
        let end = changed.len().min(at + garbage.len());
        changed[at..end].copy_from_slice(&garbage[..end - at]);
        prop_assert_eq!(image.survives(name, &changed), Ok(()));
    }

    #[test]
    fn a_file_of_garbage_is_moved_aside(garbage in prop::collection::vec(any::<u8>(), 1..9000)) {
        let image = image(false);
        prop_assert_eq!(image.survives(FILE_NAME, &garbage), Ok(()));
    }
}

#[test]
fn two_damaged_journals_are_kept_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    for n in 0..5 {
        fs::write(folder.path().join(FILE_NAME), format!("garbage {n}")).unwrap();
        let journal = open(folder.path(), &clock);
        assert!(journal.flush(SOON));
        let notice = journal.take_notices().remove(0);
        assert_eq!(notice.event, Kind::Fault);
        assert!(notice.reason.unwrap().contains("Moved to"));
        drop(journal);
        clock.advance(DAY);
    }
    let asides: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    let asides: Vec<_> = asides
        .iter()
        .filter(|p| p.to_string_lossy().contains(".foreign-") || p.to_string_lossy().contains(".corrupt-"))
        .collect();
    assert_eq!(asides.len(), 2, "{asides:?}");
}

#[test]
fn without_a_folder_memory_keeps_the_last_thousand_and_the_door_goes_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = file.path().join("journal");
    let clock = clock();
    let journal = open(&folder, &clock);
    let cause = memory_cause(&journal);
    assert!(
        cause.contains(&*folder.to_string_lossy()) && cause.contains("Not a directory") && cause.contains("check"),
        "{cause}"
    );
    let mut last = 0;
    for n in 0..1500 {
        let kind = if n % 2 == 0 { Kind::Motion } else { Kind::Door };
        let id = journal.write(event(kind, &clock), Some(RgbImage::new(8, 8)));
        assert!(id > last);
        last = id;
        if n % 100 == 0 {
            assert!(!journal.flush(SOON));
        }
    }
    journal.flush(SOON);
    let health = journal.health();
    assert_eq!((health.unsaved, health.lost), (1000, 501), "1,500 and the fault, less 1,000");
    assert!(health.lost_pictures > 1400);
    assert_eq!(journal.recent(1)[0].id, last);
    let notices = journal.take_notices();
    assert_eq!(notices.iter().map(|r| r.event).collect::<Vec<_>>(), [Kind::Fault], "one fault, one event");
    assert!(journal.usage_since(Timestamp::UNIX_EPOCH).incomplete_before.is_some());
}

#[test]
fn storage_that_comes_back_gets_what_memory_kept() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("journal");
    let clock = clock();
    let earlier = open(&folder, &clock);
    earlier.write(event(Kind::Start, &clock), None);
    drop(earlier);
    fs::rename(&folder, parent.path().join("away")).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let journal = open(&folder, &clock);
    let ids: Vec<u64> = (0..3).map(|_| journal.write(decision(Answer::Deny, "cats", &clock), None)).collect();
    assert!(!journal.flush(SOON));
    fs::remove_file(&folder).unwrap();
    fs::rename(parent.path().join("away"), &folder).unwrap();
    assert!(!journal.flush(SOON), "not before its time");
    clock.advance(Duration::from_secs(600));
    assert!(journal.flush(SOON));
    let events = all(&folder).records;
    let kinds: Vec<_> = events.iter().map(|r| r.event).collect();
    use Kind::{Decision, Fault, Recovered, Start};
    assert_eq!(kinds, [Start, Fault, Decision, Decision, Decision, Recovered]);
    assert_eq!(events[2..5].iter().map(|r| r.id).collect::<Vec<_>>(), ids);
    assert_eq!(journal.take_notices().iter().map(|r| r.event).collect::<Vec<_>>(), [Fault, Recovered]);
}

/// A board without a battery begins in 1970, with numbers below those of the journal that turns up later.
#[test]
fn what_memory_kept_is_numbered_after_the_journal_that_turns_up() {
    let folder = tempfile::tempdir().unwrap();
    let [before, place] = ["before", "journal"].map(|name| folder.path().join(name));
    let journal = open(&before, &clock());
    let last = (0..50).map(|_| journal.write(event(Kind::Door, &clock()), None)).max().unwrap();
    assert!(journal.close(SOON));
    fs::write(&place, "a file in its place").unwrap();
    let clock = Simulated::at(Timestamp::UNIX_EPOCH);
    let journal = open(&place, &clock);
    for _ in 0..3 {
        assert!(journal.write(event(Kind::Motion, &clock), None) < last);
    }
    fs::remove_file(&place).unwrap();
    fs::rename(&before, &place).unwrap();
    clock.advance(DAY);
    assert!(journal.flush(SOON));
    let ids: Vec<_> = all(&place).records.iter().map(|record| record.id).collect();
    let mut ascending = ids.clone();
    ascending.sort_unstable();
    ascending.dedup();
    assert_eq!(ids, ascending, "each number once, in order");
    assert!(of_kind(&place, Kind::Motion).iter().all(|record| record.id > last), "{ids:?} after {last}");
    assert_eq!(of_kind(&place, Kind::Motion).len(), 3);
}

#[test]
fn a_journal_deleted_under_a_running_pawgate_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let journal = open(folder.path(), &clock);
    let first = journal.write(event(Kind::Start, &clock), None);
    assert!(journal.flush(SOON));
    for entry in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let second = journal.write(event(Kind::Door, &clock), None);
    assert!(journal.flush(SOON));
    assert!(second > first);
    assert_eq!(of_kind(folder.path(), Kind::Door).len(), 1);
}

#[test]
fn a_second_pawgate_writes_no_journal_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let first = open(folder.path(), &clock);
    let second = open(folder.path(), &clock);
    assert!(memory_cause(&second).contains("in use by another pawgate"));
    assert!(second.write(event(Kind::Door, &clock), None) > 0);
    drop(first);
    clock.advance(Duration::from_secs(600));
    assert!(second.flush(SOON));
}

#[test]
fn a_reader_beside_a_writer_sees_whole_events() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let journal = open(folder.path(), &clock);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let reader = Reader::open(folder.path()).unwrap();
            let (mut seen, mut looks) = (0, 0);
            loop {
                let end = done.load(Ordering::Acquire);
                let events = reader.events(&Filter { after: Some(seen), ..Filter::default() }).unwrap();
                assert_eq!(events.damaged, [0; 0]);
                for record in events.records {
                    assert_eq!((record.id, record.frames.len()), (seen + 1, 4));
                    seen = record.id;
                }
                looks += 1;
                if end {
                    return (seen, looks);
                }
            }
        });
        for n in 0..1000 {
            journal.write(decision(Answer::Allow, "milo", &clock), None);
            if n % 10 == 0 {
                assert!(journal.flush(SOON));
            }
        }
        assert!(journal.flush(SOON));
        done.store(true, Ordering::Release);
        let (seen, looks) = reading.join().unwrap();
        assert_eq!(seen, 1000);
        assert!(looks > 5, "{looks} looks");
    });
}

#[test]
fn who_decides_never_waits_and_motion_is_lost_first() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let gate = Arc::new(Mutex::new(()));
    let stuck = Arc::clone(&gate);
    let free = move |_: &Path| {
        drop(stuck.lock());
        Ok(u64::MAX)
    };
    let journal = Journal::open_with(settings(folder.path()), Arc::new(clock.clone()), Box::new(free));
    let held = gate.lock().unwrap();
    // Retention asks how much is free, and its disk does not answer.
    clock.advance(2 * Duration::from_secs(3600));
    journal.write(event(Kind::Motion, &clock), None);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for n in 0..3000 {
        let kind = if n % 4 == 0 { Kind::Decision } else { Kind::Motion };
        let begun = Instant::now();
        journal.write(event(kind, &clock), (n % 4 == 0).then(|| RgbImage::new(64, 64)));
        slowest = slowest.max(begun.elapsed());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(!journal.flush(Duration::from_millis(100)));
    let health = journal.health();
    assert_eq!((health.lost, health.lost_pictures), (2000, 746));
    drop(held);
    assert!(journal.flush(SOON));
    assert_eq!(of_kind(folder.path(), Kind::Decision).len(), 750);
    let faults = of_kind(folder.path(), Kind::Fault);
    let reason = faults[0].reason.as_ref().unwrap();
    assert!(faults.len() == 1 && reason.starts_with("2000 events (2000 motion) lost"), "{faults:?}");
}

#[test]
fn a_disk_that_does_not_answer_does_not_hold_the_end_up() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let gate = Arc::new(Mutex::new(()));
    let stuck = Arc::clone(&gate);
    let free = move |_: &Path| {
        drop(stuck.lock());
        Ok(u64::MAX)
    };
    let journal = Journal::open_with(settings(folder.path()), Arc::new(clock.clone()), Box::new(free));
    let held = gate.lock().unwrap();
    clock.advance(2 * Duration::from_secs(3600));
    journal.write(event(Kind::Motion, &clock), None);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    assert!(!journal.close(Duration::from_millis(300)));
    assert!(start.elapsed() < Duration::from_secs(3));
    drop(held);
}

#[test]
fn a_thread_that_panics_is_a_fault_and_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let armed = Arc::new(AtomicBool::new(false));
    let trigger = Arc::clone(&armed);
    let free = move |_: &Path| if trigger.load(Ordering::Acquire) { panic!("as if by a bug") } else { Ok(u64::MAX) };
    let journal = Journal::open_with(settings(folder.path()), Arc::new(clock.clone()), Box::new(free));
    armed.store(true, Ordering::Release);
    clock.advance(2 * Duration::from_secs(3600));
    assert!(!journal.flush(SOON));
    assert!(memory_cause(&journal).contains("its thread ended"));
    assert_eq!(journal.take_notices().len(), 1);
    let id = journal.write(event(Kind::Door, &clock), None);
    assert_eq!(journal.recent(1)[0].id, id);
}

#[test]
fn limits_hold_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let limit = 600_000;
    let journal = Journal::open(Settings { max_bytes: limit, ..settings(folder.path()) }, Arc::new(clock.clone()));
    let picture = RgbImage::from_fn(320, 240, |x, y| image::Rgb([(x * y) as u8, (x * 3) as u8, y as u8]));
    let mut last = 0;
    for _ in 0..60 {
        last = journal.write(decision(Answer::Allow, "milo", &clock), Some(picture.clone()));
        clock.advance(Duration::from_secs(60));
        assert!(journal.flush(SOON));
    }
    let files = walkdir::WalkDir::new(folder.path()).into_iter().map(|e| e.unwrap()).filter(|e| e.file_type().is_file());
    let bytes: u64 = files.map(|e| e.metadata().unwrap().len()).sum();
    assert!(bytes <= limit + limit / 32, "{bytes} bytes");
    let events = all(folder.path()).records;
    let kept: Vec<u64> =
        events.iter().filter(|r| folder.path().join(r.snapshot.as_ref().unwrap()).exists()).map(|r| r.id).collect();
    assert_eq!(events.len(), 60);
    assert!(kept.len() > 3 && kept.len() < 60 && kept.last() == Some(&last), "{kept:?}");
    assert!(kept.windows(2).all(|w| w[1] == w[0] + 1), "only the oldest go: {kept:?}");
    assert_eq!(journal.health().lost_pictures, 0);
}

#[test]
fn a_reserve_that_others_use_up_is_a_fault_until_it_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let full = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&full);
    let free = move |_: &Path| Ok(if told.load(Ordering::Acquire) { 10 } else { u64::MAX });
    let settings = Settings { reserve_bytes: 1000, ..settings(folder.path()) };
    let journal = Journal::open_with(settings, Arc::new(clock.clone()), Box::new(free));
    let cause = memory_cause(&journal);
    assert!(cause.contains("10 bytes are free, 1000 are to stay free") && cause.contains("free space"), "{cause}");
    let id = journal.write(decision(Answer::Allow, "milo", &clock), Some(RgbImage::new(8, 8)));
    full.store(false, Ordering::Release);
    clock.advance(Duration::from_secs(600));
    assert!(journal.flush(SOON));
    assert_eq!(of_kind(folder.path(), Kind::Decision)[0].id, id);
}

#[test]
fn a_full_file_system_degrades_to_memory_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], folder.path()) else {
        return skip("a_full_file_system_degrades_to_memory_and_recovers", "this user may not mount a tmpfs");
    };
    let clock = clock();
    let journal = open(folder.path(), &clock);
    let mut ledger = Ledger::open(folder.path(), clock.now().wall).unwrap();
    journal.write(event(Kind::Start, &clock), None);
    assert!(journal.flush(SOON));
    let filler = folder.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    let noise = RgbImage::from_fn(640, 480, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, (x * 7 + y) as u8]));
    let mut written = vec![];
    while matches!(journal.health().storage, Storage::Disk) && written.len() < 2000 {
        written.push(journal.write(decision(Answer::Allow, "milo", &clock), Some(noise.clone())));
        journal.flush(SOON);
    }
    let cause = memory_cause(&journal);
    assert!(cause.contains("no room for") && cause.contains("free space"), "{cause}");
    let request = |decision| Request { decision, rule: "food".into(), animal: None, portions: 1 };
    let refused = (0..5000).find_map(|n| ledger.reserve(&request(n), clock.now().wall).err());
    assert!(refused.is_some_and(|e| e.to_string().starts_with("no portion is given without a ledger: no room for")));
    drop(file);
    fs::remove_file(&filler).unwrap();
    clock.advance(Duration::from_secs(600));
    assert!(journal.flush(SOON));
    let kept: Vec<u64> = of_kind(folder.path(), Kind::Decision).iter().map(|r| r.id).collect();
    assert_eq!(kept, written);
    assert_eq!(of_kind(folder.path(), Kind::Recovered).len(), 1);
    let _ = ledger.reserve(&request(9999), clock.now().wall).unwrap();
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 512]).is_ok() {}
    while matches!(journal.health().storage, Storage::Disk) {
        journal.write(decision(Answer::Allow, "milo", &clock), None);
        journal.flush(SOON);
    }
    assert!(!journal.close(SOON), "what is lost is told");
}

#[test]
fn a_read_only_file_system_degrades_to_memory_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let journal = open(folder.path(), &clock);
    let id = journal.write(decision(Answer::Allow, "milo", &clock), None);
    drop(journal);
    let mounted = Mount::new(&["--bind", &folder.path().to_string_lossy()], folder.path());
    let Some(_mount) = mounted.filter(|_| remount_read_only(folder.path())) else {
        return skip("a_read_only_file_system_degrades_to_memory_and_can_be_read", "this user may not mount");
    };
    let journal = open(folder.path(), &clock);
    let cause = memory_cause(&journal);
    assert!(cause.contains("Read-only file system"), "{cause}");
    journal.write(event(Kind::Door, &clock), None);
    let refused = Ledger::open(folder.path(), clock.now().wall).unwrap_err();
    assert!(matches!(refused, LedgerError::File(_)), "{refused}");
    assert_eq!(all(folder.path()).records.iter().map(|r| r.id).collect::<Vec<_>>(), [id]);
}

fn remount_read_only(at: &Path) -> bool {
    Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at).status().is_ok_and(|status| status.success())
}

/// This test binary again, as a process of its own that runs one of the tests marked as ignored.
fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).env("PAWGATE_TEST_FOLDER", folder);
    command
}

fn given_folder() -> Option<PathBuf> {
    std::env::var_os("PAWGATE_TEST_FOLDER").map(PathBuf::from)
}

#[test]
#[ignore = "run by `a_file_size_limit_degrades_to_memory` in a process of its own"]
fn child_writes_until_the_limit() {
    let Some(folder) = given_folder() else { return };
    let clock = clock();
    let journal = open(&folder, &clock);
    for _ in 0..2000 {
        journal.write(decision(Answer::Allow, "milo", &clock), None);
        if !journal.flush(SOON) {
            println!("\nended: {}", memory_cause(&journal));
            return;
        }
    }
}

#[test]
fn a_file_size_limit_degrades_to_memory() {
    let folder = tempfile::tempdir().unwrap();
    let inner = child("child_writes_until_the_limit", folder.path());
    let mut command = Command::new("sh");
    // 512-byte blocks. The signal is ignored, so that writing fails instead of killing.
    command.args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let output = command.env("PAWGATE_TEST_FOLDER", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("ended: the journal keeps the last 1000 events in memory only"), "{text}");
}

#[test]
#[ignore = "run by `no_acknowledged_reservation_is_lost_by_a_kill` in a process of its own"]
fn child_reserves_for_ever() {
    let Some(folder) = given_folder() else { return };
    let now = clock().now().wall;
    let mut ledger = Ledger::open(&folder, now).unwrap();
    for decision in 1.. {
        let request = Request { decision, rule: "food".into(), animal: Some("milo".into()), portions: 1 };
        let reservation = ledger.reserve(&request, now).unwrap();
        println!("\nreserved {}", reservation.entry);
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn no_acknowledged_reservation_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let now = clock().now().wall;
    let mut acknowledged = vec![];
    for round in 0..8 {
        let mut process = child("child_reserves_for_ever", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut entries =
            lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("reserved ").and_then(|n| n.parse::<u64>().ok()));
        acknowledged.extend(entries.by_ref().take(1 + round * 3));
        std::thread::sleep(Duration::from_millis(7 * round as u64));
        process.kill().unwrap();
        process.wait().unwrap();
        // What was in the pipe was acknowledged too.
        acknowledged.extend(entries);
        let ledger = Ledger::open(folder.path(), now).unwrap();
        assert_eq!(ledger.trouble(), None);
        let found = ledger.since(Timestamp::UNIX_EPOCH).unwrap();
        let there: Vec<u64> = found.portions.iter().map(|p| p.entry).collect();
        for entry in &acknowledged {
            assert!(there.contains(entry), "round {round}: entry {entry} was acknowledged and is gone");
        }
        assert!(there.len() <= acknowledged.len() + round + 1, "one may have been on its way each time");
        assert_eq!(found.total(), Some(there.len() as u32), "what is open counts as given");
    }
    assert!(acknowledged.len() > 8);
}

fn pawgate(arguments: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pawgate")).args(arguments).arg("--journal").arg(folder).env("TZ", "UTC").output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn eventful() -> (TempDir, Journal, Simulated) {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let journal = open(folder.path(), &clock);
    journal.write(event(Kind::Start, &clock), None);
    journal.write(event(Kind::Motion, &clock), None);
    journal.write(decision(Answer::Allow, "cats", &clock), Some(RgbImage::new(32, 32)));
    clock.advance(Duration::from_millis(400));
    journal.write(Record { state: Some("open".into()), ..event(Kind::Door, &clock) }, None);
    clock.advance(Duration::from_secs(8));
    journal.write(
        Record { state: Some("locked".into()), reason: Some("the time is up".into()), ..event(Kind::Door, &clock) },
        None,
    );
    clock.advance(Duration::from_secs(60));
    let nobody = Record { rule: None, animal: None, ..decision(Answer::Deny, "", &clock) };
    journal.write(Record { reason: Some("no rule matched".into()), ..nobody }, None);
    assert!(journal.flush(SOON));
    (folder, journal, clock)
}

#[test]
fn events_are_listed_while_pawgate_runs() {
    let (folder, _journal, _) = eventful();
    let (code, out, err) = pawgate(&["events"], folder.path());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 7, "{out}");
    assert!(lines[0].trim_start().starts_with("id  time") && lines[0].ends_with("reason"), "{out}");
    assert!(lines[3].contains("2036-05-01 12:00:00  decision   milo (Maine Coon)  allow      cats"), "{out}");
    assert!(lines[5].contains("door") && lines[5].contains("locked") && lines[5].ends_with("the time is up"), "{out}");
    let ids = |arguments: &[&str]| {
        let (code, out, err) = pawgate(&[&["events", "--json"], arguments].concat(), folder.path());
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out.lines().map(|l| serde_json::from_str::<Record>(l).unwrap().id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(ids(&["--event", "door", "motion"]), [2, 4, 5]);
    assert_eq!(ids(&["--event", "door,motion", "--limit", "2"]), [4, 5]);
    assert_eq!(ids(&["--decision", "deny"]), [6]);
    assert_eq!(ids(&["--rule", "cats"]), [3]);
    assert_eq!(ids(&["--since", "2036-05-01T12:00:05Z"]), [5, 6]);
    let (code, _, err) = pawgate(&["events", "--event", "doors"], folder.path());
    assert!(code == Some(2) && err.contains("there is no event `doors`; the events are start"), "{err}");
}

#[test]
fn following_shows_what_happens_next() {
    let (folder, journal, clock) = eventful();
    let mut process = Command::new(env!("CARGO_BIN_EXE_pawgate"))
        .args(["events", "--follow", "--json", "--limit", "1", "--journal"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Record>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next().id, 6);
    let id = journal.write(event(Kind::Motion, &clock), None);
    assert_eq!(next().id, id);
    drop(journal);
    // The follower still has the log open, which could replace all that is damaged.
    fs::remove_file(folder.path().join("journal.db-wal")).unwrap();
    fs::write(folder.path().join(FILE_NAME), "damaged").unwrap();
    let journal = open(folder.path(), &clock);
    let fault = next();
    assert_eq!((fault.event, fault.id > id), (Kind::Fault, true));
    let id = journal.write(event(Kind::Door, &clock), None);
    assert_eq!(next().id, id);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn why_explains_a_decision() {
    let (folder, journal, _) = eventful();
    let (code, out, err) = pawgate(&["why", "3"], folder.path());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for expected in [
        "Event 3, 2036-05-01 12:00:00: allowed",
        "who       milo (Maine Coon)",
        "rule      cats",
        "Seen on 4 frames, of which 3 agree:",
        "      2    300 ms  no      unknown     97%  too blurred, cat 99%, Maine Coon 80%",
        "milo (similarity 0.91)",
        "Thresholds: pet 0.83",
        "  night: not between 22:00 and 06:00",
        "    +0.4 s  door  open",
        "    +8.4 s  door  locked: the time is up",
        "Decided 42 ms after the frame that completed the vote.",
        "snapshots/2036-05-01/120000-3.jpg\n",
    ] {
        assert!(out.contains(expected), "`{expected}` is not in\n{out}");
    }
    assert!(!out.contains("deleted since"));
    let (_, out, _) = pawgate(&["why", "6"], folder.path());
    assert!(
        out.contains("denied") && out.contains("what no rule allows is denied") && out.contains("Neither door nor feeder"),
        "{out}"
    );
    let (_, out, _) = pawgate(&["why", "5"], folder.path());
    assert!(out.contains("`pawgate why 3` explains it"), "{out}");
    fs::remove_dir_all(folder.path().join("snapshots")).unwrap();
    drop(journal);
    let (_, out, _) = pawgate(&["why", "3"], folder.path());
    assert!(out.contains("deleted since"), "{out}");
}

#[test]
fn the_configuration_says_where_the_journal_is() {
    let (folder, _journal, _) = eventful();
    let config = folder.path().join("config.toml");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pawgate")).args(arguments).arg("--config").arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    fs::write(&config, "[camera]\nsource = \"p\"\n[door]\n[journal]\nfolder = \".\"\n").unwrap();
    assert_eq!(run(&["events", "--json"]).1.lines().count(), 6);
    assert!(run(&["why", "3"]).1.contains("rule      cats"));
    fs::write(&config, "nonsense").unwrap();
    let (code, _, err) = run(&["events"]);
    assert!(code == Some(5) && err.contains("the configuration is refused"), "{err}");
    let journal = folder.path().to_str().unwrap();
    assert_eq!(run(&["events", "--journal", journal]).0, Some(0), "the folder that is named comes first");
    let (code, _, err) = run(&["events", "--journal", journal, "--since", "yesterday"]);
    assert!(code == Some(2) && err.contains("is no time; write"), "{err}");
}

#[test]
fn what_cannot_be_read_is_said_plainly() {
    let (folder, journal, _) = eventful();
    let (code, out, err) = pawgate(&["why", "77"], folder.path());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("there is no event 77") && err.contains("which has 1 to 6; `pawgate events` lists them"), "{err}");
    drop(journal);
    let missing = folder.path().join("elsewhere");
    for arguments in [&["events"][..], &["why", "3"]] {
        let (code, _, err) = pawgate(arguments, &missing);
        assert_eq!(code, Some(6));
        assert!(err.contains("there is no journal at") && err.contains("elsewhere/journal.db"), "{err}");
    }
    let path = folder.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    for damaged in [&b"no database at all, whatever it is called"[..], &whole[..4096], b""] {
        fs::write(&path, damaged).unwrap();
        for arguments in [&["events"][..], &["why", "3"]] {
            let (code, _, err) = pawgate(arguments, folder.path());
            assert_eq!(code, Some(6), "{err}");
            assert!(err.contains("is damaged (") && err.contains("moves it aside") && !err.contains("panicked"), "{err}");
        }
    }
}
