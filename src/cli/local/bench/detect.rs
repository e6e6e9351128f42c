//! `visage bench detect`: decoded pictures → faces, beside the bare detector.

use std::time::Duration;

use futures::future;
use serde_json::json;

use super::{
    bare::Bare,
    figures::{Compared, Pairs, short, timed},
    setup::{Common, Setup},
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::{Io, cell},
    },
    face::{FaceError, retinaface::RetinaFace},
    frame::{
        scale::{self, Part},
        tensor::Scaler,
    },
    inference::{Input, Output},
};

/// Runs before anything is measured.
const WARM_UP: usize = 3;
/// Time for each of the parts that are measured alone.
const PART: Duration = Duration::from_millis(500);

/// Arguments of `bench detect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Longer side of the detector's input, pixels [default: inference.detector_size].
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub size: Option<u32>,
    /// What all of them take.
    #[command(flatten)]
    pub common: Common,
}

/// Runs `bench detect`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let common = &args.common;
    common.check(64)?;
    let setup = Setup::open(common.config.as_deref(), common.embedder.as_ref())?;
    let mut inference = setup.inference(common)?;
    inference.detector_size = args.size.unwrap_or(inference.detector_size);
    let side = inference.detector_size;
    let (detector, embedder) = setup.models()?;
    let pictures = common.pictures().await?;
    let (width, height) = (pictures[0].width(), pictures[0].height());
    let size = scale::fitted(width, height, side);

    let (entry, path) = (detector.entry.clone(), detector.path.clone());
    let mut input = Input::default();
    input.shape_for(common.batch, size, entry.input.layout);
    let (mut scaler, recipe) = (Scaler::default(), entry.input.recipe());
    for (place, picture) in input.pictures().zip(&pictures) {
        scaler.fill(picture, Part::whole(picture), size, &recipe, place);
    }
    let mut bare = Bare::load(&inference, &path.as_path().into(), input.clone())?;
    let engine = Setup::engine(inference.clone(), detector, embedder).await?;
    let ours = async || {
        let asked = (0..common.asking).flat_map(|_| &pictures).map(|picture| engine.detect(picture, None));
        let all: Result<Vec<_>, FaceError> = future::join_all(asked).await.into_iter().collect();
        Ok(all.map_err(anyhow::Error::from)?.iter().take(common.batch).map(Vec::len).sum::<usize>())
    };
    let bare_runs = || (0..common.asking).try_for_each(|_| bare.run());
    let measured = Pairs::alternate(common.seconds, WARM_UP, common.asking, ours, bare_runs).await;
    // The same beside the graph that the engine runs, where it is not the file's: what is ours apart from the rewriting.
    let mut own = match engine.detector_graph() {
        graph if graph.made_graph().is_some() => Some(Bare::load(&inference, graph, input)?),
        _ => None,
    };
    let beside_own = match &mut own {
        Some(own) => {
            let own_runs = || (0..common.asking).try_for_each(|_| own.run());
            Some(Pairs::alternate(common.seconds / 2.0, WARM_UP, common.asking, ours, own_runs).await)
        }
        None => None,
    };
    let (provider, version) = (engine.provider(), engine.runtime_version());
    engine.shutdown().await;
    let (pairs, faces) = measured?;
    let found = pairs.compared(common.batch);
    let rewritten = beside_own.transpose()?.map(|(pairs, _)| pairs.compared(common.batch));

    // The parts of ours besides the network, each alone on this thread.
    let mut place = vec![0.0; size.0 as usize * size.1 as usize * 3];
    let preprocess = timed(PART, || {
        scaler.fill(&pictures[0], Part::whole(&pictures[0]), size, &recipe, &mut place);
        std::hint::black_box(&place);
    });
    let decoding = RetinaFace::of(&entry).ok_or_else(|| Failure::new(format!("{} is no detector", entry.id)))?;
    let copied = own.as_mut().unwrap_or(&mut bare).outputs()?;
    let outputs: Vec<Output<'_>> = copied.iter().map(|(name, shape, data)| Output { name, shape, data }).collect();
    let decode = timed(PART, || {
        let _ = std::hint::black_box(decoding.decode(&outputs, size, common.batch, inference.min_score));
    }) / common.batch as f64;

    let pixels = f64::from(width) * f64::from(height);
    if io.json {
        let mut object = serde_json::to_value(found).map_err(|e| Failure::new("no figures").because(&e))?;
        let more = json!({
            "batch": common.batch, "asking": common.asking, "threads": common.threads, "size": side, "input": [size.0, size.1],
            "frame": [width, height], "faces": faces, "preprocess_ms": preprocess * 1e3,
            "preprocess_ns_per_pixel": preprocess * 1e9 / pixels, "decode_ms": decode * 1e3,
            "rewritten_per_s": rewritten.map(|r| r.bare_per_s), "rewritten_efficiency": rewritten.map(|r| r.efficiency),
            "rewritten_efficiency_low": rewritten.map(|r| r.efficiency_low),
            "rewritten_efficiency_high": rewritten.map(|r| r.efficiency_high),
            "model": entry.id.to_string(), "provider": provider, "onnxruntime": version,
        });
        merge(&mut object, more);
        io.object(&object)?;
        return Ok(OK);
    }
    io.line(format!(
        "{} on {provider}, ONNX Runtime {version}: {width}x{height} I420 to {}x{}, batch {}, threads {}, {} pairs of runs",
        entry.id, size.0, size.1, common.batch, common.threads, found.pairs
    ))?;
    let mut table = io.table(&["", "pictures/s", "ms a run", "95 % below, ms"]);
    let row = |name, of: Compared| (name, of.bare_per_s, of.bare_ms, of.bare_p95_ms);
    let ours = ("ours, pixels to faces", found.ours_per_s, found.ours_ms, found.ours_p95_ms);
    let others = [("bare session", Some(found)), ("bare session of the rewritten graph", rewritten)];
    let others = others.into_iter().filter_map(|(name, of)| Some(row(name, of?)));
    for (name, rate, ms, p95) in std::iter::once(ours).chain(others) {
        table.add_row([name.to_owned(), short(rate), short(ms), short(p95)].map(|text| cell(text, None)));
    }
    io.show(&table)?;
    io.line(format!(
        "efficiency {:.3} (95 %: {:.3} to {:.3}); scaling and conversion {} ms a picture, decoding {} ms, {faces} faces",
        found.efficiency, found.efficiency_low, found.efficiency_high, short(preprocess * 1e3), short(decode * 1e3)
    ))?;
    if let Some(r) = rewritten {
        io.line(format!(
            "beside the rewritten graph {:.3} (95 %: {:.3} to {:.3})",
            r.efficiency, r.efficiency_low, r.efficiency_high
        ))?;
    }
    Ok(OK)
}

/// Puts the keys of one object into another.
pub(super) fn merge(object: &mut serde_json::Value, more: serde_json::Value) {
    if let (Some(object), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}
