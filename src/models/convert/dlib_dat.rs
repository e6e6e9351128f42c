//! dlib's own file of the face ResNet (`dlib_face_recognition_resnet_model_v1.dat`), full precision.
//!
//! dlib's serialisation names each layer (`con_4`, `affine_`, `fc_2`) and puts its parameters behind the name, in forward order. An
//! integer is packed: a byte with the count of value bytes (low nibble) and the sign (high bit), then the value, lowest byte first. A
//! tensor is a version (2), four packed dimensions, and raw little-endian f32.

use super::{
    ConvertError,
    face_resnet::{Layer, UNITS, build},
};

/// dlib divides the input by 256 (face-api by 255).
const DIVISOR: f32 = 256.0;
/// Version of dlib's tensor format.
const TENSOR_VERSION: u64 = 2;
/// Builds the graph from dlib's file.
pub(super) fn from_dat(file: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let mut reader = Reader { rest: file };
    let mut layers = Vec::with_capacity(29);
    for (out, inp, edge) in shapes() {
        reader.skip_to("con_4")?;
        let count = out * inp * edge * edge;
        let mut filter = reader.tensor(count + out)?;
        let bias = filter.split_off(count);
        reader.skip_to("affine_")?;
        let affine = reader.tensor(2 * out)?;
        let (gamma, beta) = affine.split_at(out);
        for (row, scale) in filter.chunks_exact_mut(inp * edge * edge).zip(gamma) {
            row.iter_mut().for_each(|v| *v *= scale);
        }
        let bias = bias.iter().zip(gamma).zip(beta).map(|((b, scale), offset)| b * scale + offset).collect();
        layers.push(Layer { dims: [out, inp, edge, edge].map(|d| d as i64).to_vec(), filter, bias });
    }
    reader.skip_to("fc_2")?;
    let sizes = (reader.integer()?, reader.integer()?);
    if sizes != (128, 256) {
        return Err(ConvertError(format!("a last layer from {} to {} values", sizes.1, sizes.0)));
    }
    build(&layers, &reader.tensor(256 * 128)?, DIVISOR)
}

/// Filter shapes `(out, in, edge)` in forward order.
fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes = vec![(32, 3, 7)];
    let mut width = 32;
    for (out, _) in UNITS {
        let out = out as usize;
        shapes.extend([(out, width, 3), (out, out, 3)]);
        width = out;
    }
    shapes
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ConvertError> {
        let (head, tail) =
            self.rest.split_at_checked(count).ok_or_else(|| ConvertError("the file ends early".into()))?;
        self.rest = tail;
        Ok(head)
    }

    /// Goes behind the next string `name` (its packed length stands before it).
    fn skip_to(&mut self, name: &str) -> Result<(), ConvertError> {
        let mut wanted = vec![1, name.len() as u8];
        wanted.extend_from_slice(name.as_bytes());
        let at = self
            .rest
            .windows(wanted.len())
            .position(|window| window == wanted)
            .ok_or_else(|| ConvertError(format!("no layer {name} where one is expected")))?;
        self.take(at + wanted.len()).map(drop)
    }

    /// An unsigned packed integer.
    fn integer(&mut self) -> Result<u64, ConvertError> {
        let head = self.take(1)?[0];
        if head & 0x80 != 0 || head & 0x0f > 8 {
            return Err(ConvertError("a broken integer".into()));
        }
        let bytes = self.take(usize::from(head & 0x0f))?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A tensor of `count` values, whatever its dimensions.
    fn tensor(&mut self, count: usize) -> Result<Vec<f32>, ConvertError> {
        let version = self.integer()?;
        let dims = [self.integer()?, self.integer()?, self.integer()?, self.integer()?];
        let found = dims.iter().try_fold(1u64, |product, d| product.checked_mul(*d));
        if version != TENSOR_VERSION || found != Some(count as u64) {
            return Err(ConvertError(format!(
                "a tensor (version {version}) of {dims:?} where {count} values are expected"
            )));
        }
        Ok(self.take(count * 4)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_integers_and_tensors_are_read() {
        let mut bytes = b"\x01\x04junk\x01\x04fc_2\x01\x80\x02\x00\x01".to_vec();
        bytes.extend(b"\x01\x02\x01\x02\x01\x01\x01\x01\x01\x01");
        bytes.extend([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
        let mut reader = Reader { rest: &bytes };
        reader.skip_to("fc_2").unwrap();
        assert_eq!((reader.integer().unwrap(), reader.integer().unwrap()), (128, 256));
        assert_eq!(reader.tensor(2).unwrap(), [1.5, -2.0]);
        assert!(reader.integer().is_err(), "read behind the end");
    }

    #[test]
    fn broken_files_are_refused() {
        for bad in
            [&b""[..], b"\x01\x05con_4", b"\x01\x05con_4\x01\x02\x01\x01\x01\x01\x01\x01\x01\x01", b"\x01\x05con_4\x89"]
        {
            assert!(from_dat(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
