//! `visage eval tracking`: made scenes of real faces, followed by the server's tracker and by plain ones.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use super::{
    lab::{self, Common, Lab},
    tracking_report as report, words,
};
use crate::{
    cli::{
        error::{Failure, Outcome},
        output::Io,
    },
    evaluation::{
        faces::{self, Choice, Unreadable},
        people,
        tracking::{
            Footage, Setup, Trail,
            follow::{self, Settings},
            judge,
            metrics::Figures,
            rivals,
            scene::{SCENES, SIZE, Scene},
            studio::{Head, Studio},
            watch,
        },
    },
    face::FaceEngine,
    frame::{annotate, crop},
    models::sha256,
    track::Least,
    whole_file::{self, WholeFile},
};

/// Frames drawn of each scene.
const DRAWN: usize = 6;

/// Arguments of `eval tracking`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of people whose faces play: DIR/PERSON/*.{jpg,jpeg,png,webp}.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Scenes to play, separated by commas [default: all of them].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub scenes: Vec<String>,
    /// Each scene is made anew from each of these numbers: `N` or `FROM-TO`.
    #[arg(long, value_name = "NUMBERS", default_value = "1-3", value_parser = seeds)]
    pub seeds: std::ops::RangeInclusive<u64>,
    /// Pictures to put behind the people; without it backgrounds are made.
    #[arg(long, value_name = "DIR")]
    pub background: Option<PathBuf>,
    /// Keep what the networks saw in a file, or, when it is there, take it from it: trackers can be compared without running them again. A file
    /// made from other pictures or with other options is refused.
    #[arg(long, value_name = "FILE")]
    pub footage: Option<PathBuf>,
    /// Write annotated frames of each scene into a folder, one tracker's boxes above the next one's.
    #[arg(long, value_name = "DIR", conflicts_with = "footage")]
    pub draw: Option<PathBuf>,
    /// Write truth and tracks as MOTChallenge text files, DIR/SCENE-NUMBER/{gt,TRACKER}.txt, for other tools.
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Models, detector, plot.
    #[command(flatten)]
    pub common: Common,
}

fn seeds(text: &str) -> Result<std::ops::RangeInclusive<u64>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse::<u64>(), to.trim().parse::<u64>());
    match (from, to) {
        (Ok(from), Ok(to)) if from <= to && to - from < 1000 && to < 1 << 40 => Ok(from..=to),
        _ => Err("give a number, or FROM-TO with at most 1000 numbers".into()),
    }
}

/// A tracker with its figures by scene.
pub struct Scored {
    /// Its name.
    pub tracker: &'static str,
    /// Sums over the seeds of each scene.
    pub scenes: Vec<(String, Figures)>,
    /// Crops embedded, over all scenes; `None` for those that never look.
    pub looks: Option<usize>,
}

type Told = (&'static str, Trail, Option<usize>);

/// Every tracker on the same footage.
fn all(footage: &Footage, settings: &Settings) -> [Told; 3] {
    let (ours, looks) = follow::follow(footage, settings);
    [("visage", ours, Some(looks)), ("overlap", rivals::overlap(footage), None), ("byte", rivals::byte(footage), None)]
}

/// Runs `eval tracking`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let lab = Lab::open(&args.common)?;
    let names = names(&args.scenes)?;
    let [model] = lab.embedders() else {
        return Err(Failure::usage("tracking is evaluated with one embedder at a time"));
    };
    let config = lab.config();
    let spec = lab.spec(model)?;
    let settings = Settings {
        track: config.track.clone(),
        looks: config.looks.clone(),
        least: Least { face_px: spec.min_face_px, frontality: config.identity.min_frontality },
        decider: config.decider.clone(),
        returns: config.returns.clone(),
        model: model.clone(),
        spec,
    };
    let scenes: Vec<Scene> =
        names.iter().flat_map(|name| args.seeds.clone().filter_map(move |seed| Scene::make(name, seed))).collect();
    let setup = setup(&args, &lab, &settings)?;
    let kept = args.footage.as_deref().filter(|file| file.exists());
    // Begun before the work: a place that can't be written costs no hour.
    let keeping = args.footage.as_deref().filter(|_| kept.is_none());
    let begun = keeping.map(|file| WholeFile::create(file).map_err(unwritten(file))).transpose()?;
    let (footage, bad) = match kept {
        // Nothing is read from pictures that were seen before.
        Some(file) => (chosen(file, &scenes, model.as_str(), &setup)?, Vec::new()),
        None => {
            let engine = lab.engine(model).await?;
            let footage = shoot(&args, &engine, &scenes, (&settings, &setup), io).await;
            engine.shutdown().await;
            footage?
        }
    };
    if let (Some(file), Some(begun)) = (keeping, begun) {
        write(begun, &footage).map_err(unwritten(file))?;
        io.remark(format!("what the networks saw: {}", file.display()))?;
    }
    if let Some(dir) = &args.export {
        export(dir, &footage, &settings)
            .map_err(|e| Failure::new(format!("{} can't be written", dir.display())).because(&e))?;
    }
    let results = score(&footage, &names, &settings);
    report::print(&results, model.as_str(), &args.seeds, io)?;
    if let Some(file) = &args.common.plot {
        report::plot(file, &results, model.as_str())?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    Ok(words::exit(&bad))
}

/// What footage rests on. Blocks: reads every picture, as the studio does.
fn setup(args: &Args, lab: &Lab, settings: &Settings) -> Result<Setup, Failure> {
    let inference = &lab.config().inference;
    let of = |files: Vec<PathBuf>, dir: &Path| {
        // A file that can't be read is none: the studio names it.
        let line = |file: &PathBuf| {
            let content = fs::read(file).ok().map(|bytes| sha256(&bytes));
            format!("{} {}\n", content.unwrap_or_default(), file.strip_prefix(dir).unwrap_or(file).display())
        };
        sha256(files.iter().map(line).collect::<String>().as_bytes())
    };
    let people = people::read(&args.dir)?.into_iter().map(|s| s.path).collect();
    let background = args.background.as_deref().map(|dir| Ok::<_, Failure>(of(people::pictures(dir)?, dir)));
    Ok(Setup {
        people: of(people, &args.dir),
        background: background.transpose()?.unwrap_or_default(),
        detector: lab.config().models.detector.clone(),
        detector_size: inference.detector_size,
        tiling: inference.tiling,
        min_score: inference.min_score,
        low_score: settings.track.low_score,
        mirror: settings.spec.mirror,
    })
}

/// The scenes out of a file of footage, which may hold more than is asked for.
fn chosen(file: &Path, scenes: &[Scene], model: &str, setup: &Setup) -> Result<Vec<Footage>, Failure> {
    let mut held = read(file)?;
    let refused =
        |what: String| Failure::usage(format!("{} {what}", file.display())).hint("name another file, or delete it");
    let take = |scene: &Scene| {
        let is = |f: &Footage| (&f.scene, f.seed) == (&scene.name, scene.seed) && f.model == model && f.size == SIZE;
        let place = held.iter().position(is).ok_or_else(|| {
            refused(format!("does not hold scene {} of number {} seen by {model}", scene.name, scene.seed))
        })?;
        let taken = held.swap_remove(place);
        match taken.setup.differences(setup).as_slice() {
            [] => Ok(taken),
            differences => Err(refused(format!("was made with another {}", differences.join(", ")))),
        }
    };
    scenes.iter().map(take).collect()
}

fn names(asked: &[String]) -> Result<Vec<String>, Failure> {
    if asked.is_empty() {
        return Ok(SCENES.iter().map(|s| s.0.to_owned()).collect());
    }
    for name in asked {
        if !SCENES.iter().any(|s| s.0 == name) {
            let known: Vec<_> = SCENES.iter().map(|(name, what)| format!("{name} ({what})")).collect();
            return Err(
                Failure::usage(format!("there is no scene {name}")).hint(format!("scenes: {}", known.join(", ")))
            );
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    Ok(asked.iter().filter(|name| seen.insert((*name).clone())).cloned().collect())
}

fn score(footage: &[Footage], names: &[String], settings: &Settings) -> Vec<Scored> {
    let mut results: Vec<Scored> = Vec::new();
    for name in names {
        let mut by_tracker: Vec<(&'static str, Vec<Figures>, Option<usize>)> = Vec::new();
        for one in footage.iter().filter(|f| f.scene == *name) {
            for (place, (tracker, trail, looks)) in all(one, settings).into_iter().enumerate() {
                if by_tracker.len() <= place {
                    by_tracker.push((tracker, Vec::new(), looks.map(|_| 0)));
                }
                by_tracker[place].1.push(judge(one, &trail));
                by_tracker[place].2 = by_tracker[place].2.zip(looks).map(|(a, b)| a + b);
            }
        }
        for (place, (tracker, figures, looks)) in by_tracker.into_iter().enumerate() {
            if results.len() <= place {
                results.push(Scored { tracker, scenes: Vec::new(), looks: looks.map(|_| 0) });
            }
            results[place].scenes.push((name.clone(), figures.into_iter().sum()));
            results[place].looks = results[place].looks.zip(looks).map(|(a, b)| a + b);
        }
    }
    results
}

/// Renders and watches the scenes; beside them the pictures that can't be read.
async fn shoot(
    args: &Args,
    engine: &FaceEngine,
    scenes: &[Scene],
    (settings, setup): (&Settings, &Setup),
    io: &mut Io<'_>,
) -> Result<(Vec<Footage>, Vec<Unreadable>), Failure> {
    let (studio, bad) = studio(args, engine, io).await?;
    if let Some(dir) = &args.draw {
        fs::create_dir_all(dir).map_err(|e| Failure::new(format!("{} can't be made", dir.display())).because(&e))?;
    }
    let frames = scenes.iter().map(|s| s.times.len()).sum();
    let bar = lab::bar(io, "scenes", frames);
    let mut footage = Vec::with_capacity(scenes.len());
    for scene in scenes {
        let seen = watch::watch(engine, &studio, scene, setup, &|| bar.inc(1)).await?;
        if let Some(dir) = &args.draw {
            draw(dir, &studio, scene, &seen, settings)?;
        }
        footage.push(seen);
    }
    bar.finish_and_clear();
    Ok((footage, bad))
}

/// Heads and backgrounds; beside them the pictures that can't be read.
async fn studio(args: &Args, engine: &FaceEngine, io: &mut Io<'_>) -> Result<(Studio, Vec<Unreadable>), Failure> {
    let samples = people::read(&args.dir)?;
    let files: Vec<PathBuf> = samples.iter().map(|s| s.path.clone()).collect();
    let found = lab::embed(engine, &files, Choice::Largest, io).await?;
    let mut bad = faces::unreadable(&samples, &found);
    let mut cast: Vec<(String, Vec<Head>)> = Vec::new();
    for (sample, found) in samples.iter().zip(&found) {
        let Some(face) = found.face() else { continue };
        let picture = faces::open(&sample.path).map_err(Failure::new)?;
        let head = Head::cut(&picture, &face.detection);
        match cast.last_mut().filter(|(person, _)| *person == sample.person) {
            Some((_, heads)) => heads.push(head),
            None => cast.push((sample.person.clone(), vec![head])),
        }
    }
    if cast.len() < 7 {
        io.remark(format!(
            "warning: {} people with a face in {}; scenes with more show somebody twice, which no tracker can tell apart by looks",
            cast.len(),
            args.dir.display()
        ))?;
    }
    let mut backgrounds = Vec::new();
    for file in args.background.as_deref().map(people::pictures).transpose()?.unwrap_or_default() {
        let picture = match faces::open(&file) {
            Ok(picture) => picture,
            Err(why) => {
                bad.push(Unreadable { path: file, why });
                continue;
            }
        };
        // Faces of the background would be nobody's: such pictures are no use here.
        if !engine.detect(&picture, None).await.map_err(anyhow::Error::from)?.is_empty() {
            io.remark(format!("warning: {} shows a face and is left out", file.display()))?;
            continue;
        }
        backgrounds.push(crop::resized(&crop::to_rgb(&picture), SIZE.0, SIZE.1));
    }
    words::name_unreadable(io, &bad)?;
    Ok((Studio { people: cast.into_iter().map(|(_, heads)| heads).collect(), backgrounds }, bad))
}

/// A few frames with the boxes of each tracker, stacked.
fn draw(dir: &Path, studio: &Studio, scene: &Scene, footage: &Footage, settings: &Settings) -> Result<(), Failure> {
    let Some(shooting) = studio.cast(scene) else { return Ok(()) };
    let told = all(footage, settings);
    let count = footage.moments.len();
    for part in 0..DRAWN.min(count) {
        let number = (part * 2 + 1) * count / (2 * DRAWN.min(count));
        let (frame, moment) = (shooting.frame(number), &footage.moments[number]);
        let mut sheet = image::RgbImage::new(SIZE.0, SIZE.1 * told.len() as u32);
        for (row, (tracker, trail, _)) in told.iter().enumerate() {
            let mut image = frame.clone();
            let truth = moment.truth.iter().filter(|t| t.counts).map(|t| annotate::Mark {
                bbox: t.bbox,
                landmarks: None,
                label: String::new(),
                known: true,
            });
            let boxes = trail[number].iter().filter_map(|(track, i)| {
                let bbox = moment.seen.get(*i)?.detection.bbox.grown(1.08);
                Some(annotate::Mark { bbox, landmarks: None, label: format!("{tracker} {track}"), known: false })
            });
            annotate::draw(&mut image, &truth.chain(boxes).collect::<Vec<_>>());
            image::imageops::replace(&mut sheet, &image, 0, i64::from(SIZE.1) * row as i64);
        }
        let file = dir.join(format!("{}-{}-{number:03}.jpg", scene.name, scene.seed));
        let bytes = crop::jpeg(&sheet, 85).map_err(anyhow::Error::from)?;
        whole_file::write(&file, &bytes)
            .map_err(|e| Failure::new(format!("{} can't be written", file.display())).because(&e))?;
    }
    Ok(())
}

/// Lines `frame,id,left,top,width,height,confidence,-1,-1,-1`, frames and ids from 1; confidence 0 marks truth that does not count.
fn export(dir: &Path, footage: &[Footage], settings: &Settings) -> std::io::Result<()> {
    let line = |frame: usize, id: usize, b: &crate::frame::BBox, confidence: f32| {
        let (w, h) = (b.width(), b.height());
        format!("{},{},{:.2},{:.2},{w:.2},{h:.2},{confidence:.3},-1,-1,-1\n", frame + 1, id + 1, b.x1, b.y1)
    };
    for one in footage {
        let folder = dir.join(format!("{}-{}", one.scene, one.seed));
        fs::create_dir_all(&folder)?;
        let truth = one.moments.iter().enumerate().flat_map(|(k, moment)| {
            moment.truth.iter().map(move |t| line(k, t.appearance, &t.bbox, f32::from(u8::from(t.counts))))
        });
        whole_file::write(&folder.join("gt.txt"), truth.collect::<String>().as_bytes())?;
        for (tracker, trail, _) in all(one, settings) {
            let told = trail.iter().zip(&one.moments).enumerate().flat_map(|(k, (told, moment))| {
                told.iter().filter_map(move |(id, i)| {
                    let seen = &moment.seen.get(*i)?.detection;
                    Some(line(k, *id, &seen.bbox, seen.score))
                })
            });
            whole_file::write(&folder.join(format!("{tracker}.txt")), told.collect::<String>().as_bytes())?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<Footage>, Failure> {
    let broken = |e: &dyn std::fmt::Display| {
        Failure::new(format!("{} is no footage of this command: {e}", file.display()))
            .hint("name another file, or delete it")
    };
    let lines = BufReader::new(File::open(file).map_err(|e| broken(&e))?).lines();
    lines.map(|line| serde_json::from_str(&line.map_err(|e| broken(&e))?).map_err(|e| broken(&e))).collect()
}

fn unwritten(file: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    |e| Failure::new(format!("{} can't be written", file.display())).because(&e)
}

fn write(mut out: WholeFile, footage: &[Footage]) -> std::io::Result<()> {
    for one in footage {
        serde_json::to_writer(&mut out, one)?;
        writeln!(out)?;
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_checked() {
        assert_eq!(seeds("3"), Ok(3..=3));
        assert_eq!(seeds("1-4"), Ok(1..=4));
        assert!(seeds("4-1").is_err() && seeds("x").is_err() && seeds("1-5000").is_err());
        assert_eq!(names(&[]).unwrap().len(), SCENES.len());
        assert_eq!(names(&["walk".into(), "walk".into()]).unwrap(), ["walk"]);
        assert!(names(&["run".into()]).unwrap_err().message.contains("no scene run"));
    }

    #[test]
    fn footage_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("footage");
        let setup = Setup {
            people: "p".into(),
            background: String::new(),
            detector: "d".into(),
            detector_size: 640,
            tiling: crate::inference::Tiling::Stills,
            min_score: 0.8,
            low_score: 0.3,
            mirror: false,
        };
        let (setup, scene) = (&setup, Scene::make("walk", 1).unwrap());
        let one = Footage {
            scene: "walk".into(),
            seed: 1,
            model: "m".into(),
            setup: setup.clone(),
            size: SIZE,
            moments: Vec::new(),
        };
        write(WholeFile::create(&file).unwrap(), std::slice::from_ref(&one)).unwrap();
        assert_eq!(read(&file).unwrap(), [one]);
        let message = |model: &str, setup: &Setup| {
            chosen(&file, std::slice::from_ref(&scene), model, setup).err().map(|e| e.message).unwrap_or_default()
        };
        assert_eq!(message("m", setup), "");
        assert!(message("n", setup).contains("seen by n"));
        let other = Setup { people: "q".into(), mirror: true, ..setup.clone() };
        assert!(message("m", &other).ends_with("was made with another DIR, --mirror"));
        fs::write(&file, "x").unwrap();
        assert!(read(&file).unwrap_err().message.contains("no footage"));
    }
}
