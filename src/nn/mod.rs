//! Running an ONNX network through tract.
//!
//! [`Network`] knows tensors and names, not animals: `pawgate-tools` runs bare feature extractors with it, [`crate::model`]
//! the shipped classifier. A quantised (QDQ) network is lowered to integer operators before tract sees it:
//!
//! | module | does |
//! |---|---|
//! | [`mod@file`] | bytes → message, weights left where they are |
//! | [`lower`] | ONNX patterns → integer operators |
//! | [`ops`] | the operators, as tract has them |
//! | [`kernels`] | their arithmetic, for each instruction set |
//! | [`runtime`] | threads and memory |
//!
//! A network in floats goes to tract as it is. Dependencies point downwards only.

pub mod file;
pub mod kernels;
pub mod lower;
pub mod ops;
mod profile;
pub mod runtime;
mod validate;

use std::sync::Arc;

use thiserror::Error;
use tract_core::prelude::{
    DatumType, Framework, IntoRunnable, OutletId, TValue, TVec, Tensor, TypedModel, TypedRunnableModel, tvec,
};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::InferenceModelExt;

pub use file::File;
use kernels::Pixel;
pub use profile::NodeTime;
pub use runtime::Options;
use runtime::Runtime;

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
    /// A pattern of a quantised graph that has no integer form.
    #[error("cannot be computed in integers: {0}")]
    Lower(#[from] lower::LowerError),
    /// The kernels or threads that were asked for cannot be had.
    #[error("cannot run as asked: {0}")]
    Runtime(String),
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
    integers: Option<Integers>,
}

/// What a quantised network has beside the plan.
#[derive(Debug, Clone)]
struct Integers {
    runtime: Arc<Runtime>,
    input: lower::Input,
}

/// Decodes an ONNX file whole; [`File::decode`] copies no weights.
///
/// # Errors
/// As [`File::decode`].
pub fn decode(bytes: &[u8]) -> Result<ModelProto, NetworkError> {
    File::decode(bytes).map(File::into_message)
}

impl Network {
    /// Loads the graph of a file, or of a message, whose tensors must not lie in other files.
    ///
    /// # Errors
    /// [`NetworkError::Graph`], [`NetworkError::Lower`] or [`NetworkError::Unsupported`], naming the node or tensor;
    /// [`NetworkError::Runtime`] when `options` cannot be had.
    pub fn load<'a>(file: impl Into<File<'a>>, options: Options) -> Result<Self, NetworkError> {
        let file = file.into();
        validate::graph(&file.message).map_err(NetworkError::Graph)?;
        let graph = file.message.graph.as_ref().expect("checked by validate::graph");
        let input_name = validate::inputs(graph)[0].name.clone();
        let output_names: Vec<String> = graph.output.iter().map(|o| o.name.clone()).collect();
        if options.floats || !lower::is_quantised(graph) {
            return Self::floats(&file.into_message(), input_name, &output_names);
        }
        let runtime = Runtime::new(options)?;
        log::info!("int8 kernels: {}, {} threads", runtime.kernels().isa(), runtime.threads());
        let lower::Lowered { model, input } = lower::lower(file, &runtime)?;
        let typed = model.into_optimized().map_err(unsupported)?;
        let [height, width] = input.picture.size;
        let port = Port { name: input_name, shape: vec![1, input.picture.channels, height, width] };
        let outputs = output_ports(&typed, &output_names)?;
        let plan = typed.into_runnable().map_err(unsupported)?;
        Ok(Self { plan, input: port, outputs, integers: Some(Integers { runtime, input }) })
    }

    fn floats(proto: &ModelProto, input_name: String, output_names: &[String]) -> Result<Self, NetworkError> {
        let typed =
            tract_onnx::onnx().model_for_proto_model(proto).and_then(|model| model.into_optimized()).map_err(unsupported)?;
        let input_outlets = typed.input_outlets().map_err(unsupported)?;
        let [input_outlet] = input_outlets else {
            return Err(NetworkError::Graph(format!("{} inputs instead of one", input_outlets.len())));
        };
        let input = port(&typed, *input_outlet, &input_name)?;
        let outputs = output_ports(&typed, output_names)?;
        let plan = typed.into_runnable().map_err(unsupported)?;
        Ok(Self { plan, input, outputs, integers: None })
    }

    /// The input's name and shape.
    pub fn input(&self) -> &Port {
        &self.input
    }

    /// The outputs in the order in which [`Self::run`] returns them.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// How a quantised network takes its input; none for a network in floats.
    pub fn quantised_input(&self) -> Option<lower::Input> {
        self.integers.as_ref().map(|integers| integers.input)
    }

    /// Kernels and threads of a quantised network; none for a network in floats.
    pub fn runtime(&self) -> Option<&Runtime> {
        self.integers.as_ref().map(|integers| &*integers.runtime)
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
        let Some(integers) = &self.integers else {
            return self.run_plan(Tensor::from_shape(shape, input).map_err(failed)?.into());
        };
        let lower::Input { picture, affine, storage } = integers.input;
        self.run_pixels(|pixels| {
            for (channel, plane) in input.chunks_exact(picture.pixels()).enumerate() {
                pixels.iter_mut().zip(plane).for_each(|(p, &value)| p[channel] = storage.byte(affine.quantise(value)));
            }
        })
    }

    /// Runs one inference of a quantised network; `fill` writes the picture, as [`Self::quantised_input`] says, pixel by pixel in
    /// rows. The slice is as long as the picture has pixels; bytes of channels that the picture lacks mean nothing.
    ///
    /// # Errors
    /// [`NetworkError::Run`] for what tract reports.
    ///
    /// # Panics
    /// When the network is not quantised.
    pub fn run_pixels(&self, fill: impl FnOnce(&mut [Pixel])) -> Result<Vec<Vec<f32>>, NetworkError> {
        let input = self.pixel_tensor(fill)?;
        self.run_plan(input)
    }

    fn pixel_tensor(&self, fill: impl FnOnce(&mut [Pixel])) -> Result<TValue, NetworkError> {
        let Integers { runtime, input } = self.integers.as_ref().expect("a quantised network");
        let tensor = ops::output(runtime, &input.picture, |pixels| fill(&mut pixels[..input.picture.pixels()]));
        Ok(tensor.map_err(failed)?.remove(0))
    }

    fn run_plan(&self, input: TValue) -> Result<Vec<Vec<f32>>, NetworkError> {
        let run = || self.plan.run(tvec![input]);
        let results = match &self.integers {
            Some(integers) => integers.runtime.install(run),
            None => run(),
        };
        values(&results.map_err(failed)?)
    }
}

fn values(results: &TVec<TValue>) -> Result<Vec<Vec<f32>>, NetworkError> {
    results
        .iter()
        .map(|value| Ok(value.try_as_plain_ram().map_err(failed)?.as_slice::<f32>().map_err(failed)?.to_vec()))
        .collect()
}

fn unsupported(error: tract_core::internal::TractError) -> NetworkError {
    NetworkError::Unsupported(format!("{error:#}"))
}

fn failed(error: tract_core::internal::TractError) -> NetworkError {
    NetworkError::Run(format!("{error:#}"))
}

fn port(model: &TypedModel, outlet: OutletId, name: &str) -> Result<Port, NetworkError> {
    let fact = model.outlet_fact(outlet).map_err(unsupported)?;
    let shape = fact
        .shape
        .as_concrete()
        .ok_or_else(|| NetworkError::Graph(format!("`{name}` has no fixed shape, but {:?}", fact.shape)))?;
    if fact.datum_type != DatumType::F32 {
        return Err(NetworkError::Graph(format!("`{name}` is {:?}, not f32", fact.datum_type)));
    }
    Ok(Port { name: name.to_owned(), shape: shape.to_vec() })
}

fn output_ports(model: &TypedModel, names: &[String]) -> Result<Vec<Port>, NetworkError> {
    model.output_outlets().map_err(unsupported)?.iter().zip(names).map(|(outlet, name)| port(model, *outlet, name)).collect()
}
