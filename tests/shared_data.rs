//! The shipped model on every tenth of the shared pictures, where `../shared/data` lies beside the checkout.
//!
//! These pictures were trained on, so this says nothing about accuracy (`pawgate-tools evaluate` does): it notices when
//! pre-processing, model and thresholds no longer belong together.
#![cfg(feature = "embedded-model")]

use std::io::Write;
use std::path::{Path, PathBuf};

use pawgate::model::{Classifier, Verdict};
use pawgate::nn::Options;
use pawgate::vision;
use rayon::prelude::*;
use walkdir::WalkDir;

fn every_tenth(folder: &Path) -> Vec<PathBuf> {
    let files = WalkDir::new(folder).sort_by_file_name().into_iter().map(|entry| entry.unwrap().into_path());
    files.filter(|path| path.extension().is_some_and(|e| e == "jpg" || e == "jpeg" || e == "JPEG")).step_by(10).collect()
}

#[test]
fn pets_are_recognised_and_everything_else_is_not() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("shared/data");
    if !data.is_dir() {
        // Written directly: the test harness swallows what `eprintln!` says in a test that passes.
        let note = format!("SKIPPED pets_are_recognised_and_everything_else_is_not: there is no {}\n", data.display());
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        return;
    }
    let classifier = Classifier::embedded(Options::SINGLE_THREADED).unwrap();
    let judge = |path: &PathBuf| {
        let picture = vision::decode(&std::fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path.clone(), classifier.read(&classifier.infer(&picture).unwrap(), 1))
    };
    let pets: Vec<_> = every_tenth(&data.join("oxford-pets/images")).par_iter().map(judge).collect();
    assert!(pets.len() > 70, "{} pets", pets.len());
    let animals = pets.iter().filter(|(_, r)| r.verdict == Verdict::Animal).count();
    let right =
        pets.iter().filter(|(path, r)| path.file_stem().unwrap().to_string_lossy().starts_with(&r.best().breed)).count();
    assert!(animals * 100 >= pets.len() * 95, "{animals} of {} pets are animals", pets.len());
    assert!(right * 100 >= pets.len() * 97, "{right} of {} breeds are right", pets.len());
    let others: Vec<_> = every_tenth(&data.join("negatives")).par_iter().map(judge).collect();
    assert!(others.len() > 70, "{} negatives", others.len());
    let taken: Vec<_> = others.iter().filter(|(_, r)| r.verdict == Verdict::Animal).map(|(path, _)| path).collect();
    assert!(taken.len() <= 2, "taken for pets: {taken:?}");
}
