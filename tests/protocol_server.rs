//! The storage protocol on a real S3 server: two uploaders, a collector, a deleter and a reader at once, while replies get
//! lost, requests are refused, and uploaders sleep through whole collections.
//!
//! The proxy sees every write of every ref. Afterwards they must make one chain in which nothing is lost; every version that
//! a ref names must have been readable all the time; and in the end nothing may be left behind.

#![expect(clippy::print_stdout, reason = "the figures of a run")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::{Director, Fault, Proxy, Reply, Request};
use servers::Server;
use ulid::Ulid;
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::format::retention::Retention;
use workspace::format::{Keys, Reference};
use workspace::hosts::Hosts;
use workspace::names::WorkspaceName;
use workspace::output::Silent;
use workspace::publish::{self, Changed, Outcome, Publication, PublishError, Publisher};
use workspace::settings::Limits;
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::store::{Deletion, Store, StoreError};
use workspace::upkeep::collect::{CollectError, Collector, Options};
use workspace::upkeep::verify::{Options as VerifyOptions, Verifier};
use workspace::upkeep::{needs::Needs, orphans};
use workspace::version::{self, VersionError};

const WORKSPACES: usize = 4;
/// Rows that refs keep, so that there is something to collect all the time.
const KEPT: u32 = 4;

/// A write of a ref that the server has accepted.
#[derive(Debug, Clone)]
enum Write {
    /// What it says now, and what it replaced.
    Put { replaced: Option<String>, etag: String, reference: Box<Reference> },
    /// It was removed while it was this.
    Delete { replaced: String },
}

/// What everybody's proxies have seen.
#[derive(Default)]
struct Seen {
    writes: Mutex<BTreeMap<String, Vec<Write>>>,
    /// Requests that deleted data.
    sweeps: AtomicU64,
    faults: AtomicU64,
    /// Swaps that came after a whole collection that they had slept through.
    slept_through: AtomicU64,
}

/// One proxy's faults.
struct Weather {
    seen: Arc<Seen>,
    /// Whether swaps are held back at times.
    sleepy: bool,
    asleep: Mutex<HashMap<u64, u64>>,
}

impl Director for Weather {
    fn fault(&self, request: &Request) -> Fault {
        let dice = fastrand::u32(0..1_000);
        let conditional = request.header("if-match").is_some() || request.header("if-none-match").is_some();
        let put = request.method == "PUT";
        let fault = match dice {
            0..12 => Fault::DropAfter,
            12..20 => Fault::DropBefore,
            20..30 => Fault::Answer(503, "SlowDown"),
            30..36 => Fault::AnswerAfter(500, "InternalError"),
            36..40 => Fault::AnswerAfter(503, "ServiceUnavailable"),
            40..48 if put => Fault::Answer(409, "ConditionalRequestConflict"),
            48..56 if put && conditional => Fault::Answer(412, "PreconditionFailed"),
            56..60 => Fault::Truncate,
            60..61 => Fault::Stall,
            61..100 if self.sleepy && put => {
                self.asleep.lock().unwrap().insert(request.number, self.seen.sweeps.load(Ordering::SeqCst));
                Fault::Delay(Duration::from_millis(fastrand::u64(50..900)))
            }
            _ => Fault::None,
        };
        if fault != Fault::None {
            self.seen.faults.fetch_add(1, Ordering::Relaxed);
        }
        fault
    }

    fn replied(&self, request: &Request, reply: &Reply) {
        let asleep = self.asleep.lock().unwrap().remove(&request.number);
        if asleep.is_some_and(|before| self.seen.sweeps.load(Ordering::SeqCst) > before) && request.is_swap() {
            self.seen.slept_through.fetch_add(1, Ordering::Relaxed);
        }
        if request.method == "POST" && request.path.contains("delete") {
            self.seen.sweeps.fetch_add(1, Ordering::SeqCst);
        }
        if !request.path.contains("/refs/") || !(200..300).contains(&reply.status) {
            return;
        }
        let replaced = request.header("if-match").map(str::to_owned);
        let write = match request.method.as_str() {
            "PUT" => {
                let etag = reply.head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("etag").then(|| value.trim().to_owned())
                });
                let reference = Box::new(Reference::parse(&request.body).unwrap());
                Write::Put { replaced, etag: etag.unwrap(), reference }
            }
            "DELETE" => Write::Delete { replaced: replaced.unwrap() },
            _ => return,
        };
        let name = request.path.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        self.seen.writes.lock().unwrap().entry(name).or_default().push(write);
    }
}

fn settings(endpoint: &str, server: &Server) -> workspace::settings::StoreSettings {
    let mut settings = servers::s3(endpoint, &server.access_key, &server.secret_key, "workspaces");
    let second = Duration::from_secs(1);
    settings.limits = Limits { connect: second, attempt: second, stall: second, ..Limits::default() };
    settings
}

/// A store behind bad weather of its own.
async fn behind(server: &Server, seen: &Arc<Seen>, sleepy: bool) -> Store {
    let weather = Weather { seen: seen.clone(), sleepy, asleep: Mutex::default() };
    let proxy = Proxy::start(&server.endpoint, Arc::new(weather)).await;
    Store::connect(&settings(&proxy.endpoint, server)).await.unwrap()
}

/// How far the uploaders of one workspace are; everybody else keeps in step with them.
struct Pace {
    uploads: u64,
    left: AtomicU64,
}

impl Pace {
    fn new(uploads: u64) -> Arc<Self> {
        Arc::new(Self { uploads, left: AtomicU64::new(uploads) })
    }

    fn upload(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// Waits until it is time for operation `number` of `total`.
    async fn turn(&self, number: u64, total: u64) {
        let due = self.uploads - self.uploads * number / total;
        while self.left.load(Ordering::SeqCst) > due {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn consent() -> WriteConsent<'static> {
    WriteConsent { yes: false, single_writer: false, ask: &|_| false }
}

/// Whether the store was at fault, as it is here all the time.
fn is_weather(error: &VersionError) -> bool {
    match error {
        VersionError::Store(error) => is_store_weather(error),
        _ => false,
    }
}

fn is_store_weather(error: &StoreError) -> bool {
    error.is_retryable() || error.is_ambiguous() || matches!(error, StoreError::Precondition { .. })
}

/// A tree of few files; some contents come again and again, so that versions share packs.
fn change(folder: &Path) {
    for _ in 0..fastrand::u32(1..4) {
        let path = folder.join(format!("file-{}", fastrand::u32(0..6)));
        if fastrand::u32(0..8) == 0 {
            let _ = fs::remove_file(path);
            continue;
        }
        let seed = if fastrand::bool() { fastrand::u64(0..20) } else { fastrand::u64(..) };
        let mut random = fastrand::Rng::with_seed(seed);
        let length = random.usize(1..4_000);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        fs::write(path, bytes).unwrap();
    }
    fs::write(folder.join("mark"), fastrand::u64(..).to_string()).unwrap();
}

/// Publishes again and again. Gives the ids of the versions that it was told are published.
async fn uploader(store: Store, name: WorkspaceName, pace: Arc<Pace>) -> BTreeSet<Ulid> {
    let home = tempfile::tempdir().unwrap();
    let budget = Budget::default();
    let mut published = BTreeSet::new();
    let mut machine = 0;
    while pace.upload() {
        let name = name.clone();
        let folder = home.path().join(name.as_str());
        fs::create_dir_all(&folder).unwrap();
        change(&folder);
        if fastrand::u32(0..20) == 0 {
            // Another machine: nothing is remembered.
            machine += 1;
        }
        let cache = Cache::at(Some(home.path().join(format!("cache-{machine}"))));
        let publisher = Publisher {
            store: &store,
            cache: &cache,
            budget: &budget,
            observer: Arc::new(Silent),
            consent: consent(),
            committing: Arc::default(),
        };
        let publication = Publication::of(name, folder);
        match Box::pin(publisher.publish(&publication)).await {
            Ok(report) if report.outcome == Outcome::Published => {
                published.insert(report.id);
            }
            Ok(_) | Err(PublishError::DeletedMeanwhile { .. } | PublishError::Contended { .. }) => {}
            Err(PublishError::Store(error)) if is_store_weather(&error) => {}
            Err(PublishError::Version(error)) if is_weather(&error) => {}
            Err(error) => assert!(error.is_store_away(), "{error:?}"),
        }
        // As `workspace retention` does.
        let kept = Some(Retention { last: KEPT, hours: 0, days: 0 });
        let keep = publish::decide(&store, &publication.name, |reference| {
            let changed = if reference.retention == kept { Changed::No } else { Changed::Yes };
            reference.retention = kept;
            Ok(changed)
        });
        let _ = Box::pin(keep).await;
    }
    published
}

async fn collector(store: Store, name: WorkspaceName, pace: Arc<Pace>, total: u64) {
    let cache = Cache::at(None);
    for number in 0..total {
        pace.turn(number, total).await;
        let Ok(Some(bucket)) = Bucket::open_for_reading(&store).await else { continue };
        let Ok(hosts) = Hosts::read(&store, jiff::Timestamp::now()).await else { continue };
        let collector = Collector { store: &store, cache: &cache, bucket: &bucket, hosts: &hosts };
        match collector.collect(&name, Options { grace: Duration::ZERO, dry_run: false }).await {
            Ok(_) | Err(CollectError::Contended { .. } | CollectError::Version(VersionError::NoWorkspace { .. })) => {}
            Err(CollectError::Version(error)) => assert!(is_weather(&error), "{error:?}"),
            Err(CollectError::Remove(error)) => {
                let gone = matches!(error, PublishError::Version(VersionError::NoWorkspace { .. }));
                assert!(gone || error.is_store_away() || is_removal_weather(&error), "{error:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn is_removal_weather(error: &PublishError) -> bool {
    match error {
        PublishError::Contended { .. } => true,
        PublishError::Store(error) => is_store_weather(error) || matches!(error, StoreError::Delete { .. }),
        PublishError::Version(error) => is_weather(error) || matches!(error, VersionError::NoWorkspace { .. }),
        _ => false,
    }
}

async fn deleter(store: Store, name: WorkspaceName, pace: Arc<Pace>, total: u64) {
    for number in 0..total {
        pace.turn(number, total).await;
        if let Err(error) = publish::remove(&store, &name, true).await {
            assert!(is_removal_weather(&error), "{error:?}");
        }
    }
}

/// Reads whole versions, without any weather of its own: what it can't read is broken.
async fn reader(store: Store, name: WorkspaceName, pace: Arc<Pace>, total: u64) -> u64 {
    let budget = Budget::default();
    let mut read = 0;
    for number in 0..total {
        pace.turn(number, total).await;
        let Some(before) = version::read_reference(&store, &name).await.unwrap() else { continue };
        if !before.reference.is_visible() {
            continue;
        }
        let row = &before.reference.rows[fastrand::usize(0..before.reference.rows.len())];
        let verifier = Verifier { store: &store, budget: &budget, observer: Arc::new(Silent) };
        let options = VerifyOptions { version: Some(row.number), deep: true };
        let damage = match verifier.verify(&name, &options).await {
            Ok(report) => report.damage,
            Err(VersionError::NoWorkspace { .. }) => continue,
            Err(error) => panic!("{error:?}"),
        };
        if damage.is_empty() {
            read += 1;
            continue;
        }
        // What was let go in between may be gone.
        let after = version::read_reference(&store, &name).await.unwrap();
        let kept = after.is_some_and(|after| {
            after.reference.root == before.reference.root && after.reference.rows.iter().any(|kept| kept.id == row.id)
        });
        assert!(!kept, "version {} of {name} can't be read: {damage:?}", row.number);
    }
    read
}

/// The writes of one ref as one chain: each replaces what the one before it wrote, and loses nothing of it.
fn check_chain(name: &str, writes: &[Write], rows: &mut BTreeMap<Ulid, String>) {
    let mut by_replaced: HashMap<String, &Write> = HashMap::new();
    let mut births: Vec<&Write> = Vec::new();
    for write in writes {
        match write {
            Write::Put { replaced: None, .. } => births.push(write),
            Write::Put { replaced: Some(etag), .. } | Write::Delete { replaced: etag } => {
                let other = by_replaced.insert(etag.clone(), write);
                assert!(other.is_none(), "{name}: two writes replaced the same ref: {other:?} and {write:?}");
            }
        }
    }
    let mut walked = 0;
    for birth in births {
        let mut at = Some(birth);
        let mut before: Option<&Reference> = None;
        while let Some(Write::Put { etag, reference, .. }) = at {
            walked += 1;
            check_step(name, before, reference, rows);
            before = Some(reference);
            at = by_replaced.get(etag).copied();
        }
        walked += usize::from(matches!(at, Some(Write::Delete { .. })));
        if let Some(Write::Delete { .. }) = at {
            assert!(before.unwrap().deleted || before.unwrap().rows.is_empty(), "{name}: a living ref was removed");
        }
    }
    assert_eq!(walked, writes.len(), "{name}: writes that replaced something that nobody wrote");
}

fn check_step(name: &str, before: Option<&Reference>, after: &Reference, rows: &mut BTreeMap<Ulid, String>) {
    let empty = Reference::claimed(after.root);
    let before = match before {
        Some(before) if before.root == after.root => before,
        Some(before) => {
            assert!(before.deleted && after.rows.is_empty(), "{name}: a living root was replaced");
            &empty
        }
        None => &empty,
    };
    if after.deleted {
        return;
    }
    assert!(!before.deleted, "{name}: what was deleted came back");
    assert!(after.current >= before.current && after.collections >= before.collections, "{name}: a counter went back");
    let known: BTreeSet<Ulid> = before.rows.iter().map(|row| row.id).collect();
    let new: Vec<_> = after.rows.iter().filter(|row| !known.contains(&row.id)).collect();
    assert!(new.len() <= 1, "{name}: several versions in one swap");
    if let Some(row) = new.first() {
        assert_eq!((row.number, after.current), (before.current + 1, row.number), "{name}: a number was left out");
        assert!(rows.insert(row.id, name.to_owned()).is_none(), "{name}: a version was published twice");
    }
    let last: BTreeSet<u64> = after.rows.iter().map(|row| row.number).collect();
    for row in &before.rows {
        let let_go = u64::from(KEPT) + row.number <= after.current;
        assert!(last.contains(&row.number) || let_go, "{name}: version {} is lost", row.number);
    }
}

/// One workspace: two uploaders, a collector, a deleter and a reader. Gives what was published, and how many versions were
/// read.
async fn group(server: &Server, seen: &Arc<Seen>, number: usize, operations: u64) -> (BTreeSet<Ulid>, u64) {
    let name: WorkspaceName = format!("app-{number}").parse().unwrap();
    let (collections, deletions, reads) = (operations / 8, operations / 100, operations / 5);
    let pace = Pace::new(operations - collections - deletions - reads);
    let direct = servers::s3(&server.endpoint, &server.access_key, &server.secret_key, "workspaces");
    let direct = Store::connect(&direct).await.unwrap();
    let (one, two) = (behind(server, seen, true).await, behind(server, seen, true).await);
    let (three, four) = (behind(server, seen, false).await, behind(server, seen, false).await);
    let (published, others, (), (), read) = tokio::join!(
        Box::pin(uploader(one, name.clone(), pace.clone())),
        Box::pin(uploader(two, name.clone(), pace.clone())),
        Box::pin(collector(three, name.clone(), pace.clone(), collections)),
        Box::pin(deleter(four, name.clone(), pace.clone(), deletions)),
        Box::pin(reader(direct, name.clone(), pace.clone(), reads)),
    );
    (published.union(&others).copied().collect(), read)
}

async fn storm(operations: u64) {
    let server = Server::seaweedfs();
    let seen = Arc::new(Seen::default());
    // With all the patience of the default: what a probe has given up may still arrive.
    let direct = servers::s3(&server.endpoint, &server.access_key, &server.secret_key, "workspaces");
    let direct = Store::connect(&direct).await.unwrap();
    let bucket = Bucket::open_for_writing(&direct, &consent()).await.unwrap();
    let groups = (0..WORKSPACES).map(|number| Box::pin(group(&server, &seen, number, operations / WORKSPACES as u64)));
    let (published, read): (Vec<BTreeSet<Ulid>>, Vec<u64>) =
        futures::future::join_all(groups).await.into_iter().unzip();
    let published: BTreeSet<Ulid> = published.into_iter().flatten().collect();
    let read: u64 = read.into_iter().sum();

    let mut rows = BTreeMap::new();
    let writes = seen.writes.lock().unwrap().clone();
    for (name, writes) in &writes {
        check_chain(name, writes, &mut rows);
    }
    let lost: Vec<&Ulid> = published.iter().filter(|id| !rows.contains_key(id)).collect();
    assert!(lost.is_empty(), "published and in no ref: {lost:?}");

    clean_up(&direct, &bucket).await;
    let swaps: usize = writes.values().map(Vec::len).sum();
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    println!(
        "{operations} operations: {} versions published ({} told so), {read} read whole, {swaps} writes of refs, {} sweeps, \
         {} faults, {} swaps after a collection that was slept through",
        rows.len(),
        published.len(),
        count(&seen.sweeps),
        count(&seen.faults),
        count(&seen.slept_through),
    );
    // Otherwise it would prove nothing.
    assert!(read > 0 && count(&seen.sweeps) > 0 && count(&seen.faults) > 0 && !published.is_empty());
    assert!(operations < 1_000 || count(&seen.slept_through) > 10);
}

/// What clients have given up may still arrive: waits until two looks find the same.
async fn quiet(store: &Store) {
    let keys = async || store.list("").await.unwrap().into_iter().map(|object| object.key).collect::<Vec<_>>();
    let mut before = keys().await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = keys().await;
        if now == before {
            return;
        }
        before = now;
    }
    panic!("something goes on writing");
}

/// In fair weather one collection leaves what is needed; and deletion leaves nothing.
async fn clean_up(store: &Store, bucket: &Bucket) {
    let cache = Cache::at(None);
    let hosts = Hosts::default();
    let collector = Collector { store, cache: &cache, bucket, hosts: &hosts };
    quiet(store).await;
    let (references, skipped) = version::all_references(store).await.unwrap();
    assert!(skipped.is_empty(), "{skipped:?}");
    for (name, _) in &references {
        collector.collect(name, Options { grace: Duration::ZERO, dry_run: false }).await.unwrap();
        let Some(read) = version::read_reference(store, name).await.unwrap() else { continue };
        if !read.reference.is_visible() {
            continue;
        }
        let keys = Keys::new(name, read.reference.root);
        let needs = Needs::of(store, &cache, name, &read.reference, &hosts).await.unwrap();
        for object in store.list(keys.prefix()).await.unwrap() {
            let item = keys.item(&object.key).unwrap();
            assert!(needs.items.contains(&item), "{} was left behind", object.key);
        }
        let verifier = Verifier { store, budget: &Budget::default(), observer: Arc::new(Silent) };
        let report = verifier.verify(name, &VerifyOptions { version: None, deep: true }).await.unwrap();
        assert!(report.damage.is_empty(), "{report:?}");
    }
    for orphan in orphans::find(store, None, &hosts).await.unwrap() {
        assert_eq!(orphans::remove(store, &orphan).await.unwrap(), Deletion::default());
    }
    for (name, _) in references {
        match publish::remove(store, &name, bucket.record.delete_if_match).await {
            Ok(_) | Err(PublishError::Version(VersionError::NoWorkspace { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let left: Vec<String> = store.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(left, ["bucket.json"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_loses_nothing_and_leaves_nothing_behind() {
    storm(400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_ten_thousand_operations_in_a_storm_lose_nothing() {
    storm(10_000).await;
}
