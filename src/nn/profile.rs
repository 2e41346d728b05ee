//! Where the time of an inference goes: every node on the clock.

use std::time::{Duration, Instant};

use tract_core::internal::{Cost, TractResult, tvec};

use super::kernels::Pixel;
use super::{Network, NetworkError, failed};

/// One node of the running graph.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeTime {
    /// Name of the node, as in the model file.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// What the operator says of itself: form of the weights, kernels.
    pub info: String,
    /// Multiplications, those with zero included.
    pub macs: u64,
    /// Time of one evaluation.
    pub time: Duration,
}

impl Network {
    /// Runs one inference of a quantised network, as [`Self::run_pixels`], and says how long each node took, in the order in
    /// which they ran.
    ///
    /// # Errors
    /// [`NetworkError::Run`] for what tract reports.
    ///
    /// # Panics
    /// When the network is not quantised.
    pub fn profile(&self, fill: impl FnOnce(&mut [Pixel])) -> Result<Vec<NodeTime>, NetworkError> {
        let input = self.pixel_tensor(fill)?;
        let runtime = self.runtime().expect("a quantised network");
        let mut times = vec![];
        runtime
            .install(|| -> TractResult<()> {
                let mut state = self.plan.spawn()?;
                state.run_plan_with_eval(tvec![input], |ctx, op_state, node, inputs| {
                    let start = Instant::now();
                    let outputs = match op_state {
                        Some(state) => state.eval(ctx, node.op.as_op(), inputs),
                        None => node.op.eval(ctx, inputs),
                    };
                    times.push((node.id, start.elapsed()));
                    outputs
                })?;
                Ok(())
            })
            .map_err(failed)?;
        let model = self.plan.model();
        let describe = |(id, time): (usize, Duration)| {
            let node = model.node(id);
            let facts = model.node_input_facts(id)?;
            let cost = node.op.cost(&facts)?;
            let macs = cost.iter().filter(|(kind, _)| matches!(kind, Cost::FMA(_)));
            let macs = macs.map(|(_, count)| count.to_i64().unwrap_or(0) as u64).sum();
            let info = node.op.info()?.join("; ");
            Ok(NodeTime { name: node.name.clone(), op: node.op.name().into_owned(), info, macs, time })
        };
        times.into_iter().map(describe).collect::<TractResult<_>>().map_err(failed)
    }
}
