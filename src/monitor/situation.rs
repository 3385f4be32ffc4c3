//! What the planner looks at: plain data about one workspace on this host, gathered before anything is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use crate::application::Plan;
use crate::engine::{ContainerState, Health};
use crate::format::Row;
use crate::format::host::Managed;
use crate::names::WorkspaceName;

/// A version that could run here.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The workspace's incarnation.
    pub root: Ulid,
    /// The version.
    pub row: Row,
    /// How it is run.
    pub plan: Arc<Plan>,
}

impl Target {
    /// Whether two releases of it must never run at once: they would write to the same volumes, or take the same ports of the
    /// host.
    pub fn is_exclusive(&self) -> bool {
        !self.plan.volumes.is_empty() || self.takes_ports()
    }

    /// Whether two releases of it can't even exist side by side: Docker takes the ports before anything runs.
    pub fn takes_ports(&self) -> bool {
        !self.plan.ports.is_empty()
    }

    /// How many containers serve traffic.
    pub fn replicas(&self) -> u16 {
        self.plan.replicas.unwrap_or(1).max(1)
    }

    /// Whether a release of this version can go on to another one in the same containers: nothing differs that a container
    /// is made with.
    pub fn can_become(&self, other: &Self) -> bool {
        let (one, two) = (&*self.plan, &*other.plan);
        let image = |plan: &Plan| (plan.runtime.clone(), plan.version.clone(), plan.image.clone());
        let made_alike = image(one) == image(two)
            && (&one.package_manager, one.replicas, one.port) == (&two.package_manager, two.replicas, two.port)
            && (&one.volumes, &one.memory, &one.cpus) == (&two.volumes, &two.memory, &two.cpus)
            && (&one.ports, &one.secrets) == (&two.ports, &two.secrets)
            && one.processes.keys().eq(two.processes.keys());
        self.root == other.root && other.plan.start.is_some() && made_alike
    }

    /// Containers of a whole release.
    pub fn containers(&self) -> usize {
        usize::from(self.replicas()) + self.plan.processes.len()
    }

    /// `7`, for causes.
    pub fn number(&self) -> u64 {
        self.row.number
    }
}

/// What the bucket says should be.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub enum Desired {
    /// This version runs.
    Run(Target),
    /// Nothing runs, on purpose.
    Stopped,
    /// The workspace is gone, beyond doubt.
    Gone,
    /// It can't be told: whatever runs goes on running.
    Unknown(String),
}

/// What a container does for its release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves traffic.
    Web,
    /// Another process of the application.
    Worker(String),
}

/// How far `workspace run` has come inside a container, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Its phase.
    pub phase: InsidePhase,
    /// Since when, by this host's clock, which is the container's.
    pub since: Timestamp,
    /// Whether the release command has succeeded there.
    pub released: bool,
    /// The version that is served, where it goes on from one to the next.
    pub row: Option<Ulid>,
    /// What is wrong with the version that came last.
    pub error: Option<String>,
}

/// The phases of `workspace run`, as far as they matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InsidePhase {
    /// Brings the tree.
    Fetch,
    /// Installs.
    Install,
    /// Builds.
    Build,
    /// Waits to be told to go on.
    Held,
    /// Runs the release command.
    Release,
    /// Started, not answering yet.
    Start,
    /// Answers.
    Ready,
    /// Asked to end, or ended.
    Ending,
}

/// A container of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Which of several, from 1.
    pub replica: u16,
    /// What Docker says it is doing.
    pub state: ContainerState,
    /// How often Docker started it again by itself.
    pub restarts: u32,
    /// What its health check says.
    pub health: Option<Health>,
    /// Whether Docker starts it again by itself.
    pub kept_running: bool,
    /// How far it has come; `None` where that isn't known yet.
    pub inside: Option<Inside>,
}

impl Container {
    fn runs(&self) -> bool {
        matches!(self.state, ContainerState::Running | ContainerState::Restarting)
    }

    fn phase(&self) -> InsidePhase {
        self.inside.as_ref().map_or(InsidePhase::Fetch, |inside| inside.phase)
    }
}

/// A release as it is found on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its version's row.
    pub row: Ulid,
    /// Its version's number.
    pub number: u64,
    /// Its containers, by role and replica.
    pub containers: Vec<Container>,
}

impl Release {
    /// Those that serve traffic.
    pub fn web(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.role == Role::Web)
    }

    /// The others.
    pub fn workers(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.role != Role::Web)
    }

    /// Whether it is on its way to the traffic: neither live, nor standing by, nor one that had its time.
    pub fn is_underway(&self, live: Option<Ulid>, standing_by: Option<Ulid>) -> bool {
        // Docker keeps running what was live once. When releases come faster than they are watched, several such stand by.
        let was_live = self.containers.iter().any(|container| container.kept_running);
        Some(self.row) != live && Some(self.row) != standing_by && !was_live
    }

    /// Whether any of its containers runs.
    pub fn runs(&self) -> bool {
        self.containers.iter().any(Container::runs)
    }

    /// Whether any of its workers runs and isn't held.
    pub fn works(&self) -> bool {
        self.workers().any(|worker| worker.runs() && worker.phase() != InsidePhase::Held)
    }

    /// Whether all that serve traffic answer.
    pub fn is_ready(&self) -> bool {
        self.web().next().is_some() && self.web().all(|web| web.runs() && web.phase() == InsidePhase::Ready)
    }

    /// Since when all of them answer.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.web().filter_map(|web| web.inside.as_ref()).map(|inside| inside.since).max()
    }

    /// The phase of the slowest that serves traffic.
    pub fn slowest(&self) -> InsidePhase {
        self.web().map(Container::phase).min().unwrap_or(InsidePhase::Fetch)
    }

    /// Containers that ended.
    pub fn ended(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == ContainerState::Exited)
    }

    /// Containers that were made and never started: whoever made them was interrupted.
    pub fn unstarted(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == ContainerState::Created)
    }
}

/// Who has the name `workspace-<name>` among all containers of the Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// Nobody.
    Nobody,
    /// A container of this release.
    Release(Ulid),
    /// A container that isn't this monitor's.
    Foreign,
}

/// What is known of a version's release command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseCommand {
    /// Not looked at yet.
    Unknown,
    /// Another host runs it.
    Elsewhere(String),
    /// This host has the lease, and it runs here.
    Here,
    /// It has succeeded, here or elsewhere.
    Done,
}

/// How long things may take, and how long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From a release's creation until it is installed and built, fetching included.
    pub prepare: Duration,
    /// From the start until it answers.
    pub ready: Duration,
    /// How long it has to answer before it gets traffic.
    pub soak: Duration,
    /// From the switch until the old release is asked to end.
    pub drain: Duration,
    /// From the switch until the old release is removed.
    pub watch: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            prepare: Duration::from_mins(25),
            ready: Duration::from_mins(1),
            soak: Duration::from_secs(2),
            drain: Duration::from_secs(5),
            watch: Duration::from_mins(1),
        }
    }
}

/// Everything about one workspace on this host.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Which.
    pub name: &'a WorkspaceName,
    /// What should be.
    pub desired: &'a Desired,
    /// The mark of the ref's last `retry`.
    pub retry: Option<Ulid>,
    /// The newest version that any host reports as served well, for when nothing runs and the current one is bad.
    pub fallback: Option<&'a Target>,
    /// Versions that were worked on lately, by row: what it takes to go on with them.
    pub known: &'a BTreeMap<Ulid, Target>,
    /// What is there.
    pub releases: &'a [Release],
    /// The release that has the traffic.
    pub live: Option<Ulid>,
    /// Who has the container name.
    pub bearer: Bearer,
    /// Whether traffic goes where it should: routes, domains, relay.
    pub routed: bool,
    /// Whether anything of a route is left.
    pub route_exists: bool,
    /// What is remembered.
    pub memory: &'a Managed,
    /// When the live release got its traffic.
    pub switched: Option<Timestamp>,
    /// Whether its live release goes on to every version in its own containers.
    pub follows: bool,
    /// The version that the live release was told to go on to.
    pub fed: Option<Ulid>,
    /// How many releases in a row were replaced before they were live.
    pub replaced: u8,
    /// What is known of the target's release command.
    pub release_command: &'a ReleaseCommand,
    /// When each running release was created, by row.
    pub created: &'a BTreeMap<Ulid, Timestamp>,
    /// When grants are to be renewed, by release; `None`: nobody knows how old it is.
    pub renewals: &'a BTreeMap<Ulid, Option<Timestamp>>,
    /// The time.
    pub now: Timestamp,
    /// Limits.
    pub limits: Limits,
}

impl Situation<'_> {
    /// The release with this row, if any of it is there.
    pub fn release(&self, row: Ulid) -> Option<&Release> {
        self.releases.iter().find(|release| release.row == row)
    }

    /// Whether a row is not to be tried again.
    pub fn is_bad(&self, row: Ulid) -> bool {
        self.memory.bad.iter().any(|bad| bad.row == row && bad.retry == self.retry)
    }
}
