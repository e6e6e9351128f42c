//! What goes wrong on request or by plan, while cameras are served.

use std::{sync::Arc, time::Duration};

use gstreamer::glib;
use gstreamer_rtsp_server::prelude::*;

use super::{Shared, listen};
use crate::simulator::{FaultPlan, SimulatorError, feed::lock};

/// Something that goes wrong on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// On: connections stay open and nothing is sent. Off: sending goes on at the present moment. A client that
    /// connects during a stall gets one picture.
    Stall(bool),
    /// Disconnects the camera's clients; they may come back at once.
    Drop,
    /// On: the whole server (all cameras) drops its clients and refuses connections. Off: back on the same port.
    Refuse(bool),
    /// Refuses connections for this long, then comes back on the same port (all cameras).
    Restart(Duration),
    /// On: drops the camera's clients and answers 404. Off: the camera is back.
    Gone(bool),
}

impl Shared {
    pub(super) fn fault(self: &Arc<Self>, name: &str, fault: Fault) -> Result<(), SimulatorError> {
        let served = self.cameras.get(name).ok_or_else(|| SimulatorError::UnknownCamera(name.to_owned()))?;
        match fault {
            Fault::Stall(on) => served.camera.stall(on),
            Fault::Drop => self.drop_clients(|camera| camera == name),
            Fault::Refuse(true) => self.close(),
            Fault::Refuse(false) => self.open()?,
            Fault::Restart(down) => {
                self.close();
                self.after(down, |shared| shared.open_again());
            }
            Fault::Gone(true) => {
                self.mounts.remove_factory(&format!("/{name}"));
                self.drop_clients(|camera| camera == name);
            }
            Fault::Gone(false) => self.mounts.add_factory(&format!("/{name}"), served.factory.clone()),
        }
        Ok(())
    }

    /// Closes the server's socket and all connections.
    pub(super) fn close(&self) {
        if let Some(source) = lock(&self.listening).take() {
            source.destroy();
        }
        self.clients.close(|_| true);
    }

    pub(super) fn open(&self) -> Result<(), SimulatorError> {
        let mut listening = lock(&self.listening);
        if listening.is_none() {
            *listening = Some(listen(&self.server, &self.context, &self.bind, self.port)?);
        }
        Ok(())
    }

    /// Opens, and tries again while the port is taken.
    fn open_again(self: &Arc<Self>) {
        if let Err(error) = self.open() {
            tracing::warn!(%error, "simulated cameras: trying again");
            self.after(Duration::from_millis(500), |shared| shared.open_again());
        }
    }

    fn drop_clients(&self, which: impl Fn(&str) -> bool) {
        self.clients.close(|camera| camera.is_some_and(&which));
    }

    /// Runs `act` once on the simulator's thread after `delay`, if it still exists then.
    fn after(self: &Arc<Self>, delay: Duration, act: impl Fn(&Arc<Self>) + Send + 'static) {
        let weak = Arc::downgrade(self);
        self.timer(delay, move || {
            weak.upgrade().inspect(|shared| act(shared));
            glib::ControlFlow::Break
        });
    }

    fn timer(&self, delay: Duration, act: impl FnMut() -> glib::ControlFlow + Send + 'static) {
        let source = glib::timeout_source_new(delay, None, glib::Priority::DEFAULT, act);
        source.attach(Some(&self.context));
    }
}

/// Sets the timers of a camera's fault plan.
pub(super) fn schedule(shared: &Arc<Shared>, name: &str, plan: FaultPlan) {
    let once = |delay: Option<Duration>, fault: Fault| {
        let Some(delay) = delay else { return };
        let name = name.to_owned();
        shared.after(delay, move |shared| report(shared, &name, fault));
    };
    let again = |every: Option<Duration>, fault: Fault| {
        let Some(every) = every else { return };
        let (name, weak) = (name.to_owned(), Arc::downgrade(shared));
        shared.timer(every, move || match weak.upgrade() {
            Some(shared) => {
                report(&shared, &name, fault);
                glib::ControlFlow::Continue
            }
            None => glib::ControlFlow::Break,
        });
    };
    let sum = |a: Option<Duration>, b: Option<Duration>| Some(a? + b?);
    once(plan.stall_after, Fault::Stall(true));
    once(sum(plan.stall_after, plan.stall_for), Fault::Stall(false));
    once(plan.gone_after, Fault::Gone(true));
    once(sum(plan.gone_after, plan.gone_for), Fault::Gone(false));
    again(plan.drop_every, Fault::Drop);
    again(plan.restart_every, Fault::Restart(plan.restart_for.unwrap_or(Duration::from_secs(2))));
}

fn report(shared: &Arc<Shared>, name: &str, fault: Fault) {
    match shared.fault(name, fault) {
        Ok(()) => tracing::info!(camera = name, ?fault, "simulated fault"),
        Err(error) => tracing::warn!(camera = name, ?fault, %error, "simulated fault failed"),
    }
}
