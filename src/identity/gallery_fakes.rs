//! A gallery over a store and an index in memory that fail when they are told to.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicU32},
};

use async_trait::async_trait;

use super::*;
use crate::{
    face::Distance,
    identity::{Calibration, PersonHit, SearchQuery, decision::tests::thresholds, person::StoredAbout},
};

pub(super) fn settings() -> GallerySettings {
    GallerySettings {
        route: Route::Similarity,
        alike: Some(AlikeRange { from: 0.97, full: 0.99 }),
        require_legal_basis: false,
    }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn id<T: std::str::FromStr<Err = crate::ids::IdError>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn embedding(values: [f32; 2]) -> Embedding {
    Embedding { model: id("m"), distance: Distance::Cosine, values: values.as_slice().into() }
}

pub(super) fn person(name: &str, watchlists: &[&str]) -> Person {
    Person {
        id: id(name),
        display_name: name.to_uppercase(),
        external_id: String::new(),
        labels: BTreeMap::new(),
        watchlists: watchlists.iter().map(ToString::to_string).collect(),
        threshold_offset: 0.0,
        terms: Default::default(),
        created: at(0),
        revision: 1,
    }
}

pub(super) fn face(name: &str, of: &str, values: [f32; 2]) -> EnrolledFace {
    let embedding = embedding(values);
    EnrolledFace { id: id(name), person: id(of), embedding, quality: 0.9, source: String::new(), created: at(0) }
}

/// In memory; fails as many calls as `failing` says.
#[derive(Default)]
pub(super) struct FakeStore {
    people: Mutex<BTreeMap<PersonId, Person>>,
    pub(super) faces: Mutex<BTreeMap<FaceId, EnrolledFace>>,
    pub(super) negatives: Mutex<Vec<(PersonId, Embedding)>>,
    pub(super) failing_removals: AtomicU32,
    calibration: Mutex<Option<Calibration>>,
    classifier: Mutex<Option<Vec<u8>>>,
}

fn fails(counter: &AtomicU32) -> Result<(), GalleryError> {
    match counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
        Ok(_) => Err(GalleryError::Unavailable("on request".into())),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl GalleryStore for FakeStore {
    async fn calibration(&self, _model: &ModelId) -> Result<Option<Calibration>, GalleryError> {
        Ok(self.calibration.lock().unwrap().clone())
    }
    async fn set_calibration(&self, _model: &ModelId, calibration: Option<&Calibration>) -> Result<(), GalleryError> {
        *self.calibration.lock().unwrap() = calibration.cloned();
        Ok(())
    }
    async fn classifier(&self, _model: &ModelId) -> Result<Option<Vec<u8>>, GalleryError> {
        Ok(self.classifier.lock().unwrap().clone())
    }
    async fn set_classifier(&self, _model: &ModelId, bytes: Option<&[u8]>) -> Result<(), GalleryError> {
        *self.classifier.lock().unwrap() = bytes.map(<[u8]>::to_vec);
        Ok(())
    }
    async fn insert_person(&self, person: &Person) -> Result<(), GalleryError> {
        let mut people = self.people.lock().unwrap();
        if people.contains_key(&person.id) {
            return Err(GalleryError::AlreadyExists(person.id.clone()));
        }
        people.insert(person.id.clone(), person.clone());
        Ok(())
    }
    async fn person(&self, id: &PersonId) -> Result<Person, GalleryError> {
        self.people.lock().unwrap().get(id).cloned().ok_or_else(|| GalleryError::PersonNotFound(id.clone()))
    }
    async fn people(&self, after: Option<&PersonId>, limit: usize) -> Result<Vec<(Person, u32)>, GalleryError> {
        let people = self.people.lock().unwrap();
        Ok(people.values().filter(|p| after.is_none_or(|a| p.id > *a)).take(limit).map(|p| (p.clone(), 0)).collect())
    }
    async fn update_person(&self, person: &Person) -> Result<(), GalleryError> {
        match self.people.lock().unwrap().get_mut(&person.id) {
            Some(old) if old.revision + 1 == person.revision => *old = person.clone(),
            Some(_) => return Err(GalleryError::Conflict(person.id.clone())),
            None => return Err(GalleryError::PersonNotFound(person.id.clone())),
        }
        Ok(())
    }
    async fn erase_person(&self, id: &PersonId, now: Timestamp) -> Result<ErasureReceipt, GalleryError> {
        fails(&self.failing_removals)?;
        self.people.lock().unwrap().remove(id).ok_or_else(|| GalleryError::PersonNotFound(id.clone()))?;
        *self.classifier.lock().unwrap() = None;
        let mut faces = self.faces.lock().unwrap();
        let before = faces.len();
        faces.retain(|_, f| f.person != *id);
        Ok(ErasureReceipt {
            id: "r".into(),
            person: id.clone(),
            erased: now,
            faces_removed: (before - faces.len()) as u32,
            crops_removed: 0,
            events_anonymised: 0,
            pictures_removed: 0,
        })
    }
    async fn insert_face(&self, face: &EnrolledFace, _: Option<&FaceCrop>) -> Result<(), GalleryError> {
        self.person(&face.person).await?;
        self.faces.lock().unwrap().insert(face.id.clone(), face.clone());
        Ok(())
    }
    async fn faces(&self, person: &PersonId) -> Result<Vec<EnrolledFace>, GalleryError> {
        Ok(self.faces.lock().unwrap().values().filter(|f| f.person == *person).cloned().collect())
    }
    async fn remove_face(&self, _: &PersonId, face: &FaceId) -> Result<(), GalleryError> {
        fails(&self.failing_removals)?;
        self.faces.lock().unwrap().remove(face).map(|_| ()).ok_or_else(|| GalleryError::FaceNotFound(face.clone()))
    }
    async fn all_faces(&self, model: &ModelId) -> Result<Vec<EnrolledFace>, GalleryError> {
        Ok(self.faces.lock().unwrap().values().filter(|f| f.embedding.model == *model).cloned().collect())
    }
    async fn stored_about(&self, _: &PersonId) -> Result<StoredAbout, GalleryError> {
        Ok(StoredAbout::default())
    }
    async fn counts(&self) -> Result<(u64, u64), GalleryError> {
        Ok((self.people.lock().unwrap().len() as u64, self.faces.lock().unwrap().len() as u64))
    }
    async fn insert_negative(&self, person: &PersonId, probe: &Embedding) -> Result<(), GalleryError> {
        self.negatives.lock().unwrap().push((person.clone(), probe.clone()));
        Ok(())
    }
    async fn remove_negative(&self, person: &PersonId, probe: &Embedding) -> Result<bool, GalleryError> {
        let mut negatives = self.negatives.lock().unwrap();
        let place = negatives.iter().rposition(|(p, n)| p == person && n == probe);
        Ok(place.map(|place| negatives.remove(place)).is_some())
    }
    async fn negatives(&self, _: &ModelId) -> Result<Vec<(PersonId, Embedding)>, GalleryError> {
        Ok(self.negatives.lock().unwrap().clone())
    }
}

#[derive(Default)]
pub(super) struct FakeIndex {
    pub(super) faces: Mutex<BTreeMap<FaceId, EnrolledFace>>,
    pub(super) failing_upserts: AtomicU32,
    pub(super) failing_removals: AtomicU32,
    pub(super) searches: AtomicU32,
}

#[async_trait]
impl VectorIndex for FakeIndex {
    async fn upsert(&self, faces: &[EnrolledFace]) -> Result<(), GalleryError> {
        fails(&self.failing_upserts)?;
        self.faces.lock().unwrap().extend(faces.iter().map(|f| (f.id.clone(), f.clone())));
        Ok(())
    }
    async fn remove_face(&self, face: &FaceId) -> Result<(), GalleryError> {
        fails(&self.failing_removals)?;
        self.faces.lock().unwrap().remove(face);
        Ok(())
    }
    async fn remove_person(&self, person: &PersonId) -> Result<(), GalleryError> {
        fails(&self.failing_removals)?;
        self.faces.lock().unwrap().retain(|_, f| f.person != *person);
        Ok(())
    }
    async fn search(&self, probe: &Embedding, query: &SearchQuery) -> Result<Vec<PersonHit>, GalleryError> {
        self.searches.fetch_add(1, Ordering::SeqCst);
        let mut best: BTreeMap<PersonId, PersonHit> = BTreeMap::new();
        for f in self.faces.lock().unwrap().values() {
            let similarity = f.embedding.similarity(probe)?;
            let wanted = query.people.as_ref().is_none_or(|p| p.contains(&f.person));
            if wanted && best.get(&f.person).is_none_or(|h| h.similarity < similarity) {
                let hit = PersonHit { person: f.person.clone(), face: f.id.clone(), similarity, more: Vec::new() };
                best.insert(f.person.clone(), hit);
            }
        }
        let mut hits: Vec<_> = best.into_values().collect();
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        hits.truncate(query.limit);
        Ok(hits)
    }
    async fn clear(&self) -> Result<(), GalleryError> {
        self.faces.lock().unwrap().clear();
        Ok(())
    }
    async fn face_ids(&self) -> Result<BTreeSet<FaceId>, GalleryError> {
        Ok(self.faces.lock().unwrap().keys().cloned().collect())
    }
    fn backend(&self) -> &'static str {
        "fake"
    }
}

pub(super) struct House {
    pub(super) store: Arc<FakeStore>,
    pub(super) index: Arc<FakeIndex>,
    pub(super) gallery: Gallery,
}

pub(super) async fn opened(store: Arc<FakeStore>, index: Arc<FakeIndex>) -> House {
    let gallery = Gallery::open(store.clone(), index.clone(), id("m"), settings()).await.unwrap();
    House { store, index, gallery }
}

/// Anna (staff) looks to the right, Berta (vip) up.
pub(super) async fn furnished() -> House {
    let house = opened(Arc::default(), Arc::default()).await;
    house.gallery.create_person(person("anna", &["staff"])).await.unwrap();
    house.gallery.create_person(person("berta", &["vip"])).await.unwrap();
    house.gallery.add_face(face("a1", "anna", [1.0, 0.0]), None).await.unwrap();
    house.gallery.add_face(face("b1", "berta", [0.0, 1.0]), None).await.unwrap();
    house
}

impl House {
    pub(super) async fn who(&self, values: [f32; 2], watchlists: &[&str]) -> Option<String> {
        let lists: Vec<String> = watchlists.iter().map(ToString::to_string).collect();
        let probes = [embedding(values)];
        let (decision, person) =
            self.gallery.identify_together(&probes, &lists, &thresholds()).await.unwrap().remove(0);
        assert_eq!(decision.known().map(|h| &h.person), person.as_ref().map(|p| &p.id));
        person.map(|p| p.display_name)
    }

    pub(super) fn in_step(&self) -> bool {
        self.store.faces.lock().unwrap().keys().eq(self.index.faces.lock().unwrap().keys())
    }
}
