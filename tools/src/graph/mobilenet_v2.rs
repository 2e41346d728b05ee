//! MobileNetV2 1.0 (Sandler et al. 2018, arXiv:1801.04381, table 2), torchvision names, up to the global average pool.
//!
//! A checkpoint that was trained on another value range than the graph's input gets its normalisation folded into the first
//! convolution: with `own = scale · image + shift` per channel, `w · own = (w · scale) · image + w · shift`. The padded border
//! needs care: the checkpoint pads zeros of *its* range, which in the graph's range are `−shift / scale`, another value in
//! each channel. ONNX pads with one value for all channels, so the border is joined to the image and the convolution pads
//! nothing.

use super::{Activation, Attr, ConvGeometry, GraphBuilder, Name};
use crate::weights::layout::{InputRange, MobileNetV2Layout, Pads};
use crate::weights::{Checkpoint, Conv};

/// Features after the global average pool.
pub(super) const FEATURES: usize = 1280;

/// Expansion, output channels, repeats, stride of the first repeat (table 2 of the paper).
const STAGES: [(usize, usize, usize, i64); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
const STEM_CHANNELS: usize = 32;
/// Input of the graph, in pixels.
const SIZE: usize = super::fused::SIZE;

/// Adds the backbone below `prefix`; returns the tensor \[1, 1280\].
pub(super) fn add(
    graph: &mut GraphBuilder,
    prefix: &str,
    image: &str,
    file: &mut Checkpoint,
    layout: MobileNetV2Layout,
) -> Name {
    let mut tensor = add_stem(graph, prefix, image, file, layout);
    let mut channels = STEM_CHANNELS;
    let mut index = 1;
    for (expansion, out, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let block = InvertedResidual { index, channels, expansion, out, stride, stride2_pads: layout.stride2_pads };
            tensor = block.add(graph, prefix, &tensor, file);
            channels = out;
            index += 1;
        }
    }
    let last = file.conv(&format!("features.{index}.0"), &format!("features.{index}.1"), [FEATURES, channels, 1, 1]);
    let name = format!("{prefix}/features.{index}");
    let tensor = graph.conv(&name, &tensor, &last, ConvGeometry::POINTWISE, Activation::Relu6);
    let pooled = graph.node("GlobalAveragePool", &format!("{prefix}/avgpool"), &[&tensor], &[]);
    graph.node("Flatten", &format!("{prefix}/flatten"), &[&pooled], &[("axis", Attr::Int(1))])
}

fn add_stem(graph: &mut GraphBuilder, prefix: &str, image: &str, file: &mut Checkpoint, layout: MobileNetV2Layout) -> Name {
    let own = file.conv("features.0.0", "features.0.1", [STEM_CHANNELS, 3, 3, 3]);
    stem_of(graph, prefix, image, &own, layout)
}

fn stem_of(graph: &mut GraphBuilder, prefix: &str, image: &str, own: &Conv, layout: MobileNetV2Layout) -> Name {
    let name = format!("{prefix}/features.0");
    let geometry = |pads| ConvGeometry { stride: 2, pads, groups: 1 };
    match layout.input {
        InputRange::ImageNet => graph.conv(&name, image, own, geometry(layout.stride2_pads), Activation::Relu6),
        InputRange::MinusOneToOne => {
            let [scale, shift] = minus_one_to_one();
            let border = [0, 1, 2].map(|c| -shift[c] / scale[c]);
            let framed = add_border(graph, prefix, image, layout.stride2_pads, border);
            graph.conv(&name, &framed, &fold_normalisation(own, scale, shift), geometry([0; 4]), Activation::Relu6)
        }
    }
}

/// Scale and shift that turn ImageNet-normalised values into RGB / 127.5 − 1, per channel.
fn minus_one_to_one() -> [[f32; 3]; 2] {
    let imagenet = pawgate::vision::Preprocess::imagenet(pawgate::vision::ResizeRule::Plain);
    [imagenet.std.map(|s| 2.0 * s), imagenet.mean.map(|m| 2.0 * m - 1.0)]
}

fn fold_normalisation(conv: &Conv, scale: [f32; 3], shift: [f32; 3]) -> Conv {
    let mut folded = conv.clone();
    let area = conv.weight.shape[2] * conv.weight.shape[3];
    for (kernel, bias) in folded.weight.data.chunks_mut(3 * area).zip(&mut folded.bias) {
        for (c, plane) in kernel.chunks_mut(area).enumerate() {
            *bias += plane.iter().sum::<f32>() * shift[c];
            plane.iter_mut().for_each(|w| *w *= scale[c]);
        }
    }
    folded
}

/// Joins a frame of constant colour to the image: left and right first, then top and bottom over the full width.
fn add_border(graph: &mut GraphBuilder, prefix: &str, image: &str, [top, left, bottom, right]: Pads, colour: [f32; 3]) -> Name {
    let strip = |graph: &mut GraphBuilder, side: &str, height: usize, width: usize| {
        let data: Vec<f32> = colour.iter().flat_map(|&c| std::iter::repeat_n(c, height * width)).collect();
        graph.constant_f32(&format!("{prefix}/border/{side}"), &[1, 3, height, width], &data)
    };
    let mut framed = image.to_owned();
    for (axis, name, [before, after]) in
        [(3, "columns", [("left", left), ("right", right)]), (2, "rows", [("top", top), ("bottom", bottom)])]
    {
        let size = |graph: &mut GraphBuilder, (side, thickness): (&str, usize)| {
            let (height, width) = if axis == 3 { (SIZE, thickness) } else { (thickness, left + SIZE + right) };
            (thickness > 0).then(|| strip(graph, side, height, width))
        };
        let parts: Vec<Name> = [size(graph, before), Some(framed.clone()), size(graph, after)].into_iter().flatten().collect();
        if parts.len() > 1 {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            framed = graph.node("Concat", &format!("{prefix}/border/{name}"), &parts, &[("axis", Attr::Int(axis))]);
        }
    }
    framed
}

struct InvertedResidual {
    index: usize,
    channels: usize,
    expansion: usize,
    out: usize,
    stride: i64,
    stride2_pads: Pads,
}

impl InvertedResidual {
    fn add(&self, graph: &mut GraphBuilder, prefix: &str, input: &str, file: &mut Checkpoint) -> Name {
        let &Self { index, channels, expansion, out, stride, stride2_pads } = self;
        let name = format!("{prefix}/features.{index}");
        let own = format!("features.{index}.conv");
        let hidden = channels * expansion;
        let mut part = 0;
        let mut tensor = input.to_owned();
        if expansion > 1 {
            let expand = file.conv(&format!("{own}.0.0"), &format!("{own}.0.1"), [hidden, channels, 1, 1]);
            tensor = graph.conv(&format!("{name}/expand"), &tensor, &expand, ConvGeometry::POINTWISE, Activation::Relu6);
            part = 1;
        }
        let depthwise = file.conv(&format!("{own}.{part}.0"), &format!("{own}.{part}.1"), [hidden, 1, 3, 3]);
        let pads = if stride == 2 { stride2_pads } else { [1; 4] };
        let geometry = ConvGeometry { stride, pads, groups: hidden as i64 };
        tensor = graph.conv(&format!("{name}/depthwise"), &tensor, &depthwise, geometry, Activation::Relu6);
        let project = file.conv(&format!("{own}.{}", part + 1), &format!("{own}.{}", part + 2), [out, hidden, 1, 1]);
        tensor = graph.conv(&format!("{name}/project"), &tensor, &project, ConvGeometry::POINTWISE, Activation::Linear);
        if stride == 1 && channels == out {
            tensor = graph.node("Add", &format!("{name}/add"), &[&tensor, input], &[]);
        }
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Tensor;
    use pawgate::nn::{Network, Options};

    /// Pseudo-random values in −1…1 (a linear congruential generator; only the spread matters).
    fn noise(count: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn run(graph: GraphBuilder, image: &[f32]) -> Vec<f32> {
        Network::load(graph.finish(vec![]), Options::SINGLE_THREADED).unwrap().run(image).unwrap().remove(0)
    }

    #[test]
    fn folded_normalisation_equals_the_unfolded_network_at_the_border_too() {
        let conv = Conv {
            weight: Tensor { shape: vec![STEM_CHANNELS, 3, 3, 3], data: noise(STEM_CHANNELS * 27, 1) },
            bias: noise(STEM_CHANNELS, 2),
        };
        let image = noise(3 * SIZE * SIZE, 3);
        for pads in [[0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1]] {
            // Written out from the definitions: undo the ImageNet normalisation, then RGB / 127.5 − 1, then pad with zeros.
            let mut unfolded = GraphBuilder::new("unfolded");
            let input = unfolded.input("image", &[1, 3, SIZE, SIZE]);
            let std = unfolded.constant_f32("std", &[1, 3, 1, 1], &[0.229, 0.224, 0.225]);
            let mean = unfolded.constant_f32("mean", &[1, 3, 1, 1], &[0.485, 0.456, 0.406]);
            let factor = unfolded.constant_f32("factor", &[1, 1, 1, 1], &[255.0 / 127.5]);
            let offset = unfolded.constant_f32("offset", &[1, 1, 1, 1], &[-1.0]);
            let rgb = unfolded.node("Mul", "scaled", &[&input, &std], &[]);
            let rgb = unfolded.node("Add", "rgb", &[&rgb, &mean], &[]);
            let own = unfolded.node("Mul", "doubled", &[&rgb, &factor], &[]);
            let own = unfolded.node("Add", "own", &[&own, &offset], &[]);
            let geometry = ConvGeometry { stride: 2, pads, groups: 1 };
            let output = unfolded.conv("out", &own, &conv, geometry, Activation::Relu6);
            let side = |before: usize, after: usize| (SIZE + before + after - 3) / 2 + 1;
            let shape = [1, STEM_CHANNELS, side(pads[0], pads[2]), side(pads[1], pads[3])];
            unfolded.output(&output, &shape);

            let mut folded = GraphBuilder::new("folded");
            let input = folded.input("image", &[1, 3, SIZE, SIZE]);
            let layout = MobileNetV2Layout { stride2_pads: pads, input: InputRange::MinusOneToOne };
            let output = stem_of(&mut folded, "m", &input, &conv, layout);
            folded.output(&output, &shape);

            let (expected, found) = (run(unfolded, &image), run(folded, &image));
            let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "pads {pads:?}: differs by {worst}");
        }
    }
}
