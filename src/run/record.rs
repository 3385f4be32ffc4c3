//! What lies in a run's folder: which version was fetched whole, and for what it was installed.
//!
//! With it a restart needs neither the store nor a package registry. It is removed before the tree is changed and written
//! after the fetch is complete, so a record that is there is true.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Resolved;
use crate::application::Plan;

/// Ours inside every tree that we write; never part of a version.
const FOLDER: &str = ".workspace";
const FILE: &str = "run.json";

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) selector: String,
    pub(super) resolved: Resolved,
    /// For what `install` has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) installed: Option<String>,
    /// The row for which `build` has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) built: Option<String>,
    /// The row whose release command was run here and succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) released: Option<String>,
    /// The row that a held run was told to start: it is not held again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<String>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join(FILE)
}

impl Record {
    /// The record of an earlier start, if there is one that can be understood and is for the same selector.
    pub(super) fn read(dir: &Path, selector: &str) -> Option<Self> {
        let record: Self = serde_json::from_slice(&std::fs::read(path(dir)).ok()?).ok()?;
        (record.selector == selector).then_some(record)
    }

    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(path(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let folder = dir.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(path(dir))?;
        Ok(())
    }
}

/// What an installation depends on, as one hash: the plan's part of it, the runtime, and the content of the inputs.
pub(super) fn install_stamp(plan: &Plan, runtime_version: &str, row: &str, dir: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let settings = (&plan.runtime, &plan.dir, &plan.install, &plan.environment, &plan.install_environment);
    part(&serde_json::to_vec(&settings)?);
    part(&serde_json::to_vec(&(&plan.install_dir, &plan.path))?);
    part(runtime_version.as_bytes());
    part(std::env::consts::ARCH.as_bytes());
    for input in &plan.inputs {
        part(input.as_bytes());
        if input.ends_with('/') {
            // Many files: the version itself stands for them.
            part(row.as_bytes());
            continue;
        }
        let mut content = blake3::Hasher::new();
        match std::fs::File::open(dir.join(input)) {
            Ok(mut file) => copy(&mut file, &mut content)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        part(content.finalize().as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn copy(file: &mut std::fs::File, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            length => hasher.update(&buffer[..length]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Runtime;

    #[test]
    fn the_stamp_follows_inputs_runtime_and_commands() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan::new(Runtime::Node);
        plan.inputs = vec!["package.json".to_owned(), "package-lock.json".to_owned()];
        std::fs::write(dir.path().join("package.json"), "{}").unwrap();
        let first = install_stamp(&plan, "v20", "row1", dir.path()).unwrap();
        assert_eq!(first, install_stamp(&plan, "v20", "row2", dir.path()).unwrap());
        assert_ne!(first, install_stamp(&plan, "v22", "row1", dir.path()).unwrap());
        std::fs::write(dir.path().join("package-lock.json"), "{}").unwrap();
        assert_ne!(first, install_stamp(&plan, "v20", "row1", dir.path()).unwrap());
        std::fs::remove_file(dir.path().join("package-lock.json")).unwrap();
        plan.start = Some(crate::application::Command::parse("node other.js"));
        assert_eq!(first, install_stamp(&plan, "v20", "row1", dir.path()).unwrap());
        plan.inputs = vec!["./".to_owned()];
        let whole = |row| install_stamp(&plan, "v20", row, dir.path()).unwrap();
        assert_ne!(whole("row1"), whole("row2"));
    }

    #[test]
    fn a_record_is_for_one_selector() {
        let dir = tempfile::tempdir().unwrap();
        let resolved = Resolved { number: 7, row: "r".to_owned(), plan: None };
        let record =
            Record { selector: "a".to_owned(), resolved, installed: None, built: None, released: None, started: None };
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path(), "a"), Some(record));
        assert_eq!(Record::read(dir.path(), "a@7"), None);
        Record::remove(dir.path()).unwrap();
        Record::remove(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path(), "a"), None);
    }
}
