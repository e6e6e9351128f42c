use proptest::prelude::*;

use super::*;

pub(crate) fn thresholds() -> Thresholds {
    let calibration = Calibration { midpoint: 0.4, slope: 20.0 };
    Thresholds::of_model(0.42, 0.03, calibration)
}

pub(crate) fn hit(person: &str, similarity: f32) -> PersonHit {
    PersonHit {
        person: person.parse().unwrap(),
        face: format!("{person}-1").parse().unwrap(),
        similarity,
        more: Vec::new(),
    }
}

fn decided(hits: &[PersonHit]) -> Decision {
    decide(&Candidates::of(hits.to_vec()), &thresholds())
}

fn ruled_out(hits: &[PersonHit], negatives: &Negatives) -> Decision {
    decide(&Candidates { negatives: negatives.clone(), ..Candidates::of(hits.to_vec()) }, &thresholds())
}

fn together(faces: &[Vec<PersonHit>]) -> Vec<Decision> {
    assign(&faces.iter().cloned().map(Candidates::of).collect::<Vec<_>>(), &thresholds())
}

fn not(person: &str, similarity: f32) -> Negatives {
    [(person.parse().unwrap(), similarity)].into()
}

#[test]
fn nobody_is_sure_between_two_who_are_as_near() {
    let of = |second: f32| decided(&[hit("anna", 0.6), hit("berta", second), hit("carla", second)]).confidence;
    // Odds of 55 to one for each of them, with slope 20 and midpoint 0.4; all the same beforehand, and nobody as one more.
    assert!((of(0.6) - 54.6 / (3.0 * 54.6 + 1.0)).abs() < 1e-3);
    assert!(of(0.56) > of(0.6) && of(0.3) > 0.97);
    let elsewhere = together(&[vec![hit("anna", 0.6), hit("berta", 0.55)], vec![hit("berta", 0.9)]]);
    let alone = decided(&[hit("anna", 0.6)]).confidence;
    assert_eq!(elsewhere[0].confidence, alone, "who is another face of the picture is not this one");
}

#[test]
fn names_a_person_that_is_near_and_leads() {
    let d = decided(&[hit("anna", 0.55), hit("berta", 0.3)]);
    assert_eq!(d.known(), Some(&hit("anna", 0.55)));
    assert!((d.margin - 0.25).abs() < 1e-6 && d.threshold == 0.42 && d.confidence > 0.9, "{d:?}");
}

#[test]
fn unknown_says_why_with_figures_and_without_names() {
    let d = decided(&[hit("anna", 0.39)]);
    assert_eq!(d.reason(), Some("below threshold by 0.03: best candidate 0.39, needs 0.42"));
    let d = decided(&[hit("anna", 0.4199)]);
    assert_eq!(d.reason(), Some("below threshold by less than 0.01: best candidate 0.42, needs 0.42"));
    let d = decided(&[hit("anna", 0.46), hit("berta", 0.45)]);
    assert_eq!(d.reason(), Some("second candidate too close: 0.46 and 0.45, lead 0.01, needs 0.03"));
}

#[test]
fn an_empty_gallery_knows_nobody() {
    let d = decided(&[]);
    assert_eq!((d.similarity, d.margin, d.confidence), (0.0, 0.0, 0.0));
    assert_eq!(d.reason(), Some("there is nobody to compare with"));
    assert_eq!(decided(&[hit("anna", f32::NAN)]), d);
}

#[test]
fn without_a_second_the_margin_counts_from_minus_one() {
    assert!((decided(&[hit("anna", 0.5)]).margin - 1.5).abs() < 1e-6);
}

#[test]
fn a_nearer_negative_exemplar_rules_a_person_out() {
    let hits = [hit("anna", 0.5), hit("berta", 0.45)];
    let d = ruled_out(&hits[..1], &not("anna", 0.7));
    assert_eq!(
        d.reason(),
        Some("the best candidate (0.50) was ruled out before: a face marked as not that person is nearer (0.70)")
    );
    assert_eq!(ruled_out(&hits[..1], &not("anna", 0.4)).known(), Some(&hits[0]), "further away");
    let d = ruled_out(&hits, &not("anna", 0.7));
    assert_eq!(d.known(), Some(&hits[1]), "the others are judged without her");
}

#[test]
fn a_person_is_one_face_of_a_picture_only() {
    let faces = [vec![hit("anna", 0.5)], vec![hit("anna", 0.7), hit("berta", 0.2)]];
    let d = together(&faces);
    assert_eq!(d[1].known().map(|h| h.person.as_str()), Some("anna"));
    assert_eq!(d[0].reason(), Some("the best candidate (0.50) is another face of this picture"));
}

#[test]
fn look_alikes_in_one_picture_resolve_each_other() {
    // Alone, both would fail the margin.
    let faces = [vec![hit("anna", 0.60), hit("berta", 0.59)], vec![hit("berta", 0.62), hit("anna", 0.61)]];
    assert!(faces.iter().all(|f| decided(f).known().is_none()));
    let named: Vec<_> = together(&faces).iter().map(|d| d.known().map(|h| h.person.to_string())).collect();
    assert_eq!(named, [Some("anna".into()), Some("berta".into())]);
}

#[test]
fn nobody_in_the_picture_and_nobody_known() {
    assert!(together(&[]).is_empty());
    assert_eq!(together(&[vec![]]), [decided(&[])]);
}

fn id(person: &str) -> PersonId {
    person.parse().unwrap()
}

fn chances(of: &[(&str, f32)]) -> Option<BTreeMap<PersonId, f32>> {
    Some(of.iter().map(|(p, c)| (id(p), *c)).collect())
}

#[test]
fn why_nobody_was_named_is_data_with_the_figures() {
    let why = |d: Decision| {
        let why = d.why().cloned().unwrap();
        (why.code, (why.value * 100.0).round() as i32, (why.needed * 100.0).round() as i32)
    };
    assert_eq!(why(decided(&[])), (WhyCode::EmptyGallery, 0, 0));
    assert_eq!(why(decided(&[hit("anna", 0.39)])), (WhyCode::BelowThreshold, 39, 42));
    assert_eq!(why(decided(&[hit("anna", 0.46), hit("berta", 0.45)])), (WhyCode::RunnerUpTooClose, 1, 3));
    assert_eq!(why(ruled_out(&[hit("anna", 0.5)], &not("anna", 0.7))), (WhyCode::NegativeExemplar, 50, 70));
    let both = together(&[vec![hit("anna", 0.5)], vec![hit("anna", 0.7)]]);
    assert_eq!(why(both[0].clone()), (WhyCode::OtherFaceOfPicture, 50, 42));
}

#[test]
fn a_name_tells_what_it_rests_on_and_an_unknown_names_no_faces() {
    let near = |face: &str, similarity| crate::identity::NearFace { face: face.parse().unwrap(), similarity };
    let anna = PersonHit { more: vec![near("anna-2", 0.54), near("anna-3", 0.5)], ..hit("anna", 0.55) };
    let d = decided(&[anna.clone(), hit("berta", 0.3)]);
    assert_eq!(d.basis.faces, [near("anna-1", 0.55), near("anna-2", 0.54), near("anna-3", 0.5)]);
    assert_eq!((d.basis.runner_up, d.basis.source), (Some(0.3), ThresholdSource::Model));
    let d = decided(&[anna, hit("berta", 0.54)]);
    assert!(d.known().is_none() && d.basis.faces.is_empty(), "{d:?}");
    assert_eq!(d.basis.runner_up, Some(0.54));
    assert_eq!(decided(&[hit("anna", 0.5)]).basis.runner_up, None);
}

#[test]
fn a_person_may_be_stricter_or_laxer_than_the_others() {
    let with = |person: &str, offset: f32, hits: &[PersonHit]| {
        let offsets = [(id(person), offset)].into();
        decide(&Candidates { offsets, ..Candidates::of(hits.to_vec()) }, &thresholds())
    };
    let hits = [hit("anna", 0.5), hit("berta", 0.43)];
    let d = with("anna", 0.1, &hits);
    assert_eq!(d.reason(), Some("below threshold by 0.02: best candidate 0.50, needs 0.52"));
    assert_eq!(d.basis.source, ThresholdSource::Person);
    assert!((d.threshold - 0.52).abs() < 1e-6, "and Berta, who is farther, does not take the name");
    assert_eq!(with("berta", 0.1, &hits).known(), Some(&hits[0]), "another person's offset changes nothing");
    assert_eq!(with("berta", 0.1, &hits).basis.source, ThresholdSource::Model);
    assert_eq!(with("anna", -0.05, &[hit("anna", 0.38)]).known(), Some(&hit("anna", 0.38)));
    assert_eq!(with("berta", -0.05, &[hit("anna", 0.38)]).known(), None);
    // Also among the faces of one picture: her strictness keeps Anna from taking part.
    let offsets: BTreeMap<PersonId, f32> = [(id("anna"), 0.2)].into();
    let face = |hits: &[PersonHit]| Candidates { offsets: offsets.clone(), ..Candidates::of(hits.to_vec()) };
    let d = assign(&[face(&[hit("anna", 0.6)]), face(&[hit("anna", 0.65)])], &thresholds());
    assert_eq!(d[0].why().unwrap().code, WhyCode::BelowThreshold);
    assert_eq!(d[1].known().map(|h| h.person.as_str()), Some("anna"));
}

#[test]
fn between_people_who_lie_close_the_lead_must_be_wider() {
    let mut wider = Pairs::default();
    wider.set(&id("anna"), &id("berta"), 3.0);
    let with = |hits: &[PersonHit]| {
        decide(&Candidates { wider: wider.clone(), ..Candidates::of(hits.to_vec()) }, &thresholds())
    };
    let d = with(&[hit("anna", 0.55), hit("berta", 0.5)]);
    assert_eq!(d.reason(), Some("second candidate too close: 0.55 and 0.50, lead 0.05, needs 0.09"));
    assert!(with(&[hit("anna", 0.55), hit("berta", 0.45)]).known().is_some());
    assert!(with(&[hit("anna", 0.55), hit("clara", 0.5)]).known().is_some(), "others are as they were");
    // The one who is third, but a twin, counts as well.
    let d = with(&[hit("anna", 0.55), hit("clara", 0.51), hit("berta", 0.5)]);
    assert_eq!(d.why().map(|w| w.code), Some(WhyCode::RunnerUpTooClose));
}

fn classified(hits: &[PersonHit], of: &[(&str, f32)]) -> Decision {
    decide(&Candidates { chances: chances(of), ..Candidates::of(hits.to_vec()) }, &thresholds())
}

#[test]
fn a_sure_classifier_chooses_among_those_who_reach_the_threshold() {
    let twins = [hit("anna", 0.50), hit("berta", 0.49)];
    let d = classified(&twins, &[("anna", 0.1), ("berta", 0.9)]);
    assert_eq!(d.known(), Some(&twins[1]));
    assert_eq!((d.basis.route, d.basis.lead.map(|l| (l * 10.0).round())), (Route::Classifier, Some(8.0)));
    assert!((d.margin + 0.01).abs() < 1e-6 && d.basis.runner_up == Some(0.5), "{d:?}");
    assert!(d.confidence <= 0.9, "no surer than the classifier: {}", d.confidence);
    // It names nobody who is not near enough, however sure it is.
    let d = classified(&[hit("anna", 0.41), hit("berta", 0.3)], &[("anna", 1.0), ("berta", 0.0)]);
    assert_eq!(d.why().map(|w| w.code), Some(WhyCode::BelowThreshold));
    let d = classified(&[hit("anna", 0.55), hit("berta", 0.41)], &[("anna", 0.01), ("berta", 0.99)]);
    assert_eq!((d.known(), d.basis.route), (Some(&hit("anna", 0.55)), Route::Similarity), "it leads by itself");
}

#[test]
fn a_classifier_that_is_not_sure_leaves_it_to_similarity() {
    let d = classified(&[hit("anna", 0.50), hit("berta", 0.49)], &[("anna", 0.6), ("berta", 0.4)]);
    assert_eq!(
        d.reason(),
        Some(
            "second candidate too close: 0.50 and 0.49, lead 0.01, needs 0.03; the classifier leads by 0.20, needs 0.50"
        )
    );
    let d = classified(&[hit("anna", 0.60), hit("berta", 0.49)], &[("anna", 0.4), ("berta", 0.6)]);
    assert_eq!((d.known().map(|h| h.person.as_str()), d.basis.route), (Some("anna"), Route::Similarity));
}

#[test]
fn somebody_whom_the_classifier_does_not_know_yet_is_decided_by_similarity() {
    let hits = [hit("new", 0.60), hit("anna", 0.50)];
    let d = classified(&hits, &[("anna", 1.0)]);
    assert_eq!((d.known(), d.basis.route, d.basis.lead), (Some(&hits[0]), Route::Similarity, None));
    let d = classified(&[hit("new", 0.50), hit("anna", 0.49)], &[("anna", 1.0)]);
    assert_eq!(d.why().map(|w| w.code), Some(WhyCode::RunnerUpTooClose));
    assert_eq!(classified(&hits, &[("anna", f32::NAN), ("new", f32::NAN)]).basis.route, Route::Similarity);
}

#[test]
fn the_guards_hold_for_the_classifier_too() {
    let hits = [hit("anna", 0.50), hit("berta", 0.49)];
    let sure = chances(&[("anna", 0.05), ("berta", 0.95)]);
    let negatives = not("berta", 0.6);
    let d = decide(&Candidates { negatives, chances: sure.clone(), ..Candidates::of(hits.to_vec()) }, &thresholds());
    assert_eq!(d.known(), Some(&hits[0]), "Berta was ruled out; what she had is Anna's");
    let offsets = [(id("berta"), 0.1)].into();
    let d = decide(&Candidates { offsets, chances: sure.clone(), ..Candidates::of(hits.to_vec()) }, &thresholds());
    assert_ne!(d.known().map(|h| h.person.as_str()), Some("berta"), "her own threshold counts");
    // Two faces like Berta: one of them is, and by the classifier's word the right one.
    let face = |c: &[(&str, f32)], s: f32| Candidates { chances: chances(c), ..Candidates::of(vec![hit("berta", s)]) };
    let d = assign(&[face(&[("berta", 0.9)], 0.5), face(&[("berta", 0.2)], 0.6)], &thresholds());
    assert_eq!(d[0].known().map(|h| h.person.as_str()), Some("berta"));
    assert_eq!(d[1].why().map(|w| w.code), Some(WhyCode::OtherFaceOfPicture));
}

#[test]
fn whoever_stands_behind_a_stricter_person_does_not_block_the_name_for_another_face() {
    // Anna is stricter than 0.52 and nearest to the first face, so nobody is named there, and Berta is free for the second.
    let offsets: BTreeMap<PersonId, f32> = [(id("anna"), 0.15)].into();
    let face = |hits: &[PersonHit]| Candidates { offsets: offsets.clone(), ..Candidates::of(hits.to_vec()) };
    let d = assign(&[face(&[hit("anna", 0.52), hit("berta", 0.48)]), face(&[hit("berta", 0.46)])], &thresholds());
    assert_eq!(d[0].why().unwrap().code, WhyCode::BelowThreshold);
    assert_eq!(d[1].known().map(|h| h.person.as_str()), Some("berta"));
}

#[test]
fn looks_that_differ_raise_the_threshold_and_words_and_figures_agree() {
    use crate::{
        face::{Distance, Embedding},
        identity::{Evidence, EvidenceSettings, Look},
        time::Timestamp,
    };
    let mut evidence = Evidence::new(EvidenceSettings::default(), 0.42);
    for degrees in [-25.0f32, 25.0] {
        let values = [degrees.to_radians().cos(), degrees.to_radians().sin()].as_slice().into();
        let embedding = Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values };
        evidence.add(Look { at: Timestamp::UNIX_EPOCH, embedding, quality: 1.0 });
    }
    let spread = evidence.spread();
    let with = |s: f32| decide(&Candidates { spread, ..Candidates::of(vec![hit("anna", s)]) }, &thresholds());
    let d = with(0.45);
    assert_eq!(d.reason(), Some("below threshold by 0.01: best candidate 0.45, needs 0.46"));
    assert!((d.threshold - 0.42 / 25f32.to_radians().cos()).abs() < 1e-3 && d.why().unwrap().needed == d.threshold);
    assert_eq!(d.basis.source, ThresholdSource::Model, "nobody's own threshold");
    assert!(d.confidence < decided(&[hit("anna", 0.45)]).confidence, "what the fusion gave is taken back");
    assert!(with(0.5).known().is_some());
}

fn any_hits() -> impl Strategy<Value = Vec<PersonHit>> {
    proptest::collection::vec(-1f32..1.0, 0..5).prop_map(|mut values| {
        values.sort_by(|a, b| b.total_cmp(a));
        values.into_iter().enumerate().map(|(i, v)| hit(&format!("p{i}"), v)).collect()
    })
}

proptest! {
    #[test]
    fn whatever_the_classifier_says_nobody_below_the_threshold_is_named(
        hits in any_hits(),
        of in proptest::collection::vec(0f32..1.0, 5),
        offset in -0.2f32..0.2,
    ) {
        let chances = Some(hits.iter().zip(of).map(|(h, c)| (h.person.clone(), c)).collect());
        let offsets: BTreeMap<PersonId, f32> = [(id("p0"), offset)].into();
        let candidates = Candidates { chances, offsets, ..Candidates::of(hits) };
        let d = decide(&candidates, &thresholds());
        if let Some(hit) = d.known() {
            prop_assert!(hit.similarity >= candidates.threshold(&hit.person, &thresholds()));
            prop_assert_eq!(d.threshold, candidates.threshold(&hit.person, &thresholds()));
            let sure = d.basis.lead.is_some_and(|l| l >= 0.5);
            prop_assert!(d.margin >= 0.03 || (d.basis.route == Route::Classifier && sure));
        }
    }

    #[test]
    fn a_better_best_hit_is_never_worse(mut hits in any_hits(), more in 0f32..1.0, negative in -1f32..1.0) {
        let before = ruled_out(&hits, &not("p0", negative));
        if let Some(first) = hits.first_mut() {
            first.similarity += more;
        }
        let after = ruled_out(&hits, &not("p0", negative));
        if let Some(known) = before.known() {
            // Somebody else may have been named because the best was ruled out; then the best may now be back.
            prop_assert!(after.known().is_some() || known.person.as_str() != "p0");
        }
        let (alone, raised) = (decided(&hits), {
            let mut h = hits.clone();
            h.first_mut().into_iter().for_each(|f| f.similarity += more);
            decided(&h)
        });
        prop_assert!(alone.known().is_none() || raised.known() == hits.first().map(|h| hit("p0", h.similarity + more)).as_ref());
        prop_assert!(raised.confidence >= alone.confidence);
    }

    #[test]
    fn no_person_is_two_faces_whatever_offsets_and_the_classifier_say(
        faces in proptest::collection::vec(proptest::collection::vec((0f32..1.0, 0f32..1.0), 4), 0..5),
        offsets in proptest::collection::vec(-0.3f32..0.3, 4),
        classified in proptest::bool::ANY,
    ) {
        let offsets: BTreeMap<PersonId, f32> = offsets.iter().enumerate().map(|(i, o)| (id(&format!("p{i}")), *o)).collect();
        let faces: Vec<Candidates> = faces.into_iter().map(|row| {
            let chances = row.iter().enumerate().map(|(i, (_, c))| (id(&format!("p{i}")), *c)).collect();
            let mut hits: Vec<_> = row.into_iter().enumerate().map(|(i, (s, _))| hit(&format!("p{i}"), s)).collect();
            hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            Candidates { offsets: offsets.clone(), chances: classified.then_some(chances), ..Candidates::of(hits) }
        }).collect();
        let decisions = assign(&faces, &thresholds());
        let mut named: Vec<_> = decisions.iter().filter_map(|d| d.known().map(|h| h.person.clone())).collect();
        let all = named.len();
        named.sort_unstable();
        named.dedup();
        prop_assert_eq!(named.len(), all);
        for (face, d) in faces.iter().zip(&decisions) {
            if let Some(hit) = d.known() {
                prop_assert!(hit.similarity >= face.threshold(&hit.person, &thresholds()));
            }
        }
    }

    #[test]
    fn no_person_is_two_faces(faces in proptest::collection::vec(proptest::collection::vec(-1f32..1.0, 4), 0..5)) {
        let faces: Vec<Vec<PersonHit>> = faces.into_iter().map(|row| {
            let mut hits: Vec<_> = row.into_iter().enumerate().map(|(i, v)| hit(&format!("p{i}"), v)).collect();
            hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            hits
        }).collect();
        let decisions = together(&faces);
        prop_assert_eq!(decisions.len(), faces.len());
        let mut named: Vec<_> = decisions.iter().filter_map(|d| d.known().map(|h| h.person.clone())).collect();
        let all = named.len();
        named.sort_unstable();
        named.dedup();
        prop_assert_eq!(named.len(), all);
        // Alone in the picture, the answer is the plain one.
        if let [only] = faces.as_slice() {
            prop_assert_eq!(&decisions[0], &decided(only));
        }
    }
}
