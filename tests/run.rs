//! `pawgate run --simulate`, `replay`, and what they leave in the journal, as their users run them.
#![cfg(feature = "embedded-model")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn pawgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pawgate"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn opened(events: &[Value]) -> usize {
    events.iter().filter(|e| e["event"] == "door" && e["state"] == "open").count()
}

fn last_state(events: &[Value]) -> &str {
    events.iter().filter(|e| e["event"] == "door").filter_map(|e| e["state"].as_str()).next_back().unwrap_or_default()
}

#[test]
fn the_cat_opens_once_and_the_door_ends_locked() {
    let output = pawgate(&["run", "--simulate", "--camera", "samples", "--for", "20s", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let events = lines(&output);
    assert_eq!(opened(&events), 1, "{events:#?}");
    assert_eq!(last_state(&events), "locked");
    assert!(events.iter().all(|e| e["time"].is_string() && e["id"].is_u64()));
    let decisions: Vec<_> = events.iter().filter(|e| e["event"] == "decision").collect();
    assert!(decisions.len() >= 2 && decisions.iter().all(|e| e["reason"].is_string()), "{decisions:#?}");
    let allowed: Vec<_> = decisions.iter().filter(|e| e["decision"] == "allow").collect();
    assert!(allowed.len() == 1 && allowed[0]["animal"]["species"] == "cat" && allowed[0]["rule"] == "cats may pass");
}

#[test]
fn a_replay_decides_as_the_service_does() {
    let output = pawgate(&["replay", "samples", "--hold", "3s", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let events = lines(&output);
    assert_eq!((opened(&events), last_state(&events)), (1, "locked"), "{events:#?}");
}

#[test]
fn each_picture_as_an_event_of_its_own() {
    let output = pawgate(&["replay", "--each", "--json", "samples"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let opened: Vec<_> = lines(&output).into_iter().filter(|e| e["opened"] == true).collect();
    assert_eq!(opened.len(), 1, "{opened:#?}");
    assert!(opened[0]["file"].as_str().unwrap().ends_with("cat.jpg") && opened[0]["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn garbage_on_standard_input_is_a_fault_and_opens_nothing() {
    for garbage in [&b"hello, this is no film\n"[..], &[0xFF; 5000], b"YUV4MPEG2 W99999999 H99999999 F25:1\nFRAME\n", b""] {
        let mut child =
            pawgate(&["run", "--simulate", "--camera", "-", "--json", "--for", "20s"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The other end may have seen enough already.
        let _ = stdin.write_all(garbage);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let events = lines(&output);
        assert_eq!(opened(&events), 0);
        assert!(!errors(&output).contains("panicked"), "{}", errors(&output));
        if !garbage.is_empty() {
            assert_eq!(output.status.code(), Some(7), "{events:#?}");
            let fault = events.iter().find(|e| e["event"] == "fault").unwrap_or_else(|| panic!("{events:#?}"));
            assert!(fault["reason"].as_str().unwrap().contains("standard input"), "{fault}");
        }
    }
}

/// What the door did when these pictures came on standard input, one after the other: openings, and the last state.
fn streamed(pictures: Vec<Vec<u8>>) -> (usize, String) {
    let mut child =
        pawgate(&["run", "--simulate", "--camera", "-", "--json", "--for", "20s"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        for picture in pictures {
            if stdin.write_all(&picture).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let events = lines(&output);
    (opened(&events), last_state(&events).to_owned())
}

fn cat() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/cat.jpg")).unwrap()
}

#[test]
fn an_mjpeg_stream_of_the_cat_opens() {
    let picture = image::load_from_memory(&cat()).unwrap().to_rgb8();
    // No two frames of a camera are the same.
    let encoded = |quality: u8| {
        let mut jpeg = vec![];
        picture.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality)).unwrap();
        jpeg
    };
    assert_eq!(streamed((80..92).map(encoded).collect()), (1, "locked".to_owned()));
}

#[test]
fn a_picture_that_is_repeated_is_no_evidence() {
    assert_eq!(streamed(vec![cat(); 12]), (0, "locked".to_owned()));
}

fn wait_until(child: &mut Child, what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(30), "it never came to that");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_trial_leaves_nothing_in_the_configurations_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feeder.toml");
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let config = format!(
        "[camera]\nsource = \"{}\"\n[feeder]\n[journal]\nfolder = \"journal\"\n[[rule]]\nname = \"cats\"\naction = \"dispense\"\n\
         species = \"cat\"\nquota = {{ count = 1, per = \"day\" }}\n",
        samples.display()
    );
    std::fs::write(&path, config).unwrap();
    let args = ["run", "--simulate", "--config", path.to_str().unwrap(), "--json"];
    // A day's only portion, twice.
    for _ in 0..2 {
        let output = pawgate(&args).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        let events = lines(&output);
        assert!(events.iter().any(|event| event["event"] == "feeder" && event["rule"] == "cats"), "{events:#?}");
    }
    assert!(!folder.path().join("journal").exists());
}

const CONFIG: &str = "[camera]\nsource = \"SAMPLES\"\n[device]\ntime_zone = \"UTC\"\n[door]\n[journal]\nfolder = \"journal\"\n\
    [[rule]]\nname = \"cats\"\naction = \"allow\"\nspecies = \"cat\"\n";

#[test]
fn a_broken_configuration_is_refused_at_the_start_and_on_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door.toml");
    let good = CONFIG.replace("SAMPLES", &Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").display().to_string());
    let file = path.display().to_string();
    std::fs::write(&path, "[door]\nopne_for = 3").unwrap();
    let output = pawgate(&["run", "--simulate", "--config", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(errors(&output).contains("door.toml:2") && errors(&output).contains("open_for"), "{}", errors(&output));

    std::fs::write(&path, &good).unwrap();
    let log = folder.path().join("events.jsonl");
    let journal = folder.path().join("journal").display().to_string();
    let mut child = pawgate(&["run", "--simulate", "--config", &file, "--journal", &journal, "--loop", "--json"])
        .stdout(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let seen = |what: &str| std::fs::read_to_string(&log).unwrap().contains(what);
    wait_until(&mut child, || seen("\"state\":\"open\""));
    std::fs::write(&path, "nonsense = [").unwrap();
    signal(&child, "HUP");
    wait_until(&mut child, || seen("last good configuration stays in force"));
    std::fs::write(&path, good.replace("\"cats\"", "\"felines\"")).unwrap();
    signal(&child, "HUP");
    wait_until(&mut child, || seen("is in force"));
    let start = Instant::now();
    signal(&child, "TERM");
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let events: Vec<Value> =
        std::fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(last_state(&events), "locked", "{events:#?}");

    // What happened is in the journal, and can be explained.
    let output = pawgate(&["events", "--journal", &journal, "--json", "--event", "decision"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let allowed = lines(&output).into_iter().find(|e| e["decision"] == "allow").unwrap();
    let output = pawgate(&["why", "--journal", &journal, &allowed["id"].to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success() && text.contains("cats") && text.contains("open"), "{text}{}", errors(&output));
}
