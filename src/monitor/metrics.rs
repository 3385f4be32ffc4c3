//! What the monitor counts, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The outcome of something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `ok` or `error`; for releases `live`, `bad`, `failed`, `went_back`.
    pub outcome: String,
}

/// The phase of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabel {
    /// As in `workspace status`.
    pub phase: String,
}

/// A kind of step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabel {
    /// `create`, `route`, …
    pub step: String,
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Looks at the bucket.
    pub polls: Family<OutcomeLabel, Counter>,
    /// Rounds of observing, planning and acting on one workspace.
    pub reconciles: Family<OutcomeLabel, Counter>,
    /// How long such a round takes.
    pub reconcile_seconds: Histogram,
    /// Steps taken.
    pub steps: Family<StepLabel, Counter>,
    /// Releases that came to an end.
    pub releases: Family<OutcomeLabel, Counter>,
    /// From a release's creation until it has traffic.
    pub release_seconds: Histogram,
    /// Workspaces by phase.
    pub workspaces: Family<PhaseLabel, Gauge>,
    /// Requests to the store.
    pub store_requests: Counter,
    /// Seconds since the epoch of the last look at the bucket that succeeded.
    pub last_poll: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// With nothing counted.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("workspace_monitor");
        let polls = Family::default();
        registry.register("bucket_polls", "Listings of the refs in the bucket", polls.clone());
        let reconciles = Family::default();
        registry.register(
            "reconciles",
            "Rounds of observing, planning and acting on one workspace",
            reconciles.clone(),
        );
        let reconcile_seconds = Histogram::new(exponential_buckets(0.005, 3.0, 9));
        registry.register_with_unit("reconcile", "Duration of such a round", Unit::Seconds, reconcile_seconds.clone());
        let steps = Family::default();
        registry.register("steps", "Steps taken, by kind", steps.clone());
        let releases = Family::default();
        registry.register("releases", "Releases that went live, failed or went back", releases.clone());
        let release_seconds = Histogram::new(exponential_buckets(0.5, 2.0, 11));
        registry.register_with_unit(
            "release",
            "From a release's creation until it has traffic",
            Unit::Seconds,
            release_seconds.clone(),
        );
        let workspaces = Family::default();
        registry.register("workspaces", "Workspaces on this host, by phase", workspaces.clone());
        let store_requests = Counter::default();
        registry.register(
            "store_requests",
            "Requests to the object store, each attempt counted",
            store_requests.clone(),
        );
        let last_poll = Gauge::default();
        registry.register_with_unit(
            "last_bucket_poll_timestamp",
            "When the bucket was last looked at with success, since the epoch",
            Unit::Seconds,
            last_poll.clone(),
        );
        Self {
            registry,
            polls,
            reconciles,
            reconcile_seconds,
            steps,
            releases,
            release_seconds,
            workspaces,
            store_requests,
            last_poll,
        }
    }

    /// Counts an outcome.
    pub fn count(family: &Family<OutcomeLabel, Counter>, outcome: &str) {
        family.get_or_create(&OutcomeLabel { outcome: outcome.to_owned() }).inc();
    }

    /// Notes how long something took.
    pub fn observe(histogram: &Histogram, duration: Duration) {
        histogram.observe(duration.as_secs_f64());
    }

    /// As Prometheus reads it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to text can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
