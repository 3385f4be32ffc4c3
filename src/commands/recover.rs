//! `workspace recover`: a lost ref is made again.

use std::process::ExitCode;

use jiff::Timestamp;
use ulid::Ulid;

use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::Exit;
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::output::{count, relative_time, size};
use crate::publish;
use crate::settings::Purpose;
use crate::store::bucket::WriteConsent;
use crate::upkeep::recover::recover;

/// Make a lost or damaged ref again from the workspace's data
///
/// Each manifest below `data/NAME/` becomes a version, if everything it needs is there. Numbers are kept where a host still
/// runs the version; the others follow from the order. Tags, routes and locks were in the ref and are lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace recover myapp --dry-run
  workspace recover myapp")]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    /// Of this root, where there are several; otherwise the one with the newest version
    #[arg(long, value_name = "ULID")]
    root: Option<Ulid>,
    /// Show what would be recovered
    #[arg(short = 'n', long)]
    dry_run: bool,
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
    let (settings, store) = context.store(Purpose::Interactive).await?;
    if !args.dry_run {
        let cache = Cache::at(settings.cache_directory);
        let consent = WriteConsent { yes: false, single_writer: args.single_writer, ask: &|_| false };
        publish::open_known(&store, &cache, &consent).await?;
    }
    let hosts = Hosts::read(&store, Timestamp::now()).await?;
    let report = recover(&store, &args.name, args.root, &hosts, args.dry_run).await?;
    for (key, reason) in &report.left_out {
        output.warn(&format!("`{key}` gives no version: {reason}"));
    }
    if args.json {
        output.json(&report)?;
    } else {
        let (people, now) = (output.stdout_is_terminal(), Timestamp::now());
        let rows: Vec<Vec<String>> = report
            .versions
            .iter()
            .map(|version| {
                vec![
                    version.number.to_string(),
                    if people { relative_time(version.created, now) } else { version.created.to_string() },
                    version.files.to_string(),
                    if people { size(version.bytes) } else { version.bytes.to_string() },
                    version.message.clone().unwrap_or_else(|| "-".to_owned()),
                ]
            })
            .collect();
        output.table(&["VERSION", "CREATED", "FILES", "SIZE", "MESSAGE"], &rows);
    }
    let versions = count(report.versions.len() as u64, "version");
    let (name, root) = (&report.workspace, report.root);
    output.note(&if args.dry_run {
        format!("{versions} of {name} would be recovered from {root}")
    } else {
        format!("Recovered {versions} of {name} from {root} in {}", store.location())
    });
    if !args.dry_run {
        let unsure = report.versions.iter().filter(|version| !version.confirmed).count();
        if unsure > 0 {
            let versions = count(unsure as u64, "version");
            output.warn(&format!(
                "{versions} may have had another number: no host runs them, so theirs follow from the order"
            ));
        }
        output.hint(&format!(
            "`workspace verify {name} --deep` reads all of it; tags and retention were in the ref, and have to be set anew"
        ));
    }
    Ok(Exit::Success.into())
}
