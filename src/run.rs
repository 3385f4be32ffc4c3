//! A container's first process: fetch, install, build, start, ready, stop.
//!
//! Each phase is written to the [`state`] file before it begins, so `workspace health` and `workspace status` always
//! know where a container stands. Everything that runs below is waited for by one place, [`processes`].

mod child_environment;
mod probe;
mod processes;
mod record;
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

use crate::application::{Command, Plan};
use crate::environment::Environment;
use crate::names::{Selector, Version};
use crate::output::Output;
use child_environment::{Bundle, ChildEnvironment};
use processes::{Processes, Streams};
use record::Record;
use signals::Signals;
use state::{Phase, State, StateDir, StateError};
use steps::{Step, StepOutcome};
use supervisor::{End, Limits, News};

pub use probe::{Target, probe, what_listens};
pub use system::{hide_memory, is_alive};

/// How long the store may take to answer when an earlier tree could be started instead.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

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
    /// Finds out which version is meant. Changes nothing on disk.
    async fn resolve(&self) -> Result<Resolved, SourceError>;
    /// Makes `dir` that version: overwrites, and deletes what only an earlier version had.
    async fn fetch(&self, version: &Resolved, dir: &Path) -> Result<(), SourceError>;
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
    /// An install or build command failed.
    #[error("{phase} failed: `{command}` {reason}")]
    Step {
        /// `install` or `build`.
        phase: &'static str,
        /// The command.
        command: Command,
        /// How it ended.
        reason: String,
        /// Its last lines.
        tail: Vec<String>,
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
        error: None,
    };
    let mut run = Run { options, environment, output, state_dir: StateDir::of(environment), state, processes, signals };
    let outcome = run.whole(source).await;
    if let Err(error) = &outcome {
        run.state.error = Some(error.to_string());
        run.state.pid = None;
        // The failure itself is what the caller hears; a state that can't be written as well changes nothing.
        let _ = run.enter(Phase::Failed);
    }
    outcome
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
}

impl Run<'_> {
    async fn whole(&mut self, source: &impl Source) -> Result<u8, RunError> {
        self.enter(Phase::Fetch)?;
        let Some(mut record) = self.fetch(source).await? else {
            return Ok(STOPPED_EARLY);
        };
        let selector = &self.options.selector;
        let (plan, start) = match &record.resolved.plan {
            Some(plan) if plan.start.is_some() => (plan.clone(), plan.start.clone()),
            _ => return Err(RunError::NoStart { selector: selector.clone() }),
        };
        let start = start.ok_or_else(|| RunError::NoStart { selector: selector.clone() })?;
        self.state.version = Some(record.resolved.number);
        self.state.row = Some(record.resolved.row.clone());
        let bundle = match Bundle::prepare(self.environment, self.state_dir.path()) {
            Ok(bundle) => bundle,
            Err(problem) => {
                self.output.warn(&problem);
                None
            }
        };
        let folder = plan.dir.as_ref().map_or_else(|| self.options.dir.clone(), |dir| self.options.dir.join(dir));
        if !folder.is_dir() {
            let reason = format!("the folder `{}` is not in this version", plan.dir.as_deref().unwrap_or("."));
            return Err(RunError::Start { reason });
        }
        let environment = ChildEnvironment::new(self.environment, &plan, &folder, bundle.as_ref());
        self.state.port = Some(environment.port);
        self.state.health = plan.health.as_ref().map(|health| health.path.clone());
        if !self.prepare(&plan, &folder, &environment, &mut record).await? {
            return Ok(STOPPED_EARLY);
        }
        self.serve(&start, &folder, &environment).await
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

    /// Installs and builds what isn't yet. False: asked to stop meanwhile.
    async fn prepare(
        &mut self,
        plan: &Plan,
        folder: &Path,
        environment: &ChildEnvironment,
        record: &mut Record,
    ) -> Result<bool, RunError> {
        let dir = &self.options.dir;
        let io_error = |source| RunError::Io { path: dir.clone(), source };
        let runtime = self.runtime_version(plan, folder, environment).await;
        if let (Some(wanted), Some(major)) = (&plan.version, major_of(&runtime))
            && major_of(wanted).is_some_and(|wanted| wanted != major)
        {
            self.output.warn(&format!(
                "this version asks for {} {wanted}, and the image has {runtime}; see `workspace compose --image`",
                plan.runtime
            ));
        }
        let stamp = record::install_stamp(plan, &runtime, &record.resolved.row, dir).map_err(io_error)?;
        let deadline = Instant::now() + self.options.install_limit;
        if record.installed.as_deref() == Some(&stamp) {
            self.output.note("workspace: dependencies are installed already");
        } else {
            // An installation that is cut off must not pass for a finished one, nor may the build that needs it.
            (record.installed, record.built) = (None, None);
            record.write(dir).map_err(io_error)?;
            if !self.commands(Phase::Install, &plan.install, folder, environment, deadline).await? {
                return Ok(false);
            }
            record.installed = Some(stamp);
            record.write(dir).map_err(io_error)?;
        }
        if record.built.as_ref() != Some(&record.resolved.row) {
            if !self.commands(Phase::Build, &plan.build, folder, environment, deadline).await? {
                return Ok(false);
            }
            record.built = Some(record.resolved.row.clone());
            record.write(dir).map_err(io_error)?;
        }
        Ok(true)
    }

    async fn commands(
        &mut self,
        phase: Phase,
        commands: &[Command],
        folder: &Path,
        environment: &ChildEnvironment,
        deadline: Instant,
    ) -> Result<bool, RunError> {
        if commands.is_empty() {
            return Ok(true);
        }
        self.enter(phase)?;
        let started = Instant::now();
        for command in commands {
            self.output.note(&format!("workspace: {} with `{command}`", phase.as_str()));
            let (limit, grace) = (self.options.install_limit, self.options.grace);
            let step = Step { command, folder, environment: &environment.install, deadline, limit, grace };
            let outcome = steps::run(&step, &mut self.processes, &mut self.signals, self.output)
                .await
                .map_err(|source| RunError::Io { path: folder.to_owned(), source })?;
            match outcome {
                StepOutcome::Done => {}
                StepOutcome::Stopped => return Ok(false),
                StepOutcome::Failed { reason, tail } => {
                    return Err(RunError::Step { phase: phase.as_str(), command: command.clone(), reason, tail });
                }
            }
        }
        self.output.note(&format!("workspace: {} done in {:.1} s", phase.as_str(), started.elapsed().as_secs_f64()));
        Ok(true)
    }

    /// What `node --version` says; empty where it isn't known how to ask.
    async fn runtime_version(&mut self, plan: &Plan, folder: &Path, environment: &ChildEnvironment) -> String {
        use crate::application::Runtime;
        let (Runtime::Node | Runtime::Python | Runtime::Php | Runtime::Ruby | Runtime::Deno | Runtime::Bun) =
            plan.runtime
        else {
            return String::new();
        };
        let program = if plan.runtime == Runtime::Python { "python3" } else { plan.runtime.as_str() };
        let argv = [program.to_owned(), "--version".to_owned()];
        let Ok((reader, writer)) = io::pipe() else {
            return String::new();
        };
        let Ok(group) = self.processes.start(&argv, folder, &environment.start, Streams::Pipe(writer)) else {
            return String::new();
        };
        let ended = tokio::time::timeout(Duration::from_secs(10), self.processes.ended(group)).await;
        group.signal(rustix::process::Signal::KILL);
        if ended.is_err() {
            return String::new();
        }
        let mut text = Vec::new();
        // The group is gone, so this ends.
        let _ = io::Read::read_to_end(&mut io::Read::take(reader, 4096), &mut text);
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
    }

    async fn serve(&mut self, start: &Command, folder: &Path, environment: &ChildEnvironment) -> Result<u8, RunError> {
        self.output.note(&format!("workspace: start with `{start}` on port {}", environment.port));
        let argv = start.argv();
        let group = self
            .processes
            .start(&argv, folder, &environment.start, Streams::Inherited)
            .map_err(|error| RunError::Start { reason: steps::cannot_start(&argv, &error) })?;
        self.state.pid = Some(group.pid());
        self.enter(Phase::Start)?;
        let target = Target { port: environment.port, health: self.state.health.clone() };
        let limits = Limits { ready: self.options.ready_limit, grace: self.options.grace };
        let (output, state_dir, state) = (self.output, &self.state_dir, &mut self.state);
        let mut listening = None;
        let tell = |news: &News| {
            match news {
                News::Ready { after } => {
                    state.phase = Phase::Ready;
                    output.note(&format!(
                        "workspace: ready on port {} after {:.1} s",
                        target.port,
                        after.as_secs_f64()
                    ));
                    if probe::only_loopback(target.port) {
                        output.warn("it listens on loopback only, where other machines can't reach it");
                    }
                }
                News::Stopping => {
                    state.phase = Phase::Stopping;
                    listening = what_listens();
                    output.note("workspace: stopping");
                }
                News::Killing => output.note("workspace: still there after its time was up; killed"),
            }
            state.since = Timestamp::now();
            if let Err(error) = state_dir.write(state) {
                output.warn(&error.to_string());
            }
        };
        let end = supervisor::follow(group, &target, limits, &mut self.processes, &mut self.signals, tell).await;
        match end {
            End::Stopped { ended, .. } => Ok(ended.exit_code()),
            End::Ended { ended, was_ready } => {
                let when = if was_ready { "" } else { " before it was ready" };
                self.output.note(&format!("workspace: `{start}` {ended}{when}"));
                self.state.error = Some(format!("`{start}` {ended}{when}"));
                self.state.pid = None;
                self.enter(Phase::Failed)?;
                Ok(ended.exit_code())
            }
            End::NeverReady { last } => {
                let (command, limit) = (start.clone(), self.options.ready_limit);
                Err(RunError::NeverReady { command, limit, reason: last, listening })
            }
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

/// The first number in `v20.11.1` or `Python 3.12.1`.
fn major_of(version: &str) -> Option<u32> {
    let digits = version.find(|character: char| character.is_ascii_digit())?;
    let rest = &version[digits..];
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

async fn fetch(options: &RunOptions, source: &impl Source, output: &Output) -> Result<Record, RunError> {
    let (dir, selector) = (&options.dir, &options.selector);
    let fetch_error = |error: SourceError| match error {
        SourceError::Unavailable(source) | SourceError::Refused(source) => {
            RunError::Fetch { selector: selector.clone(), source }
        }
    };
    let io_error = |source| RunError::Io { path: dir.clone(), source };
    let earlier = Record::read(dir, &selector.to_string());
    // A number never means another version, so there is nothing to ask.
    if let (Version::Number(number), Some(record)) = (&selector.version, &earlier)
        && record.resolved.number == *number
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
    let record = Record { selector: selector.to_string(), resolved, installed, built: None };
    record.write(dir).map_err(io_error)?;
    Ok(record)
}
