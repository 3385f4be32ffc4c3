//! `package-lock.json`: whether it still fits `package.json`, seen before `npm ci` would refuse it in a container.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::{Package, Texts};
use crate::application::ApplicationError;
use crate::application::folder::Folder;

/// What a lock file says, as far as it matters here.
pub(super) struct Lock {
    pub(super) file: &'static str,
    packages: Option<BTreeMap<String, Entry>>,
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

#[derive(Debug, Deserialize)]
struct Content {
    #[serde(default)]
    packages: Option<BTreeMap<String, Entry>>,
}

impl Lock {
    /// The lock file that npm would use. One that isn't valid is named and treated as absent.
    pub(super) fn read(folder: &Folder<'_>, warnings: &mut Vec<String>) -> Result<Option<Self>, ApplicationError> {
        for file in ["npm-shrinkwrap.json", "package-lock.json"] {
            let Some(text) = folder.text(file)? else {
                continue;
            };
            match serde_json::from_str::<Content>(&text) {
                Ok(content) => return Ok(Some(Self { file, packages: content.packages })),
                Err(error) => {
                    warnings.push(format!("`{}` can't be understood and is not used: {error}", folder.path(file)));
                }
            }
        }
        Ok(None)
    }

    /// What `package.json` demands and the lock doesn't have. Lock files of version 1 can't tell.
    pub(super) fn drift(&self, package: &Package) -> Option<String> {
        let packages = self.packages.as_ref()?;
        let root = packages.get("")?;
        let groups = [
            (&package.dependencies, &root.dependencies),
            (&package.dev_dependencies, &root.dev_dependencies),
            (&package.optional_dependencies, &root.optional_dependencies),
        ];
        let mut differences = Vec::new();
        for (wanted, locked) in groups {
            for (name, range) in &wanted.0 {
                // An optional dependency may also be listed among the others, where npm drops it from the lock.
                if package.optional_dependencies.get(name).is_some()
                    && root.optional_dependencies.get(name) == package.optional_dependencies.get(name)
                {
                    continue;
                }
                match locked.0.get(name) {
                    None => differences.push(format!("`{name}` is missing")),
                    Some(other) if other != range => differences.push(format!("`{name}` is {other}, not {range}")),
                    Some(_) => {}
                }
            }
        }
        let more = differences.len().saturating_sub(3);
        differences.truncate(3);
        if differences.is_empty() {
            return None;
        }
        if more > 0 {
            differences.push(format!("{more} more"));
        }
        Some(differences.join(", "))
    }

    /// Whether `word` is a program that only a development dependency brings.
    pub(super) fn is_development_program(&self, word: &str) -> bool {
        let Some(packages) = &self.packages else {
            return false;
        };
        let brings = |path: &str, entry: &Entry| match &entry.bin {
            serde_json::Value::Object(programs) => programs.contains_key(word),
            serde_json::Value::String(_) => path.rsplit('/').next() == Some(word),
            _ => false,
        };
        let mut bringers = packages.iter().filter(|(path, entry)| brings(path, entry)).peekable();
        bringers.peek().is_some() && bringers.all(|(_, entry)| entry.dev)
    }
}
