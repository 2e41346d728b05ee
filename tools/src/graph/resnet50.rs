//! ResNet-50 (He et al. 2015, arXiv:1512.03385, table 1), torchvision names, up to the global average pool.

use super::{Activation, Attr, ConvGeometry, GraphBuilder, Name};
use crate::weights::Checkpoint;
use crate::weights::layout::{BottleneckStride, ResNet50Layout};

/// Features after the global average pool.
pub(super) const FEATURES: usize = 2048;

/// Blocks and inner width of the four layers.
const LAYERS: [(usize, usize); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
/// A bottleneck's output is this many times as wide as its inside.
const EXPANSION: usize = 4;
/// Of the 7×7 stem; the same in all published variants.
const STEM_PADS: [usize; 4] = [3; 4];

/// Adds the backbone below `prefix`; returns the tensor \[1, 2048\].
pub(super) fn add(graph: &mut GraphBuilder, prefix: &str, image: &str, file: &mut Checkpoint, layout: ResNet50Layout) -> Name {
    let stem = file.conv("conv1", "bn1", [64, 3, 7, 7]);
    let geometry = ConvGeometry { stride: 2, pads: STEM_PADS, groups: 1 };
    let stem = graph.conv(&format!("{prefix}/conv1"), image, &stem, geometry, Activation::Relu);
    let mut tensor = graph.node(
        "MaxPool",
        &format!("{prefix}/maxpool"),
        &[&stem],
        &[
            ("kernel_shape", Attr::Ints(&[3, 3])),
            ("strides", Attr::Ints(&[2, 2])),
            ("pads", Attr::Ints(&layout.maxpool_pads.map(|p| p as i64))),
        ],
    );
    let mut channels = 64;
    for (index, (blocks, width)) in LAYERS.into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if index > 0 && block == 0 { 2 } else { 1 };
            let bottleneck = Bottleneck { name: format!("layer{}.{block}", index + 1), channels, width, stride, layout };
            tensor = bottleneck.add(graph, prefix, &tensor, file);
            channels = width * EXPANSION;
        }
    }
    let pooled = graph.node("GlobalAveragePool", &format!("{prefix}/avgpool"), &[&tensor], &[]);
    graph.node("Flatten", &format!("{prefix}/flatten"), &[&pooled], &[("axis", Attr::Int(1))])
}

struct Bottleneck {
    name: String,
    channels: usize,
    width: usize,
    stride: i64,
    layout: ResNet50Layout,
}

impl Bottleneck {
    fn add(&self, graph: &mut GraphBuilder, prefix: &str, input: &str, file: &mut Checkpoint) -> Name {
        let Self { name, channels, width, stride, layout } = self;
        let (first, middle) = match layout.stride {
            BottleneckStride::First1x1 => (*stride, 1),
            BottleneckStride::Middle3x3 => (1, *stride),
        };
        let out = width * EXPANSION;
        let pointwise = |stride| ConvGeometry { stride, ..ConvGeometry::POINTWISE };
        let mut conv = |part: usize, input: &str, shape, geometry, activation| {
            let weights = file.conv(&format!("{name}.conv{part}"), &format!("{name}.bn{part}"), shape);
            graph.conv(&format!("{prefix}/{name}/conv{part}"), input, &weights, geometry, activation)
        };
        let inner = conv(1, input, [*width, *channels, 1, 1], pointwise(first), Activation::Relu);
        let spatial = ConvGeometry { stride: middle, pads: [1; 4], groups: 1 };
        let inner = conv(2, &inner, [*width, *width, 3, 3], spatial, Activation::Relu);
        let branch = conv(3, &inner, [out, *width, 1, 1], pointwise(1), Activation::Linear);
        let shortcut = if *channels == out && *stride == 1 {
            input.to_owned()
        } else {
            let weights = file.conv(&format!("{name}.downsample.0"), &format!("{name}.downsample.1"), [out, *channels, 1, 1]);
            let label = format!("{prefix}/{name}/downsample");
            graph.conv(&label, input, &weights, pointwise(*stride), Activation::Linear)
        };
        let sum = graph.node("Add", &format!("{prefix}/{name}/add"), &[&branch, &shortcut], &[]);
        graph.node("Relu", &format!("{prefix}/{name}/relu"), &[&sum], &[])
    }
}
