//! The gate: tokens held in memory and read again every two seconds, so that no request waits for the database and a revoked token is soon refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Holder, Oidc, OidcRefusal, Role, Scope, Token, TokenHash, TokenStore, TokenStoreError};
use crate::{
    ids::TokenName,
    time::{self, Timestamp},
};

/// Between two readings: a revoked token is refused after this and the time of one reading.
const REFRESH: Duration = Duration::from_secs(2);
/// An unknown token makes the tokens be read again, at most this often: it may have been made just now.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Tokens that could not be read for so long count no more: nobody knows who was revoked meanwhile.
const STALE: Duration = Duration::from_secs(30);
/// The last use of a token is written at most this often.
const WRITE_USE: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who holds the token.
    pub name: Holder,
    /// Its role.
    pub role: Role,
    /// The cameras that may be seen with it.
    pub scope: Scope,
    /// Cancelled when the token is revoked or expires: streams end then.
    pub gone: CancellationToken,
    /// When they end in any case.
    pub ends: Option<Instant>,
}

/// Why somebody is not let in. No text repeats what was shown.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// Nothing was shown.
    #[error(
        "this server asks for a token, and the request has none; on the server's machine `visage token create NAME --role viewer` makes one, \
         to be sent as `authorization: Bearer TOKEN`"
    )]
    Missing,
    /// A token that is not among the live ones.
    #[error(
        "the token is not known here: it was revoked, or is of another server; `visage token list` shows the names of those that count"
    )]
    Unknown,
    /// Its time is over.
    #[error("the token {name} expired at {at}; make another with `visage token create`")]
    Expired {
        /// Its name.
        name: TokenName,
        /// When.
        at: Timestamp,
    },
    /// The tokens can't be read.
    #[error(transparent)]
    Storage(#[from] TokenStoreError),
    /// A JWT.
    #[error(transparent)]
    Oidc(#[from] OidcRefusal),
}

struct Entry {
    token: Token,
    gone: CancellationToken,
    /// The last use that was written.
    written: Option<Timestamp>,
}

struct Known {
    tokens: HashMap<TokenHash, Entry>,
    read: Instant,
}

struct Inner {
    store: Arc<dyn TokenStore>,
    oidc: Option<Oidc>,
    known: Mutex<Known>,
    /// Held by the one who reads.
    reading: tokio::sync::Mutex<()>,
}

/// Lets in who shows a token that counts. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

impl Gate {
    /// A gate over the tokens of a store, and the JWTs of a provider.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn open(store: Arc<dyn TokenStore>, oidc: Option<Oidc>) -> Result<Self, TokenStoreError> {
        let known = Mutex::new(Known { tokens: HashMap::new(), read: Instant::now() });
        let gate = Self(Arc::new(Inner { store, oidc, known, reading: tokio::sync::Mutex::new(()) }));
        gate.read_again(None).await?;
        Ok(gate)
    }

    /// Whether some token counts now, or those of a provider may.
    pub fn lets_somebody_in(&self) -> bool {
        let now = time::now();
        self.0.oidc.is_some() || self.known().tokens.values().any(|e| !expired(&e.token, now))
    }

    /// Lets a token in, or says why not.
    ///
    /// # Errors
    /// When there is none, or it does not count.
    pub async fn admit(&self, token: Option<&str>) -> Result<Admitted, Refusal> {
        let token = token.ok_or(Refusal::Missing)?;
        if let Some(oidc) = self.0.oidc.as_ref().filter(|_| Oidc::is_jwt(token)) {
            return oidc.admit(token).await;
        }
        let hash = TokenHash::of(token);
        let stale = {
            let known = self.known();
            known.read.elapsed() >= STALE || !known.tokens.contains_key(&hash)
        };
        if stale {
            self.read_again(Some(Instant::now())).await?;
        }
        let mut known = self.known();
        if known.read.elapsed() >= STALE {
            return Err(TokenStoreError("the last reading is too old".into()).into());
        }
        let entry = known.tokens.get_mut(&hash).ok_or(Refusal::Unknown)?;
        let now = time::now();
        if let Some(at) = entry.token.expires.filter(|at| *at <= now) {
            return Err(Refusal::Expired { name: entry.token.name.clone(), at });
        }
        entry.token.used = Some(now);
        let token = &entry.token;
        let (name, scope) = (token.name.clone(), Scope::of(&token.scope));
        Ok(Admitted { name: Holder::Token(name), role: token.role, scope, gone: entry.gone.clone(), ends: None })
    }

    /// Reads tokens, and the keys of a provider, again and again until `stop`, and writes now and then when tokens were used.
    pub async fn tend(&self, stop: CancellationToken) {
        match &self.0.oidc {
            Some(oidc) => {
                tokio::join!(oidc.tend(stop.clone()), self.tend_tokens(stop));
            }
            None => self.tend_tokens(stop).await,
        }
    }

    async fn tend_tokens(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(REFRESH) => false,
                () = stop.cancelled() => true,
            };
            let done = async {
                let wrote = self.write_uses(if last { Duration::ZERO } else { WRITE_USE }).await;
                // Also where uses can't be written: who was revoked or has expired is to go.
                self.read_again(None).await?;
                wrote
            };
            match done.await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "tokens are not up to date; in {} s nobody is let in", STALE.as_secs());
                }
                Err(_) => {}
            }
            if last {
                return;
            }
        }
    }

    /// Reads the tokens. Who asked at a time is content with a reading that began later, and waits for its turn; all who wait share one.
    async fn read_again(&self, asked: Option<Instant>) -> Result<(), TokenStoreError> {
        let _reading = self.0.reading.lock().await;
        if let Some(asked) = asked {
            let last = self.known().read;
            if last > asked {
                return Ok(());
            }
            tokio::time::sleep_until(last + AT_MOST_EVERY).await;
        }
        let began = Instant::now();
        let tokens = self.0.store.live_tokens().await?;
        let now = time::now();
        let mut known = self.known();
        let mut before = std::mem::take(&mut known.tokens);
        known.read = began;
        for mut token in tokens {
            let entry = match before.remove(&token.hash) {
                Some(old) => {
                    token.used = token.used.max(old.token.used);
                    Entry { token, ..old }
                }
                None => Entry { written: token.used, token, gone: CancellationToken::new() },
            };
            if expired(&entry.token, now) {
                entry.gone.cancel();
            }
            known.tokens.insert(entry.token.hash, entry);
        }
        before.values().for_each(|revoked| revoked.gone.cancel());
        Ok(())
    }

    /// Writes uses that are at least `least` after the last one written.
    async fn write_uses(&self, least: Duration) -> Result<(), TokenStoreError> {
        let due: Vec<(TokenHash, Timestamp)> = {
            let known = self.known();
            known
                .tokens
                .values()
                .filter_map(|e| Some((e.token.hash, use_due(e.token.used?, e.written, least)?)))
                .collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        self.0.store.tokens_used(due.clone()).await?;
        let mut known = self.known();
        for (hash, at) in due {
            if let Some(entry) = known.tokens.get_mut(&hash) {
                entry.written = Some(at);
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expired(token: &Token, now: Timestamp) -> bool {
    token.expires.is_some_and(|at| at <= now)
}

/// The use, when it is to be written.
fn use_due(used: Timestamp, written: Option<Timestamp>, least: Duration) -> Option<Timestamp> {
    let due = written.is_none_or(|w| used > w && time::seconds_between(w, used) >= least.as_secs_f64());
    due.then_some(used)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::access::TokenText;

    #[derive(Default)]
    struct Shelf {
        tokens: Mutex<Vec<Token>>,
        uses: Mutex<Vec<(TokenHash, Timestamp)>>,
        readings: AtomicUsize,
        broken: AtomicBool,
    }

    #[async_trait]
    impl TokenStore for Shelf {
        async fn live_tokens(&self) -> Result<Vec<Token>, TokenStoreError> {
            self.readings.fetch_add(1, Ordering::SeqCst);
            if self.broken.load(Ordering::SeqCst) {
                return Err(TokenStoreError("disk".into()));
            }
            Ok(self.tokens.lock().unwrap().clone())
        }

        async fn tokens_used(&self, uses: Vec<(TokenHash, Timestamp)>) -> Result<(), TokenStoreError> {
            self.uses.lock().unwrap().extend(uses);
            Ok(())
        }
    }

    impl Shelf {
        fn put(&self, name: &str, expires: Option<Timestamp>) -> TokenText {
            let text = TokenText::generate().unwrap();
            let (hash, name) = (text.hash(), name.parse().unwrap());
            let token = Token {
                hash,
                name,
                role: Role::Viewer,
                scope: Default::default(),
                created: time::now(),
                expires,
                used: None,
                revoked: None,
            };
            self.tokens.lock().unwrap().push(token);
            text
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_counts_at_once_and_a_revoked_one_ends_within_seconds() {
        let shelf = Arc::new(Shelf::default());
        let gate = Gate::open(shelf.clone(), None).await.unwrap();
        assert!(!gate.lets_somebody_in());
        let stop = CancellationToken::new();
        let tending = tokio::spawn({
            let (gate, stop) = (gate.clone(), stop.clone());
            async move { gate.tend(stop).await }
        });
        let text = shelf.put("door", None);
        let admitted = gate.admit(Some(text.expose())).await.unwrap();
        assert_eq!((admitted.name.to_string().as_str(), admitted.role), ("door", Role::Viewer));
        assert!(gate.lets_somebody_in());
        shelf.tokens.lock().unwrap().clear();
        tokio::time::timeout(Duration::from_secs(3), admitted.gone.cancelled()).await.expect("the stream goes on");
        assert!(matches!(gate.admit(Some(text.expose())).await, Err(Refusal::Unknown)));
        assert!(matches!(gate.admit(None).await, Err(Refusal::Missing)));
        stop.cancel();
        tending.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn expired_tokens_are_named_and_unknown_ones_do_not_flood_the_store() {
        let shelf = Arc::new(Shelf::default());
        let text = shelf.put("old", Some(time::now()));
        let gate = Gate::open(shelf.clone(), None).await.unwrap();
        assert!(!gate.lets_somebody_in());
        let refusal = gate.admit(Some(text.expose())).await.unwrap_err().to_string();
        assert!(refusal.contains("old expired") && !refusal.contains(text.expose()), "{refusal}");
        let before = shelf.readings.load(Ordering::SeqCst);
        let mut guesses = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let gate = gate.clone();
            guesses.spawn(async move { gate.admit(Some("visage_guess")).await.unwrap_err() });
        }
        while let Some(refusal) = guesses.join_next().await {
            let refusal = refusal.unwrap();
            assert!(matches!(refusal, Refusal::Unknown) && !refusal.to_string().contains("guess"));
        }
        assert_eq!(shelf.readings.load(Ordering::SeqCst), before + 1, "all share one reading");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_by_tokens_that_were_not_read_for_long() {
        let shelf = Arc::new(Shelf::default());
        let text = shelf.put("door", None);
        let gate = Gate::open(shelf.clone(), None).await.unwrap();
        shelf.broken.store(true, Ordering::SeqCst);
        gate.admit(Some(text.expose())).await.unwrap();
        tokio::time::sleep(STALE).await;
        assert!(matches!(gate.admit(Some(text.expose())).await, Err(Refusal::Storage(_))));
        shelf.broken.store(false, Ordering::SeqCst);
        gate.admit(Some(text.expose())).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn uses_are_written_once_a_minute_and_at_the_end() {
        let shelf = Arc::new(Shelf::default());
        let text = shelf.put("door", None);
        let gate = Gate::open(shelf.clone(), None).await.unwrap();
        for _ in 0..5 {
            gate.admit(Some(text.expose())).await.unwrap();
            gate.write_uses(WRITE_USE).await.unwrap();
        }
        assert_eq!(shelf.uses.lock().unwrap().len(), 1);
        gate.write_uses(Duration::ZERO).await.unwrap();
        assert_eq!(shelf.uses.lock().unwrap().len(), 2, "the last use is not lost");
        let (at, minute) = (time::now(), Duration::from_secs(60));
        assert_eq!(use_due(at, None, minute), Some(at));
        assert_eq!(use_due(at, Some(at), Duration::ZERO), None);
        assert_eq!(use_due(at + minute, Some(at), minute), Some(at + minute));
        assert_eq!(use_due(at + minute / 2, Some(at), minute), None);
    }
}
