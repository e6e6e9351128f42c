//! A token: what is kept of it, its text, and the port of those who keep it.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::Role;
use crate::{ids::TokenName, time::Timestamp};

/// What every token begins with, so that a scanner of sources knows one when it sees it.
const PREFIX: &str = "visage_";

/// Random bytes of a token.
const BYTES: usize = 32;

/// A token as its holder has it. Printing it gives `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(String);

impl TokenText {
    /// A new token from the operating system's random numbers.
    ///
    /// # Errors
    /// When the operating system has none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The token itself; for the one place that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// SHA-256 of a token's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// That of a text, whatever it is.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of its text.
    pub hash: TokenHash,
    /// Who holds it; once among those that are not revoked.
    pub name: TokenName,
    /// What it allows.
    pub role: Role,
    /// Labels that a camera must have to be seen with it; empty: all cameras.
    pub scope: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is refused.
    pub expires: Option<Timestamp>,
    /// When it was used last, at most a minute behind.
    pub used: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// Why tokens could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("tokens can't be read: {0}")]
pub struct TokenStoreError(pub String);

/// Where tokens are kept.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// All that are not revoked, expired ones too.
    ///
    /// # Errors
    /// When the store fails.
    async fn live_tokens(&self) -> Result<Vec<Token>, TokenStoreError>;

    /// Notes when tokens were used last; those that are gone are passed over.
    ///
    /// # Errors
    /// When the store fails.
    async fn tokens_used(&self, uses: Vec<(TokenHash, Timestamp)>) -> Result<(), TokenStoreError>;
}

/// The token of an `authorization` header; `None` for another scheme.
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_and_never_shown() {
        let (a, b) = (TokenText::generate().unwrap(), TokenText::generate().unwrap());
        assert_ne!(a, b);
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.expose().len(), PREFIX.len() + 43, "32 bytes in base64");
        assert_eq!(format!("{a:?}"), "***");
        assert_eq!(a.hash(), TokenHash::of(a.expose()));
    }

    #[test]
    fn only_bearer_headers_hold_a_token() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for other in ["", "abc", "Bearer", "Bearer ", "Basic abc"] {
            assert_eq!(bearer(other), None, "{other:?}");
        }
    }
}
