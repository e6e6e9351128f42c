//! The binary: arguments, logs and exit code live in [`visage::cli`]; here is only the runtime.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    visage::cli::main().await
}
