//! The runtime library, loaded once for the process.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::environment::Environment;

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library does not load.
    #[error(
        "the ONNX Runtime library {path} can't be loaded ({message}); run `make setup`, or set inference.runtime_library"
    )]
    Load {
        /// Which file.
        path: PathBuf,
        /// What the loader said.
        message: String,
    },
    /// The library is there, the environment is not.
    #[error("ONNX Runtime could not be started: {0}")]
    Start(String),
}

/// The environment, with the version of its library.
static LOADED: Mutex<Option<(Environment, String)>> = Mutex::new(None);

/// The environment of this process; the first call loads the library, later calls ignore `library`.
///
/// # Errors
/// When the library can't be loaded or started.
pub fn environment(library: &Path) -> Result<Environment, RuntimeError> {
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((environment, _)) = &*loaded {
        return Ok(environment.clone());
    }
    let environment = ort::init_from(library)
        .map_err(|e| RuntimeError::Load { path: library.to_owned(), message: e.to_string() })?
        .with_name("visage")
        .with_telemetry(false)
        .build()
        .map_err(|e| RuntimeError::Start(e.to_string()))?;
    *loaded = Some((environment.clone(), version_of(library)));
    Ok(environment)
}

/// Version of the loaded library, such as `1.31.1`; empty before [`environment`].
pub fn version() -> String {
    let loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    loaded.as_ref().map(|(_, version)| version.clone()).unwrap_or_default()
}

/// The version in the library's file name (`libonnxruntime.so.1.31.1`, links followed), else the branch it was built from.
fn version_of(library: &Path) -> String {
    let file = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some((_, version)) = name.split_once(".so.") {
        return version.to_owned();
    }
    // The build text reads `ORT Build Info: git-branch=..., ...`; releases name their version in the branch `rel-X.Y.Z`.
    let branch = ort::info().split(&[' ', ','][..]).find_map(|word| word.strip_prefix("git-branch="));
    branch.map_or_else(|| "unknown".into(), |branch| branch.trim_start_matches("rel-").to_owned())
}
