//! What a JWT says of its holder.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    access::{Role, Scope},
    time::Timestamp,
};

/// Longest name that is recorded, in characters.
const LONGEST_NAME: usize = 128;

/// The claims of a token whose signature was checked.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    /// A claim by its whole name, or by dots through nested ones.
    fn find(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let mut parts = name.split('.');
        let first = self.0.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        match self.find(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            Some(_) => Err(format!("its claim {name} is no text")),
            None => Err(format!("it lacks the claim {name}")),
        }
    }

    /// Who holds it.
    pub(super) fn name(&self, claim: &str) -> Result<Arc<str>, String> {
        let text = self.text(claim)?;
        if text.chars().count() > LONGEST_NAME || text.chars().any(char::is_control) {
            return Err(format!("its claim {claim} is no name of at most {LONGEST_NAME} characters"));
        }
        Ok(text.into())
    }

    /// The greatest of the roles that it names.
    pub(super) fn role(&self, claim: &str, roles: &BTreeMap<String, Role>) -> Result<Role, String> {
        let named: Vec<&str> = match self.find(claim) {
            Some(Value::String(text)) => text.split_whitespace().chain([text.as_str()]).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let known = named.into_iter().filter_map(|name| roles.get(name)).max();
        known.copied().ok_or_else(|| {
            let names: Vec<&str> = roles.keys().map(String::as_str).collect();
            format!("its claim {claim} names no role of this server; it must hold one of {}", names.join(", "))
        })
    }

    /// The cameras that it may see: every label must be said, or a token without the claim would see more than one with it.
    pub(super) fn scope(&self, labels: &BTreeMap<String, String>) -> Result<Scope, String> {
        let said = labels.iter().map(|(label, claim)| Ok((label.clone(), self.text(claim)?.to_owned())));
        Ok(Scope::of(&said.collect::<Result<_, String>>()?))
    }

    /// How long it still counts.
    pub(super) fn left(&self, now: Timestamp, leeway: Duration) -> Result<Duration, String> {
        let exp = self.0.get("exp").and_then(Value::as_f64).ok_or("it lacks the claim exp")?;
        let left = exp - now.as_millisecond() as f64 / 1000.0 + leeway.as_secs_f64();
        // A century is for ever, and fits.
        Ok(Duration::from_secs_f64(left.clamp(0.0, 3.2e9)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        serde_json::from_value(value).unwrap()
    }

    fn own() -> BTreeMap<String, Role> {
        Role::ALL.into_iter().map(|role| (role.to_string(), role)).collect()
    }

    #[test]
    fn the_greatest_role_counts_wherever_the_provider_writes_it() {
        let role = |value: Value, claim: &str, roles: &BTreeMap<String, Role>| claims(value).role(claim, roles);
        assert_eq!(role(json!({"roles": ["viewer", "operator", "cook"]}), "roles", &own()), Ok(Role::Operator));
        assert_eq!(role(json!({"realm_access": {"roles": ["admin"]}}), "realm_access.roles", &own()), Ok(Role::Admin));
        assert_eq!(
            role(json!({"https://visage.example/roles": "viewer"}), "https://visage.example/roles", &own()),
            Ok(Role::Viewer)
        );
        assert_eq!(role(json!({"scope": "openid enroller"}), "scope", &own()), Ok(Role::Enroller));
        let mapped = BTreeMap::from([("Camera admins".to_owned(), Role::Admin)]);
        assert_eq!(role(json!({"groups": ["Camera admins"]}), "groups", &mapped), Ok(Role::Admin));
        assert_eq!(role(json!({"groups": "Camera admins"}), "groups", &mapped), Ok(Role::Admin));
        assert!(role(json!({"groups": ["admin"]}), "groups", &mapped).unwrap_err().contains("Camera admins"));
        for none in [json!({}), json!({"roles": []}), json!({"roles": 7}), json!({"roles": {"admin": true}})] {
            assert!(role(none, "roles", &own()).unwrap_err().contains("viewer"));
        }
    }

    #[test]
    fn labels_must_all_be_said_and_names_be_names() {
        let labels = BTreeMap::from([("site".to_owned(), "visage_site".to_owned())]);
        let scope = claims(json!({"visage_site": "north"})).scope(&labels).unwrap();
        assert_eq!(scope.to_string(), "site=north");
        for lacking in [json!({}), json!({"visage_site": ""}), json!({"visage_site": ["north"]})] {
            assert!(claims(lacking).scope(&labels).is_err());
        }
        assert!(claims(json!({})).scope(&BTreeMap::new()).unwrap().is_everything());
        assert_eq!(&*claims(json!({"sub": "anna"})).name("sub").unwrap(), "anna");
        for bad in
            [json!({}), json!({"sub": ""}), json!({"sub": "a\nb"}), json!({"sub": "x".repeat(129)}), json!({"sub": 1})]
        {
            assert!(claims(bad).name("sub").is_err());
        }
    }

    #[test]
    fn what_is_left_is_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let left = |exp: Value| claims(json!({"exp": exp})).left(now, Duration::from_secs(30));
        let at = now.as_second();
        assert_eq!(left(json!(at + 60)), Ok(Duration::from_secs(90)));
        assert_eq!(left(json!(at - 60)), Ok(Duration::ZERO));
        assert!(left(json!(1e300)).unwrap() < Duration::from_secs(4_000_000_000));
        assert!(left(json!("soon")).is_err());
    }
}
