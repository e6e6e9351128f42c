//! Who may ask the server for what, how much of it, and what is recorded of it: API tokens and JWTs with roles and scopes, limits a client, the
//! audit log.
//!
//! A token is 32 random bytes, shown once; only its SHA-256 is kept. That hash needs no salt and no slow function: nobody can go through 2^256
//! texts, and what is random needs no stretching. The gate looks the hash up, so no secret is ever compared byte by byte.

pub mod audit;
pub mod caller;
pub mod clients;
pub mod connections;
pub mod gate;
pub mod oidc;
pub mod request;
pub mod token;

use std::{fmt, str::FromStr, sync::Arc};

pub use audit::Audit;
pub use caller::{Caller, Scope};
pub use gate::{Admitted, Gate, Refusal};
pub use oidc::{Oidc, OidcRefusal, OidcSettings};
pub use token::{Token, TokenHash, TokenStore, TokenStoreError, TokenText};

use crate::ids::TokenName;

/// What the holder of a token may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks: events, cameras, people by name, questions about pictures. Changes nothing.
    Viewer,
    /// Keeps people and their faces, and judges events.
    Enroller,
    /// Keeps cameras and thresholds, and erases people.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Enroller, Self::Operator, Self::Admin];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Enroller => "enroller",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who holds a token. Printed, the two never look the same: no name of a token has a colon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// That of a token of this server, by its name.
    Token(TokenName),
    /// That of a JWT, as its provider names them: `oidc:anna`.
    Subject(Arc<str>),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => name.fmt(f),
            Self::Subject(name) => write!(f, "oidc:{name}"),
        }
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; use viewer, enroller, operator or admin")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| RoleError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_named() {
        assert!(Role::ALL.is_sorted() && Role::Viewer < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("viewer, enroller, operator or admin"));
    }
}
