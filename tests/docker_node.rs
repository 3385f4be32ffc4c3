//! The whole way on a real Docker Engine: uploaded, installed by the real npm, answering, changed, restarted.
//!
//! Needs the images that `scripts/images` builds; `scripts/test` does it just before. Nothing is skipped: without an engine
//! or an image these tests fail.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_mins(2);

/// A store with a port, and one workspace that may run in a container. Cleans up after itself.
struct Site {
    folder: tempfile::TempDir,
    name: String,
    port: u16,
    /// This machine as containers reach it: the address of Docker's bridge.
    gateway: String,
    server: Option<Child>,
}

impl Site {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("test-{name}-{}", std::process::id());
        let port = free_port();
        let gateway = workspace::embedded::server::docker_gateway().expect("Docker's bridge").to_string();
        let mut site = Self { folder, name, port, gateway, server: None };
        site.start_store();
        site
    }

    fn start_store(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("serve.log")).unwrap();
        let mut command = self.workspace();
        command.env_remove("S3_ENDPOINT").env_remove("S3_CONTAINER_ENDPOINT").env_remove("S3_BUCKET");
        command.env("WORKSPACE_DATA_DIR", self.path("data")).arg("serve");
        for host in ["127.0.0.1", &self.gateway] {
            command.args(["--listen", &format!("{host}:{}", self.port)]);
        }
        let server = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let server = self.server.insert(server);
        wait_until("the store", || {
            assert_eq!(server.try_wait().unwrap(), None, "the store ended");
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    fn stop_store(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn workspace(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace"));
        self.environment(&mut command);
        command.stdin(Stdio::null());
        command
    }

    fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            // Docker finds its plugins and its engine by these.
            .env("WORKSPACE_CA_BUNDLE", ca_bundle())
            .envs(["HOME", "DOCKER_HOST"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("S3_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("S3_CONTAINER_ENDPOINT", format!("http://{}:{}", self.gateway, self.port))
            .env("S3_BUCKET", "docker-test")
            .env("S3_ACCESS_KEY", "made-up-access-key")
            .env("S3_SECRET_KEY", "made-up-secret-key")
            .env("WORKSPACE_CACHE_DIR", self.path("cache"));
    }

    /// A copy of the example, with changes.
    fn tree(&self, files: &[(&str, &str)]) -> PathBuf {
        let tree = self.path("tree");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/node-hello");
        std::fs::create_dir(&tree).unwrap();
        for name in ["package.json", "package-lock.json", "server.js", "greeting.js", "workspace.yaml"] {
            std::fs::copy(example.join(name), tree.join(name)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(tree.join(name), text).unwrap();
        }
        tree
    }

    fn upload(&self) {
        succeed(self.workspace().args(["upload", &self.name, "--yes"]).arg(self.path("tree")));
    }

    fn write_compose(&self) {
        let mut command = self.workspace();
        succeed(command.args(["compose", &self.name, "-o"]).arg(self.path("compose.yml")));
        let text = std::fs::read_to_string(self.path("compose.yml")).unwrap();
        assert!(!text.contains("made-up"), "keys are never written: {text}");
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.environment(&mut command);
        command.args(["compose", "-f"]).arg(self.path("compose.yml")).args(arguments).stdin(Stdio::null());
        command
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.environment(&mut command);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn container(&self) -> String {
        format!("workspace-{}", self.name)
    }

    fn logs(&self) -> String {
        let output = self.docker(&["logs", &self.container()]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Asks until the answer has what it should; the port changes with every start.
    fn answer_with(&self, path: &str, expected: &str) -> String {
        wait_until(&format!("an answer with `{expected}`; log:\n{}", self.logs()), || {
            let address = self.compose(&["port", &self.name, "3000"]).output().ok()?;
            let address = String::from_utf8_lossy(&address.stdout).trim().to_owned();
            let answer = get(&address, path)?;
            answer.contains(expected).then_some(answer)
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop_store();
        if std::thread::panicking() {
            eprintln!("--- container\n{}", self.logs());
            eprintln!("--- store\n{}", std::fs::read_to_string(self.path("serve.log")).unwrap_or_default());
        }
        let _ = self.compose(&["down", "--volumes", "--timeout", "3"]).output();
    }
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What this machine trusts: npm in a container may need it to get through a company's proxy.
fn ca_bundle() -> PathBuf {
    let named = std::env::var_os("WORKSPACE_CA_BUNDLE").map(PathBuf::from);
    named.unwrap_or_else(|| "/etc/ssl/certs/ca-certificates.crt".into())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// The body of an HTTP answer.
fn get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn docker_upload_run_change_restart() {
    let mut site = Site::new("whole");
    site.tree(&[]);
    site.upload();
    site.write_compose();
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
fn docker_the_application_sees_no_keys() {
    let site = Site::new("keys");
    let server = "const fs = require('fs');
        const read = (path) => { try { return fs.readFileSync(path, 'latin1') } catch (error) { return error.code } };
        require('http').createServer((request, response) => {
            const environ = fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))
                .map((pid) => read(`/proc/${pid}/environ`)).join('\\n');
            const root = (() => { try { fs.writeFileSync('/etc/x', ''); return 'writable' } catch { return 'read-only' } })();
            response.end(JSON.stringify({ own: process.env, environ, root, uid: process.getuid() }));
        }).listen(process.env.PORT);";
    site.tree(&[("server.js", server), ("workspace.yaml", "")]);
    site.upload();
    site.write_compose();
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "300"]));
    let answer = site.answer_with("/", "environ");
    for ours in ["made-up", "S3_", "WORKSPACE_"] {
        assert!(!answer.contains(ours), "{answer}");
    }
    assert!(answer.contains(r#""root":"read-only""#) && answer.contains(r#""uid":10001"#), "{answer}");
}

#[test]
fn docker_a_failed_install_is_reported() {
    let site = Site::new("install");
    let package = r#"{"scripts":{"start":"node server.js","preinstall":"echo the reason; exit 3"}}"#;
    site.tree(&[("package.json", package), ("package-lock.json", r#"{"lockfileVersion":3,"packages":{"":{}}}"#)]);
    site.upload();
    site.write_compose();
    succeed(&mut site.compose(&["up", "--detach"]));
    wait_until("the report", || site.logs().contains("install failed").then_some(()));
    let logs = wait_until("the last lines", || Some(site.logs()).filter(|logs| logs.contains("hint:")));
    assert!(logs.contains("  | the reason") || logs.contains("the reason"), "{logs}");
}

#[test]
fn docker_what_listens_elsewhere_is_named() {
    let site = Site::new("elsewhere");
    let server = "require('http').createServer((request, response) => response.end('x')).listen(4567);";
    site.tree(&[("server.js", server)]);
    site.upload();
    site.write_compose();
    let text = std::fs::read_to_string(site.path("compose.yml")).unwrap();
    let text = text.replace("STORAGE_MODE: s3", "STORAGE_MODE: s3\n      WORKSPACE_READY_LIMIT: '3'");
    std::fs::write(site.path("compose.yml"), text).unwrap();
    succeed(&mut site.compose(&["up", "--detach"]));
    let logs = wait_until("the report", || Some(site.logs()).filter(|logs| logs.contains("hint: listen on the port")));
    assert!(logs.contains("nothing listens on port 3000") && logs.contains(":4567"), "{logs}");
}
