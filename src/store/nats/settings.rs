//! Section `[cluster]`: where the NATS servers are, and what this node is called.

use serde::{Deserialize, Serialize};

/// Section `[cluster]`, for `store = "cluster"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Addresses of NATS servers, `nats://host:4222`, or `tls://host:4222` for TLS. No user name or password in them.
    pub servers: Vec<String>,
    /// A `.creds` file; empty for servers that ask for none.
    pub credentials: String,
    /// A PEM file with the authority of the servers' certificates; empty takes the system's.
    pub ca: String,
    /// What names of streams and buckets begin with: `a-z`, `0-9` and `-`, at most 32.
    pub name: String,
    /// Name of this process, unlike that of every other; empty takes the host's name.
    pub node: String,
    /// Copies of every stream and bucket among the NATS servers: 1, 3 or 5.
    pub replicas: usize,
    /// A worker that is silent for so long loses its cameras.
    pub lease_seconds: u64,
    /// Cameras that this worker takes; 0: as measured at the start.
    pub capacity: usize,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            credentials: String::new(),
            ca: String::new(),
            name: "visage".into(),
            node: String::new(),
            replicas: 1,
            lease_seconds: 5,
            capacity: 0,
        }
    }
}

impl ClusterSettings {
    /// The name of this process: as set, or else that of the host; `None` where neither can be part of a NATS subject.
    pub fn node_name(&self) -> Option<String> {
        let name = if self.node.is_empty() {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            // A host's name may hold dots and capitals, which stand for something else in a subject.
            host.trim().to_ascii_lowercase().replace('.', "-")
        } else {
            self.node.clone()
        };
        is_token(&name, 63).then_some(name)
    }

    /// Every faulty value, each with its key and what may be; nothing of an address is repeated, since a password may be in it.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut need = |ok: bool, text: &str| {
            if !ok {
                faults.push(text.to_owned());
            }
        };
        need(!self.servers.is_empty(), "cluster.servers: name at least one NATS server, such as nats://127.0.0.1:4222");
        need(
            self.servers.iter().all(|server| is_address(server)),
            "cluster.servers: give addresses such as nats://127.0.0.1:4222 or tls://nats:4222, without user name and password; name a credentials file with cluster.credentials",
        );
        need(is_token(&self.name, 32), "cluster.name: give 1 to 32 characters of a-z, 0-9 and -");
        need(
            self.node_name().is_some(),
            "cluster.node: give 1 to 63 characters of a-z, 0-9, - and _, unlike every other node's (unset: the host's name)",
        );
        need(
            [1, 3, 5].contains(&self.replicas),
            "cluster.replicas: give 1, 3 or 5 copies, as many NATS servers are needed",
        );
        need((1..=300).contains(&self.lease_seconds), "cluster.lease_seconds: give 1 to 300");
        need(self.capacity <= 10_000, "cluster.capacity: give at most 10000, or 0 to measure");
        faults
    }
}

/// Whether a text can be one part of a NATS subject and of a bucket's name.
fn is_token(text: &str, most: usize) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    (1..=most).contains(&text.len()) && text.chars().all(allowed)
}

fn is_address(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        ["nats", "tls"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_every_fault_is_named() {
        let node = ClusterSettings { node: "n1".into(), ..Default::default() };
        assert_eq!(node.faults(), Vec::<String>::new());
        let faulty = ClusterSettings {
            servers: vec!["nats://joe:pass-word@host".into()],
            name: "Visage.x".into(),
            node: "a.b".into(),
            replicas: 2,
            lease_seconds: 0,
            capacity: 20_000,
            ..Default::default()
        };
        let told = faulty.faults().join("\n");
        for key in ["servers", "name", "node", "replicas", "lease_seconds", "capacity"] {
            assert!(told.contains(&format!("cluster.{key}:")), "{key} is not in {told}");
        }
        assert!(!told.contains("pass-word"), "{told}");
        let none = ClusterSettings { servers: Vec::new(), ..node.clone() };
        assert!(none.faults().join("\n").contains("at least one"));
        for bad in ["http://host:4222", "host:4222", "nats://", "nats://token@host"] {
            let faulty = ClusterSettings { servers: vec![bad.into()], ..node.clone() };
            assert_eq!(faulty.faults().len(), 1, "{bad}");
        }
        let tls = ClusterSettings { servers: vec!["tls://a:4222".into(), "nats://[::1]:4222".into()], ..node };
        assert_eq!(tls.faults(), Vec::<String>::new());
    }
}
