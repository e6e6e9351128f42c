//! What runs together: a pure rule over the waiting requests.

use std::time::{Duration, Instant};

/// A waiting request as the rule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<S> {
    /// Requests of one shape may share a batch.
    pub shape: S,
    /// Since when it waits.
    pub since: Instant,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Run these, by index, oldest first.
    Run(Vec<usize>),
    /// A batch may still fill up until then.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// Cuts a batch: the oldest request leads (so no camera starves: each has one request at a time and joins at the end), and those of
/// its shape follow up to `max`. A batch runs when it is full or its leader has waited for `wait`; zero runs what is there.
pub fn cut<S: PartialEq>(waiting: &[Waiting<S>], now: Instant, max: usize, wait: Duration) -> Cut {
    let Some(leader) = waiting.first() else { return Cut::Idle };
    let batch: Vec<usize> =
        waiting.iter().enumerate().filter(|(_, w)| w.shape == leader.shape).map(|(i, _)| i).take(max.max(1)).collect();
    let due = leader.since + wait;
    if batch.len() >= max.max(1) || now >= due { Cut::Run(batch) } else { Cut::WaitUntil(due) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn full_or_due_and_never_mixed() {
        let t = Instant::now();
        let w = |shape, ms| Waiting { shape, since: t + Duration::from_millis(ms) };
        let waiting = [w('a', 0), w('b', 1), w('a', 2)];
        let wait = Duration::from_millis(10);
        assert_eq!(cut(&waiting, t + Duration::from_millis(3), 2, wait), Cut::Run(vec![0, 2]));
        assert_eq!(cut(&waiting, t + Duration::from_millis(3), 4, wait), Cut::WaitUntil(t + wait));
        assert_eq!(cut(&waiting, t + Duration::from_millis(10), 4, wait), Cut::Run(vec![0, 2]));
        assert_eq!(cut(&waiting, t, 1, Duration::ZERO), Cut::Run(vec![0]));
        assert_eq!(cut::<char>(&[], t, 4, wait), Cut::Idle);
    }

    proptest! {
        #[test]
        fn the_oldest_always_leads(shapes in proptest::collection::vec(0u8..3, 1..20), max in 0usize..9) {
            let t = Instant::now();
            let waiting: Vec<_> = shapes.iter().map(|&shape| Waiting { shape, since: t }).collect();
            let Cut::Run(batch) = cut(&waiting, t, max, Duration::ZERO) else { panic!("nothing ran") };
            prop_assert_eq!(batch[0], 0);
            prop_assert!(batch.len() <= max.max(1));
            prop_assert!(batch.iter().all(|&i| shapes[i] == shapes[0]));
        }
    }
}
