//! The tasks of a monitor: one that polls the bucket, one that hears of the Engine, one that beats, and one per workspace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::metrics::Metrics;
use super::record::RecordError;
use super::{LONGEST_BACK_OFF, Monitor, MonitorError, labels, lock};
use crate::format::host::BEAT_SECONDS;
use crate::format::reference::MAX_READ;
use crate::names::{WorkspaceName, chosen};

/// Between two looks at a workspace to which nothing happens: events may get lost.
const RESYNC: Duration = Duration::from_mins(5);
/// Before looking again after an error; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at what is followed, while versions come.
const QUICK: Duration = Duration::from_millis(150);
/// For so long after one has come.
const QUICK_FOR: Duration = Duration::from_mins(5);
/// Between two such looks when none has come for a while.
const AT_EASE: Duration = Duration::from_secs(1);
/// How many refs are looked at at once.
const FOLLOWED_AT_ONCE: usize = 16;
/// Changes of the record that come together are written together.
const GATHER: Duration = Duration::from_millis(150);

impl Monitor {
    /// Works until told to stop, or with `once` until everything is settled.
    pub(super) async fn work(self: &Arc<Self>, once: bool) -> Result<(), MonitorError> {
        let mut tasks: JoinSet<Result<(), MonitorError>> = JoinSet::new();
        self.find_present().await?;
        self.sweep().await?;
        let first = self.poll().await;
        if once {
            first?;
            if lock(&self.catalogue).has_doubts() {
                // What is missing is believed to be gone in the second look.
                tokio::time::sleep(self.options.interval).await;
                self.poll().await?;
            }
        } else {
            for pattern in self.unmatched() {
                tracing::warn!("nothing in the bucket matches `{pattern}` so far");
            }
        }
        tasks.spawn(Arc::clone(self).listen());
        tasks.spawn(Arc::clone(self).beats());
        if !once {
            tasks.spawn(Arc::clone(self).polls());
            if let Some(collecting) = self.options.collecting {
                tasks.spawn(Arc::clone(self).collections(collecting));
            }
            if !self.options.follow.is_empty() {
                tasks.spawn(Arc::clone(self).looks_at_the_followed());
            }
        }
        let mut tended: BTreeMap<WorkspaceName, tokio::task::AbortHandle> = BTreeMap::new();
        let mut workspaces: JoinSet<WorkspaceName> = JoinSet::new();
        loop {
            let names: Vec<WorkspaceName> = {
                let mut names: Vec<WorkspaceName> = lock(&self.catalogue).names().cloned().collect();
                names.extend(lock(&self.workspaces).keys().cloned());
                // What others manage is remembered in the record, and left alone.
                names.retain(|name| chosen(&self.options.only, name).is_some());
                names
            };
            for name in names {
                if !tended.contains_key(&name) && (!once || !self.is_settled(&name)) {
                    self.tended(&name);
                    tended.insert(name.clone(), workspaces.spawn(Arc::clone(self).tend(name, once)));
                }
            }
            if once && workspaces.is_empty() {
                break;
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = tasks.join_next() => match ended {
                    Ok(outcome) => outcome?,
                    Err(error) => tracing::error!("a part of the monitor failed unexpectedly: {error}"),
                },
                Some(ended) = workspaces.join_next() => match ended {
                    Ok(name) => {
                        tended.remove(&name);
                    }
                    Err(error) if error.is_panic() => {
                        tracing::error!("the task of a workspace failed unexpectedly: {error}");
                        // Whoever it was is taken up again.
                        tended.retain(|_, handle| !handle.is_finished());
                        tokio::time::sleep(FIRST_PAUSE).await;
                    }
                    Err(_) => {}
                },
                () = self.arrived.notified() => {}
            }
        }
        Ok(())
    }

    fn is_settled(&self, name: &WorkspaceName) -> bool {
        let workspaces = lock(&self.workspaces);
        workspaces.get(name).is_some_and(|tended| {
            let memory = lock(&tended.memory);
            memory.managed.phase.is_rest() && memory.settled_once
        })
    }

    async fn polls(self: Arc<Self>) -> Result<(), MonitorError> {
        let mut failures = 0_u32;
        loop {
            // Several monitors on one bucket must not knock at the same moment.
            let jitter = fastrand::f64().mul_add(0.2, 0.9);
            let pause = self.options.interval.saturating_mul(1 << failures.min(6));
            let longest = LONGEST_BACK_OFF.max(self.options.interval);
            tokio::time::sleep(pause.min(longest).mul_f64(jitter)).await;
            match self.poll().await {
                Ok(names) => {
                    failures = 0;
                    for name in names {
                        tracing::debug!(workspace = %name, "the bucket says something new");
                        self.tended(&name);
                        self.wake(&name);
                        self.wake_routed_to(&name);
                    }
                }
                Err(_) => failures += 1,
            }
        }
    }

    /// Whether a workspace's live release goes on to every version by itself.
    pub(super) fn is_followed(&self, name: &WorkspaceName) -> bool {
        !self.options.follow.is_empty() && chosen(&self.options.follow, name).is_some()
    }

    /// Looks often at the refs of those who follow, and at everything as soon as one has changed.
    async fn looks_at_the_followed(self: Arc<Self>) -> Result<(), MonitorError> {
        let mut known: BTreeMap<WorkspaceName, crate::store::ETag> = BTreeMap::new();
        let mut since = Instant::now();
        loop {
            tokio::time::sleep(if since.elapsed() < QUICK_FOR { QUICK } else { AT_EASE }).await;
            let names: Vec<WorkspaceName> = {
                let catalogue = lock(&self.catalogue);
                catalogue.names().filter(|name| self.is_followed(name)).cloned().collect()
            };
            let looks = names.into_iter().map(|name| {
                let etag = known.get(&name).cloned();
                let store = &self.with.store;
                async move {
                    let key = crate::format::keys::reference(&name);
                    (name, store.get_if_changed(&key, etag.as_ref(), MAX_READ).await.ok().flatten())
                }
            });
            let mut changed = false;
            let mut looks = futures::stream::iter(looks).buffer_unordered(FOLLOWED_AT_ONCE);
            let mut found = Vec::new();
            while let Some((name, object)) = looks.next().await {
                self.metrics.store_requests.inc();
                found.extend(object.map(|object| (name, object.etag)));
            }
            drop(looks);
            for (name, etag) in found {
                changed |= known.insert(name, etag).is_some();
            }
            if changed {
                since = Instant::now();
                for name in self.poll().await.unwrap_or_default() {
                    self.tended(&name);
                    self.wake(&name);
                }
            }
        }
    }

    /// Those whose traffic goes to a workspace have to hear when it changes. Whether there are any.
    pub(super) fn wake_routed_to(&self, name: &WorkspaceName) -> bool {
        let routed: Vec<WorkspaceName> = {
            let catalogue = lock(&self.catalogue);
            let to = |other: &&WorkspaceName| catalogue.get(other).and_then(|entry| entry.route.as_ref()) == Some(name);
            catalogue.names().filter(to).cloned().collect()
        };
        for other in &routed {
            self.wake(other);
        }
        !routed.is_empty()
    }

    async fn listen(self: Arc<Self>) -> Result<(), MonitorError> {
        loop {
            let mut events = self.with.engine.events(labels::KIND);
            // Whatever happened before the stream began.
            self.wake_all();
            while let Some(event) = events.next().await {
                let told = ["die", "destroy", "start", "rename", "health_status", "oom", "pause", "unpause"];
                if told.iter().any(|action| event.action.starts_with(action))
                    && let Some(name) = event.labels.get(labels::NAME).and_then(|name| name.parse().ok())
                {
                    self.wake(&name);
                }
            }
            tracing::warn!("the Docker Engine's events broke off");
            while let Err(error) = self.with.engine.ping().await {
                tracing::debug!(%error, "the Docker Engine does not answer");
                tokio::time::sleep(FIRST_PAUSE).await;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    async fn beats(self: Arc<Self>) -> Result<(), MonitorError> {
        let mut beat = tokio::time::interval(Duration::from_secs(BEAT_SECONDS.unsigned_abs()));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.changed.notified() => tokio::time::sleep(GATHER).await,
            }
            match self.beat(false).await {
                Ok(()) => {}
                Err(error @ RecordError::TakenOver { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!("the host's record was not written: {}", crate::output::with_causes(&error));
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
            }
        }
    }

    /// Writes the host's record.
    pub(super) async fn beat(&self, ended: bool) -> Result<(), RecordError> {
        let mut record = self.record.lock().await;
        if !record.is_taken() {
            return Ok(());
        }
        let workspaces = lock(&self.workspaces)
            .iter()
            .map(|(name, tended)| (name.clone(), lock(&tended.memory).managed.clone()))
            .collect();
        let withheld = lock(&self.catalogue).withheld.clone();
        let before = self.with.store.counts();
        let written = record.write(&self.with.store, workspaces, withheld, ended).await;
        self.metrics.store_requests.inc_by((self.with.store.counts() - before).requests);
        written
    }

    /// Looks after one workspace until it is forgotten, or with `once` until it is settled.
    async fn tend(self: Arc<Self>, name: WorkspaceName, once: bool) -> WorkspaceName {
        let tended = self.tended(&name);
        loop {
            let began = Instant::now();
            let outcome = self.reconcile(&name).await;
            Metrics::observe(&self.metrics.reconcile_seconds, began.elapsed());
            let pause = match outcome {
                Ok(round) => {
                    Metrics::count(&self.metrics.reconciles, "ok");
                    lock(&tended.memory).errors = 0;
                    if round.forgotten {
                        lock(&self.workspaces).remove(&name);
                        lock(&self.catalogue).forget(&name);
                        self.changed.notify_one();
                        return name;
                    }
                    if once && round.settled {
                        lock(&tended.memory).settled_once = true;
                        return name;
                    }
                    round.again.map_or(RESYNC.mul_f64(fastrand::f64().mul_add(0.4, 0.8)), |again| {
                        let pause = again.duration_since(Timestamp::now());
                        Duration::try_from(pause).unwrap_or_default().clamp(Duration::from_millis(20), RESYNC)
                    })
                }
                Err(error) => {
                    Metrics::count(&self.metrics.reconciles, "error");
                    let errors = {
                        let mut memory = lock(&tended.memory);
                        memory.errors = memory.errors.saturating_add(1);
                        memory.errors
                    };
                    let text = crate::output::with_causes(&error);
                    if errors == 1 || errors % 10 == 0 {
                        tracing::warn!(workspace = %name, "{text}");
                    }
                    if once && errors >= 5 {
                        lock(&tended.memory).settled_once = true;
                        return name;
                    }
                    FIRST_PAUSE.saturating_mul(1 << errors.saturating_sub(1).min(5))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = tended.wake.notified() => {}
            }
        }
    }
}
