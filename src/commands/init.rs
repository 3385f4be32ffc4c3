//! `workspace init`: a bucket, ready to be used.

use std::process::ExitCode;

use serde::Serialize;

use crate::cache::Cache;
use crate::cli::Context;
use crate::failure::Exit;
use crate::publish;
use crate::settings::Purpose;
use crate::store::bucket::{Level, WriteConsent};
use crate::upkeep::lock::LockError;

/// Make the bucket, and find out what its server can do
///
/// The first upload does this by itself; `init` is for what has to be chosen before: with `--object-lock` versions can be locked
/// (`workspace lock`), which servers allow in buckets that were made so. A bucket that exists is left as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace init
  workspace --bucket releases init --object-lock")]
pub struct Args {
    /// Make it with Object Lock, and the versions of objects that this needs
    #[arg(long)]
    object_lock: bool,
    /// Use a bucket that holds other objects without asking
    #[arg(long)]
    yes: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What there is, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    location: String,
    created: bool,
    conditional_writes: bool,
    conditional_deletes: bool,
    object_lock: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let created = !store.bucket_exists().await?;
    if created {
        store.create_bucket_with(args.object_lock).await?;
    }
    let object_lock = store.has_object_lock().await?;
    if args.object_lock && !object_lock {
        if created {
            store.delete_bucket().await?;
            return Err(LockError::NoObjectLockHere { location: store.location() }.into());
        }
        return Err(LockError::NoObjectLock { bucket: store.bucket().to_owned() }.into());
    }
    let ask = |question: &str| output.confirm(question);
    let consent = WriteConsent { yes: args.yes, single_writer: true, ask: &ask };
    let bucket = publish::open_for_writing(&store, &Cache::at(settings.cache_directory), &consent).await?;
    let report = Report {
        location: store.location(),
        created,
        conditional_writes: bucket.record.level == Level::Cas,
        conditional_deletes: bucket.record.delete_if_match,
        object_lock,
    };
    output.note(&format!(
        "{} {}: conditional writes {}, Object Lock {}",
        if created { "Created" } else { "Ready:" },
        report.location,
        if report.conditional_writes { "work" } else { "are ignored, so every write needs `--single-writer`" },
        if object_lock { "on" } else { "off" }
    ));
    if args.json {
        output.json(&report)?;
    }
    output.hint("`workspace upload NAME DIR` makes a workspace");
    Ok(Exit::Success.into())
}
