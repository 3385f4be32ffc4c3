//! The names of what a Python tree depends on: parsed, not searched for, so that `flask-cors` isn't Flask.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::manager::{Kind, Manager};
use super::project::Project;
use crate::application::ApplicationError;
use crate::application::folder::Folder;

/// The most files that `-r` lines of requirements may lead to.
const MAX_FILES: usize = 32;

/// Direct dependencies with the extras that are asked for, by normalized name.
#[derive(Debug, Default)]
pub(super) struct Dependencies(BTreeMap<String, BTreeSet<String>>);

impl Dependencies {
    /// What the manager will install, as far as the tree names it.
    pub(super) fn of(
        folder: &Folder<'_>,
        project: &Project,
        manager: Option<&Manager>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ApplicationError> {
        let mut all = Self::default();
        if let Some(list) = manager.and_then(|manager| manager.requirements) {
            all.take_files(list, folder, warnings)?;
            return Ok(all);
        }
        match manager.map(|manager| manager.kind) {
            Some(Kind::Pipenv) => {
                let packages = project.pipfile.get("packages").and_then(Value::as_table).into_iter().flatten();
                packages.for_each(|(name, wanted)| all.take_table_entry(name, wanted));
            }
            Some(_) => all.take_project(project),
            None => {}
        }
        Ok(all)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All of them, but Python itself, which Poetry lists among them.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| *name != "python")
    }

    /// Those that a lock file doesn't have. `locked` are its normalized names.
    pub(super) fn missing(&self, locked: &[String]) -> Vec<String> {
        let names = self.names().filter(|name| !locked.iter().any(|locked| locked == name));
        names.map(|name| format!("`{name}` is missing")).collect()
    }

    /// Whether a package is asked for with one of these extras.
    pub(super) fn has_extra(&self, name: &str, extras: &[&str]) -> bool {
        self.0.get(name).is_some_and(|found| extras.iter().any(|extra| found.contains(*extra)))
    }

    fn take(&mut self, requirement: &str) {
        if let Some((name, extras)) = parse(requirement) {
            self.0.entry(name).or_default().extend(extras);
        }
    }

    /// A list, and what its `-r` lines name.
    fn take_files(
        &mut self,
        list: &str,
        folder: &Folder<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApplicationError> {
        let mut files = vec![list.to_owned()];
        let mut at = 0;
        while let Some(file) = files.get(at).cloned() {
            at += 1;
            let Some(text) = folder.text(&file)? else {
                warnings.push(format!("`{file}` is named in requirements and is not among the files to upload"));
                continue;
            };
            for line in text.lines().map(str::trim) {
                let named = ["-r", "--requirement"]
                    .iter()
                    .find_map(|flag| line.strip_prefix(flag).filter(|rest| rest.starts_with([' ', '=', '\t'])));
                if let Some(named) = named {
                    let beside = file.rsplit_once('/').map(|(dir, _)| format!("{dir}/")).unwrap_or_default();
                    let named = named.trim_start_matches([' ', '=', '\t']);
                    let path = clean(&format!("{beside}{named}"));
                    if files.len() < MAX_FILES && !files.contains(&path) {
                        files.push(path);
                    }
                } else {
                    self.take(line);
                }
            }
        }
        Ok(())
    }

    fn take_project(&mut self, project: &Project) {
        let listed = project.get(&["project", "dependencies"]).and_then(Value::as_array).into_iter().flatten();
        listed.filter_map(Value::as_str).for_each(|requirement| self.take(requirement));
        let poetry = project.get(&["tool", "poetry", "dependencies"]).and_then(Value::as_table).into_iter().flatten();
        poetry.for_each(|(name, wanted)| self.take_table_entry(name, wanted));
    }

    fn take_table_entry(&mut self, name: &str, wanted: &Value) {
        let extras = wanted.get("extras").and_then(Value::as_array).into_iter().flatten();
        let extras = extras.filter_map(Value::as_str).map(str::to_owned);
        self.0.entry(normalized(name)).or_default().extend(extras);
    }
}

/// The name and the extras of a requirement such as `uvicorn[standard]>=0.30 ; python_version > "3.8"`. `None` for options,
/// comments and whatever has no name.
fn parse(requirement: &str) -> Option<(String, Vec<String>)> {
    let text = requirement.trim();
    // `git+https://…#egg=name`
    if let Some((_, name)) = text.split_once("#egg=") {
        return parse(name.split('&').next()?);
    }
    let (name, rest) = split_name(text);
    if !name.starts_with(|character: char| character.is_ascii_alphanumeric()) {
        return None;
    }
    let rest = rest.trim_start();
    // A path or an address.
    if rest.starts_with(['/', ':', '\\', '+']) {
        return None;
    }
    let extras = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(extras, _)| extras);
    let extras = extras.into_iter().flat_map(|extras| extras.split(',')).map(normalized);
    Some((normalized(name), extras.collect()))
}

/// The normalized name of a requirement, its extras as they are written, and what comes after them.
pub(super) fn split(requirement: &str) -> (String, &str, &str) {
    let (name, rest) = split_name(requirement.trim());
    let rest = rest.trim_start();
    let (extras, rest) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).unwrap_or(("", rest));
    (normalized(name), extras, rest)
}

fn split_name(text: &str) -> (&str, &str) {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    text.split_at(text.find(|character| !is_name(character)).unwrap_or(text.len()))
}

/// See <https://packaging.python.org/en/latest/specifications/name-normalization/>.
pub(super) fn normalized(name: &str) -> String {
    let mut clean = String::new();
    for character in name.trim().chars() {
        match character {
            '-' | '_' | '.' if clean.ends_with('-') => {}
            '-' | '_' | '.' => clean.push('-'),
            other => clean.push(other.to_ascii_lowercase()),
        }
    }
    clean
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        let parsed = |text: &str| parse(text).map(|(name, extras)| (name, extras.join(",")));
        let found = |name: &str, extras: &str| Some((name.to_owned(), extras.to_owned()));
        assert_eq!(parsed("Flask_Cors>=4"), found("flask-cors", ""));
        assert_eq!(parsed("uvicorn[standard,dev]==0.30 ; python_version > '3.8'"), found("uvicorn", "standard,dev"));
        assert_eq!(parsed("pkg @ https://example.org/pkg.zip"), found("pkg", ""));
        assert_eq!(parsed("git+https://example.org/x.git#egg=My.Pkg"), found("my-pkg", ""));
        for text in ["# django", "-e .", "--index-url https://example.org", "./wheels/django.whl", ""] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
