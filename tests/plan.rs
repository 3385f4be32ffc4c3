//! `workspace plan`, as a person and a program see it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;

use std::fs;

use cli::TestEnvironment;

fn app(environment: &TestEnvironment) -> std::path::PathBuf {
    let folder = environment.folder("app");
    fs::write(folder.join("package.json"), r#"{"scripts":{"start":"node server.js"}}"#).unwrap();
    fs::write(folder.join("server.js"), "").unwrap();
    fs::write(folder.join("index.php"), "").unwrap();
    fs::write(folder.join(".workspaceignore"), "index.php\n").unwrap();
    fs::write(folder.join("workspace.yaml"), "secrets: {DATABASE_URL: SHOP_DATABASE_URL}\n").unwrap();
    folder
}

/// Under CI a store has to be configured, for whoever needs one.
#[test]
fn a_plan_needs_no_store_and_sees_no_ignored_file() {
    let environment = TestEnvironment::new();
    let folder = app(&environment);
    let output = environment.workspace(["plan"]).arg(&folder).env("CI", "1").output().unwrap();
    let ran = cli::Ran::from(output).ok();
    insta::assert_snapshot!(ran.stdout.replace('\t', " | "), @"
    runtime | node | package.json
    manager | npm | no lock file; nothing to install
    start | node server.js | scripts.start
    port | 3000 | usual for node
    environment | NODE_ENV=production | 
    secrets | DATABASE_URL from SHOP_DATABASE_URL | workspace.yaml
    ");
    assert_eq!(ran.stderr, "");
    assert!(!environment.path().join("data").exists());
}

#[test]
fn programs_get_the_plan_as_it_would_be_stored() {
    let environment = TestEnvironment::new();
    let folder = app(&environment);
    let json = environment.run([std::ffi::OsStr::new("plan"), "--json".as_ref(), folder.as_os_str()]).ok().json();
    assert_eq!(json["summary"], "node, npm, starts with `node server.js`");
    assert_eq!((&json["runnable"], &json["warnings"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(json["plan"]["secrets"]["DATABASE_URL"], "SHOP_DATABASE_URL");
    let empty = environment.folder("empty");
    fs::write(empty.join("README"), "").unwrap();
    let json = environment.run([std::ffi::OsStr::new("plan"), "--json".as_ref(), empty.as_os_str()]).ok().json();
    assert_eq!((&json["runnable"], &json["plan"]), (&false.into(), &serde_json::Value::Null));
}

#[test]
fn mistakes_are_named_and_the_schema_is_printed() {
    let environment = TestEnvironment::new();
    let folder = app(&environment);
    fs::write(folder.join("workspace.yaml"), "start: a\nprot: 1\n").unwrap();
    let ran = environment.run([std::ffi::OsStr::new("plan"), folder.as_os_str()]);
    let _ = ran.fails(1, "`workspace.yaml` line 2: unknown key `prot`; did you mean `port`?");
    let schema = environment.run(["plan", "--schema"]).ok().json();
    assert_eq!(schema["title"], "workspace.yaml");
}
