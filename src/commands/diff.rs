//! `workspace diff`: what differs between two versions, or between a version and a folder.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::Fetcher;
use crate::cli::Context;
use crate::difference::{self, Change, DifferenceError, Side};
use crate::failure::Exit;
use crate::format::Reference;
use crate::names::{Selector, Version, WorkspaceName};
use crate::settings::Purpose;
use crate::version::{self, Found};

/// Show what differs between two versions, or a version and a folder
///
/// A: added, D: deleted, M: another content, T: another kind or mode, R: the same content at another path.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace diff myapp                    the version before the current one, and the current one
  workspace diff myapp@7                  version 7 and the current one
  workspace diff myapp@7 @v2.0 --stat     two versions, with lines
  workspace diff myapp . -p               what an upload of this folder would change
  workspace diff myapp@7 @8 -p src a.js   the lines of some paths; `-p` comes last

Files over 1 MiB, and what goes beyond 64 MiB in all, are not compared line by line. `-p` is what `git apply` takes.")]
pub struct Args {
    /// NAME, NAME@7 or NAME@TAG
    #[arg(value_name = "NAME[@A]", required_unless_present = "patch")]
    selector: Option<String>,
    /// Another version of it, such as `@8` or `@v2.0`, or a folder as an upload would see it
    #[arg(value_name = "@B|DIR")]
    other: Option<String>,
    /// How many lines came and went
    #[arg(long)]
    stat: bool,
    /// Which lines, as a unified diff; of these files and folders only
    #[arg(short, long, value_name = "PATH", num_args = 0..)]
    patch: Option<Vec<String>>,
    /// End with 1 if anything differs
    #[arg(long)]
    exit_code: bool,
    /// Of a folder: take lock files even when an ignore rule excludes them
    #[arg(long)]
    include_lock: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What is named, wherever it stands.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    selector: &'a str,
    other: Option<&'a str>,
    paths: &'a [String],
}

impl<'a> Named<'a> {
    /// `-p NAME @B PATH` is meant as `NAME @B -p PATH`, which is how git's users write it.
    fn of(args: &'a Args) -> Self {
        let paths = args.patch.as_deref().unwrap_or_default();
        match (&args.selector, paths) {
            (Some(selector), _) => Self { selector, other: args.other.as_deref(), paths },
            (None, [selector, other, paths @ ..]) if other.starts_with('@') => {
                Self { selector, other: Some(other), paths }
            }
            (None, [selector, paths @ ..]) => Self { selector, other: None, paths },
            (None, []) => Self { selector: "", other: None, paths },
        }
    }
}

/// Which two trees are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pair {
    /// The version before the current one, and the current one.
    Last,
    /// Two versions.
    Versions(Version, Version),
    /// A version and a folder.
    Folder(Version, PathBuf),
}

impl Pair {
    fn of(selector: &Selector, other: Option<&str>) -> anyhow::Result<Self> {
        let version = selector.version.clone();
        Ok(match other {
            None if version == Version::Current => Self::Last,
            None => Self::Versions(version, Version::Current),
            Some(text) if names_a_version(text) => Self::Versions(version, version_of(text, &selector.name)?),
            Some(folder) => Self::Folder(version, folder.into()),
        })
    }
}

/// Whether it is `@VERSION`, or `NAME@VERSION` and no folder of that name.
fn names_a_version(text: &str) -> bool {
    match text.split_once('@') {
        Some(("", _)) => true,
        Some((name, _)) => name.parse::<WorkspaceName>().is_ok() && !Path::new(text).exists(),
        None => false,
    }
}

/// The other version, as `@VERSION` or `NAME@VERSION`.
fn version_of(text: &str, name: &WorkspaceName) -> anyhow::Result<Version> {
    let text = if text.starts_with('@') { format!("{name}{text}") } else { text.to_owned() };
    let other: Selector = text.parse()?;
    if other.name != *name {
        anyhow::bail!("versions of one workspace are compared, not of `{name}` and `{}`", other.name);
    }
    Ok(other.version)
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let named = Named::of(&args);
    let selector: Selector = named.selector.parse()?;
    let pair = Pair::of(&selector, named.other)?;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let cache = Cache::at(settings.cache_directory);
    let observer = context.output.observer();
    let fetcher = Fetcher { store: &store, cache: &cache, budget: &Budget::default(), observer };
    let paths: Vec<String> = named.paths.iter().map(|path| version::plain(path)).collect();
    match attempt(context, &fetcher, &selector, pair.clone(), &paths, &args).await {
        // A collection removed what the ref that was read still needed: the ref of now needs something else.
        Err(error) if error.downcast_ref().is_some_and(DifferenceError::is_gone) => {
            attempt(context, &fetcher, &selector, pair, &paths, &args).await
        }
        outcome => outcome,
    }
}

/// Compares, and says what differs once everything for that is there.
async fn attempt(
    context: &Context,
    fetcher: &Fetcher<'_>,
    selector: &Selector,
    pair: Pair,
    paths: &[String],
    args: &Args,
) -> anyhow::Result<ExitCode> {
    let reference = version::existing_reference(fetcher.store, &selector.name).await?.reference;
    let (old, new) = sides(context, fetcher, selector, &reference, pair, args.include_lock).await?;
    for path in paths {
        known(path, selector, &[&old, &new])?;
    }
    let changes: Vec<Change<'_>> =
        difference::changes(old.entries(), new.entries()).into_iter().filter(|change| change.is_at(paths)).collect();
    let differs = !changes.is_empty();
    let ends = report::Ends { name: &selector.name, old: &old, new: &new };
    if args.stat || args.patch.is_some() {
        let compared = difference::compare(fetcher, &old, &new, changes, args.patch.is_some()).await?;
        report::lines(context, &ends, &compared, args.stat, args.json)?;
    } else {
        report::names(context, &ends, &changes, args.json)?;
    }
    Ok(if args.exit_code && differs { Exit::Failure } else { Exit::Success }.into())
}

async fn sides(
    context: &Context,
    fetcher: &Fetcher<'_>,
    selector: &Selector,
    reference: &Reference,
    pair: Pair,
    include_lock: bool,
) -> anyhow::Result<(Side, Side)> {
    let of = |version: Version| Selector { name: selector.name.clone(), version };
    let side = |version: Version| async { Side::version(fetcher, &of(version), reference).await };
    Ok(match pair {
        Pair::Last => {
            let previous = previous(selector, reference)?;
            futures::future::try_join(side(Version::Number(previous)), side(Version::Current)).await?
        }
        Pair::Versions(one, other) => futures::future::try_join(side(one), side(other)).await?,
        Pair::Folder(version, folder) => {
            let options = context.source_options(include_lock)?;
            futures::future::try_join(side(version), Side::folder(fetcher, &folder, &options)).await?
        }
    })
}

/// The kept version before the current one.
fn previous(selector: &Selector, reference: &Reference) -> Result<u64, DifferenceError> {
    let before = reference.rows.iter().rev().find(|row| row.number < reference.current);
    let alone = || DifferenceError::Alone { name: selector.name.clone(), number: reference.current };
    before.map(|row| row.number).ok_or_else(alone)
}

/// A path that neither side has is a mistake rather than a path without changes.
fn known(path: &str, selector: &Selector, sides: &[&Side]) -> Result<(), DifferenceError> {
    let mut missing = None;
    for side in sides {
        match version::find(side.entries(), selector, path) {
            Ok(Found::Entry(_) | Found::Folder(_)) => return Ok(()),
            Err(error) => missing = Some(error),
        }
    }
    missing.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_follows_from_what_is_named() {
        let pair = |selector: &str, other| Pair::of(&selector.parse().unwrap(), other).unwrap();
        let (number, current) = (Version::Number, Version::Current);
        assert_eq!(pair("a", None), Pair::Last);
        assert_eq!(pair("a@7", None), Pair::Versions(number(7), current.clone()));
        assert_eq!(pair("a@7", Some("@8")), Pair::Versions(number(7), number(8)));
        assert_eq!(pair("a", Some("@v2")), Pair::Versions(current.clone(), Version::Tag("v2".parse().unwrap())));
        assert_eq!(pair("a", Some(".")), Pair::Folder(current, ".".into()));
        assert_eq!(pair("a@7", Some("a@8")), Pair::Versions(number(7), number(8)));
        assert!(Pair::of(&"a".parse().unwrap(), Some("b@8")).is_err());
        assert_eq!(pair("a@7", Some("./@8")), Pair::Folder(number(7), "./@8".into()));
        assert!(Pair::of(&"a".parse().unwrap(), Some("@")).is_err());
    }
}
