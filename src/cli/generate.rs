//! Shell completions and man pages, from the same definitions as the command line itself.

use std::{fs, path::PathBuf};

use clap::CommandFactory;

use super::{
    Cli,
    error::{Failure, OK, Outcome},
    output::Io,
};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write one page a subcommand into this folder instead of the main page to stdout.
    #[arg(short = 'o', long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub fn completions(args: &CompletionArgs, io: &mut Io<'_>) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "visage", &mut script);
    io.out.write_all(&script)?;
    Ok(OK)
}

/// Prints the man page, or writes all pages into a folder.
pub fn man(args: &ManArgs, io: &mut Io<'_>) -> Outcome {
    match &args.out {
        Some(dir) => {
            let failed = |e: std::io::Error| Failure::new(format!("cannot write to {}", dir.display())).because(&e);
            fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            io.out.write_all(&page)?;
        }
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_and_man_name_the_commands() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, json: false, colour: false, progress: false };
        completions(&CompletionArgs { shell: clap_complete::Shell::Bash }, &mut io).unwrap();
        man(&ManArgs { out: None }, &mut io).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("identify") && text.contains(".TH") && text.contains("EXIT CODES"));
    }
}
