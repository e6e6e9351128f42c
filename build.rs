//! Compiles `proto/` without protoc: descriptor set and code go to OUT_DIR.
use std::{env, fs, path::PathBuf};

const PROTOS: [&str; 8] = [
    "visage/v1/types.proto",
    "visage/v1/camera_service.proto",
    "visage/v1/person_service.proto",
    "visage/v1/recognition_service.proto",
    "visage/v1/event_service.proto",
    "visage/v1/server_service.proto",
    "visage/v1/unknown_service.proto",
    "visage/v1/gallery_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    for proto in PROTOS {
        println!("cargo:rerun-if-changed=proto/{proto}");
    }
    let set = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("visage_descriptor.bin"), prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().bytes(".visage.v1").compile_fds(set)?;
    Ok(())
}
