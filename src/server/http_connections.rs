//! HTTP/1 connections served with a time limit for the head of each request.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::accept::Connection;

/// Most bytes of the head of a request.
const HEAD_BYTES: usize = 16 << 10;

/// Serves connections as they come, until `stop`; requests under way are answered then. `head` is the time that the head of a request may take,
/// and that a connection may rest between two.
pub(super) async fn serve(
    app: Router,
    mut connections: mpsc::Receiver<Connection>,
    head: Duration,
    stop: CancellationToken,
) {
    let mut serving = JoinSet::new();
    loop {
        while serving.try_join_next().is_some() {}
        let connection = tokio::select! {
            connection = connections.recv() => connection,
            () = stop.cancelled() => None,
        };
        let Some(connection) = connection else { break };
        let (app, stop) = (app.clone(), stop.clone());
        serving.spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new()).http1_only();
            builder.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(HEAD_BYTES);
            let served = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(app));
            tokio::pin!(served);
            let ended = tokio::select! {
                ended = &mut served => ended,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection failed");
            }
        });
    }
    while serving.join_next().await.is_some() {}
}
