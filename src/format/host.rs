//! What one host runs: `hosts/<engine id>.json`, written by that host's monitor alone.
//!
//! It is heartbeat, memory and report in one: a monitor that comes back reads here which releases it found bad, and
//! anybody else reads here what runs where. It repeats the rows of the releases that the host still needs, so that a
//! collection spares them even when the ref has thinned them out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use super::{FORMAT, FormatError, Row};
use crate::names::WorkspaceName;

/// Seconds between two beats.
pub const BEAT_SECONDS: i64 = 30;
/// A host whose last beat is older than this many beats is away.
pub const AWAY_AFTER_BEATS: i64 = 3;
/// Largest record that is read, in bytes.
pub const MAX_BYTES: u64 = 32 << 20;

/// One host with its monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Format number.
    pub format: u32,
    /// The Docker Engine's id.
    pub engine: String,
    /// The machine's name, for people.
    pub hostname: String,
    /// The release of `workspace` that runs the monitor.
    pub tool: String,
    /// The monitor that holds this engine.
    pub holder: Holder,
    /// When the monitor started.
    pub started: Timestamp,
    /// When it last wrote this.
    pub beat: Timestamp,
    /// Whether it ended on purpose: the host's workspaces run on, and nobody reconciles them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ended: bool,
    /// What it was told to manage (`--only`); empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// What it manages.
    #[serde(default)]
    pub workspaces: BTreeMap<WorkspaceName, Managed>,
    /// Workspaces that vanished from the bucket together with many others: they run until a person confirms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<WorkspaceName>,
    /// What a later release added.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Which process holds an engine, in terms by which another one can tell whether it is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Made anew at each start.
    pub instance: Ulid,
    /// Its process number.
    pub pid: u32,
    /// What tells that process from a later one with the same number, and its machine and namespace from others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub process: String,
    /// The container it runs in, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// One workspace on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Managed {
    /// What is being done.
    pub phase: HostPhase,
    /// Since when.
    pub since: Timestamp,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// The release that has the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<HostRelease>,
    /// The version that the live release has gone on to in its own containers, where it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<HostRelease>,
    /// The release that is to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<HostRelease>,
    /// The release that stands by to come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<HostRelease>,
    /// The last release that was served well to the end of its watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<HostRelease>,
    /// Docker's word on the live release: `healthy`, `unhealthy`, `starting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The workspace whose release answers there instead of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answering: Option<WorkspaceName>,
    /// What went wrong last; gone once a later release is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Releases that failed and are not tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<Bad>,
    /// The port on the host's loopback, where there is no router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// What a later release added.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A release: one version on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRelease {
    /// The workspace's incarnation.
    pub root: Ulid,
    /// The version, as the ref had it.
    pub row: Row,
    /// Since when it has been what it is.
    pub since: Timestamp,
}

/// A release that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Its row.
    pub row: Ulid,
    /// Its number, for people.
    pub number: u64,
    /// The ref's mark of the last `retry` at that time: another one there clears this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Ulid>,
}

/// What is being done with a workspace on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostPhase {
    /// Nothing yet.
    Pending,
    /// The new release brings its tree.
    Fetch,
    /// It installs its dependencies.
    Install,
    /// It builds.
    Build,
    /// Its release command runs, here or on another host.
    Release,
    /// It starts.
    Start,
    /// It answers and is looked at for a while.
    Soak,
    /// Traffic is being moved to it.
    Route,
    /// It has the traffic; the old one finishes what it has.
    Drain,
    /// The old one stands by.
    Watch,
    /// As the bucket says.
    Live,
    /// As the bucket says: it shall not run.
    Stopped,
    /// The version has nothing to start.
    Stored,
    /// The current version failed here; see [`Managed::failure`]. What was live before still is.
    Failed,
    /// Something outside stands in the way; tried again.
    Waiting,
    /// Written by a later release.
    #[serde(other)]
    Unknown,
}

impl HostPhase {
    /// Whether nothing more is done in it but waiting.
    pub fn is_rest(self) -> bool {
        matches!(self, Self::Live | Self::Watch | Self::Stopped | Self::Stored | Self::Failed | Self::Waiting)
    }

    /// The name as in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fetch => "fetch",
            Self::Install => "install",
            Self::Build => "build",
            Self::Release => "release",
            Self::Start => "start",
            Self::Soak => "soak",
            Self::Route => "route",
            Self::Drain => "drain",
            Self::Watch => "watch",
            Self::Live => "live",
            Self::Stopped => "stopped",
            Self::Stored => "stored",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a release failed on a host: what a person needs to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its row.
    pub row: Ulid,
    /// Its number.
    pub number: u64,
    /// In which step: `create`, `secrets` (a variable isn't set on that host), `fetch`, `install`, `build`, `release`,
    /// `start`, `ready`, `soak`, `route`, `watch`, `run`.
    pub step: String,
    /// What happened, in one sentence.
    pub reason: String,
    /// The last lines of its log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    /// What listens where in its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// When.
    pub at: Timestamp,
    /// Whether the release itself is to blame, so that it is not tried again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bad: bool,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// The ref's mark of the last `retry` at that time: with another one there it is tried again at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Ulid>,
}

impl Failure {
    /// Whether it is for what the host lacks: an image, a secret, room.
    pub fn is_of_this_host(&self) -> bool {
        !self.bad && ["create", "secrets"].contains(&self.step.as_str())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Host {
    /// Reads the object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FormatError::OverLimit { what: "a host's record", limit: MAX_BYTES });
        }
        let damaged = |error: serde_json::Error| FormatError::Damaged(format!("it is no host's record: {error}"));
        let probe: Probe = serde_json::from_slice(bytes).map_err(damaged)?;
        if probe.format > FORMAT {
            return Err(FormatError::Newer { found: probe.format });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing here can fail to serialise: all keys are text and all numbers are integers.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether its monitor was at work at this time.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.ended && now.duration_since(self.beat).as_secs() <= BEAT_SECONDS * AWAY_AFTER_BEATS
    }
}

/// What a person confirmed to one host: these workspaces are gone for good, though many vanished at once. Lies beside
/// the host's record, is written by whoever confirms and read by the host's monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Format number.
    pub format: u32,
    /// The names.
    pub names: Vec<WorkspaceName>,
    /// When.
    pub at: Timestamp,
}

impl Confirmation {
    /// Of these names, now.
    pub fn new(names: Vec<WorkspaceName>, at: Timestamp) -> Self {
        Self { format: FORMAT, names, at }
    }

    /// Reads the object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let confirmation: Self = serde_json::from_slice(bytes)
            .map_err(|error| FormatError::Damaged(format!("it is no confirmation: {error}")))?;
        if confirmation.format > FORMAT {
            return Err(FormatError::Newer { found: confirmation.format });
        }
        Ok(confirmation)
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing here can fail to serialise: all keys are text and all numbers are integers.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Managed {
    /// The version that is served.
    pub fn served(&self) -> Option<&HostRelease> {
        self.followed.as_ref().or(self.live.as_ref())
    }

    /// One of which nothing is known yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            phase: HostPhase::Pending,
            since: now,
            cause: String::new(),
            live: None,
            followed: None,
            next: None,
            previous: None,
            good: None,
            health: None,
            addresses: Vec::new(),
            answering: None,
            failure: None,
            bad: Vec::new(),
            host_port: None,
            other: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
