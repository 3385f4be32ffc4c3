//! `workspace sync`: the same publication, for CI.

use std::process::ExitCode;

use super::publication::{self, SourceArgs};
use crate::cli::Context;
use crate::settings::Purpose;

/// Upload a folder from CI: never asks, records commit, branch and run
///
/// Publishes nothing, and succeeds, when the folder equals the current version (`unchanged`) or when the current version
/// comes from a later commit (`superseded`). The commit, branch and run come from GitHub Actions, GitLab or git.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace sync myapp .
  workspace sync myapp . --tag staging --json
  workspace sync myapp . --wait              until the hosts serve it
  workspace sync myapp . --strict            not if there is anything to warn of
  workspace sync myapp . --expect 7          only if version 7 is current")]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Publish only if this is the current version's number; 0 for a workspace that isn't there yet
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let mut publication = publication::of(context, &args.source)?;
    publication.expect = args.expect;
    publication.supersede = true;
    publication::run(context, publication, Purpose::Unattended, &args.source).await
}
