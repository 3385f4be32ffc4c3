//! `workspace monitor`: makes what runs on this host equal to what the bucket says.
//!
//! ```text
//! catalogue ── what should be ──┐
//!                               ├─▶ situation ─▶ plan (pure) ─▶ execute ─▶ engine, router, store
//! engine, router ── what is ────┘        ▲                          │
//!                                        └────────── again ─────────┘
//! ```
//!
//! Level-triggered: events only say that it is time to look again. One task per workspace, so that one change per workspace
//! is under way at a time and several workspaces move at once. Everything that must survive a restart lies on the Engine
//! (labels, names, volumes), in the router's directory, or in the host's record in the bucket.

mod catalogue;
mod collecting;
mod diagnose;
mod execute;
mod follow;
mod holder;
mod http;
mod labels;
mod lease;
mod metrics;
mod observe;
mod plan;
mod record;
mod route;
mod situation;
mod tend;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::cache::Cache;
use crate::engine::{Compose, Engine, EngineError};
use crate::format::host::Managed;
use crate::names::Pattern;
use crate::names::WorkspaceName;
use crate::settings::Secrets;
use crate::store::bucket::{Bucket, BucketError, Level};
use crate::store::{Store, StoreError};

use catalogue::{Catalogue, Poll, PollError};
use follow::Follows;
use metrics::Metrics;
use record::HostRecord;
use situation::{ReleaseCommand, Target};

pub use http::Endpoint;
pub use record::RecordError;
pub use route::Traefik;
pub use situation::Limits;

/// Between two looks at the bucket after failures, at most.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);
/// Releases that are prepared at once.
const PREPARING: usize = 4;
/// A bucket that can't be reached for so long makes the monitor unhealthy.
const UNHEALTHY_AFTER: Duration = Duration::from_mins(2);

/// What a monitor is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to manage; empty: everything.
    pub only: Vec<Pattern>,
    /// Whose live release goes on to every version in its own containers.
    pub follow: Vec<Pattern>,
    /// Between two looks at the bucket.
    pub interval: Duration,
    /// How long things may take.
    pub limits: Limits,
    /// Seconds that an installation may take.
    pub install_limit: u64,
    /// How long a grant lasts.
    pub grant_lifetime: Duration,
    /// Traefik; `None`: a port on the host's loopback for each workspace.
    pub traefik: Option<Traefik>,
    /// A PEM file of certificate authorities for the containers.
    pub ca_bundle: Option<Vec<u8>>,
    /// `WORKSPACE_CDN_URL`, where it is set: containers ask it for packs, too.
    pub cdn: Option<String>,
    /// What applications ask for by name.
    pub secrets: Secrets,
    /// How often what no version needs is collected; `None`: never.
    pub collecting: Option<Collecting>,
}

/// When the monitor collects.
#[derive(Debug, Clone, Copy)]
pub struct Collecting {
    /// Between two collections of one workspace.
    pub every: Duration,
    /// How long something has to be unneeded, and listed.
    pub grace: Duration,
}

/// What a monitor works with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The store.
    pub store: Store,
    /// The same store under the address that containers see, for grants.
    pub presigner: Store,
    /// Manifests that were read before.
    pub cache: Cache,
    /// The Engine.
    pub engine: Engine,
    /// Docker Compose.
    pub compose: Compose,
}

/// Why a monitor can't work, or stops.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The store failed before anything was known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket can't be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Nothing was ever uploaded to it.
    #[error("{location} has never been used by workspace: there is nothing to run")]
    EmptyBucket {
        /// Where.
        location: String,
    },
    /// The Engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another monitor holds this Engine, or the record of this host can't be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The address for metrics is taken.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The directory of Traefik's file provider can't be used.
    #[error("can't use `{directory}`, the directory of Traefik's routes")]
    Routes {
        /// The directory.
        directory: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bucket can't be looked at.
    #[error(transparent)]
    Poll(#[from] PollError),
}

impl MonitorError {
    /// Whether nothing is wrong but that nothing was ever uploaded.
    pub fn is_first_upload_awaited(&self) -> bool {
        matches!(self, Self::EmptyBucket { .. } | Self::Bucket(BucketError::Store(StoreError::NoBucket { .. })))
    }

    /// Whether waiting may help: a store that is away, or a bucket to which nothing was uploaded yet.
    pub fn may_pass(&self) -> bool {
        match self {
            error if error.is_first_upload_awaited() => true,
            Self::Store(error) | Self::Bucket(BucketError::Store(error)) | Self::Record(RecordError::Store(error)) => {
                error.is_retryable()
            }
            _ => false,
        }
    }
}

/// A workspace's steps as they would be taken now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DryRun {
    /// The workspace.
    pub name: WorkspaceName,
    /// How it stands.
    pub phase: crate::format::host::HostPhase,
    /// Why.
    pub cause: String,
    /// Steps with their causes.
    pub steps: Vec<(String, String)>,
}

/// What came of one pass over everything.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Passed {
    /// By workspace.
    pub workspaces: BTreeMap<WorkspaceName, Managed>,
}

/// A running monitor. Shared by all its tasks.
pub struct Monitor {
    options: Options,
    with: Surroundings,
    bucket: Ulid,
    holder: crate::format::host::Holder,
    catalogue: Mutex<Catalogue>,
    /// One look at the bucket at a time.
    looking: tokio::sync::Mutex<()>,
    workspaces: Mutex<BTreeMap<WorkspaceName, Arc<Tended>>>,
    record: tokio::sync::Mutex<HostRecord>,
    preparing: Semaphore,
    follows: Follows,
    metrics: Metrics,
    /// Something in the record changed that others wait for.
    changed: Notify,
    /// A workspace came up that nobody looks after yet.
    arrived: Notify,
    stop: CancellationToken,
    /// Nothing may be changed.
    look_only: bool,
    bucket_seen: Mutex<Seen>,
}

/// When the bucket was last looked at.
struct Seen {
    last: std::time::Instant,
    problem: Option<String>,
}

/// One workspace's place in memory.
struct Tended {
    /// Wakes its task.
    wake: Notify,
    /// What is remembered.
    memory: Mutex<Memory>,
}

/// What is remembered of one workspace. Only `managed` outlives this process.
#[derive(Debug, Clone)]
struct Memory {
    managed: Managed,
    replaced: u8,
    release_command: BTreeMap<Ulid, ReleaseCommand>,
    created: BTreeMap<Ulid, Timestamp>,
    known: BTreeMap<Ulid, Target>,
    /// When a release's grant is to be renewed.
    renew: BTreeMap<Ulid, Timestamp>,
    /// What a live release that follows was told to go on to: its row, and the version.
    fed: Option<(Ulid, Target)>,
    /// The move of the traffic that was told, to and from, until the release has the name.
    moved: Option<(Ulid, Option<Ulid>)>,
    /// What the relay was last told, by container.
    relayed: Option<(String, Vec<String>)>,
    /// Errors in a row.
    errors: u32,
    /// With `--once`: it was brought as far as it goes.
    settled_once: bool,
}

impl Memory {
    fn new(managed: Managed) -> Self {
        Self {
            managed,
            replaced: 0,
            release_command: BTreeMap::new(),
            created: BTreeMap::new(),
            known: BTreeMap::new(),
            renew: BTreeMap::new(),
            fed: None,
            moved: None,
            relayed: None,
            errors: 0,
            settled_once: false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Monitor {
    /// Takes hold of the Engine. With `look_only` nothing is written anywhere.
    pub async fn begin(
        options: Options,
        with: Surroundings,
        stop: CancellationToken,
        look_only: bool,
    ) -> Result<Arc<Self>, MonitorError> {
        let bucket = Bucket::open_for_reading(&with.store)
            .await?
            .ok_or_else(|| MonitorError::EmptyBucket { location: with.store.location() })?;
        let bucket_id = bucket.record.id;
        let conditional = bucket.record.level == Level::Cas;
        if !conditional {
            // Its own record, and leases: there is nothing better to be had here.
            with.store.trust_single_writer();
        }
        if let Some(traefik) = &options.traefik {
            let routes = |source| MonitorError::Routes { directory: traefik.directory.display().to_string(), source };
            if !look_only {
                // So that a folder that can't be written is noticed now.
                tempfile::Builder::new().prefix(".route-").tempfile_in(&traefik.directory).map_err(routes)?;
            }
        }
        let mut record = HostRecord::open(&with.store, &with.engine, &options.only, conditional, look_only).await?;
        if !look_only {
            record.take(&with.store).await?;
            let network = labels::as_map(&BTreeMap::from([(labels::KIND.to_owned(), "network".to_owned())]));
            with.engine.ensure_network(labels::NETWORK, network).await?;
        }
        let remembered = record.workspaces();
        let monitor = Self {
            options,
            with,
            bucket: bucket_id,
            holder: record.holder().clone(),
            catalogue: Mutex::new(Catalogue::default()),
            looking: tokio::sync::Mutex::new(()),
            workspaces: Mutex::new(BTreeMap::new()),
            record: tokio::sync::Mutex::new(record),
            preparing: Semaphore::new(PREPARING),
            follows: Follows::default(),
            metrics: Metrics::new(),
            changed: Notify::new(),
            arrived: Notify::new(),
            stop,
            look_only,
            bucket_seen: Mutex::new(Seen { last: std::time::Instant::now(), problem: None }),
        };
        for (name, mut managed) in remembered {
            if let Some(failure) = managed.failure.as_mut().filter(|failure| failure.is_of_this_host()) {
                // What was in the way may have been mended for this start.
                failure.next_try = None;
            }
            monitor.tended_with(&name, || managed);
        }
        Ok(Arc::new(monitor))
    }

    fn tended(&self, name: &WorkspaceName) -> Arc<Tended> {
        self.tended_with(name, || Managed::new(Timestamp::now()))
    }

    fn tended_with(&self, name: &WorkspaceName, managed: impl FnOnce() -> Managed) -> Arc<Tended> {
        let mut workspaces = lock(&self.workspaces);
        if let Some(tended) = workspaces.get(name) {
            return Arc::clone(tended);
        }
        let memory = Mutex::new(Memory::new(managed()));
        let tended = Arc::new(Tended { wake: Notify::new(), memory });
        workspaces.insert(name.clone(), Arc::clone(&tended));
        self.arrived.notify_one();
        tended
    }

    /// Looks at the bucket once.
    async fn poll(&self) -> Result<Vec<WorkspaceName>, PollError> {
        let _looking = self.looking.lock().await;
        let present = lock(&self.workspaces).keys().cloned().collect();
        let poll = Poll {
            store: &self.with.store,
            bucket: self.bucket,
            confirmation: crate::format::keys::confirmation(self.with.engine.id()),
            only: &self.options.only,
            present,
        };
        let before = self.with.store.counts();
        let looked = catalogue::poll(&poll, &self.catalogue).await;
        let requests = (self.with.store.counts() - before).requests;
        self.metrics.store_requests.inc_by(requests);
        let mut seen = lock(&self.bucket_seen);
        match &looked {
            Ok(_) => {
                if seen.problem.take().is_some() {
                    tracing::info!(
                        seconds = seen.last.elapsed().as_secs(),
                        "the bucket answers again; what ran has gone on running"
                    );
                }
                seen.last = std::time::Instant::now();
                Metrics::count(&self.metrics.polls, "ok");
                #[expect(clippy::cast_precision_loss, reason = "seconds")]
                self.metrics.last_poll.set(Timestamp::now().as_second() as f64);
            }
            Err(error) => {
                let text = crate::output::with_causes(error);
                if seen.problem.as_ref() != Some(&text) {
                    tracing::warn!("the bucket can't be looked at, what runs goes on running: {text}");
                }
                seen.problem = Some(text);
                Metrics::count(&self.metrics.polls, "error");
            }
        }
        looked
    }

    /// Names on this host: of containers of this bucket, and remembered ones.
    async fn find_present(&self) -> Result<(), EngineError> {
        for container in self.with.engine.containers(labels::KIND).await? {
            if container.labels.get(labels::BUCKET).map(String::as_str) == Some(&self.bucket.to_string())
                && let Some(name) = container.labels.get(labels::NAME).and_then(|name| name.parse().ok())
            {
                self.tended(&name);
            }
        }
        Ok(())
    }

    /// Patterns of `--only` that nothing in the bucket matches, and nothing here.
    pub fn unmatched(&self) -> Vec<Pattern> {
        let mut names: Vec<WorkspaceName> = lock(&self.catalogue).names().cloned().collect();
        names.extend(lock(&self.workspaces).keys().cloned());
        let unmatched = |pattern: &&Pattern| !names.iter().any(|name| pattern.matches(name).is_some());
        self.options.only.iter().filter(unmatched).cloned().collect()
    }

    fn wake(&self, name: &WorkspaceName) {
        if let Some(tended) = lock(&self.workspaces).get(name) {
            tended.wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for tended in lock(&self.workspaces).values() {
            tended.wake.notify_one();
        }
    }

    /// Steps that would be taken now, without taking any.
    pub async fn dry_run(self: &Arc<Self>) -> Result<Vec<DryRun>, MonitorError> {
        self.find_present().await?;
        self.poll().await?;
        let mut names: Vec<WorkspaceName> = lock(&self.catalogue).names().cloned().collect();
        names.extend(lock(&self.workspaces).keys().cloned());
        names.sort();
        names.dedup();
        names.retain(|name| crate::names::chosen(&self.options.only, name).is_some());
        let mut runs = Vec::new();
        for name in names {
            let Ok(planned) = self.look(&name).await else { continue };
            runs.push(DryRun {
                name,
                phase: planned.phase,
                cause: planned.cause,
                steps: planned.steps.into_iter().map(|(step, cause)| (step.to_string(), cause)).collect(),
            });
        }
        Ok(runs)
    }

    /// Works until it is told to stop.
    pub async fn run(self: &Arc<Self>) -> Result<(), MonitorError> {
        self.work(false).await
    }

    /// Works until everything is as the bucket says, or has failed.
    pub async fn once(self: &Arc<Self>) -> Result<Passed, MonitorError> {
        self.work(true).await?;
        let workspaces = lock(&self.workspaces);
        let managed = |tended: &Arc<Tended>| lock(&tended.memory).managed.clone();
        let ours = workspaces.iter().filter(|(name, _)| crate::names::chosen(&self.options.only, name).is_some());
        Ok(Passed { workspaces: ours.map(|(name, tended)| (name.clone(), managed(tended))).collect() })
    }

    /// The last word: what runs here runs on, and nobody reconciles it.
    pub async fn end(&self) {
        self.follows.keep(|_| false);
        self.beat(true).await.unwrap_or_else(|error| tracing::warn!("the host's record was not written: {error}"));
    }
}

impl http::Reports for Monitor {
    fn health(&self) -> (bool, String) {
        let seen = lock(&self.bucket_seen);
        let age = seen.last.elapsed();
        match &seen.problem {
            Some(problem) if age > UNHEALTHY_AFTER => {
                (false, format!("the bucket was last seen {} s ago: {problem}", age.as_secs()))
            }
            Some(problem) => (true, format!("the bucket was last seen {} s ago: {problem}", age.as_secs())),
            None => (true, format!("ok: {}", crate::output::count(lock(&self.workspaces).len() as u64, "workspace"))),
        }
    }

    fn metrics(&self) -> String {
        let mut phases = BTreeMap::new();
        for tended in lock(&self.workspaces).values() {
            *phases.entry(lock(&tended.memory).managed.phase.as_str()).or_insert(0) += 1;
        }
        self.metrics.workspaces.clear();
        for (phase, count) in phases {
            self.metrics.workspaces.get_or_create(&metrics::PhaseLabel { phase: phase.to_owned() }).set(count);
        }
        self.metrics.text()
    }
}
