//! `tag` and `rollback`: names that move, and versions that come back, with hosts played by the test.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/cli.rs"]
mod cli;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use bucket::{Bucket, arguments, upload};
use cli::{Ran, TestEnvironment};
use serde_json::json;
use workspace::names::Tag;

fn versions(environment: &TestEnvironment, texts: &[&str]) -> Bucket {
    for text in texts {
        upload(environment, "app", text);
    }
    Bucket::of(environment)
}

fn content(environment: &TestEnvironment, selector: &str) -> String {
    environment.run(["show", selector, "serve"]).ok().stdout
}

#[test]
fn tags_are_given_listed_moved_and_taken_away() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "3"]);
    environment.run(["tag", "app"]).fails(0, "app has no tag").fails(0, "hint: `workspace tag app@3 TAG`");
    let given = environment.run(["tag", "app@1", "V1.0", "--json"]).ok();
    assert!(given.stderr.contains("`V1.0` is called `v1.0`: tags have no capitals"), "{given:?}");
    assert!(given.stderr.contains("app@1 is called `v1.0`"), "{given:?}");
    assert_eq!((&given.json()["version"], &given.json()["changed"]), (&1.into(), &true.into()));
    let before = bucket.get("refs/app.json");
    environment.run(["tag", "app@v1.0", "v1.0"]).fails(0, "unchanged: app@1 is called `v1.0` already");
    assert_eq!(bucket.get("refs/app.json"), before);
    environment.run(["tag", "app", "staging"]).fails(0, "app@3 is called `staging`");
    environment
        .run(["tag", "app@2", "staging"])
        .fails(4, "the tag `staging` of `app` names version 3; nothing was changed")
        .fails(4, "hint: `workspace tag app@2 staging --force` moves it");
    let moved = environment.run(["tag", "app@2", "staging", "--force", "--json"]).ok();
    assert!(moved.stderr.contains("app@2 is called `staging`, which was version 3"), "{moved:?}");
    assert_eq!(moved.json()["from"], 3);
    let list = environment.run(["tag", "app"]).ok();
    let rows: Vec<_> = list.stdout.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>()).collect();
    assert_eq!(rows, [["staging", "2"], ["v1.0", "1"]]);
    assert_eq!(environment.run(["tag", "app@1", "--json"]).ok().json()[0]["tag"], "v1.0");
    assert_eq!(content(&environment, "app@staging"), "2");
    environment.run(["tag", "--delete", "app", "staging"]).fails(0, "app@2 is no longer called `staging`");
    assert_eq!(bucket.reference("app").tagged(&"staging".parse().unwrap()), None);
    environment.run(["tag", "--delete", "app", "staging"]).fails(3, "`app` has no tag `staging`: the tags are v1.0");
    environment.run(["tag", "--delete", "app@1", "v1.0"]).fails(2, "`workspace tag --delete app v1.0` takes it away");
    environment.run(["tag", "--delete", "app"]).fails(2, "<TAG>");
}

#[test]
fn tags_that_can_not_be_are_refused_clearly() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1"]);
    let before = bucket.get("refs/app.json");
    environment
        .run(["tag", "app@1", "7"])
        .fails(2, "`7` is no tag: digits alone mean a version number; add a letter, such as `v7`");
    environment.run(["tag", "app@1", "a/b"]).fails(2, "`/` is not among");
    environment.run(["tag", "app@9", "v9"]).fails(3, "version 1 is the only one");
    environment.run(["tag", "ap@1", "v9"]).fails(3, "did you mean `app`");
    environment.run(["upload", "app", ".", "--tag", "7"]).fails(2, "digits alone mean a version number");
    environment.run(["rollback", "app", "--tag", "7"]).fails(2, "digits alone mean a version number");
    assert_eq!(bucket.get("refs/app.json"), before);
}

#[test]
fn a_ref_that_is_full_of_tags_takes_no_more_and_still_takes_versions() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2"]);
    let mut reference = bucket.reference("app");
    let tag = |number: u64| -> Tag { format!("tag-{number:->50}").parse().unwrap() };
    let mut number = 0;
    while reference.to_bytes().len() < 56 << 10 {
        reference.tag(&tag(number), 1);
        number += 1;
    }
    bucket.put("refs/app.json", reference.to_bytes());
    environment
        .run(["tag", "app@2", "one-more"])
        .fails(4, "the ref of `app` has no room for another tag; nothing was changed")
        .fails(4, "`workspace tag --delete app TAG` makes room");
    let last = tag(0).to_string();
    // One that only moves takes no room; nor does a version.
    environment.run(["tag", "app@2", &last, "--force"]).ok();
    environment.run(arguments(&environment, "app", "3", &["--tag", &last])).ok();
    environment.run(arguments(&environment, "app", "4", &["--tag", "one-more"])).fails(4, "no room for another tag");
    upload(&environment, "app", "4");
    environment.run(["rollback", "app", "3", "--tag", &last]).ok();
    for number in 1..40 {
        environment.run(["tag", "--delete", "app", tag(number).as_str()]).ok();
    }
    environment.run(["tag", "app@2", "one-more"]).ok();
}

#[test]
fn many_tags_at_once_all_count() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1"]);
    let commands: Vec<_> = (0..6)
        .map(|n| environment.workspace(["tag", "app@1", &format!("t{n}")]).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for command in commands {
        Ran::from(command.wait_with_output().unwrap()).ok();
    }
    assert_eq!(bucket.reference("app").rows[0].tags.len(), 6);
}

#[test]
fn compose_takes_a_tag() {
    let environment = TestEnvironment::new();
    versions(&environment, &["1", "2"]);
    environment.run(["tag", "app@1", "staging"]).ok();
    let pinned = environment.run(["compose", "app@staging"]).ok();
    assert!(pinned.stdout.contains("- app@1\n"), "{pinned:#?}");
    assert!(pinned.stderr.contains("app@staging: pinned to version 1, which `staging` names now"), "{pinned:#?}");
    let followed = environment.run(["compose", "app@staging", "--follow"]).ok();
    assert!(followed.stdout.contains("- app@staging\n"), "{followed:#?}");
    environment.run(["compose", "app@stagin"]).fails(3, "the tags are staging");
}

#[test]
#[cfg(target_os = "linux")]
fn run_takes_a_tag_and_goes_with_it_wherever_it_moves() {
    let environment = TestEnvironment::new();
    let source = environment.folder("source");
    for number in 1..=3 {
        let yaml = "runtime: custom\nimage: x\ninstall: []\n";
        let files = [("workspace.yaml", yaml), ("Procfile", "web: sh ./say\nworker: sh ./say\n")];
        for (path, text) in files {
            std::fs::write(source.join(path), text).unwrap();
        }
        std::fs::write(source.join("say"), format!("echo it is {number}\nexec sleep 1000\n")).unwrap();
        environment.run(["upload", "app", source.to_str().unwrap()]).ok();
    }
    let tag = |number: u64| {
        environment.run(["tag", &format!("app@{number}"), "staging", "--force"]).ok();
    };
    tag(2);
    let mut command = environment.workspace(["run", "app@staging", "--follow", "--process", "worker", "--dir", "tree"]);
    command.env("STORAGE_MODE", "embedded").env("WORKSPACE_STATE_DIR", environment.folder("state"));
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut stdout = BufReader::new(running.0.stdout.take().unwrap());
    // Forward, and back. What never comes ends with the test's own limit.
    for number in [2, 3, 1] {
        tag(number);
        let mut line = String::new();
        while !line.contains(&format!("it is {number}")) {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended before version {number}");
        }
    }
}

/// Is asked to end, and takes what it started along, however the test ends.
#[cfg(target_os = "linux")]
struct Running(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Running {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn an_ordinary_name_may_look_like_a_version() {
    let environment = TestEnvironment::new();
    upload(&environment, "myapp-v2.0", "1");
    let list = environment.run(["list"]).ok();
    assert!(list.stdout.starts_with("myapp-v2.0\t1\t"), "{list:?}");
    environment.run(["tag", "myapp-v2.0@1", "v2.0"]).ok();
    assert_eq!(content(&environment, "myapp-v2.0@v2.0"), "1");
}

#[test]
fn a_rollback_is_a_new_version_and_sends_nothing() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "3"]);
    let objects = |bucket: &Bucket| {
        let listed = bucket.runtime.block_on(bucket.store.list("data/app/")).unwrap();
        listed.into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    let before = objects(&bucket);
    let back = environment.run(["rollback", "app", "1", "--json"]).ok();
    assert!(back.stderr.contains("Rolled back app from version 3 to version 1: it is app@4 in"), "{back:#?}");
    let json = back.json();
    assert_eq!((&json["outcome"], &json["version"]), (&"published".into(), &4.into()));
    assert_eq!((&json["origin"], &json["from"], &json["basis"]), (&1.into(), &3.into(), &"asked".into()));
    assert_eq!((&json["sent_files"], &json["new_bytes"]), (&0.into(), &0.into()));
    assert_eq!(objects(&bucket), before, "nothing but the ref was written");
    let reference = bucket.reference("app");
    let (old, new) = (reference.row(1).unwrap(), reference.current_row().unwrap());
    assert_eq!((new.base, new.delta, new.tree, new.origin), (old.base, old.delta, old.tree, Some(1)));
    assert_ne!(new.id, old.id);
    assert_eq!(new.message.as_deref(), Some("Rollback to version 1"));
    assert_eq!(content(&environment, "app"), "1");
    // A rollback of a rollback names the version that was uploaded.
    upload(&environment, "app", "5");
    environment.run(["rollback", "app", "4", "-m", "again"]).ok();
    let reference = bucket.reference("app");
    let new = reference.current_row().unwrap();
    assert_eq!((new.number, new.origin, new.message.as_deref()), (6, Some(1), Some("again")));
    let log = environment.run(["log", "app", "-n", "1"]).ok();
    assert!(log.stdout.ends_with("\t1\t-\n"), "{log:?}");
    // What follows builds on it as on any version.
    upload(&environment, "app", "7");
    assert_eq!(content(&environment, "app"), "7");
    environment.run(["diff", "app@1", "@6", "--exit-code"]).ok();
}

#[test]
fn a_rollback_to_what_is_current_changes_nothing() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "1"]);
    let before = bucket.get("refs/app.json");
    environment.run(["rollback", "app", "3"]).fails(0, "unchanged: app@3");
    let same = environment.run(["rollback", "app", "1", "--json"]).ok();
    assert!(same.stderr.contains("and version 1 are the same"), "{same:?}");
    assert_eq!((&same.json()["outcome"], &same.json()["version"]), (&"unchanged".into(), &3.into()));
    assert_eq!(bucket.get("refs/app.json"), before);
    environment.run(["rollback", "app", "1", "--tag", "good"]).fails(0, "unchanged: app@3, tagged `good`");
    assert_eq!(bucket.reference("app").tagged(&"good".parse().unwrap()).unwrap().number, 3);
}

#[test]
fn without_a_version_what_hosts_served_well_comes_back() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "3", "4"]);
    let mut managed = bucket.managed("app", "failed", Some(2), None);
    managed["good"] = bucket.release("app", 2);
    bucket.host("A", &json!({"app": managed}), |_| {});
    let back = environment.run(["rollback", "app"]).ok();
    let text = "from version 4 to version 2, the last one that a host reported as served well: it is app@5";
    assert!(back.stderr.contains(text), "{back:#?}");
    // Again: further back, and not to what was just left.
    let further = environment.run(["rollback", "app", "--json"]).ok();
    assert_eq!((&further.json()["origin"], &further.json()["basis"]), (&1.into(), &"previous".into()));
    environment
        .run(["rollback", "app"])
        .fails(3, "has no version to go back to from version 6")
        .fails(3, "hint: `workspace log app`");
}

#[test]
fn without_any_hosts_word_the_version_before_comes_back_unless_it_failed() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "3"]);
    let mut managed = bucket.managed("app", "failed", None, None);
    managed["bad"] = json!([{"row": bucket.reference("app").row(2).unwrap().id, "number": 2}]);
    bucket.host("A", &json!({"app": managed}), |_| {});
    assert_eq!(environment.run(["rollback", "app", "--json"]).ok().json()["origin"], 1);
    upload(&environment, "app", "5");
    // What was bad before somebody asked for another try may be well now.
    upload(&environment, "app", "6");
    environment.run(["retry", "app"]).ok();
    assert_eq!(environment.run(["rollback", "app", "--json"]).ok().json()["origin"], 5);
}

#[test]
fn what_is_not_kept_can_not_come_back() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "3", "4", "5"]);
    let mut reference = bucket.reference("app");
    reference.rows.retain(|row| row.number != 2);
    bucket.put("refs/app.json", reference.to_bytes());
    environment
        .run(["rollback", "app", "2"])
        .fails(3, "`app@2` is not there: it is no longer kept; versions 1, 3-5 are kept")
        .fails(3, "hint: `workspace log app`");
    environment.run(["rollback", "app", "v2"]).fails(3, "no version has a tag");
    environment.run(["rollback", "ap"]).fails(3, "did you mean `app`");
    environment.run(["rollback", "app", "1", "--expect", "4"]).fails(4, "`app` is at version 5, not at 4");
    environment.run(["rollback", "app", "1", "--expect", "5"]).ok();
    assert_eq!(bucket.reference("app").current, 6);
}

#[test]
fn tags_stay_unless_they_are_moved() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2"]);
    environment.run(["tag", "app@2", "production"]).ok();
    let back = environment.run(["rollback", "app", "1"]).ok();
    assert!(back.stderr.contains("Version 2 keeps `production`: hosts that follow a tag of it"), "{back:#?}");
    assert!(back.stderr.contains("hint: `workspace tag app@3 production --force` moves it"), "{back:#?}");
    upload(&environment, "app", "4");
    let back = environment.run(["rollback", "app", "production", "--tag", "production"]).ok();
    assert!(back.stderr.contains("it is app@5, tagged `production`"), "{back:#?}");
    assert_eq!(bucket.reference("app").tagged(&"production".parse().unwrap()).unwrap().number, 5);
}

#[test]
fn many_rollbacks_and_uploads_at_once_make_as_many_versions() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2", "3"]);
    let back =
        |version: &str| environment.workspace(["rollback", "app", version]).stderr(Stdio::piped()).spawn().unwrap();
    let uploading =
        environment.workspace(arguments(&environment, "app", "other", &[])).stderr(Stdio::piped()).spawn().unwrap();
    let commands = [back("1"), back("2"), uploading];
    for command in commands {
        Ran::from(command.wait_with_output().unwrap()).ok();
    }
    let reference = bucket.reference("app");
    assert_eq!(reference.current, 6);
    let mut origins: Vec<_> = reference.rows[3..].iter().map(|row| row.origin).collect();
    origins.sort_unstable();
    assert_eq!(origins, [None, Some(1), Some(2)]);
    for number in 4..=6 {
        content(&environment, &format!("app@{number}"));
    }
}

#[test]
fn a_rollback_waits_until_hosts_serve_it() {
    let environment = TestEnvironment::new();
    let bucket = versions(&environment, &["1", "2"]);
    let managed = bucket.managed("app", "live", Some(2), None);
    bucket.host("A", &json!({"app": managed}), |_| {});
    let mut command = environment.workspace(["rollback", "app", "--wait=1m", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Waiting for app@3") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended early: {said}");
    }
    bucket.host("A", &json!({"app": bucket.managed("app", "live", Some(3), None)}), |_| {});
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("app@3 is served by 1 host"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["wait"]["outcome"], &json["origin"]), (&"served".into(), &1.into()));
}
