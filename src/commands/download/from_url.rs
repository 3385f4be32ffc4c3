//! `workspace download --from-url`: a tree from the URL of its archive, without keys and without a bucket.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use super::super::interrupt;
use crate::archive::{ArchiveUrl, Downloaded, FromUrl};
use crate::budget::Budget;
use crate::checkout::{CheckoutOptions, Placed};
use crate::cli::Context;
use crate::failure::Exit;
use crate::output::{count, size};

/// Stands for standard input.
const STDIN: &str = "-";
/// Most bytes of a URL that are read from there.
const MOST: u64 = 32 << 10;

/// What was done, for programs: these fields are an interface, as far as they go the same as without a URL.
#[derive(Debug, Serialize)]
struct Report {
    folder: PathBuf,
    files: u64,
    bytes: u64,
    tree: String,
    created: Timestamp,
    message: Option<String>,
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

/// Fetches what the URL leads to.
pub async fn run(
    context: &Context,
    url: String,
    folder: &Path,
    options: CheckoutOptions,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let output = &context.output;
    let url: ArchiveUrl = if url == STDIN { tokio::task::spawn_blocking(read).await??.parse()? } else { url.parse()? };
    let fetching = context.fetching()?;
    let budget = Budget::default();
    let work = FromUrl {
        limits: fetching.limits,
        ca_bundle: fetching.ca_bundle,
        budget: &budget,
        observer: output.observer(),
    };
    let work = work.download(&url, folder, options);
    let Some(outcome) = interrupt::unless(context, &AtomicBool::new(false), work).await else {
        output.note("Interrupted; the same command goes on where it stopped");
        return Ok(Exit::Interrupted.into());
    };
    let Downloaded { header, placed, requests } = outcome?;
    let seconds = began.elapsed().as_secs_f64();
    super::say_left(output, &placed.left, options.delete);
    let Placed { written, written_bytes, kept, removed, left } = placed;
    output.note(&format!(
        "Downloaded {} ({}) into {} in {seconds:.1}s: {written} written, {kept} kept, {removed} removed, {} received from {}",
        count(header.files, "file"),
        size(header.bytes),
        folder.display(),
        size(requests.received),
        url.endpoint(),
    ));
    if json {
        output.json(&Report {
            folder: folder.to_owned(),
            files: header.files,
            bytes: header.bytes,
            tree: header.tree.to_string(),
            created: header.created,
            message: header.message,
            written,
            written_bytes,
            kept,
            removed,
            left,
            requests: requests.requests,
            received_bytes: requests.received,
            location: url.endpoint().to_owned(),
            seconds,
        })?;
    }
    Ok(Exit::Success.into())
}

/// The first line of standard input.
fn read() -> Result<String, anyhow::Error> {
    let mut text = String::new();
    std::io::stdin()
        .take(MOST)
        .read_to_string(&mut text)
        .map_err(|error| anyhow::Error::new(error).context("can't read the URL from standard input"))?;
    // Nothing is no URL, and is said so by whoever reads it.
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
