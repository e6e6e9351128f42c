//! The server's settings, for commands that do a part of its work in this process.

use std::path::Path;

use crate::config::{self, Config, ConfigError, load::Flag};

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
