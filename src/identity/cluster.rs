//! Unknown faces grouped by person.
//!
//! In: templates one by one ([`Clusters::insert`]). Out: the group of each at once, and now and then all groups anew
//! ([`Clusters::regroup`]) with ids kept. Pure.
//!
//! Method: Chinese whispers (Biemann 2006, "Chinese Whispers: an efficient graph clustering algorithm and its application to natural
//! language processing problems", TextGraphs-1; dlib groups faces by it too) on the graph of nearest neighbours. Two faces
//! are linked when their similarity reaches the model's threshold, with the excess as weight; each face takes the label that weighs
//! most among its neighbours, over and over, in a shuffled order of a fixed seed. The number of people need not be known,
//! and a single wrong link does not join two groups, as it would with connected components. Groups that whispering left in pieces are
//! joined afterwards by average linkage over their faces.
//!
//! What is sure beats what is similar: two appearances before one camera at one time are two people and never share
//! a group (cannot-link; Wagstaff et al. 2001, "Constrained k-means clustering with background knowledge"), and faces that a user's word
//! bound together stay together and apart from other bound groups.
//!
//! Links are found once, when a face comes (one pass over all faces), so that regrouping costs time by the number of links only.

use std::collections::{BTreeMap, HashMap};

use super::{
    unknown::UnknownFace,
    whispers::{Graph, whispered},
};
use crate::{
    face::Embedding,
    ids::{CameraId, FaceId, UnknownId},
    time::Timestamp,
};

/// Nearest neighbours whose links are kept for a face.
const NEIGHBOURS: usize = 48;
/// Weight of a link at the threshold itself.
const LEAST_WEIGHT: f32 = 0.02;
/// Pairs of faces looked at to measure the average linkage of two groups, at most per group.
const SAMPLE: usize = 24;

/// A face as clustering sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The face.
    pub id: FaceId,
    /// Its fused template.
    pub template: Embedding,
    /// Where it appeared …
    pub camera: CameraId,
    /// … from …
    pub began: Timestamp,
    /// … to.
    pub ended: Timestamp,
    /// Its group.
    pub group: Option<UnknownId>,
    /// Whether a user's word put it there.
    pub bound: bool,
}

impl Member {
    /// A face that has no group yet.
    pub fn of(face: &UnknownFace) -> Self {
        Self {
            id: face.id.clone(),
            template: face.template.clone(),
            camera: face.camera.clone(),
            began: face.began,
            ended: face.ended,
            group: None,
            bound: false,
        }
    }

    /// Whether both were before one camera at one time, and so are two people.
    fn excludes(&self, other: &Self) -> bool {
        self.camera == other.camera && self.began < other.ended && other.began < self.ended
    }
}

/// Where a face belongs, as regrouping found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// A group that is there already.
    Old(UnknownId),
    /// The n-th new group.
    New(usize),
}

#[derive(Debug)]
struct Node {
    member: Member,
    /// Nearest linked faces with their similarity above the threshold; a link may be known to one side only.
    links: Vec<(usize, f32)>,
    /// Faces that are surely somebody else.
    others: Vec<usize>,
}

/// All unknown faces with their links.
#[derive(Debug)]
pub struct Clusters {
    threshold: f32,
    /// Places of removed faces are empty and used again.
    nodes: Vec<Option<Node>>,
    places: HashMap<FaceId, usize>,
    free: Vec<usize>,
}

impl Clusters {
    /// No faces yet; `threshold` is the similarity from which two faces are linked.
    pub fn new(threshold: f32) -> Self {
        Self { threshold, nodes: Vec::new(), places: HashMap::new(), free: Vec::new() }
    }

    /// Number of faces.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The faces, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.nodes.iter().flatten().map(|node| &node.member)
    }

    /// Takes a face in and links it. One that is there already is left as it is.
    pub fn insert(&mut self, member: Member) {
        if self.places.contains_key(&member.id) {
            return;
        }
        let place = self.free.pop().unwrap_or(self.nodes.len());
        let (mut links, mut others) = (Vec::new(), Vec::new());
        for (other, node) in self.nodes.iter_mut().enumerate() {
            let Some(node) = node else { continue };
            if node.member.excludes(&member) {
                node.others.push(place);
                others.push(other);
                continue;
            }
            // Templates of different models are never one person's, as far as can be told.
            let Ok(similarity) = node.member.template.similarity(&member.template) else { continue };
            if similarity >= self.threshold {
                let excess = similarity - self.threshold;
                links.push((other, excess));
                keep_nearest(&mut node.links, (place, excess));
            }
        }
        links.sort_by(|a, b| b.1.total_cmp(&a.1));
        links.truncate(NEIGHBOURS);
        self.places.insert(member.id.clone(), place);
        let node = Node { member, links, others };
        match self.nodes.get_mut(place) {
            Some(empty) => *empty = Some(node),
            None => self.nodes.push(Some(node)),
        }
    }

    /// Forgets a face.
    pub fn remove(&mut self, face: &FaceId) {
        let Some(place) = self.places.remove(face) else { return };
        self.nodes[place] = None;
        for node in self.nodes.iter_mut().flatten() {
            node.links.retain(|(other, _)| *other != place);
            node.others.retain(|other| *other != place);
        }
        self.free.push(place);
    }

    /// Puts a face into a group.
    pub fn place(&mut self, face: &FaceId, group: UnknownId, bound: bool) {
        if let Some(Some(node)) = self.places.get(face).map(|place| &mut self.nodes[*place]) {
            node.member.group = Some(group);
            node.member.bound = bound;
        }
    }

    /// The group that a face without one joins, by the rule of whispering: the one that weighs most among its neighbours and
    /// holds nobody who is surely somebody else. `None` when it is the first of its person.
    pub fn nearest_group(&self, face: &FaceId) -> Option<UnknownId> {
        let place = self.places.get(face)?;
        let node = self.nodes[*place].as_ref()?;
        let mut weights: BTreeMap<UnknownId, f32> = BTreeMap::new();
        for (other, excess) in &node.links {
            if let Some(group) = self.nodes[*other].as_ref().and_then(|o| o.member.group) {
                *weights.entry(group).or_default() += excess + LEAST_WEIGHT;
            }
        }
        let excluded = |group: &UnknownId| {
            let mut others = node.others.iter().filter_map(|other| self.nodes[*other].as_ref());
            others.any(|other| other.member.group == Some(*group))
        };
        weights.retain(|group, _| !excluded(group));
        // Of equals, the older group.
        weights.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|(group, _)| group)
    }

    /// Groups all faces anew. Ids stay: each old id goes to the new group that holds most of its faces, bound groups first. Returns the faces
    /// whose home differs from their present group; nothing is changed until [`Clusters::place`].
    pub fn regroup(&self) -> Vec<(FaceId, Home)> {
        let (units, unit_of) = self.units();
        let graph = self.graph(&units, &unit_of);
        let labels = self.joined(&units, &graph, whispered(&graph));
        let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (unit, label) in labels.into_iter().enumerate() {
            parts.entry(label).or_default().extend(&units[unit].places);
        }
        let parts: Vec<Vec<&Member>> =
            parts.into_values().map(|places| places.into_iter().filter_map(|p| self.member(p)).collect()).collect();
        let homes = kept_ids(&parts);
        let moved = |(part, home): (Vec<&Member>, Home)| {
            let stays = move |m: &&Member| m.group.map(Home::Old) != Some(home);
            part.into_iter().filter(stays).map(|m| (m.id.clone(), home)).collect::<Vec<_>>()
        };
        parts.into_iter().zip(homes).flat_map(moved).collect()
    }

    fn member(&self, place: usize) -> Option<&Member> {
        self.nodes.get(place)?.as_ref().map(|node| &node.member)
    }

    /// What is grouped: single faces, and bound ones of a group together.
    fn units(&self) -> (Vec<Unit>, HashMap<usize, usize>) {
        let mut bound: BTreeMap<UnknownId, Vec<usize>> = BTreeMap::new();
        let mut units: Vec<Unit> = Vec::new();
        let mut by_age: Vec<(&FaceId, usize)> = self.places.iter().map(|(id, place)| (id, *place)).collect();
        by_age.sort_unstable();
        for (_, place) in by_age {
            match self.member(place) {
                Some(Member { bound: true, group: Some(group), .. }) => bound.entry(*group).or_default().push(place),
                _ => units.push(Unit { places: vec![place], bound: false }),
            }
        }
        units.extend(bound.into_values().map(|places| Unit { places, bound: true }));
        let of = units.iter().enumerate().flat_map(|(u, unit)| unit.places.iter().map(move |p| (*p, u))).collect();
        (units, of)
    }

    fn graph(&self, units: &[Unit], unit_of: &HashMap<usize, usize>) -> Graph {
        let mut weights: Vec<BTreeMap<usize, f32>> = vec![BTreeMap::new(); units.len()];
        let mut others: Vec<Vec<usize>> = vec![Vec::new(); units.len()];
        let bound: Vec<usize> = (0..units.len()).filter(|u| units[*u].bound).collect();
        for (u, unit) in units.iter().enumerate() {
            for node in unit.places.iter().filter_map(|p| self.nodes[*p].as_ref()) {
                for (other, excess) in &node.links {
                    let Some(v) = unit_of.get(other).copied().filter(|v| *v != u) else { continue };
                    // Known to one side or to both: the same link once.
                    let weight = excess + LEAST_WEIGHT;
                    let [there, back] = [(u, v), (v, u)].map(|(a, b)| weights[a].get(&b).copied().unwrap_or(0.0));
                    let weight = weight.max(there).max(back);
                    weights[u].insert(v, weight);
                    weights[v].insert(u, weight);
                }
                others[u].extend(node.others.iter().filter_map(|o| unit_of.get(o)).filter(|v| **v != u));
            }
            if unit.bound {
                // Two groups that a user knows as two stay two.
                others[u].extend(bound.iter().filter(|v| **v != u));
            }
            others[u].sort_unstable();
            others[u].dedup();
        }
        Graph { links: weights.into_iter().map(|w| w.into_iter().collect()).collect(), others }
    }

    /// Joins groups whose faces are similar on average: whispering may settle with one person in pieces.
    fn joined(&self, units: &[Unit], graph: &Graph, mut labels: Vec<usize>) -> Vec<usize> {
        loop {
            let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            labels.iter().enumerate().for_each(|(u, label)| parts.entry(*label).or_default().push(u));
            // Only groups that are linked at all.
            let mut pairs: Vec<(usize, usize)> = Vec::new();
            for (u, links) in graph.links.iter().enumerate() {
                let between = links.iter().map(|(v, _)| (labels[u], labels[*v])).filter(|(a, b)| a < b);
                pairs.extend(between);
            }
            pairs.sort_unstable();
            pairs.dedup();
            let mut near: Vec<(f32, usize, usize)> = pairs
                .into_iter()
                .filter(|(a, b)| !graph.apart(&parts[a], *b, &labels))
                .filter_map(|(a, b)| Some((self.average(units, &parts[&a], &parts[&b])?, a, b)))
                .filter(|(average, ..)| *average >= self.threshold)
                .collect();
            near.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
            // Each group joins one other a turn, the nearest pairs first.
            let mut touched = std::collections::BTreeSet::new();
            for (_, a, b) in &near {
                if touched.contains(a) || touched.contains(b) {
                    continue;
                }
                touched.extend([*a, *b]);
                labels.iter_mut().filter(|label| *label == b).for_each(|label| *label = *a);
            }
            if touched.is_empty() {
                return labels;
            }
        }
    }

    /// Mean similarity between the faces of two groups; `None` when no two can be compared.
    fn average(&self, units: &[Unit], a: &[usize], b: &[usize]) -> Option<f32> {
        let sample = |part: &[usize]| {
            let places: Vec<usize> = part.iter().flat_map(|u| units[*u].places.iter().copied()).collect();
            let step = places.len().div_ceil(SAMPLE).max(1);
            places.into_iter().step_by(step).filter_map(|p| self.member(p)).collect::<Vec<_>>()
        };
        let (a, b) = (sample(a), sample(b));
        let all: Vec<f32> =
            a.iter().flat_map(|x| b.iter().filter_map(|y| x.template.similarity(&y.template).ok())).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f32>() / all.len() as f32)
    }
}

/// Adds a link; beyond the limit the weakest goes.
fn keep_nearest(links: &mut Vec<(usize, f32)>, link: (usize, f32)) {
    let at = links.partition_point(|(_, excess)| *excess >= link.1);
    if at < NEIGHBOURS {
        links.insert(at, link);
        links.truncate(NEIGHBOURS);
    }
}

struct Unit {
    places: Vec<usize>,
    bound: bool,
}

/// The home of each part: the old id with which it shares most faces, bound ones first, then the larger share, then the older id.
fn kept_ids(parts: &[Vec<&Member>]) -> Vec<Home> {
    let mut shares: Vec<(bool, usize, UnknownId, usize)> = Vec::new();
    for (part, members) in parts.iter().enumerate() {
        let mut by_group: BTreeMap<UnknownId, (bool, usize)> = BTreeMap::new();
        for (group, bound) in members.iter().filter_map(|m| Some((m.group?, m.bound))) {
            let share = by_group.entry(group).or_default();
            (share.0, share.1) = (share.0 || bound, share.1 + 1);
        }
        shares.extend(by_group.into_iter().map(|(group, (bound, n))| (bound, n, group, part)));
    }
    shares.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then((a.2, a.3).cmp(&(b.2, b.3))));
    let mut homes: Vec<Option<Home>> = vec![None; parts.len()];
    let mut given = std::collections::BTreeSet::new();
    for (_, _, group, part) in shares {
        if homes[part].is_none() && given.insert(group) {
            homes[part] = Some(Home::Old(group));
        }
    }
    let mut new = 0..;
    homes.into_iter().map(|home| home.or_else(|| new.next().map(Home::New)).unwrap_or(Home::New(0))).collect()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
