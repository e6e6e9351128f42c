use std::path::Path;

use ndarray::Array4;

use super::*;
use crate::inference::{InferenceSettings, Input, Network, ort};

/// An output, copied.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// `((c*H + y)*W + x) * 7919 mod 256`, the pattern of the reference figures.
fn pattern(height: usize, width: usize) -> Array4<f32> {
    Array4::from_shape_fn((1, 3, height, width), |(_, c, y, x)| (((c * height + y) * width + x) * 7919 % 256) as f32)
}

/// Figures of reference runs: sums and ends of the detector's outputs, both embeddings of the pattern.
#[derive(serde::Deserialize)]
struct Reference {
    retinaface: std::collections::HashMap<String, Output>,
    mobilefacenet: Vec<f32>,
    /// Of dlib's weights in full precision.
    dlib: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Output {
    shape: Vec<usize>,
    sum: f32,
    first8: Vec<f32>,
    last4: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("testdata/tensors.json")).unwrap()
}

/// Of the pattern divided by 255.
const LIVENESS: [f32; 2] = [0.577_994_9, 0.422_005_06];
const ANTISPOOF: [f32; 1] = [0.743_785_7];

fn cache() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache")
}

/// Runs a prepared model; `None`, loudly, where set-up has not been run.
fn run(id: &str, input: &Array4<f32>) -> Option<Vec<Tensor>> {
    let manifest = manifest::load(None).unwrap();
    match load(&cache().join("models"), &id.parse().unwrap(), &manifest) {
        Ok(model) => run_file(&model.path, input),
        Err(ModelError::Missing { .. }) => {
            crate::telemetry::skipped(&format!("{id} is not here; run `make setup` and `visage models pull {id}`"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn run_file(path: &Path, input: &Array4<f32>) -> Option<Vec<Tensor>> {
    let library = cache().join("onnxruntime/libonnxruntime.so");
    if !library.is_file() {
        crate::telemetry::skipped(&format!("{} is not here; run `make setup`", library.display()));
        return None;
    }
    let environment = ort::environment(&library).unwrap();
    let mut session = ort::OrtSession::load(&environment, &path.into(), &InferenceSettings::default()).unwrap();
    let (n, c, h, w) = input.dim();
    let input = Input::new([n, c, h, w], input.iter().copied().collect()).unwrap();
    let mut tensors = Vec::new();
    let read = &mut |outputs: &[crate::inference::Output<'_>]| {
        let shape = |axes: &[i64]| axes.iter().map(|axis| *axis as usize).collect();
        let copy = |o: &crate::inference::Output<'_>| Tensor {
            name: o.name.to_owned(),
            shape: shape(o.shape),
            data: o.data.to_vec(),
        };
        tensors = outputs.iter().map(copy).collect();
        Ok(())
    };
    session.run(&input, read).unwrap();
    Some(tensors)
}

fn close(got: f32, want: f32, within: f32, what: &str) {
    assert!((got - want).abs() <= within, "{what}: {got} is not {want}");
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

#[test]
fn the_detector_gives_the_reference_outputs() {
    let mut input = pattern(96, 128);
    for (c, mean) in [104.0, 117.0, 123.0].into_iter().enumerate() {
        input.slice_mut(ndarray::s![0, c, .., ..]).mapv_inplace(|v| v - mean);
    }
    let Some(outputs) = run("retinaface-mnet025", &input) else { return };
    assert_eq!(outputs.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["loc", "conf", "landmarks"]);
    for output in outputs {
        let want = &reference().retinaface[&output.name];
        assert_eq!(output.shape, want.shape);
        let sum: f64 = output.data.iter().map(|v| f64::from(*v)).sum();
        close(sum as f32, want.sum, 0.01, &output.name);
        assert!(largest_difference(&output.data[..8], &want.first8) < 1e-4, "{}", output.name);
        assert!(largest_difference(&output.data[output.data.len() - 4..], &want.last4) < 1e-4, "{}", output.name);
    }
}

#[test]
fn the_face_resnet_gives_the_reference_embedding_as_far_as_eight_bits_go() {
    let Some(outputs) = run("dlib-resnet", &pattern(150, 150)) else { return };
    let off = distance(&outputs[0].data, &reference().dlib);
    // Weights of 8 bits move an embedding by about 0.04 (median over faces 0.038); the full-precision source by nothing.
    assert!(off < 0.05, "{off}");
    eprintln!("dlib-resnet: distance to the full-precision reference {off:.4}");
}

#[test]
fn the_repaired_mobilefacenet_gives_the_reference_embedding() {
    let input = pattern(112, 112).mapv(|v| v / 127.5 - 1.0);
    let Some(outputs) = run("mobilefacenet", &input) else { return };
    let off = largest_difference(&outputs[0].data, &reference().mobilefacenet);
    assert!(off < 1e-5, "{off}");
}

/// dlib's file, where someone has put it (it comes in a package of 100 MB): the converter then gives the reference to 1e-5.
#[test]
fn dlibs_own_file_gives_the_reference_embedding() {
    let dat = cache().join("dl/dlib_face_recognition_resnet_model_v1.dat");
    let Ok(file) = fs::read(&dat) else {
        crate::telemetry::skipped(&format!("{} is not here (PyPI face_recognition_models 0.3.0)", dat.display()));
        return;
    };
    let onnx = convert::convert(crate::inference::manifest::Convert::DlibDat, &[file]).unwrap();
    let manifest = manifest::load(None).unwrap();
    let entry = manifest.entry(&"dlib-resnet".parse().unwrap()).unwrap();
    assert!(entry.sources.iter().any(|s| s.onnx_sha256 == Some(sha256(&onnx))), "{}", sha256(&onnx));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.onnx");
    fs::write(&path, onnx).unwrap();
    let Some(outputs) = run_file(&path, &pattern(150, 150)) else { return };
    let off = largest_difference(&outputs[0].data, &reference().dlib);
    assert!(off < 1e-5, "{off}");
}

/// `scripts/prove-facenet.sh` leaves an export of random weights and PyTorch's own answer in `.cache/proof`.
#[test]
fn the_exported_facenet_gives_what_pytorch_gives() {
    #[derive(serde::Deserialize)]
    struct Proof {
        embedding: Vec<f32>,
    }
    let folder = cache().join("proof");
    let Ok(text) = fs::read_to_string(folder.join("reference.json")) else {
        crate::telemetry::skipped(&format!(
            "{} holds no export; run scripts/prove-facenet.sh (needs PyTorch)",
            folder.display()
        ));
        return;
    };
    let proof: Proof = serde_json::from_str(&text).unwrap();
    let input = pattern(160, 160).mapv(|v| (v - 127.5) / 128.0);
    let Some(outputs) = run_file(&folder.join("facenet-random.onnx"), &input) else { return };
    let off = largest_difference(&outputs[0].data, &proof.embedding);
    assert!(off < 1e-4, "{off}");
}

/// A network of one operation that anybody could have exported: `[batch, 3, 16, 16]` → mean of each channel.
fn small_onnx() -> Vec<u8> {
    convert::channel_means(16)
}

#[test]
fn a_user_brings_an_onnx_model_with_a_manifest_entry_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.onnx"), small_onnx()).unwrap();
    let text = r#"
[[model]]
id = "mine"
role = "embedder"
description = "my own"
licence = "mine"
sources = []
convert = "none"
onnx_sha256 = ""
input = { width = 16, height = 16, layout = "nchw", color = "rgb", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }
embedder = { size = 3, distance = "cosine", identification_threshold = 0.5, verification_threshold = 0.4, margin = 0.0, min_face_px = 40.0, calibration = { midpoint = 0.4, slope = 20.0 }, crop = { kind = "box", margin = 0.0 } }
"#;
    let path = folder.path().join("manifest.toml");
    fs::write(&path, text).unwrap();
    let manifest = manifest::load(Some(&path)).unwrap();
    let id: ModelId = "mine".parse().unwrap();
    let model = load(folder.path(), &id, &manifest).unwrap();
    assert_eq!(model.entry.embedder.as_ref().unwrap().size, 3);
    assert!(manifest.entry(&"dlib-resnet".parse().unwrap()).is_ok(), "the built-in models stay");
    if let Some(outputs) = run_file(&model.path, &pattern(16, 16)) {
        assert_eq!((outputs[0].shape.as_slice(), outputs[0].data.len()), (&[1, 3][..], 3));
        close(outputs[0].data[0], pattern(16, 16).slice(ndarray::s![0, 0, .., ..]).mean().unwrap(), 1e-3, "channel 0");
    }

    let network = "sources = [{ from = \"npm:x@1/y\", sha256 = [] }]";
    let two = "sources = [{ from = \"npm:x@1/y\", sha256 = [\"HASH\", \"HASH\"] }]".replace("HASH", &"a".repeat(64));
    for (from, to, word) in [
        ("licence", "license", "license"),
        ("width = 16", "width = 0", "input.width"),
        ("onnx_sha256 = \"\"", "onnx_sha256 = \"12\"", "onnx_sha256"),
        ("size = 3", "size = 0", "embedder.size"),
        ("sources = []", "sources = [{ from = \"ftp://x\", sha256 = [] }]", "ftp"),
        ("sources = []", network, "needs sha256"),
        ("sources = []", &two, "1 files are read, 2 hashes"),
        ("kind = \"box\", margin = 0.0", "kind = \"box\", margin = 9.0", "crop.margin"),
        ("identification_threshold = 0.5", "identification_threshold = 58.0", "identification_threshold"),
        ("slope = 20.0", "slope = -1.0", "slope"),
        ("scale = [1.0", "scale = [0.0", "input.scale"),
        ("id = \"mine\"", "id = \"My Model\"", "My Model"),
        ("role = \"embedder\"", "role = \"detector\"", "model mine"),
    ] {
        let faulty = text.replace(from, to);
        assert_ne!(faulty, text, "{from}");
        fs::write(&path, faulty).unwrap();
        let error = manifest::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("manifest.toml"), "{error}");
    }
    fs::write(&path, format!("{text}{text}")).unwrap();
    assert!(manifest::load(Some(&path)).unwrap_err().to_string().contains("twice"));
    assert!(manifest::load(Some(Path::new("/no/such/manifest.toml"))).is_err());
}

#[test]
fn every_built_in_model_is_pinned() {
    for entry in manifest::load(None).unwrap().entries() {
        assert!(!entry.sources.is_empty(), "{}", entry.id);
        assert!(entry.sources.iter().all(|s| !s.sha256.is_empty()), "{}: a source without hashes", entry.id);
        let exported = entry.convert == crate::inference::manifest::Convert::FacenetPytorch;
        assert_eq!(entry.onnx_sha256.is_empty(), exported, "{}", entry.id);
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

#[test]
fn a_model_without_a_hash_is_pinned_when_it_is_pulled() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("graph.onnx");
    fs::write(&graph, b"graph").unwrap();
    let mut entry = manifest::load(None).unwrap().entry(&"mobilefacenet".parse().unwrap()).unwrap().clone();
    entry.id = "m".parse().unwrap();
    entry.convert = crate::inference::manifest::Convert::None;
    entry.onnx_sha256 = String::new();
    entry.sources.truncate(1);
    entry.sources[0].from = format!("file:{}", graph.display());
    entry.sources[0].sha256 = vec![sha256(b"graph")];
    let manifest = Manifest::of(vec![entry]);
    let (dir, id) = (folder.path().join("models"), "m".parse().unwrap());
    pull::pull(&dir, &id, &manifest, &mut |_, _, _| {}).unwrap();
    let path = load(&dir, &id, &manifest).unwrap().path;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "others can't read it");
    fs::write(&path, b"changed").unwrap();
    let error = load(&dir, &id, &manifest).unwrap_err();
    assert!(matches!(error, ModelError::WrongHash { .. }), "{error}");
    assert_eq!(
        pull::pull(&dir, &id, &manifest, &mut |_, _, _| {}).unwrap(),
        pull::Pulled::Fetched,
        "it was not mended"
    );
    assert!(load(&dir, &id, &manifest).is_ok());
}

#[test]
fn a_source_that_becomes_another_graph_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("graph.onnx");
    fs::write(&graph, b"graph").unwrap();
    let mut entry = manifest::load(None).unwrap().entry(&"mobilefacenet".parse().unwrap()).unwrap().clone();
    entry.convert = crate::inference::manifest::Convert::None;
    entry.sources.truncate(1);
    entry.sources[0].from = format!("file:{}", graph.display());
    entry.sources[0].sha256 = Vec::new();
    let (id, manifest) = (entry.id.clone(), Manifest::of(vec![entry]));
    let dir = folder.path().join("models");
    let error = pull::pull(&dir, &id, &manifest, &mut |_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains(&sha256(b"graph")) && error.contains("mobilefacenet.onnx"), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

/// The smallest graph with every operation of the plain classifiers, computed by hand: the last pixel of the pooled picture has red 9 and
/// blue 5, so the dense layer gives 2·9 + 0.5 + 0.1 and 3·(5 − 1) + 0.25 + 0.2.
#[test]
fn a_plain_tfjs_classifier_is_converted_operation_by_operation() {
    let (json, bin) = convert::tfjs_classifier::tests::small();
    let files = [serde_json::to_vec(&json).unwrap(), bin];
    let onnx = convert::convert(crate::inference::manifest::Convert::TfjsClassifier, &files).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.onnx");
    fs::write(&path, onnx).unwrap();
    let mut input = Array4::zeros((1, 3, 4, 4));
    input[[0, 0, 3, 2]] = 9.0;
    input[[0, 2, 2, 3]] = 5.0;
    // Elsewhere, and in the plane that nobody looks at: must not count.
    input[[0, 0, 0, 0]] = 50.0;
    input[[0, 1, 3, 3]] = 70.0;
    let Some(outputs) = run_file(&path, &input) else { return };
    let (a, b) = (18.6f32, 12.45f32);
    assert_eq!(outputs[0].shape, [1, 2]);
    close(outputs[0].data[0], 1.0 / (1.0 + (b - a).exp()), 1e-6, "the softmax");
}

/// Figures of an independent forward pass in NumPy from the package's own files; docs/models.md says how.
#[test]
fn the_liveness_models_give_the_reference_scores() {
    for (id, edge, want) in [("liveness", 32, &LIVENESS[..]), ("antispoof", 128, &ANTISPOOF[..])] {
        let Some(outputs) = run(id, &pattern(edge, edge).mapv(|v| v / 255.0)) else { continue };
        assert!(largest_difference(&outputs[0].data, want) < 1e-5, "{id}: {:?}", outputs[0].data);
    }
}
