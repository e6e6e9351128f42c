//! The one mapping of errors to gRPC statuses with `google.rpc` details.

mod door;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    access::audit::AuditError,
    camera::{CameraStoreError, SpecError},
    event::{EventLogError, subscription::TokenError},
    face::FaceError,
    frame::still::StillError,
    identity::{GalleryError, TrainError, UnknownStoreError},
    ids::{FaceId, PersonId},
    pipeline::{fleet::FleetError, picture::PictureError, reembed::MoveError, unknowns::UnknownsError},
};

pub(super) use door::{
    camera_out_of_scope, no_such_method, nobody_calls, not_admitted, out_of_scope, role_too_low, token_gone, too_late,
    too_much,
};

const DOMAIN: &str = "visage";
const RETRY: Duration = Duration::from_secs(1);

fn status(code: Code, reason: &str, message: String, mut details: ErrorDetails) -> Status {
    details.set_error_info(reason, DOMAIN, HashMap::<String, String>::new());
    Status::with_error_details(code, message, details)
}

fn plain(code: Code, reason: &str, message: String) -> Status {
    status(code, reason, message, ErrorDetails::new())
}

/// INVALID_ARGUMENT with every faulty field.
pub(super) fn invalid(violations: Vec<(String, String)>) -> Status {
    let message = violations.iter().map(|(f, d)| format!("{f}: {d}")).collect::<Vec<_>>().join("; ");
    let fields: Vec<FieldViolation> =
        violations.into_iter().map(|(field, description)| FieldViolation::new(field, description)).collect();
    let mut details = ErrorDetails::new();
    details.set_bad_request(fields);
    status(Code::InvalidArgument, "INVALID_ARGUMENT", message, details)
}

/// INVALID_ARGUMENT with one faulty field.
pub(super) fn invalid_field(field: &str, description: impl Into<String>) -> Status {
    invalid(vec![(field.to_owned(), description.into())])
}

fn resource(code: Code, reason: &str, kind: &str, name: String, message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, name, "", message.clone());
    status(code, reason, message, details)
}

fn precondition(reason: &str, subject: String, message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.add_precondition_failure_violation(reason, subject, message.clone());
    status(Code::FailedPrecondition, reason, message, details)
}

/// RESOURCE_EXHAUSTED; `subject` is the configuration key of the limit.
pub(super) fn exhausted(subject: &str, message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.add_quota_failure_violation(subject, message.clone());
    status(Code::ResourceExhausted, "LIMIT", message, details)
}

/// UNAVAILABLE with a delay after which a retry makes sense.
pub(super) fn unavailable(message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(RETRY));
    status(Code::Unavailable, "UNAVAILABLE", message, details)
}

/// A message beyond the limit as RESOURCE_EXHAUSTED that names it: the transport itself answers OUT_OF_RANGE.
pub(super) fn limit_named(response: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => message_too_large(&status).into_http(),
        _ => response,
    }
}

/// The same for a message inside a stream.
pub(super) fn message_too_large(status: &Status) -> Status {
    exhausted("limits.message_bytes", format!("{}; send less at once or raise limits.message_bytes", status.message()))
}

/// NOT_FOUND: the face is there, and no picture of it.
pub(super) fn no_picture(person: &PersonId, face: &FaceId) -> Status {
    let message = format!("no picture of face {face} is kept; those enrolled with gallery.keep_crops = true have one");
    resource(Code::NotFound, "NO_IMAGE", "face", format!("people/{person}/faces/{face}"), message)
}

fn internal(message: String) -> Status {
    tracing::error!(message, "a request failed");
    plain(Code::Internal, "INTERNAL", message)
}

/// An error of a room as a status.
pub(super) trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for AuditError {
    fn into_status(self) -> Status {
        // The paths are for the log: callers need not know them.
        let message = "the audit log can't be written, so this is not done; the server's log tells why";
        unavailable(message.into())
    }
}

impl IntoStatus for CameraStoreError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::NotFound(id) => {
                resource(Code::NotFound, "CAMERA_NOT_FOUND", "camera", format!("cameras/{id}"), message)
            }
            Self::AlreadyExists(id) => {
                resource(Code::AlreadyExists, "CAMERA_EXISTS", "camera", format!("cameras/{id}"), message)
            }
            Self::Conflict(id) => resource(Code::Aborted, "CONFLICT", "camera", format!("cameras/{id}"), message),
            Self::Unavailable(_) => unavailable(message),
            Self::Storage(_) => internal(message),
        }
    }
}

impl IntoStatus for Vec<SpecError> {
    fn into_status(self) -> Status {
        invalid(self.into_iter().map(|e| (format!("camera.{}", e.field), e.message)).collect())
    }
}

impl IntoStatus for FleetError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Invalid(faults) => faults.into_status(),
            Self::Store(error) => error.into_status(),
            Self::TooMany(_) => exhausted("cameras.max", message),
            Self::NoFrame { camera, .. } => precondition("NO_FRAME", format!("cameras/{camera}"), message),
            Self::Picture(error) => error.into_status(),
            Self::Interrupted(_) => internal(message),
        }
    }
}

impl IntoStatus for GalleryError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::PersonNotFound(id) => {
                resource(Code::NotFound, "PERSON_NOT_FOUND", "person", format!("people/{id}"), message)
            }
            Self::FaceNotFound(id) => resource(Code::NotFound, "FACE_NOT_FOUND", "face", id.to_string(), message),
            Self::AlreadyExists(id) => {
                resource(Code::AlreadyExists, "PERSON_EXISTS", "person", format!("people/{id}"), message)
            }
            Self::Conflict(id) => resource(Code::Aborted, "CONFLICT", "person", format!("people/{id}"), message),
            Self::Incomparable(_) => precondition("OTHER_MODEL", "gallery".into(), message),
            Self::NoLegalBasis(id) => precondition("LEGAL_BASIS", format!("people/{id}"), message),
            Self::Moving(_) => precondition("MOVING", "gallery".into(), message),
            Self::Elsewhere => plain(Code::FailedPrecondition, "ASK_A_GATEWAY", message),
            Self::TooLittle(_) | Self::Training(TrainError::TooLittle { .. }) => {
                precondition("TOO_LITTLE_DATA", "gallery".into(), message)
            }
            Self::Training(TrainError::TooMuch { .. }) => precondition("TOO_MUCH_DATA", "gallery".into(), message),
            Self::Training(TrainError::Unusable) => precondition("OTHER_MODEL", "gallery".into(), message),
            Self::Training(TrainError::Stopped) => unavailable(message),
            Self::Training(TrainError::Optimiser(_)) => internal(message),
            Self::ForeignIndex { .. } => precondition("FOREIGN_INDEX", "gallery".into(), message),
            Self::Storage(_) => internal(message),
            Self::Unavailable(_) | Self::Disk(_) => unavailable(message),
        }
    }
}

impl IntoStatus for FaceError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Model { .. } | Self::Runtime(_) => internal(message),
            Self::Busy | Self::Stopped => unavailable(message),
        }
    }
}

impl IntoStatus for StillError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::TooManyBytes { .. } => exhausted("limits.picture_bytes", message),
            Self::TooManyPixels { .. } => exhausted("limits.picture_pixels", message),
            Self::NotAPicture(_) => invalid_field("image", message),
        }
    }
}

impl IntoStatus for PictureError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Checking => unavailable(message),
            Self::Still(error) => error.into_status(),
            Self::NoFace => invalid_field("image", message),
            Self::TooManyFaces { .. } => exhausted("limits.faces_per_picture", message),
            Self::Face(error) => error.into_status(),
            Self::Gallery(error) => error.into_status(),
            Self::One { field, fault } => match *fault {
                Self::Still(StillError::NotAPicture(_)) | Self::NoFace => invalid_field(field, fault.to_string()),
                Self::Still(StillError::TooManyBytes { .. }) => exhausted("limits.picture_bytes", message),
                Self::Still(StillError::TooManyPixels { .. }) => exhausted("limits.picture_pixels", message),
                Self::TooManyFaces { .. } => exhausted("limits.faces_per_picture", message),
                Self::Checking | Self::Face(_) | Self::Gallery(_) | Self::One { .. } => fault.into_status(),
            },
        }
    }
}

impl IntoStatus for EventLogError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::NotFound(id) => resource(Code::NotFound, "EVENT_NOT_FOUND", "event", format!("events/{id}"), message),
            Self::NoImage(id) => resource(Code::NotFound, "NO_IMAGE", "event", format!("events/{id}"), message),
            Self::Fenced(_) => plain(Code::FailedPrecondition, "CAMERA_FENCED", message),
            Self::Elsewhere => plain(Code::FailedPrecondition, "ASK_A_GATEWAY", message),
            Self::Unavailable(_) => unavailable(message),
            Self::Storage(_) => internal(message),
        }
    }
}

impl IntoStatus for UnknownStoreError {
    fn into_status(self) -> Status {
        internal(self.to_string())
    }
}

impl IntoStatus for UnknownsError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::NotFound(id) => {
                resource(Code::NotFound, "UNKNOWN_NOT_FOUND", "unknown", format!("unknowns/{id}"), message)
            }
            Self::Same(_) => invalid_field("from", message),
            Self::OtherModel { group, .. } => precondition("OTHER_MODEL", format!("unknowns/{group}"), message),
            Self::LooksLike { person, .. } => {
                precondition("LOOKS_LIKE_ANOTHER_PERSON", format!("people/{person}"), message)
            }
            Self::TooManyFaces { .. } => exhausted("enrollment.max_faces_per_person", message),
            Self::Store(error) => error.into_status(),
            Self::Gallery(error) => error.into_status(),
            Self::Log(error) => error.into_status(),
            Self::Picture(error) => error.into_status(),
            Self::Interrupted(_) => internal(message),
        }
    }
}

impl IntoStatus for MoveError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Running => precondition("MOVING", "gallery".into(), message),
            Self::InUse(_) | Self::WouldLose { .. } => precondition("MODEL", "gallery".into(), message),
            Self::Unknown(_) => invalid_field("model", message),
            Self::Model(_) => precondition("MODEL", "models".into(), message),
            Self::Cancelled { .. } => plain(Code::Cancelled, "CANCELLED", message),
            Self::Face(error) => error.into_status(),
            Self::Gallery(error) => error.into_status(),
            Self::Interrupted(_) => internal(message),
        }
    }
}

impl IntoStatus for TokenError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Malformed => invalid_field("resume_token", message),
            Self::OtherLog | Self::Ahead { .. } => precondition("RESUME_TOKEN", "resume_token".into(), message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Refusal, Role};

    #[test]
    fn details_reach_the_client() {
        let faults = vec![
            SpecError { field: "url", message: "is not a URL".into() },
            SpecError { field: "labels", message: "too many".into() },
        ];
        let status = FleetError::Invalid(faults).into_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields: Vec<&str> =
            details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["camera.url", "camera.labels"]);
        let (name, role) = (crate::access::Holder::Token("door".parse().unwrap()), Role::Viewer);
        let status = role_too_low("/visage.v1.CameraService/CreateCamera", Some(Role::Operator), &name, role);
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("needs the role operator"), "{status:?}");
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!((info.reason.as_str(), info.metadata["needed_role"].as_str()), ("ROLE", "operator"));
        let status = not_admitted(&Refusal::Missing);
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.metadata().contains_key("www-authenticate"));
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "TOKEN_MISSING");
        let status = FaceError::Busy.into_status();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.get_error_details().retry_info().is_some());
    }
}
