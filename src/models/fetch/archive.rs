//! One file out of an archive (zip, whl, tgz, tar.gz), in memory.

use std::{fs::File, io::Read, path::Path};

use super::{FetchError, MAX_FILE, limited};

/// Most bytes that are unpacked while a file is looked for: a small archive may hold any number of zeros.
const MAX_UNPACKED: u64 = 4 << 30;

/// The files at `paths`, in that order; a path may leave out the archive's first folder, as source archives have one.
pub(super) fn extract(archive: &Path, paths: &[String]) -> Result<Vec<Vec<u8>>, FetchError> {
    extract_limited(archive, paths, MAX_FILE, MAX_UNPACKED)
}

fn extract_limited(archive: &Path, paths: &[String], file: u64, unpacked: u64) -> Result<Vec<Vec<u8>>, FetchError> {
    let name = archive.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let zipped = [".whl", ".zip"].iter().any(|end| name.ends_with(end));
    let out = if zipped { from_zip(archive, paths, file) } else { from_tar(archive, paths, file, unpacked) };
    out.map_err(|(path, fault)| match fault {
        Fault::TooLarge => FetchError::TooLarge { what: format!("{path} of {name}"), limit: file },
        Fault::Broken(message) => FetchError::Archive { archive: name, path, message },
    })
}

enum Fault {
    TooLarge,
    Broken(String),
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Broken(error.to_string())
    }
}

fn from_zip(archive: &Path, paths: &[String], limit: u64) -> Result<Vec<Vec<u8>>, (String, Fault)> {
    let first = || paths.first().cloned().unwrap_or_default();
    let file = File::open(archive).map_err(|e| (first(), e.into()))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|e| (first(), e.into()))?;
    let mut one =
        |path: &String| -> Result<Vec<u8>, Fault> { limited(zip.by_name(path)?, limit)?.ok_or(Fault::TooLarge) };
    paths.iter().map(|path| one(path).map_err(|fault| (path.clone(), fault))).collect()
}

fn from_tar(archive: &Path, paths: &[String], limit: u64, unpacked: u64) -> Result<Vec<Vec<u8>>, (String, Fault)> {
    let mut found: Vec<Option<Vec<u8>>> = vec![None; paths.len()];
    let mut scan = || -> Result<(), Fault> {
        let file = flate2::read::GzDecoder::new(File::open(archive)?);
        let mut tar = tar::Archive::new(file.take(unpacked));
        for entry in tar.entries()? {
            let entry = entry?;
            let whole = entry.path()?.into_owned();
            let inner: std::path::PathBuf = whole.components().skip(1).collect();
            let wanted = paths.iter().position(|p| whole == Path::new(p) || inner == Path::new(p));
            // Only plain files: a link has no bytes of its own.
            if let Some(slot) = wanted.and_then(|i| found.get_mut(i)).filter(|_| entry.header().entry_type().is_file())
            {
                *slot = Some(limited(entry, limit)?.ok_or(Fault::TooLarge)?);
                if found.iter().all(Option::is_some) {
                    break;
                }
            }
        }
        Ok(())
    };
    scan().map_err(|fault| (paths.join(", "), fault))?;
    let missing = || Fault::Broken("there is no such file in it".into());
    found.into_iter().zip(paths).map(|(file, path)| file.ok_or_else(|| (path.clone(), missing()))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tarball(folder: &Path, files: &[(&str, &[u8])]) -> std::path::PathBuf {
        let path = folder.join("package-1.0.tgz");
        let gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            // Written by hand: the builder itself refuses paths that climb out.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn files_come_in_the_order_asked_for_with_or_without_the_first_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = tarball(folder.path(), &[("package/a.bin", b"A"), ("../../evil", b"E"), ("package/b/c.json", b"C")]);
        let files = extract(&path, &names(&["b/c.json", "package/a.bin"])).unwrap();
        assert_eq!(files, [b"C".to_vec(), b"A".to_vec()]);
        let error = extract(&path, &names(&["a.bin", "nope"])).unwrap_err().to_string();
        assert!(error.contains("nope") && error.contains("package-1.0.tgz"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was unpacked to disk");
    }

    #[test]
    fn bombs_and_broken_archives_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = tarball(folder.path(), &[("package/zeros", &[0; 300_000]), ("package/last", b"x")]);
        let big = extract_limited(&path, &names(&["zeros"]), 1000, 1 << 30).unwrap_err();
        assert!(matches!(big, FetchError::TooLarge { limit: 1000, .. }), "{big}");
        assert!(extract_limited(&path, &names(&["last"]), 1000, 200_000).is_err(), "unpacked past the limit");
        std::fs::write(&path, b"\x1f\x8bnot gzip").unwrap();
        assert!(matches!(extract(&path, &names(&["a"])), Err(FetchError::Archive { .. })));

        let wheel = folder.path().join("x-1-py3-none-any.whl");
        let mut zip = zip::ZipWriter::new(File::create(&wheel).unwrap());
        zip.start_file("x/zeros", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&[0; 300_000]).unwrap();
        zip.finish().unwrap();
        assert_eq!(extract(&wheel, &names(&["x/zeros"])).unwrap()[0].len(), 300_000);
        assert!(matches!(extract_limited(&wheel, &names(&["x/zeros"]), 1000, 1000), Err(FetchError::TooLarge { .. })));
    }
}
