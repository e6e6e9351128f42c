//! `visage calibrate`: the threshold that keeps a promised rate of false names.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Connection, connect};
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome},
        json,
        output::{Ink, Io, plain},
        picture_file,
    },
    proto::v1::{CalibrateRequest, CalibrateResponse, EmbedFacesRequest, StrangerFace},
};

/// Arguments of `calibrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server learns from the people enrolled, each compared with all others, and from the faces of strangers in DIR. It says so
when that is too little. The threshold follows the number of people by itself; calibrate again when the gallery has changed much.

Examples:
  visage calibrate --fpir 0.001                     at most 1 of 1000 strangers gets a name
  visage calibrate --fpir 0.01 --background strangers/ --dry-run
  visage calibrate --forget")]
pub struct Args {
    /// The promise: share of strangers that may be taken for somebody enrolled, above 0 and below 1.
    #[arg(long, value_name = "RATE", required_unless_present = "forget")]
    pub fpir: Option<f64>,
    /// Folder with pictures of people who are not enrolled; every face counts as another person.
    #[arg(long, value_name = "DIR")]
    pub background: Option<PathBuf>,
    /// Only tell; the threshold in use stays.
    #[arg(long)]
    pub dry_run: bool,
    /// Forget the calibration in use: the model's own threshold counts again.
    #[arg(long, conflicts_with_all = ["fpir", "background", "dry_run"])]
    pub forget: bool,
}

/// Runs `calibrate`.
pub async fn run(args: Args, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    let strangers = match &args.background {
        Some(dir) => strangers(dir, &server, io).await?,
        None => Vec::new(),
    };
    let request = CalibrateRequest { fpir: args.fpir.unwrap_or_default(), strangers, validate_only: args.dry_run };
    let answer = server.server().calibrate(request).await?.into_inner();
    if io.json {
        io.object(&json::to_value("CalibrateResponse", &answer)?)?;
        return Ok(OK);
    }
    tell(&args, &answer, io)?;
    Ok(OK)
}

fn tell(args: &Args, answer: &CalibrateResponse, io: &mut Io<'_>) -> Result<(), Failure> {
    let Some(c) = &answer.calibration else {
        io.line("forgotten; the model's own threshold counts again")?;
        return Ok(());
    };
    let missed = |share: Option<f32>| match share {
        Some(share) => {
            format!("{:.1} % of {} enrolled faces, each looked up without itself", share * 100.0, answer.mates)
        }
        None => "unknown: nobody has several faces".into(),
    };
    io.pairs(&[
        ("model", plain(&c.model)),
        ("promise", format!("at most {} of strangers get a name, among {} people", percent(c.fpir), c.people)),
        (
            "threshold",
            format!("{:.3} (best estimate {:.3}, interval from {:.3})", c.threshold, c.threshold_best, c.threshold_low),
        ),
        ("missed at it", missed(answer.fnir)),
        ("missed at the best estimate", missed(answer.fnir_best)),
        ("learned from", format!("{} comparisons of {} people", c.comparisons, c.probes)),
    ])?;
    let used = if args.dry_run { "only told: the threshold in use stays" } else { "in use from now on" };
    let used = io.ink(Ink::Green, used);
    io.line(used)?;
    Ok(())
}

fn percent(rate: f64) -> String {
    // As many digits as the rate needs, and no noise of binary fractions.
    let text = format!("{:.6}", rate * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The faces in a folder of pictures, embedded by the server. Pictures that it refuses are passed over with a remark.
async fn strangers(dir: &Path, server: &Connection, io: &mut Io<'_>) -> Result<Vec<StrangerFace>, Failure> {
    let pictures = pictures(dir)?;
    let bar = if io.progress { ProgressBar::new(pictures.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures of strangers, {eta} left") {
        bar.set_style(style);
    }
    let mut recognition = server.recognition();
    let mut faces = Vec::new();
    for picture in pictures {
        let image = picture_file::read(picture.clone()).await?;
        match recognition.embed_faces(EmbedFacesRequest { image }).await {
            Ok(found) => faces
                .extend(found.into_inner().faces.into_iter().map(|face| StrangerFace { embedding: face.embedding })),
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                bar.suspend(|| io.remark(format!("{}: {}", picture.display(), plain(status.message()))))?;
            }
            Err(status) => return Err(status.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(faces)
}

/// The pictures of a folder and of the folders in it, sorted.
fn pictures(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable =
            |e: &std::io::Error| Failure::new(format!("cannot read the folder {}", folder.display())).because(e);
        for entry in std::fs::read_dir(&folder).map_err(|e| unreadable(&e))? {
            let entry = entry.map_err(|e| unreadable(&e))?;
            // A link may lead round in circles.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if picture_file::looks_like_picture(&entry.path()) => found.push(entry.path()),
                _ => {}
            }
        }
    }
    if found.is_empty() {
        return Err(Failure::new(format!("no pictures in {}", dir.display()))
            .hint("expected .jpg, .jpeg, .png or .webp files of people who are not enrolled"));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_people_read_them() {
        assert_eq!([0.001, 0.0005, 0.5, 0.1].map(percent), ["0.1 %", "0.05 %", "50 %", "10 %"]);
    }

    #[test]
    fn pictures_are_found_in_folders_of_folders() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pictures(dir.path()).unwrap_err().message.starts_with("no pictures"));
        std::fs::create_dir_all(dir.path().join("b")).unwrap();
        for file in ["z.jpg", "b/a.PNG", "b/notes.txt"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        assert_eq!(pictures(dir.path()).unwrap(), [dir.path().join("b/a.PNG"), dir.path().join("z.jpg")]);
        assert!(pictures(&dir.path().join("none")).is_err());
    }
}
