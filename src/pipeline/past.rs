//! "Was this face here before?": a picture against the templates kept with past decisions and with unknown faces.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    picture,
    unknowns::{Unknowns, UnknownsError},
};
use crate::{
    event::{Event, EventKind, log::EventQuery},
    face::{Detection, Embedding, Quality},
    ids::{TrackId, UnknownId},
};

/// Events read at once.
const CHUNK: usize = 512;
/// Decisions looked at, at most: the newest.
const LOOKED_AT: usize = 200_000;

/// A past appearance that looks like the face of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PastHit {
    /// The newest decision about the appearance.
    pub event: Event,
    /// Similarity of the appearance's template to the face.
    pub similarity: f32,
    /// The group that holds the appearance, when it is kept as unknown.
    pub unknown: Option<UnknownId>,
}

/// What a search of the past found.
#[derive(Debug, Clone)]
pub struct Past {
    /// The face that was looked for: the largest of the picture.
    pub face: (Detection, Quality),
    /// Threshold that applied.
    pub threshold: f32,
    /// The hits, most similar first.
    pub hits: Vec<PastHit>,
    /// Decisions that were compared.
    pub compared: usize,
    /// Whether older decisions were left out.
    pub cut: bool,
}

/// What may be found.
#[derive(Debug, Clone, Default)]
pub struct PastQuery {
    /// Which events; kinds other than decisions are never found.
    pub events: EventQuery,
    /// Least similarity; `None` takes the identification threshold.
    pub threshold: Option<f32>,
}

impl Unknowns {
    /// Past appearances whose template is as near to the largest face of a picture as the threshold asks. One hit an appearance.
    ///
    /// # Errors
    /// When the picture can't be used, or store or log fails.
    pub async fn search_past(&self, image: Bytes, query: PastQuery) -> Result<Past, UnknownsError> {
        let engine = self.desk().engine.now();
        let threshold = self.desk().thresholds_of(&engine, picture::requested(query.threshold)).similarity;
        let (face, probe) = self.desk().largest(&engine, image).await?;
        let kept = self.similarities(probe.clone()).await?;
        let kept: HashMap<TrackId, (UnknownId, f32)> =
            kept.into_iter().map(|(face, group, similarity)| (face.track, (group, similarity))).collect();
        let mut finding = Finding { probe, threshold, kept, hits: HashMap::new(), bare: HashMap::new() };
        let mut page = EventQuery { limit: CHUNK, below: None, ..query.events.clone() };
        if page.filter.kinds.is_empty() {
            page.filter.kinds = vec![EventKind::Recognized, EventKind::Unknown, EventKind::Corrected];
        }
        let (mut compared, mut cut) = (0, false);
        loop {
            let events = self.log().list(&page).await?;
            let Some(last) = events.last() else { break };
            page.below = Some(last.position);
            let full = events.len() == CHUNK;
            compared += events.len();
            events.into_iter().for_each(|event| finding.take(event));
            cut = full && compared >= LOOKED_AT;
            if !full || cut {
                break;
            }
        }
        let mut hits: Vec<PastHit> = finding.hits.into_values().collect();
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(b.event.position.cmp(&a.event.position)));
        hits.truncate(query.events.limit);
        Ok(Past { face, threshold, hits, compared, cut })
    }
}

/// A search under way; events come newest first.
struct Finding {
    probe: Embedding,
    threshold: f32,
    kept: HashMap<TrackId, (UnknownId, f32)>,
    hits: HashMap<TrackId, PastHit>,
    /// Newest decisions without a template, such as corrections by a person: an older one of the appearance may hit.
    bare: HashMap<TrackId, Event>,
}

impl Finding {
    fn take(&mut self, event: Event) {
        let Some(track) = event.body.track.clone() else { return };
        let kept = self.kept.get(&track).copied();
        let own = event.body.template.as_ref().filter(|_| event.body.model.as_ref() == Some(&self.probe.model));
        let own = own.filter(|values| values.len() == self.probe.values.len());
        let own = own.map(|values| self.probe.distance.similarity(&self.probe.values, values));
        // The template at the end of an appearance rests on more looks than the one of its first decision.
        let similarity = own.into_iter().chain(kept.map(|(_, s)| s)).reduce(f32::max);
        match (similarity, self.hits.get_mut(&track)) {
            (Some(similarity), Some(hit)) => hit.similarity = hit.similarity.max(similarity),
            (Some(similarity), None) if similarity >= self.threshold => {
                let event = self.bare.remove(&track).unwrap_or(event);
                self.hits.insert(track, PastHit { event, similarity, unknown: kept.map(|(group, _)| group) });
            }
            (None, None) => {
                self.bare.entry(track).or_insert(event);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::NewEvent, face::Distance, ids::EventId, time::now};

    fn event(position: u64, kind: EventKind, track: &str, template: Option<[f32; 2]>) -> Event {
        let mut body = NewEvent::new(EventId::generate(), kind, "door".parse().unwrap(), Default::default(), now());
        body.track = Some(track.parse().unwrap());
        body.model = Some("m".parse().unwrap());
        body.template = template.map(|t| t.to_vec());
        Event { position, body, has_image: false, feedback: None }
    }

    #[test]
    fn an_appearance_is_found_once_by_its_newest_decision() {
        let probe =
            Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values: [1.0, 0.0].as_slice().into() };
        let kept = HashMap::from([("t-stranger".parse().unwrap(), (UnknownId::new(3), 0.9))]);
        let mut finding = Finding { probe, threshold: 0.5, kept, hits: HashMap::new(), bare: HashMap::new() };
        finding.take(event(9, EventKind::Corrected, "t-anna", None));
        finding.take(event(8, EventKind::Unknown, "t-stranger", Some([0.6, 0.8])));
        finding.take(event(7, EventKind::Unknown, "t-else", Some([0.0, 1.0])));
        finding.take(event(6, EventKind::Recognized, "t-anna", Some([0.8, 0.6])));
        finding.take(event(5, EventKind::Left, "t-none", None));
        let mut other = event(4, EventKind::Recognized, "t-model", Some([1.0, 0.0]));
        other.body.model = Some("n".parse().unwrap());
        finding.take(other);
        let mut found: Vec<_> =
            finding.hits.into_values().map(|h| (h.event.position, h.similarity, h.unknown)).collect();
        found.sort_by_key(|h| h.0);
        assert_eq!(found, [(8, 0.9, Some(UnknownId::new(3))), (9, 0.8, None)]);
    }
}
