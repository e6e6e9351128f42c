//! Who may call what: the table of methods, and the layer that asks the gate before any service sees a request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{guarded::Guarded, status};
use crate::{
    access::{Gate, Role, token::bearer},
    telemetry,
};

/// What a method asks of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Open,
    /// A token of this role or a greater one.
    Least(Role),
}

use Need::{Least, Open};
use Role::{Admin, Enroller, Operator, Viewer};

/// Every method with what it asks. What is not here is refused.
pub const METHODS: [(&str, Need); 45] = [
    ("/grpc.health.v1.Health/Check", Open),
    ("/grpc.health.v1.Health/Watch", Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Least(Viewer)),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Least(Viewer)),
    ("/visage.v1.CameraService/GetCamera", Least(Viewer)),
    ("/visage.v1.CameraService/ListCameras", Least(Viewer)),
    ("/visage.v1.CameraService/WatchCameras", Least(Viewer)),
    ("/visage.v1.CameraService/CaptureSnapshot", Least(Viewer)),
    ("/visage.v1.EventService/StreamEvents", Least(Viewer)),
    ("/visage.v1.EventService/ListEvents", Least(Viewer)),
    ("/visage.v1.EventService/GetEvent", Least(Viewer)),
    ("/visage.v1.EventService/GetEventImage", Least(Viewer)),
    ("/visage.v1.PersonService/GetPerson", Least(Viewer)),
    ("/visage.v1.PersonService/ListPeople", Least(Viewer)),
    ("/visage.v1.RecognitionService/DetectFaces", Least(Viewer)),
    ("/visage.v1.RecognitionService/IdentifyFaces", Least(Viewer)),
    ("/visage.v1.RecognitionService/VerifyFaces", Least(Viewer)),
    ("/visage.v1.RecognitionService/EmbedFaces", Least(Viewer)),
    ("/visage.v1.ServerService/GetServerInfo", Least(Viewer)),
    ("/visage.v1.GalleryService/GetGallery", Least(Viewer)),
    ("/visage.v1.PersonService/CreatePerson", Least(Enroller)),
    ("/visage.v1.PersonService/UpdatePerson", Least(Enroller)),
    ("/visage.v1.PersonService/EnrollFaces", Least(Enroller)),
    ("/visage.v1.PersonService/ListFaces", Least(Enroller)),
    ("/visage.v1.PersonService/GetFaceImage", Least(Enroller)),
    ("/visage.v1.PersonService/DeleteFace", Least(Enroller)),
    ("/visage.v1.EventService/GiveFeedback", Least(Enroller)),
    ("/visage.v1.EventService/SearchEvents", Least(Enroller)),
    ("/visage.v1.UnknownService/ListUnknowns", Least(Enroller)),
    ("/visage.v1.UnknownService/GetUnknown", Least(Enroller)),
    ("/visage.v1.UnknownService/GetUnknownSheet", Least(Enroller)),
    ("/visage.v1.UnknownService/EnrollUnknown", Least(Enroller)),
    ("/visage.v1.UnknownService/MergeUnknowns", Least(Enroller)),
    ("/visage.v1.UnknownService/DismissUnknown", Least(Enroller)),
    ("/visage.v1.CameraService/CreateCamera", Least(Operator)),
    ("/visage.v1.CameraService/UpdateCamera", Least(Operator)),
    ("/visage.v1.CameraService/DeleteCamera", Least(Operator)),
    ("/visage.v1.PersonService/DeletePerson", Least(Operator)),
    ("/visage.v1.PersonService/ReportPerson", Least(Operator)),
    ("/visage.v1.ServerService/Calibrate", Least(Operator)),
    ("/visage.v1.ServerService/TrainClassifier", Least(Operator)),
    ("/visage.v1.GalleryService/CheckGallery", Least(Operator)),
    ("/visage.v1.GalleryService/ReembedGallery", Least(Admin)),
    ("/visage.v1.GalleryService/ExportGallery", Least(Admin)),
    ("/visage.v1.GalleryService/ImportGallery", Least(Admin)),
];

/// What a method asks; `None` for one that nobody may call.
fn need(path: &str) -> Option<Need> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, need)| *need)
}

/// Puts the gate before services; without a gate it does nothing.
#[derive(Clone)]
pub(super) struct AuthLayer(pub(super) Option<Gate>);

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, gate: self.0.clone() }
    }
}

/// Services behind the gate.
#[derive(Clone)]
pub(super) struct Auth<S> {
    inner: S,
    gate: Option<Gate>,
}

impl<S> Service<Request<Body>> for Auth<S>
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
        let Some(gate) = self.gate.clone() else { return Box::pin(self.inner.call(request)) };
        let unused = self.inner.clone();
        // The one that said it is ready answers.
        let mut inner = std::mem::replace(&mut self.inner, unused);
        Box::pin(async move {
            let path = request.uri().path();
            let asked = need(path);
            if asked == Some(Open) {
                return inner.call(request).await;
            }
            let admitted = match gate.admit(shown(&request)).await {
                Ok(admitted) => admitted,
                Err(refusal) => {
                    telemetry::request_refused("token");
                    return Ok(refused(status::not_admitted(&refusal)));
                }
            };
            tracing::Span::current().record("token", admitted.name.as_str());
            match asked {
                Some(Least(role)) if admitted.role >= role => {
                    if role > Viewer {
                        tracing::info!(token = %admitted.name, role = %admitted.role, method = path, "a change was asked for");
                    }
                }
                asked => {
                    telemetry::request_refused("role");
                    let needed = asked.and_then(|need| if let Least(role) = need { Some(role) } else { None });
                    return Ok(refused(status::role_too_low(path, needed, &admitted.name, admitted.role)));
                }
            }
            let response = inner.call(request).await?;
            Ok(response.map(|body| Body::new(Guarded::new(body, admitted))))
        })
    }
}

/// The token that a request shows.
fn shown(request: &Request<Body>) -> Option<&str> {
    request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok()).and_then(bearer)
}

fn refused(status: Status) -> Response<Body> {
    status.into_http()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;

    /// Every method that the server serves, by the descriptors that it serves.
    fn served() -> BTreeSet<String> {
        let sets = [
            crate::proto::DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = BTreeSet::new();
        for set in sets {
            for service in DescriptorPool::decode(set).unwrap().services() {
                methods.extend(service.methods().map(|m| format!("/{}/{}", service.full_name(), m.name())));
            }
        }
        methods
    }

    #[test]
    fn every_method_has_one_entry_and_every_entry_a_method() {
        let served = served();
        assert!(served.len() > 30, "the descriptors hold nothing");
        let listed: BTreeSet<String> = METHODS.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(listed.len(), METHODS.len(), "a method is listed twice");
        let missing: Vec<_> = served.difference(&listed).collect();
        assert!(missing.is_empty(), "methods without an entry in METHODS, which nobody may call: {missing:?}");
        let gone: Vec<_> = listed.difference(&served).collect();
        assert!(gone.is_empty(), "entries of METHODS without a method: {gone:?}");
        assert_eq!(need("/visage.v1.CameraService/Nonsense"), None);
    }

    #[test]
    fn nothing_but_health_is_open() {
        let open = METHODS.iter().filter(|(_, need)| *need == Open);
        assert!(open.map(|(method, _)| method).all(|method| method.starts_with("/grpc.health.v1.Health/")));
    }

    /// The rows of the roles table in docs/security.md.
    #[test]
    fn the_documented_table_is_this_one() {
        let text = include_str!("../../docs/security.md");
        for role in Role::ALL {
            let own = METHODS.iter().filter(|(_, need)| *need == Least(role)).map(|(method, _)| *method);
            let names: Vec<String> = own
                .filter_map(|method| method.strip_prefix("/visage.v1."))
                .filter_map(|method| method.split_once("Service/"))
                .map(|(_, name)| format!("`{name}`"))
                .collect();
            let row = format!("| `{role}` | {} |", names.join(", "));
            assert!(text.contains(&row), "docs/security.md lacks the row\n{row}");
        }
    }
}
