//! The heads of a published graph merged: nine small convolutions, turned, listed and joined, become one for each stride, whose map is
//! read as it is ([`super::answers::Mapped`]). The same sums of the same products.

use super::{RetinaFace, answers::COLUMNS};
use crate::inference::onnx::{GraphProto, NodeProto, TensorProto, ValueInfo};

impl RetinaFace {
    /// Replaces the outputs of a graph by merged heads. `None`, and the graph as it was, when it is not built as published.
    pub(super) fn merge_heads(&self, graph: &mut GraphProto) -> Option<()> {
        if graph.input.len() != 1 || graph.output.len() != COLUMNS.len() {
            return None;
        }
        let found: Vec<Vec<Head>> =
            graph.output.iter().map(|output| heads(graph, &output.name, self.strides.len())).collect::<Option<_>>()?;
        let mut merged = Vec::new();
        for (level, sizes) in self.sizes.iter().enumerate() {
            // Told apart by their width, whatever the order of the outputs.
            let of_level = COLUMNS.map(|columns| {
                let width = i64::try_from(columns * sizes.len()).ok()?;
                found.iter().map(|output| &output[level]).find(|head| head.dims[0] == width)
            });
            let [Some(boxes), Some(scores), Some(landmarks)] = of_level else { return None };
            let heads = [boxes, scores, landmarks];
            if heads.iter().any(|head| head.map != boxes.map || head.dims[1] != boxes.dims[1]) {
                return None;
            }
            merged.push((boxes.map.clone(), boxes.dims[1], heads.map(|h| (h.filter.clone(), h.bias.clone()))));
        }
        if merged.len() != self.strides.len() {
            return None;
        }
        graph.output.clear();
        for (level, (map, inputs, heads)) in merged.into_iter().enumerate() {
            let [filter, bias, output] = ["filter", "bias", "map"].map(|what| format!("visage.heads.{level}.{what}"));
            let (filters, biases): (Vec<_>, Vec<_>) = heads.into_iter().unzip();
            let (filters, biases) = (filters.concat(), biases.concat());
            let width = i64::try_from(biases.len()).ok()?;
            graph.initializer.push(TensorProto::floats(&filter, &[width, inputs, 1, 1], &filters));
            graph.initializer.push(TensorProto::floats(&bias, &[width], &biases));
            graph.node.push(NodeProto {
                input: vec![map, filter, bias],
                output: vec![output.clone()],
                name: output.clone(),
                op_type: "Conv".into(),
                ..NodeProto::default()
            });
            graph.output.push(ValueInfo::maps(&output));
        }
        graph.prune();
        Some(())
    }
}

/// A convolution of 1x1: the map that it reads, its filter `[out, in, 1, 1]` and its bias.
struct Head {
    map: String,
    dims: Vec<i64>,
    filter: Vec<f32>,
    bias: Vec<f32>,
}

/// The convolutions behind an output, one for each stride: a softmax perhaps, lists joined, maps turned and listed.
fn heads(graph: &GraphProto, output: &str, strides: usize) -> Option<Vec<Head>> {
    let mut node = graph.maker(output)?;
    if node.op_type == "Softmax" {
        if !matches!(node.attribute("axis")?.i, Some(2 | -1)) {
            return None;
        }
        node = graph.maker(node.input.first()?)?;
    }
    let joined = node.op_type == "Concat" && node.attribute("axis")?.i == Some(1) && node.input.len() == strides;
    if !joined {
        return None;
    }
    let head = |list: &String| {
        let listed = graph.maker(list).filter(|n| n.op_type == "Reshape")?;
        let turned = graph.maker(listed.input.first()?).filter(|n| n.op_type == "Transpose")?;
        if turned.attribute("perm")?.ints != [0, 2, 3, 1] {
            return None;
        }
        let conv = graph.maker(turned.input.first()?).filter(|n| n.op_type == "Conv" && n.groups() == 1)?;
        let plain = |name: &str, value: i64| conv.attribute(name).is_none_or(|a| a.ints.iter().all(|v| *v == value));
        let (dims, filter) = graph.weight(conv.input.get(1)?)?;
        let (_, bias) = graph.weight(conv.input.get(2)?)?;
        let fits = dims.len() == 4 && dims[2..] == [1, 1] && usize::try_from(dims[0]) == Ok(bias.len());
        let map = conv.input.first()?.clone();
        (fits && plain("strides", 1) && plain("pads", 0)).then_some(Head { map, dims, filter, bias })
    };
    node.input.iter().map(head).collect()
}
