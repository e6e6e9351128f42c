//! What is read off a simulated cluster.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

use super::{Owner, Simulation};

/// What happened since the last [`Simulation::measure`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Simulated seconds.
    pub seconds: f64,
    /// Cameras that have another owner than before.
    pub moved: usize,
    /// Longest time in which a camera's events were told by nobody, seconds.
    pub longest_gap_s: f64,
    /// Messages from workers a second: renewals, claims.
    pub requests_per_s: f64,
    /// Messages to workers a second: every change, to every worker.
    pub deliveries_per_s: f64,
    /// Claims, and those that came too late.
    pub claims: u64,
    /// Claims that somebody else was faster with.
    pub lost_claims: u64,
    /// Events that the log took.
    pub events: u64,
    /// Events of workers that had lost their camera, refused by the log.
    pub fenced: u64,
}

impl Simulation {
    /// Cameras whose events somebody may tell.
    pub fn watched(&self) -> usize {
        let tells = |camera: usize, (place, life): (usize, u64)| {
            self.workers
                .get(place)
                .is_some_and(|w| w.alive && !w.paused && w.running.get(&camera) == Some(&(life, true)))
        };
        self.fence.iter().enumerate().filter(|(camera, fence)| fence.is_some_and(|f| tells(*camera, f))).count()
    }

    /// Cameras of the worker that has the most, and of the one that has the fewest.
    pub fn spread(&self) -> (usize, usize) {
        let alive = self.workers.iter().filter(|w| w.alive && !w.draining);
        let counts: Vec<usize> = alive.map(|w| w.running.values().filter(|(_, tells)| *tells).count()).collect();
        (counts.iter().copied().max().unwrap_or(0), counts.iter().copied().min().unwrap_or(0))
    }

    /// What happened since the last time, and begins to count anew.
    pub fn measure(&mut self) -> Measured {
        let seconds = (self.now - self.since).as_secs_f64();
        let now = self.now;
        let open = self.told.iter().map(|told| now - *told).max().unwrap_or_default();
        let owners: Vec<Option<Owner>> =
            self.owners.iter().map(|o| o.as_ref().map(|(owner, _)| owner.clone())).collect();
        let moved = owners.iter().zip(&self.before).filter(|(now, before)| now != before).count();
        let rate = |count: u64| count as f64 / seconds.max(1e-9);
        let measured = Measured {
            seconds,
            moved,
            longest_gap_s: self.gap.max(open).as_secs_f64(),
            requests_per_s: rate(self.requests),
            deliveries_per_s: rate(self.deliveries),
            claims: self.claims,
            lost_claims: self.lost,
            events: self.events,
            fenced: self.fenced,
        };
        (self.since, self.before, self.gap) = (now, owners, Duration::ZERO);
        (self.requests, self.deliveries, self.claims, self.lost, self.events, self.fenced) = (0, 0, 0, 0, 0, 0);
        measured
    }

    /// Owners that two workers believe to be at once: none, or the fence must tell them apart.
    pub fn contested(&self) -> usize {
        let mut seen = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for worker in self.workers.iter().filter(|w| w.alive) {
            for (camera, _) in worker.running.iter().filter(|(_, (_, tells))| *tells) {
                if !seen.insert(*camera) {
                    twice.insert(*camera);
                }
            }
        }
        twice.len()
    }
}
