//! A video file as a clip: passed through when its codec is the wanted one, else transcoded once.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::clip::{ClipBuilder, EncodedClip};
use super::encode::{Running, encoder, init, need};
use super::{Codec, SimCamera, SimulatorError};

/// Loads a video. Without codec, size or rate in the camera's options the file's own stream is served as it is.
///
/// # Errors
/// Not a video, a missing plugin, or more bytes than `memory_limit`.
pub fn load(camera: &SimCamera, path: &Path, memory_limit: usize) -> Result<EncodedClip, SimulatorError> {
    init()?;
    if !path.is_file() {
        return Err(SimulatorError::NotFound { path: path.to_owned() });
    }
    need("parsebin", "gstreamer1.0-plugins-base")?;
    need("h264parse", "gstreamer1.0-plugins-bad")?;
    let native = native_codec(path)?;
    let wanted = camera.codec.or(native).unwrap_or_default();
    let passes = native == Some(wanted) && camera.size.is_none() && camera.fps.is_none() && camera.bitrate.is_none();
    let location = quoted(path);
    let description = if passes {
        format!("filesrc location={location} ! parsebin name=p ! {} ! appsink name=out sync=false", wanted.parser())
    } else {
        let mut raw = String::from("video/x-raw,pixel-aspect-ratio=1/1");
        if let Some((width, height)) = camera.size {
            raw.push_str(&format!(",width={width},height={height}"));
        }
        let rate = camera.fps.map_or(String::new(), |fps| format!(" ! videorate ! video/x-raw,framerate={fps}/1"));
        format!(
            "filesrc location={location} ! decodebin name=p caps=\"video/x-raw\" ! videoconvert ! \
             videoscale add-borders=true ! {raw}{rate} ! {} ! appsink name=out sync=false",
            encoder(wanted, camera.fps.unwrap_or(25), camera.bitrate)?
        )
    };
    let video_error = |reason: String| SimulatorError::Video { path: path.to_owned(), reason };
    let running = Running::launch(&description).map_err(|error| video_error(error.to_string()))?;
    let output = running.element::<gst_app::AppSink>("out")?;
    output.set_property("max-buffers", 8_u32);
    running.play().map_err(|error| video_error(error.to_string()))?;
    let mut clip = ClipBuilder::new(&camera.name, memory_limit);
    running.drain(&output, &mut clip).map_err(video_error)?;
    clip.finish(wanted, None).ok_or_else(|| video_error("it holds no video stream with a key frame".into()))
}

/// The codec of the first video stream; `None` when it is one that cannot be served as it is.
fn native_codec(path: &Path) -> Result<Option<Codec>, SimulatorError> {
    let running = Running::launch(&format!("filesrc location={} ! parsebin name=p", quoted(path)))?;
    let parsebin = running.element::<gst::Element>("p")?;
    let found: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = found.clone();
    parsebin.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if let Some(structure) = caps.structure(0) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(structure.name().to_string());
        }
    });
    let done = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let signal = done.clone();
    parsebin.connect_no_more_pads(move |_| {
        *signal.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        signal.1.notify_all();
    });
    running.0.set_state(gst::State::Paused).ok();
    for _ in 0..100 {
        let guard = done.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = std::time::Duration::from_millis(100);
        let (guard, _) = done.1.wait_timeout_while(guard, wait, |done| !*done).unwrap_or_else(PoisonError::into_inner);
        if *guard {
            break;
        }
        drop(guard);
        if let Some(reason) = running.error() {
            // A parser's complaint after the video pad came (nothing is linked here) says nothing about the file.
            if found.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Err(SimulatorError::Video { path: path.to_owned(), reason });
            }
            break;
        }
    }
    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
    if !found.iter().any(|name| name.starts_with("video/") || name.starts_with("image/")) {
        return Err(SimulatorError::Video { path: path.to_owned(), reason: "it holds no video stream".into() });
    }
    Ok(found.iter().find_map(|name| match name.as_str() {
        "video/x-h264" => Some(Codec::H264),
        "video/x-h265" => Some(Codec::H265),
        "image/jpeg" => Some(Codec::Mjpeg),
        _ => None,
    }))
}

/// A path as a quoted value of a pipeline description.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
