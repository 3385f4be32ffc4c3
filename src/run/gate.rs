//! The gate before the start: a held run waits here until it is told to go on.
//!
//! Whoever started the container decides when the release command runs, which must run once for all hosts, and when the
//! application starts. The order is a file beside the state; the run takes it away once its state says that it follows.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::outcome::Step;
use super::prepare::Commands;
use super::record::Record;
use super::serve::Application;
use super::state::{Phase, StateDir, StateError};
use super::{Run, RunError, is_alive};

const FILE: &str = "proceed.json";
/// How often a held run looks for an order.
const LOOK: Duration = Duration::from_millis(40);
/// How long whoever gives an order waits until it is taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a held run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Run the release command, then wait again.
    Release,
    /// Start the application.
    Start,
}

/// Why an order was not given.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no run to tell anything.
    #[error(transparent)]
    State(#[from] StateError),
    /// The run doesn't wait.
    #[error("nothing is held here: the phase is {}", phase.as_str())]
    NotHeld {
        /// What it does instead.
        phase: Phase,
    },
    /// The run is over.
    #[error("nothing is held here: the last run has ended")]
    Ended,
    /// Another order came first.
    #[error("another order is being followed")]
    Busy,
    /// The run did not take it.
    #[error("the order was not taken within {} s", PATIENCE.as_secs())]
    NotTaken,
    /// The order can't be written.
    #[error("can't use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Tells a held run to go on, and waits until it does.
pub async fn proceed(state_dir: &StateDir, order: Order) -> Result<(), OrderError> {
    let state = state_dir.read()?;
    if !is_alive(state.supervisor) {
        return Err(OrderError::Ended);
    }
    if state.phase != Phase::Held {
        return Err(OrderError::NotHeld { phase: state.phase });
    }
    let path = state_dir.path().join(FILE);
    write(state_dir.path(), &path, order).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => OrderError::Busy,
        _ => OrderError::Io { path: path.clone(), source },
    })?;
    let deadline = Instant::now() + PATIENCE;
    while path.exists() {
        if Instant::now() >= deadline {
            let _ = std::fs::remove_file(&path);
            return Err(OrderError::NotTaken);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn write(folder: &Path, path: &Path, order: Order) -> io::Result<()> {
    // Readable for the run even where another user may enter the container.
    let readable = std::fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec(&order)?)?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn remove(state_dir: &StateDir) {
    let _ = std::fs::remove_file(state_dir.path().join(FILE));
}

async fn next_order(state_dir: &StateDir) -> Order {
    let path = state_dir.path().join(FILE);
    loop {
        if let Ok(bytes) = std::fs::read(&path) {
            match serde_json::from_slice(&bytes) {
                Ok(order) => return order,
                // Orders appear whole, so this is none of this release's.
                Err(_) => remove(state_dir),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Run<'_> {
    /// Waits to be told to start, where that is wanted and wasn't done for this version before. False: asked to stop
    /// meanwhile.
    pub(super) async fn hold(&mut self, application: &Application, record: &mut Record) -> Result<bool, RunError> {
        let Application { plan, folder, environment, .. } = application;
        let row = Some(record.resolved.row.clone());
        self.state.released = record.released == row;
        if !self.options.hold || record.started == row {
            return Ok(true);
        }
        let dir = &self.options.dir;
        let io_error = |source| RunError::Io { path: dir.clone(), source };
        // One of an earlier life.
        remove(&self.state_dir);
        loop {
            self.output.note("workspace: held; `workspace proceed release` or `start` goes on");
            self.enter(Phase::Held)?;
            let order = tokio::select! {
                order = next_order(&self.state_dir) => order,
                _ = self.signals.stop() => return Ok(false),
            };
            let entered = self.enter(if order == Order::Release { Phase::Release } else { Phase::Start });
            remove(&self.state_dir);
            entered?;
            if order == Order::Start {
                record.started = row;
                record.write(dir).map_err(io_error)?;
                return Ok(true);
            }
            let limit = self.options.release_limit;
            let commands = Commands {
                step: Step::Release,
                list: plan.release.as_slice(),
                environment: &environment.start,
                limit,
                deadline: Instant::now() + limit,
            };
            if !self.commands(&commands, folder).await? {
                return Ok(false);
            }
            record.released.clone_from(&row);
            record.write(dir).map_err(io_error)?;
            self.state.released = true;
        }
    }
}
