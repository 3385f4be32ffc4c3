//! `workspace run` with a local folder in place of the store.
//!
//! The runner needs a process of its own (signals, children), so each test starts its very binary again, as [`runner`].

#![allow(dead_code, reason = "no test file uses everything")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use workspace::application::{self, Plan, Runtime};
use workspace::environment::Environment;
use workspace::output::{Output, OutputOptions};
use workspace::run::outcome::{self, Outcome};
use workspace::run::state::{Phase, State, StateDir};
use workspace::run::{Resolved, RunOptions, Source, SourceError};

/// For everything that is waited for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A version that lies in a folder beside its description.
struct LocalSource(PathBuf);

impl Source for LocalSource {
    async fn resolve(&self) -> Result<Resolved, SourceError> {
        let text = std::fs::read(self.0.join("resolved.json"));
        let text = text.map_err(|error| SourceError::Unavailable(anyhow::Error::new(error)))?;
        serde_json::from_slice(&text).map_err(|error| SourceError::Refused(error.into()))
    }

    async fn fetch(&self, _: &Resolved, dir: &Path) -> Result<(), SourceError> {
        for entry in std::fs::read_dir(self.0.join("tree")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        Ok(())
    }

    async fn next(&self, row: &str) -> Resolved {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if let Ok(resolved) = self.resolve().await
                && resolved.row != row
            {
                return resolved;
            }
        }
    }
}

/// The process that the tests start: a test file calls it in a test named `runner`.
#[expect(clippy::print_stderr, reason = "the tests read it")]
pub fn runner() {
    let Ok(folder) = std::env::var("RUNNER_FOLDER") else {
        return;
    };
    let folder = PathBuf::from(folder);
    let seconds = |name: &str| {
        Duration::from_secs_f64(std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(20.0))
    };
    let options = RunOptions {
        selector: std::env::var("RUNNER_SELECTOR").unwrap().parse().unwrap(),
        dir: folder.join("app"),
        install_limit: seconds("RUNNER_INSTALL_LIMIT"),
        ready_limit: seconds("RUNNER_READY_LIMIT"),
        grace: seconds("RUNNER_GRACE"),
        release_limit: seconds("RUNNER_RELEASE_LIMIT"),
        hold: std::env::var("RUNNER_HOLD").is_ok(),
        process: std::env::var("RUNNER_PROCESS").unwrap_or_else(|_| "web".to_owned()),
        follow: std::env::var("RUNNER_FOLLOW").is_ok(),
        cache_dependencies: false,
    };
    let environment = Environment::of_process();
    let output = Output::new(OutputOptions::default(), &environment);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcome =
        runtime.block_on(workspace::run::run(&options, &LocalSource(folder.join("source")), &environment, &output));
    let code = outcome.unwrap_or_else(|error| {
        eprintln!("RUN ERROR: {error}");
        if let workspace::run::RunError::Step { tail, .. } = &error {
            eprintln!("TAIL: {}", tail.join("|"));
        }
        if let workspace::run::RunError::NeverReady { listening, .. } = &error {
            eprintln!("LISTENING: {}", listening.as_deref().unwrap_or_default());
        }
        101
    });
    std::process::exit(i32::from(code));
}

/// One folder in which a version is run, again and again.
pub struct Stage {
    folder: tempfile::TempDir,
    pub plan: Plan,
    variables: BTreeMap<String, String>,
}

impl Stage {
    pub fn new(start: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["app", "source", "source/tree"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut plan = Plan::new(Runtime::Custom);
        plan.start = Some(application::Command::parse(start));
        plan.port = free_port();
        let variables = BTreeMap::from([("RUNNER_SELECTOR".to_owned(), "myapp".to_owned())]);
        let stage = Self { folder, plan, variables };
        stage.publish(1);
        stage
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn plan(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self.publish(1);
        self
    }

    /// Another plan for a version, which is published.
    pub fn plan_at(mut self, number: u64, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self.publish(number);
        self
    }

    /// A file beside the run's folder.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn publish(&self, number: u64) {
        let resolved = Resolved { number, row: format!("row-{number}"), plan: Some(self.plan.clone()) };
        // At once and whole: a run that follows may be looking.
        std::fs::write(self.path("source/next.json"), serde_json::to_vec(&resolved).unwrap()).unwrap();
        std::fs::rename(self.path("source/next.json"), self.path("source/resolved.json")).unwrap();
    }

    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path("source/tree").join(name), text).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn start(&self) -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "runner", "--nocapture", "--test-threads=1"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("RUNNER_FOLDER", self.folder.path())
            .env("WORKSPACE_STATE_DIR", self.path("state"))
            .envs(&self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let environment = [("WORKSPACE_STATE_DIR", self.path("state").to_str().unwrap().to_owned())];
        let environment = Environment::from_pairs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        Running { child: command.spawn().unwrap(), state: StateDir::of(&environment) }
    }

    pub fn run(&self) -> Finished {
        self.start().finish()
    }

    pub fn outcome(&self) -> Outcome {
        Outcome::parse(&std::fs::read(self.path("app").join(outcome::PATH)).unwrap()).unwrap()
    }

    /// The binary, inside this container so to speak.
    pub fn workspace(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace"));
        command.args(arguments).env_clear().env("WORKSPACE_STATE_DIR", self.path("state")).stdin(Stdio::null());
        command
    }

    pub fn proceed(&self, order: &str) -> std::process::Output {
        self.workspace(&["proceed", order]).output().unwrap()
    }

    pub fn app_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("app").join(name)).unwrap_or_default()
    }
}

pub struct Running {
    pub child: Child,
    pub state: StateDir,
}

pub struct Finished {
    pub status: ExitStatus,
    pub log: String,
    pub state: State,
}

impl Running {
    pub fn wait_for(&self, phase: Phase) -> State {
        wait_until(&format!("phase {}", phase.as_str()), || self.state.read().ok().filter(|state| state.phase == phase))
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub fn finish(mut self) -> Finished {
        let (mut out, mut log) = (self.child.stdout.take().unwrap(), self.child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            text
        });
        let mut text = String::new();
        let _ = out.read_to_string(&mut text);
        let status = self.child.wait().unwrap();
        let log = format!("{text}{}", reader.join().unwrap());
        Finished { status, log, state: self.state.read().unwrap() }
    }
}

pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {} s", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Serves the folder it is started in, on the port it is told.
pub const SERVER: &str = "exec python3 -m http.server --bind 0.0.0.0 $PORT";
