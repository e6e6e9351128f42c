//! MobileFaceNet (192 values) from human-models' TensorFlow.js graph: repaired, and PReLU rewritten for speed.
//!
//! The graph writes PReLU as `relu(x) + c·(x − |x|)` with two faults: 16 of 33 lost their pre-activation to a fused Relu, and every
//! constant has the wrong sign. The repair drops those fused Relus and takes the slope `−2c`. PReLU itself is slow in ONNX Runtime's
//! CPU provider, so it becomes `s·x + (1 − s)·relu(x)`: two depthwise 1x1 convolutions and an addition, the same to 3e-7.

use std::collections::HashMap;

use super::{
    ConvertError,
    graph::Graph,
    tfjs::{self, Constant, Model, Node},
};
use crate::inference::onnx::Attribute;

/// Converts the graph (JSON) with its weights.
pub(super) fn convert(json: &[u8], bin: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let model: Model = serde_json::from_slice(json).map_err(|e| ConvertError(e.to_string()))?;
    let weights = tfjs::weights(&model.weights_manifest, bin)?;
    let nodes: HashMap<&str, &Node> = model.model_topology.node.iter().map(|n| (n.name.as_str(), n)).collect();
    let mut c =
        Converter { graph: Graph::new("mobilefacenet", "input", &[3, 112, 112]), weights, nodes, done: HashMap::new() };
    let last = c.value("embeddings", 0)?;
    Ok(c.graph.finish(&last, "embedding", 192))
}

struct Converter<'a> {
    graph: Graph,
    weights: HashMap<String, Constant>,
    nodes: HashMap<&'a str, &'a Node>,
    done: HashMap<String, String>,
}

impl<'a> Converter<'a> {
    fn node(&self, name: &str) -> Result<&'a Node, ConvertError> {
        self.nodes.get(name).copied().ok_or_else(|| ConvertError(format!("no node {name}")))
    }

    fn constant(&self, node: &Node, input: usize) -> Result<Constant, ConvertError> {
        let name = node.input.get(input).map(String::as_str).unwrap_or_default();
        self.weights.get(name).cloned().ok_or_else(|| ConvertError(format!("{}: no weight {name}", node.name)))
    }

    /// The output of a node, built from its inputs first. Inputs may come later in the file, hence the recursion.
    fn value(&mut self, name: &str, depth: usize) -> Result<String, ConvertError> {
        if let Some(done) = self.done.get(name) {
            return Ok(done.clone());
        }
        // A chain of this network is some 100 long; a loop in a broken file would never end.
        if depth > 400 {
            return Err(ConvertError("the graph runs in a circle".into()));
        }
        let node = self.node(name)?;
        let input = |i: usize| {
            node.input.get(i).map(String::as_str).ok_or_else(|| ConvertError(format!("{name}: an input is missing")))
        };
        let out = match node.op.as_str() {
            "Placeholder" => "input".to_owned(),
            "_FusedConv2D" | "Conv2D" | "FusedDepthwiseConv2dNative" => {
                let x = self.value(input(0)?, depth + 1)?;
                self.conv(node, &x)?
            }
            "Add" | "AddV2" => match self.slope_of(input(1)?)? {
                Some((source, slope)) => {
                    let x = self.value(&source, depth + 1)?;
                    self.prelu(&x, &slope)
                }
                None => {
                    let (a, b) = (self.value(input(0)?, depth + 1)?, self.value(input(1)?, depth + 1)?);
                    self.graph.op("Add", &[&a, &b], vec![])
                }
            },
            "Squeeze" => {
                let x = self.value(input(0)?, depth + 1)?;
                self.graph.op("Flatten", &[&x], vec![])
            }
            // The graph ends in x · rsqrt(max(Σx², ε)).
            "Mul" if name == "embeddings" => {
                let x = self.value(input(0)?, depth + 1)?;
                let attributes = vec![Attribute::int("axis", 1), Attribute::int("p", 2)];
                self.graph.op("LpNormalization", &[&x], attributes)
            }
            other => return Err(ConvertError(format!("{name}: unexpected operation {other}"))),
        };
        self.done.insert(name.to_owned(), out.clone());
        Ok(out)
    }

    fn conv(&mut self, node: &Node, x: &str) -> Result<String, ConvertError> {
        let filter = self.constant(node, 1)?;
        let bias = self.constant(node, 2)?;
        let stride = node.edge("strides")?;
        let (dims, values, group) = if node.op.contains("Depthwise") {
            let [h, w, c, 1] = filter.shape[..] else {
                return Err(ConvertError(format!("{}: a depthwise filter of {:?}", node.name, filter.shape)));
            };
            let mut out = Vec::with_capacity(filter.values.len());
            for channel in 0..c {
                out.extend((0..h * w).map(|p| filter.values[p * c + channel]));
            }
            (vec![c as i64, 1, h as i64, w as i64], out, c as i64)
        } else {
            let (dims, values) = filter.oihw()?;
            (dims, values, 1)
        };
        if bias.values.len() as i64 != dims[0] {
            return Err(ConvertError(format!("{}: a bias of another width", node.name)));
        }
        let attributes = vec![
            Attribute::text("auto_pad", node.auto_pad()),
            Attribute::int("group", group),
            Attribute::ints("kernel_shape", &dims[2..]),
            Attribute::ints("strides", &[stride, stride]),
        ];
        let filter = self.graph.floats(&dims, &values);
        let bias = self.graph.floats(&dims[..1], &bias.values);
        // A fused Relu is one of the faults: the PReLU that follows brings its own.
        Ok(self.graph.op("Conv", &[x, &filter, &bias], attributes))
    }

    /// When a node is `c · (x − |x|)`: the name of x, and the repaired slopes.
    fn slope_of(&self, name: &str) -> Result<Option<(String, Vec<f32>)>, ConvertError> {
        let mul = self.node(name)?;
        if mul.op != "Mul" {
            return Ok(None);
        }
        let sub = self.node(mul.input.first().map(String::as_str).unwrap_or_default())?;
        if sub.op != "Sub" {
            return Ok(None);
        }
        let source = sub.input.first().cloned().unwrap_or_default();
        let c = self.constant(mul, 1)?;
        Ok(Some((source, c.values.iter().map(|c| -2.0 * c).collect())))
    }

    fn prelu(&mut self, x: &str, slope: &[f32]) -> String {
        let n = slope.len() as i64;
        let rest: Vec<f32> = slope.iter().map(|s| 1.0 - s).collect();
        let attributes = || vec![Attribute::int("group", n), Attribute::ints("kernel_shape", &[1, 1])];
        let (s, r) = (self.graph.floats(&[n, 1, 1, 1], slope), self.graph.floats(&[n, 1, 1, 1], &rest));
        let relu = self.graph.op("Relu", &[x], vec![]);
        let a = self.graph.op("Conv", &[x, &s], attributes());
        let b = self.graph.op("Conv", &[&relu, &r], attributes());
        self.graph.op("Add", &[&a, &b], vec![])
    }
}
