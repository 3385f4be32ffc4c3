//! What `upload` and `sync` share: publishing a folder, and saying what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;

use super::interrupt;
use super::wait::{WaitArgs, WaitReport, Waited};
use crate::budget::Budget;
use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::{NameError, Tag, WorkspaceName};
use crate::output::{count, escape, size};
use crate::publish::{self, Outcome, Publication, Publisher};
use crate::settings::Purpose;
use crate::source::{Excluded, Provenance};
use crate::store::Store;
use crate::store::bucket::WriteConsent;

/// How many kinds of exclusion the summary names.
const SHOWN: usize = 4;

/// What shall be published, in the words of the command line.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    /// Name of the workspace: a-z, 0-9, `.`, `_`, `-`
    pub name: String,
    /// Folder to upload
    #[arg(default_value = ".", value_name = "DIR")]
    pub folder: PathBuf,
    /// Take lock files even when an ignore rule excludes them
    #[arg(long)]
    pub include_lock: bool,
    /// Publish nothing if there is anything to warn of
    ///
    /// A secret that is tracked, a lock file out of step, a start target that is left out, names that differ in case only,
    /// a large file, very many new ones, and whatever else a warning is about.
    #[arg(long)]
    pub strict: bool,
    /// What this version is about
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Let this tag name the version
    #[arg(long, value_name = "TAG")]
    pub tag: Option<Tag>,
    /// One document of JSON on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    pub writer: WriterArgs,
}

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
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<WaitReport>,
}

/// An entry that did not go.
#[derive(Debug, Serialize)]
pub struct ExcludedReport {
    path: String,
    rule: String,
}

impl Report {
    /// Of a publication.
    pub fn new(report: &publish::Report, store: &Store, seconds: f64, wait: Option<WaitReport>) -> Self {
        Self {
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
            excluded: Self::excluded(&report.excluded),
            runtime: report.runtime.clone(),
            tag: report.tag.as_ref().map(ToString::to_string),
            location: store.location(),
            seconds,
            wait,
        }
    }

    /// For a list of what did not go.
    pub fn excluded(excluded: &[Excluded]) -> Vec<ExcludedReport> {
        let one = |entry: &Excluded| ExcludedReport { path: entry.path.clone(), rule: entry.rule.to_string() };
        excluded.iter().map(one).collect()
    }
}

/// Parses a name, and says so when it had to be lowered.
fn name(context: &Context, text: &str) -> Result<WorkspaceName, NameError> {
    let name: WorkspaceName = text.parse()?;
    if name.as_str() != text {
        context.output.note(&format!("`{text}` is called `{name}`: names have no capitals"));
    }
    Ok(name)
}

/// The publication that the arguments ask for, with what git or the CI system knows of the folder.
pub fn of(context: &Context, args: &SourceArgs) -> anyhow::Result<Publication> {
    let provenance = Provenance::of(&args.folder, &context.environment);
    Ok(Publication {
        name: name(context, &args.name)?,
        folder: args.folder.clone(),
        source: context.source_options(args.include_lock)?,
        strict: args.strict,
        message: args.message.clone(),
        author: provenance.author,
        commit: provenance.commit,
        branch: provenance.branch,
        run: provenance.run,
        tag: args.tag.clone(),
        expect: None,
        supersede: false,
    })
}

/// Publishes, and says what came of it.
pub async fn run(
    context: &Context,
    publication: Publication,
    purpose: Purpose,
    args: &SourceArgs,
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
        consent: WriteConsent { yes: args.writer.yes, single_writer: args.writer.single_writer, ask: &ask },
        committing: committing.clone(),
    };
    let Some(report) = interrupt::unless(context, &committing, publisher.publish(&publication)).await else {
        output.note("Interrupted: nothing was published");
        return Ok(Exit::Interrupted.into());
    };
    let report = report?;
    let seconds = began.elapsed().as_secs_f64();
    say(context, &report, &store.location(), seconds, args.wait.wait.is_some());
    if report.outcome == Outcome::Unchanged && publication.message.is_some() {
        output.note("no version was made, so the message is kept nowhere");
    }
    let (wait, end) = Waited::of(context, &store, &report, &args.wait).await.parts();
    if args.json {
        output.json(&Report::new(&report, &store, seconds, wait))?;
    }
    end
}

/// Says what came of it.
pub fn say(context: &Context, report: &publish::Report, location: &str, seconds: f64, waits: bool) {
    let output = &context.output;
    let (name, number) = (&report.name, report.number);
    if let Some(line) = left_out(&report.excluded) {
        output.note(&line);
    }
    let tagged = report.tag.as_ref().map(|tag| format!(", tagged `{tag}`")).unwrap_or_default();
    match report.outcome {
        Outcome::Published => {
            output.note(&format!(
                "Uploaded {} ({}, {} sent) as {name}@{number}{tagged} in {seconds:.1}s to {location}",
                count(report.files, "file"),
                size(report.bytes),
                size(report.requests.sent),
            ));
            if report.runnable && !waits {
                output.hint(&format!("`workspace compose {name} -o {name}.yml` to run it"));
            } else if !report.runnable {
                output.hint(
                    "it is stored, not run: `start:` and `runtime:` or `image:` in workspace.yaml say how to run it",
                );
            }
        }
        Outcome::Unchanged => output.note(&format!(
            "unchanged: {name}@{number}{tagged} in {location} already has {} ({})",
            if report.files == 1 { "this file".to_owned() } else { format!("these {} files", report.files) },
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
