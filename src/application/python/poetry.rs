//! Poetry: whether `poetry.lock` still fits `pyproject.toml`, by the hash that Poetry itself compares.

use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};
use toml::Value;

use super::project::Project;
use crate::application::folder::Folder;
use crate::application::foreign_json::{PYTHON, hex, json, push_sorted};

/// What of `tool.poetry` counts. The first four count even where they are absent.
const KEYS: [&str; 5] = ["dependencies", "source", "extras", "dev-dependencies", "group"];
const LEGACY: usize = 4;
/// What of `project` counts.
const PROJECT_KEYS: [&str; 3] = ["requires-python", "dependencies", "optional-dependencies"];

/// Why the lock file is stale, if it is.
pub(super) fn drift(lock: &str, project: &Project) -> Option<String> {
    let written = lock.lines().find_map(|line| line.strip_prefix("content-hash"))?;
    let written = written.trim_start_matches([' ', '=']).trim_matches('"');
    // Releases before 2.2 left the dependency groups out.
    let fits = [true, false].iter().any(|with_groups| content_hash(project, *with_groups) == written);
    (!fits && written.len() == 64).then(|| "its content-hash is another one".to_owned())
}

/// See `Locker._get_content_hash` in <https://github.com/python-poetry/poetry/blob/main/src/poetry/packages/locker.py>.
fn content_hash(project: &Project, with_groups: bool) -> String {
    let mut relevant = Map::new();
    let of_project: Map<String, Json> = PROJECT_KEYS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), json(project.get(&["project", key])?))))
        .collect();
    if !of_project.is_empty() {
        relevant.insert("project".to_owned(), Json::Object(of_project));
    }
    let groups = project.get(&["dependency-groups"]).filter(|_| with_groups).map(json);
    if let Some(groups) = groups.filter(|groups| groups.as_object().is_some_and(|groups| !groups.is_empty())) {
        relevant.insert("dependency-groups".to_owned(), groups);
    }
    let mut poetry = Map::new();
    for (at, key) in KEYS.iter().enumerate() {
        match project.get(&["tool", "poetry", key]) {
            Some(value) => poetry.insert((*key).to_owned(), json(value)),
            None if at < LEGACY && relevant.is_empty() => poetry.insert((*key).to_owned(), Json::Null),
            None => None,
        };
    }
    let relevant = if relevant.is_empty() {
        poetry
    } else {
        relevant.insert("tool".to_owned(), Json::Object(Map::from_iter([("poetry".to_owned(), Json::Object(poetry))])));
        relevant
    };
    let mut text = String::new();
    push_sorted(&Json::Object(relevant), PYTHON, &mut text);
    hex(Sha256::digest(text.as_bytes()))
}

/// Whether Poetry finds a package to install, by its own rules: what is named, else a folder or file of the project's name.
pub(super) fn has_package(folder: &Folder<'_>, project: &Project) -> bool {
    let named = project.get(&["tool", "poetry", "package-mode"]).and_then(Value::as_bool);
    if named == Some(false) {
        return false;
    }
    if project.has(&["tool", "poetry", "packages"]) {
        return true;
    }
    let Some(name) = project.name() else { return false };
    let name = name.replace(['-', '.'], "_").to_lowercase();
    ["", "src/"]
        .iter()
        .any(|place| folder.contains(&format!("{place}{name}.py")) || folder.has_folder(&format!("{place}{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that Poetry 2.5 wrote.
    #[test]
    fn the_hash_is_the_one_that_poetry_writes() {
        for (text, hash) in [include_str!("poetry/tests.txt").split("=====\n").collect::<Vec<_>>()]
            .iter()
            .flat_map(|parts| parts.chunks_exact(2).map(|pair| (pair[1], pair[0].trim())))
        {
            let project = Project { pyproject: text.parse().unwrap(), ..Project::default() };
            assert_eq!(content_hash(&project, true), hash, "{text}");
            assert_eq!(drift(&format!("content-hash = \"{hash}\"\n"), &project), None);
            assert!(drift(&format!("content-hash = \"{}\"\n", "0".repeat(64)), &project).is_some());
        }
    }
}
