//! Where the server works: its data folder, its addresses, its disk.

use std::{
    fs::{self, OpenOptions},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Finding, Verdict};
use crate::{
    config::types::{ServerSettings, TlsSettings},
    server::tls::Tls,
    store::{StoreError, sqlite::SqliteStore},
};

/// Free space below which the event log is in danger, MiB.
const LEAST_FREE_MIB: u64 = 1024;

/// Every finding about places.
pub(super) fn check(server: &ServerSettings) -> Vec<Finding> {
    // The first stays bound while the second is tried: two listeners on one address do not go together either.
    let (grpc, _bound) = port("gRPC port", server.listen, "--listen");
    let (http, _) = port("HTTP port", server.http, "--http");
    let mut findings = vec![data_dir(&server.data_dir), grpc, http, disk(&server.data_dir)];
    findings.extend(server.tls.is_on().then(|| tls_files(&server.tls)));
    findings
}

/// Whether certificate and key are there and belong together.
fn tls_files(settings: &TlsSettings) -> Finding {
    const CHECK: &str = "TLS files";
    match Tls::load(settings) {
        Ok(_) => Finding::ok(CHECK, settings.certificate.clone()),
        Err(error) => {
            let mend = "name PEM files of one certificate and its key (docs/security.md)";
            Finding::bad(CHECK, Verdict::Missing, error.to_string(), mend)
        }
    }
}

/// Whether the data directory, or the folder that it will be made in, can be written and nobody works in it.
fn data_dir(dir: &Path) -> Finding {
    const CHECK: &str = "data directory";
    let missing = |found: String, mend: String| Finding::bad(CHECK, Verdict::Missing, found, mend);
    let place = existing(dir);
    if !place.is_dir() {
        return missing(format!("{} is not a folder", place.display()), "choose another with --data-dir".into());
    }
    let unwritable = |path: &Path, error: &dyn std::fmt::Display| {
        let mend = format!("sudo chown -R \"$USER\" {}", place.display());
        missing(format!("{} cannot be written: {error}", path.display()), mend)
    };
    if let Err(error) = tempfile::Builder::new().prefix(".visage-doctor").tempfile_in(&place) {
        return unwritable(&place, &error);
    }
    if place != dir {
        return Finding::ok(CHECK, format!("{} (will be made)", dir.display()));
    }
    for file in own_files(dir) {
        if let Err(error) = OpenOptions::new().append(true).open(&file) {
            return unwritable(&file, &error);
        }
    }
    match SqliteStore::look(dir) {
        Ok(()) => Finding::ok(CHECK, dir.display().to_string()),
        Err(StoreError::InUse(_)) => {
            let found = format!("{} is in use by a running server", dir.display());
            let mend = "nothing, if that is meant; else stop that server, or choose another with --data-dir";
            Finding::bad(CHECK, Verdict::Warning, found, mend)
        }
        Err(error) => missing(error.to_string(), "choose another with --data-dir".into()),
    }
}

/// The files that a server keeps in its data directory.
fn own_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let own = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("visage."));
    entries.filter(|path| own(path) && path.is_file()).collect()
}

/// `path`, or the nearest folder above it that exists.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if found.as_os_str().is_empty() { PathBuf::from(".") } else { found.to_owned() }
}

/// Whether an address is free to listen on; it stays taken as long as the listener lives.
fn port(check: &str, address: SocketAddr, option: &str) -> (Finding, Option<TcpListener>) {
    match TcpListener::bind(address) {
        Ok(listener) => (Finding::ok(check, format!("{address} is free")), Some(listener)),
        Err(error) => {
            let mend = format!("visage serve {option} 127.0.0.1:PORT, or stop what listens there");
            (Finding::bad(check, Verdict::Warning, format!("{address}: {error}"), mend), None)
        }
    }
}

/// Free space where the data will be. The standard library cannot tell, `df` can.
fn disk(dir: &Path) -> Finding {
    const CHECK: &str = "disk space";
    let place = existing(dir);
    let answer = Command::new("df").args(["-Pk", "--"]).arg(&place).output();
    let free = answer.ok().and_then(|answer| free_mib(&String::from_utf8_lossy(&answer.stdout)));
    match free {
        None => Finding::bad(CHECK, Verdict::Warning, "unknown: df gave no answer", "df -h ."),
        Some(free) if free >= LEAST_FREE_MIB => Finding::ok(CHECK, format!("{:.1} GiB free", free as f64 / 1024.0)),
        Some(free) => {
            let found = format!("only {free} MiB free at {}", place.display());
            Finding::bad(CHECK, Verdict::Warning, found, "choose a larger disk with --data-dir")
        }
    }
}

/// The free space in the answer of `df -Pk`, MiB.
fn free_mib(answer: &str) -> Option<u64> {
    answer.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok().map(|kib| kib >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::VaultSettings;

    #[test]
    fn a_taken_port_is_a_warning_and_two_listeners_need_two() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port("gRPC port", address, "--listen").0.verdict, Verdict::Warning);
        drop(taken);
        let server = ServerSettings { listen: address, http: address, ..ServerSettings::default() };
        let findings = check(&server);
        assert_eq!((findings[1].verdict, findings[2].verdict), (Verdict::Ok, Verdict::Warning));
    }

    #[test]
    fn the_data_directory_is_made_or_refused_or_in_use() {
        let dir = tempfile::tempdir().unwrap();
        assert!(data_dir(&dir.path().join("a/b")).found.ends_with("(will be made)"));
        assert!(!dir.path().join("a").exists());
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(data_dir(&file).verdict, Verdict::Missing);
        assert_eq!(data_dir(dir.path()).verdict, Verdict::Ok);
        let server = SqliteStore::open(dir.path(), &VaultSettings::default()).unwrap();
        let finding = data_dir(dir.path());
        assert!(finding.verdict == Verdict::Warning && finding.found.contains("in use"), "{finding:?}");
        drop(server);
        assert_eq!(data_dir(dir.path()).verdict, Verdict::Ok);
    }

    #[test]
    fn free_space_is_read_from_df() {
        let answer = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 100 10 4194304 1% /\n";
        assert_eq!(free_mib(answer), Some(4096));
        assert_eq!(free_mib("nonsense"), None);
    }
}
