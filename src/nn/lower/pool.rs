//! MaxPool and GlobalAveragePool.

use super::conv::window;
use super::message::{int, sizes};
use super::*;
use crate::nn::ops::average_pool::GlobalAveragePool;
use crate::nn::ops::max_pool::MaxPool;

pub(super) fn max(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>, target: Target) -> Outcome<()> {
    target.require_no_activation(node)?;
    let input = lowering.read(node, 0)?;
    if input.affine != target.affine {
        return fail(node, "changes the scale; a maximum keeps it");
    }
    if int(node, "ceil_mode", 0) != 0 || node.output.len() > 1 {
        return fail(node, "ceil_mode and indices are not supported");
    }
    let window = window(node, sizes(node, "kernel_shape", [0; 2])?)?;
    let (picture, outlet) = lowering.wire(node, |l| {
        let op = MaxPool::new(l.runtime, input.picture, window)?;
        Ok((op.output(), l.model.wire_node(&node.name, op, &[input.outlet])?[0]))
    })?;
    lowering.values.insert(target.name, Value { outlet, picture, affine: target.affine });
    Ok(())
}

/// Pooled features: f32 `[1, channels, 1, 1]`.
pub(super) struct Mean {
    pub(super) outlet: OutletId,
    pub(super) channels: usize,
}

/// Not quantised again: most of what a mean of small numbers tells would be lost in 8 bits.
pub(super) fn average(lowering: &mut Lowering<'_>, node: &Arc<NodeProto>) -> Outcome<Mean> {
    let input = lowering.read(node, 0)?;
    let zero_point = lowering.runtime.storage().of(input.affine.zero_point);
    let op = GlobalAveragePool::new(lowering.runtime, input.picture, zero_point, input.affine.scale);
    let outlet = lowering.wire(node, |l| l.model.wire_node(&node.name, op, &[input.outlet]))?[0];
    Ok(Mean { outlet, channels: input.picture.channels })
}
