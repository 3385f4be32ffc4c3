//! A change as git writes it, so that `git apply` and `patch` take it: pure.

use std::fmt::Write as _;

use super::entries::Change;
use super::text::Comparison;
use crate::format::{Entry, Kind};

/// The text of a change. An empty folder has none, as in git.
pub fn write(change: &Change<'_>, comparison: &Comparison) -> Vec<u8> {
    match [change.old, change.new].map(|entry| entry.filter(|entry| entry.kind != Kind::Directory)) {
        [None, None] => Vec::new(),
        [old, new] => one(old, new, comparison),
    }
}

/// The mode as git has it: kind, then permissions.
fn mode(entry: &Entry) -> (&'static str, &'static str) {
    match &entry.kind {
        Kind::File { executable: false, .. } => ("100", "644"),
        Kind::File { executable: true, .. } => ("100", "755"),
        Kind::Link { .. } => ("120", "000"),
        Kind::Directory => ("040", "000"),
    }
}

fn one(old: Option<&Entry>, new: Option<&Entry>, comparison: &Comparison) -> Vec<u8> {
    let label = |side: &str, entry: Option<&Entry>| entry.map(|entry| quoted(&format!("{side}/{}", entry.path)));
    let (a, b) = (label("a", old.or(new)), label("b", new.or(old)));
    let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
    let mut head = format!("diff --git {a} {b}\n");
    let full = |entry: &Entry| {
        let (kind, permissions) = mode(entry);
        format!("{kind}{permissions}")
    };
    // Writing to a text doesn't fail.
    let _ = match (old, new) {
        (Some(old), Some(new)) => {
            if mode(old) != mode(new) {
                let _ = write!(head, "old mode {}\nnew mode {}\n", full(old), full(new));
            }
            if old.path == new.path {
                Ok(())
            } else {
                let (from, to) = (quoted(old.path.as_str()), quoted(new.path.as_str()));
                write!(head, "similarity index 100%\nrename from {from}\nrename to {to}\n")
            }
        }
        (Some(old), None) => writeln!(head, "deleted file mode {}", full(old)),
        (None, Some(new)) => writeln!(head, "new file mode {}", full(new)),
        (None, None) => Ok(()),
    };
    let mut text = head.into_bytes();
    match comparison {
        Comparison::Text { hunks, .. } if hunks.is_empty() => {}
        Comparison::Text { hunks, .. } => {
            let name = |entry: Option<&Entry>, label: &str| match entry {
                None => "/dev/null".to_owned(),
                // So that a reader doesn't take what follows a space for a time.
                Some(_) if label.contains(' ') => format!("{label}\t"),
                Some(_) => label.to_owned(),
            };
            text.extend(format!("--- {}\n+++ {}\n", name(old, &a), name(new, &b)).into_bytes());
            text.extend_from_slice(hunks);
        }
        // As git has it, so that `git apply` can name it, or pass it over; sizes are told beside the patch.
        Comparison::Binary | Comparison::TooLarge => {
            let name =
                |entry: Option<&Entry>, label: &str| entry.map_or_else(|| "/dev/null".to_owned(), |_| label.to_owned());
            let line = format!("index 0000000..0000000\nBinary files {} and {} differ\n", name(old, &a), name(new, &b));
            text.extend(line.into_bytes());
        }
    }
    text
}

/// A path as git writes it: in quotes where it has what would break the line.
fn quoted(path: &str) -> String {
    if !path.contains(|character: char| character.is_ascii_control() || matches!(character, '"' | '\\')) {
        return path.to_owned();
    }
    let mut text = String::from("\"");
    for character in path.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            _ if character.is_ascii_control() => {
                // Writing to a text doesn't fail.
                let _ = write!(text, "\\{:03o}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_quotes_them() {
        assert_eq!(quoted("a/plain ä"), "a/plain ä");
        assert_eq!(quoted("a/\"\\\t\u{1}"), "\"a/\\\"\\\\\\t\\001\"");
    }
}
