//! The binary: arguments, logs and exit code live in [`visage::cli`]; here is only the runtime.

use std::{process::ExitCode, time::Duration};

/// How long blocking work may go on after the command has ended.
const LINGER: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(visage::cli::main());
    runtime.shutdown_timeout(LINGER);
    code
}
