//! Whether somebody takes the traces, where a collector is named.

use std::{net::TcpStream, time::Duration};

use super::{Finding, Verdict};
use crate::config::types::TelemetrySettings;

const CHECK: &str = "collector of traces";
const PATIENCE: Duration = Duration::from_secs(2);

/// A finding when a collector is named. Nothing is sent.
pub(super) fn check(settings: &TelemetrySettings) -> Option<Finding> {
    let endpoint = settings.otlp_endpoint.as_str();
    if endpoint.is_empty() {
        return None;
    }
    let away = |why: &dyn std::fmt::Display| {
        let mend = "start it, name another, or take telemetry.otlp_endpoint out; the server runs without it";
        Finding::bad(CHECK, Verdict::Warning, format!("{endpoint}: {why}"), mend)
    };
    let addresses = url::Url::parse(endpoint).map_err(|e| e.to_string());
    let addresses = addresses.and_then(|url| url.socket_addrs(|| None).map_err(|e| e.to_string()));
    Some(match addresses {
        Err(error) => away(&error),
        Ok(addresses) => {
            let tried = addresses.iter().map(|address| TcpStream::connect_timeout(address, PATIENCE));
            match tried.reduce(|before, next| before.or(next)) {
                Some(Ok(_)) => Finding::ok(CHECK, format!("{endpoint} answers")),
                Some(Err(error)) => away(&error),
                None => away(&"it has no address"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_collector_that_is_away_is_a_warning() {
        let named = |endpoint: String| check(&TelemetrySettings { otlp_endpoint: endpoint, ..Default::default() });
        assert_eq!(named(String::new()), None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        assert_eq!(named(endpoint.clone()).unwrap().verdict, Verdict::Ok);
        drop(listener);
        assert_eq!(named(endpoint).unwrap().verdict, Verdict::Warning);
    }
}
