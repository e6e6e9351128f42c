//! The elements a camera needs, and the Debian package of each.

use gstreamer::ElementFactory;

/// An element that is not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingElement {
    /// Its name.
    pub element: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const NEEDED: [MissingElement; 12] = [
    MissingElement { element: "rtspsrc", package: "gstreamer1.0-plugins-good", purpose: "RTSP" },
    MissingElement { element: "rtph264depay", package: "gstreamer1.0-plugins-good", purpose: "H.264" },
    MissingElement { element: "rtph265depay", package: "gstreamer1.0-plugins-good", purpose: "H.265" },
    MissingElement { element: "rtpjpegdepay", package: "gstreamer1.0-plugins-good", purpose: "MJPEG" },
    MissingElement { element: "jpegdec", package: "gstreamer1.0-plugins-good", purpose: "MJPEG" },
    MissingElement { element: "h264parse", package: "gstreamer1.0-plugins-bad", purpose: "H.264" },
    MissingElement { element: "h265parse", package: "gstreamer1.0-plugins-bad", purpose: "H.265" },
    MissingElement { element: "avdec_h264", package: "gstreamer1.0-libav", purpose: "H.264" },
    MissingElement { element: "avdec_h265", package: "gstreamer1.0-libav", purpose: "H.265" },
    MissingElement { element: "videoconvert", package: "gstreamer1.0-plugins-base", purpose: "pictures" },
    MissingElement { element: "appsink", package: "gstreamer1.0-plugins-base", purpose: "pictures" },
    MissingElement { element: "videoscale", package: "gstreamer1.0-plugins-base", purpose: "pictures" },
];

/// Elements that are not installed; GStreamer must have been started.
pub fn missing_elements() -> Vec<MissingElement> {
    NEEDED.iter().filter(|e| ElementFactory::find(e.element).is_none()).cloned().collect()
}

/// The Debian package that brings an element.
pub(super) fn package_of(element: &str) -> &'static str {
    NEEDED.iter().find(|e| e.element == element).map_or("gstreamer1.0-plugins-good", |e| e.package)
}
