//! One search of a camera's frame for faces, in no more of it than may have changed.

use super::CameraFaces;
use crate::{
    face::{Detection, FaceError},
    frame::{Frame, luma::LumaGrid},
    telemetry,
};

impl CameraFaces {
    /// Faces of a frame, which is searched in the parts that may have changed, or as a whole. The list is complete either way.
    pub(super) async fn search(&mut self, frame: &Frame, grid: &LumaGrid) -> Result<Vec<Detection>, FaceError> {
        let (picture, size, at) = (&frame.picture, (frame.picture.width(), frame.picture.height()), frame.arrived);
        let least = Some(self.parts.track.low_score);
        let mut windows = self.engine.searches_parts().and_then(|side| {
            let expected = self.tracker.expected(at);
            self.search.windows(grid, size, &expected, side, at)
        });
        let (mut found, mut cut) = (Vec::new(), Vec::new());
        for window in windows.clone().unwrap_or_default() {
            let here = self.engine.detect_within(picture, window, least).await?;
            cut.extend(here.iter().map(|face| face.bbox).filter(|place| window.cuts(place, size)));
            if !cut.is_empty() {
                // Somebody whom nobody expected there.
                windows = None;
                break;
            }
            found.extend(here);
        }
        match windows {
            Some(_) => found.sort_by(|a, b| b.score.total_cmp(&a.score)),
            None => found = self.engine.detect(picture, least).await?,
        }
        let extent = match (&windows, cut.is_empty()) {
            (Some(_), _) => "parts",
            (None, true) => "whole",
            (None, false) => "both",
        };
        telemetry::searched(&self.spec.id, extent);
        // What was cut off is looked for in a part that holds it, also when the whole shows that it is nobody.
        let places = found.iter().map(|face| face.bbox).chain(cut);
        self.search.searched(grid, size, windows.as_deref(), places, at);
        Ok(found)
    }
}
