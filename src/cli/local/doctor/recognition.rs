//! What recognition needs: the runtime library, the models, the vector server.

use std::{
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    time::Duration,
};

use super::{Finding, Verdict};
use crate::{
    config::{Config, types::GalleryBackend},
    ids::ModelId,
    inference::{
        self, InferenceSettings, NetworkError, OrtSession,
        manifest::Role,
        ort::RuntimeError,
        provider::{self, Provider},
    },
    models::{self, Manifest, ModelError, locate, manifest},
    server::embedder,
    store::sqlite::SqliteStore,
};

/// How long the vector server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Every finding about recognition; `file` is the configuration file that was asked for.
pub(super) fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let library = locate::runtime_library(&config.inference.runtime_library);
    let loaded = library.map_err(Broken::from).and_then(|path| {
        let environment = inference::environment(&path)?;
        // The file behind the link has the release in its name, which the library itself does not always tell.
        let file = path.canonicalize().unwrap_or(path);
        Ok((environment, format!("ONNX Runtime {} ({})", inference::runtime_version(), file.display())))
    });
    let (finding, environment) = match loaded {
        Ok((environment, found)) => (Finding::ok(RUNTIME, found), Some(environment)),
        Err(Broken(found)) => (Finding::bad(RUNTIME, Verdict::Missing, found, RUNTIME_MEND), None),
    };
    let mut findings = vec![finding];
    let user = Some(&config.models.manifest).filter(|path| !path.is_empty());
    match manifest::load(user.map(Path::new)) {
        Ok(manifest) => {
            let embedder = in_use(config);
            findings.extend(overruled(config, &embedder));
            let liveness = Some((&config.liveness.model, Role::Liveness)).filter(|(id, _)| !id.is_empty());
            let mut fallback = String::new();
            let always = [(&config.models.detector, Role::Detector), (&embedder, Role::Embedder)];
            for (id, role) in always.into_iter().chain(liveness) {
                // A graph that loads is the only proof that provider, library and file go together.
                let load = |path: &Path| {
                    let Some(environment) = &environment else { return Ok(()) };
                    let with = |provider| {
                        let settings = InferenceSettings { provider, ..config.inference.clone() };
                        OrtSession::load(environment, &path.into(), &settings).map(drop)
                    };
                    let chosen = provider::choose(config.inference.provider, with)?;
                    if chosen.provider == Provider::Cpu {
                        with(chosen.provider)?;
                    }
                    fallback = chosen.fallback;
                    Ok(())
                };
                findings.push(model(config, id, role, &manifest, file, load));
            }
            if !fallback.is_empty() {
                let mend = "set inference.provider = \"cpu\", or mend what CUDA lacks";
                findings.push(Finding::bad(
                    "provider",
                    Verdict::Warning,
                    format!("auto takes the CPU: {fallback}"),
                    mend,
                ));
            }
        }
        Err(error) => {
            let mend = "correct the file that models.manifest names";
            findings.push(Finding::bad("model manifest", Verdict::Missing, error.to_string(), mend));
        }
    }
    if config.gallery.backend == GalleryBackend::Qdrant {
        findings.push(vector_server(&config.gallery.qdrant.url));
    }
    findings
}

/// The embedder of the data folder, which decides where it has faces; the configured one where nothing can be read.
fn in_use(config: &Config) -> String {
    let configured = &config.models.embedder;
    let (Ok(id), Ok((moved, coverage))) = (configured.parse(), SqliteStore::embedders(&config.server.data_dir)) else {
        return configured.clone();
    };
    embedder::choose(&id, moved.as_ref(), &coverage).to_string()
}

/// A remark when the data folder uses another embedder than the configuration names.
fn overruled(config: &Config, in_use: &str) -> Option<Finding> {
    let (configured, in_use) = (config.models.embedder.parse().ok()?, in_use.parse().ok()?);
    embedder::overruled(&configured, &in_use)?;
    let found = format!("models.embedder is {configured}, the faces of the data folder are of {in_use}, which is used");
    let mend = format!("set models.embedder = \"{in_use}\", or visage gallery reembed --model {configured}");
    Some(Finding::bad("embedder in use", Verdict::Warning, found, mend))
}

const RUNTIME: &str = "runtime library";
const RUNTIME_MEND: &str = "make setup, or set inference.runtime_library";

/// Why there is no runtime, without the advice that stands in its own column.
struct Broken(String);

impl From<ModelError> for Broken {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::NoRuntime(places) => Self(format!("not in {places}")),
            other => Self(other.to_string()),
        }
    }
}

impl From<RuntimeError> for Broken {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Load { path, message } => Self(format!("{} can't be loaded: {message}", path.display())),
            other => Self(other.to_string()),
        }
    }
}

/// One model: its file verified, its role right, its graph loaded.
fn model(
    config: &Config,
    id: &str,
    role: Role,
    manifest: &Manifest,
    file: Option<&Path>,
    load: impl FnOnce(&Path) -> Result<(), NetworkError>,
) -> Finding {
    let (check, key) = match role {
        Role::Detector => ("detector", "models.detector"),
        Role::Embedder => ("embedder", "models.embedder"),
        Role::Liveness => ("liveness", "liveness.model"),
    };
    let missing = |found: String, mend: String| Finding::bad(check, Verdict::Missing, found, mend);
    let config_flag = file.map_or_else(String::new, |file| format!(" --config {}", file.display()));
    let pull = format!("visage models pull {id}{config_flag}");
    let model: ModelId = match id.parse() {
        Ok(id) => id,
        Err(error) => return missing(format!("{error}"), format!("correct {key}")),
    };
    let loaded = match models::load(&locate::models_dir(&config.models.dir), &model, manifest) {
        Ok(loaded) => loaded,
        Err(ModelError::Missing { path, .. }) => return missing(format!("no {}", path.display()), pull),
        Err(ModelError::WrongHash { path, found, .. }) => {
            let found = format!("{} is not the file that the manifest describes: SHA-256 {found}", path.display());
            return missing(found, pull);
        }
        Err(error @ ModelError::Unknown { .. }) => return missing(error.to_string(), format!("correct {key}")),
        Err(error) => return missing(error.to_string(), pull),
    };
    if loaded.entry.role != role {
        return missing(format!("{id} is a model of another kind"), format!("name a model of this kind in {key}"));
    }
    match load(&loaded.path) {
        Ok(()) => {
            let size = std::fs::metadata(&loaded.path).map_or(0, |facts| facts.len());
            Finding::ok(check, format!("{id} ({} KiB, verified)", size >> 10))
        }
        Err(error @ NetworkError::Provider(_)) => missing(error.to_string(), "set inference.provider = \"cpu\"".into()),
        Err(error) => missing(error.to_string(), pull),
    }
}

/// Whether somebody listens where the vector server should be. Nothing is said to it: a question could make a collection.
fn vector_server(url: &str) -> Finding {
    const CHECK: &str = "vector server";
    let mend = "start Qdrant, correct gallery.qdrant.url, or set gallery.backend = \"exact\"";
    let missing = |found: String| Finding::bad(CHECK, Verdict::Missing, found, mend);
    // The URL is never shown: somebody may have put a password into it.
    let place =
        url::Url::parse(url).ok().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
    let Some((host, port)) = place else { return missing("gallery.qdrant.url is no server's address".into()) };
    let bare = host.trim_matches(['[', ']']);
    let addresses = match (bare, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return missing(format!("{host}: {error}")),
    };
    let answers = |address| TcpStream::connect_timeout(&address, PATIENCE);
    match addresses.map(answers).reduce(|first, next| first.or(next)) {
        Some(Ok(_)) => Finding::ok(CHECK, format!("{host}:{port} answers")),
        Some(Err(error)) => missing(format!("{host}:{port}: {error}")),
        None => missing(format!("{host} has no address")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn looked_at(dir: &Path, id: &str, role: Role) -> Finding {
        let mut config = Config::default();
        config.models.dir = dir.display().to_string();
        model(&config, id, role, &manifest::load(None).unwrap(), Some(Path::new("v.toml")), |_| Ok(()))
    }

    #[test]
    fn a_model_is_missing_wrong_or_of_another_kind() {
        let dir = tempfile::tempdir().unwrap();
        let finding = looked_at(dir.path(), "dlib-resnet", Role::Embedder);
        assert_eq!(
            (finding.verdict, &*finding.mend),
            (Verdict::Missing, "visage models pull dlib-resnet --config v.toml")
        );
        fs::write(dir.path().join("dlib-resnet.onnx"), "another file").unwrap();
        let finding = looked_at(dir.path(), "dlib-resnet", Role::Embedder);
        assert!(finding.verdict == Verdict::Missing && finding.found.contains("SHA-256"), "{finding:?}");
        let finding = looked_at(dir.path(), "no-such-model", Role::Embedder);
        assert!(finding.mend == "correct models.embedder", "{finding:?}");
        // The user's own model without a hash is taken as it is.
        fs::write(dir.path().join("facenet-vggface2.onnx"), "graph").unwrap();
        assert_eq!(looked_at(dir.path(), "facenet-vggface2", Role::Embedder).verdict, Verdict::Ok);
        assert_eq!(looked_at(dir.path(), "facenet-vggface2", Role::Detector).verdict, Verdict::Missing);
    }

    #[test]
    fn a_library_that_is_none_is_named_with_the_way_to_mend_it() {
        let mut config = Config::default();
        config.inference.runtime_library = "/nowhere/libonnxruntime.so".into();
        config.models.dir = "/nowhere".into();
        config.liveness.model = "liveness".into();
        let findings = check(&config, None);
        assert_eq!(findings.len(), 4);
        assert_eq!(findings[3].mend, "visage models pull liveness");
        assert!(findings[0].found.contains("/nowhere/libonnxruntime.so"), "{findings:?}");
        assert_eq!(findings[0].mend, RUNTIME_MEND);
    }

    #[test]
    fn a_vector_server_that_is_not_there_is_missing_and_its_password_never_shown() {
        let finding = vector_server("http://joe:secret@127.0.0.1:1");
        assert_eq!(finding.verdict, Verdict::Missing);
        assert!(!finding.found.contains("secret") && finding.found.starts_with("127.0.0.1:1"), "{finding:?}");
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        assert_eq!(vector_server(&url).verdict, Verdict::Ok);
    }
}
