//! Many at once: sixteen processes that publish to one workspace, two hundred workspaces that are published to at the same
//! time. No version is lost, none has a number twice, no tree is mixed with another, and who lost is told so.

#![expect(clippy::print_stdout, reason = "the figures of a run")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cli::{Ran, TestEnvironment};
use servers::Server;
use trees::{Node, Tree, file, tree};
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::checkout::{CheckoutOptions, Fetcher};
use workspace::format::Reference;
use workspace::hosts::Hosts;
use workspace::output::{Silent, with_causes};
use workspace::publish::{Outcome, Publication, Publisher};
use workspace::settings::StoreSettings;
use workspace::store::Store;
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::upkeep::collect::{Collector, Options};
use workspace::upkeep::verify::{Options as VerifyOptions, Verifier};
use workspace::version;

const UPLOADERS: usize = 16;
const WORKSPACES: usize = 200;

/// Some of it is the same for all, and some is nobody else's.
fn tree_of(number: usize, round: u64) -> Tree {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let own: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(20_000).collect();
    let mut nodes = tree([
        ("common", file(&"the same for all ".repeat(500))),
        ("mark", file(&format!("{number}, round {round}"))),
        ("link", Node::Link(format!("own-{number}"))),
    ]);
    nodes.insert(format!("own-{number}"), Node::File(own, number.is_multiple_of(2)));
    nodes
}

fn write(folder: &Path, nodes: &Tree) {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    trees::write(folder, nodes);
}

async fn connected(settings: &StoreSettings) -> Store {
    Store::connect(settings).await.unwrap()
}

async fn reference(store: &Store, name: &str) -> Reference {
    version::read_reference(store, &name.parse().unwrap()).await.unwrap().unwrap().reference
}

async fn is_whole(store: &Store, name: &str) {
    let verifier = Verifier { store, budget: &Budget::default(), observer: Arc::new(Silent) };
    let options = VerifyOptions { version: None, deep: true };
    let report = verifier.verify(&name.parse().unwrap(), &options).await.unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
}

async fn fetched(store: &Store, selector: &str) -> Tree {
    let target = tempfile::tempdir().unwrap();
    let (cache, budget) = (Cache::at(None), Budget::default());
    let fetcher = Fetcher { store, cache: &cache, budget: &budget, observer: Arc::new(Silent) };
    let (selector, options) = (selector.parse().unwrap(), CheckoutOptions::default());
    Box::pin(fetcher.checkout(&selector, target.path(), options)).await.unwrap();
    trees::read(target.path())
}

/// Sixteen processes, each with a machine, an author and a tree of its own, begin in an empty store at the same moment. A
/// quarter of them wants to be the first or nothing.
fn uploaders_at_once(server: &Server) {
    let began = Instant::now();
    let expects = |number: usize| number % 4 == 3;
    let machines: Vec<TestEnvironment> = (0..UPLOADERS).map(|_| TestEnvironment::new()).collect();
    let children: Vec<_> = machines
        .iter()
        .enumerate()
        .map(|(number, machine)| {
            let folder = machine.folder("source");
            write(&folder, &tree_of(number, 1));
            let folder = folder.to_str().unwrap();
            let arguments = if expects(number) {
                vec!["sync", "app", folder, "--json", "--expect", "0"]
            } else {
                vec!["upload", "app", folder, "--json"]
            };
            machine
                .workspace(arguments)
                .env("S3_ENDPOINT", &server.endpoint)
                .env("S3_ACCESS_KEY", &server.access_key)
                .env("S3_SECRET_KEY", &server.secret_key)
                .env("S3_BUCKET", "workspaces")
                .env("USER", format!("author-{number}"))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let ran: Vec<Ran> = children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
    let length = began.elapsed();

    // What each was told.
    let mut told: BTreeMap<u64, (usize, String)> = BTreeMap::new();
    let mut refused = 0;
    for (number, ran) in ran.iter().enumerate() {
        if ran.code == Some(0) {
            let json = ran.json();
            assert_eq!(json["outcome"], "published", "{ran:?}");
            let version = json["version"].as_u64().unwrap();
            let other = told.insert(version, (number, json["id"].as_str().unwrap().to_owned()));
            assert!(other.is_none(), "version {version} was told to {other:?} and {number}");
            assert!(!expects(number) || version == 1, "{ran:?}");
        } else {
            assert!(expects(number), "{ran:?}");
            assert_eq!(ran.code, Some(4), "{ran:?}");
            assert!(ran.stderr.contains("`app` is at version ") && ran.stderr.contains(", not at 0"), "{ran:?}");
            refused += 1;
        }
    }
    let numbers: Vec<u64> = told.keys().copied().collect();
    assert_eq!(numbers, (1..=told.len() as u64).collect::<Vec<_>>(), "numbers have no gaps");
    assert!(told.len() >= UPLOADERS * 3 / 4);
    // Whoever replaced what it had not seen said so.
    for (version, (number, _)) in &told {
        let Some((before, _)) = told.get(&(version - 1)) else { continue };
        let warning = format!("this replaces version {} by author-{before}, which this machine", version - 1);
        assert!(expects(*number) || ran[*number].stderr.contains(&warning), "no `{warning}` in {:?}", ran[*number]);
    }

    // What is there.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = connected(&server.settings("workspaces")).await;
        for collected in [false, true] {
            let reference = reference(&store, "app").await;
            assert_eq!(reference.current, told.len() as u64);
            let found: Vec<(u64, String)> = reference.rows.iter().map(|row| (row.number, row.id.to_string())).collect();
            let expected: Vec<(u64, String)> = told.iter().map(|(version, (_, id))| (*version, id.clone())).collect();
            assert_eq!(found, expected);
            is_whole(&store, "app").await;
            for row in &reference.rows {
                let (number, _) = &told[&row.number];
                assert_eq!(row.author, Some(format!("author-{number}")));
                assert_eq!(fetched(&store, &format!("app@{}", row.number)).await, tree_of(*number, 1));
            }
            if !collected {
                collect(&store).await;
            }
        }
    });
    println!("{} published, {refused} told that they were not first, in {length:?}", told.len());
}

/// What those who lost have sent in vain goes, and nothing else.
async fn collect(store: &Store) {
    let bucket = Bucket::open_for_reading(store).await.unwrap().unwrap();
    let (cache, hosts) = (Cache::at(None), Hosts::default());
    let collector = Collector { store, cache: &cache, bucket: &bucket, hosts: &hosts };
    let options = Options { grace: Duration::ZERO, dry_run: false };
    let report = collector.collect(&"app".parse().unwrap(), options).await.unwrap();
    println!("{} objects were left over", report.deleted.objects);
}

/// One workspace of two hundred, each with a connection and a machine of its own: two versions, one after the other.
async fn two_versions(settings: StoreSettings, home: PathBuf, number: usize) -> Result<(), String> {
    let store = connected(&settings).await;
    let (cache, budget) = (Cache::at(Some(home.join("cache"))), Budget::default());
    for round in 1..=2 {
        let folder = home.join("source");
        write(&folder, &tree_of(number, round));
        let publisher = Publisher {
            store: &store,
            cache: &cache,
            budget: &budget,
            observer: Arc::new(Silent),
            consent: WriteConsent { yes: false, single_writer: false, ask: &|_| false },
            committing: Arc::default(),
        };
        let publication = Publication::of(format!("app-{number}").parse().unwrap(), folder);
        let report = Box::pin(publisher.publish(&publication)).await;
        let report = report.map_err(|error| format!("app-{number}, round {round}: {}", with_causes(&error)))?;
        assert_eq!((report.outcome, report.number), (Outcome::Published, round), "app-{number}");
    }
    Ok(())
}

async fn workspaces_at_once(settings: StoreSettings) {
    let began = Instant::now();
    let home = tempfile::tempdir().unwrap();
    let store = connected(&settings).await;
    let consent = WriteConsent { yes: false, single_writer: false, ask: &|_| false };
    Bucket::open_for_writing(&store, &consent).await.unwrap();
    let uploads =
        (0..WORKSPACES).map(|number| two_versions(settings.clone(), home.path().join(number.to_string()), number));
    let ended = futures::future::join_all(uploads.map(Box::pin)).await;
    let failed: Vec<String> = ended.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let length = began.elapsed();
    let (references, skipped) = version::all_references(&store).await.unwrap();
    assert_eq!((references.len(), skipped.len()), (WORKSPACES, 0));
    for number in 0..WORKSPACES {
        let name = format!("app-{number}");
        let reference = reference(&store, &name).await;
        assert_eq!(reference.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 2], "{name}");
        for round in 1..=2 {
            assert_eq!(fetched(&store, &format!("{name}@{round}")).await, tree_of(number, round), "{name}@{round}");
        }
    }
    println!("{WORKSPACES} workspaces, two versions each, in {length:?}");
}

#[test]
fn sixteen_uploaders_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    uploaders_at_once(&Server::workspace(folder.path()));
}

#[test]
fn slow_sixteen_uploaders_at_once_lose_nothing_on_seaweedfs() {
    uploaders_at_once(&Server::seaweedfs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_workspaces_at_once_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    workspaces_at_once(server.settings("workspaces")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_two_hundred_workspaces_at_once_stay_apart_on_seaweedfs() {
    let server = Server::seaweedfs();
    workspaces_at_once(server.settings("workspaces")).await;
}

/// The store in the same process reads its files on the same few threads that unpack what it sends.
#[test]
fn a_download_holds_no_thread_while_it_waits() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(2).build().unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut content = vec![0; 40 << 20];
    fastrand::Rng::with_seed(7).fill(&mut content);
    let source = home.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("large.bin"), &content).unwrap();
    let work = async {
        let store = Store::connect(&StoreSettings::embedded(&home.path().join("data"), "workspaces")).await.unwrap();
        let (cache, budget) = (Cache::at(None), Budget::default());
        let publisher = Publisher {
            store: &store,
            cache: &cache,
            budget: &budget,
            observer: Arc::new(Silent),
            consent: WriteConsent { yes: true, single_writer: false, ask: &|_| false },
            committing: Arc::default(),
        };
        publisher.publish(&Publication::of("app".parse().unwrap(), source)).await.unwrap();
        let fetcher = Fetcher { store: &store, cache: &cache, budget: &budget, observer: Arc::new(Silent) };
        fetcher.checkout(&"app".parse().unwrap(), &home.path().join("copy"), CheckoutOptions::default()).await.unwrap();
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), Box::pin(work)).await }).unwrap();
    assert!(std::fs::read(home.path().join("copy/large.bin")).unwrap() == content);
}
