//! Identifiers: parsed once at the door, then trusted.
//!
//! Cameras, people and models are named by users (`[a-z0-9-]{1,63}`, models also `.` and `_`); faces, tracks and
//! events get time-ordered UUIDs (version 7), so their ids sort by creation. Groups of unknown faces are counted, since people type them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id {text:?} is invalid: use 1 to 63 characters of {allowed}")]
pub struct IdError {
    /// What the id names, such as `camera`.
    pub kind: &'static str,
    /// The refused text, cut to 80 characters.
    pub text: String,
    /// The characters that are allowed.
    pub allowed: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $allowed:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A new time-ordered id (UUID version 7).
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string().into())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let ok: fn(char) -> bool = $ok;
                if (1..=63).contains(&text.len()) && text.chars().all(ok) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { kind: $kind, text: text.chars().take(80).collect(), allowed: $allowed })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn slug(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

id!(/** A camera, as its user named it. */ CameraId, "camera", "a-z, 0-9 and -", slug);
id!(/** A person of the gallery. */ PersonId, "person", "a-z, 0-9 and -", slug);
id!(/** An enrolled face. */ FaceId, "face", "a-z, 0-9 and -", slug);
id!(/** One appearance of one face before one camera. */ TrackId, "track", "a-z, 0-9 and -", slug);
id!(/** One event of the log. */ EventId, "event", "a-z, 0-9 and -", slug);
id!(/** An API token, by who holds it. */ TokenName, "token", "a-z, 0-9 and -", slug);
id!(/** A process of a cluster that runs cameras. */ WorkerId, "worker", "a-z, 0-9 and -", slug);
id!(/** A model of the manifest. */ ModelId, "model", "a-z, 0-9, -, . and _", |c| slug(c) || c == '.' || c == '_');

/// A group of unknown faces: `u1`, `u2`, … in the order in which they were made; a number is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnknownId(u32);

impl UnknownId {
    /// The group of a number from 1 on.
    pub fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for UnknownId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix('u').filter(|d| d.starts_with(|c: char| ('1'..='9').contains(&c)));
        digits.and_then(|d| d.parse().ok()).map(Self).ok_or_else(|| IdError {
            kind: "unknown",
            text: text.chars().take(80).collect(),
            allowed: "u and a number, as in u17",
        })
    }
}

impl fmt::Display for UnknownId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

/// Turns free text (a folder's name, a display name) into an id: lower case ASCII, runs of anything else become `-`.
/// Empty when nothing usable is left.
pub fn slugify(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    out.truncate(63);
    out.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_slugs_and_refuses_the_rest() {
        assert!("front-door-2".parse::<CameraId>().is_ok());
        for bad in ["", "Front", "a/b", "a b", &"x".repeat(64), "é"] {
            assert!(bad.parse::<CameraId>().is_err(), "{bad:?} was accepted");
        }
        assert!("dlib-resnet_1.0".parse::<ModelId>().is_ok());
    }

    #[test]
    fn groups_are_u_and_a_number() {
        assert_eq!("u17".parse::<UnknownId>().unwrap().to_string(), "u17");
        for bad in ["", "u", "17", "u0", "u017", "u-1", "u+1", "u99999999999", "U1"] {
            assert!(bad.parse::<UnknownId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn generated_ids_sort_by_time() {
        let (a, b) = (EventId::generate(), EventId::generate());
        assert!(a < b);
    }

    #[test]
    fn folder_names_become_ids() {
        assert_eq!(slugify("Anna  Müller (HR)"), "anna-m-ller-hr");
        assert_eq!(slugify("lin_manuel_miranda"), "lin-manuel-miranda");
        assert_eq!(slugify("  "), "");
    }
}
