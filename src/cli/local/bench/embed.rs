//! `visage bench embed`: faces of a decoded picture → embeddings, beside the bare embedder.

use std::time::Duration;

use futures::future;
use serde_json::json;

use super::{
    bare::Bare,
    detect::merge,
    figures::{Pairs, short, timed},
    scene,
    setup::{Common, Setup},
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::{Io, cell},
    },
    face::embedder,
    frame::warp::Warper,
    inference::Input,
};

const WARM_UP: usize = 3;
const PART: Duration = Duration::from_millis(500);
/// The engine runs no more crops at once.
const MOST: usize = 8;

/// Arguments of `bench embed`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Width of the faces in the picture, pixels; small ones get a close-up first, which is part of our path.
    #[arg(long, value_name = "PX", default_value_t = 160.0)]
    pub face: f32,
    /// What all of them take.
    #[command(flatten)]
    pub common: Common,
}

/// Runs `bench embed`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let common = &args.common;
    common.check(MOST)?;
    if !(16.0..=4096.0).contains(&args.face) {
        return Err(Failure::usage("--face: give 16 to 4096 pixels"));
    }
    let setup = Setup::open(common.config.as_deref(), common.embedder.as_ref())?;
    let mut inference = setup.inference(common)?;
    // One request holds all faces of a batch.
    inference.batch_wait_ms = 0;
    let (detector, embedder) = setup.models()?;
    let picture = common.pictures().await?.swap_remove(0);
    let (width, height) = (picture.width(), picture.height());
    let faces = scene::faces((width, height), args.face, common.batch);

    let (entry, path) = (embedder.entry.clone(), embedder.path.clone());
    let spec = entry.embedder.clone().ok_or_else(|| Failure::usage(format!("model {} is no embedder", entry.id)))?;
    let size = (entry.input.width, entry.input.height);
    let (mut input, mut warper) = (Input::default(), Warper::default());
    input.shape_for(common.batch, size, entry.input.layout);
    for (place, face) in input.pictures().zip(&faces) {
        embedder::fill(&mut warper, &picture, face, &spec, &entry.input, place);
    }
    let mut bare = Bare::load(&inference, &path.as_path().into(), input)?;
    let engine = Setup::engine(inference, detector, embedder).await?;
    let runs = if spec.mirror { 2 } else { 1 };
    let ours = async || {
        let asked = (0..common.asking).map(|_| engine.embed(&picture, &faces));
        Ok(future::try_join_all(asked).await.map_err(anyhow::Error::from)?)
    };
    let bare = || (0..runs * common.asking).try_for_each(|_| bare.run());
    let measured = Pairs::alternate(common.seconds, WARM_UP, common.asking, ours, bare).await;
    let (provider, version) = (engine.provider(), engine.runtime_version());
    engine.shutdown().await;
    let found = measured?.0.compared(common.batch);

    let mut place = vec![0.0; size.0 as usize * size.1 as usize * 3];
    let crop = timed(PART, || {
        embedder::fill(&mut warper, &picture, &faces[0], &spec, &entry.input, &mut place);
        std::hint::black_box(&place);
    });
    if io.json {
        let mut object = serde_json::to_value(found).map_err(|e| Failure::new("no figures").because(&e))?;
        let more = json!({
            "batch": common.batch, "asking": common.asking, "threads": common.threads, "face": args.face, "frame": [width, height],
            "input": [size.0, size.1], "runs_per_batch": runs, "crop_ms": crop * 1e3, "dim": spec.size,
            "model": entry.id.to_string(), "provider": provider, "onnxruntime": version,
        });
        merge(&mut object, more);
        io.object(&object)?;
        return Ok(OK);
    }
    io.line(format!(
        "{} on {provider}, ONNX Runtime {version}: faces of {} px in {width}x{height} I420, batch {}, threads {}, {} pairs of runs",
        entry.id, args.face, common.batch, common.threads, found.pairs
    ))?;
    let mut table = io.table(&["", "faces/s", "ms a run", "95 % below, ms"]);
    let twice = if runs == 2 { "bare session, twice a batch as ours (mirror image)" } else { "bare session" };
    for (name, rate, ms, p95) in [
        ("ours, pixels to embeddings", found.ours_per_s, found.ours_ms, found.ours_p95_ms),
        (twice, found.bare_per_s, found.bare_ms, found.bare_p95_ms),
    ] {
        table.add_row([name.to_owned(), short(rate), short(ms), short(p95)].map(|text| cell(text, None)));
    }
    io.show(&table)?;
    io.line(format!(
        "efficiency {:.3} (95 %: {:.3} to {:.3}); cutting out and aligning {} ms a face",
        found.efficiency,
        found.efficiency_low,
        found.efficiency_high,
        short(crop * 1e3)
    ))?;
    Ok(OK)
}
