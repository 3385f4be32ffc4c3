//! The processes below this one: starting, waiting for any of them, signalling a whole group.
//!
//! As process 1 of a container every orphan lands here, so one place waits for all children and nobody else does: the
//! standard library's `Child` is dropped as soon as its number is known.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};

use super::system::is_for_another_machine;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl Ended {
    fn of(status: WaitStatus) -> Self {
        let small = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(small(code)),
            (None, Some(signal)) => Self::Signal(small(signal)),
            (None, None) => Self::Code(1),
        }
    }

    /// Whether it, or what a shell ran for it, was killed by SIGKILL.
    pub(super) fn is_kill(self) -> bool {
        matches!(self, Self::Signal(9) | Self::Code(137))
    }

    /// The code by which shells and Docker tell the same.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(out, "ended with code {code}"),
            Self::Signal(signal) => match Signal::from_named_raw(i32::from(*signal)) {
                Some(Signal::KILL) => out.write_str("was killed (SIGKILL; out of memory?)"),
                Some(Signal::TERM) => out.write_str("was ended by SIGTERM"),
                Some(Signal::SEGV) => out.write_str("crashed (SIGSEGV)"),
                _ => write!(out, "was ended by signal {signal}"),
            },
        }
    }
}

/// A process group that was started here, by the number of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group(Pid);

impl Group {
    pub(super) fn pid(self) -> u32 {
        u32::try_from(self.0.as_raw_nonzero().get()).unwrap_or(0)
    }

    /// Signals every process of the group. One that is gone already is no failure.
    pub(super) fn signal(self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.0, signal);
    }

    /// Whether any process of the group is left, zombies of other parents included.
    pub(super) fn exists(self) -> bool {
        rustix::process::test_kill_process_group(self.0).is_ok()
    }
}

/// Where a child's output goes.
pub(super) enum Streams {
    /// To this process's own.
    Inherited,
    /// Both into this pipe.
    Pipe(io::PipeWriter),
}

/// Waits for children.
pub(super) struct Processes {
    changed: tokio::signal::unix::Signal,
    ended: BTreeMap<i32, Ended>,
    /// Leaders whose end somebody will ask for; the end of any other process is forgotten.
    awaited: Vec<i32>,
}

impl Processes {
    /// To be called once, before anything is started. Needs the I/O runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { changed: signal(SignalKind::child())?, ended: BTreeMap::new(), awaited: Vec::new() })
    }

    /// Starts a command in a group of its own.
    pub(super) fn start(
        &mut self,
        argv: &[String],
        folder: &Path,
        environment: &BTreeMap<String, String>,
        streams: Streams,
    ) -> io::Result<Group> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an empty command"))?;
        if is_for_another_machine(program, folder, environment.get("PATH").map(String::as_str)) {
            return Err(rustix::io::Errno::NOEXEC.into());
        }
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_clear().envs(environment).stdin(Stdio::null()).process_group(0);
        if let Streams::Pipe(writer) = streams {
            command.stdout(writer.try_clone()?).stderr(writer);
        }
        let child = command.spawn()?;
        let raw = i32::try_from(child.id()).map_err(io::Error::other)?;
        let pid = Pid::from_raw(raw).ok_or_else(|| io::Error::other("a process without a number"))?;
        self.awaited.push(raw);
        Ok(Group(pid))
    }

    /// Waits for the group's leader. May be dropped and called again.
    pub(super) async fn ended(&mut self, group: Group) -> Ended {
        let raw = group.0.as_raw_nonzero().get();
        loop {
            self.reap();
            if let Some(ended) = self.ended.remove(&raw) {
                self.awaited.retain(|other| *other != raw);
                return ended;
            }
            // Signals between the look and the wait are kept by the stream.
            if self.changed.recv().await.is_none() {
                return Ended::Code(1);
            }
        }
    }

    /// Waits until no process of the group is left.
    pub(super) async fn emptied(&mut self, group: Group) {
        while group.exists() {
            self.reap();
            if !group.exists() {
                break;
            }
            // A member whose parent lives is reaped by that parent, of which we hear nothing.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), self.changed.recv()).await;
        }
    }

    /// Takes every end that is there. The loop ends with the last dead child.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let raw = pid.as_raw_nonzero().get();
            if self.awaited.contains(&raw) {
                self.ended.insert(raw, Ended::of(status));
            }
        }
    }
}
