//! Who plays in the demo and in the benches: folders for the cameras and a gallery to enrol, cut from the fixtures.
//!
//! Enrolled and shown pictures of a person are different photographs. Strangers walk on camera `yard` alone, where nobody is enrolled: a
//! stranger who gets any name is noticed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A camera of the demo.
pub(in crate::cli::local) struct CastCamera {
    pub(in crate::cli::local) id: String,
    /// What the simulator plays.
    pub(in crate::cli::local) source: String,
    /// Ids of the enrolled people it shows; everybody else it shows is a stranger.
    pub(in crate::cli::local) people: BTreeSet<String>,
}

/// The whole cast.
pub struct Cast {
    pub(in crate::cli::local) cameras: Vec<CastCamera>,
    /// Folder to enrol: one folder a person.
    pub(in crate::cli::local) gallery: PathBuf,
}

/// A part of a picture: x, y, width, height in pixels.
type Part = Option<(u32, u32, u32, u32)>;

const GUEST_ENROLLED: Part = Some((1354, 101, 480, 560));
const GUEST_SHOWN: Part = Some((943, 104, 480, 640));

const GALLERY: [(&str, &str, Part); 3] =
    [("Barack Obama", "obama.jpg", None), ("Joe Biden", "biden.jpg", None), ("Guest", "sample1.jpg", GUEST_ENROLLED)];

/// Camera, encoding, people it shows that are enrolled, pictures in the order they walk by.
type Play = (&'static str, &'static str, &'static [&'static str], &'static [(&'static str, Part)]);

const CAMERAS: [Play; 3] = [
    ("entrance", "h264", &["barack-obama", "guest"], &[("obama2.jpg", None), ("sample3.jpg", GUEST_SHOWN)]),
    ("lobby", "h265", &["barack-obama"], &[("obama3.jpg", Some((500, 100, 560, 700)))]),
    ("yard", "mjpeg", &[], &[("astronaut.png", None), ("sample5.jpg", None), ("sample6.jpg", None)]),
];

/// Writes the folders under `work`.
pub(in crate::cli::local) fn prepare(fixtures: &Path, work: &Path) -> anyhow::Result<Cast> {
    let gallery = work.join("gallery");
    for (person, file, part) in GALLERY {
        cut(fixtures, file, part, &gallery.join(person))?;
    }
    let mut cameras = Vec::new();
    for (id, codec, people, pictures) in CAMERAS {
        let folder = work.join(id);
        for (file, part) in pictures {
            cut(fixtures, file, *part, &folder)?;
        }
        let people = people.iter().map(|p| (*p).to_owned()).collect();
        cameras.push(CastCamera { id: id.into(), source: format!("{},codec={codec}", folder.display()), people });
    }
    Ok(Cast { cameras, gallery })
}

fn cut(fixtures: &Path, file: &str, part: Part, folder: &Path) -> anyhow::Result<()> {
    let from = find(fixtures, file)
        .with_context(|| format!("{file} is not under {}; run `make setup` again", fixtures.display()))?;
    std::fs::create_dir_all(folder)?;
    let to = folder.join(file);
    match part {
        None => std::fs::copy(&from, to).map(drop)?,
        Some((x, y, width, height)) => {
            let picture = image::open(&from).with_context(|| format!("{} can't be read", from.display()))?;
            picture.crop_imm(x, y, width, height).to_rgb8().save(to)?;
        }
    }
    Ok(())
}

fn find(folder: &Path, file: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|n| n == file) {
                return Some(path);
            }
        }
    }
    None
}
