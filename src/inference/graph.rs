//! Where a session's graph comes from.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A model's file, or a graph that was made from it.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphSource {
    path: PathBuf,
    made: Option<Arc<[u8]>>,
}

impl GraphSource {
    /// A graph (ONNX) made from a file.
    pub fn made(path: &Path, graph: Vec<u8>) -> Self {
        Self { path: path.to_owned(), made: Some(graph.into()) }
    }

    /// The model's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The graph that was made from it, where it is not the file's own.
    pub fn made_graph(&self) -> Option<&[u8]> {
        self.made.as_deref()
    }
}

impl From<&Path> for GraphSource {
    fn from(path: &Path) -> Self {
        Self { path: path.to_owned(), made: None }
    }
}
