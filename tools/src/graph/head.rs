//! The trained head on top of the fused features, in floats: outputs `breed` and `pet` beside `embedding`.

use super::GraphBuilder;
use crate::train::TrainedHead;
use crate::weights::{Linear, Tensor};

/// Adds the head's two layers over the tensor `embedding`; the temperatures are folded into weights and bias.
pub fn add(graph: &mut GraphBuilder, head: &TrainedHead) {
    for (name, layer, temperature) in
        [("breed", &head.breed, head.record.breed_temperature), ("pet", &head.pet, head.record.pet_temperature)]
    {
        let scaled = |values: &[f32]| values.iter().map(|v| v / temperature).collect::<Vec<_>>();
        let outputs = layer.bias.len();
        let shape = vec![outputs, layer.inputs()];
        let linear = Linear { weight: Tensor { shape, data: scaled(&layer.weight) }, bias: scaled(&layer.bias) };
        graph.linear(name, "embedding", &linear);
        graph.output(name, &[1, outputs]);
    }
    // After the logits, so that the outputs stand in the documented order.
    graph.output("embedding", &[1, head.breed.inputs()]);
}
