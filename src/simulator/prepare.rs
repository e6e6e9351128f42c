//! Cameras as described → encoded clips, with what they show where that is known.

use super::{
    Codec, SimCamera, SimSource, SimulatorError, SimulatorSettings,
    clip::EncodedClip,
    encode::{EncodeSettings, encode_frames},
    file, folder, pattern,
    render::Painter,
    scene::{Scene, SceneTruth},
};

const DEFAULT_SIZE: (u32, u32) = (1280, 720);
const DEFAULT_FPS: u32 = 15;

/// Encodes all cameras, as many at once as there are cores.
pub(super) fn all(settings: &SimulatorSettings) -> Vec<Result<(EncodedClip, Option<SceneTruth>), SimulatorError>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut prepared = Vec::new();
    for few in settings.cameras.chunks(cores) {
        std::thread::scope(|scope| {
            let working: Vec<_> =
                few.iter().map(|camera| scope.spawn(move || prepare(camera, settings.memory_limit))).collect();
            prepared.extend(working.into_iter().map(|work| {
                work.join().unwrap_or_else(|_| Err(SimulatorError::Encode("the encoding thread panicked".into())))
            }));
        });
    }
    prepared
}

fn prepare(camera: &SimCamera, memory_limit: usize) -> Result<(EncodedClip, Option<SceneTruth>), SimulatorError> {
    let size = camera.size.unwrap_or(DEFAULT_SIZE);
    let fps = camera.fps.unwrap_or(DEFAULT_FPS);
    let codec = camera.codec.unwrap_or(Codec::H264);
    let bitrate = camera.bitrate;
    let settings = EncodeSettings { name: camera.name.clone(), size, fps, codec, bitrate, memory_limit };
    match &camera.source {
        SimSource::File(path) => Ok((file::load(camera, path, memory_limit)?, None)),
        SimSource::Folder { path, period } => draw(&settings, &folder::scene(path, size, fps, *period)?),
        SimSource::Scene(scene) => draw(&EncodeSettings { size: scene.size, fps: scene.fps, ..settings }, scene),
        SimSource::Pattern => {
            let frames = fps.saturating_mul(pattern::LOOP.as_secs() as u32);
            Ok((encode_frames(&settings, frames, |at, pixels| pattern::draw(size, at, pixels))?, None))
        }
    }
}

fn draw(settings: &EncodeSettings, scene: &Scene) -> Result<(EncodedClip, Option<SceneTruth>), SimulatorError> {
    if scene.frames() == 0 {
        return Err(SimulatorError::Scene("it lasts no time: give it a duration".into()));
    }
    let painter = Painter::new(scene);
    let clip = encode_frames(settings, scene.frames(), |at, pixels| painter.draw(at, pixels))?;
    Ok((clip, Some(scene.truth())))
}
