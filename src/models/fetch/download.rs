//! Downloads of a URL that go on where they ended: within one call, and from an earlier, interrupted one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{FetchError, MAX_FILE, Progress, read, same};
use crate::models::sha256;

/// Tries of an interrupted download; each goes on where the last one ended.
const TRIES: usize = 4;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// Longest wait for the first bytes of an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest time for a whole body: a gigabyte over a poor line, but no transfer that hangs for ever.
const BODY: Duration = Duration::from_secs(3600);

/// An unfinished download: the bytes so far and what the server calls this version of the file (its ETag).
struct Part {
    bytes: PathBuf,
    tag: PathBuf,
}

impl Part {
    fn of(url: &str, folder: &Path) -> Self {
        let name = sha256(url.as_bytes());
        let stem = name.get(..16).unwrap_or(&name);
        Self { bytes: folder.join(format!(".{stem}.part")), tag: folder.join(format!(".{stem}.etag")) }
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.bytes);
        let _ = fs::remove_file(&self.tag);
    }

    /// Where to go on, with the tag that guards against joining two versions of a file.
    fn resume(&self) -> Option<(u64, String)> {
        let have = fs::metadata(&self.bytes).ok()?.len();
        let tag = fs::read_to_string(&self.tag).ok()?;
        (have > 0 && have < MAX_FILE && !tag.is_empty()).then_some((have, tag))
    }
}

/// Downloads `url`. The part file lies in `folder` until it is whole; a whole one with another hash than `wanted` is thrown away.
pub(super) fn download(
    url: &str,
    wanted: Option<&str>,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<Vec<u8>, FetchError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_recv_body(Some(BODY))
        .build()
        .into();
    let part = Part::of(url, folder);
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(&agent, url, &part, progress) {
            Ok(()) => break,
            Err(Failed { error, again }) if !again || tries == TRIES => return Err(error),
            Err(_) => {}
        }
    }
    let bytes = read(&part.bytes)?;
    part.remove();
    if let Some(wanted) = wanted {
        same(url.to_owned(), &sha256(&bytes), wanted)?;
    }
    Ok(bytes)
}

/// Why a try ended, and whether another may help.
struct Failed {
    error: FetchError,
    again: bool,
}

/// One transfer, from where the part file ends if the server agrees.
fn attempt(agent: &ureq::Agent, url: &str, part: &Part, progress: Progress<'_>) -> Result<(), Failed> {
    let fail = |message: String, again| Failed { error: FetchError::Http { url: url.to_owned(), message }, again };
    let disk = |source: io::Error| Failed {
        error: FetchError::File { path: part.bytes.display().to_string(), source },
        again: false,
    };
    let mut request = agent.get(url);
    let resume = part.resume();
    if let Some((have, tag)) = &resume {
        request = request.header("Range", format!("bytes={have}-")).header("If-Range", tag);
    }
    let mut response = match request.call() {
        Ok(response) => response,
        Err(ureq::Error::StatusCode(416)) => {
            part.remove();
            return Err(fail("the server has no such range".into(), true));
        }
        Err(ureq::Error::StatusCode(code)) => {
            return Err(fail(format!("the server answered {code}"), code >= 500 || code == 429));
        }
        Err(other) => return Err(fail(other.to_string(), true)),
    };
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let start = resume.map_or(0, |(have, _)| if response.status().as_u16() == 206 { have } else { 0 });
    let length = header("content-length").and_then(|v| v.parse::<u64>().ok());
    let total = length.map_or(0, |length| start.saturating_add(length));
    let too_large = || Failed { error: FetchError::TooLarge { what: url.to_owned(), limit: MAX_FILE }, again: false };
    if total > MAX_FILE {
        return Err(too_large());
    }
    // Weak tags promise nothing about bytes; without a strong one the next attempt starts anew.
    let tag = header("etag").filter(|tag| tag.starts_with('"')).unwrap_or_default();
    fs::write(&part.tag, tag).map_err(disk)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&part.bytes).map_err(disk)?;
    file.set_len(start).map_err(disk)?;
    file.seek(SeekFrom::Start(start)).map_err(disk)?;
    let done = copy(response.body_mut().as_reader(), &mut file, start, total, progress);
    let done = done.map_err(|stop| match stop {
        Stop::Network(e) => fail(e.to_string(), true),
        Stop::Disk(e) => disk(e),
        Stop::TooLarge => too_large(),
    })?;
    if total > 0 && done < total {
        return Err(fail(format!("the transfer ended after {done} of {total} bytes"), true));
    }
    file.sync_all().map_err(disk)
}

enum Stop {
    Network(io::Error),
    Disk(io::Error),
    TooLarge,
}

fn copy(mut body: impl Read, file: &mut File, start: u64, total: u64, progress: Progress<'_>) -> Result<u64, Stop> {
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Stop::Network(e)),
        };
        done += count as u64;
        if done > MAX_FILE {
            return Err(Stop::TooLarge);
        }
        file.write_all(buffer.get(..count).unwrap_or_default()).map_err(Stop::Disk)?;
        progress(done, total);
    }
}
