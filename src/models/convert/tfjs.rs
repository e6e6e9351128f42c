//! Weights as TensorFlow.js stores them: a JSON list of names, shapes and quantisation, and one binary file.

use std::collections::HashMap;

use serde::Deserialize;

use super::ConvertError;

#[derive(Deserialize)]
pub(super) struct Group {
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
    scale: f32,
    min: f32,
}

/// A constant: its axes and values (integers as floats).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Reads every weight, in file order. A quantised value is `byte * scale + min`.
pub(super) fn weights(groups: &[Group], bin: &[u8]) -> Result<HashMap<String, Constant>, ConvertError> {
    let mut rest = bin;
    let mut out = HashMap::new();
    for weight in groups.iter().flat_map(|g| &g.weights) {
        let fail = |text: &str| ConvertError(format!("weight {}: {text}", weight.name));
        let count = weight.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(|| fail("too large"))?;
        let mut take = |bytes: usize| {
            let bytes = count.checked_mul(bytes).ok_or_else(|| fail("too large"))?;
            let (head, tail) = rest.split_at_checked(bytes).ok_or_else(|| fail("the file ends early"))?;
            rest = tail;
            Ok::<_, ConvertError>(head)
        };
        let values = match (&weight.quantization, weight.dtype.as_str()) {
            (Some(q), _) if q.dtype == "uint8" => take(1)?.iter().map(|b| f32::from(*b) * q.scale + q.min).collect(),
            (None, "float32") => {
                take(4)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            (None, "int32") => {
                take(4)?.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32).collect()
            }
            _ => return Err(fail("an unknown type")),
        };
        out.insert(weight.name.clone(), Constant { shape: weight.shape.clone(), values });
    }
    if !rest.is_empty() {
        return Err(ConvertError(format!("{} bytes are left over", rest.len())));
    }
    Ok(out)
}

impl Constant {
    /// A `[height, width, in, out]` filter as `[out, in, height, width]`.
    pub(super) fn oihw(&self) -> Result<(Vec<i64>, Vec<f32>), ConvertError> {
        let [h, w, i, o] = self.shape[..] else {
            return Err(ConvertError(format!("a filter of shape {:?}", self.shape)));
        };
        let mut out = Vec::with_capacity(self.values.len());
        for oo in 0..o {
            for ii in 0..i {
                for p in 0..h * w {
                    out.push(self.values[(p * i + ii) * o + oo]);
                }
            }
        }
        Ok((vec![o as i64, i as i64, h as i64, w as i64], out))
    }
}
