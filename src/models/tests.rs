use std::path::Path;

use ndarray::Array4;

use super::*;
use crate::inference::{InferenceSettings, Network, Tensor, ort};

/// `((c*H + y)*W + x) * 7919 mod 256`, the pattern of the reference figures.
fn pattern(height: usize, width: usize) -> Array4<f32> {
    Array4::from_shape_fn((1, 3, height, width), |(_, c, y, x)| (((c * height + y) * width + x) * 7919 % 256) as f32)
}

/// Runs a prepared model; `None`, loudly, where set-up has not been run.
fn run(id: &str, input: &Array4<f32>) -> Option<Vec<Tensor>> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
    let library = base.join("onnxruntime/libonnxruntime.so");
    let manifest = manifest::load(None).unwrap();
    let model = match load(&base.join("models"), &id.parse().unwrap(), &manifest) {
        Ok(model) if library.is_file() => model,
        other => {
            eprintln!("SKIPPED: {id} can't be run here ({other:?}); run `make setup`");
            return None;
        }
    };
    let environment = ort::environment(&library).unwrap();
    let mut session = ort::OrtSession::load(&environment, &model.path, &InferenceSettings::default()).unwrap();
    Some(session.run(input).unwrap())
}

fn close(got: f32, want: f32, within: f32, what: &str) {
    assert!((got - want).abs() <= within, "{what}: {got} is not {want}");
}

#[test]
fn the_detector_gives_the_reference_sums() {
    let mut input = pattern(96, 128);
    for (c, mean) in [104.0, 117.0, 123.0].into_iter().enumerate() {
        input.slice_mut(ndarray::s![0, c, .., ..]).mapv_inplace(|v| v - mean);
    }
    let Some(outputs) = run("retinaface-mnet025", &input) else { return };
    assert_eq!(outputs.iter().map(|t| t.shape.clone()).collect::<Vec<_>>(), [[1, 504, 4], [1, 504, 2], [1, 504, 10]]);
    close(outputs[0].data.iter().sum(), -72.2838, 0.01, "sum of loc");
    close(outputs[2].data.iter().sum(), 586.5209, 0.01, "sum of landmarks");
}

#[test]
fn a_user_brings_an_onnx_model_with_a_manifest_entry_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.onnx"), b"any bytes: loading them is the runtime's business").unwrap();
    let text = r#"
[[model]]
id = "mine"
role = "embedder"
description = "my own"
licence = "mine"
sources = []
convert = "none"
onnx_sha256 = ""
input = { width = 112, height = 112, layout = "nchw", color = "rgb", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }
embedder = { size = 256, distance = "cosine", identification_threshold = 0.5, verification_threshold = 0.4, margin = 0.0, min_face_px = 40.0, calibration = { midpoint = 0.4, slope = 20.0 }, crop = { kind = "box", margin = 0.0 } }
"#;
    let path = folder.path().join("manifest.toml");
    fs::write(&path, text).unwrap();
    let manifest = manifest::load(Some(&path)).unwrap();
    let id: ModelId = "mine".parse().unwrap();
    assert_eq!(load(folder.path(), &id, &manifest).unwrap().entry.embedder.unwrap().size, 256);
    assert!(manifest.entry(&"dlib-resnet".parse().unwrap()).is_ok(), "the built-in models stay");

    for (from, to, word) in [
        ("licence", "license", "license"),
        ("width = 112", "width = 0", "input.width"),
        ("onnx_sha256 = \"\"", "onnx_sha256 = \"12\"", "onnx_sha256"),
        ("size = 256", "size = 0", "embedder.size"),
        ("sources = []", "sources = [{ from = \"ftp://x\", sha256 = [] }]", "ftp"),
    ] {
        fs::write(&path, text.replace(from, to)).unwrap();
        let error = manifest::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn missing_wrong_and_unknown_models_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest::load(None).unwrap();
    let id: ModelId = "retinaface-mnet025".parse().unwrap();
    let missing = load(folder.path(), &id, &manifest).unwrap_err().to_string();
    assert!(missing.contains("visage models pull retinaface-mnet025"), "{missing}");
    fs::write(folder.path().join("retinaface-mnet025.onnx"), b"tampered").unwrap();
    assert!(matches!(load(folder.path(), &id, &manifest), Err(ModelError::WrongHash { .. })));
    assert!(matches!(load(folder.path(), &"nope".parse().unwrap(), &manifest), Err(ModelError::Unknown { .. })));
}

#[test]
fn sources_are_tried_in_order_and_all_named_when_they_fail() {
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("graph.onnx");
    fs::write(&graph, b"graph").unwrap();
    let entry = |sources: &str| {
        format!(
            "[[model]]\nid = \"m\"\nrole = \"embedder\"\ndescription = \"\"\nlicence = \"\"\nconvert = \"none\"\nonnx_sha256 = \"{}\"\nsources = [{sources}]\n\
             input = {{ width = 16, height = 16, layout = \"nchw\", color = \"rgb\", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }}\n\
             embedder = {{ size = 2, distance = \"cosine\", identification_threshold = 0.5, verification_threshold = 0.4, margin = 0.0, min_face_px = 1.0, calibration = {{ midpoint = 0.4, slope = 20.0 }}, crop = {{ kind = \"box\", margin = 0.0 }} }}\n",
            sha256(b"graph")
        )
    };
    let path = folder.path().join("manifest.toml");
    let gone = "{ from = \"file:/no/such/mirror\", sha256 = [] }";
    fs::write(&path, entry(&format!("{gone}, {{ from = \"file:{}\", sha256 = [] }}", graph.display()))).unwrap();
    let id: ModelId = "m".parse().unwrap();
    let manifest = manifest::load(Some(&path)).unwrap();
    let out = folder.path().join("models");
    assert_eq!(pull::pull(&out, &id, &manifest, &mut |_, _, _| {}).unwrap(), pull::Pulled::Fetched);
    assert_eq!(pull::pull(&out, &id, &manifest, &mut |_, _, _| {}).unwrap(), pull::Pulled::Present);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "a half-written file was left");
    fs::write(&path, entry(gone)).unwrap();
    let manifest = manifest::load(Some(&path)).unwrap();
    let error = pull::pull(&folder.path().join("other"), &id, &manifest, &mut |_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("/no/such/mirror"), "{error}");
}
