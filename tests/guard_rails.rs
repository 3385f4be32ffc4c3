//! What is said before a byte is sent, and what `--strict` makes of it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::Path;

use cli::{Ran, TestEnvironment};
use trees::{Tree, file, tree};

/// An upload without and with `--strict`, a dry run of each, and the same from CI: all say it, strict ones refuse.
fn warned(environment: &TestEnvironment, folder: &Path, variables: &[(&str, &str)], texts: &[&str]) {
    let run = |arguments: &[&str]| {
        let mut command = environment.workspace(arguments);
        command.env("STORAGE_MODE", "embedded").envs(variables.iter().copied());
        Ran::from(command.output().unwrap())
    };
    let path = folder.to_str().unwrap();
    let says = |ran: Ran| {
        for text in texts {
            assert!(ran.stderr.contains(&format!("warning: {text}")), "no `{text}` in {}", ran.stderr);
        }
        ran
    };
    for command in ["upload", "sync"] {
        says(run(&[command, "app", path, "--strict"])).fails(1, "`--strict` makes");
    }
    assert_eq!(run(&["list", "--json"]).ok().json(), serde_json::json!([]), "something was published");
    says(run(&["upload", "app", path])).ok();
}

fn warned_of_tree(nodes: &Tree, texts: &[&str]) {
    let environment = TestEnvironment::new();
    let folder = environment.folder("tree");
    trees::write(&folder, nodes);
    warned(&environment, &folder, &[], texts);
    let dry = ["upload", "app", folder.to_str().unwrap(), "--dry-run"];
    for text in texts {
        assert!(environment.run(dry).ok().stderr.contains(text));
        let strict: Vec<&str> = dry.into_iter().chain(["--strict"]).collect();
        environment.run(strict).fails(1, text);
    }
}

const LOCK: &str =
    r#"{"lockfileVersion":3,"packages":{"":{"dependencies":{"a":"1"}},"node_modules/a":{"version":"1.0.0"}}}"#;

#[test]
fn a_tree_without_a_fault_is_published_strictly() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("tree");
    trees::write(&folder, &tree([("index.html", file("x")), (".env", file("left out and not tracked"))]));
    environment.run(["upload", "app", folder.to_str().unwrap(), "--strict"]).ok();
}

#[test]
fn a_start_target_or_main_that_is_left_out() {
    warned_of_tree(
        &tree([
            (".gitignore", file("# made\nserver.js\n")),
            ("package.json", file(r#"{"main":"dist/index.js","scripts":{"start":"node server"}}"#)),
            ("server.js", file("x")),
            ("dist/index.js", file("x")),
        ]),
        &[
            "the start command runs `server`, which is left out (.gitignore:2: server.js)",
            "`main` in package.json is `dist/index.js`, which is left out (default: dist/)",
        ],
    );
    warned_of_tree(
        &tree([
            (".workspaceignore", file("app.py\n")),
            ("app.py", file("x")),
            ("requirements.txt", file("")),
            ("Procfile", file("web: python app.py\n")),
        ]),
        &["the start command runs `app.py`, which is left out (.workspaceignore:1: app.py)"],
    );
}

#[test]
fn a_lock_file_out_of_step_or_left_out() {
    let package = r#"{"dependencies":{"a":"1","b":"2"},"scripts":{"start":"node a.js"}}"#;
    warned_of_tree(
        &tree([("package.json", file(package)), ("package-lock.json", file(LOCK)), ("a.js", file("x"))]),
        &["`package-lock.json` is out of step with package.json"],
    );
    warned_of_tree(
        &tree([(".gitignore", file("\n*-lock.json\n")), ("package-lock.json", file(LOCK)), ("a", file("x"))]),
        &["the lock file `package-lock.json` is left out (.gitignore:2: *-lock.json); `--include-lock` takes it"],
    );
}

#[test]
fn names_that_differ_in_case_only() {
    warned_of_tree(
        &tree([("src/Readme", file("x")), ("src/README", file("x"))]),
        &["`src/README` and `src/Readme` are one file where case does not count"],
    );
}

#[test]
fn what_looks_like_credentials_and_goes() {
    warned_of_tree(
        &tree([(".npmrc", file("//registry.example/:_authToken=abc\n")), ("a", file("x"))]),
        &["`.npmrc` will be uploaded and mostly hold credentials: `/.npmrc` in .workspaceignore leaves that out"],
    );
    // Said to be meant.
    let environment = TestEnvironment::new();
    let folder = environment.folder("tree");
    trees::write(&folder, &tree([(".netrc", file("x")), (".workspaceignore", file("!/.netrc\n"))]));
    environment.run(["upload", "app", folder.to_str().unwrap(), "--strict"]).ok();
}

#[test]
fn a_secret_that_git_tracks() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("tree");
    trees::write(&folder, &tree([("config/.env", file("x")), ("a", file("x"))]));
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "-f", "."]);
    warned(&environment, &folder, &[], &["`config/.env` is tracked by git and looks like a secret: it is left out"]);
}

#[test]
fn a_large_file_and_many_new_ones() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("tree");
    trees::write(&folder, &tree([("a", file("x")), ("out/1", file("1")), ("out/2", file("2")), ("out/3", file("3"))]));
    fs::File::create(folder.join("dump.sql")).unwrap().set_len((1 << 20) + 1).unwrap();
    let limits = [("WORKSPACE_LARGE_FILE", "1"), ("WORKSPACE_MANY_FILES", "4")];
    let texts = [
        "`dump.sql` is over 1 MiB (WORKSPACE_LARGE_FILE)",
        "5 files are new, which is more than 4 (WORKSPACE_MANY_FILES), 3 of them in `out/`",
    ];
    warned(&environment, &folder, &limits, &texts);
    // They are no longer new, and what is not too large is not named.
    fs::remove_file(folder.join("dump.sql")).unwrap();
    fs::write(folder.join("b"), "x").unwrap();
    let mut upload = environment.workspace(["upload", "app", folder.to_str().unwrap(), "--strict"]);
    Ran::from(upload.envs(limits).output().unwrap()).ok();
    let mut wrong = environment.workspace(["upload", "app", folder.to_str().unwrap(), "--dry-run"]);
    Ran::from(wrong.env("WORKSPACE_LARGE_FILE", "0").output().unwrap())
        .fails(2, "WORKSPACE_LARGE_FILE in the environment");
}

#[test]
fn a_sparse_checkout_was_published_as_a_whole_tree() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("tree");
    trees::write(
        &folder,
        &tree([("a", file("x")), ("here/a", file("x")), ("gone/a", file("x")), ("gone/b", file("x"))]),
    );
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "."]);
    environment.git(&folder, &["commit", "-qm", "one"]);
    environment.git(&folder, &["sparse-checkout", "set", "here"]);
    assert!(!folder.join("gone").exists());
    let text = "this is a sparse checkout: the version goes without `gone/a`, `gone/b`";
    warned(&environment, &folder, &[], &[text]);
}

#[test]
fn a_submodule_that_is_not_checked_out() {
    let environment = TestEnvironment::new();
    let (library, origin) = (environment.folder("library"), environment.folder("origin"));
    trees::write(&library, &tree([("lib.c", file("x"))]));
    trees::write(&origin, &tree([("a", file("x"))]));
    for repository in [&library, &origin] {
        environment.git(repository, &["init", "-q"]);
        environment.git(repository, &["add", "."]);
        environment.git(repository, &["commit", "-qm", "one"]);
    }
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", library.to_str().unwrap(), "sub"];
    environment.git(&origin, &add);
    environment.git(&origin, &["commit", "-qm", "two"]);
    environment.git(environment.path(), &["clone", "-q", "origin", "clone"]);
    let folder = environment.path().join("clone");
    let text = "the version goes without the content of `sub`: not checked out here";
    warned(&environment, &folder, &[], &[text]);
    trees::write(&folder, &tree([("sub/own", file("x")), ("sub/deeper/own", file("x"))]));
    let stray = environment.run(["upload", "app", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(stray.stdout, ".gitmodules\na\n");
    for path in ["sub/deeper/", "sub/own"] {
        let text = format!("- {path} (in a submodule that is not checked out)");
        assert!(stray.stderr.contains(&text), "{}", stray.stderr);
    }
    std::fs::remove_dir_all(folder.join("sub")).unwrap();
    environment.git(&folder, &["-c", "protocol.file.allow=always", "submodule", "update", "--init", "-q"]);
    environment.run(["upload", "app", folder.to_str().unwrap(), "--strict"]).ok();
}
