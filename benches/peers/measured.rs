//! One run of one command, and what it cost.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wait4::Wait4;

/// What one run cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Run {
    /// Seconds from the start of the process to its end.
    pub wall: f64,
    /// Seconds of processor time, user and system, of it and of its children.
    pub cpu: f64,
    /// Bytes of memory at its peak; of the largest process where there are several. Not less than what this program
    /// itself occupies: the kernel counts the moment between `vfork` and `exec`.
    pub memory: u64,
}

/// Runs a command to its end.
///
/// # Panics
/// If it fails, with what it said.
pub fn run(mut command: Command) -> Run {
    let said = tempfile::NamedTempFile::new().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen().unwrap());
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let used = child.wait4().unwrap();
    let wall = start.elapsed().as_secs_f64();
    assert!(used.status.success(), "{command:?}: {}\n{}", used.status, fs::read_to_string(said.path()).unwrap());
    Run { wall, cpu: (used.rusage.utime + used.rusage.stime).as_secs_f64(), memory: used.rusage.maxrss }
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}
