//! `workspace stop`: hosts take workspaces down, and leave them down.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::decision::{self, DecisionArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::publish::{self, Changed};

/// Stop workspaces on all hosts
///
/// Every monitor takes them down; versions, volumes and tags stay. Uploads go on, and `workspace start` brings back whatever
/// is current then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace stop myapp
  workspace start myapp")]
pub struct Args {
    /// Names of workspaces
    #[arg(value_name = "NAME", required = true)]
    names: Vec<WorkspaceName>,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// What came of it, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    stopped: bool,
    changed: bool,
    version: u64,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    set(context, args.names, args.decision, true).await
}

/// `stop` and `start` differ in one bit.
pub async fn set(
    context: &Context,
    names: Vec<WorkspaceName>,
    args: DecisionArgs,
    stopped: bool,
) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let store = decision::open(context, args, &names).await?;
    let mut reports = Vec::with_capacity(names.len());
    let hosts = if stopped { Hosts::read(&store, Timestamp::now()).await? } else { Hosts::default() };
    for name in &names {
        for routed in hosts.routed_to(name) {
            output.warn(&format!("the traffic of {routed} goes to {name}: its own release answers from now on"));
        }
        let decided = publish::set_stopped(&store, name, stopped).await?;
        let changed = decided.changed == Changed::Yes;
        output.note(&match (stopped, changed) {
            (true, true) => format!("{name} is stopped: hosts take it down"),
            (true, false) => format!("unchanged: {name} is stopped already"),
            (false, true) => format!("{name} is started: hosts bring up version {}", decided.reference.current),
            (false, false) => format!("unchanged: {name} is not stopped"),
        });
        reports.push(Report { name: name.to_string(), stopped, changed, version: decided.reference.current });
    }
    if args.json {
        output.json(&reports)?;
    }
    let list = names.iter().map(WorkspaceName::as_str).collect::<Vec<_>>().join(" ");
    output.hint(&if stopped {
        format!("`workspace start {list}` takes it back; `workspace status {list}` shows what still runs")
    } else {
        format!("`workspace status {list}` shows how far it is")
    });
    Ok(Exit::Success.into())
}
