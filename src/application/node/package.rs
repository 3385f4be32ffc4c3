//! `package.json`, as far as it matters here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The parts of `package.json` that matter here. What has an unexpected type is treated as absent, as npm does.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are npm's")]
pub(super) struct Package {
    pub(super) scripts: Texts,
    pub(super) main: serde_json::Value,
    pub(super) engines: Texts,
    pub(super) package_manager: serde_json::Value,
    pub(super) dependencies: Texts,
    pub(super) dev_dependencies: Texts,
    pub(super) optional_dependencies: Texts,
    pub(super) workspaces: serde_json::Value,
}

/// An object whose values are texts; entries of any other type are dropped.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "serde_json::Value")]
pub(super) struct Texts(pub(super) BTreeMap<String, String>);

impl From<serde_json::Value> for Texts {
    fn from(value: serde_json::Value) -> Self {
        let serde_json::Value::Object(object) = value else {
            return Self::default();
        };
        Self(object.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect())
    }
}

impl Texts {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.trim().is_empty())
    }
}

/// Scripts that package managers run by themselves while they install.
const LIFECYCLE: [&str; 6] = ["preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare"];

impl Package {
    /// `main`, if there is one.
    pub(super) fn main(&self) -> Option<&str> {
        self.main.as_str().filter(|main| !main.is_empty())
    }

    /// The script that an installation runs, if there is one.
    pub(super) fn lifecycle_script(&self) -> Option<&'static str> {
        LIFECYCLE.into_iter().find(|script| self.scripts.get(script).is_some())
    }

    /// Every direct dependency with its range: for running, for developing, optional.
    pub(super) fn groups(&self) -> [&Texts; 3] {
        [&self.dependencies, &self.dev_dependencies, &self.optional_dependencies]
    }

    /// Whether a package is among the direct dependencies of any kind.
    pub(super) fn depends_on(&self, name: &str) -> bool {
        self.groups().iter().any(|texts| texts.0.contains_key(name))
    }

    /// Whether an installation has anything to do.
    pub(super) fn wants_something(&self) -> bool {
        self.lifecycle_script().is_some()
            || !self.workspaces.is_null()
            || self.groups().iter().any(|texts| !texts.0.is_empty())
    }

    /// Whether an installation reads files of the tree beside the manifests.
    pub(super) fn reads_tree(&self) -> bool {
        let local =
            |range: &String| ["file:", "link:", "portal:", "workspace:"].iter().any(|kind| range.starts_with(kind));
        self.lifecycle_script().is_some()
            || !self.workspaces.is_null()
            || self.groups().iter().any(|texts| texts.0.values().any(local))
    }
}
