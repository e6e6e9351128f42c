//! Targets for libFuzzer; see README.md.
#![allow(missing_docs)]

pub mod targets;
