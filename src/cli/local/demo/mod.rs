//! `visage demo`: everything at once on real faces, by running the commands a user would run.
//!
//! Simulated RTSP cameras play people and strangers, a server watches them, the client enrols and subscribes; the summary
//! says whether everybody was named rightly. Each step is the real command in a process of its own.

mod summary;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{Instant, timeout_at},
};

use super::{
    cast::{self, Cast},
    processes::{Visage, free_port},
};
use crate::models::locate;
use summary::Summary;

/// Plays the demo.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leaves everything running and prints the commands to play with it.
    #[arg(long)]
    keep: bool,
    /// Folder for annotated pictures; those of an earlier demo in it are removed, other files stay.
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// How long cameras are watched, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 45)]
    seconds: u64,
    /// Folder of the demo's pictures; empty searches `.cache/fixtures`.
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
}

/// Runs it. With `json`, what was counted is printed as one object, and all the rest goes to the standard error.
///
/// # Errors
/// When a step fails, an expected recognition is missing, or a stranger gets a name.
pub async fn run(args: Args, json: bool) -> anyhow::Result<()> {
    let say = |text: &str| say(text, json);
    let fixtures = match args.fixtures {
        Some(dir) => dir,
        None => locate::cache_dir("fixtures").context("the demo's pictures are missing; run `make setup`")?,
    };
    let work = tempfile::tempdir().context("no temporary folder could be made")?;
    let cast = cast::prepare(&fixtures, work.path())?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("{} can't be made", args.out.display()))?;
    tidy(&args.out, &cast).with_context(|| format!("{} can't be tidied", args.out.display()))?;

    let grpc = free_port()?;
    let mut visage = Visage::new(format!("http://127.0.0.1:{grpc}"))?;
    say("1. simulated cameras, playing real faces over RTSP");
    let rtsp = free_port()?.to_string();
    let mut simulate = vec!["simulate".to_owned(), "--port".into(), rtsp.clone()];
    simulate.extend(cast.cameras.iter().map(|c| format!("{}={}", c.id, c.source)));
    let urls = visage.start(&simulate, cast.cameras.len(), "rtsp://").await?;
    ensure!(urls.len() == cast.cameras.len(), "the simulator serves {} of {} cameras", urls.len(), cast.cameras.len());

    say("2. the server");
    let data = work.path().join("data").display().to_string();
    let (listen, http) = (format!("127.0.0.1:{grpc}"), format!("127.0.0.1:{}", free_port()?));
    visage
        .start(&["serve", "--data-dir", &data, "--listen", &listen, "--http", &http].map(str::to_owned), 0, "")
        .await?;
    visage.ready(Duration::from_secs(60)).await?;

    say("3. enrol a folder of people");
    let gallery = cast.gallery.display().to_string();
    let enroll = ["enroll", "--from-dir", &gallery];
    if json {
        say(&visage.run(&enroll).await?)
    } else {
        visage.show(&enroll).await?
    }

    say("4. subscribe, then register the cameras");
    let mut watch = visage.pipe(&["watch", "--json", "--no-reconnect"])?;
    let stdout = watch.stdout.take().context("the subscriber has no output")?;
    for camera in &cast.cameras {
        let url = format!("rtsp://127.0.0.1:{rtsp}/{}", camera.id);
        visage.run(&["camera", "add", &camera.id, &url]).await?;
    }

    say("5. events, as they come");
    let mut lines = BufReader::new(stdout).lines();
    let mut summary = Summary::new(&cast);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    while let Ok(line) = timeout_at(until, lines.next_line()).await {
        let Some(line) = line? else { bail!("the event stream ended early") };
        let event = serde_json::from_str(&line).with_context(|| format!("not an event: {line}"))?;
        if let Some(text) = summary.take(&event) {
            say(&text);
        }
    }
    watch.kill().await.ok();

    say("6. pictures");
    let pictures = summary.pictures();
    for (name, file) in &pictures {
        let path = args.out.join(file).display().to_string();
        visage.run(&["events", "image", name, "-o", &path]).await?;
    }
    say(&format!("   {} annotated pictures in {}", pictures.len(), args.out.display()));
    let report = summary.report(&visage.run(&["camera", "list", "--json"]).await?)?;
    if json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    } else {
        say(&format!("\n{}", report.table()));
    }

    let verdict = report.verdict();
    if args.keep {
        if let Err(error) = &verdict {
            say(&format!("{error:#}"));
        }
        say("Everything goes on. Cameras:");
        for url in &urls {
            say(&format!("   {url}"));
        }
        say("Play with it:");
        for example in ["watch", "camera list", "person list", "events list", "identify PICTURE -o out.jpg"] {
            say(&format!("   {}", visage.spelled(example)));
        }
        say("Ctrl-C ends it.");
        crate::server::run::signal().await;
    }
    visage.stop().await;
    verdict
}

/// Removes the pictures of an earlier demo, and nothing else: the folder is the user's.
fn tidy(out: &Path, cast: &Cast) -> std::io::Result<()> {
    for entry in std::fs::read_dir(out)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| cast.cameras.iter().any(|c| summary::is_picture(name, &c.id)));
        if ours && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn say(text: &str, json: bool) {
    // A closed terminal is no reason to end the demo half-way.
    let _ = if json { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pictures_of_an_earlier_demo_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let camera = cast::CastCamera { id: "yard".into(), source: String::new(), people: Default::default() };
        let cast = Cast { cameras: vec![camera], gallery: PathBuf::new() };
        let stays = ["holiday.jpg", "yard.jpg", "yard-1x-unknown.jpg", "yard-01-unknown.png", "lobby-01-unknown.jpg"];
        for name in stays.iter().chain(&["yard-01-unknown.jpg", "yard-12-barack-obama.jpg"]) {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(dir.path().join("yard-03-unknown.jpg")).unwrap();
        tidy(dir.path(), &cast).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut wanted: Vec<_> = stays.iter().chain(&["yard-03-unknown.jpg"]).map(ToString::to_string).collect();
        wanted.sort();
        assert_eq!(left, wanted);
    }
}
