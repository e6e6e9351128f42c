//! Who is connected, to which camera, and how a connection is ended.
//!
//! A client lives on a thread of the RTSP library. Closed from any other thread while it reads, its connection would be read again and
//! again for ever: the library takes a stream that is gone for one that has nothing to say. So clients are closed on their own threads.

use std::{
    sync::{Arc, Mutex, Weak, mpsc},
    time::{Duration, Instant},
};

use gstreamer::glib;
use gstreamer_rtsp_server::{RTSPClient, RTSPServer, prelude::*};

use super::{Alive, Shared};
use crate::simulator::feed::lock;

/// How long a client's thread may take to close it before nobody waits any longer: it prepares a stream, and closes it afterwards.
const PATIENCE: Duration = Duration::from_millis(500);

/// One client as far as it is known.
#[derive(Debug)]
struct Known {
    client: glib::WeakRef<RTSPClient>,
    /// Where it lives; `None` until its first request.
    context: Option<glib::MainContext>,
    /// What it looks at; `None` until it asked.
    camera: Option<String>,
}

/// The clients that may still be there.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Vec<Known>>);

impl Clients {
    fn came(&self, client: &RTSPClient) {
        let mut known = lock(&self.0);
        known.retain(|one| one.client.upgrade().is_some());
        known.push(Known { client: client.downgrade(), context: None, camera: None });
    }

    /// Notes a request; called on the client's own thread.
    fn asked(&self, client: &RTSPClient, camera: Option<&str>) {
        let mut known = lock(&self.0);
        let Some(one) = known.iter_mut().find(|one| one.client.upgrade().as_ref() == Some(client)) else { return };
        if one.context.is_none() {
            one.context = glib::main_current_source().and_then(|source| source.context());
        }
        if let Some(camera) = camera {
            one.camera = Some(camera.to_owned());
        }
    }

    /// Ends the connections that `which` chooses by the camera they look at, and waits for that a little.
    pub(super) fn close(&self, which: impl Fn(Option<&str>) -> bool) {
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        let mut known = lock(&self.0);
        for one in known.drain(..) {
            let list = if which(one.camera.as_deref()) { &mut chosen } else { &mut others };
            list.push(one);
        }
        *known = others;
        // Closing calls back.
        drop(known);
        let (done, closed) = mpsc::sync_channel(chosen.len());
        let mut waits = 0;
        for one in chosen {
            let Some(client) = one.client.upgrade() else { continue };
            let Some(context) = one.context else {
                // It never spoke, so there is nothing that it could be reading.
                client.close();
                continue;
            };
            let done = done.clone();
            waits += 1;
            let act = move || {
                client.close();
                let _ = done.try_send(());
                glib::ControlFlow::Break
            };
            glib::idle_source_new(None, glib::Priority::HIGH, act).attach(Some(&context));
        }
        let until = Instant::now() + PATIENCE;
        for _ in 0..waits {
            if closed.recv_timeout(until.saturating_duration_since(Instant::now())).is_err() {
                return;
            }
        }
    }
}

/// Notes which client looks at which camera, and when it has ended.
pub(super) fn watch(server: &RTSPServer, shared: &Arc<Shared>) {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    server.connect_client_connected(move |_, client| {
        let Some(shared) = weak.upgrade() else { return };
        shared.alive.add();
        let alive: Arc<Alive> = shared.alive.clone();
        client.connect_closed(move |_| alive.remove());
        shared.clients.came(client);
        let at_options = weak.clone();
        client.connect_options_request(move |client, _| {
            at_options.upgrade().inspect(|shared| shared.clients.asked(client, None));
        });
        let at_describe = weak.clone();
        client.connect_describe_request(move |client, context| {
            let Some(shared) = at_describe.upgrade() else { return };
            let uri = context.uri().map(|uri| uri.request_uri().to_string());
            let path = uri.as_deref().and_then(|uri| uri.split('?').next());
            shared.clients.asked(client, path.and_then(|path| path.rsplit('/').find(|part| !part.is_empty())));
        });
    });
}
