//! The id of a request: the caller's own, where it is well formed, or one made here. It is sent back, and stands in the records of the call.

/// Longest id that is taken from a caller.
const LONGEST: usize = 64;

/// Id of a request: 1 to 64 of `A-Z a-z 0-9 - _ .`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// What carries it in requests and answers.
    pub const HEADER: &'static str = "x-request-id";

    /// The caller's id, or a new one where there is none or it is of another form.
    pub fn of(shown: Option<&str>) -> Self {
        let fits = |id: &&str| {
            (1..=LONGEST).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        Self(shown.filter(fits).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_callers_are_kept_when_they_are_short_and_plain() {
        assert_eq!(RequestId::of(Some("a-1_B.2")).as_str(), "a-1_B.2");
        let long = "x".repeat(65);
        for bad in [None, Some(""), Some("a b"), Some("a\"b"), Some("ä"), Some(long.as_str())] {
            let made = RequestId::of(bad);
            assert_eq!(made.as_str().len(), 36, "{bad:?}");
            assert_ne!(made, RequestId::of(bad));
        }
    }
}
