//! Tokens and TLS as somebody outside meets them: who is let in, who is not, and what is told.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::time::{sleep, timeout};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};
use tonic_types::StatusExt;
use visage::proto::v1::{
    camera_service_client::CameraServiceClient, event_service_client::EventServiceClient,
    gallery_service_client::GalleryServiceClient, person_service_client::PersonServiceClient,
    server_service_client::ServerServiceClient, *,
};

use crate::{
    secured::{Secured, token, with},
    support::visage,
};

/// Far above the promised three seconds, for a busy machine; the gate's own test keeps the promise by the clock.
const SOON: Duration = Duration::from_secs(20);

/// Calls one method that each role is the least for; its code.
async fn call(needed: &str, channel: &Channel, token: &str) -> Result<(), Status> {
    let service = with(channel, token);
    match needed {
        "viewer" => ServerServiceClient::new(service).get_server_info(GetServerInfoRequest {}).await.map(drop),
        "enroller" => {
            let request = CreatePersonRequest {
                person_id: "anna".into(),
                person: Some(Person { display_name: "Anna".into(), ..Default::default() }),
                validate_only: true,
            };
            PersonServiceClient::new(service).create_person(request).await.map(drop)
        }
        "operator" => {
            let request = DeleteCameraRequest { name: "cameras/none".into() };
            CameraServiceClient::new(service).delete_camera(request).await.map(drop)
        }
        _ => {
            let request = ReembedGalleryRequest { model: "none".into(), ..Default::default() };
            let mut answers = GalleryServiceClient::new(service).reembed_gallery(request).await?.into_inner();
            answers.message().await.map(drop)
        }
    }
}

fn get(url: String, token: Option<&str>, ca: Option<&str>) -> Result<(u16, String), ureq::Error> {
    let mut agent = ureq::Agent::config_builder().http_status_as_error(false);
    if let Some(ca) = ca {
        let roots = ureq::tls::RootCerts::from(vec![ureq::tls::Certificate::from_pem(ca.as_bytes())?]);
        agent = agent.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
    }
    let mut request = agent.build().new_agent().get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call()?;
    Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_what_it_may_and_nobody_else_anything() {
    const ROLES: [&str; 4] = ["viewer", "enroller", "operator", "admin"];
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut tokens = Vec::new();
    for role in ROLES {
        // No server has run on this folder yet.
        tokens.push(token(&data, &["create", &format!("the-{role}"), "--role", role]).await);
    }
    let env = [("VISAGE_AUTH__REQUIRED", "true".to_owned()), ("RUST_LOG", "trace".to_owned())];
    let server = Secured::start(dir.path(), "127.0.0.1", &env).await;
    let channel = server.plain().await;
    for (held, token) in tokens.iter().enumerate() {
        for (needed, role) in ROLES.iter().enumerate() {
            let outcome = call(role, &channel, token).await;
            let code = outcome.as_ref().map_or_else(Status::code, |()| Code::Ok);
            if held >= needed {
                let refused = [Code::PermissionDenied, Code::Unauthenticated].contains(&code);
                assert!(!refused, "{} was refused what needs {role}: {outcome:?}", ROLES[held]);
            } else {
                let status = outcome.expect_err("more than the role allows");
                assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
                assert!(status.message().contains(&format!("needs the role {role}")), "{status:?}");
                assert_eq!(status.get_error_details().error_info().unwrap().metadata["needed_role"], *role);
            }
        }
    }
    // Without a token, with a wrong one, with another scheme.
    let nobody = ServerServiceClient::new(channel.clone()).get_server_info(GetServerInfoRequest {}).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    assert!(nobody.message().contains("visage token create"), "{nobody:?}");
    assert!(nobody.metadata().contains_key("www-authenticate"));
    assert_eq!(nobody.get_error_details().error_info().unwrap().reason, "TOKEN_MISSING");
    let wrong = call("viewer", &channel, &format!("{}x", tokens[0])).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.message().contains(&tokens[0])), (Code::Unauthenticated, false));
    // Health is open; reflection and what does not exist are not.
    let alive = HealthClient::new(channel.clone()).check(HealthCheckRequest { service: String::new() }).await;
    alive.unwrap();
    let asked = || tokio_stream::iter([ServerReflectionRequest::default()]);
    let reflected = ServerReflectionClient::new(channel.clone()).server_reflection_info(asked()).await;
    assert_eq!(reflected.unwrap_err().code(), Code::Unauthenticated);
    ServerReflectionClient::new(with(&channel, &tokens[0])).server_reflection_info(asked()).await.unwrap();
    // The HTTP listener.
    let (http, viewer) = (server.http, tokens[0].clone());
    let answers = tokio::task::spawn_blocking(move || {
        let url = |path: &str| format!("http://{http}{path}");
        [
            get(url("/healthz"), None, None).unwrap().0,
            get(url("/readyz"), None, None).unwrap().0,
            get(url("/metrics"), None, None).unwrap().0,
            get(url("/metrics"), Some("visage_wrong"), None).unwrap().0,
            get(url("/metrics"), Some(&viewer), None).unwrap().0,
        ]
    });
    assert_eq!(answers.await.unwrap(), [200, 200, 401, 401, 200]);
    let log = server.log.clone();
    server.stop().await;
    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    assert!(log.contains("the-operator"), "what was changed is in the log with the token's name");
    for token in &tokens {
        assert!(!log.contains(token.as_str()), "a token is in the log");
        assert!(!log.contains(&token[token.len() - 20..]), "a part of a token is in the log");
    }
    let listed = token_list(&data).await;
    assert!(listed.iter().all(|t| t["lastUseTime"].is_string()), "the last use was not written: {listed:?}");
}

async fn token_list(data: &Path) -> Vec<serde_json::Value> {
    let lines = token(data, &["list", "--json"]).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_at_once_and_a_revoked_or_expired_one_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let server = Secured::start(dir.path(), "127.0.0.1", &[("VISAGE_AUTH__REQUIRED", "true".to_owned())]).await;
    assert!(server.said("visage token create NAME --role admin"), "nobody is told how to get in:\n{}", server.told());
    let channel = server.plain().await;
    let door = token(&server.data, &["create", "door", "--role", "viewer"]).await;
    let short = token(&server.data, &["create", "short", "--role", "viewer", "--expires", "3s"]).await;
    call("viewer", &channel, &door).await.unwrap();
    let request = StreamEventsRequest { filter: None, start: None, heartbeat_interval: None };
    let mut events = EventServiceClient::new(with(&channel, &door)).stream_events(request).await.unwrap().into_inner();
    events.message().await.unwrap().expect("a stream begins with a heartbeat");
    token(&server.data, &["revoke", "door"]).await;
    let ended = timeout(SOON, async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    });
    let ended = ended.await.expect("the stream outlives its token");
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    assert!(ended.message().contains("door was revoked"), "{ended:?}");
    assert_eq!(call("viewer", &channel, &door).await.unwrap_err().code(), Code::Unauthenticated);
    let expired = timeout(SOON, async {
        loop {
            if let Err(status) = call("viewer", &channel, &short).await {
                return status;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let expired = expired.await.expect("an expired token counts");
    assert!(expired.message().contains("short expired at"), "{expired:?}");
    // The command line says what to do.
    let output = visage()
        .args(["info", "--server", &format!("http://{}", server.addr), "--token", &door])
        .env_remove("VISAGE_TOKEN")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("was revoked") && !text.contains(&door), "{text}");
    server.stop().await;
}

/// An authority, in files and in memory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for a name.
    fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.pem))
    }
}

/// Files of a server's certificate, and the settings that name them.
fn certified(dir: &Path, authority: &Authority) -> Vec<(&'static str, String)> {
    let (certificate, key) = (dir.join("server.pem"), dir.join("server.key"));
    let (pem, secret) = authority.signed("127.0.0.1");
    // As a careful tool does it: whole files, one after the other.
    for (path, text) in [(&certificate, pem), (&key, secret)] {
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
    vec![
        ("VISAGE_SERVER__TLS__CERTIFICATE", certificate.display().to_string()),
        ("VISAGE_SERVER__TLS__PRIVATE_KEY", key.display().to_string()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_tls_and_tokens_go_together_and_a_new_certificate_needs_no_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let env = certified(dir.path(), &one);
    let server = Secured::start(dir.path(), "0.0.0.0", &env).await;
    let admin = token(&server.data, &["create", "me", "--role", "admin"]).await;
    let first = server.encrypted(one.trusted()).await.unwrap();
    call("viewer", &first, &admin).await.unwrap();
    let nobody = ServerServiceClient::new(first.clone()).get_server_info(GetServerInfoRequest {}).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated, "beyond loopback a token is asked for by itself");
    let distrusted = format!("{:?}", server.encrypted(two.trusted()).await.unwrap_err());
    assert!(distrusted.contains("UnknownIssuer"), "{distrusted}");
    // Plain HTTP/2 to the port.
    let plain = Endpoint::from_shared(format!("http://{}", server.addr)).unwrap().connect_lazy();
    assert!(call("viewer", &plain, &admin).await.is_err());
    // The HTTP listener speaks TLS, too.
    let (http, ca, held) = (server.http, one.pem.clone(), admin.clone());
    let answers = tokio::task::spawn_blocking(move || {
        let url = |scheme: &str, path: &str| format!("{scheme}://{http}{path}");
        assert!(get(url("http", "/healthz"), None, None).is_err(), "plain HTTP was answered");
        let health = get(url("https", "/healthz"), None, Some(&ca)).unwrap().0;
        let closed = get(url("https", "/metrics"), None, Some(&ca)).unwrap().0;
        let (code, metrics) = get(url("https", "/metrics"), Some(&held), Some(&ca)).unwrap();
        (health, closed, code, metrics.contains("visage_requests_refused_total{reason=\"token\"}"))
    });
    assert_eq!(answers.await.unwrap(), (200, 401, 200, true));
    // The command line.
    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, &one.pem).unwrap();
    let address = format!("https://{}", server.addr);
    let cli = |ca: PathBuf| {
        let mut command = visage();
        command.args(["info", "--server", &address, "--token", &admin, "--ca-file"]).arg(ca);
        command.env_remove("VISAGE_TOKEN").env_remove("VISAGE_CA_FILE");
        command
    };
    assert!(cli(ca_file.clone()).output().await.unwrap().status.success());
    // A broken file changes nothing.
    let path = dir.path().join("server.pem");
    fs::write(&path, "half a certif").unwrap();
    timeout(SOON, async {
        while !server.said("the TLS files can't be used") {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("a broken certificate is not told");
    server.encrypted(one.trusted()).await.unwrap();
    certified(dir.path(), &two);
    timeout(SOON, async {
        while server.encrypted(two.trusted()).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the new certificate is not served");
    assert!(server.encrypted(one.trusted()).await.is_err());
    call("viewer", &first, &admin).await.expect("a connection that stood was cut");
    let refused = cli(ca_file).output().await.unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(5) && text.contains("--ca-file"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_clients_need_a_certificate_only_those_with_one_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients, strangers) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("strangers"));
    let mut env = certified(dir.path(), &servers);
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    env.push(("VISAGE_SERVER__TLS__CLIENT_CA", file("clients.pem", &clients.pem)));
    let server = Secured::start(dir.path(), "127.0.0.1", &env).await;
    let running = &server;
    let info = |tls: ClientTlsConfig| async move {
        // The server may tell only after the client thinks that all is well.
        let channel = running.encrypted(tls).await.map_err(|e| e.to_string())?;
        let answer = ServerServiceClient::new(channel).get_server_info(GetServerInfoRequest {}).await;
        answer.map(drop).map_err(|e| e.to_string())
    };
    assert!(info(servers.trusted()).await.is_err(), "no certificate was shown");
    let (pem, key) = strangers.signed("app");
    assert!(info(servers.trusted().identity(Identity::from_pem(pem, key))).await.is_err(), "of another authority");
    let (pem, key) = clients.signed("app");
    info(servers.trusted().identity(Identity::from_pem(&pem, &key))).await.unwrap();
    let (ca, certificate, key) = (file("ca.pem", &servers.pem), file("app.pem", &pem), file("app.key", &key));
    let cli = |more: &[&str]| {
        let mut command = visage();
        command.args(["info", "--server", &format!("https://{}", server.addr), "--ca-file", &ca]).args(more);
        command
    };
    let with = ["--client-certificate", &certificate, "--client-key", &key];
    assert!(cli(&with).output().await.unwrap().status.success());
    assert!(!cli(&[]).output().await.unwrap().status.success());
    assert_eq!(cli(&with[..2]).output().await.unwrap().status.code(), Some(2), "a certificate without its key");
    // Probes have no certificate.
    let (url, ca) = (format!("https://{}/readyz", server.http), servers.pem.clone());
    assert_eq!(tokio::task::spawn_blocking(move || get(url, None, Some(&ca)).unwrap().0).await.unwrap(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_stand_open_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |env: &[(&str, &str)]| {
        let mut command = visage();
        command.args(["serve", "--http", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        command.envs(env.iter().copied());
        command
    };
    let text = |output: std::process::Output| {
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = text(serve(&[("VISAGE_SERVER__LISTEN", "0.0.0.0:0")]).output().await.unwrap());
    assert!(told.contains("there is no TLS") && told.contains("server.tls.certificate"), "{told}");
    let missing = dir.path().join("none.pem").display().to_string();
    let files =
        [("VISAGE_SERVER__TLS__CERTIFICATE", missing.as_str()), ("VISAGE_SERVER__TLS__PRIVATE_KEY", missing.as_str())];
    let told = text(serve(&[&files[..], &[("VISAGE_SERVER__LISTEN", "127.0.0.1:0")]].concat()).output().await.unwrap());
    assert!(told.contains("server.tls.certificate") && told.contains("none.pem"), "{told}");
}
