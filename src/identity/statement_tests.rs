use super::*;
use crate::{
    face::Distance,
    identity::{
        Candidates, PersonHit, Spread, Thresholds, Why, WhyCode,
        decision::{
            decide,
            tests::{hit, thresholds},
        },
    },
    inference::manifest::Calibration,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn look(ms: i64, degrees: f32) -> Look {
    let (y, x) = degrees.to_radians().sin_cos();
    let values = [x, y].as_slice().into();
    let embedding = Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values };
    Look { at: at(ms), embedding, quality: 0.5 }
}

/// A decision at threshold 0.42, margin 0.03.
fn found(hits: &[(&str, f32)]) -> Decision {
    let hits: Vec<PersonHit> = hits.iter().map(|(p, s)| hit(p, *s)).collect();
    decide(&Candidates::of(hits), &thresholds())
}

fn decider() -> TrackDecider {
    TrackDecider::new(DeciderSettings::default(), 0.42)
}

/// A look at `ms` and the gallery's answer to it.
fn see(d: &mut TrackDecider, ms: i64, hits: &[(&str, f32)]) -> Option<Statement> {
    d.look(look(ms, 0.0));
    d.assess(at(ms), d.looks(), found(hits))
}

fn name(s: &Statement) -> Option<&str> {
    s.decision.known().map(|h| h.person.as_str())
}

#[test]
fn two_looks_that_agree_name_a_person_once() {
    let mut d = decider();
    assert_eq!(see(&mut d, 0, &[("anna", 0.45)]), None);
    let said = see(&mut d, 150, &[("anna", 0.46)]).unwrap();
    assert_eq!((name(&said), said.looks, said.correction), (Some("anna"), 2, false));
    assert_eq!(see(&mut d, 300, &[("anna", 0.6)]), None);
    assert_eq!(d.tick(at(9000)), None);
    assert_eq!(d.end(None), None);
}

#[test]
fn one_look_far_above_the_threshold_is_enough() {
    assert_eq!(see(&mut decider(), 0, &[("anna", 0.51)]).as_ref().and_then(name), Some("anna"));
}

#[test]
fn one_look_just_above_is_not_and_says_so() {
    let mut d = decider();
    see(&mut d, 0, &[("anna", 0.45)]);
    assert_eq!(d.tick(at(2500)), None, "near: more looks may come");
    let said = d.tick(at(4000)).unwrap();
    let reason = "too few looks: 1 at similarity 0.45, needs 2 that agree or one of 0.50";
    assert_eq!(said.decision.reason(), Some(reason));
}

#[test]
fn strangers_are_unknown_after_three_looks_or_two_seconds() {
    let mut d = decider();
    assert_eq!(see(&mut d, 0, &[("anna", 0.1)]), None);
    assert_eq!(see(&mut d, 150, &[("anna", 0.1)]), None);
    let said = see(&mut d, 300, &[("anna", 0.1)]).unwrap();
    assert_eq!(said.decision.reason(), Some("below threshold by 0.32: best candidate 0.10, needs 0.42"));
    let mut d = decider();
    see(&mut d, 0, &[]);
    assert_eq!(d.tick(at(1999)), None);
    assert_eq!(d.tick(at(2000)).unwrap().decision.reason(), Some("there is nobody to compare with"));
    assert_eq!(d.tick(at(2100)), None);
}

#[test]
fn near_the_threshold_it_waits_but_not_for_ever() {
    let mut d = decider();
    for i in 0..5 {
        assert_eq!(see(&mut d, i * 500, &[("anna", 0.40)]), None);
    }
    assert_eq!(d.tick(at(3999)), None);
    assert!(d.tick(at(4000)).unwrap().decision.reason().unwrap().starts_with("below threshold by 0.02"));
}

#[test]
fn an_unknown_becomes_known_on_stronger_evidence_only() {
    let mut d = decider();
    see(&mut d, 0, &[]);
    assert!(d.tick(at(2000)).is_some());
    assert!(d.is_open());
    assert_eq!(see(&mut d, 2100, &[("anna", 0.43)]), None, "just above is not stronger");
    let said = see(&mut d, 2300, &[("anna", 0.47)]).unwrap();
    assert_eq!((name(&said), said.correction), (Some("anna"), true));
    assert!(!d.is_open());
}

#[test]
fn a_person_becomes_another_only_clearly_and_never_unknown() {
    let mut d = decider();
    see(&mut d, 0, &[("anna", 0.6)]).unwrap();
    assert_eq!(see(&mut d, 150, &[("berta", 0.6), ("anna", 0.3)]), None, "two looks are too few");
    assert_eq!(see(&mut d, 300, &[("berta", 0.6), ("anna", 0.56)]), None, "not clearly");
    assert_eq!(see(&mut d, 450, &[]), None, "not to unknown");
    let said = see(&mut d, 600, &[("berta", 0.6), ("anna", 0.5)]).unwrap();
    assert_eq!((name(&said), said.correction), (Some("berta"), true));
    // And no endless to and fro.
    assert!(see(&mut d, 700, &[("anna", 0.6)]).is_some());
    assert_eq!(see(&mut d, 800, &[("berta", 0.6)]), None);
}

#[test]
fn taking_a_name_back_is_a_choice() {
    let mut d = TrackDecider::new(DeciderSettings { withdraw: true, ..DeciderSettings::default() }, 0.42);
    see(&mut d, 0, &[("anna", 0.6)]).unwrap();
    see(&mut d, 150, &[("anna", 0.2)]);
    let said = see(&mut d, 300, &[("anna", 0.2)]).unwrap();
    assert!(said.correction && name(&said).is_none());
}

#[test]
fn a_track_without_usable_looks_ends_unknown_with_the_reason() {
    let mut d = decider();
    assert_eq!(d.tick(at(60_000)), None);
    let said = d.end(Some(Why::new(WhyCode::TooSmall, "face too small: 31 px, needs 40", 31.0, 40.0))).unwrap();
    assert_eq!(said.decision.reason(), Some("face too small: 31 px, needs 40"));
    assert_eq!((said.looks, said.decision.threshold), (0, 0.42));
    assert_eq!(d.end(None), None);
    assert!(decider().end(None).unwrap().decision.reason().is_some());
}

#[test]
fn a_short_track_still_gets_its_statement_at_the_end() {
    let mut d = decider();
    see(&mut d, 0, &[("anna", 0.1)]);
    assert_eq!(d.end(None).unwrap().looks, 1);
}

#[test]
fn a_switch_of_faces_leaves_what_was_said_and_begins_anew() {
    let mut d = decider();
    see(&mut d, 0, &[("anna", 0.6)]).unwrap();
    see(&mut d, 150, &[("anna", 0.6)]);
    let taken: Vec<Taken> = [300, 450, 600].map(|ms| d.look(look(ms, 120.0))).into();
    assert_eq!(taken, [Taken::Doubted, Taken::Doubted, Taken::Switched]);
    let mut second = d.split();
    assert_eq!((second.said(), second.looks(), d.looks()), (None, 3, 2));
    let said = second.assess(at(700), 3, found(&[])).unwrap();
    assert_eq!((said.decision.known(), said.correction), (None, false));
    assert_eq!(d.end(None), None, "the first face was told already");
}

#[test]
fn a_switch_before_anything_was_said_still_tells_the_first_face() {
    let mut d = decider();
    see(&mut d, 0, &[("anna", 0.44)]);
    see(&mut d, 20, &[]);
    for ms in [300, 450, 600] {
        d.look(look(ms, 120.0));
    }
    let second = d.split();
    assert_eq!((second.looks(), d.looks()), (3, 2));
    assert!(d.end(None).is_some());
}

#[test]
fn a_clock_that_runs_back_says_nothing_early() {
    let mut d = decider();
    see(&mut d, 10_000, &[("anna", 0.1)]);
    assert_eq!(d.tick(at(0)), None);
}

/// Deterministic normal numbers (sum of twelve uniform ones).
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
    /// A direction in 64 dimensions, expected length `length`.
    fn vector(&mut self, length: f32) -> Vec<f32> {
        (0..64).map(|_| self.normal() * length / 8.0).collect()
    }
}

fn unit(values: Vec<f32>) -> Embedding {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    let values = values.into_iter().map(|v| v / norm).collect();
    Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values }
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

/// Share of tracks with `looks` looks that are named: by the decider, and by the rule "any look above the threshold".
/// `who` draws the true face; looks differ by noise, part of it shared by the whole track.
fn named(gallery: &[Embedding], looks: i64, tracks: usize, mut who: impl FnMut(&mut Dice) -> Vec<f32>) -> (f32, f32) {
    let calibration = Calibration { midpoint: 0.4, slope: 20.0 };
    let t = Thresholds::of_model(0.36, 0.02, calibration);
    let mut dice = Dice(7);
    let (mut fused, mut any) = (0, 0);
    for _ in 0..tracks {
        let face = who(&mut dice);
        let here = sum(&face, &dice.vector(0.4));
        let ask = |probe: &Embedding, spread: Spread| {
            let mut hits: Vec<PersonHit> =
                gallery.iter().enumerate().map(|(i, g)| hit(&format!("p{i}"), g.similarity(probe).unwrap())).collect();
            hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            decide(&Candidates { spread, ..Candidates::of(hits) }, &t)
        };
        let mut decider = TrackDecider::new(DeciderSettings::default(), t.similarity);
        let mut once = false;
        for i in 0..looks {
            let embedding = unit(sum(&here, &dice.vector(0.6)));
            once |= ask(&embedding, Spread::default()).known().is_some();
            if matches!(decider.look(Look { at: at(i * 150), embedding, quality: 0.5 }), Taken::Agrees) {
                let decision = ask(&decider.template().unwrap(), decider.evidence().spread());
                decider.assess(at(i * 150), decider.looks(), decision);
            }
        }
        decider.end(None);
        fused += usize::from(decider.said().is_some_and(|s| s.decision.known().is_some()));
        any += usize::from(once);
    }
    (fused as f32 / tracks as f32, any as f32 / tracks as f32)
}

#[test]
fn strangers_who_stay_long_are_not_named_more_often() {
    let mut dice = Dice(1);
    let people: Vec<Vec<f32>> = (0..25).map(|_| dice.vector(1.0)).collect();
    let gallery: Vec<Embedding> = people.iter().cloned().map(unit).collect();
    let mut rates = Vec::new();
    for looks in [3, 8, 32] {
        let (fused, any) = named(&gallery, looks, 1500, |dice| dice.vector(1.0));
        let (right, _) = named(&gallery, looks, 200, |dice| people[(dice.uniform() * 25.0) as usize % 25].clone());
        println!(
            "{looks:>2} looks: strangers named {:.1} % (any look: {:.1} %), enrolled named {:.1} %",
            fused * 100.0,
            any * 100.0,
            right * 100.0
        );
        assert!(right > 0.99, "{looks} looks: enrolled people named {right}");
        rates.push((fused, any));
    }
    let (short, long) = (rates[0], rates[2]);
    assert!(long.0 <= short.0 * 1.3 + 0.005, "dwell time must not name strangers: {rates:?}");
    assert!(long.1 > short.1 * 1.5, "the scene shows what the fused template avoids: {rates:?}");
}
