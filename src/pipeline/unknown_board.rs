//! All unknown faces in memory, as the store holds them, with their links and groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    picture,
    unknowns::{UnknownGroup, UnknownsError},
};
use crate::{
    identity::{UnknownFace, cluster::Clusters, unknown::Placement},
    ids::{FaceId, ModelId, UnknownId},
};

/// The faces as the store holds them.
pub(super) struct Board {
    /// Whether it agrees with the store.
    pub(super) sound: bool,
    /// The model whose faces are linked, and the similarity from which two are.
    pub(super) linking: (ModelId, f32),
    pub(super) clusters: Clusters,
    /// By age.
    pub(super) faces: BTreeMap<FaceId, UnknownFace>,
    pub(super) groups: BTreeMap<UnknownId, BTreeSet<FaceId>>,
    pub(super) group_of: HashMap<FaceId, UnknownId>,
    pub(super) dismissed: BTreeSet<UnknownId>,
}

impl Board {
    pub(super) fn empty(linking: (ModelId, f32)) -> Self {
        Self {
            sound: false,
            clusters: Clusters::new(linking.1),
            linking,
            faces: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_of: HashMap::new(),
            dismissed: BTreeSet::new(),
        }
    }

    pub(super) fn group(&self, id: UnknownId) -> Result<UnknownGroup, UnknownsError> {
        let members = self.groups.get(&id).ok_or(UnknownsError::NotFound(id))?;
        let mut faces: Vec<UnknownFace> = members.iter().filter_map(|f| self.faces.get(f)).cloned().collect();
        faces.sort_by(|a, b| (b.ended, &b.id).cmp(&(a.ended, &a.id)));
        Ok(UnknownGroup { id, dismissed: self.dismissed.contains(&id), faces })
    }

    pub(super) fn place(&mut self, p: &Placement) {
        self.clusters.place(&p.face, p.group, p.bound);
        // Left and entered again, a group of one would be forgotten with its dismissal.
        if self.group_of.get(&p.face) == Some(&p.group) {
            return;
        }
        self.leave(&p.face);
        self.group_of.insert(p.face.clone(), p.group);
        self.groups.entry(p.group).or_default().insert(p.face.clone());
    }

    fn leave(&mut self, face: &FaceId) {
        let Some(group) = self.group_of.remove(face) else { return };
        let members = self.groups.entry(group).or_default();
        members.remove(face);
        if members.is_empty() {
            self.groups.remove(&group);
            self.dismissed.remove(&group);
        }
    }

    pub(super) fn remove(&mut self, face: &FaceId) {
        self.leave(face);
        self.faces.remove(face);
        self.clusters.remove(face);
    }
}

/// Works on the links off the async threads. Should that panic, the board is empty and not sound.
pub(super) async fn think<T: Send + 'static>(
    board: &mut Board,
    work: impl FnOnce(&mut Clusters) -> T + Send + 'static,
) -> Result<T, UnknownsError> {
    let was_sound = std::mem::replace(&mut board.sound, false);
    let mut clusters = std::mem::replace(&mut board.clusters, Clusters::new(0.0));
    let (clusters, answer) = picture::blocking(move || {
        let answer = work(&mut clusters);
        (clusters, answer)
    })
    .await?;
    (board.clusters, board.sound) = (clusters, was_sound);
    Ok(answer)
}
