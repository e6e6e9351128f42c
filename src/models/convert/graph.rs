//! A graph under construction: each operation returns the name of its output.

use prost::Message;

use crate::inference::onnx::*;

/// Builds a graph with one input `[batch, ...]` and one output `[batch, size]`.
pub(super) struct Graph {
    proto: GraphProto,
    count: usize,
}

fn value(name: &str, dims: &[i64]) -> ValueInfo {
    let batch = Dimension { dim_value: None, dim_param: Some("batch".into()) };
    let rest = dims.iter().map(|d| Dimension { dim_value: Some(*d), dim_param: None });
    let shape = TensorShape { dim: std::iter::once(batch).chain(rest).collect() };
    let tensor_type = Some(TensorType { elem_type: FLOAT, shape: Some(shape) });
    ValueInfo { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

impl Graph {
    pub(super) fn new(name: &str, input: &str, input_dims: &[i64]) -> Self {
        let proto = GraphProto { name: name.into(), input: vec![value(input, input_dims)], ..Default::default() };
        Self { proto, count: 0 }
    }

    fn fresh(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}_{}", self.count)
    }

    pub(super) fn floats(&mut self, dims: &[i64], values: &[f32]) -> String {
        let name = self.fresh("w");
        self.proto.initializer.push(TensorProto::floats(&name, dims, values));
        name
    }

    pub(super) fn int64s(&mut self, values: &[i64]) -> String {
        let name = self.fresh("n");
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        let tensor = TensorProto { dims, data_type: INT64, name: name.clone(), raw_data, ..Default::default() };
        self.proto.initializer.push(tensor);
        name
    }

    pub(super) fn op(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        let output = self.fresh(&op_type.to_lowercase());
        let node = NodeProto {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.clone()],
            name: output.clone(),
            op_type: op_type.into(),
            attribute,
            ..Default::default()
        };
        self.proto.node.push(node);
        output
    }

    /// The model's bytes; `last` becomes the output `name` of `size` values.
    pub(super) fn finish(mut self, last: &str, name: &str, size: i64) -> Vec<u8> {
        let node = NodeProto {
            input: vec![last.into()],
            output: vec![name.into()],
            name: name.into(),
            op_type: "Identity".into(),
            ..Default::default()
        };
        self.proto.node.push(node);
        self.proto.output = vec![value(name, &[size])];
        let model = ModelProto {
            ir_version: 8,
            producer_name: "visage".into(),
            producer_version: String::new(),
            graph: Some(self.proto),
            opset_import: vec![OperatorSet { domain: String::new(), version: 13 }],
        };
        model.encode_to_vec()
    }
}
