//! `workspace status --follow --json`: the state now and at each change, as lines, for whoever waits outside.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use super::Report;
use crate::cli::Context;
use crate::commands::health::judge;
use crate::failure::Exit;
use crate::run::is_alive;
use crate::run::state::{Phase, State, StateDir, StateError};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(40);
/// How long the file may be missing: a container that has just started has none.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long a line comes without a change, which finds out whether anybody reads them.
const BEAT: Duration = Duration::from_secs(5);

/// Follows the state until its supervisor is gone.
pub async fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let state_dir = StateDir::of(&context.environment);
    let mut state = first(&state_dir).await?;
    say(context, &state, assumed(&state))?;
    let mut said = Instant::now();
    loop {
        // The look comes last, so that what it wrote before its end is said, too.
        let alive = is_alive(state.supervisor);
        if let Some(changed) = look(&state_dir, &state) {
            state = changed;
            say(context, &state, assumed(&state))?;
            said = Instant::now();
        } else if !alive {
            return Ok(Exit::Success.into());
        } else if said.elapsed() >= BEAT {
            // An application that hangs must not keep a change from being seen.
            tokio::select! {
                judged = judge(&state) => {
                    say(context, &state, judged)?;
                    said = Instant::now();
                }
                () = changed(&state_dir, &state) => {}
            }
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn first(state_dir: &StateDir) -> Result<State, StateError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match state_dir.read() {
            Err(StateError::Absent { .. }) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            other => return other,
        }
    }
}

/// The state, if it is another one than it was.
fn look(state_dir: &StateDir, before: &State) -> Option<State> {
    state_dir.read().ok().filter(|state| state != before)
}

async fn changed(state_dir: &StateDir, before: &State) {
    while look(state_dir, before).is_none() {
        tokio::time::sleep(LOOK).await;
    }
}

/// What the supervisor's own word comes to, without asking the application: it has just done so.
fn assumed(state: &State) -> (bool, String) {
    match (&state.error, state.phase) {
        (_, Phase::Ready) => (true, format!("ready: {}", state.selector)),
        (Some(error), phase) => (false, format!("not ready: {}: {error}", phase.as_str())),
        (None, phase) => (false, format!("not ready: {}", phase.as_str())),
    }
}

fn say(context: &Context, state: &State, (healthy, detail): (bool, String)) -> anyhow::Result<()> {
    let line = serde_json::to_string(&Report { state: state.clone(), healthy, detail })?;
    context.output.data(&line);
    Ok(())
}
