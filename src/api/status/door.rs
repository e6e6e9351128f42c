//! What somebody hears who is not let in, asks for too much, or for what is not theirs.

use std::collections::HashMap;

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use super::{DOMAIN, RETRY, internal, plain, status, unavailable};
use crate::access::{
    Holder, OidcRefusal, Refusal, Role, Scope,
    clients::{Client, ClientLimits, Over},
};

fn unauthenticated(reason: &str, message: String) -> Status {
    let mut status = plain(Code::Unauthenticated, reason, message);
    status.metadata_mut().insert("www-authenticate", MetadataValue::from_static("Bearer realm=\"visage\""));
    status
}

/// UNAUTHENTICATED, or UNAVAILABLE when nobody can tell.
pub(in crate::api) fn not_admitted(refusal: &Refusal) -> Status {
    let reason = match refusal {
        Refusal::Missing => "TOKEN_MISSING",
        Refusal::Unknown => "TOKEN_UNKNOWN",
        Refusal::Expired { .. } => "TOKEN_EXPIRED",
        Refusal::Oidc(OidcRefusal::Token(_)) => "JWT",
        Refusal::Storage(_) | Refusal::Oidc(OidcRefusal::Keys(_)) => return unavailable(refusal.to_string()),
    };
    unauthenticated(reason, refusal.to_string())
}

/// UNAUTHENTICATED: a stream outlived its token.
pub(in crate::api) fn token_gone(name: &Holder) -> Status {
    unauthenticated("TOKEN_GONE", format!("the token {name} was revoked or has expired, so this ends"))
}

/// PERMISSION_DENIED with the role that the method needs; without one nobody may call it.
pub(in crate::api) fn role_too_low(path: &str, needed: Option<Role>, name: &Holder, role: Role) -> Status {
    let method: String = path.trim_start_matches('/').chars().take(120).collect();
    let mut facts = HashMap::from([("method".to_owned(), method.clone()), ("role".to_owned(), role.to_string())]);
    let message = match needed {
        Some(needed) => {
            facts.insert("needed_role".to_owned(), needed.to_string());
            format!(
                "{method} needs the role {needed}, and the token {name} is of the role {role}; `visage token create NAME --role {needed}` \
                 makes one"
            )
        }
        None => format!("{method} is no method of this server"),
    };
    let mut details = ErrorDetails::new();
    details.set_error_info("ROLE", DOMAIN, facts);
    Status::with_error_details(Code::PermissionDenied, message, details)
}

/// UNIMPLEMENTED, as gRPC says it.
pub(in crate::api) fn no_such_method(path: &str) -> Status {
    let method: String = path.trim_start_matches('/').chars().take(120).collect();
    plain(Code::Unimplemented, "METHOD", format!("{method} is no method of this server"))
}

/// PERMISSION_DENIED: the method is of all cameras, and the token of some.
pub(in crate::api) fn out_of_scope(path: &str, name: &Holder, scope: &Scope) -> Status {
    let method = path.trim_start_matches('/').to_owned();
    let message = format!(
        "{method} is about the whole gallery, and the token {name} is for cameras with {scope} only; a token without --camera-label may call it"
    );
    let mut details = ErrorDetails::new();
    details.set_error_info("SCOPE", DOMAIN, HashMap::from([("method".to_owned(), method)]));
    Status::with_error_details(Code::PermissionDenied, message, details)
}

/// INTERNAL: a handler ran without anybody having been let in.
pub(in crate::api) fn nobody_calls() -> Status {
    internal("a handler ran outside of the door".into())
}

/// PERMISSION_DENIED: a camera would not have the labels that the caller's cameras have.
pub(in crate::api) fn camera_out_of_scope(scope: &Scope) -> Status {
    plain(
        Code::PermissionDenied,
        "SCOPE",
        format!("this token is for cameras with {scope} only; give the camera these labels, and leave them there"),
    )
}

/// RESOURCE_EXHAUSTED with the key that raises the limit, and when to come back.
pub(in crate::api) fn too_much(over: Over, client: &Client, limits: &ClientLimits) -> Status {
    let (key, limit, what, retry) = match over {
        Over::Rate(wait) => {
            ("limits.requests_per_second", limits.requests_per_second as usize, "requests a second", wait)
        }
        Over::Requests => ("limits.requests_per_client", limits.requests, "requests at one time", RETRY),
        Over::Streams => ("limits.streams_per_client", limits.streams, "streams at one time", RETRY),
    };
    let message = format!("{client} has more than {limit} {what}; ask less often, or raise {key}");
    let mut details = ErrorDetails::new();
    details.add_quota_failure_violation(key, message.clone());
    details.set_retry_info(Some(retry));
    status(Code::ResourceExhausted, "CLIENT_LIMIT", message, details)
}

/// DEADLINE_EXCEEDED: the caller waits no longer, and the work has ended.
pub(in crate::api) fn too_late() -> Status {
    plain(
        Code::DeadlineExceeded,
        "DEADLINE",
        "the deadline of the request came before the answer; the work has ended".into(),
    )
}
