//! Install, build and release: commands that must end, within a limit, and whose last lines explain a failure.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::processes::{Ended, Processes, Streams};
use super::signals::Signals;
use crate::application::Command;
use crate::output::Output;

/// How many last lines are kept.
const TAIL_LINES: usize = 50;
/// How much of one line is kept.
const TAIL_LINE_BYTES: usize = 2000;

/// How a step came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StepOutcome {
    Done,
    /// The container was asked to stop meanwhile.
    Stopped,
    Failed {
        reason: String,
        tail: Vec<String>,
        /// Whether somebody else killed it.
        killed: bool,
    },
}

/// What a step runs with.
pub(super) struct Step<'a> {
    pub(super) command: &'a Command,
    pub(super) folder: &'a Path,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) deadline: Instant,
    pub(super) limit: Duration,
    pub(super) grace: Duration,
}

/// Runs one command to its end; its output goes to the log as it comes.
pub(super) async fn run(
    step: &Step<'_>,
    processes: &mut Processes,
    signals: &mut Signals,
    output: &Output,
) -> io::Result<StepOutcome> {
    let (reader, writer) = io::pipe()?;
    let argv = step.command.argv();
    let group = match processes.start(&argv, step.folder, step.environment, Streams::Pipe(writer)) {
        Ok(group) => group,
        Err(error) => {
            return Ok(StepOutcome::Failed { reason: cannot_start(&argv, &error), tail: Vec::new(), killed: false });
        }
    };
    let (tail, finished) = copy_output(reader, output.clone());
    let ended = tokio::select! {
        ended = processes.ended(group) => Ok(ended),
        signal = signals.stop() => Err(Some(signal)),
        () = tokio::time::sleep_until(step.deadline) => Err(None),
    };
    if let Err(signal) = ended {
        group.signal(signal.unwrap_or(Signal::TERM));
        let _ = tokio::time::timeout(step.grace, processes.emptied(group)).await;
    }
    // Nothing that a step left behind may hold its pipe open or run beside the application.
    group.signal(Signal::KILL);
    let _ = tokio::time::timeout(Duration::from_secs(1), finished).await;
    let reason = match ended {
        Ok(Ended::Code(0)) => return Ok(StepOutcome::Done),
        Ok(ended) => ended.to_string(),
        Err(Some(_)) => return Ok(StepOutcome::Stopped),
        Err(None) => format!("took longer than {} s", step.limit.as_secs()),
    };
    let tail = tail.lock().map(|tail| tail.lines.iter().cloned().collect()).unwrap_or_default();
    Ok(StepOutcome::Failed { reason, tail, killed: ended.is_ok_and(Ended::is_kill) })
}

/// What to say when a program can't be started.
pub(super) fn cannot_start(argv: &[String], error: &io::Error) -> String {
    let program = argv.first().map_or("", String::as_str);
    if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) {
        return format!("`{program}` is made for another kind of machine, or is no program at all (Exec format error)");
    }
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("`{program}` is neither installed in node_modules/.bin nor on the image's PATH")
        }
        io::ErrorKind::PermissionDenied => format!("`{program}` isn't executable"),
        _ => format!("`{program}` can't be started: {error}"),
    }
}

#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl Tail {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.close(),
                _ if self.open.len() < TAIL_LINE_BYTES => self.open.push(*byte),
                _ => {}
            }
        }
    }

    fn close(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).into_owned();
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Copies to the log on a thread of its own, which ends when the last writer is gone.
fn copy_output(mut reader: io::PipeReader, output: Output) -> (Arc<Mutex<Tail>>, tokio::sync::oneshot::Receiver<()>) {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (done, finished) = tokio::sync::oneshot::channel();
    let kept = Arc::clone(&tail);
    std::thread::spawn(move || {
        let mut buffer = [0; 8 * 1024];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            output.pass(&buffer[..length]);
            if let Ok(mut tail) = kept.lock() {
                tail.take(&buffer[..length]);
            }
        }
        if let Ok(mut tail) = kept.lock() {
            tail.close();
        }
        let _ = done.send(());
    });
    (tail, finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded() {
        let mut tail = Tail::default();
        for number in 0..200 {
            tail.take(format!("line {number}\n").as_bytes());
        }
        tail.take(&[b'x'; 10_000]);
        tail.close();
        assert_eq!(tail.lines.len(), TAIL_LINES);
        assert_eq!(tail.lines[0], "line 151");
        assert_eq!(tail.lines.back().unwrap().len(), TAIL_LINE_BYTES);
    }
}
