//! What is: a workspace's containers, its route and its name on this host, put together for the planner.

use jiff::Timestamp;
use ulid::Ulid;

use super::catalogue;
use super::plan::{Planned, plan};
use super::route::Backends;
use super::situation::{Bearer, Container, Desired, Release, ReleaseCommand, Role, Situation, Target};
use super::{Memory, Monitor, labels, lock};
use crate::engine::{ContainerInfo, ContainerState, EngineError, Health};
use crate::format::host::{self, Host};
use crate::format::keys;
use crate::names::WorkspaceName;

/// What was found of one workspace.
#[derive(Debug)]
pub struct Observed {
    /// Its releases, oldest first.
    pub releases: Vec<Release>,
    /// The release that has the traffic.
    pub live: Option<Ulid>,
    /// Who has the container name.
    pub bearer: Bearer,
    /// The relay's container.
    pub relay: Option<ContainerInfo>,
    /// Whether traffic goes where it should.
    pub routed: bool,
    /// Whether anything of a route is left.
    pub route_exists: bool,
}

/// Why a workspace can't be looked at, or a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The Engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A route can't be read or written.
    #[error("can't use the route of `{name}`")]
    Route {
        /// The workspace.
        name: WorkspaceName,
        /// What the system says.
        source: std::io::Error,
    },
    /// A version can't be read.
    #[error(transparent)]
    Version(#[from] crate::version::VersionError),
    /// A lease can't be used.
    #[error(transparent)]
    Lease(#[from] super::lease::LeaseError),
    /// Nothing can be rendered.
    #[error(transparent)]
    Compose(#[from] crate::compose::ComposeError),
    /// The plan names variables that aren't set where the monitor runs.
    #[error("{} {} not set where the monitor runs, and the application asks for it in `secrets:`", names.join(", "), if names.len() == 1 { "is" } else { "are" })]
    Secrets {
        /// The variables.
        names: Vec<String>,
    },
    /// The planner wants something done with a version of which nothing is known.
    #[error("nothing is known of the version {row}")]
    UnknownVersion {
        /// Its row.
        row: Ulid,
    },
    /// No free port was found for a relay.
    #[error("no free port on this host's loopback from {first} to {last}")]
    NoPort {
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
    },
    /// The plan never comes to an end.
    #[error("the plan for `{name}` does not settle: {step}")]
    Restless {
        /// The workspace.
        name: WorkspaceName,
        /// The step that comes again and again.
        step: String,
    },
}

impl Monitor {
    /// Looks at a workspace and plans, without doing anything.
    pub(super) async fn look(&self, name: &WorkspaceName) -> Result<Planned, ReconcileError> {
        let observed = self.observe(name).await?;
        self.plan(name, &observed).await
    }

    /// Looks at everything that bears a workspace's labels.
    pub(super) async fn observe(&self, name: &WorkspaceName) -> Result<Observed, ReconcileError> {
        let engine = &self.with.engine;
        let found = engine.containers(&format!("{}={name}", labels::NAME)).await?;
        let bucket = self.bucket.to_string();
        let ours = |container: &&ContainerInfo| {
            container.labels.contains_key(labels::KIND) && container.labels.get(labels::BUCKET) == Some(&bucket)
        };
        let mut releases: Vec<Release> = Vec::new();
        let mut relay = None;
        for info in found.iter().filter(ours) {
            match info.labels.get(labels::KIND).map(String::as_str) {
                Some(labels::RELAY) => relay = Some(info.clone()),
                // Nothing may stay of these: whoever made it was interrupted.
                Some(labels::WRITER) if self.look_only => {}
                Some(labels::WRITER) => engine.remove(&info.id).await?,
                Some(labels::RELEASE) => {
                    let label = |label: &str| info.labels.get(label).map(String::as_str).unwrap_or_default();
                    let Ok(row) = label(labels::ROW).parse::<Ulid>() else { continue };
                    let number = label(labels::VERSION).parse().unwrap_or(0);
                    let Some(container) = self.container(info).await? else { continue };
                    match releases.iter_mut().find(|release| release.row == row) {
                        Some(release) => release.containers.push(container),
                        None => releases.push(Release { row, number, containers: vec![container] }),
                    }
                }
                _ => {}
            }
        }
        releases.sort_by_key(|release| (release.number, release.row));
        for release in &mut releases {
            release.containers.sort_by(|one, other| (&one.role, one.replica).cmp(&(&other.role, other.replica)));
        }
        let bearer = self.bearer(name, &found, &bucket).await?;
        let (live, routed, route_exists) = self.routes(name, &releases, &bearer, relay.as_ref())?;
        Ok(Observed { releases, live, bearer, relay, routed, route_exists })
    }

    async fn container(&self, info: &ContainerInfo) -> Result<Option<Container>, EngineError> {
        let detail = match self.with.engine.inspect(&info.id).await {
            Ok(detail) => detail,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let process = info.labels.get(labels::PROCESS).map_or(labels::WEB, String::as_str);
        Ok(Some(Container {
            id: info.id.clone(),
            name: info.name.clone(),
            role: if process == labels::WEB { Role::Web } else { Role::Worker(process.to_owned()) },
            replica: info.labels.get(labels::REPLICA).and_then(|replica| replica.parse().ok()).unwrap_or(1),
            state: detail.state,
            restarts: detail.restarts,
            health: detail.health,
            kept_running: detail.restarts_by_itself,
            inside: self.follows.inside(&info.id),
        }))
    }

    async fn bearer(&self, name: &WorkspaceName, found: &[ContainerInfo], bucket: &str) -> Result<Bearer, EngineError> {
        let wanted = labels::container(name);
        let row = |container: &std::collections::BTreeMap<String, String>| {
            let ours = container.get(labels::KIND).map(String::as_str) == Some(labels::RELEASE)
                && container.get(labels::BUCKET).map(String::as_str) == Some(bucket);
            container.get(labels::ROW).filter(|_| ours).and_then(|row| row.parse().ok())
        };
        if let Some(container) = found.iter().find(|container| container.name == wanted) {
            return Ok(row(&container.labels).map_or(Bearer::Foreign, Bearer::Release));
        }
        Ok(match self.with.engine.container_named(&wanted).await? {
            None => Bearer::Nobody,
            Some((_, labels)) => row(&labels).map_or(Bearer::Foreign, Bearer::Release),
        })
    }

    /// Who is live, whether the route says so, and whether there is one.
    fn routes(
        &self,
        name: &WorkspaceName,
        releases: &[Release],
        bearer: &Bearer,
        relay: Option<&ContainerInfo>,
    ) -> Result<(Option<Ulid>, bool, bool), ReconcileError> {
        let Some(traefik) = &self.options.traefik else {
            let live = match bearer {
                Bearer::Release(row) => Some(*row),
                _ => None,
            };
            let told = lock(&self.tended(name).memory).relayed.clone();
            let routed = match (relay, live) {
                (Some(relay), Some(live)) => {
                    let running = relay.state == ContainerState::Running;
                    let servers = self.backends(name, live, releases).map(|backends| backends.servers);
                    running && told.is_some_and(|(id, said)| id == relay.id && Some(said) == servers)
                }
                _ => false,
            };
            return Ok((live, routed, relay.is_some()));
        };
        let file = traefik.read(name).map_err(|source| ReconcileError::Route { name: name.clone(), source })?;
        let Some((row, text)) = file else { return Ok((None, false, false)) };
        let wanted = self.backends(name, row, releases).map(|backends| {
            let declared = self.declared_domains(name, row);
            traefik.render(name, &backends, &traefik.domains(name, &declared))
        });
        // A relay is from a time without Traefik: routing takes it away.
        Ok((Some(row), wanted.as_ref() == Some(&text) && relay.is_none(), true))
    }

    /// The host names that the version declares.
    pub(super) fn declared_domains(&self, name: &WorkspaceName, row: Ulid) -> Vec<String> {
        let tended = self.tended(name);
        let memory = lock(&tended.memory);
        memory.known.get(&row).map(|target| target.plan.domains.clone()).unwrap_or_default()
    }

    /// Who answers for a workspace whose live release is `row`: its own containers, or those of the workspace that its
    /// traffic was sent to.
    pub(super) fn backends(&self, name: &WorkspaceName, row: Ulid, releases: &[Release]) -> Option<Backends> {
        let route = lock(&self.catalogue).get(name).and_then(|entry| entry.route.clone());
        if let Some(other) = route
            && let Some((answering, servers)) = self.servers_of(&other)
        {
            return Some(Backends { row, answering, servers });
        }
        let port = {
            let tended = self.tended(name);
            let memory = lock(&tended.memory);
            memory.known.get(&row).map(|target| target.plan.port)?
        };
        let release = releases.iter().find(|release| release.row == row);
        let replicas = release.map_or(1, |release| release.web().count().max(1));
        Some(Backends { row, answering: row, servers: servers(row, replicas, port) })
    }

    /// The workspace to which a workspace's traffic goes, if it is live here.
    pub(super) fn answering(&self, name: &WorkspaceName) -> Option<WorkspaceName> {
        let route = lock(&self.catalogue).get(name).and_then(|entry| entry.route.clone());
        route.filter(|other| self.servers_of(other).is_some())
    }

    /// Who answers for a live workspace.
    fn servers_of(&self, name: &WorkspaceName) -> Option<(Ulid, Vec<String>)> {
        let tended = lock(&self.workspaces).get(name).cloned()?;
        let memory = lock(&tended.memory);
        let row = memory.managed.live.as_ref()?.row.id;
        let target = memory.known.get(&row)?;
        Some((row, servers(row, usize::from(target.replicas()), target.plan.port)))
    }

    /// Plans from what was found.
    pub(super) async fn plan(&self, name: &WorkspaceName, observed: &Observed) -> Result<Planned, ReconcileError> {
        let now = Timestamp::now();
        let entry = lock(&self.catalogue).get(name).cloned();
        let (desired, retry) = match entry {
            Some(entry) => (entry.desired, entry.retry),
            None => (Desired::Unknown("the bucket was not looked at yet".to_owned()), None),
        };
        let tended = self.tended(name);
        if let Desired::Run(target) = &desired {
            lock(&tended.memory).known.insert(target.row.id, target.clone());
        }
        self.learn(name, observed).await;
        let fallback = match &desired {
            Desired::Run(target) if observed.live.is_none() && self.knows_bad(name, target.row.id, retry) => {
                self.fallback(name, target).await
            }
            _ => None,
        };
        let memory: Memory = {
            let mut memory = lock(&tended.memory);
            if let Some(fallback) = &fallback {
                memory.known.insert(fallback.row.id, fallback.clone());
            }
            for release in &observed.releases {
                memory.created.entry(release.row).or_insert(now);
            }
            let present = |row: &Ulid| observed.releases.iter().any(|release| release.row == *row);
            memory.created.retain(|row, _| present(row));
            memory.renew.retain(|row, _| present(row));
            memory.clone()
        };
        let target = match &desired {
            Desired::Run(target) => Some(target.row.id),
            _ => None,
        };
        let release_command =
            target.and_then(|row| memory.release_command.get(&row).cloned()).unwrap_or(ReleaseCommand::Unknown);
        let live_since = memory.managed.live.as_ref().filter(|live| Some(live.row.id) == observed.live);
        let renewals = observed
            .releases
            .iter()
            .map(|release| release.row)
            .filter(|row| memory.known.contains_key(row))
            .map(|row| (row, memory.renew.get(&row).copied()))
            // Whoever only looks has renewed nothing, and would say so of each.
            .filter(|(_, renewal)| renewal.is_some() || !self.look_only)
            .collect();
        let situation = Situation {
            name,
            desired: &desired,
            retry,
            fallback: fallback.as_ref(),
            known: &memory.known,
            releases: &observed.releases,
            live: observed.live,
            bearer: observed.bearer.clone(),
            routed: observed.routed,
            route_exists: observed.route_exists,
            memory: &memory.managed,
            switched: live_since.map(|live| live.since),
            follows: self.is_followed(name),
            fed: memory.fed.as_ref().filter(|(live, _)| Some(*live) == observed.live).map(|(_, target)| target.row.id),
            replaced: memory.replaced,
            release_command: &release_command,
            created: &memory.created,
            renewals: &renewals,
            now,
            limits: self.options.limits,
        };
        Ok(plan(&situation))
    }

    fn knows_bad(&self, name: &WorkspaceName, row: Ulid, retry: Option<Ulid>) -> bool {
        let tended = self.tended(name);
        let memory = lock(&tended.memory);
        memory.managed.bad.iter().any(|bad| bad.row == row && bad.retry == retry)
    }

    /// After a restart: reads what it takes to go on with releases that are here, from the rows that are remembered.
    async fn learn(&self, name: &WorkspaceName, observed: &Observed) {
        let tended = self.tended(name);
        let unknown: Vec<_> = {
            let memory = lock(&tended.memory);
            let managed = &memory.managed;
            [&managed.live, &managed.next, &managed.previous, &managed.good]
                .into_iter()
                .flatten()
                .filter(|release| !memory.known.contains_key(&release.row.id))
                .filter(|release| {
                    observed.live == Some(release.row.id)
                        || observed.releases.iter().any(|found| found.row == release.row.id)
                })
                .cloned()
                .collect()
        };
        for release in unknown {
            // A store that is away is asked again at the next look.
            match catalogue::target(&self.with.store, name, release.root, &release.row).await {
                Ok(target) => {
                    lock(&tended.memory).known.insert(target.row.id, target);
                }
                Err(error) => tracing::debug!(workspace = %name, %error, "a version's plan can't be read"),
            }
        }
    }

    /// The newest version that any host reports as served well.
    async fn fallback(&self, name: &WorkspaceName, target: &Target) -> Option<Target> {
        let objects = self.with.store.list(keys::HOSTS).await.ok()?;
        let mut best: Option<crate::format::host::HostRelease> = None;
        for object in objects {
            let Ok(object) = self.with.store.get_within(&object.key, host::MAX_BYTES).await else { continue };
            let Ok(host) = Host::parse(&object.body) else { continue };
            let Some(good) = host.workspaces.get(name).and_then(|managed| managed.good.clone()) else { continue };
            let better = best.as_ref().is_none_or(|best| good.row.number > best.row.number);
            if good.root == target.root && good.row.number < target.row.number && better {
                best = Some(good);
            }
        }
        let best = best?;
        catalogue::target(&self.with.store, name, best.root, &best.row).await.ok()
    }

    /// Follows what is on its way, and nothing else.
    pub(super) fn follow(self: &std::sync::Arc<Self>, name: &WorkspaceName, observed: &Observed) {
        let settled = {
            let tended = self.tended(name);
            let memory = lock(&tended.memory);
            memory.managed.good.as_ref().map(|good| good.row.id).filter(|_| observed.releases.len() == 1)
        };
        for container in observed
            .releases
            .iter()
            .flat_map(|release| release.containers.iter().map(move |container| (release.row, container)))
        {
            let (row, container) = container;
            // Without the traffic it is on its way to it again, however good it was.
            let settled = Some(row) == settled && observed.live == Some(row);
            let quiet = settled && container.health == Some(Health::Healthy) && !self.is_followed(name);
            if container.state == ContainerState::Running && !quiet {
                let (monitor, name) = (std::sync::Arc::downgrade(self), name.clone());
                self.follows.follow(&self.with.engine, &container.id, move || {
                    if let Some(monitor) = monitor.upgrade() {
                        monitor.wake(&name);
                    }
                });
            } else {
                self.follows.end(&container.id);
            }
        }
    }
}

fn servers(row: Ulid, replicas: usize, port: u16) -> Vec<String> {
    let replica = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    (1..=replicas).map(|number| format!("{}:{port}", labels::service(row, labels::WEB, replica(number)))).collect()
}
