//! How well real people who were never enrolled are grouped, and that a negative exemplar hurts nobody else. Needs the test data.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use visage::{
    config::Config,
    face::Embedding,
    identity::{
        cluster::{Clusters, Home, Member},
        cluster_score::{bcubed, pairwise},
    },
    ids::FaceId,
    server::build::Recognition,
    time::Timestamp,
};

use crate::support::skipped;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

/// The person of a picture is its folder's name, or that of the file without its number; `None` when it shows several people.
fn person_of(path: &Path, by_folder: bool) -> Option<String> {
    let word = |p: Option<&std::ffi::OsStr>| p.unwrap().to_string_lossy().into_owned();
    if by_folder {
        return Some(word(path.parent().unwrap().file_name()));
    }
    let stem = word(path.file_stem());
    // Strangers are numbered people, probes numbered pictures.
    let name = if stem.starts_with("cgi-") { stem } else { stem.rsplit_once('-').unwrap().0.replace("-partial", "") };
    (!name.contains('+')).then_some(name)
}

/// Pictures of the test data with the person that their largest face shows.
fn known_people(root: &Path) -> Vec<(String, PathBuf)> {
    let folders = ["people/gallery", "lfw10"].into_iter().flat_map(|set| files(&root.join(set)));
    let in_folders = folders.filter(|p| p.is_dir()).flat_map(|folder| files(&folder)).map(|p| (true, p));
    let singles = ["people/probes", "people/strangers"].into_iter().flat_map(|set| files(&root.join(set)));
    let all = in_folders.chain(singles.map(|p| (false, p)));
    all.filter_map(|(by_folder, path)| Some((person_of(&path, by_folder)?, path))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_people_are_grouped_well_and_a_negative_exemplar_hurts_nobody_else() {
    let Some(root) = std::env::var_os("VISAGE_TESTDATA").map(PathBuf::from).filter(|p| p.join("people").is_dir())
    else {
        return skipped("VISAGE_TESTDATA with people/ is not set: groups of real faces are not measured");
    };
    let dir = tempfile::tempdir().unwrap();
    for model in ["dlib-resnet", "mobilefacenet"] {
        let mut config = Config::default();
        config.server.data_dir = dir.path().join(model);
        config.models.embedder = model.into();
        let recognition = Recognition::open(&config).await.unwrap();
        let least_px = recognition.engine.now().embedder().embedder.as_ref().unwrap().min_face_px;
        let mut faces = Vec::new();
        let mut truth: BTreeMap<String, usize> = BTreeMap::new();
        for (name, path) in known_people(&root) {
            let next = truth.len();
            let person = *truth.entry(name).or_insert(next);
            let Ok(found) = recognition.desk.embed(std::fs::read(path).unwrap().into()).await else { continue };
            let largest = found.faces.into_iter().max_by(|a, b| a.0.bbox.area().total_cmp(&b.0.bbox.area()));
            // As in the pipeline: smaller faces are never embedded.
            let usable = largest.filter(|(_, quality, _)| quality.size_px >= least_px);
            faces.extend(usable.map(|(_, _, template)| (person, template)));
        }
        let threshold = recognition.desk.thresholds(None).similarity;
        println!("{model}: {} faces of {} people, threshold {threshold:.2}", faces.len(), truth.len());
        for extra in [-0.08, -0.04, -0.02, 0.0, 0.02, 0.04, 0.08] {
            let mut clusters = Clusters::new(threshold + extra);
            let mut of = BTreeMap::new();
            let mut at_once = Vec::new();
            let mut next = 0;
            for (n, (person, template)) in faces.iter().enumerate() {
                let id: FaceId = format!("f-{n:05}").parse().unwrap();
                let time = Timestamp::from_second(n as i64 * 10).unwrap();
                of.insert(id.clone(), *person);
                let camera = "c".parse().unwrap();
                let (began, ended, template) = (time, time, template.clone());
                clusters.insert(Member { id: id.clone(), template, camera, began, ended, group: None, bound: false });
                let group = clusters.nearest_group(&id).unwrap_or_else(|| {
                    next += 1;
                    visage::ids::UnknownId::new(next)
                });
                clusters.place(&id, group, false);
            }
            at_once.extend(clusters.members().map(|m| (of[&m.id], m.group.unwrap().number() as usize)));
            let mut anew: BTreeMap<_, usize> =
                clusters.members().map(|m| (m.id.clone(), m.group.unwrap().number() as usize)).collect();
            for (face, home) in clusters.regroup() {
                let group = match home {
                    Home::Old(group) => group.number() as usize,
                    Home::New(n) => 100_000 + n,
                };
                anew.insert(face, group);
            }
            let anew: Vec<(usize, usize)> = anew.into_iter().map(|(face, group)| (of[&face], group)).collect();
            let groups = anew.iter().map(|(_, g)| g).collect::<std::collections::BTreeSet<_>>().len();
            let (p, b) = (pairwise(&anew), bcubed(&anew));
            println!(
                "  link {extra:+.2}: {groups} groups; pairwise F {:.3} (P {:.3} R {:.3}), BCubed F {:.3} (P {:.3} R {:.3}); \
                 one by one {:.3} and {:.3}",
                p.f,
                p.precision,
                p.recall,
                b.f,
                b.precision,
                b.recall,
                pairwise(&at_once).f,
                bcubed(&at_once).f
            );
            if extra == 0.0 {
                assert!(p.f > 0.9 && b.f > 0.9, "groups of real faces got worse");
            }
        }
        let (probes, hurt) = hurt_by_negatives(&faces, threshold);
        println!("  {probes} known probes beside each negative exemplar, {hurt} of them ruled out wrongly");
        assert_eq!(hurt, 0, "a face marked as not that person hides the person");
        recognition.close().await;
    }
}

/// Everybody's first three pictures are enrolled, and each face of anybody else is taken as "not that person" in turn: known probes, and
/// how many of them are ruled out by any.
fn hurt_by_negatives(faces: &[(usize, Embedding)], threshold: f32) -> (usize, usize) {
    let near = |a: &Embedding, b: &Embedding| a.similarity(b).unwrap();
    let (mut probes, mut hurt) = (0, 0);
    for person in faces.iter().map(|(p, _)| *p).collect::<std::collections::BTreeSet<_>>() {
        let own: Vec<&Embedding> = faces.iter().filter(|(p, _)| *p == person).map(|(_, e)| e).collect();
        let (enrolled, rest) = own.split_at(own.len().min(3));
        for probe in rest {
            let best = enrolled.iter().map(|e| near(e, probe)).fold(f32::NEG_INFINITY, f32::max);
            if best < threshold {
                continue;
            }
            probes += 1;
            hurt += usize::from(faces.iter().any(|(p, other)| *p != person && near(other, probe) >= best));
        }
    }
    (probes, hurt)
}
