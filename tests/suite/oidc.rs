//! JWTs of an OpenID Connect provider, before a running server.

use std::{fs, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};
use visage::proto::v1::{
    camera_service_client::CameraServiceClient, event_service_client::EventServiceClient,
    person_service_client::PersonServiceClient, server_service_client::ServerServiceClient, *,
};

use crate::secured::{Secured, token, with};

fn signed(pair: &Ed25519KeyPair, claims: &Value) -> String {
    let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({"alg": "EdDSA", "kid": "k1"}).to_string();
    let text = format!("{}.{}", encoded(header.as_bytes()), encoded(claims.to_string().as_bytes()));
    let signature = pair.sign(text.as_bytes());
    format!("{text}.{}", encoded(signature.as_ref()))
}

async fn info(channel: &Channel, token: &str) -> Result<(), Status> {
    ServerServiceClient::new(with(channel, token)).get_server_info(GetServerInfoRequest {}).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_provider_may_what_their_claims_say_until_they_expire() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let keys = dir.path().join("keys.json");
    let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}]});
    fs::write(&keys, set.to_string()).unwrap();
    let settings = [
        ("VISAGE_AUTH__REQUIRED", "true".to_owned()),
        ("VISAGE_AUTH__OIDC__ISSUER", "https://login.example".into()),
        ("VISAGE_AUTH__OIDC__AUDIENCE", "visage".into()),
        ("VISAGE_AUTH__OIDC__KEYS", keys.display().to_string()),
        ("VISAGE_AUTH__OIDC__ROLE_CLAIM", "groups".into()),
        ("VISAGE_AUTH__OIDC__ROLES", r#"{"Camera admins"="operator",Guards="viewer"}"#.into()),
        ("VISAGE_AUTH__OIDC__LEEWAY_SECONDS", "0".into()),
        ("RUST_LOG", "debug".into()),
    ];
    let server = Secured::start(dir.path(), "127.0.0.1", &settings).await;
    let channel = server.plain().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = |sub: &str, group: &str, lives: u64| json!({"iss": "https://login.example", "aud": "visage", "sub": sub, "groups": [group], "exp": now + lives});
    let operator = signed(&pair, &claims("anna", "Camera admins", 3600));
    let viewer = signed(&pair, &claims("bert", "Guards", 12));
    // Beside tokens of the server, which count on.
    let own = token(&server.data, &["create", "door", "--role", "viewer"]).await;
    for token in [&operator, &viewer, &own] {
        info(&channel, token).await.unwrap();
    }
    let request = StreamEventsRequest { filter: None, start: None, heartbeat_interval: None };
    let stream = EventServiceClient::new(with(&channel, &viewer)).stream_events(request).await;
    let mut events = stream.unwrap().into_inner();

    let delete = || DeleteCameraRequest { name: "cameras/none".into() };
    let refused = CameraServiceClient::new(with(&channel, &viewer)).delete_camera(delete()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("oidc:bert"), "{refused:?}");
    let missing = CameraServiceClient::new(with(&channel, &operator)).delete_camera(delete()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
    let person = Person { display_name: "Clara".into(), ..Default::default() };
    let create = CreatePersonRequest { person_id: "clara".into(), person: Some(person), validate_only: false };
    PersonServiceClient::new(with(&channel, &operator)).create_person(create).await.unwrap();

    let strangers = [
        signed(&pair, &claims("carl", "Cooks", 60)),
        signed(&Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap(), &claims("anna", "Camera admins", 60)),
    ];
    for token in &strangers {
        let refused = info(&channel, token).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(refused.message().contains("the JWT is refused"), "{refused:?}");
    }
    let ended = timeout(Duration::from_secs(30), async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    });
    let ended = ended.await.expect("a stream outlives its JWT");
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    assert!(info(&channel, &viewer).await.unwrap_err().message().contains("has expired"));

    let (data, log) = (server.data.clone(), server.log.clone());
    server.stop().await;
    let audit: String =
        fs::read_dir(data.join("audit")).unwrap().map(|f| fs::read_to_string(f.unwrap().path()).unwrap()).collect();
    assert!(audit.lines().any(|l| l.contains("oidc:anna") && l.contains("CreatePerson")), "{audit}");
    let told = fs::read_to_string(log).unwrap() + &audit;
    for token in [&operator, &viewer, &strangers[0]] {
        assert!(!told.contains(token.rsplit('.').next().unwrap()), "a signature is in the log");
    }
}
