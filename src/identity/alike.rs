//! People who lie close to each other: relatives, twins, or one person enrolled twice.
//!
//! In: the nearest other people of each person's enrolled faces, one person at a time. Out: who looks like whom ([`Alike::of`]), and how much
//! wider the margin between two must be ([`AlikeRange::wider`]). Pure; nothing is compared here, so a change of one person costs the
//! neighbours of that person only.

use std::collections::{BTreeMap, HashMap};

use crate::{ids::PersonId, inference::manifest::EmbedderSpec};

/// How many times as wide the margin is between two people as near as the identification threshold.
const WIDEST: f32 = 3.0;
/// Neighbours of a person that are kept: the nearest.
const NEIGHBOURS: usize = 8;

/// From which similarity of two enrolled faces on their people are said to look alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlikeRange {
    /// From here on: the model's 1:1 threshold. Such two would pass for one person when they are verified.
    pub from: f32,
    /// From here on the margin is widest: the model's 1:N threshold. A probe like one of them reaches the other's name, too.
    pub full: f32,
}

impl AlikeRange {
    /// The range of an embedder, from its thresholds.
    pub fn of(spec: &EmbedderSpec) -> Self {
        Self { from: spec.verification_threshold, full: spec.identification_threshold }
    }

    /// Factor of the margin, 1 to 3, between people whose nearest faces have this similarity.
    pub fn wider(&self, similarity: f32) -> f32 {
        let span = (self.full - self.from).max(1e-6);
        1.0 + (WIDEST - 1.0) * ((similarity - self.from) / span).clamp(0.0, 1.0)
    }
}

/// Somebody who looks like another person.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Who.
    pub person: PersonId,
    /// Similarity of their nearest enrolled faces.
    pub similarity: f32,
}

/// A number for some pairs of people, whichever is named first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs(BTreeMap<(PersonId, PersonId), f32>);

impl Pairs {
    /// The number of a pair.
    pub fn get(&self, a: &PersonId, b: &PersonId) -> Option<f32> {
        // Nearly always empty: the key is made only when it may be there.
        if self.0.is_empty() { None } else { self.0.get(&key(a, b)).copied() }
    }

    /// Sets the number of a pair.
    pub fn set(&mut self, a: &PersonId, b: &PersonId, value: f32) {
        self.0.insert(key(a, b), value);
    }
}

fn key(a: &PersonId, b: &PersonId) -> (PersonId, PersonId) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

/// Who looks like whom; symmetric.
#[derive(Debug, Clone, Default)]
pub struct Alike(HashMap<PersonId, BTreeMap<PersonId, f32>>);

impl Alike {
    /// Replaces what is known of a person by its neighbours as found now. Of more than 8 the nearest stay, on either side.
    pub fn replace(&mut self, person: &PersonId, mut neighbours: Vec<Neighbour>) {
        self.remove(person);
        neighbours.retain(|n| n.person != *person && n.similarity.is_finite());
        neighbours.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        neighbours.truncate(NEIGHBOURS);
        for n in neighbours {
            self.put(person, &n.person, n.similarity);
            self.put(&n.person, person, n.similarity);
            self.prune(&n.person);
        }
    }

    /// Forgets a person.
    pub fn remove(&mut self, person: &PersonId) {
        for other in self.0.remove(person).into_iter().flat_map(BTreeMap::into_keys) {
            self.unlink(&other, person);
        }
    }

    /// Whom a person looks like, nearest first.
    pub fn of(&self, person: &PersonId) -> Vec<Neighbour> {
        let Some(found) = self.0.get(person) else { return Vec::new() };
        let mut found: Vec<Neighbour> =
            found.iter().map(|(p, s)| Neighbour { person: p.clone(), similarity: *s }).collect();
        found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        found
    }

    /// Similarity of two people who look alike.
    pub fn similarity(&self, a: &PersonId, b: &PersonId) -> Option<f32> {
        self.0.get(a)?.get(b).copied()
    }

    /// Pairs in all.
    pub fn pairs(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum::<usize>() / 2
    }

    fn put(&mut self, of: &PersonId, other: &PersonId, similarity: f32) {
        self.0.entry(of.clone()).or_default().insert(other.clone(), similarity);
    }

    fn unlink(&mut self, of: &PersonId, other: &PersonId) {
        if let Some(found) = self.0.get_mut(of) {
            found.remove(other);
            if found.is_empty() {
                self.0.remove(of);
            }
        }
    }

    /// Somebody whom everybody resembles must not grow without bound.
    fn prune(&mut self, person: &PersonId) {
        while self.0.get(person).is_some_and(|found| found.len() > NEIGHBOURS) {
            let Some(farthest) = self.of(person).pop() else { return };
            self.unlink(person, &farthest.person);
            self.unlink(&farthest.person, person);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PersonId {
        name.parse().unwrap()
    }

    fn near(person: &str, similarity: f32) -> Neighbour {
        Neighbour { person: id(person), similarity }
    }

    #[test]
    fn both_sides_know_and_forget() {
        let mut alike = Alike::default();
        alike.replace(&id("anna"), vec![near("berta", 0.47), near("clara", 0.43), near("anna", 1.0)]);
        assert_eq!(alike.of(&id("berta")), [near("anna", 0.47)]);
        assert_eq!(alike.of(&id("anna")), [near("berta", 0.47), near("clara", 0.43)]);
        assert_eq!((alike.pairs(), alike.similarity(&id("clara"), &id("anna"))), (2, Some(0.43)));
        // Anna's photo that resembled Clara is gone.
        alike.replace(&id("anna"), vec![near("berta", 0.46)]);
        assert_eq!((alike.of(&id("clara")), alike.pairs()), (Vec::new(), 1));
        alike.remove(&id("berta"));
        assert_eq!((alike.of(&id("anna")), alike.pairs()), (Vec::new(), 0));
    }

    #[test]
    fn somebody_whom_all_resemble_keeps_the_nearest() {
        let mut alike = Alike::default();
        for i in 0..50u8 {
            alike.replace(&id(&format!("p{i}")), vec![near("mean", f32::from(i) / 100.0)]);
        }
        let kept = alike.of(&id("mean"));
        assert_eq!((kept.len(), kept[0].clone(), alike.pairs()), (NEIGHBOURS, near("p49", 0.49), NEIGHBOURS));
        assert!(alike.of(&id("p0")).is_empty(), "both sides agree");
    }

    #[test]
    fn the_margin_grows_with_closeness() {
        let range = AlikeRange { from: 0.41, full: 0.46 };
        let wider = [0.3, 0.41, 0.435, 0.46, 0.9].map(|s| (range.wider(s) * 100.0).round() / 100.0);
        assert_eq!(wider, [1.0, 1.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn a_pair_has_one_number() {
        let mut pairs = Pairs::default();
        assert_eq!(pairs.get(&id("a"), &id("b")), None);
        pairs.set(&id("b"), &id("a"), 2.0);
        assert_eq!((pairs.get(&id("a"), &id("b")), pairs.get(&id("a"), &id("c"))), (Some(2.0), None));
    }
}
