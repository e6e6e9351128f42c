//! WIDER FACE: average precision of the detector on the easy, medium and hard faces.
//!
//! [`truth`] reads the annotation and which faces count in each setting, [`predictions`] reads or is given the boxes, [`ap`] is the protocol. The
//! official settings come from MATLAB files (`wider_easy_val.mat` …), made from the recall of edge boxes, not from a rule on box
//! sizes: they can't be derived from the text annotation, so a list exported from them must be given (`scripts/widerface-difficulty.py`).

pub mod ap;
pub mod predictions;
pub mod truth;

pub use ap::{Prediction, average_precision};
pub use truth::{Setting, Truth};
