//! Tokens of somebody else: JWTs of an OpenID Connect provider, let in by its signature and its claims.
//!
//! In: the text of a JWT. Out: a name, a role, a scope and until when (RFC 7519; the provider's keys as in RFC 7517, found as OpenID Connect
//! Discovery 1.0 says). Only signatures of key pairs count: a shared secret would let whoever can check a token make one.
//! Absent on purpose: logging in. Clients get their tokens from the provider themselves.

mod claims;
mod keys;
mod signature;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jsonwebtoken::{Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Admitted, Holder, Refusal, Role};
use crate::time;

/// Longest JWT that is looked at, in bytes.
const LONGEST: usize = 16 << 10;

/// Section `[auth.oidc]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcSettings {
    /// Who makes the tokens, exactly as their claim `iss` says; empty (the default): no JWT is let in.
    pub issuer: String,
    /// For whom a token must be made: its claim `aud` must be or hold this.
    pub audience: String,
    /// File or address of the provider's keys (a JWK set); empty: the issuer's discovery document names it.
    pub keys: String,
    /// PEM file of authorities for the provider's certificate; empty: those that browsers trust.
    pub ca_file: String,
    /// Claim with the names of roles, a text or a list; dots go into nested claims, such as `realm_access.roles`.
    pub role_claim: String,
    /// What the provider's names mean here, such as `{ "camera-admins" = "admin" }`; empty: viewer, enroller, operator and admin mean themselves.
    pub roles: BTreeMap<String, String>,
    /// Labels of cameras and the claim with the value that a camera must have to be seen, such as `{ "site" = "visage_site" }`; empty: all cameras.
    pub camera_labels: BTreeMap<String, String>,
    /// Claim with the name that the audit log records.
    pub name_claim: String,
    /// Seconds that the provider's clock may differ from this one.
    pub leeway_seconds: u64,
}

impl Default for OidcSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            keys: String::new(),
            ca_file: String::new(),
            role_claim: "roles".into(),
            roles: BTreeMap::new(),
            camera_labels: BTreeMap::new(),
            name_claim: "sub".into(),
            leeway_seconds: 30,
        }
    }
}

impl OidcSettings {
    /// Whether JWTs are let in at all.
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// Every faulty value, with its key.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.is_on() {
            if *self != Self::default() {
                faults.push("auth.oidc.issuer: name the provider, or take the section out".into());
            }
            return faults;
        }
        let mut need = |ok: bool, text: &str| {
            if !ok {
                faults.push(text.to_owned());
            }
        };
        need(
            keys::address(&self.issuer).is_some(),
            "auth.oidc.issuer: give the https:// address of the provider, without a password (http:// on this machine only)",
        );
        need(
            !self.audience.is_empty(),
            "auth.oidc.audience: say for whom tokens must be made, or those for any other service count here, too",
        );
        let file = !self.keys.contains("://");
        need(
            file || keys::address(&self.keys).is_some(),
            "auth.oidc.keys: give a file or an https:// address without a password",
        );
        need(
            !self.role_claim.is_empty() && !self.name_claim.is_empty(),
            "auth.oidc.role_claim and name_claim: name claims",
        );
        need(self.leeway_seconds <= 300, "auth.oidc.leeway_seconds: give at most 300");
        for (name, role) in &self.roles {
            if let Err(error) = role.parse::<Role>() {
                need(false, &format!("auth.oidc.roles: {name:?}: {error}"));
            }
        }
        faults
    }
}

/// Why a JWT is not let in. No text repeats the token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OidcRefusal {
    /// It does not count.
    #[error("the JWT is refused: {0}")]
    Token(String),
    /// Whether it counts can't be told now.
    #[error("the keys of the OpenID Connect provider can't be read: {0}; JWTs count again when they can")]
    Keys(String),
}

struct Inner {
    settings: OidcSettings,
    roles: BTreeMap<String, Role>,
    keys: keys::Keys,
}

/// Checks JWTs of one provider. Cheap to clone.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

impl Oidc {
    /// Whether a text has the form of a JWT, which tokens of this server never have.
    pub fn is_jwt(token: &str) -> bool {
        token.starts_with("ey") && token.bytes().filter(|b| *b == b'.').count() == 2
    }

    /// Reads the provider's keys. A provider that can't be reached is told and asked again later; a faulty file is an error.
    ///
    /// # Errors
    /// When a file of the settings can't be used.
    pub async fn open(settings: &OidcSettings) -> Result<Self, OidcRefusal> {
        signature::install();
        let meant = |(name, role): (&String, &String)| Some((name.clone(), role.parse().ok()?));
        let roles = match settings.roles.is_empty() {
            true => Role::ALL.into_iter().map(|role| (role.to_string(), role)).collect(),
            false => settings.roles.iter().filter_map(meant).collect(),
        };
        let keys = keys::Keys::open(settings).await?;
        Ok(Self(Arc::new(Inner { settings: settings.clone(), roles, keys })))
    }

    /// Reads the provider's keys again and again until `stop`.
    pub async fn tend(&self, stop: CancellationToken) {
        self.0.keys.tend(stop).await;
    }

    /// Lets a JWT in, or says why not.
    ///
    /// # Errors
    /// When it does not count, or nobody can tell.
    pub async fn admit(&self, token: &str) -> Result<Admitted, Refusal> {
        let refused = |why: String| OidcRefusal::Token(why);
        if token.len() > LONGEST {
            return Err(refused(format!("it is longer than {LONGEST} bytes")).into());
        }
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return Err(refused("its header can't be read".into()).into());
        };
        if !signature::counts(header.alg) {
            return Err(
                refused(format!("it is signed with {:?}; only signatures of key pairs count", header.alg)).into()
            );
        }
        let key = self.0.keys.find(header.kid.as_deref(), header.alg).await?;
        let settings = &self.0.settings;
        let mut wanted = Validation::new(header.alg);
        wanted.set_issuer(&[&settings.issuer]);
        wanted.set_audience(&[&settings.audience]);
        wanted.set_required_spec_claims(&["exp", "iss", "aud"]);
        wanted.validate_nbf = true;
        wanted.leeway = settings.leeway_seconds;
        let decoded = jsonwebtoken::decode::<claims::Claims>(token, &key, &wanted);
        let claims = decoded.map_err(|error| refused(told(error.kind(), settings)))?.claims;
        let name = claims.name(&settings.name_claim).map_err(refused)?;
        let role = claims.role(&settings.role_claim, &self.0.roles).map_err(refused)?;
        let scope = claims.scope(&settings.camera_labels).map_err(refused)?;
        let left = claims.left(time::now(), Duration::from_secs(settings.leeway_seconds)).map_err(refused)?;
        if left.is_zero() {
            // The library counts whole seconds.
            return Err(refused(told(&ErrorKind::ExpiredSignature, settings)).into());
        }
        // So far away that no stream lives to see it.
        let ends = Instant::now().checked_add(left);
        Ok(Admitted { name: Holder::Subject(name), role, scope, gone: CancellationToken::new(), ends })
    }
}

/// What is wrong with a token, in words that say what to do.
fn told(kind: &ErrorKind, settings: &OidcSettings) -> String {
    match kind {
        ErrorKind::ExpiredSignature => "it has expired; get a new one from the provider".into(),
        ErrorKind::ImmatureSignature => "it does not count yet (its claim nbf)".into(),
        ErrorKind::InvalidIssuer => format!("it is of another issuer than {}", settings.issuer),
        ErrorKind::InvalidAudience => format!("it is not made for {:?} (its claim aud)", settings.audience),
        ErrorKind::InvalidSignature => "its signature is wrong".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it lacks the claim {claim}"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its claim {claim} is not of the right form"),
        ErrorKind::InvalidAlgorithm => "it is signed with another algorithm than its key is for".into(),
        _ => "it can't be read".into(),
    }
}

#[cfg(test)]
mod tests;
