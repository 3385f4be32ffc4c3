//! `scripts/try` with a Git address: cloned, run in a container, and all of it taken away again.
//!
//! Needs what `scripts/images` makes; `scripts/test` does it just before.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

const SERVER: &str = "require('http').createServer((request, response) => response.end('from git'))\
                      .listen(process.env.PORT, process.env.HOST)";

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    let status = Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).status().unwrap();
    assert!(status.success(), "git {arguments:?}");
}

fn output(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
}

/// Also where Ctrl-C is pressed twice.
#[test]
fn docker_try_runs_what_a_git_address_leads_to_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("package.json"), r#"{"scripts":{"start":"node server.js"}}"#).unwrap();
    std::fs::write(folder.path().join("server.js"), SERVER).unwrap();
    git(folder.path(), &["init", "--quiet"]);
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "x"]);
    let mut child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/try"))
        .arg(format!("file://{}", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let name = format!("workspace-try-{}", child.id());
    let group = Pid::from_child(&child);
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut until = |words: &str| -> String {
        for line in log.by_ref().map(Result::unwrap) {
            seen.push(line);
            if let Some(line) = seen.last().filter(|line| line.contains(words)) {
                return line.clone();
            }
        }
        panic!("it ended without `{words}`:\n{}", seen.join("\n"));
    };
    let line = until("it answers on ");
    let address = line.split_once("it answers on ").unwrap().1.split(';').next().unwrap().to_owned();
    assert_eq!(output("curl", &["--silent", "--max-time", "30", &address]), "from git");
    kill_process_group(group, Signal::INT).unwrap();
    until("cleaning up");
    kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for kind in [&["ps", "--all"][..], &["network", "ls"], &["volume", "ls"]] {
        let found = output("docker", &[kind, &["--quiet", "--filter", &format!("name={name}")]].concat());
        assert_eq!(found, "", "{kind:?} of {name}");
    }
}
