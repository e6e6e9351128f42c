//! Raw pictures in, an encoded clip out: one short pipeline that lives as long as the encoding.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::clip::{ClipBuilder, EncodedClip};
use super::{Bitrate, Codec, SimulatorError};

/// Size, rate, codec and memory limit of one encoding.
#[derive(Debug, Clone)]
pub struct EncodeSettings {
    /// The camera, for error messages.
    pub name: String,
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// Frames per second.
    pub fps: u32,
    /// The codec.
    pub codec: Codec,
    /// As a camera would be set to, encoded as a camera's encoder would; `None`: constant quality, encoded quickly.
    pub bitrate: Option<Bitrate>,
    /// Most bytes the clip may hold.
    pub memory_limit: usize,
}

/// Quality of a variable bit rate, rate factor of x264 and x265: 18 looks like the picture, 28 is visibly coarser.
const QUALITY: u32 = 26;

/// Starts GStreamer; may be called any number of times.
pub(super) fn init() -> Result<(), SimulatorError> {
    gst::init().map_err(|error| SimulatorError::Start(error.to_string()))
}

/// Fails with the Debian package when `element` is absent.
pub(super) fn need(element: &'static str, package: &'static str) -> Result<(), SimulatorError> {
    match gst::ElementFactory::find(element) {
        Some(_) => Ok(()),
        None => Err(SimulatorError::MissingPlugin { element, package }),
    }
}

/// Pictures from one key frame to the next: 2 s.
fn group(fps: u32) -> u32 {
    fps.saturating_mul(2).max(1)
}

/// The encoder with its parser, as a pipeline description that ends in byte-stream access units.
pub(super) fn encoder(codec: Codec, fps: u32, bitrate: Option<Bitrate>) -> Result<String, SimulatorError> {
    let gop = group(fps);
    Ok(match codec {
        Codec::H264 => {
            need("x264enc", "gstreamer1.0-plugins-ugly")?;
            need("h264parse", "gstreamer1.0-plugins-bad")?;
            let quality = match bitrate {
                // Cameras put key frames where they are due, not where the scene changes.
                Some(Bitrate::Constant(rate)) => {
                    format!("speed-preset=veryfast pass=cbr bitrate={rate} option-string=scenecut=0")
                }
                Some(Bitrate::AtMost(rate)) => {
                    format!(
                        "speed-preset=veryfast pass=qual quantizer={QUALITY} bitrate={rate} option-string=scenecut=0"
                    )
                }
                None => "speed-preset=ultrafast pass=qual quantizer=20".to_owned(),
            };
            // Cameras send a picture in one slice; by default this tuning makes as many as the machine has cores.
            format!(
                "videoconvert ! video/x-raw,format=I420 ! x264enc {quality} tune=zerolatency sliced-threads=false \
                 key-int-max={gop} ! {}",
                codec.parser()
            )
        }
        Codec::H265 => {
            need("x265enc", "gstreamer1.0-plugins-bad")?;
            need("h265parse", "gstreamer1.0-plugins-bad")?;
            let rate = bitrate.map_or(4000, Bitrate::kbit_per_s);
            let quality = match bitrate {
                Some(Bitrate::AtMost(_)) => format!(":crf={QUALITY}:vbv-maxrate={rate}:vbv-bufsize={rate}"),
                _ => String::new(),
            };
            format!(
                "videoconvert ! video/x-raw,format=I420 ! x265enc speed-preset=ultrafast tune=zerolatency bitrate={rate} \
                 key-int-max={gop} option-string=log-level=none:repeat-headers=1{quality} ! {}",
                codec.parser()
            )
        }
        Codec::Mjpeg => {
            need("jpegenc", "gstreamer1.0-plugins-good")?;
            format!("videoconvert ! video/x-raw,format=I420 ! jpegenc quality=88 ! {}", codec.parser())
        }
    })
}

/// Encodes a loop of `frames` pictures; `draw` fills one packed RGB picture (width x height x 3 bytes) at the given time.
///
/// The end of the loop is encoded before it and left out: an encoder's first pictures differ from what it settles to (a key frame of twice the
/// bytes), and a camera that loops would jump at each turn as no camera does.
///
/// # Errors
/// A missing plugin, an encoder error, or more bytes than the limit.
pub fn encode_frames(
    settings: &EncodeSettings,
    frames: u32,
    mut draw: impl FnMut(Duration, &mut [u8]),
) -> Result<EncodedClip, SimulatorError> {
    let (width, height) = settings.size;
    let description = format!(
        "appsrc name=in format=time block=true max-buffers=2 max-bytes=0 \
         caps=video/x-raw,format=RGB,width={width},height={height},framerate={}/1 ! {} ! \
         appsink name=out sync=false max-buffers=0",
        settings.fps,
        encoder(settings.codec, settings.fps, settings.bitrate)?
    );
    let running = Running::launch(&description)?;
    let input = running.element::<gst_app::AppSrc>("in")?;
    let output = running.element::<gst_app::AppSink>("out")?;
    running.play()?;
    let lead = if settings.codec == Codec::Mjpeg { 0 } else { group(settings.fps) };
    let mut clip = ClipBuilder::new(&settings.name, settings.memory_limit).without(lead);
    let (row, stride) = (width as usize * 3, (width as usize * 3).next_multiple_of(4));
    let mut pixels = vec![0_u8; row * height as usize];
    // So many pictures of whole loops that the lead is their end.
    let whole = lead.next_multiple_of(frames.max(1));
    for index in 0..lead.saturating_add(frames) {
        draw(frame_time((whole - lead + index) % frames.max(1), settings.fps), &mut pixels);
        let at = frame_time(index, settings.fps);
        let mut padded = vec![0_u8; stride * height as usize];
        for (to, from) in padded.chunks_exact_mut(stride).zip(pixels.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        let mut buffer = gst::Buffer::from_mut_slice(padded);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(clock(at));
            buffer.set_duration(clock(frame_time(1, settings.fps)));
        }
        if input.push_buffer(buffer).is_err() {
            return Err(SimulatorError::Encode(running.error().unwrap_or_else(|| "the encoder stopped".into())));
        }
        while let Some(sample) = output.try_pull_sample(gst::ClockTime::ZERO) {
            clip.push(&sample)?;
        }
    }
    let _ = input.end_of_stream();
    running.drain(&output, &mut clip).map_err(SimulatorError::Encode)?;
    clip.finish(settings.codec, Some(frame_time(1, settings.fps)))
        .ok_or_else(|| SimulatorError::Encode("the encoder gave no picture".into()))
}

/// Time of the picture with this index.
pub(super) fn frame_time(index: u32, fps: u32) -> Duration {
    Duration::from_nanos(u64::from(index) * 1_000_000_000 / u64::from(fps.max(1)))
}

/// A duration as GStreamer counts it.
pub(super) fn clock(at: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX - 1))
}

/// A pipeline that is set to Null when it goes out of scope.
pub(super) struct Running(pub(super) gst::Pipeline);

impl Running {
    pub(super) fn launch(description: &str) -> Result<Self, SimulatorError> {
        let element = gst::parse::launch(description).map_err(|error| SimulatorError::Encode(error.to_string()))?;
        element.downcast::<gst::Pipeline>().map(Self).map_err(|_| SimulatorError::Encode("not a pipeline".into()))
    }

    pub(super) fn element<T: IsA<gst::Element>>(&self, name: &str) -> Result<T, SimulatorError> {
        let element = self.0.by_name(name).and_then(|element| element.downcast::<T>().ok());
        element.ok_or_else(|| SimulatorError::Encode(format!("no element {name}")))
    }

    pub(super) fn play(&self) -> Result<(), SimulatorError> {
        match self.0.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(error) => Err(SimulatorError::Encode(self.error().unwrap_or_else(|| error.to_string()))),
        }
    }

    /// The first error on the bus, in words.
    pub(super) fn error(&self) -> Option<String> {
        let message = self.0.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }

    /// Pulls everything until the end of the stream; the error is in words.
    pub(super) fn drain(&self, output: &gst_app::AppSink, clip: &mut ClipBuilder) -> Result<(), String> {
        let mut silent = 0;
        loop {
            if let Some(sample) = output.try_pull_sample(gst::ClockTime::from_mseconds(200)) {
                silent = 0;
                clip.push(&sample).map_err(|error| error.to_string())?;
            } else if let Some(error) = self.error() {
                return Err(error);
            } else if output.is_eos() {
                return Ok(());
            } else {
                silent += 1;
                // A minute of nothing: a file without a video stream never ends by itself.
                if silent > 300 {
                    return Err("no picture within a minute".into());
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_turns_without_a_jump() {
        init().unwrap();
        for codec in [Codec::H264, Codec::H265] {
            let settings = EncodeSettings {
                name: "door".into(),
                size: (320, 180),
                fps: 10,
                codec,
                bitrate: Some(Bitrate::AtMost(1000)),
                memory_limit: 64 << 20,
            };
            // Less than a whole number of groups, and a sensor that is noisy.
            let mut first = None;
            let clip = encode_frames(&settings, 50, |at, pixels| {
                first.get_or_insert(at);
                let mut random = fastrand::Rng::with_seed(at.as_millis() as u64);
                pixels.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 200) as u8 + random.u8(..12));
            })
            .unwrap();
            assert_eq!(first, Some(Duration::from_secs(3)));
            assert_eq!((clip.units.len(), clip.duration), (50, Duration::from_secs(5)), "{codec:?}");
            let keys: Vec<usize> = (0..50).filter(|i| clip.units[*i].is_key).collect();
            assert_eq!(keys, [0, 20, 40], "{codec:?}");
            // Parameter sets first, not a delimiter.
            let set: &[u8] = if codec == Codec::H264 { &[0, 0, 0, 1, 0x67] } else { &[0, 0, 0, 1, 0x40] };
            assert!(clip.units[0].data.map_readable().unwrap().starts_with(set), "{codec:?}");
            let bytes = |i: usize| clip.units[i].data.size() as f64;
            assert!((0.8..1.25).contains(&(bytes(0) / bytes(20))), "{codec:?}: {} and {} bytes", bytes(0), bytes(20));
        }
    }
}
