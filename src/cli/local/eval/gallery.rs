//! `visage eval gallery`: leave-one-out on a folder of people or on the faces enrolled in a data folder, and strangers against them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    gallery_report as report,
    lab::{self, Common, Lab},
    sheet,
    words::{self, Lost},
};
use crate::{
    cli::{
        error::{Failure, Outcome},
        local::configured,
        output::Io,
        picture_file,
    },
    config::Config,
    evaluation::{
        Found,
        discard::{self, Curve},
        faces::{self, Choice, Face, Unreadable},
        gallery::{self, Faces, LeaveOneOut},
        open_set::{self, Probe},
        people::{self, Sample},
        probes::{self, ProbePicture},
        routes,
    },
    face::FaceEngine,
    identity::GalleryStore,
    ids::ModelId,
    inference::manifest::EmbedderSpec,
    store::sqlite::SqliteStore,
};

/// Arguments of `eval gallery`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of people: DIR/PERSON/*.{jpg,jpeg,png,webp}; or a folder with `gallery/` and, if there are any, `strangers/` and `probes/`.
    #[arg(value_name = "DIR", conflicts_with = "data_dir")]
    pub dir: Option<PathBuf>,
    /// The server's data directory: its enrolled faces are evaluated; no server may run on it [env: VISAGE_DATA_DIR] [default:
    /// visage-data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Pictures of nobody in the gallery: how many of their faces are given a name? Folders in it are looked into.
    #[arg(long, value_name = "DIR")]
    pub strangers: Option<PathBuf>,
    /// Pictures named `PERSON[+PERSON...]-N.jpg` after who of the gallery is in them.
    #[arg(long, value_name = "DIR")]
    pub probes: Option<PathBuf>,
    /// Write a contact sheet of look-alikes and odd photos (PNG or JPEG); for folders of people only.
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// How many look-alikes and odd photos are shown, each.
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub worst: usize,
    /// Models, detector, plot.
    #[command(flatten)]
    pub common: Common,
}

/// What one embedder gave.
pub struct Result {
    /// Its id.
    pub model: String,
    /// What the manifest says of it.
    pub spec: EmbedderSpec,
    /// The gallery.
    pub faces: Faces,
    /// For each face of the gallery its place among the pictures; empty for a data folder.
    pub places: Vec<usize>,
    /// Each face searched for in the rest.
    pub searches: LeaveOneOut,
    /// Does quality tell what is missed?
    pub discard: Curve,
    /// At several thresholds.
    pub rows: Vec<open_set::Row>,
    /// The ways to choose, beside each other.
    pub routes: Vec<routes::Row>,
    /// Why there is no classifier among them.
    pub no_classifier: Option<String>,
    /// Best similarity of each stranger.
    pub strangers: Vec<f32>,
    /// Pictures of several faces, at several thresholds.
    pub probes: Vec<probes::Row>,
    /// Pictures without a face.
    pub lost: Lost,
}

/// Where the pictures are.
struct Places {
    people: Option<Vec<Sample>>,
    strangers: Vec<PathBuf>,
    probes: Vec<PathBuf>,
}

impl Places {
    fn find(args: &Args, io: &mut Io<'_>) -> std::result::Result<Self, Failure> {
        let mut people = args.dir.clone();
        let (mut strangers, mut probes) = (args.strangers.clone(), args.probes.clone());
        if let Some(dir) = args.dir.as_deref().filter(|dir| dir.join("gallery").is_dir()) {
            let beside = |name: &str| Some(dir.join(name)).filter(|path| path.is_dir());
            people = beside("gallery");
            strangers = strangers.or_else(|| beside("strangers"));
            probes = probes.or_else(|| beside("probes"));
            io.remark(format!("people of {}", dir.join("gallery").display()))?;
        }
        let pictures =
            |dir: Option<PathBuf>| dir.map(|dir| people::pictures(&dir)).transpose().map(Option::unwrap_or_default);
        Ok(Self {
            people: people.map(|dir| people::read(&dir)).transpose()?,
            strangers: pictures(strangers)?,
            probes: pictures(probes)?,
        })
    }
}

/// Runs `eval gallery`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    if let Some(file) = &args.sheet {
        picture_file::check_drawn(file)?;
    }
    let lab = Lab::open(&args.common)?;
    let places = Places::find(&args, io)?;
    let enrolled = match &places.people {
        Some(_) => None,
        None => Some(Enrolled::open(&args).await?),
    };
    let mut results = Vec::new();
    let mut first_found = Vec::new();
    let mut exit = 0;
    for id in lab.embedders() {
        let engine = match (&places.people, places.strangers.is_empty() && places.probes.is_empty()) {
            (None, true) => None,
            _ => Some(lab.engine(id).await?),
        };
        let result = one(id, &lab, &places, enrolled.as_ref(), engine.as_ref(), io).await;
        if let Some(engine) = engine {
            engine.shutdown().await;
        }
        let (result, found, mut bad) = result?;
        if results.is_empty() {
            if let Some(samples) = &places.people {
                bad.extend(faces::unreadable(samples, &found));
            }
            words::name_unreadable(io, &bad)?;
            exit = words::exit(&bad);
            first_found = found;
        }
        results.push(result);
    }
    report::print(&results, args.worst, io)?;
    if let Some(file) = &args.common.plot {
        report::plot(file, &results)?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    match (&args.sheet, &places.people, results.first()) {
        (Some(file), Some(samples), Some(result)) => {
            sheet::write(file, samples, &first_found, result, args.worst)?;
            io.remark(format!("contact sheet of {}: {}", result.model, file.display()))?;
        }
        (Some(_), None, _) => {
            io.remark(
                "warning: no contact sheet: a data folder keeps embeddings, not pictures; name the folder of pictures",
            )?;
        }
        _ => {}
    }
    Ok(exit)
}

async fn one(
    id: &ModelId,
    lab: &Lab,
    places: &Places,
    enrolled: Option<&Enrolled>,
    engine: Option<&FaceEngine>,
    io: &mut Io<'_>,
) -> std::result::Result<(Result, Vec<Found>, Vec<Unreadable>), Failure> {
    let spec = lab.spec(id)?;
    let (mut faces, mut kept, mut quality, mut found) = (Faces::default(), Vec::new(), Vec::new(), Vec::new());
    if let (Some(samples), Some(engine)) = (&places.people, engine) {
        let files: Vec<PathBuf> = samples.iter().map(|s| s.path.clone()).collect();
        found = lab::embed(engine, &files, Choice::Largest, io).await?;
        for (i, (sample, found)) in samples.iter().zip(&found).enumerate() {
            let Some(face) = found.face() else { continue };
            faces.push(&sample.person, sample.name(), face.embedding.clone());
            quality.push(face.quality.value);
            kept.push(i);
        }
    } else if let Some(enrolled) = enrolled {
        (faces, quality) = enrolled.faces(id, lab).await?;
    }
    let searches = gallery::leave_one_out(&faces)?;
    let mut deciding = Vec::new();
    for (entry, search) in faces.entries.iter().zip(&searches.searches) {
        if search.own.is_some() {
            deciding.push(Probe::new(&search.hits, Some(entry.person)).map_err(anyhow::Error::from)?);
        }
    }
    let (mut strangers, mut unknown) = (Vec::new(), Vec::new());
    let (mut probe_pictures, mut bad) = (Vec::new(), Vec::new());
    // A picture that can't be read shows nobody, and is named.
    let mut seen_in = |seen: std::result::Result<Vec<Face>, Unreadable>| {
        seen.unwrap_or_else(|unreadable| {
            bad.push(unreadable);
            Vec::new()
        })
    };
    if let Some(engine) = engine {
        let seen = lab::embed_every(engine, &places.strangers, "strangers", io).await?;
        for face in seen.into_iter().flat_map(&mut seen_in) {
            let hits = faces.search(&face.embedding, None)?;
            strangers.push(hits.first().map_or(f32::NEG_INFINITY, |hit| hit.similarity));
            deciding.push(Probe::new(&hits, None).map_err(anyhow::Error::from)?);
            unknown.push(face.embedding);
        }
        let seen = lab::embed_every(engine, &places.probes, "probes", io).await?;
        for (path, seen) in places.probes.iter().zip(seen) {
            probe_pictures.push(probe(path, &seen_in(seen), &faces, &spec)?);
        }
    }
    let thresholds = open_set::thresholds(&spec);
    let (routes, no_classifier) = routes::compare(&faces, &unknown, &spec)?;
    let result = Result {
        model: id.to_string(),
        discard: discard::curve(&discard::of_searches(&searches, &quality), &searches.scores, 1e-3),
        rows: open_set::sweep(&deciding, &spec, &thresholds).unwrap_or_default(),
        probes: if probe_pictures.is_empty() { Vec::new() } else { probes::sweep(&probe_pictures, &spec, &thresholds) },
        routes,
        no_classifier: no_classifier.map(|e| e.to_string()),
        lost: Lost::of(&found),
        spec,
        faces,
        places: kept,
        searches,
        strangers,
    };
    Ok((result, found, bad))
}

/// A picture of several faces; those that the server would call too small get no candidates.
fn probe(path: &Path, seen: &[Face], faces: &Faces, spec: &EmbedderSpec) -> std::result::Result<ProbePicture, Failure> {
    let expected = probes::expected(path, &faces.people);
    let mut hits = Vec::with_capacity(seen.len());
    for face in seen {
        let near =
            if face.quality.size_px < spec.min_face_px { Vec::new() } else { faces.search(&face.embedding, None)? };
        hits.push(gallery::candidates(&near).map_err(anyhow::Error::from)?);
    }
    Ok(ProbePicture { expected, faces: hits })
}

/// The faces of a data folder.
struct Enrolled {
    store: Arc<SqliteStore>,
    dir: PathBuf,
}

impl Enrolled {
    async fn open(args: &Args) -> std::result::Result<Self, Failure> {
        let flags: Vec<_> = args.data_dir.iter().map(|dir| ("server.data_dir", configured::path(dir))).collect();
        let config: Config = configured::load(args.common.config.as_deref(), &flags).map_err(anyhow::Error::from)?;
        let dir = config.server.data_dir;
        if !dir.is_dir() {
            return Err(Failure::usage(format!("data directory {} does not exist", dir.display()))
                .hint("name a folder of people, or a data directory with --data-dir"));
        }
        let (folder, storage) = (dir.clone(), config.storage);
        let store = tokio::task::spawn_blocking(move || SqliteStore::open(&folder, &storage)).await;
        let store = store.map_err(|e| Failure::new("opening the store was interrupted").because(&e))?;
        Ok(Self { store: Arc::new(store.map_err(anyhow::Error::from)?), dir })
    }

    /// Faces of a model with their qualities, by person.
    async fn faces(&self, model: &ModelId, lab: &Lab) -> std::result::Result<(Faces, Vec<f32>), Failure> {
        let mut all = self.store.all_faces(model).await.map_err(anyhow::Error::from)?;
        if all.is_empty() {
            let mut others = Vec::new();
            for other in lab.known_embedders() {
                if !self.store.all_faces(other).await.map_err(anyhow::Error::from)?.is_empty() {
                    others.push(other.to_string());
                }
            }
            let failure = Failure::new(format!("no face of {} was enrolled with {model}", self.dir.display()));
            return Err(match others.is_empty() {
                true => failure.hint("enrol people with `visage enroll`, or name a folder of people"),
                false => failure.hint(format!("name another with --embedder: {}", others.join(", "))),
            });
        }
        all.sort_by(|a, b| (&a.person, &a.id).cmp(&(&b.person, &b.id)));
        let (mut faces, mut quality) = (Faces::default(), Vec::with_capacity(all.len()));
        for face in all {
            let source = if face.source.is_empty() { face.id.as_str() } else { face.source.as_str() };
            faces.push(face.person.as_str(), format!("{}/{source}", face.person), face.embedding);
            quality.push(face.quality);
        }
        Ok((faces, quality))
    }
}
