//! A small Qdrant server for tests: its protobuf over a real socket, exact search, filters, groups and pages in memory.
//!
//! It is stricter than the real one where that shows mistakes: a change without `wait` is taken in and never applied.

use std::{
    collections::{BTreeMap, HashMap},
    future::{Ready, ready},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use qdrant_client::qdrant::{self as q, condition, r#match, point_id, points_selector, vectors_config};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, server::UnaryService};

type Payload = HashMap<String, q::Value>;
type Answer<T> = Result<T, Status>;

#[derive(Clone)]
struct Point {
    values: Vec<f32>,
    payload: Payload,
}

#[derive(Clone)]
struct Collection {
    params: q::VectorParams,
    indexes: HashMap<String, q::PayloadSchemaInfo>,
    points: BTreeMap<String, Point>,
}

#[derive(Default)]
struct Held {
    collections: BTreeMap<String, Collection>,
    /// Path and `api-key` of every call.
    calls: Vec<(String, Option<String>)>,
    /// Calls without this key are refused.
    key: Option<String>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Held>>);

/// A running server; ends when it is dropped or stopped.
pub(super) struct FakeQdrant {
    /// Its address.
    pub url: String,
    held: Shared,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl FakeQdrant {
    /// Starts a server on a free port; with a key, calls without it are refused.
    pub(super) async fn start(key: Option<&str>) -> Self {
        let held = Shared::default();
        held.0.lock().unwrap().key = key.map(str::to_owned);
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let routes = tonic::service::Routes::from(axum::Router::new().fallback(answer).with_state(held.clone()));
        let server = tonic::transport::Server::builder().add_routes(routes);
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
        });
        Self { url, held, stop: Some(stop), task }
    }

    /// Every call so far: its path, and the API key it carried.
    pub(super) fn calls(&self) -> Vec<(String, Option<String>)> {
        self.held.0.lock().unwrap().calls.clone()
    }

    /// Fields of a collection with an index.
    pub(super) fn indexes(&self, collection: &str) -> Vec<String> {
        self.held.0.lock().unwrap().collections[collection].indexes.keys().cloned().collect()
    }

    /// Points of a collection.
    pub(super) fn points(&self, collection: &str) -> usize {
        self.held.0.lock().unwrap().collections.get(collection).map_or(0, |c| c.points.len())
    }

    /// Ends the server and waits for it.
    pub(super) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.task).await.unwrap();
    }
}

impl Drop for FakeQdrant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(held): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let key = request.headers().get("api-key").map(|k| k.to_str().unwrap().to_owned());
    let allowed = {
        let mut held = held.0.lock().unwrap();
        held.calls.push((path.clone(), key.clone()));
        held.key.is_none() || held.key == key
    };
    if !allowed {
        let said = key.unwrap_or_default();
        return Status::unauthenticated(format!("invalid API key {said}")).into_http();
    }
    match path.as_str() {
        "/qdrant.Qdrant/HealthCheck" => {
            unary(request, |_: q::HealthCheckRequest| Ok(q::HealthCheckReply::default())).await
        }
        "/qdrant.Collections/CollectionExists" => unary(request, |r| held.exists(r)).await,
        "/qdrant.Collections/Create" => unary(request, |r| held.create(r)).await,
        "/qdrant.Collections/Delete" => unary(request, |r| held.delete_collection(r)).await,
        "/qdrant.Collections/Get" => unary(request, |r| held.get(r)).await,
        "/qdrant.Points/CreateFieldIndex" => unary(request, |r| held.create_index(r)).await,
        "/qdrant.Points/Upsert" => unary(request, |r| held.upsert(r)).await,
        "/qdrant.Points/Delete" => unary(request, |r| held.delete(r)).await,
        "/qdrant.Points/QueryGroups" => unary(request, |r| held.query_groups(r)).await,
        "/qdrant.Points/Scroll" => unary(request, |r| held.scroll(r)).await,
        other => Status::unimplemented(other).into_http(),
    }
}

struct Method<F>(F);

impl<Q, R, F> UnaryService<Q> for Method<F>
where
    F: Fn(Q) -> Answer<R>,
{
    type Response = R;
    type Future = Ready<Result<tonic::Response<R>, Status>>;
    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        ready((self.0)(request.into_inner()).map(tonic::Response::new))
    }
}

async fn unary<Q, R>(request: Request, method: impl Fn(Q) -> Answer<R> + Send) -> Response
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
{
    let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::<R, Q>::default());
    grpc.unary(Method(method), request).await.map(Body::new)
}

impl Shared {
    fn with<T>(&self, name: &str, f: impl FnOnce(&mut Collection) -> Answer<T>) -> Answer<T> {
        let missing = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        f(self.0.lock().unwrap().collections.get_mut(name).ok_or_else(missing)?)
    }

    fn exists(&self, r: q::CollectionExistsRequest) -> Answer<q::CollectionExistsResponse> {
        let exists = self.0.lock().unwrap().collections.contains_key(&r.collection_name);
        Ok(q::CollectionExistsResponse { result: Some(q::CollectionExists { exists }), time: 0.0 })
    }

    fn create(&self, r: q::CreateCollection) -> Answer<q::CollectionOperationResponse> {
        let Some(vectors_config::Config::Params(params)) = r.vectors_config.and_then(|v| v.config) else {
            return Err(Status::invalid_argument("only unnamed vectors"));
        };
        let held = &mut self.0.lock().unwrap().collections;
        if held.contains_key(&r.collection_name) {
            return Err(Status::already_exists("Collection exists already"));
        }
        held.insert(r.collection_name, Collection { params, indexes: HashMap::new(), points: BTreeMap::new() });
        Ok(q::CollectionOperationResponse { result: true, time: 0.0 })
    }

    fn delete_collection(&self, r: q::DeleteCollection) -> Answer<q::CollectionOperationResponse> {
        let result = self.0.lock().unwrap().collections.remove(&r.collection_name).is_some();
        Ok(q::CollectionOperationResponse { result, time: 0.0 })
    }

    fn get(&self, r: q::GetCollectionInfoRequest) -> Answer<q::GetCollectionInfoResponse> {
        self.with(&r.collection_name, |c| {
            let params = q::CollectionParams {
                vectors_config: Some(vectors_config::Config::Params(c.params).into()),
                ..Default::default()
            };
            let config = q::CollectionConfig { params: Some(params), ..Default::default() };
            let payload_schema = c.indexes.clone();
            let info = q::CollectionInfo { config: Some(config), payload_schema, ..Default::default() };
            Ok(q::GetCollectionInfoResponse { result: Some(info), time: 0.0 })
        })
    }

    fn create_index(&self, r: q::CreateFieldIndexCollection) -> Answer<q::PointsOperationResponse> {
        self.with(&r.collection_name, |c| {
            if r.field_type != Some(q::FieldType::Keyword as i32) {
                return Err(Status::invalid_argument("only keyword indexes"));
            }
            let data_type = q::PayloadSchemaType::Keyword as i32;
            c.indexes.insert(r.field_name, q::PayloadSchemaInfo { data_type, params: None, points: None });
            Ok(done(r.wait))
        })
    }

    fn upsert(&self, r: q::UpsertPoints) -> Answer<q::PointsOperationResponse> {
        self.with(&r.collection_name, |c| {
            let mut new = Vec::new();
            for p in r.points {
                let id = uuid_of(p.id)?;
                let Some(q::vectors::VectorsOptions::Vector(v)) = p.vectors.and_then(|v| v.vectors_options) else {
                    return Err(Status::invalid_argument("only unnamed vectors"));
                };
                let values = match v.vector {
                    Some(q::vector::Vector::Dense(d)) => d.data,
                    #[allow(deprecated)]
                    _ => v.data,
                };
                if values.len() as u64 != c.params.size {
                    return Err(Status::invalid_argument(format!("dimension error: {}", values.len())));
                }
                new.push((id, Point { values, payload: p.payload }));
            }
            if r.wait == Some(true) {
                c.points.extend(new);
            }
            Ok(done(r.wait))
        })
    }

    fn delete(&self, r: q::DeletePoints) -> Answer<q::PointsOperationResponse> {
        self.with(&r.collection_name, |c| {
            if r.wait != Some(true) {
                return Ok(done(r.wait));
            }
            match r.points.and_then(|p| p.points_selector_one_of) {
                Some(points_selector::PointsSelectorOneOf::Points(list)) => {
                    for id in list.ids {
                        c.points.remove(&uuid_of(Some(id))?);
                    }
                }
                Some(points_selector::PointsSelectorOneOf::Filter(filter)) => {
                    let mut gone = Vec::new();
                    for (id, point) in &c.points {
                        if passes(&point.payload, &filter)? {
                            gone.push(id.clone());
                        }
                    }
                    gone.iter().for_each(|id| {
                        c.points.remove(id);
                    });
                }
                None => return Err(Status::invalid_argument("nothing selected")),
            }
            Ok(done(r.wait))
        })
    }

    fn query_groups(&self, r: q::QueryPointGroups) -> Answer<q::QueryGroupsResponse> {
        let Some(q::query::Variant::Nearest(input)) = r.query.and_then(|v| v.variant) else {
            return Err(Status::invalid_argument("only nearest"));
        };
        let Some(q::vector_input::Variant::Dense(probe)) = input.variant else {
            return Err(Status::invalid_argument("only dense vectors"));
        };
        let (limit, size) = (r.limit.unwrap_or(10) as usize, r.group_size.unwrap_or(3) as usize);
        if limit == 0 || size == 0 {
            return Err(Status::invalid_argument("limit and group_size must be at least 1"));
        }
        self.with(&r.collection_name, |c| {
            if probe.data.len() as u64 != c.params.size {
                return Err(Status::invalid_argument(format!("dimension error: {}", probe.data.len())));
            }
            let near = c.params.distance == q::Distance::Euclid as i32;
            let mut scored = Vec::new();
            for (id, point) in &c.points {
                let Some(group) = point.payload.get(&r.group_by).and_then(|v| v.as_str()) else { continue };
                if r.filter.as_ref().map_or(Ok(true), |f| passes(&point.payload, f))? {
                    let score =
                        if near { euclid(&probe.data, &point.values) } else { cosine(&probe.data, &point.values) };
                    scored.push((score, group.to_string(), id, point));
                }
            }
            scored.sort_by(|a, b| if near { a.0.total_cmp(&b.0) } else { b.0.total_cmp(&a.0) });
            let mut groups: Vec<(String, Vec<q::ScoredPoint>)> = Vec::new();
            for (score, group, id, point) in scored {
                let payload = selected(&point.payload, r.with_payload.as_ref());
                let hit = q::ScoredPoint { id: Some(id.clone().into()), payload, score, ..Default::default() };
                match groups.iter().position(|(g, _)| *g == group) {
                    Some(place) if groups[place].1.len() < size => groups[place].1.push(hit),
                    None if groups.len() < limit => groups.push((group, vec![hit])),
                    _ => {}
                }
            }
            let groups = groups
                .into_iter()
                .map(|(g, hits)| {
                    let id = q::GroupId { kind: Some(q::group_id::Kind::StringValue(g)) };
                    q::PointGroup { id: Some(id), hits, lookup: None }
                })
                .collect();
            Ok(q::QueryGroupsResponse { result: Some(q::GroupsResult { groups }), ..Default::default() })
        })
    }

    fn scroll(&self, r: q::ScrollPoints) -> Answer<q::ScrollResponse> {
        let from = r.offset.map(|o| uuid_of(Some(o))).transpose()?.unwrap_or_default();
        let limit = r.limit.unwrap_or(10) as usize;
        self.with(&r.collection_name, |c| {
            let mut points = c.points.range(from..);
            let result = points
                .by_ref()
                .take(limit)
                .map(|(id, p)| q::RetrievedPoint {
                    id: Some(id.clone().into()),
                    payload: selected(&p.payload, r.with_payload.as_ref()),
                    ..Default::default()
                })
                .collect();
            let next_page_offset = points.next().map(|(id, _)| id.clone().into());
            Ok(q::ScrollResponse { next_page_offset, result, ..Default::default() })
        })
    }
}

fn done(wait: Option<bool>) -> q::PointsOperationResponse {
    let status = if wait == Some(true) { q::UpdateStatus::Completed } else { q::UpdateStatus::Acknowledged };
    let result = Some(q::UpdateResult { operation_id: Some(1), status: status as i32 });
    q::PointsOperationResponse { result, ..Default::default() }
}

fn uuid_of(id: Option<q::PointId>) -> Answer<String> {
    match id.and_then(|i| i.point_id_options) {
        Some(point_id::PointIdOptions::Uuid(text)) => {
            uuid::Uuid::parse_str(&text).map(|u| u.to_string()).map_err(|e| Status::invalid_argument(e.to_string()))
        }
        _ => Err(Status::invalid_argument("only UUIDs")),
    }
}

/// `must` conditions on keywords, all that the index uses.
fn passes(payload: &Payload, filter: &q::Filter) -> Answer<bool> {
    for condition in &filter.must {
        let Some(condition::ConditionOneOf::Field(field)) = &condition.condition_one_of else {
            return Err(Status::unimplemented("only conditions on fields"));
        };
        let value = payload.get(&field.key).and_then(|v| v.as_str());
        let wanted = match field.r#match.as_ref().and_then(|m| m.match_value.as_ref()) {
            Some(r#match::MatchValue::Keyword(k)) => std::slice::from_ref(k),
            Some(r#match::MatchValue::Keywords(list)) => list.strings.as_slice(),
            _ => return Err(Status::unimplemented("only keywords")),
        };
        if !value.is_some_and(|v| wanted.iter().any(|w| w == v)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn selected(payload: &Payload, selector: Option<&q::WithPayloadSelector>) -> Payload {
    match selector.and_then(|s| s.selector_options.as_ref()) {
        Some(q::with_payload_selector::SelectorOptions::Enable(true)) => payload.clone(),
        _ => Payload::new(),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

fn euclid(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt()
}
