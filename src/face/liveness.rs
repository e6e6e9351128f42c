//! How much a face looks like a living one before the camera, and not like a picture or screen held up to it. Experimental.
//!
//! One number from one crop. Nobody has published error rates of the models that there are (docs/liveness.md): it is shown, it never
//! decides who somebody is.

use super::Detection;
use crate::{
    frame::{BBox, Picture, crop, warp::Warper},
    inference::{Input, Network, NetworkError, manifest::ModelEntry},
};

/// Crops that run together at most.
const MAX_BATCH: usize = 16;

/// The part of a picture that a model is shown: the box `grow` times as large around its centre, made square, which may leave the frame
/// (black there).
fn window(bbox: &BBox, grow: f32) -> BBox {
    let grown = bbox.grown(grow);
    let (c, half) = (grown.center(), grown.width().max(grown.height()) / 2.0);
    BBox::new(c.x - half, c.y - half, c.x + half, c.y + half)
}

/// Scores faces of one picture, in order: 0 (picture, screen) to 1 (living). `input` and `warper` are memory to use.
///
/// # Errors
/// When the model is none for liveness, or the network fails or answers with another shape or with no numbers.
pub fn score(
    network: &mut dyn Network,
    entry: &ModelEntry,
    picture: &Picture,
    detections: &[Detection],
    (input, warper): (&mut Input, &mut Warper),
) -> Result<Vec<f32>, NetworkError> {
    let spec =
        entry.liveness.as_ref().ok_or_else(|| NetworkError::Run(format!("{} is no liveness model", entry.id)))?;
    let size = (entry.input.width, entry.input.height);
    let mut scores = Vec::with_capacity(detections.len());
    for chunk in detections.chunks(MAX_BATCH) {
        input.shape_for(chunk.len(), size, entry.input.layout);
        let recipe = entry.input.recipe();
        for (place, detection) in input.pictures().zip(chunk) {
            let to_crop = crop::box_transform(&window(&detection.bbox, spec.grow), size.0, size.1);
            warper.fill(picture, &to_crop, size, &recipe, false, place);
        }
        network.run(input, &mut |outputs| {
            let output = outputs.first().filter(|t| t.data.len() == chunk.len() * spec.size).ok_or_else(|| {
                let shape = outputs.first().map(|t| t.shape.to_vec());
                NetworkError::Run(format!(
                    "output {shape:?} is not [{}, {}] as the manifest says",
                    chunk.len(),
                    spec.size
                ))
            })?;
            for values in output.data.chunks_exact(spec.size) {
                let score = values.get(spec.live).copied().filter(|v| v.is_finite());
                let score = score.ok_or_else(|| NetworkError::Run("a score is not finite".into()))?;
                scores.push(score.clamp(0.0, 1.0));
            }
            Ok(())
        })?;
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::Point,
        inference::{
            Output, Reader,
            manifest::{ColorOrder, Convert, InputSpec, Layout, LivenessSpec, Role},
        },
    };
    use image::{Rgb, RgbImage};

    /// Gives the mean of red and of blue.
    struct Means;

    impl Network for Means {
        fn run(&mut self, input: &Input, read: &mut Reader<'_>) -> Result<(), NetworkError> {
            let [n, _, h, w] = input.shape();
            let mean = |plane: &[f32]| plane.iter().sum::<f32>() / plane.len() as f32;
            let data: Vec<f32> = input
                .values()
                .chunks(3 * h * w)
                .flat_map(|picture| [mean(&picture[..h * w]), mean(&picture[2 * h * w..])])
                .collect();
            read(&[Output { name: "scores", shape: &[n as i64, 2], data: &data }])
        }
    }

    fn entry(live: usize, size: usize) -> ModelEntry {
        ModelEntry {
            id: "means".parse().unwrap(),
            role: Role::Liveness,
            description: String::new(),
            licence: String::new(),
            sources: Vec::new(),
            convert: Convert::None,
            onnx_sha256: String::new(),
            input: InputSpec {
                width: 16,
                height: 16,
                layout: Layout::Nchw,
                color: ColorOrder::Rgb,
                mean: [0.0; 3],
                scale: [1.0 / 255.0; 3],
            },
            detector: None,
            embedder: None,
            liveness: Some(LivenessSpec { grow: 1.4, size, live }),
        }
    }

    fn face(x: f32, y: f32, width: f32, height: f32) -> Detection {
        Detection { bbox: BBox::new(x, y, x + width, y + height), score: 0.9, landmarks: [Point::default(); 5] }
    }

    #[test]
    fn each_face_is_scored_on_its_own_larger_square() {
        // Red from column 100 on, no blue.
        let picture = Picture::from_rgb(RgbImage::from_fn(200, 100, |x, _| Rgb([if x < 100 { 0 } else { 255 }, 0, 0])));
        let faces = vec![face(20.0, 30.0, 30.0, 40.0), face(140.0, 30.0, 30.0, 40.0), face(90.0, 40.0, 20.0, 20.0)];
        let scores =
            score(&mut Means, &entry(0, 2), &picture, &faces, (&mut Input::default(), &mut Warper::default())).unwrap();
        assert!(scores[0] < 0.01 && scores[1] > 0.99 && (scores[2] - 0.5).abs() < 0.05, "{scores:?}");
        // A box of 20 x 10 is shown with its surroundings: a square of 28.
        assert_eq!(window(&BBox::new(10.0, 10.0, 30.0, 20.0), 1.4), BBox::new(6.0, 1.0, 34.0, 29.0));
        let many = vec![face(140.0, 30.0, 30.0, 40.0); MAX_BATCH + 1];
        assert_eq!(
            score(&mut Means, &entry(0, 2), &picture, &many, (&mut Input::default(), &mut Warper::default()))
                .unwrap()
                .len(),
            MAX_BATCH + 1
        );
        assert_eq!(
            score(&mut Means, &entry(1, 2), &picture, &faces, (&mut Input::default(), &mut Warper::default())).unwrap(),
            [0.0; 3],
            "the other value"
        );
    }

    #[test]
    fn another_shape_is_an_error() {
        let picture = Picture::from_rgb(RgbImage::new(50, 50));
        let faces = [face(10.0, 10.0, 20.0, 20.0)];
        let error = score(&mut Means, &entry(0, 3), &picture, &faces, (&mut Input::default(), &mut Warper::default()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("not [1, 3]"), "{error}");
    }
}
