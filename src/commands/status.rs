//! `workspace status`: inside a container, what runs there and how it is; with `--settings`, what is configured.

mod follow;
mod settings;

use std::process::ExitCode;

use serde::Serialize;

use super::health::judge;
use crate::cli::Context;
use crate::failure::Exit;
use crate::output::relative_time;
use crate::run::hide_memory;
use crate::run::state::{State, StateDir};

/// Show what runs in this container, or what is configured
#[derive(Debug, clap::Args)]
pub struct Args {
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
    let state = StateDir::of(&context.environment).read()?;
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
