//! A real NATS server for tests, on a free port, with a folder of its own; it ends with the value.

use std::{
    ffi::OsStr,
    io::Read,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{ClusterSettings, ClusterStore, Holds};
use crate::{secret::Secret, vault::VaultSettings};

/// A server.
pub(crate) struct NatsServer {
    dir: tempfile::TempDir,
    port: u16,
    config: Option<PathBuf>,
    child: Option<Child>,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With lines of a configuration file.
    pub(crate) fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = (!config.is_empty()).then(|| dir.path().join("nats.conf"));
        file.iter().for_each(|file| std::fs::write(file, config).unwrap());
        let mut server = Self { dir, port, config: file, child: None };
        server.run();
        server
    }

    /// Starts it, for the first time or again; what it kept is there.
    pub(crate) fn run(&mut self) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/nats-server");
        assert!(program.is_file(), "{} is missing; run `make setup`", program.display());
        let child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"])
            .arg(self.dir.path())
            .args(self.config.iter().flat_map(|file| [OsStr::new("-c"), file.as_os_str()]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while !self.greets() {
            assert!(began.elapsed() < Duration::from_secs(20), "the NATS server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it sends its first line.
    fn greets(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).is_ok() && &first == b"INFO"
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Where it keeps what it is given.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn settings(&self, node: &str) -> ClusterSettings {
        let servers = vec![format!("nats://127.0.0.1:{}", self.port)];
        ClusterSettings { servers, node: node.into(), ..Default::default() }
    }

    /// A node with a folder.
    pub(crate) async fn node(&self, name: &str, dir: &Path) -> std::sync::Arc<ClusterStore> {
        self.holding(name, dir, Holds::Everything).await
    }

    /// A node whose replica holds so much.
    pub(crate) async fn holding(&self, name: &str, dir: &Path, holds: Holds) -> std::sync::Arc<ClusterStore> {
        ClusterStore::open(&self.settings(name), dir, &key(), holds).await.unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The key of every node.
pub(crate) fn key() -> VaultSettings {
    VaultSettings { key: Secret::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="), ..Default::default() }
}
