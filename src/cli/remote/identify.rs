//! `visage identify`: who is in these pictures?

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::Serialize;
use tonic::service::interceptor::InterceptedService;

use super::client::Bearer;
use crate::{
    cli::{
        error::{FAILED, Failure, OK, Outcome, UNREACHABLE},
        output::{Ink, Io, cell, plain},
        parse, picture_file,
    },
    proto::v1::{
        IdentifiedFace, IdentifyFacesRequest, IdentifyFacesResponse,
        recognition_service_client::RecognitionServiceClient,
    },
};

/// Who answers: the server, or the models in this process.
#[async_trait]
pub trait Identify: Send {
    /// Finds faces in one picture and says who they are.
    async fn identify(&mut self, request: IdentifyFacesRequest) -> Result<IdentifyFacesResponse, Failure>;
}

#[async_trait]
impl Identify for RecognitionServiceClient<InterceptedService<tonic::transport::Channel, Bearer>> {
    async fn identify(&mut self, request: IdentifyFacesRequest) -> Result<IdentifyFacesResponse, Failure> {
        Ok(self.identify_faces(request).await?.into_inner())
    }
}

/// Arguments of `identify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pictures: JPEG, PNG or WebP.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Save the picture with boxes and names as JPEG: a file, or a folder for several pictures; - is stdout, the table then
    /// goes to stderr. Never overwrites a picture that is looked at.
    #[arg(short = 'o', long = "out", value_name = "ANNOTATED")]
    pub out: Option<PathBuf>,
    /// Consider only people on this watchlist; may be repeated.
    #[arg(long = "watchlist", value_name = "LIST")]
    pub watchlists: Vec<String>,
    /// Similarity that a person must reach, instead of the model's threshold.
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Run the models here, without a server.
    #[arg(long)]
    pub offline: bool,
    /// The server's configuration file (TOML), for --offline.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The server's data directory, for --offline [env: VISAGE_DATA_DIR] [default: visage-data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// One picture of `identify --json`. The names of its keys are part of the contract.
#[derive(Debug, Serialize)]
struct PictureObject {
    image: String,
    width: u32,
    height: u32,
    faces: Vec<FaceObject>,
}

#[derive(Debug, Serialize)]
struct FaceObject {
    /// x1, y1, x2, y2 in pixels.
    bbox: [f32; 4],
    score: f32,
    /// Left eye, right eye, nose, left mouth corner, right mouth corner.
    landmarks: Vec<[f32; 2]>,
    quality: f32,
    /// Experimental; null when no liveness model is in use.
    liveness: Option<f32>,
    person: Option<PersonObject>,
    similarity: f32,
    margin: f32,
    threshold: f32,
    /// The nearest enrolled faces of the person, `people/ID/faces/ID`.
    near_faces: Vec<NearObject>,
    runner_up_similarity: Option<f32>,
    /// Why nobody was named.
    unknown_reason: Option<ReasonObject>,
}

#[derive(Debug, Serialize)]
struct NearObject {
    face: String,
    similarity: f32,
}

#[derive(Debug, Serialize)]
struct ReasonObject {
    code: &'static str,
    value: f32,
    needed: f32,
}

#[derive(Debug, Serialize)]
struct PersonObject {
    id: String,
    display_name: String,
}

/// The name that stands for stdout.
const STDOUT: &str = "-";

/// Runs `identify`; a picture that fails is reported and the others go on, with exit code 1 at the end.
pub async fn run(args: Args, who: &mut dyn Identify, io: &mut Io<'_>) -> Outcome {
    if io.json && args.out.as_deref().is_some_and(is_stdout) {
        return Err(Failure::usage("`-o -` and --json both want stdout").hint("name a file with -o"));
    }
    let targets = targets(&args)?;
    let mut exit = OK;
    for (image, target) in args.images.iter().zip(targets) {
        match one(&args, image, target.as_deref(), who, io).await {
            Ok(()) => {}
            // Nothing better comes after these.
            Err(failure) if failure.quiet || failure.exit == UNREACHABLE || args.images.len() == 1 => {
                return Err(failure);
            }
            Err(mut failure) => {
                let path = image.display().to_string();
                if !failure.message.contains(&path) {
                    failure.message = format!("{path}: {}", failure.message);
                }
                failure.render(io.err, io.json, false)?;
                exit = FAILED;
            }
        }
    }
    Ok(exit)
}

async fn one(
    args: &Args,
    image: &Path,
    target: Option<&Path>,
    who: &mut dyn Identify,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let request = IdentifyFacesRequest {
        image: picture_file::read(image.to_owned()).await?,
        watchlists: args.watchlists.clone(),
        threshold: args.threshold,
        annotate: target.is_some(),
    };
    let answer = who.identify(request).await?;
    if let Some(target) = target {
        picture_file::write(target, &answer.annotated_jpeg, io.out)?;
    }
    if io.json {
        io.object(&object(image, &answer))?;
        return Ok(());
    }
    match target {
        // The picture has stdout for itself.
        Some(target) if is_stdout(target) => {
            let mut nowhere = std::io::sink();
            let mut aside = Io { out: &mut *io.err, err: &mut nowhere, json: false, colour: false, progress: false };
            print(image, &answer, &mut aside)
        }
        Some(target) => {
            print(image, &answer, io)?;
            Ok(io.remark(format!("wrote {}", target.display()))?)
        }
        None => print(image, &answer, io),
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT)
}

/// Which file a path leads to, through links of both kinds; nothing when there is none yet.
fn file_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
}

/// Where the annotated pictures go: one a picture, never two to the same file, never over a picture that is looked at.
fn targets(args: &Args) -> Result<Vec<Option<PathBuf>>, Failure> {
    let Some(out) = &args.out else { return Ok(vec![None; args.images.len()]) };
    if is_stdout(out) && args.images.len() > 1 {
        return Err(Failure::usage("`-o -` takes one picture").hint("with several pictures -o names a folder"));
    }
    let inputs: Vec<_> = args.images.iter().filter_map(|image| file_of(image)).collect();
    let is_input = |path: &Path| file_of(path).is_some_and(|file| inputs.contains(&file));
    if args.images.len() == 1 && !out.is_dir() {
        if !is_stdout(out) && is_input(out) {
            return Err(Failure::usage(format!("{} is the picture that is looked at", out.display()))
                .hint("name another file with -o"));
        }
        return Ok(vec![Some(out.clone())]);
    }
    std::fs::create_dir_all(out).map_err(|e| {
        Failure::new(format!("cannot make the folder {}", out.display()))
            .because(&e)
            .hint("with several pictures -o names a folder")
    })?;
    let mut taken: Vec<PathBuf> = Vec::new();
    for image in &args.images {
        let stem = image.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let names = std::iter::once(format!("{stem}.jpg")).chain((2..).map(|n| format!("{stem}-{n}.jpg")));
        let free = names.map(|name| out.join(name)).find(|path| !taken.contains(path) && !is_input(path));
        taken.extend(free);
    }
    Ok(taken.into_iter().map(Some).collect())
}

fn object(image: &Path, answer: &IdentifyFacesResponse) -> PictureObject {
    let size = answer.size.unwrap_or_default();
    let faces = answer.faces.iter().map(face_object).collect();
    PictureObject { image: image.display().to_string(), width: size.width, height: size.height, faces }
}

fn face_object(identified: &IdentifiedFace) -> FaceObject {
    let face = identified.face.clone().unwrap_or_default();
    let answer = identified.r#match.clone().unwrap_or_default();
    let bbox = face.bbox.unwrap_or_default();
    FaceObject {
        bbox: [bbox.x1, bbox.y1, bbox.x2, bbox.y2],
        score: face.score,
        landmarks: face.landmarks.iter().map(|point| [point.x, point.y]).collect(),
        quality: face.quality,
        liveness: face.liveness,
        person: (!answer.person.is_empty())
            .then(|| PersonObject { id: parse::id(&answer.person).to_owned(), display_name: answer.display_name }),
        similarity: answer.similarity,
        margin: answer.margin,
        threshold: answer.threshold,
        near_faces: answer
            .near_faces
            .iter()
            .map(|near| NearObject { face: near.face.clone(), similarity: near.similarity })
            .collect(),
        runner_up_similarity: answer.runner_up_similarity,
        unknown_reason: answer.unknown_reason.map(|why| ReasonObject {
            code: why.code().as_str_name().trim_start_matches("UNKNOWN_REASON_CODE_"),
            value: why.value,
            needed: why.needed,
        }),
    }
}

fn print(image: &Path, answer: &IdentifyFacesResponse, io: &mut Io<'_>) -> Result<(), Failure> {
    let size = answer.size.unwrap_or_default();
    let faces = match answer.faces.len() {
        0 => "no faces".to_owned(),
        1 => "1 face".to_owned(),
        n => format!("{n} faces"),
    };
    let title = io.ink(Ink::Bold, &plain(&image.display().to_string()));
    io.line(format!("{title} ({}x{}): {faces}", size.width, size.height))?;
    if answer.faces.is_empty() {
        return Ok(());
    }
    // A column only where there is something in it.
    let scored = answer.faces.iter().any(|f| f.face.as_ref().is_some_and(|f| f.liveness.is_some()));
    let mut headings = vec!["who", "id", "similarity", "threshold", "margin", "quality", "box", "why not"];
    if scored {
        headings.insert(6, "liveness");
    }
    let mut table = io.table(&headings);
    for face in answer.faces.iter() {
        let reason = face.r#match.as_ref().map(|answer| plain(&answer.reason)).unwrap_or_default();
        let face = face_object(face);
        let [x1, y1, x2, y2] = face.bbox;
        let (name, id, ink) = match &face.person {
            Some(person) => (plain(&person.display_name), person.id.clone(), Ink::Green),
            None => ("unknown".to_owned(), String::new(), Ink::Yellow),
        };
        let mut row = vec![
            cell(name, Some(ink)),
            cell(id, None),
            cell(format!("{:.3}", face.similarity), None),
            cell(format!("{:.3}", face.threshold), None),
            cell(format!("{:.3}", face.margin), None),
            cell(format!("{:.2}", face.quality), None),
            cell(format!("{x1:.0},{y1:.0} {:.0}x{:.0}", x2 - x1, y2 - y1), None),
            cell(reason, Some(Ink::Dim)),
        ];
        if scored {
            row.insert(6, cell(face.liveness.map_or_else(String::new, |l| format!("{l:.2}")), None));
        }
        table.add_row(row);
    }
    Ok(io.show(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(images: &[&Path], out: &Path) -> Args {
        Args {
            images: images.iter().map(|path| path.to_path_buf()).collect(),
            out: Some(out.to_owned()),
            watchlists: Vec::new(),
            threshold: None,
            offline: false,
            config: None,
            data_dir: None,
        }
    }

    #[test]
    fn no_picture_that_is_looked_at_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.jpg"), dir.path().join("b.png"));
        std::fs::write(&a, "a").unwrap();
        std::fs::write(&b, "b").unwrap();
        // The same file by another spelling, by a symbolic link, by a hard link.
        let (soft, hard) = (dir.path().join("soft.jpg"), dir.path().join("hard.jpg"));
        std::os::unix::fs::symlink(&a, &soft).unwrap();
        std::fs::hard_link(&a, &hard).unwrap();
        for same in [&a, &dir.path().join(".").join("a.jpg"), &soft, &hard] {
            assert!(targets(&args(&[&a], same)).is_err(), "{} would be overwritten", same.display());
        }
        assert_eq!(targets(&args(&[&a], &dir.path().join("new.jpg"))).unwrap().len(), 1);
        let folder = dir.path().join("..").join(dir.path().file_name().unwrap());
        let found = targets(&args(&[&a, &b], &folder)).unwrap();
        let names: Vec<_> = found.iter().flatten().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a-2.jpg", "b.jpg"]);
    }

    #[test]
    fn stdout_takes_one_picture() {
        assert!(targets(&args(&[Path::new("a.jpg"), Path::new("b.jpg")], Path::new("-"))).is_err());
        assert!(!Path::new("-").exists(), "a folder was made of it");
        assert_eq!(targets(&args(&[Path::new("a.jpg")], Path::new("-"))).unwrap(), [Some(PathBuf::from("-"))]);
    }
}
