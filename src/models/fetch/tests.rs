use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use super::*;
use crate::models::sha256;

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Answer {
    /// The whole rest.
    Whole,
    /// Half of the rest, then the connection breaks.
    Half,
    /// A status code without a body.
    Status(u16),
}

/// A server that knows ranges; gives each answer once, and back the `Range` headers it saw ("" for none).
fn server(body: &'static [u8], etag: &'static str, answers: Vec<Answer>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/model.bin", listener.local_addr().unwrap().port());
    let served = thread::spawn(move || answers.into_iter().map(|a| serve(&listener, body, etag, a)).collect());
    (url, served)
}

fn serve(listener: &TcpListener, body: &[u8], etag: &str, answer: Answer) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut range, mut guard) = (String::new(), String::new());
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap();
        match line.to_lowercase().split_once(": ") {
            Some(("range", value)) => range = value.to_owned(),
            Some(("if-range", value)) => guard = value.to_owned(),
            _ => {}
        }
        if line.is_empty() {
            break;
        }
    }
    let asked = range.strip_prefix("bytes=").map_or(0, |r| r.trim_end_matches('-').parse().unwrap());
    let from = if guard == etag { asked } else { 0 };
    let rest = &body[from..];
    let tag = if etag.is_empty() { String::new() } else { format!("ETag: {etag}\r\n") };
    let (status, sent) = match answer {
        Answer::Status(code) => (format!("{code} No"), &rest[..0]),
        Answer::Whole if from > 0 => ("206 Partial Content".into(), rest),
        Answer::Half if from > 0 => ("206 Partial Content".into(), &rest[..rest.len() / 2]),
        Answer::Whole => ("200 OK".into(), rest),
        Answer::Half => ("200 OK".into(), &rest[..rest.len() / 2]),
    };
    let length = if matches!(answer, Answer::Status(_)) { 0 } else { rest.len() };
    write!(stream, "HTTP/1.1 {status}\r\n{tag}Content-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(sent).unwrap();
    range
}

static BODY: [u8; 200_000] = {
    let mut body = [0; 200_000];
    let mut i = 0;
    while i < body.len() {
        body[i] = (i * 31 % 251) as u8;
        i += 1;
    }
    body
};

fn source(from: String, sha256: Vec<String>) -> Source {
    Source { from, sha256, package_sha256: None, convert: None, onnx_sha256: None }
}

fn just(path: &str) -> Vec<String> {
    vec![path.to_owned()]
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (url, served) = server(&BODY, "\"v1\"", vec![Answer::Half, Answer::Status(503), Answer::Half, Answer::Whole]);
    let mut last = (0, 0);
    let source = source(url, vec![sha256(&BODY)]);
    let files = fetch(&source, &just, folder.path(), &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(files[0], BODY);
    assert_eq!(last, (200_000, 200_000));
    assert_eq!(served.join().unwrap(), ["", "bytes=100000-", "bytes=100000-", "bytes=150000-"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a part file was left");
}

#[test]
fn the_next_call_goes_on_with_what_an_ended_process_left() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/model.bin", listener.local_addr().unwrap().port());
    let stem = sha256(url.as_bytes())[..16].to_owned();
    fs::write(folder.path().join(format!(".{stem}.part")), &BODY[..1234]).unwrap();
    fs::write(folder.path().join(format!(".{stem}.etag")), "\"v1\"").unwrap();
    let served = thread::spawn(move || serve(&listener, &BODY, "\"v1\"", Answer::Whole));
    let files = fetch(&source(url, vec![sha256(&BODY)]), &just, folder.path(), &mut |_, _| {}).unwrap();
    assert_eq!(files[0], BODY);
    assert_eq!(served.join().unwrap(), "bytes=1234-");
}

#[test]
fn without_a_tag_or_with_another_one_a_download_starts_anew() {
    for (etag, ranges) in [("", ["", ""]), ("W/\"weak\"", ["", ""])] {
        let folder = tempfile::tempdir().unwrap();
        let (url, served) = server(&BODY, etag, vec![Answer::Half, Answer::Whole]);
        let files = fetch(&source(url, vec![sha256(&BODY)]), &just, folder.path(), &mut |_, _| {}).unwrap();
        assert_eq!(files[0], BODY);
        assert_eq!(served.join().unwrap(), ranges);
    }
    // Part and tag of an older version: the server sends all of the new one.
    let folder = tempfile::tempdir().unwrap();
    let (url, served) = server(&BODY, "\"v2\"", vec![Answer::Whole]);
    let stem = sha256(url.as_bytes())[..16].to_owned();
    fs::write(folder.path().join(format!(".{stem}.part")), [9; 50]).unwrap();
    fs::write(folder.path().join(format!(".{stem}.etag")), "\"v1\"").unwrap();
    let files = fetch(&source(url, vec![sha256(&BODY)]), &just, folder.path(), &mut |_, _| {}).unwrap();
    assert_eq!(files[0], BODY);
    assert_eq!(served.join().unwrap(), ["bytes=50-"]);
}

#[test]
fn a_file_that_is_not_there_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let (url, served) = server(&BODY, "", vec![Answer::Status(404)]);
    let error = fetch(&source(url, vec![]), &just, folder.path(), &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.ends_with("the server answered 404"), "{error}");
    assert_eq!(served.join().unwrap().len(), 1);
}

#[test]
fn another_file_is_refused_by_its_hash_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (url, served) = server(&BODY, "\"v1\"", vec![Answer::Whole]);
    let wrong = fetch(&source(url, vec!["0".repeat(64)]), &just, folder.path(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(wrong, FetchError::Hash { .. }), "{wrong}");
    served.join().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a wrong file was kept for the next attempt");

    let path = folder.path().join("m.onnx");
    fs::write(&path, b"not the model").unwrap();
    let mirror = source(format!("file:{}", path.display()), vec!["0".repeat(64)]);
    let error = fetch(&mirror, &just, folder.path(), &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("m.onnx") && error.contains(&sha256(b"not the model")), "{error}");
    let gone = source("file:/no/such/file".into(), vec![]);
    assert!(matches!(fetch(&gone, &just, folder.path(), &mut |_, _| {}), Err(FetchError::File { .. })));
    let odd = source("ftp://example.com/x".into(), vec![]);
    assert!(matches!(fetch(&odd, &just, folder.path(), &mut |_, _| {}), Err(FetchError::Source)));
}
