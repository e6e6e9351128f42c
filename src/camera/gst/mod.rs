//! The one place for GStreamer besides the simulator: pipelines, bus messages, mapped memory.
//!
//! ```text
//! rtspsrc ─► depay ─► parse ─► [entry] ─► avdec_h264 | avdec_h265 | jpegdec ─► videoconvert ─► videoscale ─► appsink [exit]
//!                     key frames alone, or all,                         (pass I420 and NV12 with      newest wins, 1;
//!                     or what was kept after all                         square pixels through)       in order while catching up
//! ```

mod access;
mod backlog;
mod buffer;
mod bus;
mod elements;
mod entry;
mod exit;
mod pipeline;
mod reach;
mod shared;

use std::sync::Arc;

use async_trait::async_trait;

use super::source::{OpenRequest, Source, SourceEnd, SourceOpener};

pub use elements::{MissingElement, missing_elements};
pub use pipeline::DECODE_THREADS;

/// Opens RTSP streams with GStreamer.
struct GstOpener;

/// Starts GStreamer; the opener of real streams. Blocks.
///
/// # Errors
/// When GStreamer can't be started.
pub fn gst_opener() -> Result<Arc<dyn SourceOpener>, gstreamer::glib::Error> {
    gstreamer::init()?;
    Ok(Arc::new(GstOpener))
}

/// Version of GStreamer, such as `1.22.0`.
pub fn gstreamer_version() -> String {
    let (major, minor, micro, _) = gstreamer::version();
    format!("{major}.{minor}.{micro}")
}

#[async_trait]
impl SourceOpener for GstOpener {
    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Source>, SourceEnd> {
        reach::resolve(&request.url).await?;
        let request = request.clone();
        // Changing states takes locks and may load plugins.
        let opened = tokio::task::spawn_blocking(move || pipeline::open(&request)).await;
        let source = opened.map_err(|e| SourceEnd::new(super::source::Cause::Other, e.to_string()))??;
        Ok(Box::new(source))
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
