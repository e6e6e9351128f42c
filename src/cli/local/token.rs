//! `visage token`: API tokens of a data folder, also while a server works there.

use std::{path::PathBuf, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};

use super::configured;
use crate::{
    access::{Role, Token, TokenText},
    cli::{
        error::{Failure, OK, Outcome},
        output::{Ink, Io, cell},
        parse,
    },
    config::Config,
    ids::TokenName,
    store::sqlite::tokens::TokenBook,
    time::{Timestamp, now},
};

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// The server's configuration file (TOML): `server.data_dir` counts.
    #[arg(long, global = true, value_name = "FILE", env = "VISAGE_CONFIG")]
    config: Option<PathBuf>,
    /// The server's data folder [env: VISAGE_DATA_DIR] [default: visage-data].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
pub fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let flags: Vec<_> =
        args.data_dir.as_deref().map(|dir| ("server.data_dir", configured::path(dir))).into_iter().collect();
    let config = configured::load(args.config.as_deref(), &flags).map_err(anyhow::Error::from)?;
    match args.command {
        Command::Create { name, role, expires } => create(&config, name, role, expires, io),
        Command::List { all } => list(&config, all, io),
        Command::Revoke { name } => {
            let revoked = existing(&config)?.revoke(&name, now()).map_err(anyhow::Error::from)?;
            if io.json {
                io.object(&value(&revoked))?;
            } else {
                io.line(format!("{name} is revoked; a running server refuses it within three seconds"))?;
            }
            Ok(OK)
        }
    }
}

fn create(config: &Config, name: TokenName, role: Role, expires: Option<Duration>, io: &mut Io<'_>) -> Outcome {
    let created = now();
    let expires = match expires {
        Some(span) if span.is_zero() => return Err(Failure::usage("--expires: give a time above 0")),
        Some(span) => Some(created.checked_add(span).map_err(|_| Failure::usage("--expires: is too long"))?),
        None => None,
    };
    let text = TokenText::generate()
        .map_err(|e| Failure::new("the operating system gives no random numbers, so no token is made").because(&e))?;
    let token = Token { hash: text.hash(), name, role, created, expires, used: None, revoked: None };
    let dir = &config.server.data_dir;
    TokenBook::open(dir, &config.storage).and_then(|mut book| book.add(&token)).map_err(anyhow::Error::from)?;
    if io.json {
        let mut value = value(&token);
        value["token"] = text.expose().into();
        io.object(&value)?;
    } else {
        let until = token.expires.map_or_else(String::new, |at| format!(", until {}", words(Some(at))));
        io.remark(format!(
            "token {} of the role {role}{until}, for servers with the data folder {}; keep it, it is shown this once:",
            token.name,
            dir.display()
        ))?;
        // Alone on stdout: VISAGE_TOKEN=$(visage token create …).
        io.line(text.expose())?;
    }
    Ok(OK)
}

/// The tokens of a folder that is there: looking must not make one.
fn existing(config: &Config) -> Result<TokenBook, Failure> {
    let dir = &config.server.data_dir;
    if !dir.is_dir() {
        let message = format!("data folder {} does not exist", dir.display());
        return Err(Failure::new(message).hint("name the server's with --data-dir or VISAGE_DATA_DIR"));
    }
    TokenBook::open(dir, &config.storage).map_err(|e| anyhow::Error::from(e).into())
}

fn list(config: &Config, all: bool, io: &mut Io<'_>) -> Outcome {
    let tokens = existing(config)?.list(all).map_err(anyhow::Error::from)?;
    if io.json {
        for token in &tokens {
            io.object(&value(token))?;
        }
        return Ok(OK);
    }
    let mut table = io.table(&["name", "role", "state", "created", "expires", "last used"]);
    for token in &tokens {
        let (state, ink) = state(token, now());
        table.add_row(vec![
            cell(token.name.as_str(), None),
            cell(token.role.as_str(), None),
            cell(state, Some(ink)),
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
        run(args, &mut io).map(|_| String::from_utf8(out).unwrap())
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
        for entry in std::fs::read_dir(&data).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
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
