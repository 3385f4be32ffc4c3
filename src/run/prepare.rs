//! Installing and building: what must succeed before the application can start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::child_environment::ChildEnvironment;
use super::outcome::{self, MemoryWatch};
use super::processes::Streams;
use super::record::{self, Record};
use super::serve::Application;
use super::state::Phase;
use super::steps::{self, StepOutcome};
use super::{Run, RunError, Source};
use crate::application::{Command, Plan, Runtime};

/// For storing a snapshot: the application waits for it.
const SAVE_LIMIT: Duration = Duration::from_mins(3);

/// Commands that must all succeed.
pub(super) struct Commands<'a> {
    pub(super) step: outcome::Step,
    pub(super) list: &'a [Command],
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) limit: Duration,
    pub(super) deadline: Instant,
}

impl Run<'_> {
    /// Installs and builds what isn't yet. False: asked to stop meanwhile.
    pub(super) async fn prepare(&mut self, application: &Application, record: &mut Record) -> Result<bool, RunError> {
        let stamp = self.stamp(application, record).await?;
        Ok(self.install(application, record, stamp).await? && self.build(application, record).await?)
    }

    /// The same, with what was installed elsewhere if it can be had, and for others to have it if not.
    pub(super) async fn prepare_from<S: Source>(
        &mut self,
        source: &S,
        application: &Application,
        record: &mut Record,
    ) -> Result<bool, RunError> {
        let plan = &application.plan;
        let wanted = (self.options.cache_dependencies || plan.cache_dependencies) && !plan.install.is_empty();
        // Whatever an earlier installation in this container left would become part of the snapshot.
        if !wanted || record.installed.is_some() {
            return self.prepare(application, record).await;
        }
        if !S::HAS_SNAPSHOTS {
            self.output
                .note("workspace: dependency snapshots need keys for the store; this container has a grant alone");
            return self.prepare(application, record).await;
        }
        let stamp = self.stamp(application, record).await?;
        let key = snapshot_key(&stamp, &self.options.dir, plan);
        let Some(restored) = self.restore(source, &key).await else { return Ok(false) };
        if restored {
            record.installed = Some(stamp);
            let dir = &self.options.dir;
            record.write(dir).map_err(|source| RunError::Io { path: dir.clone(), source })?;
        } else if !self.install(application, record, stamp).await? || !self.save(source, &key).await {
            return Ok(false);
        }
        self.build(application, record).await
    }

    /// What the installation of a version depends on.
    async fn stamp(&mut self, application: &Application, record: &Record) -> Result<String, RunError> {
        let Application { plan, folder, environment, .. } = application;
        let dir = &self.options.dir;
        let runtime = self.runtime_version(plan, folder, environment).await;
        if let Some(wanted) = &plan.version
            && is_another(plan, wanted, &runtime)
        {
            self.output.warn(&format!(
                "this version asks for {} {wanted}, and the image has {runtime}; see `workspace compose --image`",
                plan.runtime
            ));
        }
        record::install_stamp(plan, &runtime, &record.resolved.row, dir)
            .map_err(|source| RunError::Io { path: dir.clone(), source })
    }

    async fn install(
        &mut self,
        application: &Application,
        record: &mut Record,
        stamp: String,
    ) -> Result<bool, RunError> {
        let Application { plan, folder, environment, .. } = application;
        let dir = &self.options.dir;
        let io_error = |source| RunError::Io { path: dir.clone(), source };
        if record.installed.as_deref() == Some(&stamp) {
            if !self.options.follow {
                self.output.note("workspace: dependencies are installed already");
            }
            return Ok(true);
        }
        // An installation that is cut off must not pass for a finished one, nor may the build that needs it.
        (record.installed, record.built) = (None, None);
        record.write(dir).map_err(io_error)?;
        let above = plan.install_dir.as_ref().map(|above| dir.join(above));
        let install = self.step(outcome::Step::Install, &plan.install, &environment.install);
        if !self.commands(&install, above.as_deref().unwrap_or(folder)).await? {
            return Ok(false);
        }
        record.installed = Some(stamp);
        record.write(dir).map_err(io_error)?;
        Ok(true)
    }

    async fn build(&mut self, application: &Application, record: &mut Record) -> Result<bool, RunError> {
        let Application { plan, folder, environment, .. } = application;
        if record.built.as_ref() == Some(&record.resolved.row) {
            return Ok(true);
        }
        let build = self.step(outcome::Step::Build, &plan.build, &environment.install);
        if !self.commands(&build, folder).await? {
            return Ok(false);
        }
        record.built = Some(record.resolved.row.clone());
        let dir = &self.options.dir;
        record.write(dir).map_err(|source| RunError::Io { path: dir.clone(), source })?;
        Ok(true)
    }

    fn step<'c>(
        &self,
        step: outcome::Step,
        list: &'c [Command],
        environment: &'c BTreeMap<String, String>,
    ) -> Commands<'c> {
        let limit = self.options.install_limit;
        Commands { step, list, environment, limit, deadline: Instant::now() + limit }
    }

    /// Puts a snapshot in place. Whether there was one; nothing when asked to stop meanwhile.
    async fn restore(&mut self, source: &impl Source, key: &str) -> Option<bool> {
        let began = Instant::now();
        let restoring = tokio::time::timeout(self.options.install_limit, source.restore(key, &self.options.dir));
        let restored = tokio::select! {
            restored = restoring => restored,
            _ = self.signals.stop() => return None,
        };
        let problem = match restored {
            Ok(Ok(Some(files))) => {
                let seconds = began.elapsed().as_secs_f64();
                self.output.note(&format!(
                    "workspace: dependencies restored from a snapshot, {files} files in {seconds:.1} s"
                ));
                return Some(true);
            }
            Ok(Ok(None)) => return Some(false),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it took too long".to_owned(),
        };
        self.output.warn(&format!("the snapshot of the dependencies can't be used, they are installed: {problem}"));
        Some(false)
    }

    /// Stores a snapshot, unless that fails: nothing depends on it. False: asked to stop meanwhile.
    async fn save(&mut self, source: &impl Source, key: &str) -> bool {
        let began = Instant::now();
        let saving = tokio::time::timeout(SAVE_LIMIT, source.save(key, &self.options.dir));
        let saved = tokio::select! {
            saved = saving => saved,
            _ = self.signals.stop() => return false,
        };
        match saved {
            Ok(Ok(Some(files))) => {
                let seconds = began.elapsed().as_secs_f64();
                self.output
                    .note(&format!("workspace: dependencies stored as a snapshot, {files} files in {seconds:.1} s"));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.output.warn(&format!("the dependencies can't be stored as a snapshot: {error:#}")),
            Err(_) => self
                .output
                .warn(&format!("the dependencies can't be stored as a snapshot within {} s", SAVE_LIMIT.as_secs())),
        }
        true
    }

    /// Runs them one after the other. False: asked to stop meanwhile.
    pub(super) async fn commands(&mut self, all: &Commands<'_>, folder: &Path) -> Result<bool, RunError> {
        if all.list.is_empty() {
            return Ok(true);
        }
        if !self.serving {
            self.enter(match all.step {
                outcome::Step::Install => Phase::Install,
                outcome::Step::Build => Phase::Build,
                _ => Phase::Release,
            })?;
        }
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
    pub(super) async fn runtime_version(
        &mut self,
        plan: &Plan,
        folder: &Path,
        environment: &ChildEnvironment,
    ) -> String {
        match &self.runtime {
            Some((runtime, version)) if *runtime == plan.runtime => version.clone(),
            _ => {
                let version = self.ask_for_version(plan, folder, environment).await;
                self.runtime = Some((plan.runtime.clone(), version.clone()));
                version
            }
        }
    }

    async fn ask_for_version(&mut self, plan: &Plan, folder: &Path, environment: &ChildEnvironment) -> String {
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
}

/// Whether the image's version is another one than the plan's. Of Node the first number counts, elsewhere the second, too.
fn is_another(plan: &Plan, wanted: &str, found: &str) -> bool {
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

/// What a snapshot is found by: what the installation depends on, where it lies (virtual environments can't be moved), and
/// the system that its binaries were made for.
fn snapshot_key(stamp: &str, dir: &Path, plan: &Plan) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(stamp.as_bytes());
    part(dir.as_os_str().as_encoded_bytes());
    part(plan.image.as_deref().unwrap_or_default().as_bytes());
    // The distribution and its release stand for the C library.
    part(&std::fs::read("/etc/os-release").unwrap_or_default());
    part(if Path::new("/lib/ld-musl-x86_64.so.1").exists() || Path::new("/lib/ld-musl-aarch64.so.1").exists() {
        b"musl"
    } else {
        b"glibc"
    });
    hasher.finalize().to_hex().to_string()
}
