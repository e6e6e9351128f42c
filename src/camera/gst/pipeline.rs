//! One attempt: elements built, linked when the stream says what it carries, frames handed over newest first.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use async_trait::async_trait;
use gstreamer::{
    BusSyncReply, Caps, ClockTime, ElementFactory, MessageView, Pipeline, ProgressType, State, glib, prelude::*,
};

use super::{
    bus, elements,
    entry::Entry,
    exit,
    reach::{self, Pinned},
    rtp::Coding,
    shared::Shared,
    size,
    teardown::{self, Leaving, StreamKey},
};
use crate::{
    camera::{
        source::{Cause, OpenRequest, Source, SourceEnd, StreamFacts},
        spec::{TlsPolicy, Transport},
    },
    frame::Frame,
};

/// Jitter buffer, milliseconds.
pub(super) const LATENCY_MS: u32 = 200;
/// Threads of a stream's decoder: more of them trade latency for speed that one camera does not need.
pub const DECODE_THREADS: u32 = 1;
/// How long a connection may take to open, microseconds.
const TCP_TIMEOUT_US: u64 = 10_000_000;

/// A running attempt.
pub(super) struct GstSource {
    /// `None` once it is being left.
    pipeline: Option<Pipeline>,
    shared: Arc<Shared>,
    stream: StreamKey,
    leaving: Leaving,
    url: url::Url,
    address: SocketAddr,
}

/// Builds and starts a pipeline that connects to `address` and takes pictures of at most `max_pixels`. Blocks.
pub(super) fn open(
    request: &OpenRequest,
    address: SocketAddr,
    max_pixels: u64,
    leaving: Leaving,
) -> Result<GstSource, SourceEnd> {
    if !matches!(request.url.scheme(), "rtsp" | "rtsps") {
        return Err(SourceEnd::new(Cause::Codec, format!("scheme {:?} is not supported yet", request.url.scheme())));
    }
    let pipeline = Pipeline::new();
    let source = make("rtspsrc")?;
    let pinned =
        Pinned::new(&request.url, address, request.url.scheme() == "rtsps" && request.tls == TlsPolicy::Verify);
    source.set_property("location", &pinned.location);
    source.set_property("proxy", pinned.proxy);
    source.set_property("latency", LATENCY_MS);
    source.set_property("tcp-timeout", TCP_TIMEOUT_US);
    source.set_property("teardown-timeout", ClockTime::from_mseconds(100).nseconds());
    source.set_property("add-reference-timestamp-meta", true);
    let transport = match (request.url.scheme(), request.transport) {
        ("rtsps", Transport::Udp) => "udp+tls",
        ("rtsps", _) => "tcp+tls",
        (_, Transport::Udp) => "udp",
        _ => "tcp",
    };
    source.set_property_from_str("protocols", transport);
    if request.tls == TlsPolicy::Insecure {
        source.set_property_from_str("tls-validation-flags", "0");
    }
    if let Some(credentials) = &request.credentials {
        source.set_property("user-id", &credentials.username);
        source.set_property("user-pw", credentials.password.expose());
    }
    let shared = Arc::new(Shared::new(request.camera.clone(), max_pixels));
    let at_send = shared.clone();
    source.connect("before-send", false, move |_| Some(at_send.may_send().to_value()));
    // Other media (audio, metadata) are not even set up.
    let at_select = shared.clone();
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|v| v.get::<Caps>().ok());
        let video = caps.and_then(|c| c.structure(0)?.get::<String>("media").ok()).is_some_and(|m| m == "video");
        at_select.video_offered.fetch_or(video, Ordering::Relaxed);
        Some(video.to_value())
    });
    pipeline.add(&source).map_err(|e| SourceEnd::new(Cause::Other, e.to_string()))?;
    let weak = pipeline.downgrade();
    let at_pad = shared.clone();
    let at_link = request.clone();
    source.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        if let Err(end) = link(&pipeline, pad, &at_pad, &at_link) {
            at_pad.end(end);
        }
    });
    let at_end = shared.clone();
    source.connect_no_more_pads(move |_| {
        if at_end.stats().codec.is_none() {
            at_end.end(SourceEnd::new(Cause::NoVideo, ""));
        }
    });
    let Some(bus) = pipeline.bus() else { return Err(SourceEnd::new(Cause::Other, "the pipeline has no bus")) };
    let at_message = shared.clone();
    // Judged where it is posted, so that no queue of messages can grow.
    bus.set_sync_handler(move |_, message| {
        if let MessageView::Progress(progress) = message.view()
            && let (ProgressType::Continue, code, _) = progress.get()
        {
            at_message.steps(code == "connect");
        }
        if let Some(end) = bus::end_of(message, at_message.video_offered.load(Ordering::Relaxed)) {
            at_message.end(end);
        }
        BusSyncReply::Drop
    });
    // Where the camera wants its reports is not believed: they go to the camera.
    let host = address.ip().to_string();
    pipeline.connect_deep_element_added(move |_, _, element| {
        let is_sink = element.factory().is_some_and(|factory| factory.name() == "udpsink");
        if is_sink && element.property::<Option<String>>("host").as_deref() != Some(&host) {
            element.set_property("host", &host);
        }
    });
    let stream = (request.camera.clone(), request.url.to_string());
    let opened = GstSource { pipeline: Some(pipeline), shared, stream, leaving, url: request.url.clone(), address };
    if let Some(pipeline) = &opened.pipeline {
        pipeline.set_state(State::Playing).map_err(|e| SourceEnd::new(Cause::Other, e.to_string()))?;
    }
    Ok(opened)
}

fn make(element: &str) -> Result<gstreamer::Element, SourceEnd> {
    ElementFactory::make(element).build().map_err(|_| {
        let package = elements::package_of(element);
        SourceEnd::new(Cause::Plugin, format!("{element}: apt-get install {package}"))
    })
}

/// Links the decoder for what a new pad carries.
fn link(
    pipeline: &Pipeline,
    pad: &gstreamer::Pad,
    shared: &Arc<Shared>,
    request: &OpenRequest,
) -> Result<(), SourceEnd> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let encoding = caps.structure(0).and_then(|s| s.get::<String>("encoding-name").ok()).unwrap_or_default();
    let (codec, coding, names): (&'static str, Coding, &[&str]) = match encoding.as_str() {
        "H264" => ("H264", Coding::H264, &["rtph264depay", "h264parse", "avdec_h264"]),
        "H265" => ("H265", Coding::H265, &["rtph265depay", "h265parse", "avdec_h265"]),
        "JPEG" => ("JPEG", Coding::Jpeg, &["rtpjpegdepay", "jpegdec"]),
        other => return Err(SourceEnd::new(Cause::Codec, format!("the stream is {other:?}"))),
    };
    {
        let mut stats = shared.stats();
        if stats.codec.is_some() {
            // A second video stream: the first is what was asked for.
            return Ok(());
        }
        stats.codec = Some(codec);
    }
    let mut chain = Vec::new();
    for name in names {
        chain.push(make(name)?);
    }
    if let (Some(depayloader), Some(decoder)) = (chain.first(), chain.last()) {
        if decoder.find_property("max-threads").is_some() {
            decoder.set_property("max-threads", DECODE_THREADS as i32);
        }
        size::watch(decoder, shared);
        Entry::watch(depayloader, decoder, coding, request, shared);
    }
    chain.push(make("videoconvert")?);
    // Some cameras send pictures that are to be shown wider than they are: faces must not be squeezed.
    chain.push(make("videoscale")?);
    chain.push(exit::sink(shared).upcast());
    let fail = |e: glib::BoolError| SourceEnd::new(Cause::Other, e.to_string());
    pipeline.add_many(&chain).map_err(fail)?;
    gstreamer::Element::link_many(&chain).map_err(fail)?;
    for element in &chain {
        element.sync_state_with_parent().map_err(fail)?;
    }
    let Some(entry) = chain.first().and_then(|e| e.static_pad("sink")) else { return Ok(()) };
    pad.link(&entry).map(drop).map_err(|e| SourceEnd::new(Cause::Other, e.to_string()))
}

#[async_trait]
impl Source for GstSource {
    async fn next(&mut self) -> Result<Frame, SourceEnd> {
        tokio::select! {
            frame = self.shared.slot.take() => Ok(frame),
            () = self.shared.ended.notified() => {
                let end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Asked again, it says the same.
                self.shared.ended.notify_one();
                let end = end.unwrap_or_else(|| SourceEnd::new(Cause::Other, ""));
                Err(reach::refine(end, &self.url, self.address).await)
            }
        }
    }

    fn facts(&self) -> StreamFacts {
        self.shared.facts()
    }

    async fn close(mut self: Box<Self>) {
        if let Some(pipeline) = self.pipeline.take() {
            self.leaving.leave(self.stream.clone(), pipeline).await;
        }
    }
}

impl Drop for GstSource {
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            teardown::stop(&pipeline, &self.stream);
        }
    }
}
