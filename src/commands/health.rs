//! `workspace health`: whether the application in this container answers, or the monitor.

use std::process::ExitCode;

use crate::cli::Context;
use crate::environment::WORKSPACE_MONITOR_ADDRESS;
use crate::failure::Exit;
use crate::output::escape;
use crate::run::state::{Phase, State, StateDir};
use crate::run::{Target, get, hide_memory, is_alive, probe, what_listens};

/// Where the monitor listens unless it is told otherwise.
const MONITOR: &str = "127.0.0.1:9191";

/// Say whether the application in this container answers
///
/// Ends with 0 when it does and with 1 when it doesn't. For a container's health check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask the monitor instead
    #[arg(long)]
    monitor: bool,
    /// Where the monitor listens [env: `WORKSPACE_MONITOR_ADDRESS`] [default: 127.0.0.1:9191]
    #[arg(long, value_name = "HOST:PORT", requires = "monitor")]
    address: Option<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    if args.monitor {
        let address = args.address.as_deref().or(context.environment.get(WORKSPACE_MONITOR_ADDRESS));
        return Ok(monitor(context, address.unwrap_or(MONITOR)).await);
    }
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

async fn monitor(context: &Context, address: &str) -> ExitCode {
    let (healthy, line) = match get(address, "/healthz").await {
        Ok((200, body)) => (true, body),
        Ok((status, body)) if body.is_empty() => (false, format!("unhealthy: the monitor answered {status}")),
        Ok((_, body)) => (false, body),
        Err(reason) => (false, format!("unhealthy: {reason}")),
    };
    context.output.data(&escape(&line));
    if healthy { Exit::Success.into() } else { Exit::Failure.into() }
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
            let listening = what_listens().map(|list| format!("; listening: {list}")).unwrap_or_default();
            (false, format!("unhealthy: {reason}{listening}"))
        }
    }
}
