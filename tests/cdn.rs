//! Packs by a CDN: what it has is taken from it, verified; what it doesn't, comes from the bucket.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use cli::{Ran, TestEnvironment};
use servers::Server;
use trees::{Node, Tree, file, tree};
use workspace::store::Store;

/// What the CDN does with a request.
#[derive(Clone)]
enum Manner {
    /// Has everything.
    Hit,
    /// Has nothing.
    Miss,
    /// Has it with a bit that is another one.
    Wrong,
    /// Sends all of it whatever is asked for.
    Whole,
    /// Accepts, and says nothing.
    Silent,
    /// Says half, and closes.
    Half,
    /// Asks the bucket, as a pull CDN does; the `Host` it gives there.
    Pull(SocketAddr, String),
}

/// A CDN of the test's own.
struct Cdn {
    url: String,
    /// The lines with which requests began.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Cdn {
    fn start(objects: BTreeMap<String, Vec<u8>>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let objects = Arc::new(objects);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (objects, manner, seen) = (objects.clone(), manner.clone(), seen.clone());
                std::thread::spawn(move || answer(connection.unwrap(), &objects, &manner, &seen));
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(
    mut connection: TcpStream,
    objects: &BTreeMap<String, Vec<u8>>,
    manner: &Manner,
    seen: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next()?.to_owned();
    let lower = head.to_lowercase();
    assert!(!lower.contains("authorization:") && !lower.contains("x-amz-content-sha256:"), "{head}");
    seen.lock().unwrap().push(line.clone());
    let path = line.split(' ').nth(1)?;
    if let Manner::Pull(origin, host) = manner {
        let range = lower.lines().find(|line| line.starts_with("range: ")).unwrap();
        let mut server = TcpStream::connect(origin).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{range}\r\nConnection: close\r\n\r\n");
        server.write_all(request.as_bytes()).ok()?;
        std::io::copy(&mut server, &mut connection).ok()?;
        return Some(());
    }
    let range = lower.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let (start, end) = (start.parse::<usize>().unwrap(), end.parse::<usize>().unwrap() + 1);
    let object = objects.get(path.strip_prefix('/')?).filter(|_| !matches!(manner, Manner::Miss));
    let Some(object) = object else {
        let body = "<Error><Code>NoSuchKey</Code></Error>";
        let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        return connection.write_all((head + body).as_bytes()).ok();
    };
    let mut body = object[start..end].to_vec();
    let length = body.len();
    match manner {
        Manner::Silent => {
            // Until the other side gives up.
            let _ = connection.read(&mut [0; 1]);
            return None;
        }
        Manner::Wrong => body[length / 2] ^= 1,
        Manner::Half => body.truncate(length / 2),
        _ => {}
    }
    let total = object.len();
    let head = if matches!(manner, Manner::Whole) {
        body.clone_from(object);
        body.resize(total + 1, 0);
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", total + 1)
    } else {
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n",
            end - 1
        )
    };
    connection.write_all(head.as_bytes()).ok()?;
    connection.write_all(&body).ok()
}

/// A server with a workspace of several ranges, and whoever fetches it.
struct Stage {
    environment: TestEnvironment,
    _data: tempfile::TempDir,
    server: Server,
    tree: Tree,
    packs: BTreeMap<String, Vec<u8>>,
}

impl Stage {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::workspace(data.path());
        let environment = TestEnvironment::new();
        let large: Vec<u8> = (0..5_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let tree = tree([("a", file("a")), ("large.bin", Node::File(large, false))]);
        let app = environment.folder("app");
        trees::write(&app, &tree);
        let store = Store::connect(&server.settings("workspaces")).await.unwrap();
        let mut stage = Self { environment, _data: data, server, tree, packs: BTreeMap::new() };
        Ran::from(stage.workspace(&["upload", "myapp", app.to_str().unwrap()], None).output().unwrap()).ok();
        for object in store.list("data/myapp/").await.unwrap() {
            if object.key.contains("/packs/") {
                stage.packs.insert(object.key.clone(), store.get(&object.key).await.unwrap().body.to_vec());
            }
        }
        assert!(stage.packs.len() > 1);
        stage
    }

    fn workspace(&self, arguments: &[&str], cdn: Option<&str>) -> Command {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.server.endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key)
            // What says nothing is given up soon.
            .env("S3_ATTEMPT_TIMEOUT", "2")
            .envs(cdn.map(|cdn| ("WORKSPACE_CDN_URL", cdn)));
        command
    }

    fn cdn(&self, manner: Manner) -> Cdn {
        Cdn::start(self.packs.clone(), manner)
    }

    /// Fetches into a new folder; whatever the CDN does, the tree is right.
    fn download(&self, cdn: &str) -> Ran {
        let folder: PathBuf = self.environment.path().join("copy");
        let _ = fs::remove_dir_all(&folder);
        let mut command = self.workspace(&["download", "myapp", folder.to_str().unwrap()], Some(cdn));
        let ran = Ran::from(command.output().unwrap()).ok();
        assert_eq!(trees::read(&folder), self.tree);
        ran
    }

    /// The bucket helped out, which is said once, with the reason.
    fn helped(&self, cdn: &str, reason: &str) {
        let ran = self.download(cdn);
        let base = cdn.trim_end_matches("?presigned").trim_end_matches('/');
        let said = format!("warning: Fetching from the bucket instead of the CDN at {base}: {reason}");
        assert_eq!(ran.stderr.matches("warning:").count(), 1, "{ran:#?}");
        assert!(ran.stderr.contains(&said), "{ran:#?}");
    }
}

#[tokio::test]
async fn packs_come_from_the_cdn_when_it_has_them() {
    let stage = Stage::new().await;
    let cdn = stage.cdn(Manner::Hit);
    let ran = stage.download(&cdn.url);
    assert!(!ran.stderr.contains("warning:"), "{ran:#?}");
    // Every pack, by its key and nothing else.
    for key in stage.packs.keys() {
        assert!(cdn.requests().contains(&format!("GET /{key} HTTP/1.1")), "{:?}", cdn.requests());
    }
    let before = cdn.requests().len();
    // An archive is made of packs, too.
    Ran::from(stage.workspace(&["presign", "myapp"], Some(&cdn.url)).output().unwrap()).ok();
    assert!(cdn.requests().len() > before);
    // Below a path.
    let below = stage.packs.iter().map(|(key, pack)| (format!("some/path/{key}"), pack.clone())).collect();
    let cdn = Cdn::start(below, Manner::Hit);
    let ran = stage.download(&format!("{}/some/path/", cdn.url));
    assert!(!ran.stderr.contains("warning:"), "{ran:#?}");
}

#[tokio::test]
async fn the_bucket_helps_out_whatever_the_cdn_does() {
    let stage = Stage::new().await;
    stage.helped(&stage.cdn(Manner::Miss).url, "it does not have `data/myapp/");
    let wrong = stage.cdn(Manner::Wrong);
    stage.helped(&wrong.url, "what it has as `data/myapp/");
    stage.helped(&stage.cdn(Manner::Whole).url, "it does not serve parts of an object");
    stage.helped(&stage.cdn(Manner::Silent).url, "it did not answer in time");
    stage.helped(&stage.cdn(Manner::Half).url, "the connection broke");
    let closed = format!("http://127.0.0.1:{}", servers::free_port());
    stage.helped(&closed, "it can't be reached (the connection was refused)");
}

#[tokio::test]
async fn a_cdn_passes_signatures_on_to_a_private_bucket() {
    let stage = Stage::new().await;
    let origin = stage.server.endpoint.strip_prefix("http://").unwrap();
    let address: SocketAddr = origin.parse().unwrap();
    // The bucket's host is what was signed.
    let cdn = Cdn::start(BTreeMap::new(), Manner::Pull(address, origin.to_owned()));
    let ran = stage.download(&format!("{}/workspaces?presigned", cdn.url));
    assert!(!format!("{ran:?}").contains("warning:"), "{ran:#?}");
    assert!(cdn.requests().iter().all(|line| line.contains("X-Amz-Signature=")), "{:?}", cdn.requests());
    // One that gives its own host to the bucket, and one that isn't given signatures, are refused there.
    let cdn = Cdn::start(BTreeMap::new(), Manner::Pull(address, "cdn.test".to_owned()));
    stage.helped(&format!("{}/workspaces?presigned", cdn.url), "it refuses the request (SignatureDoesNotMatch)");
    let cdn = Cdn::start(BTreeMap::new(), Manner::Pull(address, origin.to_owned()));
    stage.helped(&format!("{}/workspaces", cdn.url), "it refuses the request (AccessDenied)");
}

#[test]
fn the_setting_is_shown_and_checked() {
    let environment = TestEnvironment::new();
    let status = |value: &str| {
        let mut command = environment.workspace(["status", "--settings"]);
        Ran::from(command.env("WORKSPACE_CDN_URL", value).output().unwrap())
    };
    let ran = status("https://cdn.example.com/?presigned").ok();
    assert!(ran.stdout.contains("WORKSPACE_CDN_URL\thttps://cdn.example.com/?presigned\tthe environment"), "{ran:#?}");
    let ran = status("https://cdn.example.com/?token=secret").fails(2, "its query can only be `?presigned`");
    assert!(!ran.stderr.contains("secret"), "{ran:#?}");
    status("").fails(2, "WORKSPACE_CDN_URL is set to nothing");
}
