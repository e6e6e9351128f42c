//! Chinese whispers (Biemann 2006) with pairs that never share a group: the core of [`super::cluster`].

use std::collections::HashMap;

/// Rounds at most; it settles in about ten.
const ROUNDS: usize = 40;

/// Who is linked to whom, and who is surely somebody else.
#[derive(Debug)]
pub(super) struct Graph {
    /// By node: neighbours with weights; symmetric.
    pub(super) links: Vec<Vec<(usize, f32)>>,
    /// By node: those that never share its group; symmetric.
    pub(super) others: Vec<Vec<usize>>,
}

impl Graph {
    /// Whether somebody of a group is surely nobody of the group `label`.
    pub(super) fn apart(&self, part: &[usize], label: usize, labels: &[usize]) -> bool {
        part.iter().any(|u| self.others[*u].iter().any(|other| labels[*other] == label))
    }
}

/// Chinese whispers; a label is never taken from a group that holds somebody who is surely somebody else.
pub(super) fn whispered(graph: &Graph) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..graph.links.len()).collect();
    let mut order: Vec<usize> = labels.clone();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut weights: HashMap<usize, f32> = HashMap::new();
    for _ in 0..ROUNDS {
        for i in (1..order.len()).rev() {
            order.swap(i, (splitmix(&mut seed) % (i as u64 + 1)) as usize);
        }
        let mut changed = false;
        for u in &order {
            weights.clear();
            for (v, weight) in &graph.links[*u] {
                *weights.entry(labels[*v]).or_default() += weight;
            }
            let own = labels[*u];
            let mut best = (own, weights.get(&own).copied().unwrap_or(0.0));
            for (label, weight) in &weights {
                let heavier = *weight > best.1 || (*weight == best.1 && best.0 != own && *label < best.0);
                if heavier && !graph.apart(&[*u], *label, &labels) {
                    best = (*label, *weight);
                }
            }
            if best.0 != own {
                labels[*u] = best.0;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    labels
}

/// SplitMix64 (Steele, Lea & Flood 2014): a shuffle that is the same each time.
pub(super) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
