//! Cameras on the wire.

use super::{duration, excerpt, from_duration, time};
use crate::{
    camera::{
        CameraSpec, CameraState,
        spec::{Credentials, Decoding, SamplingPolicy, Secret, TlsPolicy, Transport, parse_url},
    },
    frame::{Point, region::Region},
    ids::CameraId,
    pipeline::fleet::CameraView,
    proto::v1,
    time::Timestamp,
};

/// Most regions of a camera.
const MAX_REGIONS: usize = 32;
/// Most watchlists of a camera, and most bytes of a watchlist's name: as for people.
const MAX_WATCHLISTS: usize = 64;
const MAX_WATCHLIST_BYTES: usize = 63;

type Faults = Vec<(String, String)>;

/// A camera as registered and how it fares; never with credentials.
pub fn to_wire(view: &CameraView) -> v1::Camera {
    let spec = &view.spec;
    v1::Camera {
        name: format!("cameras/{}", spec.id),
        display_name: spec.display_name.clone(),
        url: spec.url.to_string(),
        credentials: None,
        transport: match spec.transport {
            Transport::Auto => v1::Transport::Auto,
            Transport::Tcp => v1::Transport::Tcp,
            Transport::Udp => v1::Transport::Udp,
        }
        .into(),
        labels: spec.labels.clone().into_iter().collect(),
        enabled: Some(spec.enabled),
        sampling: Some(v1::SamplingPolicy {
            idle_fps: spec.sampling.idle_fps,
            active_fps: spec.sampling.active_fps,
            max_detection_delay: Some(duration(spec.sampling.max_detection_delay)),
            decoding: match spec.sampling.decoding {
                Decoding::Auto => v1::Decoding::Auto,
                Decoding::All => v1::Decoding::All,
                Decoding::KeyFrames => v1::Decoding::KeyFrames,
            }
            .into(),
        }),
        min_face_px: spec.min_face_px,
        regions: spec
            .regions
            .iter()
            .map(|r| v1::Region {
                points: r.points.iter().map(|p| v1::Point { x: p.x, y: p.y }).collect(),
                exclude: r.exclude,
            })
            .collect(),
        watchlists: spec.watchlists.clone(),
        threshold_override: spec.threshold_override,
        status: Some(status(view)),
        etag: spec.revision.to_string(),
        create_time: Some(time(spec.created)),
        tls: match spec.tls {
            TlsPolicy::Verify => v1::TlsPolicy::Verify,
            TlsPolicy::Insecure => v1::TlsPolicy::Insecure,
        }
        .into(),
        substream_url: spec.substream.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The state on the wire.
pub fn state(state: CameraState) -> v1::CameraState {
    match state {
        CameraState::Connecting => v1::CameraState::Connecting,
        CameraState::Streaming => v1::CameraState::Streaming,
        CameraState::Stalled => v1::CameraState::Stalled,
        CameraState::Retrying => v1::CameraState::Retrying,
        CameraState::Refused => v1::CameraState::Refused,
        CameraState::Disabled => v1::CameraState::Disabled,
    }
}

fn status(view: &CameraView) -> v1::CameraStatus {
    let s = &view.status;
    v1::CameraStatus {
        state: state(s.state).into(),
        reason: s.reason.as_ref().map(|r| r.message.clone()).unwrap_or_default(),
        reason_code: s.reason.as_ref().map(|r| r.code.to_string()).unwrap_or_default(),
        since: Some(time(s.since)),
        next_retry: s.next_retry.map(time),
        resolution: s.resolution.map(|(width, height)| v1::ImageSize { width, height }),
        codec: s.codec.as_deref().unwrap_or_default().to_owned(),
        fps_in: s.fps_in,
        fps_sampled: s.fps_sampled,
        key_frame_interval: s.key_frame_interval.map(duration),
        frames_received: s.frames_received,
        frames_sampled: s.frames_sampled,
        frames_skipped: s.frames_skipped.iter().map(|(k, v)| (k.to_string(), *v)).collect(),
        decode_latency: s.decode_latency.map(duration),
        detection_latency: view.detection_latency.map(duration),
        reconnects: s.reconnects,
        active_tracks: view.active_tracks,
        faces_found: view.faces_found,
        fps_decoded: s.fps_decoded,
        key_frames_only: s.key_frames_only,
        wakes: s.wakes,
        main_stream: view.main.as_ref().map(|main| v1::MainStream {
            state: state(main.state).into(),
            reason: main.reason.as_ref().map(|r| r.message.clone()).unwrap_or_default(),
            reason_code: main.reason.as_ref().map(|r| r.code.to_string()).unwrap_or_default(),
            resolution: main.resolution.map(|(width, height)| v1::ImageSize { width, height }),
            codec: main.codec.as_deref().unwrap_or_default().to_owned(),
            decoding: main.state == CameraState::Streaming && !main.key_frames_only,
        }),
    }
}

/// A new camera.
///
/// # Errors
/// Every faulty field at once.
pub fn from_wire(id: CameraId, wire: v1::Camera, now: Timestamp) -> Result<CameraSpec, Faults> {
    let mut faults = Faults::new();
    let url = parse_url(&wire.url).map_err(|e| faults.push(("camera.url".into(), e.message))).ok();
    let mut spec = CameraSpec {
        display_name: if wire.display_name.is_empty() { id.to_string() } else { wire.display_name.clone() },
        id,
        url: match &url {
            Some((url, _)) => url.clone(),
            None => return Err(merged(faults, fill_rest(&mut blank(now), &wire))),
        },
        credentials: url.and_then(|(_, credentials)| credentials),
        created: now,
        ..blank(now)
    };
    fill_rest(&mut spec, &wire)?;
    Ok(spec)
}

fn merged(mut faults: Faults, rest: Result<(), Faults>) -> Faults {
    faults.extend(rest.err().unwrap_or_default());
    faults
}

/// Defaults of a camera; id and URL are always replaced.
fn blank(now: Timestamp) -> CameraSpec {
    CameraSpec {
        id: CameraId::generate(),
        display_name: String::new(),
        // The simplest URL there is; it never leaves this file.
        url: match url::Url::parse("rtsp://camera.invalid/") {
            Ok(url) => url,
            Err(never) => unreachable!("a constant URL parses: {never}"),
        },
        substream: None,
        credentials: None,
        transport: Transport::Auto,
        tls: TlsPolicy::Verify,
        labels: Default::default(),
        enabled: true,
        sampling: SamplingPolicy::default(),
        min_face_px: 0,
        regions: Vec::new(),
        watchlists: Vec::new(),
        threshold_override: None,
        revision: 1,
        created: now,
    }
}

const FIELDS: [&str; 17] = [
    "display_name",
    "url",
    "substream_url",
    "credentials",
    "transport",
    "tls",
    "labels",
    "enabled",
    "sampling",
    "sampling.idle_fps",
    "sampling.active_fps",
    "sampling.max_detection_delay",
    "sampling.decoding",
    "min_face_px",
    "regions",
    "watchlists",
    "threshold_override",
];

/// Everything but id, name and URL, where it is set.
fn fill_rest(spec: &mut CameraSpec, wire: &v1::Camera) -> Result<(), Faults> {
    let paths: Vec<String> =
        FIELDS.iter().filter(|f| !["display_name", "url"].contains(f)).map(|f| (*f).to_owned()).collect();
    apply(spec, wire, &paths, true)
}

/// Applies the fields of `wire` that the mask names; without a mask, all that are set.
///
/// # Errors
/// Unknown paths and values that can't be read, all at once.
pub fn update(spec: &mut CameraSpec, wire: &v1::Camera, paths: &[String]) -> Result<(), Faults> {
    if let Some(bad) = paths.iter().find(|p| !FIELDS.contains(&p.as_str())) {
        return Err(vec![(
            "update_mask".into(),
            format!("{:?} is no field that can be changed; there are {}", excerpt(bad), FIELDS.join(", ")),
        )]);
    }
    if paths.is_empty() {
        let all: Vec<String> = FIELDS.iter().map(|f| (*f).to_owned()).collect();
        return apply(spec, wire, &all, true);
    }
    apply(spec, wire, paths, false)
}

/// `only_set` leaves out fields that the message does not set.
fn apply(spec: &mut CameraSpec, wire: &v1::Camera, paths: &[String], only_set: bool) -> Result<(), Faults> {
    let mut faults = Faults::new();
    let has = |path: &str, set: bool| paths.iter().any(|p| p == path) && (set || !only_set);
    if has("display_name", !wire.display_name.is_empty()) {
        spec.display_name = wire.display_name.clone();
    }
    if has("url", !wire.url.is_empty()) {
        match parse_url(&wire.url) {
            Ok((url, credentials)) => {
                // A password is shown to the camera it was given for, never to whoever has the next address.
                let kept = spec.credentials.take().filter(|_| same_door(&spec.url, &url));
                spec.credentials = credentials.or(kept);
                spec.url = url;
            }
            Err(e) => faults.push(("camera.url".into(), e.message)),
        }
    }
    if has("substream_url", !wire.substream_url.is_empty()) {
        match Some(&wire.substream_url).filter(|url| !url.is_empty()).map(|url| parse_url(url)).transpose() {
            Ok(Some((_, Some(_)))) => faults.push((
                "camera.substream_url".into(),
                "holds a user name or password; give them with url or credentials, which both streams share".into(),
            )),
            Ok(parsed) => spec.substream = parsed.map(|(url, _)| url),
            Err(e) => faults.push(("camera.substream_url".into(), e.message)),
        }
    }
    if has("credentials", wire.credentials.is_some()) {
        spec.credentials = wire
            .credentials
            .as_ref()
            .filter(|c| !c.username.is_empty() || !c.password.is_empty())
            .map(|c| Credentials { username: c.username.clone(), password: Secret::new(c.password.clone()) });
    }
    if has("transport", wire.transport != 0) {
        match v1::Transport::try_from(wire.transport) {
            Ok(v1::Transport::Unspecified | v1::Transport::Auto) => spec.transport = Transport::Auto,
            Ok(v1::Transport::Tcp) => spec.transport = Transport::Tcp,
            Ok(v1::Transport::Udp) => spec.transport = Transport::Udp,
            Err(_) => faults.push(("camera.transport".into(), format!("{} is no transport", wire.transport))),
        }
    }
    if has("tls", wire.tls != 0) {
        match v1::TlsPolicy::try_from(wire.tls) {
            Ok(v1::TlsPolicy::Unspecified | v1::TlsPolicy::Verify) => spec.tls = TlsPolicy::Verify,
            Ok(v1::TlsPolicy::Insecure) => spec.tls = TlsPolicy::Insecure,
            Err(_) => faults.push(("camera.tls".into(), format!("{} is no TLS policy", wire.tls))),
        }
    }
    if has("labels", !wire.labels.is_empty()) {
        spec.labels = wire.labels.clone().into_iter().collect();
    }
    if has("enabled", wire.enabled.is_some()) {
        spec.enabled = wire.enabled.unwrap_or(true);
    }
    let sampling = wire.sampling.unwrap_or_default();
    let defaults = SamplingPolicy::default();
    let or = |value: f32, default: f32| if value == 0.0 { default } else { value };
    let whole = has("sampling", wire.sampling.is_some());
    if whole || has("sampling.idle_fps", sampling.idle_fps != 0.0) {
        spec.sampling.idle_fps = or(sampling.idle_fps, defaults.idle_fps);
    }
    if whole || has("sampling.active_fps", sampling.active_fps != 0.0) {
        spec.sampling.active_fps = or(sampling.active_fps, defaults.active_fps);
    }
    if whole || has("sampling.max_detection_delay", sampling.max_detection_delay.is_some()) {
        match sampling.max_detection_delay.as_ref().map(from_duration) {
            None => spec.sampling.max_detection_delay = defaults.max_detection_delay,
            Some(Some(delay)) => spec.sampling.max_detection_delay = delay,
            Some(None) => {
                faults.push(("camera.sampling.max_detection_delay".into(), "is negative or out of range".into()))
            }
        }
    }
    if whole || has("sampling.decoding", sampling.decoding != 0) {
        match v1::Decoding::try_from(sampling.decoding) {
            Ok(v1::Decoding::Unspecified | v1::Decoding::Auto) => spec.sampling.decoding = Decoding::Auto,
            Ok(v1::Decoding::All) => spec.sampling.decoding = Decoding::All,
            Ok(v1::Decoding::KeyFrames) => spec.sampling.decoding = Decoding::KeyFrames,
            Err(_) => faults.push(("camera.sampling.decoding".into(), format!("{} is no decoding", sampling.decoding))),
        }
    }
    if has("min_face_px", wire.min_face_px != 0) {
        spec.min_face_px = wire.min_face_px;
    }
    if has("regions", !wire.regions.is_empty()) {
        spec.regions = wire
            .regions
            .iter()
            .map(|r| Region { points: r.points.iter().map(|p| Point::new(p.x, p.y)).collect(), exclude: r.exclude })
            .collect();
    }
    if has("watchlists", !wire.watchlists.is_empty()) {
        spec.watchlists = wire.watchlists.clone();
    }
    if has("threshold_override", wire.threshold_override.is_some()) {
        spec.threshold_override = wire.threshold_override;
    }
    if spec.regions.len() > MAX_REGIONS {
        faults.push(("camera.regions".into(), format!("at most {MAX_REGIONS}")));
    }
    let named = |w: &String| (1..=MAX_WATCHLIST_BYTES).contains(&w.len());
    if spec.watchlists.len() > MAX_WATCHLISTS || !spec.watchlists.iter().all(named) {
        let text = format!("at most {MAX_WATCHLISTS}, each of 1 to {MAX_WATCHLIST_BYTES} bytes");
        faults.push(("camera.watchlists".into(), text));
    }
    if let Err(more) = spec.validate() {
        faults.extend(more.into_iter().map(|e| (format!("camera.{}", e.field), e.message)));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Whether two URLs lead to one server: scheme, host and port are the same, a port left out being the scheme's own.
fn same_door(a: &url::Url, b: &url::Url) -> bool {
    // `url` knows neither the ports of RTSP nor that its host names ignore case.
    let port = |url: &url::Url| url.port_or_known_default().unwrap_or(if url.scheme() == "rtsps" { 322 } else { 554 });
    let host = |url: &url::Url| url.host_str().unwrap_or_default().to_ascii_lowercase();
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{camera::CameraStatus, time::now};

    fn wire(url: &str) -> v1::Camera {
        v1::Camera { url: url.into(), ..Default::default() }
    }

    #[test]
    fn all_faults_come_at_once_and_secrets_never_come_back() {
        let mut bad = wire("nonsense");
        bad.min_face_px = 9999;
        bad.transport = 77;
        bad.threshold_override = Some(f32::NAN);
        bad.sampling =
            Some(v1::SamplingPolicy { idle_fps: -1.0, active_fps: f32::NAN, decoding: 9, ..Default::default() });
        let faults = from_wire("c".parse().unwrap(), bad, now()).unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|(f, _)| f.as_str()).collect();
        for field in [
            "camera.url",
            "camera.min_face_px",
            "camera.transport",
            "camera.threshold_override",
            "camera.sampling.idle_fps",
            "camera.sampling.decoding",
        ] {
            assert!(fields.contains(&field), "{field} is missing in {fields:?}");
        }
        let spec = from_wire("c".parse().unwrap(), wire("rtsp://joe:pw-4711@h/x"), now()).unwrap();
        assert_eq!(spec.credentials.as_ref().unwrap().password.expose(), "pw-4711");
        let status = CameraStatus::new(CameraState::Connecting, now());
        let view = CameraView { spec, status, main: None, detection_latency: None, active_tracks: 0, faces_found: 0 };
        assert!(!format!("{:?}", to_wire(&view)).contains("pw-4711"));
    }

    #[test]
    fn lists_have_an_end() {
        let corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)].map(|(x, y)| v1::Point { x, y });
        let region = v1::Region { points: corners.to_vec(), exclude: false };
        let most = v1::Camera {
            regions: vec![region.clone(); MAX_REGIONS],
            watchlists: vec!["w".repeat(MAX_WATCHLIST_BYTES); MAX_WATCHLISTS],
            ..wire("rtsp://h/x")
        };
        from_wire("c".parse().unwrap(), most, now()).unwrap();
        let lists = [vec!["w".into(); MAX_WATCHLISTS + 1], vec!["w".repeat(64)], vec![String::new()]];
        for watchlists in lists {
            let bad = v1::Camera { watchlists, regions: vec![region.clone(); MAX_REGIONS + 1], ..wire("rtsp://h/x") };
            let faults = from_wire("c".parse().unwrap(), bad, now()).unwrap_err();
            let fields: Vec<&str> = faults.iter().map(|(f, _)| f.as_str()).collect();
            assert_eq!(fields, ["camera.regions", "camera.watchlists"]);
        }
        let mut spec = from_wire("c".parse().unwrap(), wire("rtsp://h/x"), now()).unwrap();
        let faults = update(&mut spec, &wire("rtsp://h/x"), &["x".repeat(100_000)]).unwrap_err();
        assert!(faults[0].1.len() < 500, "a client's path comes back in full");
    }

    #[test]
    fn masks_change_what_they_name_and_nothing_else() {
        let mut spec = from_wire("c".parse().unwrap(), wire("rtsp://joe:pw@h/x"), now()).unwrap();
        let change = v1::Camera {
            display_name: "ignored".into(),
            sampling: Some(v1::SamplingPolicy { idle_fps: 2.0, active_fps: 9.0, ..Default::default() }),
            ..Default::default()
        };
        update(&mut spec, &change, &["sampling.idle_fps".into()]).unwrap();
        assert_eq!((spec.sampling.idle_fps, spec.sampling.active_fps), (2.0, SamplingPolicy::default().active_fps));
        assert_eq!(spec.display_name, "c");
        update(&mut spec, &wire("rtsp://h/y"), &["url".into()]).unwrap();
        assert!(spec.credentials.is_some(), "a new path keeps the password");
        update(&mut spec, &wire("rtsp://H:554/z"), &["url".into()]).unwrap();
        assert!(spec.credentials.is_some(), "the same address in other words keeps the password");
        for elsewhere in ["rtsp://other/y", "rtsp://h:8554/y", "rtsps://h/y"] {
            let mut moved = spec.clone();
            update(&mut moved, &wire(elsewhere), &[]).unwrap();
            assert!(moved.credentials.is_none(), "{elsewhere} gets the password of another camera");
        }
        let mut moved = spec.clone();
        update(&mut moved, &wire("rtsp://ann:pw2@other/y"), &["url".into()]).unwrap();
        assert_eq!(moved.credentials.unwrap().username, "ann");
        update(&mut spec, &v1::Camera::default(), &["credentials".into()]).unwrap();
        assert!(spec.credentials.is_none());
        assert!(update(&mut spec, &change, &["status".into()]).is_err());
    }
}
