//! `workspace gc`: what no version needs is deleted.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{duration, interrupt};
use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::{Exit, NeedsYes};
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::output::{Output, count, size, with_causes};
use crate::publish::{self, until_text};
use crate::settings::Purpose;
use crate::store::Store;
use crate::store::bucket::{Bucket, WriteConsent};
use crate::upkeep::collect::{Amount, CollectError, Collector, Options, Report, Stage};
use crate::upkeep::orphans::{self, Orphan};
use crate::version::{self, VersionError};

/// Delete what no version needs any more
///
/// Packs and manifests of versions that were let go, what interrupted uploads left behind, lists of earlier collections.
/// Safe beside uploads, downloads and other collections: what is unneeded for an hour is listed first, and deleted by a
/// run at least an hour later, or by the same with `--wait`. `workspace monitor` does this daily.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace gc                     every workspace: delete what was listed, list what has become unneeded
  workspace gc myapp --dry-run     what would be listed
  workspace gc myapp --grace 0s    at once: uploads under way may have to send again, downloads may have to start anew
  workspace gc --orphans --yes     also data that no ref names")]
pub struct Args {
    /// Names of workspaces; all without any
    #[arg(value_name = "NAME")]
    names: Vec<WorkspaceName>,
    /// Show what would be listed; nothing is written
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How long something has to be unneeded before it is listed, and listed before it is deleted
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::any)]
    grace: Duration,
    /// Stay until what is listed is deleted
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Also remove data that no ref names; `workspace recover` may still need it
    #[arg(long)]
    orphans: bool,
    /// Don't ask about orphans
    #[arg(long)]
    yes: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What came of it, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Document {
    dry_run: bool,
    workspaces: Vec<Report>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    orphans: Vec<Orphan>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let names = if args.names.is_empty() { all(&store, output).await? } else { args.names.clone() };
    for name in &args.names {
        // A mistake in one name collects nothing.
        if version::read_reference(&store, name).await?.is_none() && !args.orphans {
            return Err(version::missing(&store, name).await.into());
        }
    }
    let cache = Cache::at(settings.cache_directory);
    let consent = WriteConsent { yes: false, single_writer: true, ask: &|_| false };
    let bucket = match Bucket::open_for_reading(&store).await? {
        Some(bucket) => bucket,
        None => publish::open_known(&store, &cache, &consent).await?,
    };
    let hosts = Hosts::read(&store, Timestamp::now()).await?;
    let collector = Collector { store: &store, cache: &cache, bucket: &bucket, hosts: &hosts };
    collector.check()?;
    let options = Options { grace: args.grace, dry_run: args.dry_run };
    let work = async {
        let (mut reports, mut failed) = (Vec::new(), false);
        if args.names.is_empty() {
            let probes = collector.collect_probes(options).await?;
            output.detail(&format!("{} of probes that were cut off", count(probes.objects, "object")));
        }
        for name in &names {
            match settle(&collector, name, options, args.wait).await {
                Ok(report) => {
                    tell(output, &report);
                    reports.push(report);
                }
                // Gone since the listing.
                Err(CollectError::Version(VersionError::NoWorkspace { .. })) if args.names.is_empty() => {}
                Err(error) if names.len() > 1 => {
                    output.warn(&with_causes(&error));
                    failed = true;
                }
                Err(error) => return Err(anyhow::Error::from(error)),
            }
        }
        Ok((reports, failed))
    };
    let Some(done) = interrupt::unless(context, &AtomicBool::new(false), work).await else {
        output.note("Interrupted; nothing is lost, and the next `workspace gc` goes on");
        return Ok(Exit::Interrupted.into());
    };
    let (reports, failed) = done?;
    let orphans = if args.orphans { collect_orphans(context, &store, &hosts, &args).await? } else { Vec::new() };
    let total = |amount: fn(&Report) -> Amount| {
        reports.iter().map(amount).fold(Amount::default(), |sum, one| Amount {
            objects: sum.objects + one.objects,
            bytes: sum.bytes + one.bytes,
        })
    };
    let (deleted, listed) = (total(|report| report.deleted), total(|report| report.listed));
    let said = |amount: Amount| format!("{} ({})", count(amount.objects, "object"), size(amount.bytes));
    output.note(&if args.dry_run {
        format!("{} would be listed in {}", said(listed), store.location())
    } else {
        format!("Deleted {}, listed {} in {}", said(deleted), said(listed), store.location())
    });
    let until = reports.iter().filter_map(|report| report.until).max();
    if let Some(until) = until {
        output.hint(&format!("`workspace gc` after {until:.0} deletes what is listed; the monitor does it by itself"));
    }
    if args.json {
        output.json(&Document { dry_run: args.dry_run, workspaces: reports, orphans })?;
    } else {
        let rows: Vec<Vec<String>> = reports.iter().map(|report| row(report, output.stdout_is_terminal())).collect();
        output.table(&["NAME", "STAGE", "DELETED", "FREED", "LISTED", "SIZE", "YOUNG"], &rows);
    }
    Ok(if failed { Exit::Failure } else { Exit::Success }.into())
}

/// Every name with a ref that can be read, deleted ones too: a deletion that was cut off is finished.
async fn all(store: &Store, output: &Output) -> anyhow::Result<Vec<WorkspaceName>> {
    let (references, skipped) = version::all_references(store).await?;
    for skipped in &skipped {
        output.warn(&skipped.to_string());
    }
    Ok(references.into_iter().map(|(name, _)| name).collect())
}

async fn settle(
    collector: &Collector<'_>,
    name: &WorkspaceName,
    options: Options,
    wait: bool,
) -> Result<Report, CollectError> {
    loop {
        let report = collector.collect(name, options).await?;
        let Some(until) = report.until.filter(|_| wait) else { return Ok(report) };
        let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::time::sleep(left + Duration::from_millis(10)).await;
    }
}

fn tell(output: &Output, report: &Report) {
    let name = &report.workspace;
    if report.trimmed > 0 {
        output.note(&format!("{name}: its retention lets {} go", count(report.trimmed as u64, "version")));
    }
    for locked in &report.locked {
        output.note(&format!("{name}: version {} stays: it is locked {}", locked.version, until_text(locked.until)));
    }
    if let Some(first) = report.refused.first() {
        let number = count(report.refused.len() as u64, "object");
        output.warn(&format!("{name}: the server keeps {number}, such as `{first}`: locked, or not allowed"));
    }
    warn_hidden(output, name, report.hidden);
    if report.young.objects > 0 {
        let number = count(report.young.objects, "object");
        output.detail(&format!(
            "{name}: {number} that nobody needs for less long than the grace: an upload may be under way"
        ));
    }
    if report.unknown.objects > 0 {
        let number = count(report.unknown.objects, "object");
        output.note(&format!("{name}: {number} of a kind that this release doesn't know stay"));
    }
}

/// The bucket keeps versions, and these keys may not remove them.
pub fn warn_hidden(output: &Output, name: &WorkspaceName, hidden: u64) {
    if hidden > 0 {
        output.warn(&format!(
            "{name}: nothing was freed of {}: the bucket keeps versions, and these keys may not list and delete them \
             (s3:ListBucketVersions, s3:DeleteObjectVersion); a lifecycle rule for noncurrent versions frees it later",
            count(hidden, "object")
        ));
    }
}

fn row(report: &Report, people: bool) -> Vec<String> {
    let bytes = |bytes: u64| if people { size(bytes) } else { bytes.to_string() };
    let stage = match report.stage {
        Stage::Clean => "clean",
        Stage::Found => "found",
        Stage::Listed => "listed",
    };
    vec![
        report.workspace.to_string(),
        stage.to_owned(),
        report.deleted.objects.to_string(),
        bytes(report.deleted.bytes),
        report.listed.objects.to_string(),
        bytes(report.listed.bytes),
        report.young.objects.to_string(),
    ]
}

/// Orphans are named one by one, and go only with a yes.
async fn collect_orphans(context: &Context, store: &Store, hosts: &Hosts, args: &Args) -> anyhow::Result<Vec<Orphan>> {
    let output = &context.output;
    let names: Vec<Option<&WorkspaceName>> =
        if args.names.is_empty() { vec![None] } else { args.names.iter().map(Some).collect() };
    let mut found = Vec::new();
    for name in names {
        found.extend(orphans::find(store, name, hosts).await?);
    }
    let grace = jiff::SignedDuration::try_from(args.grace).unwrap_or(jiff::SignedDuration::MAX);
    let young = |orphan: &Orphan| orphan.newest.is_none_or(|newest| Timestamp::now().duration_since(newest) < grace);
    for orphan in &found {
        let why = if orphan.in_use {
            "; a host still runs it, so it stays"
        } else if orphan.locked {
            "; a version of it is locked, so it stays"
        } else if young(orphan) {
            "; it is younger than the grace, so it stays"
        } else {
            ""
        };
        let (name, root) = (&orphan.workspace, orphan.root);
        let (objects, bytes) = (count(orphan.found.objects, "object"), size(orphan.found.bytes));
        output.note(&format!("no ref names {root} of {name}: {objects} ({bytes}){why}"));
    }
    found.retain(|orphan| !orphan.in_use && !orphan.locked && !young(orphan));
    if found.is_empty() || args.dry_run {
        return Ok(found);
    }
    let bytes = found.iter().map(|orphan| orphan.found.bytes).sum();
    let question = format!(
        "Remove {} ({}) from {}, for good? `workspace recover NAME` could make a lost ref again from it",
        count(found.len() as u64, "orphan"),
        size(bytes),
        store.location()
    );
    if !args.yes {
        if !output.can_ask() {
            return Err(NeedsYes { question }.into());
        }
        if !output.confirm(&question) {
            output.note("They stay");
            return Ok(Vec::new());
        }
    }
    let (mut removed, mut freed) = (0, 0);
    for orphan in &found {
        let deletion = orphans::remove(store, orphan).await?;
        if deletion.refused.is_empty() {
            (removed, freed) = (removed + 1, freed + orphan.found.bytes);
        }
        if let Some((first, _)) = deletion.refused.first() {
            let number = count(deletion.refused.len() as u64, "object");
            output.warn(&format!("{}: the server keeps {number}, such as `{first}`", orphan.workspace));
        }
        warn_hidden(output, &orphan.workspace, deletion.hidden);
    }
    output.note(&format!("Removed {} ({})", count(removed, "orphan"), size(freed)));
    Ok(found)
}
