//! Our way from pixels to detections and embeddings, against outputs that other code computed from the same pictures.
//!
//! The pictures are not part of the project: `VISAGE_TESTDATA` names the folder that has them under `golden/`. Without it these
//! tests say loudly that they were skipped; `models::tests` pins the networks themselves on every machine.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use visage::{
    face::{Detection, FaceEngine, alignment, embedder},
    frame::{BBox, Picture, Point, still},
    inference::{InferenceSettings, OrtSession, environment, manifest::CropRecipe},
    models::{self, LoadedModel, locate},
};

#[derive(Deserialize)]
struct GoldenFace {
    #[serde(alias = "box_xyxy")]
    bbox: [f32; 4],
    score: f32,
    landmarks: [[f32; 2]; 5],
}

#[derive(Deserialize)]
struct GoldenCrop {
    crop: String,
    image: String,
    face: usize,
    /// Picture to crop, two rows of three.
    matrix: [[f32; 3]; 2],
    descriptor: Vec<f32>,
}

fn golden() -> Option<PathBuf> {
    let folder = std::env::var_os("VISAGE_TESTDATA").map(|root| Path::new(&root).join("golden"));
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        crate::support::skipped("VISAGE_TESTDATA names no folder with golden pictures");
    }
    folder
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn picture(path: &Path) -> Picture {
    let limits = still::StillLimits { bytes: 16 << 20, pixels: 64 << 20 };
    still::decode(&std::fs::read(path).unwrap(), &limits).unwrap()
}

fn model(id: &str) -> LoadedModel {
    let manifest = models::manifest::load(None).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models");
    models::load(&folder, &id.parse().unwrap(), &manifest).unwrap()
}

/// The golden descriptors are those of the crop alone, without its mirror image.
fn plain(id: &str) -> LoadedModel {
    let mut model = model(id);
    model.entry.embedder.as_mut().unwrap().mirror = false;
    model
}

fn settings(side: u32) -> InferenceSettings {
    let runtime_library = locate::runtime_library("").unwrap().display().to_string();
    InferenceSettings { runtime_library, workers: 1, detector_size: side, min_score: 0.5, ..Default::default() }
}

/// The same faces in the same order, boxes and landmarks within `px` pixels, scores within `score`.
fn same_faces(name: &str, found: &[Detection], wanted: &[GoldenFace], (px, score): (f32, f32)) {
    assert_eq!(found.len(), wanted.len(), "{name}: another number of faces");
    for (got, want) in found.iter().zip(wanted) {
        let near = |a: f32, b: f32| (a - b).abs() <= px;
        let BBox { x1, y1, x2, y2 } = got.bbox;
        let boxes = [x1, y1, x2, y2].iter().zip(want.bbox).all(|(a, b)| near(*a, b));
        let marks = got.landmarks.iter().zip(want.landmarks).all(|(p, [x, y])| near(p.x, x) && near(p.y, y));
        assert!(boxes && marks && (got.score - want.score).abs() <= score, "{name}: {got:?}");
    }
}

async fn detections_agree(folder: &Path, images: Vec<(String, Vec<GoldenFace>)>, within: (f32, f32)) {
    for (name, wanted) in images {
        let picture = picture(&folder.join(&name));
        // At this side the picture is the network's input as it is.
        let side = picture.width().max(picture.height());
        let engine = FaceEngine::start(&settings(side), model("retinaface-mnet025"), model("dlib-resnet")).unwrap();
        let found = engine.detect(&picture, None).await.unwrap();
        same_faces(&name, &found, &wanted, within);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_found_where_the_reference_finds_them() {
    #[derive(Deserialize)]
    struct Image {
        faces: Vec<GoldenFace>,
    }
    #[derive(Deserialize)]
    struct File {
        images: std::collections::BTreeMap<String, Image>,
    }
    let Some(folder) = golden() else { return };
    let file: File = json(&folder.join("detections.json"));
    assert!(file.images.len() >= 6);
    detections_agree(&folder, file.images.into_iter().map(|(name, image)| (name, image.faces)).collect(), (0.5, 1e-3))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_of_letterboxed_pictures_are_found_where_a_second_reference_finds_them() {
    #[derive(Deserialize)]
    struct Image {
        input_png: String,
        faces: Vec<GoldenFace>,
    }
    #[derive(Deserialize)]
    struct File {
        images: Vec<Image>,
    }
    let Some(folder) = golden().map(|f| f.join("letterboxed")) else { return };
    let file: File = json(&folder.join("golden.json"));
    assert!(file.images.len() >= 8);
    let images = file.images.into_iter().map(|image| (image.input_png, image.faces)).collect();
    detections_agree(&folder, images, (0.05, 1e-4)).await;
}

fn crops(folder: &Path) -> Vec<GoldenCrop> {
    #[derive(Deserialize)]
    struct File {
        crops: Vec<GoldenCrop>,
    }
    let file: File = json(&folder.join("embeddings.json"));
    assert!(file.crops.len() >= 5);
    file.crops
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn crops_give_the_reference_descriptors() {
    let Some(folder) = golden() else { return };
    let model = plain("dlib-resnet");
    let settings = settings(640);
    let environment = environment(Path::new(&settings.runtime_library)).unwrap();
    let mut network = OrtSession::load(&environment, &model.path.as_path().into(), &settings).unwrap();
    for golden in crops(&folder) {
        let crop = image::open(folder.join(&golden.crop)).unwrap().into_rgb8();
        let rgb: Vec<f32> = crop.as_raw().iter().map(|v| f32::from(*v)).collect();
        let embedding = embedder::embed_crops(&mut network, &model.entry, &[rgb]).unwrap().remove(0);
        let off = largest_difference(&embedding.values, &golden.descriptor);
        assert!(off < 1e-3, "{}: {off}", golden.crop);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_pictures_give_the_reference_crops_and_descriptors() {
    let Some(folder) = golden() else { return };
    let model = plain("dlib-resnet");
    let Some(CropRecipe::Landmarks { template }) = model.entry.embedder.as_ref().map(|e| e.crop.clone()) else {
        panic!("the default embedder aligns by landmarks")
    };
    let engine = FaceEngine::start(&settings(640), self::model("retinaface-mnet025"), model).unwrap();
    for golden in crops(&folder) {
        let picture = picture(&folder.join(&golden.image));
        let found = engine.detect(&picture, None).await.unwrap();
        let face = found[golden.face];
        let transform = alignment::similarity(&face.landmarks, &alignment::template(&template)).unwrap();
        let [[a, minus_b, tx], [b, _, ty]] = golden.matrix;
        assert!((transform.a - a).abs() < 2e-3 && (transform.b - b).abs() < 2e-3 && (minus_b + b).abs() < 1e-6);
        let corner = transform.apply(Point::new(face.bbox.x1, face.bbox.y1));
        let (x, y) = (a * face.bbox.x1 - b * face.bbox.y1 + tx, b * face.bbox.x1 + a * face.bbox.y1 + ty);
        assert!((corner.x - x).abs() < 0.1 && (corner.y - y).abs() < 0.1, "{corner:?} is not {x} {y}");
        let embedding = engine.embed(&picture, &[face]).await.unwrap().remove(0);
        let off = largest_difference(&embedding.values, &golden.descriptor);
        assert!(off < 1e-3, "{} of {}: {off}", golden.face, golden.image);
    }
    engine.shutdown().await;
}
