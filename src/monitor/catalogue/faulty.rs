//! What is believed of the bucket while the store fails: either what it says, or what was known before, or nothing. Never that
//! something is gone or stopped.

#[path = "../../../tests/support/faults.rs"]
mod faults;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

pub use self::faults::{Director, Fault, Proxy, Request};
use super::*;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::embedded::{Credentials, Embedded, server};
use crate::hosts::Hosts;
use crate::output::Silent;
use crate::publish::{self, Publication, Publisher};
use crate::settings::{Backend, Keys as AccessKeys, Limits, S3Settings, StoreSettings};
use crate::store::bucket::WriteConsent;

/// What can happen to a request.
pub fn faults() -> impl Iterator<Item = Fault> {
    faults::COMMON.into_iter().chain([Fault::Answer(404, "NoSuchKey"), Fault::Answer(404, "NoSuchBucket")])
}

/// Those among them that differ for whoever only reads.
fn of_reading() -> impl Iterator<Item = Fault> {
    let like_others = |fault: &Fault| match fault {
        Fault::AnswerAfter(..) => true,
        Fault::Answer(status, _) => [409, 412, 503].contains(status),
        _ => false,
    };
    faults().filter(move |fault| !like_others(fault))
}

/// The embedded store on TCP, and the same without a port.
pub struct Served {
    pub direct: Store,
    bucket: Ulid,
    address: SocketAddr,
    credentials: Credentials,
    folder: TempDir,
}

impl Served {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("data");
        let embedded = Embedded::open(&directory).unwrap();
        let server = server::Server::bind(&embedded, &["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = server.addresses()[0];
        tokio::spawn(server.run(std::future::pending()));
        let settings = StoreSettings::embedded(&directory, "workspaces");
        let direct = Store::connect(&settings).await.unwrap();
        let consent = WriteConsent { yes: true, single_writer: false, ask: &|_| false };
        let bucket = Bucket::open_for_writing(&direct, &consent).await.unwrap().record.id;
        Self { direct, bucket, address, credentials: embedded.credentials().clone(), folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The store behind a proxy, by a client that tries nothing again by itself.
    pub async fn behind(&self, director: Arc<dyn Director>) -> (Store, Proxy) {
        let proxy = Proxy::start(&format!("http://{}", self.address), director).await;
        let short = Duration::from_millis(150);
        let keys = AccessKeys {
            access_key: self.credentials.access_key.clone(),
            secret_key: self.credentials.secret_key.clone(),
        };
        let settings = StoreSettings {
            backend: Backend::S3(S3Settings { endpoint: Some(proxy.endpoint.clone()), region: None, keys: Some(keys) }),
            bucket: "workspaces".to_owned(),
            limits: Limits { connect: short, attempt: short, stall: short, attempts: 1 },
            ca_bundle: None,
        };
        (Store::connect(&settings).await.unwrap(), proxy)
    }

    async fn publish(&self, name: &str, text: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("workspace.yaml"), "runtime: custom\nimage: x\nstart: ./serve\n").unwrap();
        std::fs::write(folder.path().join("serve"), text).unwrap();
        let consent = WriteConsent { yes: true, single_writer: false, ask: &|_| false };
        let (cache, budget) = (Cache::at(None), Budget::default());
        let (observer, committing) = (Arc::new(Silent), Arc::default());
        let store = &self.direct;
        let publisher = Publisher { store, cache: &cache, budget: &budget, observer, consent, committing };
        publisher.publish(&Publication::of(name.parse().unwrap(), folder.path().to_owned())).await.unwrap();
    }

    async fn look(&self, store: &Store, catalogue: &Mutex<Catalogue>) -> Result<(), PollError> {
        let confirmation = keys::confirmation("ENGINE");
        let looked = Poll { store, bucket: self.bucket, confirmation, only: &[], present: Vec::new() };
        poll(&looked, catalogue).await.map(drop)
    }
}

/// What is to be done with a workspace, in a word.
fn word(catalogue: &Mutex<Catalogue>, name: &str) -> String {
    match lock(catalogue).get(&name.parse().unwrap()).map(|entry| entry.desired.clone()) {
        None => "nothing known".to_owned(),
        Some(Desired::Unknown(_)) => "unknown".to_owned(),
        Some(Desired::Gone) => "gone".to_owned(),
        Some(Desired::Stopped) => "stopped".to_owned(),
        Some(Desired::Run(target)) => format!("run {}", target.number()),
    }
}

/// Workspaces, and what may be believed of each while the bucket becomes another and the store fails; the last is what is
/// right in the end.
const BELIEVED: [(&str, &[&str]); 6] = [
    ("calm", &["unknown", "run 1"]),
    ("changed", &["run 1", "unknown", "run 2"]),
    ("halted", &["unknown", "stopped"]),
    ("halting", &["run 1", "unknown", "stopped"]),
    ("new", &["nothing known", "unknown", "run 1"]),
    ("removed", &["run 1", "unknown", "gone"]),
];

fn is_believable(catalogue: &Mutex<Catalogue>, case: &str) {
    for (name, words) in BELIEVED {
        let found = word(catalogue, name);
        assert!(words.contains(&found.as_str()), "{case}: {name} is {found}");
    }
    assert!(lock(catalogue).withheld.is_empty(), "{case}");
}

/// A bucket that has become another since the monitor looked at it.
async fn scene() -> (Served, BTreeMap<WorkspaceName, Entry>) {
    let served = Served::new().await;
    for name in ["calm", "changed", "halted", "halting", "removed"] {
        served.publish(name, "one").await;
    }
    publish::set_stopped(&served.direct, &"halted".parse().unwrap(), true).await.unwrap();
    let catalogue = Mutex::new(Catalogue::default());
    served.look(&served.direct, &catalogue).await.unwrap();
    let known = lock(&catalogue).entries.clone();
    served.publish("changed", "two").await;
    served.publish("new", "one").await;
    publish::set_stopped(&served.direct, &"halting".parse().unwrap(), true).await.unwrap();
    publish::remove(&served.direct, &"removed".parse().unwrap(), true).await.unwrap();
    (served, known)
}

/// Looks three times through the faults, then twice in fair weather. Whether the faults came into it.
async fn looks(
    served: &Served,
    known: &BTreeMap<WorkspaceName, Entry>,
    at: u64,
    case: &str,
    fault: impl Fn(&Request, u64) -> Fault + Send + Sync + 'static,
) -> bool {
    let catalogue = Mutex::new(Catalogue { entries: known.clone(), withheld: Vec::new() });
    let seen = AtomicU64::new(0);
    let director = move |request: &Request| fault(request, seen.fetch_add(1, Ordering::SeqCst));
    let (store, proxy) = served.behind(Arc::new(director)).await;
    for _ in 0..3 {
        // Whatever it says: nothing wrong is believed.
        let _ = served.look(&store, &catalogue).await;
        is_believable(&catalogue, case);
    }
    for _ in 0..2 {
        served.look(&served.direct, &catalogue).await.unwrap();
        is_believable(&catalogue, case);
    }
    for (name, words) in BELIEVED {
        assert_eq!(Some(&word(&catalogue, name).as_str()), words.last(), "{case}: {name}");
    }
    proxy.requests() > at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_request_of_a_look_makes_nobody_stop_anything() {
    let (served, known) = scene().await;
    let mut cases = 0;
    for fault in of_reading() {
        for at in 0.. {
            let case = format!("{fault:?} at request {at}");
            let once = move |_: &Request, number| if number == at { fault } else { Fault::None };
            if !looks(&served, &known, at, &case, once).await {
                break;
            }
            cases += 1;
        }
    }
    assert!(cases >= of_reading().count() * 8, "{cases}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_from_some_request_on_makes_nobody_stop_anything() {
    let (served, known) = scene().await;
    let mut cases = 0;
    for fault in of_reading().filter(|fault| *fault != Fault::Stall) {
        for at in 0.. {
            let case = format!("{fault:?} from request {at} on");
            let on = move |_: &Request, number| if number >= at { fault } else { Fault::None };
            if !looks(&served, &known, at, &case, on).await {
                break;
            }
            cases += 1;
        }
    }
    assert!(cases >= of_reading().count() * 8, "{cases}");
}

/// A server that lists what it does not give: one that was just started may be like that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ref_that_is_listed_and_can_not_be_read_was_taken_for_deleted() {
    let (served, known) = scene().await;
    let missing = |request: &Request, _| {
        let reads = request.method == "GET" && request.path.contains("/refs/");
        if reads { Fault::Answer(404, "NoSuchKey") } else { Fault::None }
    };
    looks(&served, &known, 0, "no ref can be read", missing).await;
}

/// Collections go by what hosts say: one that can't be heard must not look as if it ran nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_listed_and_can_not_be_read_counted_as_one_that_runs_nothing() {
    let served = Served::new().await;
    let host = format!(
        r#"{{"format":1,"engine":"E","hostname":"e","tool":"0","holder":{{"instance":"{}","pid":1}},
        "started":"2026-01-01T00:00:00Z","beat":"2026-01-01T00:00:00Z","workspaces":{{}}}}"#,
        Ulid::generate()
    );
    served.direct.put(&keys::host("E"), host.into(), Condition::None).await.unwrap();
    let lost = |request: &Request| {
        let reads = request.method == "GET" && request.path.contains("/hosts/");
        if reads { Fault::Answer(404, "NoSuchKey") } else { Fault::None }
    };
    let (store, _proxy) = served.behind(Arc::new(lost)).await;
    let now = jiff::Timestamp::now();
    let mut hosts = Hosts::read(&store, now).await.unwrap();
    assert_eq!(hosts.skipped().next().map(|(key, _)| key.to_owned()), Some(keys::host("E")));
    hosts.refresh(&served.direct, now).await.unwrap();
    assert_eq!((hosts.skipped().count(), hosts.iter().count()), (0, 1));
}
