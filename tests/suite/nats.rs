//! A real NATS server for tests, and what stands in the stream of events there.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_nats::jetstream;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::support::{PATIENCE, free_addr};

/// A server of its own, with its own folder.
pub struct Nats {
    child: Child,
    addr: SocketAddr,
    folder: PathBuf,
}

fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/nats-server");
    assert!(program.exists(), "{} is missing: run `make setup`", program.display());
    program
}

fn spawn(addr: SocketAddr, folder: &Path) -> Child {
    Command::new(program())
        .args(["-js", "-a", "127.0.0.1", "-p", &addr.port().to_string(), "-sd"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Nats {
    pub async fn start(folder: &Path) -> Self {
        let addr = free_addr();
        let server = Self { child: spawn(addr, folder), addr, folder: folder.to_owned() };
        server.answers().await;
        server
    }

    async fn answers(&self) {
        let until = Instant::now() + PATIENCE;
        while async_nats::connect(self.url()).await.is_err() {
            assert!(Instant::now() < until, "the NATS server does not answer");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// SIGKILL; the folder stays.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(self.addr, &self.folder);
        self.answers().await;
    }

    /// Who said each camera's events, in order: the claim and the node, once for each stretch.
    pub async fn said(&self) -> BTreeMap<String, Vec<(u64, String)>> {
        let js = jetstream::new(async_nats::connect(self.url()).await.unwrap());
        let stream = js.get_stream("visage-events").await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut said: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let header = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
            let by = (header("Visage-Claim").parse().unwrap(), header("Visage-Node"));
            let camera = message.subject.rsplit('.').next().unwrap().to_owned();
            let stretches = said.entry(camera).or_default();
            if stretches.last() != Some(&by) {
                stretches.push(by);
            }
        }
        said
    }
}
