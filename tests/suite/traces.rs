//! Traces as a collector gets them, and a server whose collector is away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use visage::{
    proto::v1::{EventKind, GetPersonRequest},
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::{
    operations::{get, until},
    support::{PATIENCE, Server, folder_of, free_addr},
};

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
}

fn words(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    span.attributes.iter().filter_map(|a| Some((a.key.clone(), words(a.value.as_ref()?)))).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let named = of_resource.resource.iter().flat_map(|r| &r.attributes).filter(|a| a.key == "service.name");
            self.services.lock().unwrap().extend(named.filter_map(|a| a.value.as_ref().map(words)));
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn wait_for(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(span) = self.spans.lock().unwrap().iter().find(|span| wanted(span)) {
                return span.clone();
            }
            let names = || self.spans.lock().unwrap().iter().map(|s| s.name.clone()).collect::<Vec<_>>();
            assert!(Instant::now() < deadline, "no span of {what} among {:?}", names());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_decisions_are_traced_with_their_writes() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    let serving = tonic::transport::Server::builder().add_service(service);
    let serving = tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    let dir = tempfile::tempdir().unwrap();
    let folder = folder_of(dir.path(), "door", &["obama2.jpg"]);
    let cameras = vec![SimCamera::parse(&format!("door={},period=4s", folder.display())).unwrap()];
    let sim = Simulator::start(SimulatorSettings { cameras, ..Default::default() }).unwrap();
    let env = [("VISAGE_TELEMETRY__OTLP_ENDPOINT", endpoint.as_str())];
    let server = Server::start_with(&dir.path().join("data"), &env).await;

    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut asked = Request::new(GetPersonRequest { name: "people/nobody".into() });
    asked.metadata_mut().insert("x-request-id", "ticket-4711".parse().unwrap());
    server.people().await.get_person(asked).await.unwrap_err();
    let refused = collector.wait_for("the refused request", |span| {
        attributes(span).get("request_id").is_some_and(|id| id == "ticket-4711")
    });
    let refused = refused.await;
    assert_eq!((refused.name.as_str(), refused.kind), ("visage.v1.PersonService/GetPerson", 2));
    assert_eq!(attributes(&refused)["code"], "NOT_FOUND");
    let enrolled = collector.wait_for("enrolment", |span| span.name == "visage.v1.PersonService/EnrollFaces").await;
    let within = |parent: &Span, name: &str| {
        let (parent, name) = (parent.clone(), name.to_owned());
        let told = name.clone();
        let collector = collector.clone();
        async move {
            let child =
                |span: &Span| span.trace_id == parent.trace_id && span.name == name && !span.parent_span_id.is_empty();
            collector.wait_for(&told, child).await
        }
    };
    within(&enrolled, "store_write").await;

    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    feed.until(|e| e.kind() == EventKind::Recognized).await;
    let decided =
        collector.wait_for("a decision", |span| span.name == "decision" && attributes(span).contains_key("latency_ms"));
    let decided = decided.await;
    assert_eq!(attributes(&decided)["camera"], "door");
    for step in ["draw", "store_write"] {
        let step = within(&decided, step).await;
        assert!(step.start_time_unix_nano >= decided.start_time_unix_nano);
    }
    server.stop().await;
    let spans = collector.spans.lock().unwrap();
    let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert!(count("decision") < 60, "frames are no decisions: {}", count("decision"));
    assert!(collector.services.lock().unwrap().iter().all(|name| name == "visage"));
    assert!(!format!("{spans:?}").contains("Obama"), "people are in no span");
    drop(spans);
    sim.stop();
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_counted_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = crate::support::visage();
    command.env("VISAGE_TELEMETRY__OTLP_ENDPOINT", format!("http://{}", free_addr()));
    command.stderr(std::fs::File::create(&log).unwrap());
    let server = Server::start_as(command, &dir.path().join("data")).await;
    let dropped = |text: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix("visage_trace_spans_dropped_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let mut before = 0;
    for round in 0..3 {
        server.add_person(&format!("person-{round}"), "Anna").await;
        let text = until(server.http, "/metrics", |_, text| dropped(text) > before).await;
        before = dropped(&text);
    }
    assert_eq!(get(server.http, "/readyz").await.0, 200);
    server.stop().await;
    let told = std::fs::read_to_string(&log).unwrap().matches("traces could not be sent").count();
    assert_eq!(told, 1, "it is told once a minute");
}
