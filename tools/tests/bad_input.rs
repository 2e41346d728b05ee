//! Input that is wrong, a disk that is full, a program that is killed: an error that says what is wrong, and never half a file under the
//! final name. What needs real weights and pictures is skipped, and says so, where `../shared/data` does not lie beside the checkout.

#[path = "../../tests/common/mount.rs"]
mod mount;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn tools(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pawgate-tools")).args(args).output().expect("the binary starts");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn succeed(args: &[&str]) {
    let (code, error) = tools(args);
    assert_eq!(code, Some(0), "{args:?}\n{error}");
}

fn shared(test: &str) -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?.join("shared/data");
    if data.join("weights").is_dir() {
        return Some(data);
    }
    skipped(&format!("{test}: there is no {}", data.display()));
    None
}

/// Written directly: the test harness swallows what `eprintln!` says in a test that passes.
fn skipped(what: &str) {
    std::io::stderr().write_all(format!("SKIPPED {what}\n").as_bytes()).unwrap();
}

/// Names of everything in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_subcommand_names_what_is_wrong_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for empty in ["empty", "out", "one/cat/Minka", "flat"] {
        std::fs::create_dir_all(path(empty)).unwrap();
    }
    std::fs::write(path("junk"), "junk").unwrap();
    std::fs::write(path("figures.json"), r#"{"title": "x", "nobody": "knows this"}"#).unwrap();
    std::fs::write(path("right.json"), r#"{"title": "x"}"#).unwrap();
    for (name, content) in [("one/cat/Minka/1.jpg", "no picture"), ("flat/1.jpg", "no picture")] {
        std::fs::write(path(name), content).unwrap();
    }
    let [junk, missing, empty, out] = ["junk", "missing", "empty", "out/file"].map(path);
    let [figures, right, layers, one, flat] = ["figures.json", "right.json", "layers.json", "one", "flat"].map(path);
    std::fs::write(
        &layers,
        r#"{"network_sha256": "00", "estimator": "mse", "equalised": false, "pictures": 1, "backbones": [], "layers": []}"#,
    )
    .unwrap();
    let both = ["--resnet", &junk, "--mobilenet", &junk];
    let data = ["--data", &empty, "--negatives", &empty];
    let train = ["train", "--network", &junk, "--out", &out];
    let quantize = ["quantize", "--network", &junk, "--out", &out];
    let evaluate = ["evaluate", "--network", &junk, "--json", &out];
    let cases: [(&[&[&str]], &[&str]); 31] = [
        (&[&["build", "--out", &out], &both], &["junk", "safetensors"]),
        (&[&["build", "--out", &out, "--resnet", &missing, "--mobilenet", &junk]], &["missing"]),
        (&[&["build", "--out", &out, "--resnet", &empty, "--mobilenet", &junk]], &["empty"]),
        (&[&train, &data], &["trainval.txt"]),
        (&[&train, &["--classes", &empty, "--negatives", &empty]], &["empty"]),
        (&[&train, &["--classes", &missing, "--negatives", &empty]], &["missing"]),
        (&[&train, &["--classes", &flat, "--negatives", &empty]], &["flat"]),
        (&[&train, &["--classes", &one, "--negatives", &empty]], &["no pictures below", "empty"]),
        (&[&train, &data, &["--recipe", "best"]], &["--resnet", "--mobilenet"]),
        (&[&train, &data, &["--recipe", "best"], &both], &["junk"]),
        (&[&train, &data, &["--epochs", "0"]], &["--epochs"]),
        (&[&train, &data, &["--patience", "0"]], &["--patience"]),
        (&[&train, &data, &["--dropout", "1"]], &["--dropout"]),
        (&[&train, &data, &["--learning-rate", "NaN"]], &["--learning-rate"]),
        (&[&quantize, &data, &["--head", &missing]], &["junk"]),
        (&[&quantize, &data, &["--calibration", "3"]], &["--calibration"]),
        (&[&quantize, &data, &["--estimator", "percentile:7"]], &["percentage"]),
        (&[&quantize, &data, &["--layers", &out]], &["--sensitivity"]),
        (&[&quantize, &data, &["--layers", &out, "--sensitivity", "0"]], &["--layers", "--sensitivity"]),
        (&[&evaluate, &data], &["trainval.txt"]),
        (&[&evaluate, &data, &["--doors", &junk]], &["junk", "line 1", "replay --each"]),
        (&[&evaluate, &data, &["--sensitivity", &junk]], &["junk", "quantize --layers"]),
        (&[&evaluate, &data, &["--sensitivity", &layers]], &["layers.json", "another network", "junk"]),
        (&[&evaluate, &data, &["--events"]], &["--model"]),
        (&[&evaluate, &data, &["--events", "--model", &junk]], &["--events", "--recipe best"]),
        (&[&["report", "--out", &out, "--from", &right, "--sensitivity", &missing]], &["missing"]),
        (&[&["recipe", "--out", &out, "--work", &path("out")], &both, &data], &["junk"]),
        (&[&["report", "--out", &out, "--from", &missing]], &["missing"]),
        (&[&["report", "--out", &out, "--from", &junk]], &["junk"]),
        (&[&["report", "--out", &out, "--from", &figures]], &["figures.json", "nobody"]),
        (&[&["report", "--out", &out, "--from", &right, "--backends", &figures]], &["figures.json", "nobody"]),
    ];
    for (args, parts) in cases {
        let args = args.concat();
        let (code, error) = tools(&args);
        assert!(matches!(code, Some(1 | 2)), "{args:?} ends with {code:?}\n{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {parts:?} is missing in\n{error}");
        assert!(!error.contains("panicked"), "{args:?}\n{error}");
        assert!(names(Path::new(&path("out"))).is_empty(), "{args:?} left {:?}", names(Path::new(&path("out"))));
    }
    succeed(&["report", "--from", &right, "--out", &out]);
    assert_eq!(names(Path::new(&path("out"))), ["file"]);
}

/// Twelve pictures of each of three breeds as folders, and negatives.
fn small_set(data: &Path, folder: &Path) {
    let copy = |from: &Path, wanted: &dyn Fn(&str) -> bool, to: PathBuf| {
        std::fs::create_dir_all(&to).unwrap();
        names(from).iter().filter(|name| wanted(name)).take(12).for_each(|name| {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        });
    };
    for (breed, own) in [("Sphynx_", "cat/Minka"), ("pug_", "dog/Rex"), ("samoyed_", "dog/Bella")] {
        copy(&data.join("oxford-pets/images"), &|name| name.starts_with(breed), folder.join("own").join(own));
    }
    for category in ["raccoon", "house_kitchen"] {
        copy(&data.join("negatives").join(category), &|_| true, folder.join("negatives").join(category));
    }
}

#[test]
fn a_full_disk_and_a_killed_run_leave_nothing_half_done() {
    let Some(data) = shared("a_full_disk_and_a_killed_run_leave_nothing_half_done") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_set(&data, folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [resnet, mobilenet] = ["resnet50_v1", "mobilenet_v2"].map(|name| data.join(format!("weights/{name}.safetensors")));
    let [resnet, mobilenet] = [resnet, mobilenet].map(|path| path.display().to_string());
    let [network, own, negatives, cache] = ["fused.onnx", "own", "negatives", "cache"].map(path);
    succeed(&["build", "--resnet", &resnet, "--mobilenet", &mobilenet, "--out", &network]);
    // So many epochs that it can be killed between two of them.
    let train = |out: &str, more: &[&str]| {
        let args = ["train", "--network", &network, "--classes", &own, "--negatives", &negatives, "--cache", &cache];
        [&args[..], &["--epochs", "40", "--gate-epochs", "40", "--out"], &[out], more]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let run = |args: Vec<String>| succeed(&args.iter().map(String::as_str).collect::<Vec<_>>());
    run(train(&path("whole"), &[]));
    assert!(!Path::new(&path("whole.progress")).exists(), "a training that ended leaves its progress");

    let killed = train(&path("killed"), &[]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_pawgate-tools"))
        .args(&killed)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let kept = PathBuf::from(path("killed.progress"));
    let start = Instant::now();
    while !kept.is_dir() || names(&kept).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(300), "nothing is kept");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!Path::new(&path("killed")).exists(), "a head that is not trained");
    run(train(&path("killed"), &["--resume"]));
    assert!(std::fs::read(path("killed")).unwrap() == std::fs::read(path("whole")).unwrap(), "resumed to another head");
    assert!(!kept.exists(), "what was kept is of no more use");

    let tiny = folder.path().join("tiny");
    std::fs::create_dir(&tiny).unwrap();
    let Some(_mount) = mount::Mount::new(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], &tiny) else {
        skipped("the full disk: this user may not mount a tmpfs");
        return;
    };
    let [head, out] = [path("whole"), path("tiny/out")];
    let material = ["--network", &network, "--classes", &own, "--negatives", &negatives, "--cache", &cache];
    std::fs::write(path("figures.json"), format!(r#"{{"title": "{}"}}"#, "long".repeat(50_000))).unwrap();
    let quick = ["--estimator", "minmax", "--calibration", "8", "--held-out", "8", "--head", &head];
    let cases: [&[&[&str]]; 4] = [
        &[&["build", "--resnet", &resnet, "--mobilenet", &mobilenet, "--out", &out]],
        &[&["train", "--out", &out], &material],
        &[&["quantize", "--out", &out], &quick, &material],
        &[&["report", "--from", &path("figures.json"), "--out", &out]],
    ];
    for args in cases {
        let args = args.concat();
        let (code, error) = tools(&args);
        assert!(code == Some(1) && error.contains("out") && error.contains("No space left"), "{args:?}: {code:?}\n{error}");
        let left: Vec<String> = names(&tiny).into_iter().filter(|name| name != "out.progress").collect();
        assert!(left.is_empty(), "{args:?} left {left:?}");
        std::fs::remove_dir_all(tiny.join("out.progress")).ok();
    }
}
