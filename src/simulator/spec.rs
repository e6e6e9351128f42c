//! Cameras as text: `NAME=SOURCE[,option=value...]`.

use std::path::PathBuf;
use std::time::Duration;

use super::{Scene, SimulatorError, folder};

/// The codec of a simulated camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Codec {
    /// H.264.
    #[default]
    H264,
    /// H.265.
    H265,
    /// Motion JPEG, at most 2040x2040.
    Mjpeg,
}

impl Codec {
    /// Parser and caps that give byte-stream access units.
    pub(super) fn parser(self) -> &'static str {
        match self {
            Self::H264 => "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
            Self::H265 => "h265parse ! video/x-h265,stream-format=byte-stream,alignment=au",
            Self::Mjpeg => "jpegparse ! image/jpeg",
        }
    }

    /// The payloader of the RTSP server.
    pub(super) fn payloader(self) -> &'static str {
        match self {
            Self::H264 => "rtph264pay config-interval=-1",
            Self::H265 => "rtph265pay config-interval=-1",
            Self::Mjpeg => "rtpjpegpay",
        }
    }
}

/// How many bits an encoding takes, kbit/s, 100 to 50 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bitrate {
    /// Always this many: what is not needed is spent on noise.
    Constant(u32),
    /// As many as the quality needs, at most these.
    AtMost(u32),
}

impl Bitrate {
    /// The number.
    pub fn kbit_per_s(self) -> u32 {
        match self {
            Self::Constant(rate) | Self::AtMost(rate) => rate,
        }
    }

    /// The same kind with another number.
    pub fn map(self, other: impl FnOnce(u32) -> u32) -> Self {
        match self {
            Self::Constant(rate) => Self::Constant(other(rate)),
            Self::AtMost(rate) => Self::AtMost(other(rate)),
        }
    }
}

/// Where the pictures come from.
#[derive(Debug, Clone)]
pub enum SimSource {
    /// A video file, looped.
    File(PathBuf),
    /// A folder of pictures that walk in and out, or one of them.
    Folder {
        /// The folder, or the picture.
        path: PathBuf,
        /// From one picture to the next.
        period: Duration,
    },
    /// Colour bars with a moving square and a clock.
    Pattern,
    /// A scene described in code.
    Scene(Scene),
}

/// Faults by the clock, counted from the start of the simulator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Stops sending after this long, once.
    pub stall_after: Option<Duration>,
    /// Sends again after having stalled this long; never when `None`.
    pub stall_for: Option<Duration>,
    /// Disconnects its clients again and again.
    pub drop_every: Option<Duration>,
    /// Answers 404 after this long, once.
    pub gone_after: Option<Duration>,
    /// Comes back after having been gone this long; never when `None`.
    pub gone_for: Option<Duration>,
    /// Closes the server again and again (all its cameras).
    pub restart_every: Option<Duration>,
    /// How long the server stays closed; 2 s when `None`.
    pub restart_for: Option<Duration>,
}

/// One simulated camera.
#[derive(Debug, Clone)]
pub struct SimCamera {
    /// Name and path of the URL: 1 to 64 of `a-z A-Z 0-9 - _`.
    pub name: String,
    /// The source.
    pub source: SimSource,
    /// The codec; `None`: the file's own, else H.264.
    pub codec: Option<Codec>,
    /// Width and height, even; `None`: the file's or scene's own, else 1280x720.
    pub size: Option<(u32, u32)>,
    /// Frames per second, 1 to 60; `None`: the file's or scene's own, else 15.
    pub fps: Option<u32>,
    /// Bit rate of the encoding; `None`: constant quality, or a file as it is. MJPEG takes none.
    pub bitrate: Option<Bitrate>,
    /// Serve a smaller stream of the same pictures, too, as `NAME-sub`: width and height.
    pub substream: Option<(u32, u32)>,
    /// Serve the same encoded pictures as further cameras, too: their names, and how far into the pictures each one's own
    /// timeline begins (at the key frame before it). A substream is served beside each of them; faults by the clock are the camera's alone.
    pub further: Vec<(String, Duration)>,
    /// Faults by the clock.
    pub faults: FaultPlan,
}

impl SimCamera {
    /// A camera with the defaults of its source.
    pub fn new(name: impl Into<String>, source: SimSource) -> Self {
        Self {
            name: name.into(),
            source,
            codec: None,
            size: None,
            fps: None,
            bitrate: None,
            substream: None,
            further: Vec::new(),
            faults: FaultPlan::default(),
        }
    }

    /// With this codec.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// With this size (width, height).
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = Some((width, height));
        self
    }

    /// With this many frames a second.
    pub fn fps(mut self, fps: u32) -> Self {
        self.fps = Some(fps);
        self
    }

    /// Reads `NAME=SOURCE` with options after `,` or `?`: `codec`, `size`, `fps`, `bitrate`, `max-bitrate`, `substream`, `period` (folders), and the fault
    /// times of [`FaultPlan`] with dashes (`stall-after=20s`). The source is a video file, a folder, or `pattern`.
    ///
    /// # Errors
    /// A text that does not say this, or a source that does not exist.
    pub fn parse(text: &str) -> Result<Self, SimulatorError> {
        let fail = |problem: String| SimulatorError::Spec { text: text.to_owned(), problem };
        let (name, rest) = text
            .split_once('=')
            .ok_or_else(|| fail("write NAME=SOURCE, for example `door=clip.mp4` or `test=pattern`".into()))?;
        let (source, options) = split_options(rest);
        if source.is_empty() {
            return Err(fail("the source is missing: a video file, a folder of pictures, or `pattern`".into()));
        }
        let mut camera = Self::new(name, SimSource::Pattern);
        let mut period = None;
        for (key, value) in options {
            let time = || duration(&value).ok_or_else(|| fail(format!("{key} wants a time such as 20s or 500ms")));
            match key.as_str() {
                "codec" => {
                    camera.codec = Some(codec(&value).ok_or_else(|| fail("codec is h264, h265 or mjpeg".into()))?)
                }
                "size" => camera.size = Some(size(&value).ok_or_else(|| fail("size is written 1280x720".into()))?),
                "fps" => camera.fps = Some(value.parse().map_err(|_| fail("fps is a number from 1 to 60".into()))?),
                "bitrate" | "max-bitrate" => {
                    let rate = value.parse().map_err(|_| fail(format!("{key} is kbit/s, from 100 to 50000")))?;
                    let rate = if key == "bitrate" { Bitrate::Constant(rate) } else { Bitrate::AtMost(rate) };
                    if camera.bitrate.replace(rate).is_some() {
                        return Err(fail("give either bitrate or max-bitrate".into()));
                    }
                }
                "substream" => {
                    camera.substream = Some(size(&value).ok_or_else(|| fail("substream is written 640x360".into()))?)
                }
                "period" => period = Some(time()?),
                "stall-after" => camera.faults.stall_after = Some(time()?),
                "stall-for" => camera.faults.stall_for = Some(time()?),
                "drop-every" => camera.faults.drop_every = Some(time()?),
                "gone-after" => camera.faults.gone_after = Some(time()?),
                "gone-for" => camera.faults.gone_for = Some(time()?),
                "restart-every" => camera.faults.restart_every = Some(time()?),
                "restart-for" => camera.faults.restart_for = Some(time()?),
                other => {
                    let known = "codec, size, fps, bitrate, max-bitrate, substream, period, stall-after, stall-for, drop-every, gone-after, gone-for, \
                                 restart-every, restart-for";
                    return Err(fail(format!("there is no option {other:?}; there are {known}")));
                }
            }
        }
        let path = PathBuf::from(&source);
        camera.source = if source == "pattern" {
            SimSource::Pattern
        } else if path.is_dir() || folder::is_picture(&path) {
            SimSource::Folder { path, period: period.take().unwrap_or(folder::DEFAULT_PERIOD) }
        } else if path.is_file() {
            SimSource::File(path)
        } else {
            return Err(SimulatorError::NotFound { path });
        };
        if period.is_some() {
            return Err(fail("period is for pictures".into()));
        }
        camera.check().map_err(fail)?;
        Ok(camera)
    }

    /// The camera whose only stream is this one's substream.
    pub(super) fn small(&self) -> Option<Self> {
        let size = self.substream?;
        let mut small = Self { name: format!("{}-sub", self.name), size: Some(size), substream: None, ..self.clone() };
        small.bitrate = self.bitrate.map(|rate| rate.map(|kbit| (kbit / 8).max(100)));
        small.faults = FaultPlan::default();
        small.further.iter_mut().for_each(|(name, _)| name.push_str("-sub"));
        if let SimSource::Scene(scene) = &mut small.source {
            scene.size = size;
        }
        Some(small)
    }

    /// Its name and those under which the same pictures are served, too, with how far into them each timeline begins.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Duration)> {
        let further = self.further.iter().map(|(name, ahead)| (name.as_str(), *ahead));
        std::iter::once((self.name.as_str(), Duration::ZERO)).chain(further)
    }

    /// What is wrong with the camera's values, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        let named = |name: &str| (1..=64).contains(&name.len()) && name.chars().all(allowed);
        if !self.names().all(|(name, _)| named(name)) {
            return Err("a name has 1 to 64 letters, digits, - or _".into());
        }
        let (size, fps) = match &self.source {
            SimSource::Scene(scene) => (Some(scene.size), Some(scene.fps)),
            _ => (self.size, self.fps),
        };
        if let Some((width, height)) = size {
            let most = if self.codec == Some(Codec::Mjpeg) { 2040 } else { 4096 };
            let step = if self.codec == Some(Codec::Mjpeg) { 8 } else { 2 };
            let fits = |side: u32| (64..=most).contains(&side) && side.is_multiple_of(step);
            if !fits(width) || !fits(height) {
                return Err(format!("width and height are 64 to {most} and multiples of {step}"));
            }
        }
        if fps.is_some_and(|fps| !(1..=60).contains(&fps)) {
            return Err("fps is a number from 1 to 60".into());
        }
        if self.bitrate.is_some() && self.codec == Some(Codec::Mjpeg) {
            return Err("bitrate is for h264 and h265".into());
        }
        if self.bitrate.is_some_and(|rate| !(100..=50_000).contains(&rate.kbit_per_s())) {
            return Err("bitrate is kbit/s, from 100 to 50000".into());
        }
        if let SimSource::Folder { period, .. } = &self.source
            && !(Duration::from_secs(1)..=Duration::from_secs(120)).contains(period)
        {
            return Err("period is 1s to 120s".into());
        }
        let plan = self.faults;
        let every = [plan.drop_every, plan.restart_every];
        if every.into_iter().flatten().any(|every| every < Duration::from_millis(100)) {
            return Err("drop-every and restart-every are at least 100ms".into());
        }
        let lonely = [
            ("stall-for", plan.stall_for, "stall-after", plan.stall_after),
            ("gone-for", plan.gone_for, "gone-after", plan.gone_after),
            ("restart-for", plan.restart_for, "restart-every", plan.restart_every),
        ];
        match lonely.iter().find(|(_, length, _, start)| length.is_some() && start.is_none()) {
            Some((length, _, start, _)) => Err(format!("{length} needs {start} beside it")),
            None => Ok(()),
        }
    }
}

/// The source, and the options behind it; a piece without `key=` belongs to the source (a path may hold a comma).
fn split_options(text: &str) -> (String, Vec<(String, String)>) {
    let mut source = String::new();
    let mut options = Vec::new();
    for (index, piece) in text.split_inclusive([',', '?', '&']).enumerate() {
        let bare = piece.strip_suffix([',', '?', '&']).unwrap_or(piece);
        match bare.split_once('=') {
            Some((key, value)) if index > 0 => options.push((key.trim().to_owned(), value.trim().to_owned())),
            _ => source.push_str(piece),
        }
    }
    (source.strip_suffix([',', '?', '&']).unwrap_or(&source).to_owned(), options)
}

fn codec(text: &str) -> Option<Codec> {
    match text.to_ascii_lowercase().as_str() {
        "h264" => Some(Codec::H264),
        "h265" | "hevc" => Some(Codec::H265),
        "mjpeg" | "jpeg" => Some(Codec::Mjpeg),
        _ => None,
    }
}

fn size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// `500ms`, `20s`, `2m`; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let value: f64 = digits.parse().ok()?;
    let seconds = match &text[digits.len()..] {
        "ms" => value / 1000.0,
        "s" | "" => value,
        "m" | "min" => value * 60.0,
        _ => return None,
    };
    (seconds > 0.0 && seconds < 1e6).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        SimCamera::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_camera_is_read_with_its_options() {
        let camera =
            SimCamera::parse("test=pattern,codec=h265,fps=10,size=640x360,stall-after=20s,stall-for=500ms").unwrap();
        assert_eq!((camera.name.as_str(), camera.codec, camera.fps), ("test", Some(Codec::H265), Some(10)));
        assert_eq!(camera.size, Some((640, 360)));
        assert_eq!(camera.faults.stall_after, Some(Duration::from_secs(20)));
        assert_eq!(camera.faults.stall_for, Some(Duration::from_millis(500)));
        let camera = SimCamera::parse("test=pattern?drop-every=30s&codec=mjpeg").unwrap();
        assert_eq!((camera.faults.drop_every, camera.codec), (Some(Duration::from_secs(30)), Some(Codec::Mjpeg)));
    }

    #[test]
    fn a_folder_with_a_comma_in_its_name_is_found_and_a_picture_is_one_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a,b");
        std::fs::create_dir(&path).unwrap();
        let camera = SimCamera::parse(&format!("x={},period=3s", path.display())).unwrap();
        assert!(matches!(camera.source, SimSource::Folder { path: p, period } if p == path && period.as_secs() == 3));
        let picture = path.join("anna.JPG");
        std::fs::write(&picture, b"judged by its name").unwrap();
        let camera = SimCamera::parse(&format!("x={},period=3s", picture.display())).unwrap();
        assert!(
            matches!(camera.source, SimSource::Folder { path: p, .. } if p == picture),
            "it walks in and out alone"
        );
    }

    #[test]
    fn a_bad_camera_is_told_how_to_mend_it() {
        assert!(problem("pattern").contains("NAME=SOURCE"));
        assert!(problem("a b=pattern").contains("letters"));
        assert!(problem("a=").contains("missing"));
        assert!(problem("a=/no/such/file.mp4").contains("does not exist"));
        assert!(problem("a=pattern,codec=vp9").contains("h264, h265 or mjpeg"));
        assert!(problem("a=pattern,speed=3").contains("there is no option"));
        assert!(problem("a=pattern,fps=0").contains("1 to 60"));
        assert!(problem("a=pattern,size=641x360").contains("multiples"));
        assert!(problem("a=pattern,stall-for=3s").contains("stall-after"));
        assert!(problem("a=pattern,stall-after=soon").contains("20s"));
        assert!(problem("a=pattern,period=3s").contains("pictures"));
    }
}
