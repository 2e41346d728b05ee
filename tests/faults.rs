//! Faults on the running process, with simulated devices and real files: whatever happens, the pin is locked at the end.
#![cfg(feature = "embedded-model")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pawgate::hw::actuator::pin::{PinFile, history};
use pawgate::journal::{Filter, Kind, Reader};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "common/mount.rs"]
mod mount;

/// Long enough for anything that comes at all.
const EVENTUALLY: Duration = Duration::from_secs(60);
/// The configuration's longest opening, and as much again for a machine that is busy.
const OPEN: Duration = Duration::from_secs(4);

const CONFIG: &str = r#"
[camera]
source = "never used"
silence = "1s"
frozen_after = "2s"
[motion]
still_after = "500ms"
[door]
open_for = "1s"
max_open = "2s"
min_interval = "200ms"
travel = "500ms"
max_override = "1s"
[[rule]]
name = "cats may pass"
action = "allow"
species = "cat"
"#;

/// A door with its files.
struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        std::fs::create_dir(folder.path().join("runtime")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pawgate(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pawgate"));
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env("PAWGATE_THREADS", "1").stdin(Stdio::null());
        command
    }

    /// The cat and nobody, in turn, for ever; with what else `args` say.
    fn start(&self, args: &[&str]) -> Service {
        let [config, pin, runtime, journal] = ["config.toml", "pin", "runtime", "journal"].map(|name| self.path(name));
        let mut command = self.pawgate(&["run", "--simulate", "--json", "--loop", "--fps", "5"]);
        command.args(["--camera", "samples/cat.jpg", "samples/coffee.jpg"]).arg("--config").arg(config);
        command.arg("--pin").arg(pin).arg("--runtime").arg(runtime).arg("--journal").arg(journal);
        if !args.contains(&"--hold") {
            command.args(["--hold", "1500ms"]);
        }
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, events) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let parse = |line: String| serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(parse(line)))
        });
        Service { child, events, seen: vec![] }
    }

    /// As systemd does after every end.
    fn safe_state(&self) {
        let mut command = self.pawgate(&["safe-state"]);
        command.arg("--pin").arg(self.path("pin")).arg("--runtime").arg(self.path("runtime"));
        let output = command.arg("--config").arg(self.path("config.toml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn is_unlocked(&self) -> bool {
        PinFile::open(&self.path("pin")).unwrap().get().unwrap()
    }

    /// Locked at the end, and never unlocked for longer than the limit. Returns how often it was unlocked.
    fn check_pin(&self) -> usize {
        let changes = history(&self.path("pin")).unwrap();
        assert!(!self.is_unlocked() && changes.last().is_none_or(|change| !change.high), "{changes:#?}");
        let (mut since, mut count) = (None, 0);
        for change in &changes {
            match (change.high, since) {
                (true, None) => (since, count) = (Some(change.mono), count + 1),
                (false, Some(from)) => {
                    assert!(change.mono - from < OPEN, "unlocked for {:?}", change.mono - from);
                    since = None;
                }
                _ => {}
            }
        }
        count
    }

    /// Numbers of the decisions that the journal holds, all of them whole.
    fn decisions(&self) -> BTreeSet<u64> {
        let filter = Filter { kinds: vec![Kind::Decision], ..Filter::default() };
        let events = Reader::open(&self.path("journal")).unwrap().events(&filter).unwrap();
        assert_eq!(events.damaged, [] as [u64; 0]);
        events.records.iter().map(|record| record.id).collect()
    }

    fn status(&self) -> (i32, Value) {
        let output = self.pawgate(&["status", "--json", "--runtime"]).arg(self.path("runtime")).output().unwrap();
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// A running pawgate.
struct Service {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
}

impl Service {
    /// The next event of which this is true.
    fn wait(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + EVENTUALLY;
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push(event.clone());
            if is_it(&event) {
                return event;
            }
        }
        let errors = self.errors();
        panic!("no {what} in {:#?}\n{errors}", self.seen);
    }

    fn wait_open(&mut self) {
        self.wait("opening", |event| event["event"] == "door" && event["state"] == "open");
    }

    fn wait_fault(&mut self, reason: &str) {
        self.wait(reason, |event| event["event"] == "fault" && event["reason"].as_str().is_some_and(|r| r.contains(reason)));
    }

    fn errors(&mut self) -> String {
        self.child.kill().ok();
        let mut text = String::new();
        if let Some(err) = &mut self.child.stderr {
            std::io::Read::read_to_string(err, &mut text).ok();
        }
        text
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + EVENTUALLY;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(Instant::now() < end, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A clean stop: exit code 0, locked by the service itself.
    fn stop(&mut self, house: &House) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.errors());
        house.check_pin();
    }
}

/// The fault is told, the door opens again after it, and the end is clean.
fn passes(plan: &str, reason: &str) {
    let house = House::new();
    let mut service = house.start(&["--inject", plan]);
    service.wait_fault(reason);
    service.wait_open();
    service.stop(&house);
}

#[test]
fn a_camera_that_is_lost_comes_back() {
    passes("camera-lost@1s+1s", "it is lost, as planned");
}

#[test]
fn a_camera_that_hangs_is_opened_again() {
    passes("camera-hang@1s+3s", "has delivered nothing");
}

#[test]
fn a_camera_that_freezes_is_noticed() {
    passes("camera-frozen@1s+4s", "has repeated one frame");
}

#[test]
fn a_camera_that_is_black_is_noticed() {
    passes("camera-black@1s+4s", "has been black");
}

#[test]
fn a_camera_thread_that_panics_is_replaced() {
    passes("camera-panic@1s", "thread died");
}

#[test]
fn inference_that_fails_or_panics_is_a_fault_that_passes() {
    passes("classifier-error@1s+2s", "it fails, as planned");
    passes("classifier-panic@1s", "inference panicked");
}

#[test]
fn a_latch_that_refuses_is_a_fault_that_passes() {
    // Nothing is decided before the latch refuses: a door that is open then stays so, which no software helps.
    passes("classifier-error@0s+1500ms,latch-refuses@500ms+8s", "the latch");
}

#[test]
fn a_journal_whose_thread_panics_or_hangs_holds_up_nothing() {
    passes("journal-panic@1s", "in memory only");
    let house = House::new();
    let mut service = house.start(&["--inject", "journal-hang@1s"]);
    service.wait_open();
    service.wait_open();
    service.stop(&house);
}

/// Whoever decides hangs while the door is open for long: the guard locks, before systemd's watchdog would end the process, and the
/// next opening needs a decision of its own.
#[test]
fn whoever_decides_hangs_and_the_guard_locks() {
    let long = CONFIG.replace("open_for = \"1s\"\nmax_open = \"2s\"", "open_for = \"20s\"\nmax_open = \"20s\"");
    for what in ["decider-hang", "classifier-hang"] {
        let house = House::with(&long);
        let mut service = house.start(&["--hold", "20s", "--inject", &format!("{what}@5s+6s")]);
        service.wait_open();
        service.wait_fault("the guard sends the latch to locked: the deciding thread does not turn over");
        let changes = history(&house.path("pin")).unwrap();
        let open = changes.iter().position(|change| change.high).unwrap();
        let locked = open + changes[open..].iter().position(|change| !change.high).unwrap();
        let time = changes[locked].mono - changes[open].mono;
        assert!(time < Duration::from_secs(12), "{what}: unlocked for {time:?}");
        assert!(changes[locked..].iter().all(|change| !change.high), "{what}: opened again without a decision");
        service.signal(Signal::KILL);
        service.ended();
        house.safe_state();
        assert!(!house.is_unlocked());
    }
}

#[test]
fn whoever_decides_panics_and_the_pin_is_locked() {
    let long = CONFIG.replace("open_for = \"1s\"", "open_for = \"2s\"");
    let house = House::with(&long);
    let mut service = house.start(&["--inject", "decider-panic@5s"]);
    assert!(!service.ended().success());
    assert!(house.check_pin() > 0, "it was unlocked before");
}

#[test]
fn a_latch_whose_driver_hangs_is_made_safe_after_the_end() {
    let house = House::new();
    let mut service = house.start(&["--inject", "latch-hang@1s"]);
    service.wait_fault("no answer");
    service.signal(Signal::TERM);
    service.ended();
    house.safe_state();
    assert!(!house.is_unlocked());
}

#[test]
fn seeded_faults_end_locked() {
    for seed in 0..3 {
        let house = House::new();
        let mut service = house.start(&["--inject", &format!("seed={seed}"), "--for", "8s"]);
        let end = Instant::now() + Duration::from_secs(20);
        while service.child.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that hangs is ended by the watchdog.
        service.child.kill().ok();
        service.ended();
        house.safe_state();
        house.check_pin();
    }
}

#[test]
fn junk_in_place_of_the_model_is_refused_at_the_next_start_and_harms_nothing_before() {
    let house = House::new();
    let model = house.path("model.onnx");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pawgate-pets37-int8.onnx"), &model).unwrap();
    let args = ["--model", model.to_str().unwrap()];
    let mut service = house.start(&args);
    service.wait_open();
    std::fs::write(&model, b"junk").unwrap();
    service.wait_open();
    service.stop(&house);
    let mut service = house.start(&args);
    assert_eq!(service.ended().code(), Some(3));
    assert!(!house.is_unlocked());
}

#[test]
fn a_damaged_journal_is_set_aside_and_the_door_decides() {
    let house = House::new();
    let mut service = house.start(&[]);
    service.wait_open();
    service.stop(&house);
    let before = house.decisions();
    assert!(!before.is_empty());
    let file = house.path("journal").join("journal.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let from = bytes.len() / 3;
    bytes[from..from + 4000].fill(0xA5);
    std::fs::write(&file, bytes).unwrap();
    let mut service = house.start(&[]);
    service.wait_fault("damaged");
    service.wait_open();
    service.stop(&house);
}

#[test]
fn a_full_disk_is_a_fault_that_passes_and_the_door_decides() {
    let house = House::with(&format!("{CONFIG}[journal]\nkeep_free = \"0kB\"\n"));
    let folder = house.path("journal");
    std::fs::create_dir(&folder).unwrap();
    let Some(_mount) = mount::Mount::new(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], &folder) else {
        let line = b"SKIPPED a_full_disk_is_a_fault_that_passes_and_the_door_decides: this user may not mount a tmpfs\n";
        return std::io::stderr().write_all(line).unwrap();
    };
    let mut service = house.start(&[]);
    service.wait_open();
    let filler = folder.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 512]).is_ok() {}
    service.wait_fault("no room for");
    service.wait_open();
    service.wait_open();
    let (code, status) = house.status();
    assert!(code == 1 && status["journal_fault"].as_str().is_some_and(|fault| fault.contains("no room for")), "{status}");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    service.wait("recovery", |event| event["event"] == "recovered");
    service.wait_open();
    assert_eq!(house.status().1["journal_fault"], Value::Null);
    service.stop(&house);
    let told = service.seen.iter().filter(|event| event["event"] == "decision");
    let told: BTreeSet<u64> = told.map(|event| event["id"].as_u64().unwrap()).collect();
    let kept = house.decisions();
    assert!(told.len() >= 4 && kept.is_superset(&told), "{:?} are lost", told.difference(&kept));
}

/// Waits until events are told by a clock that is so many hours from this test's own.
fn wait_jump(service: &mut Service, hours: i64) {
    service.wait("jump of the clock", |event| {
        let told = event["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let apart = told.duration_since(jiff::Timestamp::now()) - jiff::SignedDuration::from_hours(hours);
        apart.abs() < jiff::SignedDuration::from_mins(30)
    });
}

#[test]
fn a_clock_that_is_set_changes_no_deadline() {
    let house = House::new();
    let mut service = house.start(&["--inject", "clock-back@5s+8s,clock-forward@20s"]);
    service.wait_open();
    wait_jump(&mut service, -3);
    service.wait_open();
    wait_jump(&mut service, 0);
    service.wait_open();
    wait_jump(&mut service, 26);
    service.wait_open();
    service.stop(&house);
    assert!(service.seen.iter().all(|event| event["event"] != "fault"), "{:#?}", service.seen);
}

#[test]
fn a_clock_that_is_set_is_not_believed() {
    let house = House::with(&format!("{CONFIG}times = [{{ from = \"00:00\", to = \"24:00\" }}]\n"));
    for (plan, hours) in [("clock-back@9s", -3), ("clock-forward@9s", 26)] {
        let mut service = house.start(&["--inject", plan]);
        service.wait_open();
        wait_jump(&mut service, hours);
        let before = service.seen.len();
        for _ in 0..3 {
            service.wait("denial", |event| {
                event["decision"] == "deny" && event["passed_over"].to_string().contains("it depends on the clock")
            });
        }
        service.stop(&house);
        assert!(service.seen[before..].iter().all(|event| event["decision"] != "allow"), "{:#?}", service.seen);
    }
}

#[test]
fn a_broken_configuration_is_refused_and_the_last_good_one_stays() {
    let house = House::new();
    let mut service = house.start(&[]);
    service.wait_open();
    std::fs::write(house.path("config.toml"), "[door]\nopen_for = \"for ever\"\n").unwrap();
    service.signal(Signal::HUP);
    service.wait("refusal", |event| event["event"] == "config" && event["reason"].as_str().unwrap().contains("last good"));
    service.wait_open();
    // Killed with a broken configuration: safe-state finds the one that was in force.
    service.signal(Signal::KILL);
    service.ended();
    house.safe_state();
    house.check_pin();
    let mut service = house.start(&[]);
    assert_eq!(service.ended().code(), Some(5), "a cold start with it is refused");
}

#[test]
fn nobody_listening_ends_it_locked() {
    let house = House::new();
    let mut service = house.start(&[]);
    service.wait_open();
    let (_, nobody) = channel();
    // The reader's thread ends with its receiver, and standard output with the thread.
    drop(std::mem::replace(&mut service.events, nobody));
    service.ended();
    house.check_pin();
}

#[test]
fn status_tells_how_it_is() {
    let house = House::new();
    assert_eq!(house.status().0, 10);
    let mut service = house.start(&["--inject", "camera-lost@8s"]);
    service.wait_open();
    let (code, status) = house.status();
    assert_eq!((code, &status["running"], &status["hangs"]), (0, &Value::Bool(true), &Value::Bool(false)), "{status}");
    service.wait_fault("it is lost");
    let end = Instant::now() + EVENTUALLY;
    while house.status().0 == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, status) = house.status();
    assert!(code == 1 && status["door_faults"][0].as_str().unwrap().contains("camera"), "{status}");
    service.signal(Signal::KILL);
    service.ended();
    assert_eq!(house.status().0, 10, "its file is left behind, and it is gone");
    house.safe_state();
}

/// Kills and stops at moments drawn from a seed; as many as PAWGATE_KILLS says (200 for the README's table), few otherwise.
#[test]
fn killed_at_any_moment_it_ends_locked_and_forgets_no_decision() {
    let count: u64 = std::env::var("PAWGATE_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(8);
    let mut rng = fastrand::Rng::with_seed(5);
    let house = House::new();
    let (mut known, mut slowest) = (BTreeSet::new(), Duration::ZERO);
    for round in 0..count {
        let start = Instant::now();
        let mut service = house.start(&[]);
        while house.status().0 == 10 {
            assert!(start.elapsed() < EVENTUALLY, "{}", service.errors());
            std::thread::sleep(Duration::from_millis(10));
        }
        slowest = slowest.max(start.elapsed());
        std::thread::sleep(Duration::from_millis(rng.u64(..2500)));
        let signal = if rng.bool() { Signal::KILL } else { Signal::TERM };
        service.signal(signal);
        let status = service.ended();
        assert!(signal == Signal::KILL || status.success(), "round {round}: {status}");
        if signal == Signal::TERM {
            assert!(!house.is_unlocked(), "round {round}: locked by the service itself");
        }
        house.safe_state();
        house.check_pin();
        let decisions = house.decisions();
        assert!(decisions.is_superset(&known), "round {round}: {:?} are lost", known.difference(&decisions));
        known = decisions;
    }
    let opened = house.check_pin();
    assert!(opened > 0, "kills while it was locked show little");
    let line = format!("{count} kills: {opened} openings, {} decisions, ready again within {slowest:?}\n", known.len());
    // Written directly: the harness swallows what a test prints that passes.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
