//! `workspace presign`: a URL that reads a whole version without keys.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{duration, interrupt};
use crate::archive::{ArchiveUrl, Archived, Archivist, Unfinished};
use crate::budget::Budget;
use crate::cache::Cache;
use crate::cli::Context;
use crate::embedded::server::DEFAULT_PORT;
use crate::failure::Exit;
use crate::names::Selector;
use crate::output::{Output, count, size};
use crate::settings::{Backend, Purpose, S3Settings, Settings};
use crate::store::bucket::Bucket;
use crate::store::{Store, presign};

/// Print a URL from which anybody can fetch a version without keys
///
/// The URL leads to an archive of the whole tree, which is written the first time it is asked for. curl, zstd and tar unpack
/// it, `workspace download --from-url` does and verifies it. Whoever has the URL can read the version until it expires.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  curl -fsS \"$(workspace presign myapp)\" | zstd -d | tar x
  workspace presign myapp@v2.0 --expires 7d | ssh host workspace download --from-url - ./myapp")]
pub struct Args {
    /// What to give: NAME, NAME@NUMBER or NAME@TAG
    #[arg(value_name = "NAME[@VERSION]")]
    selector: String,
    /// For how long, such as 30m, 12h, 7d; at most 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    expires: Duration,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::positive(text)?;
    if lifetime > presign::LONGEST {
        return Err("a signature lasts for 7d at most".to_owned());
    }
    Ok(lifetime)
}

/// What was made, for programs: these fields are an interface.
#[derive(Serialize)]
struct Report<'a> {
    url: &'a str,
    expires: Timestamp,
    name: String,
    version: u64,
    id: String,
    key: &'a str,
    bytes: u64,
    written: bool,
    location: String,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let selector: Selector = args.selector.parse()?;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let signer = signer(context, &settings, &store).await?;
    // What is about to be written belongs into buckets of this format.
    Bucket::open_for_reading(&store).await?;
    let cache = Cache::at(settings.cache_directory);
    let unfinished = Unfinished::default();
    let archivist = Archivist {
        store: &store,
        cache: &cache,
        budget: &Budget::default(),
        observer: output.observer(),
        unfinished: &unfinished,
    };
    let Some(archived) = interrupt::unless(context, &AtomicBool::new(false), archivist.archive(&selector)).await else {
        if !unfinished.take_back().await {
            let advice = "a lifecycle rule for incomplete multipart uploads removes it";
            output.warn(&format!("An upload that was begun may still take room in the bucket; {advice}"));
        }
        output.note("Interrupted; there is no archive");
        return Ok(Exit::Interrupted.into());
    };
    let archived = archived?;
    let url = signer.presign(&archived.key, args.expires).await?;
    // The query has the second in which it was signed.
    let mut expires = url.parse::<ArchiveUrl>()?.expires().unwrap_or(Timestamp::MAX);
    if let Some(end) = signer.credentials_expire().await?.filter(|end| *end < expires) {
        output.warn(&format!("The keys that sign the URL expire at {end}, and the URL with them"));
        expires = end;
    } else if url.contains("X-Amz-Security-Token=") && signer.credentials_expire().await?.is_none() {
        output.warn("The keys that sign the URL are temporary and don't say until when; the URL ends with them");
    }
    say(output, &selector, &archived, expires);
    if is_embedded(&settings.store.backend) {
        let endpoint = own_endpoint();
        output.note(&format!("It leads to this machine ({endpoint}) and works only while `workspace serve` runs here"));
    }
    if args.json {
        output.json(&Report {
            url: &url,
            expires,
            name: selector.name.to_string(),
            version: archived.row.number,
            id: archived.row.id.to_string(),
            key: &archived.key,
            bytes: archived.bytes,
            written: archived.written,
            location: store.location(),
        })?;
    } else {
        output.data(&url);
    }
    Ok(Exit::Success.into())
}

fn say(output: &Output, selector: &Selector, archived: &Archived, expires: Timestamp) {
    let Archived { row, bytes, written, .. } = archived;
    output.note(&format!(
        "{} {}@{} ({}, {}) as one archive of {}; whoever has the URL can read it until {expires}",
        if *written { "Wrote" } else { "Found" },
        selector.name,
        row.number,
        count(row.files, "file"),
        size(row.bytes),
        size(*bytes),
    ));
    output.hint("`curl -fsS 'URL' | zstd -d | tar x`, or `workspace download --from-url 'URL' DIR`, which verifies it");
}

fn is_embedded(backend: &Backend) -> bool {
    matches!(backend, Backend::Embedded { .. })
}

/// Where `workspace serve` listens unless told otherwise.
fn own_endpoint() -> String {
    format!("http://127.0.0.1:{DEFAULT_PORT}")
}

/// The store as whoever has the URL sees it: that on this machine is seen where `workspace serve` puts it, with the keys that
/// it asks for.
async fn signer(context: &Context, settings: &Settings, store: &Store) -> anyhow::Result<Store> {
    if !is_embedded(&settings.store.backend) {
        return Ok(store.clone());
    }
    let mut seen = settings.store.seen_from(&own_endpoint())?;
    if let Backend::S3(S3Settings { keys, .. }) = &mut seen.backend
        && let Some(chosen) = context.served()?.keys
    {
        *keys = Some(chosen);
    }
    Ok(Store::connect(&seen).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_days_are_the_most() {
        assert_eq!(lifetime("7d"), Ok(presign::LONGEST));
        assert_eq!(lifetime("1s"), Ok(Duration::from_secs(1)));
        for wrong in ["169h", "8d", "0s", "soon"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
