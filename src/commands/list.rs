//! `workspace list`: what there is.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::WorkspaceName;
use crate::output::{relative_time, size};
use crate::settings::Purpose;
use crate::store::StoreError;
use crate::version::{self, Read, VersionError};

/// List the workspaces in the bucket
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// A workspace, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    version: u64,
    id: String,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    tags: Vec<String>,
    versions: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stopped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
}

impl Listed {
    /// What was decided about it, beside what is published.
    fn state(&self) -> String {
        match (&self.route, self.stopped) {
            (Some(route), true) => format!("stopped, routed to {route}"),
            (Some(route), false) => format!("routed to {route}"),
            (None, true) => "stopped".to_owned(),
            (None, false) => "-".to_owned(),
        }
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let cache = Cache::at(settings.cache_directory);
    let (references, skipped) = match version::all_references_cached(&store, &cache).await {
        // A bucket that the first upload will create has nothing in it.
        Err(VersionError::Store(StoreError::NoBucket { bucket })) => {
            output.note(&format!("the bucket `{bucket}` does not exist yet; the first upload creates it"));
            Default::default()
        }
        other => other?,
    };
    for skipped in &skipped {
        output.warn(&skipped.to_string());
    }
    let listed: Vec<Listed> = references.iter().filter_map(|(name, read)| of(name, read)).collect();
    if args.json {
        output.json(&listed)?;
        return Ok(Exit::Success.into());
    }
    if listed.is_empty() {
        output.note(&format!("no workspaces in {}", store.location()));
        output.hint("`workspace upload NAME DIR` makes one");
        return Ok(Exit::Success.into());
    }
    let now = Timestamp::now();
    let people = output.stdout_is_terminal();
    let rows: Vec<Vec<String>> = listed
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.version.to_string(),
                row.files.to_string(),
                if people { size(row.bytes) } else { row.bytes.to_string() },
                row.runtime.clone().unwrap_or_else(|| "-".to_owned()),
                if people { relative_time(row.created, now) } else { row.created.to_string() },
                if row.tags.is_empty() { "-".to_owned() } else { row.tags.join(",") },
                row.state(),
            ]
        })
        .collect();
    output.table(&["NAME", "VERSION", "FILES", "SIZE", "RUNTIME", "UPDATED", "TAGS", "STATE"], &rows);
    Ok(Exit::Success.into())
}

fn of(name: &WorkspaceName, read: &Read) -> Option<Listed> {
    let reference = &read.reference;
    let row = reference.current_row().filter(|_| reference.is_visible())?;
    Some(Listed {
        name: name.to_string(),
        version: row.number,
        id: row.id.to_string(),
        files: row.files,
        bytes: row.bytes,
        runtime: row.runtime.clone(),
        created: row.created,
        author: row.author.clone(),
        message: row.message.clone(),
        commit: row.commit.clone(),
        tags: row.tags.iter().map(ToString::to_string).collect(),
        versions: reference.rows.len(),
        stopped: reference.stopped,
        route: reference.route.as_ref().filter(|route| *route != name).map(ToString::to_string),
    })
}
