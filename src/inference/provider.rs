//! Which execution provider runs the networks, and how it was chosen.

use serde::{Deserialize, Serialize};

use super::NetworkError;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The CPU provider.
    #[default]
    Cpu,
    /// The CUDA provider; the start fails when it is absent, never falls back silently.
    Cuda,
    /// TensorRT, CUDA for what it can't run; the start fails when one of them is absent.
    Tensorrt,
    /// CUDA where it can be used, else the CPU, and says so.
    Auto,
}

impl Provider {
    /// Its name in settings, metrics and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Auto => "auto",
        }
    }

    /// Whether networks run on a graphics card.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda | Self::Tensorrt)
    }
}

/// What is in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// The provider; never [`Provider::Auto`].
    pub provider: Provider,
    /// Why it is not the better one that `auto` tried; else empty.
    pub fallback: String,
}

/// Chooses; `attempt` loads a network with the provider it is given, to see whether that can be used.
///
/// # Errors
/// When the provider that was asked for can't be used; `auto` has no such error, it falls back to the CPU.
pub fn choose(
    wanted: Provider,
    attempt: impl FnOnce(Provider) -> Result<(), NetworkError>,
) -> Result<Chosen, NetworkError> {
    match wanted {
        // Nothing to try: the graph is loaded in a moment anyway.
        Provider::Cpu => Ok(Chosen { provider: wanted, fallback: String::new() }),
        Provider::Cuda | Provider::Tensorrt => {
            attempt(wanted)?;
            Ok(Chosen { provider: wanted, fallback: String::new() })
        }
        Provider::Auto => Ok(match attempt(Provider::Cuda) {
            Ok(()) => Chosen { provider: Provider::Cuda, fallback: String::new() },
            Err(error) => Chosen { provider: Provider::Cpu, fallback: error.to_string() },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_used_or_an_error_and_only_auto_falls_back() {
        let absent = |_| Err(NetworkError::Provider("no card".into()));
        for wanted in [Provider::Cuda, Provider::Tensorrt] {
            assert!(matches!(choose(wanted, absent), Err(NetworkError::Provider(text)) if text == "no card"));
            assert_eq!(choose(wanted, |_| Ok(())).unwrap().provider, wanted);
        }
        let fallen = choose(Provider::Auto, absent).unwrap();
        assert_eq!((fallen.provider, fallen.fallback.as_str()), (Provider::Cpu, "no card"));
        let found = choose(Provider::Auto, |tried| {
            assert_eq!(tried, Provider::Cuda);
            Ok(())
        });
        assert_eq!(found.unwrap(), Chosen { provider: Provider::Cuda, fallback: String::new() });
        assert!(choose(Provider::Cpu, |_| panic!("nothing to try")).unwrap().fallback.is_empty());
    }
}
