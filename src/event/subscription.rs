//! A subscriber: a cursor over the log and a wake-up. No queue, so a slow one costs no memory and loses nothing.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::watch;

use super::{Event, EventFilter, EventLog, EventLogError};
use crate::time::Timestamp;

/// Events read from the log at once.
const CHUNK: usize = 128;

/// Where a subscriber starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    Now,
    /// After a position.
    After(u64),
    /// With the first event created at or after a time.
    Since(Timestamp),
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// An event that passes the filter.
    Event(Box<Event>),
    /// These positions were removed by retention before they were read.
    Gap {
        /// First missing position.
        first: u64,
        /// Last missing position.
        last: u64,
    },
}

/// A cursor over the log.
pub struct Subscription {
    log: Arc<dyn EventLog>,
    filter: EventFilter,
    latest: watch::Receiver<u64>,
    /// Everything up to here was delivered or filtered out.
    position: u64,
    ahead: VecDeque<Event>,
}

impl Subscription {
    /// A subscriber.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn new(log: Arc<dyn EventLog>, filter: EventFilter, start: Start) -> Result<Self, EventLogError> {
        // The wake-up first: an event written while the position is read must not be slept through.
        let latest = log.latest();
        let position = match start {
            Start::Now => log.bounds().await?.latest,
            Start::After(position) => position,
            Start::Since(time) => log.position_before(time).await?,
        };
        Ok(Self { log, filter, latest, position, ahead: VecDeque::new() })
    }

    /// Where the subscriber stands: the position of the last item, or of the last event that was filtered out after it.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next item; waits for it. Cancel safe: nothing is passed over when it is dropped while waiting.
    ///
    /// # Errors
    /// When the log fails; the position stays.
    pub async fn next(&mut self) -> Result<Item, EventLogError> {
        loop {
            while let Some(event) = self.ahead.front() {
                let next = self.position + 1;
                if event.position > next {
                    // The log has no holes, so these were removed.
                    let last = event.position - 1;
                    self.position = last;
                    return Ok(Item::Gap { first: next, last });
                }
                self.position = event.position;
                let wanted = self.filter.matches(event);
                let Some(event) = self.ahead.pop_front() else { break };
                if wanted {
                    return Ok(Item::Event(Box::new(event)));
                }
            }
            self.latest.borrow_and_update();
            self.ahead = self.log.read_after(self.position, CHUNK).await?.into();
            if !self.ahead.is_empty() {
                continue;
            }
            let bounds = self.log.bounds().await?;
            if bounds.oldest > self.position + 1 && bounds.latest > self.position {
                // Everything between was removed, and nothing is left after it.
                let first = self.position + 1;
                let last = (bounds.oldest - 1).min(bounds.latest);
                if self.log.read_after(self.position, 1).await?.is_empty() {
                    self.position = last;
                    return Ok(Item::Gap { first, last });
                }
                continue;
            }
            if self.latest.changed().await.is_err() {
                return Err(EventLogError::Storage("the log was closed".into()));
            }
        }
    }
}

/// Where a subscriber goes on: opaque text, valid for one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// The log's id.
    pub log_id: String,
    /// The last position that was seen.
    pub position: u64,
}

/// Why a resume token can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token.
    #[error("this is no resume token; use one that the server sent, or start without it")]
    Malformed,
    /// Of another log.
    #[error("this resume token belongs to another event log (the server's data were replaced); start without it")]
    OtherLog,
    /// Beyond the end.
    #[error(
        "this resume token is ahead of the event log ({position} > {latest}; the server's data were restored); start without it"
    )]
    Ahead {
        /// Position of the token.
        position: u64,
        /// Newest position.
        latest: u64,
    },
}

impl ResumeToken {
    /// Checks that the token belongs to a log with this id and newest position.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, log_id: &str, latest: u64) -> Result<(), TokenError> {
        if self.log_id != log_id {
            return Err(TokenError::OtherLog);
        }
        if self.position > latest {
            return Err(TokenError::Ahead { position: self.position, latest });
        }
        Ok(())
    }
}

/// A check against slips of the hand, not against forgery: FNV-1a.
fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("1.{}.{}", self.log_id, self.position);
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{text}.{:08x}", checksum(&text))))
    }
}

impl FromStr for ResumeToken {
    type Err = TokenError;
    fn from_str(token: &str) -> Result<Self, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim()).map_err(|_| TokenError::Malformed)?;
        let text = String::from_utf8(bytes).map_err(|_| TokenError::Malformed)?;
        let (body, sum) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        if u32::from_str_radix(sum, 16) != Ok(checksum(body)) {
            return Err(TokenError::Malformed);
        }
        match body.split('.').collect::<Vec<_>>()[..] {
            ["1", log_id, position] => {
                let position = position.parse().map_err(|_| TokenError::Malformed)?;
                Ok(Self { log_id: log_id.to_owned(), position })
            }
            _ => Err(TokenError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_round_trip_and_slips_do_not() {
        let token = ResumeToken { log_id: "abc123".into(), position: 42 };
        let text = token.to_string();
        assert_eq!(text.parse::<ResumeToken>().unwrap(), token);
        for bad in ["", "hello", &text[1..], &format!("{text}A"), "MS5hYmMuNDI"] {
            assert_eq!(bad.parse::<ResumeToken>(), Err(TokenError::Malformed), "{bad}");
        }
        assert_eq!(token.check("other", 50), Err(TokenError::OtherLog));
        assert_eq!(token.check("abc123", 41), Err(TokenError::Ahead { position: 42, latest: 41 }));
        assert!(token.check("abc123", 42).is_ok());
    }
}
