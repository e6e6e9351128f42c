//! `visage health`: does the server serve? For probes and scripts: it needs no token.

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::client::connect;
use crate::cli::{
    Globals,
    error::{Failure, NO, OK, Outcome},
    output::Io,
};

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service, as visage.v1.RecognitionService; without one the server as a whole, which serves while it is ready.
    #[arg(value_name = "SERVICE", default_value = "")]
    service: String,
}

/// Runs `health`: exit code 0 where it serves, 4 where it does not, as while it starts or drains.
pub async fn run(args: Args, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    let request = HealthCheckRequest { service: args.service.clone() };
    let status = match server.health().check(request).await {
        Ok(answer) => answer.into_inner().status(),
        Err(status) if status.code() == Code::NotFound => {
            return Err(Failure::usage(format!("the server has no service {:?}", args.service))
                .hint("as visage.v1.CameraService, visage.v1.EventService, visage.v1.RecognitionService"));
        }
        Err(status) => return Err(status.into()),
    };
    let serves = status == ServingStatus::Serving;
    if io.json {
        io.object(&serde_json::json!({"service": args.service, "status": status.as_str_name()}))?;
    } else {
        io.line(if serves {
            "it serves"
        } else {
            "it does not serve; /readyz?verbose of its HTTP listener tells why"
        })?;
    }
    Ok(if serves { OK } else { NO })
}
