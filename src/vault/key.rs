//! Where the keys come from: a setting, a file, or the file that the first start makes in the data folder.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{KeyId, Vault, VaultError};

/// The file of the key where no other is named.
const FILE: &str = "visage.key";
/// How to make one.
const MAKE: &str = "`openssl rand -base64 32` makes one";

/// Section `[storage]`: the key that pictures, embeddings and camera passwords on the disk are sealed with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultSettings {
    /// The key itself, 32 bytes in base64; meant for the environment, `VISAGE_STORAGE__KEY`. Further ones, apart by spaces, open what they
    /// sealed.
    pub key: crate::secret::Secret,
    /// A file with such keys, one a line; the first one seals. Empty: `visage.key` in the data folder, made at the first start.
    pub key_file: String,
}

/// Tells keys apart.
pub(super) fn id(key: &[u8; 32]) -> KeyId {
    let hash = Sha256::new().chain_update(b"visage key id").chain_update(key).finalize();
    let mut id = [0; super::ID];
    id.copy_from_slice(&hash[..super::ID]);
    KeyId(id)
}

fn keys(text: &str, from: &str) -> Result<Vec<[u8; 32]>, VaultError> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let keys: Vec<[u8; 32]> = lines
        .flat_map(str::split_whitespace)
        .map(|word| BASE64_STANDARD.decode(word).ok().and_then(|bytes| bytes.try_into().ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| VaultError::Key(format!("{from} holds something that is no key: 32 bytes in base64; {MAKE}")))?;
    if keys.is_empty() {
        return Err(VaultError::Key(format!("{from} holds no key; {MAKE}")));
    }
    Ok(keys)
}

/// Makes a key and puts it in a file that only its owner reads; one that is there already stays.
fn make(path: &Path) -> Result<(), VaultError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(VaultError::Random)?;
    let kept = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let only_owner = fs::Permissions::from_mode(0o600);
        let mut file = tempfile::Builder::new().permissions(only_owner).tempfile_in(dir)?;
        writeln!(
            file,
            "# Seals the pictures, embeddings and camera passwords of this data folder. Keep a copy elsewhere, apart from"
        )?;
        writeln!(file, "# backups: without it they can't be read.\n{}", BASE64_STANDARD.encode(key))?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop).map_err(|e| e.error),
        }?;
        fs::File::open(dir)?.sync_all()
    };
    kept().map_err(|source| VaultError::File { path: path.to_owned(), source })?;
    tracing::info!(path = %path.display(), "a key was made that seals pictures, embeddings and passwords; keep a copy of it elsewhere");
    Ok(())
}

impl VaultSettings {
    /// The file that the keys come from; `None` where the setting holds them.
    pub fn file(&self, data_dir: &Path) -> Option<PathBuf> {
        match (self.key.expose().is_empty(), self.key_file.as_str()) {
            (false, _) => None,
            (true, "") => Some(data_dir.join(FILE)),
            (true, file) => Some(file.into()),
        }
    }

    /// Whether the key lies in the data folder itself, where a copy of the whole folder takes it along.
    pub fn is_beside_the_data(&self) -> bool {
        self.key.expose().is_empty() && self.key_file.is_empty()
    }

    /// The keys. In a `new` data folder one is made where no setting names another.
    ///
    /// # Errors
    /// When the file is missing or can't be read, or there is no key in it.
    pub fn open(&self, data_dir: &Path, new: bool) -> Result<Vault, VaultError> {
        let Some(path) = self.file(data_dir) else {
            return Ok(Vault::of(&keys(self.key.expose(), "storage.key")?));
        };
        if new && self.is_beside_the_data() && !path.exists() {
            make(&path)?;
        }
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Vault::of(&keys(&text, &path.display().to_string())?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(VaultError::Key(format!(
                "the key file {} is missing, and the data can't be read without it: put it back, or name its place with storage.key_file",
                path.display()
            ))),
            Err(source) => Err(VaultError::File { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = VaultSettings::default();
        let missing = settings.open(dir.path(), false).unwrap_err().to_string();
        assert!(missing.contains("visage.key") && missing.contains("put it back"), "{missing}");
        let first = settings.open(dir.path(), true).unwrap().key_id().unwrap();
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(settings.open(dir.path(), true).unwrap().key_id().unwrap(), first);
        assert_eq!(settings.open(dir.path(), false).unwrap().key_id().unwrap(), first);
    }

    #[test]
    fn keys_come_from_a_setting_or_a_file_and_bad_ones_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (BASE64_STANDARD.encode([1; 32]), BASE64_STANDARD.encode([2; 32]));
        let given = VaultSettings { key: Secret::new(format!("{two} {one}")), ..Default::default() };
        let vault = given.open(dir.path(), true).unwrap();
        assert_eq!(vault.key_id(), Some(id(&[2; 32])));
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is made");
        let file = dir.path().join("keys");
        let named = VaultSettings { key_file: file.display().to_string(), ..Default::default() };
        assert!(named.open(dir.path(), true).is_err(), "a file that was named is not made");
        fs::write(&file, format!("# new\n{two}\n# old\n{one} # 2026\n")).unwrap();
        let sealed = Vault::of(&[[1; 32]]).seal("x", b"y").unwrap();
        assert_eq!(named.open(dir.path(), false).unwrap().unseal("x", &sealed).unwrap(), b"y");
        for bad in ["", "# nothing\n", "AAAA\n", "no base64 at all"] {
            fs::write(&file, bad).unwrap();
            let told = named.open(dir.path(), false).unwrap_err().to_string();
            assert!(told.contains("openssl rand") && !told.contains("AAAA"), "{told}");
        }
    }
}
