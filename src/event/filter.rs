//! Placeholder.

/// Which events are wanted; empty lists do not restrict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFilter {
    /// Cameras.
    pub cameras: Vec<crate::ids::CameraId>,
    /// Labels the camera must have.
    pub camera_labels: std::collections::BTreeMap<String, String>,
    /// People.
    pub people: Vec<crate::ids::PersonId>,
    /// Watchlists.
    pub watchlists: Vec<String>,
    /// Kinds.
    pub kinds: Vec<super::EventKind>,
    /// Least confidence of events that name somebody.
    pub min_confidence: f32,
}
