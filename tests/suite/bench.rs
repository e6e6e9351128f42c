//! `visage bench` as a user runs it: real models on a made picture; figures that agree with each other, and refusals. How fast it is is no matter here.

use serde_json::Value;

use crate::support::visage;

async fn run(args: &[&str]) -> (i32, String, String) {
    let out = visage().arg("bench").args(args).output().await.unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_one_camera_and_of_a_busy_server_agree_with_each_other() {
    for (what, batch, asking) in [("detect", "1", "1"), ("detect", "2", "3"), ("embed", "1", "1"), ("embed", "2", "3")]
    {
        let args = [what, "--json", "--seconds", "0.2", "--frame", "640x360", "--batch", batch, "--asking", asking];
        let (code, stdout, err) = run(&args).await;
        assert_eq!(code, 0, "{what}: {err}");
        let object: Value = serde_json::from_str(stdout.trim()).unwrap();
        let figure = |key: &str| object[key].as_f64().unwrap_or_else(|| panic!("no {key} in {object}"));
        assert_eq!((object["batch"].to_string(), object["asking"].to_string()), (batch.into(), asking.into()));
        assert!(figure("pairs") >= 5.0);
        // A rate is that of pictures or faces, a time that of a run, however many runs are asked for at once.
        for of in ["ours", "bare"] {
            let things = figure(&format!("{of}_per_s")) * figure(&format!("{of}_ms")) / 1e3;
            assert!((things - figure("batch")).abs() < 1e-6, "{of}: {object}");
        }
        assert!((figure("efficiency") - figure("ours_per_s") / figure("bare_per_s")).abs() < 1e-9, "{object}");
        assert!(figure("efficiency_low") <= figure("efficiency_high"), "{object}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_measured_is_refused_with_the_range() {
    for (args, says) in [
        (["detect", "--asking", "0"], "give 1 to 16"),
        (["embed", "--asking", "17"], "give 1 to 16"),
        (["detect", "--batch", "65"], "give 1 to 64"),
        (["detect", "--seconds", "0"], "above 0"),
    ] {
        let (code, _, err) = run(&args).await;
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}
