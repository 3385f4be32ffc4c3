//! Every fault at every request of an upload and of a download, on a real S3 server: the command succeeds or says why, every
//! version reads back whole, a second run heals, and what is left over is collected.

#![expect(clippy::print_stdout, reason = "the figures of a run")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use faults::{Director, Fault, Proxy, Request};
use servers::Server;
use trees::{Node, Tree, file, tree};
use workspace::archive::{Archivist, FromUrl, Unfinished};
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::checkout::{CheckoutError, CheckoutOptions, CheckoutReport, Fetcher};
use workspace::format::Keys;
use workspace::format::retention::Retention;
use workspace::grant::Issuer;
use workspace::hosts::Hosts;
use workspace::names::WorkspaceName;
use workspace::output::{Silent, with_causes};
use workspace::publish::{self, Changed, Publication, PublishError, Publisher, Report, Rollback};
use workspace::settings::{Limits, StoreSettings};
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::store::{Granted, Store};
use workspace::upkeep::collect::{Collector, Options};
use workspace::upkeep::needs::Needs;
use workspace::upkeep::verify::{Options as VerifyOptions, Verifier};
use workspace::version;

/// What can happen to a request.
fn faults() -> impl Iterator<Item = Fault> {
    faults::COMMON.into_iter().chain([Fault::Delay(Duration::from_millis(20))])
}

/// One fault at one request.
struct At {
    fault: Fault,
    request: u64,
    seen: AtomicU64,
}

impl Director for At {
    fn fault(&self, _: &Request) -> Fault {
        // Requests are counted here: the SDK's own retries come after.
        if self.seen.fetch_add(1, Ordering::SeqCst) == self.request { self.fault } else { Fault::None }
    }
}

struct Site {
    server: Server,
    direct: Store,
    bucket: Bucket,
    folder: tempfile::TempDir,
}

fn settings(endpoint: &str, server: &Server) -> StoreSettings {
    let mut settings = servers::s3(endpoint, &server.access_key, &server.secret_key, "workspaces");
    let short = Duration::from_millis(300);
    settings.limits = Limits { connect: short, attempt: short, stall: short, ..Limits::default() };
    settings
}

fn consent() -> WriteConsent<'static> {
    WriteConsent { yes: false, single_writer: false, ask: &|_| false }
}

impl Site {
    async fn new() -> Self {
        let server = Server::seaweedfs();
        let settings = servers::s3(&server.endpoint, &server.access_key, &server.secret_key, "workspaces");
        let direct = Store::connect(&settings).await.unwrap();
        let bucket = Bucket::open_for_writing(&direct, &consent()).await.unwrap();
        Self { server, direct, bucket, folder: tempfile::tempdir().unwrap() }
    }

    /// The store behind a fault.
    async fn behind(&self, fault: Fault, request: u64) -> (Store, Proxy) {
        let director = At { fault, request, seen: AtomicU64::new(0) };
        let proxy = Proxy::start(&self.server.endpoint, Arc::new(director)).await;
        (Store::connect(&settings(&proxy.endpoint, &self.server)).await.unwrap(), proxy)
    }

    async fn upload(
        &self,
        store: &Store,
        cache: &Cache,
        name: &WorkspaceName,
        folder: &Path,
    ) -> Result<Report, PublishError> {
        self.publish(store, cache, &Publication::of(name.clone(), folder.to_owned())).await
    }

    async fn publish(&self, store: &Store, cache: &Cache, publication: &Publication) -> Result<Report, PublishError> {
        let publisher = Publisher {
            store,
            cache,
            budget: &Budget::default(),
            observer: Arc::new(Silent),
            consent: consent(),
            committing: Arc::default(),
        };
        Box::pin(publisher.publish(publication)).await
    }

    /// Every version that there is can be read, in fair weather.
    async fn is_whole(&self, name: &WorkspaceName, case: &str) {
        match version::read_reference(&self.direct, name).await.unwrap() {
            Some(read) if read.reference.is_visible() => {}
            _ => return,
        }
        let verifier = Verifier { store: &self.direct, budget: &Budget::default(), observer: Arc::new(Silent) };
        let report = verifier.verify(name, &VerifyOptions { version: None, deep: true }).await.unwrap();
        assert!(report.damage.is_empty(), "{case}: {report:?}");
    }

    /// Collections leave what is needed and nothing else. More than one: what a client has given up may arrive after it.
    async fn is_clean(&self, name: &WorkspaceName, case: &str) {
        let (cache, hosts) = (Cache::at(None), Hosts::default());
        let collector = Collector { store: &self.direct, cache: &cache, bucket: &self.bucket, hosts: &hosts };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            collector.collect(name, Options { grace: Duration::ZERO, dry_run: false }).await.unwrap();
            let reference = version::read_reference(&self.direct, name).await.unwrap().unwrap().reference;
            let keys = Keys::new(name, reference.root);
            let needs = Needs::of(&self.direct, &cache, name, &reference, &hosts).await.unwrap();
            let objects = self.direct.list(&format!("data/{name}/")).await.unwrap();
            let is_needed = |key: &str| keys.item(key).is_some_and(|item| needs.items.contains(&item));
            let left: Vec<&String> = objects.iter().map(|object| &object.key).filter(|key| !is_needed(key)).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{case}: {left:?} are left over");
        }
    }
}

fn first() -> Tree {
    let noise: Vec<u8> = (0..600_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    tree([
        ("a", file("a")),
        ("b/c", Node::File(noise, true)),
        ("b/link", Node::Link("c".into())),
        ("empty", Node::Empty),
    ])
}

fn write(folder: &Path, content: &Tree) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    trees::write(folder, content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_every_fault_at_every_request() {
    let site = Site::new().await;
    let source = site.folder.path().join("source");
    let mut changed = first();
    changed.insert("a".into(), file("changed"));
    changed.insert("new".into(), file(&"new ".repeat(2_000)));
    // The first version, and the one after it.
    for second in [false, true] {
        let mut cases = 0;
        for (number, fault) in faults().enumerate() {
            for request in 0.. {
                let name: WorkspaceName = format!("up-{second}-{number}-{request}").parse().unwrap();
                let case = format!("{fault:?} at request {request} of {name}");
                let home = tempfile::tempdir().unwrap();
                let cache = Cache::at(Some(home.path().to_owned()));
                if second {
                    write(&source, &first());
                    site.upload(&site.direct, &cache, &name, &source).await.unwrap();
                }
                write(&source, &changed);
                let (store, proxy) = site.behind(fault, request).await;
                let outcome = site.upload(&store, &cache, &name, &source).await;
                proxy.settled().await;
                if request >= proxy.requests() {
                    outcome.unwrap();
                    break;
                }
                cases += 1;
                site.is_whole(&name, &case).await;
                let told = match &outcome {
                    Ok(report) => report.number,
                    Err(error) => {
                        assert!(!with_causes(error).is_empty(), "{case}");
                        assert!(!matches!(fault, Fault::Delay(_)), "{case}: {error:?}");
                        0
                    }
                };
                // What was told to be published is there; a second run heals.
                let again = site.upload(&site.direct, &cache, &name, &source).await.unwrap();
                assert!(told == 0 || told == again.number, "{case}: told {told}, then {again:?}");
                let target = site.folder.path().join("target");
                let _ = std::fs::remove_dir_all(&target);
                checkout(&site.direct, &name, &target).await.unwrap();
                assert_eq!(trees::read(&target), changed, "{case}");
                site.is_clean(&name, &case).await;
            }
        }
        assert!(cases >= faults().count() * 3, "{cases}");
        println!("{cases} cases of an upload, second version: {second}");
    }
}

/// As CI does it: with a commit, and a tag that follows.
fn as_ci(name: &WorkspaceName, folder: &Path) -> Publication {
    Publication {
        commit: Some("c0ffee".to_owned()),
        author: Some("ci".to_owned()),
        tag: Some("staging".parse().unwrap()),
        supersede: true,
        ..Publication::of(name.clone(), folder.to_owned())
    }
}

/// `sync`: of a tree that is there already, whose tag has to move; or of another tree, with the tag.
async fn syncs_survive(changes: bool) {
    let site = Site::new().await;
    let source = site.folder.path().join("source");
    let (old, new) = (tree([("a", file("old"))]), tree([("a", file("new")), ("b", file(&"b ".repeat(3_000)))]));
    let mut cases = 0;
    for (number, fault) in faults().enumerate() {
        for request in 0.. {
            let name: WorkspaceName = format!("sync-{number}-{request}").parse().unwrap();
            let case = format!("{fault:?} at request {request} of {name}");
            let home = tempfile::tempdir().unwrap();
            let cache = Cache::at(Some(home.path().to_owned()));
            write(&source, &old);
            site.publish(&site.direct, &cache, &as_ci(&name, &source)).await.unwrap();
            write(&source, &new);
            if !changes {
                site.upload(&site.direct, &cache, &name, &source).await.unwrap();
            }
            let (store, proxy) = site.behind(fault, request).await;
            let outcome = site.publish(&store, &cache, &as_ci(&name, &source)).await;
            proxy.settled().await;
            if request >= proxy.requests() {
                outcome.unwrap();
                break;
            }
            cases += 1;
            site.is_whole(&name, &case).await;
            let tagged = async || {
                let reference = version::read_reference(&site.direct, &name).await.unwrap().unwrap().reference;
                (reference.current, reference.tagged(&"staging".parse().unwrap()).map(|row| row.number))
            };
            match &outcome {
                Ok(report) => assert_eq!((tagged().await, report.number), ((2, Some(2)), 2), "{case}"),
                Err(error) => {
                    assert!(!with_causes(error).is_empty() && !matches!(fault, Fault::Delay(_)), "{case}: {error:?}");
                    let (current, tagged) = tagged().await;
                    // Version and tag come by one swap.
                    assert!(tagged == Some(1) || (current, tagged) == (2, Some(2)), "{case}: {tagged:?}");
                    assert!(!changes || tagged == Some(current), "{case}: {current}, {tagged:?}");
                }
            }
            let again = site.publish(&site.direct, &cache, &as_ci(&name, &source)).await.unwrap();
            assert_eq!((again.number, tagged().await), (2, (2, Some(2))), "{case}");
            let target = site.folder.path().join("target");
            let _ = std::fs::remove_dir_all(&target);
            checkout(&site.direct, &name, &target).await.unwrap();
            assert_eq!(trees::read(&target), new, "{case}");
            site.is_clean(&name, &case).await;
        }
    }
    assert!(cases >= faults().count() * 2, "{cases}");
    println!("{cases} cases of a sync, which changes something: {changes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_a_sync_that_moves_a_tag_survives_every_fault_at_every_request() {
    syncs_survive(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_a_sync_that_publishes_survives_every_fault_at_every_request() {
    syncs_survive(true).await;
}

async fn checkout(store: &Store, name: &WorkspaceName, target: &Path) -> Result<CheckoutReport, String> {
    let cache = Cache::at(None);
    let fetcher = Fetcher { store, cache: &cache, budget: &Budget::default(), observer: Arc::new(Silent) };
    let selector = name.as_str().parse().unwrap();
    let options = CheckoutOptions { delete: true, ..CheckoutOptions::default() };
    Box::pin(fetcher.checkout(&selector, target, options)).await.map_err(|error| with_causes(&error))
}

/// How a download comes by a version.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// With keys.
    Keys,
    /// As a container does, with addresses that were signed for it.
    Grant,
    /// From the URL of an archive.
    Url,
}

impl Site {
    /// Fetches through a fault: what came of it, and how many requests there were.
    async fn fetch(
        &self,
        way: Way,
        fault: Fault,
        request: u64,
        name: &WorkspaceName,
        target: &Path,
    ) -> (Result<(), String>, u64) {
        let (seen, proxy) = self.behind(fault, request).await;
        let limits = settings(&proxy.endpoint, &self.server).limits;
        let options = CheckoutOptions { delete: true, ..CheckoutOptions::default() };
        let cache = Cache::at(None);
        let (day, now) = (Duration::from_hours(24), jiff::Timestamp::now());
        let budget = Budget::default();
        let outcome = match way {
            Way::Keys => checkout(&seen, name, target).await.map(|_| ()),
            Way::Grant => {
                let reference = version::existing_reference(&self.direct, name).await.unwrap().reference;
                let issuer = Issuer { store: &self.direct, presigner: &seen, cache: &cache };
                let row = reference.current_row().unwrap();
                let grant = issuer.issue(name, reference.root, row, day, now).await.unwrap();
                let (addresses, expires) = (grant.addresses, grant.expires);
                let store = Store::granted(&Granted { addresses, expires, limits, ca_bundle: None }).unwrap();
                let keys = Keys::new(name, grant.root);
                let fetched = async {
                    let loaded = version::load(&store, &cache, &keys, grant.root, &grant.row).await?;
                    let fetcher = Fetcher { store: &store, cache: &cache, budget: &budget, observer: Arc::new(Silent) };
                    fetcher.materialize(&keys, grant.row, loaded.manifest.into(), target, options).await
                };
                Box::pin(fetched).await.map(|_| ()).map_err(|error: CheckoutError| with_causes(&error))
            }
            Way::Url => {
                let archivist = Archivist {
                    store: &self.direct,
                    cache: &cache,
                    budget: &budget,
                    observer: Arc::new(Silent),
                    unfinished: &Unfinished::default(),
                };
                let archived = Box::pin(archivist.archive(&name.as_str().parse().unwrap())).await.unwrap();
                let url = seen.presign(&archived.key, day).await.unwrap().parse().unwrap();
                let work = FromUrl { limits, ca_bundle: None, budget: &budget, observer: Arc::new(Silent) };
                let fetched = Box::pin(work.download(&url, target, options)).await;
                fetched.map(|_| ()).map_err(|error| with_causes(&error))
            }
        };
        (outcome, proxy.requests())
    }

    async fn downloads_survive(&self, way: Way) {
        let (source, target) = (self.folder.path().join("source"), self.folder.path().join("target"));
        let name: WorkspaceName = "down".parse().unwrap();
        let old = tree([("a", file("old")), ("gone", file("gone"))]);
        write(&source, &old);
        self.upload(&self.direct, &Cache::at(None), &name, &source).await.unwrap();
        let before = self.folder.path().join("before");
        checkout(&self.direct, &name, &before).await.unwrap();
        write(&source, &first());
        self.upload(&self.direct, &Cache::at(None), &name, &source).await.unwrap();
        let mut cases = 0;
        for fault in faults().chain([Fault::Flip]) {
            for request in 0.. {
                let case = format!("{way:?}: {fault:?} at request {request}");
                let _ = std::fs::remove_dir_all(&target);
                assert!(
                    std::process::Command::new("cp").arg("-a").args([&before, &target]).status().unwrap().success()
                );
                let (outcome, requests) = self.fetch(way, fault, request, &name, &target).await;
                if request >= requests {
                    outcome.unwrap();
                    break;
                }
                cases += 1;
                // All of it or nothing of it.
                let found = trees::read(&target);
                match outcome {
                    Ok(()) => assert_eq!(found, first(), "{case}"),
                    Err(error) => {
                        assert!(!error.is_empty() && !matches!(fault, Fault::Delay(_)), "{case}: {error}");
                        assert!(!error.contains("X-Amz-"), "{case}: {error}");
                        assert_eq!(found, old, "{case}: {error}");
                    }
                }
                checkout(&self.direct, &name, &target).await.unwrap();
                assert_eq!(trees::read(&target), first(), "{case}");
            }
        }
        // Of an archive everything lies in one object.
        let requests = if matches!(way, Way::Url) { 2 } else { 3 };
        assert!(cases >= faults().count() * requests, "{way:?}: {cases}");
        println!("{cases} cases of a download by {way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_every_fault_at_every_request() {
    Site::new().await.downloads_survive(Way::Keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_by_a_grant_survives_every_fault_at_every_request() {
    Site::new().await.downloads_survive(Way::Grant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_from_a_url_survives_every_fault_at_every_request() {
    Site::new().await.downloads_survive(Way::Url).await;
}

/// What changes a workspace without sending a tree.
#[derive(Debug, Clone, Copy)]
enum Change {
    Tag,
    Rollback,
    Retention,
    Collection,
    Deletion,
}

impl Site {
    async fn change(&self, change: Change, store: &Store, name: &WorkspaceName) -> Result<(), String> {
        let cache = Cache::at(None);
        match change {
            Change::Tag => {
                let (selector, tag) = (format!("{name}@1").parse().unwrap(), "stable".parse().unwrap());
                let tagged = Box::pin(publish::set_tag(store, &selector, &tag, true)).await;
                tagged.map(drop).map_err(|error| with_causes(&error))
            }
            Change::Rollback => {
                let publisher = Publisher {
                    store,
                    cache: &cache,
                    budget: &Budget::default(),
                    observer: Arc::new(Silent),
                    consent: consent(),
                    committing: Arc::default(),
                };
                let wanted = Rollback {
                    name: name.clone(),
                    to: Some(workspace::names::Version::Number(1)),
                    message: None,
                    author: None,
                    tag: None,
                    expect: None,
                };
                Box::pin(publisher.rollback(&wanted)).await.map(drop).map_err(|error| with_causes(&error))
            }
            Change::Retention => {
                let keep = publish::decide(store, name, |reference| {
                    reference.retention = Some(Retention { last: 2, hours: 0, days: 0 });
                    Ok(Changed::Yes)
                });
                Box::pin(keep).await.map(drop).map_err(|error| with_causes(&error))
            }
            Change::Collection => {
                let hosts = Hosts::read(store, jiff::Timestamp::now()).await.map_err(|error| with_causes(&error))?;
                let collector = Collector { store, cache: &cache, bucket: &self.bucket, hosts: &hosts };
                let collected = collector.collect(name, Options { grace: Duration::ZERO, dry_run: false });
                Box::pin(collected).await.map(drop).map_err(|error| with_causes(&error))
            }
            Change::Deletion => {
                let removed = publish::remove(store, name, self.bucket.record.delete_if_match);
                Box::pin(removed).await.map(drop).map_err(|error| with_causes(&error))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_every_change_survives_every_fault_at_every_request() {
    let site = Site::new().await;
    let source = site.folder.path().join("source");
    for change in [Change::Tag, Change::Rollback, Change::Retention, Change::Collection, Change::Deletion] {
        let mut cases = 0;
        for (number, fault) in faults().enumerate() {
            for request in 0.. {
                let name: WorkspaceName = format!("{change:?}-{number}-{request}").to_lowercase().parse().unwrap();
                let case = format!("{fault:?} at request {request} of {name}");
                let cache = Cache::at(None);
                for version in 0..3 {
                    write(&source, &tree([("a", file(&format!("{version} {}", "a".repeat(version * 1_000))))]));
                    site.upload(&site.direct, &cache, &name, &source).await.unwrap();
                }
                if matches!(change, Change::Collection) {
                    site.change(Change::Retention, &site.direct, &name).await.unwrap();
                }
                let (store, proxy) = site.behind(fault, request).await;
                let outcome = site.change(change, &store, &name).await;
                proxy.settled().await;
                if request >= proxy.requests() {
                    outcome.unwrap();
                    break;
                }
                cases += 1;
                site.is_whole(&name, &case).await;
                if let Err(error) = &outcome {
                    assert!(!error.is_empty() && !matches!(fault, Fault::Delay(_)), "{case}: {error}");
                }
                // A second run heals; what was deleted is gone, and says so.
                let again = site.change(change, &site.direct, &name).await;
                if matches!(change, Change::Deletion) {
                    assert!(
                        again.as_ref().is_ok_and(|()| true) || again.unwrap_err().contains("there is no workspace")
                    );
                    assert_eq!(site.direct.list(&format!("data/{name}/")).await.unwrap(), [], "{case}");
                    assert_eq!(site.direct.list(&format!("refs/{name}.json")).await.unwrap(), [], "{case}");
                } else {
                    again.unwrap();
                    site.is_whole(&name, &case).await;
                    site.is_clean(&name, &case).await;
                }
            }
        }
        assert!(cases >= faults().count(), "{cases}");
        println!("{cases} cases of {change:?}");
    }
}
