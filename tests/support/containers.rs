//! A store with a port, and a workspace of it in a real container.

#![allow(dead_code, reason = "no test file uses everything")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_mins(2);

/// A store with a port, and one workspace that may run in a container. Cleans up after itself.
pub struct Site {
    folder: tempfile::TempDir,
    /// The workspace's name.
    pub name: String,
    port: u16,
    /// This machine as containers reach it: the address of Docker's bridge.
    gateway: String,
    server: Option<Child>,
}

impl Site {
    /// With a store and nothing in it.
    pub fn new(name: &str) -> Self {
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

    /// Nobody reaches the store any more.
    pub fn stop_store(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// A path in a folder that nobody else has.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary, with the settings of the store.
    pub fn workspace(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace"));
        self.environment(&mut command);
        command.stdin(Stdio::null());
        command
    }

    /// Gives a command the settings of the store and nothing else.
    pub fn environment(&self, command: &mut Command) {
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

    /// Uploads the folder `tree`.
    pub fn upload(&self) {
        succeed(self.workspace().args(["upload", &self.name, "--yes"]).arg(self.path("tree")));
    }

    /// Writes the Compose file.
    pub fn write_compose(&self, flags: &[&str]) {
        let mut command = self.workspace();
        succeed(command.args(["compose", &self.name, "-o"]).arg(self.path("compose.yml")).args(flags));
        let text = std::fs::read_to_string(self.path("compose.yml")).unwrap();
        assert!(!text.contains("made-up"), "keys are never written: {text}");
    }

    /// Docker Compose, with that file.
    pub fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.environment(&mut command);
        command.args(["compose", "-f"]).arg(self.path("compose.yml")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Docker.
    pub fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.environment(&mut command);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// The container's name.
    pub fn container(&self) -> String {
        format!("workspace-{}", self.name)
    }

    /// What the container has said so far.
    pub fn logs(&self) -> String {
        let output = self.docker(&["logs", &self.container()]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Asks until the answer has what it should; the port changes with every start.
    pub fn answer_with(&self, path: &str, expected: &str) -> String {
        wait_until(&format!("an answer with `{expected}`; log:\n{}", self.logs()), || {
            let answer = get(&self.address()?, path)?;
            answer.contains(expected).then_some(answer)
        })
    }

    /// Where the application answers on this machine, while it runs.
    pub fn address(&self) -> Option<String> {
        let ports = self.docker(&["port", &self.container()]).output().ok()?;
        let ports = String::from_utf8_lossy(&ports.stdout).into_owned();
        Some(ports.lines().next()?.split_once("-> ")?.1.trim().to_owned())
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

/// Runs a command that must succeed, and gives what it printed.
pub fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Looks until there is something, for a while.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The image that runs a runtime: what `scripts/images` builds, or another set of them by this prefix of their names.
pub fn image(runtime: &str) -> String {
    let prefix = std::env::var("WORKSPACE_TEST_IMAGES").unwrap_or_default();
    format!("{prefix}workspace-{runtime}-s3:latest")
}

/// What this machine trusts: package managers in a container may need it to get through a company's proxy.
pub fn ca_bundle() -> PathBuf {
    let named = std::env::var_os("WORKSPACE_CA_BUNDLE").map(PathBuf::from);
    named.unwrap_or_else(|| "/etc/ssl/certs/ca-certificates.crt".into())
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// The body of an HTTP answer.
pub fn get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    // Some servers answer a client of HTTP/1.0 in its own version.
    (answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200")).then_some(())?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}
