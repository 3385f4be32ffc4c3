//! Pipenv: whether `Pipfile.lock` still fits `Pipfile`, by the hash that Pipenv itself compares.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use toml::Value;

use super::dependencies::{self, Dependencies};
use super::project::Project;
use crate::application::foreign_json::{self, PYTHON_COMPACT, hex, push_sorted};
use crate::application::lock_policy;

/// Sections that are no lists of packages.
const SECTIONS: [&str; 4] = ["source", "requires", "scripts", "pipenv"];
/// What the hash calls the two lists that every Pipfile has.
const LISTS: [(&str, &str); 2] = [("packages", "default"), ("dev-packages", "develop")];
/// Categories of these names are left out, because the two lists are called so.
const TAKEN: [&str; 3] = ["default", "develop", "pipfile"];

/// Why the lock file is stale, if it is. One that isn't valid has nothing to say.
pub(super) fn drift(lock: &str, project: &Project, dependencies: &Dependencies) -> Option<String> {
    let lock: Json = serde_json::from_str(lock).ok()?;
    let names: Vec<String> =
        lock.get("default")?.as_object()?.keys().map(|name| dependencies::normalized(name)).collect();
    let missing = lock_policy::listed(dependencies.missing(&names));
    if missing.is_some() || project.pipfile.is_empty() {
        return missing;
    }
    let written = lock.pointer("/_meta/hash/sha256").and_then(Json::as_str)?;
    // Without a source, Pipenv hashes the ones that its own settings name; the lock file repeats them.
    let sources = match project.pipfile.get("source") {
        Some(sources) => foreign_json::json(sources),
        None => lock.pointer("/_meta/sources")?.clone(),
    };
    // Older releases hashed names as they are written.
    let fits = [true, false].iter().any(|normalized| content_hash(project, &sources, *normalized) == written);
    (!fits).then(|| "its hash of the Pipfile is another one".to_owned())
}

/// See `calculate_hash` in <https://github.com/pypa/pipenv/blob/main/pipenv/utils/pipfile.py> and `get_hash` in
/// <https://github.com/sarugaku/plette/blob/master/src/plette/pipfiles.py>.
fn content_hash(project: &Project, sources: &Json, normalized: bool) -> String {
    let list = |table: &Value| match foreign_json::json(table) {
        Json::Object(packages) if normalized => {
            packages.into_iter().map(|(name, wanted)| (dependencies::normalized(&name), wanted)).collect()
        }
        other => other,
    };
    let empty = || Json::Object(Map::new());
    let requires = project.pipfile.get("requires").map_or_else(empty, foreign_json::json);
    let mut data = Map::from_iter([("_meta".to_owned(), json!({ "sources": sources, "requires": requires }))]);
    for (section, name) in LISTS {
        data.insert(name.to_owned(), project.pipfile.get(section).map_or_else(empty, list));
    }
    let is_list = |name: &str| LISTS.iter().any(|(section, _)| *section == name);
    let categories = project.pipfile.iter().filter(|(name, _)| !SECTIONS.contains(&name.as_str()) && !is_list(name));
    for (name, packages) in categories.filter(|(name, _)| !TAKEN.contains(&name.as_str())) {
        data.insert(name.clone(), list(packages));
    }
    let mut text = String::new();
    push_sorted(&Json::Object(data), PYTHON_COMPACT, &mut text);
    hex(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(hash: &str) -> String {
        json!({
            "_meta": {"hash": {"sha256": hash}, "sources": [{"name": "own", "url": "https://packages.example/simple", "verify_ssl": true}]},
            "default": {"idna": {}, "six": {}},
        })
        .to_string()
    }

    fn drift_of(pipfile: &str, hash: &str) -> Option<String> {
        let project = Project { pipfile: pipfile.parse().unwrap(), ..Project::default() };
        drift(&lock(hash), &project, &Dependencies::default())
    }

    /// Hashes that Pipenv 2026.10 and Plette 2 made: the first with normalized names, the second with names as written.
    #[test]
    fn the_hash_is_the_one_that_pipenv_writes() {
        for part in include_str!("pipenv/tests.txt").split("=====\n") {
            let (hashes, pipfile) = part.split_once("\n-----\n").unwrap();
            for hash in hashes.split_whitespace() {
                assert_eq!(drift_of(pipfile, hash), None, "{pipfile}");
            }
            let changed = pipfile.replace(">=3", ">=4").replace("\"*\"", "\"<9\"");
            assert!(drift_of(&changed, hashes.split_whitespace().next().unwrap()).is_some(), "{changed}");
        }
    }
}
