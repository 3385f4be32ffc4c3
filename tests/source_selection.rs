//! What is source, as a person sees it: what of a folder an upload takes, in a git work tree and outside of one.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/trees.rs"]
mod trees;

use std::fs;

use cli::{Ran, TestEnvironment};
use trees::{Node, file, tree};

#[test]
fn two_clones_with_other_masks_and_times_are_unchanged() {
    let environment = TestEnvironment::new();
    let origin = environment.folder("origin");
    trees::write(
        &origin,
        &tree([
            ("a", file("a")),
            ("run.sh", Node::File(b"#!/bin/sh\n".to_vec(), true)),
            ("l", Node::Link("a".into())),
            ("dist/tracked.js", file("tracked although a default would drop it")),
            ("ignored.txt", file("tracked although ignored")),
            (".gitignore", file("ignored.txt\n")),
        ]),
    );
    environment.git(&origin, &["init", "-q"]);
    environment.git(&origin, &["add", "-Af"]);
    environment.git(&origin, &["commit", "-qm", "one"]);
    for (mask, name) in [("022", "one"), ("077", "two")] {
        let script = format!("umask {mask}; git clone -q origin {name}; touch -d 2001-02-03 {name}/a");
        let output = environment.program("sh").args(["-ec", &script]).current_dir(environment.path()).output().unwrap();
        Ran::from(output).ok();
    }
    let upload = |name: &str| {
        let folder = environment.path().join(name);
        environment.run(["upload", "clone", folder.to_str().unwrap(), "--json"]).ok().json()
    };
    let one = upload("one");
    assert_eq!((&one["outcome"], &one["files"]), (&"published".into(), &6.into()));
    assert_eq!(upload("two")["outcome"], "unchanged");
}

#[test]
fn source_outside_of_git_follows_gitignore_files_and_defaults() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("plain");
    trees::write(
        &folder,
        &tree([
            (".gitignore", file("*.tmp\n/cache/\n!keep.tmp\npackage-lock.json\n")),
            ("a.tmp", file("x")),
            ("keep.tmp", file("x")),
            ("cache/x", file("x")),
            ("sub/cache/x", file("x")),
            ("sub/.gitignore", file("*.txt\n")),
            ("sub/a.txt", file("x")),
            ("a.txt", file("x")),
            ("vendor/kept", file("no composer.json beside it")),
            ("php/composer.json", file("{}")),
            ("php/vendor/dropped", file("x")),
            ("package-lock.json", file("{}")),
            ("build/out", file("x")),
            ("void", Node::Empty),
            (".workspaceignore", file("secret-plans\n!build/\n")),
            ("secret-plans", file("x")),
        ]),
    );
    let listed = |arguments: &[&str]| {
        let arguments = [&["upload", "plain", folder.to_str().unwrap(), "--dry-run"], arguments].concat();
        environment.run(arguments).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = [
        ".gitignore",
        ".workspaceignore",
        "a.txt",
        "build/out",
        "keep.tmp",
        "php/composer.json",
        "sub/.gitignore",
        "sub/cache/x",
        "vendor/kept",
        "void",
    ];
    assert_eq!(listed(&[]), expected);
    assert!(listed(&["--include-lock"]).contains(&"package-lock.json".to_owned()));
}

#[test]
fn git_is_the_authority_in_a_work_tree() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(
        &folder,
        &tree([
            (".gitignore", file("ignored/\n*.o\n")),
            ("tracked.o", file("x")),
            ("untracked.o", file("x")),
            ("untracked.c", file("x")),
            ("dist/tracked", file("x")),
            ("dist/untracked", file("x")),
            ("ignored/x", file("x")),
            ("info", file("x")),
            (".env", file("tracked secret")),
            ("void", Node::Empty),
            ("ignored/void", Node::Empty),
            ("deleted", file("x")),
        ]),
    );
    environment.git(&folder, &["init", "-q"]);
    fs::write(folder.join(".git/info/exclude"), "info\n").unwrap();
    environment.git(&folder, &["add", "-f", ".gitignore", "tracked.o", "dist/tracked", ".env", "deleted"]);
    fs::remove_file(folder.join("deleted")).unwrap();
    let nested = folder.join("nested");
    trees::write(&nested, &tree([(".gitignore", file("n\n")), ("m", file("x")), ("n", file("x"))]));
    environment.git(&nested, &["init", "-q"]);
    let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines,
        [".gitignore", "dist/tracked", "nested/.gitignore", "nested/m", "tracked.o", "untracked.c", "void"]
    );
    assert!(ran.stderr.contains("`.env` is tracked by git and looks like a secret"), "{}", ran.stderr);
    // A subfolder is the tree below it, and a folder that the repository ignores is meant for what it is.
    let below = environment.run(["upload", "git", folder.join("dist").to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(below.stdout, "tracked\nuntracked\n");
    let ignored = environment.run(["upload", "git", folder.join("ignored").to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ignored.stdout, "void\nx\n");
}

#[test]
fn a_submodule_with_an_ignored_folder_was_refused() {
    let environment = TestEnvironment::new();
    let (library, folder) = (environment.folder("library"), environment.folder("repository"));
    trees::write(&library, &tree([(".gitignore", file("target/\n")), ("lib.c", file("x"))]));
    environment.git(&library, &["init", "-q"]);
    environment.git(&library, &["add", "."]);
    environment.git(&library, &["commit", "-qm", "one"]);
    environment.git(&folder, &["init", "-q"]);
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", library.to_str().unwrap(), "sub"];
    environment.git(&folder, &add);
    trees::write(&folder, &tree([("sub/target/out", file("x")), ("sub/void", Node::Empty)]));
    let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, ".gitmodules\nsub/.gitignore\nsub/lib.c\nsub/void\n");
    assert!(ran.stderr.contains("- sub/target/ (sub/.gitignore:1: target/)"), "{}", ran.stderr);
}

#[test]
fn a_secret_goes_when_a_pattern_names_it_and_only_then() {
    let environment = TestEnvironment::new();
    let listed = |rules: &str| {
        let folder = environment.folder("secrets");
        trees::write(
            &folder,
            &tree([
                (".workspaceignore", file(rules)),
                ("config/.env", file("x")),
                ("config/id_rsa", file("x")),
                ("config/plain", file("x")),
            ]),
        );
        environment.run(["upload", "s", folder.to_str().unwrap(), "--dry-run"]).ok().stdout
    };
    // A folder that is taken back made the pattern for the file itself count for nothing.
    assert_eq!(listed("!config/\n!config/.env\n"), ".workspaceignore\nconfig/.env\nconfig/plain\n");
    assert_eq!(listed("!.env*\n"), ".workspaceignore\nconfig/.env\nconfig/plain\n");
    // What matches everything names nothing.
    for rules in ["!config/\n!config/**\n", "!*\n", "!config/*\n", "!**/*\n"] {
        assert_eq!(listed(rules), ".workspaceignore\nconfig/plain\n", "{rules:?}");
    }
}

#[test]
fn a_relative_folder_inside_a_repository_had_no_commit() {
    let environment = TestEnvironment::new();
    let here = environment.folder("here");
    environment.git(&here, &["init", "-q"]);
    fs::write(environment.folder("here/app").join("a"), "a").unwrap();
    environment.git(&here, &["add", "."]);
    environment.git(&here, &["commit", "-qm", "one"]);
    let commit = environment.git(&here, &["rev-parse", "HEAD"]);
    let mut sync = environment.workspace(["sync", "myapp", "."]);
    sync.env("STORAGE_MODE", "embedded").current_dir(here.join("app"));
    Ran::from(sync.output().unwrap()).ok();
    assert_eq!(environment.run(["list", "--json"]).ok().json()[0]["commit"], commit);
}

#[test]
fn variables_meant_for_another_repository_misled_git() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(&folder, &tree([(".gitignore", file("*.o\n")), ("a.c", file("x")), ("void", Node::Empty)]));
    environment.git(&folder, &["init", "-q"]);
    for (variable, value) in [
        ("GIT_DIR", "/nowhere"),
        ("GIT_COMMON_DIR", "/nowhere"),
        ("GIT_OBJECT_DIRECTORY", "/nowhere"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_ICASE_PATHSPECS", "1"),
    ] {
        let mut upload = environment.workspace(["upload", "app", folder.to_str().unwrap(), "--dry-run"]);
        let ran = Ran::from(upload.env(variable, value).output().unwrap()).ok();
        assert_eq!(ran.stdout, ".gitignore\na.c\nvoid\n", "{variable}");
    }
}

#[test]
fn without_git_half_of_its_ignore_rules_were_forgotten() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(
        &folder,
        &tree([
            (".gitignore", file("*.o\n")),
            ("app/a.c", file("x")),
            ("app/a.o", file("x")),
            ("app/private", file("x")),
            ("app/mine", file("x")),
            ("app/sub/kept.o", file("x")),
            ("app/sub/.gitignore", file("!kept.o\n")),
        ]),
    );
    environment.git(&folder, &["init", "-q"]);
    fs::write(folder.join(".git/info/exclude"), "/app/private\n").unwrap();
    fs::write(environment.folder("home").join(".gitconfig"), "[core]\nexcludesFile = ~/ignore\n").unwrap();
    fs::write(environment.folder("home").join("ignore"), "mine\n").unwrap();
    let app = folder.join("app");
    let run = |path: Option<&str>| {
        let mut command = environment.workspace(["upload", "app", app.to_str().unwrap(), "--dry-run"]);
        path.map(|path| command.env("PATH", path));
        Ran::from(command.output().unwrap()).ok()
    };
    let without = run(Some("/nowhere"));
    assert_eq!(without.stdout, "a.c\nsub/.gitignore\nsub/kept.o\n");
    assert!(without.stderr.contains("git is not installed"), "{}", without.stderr);
    assert_eq!(run(None).stdout, without.stdout);
}
