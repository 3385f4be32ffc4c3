//! A store, a monitor as a process, and what it runs on this machine's Docker Engine. Cleans up after itself.

#![allow(dead_code, reason = "no test file uses everything")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use workspace::format::host::{Host, Managed};
use workspace::format::{Reference, keys};
use workspace::names::WorkspaceName;
use workspace::settings::StoreSettings;
use workspace::store::{Condition, Store, StoreError};

use super::servers::{Server, free_port, s3};

/// For everything that is waited for.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// An application that says its version, and whatever else a test wants to know.
pub const SERVER: &str = r"
const fs = require('fs');
const version = fs.readFileSync('version', 'utf8').trim();
const read = (path) => { try { return fs.readFileSync(path, 'latin1') } catch (error) { return error.code } };
const server = require('http').createServer((request, response) => {
    if (request.url === '/environ') {
        const pids = fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name));
        const environ = pids.map((pid) => read(`/proc/${pid}/environ`)).join('\n');
        return response.end(JSON.stringify({ own: process.env, environ }));
    }
    if (request.url === '/host') return response.end(require('os').hostname());
    if (request.url === '/crash') { response.end('crash'); return setImmediate(() => process.exit(9)) }
    response.end(version);
});
server.listen(process.env.PORT, process.env.HOST);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
";
/// How it is run: nothing to install, so no package registry is needed.
pub const PLAIN: &str = "runtime: node\ninstall: []\nstart: node server.js\n";
const ACCESS_KEY: &str = "made-up-access-key";
const SECRET_KEY: &str = "made-up-secret-key";
pub const BUCKET: &str = "monitored";

/// Which server holds the bucket.
enum Kept {
    /// One that others wrote.
    Seaweed(Server),
    /// `workspace serve`, which can be stopped and started again with its data.
    Own { port: u16, child: Option<Child> },
}

/// Traefik as the Compose file sets it up.
struct Router {
    container: String,
    /// Where people's requests go.
    web: String,
    /// Where the monitor asks.
    internal: String,
}

/// The whole stage of a test.
pub struct Site {
    folder: tempfile::TempDir,
    kept: Kept,
    /// Where the server is reached instead.
    front: Option<String>,
    /// This machine as containers reach it.
    pub gateway: IpAddr,
    runtime: tokio::runtime::Runtime,
    store: Store,
    engine: String,
    names: Vec<String>,
    monitor: Option<Child>,
    router: Option<Router>,
    /// A key for the monitor alone.
    monitors_key: Option<(String, String)>,
    /// Flags of the monitor.
    pub flags: Vec<String>,
}

impl Site {
    /// On SeaweedFS.
    pub fn new() -> Self {
        let gateway = workspace::embedded::server::docker_gateway().expect("Docker's bridge");
        let server = Server::seaweedfs_on(gateway);
        let settings = server.settings(BUCKET);
        Self::on(Kept::Seaweed(server), &settings, gateway)
    }

    /// On a server that can be stopped and started.
    pub fn with_own_server() -> Self {
        let gateway = workspace::embedded::server::docker_gateway().expect("Docker's bridge");
        let port = free_port();
        let settings = s3(&format!("http://{gateway}:{port}"), ACCESS_KEY, SECRET_KEY, BUCKET);
        let mut site = Self::on(Kept::Own { port, child: None }, &settings, gateway);
        site.start_server();
        site
    }

    fn on(kept: Kept, settings: &StoreSettings, gateway: IpAddr) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = runtime.block_on(Store::connect(settings)).unwrap();
        let engine = docker(&["info", "--format", "{{.ID}}"]).trim().to_owned();
        let flags = "--interval 1 --soak 1 --drain 1 --watch 5".split(' ').map(str::to_owned).collect();
        Self {
            folder: tempfile::tempdir().unwrap(),
            kept,
            front: None,
            gateway,
            runtime,
            store,
            engine,
            names: Vec::new(),
            monitor: None,
            router: None,
            monitors_key: None,
            flags,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A name that no other test has.
    pub fn name(&mut self, name: &str) -> String {
        let name = format!("test-{name}-{}", std::process::id());
        self.names.push(name.clone());
        name
    }

    pub fn start_server(&mut self) {
        let folder = self.folder.path().join("data");
        fs::create_dir_all(&folder).unwrap();
        let Kept::Own { port, child } = &mut self.kept else { panic!("this server runs on") };
        let log = File::options().create(true).append(true).open(self.folder.path().join("serve.log")).unwrap();
        let address = format!("{}:{port}", self.gateway);
        let mut command = super::servers::command(env!("CARGO_BIN_EXE_workspace"));
        command.args(["serve", "--listen", &address]).env("WORKSPACE_DATA_DIR", &folder).current_dir(&folder);
        command.env("S3_ACCESS_KEY", ACCESS_KEY).env("S3_SECRET_KEY", SECRET_KEY);
        *child = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        wait_until("the store", || TcpStream::connect(&address).ok());
    }

    pub fn stop_server(&mut self) {
        let Kept::Own { child, .. } = &mut self.kept else { panic!("this server runs on") };
        if let Some(mut child) = child.take() {
            end(&mut child);
        }
    }

    /// Endpoint, access key and secret key.
    pub fn keys(&self) -> (String, String, String) {
        let (endpoint, access_key, secret_key) = match &self.kept {
            Kept::Seaweed(server) => (server.endpoint.clone(), server.access_key.clone(), server.secret_key.clone()),
            Kept::Own { port, .. } => {
                (format!("http://{}:{port}", self.gateway), ACCESS_KEY.to_owned(), SECRET_KEY.to_owned())
            }
        };
        (self.front.clone().unwrap_or(endpoint), access_key, secret_key)
    }

    /// From now on everybody but the test itself reaches the server at this endpoint.
    pub fn behind(&mut self, endpoint: &str) {
        self.front = Some(endpoint.to_owned());
    }

    /// What must be seen nowhere in a container.
    pub fn secrets(&self) -> [String; 2] {
        let (_, access_key, secret_key) = self.keys();
        [access_key, secret_key]
    }

    /// The binary, with the store and a home of its own.
    pub fn workspace(&self) -> Command {
        let (endpoint, access_key, secret_key) = self.keys();
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace"));
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(engine().map(|host| ("DOCKER_HOST", host)))
            // Docker finds its plugins by it.
            .env("DOCKER_CONFIG", Path::new(&std::env::var_os("HOME").unwrap()).join(".docker"))
            .env("HOME", home)
            .env("S3_ENDPOINT", endpoint)
            .env("S3_ACCESS_KEY", access_key)
            .env("S3_SECRET_KEY", secret_key)
            .env("S3_BUCKET", BUCKET)
            .env("WORKSPACE_CACHE_DIR", self.path("cache"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        if let Some(router) = &self.router {
            command
                .env("WORKSPACE_TRAEFIK_ROUTES", self.path("routes"))
                .env("WORKSPACE_TRAEFIK_URL", format!("http://{}", router.internal));
        }
        command
    }

    /// Uploads a tree of these files and the text of a version.
    pub fn upload(&self, name: &str, version: &str, files: &[(&str, &str)]) {
        self.tree(version, files);
        self.command(&["upload", name, "--yes", "tree"]);
    }

    /// Makes such a tree in the folder `tree`.
    pub fn tree(&self, version: &str, files: &[(&str, &str)]) {
        let tree = self.path("tree");
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir(&tree).unwrap();
        for (path, text) in [("server.js", SERVER), ("workspace.yaml", PLAIN), ("version", version)] {
            fs::write(tree.join(path), text).unwrap();
        }
        for (path, text) in files {
            fs::write(tree.join(path), text).unwrap();
        }
    }

    /// A pass of the monitor.
    pub fn once(&self, arguments: &[&str]) -> Output {
        self.workspace().args(["monitor", "--once"]).args(&self.flags).args(arguments).output().unwrap()
    }

    /// Runs a command of the program, which must succeed.
    pub fn command(&self, arguments: &[&str]) -> String {
        run(self.workspace().args(arguments))
    }

    // The monitor.

    /// The monitor, as it would be started next.
    pub fn monitor_command(&self) -> Command {
        let mut command = self.workspace();
        command.args(["monitor", "--log-format", "json", "--listen"]).arg(format!("127.0.0.1:{}", free_port()));
        command.args(&self.flags);
        if let Some((access_key, secret_key)) = &self.monitors_key {
            command.env("S3_ACCESS_KEY", access_key).env("S3_SECRET_KEY", secret_key);
        }
        command
    }

    /// A user of the store with these policies; gives its keys.
    pub fn user(&self, name: &str, policies: &[String]) -> (String, String) {
        let Kept::Seaweed(server) = &self.kept else { panic!("this server knows one user") };
        server.user(name, policies)
    }

    /// From now on the monitor has these keys.
    pub fn give_monitor(&mut self, keys: &(String, String)) {
        self.monitors_key = Some(keys.clone());
    }

    /// Starts the monitor.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("monitor.log")).unwrap();
        let child = self.monitor_command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        assert!(self.monitor.replace(child).is_none(), "one monitor at a time");
    }

    /// The monitor's process.
    pub fn monitor_id(&self) -> u32 {
        self.monitor.as_ref().unwrap().id()
    }

    /// Ends the monitor as a power switch would.
    pub fn kill(&mut self) {
        end(&mut self.monitor.take().unwrap());
    }

    /// Asks the monitor to end.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut monitor = self.monitor.take().unwrap();
        kill_process(Pid::from_child(&monitor), Signal::TERM).unwrap();
        wait_until("the monitor's end", || monitor.try_wait().unwrap())
    }

    /// What the monitor has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("monitor.log")).unwrap_or_default()
    }

    /// Waits until the monitor says something after the first `from` bytes of its log.
    pub fn wait_log(&self, from: usize, text: &str) {
        wait_until(text, || self.log().get(from..).is_some_and(|log| log.contains(text)).then_some(()));
    }

    // The bucket.

    /// The store.
    pub fn with_store<T>(&self, act: impl AsyncFnOnce(&Store) -> T) -> T {
        self.runtime.block_on(act(&self.store))
    }

    /// The host's record.
    pub fn host(&self) -> Option<Host> {
        match self.with_store(async |store| store.get(&keys::host(&self.engine)).await) {
            Ok(object) => Some(Host::parse(&object.body).unwrap()),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// What the record says of a workspace.
    pub fn managed(&self, name: &str) -> Option<Managed> {
        self.host()?.workspaces.remove(&name.parse::<WorkspaceName>().unwrap())
    }

    /// Waits until the record says something of a workspace.
    pub fn wait(&self, name: &str, what: &str, right: impl Fn(&Managed) -> bool) -> Managed {
        let mut last = None;
        let deadline = Instant::now() + DEADLINE;
        loop {
            last = self.managed(name).or(last);
            if let Some(managed) = last.as_ref().filter(|managed| right(managed)) {
                return managed.clone();
            }
            assert!(Instant::now() < deadline, "waited for {what} of {name}: {last:#?}");
            pause();
        }
    }

    /// Waits until this version is live, and nothing else is being done.
    pub fn live(&self, name: &str, number: u64) -> Managed {
        self.wait(name, &format!("version {number}"), |managed| {
            number_of(managed) == number && managed.failure.is_none()
        })
    }

    /// Changes a ref.
    pub fn change(&self, name: &str, change: impl Fn(&mut Reference)) {
        let name: WorkspaceName = name.parse().unwrap();
        self.with_store(async |store| {
            let read = workspace::version::existing_reference(store, &name).await.unwrap();
            let mut reference = read.reference;
            change(&mut reference);
            let body = reference.to_bytes().into();
            store.put(&keys::reference(&name), body, Condition::Matches(read.etag)).await.unwrap();
        });
    }

    // The router.

    /// Starts Traefik with the settings of the Compose file, and lets the monitor use it.
    pub fn route_through_traefik(&mut self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let image = run(&mut Command::new(root.join("scripts/traefik-image")));
        let mut compose = docker_command();
        compose.args(["compose", "config", "--format", "json"]).current_dir(root);
        compose.envs([("S3_ENDPOINT", "http://x"), ("S3_ACCESS_KEY", "x"), ("S3_SECRET_KEY", "x")]);
        let file: serde_json::Value = serde_json::from_str(&run(&mut compose)).unwrap();
        let arguments = file["services"]["traefik"]["command"].as_array().unwrap();
        if !docker_command().args(["network", "inspect", "workspaces"]).output().unwrap().status.success() {
            docker(&["network", "create", "--attachable", "workspaces"]);
        }
        let routes = self.path("routes");
        fs::create_dir(&routes).unwrap();
        let container = format!("test-traefik-{}", std::process::id());
        let [web, internal] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let mut command = docker_command();
        command.args(["run", "--detach", "--name", &container, "--network", "workspaces"]);
        command.args(["--publish", &format!("{web}:80"), "--publish", &format!("{internal}:8082")]);
        command.args(["--volume", &format!("{}:/routes:ro", routes.display()), "--tmpfs", "/certificates"]);
        command.arg(image.trim()).args(arguments.iter().map(|argument| argument.as_str().unwrap()));
        run(&mut command);
        wait_until("Traefik", || get(&internal, "nobody", "/").ok());
        self.router = Some(Router { container, web, internal });
    }

    /// Where a workspace is asked, and under which host name.
    pub fn address(&self, name: &str) -> (String, String) {
        if let Some(router) = &self.router {
            return (router.web.clone(), format!("{name}.localhost"));
        }
        let managed = self.wait(name, "an address", |managed| !managed.addresses.is_empty());
        let address = managed.addresses[0].strip_prefix("http://").unwrap().to_owned();
        (address.clone(), address)
    }

    /// What a workspace answers.
    pub fn ask(&self, name: &str, path: &str) -> Result<String, String> {
        let (address, host) = self.address(name);
        get(&address, &host, path)
    }

    /// Waits for an answer.
    pub fn answers(&self, name: &str, path: &str, text: &str) {
        let (address, host) = self.address(name);
        wait_until(&format!("`{text}` from {name}"), || {
            get(&address, &host, path).ok().filter(|answer| answer == text)
        });
    }

    /// Constant load on a workspace.
    pub fn load(&self, name: &str) -> Load {
        Load::on(&self.address(name))
    }

    fn clean(&self) {
        for name in &self.names {
            let filter = format!("label=workspace.name={name}");
            let listed = listed(&["ps", "--all", "--quiet", "--filter", &filter]);
            for id in listed.lines().chain([format!("workspace-{name}").as_str()]) {
                let _ = docker_command().args(["rm", "--force", "--volumes", id]).output();
            }
            for id in self::listed(&["volume", "ls", "--quiet", "--filter", &filter]).lines() {
                let _ = docker_command().args(["volume", "rm", id]).output();
            }
        }
    }
}

impl Drop for Site {
    #[expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
    fn drop(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            end(monitor);
        }
        if std::thread::panicking() {
            eprintln!("--- monitor\n{}", self.log());
            for name in &self.names {
                for container in containers(name) {
                    let output = docker_command().args(["logs", "--tail", "30", &container]).output();
                    eprintln!("--- {container}\n{output:?}");
                }
            }
        }
        self.clean();
        if let Some(router) = &self.router {
            let _ = docker_command().args(["rm", "--force", &router.container]).output();
        }
        if let Kept::Own { child: Some(child), .. } = &mut self.kept {
            end(child);
        }
    }
}

/// Several clients that ask without a pause.
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<(BTreeSet<String>, Vec<String>)>>,
}

impl Load {
    fn on((address, host): &(String, String)) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..4)
            .map(|_| {
                let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
                let (address, host) = (address.clone(), host.clone());
                std::thread::spawn(move || {
                    let (mut answers, mut failures) = (BTreeSet::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let (asked_at, began) = (jiff::Timestamp::now(), Instant::now());
                        match get(&address, &host, "/") {
                            Ok(answer) => drop(answers.insert(answer)),
                            Err(error) => failures.push(format!("{error}, {:?} after {asked_at}", began.elapsed())),
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                        // Load, not a race for this machine's cores.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    (answers, failures)
                })
            })
            .collect();
        Self { stop, asked, clients }
    }

    /// Ends it, and gives what was answered. Not one request may have failed.
    pub fn unharmed(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut failures) = (BTreeSet::new(), Vec::new());
        for client in self.clients {
            let (more, failed) = client.join().unwrap();
            answers.extend(more);
            failures.extend(failed);
        }
        let asked = self.asked.load(Ordering::Relaxed);
        assert!(failures.is_empty(), "{} of {asked} requests failed: {failures:#?}", failures.len());
        assert!(asked > 100, "that is no load: {asked} requests");
        answers
    }
}

/// The number of the version that is live; 0: none.
pub fn number_of(managed: &Managed) -> u64 {
    managed.live.as_ref().map_or(0, |live| live.row.number)
}

/// One request on a connection of its own.
pub fn get(address: &str, host: &str, path: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: `{answer}`"))?;
    let is_known = head.starts_with("HTTP/1.1 200") || (host == "nobody" && head.starts_with("HTTP/1.1 404"));
    if !is_known {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        // One chunk: all that these applications say.
        let chunk = body.split_once("\r\n").map_or("", |(_, rest)| rest);
        return Ok(chunk.split("\r\n0\r\n").next().unwrap_or_default().trim_end().to_owned());
    }
    Ok(body.to_owned())
}

/// Names of a workspace's containers that exist, but for the relay.
pub fn containers(name: &str) -> Vec<String> {
    let filter = format!("label=workspace.name={name}");
    let listed = listed(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
    listed.lines().filter(|line| !line.ends_with("-Relay")).map(str::to_owned).collect()
}

/// Names of a workspace's volumes.
pub fn volumes(name: &str) -> Vec<String> {
    let listed = listed(&["volume", "ls", "--quiet", "--filter", &format!("label=workspace.name={name}")]);
    listed.lines().map(str::to_owned).collect()
}

/// The engine that everything here uses, where it isn't the machine's own.
static ENGINE: OnceLock<OsString> = OnceLock::new();

/// Lets everything here use another engine.
pub fn use_engine(address: &str) {
    ENGINE.set(address.into()).unwrap();
}

fn engine() -> Option<OsString> {
    ENGINE.get().cloned().or_else(|| std::env::var_os("DOCKER_HOST"))
}

/// Docker's client.
pub fn docker_command() -> Command {
    let mut command = Command::new("docker");
    command.envs(engine().map(|host| ("DOCKER_HOST", host)));
    command
}

/// What Docker's client lists; nothing where the engine is away.
fn listed(arguments: &[&str]) -> String {
    String::from_utf8(docker_command().args(arguments).output().unwrap().stdout).unwrap()
}

/// Runs Docker's client, which must succeed.
pub fn docker(arguments: &[&str]) -> String {
    run(docker_command().args(arguments))
}

/// Runs a command, which must succeed, and gives what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Between two looks at what is waited for.
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Waits for a condition.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", DEADLINE.as_secs());
        pause();
    }
}
