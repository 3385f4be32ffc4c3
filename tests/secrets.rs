//! Where the secret key must not be, after everything was done with it: the bucket, the cache, what was downloaded and written,
//! what was said and logged, other programs' arguments and environments; and a core dump.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use cli::TestEnvironment;
use rustix::process::{Pid, Signal, kill_process};
use servers::{Server, free_port};

const DEADLINE: Duration = Duration::from_mins(1);

/// The secret key, and what it looks like in base64.
fn needles(secret: &str) -> Vec<Vec<u8>> {
    let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
    // The last character depends on what follows.
    vec![secret.as_bytes().to_vec(), encoded.as_bytes()[..encoded.len() - 1].to_vec()]
}

fn has(bytes: &[u8], secret: &str) -> bool {
    needles(secret).iter().any(|needle| bytes.windows(needle.len()).any(|window| window == needle))
}

/// Files below a folder that have it, also compressed; and how many were looked at.
fn search(folder: &Path, secret: &str, looked_at: &mut usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(search(&path, secret, looked_at));
        } else if kind.is_file() {
            *looked_at += 1;
            let bytes = fs::read(&path).unwrap();
            let plain = zstd::stream::decode_all(&bytes[..]).unwrap_or_default();
            if has(&bytes, secret) || has(&plain, secret) || has(path.as_os_str().as_encoded_bytes(), secret) {
                found.push(path);
            }
        }
    }
    found
}

/// The processes below one, itself included.
fn family(root: u32) -> Vec<u32> {
    let mut members = vec![root];
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut at = 0;
    while at < members.len() {
        let parent = members[at];
        members.extend(parents.iter().filter(|(_, other)| *other == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    members
}

/// Stands for the folder that is uploaded.
const TREE: &str = "the tree";
/// What is done with the key, and what it ends with.
const COMMANDS: &[(&[&str], i32)] = &[
    (&["init"], 0),
    (&["upload", "app", TREE, "--tag", "staging", "-m", "first"], 0),
    (&["upload", "app", TREE, "--dry-run"], 0),
    (&["sync", "other", TREE], 0),
    (&["plan", TREE], 0),
    (&["list"], 0),
    (&["log", "app"], 0),
    (&["show", "app", "index.html"], 0),
    (&["diff", "app", TREE, "-p"], 0),
    (&["download", "app", "copy"], 0),
    (&["tag", "app@1", "v1"], 0),
    (&["stop", "app"], 0),
    (&["start", "app"], 0),
    (&["retry", "app"], 0),
    (&["route", "other", "--to", "app"], 0),
    (&["retention", "app", "--last", "5"], 0),
    (&["status"], 0),
    (&["status", "--settings"], 0),
    (&["verify", "app", "--deep"], 0),
    (&["presign", "app"], 0),
    (&["gc", "--grace", "0s", "--wait"], 0),
    (&["recover", "lost", "--dry-run"], 3),
    (&["compose", "app", "-o", "app.yml"], 0),
    (&["compose", "app", "--follow"], 0),
    (&["lock", "app@1", "--until", "1d"], 1),
    (&["download", "nothing"], 3),
    (&["delete", "other", "--yes"], 0),
];

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A git that notes what it was given, then does its work.
fn curious_git(environment: &TestEnvironment) -> (String, PathBuf) {
    let (folder, notes) = (environment.folder("bin"), environment.path().join("given-to-git"));
    let path = std::env::var("PATH").unwrap();
    let script = format!("#!/bin/sh\n{{ env; echo \"$@\"; }} >>'{}'\nPATH='{path}' exec git \"$@\"\n", notes.display());
    fs::write(folder.join("git"), script).unwrap();
    fs::set_permissions(folder.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    (format!("{}:{path}", folder.display()), notes)
}

/// A repository with an application that shows what it was given, and the port that it listens on.
fn application(environment: &TestEnvironment) -> (PathBuf, u16) {
    let tree = environment.folder("tree");
    let port = free_port();
    let yaml = format!("start: sh serve.sh\nruntime: custom\nimage: made-up\nport: {port}\n");
    for (name, text) in [
        ("workspace.yaml", yaml.as_str()),
        ("serve.sh", "env >env.txt\nexec python3 -m http.server --bind $HOST $PORT\n"),
        ("index.html", "one"),
    ] {
        fs::write(tree.join(name), text).unwrap();
    }
    environment.git(&tree, &["init", "-q"]);
    environment.git(&tree, &["add", "."]);
    environment.git(&tree, &["commit", "-qm", "one"]);
    (tree, port)
}

/// Asks until the application answers.
fn page(port: u16, log: &Path) -> String {
    let started = Instant::now();
    loop {
        let asked = std::net::TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        match asked {
            Ok(page) if page.contains("200") => return page,
            _ => assert!(started.elapsed() < DEADLINE, "{}", fs::read_to_string(log).unwrap()),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_secret_key_stays_in_the_processes_that_were_given_it() {
    let bucket = tempfile::tempdir().unwrap();
    let server = Server::workspace(bucket.path());
    let secret = server.secret_key.clone();
    let environment = TestEnvironment::new();
    let (path, notes) = curious_git(&environment);
    let said = environment.path().join("said");
    let command = |arguments: &[&str]| {
        let mut command = environment.workspace(arguments);
        command
            .env("PATH", &path)
            .env("S3_ENDPOINT", &server.endpoint)
            .env("S3_ACCESS_KEY", &server.access_key)
            .env("S3_SECRET_KEY", &secret)
            .env("S3_BUCKET", "workspaces")
            .env("WORKSPACE_LOG", "trace");
        command
    };
    let log = |bytes: &[u8]| {
        fs::OpenOptions::new().create(true).append(true).open(&said).unwrap().write_all(bytes).unwrap();
    };

    let (tree, port) = application(&environment);
    let tree = tree.to_str().unwrap();
    for (arguments, code) in COMMANDS {
        let arguments: Vec<&str> = arguments.iter().map(|word| if *word == TREE { tree } else { word }).collect();
        for verbose in [&[][..], &["-vv"]] {
            // What was deleted or routed once can't be deleted again: what is said of that counts, too.
            let output = command(&[&arguments, verbose].concat()).output().unwrap();
            if verbose.is_empty() {
                let text = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {text}");
            }
            log(&output.stdout);
            log(&output.stderr);
        }
    }
    // Wrong keys are told without being repeated.
    let mut wrong = command(&["list", "-vv"]);
    let output = wrong.env("S3_SECRET_KEY", format!("{secret}-but-wrong")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    log(&output.stdout);
    log(&output.stderr);

    // The application, and everything else that a run starts.
    let out = fs::File::create(environment.path().join("run.log")).unwrap();
    let mut run = command(&["run", "app", "--dir", "running", "-vv"]);
    let mut running = Running(run.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap());
    let page = page(port, &environment.path().join("run.log"));
    assert!(page.ends_with("one"), "{page}");
    let members = family(running.0.id());
    assert!(members.len() > 1, "there is no application below the run");
    for pid in members {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!has(&arguments, &secret), "{}", String::from_utf8_lossy(&arguments));
        if pid != running.0.id() {
            let given = fs::read(format!("/proc/{pid}/environ")).unwrap();
            assert!(!has(&given, &secret) && !has(&given, &server.access_key), "{}", String::from_utf8_lossy(&given));
        }
    }
    // Killed, it would leave its application behind.
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    running.0.wait().unwrap();

    assert!(fs::read_to_string(&notes).unwrap().contains("GIT_OPTIONAL_LOCKS"), "git was not asked");
    let mut looked_at = 0;
    let mut found = search(environment.path(), &secret, &mut looked_at);
    found.extend(search(bucket.path(), &secret, &mut looked_at));
    assert_eq!(found, Vec::<PathBuf>::new());
    let said = fs::read_to_string(&said).unwrap();
    assert!(said.len() > 50_000 && said.contains("PutObject"), "the logs say next to nothing");
    let given = fs::read_to_string(&notes).unwrap();
    assert!(!given.contains(&server.access_key), "git was given the access key");
    // The search itself finds what is there.
    fs::write(environment.path().join("planted"), zstd::encode_all(format!("x{secret}x").as_bytes(), 3).unwrap())
        .unwrap();
    assert_eq!(search(environment.path(), &secret, &mut 0).len(), 1);
    eprintln!("{} commands, {looked_at} files, {} bytes of logs", 2 * COMMANDS.len(), said.len());
}

/// Runs as another user where the tests are root's, since root may look at everything.
fn as_nobody(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = servers::command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", program]);
        return command;
    }
    servers::command(program)
}

/// Starts a program that may leave core dumps, and gives whether it was dumped when it was aborted.
fn dumped(mut command: Command, folder: &Path, ready: impl Fn(u32) -> bool) -> (bool, u32) {
    let wrapped = {
        let mut shell = servers::command("sh");
        shell
            .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        shell.env("S3_SECRET_KEY", "made-up-secret").env("S3_ACCESS_KEY", "made-up").current_dir(folder);
        shell
    };
    command = wrapped;
    let mut child = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let (pid, started) = (child.0.id(), Instant::now());
    while !ready(pid) {
        assert!(started.elapsed() < DEADLINE && child.0.try_wait().unwrap().is_none(), "it did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Who owns what only the process itself, or root, may read.
    let owner = fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    kill_process(Pid::from_child(&child.0), Signal::ABORT).unwrap();
    let status = child.0.wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    (status.core_dumped(), owner)
}

#[test]
fn a_crash_leaves_no_core_dump_with_keys_in_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let named =
        |pid: u32, name: &str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);

    let mut sleep = as_nobody("sleep");
    sleep.arg("100");
    let (control, owner) = dumped(sleep, folder.path(), |pid| named(pid, "sleep"));
    let nobody = if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
    assert_eq!(owner, nobody);

    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    let port = free_port();
    // Where another user can start it.
    let binary = folder.path().join("workspace");
    fs::copy(cli::BINARY, &binary).unwrap();
    let mut serving = as_nobody(binary.to_str().unwrap());
    serving.args(["static", "site", "--listen", &format!("127.0.0.1:{port}")]);
    let (was_dumped, owner) =
        dumped(serving, folder.path(), |_| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(owner, 0, "another process of this user can read its environment");
    assert!(!was_dumped, "it left a core dump");
    eprintln!("programs are dumped here: {control}");
}
