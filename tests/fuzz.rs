//! Every parser that bytes from outside reach, under a plain mutator over the seeds of `fuzz/corpus`: `VISAGE_FUZZ_SECONDS` a target, one by default.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::{
    fs,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use targets::TARGETS;

/// Longest input, bytes.
const LONGEST: usize = 64 << 10;
/// Bytes and words at which parsers turn.
const ODD: [u8; 12] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'\n', b'"', b'.', b'/', b'-', b'9'];

/// The seeds of a target, and pictures that need an encoder.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut seeds: Vec<_> = fs::read_dir(&dir).unwrap().map(|f| fs::read(f.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} holds no seed", dir.display());
    if name == "still" {
        let picture = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 77]));
        for format in [image::ImageFormat::Jpeg, image::ImageFormat::WebP, image::ImageFormat::Png] {
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, format).unwrap();
            seeds.push(bytes.into_inner());
        }
    }
    seeds.sort();
    seeds
}

/// Changes some bytes.
fn mutate(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..=data.len());
        let until = (at + random.usize(..=16)).min(data.len());
        match random.u8(..8) {
            0 if at < data.len() => data[at] ^= 1 << random.u8(..8),
            1 if at < data.len() => data[at] = ODD[random.usize(..ODD.len())],
            2 => data.insert(at, ODD[random.usize(..ODD.len())]),
            3 => drop(data.drain(at..until)),
            4 => data.truncate(at),
            5 => {
                let part = data[at..until].to_vec();
                data.splice(at..at, part);
            }
            6 => {
                let other = &seeds[random.usize(..seeds.len())];
                let from = random.usize(..=other.len());
                data.splice(at.., other[from..].iter().copied());
            }
            _ => data.insert(at, random.u8(..)),
        }
    }
    data.truncate(LONGEST);
    data
}

#[test]
fn no_bytes_from_outside_make_a_parser_panic() {
    let seconds = std::env::var("VISAGE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let mut counts = Vec::new();
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut random = fastrand::Rng::with_seed(0x5eed);
        let (until, mut tried) = (Instant::now() + Duration::from_secs_f64(seconds), 0u64);
        let mut next = seeds.clone().into_iter();
        while Instant::now() < until || next.len() > 0 {
            let data = next.next().unwrap_or_else(|| mutate(&mut random, &seeds));
            if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/fuzz-{name}"));
                fs::write(&path, &data).unwrap();
                panic!("{name} fails for {:?}; the bytes are in {}", String::from_utf8_lossy(&data), path.display());
            }
            tried += 1;
        }
        counts.push(format!("{name} {tried}"));
    }
    println!("{}", counts.join(", "));
}

/// A target that libFuzzer does not know, or the other way round.
#[test]
fn every_target_has_a_binary_for_libfuzzer() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(path.is_file(), "{} is missing", path.display());
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
