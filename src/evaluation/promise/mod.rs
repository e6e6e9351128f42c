//! Is the promise of `visage calibrate` kept? On people held out, in single pictures and over tracks, and on simulated sites.
//!
//! In: embeddings of people ([`looks`]) or none ([`sphere`]). Out: shares of strangers who were named ([`split`]) with their intervals.
//! The threshold is learned by the code that serves: [`crate::identity::impostors`] and [`crate::identity::Calibration`].

pub mod looks;
pub mod sphere;
pub mod split;

use serde::Serialize;

use super::scores::wilson_of;

/// A share with the 95 % interval of Wilson (JASA 1927).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The share, 0 to 1.
    pub share: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Independent trials that the interval rests on.
    pub trials: usize,
}

impl Share {
    /// A share (0 to 1) of `trials` independent trials; the share may be a mean over more that are not independent.
    pub fn of(share: f64, trials: usize) -> Self {
        let (low, high) = wilson_of(share, trials);
        Self { share, low, high, trials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // Newcombe, Statistics in Medicine 1998, table I: 81 of 263 and 0 of 20.
        let s = Share::of(81.0 / 263.0, 263);
        assert!((s.low - 0.2553).abs() < 5e-4 && (s.high - 0.3662).abs() < 5e-4, "{s:?}");
        let s = Share::of(0.0, 20);
        assert!(s.low == 0.0 && (s.high - 0.1611).abs() < 5e-4, "{s:?}");
        assert_eq!(Share::of(0.0, 0).high, 1.0);
    }
}
