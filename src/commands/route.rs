//! `workspace route`: one workspace's traffic goes to another one, and back.

use std::process::ExitCode;

use serde::Serialize;

use super::decision::{self, DecisionArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::WorkspaceName;
use crate::publish::{self, Changed};

/// Send a workspace's traffic to another one, or back
///
/// Both run side by side under their own names; requests for the first one's domains are answered by the other. The other
/// one may not be routed elsewhere itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace route shop --to shop-green
  workspace route shop --back")]
#[group(id = "where", required = true, multiple = false, args = ["to", "back"])]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    /// Where its traffic shall go; its own name takes it back
    #[arg(long, value_name = "OTHER")]
    to: Option<WorkspaceName>,
    /// Back to itself
    #[arg(long)]
    back: bool,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// What came of it, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    /// None: to itself.
    route: Option<String>,
    changed: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let name = args.name;
    let to = args.to.filter(|to| *to != name);
    let store = decision::open(context, args.decision, std::slice::from_ref(&name)).await?;
    let decided = publish::set_route(&store, &name, to.as_ref()).await?;
    let changed = decided.changed == Changed::Yes;
    if args.decision.json {
        output.json(&Report { name: name.to_string(), route: to.as_ref().map(ToString::to_string), changed })?;
    }
    match (&to, changed) {
        (Some(to), true) => output.note(&format!("The traffic of {name} goes to {to}")),
        (Some(to), false) => output.note(&format!("unchanged: the traffic of {name} goes to {to} already")),
        (None, true) => output.note(&format!("The traffic of {name} goes to {name} again")),
        (None, false) => output.note(&format!("unchanged: {name} isn't routed elsewhere")),
    }
    match &to {
        Some(to) => output
            .hint(&format!("`workspace route {name} --back` takes it back; `workspace status {name} {to}` shows both")),
        None => output.hint(&format!("`workspace status {name}` shows where it answers")),
    }
    Ok(Exit::Success.into())
}
