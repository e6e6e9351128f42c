//! Who may look at simulated cameras: user and password, and TLS.

use gstreamer as gst;
use gstreamer_rtsp::RTSPAuthMethod;
use gstreamer_rtsp_server as gst_rtsp_server;
use gstreamer_rtsp_server::prelude::*;

use super::{SimulatorError, SimulatorSettings};

/// User name and password that every client must give (Digest, or Basic when the settings say so).
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A certificate with its private key, PEM.
#[derive(Clone)]
pub struct TlsIdentity(pub String);

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsIdentity(***)")
    }
}

/// How the server asks and what it shows: password and certificate as the settings say.
///
/// # Errors
/// When the certificate or its key can't be read.
pub(super) fn auth(settings: &SimulatorSettings) -> Result<gst_rtsp_server::RTSPAuth, SimulatorError> {
    let auth = gst_rtsp_server::RTSPAuth::new();
    if let Some(TlsIdentity(pem)) = &settings.tls {
        let certificate = gst_rtsp_server::gio::TlsCertificate::from_pem(pem)
            .map_err(|error| SimulatorError::Tls(error.message().to_owned()))?;
        auth.set_tls_certificate(Some(&certificate));
    }
    let role = gst_rtsp_server::RTSP_TOKEN_MEDIA_FACTORY_ROLE;
    let viewer = gst_rtsp_server::RTSPToken::builder().field(role, "viewer").build();
    // Strangers have a role too: without one they would get 404 instead of 401.
    let mut stranger = match &settings.credentials {
        Some(credentials) => {
            let method = if settings.basic { RTSPAuthMethod::Basic } else { RTSPAuthMethod::Digest };
            auth.set_supported_methods(method);
            auth.add_digest(&credentials.user, &credentials.password, &viewer);
            let basic = gst_rtsp_server::RTSPAuth::make_basic(&credentials.user, &credentials.password);
            auth.add_basic(&basic, &viewer);
            gst_rtsp_server::RTSPToken::builder().field(role, "stranger").build()
        }
        None => viewer,
    };
    auth.set_default_token(Some(&mut stranger));
    Ok(auth)
}

/// Lets viewers in, and strangers as far as the question for a password.
pub(super) fn grant(factory: &gst_rtsp_server::RTSPMediaFactory) {
    let role = |name: &str, construct: bool| {
        gst::Structure::builder(name)
            .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_ACCESS.as_str(), true)
            .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT.as_str(), construct)
            .build()
    };
    factory.add_role_from_structure(&role("viewer", true));
    factory.add_role_from_structure(&role("stranger", false));
}
