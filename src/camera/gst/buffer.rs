//! Mapped decoder memory as our pixels, and the capture time of a buffer.

use gstreamer::{ClockTime, ReferenceTimestampMeta};
use gstreamer_video::{
    VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrame, VideoFrameExt, video_frame::Readable,
};

use crate::{
    frame::{ColorMatrix, PixelFormat, Pixels, Plane},
    time::{CaptureOrigin, CaptureTime, Timestamp, seconds_between},
};

/// A mapped buffer that stays alive as long as somebody looks at it.
pub(super) struct Mapped {
    frame: VideoFrame<Readable>,
    format: PixelFormat,
}

impl Mapped {
    /// Maps a buffer; `None` when its format is none of ours or it can't be mapped.
    pub(super) fn new(buffer: gstreamer::Buffer, info: &gstreamer_video::VideoInfo) -> Option<Self> {
        let format = match info.format() {
            VideoFormat::I420 => PixelFormat::I420,
            VideoFormat::Nv12 => PixelFormat::Nv12,
            _ => return None,
        };
        let frame = VideoFrame::from_buffer_readable(buffer, info).ok()?;
        (frame.width() > 0 && frame.height() > 0).then_some(Self { frame, format })
    }
}

impl Pixels for Mapped {
    fn format(&self) -> PixelFormat {
        self.format
    }
    fn size(&self) -> (u32, u32) {
        (self.frame.width(), self.frame.height())
    }
    fn plane(&self, index: usize) -> Plane<'_> {
        let stride = self.frame.plane_stride().get(index).map_or(0, |s| usize::try_from(*s).unwrap_or(0));
        Plane { data: self.frame.plane_data(index as u32).unwrap_or_default(), stride }
    }
    fn color(&self) -> ColorMatrix {
        let colorimetry = self.frame.info().colorimetry();
        ColorMatrix {
            bt709: colorimetry.matrix() == VideoColorMatrix::Bt709,
            full_range: colorimetry.range() == VideoColorRange::Range0_255,
        }
    }
}

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// A camera whose clock differs from ours by more than this is not believed, seconds.
const BELIEVED_S: f64 = 5.0;

/// When a buffer was captured: by the camera's sender reports if they are there and plausible, else when it `arrived`.
pub(super) fn captured(buffer: &gstreamer::BufferRef, arrived: Timestamp) -> CaptureTime {
    let by_camera = buffer
        .iter_meta::<ReferenceTimestampMeta>()
        .filter(|meta| meta.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"))
        .find_map(|meta| ntp(meta.timestamp()));
    match by_camera {
        Some(at) if seconds_between(at, arrived).abs() <= BELIEVED_S => {
            CaptureTime { at, origin: CaptureOrigin::SenderReport }
        }
        _ => CaptureTime { at: arrived, origin: CaptureOrigin::Arrival },
    }
}

fn ntp(time: ClockTime) -> Option<Timestamp> {
    let seconds = i64::try_from(time.seconds()).ok()?.checked_sub(NTP_TO_UNIX_S)?;
    Timestamp::new(seconds, (time.nseconds() % 1_000_000_000) as i32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(at: Timestamp) -> gstreamer::Buffer {
        gstreamer::init().unwrap();
        let mut buffer = gstreamer::Buffer::new();
        let ntp = ClockTime::from_seconds((at.as_second() + NTP_TO_UNIX_S) as u64)
            + ClockTime::from_nseconds(at.subsec_nanosecond() as u64);
        let reference = gstreamer::Caps::new_empty_simple("timestamp/x-ntp");
        ReferenceTimestampMeta::add(buffer.get_mut().unwrap(), &reference, ntp, None);
        buffer
    }

    #[test]
    fn a_plausible_camera_clock_is_believed_and_a_wrong_one_is_not() {
        let arrived = Timestamp::from_millisecond(1_780_000_000_250).unwrap();
        let sent = arrived.checked_sub(std::time::Duration::from_millis(180)).unwrap();
        let captured = captured(&buffer(sent), arrived);
        assert_eq!(captured, CaptureTime { at: sent, origin: CaptureOrigin::SenderReport });
        let year_off = arrived.checked_sub(std::time::Duration::from_secs(31_536_000)).unwrap();
        let captured = super::captured(&buffer(year_off), arrived);
        assert_eq!(captured, CaptureTime { at: arrived, origin: CaptureOrigin::Arrival });
        let none = super::captured(&gstreamer::Buffer::new(), arrived);
        assert_eq!(none.origin, CaptureOrigin::Arrival);
    }
}
