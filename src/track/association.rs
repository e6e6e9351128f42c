//! The assignment of detections to tracks: at most one of each, greatest total weight.
//!
//! In: weights of the allowed pairs. Out: the pairs chosen. Solved by the Hungarian method (Kuhn-Munkres) in each connected
//! group of rows and columns, so a crowd of a hundred faces costs little: only neighbours compete.

use pathfinding::prelude::{Matrix, kuhn_munkres};

/// A forbidden pair inside a group; far below the sum of all real weights, never chosen because leaving a row free costs 0.
const FORBIDDEN: i64 = -(1 << 40);

/// Chooses pairs `(row, column)` with the greatest sum of weights; a row or column appears at most once.
///
/// `allowed` holds `(row, column, weight)` with weights from 1 to 2^30. Pairs not named are forbidden, and a row
/// stays free where that is better. Deterministic: depends on the values only, not on their order (ties aside).
pub fn assign(allowed: &[Pair]) -> Vec<(usize, usize)> {
    let mut chosen = Vec::new();
    for group in groups(allowed) {
        match group.as_slice() {
            [] => {}
            [(row, column, _)] => chosen.push((*row, *column)),
            _ => solve(&group, &mut chosen),
        }
    }
    chosen.sort_unstable();
    chosen
}

/// An allowed pair: row, column, weight.
pub type Pair = (usize, usize, i64);

/// Splits pairs into groups that share neither rows nor columns.
fn groups(allowed: &[Pair]) -> Vec<Vec<Pair>> {
    let mut groups: Vec<Vec<Pair>> = Vec::new();
    for pair in allowed {
        let touches = |group: &Vec<Pair>| group.iter().any(|p| p.0 == pair.0 || p.1 == pair.1);
        let (mut joined, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(touches);
        groups = apart;
        let mut group: Vec<Pair> = joined.drain(..).flatten().collect();
        group.push(*pair);
        groups.push(group);
    }
    groups
}

fn solve(group: &[Pair], chosen: &mut Vec<(usize, usize)>) {
    let rows = distinct(group.iter().map(|p| p.0));
    let columns = distinct(group.iter().map(|p| p.1));
    // One spare column per row, of weight 0: "stays free". Makes rows <= columns always true.
    let mut weights = Matrix::new(rows.len(), columns.len() + rows.len(), FORBIDDEN);
    for r in 0..rows.len() {
        for spare in 0..rows.len() {
            weights[(r, columns.len() + spare)] = 0;
        }
    }
    for (row, column, weight) in group {
        if let (Ok(r), Ok(c)) = (rows.binary_search(row), columns.binary_search(column)) {
            weights[(r, c)] = (*weight).clamp(1, 1 << 30);
        }
    }
    let (_, assigned) = kuhn_munkres(&weights);
    for (row, &c) in rows.iter().zip(&assigned) {
        if let Some(&column) = columns.get(c) {
            chosen.push((*row, column));
        }
    }
}

fn distinct(values: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut all: Vec<usize> = values.collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_best_sum_not_the_best_pair() {
        // Greedy would take (0, 0) for 10 and leave row 1 with nothing.
        assert_eq!(assign(&[(0, 0, 10), (0, 1, 9), (1, 0, 9)]), [(0, 1), (1, 0)]);
    }

    #[test]
    fn more_rows_than_columns_and_nothing_at_all() {
        assert_eq!(assign(&[]), []);
        assert_eq!(assign(&[(5, 2, 1), (7, 2, 3), (9, 2, 2)]), [(7, 2)]);
    }

    /// Best sum by trying everything.
    fn best(pairs: &[Pair], rows: u32, columns: u32) -> i64 {
        let Some((&(r, c, w), rest)) = pairs.split_first() else { return 0 };
        let without = best(rest, rows, columns);
        if rows & (1 << r) != 0 || columns & (1 << c) != 0 {
            return without;
        }
        without.max(w + best(rest, rows | 1 << r, columns | 1 << c))
    }

    proptest! {
        #[test]
        fn is_optimal_and_one_to_one(pairs in proptest::collection::btree_map((0usize..4, 0usize..4), 1i64..100, 0..10)) {
            let pairs: Vec<_> = pairs.into_iter().map(|((r, c), w)| (r, c, w)).collect();
            let chosen = assign(&pairs);
            let mut rows: Vec<_> = chosen.iter().map(|p| p.0).collect();
            let mut columns: Vec<_> = chosen.iter().map(|p| p.1).collect();
            rows.dedup();
            columns.sort_unstable();
            columns.dedup();
            prop_assert_eq!((rows.len(), columns.len()), (chosen.len(), chosen.len()));
            let weight = |p: &(usize, usize)| pairs.iter().find(|q| (q.0, q.1) == *p).map(|q| q.2);
            let sum: Option<i64> = chosen.iter().map(weight).sum();
            prop_assert_eq!(sum, Some(best(&pairs, 0, 0)));
        }
    }
}
