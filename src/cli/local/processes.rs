//! Our own binary as processes: started, waited for, ended in reverse order.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Runs `visage` commands against one server.
pub(in crate::cli::local) struct Visage {
    program: PathBuf,
    server: String,
    children: Vec<Child>,
}

impl Visage {
    pub(in crate::cli::local) fn new(server: String) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        Ok(Self { program, server, children: Vec::new() })
    }

    /// A command as a user can type it.
    pub(in crate::cli::local) fn spelled(&self, args: &str) -> String {
        format!("{} --server {} {args}", self.program.display(), self.server)
    }

    fn command(&self, args: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new(&self.program);
        // The demo must not touch what the user's own server is configured to use; where models and runtime are stays.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            let stays = ["VISAGE_MODELS__", "VISAGE_INFERENCE__"].iter().any(|prefix| name.starts_with(prefix));
            if name.starts_with("VISAGE_") && !stays {
                command.env_remove(&key);
            }
        }
        command.args(args.iter().map(AsRef::as_ref)).env("VISAGE_SERVER", &self.server);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts a long-lived command and waits for `lines` lines of output that contain `word`; they are returned.
    pub(in crate::cli::local) async fn start(
        &mut self,
        args: &[String],
        lines: usize,
        word: &str,
    ) -> anyhow::Result<Vec<String>> {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().context("a process could not be started")?;
        let mut seen = Vec::new();
        if lines > 0 {
            let stdout = child.stdout.take().context("the process has no output")?;
            let mut output = BufReader::new(stdout).lines();
            let wait = async {
                while seen.len() < lines {
                    match output.next_line().await? {
                        Some(line) if line.contains(word) => seen.push(line),
                        Some(_) => {}
                        None => bail!("`visage {}` ended early", args.join(" ")),
                    }
                }
                Ok(())
            };
            timeout(Duration::from_secs(120), wait).await.context("it took too long to start")??;
        }
        self.children.push(child);
        Ok(seen)
    }

    /// The process id of the last started long-lived command, while it runs.
    pub(in crate::cli::local) fn last_id(&self) -> Option<u32> {
        self.children.last().and_then(Child::id)
    }

    /// Waits until the server answers.
    pub(in crate::cli::local) async fn ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        loop {
            if let Some(Ok(Some(status))) = self.children.last_mut().map(Child::try_wait) {
                bail!("the server ended at once ({status}); its message stands above");
            }
            let answer = self.command(&["info", "--json"]).output().await?;
            if answer.status.success() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the server does not answer: {}", String::from_utf8_lossy(&answer.stderr).trim());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Runs a command to its end; its output.
    pub(in crate::cli::local) async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.command(args).output().await?;
        if !output.status.success() {
            bail!("`visage {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command whose output the user sees.
    pub(in crate::cli::local) async fn show(&self, args: &[&str]) -> anyhow::Result<()> {
        let status = self.command(args).status().await?;
        if !status.success() {
            bail!("`visage {}` failed ({status})", args.join(" "));
        }
        Ok(())
    }

    /// Starts a command whose output is read while it runs.
    pub(in crate::cli::local) fn pipe(&self, args: &[&str]) -> anyhow::Result<Child> {
        self.command(args).stdout(Stdio::piped()).spawn().context("a process could not be started")
    }

    /// Ends the processes, the last started first.
    pub(in crate::cli::local) async fn stop(mut self) {
        while let Some(mut child) = self.children.pop() {
            // A child that is gone already is what we want.
            let _ = child.kill().await;
        }
    }
}

/// A port that is free at this moment.
pub(in crate::cli::local) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
