//! A container's first process: fetch, install, build, start, ready, stop.
//!
//! Each phase is written to the [`state`] file before it begins, so `workspace health` and `workspace status` always
//! know where a container stands. Everything that runs below is waited for by one place, [`processes`].

mod child_environment;
mod gate;
mod hints;
pub mod outcome;
mod probe;
mod processes;
mod record;
mod signals;
pub mod state;
mod steps;
mod supervisor;
mod system;

use std::collections::BTreeMap;
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
use outcome::{MemoryWatch, Outcome};
use processes::{Processes, Streams};
use record::Record;
use signals::Signals;
use state::{Phase, State, StateDir, StateError};
use steps::StepOutcome;
use supervisor::{End, Limits, News, Readiness};

pub use gate::{Order, OrderError, proceed};
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
    /// For the release command.
    pub release_limit: Duration,
    /// Whether to wait for [`proceed`] once everything is installed and built.
    pub hold: bool,
    /// Which process to start: [`WEB`], or one of [`Plan::processes`].
    pub process: String,
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
    let mut run = Run { options, environment, output, state_dir, state, processes, signals, outcome: None };
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
    /// Why the application ended, if it did so by itself.
    outcome: Option<Outcome>,
}

/// Commands that must all succeed.
struct Commands<'a> {
    step: outcome::Step,
    list: &'a [Command],
    environment: &'a BTreeMap<String, String>,
    limit: Duration,
    deadline: Instant,
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
        let (plan, start) = self.what_starts(record.resolved.plan.as_ref())?;
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
        let cache = Some(Path::new(CACHE_DIR)).filter(|folder| system::is_writable(folder));
        let environment = ChildEnvironment::new(self.environment, &plan, &self.options.dir, bundle.as_ref(), cache);
        let web = self.options.process == WEB;
        self.state.port = web.then_some(environment.port);
        self.state.health = plan.health.as_ref().filter(|_| web).map(|health| health.path.clone());
        if !self.prepare(&plan, &folder, &environment, &mut record).await?
            || !self.hold(&plan, &folder, &environment, &mut record).await?
        {
            return Ok(STOPPED_EARLY);
        }
        self.serve(&start, &folder, &environment).await
    }

    /// The plan, and its command that is to be started.
    fn what_starts(&self, plan: Option<&Plan>) -> Result<(Plan, Command), RunError> {
        let (selector, process) = (self.options.selector.clone(), self.options.process.clone());
        let Some(plan) = plan else { return Err(RunError::NoStart { selector }) };
        let found = if process == WEB { plan.start.as_ref() } else { plan.processes.get(&process) };
        match found {
            Some(command) => Ok((plan.clone(), command.clone())),
            None if process == WEB => Err(RunError::NoStart { selector }),
            None => {
                let web = plan.start.as_ref().map(|_| WEB);
                let names: Vec<String> = web
                    .into_iter()
                    .chain(plan.processes.keys().map(String::as_str))
                    .map(|name| format!("`{name}`"))
                    .collect();
                let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(RunError::NoProcess { selector, process, available })
            }
        }
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
        if let Some(wanted) = &plan.version
            && is_another(plan, wanted, &runtime)
        {
            self.output.warn(&format!(
                "this version asks for {} {wanted}, and the image has {runtime}; see `workspace compose --image`",
                plan.runtime
            ));
        }
        let stamp = record::install_stamp(plan, &runtime, &record.resolved.row, dir).map_err(io_error)?;
        let limit = self.options.install_limit;
        let install = Commands {
            step: outcome::Step::Install,
            list: &plan.install,
            environment: &environment.install,
            limit,
            deadline: Instant::now() + limit,
        };
        if record.installed.as_deref() == Some(&stamp) {
            self.output.note("workspace: dependencies are installed already");
        } else {
            // An installation that is cut off must not pass for a finished one, nor may the build that needs it.
            (record.installed, record.built) = (None, None);
            record.write(dir).map_err(io_error)?;
            let above = plan.install_dir.as_ref().map(|above| dir.join(above));
            if !self.commands(&install, above.as_deref().unwrap_or(folder)).await? {
                return Ok(false);
            }
            record.installed = Some(stamp);
            record.write(dir).map_err(io_error)?;
        }
        if record.built.as_ref() != Some(&record.resolved.row) {
            let build = Commands { step: outcome::Step::Build, list: &plan.build, ..install };
            if !self.commands(&build, folder).await? {
                return Ok(false);
            }
            record.built = Some(record.resolved.row.clone());
            record.write(dir).map_err(io_error)?;
        }
        Ok(true)
    }

    /// Runs them one after the other. False: asked to stop meanwhile.
    async fn commands(&mut self, all: &Commands<'_>, folder: &Path) -> Result<bool, RunError> {
        if all.list.is_empty() {
            return Ok(true);
        }
        self.enter(match all.step {
            outcome::Step::Install => Phase::Install,
            outcome::Step::Build => Phase::Build,
            _ => Phase::Release,
        })?;
        let (name, started) = (all.step.as_str(), Instant::now());
        for command in all.list {
            self.output.note(&format!("workspace: {name} with `{command}`"));
            let &Commands { environment, deadline, limit, .. } = all;
            let step = steps::Step { command, folder, environment, deadline, limit, grace: self.options.grace };
            let memory = MemoryWatch::begin();
            let outcome = steps::run(&step, &mut self.processes, &mut self.signals, self.output)
                .await
                .map_err(|source| RunError::Io { path: folder.to_owned(), source })?;
            match outcome {
                StepOutcome::Done => {}
                StepOutcome::Stopped => return Ok(false),
                StepOutcome::Failed { reason, tail, killed } => {
                    return Err(RunError::Step {
                        step: all.step,
                        command: command.clone(),
                        reason,
                        tail,
                        out_of_memory: memory.killed(killed),
                    });
                }
            }
        }
        self.output.note(&format!("workspace: {name} done in {:.1} s", started.elapsed().as_secs_f64()));
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
        let memory = MemoryWatch::begin();
        let group = self
            .processes
            .start(&argv, folder, &environment.start, Streams::Inherited)
            .map_err(|error| RunError::Start { reason: steps::cannot_start(&argv, &error) })?;
        self.state.pid = Some(group.pid());
        self.enter(Phase::Start)?;
        let readiness = match self.state.port {
            Some(port) => Readiness::Answers(Target { port, health: self.state.health.clone() }),
            None => Readiness::StaysUp(UP),
        };
        let mut limits = Limits { ready: self.options.ready_limit, grace: self.options.grace };
        if readiness == Readiness::StaysUp(UP) {
            limits.ready = limits.ready.max(2 * UP);
        }
        let (output, state_dir, state) = (self.output, &self.state_dir, &mut self.state);
        let mut listening = None;
        let tell = |news: &News| {
            match news {
                News::Ready { after } => {
                    state.phase = Phase::Ready;
                    let seconds = after.as_secs_f64();
                    if let Some(port) = state.port {
                        output.note(&format!("workspace: ready on port {port} after {seconds:.1} s"));
                        if probe::only_loopback(port) {
                            output.warn("it listens on loopback only, where other machines can't reach it");
                        }
                    } else {
                        output.note(&format!("workspace: `{}` is up", state.process));
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
        let end = supervisor::follow(group, &readiness, limits, &mut self.processes, &mut self.signals, tell).await;
        match end {
            End::Stopped { ended, was_ready } => {
                let mut outcome = Outcome::stopped();
                outcome.was_ready = was_ready;
                self.outcome = Some(outcome);
                Ok(ended.exit_code())
            }
            End::Ended { ended, was_ready } => {
                let when = if was_ready { "" } else { " before it was ready" };
                self.output.note(&format!("workspace: `{start}` {ended}{when}"));
                let mut outcome = Outcome::new(outcome::Step::Run, format!("`{start}` {ended}{when}"));
                outcome.was_ready = was_ready;
                outcome.out_of_memory = memory.killed(ended.is_kill());
                outcome.hint = if outcome.out_of_memory {
                    outcome::MORE_MEMORY.to_owned()
                } else {
                    hints::of_end(ended.exit_code(), start).to_owned()
                };
                if !was_ready || outcome.out_of_memory {
                    self.output.hint(&outcome.hint);
                }
                self.outcome = Some(outcome);
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

/// Whether the image's version is another one than the plan's. Of Node the first number counts, elsewhere the second, too.
fn is_another(plan: &Plan, wanted: &str, found: &str) -> bool {
    use crate::application::Runtime;
    let depth = if matches!(plan.runtime, Runtime::Node | Runtime::Deno | Runtime::Bun) { 1 } else { 2 };
    let mut pairs = numbers_of(wanted).zip(numbers_of(found)).take(depth);
    pairs.any(|(wanted, found)| wanted != found)
}

/// The numbers in `v20.11.1` or `Python 3.12.1`.
fn numbers_of(version: &str) -> impl Iterator<Item = u32> {
    let start = version.find(|character: char| character.is_ascii_digit()).unwrap_or(version.len());
    version[start..].split('.').map_while(|part| {
        let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    })
}

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
