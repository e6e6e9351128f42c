//! Port: one attempt at a camera's stream. Frames come until it ends with a cause that says whose fault it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use url::Url;

use super::{
    Attention, CameraState, Reason,
    spec::{Credentials, SamplingPolicy, TlsPolicy, Transport},
};
use crate::{frame::Frame, ids::CameraId};

/// What to open.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The camera, for frames and logs.
    pub camera: CameraId,
    /// Stream URL without credentials.
    pub url: Url,
    /// User and password.
    pub credentials: Option<Credentials>,
    /// TCP or UDP; `Auto` is resolved by the supervisor.
    pub transport: Transport,
    /// How the certificate of an `rtsps` camera is checked.
    pub tls: TlsPolicy,
    /// How closely it is to be watched.
    pub sampling: SamplingPolicy,
    /// What its loop and its supervisor see.
    pub attention: Arc<Attention>,
    /// Decode only what is asked for.
    pub on_demand: bool,
}

/// What a stream tells of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamFacts {
    /// Codec: H264, H265, JPEG.
    pub codec: Option<&'static str>,
    /// Time between the last two key frames.
    pub key_frame_interval: Option<Duration>,
    /// Median time in the decoder.
    pub decode_latency: Option<Duration>,
    /// Decoded frames that a newer one replaced before anybody took them.
    pub replaced: u64,
    /// Encoded pictures left out before the decoder, because it could not keep up.
    pub overloaded: u64,
    /// Decoded pictures whose memory could not be read.
    pub unreadable: u64,
    /// Encoded pictures that arrived.
    pub pictures: u64,
    /// When the last of them arrived.
    pub last_picture: Option<Instant>,
    /// Encoded pictures that were never decoded because nothing happened.
    pub idle: u64,
    /// Pictures decoded late of which the rate asked for no look.
    pub passed: u64,
    /// Only key frames are decoded at present.
    pub key_frames_only: bool,
    /// How often something happened while only key frames were decoded.
    pub wakes: u64,
    /// The camera described a video stream.
    pub described: bool,
    /// Network packets of video that arrived.
    pub packets: u64,
    /// Slices of encoded pictures that came before the first frame.
    pub coded: u64,
    /// Those of them that decoding can begin with.
    pub keys: u64,
}

impl StreamFacts {
    /// What is wrong with a stream that gave no frame in time.
    pub fn why_no_frame(&self) -> SourceEnd {
        if !self.described {
            return SourceEnd::new(Cause::ConnectTimeout, "");
        }
        match (self.packets, self.coded, self.keys) {
            (0, _, _) => SourceEnd::new(Cause::NoPictures, ""),
            (_, 0, _) => SourceEnd::new(Cause::Decode, format!("{} packets came and no whole picture", self.packets)),
            (_, _, 0) => SourceEnd::new(Cause::NoKeyFrame, ""),
            _ => SourceEnd::new(Cause::Decode, "pictures came and none was decoded"),
        }
    }
}

/// Why a stream ended or never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nobody listens at that address.
    Refused,
    /// The host name has no address.
    Dns,
    /// The host can't be reached.
    Unreachable,
    /// 401: wrong or missing user name or password.
    Unauthorized,
    /// 404: no such stream.
    NotFound,
    /// The camera did not answer in time.
    ConnectTimeout,
    /// The stream stopped giving frames.
    Stalled,
    /// The camera closed the connection.
    Closed,
    /// The stream has no video.
    NoVideo,
    /// The codec can't be decoded here.
    Codec,
    /// A GStreamer plugin is missing here.
    Plugin,
    /// The camera does not serve the stream over this transport.
    Transport,
    /// The camera takes no more connections.
    Busy,
    /// TLS failed.
    Tls,
    /// The stream can't be decoded.
    Decode,
    /// The camera streams and nothing comes.
    NoPictures,
    /// Nothing comes that decoding could begin with.
    NoKeyFrame,
    /// The camera does not know the session any more.
    Session,
    /// The camera answered with an error.
    Answered,
    /// The camera's address is none that may be connected to.
    Barred,
    /// The camera sends us elsewhere.
    Redirected,
    /// Pictures are larger than allowed.
    TooLarge,
    /// The connection before this one can't be ended.
    Lingering,
    /// Anything else.
    Other,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SourceEnd {
    /// Why.
    pub cause: Cause,
    /// What GStreamer or the camera said; holds no secret.
    pub detail: String,
}

impl SourceEnd {
    /// An end with a detail.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }

    /// The state a camera is in after it: REFUSED when a person must act, RETRYING otherwise.
    pub fn state(&self) -> CameraState {
        match self.cause {
            Cause::Unauthorized
            | Cause::NotFound
            | Cause::NoVideo
            | Cause::Codec
            | Cause::Plugin
            | Cause::Transport
            | Cause::Barred
            | Cause::Redirected
            | Cause::TooLarge
            | Cause::Tls => CameraState::Refused,
            Cause::Refused
            | Cause::Dns
            | Cause::Unreachable
            | Cause::ConnectTimeout
            | Cause::Stalled
            | Cause::Closed
            | Cause::Busy
            | Cause::Decode
            | Cause::NoPictures
            | Cause::NoKeyFrame
            | Cause::Session
            | Cause::Answered
            | Cause::Lingering
            | Cause::Other => CameraState::Retrying,
        }
    }

    /// The reason in words a person can act on.
    pub fn reason(&self) -> Reason {
        let (code, text) = match self.cause {
            Cause::Refused => ("refused", "connection refused: nobody listens there; check address and port"),
            Cause::Dns => ("dns", "the host name can't be resolved; check its spelling and the DNS server"),
            Cause::Unreachable => ("unreachable", "no route to the camera; check network and address"),
            Cause::Unauthorized => {
                ("unauthorized", "401: the camera refused the user name or password; correct the credentials")
            }
            Cause::NotFound => ("not_found", "404: the camera has no such stream; check the path of the URL"),
            Cause::ConnectTimeout => {
                ("connect_timeout", "the camera did not answer in time; check that it is switched on")
            }
            Cause::Stalled => {
                ("stalled", "the connection stands but no frame has come; restart the camera if it stays so")
            }
            Cause::Closed => (
                "closed",
                "the camera closed the connection; if it stays so, look whether it restarts or takes too few clients",
            ),
            Cause::NoVideo => ("no_video", "the stream has no video; check the path of the URL"),
            Cause::Codec => ("codec", "the codec can't be decoded here; set the camera to H.264, H.265 or MJPEG"),
            Cause::Plugin => ("plugin", "a GStreamer plugin is missing on the server; run `visage doctor`"),
            Cause::Transport => (
                "transport",
                "the camera does not serve this stream over that transport; set transport to auto, TCP or UDP",
            ),
            Cause::Busy => ("busy", "the camera takes no more connections; close some, or raise its limit"),
            Cause::Tls => (
                "tls",
                "TLS failed: the camera's certificate is not trusted here; install its issuer, or accept any certificate for this \
                 camera (tls = INSECURE)",
            ),
            Cause::Decode => (
                "decode",
                "the stream is damaged and can't be decoded; check the network, and restart the camera if it stays so",
            ),
            Cause::NoPictures => (
                "no_pictures",
                "the camera answers and sends no pictures; look whether its encoder is on, and restart it if it stays so",
            ),
            Cause::NoKeyFrame => (
                "no_key_frame",
                "no key frame came, and decoding can't begin without; set the camera's key-frame (I-frame) interval to 1 or 2 seconds",
            ),
            Cause::Session => (
                "session",
                "the camera forgot the session (454) and is connected to anew; if it stays so, restart the camera",
            ),
            Cause::Answered => {
                ("answered", "the camera answered with an error; look at its log and at the path of the URL")
            }
            Cause::Barred => (
                "barred",
                "cameras may not have this address; correct the URL, or add the camera's network to cameras.networks",
            ),
            Cause::Redirected => (
                "redirected",
                "the camera sends us to another address, which is not followed; register the camera with that address",
            ),
            Cause::TooLarge => (
                "too_large",
                "the pictures are larger than this server takes; set the camera to smaller ones, or raise cameras.max_pixels",
            ),
            Cause::Lingering => (
                "lingering",
                "the connection before this one hangs and is not ended yet; restart the camera if it stays so",
            ),
            Cause::Other => ("failed", "the stream failed; the server's log tells more"),
        };
        let message = if self.detail.is_empty() { text.to_owned() } else { format!("{text} ({})", self.detail) };
        Reason { code: code.into(), message }
    }
}

/// One attempt that gives frames.
#[async_trait]
pub trait Source: Send {
    /// The newest decoded frame; waits for it. Cancel safe.
    ///
    /// # Errors
    /// The end of the stream, with its cause.
    async fn next(&mut self) -> Result<Frame, SourceEnd>;

    /// What is known of the stream by now.
    fn facts(&self) -> StreamFacts;

    /// Tears the attempt down and waits for it.
    async fn close(self: Box<Self>);
}

/// Opens attempts.
#[async_trait]
pub trait SourceOpener: Send + Sync {
    /// Starts an attempt; frames come later.
    ///
    /// # Errors
    /// When nothing can be started, such as a missing plugin.
    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Source>, SourceEnd>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_a_frame_is_told_by_what_came_of_it() {
        let of = |described, packets, coded, keys| {
            StreamFacts { described, packets, coded, keys, ..Default::default() }.why_no_frame().cause
        };
        assert_eq!(of(false, 0, 0, 0), Cause::ConnectTimeout);
        assert_eq!(of(true, 0, 0, 0), Cause::NoPictures);
        assert_eq!(of(true, 9, 0, 0), Cause::Decode);
        assert_eq!(of(true, 9, 3, 0), Cause::NoKeyFrame);
        assert_eq!(of(true, 9, 3, 1), Cause::Decode);
    }
}
