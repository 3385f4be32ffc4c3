//! A power cut can't be had in a test; the order of system calls can. What is acknowledged was synced before: content before the
//! rename that shows it, the folder after it, both before the answer leaves; a download's journal before its first rename.
//!
//! `strace` tells the order. That killed processes lose nothing is in `tests/embedded_durability.rs`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cli::TestEnvironment;
use rustix::process::{Pid, Signal, kill_process};
use workspace::store::{Condition, Store};

const CALLS: &str = "trace=rename,renameat,renameat2,fsync,fdatasync,unlink,unlinkat,write,writev,sendto,sendmsg";

/// A system call that succeeded: its name, its arguments, and the lines of the log where it began and ended.
#[derive(Debug)]
struct Call {
    name: String,
    arguments: String,
    began: usize,
    ended: usize,
}

/// `7</a/folder>` or `"name"`, as `strace -y` writes them.
fn paths(arguments: &str) -> Vec<String> {
    let mut whole = Vec::new();
    let mut folder = String::new();
    for argument in arguments.split(", ") {
        if let Some(name) = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            let path =
                if name.starts_with('/') || folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            whole.push(path);
            folder.clear();
        } else if let Some((_, path)) = argument.split_once('<') {
            path.trim_end_matches('>').clone_into(&mut folder);
        }
    }
    if whole.is_empty() { vec![folder] } else { whole }
}

/// The calls of a log, by where they began.
fn calls(log: &str) -> Vec<Call> {
    let mut begun: BTreeMap<&str, (usize, String, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (at, line) in log.lines().enumerate() {
        let Some((pid, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(rest) = text.strip_prefix("<... ") {
            let Some((began, name, arguments)) = begun.remove(pid) else { continue };
            if !rest.contains("= -1") {
                calls.push(Call { name, arguments, began, ended: at });
            }
            continue;
        }
        let Some((name, rest)) = text.split_once('(') else { continue };
        if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, (at, name.to_owned(), arguments.trim_end_matches(',').to_owned()));
        } else if let Some((arguments, result)) = rest.rsplit_once(") ")
            && result.trim_start().starts_with("= ")
            && !result.contains("= -1")
        {
            calls.push(Call { name: name.to_owned(), arguments: arguments.to_owned(), began: at, ended: at });
        }
    }
    calls.sort_by_key(|call| call.began);
    calls
}

impl Call {
    fn is_sync_of(&self, path: &str) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && paths(&self.arguments)[0] == path
    }

    fn is_answer(&self) -> bool {
        self.arguments.contains("HTTP/1.1 ") && !self.arguments.contains("HTTP/1.1 100")
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').unwrap().0
}

/// Holds the order of everything that came before one answer. Gives how many renames and removals there were.
fn durable_before(answer: &Call, calls: &[Call]) -> (usize, usize) {
    let (mut renames, mut removals) = (0, 0);
    for call in calls {
        let synced = |path: &str, from: usize, to: usize| {
            calls.iter().any(|other| other.is_sync_of(path) && other.began > from && other.ended < to)
        };
        let names = paths(&call.arguments);
        if call.name.starts_with("rename") {
            let (old, new) = (&names[0], &names[1]);
            renames += 1;
            let content = calls.iter().any(|other| other.is_sync_of(old) && other.ended < call.began);
            assert!(content, "`{old}` was renamed before its content was synced: {calls:#?}");
            assert!(
                synced(parent(new), call.ended, answer.began),
                "`{new}` was acknowledged and its folder not synced"
            );
        } else if call.name.starts_with("unlink") && names[0].contains("/objects/") {
            removals += 1;
            let folder = parent(&names[0]);
            assert!(
                synced(folder, call.ended, answer.began),
                "the removal of `{}` was not synced: {calls:#?}",
                names[0]
            );
        }
    }
    (renames, removals)
}

struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // What is traced, which would live on; then the tracer ends by itself.
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

fn traced(log: &Path, program: &Command) -> Command {
    let mut command = servers::command("strace");
    command.args(["-f", "-y", "-qq", "-s", "24", "-e", CALLS, "-o"]).arg(log);
    command.arg(program.get_program()).args(program.get_args());
    command
}

#[tokio::test]
async fn what_is_acknowledged_was_synced_before() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let mut serve = servers::command(cli::BINARY);
    serve.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut strace = traced(&log, &serve);
    strace.env("WORKSPACE_DATA_DIR", &data).env("S3_ACCESS_KEY", "testing-key").env("S3_SECRET_KEY", "testing-secret");
    let child = strace.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = Traced(child.expect("`strace` is needed: scripts/setup --tests"));
    let line = BufReader::new(child.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let endpoint = line.strip_prefix("S3_ENDPOINT=").unwrap();
    let store = Store::connect(&servers::s3(endpoint, "testing-key", "testing-secret", "power")).await.unwrap();

    // What each request has to have renamed and removed.
    let mut expected = vec![("CreateBucket", 1, 0)];
    store.create_bucket().await.unwrap();
    let first = store.put("deep/in/folders/a", "first".into(), Condition::Absent).await.unwrap();
    expected.push(("PUT of what was not there", 1, 0));
    store.put("deep/in/folders/a", "second".into(), Condition::Matches(first.clone())).await.unwrap();
    expected.push(("swap", 1, 0));
    store.put_once("deep/in/folders/a", "third".into(), Condition::Matches(first)).await.unwrap_err();
    expected.push(("lost swap", 0, 0));
    store.put("plain", vec![7; 3 << 20].into(), Condition::None).await.unwrap();
    expected.push(("PUT", 1, 0));
    let parts = store.begin_parts("parts").await.unwrap();
    expected.push(("CreateMultipartUpload", 1, 0));
    let sent = parts.send(1, vec![1; 5 << 20].into()).await.unwrap();
    expected.push(("UploadPart", 1, 0));
    parts.complete(vec![sent]).await.unwrap();
    expected.push(("CompleteMultipartUpload", 1, 0));
    store.delete("plain", Condition::None).await.unwrap();
    expected.push(("DELETE", 0, 1));
    drop(child);

    let log = fs::read_to_string(&log).unwrap();
    let calls = calls(&log);
    let answers: Vec<&Call> = calls.iter().filter(|call| call.is_answer()).collect();
    assert_eq!(answers.len(), expected.len(), "{answers:#?}");
    let mut from = 0;
    for (answer, (what, renames, removals)) in answers.iter().zip(&expected) {
        let before: Vec<Call> = calls
            .iter()
            .filter(|call| call.began >= from && call.began < answer.began)
            .map(|call| Call { name: call.name.clone(), arguments: call.arguments.clone(), ..*call })
            .collect();
        let (renamed, removed) = durable_before(answer, &before);
        assert!(
            renamed >= *renames && removed >= *removals,
            "{what}: {renamed} renames, {removed} removals: {before:#?}"
        );
        if *what == "lost swap" {
            assert_eq!((renamed, removed), (0, 0), "{what}");
        }
        from = answer.ended;
    }
}

#[test]
fn a_download_has_its_journal_on_disk_before_it_renames_anything() {
    let environment = TestEnvironment::new();
    let tree = environment.folder("tree");
    for number in 0..40 {
        fs::create_dir_all(tree.join(format!("d{}", number % 4))).unwrap();
        fs::write(tree.join(format!("d{}/f{number}", number % 4)), format!("content {number}")).unwrap();
        fs::write(tree.join(format!("f{number}")), format!("other content {number}")).unwrap();
    }
    let _ = environment.run(["upload", "app", tree.to_str().unwrap()]).ok();
    let log = environment.path().join("log");
    let download = environment.workspace(["download", "app", "copy"]);
    let mut strace = traced(&log, &download);
    strace.envs(download.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(strace.current_dir(environment.folder("here")).output().unwrap().status.success());
    let copy = environment.path().join("here/copy").canonicalize().unwrap();
    let (copy, state) = (copy.to_str().unwrap(), copy.join(".workspace"));
    let calls = calls(&fs::read_to_string(&log).unwrap());
    let into_the_tree: Vec<&Call> = calls
        .iter()
        .filter(|call| call.name.starts_with("rename"))
        .filter(|call| {
            let new = &paths(&call.arguments)[1];
            new.starts_with(copy) && !Path::new(new).starts_with(&state)
        })
        .collect();
    // Folders come as a whole.
    assert_eq!(into_the_tree.len(), 4 + 40, "{calls:#?}");
    let journal = state.join("journal");
    let first = into_the_tree.iter().map(|call| call.began).min().unwrap();
    let synced = calls.iter().find(|call| call.is_sync_of(journal.to_str().unwrap()) && call.ended < first);
    assert!(synced.is_some(), "the journal was not on disk before the first rename: {calls:#?}");
    // What was put in place is written down for good before the journal, which says the same, goes.
    let state = state.to_str().unwrap();
    let tree = format!("{state}/tree");
    let renamed =
        calls.iter().find(|call| call.name.starts_with("rename") && paths(&call.arguments)[1] == tree).unwrap();
    let gone = calls
        .iter()
        .find(|call| call.name.starts_with("unlink") && paths(&call.arguments)[0] == journal.to_str().unwrap());
    let gone = gone.unwrap_or_else(|| panic!("the journal stayed"));
    assert!(
        calls.iter().any(|call| call.is_sync_of(state) && call.began > renamed.ended && call.ended < gone.began),
        "the journal went before the state that replaces it was on disk: {calls:#?}"
    );
}
