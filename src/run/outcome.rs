//! A run's last words: why it ended, in a file that outlives the process and that Docker gives out of a stopped
//! container.
//!
//! The file lies at [`PATH`] below the run's folder, as one line of JSON. It is there only between the end of a run and
//! the next start.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{RunError, SourceError, hints, system};
use crate::names::WorkspaceName;
use crate::store::StoreError;

/// Where the file lies below the folder of `run --dir`: `/app/.workspace/outcome.json` in a container.
pub const PATH: &str = ".workspace/outcome.json";

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was going on.
    pub step: Step,
    /// What happened, in one sentence.
    pub reason: String,
    /// Whether the application had become ready.
    #[serde(default)]
    pub was_ready: bool,
    /// The last lines of the step's own output, at most 50. None of the application's, which goes to the log directly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    /// What listened where, for an application that never became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Whether the kernel killed something for want of memory, as far as can be told.
    #[serde(default)]
    pub out_of_memory: bool,
    /// The code that the process ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The version's number, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The version's row id, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// In which step a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The version couldn't be had.
    Fetch,
    /// An install command failed.
    Install,
    /// A build command failed.
    Build,
    /// The release command failed.
    Release,
    /// The start command couldn't be executed, or there is none.
    Start,
    /// It never became ready.
    Ready,
    /// It was started and ended by itself; [`Outcome::was_ready`] says whether it had become ready.
    Run,
    /// It was asked to end.
    Stopped,
    /// Written by a later release.
    #[serde(other)]
    Unknown,
}

impl Step {
    /// The name as in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Install => "install",
            Self::Build => "build",
            Self::Release => "release",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Run => "run",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

impl Outcome {
    /// One of which no more is known.
    pub(super) fn new(step: Step, reason: impl Into<String>) -> Self {
        Self {
            step,
            reason: reason.into(),
            was_ready: false,
            tail: Vec::new(),
            listening: None,
            hint: String::new(),
            out_of_memory: false,
            exit_code: None,
            version: None,
            row: None,
            at: Timestamp::now(),
        }
    }

    /// One that was asked to end.
    pub(super) fn stopped() -> Self {
        Self::new(Step::Stopped, "it was asked to stop")
    }

    /// What an error comes to.
    pub(super) fn of(error: &RunError, name: &WorkspaceName) -> Self {
        let mut outcome = Self::new(error.step(), error.to_string());
        match error {
            RunError::Fetch { source, .. } => outcome.reason = format!("{}: {source:#}", outcome.reason),
            RunError::Io { source, .. } => outcome.reason = format!("{}: {source}", outcome.reason),
            RunError::Step { tail, out_of_memory, .. } => {
                outcome.tail.clone_from(tail);
                outcome.out_of_memory = *out_of_memory;
            }
            RunError::NeverReady { listening, .. } => outcome.listening.clone_from(listening),
            _ => {}
        }
        outcome.hint = if outcome.out_of_memory { MORE_MEMORY.to_owned() } else { error.hint(name) };
        outcome
    }

    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    /// Forgets what an earlier run said.
    pub(super) fn remove(dir: &Path) {
        let _ = std::fs::remove_file(dir.join(PATH));
    }

    /// Replaces the file. Not in a folder that isn't ours: what lies there would make it ours.
    pub(super) fn write(&self, dir: &Path) -> Result<(), (PathBuf, io::Error)> {
        let path = dir.join(PATH);
        let folder = path.parent().unwrap_or(dir);
        let empty = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        if !folder.exists() && !empty && !system::is_first_process() {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| (path.clone(), error))
    }
}

/// What to do when memory ran out.
pub(super) const MORE_MEMORY: &str =
    "it ran out of memory: `memory:` in workspace.yaml raises the limit of its container";

impl RunError {
    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Fetch { .. } | Self::Io { .. } | Self::State(_) => Step::Fetch,
            Self::Step { step, .. } => *step,
            Self::NoStart { .. } | Self::NoProcess { .. } | Self::Start { .. } => Step::Start,
            Self::NeverReady { .. } => Step::Ready,
        }
    }

    /// What to do about it, in the workspace of this name.
    pub fn hint(&self, name: &WorkspaceName) -> String {
        match self {
            Self::Fetch { source, .. } => hint_for_fetch(source),
            Self::Step { out_of_memory: true, .. } => MORE_MEMORY.to_owned(),
            Self::Step { reason, tail, .. } => hints::of_step(reason, tail, name).unwrap_or_else(|| {
                format!("try the command where you uploaded from, then `workspace upload {name}` again")
            }),
            Self::NeverReady { reason, listening, .. } => hints::of_silence(reason, listening.as_deref()),
            Self::NoStart { .. } => {
                "add a `start` script to package.json, or `start:` to workspace.yaml, and upload again".to_owned()
            }
            Self::NoProcess { .. } => "a `Procfile` names processes; WORKSPACE_PROCESS chooses one".to_owned(),
            Self::Start { reason } => hints::of_start(reason),
            Self::Io { .. } | Self::State(_) => String::new(),
        }
    }
}

fn hint_for_fetch(error: &anyhow::Error) -> String {
    let store = error.chain().find_map(|cause| {
        cause.downcast_ref::<StoreError>().or_else(|| {
            use crate::checkout::CheckoutError;
            use crate::version::VersionError;
            match (cause.downcast_ref::<CheckoutError>(), cause.downcast_ref::<VersionError>()) {
                (Some(CheckoutError::Store(error) | CheckoutError::Version(VersionError::Store(error))), _)
                | (_, Some(VersionError::Store(error))) => Some(error),
                _ => None,
            }
        })
    });
    match store {
        Some(StoreError::GrantExpired { .. }) => {
            "see whether the monitor runs that renews the grant, and whether the clocks agree".to_owned()
        }
        Some(StoreError::Unreachable { .. } | StoreError::Timeout { .. } | StoreError::Interrupted { .. }) => {
            "S3_CONTAINER_ENDPOINT names the store as containers reach it".to_owned()
        }
        _ => String::new(),
    }
}

impl SourceError {
    /// Why, whatever it means.
    pub(super) fn into_inner(self) -> anyhow::Error {
        match self {
            Self::Unavailable(error) | Self::Refused(error) => error,
        }
    }
}

/// Tells whether the kernel killed something for want of memory meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryWatch(Option<u64>);

impl MemoryWatch {
    /// From now on.
    pub(super) fn begin() -> Self {
        Self(system::out_of_memory_kills())
    }

    /// Whether it did. Where the kernel doesn't count, a SIGKILL that nobody here sent is taken for it.
    pub(super) fn killed(self, by_foreign_kill: bool) -> bool {
        match (self.0, system::out_of_memory_kills()) {
            (Some(before), Some(after)) => after > before,
            _ => by_foreign_kill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_release_says_is_understood() {
        let text = r#"{"step":"teleport","reason":"r","at":"2026-01-01T00:00:00Z","more":1}"#;
        let outcome = Outcome::parse(text.as_bytes()).unwrap();
        assert_eq!((outcome.step, outcome.out_of_memory), (Step::Unknown, false));
    }

    #[test]
    fn a_folder_that_is_not_ours_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("theirs"), "x").unwrap();
        Outcome::new(Step::Fetch, "r").write(folder.path()).unwrap();
        assert!(!folder.path().join(".workspace").exists());
        std::fs::remove_file(folder.path().join("theirs")).unwrap();
        let outcome = Outcome::new(Step::Fetch, "r");
        outcome.write(folder.path()).unwrap();
        assert_eq!(Outcome::parse(&std::fs::read(folder.path().join(PATH)).unwrap()).unwrap(), outcome);
        Outcome::remove(folder.path());
        assert!(!folder.path().join(PATH).exists());
    }
}
