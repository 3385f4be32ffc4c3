//! Clocks that are days apart: a server whose times are not those of its clients, claims and lists by clocks that are wrong,
//! and a server that accepts no signature by such a clock. Nothing is lost, and what is refused says why.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cli::{Ran, TestEnvironment};
use faults::{Director, Fault, Proxy, Request};
use jiff::{SignedDuration, Timestamp};
use servers::Server;
use ulid::Ulid;
use workspace::cache::Cache;
use workspace::format::collection::List;
use workspace::format::{FORMAT, Keys, Reference};
use workspace::hosts::Hosts;
use workspace::names::WorkspaceName;
use workspace::settings::Backend;
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::store::{Condition, Store, StoreError};
use workspace::upkeep::collect::{Collector, Options, Report, Stage};

const DAYS: SignedDuration = SignedDuration::from_hours(72);
const HEADER: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// A server whose clock is so far ahead.
struct Ahead(SignedDuration);

impl Director for Ahead {
    fn fault(&self, _: &Request) -> Fault {
        Fault::None
    }

    fn change(&self, request: &Request, head: &mut String, body: &mut [u8]) {
        let lines: Vec<String> =
            head.lines().map(|line| self.header(line).unwrap_or_else(|| line.to_owned())).collect();
        *head = lines.join("\r\n") + "\r\n";
        if request.path.contains("list-type=2") {
            self.listing(body);
        }
    }
}

impl Ahead {
    /// `Last-Modified`, moved.
    fn header(&self, line: &str) -> Option<String> {
        let (name, value) = line.split_once(": ")?;
        if !name.eq_ignore_ascii_case("last-modified") {
            return None;
        }
        let time = jiff::civil::DateTime::strptime(HEADER, value).unwrap();
        Some(format!("{name}: {}", time.saturating_add(self.0).strftime(HEADER)))
    }

    /// `<LastModified>2026-01-01T00:00:00.000Z</LastModified>`, moved: what comes is as long as what was there.
    fn listing(&self, body: &mut [u8]) {
        const TAG: &[u8] = b"<LastModified>";
        let mut at = 0;
        while let Some(found) = body[at..].windows(TAG.len()).position(|window| window == TAG) {
            let start = at + found + TAG.len();
            let end = start + body[start..].iter().position(|byte| *byte == b'<').unwrap();
            let time: Timestamp = std::str::from_utf8(&body[start..end]).unwrap().parse().unwrap();
            let moved = (time + self.0).strftime("%Y-%m-%dT%H:%M:%S").to_string();
            body[start..start + moved.len()].copy_from_slice(moved.as_bytes());
            at = end;
        }
    }
}

struct Site {
    server: Server,
    direct: Store,
    runtime: tokio::runtime::Runtime,
    environment: TestEnvironment,
    _data: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data = tempfile::tempdir().unwrap();
        let server = Server::workspace(data.path());
        let direct = runtime.block_on(Store::connect(&server.settings("workspaces"))).unwrap();
        let consent = WriteConsent { yes: false, single_writer: false, ask: &|_| false };
        runtime.block_on(Bucket::open_for_writing(&direct, &consent)).unwrap();
        Self { server, direct, runtime, environment: TestEnvironment::new(), _data: data }
    }

    fn proxy(&self, director: Arc<dyn Director>) -> Proxy {
        self.runtime.block_on(Proxy::start(&self.server.endpoint, director))
    }

    fn run(&self, endpoint: &str, arguments: &[&str]) -> Ran {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key)
            .env("S3_BUCKET", "workspaces");
        command.output().unwrap().into()
    }

    fn source(&self, text: &str) -> PathBuf {
        let folder = self.environment.folder("source");
        fs::write(folder.join("text"), text).unwrap();
        let mut random = fastrand::Rng::new();
        fs::write(folder.join("noise"), std::iter::repeat_with(|| random.u8(..)).take(9_000).collect::<Vec<_>>())
            .unwrap();
        folder
    }

    fn upload(&self, endpoint: &str, text: &str) -> Ran {
        let folder = self.source(text);
        self.run(endpoint, &["upload", "app", folder.to_str().unwrap(), "--json"])
    }

    /// Three versions, of which retention keeps the last.
    fn with_garbage(&self) {
        for text in ["one", "two", "three"] {
            self.upload(&self.server.endpoint, text).ok();
        }
        let keep = ["retention", "app", "--last", "1", "--hours", "0", "--days", "0"];
        self.run(&self.server.endpoint, &keep).ok();
    }

    fn packs(&self) -> usize {
        let objects = self.runtime.block_on(self.direct.list("data/app/")).unwrap();
        objects.iter().filter(|object| object.key.contains("/packs/")).count()
    }

    fn reference(&self) -> Reference {
        Reference::parse(&self.runtime.block_on(self.direct.get("refs/app.json")).unwrap().body).unwrap()
    }

    fn put(&self, key: &str, body: Vec<u8>) {
        self.runtime.block_on(self.direct.put(key, body.into(), Condition::None)).unwrap();
    }

    fn collect(&self, endpoint: &str, grace: Duration) -> Report {
        let mut settings = self.server.settings("workspaces");
        if let Backend::S3(s3) = &mut settings.backend {
            s3.endpoint = Some(endpoint.to_owned());
        }
        let name: WorkspaceName = "app".parse().unwrap();
        self.runtime.block_on(async {
            let store = Store::connect(&settings).await.unwrap();
            let bucket = Bucket::open_for_reading(&store).await.unwrap().unwrap();
            let (cache, hosts) = (Cache::at(None), Hosts::default());
            let collector = Collector { store: &store, cache: &cache, bucket: &bucket, hosts: &hosts };
            collector.collect(&name, Options { grace, dry_run: false }).await.unwrap()
        })
    }

    fn is_whole(&self, text: &str) {
        self.run(&self.server.endpoint, &["verify", "app", "--deep"]).ok();
        assert_eq!(self.run(&self.server.endpoint, &["show", "app", "text"]).ok().stdout, text);
    }
}

fn at(time: Timestamp) -> Ulid {
    Ulid::from_parts(u64::try_from(time.as_millisecond()).unwrap(), 7)
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_collector_whose_clock_is_days_behind_deletes_nothing() {
    let site = Site::new();
    site.with_garbage();
    let proxy = site.proxy(Arc::new(Ahead(DAYS)));
    let (packs, endpoint) = (site.packs(), proxy.endpoint.as_str());
    for grace in ["1h", "0s"] {
        site.run(endpoint, &["gc", "app", "--grace", grace]).ok();
    }
    assert_eq!(site.packs(), packs, "everything looks as if it came from the future");
    site.upload(endpoint, "four").ok();
    site.is_whole("four");
}

#[test]
fn a_collector_whose_clock_is_days_ahead_deletes_nothing_that_is_needed() {
    let site = Site::new();
    site.with_garbage();
    let proxy = site.proxy(Arc::new(Ahead(-DAYS)));
    let endpoint = proxy.endpoint.as_str();
    // All of it looks three days old, so what nobody needs is listed at once, and deleted by the next run.
    let listed = site.run(endpoint, &["gc", "app", "--json"]).ok().json();
    assert_eq!(listed["workspaces"][0]["stage"], "listed");
    site.is_whole("three");
    // An upload that began before would lose its swap. This one reuses what is kept, and sends the rest.
    site.upload(endpoint, "four").ok();
    assert_eq!(site.packs(), 4);
    let deleted = site.run(endpoint, &["gc", "app", "--json"]).ok().json();
    assert!(deleted["workspaces"][0]["deleted"]["objects"].as_u64() >= Some(1), "{deleted}");
    // Only what was listed before version 4 came: the packs of the first two.
    assert_eq!(site.packs(), 2);
    site.is_whole("four");
}

#[test]
fn a_list_of_a_collector_whose_clock_was_ahead_held_up_all_others_for_days() {
    let site = Site::new();
    site.with_garbage();
    let mut reference = site.reference();
    let keys = Keys::new(&"app".parse().unwrap(), reference.root);
    let id = at(Timestamp::now() + DAYS);
    site.put(&keys.collection(id), serde_json::to_vec(&List { format: FORMAT, keys: Vec::new() }).unwrap());
    (reference.collection, reference.collections) = (Some(id), reference.collections + 1);
    site.put("refs/app.json", reference.to_bytes());
    let report = site.collect(&site.server.endpoint, HOUR);
    assert_eq!(report.stage, Stage::Listed);
    assert!(report.until.unwrap() < Timestamp::now() + SignedDuration::from_hours(2), "{report:?}");
    let report = site.collect(&site.server.endpoint, Duration::ZERO);
    assert!(report.stage == Stage::Clean && report.deleted.objects > 0, "{report:?}");
    assert_eq!(site.reference().collection, None);
    site.is_whole("three");
}

#[test]
fn a_claim_of_an_uploader_whose_clock_was_behind_was_taken_away_from_it() {
    let site = Site::new();
    let claim = |time: Timestamp| site.put("refs/app.json", Reference::claimed(at(time)).to_bytes());
    let is_there = || match site.runtime.block_on(site.direct.get("refs/app.json")) {
        Ok(_) => true,
        Err(StoreError::NotFound { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    let proxy = site.proxy(Arc::new(Ahead(-DAYS)));
    // By its own clock, by the server's clock: one of them is right.
    for (claimed, endpoint) in [
        (Timestamp::now() - DAYS, site.server.endpoint.as_str()),
        (Timestamp::now(), proxy.endpoint.as_str()),
        (Timestamp::now() + DAYS, proxy.endpoint.as_str()),
    ] {
        claim(claimed);
        site.collect(endpoint, HOUR);
        assert!(is_there(), "{claimed}");
    }
    // Nobody is at it any more, whichever is right.
    claim(Timestamp::now() - DAYS);
    site.collect(&proxy.endpoint, HOUR);
    assert!(!is_there());
}

/// After a sleep, say, the clock is wrong until it is set again.
#[test]
fn a_signature_by_a_wrong_clock_is_told_as_what_it_is_at_each_request() {
    let site = Site::new();
    site.upload(&site.server.endpoint, "0").ok();
    let mut told = 0;
    for request in 0.. {
        let skewed = move |asked: &Request| match asked.number {
            number if number >= request => Fault::Answer(403, "RequestTimeTooSkewed"),
            _ => Fault::None,
        };
        let proxy = site.proxy(Arc::new(skewed));
        let before = site.reference().current;
        let text = format!("{request}, and more");
        let ran = site.upload(&proxy.endpoint, &text);
        if proxy.requests() <= request {
            ran.ok();
            break;
        }
        told += 1;
        let error = "the clock of this machine and the store's differ by more than a signature allows";
        ran.fails(1, error).fails(1, "hint: set this machine's clock");
        assert_eq!(site.reference().current, before);
        let again = site.upload(&site.server.endpoint, &text).ok().json();
        assert_eq!(again["version"], before + 1);
        site.is_whole(&text);
    }
    assert!(told >= 4, "{told}");
}
