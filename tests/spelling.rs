//! Targets where `README` and `readme` are one file, as on most Macs and on Windows: a real file system that knows no case.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cli::{BINARY, Ran, TestEnvironment};
use trees::Node;

/// Has `script` run in a new, empty target where case does not count, with `$workspace` for the binary.
fn where_case_does_not_count(environment: &TestEnvironment, script: &str) -> Ran {
    let folder = environment.folder("without-case");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir_all(folder.join("target")).unwrap();
    let image = fs::File::create(folder.join("image")).unwrap();
    image.set_len(64 << 20).unwrap();
    let script = format!(
        r#"
        workspace=$1
        mkntfs --fast --force --quiet "$2/image" >/dev/null 2>&1
        lowntfs-3g -o ignore_case,permissions "$2/image" "$2/target" 2>/dev/null
        trap 'cd /; umount "$2/target"' EXIT
        cd "$2/target"
        {script}"#
    );
    // Only root may mount it; a root of a user namespace is not enough.
    let mut shell = if rustix::process::geteuid().is_root() {
        environment.program("unshare")
    } else {
        let mut sudo = environment.program("sudo");
        sudo.args(["--non-interactive", "--preserve-env", "unshare"]);
        sudo
    };
    shell.args(["--mount", "sh", "-ec", &script, "sh", BINARY]).arg(&folder);
    shell.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
    shell.output().unwrap().into()
}

fn upload(environment: &TestEnvironment, files: &[(&str, &str)]) {
    let app = environment.path().join("app");
    let _ = fs::remove_dir_all(&app);
    for (path, text) in files {
        let path = app.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match (text.strip_prefix("-> "), text.is_empty()) {
            (Some(to), _) => symlink(to, path).unwrap(),
            (None, true) => fs::create_dir(path).unwrap(),
            (None, false) => fs::write(path, text).unwrap(),
        }
    }
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
}

#[test]
fn a_version_of_which_not_everything_would_be_left_is_refused_before_anything_is_written() {
    let environment = TestEnvironment::new();
    upload(&environment, &[("keep", "new"), ("src/README", "one"), ("src/Readme", "two"), ("Src/b", "b"), ("z", "z")]);
    let script = r#"
        echo old >keep
        "$workspace" download a . && exit 1
        "$workspace" download a . --force && exit 1
        ls; cat keep"#;
    let ran = where_case_does_not_count(&environment, script).ok();
    assert_eq!(ran.stdout, "keep\nold\n");
    let said = "error: `Src` and `src` are one file in this target, where case does not count; nothing was changed";
    assert_eq!(ran.stderr.matches(said).count(), 2, "{ran:?}");
    assert!(ran.stderr.contains("hint: a folder on a file system where case counts"), "{ran:?}");
    // Where case counts, all of it comes.
    environment.run(["download", "a", "copy"]).ok();
    assert_eq!(trees::read(&environment.path().join("here/copy")).len(), 5);

    upload(&environment, &[("s/README", "one"), ("s/Readme", "two"), ("\u{e9}", "x"), ("\u{c9}", "X")]);
    let ran = where_case_does_not_count(&environment, "\"$workspace\" download a . && exit 1; ls").ok();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("`s/README` and `s/Readme` are one file in this target"), "{ran:?}");
    assert!(ran.stderr.contains("does not count (and 1 more pair); nothing"), "{ran:?}");
}

#[test]
fn a_link_that_leads_out_by_another_spelling_is_refused() {
    let environment = TestEnvironment::new();
    upload(&environment, &[("d", "-> ."), ("l", "-> D/.."), ("x", "x")]);
    let ran = where_case_does_not_count(&environment, "\"$workspace\" download a . && exit 1; ls").ok();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("the link `l` points out of the target, to `D/..`"), "{ran:?}");
    environment.run(["download", "a", "copy"]).ok();
}

/// `list` writes down what is in the target: paths, a space, and the text of files. `forget` has the kernel ask the file system
/// for names anew.
const LIST: &str = r#"
    forget() { sync; echo 2 >/proc/sys/vm/drop_caches; }
    list() {
        find . -path ./.workspace -prune -o -type f -print | while read -r path; do echo "$path $(cat "$path")"; done
        find . -path ./.workspace -prune -o -type d -empty -print | while read -r path; do echo "$path folder"; done
        echo .
    }"#;

/// What `list` is to write for a version, once sorted: this file system shows all names in lower case.
fn listed(files: &[(&str, &str)]) -> Vec<String> {
    let mut lines: Vec<String> = files
        .iter()
        .map(|(path, text)| format!("./{} {}", path.to_lowercase(), if text.is_empty() { "folder" } else { text }))
        .collect();
    lines.sort();
    lines
}

fn lists(ran: &Ran) -> Vec<Vec<String>> {
    let lists = ran.stdout.split_terminator(".\n").map(|list| {
        let mut lines: Vec<String> = list.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    });
    lists.collect()
}

#[test]
fn what_an_earlier_version_spelled_another_way_is_replaced_and_not_lost() {
    let environment = TestEnvironment::new();
    let one = [
        ("README", "one"),
        ("Same", "same"),
        ("Source/a", "a"),
        ("Source/gone", "gone"),
        ("Docs/gone", "gone"),
        ("File", "x"),
        ("Keep", "keep"),
        ("folder/p", "p"),
        ("folder/q/r", "r"),
    ];
    upload(&environment, &one);
    let two = [
        ("readme", "two"),
        ("same", "same"),
        ("source/a", "a"),
        ("docs", ""),
        ("file/y", "y"),
        ("Keep", "keep"),
        ("Folder", "a file"),
    ];
    upload(&environment, &two);
    let script = format!(
        r#"{LIST}
        "$workspace" download a@1 .
        for version in 2 1 2 1; do
            forget
            "$workspace" download a@$version . --delete
            forget
            list
        done
        rm -r ./* .workspace
        "$workspace" download a@1 .
        forget
        "$workspace" download a@2 . --delete --force
        list"#
    );
    let found = lists(&where_case_does_not_count(&environment, &script).ok());
    assert_eq!(found, [listed(&two), listed(&one), listed(&two), listed(&one), listed(&two)]);

    // This one answers from what the kernel remembers of a name by another spelling: that may fail, and may not lose anything.
    let script = format!(
        r#"{LIST}
        "$workspace" download a@1 .
        for version in 2 1 2 1; do
            "$workspace" download a@$version . --delete || {{ forget; "$workspace" download a@$version . --delete; }}
            forget
            list
        done"#
    );
    let found = lists(&where_case_does_not_count(&environment, &script).ok());
    assert_eq!(found, [listed(&two), listed(&one), listed(&two), listed(&one)]);

    // What somebody has edited meanwhile is still theirs, however it is spelled.
    let script = r#"
        "$workspace" download a@1 .
        echo edited >readme
        "$workspace" download a@2 . --delete && exit 1
        cat readme"#;
    let ran = where_case_does_not_count(&environment, script).ok();
    assert_eq!(ran.stdout, "edited\n");
    assert!(ran.stderr.contains("has 1 foreign or edited entry that this would overwrite: readme"), "{ran:?}");
    assert!(matches!(trees::read(Path::new(&environment.path().join("app")))["readme"], Node::File(..)));
}
