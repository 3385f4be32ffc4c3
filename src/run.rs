//! A container's first process: fetch, install, build, start, ready, stop.
//!
//! Each phase is written to the [`state`] file before it begins, so `workspace health` and `workspace status` always
//! know where a container stands. Everything that runs below is waited for by one place, [`processes`].

mod child_environment;
mod follow;
mod gate;
mod hints;
pub mod outcome;
mod prepare;
mod probe;
mod processes;
mod record;
mod serve;
mod signals;
pub mod state;
mod steps;
mod supervisor;
mod system;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::application::{Command, Plan, Runtime};
use crate::environment::Environment;
use crate::names::{Selector, Version};
use crate::output::Output;
use child_environment::Bundle;
use outcome::Outcome;
use processes::Processes;
use record::Record;
use signals::Signals;
use state::{Phase, State, StateDir, StateError};

pub use gate::{Order, OrderError, proceed};
pub use hints::say;
pub use probe::{Target, get, probe, what_listens};
pub use system::{hide_memory, is_alive};

/// How long the store may take to answer when an earlier tree could be started instead.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// The process that serves traffic.
pub const WEB: &str = "web";
/// Where images keep what package managers may keep between containers.
const CACHE_DIR: &str = "/cache";
/// How long another process must have been up to count as ready: it has no port to answer on.
const UP: Duration = Duration::from_secs(1);

/// Which version is meant, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The version's number.
    pub number: u64,
    /// Its row's id, which no other version ever has.
    pub row: String,
    /// How it is run.
    pub plan: Option<Plan>,
}

/// Why a version can't be had.
#[derive(Debug)]
pub enum SourceError {
    /// The store can't be reached or is failing: what was fetched earlier may do.
    Unavailable(anyhow::Error),
    /// Anything else: trying again won't help.
    Refused(anyhow::Error),
}

/// Where versions come from.
#[expect(async_fn_in_trait, reason = "used by generic functions of this crate only, on one task")]
pub trait Source {
    /// Whether asking which version is meant needs nothing but this machine, so that there is no reason not to ask.
    const COSTS_NOTHING: bool = false;
    /// Whether what was installed can be kept there, for other containers.
    const HAS_SNAPSHOTS: bool = false;
    /// Finds out which version is meant. Changes nothing on disk.
    async fn resolve(&self) -> Result<Resolved, SourceError>;
    /// Makes `dir` that version: overwrites, and deletes what only an earlier version had.
    async fn fetch(&self, version: &Resolved, dir: &Path) -> Result<(), SourceError>;
    /// Waits until another version than this row's is meant.
    async fn next(&self, row: &str) -> Resolved {
        let _ = row;
        std::future::pending().await
    }
    /// Puts what was installed elsewhere under a key into `dir`. How many files; nothing where there is no such snapshot.
    async fn restore(&self, key: &str, dir: &Path) -> anyhow::Result<Option<u64>> {
        let _ = (key, dir);
        Ok(None)
    }
    /// Keeps what was installed in `dir` under a key. How many files; nothing where there is nothing to keep.
    async fn save(&self, key: &str, dir: &Path) -> anyhow::Result<Option<u64>> {
        let _ = (key, dir);
        Ok(None)
    }
}

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Which version of what.
    pub selector: Selector,
    /// Where the tree goes.
    pub dir: PathBuf,
    /// For install and build together.
    pub install_limit: Duration,
    /// From the start until it answers.
    pub ready_limit: Duration,
    /// From the stop signal until it is killed.
    pub grace: Duration,
    /// For the release command.
    pub release_limit: Duration,
    /// Whether to wait for [`proceed`] once everything is installed and built.
    pub hold: bool,
    /// Which process to start: [`WEB`], or one of [`Plan::processes`].
    pub process: String,
    /// Whether to go on to every version that comes, in the same container.
    pub follow: bool,
    /// Whether what was installed is kept in the bucket for other containers, whatever the plan says.
    pub cache_dependencies: bool,
}

/// Why a run ended without the application's own exit code.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The version can't be had.
    #[error("can't fetch `{selector}`")]
    Fetch {
        /// What was asked for.
        selector: Selector,
        /// Why.
        source: anyhow::Error,
    },
    /// There is nothing to start.
    #[error("`{selector}` has no start command: it is stored, not run")]
    NoStart {
        /// What was asked for.
        selector: Selector,
    },
    /// There is no such process.
    #[error("`{selector}` has no process `{process}`; it has {available}")]
    NoProcess {
        /// What was asked for.
        selector: Selector,
        /// The process that was to run.
        process: String,
        /// The processes that it has.
        available: String,
    },
    /// An install, build or release command failed.
    #[error("{} failed: `{command}` {reason}", step.as_str())]
    Step {
        /// Which of them.
        step: outcome::Step,
        /// The command.
        command: Command,
        /// How it ended.
        reason: String,
        /// Its last lines.
        tail: Vec<String>,
        /// Whether memory ran out, as far as can be told.
        out_of_memory: bool,
    },
    /// The start command can't be executed.
    #[error("start failed: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// It never answered.
    #[error("`{command}` did not become ready within {} s: {reason}", limit.as_secs())]
    NeverReady {
        /// The start command.
        command: Command,
        /// The limit that passed.
        limit: Duration,
        /// Why the last probe failed.
        reason: String,
        /// What listens where.
        listening: Option<String>,
    },
    /// A file of ours can't be used.
    #[error("can't use `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state can't be written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Runs a version until it ends, and answers with the exit code to end with.
pub async fn run(
    options: &RunOptions,
    source: &impl Source,
    environment: &Environment,
    output: &Output,
) -> Result<u8, RunError> {
    let system_call = |source| RunError::Io { path: "/proc/self".into(), source };
    let processes = Processes::new().map_err(system_call)?;
    let signals = Signals::new().map_err(system_call)?;
    system::adopt_orphans();
    system::hide_memory();
    let state = State {
        selector: options.selector.to_string(),
        version: None,
        row: None,
        phase: Phase::Fetch,
        since: Timestamp::now(),
        supervisor: std::process::id(),
        pid: None,
        port: None,
        health: None,
        process: options.process.clone(),
        released: false,
        error: None,
    };
    let state_dir = StateDir::of(environment);
    Outcome::remove(&options.dir);
    let mut run = Run {
        options,
        environment,
        output,
        state_dir,
        state,
        processes,
        signals,
        outcome: None,
        bundle: None,
        runtime: None,
        serving: false,
        not_before: None,
    };
    let ended = run.whole(source).await;
    run.last_words(&ended);
    ended
}

/// One run. Holds what every phase needs.
struct Run<'a> {
    options: &'a RunOptions,
    environment: &'a Environment,
    output: &'a Output,
    state_dir: StateDir,
    state: State,
    processes: Processes,
    signals: Signals,
    /// Why the application ended.
    outcome: Option<Outcome>,
    /// The certificate authorities that its parts are told to trust.
    bundle: Option<Bundle>,
    /// What the image's runtime says of itself, once it was asked.
    runtime: Option<(Runtime, String)>,
    /// While a version is prepared: the one before it goes on.
    serving: bool,
    /// The next version isn't looked for earlier.
    not_before: Option<Instant>,
}

impl Run<'_> {
    /// Leaves behind why the run ended. What can't be written changes nothing about it.
    fn last_words(&mut self, ended: &Result<u8, RunError>) {
        let failed_in = match self.state.phase {
            Phase::Install => outcome::Step::Install,
            Phase::Build => outcome::Step::Build,
            Phase::Held | Phase::Release => outcome::Step::Release,
            Phase::Start => outcome::Step::Start,
            _ => outcome::Step::Fetch,
        };
        let mut outcome = match ended {
            Ok(_) => self.outcome.take().unwrap_or_else(Outcome::stopped),
            Err(error @ (RunError::Io { .. } | RunError::State(_))) => {
                Outcome { step: failed_in, ..Outcome::of(error, &self.options.selector.name) }
            }
            Err(error) => Outcome::of(error, &self.options.selector.name),
        };
        outcome.exit_code = ended.as_ref().ok().copied();
        (outcome.version, outcome.row) = (self.state.version, self.state.row.clone());
        // Before the state: whoever sees that the run has failed may read why.
        if let Err((path, error)) = outcome.write(&self.options.dir) {
            self.output.warn(&format!("can't write `{}`: {error}", path.display()));
        }
        if outcome.step != outcome::Step::Stopped {
            self.state.error = Some(match ended {
                Ok(_) => outcome.reason,
                Err(error) => error.to_string(),
            });
            self.state.pid = None;
            let _ = self.enter(Phase::Failed);
        }
    }

    async fn whole(&mut self, source: &impl Source) -> Result<u8, RunError> {
        self.enter(Phase::Fetch)?;
        let Some(mut record) = self.fetch(source).await? else {
            return Ok(STOPPED_EARLY);
        };
        self.bundle = match Bundle::prepare(self.environment, self.state_dir.path()) {
            Ok(bundle) => bundle,
            Err(problem) => {
                self.output.warn(&problem);
                None
            }
        };
        if self.options.follow {
            return self.serve_following(source, record).await;
        }
        let application = self.application(&record)?;
        self.is_now(&record, &application);
        if !self.prepare_from(source, &application, &mut record).await? || !self.hold(&application, &mut record).await?
        {
            return Ok(STOPPED_EARLY);
        }
        self.serve(&application).await
    }

    /// Brings the tree up to date. `None`: asked to stop meanwhile.
    async fn fetch(&mut self, source: &impl Source) -> Result<Option<Record>, RunError> {
        let (options, output) = (self.options, self.output);
        let stop = self.signals.stop();
        tokio::select! {
            record = fetch(options, source, output) => record.map(Some),
            _ = stop => Ok(None),
        }
    }

    fn enter(&mut self, phase: Phase) -> Result<(), RunError> {
        self.state.phase = phase;
        self.state.since = Timestamp::now();
        Ok(self.state_dir.write(&self.state)?)
    }
}

/// The code of a container that was stopped before its application began: as if by SIGTERM.
const STOPPED_EARLY: u8 = 143;

async fn fetch<S: Source>(options: &RunOptions, source: &S, output: &Output) -> Result<Record, RunError> {
    let (dir, selector) = (&options.dir, &options.selector);
    let fetch_error = |error: SourceError| RunError::Fetch { selector: selector.clone(), source: error.into_inner() };
    let io_error = |source| RunError::Io { path: dir.clone(), source };
    let earlier = Record::read(dir, &selector.to_string());
    // A number never means another version of the same workspace, so there is nothing to ask.
    if let (Version::Number(number), Some(record)) = (&selector.version, &earlier)
        && record.resolved.number == *number
        && !S::COSTS_NOTHING
    {
        output.note(&format!("workspace: {selector} is here already"));
        return Ok(record.clone());
    }
    let resolved = match earlier {
        None => source.resolve().await.map_err(fetch_error)?,
        Some(record) => {
            let answer = tokio::time::timeout(STORE_PATIENCE, source.resolve()).await;
            let late = || SourceError::Unavailable(anyhow::anyhow!("no answer within {} s", STORE_PATIENCE.as_secs()));
            match answer.unwrap_or_else(|_| Err(late())) {
                Ok(resolved) if resolved.row == record.resolved.row => {
                    output.note(&format!("workspace: {}@{} is here already", selector.name, resolved.number));
                    return Ok(record);
                }
                Ok(resolved) => resolved,
                Err(SourceError::Unavailable(error)) => {
                    output.warn(&format!(
                        "the store can't be reached ({error}); starting {}@{}, which is here already",
                        selector.name, record.resolved.number
                    ));
                    return Ok(record);
                }
                Err(error @ SourceError::Refused(_)) => return Err(fetch_error(error)),
            }
        }
    };
    let installed = Record::read(dir, &selector.to_string()).and_then(|record| record.installed);
    Record::remove(dir).map_err(io_error)?;
    output.note(&format!("workspace: fetch {}@{}", selector.name, resolved.number));
    let started = Instant::now();
    source.fetch(&resolved, dir).await.map_err(fetch_error)?;
    output.note(&format!("workspace: fetched in {:.1} s", started.elapsed().as_secs_f64()));
    let record =
        Record { selector: selector.to_string(), resolved, installed, built: None, released: None, started: None };
    record.write(dir).map_err(io_error)?;
    Ok(record)
}
