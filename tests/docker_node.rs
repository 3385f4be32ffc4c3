//! The whole way on a real Docker Engine: uploaded, installed by the real npm, answering, changed, restarted.
//!
//! Needs the images that `scripts/images` builds; `scripts/test` does it just before. Nothing is skipped: without an engine
//! or an image these tests fail.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/containers.rs"]
mod containers;

use std::path::Path;

use containers::{Site, succeed, wait_until};

/// A site with a copy of the example, with changes.
fn site(name: &str, files: &[(&str, &str)]) -> Site {
    let site = Site::new(name);
    let tree = site.path("tree");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/node-hello");
    std::fs::create_dir(&tree).unwrap();
    for name in ["package.json", "package-lock.json", "server.js", "greeting.js", "workspace.yaml"] {
        std::fs::copy(example.join(name), tree.join(name)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(tree.join(name), text).unwrap();
    }
    site
}

#[test]
fn docker_a_followed_workspace_serves_what_is_saved() {
    let site = site("follow", &[]);
    site.upload();
    site.write_compose(&["--follow"]);
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "300"]));
    site.answer_with("/", "Hello from a workspace");
    let container = site.container();
    let id = succeed(&mut site.docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &container]));

    std::fs::write(site.path("tree/greeting.js"), "exports.greeting = 'Changed';\n").unwrap();
    site.upload();
    site.answer_with("/", "Changed");
    // A broken save leaves the container up, and is told; the next good one heals it.
    std::fs::write(site.path("tree/greeting.js"), "exports.greeting = \n").unwrap();
    site.upload();
    let status = wait_until("the error", || {
        let status = succeed(&mut site.docker(&["exec", &container, "workspace", "status"]));
        status.contains("ended with code 1").then_some(status)
    });
    assert!(status.contains("phase      failed") && status.contains("version    3"), "{status}");
    std::fs::write(site.path("tree/greeting.js"), "exports.greeting = 'Healed';\n").unwrap();
    site.upload();
    site.answer_with("/", "Healed");
    let logs = site.logs();
    assert!(logs.contains("SyntaxError"), "{logs}");
    assert_eq!(logs.matches("npm ci").count(), 1, "installed once: {logs}");
    let after = succeed(&mut site.docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &container]));
    assert_eq!(id, after, "it was the same container all the time");
}

#[test]
fn docker_upload_run_change_restart() {
    let mut site = site("whole", &[]);
    site.upload();
    site.write_compose(&[]);
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "300"]));
    site.answer_with("/", "Hello from a workspace");
    let logs = site.logs();
    assert!(logs.contains("npm ci --prefer-offline") && logs.contains("workspace: ready on port 3000"), "{logs}");
    let status = succeed(&mut site.docker(&["exec", &site.container(), "workspace", "status"]));
    for line in ["version    1", "phase      ready", "answers on port 3000"] {
        assert!(status.contains(line), "{status}");
    }

    std::fs::write(site.path("tree/greeting.js"), "exports.greeting = 'Changed';\n").unwrap();
    site.upload();
    succeed(&mut site.docker(&["restart", &site.container()]));
    site.answer_with("/", "Changed");
    let logs = site.logs();
    assert!(logs.contains("dependencies are installed already"), "the lock file is the same: {logs}");

    // Neither the store nor the package registry is needed for a restart.
    site.stop_store();
    succeed(&mut site.docker(&["restart", &site.container()]));
    site.answer_with("/", "Changed");
    assert!(site.logs().contains("which is here already"), "{}", site.logs());

    // A stop is passed on, and heeded by the application.
    succeed(&mut site.docker(&["stop", &site.container()]));
    let state = succeed(&mut site.docker(&["inspect", "--format", "{{.State.ExitCode}}", &site.container()]));
    assert_eq!(state.trim(), "0", "{}", site.logs());
}

#[test]
fn docker_a_container_starts_from_a_snapshot_with_the_registry_down() {
    let site = site("snapshot", &[]);
    let declared = std::fs::read_to_string(site.path("tree/workspace.yaml")).unwrap();
    std::fs::write(site.path("tree/workspace.yaml"), declared + "cache_dependencies: true\n").unwrap();
    site.upload();
    site.write_compose(&[]);
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "300"]));
    let logs = site.logs();
    assert!(logs.contains("npm ci") && logs.contains("dependencies stored as a snapshot"), "{logs}");
    // Nothing of the first container is left, and nobody answers where packages come from.
    succeed(&mut site.compose(&["down", "--volumes"]));
    let file = site.path("compose.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    let cut_off =
        text.replacen("    environment:\n", "    environment:\n      npm_config_registry: http://127.0.0.1:9\n", 1);
    assert_ne!(text, cut_off);
    std::fs::write(&file, cut_off).unwrap();
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "60"]));
    site.answer_with("/", "Hello from a workspace");
    let logs = site.logs();
    assert!(logs.contains("dependencies restored from a snapshot") && !logs.contains("npm ci"), "{logs}");
}

#[test]
fn docker_the_application_sees_no_keys() {
    let server = "const fs = require('fs');
        const read = (path) => { try { return fs.readFileSync(path, 'latin1') } catch (error) { return error.code } };
        require('http').createServer((request, response) => {
            const environ = fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))
                .map((pid) => read(`/proc/${pid}/environ`)).join('\\n');
            const root = (() => { try { fs.writeFileSync('/etc/x', ''); return 'writable' } catch { return 'read-only' } })();
            response.end(JSON.stringify({ own: process.env, environ, root, uid: process.getuid() }));
        }).listen(process.env.PORT);";
    let site = site("keys", &[("server.js", server), ("workspace.yaml", "")]);
    site.upload();
    site.write_compose(&[]);
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "300"]));
    let answer = site.answer_with("/", "environ");
    for ours in ["made-up", "S3_", "WORKSPACE_"] {
        assert!(!answer.contains(ours), "{answer}");
    }
    assert!(answer.contains(r#""root":"read-only""#) && answer.contains(r#""uid":10001"#), "{answer}");
}

#[test]
fn docker_a_failed_install_is_reported() {
    let package = r#"{"scripts":{"start":"node server.js","preinstall":"echo the reason; exit 3"}}"#;
    let site = site(
        "install",
        &[("package.json", package), ("package-lock.json", r#"{"lockfileVersion":3,"packages":{"":{}}}"#)],
    );
    site.upload();
    site.write_compose(&[]);
    succeed(&mut site.compose(&["up", "--detach"]));
    wait_until("the report", || site.logs().contains("install failed").then_some(()));
    let logs = wait_until("the last lines", || Some(site.logs()).filter(|logs| logs.contains("hint:")));
    assert!(logs.contains("  | the reason") || logs.contains("the reason"), "{logs}");
}

#[test]
fn docker_what_listens_elsewhere_is_named() {
    let server = "require('http').createServer((request, response) => response.end('x')).listen(4567);";
    let site = site("elsewhere", &[("server.js", server)]);
    site.upload();
    site.write_compose(&[]);
    let text = std::fs::read_to_string(site.path("compose.yml")).unwrap();
    let text = text.replace("STORAGE_MODE: s3", "STORAGE_MODE: s3\n      WORKSPACE_READY_LIMIT: '3'");
    std::fs::write(site.path("compose.yml"), text).unwrap();
    succeed(&mut site.compose(&["up", "--detach"]));
    let logs =
        wait_until("the report", || Some(site.logs()).filter(|logs| logs.contains("hint: it listens on another port")));
    assert!(logs.contains("nothing listens on port 3000") && logs.contains(":4567"), "{logs}");
}

#[test]
fn docker_lack_of_memory_is_named() {
    // The application has to have started: its supervisor shares the limit.
    let server = "const kept = []; setInterval(() => kept.push(Buffer.alloc(16 << 20, 1)), 20);";
    let yaml = "memory: 96m\n";
    let site = site(
        "memory",
        &[
            ("server.js", server),
            ("workspace.yaml", yaml),
            ("package.json", r#"{"scripts":{"start":"node server.js"}}"#),
        ],
    );
    site.upload();
    site.write_compose(&[]);
    succeed(&mut site.compose(&["up", "--detach"]));
    let logs = wait_until("the report", || Some(site.logs()).filter(|logs| logs.contains("hint:")));
    assert!(logs.contains("out of memory") && logs.contains("`memory:` in workspace.yaml"), "{logs}");
}

#[test]
fn docker_a_program_for_another_machine_is_named() {
    let site = site("machine", &[("workspace.yaml", "start: ./program\n")]);
    // The beginning of a program for a machine that nobody has: EM_SE_C33.
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    program[16] = 2;
    program[18] = 107;
    std::fs::write(site.path("tree/program"), program).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(site.path("tree/program"), executable).unwrap();
    site.upload();
    site.write_compose(&[]);
    succeed(&mut site.compose(&["up", "--detach"]));
    let logs = wait_until("the report", || Some(site.logs()).filter(|logs| logs.contains("hint:")));
    assert!(logs.contains("another") && logs.contains("machine"), "{logs}");
}
