//! Whether a new track is a face that the camera lost a moment ago: one appearance must not appear twice.
//!
//! In: templates of tracks of the same camera that were lost or ended lately, and the first template of the new one. Out: the track
//! it continues, if one stands out. Pure; the caller then calls [`super::Tracker::continue_as`] and withholds the second APPEARED
//! and the LEFT that it held back meanwhile.

use serde::{Deserialize, Serialize};

use crate::{
    face::Embedding,
    ids::TrackId,
    time::{Timestamp, seconds_between},
};

/// When a new track continues an ended one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReturnSettings {
    /// Longest absence, milliseconds. The LEFT of a track is held back as long.
    pub within_ms: u32,
    /// Similarity above the model's identification threshold that is needed. The same face in the same light a second later
    /// is far more similar than an enrolled picture, so this can be strict.
    pub extra: f32,
    /// Least lead over the second nearest ended track, in similarity.
    pub lead: f32,
}

impl Default for ReturnSettings {
    fn default() -> Self {
        Self { within_ms: 2000, extra: 0.08, lead: 0.05 }
    }
}

/// A track that ended, with what it looked like.
#[derive(Debug, Clone, PartialEq)]
pub struct Departed {
    /// Its id.
    pub track: TrackId,
    /// Capture time of its last detection.
    pub last_seen: Timestamp,
    /// Fused embedding of its looks.
    pub template: Embedding,
}

/// The ended track that the new one continues. `began` is the capture time of the new track's first detection, `threshold` the
/// identification threshold of the model. Tracks that were still seen when the new one began are never continued: two faces at
/// one time are two people.
pub fn find_return(
    departed: &[Departed],
    template: &Embedding,
    began: Timestamp,
    threshold: f32,
    settings: &ReturnSettings,
) -> Option<TrackId> {
    let window = 0.0..=f64::from(settings.within_ms) / 1000.0;
    let mut near: Vec<(f32, &TrackId)> = departed
        .iter()
        .filter(|d| window.contains(&seconds_between(d.last_seen, began)))
        .filter_map(|d| Some((d.template.similarity(template).ok()?, &d.track)))
        .filter(|(similarity, _)| similarity.is_finite())
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (best, track) = near.first()?;
    let lead = near.get(1).map_or(f32::INFINITY, |second| best - second.0);
    (*best >= threshold + settings.extra && lead >= settings.lead).then(|| (*track).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Distance;

    fn embedding(values: [f32; 2]) -> Embedding {
        let model = "m".parse().unwrap();
        Embedding { model, distance: Distance::Cosine, values: values.as_slice().into() }
    }

    fn departed(second: i64, values: [f32; 2]) -> Departed {
        let last_seen = Timestamp::from_second(second).unwrap();
        Departed { track: TrackId::generate(), last_seen, template: embedding(values) }
    }

    fn find(all: &[Departed], began: i64) -> Option<TrackId> {
        let began = Timestamp::from_second(began).unwrap();
        find_return(all, &embedding([1.0, 0.0]), began, 0.5, &ReturnSettings::default())
    }

    #[test]
    fn the_same_face_a_moment_later_continues_its_track() {
        let all = [departed(10, [0.0, 1.0]), departed(10, [0.9, 0.43])];
        assert_eq!(find(&all, 12), Some(all[1].track.clone()));
    }

    #[test]
    fn not_too_late_not_at_the_same_time_not_unlike_not_ambiguous() {
        assert_eq!(find(&[], 12), None);
        assert_eq!(find(&[departed(10, [0.9, 0.43])], 15), None);
        assert_eq!(find(&[departed(10, [0.9, 0.43])], 9), None);
        assert_eq!(find(&[departed(10, [0.55, 0.83])], 11), None);
        assert_eq!(find(&[departed(10, [0.9, 0.43]), departed(10, [0.92, 0.39])], 11), None);
    }

    #[test]
    fn another_models_template_is_ignored() {
        let mut other = departed(10, [1.0, 0.0]);
        other.template.model = "n".parse().unwrap();
        assert_eq!(find(&[other], 11), None);
    }
}
