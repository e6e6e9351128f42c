//! UnknownService: groups of faces that nobody knew.

use tonic::{Request, Response, Status};

use super::{
    Services, convert, page,
    status::{IntoStatus, invalid},
};
use crate::{
    access::Caller,
    ids::{PersonId, UnknownId},
    pipeline::unknowns::UnknownGroup,
    proto::v1::{unknown_service_server::UnknownService, *},
    time,
};

/// Where a page starts: after a group that was last seen at a time (microseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(i64, UnknownId);

impl Place {
    fn of(group: &UnknownGroup) -> Self {
        Self(group.last_seen().as_microsecond(), group.id)
    }
}

impl std::str::FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once(' ').ok_or(())?;
        Ok(Self(at.parse().map_err(|_| ())?, id.parse().map_err(|_| ())?))
    }
}

fn group(field: &str, name: &str) -> Result<UnknownId, Status> {
    page::id(field, "unknowns", name)
}

#[tonic::async_trait]
impl UnknownService for Services {
    async fn list_unknowns(
        &self,
        request: Request<ListUnknownsRequest>,
    ) -> Result<Response<ListUnknownsResponse>, Status> {
        let r = request.into_inner();
        let (size, after) = (page::size(r.page_size)?, page::after::<Place>(&r.page_token)?);
        let mut groups = self.unknowns.list().await.map_err(IntoStatus::into_status)?;
        groups.retain(|g| (r.show_dismissed || !g.dismissed) && after.is_none_or(|a| Place::of(g) < a));
        let more = groups.len() > size;
        groups.truncate(size);
        let next = groups.last().filter(|_| more).map(Place::of);
        Ok(Response::new(ListUnknownsResponse {
            unknowns: groups.iter().map(convert::unknown::listed).collect(),
            next_page_token: next.map(|Place(at, id)| page::token(&format!("{at} {id}"))).unwrap_or_default(),
            keeping: self.unknowns.keeps(),
        }))
    }

    async fn get_unknown(&self, request: Request<GetUnknownRequest>) -> Result<Response<Unknown>, Status> {
        let id = group("name", &request.into_inner().name)?;
        Caller::now().trail.names(format!("unknowns/{id}"));
        let found = self.unknowns.get(id).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::unknown::to_wire(&found)))
    }

    async fn get_unknown_sheet(
        &self,
        request: Request<GetUnknownSheetRequest>,
    ) -> Result<Response<GetUnknownSheetResponse>, Status> {
        let id = group("name", &request.into_inner().name)?;
        Caller::now().trail.names(format!("unknowns/{id}"));
        let jpeg = self.unknowns.sheet(id).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(GetUnknownSheetResponse { jpeg }))
    }

    async fn enroll_unknown(
        &self,
        request: Request<EnrollUnknownRequest>,
    ) -> Result<Response<EnrollUnknownResponse>, Status> {
        let r = request.into_inner();
        let id = group("name", &r.name)?;
        let person: PersonId = match r.person.as_str() {
            "" => PersonId::generate(),
            name => page::id("person", "people", name)?,
        };
        let caller = Caller::now();
        caller.trail.names(format!("unknowns/{id}"));
        caller.trail.names(format!("people/{person}"));
        let display_name = if r.display_name.is_empty() { person.to_string() } else { r.display_name };
        let new = Person { display_name, ..Default::default() };
        let person = convert::person::from_wire(person, new, time::now()).map_err(invalid)?;
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let done = self.unknowns.enroll(id, person, r.force).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(EnrollUnknownResponse {
            person: format!("people/{}", done.person),
            created: done.created,
            faces_enrolled: done.faces_enrolled,
            faces_moved: done.faces_moved,
            events_corrected: done.events_corrected,
        }))
    }

    async fn merge_unknowns(&self, request: Request<MergeUnknownsRequest>) -> Result<Response<Unknown>, Status> {
        let r = request.into_inner();
        let (into, from) = (group("name", &r.name)?, group("from", &r.from)?);
        let caller = Caller::now();
        caller.trail.names(format!("unknowns/{into}"));
        caller.trail.names(format!("unknowns/{from}"));
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let merged = self.unknowns.merge(into, from).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::unknown::to_wire(&merged)))
    }

    async fn dismiss_unknown(&self, request: Request<DismissUnknownRequest>) -> Result<Response<Unknown>, Status> {
        let r = request.into_inner();
        let id = group("name", &r.name)?;
        let caller = Caller::now();
        caller.trail.names(format!("unknowns/{id}"));
        caller.trail.begins().await.map_err(IntoStatus::into_status)?;
        let dismissed = self.unknowns.dismiss(id, !r.undo).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(convert::unknown::to_wire(&dismissed)))
    }
}
