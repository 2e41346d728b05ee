//! `pawgate bench`: how fast the model runs here, and where the time goes.

use std::io::Write;
use std::time::{Duration, Instant};

use image::RgbImage;
use serde::Serialize;
use tract_onnx::pb::{ModelProto, tensor_proto::DataType};

use super::{Exit, Failure, ModelArgs};
use crate::model::{Classifier, ModelError};
use crate::nn::runtime::parse_threads;
use crate::nn::{File, NodeTime, Options};
use crate::samples::SAMPLES;
use crate::vision;

/// A camera's frame, for measuring how long the way to the network's input takes.
const FRAME: [u32; 2] = [1280, 720];
/// Rows of the table of operators; the rest is one line.
const ROWS: usize = 16;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Measure with this many threads only; by default with one, two, … up to the number of cores.
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
    /// Inferences to time for each number of threads.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Print one JSON object a line for each number of threads, and no table of operators.
    #[arg(long)]
    json: bool,
    /// Replace the weights by random ones without zeros: what a network of this shape costs when nothing can be left out.
    #[arg(long)]
    dense: bool,
    /// Leave the file to tract's own operators, which compute it in floats on one thread: what the integers are measured against.
    #[arg(long)]
    floats: bool,
    /// List every operator, not only those that take longest.
    #[arg(long)]
    all: bool,
}

/// One line of `--json`. Times in milliseconds; memory is the process's peak so far, in MB of 1024².
#[derive(Debug, Serialize)]
struct Line {
    isa: &'static str,
    threads: usize,
    runs: u32,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    frames_per_s: f64,
    /// From the model file's bytes to a classifier that is ready.
    load_ms: f64,
    /// From a frame of 1280×720 pixels to the network's input square.
    frame_ms: f64,
    peak_rss_mb: Option<f64>,
    dense: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let options = Options::from_env().map_err(|e| Failure::new(Exit::Model, anyhow::anyhow!(e)))?;
    let options = Options { floats: args.floats, ..options };
    let cores = if args.floats { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let counts = match args.threads.or(options.threads) {
        Some(threads) => threads..=threads,
        None => 1..=cores,
    };
    let mut operators = vec![];
    for threads in counts.clone() {
        let (line, classifier) = measure(args, Options { threads: Some(threads), ..options })?;
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&line).map_err(|e| Failure::new(Exit::Io, e))?)?;
            continue;
        }
        if threads == *counts.start() {
            write_heading(out, &line, &classifier)?;
        }
        writeln!(
            out,
            "{:>7}  {:>7.2}  {:>9.2}  {:>6.2}  {:>8.1}",
            line.threads, line.min_ms, line.median_ms, line.p95_ms, line.frames_per_s
        )?;
        out.flush()?;
        if threads == *counts.end() {
            operators = profile(&classifier, args.runs)?;
        }
    }
    if !args.json {
        write_operators(out, operators, *counts.end(), args.all)?;
    }
    Ok(Exit::Ok)
}

fn measure(args: &Args, options: Options) -> Result<(Line, Classifier), Failure> {
    let bytes = args.model.bytes()?;
    let failure = |error: anyhow::Error| Failure { exit: Exit::Model, error };
    let start = Instant::now();
    let mut file = File::decode(&bytes).map_err(|e| failure(e.into()))?;
    if args.dense {
        let mut message = file.into_message();
        fill_with_dense_weights(&mut message);
        file = message.into();
    }
    let classifier = Classifier::from_file(file, options).map_err(|e| failure(e.into()))?;
    let load = start.elapsed();
    drop(bytes);
    let preprocess = &classifier.metadata().preprocess;
    let frame = camera_frame();
    let (pixels, frame_times) = timed(args.runs.min(50), || preprocess.pixels(&frame).map_err(Into::into)).map_err(failure)?;
    let infer = || match classifier.infer_pixels(preprocess, &pixels) {
        // What random weights say means nothing; the head may well overflow.
        Err(ModelError::NotFinite(_)) if args.dense => Ok(()),
        scores => Ok(scores.map(drop)?),
    };
    // The first inference allocates what the next ones use again.
    infer().map_err(failure)?;
    let (_, times) = timed(args.runs, infer).map_err(failure)?;
    let runtime = classifier.network().runtime();
    let line = Line {
        isa: runtime.map_or("floats (tract)", |r| r.kernels().isa().name()),
        threads: runtime.map_or(1, |r| r.threads()),
        runs: args.runs,
        min_ms: ms(times[0]),
        median_ms: ms(quantile(&times, 0.5)),
        p95_ms: ms(quantile(&times, 0.95)),
        frames_per_s: 1e3 / ms(quantile(&times, 0.5)),
        load_ms: ms(load),
        frame_ms: ms(quantile(&frame_times, 0.5)),
        peak_rss_mb: peak_rss_mb(),
        dense: args.dense,
    };
    Ok((line, classifier))
}

/// Runs `work` and returns its last result and the sorted times. One reading of the clock before and one after each run.
fn timed<T>(runs: u32, mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<(T, Vec<Duration>)> {
    let mut times = Vec::with_capacity(runs as usize);
    let mut last = None;
    for _ in 0..runs {
        let start = Instant::now();
        last = Some(work()?);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok((last.expect("at least one run"), times))
}

/// The smallest time that `share` of the sorted times do not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The first sample picture, repeated to a camera's size.
fn camera_frame() -> RgbImage {
    let picture = vision::decode(SAMPLES[0].jpeg).expect("the samples are whole pictures");
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(FRAME[0], FRAME[1], |x, y| *picture.get_pixel(x % width, y % height))
}

/// Peak resident memory of this process (Linux's VmHWM).
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 1024.0 * 10.0).round() / 10.0)
}

/// Replaces the weights of all convolutions by normally distributed ones, the largest of each channel at ±127, as quantised
/// weights without zeros to speak of are. Always the same ones.
fn fill_with_dense_weights(proto: &mut ModelProto) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    for tensor in proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if tensor.data_type != DataType::Int8 as i32 || tensor.dims.len() != 4 || tensor.raw_data.is_empty() {
            continue;
        }
        let channel = tensor.raw_data.len() / (tensor.dims[0].max(1) as usize);
        for weights in tensor.raw_data.chunks_mut(channel.max(1)) {
            let values: Vec<f32> = weights.iter().map(|_| normal(&mut uniform)).collect();
            let largest = values.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
            weights.iter_mut().zip(values).for_each(|(w, v)| *w = (v / largest * 127.0).round() as i8 as u8);
        }
    }
}

/// A normally distributed number from two uniform ones (Box and Muller 1958).
fn normal(mut uniform: impl FnMut() -> f32) -> f32 {
    let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
    radius * (std::f32::consts::TAU * uniform()).cos()
}

/// Median time of each operator over some runs.
fn profile(classifier: &Classifier, runs: u32) -> Result<Vec<NodeTime>, Failure> {
    let Some(input) = classifier.network().quantised_input() else { return Ok(vec![]) };
    let preprocess = &classifier.metadata().preprocess;
    let failure = |e: anyhow::Error| Failure { exit: Exit::Model, error: e };
    let pixels = preprocess.pixels(&camera_frame()).map_err(|e| failure(e.into()))?;
    let table = preprocess.table(|value| input.storage.byte(input.affine.quantise(value)));
    let profile = || classifier.network().profile(|target| table.fill(&pixels, target)).map_err(|e| failure(e.into()));
    let runs = (0..runs.clamp(1, 21)).map(|_| profile()).collect::<Result<Vec<_>, _>>()?;
    let mut operators = runs[0].clone();
    for (i, operator) in operators.iter_mut().enumerate() {
        let mut times: Vec<Duration> = runs.iter().map(|run| run[i].time).collect();
        times.sort_unstable();
        operator.time = quantile(&times, 0.5);
    }
    Ok(operators)
}

fn write_heading(out: &mut dyn Write, line: &Line, classifier: &Classifier) -> std::io::Result<()> {
    let available: Vec<&str> = crate::nn::kernels::Kernels::available().map(|k| k.isa().name()).collect();
    let labels = classifier.metadata().labels.len();
    writeln!(out, "model      {labels} breeds{}", if line.dense { ", dense random weights" } else { "" })?;
    writeln!(out, "kernels    {} (this CPU has: {})", line.isa, available.join(", "))?;
    writeln!(out, "loading    {:.0} ms", line.load_ms)?;
    if let Some(peak) = line.peak_rss_mb {
        writeln!(out, "memory     {peak:.0} MB at most")?;
    }
    let share = line.frame_ms / line.median_ms * 100.0;
    writeln!(out, "a frame    {:.2} ms from {}x{} to the network's input ({share:.1} %)", line.frame_ms, FRAME[0], FRAME[1])?;
    writeln!(out, "\nthreads   min ms  median ms  p95 ms  frames/s")
}

fn write_operators(out: &mut dyn Write, mut operators: Vec<NodeTime>, threads: usize, all: bool) -> std::io::Result<()> {
    if operators.is_empty() {
        return Ok(());
    }
    let total: f64 = operators.iter().map(|o| ms(o.time)).sum();
    let macs: u64 = operators.iter().map(|o| o.macs).sum();
    writeln!(out, "\noperator by operator, {threads} thread{}", if threads == 1 { "" } else { "s" })?;
    writeln!(out, "{:<40}  {:>7}  {:>7}  {:>7}  {:>6}  weights", "operator", "ms", "MMAC", "GMAC/s", "share")?;
    let mut row = |name: &str, time: f64, macs: u64, info: &str| {
        let (mega, rate) = (macs as f64 / 1e6, macs as f64 / (time * 1e6));
        writeln!(out, "{name:<40}  {time:>7.3}  {mega:>7.1}  {rate:>7.1}  {:>5.1}%  {info}", time / total * 100.0)
    };
    if !all {
        operators.sort_by_key(|o| std::cmp::Reverse(o.time));
    }
    let shown = if all { operators.len() } else { ROWS.min(operators.len()) };
    let (first, rest) = operators.split_at(shown);
    for o in first {
        row(&o.name, ms(o.time), o.macs, o.info.split(',').next().unwrap_or_default())?;
    }
    if !rest.is_empty() {
        let name = format!("{} others (--all lists them)", rest.len());
        row(&name, rest.iter().map(|o| ms(o.time)).sum(), rest.iter().map(|o| o.macs).sum(), "")?;
    }
    row("all", total, macs, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_measured_times() {
        let times: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(10));
        assert_eq!(quantile(&times, 0.95), Duration::from_millis(19));
        assert_eq!(quantile(&times[..1], 0.95), Duration::from_millis(1));
    }
}
