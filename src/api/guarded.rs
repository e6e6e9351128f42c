//! An answer that ends when the token it was asked with does, or the caller's deadline comes: a stream of events must not outlive its permission.
//! It holds the client's place and, of a stream, the trail until its end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, body::Body};

use super::{code::code_name, status};
use crate::access::{Admitted, Holder, audit::Trail, clients::Place};

/// The token that was shown.
struct Shown {
    holder: Holder,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    ends: Option<Pin<Box<Sleep>>>,
}

impl Shown {
    fn of(admitted: Admitted) -> Self {
        Self {
            holder: admitted.name,
            gone: Box::pin(admitted.gone.cancelled_owned()),
            ends: admitted.ends.map(|at| Box::pin(tokio::time::sleep_until(at))),
        }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let expired = self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(context).is_ready());
        expired || self.gone.as_mut().poll(context).is_ready()
    }
}

/// A body with an eye on the token and on the clock.
pub(super) struct Guarded {
    inner: Option<Body>,
    token: Option<Shown>,
    deadline: Option<Pin<Box<Sleep>>>,
    trail: Option<Trail>,
    _place: Place,
}

impl Guarded {
    /// The answer to somebody; without a token nothing but the deadline ends it early.
    pub(super) fn new(
        inner: Body,
        admitted: Option<Admitted>,
        deadline: Option<Instant>,
        trail: Option<Trail>,
        place: Place,
    ) -> Self {
        Self {
            inner: Some(inner),
            token: admitted.map(Shown::of),
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            trail,
            _place: place,
        }
    }

    /// Why the answer ends before its end, if it does now.
    fn ends(&mut self, context: &mut Context<'_>) -> Option<Status> {
        if let Some(token) = &mut self.token
            && token.is_over(context)
        {
            return Some(status::token_gone(&token.holder));
        }
        let over = self.deadline.as_mut().is_some_and(|d| d.as_mut().poll(context).is_ready());
        over.then(status::too_late)
    }

    fn ended(&mut self, code: Code) {
        if let Some(trail) = self.trail.take() {
            trail.ended(code_name(code));
        }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let next = Pin::new(inner).poll_frame(context);
        if let Poll::Ready(told) = &next
            && !matches!(told, Some(Ok(frame)) if frame.is_data())
        {
            // It ends on its own.
            let code = match told {
                None => Code::Ok,
                Some(Ok(frame)) => {
                    frame.trailers_ref().and_then(Status::from_header_map).map_or(Code::Ok, |status| status.code())
                }
                Some(Err(status)) => status.code(),
            };
            self.ended(code);
            return next;
        }
        let Some(why) = self.ends(context) else { return next };
        // The handler stops working when its answer is dropped.
        self.inner = None;
        self.ended(why.code());
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(why.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
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
    use crate::access::{
        Role, Scope,
        clients::{Client, ClientLimits, Clients},
    };

    fn place() -> Place {
        let limits = ClientLimits { requests_per_second: 1, request_burst: 9, requests: 9, streams: 9 };
        Clients::new(limits).enter(&Client::Unnamed, true).unwrap()
    }

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
            let (name, scope) = (Holder::Token("door".parse().unwrap()), Scope::Everything);
            let admitted = Admitted { name, role: Role::Viewer, scope, gone: gone.clone(), ends: None };
            let mut body = Guarded::new(Body::new(Endless(speaks)), Some(admitted), None, None, place());
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

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_when_a_jwt_does() {
        let (name, ends) = (Holder::Subject("anna".into()), Instant::now() + std::time::Duration::from_secs(60));
        let (role, scope, gone) = (Role::Viewer, Scope::Everything, CancellationToken::new());
        let admitted = Admitted { name, role, scope, gone, ends: Some(ends) };
        let mut body = Guarded::new(Body::new(Endless(false)), Some(admitted), None, None, place());
        let frame = poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await.unwrap().unwrap();
        let status = Status::from_header_map(&frame.into_trailers().unwrap()).unwrap();
        assert_eq!((status.code(), Instant::now() >= ends), (Code::Unauthenticated, true));
        assert!(status.message().contains("oidc:anna"), "{status:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_the_callers_deadline() {
        let at = Instant::now() + std::time::Duration::from_secs(3);
        let mut body = Guarded::new(Body::new(Endless(false)), None, Some(at), None, place());
        let frame = poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await.unwrap().unwrap();
        let status = Status::from_header_map(&frame.into_trailers().unwrap()).unwrap();
        assert_eq!((status.code(), Instant::now() >= at), (Code::DeadlineExceeded, true));
    }
}
