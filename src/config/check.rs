//! Values that types can't exclude.

use super::{
    Config,
    types::{Role, StoreMode},
};
use crate::inference::Provider;

/// Every faulty value, each with its key and the range.
pub fn faults(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    let mut need = |ok: bool, text: &str| {
        if !ok {
            faults.push(text.to_owned());
        }
    };
    let i = &config.inference;
    need((160..=1920).contains(&i.detector_size), "inference.detector_size: give 160 to 1920 pixels");
    need(i.min_score > 0.0 && i.min_score < 1.0, "inference.min_score: give a number above 0 and below 1");
    need(
        !i.fp16 || i.provider == Provider::Tensorrt,
        "inference.fp16: only TensorRT computes with 16-bit floats; set inference.provider = \"tensorrt\", or fp16 = false",
    );
    need(i.workers <= 256, "inference.workers: give at most 256");
    need(i.max_batch <= 64, "inference.max_batch: give at most 64");
    need(i.batch_wait_ms <= 1000, "inference.batch_wait_ms: give at most 1000");
    need(config.cameras.max >= 1, "cameras.max: give at least 1");
    need(
        (10_000..=1_000_000_000).contains(&config.cameras.max_pixels),
        "cameras.max_pixels: give 10000 to 1000000000 pixels, width times height",
    );
    if let Err(error) = config.cameras.limits() {
        need(false, &format!("cameras.networks: {error}"));
    }
    need((1..=600).contains(&config.server.grace_seconds), "server.grace_seconds: give 1 to 600");
    need((0.0..=1.0).contains(&config.server.ready_cameras), "server.ready_cameras: give 0 (off) to 1");
    let t = &config.telemetry;
    need(
        t.otlp_endpoint.is_empty() || plain_http(&t.otlp_endpoint),
        "telemetry.otlp_endpoint: give the http:// address of a collector (OTLP over gRPC), such as http://127.0.0.1:4317; for TLS run one beside the server",
    );
    need((0.0..=1.0).contains(&t.otlp_sampling), "telemetry.otlp_sampling: give 0 to 1");
    let in_range = |t: Option<f32>| t.is_none_or(|t| t > -1.0 && t < 1.0);
    need(in_range(config.identity.identification_threshold), "identity.identification_threshold: give -1 to 1");
    need(in_range(config.identity.verification_threshold), "identity.verification_threshold: give -1 to 1");
    need(in_range(config.identity.margin), "identity.margin: give -1 to 1");
    need(
        (0.0..=1.0).contains(&config.identity.min_frontality),
        "identity.min_frontality: give 0 to 1; 0 compares profiles too",
    );
    need(
        config.identity.classifier_lead.is_none_or(|l| l > 0.0 && l <= 1.0),
        "identity.classifier_lead: give a number above 0, at most 1",
    );
    let s = &config.cameras.supervisor;
    need((1..=300).contains(&s.connect_timeout_s), "cameras.supervisor.connect_timeout_s: give 1 to 300");
    need((1..=3600).contains(&s.stall_after_s), "cameras.supervisor.stall_after_s: give 1 to 3600");
    need(s.stall_restart_s <= 3600, "cameras.supervisor.stall_restart_s: give at most 3600");
    need((10..=60_000).contains(&s.retry_min_ms), "cameras.supervisor.retry_min_ms: give 10 to 60000");
    need((1..=3600).contains(&s.retry_max_s), "cameras.supervisor.retry_max_s: give 1 to 3600");
    // Cameras lock accounts after a few wrong passwords.
    need((30..=86_400).contains(&s.refused_retry_s), "cameras.supervisor.refused_retry_s: give 30 to 86400");
    let t = &config.track;
    let share = |v: f32| v > 0.0 && v < 1.0;
    need(
        share(t.high_score) && share(t.low_score) && t.low_score <= t.high_score,
        "track.low_score and track.high_score: give numbers between 0 and 1, the low one not above the high one",
    );
    need(t.instant_score >= t.high_score, "track.instant_score: give a number not below track.high_score");
    need((1..=100).contains(&t.min_hits), "track.min_hits: give 1 to 100");
    need((100..=60_000).contains(&t.max_lost_ms), "track.max_lost_ms: give 100 to 60000");
    need((100..=60_000).contains(&t.max_gap_ms), "track.max_gap_ms: give 100 to 60000");
    need(t.max_speed > 0.0 && t.max_reach > 0.0, "track.max_speed and track.max_reach: give numbers above 0");
    need(
        config.returns.within_ms >= t.max_lost_ms,
        "returns.within_ms: give at least track.max_lost_ms, or nobody can come back",
    );
    need((1..=1000).contains(&config.looks.budget), "looks.budget: give 1 to 1000");
    need((0.0..1.0).contains(&config.looks.min_quality), "looks.min_quality: give a number from 0 to below 1");
    let d = &config.decider;
    need((1..=100).contains(&d.min_looks), "decider.min_looks: give 1 to 100");
    need(d.evidence.max_looks >= d.min_looks, "decider.evidence.max_looks: give at least decider.min_looks");
    need(
        config.events.retention_days <= 36_500,
        "events.retention_days: give at most 36500, or 0 to keep events for ever",
    );
    let (events, pictures) = (config.events.retention_days, config.events.picture_retention_days);
    need(
        pictures <= 36_500 && (events == 0 || pictures <= events),
        "events.picture_retention_days: give at most events.retention_days, since pictures go with their events; 0 keeps them as long",
    );
    need((1..=1_000_000).contains(&config.events.max_waiting), "events.max_waiting: give 1 to 1000000");
    need(config.events.max_waiting_mib <= 65_536, "events.max_waiting_mib: give at most 65536");
    let e = &config.enrollment;
    need((0.0..=0.5).contains(&e.outlier_confidence), "enrollment.outlier_confidence: give 0 to 0.5; 0 never refuses");
    let u = &config.unknowns;
    need(
        u.retention_days <= 36_500,
        "unknowns.retention_days: give at most 36500, or 0 to keep unknown faces for ever",
    );
    need((1..=200_000).contains(&u.max), "unknowns.max: give 1 to 200000; every face is compared with each new one");
    need((-0.5..=0.5).contains(&u.link_extra), "unknowns.link_extra: give -0.5 to 0.5");
    let l = &config.limits;
    need(l.picture_bytes >= 1024, "limits.picture_bytes: give at least 1024");
    need((10_000..=1_000_000_000).contains(&l.picture_pixels), "limits.picture_pixels: give 10000 to 1000000000");
    need(
        l.message_bytes >= l.picture_bytes.saturating_mul(2).saturating_add(4096),
        "limits.message_bytes: give at least twice limits.picture_bytes and 4096 more, since a comparison sends two pictures",
    );
    need(l.faces_per_picture >= 1, "limits.faces_per_picture: give at least 1");
    need(l.pictures_per_enrolment >= 1, "limits.pictures_per_enrolment: give at least 1");
    need((1..=100_000).contains(&l.requests_per_connection), "limits.requests_per_connection: give 1 to 100000");
    need(
        l.requests_per_second >= 1 && l.request_burst >= 1,
        "limits.requests_per_second and request_burst: give at least 1",
    );
    need(
        [l.requests_per_client, l.streams_per_client].iter().all(|n| (1..=100_000).contains(n)),
        "limits.requests_per_client and streams_per_client: give 1 to 100000",
    );
    need(
        [l.connections, l.http_connections, l.connections_per_address].iter().all(|n| (1..=1_000_000).contains(n)),
        "limits.connections, http_connections and connections_per_address: give 1 to 1000000",
    );
    need((1..=600).contains(&l.greeting_seconds), "limits.greeting_seconds: give 1 to 600");
    let a = &config.audit;
    need(a.retention_days <= 36_500, "audit.retention_days: give at most 36500, or 0 to keep records for ever");
    need((4096..=1 << 30).contains(&a.file_bytes), "audit.file_bytes: give 4096 to 1073741824");
    need(config.models.detector != config.models.embedder, "models.detector and models.embedder: name two models");
    let least = config.enrollment.min_liveness;
    need((0.0..=1.0).contains(&least), "enrollment.min_liveness: give a number from 0 (off) to 1");
    need(
        least <= 0.0 || !config.liveness.model.is_empty(),
        "enrollment.min_liveness: needs a liveness model; set liveness.model = \"liveness\" (`visage models pull liveness` fetches it)",
    );
    for fault in config.auth.oidc.faults() {
        need(false, &fault);
    }
    need(
        !config.auth.oidc.is_on() || config.tokens_required(),
        "auth.oidc: nobody is asked for a token, so nobody shows a JWT; set auth.required = true",
    );
    let tls = &config.server.tls;
    need(
        tls.certificate.is_empty() == tls.private_key.is_empty(),
        "server.tls: certificate and private_key go together; name both files, or none for no TLS",
    );
    need(
        tls.client_ca.is_empty() || tls.is_on(),
        "server.tls.client_ca: client certificates need TLS; set server.tls.certificate and server.tls.private_key, too",
    );
    match config.store {
        StoreMode::Cluster => {
            need(
                !config.unknowns.keep,
                "unknowns.keep: unknown faces are not kept with store = \"cluster\"; set it to false",
            );
            faults.extend(config.cluster.faults());
        }
        StoreMode::Embedded => need(
            config.server.role == Role::All,
            "server.role: one process does everything with store = \"embedded\"; set server.role = \"all\", or store = \"cluster\"",
        ),
    }
    for (key, addr) in [("server.listen", config.server.listen), ("server.http", config.server.http)] {
        if let Some(text) = exposed(config, addr) {
            faults.push(format!("{key}: {text}"));
        }
    }
    faults
}

/// Whether it is an http address of a host, without a password in it.
fn plain_http(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        url.scheme() == "http" && url.has_host() && url.username().is_empty() && url.password().is_none()
    })
}

/// Why an address may not be listened on: beyond loopback there must be TLS and tokens, unless `insecure` was said aloud.
fn exposed(config: &Config, addr: std::net::SocketAddr) -> Option<String> {
    if addr.ip().is_loopback() || config.server.insecure {
        return None;
    }
    let missing = match (config.server.tls.is_on(), config.tokens_required()) {
        (true, true) => return None,
        (false, true) => "there is no TLS; set server.tls.certificate and server.tls.private_key (docs/security.md)",
        (true, false) => "auth.required is false; take that line out",
        (false, false) => {
            "there is neither TLS nor authentication; set server.tls.certificate and server.tls.private_key, and take auth.required = false out"
        }
    };
    Some(format!(
        "{addr} is reachable from other machines, and {missing}; or listen on 127.0.0.1 behind a proxy, or say --insecure"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::TlsSettings;

    #[test]
    fn beyond_loopback_there_must_be_tls_and_tokens_or_a_word() {
        let told = |change: fn(&mut Config)| {
            let mut config = Config::default();
            config.server.listen = "0.0.0.0:50051".parse().unwrap();
            change(&mut config);
            (faults(&config).join("\n"), config.tokens_required())
        };
        let tls = || TlsSettings { certificate: "c".into(), private_key: "k".into(), ..Default::default() };
        let (text, required) = told(|_| {});
        assert!(text.contains("there is no TLS") && text.contains("--insecure") && required, "{text}");
        let (text, required) = told(|c| c.auth.required = Some(false));
        assert!(text.contains("neither TLS nor authentication") && !required, "{text}");
        let with_tls = |config: &mut Config| {
            config.server.tls = TlsSettings { certificate: "c".into(), private_key: "k".into(), ..Default::default() };
        };
        assert_eq!(told(with_tls), (String::new(), true));
        let (text, _) = told(|c| {
            c.server.tls.certificate = "c".into();
            c.server.tls.private_key = "k".into();
            c.auth.required = Some(false);
        });
        assert!(text.contains("auth.required is false"), "{text}");
        // Said aloud: no token is asked for unless that was said, too (a proxy that speaks TLS).
        assert_eq!(told(|c| c.server.insecure = true), (String::new(), false));
        let proxied = told(|c| (c.server.insecure, c.auth.required) = (true, Some(true)));
        assert_eq!(proxied, (String::new(), true));
        let mut config = Config::default();
        assert!(!config.tokens_required(), "on loopback nobody is asked");
        config.server.http = "0.0.0.0:8080".parse().unwrap();
        assert!(config.tokens_required() && faults(&config).join("\n").contains("server.http"));
        config.server.tls = TlsSettings { private_key: String::new(), ..tls() };
        assert!(faults(&config).join("\n").contains("go together"));
        config.server.tls = TlsSettings { client_ca: "ca".into(), ..Default::default() };
        assert!(faults(&config).join("\n").contains("server.tls.client_ca"));
    }

    #[test]
    fn a_role_needs_a_cluster_and_a_cluster_keeps_no_unknown_faces() {
        let mut config = Config::default();
        config.server.role = Role::Ingest;
        assert!(faults(&config).join("\n").contains("server.role"));
        config.store = StoreMode::Cluster;
        config.cluster.node = "n1".into();
        assert_eq!(faults(&config), Vec::<String>::new());
        config.unknowns.keep = true;
        config.cluster.replicas = 4;
        let told = faults(&config).join("\n");
        assert!(told.contains("unknowns.keep") && told.contains("cluster.replicas"), "{told}");
    }

    #[test]
    fn the_defaults_are_sound_and_every_fault_is_named() {
        assert_eq!(faults(&Config::default()), Vec::<String>::new());
        let mut config = Config::default();
        config.limits.requests_per_connection = 0;
        config.cameras.supervisor.refused_retry_s = 0;
        config.returns.within_ms = 10;
        config.unknowns.max = 0;
        config.cameras.networks = Some(vec!["10.0.0.0/8".into(), "10.0.0.0/99".into()]);
        config.server.listen = "0.0.0.0:50051".parse().unwrap();
        config.enrollment.min_liveness = 0.5;
        let told = faults(&config).join("\n");
        for key in [
            "limits.requests_per_connection",
            "refused_retry_s",
            "returns.within_ms",
            "unknowns.max",
            "cameras.networks: \"10.0.0.0/99\" is no network",
            "server.listen",
            "liveness.model",
        ] {
            assert!(told.contains(key), "{key} is not in {told}");
        }
        let mut config = Config::default();
        config.liveness.model = "liveness".into();
        config.enrollment.min_liveness = 0.5;
        assert_eq!(faults(&config), Vec::<String>::new());
        config.enrollment.min_liveness = f32::NAN;
        assert!(faults(&config).join("\n").contains("min_liveness"));
    }
}
