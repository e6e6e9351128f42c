//! Generated wire types of `proto/`, and the descriptor set for reflection and JSON.
#![allow(missing_docs, clippy::all, clippy::unwrap_used)]

/// Package `visage.v1`.
pub mod v1 {
    tonic::include_proto!("visage.v1");
}

/// The encoded `FileDescriptorSet` of all protos.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/visage_descriptor.bin"));
