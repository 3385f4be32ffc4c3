//! `workspace verify`: whether everything that versions need is there.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use super::interrupt;
use crate::budget::Budget;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::{Selector, Version};
use crate::output::{count, escape, size};
use crate::settings::Purpose;
use crate::upkeep::verify::{Damage, Options, Verifier};
use crate::version;

/// Check that everything a workspace's versions need is there, and whole
///
/// Every manifest is read, every pack must exist with its size; with `--deep` every pack is read and every content is
/// hashed. Says what is damaged, which versions it hurts, and which files. Nothing is changed. Ends with 1 if anything is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace verify myapp
  workspace verify myapp@7 --deep")]
pub struct Args {
    /// The workspace, or one version of it: NAME, NAME@7, NAME@TAG
    #[arg(value_name = "NAME[@VERSION]")]
    workspace: Selector,
    /// Read every pack and check every content
    #[arg(long)]
    deep: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (_, store) = context.store(Purpose::Interactive).await?;
    let name = &args.workspace.name;
    let number = if args.workspace.version == Version::Current {
        None
    } else {
        let reference = version::existing_reference(&store, name).await?.reference;
        Some(version::select(&reference, &args.workspace)?.number)
    };
    let budget = Budget::default();
    let verifier = Verifier { store: &store, budget: &budget, observer: output.observer() };
    let options = Options { version: number, deep: args.deep };
    let work = verifier.verify(name, &options);
    let Some(report) = interrupt::unless(context, &AtomicBool::new(false), work).await else {
        return Ok(Exit::Interrupted.into());
    };
    let report = report?;
    let how = if report.deep { "read and checked" } else { "there with their sizes" };
    let (versions, objects) = (count(report.versions as u64, "version"), count(report.objects as u64, "object"));
    if args.json {
        output.json(&report)?;
    } else {
        let rows: Vec<Vec<String>> = report.damage.iter().map(row).collect();
        output.table(&["OBJECT", "DAMAGE", "VERSIONS", "FILES"], &rows);
    }
    if report.damage.is_empty() {
        output.note(&format!("{name}: {versions}, {objects} ({}): {how}", size(report.bytes)));
        if !report.deep {
            output.hint(&format!("`workspace verify {} --deep` reads them, too", args.workspace));
        }
        return Ok(Exit::Success.into());
    }
    output.warn(&format!("{name}: {} of {objects} damaged", report.damage.len()));
    output.hint(
        "restore the objects from a backup; versions and files that are not named are whole, and can be downloaded",
    );
    Ok(Exit::Failure.into())
}

fn row(damage: &Damage) -> Vec<String> {
    let versions: Vec<String> = damage.versions.iter().map(ToString::to_string).collect();
    let paths: Vec<String> = damage.paths.iter().map(|path| escape(path)).collect();
    vec![
        damage.key.clone(),
        damage.reason.clone(),
        versions.join(","),
        if paths.is_empty() { "all".to_owned() } else { paths.join(",") },
    ]
}
