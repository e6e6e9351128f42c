//! Every request has an id and a span: lines logged while it is worked on carry both, and its end is counted.
//!
//! The id is the one that the caller sent as `x-request-id`, where it is harmless, else a new one; services find it in the request's
//! headers, and the caller in the answer's.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::{auth::METHODS, code::code_name};
use crate::{access::request::RequestId, telemetry};

/// Gives requests their id and span.
#[derive(Clone)]
pub(super) struct RequestLayer;

impl<S> Layer<S> for RequestLayer {
    type Service = Requests<S>;

    fn layer(&self, inner: S) -> Requests<S> {
        Requests(inner)
    }
}

/// Services whose requests have an id and a span.
#[derive(Clone)]
pub(super) struct Requests<S>(S);

impl<S> Service<Request<Body>> for Requests<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shown = request.headers().get(RequestId::HEADER).and_then(|id| id.to_str().ok());
        let id = RequestId::of(shown);
        // What the id may consist of fits into a header.
        let header = HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static("none"));
        request.headers_mut().insert(RequestId::HEADER, header.clone());
        let method = method_of(request.uri().path());
        // At the highest level, so that it is there whatever lines are asked for.
        let span = tracing::error_span!(
            "request",
            request_id = id.as_str(),
            method,
            token = tracing::field::Empty,
            code = tracing::field::Empty,
        );
        let answer = span.in_scope(|| self.0.call(request));
        let mut end = End { span: span.clone(), method, since: Instant::now(), began: None, told: false };
        let answered = async move {
            let mut response = answer.await?;
            end.began = Some(end.since.elapsed());
            response.headers_mut().insert(RequestId::HEADER, header);
            // An answer without a body has its status among the headers.
            if let Some(status) = Status::from_header_map(response.headers()) {
                end.tell(status.code());
            }
            Ok(response.map(|body| Body::new(Told { inner: body, end })))
        };
        Box::pin(answered.instrument(span))
    }
}

/// `visage.v1.PersonService/GetPerson`; one word for everything that is no method, so that nobody can make up series.
fn method_of(path: &str) -> &'static str {
    let known = METHODS.iter().find(|(method, ..)| *method == path);
    known.map_or("other", |(method, ..)| method.trim_start_matches('/'))
}

/// Tells how a request ended; when it is dropped before that, the caller went away.
struct End {
    span: Span,
    method: &'static str,
    since: Instant,
    began: Option<std::time::Duration>,
    told: bool,
}

impl End {
    fn tell(&mut self, code: Code) {
        if !std::mem::replace(&mut self.told, true) {
            self.span.record("code", code_name(code));
            telemetry::answered(self.method, code_name(code), self.began);
            let ms = self.since.elapsed().as_secs_f64() * 1000.0;
            self.span.in_scope(|| tracing::debug!(ms, "answered"));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell(Code::Cancelled);
    }
}

/// A body that is made within the request's span and whose end is told.
struct Told {
    inner: Body,
    end: End,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, end } = &mut *self;
        let entered = end.span.clone().entered();
        let polled = Pin::new(inner).poll_frame(context);
        drop(entered);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    end.tell(Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code()));
                }
            }
            Poll::Ready(Some(Err(status))) => end.tell(status.code()),
            Poll::Ready(None) => end.tell(Code::Unknown),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_share_one_series() {
        assert_eq!(method_of("/visage.v1.PersonService/GetPerson"), "visage.v1.PersonService/GetPerson");
        assert_eq!(method_of("/visage.v1.PersonService/Nonsense"), "other");
    }
}
