//! A scene through the engine that serves: frames rendered, searched, measured and embedded.

use futures::{StreamExt, stream};

use super::{
    Footage, Moment, Seen, Setup, Truth,
    scene::{SIZE, Scene},
    studio::Studio,
};
use crate::{
    evaluation::EvaluationError,
    face::{Detection, FaceEngine},
    frame::Picture,
};

/// Renders a scene and looks at every frame; faces from `setup.low_score` on. Every face that is large enough for the embedder is embedded, so
/// that any tracker may ask for it. `done` hears of each frame.
///
/// # Errors
/// When the engine fails, or the studio has no people.
pub async fn watch(
    engine: &FaceEngine,
    studio: &Studio,
    scene: &Scene,
    setup: &Setup,
    done: &(dyn Fn() + Sync),
) -> Result<Footage, EvaluationError> {
    let shooting =
        studio.cast(scene).ok_or_else(|| EvaluationError::TooLittle("there is no face to make a scene of".into()))?;
    let shooting = &shooting;
    let one = |number: usize| async move {
        let picture = Picture::from_rgb(shooting.frame(number));
        let detections = engine.detect(&picture, Some(setup.low_score)).await?;
        let least = engine.embedder().embedder.as_ref().map_or(0.0, |e| e.min_face_px);
        let qualities: Vec<_> = detections.iter().map(|d| engine.measure(&picture, d)).collect();
        let large: Vec<Detection> =
            detections.iter().zip(&qualities).filter(|(_, q)| q.size_px >= least).map(|(d, _)| *d).collect();
        let mut embeddings = engine.embed(&picture, &large).await?.into_iter();
        let seen = detections.iter().zip(qualities).map(|(detection, q)| {
            let embedding = (q.size_px >= least).then(|| embeddings.next()).flatten();
            Seen {
                detection: *detection,
                quality: [q.value, q.size_px, q.sharpness, q.frontality],
                embedding: embedding.map(|e| e.values.to_vec()).unwrap_or_default(),
            }
        });
        let truth: Vec<Truth> = scene.truth(number).into_iter().map(|(_, t)| t).collect();
        Ok::<_, EvaluationError>(Moment { at_ms: scene.times[number], truth, seen: seen.collect() })
    };
    let mut results = stream::iter(0..scene.times.len()).map(one).buffered(2 * engine.workers());
    let mut moments = Vec::with_capacity(scene.times.len());
    while let Some(moment) = results.next().await {
        moments.push(moment?);
        done();
    }
    drop(results);
    let model = engine.embedder().id.to_string();
    Ok(Footage { scene: scene.name.clone(), seed: scene.seed, model, setup: setup.clone(), size: SIZE, moments })
}
