//! Unknown faces at work: grouped as they come, listed, merged, dismissed, enrolled, and removed when their time is over.
//!
//! The store is the truth; all faces are also held in memory with their links ([`crate::identity::cluster::Clusters`]). Changes go one
//! after the other, each in a task of its own, so a caller who goes away leaves nothing half-done. After one that failed, memory is read
//! anew.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    label,
    picture::{self, PictureDesk},
    unknown_board::{Board, think},
};

pub use super::{
    promotion::Promotion,
    unknown_group::{UnknownGroup, UnknownsError},
};
use crate::{
    event::EventLog,
    face::Embedding,
    frame::{
        contact_sheet::{self, Tile},
        crop,
    },
    identity::{
        Gallery, Person, UnknownFace, UnknownSettings, UnknownStore, UnknownStoreError,
        cluster::{Home, Member},
        unknown::Placement,
    },
    ids::{FaceId, ModelId, UnknownId},
    telemetry,
    time::Timestamp,
};

/// New faces read at once.
const CHUNK: usize = 256;
/// Faces on a contact sheet at most.
const ON_SHEET: usize = 64;
/// Pause after a wake-up, so that faces that come together are grouped together.
const GATHER: Duration = Duration::from_millis(200);

/// The unknown faces of a server. Cheap to clone.
#[derive(Clone)]
pub struct Unknowns(Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Arc<dyn UnknownStore>,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) gallery: Gallery,
    pub(super) desk: PictureDesk,
    settings: UnknownSettings,
    /// Held while waiting, on purpose: one change at a time.
    board: Mutex<Board>,
    /// Changes under way.
    tasks: TaskTracker,
}

impl Unknowns {
    /// The unknown faces of a store; they are read at the first use.
    pub fn new(
        store: Arc<dyn UnknownStore>,
        log: Arc<dyn EventLog>,
        gallery: Gallery,
        desk: PictureDesk,
        settings: UnknownSettings,
    ) -> Self {
        let board = Mutex::new(Board::empty(linking(&desk, &settings)));
        Self(Arc::new(Inner { store, log, gallery, desk, settings, board, tasks: TaskTracker::new() }))
    }

    /// Whether new unknown faces are kept.
    pub fn keeps(&self) -> bool {
        self.0.settings.keep
    }

    pub(super) fn desk(&self) -> &PictureDesk {
        &self.0.desk
    }

    pub(super) fn log(&self) -> &Arc<dyn EventLog> {
        &self.0.log
    }

    /// Groups new faces as they come, until `stop`; then waits for changes under way.
    pub async fn run(self, stop: CancellationToken) {
        let mut latest = self.0.log.latest();
        loop {
            if let Err(error) = self.change(|this| async move { this.absorbed().await.map(drop) }).await {
                tracing::error!(%error, "new unknown faces could not be grouped; that is tried again with the next event");
            }
            let woken = async {
                let changed = latest.changed().await;
                tokio::time::sleep(GATHER).await;
                changed
            };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = woken => if changed.is_err() { break },
            }
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Every group with its faces, last seen first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<UnknownGroup>, UnknownsError> {
        self.change(|this| async move {
            let board = this.absorbed().await?;
            let mut groups = board.groups.keys().map(|id| board.group(*id)).collect::<Result<Vec<_>, _>>()?;
            groups.sort_by_key(|g| std::cmp::Reverse((g.last_seen().as_microsecond(), g.id)));
            Ok(groups)
        })
        .await
    }

    /// One group.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn get(&self, id: UnknownId) -> Result<UnknownGroup, UnknownsError> {
        self.change(move |this| async move { this.absorbed().await?.group(id) }).await
    }

    /// The faces of a group on one JPEG, the best first, at most 64, each with camera and time.
    ///
    /// # Errors
    /// When there is no such group, or the store fails.
    pub async fn sheet(&self, id: UnknownId) -> Result<Bytes, UnknownsError> {
        let mut faces = self.get(id).await?.faces;
        faces.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        faces.truncate(ON_SHEET);
        let pictures = self.0.store.unknown_pictures(faces.iter().map(|f| f.id.clone()).collect()).await?;
        let drawn = picture::blocking(move || {
            let tile = |(face, jpeg): (&UnknownFace, Bytes)| Tile {
                picture: image::load_from_memory(&jpeg).ok().map(image::DynamicImage::into_rgb8),
                lines: [face.camera.to_string(), face.ended.strftime("%Y-%m-%d %H:%M").to_string()],
            };
            let tiles: Vec<Tile> = faces.iter().zip(pictures).map(tile).collect();
            crop::jpeg(&contact_sheet::draw(&tiles), label::JPEG_QUALITY)
        });
        drawn.await?.map_err(|error| UnknownsError::Interrupted(error.to_string()))
    }

    /// Puts the faces of `from` into `into`, for good: regrouping leaves them together.
    ///
    /// # Errors
    /// When one of them is not there, both are one, or the store fails.
    pub async fn merge(&self, into: UnknownId, from: UnknownId) -> Result<UnknownGroup, UnknownsError> {
        if into == from {
            return Err(UnknownsError::Same(into));
        }
        self.change(move |this| async move {
            let mut board = this.absorbed().await?;
            let faces = [board.group(into)?.faces, board.group(from)?.faces].concat();
            this.bind(&mut board, &faces, into).await?;
            board.group(into)
        })
        .await
    }

    /// Dismisses a group, or takes that back. A dismissed group is kept together and later appearances join it quietly: it is not
    /// listed unless asked for. It is forgotten with its last face.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn dismiss(&self, id: UnknownId, dismissed: bool) -> Result<UnknownGroup, UnknownsError> {
        self.change(move |this| async move {
            let mut board = this.absorbed().await?;
            let group = board.group(id)?;
            board.sound = false;
            this.store.set_dismissed(id, dismissed).await?;
            this.bind(&mut board, &group.faces, id).await?;
            match dismissed {
                true => board.dismissed.insert(id),
                false => board.dismissed.remove(&id),
            };
            board.group(id)
        })
        .await
    }

    /// Enrols a group as `person`, who is added when there is nobody of that id. The best faces become faces of the person, past decisions
    /// about the group's appearances are corrected, and the group is gone. Can be repeated when it was interrupted.
    ///
    /// # Errors
    /// When the group is not there, can't be compared, looks like somebody else (unless `force`), the person has no place
    /// left, or store, gallery or log fails.
    pub async fn enroll(&self, id: UnknownId, person: Person, force: bool) -> Result<Promotion, UnknownsError> {
        self.change(move |this| async move { this.enrolled(id, person, force).await }).await
    }

    /// Removes faces past their retention, then groups all faces anew.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_house(&self, now: Timestamp) -> Result<(), UnknownsError> {
        self.change(move |this| async move {
            let mut board = this.absorbed().await?;
            let days = this.settings.retention_days;
            // Further back than time goes: nothing is that old.
            let oldest = now.checked_sub(Duration::from_secs(u64::from(days) * 86_400));
            if let (true, Ok(oldest)) = (days > 0, oldest) {
                let old = board.faces.values().filter(|f| f.ended < oldest).map(|f| f.id.clone()).collect();
                this.remove(&mut board, old, "expired").await?;
            }
            this.regroup(&mut board).await
        })
        .await
    }

    /// How near each kept face of the probe's model is to it, with its group.
    pub(super) async fn similarities(
        &self,
        probe: Embedding,
    ) -> Result<Vec<(UnknownFace, UnknownId, f32)>, UnknownsError> {
        self.change(|this| async move {
            let board = this.absorbed().await?;
            let near = |face: &UnknownFace| {
                let similarity = face.template.similarity(&probe).ok()?;
                Some((face.clone(), *board.group_of.get(&face.id)?, similarity))
            };
            Ok(board.faces.values().filter_map(near).collect())
        })
        .await
    }

    /// Runs to its end, whether or not the caller waits for it.
    async fn change<T: Send + 'static, F>(
        &self,
        work: impl FnOnce(Arc<Inner>) -> F + Send + 'static,
    ) -> Result<T, UnknownsError>
    where
        F: Future<Output = Result<T, UnknownsError>> + Send + 'static,
    {
        let done = self.0.tasks.spawn(work(self.0.clone()));
        done.await.unwrap_or_else(|error| Err(UnknownsError::Interrupted(error.to_string())))
    }
}

impl Inner {
    /// The board with every face that the store has, all of them grouped.
    pub(super) async fn absorbed(&self) -> Result<MutexGuard<'_, Board>, UnknownsError> {
        let mut board = self.board.lock().await;
        // Faces of another model are linked after a move.
        if !board.sound || board.linking != linking(&self.desk, &self.settings) {
            *board = self.load().await?;
        }
        loop {
            let new = self.store.ungrouped(CHUNK).await?;
            if new.is_empty() {
                return Ok(board);
            }
            board.sound = false;
            let mut placements = Vec::with_capacity(new.len());
            for face in new {
                let member = Member::of(&face);
                let nearest = think(&mut board, move |clusters| {
                    let id = member.id.clone();
                    clusters.insert(member);
                    clusters.nearest_group(&id)
                });
                let group = match nearest.await? {
                    Some(group) => group,
                    None => self.new_groups(1).await?[0],
                };
                let placement = Placement { face: face.id.clone(), group, bound: false };
                board.faces.insert(face.id.clone(), face);
                board.place(&placement);
                placements.push(placement);
            }
            self.store.place(placements).await?;
            board.sound = true;
            let over = board.faces.len().saturating_sub(self.settings.max);
            let oldest = board.faces.keys().take(over).cloned().collect();
            self.remove(&mut board, oldest, "evicted").await?;
        }
    }

    /// Reads everything anew.
    async fn load(&self) -> Result<Board, UnknownsError> {
        let kept = self.store.unknowns().await?;
        let dismissed = self.store.dismissed().await?;
        let mut board = Board::empty(linking(&self.desk, &self.settings));
        let model = board.linking.0.clone();
        board.dismissed = dismissed;
        let members: Vec<Member> = kept
            .iter()
            .filter(|k| k.group.is_some())
            // The threshold is not that of other models: their groups stay as they are.
            .map(|k| Member { group: k.group, bound: k.bound || k.face.template.model != model, ..Member::of(&k.face) })
            .collect();
        think(&mut board, move |clusters| members.into_iter().for_each(|m| clusters.insert(m))).await?;
        for k in kept {
            // Those without a group are met again as new ones.
            if let Some(group) = k.group {
                board.place(&Placement { face: k.face.id.clone(), group, bound: k.bound });
                board.faces.insert(k.face.id.clone(), k.face);
            }
        }
        telemetry::unknown_faces_kept(board.faces.len());
        board.sound = true;
        Ok(board)
    }

    /// New groups; exactly as many as asked for.
    async fn new_groups(&self, count: usize) -> Result<Vec<UnknownId>, UnknownsError> {
        let groups = self.store.new_groups(count).await?;
        if groups.len() == count { Ok(groups) } else { Err(UnknownStoreError("too few new groups".into()).into()) }
    }

    async fn bind(&self, board: &mut Board, faces: &[UnknownFace], group: UnknownId) -> Result<(), UnknownsError> {
        let placements = faces.iter().map(|f| Placement { face: f.id.clone(), group, bound: true }).collect();
        self.put(board, placements).await
    }

    async fn put(&self, board: &mut Board, placements: Vec<Placement>) -> Result<(), UnknownsError> {
        board.sound = false;
        self.store.place(placements.clone()).await?;
        placements.iter().for_each(|p| board.place(p));
        board.sound = true;
        Ok(())
    }

    async fn remove(&self, board: &mut Board, faces: Vec<FaceId>, outcome: &'static str) -> Result<(), UnknownsError> {
        if !faces.is_empty() {
            board.sound = false;
            let removed = self.store.remove_unknowns(faces.clone()).await?;
            faces.iter().for_each(|f| board.remove(f));
            telemetry::unknown_faces(outcome, removed);
            tracing::info!(removed, outcome, "unknown faces were removed");
            board.sound = true;
        }
        telemetry::unknown_faces_kept(board.faces.len());
        Ok(())
    }

    async fn regroup(&self, board: &mut Board) -> Result<(), UnknownsError> {
        let moves = think(board, |clusters| clusters.regroup()).await?;
        if moves.is_empty() {
            return Ok(());
        }
        let homes = moves.iter().filter_map(|(_, home)| match home {
            Home::New(n) => Some(n + 1),
            Home::Old(_) => None,
        });
        let new = self.new_groups(homes.max().unwrap_or(0)).await?;
        let placement = |(face, home): (FaceId, Home)| {
            let group = match home {
                Home::Old(group) => group,
                Home::New(n) => *new.get(n)?,
            };
            Some(Placement { face, group, bound: false })
        };
        let placements: Vec<Placement> = moves.into_iter().filter_map(placement).collect();
        tracing::info!(moved = placements.len(), new = new.len(), "unknown faces were grouped anew");
        self.put(board, placements).await
    }
}

/// The model whose faces are linked, and the similarity from which two are: the model's own, since one that is learned for a gallery moves with the
/// gallery's size.
fn linking(desk: &PictureDesk, settings: &UnknownSettings) -> (ModelId, f32) {
    let embedder = desk.embedder();
    let own = embedder.embedder.as_ref().map_or(1.0, |e| e.identification_threshold);
    (embedder.id, own + settings.link_extra)
}
