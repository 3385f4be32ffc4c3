//! `workspace delete`: a workspace and all its versions go.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::gc::warn_hidden;
use super::interrupt;
use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::{Exit, NeedsYes};
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::output::{count, size};
use crate::publish;
use crate::settings::Purpose;
use crate::store::bucket::WriteConsent;
use crate::version;

/// Delete a workspace with all its versions
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Write to a server without conditional writes: nobody else writes at the same time
    #[arg(long)]
    single_writer: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let name = args.name;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let cache = Cache::at(settings.cache_directory);
    match version::existing_reference(&store, &name).await {
        Ok(read) if !args.yes => {
            let row = read.reference.current_row();
            let (files, bytes) = row.map_or((0, 0), |row| (row.files, row.bytes));
            let question = format!(
                "Delete `{name}` from {}: {}, the current one with {} ({})?",
                store.location(),
                count(read.reference.rows.len() as u64, "version"),
                count(files, "file"),
                size(bytes)
            );
            if !output.can_ask() {
                return Err(NeedsYes { question }.into());
            }
            if !output.confirm(&question) {
                output.note("Nothing was deleted");
                return Ok(Exit::Failure.into());
            }
        }
        Ok(_) => {}
        // What a killed deletion or a killed first upload left behind is removed.
        Err(error) => match version::read_reference(&store, &name).await {
            Ok(Some(read)) if !read.reference.is_visible() => {}
            _ => return Err(error.into()),
        },
    }
    let hosts = Hosts::read(&store, Timestamp::now()).await?;
    for routed in hosts.routed_to(&name) {
        output.warn(&format!("the traffic of {routed} goes to {name}: its own release answers from now on"));
    }
    let consent = WriteConsent { yes: false, single_writer: args.single_writer, ask: &|_| false };
    let bucket = publish::open_known(&store, &cache, &consent).await?;
    let work = publish::remove(&store, &name, bucket.record.delete_if_match);
    let Some(removed) = interrupt::unless(context, &AtomicBool::new(false), work).await else {
        output.note(&format!("Interrupted; `workspace delete {name}` finishes it"));
        return Ok(Exit::Interrupted.into());
    };
    let removed = removed?;
    warn_hidden(output, &name, removed.hidden);
    if let Some(first) = removed.refused.first() {
        let number = count(removed.refused.len() as u64, "object");
        output.warn(&format!("the server keeps {number}, such as `{first}`: locked, or not allowed"));
    }
    if args.json {
        output.json(&removed)?;
    }
    output.note(&format!(
        "Deleted {name} ({}, {}, {}) from {}",
        count(removed.versions as u64, "version"),
        count(removed.objects as u64, "object"),
        size(removed.bytes),
        store.location()
    ));
    if hosts.iter().any(|seen| seen.host.workspaces.contains_key(&name)) {
        output.note(&format!(
            "Hosts take it down within seconds; volumes that it kept on purpose stay there as workspace-{name}-Data-…"
        ));
        output.hint("`workspace confirm-removals`, when most workspaces were deleted at once: hosts ask back then");
    }
    Ok(Exit::Success.into())
}
