//! TLS of both listeners: PEM files → configurations, read again while the server runs.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_util::sync::CancellationToken;
use x509_cert::der::Decode;

use crate::{config::types::TlsSettings, telemetry};

/// Between two looks at the files.
const RELOAD: Duration = Duration::from_secs(5);

/// Why there is no TLS: the file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{key}: {path} can't be read: {source}")]
    File {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{key}: {path} {what}")]
    Content {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never a part of the file.
        what: String,
    },
}

/// The configurations of the two listeners.
pub struct Configurations {
    /// When the first certificate of the chain ends, seconds since 1970.
    ends: Option<i64>,
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

/// Which listener a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// gRPC: client certificates are asked for where an authority of theirs is named.
    Grpc,
    /// HTTP: never client certificates, since probes have none.
    Http,
}

impl Listener {
    /// Its label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl Configurations {
    /// Tells when the certificate ends, now that it is in use.
    fn tell(&self) {
        if let Some(at) = self.ends {
            telemetry::certificate_expires(at);
        }
    }

    /// That of a listener.
    pub fn of(&self, listener: Listener) -> Arc<ServerConfig> {
        match listener {
            Listener::Grpc => self.grpc.clone(),
            Listener::Http => self.http.clone(),
        }
    }
}

/// The files' contents.
struct Files {
    settings: TlsSettings,
    certificate: Vec<u8>,
    private_key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

const CERTIFICATE: &str = "server.tls.certificate";
const PRIVATE_KEY: &str = "server.tls.private_key";
const CLIENT_CA: &str = "server.tls.client_ca";

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let file =
            |key, path: &str| std::fs::read(path).map_err(|source| TlsError::File { key, path: path.into(), source });
        let client_ca = Some(settings.client_ca.as_str()).filter(|path| !path.is_empty());
        Ok(Self {
            certificate: file(CERTIFICATE, &settings.certificate)?,
            private_key: file(PRIVATE_KEY, &settings.private_key)?,
            client_ca: client_ca.map(|path| file(CLIENT_CA, path)).transpose()?,
            settings: settings.clone(),
        })
    }

    /// Changes when any of them does.
    fn fingerprint(&self) -> [u8; 32] {
        let mut sum = Sha256::new();
        for part in [Some(&self.certificate), Some(&self.private_key), self.client_ca.as_ref()].into_iter().flatten() {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        sum.finalize().into()
    }

    fn configurations(&self) -> Result<Configurations, TlsError> {
        let wrong = |key, path: &str, what: String| TlsError::Content { key, path: path.into(), what };
        let (chain_path, key_path) = (&self.settings.certificate, &self.settings.private_key);
        let chain = certificates(&self.certificate).map_err(|what| wrong(CERTIFICATE, chain_path, what))?;
        let key = PrivateKeyDer::from_pem_slice(&self.private_key)
            .map_err(|_| wrong(PRIVATE_KEY, key_path, "holds no private key in PEM (BEGIN PRIVATE KEY)".into()))?;
        let provider = Arc::new(ring::default_provider());
        let ends = ends(&chain);
        let http = configuration(&provider, chain.clone(), key.clone_key(), None)
            .map_err(|e| wrong(CERTIFICATE, chain_path, format!("does not go with {key_path}: {e}")))?;
        let roots = match &self.client_ca {
            None => None,
            Some(pem) => {
                let wrong = |what| wrong(CLIENT_CA, &self.settings.client_ca, what);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).map_err(wrong)? {
                    roots.add(certificate).map_err(|e| wrong(format!("is no authority's certificate: {e}")))?;
                }
                Some(roots)
            }
        };
        let grpc = configuration(&provider, chain, key, roots).map_err(|e| wrong(CERTIFICATE, chain_path, e))?;
        Ok(Configurations {
            ends,
            grpc: with_protocols(grpc, &[b"h2", b"http/1.1"]),
            http: with_protocols(http, &[b"http/1.1"]),
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("holds no certificate in PEM (BEGIN CERTIFICATE)".into()),
    }
}

/// When the server's own certificate ends; `None` where it does not say so in a way that is understood.
fn ends(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let own = x509_cert::Certificate::from_der(chain.first()?).ok()?;
    i64::try_from(own.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
}

fn configuration(
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: Option<RootCertStore>,
) -> Result<ServerConfig, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| words(&e))?;
    let builder = match client_roots {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            builder.with_client_cert_verifier(verifier.build().map_err(|e| words(&e))?)
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(|e| words(&e))
}

fn with_protocols(mut config: ServerConfig, names: &[&[u8]]) -> Arc<ServerConfig> {
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// The certificate in use, and the files that it comes from.
pub struct Tls {
    settings: TlsSettings,
    /// Of the contents that were tried last.
    tried: [u8; 32],
    current: watch::Sender<Arc<Configurations>>,
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// When one can't be read or holds something else, or key and certificate do not belong together.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let files = Files::read(settings)?;
        let configurations = files.configurations()?;
        configurations.tell();
        let current = watch::Sender::new(Arc::new(configurations));
        Ok(Self { settings: settings.clone(), tried: files.fingerprint(), current })
    }

    /// The configurations as they change.
    pub fn watch(&self) -> watch::Receiver<Arc<Configurations>> {
        self.current.subscribe()
    }

    /// Takes files that were replaced, looking every five seconds until `stop`. Faulty ones are told once and the certificate stays.
    pub async fn follow(mut self, stop: CancellationToken) {
        let mut unread = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(RELOAD) => {}
                () = stop.cancelled() => return,
            }
            let settings = self.settings.clone();
            let read = tokio::task::spawn_blocking(move || Files::read(&settings)).await;
            let failed = match read {
                Ok(Ok(files)) => {
                    unread = false;
                    self.take(&files)
                }
                // Told once until they can be read again.
                Ok(Err(_)) if unread => Ok(()),
                Ok(Err(error)) => {
                    unread = true;
                    Err(error)
                }
                Err(_) => return,
            };
            if let Err(error) = failed {
                tracing::error!(%error, "the TLS files can't be used; the certificate before goes on");
            }
        }
    }

    /// Takes contents that are new and sound.
    fn take(&mut self, files: &Files) -> Result<(), TlsError> {
        let fingerprint = files.fingerprint();
        if fingerprint == self.tried {
            return Ok(());
        }
        self.tried = fingerprint;
        let configurations = files.configurations()?;
        configurations.tell();
        self.current.send_replace(Arc::new(configurations));
        tracing::info!(certificate = self.settings.certificate, "a new TLS certificate is in use for new connections");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tokio::time::timeout;

    use super::*;

    fn written(dir: &Path, name: &str) -> TlsSettings {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = |ending: &str| dir.join(format!("{name}.{ending}")).display().to_string();
        fs::write(path("pem"), made.cert.pem()).unwrap();
        fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        TlsSettings { certificate: path("pem"), private_key: path("key"), client_ca: String::new() }
    }

    #[test]
    fn faulty_files_are_named_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (written(dir.path(), "one"), written(dir.path(), "two"));
        assert!(Tls::load(&one).is_ok());
        assert!(Tls::load(&TlsSettings { client_ca: one.certificate.clone(), ..one.clone() }).is_ok());
        let text = |settings: TlsSettings| Tls::load(&settings).map(drop).unwrap_err().to_string();
        let missing = dir.path().join("none.pem").display().to_string();
        let told = text(TlsSettings { certificate: missing, ..one.clone() });
        assert!(told.contains("server.tls.certificate") && told.contains("none.pem"), "{told}");
        let told = text(TlsSettings { certificate: one.private_key.clone(), ..one.clone() });
        assert!(told.contains("no certificate"), "{told}");
        let told = text(TlsSettings { private_key: one.certificate.clone(), ..one.clone() });
        assert!(told.contains("server.tls.private_key") && told.contains("no private key"), "{told}");
        let told = text(TlsSettings { private_key: two.private_key.clone(), ..one.clone() });
        assert!(told.contains("does not go with"), "{told}");
        let told = text(TlsSettings { client_ca: one.private_key.clone(), ..one.clone() });
        assert!(told.contains("server.tls.client_ca"), "{told}");
        let secret = fs::read_to_string(&one.private_key).unwrap();
        assert!(secret.lines().skip(1).all(|line| !told.contains(line)));
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let ended = |year| {
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 2);
            let key = rcgen::KeyPair::generate().unwrap();
            ends(&[CertificateDer::from(params.self_signed(&key).unwrap().der().to_vec())])
        };
        // Years from 2050 on are written in another way.
        assert_eq!((ended(2031), ended(2051)), (Some(1_925_078_400), Some(2_556_230_400)));
        assert_eq!(ends(&[CertificateDer::from(vec![1, 2, 3])]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn new_files_are_taken_and_faulty_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (used, other) = (written(dir.path(), "used"), written(dir.path(), "other"));
        let tls = Tls::load(&used).unwrap();
        let mut current = tls.watch();
        let stop = CancellationToken::new();
        let following = tokio::spawn(tls.follow(stop.clone()));
        // The certificate of another key: half of a replacement.
        fs::copy(&other.certificate, &used.certificate).unwrap();
        assert!(timeout(RELOAD * 3, current.changed()).await.is_err(), "a half was taken");
        fs::remove_file(&used.private_key).unwrap();
        assert!(timeout(RELOAD * 3, current.changed()).await.is_err());
        fs::copy(&other.private_key, &used.private_key).unwrap();
        timeout(RELOAD * 3, current.changed()).await.expect("the new files are not taken").unwrap();
        stop.cancel();
        following.await.unwrap();
    }
}
