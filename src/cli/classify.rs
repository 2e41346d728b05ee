//! `pawgate classify`: pictures in; a table for people or one JSON object a line out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::{Exit, Failure, ModelArgs};
use crate::model::{Candidate, Classifier, Reading, Scores, Verdict};
use crate::vision::collect::{Input, collect};
use crate::vision::{self, Preprocess, ResizeRule};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pictures (JPEG, PNG, WebP, BMP), or folders that are searched for them.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Write the raw outputs to a safetensors file: `breed` [n,C], `pet` [n,1], `embedding` [n,E], f32. Row i belongs to
    /// line i of the output; the row of a picture that could not be classified is NaN.
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// How many breeds to list a picture.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// How a picture becomes a square. Thresholds were chosen for the model's own rule.
    #[arg(long, value_enum, default_value_t = Resize::Model)]
    resize: Resize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Resize {
    /// As the model file says.
    Model,
    /// Short side to 256 pixels, central square.
    Crop,
    /// The whole picture squeezed, as in the paper.
    Plain,
}

impl Resize {
    fn apply(self, own: &Preprocess) -> Preprocess {
        let resize = match self {
            Self::Model => own.resize,
            Self::Crop => ResizeRule::ShortSideCrop { short_side: own.size * 256 / 224 },
            Self::Plain => ResizeRule::Plain,
        };
        Preprocess { resize, ..own.clone() }
    }
}

/// One line of `--json`. Without an answer, everything but `file`, `verdict`, `ms` and `error` is null or empty.
#[derive(Debug, Serialize)]
struct Line {
    file: String,
    verdict: Answer,
    species: Option<crate::model::Species>,
    breed: Option<String>,
    p: Option<f32>,
    pet: Option<f32>,
    top: Vec<Candidate>,
    ms: f64,
    /// Why the verdict is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A verdict, or that there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Verdict(Verdict),
    Error(&'static str),
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let inputs = collect(&args.paths);
    let classifier = args.model.load()?;
    let preprocess = args.resize.apply(&classifier.metadata().preprocess);
    let mut logits = args.logits.as_ref().map(|path| Logits::new(path, &classifier));
    let width = inputs.iter().map(|i| i.name().chars().count()).max().unwrap_or(0).clamp(4, 60);
    if !args.json {
        writeln!(out, "{:<width$}  {:<9}  {:<7}  {:<34}  {:>4}  {:>7}", "file", "verdict", "species", "breed", "pet", "ms")?;
    }
    let mut failed = 0;
    for input in &inputs {
        let start = Instant::now();
        let result = classify(input, &classifier, &preprocess);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if let Some(logits) = &mut logits {
            logits.push(result.as_ref().ok());
        }
        let result = result.map(|scores| classifier.read(&scores, args.top.into()));
        failed += usize::from(result.is_err());
        if args.json {
            let line = Line::new(input.name(), &result, ms);
            writeln!(out, "{}", serde_json::to_string(&line).map_err(|e| Failure::new(Exit::Io, e))?)?;
        } else {
            write_row(out, width, &input.name(), &result, ms)?;
        }
    }
    if let Some(logits) = logits {
        logits.write().map_err(|error| Failure { exit: Exit::Io, error })?;
    }
    if failed > 0 {
        eprintln!("pawgate: {failed} of {} could not be classified", inputs.len());
        return Ok(Exit::Partly);
    }
    Ok(Exit::Ok)
}

fn classify(input: &Input, classifier: &Classifier, preprocess: &Preprocess) -> Result<Scores, String> {
    if let Some(problem) = &input.problem {
        return Err(problem.clone());
    }
    let picture = vision::decode::read(&input.path).map_err(|e| e.to_string())?;
    classifier.infer_with(preprocess, &picture).map_err(|e| e.to_string())
}

impl Line {
    fn new(file: String, result: &Result<Reading, String>, ms: f64) -> Self {
        match result {
            Ok(reading) => Self {
                file,
                verdict: Answer::Verdict(reading.verdict),
                species: Some(reading.species),
                breed: Some(reading.best().breed.clone()),
                p: Some(reading.best().p),
                pet: Some(reading.pet),
                top: reading.top.clone(),
                ms,
                reason: reading.doubt.map(|doubt| doubt.to_string()),
                error: None,
            },
            Err(error) => Self {
                file,
                verdict: Answer::Error("error"),
                species: None,
                breed: None,
                p: None,
                pet: None,
                top: vec![],
                ms,
                reason: None,
                error: Some(error.clone()),
            },
        }
    }
}

fn write_row(out: &mut dyn Write, width: usize, file: &str, result: &Result<Reading, String>, ms: f64) -> std::io::Result<()> {
    let reading = match result {
        Ok(reading) => reading,
        Err(error) => return writeln!(out, "{file:<width$}  {:<9}  {error}", "error"),
    };
    let (species, breed) = match reading.verdict {
        Verdict::Animal => {
            let best = reading.best();
            (reading.species.to_string(), format!("{} {}", readable(&best.breed), percent(best.p)))
        }
        Verdict::NoAnimal | Verdict::Unknown => (String::new(), reading.doubt.map(|d| d.to_string()).unwrap_or_default()),
    };
    let pet = percent(reading.pet);
    writeln!(out, "{file:<width$}  {:<9}  {species:<7}  {breed:<34}  {pet:>4}  {ms:>7.1}", reading.verdict)
}

/// A label as people write it.
pub(super) fn readable(label: &str) -> String {
    label.replace('_', " ")
}

/// A probability in whole percent; certainty is only claimed where it rounds from 99.95 %.
pub(super) fn percent(p: f32) -> String {
    match p {
        p if p > 0.9995 => "100%".into(),
        p if p > 0.99 => ">99%".into(),
        p if p < 0.01 => "<1%".into(),
        p => format!("{:.0}%", p * 100.0),
    }
}

/// Raw outputs gathered for `--logits`.
struct Logits<'a> {
    path: &'a Path,
    /// Width of a row of `breed`, `pet`, `embedding`.
    widths: [usize; 3],
    columns: [Vec<f32>; 3],
    rows: usize,
}

impl<'a> Logits<'a> {
    fn new(path: &'a Path, classifier: &Classifier) -> Self {
        let widths = [classifier.metadata().labels.len(), 1, classifier.embedding_len()];
        Self { path, widths, columns: [vec![], vec![], vec![]], rows: 0 }
    }

    fn push(&mut self, scores: Option<&Scores>) {
        self.rows += 1;
        let [breed, pet, embedding] = &mut self.columns;
        if let Some(scores) = scores {
            breed.extend(&scores.breed);
            pet.push(scores.pet);
            embedding.extend(&scores.embedding);
        }
        for (column, width) in self.columns.iter_mut().zip(self.widths) {
            column.resize(self.rows * width, f32::NAN);
        }
    }

    fn write(self) -> anyhow::Result<()> {
        let bytes = self.columns.map(|c| c.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        let views = crate::model::OUTPUTS.into_iter().zip(self.widths).zip(&bytes).map(|((name, width), data)| {
            Ok((name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![self.rows, width], data)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let file = safetensors::serialize(views, None)?;
        std::fs::write(self.path, file).with_context(|| format!("cannot write {}", self.path.display()))
    }
}
