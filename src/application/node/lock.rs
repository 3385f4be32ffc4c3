//! Lock files of Node's package managers: whether they still fit `package.json`, seen before a frozen installation would
//! refuse it in a container.

mod others;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::manager::{Kind, Manager};
use super::package::{Package, Texts};
use crate::application::ApplicationError;
use crate::application::folder::Folder;
use crate::application::lock_policy;

/// What a lock file says, as far as it matters here.
pub(super) struct Lock {
    pub(super) file: &'static str,
    kind: Kind,
    /// What each package of the tree demanded when the file was written, by its folder: empty for the root. A range that
    /// isn't known is empty.
    importers: BTreeMap<String, BTreeMap<String, String>>,
    /// npm's own list of everything that is installed.
    packages: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    dependencies: Texts,
    dev_dependencies: Texts,
    optional_dependencies: Texts,
    dev: bool,
    bin: serde_json::Value,
}

impl Entry {
    fn demands(&self) -> BTreeMap<String, String> {
        [&self.dependencies, &self.dev_dependencies, &self.optional_dependencies]
            .into_iter()
            .flat_map(|texts| texts.0.clone())
            .collect()
    }
}

#[derive(Debug, Deserialize)]
struct Content {
    #[serde(default)]
    packages: Option<BTreeMap<String, Entry>>,
}

impl Lock {
    /// The lock file that the manager would use. One that isn't valid is named and treated as absent.
    pub(super) fn read(
        folder: &Folder<'_>,
        manager: &Manager,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, ApplicationError> {
        for file in manager.kind.locks().iter().copied().filter(|file| folder.contains(file)) {
            let mut lock = Self { file, kind: manager.kind, importers: BTreeMap::new(), packages: BTreeMap::new() };
            // Written by a program for itself alone.
            let text = if file == "bun.lockb" { None } else { folder.text(file)? };
            let Some(text) = text else { return Ok(Some(lock)) };
            let understood = match manager.kind {
                Kind::Npm => lock.take_npm(&text),
                Kind::Pnpm => others::pnpm(&text).map(|importers| lock.importers = importers),
                Kind::Yarn => {
                    lock.importers = others::yarn(&text);
                    Ok(())
                }
                Kind::Berry => others::berry(&text).map(|importers| lock.importers = importers),
                Kind::Bun => others::bun(&text).map(|importers| lock.importers = importers),
            };
            match understood {
                Ok(()) => return Ok(Some(lock)),
                Err(error) => {
                    warnings.push(format!("`{}` can't be understood and is not used: {error}", folder.path(file)));
                }
            }
        }
        Ok(None)
    }

    fn take_npm(&mut self, text: &str) -> Result<(), String> {
        let content: Content = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.packages = content.packages.unwrap_or_default();
        let own = self.packages.iter().filter(|(path, _)| !path.contains("node_modules"));
        self.importers = own.map(|(path, entry)| (path.clone(), entry.demands())).collect();
        Ok(())
    }

    /// What the package in `importer` (empty for the root) demands and the lock doesn't have. Lock files that can't tell
    /// have nothing to say.
    pub(super) fn drift(&self, package: &Package, importer: &str) -> Option<String> {
        let locked = self.importers.get(importer).or_else(|| self.importers.get(others::ANY))?;
        let mut differences = Vec::new();
        let any = self.importers.contains_key(others::ANY);
        // Packages of a monorepo that need each other are not in that file.
        if any && (!importer.is_empty() || !package.workspaces.is_null()) {
            return None;
        }
        for (name, range) in package.groups().into_iter().flat_map(|texts| &texts.0) {
            if any {
                if !locked.contains_key(&format!("{name}@{range}")) && !is_local(range) {
                    differences.push(format!("`{name}@{range}` is missing"));
                }
                continue;
            }
            let range = self.range(package, name).unwrap_or(range);
            match locked.get(name) {
                None => differences.push(format!("`{name}` is missing")),
                Some(other) if !other.is_empty() && other != range => {
                    differences.push(format!("`{name}` is {other}, not {range}"));
                }
                Some(_) => {}
            }
        }
        if self.kind == Kind::Berry {
            // To it, one too many is as wrong.
            let names = locked.keys().filter(|name| !package.depends_on(name));
            differences.extend(names.map(|name| format!("`{name}` is no longer asked for")));
        }
        lock_policy::listed(differences)
    }

    /// The range of a dependency as the lock file has it. Listed twice, npm keeps the optional one, and Yarn 2 and later the
    /// one for development.
    fn range<'a>(&self, package: &'a Package, name: &str) -> Option<&'a str> {
        if self.kind != Kind::Berry {
            return package.optional_dependencies.get(name);
        }
        let groups = [&package.dev_dependencies, &package.optional_dependencies, &package.dependencies];
        let range = groups.into_iter().find_map(|texts| texts.0.get(name))?;
        Some(others::without_protocol(range))
    }

    /// Whether `word` is a program that only a development dependency brings.
    pub(super) fn is_development_program(&self, word: &str) -> bool {
        let brings = |path: &str, entry: &Entry| match &entry.bin {
            serde_json::Value::Object(programs) => programs.contains_key(word),
            serde_json::Value::String(_) => path.rsplit('/').next() == Some(word),
            _ => false,
        };
        let mut bringers = self.packages.iter().filter(|(path, entry)| brings(path, entry)).peekable();
        bringers.peek().is_some() && bringers.all(|(_, entry)| entry.dev)
    }
}

fn is_local(range: &str) -> bool {
    ["file:", "link:", "portal:", "workspace:"].iter().any(|kind| range.starts_with(kind))
}
