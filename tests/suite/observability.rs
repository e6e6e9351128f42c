//! What dashboards, alerts, log readers and collectors of traces get from a server at work.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use promql_parser::{
    label::MatchOp,
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use visage::{
    proto::v1::{DeleteCameraRequest, EventKind, GetPersonRequest},
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::{
    operations::{get, until},
    support::{Server, folder_of},
};

/// What Prometheus adds by itself.
const ADDED: [&str; 2] = ["instance", "job"];
/// Metrics whose series need something that the test's server has not: TLS, a fault.
const WITHOUT_SERIES: [&str; 2] = ["visage_tls_certificate_expiry_timestamp_seconds", "visage_camera_restarts_total"];

/// Series of a page of `/metrics` by name: label names, and the values of each.
type Page = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Reads the text format; every line has to be of it.
fn page(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            page.entry(described.split(' ').next().unwrap().to_owned()).or_default();
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let known = page.entry(name.to_owned()).or_default();
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels do not end: {line}"));
        for label in labels.split("\",").filter(|l| !l.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            known.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    page
}

/// What a query asks for.
#[derive(Default)]
struct Asked {
    selectors: Vec<VectorSelector>,
    grouped: Vec<String>,
}

impl ExprVisitor for Asked {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        let modifier = match expr {
            Expr::VectorSelector(selector) => {
                self.selectors.push(selector.clone());
                None
            }
            Expr::MatrixSelector(matrix) => {
                self.selectors.push(matrix.vs.clone());
                None
            }
            Expr::Aggregate(aggregate) => aggregate.modifier.clone(),
            Expr::Binary(binary) => binary.modifier.as_ref().and_then(|m| m.matching.clone()),
            _ => None,
        };
        self.grouped.extend(modifier.iter().flat_map(|m| m.labels().labels.clone()));
        Ok(true)
    }
}

/// What is wrong with a query on a page; `words` are the labels that its texts show.
fn faults(query: &str, words: &BTreeSet<String>, page: &Page) -> Vec<String> {
    let expr = match parser::parse(query) {
        Ok(expr) => expr,
        Err(error) => return vec![format!("{query}: {error}")],
    };
    let mut asked = Asked::default();
    let Ok(_) = walk_expr(&mut asked, &expr);
    let mut faults = Vec::new();
    let mut labels: BTreeSet<String> = ADDED.map(String::from).into();
    for selector in &asked.selectors {
        let name = selector.name.clone().unwrap_or_default();
        if name == "up" {
            continue;
        }
        let Some(known) = page.get(&name) else {
            faults.push(format!("{query}: nothing is called {name}"));
            continue;
        };
        if WITHOUT_SERIES.contains(&name.as_str()) {
            let described = visage::telemetry::catalogue().iter().find(|m| m.name == name).unwrap();
            labels.extend(described.labels.iter().map(|l| (*l).to_owned()));
            continue;
        }
        labels.extend(known.keys().cloned());
        for matcher in &selector.matchers.matchers {
            match known.get(&matcher.name) {
                _ if ADDED.contains(&matcher.name.as_str()) => {}
                None => faults.push(format!("{query}: {name} has no label {}", matcher.name)),
                Some(values) if matcher.op == MatchOp::Equal && !values.contains(&matcher.value) => {
                    faults.push(format!("{query}: {name} has no {}={:?}", matcher.name, matcher.value));
                }
                Some(_) => {}
            }
        }
    }
    let unknown = asked.grouped.iter().chain(words).filter(|label| !labels.contains(*label));
    faults.extend(unknown.map(|label| format!("{query}: none of its metrics has a label {label}")));
    faults
}

/// An alert of the file.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Alert {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name)).trim_matches('"')
    }
}

/// Reads the few shapes of YAML that the file has: `key: value`, and `key: >-` with lines that follow.
fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    let mut folded: Option<(String, usize)> = None;
    for line in include_str!("../../deploy/helm/visage/files/alerts.yaml").lines() {
        let indent = line.len() - line.trim_start().len();
        if let (Some((key, deeper)), Some(alert)) = (&folded, alerts.last_mut())
            && indent > *deeper
        {
            let text = alert.fields.entry(key.clone()).or_default();
            *text = format!("{text} {}", line.trim()).trim().to_owned();
            continue;
        }
        folded = None;
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.into(), ..Alert::default() });
        } else if let (Some((key, value)), Some(alert)) = (line.trim().split_once(": "), alerts.last_mut()) {
            match value {
                ">-" => folded = Some((key.to_owned(), indent)),
                value => drop(alert.fields.insert(key.to_owned(), value.to_owned())),
            }
        }
    }
    alerts
}

/// Labels named in texts as `{{ $labels.x }}` or `{{x}}`.
fn words(text: &str) -> BTreeSet<String> {
    let inside = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    inside
        .filter_map(|(word, _)| {
            let word = word.trim();
            let label = word.strip_prefix("$labels.").unwrap_or(word);
            (!label.starts_with('$')).then(|| label.to_owned())
        })
        .collect()
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let docs = include_str!("../../docs/operations.md");
    let alerts = alerts();
    assert!(alerts.len() >= 20, "{}", alerts.len());
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "two alerts have one name");
    for alert in &alerts {
        assert!(alert.field("summary").len() > 10 && alert.field("description").len() > 10, "{alert:?}");
        assert!(alert.field("labels").contains("severity: "), "{alert:?}");
        let anchor = alert.field("runbook_url").strip_prefix("docs/operations.md#").expect("a link to the runbook");
        let heading = docs.lines().filter_map(|l| l.strip_prefix("### ")).find(|h| h.to_lowercase() == anchor);
        assert_eq!(heading, Some(alert.name.as_str()), "docs/operations.md has no part {anchor}");
    }
    for heading in docs.lines().filter_map(|line| line.strip_prefix("### Visage")) {
        assert!(names.contains(format!("Visage{heading}").as_str()), "there is no alert Visage{heading}");
    }
}

/// Queries of the dashboard with the labels that their legends show.
fn dashboard() -> Vec<(String, BTreeSet<String>)> {
    let text = include_str!("../../deploy/helm/visage/files/dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$camera", ".*");
            assert!(!query.contains('$'), "{query} has a variable that nobody sets");
            queries.push((query, words(target["legendFormat"].as_str().unwrap())));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(asked) = variable["definition"].as_str() {
            let (metric, label) =
                asked.strip_prefix("label_values(").unwrap().trim_end_matches(')').split_once(", ").unwrap();
            queries.push((metric.to_owned(), [label.to_owned()].into()));
        }
    }
    queries
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_for_what_a_server_at_work_tells() {
    let dir = tempfile::tempdir().unwrap();
    let known = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let stranger = folder_of(dir.path(), "gate", &["biden.jpg"]);
    let cameras = [format!("door={},period=4s", known.display()), format!("gate={},period=4s", stranger.display())];
    let cameras = cameras.iter().map(|camera| SimCamera::parse(camera).unwrap()).collect();
    let sim = Simulator::start(SimulatorSettings { cameras, ..Default::default() }).unwrap();
    let server = Server::start(&dir.path().join("data")).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    for camera in ["door", "gate"] {
        server.add_camera(camera, &sim.url(camera)).await;
    }
    let (mut named, mut unknown) = (false, false);
    feed.until(|e| {
        named |= e.kind() == EventKind::Recognized;
        unknown |= e.kind() == EventKind::Unknown;
        named && unknown
    })
    .await;
    // The probe tells the states of cameras every few seconds.
    let text = until(server.http, "/metrics", |_, text| text.contains("visage_cameras{state=\"STREAMING\"} 2")).await;
    for secret in ["obama", "Obama", "biden", "people/"] {
        assert!(!text.contains(secret), "people are no labels, and {secret} is there:\n{text}");
    }
    let page = page(&text);

    // Every series is of a metric that is listed, with the labels that are listed.
    for (name, labels) in &page {
        let plain = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let mut listed = visage::telemetry::catalogue().iter();
        let listed =
            listed.find(|m| m.name == name || m.name == plain).unwrap_or_else(|| panic!("{name} is not listed"));
        let unlisted: Vec<_> = labels.keys().filter(|l| *l != "le" && !listed.labels.contains(&l.as_str())).collect();
        assert!(unlisted.is_empty(), "{name} has labels that are not listed: {unlisted:?}");
    }
    for metric in visage::telemetry::catalogue() {
        assert!(page.contains_key(metric.name), "/metrics does not describe {}", metric.name);
    }
    let mut wrong = Vec::new();
    for alert in alerts() {
        let words = words(&format!("{} {}", alert.field("summary"), alert.field("description")));
        wrong.extend(faults(alert.field("expr"), &words, &page));
    }
    let queries = dashboard();
    assert!(queries.len() > 40, "the dashboard was not read");
    queries.iter().for_each(|(query, words)| wrong.extend(faults(query, words, &page)));
    assert!(wrong.is_empty(), "{}\n\n{text}", wrong.join("\n"));

    // A deleted camera takes its series along; the other keeps its own.
    let request = DeleteCameraRequest { name: "cameras/door".into() };
    server.cameras().await.delete_camera(request).await.unwrap();
    let (_, text) = get(server.http, "/metrics").await;
    assert!(!text.contains("camera=\"door\""), "series of a deleted camera:\n{text}");
    assert!(text.contains("visage_frames_total{camera=\"gate\"}"));
    server.stop().await;
    sim.stop();
}

#[test]
fn queries_for_what_is_not_there_are_found_out() {
    let text = "# TYPE a_total counter\na_total{camera=\"x\",reason=\"still\"} 1\n# TYPE b gauge\nb 2\n";
    let page = page(text);
    let found =
        |query: &str, words: &[&str]| faults(query, &words.iter().map(|w| (*w).to_owned()).collect(), &page).len();
    assert_eq!(
        found("sum by (camera, instance) (rate(a_total{reason=~\"s.*\"}[5m])) / on (instance) b", &["camera"]),
        0
    );
    assert_eq!(found("rate(c_total[5m])", &[]), 1);
    assert_eq!(found("a_total{person=\"x\"}", &[]), 1);
    assert_eq!(found("a_total{reason=\"overload\"}", &[]), 1);
    assert_eq!(found("sum by (person) (a_total)", &[]), 1);
    assert_eq!(found("b", &["camera"]), 1);
    assert_eq!(found("sum by (", &[]), 1);
}

/// Lines that a server logged, as JSON.
fn lines(log: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_request_carry_its_id_and_the_caller_learns_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = crate::support::visage();
    command.env("VISAGE_LOG_FORMAT", "json").env("RUST_LOG", "info,visage::api=debug");
    command.stderr(std::fs::File::create(&log).unwrap());
    let server = Server::start_as(command, &dir.path().join("data")).await;
    let mut people = server.people().await;
    let asked = |id: Option<&str>| {
        let mut request = tonic::Request::new(GetPersonRequest { name: "people/nobody".into() });
        if let Some(id) = id {
            request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        }
        request
    };
    let mut answered = async |id: Option<&str>| {
        let status = people.get_person(asked(id)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound);
        status.metadata().get("x-request-id").expect("the answer has no id").to_str().unwrap().to_owned()
    };
    assert_eq!(answered(Some("ticket-4711")).await, "ticket-4711");
    let (one, two) = (answered(None).await, answered(Some("not a good id")).await);
    assert!(one != two && [&one, &two].iter().all(|id| id.len() == 36), "{one} {two}");
    server.stop().await;
    let lines = lines(&log);
    for id in ["ticket-4711", &one, &two] {
        let of_it = |line: &&serde_json::Value| line["spans"][0]["request_id"] == id;
        let line = lines.iter().find(of_it).unwrap_or_else(|| panic!("no line carries {id}: {lines:#?}"));
        assert_eq!(line["spans"][0]["method"], "visage.v1.PersonService/GetPerson");
        assert_eq!(line["spans"][0]["code"], "NOT_FOUND");
    }
}
