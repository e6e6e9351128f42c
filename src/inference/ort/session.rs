//! A loaded network: one input of f32, outputs by name.

use std::path::Path;

use ndarray::Array4;
use ort::{
    environment::Environment,
    ep,
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use crate::inference::{InferenceSettings, Network, NetworkError, Provider, Tensor};

/// A session of ONNX Runtime; owned by one thread, since a run needs it exclusively.
pub struct OrtSession {
    session: Session,
    input: String,
}

impl OrtSession {
    /// Loads a graph.
    ///
    /// # Errors
    /// When the file is no valid graph, or the execution provider that was asked for is absent: there is no silent fallback.
    pub fn load(environment: &Environment, path: &Path, settings: &InferenceSettings) -> Result<Self, NetworkError> {
        let fail = |e: String| NetworkError::Load(format!("{}: {e}", path.display()));
        let builder = Session::builder(environment).map_err(|e| fail(e.to_string()))?;
        let builder = builder
            .with_optimization_level(GraphOptimizationLevel::All)
            .and_then(|b| b.with_intra_threads(settings.intra_threads.max(1)))
            // Spinning threads burn the cores that decoders need.
            .and_then(|b| b.with_intra_op_spinning(false))
            .and_then(|b| b.with_inter_op_spinning(false))
            .map_err(|e| fail(e.to_string()))?;
        let mut builder = match settings.provider {
            Provider::Cpu => builder,
            Provider::Cuda => {
                let cuda = ep::CUDA::default().with_device_id(settings.device as i32).build().error_on_failure();
                builder.with_execution_providers([cuda]).map_err(|e| {
                    NetworkError::Provider(format!(
                        "the CUDA provider can't be used ({e}); install ONNX Runtime's GPU build with CUDA and cuDNN and set \
                         inference.runtime_library to it, or set inference.provider = \"cpu\""
                    ))
                })?
            }
        };
        let session = builder.commit_from_file(path).map_err(|e| fail(e.to_string()))?;
        let input =
            session.inputs().first().map(|i| i.name().to_owned()).ok_or_else(|| fail("it has no input".into()))?;
        Ok(Self { session, input })
    }
}

impl Network for OrtSession {
    fn run(&mut self, input: &Array4<f32>) -> Result<Vec<Tensor>, NetworkError> {
        let fail = |e: ort::Error| NetworkError::Run(e.to_string());
        let value = TensorRef::from_array_view(input.view()).map_err(fail)?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => value]).map_err(fail)?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for (name, value) in outputs.iter() {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(fail)?;
            let shape = shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
            tensors.push(Tensor { name: name.to_owned(), shape, data: data.to_vec() });
        }
        Ok(tensors)
    }
}
