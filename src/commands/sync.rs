//! `workspace sync`: the same publication, for CI.

use std::path::PathBuf;
use std::process::ExitCode;

use super::publication;
use crate::cli::Context;
use crate::names::Tag;
use crate::settings::Purpose;
use crate::source::SourceOptions;

/// Upload a folder from CI: never asks, records commit, branch and run
///
/// Publishes nothing, and succeeds, when the folder equals the current version (`unchanged`) or when the current version
/// comes from a later commit (`superseded`). The commit, branch and run come from GitHub Actions, GitLab or git.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace sync myapp .
  workspace sync myapp . --tag staging --json
  workspace sync myapp . --expect 7          only if version 7 is current")]
pub struct Args {
    /// Name of the workspace: a-z, 0-9, `.`, `_`, `-`
    name: String,
    /// Folder to upload
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Take lock files even when an ignore rule excludes them
    #[arg(long)]
    include_lock: bool,
    /// What this version is about
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Let this tag name the version
    #[arg(long, value_name = "TAG")]
    tag: Option<Tag>,
    /// Publish only if this is the current version's number; 0 for a workspace that isn't there yet
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    writer: publication::WriterArgs,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let name = publication::name(context, &args.name)?;
    let source = SourceOptions { include_lock: args.include_lock };
    let mut publication = publication::of_folder(context, name, args.folder, source);
    publication.message = args.message;
    publication.tag = args.tag;
    publication.expect = args.expect;
    publication.supersede = true;
    publication::run(context, publication, Purpose::Unattended, &args.writer, args.json).await
}
