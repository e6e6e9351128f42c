//! An answer that ends when the token it was asked with does: a stream of events must not outlive its permission.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, body::Body};

use super::status;
use crate::{access::Admitted, ids::TokenName};

/// A body with an eye on the token.
pub(super) struct Guarded {
    inner: Option<Body>,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    name: TokenName,
}

impl Guarded {
    /// The answer to somebody who was admitted.
    pub(super) fn new(inner: Body, admitted: Admitted) -> Self {
        Self { inner: Some(inner), gone: Box::pin(admitted.gone.cancelled_owned()), name: admitted.name }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let next = Pin::new(inner).poll_frame(context);
        if next.is_ready() && !matches!(next, Poll::Ready(Some(Ok(ref frame))) if frame.is_data()) {
            // It ends on its own.
            return next;
        }
        if self.gone.as_mut().poll(context).is_pending() {
            return next;
        }
        // The handler stops working when its answer is dropped.
        self.inner = None;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(status::token_gone(&self.name).add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use http_body::Body as _;
    use tokio_util::sync::CancellationToken;
    use tonic::Code;

    use super::*;
    use crate::access::Role;

    /// Data without an end, or none at all.
    struct Endless(bool);

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0 { Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x"))))) } else { Poll::Pending }
        }
    }

    #[tokio::test]
    async fn an_answer_ends_with_its_token_whether_it_speaks_or_waits() {
        for speaks in [true, false] {
            let gone = CancellationToken::new();
            let admitted = Admitted { name: "door".parse().unwrap(), role: Role::Viewer, gone: gone.clone() };
            let mut body = Guarded::new(Body::new(Endless(speaks)), admitted);
            if speaks {
                let frame = poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await.unwrap().unwrap();
                assert!(frame.is_data());
            }
            let waiting = tokio::spawn(async move {
                loop {
                    let frame = poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await.unwrap().unwrap();
                    if let Ok(trailers) = frame.into_trailers() {
                        return (body, trailers);
                    }
                    tokio::task::yield_now().await;
                }
            });
            tokio::task::yield_now().await;
            gone.cancel();
            let (mut body, trailers) = waiting.await.unwrap();
            let status = Status::from_header_map(&trailers).unwrap();
            assert_eq!(status.code(), Code::Unauthenticated);
            assert!(status.message().contains("door"), "{status:?}");
            assert!(body.is_end_stream());
            assert!(poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await.is_none());
        }
    }
}
