//! The gallery answers: who is nearest, what else is known of them, and the decision.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use super::{Gallery, Inner, side::Side};
use crate::{
    face::Embedding,
    identity::{
        Candidates, Decision, GalleryError, Person, PersonHit, SearchQuery, Spread, Thresholds, Why, decision::assign,
    },
    ids::PersonId,
};

/// People fetched for a decision: enough that some may be ruled out by negative exemplars or by other faces of a picture.
const CANDIDATES: usize = 10;

impl Gallery {
    /// Who are they: the faces of one picture, of whom no two are one person. One answer a probe, in order.
    ///
    /// # Errors
    /// When an embedding is of another model or the index fails.
    pub async fn identify_together(
        &self,
        probes: &[Embedding],
        watchlists: &[String],
        thresholds: &Thresholds,
    ) -> Result<Vec<(Decision, Option<Person>)>, GalleryError> {
        let single: Vec<_> = probes.iter().map(|probe| (probe.clone(), Spread::default())).collect();
        self.identify_tracks(&single, watchlists, thresholds).await
    }

    /// The same for templates that fuse several looks, each with how much they differ.
    ///
    /// # Errors
    /// When an embedding is of another model or the index fails.
    pub async fn identify_tracks(
        &self,
        probes: &[(Embedding, Spread)],
        watchlists: &[String],
        thresholds: &Thresholds,
    ) -> Result<Vec<(Decision, Option<Person>)>, GalleryError> {
        let mut faces = Vec::with_capacity(probes.len());
        for (probe, spread) in probes {
            faces.push(Candidates { spread: *spread, ..self.candidates(probe, watchlists).await? });
        }
        Ok(assign(&faces, thresholds).into_iter().map(|d| self.named(d)).collect())
    }

    /// The nearest people on `watchlists` (empty means everyone), best first, at most 10, and what else is known of them: how near the
    /// probe is to their negative exemplars, their offsets, who of them look alike, and the classifier's probabilities where it decides.
    ///
    /// # Errors
    /// When the embedding is of another model or the index fails.
    pub async fn candidates(&self, probe: &Embedding, watchlists: &[String]) -> Result<Candidates, GalleryError> {
        let inner = &self.inner;
        let side = inner.side_of(probe)?;
        let people = inner.on_watchlists(watchlists);
        if people.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(Candidates::default());
        }
        let query = SearchQuery { limit: CANDIDATES, people };
        let mut hits = side.index.search(probe, &query).await?;
        // Never name who is not (or no longer) in the gallery, whatever the index still holds.
        let known = inner.people.read().unwrap_or_else(PoisonError::into_inner);
        hits.retain(|hit| known.contains_key(&hit.person));
        drop(known);
        let kept = side.negatives.read().unwrap_or_else(PoisonError::into_inner);
        let nearest = |hit: &PersonHit| {
            let near = kept.get(&hit.person)?.iter().filter_map(|n| n.similarity(probe).ok()).reduce(f32::max)?;
            Some((hit.person.clone(), near))
        };
        let negatives = hits.iter().filter_map(nearest).collect();
        drop(kept);
        let chances = inner.classifier_in_use(&side).and_then(|c| c.chances(probe, hits.iter().map(|h| &h.person)));
        Ok(Candidates { negatives, chances, ..inner.around(&side, hits) })
    }

    /// Adds the person to a decision. Somebody erased since the search is unknown.
    fn named(&self, decision: Decision) -> (Decision, Option<Person>) {
        let Some(hit) = decision.known() else { return (decision, None) };
        match self.person(&hit.person) {
            Some(person) => (decision, Some(person)),
            None => (Decision::uncompared(Why::erased(), decision.threshold), None),
        }
    }
}

impl Inner {
    /// Hits with what the gallery knows of their people whatever the probe: offsets, and who of them look alike.
    pub(super) fn around(&self, side: &Side, hits: Vec<PersonHit>) -> Candidates {
        let mut found = Candidates::of(hits);
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let offset = |h: &PersonHit| Some((h.person.clone(), people.get(&h.person)?.threshold_offset));
        found.offsets = found.hits.iter().filter_map(offset).filter(|(_, o)| *o != 0.0).collect();
        drop(people);
        let Some(range) = &side.range else { return found };
        let alike = side.alike.read().unwrap_or_else(PoisonError::into_inner);
        for (i, a) in found.hits.iter().enumerate() {
            for b in &found.hits[i + 1..] {
                if let Some(similarity) = alike.similarity(&a.person, &b.person) {
                    found.wider.set(&a.person, &b.person, range.wider(similarity));
                }
            }
        }
        drop(alike);
        found
    }

    /// People on at least one of the watchlists; `None` means everyone.
    fn on_watchlists(&self, watchlists: &[String]) -> Option<BTreeSet<PersonId>> {
        if watchlists.is_empty() {
            return None;
        }
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let listed = |p: &&Arc<Person>| p.watchlists.iter().any(|w| watchlists.contains(w));
        Some(people.values().filter(listed).map(|p| p.id.clone()).collect())
    }
}
