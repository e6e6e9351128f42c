//! A classifier as bytes: a line with the SHA-256 of all that follows, a line of JSON that says what it is, then the weights as little-endian
//! f32, a person's row after the other.
//!
//! Bytes that are cut short, changed or of another version are refused in words; the classifier is then trained again.

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::classifier::{Classifier, GalleryState, MOST_PEOPLE};
use crate::{
    ids::{ModelId, PersonId},
    time::Timestamp,
};

/// Version of the form.
const VERSION: u32 = 1;
/// Values of an embedding at most.
const MOST_VALUES: usize = 1 << 16;

/// Why bytes are no classifier.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the kept classifier can't be used ({0}); it is trained again")]
pub struct BadBytes(String);

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    model: ModelId,
    people: Vec<PersonId>,
    values: usize,
    faces: usize,
    state: String,
    trained: Timestamp,
}

impl Classifier {
    /// The bytes to keep.
    ///
    /// # Errors
    /// Never in practice: every part of it has a JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadBytes> {
        let weights: Vec<u8> = self.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let head = Head {
            version: VERSION,
            model: self.model.clone(),
            people: self.people.clone(),
            values: self.weights.ncols().saturating_sub(1),
            faces: self.faces,
            state: self.state.0.clone(),
            trained: self.trained,
        };
        let mut body = serde_json::to_vec(&head).map_err(|e| BadBytes(e.to_string()))?;
        body.push(b'\n');
        body.extend(weights);
        let mut bytes = hex::encode(Sha256::digest(&body)).into_bytes();
        bytes.push(b'\n');
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads what [`Classifier::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are of another version, cut short or changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
        let bad = |why: &str| BadBytes(why.to_owned());
        let line = |bytes: &[u8]| bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("it has no head"));
        let end = line(bytes)?;
        let (hash, body) = (&bytes[..end], &bytes[end + 1..]);
        if hex::encode(Sha256::digest(body)).as_bytes() != hash {
            return Err(bad("it was changed"));
        }
        let end = line(body)?;
        let (head, weights) = (&body[..end], &body[end + 1..]);
        let version: serde_json::Value = serde_json::from_slice(head).map_err(|_| bad("its head is damaged"))?;
        match version.get("version").and_then(serde_json::Value::as_u64) {
            Some(v) if v == u64::from(VERSION) => {}
            Some(v) => return Err(BadBytes(format!("it is of version {v}, this program knows {VERSION}"))),
            None => return Err(bad("it has no version")),
        }
        let head: Head = serde_json::from_value(version).map_err(|_| bad("its head is damaged"))?;
        let sound = !head.people.is_empty()
            && head.people.len() <= MOST_PEOPLE
            && (1..=MOST_VALUES).contains(&head.values)
            && head.people.is_sorted_by(|a, b| a < b);
        if !sound {
            return Err(bad("its head is damaged"));
        }
        if weights.len() != head.people.len() * (head.values + 1) * 4 {
            return Err(BadBytes(format!("it has {} bytes of weights", weights.len())));
        }
        let floats: Vec<f32> = weights.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if !floats.iter().all(|w| w.is_finite()) {
            return Err(bad("its weights are no numbers"));
        }
        let weights = Array2::from_shape_vec((head.people.len(), head.values + 1), floats);
        Ok(Self {
            model: head.model,
            people: head.people,
            faces: head.faces,
            state: GalleryState(head.state),
            trained: head.trained,
            weights: weights.map_err(|e| BadBytes(e.to_string()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::{super::classifier::tests::crowd, *};

    fn trained() -> Classifier {
        Classifier::train(&crowd(4, 5, 0.2), Timestamp::UNIX_EPOCH, &CancellationToken::new()).unwrap()
    }

    #[test]
    fn bytes_come_back_as_the_same_classifier() {
        let classifier = trained();
        assert_eq!(Classifier::from_bytes(&classifier.to_bytes().unwrap()), Ok(classifier));
    }

    #[test]
    fn no_change_of_the_bytes_goes_unnoticed_and_none_panics() {
        let good = trained().to_bytes().unwrap();
        assert!(Classifier::from_bytes(&[]).unwrap_err().to_string().contains("trained again"));
        for cut in [1, 5, good.len() / 2, good.len() - 1] {
            assert!(Classifier::from_bytes(&good[..cut]).is_err(), "cut to {cut}");
        }
        for place in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            assert!(Classifier::from_bytes(&bad).is_err(), "byte {place}");
        }
        // What another program wrote with a right hash is looked at all the same.
        let body = &good[65..];
        let head = body.iter().position(|b| *b == b'\n').unwrap();
        let with = |from: &str, to: &str| {
            let text = String::from_utf8_lossy(&body[..head]).into_owned();
            assert!(text.contains(from));
            let body = [text.replace(from, to).as_bytes(), &body[head..]].concat();
            [hex::encode(Sha256::digest(&body)).as_bytes(), b"\n", &body[..]].concat()
        };
        let newer = Classifier::from_bytes(&with("\"version\":1", "\"version\":9")).unwrap_err();
        assert!(newer.to_string().contains("of version 9"));
        let huge = with("\"values\":16", "\"values\":18446744073709551615");
        assert!(Classifier::from_bytes(&huge).unwrap_err().to_string().contains("damaged"));
    }
}
