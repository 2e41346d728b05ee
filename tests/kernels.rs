//! Every instruction set that this CPU has against the convolution's definition, bit for bit, on random layers.
//!
//! `PAWGATE_EXPECT_ISAS` (names, separated by commas) makes the test fail when the machine runs fewer: CI sets it, so that a
//! kernel cannot go untested unnoticed.
//!
//! A harness of its own (libtest-mimic, which runs on the main thread when told to use one): Rust's own starts a thread for every
//! test, and threads hang under some versions of qemu's user emulation.

use libtest_mimic::{Arguments, Trial};
use pawgate::nn::kernels::conv::{self, Form, Packed, Shape};
use pawgate::nn::kernels::depthwise;
use pawgate::nn::kernels::requant::{Range, Requant, Residual};
use pawgate::nn::kernels::stage::{Staging, Window};
use pawgate::nn::kernels::{Kernels, Pixel, Storage};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Scales over that of the sum, zero points of own, other and sum, limits of the sum, and the added tensor.
type Addition = ([f32; 2], [u8; 3], [u8; 2], Vec<u8>);

fn main() {
    let test = |name: &str, run: fn()| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    let tests = vec![
        test("all_instruction_sets_compute_the_definition", all_instruction_sets_compute_the_definition),
        test("shapes_of_the_network", shapes_of_the_network),
        test("runs_of_every_length", runs_of_every_length),
        test("extremes_do_not_saturate", extremes_do_not_saturate),
        test("additions_near_ties_are_fused", additions_near_ties_are_fused),
        test("distant_blocks_are_found", distant_blocks_are_found),
        test("the_expected_instruction_sets_ran", the_expected_instruction_sets_ran),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

/// A layer and its input, in the terms of the model file: u8, channels first.
#[derive(Debug, Clone)]
struct Case {
    size: [usize; 2],
    inputs: usize,
    outputs: usize,
    window: Window,
    depthwise: bool,
    zero_point: u8,
    input: Vec<u8>,
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    range: (f32, f32, u8),
    residual: Option<Addition>,
}

impl Case {
    fn output(&self) -> [usize; 2] {
        self.window.output(self.size).unwrap()
    }

    fn requant(&self, storage: Storage) -> Requant {
        let range = |(min, max, zero): (f32, f32, u8)| Range { min, max, zero_point: storage.of(zero) };
        let kernel = self.weights.len() / self.outputs;
        let share = |c: usize| {
            let sum: i32 = self.weights[c * kernel..][..kernel].iter().map(|&w| i32::from(w)).sum();
            storage.of(self.zero_point) * sum
        };
        let fours = |g: usize| std::array::from_fn::<usize, 4, _>(|c| g * 4 + c);
        let groups = self.outputs.div_ceil(4);
        let bias = |c: usize| if c < self.outputs { self.bias[c] - share(c) } else { 0 };
        Requant {
            bias: (0..groups).map(|g| fours(g).map(bias)).collect(),
            multiplier: (0..groups).map(|g| fours(g).map(|c| self.multiplier.get(c).copied().unwrap_or(0.0))).collect(),
            range: range(self.range),
            residual: self.residual.as_ref().map(|([own, other], zeros, limits, _)| {
                Residual::new((*own, zeros[0]), (*other, zeros[1]), zeros[2], *limits, storage)
            }),
        }
    }

    /// Straight from the definition of a convolution; no staging, no packing.
    fn expected(&self) -> Vec<u8> {
        let (requant, [oh, ow], [h, w]) = (self.requant(Storage::U8), self.output(), self.size);
        let [kh, kw] = self.window.kernel;
        let mut out = vec![];
        for (o, y, x) in (0..self.outputs).flat_map(|o| (0..oh).flat_map(move |y| (0..ow).map(move |x| (o, y, x)))) {
            let mut sum = self.bias[o];
            let channels = if self.depthwise { o..o + 1 } else { 0..self.inputs };
            for (k, c) in channels.enumerate() {
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let at = |i: usize, o: usize, k: usize| (o * self.window.stride[i] + k).checked_sub(self.window.pads[i]);
                    let value = match (at(0, y, ky), at(1, x, kx)) {
                        (Some(y), Some(x)) if y < h && x < w => self.input[(c * h + y) * w + x],
                        _ => self.zero_point,
                    };
                    let per_output = self.weights.len() / self.outputs;
                    let weight = self.weights[o * per_output + (k * kh + ky) * kw + kx];
                    sum += i32::from(weight) * (i32::from(value) - i32::from(self.zero_point));
                }
            }
            let other = self.residual.as_ref().map(|r| i32::from(r.3[(o * oh + y) * ow + x]));
            out.push(requant.finish(o / 4, o % 4, sum, other) as u8);
        }
        out
    }

    /// Through packing, staging and kernels.
    fn computed(&self, kernels: &Kernels) -> Vec<u8> {
        let storage = kernels.storage();
        let pixels = self.size[0] * self.size[1];
        let plane = kernels.plane(pixels);
        let input = planes(storage, &self.input, self.inputs, pixels, plane);
        let requant = self.requant(storage);
        let staging = Staging::new(self.window, self.size);
        let mut staged = vec![[77; 4]; staging.scratch(self.inputs.div_ceil(4), kernels.lanes())];
        for (source, target) in input.chunks_exact(plane).zip(staged.chunks_exact_mut(staging.stride())) {
            staging.fill(source, [storage.byte(self.zero_point); 4], target);
        }
        let [oh, ow] = self.output();
        let mut out = vec![[0; 4]; self.outputs.div_ceil(4) * oh * ow];
        if self.depthwise {
            let weights = depthwise::Weights::new(&self.weights, self.outputs, staging.taps());
            let mut run = vec![[0; 4]; staging.run().next_multiple_of(kernels.lanes())];
            for (group, out) in out.chunks_exact_mut(oh * ow).enumerate() {
                let input = &staged[group * staging.stride()..];
                kernels.depthwise(&depthwise::Run { input, weights: &weights, group, requant: &requant }, &mut run);
                staging.scatter(0, &run, out);
            }
        } else {
            // What needs no staging is read where it lies.
            let direct = self.window.is_pointwise();
            let (input, taps, plane) =
                if direct { (&input, &[0][..], plane) } else { (&staged, staging.taps(), staging.stride()) };
            let shape = Shape { outputs: self.outputs, inputs: self.inputs, taps, plane };
            let weights = Packed::new(&self.weights, shape, *kernels.packing());
            self.convolve(kernels, &staging, (&weights, &requant), input, &mut out);
        }
        let value = |i: usize| {
            let (c, at) = (i / (oh * ow), i % (oh * ow));
            (storage.number(out[c / 4 * oh * ow + at][c % 4]) - storage.of(0)) as u8
        };
        (0..self.outputs * oh * ow).map(value).collect()
    }

    /// Vectors in two pieces where that is possible (a run may begin anywhere), then the tail where the kernels want one.
    fn convolve(
        &self,
        kernels: &Kernels,
        staging: &Staging,
        (weights, requant): (&Packed, &Requant),
        input: &[Pixel],
        out: &mut [Pixel],
    ) {
        let pixels = self.output()[0] * self.output()[1];
        let other = self.residual.as_ref().map(|r| planes(kernels.storage(), &r.3, self.outputs, pixels, pixels));
        let gathered = |first: usize, length: usize, group: usize| {
            let mut residual = vec![[5; 4]; length];
            let plane = other.as_ref()?.chunks_exact(pixels).nth(group);
            plane.into_iter().for_each(|plane| staging.gather(first, plane, &mut residual));
            Some(residual)
        };
        let tail = kernels.tail(weights, staging.run());
        let whole = (staging.run() - tail).next_multiple_of(kernels.lanes());
        let half = whole / kernels.lanes() / 2 * kernels.lanes();
        for (group, out) in out.chunks_exact_mut(pixels).enumerate() {
            for (first, length) in [(0, half), (half, whole - half)].into_iter().filter(|piece| piece.1 > 0) {
                let mut run = vec![[0; 4]; length];
                let residual = gathered(first, length, group);
                let residual = residual.as_deref();
                kernels.conv(&conv::Run { input, first, weights, group, requant, residual }, &mut run);
                staging.scatter(first, &run, out);
            }
        }
        if tail == 0 {
            return;
        }
        for (i, out) in out.chunks_mut(conv::TAIL_GROUPS * pixels).enumerate() {
            let group = i * conv::TAIL_GROUPS;
            let others: Option<Vec<_>> = (0..conv::TAIL_GROUPS).map(|g| gathered(whole, tail, group + g)).collect();
            let residual: Option<Vec<_>> =
                others.map(|others| (0..tail).map(|p| std::array::from_fn(|g| others[g][p])).collect());
            let mut outputs = vec![[[0; 4]; conv::TAIL_GROUPS]; tail];
            let residual = residual.as_deref();
            kernels.conv_tail(&conv::Tail { input, first: whole, weights, group, requant, residual }, &mut outputs);
            for (g, out) in out.chunks_exact_mut(pixels).enumerate() {
                let run: Vec<Pixel> = outputs.iter().map(|output| output[g]).collect();
                staging.scatter(whole, &run, out);
            }
        }
    }

    fn check(&self) {
        let expected = self.expected();
        for kernels in Kernels::available().chain([Kernels::specification(Storage::I8)]) {
            let found = self.computed(kernels);
            if let Some(i) = (0..expected.len()).find(|&i| found[i] != expected[i]) {
                panic!("{}: value {i} of {} is {} instead of {}", kernels.isa(), expected.len(), found[i], expected[i]);
            }
        }
    }
}

/// u8, channels first → planes of `plane` pixels.
fn planes(storage: Storage, values: &[u8], channels: usize, pixels: usize, plane: usize) -> Vec<Pixel> {
    let mut planes = vec![[9; 4]; channels.div_ceil(4) * plane];
    for (c, values) in values.chunks_exact(pixels).enumerate().take(channels) {
        values.iter().enumerate().for_each(|(i, &v)| planes[c / 4 * plane + i][c % 4] = storage.byte(v));
    }
    planes
}

/// Ranges of what a quantised tensor can hold: after Relu, after Relu6, or neither.
fn range() -> impl Strategy<Value = (f32, f32, u8)> {
    prop_oneof![
        Just((0.0, 255.0, 0)),
        (1..255u8).prop_map(|max| (0.0, f32::from(max), 0)),
        any::<u8>().prop_map(|zero| (-f32::from(zero), 255.0 - f32::from(zero), zero)),
    ]
}

/// Weights of a layer: the share of zeros and the spread vary, so that every form of packing comes up.
fn weights(count: usize) -> impl Strategy<Value = Vec<i8>> {
    let one = (0.0..1.0f32, 1..=127i8).prop_flat_map(move |(zeros, most)| {
        let weight = (0.0..1.0f32, -most..=most).prop_map(move |(p, w)| if p < zeros { 0 } else { w });
        proptest::collection::vec(weight, count)
    });
    prop_oneof![4 => one, 1 => Just(vec![127; count]), 1 => Just(vec![-127; count])]
}

/// Multipliers: ordinary ones, powers of two (whose products end on ties), and extremes.
fn multiplier() -> impl Strategy<Value = f32> {
    prop_oneof![4 => 1e-5..0.05f32, 2 => (1..16i32).prop_map(|e| 0.5f32.powi(e)), 1 => Just(1e-30f32), 1 => Just(3e4f32)]
}

fn window() -> impl Strategy<Value = Window> {
    let free = (1..=4usize, 1..=4usize, 1..=3usize, 1..=3usize, any::<[u8; 4]>()).prop_map(|(kh, kw, sh, sw, pads)| Window {
        kernel: [kh, kw],
        stride: [sh, sw],
        pads: std::array::from_fn(|i| usize::from(pads[i]) % [kh, kw][i % 2]),
    });
    let usual =
        |kernel: usize, stride: usize, pad: usize| Just(Window { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4] });
    prop_oneof![4 => usual(1, 1, 0), 2 => usual(3, 1, 1), 1 => usual(3, 2, 1), 1 => usual(7, 2, 3), 1 => usual(1, 2, 0), 3 => free]
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (window(), 1..=40usize, 1..=11usize, [1..=19usize, 1..=19usize], any::<bool>());
    let shape = shape.prop_filter("the window fits", |(window, _, _, size, _)| window.output(*size).is_some());
    shape.prop_flat_map(|(window, inputs, outputs, size, depthwise)| {
        let outputs = if depthwise { inputs } else { outputs };
        let kernel = window.kernel[0] * window.kernel[1] * if depthwise { 1 } else { inputs };
        let [oh, ow] = window.output(size).unwrap();
        let limits = any::<[u8; 2]>().prop_map(|[a, b]| [a.min(b), a.max(b)]);
        let other = proptest::collection::vec(any::<u8>(), outputs * oh * ow);
        let residual = ([1e-3..4.0f32, 1e-3..4.0f32], any::<[u8; 3]>(), limits, other);
        (
            proptest::collection::vec(any::<u8>(), inputs * size[0] * size[1]),
            weights(outputs * kernel),
            proptest::collection::vec(-50_000..50_000i32, outputs),
            proptest::collection::vec(multiplier(), outputs),
            (any::<u8>(), range()),
            proptest::option::of(residual),
            any::<bool>(),
        )
            .prop_map(move |(input, weights, bias, multiplier, (zero_point, range), residual, exact)| {
                // Sums of outputs that are not rounded before: counted in 256ths, without limits that matter.
                let exact = exact && residual.is_some() && !depthwise;
                let limit = (1 << 22) as f32;
                let range = if exact { (-limit, limit, 0) } else { range };
                let residual = residual.map(|(scales, zeros, limits, other)| {
                    if exact {
                        ([1.0 / 256.0, scales[1]], [0, zeros[1], zeros[2]], limits, other)
                    } else {
                        (scales, zeros, limits, other)
                    }
                });
                let multiplier = multiplier.into_iter().map(|m| if exact { m * 256.0 } else { m }).collect();
                (input, weights, bias, multiplier, (zero_point, range), residual)
            })
            .prop_map(move |(input, weights, bias, multiplier, (zero_point, range), residual)| Case {
                size,
                inputs,
                outputs,
                window,
                depthwise,
                zero_point,
                input,
                weights,
                bias,
                multiplier,
                range,
                residual: residual.filter(|_| !depthwise),
            })
    })
}

fn all_instruction_sets_compute_the_definition() {
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let checked = runner.run(&case(), |case| {
        case.check();
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs that end anywhere in a vector, from planes that do not come in fours to groups that do not, with dense weights.
fn runs_of_every_length() {
    let mut state = 7u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let windows = [([1, 1], 0), ([3, 3], 1), ([1, 2], 0)];
    let channels = [(4, 1), (13, 6), (16, 16), (22, 17), (42, 33)];
    for (width, (kernel, pad)) in (2..36).flat_map(|width| windows.map(|window| (width, window))) {
        let (inputs, outputs) = channels[width % channels.len()];
        let window = Window { kernel, stride: [1; 2], pads: [pad; 4] };
        let size = [1 + width % 2, width];
        let [oh, ow] = window.output(size).unwrap();
        let mut bytes = |count: usize| (0..count).map(|_| next() as u8).collect::<Vec<u8>>();
        let others = bytes(outputs * oh * ow);
        let case = Case {
            size,
            inputs,
            outputs,
            window,
            depthwise: false,
            zero_point: width as u8,
            input: bytes(inputs * size[0] * size[1]),
            weights: bytes(outputs * inputs * kernel[0] * kernel[1]).iter().map(|&b| (b as i8).max(-127)).collect(),
            bias: (0..outputs as i32).map(|c| c * 100 - 50).collect(),
            multiplier: (0..outputs).map(|c| 0.0005 + c as f32 * 1e-5).collect(),
            range: (-128.0, 127.0, 128),
            residual: None,
        };
        case.check();
        Case { residual: Some(([0.7, 1.3], [128, 9, 3], [3, 250], others)), ..case }.check();
    }
}

/// Shapes of the network itself, with more channels and pixels than the random ones.
fn shapes_of_the_network() {
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let layers = [
        (256, 8, 14, 1, 1, 0),
        (64, 8, 28, 3, 1, 1),
        (512, 4, 7, 3, 1, 1),
        (320, 4, 7, 1, 1, 0),
        (3, 8, 40, 7, 2, 3),
        (24, 24, 15, 3, 2, 1),
    ];
    for (inputs, outputs, size, kernel, stride, pad) in layers {
        for zeros in [0, 40, 81] {
            let depthwise = inputs == outputs;
            let window = Window { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4] };
            let per_output = kernel * kernel * if depthwise { 1 } else { inputs };
            let mut weight = || if next() % 100 < zeros { 0 } else { (next() % 255) as i8 as i32 % 128 };
            let weights = (0..outputs * per_output).map(|_| weight().clamp(-127, 127) as i8).collect();
            Case {
                size: [size; 2],
                inputs,
                outputs,
                window,
                depthwise,
                zero_point: 0,
                input: (0..inputs * size * size).map(|_| next() as u8).collect(),
                weights,
                bias: vec![1000; outputs],
                multiplier: vec![0.0009; outputs],
                range: (-128.0, 127.0, 128),
                residual: None,
            }
            .check();
        }
    }
}

/// All inputs and weights at their ends: no sum in between may saturate.
fn extremes_do_not_saturate() {
    for (value, weight) in [(255, 127), (255, -127), (0, 127), (0, -127)] {
        for (kernel, zero_point) in [(1, 0), (3, 0), (3, 255), (1, 128)] {
            let window = Window { kernel: [kernel; 2], stride: [1; 2], pads: [kernel / 2; 4] };
            for depthwise in [false, true] {
                let outputs = if depthwise { 72 } else { 4 };
                Case {
                    size: [5, 9],
                    inputs: 72,
                    outputs,
                    window,
                    depthwise,
                    zero_point,
                    input: vec![value; 72 * 45],
                    weights: vec![weight; outputs * kernel * kernel * if depthwise { 1 } else { 72 }],
                    bias: vec![0; outputs],
                    multiplier: vec![1.0 / 163_840.0; outputs],
                    range: (-100.0, 155.0, 100),
                    residual: None,
                }
                .check();
            }
        }
    }
}

/// Scales in tenths make every fifth sum a tie but for the rounding of floats: whoever rounds between product and sum is found out.
fn additions_near_ties_are_fused() {
    let bytes = |factor: usize| (0..4 * 900).map(|i| (i * factor % 256) as u8).collect::<Vec<u8>>();
    for (own, other, zeros) in [(0.1, 0.4, [0, 0, 0]), (0.3, 0.7, [100, 30, 7]), (1.1, 0.2, [128, 128, 128])] {
        let mut weights = vec![0; 16];
        (0..4).for_each(|c| weights[c * 4 + c] = 1);
        Case {
            size: [30; 2],
            inputs: 4,
            outputs: 4,
            window: Window { kernel: [1; 2], stride: [1; 2], pads: [0; 4] },
            depthwise: false,
            zero_point: 0,
            input: bytes(7),
            weights,
            bias: vec![0; 4],
            multiplier: vec![1.0; 4],
            range: (-f32::from(zeros[0]), 255.0 - f32::from(zeros[0]), zeros[0]),
            residual: Some(([own, other], zeros, [0, 255], bytes(11))),
        }
        .check();
    }
}

/// Streams bridge distances of more than 16 bits.
fn distant_blocks_are_found() {
    for kernels in Kernels::available() {
        let plane = kernels.plane(30_000);
        let shape = Shape { outputs: 1, inputs: 40, taps: &[0], plane };
        let mut weights = vec![0; 40];
        (weights[0], weights[39]) = (1, 2);
        let packed = Packed::new(&weights, shape, *kernels.packing());
        let zero = kernels.storage().of(0);
        let mut input = vec![[kernels.storage().byte(0); 4]; plane * 10];
        (input[0][0], input[9 * plane][3]) = (kernels.storage().byte(20), kernels.storage().byte(30));
        let requant = Requant {
            bias: vec![[-zero * 3, 0, 0, 0]],
            multiplier: vec![[1.0; 4]],
            range: Range { min: 0.0, max: 255.0, zero_point: zero },
            residual: None,
        };
        let mut out = vec![[0; 4]; kernels.lanes()];
        let run = conv::Run { input: &input, first: 0, weights: &packed, group: 0, requant: &requant, residual: None };
        kernels.conv(&run, &mut out);
        assert_eq!(kernels.storage().number(out[0][0]) - zero, 80, "{}", kernels.isa());
        if let Form::Stream(stream) = packed.form() {
            assert!(stream.lists(0).concat().len() > 1, "the distance needs more than two blocks");
        }
    }
}

fn the_expected_instruction_sets_ran() {
    let ran: Vec<&str> = Kernels::available().map(|k| k.isa().name()).collect();
    for name in std::env::var("PAWGATE_EXPECT_ISAS").unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        assert!(ran.contains(&name), "{name} did not run here; only {ran:?} did");
    }
}
