//! Synthetic scenes: how often does a person change its track? Beside a tracker that only compares overlap.

use super::{
    tracker::tests::{HD, face, ms},
    *,
};
use crate::{face::Detection, frame::BBox};

/// A person's face at a time in milliseconds; `None` while it is not visible.
type Person = fn(i64) -> Option<(f32, f32, f32)>;

struct Figures {
    tracks: usize,
    switches: usize,
}

/// What a tracker says for a frame: a number of the track for each detection that has one.
type Observer<'a> = Box<dyn FnMut(i64, &[Detection]) -> Vec<(String, usize)> + 'a>;

/// Small deterministic noise, -1 to 1.
fn noise(seed: i64) -> f32 {
    let mut x = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 29;
    (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

fn play(times: &[i64], people: &[Person], observe: &mut Observer<'_>) -> Figures {
    let mut last: Vec<Option<String>> = vec![None; people.len()];
    let (mut tracks, mut switches) = (std::collections::BTreeSet::new(), 0);
    for &t in times {
        let (mut detections, mut who) = (Vec::new(), Vec::new());
        for (n, person) in people.iter().enumerate() {
            let Some((x, y, size)) = person(t) else { continue };
            let jitter = |k: i64| size * 0.03 * noise(t * 31 + n as i64 * 7 + k);
            let found = face(x + jitter(1), y + jitter(2), size + jitter(3), 0.99);
            // The detector's suppression keeps one of two faces that cover each other.
            if detections.iter().all(|d: &Detection| d.bbox.iou(&found.bbox) < 0.4) {
                detections.push(found);
                who.push(n);
            }
        }
        for (track, i) in observe(t, &detections) {
            tracks.insert(track.clone());
            let before = last[who[i]].replace(track.clone());
            switches += usize::from(before.is_some_and(|b| b != track));
        }
    }
    Figures { tracks: tracks.len(), switches }
}

fn ours<'a>() -> Observer<'a> {
    let mut tracker = Tracker::new(TrackSettings::default());
    Box::new(move |t, detections| {
        let report = tracker.step(ms(t), HD, detections);
        report.matched.into_iter().map(|(id, i)| (id.to_string(), i)).collect()
    })
}

/// The plain rival: greedy by overlap with the last box, IoU at least 0.3, forgets after 1.5 s.
fn overlap<'a>() -> Observer<'a> {
    let (mut tracks, mut next): (Vec<(usize, BBox, i64)>, usize) = (Vec::new(), 0);
    Box::new(move |t, detections| {
        tracks.retain(|track| t - track.2 <= 1500);
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (k, track) in tracks.iter().enumerate() {
            pairs.extend(detections.iter().enumerate().map(|(i, d)| (track.1.iou(&d.bbox), k, i)));
        }
        pairs.retain(|p| p.0 >= 0.3);
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut owner = vec![None; detections.len()];
        let mut used = vec![false; tracks.len()];
        for (_, k, i) in pairs {
            if owner[i].is_none() && !used[k] {
                used[k] = true;
                tracks[k] = (tracks[k].0, detections[i].bbox, t);
                owner[i] = Some(tracks[k].0);
            }
        }
        for (i, d) in detections.iter().enumerate().filter(|(i, _)| owner[*i].is_none()).collect::<Vec<_>>() {
            tracks.push((next, d.bbox, t));
            owner[i] = Some(next);
            next += 1;
        }
        owner.into_iter().enumerate().filter_map(|(i, o)| Some((o?.to_string(), i))).collect()
    })
}

/// Runs both; prints the figures; returns ours.
fn compare(name: &str, times: &[i64], people: &[Person]) -> Figures {
    let (a, b) = (play(times, people, &mut ours()), play(times, people, &mut overlap()));
    println!(
        "{name:<42} {} people | ours: {} tracks, {} switches | overlap only: {} tracks, {} switches",
        people.len(),
        a.tracks,
        a.switches,
        b.tracks,
        b.switches
    );
    a
}

fn every(step_ms: i64, until_ms: i64) -> Vec<i64> {
    (0..until_ms / step_ms).map(|i| i * step_ms).collect()
}

fn walk(t: i64, from: f32, speed: f32) -> f32 {
    from + speed * t as f32 / 1000.0
}

#[test]
fn a_fast_walker_moves_more_than_a_face_between_frames() {
    let people: [Person; 1] = [|t| Some((walk(t, 60.0, 340.0), 300.0, 60.0))];
    let f = compare("fast walker, 1.1 faces a frame, 5 fps", &every(200, 3400), &people);
    assert_eq!((f.tracks, f.switches), (1, 0));
}

#[test]
fn crossing_faces_keep_their_tracks() {
    let people: [Person; 2] =
        [|t| Some((walk(t, 200.0, 180.0), 300.0, 80.0)), |t| Some((walk(t, 1000.0, -180.0), 330.0, 70.0))];
    for step in [125, 200] {
        let f = compare(&format!("two faces cross, every {step} ms"), &every(step, 4400), &people);
        assert_eq!((f.tracks, f.switches), (2, 0));
    }
}

#[test]
fn half_a_second_behind_a_pillar() {
    let people: [Person; 2] = [
        |t| (!(1500..2000).contains(&t)).then(|| (walk(t, 200.0, 160.0), 300.0, 70.0)),
        |_| Some((900.0, 300.0, 70.0)),
    ];
    let f = compare("0.5 s occlusion while walking", &every(150, 4000), &people);
    assert_eq!((f.tracks, f.switches), (2, 0));
}

#[test]
fn the_sample_rate_drops_from_8_to_2_frames_a_second() {
    let people: [Person; 2] =
        [|t| Some((walk(t, 100.0, 150.0), 250.0, 80.0)), |t| Some((walk(t, 1100.0, -100.0), 500.0, 90.0))];
    let times: Vec<i64> = every(125, 2500).into_iter().chain((5..14).map(|i| i * 500)).collect();
    let f = compare("8 fps, then 2 fps", &times, &people);
    assert_eq!((f.tracks, f.switches), (2, 0));
}

#[test]
fn dropped_frames() {
    let people: [Person; 3] = [
        |t| Some((walk(t, 100.0, 140.0), 200.0, 70.0)),
        |t| Some((walk(t, 100.0, 120.0), 340.0, 70.0)),
        |t| Some((walk(t, 1100.0, -130.0), 520.0, 70.0)),
    ];
    let times: Vec<i64> = every(125, 6000).into_iter().filter(|t| noise(*t) > -0.2).collect();
    let f = compare("40 % of frames dropped", &times, &people);
    assert_eq!((f.tracks, f.switches), (3, 0));
}

#[test]
fn two_people_enter_one_after_the_other_through_one_door() {
    let people: [Person; 2] = [
        |t| Some((walk(t, 80.0, 200.0), 300.0, 70.0)),
        |t| (t >= 800).then(|| (walk(t - 800, 80.0, 200.0), 310.0, 75.0)),
    ];
    let f = compare("two enter through one door, 0.8 s apart", &every(150, 4500), &people);
    assert_eq!((f.tracks, f.switches), (2, 0));
}

#[test]
fn a_detector_that_misses_one_face_in_three() {
    let people: [Person; 2] = [
        |t| (noise(t) > -0.33).then(|| (walk(t, 100.0, 150.0), 300.0, 60.0)),
        |t| (noise(t + 1) > -0.33).then(|| (walk(t, 250.0, 150.0), 300.0, 60.0)),
    ];
    let f = compare("every third face missed, two in a row", &every(150, 6000), &people);
    assert_eq!((f.tracks, f.switches), (2, 0));
}
