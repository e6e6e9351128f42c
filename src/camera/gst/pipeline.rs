//! One attempt: elements built, linked when the stream says what it carries, frames handed over newest first.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::StreamExt;
use gstreamer::{
    BufferFlags, Caps, ClockTime, ElementFactory, FlowError, FlowSuccess, PadProbeReturn, PadProbeType, Pipeline,
    State, bus::BusStream, glib, prelude::*,
};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use tokio::sync::Notify;

use super::{backlog::Backlog, buffer, bus, elements, reach};
use crate::{
    camera::{
        FrameSlot,
        source::{Cause, OpenRequest, Source, SourceEnd, StreamFacts},
        spec::{TlsPolicy, Transport},
    },
    frame::{Frame, Picture},
    ids::CameraId,
    time,
};

/// Jitter buffer, milliseconds.
const LATENCY_MS: u32 = 200;
/// How long a connection may take to open, microseconds.
const TCP_TIMEOUT_US: u64 = 10_000_000;
/// Decode times kept for the median.
const SAMPLES: usize = 64;

/// What streaming threads and the source share. Callbacks hold this, never the pipeline, so nothing keeps itself alive.
struct Shared {
    camera: CameraId,
    slot: FrameSlot,
    sequence: AtomicU64,
    replaced: AtomicU64,
    overloaded: AtomicU64,
    unreadable: AtomicU64,
    /// The camera described a video stream.
    video_offered: AtomicBool,
    stats: Mutex<Stats>,
    end: Mutex<Option<SourceEnd>>,
    ended: Notify,
}

#[derive(Default)]
struct Stats {
    codec: Option<&'static str>,
    last_key: Option<ClockTime>,
    key_frame_interval: Option<Duration>,
    /// Pictures in the decoder: time stamp and when they went in.
    in_decoder: VecDeque<(ClockTime, Instant)>,
    decode_times: VecDeque<Duration>,
}

impl Shared {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: SourceEnd) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        self.ended.notify_one();
    }
}

/// A running attempt.
pub(super) struct GstSource {
    pipeline: Pipeline,
    messages: BusStream,
    shared: Arc<Shared>,
    url: url::Url,
}

/// Builds and starts a pipeline. Blocks.
pub(super) fn open(request: &OpenRequest) -> Result<GstSource, SourceEnd> {
    if !matches!(request.url.scheme(), "rtsp" | "rtsps") {
        return Err(SourceEnd::new(Cause::Codec, format!("scheme {:?} is not supported yet", request.url.scheme())));
    }
    let pipeline = Pipeline::new();
    let source = make("rtspsrc")?;
    source.set_property("location", request.url.as_str());
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
    let shared = Arc::new(Shared {
        camera: request.camera.clone(),
        slot: FrameSlot::default(),
        sequence: AtomicU64::new(0),
        replaced: AtomicU64::new(0),
        overloaded: AtomicU64::new(0),
        unreadable: AtomicU64::new(0),
        video_offered: AtomicBool::new(false),
        stats: Mutex::default(),
        end: Mutex::default(),
        ended: Notify::new(),
    });
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
    source.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        if let Err(end) = link(&pipeline, pad, &at_pad) {
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
    let opened = GstSource { messages: bus.stream(), pipeline, shared, url: request.url.clone() };
    opened.pipeline.set_state(State::Playing).map_err(|e| SourceEnd::new(Cause::Other, e.to_string()))?;
    Ok(opened)
}

fn make(element: &str) -> Result<gstreamer::Element, SourceEnd> {
    ElementFactory::make(element).build().map_err(|_| {
        let package = elements::package_of(element);
        SourceEnd::new(Cause::Plugin, format!("{element}: apt-get install {package}"))
    })
}

/// Links the decoder for what a new pad carries.
fn link(pipeline: &Pipeline, pad: &gstreamer::Pad, shared: &Arc<Shared>) -> Result<(), SourceEnd> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let encoding = caps.structure(0).and_then(|s| s.get::<String>("encoding-name").ok()).unwrap_or_default();
    let (codec, names): (&'static str, &[&str]) = match encoding.as_str() {
        "H264" => ("H264", &["rtph264depay", "h264parse", "avdec_h264"]),
        "H265" => ("H265", &["rtph265depay", "h265parse", "avdec_h265"]),
        "JPEG" => ("JPEG", &["rtpjpegdepay", "jpegdec"]),
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
    if let Some(decoder) = chain.last() {
        if decoder.find_property("max-threads").is_some() {
            // Threads of the decoder trade latency for speed that one camera does not need.
            decoder.set_property("max-threads", 1i32);
        }
        watch_decoder(decoder, shared);
    }
    chain.push(make("videoconvert")?);
    // Some cameras send pictures that are to be shown wider than they are: faces must not be squeezed.
    chain.push(make("videoscale")?);
    chain.push(sink(shared).upcast());
    let fail = |e: glib::BoolError| SourceEnd::new(Cause::Other, e.to_string());
    pipeline.add_many(&chain).map_err(fail)?;
    gstreamer::Element::link_many(&chain).map_err(fail)?;
    for element in &chain {
        element.sync_state_with_parent().map_err(fail)?;
    }
    let Some(entry) = chain.first().and_then(|e| e.static_pad("sink")) else { return Ok(()) };
    pad.link(&entry).map(drop).map_err(|e| SourceEnd::new(Cause::Other, e.to_string()))
}

/// Notes key frames and when pictures go into the decoder, and leaves out what it can't keep up with.
fn watch_decoder(decoder: &gstreamer::Element, shared: &Arc<Shared>) {
    let Some(pad) = decoder.static_pad("sink") else { return };
    let shared = shared.clone();
    let backlog = Mutex::new(Backlog::default());
    pad.add_probe(PadProbeType::BUFFER, move |pad, info| {
        let Some((buffer, pts)) = info.buffer().and_then(|b| Some((b, b.pts()?))) else { return PadProbeReturn::Ok };
        let is_key = !buffer.flags().contains(BufferFlags::DELTA_UNIT);
        if let Some(lag) = lag(pad, pts)
            && !backlog.lock().unwrap_or_else(PoisonError::into_inner).admits(lag, is_key, Instant::now())
        {
            shared.overloaded.fetch_add(1, Ordering::Relaxed);
            return PadProbeReturn::Drop;
        }
        let mut stats = shared.stats();
        if is_key
            && let Some(last) = stats.last_key.replace(pts)
            && pts > last
        {
            stats.key_frame_interval = Some((pts - last).into());
        }
        if stats.in_decoder.len() == SAMPLES {
            stats.in_decoder.pop_front();
        }
        stats.in_decoder.push_back((pts, Instant::now()));
        PadProbeReturn::Ok
    });
}

/// How long ago a picture arrived that is about to be decoded.
fn lag(pad: &gstreamer::Pad, pts: ClockTime) -> Option<Duration> {
    let now = pad.parent_element()?.current_running_time()?;
    let segment = pad.sticky_event::<gstreamer::event::Segment>(0)?;
    let then = segment.segment().downcast_ref::<ClockTime>()?.to_running_time(pts)?;
    Some(now.saturating_sub(then).into())
}

fn sink(shared: &Arc<Shared>) -> AppSink {
    let caps = Caps::builder("video/x-raw")
        .field("format", gstreamer::List::new(["I420", "NV12"]))
        .field("pixel-aspect-ratio", gstreamer::Fraction::new(1, 1))
        .build();
    let sink = AppSink::builder().caps(&caps).max_buffers(1).drop(true).sync(false).build();
    let shared = shared.clone();
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| FlowError::Eos)?;
                take(&shared, sink, &sample);
                Ok(FlowSuccess::Ok)
            })
            .build(),
    );
    sink
}

/// A decoded picture becomes a frame in the slot; what can't be mapped is left out.
fn take(shared: &Shared, sink: &AppSink, sample: &gstreamer::Sample) {
    let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps()) else { return };
    let Ok(info) = gstreamer_video::VideoInfo::from_caps(caps) else { return };
    let now = Instant::now();
    let pts = buffer.pts();
    let running = sample.segment().and_then(|s| s.downcast_ref::<ClockTime>()?.to_running_time(pts?));
    let age = match (sink.current_running_time(), running) {
        (Some(now), Some(then)) if now > then => Duration::from(now - then),
        _ => Duration::from_millis(u64::from(LATENCY_MS)),
    };
    // rtspsrc stamps buffers on arrival, so this is when the picture came in.
    let arrived = time::now().checked_sub(age).unwrap_or_else(|_| time::now());
    let captured = buffer::captured(&buffer, arrived);
    if let Some(pts) = pts {
        let mut stats = shared.stats();
        if let Some(place) = stats.in_decoder.iter().position(|(p, _)| *p == pts)
            && let Some((_, entered)) = stats.in_decoder.remove(place)
        {
            if stats.decode_times.len() == SAMPLES {
                stats.decode_times.pop_front();
            }
            stats.decode_times.push_back(now.duration_since(entered));
        }
    }
    let Some(pixels) = buffer::Mapped::new(buffer, &info) else {
        shared.unreadable.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let frame = Frame {
        camera: shared.camera.clone(),
        sequence: shared.sequence.fetch_add(1, Ordering::Relaxed),
        pts: pts.map(Duration::from),
        captured,
        arrived,
        received: now,
        picture: Picture::new(pixels),
    };
    if shared.slot.put(frame).is_some() {
        shared.replaced.fetch_add(1, Ordering::Relaxed);
    }
}

impl GstSource {
    fn video_offered(&self) -> bool {
        self.shared.video_offered.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Source for GstSource {
    async fn next(&mut self) -> Result<Frame, SourceEnd> {
        loop {
            tokio::select! {
                frame = self.shared.slot.take() => return Ok(frame),
                () = self.shared.ended.notified() => {
                    let end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    return Err(end.unwrap_or_else(|| SourceEnd::new(Cause::Other, "")));
                }
                message = self.messages.next() => match message {
                    Some(message) => if let Some(end) = bus::end_of(&message, self.video_offered()) {
                        return Err(reach::refine(end, &self.url).await);
                    },
                    None => return Err(SourceEnd::new(Cause::Other, "the pipeline is gone")),
                },
            }
        }
    }

    fn facts(&self) -> StreamFacts {
        let stats = self.shared.stats();
        let mut times: Vec<Duration> = stats.decode_times.iter().copied().collect();
        times.sort_unstable();
        StreamFacts {
            codec: stats.codec,
            key_frame_interval: stats.key_frame_interval,
            decode_latency: times.get(times.len() / 2).copied(),
            replaced: self.shared.replaced.load(Ordering::Relaxed),
            overloaded: self.shared.overloaded.load(Ordering::Relaxed),
            unreadable: self.shared.unreadable.load(Ordering::Relaxed),
        }
    }

    async fn close(self: Box<Self>) {
        // Leaving the states joins streaming threads and may talk to the camera; the drop does it.
        if tokio::task::spawn_blocking(move || drop(self)).await.is_err() {
            tracing::error!("a pipeline could not be torn down");
        }
    }
}

impl Drop for GstSource {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(State::Null) {
            tracing::warn!(camera = %self.shared.camera, %error, "a pipeline could not be stopped");
        }
    }
}
