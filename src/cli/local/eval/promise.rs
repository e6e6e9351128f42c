//! `visage eval promise`: does the threshold that `visage calibrate` learns keep its promise on people held out, and over tracks?

use std::path::PathBuf;

use super::{
    lab::{self, Common, Lab},
    promise_report as report, words,
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::Io,
    },
    evaluation::{
        faces::Unreadable,
        people,
        promise::{
            looks::{self, Photo},
            sphere,
            split::{self, Plan},
        },
    },
    face::FaceEngine,
};

/// Sites that are simulated: people enrolled and background strangers.
const SITES: [(usize, usize); 6] = [(10, 100), (30, 0), (30, 200), (100, 0), (300, 0), (1000, 300)];

/// Arguments of `eval promise`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of people: DIR/PERSON/*.{jpg,jpeg,png,webp}.
    #[arg(value_name = "DIR", required_unless_present = "simulated")]
    pub dirs: Vec<PathBuf>,
    /// Pictures of further people, each of somebody else; they are background or strangers.
    #[arg(long, value_name = "DIR")]
    pub strangers: Option<PathBuf>,
    /// Promised shares of strangers, separated by commas.
    #[arg(long, value_name = "RATE", value_delimiter = ',', default_values_t = [0.1, 0.05, 0.02], value_parser = rate)]
    pub fpir: Vec<f64>,
    /// Random splits into gallery, background and strangers.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub splits: u32,
    /// What the dice begin with.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..1_000_000))]
    pub seed: u64,
    /// No pictures, no models: simulate so many sites of each kind, on distributions that nothing was tuned on.
    #[arg(long, value_name = "SITES", conflicts_with_all = ["dirs", "strangers", "splits", "embedders", "size", "min_score", "mirror"],
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub simulated: Option<u32>,
    /// Models, detector, plot.
    #[command(flatten)]
    pub common: Common,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r: &f64| *r > 0.0 && *r < 1.0);
    rate.ok_or_else(|| "give a number above 0 and below 1".into())
}

/// Runs `eval promise`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    if let Some(plot) = &args.common.plot {
        crate::evaluation::plot::check(plot)?;
    }
    if let Some(sites) = args.simulated {
        // A file that the environment names is there for other commands, too.
        if args.common.config.is_some() && std::env::var_os("VISAGE_CONFIG").is_none() {
            return Err(Failure::usage("--simulated asks no models, so --config would change nothing"));
        }
        return simulated(&args, sites as usize, io).await;
    }
    let lab = Lab::open(&args.common)?;
    let (mut all, mut exit) = (Vec::new(), OK);
    for id in lab.embedders() {
        let engine = lab.engine(id).await?;
        let photos = photos(&args, &engine, io).await;
        engine.shutdown().await;
        let (photos, bad) = photos?;
        if all.is_empty() {
            words::name_unreadable(io, &bad)?;
            exit = words::exit(&bad);
        }
        let bar = lab::bar(io, "splits", args.fpir.len() * args.splits as usize);
        let mut outcomes = Vec::new();
        for fpir in &args.fpir {
            let plan = Plan {
                fpir: *fpir,
                splits: args.splits as usize,
                seed: args.seed,
                decider: lab.config().decider.clone(),
                spec: lab.spec(id)?,
            };
            outcomes.push(split::play(&photos, &plan, &mut || bar.inc(1))?);
        }
        bar.finish_and_clear();
        all.push((id.to_string(), outcomes));
    }
    report::splits(&all, io)?;
    if let Some(file) = &args.common.plot {
        report::plot(file, &all)?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    Ok(exit)
}

/// Everybody's photographs with looks; each picture of a stranger is a person. Beside them the pictures that can't be read.
async fn photos(args: &Args, engine: &FaceEngine, io: &Io<'_>) -> Result<(Vec<Photo>, Vec<Unreadable>), Failure> {
    let (mut files, mut whose, mut names) = (Vec::new(), Vec::new(), Vec::<(usize, String)>::new());
    for (folder, dir) in args.dirs.iter().enumerate() {
        for sample in people::read(dir)? {
            let name = (folder, sample.person);
            let person = names.iter().position(|n| *n == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            files.push(sample.path);
            whose.push(person);
        }
    }
    let known = names.len();
    for (i, file) in
        args.strangers.as_deref().map(people::pictures).transpose()?.unwrap_or_default().into_iter().enumerate()
    {
        files.push(file);
        whose.push(known + i);
    }
    let bar = lab::bar(io, engine.embedder().id.as_str(), files.len());
    let photos = looks::photos(engine, &files, &whose, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    Ok(photos?)
}

async fn simulated(args: &Args, sites: usize, io: &mut Io<'_>) -> Outcome {
    let bar = lab::bar(io, "simulated sites", args.fpir.len() * sphere::WORLDS.len() * SITES.len());
    let mut rows = Vec::new();
    for fpir in args.fpir.clone() {
        let seed = args.seed;
        for world in sphere::WORLDS {
            for (people, background) in SITES {
                let played =
                    tokio::task::spawn_blocking(move || sphere::play(world, people, background, fpir, sites, seed));
                rows.push(played.await.map_err(|e| Failure::new("the simulation was interrupted").because(&e))?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    report::sites(&rows, io)?;
    if let Some(file) = &args.common.plot {
        report::plot_sites(file, &rows)?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_a_rate() {
        assert_eq!(rate("0.01"), Ok(0.01));
        assert!(rate("0").is_err() && rate("1").is_err() && rate("x").is_err() && rate("NaN").is_err());
    }
}
