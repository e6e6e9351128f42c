//! A loaded network: one input of f32, outputs by name.

use std::path::Path;

use ort::{
    environment::Environment,
    ep::{self, ExecutionProviderDispatch},
    session::{Session, SessionOutputs, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::pinned::Pinned;
use crate::inference::{GraphSource, InferenceSettings, Input, Network, NetworkError, Output, Provider, Reader};

/// A session of ONNX Runtime; owned by one thread, since a run needs it exclusively.
pub struct OrtSession {
    session: Session,
    input: String,
    /// On a graphics card inputs and outputs lie in memory that it copies from and to directly.
    pinned: Option<Pinned>,
}

impl OrtSession {
    /// Loads a graph.
    ///
    /// # Errors
    /// As [`bare_session`].
    pub fn load(
        environment: &Environment,
        graph: &GraphSource,
        settings: &InferenceSettings,
    ) -> Result<Self, NetworkError> {
        let session = bare_session(environment, graph, settings)?;
        let input = session.inputs().first().map(|i| i.name().to_owned());
        let input = input.ok_or_else(|| NetworkError::Load(format!("{}: it has no input", graph.path().display())))?;
        let pinned = settings.provider.is_gpu().then(|| Pinned::on_card(&session, settings.device)).transpose()?;
        Ok(Self { session, input, pinned })
    }
}

/// The runtime's own session with our options, for whoever wants to measure it alone. With [`Provider::Auto`] CUDA is tried, then the CPU.
///
/// # Errors
/// When the file is no valid graph, or the execution provider that was asked for is absent: there is no silent fallback.
pub fn bare_session(
    environment: &Environment,
    graph: &GraphSource,
    settings: &InferenceSettings,
) -> Result<Session, NetworkError> {
    match settings.provider {
        Provider::Cpu => session_on(environment, graph, settings, &[], false),
        Provider::Auto => {
            let on = |provider| bare_session(environment, graph, &InferenceSettings { provider, ..settings.clone() });
            on(Provider::Cuda).or_else(|_| on(Provider::Cpu))
        }
        Provider::Cuda | Provider::Tensorrt => {
            let card = on_card(graph.path(), settings);
            // Parts of a graph that land on the CPU make each run wait for copies both ways: worth a warning, no reason to refuse.
            session_on(environment, graph, settings, &card, true).or_else(|strict| {
                let session = session_on(environment, graph, settings, &card, false)?;
                let provider = settings.provider.name();
                tracing::warn!(%provider, model = %graph.path().display(), reason = %strict, "parts of the network run on the CPU");
                Ok(session)
            })
        }
    }
}

/// The providers of a graphics card, in the order in which they are asked to take a part of the graph.
fn on_card(path: &Path, settings: &InferenceSettings) -> Vec<ExecutionProviderDispatch> {
    let device = settings.device as i32;
    let cuda = ep::CUDA::default().with_device_id(device).build().error_on_failure();
    if settings.provider != Provider::Tensorrt {
        return vec![cuda];
    }
    let mut tensorrt = ep::TensorRT::default().with_device_id(device).with_fp16(settings.fp16);
    // Engines take minutes to build: they are kept beside the models.
    if let Some(folder) = path.parent() {
        tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(folder.join("tensorrt").display());
    }
    vec![tensorrt.build().error_on_failure(), cuda]
}

fn session_on(
    environment: &Environment,
    graph: &GraphSource,
    settings: &InferenceSettings,
    card: &[ExecutionProviderDispatch],
    nothing_on_cpu: bool,
) -> Result<Session, NetworkError> {
    let fail = |e: String| NetworkError::Load(format!("{}: {e}", graph.path().display()));
    let builder = Session::builder(environment).map_err(|e| fail(e.to_string()))?;
    let mut builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)
        .and_then(|b| b.with_intra_threads(settings.intra_threads.max(1)))
        // Spinning threads burn the cores that decoders need.
        .and_then(|b| b.with_intra_op_spinning(false))
        .and_then(|b| b.with_inter_op_spinning(false))
        .map_err(|e| fail(e.to_string()))?;
    if nothing_on_cpu {
        builder = builder.with_disable_cpu_fallback().map_err(|e| fail(e.to_string()))?;
    }
    if !card.is_empty() {
        builder = builder.with_execution_providers(card).map_err(|e| absent(settings.provider, &e.to_string()))?;
    }
    let committed = match graph.made_graph() {
        Some(made) => builder.commit_from_memory(made),
        None => builder.commit_from_file(graph.path()),
    };
    committed.map_err(|e| fail(e.to_string()))
}

/// The provider can't be used; says what to do.
fn absent(provider: Provider, why: &str) -> NetworkError {
    let (name, needs) = match provider {
        Provider::Tensorrt => ("TensorRT", "TensorRT, CUDA and cuDNN"),
        _ => ("CUDA", "CUDA and cuDNN"),
    };
    NetworkError::Provider(format!(
        "the {name} provider can't be used ({why}); install ONNX Runtime's GPU build with {needs} and set \
         inference.runtime_library to it, or set inference.provider = \"cpu\""
    ))
}

impl Network for OrtSession {
    fn run(&mut self, input: &Input, read: &mut Reader<'_>) -> Result<(), NetworkError> {
        if let Some(pinned) = &mut self.pinned {
            return pinned.run(&mut self.session, &self.input, input, read);
        }
        let fail = |e: ort::Error| NetworkError::Run(e.to_string());
        let value = TensorRef::from_array_view((input.shape(), input.values())).map_err(fail)?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => value]).map_err(fail)?;
        show(&outputs, read)
    }
}

/// Outputs as they lie in the runtime's memory.
pub(super) fn show(outputs: &SessionOutputs<'_>, read: &mut Reader<'_>) -> Result<(), NetworkError> {
    let view = |(i, name): (usize, _)| {
        let (shape, data) = outputs[i].try_extract_tensor::<f32>().map_err(|e| NetworkError::Run(e.to_string()))?;
        Ok(Output { name, shape, data })
    };
    let views: Vec<Output<'_>> = outputs.keys().enumerate().map(view).collect::<Result<_, NetworkError>>()?;
    read(&views)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::environment;

    /// The library of `make setup` is the CPU's.
    #[test]
    fn a_provider_that_is_absent_is_an_error_and_auto_takes_the_cpu() {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
        let (library, model) =
            (cache.join("onnxruntime/libonnxruntime.so"), cache.join("models/retinaface-mnet025.onnx"));
        if !library.is_file()
            || !model.is_file()
            || cache.join("onnxruntime/libonnxruntime_providers_cuda.so").is_file()
        {
            crate::telemetry::skipped("no ONNX Runtime for the CPU, or no retinaface-mnet025; run `make test`");
            return;
        }
        let (environment, model) = (environment(&library).unwrap(), GraphSource::from(model.as_path()));
        let settings = |provider| InferenceSettings { provider, ..InferenceSettings::default() };
        for (provider, name) in [(Provider::Cuda, "the CUDA provider"), (Provider::Tensorrt, "the TensorRT provider")] {
            match OrtSession::load(&environment, &model, &settings(provider)).map(drop) {
                Err(NetworkError::Provider(text)) => assert!(text.starts_with(name), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        let mut session = OrtSession::load(&environment, &model, &settings(Provider::Auto)).unwrap();
        let input = Input::new([1, 3, 64, 64], vec![1.0; 3 * 64 * 64]).unwrap();
        let mut plain = Vec::new();
        let mut bound = Vec::new();
        let copy = |to: &mut Vec<(String, Vec<f32>)>, outputs: &[Output<'_>]| {
            to.extend(outputs.iter().map(|o| (o.name.to_owned(), o.data.to_vec())));
            Ok(())
        };
        session.run(&input, &mut |outputs| copy(&mut plain, outputs)).unwrap();
        // The way of a graphics card with plain memory: bound input, bound outputs.
        session.pinned = Some(Pinned::plain(&session.session).unwrap());
        for _ in 0..2 {
            bound.clear();
            session.run(&input, &mut |outputs| copy(&mut bound, outputs)).unwrap();
            assert_eq!(plain, bound);
        }
        let other = Input::new([2, 3, 32, 64], vec![5.0; 2 * 3 * 32 * 64]).unwrap();
        let batch = |outputs: &[Output<'_>]| {
            assert_eq!(outputs[0].shape[0], 2);
            Ok(())
        };
        session.run(&other, &mut { batch }).unwrap();
    }
}
