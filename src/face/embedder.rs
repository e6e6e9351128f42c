//! A face crop in, an embedding out: crop recipe and normalisation as the manifest says.

use super::{Detection, Embedding, alignment};
use crate::{
    frame::{BBox, Picture, crop, tensor, warp::Warper},
    inference::{
        Input, Network, NetworkError,
        manifest::{CropRecipe, EmbedderSpec, InputSpec, ModelEntry},
    },
};

/// Crops that run together at most; larger batches do not pay on a CPU.
const MAX_BATCH: usize = 8;

/// The face as the embedder's input, cut out, aligned and normalised as the manifest says, into its place of a tensor. `false` when the
/// landmarks allow no alignment, or `place` has another length.
pub fn fill(
    warper: &mut Warper,
    picture: &Picture,
    detection: &Detection,
    spec: &EmbedderSpec,
    input: &InputSpec,
    place: &mut [f32],
) -> bool {
    let (width, height) = (input.width, input.height);
    let transform = match &spec.crop {
        CropRecipe::Landmarks { template } => {
            alignment::similarity(&detection.landmarks, &alignment::template(template))
        }
        CropRecipe::Box { margin } => {
            // facenet-pytorch: the margin is counted in output pixels, so it grows with the box.
            let b = &detection.bbox;
            let grow = |edge: f32, out: u32| margin * edge / (out as f32 - margin).max(1.0) / 2.0;
            let (gx, gy) = (grow(b.width(), width), grow(b.height(), height));
            let grown = BBox::new(b.x1 - gx, b.y1 - gy, b.x2 + gx, b.y2 + gy);
            Some(crop::box_transform(&grown, width, height))
        }
    };
    // Networks are trained on, and reference embeddings made from, crops of whole grey levels.
    transform.is_some_and(|t| warper.fill(picture, &t, (width, height), &input.recipe(), true, place))
}

/// Memory of one worker: the tensor, and what cutting out takes.
#[derive(Default)]
pub struct Memory {
    input: Input,
    warper: Warper,
}

/// Embeds faces of one picture, in order. `memory` is used again from call to call.
///
/// # Errors
/// When the model is no embedder, a face can't be aligned, or the network fails or answers with another shape.
pub fn embed(
    network: &mut dyn Network,
    entry: &ModelEntry,
    picture: &Picture,
    detections: &[Detection],
    memory: &mut Memory,
) -> Result<Vec<Embedding>, NetworkError> {
    let spec = entry.embedder.as_ref().ok_or_else(|| NetworkError::Run(format!("{} is no embedder", entry.id)))?;
    let Memory { input, warper } = memory;
    let mut embeddings = Vec::with_capacity(detections.len());
    for chunk in detections.chunks(MAX_BATCH) {
        input.shape_for(chunk.len(), (entry.input.width, entry.input.height), entry.input.layout);
        for (place, detection) in input.pictures().zip(chunk) {
            if !fill(warper, picture, detection, spec, &entry.input, place) {
                return Err(NetworkError::Run("a face with impossible landmarks can't be aligned".into()));
            }
        }
        embed_input(network, entry, spec, input, &mut embeddings)?;
    }
    Ok(embeddings)
}

/// Embeds crops (R, G, B from 0 to 255, row by row, of the model's input size).
///
/// # Errors
/// When the model is no embedder, or the network fails or answers with another shape.
pub fn embed_crops(
    network: &mut dyn Network,
    entry: &ModelEntry,
    crops: &[Vec<f32>],
) -> Result<Vec<Embedding>, NetworkError> {
    let spec = entry.embedder.as_ref().ok_or_else(|| NetworkError::Run(format!("{} is no embedder", entry.id)))?;
    let (mut embeddings, mut input) = (Vec::with_capacity(crops.len()), Input::default());
    for chunk in crops.chunks(MAX_BATCH) {
        input.shape_for(chunk.len(), (entry.input.width, entry.input.height), entry.input.layout);
        for (place, rgb) in input.pictures().zip(chunk) {
            tensor::write_rgb(rgb, entry.input.width, &entry.input.recipe(), place);
        }
        embed_input(network, entry, spec, &mut input, &mut embeddings)?;
    }
    Ok(embeddings)
}

/// Embeds the crops of a tensor; those of a model that wants it are turned into their mirror images on the way.
fn embed_input(
    network: &mut dyn Network,
    entry: &ModelEntry,
    spec: &EmbedderSpec,
    input: &mut Input,
    embeddings: &mut Vec<Embedding>,
) -> Result<(), NetworkError> {
    let faces = input.shape()[0];
    // Row by row: the values of each crop, or their mean with those of its mirror image.
    let mut values = vec![0.0; faces * spec.size];
    let looks: u8 = if spec.mirror { 2 } else { 1 };
    for look in 0..looks {
        if look > 0 {
            let (width, recipe) = (entry.input.width, entry.input.recipe());
            input.pictures().for_each(|crop| tensor::mirror(crop, width, &recipe));
        }
        network.run(input, &mut |outputs| {
            let output = outputs.first().filter(|output| output.data.len() == values.len()).ok_or_else(|| {
                let shape = outputs.first().map(|output| output.shape.to_vec());
                NetworkError::Run(format!("output {shape:?} is not [{faces}, {}] as the manifest says", spec.size))
            })?;
            let share = 1.0 / f32::from(looks);
            values.iter_mut().zip(output.data).for_each(|(sum, value)| *sum += value * share);
            Ok(())
        })?;
    }
    for vector in values.chunks_exact_mut(spec.size) {
        if spec.distance == super::Distance::Cosine {
            let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            vector.iter_mut().for_each(|v| *v /= norm);
        }
        if !vector.iter().all(|v| v.is_finite()) {
            return Err(NetworkError::Run("the embedding holds values that are not finite".into()));
        }
        let values = (&*vector).into();
        embeddings.push(Embedding { model: entry.id.clone(), distance: spec.distance, values });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        face::Distance,
        inference::{
            Output, Reader,
            manifest::{Calibration, ColorOrder, Convert, Layout, Role},
        },
    };

    /// Answers with the first value of each picture, twice.
    struct First(usize);

    impl Network for First {
        fn run(&mut self, input: &Input, read: &mut Reader<'_>) -> Result<(), NetworkError> {
            self.0 += 1;
            let each = input.values().len() / input.shape()[0];
            let data: Vec<f32> = input.values().chunks(each).flat_map(|p| [p[0], 1.0]).collect();
            read(&[Output { name: "e", shape: &[input.shape()[0] as i64, 2], data: &data }])
        }
    }

    fn entry(mirror: bool, size: usize) -> ModelEntry {
        let spec = EmbedderSpec {
            size,
            distance: Distance::Euclidean,
            crop: CropRecipe::Box { margin: 0.0 },
            mirror,
            verification_threshold: 0.5,
            identification_threshold: 0.5,
            margin: 0.0,
            min_face_px: 1.0,
            calibration: Calibration { midpoint: 0.5, slope: 1.0 },
        };
        let (color, layout) = (ColorOrder::Rgb, Layout::Nchw);
        let input = InputSpec { width: 2, height: 1, layout, color, mean: [0.0; 3], scale: [1.0; 3] };
        ModelEntry {
            id: "first".parse().unwrap(),
            role: Role::Embedder,
            description: String::new(),
            licence: String::new(),
            sources: Vec::new(),
            convert: Convert::None,
            onnx_sha256: String::new(),
            input,
            detector: None,
            embedder: Some(spec),
            liveness: None,
        }
    }

    #[test]
    fn a_crop_and_its_mirror_image_are_averaged_and_chunks_keep_their_order() {
        let crops: Vec<Vec<f32>> = (0..MAX_BATCH + 2).map(|i| vec![i as f32, 0.0, 0.0, 10.0, 0.0, 0.0]).collect();
        for (mirror, runs) in [(false, 2), (true, 4)] {
            let mut network = First(0);
            let found = embed_crops(&mut network, &entry(mirror, 2), &crops).unwrap();
            assert_eq!(network.0, runs);
            for (i, embedding) in found.iter().enumerate() {
                let want = if mirror { (i as f32 + 10.0) / 2.0 } else { i as f32 };
                assert_eq!(*embedding.values, [want, 1.0]);
            }
        }
    }

    #[test]
    fn another_shape_is_an_error() {
        let error = embed_crops(&mut First(0), &entry(false, 3), &[vec![0.0; 6]]).unwrap_err().to_string();
        assert!(error.contains("[1, 2]") && error.contains("[1, 3]"), "{error}");
    }
}
