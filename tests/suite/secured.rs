//! A server whose log is kept, with tokens and TLS where a test asks for them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use crate::support::{PATIENCE, free_addr, visage};

/// A server whose log is kept.
pub struct Secured {
    pub child: Child,
    pub addr: std::net::SocketAddr,
    pub http: std::net::SocketAddr,
    pub data: PathBuf,
    pub log: PathBuf,
}

impl Secured {
    /// Starts a server; its listeners are up when this returns, its services not yet.
    pub async fn start(dir: &Path, listen: &str, env: &[(&str, String)]) -> Self {
        let (addr, http) = (free_addr(), free_addr());
        let (data, log) = (dir.join("data"), dir.join("log"));
        let child = visage()
            .args(["serve", "--listen", &format!("{listen}:{}", addr.port()), "--http", &http.to_string()])
            .arg("--data-dir")
            .arg(&data)
            .envs(env.iter().map(|(key, value)| (key, value)))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { child, addr, http, data, log };
        let until = Instant::now() + PATIENCE;
        while !server.said("visage serves") {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.told());
            }
            assert!(Instant::now() < until, "the server does not start");
            sleep(Duration::from_millis(50)).await;
        }
        server
    }

    pub fn told(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    pub fn said(&self, text: &str) -> bool {
        self.told().contains(text)
    }

    pub async fn plain(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap()
    }

    pub async fn encrypted(&self, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
        Endpoint::from_shared(format!("https://{}", self.addr)).unwrap().tls_config(tls).unwrap().connect().await
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Memory of the process in MiB.
    pub fn rss_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// SIGTERM, then waits for a clean end.
    pub async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the server does not end").unwrap();
        assert!(status.success(), "the server ended with {status}");
    }
}

/// `visage token …` on a data folder; stdout.
pub async fn token(data: &Path, args: &[&str]) -> String {
    let mut command = visage();
    let output = command.arg("token").args(args).arg("--data-dir").arg(data).output().await.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub type Shown = InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>>;

pub fn with(channel: &Channel, token: &str) -> Shown {
    let header: MetadataValue<Ascii> = format!("Bearer {token}").parse().unwrap();
    InterceptedService::new(
        channel.clone(),
        Box::new(move |mut request| {
            request.metadata_mut().insert("authorization", header.clone());
            Ok(request)
        }),
    )
}
