//! The tools on real weights and real pictures, where `../shared/data` lies beside the checkout; skipped, and said so, where
//! it does not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pawgate::model::{Classifier, Verdict};
use pawgate::nn::{self, Network, Options};
use pawgate::vision::{self, Preprocess, ResizeRule};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The shared data, or `None` with a note on standard error.
fn shared(test: &str) -> Option<PathBuf> {
    let data = root().parent()?.join("shared/data");
    if data.join("weights").is_dir() {
        return Some(data);
    }
    // Written directly: the test harness swallows what `eprintln!` says in a test that passes.
    let note = format!("SKIPPED {test}: there is no {}\n", data.display());
    std::io::stderr().write_all(note.as_bytes()).unwrap();
    None
}

fn tools(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pawgate-tools")).args(args).output().expect("the binary starts")
}

fn succeed(args: &[&str]) -> String {
    let output = tools(args);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{args:?}\n{err}");
    out
}

fn fail(args: &[&str]) -> String {
    let output = tools(args);
    assert!(!output.status.success(), "{args:?} should fail");
    String::from_utf8(output.stderr).unwrap()
}

fn weights(data: &Path) -> [String; 2] {
    ["resnet50_v1", "mobilenet_v2"].map(|name| data.join(format!("weights/{name}.safetensors")).display().to_string())
}

#[test]
fn both_backbones_see_an_imagenet_cat_on_the_sample() {
    let Some(data) = shared("both_backbones_see_an_imagenet_cat_on_the_sample") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("imagenet.onnx");
    let [resnet, mobilenet] = weights(&data);
    succeed(&["build", "--imagenet", "--resnet", &resnet, "--mobilenet", &mobilenet, "--out", out.to_str().unwrap()]);
    let network = Network::load(nn::decode(&std::fs::read(&out).unwrap()).unwrap(), Options::default()).unwrap();
    let cat = vision::decode(&std::fs::read(root().join("samples/cat.jpg")).unwrap()).unwrap();
    let rule = Preprocess::imagenet(ResizeRule::ShortSideCrop { short_side: 256 });
    let outputs = network.run(&rule.tensor(&cat).unwrap()).unwrap();
    // Classes 281…285 of the ImageNet challenge are the domestic cats; 1001-class checkpoints have the background before them.
    for (name, classes) in [("resnet50/imagenet", 1000), ("mobilenet_v2/imagenet", 1001)] {
        let at = network.outputs().iter().position(|port| port.name == name).unwrap();
        let logits = &outputs[at];
        assert_eq!(logits.len(), classes, "{name}");
        let best = (0..classes).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert!((281..=285).contains(&(best - (classes - 1000))), "{name} says class {best}");
    }
}

/// A data set of three breeds and two kinds of negatives, small enough to go through the whole recipe.
fn small_set(data: &Path, folder: &Path) {
    let pets = folder.join("pets");
    std::fs::create_dir_all(pets.join("images")).unwrap();
    std::fs::create_dir_all(pets.join("annotations")).unwrap();
    let mut list = String::new();
    for (class, (breed, species)) in [("Sphynx", 1), ("pug", 2), ("samoyed", 2)].into_iter().enumerate() {
        let mut names: Vec<_> = std::fs::read_dir(data.join("oxford-pets/images"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.rsplit_once('_').unwrap().0 == breed)
            .collect();
        names.sort();
        for name in names.iter().take(10) {
            std::fs::copy(data.join("oxford-pets/images").join(name), pets.join("images").join(name)).unwrap();
            list += &format!("{} {} {species} 1\n", name.trim_end_matches(".jpg"), class + 1);
        }
    }
    // One picture that is listed and broken, one that is listed and missing.
    std::fs::write(pets.join("images/pug_9001.jpg"), "no picture").unwrap();
    std::fs::write(pets.join("annotations/trainval.txt"), list + "pug_9001 2 2 1\npug_9002 2 2 1\n").unwrap();
    for category in ["raccoon", "house_kitchen"] {
        let target = folder.join("negatives").join(category);
        std::fs::create_dir_all(&target).unwrap();
        let mut files: Vec<_> =
            std::fs::read_dir(data.join("negatives").join(category)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files.iter().take(12) {
            std::fs::copy(file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_whole_recipe_makes_a_working_model_twice_the_same() {
    let Some(data) = shared("the_whole_recipe_makes_a_working_model_twice_the_same") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_set(&data, folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [resnet, mobilenet] = weights(&data);
    let recipe = |work: &str, out: &str| {
        succeed(&[
            "recipe",
            "--resnet",
            &resnet,
            "--mobilenet",
            &mobilenet,
            "--data",
            &path("pets"),
            "--negatives",
            &path("negatives"),
            "--cache",
            &path("cache"),
            "--work",
            &path(work),
            "--out",
            &path(out),
            "--calibration",
            "16",
            "--held-out",
            "8",
            "--estimator",
            "minmax",
            "--recipe",
            "best",
            "--conditions",
            "dim,partial",
        ])
    };
    let text = recipe("first", "first.onnx");
    for part in [
        "ResNet50 alone",
        "fused, int8",
        "best recipe, int8",
        "dim (best recipe, int8)",
        "negatives accepted",
        "none of 0 evaluated",
        "1 broken",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    recipe("second", "second.onnx");
    let model = std::fs::read(path("first.onnx")).unwrap();
    assert!(model == std::fs::read(path("second.onnx")).unwrap(), "the same seed gave two models");
    // The paper's head is trained step by step; the seed decides it as well.
    let heads = ["one", "two"].map(|name| {
        let (network, pets, negatives) = (path("first/fused.onnx"), path("pets"), path("negatives"));
        let data = ["--network", &network, "--data", &pets, "--negatives", &negatives];
        succeed(&[&["train", "--cache", &path("cache"), "--out", &path(name)], &data[..]].concat());
        std::fs::read(path(name)).unwrap()
    });
    assert!(heads[0] == heads[1], "the same seed gave two heads");
    // A head is put on quantised backbones as `quantize` would have put it there.
    let exchanged = |head: &str| {
        let (network, body, out) = (path("first/fused.onnx"), path("first.onnx"), path("exchanged.onnx"));
        let files = ["--network", &network, "--body", &body, "--head", &path(head), "--out", &out];
        succeed(&[&["quantize", "--data", &path("pets"), "--negatives", &path("negatives")], &files[..]].concat());
        std::fs::read(out).unwrap()
    };
    assert!(exchanged("first/head.safetensors") == model, "the head that was there gives another model");
    let other = Classifier::from_bytes(&exchanged("one"), Options::default()).unwrap();
    assert_eq!(other.metadata().provenance.training["method"]["recipe"], "paper");

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path("first/evaluation.json")).unwrap()).unwrap();
    assert_eq!((&report["pets"], &report["pets_missing"], &report["broken"]), (&30.into(), &1.into(), &1.into()));
    let rows = report["accuracy"].as_array().unwrap();
    let top1 = |network: &str| rows.iter().find(|r| r["network"] == network).unwrap()["top1_micro"]["mean"].as_f64().unwrap();
    assert!(
        ["fused, fp32", "fused, int8", "best recipe, fp32", "best recipe, int8"]
            .into_iter()
            .all(|network| top1(network) > 90.0),
        "three breeds that look nothing like each other: {report}"
    );

    let classifier = Classifier::from_bytes(&model, Options::default()).unwrap();
    let names: Vec<_> = classifier.metadata().labels.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["Sphynx", "pug", "samoyed"]);
    let judge = |file: PathBuf| {
        let picture = vision::decode(&std::fs::read(file).unwrap()).unwrap();
        classifier.read(&classifier.infer(&picture).unwrap(), 1)
    };
    let mut right = 0;
    let pugs = std::fs::read_dir(folder.path().join("pets/images")).unwrap().map(|e| e.unwrap().path());
    for pug in pugs.filter(|p| p.to_string_lossy().contains("pug_") && !p.ends_with("pug_9001.jpg")) {
        right += u32::from(judge(pug).best().breed == "pug");
    }
    assert!(right >= 9, "{right} of 10 pugs that it was trained on");
    assert_ne!(judge(root().join("samples/coffee.jpg")).verdict, Verdict::Animal);
}

#[test]
fn own_animals_become_a_model_of_the_same_format() {
    let Some(data) = shared("own_animals_become_a_model_of_the_same_format") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_set(&data, folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    for entry in std::fs::read_dir(path("pets/images")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let owner = match name.rsplit_once('_').unwrap().0 {
            "Sphynx" => "cat/Minka",
            "pug" => "dog/Rex",
            _ => "dog/Bella",
        };
        std::fs::create_dir_all(path(&format!("own/{owner}"))).unwrap();
        std::fs::rename(entry.path(), path(&format!("own/{owner}/{name}"))).unwrap();
    }
    let [resnet, mobilenet] = weights(&data);
    let (network, own, negatives, cache) = (path("fused.onnx"), path("own"), path("negatives"), path("cache"));
    let (head, model) = (path("head"), path("own.onnx"));
    succeed(&["build", "--resnet", &resnet, "--mobilenet", &mobilenet, "--out", &network]);
    let material = ["--network", &network, "--classes", &own, "--negatives", &negatives, "--cache", &cache];
    let best = ["train", "--recipe", "best", "--resnet", &resnet, "--mobilenet", &mobilenet, "--out", &head];
    succeed(&[&best[..], &material].concat());
    let few = ["--estimator", "minmax", "--calibration", "8", "--held-out", "8", "--head", &head, "--out", &model];
    succeed(&[&["quantize"][..], &few, &material].concat());
    let classifier = Classifier::from_bytes(&std::fs::read(&model).unwrap(), Options::default()).unwrap();
    let names: Vec<_> = classifier.metadata().labels.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["Bella", "Minka", "Rex"]);
    for (name, label) in [("cat/Minka", "Minka"), ("dog/Rex", "Rex"), ("dog/Bella", "Bella")] {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(path(&format!("own/{name}"))).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let picture = vision::decode(&std::fs::read(&files[0]).unwrap()).unwrap();
        let reading = classifier.read(&classifier.infer(&picture).unwrap(), 1);
        assert_eq!((reading.verdict, reading.best().breed.as_str()), (Verdict::Animal, label), "{}", files[0].display());
    }
}

#[test]
fn a_back_end_that_cannot_be_had_is_refused_at_once() {
    // Without the cargo feature, or without a driver: a machine that has one names its device.
    let error = String::from_utf8(
        tools(&["evaluate", "--backend", "cuda", "--network", "x", "--data", "x", "--negatives", "x"]).stderr,
    );
    let error = error.unwrap();
    let feature = if cfg!(feature = "cuda") { "CUDA: " } else { "--features cuda" };
    assert!(error.contains(feature) && !error.contains("panicked"), "{error}");
}

#[test]
fn wrong_input_is_named() {
    let Some(data) = shared("wrong_input_is_named") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [resnet, mobilenet] = weights(&data);
    let error = fail(&["build", "--resnet", &mobilenet, "--mobilenet", &resnet, "--out", &path("x.onnx")]);
    assert!(error.contains("neither `resnet50_v1`"), "{error}");
    let error = fail(&["build", "--resnet", &path("missing"), "--mobilenet", &mobilenet, "--out", &path("x.onnx")]);
    assert!(error.contains("cannot read the weights"), "{error}");
    assert!(!Path::new(&path("x.onnx")).exists(), "nothing is written after an error");
    let error = fail(&["train", "--recipe", "best", "--data", &path("none"), "--negatives", &path("none")]);
    assert!(error.contains("--resnet") && error.contains("--mobilenet"), "{error}");

    let pets = data.join("oxford-pets").display().to_string();
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::write(path("junk.onnx"), "junk").unwrap();
    let train = |data: &str, negatives: &str| {
        fail(&["train", "--network", &path("junk.onnx"), "--data", data, "--negatives", negatives, "--out", &path("head")])
    };
    assert!(train(&path("empty"), &path("empty")).contains("trainval.txt"));
    assert!(train(&pets, &path("empty")).contains("no pictures below"));
    assert!(train(&pets, &data.join("negatives").display().to_string()).contains("junk.onnx"));
}

#[test]
fn too_little_data_is_refused_before_anything_is_trained() {
    let Some(data) = shared("too_little_data_is_refused_before_anything_is_trained") else { return };
    let folder = tempfile::tempdir().unwrap();
    small_set(&data, folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [resnet, mobilenet] = weights(&data);
    succeed(&["build", "--resnet", &resnet, "--mobilenet", &mobilenet, "--out", &path("fused.onnx")]);
    let train = |list: &str| {
        std::fs::write(path("pets/annotations/trainval.txt"), list).unwrap();
        let (pets, negatives) = (path("pets"), path("negatives"));
        let head = path("head");
        let cache = path("cache");
        fail(&[
            "train",
            "--network",
            &path("fused.onnx"),
            "--data",
            &pets,
            "--negatives",
            &negatives,
            "--cache",
            &cache,
            "--out",
            &head,
        ])
    };
    let text = std::fs::read_to_string(path("pets/annotations/trainval.txt")).unwrap();
    let lines = |class: &str, count: usize| -> String {
        let chosen = text.lines().filter(|l| l.starts_with(class) && !l.contains("_900")).take(count);
        chosen.flat_map(|l| [l, "\n"]).collect()
    };
    assert!(train(&lines("Sphynx", 10)).contains("one class only"));
    assert!(train(&(lines("Sphynx", 2) + &lines("pug", 2))).contains("too few for 5 folds"));
    assert!(train("Sphynx_1 1 1 1\npug_9001 2 2 1\n").contains("no picture in"), "a class whose pictures are missing");
    assert!(!Path::new(&path("head")).exists());
}
