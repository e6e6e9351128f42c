//! Messages of GStreamer → our causes.

use gstreamer::{CoreError, MessageView, ResourceError, StreamError, glib};

use crate::camera::source::{Cause, SourceEnd};

/// The end that a message means, if it means one.
pub(super) fn end_of(message: &gstreamer::Message) -> Option<SourceEnd> {
    match message.view() {
        // A live camera has no end: the server closed the connection.
        MessageView::Eos(_) => Some(SourceEnd::new(Cause::Closed, "")),
        MessageView::Error(error) => {
            let debug = error.debug().map(|d| d.to_string()).unwrap_or_default();
            Some(end_of_error(&error.error(), &debug))
        }
        _ => None,
    }
}

fn end_of_error(error: &glib::Error, debug: &str) -> SourceEnd {
    let text = format!("{} {debug}", error.message()).to_lowercase();
    let says = |word: &str| text.contains(word);
    let by_text = || {
        if says("could not resolve")
            || says("resolving")
            || says("name or service not known")
            || says("no address associated")
        {
            Cause::Dns
        } else if says("refused") {
            Cause::Refused
        } else if says("unreachable") || says("no route") {
            Cause::Unreachable
        } else if says("tls") || says("certificate") {
            Cause::Tls
        } else if says("timed out") || says("timeout") {
            Cause::ConnectTimeout
        } else {
            Cause::Other
        }
    };
    let cause = match (error.kind::<ResourceError>(), error.kind::<StreamError>(), error.kind::<CoreError>()) {
        (Some(ResourceError::NotFound), _, _) => Cause::NotFound,
        (Some(ResourceError::NotAuthorized), _, _) => Cause::Unauthorized,
        (Some(ResourceError::OpenRead | ResourceError::OpenWrite | ResourceError::OpenReadWrite), _, _) => {
            match by_text() {
                // What is left when a connection can't be opened at all.
                Cause::Other => Cause::Refused,
                cause => cause,
            }
        }
        (Some(ResourceError::Read | ResourceError::Close | ResourceError::Write), _, _) => match by_text() {
            Cause::Other => Cause::Closed,
            cause => cause,
        },
        (_, Some(StreamError::CodecNotFound | StreamError::WrongType), _) => Cause::Codec,
        (_, Some(StreamError::Decode | StreamError::Demux | StreamError::Format), _) => Cause::Decode,
        (_, _, Some(CoreError::MissingPlugin)) => Cause::Plugin,
        _ => by_text(),
    };
    // The debug text may repeat the location; ours holds no credentials, but the message alone says enough.
    let detail = if matches!(cause, Cause::Other | Cause::Tls | Cause::Decode) { error.message().trim() } else { "" };
    SourceEnd::new(cause, detail)
}
