//! What is wrong with `workspace.yaml`: all of it, each with the line on which it stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_yaml::Value;

use super::keys;

/// One thing that is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// The key as written.
    pub key: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This release doesn't know it. With the known key that looks most like it.
    Unknown(Option<String>),
    /// It can't be used, for this reason.
    Value(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, fault } = self;
        match fault {
            Fault::Unknown(Some(name)) => write!(out, "line {line}: unknown key `{key}`; did you mean `{name}`?"),
            Fault::Unknown(None) => write!(out, "line {line}: unknown key `{key}`"),
            Fault::Value(reason) => write!(out, "line {line}: `{key}` {reason}"),
        }
    }
}

/// Several of them as one message; a single one stays on its line.
pub(in crate::application) fn listed(path: &str, mistakes: &[Mistake]) -> String {
    let keys_are_unknown = mistakes.iter().any(|mistake| mistake.fault == Fault::Unknown(None));
    let known = keys_are_unknown.then(|| format!("known keys are {}", keys().join(", ")));
    if let [only] = mistakes {
        return format!("`{path}` {}", [only.to_string()].into_iter().chain(known).collect::<Vec<_>>().join("; "));
    }
    let title = format!("`{path}` has {} mistakes:", mistakes.len());
    let lines = mistakes.iter().map(Mistake::to_string).chain(known);
    [title].into_iter().chain(lines).collect::<Vec<_>>().join("\n  ")
}

/// The keys of the file with their values, repetitions included.
pub(super) struct Entries(pub(super) Vec<(Value, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("`key: value` lines")
    }
    fn visit_unit<E>(self) -> Result<Entries, E> {
        Ok(Entries(Vec::new()))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// The lines of a file, to find keys on.
pub(super) struct Lines<'a> {
    lines: Vec<&'a str>,
    /// The first with anything on it, from 0.
    first: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let says_something = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with(['#', '%', '-']);
        let first = lines.iter().position(says_something).unwrap_or_default();
        Self { lines, first }
    }

    /// The line, counted from 1, on which a key of the file itself stands for the time `occurrence`, from 0; where braces hide
    /// it, the nearest that is known.
    pub(super) fn line(&self, key: &str, occurrence: usize) -> usize {
        let first = self.lines.get(self.first).copied().unwrap_or_default();
        let lines = self.on_lines(key, (!first.trim_start().starts_with('{')).then(|| indent(first)));
        lines.get(occurrence).or(lines.last()).copied().unwrap_or(self.first + 1)
    }

    fn on_lines(&self, key: &str, column: Option<usize>) -> Vec<usize> {
        let stands_here = |line: &str| {
            let text = line.trim_start_matches(['{', ',', ' ', '"', '\'']);
            let is_key =
                text.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'));
            is_key && column.is_none_or(|column| indent(line) == column)
        };
        let found = self.lines.iter().enumerate().filter(|(_, line)| stands_here(line));
        found.map(|(at, _)| at + 1).collect()
    }

    /// What the library says of a key that stands twice further in, with the line of the second in place of the first's.
    pub(super) fn of_error(&self, error: &serde_yaml::Error) -> String {
        let text = error.to_string();
        let (Some(location), Some((_, rest))) = (error.location(), text.split_once("duplicate entry with key \""))
        else {
            return text;
        };
        let key = rest.split('"').next().unwrap_or_default();
        let after = self.on_lines(key, Some(location.column().saturating_sub(1)));
        let second = after.into_iter().filter(|line| *line >= location.line()).nth(1).unwrap_or(location.line());
        let within = text.split(": duplicate").next().unwrap_or_default();
        format!("line {second}: `{within}` has `{key}` twice; leave one of them out")
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}
