//! The trained head on top of the fused features, in floats: outputs `breed` and `pet` beside `embedding`.

use tract_onnx::pb::tensor_proto::DataType;

use super::{Attr, GraphBuilder, Name};
use crate::graph::fused::{FEATURES, RESNET_FEATURES};
use crate::train::best::BestHead;
use crate::train::file::KNOWLEDGE;
use crate::train::knowledge::{PARTS, pet_count};
use crate::train::linear::Layer;
use crate::train::{Layers, TrainedHead, discriminant};
use crate::weights::{Linear, Tensor};

/// Adds the head over the tensor `embedding`; the temperatures are folded into weights and biases.
pub fn add(graph: &mut GraphBuilder, head: &TrainedHead) {
    let [breed_temperature, pet_temperature] = [head.record.breed_temperature, head.record.pet_temperature];
    match &head.layers {
        Layers::Linear { breed, pet } => {
            linear(graph, "breed", "embedding", &scaled(breed, breed_temperature));
            linear(graph, "pet", "embedding", &scaled(pet, pet_temperature));
        }
        Layers::Best(best) => add_best(graph, best, breed_temperature, pet_temperature),
    }
    graph.output("breed", &[1, head.record.labels.len()]);
    graph.output("pet", &[1, 1]);
    // After the logits, so that the outputs stand in the documented order.
    graph.output("embedding", &[1, FEATURES]);
}

/// [`crate::train::best`] as operators. Scales of the roots are folded into the breed layer.
fn add_best(graph: &mut GraphBuilder, best: &BestHead, breed_temperature: f32, pet_temperature: f32) {
    let pets = pet_count();
    let (mut seen, mut odds) = (vec!["embedding".to_owned()], vec![]);
    for ((rows, name), range) in best.knowledge.rows().iter().zip(KNOWLEDGE).zip(PARTS) {
        let own = slice(graph, &format!("{name}/features"), "embedding", range);
        let logits = graph.linear_int8(name, &own, rows);
        let of_pets = slice(graph, &format!("{name}/pets"), &logits, 0..pets);
        let of_others = slice(graph, &format!("{name}/others"), &logits, pets..rows.scales.len());
        for group in [&of_pets, &of_others] {
            odds.push(log_sum_exp(graph, group));
        }
        seen.push(graph.node("Softmax", &format!("{of_pets}/softmax"), &[&of_pets], &[("axis", Attr::Int(1))]));
    }
    let all = concat(graph, "seen", &seen);
    let positive = graph.node("Relu", "seen/positive", &[&all], &[]);
    let roots = graph.node("Sqrt", "seen/roots", &[&positive], &[]);
    let scales = discriminant::scales(FEATURES, RESNET_FEATURES, [pets; 2]);
    let over_roots = |layer: &Layer| {
        let weight = layer.weight.chunks_exact(scales.len()).flat_map(|row| row.iter().zip(&scales).map(|(w, s)| w * s));
        Layer { weight: weight.collect(), bias: layer.bias.clone() }
    };
    let classes = best.fit.bias.len();
    let views = best.breed.bias.len() / classes;
    let parts = linear(graph, "breed/parts", &roots, &scaled(&over_roots(&best.breed), breed_temperature));
    let shape = [views as i64, classes as i64].iter().flat_map(|size| size.to_le_bytes()).collect();
    let shape = graph.constant("breed/parts/shape", DataType::Int64, &[2], shape);
    let parts = graph.node("Reshape", "breed/views", &[&parts, &shape], &[]);
    reduce(graph, "ReduceMax", "breed", &parts, 0);
    let fit = linear(graph, "fit", &roots, &over_roots(&best.fit));
    odds.push(reduce(graph, "ReduceMax", "fit/best", &fit, 1));
    let numbers = concat(graph, "odds", &odds);
    let [a, b, c] = [best.odds.a, best.odds.b, best.odds.c].map(|value| value as f32);
    let gate = Layer { weight: vec![a, -a, a, -a, b], bias: vec![c] };
    linear(graph, "pet", &numbers, &scaled(&gate, pet_temperature));
}

fn scaled(layer: &Layer, temperature: f32) -> Layer {
    let over = |values: &[f32]| values.iter().map(|v| v / temperature).collect::<Vec<_>>();
    Layer { weight: over(&layer.weight), bias: over(&layer.bias) }
}

fn linear(graph: &mut GraphBuilder, name: &str, input: &str, layer: &Layer) -> Name {
    let shape = vec![layer.bias.len(), layer.inputs()];
    graph.linear(name, input, &Linear { weight: Tensor { shape, data: layer.weight.clone() }, bias: layer.bias.clone() })
}

/// Columns of a `[1, …]` tensor.
fn slice(graph: &mut GraphBuilder, name: &str, input: &str, range: std::ops::Range<usize>) -> Name {
    let bounds = [("from", range.start), ("to", range.end), ("axis", 1)].map(|(what, value)| {
        graph.constant(&format!("{name}/{what}"), DataType::Int64, &[1], (value as i64).to_le_bytes().to_vec())
    });
    graph.node("Slice", name, &[input, &bounds[0], &bounds[1], &bounds[2]], &[])
}

/// Over the rows (`axis` 0) or columns (1) of a matrix; they become one.
fn reduce(graph: &mut GraphBuilder, operator: &str, name: &str, input: &str, axis: i64) -> Name {
    graph.node(operator, name, &[input], &[("axes", Attr::Ints(&[axis])), ("keepdims", Attr::Int(1))])
}

/// ln Σ exp over the columns. The largest is taken off before, so that nothing overflows: an infinite score would be a fault.
fn log_sum_exp(graph: &mut GraphBuilder, input: &str) -> Name {
    let largest = reduce(graph, "ReduceMax", &format!("{input}/largest"), input, 1);
    let below = graph.node("Sub", &format!("{input}/below"), &[input, &largest], &[]);
    let sum = reduce(graph, "ReduceLogSumExp", &format!("{input}/log_sum_exp_below"), &below, 1);
    graph.node("Add", &format!("{input}/log_sum_exp"), &[&sum, &largest], &[])
}

fn concat(graph: &mut GraphBuilder, name: &str, parts: &[Name]) -> Name {
    let parts: Vec<&str> = parts.iter().map(Name::as_str).collect();
    graph.node("Concat", name, &parts, &[("axis", Attr::Int(1))])
}

#[cfg(test)]
mod tests {
    use pawgate::nn::{Network, Options};

    use super::*;
    use crate::train::knowledge::{Knowledge, Rows};
    use crate::train::odds::Odds;

    /// The graph must say what the head says in Rust, which was measured.
    #[test]
    fn the_graph_computes_what_was_trained() {
        let mut state = 5_u32;
        let mut noise = |count: usize, spread: f32| -> Vec<f32> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * spread
            };
            (0..count).map(|_| next()).collect()
        };
        let rows = |noise: &mut dyn FnMut(usize, f32) -> Vec<f32>, inputs: usize| {
            let weights = noise(237 * inputs, 127.0).into_iter().map(|v| v as i8).collect();
            let scales = noise(237, 1e-3).into_iter().map(|v| v.abs() + 1e-3).collect();
            Rows::new(weights, scales, noise(237, 0.3)).unwrap()
        };
        let rows = [rows(&mut noise, PARTS[0].len()), rows(&mut noise, PARTS[1].len())];
        let knowledge = Knowledge::from_rows(rows).unwrap();
        // Three breeds, each as it is and under one condition.
        let breed = Layer { weight: noise(6 * (FEATURES + 246), 2.0), bias: noise(6, 9.0) };
        let fit = Layer { weight: noise(3 * (FEATURES + 246), 2.0), bias: noise(3, 9.0) };
        let best = BestHead { knowledge, breed, fit, odds: Odds { a: 0.5, b: 0.02, c: -0.8 } };
        // Below zero, where roots are none, the network's own features never are; the head must bear it.
        let features: Vec<f32> = noise(FEATURES, 1.0).into_iter().map(|v| v + 0.9).collect();

        let mut graph = GraphBuilder::new("head");
        let input = graph.input("image", &[1, FEATURES]);
        graph.node("Identity", "embedding", &[&input], &[]);
        add_best(&mut graph, &best, 57.0, 1.25);
        graph.output("breed", &[1, 3]);
        graph.output("pet", &[1, 1]);
        let network = Network::load(graph.finish(vec![]), Options::SINGLE_THREADED).unwrap();
        let outputs = network.run(&features).unwrap();
        let (breeds, pet) = best.scores(&features);
        for (found, expected) in outputs[0].iter().zip(breeds.iter().map(|score| score / 57.0)) {
            assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
        }
        assert!((outputs[1][0] - pet / 1.25).abs() < 1e-3, "{} {}", outputs[1][0], pet / 1.25);
        // Far beyond what exp can hold.
        let features: Vec<f32> = features.into_iter().map(|value| value * 300.0).collect();
        let (found, (_, pet)) = (network.run(&features).unwrap().remove(1)[0], best.scores(&features));
        assert!(pet.abs() > 100.0 && (found - pet / 1.25).abs() < 1e-3 * pet.abs(), "{found} {}", pet / 1.25);
    }
}
