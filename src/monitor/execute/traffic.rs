//! Moving traffic: the route is written, then the router is asked until the new release answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use ulid::Ulid;

use super::super::diagnose::{Case, outage};
use super::super::metrics::Metrics;
use super::super::observe::{Observed, ReconcileError};
use super::super::route::{self, Answer, Backends};
use super::super::{Monitor, labels, lock};
use crate::compose::release::image_of;
use crate::engine::{ContainerState, EngineError, NewContainer};
use crate::format::host::{Failure, HostPhase, HostRelease};
use crate::names::WorkspaceName;

/// Until the new release must answer through the router.
const CONFIRM_LIMIT: Duration = Duration::from_secs(15);
/// Between two questions.
const CONFIRM_PAUSE: Duration = Duration::from_millis(25);
/// Ports of relays on the host.
const FIRST_PORT: u16 = 20_000;
/// How many of them.
const PORTS: u16 = 10_000;
/// The port of a relay inside its container.
const RELAY_PORT: u16 = 8080;
/// The file that tells a relay where to send.
const RELAY_FILE: &str = "relay.json";

impl Monitor {
    /// Moves traffic to a release. False: it did not arrive, and went back.
    pub(super) async fn route(
        self: &Arc<Self>,
        name: &WorkspaceName,
        row: Ulid,
        observed: &Observed,
    ) -> Result<bool, ReconcileError> {
        let target = self.known(name, row)?;
        self.enter(name, HostPhase::Route);
        let Some(backends) = self.backends(name, row, &observed.releases) else {
            return Err(ReconcileError::UnknownVersion { row });
        };
        let path = target.plan.health.as_ref().map_or("/", |health| health.path.as_str());
        let moved = observed.live != Some(row);
        let failure = if let Some(traefik) = &self.options.traefik {
            let io_error = |source| ReconcileError::Route { name: name.clone(), source };
            let before = traefik.read(name).map_err(io_error)?;
            let domains = traefik.domains(name, &target.plan.domains);
            traefik.write(name, &traefik.render(name, &backends, &domains)).map_err(io_error)?;
            let confirmed = confirm(|| traefik.ask(name, path), |found| found == Some(backends.answering)).await;
            if let (Err(_), true) = (&confirmed, moved) {
                match before {
                    Some((_, text)) => traefik.write(name, &text),
                    None => traefik.remove(name),
                }
                .map_err(io_error)?;
            }
            if let (Ok(()), Some(relay)) = (&confirmed, &observed.relay) {
                self.with.engine.remove(&relay.id).await?;
            }
            confirmed.err()
        } else {
            let before = lock(&self.tended(name).memory).relayed.clone();
            let address = self.relay(name, &target, &backends, observed).await?;
            let confirmed = match &address {
                Some(address) => confirm(|| route::ask(address, "localhost", path), |_| true).await,
                None => Ok(()),
            };
            if let (Err(_), true, Some((id, servers))) = (&confirmed, moved, before) {
                self.tell_relay(name, &id, &servers).await?;
            }
            confirmed.err()
        };
        if let Some(failure) = failure
            && moved
        {
            self.did_not_arrive(name, row, target.number(), failure);
            return Ok(false);
        }
        if moved {
            self.went_live(name, row, observed);
        }
        Ok(true)
    }

    fn did_not_arrive(&self, name: &WorkspaceName, row: Ulid, number: u64, answer: Answer) {
        let now = Timestamp::now();
        let failure = {
            let tended = self.tended(name);
            let memory = lock(&tended.memory);
            let case = Case { row, number, earlier: memory.managed.failure.as_ref(), retry: self.retry(name), now };
            match answer {
                // The relay gets no connection to it, or none that answers.
                Answer::Closed(_) if self.options.traefik.is_none() => Failure {
                    reason: "it answers inside of its container, and nobody gets an answer from outside".to_owned(),
                    hint: "listen on the address in HOST (0.0.0.0), not on localhost, and on the port in PORT"
                        .to_owned(),
                    bad: true,
                    next_try: None,
                    ..outage(case, "route", String::new())
                },
                Answer::NoRouter(reason) | Answer::Closed(reason) => {
                    outage(case, "route", format!("the router can't be asked: {reason}"))
                }
                Answer::Status(status, _) if answer.is_gateway_error() => Failure {
                    reason: format!("it answers inside of its container, and the router gets {status} from it"),
                    hint: "listen on the address in HOST (0.0.0.0), not on localhost, and on the port in PORT"
                        .to_owned(),
                    bad: true,
                    next_try: None,
                    ..outage(case, "route", String::new())
                },
                Answer::Status(status, found) => outage(
                    case,
                    "route",
                    match found {
                        Some(found) => format!("the router still answers for {found}, with {status}"),
                        None => format!("the router does not know the route yet: it answers {status}"),
                    },
                ),
            }
        };
        self.remember(name, failure);
    }

    /// Notes that a release has the traffic.
    fn went_live(&self, name: &WorkspaceName, row: Ulid, observed: &Observed) {
        let now = Timestamp::now();
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        let release = |row: &Ulid, since| {
            memory.known.get(row).map(|target| HostRelease { root: target.root, row: target.row.clone(), since })
        };
        let live = release(&row, now);
        let previous = observed.live.filter(|live| *live != row).and_then(|live| release(&live, now));
        let went_back = memory.managed.bad.iter().any(|bad| Some(bad.row) == observed.live);
        let took = memory.created.get(&row).map(|created| now.duration_since(*created));
        memory.managed.live = live;
        // One whose name was taken already is still what can be gone back to.
        memory.managed.previous =
            previous.or_else(|| memory.managed.previous.take().filter(|previous| previous.row.id != row));
        memory.managed.next = None;
        memory.replaced = 0;
        if memory.managed.failure.as_ref().is_some_and(|failure| failure.row == row) {
            memory.managed.failure = None;
        }
        let number = memory.managed.live.as_ref().map_or(0, |live| live.row.number);
        let newer = memory.managed.failure.as_ref().is_some_and(|failure| failure.number < number);
        if newer {
            memory.managed.failure = None;
        }
        // Where what comes after the move failed, it is made once more.
        let told = memory.moved.replace((row, observed.live)) == Some((row, observed.live));
        drop(memory);
        self.changed.notify_one();
        self.wake_routed_to(name);
        if told {
            return;
        }
        Metrics::count(&self.metrics.releases, if went_back { "went_back" } else { "live" });
        if let Some(took) = took.and_then(|took| Duration::try_from(took).ok()) {
            Metrics::observe(&self.metrics.release_seconds, took);
        }
        tracing::info!(workspace = %name, version = number, went_back, "live");
    }

    /// Takes the traffic away.
    pub(super) async fn unroute(&self, name: &WorkspaceName, observed: &Observed) -> Result<(), ReconcileError> {
        if let Some(traefik) = &self.options.traefik {
            traefik.remove(name).map_err(|source| ReconcileError::Route { name: name.clone(), source })?;
        }
        if let Some(relay) = &observed.relay {
            self.with.engine.remove(&relay.id).await?;
        }
        let tended = self.tended(name);
        {
            let mut memory = lock(&tended.memory);
            memory.relayed = None;
            memory.managed.live = None;
            if !self.is_wanted(name) {
                memory.managed.failure = None;
            }
        }
        if self.wake_routed_to(name) {
            // Their traffic comes back to their own releases, and what is under way here is finished.
            tokio::time::sleep(self.options.limits.drain).await;
        }
        Ok(())
    }

    /// Makes sure that there is a relay and that it sends where it should. Gives the address at which it can be asked.
    async fn relay(
        &self,
        name: &WorkspaceName,
        target: &super::super::situation::Target,
        backends: &Backends,
        observed: &Observed,
    ) -> Result<Option<String>, ReconcileError> {
        let engine = &self.with.engine;
        let remembered = lock(&self.tended(name).memory).managed.host_port;
        let (id, port) = if let Some(relay) = &observed.relay {
            let port = relay.labels.get(labels::HOST_PORT).and_then(|port| port.parse().ok());
            self.tell_relay(name, &relay.id, &backends.servers).await?;
            if relay.state != ContainerState::Running {
                engine.start(&relay.id).await?;
            }
            (relay.id.clone(), port)
        } else {
            let image = image_of(name, &target.plan)?;
            let (id, port) = self.new_relay(name, &image, remembered, &backends.servers).await?;
            (id, Some(port))
        };
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        memory.relayed = Some((id, backends.servers.clone()));
        memory.managed.host_port = port;
        drop(memory);
        // From inside a container the host's loopback is somewhere else; there the network knows the relay by name.
        let asked = if self.holder().container.is_some() {
            format!("{}:{RELAY_PORT}", labels::relay_container(name))
        } else {
            let Some(port) = port else { return Ok(None) };
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
        };
        Ok(Some(asked))
    }

    async fn tell_relay(&self, name: &WorkspaceName, id: &str, servers: &[String]) -> Result<(), ReconcileError> {
        let content = serde_json::json!({ "targets": servers }).to_string();
        self.with.engine.write_file(id, "/", RELAY_FILE, 0o444, content.as_bytes()).await?;
        lock(&self.tended(name).memory).relayed = Some((id.to_owned(), servers.to_vec()));
        Ok(())
    }

    /// A relay on the port that the workspace had before, else on one that its name leads to, else on the next free one.
    async fn new_relay(
        &self,
        name: &WorkspaceName,
        image: &str,
        remembered: Option<u16>,
        servers: &[String],
    ) -> Result<(String, u16), ReconcileError> {
        let engine = &self.with.engine;
        let hash = blake3::hash(name.as_str().as_bytes());
        let start = u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]) % PORTS;
        let candidates = remembered.into_iter().chain((0..64).map(|step| FIRST_PORT + (start + step * 7) % PORTS));
        for port in candidates {
            let mut relay_labels = labels::common(labels::RELAY, self.bucket, name);
            relay_labels.insert(labels::HOST_PORT.to_owned(), port.to_string());
            let relay = NewContainer {
                name: Some(labels::relay_container(name)),
                image: image.to_owned(),
                command: vec!["relay".to_owned(), "--target-file".to_owned(), format!("/{RELAY_FILE}")],
                labels: relay_labels,
                network: Some(labels::NETWORK.to_owned()),
                port: Some((RELAY_PORT, port)),
                keep_running: true,
                ..NewContainer::default()
            };
            let id = engine.create(relay).await?;
            self.tell_relay(name, &id, servers).await?;
            match engine.start(&id).await {
                Ok(()) => return Ok((id, port)),
                Err(error) if is_taken(&error) => engine.remove(&id).await?,
                Err(error) => {
                    engine.remove(&id).await?;
                    return Err(error.into());
                }
            }
        }
        Err(ReconcileError::NoPort { first: FIRST_PORT, last: FIRST_PORT + PORTS - 1 })
    }

    pub(super) fn holder(&self) -> &crate::format::host::Holder {
        &self.holder
    }
}

/// Whether the Engine says that somebody else has the port.
fn is_taken(error: &EngineError) -> bool {
    let EngineError::Api { source, .. } = error else { return false };
    let text = source.to_string();
    text.contains("port is already allocated") || text.contains("address already in use")
}

/// Asks until the right release answers. `Err`: what was answered last.
async fn confirm<F: Future<Output = Answer>>(
    ask: impl Fn() -> F,
    is_right: impl Fn(Option<Ulid>) -> bool,
) -> Result<(), Answer> {
    let deadline = Instant::now() + CONFIRM_LIMIT;
    loop {
        let answer = ask().await;
        if let Answer::Status(_, found) = &answer
            && is_right(*found)
            && !answer.is_gateway_error()
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(answer);
        }
        tokio::time::sleep(CONFIRM_PAUSE).await;
    }
}
