//! `workspace status`: what the hosts run; inside a container, what runs there; with `--settings`, what is configured.

mod follow;
mod hosts;
mod settings;

use std::process::ExitCode;

use serde::Serialize;

use super::health::judge;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::WorkspaceName;
use crate::output::relative_time;
use crate::run::hide_memory;
use crate::run::state::{State, StateDir, StateError};

/// Show what the hosts run; or, in a container, what runs there; or what is configured
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace status                          all workspaces, on all hosts
  workspace status myapp                    one of them
  docker exec workspace-myapp workspace status   what the container itself says
  workspace status --settings               what is configured, and from where")]
pub struct Args {
    /// Only these workspaces
    #[arg(value_name = "NAME", conflicts_with_all = ["settings", "follow"])]
    pub names: Vec<WorkspaceName>,
    /// Show each setting, where it comes from, and whether the store answers
    #[arg(long)]
    pub settings: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// One line of JSON now, on each change, and every 5 s, until nothing runs here any more
    #[arg(long, requires = "json", conflicts_with = "settings")]
    pub follow: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    state: State,
    healthy: bool,
    detail: String,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    if args.settings {
        return settings::run(context, args.json).await;
    }
    hide_memory();
    if args.follow {
        return follow::run(context).await;
    }
    let state = StateDir::of(&context.environment).read();
    // One that has ended, outside of a container, says nothing about here and now.
    let ended = state.as_ref().is_ok_and(|state| !is_running(state.supervisor));
    let in_container = !ended && !matches!(state, Err(StateError::Absent { .. }));
    if !in_container || !args.names.is_empty() {
        return hosts::run(context, &args.names, args.json, in_container).await;
    }
    let state = state?;
    let (healthy, detail) = judge(&state).await;
    if args.json {
        context.output.json(&Report { state, healthy, detail })?;
        return Ok(Exit::Success.into());
    }
    let version = state.version.map_or_else(|| "not known yet".to_owned(), |number| number.to_string());
    let since = relative_time(state.since, jiff::Timestamp::now());
    context.output.data(&format!("workspace  {}", state.selector));
    context.output.data(&format!("version    {version}"));
    context.output.data(&format!("phase      {}", state.phase.as_str()));
    context.output.data(&format!("since      {since} ({})", state.since));
    context.output.data(&format!("health     {detail}"));
    if let Some(port) = state.port {
        context.output.data(&format!("port       {port}"));
    }
    if let Some(error) = &state.error {
        context.output.data(&format!("error      {error}"));
    }
    Ok(Exit::Success.into())
}

fn is_running(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| {
        !matches!(rustix::process::test_kill_process(process), Err(error) if error == rustix::io::Errno::SRCH)
    })
}
