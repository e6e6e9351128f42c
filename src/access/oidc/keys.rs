//! The provider's keys: read from a file or over HTTPS, again and again, and once more when a token names one that is not among them.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{OidcRefusal, OidcSettings};

/// Between two readings of an address.
const REFRESH: Duration = Duration::from_secs(300);
/// Between two readings of a file, and after a reading that failed.
const SOON: Duration = Duration::from_secs(10);
/// Tokens with unknown keys make the keys be read again, at most this often.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);
/// Keys that could not be read for so long count no more: nobody knows which were withdrawn.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// What a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a document.
const LARGEST: u64 = 1 << 20;

/// The address, if keys may be fetched from it: HTTPS, or HTTP on this machine; no password.
pub(super) fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let local = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(ip) => IpAddr::from(ip).is_loopback(),
        url::Host::Ipv6(ip) => IpAddr::from(ip).is_loopback(),
    };
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && local);
    (allowed && url.username().is_empty() && url.password().is_none()).then_some(url)
}

enum Place {
    File(PathBuf),
    /// The address of the keys.
    Keys(String),
    /// The issuer, whose discovery document names them.
    Issuer(String),
}

struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, where it says so.
    only: Option<Algorithm>,
    key: DecodingKey,
}

struct Known {
    keys: Vec<Key>,
    /// When they were read last.
    read: Option<Instant>,
    /// When that was tried last.
    tried: Instant,
    /// Why it failed, if it did.
    failure: Option<String>,
}

pub(super) struct Keys {
    place: Place,
    agent: ureq::Agent,
    known: Mutex<Known>,
    /// Held by the one who reads.
    reading: tokio::sync::Mutex<()>,
}

impl Keys {
    pub(super) async fn open(settings: &OidcSettings) -> Result<Self, OidcRefusal> {
        let place = match settings.keys.as_str() {
            "" => Place::Issuer(settings.issuer.clone()),
            text if text.contains("://") => Place::Keys(text.to_owned()),
            path => Place::File(path.into()),
        };
        let agent = agent(&settings.ca_file).await.map_err(OidcRefusal::Keys)?;
        let known = Known { keys: Vec::new(), read: None, tried: Instant::now(), failure: None };
        let keys = Self { place, agent, known: Mutex::new(known), reading: tokio::sync::Mutex::new(()) };
        match (keys.read_again(None).await, &keys.place) {
            (Err(why), Place::File(_)) => return Err(OidcRefusal::Keys(why)),
            (Err(why), _) => tracing::warn!("no JWT is let in yet: the provider's keys can't be read: {why}"),
            (Ok(()), _) => {}
        }
        Ok(keys)
    }

    pub(super) async fn tend(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let file = matches!(self.place, Place::File(_));
            let pause = if file || self.known().failure.is_some() { SOON } else { REFRESH };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            match self.read_again(None).await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("the OpenID Connect provider's keys are read again");
                }
                Ok(()) => {}
                Err(why) if !failing => {
                    failing = true;
                    tracing::error!(
                        "the OpenID Connect provider's keys can't be read, those of before count on: {why}"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// The key that a token names; without a name, the only one that fits.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, OidcRefusal> {
        if let Some(key) = self.known().find(id, algorithm)? {
            return Ok(key);
        }
        let _ = self.read_again(Some(Instant::now())).await;
        let known = self.known();
        if let Some(key) = known.find(id, algorithm)? {
            return Ok(key);
        }
        match &known.failure {
            Some(why) => Err(OidcRefusal::Keys(why.clone())),
            None => Err(OidcRefusal::Token("the provider has no key that it could be signed with".into())),
        }
    }

    /// Reads the keys. Who asked at a time is content with an attempt that began a little before; all who wait share one.
    async fn read_again(&self, asked: Option<Instant>) -> Result<(), String> {
        let _reading = self.reading.lock().await;
        let now = Instant::now();
        if asked.is_some() {
            let known = self.known();
            if now < known.tried + AT_MOST_EVERY {
                return known.failure.clone().map_or(Ok(()), Err);
            }
        }
        self.known().tried = now;
        let read = match &self.place {
            Place::File(path) => {
                let text = tokio::fs::read(path).await.map_err(|e| format!("{}: {e}", path.display()));
                text.and_then(|text| parsed(&text))
            }
            Place::Keys(url) => get(&self.agent, url.clone()).await.and_then(|text| parsed(&text)),
            Place::Issuer(issuer) => discover(&self.agent, issuer).await,
        };
        let mut known = self.known();
        // From its end: a provider that hangs is not asked by each who waited.
        known.tried = Instant::now();
        known.failure = read.as_ref().err().cloned();
        known.keys = match read {
            Ok(keys) => keys,
            Err(why) => return Err(why),
        };
        known.read = Some(now);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Option<DecodingKey>, OidcRefusal> {
        if self.read.is_some_and(|read| read.elapsed() >= STALE) {
            return Err(OidcRefusal::Keys("the last reading is more than a day old".into()));
        }
        let fits = |key: &&Key| key.key.family() == algorithm.family() && key.only.is_none_or(|only| only == algorithm);
        let mut fitting = self.keys.iter().filter(fits).filter(|key| id.is_none() || key.id.as_deref() == id);
        let first = fitting.next();
        if first.is_some() && fitting.next().is_some() {
            return Err(OidcRefusal::Token("it does not say which of the provider's keys it is signed with".into()));
        }
        Ok(first.map(|key| key.key.clone()))
    }
}

/// Keys of a JWK set that can check signatures. Others in it are passed over: providers add kinds that nobody knows yet.
fn parsed(text: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set =
        serde_json::from_slice(text).map_err(|e| format!("this is no JWK set (an object with `keys`): {e}"))?;
    let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
    if keys.is_empty() {
        return Err("no key of the set can check a signature; RSA, P-256, P-384 or Ed25519 is needed".into());
    }
    Ok(keys)
}

fn usable(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| signs)?;
    let only = match jwk.common.key_algorithm {
        Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
        None => None,
    };
    let pair = super::signature::families().contains(&key.family());
    pair.then_some(Key { id: jwk.common.key_id, only, key })
}

async fn discover(agent: &ureq::Agent, issuer: &str) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let text = get(agent, url.clone()).await?;
    let document: Document =
        serde_json::from_slice(&text).map_err(|e| format!("{url} is no discovery document: {e}"))?;
    if document.issuer != issuer {
        return Err(format!("{url} is the document of another issuer; write auth.oidc.issuer exactly as it is there"));
    }
    if address(&document.jwks_uri).is_none() {
        return Err(format!("{url} names an address of keys that is not https://"));
    }
    parsed(&get(agent, document.jwks_uri).await?)
}

async fn get(agent: &ureq::Agent, url: String) -> Result<Vec<u8>, String> {
    let agent = agent.clone();
    let read = move || {
        let mut response = agent.get(&url).call().map_err(|e| format!("{url}: {e}"))?;
        response.body_mut().with_config().limit(LARGEST).read_to_vec().map_err(|e| format!("{url}: {e}"))
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?
}

async fn agent(ca_file: &str) -> Result<ureq::Agent, String> {
    let mut tls = ureq::tls::TlsConfig::builder();
    if !ca_file.is_empty() {
        let text = tokio::fs::read(ca_file).await.map_err(|e| format!("auth.oidc.ca_file: {ca_file}: {e}"))?;
        let found = ureq::tls::parse_pem(&text).filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<_> = found.collect();
        if certificates.is_empty() {
            return Err(format!("auth.oidc.ca_file: {ca_file} holds no certificate in PEM"));
        }
        tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&certificates));
    }
    let config = ureq::Agent::config_builder().tls_config(tls.build()).timeout_global(Some(PATIENCE)).max_redirects(0);
    Ok(config.build().into())
}
