//! The graph that detects: the model's own, or the same network rewritten for the CPU where it answers the same.

use prost::Message;

use super::{Detection, RetinaFace};
use crate::inference::{
    Environment, GraphSource, InferenceSettings, Input, Network, NetworkError, OrtSession, Provider,
    manifest::{InputSpec, Layout},
    onnx::ModelProto,
    widen,
};

/// Largest difference of a score between the two graphs; rounding makes 1e-6.
const SCORE: f32 = 1e-3;
/// Largest difference of a coordinate, input pixels; rounding makes 1e-3 at the largest prior.
const PIXELS: f32 = 0.05;
/// Sizes that are compared: one of whole cells, and one whose maps are cut.
const COMPARED: [(u32, u32); 2] = [(96, 64), (108, 77)];

/// What a worker's session of the detector is made of. On a CPU, with `settings.rewrite_detector`, the file's graph with its heads merged and its
/// narrow layers widened ([`widen`]), once it was seen to answer as the file does. Otherwise the file; the log says why where rewriting was tried. Blocks for about a
/// tenth of a second.
pub fn graph(
    environment: &Environment,
    file: GraphSource,
    settings: &InferenceSettings,
    decoding: &RetinaFace,
    input: &InputSpec,
) -> GraphSource {
    if !settings.rewrite_detector || settings.provider != Provider::Cpu || input.layout != Layout::Nchw {
        return file;
    }
    // Loading it tells why it can't be read.
    let Ok(bytes) = std::fs::read(file.path()) else { return file };
    let Some(made) = rewritten(&bytes, decoding, widen::lanes()) else {
        tracing::info!(model = %file.path().display(), "the detector's graph is run as it is: it is not built as published");
        return file;
    };
    let made = GraphSource::made(file.path(), made);
    match difference(environment, [&file, &made], settings, decoding, input) {
        Ok(difference) if difference.score <= SCORE && difference.pixels <= PIXELS => {
            tracing::info!(?difference, "the detector's graph is rewritten for this CPU");
            made
        }
        Ok(difference) => {
            tracing::warn!(?difference, "the rewritten detector answers otherwise: the model's own graph is run");
            file
        }
        Err(error) => {
            tracing::warn!(%error, "the rewritten detector can't be run: the model's own graph is");
            file
        }
    }
}

/// The graph of a model's file rewritten; `None` when it is not built as published.
fn rewritten(bytes: &[u8], decoding: &RetinaFace, lanes: Option<i64>) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(bytes).ok()?;
    let graph = model.graph.as_mut()?;
    decoding.merge_heads(graph)?;
    if let Some(lanes) = lanes {
        widen::widen(graph, lanes);
    }
    Some(model.encode_to_vec())
}

/// How far the answers of two graphs are apart, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Difference {
    score: f32,
    pixels: f32,
}

/// Compares every prior of two pictures of noise at once, in each of the sizes.
fn difference(
    environment: &Environment,
    graphs: [&GraphSource; 2],
    settings: &InferenceSettings,
    decoding: &RetinaFace,
    input: &InputSpec,
) -> Result<Difference, NetworkError> {
    let [mut file, mut made] = graphs.map(|graph| OrtSession::load(environment, graph, settings));
    let (file, made) = (file.as_mut().map_err(|e| e.clone())?, made.as_mut().map_err(|e| e.clone())?);
    let mut most = Difference::default();
    let mut dice = fastrand::Rng::with_seed(1);
    for size in COMPARED {
        let mut batch = Input::default();
        batch.shape_for(2, size, input.layout);
        let plane = size.0 as usize * size.1 as usize;
        for picture in batch.pictures() {
            for (i, value) in picture.iter_mut().enumerate() {
                let channel = (i / plane).min(2);
                *value = (dice.f32() * 255.0 - input.mean[channel]) * input.scale[channel];
            }
        }
        let [expected, got] = [&mut *file, &mut *made].map(|session| {
            let mut found = Vec::new();
            session.run(&batch, &mut |outputs| {
                found = decoding.candidates(outputs, size, 2, -1.0)?;
                Ok(())
            })?;
            Ok::<_, NetworkError>(found.concat())
        });
        let (expected, got) = (expected?, got?);
        if expected.len() != got.len() {
            return Err(NetworkError::Run(format!("{} priors instead of {}", got.len(), expected.len())));
        }
        for (a, b) in expected.iter().zip(&got) {
            most.score = most.score.max((a.score - b.score).abs());
            most.pixels = places(a).zip(places(b)).map(|(a, b)| (a - b).abs()).fold(most.pixels, f32::max);
        }
    }
    Ok(most)
}

/// All coordinates of a detection.
fn places(d: &Detection) -> impl Iterator<Item = f32> {
    let b = d.bbox;
    [b.x1, b.y1, b.x2, b.y2].into_iter().chain(d.landmarks.into_iter().flat_map(|p| [p.x, p.y]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::retina;
    use super::*;
    use crate::inference::{environment, manifest::ColorOrder, onnx::GraphProto};

    fn pixels() -> InputSpec {
        let (mean, scale) = ([104.0, 117.0, 123.0], [1.0; 3]);
        InputSpec { width: 0, height: 0, layout: Layout::Nchw, color: ColorOrder::Bgr, mean, scale }
    }

    #[test]
    fn the_rewritten_detector_answers_as_the_published_one() {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
        let (library, model) =
            (cache.join("onnxruntime/libonnxruntime.so"), cache.join("models/retinaface-mnet025.onnx"));
        if !library.is_file() || !model.is_file() {
            crate::telemetry::skipped("ONNX Runtime or retinaface-mnet025 is not here; run `make test`");
            return;
        }
        let (decoding, input, environment) = (retina(), pixels(), environment(&library).unwrap());
        let file = GraphSource::from(model.as_path());
        let bytes = std::fs::read(&model).unwrap();
        let settings = InferenceSettings { provider: Provider::Cpu, ..InferenceSettings::default() };
        // Whatever this machine's registers hold: with and without wider layers.
        for lanes in [None, Some(16)] {
            let made = GraphSource::made(&model, rewritten(&bytes, &decoding, lanes).unwrap());
            let found = difference(&environment, [&file, &made], &settings, &decoding, &input).unwrap();
            assert!(found.score < 1e-5 && found.pixels < 2e-3, "{lanes:?}: {found:?}");
        }
        let widened = ModelProto::decode(&*rewritten(&bytes, &decoding, Some(16)).unwrap()).unwrap();
        let narrow = |model: &ModelProto| {
            let graph = model.graph.as_ref().unwrap();
            let convs = graph.node.iter().filter(|n| n.op_type == "Conv");
            convs.filter(|n| graph.weight(&n.input[1]).unwrap().0[0] == 8).count()
        };
        assert_eq!(narrow(&ModelProto::decode(&*bytes).unwrap()), 5, "two layers and three heads of 8");
        assert_eq!(narrow(&widened), 0);

        let chosen = graph(&environment, file.clone(), &settings, &decoding, &input);
        assert!(chosen.made_graph().is_some(), "the file's graph is run");
        let off = InferenceSettings { rewrite_detector: false, ..settings.clone() };
        assert_eq!(graph(&environment, file.clone(), &off, &decoding, &input), file);
        // A graph that answers otherwise is found out: one filter changed a little.
        let mut model_proto = ModelProto::decode(&*rewritten(&bytes, &decoding, None).unwrap()).unwrap();
        let weights = &mut model_proto.graph.as_mut().unwrap().initializer;
        let last = weights.iter_mut().find(|t| t.name == "visage.heads.0.bias").unwrap();
        last.raw_data[0..4].copy_from_slice(&1.0f32.to_le_bytes());
        let made = GraphSource::made(&model, model_proto.encode_to_vec());
        let found = difference(&environment, [&file, &made], &settings, &decoding, &input).unwrap();
        assert!(found.pixels > PIXELS, "{found:?}");
    }

    #[test]
    fn graphs_that_are_built_otherwise_are_left_alone() {
        let decoding = retina();
        assert_eq!(rewritten(b"no graph", &decoding, None), None);
        let empty = ModelProto { graph: Some(GraphProto::default()), ..ModelProto::default() };
        assert_eq!(rewritten(&empty.encode_to_vec(), &decoding, None), None);
    }
}
