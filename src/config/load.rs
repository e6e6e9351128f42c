//! Layers: built-in defaults, the file, the environment (`VISAGE_SECTION__KEY`, and `VISAGE_DATA_DIR` for short), flags; and where
//! each value came from.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Serialized, Toml},
    value::{Dict, Value},
};

use super::{Config, check};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("configuration file {0} can't be read: {1}")]
    File(PathBuf, std::io::Error),
    /// Every fault found, one a line.
    #[error("the configuration has faults:\n  {}", .0.join("\n  "))]
    Faults(Vec<String>),
}

/// A value given on the command line.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(untagged)]
pub enum Flag {
    /// A text, such as an address.
    Text(String),
    /// A switch.
    Bool(bool),
}

/// The short name of `VISAGE_SERVER__DATA_DIR`.
const DATA_DIR: &str = "VISAGE_DATA_DIR";

/// A variable whose value is text whatever it looks like: a folder or a key made of digits is no number.
struct TextVariable {
    key: String,
    text: String,
}

impl TextVariable {
    fn read(name: &str, key: &str) -> Option<Self> {
        let text = std::env::var_os(name).filter(|text| !text.is_empty())?;
        Some(Self { key: key.to_owned(), text: text.to_string_lossy().into_owned() })
    }
}

impl Provider for TextVariable {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment variable")
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        Serialized::default(&self.key, &self.text).data()
    }
}

/// A configuration with the origin of its values.
pub struct Loaded {
    /// The values.
    pub config: Config,
    figment: Figment,
}

/// Loads the layers and checks the result. `flags` are dotted keys with values from the command line.
///
/// # Errors
/// When the file can't be read, or with all faults at once: unknown keys with the nearest known one, wrong types, bad values.
pub fn load(file: Option<&Path>, flags: &[(&str, Flag)]) -> Result<Loaded, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        std::fs::metadata(path).map_err(|e| ConfigError::File(path.to_owned(), e))?;
        figment = figment.merge(Toml::file_exact(path));
    }
    // Only keys with a section: VISAGE_SERVER and VISAGE_TOKEN belong to the client.
    figment = figment.merge(Env::prefixed("VISAGE_").filter(|k| k.as_str().contains("__")).split("__"));
    for key in text_keys() {
        let name = format!("VISAGE_{}", key.replace('.', "__").to_uppercase());
        if let Some(variable) = TextVariable::read(&name, &key) {
            figment = figment.merge(variable);
        }
    }
    if let Some(dir) = TextVariable::read(DATA_DIR, "server.data_dir") {
        figment = figment.merge(dir);
    }
    for (key, value) in flags {
        figment = figment.merge(Serialized::default(key, value));
    }
    let mut faults = unknown_keys(&figment);
    let config = match figment.extract::<Config>() {
        Ok(config) => config,
        Err(errors) => {
            // Unknown keys were told above, with a suggestion.
            let others = errors.into_iter().filter(|e| !matches!(e.kind, figment::error::Kind::UnknownField(..)));
            faults.extend(others.map(|e| fault(&e)));
            return Err(ConfigError::Faults(faults));
        }
    };
    faults.extend(check::faults(&config));
    if faults.is_empty() { Ok(Loaded { config, figment }) } else { Err(ConfigError::Faults(faults)) }
}

/// The text of a fault; a secret is never repeated.
fn fault(error: &figment::Error) -> String {
    let key = error.path.join(".");
    if is_secret(&key) { format!("{key}: is no text; write it in quotes") } else { error.to_string() }
}

/// Keys whose values are text.
fn text_keys() -> Vec<String> {
    let mut keys = Vec::new();
    if let Ok(data) = Figment::from(Serialized::defaults(Config::default())).data() {
        for dict in data.into_values() {
            walk("", &dict, &mut |path, value| {
                if value.as_str().is_some() {
                    keys.push(path.to_owned());
                }
            });
        }
    }
    keys
}

impl Loaded {
    /// Each key with its value (secrets masked) and where it came from, one a line.
    pub fn explain(&self) -> String {
        let mut out = String::new();
        if let Ok(data) = Figment::from(Serialized::defaults(&self.config)).data() {
            for dict in data.into_values() {
                walk("", &dict, &mut |path, value| {
                    let origin = self.figment.find_metadata(path).map_or_else(String::new, |m| match &m.source {
                        Some(figment::Source::File(file)) => file.display().to_string(),
                        _ if m.name.contains("environment") => "environment".into(),
                        _ if m.name.contains("Config") => "default".into(),
                        _ => "command line".into(),
                    });
                    let shown = if is_secret(path) && !is_empty(value) { "\"***\"".into() } else { show(value) };
                    out.push_str(&format!("{path} = {shown}  # {origin}\n"));
                });
            }
        }
        out
    }
}

fn is_secret(path: &str) -> bool {
    ["api_key", "password", "token", "storage.key"].iter().any(|word| path.ends_with(word))
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Empty(..)) || value.as_str().is_some_and(str::is_empty)
}

/// A URL without the user name and password in it; anything else as it is.
fn without_userinfo(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        // Up to the last `@`: a password may hold any character, and a path that is masked too does no harm.
        (Some(scheme), Some(at)) if scheme < at => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Empty(..) => "(unset)".into(),
        Value::String(_, text) => serde_json::to_string(&without_userinfo(text)).unwrap_or_default(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn walk(prefix: &str, dict: &Dict, leaf: &mut impl FnMut(&str, &Value)) {
    for (key, value) in dict {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value.as_dict() {
            Some(inner) if !inner.is_empty() => walk(&path, inner, leaf),
            _ => leaf(&path, value),
        }
    }
}

/// Keys that no section knows, each with the nearest known one.
fn unknown_keys(figment: &Figment) -> Vec<String> {
    // Tables of the user's own words have any keys.
    let (mut known, mut tables) = (Vec::new(), Vec::new());
    if let Ok(data) = Figment::from(Serialized::defaults(Config::default())).data() {
        for dict in data.into_values() {
            walk("", &dict, &mut |path, value| {
                if value.as_dict().is_some() {
                    tables.push(format!("{path}."));
                }
                known.push(path.to_owned());
            });
        }
    }
    let mut faults = Vec::new();
    let Ok(data) = figment.data() else { return faults };
    for dict in data.get(&Profile::Default).into_iter() {
        walk("", dict, &mut |path, _| {
            let whole = known.iter().any(|k| k == path || k.starts_with(&format!("{path}.")));
            if whole || tables.iter().any(|table| path.starts_with(table)) {
                return;
            }
            let nearest =
                known.iter().max_by(|a, b| strsim::jaro_winkler(path, a).total_cmp(&strsim::jaro_winkler(path, b)));
            let hint = nearest.map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            faults.push(format!("unknown key `{path}`{hint}"));
        });
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_file_overrides_defaults_and_flags_override_the_file() {
        let f = file("[server]\nlisten = \"127.0.0.1:6000\"\ngrace_seconds = 3\n");
        let loaded = load(Some(f.path()), &[("server.listen", Flag::Text("127.0.0.1:7000".into()))]).unwrap();
        assert_eq!(loaded.config.server.listen.port(), 7000);
        assert_eq!(loaded.config.server.grace_seconds, 3);
        assert!(loaded.explain().contains("server.grace_seconds = 3  # "));
    }

    #[test]
    fn tables_of_own_words_have_any_keys() {
        let file = file(
            "[auth]\nrequired = true\n[auth.oidc]\nissuer = \"https://login.example\"\naudience = \"visage\"\n[auth.oidc.roles]\n\"Camera admins\" = \"admin\"\n",
        );
        let loaded = load(Some(file.path()), &[]).unwrap();
        assert_eq!(loaded.config.auth.oidc.roles["Camera admins"], "admin");
        assert!(loaded.explain().contains("Camera admins"));
    }

    #[test]
    fn unknown_keys_name_the_nearest_and_all_faults_come_at_once() {
        let f = file("[server]\nlissten = \"127.0.0.1:1\"\n[inference]\ndetector_size = 7\nmin_scor = 0.4\n");
        let Err(error) = load(Some(f.path()), &[]) else { panic!("faulty configuration was accepted") };
        let text = error.to_string();
        assert!(text.contains("did you mean `server.listen`"), "{text}");
        assert!(text.contains("did you mean `inference.min_score`"), "{text}");
    }

    #[test]
    fn what_is_shown_holds_no_password() {
        let url = Flag::Text("https://joe:p/w@d@vectors:6334".into());
        let loaded = load(None, &[("gallery.qdrant.url", url)]).unwrap();
        let text = loaded.explain();
        assert!(text.contains("gallery.qdrant.url = \"https://***@vectors:6334\"  # command line"), "{text}");
        assert!(!text.contains("joe") && !text.contains("p/w"), "{text}");
        assert_eq!(without_userinfo("http://127.0.0.1:6334"), "http://127.0.0.1:6334");
        assert_eq!(without_userinfo("me@home"), "me@home");
    }

    #[test]
    fn a_secret_of_digits_is_never_repeated() {
        let f = file("[gallery.qdrant]\napi_key = 12345678\n");
        let Err(error) = load(Some(f.path()), &[]) else { panic!("a number was taken for a key") };
        let text = error.to_string();
        assert!(text.contains("gallery.qdrant.api_key") && !text.contains("12345678"), "{text}");
        assert!(text_keys().contains(&"gallery.qdrant.api_key".to_owned()));
        assert!(text_keys().contains(&"store".to_owned()), "VISAGE_STORE is read");
    }

    #[test]
    fn a_missing_file_is_named() {
        let Err(error) = load(Some(Path::new("no-such-file.toml")), &[]) else { panic!() };
        assert!(error.to_string().contains("no-such-file.toml"));
    }
}
