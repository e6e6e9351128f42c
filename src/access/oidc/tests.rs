//! Tokens signed here by keys of every kind, and two RSA tokens that were signed elsewhere.

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::*;
use crate::access::Scope;

/// A key of a provider that is long gone, and two tokens of it until the year 2100 (RS256, PS256).
const RSA_N: &str = "\
     lrbVURhu8K_P5y_vRmIU6R1HqTgtT1R1_7uuDu4-c1O1WcQREW5azM6QjbFtjd_1UcW7fzvGOr03uFx3R46ZMVs2rGFacEYR0xH_Lzvgsu7d1Pbu1VqmL7qCWn8dk1N0f0HRXDg6GpNEpdTHfhpxF4\
     pFjXSuOp4HRqePNOS93EqkXuav35tYpMLnYU2MUS7zFPStNY1Rj2VpX88_EVjn8xUMXk3_HG3zWvVYhfP1LoDJWMFV9Sxgkb-8lkq0PAP_JmOp9oZqeBJHkzl25onxS1hBPTRGGuwCZ4lXs8rl3Zk6\
     bQNrKWOkU6GxEiFmhsxZeFt5e1oaZB6KfFw0TfaZ1w";
const RS256: &str = "\
     eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJhdWQiOlsidmlzYWdlIiwib3RoZXIiXSwic3ViIjoiYW5uYSIsInJvb\
     GVzIjpbIm9wZXJhdG9yIl0sImV4cCI6NDEwMjQ0NDgwMCwibmJmIjoxNzAwMDAwMDAwfQ.lecRFFceqUDrTV47eh5oqChIudtLMylKBLQcZx-ifxyOsubhAT7S778iA4OF7uKWPF8_20o51NDbOFWg\
     UbRF4fcQY98XMXQMN6YxePwpOHPXsYqgvvPSodQncuftKN0D1rn9Tm3_Ma3dlAwtef14viy2vZRwSx85tFyP_zPT9ACEE9oLl4q--4ltfC9cxm-blXViu48VYe1sbacyzo_r9J1Rj-hLiJpKKaKUBE\
     ntJ37rWTPSsBkjGfZJKD9_Tab2YBjL_nVxxtJkZBCRpr33iUSK-TMqHhQj16UBAn5TkAwtAPm2Mj9_0mWJvlJByVlUXSP3kZjsj0m12HyF3jS2MA";
const PS256: &str = "\
     eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUiLCJhdWQiOlsidmlzYWdlIiwib3RoZXIiXSwic3ViIjoiYW5uYSIsInJvb\
     GVzIjpbIm9wZXJhdG9yIl0sImV4cCI6NDEwMjQ0NDgwMCwibmJmIjoxNzAwMDAwMDAwfQ.FZqqRCswiDt-a1HOnj-9ZkqiN7_oACJgWHS5NqMdc1xZRYjA6DyI5DyWlsC2PU2q-KQ3eMrUSu5BM8ou\
     DKfHXKvGeLkKxG3Szi4Q4R7joa7Ue_2gwmLIhlCQmZpULWyeLg4SbYx0PjREf5DGLUqvFIya5TeJ3-iWJn9joLdfYkfg1qcveEmTck-_Q3G0fz_OX6QttUlOICb_YkW6IFamMhCp_Mb-hMdT2lmhgt\
     8RbNPgQ4eieH7UEREZ4jE4su5F-j_OuulZXPIVYKYa6CWvuko3PIEU0nW4pQUuSbgZ4EdW5usGmX7FSDj0PwUMeR5bNuBqaidJmYDhQ23KjLsvXA";

enum Pair {
    P256(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A provider's key, by its name.
struct Signer {
    id: &'static str,
    pair: Pair,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn p256(id: &'static str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self { id, pair: Pair::P256(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap()) }
    }

    fn ed(id: &'static str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id, pair: Pair::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap()) }
    }

    fn jwk(&self) -> Value {
        match &self.pair {
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": encoded(pair.public_key())}),
        }
    }

    fn sign_as(&self, header: Value, claims: &Value) -> String {
        let text = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = match &self.pair {
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        };
        format!("{text}.{}", encoded(signature))
    }

    fn sign(&self, claims: &Value) -> String {
        let algorithm = if matches!(self.pair, Pair::P256(_)) { "ES256" } else { "EdDSA" };
        self.sign_as(json!({"alg": algorithm, "kid": self.id}), claims)
    }
}

fn claims() -> Value {
    let now = time::now().as_second();
    json!({"iss": "https://login.example", "aud": "visage", "sub": "anna", "roles": ["operator"], "exp": now + 600, "nbf": now - 5})
}

/// The same with some changed; `null` takes one out.
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            value => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    all
}

fn settings(keys: &std::path::Path) -> OidcSettings {
    let keys = keys.to_str().unwrap().to_owned();
    OidcSettings { issuer: "https://login.example".into(), audience: "visage".into(), keys, ..Default::default() }
}

fn write(path: &std::path::Path, keys: &[Value]) {
    std::fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

async fn refusal(oidc: &Oidc, token: &str) -> String {
    let refusal = oidc.admit(token).await.expect_err("it was let in").to_string();
    assert!(!refusal.contains(token), "{refusal}");
    refusal
}

#[tokio::test]
async fn signatures_of_every_kind_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (ec, ed) = (Signer::p256("ec"), Signer::ed("ed"));
    let rsa = json!({"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"});
    // What can't check a signature is passed over.
    let others = [json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}), json!({"kty": "AKP", "kid": "later"})];
    write(&path, &[rsa, ec.jwk(), ed.jwk(), others[0].clone(), others[1].clone()]);
    let oidc = Oidc::open(&settings(&path)).await.unwrap();
    for token in [RS256.to_owned(), PS256.to_owned(), ec.sign(&claims()), ed.sign(&claims())] {
        assert!(Oidc::is_jwt(&token));
        let admitted = oidc.admit(&token).await.unwrap();
        assert_eq!((admitted.name.to_string().as_str(), admitted.role), ("oidc:anna", Role::Operator));
        assert_eq!(admitted.scope, Scope::Everything);
        // One letter of the claims, one of the signature.
        let (text, signature) = token.rsplit_once('.').unwrap();
        let flipped = |part: &str| {
            let (before, rest) = part.split_at(part.len() - 3);
            format!("{before}{}{}", if rest.starts_with('A') { 'B' } else { 'A' }, &rest[1..])
        };
        assert!(refusal(&oidc, &format!("{text}.{}", flipped(signature))).await.contains("signature is wrong"));
        assert!(refusal(&oidc, &format!("{}.{signature}", flipped(text))).await.contains("refused"));
    }
    // A key by another's name, none at all, a shared secret, and the public key taken for one.
    let forged = Signer::p256("ec");
    assert!(refusal(&oidc, &forged.sign(&claims())).await.contains("signature is wrong"));
    for header in
        [json!({"alg": "none"}), json!({"alg": "HS256", "kid": "shared"}), json!({"alg": "HS256", "kid": "rsa"})]
    {
        let text = refusal(&oidc, &forged.sign_as(header, &claims())).await;
        assert!(text.contains("key pairs count") || text.contains("can't be read"), "{text}");
    }
    assert!(refusal(&oidc, &forged.sign_as(json!({"alg": "ES256", "kid": "rsa"}), &claims())).await.contains("no key"));
    assert!(refusal(&oidc, &format!("ey{}.a.b", "x".repeat(20_000))).await.contains("longer than"));
}

#[tokio::test]
async fn every_claim_that_matters_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let signer = Signer::p256("a");
    write(&path, &[signer.jwk()]);
    let oidc = Oidc::open(&settings(&path)).await.unwrap();
    let now = time::now().as_second();
    for (changes, word) in [
        (json!({"iss": "https://login.example/"}), "another issuer"),
        (json!({"iss": null}), "lacks the claim iss"),
        (json!({"aud": "other"}), "not made for"),
        (json!({"aud": null}), "lacks the claim aud"),
        (json!({"exp": now - 60}), "has expired"),
        (json!({"exp": null}), "lacks the claim exp"),
        (json!({"exp": "2100"}), "exp"),
        (json!({"nbf": now + 60}), "nbf"),
        (json!({"nbf": "soon"}), "nbf"),
        (json!({"sub": null}), "lacks the claim sub"),
        (json!({"roles": ["cook"]}), "names no role"),
    ] {
        let text = refusal(&oidc, &signer.sign(&with(changes.clone()))).await;
        assert!(text.contains(word), "{changes}: {text}");
    }
    // The provider's clock may be a little off.
    for changes in
        [json!({"exp": now - 10}), json!({"nbf": now + 10}), json!({"aud": ["other", "visage"]}), json!({"nbf": null})]
    {
        oidc.admit(&signer.sign(&with(changes))).await.unwrap();
    }
    let ends = oidc.admit(&signer.sign(&with(json!({"exp": now + 60})))).await.unwrap().ends.unwrap();
    let left = ends.duration_since(Instant::now()).as_secs();
    assert!((85..=90).contains(&left), "{left}");
}

#[tokio::test]
async fn labels_limit_what_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let signer = Signer::ed("a");
    write(&path, &[signer.jwk()]);
    let camera_labels = BTreeMap::from([("site".to_owned(), "where.site".to_owned())]);
    let oidc = Oidc::open(&OidcSettings { camera_labels, ..settings(&path) }).await.unwrap();
    let admitted = oidc.admit(&signer.sign(&with(json!({"where": {"site": "north"}})))).await.unwrap();
    assert_eq!(admitted.scope.to_string(), "site=north");
    assert!(refusal(&oidc, &signer.sign(&claims())).await.contains("where.site"));
}

#[tokio::test(start_paused = true)]
async fn keys_turn_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    assert!(Oidc::open(&settings(&path)).await.err().unwrap().to_string().contains("keys.json"));
    write(&path, &[old.jwk()]);
    let oidc = Oidc::open(&settings(&path)).await.unwrap();
    // Without a name the only key that fits counts.
    oidc.admit(&old.sign_as(json!({"alg": "ES256"}), &claims())).await.unwrap();
    write(&path, &[old.jwk(), new.jwk()]);
    assert!(refusal(&oidc, &new.sign(&claims())).await.contains("no key"), "read again at most every few seconds");
    tokio::time::advance(Duration::from_secs(6)).await;
    oidc.admit(&new.sign(&claims())).await.unwrap();
    assert!(refusal(&oidc, &new.sign_as(json!({"alg": "ES256"}), &claims())).await.contains("does not say which"));

    let stop = CancellationToken::new();
    let tending = tokio::spawn({
        let (oidc, stop) = (oidc.clone(), stop.clone());
        async move { oidc.tend(stop).await }
    });
    write(&path, &[new.jwk()]);
    let gone = async {
        while oidc.admit(&old.sign(&claims())).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("a key that was withdrawn counts on");
    // A broken file: those of before count on, for a day.
    std::fs::write(&path, "{").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    oidc.admit(&new.sign(&claims())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert!(matches!(oidc.admit(&new.sign(&claims())).await, Err(Refusal::Oidc(OidcRefusal::Keys(_)))));
    write(&path, &[new.jwk()]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    oidc.admit(&new.sign(&claims())).await.unwrap();
    stop.cancel();
    tending.await.unwrap();
}

/// A provider on this machine, with a discovery document.
async fn provider(keys: Value, issuer_told: impl Fn(&str) -> String) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}/realm", listener.local_addr().unwrap());
    let document = json!({"issuer": issuer_told(&issuer), "jwks_uri": format!("{issuer}/keys")}).to_string();
    let told = |text: String| axum::routing::get(move || async move { text });
    let app = axum::Router::new()
        .route("/realm/.well-known/openid-configuration", told(document))
        .route("/realm/keys", told(keys.to_string()));
    let serving = tokio::spawn(async move {
        axum::serve(listener, app).await.unwrap();
    });
    (issuer, serving)
}

#[tokio::test]
async fn the_provider_tells_where_its_keys_are() {
    let signer = Signer::p256("a");
    let (issuer, serving) = provider(json!({"keys": [signer.jwk()]}), str::to_owned).await;
    let of = |issuer: &str| OidcSettings { issuer: issuer.into(), audience: "visage".into(), ..Default::default() };
    let oidc = Oidc::open(&of(&issuer)).await.unwrap();
    oidc.admit(&signer.sign(&with(json!({"iss": issuer})))).await.unwrap();
    serving.abort();
    // The document of somebody else; nobody there: the server starts all the same.
    let (issuer, serving) = provider(json!({"keys": [signer.jwk()]}), |_| "https://login.example".into()).await;
    let oidc = Oidc::open(&of(&issuer)).await.unwrap();
    let token = signer.sign(&with(json!({"iss": issuer})));
    assert!(refusal(&oidc, &token).await.contains("document of another issuer"));
    serving.abort();
    let oidc = Oidc::open(&of("http://127.0.0.1:9")).await.unwrap();
    assert!(matches!(oidc.admit(&token).await, Err(Refusal::Oidc(OidcRefusal::Keys(_)))));
}

#[test]
fn faulty_settings_are_named() {
    let sound = settings(std::path::Path::new("keys.json"));
    assert_eq!(sound.faults(), Vec::<String>::new());
    assert_eq!(OidcSettings::default().faults(), Vec::<String>::new());
    let told = |settings: OidcSettings| settings.faults().join("\n");
    let sound = || sound.clone();
    for issuer in ["http://login.example", "login.example", "https://a:b@login.example", "file:///etc/passwd"] {
        assert!(told(OidcSettings { issuer: issuer.into(), ..sound() }).contains("auth.oidc.issuer"), "{issuer}");
    }
    assert!(told(OidcSettings { audience: String::new(), ..sound() }).contains("auth.oidc.audience"));
    assert!(told(OidcSettings { keys: "http://login.example/keys".into(), ..sound() }).contains("auth.oidc.keys"));
    assert!(told(OidcSettings { audience: "visage".into(), ..Default::default() }).contains("auth.oidc.issuer"));
    let roles = BTreeMap::from([("boss".to_owned(), "root".to_owned())]);
    assert!(told(OidcSettings { roles, ..sound() }).contains("\"boss\""));
}
