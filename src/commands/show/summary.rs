//! What is known of a version: its row, its plan, its packs, its largest files.

use std::cmp::Reverse;
use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;

use super::Shown;
use crate::application::Plan;
use crate::cli::Context;
use crate::commands::log::Logged;
use crate::commands::plan;
use crate::format::{Hash, Kind, Manifest};
use crate::output::{count, relative_time, size};
use crate::publish::until_text;

/// How many of the largest files, and of the packs that hold most, are named.
const NAMED: usize = 10;

/// A version, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    name: &'a str,
    #[serde(flatten)]
    row: Logged,
    tree: Hash,
    /// Keys of the manifest, and of what it is a delta against.
    manifests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    /// Which release of `workspace` wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    /// Files, links and empty folders.
    kinds: Kinds,
    plan: Option<&'a Plan>,
    /// Bytes of packs that hold its contents, compressed.
    stored: u64,
    packs: Vec<PackUse>,
    largest: Vec<Large<'a>>,
    location: &'a str,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Kinds {
    files: u64,
    executable: u64,
    links: u64,
    empty_folders: u64,
}

/// A pack that the version lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PackUse {
    key: String,
    bytes: u64,
    /// How much of it holds contents of this version.
    used: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Large<'a> {
    path: &'a str,
    bytes: u64,
}

/// Shows it.
pub fn show(context: &Context, shown: &Shown, location: &str, json: bool) -> anyhow::Result<()> {
    let output = &context.output;
    let manifest = shown.manifest();
    let header = &manifest.header;
    let packs = packs(manifest, |id| shown.keys.pack(id));
    let row = &shown.row;
    let summary = Summary {
        name: shown.selector.name.as_str(),
        row: Logged::new(&shown.reference, row),
        tree: row.tree,
        manifests: row.delta.iter().chain([&row.base]).map(|id| shown.keys.manifest(*id)).collect(),
        branch: header.branch.as_deref(),
        run: header.run.as_deref(),
        tool: header.tool.as_deref(),
        kinds: kinds(manifest),
        plan: header.plan.as_ref(),
        stored: packs.iter().map(|pack| pack.used).sum(),
        packs,
        largest: largest(manifest),
        location,
    };
    if json {
        return output.json(&summary);
    }
    let rows = rows(&summary, shown, output.stdout_is_terminal(), Timestamp::now());
    output.table(&["WHAT", "HOW", "WHY"], &rows);
    Ok(())
}

/// The packs by how much of them the version needs, most first.
fn packs(manifest: &Manifest, key: impl Fn(ulid::Ulid) -> String) -> Vec<PackUse> {
    let needed: HashSet<u32> = manifest.entries.iter().flat_map(Manifest::parts).map(|(part, _)| part.frame).collect();
    let mut packs: Vec<PackUse> =
        manifest.packs.iter().map(|pack| PackUse { key: key(pack.id), bytes: pack.size, used: 0 }).collect();
    for number in needed {
        let frame = manifest.frames[number as usize];
        packs[frame.pack as usize].used += u64::from(frame.length);
    }
    packs.retain(|pack| pack.used > 0);
    packs.sort_by(|one, other| (Reverse(one.used), &one.key).cmp(&(Reverse(other.used), &other.key)));
    packs
}

fn kinds(manifest: &Manifest) -> Kinds {
    let mut kinds = Kinds::default();
    for entry in &manifest.entries {
        match &entry.kind {
            Kind::File { executable, .. } => {
                kinds.files += 1;
                kinds.executable += u64::from(*executable);
            }
            Kind::Link { .. } => kinds.links += 1,
            Kind::Directory => kinds.empty_folders += 1,
        }
    }
    kinds
}

fn largest(manifest: &Manifest) -> Vec<Large<'_>> {
    let mut files: Vec<Large<'_>> = manifest
        .entries
        .iter()
        .filter(|entry| entry.size() > 0)
        .map(|entry| Large { path: entry.path.as_str(), bytes: entry.size() })
        .collect();
    files.sort_by_key(|file| (Reverse(file.bytes), file.path));
    files.truncate(NAMED);
    files
}

/// A row for each thing that is known.
fn rows(summary: &Summary<'_>, shown: &Shown, people: bool, now: Timestamp) -> Vec<Vec<String>> {
    let row = &shown.row;
    let bytes = |bytes: u64| if people { size(bytes) } else { bytes.to_string() };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |what: &str, how: Option<String>, why: Option<String>| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.extend(how.map(|how| vec![what.to_owned(), how, or_dash(why)]));
    };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let current = if row.number == shown.reference.current {
        "current".to_owned()
    } else {
        format!("{} is current", shown.reference.current)
    };
    add("version", Some(format!("{}@{}", summary.name, row.number)), Some(current));
    add("id", Some(row.id.to_string()), None);
    for tag in &row.tags {
        add("tag", Some(tag.to_string()), None);
    }
    let ago = people.then(|| relative_time(row.created, now));
    add("created", Some(row.created.to_string()), ago);
    add("author", row.author.clone(), None);
    add("message", row.message.clone(), None);
    add("commit", row.commit.clone(), None);
    add("branch", owned(summary.branch), None);
    add("run", owned(summary.run), None);
    add("origin", row.origin.map(|origin| origin.to_string()), Some("a rollback to that version".to_owned()));
    add("locked", row.locked.then(|| until_text(row.locked_until)), None);
    add("tool", owned(summary.tool), None);
    add("tree", Some(row.tree.to_string()), Some("BLAKE3 of paths and contents".to_owned()));
    let Kinds { files, executable, links, empty_folders } = summary.kinds;
    let of_kinds = [(executable, "program"), (links, "link"), (empty_folders, "empty folder")];
    let of_kinds: Vec<String> =
        of_kinds.iter().filter(|(number, _)| *number > 0).map(|(number, what)| count(*number, what)).collect();
    add("files", Some(files.to_string()), (!of_kinds.is_empty()).then(|| of_kinds.join(", ")));
    add("bytes", Some(bytes(row.bytes)), Some(format!("{} in packs", bytes(summary.stored))));
    for (at, key) in summary.manifests.iter().enumerate() {
        let what = if at > 0 {
            "the base of it"
        } else if row.delta.is_some() {
            "a delta"
        } else {
            "whole"
        };
        add("manifest", Some(key.clone()), Some(what.to_owned()));
    }
    for pack in summary.packs.iter().take(NAMED) {
        add("pack", Some(pack.key.clone()), Some(format!("{} of {}", bytes(pack.used), bytes(pack.bytes))));
    }
    let more = summary.packs.len().saturating_sub(NAMED);
    add("packs", (more > 0).then(|| format!("{more} more")), Some("`--json` has them all".to_owned()));
    rows.extend(summary.plan.map(plan::rows).unwrap_or_default());
    for file in &summary.largest {
        rows.push(vec!["large file".to_owned(), file.path.to_owned(), bytes(file.bytes)]);
    }
    rows
}
