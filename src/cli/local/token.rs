//! `visage token`: API tokens of a data folder, also while a server works there, or of a cluster.

use std::{collections::BTreeMap, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};

use super::configured::Folder;
use crate::{
    access::{
        Role, Scope, Token, TokenText,
        audit::{Entry, Ledger, OnFailure, record::BEGUN},
    },
    cli::{
        error::{Failure, OK, Outcome},
        output::{Ink, Io, cell},
        parse,
    },
    config::{Config, types::StoreMode},
    ids::TokenName,
    store::{
        nats::tokens::ClusterTokens,
        sqlite::tokens::{TokenBook, TokenBookError},
    },
    time::{Timestamp, now},
};

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Of which server.
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a token and prints it, this once: only its hash is kept.
    Create {
        /// Who will hold it: a-z, 0-9 and -.
        name: TokenName,
        /// What it allows; each role may do what those before it may.
        #[arg(long, value_name = "ROLE", value_parser = PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|text| text.parse::<Role>()))]
        role: Role,
        /// A label that cameras must have to be seen with it, key=value; may be given several times, then all must be there.
        #[arg(long = "camera-label", value_name = "KEY=VALUE", value_parser = parse::label)]
        camera_labels: Vec<(String, String)>,
        /// After what time it is refused, such as 12h or 90d [default: never].
        #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
        expires: Option<Duration>,
    },
    /// Lists the tokens: name, role, when it was made, expires, and was used last. The tokens themselves are not kept.
    List {
        /// Revoked ones, too.
        #[arg(long)]
        all: bool,
    },
    /// Revokes a token: a running server refuses it within three seconds and ends what was asked with it.
    Revoke {
        /// Whose.
        name: TokenName,
    },
}

/// Runs the command.
///
/// # Errors
/// When the data folder can't be used, the name is taken, or there is no such token.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let config = args.folder.config()?;
    match args.command {
        Command::Create { name, role, camera_labels, expires } => {
            let created = now();
            let expires = ends(created, expires)?;
            let scope = scope(camera_labels)?;
            create(&config, New { name, role, scope, created, expires }, io).await
        }
        Command::List { all } => list(&config, all, io).await,
        Command::Revoke { name } => {
            let mut book = existing(&config).await?;
            let revoked = recorded(&config, "token revoke", &name, book.revoke(&name, now())).await?;
            if io.json {
                io.object(&value(&revoked))?;
            } else {
                io.line(format!("{name} is revoked; a running server refuses it within three seconds"))?;
            }
            Ok(OK)
        }
    }
}

/// Where the tokens are.
enum Book {
    Folder(TokenBook),
    Cluster(Box<ClusterTokens>),
}

impl Book {
    async fn open(config: &Config) -> Result<Self, TokenBookError> {
        let (dir, storage) = (&config.server.data_dir, &config.storage);
        Ok(match config.store {
            StoreMode::Embedded => Self::Folder(TokenBook::open(dir, storage)?),
            StoreMode::Cluster => Self::Cluster(Box::new(ClusterTokens::open(&config.cluster, dir, storage).await?)),
        })
    }

    async fn list(&self, all: bool) -> Result<Vec<Token>, TokenBookError> {
        match self {
            Self::Folder(book) => book.list(all),
            Self::Cluster(book) => book.list(all).await,
        }
    }

    async fn add(&mut self, token: &Token) -> Result<(), TokenBookError> {
        match self {
            Self::Folder(book) => book.add(token),
            Self::Cluster(book) => book.add(token).await,
        }
    }

    async fn revoke(&mut self, name: &TokenName, now: Timestamp) -> Result<Token, TokenBookError> {
        match self {
            Self::Folder(book) => book.revoke(name, now),
            Self::Cluster(book) => book.revoke(name, now).await,
        }
    }
}

/// A token that is to be made.
struct New {
    name: TokenName,
    role: Role,
    scope: BTreeMap<String, String>,
    created: Timestamp,
    expires: Option<Timestamp>,
}

fn ends(created: Timestamp, span: Option<Duration>) -> Result<Option<Timestamp>, Failure> {
    match span {
        Some(span) if span.is_zero() => Err(Failure::usage("--expires: give a time above 0")),
        Some(span) => created.checked_add(span).map(Some).map_err(|_| Failure::usage("--expires: is too long")),
        None => Ok(None),
    }
}

/// The labels of `--camera-label`; one key can't have two values.
fn scope(labels: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut scope = BTreeMap::new();
    for (key, value) in labels {
        if scope.insert(key.clone(), value.clone()).is_some_and(|before| before != value) {
            return Err(Failure::usage(format!("--camera-label: {key} can't have two values; no camera would do")));
        }
    }
    Ok(scope)
}

/// Does something to a token with a record of it before and after; what can't be recorded is not done, unless `audit.on_failure` says so.
async fn recorded<T>(
    config: &Config,
    method: &str,
    name: &TokenName,
    change: impl Future<Output = Result<T, TokenBookError>>,
) -> Result<T, Failure> {
    let mut ledger = Ledger::of(&config.server.data_dir, config.audit.file_bytes);
    let record = |outcome: &str| Entry::local(now(), method, format!("tokens/{name}"), outcome);
    let begun = record(BEGUN);
    let ended = |outcome: &str| Entry { time: now(), outcome: outcome.to_owned(), ..begun.clone() };
    let mut write = |entry: Entry| match (ledger.append(&[entry]), config.audit.on_failure) {
        (Err(error), OnFailure::Refuse) => Err(Failure::from(anyhow::Error::from(error))),
        (Err(error), OnFailure::Warn) => {
            tracing::warn!(%error, "this is not in the audit log");
            Ok(())
        }
        (Ok(()), _) => Ok(()),
    };
    write(begun.clone())?;
    let done = change.await;
    // What has happened is told, also where its end can't be recorded.
    if let Err(failure) = write(ended(if done.is_ok() { "OK" } else { "FAILED" })) {
        tracing::warn!(error = failure.message, "the end of this is not in the audit log");
    }
    done.map_err(|e| anyhow::Error::from(e).into())
}

async fn create(config: &Config, new: New, io: &mut Io<'_>) -> Outcome {
    let text = TokenText::generate()
        .map_err(|e| Failure::new("the operating system gives no random numbers, so no token is made").because(&e))?;
    let New { name, role, scope, created, expires } = new;
    let token = Token { hash: text.hash(), name, role, scope, created, expires, used: None, revoked: None };
    let mut book = Book::open(config).await.map_err(anyhow::Error::from)?;
    recorded(config, "token create", &token.name, book.add(&token)).await?;
    if io.json {
        let mut value = value(&token);
        value["token"] = text.expose().into();
        io.object(&value)?;
    } else {
        let until = token.expires.map_or_else(String::new, |at| format!(", until {}", words(Some(at))));
        let cameras = if token.scope.is_empty() {
            String::new()
        } else {
            format!(", for cameras with {}", Scope::of(&token.scope))
        };
        let servers = match &book {
            Book::Folder(_) => format!("servers with the data folder {}", config.server.data_dir.display()),
            Book::Cluster(_) => format!("the cluster {}", config.cluster.name),
        };
        io.remark(format!(
            "token {} of the role {role}{cameras}{until}, for {servers}; keep it, it is shown this once:",
            token.name
        ))?;
        // Alone on stdout: VISAGE_TOKEN=$(visage token create …).
        io.line(text.expose())?;
    }
    Ok(OK)
}

/// The tokens of a folder that is there: looking must not make one.
async fn existing(config: &Config) -> Result<Book, Failure> {
    let dir = &config.server.data_dir;
    if config.store == StoreMode::Embedded && !dir.is_dir() {
        let message = format!("data folder {} does not exist", dir.display());
        return Err(Failure::new(message).hint("name the server's with --data-dir or VISAGE_DATA_DIR"));
    }
    Book::open(config).await.map_err(|e| anyhow::Error::from(e).into())
}

async fn list(config: &Config, all: bool, io: &mut Io<'_>) -> Outcome {
    let tokens = existing(config).await?.list(all).await.map_err(anyhow::Error::from)?;
    if io.json {
        for token in &tokens {
            io.object(&value(token))?;
        }
        return Ok(OK);
    }
    let mut table = io.table(&["name", "role", "state", "cameras", "created", "expires", "last used"]);
    for token in &tokens {
        let (state, ink) = state(token, now());
        table.add_row(vec![
            cell(token.name.as_str(), None),
            cell(token.role.as_str(), None),
            cell(state, Some(ink)),
            cell(if token.scope.is_empty() { "all".into() } else { Scope::of(&token.scope).to_string() }, None),
            cell(words(Some(token.created)), None),
            cell(token.expires.map_or_else(|| "never".into(), |at| words(Some(at))), None),
            cell(token.used.map_or_else(|| "never".into(), |at| words(Some(at))), None),
        ]);
    }
    io.show(&table)?;
    Ok(OK)
}

fn state(token: &Token, now: Timestamp) -> (&'static str, Ink) {
    match token {
        Token { revoked: Some(_), .. } => ("revoked", Ink::Dim),
        Token { expires: Some(at), .. } if *at <= now => ("expired", Ink::Yellow),
        _ => ("valid", Ink::Green),
    }
}

fn words(at: Option<Timestamp>) -> String {
    parse::time_words(at.map(parse::stamp).as_ref())
}

fn value(token: &Token) -> Value {
    let mut value = json!({
        "name": token.name.as_str(),
        "role": token.role.as_str(),
        "state": state(token, now()).0,
        "createTime": token.created.to_string(),
    });
    if !token.scope.is_empty() {
        value["cameraLabels"] = json!(token.scope);
    }
    for (key, at) in [("expireTime", token.expires), ("lastUseTime", token.used), ("revokeTime", token.revoked)] {
        if let Some(at) = at {
            value[key] = at.to_string().into();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Top};

    fn told(args: &[&str], dir: &Path, json: bool) -> Result<String, Failure> {
        let dir = dir.display().to_string();
        let line: Vec<&str> = ["visage", "token"].iter().chain(args).copied().chain(["--data-dir", &dir]).collect();
        let Top::Token(args) = Cli::try_parse_from(line).unwrap().command else { panic!("another command") };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, json, colour: false, progress: false };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run(args, &mut io)).map(|_| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_token_is_shown_once_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert!(told(&["list"], &data, false).unwrap_err().message.contains("does not exist"));
        assert!(!data.exists(), "looking made a folder");
        let first = told(&["create", "me", "--role", "admin"], &data, false).unwrap();
        assert!(first.starts_with("visage_") && first.lines().count() == 1, "only the token is on stdout");
        let second = told(&["create", "door", "--role", "viewer", "--expires", "1d"], &data, true).unwrap();
        let second: Value = serde_json::from_str(&second).unwrap();
        assert!(second["token"].as_str().unwrap().starts_with("visage_") && second["expireTime"].is_string());
        let taken = told(&["create", "me", "--role", "viewer"], &data, false).unwrap_err();
        assert!(taken.message.contains("visage token revoke me"), "{}", taken.message);
        told(&["revoke", "me"], &data, false).unwrap();
        assert!(told(&["revoke", "me"], &data, false).is_err());
        let all = told(&["list", "--all"], &data, false).unwrap();
        let lines: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..3], ["door", "viewer", "valid"]);
        assert_eq!(lines[2][..3], ["me", "admin", "revoked"]);
        assert!(!all.contains(first.trim()));
        assert_eq!(told(&["list"], &data, true).unwrap().lines().count(), 1);
        let audit = data.join("audit/audit-000000000001.jsonl");
        let files = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).chain([audit]);
        for file in files.filter(|path| path.is_file()) {
            let bytes = std::fs::read(file).unwrap();
            assert!(!bytes.windows(first.trim().len()).any(|w| w == first.trim().as_bytes()), "a token is on the disk");
        }
    }

    #[test]
    fn a_role_must_be_named() {
        for bad in [&["create", "me"][..], &["create", "me", "--role", "root"], &["create", "Me", "--role", "admin"]] {
            let line = ["visage", "token"].iter().chain(bad);
            assert!(Cli::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
