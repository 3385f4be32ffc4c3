//! `workspace unlock`: a lock is taken back.

use std::process::ExitCode;

use jiff::Timestamp;

use super::decision::{self, DecisionArgs};
use super::lock::say;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::Selector;
use crate::upkeep::lock;

/// Take back the lock on a version
///
/// A legal hold, or a lock in governance mode (which needs the right `s3:BypassGovernanceRetention`). What other locks need stays
/// locked. One in compliance mode ends with its time alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  workspace unlock myapp@7")]
pub struct Args {
    /// The version: NAME@7, NAME@TAG; NAME is the current one
    #[arg(value_name = "NAME@VERSION")]
    selector: Selector,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let store = decision::open(context, args.decision, std::slice::from_ref(&args.selector.name)).await?;
    let report = lock::unlock(&store, &args.selector, Timestamp::now()).await?;
    say(output, &report, args.decision.json, "is unlocked")?;
    output.hint(&format!("`workspace retention {}` decides how long it is kept", report.workspace));
    Ok(Exit::Success.into())
}
