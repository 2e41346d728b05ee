//! The integer operators in a tract graph, against tract's own operators on the same integers as floats (where every sum below
//! 2^24 is exact), on every instruction set that this CPU has and for several numbers of threads.

mod common;

use std::sync::Arc;

use common::{Graph, Noise};
use pawgate::nn::kernels::requant::{Range, Requant, Residual};
use pawgate::nn::kernels::stage::Window;
use pawgate::nn::kernels::{Kernels, Storage};
use pawgate::nn::ops::Picture;
use pawgate::nn::ops::add::Add;
use pawgate::nn::ops::average_pool::GlobalAveragePool;
use pawgate::nn::ops::concat::{Axis, Concat};
use pawgate::nn::ops::conv::Conv;
use pawgate::nn::ops::depthwise::Depthwise;
use pawgate::nn::ops::max_pool::MaxPool;
use pawgate::nn::runtime::Runtime;
use pawgate::nn::{Network, Options};
use tract_core::internal::*;

/// Runs `check` on everything this machine offers.
fn everywhere(check: impl Fn(&Arc<Runtime>)) {
    for kernels in Kernels::available() {
        for threads in [1, 3] {
            check(&Runtime::new(Options { isa: Some(kernels.isa()), threads: Some(threads), ..Options::default() }).unwrap());
        }
    }
}

/// u8 channels first → the operators' layout.
fn planes(runtime: &Runtime, picture: Picture, values: &[u8]) -> Tensor {
    let (kernels, pixels) = (runtime.kernels(), picture.pixels());
    let plane = kernels.plane(pixels);
    let storage = kernels.storage();
    let datum_type = if storage == Storage::U8 { DatumType::U8 } else { DatumType::I8 };
    let mut tensor = Tensor::zero_dt(datum_type, &[picture.planes(), plane, 4]).unwrap();
    let bytes = tensor.as_bytes_mut();
    for (i, &value) in values.iter().enumerate() {
        let (c, at) = (i / pixels, i % pixels);
        bytes[(c / 4 * plane + at) * 4 + c % 4] = storage.byte(value);
    }
    tensor
}

/// The reverse.
fn channels_first(runtime: &Runtime, picture: Picture, tensor: &Tensor) -> Vec<u8> {
    let (kernels, pixels) = (runtime.kernels(), picture.pixels());
    let plane = kernels.plane(pixels);
    assert_eq!(tensor.shape(), [picture.planes(), plane, 4]);
    let value = |i: usize| {
        let byte = tensor.as_bytes()[(i / pixels / 4 * plane + i % pixels) * 4 + i / pixels % 4];
        (kernels.storage().number(byte) - kernels.storage().of(0)) as u8
    };
    (0..picture.channels * pixels).map(value).collect()
}

/// A graph of one operator on `inputs`, through tract's optimiser and plan.
fn run(op: impl Into<Box<dyn TypedOp>>, inputs: Vec<Tensor>) -> Tensor {
    let mut model = TypedModel::default();
    let sources: Vec<OutletId> = inputs
        .iter()
        .enumerate()
        .map(|(i, t)| model.add_source(format!("in{i}"), t.datum_type().fact(t.shape())).unwrap())
        .collect();
    let outputs = model.wire_node("op", op, &sources).unwrap();
    model.select_output_outlets(&outputs).unwrap();
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    let inputs: TVec<TValue> = inputs.into_iter().map(|t| t.into_tvalue()).collect();
    // Twice: memory is used again, and must not show.
    plan.run(inputs.clone()).unwrap();
    plan.run(inputs).unwrap().remove(0).into_tensor()
}

/// What tract's own float operator makes of the integers in `input`.
fn tract(
    op: &str,
    input: &[f32],
    shape: &[usize],
    constants: &[(&str, &[usize], Vec<f32>)],
    attributes: &[(&str, &[i64])],
) -> Vec<f32> {
    let mut graph = Graph::default();
    let mut names = vec![graph.input("x", shape)];
    names.extend(constants.iter().map(|(name, dims, values)| graph.floats(name, dims, values)));
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    graph.node(op, "y", &inputs, attributes);
    graph.output("y", &[]);
    graph.0.output[0].r#type = None;
    Network::load(graph.model(), Options::default()).unwrap().run(input).unwrap().remove(0)
}

fn as_floats(values: &[u8]) -> Vec<f32> {
    values.iter().map(|&v| f32::from(v)).collect()
}

const U8: Range = Range { min: 0.0, max: 255.0, zero_point: 0 };

fn range(storage: Storage) -> Range {
    Range { zero_point: storage.of(0), ..U8 }
}

/// Requantisation without bias; inputs have the zero point 0.
fn requant(storage: Storage, channels: usize, weights: &[i8], multiplier: f32) -> Requant {
    let kernel = weights.len() / channels;
    let sum = |c: usize| weights.iter().skip(c * kernel).take(kernel).map(|&w| i32::from(w)).sum::<i32>();
    let groups = channels.div_ceil(4);
    Requant {
        bias: (0..groups).map(|g| std::array::from_fn(|c| -storage.of(0) * sum(g * 4 + c))).collect(),
        multiplier: vec![[multiplier; 4]; groups],
        range: range(storage),
        residual: None,
    }
}

#[test]
fn convolution_is_tracts_requantised() {
    let mut noise = Noise::new(3);
    for (kernel, stride, pads, inputs, outputs, size) in [
        (1, 1, [0; 4], 20, 9, [13, 11]),
        (3, 1, [1; 4], 12, 8, [15, 14]),
        (3, 2, [0, 0, 1, 1], 5, 6, [17, 12]),
        (7, 2, [3; 4], 3, 8, [30, 31]),
        // Runs whose last pixels fill a small part of a vector, of more groups than a tail has; a run that is nothing else.
        (1, 1, [0; 4], 20, 21, [7, 7]),
        (3, 1, [1; 4], 12, 40, [7, 7]),
        (1, 1, [0; 4], 64, 20, [14, 14]),
        (1, 1, [0; 4], 8, 9, [2, 3]),
    ] {
        let input = Picture { channels: inputs, size };
        let (values, weights) = (noise.bytes(inputs * input.pixels()), noise.weights(outputs * inputs * kernel * kernel));
        let floats = weights.iter().map(|&w| f32::from(w)).collect();
        let dims = [outputs, inputs, kernel, kernel];
        let attributes: [(&str, &[i64]); 2] = [("strides", &[stride as i64; 2]), ("pads", &pads.map(|p| p as i64))];
        let sums = tract("Conv", &as_floats(&values), &[1, inputs, size[0], size[1]], &[("w", &dims, floats)], &attributes);
        let expected: Vec<u8> = sums.iter().map(|sum| U8.store(sum * 0.003) as u8).collect();
        everywhere(|runtime| {
            let storage = runtime.kernels().storage();
            let window = Window { kernel: [kernel; 2], stride: [stride; 2], pads };
            let requant = requant(storage, outputs, &weights, 0.003);
            let op = Conv::new(runtime, input, outputs, window, storage.of(0), &weights, requant).unwrap();
            let output = op.output();
            assert_eq!(op.macs() as usize, outputs * inputs * kernel * kernel * output.pixels());
            let found = run(op, vec![planes(runtime, input, &values)]);
            assert_eq!(channels_first(runtime, output, &found), expected, "{kernel}x{kernel} on {}", runtime.kernels().isa());
        });
    }
}

#[test]
fn convolution_with_an_addition_rounds_twice() {
    let mut noise = Noise::new(4);
    for (kernel, size) in [(1, [9, 10]), (3, [9, 10]), (1, [10, 10])] {
        let input = Picture { channels: 16, size };
        let output = Picture { channels: 7, ..input };
        let (values, other) = (noise.bytes(16 * input.pixels()), noise.bytes(7 * input.pixels()));
        let weights = noise.weights(7 * 16 * kernel * kernel);
        let floats = weights.iter().map(|&w| f32::from(w)).collect();
        let pads = [kernel / 2; 4];
        let attributes: [(&str, &[i64]); 1] = [("pads", &pads.map(|p| p as i64))];
        let sums = tract(
            "Conv",
            &as_floats(&values),
            &[1, 16, size[0], size[1]],
            &[("w", &[7, 16, kernel, kernel], floats)],
            &attributes,
        );
        let expected: Vec<u8> =
            sums.iter().zip(&other).map(|(s, &o)| U8.store(U8.steps(s * 0.005) * 0.75 + f32::from(o) * 0.5) as u8).collect();
        everywhere(|runtime| {
            let storage = runtime.kernels().storage();
            let residual = Residual::new((0.75, 0), (0.5, 0), 0, [0, 255], storage);
            let requant = Requant { residual: Some(residual), ..requant(storage, 7, &weights, 0.005) };
            let window = Window { kernel: [kernel; 2], stride: [1; 2], pads };
            let op = Conv::new(runtime, input, 7, window, storage.of(0), &weights, requant).unwrap();
            let found = run(op, vec![planes(runtime, input, &values), planes(runtime, output, &other)]);
            assert_eq!(channels_first(runtime, output, &found), expected, "{kernel}x{kernel} on {}", runtime.kernels().isa());
        });
    }
}

#[test]
fn depthwise_convolution_is_tracts_requantised() {
    let mut noise = Noise::new(5);
    for (stride, pads, size) in [(1, [1; 4], [14, 13]), (2, [0, 0, 1, 1], [16, 20]), (2, [1; 4], [9, 9])] {
        let input = Picture { channels: 10, size };
        let (values, weights) = (noise.bytes(10 * input.pixels()), noise.weights(90));
        let floats = weights.iter().map(|&w| f32::from(w)).collect();
        let attributes: [(&str, &[i64]); 3] =
            [("strides", &[stride as i64; 2]), ("pads", &pads.map(|p: usize| p as i64)), ("group", &[10])];
        let sums =
            tract("Conv", &as_floats(&values), &[1, 10, size[0], size[1]], &[("w", &[10, 1, 3, 3], floats)], &attributes);
        let expected: Vec<u8> = sums.iter().map(|sum| U8.store(sum * 0.01) as u8).collect();
        everywhere(|runtime| {
            let storage = runtime.kernels().storage();
            let window = Window { kernel: [3; 2], stride: [stride; 2], pads };
            let op =
                Depthwise::new(runtime, input, window, storage.of(0), &weights, requant(storage, 10, &weights, 0.01)).unwrap();
            let output = op.output();
            let found = run(op, vec![planes(runtime, input, &values)]);
            assert_eq!(channels_first(runtime, output, &found), expected, "stride {stride} on {}", runtime.kernels().isa());
        });
    }
}

#[test]
fn pools_are_tracts() {
    let mut noise = Noise::new(6);
    let input = Picture { channels: 9, size: [12, 15] };
    let values = noise.bytes(9 * 180);
    let attributes: [(&str, &[i64]); 3] = [("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("pads", &[0, 0, 1, 1])];
    let greatest = tract("MaxPool", &as_floats(&values), &[1, 9, 12, 15], &[], &attributes);
    let means = tract("GlobalAveragePool", &as_floats(&values), &[1, 9, 12, 15], &[], &[]);
    everywhere(|runtime| {
        let storage = runtime.kernels().storage();
        let op = MaxPool::new(runtime, input, Window { kernel: [3; 2], stride: [2; 2], pads: [0, 0, 1, 1] }).unwrap();
        let output = op.output();
        let found = run(op, vec![planes(runtime, input, &values)]);
        assert_eq!(as_floats(&channels_first(runtime, output, &found)), greatest);

        let op = GlobalAveragePool::new(runtime, input, storage.of(7), 2.0);
        let found = run(op, vec![planes(runtime, input, &values)]);
        assert_eq!((found.datum_type(), found.shape()), (DatumType::F32, &[1, 9, 1, 1][..]));
        for (found, mean) in found.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().iter().zip(&means) {
            let exact = 2.0 * (mean - 7.0);
            assert!((found - exact).abs() <= 1e-5 * exact.abs(), "{found} instead of {exact}");
        }
    });
}

#[test]
fn sums_and_joined_tensors() {
    let mut noise = Noise::new(7);
    let picture = Picture { channels: 6, size: [5, 7] };
    let (a, b) = (noise.bytes(6 * 35), noise.bytes(6 * 35));
    let sums: Vec<u8> =
        a.iter().zip(&b).map(|(&a, &b)| U8.store((f32::from(a) - 3.0) * 0.25 + (f32::from(b) - 5.0) * 0.5) as u8).collect();
    everywhere(|runtime| {
        let storage = runtime.kernels().storage();
        let inputs = || vec![planes(runtime, picture, &a), planes(runtime, picture, &b)];
        let sum = Residual::new((0.25, 3), (0.5, 5), 0, [0, 255], storage);
        let found = run(Add::new(runtime, picture, storage.of(3), sum), inputs());
        assert_eq!(channels_first(runtime, picture, &found), sums);

        let wide = Concat::new(runtime, vec![picture; 2], Axis::Width).unwrap();
        let output = wide.output();
        let found = channels_first(runtime, output, &run(wide, inputs()));
        let rows = a.chunks(7).zip(b.chunks(7)).flat_map(|(a, b)| [a, b].concat());
        assert_eq!(found, rows.collect::<Vec<u8>>());

        let high = Concat::new(runtime, vec![picture; 2], Axis::Height).unwrap();
        let output = high.output();
        let found = channels_first(runtime, output, &run(high, inputs()));
        assert_eq!(found, a.chunks(35).zip(b.chunks(35)).flat_map(|(a, b)| [a, b].concat()).collect::<Vec<u8>>());

        assert!(Concat::new(runtime, vec![picture; 2], Axis::Channels).is_err(), "six channels do not fill planes of four");
        let fours = Picture { channels: 4, ..picture };
        let deep = Concat::new(runtime, vec![fours, picture], Axis::Channels).unwrap();
        let output = deep.output();
        let found = run(deep, vec![planes(runtime, fours, &a[..4 * 35]), planes(runtime, picture, &b)]);
        assert_eq!(channels_first(runtime, output, &found), [&a[..4 * 35], &b].concat());
    });
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let runtime = Runtime::new(Options::SINGLE_THREADED).unwrap();
    let picture = Picture { channels: 8, size: [4, 4] };
    let weights = vec![1; 64];
    let storage = runtime.kernels().storage();
    let window = Window { kernel: [1; 2], stride: [1; 2], pads: [0; 4] };
    let op = Conv::new(&runtime, picture, 8, window, storage.of(0), &weights, requant(storage, 8, &weights, 1.0)).unwrap();
    let mut model = TypedModel::default();
    let source = model.add_source("x", u8::datum_type().fact([2, 17, 4])).unwrap();
    assert!(format!("{:#}", model.wire_node("op", op.clone(), &[source]).unwrap_err()).contains("the input is"));
    let wrong = Tensor::zero::<u8>(&[2, 3, 4]).unwrap();
    assert!(op.eval_out_of_plan(tvec![wrong.into_tvalue()]).is_err());
}
