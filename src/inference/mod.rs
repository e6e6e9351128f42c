//! Networks as functions of tensors; knows neither faces nor cameras.
//!
//! In: tensors from callers, each with a slot. Out: tensors. [`manifest`] says what each model expects, [`batch`] is the pure rule of
//! what runs together, [`worker`] are the threads that own sessions, [`ort`] is the one place for ONNX Runtime.

pub mod batch;
pub mod manifest;
pub mod ort;
pub mod worker;

pub use self::ort::{OrtSession, environment, version as runtime_version};

use ndarray::Array4;
use serde::{Deserialize, Serialize};

/// An output of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name in the graph.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: Vec<f32>,
}

/// Why a network could not be loaded or run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NetworkError {
    /// The file.
    #[error("the model can't be loaded: {0}")]
    Load(String),
    /// The execution provider.
    #[error("{0}")]
    Provider(String),
    /// A run.
    #[error("the model failed: {0}")]
    Run(String),
}

/// A network as a function: a batch in (NCHW or NHWC as its manifest says), tensors out.
pub trait Network: Send {
    /// Runs a batch.
    ///
    /// # Errors
    /// When the runtime refuses the shape or fails.
    fn run(&mut self, input: &Array4<f32>) -> Result<Vec<Tensor>, NetworkError>;
}

/// Which execution provider runs the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The CPU provider.
    #[default]
    Cpu,
    /// The CUDA provider; the start fails when it is absent, never falls back silently.
    Cuda,
}

/// Where pictures are looked at in tiles, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tiling {
    /// Nowhere.
    Off,
    /// On still pictures: enrolment, identification.
    #[default]
    Stills,
    /// On camera frames as well: the detector's cost is about 4 times that of the whole frame at 1080p, 12 at 1440p, 15 at 4K.
    All,
}

/// Settings of this room: section `[inference]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceSettings {
    /// Path of `libonnxruntime.so`; empty searches `.cache/onnxruntime`, beside the binary, and the system's folders.
    pub runtime_library: String,
    /// Execution provider.
    pub provider: Provider,
    /// Threads that own a session each; 0 takes one a core, at most 8 (CPU), 1 (CUDA).
    pub workers: usize,
    /// Threads inside one run of a network; 0 takes 1 (CPU with several workers are faster with one each).
    pub intra_threads: usize,
    /// Largest batch; 0 takes 1 (CPU) or 8 (CUDA).
    pub max_batch: usize,
    /// How long a batch waits to fill up, milliseconds; 0 runs what is there.
    pub batch_wait_ms: u64,
    /// Longer side of the detector's input, pixels; 160 to 1920.
    pub detector_size: u32,
    /// Least detector score of a face, 0 to 1.
    pub min_score: f32,
    /// Where pictures are looked at in tiles besides the whole, to find smaller faces.
    pub tiling: Tiling,
    /// CUDA device number.
    pub device: u32,
}

impl Default for InferenceSettings {
    fn default() -> Self {
        Self {
            runtime_library: String::new(),
            provider: Provider::Cpu,
            workers: 0,
            intra_threads: 0,
            max_batch: 0,
            batch_wait_ms: 0,
            detector_size: 640,
            min_score: 0.8,
            tiling: Tiling::Stills,
            device: 0,
        }
    }
}
