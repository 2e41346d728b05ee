//! The binary as its users run it.
#![cfg(feature = "embedded-model")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

fn pawgate(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pawgate"));
    args.iter().for_each(|arg| {
        command.arg(arg);
    });
    command.output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_demo_opens_for_the_cat_alone() {
    let output = pawgate(&[&"demo"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let text = text(&output.stdout);
    let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    assert!(line("cat.jpg").contains("door OPENS"), "{text}");
    for (name, reason) in [("raccoon.jpg", "no pet"), ("coffee.jpg", "no pet"), ("person.jpg", "")] {
        assert!(line(name).contains("door stays shut") && line(name).contains(reason), "{text}");
    }
}

#[test]
fn dense_random_weights_can_be_measured() {
    let output = pawgate(&[&"bench", &"--dense", &"--runs", &"1", &"--threads", &"1", &"--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    assert!(lines.len() == 1 && lines[0]["dense"] == true && lines[0]["median_ms"].as_f64().unwrap() > 0.0, "{lines:?}");
}

#[test]
fn json_has_the_promised_keys() {
    let output = pawgate(&[&"classify", &"--json", &sample("cat.jpg"), &sample("coffee.jpg")]);
    assert!(output.status.success());
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 2);
    let cat = &lines[0];
    assert_eq!((cat["verdict"].as_str(), cat["species"].as_str()), (Some("animal"), Some("cat")));
    assert!(cat["file"].as_str().unwrap().ends_with("cat.jpg"));
    assert!(cat["p"].as_f64().unwrap() <= 1.0 && cat["pet"].as_f64().unwrap() > 0.5 && cat["ms"].as_f64().unwrap() > 0.0);
    let top = cat["top"].as_array().unwrap();
    assert_eq!((top.len(), &top[0]["breed"], &top[0]["p"]), (3, &cat["breed"], &cat["p"]));
    assert!(cat.get("error").is_none());
    assert_eq!(lines[1]["verdict"], "no animal");
}

#[test]
fn a_bad_file_is_an_error_and_the_others_are_still_classified() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(sample("cat.jpg")).unwrap();
    // The content counts, not the name.
    std::fs::write(folder.path().join("a.png"), &good).unwrap();
    std::fs::write(folder.path().join("b.jpg"), &good[..good.len() / 2]).unwrap();
    std::fs::write(folder.path().join("c.webp"), "hello").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not looked at").unwrap();
    let missing = folder.path().join("missing.jpg");
    let endless = Path::new("/dev/zero");
    let logits = folder.path().join("logits.safetensors");
    let output = pawgate(&[&"classify", &"--json", &"--logits", &logits, &folder.path(), &missing, &endless]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let lines = json_lines(&output);
    let verdicts: Vec<_> = lines.iter().map(|l| l["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["animal", "error", "error", "error", "error"]);
    assert!(lines[1]["error"].as_str().unwrap().contains("cut off"), "{}", lines[1]);
    assert!(lines[2]["error"].as_str().unwrap().contains("not a JPEG"), "{}", lines[2]);
    assert!(lines[2]["breed"].is_null() && lines[2]["pet"].is_null() && lines[2]["top"] == serde_json::json!([]));

    assert!(lines[4]["error"].as_str().unwrap().contains("not a regular file"), "{}", lines[4]);

    let file = std::fs::read(&logits).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    for (name, shape) in [("breed", [5, 37]), ("pet", [5, 1]), ("embedding", [5, 3328])] {
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &shape[..]), "{name}");
        let values: Vec<f32> = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert!(values[..shape[1]].iter().all(|v| v.is_finite()) && values[shape[1]..].iter().all(|v| v.is_nan()), "{name}");
    }
}

#[test]
fn people_get_a_table() {
    let output = pawgate(&[&"classify", &sample("cat.jpg"), &sample("raccoon.jpg")]);
    let text = text(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("file") && lines[1].contains(" animal ") && lines[1].contains(" cat "), "{text}");
    assert!(lines[2].contains("no animal"), "{text}");
}

#[test]
fn an_empty_folder_is_said_to_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    let output = pawgate(&[&"classify", &folder.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("no pictures in this folder"), "{}", text(&output.stdout));
}

#[test]
fn an_unusable_model_ends_with_code_3_and_says_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.onnx");
    std::fs::write(&junk, "not a model").unwrap();
    for model in [junk, folder.path().join("missing.onnx")] {
        for command in ["demo", "classify"] {
            let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&command, &"--model", &model];
            let cat = sample("cat.jpg");
            if command == "classify" {
                args.push(&cat);
            }
            let output = pawgate(&args);
            assert_eq!(output.status.code(), Some(3));
            let complaint = text(&output.stderr);
            assert!(
                complaint.contains("junk.onnx") && complaint.contains("expected an ONNX file")
                    || complaint.contains("cannot read"),
                "{complaint}"
            );
            assert!(output.stdout.is_empty(), "nothing is said about pictures without a model");
        }
    }
}

#[test]
fn a_wrong_command_line_ends_with_code_2() {
    assert_eq!(pawgate(&[&"classify"]).status.code(), Some(2));
    assert_eq!(pawgate(&[&"classify", &"--top", &"0", &"x.jpg"]).status.code(), Some(2));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let cat = sample("cat.jpg").display().to_string();
    let binary = env!("CARGO_BIN_EXE_pawgate");
    let script = format!("'{binary}' classify --json '{cat}' '{cat}' '{cat}' | true");
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn what_cannot_be_seen_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, picture: image::RgbImage| picture.save(folder.path().join(name)).unwrap();
    for grey in [0, 60, 128, 160, 255] {
        save(&format!("grey-{grey:03}.png"), image::RgbImage::from_pixel(300, 200, image::Rgb([grey; 3])));
    }
    // The cat too: at night it has to wait for light, as everybody else.
    for (name, part) in [("cat.jpg", 10), ("raccoon.jpg", 10), ("raccoon.jpg", 20)] {
        let picture = image::open(sample(name)).unwrap().into_rgb8();
        let dim = image::RgbImage::from_raw(picture.width(), picture.height(), picture.iter().map(|v| v / part).collect());
        save(&format!("dim-{part}-{name}.png"), dim.unwrap());
    }
    let output = pawgate(&[&"classify", &"--json", &folder.path()]);
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 8);
    for line in lines {
        assert_eq!(line["verdict"], "unknown", "{line}");
        assert!(["too dark", "no contrast"].contains(&line["reason"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn every_subcommand_is_completed_in_every_shell() {
    let help = text(&pawgate(&[&"--help"]).stdout);
    let commands: Vec<_> =
        help.lines().filter_map(|l| l.strip_prefix("  ")?.split_once("  ")).map(|(name, _)| name.trim()).collect();
    assert!(commands.contains(&"safe-state") && commands.contains(&"completions"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let output = pawgate(&[&"completions", &shell]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let script = text(&output.stdout);
        for name in commands.iter().filter(|name| !name.starts_with('-')) {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    assert_eq!(pawgate(&[&"completions", &"csh"]).status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_each_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("pages");
    let output = pawgate(&[&"man", &"--out", &pages]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    let run = std::fs::read_to_string(pages.join("pawgate-run.1")).unwrap();
    assert!(run.contains(".TH pawgate-run 1") && run.contains("simulate"), "{run}");
    let all: Vec<_> = std::fs::read_dir(&pages).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!all.iter().any(|name| name.contains("help") || name.contains("camera-feed")), "{all:?}");
    // The page that names the others is the one on standard output.
    let page = text(&pawgate(&[&"man"]).stdout);
    assert_eq!(page, std::fs::read_to_string(pages.join("pawgate.1")).unwrap());
    for name in all.iter().filter(|name| *name != "pawgate.1") {
        assert!(page.contains(&name.trim_end_matches(".1").replace('-', "\\-")), "{name}: {page}");
    }

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = pawgate(&[&"man", &"--out", &file]);
    let complaint = text(&output.stderr);
    assert!(output.status.code() == Some(4) && complaint.contains("cannot write manual pages into"), "{complaint}");
}
