//! What a stream holds and whatever comes, in order and without a gap; where that can't be promised it ends, and who reads begins anew.
//!
//! The client's own ordered consumers are not used: one whose server dies is noticed after a minute or never, and their counts of what is still to
//! come may stay above zero where messages are replaced while they are read.

use std::time::Duration;

use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    stream::Stream,
};
use futures::{StreamExt, stream};

use super::{
    bucket::OPERATION,
    fault::{Fault, within},
};

/// Messages asked for at once.
const TOGETHER: usize = 256;
/// A reader that hears nothing is told so often that there is nothing; after twice that it begins anew.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long one request for messages stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// A reader that asks for nothing is forgotten after this: many are left behind where servers come and go.
const FORGOTTEN: Duration = Duration::from_secs(40);
/// Header of what a server puts where a message ended on its own.
const MARKER: &str = "Nats-Marker-Reason";

/// A reader of one stream.
pub(super) struct Feed {
    what: &'static str,
    consumer: Consumer<pull::Config>,
    /// The number of the last message, as the servers count them for this reader.
    last: u64,
}

impl Feed {
    /// Reads from a place on.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the servers don't answer.
    pub(super) async fn open(stream: &Stream, what: &'static str, from: DeliverPolicy) -> Result<Self, Fault> {
        let config = pull::Config {
            deliver_policy: from,
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN,
            num_replicas: 1,
            memory_storage: true,
            ..Default::default()
        };
        let consumer = within(what, stream.create_consumer(config)).await?;
        Ok(Self { what, consumer, last: 0 })
    }

    /// The next of what is there; empty once all of it was read.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the servers don't answer, or something is missing.
    pub(super) async fn there(&mut self) -> Result<Vec<Message>, Fault> {
        let asked = async {
            let mut batch = self.consumer.fetch().max_messages(TOGETHER).messages().await?;
            let mut chunk = Vec::new();
            while let Some(message) = batch.next().await {
                chunk.push(message?);
            }
            Ok::<_, async_nats::Error>(chunk)
        };
        let chunk = within(self.what, asked).await?;
        for message in &chunk {
            self.last = follows(self.what, self.last, message)?;
        }
        Ok(chunk)
    }

    /// Whatever comes, without an end but by a fault.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the servers don't answer.
    pub(super) async fn live(self) -> Result<impl stream::Stream<Item = Result<Message, Fault>> + Send, Fault> {
        let asked = self.consumer.stream().max_messages_per_batch(TOGETHER).expires(EXPIRES).heartbeat(HEARTBEAT);
        let messages = within(self.what, asked.messages()).await?;
        let (what, last) = (self.what, self.last);
        Ok(messages.scan(last, move |last, message| {
            let message = message.map_err(|e| Fault::unavailable(what, e)).and_then(|message| {
                *last = follows(what, *last, &message)?;
                Ok(message)
            });
            std::future::ready(Some(message))
        }))
    }
}

/// The number of a message, if it is the next.
fn follows(what: &str, last: u64, message: &Message) -> Result<u64, Fault> {
    let number = message.info().map_err(|e| Fault::Failed(e.to_string()))?.consumer_sequence;
    if number != last + 1 {
        return Err(Fault::unavailable(what, format!("message {number} came after {last}")));
    }
    Ok(number)
}

/// Whether a message of a bucket says that its key is gone.
pub(super) fn is_mark(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get(OPERATION).is_some() || headers.get(MARKER).is_some())
}
