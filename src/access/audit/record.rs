//! A record and its line: JSON whose last member is the SHA-256 of all bytes of the line before it, the hash of the record before among them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// Outcome of the record that is on the disk before a change begins.
pub const BEGUN: &str = "BEGUN";
/// Method of the record that tells which records retention removed; its subject is `records/1-N`.
pub const RETENTION: &str = "audit.retention";
/// Method of the record that tells that a torn last line was removed; its subject is `bytes/N`.
pub const REPAIR: &str = "audit.repair";
/// What stands for a token or role where there is none.
pub const NOBODY: &str = "nobody";
/// Between the hashed bytes of a line and the hash.
const SEAL: &str = ",\"hash\":\"";
/// Longest line, bytes.
pub const LONGEST: usize = 64 << 10;

/// SHA-256 of a line's bytes before its own hash.
pub type Hash = [u8; 32];
/// What the first record names as the one before it.
pub const ORIGIN: Hash = [0; 32];

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// Id of the request.
    pub request: String,
    /// Name of the token; `nobody` where none was shown, `local` for commands on the server's machine.
    pub token: String,
    /// Its role.
    pub role: String,
    /// Address of the caller.
    pub peer: String,
    /// Method, such as `visage.v1.PersonService/DeletePerson`.
    pub method: String,
    /// Names of the resources, such as `people/anna`.
    pub subjects: Vec<String>,
    /// `BEGUN`, or the gRPC code at the end.
    pub outcome: String,
    /// Refused calls before this one that are not recorded singly.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Entry {
    /// Something that a command on the server's machine or the server itself did.
    pub fn local(time: Timestamp, method: &str, subject: String, outcome: &str) -> Self {
        Self {
            time,
            request: uuid::Uuid::now_v7().to_string(),
            token: "local".into(),
            role: "local".into(),
            peer: "local".into(),
            method: method.into(),
            subjects: vec![subject],
            outcome: outcome.into(),
            left_out: 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    record: u64,
    #[serde(flatten)]
    entry: Entry,
    previous: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number; the first is 1.
    pub number: u64,
    /// What it tells.
    pub entry: Entry,
    /// Hash of the record before it.
    pub previous: Hash,
    /// Its own.
    pub hash: Hash,
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Of another form.
    #[error("is no record ({0})")]
    Form(String),
    /// The bytes are not those that the hash was made of.
    #[error("was changed: its hash is of other bytes")]
    Hash,
}

impl Record {
    /// The line of an entry, with its end, and its hash.
    ///
    /// # Errors
    /// Never in practice: every part has a JSON form.
    pub fn line(number: u64, entry: &Entry, previous: &Hash) -> Result<(String, Hash), LineError> {
        let body = Body { record: number, entry: entry.clone(), previous: hex::encode(previous) };
        let mut line = serde_json::to_string(&body).map_err(|e| LineError::Form(e.to_string()))?;
        line.pop();
        let hash: Hash = Sha256::digest(line.as_bytes()).into();
        line.push_str(SEAL);
        line.push_str(&hex::encode(hash));
        line.push_str("\"}\n");
        Ok((line, hash))
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// When it has another form, or was changed.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        let form = |why: &str| LineError::Form(why.to_owned());
        let line = std::str::from_utf8(line).map_err(|_| form("not UTF-8"))?;
        let sealed = line.strip_suffix("\"}").ok_or_else(|| form("it is cut short"))?;
        let (hashed, hash) = sealed.rsplit_once(SEAL).ok_or_else(|| form("it has no hash"))?;
        let hash = parsed(hash).ok_or_else(|| form("its hash is none"))?;
        if Hash::from(Sha256::digest(hashed.as_bytes())) != hash {
            return Err(LineError::Hash);
        }
        let body: Body = serde_json::from_str(&format!("{hashed}}}")).map_err(|e| LineError::Form(e.to_string()))?;
        let previous = parsed(&body.previous).ok_or_else(|| form("its previous hash is none"))?;
        Ok(Self { number: body.record, entry: body.entry, previous, hash })
    }
}

/// A hash from its 64 hexadecimal digits.
pub fn parsed(text: &str) -> Option<Hash> {
    let mut hash = ORIGIN;
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now;

    #[test]
    fn a_line_comes_back_and_every_changed_byte_is_noticed() {
        let mut entry = Entry::local(now(), "token create", "tokens/\"odd\"".into(), "OK");
        entry.left_out = 3;
        let (line, hash) = Record::line(7, &entry, &[9; 32]).unwrap();
        let bytes = line.trim_end().as_bytes();
        let read = Record::parse(bytes).unwrap();
        assert_eq!(read, Record { number: 7, entry, previous: [9; 32], hash });
        // As docs/security.md says: anybody can compute it.
        let (hashed, _) = line.split_once(SEAL).unwrap();
        assert_eq!(hex::encode(Sha256::digest(hashed)), hex::encode(hash));
        for i in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[i] ^= 1;
            assert!(Record::parse(&changed).is_err(), "byte {i} was changed unnoticed");
        }
        assert!(Record::parse(&bytes[..bytes.len() - 1]).is_err());
    }
}
