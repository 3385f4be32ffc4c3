//! Saying what differs: names, numbers of lines, lines.

use serde::Serialize;

use crate::cli::Context;
use crate::difference::{Change, Compared, Comparison, LARGEST, MOST, Side, Status};
use crate::format::{Entry, Hash, Kind};
use crate::names::WorkspaceName;
use crate::output::{count, escape, size};

/// What was compared.
pub struct Ends<'a> {
    /// The workspace.
    pub name: &'a WorkspaceName,
    /// One side.
    pub old: &'a Side,
    /// The other.
    pub new: &'a Side,
}

/// What differs, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report<'a> {
    name: &'a str,
    from: End,
    to: End,
    changes: Vec<Changed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insertions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletions: Option<u64>,
}

/// A side: a version or a folder.
#[derive(Debug, Serialize)]
struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
}

#[derive(Debug, Serialize)]
struct Changed<'a> {
    status: Status,
    path: &'a str,
    /// Where it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<State<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<State<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    insertions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletions: Option<u64>,
    /// `binary`, or `too large`: there are no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_compared: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

#[derive(Debug, Serialize)]
struct State<'a> {
    kind: &'static str,
    executable: bool,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

impl<'a> State<'a> {
    fn of(entry: &'a Entry) -> Self {
        let bytes = entry.size();
        match &entry.kind {
            Kind::File { executable, hash, .. } => {
                Self { kind: "file", executable: *executable, bytes, hash: Some(*hash), target: None }
            }
            Kind::Link { target } => Self { kind: "link", executable: false, bytes, hash: None, target: Some(target) },
            Kind::Directory => Self { kind: "folder", executable: false, bytes, hash: None, target: None },
        }
    }
}

impl<'a> Changed<'a> {
    fn of(change: &Change<'a>) -> Self {
        Self {
            status: change.status,
            path: change.path(),
            from: change.from(),
            old: change.old.map(State::of),
            new: change.new.map(State::of),
            insertions: None,
            deletions: None,
            not_compared: None,
            patch: None,
        }
    }

    fn compared(compared: &Compared<'a>) -> Self {
        let mut changed = Self::of(&compared.change);
        match &compared.comparison {
            Comparison::Text { insertions, deletions, .. } => {
                (changed.insertions, changed.deletions) = (Some(*insertions), Some(*deletions));
            }
            Comparison::Binary => changed.not_compared = Some("binary"),
            Comparison::TooLarge => changed.not_compared = Some("too large"),
        }
        changed.patch = compared.patch.as_ref().map(|patch| String::from_utf8_lossy(patch).into_owned());
        changed
    }
}

impl End {
    fn of(side: &Side) -> Self {
        match side {
            Side::Version { row, .. } => Self { version: Some(row.number), folder: None },
            Side::Folder { root, .. } => Self { version: None, folder: Some(root.display().to_string()) },
        }
    }
}

impl Ends<'_> {
    /// `app@7 and app@8`.
    fn text(&self) -> String {
        let one = |side: &Side| match side {
            Side::Version { row, .. } => format!("{}@{}", self.name, row.number),
            Side::Folder { root, .. } => escape(&root.display().to_string()),
        };
        format!("{} and {}", one(self.old), one(self.new))
    }

    fn json(&self, context: &Context, changes: Vec<Changed<'_>>, lines: Option<(u64, u64)>) -> anyhow::Result<()> {
        let (insertions, deletions) = lines.unzip();
        let (from, to) = (End::of(self.old), End::of(self.new));
        context.output.json(&Report { name: self.name.as_str(), from, to, changes, insertions, deletions })
    }
}

/// A folder is shown as one.
fn path(entry: Option<&Entry>) -> String {
    let folder = entry.is_some_and(|entry| entry.kind == Kind::Directory);
    entry.map(|entry| format!("{}{}", entry.path, if folder { "/" } else { "" })).unwrap_or_default()
}

fn row(change: &Change<'_>) -> [String; 3] {
    let from = change.from().unwrap_or("-").to_owned();
    [change.status.letter().to_owned(), path(change.new.or(change.old)), from]
}

/// Which entries differ.
pub fn names(context: &Context, ends: &Ends<'_>, changes: &[Change<'_>], json: bool) -> anyhow::Result<()> {
    if json {
        return ends.json(context, changes.iter().map(Changed::of).collect(), None);
    }
    let rows: Vec<Vec<String>> = changes.iter().map(|change| row(change).into()).collect();
    if rows.is_empty() {
        context.output.note(&format!("{} are equal", ends.text()));
    } else {
        context.output.table(&["STATUS", "PATH", "FROM"], &rows);
    }
    Ok(())
}

/// How many lines differ, and which.
pub fn lines(
    context: &Context,
    ends: &Ends<'_>,
    compared: &[Compared<'_>],
    stat: bool,
    json: bool,
) -> anyhow::Result<()> {
    let output = &context.output;
    let (mut insertions, mut deletions, mut too_large) = (0, 0, 0);
    for one in compared {
        match &one.comparison {
            Comparison::Text { insertions: more, deletions: fewer, .. } => {
                insertions += more;
                deletions += fewer;
            }
            Comparison::Binary => {}
            Comparison::TooLarge => too_large += 1,
        }
    }
    if too_large > 0 {
        output.warn(&format!(
            "{} not compared line by line: over {} a file, or over {} in all",
            count(too_large, "file"),
            size(LARGEST),
            size(MOST)
        ));
    }
    if json {
        return ends.json(context, compared.iter().map(Changed::compared).collect(), Some((insertions, deletions)));
    }
    if compared.is_empty() {
        output.note(&format!("{} are equal", ends.text()));
        return Ok(());
    }
    if stat {
        let rows: Vec<Vec<String>> = compared.iter().map(numbers).collect();
        output.table(&["STATUS", "PATH", "FROM", "INSERTIONS", "DELETIONS", "NOTE"], &rows);
    }
    for patch in compared.iter().filter_map(|one| one.patch.as_deref()) {
        if output.stdout_is_terminal() {
            // A stranger's file may hold what would take the terminal over.
            let text = String::from_utf8_lossy(patch);
            for line in text.lines() {
                output.data(&line.split('\t').map(escape).collect::<Vec<_>>().join("\t"));
            }
        } else {
            output.bytes(patch);
        }
    }
    output.note(&format!(
        "{} changed between {}: {}, {}",
        count(compared.len() as u64, "file"),
        ends.text(),
        count(insertions, "insertion"),
        count(deletions, "deletion")
    ));
    Ok(())
}

fn numbers(compared: &Compared<'_>) -> Vec<String> {
    let bytes = |entry: Option<&Entry>| size(entry.map_or(0, Entry::size));
    let sizes = || format!("{} → {}", bytes(compared.change.old), bytes(compared.change.new));
    let (insertions, deletions, note) = match &compared.comparison {
        Comparison::Text { insertions, deletions, .. } => {
            (insertions.to_string(), deletions.to_string(), "-".to_owned())
        }
        Comparison::Binary => ("-".to_owned(), "-".to_owned(), format!("binary, {}", sizes())),
        Comparison::TooLarge => ("-".to_owned(), "-".to_owned(), format!("too large, {}", sizes())),
    };
    let [status, path, from] = row(&compared.change);
    vec![status, path, from, insertions, deletions, note]
}
