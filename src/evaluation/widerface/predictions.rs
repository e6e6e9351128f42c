//! Predictions as WIDER FACE's evaluation wants them: `DIR/<event>/<picture>.txt` with the picture's name, the number of boxes, and a line
//! `x y w h score` a box.

use std::path::Path;

use super::{
    super::{EvaluationError, read_text},
    Prediction, Truth,
    truth::{numbers, stem},
};
use crate::face::Detection;

/// Reads the predictions of every picture of the annotation; a picture without a file has none.
///
/// # Errors
/// With the line that is no box, or when there is no file for any picture.
pub fn read(dir: &Path, truth: &Truth) -> Result<Vec<Vec<Prediction>>, EvaluationError> {
    let mut found = 0;
    let mut all = Vec::with_capacity(truth.pictures.len());
    for (name, _) in &truth.pictures {
        let path = dir.join(format!("{}.txt", stem(name)));
        let inside = Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if inside && path.is_file() {
            found += 1;
            all.push(parsed(&path)?);
        } else {
            all.push(Vec::new());
        }
    }
    if found == 0 {
        return Err(EvaluationError::TooLittle(format!(
            "{} holds no predictions for these pictures; they are looked for as {}",
            dir.display(),
            truth.pictures.first().map(|(name, _)| format!("{}.txt", stem(name))).unwrap_or_default()
        )));
    }
    Ok(all)
}

fn parsed(path: &Path) -> Result<Vec<Prediction>, EvaluationError> {
    let text = read_text(path)?;
    let mut boxes = Vec::new();
    // The first two lines are name and number; files without them exist.
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())).filter(|(_, l)| !l.is_empty()) {
        match numbers(line).as_deref() {
            Some([x, y, w, h, score, ..]) => boxes.push(Prediction { rect: [*x, *y, *w, *h], score: *score }),
            _ if number <= 2 => {}
            _ => {
                return Err(EvaluationError::Line {
                    path: path.to_owned(),
                    line: number,
                    message: "a box is `x y w h score`, numbers separated by blanks".into(),
                });
            }
        }
    }
    Ok(boxes)
}

/// A detection of ours as a prediction.
pub fn of(detection: &Detection) -> Prediction {
    let b = &detection.bbox;
    Prediction { rect: [b.x1, b.y1, b.width(), b.height()], score: detection.score }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_lie_beside_their_events() {
        let dir = tempfile::tempdir().unwrap();
        let gt = dir.path().join("gt.txt");
        fs::write(&gt, "e/a.jpg\n1\n1 2 3 4\ne/b.jpg\n0\n../x.jpg\n0\n").unwrap();
        let truth = Truth::read(&gt).unwrap();
        assert!(read(dir.path(), &truth).unwrap_err().to_string().contains("no predictions"));
        fs::create_dir(dir.path().join("e")).unwrap();
        let file = dir.path().join("e/a.txt");
        fs::write(&file, "a\n2\n1.5 2 3 4 0.9\n5 6 7 8 0.25\n").unwrap();
        let boxes = read(dir.path(), &truth).unwrap();
        let a = boxes.iter().find(|b| !b.is_empty()).unwrap();
        assert_eq!(a[1], Prediction { rect: [5.0, 6.0, 7.0, 8.0], score: 0.25 });
        fs::write(&file, "a\n1\n1 2 3\n").unwrap();
        assert!(read(dir.path(), &truth).unwrap_err().to_string().contains("line 3: a box is"));
    }
}
