//! The network alone: a session of ONNX Runtime with the engine's options and a ready input, run by nothing but the runtime's own call.

use std::path::Path;

use ort::{session::Session, value::TensorRef};

use crate::{
    cli::error::Failure,
    inference::{GraphSource, InferenceSettings, Input, environment, ort::bare_session},
};

/// A session with an input that is not touched again.
pub struct Bare {
    session: Session,
    name: String,
    input: Input,
}

/// An output: its name, axes and values.
pub type Copied = (String, Vec<i64>, Vec<f32>);

impl Bare {
    /// Loads a graph with the options of the engine's sessions.
    ///
    /// # Errors
    /// When the runtime or the graph can't be loaded.
    pub fn load(settings: &InferenceSettings, graph: &GraphSource, input: Input) -> Result<Self, Failure> {
        let environment = environment(Path::new(&settings.runtime_library)).map_err(anyhow::Error::from)?;
        let session = bare_session(&environment, graph, settings).map_err(anyhow::Error::from)?;
        let name = session.inputs().first().map(|input| input.name().to_owned());
        let name = name.ok_or_else(|| Failure::new(format!("{} has no input", graph.path().display())))?;
        Ok(Self { session, name, input })
    }

    /// One run; the outputs stay where the runtime put them.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn run(&mut self) -> Result<(), Failure> {
        let fail = |e: ort::Error| Failure::new("the network failed").because(&e);
        let value = TensorRef::from_array_view((self.input.shape(), self.input.values())).map_err(fail)?;
        let outputs = self.session.run(ort::inputs![self.name.as_str() => value]).map_err(fail)?;
        std::hint::black_box(&outputs);
        Ok(())
    }

    /// One run with its outputs copied.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn outputs(&mut self) -> Result<Vec<Copied>, Failure> {
        let fail = |e: ort::Error| Failure::new("the network failed").because(&e);
        let value = TensorRef::from_array_view((self.input.shape(), self.input.values())).map_err(fail)?;
        let outputs = self.session.run(ort::inputs![self.name.as_str() => value]).map_err(fail)?;
        let copy = |(name, value): (&str, ort::value::ValueRef<'_>)| {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(fail)?;
            Ok((name.to_owned(), shape.to_vec(), data.to_vec()))
        };
        outputs.iter().map(copy).collect()
    }
}
