//! The commands as a person types them: what they print, what they end with, and what they leave behind.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cli::{BINARY, Ran, TestEnvironment};
use trees::{Node, Tree, file, tree};

/// A small application, with things that must not go.
fn application(environment: &TestEnvironment) -> std::path::PathBuf {
    let folder = environment.folder("app");
    trees::write(
        &folder,
        &tree([
            ("package.json", file(r#"{"name":"app","scripts":{"start":"node server.js"}}"#)),
            ("package-lock.json", file(r#"{"name":"app","lockfileVersion":3,"packages":{"":{"name":"app"}}}"#)),
            ("server.js", file("require('http').createServer().listen(process.env.PORT)\n")),
            (".env", file("SECRET=1\n")),
            (".env.example", file("SECRET=\n")),
            ("node_modules/x/index.js", file("x")),
            ("dist/bundle.js", file("x")),
            ("debug.log", file("x")),
            ("keys/id_rsa", file("x")),
            ("keys/server.pem", file("-----BEGIN PRIVATE KEY-----\nAAAA\n")),
            ("keys/ca.pem", file("-----BEGIN CERTIFICATE-----\nAAAA\n")),
        ]),
    );
    folder
}

/// Snapshots without what differs from run to run.
fn stable(environment: &TestEnvironment, ran: &Ran) -> String {
    let text = format!("{}--- stderr\n{}--- exit {}", ran.stdout, ran.stderr, ran.code.unwrap_or(-1));
    text.replace(&environment.path().display().to_string(), "$DIR")
}

macro_rules! snapshot {
    ($environment:expr, $ran:expr, @$expected:literal) => {
        let text = stable(&$environment, &$ran);
        insta::with_settings!({filters => vec![
            (r"in \d+\.\ds", "in TIME"),
            (r"\d+(\.\d+)? (B|KiB|MiB) (sent|received)", "SIZE $3"),
            // Ids compress differently each time.
            (r"objects, \d+(\.\d+)? (B|KiB|MiB)", "objects, SIZE"),
            (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "WHEN"),
            (r"\t\d{3,}\t", "\tBYTES\t"),
        ]}, { insta::assert_snapshot!(text, @$expected) });
    };
}

#[test]
fn the_way_of_a_workspace() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    let app = app.to_str().unwrap();
    snapshot!(environment, environment.run(["upload", "MyApp", app]), @"
    --- stderr
    `MyApp` is called `myapp`: names have no capitals
    Left out: .env and 2 more (secret); debug.log (default: *.log); dist/ (default: dist/); node_modules/ (default: node_modules/)
    Uploaded 5 files (213 B, SIZE sent) as myapp@1 in TIME to the store on this machine ($DIR/data)
    hint: `workspace compose myapp -o myapp.yml` to run it
    --- exit 0
    ");
    snapshot!(environment, environment.run(["upload", "myapp", app]), @"
    --- stderr
    Left out: .env and 2 more (secret); debug.log (default: *.log); dist/ (default: dist/); node_modules/ (default: node_modules/)
    unchanged: myapp@1 in the store on this machine ($DIR/data) already has these 5 files (213 B)
    --- exit 0
    ");
    fs::write(Path::new(app).join("server.js"), "// changed\n").unwrap();
    snapshot!(environment, environment.run(["upload", "myapp", app, "-m", "second", "--tag", "v2"]), @"
    --- stderr
    Left out: .env and 2 more (secret); debug.log (default: *.log); dist/ (default: dist/); node_modules/ (default: node_modules/)
    Uploaded 5 files (168 B, SIZE sent) as myapp@2, tagged `v2` in TIME to the store on this machine ($DIR/data)
    hint: `workspace compose myapp -o myapp.yml` to run it
    --- exit 0
    ");
    snapshot!(environment, environment.run(["list"]), @"
    myapp	2	5	BYTES	node	WHEN	v2	-
    --- stderr
    --- exit 0
    ");
    snapshot!(environment, environment.run(["download", "myapp@1"]), @"
    --- stderr
    Downloaded myapp@1 (5 files, 213 B) into myapp in TIME: 5 written, 0 kept, 0 removed, SIZE received from the store on this machine ($DIR/data)
    --- exit 0
    ");
    snapshot!(environment, environment.run(["download", "myapp@v2", "myapp"]), @"
    --- stderr
    Downloaded myapp@2 (5 files, 168 B) into myapp in TIME: 1 written, 4 kept, 0 removed, SIZE received from the store on this machine ($DIR/data)
    --- exit 0
    ");
    snapshot!(environment, environment.run(["delete", "myapp"]), @"
    --- stderr
    error: this needs a yes, and nobody can be asked here: Delete `myapp` from the store on this machine ($DIR/data): 2 versions, the current one with 5 files (168 B)?
    hint: `--yes` if you are sure
    --- exit 2
    ");
    snapshot!(environment, environment.run(["delete", "myapp", "--yes"]), @"
    --- stderr
    Deleted myapp (2 versions, 4 objects, SIZE) from the store on this machine ($DIR/data)
    --- exit 0
    ");
    snapshot!(environment, environment.run(["list"]), @"
    --- stderr
    no workspaces in the store on this machine ($DIR/data)
    hint: `workspace upload NAME DIR` makes one
    --- exit 0
    ");
    let read: Vec<String> = trees::read(&environment.path().join("here/myapp")).into_keys().collect();
    assert_eq!(read, [".env.example", "keys/ca.pem", "package-lock.json", "package.json", "server.js"]);
}

#[test]
fn a_dry_run_lists_and_writes_nothing() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    snapshot!(environment, environment.run(["upload", "myapp", app.to_str().unwrap(), "--dry-run"]), @"
    .env.example
    keys/ca.pem
    package-lock.json
    package.json
    server.js
    --- stderr
    - .env (secret)
    - debug.log (default: *.log)
    - dist/ (default: dist/)
    - keys/id_rsa (secret)
    - keys/server.pem (secret)
    - node_modules/ (default: node_modules/)
    Would upload 5 files (213 B), and leave out 6 entries
    --- exit 0
    ");
    assert!(!environment.path().join("data").exists());
    let json = environment.run(["upload", "myapp", app.to_str().unwrap(), "--dry-run", "--json"]).ok().json();
    assert_eq!(json["files"].as_array().unwrap().len(), 5);
    assert_eq!(json["runtime"], "node");
}

#[test]
fn json_is_for_programs() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    let app = app.to_str().unwrap();
    let uploaded = environment.run(["upload", "myapp", app, "--json"]).ok().json();
    assert_eq!(
        (&uploaded["outcome"], &uploaded["version"], &uploaded["files"]),
        (&"published".into(), &1.into(), &5.into())
    );
    let again = environment.run(["upload", "myapp", app, "--json"]).ok().json();
    assert_eq!(
        (&again["outcome"], &again["requests"], &again["sent_bytes"]),
        (&"unchanged".into(), &1.into(), &0.into())
    );
    let list = environment.run(["list", "--json"]).ok().json();
    assert_eq!((&list[0]["name"], &list[0]["version"]), (&"myapp".into(), &1.into()));
    let down = environment.run(["download", "myapp", "copy", "--json"]).ok().json();
    assert_eq!((&down["written"], &down["kept"]), (&5.into(), &0.into()));
    let deleted = environment.run(["delete", "myapp", "--yes", "--json"]).ok().json();
    assert_eq!(deleted["versions"], 1);
}

#[test]
fn sync_never_uses_the_embedded_store_silently() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.run(["sync", "myapp", app.to_str().unwrap()]).fails(2, "no store is configured");
    let output = environment.workspace(["upload", "myapp", app.to_str().unwrap()]).env("CI", "true").output().unwrap();
    Ran::from(output).fails(2, "no store is configured");
    let mut sync = environment.workspace(["sync", "myapp", app.to_str().unwrap(), "--json"]);
    sync.env("STORAGE_MODE", "embedded").env("CI", "true");
    assert_eq!(Ran::from(sync.output().unwrap()).ok().json()["outcome"], "published");
    assert_eq!(Ran::from(sync.output().unwrap()).ok().json()["outcome"], "unchanged");
}

#[test]
fn sync_records_where_it_comes_from() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.git(&app, &["init", "-q"]);
    environment.git(&app, &["add", "server.js", "package.json"]);
    environment.git(&app, &["commit", "-qm", "one"]);
    let commit = environment.git(&app, &["rev-parse", "HEAD"]);
    let mut sync = environment.workspace(["sync", "myapp", app.to_str().unwrap()]);
    sync.env("STORAGE_MODE", "embedded").env("GITHUB_SHA", &commit).env("GITHUB_ACTOR", "ada").env("CI", "true");
    Ran::from(sync.output().unwrap()).ok();
    let list = environment.run(["list", "--json"]).ok().json();
    assert_eq!((&list[0]["commit"], &list[0]["author"]), (&commit.into(), &"ada".into()));
}

#[test]
fn the_migration_loop_works_as_written() {
    let environment = TestEnvironment::new();
    for name in ["one", "two"] {
        trees::write(&environment.folder(&format!("workspaces/{name}")), &tree([("index.html", file(name))]));
    }
    let bin = environment.folder("bin");
    std::os::unix::fs::symlink(BINARY, bin.join("workspace")).unwrap();
    let script = r#"PATH=$PWD/bin:$PATH; for dir in "$PWD"/workspaces/*/; do workspace upload "$(basename "$dir")" "$dir"; done"#;
    let output = environment.program("bash").args(["-ec", script]).current_dir(environment.path()).output().unwrap();
    Ran::from(output).ok();
    assert_eq!(environment.run(["list", "--json"]).ok().json().as_array().unwrap().len(), 2);
    let output = environment.workspace(["list"]).env("STORAGE_MODE", "filesystem").output().unwrap();
    Ran::from(output).fails(2, "hint: `STORAGE_MODE=s3`");
}

#[test]
fn our_ignore_files_were_not_asked_in_folders_that_git_does_not_know() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("repository");
    trees::write(
        &folder,
        &tree([
            (".gitignore", file("*.o\n")),
            (".workspaceignore", file("!keep.o\nempty/\n")),
            ("objects/deep/keep.o", file("x")),
            ("objects/drop.o", file("x")),
            ("objects/empty", Node::Empty),
        ]),
    );
    environment.git(&folder, &["init", "-q"]);
    let ran = environment.run(["upload", "git", folder.to_str().unwrap(), "--dry-run"]).ok();
    assert_eq!(ran.stdout, ".gitignore\n.workspaceignore\nobjects/deep/keep.o\n");
}

#[test]
fn bad_input_is_named_with_a_reason_and_a_next_step() {
    let environment = TestEnvironment::new();
    let empty = environment.folder("empty");
    let ignored = environment.folder("ignored");
    fs::write(ignored.join("x.log"), "x").unwrap();
    environment.run(["upload", "a/b", "."]).fails(2, "`a/b` is no workspace name: `/` is not among");
    environment.run(["upload", "a", "./nowhere"]).fails(2, "there is no folder `./nowhere`");
    environment.run(["upload", "a", BINARY]).fails(2, "is not a folder");
    environment.run(["upload", "a", empty.to_str().unwrap()]).fails(1, "has nothing to upload");
    environment.run(["upload", "a", ignored.to_str().unwrap()]).fails(1, "its one entry is excluded");
    environment.run(["upload", "a", ".", "--tag", "7"]).fails(2, "digits alone mean a version number");
    environment.run(["download", "a"]).fails(3, "there is no workspace `a`");
    environment.run(["download", "a@@"]).fails(2, "is no tag");
    environment.run(["delete", "a", "--yes"]).fails(3, "there is no workspace `a`");
    environment.run(["nonsense"]).fails(2, "unrecognized subcommand");
    let app = application(&environment);
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    environment.run(["download", "a@7"]).fails(3, "`a@7` is not there: version 1 is the only one");
    environment.run(["download", "a@stable"]).fails(3, "no version has a tag");
    environment.run(["download", "aa"]).fails(3, "did you mean `a`?");
    environment.run(["download", "a", BINARY]).fails(2, "can't be a target: it is not a folder");
    // None of these left a name behind.
    assert_eq!(environment.run(["list", "--json"]).ok().json().as_array().unwrap().len(), 1);
}

#[test]
fn a_compose_file_replaces_only_one_of_its_own() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    let file = environment.folder("here").join("own.yml");
    fs::write(&file, "# mine\n").unwrap();
    let ran = environment.run(["compose", "a", "-o", "own.yml"]);
    ran.fails(4, "error: `own.yml` is there, and `workspace compose` has not made it")
        .fails(4, "hint: name another file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
    fs::remove_file(&file).unwrap();
    environment.run(["compose", "a", "-o", "own.yml"]).ok();
    environment.run(["compose", "a", "-o", "own.yml", "--port", "8080"]).ok();
    assert!(fs::read_to_string(file).unwrap().contains("8080"));
    let stdout = environment.run(["compose", "a", "-o", "/dev/stdout"]).ok().stdout;
    assert!(stdout.starts_with("# Made by `workspace compose a`."), "{stdout}");
}

#[test]
fn an_unreadable_file_is_named_and_nothing_is_published() {
    let environment = TestEnvironment::new();
    fs::set_permissions(environment.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = environment.path().join("workspace");
    fs::copy(BINARY, &binary).unwrap();
    let app = environment.folder("app");
    fs::write(app.join("a"), "a").unwrap();
    fs::write(app.join("locked"), "x").unwrap();
    environment.folder("home");
    environment.folder("here");
    let lock = |mode| fs::set_permissions(app.join("locked"), fs::Permissions::from_mode(mode)).unwrap();
    let run = |environment: &TestEnvironment| {
        let mut command = environment.program(&binary);
        command.args(["upload", "a", app.to_str().unwrap()]);
        if rustix::process::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        Ran::from(command.output().unwrap())
    };
    if rustix::process::geteuid().is_root() {
        for folder in ["app", "home", "here"] {
            fs::set_permissions(environment.folder(folder), fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(environment.path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
    lock(0o000);
    run(&environment).fails(1, "can't read `locked`; nothing was published").fails(1, "caused by: Permission denied");
    lock(0o644);
    run(&environment).ok();
    fs::write(app.join("locked"), "changed").unwrap();
    lock(0o000);
    run(&environment).fails(1, "can't read `locked`");
    // A key that doesn't go anyway stood in the way.
    lock(0o644);
    fs::write(app.join("server.key"), "x").unwrap();
    fs::write(app.join(".gitignore"), "server.key\n").unwrap();
    fs::set_permissions(app.join("server.key"), fs::Permissions::from_mode(0o000)).unwrap();
    run(&environment).ok();
    fs::write(app.join(".gitignore"), "").unwrap();
    run(&environment).fails(1, "server.key`");
    fs::remove_file(app.join("server.key")).unwrap();
    // A folder that can't be listed.
    fs::create_dir(app.join("closed")).unwrap();
    fs::set_permissions(app.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    run(&environment).fails(1, "closed`");
    fs::set_permissions(app.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    let data = environment.path().join("data");
    let _ = std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(data).status();
    assert_eq!(environment.run(["list", "--json"]).ok().json()[0]["version"], 2);
}

#[test]
fn a_file_that_never_rests_is_named() {
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    fs::write(app.join("quiet"), "x").unwrap();
    let path = app.join("restless");
    // Large enough that reading it takes longer than any pause of the writer.
    fs::File::create(&path).unwrap().set_len(96 << 20).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                use std::io::{Seek, Write};
                file.rewind().unwrap();
                file.write_all(b"y").unwrap();
            }
        });
        let ran = environment.run(["upload", "a", app.to_str().unwrap()]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let _ = ran.fails(1, "`restless` keeps changing while it is read; nothing was published");
    });
    assert!(environment.run(["list", "--json"]).ok().json().as_array().unwrap().is_empty());
}

#[test]
fn files_that_come_and_go_never_tear_a_version() {
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    for n in 0..400 {
        fs::write(app.join(format!("{n}")), n.to_string()).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One file moves from name to name: every honest look at the folder finds it at least nowhere or once.
            let mut n = 0;
            fs::write(app.join("moving-0"), "moving").unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(app.join(format!("moving-{n}")), app.join(format!("moving-{}", n + 1))).unwrap();
                n += 1;
            }
        });
        for round in 0..5 {
            fs::write(app.join("0"), format!("round {round}")).unwrap();
            let ran = environment.run(["upload", "a", app.to_str().unwrap()]);
            assert!(ran.code == Some(0) || ran.stderr.contains("come and go"), "{ran:?}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    environment.run(["download", "a", "copy"]).ok();
    assert_eq!(trees::read(&environment.path().join("here/copy")), trees::read(&app));
}

#[test]
fn a_full_disk_leaves_the_target_as_it_was() {
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    fs::write(app.join("a"), "new").unwrap();
    let noise: Vec<u8> =
        (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(11).to_le_bytes()).collect();
    fs::write(app.join("large"), noise).unwrap();
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    // A file system of 2 MiB in a mount namespace of its own.
    let target = environment.folder("target");
    let script = r#"
        mount -t tmpfs -o size=2m tmpfs "$1"
        "$2" download a "$1" && exit 1
        test -z "$(ls "$1")"
        dd if=/dev/zero of="$1/ballast" bs=1k count=1900 status=none
        rm -rf "$1/.workspace"
        "$2" download a "$1" && exit 1
        test "$(ls "$1")" = ballast
        mount -o remount,size=9m "$1"
        "$2" download a "$1" && cat "$1/a""#;
    let output = environment
        .program("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec", script, "sh"])
        .args([target.as_os_str(), BINARY.as_ref()])
        .output()
        .unwrap();
    let ran = Ran::from(output).ok();
    assert_eq!(ran.stdout, "new");
    assert!(ran.stderr.contains("has not enough room: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: make room"), "{}", ran.stderr);
}

/// Kills a download at every system call that changes the target, each time goes on, and compares.
#[test]
fn a_download_killed_anywhere_goes_on() {
    let environment = TestEnvironment::new();
    let (source, target) = (environment.folder("source"), environment.path().join("target"));
    let one = tree([
        ("keep", file("keep")),
        ("change", file("one")),
        ("gone", file("gone")),
        ("kind/x", file("x")),
        ("link", Node::Link("keep".into())),
        ("file", file("becomes a folder")),
        ("deep/er/gone", file("gone")),
    ]);
    let two = tree([
        ("keep", file("keep")),
        ("change", file("two")),
        ("new", file("new")),
        ("kind", file("was a folder")),
        ("link/now", file("was a link")),
        ("file/in", file("was a file")),
        ("void", Node::Empty),
    ]);
    let upload = |tree: &Tree| {
        fs::remove_dir_all(&source).unwrap();
        fs::create_dir(&source).unwrap();
        trees::write(&source, tree);
        environment.run(["upload", "a", source.to_str().unwrap()]).ok();
    };
    upload(&one);
    upload(&two);
    let arguments = |version: &str| {
        ["download".to_owned(), version.to_owned(), target.display().to_string(), "--delete".to_owned()]
    };
    let mut killed = 0;
    // strace counts each kind of call by itself.
    for call in ["rename,renameat,renameat2", "unlink,unlinkat", "mkdir,mkdirat", "symlink,symlinkat"] {
        for at in 1.. {
            assert!(at < 100, "it never gets through");
            let _ = fs::remove_dir_all(&target);
            environment.run(arguments("a@1")).ok();
            assert_eq!(trees::read(&target), one);
            let inject = format!("inject={call}:signal=KILL:when={at}");
            let output = environment
                .program("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, BINARY])
                .args(arguments("a@2"))
                .output()
                .unwrap();
            if output.status.success() {
                break;
            }
            killed += 1;
            // On to the same version, or back to the other: both must work without force.
            let (version, expected) = if at % 2 == 0 { ("a@2", &two) } else { ("a@1", &one) };
            environment.run(arguments(version)).ok();
            assert_eq!(&trees::read(&target), expected, "killed at {call} {at}, then {version}");
        }
    }
    assert!(killed >= 15, "killed {killed} times only");
}

#[test]
fn ctrl_c_says_so_at_once_and_ends_with_130() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    // A server that accepts and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut child = environment
        .workspace(["upload", "a", app.to_str().unwrap()])
        .env("S3_ENDPOINT", &endpoint)
        .env("S3_ACCESS_KEY", "key")
        .env("S3_SECRET_KEY", "secret-that-is-never-shown")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (_connection, _) = listener.accept().unwrap();
    let process = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let began = Instant::now();
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(10), "{stderr}");
    assert!(stderr.contains("Stopping") && stderr.contains("nothing was published"), "{stderr}");
    assert!(!stderr.contains("secret-that-is-never-shown"));
}

#[test]
fn a_reader_that_leaves_ends_the_list_quietly() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    for name in ["a", "b", "c"] {
        environment.run(["upload", name, app.to_str().unwrap()]).ok();
    }
    let output =
        environment.program("bash").args(["-o", "pipefail", "-c", "\"$0\" list | head -n 1", BINARY]).output().unwrap();
    let ran = Ran::from(output).ok();
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
}

#[test]
fn data_that_could_not_be_written_ended_with_0() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = environment.workspace(["list", "--json"]).stdout(full).output().unwrap();
    Ran::from(output).fails(1, "can't write to standard output");
}

#[test]
fn run_overwrote_a_folder_that_was_not_its_own() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    let mine = environment.folder("mine");
    fs::write(mine.join("package.json"), "mine").unwrap();
    let before = trees::read(&mine);
    let mut run = environment.workspace(["run", "a", "--dir", mine.to_str().unwrap()]);
    run.env("STORAGE_MODE", "embedded").env("WORKSPACE_STATE_DIR", environment.folder("state"));
    Ran::from(run.output().unwrap()).fails(1, "is not empty and `workspace run` did not make it");
    assert_eq!(trees::read(&mine), before);
}

#[test]
fn a_missing_region_looked_like_a_broken_network() {
    let environment = TestEnvironment::new();
    let mut list = environment.workspace(["list"]);
    list.env("S3_BUCKET", "some-bucket").env("AWS_EC2_METADATA_DISABLED", "true");
    Ran::from(list.output().unwrap()).fails(2, "hint: set S3_REGION");
}

#[test]
fn the_root_of_the_file_system_is_no_target() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.run(["upload", "a", app.to_str().unwrap()]).ok();
    environment.run(["download", "a", "/"]).fails(2, "it is the root of the file system");
}

#[test]
fn requests_are_logged_when_asked_for() {
    let environment = TestEnvironment::new();
    let ran = environment.run(["list", "-vv"]).ok();
    assert!(ran.stderr.contains("ListObjectsV2"), "{ran:?}");
}

#[test]
fn a_ref_that_does_not_parse_is_named_and_skipped() {
    let environment = TestEnvironment::new();
    let app = application(&environment);
    environment.run(["upload", "good", app.to_str().unwrap()]).ok();
    environment.run(["upload", "bad", app.to_str().unwrap()]).ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let settings = workspace::settings::StoreSettings::embedded(&environment.path().join("data"), "workspaces");
        let store = workspace::store::Store::connect(&settings).await.unwrap();
        let condition = workspace::store::Condition::None;
        store.put("refs/bad.json", "{\"format\":1,".into(), condition.clone()).await.unwrap();
        store.put("refs/newer.json", "{\"format\":9}".into(), condition.clone()).await.unwrap();
        store.put("refs/Strange.txt", "x".into(), condition).await.unwrap();
    });
    let list = environment.run(["list"]).ok();
    assert!(list.stdout.starts_with("good\t1\t") && list.stdout.lines().count() == 1, "{list:?}");
    for text in ["the ref `refs/bad.json` can't be used", "it has format 9", "`refs/Strange.txt` is no ref of ours"] {
        assert!(list.stderr.contains(text), "no `{text}` in {list:?}");
    }
    environment.run(["upload", "newer", app.to_str().unwrap()]).fails(1, "hint: install a newer version");
    environment.run(["download", "bad"]).fails(1, "the ref `refs/bad.json` can't be used");
}

#[test]
fn health_asks_the_monitor() {
    let environment = TestEnvironment::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = ["200 OK\r\n\r\nreconciling 3 workspaces\n", "503 Service Unavailable\r\n\r\nthe bucket is silent\n"];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = connection.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            std::io::Write::write_all(&mut connection, format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
        }
    });
    let ran = environment.run(["health", "--monitor", "--address", &address]).ok();
    assert_eq!(ran.stdout, "reconciling 3 workspaces\n");
    let mut command = environment.workspace(["health", "--monitor"]);
    let ran = Ran::from(command.env("WORKSPACE_MONITOR_ADDRESS", &address).output().unwrap()).fails(1, "");
    assert_eq!(ran.stdout, "the bucket is silent\n");
    server.join().unwrap();
    let ran = environment.run(["health", "--monitor", "--address", &address]).fails(1, "");
    assert_eq!(ran.stdout, format!("unhealthy: nothing listens on {address}\n"));
    environment.run(["health", "--address", &address]).fails(2, "--monitor");
}
