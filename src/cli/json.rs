//! Protobuf's JSON mapping for any message of `visage.v1`, from the descriptor set.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

use super::error::Failure;

fn pool() -> Result<&'static DescriptorPool, Failure> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(crate::proto::DESCRIPTOR_SET).ok())
        .as_ref()
        .ok_or_else(|| Failure::new("the built-in descriptor set is unreadable"))
}

/// `message` of type `visage.v1.{name}` in protobuf's JSON mapping: lowerCamelCase keys, 64-bit integers as strings,
/// enums by name, timestamps as RFC 3339, fields with default values left out.
pub fn to_value(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let descriptor = pool()?
        .get_message_by_name(&format!("visage.v1.{name}"))
        .ok_or_else(|| Failure::new(format!("no message visage.v1.{name} in the descriptor set")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|e| Failure::new("cannot read the message").because(&e))?;
    // By way of text: f32 keeps its shortest form (0.99), which a direct conversion to f64 would lose.
    let text = serde_json::to_string(&dynamic).map_err(|e| Failure::new("cannot write the message").because(&e))?;
    serde_json::from_str(&text).map_err(|e| Failure::new("cannot read back the message").because(&e))
}

/// A message of type `visage.v1.{name}` from protobuf's JSON mapping; a field that the message does not have is an error.
///
/// # Errors
/// When the value is not that of such a message.
pub fn from_value<M: Message + Default>(name: &str, value: Value) -> Result<M, Failure> {
    let descriptor = pool()?
        .get_message_by_name(&format!("visage.v1.{name}"))
        .ok_or_else(|| Failure::new(format!("no message visage.v1.{name} in the descriptor set")))?;
    let dynamic = DynamicMessage::deserialize(descriptor, value)
        .map_err(|e| Failure::new(format!("it is no {name}")).because(&e))?;
    dynamic.transcode_to().map_err(|e| Failure::new(format!("it is no {name}")).because(&e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::v1::{Event, EventKind, Match};

    #[test]
    fn events_follow_the_mapping() {
        let event = Event {
            name: "events/e1".into(),
            position: 7,
            kind: EventKind::Recognized.into(),
            capture_time: Some(prost_types::Timestamp { seconds: 0, nanos: 500_000_000 }),
            dwell: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            r#match: Some(Match { person: "people/anna".into(), similarity: 0.62, ..Match::default() }),
            ..Event::default()
        };
        assert_eq!(
            to_value("Event", &event).unwrap(),
            json!({"name": "events/e1", "position": "7", "kind": "EVENT_KIND_RECOGNIZED",
                "captureTime": "1970-01-01T00:00:00.500Z", "dwell": "3s",
                "match": {"person": "people/anna", "similarity": 0.62}})
        );
    }

    #[test]
    fn unknown_messages_are_an_error() {
        assert!(to_value("Nothing", &Event::default()).is_err());
    }
}
