//! Turns a camera's status into CAMERA_STATE events, metrics and wake-ups. One task a camera.

use std::{borrow::Cow, collections::BTreeMap};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use crate::{
    camera::{CameraSpec, CameraState, CameraStatus},
    event::{EventKind, NewEvent},
    ids::EventId,
    telemetry, time,
};

/// Runs until the supervisor ends (its sender is dropped) or `stop`.
pub(super) async fn run(
    spec: watch::Receiver<CameraSpec>,
    mut status: watch::Receiver<CameraStatus>,
    outbox: Outbox,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let mut written: Option<(CameraState, Cow<'static, str>)> = None;
    let mut seen: Option<CameraState> = None;
    let mut counted: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut received, mut reconnects) = (0, 0);
    loop {
        let now = status.borrow_and_update().clone();
        let spec_now = spec.borrow().clone();
        for (reason, total) in &now.frames_skipped {
            // Only what was read from elsewhere is owned, and no camera of this process is.
            let Cow::Borrowed(word) = reason else { continue };
            let before = counted.insert(word, *total).unwrap_or(0);
            telemetry::frames_skipped(&spec_now.id, word, total.saturating_sub(before));
        }
        let since = |before: &mut u64, total: u64| total.saturating_sub(std::mem::replace(before, total));
        telemetry::frames_received(&spec_now.id, since(&mut received, now.frames_received));
        telemetry::reconnects(&spec_now.id, since(&mut reconnects, now.reconnects));
        if seen != Some(now.state) {
            seen = Some(now.state);
            match now.state {
                CameraState::Disabled => telemetry::camera_off(&spec_now.id),
                state => telemetry::camera_up(&spec_now.id, state == CameraState::Streaming),
            }
            changes.send_modify(|n| *n += 1);
        }
        if let Some(key) = worth_telling(&now, written.as_ref()) {
            written = Some(key);
            let reason = now.reason.as_ref().map(|r| r.message.as_str()).unwrap_or_default();
            tracing::info!(camera = %spec_now.id, state = now.state.as_str(), reason, "camera state");
            outbox.write(vec![state_event(&spec_now, &now)]).await;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = status.changed() => if changed.is_err() { break },
        }
    }
    if seen != Some(CameraState::Disabled) {
        telemetry::camera_up(&spec.borrow().id, false);
    }
}

/// What to write: each state once, attempts in between (CONNECTING) and repeated failures of one kind never.
fn worth_telling(
    status: &CameraStatus,
    written: Option<&(CameraState, Cow<'static, str>)>,
) -> Option<(CameraState, Cow<'static, str>)> {
    let key = (status.state, status.reason.as_ref().map_or(Cow::Borrowed(""), |r| r.code.clone()));
    (status.state != CameraState::Connecting && written != Some(&key)).then_some(key)
}

fn state_event(spec: &CameraSpec, status: &CameraStatus) -> NewEvent {
    NewEvent {
        camera_state: Some(status.state.as_str().to_owned()),
        reason: status.reason.as_ref().map(|r| r.message.clone()).unwrap_or_default(),
        ..NewEvent::new(EventId::generate(), EventKind::CameraState, spec.id.clone(), spec.labels.clone(), time::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Reason;

    fn status(state: CameraState, code: Option<&'static str>) -> CameraStatus {
        let mut s = CameraStatus::new(state, time::now());
        s.reason = code.map(|code| Reason { code: code.into(), message: code.into() });
        s
    }

    #[test]
    fn repeated_failures_are_told_once() {
        let mut written = None;
        let mut told = 0;
        for (state, code) in [
            (CameraState::Connecting, None),
            (CameraState::Retrying, Some("refused")),
            (CameraState::Connecting, None),
            (CameraState::Retrying, Some("refused")),
            (CameraState::Retrying, Some("dns")),
            (CameraState::Streaming, None),
            (CameraState::Stalled, Some("stalled")),
            (CameraState::Streaming, None),
        ] {
            if let Some(key) = worth_telling(&status(state, code), written.as_ref()) {
                written = Some(key);
                told += 1;
            }
        }
        assert_eq!(told, 5);
    }
}
