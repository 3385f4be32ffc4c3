//! `kill -9` at random moments: the binary on a real S3 server is killed in the middle of what it does, again and again.
//!
//! After each kill every version reads back whole, the current one is the old or the new one, and the same command once more
//! succeeds. In the end a collection leaves nothing that nobody needs. `WORKSPACE_KILL_SEED` repeats a run.

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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cli::{Ran, TestEnvironment};
use faults::{Fault, Proxy, Request};
use servers::Server;
use trees::{Node, Tree, file};
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::checkout::{CheckoutOptions, Fetcher};
use workspace::format::{Keys, Reference};
use workspace::hosts::Hosts;
use workspace::names::WorkspaceName;
use workspace::output::Silent;
use workspace::store::Store;
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::upkeep::collect::{Collector, Options};
use workspace::upkeep::needs::Needs;
use workspace::upkeep::verify::{Options as VerifyOptions, Verifier};
use workspace::version;

/// Versions that are kept, so that there is something to collect all the time.
const KEPT: u64 = 5;
/// What a run is killed later than its request, at most.
const LATER: Duration = Duration::from_millis(8);

/// A command that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Upload,
    Sync,
    Download,
    Tag,
    Rollback,
    Collect,
    First,
    Delete,
}

/// How long a command takes when nobody kills it.
#[derive(Debug, Clone, Copy)]
struct Usual {
    length: Duration,
    requests: u64,
}

struct World {
    server: Server,
    proxy: Proxy,
    direct: Store,
    bucket: Bucket,
    environment: TestEnvironment,
    random: fastrand::Rng,
    runtime: tokio::runtime::Runtime,
    /// The versions of `app`, by number.
    trees: BTreeMap<u64, Tree>,
    /// What is uploaded next.
    source: Tree,
    /// What is downloaded into.
    copy: Tree,
    changes: u64,
    usual: BTreeMap<Act, Usual>,
    /// By command: after how many requests it was killed, and how often.
    kills: BTreeMap<Act, BTreeMap<u64, u32>>,
    /// Runs that had ended when they were to be killed.
    missed: u32,
    /// Kills after which the new state was there already.
    done: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = Server::seaweedfs();
        let consent = WriteConsent { yes: false, single_writer: false, ask: &|_| false };
        let (proxy, direct, bucket) = runtime.block_on(async {
            let proxy = Proxy::start(&server.endpoint, Arc::new(|_: &Request| Fault::None)).await;
            let direct = Store::connect(&server.settings("workspaces")).await.unwrap();
            let bucket = Bucket::open_for_writing(&direct, &consent).await.unwrap();
            (proxy, direct, bucket)
        });
        let mut world = Self {
            server,
            proxy,
            direct,
            bucket,
            environment: TestEnvironment::new(),
            random: fastrand::Rng::with_seed(seed),
            runtime,
            trees: BTreeMap::new(),
            source: Tree::new(),
            copy: Tree::new(),
            changes: 0,
            usual: BTreeMap::new(),
            kills: BTreeMap::new(),
            missed: 0,
            done: 0,
        };
        for number in 1..=2 {
            world.change();
            let source = world.path("source");
            world.run(&["upload", "app", &source]).ok();
            world.trees.insert(number, world.source.clone());
        }
        world.run(&["retention", "app", "--last", &KEPT.to_string(), "--hours", "0", "--days", "0"]).ok();
        let copy = world.path("copy");
        world.run(&["download", "app@1", &copy]).ok();
        world.copy = world.trees[&1].clone();
        world
    }

    fn path(&self, name: &str) -> String {
        self.environment.folder(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.proxy.endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key)
            .env("S3_BUCKET", "workspaces");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs to the end, and remembers how long that took where the whole way was gone.
    fn again(&mut self, act: Act, arguments: &[&str], whole_way: bool) -> Ran {
        let (began, before) = (Instant::now(), self.proxy.requests());
        let ran = self.run(arguments);
        if whole_way {
            let requests = self.proxy.requests() - before;
            self.usual.insert(act, Usual { length: began.elapsed(), requests });
        }
        ran
    }

    /// Begins a command and kills it: at a moment of its usual length, or shortly after one of its requests. Not the first
    /// time, which tells how long it takes. True: it was killed.
    fn kill(&mut self, act: Act, arguments: &[&str]) -> bool {
        let Some(usual) = self.usual.get(&act).copied() else { return false };
        let before = self.proxy.requests();
        let mut child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if self.random.bool() {
            std::thread::sleep(usual.length.mul_f64(self.random.f64()));
        } else {
            let last = before + self.random.u64(0..usual.requests.max(1)) + 1;
            while self.proxy.requests() < last && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(LATER.mul_f64(self.random.f64()));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        // What it had asked for is done all the same.
        self.runtime.block_on(self.proxy.settled());
        if status.signal().is_none() {
            assert!(status.success(), "{act:?} {arguments:?}: {status}");
            self.missed += 1;
            return false;
        }
        *self.kills.entry(act).or_default().entry(self.proxy.requests() - before).or_default() += 1;
        true
    }

    /// Other files than in any version before.
    fn change(&mut self) {
        self.changes += 1;
        for _ in 0..self.random.u32(1..4) {
            let path = format!("folder-{}/file-{}", self.random.u32(0..3), self.random.u32(0..4));
            let length = match self.random.u32(0..8) {
                0 => self.random.usize(200_000..700_000),
                _ => self.random.usize(0..3_000),
            };
            if self.random.u32(0..5) == 0 {
                self.source.remove(&path);
            } else {
                let noise = self.noise(length);
                self.source.insert(path, noise);
            }
        }
        // Kinds change, too.
        self.source.retain(|path, _| !path.starts_with("kind"));
        let kind = match self.random.u32(0..4) {
            0 => ("kind", file("a file")),
            1 => ("kind/in", file("in a folder")),
            2 => ("kind", Node::Link("counter".to_owned())),
            _ => ("kind", Node::Empty),
        };
        self.source.insert(kind.0.to_owned(), kind.1);
        self.source.insert("counter".to_owned(), file(&self.changes.to_string()));
        let folder = self.environment.folder("source");
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        trees::write(&folder, &self.source);
    }

    fn noise(&mut self, length: usize) -> Node {
        let random = &mut self.random;
        Node::File(std::iter::repeat_with(|| random.u8(..)).take(length).collect(), random.bool())
    }

    fn reference(&self, name: &str) -> Option<Reference> {
        let read = self.runtime.block_on(version::read_reference(&self.direct, &name.parse().unwrap())).unwrap();
        read.map(|read| read.reference)
    }

    fn app(&self) -> Reference {
        self.reference("app").unwrap()
    }

    /// Every version can be read, down to the last byte.
    fn is_whole(&self, name: &str) {
        let verifier = Verifier { store: &self.direct, budget: &Budget::default(), observer: Arc::new(Silent) };
        let options = VerifyOptions { version: None, deep: true };
        let report = self.runtime.block_on(verifier.verify(&name.parse().unwrap(), &options)).unwrap();
        assert!(report.damage.is_empty(), "{name}: {report:?}");
    }

    /// A version, as it is fetched by somebody who has nothing of it.
    fn fetched(&self, selector: &str) -> Tree {
        let target = tempfile::tempdir().unwrap();
        let cache = Cache::at(None);
        let budget = Budget::default();
        let fetcher = Fetcher { store: &self.direct, cache: &cache, budget: &budget, observer: Arc::new(Silent) };
        let selector = selector.parse().unwrap();
        let checkout = fetcher.checkout(&selector, target.path(), CheckoutOptions::default());
        self.runtime.block_on(Box::pin(checkout)).unwrap();
        trees::read(target.path())
    }

    /// After a kill: `app` has the versions that it had, and at most one more, which is `new`; all of them are whole.
    fn is_old_or_new(&mut self, before: &Reference, new: Option<&Tree>) -> bool {
        let now = self.app();
        let published = now.current > before.current;
        if published {
            assert_eq!(now.current, before.current + 1);
            self.trees.insert(now.current, new.expect("nothing was to be published").clone());
        }
        assert_eq!(now.root, before.root);
        let ids: BTreeSet<_> = now.rows.iter().map(|row| row.id).collect();
        for row in &before.rows {
            // What its last tag has left is let go at the next change.
            let untagged = row.tags.iter().all(|tag| now.tagged(tag).is_some());
            let let_go = row.number + KEPT <= now.current && untagged;
            assert!(let_go || ids.contains(&row.id), "version {} is lost", row.number);
        }
        self.is_whole("app");
        assert_eq!(self.fetched("app"), self.trees[&now.current], "version {}", now.current);
        let row = &now.rows[self.random.usize(..now.rows.len())];
        assert_eq!(self.fetched(&format!("app@{}", row.number)), self.trees[&row.number], "version {}", row.number);
        self.done += u32::from(published);
        published
    }

    fn publish(&mut self, act: Act) {
        let before = self.app();
        self.change();
        let source = self.path("source");
        let arguments = [if act == Act::Sync { "sync" } else { "upload" }, "app", &source, "--json"];
        let new = self.source.clone();
        let killed = self.kill(act, &arguments);
        let published = self.is_old_or_new(&before, Some(&new));
        assert!(published || killed || !self.usual.contains_key(&act), "a success that published nothing");
        let again = self.again(act, &arguments, !published).ok().json();
        let expected = if published { "unchanged" } else { "published" };
        assert_eq!((&again["outcome"], &again["version"]), (&expected.into(), &(before.current + 1).into()));
        self.trees.insert(before.current + 1, new);
    }

    fn rollback(&mut self) {
        let before = self.app();
        let row = &before.rows[self.random.usize(..before.rows.len())];
        if row.tree == before.current_row().unwrap().tree {
            return;
        }
        let number = row.number.to_string();
        let (arguments, new) = (["rollback", "app", &number, "--json"], self.trees[&row.number].clone());
        self.kill(Act::Rollback, &arguments);
        let published = self.is_old_or_new(&before, Some(&new));
        if published && self.app().row(row.number).is_none() {
            // Its own new version has pushed it out.
            self.run(&arguments).fails(3, "it is no longer kept");
            return;
        }
        let again = self.again(Act::Rollback, &arguments, !published).ok().json();
        assert_eq!(again["version"], before.current + 1);
        self.trees.insert(before.current + 1, new);
    }

    fn tag(&mut self) {
        let before = self.app();
        let tag = "stable".parse().unwrap();
        let number = before.rows[self.random.usize(..before.rows.len())].number;
        let selector = format!("app@{number}");
        let arguments = ["tag", &selector, "stable", "--force"];
        self.kill(Act::Tag, &arguments);
        let now = self.app();
        let tagged = |reference: &Reference| reference.tagged(&tag).map(|row| row.number);
        let moved = tagged(&now) == Some(number);
        assert!(moved || tagged(&now) == tagged(&before), "{:?}, then {:?}", tagged(&before), tagged(&now));
        self.is_old_or_new(&before, None);
        self.again(Act::Tag, &arguments, !moved).ok();
        assert_eq!(tagged(&self.app()), Some(number));
    }

    fn collect(&mut self) {
        let before = self.app();
        let arguments = ["gc", "app", "--grace", "0s"];
        self.kill(Act::Collect, &arguments);
        self.is_old_or_new(&before, None);
        self.again(Act::Collect, &arguments, before.collections == self.app().collections).ok();
        assert_eq!(self.app().collection, None);
        self.is_old_or_new(&before, None);
    }

    fn download(&mut self) {
        let rows = self.app().rows;
        let number = rows[self.random.usize(..rows.len())].number;
        let (old, new) = (self.copy.clone(), self.trees[&number].clone());
        let (selector, copy) = (format!("app@{number}"), self.path("copy"));
        let arguments = ["download", &selector, &copy, "--delete"];
        self.kill(Act::Download, &arguments);
        let found = trees::read(&PathBuf::from(&copy));
        is_between(&found, &old, &new);
        self.again(Act::Download, &arguments, found != new).ok();
        assert_eq!(trees::read(&PathBuf::from(&copy)), new);
        self.copy = new;
    }

    /// A workspace from its first claim to its end.
    fn begin_and_end(&mut self) {
        self.change();
        let (name, source) = (format!("short-{}", self.changes), self.path("source"));
        let arguments = ["upload", &name, &source, "--json"];
        self.kill(Act::First, &arguments);
        let visible = self.reference(&name).filter(Reference::is_visible);
        if let Some(reference) = &visible {
            assert_eq!((reference.current, reference.rows.len()), (1, 1));
            self.is_whole(&name);
            self.done += 1;
        } else {
            self.run(&["download", &name, "nowhere"]).fails(3, "there is no workspace");
        }
        let again = self.again(Act::First, &arguments, visible.is_none()).ok().json();
        assert_eq!(again["version"], 1);
        assert_eq!(self.fetched(&name), self.source);

        let arguments = ["delete", &name, "--yes"];
        self.kill(Act::Delete, &arguments);
        let there = self.reference(&name);
        let untouched = there.as_ref().is_some_and(Reference::is_visible);
        if untouched {
            self.is_whole(&name);
            assert_eq!(self.fetched(&name), self.source);
        } else {
            self.run(&["download", &name, "nowhere"]).fails(3, "there is no workspace");
            self.done += 1;
        }
        let again = self.again(Act::Delete, &arguments, untouched);
        if there.is_some() {
            again.ok();
        } else {
            again.fails(3, "there is no workspace");
        }
        let left = self.runtime.block_on(self.direct.list(&format!("data/{name}/"))).unwrap();
        assert!(left.is_empty() && self.reference(&name).is_none(), "{name}: {left:?}");
    }

    fn act(&mut self) {
        match self.random.u32(0..13) {
            0..3 => self.publish(Act::Upload),
            3..5 => self.publish(Act::Sync),
            5..7 => self.download(),
            7 => self.tag(),
            8 => self.rollback(),
            9..11 => self.collect(),
            _ => self.begin_and_end(),
        }
    }

    fn killed(&self) -> u32 {
        self.kills.values().flat_map(BTreeMap::values).sum()
    }

    /// Collections leave what is needed, and nothing else in the whole bucket.
    fn is_clean(&self) {
        let name: WorkspaceName = "app".parse().unwrap();
        let (cache, hosts) = (Cache::at(None), Hosts::default());
        let collector = Collector { store: &self.direct, cache: &cache, bucket: &self.bucket, hosts: &hosts };
        self.runtime.block_on(async {
            collector.collect(&name, Options { grace: Duration::ZERO, dry_run: false }).await.unwrap();
            let reference = version::read_reference(&self.direct, &name).await.unwrap().unwrap().reference;
            let keys = Keys::new(&name, reference.root);
            let needs = Needs::of(&self.direct, &cache, &name, &reference, &hosts).await.unwrap();
            for object in self.direct.list("").await.unwrap() {
                let needed = keys.item(&object.key).is_some_and(|item| needs.items.contains(&item));
                assert!(needed || ["bucket.json", "refs/app.json"].contains(&&*object.key), "{} is left", object.key);
            }
        });
    }
}

/// Each path is as it was or as it shall be. Only where a file becomes a folder, a link or the other way round may there be
/// nothing for a moment.
fn is_between(found: &Tree, old: &Tree, new: &Tree) {
    let kind = |node: &Node| match node {
        Node::File(..) => 0,
        Node::Link(_) => 1,
        Node::Empty => 2,
    };
    for (path, node) in found {
        let known = old.get(path) == Some(node) || new.get(path) == Some(node);
        assert!(known || *node == Node::Empty, "`{path}` is neither as it was nor as it shall be");
    }
    for (path, before) in old {
        let Some(after) = new.get(path) else { continue };
        assert!(found.contains_key(path) || kind(before) != kind(after), "`{path}` is gone");
    }
}

fn storm(kills: u32) {
    let seed =
        std::env::var("WORKSPACE_KILL_SEED").ok().map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap());
    println!("WORKSPACE_KILL_SEED={seed}");
    let began = Instant::now();
    let mut world = World::new(seed);
    // Each once to its end, so that it is known how long it takes.
    world.publish(Act::Upload);
    world.publish(Act::Sync);
    world.download();
    world.tag();
    while !world.usual.contains_key(&Act::Rollback) {
        world.rollback();
    }
    world.collect();
    world.begin_and_end();
    while world.killed() < kills {
        world.act();
    }
    world.is_clean();
    for (act, kills) in &world.kills {
        let usual = world.usual[act];
        println!(
            "{act:?}: {} kills, by requests before it {kills:?}; usually {} requests in {:?}",
            kills.values().sum::<u32>(),
            usual.requests,
            usual.length
        );
    }
    let phases: usize = world.kills.values().map(BTreeMap::len).sum();
    println!(
        "{} kills in {phases} places, {} after which it was done, {} runs that had ended before; {} versions; {:?}",
        world.killed(),
        world.done,
        world.missed,
        world.app().current,
        began.elapsed()
    );
    // Otherwise it would prove little.
    assert!(phases >= 10, "{phases}");
}

#[test]
fn fifty_kills_tear_nothing() {
    storm(50);
}

#[test]
fn slow_five_hundred_kills_tear_nothing() {
    storm(500);
}
