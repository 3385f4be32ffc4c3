//! `workspace download`.

use std::process::ExitCode;

use crate::cli::Context;

/// download
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(_context: &Context, _args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
