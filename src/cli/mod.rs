//! The command line: one file a subcommand.
//!
//! [`remote`] speaks gRPC and knows nothing of the server's insides; [`local`] works in this process. Commands write to
//! an `output::Io` and return an exit code or a `error::Failure`; only [`main`] touches the process.

pub mod conflict_sheet;
pub mod error;
pub mod generate;
pub mod json;
pub mod local;
pub mod logging;
pub mod output;
pub mod parse;
pub mod picture_file;
pub mod remote;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use error::{Failure, OK, Outcome};
use output::Io;

const EXIT_CODES: &str = "\
EXIT CODES:
  0  done
  1  failed
  2  wrong command line
  3  some pictures were refused, the rest is done
  4  the answer is no (verify: different people; health: it does not serve)
  5  the server could not be reached

Run `visage doctor` when something is missing, `visage demo` to see it all at once.";

/// Who is in front of which camera, and are we sure?
#[derive(Debug, Parser)]
#[command(name = "visage", version, after_long_help = EXIT_CODES, after_help = "`visage --help` lists the exit codes.")]
pub struct Cli {
    /// Options of all subcommands.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all subcommands.
#[derive(Clone, clap::Args)]
pub struct Globals {
    /// The server: host:port or a URL.
    #[arg(long, global = true, env = "VISAGE_SERVER", default_value = "http://127.0.0.1:50051", value_name = "ADDR")]
    pub server: String,
    /// Token to show to the server.
    #[arg(long, global = true, env = "VISAGE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Certificate (PEM) of the authority that signed the server's, for https addresses.
    #[arg(long, global = true, env = "VISAGE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<std::path::PathBuf>,
    /// Certificate (PEM) to show to a server that asks clients for one.
    #[arg(long, global = true, env = "VISAGE_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    pub client_certificate: Option<std::path::PathBuf>,
    /// Private key (PEM) of the client certificate.
    #[arg(long, global = true, env = "VISAGE_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    pub client_key: Option<std::path::PathBuf>,
    /// Print lines of JSON for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

impl std::fmt::Debug for Globals {
    // The token is a secret: it must not reach a log by way of Debug.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Globals").field("server", &self.server).field("token", &token).finish_non_exhaustive()
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // parsed once
pub enum Command {
    /// Run the server.
    Serve(local::serve::Args),
    /// Show everything at once on real faces: cameras, server, enrolment, events, pictures.
    #[cfg(feature = "simulator")]
    Demo(local::demo::Args),
    /// Serve RTSP cameras from files, pictures or a pattern.
    #[cfg(feature = "simulator")]
    Simulate(local::simulate::Args),
    /// Add, change and watch cameras.
    #[command(subcommand)]
    Camera(remote::camera::Command),
    /// Add, change and erase people.
    #[command(subcommand)]
    Person(remote::person::Command),
    /// Enrol faces of one person, or of a folder of people.
    Enroll(remote::enroll::Args),
    /// Say who is in pictures.
    Identify(remote::identify::Args),
    /// Say whether two pictures show one person.
    Verify(remote::verify::Args),
    /// Learn the threshold that keeps a promised rate of false names.
    Calibrate(remote::calibrate::Args),
    /// Train a classifier on the enrolled faces, and tell how good it is on faces it has not seen.
    Train(remote::train::Args),
    /// Print events as they happen.
    Watch(remote::watch::Args),
    /// Look at past events and judge them.
    #[command(subcommand)]
    Events(remote::events::Command),
    /// Look after the gallery as a whole: its models, moving it to another one, checking its faces.
    #[command(subcommand)]
    Gallery(remote::gallery::Command),
    /// Look at faces that nobody knew, and enrol, merge or dismiss them.
    #[command(subcommand)]
    Unknown(remote::unknown::Command),
    /// Tell what is stored about a person.
    #[command(subcommand)]
    Privacy(remote::privacy::Command),
    /// Export and verify the audit log of the server's data folder: who did what.
    Audit(local::audit::Args),
    /// Make, list and revoke API tokens in the server's data folder.
    Token(local::token::Args),
    /// Make a backup of the server's data folder while it works, check it, and restore it.
    Backup(local::backup::Args),
    /// Fetch and check the models.
    Models(local::models::Args),
    /// Measure recognition and detection by the papers' protocols, on pictures or on the gallery.
    #[command(subcommand)]
    Eval(local::eval::Command),
    /// Measure how fast this machine detects, embeds, searches and watches cameras, and how much of that is ours.
    #[command(subcommand)]
    Bench(local::bench::Command),
    /// Check what this machine needs, and say how to mend what is missing.
    Doctor(local::doctor::Args),
    /// Tell about the server: versions, models, gallery.
    Info,
    /// Tell whether the server serves, by the exit code too; needs no token.
    Health(remote::health::Args),
    /// Print a shell's completion script.
    Completions(generate::CompletionArgs),
    /// Print the man page.
    Man(generate::ManArgs),
}

/// Parses the process's arguments, runs the command, reports a failure on stderr, and returns the exit code.
pub async fn main() -> ExitCode {
    let cli = match Cli::try_parse_from_process() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help on stdout with code 0 and mistakes on stderr with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(error::USAGE));
        }
    };
    // The server's own start of logging knows where traces go.
    if !matches!(cli.command, Command::Serve(_)) {
        logging::init("warn", logging::LogFormat::Text, None);
    }
    let json = cli.globals.json;
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut io = Io {
        colour: !json && output::wants_colour(out.is_terminal()),
        progress: !json && err.is_terminal(),
        out: &mut out,
        err: &mut err,
        json,
    };
    let outcome = run(cli, &mut io).await;
    let flushed = io.out.flush();
    let code = outcome.and_then(|code| flushed.map(|()| code).map_err(Failure::from)).unwrap_or_else(|failure| {
        let _ = failure.render(&mut io::stderr(), json, output::stderr_colour());
        failure.exit
    });
    ExitCode::from(code)
}

impl Cli {
    fn try_parse_from_process() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::command().try_get_matches()?)
    }
}

/// Runs one parsed command line.
pub async fn run(cli: Cli, io: &mut Io<'_>) -> Outcome {
    let globals = cli.globals;
    match cli.command {
        Command::Serve(args) => local::serve::run(args).await.map(|()| OK).map_err(Failure::from),
        #[cfg(feature = "simulator")]
        Command::Demo(args) => local::demo::run(args, globals.json).await.map(|()| OK).map_err(Failure::from),
        #[cfg(feature = "simulator")]
        Command::Simulate(args) => local::simulate::run(args).await.map(|()| OK).map_err(Failure::from),
        Command::Audit(args) => local::audit::run(args, io),
        Command::Token(args) => local::token::run(args, io).await,
        Command::Backup(args) => local::backup::run(args, io).await,
        Command::Models(args) => local::models::run(args, globals.json).await.map(|()| OK).map_err(Failure::from),
        Command::Eval(command) => local::eval::run(command, io).await,
        Command::Bench(command) => local::bench::run(command, io).await,
        Command::Doctor(args) => local::doctor::run(args, io).await,
        Command::Completions(args) => generate::completions(&args, io),
        Command::Man(args) => generate::man(&args, io),
        Command::Camera(command) => remote::camera::run(command, &globals, io).await,
        Command::Person(command) => remote::person::run(command, &globals, io).await,
        Command::Enroll(args) => remote::enroll::run(args, &globals, io).await,
        Command::Identify(args) if args.offline => {
            let mut here =
                local::offline::Recognizer::open(args.config.as_deref(), args.data_dir.as_deref(), io).await?;
            remote::identify::run(args, &mut here, io).await
        }
        Command::Identify(args) => {
            let mut server = remote::client::connect(&globals).await?.recognition();
            remote::identify::run(args, &mut server, io).await
        }
        Command::Verify(args) => remote::verify::run(args, &globals, io).await,
        Command::Calibrate(args) => remote::calibrate::run(args, &globals, io).await,
        Command::Train(args) => remote::train::run(args, &globals, io).await,
        Command::Watch(args) => {
            let stop = async {
                // Without a signal handler the process just ends on Ctrl-C.
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            remote::watch::run(args, &globals, io, stop).await
        }
        Command::Events(command) => remote::events::run(command, &globals, io).await,
        Command::Gallery(command) => remote::gallery::run(command, &globals, io).await,
        Command::Unknown(command) => remote::unknown::run(command, &globals, io).await,
        Command::Privacy(command) => remote::privacy::run(command, &globals, io).await,
        Command::Info => remote::info::run(&globals, io).await,
        Command::Health(args) => remote::health::run(args, &globals, io).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_documents_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("EXIT CODES") && help.contains("5  the server could not be reached"), "{help}");
    }

    #[test]
    fn the_token_is_never_shown() {
        let cli = Cli::try_parse_from(["visage", "--token", "hush", "info"]).unwrap();
        assert!(!format!("{cli:?}").contains("hush"));
    }

    #[test]
    fn wrong_usage_is_code_2() {
        for bad in
            [&["visage", "watch", "--since", "1m", "--resume", "x"][..], &["visage", "enroll"], &["visage", "nonsense"]]
        {
            let error = Cli::try_parse_from(bad).expect_err("accepted");
            assert_eq!(error.exit_code(), i32::from(error::USAGE), "{bad:?}");
        }
    }
}
