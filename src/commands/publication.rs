//! What `upload` and `sync` share: publishing a folder, and saying what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;

use super::interrupt;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::{NameError, WorkspaceName};
use crate::output::{escape, size};
use crate::publish::{self, Outcome, Publication, Publisher};
use crate::settings::Purpose;
use crate::source::{Excluded, Provenance, SourceOptions};
use crate::store::bucket::WriteConsent;

/// How many kinds of exclusion the summary names.
const SHOWN: usize = 4;

/// What a writer may have to agree to.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct WriterArgs {
    /// Use a bucket that holds other objects without asking
    #[arg(long)]
    pub yes: bool,
    /// Write to a server without conditional writes: nobody else writes at the same time
    #[arg(long)]
    pub single_writer: bool,
}

/// What came of it, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
pub struct Report {
    outcome: Outcome,
    name: String,
    version: u64,
    id: String,
    files: u64,
    bytes: u64,
    sent_files: u64,
    sent_bytes: u64,
    new_bytes: u64,
    requests: u64,
    excluded: Vec<ExcludedReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    location: String,
    seconds: f64,
}

/// An entry that did not go.
#[derive(Debug, Serialize)]
pub struct ExcludedReport {
    path: String,
    rule: String,
}

impl Report {
    /// For a list of what did not go.
    pub fn excluded(excluded: &[Excluded]) -> Vec<ExcludedReport> {
        let one = |entry: &Excluded| ExcludedReport { path: entry.path.clone(), rule: entry.rule.to_string() };
        excluded.iter().map(one).collect()
    }
}

/// Parses a name, and says so when it had to be lowered.
pub fn name(context: &Context, text: &str) -> Result<WorkspaceName, NameError> {
    let name: WorkspaceName = text.parse()?;
    if name.as_str() != text {
        context.output.note(&format!("`{text}` is called `{name}`: names have no capitals"));
    }
    Ok(name)
}

/// A publication of a folder, with what git or the CI system knows of it.
pub fn of_folder(context: &Context, name: WorkspaceName, folder: PathBuf, source: SourceOptions) -> Publication {
    let provenance = Provenance::of(&folder, &context.environment);
    Publication {
        name,
        folder,
        source,
        message: None,
        author: provenance.author,
        commit: provenance.commit,
        branch: provenance.branch,
        run: provenance.run,
        tag: None,
        expect: None,
        supersede: false,
    }
}

/// Publishes, and says what came of it.
pub async fn run(
    context: &Context,
    publication: Publication,
    purpose: Purpose,
    writer: &WriterArgs,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let output = &context.output;
    let (settings, store) = context.store(purpose).await?;
    let may_ask = purpose == Purpose::Interactive && !context.environment.is_ci();
    let ask = |question: &str| may_ask && output.confirm(question);
    let committing = Arc::new(AtomicBool::new(false));
    let cache = Cache::at(settings.cache_directory);
    let publisher = Publisher {
        store: &store,
        cache: &cache,
        budget: &Budget::default(),
        observer: output.observer(),
        consent: WriteConsent { yes: writer.yes, single_writer: writer.single_writer, ask: &ask },
        committing: committing.clone(),
    };
    let Some(report) = interrupt::unless(context, &committing, publisher.publish(&publication)).await else {
        output.note("Interrupted: nothing was published");
        return Ok(Exit::Interrupted.into());
    };
    let report = report?;
    let seconds = began.elapsed().as_secs_f64();
    if json {
        output.json(&Report {
            outcome: report.outcome,
            name: report.name.to_string(),
            version: report.number,
            id: report.id.to_string(),
            files: report.files,
            bytes: report.bytes,
            sent_files: report.sent_files,
            sent_bytes: report.requests.sent,
            new_bytes: report.new_bytes,
            requests: report.requests.requests,
            excluded: Report::excluded(&report.excluded),
            runtime: report.runtime.clone(),
            tag: report.tag.as_ref().map(ToString::to_string),
            location: store.location(),
            seconds,
        })?;
    }
    say(context, &report, &store.location(), seconds);
    Ok(Exit::Success.into())
}

fn say(context: &Context, report: &publish::Report, location: &str, seconds: f64) {
    let output = &context.output;
    let (name, number) = (&report.name, report.number);
    if let Some(line) = left_out(&report.excluded) {
        output.note(&line);
    }
    let tagged = report.tag.as_ref().map(|tag| format!(", tagged `{tag}`")).unwrap_or_default();
    match report.outcome {
        Outcome::Published => {
            output.note(&format!(
                "Uploaded {} files ({}, {} sent) as {name}@{number}{tagged} in {seconds:.1}s to {location}",
                report.files,
                size(report.bytes),
                size(report.requests.sent),
            ));
            if report.runnable {
                output.hint(&format!("`workspace compose {name} -o {name}.yml` to run it"));
            } else {
                output.hint(
                    "nothing in it says how to start it: it is stored, not run (see `workspace.yaml` in the README)",
                );
            }
        }
        Outcome::Unchanged => output.note(&format!(
            "unchanged: {name}@{number}{tagged} in {location} already has these {} files ({})",
            report.files,
            size(report.bytes)
        )),
        Outcome::Superseded => {
            output.note(&format!(
                "superseded: {name}@{number} in {location} comes from a later commit; nothing was published"
            ));
        }
    }
    output.detail(&format!(
        "{} requests, {} sent, {} received",
        report.requests.requests,
        size(report.requests.sent),
        size(report.requests.received)
    ));
}

/// `Left out: node_modules/ (default: node_modules/), 12 entries ignored by git`.
fn left_out(excluded: &[Excluded]) -> Option<String> {
    let mut by_rule: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for entry in excluded {
        by_rule.entry(&entry.rule).or_default().push(&entry.path);
    }
    if by_rule.is_empty() {
        return None;
    }
    let rest = by_rule.len().saturating_sub(SHOWN);
    let mut parts: Vec<String> = by_rule
        .into_iter()
        .take(SHOWN)
        .map(|(rule, paths)| match paths.as_slice() {
            [path] => format!("{} ({rule})", escape(path)),
            [one, two] => format!("{}, {} ({rule})", escape(one), escape(two)),
            [one, ..] => format!("{} and {} more ({rule})", escape(one), paths.len() - 1),
            [] => String::new(),
        })
        .collect();
    if rest > 0 {
        parts.push(format!("and by {rest} more rules (`--dry-run` lists all)"));
    }
    Some(format!("Left out: {}", parts.join("; ")))
}
