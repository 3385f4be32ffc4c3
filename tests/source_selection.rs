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
            (".workspace/tree", file("what a download noted")),
            ("sub/.workspace/tree", file("what a download into a folder of it noted")),
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
    let said = environment.run(["upload", "plain", folder.to_str().unwrap(), "--dry-run"]).ok().stderr;
    for path in [".workspace/", "sub/.workspace/"] {
        assert!(said.contains(&format!("- {path} (kept for what a download notes)")), "{said}");
    }
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
fn names_that_are_patterns_to_git_were_refused() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    let rules = "*.o\n:\\(top\\)gone\n";
    let odd = [":!a", ":!b.o", ":(top)gone", ":(top)kept/x", ":(top)kept/y.o", "d/:x", "e[f]/g", "h?"];
    trees::write(&folder, &tree([(".gitignore", file(rules)), ("tracked", file("x"))]));
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "."]);
    trees::write(&folder, &tree(odd.map(|path| (path, file("x")))));
    let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, ".gitignore\n:!a\n:(top)kept/x\nd/:x\ne[f]/g\nh?\ntracked\n");
    for path in [":!b.o", ":(top)gone", ":(top)kept/y.o"] {
        assert!(ran.stderr.contains(&format!("- {path} (.gitignore:")), "{path}: {}", ran.stderr);
    }
}

#[test]
fn what_is_ignored_stays_although_its_name_is_a_pattern_for_something_tracked() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    let paths = ["i.tmp", "app/d/page.gen.ts", "out/a", "place", "here.txt"].map(|path| (path, file("x")));
    trees::write(&folder, &tree(paths));
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "."]);
    for gone in ["out/a", "place"] {
        std::fs::remove_file(folder.join(gone)).unwrap();
    }
    std::fs::remove_dir(folder.join("out")).unwrap();
    let rules = file("*.tmp\n*.gen.ts\n/out\n");
    let new = ["[i].tmp", "app/[id]/page.gen.ts", "app/[id]/page.ts", "out", "h?re.txt"].map(|path| (path, file("x")));
    trees::write(&folder, &tree(new));
    trees::write(&folder, &tree([(".gitignore", rules)]));
    // A folder where a file was tracked is no submodule.
    trees::write(&folder, &tree([("place/new", file("x"))]));
    let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, ".gitignore\napp/[id]/page.ts\napp/d/page.gen.ts\nh?re.txt\nhere.txt\ni.tmp\nplace/new\n");
    for path in ["[i].tmp", "app/[id]/page.gen.ts", "out"] {
        assert!(ran.stderr.contains(&format!("- {path} (")), "{path}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("submodule"), "{}", ran.stderr);
}

#[test]
fn a_repository_inside_that_has_no_work_tree_to_git_is_a_warning() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(&folder, &tree([("a", file("x")), ("inner/b", file("x")), ("inner/c/d", file("x"))]));
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder.join("inner"), &["init", "-q"]);
    environment.git(&folder.join("inner"), &["config", "core.bare", "true"]);
    let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, "a\ninner/b\ninner/c/d\n");
    assert!(ran.stderr.contains("ignore files alone decide in `inner/`"), "{}", ran.stderr);
}

#[test]
fn many_folders_that_git_does_not_track_are_asked_about_at_once() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(&folder, &tree([(".gitignore", file("*.o\nskip*/\n")), ("tracked", file("x"))]));
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "."]);
    for (folders, files) in [(3, false), (100, false), (100, true)] {
        for number in 0..folders {
            let name = |name: &str| name.replace('#', &number.to_string());
            for path in ["d#/a", "d#/e/b.o", "skip#/x", "only#/c.o"] {
                let path = name(path);
                std::fs::create_dir_all(folder.join(&path).parent().unwrap()).unwrap();
                std::fs::write(folder.join(path), "x").unwrap();
            }
            std::fs::create_dir_all(folder.join(name("void#"))).unwrap();
        }
        if files {
            std::fs::write(folder.join("untracked"), "x").unwrap();
        }
        let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
        let goes = 2 + 2 * folders + usize::from(files);
        assert_eq!(ran.stdout.lines().count(), goes, "{folders} {files}: {}", ran.stdout);
        for path in ["d0/e/b.o", "skip0/", "only0/c.o"] {
            assert!(ran.stderr.contains(&format!("- {path} (.gitignore:")), "{path}: {}", ran.stderr);
        }
    }
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

/// What goes with git and what goes without it, which must be the same.
fn both(environment: &TestEnvironment, folder: &std::path::Path) -> String {
    let run = |path: Option<&str>| {
        let mut command = environment.workspace(["upload", "app", folder.to_str().unwrap(), "--dry-run"]);
        path.map(|path| command.env("PATH", path));
        Ran::from(command.output().unwrap()).ok().stdout
    };
    let with = run(None);
    assert_eq!(run(Some("/nowhere")), with);
    with
}

#[test]
fn rules_that_lie_outside_of_the_tree_count_with_git_and_without() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(
        &folder,
        &tree([("a", file("x")), ("SHARED", file("x")), ("own", file("x")), ("included", file("x"))]),
    );
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "a"]);
    environment.git(&folder, &["commit", "-qm", "one"]);
    // Of the repository itself, relative to its top, and by way of another file.
    fs::write(folder.join("rules"), "own\nrules\n").unwrap();
    environment.git(&folder, &["config", "core.excludesFile", "rules"]);
    fs::write(folder.join(".git/info/exclude"), "shared\n").unwrap();
    assert_eq!(both(&environment, &folder), "SHARED\na\nincluded\n");
    environment.git(&folder, &["config", "core.ignoreCase", "true"]);
    assert_eq!(both(&environment, &folder), "a\nincluded\n");
    fs::write(folder.join(".git/more"), "[core]\n\texcludesFile = \"~/ig no#re\" ; not the other\n").unwrap();
    fs::write(environment.folder("home").join("ig no#re"), "included\n").unwrap();
    environment.git(&folder, &["config", "include.path", "more"]);
    assert_eq!(both(&environment, &folder), "a\nown\nrules\n");

    // A linked work tree has the `info/exclude` of the repository, and may have configuration of its own.
    let linked = environment.path().join("linked");
    environment.git(&folder, &["worktree", "add", "-q", linked.to_str().unwrap(), "-b", "other"]);
    trees::write(&linked, &tree([("shared", file("x")), ("mine", file("x")), ("included", file("x"))]));
    assert_eq!(both(&environment, &linked), "a\nmine\n");
    environment.git(&folder, &["config", "extensions.worktreeConfig", "true"]);
    fs::write(environment.folder("home").join("mine"), "mine\n").unwrap();
    environment.git(&linked, &["config", "--worktree", "core.excludesFile", "~/mine"]);
    assert_eq!(both(&environment, &linked), "a\nincluded\n");
}

#[test]
fn a_repository_inside_the_tree_has_rules_of_its_own() {
    let environment = TestEnvironment::new();
    for outer_is_repository in [true, false] {
        let folder = environment.folder(if outer_is_repository { "repository" } else { "plain" });
        trees::write(
            &folder,
            &tree([
                (".gitignore", file("*.o\nignored/\n")),
                ("a.o", file("x")),
                ("a.c", file("x")),
                ("inner/.gitignore", file("*.c\n")),
                ("inner/b.o", file("x")),
                ("inner/b.c", file("x")),
                ("inner/own", file("x")),
                ("ignored/repository/x", file("x")),
            ]),
        );
        for repository in ["inner", "ignored/repository"].iter().chain(outer_is_repository.then_some(&".")) {
            environment.git(&folder.join(repository), &["init", "-q"]);
        }
        fs::write(folder.join("inner/.git/info/exclude"), "own\n").unwrap();
        assert_eq!(both(&environment, &folder), ".gitignore\na.c\ninner/.gitignore\ninner/b.o\n");
    }
}

#[test]
fn what_is_tracked_in_a_repository_inside_a_plain_folder_was_left_out() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("plain");
    trees::write(&folder, &tree([("r/.gitignore", file("*.o\n")), ("r/kept.o", file("x")), ("r/a.o", file("x"))]));
    environment.git(&folder.join("r"), &["init", "-q"]);
    environment.git(&folder.join("r"), &["add", "-f", "kept.o"]);
    let ran = environment.run(["upload", "app", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, "r/.gitignore\nr/kept.o\n");
}

#[test]
fn a_folder_of_ignored_files_in_a_repository_inside_a_plain_folder_went() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("plain");
    trees::write(
        &folder,
        &tree([
            ("inner/.gitignore", file("*.o\n")),
            ("inner/objects/deep/x.o", file("ignored")),
            ("inner/src/a", file("a")),
        ]),
    );
    environment.git(&folder.join("inner"), &["init", "-q"]);
    let ran = environment.run(["upload", "app", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, "inner/.gitignore\ninner/src/a\n");
}

#[test]
fn a_work_tree_torn_off_its_repository_goes_by_its_ignore_files() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("copied");
    trees::write(
        &folder,
        &tree([
            (".git", file("gitdir: /nowhere/.git/worktrees/copied\n")),
            (".gitignore", file("*.o\n")),
            ("a.o", file("x")),
            ("a.c", file("x")),
        ]),
    );
    let ran = environment.run(["upload", "app", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, ".gitignore\na.c\n");
    assert!(ran.stderr.contains("`.git` names a repository that is not there"), "{}", ran.stderr);
}

#[test]
fn a_folder_whose_content_a_rule_ignores_could_not_be_taken_back_in_part() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(
        &folder,
        &tree([
            (".gitignore", file("/storage/*\nlink\n")),
            (".workspaceignore", file("!/storage/seed.sql\n")),
            ("storage/seed.sql", file("x")),
            ("storage/other", file("x")),
            ("sub/.gitignore", Node::Link("../elsewhere".into())),
            ("sub/x", file("x")),
            ("elsewhere", file("x\n")),
        ]),
    );
    environment.git(&folder, &["init", "-q"]);
    // git follows no `.gitignore` that is a link, so `x` goes.
    let expected = ".gitignore\n.workspaceignore\nelsewhere\nstorage/seed.sql\nsub/.gitignore\nsub/x\n";
    assert_eq!(both(&environment, &folder), expected);
}

#[test]
fn each_path_has_the_rule_that_decides() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(
        &folder,
        &tree([
            (".gitignore", file("# objects\n*.o\n!keep.o\n/cache/*\npackage-lock.json\n")),
            (".workspaceignore", file("drafts/\n!/cache/needed\n")),
            ("tracked.o", file("x")),
            ("keep.o", file("x")),
            ("plain.c", file("x")),
            ("sub/a.o", file("x")),
            ("sub/b.c", file("x")),
            ("cache/needed", file("x")),
            ("drafts/deep/one", file("x")),
            ("node_modules/m/index.js", file("x")),
            ("dist/tracked.js", file("x")),
            ("package-lock.json", file("{}")),
            ("config/.env", file("x")),
            ("link", Node::Link("sub".into())),
            ("void", Node::Empty),
        ]),
    );
    environment.git(&folder, &["init", "-q"]);
    environment.git(&folder, &["add", "-f", "tracked.o", "dist/tracked.js"]);
    fs::write(folder.join(".git/info/exclude"), "plain.d\n").unwrap();
    fs::write(folder.join("plain.d"), "x").unwrap();
    let explain = |path: &str, without: bool, more: &[&str]| {
        let arguments = [&["upload", "app", folder.to_str().unwrap(), "--explain", path], more].concat();
        let mut command = environment.workspace(arguments);
        if without {
            command.env("PATH", "/nowhere");
        }
        Ran::from(command.output().unwrap()).ok()
    };
    for (path, expected) in [
        ("keep.o", "keep.o goes: line 3 of .gitignore: !keep.o"),
        ("plain.c", "plain.c goes: no rule leaves it out"),
        ("sub/a.o", "sub/a.o does not go: line 2 of .gitignore: *.o"),
        ("./sub/../sub/a.o", "sub/a.o does not go: line 2 of .gitignore: *.o"),
        ("sub/", "sub/ goes, with one entry in it: no rule leaves it out"),
        ("cache/needed", "cache/needed goes: line 2 of .workspaceignore: !/cache/needed"),
        ("drafts", "drafts/ does not go: line 1 of .workspaceignore: drafts/"),
        ("drafts/deep/one", "drafts/deep/one does not go, as all of `drafts/`: line 1 of .workspaceignore: drafts/"),
        (
            "node_modules/m/index.js",
            "node_modules/m/index.js does not go, as all of `node_modules/`: left out by default: node_modules/ \
             (`!node_modules/` in .workspaceignore takes it)",
        ),
        ("package-lock.json", "package-lock.json does not go: line 5 of .gitignore: package-lock.json"),
        (
            "config/.env",
            "config/.env does not go: it looks like a secret, and only a `!` pattern in .workspaceignore that names it \
             takes it",
        ),
        ("plain.d", "plain.d does not go: line 1 of .git/info/exclude: plain.d"),
        ("link", "link goes: no rule leaves it out"),
        ("link/a.o", "link/a.o does not go: it lies behind the link `link`, which goes as a link"),
        ("void", "void/ goes, with one entry in it: no rule leaves it out"),
        (".git/HEAD", ".git/HEAD does not go: it belongs to git or to this program, and never goes"),
    ] {
        for without in [false, true] {
            assert_eq!(explain(path, without, &[]).stdout.trim_end(), expected, "without git: {without}");
        }
    }
    // What only git can tell.
    let tracked = "tracked.o goes: git tracks it, although line 2 of .gitignore: *.o\n";
    assert_eq!(explain("tracked.o", false, &[]).stdout, tracked);
    let dist = explain("dist", false, &[]).stdout;
    assert!(
        dist.starts_with("dist/ goes, with one entry in it: only what git tracks in it; left out by default"),
        "{dist}"
    );
    let lock = explain("package-lock.json", false, &["--include-lock"]).stdout;
    assert_eq!(lock, "package-lock.json goes: --include-lock, against line 5 of .gitignore: package-lock.json\n");
    let report = explain("sub/a.o", false, &["--json"]).json();
    assert_eq!((&report["goes"], &report["line"]), (&false.into(), &2.into()));
    assert_eq!((&report["file"], &report["pattern"]), (&".gitignore".into(), &"*.o".into()));
    // Where nothing goes, that is the question.
    let empty = environment.folder("empty");
    trees::write(&empty, &tree([(".workspaceignore", file("*\n")), ("a", file("x"))]));
    let ran = environment.run(["upload", "app", empty.to_str().unwrap(), "--explain", "a"]).ok();
    assert_eq!(ran.stdout, "a does not go: line 1 of .workspaceignore: *\n");
    // As the current folder sees it, and what is not there.
    let from = |path: &str| {
        let mut command = environment.workspace(["upload", "app", "..", "--explain", path]);
        Ran::from(command.current_dir(folder.join("sub")).output().unwrap())
    };
    assert!(from("a.o").ok().stdout.starts_with("sub/a.o does not go"));
    assert!(from("../plain.c").ok().stdout.starts_with("plain.c goes"));
    from(folder.join("sub/b.c").to_str().unwrap()).ok();
    from("nothing").fails(2, "there is no `nothing` in `");
    from("../../home").fails(2, "`../../home` is not in `");
}
