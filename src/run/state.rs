//! What a running container says about itself: a small file that `run` writes and `health` and `status` read.
//!
//! It lies on the container's tmpfs, so it is gone with the container's life, and each change replaces it whole.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, WORKSPACE_STATE_DIR};

const DEFAULT_DIR: &str = "/tmp/workspace";
const FILE: &str = "state.json";

/// What `run` is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Bringing the tree.
    Fetch,
    /// Installing dependencies.
    Install,
    /// Building.
    Build,
    /// Installed and built, and waiting to be told to go on.
    Held,
    /// Running the release command.
    Release,
    /// Started, not answering yet.
    Start,
    /// Answering.
    Ready,
    /// Asked to end.
    Stopping,
    /// Ended, and why is in [`State::error`].
    Failed,
}

impl Phase {
    /// The name as in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Install => "install",
            Self::Build => "build",
            Self::Held => "held",
            Self::Release => "release",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What `run` was asked for: `NAME` or `NAME@V`.
    pub selector: String,
    /// The version's number, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The version's row id, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// What is going on.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// The process that wrote this.
    pub supervisor: u32,
    /// The application's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The application's port, once the plan is known; none for a process that doesn't serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path that must answer; absent: the port must accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Which of the version's processes this is: `web`, or one of its `Procfile`.
    #[serde(default)]
    pub process: String,
    /// Whether the release command was run here and succeeded.
    #[serde(default)]
    pub released: bool,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why there is no state to read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No file: nothing was started here.
    #[error("nothing runs here: there is no `{}`", path.display())]
    Absent {
        /// Where the file would be.
        path: PathBuf,
    },
    /// It can't be read or written.
    #[error("can't use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't what `run` writes.
    #[error("`{}` can't be understood", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Where the state lies.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// As the environment says.
    pub fn of(environment: &Environment) -> Self {
        Self(environment.path(WORKSPACE_STATE_DIR).unwrap_or_else(|| PathBuf::from(DEFAULT_DIR)))
    }

    /// The folder, which may not exist yet.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads what `run` said last.
    pub fn read(&self) -> Result<State, StateError> {
        let path = self.0.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::Absent { path }),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        serde_json::from_slice(&text).map_err(|source| StateError::Syntax { path, source })
    }

    /// Replaces it.
    pub fn write(&self, state: &State) -> Result<(), StateError> {
        let path = self.0.join(FILE);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(&self.0)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| StateError::Io { path: path.clone(), source })
    }
}
