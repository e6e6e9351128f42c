//! Narrow layers of a network, widened with channels of zeros to what a vector register holds; answers stay the same.
//!
//! ONNX Runtime's CPU provider keeps pictures in blocks of as many channels as a register has lanes (16 with AVX-512), but only where a
//! convolution has a multiple of them; others are unfolded and multiplied, which takes longer than the blocked kernel with half of its
//! channels empty. A channel whose filter and bias are zero stays zero through activations and depthwise filters, and counts with zero
//! in the next full convolution.

use super::onnx::{Attribute, GraphProto, NodeProto, TensorProto, product};

/// Channels of a block of ONNX Runtime's CPU kernels on this machine; `None` where it is not known, or not worth filling up.
pub fn lanes() -> Option<i64> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return Some(16);
    }
    None
}

/// A convolution's new weights: filter and bias, and groups where it is depthwise.
struct Wide {
    node: usize,
    filter: TensorProto,
    bias: Option<TensorProto>,
    groups: Option<i64>,
}

/// Widens each convolution that makes half of `lanes` channels, and what reads them up to the next full convolution. How many were widened.
pub(crate) fn widen(graph: &mut GraphProto, lanes: i64) -> usize {
    let mut widened = 0;
    for start in 0..graph.node.len() {
        let Some(changes) = chain(graph, start, lanes) else { continue };
        widened += 1;
        for wide in changes {
            let node = &mut graph.node[wide.node];
            node.input[1].clone_from(&wide.filter.name);
            graph.initializer.push(wide.filter);
            if let Some(bias) = wide.bias {
                node.input[2].clone_from(&bias.name);
                graph.initializer.push(bias);
            }
            if let Some(groups) = wide.groups {
                node.attribute.retain(|a| a.name != "group");
                node.attribute.push(Attribute::int("group", groups));
            }
        }
    }
    graph.prune();
    widened
}

/// The changes that widen what the convolution at `start` makes; `None` where something else than convolutions and rectifiers reads it.
fn chain(graph: &GraphProto, start: usize, lanes: i64) -> Option<Vec<Wide>> {
    let first = graph.node.get(start).filter(|n| n.op_type == "Conv" && n.groups() == 1)?;
    let narrow = filter(graph, first)?.0[0];
    if narrow != lanes / 2 {
        return None;
    }
    let mut changes = vec![more_filters(graph, start, lanes)?];
    let mut value = first.only_output()?;
    // A graph without loops ends before all of its nodes were seen.
    for _ in 0..graph.node.len() {
        let [reader] = graph.readers(value)[..] else { return None };
        let node = &graph.node[reader];
        if graph.output.iter().any(|o| o.name == value) || node.input.first().map(String::as_str) != Some(value) {
            return None;
        }
        match node.op_type.as_str() {
            "LeakyRelu" | "Relu" => {}
            "Conv" if node.groups() == narrow => {
                changes.push(Wide { groups: Some(lanes), ..more_filters(graph, reader, lanes)? });
            }
            "Conv" if node.groups() == 1 => {
                changes.push(more_inputs(graph, reader, lanes)?);
                return Some(changes);
            }
            _ => return None,
        }
        value = node.only_output()?;
    }
    None
}

/// Filters and biases of zeros at the end, until there are `lanes` of them.
fn more_filters(graph: &GraphProto, at: usize, lanes: i64) -> Option<Wide> {
    let node = &graph.node[at];
    let (mut dims, mut values) = filter(graph, node).filter(|(dims, _)| dims[0] == lanes / 2)?;
    dims[0] = lanes;
    values.resize(product(&dims)?, 0.0);
    let bias = match node.input.get(2) {
        None => None,
        Some(name) => {
            let (_, mut bias) = graph.weight(name)?;
            bias.resize(usize::try_from(lanes).ok()?, 0.0);
            Some(TensorProto::floats(&format!("{name}.wide.{at}"), &[lanes], &bias))
        }
    };
    let filter = TensorProto::floats(&format!("{}.wide.{at}", node.input[1]), &dims, &values);
    Some(Wide { node: at, filter, bias, groups: None })
}

/// Zeros for the new channels in each filter.
fn more_inputs(graph: &GraphProto, at: usize, lanes: i64) -> Option<Wide> {
    let node = &graph.node[at];
    let (mut dims, values) = filter(graph, node).filter(|(dims, _)| dims[1] == lanes / 2)?;
    let each = product(&dims[1..])?;
    let wide = usize::try_from(lanes).ok()?.checked_mul(product(&dims[2..])?)?;
    dims[1] = lanes;
    let padded = values.chunks_exact(each.max(1)).flat_map(|filter| {
        let zeros = std::iter::repeat_n(0.0, wide.saturating_sub(each));
        filter.iter().copied().chain(zeros)
    });
    let name = format!("{}.wide.{at}", node.input[1]);
    let filter = TensorProto::floats(&name, &dims, &padded.collect::<Vec<_>>());
    Some(Wide { node: at, filter, bias: None, groups: None })
}

/// A convolution's filter `[out, in, height, width]`.
fn filter(graph: &GraphProto, node: &NodeProto) -> Option<(Vec<i64>, Vec<f32>)> {
    graph.weight(node.input.get(1)?).filter(|(dims, _)| dims.len() == 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::onnx::ValueInfo;

    fn node(op: &str, inputs: &[&str], output: &str, groups: i64) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.into()],
            op_type: op.into(),
            attribute: if op == "Conv" { vec![Attribute::int("group", groups)] } else { Vec::new() },
            ..NodeProto::default()
        }
    }

    /// Two filters of 1x1, a rectifier, a depthwise filter, a full one to three channels.
    fn graph() -> GraphProto {
        let weights = [("a", vec![2, 1, 1, 1]), ("b", vec![2]), ("d", vec![2, 1, 1, 1]), ("f", vec![3, 2, 1, 1])];
        GraphProto {
            node: vec![
                node("Conv", &["input", "a", "b"], "x", 1),
                node("LeakyRelu", &["x"], "y", 1),
                node("Conv", &["y", "d"], "z", 2),
                node("Conv", &["z", "f"], "out", 1),
            ],
            initializer: weights
                .map(|(name, dims)| {
                    let values: Vec<f32> = (1..=dims.iter().product::<i64>()).map(|v| v as f32).collect();
                    TensorProto::floats(name, &dims, &values)
                })
                .into(),
            output: vec![ValueInfo { name: "out".into(), r#type: None }],
            ..GraphProto::default()
        }
    }

    #[test]
    fn zeros_are_added_from_the_narrow_layer_to_the_next_full_one() {
        let mut wide = graph();
        assert_eq!(widen(&mut wide, 4), 1);
        let of = |node: usize, input: usize| wide.weight(&wide.node[node].input[input]).unwrap();
        assert_eq!(of(0, 1), (vec![4, 1, 1, 1], vec![1.0, 2.0, 0.0, 0.0]));
        assert_eq!(of(0, 2), (vec![4], vec![1.0, 2.0, 0.0, 0.0]));
        assert_eq!(of(2, 1), (vec![4, 1, 1, 1], vec![1.0, 2.0, 0.0, 0.0]));
        assert_eq!(of(3, 1), (vec![3, 4, 1, 1], vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0]));
        assert_eq!([0, 2, 3].map(|i| wide.node[i].groups()), [1, 4, 1]);
        assert_eq!(wide.initializer.len(), 4, "weights that nothing reads are left");
        assert_eq!(widen(&mut wide, 4), 0, "what is wide enough was widened again");
    }

    #[test]
    fn what_others_read_and_what_is_no_chain_is_left_alone() {
        let refuse = |change: &dyn Fn(&mut GraphProto), what: &str| {
            let mut changed = graph();
            change(&mut changed);
            let before = changed.clone();
            assert_eq!((widen(&mut changed, 4), changed), (0, before), "{what}");
        };
        refuse(&|g| g.node[1].op_type = "Sigmoid".into(), "a function that is not zero at zero");
        refuse(&|g| g.output.push(ValueInfo { name: "y".into(), r#type: None }), "an output");
        refuse(&|g| g.initializer[0].raw_data.truncate(3), "a broken weight");
        refuse(&|g| g.initializer[0].dims.clear(), "a weight without dimensions");
        let nothing = |g: &mut GraphProto| {
            g.initializer[2].raw_data.clear();
            g.initializer[2].dims = vec![0, 1 << 40, 1, 1];
        };
        refuse(&nothing, "no filters of more channels than any memory holds");
        refuse(
            &|g| {
                g.node.push(node("Neg", &["y"], "side", 1));
                g.output.push(ValueInfo { name: "side".into(), r#type: None });
            },
            "a second reader",
        );
        let mut other = graph();
        assert_eq!(widen(&mut other, 16), 0, "a layer far from a register's width");
    }
}
