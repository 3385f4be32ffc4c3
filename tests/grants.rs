//! Grants: a container fetches one version with addresses in place of keys.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli::{Ran, TestEnvironment};
use jiff::Timestamp;
use servers::Server;
use trees::{Node, file, tree};
use workspace::cache::Cache;
use workspace::format::grant::Grant;
use workspace::grant::Issuer;
use workspace::settings::{Limits, StoreSettings};
use workspace::store::{Granted, Store, StoreError};
use workspace::version;

const DAY: Duration = Duration::from_hours(24);

/// A server, an application, and whoever uploads it.
struct Stage {
    environment: TestEnvironment,
    settings: StoreSettings,
    /// What containers see, which may be the same.
    seen: StoreSettings,
}

impl Stage {
    fn on(server: &Server) -> Self {
        let settings = server.settings("workspaces");
        Self { environment: TestEnvironment::new(), seen: settings.clone(), settings }
    }

    /// Uploads a tree whose application writes the content of its file `text` into `said`.
    fn publish(&self, server: &Server, text: &str) {
        let app = self.environment.folder("app");
        let large: Vec<u8> = (0..3_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let nodes = [
            ("Procfile", file("web: cat text > said; env > said.env; exit 3\n")),
            ("text", file(text)),
            ("large", Node::File(large, false)),
        ];
        trees::write(&app, &tree(nodes));
        let mut upload = self.environment.workspace(["upload", "myapp", app.to_str().unwrap()]);
        upload
            .env("S3_ENDPOINT", &server.endpoint)
            .env("S3_ACCESS_KEY", &server.access_key)
            .env("S3_SECRET_KEY", &server.secret_key);
        Ran::from(upload.output().unwrap()).ok();
    }

    async fn issue(&self, lifetime: Duration) -> Grant {
        let store = Store::connect(&self.settings).await.unwrap();
        let presigner = Store::connect(&self.seen).await.unwrap();
        let name = "myapp".parse().unwrap();
        let reference = version::existing_reference(&store, &name).await.unwrap().reference;
        let issuer = Issuer { store: &store, presigner: &presigner, cache: &Cache::default() };
        let row = reference.rows.last().unwrap();
        issuer.issue(&name, reference.root, row, lifetime, Timestamp::now()).await.unwrap()
    }

    fn path(&self) -> PathBuf {
        self.environment.path().join("grant.json")
    }

    fn write(&self, grant: &Grant) {
        let whole = self.environment.path().join("grant.new");
        fs::write(&whole, grant.to_bytes()).unwrap();
        fs::rename(whole, self.path()).unwrap();
    }

    /// `workspace run` with the grant and no other setting of a store.
    fn run(&self, dir: &Path) -> Command {
        let mut command = self.environment.workspace(["run", "--dir", dir.to_str().unwrap()]);
        command
            .env_remove("WORKSPACE_DATA_DIR")
            .env("WORKSPACE_GRANT", self.path())
            .env("WORKSPACE_STATE_DIR", self.environment.path().join("state"));
        command
    }
}

fn granted(grant: &Grant) -> Store {
    Store::granted(&Granted {
        addresses: grant.addresses.clone(),
        expires: grant.expires,
        limits: Limits::default(),
        ca_bundle: None,
    })
    .unwrap()
}

/// Fetch with no key, again without a request, a new version, what is not granted, what has expired.
async fn whole_way(server: &Server, stage: &Stage) {
    stage.publish(server, "first");
    let first = stage.issue(DAY).await;
    assert!(first.addresses.len() >= 2, "{first:?}");
    stage.write(&first);
    let dir = stage.environment.path().join("run");
    let ran = Ran::from(stage.run(&dir).output().unwrap());
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert_eq!(fs::read_to_string(dir.join("said")).unwrap(), "first");
    assert!(!fs::read_to_string(dir.join("said.env")).unwrap().contains("WORKSPACE_"));
    assert!(!format!("{ran:?}").contains("X-Amz-Signature"), "{ran:#?}");
    assert_eq!(trees::read(&stage.environment.path().join("app"))["large"], trees::read(&dir)["large"]);

    // The next start asks nobody: the addresses lead nowhere.
    let mut nowhere = first.clone();
    for address in nowhere.addresses.values_mut() {
        "http://127.0.0.1:1/x".clone_into(address);
    }
    stage.write(&nowhere);
    let ran = Ran::from(stage.run(&dir).output().unwrap());
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stderr.contains("is here already"), "{ran:#?}");

    // A change of one file: a delta against a base, with content in packs of both.
    stage.publish(server, "second");
    stage.write(&stage.issue(DAY).await);
    let ran = Ran::from(stage.run(&dir).output().unwrap());
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert_eq!(fs::read_to_string(dir.join("said")).unwrap(), "second");

    // The grant is for what it names.
    let store = granted(&first);
    let key = first.addresses.keys().next().unwrap();
    store.get(key).await.unwrap();
    assert_eq!(store.get_range(key, 3..10).await.unwrap().len(), 7);
    let error = store.get("refs/myapp.json").await.unwrap_err();
    assert!(matches!(&error, StoreError::NotGranted { key } if key == "refs/myapp.json"), "{error:?}");
    assert_eq!(error.to_string(), "the grant has no address for `refs/myapp.json`");
    assert!(matches!(store.list("").await.unwrap_err(), StoreError::NotGranted { .. }));

    // And for as long as it says.
    let short = stage.issue(Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let error = granted(&short).get(key).await.unwrap_err();
    assert!(matches!(error, StoreError::GrantExpired { .. }), "{error:?}");
    // Also where this machine's clock is behind.
    let late = Grant { expires: Timestamp::now() + DAY, ..short.clone() };
    let error = granted(&late).get(key).await.unwrap_err();
    assert!(matches!(error, StoreError::GrantExpired { .. }), "{error:?}");

    // A start with an expired one waits for a new one.
    let other = stage.environment.path().join("other");
    stage.write(&short);
    let mut child =
        stage.run(&other).stdout(Stdio::null()).stderr(Stdio::piped()).env("WORKSPACE_LOG", "error").spawn().unwrap();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !text.contains("waiting for a new one") {
        assert!(Instant::now() < deadline && std::io::BufRead::read_line(&mut log, &mut text).unwrap() > 0, "{text}");
    }
    stage.write(&stage.issue(DAY).await);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(fs::read_to_string(other.join("said")).unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_honours_grants() {
    let server = Server::seaweedfs();
    whole_way(&server, &Stage::on(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_this_machine_honours_grants_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    whole_way(&server, &Stage::on(&server)).await;
}

/// A monitor works on the store inside its process and signs for the port that containers see.
#[tokio::test]
async fn the_store_on_this_machine_is_signed_for_as_it_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings::embedded(folder.path(), "workspaces");
    let store = Store::connect(&settings).await.unwrap();
    store.create_bucket().await.unwrap();
    store.put("some/key", "content".into(), workspace::store::Condition::None).await.unwrap();
    let served = workspace::embedded::Embedded::open(folder.path()).unwrap();
    let port = workspace::embedded::server::Server::bind(&served, &["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let endpoint = format!("http://{}", port.addresses()[0]);
    let running = tokio::spawn(port.run(std::future::pending()));
    let presigner = Store::connect(&settings.seen_from(&endpoint).unwrap()).await.unwrap();
    let address = presigner.presign("some/key", DAY).await.unwrap();
    assert!(address.starts_with(&endpoint), "{address}");
    assert_eq!(presigner.credentials_expire().await.unwrap(), None);
    let reader = Store::granted(&Granted {
        addresses: [("some/key".to_owned(), address)].into(),
        expires: Timestamp::now() + DAY,
        limits: Limits::default(),
        ca_bundle: None,
    });
    assert_eq!(reader.unwrap().get("some/key").await.unwrap().body, "content");
    assert_eq!(presigner.counts().requests, 0);
    running.abort();
}

#[tokio::test]
async fn an_address_lasts_seven_days_at_most() {
    let store = Store::connect(&servers::s3("http://127.0.0.1:1", "key", "secret", "bucket")).await.unwrap();
    let address = store.presign("a/b", Duration::from_hours(1000)).await.unwrap();
    assert!(address.starts_with("http://127.0.0.1:1/bucket/a/b?"), "{address}");
    assert!(address.contains("X-Amz-Expires=604800") && address.contains("X-Amz-SignedHeaders=host&"), "{address}");
}

#[test]
fn a_grant_that_is_not_there_or_not_ours_is_named() {
    let environment = TestEnvironment::new();
    let run = |name: Option<&str>, text: &str| {
        fs::write(environment.path().join("grant.json"), text).unwrap();
        let mut command = environment.workspace(["run", "--dir", "run"]);
        command.env("WORKSPACE_GRANT", environment.path().join("grant.json"));
        command.env("WORKSPACE_STATE_DIR", environment.path().join("state"));
        command.envs(name.map(|name| ("WORKSPACE_NAME", name)));
        Ran::from(command.output().unwrap())
    };
    run(Some("myapp@1"), "{").fails(1, "it is no grant");
    run(None, "{\"format\":99}").fails(1, "it has format 99");
}
