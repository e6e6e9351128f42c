//! How good groups are where the truth is known: pairwise F and BCubed.

use std::collections::HashMap;

/// Precision, recall and their harmonic mean, 0 to 1 each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// How much of what is together belongs together.
    pub precision: f64,
    /// How much of what belongs together is together.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f: f64,
}

impl Score {
    fn new(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        Self { precision, recall, f: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

struct Counts {
    together: HashMap<(usize, usize), f64>,
    people: HashMap<usize, f64>,
    groups: HashMap<usize, f64>,
}

/// Counts of (person, group), persons and groups.
fn counts(items: &[(usize, usize)]) -> Counts {
    let mut counts = Counts { together: HashMap::new(), people: HashMap::new(), groups: HashMap::new() };
    for (person, group) in items {
        *counts.together.entry((*person, *group)).or_default() += 1.0;
        *counts.people.entry(*person).or_default() += 1.0;
        *counts.groups.entry(*group).or_default() += 1.0;
    }
    counts
}

/// Pairwise: of all pairs of faces put together, how many belong together, and the reverse. `items` are (person, group). Large
/// groups weigh by the square of their size. Without a pair to judge, 1.
pub fn pairwise(items: &[(usize, usize)]) -> Score {
    let c = counts(items);
    let pairs = |counts: &mut dyn Iterator<Item = f64>| counts.map(|n| n * (n - 1.0) / 2.0).sum::<f64>();
    let right = pairs(&mut c.together.values().copied());
    let share = |all: f64| if all > 0.0 { right / all } else { 1.0 };
    Score::new(share(pairs(&mut c.groups.values().copied())), share(pairs(&mut c.people.values().copied())))
}

/// BCubed (Bagga & Baldwin 1998; Amigó et al. 2009): precision and recall of each face's own group, averaged over faces.
pub fn bcubed(items: &[(usize, usize)]) -> Score {
    let c = counts(items);
    let all = (items.len() as f64).max(1.0);
    let (mut precision, mut recall) = (0.0, 0.0);
    for ((person, group), n) in &c.together {
        precision += n * n / c.groups.get(group).copied().unwrap_or(1.0);
        recall += n * n / c.people.get(person).copied().unwrap_or(1.0);
    }
    Score::new(precision / all, recall / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_match_hand_counts() {
        // Two people of 3 and 2; one face of the first went to the second.
        let items = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1)];
        let p = pairwise(&items);
        assert!((p.precision - 0.5).abs() < 1e-9 && (p.recall - 0.5).abs() < 1e-9, "{p:?}");
        let b = bcubed(&items);
        assert!((b.precision - (2.0 + 1.0 / 3.0 + 4.0 / 3.0) / 5.0).abs() < 1e-9, "{b:?}");
        assert!((b.recall - (4.0 / 3.0 + 1.0 / 3.0 + 2.0) / 5.0).abs() < 1e-9, "{b:?}");
        let perfect = [(0, 4), (1, 2), (0, 4)];
        assert!(pairwise(&perfect).f == 1.0 && bcubed(&perfect).f == 1.0);
    }
}
