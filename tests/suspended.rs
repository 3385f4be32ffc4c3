//! An uploader whose machine sleeps: the binary is stopped at each of its requests, others publish, collect to the end, delete
//! and begin anew, and it wakes. It publishes something whole or says why not, and brings nothing back.

#![expect(clippy::print_stdout, reason = "the figures of a run")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cli::{Ran, TestEnvironment};
use faults::{Director, Fault, Proxy, Request};
use rustix::process::{Pid, Signal, kill_process};
use servers::Server;
use tokio::sync::watch;
use trees::{Tree, file, tree};
use ulid::Ulid;
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::checkout::{CheckoutOptions, Fetcher};
use workspace::format::retention::Retention;
use workspace::format::{Keys, Reference, Row};
use workspace::hosts::Hosts;
use workspace::names::WorkspaceName;
use workspace::output::Silent;
use workspace::publish::{self, Changed, Publication, Publisher};
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::store::{Condition, Store};
use workspace::upkeep::collect::{Collector, Options};
use workspace::upkeep::needs::Needs;
use workspace::upkeep::verify::{Options as VerifyOptions, Verifier};
use workspace::version;

/// What goes on while the uploader sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// Others publish.
    Published,
    /// Others publish, what is older is let go, and collections run to their end.
    Collected,
    /// The workspace is deleted.
    Deleted,
    /// It is deleted and made anew, with as many versions as before and one more.
    Anew,
}

/// What comes of the request at which it fell asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// The server has acted; the reply is read after the sleep.
    Waits,
    /// The server has acted; the connection is gone after the sleep.
    Lost,
    /// The request arrives after everything else.
    Late,
}

/// Holds one request back.
struct Gate {
    at: u64,
    lost: bool,
    reached: watch::Sender<bool>,
    open: watch::Receiver<bool>,
}

impl Director for Gate {
    fn fault(&self, request: &Request) -> Fault {
        if request.number == self.at && self.lost { Fault::DropAfter } else { Fault::None }
    }

    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + 'a>> {
        Box::pin(async move {
            if request.number == self.at {
                self.reached.send_replace(true);
                let _ = self.open.clone().wait_for(|open| *open).await;
            }
            None
        })
    }
}

struct Site {
    server: Server,
    direct: Store,
    bucket: Bucket,
    environment: TestEnvironment,
    counter: AtomicU64,
    _data: tempfile::TempDir,
}

/// A process that is stopped at a request.
struct Asleep {
    child: Child,
    process: Pid,
    opener: watch::Sender<bool>,
    proxy: Proxy,
}

impl Asleep {
    async fn wakes(self) -> Ran {
        self.opener.send_replace(true);
        kill_process(self.process, Signal::CONT).unwrap();
        let child = self.child;
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        self.proxy.settled().await;
        output.into()
    }
}

/// What has been published under a name, by row.
type Known = BTreeMap<Ulid, Tree>;

fn tree_of(text: &str) -> Tree {
    let mut random = fastrand::Rng::with_seed(text.bytes().map(u64::from).sum());
    let noise: String = std::iter::repeat_with(|| random.alphanumeric()).take(3_000).collect();
    tree([("common", file(&"the same for all ".repeat(500))), ("own", file(&noise)), ("text", file(text))])
}

fn write(folder: &Path, nodes: &Tree) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    trees::write(folder, nodes);
}

impl Site {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::workspace(data.path());
        let direct = Store::connect(&server.settings("workspaces")).await.unwrap();
        let consent = WriteConsent { yes: false, single_writer: false, ask: &|_| false };
        let bucket = Bucket::open_for_writing(&direct, &consent).await.unwrap();
        let environment = TestEnvironment::new();
        Self { server, direct, bucket, environment, counter: AtomicU64::new(0), _data: data }
    }

    async fn publish(&self, name: &WorkspaceName, text: &str, known: &mut Known) {
        let folder = self.environment.path().join("others");
        write(&folder, &tree_of(text));
        let (cache, budget) = (Cache::at(None), Budget::default());
        let publisher = Publisher {
            store: &self.direct,
            cache: &cache,
            budget: &budget,
            observer: Arc::new(Silent),
            consent: WriteConsent { yes: false, single_writer: false, ask: &|_| false },
            committing: Arc::default(),
        };
        let report = Box::pin(publisher.publish(&Publication::of(name.clone(), folder))).await.unwrap();
        known.insert(report.id, tree_of(text));
    }

    async fn keep_the_last(&self, name: &WorkspaceName) {
        publish::decide(&self.direct, name, |reference| {
            reference.retention = Some(Retention { last: 1, hours: 0, days: 0 });
            Ok(Changed::Yes)
        })
        .await
        .unwrap();
    }

    async fn collect(&self, name: &WorkspaceName) {
        let (cache, hosts) = (Cache::at(None), Hosts::default());
        let collector = Collector { store: &self.direct, cache: &cache, bucket: &self.bucket, hosts: &hosts };
        collector.collect(name, Options { grace: Duration::ZERO, dry_run: false }).await.unwrap();
    }

    async fn goes_on(&self, meanwhile: Meanwhile, name: &WorkspaceName, known: &mut Known) {
        match meanwhile {
            Meanwhile::Published => {
                self.publish(name, "meanwhile", known).await;
                self.publish(name, "and again", known).await;
            }
            Meanwhile::Collected => {
                self.publish(name, "meanwhile", known).await;
                self.keep_the_last(name).await;
                self.publish(name, "and again", known).await;
                self.collect(name).await;
                self.publish(name, "and later", known).await;
                self.collect(name).await;
            }
            Meanwhile::Deleted => self.delete(name).await,
            Meanwhile::Anew => {
                self.delete(name).await;
                for text in ["anew", "anew again", "anew and again"] {
                    self.publish(name, text, known).await;
                }
            }
        }
    }

    async fn delete(&self, name: &WorkspaceName) {
        match publish::remove(&self.direct, name, self.bucket.record.delete_if_match).await {
            // The sleeper has not come to its claim yet.
            Ok(_) | Err(publish::PublishError::Version(version::VersionError::NoWorkspace { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn reference(&self, name: &WorkspaceName) -> Option<Reference> {
        let read = version::read_reference(&self.direct, name).await.unwrap();
        read.map(|read| read.reference).filter(Reference::is_visible)
    }

    /// Every version is one that somebody published, and whole.
    async fn is_whole(&self, name: &WorkspaceName, known: &Known, case: &str) {
        let Some(reference) = self.reference(name).await else { return };
        let verifier = Verifier { store: &self.direct, budget: &Budget::default(), observer: Arc::new(Silent) };
        let report = verifier.verify(name, &VerifyOptions { version: None, deep: true }).await.unwrap();
        assert!(report.damage.is_empty(), "{case}: {report:?}");
        for row in &reference.rows {
            let expected = known.get(&row.id).unwrap_or_else(|| panic!("{case}: nobody published {row:?}"));
            let target = tempfile::tempdir().unwrap();
            let (cache, budget) = (Cache::at(None), Budget::default());
            let fetcher = Fetcher { store: &self.direct, cache: &cache, budget: &budget, observer: Arc::new(Silent) };
            let selector = format!("{name}@{}", row.number).parse().unwrap();
            Box::pin(fetcher.checkout(&selector, target.path(), CheckoutOptions::default())).await.unwrap();
            assert_eq!(trees::read(target.path()), *expected, "{case}: version {}", row.number);
        }
    }

    /// Below the name lies what its ref needs, once it was collected.
    async fn is_clean(&self, name: &WorkspaceName, case: &str) {
        let mut needed = Vec::new();
        if let Some(reference) = self.reference(name).await {
            self.collect(name).await;
            let (cache, keys) = (Cache::at(None), Keys::new(name, reference.root));
            let needs = Needs::of(&self.direct, &cache, name, &reference, &Hosts::default()).await.unwrap();
            let objects = self.direct.list(keys.prefix()).await.unwrap();
            needed.extend(objects.into_iter().map(|object| object.key).filter(|key| {
                let item = keys.item(key);
                item.is_some_and(|item| needs.items.contains(&item))
            }));
        }
        let objects = self.direct.list(&format!("data/{name}/")).await.unwrap();
        let left: Vec<String> =
            objects.into_iter().map(|object| object.key).filter(|key| !needed.contains(key)).collect();
        assert!(left.is_empty(), "{case}: {left:?} are left");
    }

    fn sleeper(&self, arguments: &[&str], endpoint: &str) -> Child {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key)
            .env("S3_BUCKET", "workspaces")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Begins a command, and stops its process at a request. Nothing: it had ended before.
    async fn falls_asleep(&self, arguments: &[&str], at: u64, reply: Reply) -> Option<Asleep> {
        let (reached, mut is_reached) = watch::channel(false);
        let (opener, open) = watch::channel(false);
        let gate = Gate { at, lost: reply == Reply::Lost, reached, open };
        let proxy = Proxy::start(&self.server.endpoint, Arc::new(gate)).await;
        let mut child = self.sleeper(arguments, &proxy.endpoint);
        let process = Pid::from_raw(child.id().cast_signed()).unwrap();
        loop {
            if tokio::time::timeout(Duration::from_millis(20), is_reached.wait_for(|reached| *reached)).await.is_ok() {
                break;
            }
            if child.try_wait().unwrap().is_some() {
                return None;
            }
        }
        kill_process(process, Signal::STOP).unwrap();
        if reply != Reply::Late {
            opener.send_replace(true);
            proxy.settled().await;
        }
        Some(Asleep { child, process, opener, proxy })
    }

    /// One sleep of a collector, in a workspace with garbage or one whose deletion was cut off. False: it had ended before
    /// that request.
    async fn collector_sleeps(&self, cut_off: bool, meanwhile: Meanwhile, reply: Reply, at: u64) -> bool {
        let name = format!("app-{}", self.counter.fetch_add(1, Ordering::SeqCst));
        let name: WorkspaceName = name.parse().unwrap();
        let case =
            format!("{name}: {meanwhile:?}, asleep at request {at}, whose reply is {reply:?}, cut off: {cut_off}");
        let mut known = Known::new();
        for text in ["one", "two", "three"] {
            self.publish(&name, text, &mut known).await;
        }
        self.keep_the_last(&name).await;
        if cut_off {
            let mut reference = version::read_reference(&self.direct, &name).await.unwrap().unwrap().reference;
            reference = Reference::tombstone(reference.root, reference.nonces);
            let key = workspace::format::keys::reference(&name);
            self.direct.put(&key, reference.to_bytes().into(), Condition::None).await.unwrap();
        }
        let arguments = ["gc", name.as_str(), "--grace", "0s"];
        let Some(asleep) = self.falls_asleep(&arguments, at, reply).await else { return false };
        self.goes_on(meanwhile, &name, &mut known).await;
        let after = self.reference(&name).await;
        let ran = asleep.wakes().await;
        let gone = ran.code == Some(3) && ran.stderr.contains("there is no workspace");
        assert!(ran.code == Some(0) || gone, "{case}: {ran:?}");
        let now = self.reference(&name).await;
        let versions = |reference: &Option<Reference>| {
            reference.as_ref().map(|reference| (reference.root, reference.current, reference.rows.clone()))
        };
        // A retention, if there is one, lets go at any time.
        let (after, now) = (versions(&after), versions(&now));
        assert_eq!(after.as_ref().map(|after| (after.0, after.1)), now.as_ref().map(|now| (now.0, now.1)), "{case}");
        let last = |versions: &Option<(Ulid, u64, Vec<Row>)>| versions.as_ref().map(|it| it.2.last().cloned());
        assert_eq!(last(&after), last(&now), "{case}");
        self.is_whole(&name, &known, &case).await;
        true
    }

    /// One sleep of an uploader. False: it had ended before that request.
    async fn sleep(&self, first: bool, meanwhile: Meanwhile, reply: Reply, at: u64) -> bool {
        let name = format!("app-{}", self.counter.fetch_add(1, Ordering::SeqCst));
        let name: WorkspaceName = name.parse().unwrap();
        let case = format!("{name}: {meanwhile:?}, asleep at request {at}, whose reply is {reply:?}, first: {first}");
        let mut known = Known::new();
        if !first {
            self.publish(&name, "one", &mut known).await;
            self.publish(&name, "two", &mut known).await;
        }
        let source: PathBuf = self.environment.path().join(format!("source-{name}"));
        let own = tree_of("of the sleeper");
        write(&source, &own);
        let arguments = ["upload", name.as_str(), source.to_str().unwrap(), "--json"];
        let Some(asleep) = self.falls_asleep(&arguments, at, reply).await else { return false };
        // What it has published before it fell asleep is the only version that nobody else knows of.
        let rows = self.reference(&name).await.map(|reference| reference.rows).unwrap_or_default();
        let published: Vec<Ulid> = rows.iter().map(|row| row.id).filter(|id| !known.contains_key(id)).collect();
        known.extend(published.iter().map(|id| (*id, own.clone())));
        let had_published = !published.is_empty();
        self.goes_on(meanwhile, &name, &mut known).await;
        let after = self.reference(&name).await;
        let ran = asleep.wakes().await;
        let now = self.reference(&name).await;
        if ran.code == Some(0) {
            let json = ran.json();
            assert_eq!(json["outcome"], "published", "{case}: {ran:?}");
            let id: Ulid = json["id"].as_str().unwrap().parse().unwrap();
            known.insert(id, own.clone());
            let row = now.as_ref().and_then(|now| now.rows.iter().find(|row| row.id == id));
            assert!(row.is_some() || had_published, "{case}: told {json}, and there is {now:?}");
            assert!(row.is_none_or(|row| json["version"] == row.number), "{case}: {json}");
        } else {
            let said = ["was deleted meanwhile; nothing was published"];
            assert!(said.iter().any(|said| ran.stderr.contains(said)), "{case}: {ran:?}");
            assert_eq!(ran.code, Some(4), "{case}: {ran:?}");
            assert!(matches!(meanwhile, Meanwhile::Deleted | Meanwhile::Anew), "{case}: {ran:?}");
        }
        // What others made is there as they left it; what was deleted is not.
        if let Some(after) = &after {
            let now = now.as_ref().unwrap_or_else(|| panic!("{case}: it is gone"));
            assert_eq!(now.root, after.root, "{case}");
            assert!(now.current <= after.current + 1, "{case}");
            let kept = after.retention.is_none();
            assert!(!kept || after.rows.iter().all(|row| now.rows.contains(row)), "{case}: {now:?}");
        } else if let Some(now) = &now {
            // It had not asked for anything before, so it has made the workspace after the deletion.
            assert!(at == 0 || first, "{case}: {now:?}");
            assert!(now.rows.len() == 1 && known[&now.rows[0].id] == own, "{case}: {now:?}");
        }
        self.is_whole(&name, &known, &case).await;
        self.is_clean(&name, &case).await;
        true
    }
}

async fn sleeps(first: bool, meanwhile: &[Meanwhile], replies: &[Reply]) {
    let site = Site::new().await;
    let mut cases = 0;
    for &meanwhile in meanwhile {
        for &reply in replies {
            let mut at = 0;
            while site.sleep(first, meanwhile, reply, at).await {
                at += 1;
            }
            assert!(at >= 4, "{at} requests only");
            cases += at;
        }
    }
    println!("{cases} sleeps of an upload, first: {first}");
}

const ALL: [Meanwhile; 4] = [Meanwhile::Published, Meanwhile::Collected, Meanwhile::Deleted, Meanwhile::Anew];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uploader_that_slept_through_everything_brings_nothing_back() {
    sleeps(false, &ALL, &[Reply::Waits]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_upload_that_slept_through_its_deletion_brings_nothing_back() {
    sleeps(true, &[Meanwhile::Deleted, Meanwhile::Anew], &[Reply::Waits]).await;
}

async fn collector_sleeps(cases: &[(bool, Meanwhile)], replies: &[Reply]) {
    let site = Site::new().await;
    let mut sleeps = 0;
    for &(cut_off, meanwhile) in cases {
        for &reply in replies {
            let mut at = 0;
            while site.collector_sleeps(cut_off, meanwhile, reply, at).await {
                at += 1;
            }
            assert!(at >= 5, "{at} requests only");
            sleeps += at;
        }
    }
    println!("{sleeps} sleeps of a collector");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_finished_a_deletion_deleted_what_was_made_anew() {
    collector_sleeps(&[(true, Meanwhile::Published)], &[Reply::Waits]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_a_collector_that_slept_through_everything_deletes_nothing_that_is_needed() {
    collector_sleeps(&ALL.map(|meanwhile| (false, meanwhile)), &[Reply::Waits]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_requests_of_a_collector_that_are_lost_or_late_delete_nothing_that_is_needed() {
    collector_sleeps(&[(false, Meanwhile::Published), (false, Meanwhile::Anew)], &[Reply::Late]).await;
    collector_sleeps(&[(true, Meanwhile::Published)], &[Reply::Lost, Reply::Late]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_requests_that_are_lost_or_late_after_a_sleep_bring_nothing_back() {
    sleeps(false, &ALL, &[Reply::Lost, Reply::Late]).await;
    // A collection would find nothing to let go.
    let others = [Meanwhile::Published, Meanwhile::Deleted, Meanwhile::Anew];
    sleeps(true, &others, &[Reply::Waits, Reply::Lost, Reply::Late]).await;
}
