//! Garbage: each workspace is collected once a day, at its own time of it, as `workspace gc` does.
//!
//! Several monitors on one bucket do it beside each other: the ref fences them, and whoever finds a list goes on with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Collecting, Monitor, MonitorError, lock};
use crate::hosts::Hosts;
use crate::names::{WorkspaceName, chosen};
use crate::output::{size, with_causes};
use crate::store::bucket::Bucket;
use crate::upkeep::collect::{CollectError, Collector, Options};
use crate::version::VersionError;

/// Between two looks at whose time has come.
const LOOK: Duration = Duration::from_secs(10);
/// The first collections after a start are spread over this part of the interval: a monitor that is started anew more often
/// than it collects would never come to it.
const FIRST: f64 = 1.0 / 24.0;

impl Monitor {
    /// Collects until the end. A failure waits for the next time.
    pub(super) async fn collections(self: Arc<Self>, collecting: Collecting) -> Result<(), MonitorError> {
        let look = LOOK.min(collecting.every);
        let mut due: BTreeMap<WorkspaceName, Timestamp> = BTreeMap::new();
        loop {
            tokio::time::sleep(look).await;
            let now = Timestamp::now();
            let names: Vec<WorkspaceName> = lock(&self.catalogue).names().cloned().collect();
            due.retain(|name, _| names.contains(name));
            for name in names.into_iter().filter(|name| chosen(&self.options.only, name).is_some()) {
                due.entry(name).or_insert_with(|| later(now, collecting.every.mul_f64(FIRST * fastrand::f64())));
            }
            let ready: Vec<WorkspaceName> =
                due.iter().filter(|(_, time)| **time <= now).map(|(name, _)| name.clone()).collect();
            if ready.is_empty() {
                continue;
            }
            let (bucket, hosts) = match self.bucket_and_hosts().await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!("nothing can be collected now: {}", with_causes(&error));
                    due.extend(ready.into_iter().map(|name| (name, later(now, look))));
                    continue;
                }
            };
            let collector =
                Collector { store: &self.with.store, cache: &self.with.cache, bucket: &bucket, hosts: &hosts };
            if let Err(error) = collector.check() {
                tracing::warn!("nothing is collected: {}", with_causes(&error));
                due.extend(ready.into_iter().map(|name| (name, later(now, collecting.every))));
                continue;
            }
            let options = Options { grace: collecting.grace, dry_run: false };
            for name in ready {
                let next = self.collect_one(&collector, &name, options).await;
                // Several that were due together drift apart.
                let pause = collecting.every.mul_f64(fastrand::f64().mul_add(0.1, 0.95));
                due.insert(name, next.unwrap_or_else(|| later(now, pause)));
            }
        }
    }

    /// Gives when what was listed can be deleted, if something was.
    async fn collect_one(
        &self,
        collector: &Collector<'_>,
        name: &WorkspaceName,
        options: Options,
    ) -> Option<Timestamp> {
        match collector.collect(name, options).await {
            Ok(report) => {
                if report.deleted.objects + report.listed.objects > 0 {
                    tracing::info!(
                        workspace = %name, deleted = report.deleted.objects, freed = %size(report.deleted.bytes),
                        listed = report.listed.objects, "collected"
                    );
                }
                if let Some(first) = report.refused.first() {
                    let number = report.refused.len();
                    tracing::warn!(workspace = %name, number, first, "the server keeps what nobody needs");
                }
                report.until
            }
            // Deleted since.
            Err(CollectError::Version(VersionError::NoWorkspace { .. })) => None,
            Err(error) => {
                tracing::warn!(workspace = %name, "it can't be collected: {}", with_causes(&error));
                None
            }
        }
    }

    async fn bucket_and_hosts(&self) -> Result<Option<(Bucket, Hosts)>, MonitorError> {
        let Some(bucket) = Bucket::open_for_reading(&self.with.store).await? else { return Ok(None) };
        // Another bucket in the same place: what runs here says nothing about what is needed there.
        if bucket.record.id != self.bucket {
            return Ok(None);
        }
        Ok(Some((bucket, Hosts::read(&self.with.store, Timestamp::now()).await?)))
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
