//! How much memory a process has had at most.

#![allow(dead_code, reason = "no test file uses everything")]

use std::process::{Command, Output};

/// The most memory that this process has had in use, in KiB.
pub fn own_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

/// Runs a command to its end, and gives the most memory that it has had in use, in KiB.
///
/// The kernel keeps that for the children that were waited for; a shell in between has this one alone.
pub fn peak(command: &Command) -> (Output, u64) {
    const SCRIPT: &str = "\
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
sys.stderr.write('\\nPEAK %d\\n' % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code if code >= 0 else 128 - code)";
    let mut outer = Command::new("python3");
    outer.args(["-c", SCRIPT]).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    let mut output = outer.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let (stderr, peak) = text.rsplit_once("\nPEAK ").unwrap_or_else(|| panic!("no peak: {text}"));
    output.stderr = stderr.as_bytes().to_vec();
    let peak = peak.trim().parse().unwrap();
    (output, peak)
}
