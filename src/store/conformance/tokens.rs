//! Tokens.

use std::collections::BTreeMap;

use crate::{
    access::{Role, Token, TokenStore, TokenText},
    time::now,
};

/// A token of a name.
pub(in crate::store) fn made(name: &str) -> Token {
    let hash = TokenText::generate().unwrap().hash();
    let (name, created) = (name.parse().unwrap(), now());
    let scope = BTreeMap::from([("site".to_owned(), "north".to_owned())]);
    Token { hash, name, role: Role::Operator, scope, created, expires: Some(created), used: None, revoked: None }
}

/// Runs the suite on a store without tokens; `add` keeps one.
pub(in crate::store) async fn tokens(store: &dyn TokenStore, add: impl AsyncFn(Token)) {
    assert!(store.live_tokens().await.unwrap().is_empty());
    let token = made("first");
    add(token.clone()).await;
    assert_eq!(store.live_tokens().await.unwrap(), std::slice::from_ref(&token), "it comes back as it was");
    let at = now();
    store.tokens_used(vec![(token.hash, at), (made("gone").hash, at)]).await.unwrap();
    assert_eq!(store.live_tokens().await.unwrap(), [Token { used: Some(at), ..token }]);
}
