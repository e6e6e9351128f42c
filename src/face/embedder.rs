//! A face crop in, an embedding out: crop recipe and normalisation as the manifest says.

use ndarray::Array4;

use super::{Detection, Embedding, alignment};
use crate::{
    frame::{BBox, Picture, crop},
    inference::{
        Network, NetworkError,
        manifest::{ColorOrder, CropRecipe, EmbedderSpec, InputSpec, Layout, ModelEntry},
    },
};

/// Crops that run together at most; larger batches do not pay on a CPU.
const MAX_BATCH: usize = 8;

/// Writes RGB pixels (0 to 255, row by row) into row `index` of a batch tensor, normalised as the model wants.
pub fn fill(tensor: &mut Array4<f32>, index: usize, rgb: &[f32], (width, height): (u32, u32), input: &InputSpec) {
    let (w, h) = (width as usize, height as usize);
    if rgb.len() != w * h * 3 {
        return;
    }
    let Some(batch) = tensor.as_slice_mut() else { return };
    let start = index * w * h * 3;
    let Some(out) = batch.get_mut(start..start + w * h * 3) else { return };
    // Channel c of the tensor is channel source[c] of the pixel.
    let source = match input.color {
        ColorOrder::Rgb => [0, 1, 2],
        ColorOrder::Bgr => [2, 1, 0],
    };
    for (i, pixel) in rgb.chunks_exact(3).enumerate() {
        for c in 0..3 {
            let value = (pixel[source[c]] - input.mean[c]) * input.scale[c];
            match input.layout {
                Layout::Nchw => out[c * w * h + i] = value,
                Layout::Nhwc => out[i * 3 + c] = value,
            }
        }
    }
}

/// A tensor for `batch` pictures of a size.
pub fn tensor(batch: usize, (width, height): (u32, u32), layout: Layout) -> Array4<f32> {
    let (w, h) = (width as usize, height as usize);
    match layout {
        Layout::Nchw => Array4::zeros((batch, 3, h, w)),
        Layout::Nhwc => Array4::zeros((batch, h, w, 3)),
    }
}

/// The face as the embedder's input: R, G, B, whole numbers from 0 to 255. Empty when the landmarks allow no alignment.
pub fn cut(picture: &Picture, detection: &Detection, spec: &EmbedderSpec, (width, height): (u32, u32)) -> Vec<f32> {
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
    let mut crop = transform.map(|t| crop::warp(picture, &t, width, height)).unwrap_or_default();
    // Networks are trained on, and reference embeddings made from, crops of whole grey levels.
    crop.iter_mut().for_each(|v| *v = v.round());
    crop
}

/// Embeds faces of one picture, in order.
///
/// # Errors
/// When the model is no embedder, a face can't be aligned, or the network fails or answers with another shape.
pub fn embed(
    network: &mut dyn Network,
    entry: &ModelEntry,
    picture: &Picture,
    detections: &[Detection],
) -> Result<Vec<Embedding>, NetworkError> {
    let spec = entry.embedder.as_ref().ok_or_else(|| NetworkError::Run(format!("{} is no embedder", entry.id)))?;
    let size = (entry.input.width, entry.input.height);
    let mut crops = Vec::with_capacity(detections.len());
    for detection in detections {
        let rgb = cut(picture, detection, spec, size);
        if rgb.is_empty() {
            return Err(NetworkError::Run("a face with impossible landmarks can't be aligned".into()));
        }
        crops.push(rgb);
    }
    embed_crops(network, entry, &crops)
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
    let size = (entry.input.width, entry.input.height);
    let mut embeddings = Vec::with_capacity(crops.len());
    for chunk in crops.chunks(MAX_BATCH) {
        let mut values = run(network, entry, spec, chunk, size)?;
        if spec.mirror {
            let mirrored: Vec<Vec<f32>> = chunk.iter().map(|c| mirrored(c, size.0 as usize)).collect();
            for (a, b) in values.iter_mut().zip(run(network, entry, spec, &mirrored, size)?) {
                a.iter_mut().zip(b).for_each(|(a, b)| *a = (*a + b) / 2.0);
            }
        }
        for mut vector in values {
            if spec.distance == super::Distance::Cosine {
                let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
                vector.iter_mut().for_each(|v| *v /= norm);
            }
            if !vector.iter().all(|v| v.is_finite()) {
                return Err(NetworkError::Run("the embedding holds values that are not finite".into()));
            }
            embeddings.push(Embedding { model: entry.id.clone(), distance: spec.distance, values: vector.into() });
        }
    }
    Ok(embeddings)
}

fn run(
    network: &mut dyn Network,
    entry: &ModelEntry,
    spec: &EmbedderSpec,
    crops: &[Vec<f32>],
    size: (u32, u32),
) -> Result<Vec<Vec<f32>>, NetworkError> {
    let mut input = tensor(crops.len(), size, entry.input.layout);
    for (i, rgb) in crops.iter().enumerate() {
        fill(&mut input, i, rgb, size, &entry.input);
    }
    let outputs = network.run(&input)?;
    let output = outputs.first().filter(|t| t.data.len() == crops.len() * spec.size).ok_or_else(|| {
        let shape = outputs.first().map(|t| t.shape.clone());
        NetworkError::Run(format!("output {shape:?} is not [{}, {}] as the manifest says", crops.len(), spec.size))
    })?;
    Ok(output.data.chunks_exact(spec.size).map(<[f32]>::to_vec).collect())
}

fn mirrored(rgb: &[f32], width: usize) -> Vec<f32> {
    rgb.chunks_exact(width * 3).flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_twice_gives_the_crop_back() {
        let crop: Vec<f32> = (0..4 * 3 * 3).map(|v| v as f32).collect();
        assert_eq!(mirrored(&crop, 4)[..3], crop[9..12]);
        assert_eq!(mirrored(&mirrored(&crop, 4), 4), crop);
    }

    #[test]
    fn channels_and_axes_follow_the_manifest() {
        let mut input = InputSpec {
            width: 2,
            height: 1,
            layout: Layout::Nchw,
            color: ColorOrder::Bgr,
            mean: [1.0, 2.0, 3.0],
            scale: [1.0, 1.0, 0.5],
        };
        let rgb = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let mut t = tensor(1, (2, 1), Layout::Nchw);
        fill(&mut t, 0, &rgb, (2, 1), &input);
        assert_eq!(t.as_slice().unwrap(), [29.0, 59.0, 18.0, 48.0, 3.5, 18.5]);
        (input.layout, input.color) = (Layout::Nhwc, ColorOrder::Rgb);
        let mut t = tensor(1, (2, 1), Layout::Nhwc);
        fill(&mut t, 0, &rgb, (2, 1), &input);
        assert_eq!(t.as_slice().unwrap(), [9.0, 18.0, 13.5, 39.0, 48.0, 28.5]);
    }
}
