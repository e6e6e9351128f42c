//! Detections joined over time: one track per appearance.
