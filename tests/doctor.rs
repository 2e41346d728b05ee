//! `pawgate doctor` on machines that lack things, as their owners run it.
#![cfg(feature = "embedded-model")]

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn doctor(folder: &Path, config: &str, more: &[&str]) -> Output {
    let path = folder.join("config.toml");
    std::fs::write(&path, config).unwrap();
    run(folder, &path, more)
}

fn run(folder: &Path, config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pawgate"));
    command.args(["doctor", "--config", config.to_str().unwrap(), "--runtime", folder.to_str().unwrap()]).args(more);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap()
}

/// State and text of each part, of the first line about it.
fn parts(output: &Output) -> HashMap<String, (String, String)> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut parts = HashMap::new();
    for line in text.lines() {
        let (state, rest) = line.split_at(5);
        let (part, found) = rest.trim_start().split_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(["fine ", "WRONG", "note "].contains(&state), "{line}");
        parts.entry(part.to_owned()).or_insert((state.trim().to_owned(), found.trim().to_owned()));
    }
    parts
}

const PARTS: [&str; 10] = ["config", "model", "service", "camera", "pins", "display", "journal", "user", "power", "clock"];

/// A door whose devices are not there.
const ABSENT: &str = r#"
[camera]
source = "/dev/video97"
[gpio]
chip = "no-such-chip"
[door.latch]
drive = "hold"
line = "17"
[door.button]
line = "22"
[display]
kind = "ssd1306"
bus = "/dev/i2c-97"
[[rule]]
name = "cats"
action = "allow"
species = "cat"
[journal]
folder = "journal"
keep_free = "0MB"
"#;

#[test]
fn a_machine_without_camera_pins_and_display_is_told_so_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let output = doctor(folder.path(), ABSENT, &[]);
    assert_eq!(output.status.code(), Some(1));
    let parts = parts(&output);
    for part in PARTS {
        assert!(parts.contains_key(part), "{part}: {parts:#?}");
    }
    for (part, found, mend) in [
        ("camera", "/dev/video97", "is it plugged in?"),
        ("pins", "no GPIO chip has this label", "`gpiodetect`"),
        ("display", "/dev/i2c-97", "dtparam=i2c_arm=on"),
    ] {
        let (state, text) = &parts[part];
        assert_eq!(state, "WRONG", "{part}: {text}");
        assert!(text.contains(found) && text.contains(mend), "{part}: {text}");
    }
    for part in ["config", "model"] {
        assert_eq!(parts[part].0, "fine", "{part}: {}", parts[part].1);
    }
    // Both lines, one line each.
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("  pins  ")).count(), 2, "{text}");
}

#[test]
fn the_same_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = doctor(folder.path(), ABSENT, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let state =
        |part: &str| findings.iter().find(|finding| finding["part"] == part).unwrap()["state"].as_str().unwrap().to_owned();
    assert_eq!((state("camera"), state("model")), ("wrong".into(), "fine".into()));
    assert!(findings.iter().all(|finding| finding["found"].is_string()));
}

#[test]
fn without_a_configuration_it_says_how_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &folder.path().join("none.toml"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let (state, text) = &parts(&output)["config"];
    assert_eq!(state, "WRONG");
    assert!(text.contains("none.toml") && text.contains("pawgate check"), "{text}");
}

#[test]
fn a_broken_configuration_and_a_broken_model_are_told_beside_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::write(&model, "junk").unwrap();
    let output = doctor(folder.path(), &format!("{ABSENT}\nbad = 1\n"), &["--model", model.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let parts = parts(&output);
    assert!(parts["config"].0 == "WRONG" && parts["config"].1.contains("refused, 1 problem"), "{parts:#?}");
    assert!(parts["model"].0 == "WRONG" && parts["model"].1.contains("model.onnx"), "{parts:#?}");
}

#[test]
fn a_damaged_journal_is_found() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    std::fs::write(folder.path().join("journal/journal.db"), [b'x'; 5000]).unwrap();
    let output = doctor(folder.path(), ABSENT, &[]);
    let name = pawgate::journal::FILE_NAME;
    assert_eq!(name, "journal.db", "the test writes another file");
    let (state, text) = &parts(&output)["journal"];
    assert_eq!(state, "WRONG", "{text}");
}

#[test]
fn a_camera_that_gives_pictures_is_fine_and_one_that_gives_black_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let film = |name: &str, luma: &[u8]| {
        let path = folder.path().join(name);
        let mut bytes = b"YUV4MPEG2 W64 H64 F10:1 C420\n".to_vec();
        for _ in 0..20 {
            bytes.extend_from_slice(b"FRAME\n");
            bytes.extend((0..64 * 64).map(|i| luma[(i / 8 + i / 512) % luma.len()]));
            bytes.extend_from_slice(&[128; 64 * 64 / 2]);
        }
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let camera = |path: &Path| {
        let command = format!("command = [\"sh\", \"-c\", \"cat {}; sleep 30\"]", path.display());
        parts(&doctor(folder.path(), &ABSENT.replace("source = \"/dev/video97\"", &command), &[]))["camera"].clone()
    };
    let (state, text) = camera(&film("good.y4m", &[60, 200]));
    assert!(state == "fine" && text.contains("64x64"), "{text}");
    let (state, text) = camera(&film("black.y4m", &[16]));
    assert!(state == "WRONG" && text.contains("lens cap"), "{text}");
}
