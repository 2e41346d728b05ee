//! Checks of an ONNX message before tract sees it: what tract's importer takes for granted (and would panic on), and what
//! a model for a door must not do (read other files).

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, tensor_proto::DataLocation};

/// The graph's inputs that are not initializers (old exporters list those too).
pub(super) fn inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).collect()
}

/// Checks the whole message; the error is a sentence that names the culprit.
pub(super) fn graph(proto: &ModelProto) -> Result<(), String> {
    let graph = proto.graph.as_ref().ok_or("the message holds no graph")?;
    let inputs = inputs(graph);
    if inputs.len() != 1 {
        let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(format!("expected one input, found {}: {names:?}", inputs.len()));
    }
    let mut names = HashSet::new();
    for tensor in &graph.initializer {
        if !names.insert(tensor.name.as_str()) {
            return Err(format!("tensor `{}` stands twice", tensor.name));
        }
        if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
            return Err(format!("tensor `{}` lies in another file; pawgate takes single-file models", tensor.name));
        }
        if tensor.dims.iter().any(|&d| !(0..=1 << 28).contains(&d)) {
            return Err(format!("tensor `{}` has the shape {:?}", tensor.name, tensor.dims));
        }
    }
    let mut known: HashSet<&str> =
        inputs.iter().map(|i| i.name.as_str()).chain(graph.initializer.iter().map(|t| t.name.as_str())).collect();
    for node in &graph.node {
        if node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return Err(format!("node `{}` ({}) holds a sub-graph", node.name, node.op_type));
        }
        // Lowering and tract's importer look at the first of each without asking.
        if node.output.is_empty() || node.input.is_empty() && node.op_type != "Constant" {
            return Err(format!("node `{}` ({}) has no input or no output", node.name, node.op_type));
        }
        if let Some(missing) = node.input.iter().find(|i| !i.is_empty() && !known.contains(i.as_str())) {
            return Err(format!("node `{}` ({}) reads `{missing}`, which nothing before it makes", node.name, node.op_type));
        }
        known.extend(node.output.iter().map(String::as_str).filter(|o| !o.is_empty()));
    }
    if graph.output.is_empty() {
        return Err("the graph has no output".into());
    }
    match graph.output.iter().find(|o| !known.contains(o.name.as_str())) {
        Some(output) => Err(format!("output `{}` is made by no node", output.name)),
        None => Ok(()),
    }
}
