//! A NATS server that asks for TLS and credentials, as an operator runs one: an account of the operator's, a user of the account's.
//!
//! Tokens are made here as NATS specifies them (ADR-14, "JWT library free JWT creation").

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::{
    ClusterSettings, ClusterStore, Holds,
    server::{NatsServer, key},
};
use crate::{camera::CameraStore, store::sqlite::tests::camera};

/// Who signs tells what a subject may do.
fn token(by: &KeyPair, of: &KeyPair, what: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": uuid::Uuid::now_v7().to_string(), "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(),
        "name": "visage", "nats": what,
    });
    let signed = format!("{}.{}", part(json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
    let signature = by.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An operator, and an account with room for streams.
struct Authority {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Authority {
    fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// What the server is told of it.
    fn settings(&self) -> String {
        let operator = token(&self.operator, &self.operator, json!({"type": "operator", "version": 2}));
        let account = |of: &KeyPair, disk: i64| {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": disk, "disk_storage": disk, "streams": disk, "consumer": disk,
            });
            token(&self.operator, of, json!({"type": "account", "version": 2, "limits": limits}))
        };
        format!(
            "operator: {operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
            self.system.public_key(),
            self.system.public_key(),
            account(&self.system, 0),
            self.account.public_key(),
            account(&self.account, -1),
        )
    }

    /// A user's credentials in a file.
    fn user(&self, file: &Path) {
        let user = KeyPair::new_user();
        let what = json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
        let (jwt, seed) = (token(&self.account, &user, what), user.seed().unwrap());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        fs::write(file, text).unwrap();
    }
}

/// A certificate for 127.0.0.1 in a folder, and its place there.
fn certificate(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    dir.join("cert.pem").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_guarded_server_is_spoken_to_in_tls_and_with_credentials() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new());
    let ca = certificate(dir.path());
    let own = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let tls = format!("tls {{ cert_file: {:?}, key_file: {:?} }}\n", ca, own("key.pem"));
    let server = NatsServer::start_with(&(tls + &authority.settings()));
    authority.user(&dir.path().join("ours.creds"));
    Authority { account: KeyPair::new_account(), ..Authority::new() }.user(&dir.path().join("theirs.creds"));
    fs::write(dir.path().join("broken.creds"), "SUACNOCREDENTIALS").unwrap();

    let right = ClusterSettings {
        servers: vec![server.settings("a").servers[0].replace("nats://", "tls://")],
        credentials: own("ours.creds"),
        ca,
        ..server.settings("a")
    };
    let node = ClusterStore::open(&right, &dir.path().join("a"), &key(), Holds::Everything).await.unwrap();
    node.insert(&camera("door")).await.unwrap();
    node.close().await;
    drop(node);
    // Asked for by the server, TLS is used for nats:// as well.
    let plain = ClusterSettings { servers: server.settings("a").servers, ..right.clone() };
    let node = ClusterStore::open(&plain, &dir.path().join("a"), &key(), Holds::Everything).await.unwrap();
    assert_eq!(CameraStore::list(&*node).await.unwrap().len(), 1);
    node.close().await;

    let refused = [
        ("credentials", ClusterSettings { credentials: String::new(), ..right.clone() }),
        ("credentials", ClusterSettings { credentials: own("theirs.creds"), ..right.clone() }),
        ("broken.creds", ClusterSettings { credentials: own("broken.creds"), ..right.clone() }),
        ("nowhere.creds", ClusterSettings { credentials: own("nowhere.creds"), ..right.clone() }),
        ("cluster.ca", ClusterSettings { ca: String::new(), ..right.clone() }),
        ("nowhere.pem", ClusterSettings { ca: own("nowhere.pem"), ..right.clone() }),
    ];
    for (word, settings) in refused {
        let said = ClusterStore::open(&settings, &dir.path().join("b"), &key(), Holds::Everything)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(said.contains(word), "{word} is not in: {said}");
        assert!(!said.contains("SUACNOCREDENTIALS"), "{said}");
    }
}
