//! The kernels one by one, on layers of the network, for every instruction set that this CPU has.
//!
//! The names read `kernel/isa/layer`; `cargo bench --bench kernels -- conv/avx2` runs a part. Rates are multiplications with
//! weights a second, those with zero included, so forms of packing compare. One iteration computes all channels of a layer on
//! one thread, from an input that is staged already.
//!
//! Kernels take weights only as they pack them themselves, so no form can be forced: the name says whether the share of zeros
//! made the weights dense or a stream. [`pawgate::nn::kernels::conv::Packing::sparse_below`] moves that border; to measure the
//! other form, change it.
//!
//! Whole networks are in `network.rs`.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use pawgate::nn::kernels::conv::{self, Form, Packed, Shape};
use pawgate::nn::kernels::depthwise;
use pawgate::nn::kernels::pool;
use pawgate::nn::kernels::requant::{Range, Requant};
use pawgate::nn::kernels::stage::{Staging, Window};
use pawgate::nn::kernels::{Isa, Kernels, Pixel};

/// Bytes of input that the operator lets a run cover (`nn/ops/conv.rs`); repeated here, as kernels know nothing of it.
const RUN_BYTES: usize = 32 << 10;
/// Pixels in a cache line, with which the network's tensors begin.
const LINE: usize = 16;
/// Per cent of zero weights. Zeros lie anywhere, as in the shipped model, so of the blocks of four fewer are empty: 41 % at 80.
const ZEROS: [u32; 3] = [0, 50, 80];

/// A square convolution with stride 1 that keeps the size.
#[derive(Debug, Clone, Copy)]
struct Layer {
    kernel: usize,
    inputs: usize,
    outputs: usize,
    size: usize,
}

const LAYERS: [Layer; 4] = [
    Layer { kernel: 1, inputs: 256, outputs: 1024, size: 14 },
    Layer { kernel: 3, inputs: 256, outputs: 256, size: 14 },
    Layer { kernel: 3, inputs: 64, outputs: 64, size: 56 },
    Layer { kernel: 1, inputs: 512, outputs: 2048, size: 7 },
];
/// All that the specification gets: it is not meant to be fast.
const TINY: Layer = Layer { kernel: 3, inputs: 16, outputs: 16, size: 7 };
const DEPTHWISE: Layer = Layer { kernel: 3, inputs: 144, outputs: 144, size: 56 };

impl Layer {
    fn window(self) -> Window {
        Window { kernel: [self.kernel; 2], stride: [1; 2], pads: [self.kernel / 2; 4] }
    }

    fn name(self) -> String {
        let Self { kernel, inputs, outputs, size } = self;
        format!("{kernel}x{kernel}-{inputs}-{outputs}-at-{size}x{size}")
    }

    /// Multiplications of one output channel for each input channel.
    fn macs(self) -> usize {
        self.kernel * self.kernel * self.size * self.size
    }
}

/// The same numbers in every run: xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as u32
    }

    /// Weights with that many per cent of zeros. The others are bell-shaped, as trained ones are: how many blocks pass through
    /// 16 bits depends on their size.
    fn weights(&mut self, count: usize, zeros: u32) -> Vec<i8> {
        let mut weight = || {
            let bell = (0..4).map(|_| self.next() % 64).sum::<u32>() as i32 - 126;
            match self.next() % 100 < zeros {
                true => 0,
                // No zeros among these: the share would not be the one named.
                false if bell >= 0 => (bell + 1) as i8,
                false => bell as i8,
            }
        };
        (0..count).map(|_| weight()).collect()
    }
}

/// Pixels that begin with a cache line, as the network's do.
struct Pixels {
    memory: Vec<Pixel>,
    first: usize,
    length: usize,
}

impl Pixels {
    fn new(length: usize) -> Self {
        let memory = vec![[0; 4]; length + LINE];
        let first = memory.as_ptr().align_offset(LINE * size_of::<Pixel>());
        assert!(first < LINE, "vectors begin with a whole pixel");
        Self { memory, first, length }
    }

    fn random(length: usize, random: &mut Random) -> Self {
        let mut pixels = Self::new(length);
        pixels.as_mut().iter_mut().for_each(|p| *p = random.next().to_ne_bytes());
        pixels
    }

    fn as_ref(&self) -> &[Pixel] {
        &self.memory[self.first..][..self.length]
    }

    fn as_mut(&mut self) -> &mut [Pixel] {
        &mut self.memory[self.first..][..self.length]
    }
}

/// Sums of any size become values all over the range.
fn requant(kernels: &Kernels, groups: usize, products: usize) -> Requant {
    Requant {
        bias: vec![[1000; 4]; groups],
        multiplier: vec![[0.03 / (products as f32).sqrt(); 4]; groups],
        range: Range { min: -128.0, max: 127.0, zero_point: kernels.storage().of(128) },
        residual: None,
    }
}

fn convolution(group: &mut BenchmarkGroup<'_, WallTime>, kernels: &Kernels, layer: Layer, zeros: u32) {
    let staging = (layer.kernel > 1).then(|| Staging::new(layer.window(), [layer.size; 2]));
    let (planes, lanes, pixels) = (layer.inputs.div_ceil(4), kernels.lanes(), layer.size * layer.size);
    let (taps, plane) = staging.as_ref().map_or((&[0][..], kernels.plane(pixels)), |s| (s.taps(), s.stride()));
    let mut random = Random::new();
    let input = Pixels::random(staging.as_ref().map_or(planes * plane, |s| s.scratch(planes, lanes)), &mut random);
    let products = layer.inputs * layer.kernel * layer.kernel;
    let shape = Shape { outputs: layer.outputs, inputs: layer.inputs, taps, plane };
    let weights = Packed::new(&random.weights(layer.outputs * products, zeros), shape, *kernels.packing());
    let requant = requant(kernels, weights.groups(), products);
    let run = staging.as_ref().map_or(pixels, Staging::run);
    let tail = kernels.tail(&weights, run);
    let total = (run - tail).next_multiple_of(lanes);
    let fitting = (RUN_BYTES / (planes * 4)).max(64) / lanes * lanes;
    let block = if planes * plane * 4 <= RUN_BYTES { total } else { total.div_ceil(total.div_ceil(fitting)) };
    let block = block.next_multiple_of(lanes);
    let mut output = Pixels::new(total);
    let mut tails = [[[0; 4]; conv::TAIL_GROUPS]; conv::TAIL_PIXELS];

    let form = match weights.form() {
        Form::Dense { .. } => "dense",
        Form::Stream(_) => "stream",
    };
    group.throughput(Throughput::Elements((layer.macs() * layer.inputs * layer.outputs) as u64));
    group.bench_function(format!("{}/{}/zeros-{zeros}-{form}", kernels.isa(), layer.name()), |bencher| {
        bencher.iter(|| {
            for first in (0..total).step_by(block) {
                let output = &mut output.as_mut()[first..(first + block).min(total)];
                for group in 0..weights.groups() {
                    let input = black_box(input.as_ref());
                    let run = conv::Run { input, first, weights: &weights, group, requant: &requant, residual: None };
                    kernels.conv(&run, output);
                }
                black_box(output);
            }
            for group in (0..weights.groups()).step_by(conv::TAIL_GROUPS).filter(|_| tail > 0) {
                let input = black_box(input.as_ref());
                let call = conv::Tail { input, first: total, weights: &weights, group, requant: &requant, residual: None };
                kernels.conv_tail(&call, black_box(&mut tails[..tail]));
            }
        });
    });
}

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv");
    for kernels in Kernels::available() {
        if kernels.isa() == Isa::Scalar {
            convolution(&mut group, kernels, TINY, 0);
            continue;
        }
        for (layer, zeros) in LAYERS.into_iter().flat_map(|layer| ZEROS.map(|zeros| (layer, zeros))) {
            convolution(&mut group, kernels, layer, zeros);
        }
    }
    group.finish();
}

fn depthwise_convolution(group: &mut BenchmarkGroup<'_, WallTime>, kernels: &Kernels, layer: Layer) {
    let staging = Staging::new(layer.window(), [layer.size; 2]);
    let mut random = Random::new();
    let weights = random.weights(layer.outputs * layer.kernel * layer.kernel, 0);
    let weights = depthwise::Weights::new(&weights, layer.outputs, staging.taps());
    let requant = requant(kernels, weights.groups(), layer.kernel * layer.kernel);
    // One staged plane for all: the operator stages each just before, so it always lies in the cache.
    let input = Pixels::random(staging.scratch(1, LINE), &mut random);
    let mut output = Pixels::new(staging.run().next_multiple_of(kernels.lanes()));

    group.throughput(Throughput::Elements((layer.macs() * layer.outputs) as u64));
    group.bench_function(format!("{}/{}", kernels.isa(), layer.name()), |bencher| {
        bencher.iter(|| {
            for group in 0..weights.groups() {
                let input = black_box(input.as_ref());
                kernels.depthwise(&depthwise::Run { input, weights: &weights, group, requant: &requant }, output.as_mut());
                black_box(output.as_mut());
            }
        });
    });
}

fn depthwise_convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("depthwise");
    for kernels in Kernels::available() {
        let layer = if kernels.isa() == Isa::Scalar { Layer { size: 7, ..DEPTHWISE } } else { DEPTHWISE };
        depthwise_convolution(&mut group, kernels, layer);
    }
    group.finish();
}

/// The network's one maximum, 3×3 with stride 2 at 112×112, and what it and others need before; all planes are staged into the
/// same memory, as the operators do. The rate is bytes that are read.
fn pooling_and_staging(criterion: &mut Criterion) {
    let kernels = Kernels::detect();
    let mut random = Random::new();
    let mut group = criterion.benchmark_group("max-pool");
    let window = |stride: usize| Window { kernel: [3; 2], stride: [stride; 2], pads: [1; 4] };
    let staging = Staging::new(window(2), [112; 2]);
    let staged = Pixels::random(staging.scratch(1, LINE), &mut random);
    let mut output = Pixels::new(staging.run());
    group.throughput(Throughput::Bytes(16 * 112 * 112 * size_of::<Pixel>() as u64));
    group.bench_function("3x3-stride-2-64-at-112x112", |bencher| {
        bencher.iter(|| {
            for _ in 0..16 {
                pool::max(kernels.storage(), black_box(staged.as_ref()), staging.taps(), output.as_mut());
                black_box(output.as_mut());
            }
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("staging");
    for (stride, channels, size) in [(1, 64, 56), (1, 256, 14), (2, 64, 112), (2, 128, 56)] {
        let staging = Staging::new(window(stride), [size; 2]);
        let planes = channels / 4;
        let source = Pixels::random(planes * size * size, &mut random);
        let mut staged = Pixels::new(staging.stride());
        group.throughput(Throughput::Bytes((planes * size * size * size_of::<Pixel>()) as u64));
        group.bench_function(format!("3x3-stride-{stride}-{channels}-at-{size}x{size}"), |bencher| {
            bencher.iter(|| {
                for plane in black_box(source.as_ref()).chunks_exact(size * size) {
                    staging.fill(plane, [128; 4], staged.as_mut());
                    black_box(staged.as_mut());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, convolutions, depthwise_convolutions, pooling_and_staging);
criterion_main!(benches);
