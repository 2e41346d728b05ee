//! Add [+ Relu] → part of the convolution that makes one of its inputs, rounded or not, or an operator of its own.

use super::conv::{self, Addition};
use super::*;
use crate::nn::ops::add::Add;

pub(super) fn lower(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, target: Target) -> Outcome<()> {
    let convolution = |input: &String| lowering.message.maker(input).filter(|maker| maker.op_type == "Conv");
    let exact: Vec<_> = node.input.iter().map(convolution).collect();
    match &exact[..] {
        [Some(_), Some(_)] => return fail(node, "adds two convolutions that are both not quantised"),
        [Some(maker), None] => return with_exact(lowering, node, maker, target, 0),
        [None, Some(maker)] => return with_exact(lowering, node, maker, target, 1),
        _ => {}
    }
    let names = [lowering.quantised_name(node, 0)?, lowering.quantised_name(node, 1)?];
    // The later of two convolutions: its other input is there by then.
    let position = |name: &String| lowering.pending.get(name).map(|layer| layer.position(lowering));
    let fused = usize::from(position(&names[1]) > position(&names[0]));
    let Some(layer) = lowering.pending.remove(&names[fused]) else { return standalone(lowering, node, target) };
    let other = lowering.value(node, &names[1 - fused])?;
    layer.wire(lowering, Some(Addition { other, target }))
}

/// Adds to a convolution, input `at`, whose output was not rounded before.
fn with_exact(
    lowering: &mut Lowering<'_>,
    node: &Arc<NodeProto>,
    maker: &Arc<NodeProto>,
    target: Target,
    at: usize,
) -> Outcome<()> {
    if lowering.message.reader_count(&node.input[at]) != 1 {
        return fail(maker, "is read as floats, and not by one addition alone");
    }
    let other = lowering.read(node, 1 - at)?;
    let layer = conv::exact(lowering, maker)?;
    layer.wire(lowering, Some(Addition { other, target }))
}

fn standalone(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, target: Target) -> Outcome<()> {
    let (a, b) = (lowering.read(node, 0)?, lowering.read(node, 1)?);
    if a.picture != b.picture {
        return fail(node, format!("adds {:?} and {:?}", a.picture, b.picture));
    }
    let storage = lowering.runtime.storage();
    let sum = target.sum(a.affine, b.affine, storage);
    let op = Add::new(lowering.runtime, a.picture, storage.of(a.affine.zero_point), sum);
    let outlet = lowering.wire(node, |l| l.model.wire_node(&node.name, op, &[a.outlet, b.outlet]))?[0];
    lowering.values.insert(target.name, Value { outlet, picture: a.picture, affine: target.affine });
    Ok(())
}
