//! `visage person`: the people of the gallery.

use std::{path::PathBuf, time::Duration};

use super::{
    camera_change::clear,
    client::{Connection, connect},
};
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome},
        json,
        output::{Ink, Io, cell, plain},
        parse, picture_file,
    },
    proto::v1::{
        CreatePersonRequest, DeletePersonRequest, Face, GetFaceImageRequest, GetPersonRequest, LegalBasis, LegalGround,
        ListFacesRequest, ListPeopleRequest, Person, UpdatePersonRequest,
    },
    time::now,
};

/// What can be said about a person.
#[derive(Debug, Default, clap::Args)]
pub struct Settings {
    /// What people call them.
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// Id in another system.
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
    /// Free label; may be repeated.
    #[arg(long = "label", value_parser = parse::label, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Watchlist the person is on; may be repeated.
    #[arg(long = "watchlist", value_name = "LIST")]
    pub watchlists: Vec<String>,
    /// Added to the threshold for this person, -0.3 to 0.3: 0.05 is stricter, -0.05 laxer.
    #[arg(long, value_name = "OFFSET", value_parser = offset, allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Why the person may be known to the server.
    #[arg(long, value_enum, value_name = "GROUND")]
    pub legal_ground: Option<Ground>,
    /// Where that is documented, such as the number of a signed form.
    #[arg(long, value_name = "TEXT", requires = "legal_ground")]
    pub legal_reference: Option<String>,
    /// When it was given: a time, or how long ago, such as 2h [default: now].
    #[arg(long, value_name = "TIME", value_parser = parse::moment, requires = "legal_ground")]
    pub legal_since: Option<parse::Moment>,
    /// After what time the person is erased, such as 30d.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub expires: Option<Duration>,
}

/// The ground on which a person's data may be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ground {
    /// The person agreed.
    Consent,
    /// A contract with the person.
    Contract,
    /// A law demands it.
    LegalObligation,
    /// Somebody's life depends on it.
    VitalInterest,
    /// A task in the public interest.
    PublicTask,
    /// Legitimate interests that weigh more than the person's.
    LegitimateInterest,
}

impl From<Ground> for LegalGround {
    fn from(ground: Ground) -> Self {
        match ground {
            Ground::Consent => Self::Consent,
            Ground::Contract => Self::Contract,
            Ground::LegalObligation => Self::LegalObligation,
            Ground::VitalInterest => Self::VitalInterest,
            Ground::PublicTask => Self::PublicTask,
            Ground::LegitimateInterest => Self::LegitimateInterest,
        }
    }
}

fn offset(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(offset) if offset.abs() <= 0.3 => Ok(offset),
        _ => Err("it is added to the threshold in force; give -0.3 to 0.3, such as 0.05 for stricter".into()),
    }
}

/// What `person update --clear` takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Clearable {
    /// All labels.
    Labels,
    /// All watchlists.
    Watchlists,
    /// The id in another system.
    ExternalId,
    /// The own threshold: as everybody.
    Threshold,
    /// The legal basis.
    LegalBasis,
    /// The end: the person stays until somebody erases them.
    Expiry,
}

impl Clearable {
    /// Path of the field.
    fn path(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Watchlists => "watchlists",
            Self::ExternalId => "external_id",
            Self::Threshold => "threshold_offset",
            Self::LegalBasis => "legal_basis",
            Self::Expiry => "expire_time",
        }
    }
}

/// Subcommands of `person`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a person, without faces yet.
    Add {
        /// Id of the person: 1 to 63 of a-z, 0-9 and -.
        id: String,
        /// What is known of the person.
        #[command(flatten)]
        settings: Settings,
    },
    /// List all people.
    List,
    /// Show one person and their faces.
    Get {
        /// Id of the person.
        id: String,
    },
    /// Change a person; what is not named stays.
    Update {
        /// Id of the person.
        id: String,
        /// What is known of the person.
        #[command(flatten)]
        settings: Settings,
        /// Take away what was set; may be repeated, or name several: --clear labels,watchlists.
        #[arg(long = "clear", value_enum, value_delimiter = ',', value_name = "FIELD")]
        cleared: Vec<Clearable>,
    },
    /// Fetch the picture kept of an enrolled face.
    FaceImage {
        /// The face: PERSON/FACE, or its whole name people/PERSON/faces/FACE.
        face: String,
        /// File for the picture (JPEG); - is stdout.
        #[arg(short = 'o', long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Erase people: faces, embeddings, and the identity in past events. Prints the receipt.
    Remove {
        /// Ids of the people.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Runs a subcommand of `person`.
pub async fn run(command: Command, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    match command {
        Command::Add { id, settings } => {
            let mut person = Person { display_name: id.clone(), ..Person::default() };
            apply(settings, &mut person);
            let request = CreatePersonRequest { person_id: id, person: Some(person), validate_only: false };
            report(io, "added", &server.person().create_person(request).await?.into_inner())
        }
        Command::List => list(&server, io).await,
        Command::Get { id } => get(&server, &id, io).await,
        Command::Update { id, settings, cleared } => {
            let mut person = Person { name: parse::resource("people", &id), ..Person::default() };
            let mut paths = apply(settings, &mut person);
            clear(&mut paths, cleared.into_iter().map(Clearable::path))?;
            if paths.is_empty() {
                return Err(Failure::usage("nothing to change").hint("see `visage person update --help`"));
            }
            let update_mask = Some(prost_types::FieldMask { paths });
            let request = UpdatePersonRequest { person: Some(person), update_mask };
            report(io, "changed", &server.person().update_person(request).await?.into_inner())
        }
        Command::FaceImage { face, out } => {
            let name = face_name(&face)?;
            let jpeg = server.person().get_face_image(GetFaceImageRequest { name }).await?.into_inner().jpeg;
            picture_file::write(&out, &jpeg, io.out)?;
            io.remark(format!("{} ({} bytes)", out.display(), jpeg.len()))?;
            Ok(OK)
        }
        Command::Remove { ids } => {
            for id in ids {
                remove(&server, &id, io).await?;
            }
            Ok(OK)
        }
    }
}

/// Resource name of a face, from `PERSON/FACE` or as it is.
fn face_name(face: &str) -> Result<String, Failure> {
    if face.contains("/faces/") {
        return Ok(face.to_owned());
    }
    let (person, face) = face.split_once('/').ok_or_else(|| {
        Failure::usage(format!("{face:?} names no face"))
            .hint("write PERSON/FACE; `visage person get PERSON` lists faces")
    })?;
    Ok(format!("{}/faces/{face}", parse::resource("people", person)))
}

fn apply(settings: Settings, person: &mut Person) -> Vec<String> {
    let mut mask = Vec::new();
    if let Some(name) = settings.display_name {
        person.display_name = name;
        mask.push("display_name".to_owned());
    }
    if let Some(id) = settings.external_id {
        person.external_id = id;
        mask.push("external_id".to_owned());
    }
    if !settings.labels.is_empty() {
        person.labels = parse::labels(&settings.labels);
        mask.push("labels".to_owned());
    }
    if !settings.watchlists.is_empty() {
        person.watchlists = settings.watchlists;
        mask.push("watchlists".to_owned());
    }
    if let Some(offset) = settings.threshold {
        person.threshold_offset = offset;
        mask.push("threshold_offset".to_owned());
    }
    if let Some(ground) = settings.legal_ground {
        person.legal_basis = Some(LegalBasis {
            ground: LegalGround::from(ground).into(),
            reference: settings.legal_reference.unwrap_or_default(),
            give_time: Some(settings.legal_since.map_or_else(|| parse::stamp(now()), |at| at.resolve(now()))),
        });
        mask.push("legal_basis".to_owned());
    }
    if let Some(end) = settings.expires.and_then(|span| now().checked_add(span).ok()) {
        person.expire_time = Some(parse::stamp(end));
        mask.push("expire_time".to_owned());
    }
    mask
}

/// Whom a person looks like, as `berta (0.47), clara (0.44)`.
fn looks_like(person: &Person) -> String {
    let alike = person.looks_like.iter().map(|a| format!("{} ({:.2})", parse::id(&a.person), a.similarity));
    alike.collect::<Vec<_>>().join(", ")
}

fn report(io: &mut Io<'_>, word: &str, person: &Person) -> Outcome {
    match io.json {
        true => io.object(&json::to_value("Person", person)?)?,
        false => io.line(format!("{word} {} ({})", parse::id(&person.name), plain(&person.display_name)))?,
    }
    Ok(OK)
}

async fn list(server: &Connection, io: &mut Io<'_>) -> Outcome {
    let mut people: Vec<Person> = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = server.person().list_people(ListPeopleRequest { page_size: 0, page_token }).await?.into_inner();
        people.extend(page.people);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if io.json {
        for person in &people {
            io.object(&json::to_value("Person", person)?)?;
        }
        return Ok(OK);
    }
    if people.is_empty() {
        io.remark("nobody yet; add people with `visage enroll --from-dir DIR`")?;
        return Ok(OK);
    }
    let mut table = io.table(&["id", "name", "faces", "watchlists", "labels", "looks like"]);
    for person in &people {
        table.add_row(vec![
            cell(parse::id(&person.name), None),
            cell(plain(&person.display_name), None),
            cell(person.face_count.to_string(), None),
            cell(plain(&person.watchlists.join(", ")), None),
            cell(plain(&parse::label_words(&person.labels)), None),
            cell(looks_like(person), Some(Ink::Yellow)),
        ]);
    }
    io.show(&table)?;
    Ok(OK)
}

async fn get(server: &Connection, id: &str, io: &mut Io<'_>) -> Outcome {
    let name = parse::resource("people", id);
    let person = server.person().get_person(GetPersonRequest { name: name.clone() }).await?.into_inner();
    if io.json {
        io.object(&json::to_value("Person", &person)?)?;
        return Ok(OK);
    }
    let mut faces: Vec<Face> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListFacesRequest { parent: name.clone(), page_size: 0, page_token };
        let page = server.person().list_faces(request).await?.into_inner();
        faces.extend(page.faces);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    io.pairs(&[
        ("id", parse::id(&person.name).into()),
        ("name", plain(&person.display_name)),
        ("external id", plain(&person.external_id)),
        ("watchlists", plain(&person.watchlists.join(", "))),
        ("labels", plain(&parse::label_words(&person.labels))),
        ("added", parse::time_words(person.create_time.as_ref())),
        ("faces", person.face_count.to_string()),
        ("threshold", threshold_words(person.threshold_offset)),
        ("looks like", looks_like(&person)),
        ("legal basis", legal_words(&person)),
        ("erased at", person.expire_time.as_ref().map_or_else(|| "never".into(), |at| parse::time_words(Some(at)))),
    ])?;
    if !faces.is_empty() {
        let mut table = io.table(&["face", "quality", "model", "source"]);
        for face in &faces {
            table.add_row(vec![
                cell(parse::id(&face.name), None),
                cell(format!("{:.2}", face.quality), None),
                cell(plain(&face.model), None),
                cell(plain(&face.source), None),
            ]);
        }
        io.line("")?;
        io.show(&table)?;
    }
    Ok(OK)
}

fn legal_words(person: &Person) -> String {
    let Some(basis) = &person.legal_basis else { return "not said".into() };
    let ground = basis.ground().as_str_name().trim_start_matches("LEGAL_GROUND_").replace('_', " ").to_lowercase();
    let since = basis.give_time.as_ref().map_or_else(String::new, |at| format!(", {}", parse::time_words(Some(at))));
    let reference = if basis.reference.is_empty() { String::new() } else { format!(" ({})", plain(&basis.reference)) };
    format!("{ground}{reference}{since}")
}

fn threshold_words(offset: f32) -> String {
    match offset {
        0.0 => "as everybody".into(),
        offset if offset > 0.0 => format!("{offset:.2} stricter"),
        offset => format!("{:.2} laxer", -offset),
    }
}

async fn remove(server: &Connection, id: &str, io: &mut Io<'_>) -> Result<(), Failure> {
    let request = DeletePersonRequest { name: parse::resource("people", id) };
    let receipt = server.person().delete_person(request).await?.into_inner().receipt.unwrap_or_default();
    if io.json {
        io.object(&json::to_value("ErasureReceipt", &receipt)?)?;
        return Ok(());
    }
    io.line(format!("erased {id}"))?;
    io.pairs(&[
        ("  receipt", receipt.id.clone()),
        ("  at", parse::time_words(receipt.erase_time.as_ref())),
        ("  faces removed", receipt.faces_removed.to_string()),
        ("  their pictures removed", receipt.face_images_removed.to_string()),
        ("  events anonymised", receipt.events_anonymised.to_string()),
        ("  pictures removed", receipt.pictures_removed.to_string()),
    ])?;
    Ok(())
}
