//! `pyproject.toml` and `Pipfile`, as far as they matter here.

use toml::{Table, Value};

use crate::application::ApplicationError;
use crate::application::folder::Folder;

/// The manifests of a Python tree. What isn't there is empty.
#[derive(Debug, Default)]
pub(super) struct Project {
    /// `pyproject.toml`.
    pub(super) pyproject: Table,
    /// `Pipfile`.
    pub(super) pipfile: Table,
}

impl Project {
    /// Reads both. One that isn't valid is named and treated as empty.
    pub(super) fn read(folder: &Folder<'_>, warnings: &mut Vec<String>) -> Result<Self, ApplicationError> {
        Ok(Self { pyproject: table(folder, "pyproject.toml", warnings)?, pipfile: table(folder, "Pipfile", warnings)? })
    }

    /// A value of `pyproject.toml`, such as `["tool", "poetry", "name"]`.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&Value> {
        let (first, rest) = keys.split_first()?;
        rest.iter().try_fold(self.pyproject.get(*first)?, |value, key| value.get(*key))
    }

    pub(super) fn text(&self, keys: &[&str]) -> Option<&str> {
        self.get(keys).and_then(Value::as_str)
    }

    pub(super) fn has(&self, keys: &[&str]) -> bool {
        self.get(keys).is_some()
    }

    /// Its name, as it declares it.
    pub(super) fn name(&self) -> Option<&str> {
        self.text(&["project", "name"]).or_else(|| self.text(&["tool", "poetry", "name"]))
    }

    /// The programs that an installation of the project itself brings.
    pub(super) fn scripts(&self) -> Vec<&str> {
        let tables = [self.get(&["project", "scripts"]), self.get(&["tool", "poetry", "scripts"])];
        let tables = tables.into_iter().flatten().filter_map(Value::as_table);
        tables.flat_map(|table| table.keys().map(String::as_str)).collect()
    }

    /// Where versions of Python are demanded, and how.
    pub(super) fn version_ranges(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pipfile = |key: &str| self.pipfile.get("requires").and_then(|value| value.get(key)).and_then(Value::as_str);
        [
            ("requires-python", self.text(&["project", "requires-python"])),
            ("python in tool.poetry.dependencies", self.text(&["tool", "poetry", "dependencies", "python"])),
            ("python_full_version in Pipfile", pipfile("python_full_version")),
            ("python_version in Pipfile", pipfile("python_version")),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)))
    }
}

fn table(folder: &Folder<'_>, file: &str, warnings: &mut Vec<String>) -> Result<Table, ApplicationError> {
    let Some(text) = folder.text(file)? else { return Ok(Table::new()) };
    match text.parse() {
        Ok(table) => Ok(table),
        Err(error) => {
            let error: toml::de::Error = error;
            warnings.push(format!("`{}` isn't valid TOML and is not used: {}", folder.path(file), error.message()));
            Ok(Table::new())
        }
    }
}
