//! Running an ONNX network through tract.
//!
//! [`Network`] knows tensors and names, not animals: `pawgate-tools` runs bare feature extractors with it, [`crate::model`]
//! the shipped classifier. The integer lowering (`lower/`), its operators (`ops/`) and kernels (`kernels/`) belong below this
//! module; until they stand here, tract executes the QDQ graph with its own operators.

mod validate;

use std::sync::Arc;

use thiserror::Error;
use tract_core::prelude::{DatumType, Framework, IntoRunnable, OutletId, Tensor, TypedRunnableModel, tvec};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::InferenceModelExt;

/// Why a network cannot be loaded or run.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// Not a protobuf message of the ONNX schema.
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    /// An ONNX message whose graph contradicts itself or uses what pawgate does not accept.
    #[error("unusable ONNX graph: {0}")]
    Graph(String),
    /// tract has no such operator, or the shapes do not fit.
    #[error("tract cannot run the graph: {0}")]
    Unsupported(String),
    /// The input does not fit the network.
    #[error("the input has {got} values, the network takes {shape:?}")]
    Input {
        /// Number of values given.
        got: usize,
        /// Shape of the network's input.
        shape: Vec<usize>,
    },
    /// Inference failed.
    #[error("inference failed: {0}")]
    Run(String),
}

/// Name and shape of an input or output; all are f32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the ONNX graph.
    pub name: String,
    /// Shape with every dimension known.
    pub shape: Vec<usize>,
}

/// A loaded network with one input. Cheap to clone; clones share the weights and may run on different threads.
#[derive(Debug, Clone)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    input: Port,
    outputs: Vec<Port>,
}

/// Decodes an ONNX file.
///
/// # Errors
/// [`NetworkError::NotOnnx`] when the bytes are not an ONNX message, or a cut one.
pub fn decode(bytes: &[u8]) -> Result<ModelProto, NetworkError> {
    let proto = tract_onnx::onnx()
        .proto_model_for_read(&mut std::io::Cursor::new(bytes))
        .map_err(|e| NetworkError::NotOnnx(format!("{e:#}")))?;
    if proto.graph.is_none() {
        return Err(NetworkError::NotOnnx("the message holds no graph".into()));
    }
    Ok(proto)
}

impl Network {
    /// Loads the graph of `proto`. Its tensors must lie in the file itself.
    ///
    /// # Errors
    /// [`NetworkError::Graph`] or [`NetworkError::Unsupported`], naming the node or tensor.
    pub fn load(proto: &ModelProto) -> Result<Self, NetworkError> {
        validate::graph(proto).map_err(NetworkError::Graph)?;
        let unsupported = |e| NetworkError::Unsupported(format!("{e:#}"));
        let typed =
            tract_onnx::onnx().model_for_proto_model(proto).and_then(|model| model.into_optimized()).map_err(unsupported)?;
        let port = |outlet: &OutletId, name: &str| -> Result<Port, NetworkError> {
            let fact = typed.outlet_fact(*outlet).map_err(unsupported)?;
            let shape = fact
                .shape
                .as_concrete()
                .ok_or_else(|| NetworkError::Graph(format!("`{name}` has no fixed shape, but {:?}", fact.shape)))?;
            if fact.datum_type != DatumType::F32 {
                return Err(NetworkError::Graph(format!("`{name}` is {:?}, not f32", fact.datum_type)));
            }
            Ok(Port { name: name.to_owned(), shape: shape.to_vec() })
        };
        let graph = proto.graph.as_ref().expect("checked by validate::graph");
        let input_outlets = typed.input_outlets().map_err(unsupported)?;
        let [input_outlet] = input_outlets else {
            return Err(NetworkError::Graph(format!("{} inputs instead of one", input_outlets.len())));
        };
        let input = port(input_outlet, &validate::inputs(graph)[0].name)?;
        let outputs = typed
            .output_outlets()
            .map_err(unsupported)?
            .iter()
            .zip(&graph.output)
            .map(|(outlet, info)| port(outlet, &info.name))
            .collect::<Result<_, _>>()?;
        let plan = typed.into_runnable().map_err(unsupported)?;
        Ok(Self { plan, input, outputs })
    }

    /// The input's name and shape.
    pub fn input(&self) -> &Port {
        &self.input
    }

    /// The outputs in the order in which [`Self::run`] returns them.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Runs one inference; returns each output's values, row-major.
    ///
    /// # Errors
    /// [`NetworkError::Input`] when the number of values does not fit, [`NetworkError::Run`] for what tract reports.
    pub fn run(&self, input: &[f32]) -> Result<Vec<Vec<f32>>, NetworkError> {
        let shape = &self.input.shape;
        if input.len() != shape.iter().product::<usize>() {
            return Err(NetworkError::Input { got: input.len(), shape: shape.clone() });
        }
        let failed = |e| NetworkError::Run(format!("{e:#}"));
        let tensor = Tensor::from_shape(shape, input).map_err(failed)?;
        let results = self.plan.run(tvec![tensor.into()]).map_err(failed)?;
        results
            .iter()
            .map(|value| Ok(value.try_as_plain_ram().map_err(failed)?.as_slice::<f32>().map_err(failed)?.to_vec()))
            .collect()
    }
}
