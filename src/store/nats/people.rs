//! People, their faces, and what was learned from them.

use async_trait::async_trait;

use super::{
    ClusterStore,
    fault::Fault,
    records::{FaceRecord, NegativeRecord, face_key, person_key},
};
use crate::{
    face::Embedding,
    identity::{
        Calibration, EnrolledFace, FaceCrop, GalleryError, GalleryStore, Person,
        person::{ErasureReceipt, StoredAbout},
    },
    ids::{FaceId, ModelId, PersonId},
    store::sqlite::replica::{Source, fingerprint},
    time::Timestamp,
};

impl ClusterStore {
    pub(super) fn person_key(&self, id: &PersonId) -> String {
        person_key(&self.cluster.name, id)
    }

    /// Adds a key that belongs to a person; takes it back when the person was erased meanwhile.
    async fn insert_under(
        &self,
        source: Source,
        key: &str,
        value: &impl serde::Serialize,
        person: &PersonId,
    ) -> Result<(), GalleryError> {
        self.cluster.connected()?;
        // Whoever is not here may be at another node.
        self.person(person).await?;
        let bucket = self.cluster.bucket(source)?;
        let revision = match bucket.create(key, value).await {
            Ok(revision) => revision,
            Err(Fault::Conflict) => return Err(GalleryError::Storage(format!("the key {key} is taken"))),
            Err(fault) => return Err(fault.into()),
        };
        // An erasure takes the person first and then what is under it: what comes after that finds nobody.
        let still = self.cluster.bucket(Source::People)?.get::<Person>(&self.person_key(person)).await?;
        let erased = |created: Timestamp| self.erased.at(person).is_some_and(|at| created <= at);
        if still.is_none_or(|(_, still)| erased(still.created)) {
            bucket.overwrite(revision).await?;
            bucket.purge(key).await?;
            return Err(GalleryError::PersonNotFound(person.clone()));
        }
        Ok(self.applied(source, revision).await?)
    }
}

#[async_trait]
impl GalleryStore for ClusterStore {
    async fn insert_person(&self, person: &Person) -> Result<(), GalleryError> {
        self.cluster.connected()?;
        let bucket = self.cluster.bucket(Source::People)?;
        match bucket.create(&self.person_key(&person.id), person).await {
            Ok(revision) => Ok(self.applied(Source::People, revision).await?),
            Err(Fault::Conflict) => Err(GalleryError::AlreadyExists(person.id.clone())),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn person(&self, id: &PersonId) -> Result<Person, GalleryError> {
        self.replica.person(id).await
    }

    async fn people(&self, after: Option<&PersonId>, limit: usize) -> Result<Vec<(Person, u32)>, GalleryError> {
        self.replica.people(after, limit).await
    }

    async fn update_person(&self, person: &Person) -> Result<(), GalleryError> {
        self.cluster.connected()?;
        let key = self.person_key(&person.id);
        let counted = self.replica.counted(Source::People, person.id.as_str()).await.map_err(Fault::from)?;
        let known = self.revision(Source::People, &key).await?;
        let Some((counted, known)) = counted.zip(known) else {
            return Err(GalleryError::PersonNotFound(person.id.clone()));
        };
        if counted + 1 != person.revision {
            return Err(GalleryError::Conflict(person.id.clone()));
        }
        match self.cluster.bucket(Source::People)?.update(&key, person, known).await {
            Ok(revision) => Ok(self.applied(Source::People, revision).await?),
            Err(Fault::Conflict) => Err(GalleryError::Conflict(person.id.clone())),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn erase_person(&self, id: &PersonId, now: Timestamp) -> Result<ErasureReceipt, GalleryError> {
        self.erase(id, now).await
    }

    async fn insert_face(&self, face: &EnrolledFace, crop: Option<&FaceCrop>) -> Result<(), GalleryError> {
        let key = face_key(&self.cluster.name, &face.person, &face.id);
        self.insert_under(Source::Faces, &key, &FaceRecord::new(face, crop), &face.person).await
    }

    async fn faces(&self, person: &PersonId) -> Result<Vec<EnrolledFace>, GalleryError> {
        self.replica.faces(person).await
    }

    async fn remove_face(&self, person: &PersonId, face: &FaceId) -> Result<(), GalleryError> {
        self.cluster.connected()?;
        let key = face_key(&self.cluster.name, person, face);
        let Some(known) = self.revision(Source::Faces, &key).await? else {
            return Err(GalleryError::FaceNotFound(face.clone()));
        };
        let bucket = self.cluster.bucket(Source::Faces)?;
        bucket.overwrite(known).await?;
        let revision = bucket.purge(&key).await?;
        Ok(self.applied(Source::Faces, revision).await?)
    }

    async fn all_faces(&self, model: &ModelId) -> Result<Vec<EnrolledFace>, GalleryError> {
        self.replica.all_faces(model).await
    }

    async fn stored_about(&self, person: &PersonId) -> Result<StoredAbout, GalleryError> {
        self.replica.stored_about(person).await
    }

    async fn counts(&self) -> Result<(u64, u64), GalleryError> {
        self.replica.counts().await
    }

    async fn insert_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError> {
        let place = format!("negative.{}.{}", self.person_key(person), fingerprint(probe));
        // The same face may be judged twice.
        let key = format!("{place}.{}", uuid::Uuid::now_v7().simple());
        let record = NegativeRecord { person: person.clone(), probe: probe.into() };
        self.insert_under(Source::Settings, &key, &record, person).await
    }

    async fn remove_negative(&self, person: &PersonId, probe: &Embedding) -> Result<bool, GalleryError> {
        self.cluster.connected()?;
        let place = format!("negative.{}.{}.", self.person_key(person), fingerprint(probe));
        let known = self.replica.keys_of(Source::Settings, &place).await.map_err(Fault::from)?;
        let Some((key, revision)) = known.into_iter().max_by_key(|(_, revision)| *revision) else { return Ok(false) };
        let bucket = self.cluster.bucket(Source::Settings)?;
        bucket.overwrite(revision).await?;
        let revision = bucket.purge(&key).await?;
        self.applied(Source::Settings, revision).await?;
        Ok(true)
    }

    async fn negatives(&self, model: &ModelId) -> Result<Vec<(PersonId, Embedding)>, GalleryError> {
        self.replica.negatives(model).await
    }

    async fn calibration(&self, model: &ModelId) -> Result<Option<Calibration>, GalleryError> {
        self.replica.calibration(model).await
    }

    async fn set_calibration(&self, model: &ModelId, calibration: Option<&Calibration>) -> Result<(), GalleryError> {
        self.cluster.connected()?;
        let (bucket, key) = (self.cluster.bucket(Source::Settings)?, format!("calibration.{model}"));
        let revision = match calibration {
            Some(calibration) => bucket.put(&key, calibration).await?,
            None => bucket.purge(&key).await?,
        };
        Ok(self.applied(Source::Settings, revision).await?)
    }

    async fn classifier(&self, model: &ModelId) -> Result<Option<Vec<u8>>, GalleryError> {
        self.replica.classifier(model).await
    }

    // Each node trains its own from the same faces; none leaves its node, and an erasure throws it away with the person.
    async fn set_classifier(&self, model: &ModelId, bytes: Option<&[u8]>) -> Result<(), GalleryError> {
        self.replica.set_classifier(model, bytes).await
    }
}
