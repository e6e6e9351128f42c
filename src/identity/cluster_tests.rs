use std::collections::BTreeMap;

use super::*;
use crate::{
    face::Distance,
    identity::{
        cluster_score::{bcubed, pairwise},
        whispers::splitmix,
    },
};

/// Random numbers of a fixed seed.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f32 {
        (splitmix(&mut self.0) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Roughly normal with variance 1: a sum of uniform values.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// A unit vector near `centre`, or anywhere.
    fn vector(&mut self, centre: Option<&[f32]>, spread: f32) -> Vec<f32> {
        let mut v: Vec<f32> = (0..DIMENSIONS).map(|i| centre.map_or(0.0, |c| c[i]) + spread * self.normal()).collect();
        let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        v
    }
}

const DIMENSIONS: usize = 128;
/// Similarity of links in these tests.
const THRESHOLD: f32 = 0.45;

fn member(n: usize, camera: &str, second: i64, values: Vec<f32>) -> Member {
    Member {
        id: format!("f-{n:06}").parse().unwrap(),
        template: Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values: values.into() },
        camera: camera.parse().unwrap(),
        began: Timestamp::from_second(second).unwrap(),
        ended: Timestamp::from_second(second + 5).unwrap(),
        group: None,
        bound: false,
    }
}

/// `people` with `each` appearances, all at different times; the truth by face.
fn crowd(people: usize, each: usize, spread: f32) -> (Vec<Member>, BTreeMap<FaceId, usize>) {
    let mut dice = Dice(7);
    let centres: Vec<Vec<f32>> = (0..people).map(|_| dice.vector(None, 1.0)).collect();
    let mut members = Vec::new();
    let mut truth = BTreeMap::new();
    for n in 0..people * each {
        let person = n % people;
        members.push(member(n, "door", n as i64 * 10, dice.vector(Some(&centres[person]), spread)));
        truth.insert(members[n].id.clone(), person);
    }
    (members, truth)
}

/// Applies what regrouping says, numbering new groups from `next` on; the number of faces that moved.
fn apply(clusters: &mut Clusters, next: &mut u32) -> usize {
    let moves = clusters.regroup();
    let first = *next;
    for (face, home) in &moves {
        let group = match home {
            Home::Old(group) => *group,
            Home::New(n) => UnknownId::new(first + *n as u32),
        };
        *next = (*next).max(group.number() + 1);
        clusters.place(face, group, false);
    }
    moves.len()
}

/// As the server does it: each face joins the nearest group or starts one.
fn arrive(clusters: &mut Clusters, member: Member, next: &mut u32) -> UnknownId {
    let id = member.id.clone();
    clusters.insert(member);
    let group = clusters.nearest_group(&id).unwrap_or_else(|| {
        *next += 1;
        UnknownId::new(*next - 1)
    });
    clusters.place(&id, group, false);
    group
}

fn items(clusters: &Clusters, truth: &BTreeMap<FaceId, usize>) -> Vec<(usize, usize)> {
    clusters.members().map(|m| (truth[&m.id], m.group.unwrap().number() as usize)).collect()
}

fn groups(clusters: &Clusters) -> BTreeMap<FaceId, UnknownId> {
    clusters.members().map(|m| (m.id.clone(), m.group.unwrap())).collect()
}

#[test]
fn people_are_told_apart_at_once_and_when_all_is_regrouped() {
    let (members, truth) = crowd(60, 12, 0.075);
    let mut clusters = Clusters::new(THRESHOLD);
    let mut next = 1;
    members.into_iter().for_each(|m| {
        arrive(&mut clusters, m, &mut next);
    });
    let at_once = items(&clusters, &truth);
    println!("one by one: pairwise {:?}, BCubed {:?}", pairwise(&at_once), bcubed(&at_once));
    assert!(bcubed(&at_once).f > 0.9 && pairwise(&at_once).precision > 0.95);
    apply(&mut clusters, &mut next);
    let anew = items(&clusters, &truth);
    println!("regrouped: pairwise {:?}, BCubed {:?}", pairwise(&anew), bcubed(&anew));
    assert!(bcubed(&anew).f > 0.97 && pairwise(&anew).f > 0.97);
    assert_eq!(apply(&mut clusters, &mut next), 0, "a second run moves faces");
}

#[test]
fn ids_stay_when_all_is_loaded_and_regrouped_in_another_order_and_more_faces_come() {
    let (members, _) = crowd(20, 10, 0.06);
    let (first, later) = members.split_at(150);
    let mut clusters = Clusters::new(THRESHOLD);
    let mut next = 1;
    first.iter().for_each(|m| clusters.insert(m.clone()));
    apply(&mut clusters, &mut next);
    let before = groups(&clusters);

    let mut again = Clusters::new(THRESHOLD);
    let kept: BTreeMap<FaceId, Member> = clusters.members().map(|m| (m.id.clone(), m.clone())).collect();
    kept.into_values().rev().for_each(|m| again.insert(m));
    later.iter().for_each(|m| again.insert(m.clone()));
    apply(&mut again, &mut next);
    let after = groups(&again);
    assert!(before.iter().all(|(face, group)| after[face] == *group), "a known group changed its id");
    assert_eq!(next, 21, "no group was made anew");
}

#[test]
fn two_faces_at_one_time_before_one_camera_are_two_people_however_alike() {
    let mut dice = Dice(3);
    let twin = dice.vector(None, 1.0);
    let mut clusters = Clusters::new(THRESHOLD);
    let mut next = 1;
    let a = arrive(&mut clusters, member(0, "door", 100, twin.clone()), &mut next);
    let b = arrive(&mut clusters, member(1, "door", 102, twin.clone()), &mut next);
    let elsewhere = arrive(&mut clusters, member(2, "yard", 102, twin.clone()), &mut next);
    assert_ne!(a, b);
    assert!(elsewhere == a || elsewhere == b, "another camera's clock says nothing");
    apply(&mut clusters, &mut next);
    let found = groups(&clusters);
    let of = |n: usize| found[&format!("f-{n:06}").parse().unwrap()];
    assert_ne!(of(0), of(1), "regrouping joined them");
    // Half-open: one who leaves as the other comes may be one person.
    let c = arrive(&mut clusters, member(3, "door", 107, twin), &mut next);
    assert!(c == a || c == b);
}

#[test]
fn bound_faces_stay_together_apart_from_other_bound_ones_and_keep_their_id() {
    let mut dice = Dice(5);
    let (one, two) = (dice.vector(None, 1.0), dice.vector(None, 1.0));
    let mut clusters = Clusters::new(THRESHOLD);
    let near = |dice: &mut Dice, c: &[f32]| dice.vector(Some(c), 0.03);
    for n in 0..6 {
        let centre = if n < 3 { &one } else { &two };
        clusters.insert(member(n, "door", n as i64 * 10, near(&mut dice, centre)));
    }
    let (joined, apart) = (UnknownId::new(4), UnknownId::new(9));
    let face = |n: usize| -> FaceId { format!("f-{n:06}").parse().unwrap() };
    // A user joined two people's faces, and keeps one that looks like the first apart.
    [0, 1, 3].iter().for_each(|n| clusters.place(&face(*n), joined, true));
    clusters.place(&face(2), apart, true);
    let mut next = 10;
    apply(&mut clusters, &mut next);
    let found = groups(&clusters);
    assert_eq!([0, 1, 3].map(|n| found[&face(n)]), [joined; 3]);
    assert_eq!(found[&face(2)], apart);
    assert_eq!([4, 5].map(|n| found[&face(n)]), [joined; 2], "others like them join");
}

#[test]
fn removed_faces_leave_nothing_behind_and_other_models_are_never_compared() {
    let mut dice = Dice(11);
    let centre = dice.vector(None, 1.0);
    let mut clusters = Clusters::new(THRESHOLD);
    let mut next = 1;
    for n in 0..4 {
        arrive(&mut clusters, member(n, "door", n as i64 * 10, dice.vector(Some(&centre), 0.03)), &mut next);
    }
    (0..4).for_each(|n| clusters.remove(&format!("f-{n:06}").parse().unwrap()));
    clusters.remove(&"never".parse().unwrap());
    assert!(clusters.is_empty());
    let group = arrive(&mut clusters, member(5, "door", 90, centre.clone()), &mut next);
    assert_eq!(group, UnknownId::new(2), "a removed face still attracts");
    let mut other = member(6, "door", 200, centre);
    other.template.model = "n".parse().unwrap();
    assert_eq!(arrive(&mut clusters, other, &mut next), UnknownId::new(3));
    assert_eq!((clusters.len(), clusters.regroup().len()), (2, 0));
}

/// `cargo test --lib cluster::tests::speed -- --ignored --nocapture`, best with `--release`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    for (people, each) in [(250, 8), (500, 10), (1000, 20)] {
        let (members, truth) = crowd(people, each, 0.075);
        let all = members.len();
        let mut clusters = Clusters::new(THRESHOLD);
        let began = std::time::Instant::now();
        members.into_iter().for_each(|m| clusters.insert(m));
        let linked = began.elapsed();
        let began = std::time::Instant::now();
        let mut next = 1;
        apply(&mut clusters, &mut next);
        let took = began.elapsed();
        let found = items(&clusters, &truth);
        println!(
            "{all} faces of {people} people: linked in {linked:?}, grouped in {took:?}; pairwise F {:.4}, BCubed F {:.4}",
            pairwise(&found).f,
            bcubed(&found).f
        );
    }
}
