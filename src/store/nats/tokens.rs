//! API tokens: live ones by a hash of their name, which makes the name single; revoked ones by their own hash.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use super::{
    ClusterSettings, ClusterStore,
    bucket::Bucket,
    connect::Cluster,
    fault::Fault,
    records::{TokenRecord, hashed},
};
use crate::{
    access::{Token, TokenHash, TokenStore, TokenStoreError},
    ids::TokenName,
    store::{
        StoreError,
        sqlite::{
            replica::Source,
            tokens::{MAX_LIVE, TokenBookError},
        },
    },
    time::Timestamp,
    vault::VaultSettings,
};

impl From<Fault> for TokenBookError {
    fn from(fault: Fault) -> Self {
        Self::Storage(fault.to_string())
    }
}

impl ClusterStore {
    /// All tokens by name, with `and_revoked` also those that were revoked.
    ///
    /// # Errors
    /// When the replica fails.
    pub async fn tokens(&self, and_revoked: bool) -> Result<Vec<Token>, TokenStoreError> {
        if and_revoked { self.replica.all_tokens().await } else { self.replica.live_tokens().await }
    }

    /// Keeps a token.
    ///
    /// # Errors
    /// When its name is in use, there are too many, or the servers don't answer.
    pub async fn add_token(&self, token: &Token) -> Result<(), TokenBookError> {
        self.cluster.connected()?;
        let live = self.replica.live_tokens().await.map_err(|e| TokenBookError::Storage(e.to_string()))?;
        if live.len() as i64 >= MAX_LIVE {
            return Err(TokenBookError::TooMany);
        }
        let bucket = self.cluster.bucket(Source::Tokens)?;
        match bucket.create(&live_key(&self.cluster, &token.name), &TokenRecord::from(token)).await {
            Ok(revision) => Ok(self.applied(Source::Tokens, revision).await?),
            Err(Fault::Conflict) => Err(TokenBookError::Exists(token.name.clone())),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Revokes a token; the one that was revoked. From then on this node refuses it, and every other as soon as it hears of it.
    ///
    /// # Errors
    /// When no live token has that name, or the servers don't answer.
    pub async fn revoke_token(&self, name: &TokenName, now: Timestamp) -> Result<Token, TokenBookError> {
        self.cluster.connected()?;
        let (token, revision) = revoked(&self.cluster, name, now).await?;
        self.applied(Source::Tokens, revision).await?;
        Ok(token)
    }
}

/// The tokens of a cluster, for a command that runs beside it: without a replica.
pub struct ClusterTokens(Cluster);

impl ClusterTokens {
    /// Connects, and proves that the key is the cluster's.
    ///
    /// # Errors
    /// When no server can be used, or the key is missing or another.
    pub async fn open(
        settings: &ClusterSettings,
        data_dir: &Path,
        storage: &VaultSettings,
    ) -> Result<Self, TokenBookError> {
        let vault = storage.open(data_dir, false).map_err(StoreError::Key)?;
        let cluster = Cluster::connect(settings, &Arc::new(vault)).await?;
        super::log_id(&cluster).await?;
        Ok(Self(cluster))
    }

    fn bucket(&self) -> Result<&Bucket, TokenBookError> {
        Ok(self.0.bucket(Source::Tokens)?)
    }

    /// All tokens by name, with `and_revoked` also those that were revoked.
    ///
    /// # Errors
    /// When the servers don't answer.
    pub async fn list(&self, and_revoked: bool) -> Result<Vec<Token>, TokenBookError> {
        let bucket = self.bucket()?;
        let mut tokens = Vec::new();
        for key in bucket.keys().await?.iter().filter(|key| and_revoked || key.starts_with("live.")) {
            if let Some((_, record)) = bucket.get::<TokenRecord>(key).await? {
                tokens.push(record.token()?);
            }
        }
        tokens.sort_by(|a, b| (&a.name, a.created).cmp(&(&b.name, b.created)));
        Ok(tokens)
    }

    /// Keeps a token; nodes hear of it at once.
    ///
    /// # Errors
    /// When its name is in use, there are too many, or the servers don't answer.
    pub async fn add(&self, token: &Token) -> Result<(), TokenBookError> {
        let bucket = self.bucket()?;
        let live = bucket.keys().await?.iter().filter(|key| key.starts_with("live.")).count();
        if live as i64 >= MAX_LIVE {
            return Err(TokenBookError::TooMany);
        }
        match bucket.create(&live_key(&self.0, &token.name), &TokenRecord::from(token)).await {
            Ok(_) => Ok(()),
            Err(Fault::Conflict) => Err(TokenBookError::Exists(token.name.clone())),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Revokes a token; the one that was revoked.
    ///
    /// # Errors
    /// When no live token has that name, or the servers don't answer.
    pub async fn revoke(&self, name: &TokenName, now: Timestamp) -> Result<Token, TokenBookError> {
        revoked(&self.0, name, now).await.map(|(token, _)| token)
    }
}

fn live_key(cluster: &Cluster, name: &TokenName) -> String {
    format!("live.{}", hashed(&cluster.name, "token", name.as_str()))
}

/// Revokes a token; it, and the revision from which on it does not count.
async fn revoked(cluster: &Cluster, name: &TokenName, now: Timestamp) -> Result<(Token, u64), TokenBookError> {
    let (bucket, key) = (cluster.bucket(Source::Tokens)?, live_key(cluster, name));
    let Some((_, record)) = bucket.get::<TokenRecord>(&key).await? else {
        return Err(TokenBookError::NotFound(name.clone()));
    };
    let revoked = Token { revoked: Some(now), ..record.token()? };
    // Kept as revoked before it is no longer live, so that it is never gone from the list.
    let revoked_key = format!("revoked.{}", hex::encode(revoked.hash.0));
    bucket.put(&revoked_key, &TokenRecord::from(&revoked)).await?;
    Ok((revoked, bucket.purge(&key).await?))
}

#[async_trait]
impl TokenStore for ClusterStore {
    async fn live_tokens(&self) -> Result<Vec<Token>, TokenStoreError> {
        self.replica.live_tokens().await
    }

    async fn tokens_used(&self, uses: Vec<(TokenHash, Timestamp)>) -> Result<(), TokenStoreError> {
        let failed = |fault: Fault| TokenStoreError(fault.to_string());
        self.cluster.connected().map_err(failed)?;
        let live = self.replica.live_tokens().await?;
        let bucket = self.cluster.bucket(Source::Tokens).map_err(failed)?;
        for (hash, at) in uses {
            let Some(token) = live.iter().find(|token| token.hash == hash) else { continue };
            if token.used.is_some_and(|used| used >= at) {
                continue;
            }
            let key = live_key(&self.cluster, &token.name);
            let Some((revision, record)) = bucket.get::<TokenRecord>(&key).await.map_err(failed)? else { continue };
            let newest = record.token().map_err(failed)?;
            if newest.hash != hash || newest.used.is_some_and(|used| used >= at) {
                continue;
            }
            let used = Token { used: Some(at), ..newest };
            match bucket.update(&key, &TokenRecord::from(&used), revision).await {
                Ok(revision) => self.applied(Source::Tokens, revision).await.map_err(failed)?,
                // Another node noted its own use, or it was revoked.
                Err(Fault::Conflict) => {}
                Err(fault) => return Err(failed(fault)),
            }
        }
        Ok(())
    }
}
