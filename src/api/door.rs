//! The way to every service: who asks, whether they may, a place for them, a record of it, and until when the answer counts.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    auth::{self, Need, Reach, Row},
    code::code_name,
    guarded::Guarded,
    guest::Peer,
    status::{self, IntoStatus},
};
use crate::{
    access::{
        Admitted, Audit, Caller, Gate, Role, Scope,
        audit::{Entry, Kind, Trail, record::NOBODY},
        clients::{Client, Clients},
        request::RequestId,
        token::bearer,
    },
    telemetry, time,
};

/// The transport has a clock of its own for the same deadline and says CANCELLED; this one is a little earlier.
const EARLIER: Duration = Duration::from_millis(3);

/// What stands before services.
#[derive(Clone)]
pub struct Door {
    /// Who is let in; without one, everybody.
    pub gate: Option<Gate>,
    /// What each client may ask for.
    pub clients: Clients,
    /// Where it is recorded.
    pub audit: Audit,
}

/// Puts the door before services.
#[derive(Clone)]
pub(super) struct DoorLayer(pub(super) Door);

impl<S> Layer<S> for DoorLayer {
    type Service = Behind<S>;

    fn layer(&self, inner: S) -> Behind<S> {
        Behind { inner, door: self.0.clone() }
    }
}

/// Services behind the door.
#[derive(Clone)]
pub(super) struct Behind<S> {
    inner: S,
    door: Door,
}

impl<S> Service<Request<Body>> for Behind<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline = deadline(request.headers()).and_then(|d| Instant::now().checked_add(d.saturating_sub(EARLIER)));
        let unused = self.inner.clone();
        // The one that said it is ready answers.
        let mut inner = std::mem::replace(&mut self.inner, unused);
        let door = self.door.clone();
        Box::pin(async move {
            // Given by the layer before this one.
            let shown = request.headers().get(RequestId::HEADER).and_then(|id| id.to_str().ok());
            let id = RequestId::of(shown);
            let asked = Asked::of(&request, &id);
            match door.let_in(asked).await {
                Ok(None) => inner.call(request).await,
                Ok(Some(guest)) => guest.answer(inner.call(request), deadline).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// What the door looks at of a request.
struct Asked {
    id: String,
    path: String,
    token: Option<String>,
    peer: Option<SocketAddr>,
}

impl Asked {
    fn of(request: &Request<Body>, id: &RequestId) -> Self {
        Self {
            id: id.as_str().to_owned(),
            path: request.uri().path().to_owned(),
            token: shown(request.headers()).map(str::to_owned),
            peer: request.extensions().get::<Peer>().map(|peer| peer.0),
        }
    }
}

/// Somebody who was let in.
struct LetIn {
    admitted: Option<Admitted>,
    caller: Caller,
    place: crate::access::clients::Place,
    streams: bool,
}

impl Door {
    /// Lets a request in, or says why not; `None` where everybody is let in, without a limit or a record.
    async fn let_in(&self, asked: Asked) -> Result<Option<LetIn>, Status> {
        let (path, peer) = (asked.path.as_str(), asked.peer);
        let row = auth::row(path);
        if row.is_some_and(|(_, need, ..)| *need == Need::Open) {
            return Ok(None);
        }
        let address = Client::at(peer.map(|p| p.ip()));
        let mut facts = Entry {
            time: time::now(),
            request: asked.id.clone(),
            token: NOBODY.into(),
            role: NOBODY.into(),
            peer: peer.map_or_else(String::new, |p| p.to_string()),
            method: path.trim_start_matches('/').to_owned(),
            subjects: Vec::new(),
            outcome: String::new(),
            left_out: 0,
        };
        let admitted = match &self.gate {
            None => None,
            Some(gate) => match gate.admit(asked.token.as_deref()).await {
                Ok(admitted) => Some(admitted),
                Err(refusal) => {
                    // Guesses are counted by address, and never against the holder of a token there.
                    let refused = match self.clients.charge(&address) {
                        Ok(()) => ("token", status::not_admitted(&refusal)),
                        Err(over) => (over.as_str(), status::too_much(over, &address, self.clients.limits())),
                    };
                    return Err(self.refused(row, facts, refused));
                }
            },
        };
        if let Some(admitted) = &admitted {
            tracing::Span::current().record("token", admitted.name.to_string());
            facts.token = admitted.name.to_string();
            facts.role = admitted.role.to_string();
        }
        let Some(row) = row else {
            let refused = match &admitted {
                Some(admitted) => ("role", status::role_too_low(path, None, &admitted.name, admitted.role)),
                None => ("role", status::no_such_method(path)),
            };
            return Err(self.refused(None, facts, refused));
        };
        let (_, need, kind, reach) = row;
        if let Some(admitted) = &admitted {
            may(path, *need, *reach, admitted).map_err(|refused| self.refused(Some(row), facts.clone(), refused))?;
        }
        let client = admitted.as_ref().map_or(address, |a| Client::Token(a.name.clone()));
        let streams = auth::STREAMS.contains(&path);
        let place = self.clients.enter(&client, streams).map_err(|over| {
            let refused = (over.as_str(), status::too_much(over, &client, self.clients.limits()));
            self.refused(Some(row), facts.clone(), refused)
        })?;
        let trail = Trail::of(&self.audit, *kind, facts).await.map_err(IntoStatus::into_status)?;
        let scope = admitted.as_ref().map_or(Scope::Everything, |a| a.scope.clone());
        Ok(Some(LetIn { admitted, caller: Caller { scope, trail }, place, streams }))
    }

    /// A refusal, counted and recorded where the method is.
    fn refused(&self, row: Option<&Row>, mut facts: Entry, (reason, status): (&'static str, Status)) -> Status {
        telemetry::request_refused(reason);
        if row.is_some_and(|(.., kind, _)| *kind == Kind::Change || (*kind == Kind::Read && self.audit.records_reads()))
        {
            facts.outcome = code_name(status.code()).into();
            self.audit.refused(facts);
        }
        status
    }
}

/// Whether the holder of a token may call a method.
fn may(path: &str, need: Need, reach: Reach, admitted: &Admitted) -> Result<(), (&'static str, Status)> {
    match need {
        Need::Least(role) if admitted.role >= role => {
            if role > Role::Viewer {
                tracing::info!(token = %admitted.name, role = %admitted.role, method = path, "a change was asked for");
            }
        }
        need => {
            let needed = if let Need::Least(role) = need { Some(role) } else { None };
            return Err(("role", status::role_too_low(path, needed, &admitted.name, admitted.role)));
        }
    }
    if reach == Reach::Gallery && !admitted.scope.is_everything() {
        return Err(("scope", status::out_of_scope(path, &admitted.name, &admitted.scope)));
    }
    Ok(())
}

impl LetIn {
    /// The answer of a handler, within the deadline; a stream is guarded until its end.
    async fn answer<E>(
        self,
        work: impl Future<Output = Result<Response<Body>, E>>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, E> {
        let (trail, streams) = (self.caller.trail.clone(), self.streams);
        let work = async {
            let response = self.caller.during(work).await?;
            let failed = Status::from_header_map(response.headers()).map(|s| s.code()).filter(|c| *c != Code::Ok);
            match failed {
                Some(code) => trail.ended(code_name(code)),
                None if streams => {}
                None => {
                    if let Err(error) = trail.end(code_name(Code::Ok)).await {
                        return Ok(error.into_status().into_http());
                    }
                }
            }
            Ok(response)
        };
        let response = match deadline {
            None => work.await?,
            // The work ends where it is dropped.
            Some(at) => match tokio::time::timeout_at(at, work).await {
                Ok(answer) => answer?,
                Err(_) => {
                    trail.ended(code_name(Code::DeadlineExceeded));
                    status::too_late().into_http()
                }
            },
        };
        // Of a call that has ended, there is nothing left to be told.
        let trail = streams.then_some(trail);
        Ok(response.map(|body| Body::new(Guarded::new(body, self.admitted, deadline, trail, self.place))))
    }
}

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok()).and_then(bearer)
}

/// For how long the caller waits: `grpc-timeout`, 1 to 8 digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "5", "5s", "-1S", "123456789S", "1 S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
