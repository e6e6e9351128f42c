//! Who may call what, and what is recorded of it: the table of methods.

use crate::access::{Role, audit::Kind};

/// What a method asks of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Open,
    /// A token of this role or a greater one.
    Least(Role),
}

/// What a token that is for some cameras only may do with a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything: neither cameras nor the gallery are looked at.
    Apart,
    /// What is of its cameras: the method leaves out the rest.
    Cameras,
    /// Nothing: the gallery and what is kept of unknown faces are of all cameras.
    Gallery,
}

use Kind::{Change, Read, Unrecorded};
use Need::{Least, Open};
use Reach::{Apart, Cameras, Gallery};
use Role::{Admin, Enroller, Operator, Viewer};

/// A row: the method, what it asks, what is recorded, what a token for some cameras may.
pub type Row = (&'static str, Need, Kind, Reach);

/// Every method. What is not here is refused.
#[rustfmt::skip]
pub const METHODS: [Row; 45] = [
    ("/grpc.health.v1.Health/Check", Open, Unrecorded, Apart),
    ("/grpc.health.v1.Health/Watch", Open, Unrecorded, Apart),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Least(Viewer), Unrecorded, Apart),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Least(Viewer), Unrecorded, Apart),
    ("/visage.v1.CameraService/GetCamera", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.CameraService/ListCameras", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.CameraService/WatchCameras", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.CameraService/CaptureSnapshot", Least(Viewer), Read, Cameras),
    ("/visage.v1.EventService/StreamEvents", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.EventService/ListEvents", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.EventService/GetEvent", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.EventService/GetEventImage", Least(Viewer), Read, Cameras),
    ("/visage.v1.PersonService/GetPerson", Least(Viewer), Unrecorded, Gallery),
    ("/visage.v1.PersonService/ListPeople", Least(Viewer), Unrecorded, Gallery),
    ("/visage.v1.RecognitionService/DetectFaces", Least(Viewer), Unrecorded, Apart),
    ("/visage.v1.RecognitionService/IdentifyFaces", Least(Viewer), Read, Gallery),
    ("/visage.v1.RecognitionService/VerifyFaces", Least(Viewer), Read, Apart),
    ("/visage.v1.RecognitionService/EmbedFaces", Least(Viewer), Read, Apart),
    ("/visage.v1.ServerService/GetServerInfo", Least(Viewer), Unrecorded, Cameras),
    ("/visage.v1.GalleryService/GetGallery", Least(Viewer), Unrecorded, Gallery),
    ("/visage.v1.PersonService/CreatePerson", Least(Enroller), Change, Gallery),
    ("/visage.v1.PersonService/UpdatePerson", Least(Enroller), Change, Gallery),
    ("/visage.v1.PersonService/EnrollFaces", Least(Enroller), Change, Gallery),
    ("/visage.v1.PersonService/ListFaces", Least(Enroller), Read, Gallery),
    ("/visage.v1.PersonService/GetFaceImage", Least(Enroller), Read, Gallery),
    ("/visage.v1.PersonService/DeleteFace", Least(Enroller), Change, Gallery),
    ("/visage.v1.EventService/GiveFeedback", Least(Enroller), Change, Cameras),
    ("/visage.v1.EventService/SearchEvents", Least(Enroller), Read, Cameras),
    ("/visage.v1.UnknownService/ListUnknowns", Least(Enroller), Read, Gallery),
    ("/visage.v1.UnknownService/GetUnknown", Least(Enroller), Read, Gallery),
    ("/visage.v1.UnknownService/GetUnknownSheet", Least(Enroller), Read, Gallery),
    ("/visage.v1.UnknownService/EnrollUnknown", Least(Enroller), Change, Gallery),
    ("/visage.v1.UnknownService/MergeUnknowns", Least(Enroller), Change, Gallery),
    ("/visage.v1.UnknownService/DismissUnknown", Least(Enroller), Change, Gallery),
    ("/visage.v1.CameraService/CreateCamera", Least(Operator), Change, Cameras),
    ("/visage.v1.CameraService/UpdateCamera", Least(Operator), Change, Cameras),
    ("/visage.v1.CameraService/DeleteCamera", Least(Operator), Change, Cameras),
    ("/visage.v1.PersonService/DeletePerson", Least(Operator), Change, Gallery),
    ("/visage.v1.PersonService/ReportPerson", Least(Operator), Read, Gallery),
    ("/visage.v1.ServerService/Calibrate", Least(Operator), Change, Gallery),
    ("/visage.v1.ServerService/TrainClassifier", Least(Operator), Change, Gallery),
    ("/visage.v1.GalleryService/CheckGallery", Least(Operator), Read, Gallery),
    ("/visage.v1.GalleryService/ReembedGallery", Least(Admin), Change, Gallery),
    ("/visage.v1.GalleryService/ExportGallery", Least(Admin), Read, Gallery),
    ("/visage.v1.GalleryService/ImportGallery", Least(Admin), Change, Gallery),
];

/// Methods that stream, in either direction.
pub const STREAMS: [&str; 11] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/visage.v1.CameraService/WatchCameras",
    "/visage.v1.EventService/StreamEvents",
    "/visage.v1.PersonService/EnrollFaces",
    "/visage.v1.ServerService/TrainClassifier",
    "/visage.v1.GalleryService/ReembedGallery",
    "/visage.v1.GalleryService/ExportGallery",
    "/visage.v1.GalleryService/ImportGallery",
    "/visage.v1.PersonService/ReportPerson",
];

/// A method of the table; `None` for one that nobody may call.
pub(super) fn row(path: &str) -> Option<&'static Row> {
    METHODS.iter().find(|(method, ..)| *method == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, MethodDescriptor};

    use super::*;

    /// Every method that the server serves and that is wanted, by the descriptors that it serves.
    fn served(wanted: fn(&MethodDescriptor) -> bool) -> BTreeSet<String> {
        let sets = [
            crate::proto::DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = BTreeSet::new();
        for set in sets {
            for service in DescriptorPool::decode(set).unwrap().services() {
                let of_service = service.methods().filter(wanted);
                methods.extend(of_service.map(|m| format!("/{}/{}", service.full_name(), m.name())));
            }
        }
        methods
    }

    #[test]
    fn every_method_has_one_entry_and_every_entry_a_method() {
        let served = served(|_| true);
        assert!(served.len() > 30, "the descriptors hold nothing");
        let listed: BTreeSet<String> = METHODS.iter().map(|(method, ..)| (*method).to_owned()).collect();
        assert_eq!(listed.len(), METHODS.len(), "a method is listed twice");
        let missing: Vec<_> = served.difference(&listed).collect();
        assert!(missing.is_empty(), "methods without an entry in METHODS, which nobody may call: {missing:?}");
        let gone: Vec<_> = listed.difference(&served).collect();
        assert!(gone.is_empty(), "entries of METHODS without a method: {gone:?}");
        assert_eq!(row("/visage.v1.CameraService/Nonsense"), None);
    }

    #[test]
    fn streams_are_those_of_the_descriptors() {
        let streams: BTreeSet<String> = STREAMS.iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(streams, served(|m| m.is_client_streaming() || m.is_server_streaming()));
    }

    #[test]
    fn whatever_asks_for_more_than_looking_is_recorded() {
        for (method, need, kind, _) in METHODS {
            let looks = matches!(need, Open | Least(Viewer));
            assert!(looks || kind != Unrecorded, "{method} leaves no record");
        }
    }

    #[test]
    fn nothing_but_health_is_open() {
        let open = METHODS.iter().filter(|(_, need, ..)| *need == Open);
        assert!(open.map(|(method, ..)| method).all(|method| method.starts_with("/grpc.health.v1.Health/")));
    }

    /// The rows of the roles table in docs/security.md.
    #[test]
    fn the_documented_table_is_this_one() {
        let text = include_str!("../../docs/security.md");
        for role in Role::ALL {
            let own = METHODS.iter().filter(|(_, need, ..)| *need == Least(role)).map(|(method, ..)| *method);
            let names: Vec<String> = own
                .filter_map(|method| method.strip_prefix("/visage.v1."))
                .filter_map(|method| method.split_once("Service/"))
                .map(|(_, name)| format!("`{name}`"))
                .collect();
            let row = format!("| `{role}` | {} |", names.join(", "));
            assert!(text.contains(&row), "docs/security.md lacks the row\n{row}");
        }
    }

    /// The columns of the other two tables there.
    #[test]
    fn documented_records_and_scopes_are_these() {
        let text = include_str!("../../docs/security.md");
        let names = |wanted: &dyn Fn(&Row) -> bool| -> String {
            let of = METHODS.iter().filter(|row| row.0.starts_with("/visage.v1.") && wanted(row));
            let names: Vec<String> = of.filter_map(|row| Some(format!("`{}`", row.0.rsplit_once('/')?.1))).collect();
            names.join(", ")
        };
        for (title, kind) in [("changes", Change), ("reads of faces", Read)] {
            let row = format!("| {title} | {} |", names(&|row| row.2 == kind));
            assert!(text.contains(&row), "docs/security.md lacks the row\n{row}");
        }
        for (title, reach) in [("of its cameras", Cameras), ("all", Apart), ("nothing", Gallery)] {
            let row = format!("| {title} | {} |", names(&|row| row.3 == reach));
            assert!(text.contains(&row), "docs/security.md lacks the row\n{row}");
        }
    }
}
