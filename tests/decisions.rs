//! What is decided about workspaces, and what hosts say of them: with a monitor played by this test.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/cli.rs"]
mod cli;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use bucket::{Bucket, arguments, upload};
use cli::{Ran, TestEnvironment};
use jiff::Timestamp;
use serde_json::json;
use workspace::format::host::Confirmation;

#[test]
fn stop_and_start_change_the_ref_once() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    upload(&environment, "web", "1");
    let bucket = Bucket::of(&environment);
    let stopped = environment.run(["stop", "app", "web", "--json"]).ok();
    assert!(stopped.stderr.contains("app is stopped: hosts take it down"), "{stopped:?}");
    assert!(stopped.stderr.contains("hint: `workspace start app web`"), "{stopped:?}");
    assert_eq!(stopped.json()[1], json!({"name": "web", "stopped": true, "changed": true, "version": 1}));
    let before = bucket.get("refs/app.json");
    environment.run(["stop", "app"]).ok().fails(0, "unchanged: app is stopped already");
    assert_eq!(bucket.get("refs/app.json"), before);
    let list = environment.run(["list"]).ok();
    assert!(list.stdout.lines().all(|line| line.ends_with("\tstopped")), "{list:?}");
    // An upload of a stopped workspace leaves it stopped.
    upload(&environment, "app", "2");
    assert!(bucket.reference("app").stopped);
    environment.run(["start", "app"]).fails(0, "app is started: hosts bring up version 2");
    environment.run(["start", "app"]).fails(0, "unchanged: app is not stopped");
    assert!(!bucket.reference("app").stopped);
    // One wrong name changes none.
    environment.run(["stop", "app", "ap"]).fails(3, "did you mean `app`");
    assert!(!bucket.reference("app").stopped);
}

#[test]
fn routes_go_one_step_and_never_in_circles() {
    let environment = TestEnvironment::new();
    for name in ["blue", "green", "red"] {
        upload(&environment, name, "1");
    }
    let bucket = Bucket::of(&environment);
    let routed = environment.run(["route", "blue", "--to", "green", "--json"]).ok();
    assert_eq!(routed.json(), json!({"name": "blue", "route": "green", "changed": true}));
    assert!(routed.stderr.contains("hint: `workspace route blue --back`"), "{routed:?}");
    environment.run(["route", "blue", "--to", "green"]).fails(0, "unchanged");
    assert!(environment.run(["list"]).ok().stdout.contains("routed to green"));
    environment.run(["route", "red", "--to", "blue"]).fails(4, "its own traffic goes to `green`");
    environment
        .run(["route", "green", "--to", "blue"])
        .fails(4, "its own traffic goes to `green`")
        .fails(4, "hint: `workspace route blue --back` first");
    environment.run(["route", "green", "--to", "red"]).fails(4, "the traffic of `blue` goes to `green`");
    environment.run(["route", "blue", "--to", "gren"]).fails(3, "did you mean `green`");
    environment.run(["route", "blu", "--to", "green"]).fails(3, "did you mean `blue`");
    environment.run(["route", "blue"]).fails(2, "--to");
    environment.run(["route", "blue", "--back"]).fails(0, "The traffic of blue goes to blue again");
    environment.run(["route", "blue", "--to", "blue"]).fails(0, "unchanged: blue isn't routed elsewhere");
    assert_eq!(bucket.reference("blue").route, None);
}

#[test]
fn many_decisions_at_once_all_count() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    upload(&environment, "web", "1");
    let commands: Vec<_> = [["stop", "app"].as_slice(), &["retry", "app"], &["route", "app", "--to", "web"]]
        .iter()
        .map(|arguments| environment.workspace(*arguments).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for command in commands {
        Ran::from(command.wait_with_output().unwrap()).ok();
    }
    let reference = Bucket::of(&environment).reference("app");
    assert!(reference.stopped && reference.retry.is_some() && reference.route.is_some(), "{reference:?}");
}

#[test]
fn retry_names_the_hosts_that_had_given_up() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    let bucket = Bucket::of(&environment);
    environment.run(["retry", "app"]).fails(0, "No host says that it has given up");
    let mark = bucket.reference("app").retry.unwrap();
    let mut managed = bucket.managed("app", "failed", None, None);
    managed["failure"] = bucket.failure("app", 1);
    managed["failure"]["retry"] = json!(mark);
    managed["bad"] = json!([{"row": managed["failure"]["row"], "number": 1, "retry": mark}]);
    bucket.host("A", &json!({"app": managed}), |_| {});
    let retried = environment.run(["retry", "app", "--json"]).ok();
    assert!(retried.stderr.contains("host-A had given up on version 1 (ready: nothing listens"), "{retried:?}");
    assert_eq!(retried.json()["hosts"][0]["versions"], json!([1]));
    assert_ne!(bucket.reference("app").retry, Some(mark));
    environment.run(["retry", "app"]).fails(0, "No host says that it has given up");
    let mut waiting = bucket.managed("app", "waiting", None, None);
    waiting["failure"] = bucket.failure("app", 1);
    waiting["failure"]["retry"] = json!(bucket.reference("app").retry);
    bucket.host("A", &json!({"app": waiting}), |_| {});
    environment.run(["retry", "app"]).fails(0, "host-A waits before it tries version 1 again (ready: nothing listens");
    environment.run(["retry", "ap"]).fails(3, "did you mean `app`");
}

#[test]
fn status_shows_every_host() {
    let environment = TestEnvironment::new();
    environment.run(["status"]).fails(0, "no workspaces in");
    upload(&environment, "app", "1");
    upload(&environment, "app", "2");
    upload(&environment, "other", "1");
    environment.run(["status"]).fails(0, "no host has reported here yet");
    let bucket = Bucket::of(&environment);
    let mut failed = bucket.managed("app", "failed", Some(1), None);
    failed["failure"] = bucket.failure("app", 2);
    bucket.host("A", &json!({"app": failed}), |_| {});
    bucket.host("B", &json!({"app": bucket.managed("app", "install", Some(1), Some(2))}), |_| {});
    bucket.host("C", &json!({"app": bucket.managed("app", "live", Some(2), None)}), |record| {
        record["beat"] = "2026-01-01T00:00:00Z".into();
    });
    bucket.host("D", &json!({"gone": {"phase": "live", "since": "2026-01-01T00:00:00Z"}}), |record| {
        record["ended"] = true.into();
        record["withheld"] = json!(["gone"]);
    });
    bucket.put("hosts/A.confirmed.json", Confirmation::new(Vec::new(), Timestamp::now()).to_bytes());
    bucket.put("hosts/E.json", b"{}".to_vec());
    let status = environment.run(["status"]).ok();
    let lines: Vec<&str> = status.stdout.lines().collect();
    let expected = [
        ("app\t1 (2 failed)\thost-A\tfailed\t", "\thealthy\thttp://app.localhost"),
        ("app\t1 → 2\thost-B\tinstall\t", "\thealthy\thttp://app.localhost"),
        ("app\t2\thost-C (away)\tlive\t", "\thealthy\thttp://app.localhost"),
        ("gone\t-\thost-D (ended)\tlive\t", "\t-\t-"),
        ("other\t1\tno host\t-\t", "-\t-\t-"),
    ];
    assert_eq!(lines.len(), expected.len(), "{status:?}");
    for (line, (start, end)) in lines.iter().zip(expected) {
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
    for text in [
        "app@2 failed on host-A in step ready, just now: nothing listens on port 3000",
        "  | Server on 127.0.0.1:4000",
        "  listening: 127.0.0.1:4000",
        "  hint: listen on the port that PORT names",
        "  not tried again; `workspace retry app` has it tried again",
        "host-C is away: last heard of",
        "the monitor of host-D has ended",
        "host-D still runs what vanished from the bucket: gone; `workspace confirm-removals`",
        "`hosts/E.json` can't be read and is skipped",
    ] {
        assert!(status.stderr.contains(text), "no `{text}` in {status:#?}");
    }
    assert!(!status.stderr.contains("confirmed.json"), "{status:#?}");
    let one = environment.run(["status", "other", "--json"]).ok().json();
    assert_eq!((one["workspaces"].as_array().unwrap().len(), &one["workspaces"][0]["hosts"]), (1, &json!([])));
    assert_eq!(one["hosts"].as_array().unwrap().len(), 4);
    let app = environment.run(["status", "app", "--json"]).ok().json();
    let on_a = &app["workspaces"][0]["hosts"][0];
    assert_eq!((&on_a["presence"], &on_a["failure"]["step"]), (&"there".into(), &"ready".into()));
    environment.run(["status", "ap"]).fails(3, "did you mean `app`");
}

#[test]
fn in_a_container_a_name_needs_the_store() {
    let environment = TestEnvironment::new();
    let state = environment.folder("state");
    let json = r#"{"selector":"app","phase":"ready","since":"2026-01-01T00:00:00Z","supervisor":1}"#;
    std::fs::write(state.join("state.json"), json).unwrap();
    let run = |arguments: &[&str]| {
        Ran::from(environment.workspace(arguments).env("WORKSPACE_STATE_DIR", &state).output().unwrap())
    };
    assert!(run(&["status"]).ok().stdout.contains("workspace  app"));
    run(&["status", "app"]).fails(2, "this container has no settings of the store");
}

#[test]
fn removals_are_confirmed_to_the_host_that_withholds_them() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    let bucket = Bucket::of(&environment);
    environment.run(["confirm-removals"]).fails(0, "No host withholds a removal");
    bucket.host("A:1", &json!({}), |record| record["withheld"] = json!(["x", "y"]));
    bucket.host("B", &json!({}), |_| {});
    environment
        .run(["confirm-removals"])
        .fails(2, "2 workspaces are no longer in")
        .fails(2, "host-A:1 still runs x, y");
    environment.run(["confirm-removals", "--host", "nowhere"]).fails(3, "there is no host `nowhere`");
    environment.run(["confirm-removals", "--host", "B", "--yes"]).fails(0, "No host withholds");
    let confirmed = environment.run(["confirm-removals", "--host", "host-A:1", "--yes", "--json"]).ok();
    assert_eq!(confirmed.json()[0]["names"], json!(["x", "y"]));
    let written = Confirmation::parse(&bucket.get("hosts/A:1.confirmed.json")).unwrap();
    assert_eq!(written.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x", "y"]);
}

/// Starts an upload that waits, plays the hosts once it says that it waits, and returns what it did.
fn waiting(environment: &TestEnvironment, text: &str, more: &[&str], play: impl FnOnce(&Bucket)) -> Ran {
    let arguments = arguments(environment, "app", text, more);
    let mut command = environment.workspace(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Waiting for") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended early: {said}");
    }
    play(&Bucket::of(environment));
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran { code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap(), stderr: said }
}

#[test]
fn an_upload_waits_until_every_host_serves_it() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    Bucket::of(&environment).host("away", &json!({}), |record| record["beat"] = "2026-01-01T00:00:00Z".into());
    Bucket::of(&environment).host("only", &json!({}), |record| record["only"] = json!(["web-*"]));
    let ran = waiting(&environment, "2", &["--wait", "--hosts", "2", "--json"], |bucket| {
        bucket.host("A", &json!({"app": bucket.managed("app", "live", Some(2), None)}), |_| {});
        bucket.host("B", &json!({"app": bucket.managed("app", "watch", Some(2), None)}), |_| {});
    })
    .ok();
    assert!(ran.stderr.contains("app@2 is served by 2 hosts"), "{ran:#?}");
    assert!(ran.stderr.contains("http://app.localhost"), "{ran:#?}");
    let wait = &ran.json()["wait"];
    assert_eq!(wait["outcome"], "served");
    let outcomes: Vec<_> = wait["hosts"].as_array().unwrap().iter().map(|host| host["outcome"].clone()).collect();
    assert_eq!(outcomes, ["serves", "serves", "away"]);
    // What is there already is served already.
    let ran = environment.run(arguments(&environment, "app", "2", &["--wait=5s"])).ok();
    assert!(ran.stderr.contains("unchanged") && ran.stderr.contains("is served by 2 hosts"), "{ran:#?}");
}

#[test]
fn an_upload_that_fails_on_a_host_ends_with_that_hosts_report() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    let ran = waiting(&environment, "2", &["--wait=1m", "--json"], |bucket| {
        let mut managed = bucket.managed("app", "failed", Some(1), None);
        managed["failure"] = bucket.failure("app", 2);
        bucket.host("A", &json!({"app": managed}), |_| {});
    })
    .fails(1, "app@2 failed on host-A in step ready, just now: nothing listens on port 3000")
    .fails(1, "  | Server on 127.0.0.1:4000");
    let wait = &ran.json()["wait"];
    assert_eq!((&wait["outcome"], &wait["hosts"][0]["failure"]["number"]), (&"failed".into(), &2.into()));
}

#[test]
fn an_upload_stops_waiting_when_the_time_is_up_or_nothing_can_come() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    let bucket = Bucket::of(&environment);
    bucket.host("A", &json!({"app": bucket.managed("app", "install", Some(1), None)}), |_| {});
    environment
        .run(arguments(&environment, "app", "2", &["--wait=2s", "--hosts=3"]))
        .fails(1, "app@2 is published, and not served everywhere after 2 s")
        .fails(1, "host-A: install (as the bucket says)")
        .fails(1, "1 live hosts manage app, 3 are asked for");
    environment.run(["stop", "app"]).ok();
    let ran = environment.run(arguments(&environment, "app", "3", &["--wait=1h", "--json"]));
    let ran = ran.fails(1, "app is stopped").fails(1, "hint: `workspace start app`");
    assert_eq!((&ran.json()["outcome"], &ran.json()["wait"]["outcome"]), (&"published".into(), &"stopped".into()));
    let stored = environment.folder("stored");
    std::fs::write(stored.join("README"), "x").unwrap();
    environment.run(["upload", "docs", stored.to_str().unwrap(), "--wait=1h"]).fails(1, "there is nothing to wait for");
    for wrong in [vec!["--wait", "--dry-run"], vec!["--hosts=2"], vec!["--wait=soon"], vec!["--wait", "--hosts=0"]] {
        let ran = environment.run(arguments(&environment, "app", "4", &wrong));
        assert_eq!(ran.code, Some(2), "{wrong:?}: {ran:?}");
    }
}

#[test]
fn an_interrupted_wait_leaves_the_version_published() {
    let environment = TestEnvironment::new();
    upload(&environment, "app", "1");
    let mut command = environment.workspace(arguments(&environment, "app", "2", &["--wait"]));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Waiting for") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended early: {said}");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(said.contains("Interrupted: app@2 stays published"), "{said}");
    assert_eq!(Bucket::of(&environment).reference("app").current, 2);
}
