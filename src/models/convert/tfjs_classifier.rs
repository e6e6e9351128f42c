//! A plain TensorFlow.js classifier: one picture in, a chain of convolutions, pools and dense layers, a few values out.
//!
//! TensorFlow keeps pictures as rows of pixels with their channels last; here channels come first, and only before a picture is
//! flattened are they turned last again, so that the dense layer's weights stay as they are.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    ConvertError,
    graph::Graph,
    tfjs::{self, Constant, Model, Node},
};
use crate::inference::onnx::Attribute;

/// Base64 of `BiasAdd` and `Relu`, as the JSON writes what is fused into a layer.
const BIAS_ADD: &str = "Qmlhc0FkZA==";
const RELU: &str = "UmVsdQ==";
/// A chain of these networks is some 30 long; a loop in a broken file would never end.
const LONGEST: usize = 200;

/// Converts the graph (JSON) with its weights. The node `Identity` is its output, the only placeholder its input.
pub(super) fn convert(json: &[u8], bin: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let model: Model = serde_json::from_slice(json).map_err(|e| ConvertError(e.to_string()))?;
    let weights = tfjs::weights(&model.weights_manifest, bin)?;
    let nodes: HashMap<&str, &Node> = model.model_topology.node.iter().map(|n| (n.name.as_str(), n)).collect();
    // From the output back to the input, since the file lists nodes in any order.
    let mut chain = Vec::new();
    let mut name = "Identity";
    loop {
        let node = *nodes.get(name).ok_or_else(|| ConvertError(format!("no node {name}")))?;
        if node.op == "Placeholder" {
            break chain_of(node, &chain, &weights);
        }
        if chain.len() == LONGEST {
            return Err(ConvertError("the graph runs in a circle".into()));
        }
        chain.push(node);
        name = node.input.first().ok_or_else(|| ConvertError(format!("{name}: an input is missing")))?;
    }
}

fn chain_of(input: &Node, backwards: &[&Node], weights: &HashMap<String, Constant>) -> Result<Vec<u8>, ConvertError> {
    let edge = |axis: usize| {
        let size = input.attr.pointer(&format!("/shape/shape/dim/{axis}/size"));
        let size = size.and_then(Value::as_str).and_then(|s| s.parse::<i64>().ok());
        size.filter(|s| (1..=1024).contains(s)).ok_or_else(|| ConvertError("the input has no size".into()))
    };
    let channels = edge(3)?;
    let mut chain = Chain {
        graph: Graph::new("classifier", "input", &[channels, edge(1)?, edge(2)?]),
        weights,
        last: "input".into(),
        width: channels,
        flat: false,
    };
    for node in backwards.iter().rev() {
        chain.add(node)?;
    }
    if !chain.flat {
        return Err(ConvertError("the graph gives a picture, not values".into()));
    }
    Ok(chain.graph.finish(&chain.last, "scores", chain.width))
}

/// The chain as far as it is built.
struct Chain<'a> {
    graph: Graph,
    weights: &'a HashMap<String, Constant>,
    /// Name of the last output.
    last: String,
    /// Channels of a picture, or values.
    width: i64,
    /// Whether the last output is a row of values, not a picture.
    flat: bool,
}

impl Chain<'_> {
    fn add(&mut self, node: &Node) -> Result<(), ConvertError> {
        self.last = match node.op.as_str() {
            "Identity" => return Ok(()),
            "_FusedConv2D" | "Conv2D" if !self.flat => self.conv(node)?,
            "MaxPool" if !self.flat => {
                let (kernel, stride) = (node.edge("ksize")?, node.edge("strides")?);
                let attributes = vec![
                    Attribute::text("auto_pad", node.auto_pad()),
                    Attribute::ints("kernel_shape", &[kernel, kernel]),
                    Attribute::ints("strides", &[stride, stride]),
                ];
                self.graph.op("MaxPool", &[&self.last], attributes)
            }
            "Reshape" if !self.flat => {
                self.flat = true;
                let last = self.graph.op("Transpose", &[&self.last], vec![Attribute::ints("perm", &[0, 2, 3, 1])]);
                self.graph.op("Flatten", &[&last], vec![])
            }
            "_FusedMatMul" | "MatMul" if self.flat => self.dense(node)?,
            "Mul" => self.each(node, "Mul")?,
            "Add" | "AddV2" => self.each(node, "Add")?,
            "Relu" | "Sigmoid" => self.graph.op(&node.op, &[&self.last], vec![]),
            "Softmax" if self.flat => self.graph.op("Softmax", &[&self.last], vec![]),
            other => return Err(ConvertError(format!("{}: unexpected operation {other}", node.name))),
        };
        Ok(())
    }

    fn constant(&self, node: &Node, input: usize) -> Result<&Constant, ConvertError> {
        let name = node.input.get(input).map(String::as_str).unwrap_or_default();
        self.weights.get(name).ok_or_else(|| ConvertError(format!("{}: no weight {name}", node.name)))
    }

    fn conv(&mut self, node: &Node) -> Result<String, ConvertError> {
        let dilated = node.attr.pointer("/dilations/list/i").and_then(Value::as_array);
        if dilated.is_some_and(|d| d.iter().any(|v| v.as_str() != Some("1"))) {
            return Err(ConvertError(format!("{}: a dilated convolution", node.name)));
        }
        let stride = node.edge("strides")?;
        let (dims, values) = self.constant(node, 1)?.oihw()?;
        if dims[1] != self.width {
            return Err(ConvertError(format!("{}: a filter of {dims:?} for {} channels", node.name, self.width)));
        }
        let attributes = vec![
            Attribute::text("auto_pad", node.auto_pad()),
            Attribute::ints("kernel_shape", &dims[2..]),
            Attribute::ints("strides", &[stride, stride]),
        ];
        self.width = dims[0];
        let filter = self.graph.floats(&dims, &values);
        let last = self.graph.op("Conv", &[&self.last, &filter], attributes);
        self.fused(node, last)
    }

    fn dense(&mut self, node: &Node) -> Result<String, ConvertError> {
        let turned = |key: &str| node.attr.pointer(key).and_then(Value::as_bool) == Some(true);
        if turned("/transpose_a/b") || turned("/transpose_b/b") {
            return Err(ConvertError(format!("{}: a transposed matrix", node.name)));
        }
        let matrix = self.constant(node, 1)?;
        let [inputs, outputs] = matrix.shape[..] else {
            return Err(ConvertError(format!("{}: a matrix of shape {:?}", node.name, matrix.shape)));
        };
        let values = matrix.values.clone();
        self.width = outputs as i64;
        let matrix = self.graph.floats(&[inputs as i64, outputs as i64], &values);
        let last = self.graph.op("MatMul", &[&self.last, &matrix], vec![]);
        self.fused(node, last)
    }

    /// What is fused into a layer, after it: a bias, a Relu.
    fn fused(&mut self, node: &Node, last: String) -> Result<String, ConvertError> {
        let mut last = last;
        let fused = node.attr.pointer("/fused_ops/list/s").and_then(Value::as_array).cloned().unwrap_or_default();
        for op in fused {
            last = match op.as_str() {
                Some(BIAS_ADD) => {
                    let bias = self.by_channel(node, 2)?;
                    self.graph.op("Add", &[&last, &bias], vec![])
                }
                Some(RELU) => self.graph.op("Relu", &[&last], vec![]),
                _ => return Err(ConvertError(format!("{}: unexpected {op} in a layer", node.name))),
            };
        }
        Ok(last)
    }

    fn each(&mut self, node: &Node, op: &str) -> Result<String, ConvertError> {
        let constant = self.by_channel(node, 1)?;
        Ok(self.graph.op(op, &[&self.last, &constant], vec![]))
    }

    /// A constant with one value a channel.
    fn by_channel(&mut self, node: &Node, input: usize) -> Result<String, ConvertError> {
        let values = self.constant(node, input)?.values.clone();
        if values.len() as i64 != self.width {
            return Err(ConvertError(format!("{}: {} values for {} channels", node.name, values.len(), self.width)));
        }
        let dims: &[i64] = if self.flat { &[self.width] } else { &[self.width, 1, 1] };
        Ok(self.graph.floats(dims, &values))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A graph with every operation there is, for pictures of 4 x 4: its JSON and its weights.
    pub(crate) fn small() -> (Value, Vec<u8>) {
        let list = |n: u32| json!({"list": {"i": ["1", n.to_string(), n.to_string(), "1"]}});
        let valid = json!({"s": "VkFMSUQ="});
        let node = |name: &str, op: &str, input: &[&str], attr: Value| json!({"name": name, "op": op, "input": input, "attr": attr});
        let fused = |ops: &[&str]| json!({"list": {"s": ops}});
        let size = |n: &str| json!({"size": n});
        let nodes = json!([
            node(
                "x",
                "Placeholder",
                &[],
                json!({"shape": {"shape": {"dim": [size("-1"), size("4"), size("4"), size("3")]}}})
            ),
            // Out of order: the pool comes before what it is made of.
            node("pool", "MaxPool", &["shifted"], json!({"ksize": list(2), "strides": list(2), "padding": valid})),
            node(
                "conv",
                "_FusedConv2D",
                &["x", "filter", "bias"],
                json!({"strides": list(1), "padding": {"s": "U0FNRQ=="}, "fused_ops": fused(&[BIAS_ADD, RELU])})
            ),
            node("scaled", "Mul", &["conv", "gain"], json!({})),
            node("shifted", "AddV2", &["scaled", "shift"], json!({})),
            node("flat", "Reshape", &["pool", "shape"], json!({})),
            node("dense", "_FusedMatMul", &["flat", "matrix", "rise"], json!({"fused_ops": fused(&[BIAS_ADD])})),
            node("softmax", "Softmax", &["dense"], json!({})),
            node("Identity", "Identity", &["softmax"], json!({})),
        ]);
        let weight = |name: &str, shape: &[usize]| json!({"name": name, "shape": shape, "dtype": "float32"});
        let weights = json!([
            weight("filter", &[1, 1, 3, 2]),
            weight("bias", &[2]),
            weight("gain", &[2]),
            weight("shift", &[2]),
            weight("matrix", &[8, 2]),
            weight("rise", &[2]),
        ]);
        // Channel 0 of the convolution is red, channel 1 is blue less 1, never below 0.
        let mut values = vec![1.0f32, 0.0, 0.0, 0.0, 0.0, 1.0];
        values.extend([0.0, -1.0, 2.0, 3.0, 0.5, 0.25]);
        // Rows are row, column, channel of the pooled picture: only the last pixel counts.
        values.extend([0.0; 12]);
        values.extend([1.0, 0.0, 0.0, 1.0, 0.1, 0.2]);
        let bin = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (json!({"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": weights}]}), bin)
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let (good, bin) = small();
        let text = |value: &Value| serde_json::to_vec(value).unwrap();
        assert!(convert(&text(&good), &bin).is_ok());
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut bad = good.clone();
            change(&mut bad["modelTopology"]["node"]);
            convert(&text(&bad), &bin).expect_err("it was accepted").0
        };
        assert!(refused(&|n| n[3]["op"] = "Tanh".into()).contains("unexpected operation Tanh"));
        assert!(refused(&|n| n[2]["attr"]["fused_ops"]["list"]["s"][1] = "RWx1".into()).contains("in a layer"));
        assert!(refused(&|n| n[2]["attr"]["dilations"]["list"]["i"] = json!(["1", "2", "2", "1"])).contains("dilated"));
        assert!(refused(&|n| n[1]["attr"]["ksize"]["list"]["i"][1] = "1".into()).contains("ksize"));
        assert!(refused(&|n| n[2]["input"] = json!(["shifted", "filter", "bias"])).contains("circle"));
        assert!(refused(&|n| n[3]["input"][1] = "shape".into()).contains("no weight"));
        assert!(refused(&|n| n[3]["input"][1] = "matrix".into()).contains("16 values for 2 channels"));
        assert!(refused(&|n| n[6]["attr"]["transpose_b"] = json!({"b": true})).contains("transposed"));
        assert!(refused(&|n| n[0]["attr"] = json!({})).contains("no size"));
        assert!(convert(&text(&good), &bin[4..]).unwrap_err().0.contains("early"));
    }
}
