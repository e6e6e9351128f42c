//! What can go wrong with a simulated camera, said so that a person can act on it.

use std::path::PathBuf;

/// Why a simulator could not be described, started or changed.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The text of a camera could not be understood.
    #[error("cannot understand {text:?}: {problem}")]
    Spec {
        /// What was given.
        text: String,
        /// What is wrong with it and how to mend it.
        problem: String,
    },
    /// Two cameras have the same name.
    #[error("camera {0:?} is there twice: give each camera its own name")]
    DuplicateName(String),
    /// No camera was given.
    #[error("no camera given: name at least one, for example `door=clip.mp4` or `test=pattern`")]
    NoCamera,
    /// No camera has this name.
    #[error("no simulated camera is called {0:?}")]
    UnknownCamera(String),
    /// The file or folder does not exist.
    #[error("{path} does not exist: give a video file, a picture or a folder of them, or `pattern`")]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder holds no picture.
    #[error("{path} holds no picture: put .jpg, .png or .webp files into it")]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A picture could not be decoded.
    #[error("{path} is not a picture that can be read: {reason}")]
    Picture {
        /// The picture file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// A video could not be read.
    #[error("{path} is not a video that can be played: {reason}")]
    Video {
        /// The video file.
        path: PathBuf,
        /// The demuxer's or decoder's words.
        reason: String,
    },
    /// A scene makes no sense (no duration, odd size).
    #[error("the scene cannot be drawn: {0}")]
    Scene(String),
    /// The certificate or its key.
    #[error("the certificate can't be used: {0}; give certificate and private key as PEM in one file")]
    Tls(String),
    /// A GStreamer plugin is absent.
    #[error("the GStreamer element {element} is missing: install it with `apt-get install {package}`")]
    MissingPlugin {
        /// The element factory.
        element: &'static str,
        /// The Debian package that carries it.
        package: &'static str,
    },
    /// The encoded clip would not fit the memory limit.
    #[error(
        "camera {name:?} needs more than {limit_mib} MiB encoded: use a shorter clip, a smaller size or a lower fps"
    )]
    TooLarge {
        /// The camera.
        name: String,
        /// The limit, MiB.
        limit_mib: usize,
    },
    /// Encoding failed.
    #[error("encoding failed: {0}")]
    Encode(String),
    /// The address could not be bound.
    #[error("cannot listen on {bind}:{port}: {reason}; choose another port, or 0 for a free one")]
    Bind {
        /// The address.
        bind: String,
        /// The port.
        port: u16,
        /// The system's words.
        reason: String,
    },
    /// GStreamer could not be started, or a thread could not be made.
    #[error("cannot start: {0}")]
    Start(String),
}
