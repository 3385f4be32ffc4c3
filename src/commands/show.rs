//! `workspace show`: what a version is, or what stands at one of its paths.

mod summary;

use std::process::ExitCode;

use serde::Serialize;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{CheckoutError, Fetcher};
use crate::cli::Context;
use crate::failure::Exit;
use crate::format::{Entry, Hash, Keys, Kind, Manifest, Reference, Row};
use crate::names::{Selector, Version};
use crate::output::size;
use crate::settings::Purpose;
use crate::store::StoreError;
use crate::version::{self, Child, Found, Loaded, VersionError};

/// Show a version, or a file or folder of it
///
/// Without PATH: what is known of the version, how it is run, which packs it lies in, its largest files. A file's content goes
/// to stdout, verified, and only the parts of packs that hold it are fetched. A folder is listed (`.` is the whole tree), and
/// of a link it is said where it leads.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace show myapp
  workspace show myapp@7 src
  workspace show myapp@v2.0 src/server.js > server.js")]
pub struct Args {
    /// NAME, NAME@7 or NAME@TAG
    #[arg(value_name = "NAME[@V]")]
    selector: String,
    /// A file, link or folder in it
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// One document of JSON on stdout: of a file what it is, not its content
    #[arg(long)]
    json: bool,
}

/// A version that was read.
struct Shown {
    selector: Selector,
    reference: Reference,
    row: Row,
    keys: Keys,
    loaded: Loaded,
}

/// What stands at a path, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Item<'a> {
    path: String,
    /// `file`, `link` or `folder`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<bool>,
    /// Of a folder: of all that is below.
    bytes: u64,
    /// BLAKE3 of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    /// Of a folder: the files, links and empty folders below.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
}

impl<'a> Item<'a> {
    fn new(path: String, kind: &'a Kind) -> Self {
        let mut item = Self {
            path,
            kind: "folder",
            executable: None,
            bytes: 0,
            hash: None,
            mtime: None,
            target: None,
            entries: None,
        };
        match kind {
            Kind::File { executable, size, mtime, hash, .. } => {
                (item.kind, item.bytes) = ("file", *size);
                (item.executable, item.mtime, item.hash) = (Some(*executable), Some(*mtime), Some(*hash));
            }
            Kind::Link { target } => (item.kind, item.target) = ("link", Some(&**target)),
            Kind::Directory => item.entries = Some(0),
        }
        item
    }

    fn of(child: &Child<'a>, folder: &str) -> Self {
        let path = if folder.is_empty() { child.name.to_owned() } else { format!("{folder}/{}", child.name) };
        match child.kind {
            Some(kind) => Self::new(path, kind),
            None => Self { bytes: child.bytes, entries: Some(child.entries), ..Self::new(path, &Kind::Directory) },
        }
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let selector: Selector = args.selector.parse()?;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let cache = Cache::at(settings.cache_directory);
    let observer = context.output.observer();
    let fetcher = Fetcher { store: &store, cache: &cache, budget: &Budget::default(), observer };
    let mut written = false;
    match attempt(context, &fetcher, &selector, &args, &mut written).await {
        // A collection removed what the ref that was read still needed: the ref of now needs something else.
        Err(error) if !written && is_gone(&error) => {
            attempt(context, &fetcher, &selector, &args, &mut written).await?;
        }
        outcome => outcome?,
    }
    Ok(Exit::Success.into())
}

fn is_gone(error: &anyhow::Error) -> bool {
    let version = error.downcast_ref::<VersionError>();
    matches!(version, Some(VersionError::Store(StoreError::NotFound { .. })))
        || matches!(error.downcast_ref(), Some(CheckoutError::Store(StoreError::NotFound { .. })))
}

async fn attempt(
    context: &Context,
    fetcher: &Fetcher<'_>,
    selector: &Selector,
    args: &Args,
    written: &mut bool,
) -> anyhow::Result<()> {
    let reference = version::existing_reference(fetcher.store, &selector.name).await?.reference;
    let row = version::select(&reference, selector)?.clone();
    let keys = Keys::new(&selector.name, reference.root);
    let loaded = version::load(fetcher.store, fetcher.cache, &keys, reference.root, &row).await?;
    let shown = Shown { selector: selector.clone(), reference, row, keys, loaded };
    let Some(path) = &args.path else {
        return summary::show(context, &shown, &fetcher.store.location(), args.json);
    };
    let manifest = &shown.loaded.manifest;
    match version::find(&manifest.entries, &shown.numbered(), path)? {
        Found::Folder(entries) => list(context, entries, path, args.json),
        Found::Entry(entry) if args.json => context.output.json(&Item::new(entry.path.to_string(), &entry.kind)),
        Found::Entry(entry) => match &entry.kind {
            Kind::Directory => list(context, &[], path, false),
            Kind::Link { target } => {
                context.output.data(&crate::output::escape(target));
                context.output.note(&format!("`{}` is a link, which leads there", crate::output::escape(path)));
                Ok(())
            }
            Kind::File { .. } => {
                let take = |bytes: &[u8]| {
                    *written = true;
                    context.output.bytes(bytes);
                };
                Ok(fetcher.content(&shown.keys, manifest, entry, take).await?)
            }
        },
    }
}

impl Shown {
    /// By its number, as errors and hints name it.
    fn numbered(&self) -> Selector {
        Selector { name: self.selector.name.clone(), version: Version::Number(self.row.number) }
    }

    fn manifest(&self) -> &Manifest {
        &self.loaded.manifest
    }
}

/// What is right inside a folder.
fn list(context: &Context, entries: &[Entry], path: &str, json: bool) -> anyhow::Result<()> {
    let output = &context.output;
    let children = version::children(entries, path);
    let folder = version::plain(path);
    let items: Vec<Item<'_>> = children.iter().map(|child| Item::of(child, &folder)).collect();
    if json {
        return output.json(&items);
    }
    let people = output.stdout_is_terminal();
    let cells = |(child, item): (&Child<'_>, &Item<'_>)| {
        let kind = if item.executable == Some(true) { "program" } else { item.kind };
        let slash = if item.kind == "folder" { "/" } else { "" };
        vec![
            kind.to_owned(),
            if people { size(item.bytes) } else { item.bytes.to_string() },
            format!("{}{slash}", child.name),
            item.target.unwrap_or("-").to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = children.iter().zip(&items).map(cells).collect();
    if rows.is_empty() {
        output.note(&format!("`{}` is an empty folder", crate::output::escape(path)));
    } else {
        output.table(&["KIND", "SIZE", "NAME", "LEADS TO"], &rows);
    }
    Ok(())
}
