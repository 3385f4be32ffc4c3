//! `workspace list`: what there is.

use std::process::ExitCode;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::failure::Exit;
use crate::format::keys;
use crate::names::WorkspaceName;
use crate::output::{relative_time, size};
use crate::settings::Purpose;
use crate::store::StoreError;
use crate::version::{self, Read, VersionError};

/// How many refs are read at once.
const AT_ONCE: usize = 32;

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
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (_, store) = context.store(Purpose::Interactive).await?;
    let objects = match store.list(keys::REFS).await {
        // A bucket that the first upload will create has nothing in it.
        Err(StoreError::NoBucket { bucket }) => {
            output.note(&format!("the bucket `{bucket}` does not exist yet; the first upload creates it"));
            Vec::new()
        }
        other => other?,
    };
    let mut names = Vec::with_capacity(objects.len());
    for object in &objects {
        match keys::name_of_reference(&object.key) {
            Some(name) => names.push(name),
            None => output.warn(&format!("`{}` is no ref of ours and is skipped", object.key)),
        }
    }
    let reads = names.into_iter().map(|name| {
        let store = &store;
        async move {
            let read = version::read_reference(store, &name).await;
            (name, read)
        }
    });
    let mut listed = Vec::new();
    let mut reads = stream::iter(reads).buffered(AT_ONCE);
    while let Some((name, read)) = reads.next().await {
        match read {
            Ok(Some(read)) => listed.extend(of(&name, &read)),
            Ok(None) => {}
            // One that can't be read must not hide the others.
            Err(error @ VersionError::Object { .. }) => {
                let reason = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                output.warn(&format!("{error}{reason}; it is skipped"));
            }
            Err(error) => return Err(error.into()),
        }
    }
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
            ]
        })
        .collect();
    output.table(&["NAME", "VERSION", "FILES", "SIZE", "RUNTIME", "UPDATED", "TAGS"], &rows);
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
    })
}
