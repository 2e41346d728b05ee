//! The shipped model as a whole: loading it, one inference, and the way from a camera's frame to its input.
//!
//! `pawgate bench` measures the same without a toolchain, and operator by operator; single kernels are in `kernels.rs`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use image::RgbImage;
use pawgate::model::{Classifier, EMBEDDED};
use pawgate::nn::Options;
use pawgate::nn::kernels::{Isa, Kernels};
use pawgate::samples::{SAMPLES, Sample};
use pawgate::vision;

/// A camera's frame.
const FRAME: [u32; 2] = [1280, 720];

fn cat() -> RgbImage {
    let is_cat = |sample: &&Sample| sample.name == "cat.jpg";
    vision::decode(SAMPLES.iter().find(is_cat).expect("a sample shows a cat").jpeg).expect("the samples are whole pictures")
}

fn load(options: Options) -> Classifier {
    Classifier::from_bytes(EMBEDDED, options).expect("the shipped model loads")
}

fn loading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    // A tenth of a second each.
    group.sample_size(10);
    group.bench_function("embedded", |bencher| {
        // Giving the memory back is not part of loading.
        bencher.iter_batched(|| (), |()| load(Options::SINGLE_THREADED), BatchSize::PerIteration);
    });
    group.finish();
}

fn inference(criterion: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = if cores == 1 { vec![1] } else { vec![1, cores] };
    let picture = cat();
    let mut group = criterion.benchmark_group("infer");
    // Milliseconds each on a desktop, a second on a small board: the usual hundred would take minutes there.
    group.sample_size(20);
    for isa in Kernels::available().map(Kernels::isa).filter(|&isa| isa != Isa::Scalar) {
        for &threads in &counts {
            let classifier = load(Options { isa: Some(isa), threads: Some(threads), ..Options::default() });
            let preprocess = &classifier.metadata().preprocess;
            let pixels = preprocess.pixels(&picture).expect("the sample can be scaled");
            group.bench_function(format!("{isa}/threads-{threads}"), |bencher| {
                bencher.iter(|| classifier.infer_pixels(preprocess, black_box(&pixels)).expect("the network runs"));
            });
        }
    }
    group.finish();
}

fn preprocessing(criterion: &mut Criterion) {
    let classifier = load(Options::SINGLE_THREADED);
    let preprocess = &classifier.metadata().preprocess;
    let picture = cat();
    let (width, height) = picture.dimensions();
    let frame = RgbImage::from_fn(FRAME[0], FRAME[1], |x, y| *picture.get_pixel(x % width, y % height));
    let name = format!("{}x{}", FRAME[0], FRAME[1]);
    let mut group = criterion.benchmark_group("preprocess");
    group.bench_function(name, |bencher| {
        bencher.iter(|| preprocess.pixels(black_box(&frame)).expect("every frame can be scaled"));
    });
    group.finish();
}

criterion_group!(benches, loading, inference, preprocessing);
criterion_main!(benches);
