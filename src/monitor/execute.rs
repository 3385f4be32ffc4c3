//! Taking steps: each is one change on the Engine, the router or the store, and each can be repeated.

mod followed;
mod release;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryFutureExt as _};
use jiff::Timestamp;
use ulid::Ulid;

use super::diagnose::{Case, Evidence, diagnose, outage};
use super::metrics::{Metrics, StepLabel};
use super::observe::{Observed, ReconcileError};
use super::plan::{Planned, Step, Who, Why};
use super::situation::{Desired, Target};
use super::{Monitor, labels, lock};
use crate::engine::{ContainerState, EngineError, Health};
use crate::format::host::{Bad, Failure, HostPhase, HostRelease};
use crate::names::WorkspaceName;
use crate::output::with_causes;
use crate::run::outcome::Outcome;

/// Rounds of one look: a plan that goes on for longer is going in circles.
const ROUNDS: usize = 64;
/// Containers of a workspace that are stopped or removed beside each other.
const ENDING_AT_ONCE: usize = 8;
/// Lines of a log that a report shows.
const LOG_LINES: usize = 40;
/// What to do about a variable that isn't there.
const SECRETS_HINT: &str = "set it where the monitor runs: in its environment or its `.env`; with docker-compose.yml in a \
    file that `env_file:` of the service `monitor` names. Then start the monitor again";
/// The step of what fails long after it was released.
const RUN: &str = "run";
/// Where `workspace run` leaves its last words.
const OUTCOME: &str = "/app/.workspace/outcome.json";

/// What came of looking after a workspace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Round {
    /// When to look again.
    pub again: Option<Timestamp>,
    /// Whether it is as the bucket says, or has failed.
    pub settled: bool,
    /// Whether there is nothing left of it.
    pub forgotten: bool,
}

impl Monitor {
    /// Looks and acts until there is nothing to do but wait.
    pub(super) async fn reconcile(self: &Arc<Self>, name: &WorkspaceName) -> Result<Round, ReconcileError> {
        let mut last = String::new();
        for _ in 0..ROUNDS {
            let observed = self.observe(name).await?;
            self.follow(name, &observed);
            let planned = self.plan(name, &observed).await?;
            self.note(name, &planned, &observed);
            self.report_crash(name, &observed).await;
            if planned.steps.is_empty() {
                return Ok(Round { again: planned.again, settled: planned.is_settled(), forgotten: false });
            }
            // What ends gets its time to end: however many there are, they end beside each other.
            for steps in planned.steps.chunk_by(|(one, _), (next, _)| one.is_end() && next.is_end()) {
                for (step, cause) in steps {
                    tracing::info!(workspace = %name, step = %step, %cause, "step");
                    last = step.to_string();
                    let kind = last.split(' ').next().unwrap_or_default().to_owned();
                    self.metrics.steps.get_or_create(&StepLabel { step: kind }).inc();
                }
                if let [(Step::Forget, _)] = steps {
                    self.forget(name).await?;
                    return Ok(Round { again: None, settled: true, forgotten: true });
                }
                let mut taken = Vec::with_capacity(steps.len());
                for (step, _) in steps {
                    taken.push(self.take(name, step, &observed).map_err(move |error| (step, error)));
                }
                let outcomes = futures::stream::iter(taken).buffer_unordered(ENDING_AT_ONCE).collect::<Vec<_>>().await;
                let mut goes_on = true;
                for outcome in outcomes {
                    match outcome {
                        Ok(as_planned) => goes_on &= as_planned,
                        Err((step, error)) => return self.stumble(name, step, error),
                    }
                }
                // The rest of the plan was made for another state of things.
                if !goes_on {
                    break;
                }
            }
            // Steps that only wait for somebody else come again when there is something to see.
            if planned.steps.iter().all(|(step, _)| matches!(step, Step::ReleaseCommand(_))) {
                return Ok(Round { again: planned.again, settled: false, forgotten: false });
            }
        }
        Err(ReconcileError::Restless { name: name.clone(), step: last })
    }

    /// Writes down how things stand.
    fn note(&self, name: &WorkspaceName, planned: &Planned, observed: &Observed) {
        let now = Timestamp::now();
        let answering = self.answering(name).filter(|_| observed.live.is_some());
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        let before = memory.managed.clone();
        let known = memory.known.clone();
        let fed = memory.fed.clone();
        let release = |row: Ulid, since: Timestamp| {
            known.get(&row).map(|target| HostRelease { root: target.root, row: target.row.clone(), since })
        };
        let others: Vec<Ulid> =
            observed.releases.iter().map(|found| found.row).filter(|row| Some(*row) != observed.live).collect();
        let managed = &mut memory.managed;
        if managed.phase != planned.phase || managed.cause != planned.cause {
            if managed.phase != planned.phase {
                managed.since = now;
            }
            managed.phase = planned.phase;
            planned.cause.clone_into(&mut managed.cause);
        }
        match observed.live {
            Some(live) if managed.live.as_ref().is_none_or(|found| found.row.id != live) => {
                // Found so, after a restart or a switch that was cut off before it was written down. What was known to be
                // live until then is what can be gone back to.
                let before = managed.live.take().filter(|before| others.contains(&before.row.id));
                managed.previous = before.or(managed.previous.take());
                managed.live = release(live, now);
            }
            Some(_) => {}
            None => managed.live = None,
        }
        let live = observed.live;
        if managed.previous.as_ref().is_some_and(|previous| !others.contains(&previous.row.id)) {
            managed.previous = None;
        }
        let standing_by = managed.previous.as_ref().map(|previous| previous.row.id);
        let next = observed.releases.iter().find(|found| found.is_underway(live, standing_by)).map(|found| found.row);
        if managed.next.as_ref().map(|found| found.row.id) != next {
            managed.next = next.and_then(|row| release(row, now));
        }
        let found = live.and_then(|live| observed.releases.iter().find(|found| found.row == live));
        managed.health =
            found.and_then(|found| found.web().find_map(|web| web.health)).map(|health| health.as_str().to_owned());
        managed.addresses = match (&self.options.traefik, live) {
            (Some(traefik), Some(live)) => {
                let declared = known.get(&live).map(|target| target.plan.domains.clone()).unwrap_or_default();
                traefik.addresses(name, &declared)
            }
            (None, Some(_)) => managed.host_port.map(|port| format!("http://127.0.0.1:{port}")).into_iter().collect(),
            _ => Vec::new(),
        };
        managed.answering = answering;
        // What failed is wanted no more: its tag has moved back to what is live. What follows tells its failures itself.
        let as_wanted = matches!(planned.phase, HostPhase::Live | HostPhase::Drain | HostPhase::Watch);
        let past = |failure: &Failure| failure.step != followed::FOLLOW && Some(failure.row) != observed.live;
        if as_wanted && managed.failure.as_ref().is_some_and(past) {
            managed.failure = None;
        }
        followed::note(observed, &known, fed.as_ref(), managed);
        let changed = before.phase != managed.phase
            || before.answering != managed.answering
            || before.followed != managed.followed
            || before.live != managed.live
            || before.failure != managed.failure
            || before.cause != managed.cause
            || before.addresses != managed.addresses;
        if before.phase != managed.phase {
            tracing::info!(workspace = %name, phase = managed.phase.as_str(), cause = %managed.cause, "phase");
        }
        drop(memory);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Takes a step. False: everything has to be looked at again before the next one.
    async fn take(
        self: &Arc<Self>,
        name: &WorkspaceName,
        step: &Step,
        observed: &Observed,
    ) -> Result<bool, ReconcileError> {
        match step {
            Step::Create(row) => {
                let target = self.known(name, *row)?;
                self.is_next(name, &target);
                self.create(name, &target).await?;
                Ok(false)
            }
            Step::Start(row) => {
                for container in Self::containers_of(observed, *row, Who::All) {
                    if matches!(container.state, ContainerState::Exited | ContainerState::Created) {
                        self.with.engine.start(&container.id).await?;
                    }
                }
                Ok(false)
            }
            Step::ReleaseCommand(row) => {
                let target = self.known(name, *row)?;
                self.release_command(name, &target, observed).await?;
                Ok(true)
            }
            Step::Proceed(row, who) => {
                self.proceed(observed, *row, *who, "start").await?;
                Ok(false)
            }
            Step::Route(row) => self.route(name, *row, observed).await,
            Step::Unroute => {
                self.unroute(name, observed).await?;
                Ok(true)
            }
            Step::Promote(row) => {
                self.promote(name, *row, observed).await?;
                Ok(false)
            }
            Step::Stop(row, who) => {
                let stops = Self::containers_of(observed, *row, *who).into_iter().map(|container| {
                    let engine = &self.with.engine;
                    async move { engine.stop(&container.id).await }
                });
                futures::future::try_join_all(stops).await?;
                Ok(true)
            }
            Step::Remove(row) => {
                self.is_replaced(name, *row);
                self.remove(*row, observed).await?;
                Ok(true)
            }
            Step::Fail(row, why) => {
                self.fail(name, *row, *why, observed).await?;
                Ok(false)
            }
            Step::Feed(release, row) => {
                let target = self.known(name, *row)?;
                self.write_grant(name, *release, &target).await?;
                lock(&self.tended(name).memory).fed = Some((*release, target));
                Ok(false)
            }
            Step::Renew(row) => {
                let fed = lock(&self.tended(name).memory).fed.clone().filter(|(release, _)| release == row);
                let target = match fed {
                    Some((_, target)) => target,
                    None => self.known(name, *row)?,
                };
                self.write_grant(name, *row, &target).await?;
                Ok(true)
            }
            Step::Settle(row) => {
                self.settle(name, *row);
                Ok(true)
            }
            Step::Forget => Ok(true),
        }
    }

    /// A step failed for reasons outside: what was to be released is tried again later.
    fn stumble(&self, name: &WorkspaceName, step: &Step, error: ReconcileError) -> Result<Round, ReconcileError> {
        let Step::Create(row) = step else { return Err(error) };
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        let Some(target) = memory.known.get(row).cloned() else { return Err(error) };
        let now = Timestamp::now();
        let reason = with_causes(&error);
        tracing::warn!(workspace = %name, version = target.number(), "{reason}");
        let retry = self.retry(name);
        let case = Case { row: *row, number: target.number(), earlier: memory.managed.failure.as_ref(), retry, now };
        let mut failure = outage(case, "create", reason);
        if matches!(&error, ReconcileError::Engine(EngineError::NotFound { .. } | EngineError::Compose { .. })) {
            let image = crate::compose::release::image_of(name, &target.plan).unwrap_or_default();
            failure.hint = format!("is the image `{image}` on this host? `make images`, or `docker pull`");
        } else if matches!(&error, ReconcileError::Secrets { .. }) {
            "secrets".clone_into(&mut failure.step);
            SECRETS_HINT.clone_into(&mut failure.hint);
        } else if matches!(&error, ReconcileError::Compose(_)) {
            // The plan itself can't be rendered: no time will mend that.
            failure.bad = true;
            failure.next_try = None;
            memory.managed.bad.push(Bad { row: target.row.id, number: target.number(), retry });
        }
        let again = failure.next_try;
        // Until then nobody plans, so nobody else says how it stands.
        memory.managed.phase = if failure.bad { HostPhase::Failed } else { HostPhase::Waiting };
        (memory.managed.since, memory.managed.cause) = (now, format!("{}; will be tried again", failure.reason));
        memory.managed.failure = Some(failure);
        drop(memory);
        self.changed.notify_one();
        Ok(Round { again: again.or(Some(now)), settled: false, forgotten: false })
    }

    /// The mark of the ref's last `retry`.
    pub(super) fn retry(&self, name: &WorkspaceName) -> Option<Ulid> {
        lock(&self.catalogue).get(name).and_then(|entry| entry.retry)
    }

    pub(super) fn known(&self, name: &WorkspaceName, row: Ulid) -> Result<Target, ReconcileError> {
        lock(&self.tended(name).memory).known.get(&row).cloned().ok_or(ReconcileError::UnknownVersion { row })
    }

    fn containers_of(observed: &Observed, row: Ulid, who: Who) -> Vec<&super::situation::Container> {
        observed
            .releases
            .iter()
            .filter(|release| release.row == row)
            .flat_map(|release| &release.containers)
            .filter(|container| who.includes(&container.role))
            .collect()
    }

    /// Notes which release is on its way.
    fn is_next(&self, name: &WorkspaceName, target: &Target) {
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        memory.managed.next = Some(HostRelease { root: target.root, row: target.row.clone(), since: Timestamp::now() });
    }

    /// Counts how often releases were replaced before any got through.
    fn is_replaced(&self, name: &WorkspaceName, row: Ulid) {
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        let next = memory.managed.next.as_ref().is_some_and(|next| next.row.id == row);
        if next && !memory.managed.bad.iter().any(|bad| bad.row == row) {
            memory.replaced = memory.replaced.saturating_add(1);
        }
    }

    /// Lets held containers go on.
    pub(super) async fn proceed(
        &self,
        observed: &Observed,
        row: Ulid,
        who: Who,
        to: &str,
    ) -> Result<(), ReconcileError> {
        for container in Self::containers_of(observed, row, who) {
            let held =
                container.inside.as_ref().is_some_and(|inside| inside.phase == super::situation::InsidePhase::Held);
            if held && container.state == ContainerState::Running {
                let (code, text) = self.with.engine.exec(&container.id, &["workspace", "proceed", to]).await?;
                if code != 0 {
                    tracing::warn!(container = %container.name, "could not go on: {}", text.trim());
                }
            }
        }
        // The stream from inside says when it has taken effect.
        tokio::time::sleep(Duration::from_millis(150)).await;
        Ok(())
    }

    /// Removes a release and what belongs to it alone.
    async fn remove(&self, row: Ulid, observed: &Observed) -> Result<(), ReconcileError> {
        for container in Self::containers_of(observed, row, Who::All) {
            self.follows.end(&container.id);
            // With its own grace: it may have work to finish.
            self.with.engine.stop(&container.id).await?;
            self.with.engine.remove(&container.id).await?;
        }
        match self.with.engine.remove_volume(&labels::grant_volume(row)).await {
            // Somebody looks at it by hand; it is empty of anything that matters.
            Ok(()) | Err(EngineError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The last of a workspace that is gone: what package managers had fetched for it. What it kept on purpose stays.
    async fn forget(&self, name: &WorkspaceName) -> Result<(), ReconcileError> {
        let bucket = self.bucket.to_string();
        for (volume, found) in self.with.engine.volumes(&format!("{}={name}", labels::NAME)).await? {
            let has = |label: &str, value: &str| found.get(label).map(String::as_str) == Some(value);
            if !has(labels::BUCKET, &bucket) {
                continue;
            }
            if has(labels::PURPOSE, labels::DATA) {
                tracing::info!(workspace = %name, %volume, "its volume stays; `docker volume rm` removes it");
            } else if has(labels::PURPOSE, labels::CACHE) {
                match self.with.engine.remove_volume(&volume).await {
                    // Somebody looks at it by hand.
                    Ok(()) | Err(EngineError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Grants of releases that are not there: whoever made them was interrupted.
    pub(super) async fn sweep(&self) -> Result<(), EngineError> {
        let engine = &self.with.engine;
        let rows: Vec<String> = engine
            .containers(labels::KIND)
            .await?
            .into_iter()
            .filter_map(|container| container.labels.get(labels::ROW).cloned())
            .collect();
        let bucket = self.bucket.to_string();
        for (volume, found) in engine.volumes(&format!("{}={}", labels::PURPOSE, labels::GRANT)).await? {
            let used = found.get(labels::ROW).is_none_or(|row| rows.contains(row));
            if used || found.get(labels::BUCKET) != Some(&bucket) {
                continue;
            }
            match engine.remove_volume(&volume).await {
                Ok(()) => tracing::info!(%volume, "a grant that nobody needs was removed"),
                Err(EngineError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Finds out why a release failed, remembers it, and takes the release away unless it has the traffic.
    async fn fail(&self, name: &WorkspaceName, row: Ulid, why: Why, observed: &Observed) -> Result<(), ReconcileError> {
        let containers = Self::containers_of(observed, row, Who::All);
        let culprit = containers
            .iter()
            .find(|container| container.state == ContainerState::Exited)
            .or_else(|| containers.iter().find(|container| container.restarts > 0))
            .or_else(|| containers.first());
        let evidence = match culprit {
            Some(container) => self.evidence(container).await,
            None => Evidence::default(),
        };
        let known = self.known(name, row).ok();
        let number = known.as_ref().map_or_else(
            || observed.releases.iter().find(|release| release.row == row).map_or(0, |release| release.number),
            Target::number,
        );
        let failure = {
            let tended = self.tended(name);
            let memory = lock(&tended.memory);
            let (earlier, now) = (memory.managed.failure.as_ref(), Timestamp::now());
            let case = Case { row, number, earlier, retry: self.retry(name), now };
            diagnose(case, why, &evidence)
        };
        if failure.step == "release"
            && let Some(target) = &known
        {
            let asking = self.asking(name, target);
            asking.finish(false, failure.reason.clone(), failure.tail.clone()).await?;
        }
        self.remember(name, failure);
        if observed.live != Some(row) {
            self.remove(row, observed).await?;
        }
        Ok(())
    }

    /// What Docker starts again and again, with nothing to go back to, is told with its last lines; until it answers.
    async fn report_crash(&self, name: &WorkspaceName, observed: &Observed) {
        let Some(live) = observed.releases.iter().find(|release| Some(release.row) == observed.live) else { return };
        let tended = self.tended(name);
        let earlier = lock(&tended.memory).managed.failure.clone();
        let told = earlier.as_ref().is_some_and(|failure| failure.row == live.row && failure.step == RUN);
        let crashing = live.containers.iter().find(|container| container.state == ContainerState::Restarting);
        match crashing {
            Some(container) if earlier.is_none() => {
                let evidence = self.evidence(container).await;
                let case =
                    Case { row: live.row, number: live.number, earlier: None, retry: None, now: Timestamp::now() };
                let failure = diagnose(case, Why::Unsteady, &evidence);
                let hint = "Docker starts it again and again; a new version, or `workspace stop`, ends that".to_owned();
                // It may be up again already, and its last words are gone with that.
                let again = || format!("`{}` ends again and again", container.name);
                let reason = evidence.outcome.as_ref().map_or_else(again, |outcome| outcome.reason.clone());
                let failure = Failure { step: RUN.to_owned(), bad: false, hint, reason, ..failure };
                tracing::warn!(workspace = %name, version = live.number, "it crashes again and again: {}", failure.reason);
                lock(&tended.memory).managed.failure = Some(failure);
            }
            None if told && live.web().all(|web| web.health == Some(Health::Healthy)) => {
                lock(&tended.memory).managed.failure = None;
            }
            _ => return,
        }
        self.changed.notify_one();
    }

    /// What a container left behind.
    async fn evidence(&self, container: &super::situation::Container) -> Evidence {
        let engine = &self.with.engine;
        let words = engine.read_file(&container.id, OUTCOME).await.ok().flatten();
        Evidence {
            container: Some(container.name.clone()),
            detail: engine.inspect(&container.id).await.ok(),
            log: engine.last_lines(&container.id, LOG_LINES).await.unwrap_or_default(),
            outcome: words.and_then(|words| Outcome::parse(&words).ok()),
        }
    }

    /// Remembers a failure, and that its release is bad if it is.
    pub(super) fn remember(&self, name: &WorkspaceName, failure: Failure) {
        let tended = self.tended(name);
        let retry = self.retry(name);
        let mut memory = lock(&tended.memory);
        tracing::warn!(
            workspace = %name, version = failure.number, step = %failure.step, bad = failure.bad,
            "a release failed: {}", failure.reason
        );
        Metrics::count(&self.metrics.releases, if failure.bad { "bad" } else { "failed" });
        if failure.bad {
            memory.managed.bad.retain(|bad| bad.row != failure.row);
            memory.managed.bad.push(Bad { row: failure.row, number: failure.number, retry });
            // Old ones are never asked for again.
            let surplus = memory.managed.bad.len().saturating_sub(16);
            memory.managed.bad.drain(..surplus);
            memory.replaced = 0;
        }
        memory.managed.failure = Some(failure);
        drop(memory);
        self.changed.notify_one();
    }

    /// A release has come through its watch.
    fn settle(&self, name: &WorkspaceName, row: Ulid) {
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        let since = memory.managed.live.as_ref().map_or_else(Timestamp::now, |live| live.since);
        memory.managed.good =
            memory.known.get(&row).map(|target| HostRelease { root: target.root, row: target.row.clone(), since });
        let kept: Vec<Ulid> =
            [&memory.managed.live, &memory.managed.next, &memory.managed.previous, &memory.managed.good]
                .into_iter()
                .flatten()
                .map(|release| release.row.id)
                .collect();
        memory.known.retain(|row, _| kept.contains(row));
        memory.release_command.retain(|row, _| kept.contains(row));
        drop(memory);
        self.changed.notify_one();
    }

    /// Whether the workspace shall run at all, for messages.
    pub(super) fn is_wanted(&self, name: &WorkspaceName) -> bool {
        lock(&self.catalogue).get(name).is_some_and(|entry| matches!(entry.desired, Desired::Run(_)))
    }

    pub(super) fn enter(&self, name: &WorkspaceName, phase: HostPhase) {
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        if memory.managed.phase != phase {
            memory.managed.phase = phase;
            memory.managed.since = Timestamp::now();
            drop(memory);
            self.changed.notify_one();
        }
    }
}
