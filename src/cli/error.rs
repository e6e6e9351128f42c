//! The one place where the client turns errors into words, hints and exit codes.
//!
//! In: a [`tonic::Status`] with `google.rpc` details, a transport error, an I/O error, or a local tool's error.
//! Out: message, causes, violations and a hint on stderr (or one JSON object), and an exit code.

use std::{error::Error, fmt, io, io::Write};

use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::api::code::code_name;

/// Done, nothing to complain about.
pub const OK: u8 = 0;
/// Something failed.
pub const FAILED: u8 = 1;
/// The command line was wrong (clap exits with the same code).
pub const USAGE: u8 = 2;
/// Some pictures were refused, the rest is done.
pub const PARTLY: u8 = 3;
/// The answer is no: different people, or a server that does not serve.
pub const NO: u8 = 4;
/// The server could not be reached.
pub const UNREACHABLE: u8 = 5;

/// A field that the server refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `camera.url`; empty when no field is meant.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// An error ready to be shown: what happened, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code of the process.
    pub exit: u8,
    /// Stable word for programs: the gRPC code, or `FAILED`, `USAGE`.
    pub code: String,
    /// What happened, one sentence.
    pub message: String,
    /// Why, outermost cause first.
    pub causes: Vec<String>,
    /// Refused fields.
    pub violations: Vec<Violation>,
    /// What to do about it.
    pub hint: Option<String>,
    /// End without a word: the reader of stdout is gone.
    pub quiet: bool,
}

/// What a command returns: its exit code, or why it failed.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure (exit code 1) with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            exit: FAILED,
            code: "FAILED".into(),
            message: message.into(),
            causes: Vec::new(),
            violations: Vec::new(),
            hint: None,
            quiet: false,
        }
    }

    /// A wrong command line (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, code: "USAGE".into(), ..Self::new(message) }
    }

    /// No server at `address` (exit code 5).
    pub fn unreachable(address: &str, cause: &(dyn Error + 'static)) -> Self {
        let causes = news("", texts_of(Some(cause)));
        let (message, hint) = if causes.iter().any(|text| text.contains("invalid peer certificate")) {
            let hint = "--ca-file must be of the authority that signed it, and the address one of the names in it";
            (format!("the server's certificate is not trusted: {address}"), hint)
        } else {
            (format!("no server at {address}"), "start one with `visage serve`, or name another with --server")
        };
        Self { exit: UNREACHABLE, code: "UNAVAILABLE".into(), causes, ..Self::new(message) }.hint(hint)
    }

    /// With advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the chain of causes of `error`, itself included.
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        self.causes = news(&self.message, texts_of(Some(error)));
        self
    }

    /// With the server's address, if the failure is that it could not be reached.
    pub fn at(mut self, address: &str) -> Self {
        if self.exit == UNREACHABLE {
            self.message = format!("lost the server at {address}: {}", self.message);
        }
        self
    }

    /// Writes the failure for people, or with `as_json` as one JSON object.
    pub fn render(&self, out: &mut dyn Write, as_json: bool, colour: bool) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        if as_json {
            return self.render_json(out);
        }
        let (red, cyan, plain) = if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let repeated = |v: &&Violation| self.message.contains(&v.description);
        let mut violations: Vec<&Violation> = self.violations.iter().filter(|v| !repeated(v)).collect();
        let mut message = self.message.clone();
        // Several values in one sentence are hard to read: a line each instead.
        if violations.is_empty() && self.violations.len() > 1 {
            message = format!("the server refuses {} values", self.violations.len());
            violations = self.violations.iter().collect();
        }
        writeln!(out, "{red}error:{plain} {message}")?;
        for cause in &self.causes {
            writeln!(out, "  because: {cause}")?;
        }
        for Violation { field, description } in violations {
            match field.as_str() {
                "" => writeln!(out, "  - {description}")?,
                _ => writeln!(out, "  - {field}: {description}")?,
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "{cyan}hint:{plain} {hint}")?;
        }
        Ok(())
    }

    fn render_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let violations: Vec<_> =
            self.violations.iter().map(|v| json!({"field": v.field, "description": v.description})).collect();
        let mut error = json!({"code": self.code, "message": self.message, "violations": violations});
        if let Some(fields) = error.as_object_mut() {
            if let Some(hint) = &self.hint {
                fields.insert("hint".into(), hint.clone().into());
            }
            if !self.causes.is_empty() {
                fields.insert("causes".into(), self.causes.clone().into());
            }
        }
        writeln!(out, "{}", json!({ "error": error }))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// The texts of `error` and its sources, outermost first.
fn texts_of(mut error: Option<&(dyn Error + 'static)>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(this) = error {
        texts.push(this.to_string());
        error = this.source();
    }
    texts
}

/// The texts that say something new after `message`: one that was said already, also as a part of another, is left out.
fn news(message: &str, texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut new: Vec<String> = Vec::new();
    for text in texts {
        if !message.contains(&text) && !new.iter().any(|said| said.contains(&text)) {
            new.push(text);
        }
    }
    new
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let mut violations: Vec<Violation> = Vec::new();
        let bad = details.bad_request().map(|d| d.field_violations.as_slice()).unwrap_or_default();
        violations.extend(bad.iter().map(|v| Violation { field: v.field.clone(), description: v.description.clone() }));
        let quota = details.quota_failure().map(|d| d.violations.as_slice()).unwrap_or_default();
        violations
            .extend(quota.iter().map(|v| Violation { field: v.subject.clone(), description: v.description.clone() }));
        let repairs = details.precondition_failure().map(|d| d.violations.as_slice()).unwrap_or_default();
        let mut hints = news(status.message(), repairs.iter().map(|v| v.description.clone()));
        if let Some(delay) = details.retry_info().and_then(|d| d.retry_delay) {
            hints.push(format!("try again in {:.1} s", delay.as_secs_f64()));
        }
        if hints.is_empty() && status.code() == Code::Unauthenticated {
            hints.push("pass the token with --token or VISAGE_TOKEN".into());
        }
        // A status that tonic made from a broken connection carries the transport's error as source.
        let lost = status.code() == Code::Unavailable && status.source().is_some();
        if lost && hints.is_empty() {
            hints.push("start one with `visage serve`, or name another with --server".into());
        }
        let message = if status.message().is_empty() { code_name(status.code()) } else { status.message() };
        Self {
            exit: if lost { UNREACHABLE } else { FAILED },
            code: code_name(status.code()).into(),
            causes: news(message, texts_of(status.source())),
            violations,
            hint: (!hints.is_empty()).then(|| hints.join("; ")),
            ..Self::new(message)
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        Self { quiet, exit: if quiet { OK } else { FAILED }, ..Self::new(error.to_string()) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Failure>() {
            Ok(failure) => return failure,
            Err(error) => error,
        };
        if error.chain().any(|c| c.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)) {
            return io::Error::from(io::ErrorKind::BrokenPipe).into();
        }
        let message = error.to_string();
        Self { causes: news(&message, error.chain().skip(1).map(ToString::to_string)), ..Self::new(message) }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::ErrorDetails;

    use super::*;

    fn text(failure: &Failure, as_json: bool) -> String {
        let mut out = Vec::new();
        failure.render(&mut out, as_json, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn field_violations_come_one_a_line() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("camera.url", "`nonsense` is no URL");
        details.add_bad_request_violation("camera.sampling.idle_fps", "must be at most 30");
        let status = Status::with_error_details(Code::InvalidArgument, "the camera is invalid", details);
        let failure = Failure::from(status);
        assert_eq!(failure.exit, FAILED);
        assert_eq!(
            text(&failure, false),
            "error: the camera is invalid\n  - camera.url: `nonsense` is no URL\n  - camera.sampling.idle_fps: must be at most 30\n"
        );
        let value: serde_json::Value = serde_json::from_str(&text(&failure, true)).unwrap();
        assert_eq!(value["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(value["error"]["message"], "the camera is invalid");
        assert_eq!(value["error"]["violations"][0]["field"], "camera.url");
    }

    #[test]
    fn a_precondition_becomes_a_hint() {
        let mut details = ErrorDetails::new();
        details.add_precondition_failure_violation("MODEL", "dlib-resnet", "run `visage models pull dlib-resnet`");
        let status = Status::with_error_details(Code::FailedPrecondition, "the model is missing", details);
        assert_eq!(
            text(&status.into(), false),
            "error: the model is missing\nhint: run `visage models pull dlib-resnet`\n"
        );
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("camera.url", "is not a URL");
        let one = Status::with_error_details(Code::InvalidArgument, "camera.url: is not a URL", details.clone());
        let failure = Failure::from(one);
        assert_eq!(text(&failure, false), "error: camera.url: is not a URL\n");
        let value: serde_json::Value = serde_json::from_str(&text(&failure, true)).unwrap();
        assert_eq!(value["error"]["violations"][0]["field"], "camera.url", "programs still get the field");
        details.add_bad_request_violation("camera.labels", "at most 64");
        let message = "camera.url: is not a URL; camera.labels: at most 64";
        let two = Status::with_error_details(Code::InvalidArgument, message, details);
        assert_eq!(
            text(&two.into(), false),
            "error: the server refuses 2 values\n  - camera.url: is not a URL\n  - camera.labels: at most 64\n"
        );
        let mut details = ErrorDetails::new();
        details.add_precondition_failure_violation("NO_FRAME", "cameras/x", "camera x has no frame to show");
        let status = Status::with_error_details(Code::FailedPrecondition, "camera x has no frame to show", details);
        assert_eq!(text(&status.into(), false), "error: camera x has no frame to show\n");
        let error = anyhow::anyhow!("address in use").context("127.0.0.1:1: address in use; choose another");
        assert_eq!(
            text(&error.context("the server did not start").into(), false),
            "error: the server did not start\n  because: 127.0.0.1:1: address in use; choose another\n"
        );
    }

    #[test]
    fn a_broken_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.quiet && failure.exit == OK);
        assert_eq!(text(&failure, false), "");
        let through = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing");
        assert!(Failure::from(through).quiet);
    }

    #[test]
    fn causes_of_local_errors_are_kept() {
        let error = anyhow::anyhow!("disk full").context("cannot write model");
        assert_eq!(text(&error.into(), false), "error: cannot write model\n  because: disk full\n");
    }

    #[test]
    fn an_application_that_is_unavailable_is_not_unreachable() {
        assert_eq!(Failure::from(Status::unavailable("busy")).exit, FAILED);
    }
}
