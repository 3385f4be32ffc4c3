//! `workspace download`: a folder becomes equal to a version.

mod from_url;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;

use super::interrupt;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{CheckoutOptions, Fetcher};
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::Selector;
use crate::output::{Output, count, escape, size};
use crate::settings::Purpose;

/// Fetch a version into a folder
///
/// Files that are already right are kept. Files that the folder has and workspace did not write are never overwritten or
/// removed without --force. Interrupted, the same command goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace download myapp               the current version, into ./myapp
  workspace download myapp@7 ./copy      version 7
  workspace download myapp@v2.0 ./copy --delete
  workspace download --from-url 'https://…' ./copy       without keys, from a URL of `workspace presign`
  workspace presign myapp | workspace download --from-url - ./copy")]
#[command(override_usage = "workspace download [OPTIONS] <NAME[@VERSION]> [DIR]
       workspace download [OPTIONS] --from-url <URL> <DIR>")]
pub struct Args {
    /// What to fetch: NAME, NAME@NUMBER or NAME@TAG; not with --from-url
    #[arg(value_name = "NAME[@VERSION]")]
    first: String,
    /// Folder to write to [default: ./NAME]
    #[arg(value_name = "DIR", conflicts_with = "from_url")]
    folder: Option<PathBuf>,
    /// Fetch what this URL of `workspace presign` leads to; `-` reads it from standard input, where no list of processes
    /// shows it
    #[arg(long, value_name = "URL")]
    from_url: Option<String>,
    /// Remove what an earlier download wrote and this version no longer has
    #[arg(long)]
    delete: bool,
    /// Overwrite files that are not ours or were edited
    #[arg(long)]
    force: bool,
    /// Make links that point out of the folder
    #[arg(long)]
    allow_external_links: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What was done, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    version: u64,
    id: String,
    folder: PathBuf,
    files: u64,
    bytes: u64,
    written: u64,
    written_bytes: u64,
    kept: u64,
    removed: u64,
    left: Vec<String>,
    requests: u64,
    received_bytes: u64,
    location: String,
    seconds: f64,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let output = &context.output;
    let options = CheckoutOptions {
        delete: args.delete,
        force: args.force,
        allow_external_links: args.allow_external_links,
        allow_repositories: false,
    };
    if let Some(url) = args.from_url {
        return from_url::run(context, url, &PathBuf::from(args.first), options, args.json).await;
    }
    let selector: Selector = args.first.parse()?;
    let folder = args.folder.unwrap_or_else(|| PathBuf::from(selector.name.as_str()));
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let cache = Cache::at(settings.cache_directory);
    let fetcher = Fetcher { store: &store, cache: &cache, budget: &Budget::default(), observer: output.observer() };
    let work = fetcher.checkout(&selector, &folder, options);
    let Some(report) = interrupt::unless(context, &AtomicBool::new(false), work).await else {
        output.note("Interrupted; the same command goes on where it stopped");
        return Ok(Exit::Interrupted.into());
    };
    let report = report?;
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        output.json(&Report {
            name: selector.name.to_string(),
            version: report.row.number,
            id: report.row.id.to_string(),
            folder: folder.clone(),
            files: report.row.files,
            bytes: report.row.bytes,
            written: report.written,
            written_bytes: report.written_bytes,
            kept: report.kept,
            removed: report.removed,
            left: report.left.clone(),
            requests: report.requests.requests,
            received_bytes: report.requests.received,
            location: store.location(),
            seconds,
        })?;
    }
    say_left(output, &report.left, args.delete);
    output.note(&format!(
        "Downloaded {}@{} ({}, {}) into {} in {seconds:.1}s: {} written, {} kept, {} removed, {} received from {}",
        selector.name,
        report.row.number,
        count(report.row.files, "file"),
        size(report.row.bytes),
        folder.display(),
        report.written,
        report.kept,
        report.removed,
        size(report.requests.received),
        store.location(),
    ));
    Ok(Exit::Success.into())
}

/// What stayed although the version doesn't have it.
fn say_left(output: &Output, left: &[String], delete: bool) {
    let Some(first) = left.first() else { return };
    let advice = if delete { "they were edited; `--force` removes them" } else { "`--delete` removes them" };
    let more = if left.len() > 1 { format!(" and {} more", left.len() - 1) } else { String::new() };
    output.note(&format!("Left in place, though the version no longer has them: {}{more}; {advice}", escape(first)));
}
