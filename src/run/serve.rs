//! Starting the application, and what is said of its life.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::child_environment::ChildEnvironment;
use super::outcome::{self, MemoryWatch, Outcome};
use super::probe::{self, Target, what_listens};
use super::processes::{Ended, Streams};
use super::record::Record;
use super::state::{Phase, State, StateDir};
use super::supervisor::{End, Limits, News, Readiness, Supervised};
use super::{CACHE_DIR, Run, RunError, UP, WEB, hints, steps, system};
use crate::application::{Command, Plan};
use crate::output::Output;

/// What is started of a version, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Application {
    pub(super) plan: Plan,
    pub(super) start: Command,
    /// Where it is started.
    pub(super) folder: PathBuf,
    pub(super) environment: ChildEnvironment,
}

/// An application that was started.
pub(super) struct Running {
    pub(super) supervised: Supervised,
    memory: MemoryWatch,
    /// What listened when it was asked to end.
    listening: Option<String>,
}

impl Run<'_> {
    /// What is started of the version that was fetched.
    pub(super) fn application(&self, record: &Record) -> Result<Application, RunError> {
        let (plan, start) = self.what_starts(record.resolved.plan.as_ref())?;
        let dir = &self.options.dir;
        let folder = plan.dir.as_ref().map_or_else(|| dir.clone(), |below| dir.join(below));
        if !folder.is_dir() {
            let reason = format!("the folder `{}` is not in this version", plan.dir.as_deref().unwrap_or("."));
            return Err(RunError::Start { reason });
        }
        let cache = Some(Path::new(CACHE_DIR)).filter(|folder| system::is_writable(folder));
        let environment = ChildEnvironment::new(self.environment, &plan, dir, self.bundle.as_ref(), cache);
        Ok(Application { plan, start, folder, environment })
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

    /// Says in the state which version this is.
    pub(super) fn is_now(&mut self, record: &Record, application: &Application) {
        let web = self.options.process == WEB;
        let health = application.plan.health.as_ref().filter(|_| web);
        self.state.version = Some(record.resolved.number);
        self.state.row = Some(record.resolved.row.clone());
        self.state.port = web.then_some(application.environment.port);
        self.state.health = health.map(|health| health.path.clone());
    }

    /// Starts it and follows it to its end.
    pub(super) async fn serve(&mut self, application: &Application) -> Result<u8, RunError> {
        let mut running = self.launch(application)?;
        let mut teller = Teller::of(self.output, &self.state_dir, &mut self.state, &mut running.listening);
        let (processes, signals) = (&mut self.processes, &mut self.signals);
        let end = running.supervised.follow(processes, signals, |news| teller.tell(news)).await;
        self.ended(application, running, end)
    }

    /// Starts it.
    pub(super) fn launch(&mut self, application: &Application) -> Result<Running, RunError> {
        let Application { start, folder, environment, .. } = application;
        // Its answers would pass for the application's. A container has nobody else.
        if let Some(port) = self.state.port
            && !system::is_first_process()
            && system::listeners().unwrap_or_default().iter().any(|address| address.port() == port)
        {
            let reason = format!("another program here listens on port {port}; PORT={} takes another one", port ^ 1);
            return Err(RunError::Start { reason });
        }
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
        Ok(Running { supervised: Supervised::new(group, readiness, limits), memory, listening: None })
    }

    /// What its end comes to: the code to end with, and the last words.
    pub(super) fn ended(&mut self, application: &Application, running: Running, end: End) -> Result<u8, RunError> {
        match end {
            End::Stopped { ended, was_ready } => {
                let mut outcome = Outcome::stopped();
                outcome.was_ready = was_ready;
                self.outcome = Some(outcome);
                Ok(ended.exit_code())
            }
            End::Ended { ended, was_ready } => {
                let outcome = self.by_itself(&application.start, &running, ended, was_ready);
                self.outcome = Some(outcome);
                Ok(ended.exit_code())
            }
            End::NeverReady { last } => Err(RunError::NeverReady {
                command: application.start.clone(),
                limit: self.options.ready_limit,
                reason: last,
                listening: running.listening,
            }),
            // Nobody replaces what is followed to its end.
            End::Replaced => Ok(0),
        }
    }

    fn by_itself(&self, start: &Command, running: &Running, ended: Ended, was_ready: bool) -> Outcome {
        let when = if was_ready { "" } else { " before it was ready" };
        self.output.note(&format!("workspace: `{start}` {ended}{when}"));
        let mut outcome = Outcome::new(outcome::Step::Run, format!("`{start}` {ended}{when}"));
        outcome.was_ready = was_ready;
        outcome.out_of_memory = running.memory.killed(ended.is_kill());
        outcome.hint = if outcome.out_of_memory {
            outcome::MORE_MEMORY.to_owned()
        } else {
            hints::of_end(ended.exit_code(), start).to_owned()
        };
        if !was_ready || outcome.out_of_memory {
            self.output.hint(&outcome.hint);
        }
        outcome
    }
}

impl Running {
    /// Its parts, as they are needed to follow it.
    pub(super) fn parts(&mut self) -> (&mut Supervised, &mut Option<String>) {
        (&mut self.supervised, &mut self.listening)
    }
}

/// Writes down and says what happens to a running application.
pub(super) struct Teller<'a> {
    output: &'a Output,
    state_dir: &'a StateDir,
    state: &'a mut State,
    listening: &'a mut Option<String>,
}

impl<'a> Teller<'a> {
    pub(super) fn of(
        output: &'a Output,
        state_dir: &'a StateDir,
        state: &'a mut State,
        listening: &'a mut Option<String>,
    ) -> Self {
        Self { output, state_dir, state, listening }
    }

    pub(super) fn tell(&mut self, news: &News) {
        let (output, state) = (self.output, &mut *self.state);
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
                *self.listening = what_listens();
                output.note("workspace: stopping");
            }
            News::Killing => output.note("workspace: still there after its time was up; killed"),
        }
        state.since = Timestamp::now();
        if let Err(error) = self.state_dir.write(state) {
            output.warn(&error.to_string());
        }
    }
}
