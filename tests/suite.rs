//! Black-box tests: the real binary on free ports, real RTSP from an in-process simulator, real models, gRPC as clients speak it.
//!
//! They need what `make setup` fetches (runtime library, models, pictures) and say so when it is missing.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "suite/support.rs"]
mod support;

#[path = "suite/audit.rs"]
mod audit;
#[path = "suite/bench.rs"]
mod bench;
#[path = "suite/calibration.rs"]
mod calibration;
#[path = "suite/camera_faults.rs"]
mod camera_faults;
#[path = "suite/camera_faults_packets.rs"]
mod camera_faults_packets;
#[path = "suite/camera_faults_reconnects.rs"]
mod camera_faults_reconnects;
#[path = "suite/camera_faults_rtsp.rs"]
mod camera_faults_rtsp;
#[path = "suite/camera_faults_watch.rs"]
mod camera_faults_watch;
#[path = "suite/cameras.rs"]
mod cameras;
#[path = "suite/chaos.rs"]
mod chaos;
#[path = "suite/classifier.rs"]
mod classifier;
#[path = "suite/cluster.rs"]
mod cluster;
#[path = "suite/cluster_nodes.rs"]
mod cluster_nodes;
#[path = "suite/command_line.rs"]
mod command_line;
#[path = "suite/disk.rs"]
mod disk;
#[path = "suite/evaluation.rs"]
mod evaluation;
#[path = "suite/golden.rs"]
mod golden;
#[path = "suite/idle.rs"]
mod idle;
#[path = "suite/limits.rs"]
mod limits;
#[path = "suite/liveness.rs"]
mod liveness;
#[path = "suite/load.rs"]
mod load;
#[path = "suite/main_job.rs"]
mod main_job;
#[path = "suite/nats.rs"]
mod nats;
#[path = "suite/nats_cluster.rs"]
mod nats_cluster;
#[path = "suite/observability.rs"]
mod observability;
#[path = "suite/oidc.rs"]
mod oidc;
#[path = "suite/operations.rs"]
mod operations;
#[path = "suite/people.rs"]
mod people;
#[path = "suite/pictures.rs"]
mod pictures;
#[path = "suite/privacy.rs"]
mod privacy;
#[path = "suite/reembed.rs"]
mod reembed;
#[path = "suite/scope.rs"]
mod scope;
#[path = "suite/secured.rs"]
mod secured;
#[path = "suite/security.rs"]
mod security;
#[path = "suite/substream.rs"]
mod substream;
#[path = "suite/traces.rs"]
mod traces;
#[path = "suite/unknowns.rs"]
mod unknowns;
#[path = "suite/unknowns_people.rs"]
mod unknowns_people;
#[path = "suite/views.rs"]
mod views;

/// A file under `tests/suite` that nobody lists is a test that never runs.
#[test]
fn every_file_is_listed() {
    let listed = include_str!("suite.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(listed.contains(&format!("suite/{name}")), "{name} is not listed in tests/suite.rs");
    }
}
