//! Pages and resource names.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::Status;

use super::{convert::excerpt, status::invalid_field};
use crate::ids::IdError;

/// Number of rows for a `page_size`: 0 means 100, more than 1000 is cut.
///
/// # Errors
/// When it is negative.
pub fn size(page_size: i32) -> Result<usize, Status> {
    match page_size {
        0 => Ok(100),
        n => usize::try_from(n).map(|n| n.min(1000)).map_err(|_| invalid_field("page_size", "must not be negative")),
    }
}

/// The opaque form of where the next page starts.
pub fn token(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(after)
}

/// Where a page starts; `None` for the first.
///
/// # Errors
/// When the token was not made by [`token`].
pub fn after<T: FromStr>(page_token: &str) -> Result<Option<T>, Status> {
    if page_token.is_empty() {
        return Ok(None);
    }
    URL_SAFE_NO_PAD
        .decode(page_token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok())
        .map(Some)
        .ok_or_else(|| invalid_field("page_token", "is not one that this server sent; start without it"))
}

/// The id of a resource name such as `cameras/door`.
///
/// # Errors
/// When the name has another form.
pub fn id<T: FromStr<Err = IdError>>(field: &str, collection: &str, name: &str) -> Result<T, Status> {
    let id = name
        .strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| invalid_field(field, format!("{:?} is not of the form {collection}/ID", excerpt(name))))?;
    id.parse().map_err(|e: IdError| invalid_field(field, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CameraId;

    #[test]
    fn names_and_tokens_are_strict() {
        assert_eq!(id::<CameraId>("name", "cameras", "cameras/door").unwrap().as_str(), "door");
        for bad in ["", "door", "cameras/", "cameras/a/b", "people/door", "cameras/UP"] {
            assert!(id::<CameraId>("name", "cameras", bad).is_err(), "{bad}");
        }
        let long = id::<CameraId>("name", "cameras", &"x".repeat(100_000)).unwrap_err();
        assert!(long.message().len() < 200, "a client's text comes back in full");
        assert_eq!(after::<u64>(&token("17")).unwrap(), Some(17));
        assert_eq!(after::<u64>("").unwrap(), None);
        assert!(after::<u64>("!!").is_err() && after::<u64>(&token("x")).is_err());
        assert_eq!((size(0).unwrap(), size(5000).unwrap()), (100, 1000));
        assert!(size(-1).is_err());
    }
}
