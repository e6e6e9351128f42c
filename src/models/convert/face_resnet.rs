//! dlib's face ResNet (29 convolutions, 128 values), from face-api's uint8 weights or as dlib's own file gives them.
//!
//! Input 150x150 RGB 0 to 255; the graph subtracts the mean and divides. A convolution with its bias, scale and offset is folded into
//! one. Residual unit: `relu(x + layer2(layer1(x)))`, 3x3. Down unit: layer1 has stride 2 and no padding; the skip is a 2x2 average
//! pool, its channels padded with zeros to the new width, and layer2's map padded at the bottom and right where it is smaller.

use super::{
    ConvertError,
    graph::Graph,
    tfjs::{self, Constant, Group},
};
use crate::inference::onnx::Attribute;

/// Mean of R, G, B that dlib subtracts.
const MEAN: [f32; 3] = [122.782, 117.001, 104.298];
const SIZE: i64 = 150;

/// A folded convolution: filter `[out, in, height, width]` and bias `[out]`.
pub(super) struct Layer {
    pub(super) dims: Vec<i64>,
    pub(super) filter: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// Units in forward order: width and whether it halves the map.
pub(super) const UNITS: [(i64, bool); 14] = [
    (32, false),
    (32, false),
    (32, false),
    (64, true),
    (64, false),
    (64, false),
    (64, false),
    (128, true),
    (128, false),
    (128, false),
    (256, true),
    (256, false),
    (256, false),
    (256, true),
];

/// Names of face-api's layers, in the order of [`UNITS`].
const NAMES: [&str; 14] = [
    "conv32_1",
    "conv32_2",
    "conv32_3",
    "conv64_down",
    "conv64_1",
    "conv64_2",
    "conv64_3",
    "conv128_down",
    "conv128_1",
    "conv128_2",
    "conv256_down",
    "conv256_1",
    "conv256_2",
    "conv256_down_out",
];

/// Builds the graph from face-api's files.
pub(super) fn from_face_api(bin: &[u8], manifest: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let groups: Vec<Group> = serde_json::from_slice(manifest).map_err(|e| ConvertError(e.to_string()))?;
    let weights = tfjs::weights(&groups, bin)?;
    let get = |name: String| weights.get(&name).ok_or_else(|| ConvertError(format!("no weight {name}")));
    let layer = |name: &str| {
        folded(
            get(format!("{name}/conv/filters"))?,
            get(format!("{name}/conv/bias"))?,
            get(format!("{name}/scale/weights"))?,
            get(format!("{name}/scale/biases"))?,
        )
    };
    let mut layers = vec![layer("conv32_down")?];
    for name in NAMES {
        layers.push(layer(&format!("{name}/conv1"))?);
        layers.push(layer(&format!("{name}/conv2"))?);
    }
    build(&layers, &get("fc".into())?.values, 255.0)
}

fn folded(filter: &Constant, bias: &Constant, scale: &Constant, offset: &Constant) -> Result<Layer, ConvertError> {
    let (dims, mut values) = filter.oihw()?;
    let out = dims[0] as usize;
    if [bias, scale, offset].iter().any(|c| c.values.len() != out) || out == 0 {
        return Err(ConvertError("bias or scale of another width than the filter".into()));
    }
    let each = values.len() / out;
    for (row, s) in values.chunks_exact_mut(each.max(1)).zip(&scale.values) {
        row.iter_mut().for_each(|v| *v *= s);
    }
    let bias = (0..out).map(|i| bias.values[i] * scale.values[i] + offset.values[i]).collect();
    Ok(Layer { dims, filter: values, bias })
}

/// Builds the graph from 29 layers in forward order and the last matrix `[256, 128]`, row-major.
pub(super) fn build(layers: &[Layer], fc: &[f32], divisor: f32) -> Result<Vec<u8>, ConvertError> {
    if layers.len() != 29 || fc.len() != 256 * 128 {
        return Err(ConvertError(format!("{} layers and {} values in the last matrix", layers.len(), fc.len())));
    }
    let mut g = Graph::new("dlib-face-resnet", "input", &[3, SIZE, SIZE]);
    let mean = g.floats(&[1, 3, 1, 1], &MEAN);
    let scale = g.floats(&[1], &[1.0 / divisor]);
    let centred = g.op("Sub", &["input", &mean], vec![]);
    let scaled = g.op("Mul", &[&centred, &scale], vec![]);
    let mut x = conv(&mut g, &scaled, &layers[0], (32, 3, 7), 2, 0)?;
    x = g.op("Relu", &[&x], vec![]);
    let pool = [Attribute::ints("kernel_shape", &[3, 3]), Attribute::ints("strides", &[2, 2])];
    x = g.op("MaxPool", &[&x], pool.to_vec());
    let (mut width, mut edge) = (32, 35);
    for (unit, pair) in UNITS.iter().zip(layers[1..].chunks_exact(2)) {
        let (out, down) = *unit;
        let (stride, pad) = if down { (2, 0) } else { (1, 1) };
        let first = conv(&mut g, &x, &pair[0], (out, width, 3), stride, pad)?;
        let first = g.op("Relu", &[&first], vec![]);
        let mut second = conv(&mut g, &first, &pair[1], (out, out, 3), 1, 1)?;
        let mut skip = x;
        if down {
            let pool = [Attribute::ints("kernel_shape", &[2, 2]), Attribute::ints("strides", &[2, 2])];
            skip = g.op("AveragePool", &[&skip], pool.to_vec());
            let (map, pooled) = ((edge - 3) / 2 + 1, edge / 2);
            if out > width {
                let pads = g.int64s(&[0, 0, 0, 0, 0, out - width, 0, 0]);
                skip = g.op("Pad", &[&skip, &pads], vec![]);
            }
            if pooled > map {
                let pads = g.int64s(&[0, 0, 0, 0, 0, 0, pooled - map, pooled - map]);
                second = g.op("Pad", &[&second, &pads], vec![]);
            }
            (width, edge) = (out, pooled.max(map));
        }
        let sum = g.op("Add", &[&skip, &second], vec![]);
        x = g.op("Relu", &[&sum], vec![]);
    }
    let mean = g.op("GlobalAveragePool", &[&x], vec![]);
    let flat = g.op("Flatten", &[&mean], vec![]);
    let matrix = g.floats(&[256, 128], fc);
    let last = g.op("MatMul", &[&flat, &matrix], vec![]);
    Ok(g.finish(&last, "descriptor", 128))
}

fn conv(
    g: &mut Graph,
    x: &str,
    layer: &Layer,
    (out, inp, k): (i64, i64, i64),
    stride: i64,
    pad: i64,
) -> Result<String, ConvertError> {
    if layer.dims != [out, inp, k, k] || layer.bias.len() as i64 != out {
        return Err(ConvertError(format!("a filter of {:?} where [{out}, {inp}, {k}, {k}] is expected", layer.dims)));
    }
    let filter = g.floats(&layer.dims, &layer.filter);
    let bias = g.floats(&[out], &layer.bias);
    let attributes = vec![
        Attribute::ints("kernel_shape", &[k, k]),
        Attribute::ints("strides", &[stride, stride]),
        Attribute::ints("pads", &[pad, pad, pad, pad]),
    ];
    Ok(g.op("Conv", &[x, &filter, &bias], attributes))
}
