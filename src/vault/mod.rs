//! Sealing what lies on the disk: pictures, embeddings and passwords are unreadable without the key.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with a random nonce for each piece. What a piece belongs to, such as `crop/ID`, is
//! authenticated with it, so that no piece can be put in another's place.

mod key;

use std::{fmt, path::PathBuf};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

pub use key::VaultSettings;

/// First bytes of every sealed piece: what it is, and the version of its form.
const MARK: [u8; 4] = *b"VSG1";
const ID: usize = 8;
const NONCE: usize = 24;
const HEAD: usize = MARK.len() + ID + NONCE;

/// Why a piece can't be sealed or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No key where one must be.
    #[error("{0}")]
    Key(String),
    /// The file of the key.
    #[error("the key file {path} can't be used: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Sealed with a key that is not here.
    #[error("it was sealed with the key {0}, which is not at hand; add that key to storage.key_file as a further line")]
    OtherKey(KeyId),
    /// Changed, cut short, moved from another place, or never sealed.
    #[error("{0} is not what was sealed: the data were changed or are damaged")]
    Broken(String),
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Tells keys apart without giving them away: the first bytes of a SHA-256 over them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; ID]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys at hand: the first seals, all open.
pub struct Vault {
    keys: Vec<(KeyId, XChaCha20Poly1305)>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Vault {
    /// Keys as they are; the first one seals.
    fn of(keys: &[[u8; 32]]) -> Self {
        let keys = keys.iter().map(|key| (key::id(key), XChaCha20Poly1305::new(key.into()))).collect();
        Self { keys }
    }

    /// The key that seals.
    pub fn key_id(&self) -> Option<KeyId> {
        self.keys.first().map(|(id, _)| *id)
    }

    /// Seals a piece for the place that it belongs to; 52 bytes longer than `plain`.
    ///
    /// # Errors
    /// When there is no key, or there are no random numbers.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (id, cipher) = self.keys.first().ok_or_else(|| VaultError::Key("there is no key to seal with".into()))?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(VaultError::Random)?;
        let payload = Payload { msg: plain, aad: place.as_bytes() };
        let text = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Broken(place.to_owned()))?;
        let mut sealed = Vec::with_capacity(HEAD + text.len());
        sealed.extend_from_slice(&MARK);
        sealed.extend_from_slice(&id.0);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Reads a piece that [`Vault::seal`] made for the same place.
    ///
    /// # Errors
    /// When its key is not at hand, or it is not what was sealed for this place.
    pub fn unseal(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let broken = || VaultError::Broken(place.to_owned());
        let (head, text) = sealed.split_at_checked(HEAD).ok_or_else(broken)?;
        let (mark, head) = head.split_at(MARK.len());
        let (id, nonce) = head.split_at(ID);
        if mark != MARK {
            return Err(broken());
        }
        let id = KeyId(id.try_into().map_err(|_| broken())?);
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| broken())?;
        let (_, cipher) = self.keys.iter().find(|(known, _)| *known == id).ok_or(VaultError::OtherKey(id))?;
        let payload = Payload { msg: text, aad: place.as_bytes() };
        cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| broken())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_piece_opens_in_its_place_with_its_key_and_whole() {
        let vault = Vault::of(&[[1; 32], [2; 32]]);
        let sealed = vault.seal("crop/a", b"a face").unwrap();
        assert_eq!(sealed.len(), 6 + 52);
        assert_eq!(vault.unseal("crop/a", &sealed).unwrap(), b"a face");
        assert!(matches!(vault.unseal("crop/b", &sealed), Err(VaultError::Broken(_))));
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(vault.unseal("crop/a", &changed).is_err(), "byte {i}");
        }
        assert_ne!(sealed, vault.seal("crop/a", b"a face").unwrap(), "each has a nonce of its own");
    }

    #[test]
    fn keys_are_replaced_one_after_another() {
        let old = Vault::of(&[[1; 32]]);
        let both = Vault::of(&[[2; 32], [1; 32]]);
        let new = Vault::of(&[[2; 32]]);
        let before = old.seal("x", b"1").unwrap();
        assert_eq!(both.unseal("x", &before).unwrap(), b"1");
        let after = both.seal("x", b"2").unwrap();
        assert_eq!(new.unseal("x", &after).unwrap(), b"2");
        let error = new.unseal("x", &before).unwrap_err();
        assert!(matches!(error, VaultError::OtherKey(id) if id == old.key_id().unwrap()), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_nothing_panics(bytes: Vec<u8>, place: String) {
            let vault = Vault::of(&[[7; 32]]);
            prop_assert!(vault.unseal(&place, &bytes).is_err());
            prop_assert_eq!(vault.unseal(&place, &vault.seal(&place, &bytes).unwrap()).unwrap(), bytes);
        }
    }
}
