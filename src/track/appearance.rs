//! Whether a new track is a face that the camera lost a moment ago: one appearance must not appear twice. And whether two tracks took each
//! other's face when they met.
//!
//! In: templates of tracks of the same camera that were lost or ended lately, and the first template of the new one. Out: the track
//! it continues, if one stands out, or that it can't be told yet. Pure; the caller then calls [`super::Tracker::continue_as`] and withholds the second APPEARED
//! and the LEFT that it held back meanwhile.

use serde::{Deserialize, Serialize};

use crate::{
    face::Embedding,
    ids::TrackId,
    time::{Timestamp, seconds_between},
};

/// A track that gave no usable look for this long is told as APPEARED anyway.
pub const APPEAR_WITHIN_MS: f64 = 700.0;
/// Looks after which a new track no longer waits to be an appearance that goes on.
pub const SURE_LOOKS: u32 = 3;
/// Looks that may be taken at once, budget and interval permitting, when one was doubted.
pub const DOUBTED_LOOKS: u32 = 2;

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
        Self { within_ms: 3000, extra: 0.08, lead: 0.05 }
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

/// A first look that is at most this much less similar than needed (similarity) waits for others: a face that comes out from behind something
/// is covered in part.
const UNSURE: f32 = 0.15;

/// What a new track is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It continues this track.
    Continues(TrackId),
    /// It may continue one; another look will tell.
    Unsure,
    /// It is somebody who was not here a moment ago.
    New,
}

/// What the new track is. `began` is the capture time of the new track's first detection, `threshold` the
/// identification threshold of the model. Tracks that were still seen when the new one began are never continued: two faces at
/// one time are two people.
pub fn find_return(
    departed: &[Departed],
    template: &Embedding,
    began: Timestamp,
    threshold: f32,
    settings: &ReturnSettings,
) -> Origin {
    let window = 0.0..=f64::from(settings.within_ms) / 1000.0;
    let mut near: Vec<(f32, &TrackId)> = departed
        .iter()
        .filter(|d| window.contains(&seconds_between(d.last_seen, began)))
        .filter_map(|d| Some((d.template.similarity(template).ok()?, &d.track)))
        .filter(|(similarity, _)| similarity.is_finite())
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let Some((best, track)) = near.first() else { return Origin::New };
    let lead = near.get(1).map_or(f32::INFINITY, |second| best - second.0);
    let over = best - (threshold + settings.extra);
    if over >= 0.0 && lead >= settings.lead {
        Origin::Continues((*track).clone())
    } else if over >= -UNSURE {
        Origin::Unsure
    } else {
        Origin::New
    }
}

/// Whether two tracks took each other's face: what each shows lately (`doubted`) is as near to the other's template as a return has to
/// be, and nearer than to its own. Two people who met and went apart would otherwise become four appearances.
pub fn are_exchanged(a: &Shows, b: &Shows, threshold: f32, settings: &ReturnSettings) -> bool {
    let near = |x: &Embedding, y: &Embedding| x.similarity(y).unwrap_or(f32::NEG_INFINITY);
    let over = |now: &Embedding, other: &Embedding, own: &Embedding| {
        let similarity = near(now, other);
        similarity >= threshold + settings.extra && similarity >= near(now, own) + settings.lead
    };
    over(&a.doubted, &b.template, &a.template) && over(&b.doubted, &a.template, &b.template)
}

/// A track whose looks changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Shows {
    /// Fused embedding of its looks before.
    pub template: Embedding,
    /// Fused embedding of the looks since, which are unlike those.
    pub doubted: Embedding,
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

    fn find(all: &[Departed], began: i64) -> Origin {
        let began = Timestamp::from_second(began).unwrap();
        find_return(all, &embedding([1.0, 0.0]), began, 0.5, &ReturnSettings::default())
    }

    #[test]
    fn the_same_face_a_moment_later_continues_its_track() {
        let all = [departed(10, [0.0, 1.0]), departed(10, [0.9, 0.43])];
        assert_eq!(find(&all, 12), Origin::Continues(all[1].track.clone()));
    }

    #[test]
    fn not_too_late_not_at_the_same_time_not_unlike_not_ambiguous() {
        assert_eq!(find(&[], 12), Origin::New);
        assert_eq!(find(&[departed(10, [0.9, 0.43])], 15), Origin::New);
        assert_eq!(find(&[departed(10, [0.9, 0.43])], 9), Origin::New);
        assert_eq!(find(&[departed(10, [0.3, 0.95])], 11), Origin::New);
        assert_eq!(find(&[departed(10, [0.55, 0.83])], 11), Origin::Unsure);
        assert_eq!(find(&[departed(10, [0.9, 0.43]), departed(10, [0.92, 0.39])], 11), Origin::Unsure);
    }

    #[test]
    fn two_who_took_each_others_place_are_noticed_and_others_are_not() {
        let (x, y, between) = ([1.0, 0.0], [0.0, 1.0], [0.7, 0.71]);
        let shows = |was: [f32; 2], is: [f32; 2]| Shows { template: embedding(was), doubted: embedding(is) };
        let exchanged = |a: Shows, b: Shows| are_exchanged(&a, &b, 0.5, &ReturnSettings::default());
        assert!(exchanged(shows(x, y), shows(y, x)));
        assert!(!exchanged(shows(x, y), shows(y, [-1.0, 0.0])), "the other one shows somebody new");
        assert!(!exchanged(shows(x, between), shows(y, x)), "no clear lead");
    }

    #[test]
    fn another_models_template_is_ignored() {
        let mut other = departed(10, [1.0, 0.0]);
        other.template.model = "n".parse().unwrap();
        assert_eq!(find(&[other], 11), Origin::New);
    }
}
