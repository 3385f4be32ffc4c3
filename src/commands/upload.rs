//! `workspace upload`: the folder becomes the next version.

use std::process::ExitCode;

use super::publication::{self, Report, SourceArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::output::{escape, size};
use crate::publish::{self, Preview};
use crate::settings::Purpose;

/// Upload a folder as the next version of a workspace
///
/// In a git work tree, tracked files go, and untracked ones that nothing ignores. Elsewhere `.gitignore` files and
/// defaults (`node_modules/`, `dist/`, `*.log`, …) decide. `.env` files and private keys never go unless `.workspaceignore`
/// takes them back with `!`. Nothing is written when the folder equals the current version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace upload myapp                      this folder
  workspace upload myapp ./app -m 'New logo'  another folder, with a message
  workspace upload myapp . --wait=5m          until the hosts serve it, at most five minutes
  workspace upload myapp . --dry-run          what would go, and what would not")]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Only list what would go and what would not
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let source = args.source;
    let publication = publication::of(context, &source)?;
    if args.dry_run {
        return dry_run(context, &publish::preview(&publication.folder, publication.source)?, source.json);
    }
    publication::run(context, publication, Purpose::Interactive, &source).await
}

fn dry_run(context: &Context, preview: &Preview, json: bool) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    for warning in &preview.warnings {
        output.warn(warning);
    }
    let bytes: u64 = preview.entries.iter().map(|(_, bytes)| bytes).sum();
    if json {
        let files: Vec<_> =
            preview.entries.iter().map(|(path, bytes)| serde_json::json!({"path": path, "bytes": bytes})).collect();
        output.json(&serde_json::json!({
            "files": files,
            "bytes": bytes,
            "excluded": Report::excluded(&preview.excluded),
            "runtime": preview.plan.as_ref().map(|plan| plan.runtime.to_string()),
        }))?;
        return Ok(Exit::Success.into());
    }
    for (path, _) in &preview.entries {
        output.data(&escape(path));
    }
    for excluded in &preview.excluded {
        output.note(&format!("- {} ({})", escape(&excluded.path), excluded.rule));
    }
    output.note(&format!(
        "Would upload {} files ({}), and leave out {} entries",
        preview.entries.len(),
        size(bytes),
        preview.excluded.len()
    ));
    Ok(Exit::Success.into())
}
