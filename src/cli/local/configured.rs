//! The server's settings, for commands that do a part of its work in this process.

use std::path::{Path, PathBuf};

use crate::{
    cli::error::Failure,
    config::{self, Config, ConfigError, load::Flag},
};

/// A path of the command line as a layer.
pub fn path(path: &Path) -> Flag {
    Flag::Text(path.display().to_string())
}

/// The settings of a command that does not listen: an address that `visage serve` takes with `--insecure` only is no fault here.
///
/// # Errors
/// As [`config::load()`].
pub fn load(file: Option<&Path>, flags: &[(&str, Flag)]) -> Result<Config, ConfigError> {
    let mut flags = flags.to_vec();
    flags.push(("server.insecure", Flag::Bool(true)));
    config::load(file, &flags).map(|loaded| loaded.config)
}

/// The server whose data folder a command works on.
#[derive(Debug, clap::Args)]
pub struct Folder {
    /// The server's configuration file (TOML): `server.data_dir`, `[storage]` and `[audit]` count.
    #[arg(long, global = true, value_name = "FILE", env = "VISAGE_CONFIG")]
    config: Option<PathBuf>,
    /// The server's data folder [env: VISAGE_DATA_DIR] [default: visage-data].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Folder {
    /// The server's settings.
    ///
    /// # Errors
    /// As [`load`].
    pub fn config(&self) -> Result<Config, Failure> {
        let folder = self.data_dir.as_deref().map(|dir| ("server.data_dir", path(dir)));
        Ok(load(self.config.as_deref(), folder.as_slice()).map_err(anyhow::Error::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_address_does_not_keep_other_commands_from_working() {
        let listen = ("server.listen", Flag::Text("0.0.0.0:50051".into()));
        assert!(config::load(None, std::slice::from_ref(&listen)).is_err());
        let config = load(None, &[listen, ("models.dir", path(Path::new("somewhere")))]).unwrap();
        assert_eq!(config.models.dir, "somewhere");
    }
}
