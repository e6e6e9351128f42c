//! The newest frame of a camera, asked of the worker that runs it: a request and its answer, sealed, which nobody keeps.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{ClusterStore, registry::NatsRegistry};
use crate::{
    camera::{FarFrame, FarFrames},
    ids::{CameraId, WorkerId},
    time::Timestamp,
    vault::Vault,
};

/// How long an answer may take: a frame is encoded for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers at one time; further requests wait.
const AT_ONCE: usize = 4;

/// Asks workers, and answers as one.
pub struct NatsFrames {
    client: Client,
    vault: Arc<Vault>,
    name: String,
    registry: Arc<NatsRegistry>,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    camera: CameraId,
}

/// The answer: capture time and JPEG, or why there is none.
#[derive(Serialize, Deserialize)]
enum Answer {
    Frame { captured: Timestamp, bytes: usize },
    None(String),
}

impl NatsFrames {
    /// Frames of a store's cluster.
    pub fn new(store: &ClusterStore, registry: Arc<NatsRegistry>) -> Self {
        let (client, vault) = (store.cluster.client(), store.replica.vault().clone());
        Self { client, vault, name: store.name().to_owned(), registry }
    }

    fn subject(&self, worker: &WorkerId) -> String {
        format!("{}.frames.{worker}", self.name)
    }

    /// Answers as a worker until `stop`: `frame` gives the newest of a camera, or says why there is none.
    pub async fn answer<F>(&self, me: &WorkerId, frame: impl Fn(CameraId) -> F, stop: CancellationToken)
    where
        F: Future<Output = Result<FarFrame, String>> + Send + 'static,
    {
        let subject = self.subject(me);
        let mut asked = loop {
            match self.client.subscribe(subject.clone()).await {
                Ok(asked) => break asked,
                Err(error) => {
                    tracing::warn!(%error, "frames can't be asked for yet");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(PATIENCE) => {}
                    }
                }
            }
        };
        let mut answering = JoinSet::new();
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = answering.join_next(), if !answering.is_empty() => continue,
                message = next(&mut asked), if answering.len() < AT_ONCE => message,
            };
            let Some(message) = message else { break };
            let Some(reply) = message.reply else { continue };
            // Whoever has no key of the cluster gets no picture, and no word either.
            let Ok(asked) = self.vault.unseal(&subject, &message.payload) else { continue };
            let Ok(Asked { camera }) = serde_json::from_slice(&asked) else { continue };
            let (frame, vault, client) = (frame(camera), self.vault.clone(), self.client.clone());
            answering.spawn(async move {
                let most = client.server_info().max_payload.saturating_sub(4096);
                let (answer, jpeg) = match frame.await {
                    Ok(frame) if frame.jpeg.len() > most => (
                        Answer::None(format!("its picture is larger than the {most} bytes of a NATS message")),
                        Bytes::new(),
                    ),
                    Ok(frame) => (Answer::Frame { captured: frame.captured, bytes: frame.jpeg.len() }, frame.jpeg),
                    Err(why) => (Answer::None(why), Bytes::new()),
                };
                let Ok(mut plain) = serde_json::to_vec(&answer) else { return };
                plain.extend_from_slice(&jpeg);
                let place = reply.to_string();
                if let Ok(sealed) = vault.seal(&place, &plain)
                    && let Err(error) = client.publish(reply, sealed.into()).await
                {
                    tracing::debug!(%error, "a frame could not be sent");
                }
            });
        }
        answering.shutdown().await;
    }

    async fn ask(&self, camera: &CameraId) -> Result<FarFrame, String> {
        let owner = self.registry.owner(camera).await.map_err(|e| e.to_string())?;
        let owner = owner.ok_or("no worker runs it at the moment")?;
        let subject = self.subject(&owner.worker);
        let plain = serde_json::to_vec(&Asked { camera: camera.clone() }).map_err(|e| e.to_string())?;
        let sealed = self.vault.seal(&subject, &plain).map_err(|e| e.to_string())?;
        let inbox = self.client.new_inbox();
        let silent = |_| format!("worker {}, which runs it, does not answer", owner.worker);
        let request = async_nats::Request::new().inbox(inbox).payload(sealed.into()).timeout(Some(PATIENCE));
        let answer = self.client.send_request(subject, request).await.map_err(silent)?;
        let plain = self.vault.unseal(answer.subject.as_str(), &answer.payload).map_err(|e| e.to_string())?;
        // The length of the picture, at the end, is told before it.
        let mut words = serde_json::Deserializer::from_slice(&plain).into_iter::<Answer>();
        let told = words.next().and_then(Result::ok).ok_or("the worker's answer can't be read")?;
        match told {
            Answer::None(why) => Err(why),
            Answer::Frame { captured, bytes } => {
                let from = plain.len().checked_sub(bytes).ok_or("the worker's answer is cut short")?;
                Ok(FarFrame { captured, jpeg: Bytes::from(plain).slice(from..) })
            }
        }
    }
}

async fn next(asked: &mut Subscriber) -> Option<async_nats::Message> {
    asked.next().await
}

#[async_trait]
impl FarFrames for NatsFrames {
    async fn newest(&self, camera: &CameraId) -> Result<FarFrame, String> {
        self.ask(camera).await
    }
}
