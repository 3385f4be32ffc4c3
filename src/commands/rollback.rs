//! `workspace rollback`: an older version's content becomes current again.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;

use super::interrupt;
use super::publication::{Report, WriterArgs};
use super::wait::{WaitArgs, Waited};
use crate::budget::Budget;
use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::{Selector, Tag, Version, WorkspaceName};
use crate::publish::{Basis, Outcome, Publisher, Rollback, RolledBack};
use crate::settings::Purpose;
use crate::source::Provenance;
use crate::store::bucket::WriteConsent;

/// Bring an older version back, as the next one
///
/// Nothing is sent again: the new version consists of what the old one does. Hosts take it as any other version, with all
/// checks, and a version that failed on a host is tried anew. Without V: the last one that a host reported as served well,
/// else the one before the current. Doing it twice goes further back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace rollback myapp                  the last version that was served well
  workspace rollback myapp 7 --wait         version 7, until the hosts serve it
  workspace rollback myapp v2.0 --tag production -m 'The new checkout loses orders'
  workspace rollback myapp --expect 9       only if version 9 is current")]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    /// The version: its number, or a tag
    #[arg(value_name = "V")]
    to: Option<String>,
    /// Why [default: which version it is]
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Let this tag name the new version
    #[arg(long, value_name = "TAG")]
    tag: Option<Tag>,
    /// Only if this is the current version's number
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    writer: WriterArgs,
}

/// What came of it, for programs: as of an upload, and these fields, which are an interface.
#[derive(Debug, Serialize)]
struct RollbackReport {
    #[serde(flatten)]
    report: Report,
    /// The number of the version whose content is current now.
    origin: u64,
    /// The number of the version that was current before.
    from: u64,
    /// Why this one.
    basis: Basis,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let output = &context.output;
    let to = match &args.to {
        Some(text) => Some(format!("{}@{text}", args.name).parse::<Selector>()?.version),
        None => None,
    };
    let wanted = Rollback {
        name: args.name,
        to,
        message: args.message,
        author: Provenance::of(Path::new("."), &context.environment).author,
        tag: args.tag,
        expect: args.expect,
    };
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let committing = Arc::new(AtomicBool::new(false));
    let cache = Cache::at(settings.cache_directory);
    let publisher = Publisher {
        store: &store,
        cache: &cache,
        budget: &Budget::default(),
        observer: output.observer(),
        consent: WriteConsent { yes: args.writer.yes, single_writer: args.writer.single_writer, ask: &|_| false },
        committing: committing.clone(),
    };
    let Some(back) = interrupt::unless(context, &committing, publisher.rollback(&wanted)).await else {
        output.note("Interrupted: nothing was published");
        return Ok(Exit::Interrupted.into());
    };
    let back = back?;
    let seconds = began.elapsed().as_secs_f64();
    say(context, &wanted, &back, &store.location(), args.wait.wait.is_some());
    let (wait, end) = Waited::of(context, &store, &back.report, &args.wait).await.parts();
    if args.json {
        let RolledBack { origin, from, basis, .. } = back;
        let report = Report::new(&back.report, &store, seconds, wait);
        output.json(&RollbackReport { report, origin, from, basis })?;
    }
    end
}

fn say(context: &Context, wanted: &Rollback, back: &RolledBack, location: &str, waits: bool) {
    let output = &context.output;
    let RolledBack { report, origin, from, left, basis } = back;
    let (name, number) = (&report.name, report.number);
    let tagged = report.tag.as_ref().map(|tag| format!(", tagged `{tag}`")).unwrap_or_default();
    if report.outcome == Outcome::Unchanged {
        let asked = match &wanted.to {
            Some(Version::Number(asked)) if *asked != number => format!(" and version {asked} are the same"),
            _ => " is that already".to_owned(),
        };
        output.note(&format!("unchanged: {name}@{number}{tagged} in {location}{asked}"));
        return;
    }
    let why = match basis {
        Basis::Asked => "",
        Basis::Served => ", the last one that a host reported as served well",
        Basis::Previous => ", the last one before it that no host reported as failed",
    };
    output.note(&format!(
        "Rolled back {name} from version {from} to version {origin}{why}: it is {name}@{number}{tagged} in {location} now"
    ));
    if !left.is_empty() {
        let tags = left.iter().map(|tag| format!("`{tag}`")).collect::<Vec<_>>().join(", ");
        output.note(&format!("Version {from} keeps {tags}: hosts that follow a tag of it are not rolled back"));
        output.hint(&format!("`workspace tag {name}@{number} {} --force` moves it", left[0]));
    }
    if !waits {
        output.hint(&format!(
            "`workspace status {name}` shows how far it is; `workspace diff {name}` shows what changed"
        ));
    }
}
