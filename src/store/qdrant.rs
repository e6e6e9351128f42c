//! Nearest faces through a Qdrant server: one collection per model, one point per face.
//!
//! In: faces and probes of one model. Out: the nearest people, grouped by the server. The collection can be rebuilt from the
//! gallery store at any time. Writes are waited for, so that the next search sees them. No message names the API key.

use std::{collections::BTreeSet, future::Future, time::Duration};

use async_trait::async_trait;
use qdrant_client::{
    Payload, Qdrant, QdrantError,
    qdrant::{
        Condition, CreateFieldIndexCollectionBuilder, DeletePoints, DeletePointsBuilder, Distance as ServerDistance,
        FieldType, Filter, PointId, PointStruct, PointsOperationResponse, QuantizationSearchParamsBuilder,
        QueryPointGroupsBuilder, ReadConsistency, ReadConsistencyType, RetrievedPoint, ScoredPoint,
        ScrollPointsBuilder, SearchParamsBuilder, UpdateStatus, UpsertPointsBuilder, Value, VectorParams,
        VectorParamsBuilder, WriteOrdering, WriteOrderingType, read_consistency, vectors_config,
    },
};
use sha2::{Digest, Sha256};
use tonic::Code;
use uuid::Uuid;

#[path = "qdrant_settings.rs"]
mod settings;
pub use settings::QdrantSettings;
use settings::{Layout, check};

use crate::{
    camera::spec::Secret,
    face::{Distance, Embedding, embedding::IncomparableError},
    identity::{EnrolledFace, GalleryError, NearFace, PersonHit, SearchQuery, VectorIndex, basis::MOST_FACES},
    ids::{FaceId, ModelId, PersonId},
};

/// Payload field with the face's id.
const FACE: &str = "face";
/// Payload field with the person's id; indexed.
const PERSON: &str = "person";
/// Points sent in one call: 512 KiB of values at 512 values a face.
const UPSERT_CHUNK: usize = 256;
/// Points read in one call.
const SCROLL_PAGE: u32 = 1000;
/// Candidates of the approximate search; more than the server's default, because a missed person is worse than a slow answer.
const CANDIDATES: u64 = 256;

/// Faces of one model in a collection of a Qdrant server.
pub struct QdrantIndex {
    client: Qdrant,
    url: String,
    api_key: Secret,
    timeout: Duration,
    layout: Layout,
    collection: String,
    model: ModelId,
    size: usize,
    distance: Distance,
}

impl QdrantIndex {
    /// Connects, and creates the collection for a model with `size` values when there is none.
    ///
    /// # Errors
    /// [`GalleryError::Unavailable`] when the server does not answer in time, [`GalleryError::Storage`] when it refuses, when the
    /// settings are wrong, or when the collection exists with another shape.
    pub async fn connect(
        settings: &QdrantSettings,
        model: &ModelId,
        size: usize,
        distance: Distance,
    ) -> Result<Self, GalleryError> {
        check(settings)?;
        let timeout = Duration::from_millis(settings.timeout_ms);
        let key = settings.api_key.expose();
        // The version check prints to standard output and blocks.
        let client = Qdrant::from_url(&settings.url)
            .api_key((!key.is_empty()).then(|| key.to_owned()))
            .timeout(timeout)
            .connect_timeout(timeout)
            .skip_compatibility_check()
            .build()
            .map_err(|_| GalleryError::Storage("the Qdrant URL is not a server's address".into()))?;
        let index = Self {
            client,
            url: settings.url.clone(),
            api_key: settings.api_key.clone(),
            timeout,
            layout: Layout { shards: settings.shards, replicas: settings.replicas, quantised: settings.quantised },
            collection: format!("{}_{model}", settings.collection_prefix),
            model: model.clone(),
            size,
            distance,
        };
        index.prepare().await?;
        Ok(index)
    }

    /// The collection with the right shape and the index over people.
    async fn prepare(&self) -> Result<(), GalleryError> {
        let name = self.collection.as_str();
        if !self.call(self.client.collection_exists(name)).await? {
            let params = VectorParamsBuilder::new(self.size as u64, server_distance(self.distance));
            let made = self.call(self.client.create_collection(self.layout.collection(name, params))).await;
            // Another server of ours may have been faster.
            if let Err(error) = made
                && !self.call(self.client.collection_exists(name)).await?
            {
                return Err(error);
            }
        }
        let info = self.call(self.client.collection_info(name)).await?.result.unwrap_or_default();
        let vectors = info.config.and_then(|c| c.params).and_then(|p| p.vectors_config).and_then(|v| v.config);
        self.check_shape(vectors)?;
        if !info.payload_schema.contains_key(PERSON) {
            let index = CreateFieldIndexCollectionBuilder::new(name, PERSON, FieldType::Keyword).wait(true);
            self.applied(self.call(self.client.create_field_index(index)).await?)?;
        }
        Ok(())
    }

    fn check_shape(&self, found: Option<vectors_config::Config>) -> Result<(), GalleryError> {
        let needed = (self.size as u64, server_distance(self.distance) as i32);
        let has = match found {
            Some(vectors_config::Config::Params(VectorParams { size, distance, multivector_config: None, .. })) => {
                if (size, distance) == needed {
                    return Ok(());
                }
                let distance = ServerDistance::try_from(distance).map_or("unknown", |d| d.as_str_name());
                format!("vectors of {size} values with distance {distance}")
            }
            Some(vectors_config::Config::Params(_)) => "several vectors a point".into(),
            Some(vectors_config::Config::ParamsMap(_)) => "named vectors".into(),
            None => "no vectors".into(),
        };
        Err(GalleryError::Storage(format!(
            "collection {} of {} has {has}, but {} needs vectors of {} values with distance {}: delete the collection (it is \
             filled again from the gallery) or choose another collection_prefix",
            self.collection,
            self.url,
            self.model,
            self.size,
            server_distance(self.distance).as_str_name()
        )))
    }

    fn check(&self, e: &Embedding) -> Result<(), GalleryError> {
        if e.model == self.model && e.values.len() == self.size {
            return Ok(());
        }
        let right_len = e.values.len();
        let (left, right) = (self.model.clone(), e.model.clone());
        Err(IncomparableError { left, left_len: self.size, right, right_len }.into())
    }

    /// Runs one call; the client's own time limits do not cover a second attempt.
    async fn call<T>(&self, call: impl Future<Output = Result<T, QdrantError>>) -> Result<T, GalleryError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(|e| self.explain(e)),
            Err(_) => {
                let ms = self.timeout.as_millis();
                Err(GalleryError::Unavailable(format!("no answer from Qdrant at {} within {ms} ms", self.url)))
            }
        }
    }

    fn explain(&self, error: QdrantError) -> GalleryError {
        let (QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. }) = error else {
            return GalleryError::Storage(format!("the call to Qdrant at {} could not be made", self.url));
        };
        let message = self.without_key(status.message());
        // A status made on this side has a source; the client wraps a refused connection as an internal error.
        let unreachable = std::error::Error::source(&status).is_some() || message.starts_with("Failed to connect");
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                GalleryError::Storage(format!("Qdrant at {} refuses the API key; check api_key", self.url))
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
                GalleryError::Unavailable(format!("Qdrant at {}: {message}", self.url))
            }
            _ if unreachable => GalleryError::Unavailable(format!("Qdrant at {}: {message}", self.url)),
            code => GalleryError::Storage(format!("Qdrant at {}: {message} ({code:?})", self.url)),
        }
    }

    /// A server (or a proxy) may repeat what it was sent.
    fn without_key(&self, message: &str) -> String {
        match self.api_key.expose() {
            "" => message.to_owned(),
            key => message.replace(key, "***"),
        }
    }

    /// A change counts once searches see it.
    fn applied(&self, answer: PointsOperationResponse) -> Result<(), GalleryError> {
        match answer.result.map(|r| r.status()) {
            Some(UpdateStatus::Completed) => Ok(()),
            status => {
                let status = status.map_or("no status", |s| s.as_str_name());
                Err(GalleryError::Unavailable(format!(
                    "Qdrant at {} did not apply a change in time: {status}",
                    self.url
                )))
            }
        }
    }

    async fn delete(&self, delete: impl Into<DeletePoints>) -> Result<(), GalleryError> {
        self.applied(self.call(self.client.delete_points(delete)).await?)
    }

    fn foreign(&self) -> GalleryError {
        GalleryError::Storage(format!(
            "collection {} of {} holds points that are no faces: delete the collection (it is filled again from the gallery) \
             or choose another collection_prefix",
            self.collection, self.url
        ))
    }

    fn params(&self) -> SearchParamsBuilder {
        let params = SearchParamsBuilder::default().hnsw_ef(CANDIDATES);
        if !self.layout.quantised {
            return params;
        }
        // A similarity is compared with a threshold, so it must be the exact one.
        params.quantization(QuantizationSearchParamsBuilder::default().rescore(true).oversampling(3.0))
    }

    /// The person and the face of a point.
    fn near(&self, point: &ScoredPoint) -> Result<(PersonId, NearFace), GalleryError> {
        let person = id(point.payload.get(PERSON)).ok_or_else(|| self.foreign())?;
        let face = id(point.payload.get(FACE)).ok_or_else(|| self.foreign())?;
        let similarity = match self.distance {
            Distance::Cosine => point.score,
            Distance::Euclidean => 1.0 - point.score,
        };
        Ok((person, NearFace { face, similarity }))
    }

    fn face_of(&self, point: &RetrievedPoint) -> Result<FaceId, GalleryError> {
        id(point.payload.get(FACE)).ok_or_else(|| self.foreign())
    }
}

fn server_distance(distance: Distance) -> ServerDistance {
    match distance {
        Distance::Cosine => ServerDistance::Cosine,
        Distance::Euclidean => ServerDistance::Euclid,
    }
}

fn id<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    value?.as_str()?.parse().ok()
}

/// Points are named by UUIDs: the face's own, or 128 bits of the SHA-256 of its id (UUID version 8).
fn point_id(face: &FaceId) -> PointId {
    let own = Uuid::parse_str(face.as_str()).ok().map(|u| u.to_string()).filter(|u| u == face.as_str());
    let text = own.unwrap_or_else(|| {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(Sha256::digest(face.as_str())).for_each(|(b, d)| *b = d);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    });
    PointId::from(text)
}

fn of_people<'a>(people: impl IntoIterator<Item = &'a PersonId>) -> Filter {
    Filter::must([Condition::matches(PERSON, people.into_iter().map(ToString::to_string).collect::<Vec<_>>())])
}

/// In a cluster: a point must be on most nodes. One node answers alone.
fn most_nodes() -> ReadConsistency {
    read_consistency::Value::Type(ReadConsistencyType::Majority as i32).into()
}

/// In a cluster: changes go one after the other through the leader.
fn in_order() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Strong as i32 }
}

#[async_trait]
impl VectorIndex for QdrantIndex {
    async fn upsert(&self, faces: &[EnrolledFace]) -> Result<(), GalleryError> {
        for face in faces {
            self.check(&face.embedding)?;
        }
        for chunk in faces.chunks(UPSERT_CHUNK) {
            let point = |f: &EnrolledFace| {
                let mut payload = Payload::new();
                payload.insert(FACE, f.id.as_str());
                payload.insert(PERSON, f.person.as_str());
                PointStruct::new(point_id(&f.id), f.embedding.values.to_vec(), payload)
            };
            let points: Vec<PointStruct> = chunk.iter().map(point).collect();
            let upsert = UpsertPointsBuilder::new(&self.collection, points).wait(true).ordering(in_order());
            self.applied(self.call(self.client.upsert_points(upsert)).await?)?;
        }
        Ok(())
    }

    async fn remove_face(&self, face: &FaceId) -> Result<(), GalleryError> {
        let delete = DeletePointsBuilder::new(&self.collection).points(vec![point_id(face)]);
        self.delete(delete.wait(true).ordering(in_order())).await
    }

    async fn remove_person(&self, person: &PersonId) -> Result<(), GalleryError> {
        let delete = DeletePointsBuilder::new(&self.collection).points(of_people([person]));
        self.delete(delete.wait(true).ordering(in_order())).await
    }

    async fn search(&self, probe: &Embedding, query: &SearchQuery) -> Result<Vec<PersonHit>, GalleryError> {
        self.check(probe)?;
        if query.limit == 0 || query.people.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(Vec::new());
        }
        let mut ask = QueryPointGroupsBuilder::new(&self.collection, PERSON)
            .query(probe.values.to_vec())
            .limit(query.limit as u64)
            .group_size(MOST_FACES as u64)
            .with_payload(true)
            .params(self.params())
            .read_consistency(most_nodes());
        if let Some(people) = &query.people {
            ask = ask.filter(of_people(people));
        }
        let groups = self.call(self.client.query_groups(ask)).await?.result.unwrap_or_default().groups;
        let mut hits = Vec::with_capacity(groups.len());
        for group in &groups {
            let near = group.hits.iter().map(|p| self.near(p)).collect::<Result<Vec<_>, _>>()?;
            let Some(person) = near.first().map(|(person, _)| person.clone()) else { continue };
            hits.extend(PersonHit::of(person, near.into_iter().map(|(_, face)| face).collect()));
        }
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        Ok(hits)
    }

    async fn clear(&self) -> Result<(), GalleryError> {
        self.call(self.client.delete_collection(self.collection.as_str())).await?;
        self.prepare().await
    }

    async fn face_ids(&self) -> Result<BTreeSet<FaceId>, GalleryError> {
        let mut faces = BTreeSet::new();
        let mut offset: Option<PointId> = None;
        loop {
            let mut scroll = ScrollPointsBuilder::new(&self.collection)
                .limit(SCROLL_PAGE)
                .with_payload(true)
                .with_vectors(false)
                .read_consistency(read_consistency::Value::Type(ReadConsistencyType::Majority as i32));
            if let Some(from) = offset.take() {
                scroll = scroll.offset(from);
            }
            let page = self.call(self.client.scroll(scroll)).await?;
            for point in &page.result {
                faces.insert(self.face_of(point)?);
            }
            match page.next_page_offset {
                Some(next) => offset = Some(next),
                None => return Ok(faces),
            }
        }
    }

    async fn reachable(&self) -> Result<(), GalleryError> {
        if self.call(self.client.collection_exists(self.collection.as_str())).await? {
            return Ok(());
        }
        Err(GalleryError::Storage(format!("Qdrant at {} lost the collection {}", self.url, self.collection)))
    }

    fn backend(&self) -> &'static str {
        "qdrant"
    }
}

#[cfg(test)]
#[path = "qdrant_tests.rs"]
mod tests;
