//! Networks as functions of tensors; knows neither faces nor cameras.
//!
//! In: tensors from callers, each with a slot. Out: tensors. [`manifest`] says what each model expects, [`batch`] is the pure rule of
//! what runs together, `onnx` reads and writes graphs, [`widen`] makes narrow layers of one quick, [`worker`] are the threads that own sessions, [`ort`] is the one place for ONNX Runtime. [`provider`] says what runs
//! them, [`plan`] with how many threads, from what [`trial`] measured.

pub mod batch;
pub mod graph;
pub mod manifest;
pub(crate) mod onnx;
pub mod ort;
pub mod plan;
pub mod provider;
pub mod trial;
pub mod widen;
pub mod worker;

use self::manifest::Layout;
pub use self::{
    graph::GraphSource,
    ort::{Environment, OrtSession, environment, version as runtime_version},
    plan::Plan,
    provider::Provider,
};

use serde::{Deserialize, Serialize};

/// A network's input: a batch of f32 pictures in memory that is kept from run to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    shape: [usize; 4],
    values: Vec<f32>,
}

impl Input {
    /// A batch of any shape; `None` when there are not as many values as the shape says.
    pub fn new(shape: [usize; 4], values: Vec<f32>) -> Option<Self> {
        (shape.iter().product::<usize>() == values.len()).then_some(Self { shape, values })
    }

    /// Makes room for `batch` pictures of `width` x `height` with three channels. The values are what was there before: each picture
    /// must be written.
    pub fn shape_for(&mut self, batch: usize, (width, height): (u32, u32), layout: Layout) {
        let (w, h) = (width as usize, height as usize);
        self.shape = match layout {
            Layout::Nchw => [batch, 3, h, w],
            Layout::Nhwc => [batch, h, w, 3],
        };
        self.values.resize(batch * 3 * w * h, 0.0);
    }

    /// Axes, batch first.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of each picture, in order.
    pub fn pictures(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let each = self.shape[1] * self.shape[2] * self.shape[3];
        self.values.chunks_exact_mut(each.max(1))
    }
}

/// An output of a network, in the runtime's own memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output<'a> {
    /// Its name in the graph.
    pub name: &'a str,
    /// Its axes.
    pub shape: &'a [i64],
    /// Its values, row-major.
    pub data: &'a [f32],
}

impl Output<'_> {
    /// Whether it has these axes, and the values for them.
    pub fn is_shaped(&self, axes: &[usize]) -> bool {
        let same = self.shape.iter().map(|axis| usize::try_from(*axis).ok()).eq(axes.iter().copied().map(Some));
        same && self.data.len() == axes.iter().product::<usize>()
    }
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

/// What looks at the outputs of a run; they are gone when it returns.
pub type Reader<'a> = dyn FnMut(&[Output<'_>]) -> Result<(), NetworkError> + 'a;

/// A network as a function: a batch in (NCHW or NHWC as its manifest says), tensors out.
pub trait Network: Send {
    /// Runs a batch and shows the outputs, in the graph's order, to `read`.
    ///
    /// # Errors
    /// When the runtime refuses the shape or fails, or what `read` says.
    fn run(&mut self, input: &Input, read: &mut Reader<'_>) -> Result<(), NetworkError>;
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
    /// Let TensorRT compute with 16-bit floats: faster, and similarities move a little. With `provider = "tensorrt"` only.
    pub fp16: bool,
    /// Threads that own a session each; 0 lets the start choose ([`plan`]): on a CPU with 0 intra-threads by a short trial, at most 8
    /// sessions; 2 on a graphics card.
    pub workers: usize,
    /// Threads inside one run of a network; 0 lets the start choose, 1 where `workers` is given.
    pub intra_threads: usize,
    /// Largest batch; 0 takes 1 on a CPU, and on a graphics card what a short trial finds best.
    pub max_batch: usize,
    /// How long a batch waits to fill up, milliseconds; 0 runs what is there.
    pub batch_wait_ms: u64,
    /// Longer side of the detector's input, pixels; 160 to 1920.
    pub detector_size: u32,
    /// Least detector score of a face, 0 to 1.
    pub min_score: f32,
    /// Where pictures are looked at in tiles besides the whole, to find smaller faces.
    pub tiling: Tiling,
    /// Whether camera frames are searched around what changed and around the faces that are there, and as a whole once a second only. On a
    /// CPU without tiles; elsewhere frames are always searched as a whole.
    pub search_parts: bool,
    /// Whether the detector's graph is rewritten for the CPU when it is loaded ([`crate::face::retinaface::graph`]): the same answers, sooner.
    pub rewrite_detector: bool,
    /// CUDA device number.
    pub device: u32,
}

impl Default for InferenceSettings {
    fn default() -> Self {
        Self {
            runtime_library: String::new(),
            provider: Provider::Cpu,
            fp16: false,
            workers: 0,
            intra_threads: 0,
            max_batch: 0,
            batch_wait_ms: 0,
            detector_size: 640,
            min_score: 0.8,
            tiling: Tiling::Stills,
            search_parts: true,
            rewrite_detector: true,
            device: 0,
        }
    }
}
