//! What is said about a track: one statement, corrected only on stronger evidence.
//!
//! In: looks ([`TrackDecider::look`]), the gallery's decisions about the fused template ([`TrackDecider::assess`]) and time
//! ([`TrackDecider::tick`], [`TrackDecider::end`]). Out: [`Statement`]s to publish. Pure state machine:
//!
//! ```text
//! nothing said ──known: 2 looks agree, or 1 is far above the threshold──► recognized ──another person, clearly──► corrected
//!      │                                                                                (never to unknown, by default)
//!      └──────unknown: 3 looks, or 2 s after the first; near the threshold up to 4 s──► unknown ──known, 2 looks──► corrected
//! ```

use serde::{Deserialize, Serialize};

use super::{
    Why, WhyCode,
    decision::Decision,
    evidence::{Evidence, EvidenceSettings, Look, Taken},
};
use crate::{
    face::Embedding,
    time::{Timestamp, seconds_between},
};

/// When a track's identity is published and corrected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeciderSettings {
    /// Looks that must agree before a person is named …
    pub min_looks: u32,
    /// … unless a single one exceeds the threshold by this similarity.
    pub single_look_extra: f32,
    /// Unknown is said after this many looks …
    pub unknown_looks: u32,
    /// … or this long after the first look, milliseconds …
    pub unknown_after_ms: u32,
    /// … but not while the best candidate is this near below the threshold (similarity), …
    pub near_band: f32,
    /// … for at most this long after the first look, milliseconds.
    pub decide_by_ms: u32,
    /// Similarity above the threshold that turns an unknown into a person.
    pub correct_extra: f32,
    /// Lead over everybody else that turns a person into another …
    pub correct_lead: f32,
    /// … with at least this many looks that agree.
    pub correct_looks: u32,
    /// Corrections of one track at most.
    pub max_corrections: u32,
    /// Whether a person may be taken back to unknown when the template falls out of the near band.
    pub withdraw: bool,
    /// How looks are fused.
    pub evidence: EvidenceSettings,
}

impl Default for DeciderSettings {
    fn default() -> Self {
        Self {
            min_looks: 2,
            single_look_extra: 0.08,
            unknown_looks: 3,
            unknown_after_ms: 2000,
            near_band: 0.04,
            decide_by_ms: 4000,
            correct_extra: 0.02,
            correct_lead: 0.05,
            correct_looks: 3,
            max_corrections: 2,
            withdraw: false,
            evidence: EvidenceSettings::default(),
        }
    }
}

/// A statement to publish: RECOGNIZED or UNKNOWN by its verdict, CORRECTED when it replaces an earlier one.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Who, with figures; an unknown says why.
    pub decision: Decision,
    /// Looks it rests on.
    pub looks: u32,
    /// Whether it replaces the track's earlier statement.
    pub correction: bool,
}

/// Decides what is said about one track.
#[derive(Debug, Clone)]
pub struct TrackDecider {
    settings: DeciderSettings,
    threshold: f32,
    evidence: Evidence,
    first_look: Option<Timestamp>,
    /// The gallery's last decision and the number of looks behind it.
    last: Option<(Decision, u32)>,
    said: Option<Statement>,
    corrections: u32,
}

impl TrackDecider {
    /// A decider for a new track; `threshold` is the identification threshold in force (a similarity).
    pub fn new(settings: DeciderSettings, threshold: f32) -> Self {
        let evidence = Evidence::new(settings.evidence.clone(), threshold);
        Self { settings, threshold, evidence, first_look: None, last: None, said: None, corrections: 0 }
    }

    /// Takes a look in. When it agrees, ask the gallery about [`TrackDecider::template`] and pass the answer to
    /// [`TrackDecider::assess`]. After [`Taken::Switched`] the track shows another face: cut it ([`TrackDecider::split`]).
    pub fn look(&mut self, look: Look) -> Taken {
        let at = look.at;
        let taken = self.evidence.add(look);
        if taken != Taken::Refused {
            self.first_look.get_or_insert(at);
        }
        taken
    }

    /// Cuts a track after [`Taken::Switched`]: this decider keeps the first face's looks and what was said about it; the other holds
    /// the looks of the face that the track shows now, and has said nothing.
    pub fn split(&mut self) -> Self {
        let evidence = self.evidence.split();
        let first_look = evidence.began();
        Self { first_look, evidence, ..Self::new(self.settings.clone(), self.threshold) }
    }

    /// Drops the looks, as when another model embeds from now on; `threshold` is the one then in force. What was said stays, and so does
    /// the last decision until there is a new one.
    pub fn start_anew(&mut self, threshold: f32) {
        self.evidence = Evidence::new(self.settings.evidence.clone(), threshold);
        self.threshold = threshold;
    }

    /// Gives the looks in doubt to the track that they show, and takes its own: see [`Evidence::exchange`].
    pub fn exchange(&mut self, other: &mut Self) {
        self.evidence.exchange(&mut other.evidence);
    }

    /// The fused template to ask the gallery about, and to keep with events; `None` before the first look.
    pub fn template(&self) -> Option<Embedding> {
        self.evidence.template()
    }

    /// Number of looks in the template.
    pub fn looks(&self) -> u32 {
        self.evidence.looks()
    }

    /// The looks.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What was said last.
    pub fn said(&self) -> Option<&Statement> {
        self.said.as_ref()
    }

    /// Whether asking the gallery again could change what was said: nobody is named yet. For changes of the gallery.
    pub fn is_open(&self) -> bool {
        self.evidence.looks() > 0 && self.said.as_ref().is_none_or(|s| s.decision.known().is_none())
    }

    /// Whether there are looks that the gallery was never asked about.
    pub fn is_unasked(&self) -> bool {
        self.evidence.looks() > 0 && self.last.is_none()
    }

    /// Takes the gallery's decision about the template of `looks` looks in, made with their [`Evidence::spread`]. At most one statement.
    pub fn assess(&mut self, now: Timestamp, looks: u32, decision: Decision) -> Option<Statement> {
        self.last = Some((decision, looks));
        self.tick(now)
    }

    /// Time passed: says unknown when its time has come. Call it with each frame, matched or not.
    pub fn tick(&mut self, now: Timestamp) -> Option<Statement> {
        let (decision, looks) = self.last.clone()?;
        match self.said.as_ref().map(|s| s.decision.clone()) {
            None => self.first(now, decision, looks),
            Some(said) => self.corrected(&said, decision, looks),
        }
    }

    /// The track ended: the statement that is still owed, if none was made. `unusable` says why no crop could be used.
    pub fn end(&mut self, unusable: Option<Why>) -> Option<Statement> {
        if self.said.is_some() {
            return None;
        }
        let (decision, looks) = match self.last.clone() {
            Some((decision, looks)) => (self.withheld(decision, looks), looks),
            None => {
                let none = || Why::plain(WhyCode::NoLook, "no picture of the face could be used before it was gone");
                (Decision::uncompared(unusable.unwrap_or_else(none), self.threshold), self.evidence.looks())
            }
        };
        Some(self.say(decision, looks))
    }

    fn first(&mut self, now: Timestamp, decision: Decision, looks: u32) -> Option<Statement> {
        if self.suffices(&decision, looks, 0.0) {
            return Some(self.say(decision, looks));
        }
        let passed_ms = self.first_look.map_or(0.0, |at| seconds_between(at, now)).max(0.0) * 1000.0;
        let due = looks >= self.settings.unknown_looks || passed_ms >= f64::from(self.settings.unknown_after_ms);
        let near = decision.similarity >= decision.threshold - self.settings.near_band;
        if due && (!near || passed_ms >= f64::from(self.settings.decide_by_ms)) {
            let decision = self.withheld(decision, looks);
            return Some(self.say(decision, looks));
        }
        None
    }

    fn corrected(&mut self, said: &Decision, decision: Decision, looks: u32) -> Option<Statement> {
        let better = match (said.known(), decision.known()) {
            (None, Some(_)) => self.suffices(&decision, looks, self.settings.correct_extra),
            (Some(a), Some(b)) => {
                a.person != b.person
                    && looks >= self.settings.correct_looks
                    && decision.margin >= self.settings.correct_lead
            }
            (Some(_), None) => {
                self.settings.withdraw
                    && looks >= self.settings.correct_looks
                    && decision.similarity < decision.threshold - self.settings.near_band
            }
            (None, None) => false,
        };
        if !better || self.corrections >= self.settings.max_corrections {
            return None;
        }
        self.corrections += 1;
        Some(self.say(decision, looks))
    }

    /// Whether a known decision rests on enough: several looks that agree, or one far above the threshold.
    fn suffices(&self, decision: &Decision, looks: u32, extra: f32) -> bool {
        let above = decision.similarity - decision.threshold;
        decision.known().is_some()
            && ((looks >= self.settings.min_looks && above >= extra)
                || (looks >= 1 && above >= self.settings.single_look_extra))
    }

    /// The decision as it is published when nobody may be named on so few looks.
    fn withheld(&self, mut decision: Decision, looks: u32) -> Decision {
        if decision.known().is_some() && !self.suffices(&decision, looks, 0.0) {
            let needed = self.settings.min_looks;
            let text = format!(
                "too few looks: {looks} at similarity {:.2}, needs {needed} that agree or one of {:.2}",
                decision.similarity,
                decision.threshold + self.settings.single_look_extra
            );
            decision.withdraw(Why::new(WhyCode::TooFewLooks, text, looks as f32, needed as f32));
        }
        decision
    }

    fn say(&mut self, decision: Decision, looks: u32) -> Statement {
        let statement = Statement { decision, looks, correction: self.said.is_some() };
        self.said = Some(statement.clone());
        statement
    }
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
