//! ONNX's protobuf (onnx.proto3, IR version 8), as far as plain networks of f32 go: what converters write and rewriting reads.
//!
//! What is not here (subgraphs, functions, sparse or external tensors, documentation) is lost by reading and writing a model: whoever
//! rewrites a graph must compare what it answers.

use std::collections::HashSet;

use prost::Message;

/// [`TensorProto::data_type`] of f32.
pub(crate) const FLOAT: i32 = 1;
/// [`TensorProto::data_type`] of i64.
pub(crate) const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// 1 FLOAT, 2 INT, 3 STRING, 4 TENSOR, 6 FLOATS, 7 INTS, 8 STRINGS.
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

impl Attribute {
    pub(crate) fn int(name: &str, value: i64) -> Self {
        Self { name: name.into(), i: Some(value), kind: 2, ..Default::default() }
    }
    pub(crate) fn ints(name: &str, values: &[i64]) -> Self {
        Self { name: name.into(), ints: values.to_vec(), kind: 7, ..Default::default() }
    }
    pub(crate) fn text(name: &str, value: &str) -> Self {
        Self { name: name.into(), s: Some(value.as_bytes().to_vec()), kind: 3, ..Default::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// [`FLOAT`], [`INT64`] and others.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

impl ValueInfo {
    /// Maps of f32 of any size: `[batch, channels, rows, columns]`.
    pub(crate) fn maps(name: &str) -> Self {
        let axis = |axis: &str| Dimension { dim_value: None, dim_param: Some(format!("{name}.{axis}")) };
        let shape = TensorShape { dim: ["batch", "channels", "rows", "columns"].map(axis).into() };
        let tensor_type = Some(TensorType { elem_type: FLOAT, shape: Some(shape) });
        Self { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
    }
}

impl NodeProto {
    /// Its attribute of a name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|a| a.name == name)
    }

    /// Its only output; `None` when it has several.
    pub(crate) fn only_output(&self) -> Option<&str> {
        self.output.first().filter(|_| self.output.len() == 1).map(String::as_str)
    }

    /// Groups of a convolution.
    pub(crate) fn groups(&self) -> i64 {
        self.attribute("group").and_then(|a| a.i).unwrap_or(1)
    }
}

/// How many values dimensions hold; `None` for negative and absurd ones.
pub(crate) fn product(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, d| product.checked_mul(usize::try_from(*d).ok()?))
}

impl TensorProto {
    /// A tensor of f32.
    pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Self {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dims: dims.to_vec(), data_type: FLOAT, name: name.into(), raw_data, ..Self::default() }
    }

    /// Its values, when they are f32 and as many as its dimensions say.
    fn values(&self) -> Option<Vec<f32>> {
        let raw = self.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = if self.float_data.is_empty() { raw.collect() } else { self.float_data.clone() };
        (self.data_type == FLOAT && product(&self.dims) == Some(values.len())).then_some(values)
    }
}

impl GraphProto {
    /// The node that makes a value; `None` for weights and inputs.
    pub(crate) fn maker(&self, value: &str) -> Option<&NodeProto> {
        self.node.iter().find(|n| n.output.iter().any(|o| o == value))
    }

    /// Places of the nodes that read a value.
    pub(crate) fn readers(&self, value: &str) -> Vec<usize> {
        (0..self.node.len()).filter(|i| self.node[*i].input.iter().any(|v| v == value)).collect()
    }

    /// Dimensions and values of a weight of f32, under its own name or one that an `Identity` gave it.
    pub(crate) fn weight(&self, name: &str) -> Option<(Vec<i64>, Vec<f32>)> {
        let known = |name: &str| self.initializer.iter().find(|t| t.name == name);
        let renamed = || self.maker(name).filter(|n| n.op_type == "Identity").and_then(|n| known(n.input.first()?));
        let tensor = known(name).or_else(renamed)?;
        Some((tensor.dims.clone(), tensor.values()?))
    }

    /// Drops nodes and weights that no output needs.
    pub(crate) fn prune(&mut self) {
        let mut needed: HashSet<&str> = self.output.iter().map(|o| o.name.as_str()).collect();
        // A graph lists its nodes in the order in which they run.
        let keep: Vec<bool> = self
            .node
            .iter()
            .rev()
            .map(|node| {
                let kept = node.output.iter().any(|o| needed.contains(o.as_str()));
                if kept {
                    needed.extend(node.input.iter().map(String::as_str));
                }
                kept
            })
            .collect();
        let weights: Vec<bool> = self.initializer.iter().map(|t| needed.contains(t.name.as_str())).collect();
        let (mut keep, mut weights) = (keep.into_iter().rev(), weights.into_iter());
        self.node.retain(|_| keep.next().unwrap_or(true));
        self.initializer.retain(|_| weights.next().unwrap_or(true));
    }
}
