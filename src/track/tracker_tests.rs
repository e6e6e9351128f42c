use proptest::prelude::*;

use super::*;
use crate::frame::Point;

pub(crate) const HD: (u32, u32) = (1280, 720);

pub(crate) fn ms(t: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + t).unwrap()
}

pub(crate) fn face(cx: f32, cy: f32, size: f32, score: f32) -> Detection {
    let h = size / 2.0;
    let p = Point::new(cx, cy);
    Detection { bbox: BBox::new(cx - h, cy - h, cx + h, cy + h), score, landmarks: [p; 5] }
}

fn tracker() -> Tracker {
    Tracker::new(TrackSettings::default())
}

#[test]
fn a_single_false_detection_gives_no_track() {
    let mut t = tracker();
    assert_eq!(t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.8)]), StepReport::default());
    for i in 1..20 {
        assert_eq!(t.step(ms(i * 150), HD, &[]), StepReport::default());
    }
    assert_eq!(t.live.len(), 0);
}

#[test]
fn a_face_found_once_is_followed_for_a_moment_though_it_is_no_track_yet() {
    let mut t = tracker();
    assert!(!t.is_following());
    t.step(ms(0), (1920, 1080), &[face(500.0, 300.0, 80.0, 0.9)]);
    assert_eq!((t.active(), t.is_following()), (0, true));
    t.step(ms(1500), (1920, 1080), &[]);
    assert!(!t.is_following());
}

#[test]
fn two_hits_or_a_very_high_score_start_a_track() {
    let mut t = tracker();
    t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.8)]);
    let second = t.step(ms(150), HD, &[face(105.0, 100.0, 50.0, 0.8)]);
    assert_eq!(second.started.len(), 1);
    assert_eq!(second.matched, [(second.started[0].clone(), 0)]);
    let mut t = tracker();
    assert_eq!(t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.len(), 1);
}

#[test]
fn a_track_ends_once_after_its_face_is_gone() {
    let mut t = tracker();
    let id = t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.remove(0);
    t.step(ms(200), HD, &[face(100.0, 100.0, 50.0, 0.7)]);
    let mut ended = Vec::new();
    for i in 2..30 {
        ended.extend(t.step(ms(i * 200), HD, &[]).ended);
    }
    assert_eq!(ended, [EndedTrack { id, first_seen: ms(0), last_seen: ms(200), hits: 2 }]);
    assert_eq!(t.active(), 0);
}

#[test]
fn doubtful_detections_continue_tracks_but_begin_none() {
    let mut t = tracker();
    let id = t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.remove(0);
    for i in 1..5 {
        let report = t.step(ms(i * 150), HD, &[face(100.0, 100.0, 50.0, 0.4), face(600.0, 300.0, 50.0, 0.5)]);
        assert_eq!(report.matched, [(id.clone(), 0)]);
        assert!(report.started.is_empty());
    }
}

#[test]
fn a_pause_without_frames_is_survived_but_not_a_long_one() {
    let mut t = tracker();
    let id = t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.remove(0);
    assert_eq!(t.step(ms(2500), HD, &[face(110.0, 100.0, 50.0, 0.99)]).matched, [(id.clone(), 0)]);
    let late = t.step(ms(6000), HD, &[face(110.0, 100.0, 50.0, 0.99)]);
    assert_eq!(late.ended.len(), 1);
    assert_ne!(late.started, [id]);
}

#[test]
fn time_going_back_neither_panics_nor_ends_tracks() {
    let mut t = tracker();
    let id = t.step(ms(100_000), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.remove(0);
    let report = t.step(ms(0), HD, &[face(104.0, 100.0, 50.0, 0.99)]);
    assert_eq!(report.matched, [(id.clone(), 0)]);
    t.step(ms(150), HD, &[face(104.0, 100.0, 50.0, 0.99)]);
    let ended = t.finish().remove(0);
    assert_eq!((ended.id, ended.hits), (id, 3));
    assert!(ended.last_seen >= ended.first_seen);
}

#[test]
fn values_that_are_not_finite_or_empty_are_ignored() {
    let mut t = tracker();
    let bad = [face(f32::NAN, 1.0, 10.0, 0.99), face(10.0, 10.0, 0.0, 0.99), face(1.0, 1.0, 10.0, f32::NAN)];
    assert_eq!(t.step(ms(0), HD, &bad), StepReport::default());
    assert_eq!(t.step(ms(0), (0, 0), &bad), StepReport::default());
}

#[test]
fn a_face_found_twice_is_one_track() {
    let mut t = tracker();
    let twice = [face(100.0, 100.0, 50.0, 0.99), face(104.0, 102.0, 52.0, 0.985)];
    assert_eq!(t.step(ms(0), HD, &twice).started.len(), 1);
    assert_eq!(t.step(ms(150), HD, &twice).started.len(), 0);
}

#[test]
fn a_change_of_resolution_keeps_the_track() {
    let mut t = tracker();
    let id = t.step(ms(0), HD, &[face(1000.0, 600.0, 80.0, 0.99)]).started.remove(0);
    let report = t.step(ms(150), (640, 360), &[face(500.0, 300.0, 40.0, 0.99)]);
    assert_eq!(report.matched, [(id, 0)]);
}

#[test]
fn an_ended_track_can_be_taken_up_again() {
    let mut t = tracker();
    let old = t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.remove(0);
    for i in 1..15 {
        t.step(ms(i * 150), HD, &[]);
    }
    let new = t.step(ms(2300), HD, &[face(900.0, 300.0, 50.0, 0.99)]).started.remove(0);
    assert!(t.continue_as(&old, &new));
    assert!(!t.continue_as(&old, &new), "an ended track is taken up once");
    let ended = t.finish().remove(0);
    assert_eq!(ended, EndedTrack { id: old, first_seen: ms(0), last_seen: ms(2300), hits: 2 });
}

#[test]
fn tracks_that_took_each_others_face_change_places() {
    let mut t = tracker();
    let both = [face(100.0, 100.0, 50.0, 0.99), face(500.0, 100.0, 50.0, 0.99)];
    let started = t.step(ms(0), HD, &both).started;
    let (a, b) = (started[0].clone(), started[1].clone());
    t.step(ms(150), HD, &both[..1]);
    assert!(t.exchange(&a, &b) && !t.exchange(&a, &TrackId::generate()));
    let matched = t.step(ms(300), HD, &both).matched;
    assert_eq!(matched, [(b.clone(), 0), (a.clone(), 1)]);
    let hits: Vec<(TrackId, u32)> = t.finish().into_iter().map(|e| (e.id, e.hits)).collect();
    assert_eq!(hits, [(a, 3), (b, 2)], "what is known of an appearance stays with it");
}

#[test]
fn a_track_that_went_over_to_another_face_is_cut_in_two() {
    let mut t = tracker();
    let old = t.step(ms(0), HD, &[face(100.0, 100.0, 50.0, 0.99)]).started.remove(0);
    t.step(ms(150), HD, &[face(100.0, 100.0, 50.0, 0.99)]);
    let (ended, new) = t.split(&old).unwrap();
    assert_eq!(ended, EndedTrack { id: old.clone(), first_seen: ms(0), last_seen: ms(150), hits: 1 });
    assert!(t.split(&old).is_none());
    assert_eq!(t.step(ms(300), HD, &[face(100.0, 100.0, 50.0, 0.99)]).matched, [(new, 0)]);
}

#[test]
fn settings_refuse_unknown_names() {
    assert!(serde_json::from_str::<TrackSettings>(r#"{"max_lost_ms": 900}"#).is_ok());
    assert!(serde_json::from_str::<TrackSettings>(r#"{"max_lots_ms": 900}"#).is_err());
}

type Scene = Vec<(i64, Vec<(f32, f32, f32, f32)>)>;

fn scenes() -> impl Strategy<Value = Scene> {
    let detection = (0f32..1280.0, 0f32..720.0, 20f32..200.0, 0.2f32..1.0);
    proptest::collection::vec((-100i64..700, proptest::collection::vec(detection, 0..6)), 1..25)
}

fn frames(scene: &Scene) -> Vec<(Timestamp, Vec<Detection>)> {
    let mut now = 0;
    let step = |(dt, faces): &(i64, Vec<(f32, f32, f32, f32)>)| {
        now += dt;
        (ms(now), faces.iter().map(|&(x, y, size, score)| face(x, y, size, score)).collect())
    };
    scene.iter().map(step).collect()
}

proptest! {
    #[test]
    fn a_detection_has_at_most_one_track_and_ids_are_never_reused(scene in scenes()) {
        let mut t = tracker();
        let (mut ever, mut gone) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for (at, detections) in frames(&scene) {
            let report = t.step(at, HD, &detections);
            let mut indices: Vec<usize> = report.matched.iter().map(|m| m.1).collect();
            let mut ids: Vec<&TrackId> = report.matched.iter().map(|m| &m.0).collect();
            indices.sort_unstable();
            indices.dedup();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(indices.len(), report.matched.len());
            prop_assert_eq!(ids.len(), report.matched.len());
            for id in &report.started {
                prop_assert!(ever.insert(id.clone()), "an id was given twice");
            }
            for (id, _) in &report.matched {
                prop_assert!(ever.contains(id) && !gone.contains(id));
            }
            for e in report.ended {
                prop_assert!(e.first_seen <= e.last_seen && ever.contains(&e.id));
                prop_assert!(gone.insert(e.id), "a track ended twice");
            }
        }
        gone.extend(t.finish().into_iter().map(|e| e.id));
        prop_assert_eq!(ever, gone);
    }

    #[test]
    fn the_order_of_detections_does_not_matter(scene in scenes(), turn in 1usize..5) {
        let (mut a, mut b) = (tracker(), tracker());
        // Name tracks by the frame and the original index of their first match: independent of ids.
        let mut names = [std::collections::BTreeMap::new(), std::collections::BTreeMap::new()];
        for (n, (at, detections)) in frames(&scene).into_iter().enumerate() {
            let len = detections.len().max(1);
            let mut turned = detections.clone();
            turned.rotate_left(turn % len);
            let straight = a.step(at, HD, &detections).matched;
            let other: Vec<_> =
                b.step(at, HD, &turned).matched.into_iter().map(|(id, i)| (id, (i + turn % len) % len)).collect();
            let mut seen = [Vec::new(), Vec::new()];
            for (side, matched) in [straight, other].into_iter().enumerate() {
                for (id, i) in matched {
                    seen[side].push((*names[side].entry(id).or_insert((n, i)), i));
                }
                seen[side].sort_unstable();
            }
            prop_assert_eq!(&seen[0], &seen[1]);
        }
    }
}
