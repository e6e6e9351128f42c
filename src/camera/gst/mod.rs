//! The one place for GStreamer besides the simulator: pipelines, bus messages, mapped memory.
//!
//! ```text
//! rtspsrc ─► [entry] ─► depay ─► parse ─► avdec_h264 | avdec_h265 | jpegdec ─► videoconvert ─► videoscale ─► appsink [exit]
//!            key frames alone, or all,                                        (pass I420 and NV12 with      newest wins, 1;
//!            or what was kept after all                                        square pixels through)       in order while catching up
//! ```

mod backlog;
mod buffer;
mod bus;
mod complaints;
mod deblocking;
mod elements;
mod entry;
mod exit;
mod kept;
mod late;
mod picture;
mod pipeline;
mod reach;
mod rtp;
mod shared;
mod size;
mod teardown;

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    limits::StreamLimits,
    source::{Cause, OpenRequest, Source, SourceEnd, SourceOpener},
};

pub use elements::{MissingElement, missing_elements};
pub use pipeline::DECODE_THREADS;

/// Opens RTSP streams with GStreamer.
struct GstOpener {
    limits: StreamLimits,
    leaving: teardown::Leaving,
}

/// Starts GStreamer; the opener of real streams, with the usual limits. Blocks.
///
/// # Errors
/// When GStreamer can't be started.
pub fn gst_opener() -> Result<Arc<dyn SourceOpener>, gstreamer::glib::Error> {
    gst_opener_within(StreamLimits::default())
}

/// Starts GStreamer; the opener of real streams. Blocks.
///
/// # Errors
/// When GStreamer can't be started.
pub fn gst_opener_within(limits: StreamLimits) -> Result<Arc<dyn SourceOpener>, gstreamer::glib::Error> {
    gstreamer::init()?;
    complaints::to_the_log();
    Ok(Arc::new(GstOpener { limits, leaving: teardown::Leaving::default() }))
}

/// Version of GStreamer, such as `1.22.0`.
pub fn gstreamer_version() -> String {
    let (major, minor, micro, _) = gstreamer::version();
    format!("{major}.{minor}.{micro}")
}

#[async_trait]
impl SourceOpener for GstOpener {
    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Source>, SourceEnd> {
        let stream = (request.camera.clone(), request.url.to_string());
        if self.leaving.holds(&stream) {
            return Err(SourceEnd::new(Cause::Lingering, ""));
        }
        let address = reach::resolve(&request.url, &self.limits.networks).await?;
        let (request, max_pixels) = (request.clone(), self.limits.max_pixels);
        let leaving = self.leaving.clone();
        // Changing states takes locks and may load plugins.
        let opened = tokio::task::spawn_blocking(move || pipeline::open(&request, address, max_pixels, leaving)).await;
        let source = opened.map_err(|e| SourceEnd::new(Cause::Other, e.to_string()))??;
        Ok(Box::new(source))
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
