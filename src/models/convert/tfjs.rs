//! TensorFlow.js' files: a JSON with the graph and a list of names, shapes and quantisation of the weights, and one binary file of them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::ConvertError;

/// The JSON file of a graph.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    pub(super) model_topology: Topology,
    pub(super) weights_manifest: Vec<Group>,
}

#[derive(Deserialize)]
pub(super) struct Topology {
    pub(super) node: Vec<Node>,
}

#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) op: String,
    #[serde(default)]
    pub(super) input: Vec<String>,
    #[serde(default)]
    pub(super) attr: Value,
}

/// Base64 of `SAME`, as the JSON writes it.
const SAME: &str = "U0FNRQ==";

impl Node {
    /// A number of an attribute that is a list with one for each axis (batch, row, column, channel), such as `strides`: the row's, when
    /// row and column have the same.
    pub(super) fn edge(&self, attribute: &str) -> Result<i64, ConvertError> {
        let at = |i: usize| {
            let value = self.attr.pointer(&format!("/{attribute}/list/i/{i}"));
            value.and_then(Value::as_str).and_then(|s| s.parse::<i64>().ok())
        };
        let edge = at(1).filter(|edge| (1..=4).contains(edge) && at(2) == Some(*edge));
        edge.ok_or_else(|| ConvertError(format!("{}: {attribute}", self.name)))
    }

    /// ONNX's name of the padding.
    pub(super) fn auto_pad(&self) -> &'static str {
        let same = self.attr.pointer("/padding/s").and_then(Value::as_str) == Some(SAME);
        if same { "SAME_UPPER" } else { "VALID" }
    }
}

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
    #[serde(default)]
    scale: f32,
    #[serde(default)]
    min: f32,
}

/// A constant: its axes and values (integers as floats).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// A float of 16 bits (IEEE 754 binary16): sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    sign * match i32::from(bits >> 10 & 0x1f) {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

/// Reads every weight, in file order. A value quantised to a byte is `byte * scale + min`, one to 16 bits is a half-precision float.
pub(super) fn weights(groups: &[Group], bin: &[u8]) -> Result<HashMap<String, Constant>, ConvertError> {
    let mut rest = bin;
    let mut out = HashMap::new();
    for weight in groups.iter().flat_map(|g| &g.weights) {
        let fail = |text: &str| ConvertError(format!("weight {}: {text}", weight.name));
        // The bytes of a weight bound its axes only as long as none is 0.
        if weight.shape.contains(&0) {
            return Err(fail("a shape with an empty axis"));
        }
        let count = weight.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(|| fail("too large"))?;
        let mut take = |bytes: usize| {
            let bytes = count.checked_mul(bytes).ok_or_else(|| fail("too large"))?;
            let (head, tail) = rest.split_at_checked(bytes).ok_or_else(|| fail("the file ends early"))?;
            rest = tail;
            Ok::<_, ConvertError>(head)
        };
        let values = match (&weight.quantization, weight.dtype.as_str()) {
            (Some(q), _) if q.dtype == "uint8" => take(1)?.iter().map(|b| f32::from(*b) * q.scale + q.min).collect(),
            (Some(q), _) if q.dtype == "float16" => {
                take(2)?.chunks_exact(2).map(|b| half(u16::from_le_bytes([b[0], b[1]]))).collect()
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0, 0.0),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f32::NEG_INFINITY);
        let groups: Vec<Group> = serde_json::from_str(
            r#"[{"weights": [{"name": "a", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}}]}]"#,
        )
        .unwrap();
        assert_eq!(weights(&groups, &[0, 0x3c, 0, 0xc0]).unwrap()["a"].values, [1.0, -2.0]);
    }

    #[test]
    fn an_empty_axis_is_refused_before_anything_loops_over_the_others() {
        let one = |shape: &str, bytes: &[u8]| {
            let text = format!(r#"[{{"weights": [{{"name": "a", "shape": {shape}, "dtype": "float32"}}]}}]"#);
            let groups: Vec<Group> = serde_json::from_str(&text).unwrap();
            weights(&groups, bytes).map(|read| read["a"].values.clone())
        };
        assert!(one("[0, 1, 1099511627776, 1099511627776]", &[]).unwrap_err().to_string().contains("empty axis"));
        assert!(one("[1099511627776, 1099511627776, 0]", &[]).is_err());
        assert_eq!(one("[1, 1, 1, 1]", &[0, 0, 128, 63]).unwrap(), [1.0]);
        assert_eq!(one("[]", &[0, 0, 128, 63]).unwrap(), [1.0], "a scalar");
    }
}
