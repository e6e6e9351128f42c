//! A real NATS server for tests, and what stands in the stream of events there.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_nats::jetstream;
use futures::StreamExt;
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
    /// Further arguments.
    more: Vec<String>,
}

fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/nats-server");
    assert!(program.exists(), "{} is missing: run `make setup`", program.display());
    program
}

fn spawn(addr: SocketAddr, folder: &Path, more: &[String]) -> Child {
    Command::new(program())
        .args(["-js", "-a", "127.0.0.1", "-p", &addr.port().to_string(), "-sd"])
        .arg(folder)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Nats {
    fn spawned(addr: SocketAddr, folder: PathBuf, more: Vec<String>) -> Self {
        Self { child: spawn(addr, &folder, &more), addr, folder, more }
    }

    /// Some that keep copies for each other; one alone where it is one.
    pub async fn start(folder: &Path, servers: usize) -> Vec<Self> {
        let between: Vec<String> = (0..servers).map(|_| format!("nats://{}", free_addr())).collect();
        let mut all: Vec<Self> = Vec::new();
        for (i, own) in between.iter().enumerate() {
            let (name, routes) = (format!("nats-{i}"), between.join(","));
            let more = ["--server_name", &name, "--cluster_name", "nats", "--cluster", own, "--routes", &routes];
            let more = if servers == 1 { Vec::new() } else { more.map(str::to_owned).to_vec() };
            all.push(Self::spawned(free_addr(), folder.join(name), more));
        }
        for server in &mut all {
            server.answers().await;
        }
        all
    }

    async fn answers(&mut self) {
        let until = Instant::now() + PATIENCE;
        while async_nats::connect(self.url()).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "the NATS server ended at once");
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
        self.child = spawn(self.addr, &self.folder, &self.more);
        self.answers().await;
    }

    /// Whether every copy of every stream holds what its leader holds; asked of this server.
    pub async fn copies_are_current(&self) -> bool {
        let js = jetstream::new(async_nats::connect(self.url()).await.unwrap());
        let mut streams = js.streams();
        let mut count = 0;
        while let Some(info) = streams.next().await {
            let Some(cluster) = info.ok().and_then(|info| info.cluster) else { return false };
            count += 1;
            if cluster.leader.is_none() || !cluster.replicas.iter().all(|copy| copy.current) {
                return false;
            }
        }
        count > 0
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
