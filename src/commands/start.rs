//! `workspace start`: takes `workspace stop` back.

use std::process::ExitCode;

use super::decision::DecisionArgs;
use super::stop;
use crate::cli::Context;
use crate::names::WorkspaceName;

/// Start workspaces that were stopped
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of workspaces
    #[arg(value_name = "NAME", required = true)]
    names: Vec<WorkspaceName>,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    stop::set(context, args.names, args.decision, false).await
}
