//! `workspace health`: whether the application in this container answers.

use std::process::ExitCode;

use crate::cli::Context;
use crate::failure::Exit;
use crate::run::state::{Phase, State, StateDir};
use crate::run::{Target, hide_memory, is_alive, probe, what_listens};

/// Say whether the application in this container answers
///
/// Ends with 0 when it does and with 1 when it doesn't. For a container's health check.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(context: &Context, _args: Args) -> anyhow::Result<ExitCode> {
    // The application may read the environment of any process of its user, and the container's is ours too.
    hide_memory();
    let state = match StateDir::of(&context.environment).read() {
        Ok(state) => state,
        Err(error) => {
            context.output.data(&format!("unhealthy: {error}"));
            return Ok(Exit::Failure.into());
        }
    };
    let (healthy, line) = judge(&state).await;
    context.output.data(&line);
    Ok(if healthy { Exit::Success.into() } else { Exit::Failure.into() })
}

/// Whether what the state describes answers, and one line that says so.
pub async fn judge(state: &State) -> (bool, String) {
    let seconds = (jiff::Timestamp::now() - state.since).total(jiff::Unit::Second).unwrap_or_default();
    if !is_alive(state.supervisor) {
        return (false, format!("unhealthy: nothing runs here any more; the last phase was {}", state.phase.as_str()));
    }
    if state.phase == Phase::Ready && state.port.is_none() {
        // Its end would end the supervisor: there is nothing else to ask.
        return (true, format!("ready: `{}` of {} is up", state.process, state.selector));
    }
    let Some(port) = state.port.filter(|_| state.phase == Phase::Ready) else {
        let why = state.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        return (false, format!("not ready: {} for {seconds:.0} s{why}", state.phase.as_str()));
    };
    match probe(&Target { port, health: state.health.clone() }).await {
        Ok(()) => (true, format!("ready: {} answers on port {port}", state.selector)),
        Err(reason) => {
            let listening = what_listens().map(|list| format!("; {list}")).unwrap_or_default();
            (false, format!("unhealthy: {reason}{listening}"))
        }
    }
}
