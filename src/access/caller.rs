//! Who calls, as handlers see it: which cameras the caller may see, and the records of the call.

use std::{collections::BTreeMap, sync::Arc};

use super::audit::Trail;

/// Which cameras somebody may see, and whose events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Everything,
    /// Those that have all these labels.
    Labels(Arc<BTreeMap<String, String>>),
    /// None: nobody said who calls.
    Nothing,
}

impl Scope {
    /// The scope of labels; none means everything.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        if labels.is_empty() { Self::Everything } else { Self::Labels(Arc::new(labels.clone())) }
    }

    /// Whether a camera with these labels is within it.
    pub fn sees(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Everything => true,
            Self::Labels(needed) => needed.iter().all(|(key, value)| labels.get(key) == Some(value)),
            Self::Nothing => false,
        }
    }

    /// Whether it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        *self == Self::Everything
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everything => f.write_str("all cameras"),
            Self::Labels(labels) => {
                let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                f.write_str(&words.join(", "))
            }
            Self::Nothing => f.write_str("no camera"),
        }
    }
}

/// Who calls.
#[derive(Clone)]
pub struct Caller {
    /// What they may see.
    pub scope: Scope,
    /// The records of the call.
    pub trail: Trail,
}

tokio::task_local! {
    static CALLER: Caller;
}

impl Caller {
    /// Runs a handler as this caller's.
    pub async fn during<F: Future>(self, work: F) -> F::Output {
        CALLER.scope(self, work).await
    }

    /// The caller of the handler that runs now. Outside of one nobody calls, and nobody sees anything.
    pub fn now() -> Self {
        CALLER.try_with(Self::clone).unwrap_or(Self { scope: Scope::Nothing, trail: Trail::none() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scope_asks_for_all_its_labels_and_nobody_sees_nothing() {
        let labels = |text: &str| -> BTreeMap<String, String> {
            text.split_whitespace().filter_map(|w| w.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
        };
        let scope = Scope::of(&labels("site=north floor=1"));
        assert!(scope.sees(&labels("site=north floor=1 lens=wide")));
        assert!(!scope.sees(&labels("site=north")) && !scope.sees(&labels("site=south floor=1")));
        assert!(Scope::of(&labels("")).sees(&labels("")));
        assert_eq!(scope.to_string(), "floor=1, site=north");
        assert_eq!(Caller::now().scope, Scope::Nothing);
        let caller = Caller { scope: scope.clone(), trail: Trail::none() };
        assert_eq!(caller.during(async { Caller::now().scope }).await, scope);
    }
}
