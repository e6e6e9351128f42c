//! From a decoded frame to the detector's tensor, step by step and in one pass, and what a frame allocates on the way to its faces.
//!
//! `cargo bench --bench frames`: needs ONNX Runtime and the models (`make setup`, `visage models pull`). Variants run in turns in one
//! process. Allocations are those of Rust code, counted by the global allocator of this program only; the runtime has its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{alloc::System, hint::black_box, path::Path, time::Instant};

use ndarray::Array4;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use visage::{
    cli::local::bench::{figures::median, scene},
    face::{FaceEngine, embedder},
    frame::{
        Picture, crop,
        scale::{self, Part},
        tensor::{Recipe, Scaler, write_rgb},
        warp::Warper,
    },
    inference::{InferenceSettings, Tiling, manifest::LoadedModel},
    models::{self, locate},
};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RUNS: usize = 200;

/// The way in steps: planes packed and scaled, an RGB picture, f32 pixels, a tensor made for the occasion.
fn step_by_step(picture: &Picture, size: (u32, u32), recipe: &Recipe) -> Array4<f32> {
    let rgb = scale::rgb_of(picture, Part::whole(picture), size.0, size.1);
    let pixels: Vec<f32> = rgb.as_raw().iter().map(|v| f32::from(*v)).collect();
    let mut tensor = Array4::zeros((1, 3, size.1 as usize, size.0 as usize));
    write_rgb(&pixels, size.0, recipe, tensor.as_slice_mut().unwrap());
    tensor
}

fn model(id: &str) -> LoadedModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models");
    models::load(&folder, &id.parse().unwrap(), &models::manifest::load(None).unwrap()).unwrap()
}

/// Runs each variant in turns; medians in milliseconds.
fn turns(variants: &mut [(&str, &mut dyn FnMut())]) -> Vec<f64> {
    let mut times = vec![Vec::new(); variants.len()];
    for round in 0..RUNS + 3 {
        for ((_, run), times) in variants.iter_mut().zip(&mut times) {
            let began = Instant::now();
            run();
            if round >= 3 {
                times.push(began.elapsed().as_secs_f64());
            }
        }
    }
    times.iter().map(|times| median(times) * 1e3).collect()
}

fn preprocessing() {
    println!("frame       input      steps ms  one pass ms  allocations (bytes), steps     one pass");
    let recipe = Recipe { bgr: true, interleaved: false, mean: [104.0, 117.0, 123.0], scale: [1.0; 3] };
    for (frame, side) in
        [((1920, 1080), 640), ((1920, 1080), 320), ((3840, 2160), 640), ((1280, 720), 640), ((640, 360), 640)]
    {
        let picture = scene::made(frame, 1);
        let size = scale::fitted(frame.0, frame.1, side);
        let mut scaler = Scaler::default();
        let mut out = vec![0.0; size.0 as usize * size.1 as usize * 3];
        let mut steps = || drop(black_box(step_by_step(&picture, size, &recipe)));
        let mut pass = || scaler.fill(black_box(&picture), Part::whole(&picture), size, &recipe, &mut out);
        pass();
        let region = Region::new(COUNTED);
        steps();
        let before = region.change();
        let region = Region::new(COUNTED);
        pass();
        let after = region.change();
        let times = turns(&mut [("steps", &mut steps), ("pass", &mut pass)]);
        println!(
            "{:<11} {:<10} {:>8.3}  {:>11.3}  {:>8} ({:>9})  {:>8} ({:>7})",
            format!("{}x{}", frame.0, frame.1),
            format!("{}x{}", size.0, size.1),
            times[0],
            times[1],
            before.allocations + before.reallocations,
            before.bytes_allocated,
            after.allocations + after.reallocations,
            after.bytes_allocated
        );
    }
}

fn crops() {
    println!("\ncut out and align one face of a 1920x1080 frame");
    let model = model("dlib-resnet").entry;
    let spec = model.embedder.clone().unwrap();
    let picture = scene::made((1920, 1080), 1);
    let (mut warper, mut place) = (Warper::default(), vec![0.0; 150 * 150 * 3]);
    for edge in [60.0, 160.0, 300.0, 600.0] {
        let face = scene::faces((1920, 1080), edge, 1).remove(0);
        let mut cut = || {
            embedder::fill(&mut warper, &picture, &face, &spec, &model.input, &mut place);
            black_box(&place);
        };
        let times = turns(&mut [("cut", &mut cut)]);
        println!("face of {edge:>3} px to 150x150: {:.3} ms", times[0]);
    }
    let mut jpeg = || drop(black_box(crop::jpeg(&crop::resized(&crop::to_rgb(&picture), 640, 360), 80).unwrap()));
    println!("frame to a JPEG of 640x360: {:.3} ms", turns(&mut [("jpeg", &mut jpeg)])[0]);
}

/// Allocations of Rust code from handing a frame over to having its faces, on all threads.
fn whole_way() {
    let settings = InferenceSettings {
        runtime_library: locate::runtime_library("").unwrap().display().to_string(),
        workers: 1,
        intra_threads: 1,
        tiling: Tiling::Off,
        ..InferenceSettings::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = FaceEngine::start(&settings, model("retinaface-mnet025"), model("dlib-resnet")).unwrap();
    let picture = scene::made((1920, 1080), 1);
    let face = scene::faces((1920, 1080), 160.0, 1);
    let detect = || drop(black_box(runtime.block_on(engine.detect(&picture, None)).unwrap()));
    let embed = || drop(black_box(runtime.block_on(engine.embed(&picture, &face)).unwrap()));
    println!();
    for (name, run) in [("detect", &detect as &dyn Fn()), ("embed", &embed)] {
        (0..5).for_each(|_| run());
        let region = Region::new(COUNTED);
        (0..20).for_each(|_| run());
        let change = region.change();
        let count = (change.allocations + change.reallocations) as f64 / 20.0;
        let bytes = change.bytes_allocated as f64 / 20.0;
        println!(
            "{{\"path\":\"{name}\",\"allocations_per_frame\":{count:.1},\"allocated_bytes_per_frame\":{bytes:.0}}}"
        );
    }
    runtime.block_on(engine.shutdown());
}

fn main() {
    preprocessing();
    crops();
    whole_way();
}
