//! Messages of GStreamer → our causes.

use gstreamer::{CoreError, MessageView, ResourceError, StreamError, glib};

use crate::camera::source::{Cause, SourceEnd};

/// The end that a message means, if it means one. `video_offered`: the camera described a video stream.
pub(super) fn end_of(message: &gstreamer::Message, video_offered: bool) -> Option<SourceEnd> {
    match message.view() {
        // A live camera has no end: the server closed the connection.
        MessageView::Eos(_) => Some(SourceEnd::new(Cause::Closed, "")),
        // Before the first picture no sink tells of the end, only this.
        MessageView::Warning(warning) => {
            let closed = warning.debug().is_some_and(|d| d.contains("server closed the connection"));
            closed.then(|| SourceEnd::new(Cause::Closed, ""))
        }
        MessageView::Error(error) => {
            let debug = error.debug().map(|d| d.to_string()).unwrap_or_default();
            let status = error.details().and_then(|d| d.get::<u32>("rtsp-status-code").ok());
            let answered = status.or_else(|| status_in(&debug)).and_then(end_of_status);
            Some(answered.unwrap_or_else(|| end_of_error(&error.error(), &debug, video_offered)))
        }
        _ => None,
    }
}

/// The RTSP status in a text such as `Error (453): Not Enough Bandwidth`.
fn status_in(text: &str) -> Option<u32> {
    text.split('(').filter_map(|rest| rest.get(..4)?.strip_suffix(')')).find_map(|code| code.parse().ok())
}

/// What the camera's own answer means; other answers are told by the error's kind.
fn end_of_status(code: u32) -> Option<SourceEnd> {
    let (cause, detail) = match code {
        401 => (Cause::Unauthorized, String::new()),
        403 => (Cause::Unauthorized, "403: not with these rights".into()),
        404 | 410 => (Cause::NotFound, String::new()),
        461 => (Cause::Transport, String::new()),
        453 | 503 => (Cause::Busy, format!("it answered {code}")),
        454 => (Cause::Session, String::new()),
        300..=399 => (Cause::Redirected, format!("it answered {code}")),
        400..=599 => (Cause::Answered, format!("it answered {code}")),
        _ => return None,
    };
    Some(SourceEnd::new(cause, detail))
}

fn end_of_error(error: &glib::Error, debug: &str, video_offered: bool) -> SourceEnd {
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
            _ if says("udp packets") || says("no other protocols") => Cause::Transport,
            Cause::Other => Cause::Closed,
            cause => cause,
        },
        // rtspsrc says this when it set nothing up: every transport was refused, or there was nothing to set up.
        (_, Some(StreamError::CodecNotFound), _) if says("transport protocols") => {
            if video_offered {
                Cause::Transport
            } else {
                Cause::NoVideo
            }
        }
        (_, Some(StreamError::CodecNotFound | StreamError::WrongType), _) => Cause::Codec,
        (_, Some(StreamError::Decode | StreamError::Demux | StreamError::Format), _) => Cause::Decode,
        (_, _, Some(CoreError::MissingPlugin)) => Cause::Plugin,
        _ => by_text(),
    };
    // The debug text may repeat the location; ours holds no credentials, but the message alone says enough.
    let detail = if matches!(cause, Cause::Other | Cause::Tls | Cause::Decode) { error.message().trim() } else { "" };
    SourceEnd::new(cause, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cameras_own_answer_decides() {
        for (text, cause) in [
            ("gstrtspsrc.c(6795): send: Error (453): Not Enough Bandwidth", Some(Cause::Busy)),
            ("Error (401): Unauthorized", Some(Cause::Unauthorized)),
            ("Error (461): Unsupported transport", Some(Cause::Transport)),
            ("Error (500): Internal", Some(Cause::Answered)),
            ("Error (454): Session Not Found", Some(Cause::Session)),
            ("gstrtspsrc.c(6795): send", None),
            ("nothing (of) note", None),
        ] {
            let found = status_in(text).and_then(end_of_status).map(|end| end.cause);
            assert_eq!(found, cause, "{text}");
        }
    }

    #[test]
    fn an_error_without_an_answer_is_told_by_its_kind() {
        let of = |error: glib::Error, debug: &str, video| end_of_error(&error, debug, video).cause;
        let nothing = "No supported stream was found. You might need to allow more transport protocols";
        let unplayable = || glib::Error::new(StreamError::CodecNotFound, nothing);
        assert_eq!(of(unplayable(), "", true), Cause::Transport);
        assert_eq!(of(unplayable(), "", false), Cause::NoVideo);
        let read = || glib::Error::new(ResourceError::Read, "Could not read from resource.");
        assert_eq!(of(read(), "Could not receive any UDP packets for 5.0000 seconds", true), Cause::Transport);
        assert_eq!(of(read(), "", true), Cause::Closed);
        assert_eq!(of(glib::Error::new(ResourceError::NotFound, "x"), "", false), Cause::NotFound);
    }
}
