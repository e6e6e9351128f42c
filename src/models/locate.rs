//! Where set-up put things: configured places first, then `.cache` near the program, then the system's folders.

use std::path::{Path, PathBuf};

use super::ModelError;

const LIBRARY: &str = "libonnxruntime.so";

/// `.cache/<name>` in the current folder or in a folder above the program, if there is one.
pub fn cache_dir(name: &str) -> Option<PathBuf> {
    candidates().map(|base| base.join(".cache").join(name)).find(|path| path.is_dir())
}

/// Folder of the prepared models. A folder that does not exist yet is an answer too: `visage models pull` makes it.
pub fn models_dir(configured: &str) -> PathBuf {
    if !configured.is_empty() {
        return configured.into();
    }
    let system = ["/usr/local/share/visage/models", "/usr/share/visage/models"];
    cache_dir("models")
        .or_else(|| system.iter().map(PathBuf::from).find(|path| path.is_dir()))
        .unwrap_or_else(|| ".cache/models".into())
}

/// The ONNX Runtime library.
///
/// # Errors
/// When it is in none of the places, which are named.
pub fn runtime_library(configured: &str) -> Result<PathBuf, ModelError> {
    if !configured.is_empty() {
        let path = PathBuf::from(configured);
        return if path.is_file() { Ok(path) } else { Err(ModelError::NoRuntime(configured.to_owned())) };
    }
    let mut looked: Vec<PathBuf> = candidates().map(|base| base.join(".cache/onnxruntime").join(LIBRARY)).collect();
    looked.extend(["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu"].map(|dir| Path::new(dir).join(LIBRARY)));
    looked.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let places: Vec<String> = looked.iter().map(|p| p.display().to_string()).collect();
        ModelError::NoRuntime(places.join(", "))
    })
}

/// The current folder and the folders above the program (`target/release/visage` finds the repository).
fn candidates() -> impl Iterator<Item = PathBuf> {
    let here = std::env::current_dir().ok();
    let program = std::env::current_exe().ok();
    let above: Vec<PathBuf> =
        program.iter().flat_map(|p| p.ancestors().skip(1).take(4)).map(Path::to_path_buf).collect();
    here.into_iter().chain(above)
}
