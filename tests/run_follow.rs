//! `workspace run --follow`: versions that come while it runs, good ones and broken ones.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/staged.rs"]
mod staged;

use std::io::{Read, Write};
use std::net::TcpStream;

use staged::{Running, SERVER, Stage, wait_until};
use workspace::application::{Command, Runtime};
use workspace::run::state::{Phase, State};

/// Not a test by itself: the process that the tests start.
#[test]
fn runner() {
    staged::runner();
}

fn stage(start: &str) -> Stage {
    Stage::new(start).set("RUNNER_FOLLOW", "1")
}

/// Waits until this version is served.
fn serves(running: &Running, version: u64) -> State {
    wait_until(&format!("version {version}"), || {
        let state = running.state.read().ok()?;
        (state.phase == Phase::Ready && state.version == Some(version)).then_some(state)
    })
}

/// Waits until something is wrong.
fn is_broken(running: &Running, text: &str) -> State {
    wait_until(text, || {
        running.state.read().ok().filter(|state| state.error.as_ref().is_some_and(|error| error.contains(text)))
    })
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

fn end(running: Running) -> String {
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(143), "{}", finished.log);
    finished.log
}

#[test]
fn every_version_that_comes_is_served_and_a_broken_one_is_survived() {
    let stage = stage(SERVER).file("page", "one");
    let running = stage.start();
    let first = serves(&running, 1);
    let port = stage.plan.port;
    assert_eq!(get(port, "/page").unwrap(), "one");

    let stage = stage.file("page", "two");
    stage.publish(2);
    let second = serves(&running, 2);
    assert_eq!(get(port, "/page").unwrap(), "two");
    assert_eq!(first.supervisor, second.supervisor);
    assert_ne!(first.pid, second.pid, "it was started again");

    // It ends at once: the container stays, and says why.
    let stage = stage.plan_at(3, |plan| plan.start = Some(Command::parse("echo the reason; exit 3")));
    let broken = is_broken(&running, "ended with code 3");
    assert_eq!((broken.phase, broken.pid), (Phase::Failed, None));
    // It can't be started at all.
    let stage = stage.plan_at(4, |plan| plan.start = Some(Command::parse("no-such-program")));
    is_broken(&running, "no-such-program");

    let stage = stage.file("page", "five").plan_at(5, |plan| plan.start = Some(Command::parse(SERVER)));
    assert_eq!(serves(&running, 5).error, None);
    assert_eq!(get(port, "/page").unwrap(), "five");
    let log = end(running);
    assert!(log.contains("the reason") && log.contains("waiting for the next version"), "{log}");
    drop(stage);
}

#[test]
fn only_changed_inputs_are_installed_again() {
    let stage = stage(SERVER)
        .plan(|plan| {
            plan.install = vec![Command::parse("echo installed >> ../installed")];
            plan.inputs = vec!["lock".to_owned()];
        })
        .file("lock", "one");
    let running = stage.start();
    serves(&running, 1);
    stage.publish(2);
    serves(&running, 2);
    assert_eq!(stage.text("installed"), "installed\n");
    let stage = stage.file("lock", "two");
    stage.publish(3);
    serves(&running, 3);
    assert_eq!(stage.text("installed"), "installed\ninstalled\n");

    // An installation that fails is no end either.
    let stage = stage.plan_at(4, |plan| plan.install = vec![Command::parse("echo no registry; exit 1")]);
    is_broken(&running, "install failed");
    let stage = stage.plan_at(5, |plan| plan.install = vec![Command::parse("true")]);
    serves(&running, 5);
    let log = end(running);
    assert!(log.contains("no registry"), "{log}");
    drop(stage);
}

#[test]
fn a_build_that_fails_leaves_the_version_before_it_serving() {
    let stage = stage(SERVER).plan(|plan| plan.build = vec![Command::parse("cp source-page page")]);
    let stage = stage.file("source-page", "one");
    let running = stage.start();
    let first = serves(&running, 1);
    let stage = stage.plan_at(2, |plan| plan.build = vec![Command::parse("echo wrong syntax; exit 2")]);
    let broken = is_broken(&running, "build failed");
    assert_eq!((broken.phase, broken.pid, broken.version), (Phase::Ready, first.pid, Some(1)));
    assert_eq!(get(stage.plan.port, "/page").unwrap(), "one");
    let stage =
        stage.file("source-page", "three").plan_at(3, |plan| plan.build = vec![Command::parse("cp source-page page")]);
    assert_eq!(serves(&running, 3).error, None);
    assert_eq!(get(stage.plan.port, "/page").unwrap(), "three");
    end(running);
}

#[test]
fn what_takes_up_changes_by_itself_is_not_started_again() {
    for reloads in [false, true] {
        let stage =
            stage(SERVER).plan(|plan| if reloads { plan.reload = true } else { plan.runtime = Runtime::Static });
        let stage = stage.file("page", "one");
        let running = stage.start();
        let first = serves(&running, 1);
        let stage = stage.file("page", "two");
        stage.publish(2);
        let second = serves(&running, 2);
        assert_eq!(first.pid, second.pid);
        assert_eq!(get(stage.plan.port, "/page").unwrap(), "two");
        // Another start command is another matter.
        let stage = stage.plan_at(3, |plan| plan.start = Some(Command::parse(&format!("true; {SERVER}"))));
        assert_ne!(serves(&running, 3).pid, first.pid);
        end(running);
        drop(stage);
    }
}

#[test]
fn what_was_ready_and_ends_by_itself_is_started_again() {
    let stage = stage(SERVER);
    let running = stage.start();
    let first = serves(&running, 1);
    let pid = first.pid.unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let again = wait_until("another process", || {
        running.state.read().ok().filter(|state| state.phase == Phase::Ready && state.pid != first.pid)
    });
    assert_eq!(again.version, Some(1));
    end(running);
}
